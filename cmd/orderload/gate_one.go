package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
)

// gateDurableCmd is "orderload gate durable": accepted and committed, in one process.
type gateDurableCmd struct {
	Callers int `default:"256" help:"Callers of order.Service."`
}

// Run measures one SKU sold by the ledger and by gates, beside raw rows.
func (d *gateDurableCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{"committed", "callers", "orders/s", "p50", "p99", "against group commit", "against raw rows"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return d.measure(ctx, set, shop)
	})
}

// plenty of units: no measurement sells them out.
const plenty = 100_000_000

// rawRows is the same rows by as few statements as there can be.
func rawRows(ctx context.Context, raw *bench.Raw, writers int, length time.Duration) bench.Sample {
	run := ulid.Make().String()
	s := bench.ClosedLoop(ctx, writers, length, func(ctx context.Context, n int64) error {
		batch := make([]bench.NaivePlacement, bench.RawBatch)
		for i := range batch {
			batch[i] = bench.NewNaivePlacement(customer(n), fmt.Sprint(run, "-", n, "-", i), bench.SKU(0))
		}
		return raw.Insert(ctx, batch)
	})
	s.Done *= bench.RawBatch
	return s
}

// durableServices opens the services that are measured: one that sells the hot SKU from its
// memory, one from a Redis of its own. The gate is of mode redis, which the first has none for.
func durableServices(ctx context.Context, shop *bench.Shop) (local, shared *bench.Gated, end func(), err error) {
	err = errors.Join(putSKU(ctx, shop.DB.DB, hotSKU, plenty),
		bench.OpenGate(ctx, shop.DB.DB, hotSKU, stock.GateRedis, 1))
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := startSaleRedis(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	var all []*bench.Gated
	end = func() {
		for _, s := range all {
			s.Close()
		}
		r.stop()
	}
	for _, c := range []gate.Config{{NoAuto: true}, r.gate(shop.DB.DB)} {
		s, err := bench.NewGated(ctx, shop.Config, c)
		if err == nil {
			all = append(all, s)
			err = s.Await(ctx, hotSKU)
		}
		if err != nil {
			end()
			return nil, nil, nil, err
		}
	}
	return all[0], all[1], end, nil
}

// measure takes turns with the four.
func (d *gateDurableCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	local, shared, end, err := durableServices(ctx, shop)
	if err != nil {
		return nil, err
	}
	defer end()
	raw, err := bench.NewRaw(ctx, shop.Naive)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	writers, err := bench.Best([]int{1, 2, 4, 8}, func(n int) (float64, error) {
		return rawRows(ctx, raw, n, set.Length()/2).Rate(), nil
	})
	if err != nil {
		return nil, err
	}
	place := func(s *order.Service, sku string) func() (bench.Sample, error) {
		return func() (bench.Sample, error) {
			k := newKeys()
			return bench.ClosedLoop(ctx, d.Callers, set.Length(), func(ctx context.Context, _ int64) error {
				return placeFresh(ctx, s, k.next(sku))
			}), nil
		}
	}
	samples, err := bench.Turns(set.Rounds,
		func() (bench.Sample, error) { return rawRows(ctx, raw, writers, set.Length()), nil },
		place(shop.Orders, bench.SKU(0)), place(local.Orders, hotSKU), place(shared.Orders, hotSKU))
	if err != nil {
		return nil, err
	}
	names := []string{fmt.Sprintf("raw rows, %d in a transaction (its best)", bench.RawBatch),
		"group commit (no gate)", "**local**", "**redis**"}
	callers := []int{writers, d.Callers, d.Callers, d.Callers}
	var rows []gateRow
	for i, one := range samples {
		rows = append(rows, gateRow{names[i], []any{callers[i], one.Rate(), one.P50, one.P99,
			ratio(one.Rate(), samples[1].Rate()), ratio(one.Rate(), samples[0].Rate())}})
		err = errors.Join(err, noneFailed(names[i], one))
	}
	return rows, errors.Join(err, usedBuckets(ctx, shop.DB.DB, stock.GateLocal),
		usedBuckets(ctx, shop.DB.DB, stock.GateRedis))
}

// gateBesideCmd is "orderload gate beside": what buyers of other SKUs feel of a hot one.
type gateBesideCmd struct {
	Rate  int   `default:"200" help:"Ordinary placements a second."`
	Hot   int   `default:"20000" help:"Requests a second for the hot SKU."`
	Units int64 `default:"2000" help:"Units of the hot SKU in each round: the rest is refused."`
}

// Run measures ordinary placements in a quiet process and beside a sale, in turns.
func (b *gateBesideCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{"placements of other SKUs", "a second", "p50", "p99", "the hot SKU", "p99 against quiet"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return b.measure(ctx, set, shop)
	})
}

// measure takes turns; each round sells a hot SKU of its own.
func (b *gateBesideCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	s, err := bench.NewGated(ctx, shop.Config, gate.Config{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	ordinary := func() bench.Sample {
		k := newKeys()
		n := int(set.Length().Seconds() * float64(b.Rate))
		return bench.Paced(ctx, n, set.Length(), saleCallers, func(ctx context.Context, _ time.Time) error {
			return placeFresh(ctx, s.Orders, k.next(bench.SKU(0)))
		})
	}
	var round, sold, asked atomic.Int64
	beside := func() (bench.Sample, error) {
		sku := fmt.Sprint(hotSKU, round.Add(1))
		if err := putHot(ctx, shop.DB.DB, sku, b.Units); err != nil {
			return bench.Sample{}, err
		}
		if err := s.Await(ctx, sku); err != nil {
			return bench.Sample{}, err
		}
		ended := make(chan bench.Sample)
		go func() {
			k := newKeys()
			n := int(set.Length().Seconds() * float64(b.Hot))
			ended <- bench.Paced(ctx, n, set.Length(), saleCallers, func(ctx context.Context, _ time.Time) error {
				asked.Add(1)
				err := placeFresh(ctx, s.Orders, k.next(sku))
				if err == nil {
					sold.Add(1)
					return nil
				}
				return refused(err)
			})
		}()
		one := ordinary()
		hot := <-ended
		if err := noneFailed("requests for the hot SKU", hot); err != nil {
			return one, err
		}
		return one, nil
	}
	samples, err := bench.Turns(set.Rounds, func() (bench.Sample, error) { return ordinary(), nil }, beside)
	if err != nil {
		return nil, err
	}
	quiet, busy := samples[0], samples[1]
	seconds := set.Length().Seconds() * float64(set.Rounds)
	rows := []gateRow{
		{"quiet", []any{quiet.Rate(), quiet.P50, quiet.P99, "–", "1"}},
		{"**beside a sale**", []any{busy.Rate(), busy.P50, busy.P99, fmt.Sprintf("%.0f requests a second, %d sold",
			float64(asked.Load())/seconds, sold.Load()), ratio(float64(busy.P99), float64(quiet.P99))}},
	}
	if most := b.Units * round.Load(); sold.Load() > most {
		err = fmt.Errorf("%w: %d sold of %d", errSale, sold.Load(), most)
	}
	return rows, errors.Join(err, noneFailed("quiet", quiet), noneFailed("beside", busy))
}

// saleCallers carry requests that come at a rate: as many as may be under way at once.
const saleCallers = 256

// gateIdleCmd is "orderload gate idle": the price of a gate for who sells nothing hot.
type gateIdleCmd struct {
	Callers int `default:"256" help:"Callers of order.Service, for the rate."`
}

// keeperUser is the user of the pool of a gate's loop, by which its statements are counted.
const keeperUser = "keeper"

// Run measures a process without a gate and one whose gate has nothing to do, in turns.
func (i *gateIdleCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{"placement", "callers", "orders/s", "p50", "p99", "statements a second of the gate's loop",
		"ratio"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return i.measure(ctx, set, shop)
	})
}

// measure takes turns, first with one caller, then with many.
func (i *gateIdleCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	db, err := shop.DB.As(ctx, keeperUser)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	// A person has said that the SKU has no gate, or it would be found hot: what finds that runs.
	_, err = stock.NewAdmin(db, time.Now).SetGate(ctx, stock.GateChange{SkuID: bench.SKU(0), Mode: stock.GateOff,
		Actor: "cli:orderload", Reason: "a measurement"})
	if err != nil {
		return nil, err
	}
	s, err := bench.NewGated(ctx, shop.Config, gate.Config{DB: db})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	side := func(s *order.Service, callers int) func() (bench.Sample, error) {
		return func() (bench.Sample, error) {
			k := newKeys()
			return bench.ClosedLoop(ctx, callers, set.Length(), func(ctx context.Context, _ int64) error {
				return placeFresh(ctx, s, k.next(bench.SKU(0)))
			}), nil
		}
	}
	before, err := shop.DB.Statements(ctx, keeperUser)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	var rows []gateRow
	for _, callers := range []int{1, i.Callers} {
		n, o, err := bench.TakeTurns(set.Rounds, side(shop.Orders, callers), side(s.Orders, callers))
		if err != nil {
			return rows, err
		}
		against := "rate " + ratio(o.Rate(), n.Rate())
		if callers == 1 {
			against = "p50 " + ratio(float64(o.P50), float64(n.P50))
		}
		rows = append(rows, gateRow{"no gate in the process", []any{callers, n.Rate(), n.P50, n.P99, "–", "1"}},
			gateRow{"**a gate with nothing to do**", []any{callers, o.Rate(), o.P50, o.P99, "", against}})
		if err := errors.Join(noneFailed("no gate", n), noneFailed("a gate", o)); err != nil {
			return rows, err
		}
	}
	after, err := shop.DB.Statements(ctx, keeperUser)
	if err == nil && after == before {
		err = errors.New("the gate's loop sent nothing: it does not run")
	}
	rows[1].cells[4] = fmt.Sprintf("%.1f", float64(after-before)/time.Since(begin).Seconds())
	return rows, err
}
