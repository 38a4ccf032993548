package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/time/rate"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
)

// Till is what Adopt takes money in by, and sends it back: *order.Service.
type Till interface {
	Settle(ctx context.Context, trade payment.Trade, cause order.Cause) (order.Settlement, error)
	SettleRefund(ctx context.Context, r payment.Refund, cause order.Cause) (order.RefundSettled, error)
	ResolveHeld(ctx context.Context, r order.ResolveHeld) (order.ResolvedHeld, error)
	FindHeld(ctx context.Context, transactionID string) (order.HeldPayment, error)
}

// Adopting says how Adopt goes about it.
type Adopting struct {
	Till Till
	// Close closes a trade at WeChat Pay.
	Close func(ctx context.Context, outTradeNo string) (payment.CloseReply, error)
	// Refund sends back at once what was paid for an order that is lost; else it is held.
	Refund bool
	Reason string      // for the timelines
	Cause  order.Cause // a person's
	// Progress hears what is asked about; nil: nobody listens.
	Progress func(asked int, id string)
}

// What became of one number.
const (
	AdoptApplied  = "applied"  // the payment made its order paid
	AdoptOwed     = "owed"     // it goes back
	AdoptHeld     = "held"     // it fits no order and waits for a person: 'orderd held resolve'
	AdoptWaits    = "waits"    // it goes back when a second person agrees
	AdoptKnown    = "known"    // it was taken in before
	AdoptClosed   = "closed"   // nobody had paid, and nobody can any more
	AdoptRecorded = "recorded" // the refund stands against its payment
	AdoptNothing  = "nothing"  // WeChat Pay knows nothing of it
	AdoptOpen     = "open"     // it could not be closed yet: do it again
	AdoptOurs     = "ours"     // an order of ours has made it anew meanwhile, and closes it in time
	AdoptFailed   = "failed"   // and why: do it again
)

// unknownOrder is why a payment is held whose order is not here.
const unknownOrder = "unknown_order"

// Adopted is what became of a trade or a refund that only the other database had.
type Adopted struct {
	Number  string `json:"number"` // out_trade_no or out_refund_no
	OrderNo string `json:"order_no"`
	Payment string `json:"transaction_id,omitempty"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

// Adopt asks WeChat Pay about all that was lost, and takes in what it says, by the one way
// for money to get in: a payment of an order that is ours makes it paid, one of a lost order
// is held, or with Refund sent back by the rules of refunds. A trade that nobody has paid is
// closed, unless it is ours by now. Refunds are taken in before anything is sent back, so that
// they count against their payments; while one of them failed nothing is. One number that fails
// does not keep the rest from it: the error names the first. What is given with an error is how
// far it came. It may be repeated.
func (a *Auditor) Adopt(ctx context.Context, l Lost, how Adopting) ([]Adopted, error) {
	if how.Refund {
		if err := order.CheckRepairReason(how.Reason); err != nil {
			return nil, err
		}
	}
	ad := adoption{Adopting: how, limit: rate.NewLimiter(askRate, askBurst), what: []Adopted{}}
	open := map[string]bool{} // by number: nobody else will close it
	numbers := []string{}
	for _, t := range l.Trades {
		open[t.OutTradeNo] = true
		numbers = append(numbers, t.OutTradeNo)
	}
	for _, p := range l.Payments {
		if !open[p.OutTradeNo] {
			numbers = append(numbers, p.OutTradeNo)
		}
	}
	for _, no := range numbers {
		ad.each(ctx, no, func() (Adopted, error) { return a.adoptTrade(ctx, no, open[no], &how) })
	}
	trades := ad.failed
	for _, r := range l.Refunds {
		ad.each(ctx, r.OutRefundNo, func() (Adopted, error) { return a.adoptRefund(ctx, r.OutRefundNo, &how) })
	}
	refundsKnown := ad.failed == trades
	for i := range ad.what {
		w := &ad.what[i]
		if how.Refund && refundsKnown && (w.Outcome == AdoptHeld || w.Outcome == AdoptKnown) && ad.ended == nil {
			ad.fail(ctx, w, sendBack(ctx, w, &how))
		}
	}
	switch {
	case ad.ended != nil:
		return ad.what, ad.ended
	case ad.failed > 0:
		return ad.what, fmt.Errorf("%d numbers failed, the first is %w", ad.failed, ad.first)
	}
	return ad.what, nil
}

// adoption is how far one Adopt is.
type adoption struct {
	Adopting
	limit  *rate.Limiter
	what   []Adopted
	failed int   // of what
	first  error // of those that failed
	ended  error // why there is no sense in going on
}

// each does one number, and nothing once it has ended.
func (ad *adoption) each(ctx context.Context, number string, do func() (Adopted, error)) {
	if ad.ended != nil {
		return
	}
	if ad.Progress != nil {
		ad.Progress(len(ad.what), number)
	}
	if err := ad.limit.Wait(ctx); err != nil {
		ad.ended = fmt.Errorf("%s: %w", number, err)
		return
	}
	one, err := do()
	if ad.fail(ctx, &one, err); ad.ended == nil {
		ad.what = append(ad.what, one)
	}
}

// fail notes an error about one number; nil is none. It ends all when the next number would have the same.
func (ad *adoption) fail(ctx context.Context, one *Adopted, err error) {
	if err == nil {
		return
	}
	told := fmt.Errorf("%s: %w", one.Number, err)
	if ctx.Err() != nil || errors.Is(err, sqldb.ErrUnavailable) || payment.KindOf(err) == payment.KindMisconfigured {
		ad.ended = told
		return
	}
	one.Outcome, one.Reason = AdoptFailed, err.Error()
	if ad.failed++; ad.first == nil {
		ad.first = told
	}
}

// adoptTrade asks about one trade, and closes it when it is lost and nobody has paid.
func (a *Auditor) adoptTrade(ctx context.Context, no string, lost bool, how *Adopting) (Adopted, error) {
	one := Adopted{Number: no, Outcome: AdoptOpen}
	for range 2 { // somebody may pay before the close
		trade, err := a.cfg.Gateway.Query(ctx, no)
		if err != nil {
			return one, err
		}
		switch {
		case trade.Paid():
			cause := how.Cause
			cause.Type = "query"
			s, err := how.Till.Settle(ctx, trade, cause)
			one.OrderNo, one.Payment, one.Reason = s.OrderNo, trade.TransactionID, s.Reason
			if one.Outcome = string(s.Settled); s.Settled == order.SettledRepeated {
				one.Outcome = AdoptKnown
			}
			return one, err
		case trade.State == payment.TradeClosed:
			one.Outcome = AdoptClosed
			return one, nil
		case trade.State == payment.TradeNotFound:
			one.Outcome = AdoptNothing
			return one, nil
		case !lost: // its order is ours, and closes it in time
			return one, nil
		}
		// Numbers are counted: an order of ours that prepaid meanwhile has it again.
		if ours, err := a.attempted(ctx, no); err != nil || ours {
			one.Outcome = AdoptOurs
			return one, err
		}
		if _, err := how.Close(ctx, no); payment.KindOf(err) == payment.KindRejected {
			return one, err
		}
	}
	return one, nil
}

// attempted decides whether a trade is in our books.
func (a *Auditor) attempted(ctx context.Context, no string) (bool, error) {
	ours, err := sqldb.Decided(ctx, a.db, `SELECT out_trade_no
FROM payment_attempts
WHERE out_trade_no = ?`, []any{no}, sqldb.Column[string])
	return len(ours) > 0, err
}

// adoptRefund asks about one refund.
func (a *Auditor) adoptRefund(ctx context.Context, no string, how *Adopting) (Adopted, error) {
	one := Adopted{Number: no, Outcome: AdoptNothing}
	r, err := a.cfg.Gateway.QueryRefund(ctx, no)
	if err != nil || r.Status == payment.RefundNotFound {
		return one, err
	}
	s, err := how.Till.SettleRefund(ctx, r, order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "query",
		ID: r.RequestID})
	one.OrderNo, one.Outcome, one.Reason = s.OrderNo, AdoptRecorded, s.Reason
	return one, err
}

// sendBack sends a payment back whose order is lost, by the rules of refunds; one that is held for something else
// waits for a person.
func sendBack(ctx context.Context, w *Adopted, how *Adopting) error {
	h, err := how.Till.FindHeld(ctx, w.Payment)
	if err != nil || h.Outcome != order.SettledHeld || h.Reason != unknownOrder {
		return err
	}
	done, err := how.Till.ResolveHeld(ctx, order.ResolveHeld{TransactionID: w.Payment, Action: order.HeldRefund,
		Reason: how.Reason, Cause: how.Cause})
	if refused := (*order.RefundRefusedError)(nil); errors.As(err, &refused) { // some went back already: a person looks
		w.Reason = err.Error()
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.Payment, err)
	}
	w.Outcome = string(done.Outcome)
	return nil
}
