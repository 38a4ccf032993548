package scheduler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest"
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
	wait(t, "answered in the fifth round", 15*time.Second, func() bool { most = max(most, tasks(t, q)); return s.left() == 0 })
	if most > 2 { // the one that runs, and the next
		t.Errorf("%d tasks for one order", most)
	}
	wait(t, "nothing stays behind", 5*time.Second, func() bool { return tasks(t, q) == 0 })
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
	q, w := newWorker(t, "redis://"+m.Addr(), s, Options{SweepEvery: 250 * time.Millisecond, CloseRate: 100, Concurrency: 8})
	for range s.due {
		q.WakeAt(due)
	}
	wait(t, "the herd is in the queue", 10*time.Second, func() bool { return tasks(t, q) >= 1 })
	run(t, w)
	most := 0
	wait(t, "the herd ends", 20*time.Second, func() bool { most = max(most, tasks(t, q)); return s.left() == 0 })
	if most > herd+herd/10 {
		t.Errorf("%d tasks for %d orders", most, herd)
	}
	wait(t, "the queue is empty when the orders are done", time.Second, func() bool { return tasks(t, q) == 0 })
}

// A paused queue explains nothing: its orders must end by the sweep.
func TestPausedQueue(t *testing.T) {
	s := newShop(map[string]time.Time{})
	due := time.Now()
	for i := range 60 {
		s.due[fmt.Sprintf("o%03d", i)] = due
	}
	q, w := newWorker(t, "redis://"+mini(t).Addr(), s, Options{SweepEvery: 100 * time.Millisecond, CloseRate: 1000, Concurrency: 4})
	for range s.due {
		q.WakeAt(due)
	}
	wait(t, "tasks are in the queue", 5*time.Second, func() bool { return tasks(t, q) >= 1 })
	for _, queue := range slotQueues {
		if err := q.inspector().PauseQueue(queue); err != nil && queue == slotQueue(slotOf(due)) {
			t.Fatal(err)
		}
	}
	run(t, w)
	wait(t, "orders end past the paused queue", 15*time.Second, func() bool { return s.left() == 0 })
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
	wait(t, "the order ends by the sweep", 10*time.Second, func() bool { return s.left() == 0 })
	begin = time.Now()
	q.Close()
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("closing took %s", took)
	}
}

// A stop in the middle of a close would leave its answer unread and the order for later: what was begun must end.
func TestStopWhileBusyAbortsNothing(t *testing.T) {
	for name, url := range map[string]string{"tasks": "redis", "sweep alone": ""} {
		t.Run(name, func(t *testing.T) {
			if url != "" {
				url = "redis://" + mini(t).Addr()
			}
			s := &slow{shop: newShop(map[string]time.Time{"o1": time.Now()}), begun: make(chan struct{}), end: make(chan struct{})}
			q, w := newWorker(t, url, s.shop, Options{Orders: s, SweepEvery: 100 * time.Millisecond})
			if q != nil {
				q.WakeAt(s.due["o1"])
			}
			run(t, w)
			<-s.begun
			stopped := make(chan struct{})
			go func() { w.Stop(); close(stopped) }()
			wait(t, "the stop is under way", 5*time.Second, func() bool { return w.stopping.Err() != nil })
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

// Deadlines of more than a day came out at two days, of more than two at two months, in an ordering program that
// added days in hours (peers 9). The score in Redis must be the due time, rounded up.
func TestDeadlinesBeyondADay(t *testing.T) {
	m := mini(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer client.Close()
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), nil)
	now := time.Now()
	waits := []time.Duration{time.Minute, 24*time.Hour + time.Minute, 48*time.Hour + 300*time.Millisecond, 75 * 24 * time.Hour}
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

// What Redis has lost must be seen: the seconds in which orders come due and that have no task.
func TestMissing(t *testing.T) {
	s := newShop(map[string]time.Time{})
	q, _ := newWorker(t, "redis://"+mini(t).Addr(), s, Options{SweepEvery: time.Hour})
	at := time.Now().Add(time.Minute)
	s.due["armed"], s.due["with it"], s.due["forgotten"] = at, at, at.Add(2*time.Second)
	q.WakeAt(at)
	wait(t, "armed", 5*time.Second, func() bool { return tasks(t, q) == 1 })
	if got, err := q.Missing(t.Context(), s); err != nil || got != (Missing{Due: 2, Missing: 1}) {
		t.Errorf("%+v %v", got, err)
	}
}

// A URL that cannot work must be refused at the start, and credentials arrive as they were meant.
func TestClusterURL(t *testing.T) {
	for _, url := range []string{"redis+cluster://", "redis+cluster://h1", "redis+cluster://h1:1,,h2:2", "redis+cluster://u:%zz@h1:1"} {
		if _, err := Connect(url); !errors.Is(err, ErrRedisURL) {
			t.Errorf("%q: %v", url, err)
		}
	}
	client, err := Connect("redis+cluster://u:p%40ss@h1:1,h2:2")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, ok := client.(*redis.ClusterClient)
	if !ok || len(c.Options().Addrs) != 2 || c.Options().Username != "u" || c.Options().Password != "p@ss" {
		t.Errorf("%T %+v", client, c)
	}
}

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
	wait(t, "all parts are through", 20*time.Second, func() bool { return s.left() == 0 })
	wait(t, "no task stays behind", 5*time.Second, func() bool { return tasks(t, queues[0]) == 0 })
	s.ranOnce(t)
}

// Tens of thousands of orders that are placed in one second share a task: one call to Redis, and not one each.
func TestSecondIsSetOnce(t *testing.T) {
	m := mini(t)
	q, _ := newWorker(t, "redis://"+m.Addr(), newShop(nil), Options{})
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	calls := m.CommandCount()
	for i := range 10_000 {
		q.WakeAt(at.Add(-time.Duration(i%1000) * time.Millisecond))
	}
	wait(t, "set", 5*time.Second, func() bool { return tasks(t, q) == 1 })
	q.forget() // Redis has lost it
	before := m.CommandCount()
	q.WakeAt(at)
	wait(t, "set again", 5*time.Second, func() bool { return m.CommandCount() > before })
	if n := before - calls; n > 50 { // waiting asks too
		t.Errorf("%d calls of Redis", n)
	}
}
