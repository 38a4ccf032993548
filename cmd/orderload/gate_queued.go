package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
)

const (
	// queuedSeconds is how long the rate of a sale whose queue is measured would need for all that come: few are
	// ordered at once on any machine, and the queue, of 100 s, has room for twice as many. Its drainers know of
	// no rate.
	queuedSeconds = 50
	// queuedBuckets is how many queues there are.
	queuedBuckets = 2
	// queuedEach is how many placements each caller makes.
	queuedEach = 8
	// drainers make the orders, and each claims so many at once as a worker does.
	drainers, drainBatch = 2, 256
	// drainedWithin bounds the time until orders were made of all that waits.
	drainedWithin = 5 * time.Minute
	// lookForOrders is the time between two looks whether all orders are there.
	lookForOrders = 20 * time.Millisecond
)

// measureQueued has all callers of all processes place at once, most of whom are told to wait, and two
// drainers make the orders meanwhile: from the first request to the last order. Beside it one process with
// as many callers as each of them, without a gate.
func (c *gateScaleCmd) measureQueued(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	r, err := startSaleRedis(ctx)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	f, err := startSaleFleet(ctx, shop.DB, c.Processes, c.Delay, "--redis", r.Addr)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	k := newKeys()
	alone := func() (bench.Sample, error) {
		return bench.ClosedLoop(ctx, c.Callers, set.Length(), func(ctx context.Context, _ int64) error {
			return placeFresh(ctx, shop.Orders, k.next(bench.SKU(0)))
		}), nil
	}
	sum, round := newSaleReport(), 0
	queued := func() (bench.Sample, error) {
		round++
		one, err := c.queuedRound(ctx, shop, r, f, fmt.Sprint(hotSKU, round))
		sum.add(&one)
		n, _ := one.failed()
		return bench.Sample{Done: one.Sold + one.Queued, Failed: n, Took: one.Took, P50: quantile(one.Sales, 50),
			P99: quantile(one.Sales, 99)}, err
	}
	one, all, err := bench.TakeTurns(set.Rounds, alone, queued)
	if err != nil {
		return nil, err
	}
	_, kinds := sum.failed()
	rows := []gateRow{
		{fmt.Sprintf("one process × %d callers, no gate", c.Callers), []any{one.Rate(), one.P50, one.P99,
			fmt.Sprint(one.Failed), ratio(one.Rate(), one.Rate())}},
		{fmt.Sprintf("**redis, queued**, %d drainers; p50 and p99 of being told", drainers), []any{all.Rate(), all.P50,
			all.P99, strings.TrimSpace(kinds), ratio(all.Rate(), one.Rate())}},
	}
	if sum.Queued == 0 {
		return rows, fmt.Errorf("%w: nobody was told to wait", errSale)
	}
	return rows, noneFailed("one process", one)
}

// queuedRound is a sale of one SKU from the first request to the last order.
func (c *gateScaleCmd) queuedRound(ctx context.Context, shop *bench.Shop, r *saleRedis, f *saleFleet,
	sku string) (sum saleReport, err error) {
	if err := putSKU(ctx, shop.DB.DB, sku, plenty); err != nil {
		return sum, err
	}
	rate := int64(c.Processes*c.Callers*queuedEach/queuedSeconds) + 1
	_, err = stock.NewAdmin(shop.DB.DB, time.Now).SetGate(ctx, stock.GateChange{SkuID: sku, Mode: stock.GateRedis,
		Buckets: queuedBuckets, Rate: rate, Actor: "cli:orderload", Reason: "a measurement"})
	if err != nil {
		return sum, err
	}
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	for range drainers {
		s, err := bench.NewService(order.Config{DB: shop.DB.DB})
		if err != nil {
			return sum, err
		}
		home := homeIn(shop.DB.DB, r.client)
		if err := home.Keep(ctx, nil); err != nil { // no gate is known to it, and no rate
			return sum, err
		}
		all.Go(func() { defer s.Close(); drainAll(ctx, s, home) })
	}
	begun := time.Now()
	sum, err = f.run(ctx, saleJob{SKU: sku, Gated: true, Callers: c.Callers, Requests: c.Callers * queuedEach})
	var rows int64
	for end := time.Now().Add(drainedWithin); err == nil; sqldb.Sleep(ctx, lookForOrders) {
		err = shop.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM order_items WHERE sku_id = ?", sku).Scan(&rows)
		if rows >= sum.Sold+sum.Queued || time.Now().After(end) {
			break
		}
	}
	sum.Took = time.Since(begun)
	if n, kinds := sum.failed(); err == nil && (rows != sum.Sold+sum.Queued || n > 0) {
		err = fmt.Errorf("%w: %d ordered and %d told to wait, %d orders; failed%s", errSale, sum.Sold, sum.Queued,
			rows, kinds)
	}
	return sum, err
}

// drainAll makes orders of what waits until ctx ends, as a worker does.
func drainAll(ctx context.Context, s *order.Service, queue gate.Queue) {
	for ctx.Err() == nil {
		entries, err := queue.Claim(ctx, drainBatch)
		if err != nil || len(entries) == 0 {
			sqldb.Sleep(ctx, time.Millisecond)
			continue
		}
		placed := make([]bool, len(entries))
		var all sync.WaitGroup
		for i, e := range entries {
			all.Go(func() {
				for ctx.Err() == nil && !placed[i] { // what is of the moment is tried again
					problem, err := s.PlaceQueued(ctx, e)
					placed[i] = err == nil && problem == nil
				}
			})
		}
		all.Wait()
		if ctx.Err() != nil {
			return
		}
		for err := errors.New("not told yet"); err != nil && ctx.Err() == nil; {
			err = queue.Done(ctx, entries)
		}
	}
}
