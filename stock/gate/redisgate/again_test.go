package redisgate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	orders "orderd/order"
	"orderd/stock"
	"orderd/stock/gate/redisgate"
)

// A buyer who had ordered before the SKU had a gate, and repeated the placement when it had its first one, was given a
// place in line under another number: the first buckets of a gate took everybody for new whom they did not know.
func TestRepeatOfAnOrderFromBeforeItsGate(t *testing.T) {
	m := newMarketOn(t, sqldbtest.SQLite(t), mini(t), 1)
	p := m.pods[0]
	p.SKU(m, "hot", 200)
	first, err := p.Place(t.Context(), cartOf("ann", "key", "hot"))
	if err != nil {
		t.Fatal(err)
	}
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 1, Rate: 1})
	m.opened("hot", 1)
	m.until("the rate is used up", func() bool {
		_, err := p.Place(t.Context(), cartOf(fmt.Sprint("c", time.Now().UnixNano()), "key", "hot"))
		return errors.As(err, new(*orders.QueuedError))
	})
	var again orders.Placed
	m.until("the repeat is answered", func() bool {
		again, err = p.Place(t.Context(), cartOf("ann", "key", "hot"))
		return !errors.Is(err, sqldb.ErrUnavailable) && !errors.As(err, new(*orders.NotReadyError))
	})
	if err != nil || !again.Replayed || again.Order.OrderNo != first.Order.OrderNo {
		t.Errorf("the repeat of %s: order %q, %v", first.Order.OrderNo, again.Order.OrderNo, err)
	}
	if n := m.count("SELECT epoch FROM stock_gates WHERE sku_id = 'hot'"); n != 1 {
		t.Errorf("epoch %d: this was not the first", n)
	}
}

// lineOf gives a SKU a gate with a queue in a sale, in one bucket, and waits until it sells.
func (m *market) lineOf(sku, sale string) *line {
	m.Helper()
	m.pods[0].SKU(m, sku, 200)
	m.setGate(stock.GateChange{SkuID: sku, Sale: sale, Mode: stock.GateRedis, Buckets: 1, Rate: 1})
	m.opened(sku, 1)
	return &line{market: m, sku: sku}
}

// A sale that had the name of one which had ended in order stood still: its first bucket had the number of the other's
// last one, which was closed, and was taken for its own.
func TestNameOfASaleThatEndedIsUsedAgain(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	m.lineOf("old", "sale")
	m.setGate(stock.GateChange{SkuID: "old", Sale: "sale", Mode: stock.GateRedis, Buckets: 1, Rate: 1,
		ClosesAt: time.Now().Add(500 * time.Millisecond)})
	m.until("it is over", func() bool {
		return m.count("SELECT COUNT(*) FROM stock_gates WHERE state = 'ended'") == 1 &&
			m.count("SELECT COUNT(*) FROM stock_buckets WHERE state <> 'closed'") == 0
	})
	l := m.lineOf("new", "sale")
	l.fill(5)
	l.balanced(200)
}

// Of a sale that was over, the word under which number its entries were had vanished before its queue: the next sale of
// its name could put nobody in line, because an entry's number must be above those before.
func TestNameOfASaleIsUsedAgainLater(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), sqldbtest.RedisServer(t).Addr, 1) // miniredis takes any number
	m.lineOf("other", "other")                                             // or nobody keeps anything in Redis
	old := m.lineOf("old", "sale")
	m.newEpoch("old") // or both begin with the same one
	m.opened("old", 1)
	old.fill(5)
	m.setGate(stock.GateChange{SkuID: "old", Sale: "sale", Mode: stock.GateOff})
	for _, name := range []string{"gate", "queue", "queued"} { // their hour is nearly over
		if err := m.client.Expire(t.Context(), name+"_{sale/0}", 30*time.Second).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p := m.start(m.pods[0].Fixture) // its first look renews what is left of the sale
	m.pods = m.pods[:1]
	for _, name := range []string{"queue", "gate"} {
		m.until("it is renewed, or has vanished", func() bool {
			ttl, err := m.client.TTL(t.Context(), name+"_{sale/0}").Result()
			return err == nil && (ttl > time.Minute || ttl < 0)
		})
	}
	p.Stop()
	if n, err := m.client.XLen(t.Context(), "queue_{sale/0}").Result(); err != nil || n != 5 {
		t.Fatalf("%d wait, %v", n, err)
	}
	end := old.drainers(m.pods[0])
	l := m.lineOf("new", "sale")
	end()
	l.fill(5)
	l.balanced(200)
}

// alone starts a process that cannot reach Redis, while the others can.
func (m *market) alone() *pod {
	m.Helper()
	reached := m.client
	m.client = connect(m, "127.0.0.1:1")
	p := m.start(m.pods[0].Fixture)
	m.client = reached
	m.until("it knows that it has no Redis", func() bool { return !p.shared.Up() })
	return p
}

// A process that alone could not reach Redis sold from the pool what others waited for, whose buckets had been given
// up: they were told 202, and refused when their turn came. It sells when nobody has kept the sale for long.
func TestAloneWithoutRedisSellsNothingPastTheLine(t *testing.T) {
	const stocked = 120
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	l := m.queues("hot", stocked, 2, 1)
	l.fill(100)
	alone := m.alone()
	m.until("it knows the sale", func() bool { return alone.Gate.Knows("hot") })
	asks := func(who string) string {
		word, _ := l.ask(alone, l.claim(who, fmt.Sprint(l.numbers.Load()), 1))
		return word
	}
	if word := asks("early"); word != "not ready" {
		t.Errorf("all units are in buckets, and it said %q", word)
	}
	m.newEpoch("hot") // all units are in the pool
	for range 20 {
		if word := asks("late"); word != "not ready" {
			t.Fatalf("the pool has what others wait for, and it said %q", word)
		}
		time.Sleep(20 * time.Millisecond)
	}
	back := func() { // as if it was a while ago
		t.Helper()
		ago := sqldb.Millis(time.Now().Add(-stock.SeenFor - time.Second))
		err := m.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE stock_buckets SET seen_at = ?", ago)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	back()
	kept := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: m.client, Now: time.Now})
	gates := m.gatesOf("hot")
	if err := kept.Keep(t.Context(), []*stock.Gate{&gates[0]}); err != nil {
		t.Fatal(err)
	}
	m.until("it has seen that the sale is kept", func() bool { return asks("later") == "not ready" })
	m.pods[0].Stop()
	back()
	m.until("it sells when nobody keeps the sale", func() bool { return asks("last") == "" })
	l.balanced(stocked)
}
