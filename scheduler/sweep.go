package scheduler

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb/failpoint"
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
	// firstWord is the least that a healthy queue needs: a due time in the
	// middle of a second is rounded up, and then looked for by polling.
	firstWord = 2 * time.Second
	// maxExplained is how long a backlog is taken as the reason for an order
	// being late: at 50 closes a second 30,000 orders are through by then.
	maxExplained = 10 * time.Minute
)

// sweep covers what the queue forgets. Its passes page by (due_at, order_no),
// so that orders that cannot be helped never hide the next one.
type sweep struct {
	w            *Worker
	cursor       order.DueCursor // where a pass that was cut short goes on
	refundCursor order.DueCursor
	up           time.Time // since when Redis answers, zero while it does not
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
	now := s.w.o.Now()
	if !s.redisAlive(ctx) {
		s.up = time.Time{}
		s.overdue(ctx, false, now)
		s.refunds(ctx, now)
		return
	}
	s.refunds(ctx, now.Add(-max(s.w.o.SweepEvery, firstWord)))
	if s.up.IsZero() {
		s.up = now
	}
	if s.redisLost(ctx) {
		s.arm(ctx, rearmAhead)
		s.overdue(ctx, true, now) // no task is on its way: nothing to wait for
		return
	}
	s.arm(ctx, lookAhead)
	patience := max(s.w.o.SweepEvery, firstWord) + s.explained()
	if now.Sub(s.up) < patience {
		return // the tasks that waited for Redis, or for us, are running now
	}
	s.overdue(ctx, true, now.Add(-patience))
}

// explained is how late an order may be only because its task waits its turn.
// Tasks made for those would be so much more to wait for: a sweep that takes a
// backlog for a loss never lets it end. A paused queue explains nothing.
func (s *sweep) explained() time.Duration {
	d, err := s.w.o.Queue.Depth()
	if err != nil || d.Paused {
		return 0
	}
	return min(d.Latency, maxExplained)
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

// redisLost tells whether Redis has lost its data, or is new to us: a key of
// ours has vanished.
func (s *sweep) redisLost(ctx context.Context) bool {
	client := s.w.o.Queue.redis
	isNew, err := client.SetNX(ctx, epochKey, s.w.o.Now().Unix(), 0).Result()
	if err != nil || !isNew {
		return false
	}
	// asynq's client remembers that it announced the queue and would not do so
	// again; without the announcement its inspector is blind.
	if err := client.SAdd(ctx, "asynq:queues", QueueExpire, QueueRefund, QueueReconcile).Err(); err != nil {
		s.w.o.Log.Warn("queue not announced", "err", err)
	}
	s.w.o.Observe.RedisLost()
	s.w.o.Log.Info("Redis is new or came back empty, setting the wake-ups again")
	return true
}

// arm sets the wake-ups of the near future; those that are set are a conflict.
func (s *sweep) arm(ctx context.Context, ahead time.Duration) {
	now := s.w.o.Now()
	s.each(ctx, s.w.o.Orders.DueOrders, order.DueCursor{At: now}, now.Add(ahead), func(d order.Due) bool {
		armCtx, cancel := context.WithTimeout(ctx, armTimeout)
		defer cancel()
		_, err := s.w.o.Queue.enqueue(armCtx, arm{orderNo: d.OrderNo, version: d.Version, at: d.At}, wakeID(d.OrderNo, d.At), asynq.ProcessAt(ceil(d.At)))
		return err == nil
	})
}

// overdue brings what should have happened by until. With a live Redis it makes
// a task of the sweep's own, and what is later still is run here; without, all
// of it is.
func (s *sweep) overdue(ctx context.Context, alive bool, until time.Time) {
	now := s.w.o.Now()
	direct := until.Add(-(directAfter - 1) * s.w.o.SweepEvery)
	var rows, asked, ran int
	var failed failures
	var running sync.WaitGroup
	slots := make(chan struct{}, sweepDirect)
	s.cursor = s.each(ctx, s.w.o.Orders.DueOrders, s.cursor, until, func(d order.Due) bool {
		rows++
		if alive && d.At.After(direct) {
			var isNew bool
			if isNew, alive = s.enqueue(ctx, d, now); isNew {
				asked++
			}
			if alive {
				return true
			}
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		ran++
		running.Go(func() {
			defer func() { <-slots }()
			failed.add(d.OrderNo, s.ask(ctx, d))
		})
		return true
	})
	running.Wait()
	if rows > 0 {
		s.w.o.Observe.Swept(rows, asked, ran)
		s.w.o.Log.Info("sweep", "overdue", rows, "asked", asked, "direct", ran, "redis", alive)
	}
	if failed.n > 0 { // once a pass: a thousand bad orders are not a thousand lines every few seconds
		s.w.o.Log.Warn("sweep: orders not done", "failed", failed.n, "first", failed.orderNo, "err", failed.err)
	}
}

// refunds runs the refunds that their tasks have not come for. Each sets its
// next time before it calls WeChat, so one that cannot be helped is not asked
// about again at every pass.
func (s *sweep) refunds(ctx context.Context, until time.Time) {
	var failed failures
	var running sync.WaitGroup
	slots := make(chan struct{}, sweepDirect)
	s.refundCursor = s.each(ctx, s.w.o.Orders.DueRefunds, s.refundCursor, until, func(d order.Due) bool {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			run, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskTimeout)
			defer cancel()
			err := s.w.refund(run, d.OrderNo, cause("sweep", ""))
			s.w.o.Observe.Fired(result(err))
			failed.add(d.OrderNo, err)
		})
		return true
	})
	running.Wait()
	if failed.n > 0 {
		s.w.o.Log.Warn("sweep: refunds not done", "failed", failed.n, "first", failed.orderNo, "err", failed.err)
	}
}

// enqueue makes a task of the sweep's own; alive is whether Redis took it.
func (s *sweep) enqueue(ctx context.Context, d order.Due, now time.Time) (isNew, alive bool) {
	ctx, cancel := context.WithTimeout(ctx, armTimeout)
	defer cancel()
	isNew, err := s.w.o.Queue.enqueue(ctx, arm{orderNo: d.OrderNo, version: d.Version}, sweepID(d.OrderNo, now, s.w.o.SweepEvery))
	return isNew, err == nil
}

// ask runs one order without a task. What fails is the next pass's; what was
// begun is not cut off by a stop.
func (s *sweep) ask(ctx context.Context, d order.Due) error {
	err := throttle(ctx, s.w.limiter, d.OrderNo)
	if err == nil {
		run, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskTimeout)
		defer cancel()
		err = s.w.o.Orders.Expire(run, d.OrderNo, cause("sweep", ""))
	}
	s.w.o.Observe.Fired(result(err))
	return err
}

// failures counts what went wrong in a pass and remembers the first.
type failures struct {
	mu      sync.Mutex
	n       int
	orderNo string
	err     error
}

func (f *failures) add(orderNo string, err error) {
	if err == nil || !isFailure(err) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n == 1 {
		f.orderNo, f.err = orderNo, err
	}
}

// finder pages through what is due: orders or refunds.
type finder func(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)

// each gives what is due of a range page by page until do says no. It
// returns where to go on: the zero cursor when the range was read to its end.
func (s *sweep) each(ctx context.Context, find finder, after order.DueCursor, until time.Time, do func(order.Due) bool) order.DueCursor {
	for rows := 0; rows < sweepMaxRows; {
		page, err := find(ctx, after, until, sweepPage)
		if err != nil {
			if ctx.Err() == nil {
				s.w.o.Log.Warn("sweep: cannot read what is due", "err", err)
			}
			return after
		}
		if len(page) > 0 {
			failpoint.Hit("sweep.selected")
		}
		for _, d := range page {
			after = order.DueCursor{At: d.At, OrderNo: d.OrderNo}
			if !do(d) {
				return order.DueCursor{}
			}
			failpoint.Hit("sweep.between")
		}
		if len(page) < sweepPage {
			return order.DueCursor{}
		}
		rows += len(page)
	}
	return after
}
