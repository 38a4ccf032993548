package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/time/rate"

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
// closed. Refunds are taken in before anything is sent back, so that they count against their
// payments. It may be repeated. What is given with an error is how far it came.
func (a *Auditor) Adopt(ctx context.Context, l Lost, how Adopting) (what []Adopted, err error) {
	if how.Refund {
		if err := order.CheckRepairReason(how.Reason); err != nil {
			return nil, err
		}
	}
	what = []Adopted{}
	limit := rate.NewLimiter(askRate, askBurst)
	each := func(number string, do func() (Adopted, error)) {
		if err != nil {
			return
		}
		if how.Progress != nil {
			how.Progress(len(what), number)
		}
		var one Adopted
		if err = limit.Wait(ctx); err == nil {
			one, err = do()
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", number, err)
			return
		}
		what = append(what, one)
	}
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
		each(no, func() (Adopted, error) { return a.adoptTrade(ctx, no, open[no], &how) })
	}
	for _, r := range l.Refunds {
		each(r.OutRefundNo, func() (Adopted, error) { return a.adoptRefund(ctx, r.OutRefundNo, &how) })
	}
	for i := range what {
		if w := &what[i]; how.Refund && (w.Outcome == AdoptHeld || w.Outcome == AdoptKnown) && err == nil {
			err = sendBack(ctx, w, &how)
		}
	}
	return what, err
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
		if _, err := how.Close(ctx, no); payment.KindOf(err) == payment.KindRejected {
			return one, err
		}
	}
	return one, nil
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
