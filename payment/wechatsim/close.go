package wechatsim

import "net/http"

// closeTrade makes a trade unpayable: 204 without a body. It is re-entrant, as WeChat's
// document of the close says; a number that was never prepaid is closed, too, and
// cannot be prepaid after that. For that last answer WeChat's table also has 404
// ORDER_NOT_EXIST: Options.UnknownCloseNotFound.
func (s *Sim) closeTrade(x *exchange) answer {
	var body map[string]any
	if refusal := decodeObject(x.body, &body); refusal != nil {
		return *refusal
	}
	if mchID, _ := body["mchid"].(string); mchID != s.o.Keys.MchID {
		return wrongParam("/mchid", body["mchid"], "mchid与签名的商户号不一致", tailParam)
	}
	no := x.r.PathValue("no")
	if !validOutTradeNo(no) {
		return wrongIn(inURL, "out_trade_no", no, "商户订单号须为6-32位数字、大小写字母或_-|*")
	}
	if s.o.UnknownCloseNotFound && s.find(no) == nil {
		return unknownTrade()
	}
	t := s.findOrAdd(no)
	if t == nil {
		return refuse(http.StatusTooManyRequests, "RATELIMIT_EXCEEDED", "the simulator is full of trades, restart it",
			tailFrequency)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ageLocked(s)
	t.v.Closes++
	return s.closeLocked(t, x.plan.notClosed)
}

// closeLocked decides between close and a payment: whoever holds the lock first wins.
// leaveOpen is the fault "not_closed": a 204 that is not true. A trade whose money went
// back counts as paid. The document of the close names no code for a paid trade;
// ORDERPAID was seen in an answer, its status is not known for certain: hence
// Options.PaidCode and PaidStatus.
func (s *Sim) closeLocked(t *trade, leaveOpen bool) answer {
	done := answer{status: http.StatusNoContent}
	switch t.v.State {
	case StateSuccess, StateRefund:
		return refuse(s.o.PaidStatus, s.o.PaidCode, "该订单已支付", tailPaid)
	case StateClosed:
		return done
	case StateNone:
		if !t.v.Burned {
			t.v.Burned, t.v.ClosedAt = true, s.o.Now()
			s.log.add(t.effectLocked("burned"))
		}
		return done
	case StateNotPay:
		if t.v.Paying { // payment and close have collided
			return refuse(http.StatusTooManyRequests, "FREQUENCY_LIMITED", "频率超限", tailFrequency)
		}
		if leaveOpen {
			return done
		}
		t.v.State, t.v.ClosedAt = StateClosed, s.o.Now()
		s.log.add(t.effectLocked("closed"))
		return done
	case StateProcessing, StateAbnormal: // of refunds only
	}
	panic("trade in unknown state " + string(t.v.State))
}
