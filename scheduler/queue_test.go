package scheduler

import (
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// What Redis has lost must be seen: the seconds in which orders come due and that have no task.
func TestMissing(t *testing.T) {
	s := newShop(map[string]time.Time{})
	q, _ := newWorker(t, "redis://"+mini(t).Addr(), s, Options{SweepEvery: time.Hour})
	at := time.Now().Add(time.Minute)
	s.due["armed"], s.due["with it"], s.due["forgotten"] = at, at, at.Add(2*time.Second)
	q.WakeAt(at)
	wait(t, "armed", func() bool { return tasks(t, q) == 1 })
	if got, err := q.Missing(t.Context(), s); err != nil || got != (Missing{Due: 2, Missing: 1}) {
		t.Errorf("%+v %v", got, err)
	}
}

// Deadlines of more than a day came out at two days, of more than two at two months, in an ordering program that
// added days in hours (peers 9). The score in Redis must be the due time, rounded up.
func TestDeadlinesBeyondADay(t *testing.T) {
	m := mini(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer client.Close()
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), nil)
	now := time.Now()
	waits := []time.Duration{time.Minute, 24*time.Hour + time.Minute, 48*time.Hour + 300*time.Millisecond,
		75 * 24 * time.Hour}
	for _, d := range waits {
		q.WakeAt(now.Add(d))
	}
	q.Close()
	for _, d := range waits {
		at := now.Add(d)
		score, err := m.ZScore("asynq:{"+slotQueue(slotOf(at))+"}:scheduled", slotID(slotOf(at)))
		if err != nil || time.Unix(int64(score), 0).Before(at) || time.Unix(int64(score), 0).Sub(at) >= time.Second {
			t.Errorf("%s: score %.0f for %d (%v)", d, score, at.Unix(), err)
		}
	}
	if n := tasks(t, q); n != len(waits) {
		t.Errorf("%d tasks for %d wake-ups", n, len(waits))
	}
}

// What an operator is shown as set in Redis must be what will wake: the seconds, rounded up, and none past the end.
func TestScheduledSecondsAreThoseThatWake(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: mini(t).Addr()})
	defer client.Close()
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), nil)
	begin := time.Now().Add(time.Hour).Truncate(time.Second)
	if set, err := q.Scheduled(begin); err != nil || len(set) != 0 {
		t.Errorf("nothing was set: %v %v", set, err)
	}
	want := map[int64]bool{}
	for i := range 3 * len(slotQueues) {
		at := begin.Add(time.Duration(i) * time.Second)
		q.WakeAt(at.Add(-300 * time.Millisecond))
		want[at.Unix()] = i < 2*len(slotQueues)
	}
	q.RefundAt("R1", begin)
	q.Close()
	until := begin.Add(time.Duration(2*len(slotQueues)-1) * time.Second)
	set, err := q.Scheduled(until)
	for at, in := range want {
		if set[at] != in {
			t.Errorf("%d is set: %t, want %t", at, set[at], in)
		}
	}
	if err != nil || len(set) != 2*len(slotQueues) {
		t.Errorf("%d seconds, %v", len(set), err)
	}
	_ = client.Close()
	if _, err := q.Scheduled(until); err == nil {
		t.Error("Redis is away, and nothing is said to be set")
	}
}

// Tens of thousands of orders that are placed in one second share a task: one call to Redis, and not one each.
func TestSecondIsSetOnce(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: mini(t).Addr()})
	defer client.Close()
	var armed counted
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), &armed)
	defer q.Close()
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	for i := range 10_000 {
		q.WakeAt(at.Add(-time.Duration(i%1000) * time.Millisecond))
	}
	wait(t, "set", func() bool { return tasks(t, q) == 1 && armed.calls.Load() > 0 })
	if n := armed.calls.Load(); n != 1 {
		t.Errorf("%d calls of Redis for a second", n)
	}
	q.forget() // Redis has lost it
	q.WakeAt(at)
	wait(t, "set again", func() bool { return armed.calls.Load() == 2 })
}

// counted counts the calls to Redis that set a wake-up, whatever they come to.
type counted struct {
	nobody
	calls atomic.Int64
}

func (c *counted) Armed(string) { c.calls.Add(1) }

// A shutdown must not wait minutes for a Redis that hangs with a full buffer behind it, and placing an order must not
// wait for it at all (peers 28).
func TestHungRedis(t *testing.T) {
	s := newShop(map[string]time.Time{"o1": time.Now()})
	q, w := newWorker(t, "redis://"+hung(t), s, Options{SweepEvery: 200 * time.Millisecond})
	run(t, w)
	begin := time.Now()
	for range wakeUpBuffer + 100 {
		q.WakeAt(begin.Add(time.Hour))
	}
	if each := time.Since(begin) / wakeUpBuffer; each > time.Millisecond {
		t.Errorf("handing over took %s each", each)
	}
	wait(t, "the order ends by the sweep", func() bool { return s.left() == 0 })
	begin = time.Now()
	q.Close()
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("closing took %s", took)
	}
}

// hung accepts connections and never answers: the worst way for Redis to be away.
func hung(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}
