package redisgate_test

import (
	_ "embed" // the seed's script
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest"
	orders "orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// subStock is the usual script of the field, which counts down and remembers nothing. Return codes are the same.
//
//go:embed testdata/sub_stock.lua
var subStock string

// plenty is stock that no benchmark sells out.
const plenty = 1 << 40

// BenchmarkDeduct compares orders per second (orders/s), and what an order costs Redis in time of its processor
// (redis-µs/order), on a redis-server: the usual script, an order a call and in pipelines of 16, and Deduct with its
// tickets, flows and entries in batches, accepted and sold out. Only the ratios of one run mean anything.
func BenchmarkDeduct(b *testing.B) {
	client := server(b)
	seed := redis.NewScript(subStock)
	if err := seed.Load(b.Context(), client).Err(); err != nil {
		b.Fatal(err)
	}
	for _, pipeline := range []int{1, 16} {
		b.Run(fmt.Sprintf("sub_stock/pipeline=%d", pipeline), func(b *testing.B) {
			if err := client.Set(b.Context(), "left", plenty, 0).Err(); err != nil {
				b.Fatal(err)
			}
			inParallel(b, client, pipeline, func(n int) error {
				_, err := client.Pipelined(b.Context(), func(p redis.Pipeliner) error {
					for range n {
						seed.EvalSha(b.Context(), p, []string{"left"}, 1)
					}
					return nil
				})
				return err
			})
		})
	}
	for _, c := range []struct {
		name         string
		batch, lines int
		stock        int64
		pace         redisgate.Pace
	}{{name: "accepted/batch=1", batch: 1, lines: 1, stock: plenty},
		{name: "accepted/batch=16", batch: 16, lines: 1, stock: plenty},
		{name: "accepted/batch=128", batch: 128, lines: 1, stock: plenty},
		{name: "cart of 2/batch=128", batch: 128, lines: 2, stock: plenty},
		{name: "sold out/batch=128", batch: 128, lines: 1},
		{name: "queued/batch=128", batch: 128, lines: 1, stock: plenty,
			pace: redisgate.Pace{Every: time.Hour, Burst: -1000, Room: plenty}}} {
		b.Run(c.name, func(b *testing.B) { benchmarkDeduct(b, client, c.batch, c.lines, c.stock, c.pace) })
	}
}

func benchmarkDeduct(b *testing.B, client redis.UniversalClient, batch, lines int, units int64,
	pace redisgate.Pace) {
	if err := client.FlushAll(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
	home, bucket := redisgate.New(client, ""), redisgate.Bucket{Sale: "sale", Token: 1}
	opening := redisgate.Opening{Slices: []redisgate.Slice{{SkuID: "a", BucketID: 1}, {SkuID: "b", BucketID: 2}}}
	if _, err := home.Open(b.Context(), bucket, opening); err != nil {
		b.Fatal(err)
	}
	for _, s := range opening.Slices {
		move := redisgate.Move{SkuID: s.SkuID, BucketID: s.BucketID, Seq: 1, Units: units}
		if _, err := home.Grant(b.Context(), bucket, move); err != nil {
			b.Fatal(err)
		}
	}
	var numbers atomic.Int64
	payload := make([]byte, 200) // about what the order of one line needs
	inParallel(b, client, batch, func(n int) error {
		orders := make([]redisgate.Order, n)
		for i := range orders {
			no := numbers.Add(1)
			customer := fmt.Sprint("customer-", no)
			orders[i] = redisgate.Order{OrderNo: fmt.Sprintf("%026d", no), CustomerID: customer,
				Key: redisgate.KeyOf(customer, "key"), Payload: payload, MayWait: true}
			for l := range lines {
				orders[i].Lines = append(orders[i].Lines,
					redisgate.Line{No: int64(l + 1), SkuID: opening.Slices[l].SkuID, Quantity: 1})
			}
		}
		replies, err := home.Deduct(b.Context(), bucket, pace, orders)
		for _, r := range replies {
			if r.Taken() != (units > 0) {
				return fmt.Errorf("%+v", r)
			}
		}
		return err
	})
}

// inParallel has goroutines make calls of n orders until there are b.N orders.
func inParallel(b *testing.B, client redis.UniversalClient, n int, call func(n int) error) {
	b.SetParallelism(16) // by processor: enough that Redis never waits
	before := processorTime(b, client)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for more := true; more; {
			orders := 0
			for orders < n && more {
				if more = pb.Next(); more {
					orders++
				}
			}
			if orders > 0 {
				if err := call(orders); err != nil {
					b.Error(err)
					return
				}
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric((processorTime(b, client)-before)*1e6/float64(b.N), "redis-µs/order")
}

// processorTime is what the thread of Redis that runs commands has used, in seconds.
func processorTime(b *testing.B, client redis.UniversalClient) (sum float64) {
	info, err := client.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range strings.Split(info, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "used_cpu_user_main_thread" || name == "used_cpu_sys_main_thread" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += seconds
		}
	}
	return sum
}

// BenchmarkToldToWait compares placements a second that are told to wait (queued/s), by a process on MariaDB and
// redis-server: by a bucket that knows all orders there can be, which none is taken for, and by one that does not, so
// that each is looked for in the other lines and among the orders. The ratio of the two is logged. The line has room
// for 6,000: run it with -benchtime 5000x.
func BenchmarkToldToWait(b *testing.B) {
	client := server(b)
	first := ordertest.NewUnverified(b, sqldbtest.MariaDB(b), func(c *orders.Config) { c.Now = time.Now })
	p := gatetest.Beside(b, first, "pod", func(cfg *gate.Config, _ *orders.Config) {
		cfg.Shared = redisgate.NewShared(redisgate.SharedConfig{DB: first.DB, Client: client, Now: time.Now})
	})
	p.Keep(b)
	p.SKU(b, "hot", 1_000_000_000) // the most that a SKU has
	_, err := stock.NewAdmin(first.DB, time.Now).SetGate(b.Context(), stock.GateChange{SkuID: "hot",
		Mode: stock.GateRedis, Rate: 10, Actor: "cli:test", Reason: "a benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	var customers atomic.Int64
	waits := func() bool {
		_, err := p.Place(b.Context(), cartOf(fmt.Sprint("c", customers.Add(1)), "key", "hot"))
		return errors.As(err, new(*orders.QueuedError))
	}
	rate := map[string]float64{}
	for _, flows := range []string{"complete", "filling"} {
		b.Run(flows, func(b *testing.B) {
			client.Del(b.Context(), "queue_{hot/0}", "queued_{hot/0}") // the line has an end
			gatetest.Eventually(b, "the rate is used up", waits)
			if err := client.HSet(b.Context(), "gate_{hot/0}", "flows", flows).Err(); err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(64) // by processor: placements of a process share their calls
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if !waits() {
						b.Error("it is not told to wait")
						return
					}
				}
			})
			rate[flows] = float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate[flows], "queued/s")
		})
	}
	b.Logf("who is looked for: %.2f of who is not", rate["filling"]/rate["complete"])
}
