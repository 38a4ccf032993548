package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/webhooks"
	"orderd/scheduler"
)

// pageAfter is the path of the page after this one, "" on the last.
func pageAfter(path, cursor string) string {
	if cursor == "" {
		return ""
	}
	sign := "?"
	if strings.Contains(path, sign) {
		sign = "&"
	}
	return path + sign + "cursor=" + url.QueryEscape(cursor)
}

// heldPage is GET /ui/held: the payments that fit no order and wait for a person, or with
// ?written_off=1 those that two people have written off.
func (c *console) heldPage(ctx echo.Context) error {
	q := query{Context: ctx}
	list, path, written := c.Orders.ListHeld, "/ui/held", q.yes("written_off")
	if err := q.err(); err != nil {
		return err
	}
	if written {
		list, path = c.Orders.ListWrittenOff, "/ui/held?written_off=1"
	}
	rows, next, err := list(ctx.Request().Context(), ctx.QueryParam("cursor"), defaultRows)
	if err != nil {
		return err
	}
	total, err := c.Orders.HeldBacklog(ctx.Request().Context())
	if err != nil {
		return err
	}
	held := make([]heldRow, len(rows))
	for i := range rows {
		held[i] = heldRow{&rows[i], c.heldLinks(ctx, &rows[i])}
	}
	return c.show(ctx, "held", map[string]any{"Total": total, "Held": held,
		"Next": pageAfter(path, next), "Written": written})
}

// heldRow is a held payment in a list, and what whoever reads may decide about it.
type heldRow struct {
	*order.HeldPayment
	Acts []link
}

// tasksPage is GET /ui/tasks: the tasks that failed and that nobody tries again, then those that are
// tried again.
func (c *console) tasksPage(ctx echo.Context) error {
	rctx := ctx.Request().Context()
	dead, next, err := c.Failures.List(rctx, scheduler.Filter{State: scheduler.StateDead}, ctx.QueryParam("cursor"),
		defaultRows)
	if err != nil {
		return err
	}
	failing, _, err := c.Failures.List(rctx, scheduler.Filter{State: scheduler.StateFailing}, "", defaultRows)
	if err != nil {
		return err
	}
	groups, whole, err := c.taskGroupRows(ctx)
	if err != nil {
		return err
	}
	return c.show(ctx, "tasks", map[string]any{"Dead": c.taskRows(ctx, dead),
		"Failing": c.taskRows(ctx, failing), "Groups": groups, "Whole": whole, "Next": pageAfter("/ui/tasks", next)})
}

// webhooksPage is GET /ui/webhooks: who is told, and who does not listen.
func (c *console) webhooksPage(ctx echo.Context) error {
	all, err := c.Webhooks.List(ctx.Request().Context())
	if err != nil {
		return err
	}
	b, err := c.Webhooks.Backlog(ctx.Request().Context())
	if err != nil {
		return err
	}
	return c.show(ctx, "webhooks", map[string]any{"Webhooks": all, "Backlog": b,
		"Acts": c.links(ctx, nil, "webhook.add")})
}

// deliveryRow is a delivery, and how long its event waited until it was taken.
type deliveryRow struct {
	*webhooks.Delivery
	State string // a row of looks
	After time.Duration
	Host  string // of its endpoint, on the page of an order; "" where that was removed
	Acts  []link
}

// deliveryRows shows deliveries, with the act that sends each again; back is the order on whose page they are, "" for
// none.
func (c *console) deliveryRows(ctx echo.Context, all []webhooks.Delivery, back string) []deliveryRow {
	rows := make([]deliveryRow, len(all))
	for i := range all {
		d := &all[i]
		rows[i] = deliveryRow{Delivery: d, State: "waiting",
			Acts: c.links(ctx, []string{d.Endpoint}, "webhook.redeliver")}
		asked := url.Values{"event_id": {strconv.FormatInt(d.Event.ID, 10)}}
		if back != "" {
			asked.Set("order_no", back)
		}
		for j := range rows[i].Acts {
			rows[i].Acts[j].Path = withQuery(rows[i].Acts[j].Path, asked)
		}
		switch {
		case !d.Delivered.IsZero():
			rows[i].State, rows[i].After = "delivered", d.Delivered.Sub(d.Event.At)
		case d.DueAt.IsZero():
			rows[i].State = "given_up"
		case d.Tries > 0:
			rows[i].State = "failing"
		}
	}
	return rows
}

// orderTold is what the shop's back ends were told of an order; an address is shown to whoever may see it whole, to
// others its host.
func (c *console) orderTold(ctx echo.Context, orderNo string) ([]deliveryRow, error) {
	if c.Webhooks == nil {
		return nil, nil
	}
	all, err := c.Webhooks.OfOrder(ctx.Request().Context(), orderNo, defaultRows)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	endpoints, err := c.Webhooks.List(ctx.Request().Context())
	if err != nil {
		return nil, err
	}
	hosts := map[string]string{}
	for _, e := range endpoints {
		if u, err := url.Parse(e.URL); err == nil {
			hosts[e.ID] = u.Host
		}
	}
	rows := c.deliveryRows(ctx, all, orderNo)
	for i := range rows {
		if len(rows[i].Acts) == 0 { // what a back end says of itself is for those who look after it
			rows[i].Answer, rows[i].Problem = "", ""
		}
		host, there := hosts[rows[i].Endpoint]
		if rows[i].Host = host; !there { // it was removed
			rows[i].Acts = nil
		}
	}
	return rows, nil
}

// webhookPage is GET /ui/webhooks/:id: an endpoint, and what became of each event that it is told.
func (c *console) webhookPage(ctx echo.Context) error {
	e, err := c.Webhooks.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return webhookError(err)
	}
	all, next, err := c.deliveries(ctx, defaultRows)
	if err != nil {
		return err
	}
	rows, path := c.deliveryRows(ctx, all, ""), "/ui/webhooks/"+url.PathEscape(e.ID)
	first := ""
	if ctx.QueryParam("cursor") != "" {
		first = path
	}
	return c.show(ctx, "webhook", map[string]any{"Webhook": e, "Acts": c.hookLinks(ctx, &e),
		"Deliveries": rows, "First": first,
		"Next": pageAfter(path, next)})
}

// hitView is a thing that was found, and the page that has it.
type hitView struct {
	HitView
	Page string
}

// searchPage is GET /ui/search?q=: straight to what was found when that is one thing with a page, else
// all of it.
func (c *console) searchPage(ctx echo.Context) error {
	text := ctx.QueryParam("q")
	if text == "" {
		return ctx.Redirect(http.StatusSeeOther, "/")
	}
	hits, err := c.Orders.Search(ctx.Request().Context(), text)
	if err != nil {
		return err
	}
	found := ViewFound(text, hits)
	if len(hits) == 1 {
		return ctx.Redirect(http.StatusSeeOther, hitPage(&hits[0]))
	}
	var groups []hitGroup
	for i, h := range found.Data { // they come by kind
		if len(groups) == 0 || groups[len(groups)-1].Kind != h.Kind {
			groups = append(groups, hitGroup{Kind: h.Kind})
		}
		g := &groups[len(groups)-1]
		if g.More = len(g.Hits) == order.SearchMost; !g.More {
			g.Hits = append(g.Hits, hitView{h, hitPage(&hits[i])})
		}
	}
	return c.show(ctx, "search", map[string]any{"Text": text, "Groups": groups, "Most": order.SearchMost})
}

// hitGroup is what was found of one kind; More says that there are others.
type hitGroup struct {
	Kind order.HitKind
	Hits []hitView
	More bool
}

// hitPage is the page that has what was found.
func hitPage(h *order.Hit) string {
	switch {
	case h.Kind == order.HitCustomer:
		return uiOrders + "?customer_id=" + url.QueryEscape(h.ID)
	case h.Kind == order.HitSKU:
		return uiStock + "/" + url.PathEscape(h.ID)
	case h.OrderNo != "" && h.Kind == order.HitRefund:
		return uiOrders + "/" + url.PathEscape(h.OrderNo) + "#refunds"
	case h.OrderNo != "":
		return uiOrders + "/" + url.PathEscape(h.OrderNo)
	case h.Outcome == order.SettledHeld:
		return "/ui/held"
	case h.Outcome == order.SettledWrittenOff:
		return "/ui/held?written_off=1"
	}
	return "/ui/refunds" // of money that fitted no order
}
