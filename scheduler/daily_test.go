package scheduler

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// A day that was missed, with or without Redis, must be caught up with after a start; a failing day is no dead task.
func TestDailyCatchesUp(t *testing.T) {
	for name, url := range map[string]string{"with Redis": "redis://" + mini(t).Addr(), "without": ""} {
		t.Run(name, func(t *testing.T) {
			d := &day{err: errors.New("the bill is not ready")}
			q, w := newWorker(t, url, newShop(nil), Options{SweepEvery: 50 * time.Millisecond, Daily: d})
			run(t, w)
			wait(t, "the days are looked at", func() bool { return d.n.Load() > 0 })
			if q == nil {
				return
			}
			wait(t, "the task of the day has its hour", func() bool {
				entries, err := q.inspector().SchedulerEntries()
				return err == nil && len(entries) == 1 && entries[0].Spec == dailyCron &&
					entries[0].Task.Type() == TypeReconcile
			})
			before := d.n.Load()
			if _, err := q.client.Enqueue(asynq.NewTask(TypeReconcile, nil), asynq.Queue(QueueReconcile),
				asynq.MaxRetry(0)); err != nil {
				t.Fatal(err)
			}
			wait(t, "the task of the day runs", func() bool { return d.n.Load() > before })
			if d, err := q.DepthOf(QueueReconcile); err != nil || d.States["archived"] != 0 {
				t.Errorf("dead tasks %+v %v", d, err)
			}
		})
	}
}

// day counts how often the reconciliation was asked for.
type day struct {
	n   atomic.Int64
	err error
}

func (d *day) CatchUp(context.Context) error { d.n.Add(1); return d.err }
