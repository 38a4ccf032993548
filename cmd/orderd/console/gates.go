package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
	"orderd/stock"
)

// Gates is what operators need of flash sales; *stock.Admin implements it, and documents its
// errors.
type Gates interface {
	SetGate(ctx context.Context, c stock.GateChange) (stock.Gate, error)
	// FindGate gives the gate of a SKU, off ones too; false when it has never had one.
	FindGate(ctx context.Context, id string) (stock.Gate, bool, error)
	// GateStocks gives those that are not off, with their buckets.
	GateStocks(ctx context.Context) ([]stock.GateStock, error)
	// SaleStocks gives those of one sale, which is named by itself or by a SKU.
	SaleStocks(ctx context.Context, name string) ([]stock.GateStock, error)
	RenewBuckets(ctx context.Context, r stock.Renewal) (stock.Renewed, error)
}

// GateView is a gate as operators see it. version counts what people and processes have said
// about it, and is what If-Match names.
type GateView struct {
	Mode  stock.GateMode `json:"mode"`
	State string         `json:"state"` // open, or ended when its time is over
	Sale  string         `json:"sale"`
	Epoch int64          `json:"epoch"`
	// Buckets, Rate and PerCustomer are in buckets, orders a second and units; no limit is 0.
	Buckets     int64   `json:"buckets"`
	Rate        int64   `json:"rate"`
	PerCustomer int64   `json:"per_customer"`
	OpensAt     *string `json:"opens_at"`  // null: at once
	ClosesAt    *string `json:"closes_at"` // null: never
	Origin      string  `json:"origin"`    // hand, or auto when a process found the SKU hot
	Version     int64   `json:"version"`
	Actor       string  `json:"actor"`
	Reason      string  `json:"reason"`
}

// ViewGate shows a gate.
func ViewGate(g *stock.Gate) GateView {
	v := GateView{Mode: g.Mode, State: "open", Sale: g.Sale, Epoch: g.Epoch, Buckets: g.Buckets, Rate: g.Rate,
		PerCustomer: g.PerCustomer, OpensAt: stamp(g.OpensAt), ClosesAt: stamp(g.ClosesAt), Origin: "hand",
		Version: g.Version, Actor: g.Actor, Reason: g.Reason}
	if g.Ended {
		v.State = "ended"
	}
	if g.Auto {
		v.Origin = "auto"
	}
	return v
}

// stamp writes a time in UTC with milliseconds; nil for none.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	return &text
}

// SaleView is a gate with the units of its SKU: those in its pool and those in buckets.
type SaleView struct {
	SkuID string `json:"sku_id"`
	GateView
	Pool      int64 `json:"pool"`
	Allocated int64 `json:"allocated"` // in Holders buckets
	Holders   int   `json:"holders"`
	SoldOut   bool  `json:"sold_out"`
	// Reopening: something came back of what was sold out, and is sold in a second or so.
	Reopening bool `json:"reopening"`
	// ClosedUntil is before when nothing new is sold; null without such a time.
	ClosedUntil *string `json:"closed_until"`
	HotAt       *string `json:"hot_at"` // when a process last found it hot, or the gate was set
}

// ViewSale shows a gate that is not off.
func ViewSale(g *stock.GateStock) SaleView {
	v := SaleView{SkuID: g.SkuID, GateView: ViewGate(&g.Gate), Pool: g.Available, Allocated: g.Allocated(),
		Holders: len(g.Buckets), SoldOut: g.SoldOut(), Reopening: stock.Reopening(g.ClosedUntil), HotAt: stamp(g.HotAt)}
	if !v.SoldOut && !v.Reopening && g.ClosedUntil > 0 {
		v.ClosedUntil = stamp(time.UnixMilli(g.ClosedUntil))
	}
	return v
}

// gateRoutes are those of flash sales. What opens one is an admin's, as what corrects a shelf
// is: it decides who gets the goods.
func (c *console) gateRoutes() []route {
	return []route{
		{http.MethodGet, "/admin/v1/gates", Viewer, c.listGates},
		{http.MethodPost, "/admin/v1/skus/:id/gate", Admin, c.setGate},
		{http.MethodPost, "/admin/v1/skus/:id/buckets", Admin, c.setBuckets},
		{http.MethodPost, "/admin/v1/skus/:id/rebuild-cache", Admin, c.rebuildCache},
		{http.MethodGet, "/admin/v1/gates/:name", Viewer, c.getSale},
		{http.MethodGet, "/ui/gates", Viewer, c.gatesPage},
		{http.MethodGet, "/ui/gates/:name", Viewer, c.salePage},
	}
}

// listGates is GET /admin/v1/gates: all gates that are not off, by SKU.
func (c *console) listGates(ctx echo.Context) error {
	gates, err := c.Stock.GateStocks(ctx.Request().Context())
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(gates, "", ViewSale))
}

// setGate is POST /admin/v1/skus/:id/gate: how a SKU is sold from now on. The first gate of a
// SKU needs no If-Match; a change does, of the gate's version, or two operators would overwrite
// one another's sale.
func (c *console) setGate(ctx echo.Context) error {
	var body struct {
		Mode        stock.GateMode `json:"mode"`
		Sale        string         `json:"sale"`
		Buckets     int64          `json:"buckets"`
		Rate        int64          `json:"rate"`
		PerCustomer int64          `json:"per_customer"`
		OpensAt     *time.Time     `json:"opens_at"`
		ClosesAt    *time.Time     `json:"closes_at"`
		Reason      string         `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	change := stock.GateChange{SkuID: ctx.Param("id"), Mode: body.Mode, Sale: body.Sale, Buckets: body.Buckets,
		Rate: body.Rate, PerCustomer: body.PerCustomer, Actor: operator(ctx), Reason: body.Reason}
	if body.OpensAt != nil {
		change.OpensAt = *body.OpensAt
	}
	if body.ClosesAt != nil {
		change.ClosesAt = *body.ClosesAt
	}
	_, found, err := c.Stock.FindGate(ctx.Request().Context(), change.SkuID)
	if err != nil {
		return err
	}
	if found {
		if change.IfVersion, err = version(ctx); err != nil {
			return err
		}
	}
	g, err := c.Stock.SetGate(ctx.Request().Context(), change)
	c.Metrics.Stock("gate", err)
	if err != nil {
		return gateError(err)
	}
	c.Log.Info("gate set", "sku_id", g.SkuID, "by", operator(ctx), "mode", g.Mode, "sale", g.Sale, "version", g.Version,
		"reason", body.Reason)
	ctx.Response().Header().Set("ETag", etag(g.Version))
	return ctx.JSON(http.StatusOK, ViewGate(&g))
}

// gateError is stockError for what is said of a gate.
func gateError(err error) error {
	switch {
	case errors.Is(err, stock.ErrGateVersion):
		return fail(orderhttp.CodeVersionMismatch, err.Error())
	case errors.Is(err, stock.ErrUnlimited):
		return invalid("#/mode", "INVALID", "the SKU is unlimited: there is nothing to count down")
	}
	return stockError(err)
}

// gatesPage is GET /ui/gates: the flash sales, and where their units are.
func (c *console) gatesPage(ctx echo.Context) error {
	gates, err := c.Stock.GateStocks(ctx.Request().Context())
	if err != nil {
		return err
	}
	type row struct {
		SaleView
		*stock.GateStock
		Until time.Time // closed until then; zero: not, or sold out
	}
	rows := make([]row, len(gates))
	for i := range gates {
		rows[i] = row{SaleView: ViewSale(&gates[i]), GateStock: &gates[i]}
		until := time.UnixMilli(gates[i].ClosedUntil).UTC()
		if rows[i].ClosedUntil != nil && until.After(c.Now()) {
			rows[i].Until = until
		}
	}
	return c.show(ctx, "gates", rows)
}
