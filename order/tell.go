package order

import (
	"context"

	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

// This file says what the shop is told of: every event of the timeline that Told knows is in
// the feed, in the transaction that writes it.

// Told gives what the feed tells of an event of a timeline: of a move to a state, and of
// what happened to a refund or a payment. Most events are told as one or as none; the
// refund that gives the last of the money back is two.
func Told(name string, from, to State) (told []feed.Type) {
	if from != to {
		switch to {
		case StatePaid:
			if from != StateRefunding { // it was paid all the time
				told = append(told, feed.OrderPaid)
			}
		case StateClosed:
			told = append(told, feed.OrderClosed)
		case StateLate:
			told = append(told, feed.OrderLate)
		case StateRefunded:
			told = append(told, feed.OrderRefunded)
		case StatePending, StateClosing, StateRefunding:
		}
	}
	if t, ok := ToldByName[name]; ok {
		told = append(told, t)
	}
	return told
}

// ToldByName is what the feed tells of an event by its name alone. A refund that WeChat Pay
// closed is none: another number takes its place by itself.
var ToldByName = map[string]feed.Type{
	"refund.requested": feed.RefundAsked,
	"refund.succeeded": feed.RefundDone,
	"refund.by_hand":   feed.RefundDone,
	"refund.rejected":  feed.RefundFailed,
	"refund.cancelled": feed.RefundFailed,
	"refund.refused":   feed.RefundFailed,
	"payment.held":     feed.PaymentHeld,
}

// tell writes what a batch did into the feed: its events, and held money without an order.
func (b *batch) tell(ctx context.Context, tx *sqldb.Tx) error {
	told := make([]feed.Event, 0, len(b.events))
	for i := range b.events {
		e := &b.events[i]
		for _, t := range Told(e.name, e.from, e.to) {
			told = append(told, feed.Event{At: e.at, Type: t, OrderNo: e.orderNo, Version: e.seq,
				State: string(e.to), Ref: e.ref})
		}
	}
	for i := range b.payments {
		if p := &b.payments[i]; p.settled == SettledHeld && p.orderNo == "" {
			told = append(told, feed.Event{At: p.at, Type: feed.PaymentHeld, Ref: p.TransactionID})
		}
	}
	return feed.Insert(ctx, tx, told)
}

// tellPlaced gives what the feed tells of the fresh members of a batch of placements.
func tellPlaced(outcomes []sqldb.Outcome[Placed], fresh []int) []feed.Event {
	told := make([]feed.Event, len(fresh))
	for i, j := range fresh {
		o := &outcomes[j].Answer.Order
		told[i] = feed.Event{At: o.CreatedAt, Type: feed.OrderCreated, OrderNo: o.OrderNo, Version: o.Version,
			State: string(o.State)}
	}
	return told
}
