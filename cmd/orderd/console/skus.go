package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/stock"
)

// SKUView is a SKU: its price in fen, and what can be bought of it now, in its pool and
// allocated to buckets of a flash sale. version counts changes of title and price, and not
// those of stock.
type SKUView struct {
	SkuID     string           `json:"sku_id"`
	Title     string           `json:"title"`
	Price     orderhttp.Amount `json:"price"`
	Available *int64           `json:"available"` // in the pool; null when unlimited
	Allocated int64            `json:"allocated"` // in buckets, beside available
	SoldOut   bool             `json:"sold_out"`  // the mark of a flash sale: nothing is sold before it is lifted
	Unlimited bool             `json:"unlimited"`
	// OpensAt is when its sale begins or began, null for at once; PerCustomer is the units that
	// one customer may have in it, 0 for no limit.
	OpensAt     *string `json:"opens_at"`
	PerCustomer int64   `json:"per_customer"`
	// LowAt: the shop is told (stock.low) when no more units than these are left; null for never.
	LowAt   *int64 `json:"low_at"`
	Version int64  `json:"version"`
}

// ViewSKU shows a SKU as operators see it.
func ViewSKU(s *stock.SKU) SKUView {
	v := SKUView{SkuID: s.SkuID, Title: s.Title, Allocated: s.Allocated, SoldOut: s.SoldOut, Unlimited: s.Unlimited,
		OpensAt: stamp(s.OpensAt), PerCustomer: s.PerCustomer, Version: s.Version}
	v.Price.Total, v.Price.Currency = fen(s.PriceFen), payment.CNY
	if s.LowAt > 0 {
		v.LowAt = &s.LowAt
	}
	if !s.Unlimited {
		v.Available = &s.Available
	}
	return v
}

// AccountView is a SKU with where all its units are: total = available + allocated +
// reserved + sold. Whether a unit is missing or counted twice, verify says.
type AccountView struct {
	SKUView
	// Total is what was put in, less what was taken out by corrections.
	Total int64 `json:"total"`
	// Reserved is held by orders that are not at an end. Sold is the rest of Total, null when
	// unlimited.
	Reserved int64  `json:"reserved"`
	Sold     *int64 `json:"sold"`
	// Queued are units of Allocated that are set aside for those who wait in the queue of its sale,
	// or whose order is being made; null when Redis cannot say.
	Queued *int64 `json:"queued"`
	// Gate is how it is sold in a flash sale, off ones too; null when it has never had one.
	Gate *GateView `json:"gate"`
}

// SKURow is a SKU in a list.
type SKURow struct {
	SKUView
	Queued *int64 `json:"queued"` // as in AccountView
}

// ViewAccount shows a SKU with its account.
func ViewAccount(s *stock.SKU, a *order.Account) AccountView {
	moment := *s // what is on the shelf is of the moment of the rest, so that they add up
	moment.Available, moment.Allocated = a.Available, a.Allocated
	v := AccountView{SKUView: ViewSKU(&moment), Total: a.CameIn, Reserved: a.Reserved}
	if !a.Unlimited {
		v.Sold = &a.Sold
	}
	return v
}

// listSKUs is GET /admin/v1/skus: a page of SKUs, maxRows unless limit says less, by sku_id.
func (c *console) listSKUs(ctx echo.Context) error {
	q, limit := query{Context: ctx}, maxRows
	if ctx.QueryParam("limit") != "" {
		limit = q.limit()
	}
	if err := q.err(); err != nil {
		return err
	}
	skus, err := c.Stock.List(ctx.Request().Context(), ctx.QueryParam("cursor"), limit+1)
	if err != nil {
		return err
	}
	queued, err := c.queuedOn(ctx, skus)
	if err != nil {
		return err
	}
	view := func(s *stock.SKU) SKURow {
		row := SKURow{ViewSKU(s), new(int64)}
		if units, has := queued[s.SkuID]; has {
			row.Queued = units
		}
		return row
	}
	cursor := func(s *stock.SKU) string { return s.SkuID }
	return ctx.JSON(http.StatusOK, orderhttp.FirstPageOf(skus, limit, view, cursor))
}

// queuedOn gives Queued of those SKUs of a page whose sale has a queue. The gates are read once, the
// buckets of each such sale are looked at once, and neither when nothing on the page is in a bucket.
func (c *console) queuedOn(ctx echo.Context, page []stock.SKU) (map[string]*int64, error) {
	in := map[string]bool{}
	for i := range page {
		if page[i].Allocated > 0 {
			in[page[i].SkuID] = true
		}
	}
	if len(in) == 0 {
		return nil, nil
	}
	gates, err := c.Stock.GateStocks(ctx.Request().Context())
	if err != nil {
		return nil, err
	}
	sales, shown := map[string][]stock.GateStock{}, map[string]bool{}
	for i := range gates {
		g := &gates[i]
		sales[g.Sale] = append(sales[g.Sale], *g)
		shown[g.Sale] = shown[g.Sale] || in[g.SkuID] && g.Queues()
	}
	queued := map[string]*int64{}
	for sale := range shown {
		if !shown[sale] {
			continue
		}
		d := ViewSaleDetail(ctx.Request().Context(), sales[sale], c.Home, "", time.Time{})
		for i := range d.Gates {
			queued[d.Gates[i].SkuID] = d.Gates[i].Queued
		}
	}
	return queued, nil
}

// getSKU is GET /admin/v1/skus/:id: a SKU with its account.
func (c *console) getSKU(ctx echo.Context) error {
	s, err := c.Stock.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return stockError(err)
	}
	a, err := c.Orders.StockAccount(ctx.Request().Context(), s.SkuID)
	if err != nil {
		return err
	}
	ctx.Response().Header().Set("ETag", etag(s.Version))
	v := ViewAccount(&s, &a)
	g, gated, err := c.Stock.FindGate(ctx.Request().Context(), s.SkuID)
	if err != nil {
		return err
	}
	v.Queued = new(int64)
	if gated {
		shown := ViewGate(&g)
		v.Gate = &shown
	}
	if gated && g.Queues() {
		gates, err := c.Stock.SaleStocks(ctx.Request().Context(), s.SkuID)
		if err != nil {
			return err
		}
		v.Queued = QueuedOf(ctx.Request().Context(), gates, c.Home, s.SkuID)
	}
	return ctx.JSON(http.StatusOK, v)
}

// FlowView is one movement of the units of a SKU. FlowNo is KIND:REF, as replenish and adjust
// answer. PlacedAt is when its order was placed, by which flows are listed; of an operator's
// flow it is at.
type FlowView struct {
	FlowNo   string     `json:"flow_no"`
	Type     stock.Kind `json:"type"`
	Quantity int64      `json:"quantity"` // below 0: they left the shelf
	OrderNo  string     `json:"order_no,omitempty"`
	Actor    string     `json:"actor,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Bucket   string     `json:"bucket,omitempty"` // of a flash sale: its bucket_id
	At       time.Time  `json:"at"`
	PlacedAt time.Time  `json:"placed_at"`
	// Before and After are what was left, in buckets too, in the order of the list: what came back stands where its
	// order was placed. Null: the list does not begin now, or the SKU is unlimited.
	Before *int64 `json:"before"`
	After  *int64 `json:"after"`
}

// ViewFlow shows a flow.
func ViewFlow(f *order.Flow) FlowView {
	v := FlowView{FlowNo: string(f.Kind) + ":" + f.Ref, Type: f.Kind, Quantity: f.Delta, OrderNo: f.OrderNo,
		Actor: f.Actor, Reason: f.Reason, At: f.At, PlacedAt: f.Placed}
	if f.Bucket != 0 {
		v.Bucket = strconv.FormatInt(f.Bucket, 10)
	}
	if f.Left != nil {
		v.Before, v.After = new(f.Before()), f.Left
	}
	return v
}

// listFlows is GET /admin/v1/skus/:id/flows: what moved the units of a SKU, the newest orders
// first, of the last day unless from and to say otherwise.
func (c *console) listFlows(ctx echo.Context) error {
	q := query{Context: ctx}
	f := order.FlowFilter{SkuID: ctx.Param("id"), From: q.time("from"), To: q.time("to"), Limit: q.limit(),
		Cursor: ctx.QueryParam("cursor")}
	if err := q.err(); err != nil {
		return err
	}
	if _, err := c.Stock.Find(ctx.Request().Context(), f.SkuID); err != nil {
		return stockError(err)
	}
	flows, next, err := c.Orders.Flows(ctx.Request().Context(), f)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(flows, next, ViewFlow))
}

// putSKU is PUT /admin/v1/skus/:id: it creates a SKU with its first stock (201), or
// changes title and price of an existing one (200). Creating needs no If-Match; changing
// does, or two operators would overwrite one another's price; with If-None-Match: * it is
// only created. The reason is for the log and may be left out.
func (c *console) putSKU(ctx echo.Context) error {
	var body struct {
		Title    string           `json:"title"`
		Price    orderhttp.Amount `json:"price"`
		Quantity *int64           `json:"quantity"`
		LowAt    *int64           `json:"low_at"` // null as it is, 0 for none
		Reason   string           `json:"reason"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	if body.Price.Currency != "" && body.Price.Currency != payment.CNY {
		return invalid("#/price/currency", bounds.CodeEnum, "the currency is CNY")
	}
	if err := checkReason(&bounds.Note, body.Reason); err != nil {
		return err
	}
	p := stock.Put{
		SkuID:    ctx.Param("id"),
		Title:    body.Title,
		PriceFen: int64(body.Price.Total),
		Quantity: body.Quantity,
		LowAt:    body.LowAt,
		Actor:    operator(ctx),
		IfNew:    ctx.Request().Header.Get("If-None-Match") == "*",
	}
	_, err := c.Stock.Find(ctx.Request().Context(), p.SkuID)
	switch {
	case p.IfNew: // one that is made meanwhile is found by the INSERT
	case err == nil:
		if p.IfVersion, err = version(ctx); err != nil {
			return err
		}
	case !errors.Is(err, stock.ErrSKUNotFound):
		return err
	}
	s, created, err := c.Stock.Put(ctx.Request().Context(), p)
	if err != nil {
		return stockError(err)
	}
	c.Log.Info("sku put", "sku_id", s.SkuID, "by", operator(ctx), "created", created, "price_fen", s.PriceFen, "reason",
		body.Reason)
	ctx.Response().Header().Set("ETag", etag(s.Version))
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return ctx.JSON(status, ViewSKU(&s))
}

// ChangedView is a movement of stock: the SKU after it, the number of its row in the
// flows, and what was available before and after, what was allocated with it.
type ChangedView struct {
	SKU    SKUView `json:"sku"`
	FlowNo string  `json:"flow_no"`
	Delta  int64   `json:"delta"`
	Before *int64  `json:"before,omitempty"`
	After  *int64  `json:"after,omitempty"`
}

// replenish is POST /admin/v1/skus/:id/replenish: goods have arrived. It needs no
// If-Match: additions may come in any order, and the key makes each happen once.
// reference_no, of a delivery note, becomes a part of the reason.
func (c *console) replenish(ctx echo.Context) error {
	var body struct {
		Quantity    int64  `json:"quantity"`
		ReferenceNo string `json:"reference_no"`
		Reason      string `json:"reason"`
	}
	change, err := c.change(ctx, &body, &body.Reason)
	if err != nil {
		return err
	}
	change.Delta = body.Quantity
	if change.Reason, err = withReference(change.Reason, body.ReferenceNo); err != nil {
		return err
	}
	done, err := c.Stock.Replenish(ctx.Request().Context(), change)
	c.Metrics.Stock("replenish", err)
	return c.showChange(ctx, done, err)
}

// withReference puts the number of a delivery note before a reason. Both have one column.
func withReference(reason, no string) (string, error) {
	if no == "" {
		return reason, nil
	}
	wrong := bounds.ReferenceNo.Check(no)
	if wrong == nil && strings.TrimSpace(no) == "" {
		wrong = &bounds.Wrong{Code: bounds.CodeFormat, Detail: "it is blank; leave it out"}
	}
	pointer, both := "#/reference_no", no+": "+reason
	if wrong == nil && !bounds.Reason.Fits(both) {
		pointer, wrong = "#/reason", &bounds.Wrong{Code: bounds.CodeLength,
			Detail: fmt.Sprintf("reason and reference_no together have at most %d %s", bounds.Reason.Most-len(": "),
				bounds.Reason.Unit)}
	}
	if wrong != nil {
		return "", invalid(pointer, wrong.Code, wrong.Detail)
	}
	return both, nil
}

// adjust is POST /admin/v1/skus/:id/adjust: a count has found another number. It takes
// expected_available, available and allocated together, in place of a version: orders move
// stock without changing the SKU's version.
func (c *console) adjust(ctx echo.Context) error {
	var body struct {
		Delta             int64  `json:"delta"`
		ExpectedAvailable *int64 `json:"expected_available"`
		Reason            string `json:"reason"`
	}
	change, err := c.change(ctx, &body, &body.Reason)
	if err != nil {
		return err
	}
	change.Delta, change.ExpectedAvailable = body.Delta, body.ExpectedAvailable
	done, err := c.Stock.Adjust(ctx.Request().Context(), change)
	c.Metrics.Stock("adjust", err)
	return c.showChange(ctx, done, err)
}

// change reads a request to move stock: its key, its body, its reason. The caller adds by
// how much. The key's form is checked where it is stored.
func (c *console) change(ctx echo.Context, body any, reason *string) (stock.Change, error) {
	key, ok := orderhttp.IdempotencyKey(ctx.Request().Header)
	if !ok {
		return stock.Change{}, &orderhttp.Failure{Code: orderhttp.CodeKeyRequired}
	}
	if err := decodeReasoned(ctx, body, reason); err != nil {
		return stock.Change{}, err
	}
	return stock.Change{SkuID: ctx.Param("id"), Key: key, Actor: operator(ctx), Reason: *reason}, nil
}

// showChange answers a request to move stock; Idempotent-Replayed says that nothing moved
// now.
func (c *console) showChange(ctx echo.Context, done stock.Changed, err error) error {
	if err != nil {
		return stockError(err)
	}
	if done.Before != nil && done.After != nil {
		effect(ctx, strconv.FormatInt(*done.Before, 10), strconv.FormatInt(*done.After, 10))
	}
	if done.Replayed {
		ctx.Response().Header().Set("Idempotent-Replayed", "true")
	}
	return ctx.JSON(http.StatusOK, ChangedView{ViewSKU(&done.SKU), done.FlowNo, done.Delta, done.Before, done.After})
}

// stockError gives the errors of package stock their codes for operators, who see more
// than orderhttp shows: every problem of a SKU as an entry of errors. An error that it
// does not know is passed on.
func stockError(err error) error {
	var invalid *stock.InvalidError
	var moved *stock.ChangedError
	var below *stock.BelowZeroError
	var elsewhere *stock.ElsewhereError
	switch {
	case errors.Is(err, stock.ErrSKUNotFound):
		return &orderhttp.Failure{Code: orderhttp.CodeSKUNotFound, Err: err}
	case errors.Is(err, stock.ErrKeyReused):
		return &orderhttp.Failure{Code: orderhttp.CodeKeyReused, Err: err}
	case errors.Is(err, stock.ErrSKUExists):
		return fail(orderhttp.CodeVersionMismatch, err.Error())
	case errors.Is(err, stock.ErrSKUVersion):
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch, Err: err}
	case errors.As(err, &moved), errors.As(err, &below), errors.As(err, &elsewhere),
		errors.Is(err, stock.ErrUnlimited):
		return fail(orderhttp.CodeStockChanged, err.Error())
	case errors.As(err, &invalid):
		f := &orderhttp.Failure{Code: orderhttp.CodeValidation}
		for _, p := range invalid.Problems {
			f.Fields = append(f.Fields, order.FieldError{Pointer: "#", Code: "INVALID", Detail: p})
		}
		return f
	}
	return err
}
