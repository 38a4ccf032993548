package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/stock"
)

// uiStock is the page of SKUs.
const uiStock = "/ui/stock"

// stockRoutes are the pages of stock.
func (c *console) stockRoutes() []route {
	return []route{
		{http.MethodGet, uiStock, Viewer, c.stockPage},
		{http.MethodGet, uiStock + "/:id", Viewer, c.skuPage},
	}
}

const (
	// lowLook is how many SKUs a page of those with little left looks through: no index has what is
	// left of one.
	lowLook = 1000
	// mostOpenShown is up to how many open orders the list says what is reserved: they are all read for it.
	mostOpenShown = 20_000
)

// skuRow is a SKU in the list, with where its units are; nil when too many orders are open to say.
type skuRow struct {
	stock.SKU
	Account *order.Account
	State   string // a row of looks
}

// stockState says how much is left of a SKU.
func stockState(s *stock.SKU) string {
	left := s.Available + s.Allocated
	switch {
	case s.Unlimited:
		return "unlimited"
	case left == 0:
		return "out"
	case s.LowAt > 0 && left <= s.LowAt:
		return "low"
	}
	return "ok"
}

// stockPage is GET /ui/stock: the SKUs by their ids, those that begin with q, or with low=1 those of which
// no more is left than their threshold.
func (c *console) stockPage(ctx echo.Context) error {
	q := query{Context: ctx}
	prefix, cursor, low := ctx.QueryParam("q"), ctx.QueryParam("cursor"), q.yes("low")
	if wrong := bounds.SkuID.Check(prefix); prefix != "" && wrong != nil {
		q.wrong("q", wrong.Code, wrong.Detail)
	}
	if err := q.err(); err != nil {
		return err
	}
	skus, next, err := c.skus(ctx.Request().Context(), prefix, cursor, low)
	if err != nil {
		return err
	}
	rows, counted, err := c.accounts(ctx.Request().Context(), skus)
	if err != nil {
		return err
	}
	asked := url.Values{}
	if prefix != "" {
		asked.Set("q", prefix)
	}
	if low {
		asked.Set("low", "1")
	}
	role, _ := ctx.Get(roleKey).(Role)
	v := map[string]any{"SKUs": rows, "Counted": counted, "Prefix": prefix, "Low": low, "Looked": lowLook, "Next": "",
		"First": "", "Acts": c.links(ctx, nil, "sku.new"), "May": role.May(Operator)}
	if cursor != "" {
		v["First"] = withQuery(uiStock, asked)
	}
	if next != "" {
		asked.Set("cursor", next)
		v["Next"] = withQuery(uiStock, asked)
	}
	return c.show(ctx, "stock", v)
}

// skus gives a page of SKUs, and the cursor of the next. Of those with little left it may have none, and
// yet a next page: see lowLook.
func (c *console) skus(ctx context.Context, prefix, cursor string, low bool) (page []stock.SKU, next string,
	err error) {
	for looked := 0; looked < lowLook; {
		part, err := c.Stock.ListFrom(ctx, prefix, cursor, maxRows)
		if err != nil {
			return nil, "", err
		}
		for i := range part {
			if !strings.HasPrefix(part[i].SkuID, prefix) {
				return page, "", nil
			}
			if state := stockState(&part[i]); low && state != "low" && state != "out" {
				continue
			}
			if len(page) == defaultRows {
				return page, page[len(page)-1].SkuID, nil
			}
			page = append(page, part[i])
		}
		if len(part) < maxRows {
			return page, "", nil
		}
		looked, cursor = looked+len(part), part[len(part)-1].SkuID
	}
	return page, cursor, nil
}

// accounts adds to SKUs where their units are, unless too many orders are open.
func (c *console) accounts(ctx context.Context, skus []stock.SKU) (rows []skuRow, counted bool, err error) {
	backlog, err := c.Orders.Backlog(ctx)
	if err != nil {
		return nil, false, err
	}
	counted = backlog.Open[order.StatePending]+backlog.Open[order.StateClosing] <= mostOpenShown
	accounts := map[string]order.Account{}
	if counted {
		ids := make([]string, len(skus))
		for i := range skus {
			ids[i] = skus[i].SkuID
		}
		if accounts, err = c.Orders.StockAccounts(ctx, ids); err != nil {
			return nil, false, err
		}
	}
	for i := range skus {
		row := skuRow{SKU: skus[i], State: stockState(&skus[i])}
		if a, known := accounts[skus[i].SkuID]; known {
			row.Account = &a
		}
		rows = append(rows, row)
	}
	return rows, counted, nil
}

// share is a part of a bar that is 1000 wide, a colour and what it stands for.
type share struct {
	X, W        float64
	Class, Word string
	Units       int64
}

// skuView is what the page of a SKU shows.
type skuView struct {
	SKU     *stock.SKU
	State   string
	Account *order.Account
	Shares  []share
	Gate    *stock.Gate // of its flash sale; nil: it has never had one
	Flows   []order.Flow
	// From and To are the days of the flows; First and Next their first page and the one after this.
	From, To, First, Next string
	OrdersFrom, OrdersTo  string // the days that a list of its orders has
	Acts                  []link
}

// skuPage is GET /ui/stock/:id: where the units of a SKU are, and what moved them between two days.
func (c *console) skuPage(ctx echo.Context) error {
	q := query{Context: ctx}
	f := order.FlowFilter{SkuID: ctx.Param("id"), From: q.dayOrTime("from"), To: q.dayEnd("to"), Limit: defaultRows,
		Cursor: ctx.QueryParam("cursor")}
	if err := q.err(); err != nil {
		return err
	}
	rctx := ctx.Request().Context()
	s, err := c.Stock.Find(rctx, f.SkuID)
	if err != nil {
		return stockError(err)
	}
	a, err := c.Orders.StockAccount(rctx, s.SkuID)
	if err != nil {
		return err
	}
	s.Available, s.Allocated = a.Available, a.Allocated // of the moment of the rest, so that they add up
	v := skuView{SKU: &s, State: stockState(&s), Account: &a, Shares: sharesOf(&a), From: day(f.From),
		OrdersFrom: day(c.Now().AddDate(0, 0, -30)), OrdersTo: day(c.Now())}
	if !f.To.IsZero() {
		v.To = day(f.To.Add(-time.Millisecond))
	}
	g, gated, err := c.Stock.FindGate(rctx, s.SkuID)
	if err != nil {
		return err
	}
	if gated {
		v.Gate = &g
	}
	v.Acts = c.links(ctx, []string{s.SkuID}, "stock.replenish", "sku.put", "stock.adjust", "gate.set")
	var next string
	if v.Flows, next, err = c.Orders.Flows(rctx, f); err != nil {
		return err
	}
	asked, path := url.Values{}, uiStock+"/"+url.PathEscape(s.SkuID)
	for _, name := range []string{"from", "to"} {
		if text := q.QueryParam(name); text != "" {
			asked.Set(name, text)
		}
	}
	if f.Cursor != "" {
		v.First = withQuery(path, asked)
	}
	if next != "" {
		asked.Set("cursor", next)
		v.Next = withQuery(path, asked)
	}
	return c.show(ctx, "sku", v)
}

// dayEnd is dayOrTime for a parameter that ends a time, whatever its name.
func (q *query) dayEnd(name string) time.Time {
	if d, err := time.ParseInLocation(time.DateOnly, q.QueryParam(name), beijing); err == nil {
		return d.AddDate(0, 0, 1)
	}
	return q.time(name)
}

// sharesOf draws an account: what came in, by where it is now. There is no drawing of what does not add up
// to units, or of nothing.
func sharesOf(a *order.Account) (all []share) {
	if a.Unlimited || a.CameIn <= 0 || a.Sold < 0 {
		return nil
	}
	x := 0.0
	for _, part := range []share{{Word: "units.available", Class: colourGood, Units: a.Available},
		{Word: "units.allocated", Class: colourBack, Units: a.Allocated},
		{Word: "units.reserved", Class: colourWarn, Units: a.Reserved},
		{Word: "units.sold", Class: colourIdle, Units: a.Sold}} {
		if part.Units > 0 {
			part.X, part.W = tenth(x), tenth(float64(part.Units)/float64(a.CameIn)*1000)
			x += float64(part.Units) / float64(a.CameIn) * 1000
			all = append(all, part)
		}
	}
	return all
}
