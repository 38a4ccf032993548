package scheduler

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb/sqldbtest"
)

// keeping gives options with a place for what fails.
func keeping(t *testing.T, o Options) Options {
	t.Helper()
	o.DeadLetters = NewDeadLetters(sqldbtest.SQLite(t), time.Now)
	return o
}

func count(t *testing.T, f *DeadLetters) (failing, dead int) {
	t.Helper()
	failing, dead, err := f.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return failing, dead
}

// A thousand tasks that nobody can read, before the good one in its own queue: they must be kept for a person, leave
// the queue, and not delay it (reliability T4).
func TestPoisonTasks(t *testing.T) {
	t.Parallel() // it mostly waits
	server := sqldbtest.RedisServer(t)
	due := time.Now().Add(3 * time.Second)
	s := newShop(map[string]time.Time{"good": due})
	o := keeping(t, Options{SweepEvery: time.Hour, CloseRate: -1})
	q, w := newWorker(t, server.URL(), s, o)
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: server.Addr})
	defer client.Close()
	for i := range 1000 {
		task := [...]*asynq.Task{asynq.NewTask(TypeExpire, []byte("{\xff")),
			asynq.NewTask("order:unknown", []byte(`{"v":1,"order_no":"x"}`)),
			asynq.NewTask(TypeExpire, []byte(`{"v":2,"slot":-7}`)), asynq.NewTask(TypeRefund, nil)}[i%4]
		if _, err := client.Enqueue(task, asynq.Queue(slotQueue(slotOf(due))),
			asynq.TaskID(fmt.Sprint("poison", i))); err != nil {
			t.Fatal(err)
		}
	}
	q.WakeAt(due)
	run(t, w)
	wait(t, "the good one runs", func() bool { return s.left() == 0 })
	t.Logf("%s late behind a thousand broken tasks", time.Since(due))
	wait(t, "all are kept", func() bool { _, dead := count(t, o.DeadLetters); return dead == 1000 })
	wait(t, "the queue is empty", func() bool { return tasks(t, q) == 0 })
}

// Tasks of programs before the slots are about one order: they must still run, and one of an order that never was must
// not stay for ever.
func TestTasksOfOneOrder(t *testing.T) {
	m := mini(t)
	s := newShop(map[string]time.Time{"old": time.Now()})
	o := keeping(t, Options{SweepEvery: time.Hour})
	q, w := newWorker(t, "redis://"+m.Addr(), s, o)
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: m.Addr()})
	defer client.Close()
	for _, no := range []string{"old", "ghost"} {
		if _, err := client.Enqueue(asynq.NewTask(TypeExpire, []byte(`{"v":1,"order_no":"`+no+`","version":1}`)),
			asynq.Queue(QueueExpire)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, w)
	wait(t, "the order ends", func() bool { return s.left() == 0 })
	wait(t, "the other is gone", func() bool { return tasks(t, q) == 0 })
	if s.ran["old"] != 1 {
		t.Errorf("run %d times", s.ran["old"])
	}
}

// A thousand orders that cannot be helped, due before a good one: it must not wait for them, they must not be tried at
// every pass, and each is kept with its cause; mended and run again, all end.
func TestPoisonRows(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	s := newShop(map[string]time.Time{"good": past.Add(time.Minute)})
	for i := range 1000 {
		s.due[fmt.Sprintf("bad%05d", i)] = past
	}
	mended := false
	s.answer = func(no string, _ int) error { // under the shop's lock
		if no != "good" && !mended {
			return errors.New("the books of " + no + " are broken")
		}
		return nil
	}
	o := keeping(t, Options{SweepEvery: 100 * time.Millisecond, CloseRate: -1})
	_, w := newWorker(t, "", s, o)
	begin := time.Now()
	run(t, w)
	wait(t, "the good one runs", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ran["good"] == 1
	})
	wait(t, "the bad ones are kept", func() bool { failing, _ := count(t, o.DeadLetters); return failing == 1000 })
	page, _, err := o.DeadLetters.List(t.Context(), Filter{}, "", 1)
	if err != nil || len(page) != 1 || !strings.Contains(page[0].Error, page[0].OrderNo+" are broken") {
		t.Fatalf("%+v %v", page, err)
	}
	// Ten passes more: a bad one that had no pause would be tried in each.
	s.mu.Lock()
	until := s.looks + 10
	s.mu.Unlock()
	wait(t, "ten passes", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.looks >= until })
	s.mu.Lock()
	most := 0
	for _, n := range s.ran {
		most = max(most, n)
	}
	mended = true
	s.mu.Unlock()
	// The pauses are a second, two, four and so on: as many tries as fit, and two more.
	took := time.Since(begin)
	if fit := 3 + int(math.Log2(1+took.Seconds())); most > fit {
		t.Errorf("a broken order was tried %d times in %s", most, took)
	}
	if _, err := o.DeadLetters.Run(t.Context(), Filter{Type: TypeExpire}); err != nil {
		t.Fatal(err)
	}
	wait(t, "mended, all end", func() bool { return s.left() == 0 })
	wait(t, "and are forgotten", func() bool {
		failing, dead := count(t, o.DeadLetters)
		return failing+dead == 0
	})
}

// A refund that fails for its own reasons must be kept by its number and not be tried at every pass.
func TestPoisonRefund(t *testing.T) {
	s := newShop(nil)
	o := keeping(t, Options{SweepEvery: time.Hour})
	q, w := newWorker(t, "redis://"+mini(t).Addr(), s, o)
	q.RefundAt("nobody", time.Now())
	run(t, w)
	wait(t, "the task of an unknown refund is dead", func() bool {
		_, dead := count(t, o.DeadLetters)
		return dead == 1
	})
	page, _, err := o.DeadLetters.List(t.Context(), Filter{State: StateDead}, "", 10)
	if err != nil || len(page) != 1 || page[0].OutRefundNo != "nobody" || page[0].Type != TypeRefund {
		t.Errorf("%+v %v", page, err)
	}
}
