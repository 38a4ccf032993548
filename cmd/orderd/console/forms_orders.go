package console

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// orderActs are those of an order's page.
func (c *console) orderActs() []act {
	const page, route = uiOrders + "/:no/", "POST /admin/v1/orders/:no/"
	return []act{
		{name: "order.ask", path: page + "ask", route: route + "payment-query", key: "s",
			show: c.orderSubject(nil), said: whatWeChatSaid, outcomes: []string{"paid", "unpaid", "never"}},
		{name: "order.refund", path: page + "refund", route: route + "refunds",
			fields: []field{{name: "amount", kind: asYuan}, {name: "restock", kind: asYesNo}, withReason, withKey},
			show:   c.askSubject, body: askBody, limit: limitPayment},
		{name: "order.note", path: page + "note", route: route + "notes", key: "n",
			fields: []field{{name: "note", kind: asReason, need: true}, withVersion}, show: c.orderSubject(nil)},
		{name: "order.vouch", path: page + "vouch", route: route + "vouch-unpaid", danger: true, waits: true,
			fields: []field{withReason}, show: c.vouchSubject},
		{name: "order.close", path: page + "close", route: route + "close", danger: true, waits: true,
			fields: []field{withReason, withVersion}, show: c.orderSubject(func(o *order.Order) string {
				if !o.State.CanClose() {
					return "off.notopen"
				}
				return ""
			})},
		{name: "order.payer", path: page + "payer", route: route + "payer", reveal: "openid",
			fields: []field{withReason}, show: c.orderSubject(func(o *order.Order) string {
				if len(o.Payers()) == 0 {
					return "off.nopayer"
				}
				return ""
			})},
	}
}

// orderSubject is an order as what an act is about; off says why it cannot be done, nil: it always can.
func (c *console) orderSubject(off func(*order.Order) string) func(ctx echo.Context) (subject, error) {
	return func(ctx echo.Context) (subject, error) {
		o, err := c.Orders.Find(ctx.Request().Context(), ctx.Param("no"))
		if err != nil {
			return subject{}, err
		}
		s := c.aboutOrder(ctx, &o)
		if off != nil {
			s.off = off(&o)
		}
		return s, nil
	}
}

// aboutOrder is what a person has to know of an order before an act.
func (c *console) aboutOrder(ctx echo.Context, o *order.Order) subject {
	l := languageOf(ctx.Request())
	return subject{back: uiOrders + "/" + o.OrderNo, values: map[string]string{
		fieldVersion: strconv.FormatInt(o.Version, 10)},
		facts: []fact{{"c.order", o.OrderNo, true}, {"c.state", l.look("order", o.State).Word, false},
			{"c.amount", yuan(o.Total), false}, {"c.customer", o.CustomerID, false}}}
}

// vouchSubject is an order that WeChat Pay says nothing of, and who has vouched for it.
func (c *console) vouchSubject(ctx echo.Context) (subject, error) {
	rctx := ctx.Request().Context()
	o, err := c.Orders.Find(rctx, ctx.Param("no"))
	if err != nil {
		return subject{}, err
	}
	events, err := c.Orders.Timeline(rctx, o.OrderNo)
	if err != nil {
		return subject{}, err
	}
	s := c.aboutOrder(ctx, &o)
	for i := range events {
		if e := &events[i]; e.Event == "close.vouched" {
			s.facts = append(s.facts, fact{"c.vouched", e.Actor.ID + ": " + e.Detail["reason"], false})
		}
	}
	if !o.CanVouch(events, c.Now()) {
		s.off = "off.notvouch"
	}
	return s, nil
}

// askSubject is an order of which something can be asked back, with a field for every line of it.
func (c *console) askSubject(ctx echo.Context) (subject, error) {
	o, err := c.Orders.Find(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return subject{}, err
	}
	s, l := c.aboutOrder(ctx, &o), languageOf(ctx.Request())
	left := o.RefundLeft(c.Now())
	s.facts = append(s.facts, fact{"c.refundable", yuan(left), false})
	if left == 0 {
		s.off = "off.norefund"
	}
	for i, n := range o.ReturnLeft() {
		it := &o.Items[i]
		s.values[skuOfLine+strconv.Itoa(i)] = it.SkuID
		s.fields = append(s.fields, field{name: lineField + strconv.Itoa(i), kind: asWhole,
			label: l.word("line.label", it.SkuID, yuan(it.UnitPrice), n)})
	}
	return s, nil
}

// The fields of a line of an order, with its number after it: how many go back, and its SKU, which only the page has.
const (
	lineField = "line."
	skuOfLine = "sku"
)

// askBody makes the body of a request for a refund: without lines and amount, all that is left.
func askBody(s *subject, form map[string]string) (map[string]any, error) {
	body := map[string]any{"reason": form["reason"]}
	items := []map[string]any{}
	for i := range s.fields {
		f := &s.fields[i]
		n, err := f.value(form[f.name])
		switch {
		case err != nil:
			return nil, err
		case n != nil && fmt.Sprint(n) != "0":
			items = append(items, map[string]any{"sku_id": s.values[skuOfLine+strconv.Itoa(i)], "quantity": n})
		}
	}
	if len(items) > 0 {
		body["items"] = items
	}
	amount := field{name: "amount", kind: asYuan}
	n, err := amount.value(form["amount"])
	if err != nil {
		return nil, err
	}
	if n != nil {
		body["amount"] = map[string]any{"refund": n}
	}
	if form["restock"] != "" {
		body["restock"] = form["restock"] == "yes"
	}
	return body, nil
}

// orderLinks are the acts that an order's state allows; the first is what mostly helps.
func (c *console) orderLinks(ctx echo.Context, o *order.Order, events []order.TimelineEvent) []link {
	var names []string
	if o.CanVouch(events, c.Now()) {
		names = append(names, "order.vouch")
	}
	if len(o.Attempts) > 0 {
		names = append(names, "order.ask")
	}
	if o.RefundLeft(c.Now()) > 0 {
		names = append(names, "order.refund")
	}
	if o.State.CanClose() {
		names = append(names, "order.close")
	}
	names = append(names, "order.note")
	if len(o.Payers()) > 0 {
		names = append(names, "order.payer")
	}
	return c.links(ctx, []string{o.OrderNo}, names...)
}

// whatWeChatSaid tells what an order has after WeChat Pay was asked: whoever asked wants to tell the buyer.
func whatWeChatSaid(body []byte) string {
	var o struct {
		Payment  *struct{}  `json:"payment"`
		Attempts []struct{} `json:"attempts"`
	}
	switch err := json.Unmarshal(body, &o); {
	case err != nil:
		return ""
	case o.Payment != nil:
		return "paid"
	case len(o.Attempts) == 0: // nobody was asked
		return "never"
	}
	return "unpaid"
}
