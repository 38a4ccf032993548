package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orderd/order"
)

func tasks(t *testing.T, q *Queue) int {
	t.Helper()
	d, err := q.Depth()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, tasks := range d.States {
		n += tasks
	}
	return n
}

// While WeChat is away every failed close sets its next wake-up, as the service does. If the task that failed also
// stayed, tasks would grow with every round, and so would the storm when WeChat is back (reliability T7).
func TestUnknownDoesNotMultiplyTasks(t *testing.T) {
	s := newShop(map[string]time.Time{"o1": time.Now()})
	q, w := newWorker(t, "redis://"+mini(t).Addr(), s, Options{SweepEvery: time.Hour, CloseRate: 1000})
	s.answer = func(no string, n int) error {
		if n > 4 {
			return nil
		}
		at := ceil(time.Now().Add(100 * time.Millisecond))
		q.WakeAt(at)
		return &order.ClosingError{At: at, Err: errors.New("no answer")}
	}
	q.WakeAt(s.due["o1"])
	run(t, w)
	most := 0
	wait(t, "answered in the fifth round", func() bool { most = max(most, tasks(t, q)); return s.left() == 0 })
	if most > 2 { // the one that runs, and the next
		t.Errorf("%d tasks for one order", most)
	}
	wait(t, "nothing stays behind", func() bool { return tasks(t, q) == 0 })
}

// A thundering herd is a backlog, not a loss (T6). If the sweep made tasks for what merely waits its turn, each pass
// would double the work, and every later deadline would queue behind it.
func TestBacklogIsNotLoss(t *testing.T) {
	const herd = 300
	s := newShop(map[string]time.Time{})
	due := time.Now()
	for i := range herd {
		s.due[fmt.Sprintf("o%03d", i)] = due
	}
	m := mini(t)
	for queue := range queues() { // a Redis that we know: it has lost nothing
		if err := m.Set(epochKey(queue), "1"); err != nil {
			t.Fatal(err)
		}
	}
	q, w := newWorker(t, "redis://"+m.Addr(), s, Options{SweepEvery: 250 * time.Millisecond, CloseRate: 100,
		Concurrency: 8})
	for range s.due {
		q.WakeAt(due)
	}
	wait(t, "the herd is in the queue", func() bool { return tasks(t, q) >= 1 })
	run(t, w)
	most := 0
	wait(t, "the herd ends", func() bool { most = max(most, tasks(t, q)); return s.left() == 0 })
	if most > herd+herd/10 {
		t.Errorf("%d tasks for %d orders", most, herd)
	}
	wait(t, "the queue is empty when the orders are done", func() bool { return tasks(t, q) == 0 })
}

// A paused queue explains nothing: its orders must end by the sweep.
func TestPausedQueue(t *testing.T) {
	s := newShop(map[string]time.Time{})
	due := time.Now()
	for i := range 60 {
		s.due[fmt.Sprintf("o%03d", i)] = due
	}
	q, w := newWorker(t, "redis://"+mini(t).Addr(), s,
		Options{SweepEvery: 100 * time.Millisecond, CloseRate: 1000, Concurrency: 4})
	for range s.due {
		q.WakeAt(due)
	}
	wait(t, "tasks are in the queue", func() bool { return tasks(t, q) >= 1 })
	for _, queue := range slotQueues {
		if err := q.inspector().PauseQueue(queue); err != nil && queue == slotQueue(slotOf(due)) {
			t.Fatal(err)
		}
	}
	run(t, w)
	wait(t, "orders end past the paused queue", func() bool { return s.left() == 0 })
}

// A stop in the middle of a close would leave its answer unread and the order for later: what was begun must end.
func TestStopWhileBusyAbortsNothing(t *testing.T) {
	for name, url := range map[string]string{"tasks": "redis", "sweep alone": ""} {
		t.Run(name, func(t *testing.T) {
			if url != "" {
				url = "redis://" + mini(t).Addr()
			}
			s := &slow{shop: newShop(map[string]time.Time{"o1": time.Now()}), begun: make(chan struct{}),
				end: make(chan struct{})}
			q, w := newWorker(t, url, s.shop, Options{Orders: s, SweepEvery: 100 * time.Millisecond})
			if q != nil {
				q.WakeAt(s.due["o1"])
			}
			run(t, w)
			<-s.begun
			stopped := make(chan struct{})
			go func() { w.Stop(); close(stopped) }()
			wait(t, "the stop is under way", func() bool { return w.stopping.Err() != nil })
			close(s.end)
			<-stopped
			if s.cut != nil || s.left() != 0 {
				t.Errorf("cut off: %v, %d orders left", s.cut, s.left())
			}
		})
	}
}

// slow is a shop whose one order takes until end is closed, and sees whether it is cut off.
type slow struct {
	*shop
	once       sync.Once
	begun, end chan struct{}
	cut        error
}

func (s *slow) Expire(ctx context.Context, no string, cause order.Cause) error {
	s.once.Do(func() { close(s.begun) })
	<-s.end
	s.cut = ctx.Err()
	return s.shop.Expire(ctx, no, cause)
}

func (s *slow) CloseClaimed(ctx context.Context, claims []order.Claim, why order.Cause) []error {
	return expireEach(ctx, claims, why, s.Expire)
}
