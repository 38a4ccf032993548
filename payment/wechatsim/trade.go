package wechatsim

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// State is WeChat's word for the state of a trade or of a refund. The two share SUCCESS
// and CLOSED.
type State string

// The states that a trade of these four kinds can have. StateNone is a number
// that was closed before it was ever prepaid ("burned").
const (
	StateNone    State = ""
	StateNotPay  State = "NOTPAY"  // open
	StateSuccess State = "SUCCESS" // paid
	StateRefund  State = "REFUND"  // was paid, and some of it went back; for good
	StateClosed  State = "CLOSED"  // by the merchant, or by WeChat after seven days
)

// selfCloseAfter is when WeChat closes an unpaid trade by itself, from its document of
// the close. Nobody is notified of it.
const selfCloseAfter = 7 * 24 * time.Hour

// Why a buyer cannot pay.
var (
	ErrUnknownTrade = errors.New("no such trade at the simulator")
	ErrAlreadyPaid  = errors.New("the trade is paid already")
	ErrPaying       = errors.New("the trade is being paid at this moment")
	ErrClosed       = errors.New("the trade is closed")
	ErrExpired      = errors.New("the time to pay is over") // 订单已超过商户设置的最晚支付成功时间
	ErrNotPaid      = errors.New("the trade is not paid")
)

// Trade is a snapshot of one trade: what WeChat has, with what a test wants to know
// beside it. Nothing here was lost, delayed or falsified on a wire.
type Trade struct {
	OutTradeNo    string `json:"out_trade_no"`
	AppID         string `json:"appid"`
	MchID         string `json:"mchid"`
	TradeType     string `json:"trade_type"` // NATIVE, JSAPI, APP, MWEB
	State         State  `json:"state"`
	TransactionID string `json:"transaction_id,omitempty"`
	Total         int64  `json:"total"`       // fen
	PayerTotal    int64  `json:"payer_total"` // fen, less than Total when a coupon paid a part
	Description   string `json:"description,omitempty"`
	Attach        string `json:"attach,omitempty"`
	OpenID        string `json:"openid,omitempty"`
	NotifyURL     string `json:"notify_url,omitempty"`
	PrepayID      string `json:"prepay_id,omitempty"`
	CodeURL       string `json:"code_url,omitempty"`
	H5URL         string `json:"h5_url,omitempty"`
	Burned        bool   `json:"burned,omitempty"` // closed before the first prepay
	Paying        bool   `json:"paying,omitempty"` // the password was given, the bank is at it

	CreatedAt   time.Time `json:"created_at,omitzero"`
	TimeExpire  time.Time `json:"time_expire,omitzero"` // last moment to pay; zero: none was given
	SuccessTime time.Time `json:"success_time,omitzero"`
	ClosedAt    time.Time `json:"closed_at,omitzero"` // stays when a forced payment follows

	Prepays int `json:"prepays"`
	Closes  int `json:"closes"` // close requests that were processed
	// CallbacksSent and CallbacksAccepted count deliveries of the payment, repeats and
	// probes included; those of its refunds do not count.
	CallbacksSent     int `json:"callbacks_sent"`
	CallbacksAccepted int `json:"callbacks_accepted"`
}

// trade is the live record. Every change of state happens in this file or in
// the handlers' …Locked functions, under mu: pay and close of one trade are
// decided one after the other, so exactly one of them wins.
type trade struct {
	rolls atomic.Uint64 // random decisions taken about it

	mu           sync.Mutex
	v            Trade
	hash         string    // of the parameters of the first prepay
	payableUntil time.Time // end of the latest prepay_id, code_url or h5_url
	refunds      []*refund // oldest first
}

// find returns nil for a number that was never prepaid nor closed.
func (s *Sim) find(outTradeNo string) *trade {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.trades[outTradeNo]
}

// findByTransaction finds a paid trade by WeChat's number, nil for none.
func (s *Sim) findByTransaction(id string) *trade {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byTransaction[id]
}

// findOrAdd returns the trade of a number, a fresh one if need be; nil when the
// simulator is full.
func (s *Sim) findOrAdd(outTradeNo string) *trade {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trades[outTradeNo]
	if t == nil && len(s.trades) < maxTrades {
		t = &trade{v: Trade{OutTradeNo: outTradeNo, MchID: s.o.Keys.MchID, AppID: s.o.Keys.AppID}}
		s.trades[outTradeNo] = t
	}
	return t
}

// Trade returns what the simulator knows of a number: the truth, without the
// latency, faults and lies of the wire.
func (s *Sim) Trade(outTradeNo string) (Trade, bool) {
	t := s.find(outTradeNo)
	if t == nil {
		return Trade{}, false
	}
	return t.snapshot(s), true
}

// snapshot copies a trade as it is now, after WeChat has closed what it closes by
// itself: age is looked at when somebody looks, no timer waits for it.
func (t *trade) snapshot(s *Sim) Trade {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ageLocked(s)
	return t.v
}

// ageLocked closes a trade that WeChat would have closed by itself by now.
func (t *trade) ageLocked(s *Sim) {
	now := s.o.Now()
	if t.v.State != StateNotPay || t.v.Paying || !now.After(t.v.CreatedAt.Add(selfCloseAfter)) ||
		now.Before(t.v.TimeExpire) {
		return
	}
	t.v.State, t.v.ClosedAt = StateClosed, now
	s.log.add(t.effectLocked("self_closed"))
}

// payableLocked says why a buyer cannot pay at a moment, nil if he can. The last moment
// of time_expire still counts. An expired trade is not closed: the merchant has to
// close it before he gives its goods to somebody else.
func (t *trade) payableLocked(at time.Time) error {
	switch t.v.State {
	case StateNone:
		return ErrUnknownTrade
	case StateSuccess, StateRefund:
		return ErrAlreadyPaid
	case StateClosed:
		return ErrClosed
	case StateNotPay:
		if t.v.Paying {
			return ErrPaying
		}
		if !t.v.TimeExpire.IsZero() && at.After(t.v.TimeExpire) || at.After(t.payableUntil) {
			return ErrExpired
		}
		return nil
	case StateProcessing, StateAbnormal: // of refunds only
	}
	panic("trade in unknown state " + string(t.v.State))
}

// effectLocked describes a change just made, for the log.
func (t *trade) effectLocked(event string) Entry {
	return Entry{
		Kind: KindEffect, Event: event, OutTradeNo: t.v.OutTradeNo, State: t.v.State,
		TransactionID: t.v.TransactionID, Amount: t.v.Total,
	}
}
