package redisgate_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	orders "orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// newEpoch ends the epoch of a sale at once.
func (m *market) newEpoch(sku string) {
	m.Helper()
	admin := stock.NewAdmin(m.db, time.Now)
	g, _, err := admin.FindGate(m.Context(), sku)
	if err != nil {
		m.Fatal(err)
	}
	begun, err := admin.NewEpoch(m.Context(), g.Sale, map[string]int64{sku: g.Epoch}, 0, false)
	if err != nil || !begun {
		m.Fatal(begun, err)
	}
}

// opened waits until all units of a SKU are in so many open buckets.
func (m *market) opened(sku string, buckets int64) {
	m.Helper()
	m.until("the buckets are open", func() bool {
		return m.count("SELECT COUNT(*) FROM stock_buckets WHERE sku_id = ? AND state = 'open'", sku) == buckets &&
			m.count("SELECT available FROM skus WHERE sku_id = ?", sku) == 0
	})
}

// After a new epoch, or another number of buckets, the repeat of a placement whose order exists was a new place in line
// under another number: a buyer with an order was told that he has none yet.
func TestRepeatOfAnOrderIsNoNewPlaceInLine(t *testing.T) {
	m := newMarketOn(t, sqldbtest.SQLite(t), mini(t), 1)
	m.queues("hot", 200, 2, 1)
	place := func(who string) (orders.Placed, error) {
		t.Helper()
		for {
			placed, err := m.pods[0].Place(t.Context(), cartOf(who, "key", "hot"))
			if err == nil || errors.As(err, new(*orders.QueuedError)) {
				return placed, err
			}
			if !errors.Is(err, sqldb.ErrUnavailable) && !errors.As(err, new(*orders.NotReadyError)) {
				t.Fatal(err)
			}
		}
	}
	first, err := place("ann")
	if err != nil {
		t.Fatal(err)
	}
	m.newEpoch("hot")
	m.opened("hot", 2)
	home := func(who string) int64 { return redisgate.Route(who, []int64{0, 1})[0] }
	for i := 0; err == nil; i++ { // the rate is used up where she comes
		if who := fmt.Sprint("c", i); home(who) == home("ann") {
			_, err = place(who)
		}
	}
	again, err := place("ann")
	if err != nil || !again.Replayed || again.Order.OrderNo != first.Order.OrderNo {
		t.Errorf("the repeat of %s: order %q, %v", first.Order.OrderNo, again.Order.OrderNo, err)
	}
	depths, err := m.pods[0].Gate.Queue().Depths(t.Context())
	if err != nil || len(depths) != 1 || depths[0].Waiting != 1 {
		t.Errorf("%+v wait, %v", depths, err)
	}
}

// A buyer who waits in the second bucket of his way, because the first one was empty, was given another place when
// units had come back there.
func TestRepeatMeetsItsPlaceInAnotherBucket(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
	l := m.queues("hot", 300, 2, 1)
	l.fill(10) // the rate is used up
	own := redisgate.Route("ann", []int64{0, 1})[0]
	left, err := m.client.Get(t.Context(), fmt.Sprintf("sku_leaved_amount_{hot/%d}:hot", own)).Int64()
	if err != nil {
		t.Fatal(err)
	}
	var other string
	for i := 0; other == "" || redisgate.Route(other, []int64{0, 1})[0] != own; i++ {
		other = fmt.Sprint("other", i)
	}
	all := l.claim(other, "key", left)
	if word, _ := l.asks(m.pods[0], all); word != "queued" {
		t.Fatal(word)
	}
	first := l.claim("ann", "key", 1)
	if word, _ := l.asks(m.pods[0], first); word != "queued" {
		t.Fatal(word)
	}
	if gone, _, err := m.pods[0].Gate.Queue().Withdraw(t.Context(), other, all.OrderNo); !gone || err != nil {
		t.Fatal(gone, err)
	}
	l.repeats("ann", 1, gate.QueueWaiting, first.OrderNo)
	foreign := l.claim("ann", "key", 1)
	foreign.Hash = "another!"
	if word, _ := l.asks(m.pods[1], foreign); word != "reused" {
		t.Errorf("another body under the key: %q", word)
	}
	if n := m.leftInRedis(); n != 300-l.sold.Load()-10-1 {
		t.Errorf("%d units are left: those of a repeat are gone", n)
	}
}

// repeats holds the repeat of a placement, in each process, against what became of it.
func (l *line) repeats(customer string, quantity int64, want gate.QueuedState, no string) {
	l.Helper()
	for _, p := range l.pods {
		word, got := l.asks(p, l.claim(customer, "key", quantity))
		if word != "queued" || !got.Repeat || got.OrderNo != no || got.State != want {
			l.Errorf("the repeat: %q %+v, want %s of %s", word, got, want, no)
		}
	}
}

// While the buckets of a sale are given up, those who wait were told to come again, as if they had no place.
func TestRepeatFindsItsPlaceWhileAnEpochEnds(t *testing.T) {
	ends := map[string]func(m *market){
		"in order": func(m *market) {
			m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 1, Rate: 1})
		},
		"at once": func(m *market) { m.newEpoch("hot") },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
			l := m.queues("hot", 200, 2, 1)
			l.fill(10)
			first := l.claim("ann", "key", 1)
			if word, _ := l.asks(m.pods[0], first); word != "queued" {
				t.Fatal(word)
			}
			end(m)
			for i, p := range m.pods {
				m.until("newcomers are to come again", func() bool {
					word, _ := l.ask(p, l.claim(fmt.Sprint("new", i), fmt.Sprint(l.numbers.Load()), 1))
					return word == "not ready"
				})
				word, got := l.ask(p, l.claim("ann", "key", 1))
				if word != "queued" || !got.Repeat || got.OrderNo != first.OrderNo || got.Position < 1 {
					t.Errorf("the repeat: %q %+v", word, got)
				}
			}
		})
	}
}

// What became of a placement was not told any more when its bucket was gone: who was refused read that there is
// nothing, and who had cancelled got another place by his next try.
func TestWhatBecameOfItOutlivesItsBucket(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
	l := m.queues("hot", 300, 4, 1)
	l.fill(10)
	q := m.pods[0].Gate.Queue()
	var refused, withdrawn []*gate.Claim
	for i := 0; len(refused) < 8 || len(withdrawn) < 8; i++ { // in all buckets
		c := l.claim(fmt.Sprint("c", i), "key", 1)
		switch word, _ := l.asks(m.pods[0], c); {
		case word == "queued" && i%2 == 0:
			refused = append(refused, c)
		case word == "queued":
			withdrawn = append(withdrawn, c)
		}
	}
	for _, c := range withdrawn {
		if gone, _, err := q.Withdraw(t.Context(), c.CustomerID, c.OrderNo); !gone || err != nil {
			t.Fatal(gone, err)
		}
	}
	for _, e := range m.claimAll() {
		if err := q.Refuse(t.Context(), e, []byte("why")); err != nil {
			t.Fatal(err)
		}
	}
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 1, Rate: 1})
	m.until("there is one bucket", func() bool {
		return m.count("SELECT COUNT(*) FROM stock_buckets WHERE state = 'open'") == 1
	})
	p := m.start(m.pods[0].Fixture) // its first look renews the queues
	m.until("it knows of the sale", func() bool {
		word, _ := l.ask(p, l.claim("new", fmt.Sprint(l.numbers.Load()), 1))
		return word == "queued" && p.Gate.Knows("hot")
	})
	for _, c := range refused {
		got, ok, err := q.Find(t.Context(), c.CustomerID, c.OrderNo)
		if err != nil || !ok || got.State != gate.QueueRefused || string(got.Problem) != "why" {
			t.Errorf("refused: %+v, %t, %v", got, ok, err)
		}
	}
	for _, c := range withdrawn {
		if got, ok, err := q.Find(t.Context(), c.CustomerID, c.OrderNo); err != nil || !ok ||
			got.State != gate.QueueWithdrawn {
			t.Errorf("withdrawn: %+v, %t, %v", got, ok, err)
		}
		l.repeats(c.CustomerID, 1, gate.QueueWithdrawn, c.OrderNo)
	}
}
