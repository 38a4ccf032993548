package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// A Redis that answers and takes no writes hands out no tasks. When tasks were waiting there at that moment, the sweep
// once took their age for a backlog, and every timeout came ten minutes late, with a health check that passed. Then a
// Redis that takes every write and forgets it, and one that is well but whose tasks nobody takes.
func TestRedisThatRefuses(t *testing.T) {
	set := func(name, value string) func(*testing.T, *redis.Client) {
		return func(t *testing.T, c *redis.Client) {
			if err := c.ConfigSet(t.Context(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, refuse := range map[string]func(*testing.T, *redis.Client){
		"NOREPLICAS": set("min-replicas-to-write", "1"),
		"OOM":        set("maxmemory", "1"),
		"READONLY": func(t *testing.T, c *redis.Client) {
			if err := c.SlaveOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			server := sqldbtest.RedisServer(t)
			s := newShop(dueIn(20, time.Now().Add(300*time.Millisecond)))
			q, w := newWorker(t, server.URL(), s, Options{CloseRate: 10_000})
			for _, at := range s.due {
				q.WakeAt(at)
			}
			wait(t, "tasks are set", func() bool { return tasks(t, q) >= 1 })
			for _, queue := range slotQueues { // what asynq's forwarder does when they are due
				_, _ = q.inspector().RunAllScheduledTasks(queue)
			}
			client := direct(t, server.Addr)
			if err := Writable(t.Context(), client); err != nil {
				t.Fatal(err)
			}
			refuse(t, client)
			if f := writeFinding(t.Context(), client); f.Level != sqldb.LevelWarn || f.Fix == "see the log of Redis" {
				t.Errorf("doctor: %+v", f)
			}
			run(t, w)
			wait(t, "what was pending ends", func() bool { return s.left() == 0 })
			onTime(t, s, 3)
		})
	}
	t.Run("forgets", func(t *testing.T) {
		t.Parallel()
		server := sqldbtest.RedisServer(t)
		client := direct(t, server.Addr)
		s := newShop(dueIn(20, time.Now().Add(2*time.Second)))
		_, w := newWorker(t, server.URL(), s, Options{CloseRate: 10_000})
		run(t, w)
		stop := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					_ = client.FlushAll(t.Context()).Err()
				}
			}
		}()
		defer func() { close(stop); <-ended }()
		wait(t, "orders end", func() bool { return s.left() == 0 })
		onTime(t, s, 3)
	})
}

// onTime adds orders, one after the other, and wants each to end long before the ten minutes that tasks may explain.
func onTime(t *testing.T, s *shop, n int) {
	t.Helper()
	for i := range n {
		no, at := fmt.Sprint("later", i), time.Now().Add(700*time.Millisecond)
		s.mu.Lock()
		s.due[no] = at
		s.mu.Unlock()
		wait(t, no, func() bool { return s.left() == 0 })
		if late := time.Since(at); late > time.Minute {
			t.Errorf("%s ended %s late", no, late)
		} else {
			t.Logf("%s ended %s late", no, late.Round(10*time.Millisecond))
		}
	}
}

// Tasks of a queue that moves are a backlog, and the sweep leaves them to the workers. Those that nobody takes, because
// every worker of their queue is gone, must not have it wait for as long as they are old.
func TestTasksThatNobodyTakes(t *testing.T) {
	m := mini(t)
	s := newShop(map[string]time.Time{})
	old := time.Now().Add(-time.Hour)
	q, w := newWorker(t, "redis://"+m.Addr(), s, Options{SweepEvery: 300 * time.Millisecond})
	for i := range len(slotQueues) {
		q.WakeAt(old.Add(time.Duration(i) * time.Second))
	}
	wait(t, "tasks are in the queue", func() bool { return tasks(t, q) == len(slotQueues) })
	for range 2 {
		if d := w.sweep.explained(); d != 0 {
			t.Errorf("tasks that nobody takes explain %s", d)
		}
	}
	// One queue runs a task: it moves, and its own backlog is a reason; that of the others is none.
	queue := slotQueue(slotOf(old))
	if err := m.Set("asynq:{"+queue+"}:processed", "1"); err != nil {
		t.Fatal(err)
	}
	w.sweep.explained()
	w.sweep.mustMove(t, queue)
}

// mustMove checks that only one queue counts as moving.
func (s *sweep) mustMove(t *testing.T, queue string) {
	t.Helper()
	for name, m := range s.moves {
		if m.at.IsZero() == (name == queue) {
			t.Errorf("%s moves: %v", name, !m.at.IsZero())
		}
	}
}
