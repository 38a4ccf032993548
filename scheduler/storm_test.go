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

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

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
		q.CloseAt(no, int64(n), at)
		return &order.ClosingError{At: at, Err: errors.New("no answer")}
	}
	q.CloseAt("o1", 1, s.due["o1"])
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
	if err := m.Set(epochKey, "1"); err != nil { // a Redis that we know: it has lost nothing
		t.Fatal(err)
	}
	q, w := newWorker(t, "redis://"+m.Addr(), s, Options{SweepEvery: 250 * time.Millisecond, CloseRate: 100, Concurrency: 8})
	for no := range s.due {
		q.CloseAt(no, 1, due)
	}
	wait(t, "the herd is in the queue", 10*time.Second, func() bool { return tasks(t, q) == herd })
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
	for no := range s.due {
		q.CloseAt(no, 1, due)
	}
	wait(t, "tasks are in the queue", 5*time.Second, func() bool { return tasks(t, q) == 60 })
	if err := q.inspector().PauseQueue(QueueExpire); err != nil {
		t.Fatal(err)
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
	for i := range armBuffer + 100 {
		q.CloseAt(fmt.Sprint("x", i), 1, begin.Add(time.Hour))
	}
	if each := time.Since(begin) / armBuffer; each > time.Millisecond {
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
			q, w := newWorker(t, url, s.shop, Options{SweepEvery: 100 * time.Millisecond})
			w.o.Orders = s
			if q != nil {
				q.CloseAt("o1", 1, s.due["o1"])
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
		q.CloseAt("o", 1, now.Add(d))
	}
	q.Close()
	for _, d := range waits {
		at := now.Add(d)
		score, err := m.ZScore("asynq:{expire}:scheduled", wakeID("o", at))
		if err != nil || time.Unix(int64(score), 0).Before(at) || time.Unix(int64(score), 0).Sub(at) >= time.Second {
			t.Errorf("%s: score %.0f for %d (%v)", d, score, at.Unix(), err)
		}
	}
	if n := tasks(t, q); n != len(waits) {
		t.Errorf("%d tasks for %d wake-ups", n, len(waits))
	}
}

// A wake-up taken back too near its time would scan the whole pending list; one far ahead must go.
func TestDrop(t *testing.T) {
	m := mini(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer client.Close()
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), nil)
	defer q.Close()
	far, near := time.Now().Add(time.Hour), time.Now().Add(time.Second)
	q.CloseAt("far", 1, far)
	q.CloseAt("near", 1, near)
	wait(t, "both set", 5*time.Second, func() bool { return tasks(t, q) == 2 })
	q.Drop("near", near)
	q.Drop("far", far)
	wait(t, "the far one is gone", 5*time.Second, func() bool { return tasks(t, q) == 1 })
	if _, err := q.inspector().GetTaskInfo(QueueExpire, wakeID("near", near)); err != nil {
		t.Error(err)
	}
}

// An operator must be able to run and to discard a dead task, and neither by mistake one that is alive.
func TestDeadTasksAndMissing(t *testing.T) {
	m := mini(t)
	s := newShop(map[string]time.Time{})
	q, w := newWorker(t, "redis://"+m.Addr(), s, Options{SweepEvery: time.Hour})
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: m.Addr()})
	defer client.Close()
	for _, id := range []string{"p1", "p2"} {
		if _, err := client.Enqueue(asynq.NewTask(TypeExpire, []byte(`{"v":1,"order_no":"`+id+`"}`)), asynq.Queue(QueueExpire), asynq.TaskID(id)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, w)
	dead := func(n int) func() bool {
		return func() bool { d, err := q.Dead(); return err == nil && len(d) == n }
	}
	wait(t, "two dead", 10*time.Second, dead(2))
	s.mu.Lock()
	s.due["p1"] = time.Now() // mended: the order is there now
	s.mu.Unlock()
	if err := errors.Join(q.RunDead("p1"), q.DiscardDead("p2")); err != nil {
		t.Fatal(err)
	}
	wait(t, "run and discarded", 10*time.Second, func() bool { return s.left() == 0 && dead(0)() })

	at := time.Now().Add(time.Minute)
	s.mu.Lock()
	s.due["armed"], s.due["forgotten"] = at, at
	s.mu.Unlock()
	q.CloseAt("armed", 1, at)
	wait(t, "armed", 5*time.Second, func() bool { return tasks(t, q) == 1 })
	for _, id := range []string{wakeID("armed", at), "none"} {
		if err := q.DiscardDead(id); !errors.Is(err, ErrNoSuchTask) {
			t.Errorf("%s: %v", id, err)
		}
	}
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
