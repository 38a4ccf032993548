package redisgate_test

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	orders "orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// pod is one process of a sale, and its share of the buckets in Redis.
type pod struct {
	*gatetest.Pod
	shared *redisgate.Shared
}

// market is a sale in Redis over several processes.
type market struct {
	*testing.T
	db     *sqldb.DB // of the test; processes have that of the service they are beside
	client redis.UniversalClient
	pods   []*pod
	epochs atomic.Int64                  // that were begun
	away   atomic.Int64                  // times that Redis was found away
	loose  bool                          // units are sold without orders: the rows are not verified
	slow   atomic.Bool                   // buyers take their time, so that the sale lasts
	later  atomic.Int64                  // how much later it is for what keeps the buckets in Redis, in nanoseconds
	late   func()                        // comes between a ticket and its transaction; nil: nothing does
	shape  func(gate.Shared) gate.Shared // of what a process asks; nil: as it is
}

// GateEpoch implements redisgate.SharedObserver.
func (m *market) GateEpoch(string) { m.epochs.Add(1) }

// GateDrift implements redisgate.SharedObserver.
func (m *market) GateDrift(int64) {}

// GateAway implements redisgate.SharedObserver.
func (m *market) GateAway(away bool) {
	if away {
		m.away.Add(1)
	}
}

// onMarkets runs a test on SQLite with miniredis, and on MariaDB with redis-server.
func onMarkets(t *testing.T, processes int, test func(m *market)) {
	t.Run("sqlite and miniredis", func(t *testing.T) {
		test(newMarket(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), processes))
	})
	t.Run("mariadb and redis-server", func(t *testing.T) {
		test(newMarket(t, sqldbtest.MariaDB(t), sqldbtest.RedisServer(t).Addr, processes))
	})
}

// newMarket starts processes on the real clock.
func newMarket(t *testing.T, db *sqldb.DB, addr string, processes int) *market {
	t.Helper()
	return newMarketOn(t, db, connect(t, addr), processes)
}

// newMarketOn is newMarket on a client of its own.
func newMarketOn(t *testing.T, db *sqldb.DB, client redis.UniversalClient, processes int) *market {
	t.Helper()
	m := &market{T: t, db: db, client: client}
	m.startOn(db, processes)
	return m
}

// startOn starts processes on a way of their own to the database.
func (m *market) startOn(db *sqldb.DB, processes int) {
	m.Helper()
	begin := ordertest.NewWith
	if m.loose {
		begin = ordertest.NewUnverified
	}
	first := begin(m, db, func(c *orders.Config) { c.Now = time.Now })
	for range processes {
		m.start(first)
	}
}

// start starts one more process.
func (m *market) start(first *ordertest.Fixture) *pod {
	m.Helper()
	log := slog.New(slog.NewTextHandler(m.Output(), nil))
	p := &pod{shared: redisgate.NewShared(redisgate.SharedConfig{DB: first.DB, Client: m.client, Log: log, Observe: m,
		Now: func() time.Time { return time.Now().Add(time.Duration(m.later.Load())) }})}
	p.Pod = gatetest.Beside(m, first, fmt.Sprint("pod", len(m.pods)), func(cfg *gate.Config, _ *orders.Config) {
		cfg.Log, cfg.Shared = log, p.shared
		if m.shape != nil {
			cfg.Shared = m.shape(p.shared)
		}
		if m.late != nil {
			cfg.Shared = &lateShared{p.shared, m.late}
		}
	})
	p.Keep(m)
	m.pods = append(m.pods, p)
	return p
}

// sell puts units on the shelf and gives the SKU a gate in mode redis.
func (m *market) sell(sku string, units, buckets int64) {
	m.Helper()
	m.pods[0].SKU(m, sku, units)
	m.setGate(stock.GateChange{SkuID: sku, Mode: stock.GateRedis, Buckets: buckets})
	m.until("the gate is known", func() bool {
		for _, p := range m.pods {
			if !p.Gate.Knows(sku) {
				return false
			}
		}
		return true
	})
}

func (m *market) setGate(c stock.GateChange) {
	m.Helper()
	c.Actor, c.Reason = "cli:test", "a test"
	if _, err := stock.NewAdmin(m.db, time.Now).SetGate(m.Context(), c); err != nil {
		m.Fatal(err)
	}
}

// until waits for a condition.
func (m *market) until(what string, is func() bool) {
	m.Helper()
	gatetest.Eventually(m, what, is)
}

// count runs a query for one number.
func (m *market) count(query string, args ...any) (n int64) {
	m.Helper()
	return gatetest.Count(m, m.db, query, args...)
}

// fromRedis is how many units were sold out of buckets in Redis so far.
func (m *market) fromRedis() int64 {
	m.Helper()
	return m.count(`SELECT COUNT(*)
FROM stock_flows f
JOIN stock_buckets b ON b.bucket_id = f.bucket_id
WHERE b.home = 'redis'`)
}

// demand is buyers who buy until they are told that it is sold out.
type demand struct {
	m     *market
	mu    sync.Mutex
	has   map[string]string // order by customer and key
	sold  atomic.Int64
	again atomic.Int64 // repeats that were answered
	gone  atomic.Int64 // buyers who were told that it is sold out
	later atomic.Int64 // times that a buyer was told to come again
	all   sync.WaitGroup
}

// buyers starts callers in each process. Each repeats every fourth purchase at once, in
// whichever process it is, and must be answered with the order that he has.
func (m *market) buyers(callers int, skus ...string) *demand {
	d := &demand{m: m, has: map[string]string{}}
	for i := range callers * len(m.pods) {
		d.all.Go(func() { d.buy(i, skus) })
	}
	return d
}

// slowBuyer is the pause of a buyer between two purchases.
const slowBuyer = 60 * time.Millisecond

func (d *demand) buy(i int, skus []string) {
	m := d.m
	for n := 0; !m.Failed() && m.Context().Err() == nil; n++ {
		if m.slow.Load() {
			time.Sleep(slowBuyer)
		}
		p := m.pods[(i+n)%len(m.pods)]
		placement := cartOf(fmt.Sprint("c", i), fmt.Sprint(i, "-", n), skus...)
		placed, err := p.Place(m.Context(), placement)
		switch {
		case errors.As(err, new(*orders.InsufficientError)):
			d.gone.Add(1)
			return
		case errors.Is(err, sqldb.ErrUnavailable): // nothing happened, or it is not known: the same again
			d.later.Add(1)
			n--
			continue
		case err != nil:
			m.Error(err)
			return
		}
		d.sold.Add(1)
		d.mu.Lock()
		d.has[placement.CustomerID+" "+placement.RequestID] = placed.Order.OrderNo
		d.mu.Unlock()
		if n%4 == 0 {
			d.repeat(placement, placed.Order.OrderNo, i+n+1)
		}
	}
}

// repeat sends a placement again, to another process.
func (d *demand) repeat(placement orders.Placement, no string, at int) {
	got, err := d.m.pods[at%len(d.m.pods)].Place(d.m.Context(), placement)
	if errors.Is(err, sqldb.ErrUnavailable) {
		return
	}
	if err != nil || !got.Replayed || got.Order.OrderNo != no {
		d.m.Errorf("the repeat of %s: %v, order %s, replayed %t", no, err, got.Order.OrderNo, got.Replayed)
	}
	d.again.Add(1)
}

// cartOf places one unit of each SKU.
func cartOf(customer, request string, skus ...string) orders.Placement {
	p := orders.Placement{CustomerID: customer, RequestID: request}
	for _, sku := range skus {
		p.Lines = append(p.Lines, stock.Line{SkuID: sku, Quantity: 1})
	}
	return p
}

// end waits until everybody was refused, and holds what was sold against what was there.
func (d *demand) end(stocked int64) {
	m := d.m
	m.Helper()
	m.slow.Store(false)
	d.all.Wait()
	if n := d.sold.Load(); n != stocked {
		m.Errorf("%d of %d sold", n, stocked)
	}
	for key, no := range d.has { // every order that a buyer was told of is there
		if m.count("SELECT COUNT(*) FROM orders WHERE order_no = ?", no) != 1 {
			m.Errorf("%s was told of order %s, which is not there", key, no)
		}
	}
	if d.again.Load() == 0 {
		m.Error("nobody repeated anything")
	}
	if m.fromRedis() == 0 {
		m.Error("nothing was sold from Redis: this test has tested nothing")
	}
	m.pods[0].AssertVerified(m)
}

// A process that sells from buckets in Redis beside three others would oversell, strand units in a bucket, or refuse a
// buyer who has an order: every unit is sold once, the last one too, and nothing is left behind when the gate is off.
func TestRedisGateSellsEveryUnitOnce(t *testing.T) {
	const stocked = 2500
	onMarkets(t, 4, func(m *market) {
		m.sell("hot", stocked, 4)
		m.until("there are buckets", func() bool {
			return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") == 4
		})
		m.buyers(8, "hot").end(stocked)
		m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateOff})
		if n := m.count("SELECT COUNT(*) FROM stock_buckets WHERE state <> 'closed'"); n != 0 {
			m.Errorf("%d buckets are open after the gate is off", n)
		}
	})
}

// A bucket with fewer units than one order wants is not empty, and never became so: all those orders went to the pool.
func TestBucketThatIsTooSmallForAnOrderGrows(t *testing.T) {
	m := newMarket(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	m.sell("hot", 4000, 1) // 400 of them in the bucket
	m.until("the bucket has units", func() bool { return m.count("SELECT COUNT(*) FROM stock_buckets") == 1 })
	l := &line{market: m, sku: "hot"}
	m.until("one of its orders is sold from Redis", func() bool {
		ticket := m.pods[0].Gate.Take(l.claim("ann", "key", 450))
		m.pods[0].Gate.Settle(ticket, gate.Unused)
		return ticket.Buckets != nil
	})
}
