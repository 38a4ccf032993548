package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/stock"
	"orderd/stock/gate"
)

// way is one way to take stock in a comparison.
type way struct {
	name string
	// note is what the table has to say of it at so many SKUs; nil: nothing.
	note func(skus int) string
	// open makes it ready for a shop with so many SKUs.
	open func(ctx context.Context, shop *bench.Shop, skus int) (opened, error)
	// mayFail: this way gives up by design; the table counts what it gave up. A failure of
	// any other makes the figures void.
	mayFail bool
}

// opened is a way in use.
type opened struct {
	// loop gives what places order n, one unit each, for one measurement: its keys are its own.
	loop    func() func(ctx context.Context, n int64) error
	retried func() int64 // transactions run again so far; nil: it does not count them
	close   func()       // called after the last; nil: there is nothing to close
	// used says after the last measurement whether it did what it is called; nil: it cannot do
	// anything else.
	used func(ctx context.Context) error
}

// ways are compared in this order; the first is what the others are a multiple of. One
// that takes stock elsewhere, such as in buckets, is a line here: it writes the same
// rows, and shop.Verify holds it to them.
func ways() []way {
	return []way{
		naiveWay(bench.WayConditional, false),
		naiveWay(bench.WayPessimistic, false),
		naiveWay(bench.WayOptimistic, true),
		{name: "**group commit** (order.Service)", open: openService},
		{name: "**local** (order.Service, units in memory)", open: openLocal, note: gatesNote},
		{name: "**redis** (order.Service, units in Redis)", open: openRedis, note: gatesNote},
	}
}

// naiveWay is a transaction per order.
func naiveWay(w bench.Way, mayFail bool) way {
	return way{name: string(w), mayFail: mayFail, open: func(_ context.Context, shop *bench.Shop, skus int) (
		opened, error) {
		return opened{retried: shop.Naive.Retried, loop: func() func(context.Context, int64) error {
			return naivePlaceBy(shop.Naive, w, skus)
		}}, nil
	}}
}

// openService is the service as it is, with every decision in the ledger.
func openService(_ context.Context, shop *bench.Shop, skus int) (opened, error) {
	return opened{loop: func() func(context.Context, int64) error { return servicePlace(shop.Orders, skus) }}, nil
}

// gatesOf is how many of so many SKUs have a gate. A gate is for what is hot: the loop beside
// it asks for the units of each in a transaction of its own, and a process does not find more of
// them hot than this by itself.
func gatesOf(skus int) int { return min(skus, stock.MaxAutoGates) }

// gatesNote says that not every SKU has one.
func gatesNote(skus int) string {
	if n := gatesOf(skus); n < skus {
		return fmt.Sprintf(", %d of them with a gate", n)
	}
	return ""
}

// errNotGated: what was measured as a gate's was none.
var errNotGated = errors.New("not a unit came from a bucket: this was no measurement of a gate")

// openLocal is the service with units in the memory of its process. The other ways take turns
// on the same shop: what they find in the pool is less by what this one holds, of a thousand
// million units.
func openLocal(ctx context.Context, shop *bench.Shop, skus int) (opened, error) {
	return openGated(ctx, shop, skus, stock.GateLocal, gate.Config{})
}

// openRedis is the service with units in buckets in a Redis of its own.
func openRedis(ctx context.Context, shop *bench.Shop, skus int) (opened, error) {
	r, err := startSaleRedis(ctx)
	if err != nil {
		return opened{}, err
	}
	o, err := openGated(ctx, shop, skus, stock.GateRedis, r.gate(shop.DB.DB))
	if err != nil {
		r.stop()
		return opened{}, err
	}
	end := o.close
	o.close = func() { end(); r.stop() }
	return o, nil
}

// openGated is a service whose process has a gate of this mode for the SKUs that get one. A
// process without a Redis sells what has a gate in mode redis from its memory, so that both kinds
// take turns on the same SKUs.
func openGated(ctx context.Context, shop *bench.Shop, skus int, mode stock.GateMode, c gate.Config) (opened, error) {
	s, err := bench.NewGated(ctx, shop.Config, c)
	if err != nil {
		return opened{}, err
	}
	o := opened{close: s.Close, loop: func() func(context.Context, int64) error { return servicePlace(s.Orders, skus) }}
	o.used = func(ctx context.Context) error { return usedBuckets(ctx, shop.DB.DB, mode) }
	for i := range gatesOf(skus) {
		if err = bench.OpenGate(ctx, shop.DB.DB, bench.SKU(i), mode, 1); err == nil {
			err = s.Await(ctx, bench.SKU(i))
		}
		if err != nil {
			s.Close()
			return opened{}, err
		}
	}
	return o, nil
}

// usedBuckets is an error when no unit was sold from buckets as a gate of this mode has them.
func usedBuckets(ctx context.Context, db *sqldb.DB, mode stock.GateMode) error {
	n, err := bench.FromBuckets(ctx, db, mode)
	if err == nil && n == 0 {
		err = fmt.Errorf("mode %s: %w", mode, errNotGated)
	}
	return err
}

// waysPlan says how ways are measured.
type waysPlan struct {
	length time.Duration // of one measurement
	rounds int
	among  []int // the numbers of callers among which a way's best is looked for
}

// compareWays prints the table of all ways, for one hot SKU and for many, and verifies
// every invariant after each.
func (p *placeCmd) compareWays(ctx context.Context, server *bench.Server, set *bench.Settings) error {
	bench.Header("way", "callers", "orders/s", "p50", "p99", "retries / failed", "ratio")
	// A single caller, and fourfold each time up to more than a pool of connections has.
	plan := waysPlan{length: set.Length(), rounds: set.Rounds, among: []int{1, 4, 16, 64, 256}}
	for _, skus := range hotAndMany {
		runs, err := p.measureWays(ctx, server, skus, plan)
		if err != nil {
			return err
		}
		for _, r := range runs {
			r.row(skus, runs[0].sample.Rate())
		}
		if err := gaveUp(runs); err != nil {
			return err
		}
	}
	return nil
}

// wayRun is a way with so many callers, and what was measured.
type wayRun struct {
	way     way
	opened  opened
	callers int
	best    bool // with these callers it does best
	sample  bench.Sample
}

// measureWays finds for each way the number of callers at which it does best, then measures
// all ways in turns, at their best and with the callers that were asked for. The first of
// what it gives is the first way at its best.
func (p *placeCmd) measureWays(ctx context.Context, server *bench.Server, skus int, plan waysPlan) (
	[]wayRun, error) {
	shop, err := p.shop(ctx, server, skus)
	if err != nil {
		return nil, err
	}
	defer shop.Close()
	var runs []wayRun
	for _, w := range ways() {
		o, err := w.open(ctx, shop, skus)
		if err != nil {
			return nil, err
		}
		if o.close != nil {
			defer o.close()
		}
		best, err := plan.best(ctx, o)
		if err != nil {
			return nil, err
		}
		runs = append(runs, wayRun{way: w, opened: o, callers: best, best: true})
		if best != p.Callers {
			runs = append(runs, wayRun{way: w, opened: o, callers: p.Callers})
		}
	}
	var sides []func() (bench.Sample, error)
	for _, r := range runs {
		sides = append(sides, func() (bench.Sample, error) { return r.measure(ctx, plan.length), nil })
	}
	samples, err := bench.Turns(plan.rounds, sides...)
	if err != nil {
		return nil, err
	}
	for i := range runs {
		runs[i].sample = samples[i]
		if used := runs[i].opened.used; used != nil {
			if err := used(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", runs[i].way.name, err)
			}
		}
	}
	return runs, shop.Verify(ctx)
}

// best gives the number of callers at which a way does best. The candidates take two
// turns, of which the better one counts: the first meets a cold server.
func (p waysPlan) best(ctx context.Context, o opened) (int, error) {
	rates := map[int]float64{}
	for range 2 {
		for _, callers := range p.among {
			s := bench.ClosedLoop(ctx, callers, p.length/2, o.loop()) // half suffices to rank them
			rates[callers] = max(rates[callers], s.Rate())
		}
	}
	return bench.Best(p.among, func(callers int) (float64, error) { return rates[callers], nil })
}

// measure is one round.
func (r wayRun) measure(ctx context.Context, length time.Duration) bench.Sample {
	if r.opened.retried == nil {
		return bench.ClosedLoop(ctx, r.callers, length, r.opened.loop())
	}
	before := r.opened.retried()
	s := bench.ClosedLoop(ctx, r.callers, length, r.opened.loop())
	s.Retried = r.opened.retried() - before
	return s
}

// gaveUp is an error when a way failed that must not.
func gaveUp(runs []wayRun) error {
	for _, r := range runs {
		if r.sample.Failed > 0 && !r.way.mayFail {
			return fmt.Errorf("%d placements failed: %s, %d callers", r.sample.Failed, r.way.name, r.callers)
		}
	}
	return nil
}

// row prints the median round; base is the rate of which it is a multiple.
func (r wayRun) row(skus int, base float64) {
	name, retried := fmt.Sprintf("%d SKU, %s", skus, r.way.name), "–"
	if r.way.note != nil {
		name += r.way.note(skus)
	}
	if r.best {
		name += " (its best)"
	}
	if r.opened.retried != nil {
		retried = fmt.Sprint(r.sample.Retried)
	}
	bench.Row(name, r.callers, r.sample.Rate(), r.sample.P50, r.sample.P99,
		fmt.Sprintf("%s / %d", retried, r.sample.Failed), fmt.Sprintf("%.2f ×", r.sample.Rate()/base))
}
