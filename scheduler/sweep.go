package scheduler

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"orderd/order"
)

// Bounds of the sweep.
const (
	sweepPage     = 500
	sweepMaxRows  = 20_000           // of one pass; the next one goes on where it stopped
	sweepDirect   = 16               // orders run at once without a task
	lookAhead     = 30 * time.Second // wake-ups set again before they are due
	rearmAhead    = 10 * time.Minute // after Redis lost its data
	epochKey      = "orderd:epoch"   // gone when Redis lost its data
	redisPatience = 500 * time.Millisecond
	// directAfter counts sweeps: an order this much overdue, which the backlog
	// does not explain, sits in a task that will not come (asynq can lose one
	// for ever), and is run here.
	directAfter = 4
)

// sweep covers what the queue forgets. Its passes page by (due_at, order_no),
// so that orders that cannot be helped never hide the next one.
type sweep struct {
	w      *Worker
	cursor order.DueCursor // where a pass that was cut short goes on
}

func (s *sweep) run(ctx context.Context) {
	every := s.w.o.SweepEvery
	if !sleep(ctx, rand.N(every/4+1)) { // replicas do not sweep in step
		return
	}
	for {
		s.pass(ctx)
		if !sleep(ctx, every*8/10+rand.N(every*4/10+1)) {
			return
		}
	}
}

func (s *sweep) pass(ctx context.Context) {
	alive := s.redisAlive(ctx)
	if alive {
		s.arm(ctx, s.lookAhead(ctx))
	}
	s.overdue(ctx, alive)
}

// redisAlive asks Redis for a sign of life.
func (s *sweep) redisAlive(ctx context.Context) bool {
	if s.w.o.Queue == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	return s.w.o.Queue.redis.Ping(ctx).Err() == nil
}

// lookAhead says how far ahead wake-ups are set again: farther when Redis has
// lost its data, which a key of ours that vanished shows.
func (s *sweep) lookAhead(ctx context.Context) time.Duration {
	client := s.w.o.Queue.redis
	isNew, err := client.SetNX(ctx, epochKey, s.w.o.Now().Unix(), 0).Result()
	if err != nil || !isNew {
		return lookAhead
	}
	// asynq's client remembers that it announced the queue and would not do so
	// again; without the announcement its inspector is blind.
	if err := client.SAdd(ctx, "asynq:queues", QueueExpire).Err(); err != nil {
		s.w.o.Log.Warn("queue not announced", "err", err)
	}
	s.w.o.Observe.RedisLost()
	s.w.o.Log.Info("Redis is new or came back empty, setting the wake-ups again")
	return rearmAhead
}

// arm sets the wake-ups of the near future; those that are set are a conflict.
func (s *sweep) arm(ctx context.Context, ahead time.Duration) {
	now := s.w.o.Now()
	s.each(ctx, order.DueCursor{At: now}, now.Add(ahead), func(d order.Due) bool {
		armCtx, cancel := context.WithTimeout(ctx, armTimeout)
		defer cancel()
		_, err := s.w.o.Queue.enqueue(armCtx, arm{orderNo: d.OrderNo, version: d.Version, at: d.At}, wakeID(d.OrderNo, d.At), asynq.ProcessAt(ceil(d.At)))
		return err == nil
	})
}

// overdue brings what should have happened by now. With a live Redis the queue
// has the first word for one interval, then a task of the sweep's own, then
// the order is run here.
func (s *sweep) overdue(ctx context.Context, alive bool) {
	now := s.w.o.Now()
	until := now
	backlog := false
	if alive {
		until = now.Add(-s.w.o.SweepEvery)
		if d, err := s.w.o.Queue.Depth(); err == nil {
			backlog = d.States["pending"] > s.w.o.Concurrency
		}
	}
	direct := now.Add(-directAfter * s.w.o.SweepEvery)
	var rows, asked, ran int
	var running sync.WaitGroup
	slots := make(chan struct{}, sweepDirect)
	last := s.each(ctx, s.cursor, until, func(d order.Due) bool {
		rows++
		if alive && (backlog || d.At.After(direct)) {
			armCtx, cancel := context.WithTimeout(ctx, armTimeout)
			defer cancel()
			isNew, err := s.w.o.Queue.enqueue(armCtx, arm{orderNo: d.OrderNo, version: d.Version}, sweepID(d.OrderNo, now, s.w.o.SweepEvery))
			if isNew {
				asked++
			}
			alive = err == nil
			return true
		}
		ran++
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			s.ask(ctx, d)
		})
		return true
	})
	running.Wait()
	s.cursor = last
	if rows > 0 {
		s.w.o.Observe.Swept(rows, asked, ran)
		s.w.o.Log.Info("sweep", "overdue", rows, "asked", asked, "direct", ran, "redis", alive)
	}
}

// ask runs one order without a task. A step that fails is the next pass's.
func (s *sweep) ask(ctx context.Context, d order.Due) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	err := s.w.ask(ctx, d.OrderNo, "sweep", "")
	s.w.o.Observe.Fired(result(err))
	if err != nil && isFailure(err) {
		s.w.o.Log.Warn("sweep: order not done", "order_no", d.OrderNo, "err", err)
	}
}

// each gives the due orders of a range page by page until do says no. It
// returns where to go on: the zero cursor when the range was read to its end.
func (s *sweep) each(ctx context.Context, after order.DueCursor, until time.Time, do func(order.Due) bool) order.DueCursor {
	for rows := 0; rows < sweepMaxRows; {
		page, err := s.w.o.Orders.DueOrders(ctx, after, until, sweepPage)
		if err != nil {
			if ctx.Err() == nil {
				s.w.o.Log.Warn("sweep: cannot read due orders", "err", err)
			}
			return after
		}
		for _, d := range page {
			after = order.DueCursor{At: d.At, OrderNo: d.OrderNo}
			if !do(d) {
				return order.DueCursor{}
			}
		}
		if len(page) < sweepPage {
			return order.DueCursor{}
		}
		rows += len(page)
	}
	return after
}
