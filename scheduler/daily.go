package scheduler

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"
)

// Bounds of the daily reconciliation.
const (
	// dailyCron is five past ten in Beijing, in UTC: WeChat's bills are out from ten on.
	dailyCron = "5 2 * * *"
	// catchUpEvery is how soon a missed day, or a bill that was not ready, is
	// looked for again, with or without Redis.
	catchUpEvery = 10 * time.Minute
	// dailyTimeout bounds one run: millions of rows take minutes.
	dailyTimeout = 2 * time.Hour
	// dailyUnique keeps the replicas' schedulers to one task a day.
	dailyUnique = time.Hour
)

// ringDaily sets the task of the day's reconciliation at its hour. Every replica
// does; one task comes of it.
func (w *Worker) ringDaily(ctx context.Context) {
	if w.o.Daily == nil {
		return
	}
	s := asynq.NewSchedulerFromRedisClient(w.o.Queue.redis, &asynq.SchedulerOpts{Location: time.UTC, Logger: &quietLog{log: w.o.Log, now: w.o.Now}})
	_, err := s.Register(dailyCron, asynq.NewTask(TypeReconcile, nil), asynq.Queue(QueueReconcile), asynq.Unique(dailyUnique),
		asynq.Timeout(dailyTimeout), asynq.MaxRetry(0)) // what fails is caught up with
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		w.o.Log.Warn("the daily reconciliation has no task, it is caught up with", "err", err)
		return
	}
	<-ctx.Done()
	s.Shutdown()
}

// catchUp looks for days that are not reconciled: after a start, and then now
// and again. It needs no Redis.
func (w *Worker) catchUp(ctx context.Context) {
	if !sleep(ctx, rand.N(w.o.SweepEvery)+w.o.SweepEvery) { // replicas do not start in step
		return
	}
	for {
		if err := w.reconcile(ctx); err != nil && !errors.Is(err, context.Canceled) {
			w.o.Log.Warn("daily reconciliation", "err", err)
		}
		if !sleep(ctx, catchUpEvery*8/10+rand.N(catchUpEvery*4/10)) {
			return
		}
	}
}

// reconcile ends with a stop: what it has done is kept, and a run goes on where
// it was needed when it is made again.
func (w *Worker) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dailyTimeout)
	defer cancel()
	stop := context.AfterFunc(w.stopping, cancel)
	defer stop()
	return w.o.Daily.CatchUp(ctx)
}
