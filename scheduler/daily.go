package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb"
)

// When the daily reconciliation runs.
const (
	// dailyCron is 02:05 UTC, five past ten in Beijing: WeChat Pay's bills of the
	// day before are out from ten on.
	dailyCron = "5 2 * * *"
	// catchUpEvery is how soon, give or take a fifth, a day that was missed or
	// whose bill was not ready is looked for again, with or without Redis.
	catchUpEvery = 10 * time.Minute
	// dailyTimeout bounds one run: millions of rows take minutes.
	dailyTimeout = 2 * time.Hour
	// dailyUnique is how long a second task of the same day is refused: the
	// replicas, whose clocks differ by less, make one task together.
	dailyUnique = time.Hour
)

// dailyParams is what the daily reconciliation needs.
type dailyParams struct {
	Daily Daily
	Queue *Queue // nil without Redis
	Log   *slog.Logger
	Now   func() time.Time
	// FirstAfter is the least time after a start before the first look for missed
	// days.
	FirstAfter time.Duration
	// Stopping ends a run when the worker stops.
	Stopping context.Context
}

// daily sees to it that every day is reconciled with WeChat Pay's bills: by a task
// at its hour, and by looking for missed days.
type daily struct{ dailyParams }

// schedule makes the task of every day at its hour, until ctx ends. Every replica
// does; one task comes of it.
func (d *daily) schedule(ctx context.Context) {
	s := asynq.NewSchedulerFromRedisClient(d.Queue.redis,
		&asynq.SchedulerOpts{Location: time.UTC, Logger: &quietLog{log: d.Log, now: d.Now}})
	// No retries: what fails is caught up with.
	_, err := s.Register(dailyCron, asynq.NewTask(TypeReconcile, nil), asynq.Queue(QueueReconcile),
		asynq.Unique(dailyUnique), asynq.Timeout(dailyTimeout), asynq.MaxRetry(0))
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		d.Log.Warn("the daily reconciliation has no task, it is caught up with", "err", err)
		return
	}
	<-ctx.Done()
	s.Shutdown()
}

// catchUp looks for days that are not reconciled, soon after a start and then
// every catchUpEvery, until ctx ends. It needs no Redis.
func (d *daily) catchUp(ctx context.Context) {
	if !sqldb.Sleep(ctx, rand.N(d.FirstAfter)+d.FirstAfter) { // replicas do not start in step
		return
	}
	for {
		if err := d.reconcile(ctx); err != nil && !errors.Is(err, context.Canceled) {
			d.Log.Warn("daily reconciliation", "err", err)
		}
		if !sqldb.Sleep(ctx, catchUpEvery*8/10+rand.N(catchUpEvery*4/10)) {
			return
		}
	}
}

// reconcile runs the reconciliation once. A stop ends it in the middle: what it
// has done is kept, and the next run goes on from there.
func (d *daily) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dailyTimeout)
	defer cancel()
	stop := context.AfterFunc(d.Stopping, cancel)
	defer stop()
	return d.Daily.CatchUp(ctx)
}
