package chaos

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
	"orderd/stock"
)

// goods is a SKU that a run with a gate sells by it.
type goods struct {
	n     int    // of skuID, one of the hot ones
	sale  string // "": of its own
	limit int64  // units that a customer may have of the sale; 0: no limit
	units func(orders int) int64
	share int // of a hundred carts of the sale
}

// sale is what a run with a gate sells by it. The shares add up to a hundred.
var sale = []goods{
	// Sold from buckets to the end: who is told that it is sold out was lied to (T2), also
	// when his bucket was recalled.
	{n: 0, units: plenty, share: 25},
	// Sold from buckets, then from the pool, then sold out; more comes in while it is sold.
	{n: 1, units: deep, share: 35},
	// Sold out soon, so that a mark stands for most of the run and every return lifts it.
	{n: 2, units: scarce, share: 20},
	// Two SKUs of one sale that a customer may have two units of.
	{n: 3, sale: "pair", limit: 2, units: plenty, share: 10},
	{n: 4, sale: "pair", limit: 2, units: plenty, share: 10},
}

// How many units there are, of a run of so many orders.
func plenty(orders int) int64 { return int64(20*orders) + 10_000 } // all buyers at once would not empty it
func deep(orders int) int64   { return int64(orders/10) + 150 }    // above what a pool keeps to itself
func scarce(orders int) int64 { return int64(orders/hotShare + hotLeast) }

// gated reports that the run has a gate.
func (o *Options) gated() bool { return o.Gate != "" && o.Gate != string(stock.GateOff) }

// gateAs is the gate of a SKU in this run; mode may be off in the middle of it.
func (s *stage) gateAs(g *goods, mode stock.GateMode) stock.GateChange {
	c := stock.GateChange{SkuID: skuID(g.n), Sale: g.sale, Mode: mode, Reason: "a chaos run"}
	if mode != stock.GateOff {
		c.PerCustomer = g.limit
	}
	if mode == stock.GateRedis {
		c.Buckets, c.Rate = usualBuckets, s.rate
	}
	return c
}

// setGate sets a gate by the operator's route, as a person does who repeats it until it was done.
// An error says that ctx has ended, or that nobody could set it.
func (s *stage) setGate(ctx context.Context, c stock.GateChange) error {
	return persist(ctx, func() error { return s.setGateOnce(ctx, c, s.apis[rand.IntN(len(s.apis))]) })
}

// setGateOnce sets a gate at a process, of the version that it has now.
func (s *stage) setGateOnce(ctx context.Context, c stock.GateChange, p *process) error {
	gate, found, err := stock.NewAdmin(s.db, time.Now).FindGate(ctx, c.SkuID)
	if err != nil {
		return err
	}
	ifMatch := ""
	if found {
		ifMatch = fmt.Sprintf(`"v%d"`, gate.Version)
	}
	body, err := json.Marshal(map[string]any{"mode": c.Mode, "sale": c.Sale, "per_customer": c.PerCustomer,
		"buckets": c.Buckets, "rate": c.Rate, "reason": c.Reason})
	if err != nil {
		return err
	}
	return operate(ctx, "http://"+p.admin+"/admin/v1/skus/"+c.SkuID+"/gate", "If-Match", ifMatch, string(body))
}

// persistFor is longer than a server is away.
const persistFor = time.Minute

// persist does something until it has no error, for persistFor at most.
func persist(ctx context.Context, do func() error) error {
	for end := time.Now().Add(persistFor); ; {
		err := do()
		if err == nil || time.Now().After(end) || !sqldb.Sleep(ctx, readyEvery) {
			return err
		}
	}
}

// openSale opens the gates of a run that has some.
func (s *stage) openSale(ctx context.Context) error {
	if s.gate == "" {
		return nil
	}
	return s.setGates(ctx, stock.GateMode(s.gate))
}

// setGates sets the gates of the whole sale.
func (s *stage) setGates(ctx context.Context, mode stock.GateMode) error {
	for i := range sale {
		if err := s.setGate(ctx, s.gateAs(&sale[i], mode)); err != nil {
			return fmt.Errorf("set the gate of %s: %w", skuID(sale[i].n), err)
		}
	}
	return nil
}

// came notes that units of a SKU of the sale came in, for T1.
func (s *stage) came(id string, units int64) {
	s.saleMu.Lock()
	defer s.saleMu.Unlock()
	if s.putIn == nil {
		s.putIn = map[string]int64{}
	}
	s.putIn[id] += units
}

// saleCart is one SKU of the sale, up to three units.
func saleCart(rnd *rand.Rand) map[string]any {
	n := rnd.IntN(100)
	for _, g := range sale {
		if n -= g.share; n < 0 {
			return cartOf(g.n, 1+rnd.IntN(3))
		}
	}
	panic("the shares of the sale are less than a hundred")
}

// cartOf is a cart with one line.
func cartOf(n, quantity int) map[string]any {
	return map[string]any{"items": []map[string]any{{"sku_id": skuID(n), "quantity": quantity}}}
}

// rivalsAtOnce is how many placements of one customer are under way at the same time: fewer
// than maxOpen, and more than the sale allows.
const rivalsAtOnce = 4

// Shares of a run with a gate: of a hundred carts those of the sale, and of so many visits one
// that brings rivals.
const saleShare, rivalsOf = 60, 30

// rivals are placements of one customer at the same time, each of one unit of a SKU that he
// may have two of: the limit is the same at all processes, and the limit of unpaid orders is
// not what keeps him.
func (s *shop) rivals(ctx context.Context, rnd *rand.Rand, customer string) {
	var wg sync.WaitGroup
	for i := range rivalsAtOnce {
		v := s.newVisit(customer)
		v.doing = "is one of four"
		b := &buyer{shop: s, ctx: ctx, visit: v, rnd: rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64())),
			wanted: cartOf(3+i%2, 1)}
		wg.Go(func() {
			b.enter()
			if b.place() {
				s.count("placed")
				b.pays()
			}
		})
	}
	wg.Wait()
	s.count("four orders of a customer at once")
}

// soldOut holds a refusal against what is there: a SKU of which there is plenty is not sold
// out (T2), whatever became of a bucket that had its units.
func (b *buyer) soldOut(a answer) {
	if !b.o.gated() {
		return
	}
	for _, it := range a.body.Items {
		for _, g := range sale {
			if it.SkuID == skuID(g.n) && g.units(1) == plenty(1) {
				b.violated("T2: %s/%s was told that %s is sold out, of which there is plenty", b.customer, b.key,
					it.SkuID)
			}
		}
	}
}

// limits are the sales that limit their customers: their SKUs, and how many units he may have.
func limits() (skus map[string][]string, limit map[string]int64) {
	skus, limit = map[string][]string{}, map[string]int64{}
	for _, g := range sale {
		if g.limit > 0 {
			skus[g.sale], limit[g.sale] = append(skus[g.sale], skuID(g.n)), g.limit
		}
	}
	return skus, limit
}

// aboveLimit gives those who hold more units of a sale than they may at this moment (T3), as
// one statement sees it, read from the orders: the rows that the service counts by are not
// believed.
func (s *stage) aboveLimit(ctx context.Context) (found []string, err error) {
	skus, limit := limits()
	for _, name := range slices.Sorted(maps.Keys(skus)) {
		err = sqldb.Each(ctx, s.db, `SELECT o.customer_id, SUM(i.quantity)
FROM order_items i
JOIN orders o ON o.order_no = i.order_no
WHERE i.sku_id IN (`+sqldb.In(len(skus[name]))+`)
  AND o.state NOT IN ('closed', 'late', 'refunded')
GROUP BY o.customer_id
HAVING SUM(i.quantity) > ?`, append(sqldb.Args(skus[name]), limit[name]), func(rows *sql.Rows) error {
			var customer string
			var units int64
			err := rows.Scan(&customer, &units)
			found = append(found, fmt.Sprintf("%s has %d units of the sale %s, of %d", customer, units, name,
				limit[name]))
			return err
		})
	}
	return found, err
}

// limitsEvery is the time between two looks whether somebody is above a limit.
const limitsEvery = time.Second

// watchLimits looks again and again whether somebody is above a limit: at the end his order
// may be closed.
func (s *shop) watchLimits(ctx context.Context) {
	told := map[string]bool{}
	for sqldb.Sleep(ctx, limitsEvery) {
		found, _ := s.stage.aboveLimit(ctx) // a database that is away is asked at the next look
		for _, text := range found {
			if !told[text] {
				told[text] = true
				s.violated("T3: %s", text)
			}
		}
	}
}

// closed ends the sale when nothing is under way any more, and holds its units against what
// came in: T1, nothing is in a bucket when the gates are off, and of every SKU what is left
// and what was sold are what came in. The checks of buckets are made before that as well, when
// there are some.
func (j *judge) closed(ctx context.Context) error {
	found, err := j.aboveLimit(ctx)
	if err != nil {
		return err
	}
	for _, text := range found {
		j.report.violated("T3: at the end %s", text)
	}
	if j.rate > 0 { // nothing is under way, and the rest is bought before its orders run out of time
		j.rate = restRate
		if err := j.setGates(ctx, stock.GateRedis); err != nil {
			return err
		}
	}
	if err := j.fillBuckets(ctx); err != nil {
		return err
	}
	for _, g := range sale {
		if g.units(1) == plenty(1) {
			continue // tens of thousands
		}
		if j.rate > 0 {
			err = j.restOf(ctx, skuID(g.n), g.n)
		} else {
			err = j.lastUnit(ctx, skuID(g.n))
		}
		if err != nil {
			return err
		}
	}
	if err := j.again(ctx); err != nil { // those orders end too
		return err
	}
	if err := j.verified(ctx, "verify with the gates open"); err != nil {
		return err
	}
	if j.buckets != nil { // what Redis has, against the rows
		if err := j.verifiedBy(ctx, "verify of Redis", "stock", "verify", "-o", "json"); err != nil {
			return err
		}
	}
	if err := j.report.Sale.count(ctx, j.stage); err != nil {
		return err
	}
	if err := j.setGates(ctx, stock.GateOff); err != nil {
		return err
	}
	j.saleMu.Lock()
	defer j.saleMu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(j.putIn)) {
		var free, inBuckets, sold int64
		err := j.db.QueryRowContext(ctx, `SELECT s.available,
  (SELECT COALESCE(SUM(b.remaining), 0) FROM stock_buckets b WHERE b.sku_id = s.sku_id AND b.state <> 'closed'),
  (SELECT COALESCE(SUM(-f.delta), 0) FROM stock_flows f WHERE f.sku_id = s.sku_id AND f.order_no <> '')
FROM skus s
WHERE s.sku_id = ?`, id).Scan(&free, &inBuckets, &sold)
		if err != nil {
			return err
		}
		j.report.Sale.Sold += sold
		if inBuckets != 0 || free+sold != j.putIn[id] || sold < 0 || free < 0 {
			j.report.violated("T1: of %s came in %d units, %d are sold, %d in the pool, %d in buckets", id, j.putIn[id],
				sold, free, inBuckets)
		}
	}
	return nil
}

const (
	// mostUnits of a SKU are what a customer may have in unpaid orders: ORDERD_MAX_OPEN_UNITS,
	// its default.
	mostUnits = 1000
	// reopenedWithin is longer than a SKU that was sold out waits until it is sold again, and
	// two looks of a keeper.
	reopenedWithin = 5 * time.Second
)

// fillBuckets lets more come in of the SKU that is sold from buckets and then sold out, and has
// each process asked for it, until some of it is in a bucket: what T4 is about.
func (j *judge) fillBuckets(ctx context.Context) error {
	const g, units = 1, 1000 // of sale; enough for a bucket of each process
	if err := j.replenish(ctx, g, units, "last"); err != nil {
		return err
	}
	for end := time.Now().Add(reopenedWithin); time.Now().Before(end); sqldb.Sleep(ctx, quietEvery) {
		for _, p := range j.apis {
			b := j.shop.stranger(ctx)
			b.via = p
			_ = b.ask(ctx, cartOf(sale[g].n, 1)) // whatever the answer: it was asked
		}
		err := j.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(remaining), 0)
FROM stock_buckets
WHERE sku_id = ?
  AND state <> 'closed'`, skuID(sale[g].n)).Scan(&j.report.Sale.AtTheEnd)
		if err != nil || j.report.Sale.AtTheEnd > 0 {
			return err
		}
	}
	return nil // and the run is invalid
}

// lastUnit buys all that is left of a SKU, in orders of as much as a customer may have: T4,
// nobody is refused what is left, in the pool or in whatever bucket.
func (j *judge) lastUnit(ctx context.Context, id string) error {
	for {
		left, err := j.left(ctx, id)
		if err != nil || left == 0 {
			return err
		}
		n, _ := strconv.Atoi(strings.TrimPrefix(id, "sku"))
		b, units := j.shop.stranger(ctx), min(left, mostUnits)
		var a answer
		if err := persist(ctx, func() error {
			if a = b.ask(ctx, cartOf(n, int(units))); a.status == 0 || a.status >= http.StatusInternalServerError {
				return fmt.Errorf("buy the rest of %s: answer %d %s", id, a.status, a.code)
			}
			return nil
		}); err != nil {
			return err
		}
		if a.status != http.StatusCreated {
			j.report.violated("T4: %d units of %s are left, and %s/%s was told %s", left, id, b.customer, b.key, a.code)
			return nil
		}
	}
}

// left is how many units of a SKU are in pool and buckets, when it is sold: one that was sold
// out is sold again a moment after something came back.
func (j *judge) left(ctx context.Context, id string) (units int64, err error) {
	for end := time.Now().Add(reopenedWithin); ; {
		var closed bool
		err := j.db.QueryRowContext(ctx, `SELECT s.closed_until > 0, s.available + (
  SELECT COALESCE(SUM(b.remaining), 0)
  FROM stock_buckets b
  WHERE b.sku_id = s.sku_id
    AND b.state <> 'closed')
FROM skus s
WHERE s.sku_id = ?`, id).Scan(&closed, &units)
		if err != nil || units == 0 || !closed {
			return units, err
		}
		if time.Now().After(end) {
			j.report.violated("T4: %d units of %s are left, and it is sold out %s later", units, id, reopenedWithin)
			return 0, nil
		}
		if !sqldb.Sleep(ctx, quietEvery) {
			return 0, ctx.Err()
		}
	}
}

// SaleReport is what a run with a gate has met.
type SaleReport struct {
	// Kills is by the step at which a process killed itself, Faults by what was done.
	Kills  map[string]int `json:"kills"`
	Faults map[string]int `json:"faults"`
	// Decisions are lines of placements by mode and code, and Fenced the buckets that their
	// holders found closed, as the processes counted them: what one counted in the half second
	// before its kill is lost.
	Decisions map[string]int `json:"decisions"`
	Fenced    int            `json:"fenced"`
	// FromBuckets is units that were sold from buckets, Sold all that are sold in the end.
	// Granted and Recalled are moves between pools and buckets.
	FromBuckets int64 `json:"units_from_buckets"`
	Sold        int64 `json:"units_sold"`
	Granted     int64 `json:"grants"`
	Recalled    int64 `json:"closed_buckets"`
	// AtTheEnd is units that were in buckets when the last of a SKU were bought, for T4.
	AtTheEnd int64 `json:"units_in_buckets_at_the_end"`
}

// count reads what the database knows.
func (r *SaleReport) count(ctx context.Context, s *stage) error {
	return s.db.QueryRowContext(ctx, `SELECT
  (SELECT COALESCE(SUM(-delta), 0) FROM stock_flows WHERE bucket_id <> 0),
  (SELECT COUNT(*) FROM stock_moves WHERE cause = 'grant'),
  (SELECT COUNT(*) FROM stock_moves WHERE cause = 'close')`).Scan(&r.FromBuckets, &r.Granted, &r.Recalled)
}

// happened is what must have happened with the gate for a run to count.
func (r *SaleReport) happened(o *Options, shop *shop, m *meters) (all []Happened) {
	r.Decisions, r.Fenced = map[string]int{}, int(m.sum("orderd_gate_fenced_total"))
	for series, n := range m.series("orderd_gate_decisions_total{") {
		r.Decisions[decision(series)] += int(n)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		all = append(all, Happened{What: name, N: r.Faults[name], Need: o.rounds()})
	}
	share := func(of int) int { return max(1, of*o.Orders/needsOf) }
	if o.Rate > 0 {
		for _, what := range []string{"told to wait", "ordered after waiting", "withdrawn from the line"} {
			all = append(all, Happened{what, shop.counted(what), share(500)})
		}
	}
	return append(all,
		Happened{"units in buckets as the last are bought", int(r.AtTheEnd), 1},
		Happened{"units sold from buckets", int(r.FromBuckets), share(5_000)},
		Happened{"refused from memory: sold out", r.Decisions[o.Gate+" sold_out"], share(2_000)},
		Happened{"told that the limit is met", shop.counted("over the limit"), share(500)},
		Happened{"four orders of a customer at once", shop.counted("four orders of a customer at once"), share(500)},
		Happened{"buckets taken back", int(r.Recalled), share(200)})
}

// decision reads the labels of orderd_gate_decisions_total, such as "local taken".
func decision(series string) string {
	value := func(label string) string {
		_, rest, _ := strings.Cut(series, label+`="`)
		v, _, _ := strings.Cut(rest, `"`)
		return cmp.Or(v, "?")
	}
	return value("mode") + " " + value("code")
}

// text is the report's paragraph about the gate.
func (r *SaleReport) text(mode string) string {
	return fmt.Sprintf("Gate %s: %d units sold from buckets, %d sold in the end; %d grants, %d buckets closed, "+
		"%d of them found so by their holders.\nDecisions: %s.\nKilled at steps of the gate: %s.\n"+
		"Faults of the gate: %s.\n\n",
		mode, r.FromBuckets, r.Sold, r.Granted, r.Recalled, r.Fenced, list(r.Decisions), list(r.Kills), list(r.Faults))
}

// finals are the refusals of a placement that are final, and what the report calls them.
var finals = map[orderhttp.Code]string{
	orderhttp.CodeStockInsufficient: "sold out", orderhttp.CodeCustomerLimit: "over the limit",
}

// sold begins the report of a run with a gate.
func (n *nemesis) sold(o *Options) SaleReport {
	r := SaleReport{Kills: map[string]int{}, Faults: map[string]int{}}
	for _, step := range gateModes[o.sells()].steps {
		r.Kills[step] = n.killsAt(step)
	}
	for _, f := range o.saleFaults() {
		r.Faults[f.name] = n.saleFaults[f.name]
	}
	return r
}
