package scheduler

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
)

// A second with thousands of orders is cut into parts for all workers: a bad cut leaves orders to the sweep, which
// does not come here, or asks about them twice.
func TestSlotIsCutIntoParts(t *testing.T) {
	due := ceil(time.Now().Add(2 * time.Second))
	s := newShop(dueIn(3*partSize+1, due))
	for no := range s.due { // several on each millisecond, and some on the second itself
		if n := len(s.ran); n%3 > 0 {
			s.due[no] = due.Add(-time.Duration(n%400) * time.Millisecond)
		}
		s.ran[no] = 0
	}
	url := sqldbtest.RedisServer(t).URL()
	var queues [3]*Queue
	for i := range queues {
		q, w := newWorker(t, url, s, Options{SweepEvery: time.Hour, CloseRate: -1})
		run(t, w)
		queues[i] = q
	}
	queues[0].WakeAt(due)
	wait(t, "all parts are through", func() bool { return s.left() == 0 })
	wait(t, "no task stays behind", func() bool { return tasks(t, queues[0]) == 0 })
	s.ranOnce(t)
}

// The limiter protects WeChat's quota: a burst of timeouts must be spread (T6).
func TestRateTowardsWeChat(t *testing.T) {
	s := newShop(map[string]time.Time{})
	for i := range 40 {
		s.due[fmt.Sprint("o", i)] = time.Now()
	}
	w, err := NewWorker(Options{Orders: s, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		SweepEvery: 50 * time.Millisecond, CloseRate: 20})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	wait(t, "all run", func() bool { return s.left() == 0 })
	if took := time.Since(begin); took < time.Second {
		t.Errorf("40 closes in %s at 20 a second", took)
	}
}
