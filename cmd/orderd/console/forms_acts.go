package console

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// formActs are all acts of the pages.
func (c *console) formActs() []act {
	return slices.Concat(c.orderActs(), c.refundActs(), c.stockActs())
}

// Forms are the pages of acts, each with the route of the API (METHOD PATH) that it asks: for lists of who may do
// what.
func Forms() map[string]string {
	all := map[string]string{}
	for _, a := range (&console{}).formActs() {
		all[a.path] = a.route
	}
	return all
}

// orderActs are those of an order's page.
func (c *console) orderActs() []act {
	return []act{
		{name: "order.close", path: uiOrders + "/:no/close", route: "POST /admin/v1/orders/:no/close", danger: true,
			fields: []field{withReason, withVersion}, show: c.orderSubject(func(o *order.Order) string {
				if o.State != order.StatePending && o.State != order.StateClosing {
					return "off.notopen"
				}
				return ""
			})},
		{name: "order.ask", path: uiOrders + "/:no/ask", route: "POST /admin/v1/orders/:no/payment-query",
			show: c.orderSubject(nil)},
	}
}

// orderSubject is an order as what an act is about; off says why it cannot be done, nil: it always can.
func (c *console) orderSubject(off func(*order.Order) string) func(ctx echo.Context) (subject, error) {
	return func(ctx echo.Context) (subject, error) {
		o, err := c.Orders.Find(ctx.Request().Context(), ctx.Param("no"))
		if err != nil {
			return subject{}, err
		}
		l := languageOf(ctx.Request())
		s := subject{back: uiOrders + "/" + o.OrderNo, values: map[string]string{
			fieldVersion: strconv.FormatInt(o.Version, 10)},
			facts: []fact{{"c.order", o.OrderNo, true}, {"c.state", l.look("order", o.State).Word, false},
				{"c.amount", yuan(o.Total), false}, {"c.customer", o.CustomerID, false}}}
		if off != nil {
			s.off = off(&o)
		}
		return s, nil
	}
}

// refundActs decide about a refund.
func (c *console) refundActs() []act {
	decide := func(name, path string, danger bool, more ...field) act {
		return act{name: "refund." + name, path: "/ui/refunds/:no/" + path, route: "POST /admin/v1/refunds/:no/" + path,
			danger: danger, fields: append([]field{withReason, withVersion}, more...), show: c.refundSubject}
	}
	approve := decide("approve", "approve", false)
	approve.stepUp = c.needsTwo
	return []act{approve, decide("reject", "reject", true), decide("retry", "retry", false),
		decide("cancel", "cancel", true), decide("byhand", "by-hand", true)}
}

// needsTwo reports that a refund takes two people: the password is then asked for once more.
func (c *console) needsTwo(ctx echo.Context) (bool, error) {
	r, err := c.Refunds.FindRefund(ctx.Request().Context(), ctx.Param("no"))
	return r.ApprovalsNeeded > 1, err
}

// refundSubject is a refund as what an act is about.
func (c *console) refundSubject(ctx echo.Context) (subject, error) {
	r, err := c.Refunds.FindRefund(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return subject{}, err
	}
	l := languageOf(ctx.Request())
	s := subject{back: "/ui/refunds", values: map[string]string{fieldVersion: strconv.FormatInt(r.Version, 10)},
		facts: []fact{{"c.refund", r.OutRefundNo, true}, {"c.order", r.OrderNo, true},
			{"c.state", l.look("refund", r.State).Word, false}, {"c.amount", yuan(r.Amount), false},
			{"c.of", total(r.PaymentTotal), false},
			{"c.askedby", l.actor(r.AskedBy().Type) + " " + r.AskedBy().ID, false}, {"c.reason", r.Note, false},
			{"c.approved", strconv.Itoa(len(r.Approvals)) + "/" + strconv.Itoa(r.ApprovalsNeeded), false}}}
	return s, nil
}

// orderLinks are the acts that an order's state allows.
func (c *console) orderLinks(ctx echo.Context, o *order.Order) []link {
	names := []string{"order.ask"}
	if o.State == order.StatePending || o.State == order.StateClosing {
		names = append(names, "order.close")
	}
	return c.links(ctx, []string{o.OrderNo}, names...)
}

// decisions are the acts about a refund by the event that they mean: which of them there are now the refund's
// own machine says.
var decisions = []struct {
	event order.RefundEvent
	name  string
}{
	{order.RefundEventApprove, "approve"}, {order.RefundEventReject, "reject"}, {order.RefundEventRetry, "retry"},
	{order.RefundEventCancel, "cancel"}, {order.RefundEventByHand, "byhand"},
}

// refundLinks are the acts that a refund's state allows.
func (c *console) refundLinks(ctx echo.Context, r *order.Refund) []link {
	var names []string
	for _, d := range decisions {
		if order.NextRefund(r.State, d.event).Verdict == order.VerdictMove {
			names = append(names, "refund."+d.name)
		}
	}
	return c.links(ctx, []string{r.OutRefundNo}, names...)
}

// stockActs move units: what came in is anybody's at the shelf, what a count found an admin's.
func (c *console) stockActs() []act {
	always := func(echo.Context) (bool, error) { return true, nil }
	return []act{
		{name: "stock.replenish", path: "/ui/stock/:id/replenish", route: "POST /admin/v1/skus/:id/replenish",
			fields: []field{{name: "quantity", kind: asWhole, need: true},
				{name: "reference_no", kind: asText, most: 64}, withReason, withKey}, show: c.skuSubject},
		{name: "stock.adjust", path: "/ui/stock/:id/adjust", route: "POST /admin/v1/skus/:id/adjust", danger: true,
			fields: []field{{name: "delta", kind: asWhole, need: true},
				{name: "expected_available", kind: asWhole, need: true}, withReason, withKey},
			show: c.skuSubject, stepUp: always},
	}
}

// skuSubject is a SKU as what an act is about.
func (c *console) skuSubject(ctx echo.Context) (subject, error) {
	s, err := c.Stock.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return subject{}, stockError(err)
	}
	left := strconv.FormatInt(s.Available+s.Allocated, 10)
	return subject{back: "/ui/stock/" + url.PathEscape(s.SkuID), values: map[string]string{"expected_available": left},
		facts: []fact{{"c.sku", s.SkuID, true}, {"c.title", s.Title, false}, {"c.amount", yuan(fen(s.PriceFen)), false},
			{"c.left", left, false}}}, nil
}
