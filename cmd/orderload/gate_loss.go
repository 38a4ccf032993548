package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/stock"
	"orderd/stock/gate"
)

// redisSale is a sale in mode redis over several processes' worth of services, each with pools,
// buckets and a view of Redis of its own.
type redisSale struct {
	shop  *bench.Shop
	redis *saleRedis
	pods  []*bench.Gated
	admin *stock.Admin
}

// startRedisSale begins one with so many buckets; the caller ends it.
func startRedisSale(ctx context.Context, shop *bench.Shop, processes int, buckets int64) (*redisSale, error) {
	err := errors.Join(putSKU(ctx, shop.DB.DB, hotSKU, plenty),
		bench.OpenGate(ctx, shop.DB.DB, hotSKU, stock.GateRedis, buckets))
	if err != nil {
		return nil, err
	}
	r, err := startSaleRedis(ctx)
	if err != nil {
		return nil, err
	}
	s := &redisSale{shop: shop, redis: r, admin: stock.NewAdmin(shop.DB.DB, time.Now)}
	for range processes {
		pod, err := bench.NewGated(ctx, shop.Config, r.gate(shop.DB.DB))
		if err != nil {
			s.end()
			return nil, err
		}
		s.pods = append(s.pods, pod)
	}
	if _, err := s.routed(ctx, buckets); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// end ends it.
func (s *redisSale) end() {
	for _, p := range s.pods {
		p.Close()
	}
	s.redis.stop()
}

// saleFound bounds the wait until all processes sell from the buckets that there should be.
const saleFound = 2 * time.Minute

// routed waits until every process gives out units of each of so many buckets of the gate's epoch,
// and of none besides them. It gives how long that took.
func (s *redisSale) routed(ctx context.Context, buckets int64) (time.Duration, error) {
	begun := time.Now()
	for ; ; sqldb.Sleep(ctx, 5*time.Millisecond) {
		g, found, err := s.admin.FindGate(ctx, hotSKU)
		if err != nil || !found {
			return 0, errors.Join(err, ctx.Err())
		}
		if !slices.ContainsFunc(s.pods, func(p *bench.Gated) bool { return !sells(p, &g, buckets) }) {
			return time.Since(begun), nil
		}
		if time.Since(begun) > saleFound {
			return 0, fmt.Errorf("%w: %d buckets are not sold from everywhere within %s", errSale, buckets, saleFound)
		}
	}
}

// sells reports that a process gives out units of all the buckets of the epoch of a gate, and of
// no others. It asks as so many buyers that each bucket has some, and gives the units back.
func sells(p *bench.Gated, g *stock.Gate, buckets int64) bool {
	wanted := map[int64]bool{}
	for no := range buckets {
		wanted[stock.SharedBucket(hotSKU, g.Epoch, no)] = true
	}
	missing := len(wanted)
	k := newKeys()
	for range askedPerBucket * buckets {
		asked := k.next(hotSKU)
		t := p.Gate.Take(&gate.Claim{CustomerID: asked.CustomerID, RequestID: asked.RequestID, Lines: asked.Lines,
			OrderNo: ulid.Make().String()})
		p.Gate.Settle(t, gate.Unused)
		if len(t.Buckets) != 1 {
			return false
		}
		first, of := wanted[t.Buckets[0]]
		if !of {
			return false
		}
		if first {
			wanted[t.Buckets[0]] = false
			missing--
		}
		if missing == 0 {
			return true
		}
	}
	return false
}

// askedPerBucket buyers leave no bucket out but once in ten million times.
const askedPerBucket = 16

// saleLoad is buyers that go on until they are stopped.
type saleLoad struct {
	sold, failed atomic.Int64
	stopped      atomic.Bool
	wg           sync.WaitGroup

	mu    sync.Mutex
	last  time.Time
	pause time.Duration // the longest time in which nobody was sold anything, since it was last asked for
	why   error         // of the first that failed
}

// buy begins the load: so many callers at every process.
func (s *redisSale) buy(ctx context.Context, callers int) *saleLoad {
	l := &saleLoad{last: time.Now()}
	k := newKeys()
	for _, p := range s.pods {
		for range callers {
			l.wg.Go(func() {
				for !l.stopped.Load() && ctx.Err() == nil {
					l.note(placeFresh(ctx, p.Orders, k.next(hotSKU)))
				}
			})
		}
	}
	return l
}

// note counts a call.
func (l *saleLoad) note(err error) {
	now := time.Now()
	if err == nil {
		l.sold.Add(1)
	} else {
		l.failed.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.why = cmp.Or(l.why, err)
		return
	}
	l.pause, l.last = max(l.pause, now.Sub(l.last)), now
}

// longest gives the longest pause since it was last asked for.
func (l *saleLoad) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := max(l.pause, time.Since(l.last))
	l.pause, l.last = 0, time.Now()
	return pause
}

// stop ends the load. It is an error when a call failed, or when an answered order is not there.
func (l *saleLoad) stop(ctx context.Context, db *sqldb.DB) error {
	l.stopped.Store(true)
	l.wg.Wait()
	var rows int64
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM order_items WHERE sku_id = ?", hotSKU).Scan(&rows)
	if n := l.failed.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d placements failed, the first: %w", errSale, n, l.why))
	}
	if sold := l.sold.Load(); err == nil && rows != sold {
		err = fmt.Errorf("%w: %d orders were answered, %d are there", errSale, sold, rows)
	}
	return err
}

// settled ends the sale's gate and is an error when a bucket holds anything afterwards, or Redis
// held what the rows did not before.
func (s *redisSale) settled(ctx context.Context) error {
	err := s.redis.verify(ctx, s.shop.DB.DB)
	_, offErr := s.admin.SetGate(ctx, stock.GateChange{SkuID: hotSKU, Mode: stock.GateOff, Actor: "cli:orderload",
		Reason: "a measurement"})
	var held int64
	countErr := s.shop.DB.QueryRowContext(ctx, `SELECT COALESCE(SUM(remaining), 0)
FROM stock_buckets`).Scan(&held)
	if held > 0 {
		countErr = fmt.Errorf("%w: %d units are stranded", errSale, held)
	}
	return errors.Join(err, offErr, countErr)
}

// gateBucketsCmd is "orderload gate buckets": the buckets of a sale scaled up and down under load.
type gateBucketsCmd struct {
	Processes int     `default:"2" help:"Services, each with pools and a view of Redis of its own."`
	Callers   int     `default:"32" help:"Callers of each."`
	To        []int64 `default:"16,1,8,1" help:"Numbers of buckets, one after the other; the sale begins with one."`
}

// Run scales a sale. An order that fails, or a unit that is stranded, is an error.
func (c *gateBucketsCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{"buckets", "sold by every process from all of them after", "nobody was sold anything for",
		"orders/s meanwhile", "failed"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return c.measure(ctx, set, shop)
	})
}

// measure scales once for each number, and lets the sale go on for a second's part after each.
func (c *gateBucketsCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) (
	rows []gateRow, err error) {
	s, err := startRedisSale(ctx, shop, c.Processes, 1)
	if err != nil {
		return nil, err
	}
	defer s.end()
	load := s.buy(ctx, c.Callers)
	defer func() { err = errors.Join(err, load.stop(ctx, shop.DB.DB), s.settled(ctx)) }()
	before := int64(1)
	for _, to := range c.To {
		sqldb.Sleep(ctx, set.Length()/4)
		load.longest()
		sold, begun := load.sold.Load(), time.Now()
		if err := bench.OpenGate(ctx, shop.DB.DB, hotSKU, stock.GateRedis, to); err != nil {
			return rows, err
		}
		took, err := s.routed(ctx, to)
		if err != nil {
			return rows, err
		}
		sqldb.Sleep(ctx, set.Length()/4)
		rate := float64(load.sold.Load()-sold) / time.Since(begun).Seconds()
		rows = append(rows, gateRow{fmt.Sprintf("%d to %d", before, to), []any{took, load.longest(), rate,
			load.failed.Load()}})
		before = to
	}
	return rows, nil
}

// gateLossCmd is "orderload gate loss": Redis loses everything, and dies, in the middle of a sale.
type gateLossCmd struct {
	Processes int   `default:"2" help:"Services, each with pools and a view of Redis of its own."`
	Callers   int   `default:"32" help:"Callers of each."`
	Orders    int64 `default:"100000" help:"Orders of the sale before the first loss."`
	Buckets   int64 `default:"4" help:"Buckets of the sale."`
}

// Run loses Redis once a round in each way. An order that fails or is lost is an error.
func (c *gateLossCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{"loss", "orders before", "nobody was sold anything for", "sold from all buckets again after",
		"against reading and writing the history"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return c.measure(ctx, set, shop)
	})
}

// measure loses Redis while the sale goes on.
func (c *gateLossCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) (
	rows []gateRow, err error) {
	s, err := startRedisSale(ctx, shop, c.Processes, c.Buckets)
	if err != nil {
		return nil, err
	}
	defer s.end()
	load := s.buy(ctx, c.Callers)
	defer func() { err = errors.Join(err, load.stop(ctx, shop.DB.DB), s.settled(ctx)) }()
	for load.sold.Load() < c.Orders && ctx.Err() == nil {
		sqldb.Sleep(ctx, 10*time.Millisecond)
	}
	history, err := s.history(ctx)
	if err != nil {
		return nil, err
	}
	rows = append(rows, gateRow{"no loss: the history of the sale read from MySQL and written to Redis",
		[]any{load.sold.Load(), "–", history, "**1.00 ×**"}})
	losses := []struct {
		name string
		lose func() error
		base time.Duration
	}{
		{"FLUSHALL", func() error { return s.redis.client.FlushAll(ctx).Err() }, history},
		{"kill -9, back after a second", func() error {
			s.redis.Kill()
			sqldb.Sleep(ctx, time.Second)
			return s.redis.Start(ctx)
		}, 0}, // most of it is waiting for a Redis that stays
	}
	for round := range set.Rounds {
		for _, l := range losses {
			sqldb.Sleep(ctx, set.Length()/4)
			load.longest()
			orders := load.sold.Load()
			if err := l.lose(); err != nil {
				return rows, err
			}
			took, err := s.routed(ctx, c.Buckets)
			if err != nil {
				return rows, err
			}
			rows = append(rows, gateRow{fmt.Sprintf("%s, round %d", l.name, round+1), []any{orders, load.longest(),
				took, ratio(float64(took), float64(l.base))}})
		}
	}
	return rows, nil
}

// history is the time in which what a sale has sold is read from the database and written to
// Redis, which a home that must know it to sell again could not do in less.
func (s *redisSale) history(ctx context.Context) (time.Duration, error) {
	const page = 1000
	begun := time.Now()
	rows, err := s.shop.DB.QueryContext(ctx, "SELECT order_no, delta FROM stock_flows WHERE sku_id = ?", hotSKU)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var fields []any
	write := func(at int) error {
		if len(fields) < at {
			return nil
		}
		err := s.redis.client.HSet(ctx, "history", fields...).Err()
		fields = fields[:0]
		return err
	}
	for rows.Next() {
		var no string
		var units int64
		if err := rows.Scan(&no, &units); err != nil {
			return 0, err
		}
		fields = append(fields, no, units)
		if err := write(2 * page); err != nil {
			return 0, err
		}
	}
	return time.Since(begun), errors.Join(rows.Err(), write(1))
}
