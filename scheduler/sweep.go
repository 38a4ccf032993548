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

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/order"
)

// Bounds of the sweep.
const (
	// sweepPage is how many refunds one query reads. Orders are read in parts
	// (partSize), since a part is what is written together.
	sweepPage = 500
	// sweepMaxRows is how many orders, and how many refunds, one pass takes; the
	// next one goes on where it stopped. In between, the other work of the sweep
	// gets its time.
	sweepMaxRows = 100_000
	// sweepAtOnce is how many refunds, and how many tasks that failed, the sweep
	// runs at once: half of what a worker's tasks do by default.
	sweepAtOnce = 16
	// lookAhead is how long before its second a wake-up is set again, in case it
	// was lost: several passes at the default interval.
	lookAhead = 30 * time.Second
	// lookAheadAfterLoss is the same after Redis lost its data. It costs a query
	// for each second that has orders: 600 of each state at most.
	lookAheadAfterLoss = 10 * time.Minute
	// redisPatience is how long Redis has to take a small write.
	redisPatience = 500 * time.Millisecond
	// lookEvery is how often Redis is asked to take one. As long as it does not, the
	// sweep makes a pass as often: no timeout is later than that and redisPatience.
	lookEvery = time.Second
	// leastPatience is the least time that a healthy queue needs to run an order
	// after it came due: due times are rounded up to the second, and then looked
	// for every Options.Poll.
	leastPatience = 2 * time.Second
	// maxExplained is how long a backlog of the queue is taken as the reason for
	// an order being late. Past it the sweep runs the order beside the queue.
	maxExplained = 10 * time.Minute
	// movesFor is for how many intervals of the sweep a queue counts as one that moves
	// after it last ran a task.
	movesFor = 2
	// failedPerPass is how many failed tasks are read, and tried again, at once.
	// Each may take taskTimeout; the others are read at the next pass.
	failedPerPass = 200
	// forgetEvery is how often dead tasks are held against the orders and refunds that
	// they are of.
	forgetEvery = time.Minute
)

// sweepParams is what a sweep needs.
type sweepParams struct {
	Orders   Orders
	Queue    *Queue // nil without Redis
	Closer   *closer
	Runner   *runner
	Failures *failureTracker
	Line     *lineSignal
	Observe  Observer
	Log      *slog.Logger
	Now      func() time.Time
	Every    time.Duration // from one pass to the next, give or take a fifth
}

// sweep does from the database what the queue forgets or cannot do: it runs what
// is overdue, sets lost wake-ups again, and tries failed tasks again. It reads
// pages by (due time, number), so that orders that cannot be helped never hide
// those behind them.
type sweep struct {
	sweepParams
	// cursor and refundCursor are where a pass that was cut short at sweepMaxRows
	// goes on.
	cursor, refundCursor order.DueCursor
	// up is since when Redis has answered; zero while it does not.
	up time.Time
	// took is when Redis last took a write of ours; refuses says that it does not.
	took    time.Time
	refuses bool
	knows   bool              // all keys of redisLost were there, or were set, once
	moves   map[string]moving // by queue
	forgot  time.Time         // when dead tasks of what has ended were last forgotten
	// What runs beside the passes, and its goroutines.
	retrying, refunding atomic.Bool
	others              sync.WaitGroup
}

// moving is how many tasks a queue has run, and when that last changed, on the
// monotonic clock.
type moving struct {
	done int
	at   time.Time
}

func newSweep(p sweepParams) *sweep { return &sweep{sweepParams: p, moves: map[string]moving{}} }

// run makes a pass every interval until ctx ends, and returns when what it began
// has ended.
func (s *sweep) run(ctx context.Context) {
	defer s.others.Wait()
	if !sqldb.Sleep(ctx, rand.N(s.Every/4+1)) { // replicas do not sweep in step
		return
	}
	for {
		s.pass(ctx)
		if !s.rest(ctx) {
			return
		}
	}
}

// rest waits for the next pass, and cuts that short when Redis takes no writes: nobody
// but the sweep wakes anybody then. False: ctx has ended.
func (s *sweep) rest(ctx context.Context) bool {
	left := s.Every*8/10 + rand.N(s.Every*4/10+1)
	for s.Queue != nil && left > lookEvery {
		if left -= lookEvery; !sqldb.Sleep(ctx, lookEvery) {
			return false
		}
		if !s.redisTakes(ctx) {
			return true
		}
	}
	return sqldb.Sleep(ctx, left)
}

// pass looks once at everything that is overdue. Without Redis, that is whatever
// is due. With Redis, only what the queue had time enough to run.
func (s *sweep) pass(ctx context.Context) {
	now := s.Now()
	s.Line.notify()
	if s.Failures.DeadLetters != nil {
		s.beside(&s.retrying, func() {
			s.failed(ctx)
			s.forgetEnded(ctx, now)
		})
	}
	takes, patience := s.redisTakes(ctx), time.Duration(0)
	if takes {
		patience = max(s.Every, leastPatience)
	}
	refundable := now.Add(-patience) // by value: patience grows below, while the refunds run beside
	s.beside(&s.refunding, func() { s.refunds(ctx, refundable) })
	if !takes {
		s.up = time.Time{}
		s.overdue(ctx, now)
		return
	}
	if s.up.IsZero() {
		s.up = now
	}
	if s.redisLost(ctx) {
		s.Queue.forget()
		s.schedule(ctx, lookAheadAfterLoss)
		s.overdue(ctx, now) // no task is on its way: nothing to wait for
		return
	}
	s.schedule(ctx, lookAhead)
	patience += s.explained()
	if now.Sub(s.up) < patience {
		return // the tasks that waited for Redis, or for us, are running now
	}
	s.overdue(ctx, now.Add(-patience))
}

// explained is how late an order may be only because its task waits behind others.
// A sweep that ran those itself would do so beside the workers, one by one after
// them. A queue that does not move explains nothing, however old its tasks grow:
// nobody takes them. Nor does a paused one.
func (s *sweep) explained() time.Duration {
	var late time.Duration
	now := time.Now() // durations only, never stored
	for _, queue := range append(slotQueues[:], QueueExpire) {
		d, err := s.Queue.DepthOf(queue)
		if err != nil || d.Paused {
			return 0
		}
		was, seen := s.moves[queue]
		if seen && was.done != d.Done {
			was.at = now
		}
		was.done = d.Done
		s.moves[queue] = was
		if !was.at.IsZero() && now.Sub(was.at) < movesFor*max(s.Every, leastPatience) {
			late = max(late, d.Latency)
		}
	}
	return min(late, maxExplained)
}

// redisTakes reports that Redis takes a write, and has kept the last one.
func (s *sweep) redisTakes(ctx context.Context) bool {
	if s.Queue == nil {
		return false
	}
	kept, err := writeAll(ctx, s.Queue.redis)
	now := time.Now() // durations only, never stored
	if err == nil && !kept && !s.took.IsZero() && now.Sub(s.took) < aliveFor/2 {
		err = errForgets
	}
	if s.took = now; err != nil && !errors.Is(err, errForgets) {
		s.took = time.Time{}
	}
	switch {
	case ctx.Err() != nil:
	case err != nil && !s.refuses:
		s.Log.Warn("Redis takes no tasks, the sweep runs without", "err", err)
	case err == nil && s.refuses:
		s.Log.Info("Redis takes tasks again")
	}
	s.refuses = err != nil
	return err == nil
}

// redisLost reports that Redis has lost data, or is new: a key of ours is not beside one
// of the queues. On a cluster they are on several nodes. Only what this process has seen
// there before is lost: a Redis that is empty at the first start is none that lost anything.
func (s *sweep) redisLost(ctx context.Context) bool {
	client := s.Queue.redis
	lost, reached := false, true
	for queue := range queues() {
		isNew, err := client.SetNX(ctx, epochKey(queue), s.Now().Unix(), 0).Result()
		lost, reached = lost || err == nil && isNew, reached && err == nil
		// asynq's client adds a queue to this set when it first uses it, remembers
		// that, and would not do so again; without it, asynq's inspector does not
		// see the queue.
		if err := client.SAdd(ctx, "asynq:queues", queue).Err(); err != nil {
			s.Log.Warn("queue not announced", "queue", queue, "err", err)
		}
	}
	switch {
	case lost && s.knows:
		s.Observe.RedisLost()
		s.Log.Warn("Redis came back empty, setting the wake-ups again")
	case lost:
		s.Log.Info("Redis is new, setting the wake-ups")
	}
	s.knows = s.knows || reached
	return lost
}

// epochKey is a key that is gone when Redis has lost the data of a queue. The
// braces put it on the node of the queue, whose keys have the same ones.
func epochKey(queue string) string { return "orderd:epoch:{" + queue + "}" }

// schedule sets the wake-ups of the seconds ahead in which orders are due. It
// reads one order per second, however many there are.
func (s *sweep) schedule(ctx context.Context, ahead time.Duration) {
	now := s.Now()
	for _, state := range []order.State{order.StatePending, order.StateClosing} {
		err := eachSlot(ctx, s.Orders, state, now, now.Add(ahead), func(slot int64) {
			s.Queue.WakeAt(time.Unix(slot, 0))
		})
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("sweep: cannot read what comes due", "err", err)
		}
	}
}

// eachSlot calls do for each second, as Unix time, in which orders of a state come
// due.
func eachSlot(ctx context.Context, o DueOrders, state order.State, from, until time.Time,
	do func(slot int64)) error {
	for {
		next, err := o.DueOrders(ctx, state, order.DueCursor{At: from}, until, 1)
		if err != nil || len(next) == 0 {
			return err
		}
		slot := slotOf(next[0].At)
		do(slot)
		from = time.Unix(slot, 0).Add(time.Millisecond) // due times are whole milliseconds
	}
}

// overdue takes the unpaid orders that should have been taken by until and were
// not, whatever the reason: the task was lost, or its worker died.
func (s *sweep) overdue(ctx context.Context, until time.Time) {
	rows := 0
	var failed tally
	find := func(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error) {
		return s.Orders.DueOrders(ctx, order.StatePending, after, until, limit)
	}
	running := newGroup(pagesAtOnce, shutdownWait)
	s.cursor = s.pages(ctx, find, s.cursor, until, partSize, func(page []order.Due) bool {
		rows += len(page)
		return running.Go(ctx, func(ctx context.Context) {
			failed.add(page[0].Key, s.Closer.take(ctx, page, cause("sweep", "")))
		})
	})
	running.Wait()
	if rows > 0 {
		s.Observe.Swept(rows)
		s.Log.Info("sweep", "overdue", rows)
	}
	failed.log(s.Log, "sweep: orders not done")
}

// beside runs do beside the passes, unless it still runs for an earlier one: it may take
// long, or wait for a row that somebody holds, and timeouts do not wait for it.
func (s *sweep) beside(busy *atomic.Bool, do func()) {
	if !busy.CompareAndSwap(false, true) {
		return
	}
	s.others.Go(func() {
		defer busy.Store(false)
		do()
	})
}

// forgetEnded forgets, now and then, the dead tasks for which nothing is left to do: their
// order or refund ended another way, such as by a payment or by people.
func (s *sweep) forgetEnded(ctx context.Context, now time.Time) {
	if now.Sub(s.forgot) < forgetEvery {
		return
	}
	s.forgot = now
	n, err := s.Failures.DeadLetters.forgetUnreadable(ctx)
	if errors.Is(err, sqldb.ErrLocked) { // they are forgotten another time, the others now
		err = nil
	}
	for _, typ := range []string{TypeExpire, TypeRefund} {
		for after, more := "", true; more && err == nil; {
			var keys, ended []string
			if keys, err = s.Failures.DeadLetters.dead(ctx, typ, after, failedPage); err != nil || len(keys) == 0 {
				break
			}
			after, more = keys[len(keys)-1], len(keys) == failedPage
			if ended, err = s.Orders.Ended(ctx, typ == TypeRefund, keys); err == nil && len(ended) > 0 {
				err = s.Failures.DeadLetters.Done(ctx, typ, ended)
				n += len(ended)
			}
		}
	}
	if n > 0 {
		s.Log.Info("dead tasks forgotten, nothing is left to do for them", "tasks", n)
	}
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("sweep: dead tasks of what has ended", "err", err)
	}
}

// failed tries the failed tasks again whose time has come, and returns when all
// of them have ended.
func (s *sweep) failed(ctx context.Context) {
	due, err := s.Failures.DeadLetters.Due(ctx, failedPerPass)
	if err != nil {
		s.Log.Warn("sweep: cannot read failed tasks", "err", err)
		return
	}
	running := newGroup(sweepAtOnce, taskTimeout)
	defer running.Wait()
	for i := range due {
		if !running.Go(ctx, func(ctx context.Context) { s.again(ctx, &due[i]) }) {
			return
		}
	}
}

// again gives a failed task another run, and forgets it when that ends well or
// its next time is known.
func (s *sweep) again(ctx context.Context, f *FailedTask) {
	var err error
	if f.Payload != "" {
		content, cut := strconv.Unquote(f.Payload)
		if cut != nil {
			err, content = fmt.Errorf("%w: it was too long to be kept whole", errPoison), f.Payload
		} else {
			err = s.Runner.run(ctx, f.Type, []byte(content), f.ID)
		}
		if errors.Is(err, errPoison) {
			_ = s.Failures.deadLetter(ctx,
				Failure{Type: f.Type, Key: f.Key, Cause: err, Payload: []byte(content), Poison: true})
			return
		}
	} else {
		err = s.Runner.retry(ctx, Failure{Type: f.Type, Key: f.Key}, cause("sweep", f.ID))
	}
	if _, later := nextAsk(err); err == nil || later {
		err = s.Failures.DeadLetters.Done(ctx, f.Type, []string{f.Key})
	}
	if err != nil && isFailure(err) {
		s.Log.Warn("failed task", "task", f.ID, "err", err)
	}
}

// refunds runs the refunds that should have been run by until and were not. Each
// sets its next time before it calls WeChat Pay, so one that cannot be helped is
// not asked about again at every pass.
func (s *sweep) refunds(ctx context.Context, until time.Time) {
	var failed tally
	running := newGroup(sweepAtOnce, taskTimeout)
	s.refundCursor = s.pages(ctx, s.Orders.DueRefunds, s.refundCursor, until, sweepPage, func(page []order.Due) bool {
		for _, d := range page {
			of := Failure{Type: TypeRefund, Key: d.Key}
			if !running.Go(ctx, func(ctx context.Context) {
				failed.add(d.Key, s.Runner.one(ctx, of, cause("sweep", "")))
			}) {
				return false
			}
		}
		return true
	})
	running.Wait()
	failed.log(s.Log, "sweep: refunds not done")
}

// finder lists what is due, orders or refunds, after a place and by a time.
type finder func(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)

// pages reads what is due, page by page, until do says no. It returns where to go
// on: the zero cursor, from the begin, when everything was read.
func (s *sweep) pages(ctx context.Context, find finder, after order.DueCursor, until time.Time, size int,
	do func([]order.Due) bool) order.DueCursor {
	for rows := 0; rows < sweepMaxRows; {
		page, err := find(ctx, after, until, size)
		if err != nil {
			if ctx.Err() == nil {
				s.Log.Warn("sweep: cannot read what is due", "err", err)
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

// tally counts what went wrong in a pass and remembers the first. The zero value
// is ready for use, by several goroutines.
type tally struct {
	mu    sync.Mutex
	n     int
	first string // number of the order or refund
	err   error  // its error
}

func (t *tally) add(no string, err error) {
	if err == nil || !isFailure(err) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n++; t.n == 1 {
		t.first, t.err = no, err
	}
}

// log writes one line a pass: a thousand bad orders are not a thousand lines every
// few seconds.
func (t *tally) log(log *slog.Logger, what string) {
	if t.n > 0 {
		log.Warn(what, "failed", t.n, "first", t.first, "err", t.err)
	}
}
