package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"
)

// Bounds of rings.
const (
	// ringUnique is how long a ring that nobody has heard keeps others out: so few wait
	// while there is no worker, and one that died with its process is soon forgotten.
	ringUnique = time.Minute
	// ringPoll is how often Redis is asked for rings, by the one process that hears them.
	ringPoll = 50 * time.Millisecond
)

// Ring rings the process that makes the deliveries of webhooks. A ring that nobody has heard
// yet stands for all that come meanwhile. It takes enqueueTimeout at most, and says nothing
// of a Redis that is away: whoever makes deliveries looks by himself.
func (q *Queue) Ring(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	_, err := q.client.EnqueueContext(ctx, asynq.NewTask(TypeRing, nil), asynq.Queue(QueueRing),
		asynq.Unique(ringUnique), asynq.Timeout(taskTimeout), asynq.MaxRetry(maxRetry))
	switch {
	case err == nil:
		q.observe.Rung("set")
	case errors.Is(err, asynq.ErrDuplicateTask):
		q.observe.Rung("conflict")
	default:
		q.observe.Rung("failed")
	}
}

// Rings calls heard, which must be quick, for every ring until ctx ends. The process that
// makes the deliveries alone listens: another would take its rings.
func (q *Queue) Rings(ctx context.Context, heard func()) {
	server := asynq.NewServerFromRedisClient(q.redis, asynq.Config{
		Concurrency:              1,
		Queues:                   map[string]int{QueueRing: 1},
		Logger:                   &quietLog{log: q.log, now: q.now},
		ShutdownTimeout:          time.Second,
		DelayedTaskCheckInterval: defaultSweepEvery,
		TaskCheckInterval:        ringPoll,
	})
	err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		heard()
		return nil
	}))
	if err != nil {
		q.log.Warn("rings of webhooks are not heard, they are looked for", "err", err)
		return
	}
	<-ctx.Done()
	server.Shutdown()
}
