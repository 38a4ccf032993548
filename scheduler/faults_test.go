package scheduler

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

func long() bool { return os.Getenv("ORDERD_TEST_LONG") == "1" }

func dueIn(n int, at time.Time) map[string]time.Time {
	due := map[string]time.Time{}
	for i := range n {
		due[fmt.Sprintf("o%05d", i)] = at
	}
	return due
}

// ranOnce fails the test unless every order was run exactly once. An order that
// is done runs as often as a task says so and does nothing; shop counts what
// was done.
func (s *shop) ranOnce(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for no, n := range s.ran {
		if n != 1 {
			t.Errorf("%s was done %d times", no, n)
		}
	}
	if s.early != 0 {
		t.Errorf("%d early runs", s.early)
	}
}

func direct(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A Redis restored from an old dump has tasks of orders that are long done: they must do nothing, and what
// the dump has never seen must end all the same (reliability F11).
func TestRestoredRedisBringsOldTasks(t *testing.T) {
	t.Parallel() // it mostly waits
	server := sqldbtest.RedisServer(t)
	s := newShop(dueIn(20, time.Now().Add(time.Second)))
	o := newOptions(t, server.URL(), s, Options{SweepEvery: 300 * time.Millisecond, CloseRate: 10_000})
	q := o.Queue
	w, err := NewWorker(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range s.due {
		q.WakeAt(at)
	}
	client := direct(t, server.Addr)
	wait(t, "wake-ups set", func() bool { return tasks(t, q) >= 1 })
	if err := client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "all done", func() bool { return s.left() == 0 })
	w.Stop()
	server.Kill()
	s.mu.Lock()
	s.due["fresh"] = time.Now().Add(500 * time.Millisecond) // after the dump
	s.mu.Unlock()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, "the dump brings tasks back", func() bool { return scheduled(t, client) > 0 })
	w, err = NewWorker(o)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w)
	wait(t, "the fresh one ends", func() bool { return s.left() == 0 })
	wait(t, "old tasks are through", func() bool { return tasks(t, q) == 0 })
	s.ranOnce(t)
}

// A fail-over to a replica that lacks the last seconds, and back to the old master that kept its own: tasks are lost
// and doubled, orders are neither (reliability F12).
func TestRedisSplitBrain(t *testing.T) {
	t.Parallel() // it mostly waits
	one, two := sqldbtest.RedisServer(t), sqldbtest.RedisServer(t)
	proxy, err := faultproxy.New(one.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	s := newShop(dueIn(30, time.Now().Add(2*time.Second)))
	q, _ := start(t, "redis://"+proxy.Addr()+"/0", s)
	for _, at := range s.due {
		q.WakeAt(at)
	}
	wait(t, "wake-ups set", func() bool { return tasks(t, q) >= 1 || s.left() == 0 })
	proxy.Switch(two.Addr)
	proxy.Reset()
	wait(t, "the new master has wake-ups", func() bool {
		return scheduled(t, direct(t, two.Addr)) > 0 || s.left() == 0
	})
	proxy.Switch(one.Addr)
	proxy.Reset()
	wait(t, "all end", func() bool { return s.left() == 0 })
	s.ranOnce(t)
}

// A Redis that is full refuses every wake-up while it answers PING: that must not stop the sweep, which asks Redis
// before it makes tasks (reliability F13).
func TestFullRedis(t *testing.T) {
	server := sqldbtest.RedisServer(t)
	if err := direct(t, server.Addr).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	s := newShop(dueIn(20, time.Now().Add(300*time.Millisecond)))
	q, _ := start(t, server.URL(), s)
	for _, at := range s.due {
		q.WakeAt(at)
	}
	wait(t, "orders end while Redis takes nothing", func() bool { return s.left() == 0 })
	s.ranOnce(t)
}

// A Redis that evicts keys leaves ids without tasks, and tasks without their lease: asynq loses both for ever, the
// sweep must not (reliability F13, fact 7).
func TestEvictedTasks(t *testing.T) {
	t.Parallel() // it mostly waits
	server := sqldbtest.RedisServer(t)
	s := newShop(dueIn(40, time.Now().Add(time.Second)))
	for i := range 40 {
		no := fmt.Sprintf("o%05d", i)
		s.due[no] = s.due[no].Add(time.Duration(i) * 100 * time.Millisecond)
	}
	q, w := newWorker(t, server.URL(), s, Options{SweepEvery: 300 * time.Millisecond, CloseRate: 10_000})
	for _, at := range s.due {
		q.WakeAt(at)
	}
	client := direct(t, server.Addr)
	wait(t, "wake-ups set", func() bool { return tasks(t, q) >= 4 })
	keys, err := client.Keys(t.Context(), "asynq:{expire-*}:t:*").Result()
	if err != nil || len(keys) < 4 {
		t.Fatal(len(keys), err)
	}
	for _, key := range keys[:len(keys)/2] { // as allkeys-lru would
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	run(t, w) // now: before that no task was done, however slow the machine is
	wait(t, "all end", func() bool { return s.left() == 0 })
	s.ranOnce(t)
}

// An order is placed before its wake-up is set, and a Redis that takes five seconds for every answer must not make a
// buyer wait (reliability F14).
func TestSlowRedisDoesNotDelayPlacing(t *testing.T) {
	server := sqldbtest.RedisServer(t)
	proxy, err := faultproxy.New(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	client, err := Connect("redis://" + proxy.Addr() + "/0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), nil)
	t.Cleanup(q.Close)
	f := ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) { c.Tasks = q })
	f.SKU(t, "mug", 100)
	const latency = 5 * time.Second
	proxy.Latency(latency)
	slowest := time.Duration(0)
	for i := range 50 {
		begin := time.Now()
		if _, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: fmt.Sprint("r", i),
			Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(begin))
	}
	if slowest >= latency {
		t.Errorf("the slowest of 50 placements took %s", slowest)
	}
}

// The provider away, then back: while it is away every order waits on its ladder, and when it is back it must not be
// run over by everybody who waited (reliability T6, T7). 10,000 at 100 a second in a long run.
func TestHerdAfterAnOutage(t *testing.T) {
	herd, rate, outage := 150, 100.0, 2*time.Second
	if long() {
		herd, outage = 10_000, 20*time.Second
	}
	begin := time.Now()
	back := begin.Add(outage)
	s := newShop(dueIn(herd, begin))
	var asked []time.Time
	s.answer = func(string, int) error { // under the shop's lock
		now := time.Now()
		asked = append(asked, now)
		if now.Before(back) {
			return &order.ClosingError{At: now.Add(time.Second), Err: errors.New("no answer")}
		}
		return nil
	}
	q, w := newWorker(t, "redis://"+mini(t).Addr(), s, Options{SweepEvery: 500 * time.Millisecond, CloseRate: rate})
	for _, at := range s.due {
		q.WakeAt(at)
	}
	run(t, w)
	wait(t, "the herd ends", func() bool { return s.left() == 0 })
	t.Logf("%d orders, away for %s, done after %s, %d asks", herd, outage,
		time.Since(begin).Round(time.Millisecond), len(asked))
	// From the begin on all of the rate is taken. What was permitted may be asked late, and never early.
	for i, at := range asked {
		if n, most := i+1, rate*at.Sub(begin).Seconds()+float64(Burst(rate)); float64(n) > most {
			t.Fatalf("%d asks in %s, the limit is %.0f", n, at.Sub(begin), most)
		}
	}
}
