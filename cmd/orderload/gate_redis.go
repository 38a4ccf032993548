package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/go-redis/v9"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/stock"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// saleRedis is a private Redis for the buckets of a measurement.
type saleRedis struct {
	*servers.Redis
	client *redis.Client
}

// startSaleRedis starts one, with these options; the caller stops it.
func startSaleRedis(ctx context.Context, options ...string) (*saleRedis, error) {
	dir, err := os.MkdirTemp("", "orderload-redis-")
	if err != nil {
		return nil, err
	}
	server, err := servers.StartRedis(ctx, dir, options...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a private Redis (Debian's redis-server is needed): %w", err),
			os.RemoveAll(dir))
	}
	return &saleRedis{server, redis.NewClient(&redis.Options{Addr: server.Addr})}, nil
}

// stop ends it.
func (r *saleRedis) stop() {
	_ = r.client.Close() // of a server that ends
	r.Stop()
}

// homeIn is what a process has of the gates whose buckets are in a Redis.
func homeIn(db *sqldb.DB, client redis.UniversalClient) *redisgate.Shared {
	return redisgate.NewShared(redisgate.SharedConfig{DB: db, Client: client, Now: time.Now})
}

// gate gives the configuration of a process whose gates in mode redis have their buckets here.
func (r *saleRedis) gate(db *sqldb.DB) gate.Config {
	return gate.Config{NoAuto: true, Shared: homeIn(db, r.client)}
}

// verify is an error when a bucket holds what its row does not.
func (r *saleRedis) verify(ctx context.Context, db *sqldb.DB) error {
	found, err := homeIn(db, r.client).Verify(ctx)
	if broken := found.Broken(); len(broken) > 0 {
		err = fmt.Errorf("%w: Redis and the database differ: %+v", errSale, broken)
	}
	return err
}

// gateDecideCmd is "orderload gate decide": what Redis decides by itself, before the database.
type gateDecideCmd struct {
	Pipeline int `default:"16" help:"Calls that redis-benchmark sends at once."`
	Callers  int `default:"4" help:"Calls of orderd's script under way at once; each is for 128 orders."`
}

// Run measures orderd's script beside the seed's. There is no database: nothing is verified.
func (d *gateDecideCmd) Run(ctx context.Context, set *bench.Settings) error {
	rows, err := d.measure(ctx, set)
	printGate([]string{"decided in Redis", "orders/s", "p50 of a call", "p99 of a call", "ratio"}, rows)
	return err
}

// measure takes turns with the sides of two servers, of which one writes to its disk before it
// answers.
func (d *gateDecideCmd) measure(ctx context.Context, set *bench.Settings) ([]gateRow, error) {
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return nil, errors.New("redis-benchmark is not installed: install Debian's redis-tools")
	}
	memory, err := startSaleRedis(ctx)
	if err != nil {
		return nil, err
	}
	defer memory.stop()
	disk, err := startSaleRedis(ctx, "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		return nil, err
	}
	defer disk.stop()
	seed, err := newRedisBenchmark(ctx, memory, d.Pipeline, plenty)
	if err != nil {
		return nil, err
	}
	names := []string{fmt.Sprintf("the seed's script, redis-benchmark -P %d: accepted", d.Pipeline),
		fmt.Sprintf("**accepted**, with flow and ticket, %d in a call", redisgate.MaxBatch), "**sold out**",
		"**accepted**, appendfsync always"}
	samples, err := bench.Turns(set.Rounds,
		func() (bench.Sample, error) { return seed.run(ctx, set.Length()) },
		d.side(ctx, set, memory, plenty), d.side(ctx, set, memory, 0), d.side(ctx, set, disk, plenty))
	if err != nil {
		return nil, err
	}
	var rows []gateRow
	for i, s := range samples {
		rows = append(rows, gateRow{names[i], []any{s.Rate(), s.P50, s.P99, ratio(s.Rate(), samples[0].Rate())}})
		err = errors.Join(err, noneFailed(names[i], s))
	}
	return rows, err
}

// side measures calls of Deduct to a bucket with so many units, in which every opening is new.
func (d *gateDecideCmd) side(ctx context.Context, set *bench.Settings, r *saleRedis, units int64) func() (
	bench.Sample, error) {
	home := redisgate.New(r.client, "")
	var openings int64
	return func() (bench.Sample, error) {
		openings++
		b := redisgate.Bucket{Sale: fmt.Sprint("sale", units), Token: openings}
		if err := openBucket(ctx, home, b, units); err != nil {
			return bench.Sample{}, err
		}
		var n atomic.Int64
		s := bench.ClosedLoop(ctx, d.Callers, set.Length(), func(ctx context.Context, _ int64) error {
			orders := newOrders(n.Add(redisgate.MaxBatch))
			replies, err := home.Deduct(ctx, b, redisgate.Pace{}, orders)
			if err != nil {
				return err
			}
			for i := range replies {
				if replies[i].Taken() != (units > 0) {
					return fmt.Errorf("%w: reply %+v of a bucket with %d units", errSale, replies[i], units)
				}
			}
			return nil
		})
		s.Done *= redisgate.MaxBatch
		return s, nil
	}
}

// openBucket opens a bucket of the hot SKU and fills it.
func openBucket(ctx context.Context, home *redisgate.Home, b redisgate.Bucket, units int64) error {
	id := stock.SharedBucket(hotSKU, b.Token, b.No)
	_, err := home.Open(ctx, b, redisgate.Opening{Slices: []redisgate.Slice{{SkuID: hotSKU, BucketID: id}}})
	if err == nil && units > 0 {
		_, err = home.Grant(ctx, b, redisgate.Move{SkuID: hotSKU, BucketID: id, Seq: 1, Units: units})
	}
	return err
}

// newOrders makes a call of orders of one unit each, the last of which has this number. All of
// what a real one brings is there, a payload of usual length too.
func newOrders(last int64) []redisgate.Order {
	payload := []byte(`{"At":1764489600000,"Lines":[{"No":1,"SkuID":"hot","Quantity":1}]}`)
	orders := make([]redisgate.Order, redisgate.MaxBatch)
	lines := []redisgate.Line{{No: 1, SkuID: hotSKU, Quantity: 1}}
	for i := range orders {
		n := last - int64(i)
		customer := customer(n)
		o := redisgate.Order{OrderNo: ulid.Make().String(), CustomerID: customer,
			Key: redisgate.KeyOf(customer, "bench"), Lines: lines, Payload: payload}
		binary.BigEndian.PutUint64(o.Body[:], uint64(n)) //nolint:gosec // a number of a measurement is not negative
		orders[i] = o
	}
	return orders
}
