package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
	"orderd/stock"
	"orderd/stock/gate"
)

// SaleDetail is a sale with all that is known of it at one moment.
type SaleDetail struct {
	Sale  string     `json:"sale"`
	Gates []SaleGate `json:"gates"` // by SKU
	// Buckets are those that are not closed, and those of Redis that have no units yet.
	Buckets []BucketView `json:"buckets"`
	// Redis says why Redis was not asked for what it has of them; "" when it was, or has none.
	Redis   string `json:"redis_problem"`
	Drift   int64  `json:"drift"`   // units of all buckets that Redis has and their rows have not
	Waiting int64  `json:"waiting"` // placements in the queues of Redis
	// OldestSeconds is for how long the one has waited that came first; 0 for none.
	OldestSeconds int64 `json:"oldest_seconds"`
}

// SaleGate is one SKU of a sale, and what its buyers are told.
type SaleGate struct {
	SaleView
	// Queued are units of Allocated that are set aside for those who wait, or whose order is being
	// made; null when Redis cannot say.
	Queued *int64 `json:"queued"`
	Told   string `json:"told"`
}

// HowManyQueued is Queued in words.
func (g SaleGate) HowManyQueued() string {
	if g.Queued == nil {
		return "nobody knows how many"
	}
	return strconv.FormatInt(*g.Queued, 10)
}

// BucketView is a bucket as operators see it.
type BucketView struct {
	ID        string            `json:"bucket_id"` // a number, which JavaScript could not hold
	SkuID     string            `json:"sku_id"`
	Home      string            `json:"home"`
	State     stock.BucketState `json:"state"` // "" of one in Redis that has no row yet
	Epoch     int64             `json:"epoch"`
	No        int64             `json:"no"`
	Remaining int64             `json:"remaining"`
	Seq       int64             `json:"seq"`
	SeenAt    *string           `json:"seen_at"` // when its home last moved it, or said that it is alive
	Redis     *RedisView        `json:"redis"`   // null: its home is a process, or Redis was not asked
}

// RedisView is what Redis has of a bucket.
type RedisView struct {
	Known   bool  `json:"known"` // false: it has lost it, or has that of another epoch
	Left    int64 `json:"left"`
	Seq     int64 `json:"seq"`
	Drift   int64 `json:"drift"`   // what it has more than the row, at the same move
	Tickets int64 `json:"tickets"` // calls for all SKUs of it whose tickets are not all orders yet
	Waiting int64 `json:"waiting"` // placements in its queue
}

// Told says in words what buyers of a SKU with this gate are told now.
func Told(g *stock.Gate, now time.Time) string {
	words := "201 while there are units, then 409 STOCK_INSUFFICIENT"
	switch {
	case g.Mode == stock.GateOff:
		return words
	case g.Ended:
		return "409 STOCK_INSUFFICIENT: its time is over, until the gate is set again"
	case g.OpensAt.After(now):
		return "503 SALE_NOT_STARTED until " + *stamp(g.OpensAt)
	case g.SoldOut():
		return "409 STOCK_INSUFFICIENT, from memory; who has an order is told of that"
	case stock.Reopening(g.ClosedUntil):
		return "409 STOCK_INSUFFICIENT for a second or so: something came back and is about to be sold"
	case g.Queues():
		words = fmt.Sprintf("201, above %d orders a second 202 with a place in line, then 409 STOCK_INSUFFICIENT",
			g.Rate)
	}
	if g.PerCustomer > 0 {
		words += fmt.Sprintf("; 409 CUSTOMER_LIMIT to who would have more than %d units", g.PerCustomer)
	}
	return words
}

// ViewSaleDetail shows the gates of one sale. home has its buckets in Redis; nil: nobody here can
// ask, for which why is the reason.
func ViewSaleDetail(ctx context.Context, gates []stock.GateStock, home gate.Inspector, why string,
	now time.Time) (d SaleDetail) {
	d = SaleDetail{Gates: []SaleGate{}, Buckets: []BucketView{}}
	var inRedis []stock.Gate
	for i := range gates {
		g := &gates[i]
		d.Sale = g.Sale
		shown := SaleGate{SaleView: ViewSale(g), Told: Told(&g.Gate, now)}
		if !g.Queues() {
			shown.Queued = new(int64)
		}
		d.Gates = append(d.Gates, shown)
		for j := range g.Buckets {
			d.Buckets = append(d.Buckets, viewBucket(&g.Buckets[j]))
		}
		if g.Mode == stock.GateRedis && !g.Ended {
			inRedis = append(inRedis, g.Gate)
		}
	}
	defer d.sort()
	if len(inRedis) == 0 {
		return d
	}
	if d.Redis = why; home == nil {
		return d
	}
	held, err := home.Look(ctx, inRedis)
	if err != nil {
		d.Redis = err.Error()
		return d
	}
	d.Redis = ""
	for i := range held {
		d.hold(&held[i], inRedis)
	}
	for i := range gates {
		if units, known := gate.QueuedUnits(&gates[i], held); known && gates[i].Queues() {
			d.Gates[i].Queued = &units
		}
	}
	return d
}

// QueuedOf gives Queued of one SKU of a sale; gates is all of the sale.
func QueuedOf(ctx context.Context, gates []stock.GateStock, home gate.Inspector, skuID string) *int64 {
	d := ViewSaleDetail(ctx, gates, home, "", time.Time{})
	for i := range d.Gates {
		if d.Gates[i].SkuID == skuID {
			return d.Gates[i].Queued
		}
	}
	return new(int64) // it has no gate
}

// sort puts the buckets of a SKU together, those of Redis by their numbers.
func (d *SaleDetail) sort() {
	slices.SortFunc(d.Buckets, func(a, b BucketView) int {
		return cmp.Or(cmp.Compare(a.SkuID, b.SkuID), cmp.Compare(a.Home, b.Home), cmp.Compare(a.No, b.No))
	})
}

// viewBucket shows a bucket by its row.
func viewBucket(b *stock.Bucket) BucketView {
	return BucketView{ID: strconv.FormatInt(b.ID, 10), SkuID: b.SkuID, Home: b.Home, State: b.State, Epoch: b.Epoch,
		No: b.No, Remaining: b.Remaining, Seq: b.Seq, SeenAt: stamp(b.SeenAt)}
}

// hold puts what Redis has of a bucket beside its rows, one for each SKU.
func (d *SaleDetail) hold(b *gate.HomeBucket, gates []stock.Gate) {
	d.Waiting += b.Waiting
	for i := range gates {
		id := strconv.FormatInt(stock.SharedBucket(gates[i].SkuID, gates[i].Epoch, b.No), 10)
		at := slices.IndexFunc(d.Buckets, func(v BucketView) bool { return v.ID == id })
		if at < 0 {
			at = len(d.Buckets)
			d.Buckets = append(d.Buckets, BucketView{ID: id, SkuID: gates[i].SkuID, Home: stock.HomeRedis,
				Epoch: gates[i].Epoch, No: b.No})
		}
		row := &d.Buckets[at]
		units := b.Units[gates[i].SkuID]
		r := &RedisView{Tickets: b.Tickets, Waiting: b.Waiting, Known: b.Open && b.Epoch == gates[i].Epoch &&
			strconv.FormatInt(units.Bucket, 10) == id && units.Left >= 0}
		if r.Known {
			r.Left, r.Seq = units.Left, units.Seq
		}
		if r.Known && row.State != "" && r.Seq == row.Seq {
			r.Drift = max(0, r.Left-row.Remaining)
		}
		d.Drift += r.Drift
		row.Redis = r
	}
}

// RenewedView is what became of the buckets of a sale, or would become of them.
type RenewedView struct {
	Sale   string       `json:"sale"`
	DryRun bool         `json:"dry_run"`
	Epoch  int64        `json:"epoch"` // from now on
	SKUs   []RenewedSKU `json:"skus"`
}

// RenewedSKU is one SKU of it.
type RenewedSKU struct {
	SkuID   string         `json:"sku_id"`
	Mode    stock.GateMode `json:"mode"`
	Version int64          `json:"version"` // of its gate, from now on
	Buckets int64          `json:"buckets"` // in Redis, wanted from now on
	Closed  int            `json:"closed"`  // buckets that were given up
	Back    int64          `json:"back"`    // units of them, which are in the pool again
	Pool    int64          `json:"pool"`    // with those
}

// ViewRenewed shows what a renewal did.
func ViewRenewed(r *stock.Renewed, dry bool) RenewedView {
	v := RenewedView{Sale: r.Sale, DryRun: dry, Epoch: r.Epoch, SKUs: []RenewedSKU{}}
	for i := range r.Gates {
		g := &r.Gates[i]
		v.SKUs = append(v.SKUs, RenewedSKU{SkuID: g.SkuID, Mode: g.Mode, Version: g.Version, Buckets: g.Gate.Buckets,
			Closed: len(g.Buckets), Back: g.Allocated(), Pool: g.Available})
	}
	return v
}

// setBuckets is POST /admin/v1/skus/:id/buckets: how many buckets the sale of the SKU has in Redis
// from now on.
func (c *console) setBuckets(ctx echo.Context) error {
	var body struct {
		Count  int64  `json:"count"`
		Reason string `json:"reason"`
		DryRun bool   `json:"dry_run"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	if body.Count == 0 {
		return invalid("#/count", bounds.CodeRequired,
			"say how many buckets there are to be; rebuild-cache keeps their number")
	}
	return c.renew(ctx, "buckets", stock.Renewal{Buckets: body.Count, Reason: body.Reason, DryRun: body.DryRun})
}

// rebuildCache is POST /admin/v1/skus/:id/rebuild-cache: the buckets of the sale of the SKU are
// given up, and new ones made from the database.
func (c *console) rebuildCache(ctx echo.Context) error {
	var body struct {
		Reason string `json:"reason"`
		DryRun bool   `json:"dry_run"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	return c.renew(ctx, "rebuild", stock.Renewal{Reason: body.Reason, DryRun: body.DryRun})
}

// renew does it under the version of the gate that the operator has seen, which a dry run gives
// and need not name.
func (c *console) renew(ctx echo.Context, op string, r stock.Renewal) error {
	r.SkuID, r.Actor = ctx.Param("id"), operator(ctx)
	if !r.DryRun || ctx.Request().Header.Get("If-Match") != "" {
		v, err := version(ctx)
		if err != nil {
			return err
		}
		r.IfVersions = map[string]int64{r.SkuID: v}
	}
	done, err := c.Stock.RenewBuckets(ctx.Request().Context(), r)
	if !r.DryRun {
		c.Metrics.Stock(op, err)
	}
	if err != nil {
		return gateError(err)
	}
	at := slices.IndexFunc(done.Gates, func(g stock.GateStock) bool { return g.SkuID == r.SkuID })
	now := done.Gates[at].Version
	if r.DryRun {
		now-- // it is as it was
	} else {
		c.Log.Info("buckets of a sale renewed", "sku_id", r.SkuID, "sale", done.Sale, "by", r.Actor, "epoch",
			done.Epoch, "buckets", done.Gates[at].Gate.Buckets, "version", now, "reason", r.Reason)
	}
	ctx.Response().Header().Set("ETag", etag(now))
	return ctx.JSON(http.StatusOK, ViewRenewed(&done, r.DryRun))
}

// whyNoHome is why this process cannot ask Redis for buckets.
const whyNoHome = "this process has no Redis to ask"

// salePage is GET /ui/gates/:name: one sale, named by itself or by a SKU of it.
func (c *console) salePage(ctx echo.Context) error {
	rctx, name := ctx.Request().Context(), ctx.Param("name")
	gates, err := c.Stock.SaleStocks(rctx, name)
	if err != nil {
		return err
	}
	if len(gates) == 0 {
		if _, err := c.Stock.Find(rctx, name); err != nil {
			return stockError(err)
		}
	}
	d := c.detail(rctx, gates)
	var acts []pair // a SKU, and what can be done about its gate
	for i := range d.Gates {
		names := []string{"gate.set"}
		if d.Gates[i].Mode == stock.GateRedis {
			names = append(names, "gate.buckets", "gate.rebuild")
		}
		if all := c.links(ctx, []string{d.Gates[i].SkuID}, names...); len(all) > 0 {
			acts = append(acts, pair{d.Gates[i].SkuID, all})
		}
	}
	return c.show(ctx, "sale", map[string]any{"Name": name, "Sale": d, "Acts": acts})
}

// getSale is GET /admin/v1/gates/:name: the same for programs.
func (c *console) getSale(ctx echo.Context) error {
	rctx, name := ctx.Request().Context(), ctx.Param("name")
	gates, err := c.Stock.SaleStocks(rctx, name)
	if err != nil {
		return err
	}
	if len(gates) == 0 {
		return &orderhttp.Failure{Code: orderhttp.CodeSKUNotFound, Err: stock.ErrSKUNotFound}
	}
	return ctx.JSON(http.StatusOK, c.detail(rctx, gates))
}

// detail is a sale with the age of its queue, which only a process knows that keeps it.
func (c *console) detail(ctx context.Context, gates []stock.GateStock) SaleDetail {
	d := ViewSaleDetail(ctx, gates, c.Home, whyNoHome, c.Now())
	if c.Queues == nil || d.Waiting == 0 {
		return d
	}
	depths, err := c.Queues.Depths(ctx)
	if err != nil {
		d.Redis = err.Error()
	}
	for _, q := range depths {
		if q.Sale == d.Sale {
			d.OldestSeconds = int64(q.Oldest / time.Second)
		}
	}
	return d
}
