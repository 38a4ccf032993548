package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
	"orderd/payment/operators"
	"orderd/stock/gate"
)

// orderCmd is `orderd order …`.
type orderCmd struct {
	Get      orderGet      `cmd:"" help:"Show an order."`
	List     orderList     `cmd:"" help:"List orders, newest first."`
	Timeline orderTimeline `cmd:"" help:"Show everything that happened to an order."`
	Close    orderClose    `cmd:"" help:"Close an unpaid order; stock returns only if WeChat Pay agrees."`
	Sync     orderSync     `cmd:"" help:"Ask WeChat Pay what it knows of an order and apply it."`
	Vouch    orderVouch    `cmd:"" help:"${order_vouch}"`
}

// oneOrder is what verbs about one order have in common. kong takes embedded structs as
// if their flags stood here.
type oneOrder struct {
	output
	No string `arg:"" name:"order-no" help:"Order number."`
}

// orderGet is `orderd order get`.
type orderGet struct{ oneOrder }

// Run shows an order, or what waits under its number in the queue of a sale.
func (c *orderGet) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		o, err := co.orders.Find(ctx, c.No)
		if errors.Is(err, order.ErrNotFound) {
			return c.showQueued(ctx, s, co, t)
		}
		if err != nil {
			return err
		}
		return c.showOrder(t, co, o)
	})
}

// queuedOrder is what waits, as JSON.
type queuedOrder struct {
	OrderNo     string `json:"order_no"`
	State       string `json:"state"` // queued, refused, withdrawn
	Position    int64  `json:"position,omitempty"`
	WaitSeconds int64  `json:"wait_seconds,omitempty"`
}

// showQueued asks the queues of sales for a number that no order has.
func (c *orderGet) showQueued(ctx context.Context, s *settings, co *core, t *terminal) error {
	home, end, err := co.saleHome(s)
	if errors.Is(err, errNoGateRedis) { // there are no queues, or none that a verb can ask
		return order.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer end()
	queue, ok := home.(gate.Queue)
	if !ok {
		return order.ErrNotFound
	}
	found, is, err := queue.Find(ctx, "", c.No)
	if err != nil {
		return fmt.Errorf("%w: Redis, where it may wait: %w", errDown, err)
	}
	if !is {
		return order.ErrNotFound
	}
	v := queuedOrder{OrderNo: c.No, State: string(found.State), Position: found.Position,
		WaitSeconds: int64(found.Wait / time.Second)}
	if found.State == gate.QueueWaiting {
		v.State = "queued"
	}
	return c.show(t, v, func(w io.Writer) {
		screen.Printf(w, "%s  %s  no order yet\n", v.OrderNo, v.State)
		if found.State == gate.QueueWaiting {
			screen.Printf(w, "place\t%d, about %s\n", v.Position, found.Wait.Round(time.Second))
		}
	})
}

// showOrder prints an order with its lines, trades, payment and refunds.
func (c oneOrder) showOrder(t *terminal, co *core, o order.Order) error {
	v := console.ViewOrder(&o, co.clock.Now())
	return c.show(t, v, func(w io.Writer) {
		screen.Printf(w, "%s  %s  %s yuan  v%d  customer %s\n", o.OrderNo, o.State, o.Total, o.Version, o.CustomerID)
		screen.Printf(w, "placed\t%s\n", stamp(o.CreatedAt))
		if o.Shop != "" {
			screen.Printf(w, "by shop\t%s\n", o.Shop)
		}
		if o.Reference != "" {
			screen.Printf(w, "reference\t%s\n", o.Reference)
		}
		screen.Printf(w, "pay until\t%s\n", stamp(o.ExpireAt))
		if !o.DueAt.IsZero() {
			screen.Printf(w, "looked at\t%s (asked WeChat Pay %d times)\n", stamp(o.DueAt), o.CloseTries)
		}
		for _, it := range o.Items {
			screen.Printf(w, "item\t%s × %d at %s\n", it.SkuID, it.Quantity, it.UnitPrice)
		}
		for _, a := range v.Attempts {
			screen.Printf(w, "attempt\t%s %s %s, %s\n", a.OutTradeNo, a.TradeType, a.State, payability(a.Payable))
		}
		if p := o.Payment; p != nil {
			screen.Printf(w, "payment\t%s %s %s %s\n", p.TransactionID, p.Total, p.Outcome, p.Reason)
		}
		for _, r := range o.Refunds {
			screen.Printf(w, "owed back\t%s %s (%s, %s) %s\n", r.OutRefundNo, r.Amount, r.Reason, r.State, r.Told)
		}
	})
}

// payability says whether a buyer can pay with an attempt.
func payability(payable bool) string {
	if payable {
		return "payable"
	}
	return "not payable"
}

// stamp writes a time, which is in UTC as all times of the packages are, with
// milliseconds, as all tables do: it must be comparable with the database and the log.
func stamp(at time.Time) string { return at.Format("2006-01-02 15:04:05.000Z") }

// orderList is `orderd order list`.
type orderList struct {
	output
	State     order.State `help:"pending, closing, closed, paid, refunding, refunded or late."`
	Customer  string      `help:"Customer id."`
	Reference string      `help:"A shop's own number for its order."`
	// Stuck is order.StuckAfter past the time at which somebody should have looked.
	Stuck  bool     `help:"Only orders overdue by more than five minutes."`
	Limit  pageRows `default:"50" help:"1 to 200."`
	Cursor string   `help:"Go on after this order number."`
}

// Run lists orders.
func (c *orderList) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.State != "" && !slices.Contains(order.States(), c.State) {
		return fmt.Errorf("%w: there is no state %q", errUsage, c.State)
	}
	return withCore(ctx, s, func(co *core) error {
		orders, next, err := co.orders.List(ctx, order.Filter{State: c.State, CustomerID: c.Customer,
			Reference: c.Reference, Stuck: c.Stuck, Limit: int(c.Limit), Cursor: c.Cursor})
		if err != nil {
			return err
		}
		// On standard error: the data of -o json stays one value.
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		view := func(o *order.Order) console.OrderSummary { return console.ViewSummary(o, co.clock.Now()) }
		return c.show(t, viewed(orders, view), func(w io.Writer) {
			screen.Printf(w, "ORDER\tSTATE\tTOTAL\tPLACED\tPAY UNTIL\tWHY CLOSED\n")
			for _, o := range orders {
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", o.OrderNo, o.State, o.Total, stamp(o.CreatedAt),
					stamp(o.ExpireAt), o.CloseReason)
			}
		})
	})
}

// orderTimeline is `orderd order timeline`: the placement, which the order's own row
// records, then the rows of order_events.
type orderTimeline struct{ oneOrder }

// Run shows the timeline.
func (c *orderTimeline) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		events, err := co.orders.Timeline(ctx, c.No)
		if err != nil {
			return err
		}
		return c.show(t, viewed(events, console.ViewEvent), func(w io.Writer) {
			screen.Printf(w, "#\tAT\tACTOR\tEVENT\tFROM → TO\tCAUSE\tTOOK\tDETAIL\n")
			for _, e := range events {
				var detail []string
				// Sorted, so that two lines of one kind can be compared.
				for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
					detail = append(detail, k+"="+e.Detail[k])
				}
				who, cause := kindAndName(string(e.Actor.Type), e.Actor.ID), kindAndName(e.Cause.Type, e.Cause.ID)
				screen.Printf(w, "%d\t%s\t%s\t%s\t%s → %s\t%s\t%s\t%s\n", e.Seq, stamp(e.At), who, e.Event, e.From,
					e.To, cause, e.Took, strings.Join(detail, " "))
			}
		})
	})
}

// kindAndName is who did something, or what brought it: the kind of it, and its name where it has
// one.
func kindAndName(kind, name string) string { return strings.TrimSpace(kind + " " + name) }

// cliCause says in the timeline that the person at this machine did it: actor operator,
// by the name that byWhom gives, cause type cli.
func cliCause() order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: byWhom()}, Type: "cli"}
}

// orderClose is `orderd order close`.
type orderClose struct {
	oneOrder
	confirm
	Reason reason `required:"" help:"Why, for the timeline."`
}

// Run closes an order by the same way as everybody: there is no flag to skip WeChat Pay.
// An order that is paid is an error that says so; one that stays closing is none.
func (c *orderClose) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "Ask WeChat Pay to close "+c.No+"? Stock returns only if it agrees."); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		o, err := co.orders.Cancel(ctx, order.CancelRequest{OrderNo: c.No, Reason: string(c.Reason), Cause: cliCause()})
		var refused *order.RefusedError
		if errors.As(err, &refused) {
			return fmt.Errorf("order %s is %s: %s", c.No, refused.Order.State, refused.Why)
		}
		if err != nil {
			return err
		}
		if o.State == order.StateClosing {
			screen.Printf(t.Err, "WeChat Pay gave no usable answer: nothing moved, a running 'orderd serve' "+
				"asks again\n")
		}
		return c.showOrder(t, co, o)
	})
}

// orderSync is `orderd order sync`. It asks nobody first: recording a payment that was
// made takes nothing from anybody.
type orderSync struct{ oneOrder }

// Run asks WeChat Pay.
func (c *orderSync) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		o, err := co.orders.Sync(ctx, c.No, cliCause())
		if err != nil {
			return err
		}
		return c.showOrder(t, co, o)
	})
}

// orderVouch is `orderd order vouch`: one of the two words that close an order which
// WeChat Pay gives no usable answer about. The shell's is only ever the first.
type orderVouch struct {
	oneOrder
	confirm
	person
	Reason reason `required:"" help:"How it was found out, for the timeline."`
}

// Run vouches.
func (c *orderVouch) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "Have you looked on the merchant platform, and "+c.No+" is not paid?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		why, err := c.cause(ctx, co, operators.OperatorOrFinance)
		if err != nil {
			return err
		}
		v, err := co.orders.VouchUnpaid(ctx, order.VouchRequest{OrderNo: c.No, Reason: string(c.Reason), Cause: why})
		var refused *order.RefusedError
		if errors.As(err, &refused) {
			return fmt.Errorf("order %s is %s: %s", c.No, refused.Order.State, refused.Why)
		}
		if err != nil {
			return err
		}
		if !v.Closed {
			screen.Printf(t.Err, "noted, and not closed yet: %s\n", sameByAnother("order vouch "+c.No))
		}
		return c.showOrder(t, co, v.Order)
	})
}
