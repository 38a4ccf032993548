package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb/failpoint"
	"orderd/order"
)

// Bounds of the sweep.
const (
	sweepPage     = 500
	sweepMaxRows  = 100_000          // of one pass; the next one goes on where it stopped
	sweepDirect   = 16               // refunds, and tasks that failed, run at once
	lookAhead     = 30 * time.Second // slots set again before they are due
	rearmAhead    = 10 * time.Minute // after Redis lost its data
	redisPatience = 500 * time.Millisecond
	// firstWord is the least that a healthy queue needs: a due time in the
	// middle of a second is rounded up, and then looked for by polling.
	firstWord = 2 * time.Second
	// maxExplained is how long a backlog is taken as the reason for an order
	// being late.
	maxExplained = 10 * time.Minute
	failedAtOnce = 200 // failed tasks that one pass tries again
)

// sweep covers what the queue forgets. Its passes page by (due_at, order_no),
// so that orders that cannot be helped never hide the next one.
type sweep struct {
	w            *Worker
	cursor       order.DueCursor // where a pass that was cut short goes on
	refundCursor order.DueCursor
	up           time.Time // since when Redis answers, zero while it does not
	retrying     atomic.Bool
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
	s.w.expiry.ring()
	s.retryFailed(ctx)
	if !s.redisAlive(ctx) {
		s.up = time.Time{}
		s.overdue(ctx, now)
		s.refunds(ctx, now)
		return
	}
	s.refunds(ctx, now.Add(-max(s.w.o.SweepEvery, firstWord)))
	if s.up.IsZero() {
		s.up = now
	}
	if s.redisLost(ctx) {
		s.w.o.Queue.forget()
		s.arm(ctx, rearmAhead)
		s.overdue(ctx, now) // no task is on its way: nothing to wait for
		return
	}
	s.arm(ctx, lookAhead)
	patience := max(s.w.o.SweepEvery, firstWord) + s.explained()
	if now.Sub(s.up) < patience {
		return // the tasks that waited for Redis, or for us, are running now
	}
	s.overdue(ctx, now.Add(-patience))
}

// explained is how late an order may be only because its task waits its turn. A
// sweep that ran those itself would do so beside the workers, one by one after
// them. A paused queue explains nothing.
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

// redisLost tells whether Redis has lost data, or is new to us: a key of ours has
// vanished from beside one of the queues. On a cluster they are on several nodes.
func (s *sweep) redisLost(ctx context.Context) bool {
	client := s.w.o.Queue.redis
	lost := false
	for queue := range queues() {
		isNew, err := client.SetNX(ctx, epochKey(queue), s.w.o.Now().Unix(), 0).Result()
		lost = lost || err == nil && isNew
		// asynq's client remembers that it announced a queue and would not do so
		// again; without the announcement its inspector is blind.
		if err := client.SAdd(ctx, "asynq:queues", queue).Err(); err != nil {
			s.w.o.Log.Warn("queue not announced", "queue", queue, "err", err)
		}
	}
	if lost {
		s.w.o.Observe.RedisLost()
		s.w.o.Log.Info("Redis is new or came back empty, setting the wake-ups again")
	}
	return lost
}

// epochKey is gone when Redis lost the data of a queue: it is in its slot.
func epochKey(queue string) string { return "orderd:epoch:{" + queue + "}" }

// arm sets the slots of the near future in which orders are due. It looks for one
// order per slot, however many there are.
func (s *sweep) arm(ctx context.Context, ahead time.Duration) {
	now := s.w.o.Now()
	for _, state := range []order.State{order.StatePending, order.StateClosing} {
		err := eachSlot(ctx, s.w.o.Orders, state, now, now.Add(ahead), func(slot int64) {
			s.w.o.Queue.WakeAt(time.Unix(slot, 0))
		})
		if err != nil && ctx.Err() == nil {
			s.w.o.Log.Warn("sweep: cannot read what comes due", "err", err)
		}
	}
}

// eachSlot gives the slots in which orders of a state come due.
func eachSlot(ctx context.Context, o Orders, state order.State, from, until time.Time, do func(slot int64)) error {
	for {
		next, err := o.DueOrders(ctx, state, order.DueCursor{At: from}, until, 1)
		if err != nil || len(next) == 0 {
			return err
		}
		slot := slotOf(next[0].At)
		do(slot)
		from = time.Unix(slot, 0).Add(time.Millisecond)
	}
}

// overdue takes what should have been taken by until and was not, whatever the
// reason: the task was lost, or its worker died.
func (s *sweep) overdue(ctx context.Context, until time.Time) {
	rows := 0
	var failed failures
	var running sync.WaitGroup
	find := func(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error) {
		return s.w.o.Orders.DueOrders(ctx, order.StatePending, after, until, limit)
	}
	slots := make(chan struct{}, pagesAtOne)
	s.cursor = s.pages(ctx, find, s.cursor, until, partSize, func(page []order.Due) bool {
		rows += len(page)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			run, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait) // a stop does not cut off what was begun
			defer cancel()
			failed.add(page[0].Key, s.w.expiry.take(run, page, cause("sweep", "")))
		})
		return true
	})
	running.Wait()
	if rows > 0 {
		s.w.o.Observe.Swept(rows)
		s.w.o.Log.Info("sweep", "overdue", rows)
	}
	failed.tell(s.w.o.Log, "sweep: orders not done")
}

// retryFailed tries the tasks again that failed and whose time has come, beside
// the passes: they may take long, and nothing waits for them.
func (s *sweep) retryFailed(ctx context.Context) {
	if s.w.o.Failures == nil || !s.retrying.CompareAndSwap(false, true) {
		return
	}
	s.w.loops.Go(func() {
		defer s.retrying.Store(false)
		s.failed(ctx)
	})
}

func (s *sweep) failed(ctx context.Context) {
	due, err := s.w.o.Failures.Due(ctx, failedAtOnce)
	if err != nil {
		s.w.o.Log.Warn("sweep: cannot read failed tasks", "err", err)
		return
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, sweepDirect)
	for i := range due {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			run, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskTimeout)
			defer cancel()
			s.again(run, &due[i])
		})
	}
	running.Wait()
}

// again gives a failed task another run, and forgets it when that ends well or
// its next turn is known.
func (s *sweep) again(ctx context.Context, f *Failed) {
	why := cause("sweep", f.ID)
	var err error
	if f.Payload != "" {
		content, cut := strconv.Unquote(f.Payload)
		if cut != nil {
			err, content = fmt.Errorf("%w: it was too long to be kept whole", errPoison), f.Payload
		} else {
			err = s.w.do(ctx, f.Type, []byte(content), f.ID)
		}
		if errors.Is(err, errPoison) {
			_ = s.w.bury(ctx, Failure{Type: f.Type, Key: f.Key, Cause: err, Payload: []byte(content), Poison: true})
			return
		}
	} else {
		err = s.w.retry(ctx, Failure{Type: f.Type, Key: f.Key}, why)
	}
	if _, later := nextAsk(err); err == nil || later {
		err = s.w.o.Failures.Done(ctx, f.Type, []string{f.Key})
	}
	if err != nil && isFailure(err) {
		s.w.o.Log.Warn("failed task", "task", f.ID, "err", err)
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
			failed.add(d.Key, s.w.one(run, Failure{Type: TypeRefund, Key: d.Key}, cause("sweep", "")))
		})
		return true
	})
	running.Wait()
	failed.tell(s.w.o.Log, "sweep: refunds not done")
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

// tell says so once a pass: a thousand bad orders are not a thousand lines every
// few seconds.
func (f *failures) tell(log *slog.Logger, what string) {
	if f.n > 0 {
		log.Warn(what, "failed", f.n, "first", f.orderNo, "err", f.err)
	}
}

// finder pages through what is due: orders or refunds.
type finder func(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)

// each gives what is due of a range one by one until do says no, like pages.
func (s *sweep) each(ctx context.Context, find finder, after order.DueCursor, until time.Time, do func(order.Due) bool) order.DueCursor {
	return s.pages(ctx, find, after, until, sweepPage, func(page []order.Due) bool {
		for _, d := range page {
			if !do(d) {
				return false
			}
		}
		return true
	})
}

// pages gives what is due of a range page by page until do says no. It returns
// where to go on: the zero cursor when the range was read to its end.
func (s *sweep) pages(ctx context.Context, find finder, after order.DueCursor, until time.Time, size int, do func([]order.Due) bool) order.DueCursor {
	for rows := 0; rows < sweepMaxRows; {
		page, err := find(ctx, after, until, size)
		if err != nil {
			if ctx.Err() == nil {
				s.w.o.Log.Warn("sweep: cannot read what is due", "err", err)
			}
			return after
		}
		if len(page) == 0 {
			return order.DueCursor{}
		}
		failpoint.Hit("sweep.selected")
		after = placeOf(page[len(page)-1])
		more := do(page)
		failpoint.Hit("sweep.between")
		if !more || len(page) < size {
			return order.DueCursor{}
		}
		rows += len(page)
	}
	return after
}
