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
}

// maxCopies bounds deliveries that one call may ask for.
const maxCopies = 100

// Pay is the buyer entering his password. The error matches ErrUnknownTrade,
// ErrAlreadyPaid, ErrClosed or ErrExpired when he cannot pay; nothing has happened
// then. A payment that is not notified is one that the merchant finds by a query only.
func (s *Sim) Pay(outTradeNo string, p PayOptions) error {
	if p.NotifyCount < 0 || p.NotifyCount > maxCopies {
		return fmt.Errorf("pay %s: notify count %d: 0 to %d is needed", outTradeNo, p.NotifyCount, maxCopies)
	}
	t := s.find(outTradeNo)
	if t == nil {
		return fmt.Errorf("pay %s: %w", outTradeNo, ErrUnknownTrade)
	}
	if err := s.settle(t, p); err != nil {
		return fmt.Errorf("pay %s: %w", outTradeNo, err)
	}
	switch {
	case p.DropNotify:
		s.logCallback(outTradeNo, Entry{Event: "lost", Detail: "dropped by the payer's options"})
	case p.Notify:
		s.announce(callback{t: t}, max(p.NotifyCount, 1), p.NotifyDelay)
	}
	return nil
}

// settle moves the trade to SUCCESS, or says why not. Everything is decided and written
// under the lock of the trade, which a close needs too.
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
	t.v.State, t.v.SuccessTime, t.v.PayerTotal = StateSuccess, at, p.PayerTotal
	if p.PayerTotal == 0 {
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
	return nil
}
