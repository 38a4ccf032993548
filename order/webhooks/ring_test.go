package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/webhooks"
	"orderd/payment/feed"
)

// noLook is a service that looks once, when it starts, and then only where it is rung.
func noLook(c *webhooks.Config) { c.LookEvery = time.Hour }

// openRung makes a shop whose process looks once.
func openRung(t *testing.T, db *sqldb.DB, change ...func(*webhooks.Config)) *shop {
	t.Helper()
	s := &shop{db: db, counts: map[string]int{}}
	s.Service = s.process(t, here, append(change, noLook)...)
	return s
}

// runs runs a worker that has looked already, until the test ends.
func runs(t *testing.T, s *webhooks.Service) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	running.Go(func() { s.Run(ctx) })
	await(t, s.Plans)
}

// relays runs the relay of a process until the test ends.
func relays(t *testing.T, s *webhooks.Service) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	running.Go(s.StartRelay(ctx))
}

// took waits until a receiver has taken so many.
func (r *receiver) took(t *testing.T, n int) {
	t.Helper()
	await(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.got) >= n
	})
}

// What is committed is delivered without the look having come round; without a relay it waits for that.
func TestCommitRings(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := openRung(t, db), receive(t)
		s.add(t, r)
		runs(t, s.Service)
		relays(t, s.Service)
		for i := range 5 {
			s.happen(t, feed.OrderPaid, fmt.Sprint("o", i))
			r.took(t, i+1)
		}
		r.expect(t, "o0", "o1", "o2", "o3", "o4")
	})
}

// A process that makes no deliveries rings the one that does; that one hears it as long as it makes them.
func TestRingCrossesProcesses(t *testing.T) {
	rings := make(chan struct{}, 100)
	var listening atomic.Int64
	s := openRung(t, sqldbtest.SQLite(t), func(c *webhooks.Config) {
		c.Rings = func(ctx context.Context, heard func()) {
			listening.Add(1)
			defer listening.Add(-1)
			for {
				select {
				case <-rings:
					heard()
				case <-ctx.Done():
					return
				}
			}
		}
	})
	other := s.process(t, here, noLook, func(c *webhooks.Config) {
		c.Ring = func(context.Context) { rings <- struct{}{} }
	})
	r := receive(t)
	s.add(t, r)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	await(t, func() bool { return listening.Load() == 1 })
	relays(t, other)
	s.happen(t, feed.OrderPaid, "a")
	r.took(t, 1)
	stop()
	running.Wait()
	if n := listening.Load(); n != 0 || s.Plans() {
		t.Errorf("%d listen to a process that has ended", n)
	}
	// Its lease is over with it: the next one makes deliveries at once.
	s.happen(t, feed.OrderPaid, "b")
	if err := other.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "a", "b")
}

// Five hundred commits are two rings: the first, and one for all that came while that was rung. A commit does not wait
// for a ring.
func TestFewRingsForManyCommits(t *testing.T) {
	calls, release := make(chan struct{}, 1000), make(chan struct{})
	s := openRung(t, sqldbtest.SQLite(t), func(c *webhooks.Config) {
		c.Ring = func(context.Context) {
			calls <- struct{}{}
			<-release
		}
	})
	s.add(t, receive(t))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(s.StartRelay(ctx))
	s.happen(t, feed.OrderPaid, "first")
	await(t, func() bool { return len(calls) == 1 })
	for i := range 499 {
		s.happen(t, feed.OrderPaid, fmt.Sprint("a", i), fmt.Sprint("b", i))
	}
	close(release)
	await(t, func() bool { return len(calls) >= 2 })
	sqldb.Sleep(t.Context(), 500*time.Millisecond) // more would have come by then; fewer never do
	stop()
	running.Wait()
	if n := len(calls); n != 2 {
		t.Errorf("%d rings", n)
	}
}

// Nobody is rung for what no endpoint wants.
func TestRingsOnlyWhatIsWanted(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	if s.Wanted(t.Context(), feed.OrderPaid) {
		t.Error("wanted without an endpoint")
	}
	e := s.add(t, r, feed.OrderPaid)
	if s.Wanted(t.Context(), feed.OrderCreated, feed.OrderClosed) || !s.Wanted(t.Context(), feed.OrderCreated,
		feed.OrderPaid) {
		t.Error("not by the types that it wants")
	}
	if _, err := s.Disable(t.Context(), e.ID, "x"); err != nil || s.Wanted(t.Context(), feed.OrderPaid) {
		t.Error("wanted by one that is disabled", err)
	}
}

// Rings are as many as there are events: one that takes nothing is called by looks alone, and the others all the same.
func TestRingsDoNotPressWhoIsAway(t *testing.T) {
	s, away, r := openRung(t, sqldbtest.SQLite(t)), receive(t), receive(t)
	s.add(t, away)
	s.add(t, r)
	var calls atomic.Int64
	away.answers(func(w http.ResponseWriter) {
		calls.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	})
	runs(t, s.Service)
	relays(t, s.Service)
	for i := range 10 {
		s.happen(t, feed.OrderPaid, fmt.Sprint("o", i))
		r.took(t, i+1)
		await(t, func() bool { return calls.Load() > 0 })
		await(t, func() bool { // the failure is written
			all, err := s.List(t.Context())
			return err == nil && !all[0].FailingSince.IsZero()
		})
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls to one that takes nothing", n)
	}
}

// Ten thousand deliveries wait, for two endpoints that are quick, one that does not answer and one that is away. The
// quick ones have all of theirs before the slow one has answered at all; no more than a page of each is out of the
// database; and when the others are back they get everything.
func TestTenThousandWait(t *testing.T) {
	dbs := map[string]*sqldb.DB{"SQLite": sqldbtest.SQLite(t)}
	if os.Getenv("ORDERD_TEST_LONG") == "1" {
		dbs["MariaDB"] = sqldbtest.MariaDB(t)
	}
	for name, db := range dbs {
		t.Run(name, func(t *testing.T) { tenThousandWait(t, db) })
	}
}

func tenThousandWait(t *testing.T, db *sqldb.DB) {
	s := open(t, db, here)
	s.Patient() // whoever does not answer ends when the test wants it
	quick, quick2, slow, away := receive(t), receive(t), receive(t), receive(t)
	for _, r := range []*receiver{slow, away, quick, quick2} {
		s.add(t, r)
	}
	const events = 2500 // of four endpoints each
	nos := make([]string, events)
	for i := range nos {
		nos[i] = fmt.Sprintf("o%05d", i)
	}
	var answered, under, most atomic.Int64
	release, begun := make(chan struct{}), make(chan struct{})
	quick.hold = func() { <-begun } // nobody is quick because the slow one was not called yet
	begins := sync.OnceFunc(func() { close(begun) })
	slow.hold = func() {
		begins()
		for n := under.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-release
		under.Add(-1)
		answered.Add(1)
	}
	away.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
	s.happen(t, feed.OrderPaid, nos...)
	before := heap()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	claimed := map[string]int{}
	awaitLong(t, func() bool {
		now, err := s.Claims(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for id, n := range now {
			claimed[id] = max(claimed[id], n)
		}
		quick.mu.Lock()
		defer quick.mu.Unlock()
		quick2.mu.Lock()
		defer quick2.mu.Unlock()
		return len(quick.got) == events && len(quick2.got) == events
	})
	if n := answered.Load(); n != 0 {
		t.Errorf("the slow one had answered %d times before the quick ones had all", n)
	}
	if n, err := s.Known(t.Context()); n != 4*events || err != nil {
		t.Errorf("%d deliveries, %v", n, err)
	}
	if n := most.Load(); n > webhooks.AtOnce {
		t.Errorf("%d calls to one endpoint at once", n)
	}
	for id, n := range claimed {
		if n > webhooks.AtOnce {
			t.Errorf("%d deliveries to %s were claimed at once", n, id)
		}
	}
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
	close(release)
	away.answers(nil)
	for _, r := range []*receiver{slow, away} {
		awaitLong(t, func() bool {
			s.wait(time.Minute) // past the pauses of their ladders
			sqldb.Sleep(t.Context(), 100*time.Millisecond)
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.ids) == events
		})
	}
	stop()
	running.Wait()
	for _, r := range []*receiver{quick, quick2, slow, away} {
		r.mu.Lock()
		if len(r.ids) != events || r.forged > 0 {
			t.Errorf("%d of %d came, %d forged", len(r.ids), events, r.forged)
		}
		r.mu.Unlock()
	}
	if b, err := s.Backlog(t.Context()); err != nil || b.Waiting != 0 || b.On != 4 || b.Failing != 0 {
		t.Errorf("%+v, %v", b, err)
	}
}

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// awaitLong is await for what a busy machine takes minutes to do.
func awaitLong(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !what(); {
		if time.Now().After(deadline) {
			t.Fatal("not within three minutes")
		}
		sqldb.Sleep(t.Context(), 5*time.Millisecond)
	}
}

// BenchmarkDelivery is the time from a commit until the receiver has what it tells, with the ring of the commit and
// with the look alone, of a service that had nothing to do for a while.
func BenchmarkDelivery(b *testing.B) {
	for name, rung := range map[string]bool{"rung": true, "looked": false} {
		b.Run(name, func(b *testing.B) {
			allow, err := webhooks.ParseAllow(here)
			if err != nil {
				b.Fatal(err)
			}
			db := sqldbtest.SQLite(b)
			s, err := webhooks.New(webhooks.Config{DB: db, Now: time.Now, Key: testKey, Allow: allow})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			came := make(chan struct{}, 1)
			shop := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				came <- struct{}{}
			}))
			defer shop.Close()
			if _, _, err := s.Add(b.Context(), webhooks.Put{URL: shop.URL}); err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			var running sync.WaitGroup
			defer running.Wait()
			defer stop()
			running.Go(func() { s.Run(ctx) })
			if rung {
				running.Go(s.StartRelay(ctx))
			}
			for b.Loop() {
				b.StopTimer()
				sqldb.Sleep(ctx, 150*time.Millisecond)
				b.StartTimer()
				err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
					return feed.Insert(ctx, tx, []feed.Event{{At: time.Now(), Type: feed.OrderPaid, OrderNo: "o"}})
				})
				if err != nil {
					b.Fatal(err)
				}
				<-came
			}
		})
	}
}
