package wechatsim

import (
	"errors"
	"fmt"
	"time"
)

// PayOptions say how a buyer pays. The zero value pays in full now, without a callback.
type PayOptions struct {
	Notify      bool          // send the callback, with WeChat's retries
	NotifyDelay time.Duration // before the first attempt, real time
	NotifyCount int           // send it so many times at once; 0 means 1, at most maxCopies
	DropNotify  bool          // log the callback as lost instead of sending it

	PayerTotal int64     // fen the buyer pays himself; 0: all. A coupon pays the rest
	At         time.Time // the moment of payment, judged against time_expire and reported as success_time; zero: now
	Force      bool      // the money arrives although the trade is expired or closed: what WeChat promises never to do

	// Takes is real time from the password to the payment. Until then a query says NOTPAY
	// and a close is refused with 429 FREQUENCY_LIMITED (a member of WeChat's staff,
	// developers.weixin.qq.com 00024ef66683…, January 2025).
	Takes time.Duration
	Fails bool // with Takes: the bank says no in the end, and the trade is open as before
}

const (
	maxCopies = 100              // bounds deliveries that one call may ask for
	maxTakes  = 10 * time.Minute // bounds PayOptions.Takes: no bank takes longer
)

// Pay is the buyer entering his password. The error matches ErrUnknownTrade,
// ErrAlreadyPaid, ErrPaying, ErrClosed or ErrExpired when he cannot pay; nothing has
// happened then. A payment that is not notified is one that the merchant finds by a query
// only. One that takes its time is under way when Pay returns.
func (s *Sim) Pay(outTradeNo string, p PayOptions) error {
	if p.NotifyCount < 0 || p.NotifyCount > maxCopies {
		return fmt.Errorf("pay %s: notify count %d: 0 to %d is needed", outTradeNo, p.NotifyCount, maxCopies)
	}
	if p.Takes < 0 || p.Takes > maxTakes || (p.Fails && p.Takes == 0) {
		return fmt.Errorf("pay %s: takes %v: up to %v is needed, and some of it to fail", outTradeNo, p.Takes, maxTakes)
	}
	t := s.find(outTradeNo)
	if t == nil {
		return fmt.Errorf("pay %s: %w", outTradeNo, ErrUnknownTrade)
	}
	if err := s.settle(t, p); err != nil {
		return fmt.Errorf("pay %s: %w", outTradeNo, err)
	}
	if p.Takes == 0 {
		s.tell(t, p)
		return nil
	}
	if !s.spawn(func() { s.finishPaying(t, p) }) {
		t.mu.Lock()
		t.v.Paying = false
		t.mu.Unlock()
		return fmt.Errorf("pay %s: the simulator is closing or has too much waiting", outTradeNo)
	}
	return nil
}

// tell sends the callbacks of a payment that was made.
func (s *Sim) tell(t *trade, p PayOptions) {
	switch {
	case p.DropNotify:
		s.logCallback(t.v.OutTradeNo, Entry{Event: "lost", Detail: "dropped by the payer's options"})
	case p.Notify:
		s.announce(callback{t: t}, max(p.NotifyCount, 1), p.NotifyDelay)
	}
}

// finishPaying ends a payment that takes its time.
func (s *Sim) finishPaying(t *trade, p PayOptions) {
	if !s.pause(p.Takes) {
		return
	}
	t.mu.Lock()
	t.v.Paying = false
	if p.Fails {
		s.log.add(t.effectLocked("payment_failed"))
		t.mu.Unlock()
		return
	}
	at := p.At
	if at.IsZero() {
		at = s.o.Now()
	}
	s.paidLocked(t, at, p.PayerTotal)
	t.mu.Unlock()
	s.tell(t, p)
}

// settle moves the trade to SUCCESS, or, when that takes its time, begins to; or it says why
// not. Everything is decided and written under the lock of the trade, which a close needs
// too.
func (s *Sim) settle(t *trade, p PayOptions) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ageLocked(s)
	at := p.At
	if at.IsZero() {
		at = s.o.Now()
	}
	switch err := t.payableLocked(at); {
	case err == nil:
	case p.Force && (errors.Is(err, ErrClosed) || errors.Is(err, ErrExpired)):
	default:
		return err
	}
	if p.PayerTotal < 0 || p.PayerTotal > t.v.Total {
		return fmt.Errorf("payer total %d: 0 to %d is needed", p.PayerTotal, t.v.Total)
	}
	if p.Takes > 0 {
		t.v.Paying = true
		s.log.add(t.effectLocked("paying"))
		return nil
	}
	s.paidLocked(t, at, p.PayerTotal)
	return nil
}

// paidLocked makes a trade paid. payerTotal is in fen, 0 for all of it.
func (s *Sim) paidLocked(t *trade, at time.Time, payerTotal int64) {
	t.v.State, t.v.SuccessTime, t.v.PayerTotal = StateSuccess, at, payerTotal
	if payerTotal == 0 {
		t.v.PayerTotal = t.v.Total
	}
	if t.v.OpenID == "" {
		t.v.OpenID = "oSim" + randomText(24)
	}
	// 28 digits, as WeChat's. Random: a simulator that is restarted on the same
	// day must not repeat the ids that merchants keep for ever.
	t.v.TransactionID = "4200" + at.In(beijing()).Format("20060102") + randomDigits(16)
	s.mu.Lock()
	s.byTransaction[t.v.TransactionID] = t
	s.mu.Unlock()
	event := "paid"
	if !t.v.ClosedAt.IsZero() {
		event = "paid_after_close"
	}
	s.log.add(t.effectLocked(event))
}
