package scheduler

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/order"
	"orderd/stock/gate"
)

// Bounds of the drainer.
const (
	// drainEvery is how often the queue is asked when it gave less than was wanted: the rate
	// allows the next ones in a moment.
	drainEvery = 50 * time.Millisecond
	// idleEvery is how often it is asked when nothing has waited for idleAfter: most of the time
	// there is no sale.
	idleEvery = 250 * time.Millisecond
	idleAfter = 5 * time.Second
	// drainBatch is how many placements are claimed at once: two full batches of the group
	// commit, one of which commits while the other collects.
	drainBatch = 256
	// drainTries is how often an order is tried that cannot be made for a reason that is nobody
	// else's. After that it waits for a person.
	drainTries = 3
	// firstDrainPause and longestDrainPause are the wait after a database or a Redis that is
	// away: doubled from one to the other.
	firstDrainPause   = 100 * time.Millisecond
	longestDrainPause = 5 * time.Second
	// drainFor bounds the making of one claimed batch: a call of the group has its answer
	// within three seconds.
	drainFor = 10 * time.Second
	// drainAgain is the wait before what could not be made is tried again, beside what comes.
	drainAgain = 500 * time.Millisecond
	// ackFor bounds the words to the queue about a batch.
	ackFor = 3 * time.Second
)

// TypeQueued is the type under which a placement of a queue is kept of which nobody could make
// an order. It is no task: its payload is shown to a person.
const TypeQueued = "order:queued"

// SaleQueue is what the drainer needs of the queue of sales; gate.Queue has it.
type SaleQueue interface {
	// Claim gives up to limit placements whose turn has come by the rates of their sales.
	// They stay in the queue until Done or Refuse, and are given again after gate.ClaimFor.
	Claim(ctx context.Context, limit int) ([]gate.Entry, error)
	// Done says that placements are orders of their numbers.
	Done(ctx context.Context, entries []gate.Entry) error
	// Refuse says that a placement becomes no order, and what its customer is told.
	Refuse(ctx context.Context, e gate.Entry, problem []byte) error
}

// drainerParams is what a drainer needs.
type drainerParams struct {
	Orders   Orders
	Queue    SaleQueue
	Failures *failureTracker
	Observe  Observer
	Log      *slog.Logger
	Now      func() time.Time
}

// drainer makes orders of the placements that wait in the queues of sales. Every worker has
// one. They share the work, since what is claimed is not given to two; and when one dies with
// claims, the next makes the same orders under the same numbers and keys, once. An error
// that says nothing about the placement itself leaves it where it is.
type drainer struct {
	drainerParams
	failed map[string]int // tries of those that could not be made, by number
	left   []claimed      // tried and not done with
	pauses int            // in turn
	worked time.Time      // when something last waited; durations only, never stored
}

// claimed is a placement that is ours until a time, and not to be tried before another one, both
// of this machine's clock.
type claimed struct {
	gate.Entry
	until, again time.Time
}

func newDrainer(p drainerParams) *drainer {
	return &drainer{drainerParams: p, failed: map[string]int{}}
}

// run makes orders until ctx ends, and ends what it has claimed.
func (d *drainer) run(ctx context.Context) {
	for {
		full, err := d.pass(ctx)
		every := drainEvery
		if time.Since(d.worked) > idleAfter {
			every = idleEvery
		}
		wait := every*8/10 + rand.N(every*4/10) // replicas do not ask in step
		switch {
		case err != nil:
			wait = min(firstDrainPause<<min(d.pauses, backoffDoublings), longestDrainPause)
			if d.pauses++; d.pauses == 1 && ctx.Err() == nil {
				d.Log.Warn("the queue of a sale waits", "err", err)
			}
		case full:
			wait = 0
			fallthrough
		default:
			d.pauses = 0
		}
		if !sqldb.Sleep(ctx, wait) {
			return
		}
	}
}

// drained is a claimed placement and what became of it: an order when both are nil.
type drained struct {
	claimed
	problem []byte
	err     error
}

// pass claims what may be made now, makes it, and tells the queue. Full: there may be more at
// once. An error: nothing could be done at this moment, and it is better to wait.
func (d *drainer) pass(ctx context.Context) (full bool, err error) {
	batch, err := d.claim(ctx)
	if len(batch) == 0 {
		return false, err
	}
	d.worked = time.Now()
	failpoint.Hit("drain.claimed")
	all := d.place(context.WithoutCancel(ctx), batch)
	failpoint.Hit("drain.committed")
	waited := len(d.left)
	err = d.tell(context.WithoutCancel(ctx), all)
	if len(d.left)-waited < len(batch) { // some are done with: the others are no reason to wait
		err = nil
	}
	return len(batch) == drainBatch, err
}

// claim gives what was tried before and is still ours, and what may be made beside it.
func (d *drainer) claim(ctx context.Context) (batch []claimed, err error) {
	now := time.Now() // durations only, never stored
	left := d.left
	d.left = nil
	for _, c := range left {
		switch {
		case now.After(c.until): // the next who claims has it
		case now.After(c.again) && len(batch) < drainBatch:
			batch = append(batch, c)
		default:
			d.left = append(d.left, c)
		}
	}
	if len(batch)+len(d.left) >= drainBatch {
		return batch, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ackFor)
	defer cancel()
	entries, err := d.Queue.Claim(ctx, drainBatch-len(batch)-len(d.left))
	for _, e := range entries {
		batch = append(batch, claimed{Entry: e, until: now.Add(gate.ClaimFor - drainFor - ackFor)})
	}
	return batch, err
}

// place makes orders of claimed placements, side by side, so that they are committed together.
func (d *drainer) place(ctx context.Context, batch []claimed) []drained {
	all := make([]drained, len(batch))
	running := newGroup(len(batch), drainFor)
	for i, c := range batch {
		all[i].claimed = c
		running.Go(ctx, func(ctx context.Context) { all[i].problem, all[i].err = d.Orders.PlaceQueued(ctx, c.Entry) })
	}
	running.Wait()
	return all
}

// tell tells the queue what became of placements. The error is the first of those for which one
// is left, to be tried again while it is ours.
func (d *drainer) tell(ctx context.Context, all []drained) (err error) {
	ctx, cancel := context.WithTimeout(ctx, ackFor)
	defer cancel()
	leave := func(why error, of ...claimed) {
		if why == nil {
			return
		}
		err = cmp.Or(err, why)
		for _, c := range of {
			c.again = time.Now().Add(drainAgain)
			d.left = append(d.left, c)
		}
	}
	now := d.Now()
	var placed []claimed
	var done []gate.Entry
	for i := range all {
		x := &all[i]
		if x.err != nil {
			x.err = d.giveUp(ctx, x)
		}
		switch {
		case x.err != nil:
			d.Observe.Drained("later", 0)
			leave(x.err, x.claimed)
		case x.problem == nil:
			d.Observe.Drained("placed", now.Sub(x.At))
			placed, done = append(placed, x.claimed), append(done, x.Entry)
		default:
			d.Observe.Drained("refused", now.Sub(x.At))
			leave(d.Queue.Refuse(ctx, x.Entry, x.problem), x.claimed)
			failpoint.Hit("drain.refused")
		}
	}
	if len(done) > 0 {
		leave(d.Queue.Done(ctx, done), placed...)
		failpoint.Hit("drain.acked")
	}
	return err
}

// giveUp keeps a placement for a person of which no order can be made, and gives it the problem
// that its customer is told. What is of the moment it gives back, and what may go better the
// next time.
func (d *drainer) giveUp(ctx context.Context, x *drained) error {
	if !isFailure(x.err) {
		return x.err
	}
	d.failed[x.OrderNo]++
	if d.failed[x.OrderNo] < drainTries && !errors.Is(x.err, order.ErrUnreadable) {
		return x.err
	}
	err := d.Failures.deadLetter(ctx, Failure{Type: TypeQueued, Key: x.OrderNo, Cause: x.err, Payload: x.Payload,
		Poison: true})
	if err != nil {
		return err
	}
	delete(d.failed, x.OrderNo)
	x.problem = order.NotMade()
	return nil
}
