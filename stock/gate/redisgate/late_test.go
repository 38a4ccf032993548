package redisgate_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	orders "orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
)

// lateShared is a home whose tickets are used late: as by a process that is stopped for a while.
type lateShared struct {
	gate.Shared
	late func()
}

// Take takes, and then something happens.
func (s *lateShared) Take(c *gate.Claim, lines []int) gate.Taken {
	taken := s.Shared.Take(c, lines)
	if taken.Settle != nil {
		s.late()
	}
	return taken
}

// A process that was stopped with a ticket wakes when the epoch of its bucket is over: its order is decided on the
// pool, the buyer notices nothing, and the unit is there once (R16, and L4 of a bucket in Redis).
func TestTicketOfAnEpochThatIsOver(t *testing.T) {
	const stocked = 1000
	m := newMarketOn(t, sqldbtest.MariaDB(t), connect(t, sqldbtest.RedisServer(t).Addr), 0)
	var tickets atomic.Int64
	m.late = func() {
		if tickets.Add(1) == 1 {
			m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 3})
		}
	}
	m.startOn(m.db, 2)
	m.sell("hot", stocked, 1)
	n := 0
	m.until("somebody has a ticket", func() bool {
		n++
		if _, err := m.pods[0].Place(m.Context(), cartOf("ann", fmt.Sprint(n), "hot")); err != nil {
			m.Fatal(err)
		}
		return tickets.Load() > 0
	})
	if sold := m.count("SELECT COUNT(*) FROM stock_flows WHERE kind = 'deduct' AND bucket_id = 0"); sold != int64(n) {
		m.Errorf("%d of %d orders are from the pool", sold, n)
	}
	if sum := m.count(`SELECT s.available + (
  SELECT COALESCE(SUM(remaining), 0)
  FROM stock_buckets)
FROM skus s`); sum != stocked-int64(n) {
		m.Errorf("pool and buckets have %d, want %d", sum, stocked-n)
	}
	m.buyers(4, "hot").end(stocked - int64(n))
}

// A repeat that comes to another bucket than its first try, because there are more of them now, would take a second
// unit, or be told at no units left that all is gone: it is answered with the first order (R15).
func TestRepeatAfterScaling(t *testing.T) {
	const stocked = 600
	onMarkets(t, 2, func(m *market) {
		m.sell("hot", stocked, 1)
		has := map[string]string{}
		buy := func(from, to int) {
			for i := from; i < to; i++ {
				customer := fmt.Sprint("c", i)
				placed, err := m.pods[i%2].Place(m.Context(), cartOf(customer, "key", "hot"))
				if err != nil {
					m.Fatal(err)
				}
				has[customer] = placed.Order.OrderNo
			}
		}
		repeat := func() {
			for customer, no := range has {
				got, err := m.pods[len(customer)%2].Place(m.Context(), cartOf(customer, "key", "hot"))
				if err != nil || !got.Replayed || got.Order.OrderNo != no {
					m.Errorf("the repeat of %s: %v, order %s of %s", customer, err, got.Order.OrderNo, no)
				}
			}
		}
		m.until("there is a bucket", func() bool {
			return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") == 1
		})
		buy(0, 100)
		m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 3})
		m.until("there are three", func() bool {
			return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") == 3
		})
		repeat()
		buy(100, stocked)
		if m.fromRedis() == 0 {
			m.Error("nothing was sold from Redis")
		}
		repeat()
		_, err := m.pods[0].Place(m.Context(), cartOf("late", "key", "hot"))
		if !errors.As(err, new(*orders.InsufficientError)) {
			m.Errorf("one too many was sold, or %v", err)
		}
		repeat()
	})
}

// awayFor is how long the database is away: longer than a placement waits for it.
const awayFor = 2 * time.Second

// While the database is away Redis goes on setting units aside for orders that nobody can place: they go back, or are
// found again, and all of them are sold when it is there again (R18).
func TestDatabaseAwayWhileRedisSells(t *testing.T) {
	const stocked = 4000
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	direct := sqldbtest.Open(t, server.TCPDSN(server.Addr, "shop"))
	m := newMarketOn(t, direct, connect(t, sqldbtest.RedisServer(t).Addr), 0)
	m.startOn(sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop")), 2)
	m.sell("hot", stocked, 2)
	m.slow.Store(true)
	d := m.buyers(4, "hot")
	for range 2 {
		m.soldFromRedis(200)
		proxy.Down(true)
		sold := d.sold.Load()
		time.Sleep(awayFor)
		if now := d.sold.Load(); now > sold+8 { // those whose answers were under way
			m.Errorf("%d were sold without a database", now-sold)
		}
		proxy.Down(false)
	}
	m.soldFromRedis(200)
	d.end(stocked)
}
