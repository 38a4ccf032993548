package console

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
)

// OrderView is an order as operators see it: what its customer sees, and more. It is the
// answer of the API, and of orderd order get -o json.
type OrderView struct {
	orderhttp.OrderView
	plan
	// Attempts are all of its trades at WeChat Pay, of which one can be paid at most.
	Attempts []AttemptView `json:"attempts,omitempty"`
}

// OrderSummary is an order in a list of operators: its payment, refunds and attempts are not
// read for it, and so not shown.
type OrderSummary struct {
	orderhttp.OrderSummary
	plan
}

// plan is what operators see of every order.
type plan struct {
	// CustomerID is the subject of the customer's token.
	CustomerID string `json:"customer_id"`
	// Shop is whose back end placed it for its customer, absent when the customer did.
	Shop string `json:"shop,omitempty"`
	// DueAt is when a worker looks at the order next, null when never; CloseTries is how
	// often WeChat Pay was asked to close it without a usable answer.
	DueAt      *time.Time `json:"due_at"`
	CloseTries int64      `json:"close_tries"`
}

// planOf is what operators see more of an order.
func planOf(o *order.Order) plan {
	p := plan{CustomerID: o.CustomerID, Shop: o.Shop, CloseTries: o.CloseTries}
	if !o.DueAt.IsZero() {
		p.DueAt = &o.DueAt
	}
	return p
}

// AttemptView is one trade at WeChat Pay that was opened for an order. CalledAt is when
// it was asked for, before there was an answer; State is what is known of the trade. It stays
// live when its order is closed: whether a buyer can pay the order with it now, Payable says.
type AttemptView struct {
	OutTradeNo string             `json:"out_trade_no"`
	TradeType  payment.TradeType  `json:"trade_type"`
	State      order.AttemptState `json:"state"`
	Payable    bool               `json:"payable"`
	CalledAt   time.Time          `json:"called_at"`
}

// ViewOrder shows an order to operators as it is at a time.
func ViewOrder(o *order.Order, now time.Time) OrderView {
	v := OrderView{OrderView: orderhttp.ViewOf(o, now), plan: planOf(o)}
	payable := o.Payable(now)
	for i := range o.Attempts {
		a := &o.Attempts[i]
		v.Attempts = append(v.Attempts, AttemptView{a.OutTradeNo, a.TradeType, a.State, a == payable, a.CalledAt})
	}
	return v
}

// ViewSummary shows an order in a list.
func ViewSummary(o *order.Order, now time.Time) OrderSummary {
	return OrderSummary{orderhttp.SummaryOf(o, now), planOf(o)}
}

// orders reads the filters of a list of orders; at reads a time.
func (q *query) orders(at func(name string) time.Time) order.Filter {
	return order.Filter{
		OrderNo:       q.QueryParam("order_no"),
		CustomerID:    q.QueryParam("customer_id"),
		State:         oneOf(q, "state", order.States()),
		OutTradeNo:    q.QueryParam("out_trade_no"),
		TransactionID: q.QueryParam("transaction_id"),
		OutRefundNo:   q.QueryParam("out_refund_no"),
		Reference:     q.QueryParam("reference"),
		SkuID:         q.QueryParam("sku_id"),
		Stuck:         q.yes("stuck"),
		Cursor:        q.QueryParam("cursor"),
		CreatedFrom:   at("created_from"),
		CreatedTo:     at("created_to"),
		AmountMin:     max(q.fen("amount_min"), q.yuan("yuan_min")),
		AmountMax:     max(q.fen("amount_max"), q.yuan("yuan_max")),
		TradeType:     oneOf(q, "trade_type", payment.TradeTypes()),
		PaidFrom:      at("paid_from"),
		PaidTo:        at("paid_to"),
		ClosedFrom:    at("closed_from"),
		ClosedTo:      at("closed_to"),
		Limit:         q.limit(),
	}
}

// listOrders is GET /admin/v1/orders: a page of the orders that all of the filters mean,
// newest first, as JSON; or all of them as CSV or a workbook, by Accept. Without a filter: all.
// stuck=1 means those past their due time by more than order.StuckAfter. Some filters need a
// range of created_from and created_to: see order.Filter.
func (c *console) listOrders(ctx echo.Context) error {
	q := query{Context: ctx}
	f := q.orders(q.time)
	if err := q.err(); err != nil {
		return err
	}
	if media, ext, file := asFile(ctx.Request()); file {
		f.Cursor = "" // a file has all rows
		return c.sendTable(ctx, media, ext, "created_from", c.orderTable(ctx.Request().Context(), f))
	}
	orders, next, err := c.Orders.List(ctx.Request().Context(), f)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(orders, next, func(o *order.Order) OrderSummary {
		return ViewSummary(o, c.Now())
	}))
}

// getOrder is GET /admin/v1/orders/:no, of whichever customer.
func (c *console) getOrder(ctx echo.Context) error {
	o, err := c.Orders.Find(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	return c.showOrder(ctx, http.StatusOK, &o)
}

// showOrder answers with an order and its version as ETag, for the If-Match of a close.
func (c *console) showOrder(ctx echo.Context, status int, o *order.Order) error {
	ctx.Response().Header().Set("ETag", etag(o.Version))
	return ctx.JSON(status, ViewOrder(o, c.Now()))
}

// EventView is a line of a timeline, a row of the table order_events. seq counts from 1,
// the placement; from is "" there. took_ms is how long the call took that the event is
// about, in milliseconds.
type EventView struct {
	Seq    int64             `json:"seq"`
	At     time.Time         `json:"at"`
	Actor  actorView         `json:"actor"`
	Event  string            `json:"event"`
	From   order.State       `json:"from"`
	To     order.State       `json:"to"`
	Cause  causeView         `json:"cause"`
	Detail map[string]string `json:"detail,omitempty"`
	TookMS int64             `json:"took_ms"`
}

// actorView is who did something: the type of actor, and the customer or the name of the
// shop or of the operator's token.
type actorView struct {
	Type order.ActorType `json:"type"`
	ID   string          `json:"id"`
}

// causeView is by what it was done: a request, a notification, a task, a bill, the
// command line.
type causeView struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// timeline shows everything that happened to an order, oldest first.
func (c *console) timeline(ctx echo.Context) error {
	events, err := c.Orders.Timeline(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(events, "", ViewEvent))
}

// ViewEvent shows a line of a timeline.
func ViewEvent(e *order.TimelineEvent) EventView {
	return EventView{e.Seq, e.At, actorView{e.Actor.Type, e.Actor.ID}, e.Event, e.From, e.To,
		causeView{e.Cause.Type, e.Cause.ID}, e.Detail, e.Took.Milliseconds()}
}

// closeOrder is POST /admin/v1/orders/:no/close: it closes an unpaid order in the same
// way as its customer's cancel, WeChat Pay is asked first. 202 says that it has not
// answered yet. It needs If-Match, because whoever closes decides by what he has read; an
// order that has changed since is 412.
func (c *console) closeOrder(ctx echo.Context) error {
	v, err := version(ctx)
	if err != nil {
		return err
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	o, err := c.Orders.Cancel(ctx.Request().Context(), order.CancelRequest{
		OrderNo: ctx.Param("no"), IfVersion: v, Reason: body.Reason, Cause: cause(ctx),
	})
	switch {
	case errors.Is(err, order.ErrVersion):
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch}
	case err != nil:
		return err
	}
	effect(ctx, "v"+strconv.FormatInt(v, 10), string(o.State)+" v"+strconv.FormatInt(o.Version, 10))
	switch {
	case o.State == order.StateClosing:
		return c.showOrder(ctx, http.StatusAccepted, &o)
	}
	return c.showOrder(ctx, http.StatusOK, &o)
}

// syncOrder is POST /admin/v1/orders/:no/payment-query: it asks WeChat Pay now whether
// the order is paid, and applies what it says. Repeating it changes nothing more, so that
// it needs neither key nor If-Match.
func (c *console) syncOrder(ctx echo.Context) error {
	if err := orderhttp.NoBody(ctx); err != nil {
		return err
	}
	o, err := c.Orders.Sync(ctx.Request().Context(), ctx.Param("no"), cause(ctx))
	if err != nil {
		return err
	}
	return c.showOrder(ctx, http.StatusOK, &o)
}
