package wechatsim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// The states of a refund, beside StateSuccess and StateClosed.
const (
	StateProcessing State = "PROCESSING" // accepted, the money is on its way
	StateAbnormal   State = "ABNORMAL"   // the buyer's account takes no money: the merchant has to act
)

// Bounds of WeChat's document of the refund, and defaultRefundDelay, which is ours:
// in life it takes minutes to a balance and days to a bank card.
const (
	maxRefunds         = 50                   // per payment
	refundSpacing      = time.Minute          // between two refunds of one payment, divided by the speed
	refundWithin       = 365 * 24 * time.Hour // of the payment
	defaultRefundDelay = 3 * time.Second      // from PROCESSING to the end, divided by the speed
	maxReason          = 80                   // bytes
)

// ErrUnknownRefund: nobody asked for a refund of this number.
var ErrUnknownRefund = errors.New("no such refund at the simulator")

// Refund is a snapshot of one refund, with the names of WeChat's answers. Amounts are
// in fen.
type Refund struct {
	OutRefundNo   string    `json:"out_refund_no"`
	RefundID      string    `json:"refund_id"`
	OutTradeNo    string    `json:"out_trade_no"`
	TransactionID string    `json:"transaction_id"`
	State         State     `json:"status"`
	Amount        int64     `json:"refund"` // fen
	Total         int64     `json:"total"`  // of the payment
	Reason        string    `json:"reason,omitempty"`
	NotifyURL     string    `json:"notify_url,omitempty"`
	CreateTime    time.Time `json:"create_time"`
	SuccessTime   time.Time `json:"success_time,omitzero"`
	Requests      int       `json:"requests"` // accepted ones, repeats included
	// Card is where an abnormal refund was sent, MERCHANT_BANK_CARD or USER_BANK_CARD, and
	// Account what user_received_account says of it: bank, kind, and the last four digits.
	Card    string `json:"card,omitempty"`
	Account string `json:"account,omitempty"`
}

// refund is the live record, under the lock of its trade. Its number, id, url and trade
// never change, so that they may be read without it.
type refund struct {
	t *trade
	v Refund
	// hash is of the parameters of the first request: a repeat with others is refused.
	hash string
}

// ends are the fates of refunds that were chosen before their time, by out_refund_no: a
// test decides what becomes of a refund before its merchant asks for it.
type ends struct {
	mu    sync.Mutex
	fixed map[string]fate
}

// fate is what a refund becomes, and when.
type fate struct {
	end   State
	after time.Duration // real time; negative: the simulator's own delay
}

// refundRequest holds the fields that the simulator looks at, in WeChat's names. Others
// are allowed, and count in the comparison of a repeat.
type refundRequest struct {
	TransactionID string `json:"transaction_id"`
	OutTradeNo    string `json:"out_trade_no"`
	OutRefundNo   string `json:"out_refund_no"`
	Reason        string `json:"reason"`
	NotifyURL     string `json:"notify_url"`
	Amount        struct {
		Refund   json.Number `json:"refund"`
		Total    json.Number `json:"total"`
		Currency string      `json:"currency"`
	} `json:"amount"`

	refund, total int64
	hash          string
}

// askRefund takes a refund, or answers a repeat with its present state: 200 means
// accepted, never that money has moved. One number belongs to one payment for ever.
func (s *Sim) askRefund(x *exchange) answer {
	q, refusal := readRefund(x.body)
	if refusal != nil {
		return *refusal
	}
	t := s.find(q.OutTradeNo)
	if q.TransactionID != "" {
		t = s.findByTransaction(q.TransactionID)
	}
	if t == nil {
		return refuse(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "订单不存在", tailNotFound)
	}
	s.refundMu.RLock()
	known := s.refunds[q.OutRefundNo]
	s.refundMu.RUnlock()
	if known != nil && known.t != t {
		return reentry()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ageLocked(s)
	return s.refundLocked(t, q)
}

// readRefund decodes and validates; the refusal names the first wrong field.
func readRefund(body []byte) (*refundRequest, *answer) {
	var all map[string]any
	if refusal := decodeObject(body, &all); refusal != nil {
		return nil, refusal
	}
	q := new(refundRequest)
	if json.Unmarshal(body, q) != nil {
		a := wrongParam("", nil, "字段类型不正确", tailParam)
		return nil, &a
	}
	sum := sha256.Sum256(mustJSON(all))
	q.hash = hex.EncodeToString(sum[:])
	var refundErr, totalErr error
	q.refund, refundErr = q.Amount.Refund.Int64()
	q.total, totalErr = q.Amount.Total.Int64()
	var field, issue string
	switch {
	case (q.TransactionID == "") == (q.OutTradeNo == ""):
		field, issue = "/transaction_id", "transaction_id与out_trade_no二选一"
	case !validRefundNo(q.OutRefundNo):
		field, issue = "/out_refund_no", "商户退款单号须为1-64位数字、大小写字母或_-|*@"
	case len(q.Reason) > maxReason:
		field, issue = "/reason", "退款原因最长80个字节"
	case q.NotifyURL != "" && !validNotifyURL(q.NotifyURL):
		field, issue = "/notify_url", "通知地址须为不带参数的完整URL，最长256个字符"
	case refundErr != nil || q.refund < 1:
		field, issue = "/amount/refund", "退款金额须为大于0的整数，单位为分"
	case totalErr != nil || q.total < q.refund:
		field, issue = "/amount/total", "原订单金额须不小于退款金额"
	case q.Amount.Currency != "CNY":
		field, issue = "/amount/currency", "币种只支持CNY"
	default:
		return q, nil
	}
	a := wrongParam(field, nil, issue, tailParam)
	return nil, &a
}

// validRefundNo is WeChat's own rule, which is wider than what orderd sends.
func validRefundNo(s string) bool {
	return len(s) >= 1 && len(s) <= 64 &&
		strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-|*@") == ""
}

// refundLocked applies WeChat's rules, whoever comes at the same time. A repeat comes
// before all of them: a merchant whose answer was lost must get it, also when his
// account is empty by now. A closed refund counts as a try of the fifty, but no longer
// as money taken.
func (s *Sim) refundLocked(t *trade, q *refundRequest) answer {
	invalid := func(text string) answer {
		return refuse(http.StatusBadRequest, "INVALID_REQUEST", text, tailParam)
	}
	now := s.o.Now()
	taken, last := int64(0), time.Time{}
	for _, r := range t.refunds {
		if r.v.OutRefundNo == q.OutRefundNo {
			if r.hash != q.hash {
				if s.o.RefundCodes && (r.v.Amount != q.refund || r.v.Total != q.total) {
					return refuse(http.StatusBadRequest, "REFUND_FEE_MISMATCH",
						"订单金额或退款金额与之前请求不一致，请核实后再试", tailReentry)
				}
				return reentry()
			}
			r.v.Requests++
			return ok(describeRefund(r.v))
		}
		if r.v.State != StateClosed {
			taken += r.v.Amount
		}
		if r.v.CreateTime.After(last) {
			last = r.v.CreateTime
		}
	}
	switch {
	case t.v.State != StateSuccess && t.v.State != StateRefund:
		return refuse(http.StatusForbidden, "TRADE_ERROR", "订单未支付", tailNotSpecified)
	case q.total != t.v.Total:
		return invalid("订单金额与原订单不一致")
	case now.After(t.v.SuccessTime.Add(refundWithin)) && s.o.RefundCodes:
		return refuse(http.StatusBadRequest, "TRADE_OVERDUE", "订单已超过可退款期限", tailNotSpecified)
	case now.After(t.v.SuccessTime.Add(refundWithin)):
		return invalid("订单已超过可退款期限")
	case len(t.refunds) >= maxRefunds:
		return invalid("退款次数超过50次")
	case taken == t.v.Total:
		return invalid("订单已全额退款")
	case taken+q.refund > t.v.Total:
		return invalid("退款金额大于可退金额")
	case !s.o.NoSpacing && now.Before(last.Add(s.scaled(refundSpacing))):
		return refuse(http.StatusTooManyRequests, "FREQUENCY_LIMITED", "退款过于频繁，请稍后再试", tailFrequency)
	case s.broke.Load():
		return refuse(http.StatusForbidden, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起", tailNotSpecified)
	}
	r := &refund{t: t, hash: q.hash, v: Refund{OutRefundNo: q.OutRefundNo, RefundID: "5030" +
		now.In(beijing()).Format("20060102") + randomDigits(16), OutTradeNo: t.v.OutTradeNo,
		TransactionID: t.v.TransactionID, State: StateProcessing, Amount: q.refund, Total: q.total, Reason: q.Reason,
		NotifyURL: q.NotifyURL, CreateTime: now, Requests: 1}}
	t.refunds = append(t.refunds, r)
	t.v.State = StateRefund // from now on, and for good
	s.refundMu.Lock()
	s.refunds[q.OutRefundNo] = r
	s.refundMu.Unlock()
	s.log.add(r.effect("refund_accepted"))
	s.scheduleEnd(r)
	return ok(describeRefund(r.v))
}

// effect describes a change just made, for the log. The lock of the trade is held.
func (r *refund) effect(event string) Entry {
	return Entry{Kind: KindEffect, Event: event, OutTradeNo: r.v.OutTradeNo, OutRefundNo: r.v.OutRefundNo,
		State: r.v.State, TransactionID: r.v.TransactionID, Amount: r.v.Amount}
}

// scheduleEnd lets a refund find its end after a while.
func (s *Sim) scheduleEnd(r *refund) {
	f := s.fateOf(r.v.OutRefundNo, r.v.OutTradeNo)
	s.spawn(func() {
		if s.pause(f.after) {
			s.endRefund(r, f.end)
		}
	})
}

// fateOf is what was chosen for a refund, else what chance says. What was chosen is
// used once.
func (s *Sim) fateOf(outRefundNo, outTradeNo string) fate {
	s.ends.mu.Lock()
	f, chosen := s.ends.fixed[outRefundNo]
	delete(s.ends.fixed, outRefundNo)
	s.ends.mu.Unlock()
	if !chosen {
		f = fate{end: StateSuccess, after: -1}
		switch {
		case s.roll("abnormal refund", outTradeNo, s.nasty.AbnormalRefund):
			f.end = StateAbnormal
		case s.roll("closed refund", outTradeNo, s.nasty.ClosedRefund):
			f.end = StateClosed
		}
	}
	if f.after < 0 {
		f.after = s.scaled(s.o.RefundDelay)
	}
	return f
}

// endRefund gives a refund its end and tells the merchant. SUCCESS and CLOSED are
// final; an ABNORMAL one may still succeed, as on the merchant platform. A refund
// without a notify_url ends in silence.
func (s *Sim) endRefund(r *refund, end State) {
	r.t.mu.Lock()
	if r.v.State == StateSuccess || r.v.State == StateClosed || r.v.State == end {
		r.t.mu.Unlock()
		return
	}
	r.v.State = end
	event := map[State]string{StateSuccess: "refund_succeeded", StateClosed: "refund_closed",
		StateAbnormal: "refund_abnormal", StateProcessing: "refund_processing"}[end]
	if end == StateSuccess {
		r.v.SuccessTime = s.o.Now()
	}
	s.log.add(r.effect(event))
	r.t.mu.Unlock()
	if r.v.NotifyURL != "" && end != StateProcessing {
		s.announce(callback{t: r.t, r: r}, 1, 0)
	}
}

// SetRefundOutcome chooses what a refund becomes: SUCCESS, CLOSED or ABNORMAL,
// after so long (negative: after the usual delay). A refund that is not asked
// for yet keeps it for later; one that is under way ends so now, after that time.
func (s *Sim) SetRefundOutcome(outRefundNo string, end State, after time.Duration) error {
	if !slices.Contains([]State{StateSuccess, StateClosed, StateAbnormal}, end) {
		return fmt.Errorf("refund %s cannot become %q: SUCCESS, CLOSED or ABNORMAL is needed", outRefundNo, end)
	}
	s.refundMu.RLock()
	r := s.refunds[outRefundNo]
	s.refundMu.RUnlock()
	if r == nil {
		s.ends.mu.Lock()
		defer s.ends.mu.Unlock()
		if len(s.ends.fixed) >= maxFaults {
			return fmt.Errorf("refund %s: %d outcomes wait for their refunds already", outRefundNo, maxFaults)
		}
		s.ends.fixed[outRefundNo] = fate{end, after}
		return nil
	}
	if after < 0 {
		after = s.scaled(s.o.RefundDelay)
	}
	if after == 0 {
		s.endRefund(r, end)
		return nil
	}
	s.spawn(func() {
		if s.pause(after) {
			s.endRefund(r, end)
		}
	})
	return nil
}

// SetBalance says whether the merchant's account has money for refunds; without, new
// ones are answered 403 NOT_ENOUGH. Those that were accepted go on.
func (s *Sim) SetBalance(enough bool) { s.broke.Store(!enough) }

// Refund returns what the simulator knows of a refund: the truth.
func (s *Sim) Refund(outRefundNo string) (Refund, bool) {
	s.refundMu.RLock()
	r := s.refunds[outRefundNo]
	s.refundMu.RUnlock()
	if r == nil {
		return Refund{}, false
	}
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	return r.v, true
}

// Refunds returns all refunds, by number.
func (s *Sim) Refunds() []Refund {
	s.refundMu.RLock()
	nos := make([]string, 0, len(s.refunds))
	for no := range s.refunds {
		nos = append(nos, no)
	}
	s.refundMu.RUnlock()
	slices.Sort(nos)
	all := make([]Refund, 0, len(nos))
	for _, no := range nos {
		if r, known := s.Refund(no); known {
			all = append(all, r)
		}
	}
	return all
}

// Trades returns all trades, by number.
func (s *Sim) Trades() []Trade {
	s.mu.RLock()
	live := make([]*trade, 0, len(s.trades))
	for _, t := range s.trades {
		live = append(live, t)
	}
	s.mu.RUnlock()
	all := make([]Trade, len(live))
	for i, t := range live {
		all[i] = t.snapshot(s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].OutTradeNo < all[j].OutTradeNo })
	return all
}

// queryRefund tells how far a refund is.
func (s *Sim) queryRefund(x *exchange) answer {
	v, known := s.Refund(x.r.PathValue("refund"))
	if !known {
		return refuse(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "退款单不存在", tailNotSpecified)
	}
	return ok(describeRefund(v))
}

// refundBody is a refund as its answers tell it. Its state is called status here, and
// refund_status in a notification.
type refundBody struct {
	Amount       refundAmount `json:"amount"`
	Channel      string       `json:"channel"`
	CreateTime   string       `json:"create_time"`
	FundsAccount string       `json:"funds_account"`
	OutRefundNo  string       `json:"out_refund_no"`
	OutTradeNo   string       `json:"out_trade_no"`
	Promotion    []struct{}   `json:"promotion_detail"`
	RefundID     string       `json:"refund_id"`
	Status       State        `json:"status"`
	SuccessTime  string       `json:"success_time,omitempty"`
	Transaction  string       `json:"transaction_id"`
	Account      string       `json:"user_received_account"`
}

// refundAmount is in fen. Without coupons the amounts of the payer and of the settlement are
// those of the refund.
type refundAmount struct {
	Currency         string     `json:"currency"`
	DiscountRefund   int64      `json:"discount_refund"`
	From             []struct{} `json:"from"`
	PayerRefund      int64      `json:"payer_refund"`
	PayerTotal       int64      `json:"payer_total"`
	Refund           int64      `json:"refund"`
	RefundFee        int64      `json:"refund_fee"`
	SettlementRefund int64      `json:"settlement_refund"`
	SettlementTotal  int64      `json:"settlement_total"`
	Total            int64      `json:"total"`
}

// describeRefund makes the body of a refund that goes back the way it came (ORIGINAL),
// from money that was not settled yet, to the buyer's balance.
func describeRefund(v Refund) refundBody {
	b := refundBody{Channel: "ORIGINAL", CreateTime: wechatTime(v.CreateTime), FundsAccount: "UNSETTLED",
		OutRefundNo: v.OutRefundNo, OutTradeNo: v.OutTradeNo, Promotion: []struct{}{}, RefundID: v.RefundID,
		Status: v.State, Transaction: v.TransactionID, Account: "支付用户零钱", Amount: refundAmount{Currency: "CNY",
			From: []struct{}{}, PayerRefund: v.Amount, PayerTotal: v.Total, Refund: v.Amount,
			SettlementRefund: v.Amount, SettlementTotal: v.Total, Total: v.Total}}
	if v.Card != "" {
		b.Channel, b.Account = "OTHER_BANKCARD", v.Account
	}
	if v.State == StateSuccess {
		b.SuccessTime = wechatTime(v.SuccessTime)
	}
	return b
}

// wechatTime prints a time as the API has it: RFC 3339, in Beijing.
func wechatTime(t time.Time) string { return t.In(beijing()).Format(time.RFC3339) }

// refundNotice is the plaintext of a refund notification: other names than the
// answers', and no appid.
type refundNotice struct {
	MchID        string             `json:"mchid"`
	OutTradeNo   string             `json:"out_trade_no"`
	Transaction  string             `json:"transaction_id"`
	OutRefundNo  string             `json:"out_refund_no"`
	RefundID     string             `json:"refund_id"`
	RefundStatus State              `json:"refund_status"`
	SuccessTime  string             `json:"success_time,omitempty"`
	Account      string             `json:"user_received_account"`
	Amount       refundNoticeAmount `json:"amount"`
}

// refundNoticeAmount is in fen, and has no currency.
type refundNoticeAmount struct {
	Total       int64 `json:"total"`
	Refund      int64 `json:"refund"`
	PayerTotal  int64 `json:"payer_total"`
	PayerRefund int64 `json:"payer_refund"`
}

// composeRefund builds the resource of a refund notification and its event. A refund
// that is under way has no notification: asked for one by Notify, it tells of a success
// that has not happened.
func (s *Sim) composeRefund(mode string, v Refund) (plain []byte, event, summary string) {
	n := refundNotice{MchID: s.o.Keys.MchID, OutTradeNo: v.OutTradeNo, Transaction: v.TransactionID,
		OutRefundNo: v.OutRefundNo, RefundID: v.RefundID, RefundStatus: v.State, Account: "支付用户零钱",
		Amount: refundNoticeAmount{v.Total, v.Amount, v.Total, v.Amount}}
	if v.Card != "" {
		n.Account = v.Account
	}
	switch mode {
	case ModeWrongAmount:
		n.Amount.Refund++
		n.Amount.PayerRefund++
	case ModeWrongMchID:
		n.MchID = "1999999999"
	}
	switch v.State {
	case StateAbnormal:
		return mustJSON(n), "REFUND.ABNORMAL", "退款异常"
	case StateClosed:
		return mustJSON(n), "REFUND.CLOSED", "退款关闭"
	case StateNone, StateNotPay, StateRefund, StateProcessing, StateSuccess:
	}
	n.RefundStatus = StateSuccess // a lie about one that is under way
	n.SuccessTime = wechatTime(v.SuccessTime)
	return mustJSON(n), "REFUND.SUCCESS", "退款成功"
}

// NotifyRefund sends callbacks of a refund now, as Notify does for a payment: to the
// notify_url of the refund, without which it is an error.
func (s *Sim) NotifyRefund(outRefundNo string, n NotifyOptions) error {
	_, err := s.notifyRefundNow(outRefundNo, n)
	return err
}

// notifyRefundNow is NotifyRefund with the outcome of each delivery.
func (s *Sim) notifyRefundNow(outRefundNo string, n NotifyOptions) ([]Delivery, error) {
	s.refundMu.RLock()
	r := s.refunds[outRefundNo]
	s.refundMu.RUnlock()
	switch {
	case r == nil:
		return nil, fmt.Errorf("notify %s: %w", outRefundNo, ErrUnknownRefund)
	case r.v.NotifyURL == "":
		return nil, fmt.Errorf("notify %s: it was asked for without a notify_url", outRefundNo)
	}
	return s.sendNow(callback{t: r.t, r: r}, outRefundNo, n)
}
