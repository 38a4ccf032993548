package console

import (
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// orderView is what the page of an order shows.
type orderView struct {
	Order    *order.Order
	Story    story
	Attempts []attemptRow
	Flows    []order.OrderFlow
	Events   []order.TimelineEvent
	Lanes    []lanes // wide, and narrow for a telephone
	Sides    []sideRow
	// Differences are those between bills and this order, for whoever may see bills (Bills).
	Bills       bool
	Differences []reconcile.Difference
	Acts        []link
	Refunds     []refundRow
	Told        []deliveryRow // by webhooks
}

// attemptRow is an attempt, and whether a buyer can pay with it now.
type attemptRow struct {
	*order.Attempt
	Payable bool
}

// orderPage is GET /ui/orders/:no: one order with everything that happened to it.
func (c *console) orderPage(ctx echo.Context) error {
	rctx := ctx.Request().Context()
	o, err := c.Orders.Find(rctx, ctx.Param("no"))
	if err != nil {
		return err
	}
	v := orderView{Order: &o, Story: storyOf(&o, c.Now()), Sides: sidesOf(&o)}
	if v.Events, err = c.Orders.Timeline(rctx, o.OrderNo); err != nil {
		return err
	}
	if v.Flows, err = c.Orders.OrderFlows(rctx, o.OrderNo); err != nil {
		return err
	}
	if role, _ := ctx.Get(roleKey).(Role); role.May(Finance) {
		v.Bills = true
		if v.Differences, err = c.Reconciler.Differences(rctx, reconcile.DifferenceFilter{OrderNo: o.OrderNo,
			Limit: defaultRows}); err != nil {
			return err
		}
	}
	payable := o.Payable(c.Now())
	for i := range o.Attempts {
		v.Attempts = append(v.Attempts, attemptRow{&o.Attempts[i], &o.Attempts[i] == payable})
	}
	for i := range o.Refunds {
		v.Refunds = append(v.Refunds, refundRow{&o.Refunds[i], c.refundLinks(ctx, &o.Refunds[i])})
	}
	if v.Told, err = c.orderTold(ctx, o.OrderNo); err != nil {
		return err
	}
	v.Lanes = lanesOf(v.Events, v.Flows, languageOf(ctx.Request()))
	v.Acts = c.orderLinks(ctx, &o, v.Events)
	ctx.Set(watchKey, o.OrderNo)
	return c.show(ctx, "order", v)
}

// story says of an order in one sentence what happened, and in another what a person has to do about
// it; both are words with their values.
type story struct {
	What string
	When time.Time   // of the sentence, where it has one
	Fen  payment.Fen // of the sentence, where it has one
	Todo string
	Bad  bool // a person has to act
}

// manyCloses is after how many calls without a usable answer a close is a person's business: WeChat
// Pay has then not answered for minutes.
const manyCloses = 5

// storyOf tells what happened to an order.
func storyOf(o *order.Order, now time.Time) story {
	switch o.State {
	case order.StatePending:
		if !o.DueAt.IsZero() && now.Sub(o.DueAt) > order.StuckAfter {
			return story{What: "story.overdue", When: o.ExpireAt, Todo: "todo.overdue", Bad: true}
		}
		return story{What: "story.pending", When: o.ExpireAt, Todo: "todo.none"}
	case order.StateClosing:
		if o.CloseTries >= manyCloses {
			return story{What: "story.unanswered", When: o.ExpireAt, Todo: "todo.unanswered", Bad: true}
		}
		return story{What: "story.closing", When: o.ExpireAt, Todo: "todo.none"}
	case order.StateClosed:
		return story{What: "story.closed." + string(o.CloseReason), When: o.ExpireAt, Todo: "todo.none"}
	case order.StatePaid, order.StateRefunding, order.StateRefunded, order.StateLate:
	}
	s := story{What: "story." + string(o.State), Fen: o.Total, Todo: "todo.none"}
	if o.Payment != nil {
		s.When, s.Fen = o.Payment.SuccessTime, o.Payment.Total
	}
	if o.State == order.StateRefunded && o.Payment != nil && o.Payment.Outcome == order.SettledOwed {
		s.What = "story.lateback" // and not by who wanted it closed: a payment may have been quicker
	}
	s.refunds(o.Refunds)
	return s
}

// refunds adds what a person has to do about the refunds of an order.
func (s *story) refunds(all []order.Refund) {
	for i := range all {
		switch all[i].State {
		case order.RefundStatePending:
			s.Todo = "todo.approve"
		case order.RefundStateRefused, order.RefundStateAbnormal, order.RefundStateHeld:
			s.Todo, s.Bad = "todo.refund", true
			return
		case order.RefundStateRejected, order.RefundStateOwed, order.RefundStateProcessing,
			order.RefundStateSucceeded, order.RefundStateClosed, order.RefundStateCancelled,
			order.RefundStateByHand:
		}
	}
}

// sideRow compares what we have with what WeChat Pay told us last.
type sideRow struct {
	Word         string
	Ours, Theirs payment.Fen
	None         bool // WeChat Pay has told of no payment
	Same         bool
	UnderWay     bool // they differ, and are about to be the same
}

// sidesOf compares the two sides of an order: what was to be paid and what was, and what went back.
func sidesOf(o *order.Order) []sideRow {
	if o.Payment == nil {
		return []sideRow{{Word: "side.amount", Ours: o.Total, None: true}}
	}
	rows := []sideRow{{Word: "side.amount", Ours: o.Total, Theirs: o.Payment.Total, Same: o.Total == o.Payment.Total}}
	var sent, back, unsent, byHand payment.Fen
	for i := range o.Refunds {
		switch r := &o.Refunds[i]; r.State {
		case order.RefundStateSucceeded:
			sent, back = sent+r.Amount, back+r.Amount
		case order.RefundStateOwed, order.RefundStateProcessing:
			sent += r.Amount
		case order.RefundStatePending, order.RefundStateRefused, order.RefundStateAbnormal:
			unsent += r.Amount
		case order.RefundStateByHand: // WeChat Pay knows nothing of it
			byHand += r.Amount
		case order.RefundStateRejected, order.RefundStateClosed, order.RefundStateCancelled, order.RefundStateHeld:
		}
	}
	if sent > 0 {
		rows = append(rows, sideRow{Word: "side.back", Ours: sent, Theirs: back, Same: sent == back,
			UnderWay: back < sent})
	}
	if unsent > 0 {
		rows = append(rows, sideRow{Word: "side.unsent", Ours: unsent, None: true})
	}
	if byHand > 0 {
		rows = append(rows, sideRow{Word: "side.byhand", Ours: byHand, None: true})
	}
	return rows
}
