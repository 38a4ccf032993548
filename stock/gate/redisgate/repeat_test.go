package redisgate_test

import (
	"errors"
	"fmt"
	"sync/atomic"
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

// betweenShared is a home with something between its tickets and who gets them.
type betweenShared struct {
	gate.Shared
	then func(gate.Taken) gate.Taken
}

// Take takes, and then something happens.
func (s *betweenShared) Take(c *gate.Claim, lines []int) gate.Taken {
	return s.then(s.Shared.Take(c, lines))
}

// A buyer whose units were set aside for an order to be made at once, and of whom nobody heard any more because the
// answer of Redis was lost or his process died, was told 503 until the sweep had found them, for a minute and more. His
// repeat has them, under the number of the first try; and when that one goes on after all, it finds the order, and
// nothing goes back that is sold.
func TestTicketThatNobodyHasIsForItsRepeat(t *testing.T) {
	const stocked = 200
	m := newMarketOn(t, sqldbtest.SQLite(t), mini(t), 0)
	var tickets atomic.Int64
	then := func(taken gate.Taken) gate.Taken { return taken }
	m.shape = func(s gate.Shared) gate.Shared {
		return &betweenShared{s, func(taken gate.Taken) gate.Taken {
			if taken.Settle != nil && tickets.Add(1) == 1 {
				return then(taken)
			}
			return taken
		}}
	}
	m.startOn(m.db, 2)
	m.queues("hot", stocked, 2, 1000)
	tickets.Store(0)
	then = func(gate.Taken) gate.Taken { return gate.Taken{NotReady: time.Second} } // the answer is lost
	m.until("a ticket is lost", func() bool {
		_, err := m.pods[0].Place(t.Context(), cartOf("ann", "key", "hot"))
		return errors.As(err, new(*orders.NotReadyError)) && tickets.Load() == 1
	})
	var ann orders.Placed
	var err error
	m.until("the repeat has an order", func() bool {
		ann, err = m.pods[1].Place(t.Context(), cartOf("ann", "key", "hot"))
		return !errors.As(err, new(*orders.NotReadyError)) && !errors.Is(err, sqldb.ErrUnavailable)
	})
	if err != nil || ann.Replayed {
		t.Fatalf("the repeat: %+v, %v", ann.Order, err)
	}
	var bob orders.Placed
	tickets.Store(0)
	then = func(taken gate.Taken) gate.Taken { // he repeats while the first try has its units
		bob, err = m.pods[1].Place(t.Context(), cartOf("bob", "key", "hot"))
		return taken
	}
	first, firstErr := m.pods[0].Place(t.Context(), cartOf("bob", "key", "hot"))
	if err != nil || firstErr != nil || first.Order.OrderNo != bob.Order.OrderNo {
		t.Errorf("order %q, %v, of the first try %q, %v", bob.Order.OrderNo, err, first.Order.OrderNo, firstErr)
	}
	for _, who := range []string{"ann", "bob"} {
		again, err := m.pods[0].Place(t.Context(), cartOf(who, "key", "hot"))
		if err != nil || !again.Replayed {
			t.Errorf("%s once more: %+v, %v", who, again.Order, err)
		}
	}
	carol, err := m.pods[0].Place(t.Context(), cartOf("carol", "key", "hot")) // and what was settled before is settled
	if err != nil {
		t.Fatal(carol, err)
	}
	m.until("what is settled is told", func() bool {
		stat, err := m.pods[0].shared.Look(t.Context(), m.gatesOf("hot"))
		return err == nil && stat[0].Tickets+stat[1].Tickets <= 2
	})
	if n := m.leftInRedis(); n != stocked-3 {
		t.Errorf("%d units are left in Redis, %d are sold", n, 3)
	}
	m.pods[0].AssertVerified(t)
}

// gatesOf gives the gate of a SKU.
func (m *market) gatesOf(sku string) []stock.Gate {
	m.Helper()
	g, _, err := stock.NewAdmin(m.db, time.Now).FindGate(m.Context(), sku)
	if err != nil {
		m.Fatal(err)
	}
	return []stock.Gate{g}
}

// makeOrders makes orders of all that may be claimed, as a drainer does, and gives how many were claimed.
func (m *market) makeOrders(p *pod, limit int) int {
	m.Helper()
	entries, err := p.Gate.Queue().Claim(m.Context(), limit)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		problem, err := p.PlaceQueued(m.Context(), e)
		switch {
		case err != nil: // it is claimed again
		case problem == nil:
			err = p.Gate.Queue().Done(m.Context(), []gate.Entry{e})
		default:
			err = p.Gate.Queue().Refuse(m.Context(), e, problem)
		}
		if err != nil {
			m.Log(err)
		}
	}
	return len(entries)
}

// A Redis that is put back to an earlier state has a queue of those who have their orders already, and has forgotten
// who came since: nobody gets a second order, nothing is sold twice, and whoever repeats has his order in the end.
func TestOldQueueIsPutBack(t *testing.T) {
	const stocked, early, late = 400, 120, 80
	// miniredis has no RESTORE of streams. The rate is so low that no machine lets fewer in.
	m := newMarket(t, sqldbtest.MariaDB(t), sqldbtest.RedisServer(t).Addr, 2)
	m.queues("hot", stocked, 2, 1)

	has := map[string]string{} // who was told of an order
	come := func(from, to int) (waiting int) {
		for i := from; i < to; i++ {
			who := fmt.Sprint("c", i)
			m.until("it is ready", func() bool {
				placed, err := m.pods[i%2].Place(t.Context(), cartOf(who, "key", "hot"))
				switch {
				case err == nil && has[who] != "" && has[who] != placed.Order.OrderNo:
					t.Fatalf("%s had order %s, and has %s", who, has[who], placed.Order.OrderNo)
				case err == nil:
					has[who] = placed.Order.OrderNo
				case errors.As(err, new(*orders.QueuedError)):
					waiting++
				case errors.Is(err, sqldb.ErrUnavailable), errors.As(err, new(*orders.NotReadyError)):
					return false
				default:
					t.Fatal(who, err)
				}
				return true
			})
		}
		return waiting
	}
	if come(0, early) == 0 {
		t.Fatal("nobody waits")
	}
	old := snapshot(t, m.client)
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2, Rate: 10_000})
	m.until("some have orders", func() bool {
		m.makeOrders(m.pods[0], 20)
		return m.count("SELECT COUNT(*) FROM orders") >= early/2
	})
	if come(early, early+late) == 0 {
		t.Fatal("nobody waits")
	}
	pipe := m.client.TxPipeline()
	pipe.FlushAll(t.Context())
	for k, text := range old {
		pipe.RestoreReplace(t.Context(), k, 0, text)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.until("everybody has an order", func() bool {
		m.makeOrders(m.pods[0], 100)
		come(0, early+late)
		return len(has) == early+late
	})
	if n := m.count("SELECT COUNT(*) FROM orders"); n != early+late {
		t.Errorf("%d orders of %d buyers", n, early+late)
	}
	m.until("nobody waits any more", func() bool {
		m.makeOrders(m.pods[0], 100)
		depths, err := m.pods[0].Gate.Queue().Depths(t.Context())
		return err == nil && (len(depths) == 0 || depths[0].Waiting == 0)
	})
	m.pods[0].AssertVerified(t)
}

// A bucket that could not be reached for a while does not know who came to another one meanwhile: his repeat was given
// a second place, under another number.
func TestRepeatAfterABucketWasAway(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	l := m.queues("hot", 300, 2, 1)
	l.fill(10) // the rate is used up
	home := func(who string) int64 { return redisgate.Route(who, []int64{0, 1})[0] }
	own := fmt.Sprintf("{hot/%d}", home("ann"))
	waiting := func() int64 {
		n, err := m.client.XLen(t.Context(), "queue_"+own).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	rename := func(from, to string) {
		t.Helper()
		if err := m.client.Rename(t.Context(), from+own, to+own).Err(); err != nil {
			t.Fatal(err)
		}
	}
	rename("gate_", "kept_")
	if err := m.client.Set(t.Context(), "gate_"+own, "no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := waiting()
	first := l.claim("ann", "key", 1)
	if word, _ := l.asks(m.pods[0], first); word != "queued" || waiting() != before {
		t.Fatalf("%q, %d wait where nobody could", word, waiting()-before)
	}
	rename("kept_", "gate_")
	n := 0
	m.until("its bucket is asked again", func() bool {
		if n++; home(fmt.Sprint("other", n)) == home("ann") {
			l.ask(m.pods[0], l.claim(fmt.Sprint("other", n), "key", 1))
		}
		return waiting() > before
	})
	l.repeats("ann", 1, gate.QueueWaiting, first.OrderNo)
}
