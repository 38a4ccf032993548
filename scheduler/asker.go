package scheduler

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
)

// Bounds of the asker.
const (
	// askEvery is how often a worker looks for asks that are due.
	askEvery = time.Second
	// askPage is how many due asks one query reads: those of several seconds.
	askPage = 500
	// asksTogether is how many trades are claimed and asked about together at most;
	// under a rate, as many as it gives at once.
	asksTogether = 64
	// askPagesAtOnce is how many of these are under way: while one waits for WeChat
	// Pay, the others go on.
	askPagesAtOnce = 8
	// askReadFor is how long what was read is believed to be the oldest that is due.
	askReadFor = 5 * time.Second
	// askPause is how long a worker asks nobody after WeChat Pay said that it is asked
	// too often, or gave no usable answer askUnknowns times in a row: closes have more to
	// say to it.
	askPause = 10 * time.Second
	// askUnknowns is how many asks in a row have no usable answer before the worker
	// pauses. Under a rate asks go one by one, and one trade that WeChat Pay never answers
	// about must not stop the others; WeChat Pay that is away is found out at this price.
	askUnknowns = 8
)

// askerParams is what an asker needs.
type askerParams struct {
	Orders Orders
	// Limiter is the rate of calls that closes leave; nil: there is no limit.
	Limiter Limiter
	Observe Observer
	Log     *slog.Logger
	Now     func() time.Time
}

// asker asks WeChat Pay about open trades whose time has come, so that a payment whose
// notification was lost is known before its order is closed. It needs no Redis. Every
// worker has one: claims keep them from one another. Closes go first, because the rate
// that it gets is what they leave.
type asker struct {
	askerParams
	paused  atomic.Int64 // until then, in nanoseconds of the wall clock; a duration only, never stored
	unknown atomic.Int64 // asks without a usable answer since the last one
}

func newAsker(p askerParams) *asker { return &asker{askerParams: p} }

// run looks for due asks every askEvery, until ctx ends, and returns when what it began
// has ended.
func (a *asker) run(ctx context.Context) {
	for sqldb.Sleep(ctx, askEvery*8/10+rand.N(askEvery*4/10)) { // replicas do not look in step
		if time.Now().UnixNano() < a.paused.Load() {
			continue
		}
		a.pass(ctx)
	}
}

// pass asks about what is due, until nothing is, or it has to pause.
func (a *asker) pass(ctx context.Context) {
	running := newGroup(askPagesAtOnce, shutdownWait)
	defer running.Wait()
	for ctx.Err() == nil && time.Now().UnixNano() >= a.paused.Load() {
		due, err := a.Orders.DueAsks(ctx, askPage)
		if err != nil {
			if ctx.Err() == nil {
				a.Log.Warn("cannot read whom to ask about", "err", err)
			}
			return
		}
		if len(due) == 0 || !a.page(ctx, running, due) {
			return
		}
	}
}

// page asks about the trades of a page, as the rate allows, and takes the others off
// the list. False: come back later.
func (a *asker) page(ctx context.Context, running *group, due []order.Ask) bool {
	var waiting, gone []order.Ask
	for _, ask := range due {
		if ask.Waits {
			waiting = append(waiting, ask)
		} else {
			gone = append(gone, ask)
		}
	}
	if _, err := a.Orders.ClaimAsks(ctx, gone); err != nil {
		a.Log.Warn("asks not taken off the list", "err", err)
		return false
	}
	end := time.Now().Add(askReadFor) // a duration only, never stored
	for len(waiting) > 0 {
		n := min(len(waiting), asksTogether)
		if a.Limiter != nil {
			got, wait, err := a.Limiter.Take(ctx, n)
			if err != nil {
				return false
			}
			if n = got; n == 0 {
				late := time.Now().Add(wait).After(end)
				if !sqldb.Sleep(ctx, min(max(wait, leastWait), askEvery)) || late {
					return ctx.Err() == nil
				}
				continue
			}
		}
		claimed, err := a.Orders.ClaimAsks(ctx, waiting[:n])
		if err != nil {
			a.Log.Warn("asks not claimed", "err", err)
			return false
		}
		waiting = waiting[n:]
		if len(claimed) > 0 && !running.Go(ctx, func(ctx context.Context) { a.ask(ctx, claimed) }) {
			return false
		}
		if time.Now().UnixNano() < a.paused.Load() {
			return false
		}
	}
	return true
}

// ask asks about claimed trades, and pauses when that had no use. An answer that could
// not be stored says nothing of WeChat Pay: it answers.
func (a *asker) ask(ctx context.Context, claimed []order.Ask) {
	now := a.Now()
	unknown, limited := 0, false
	for i, outcome := range a.Orders.AskPaid(ctx, claimed, cause("ask", "")) {
		a.Observe.Asked(outcome, now.Sub(claimed[i].At))
		switch outcome {
		case order.AskRateLimited:
			limited = true
		case order.AskUnknown:
			unknown++
		case order.AskPaid:
			a.Log.Info("a payment was found whose notification had not come", "order_no", claimed[i].OrderNo)
		case order.AskKnown, order.AskOpen, order.AskClosed, order.AskNotFound, order.AskError:
		}
	}
	inRow := int64(0)
	if unknown == len(claimed) {
		inRow = a.unknown.Add(int64(unknown))
	}
	if pauses := limited || inRow >= askUnknowns; pauses {
		a.paused.Store(time.Now().Add(askPause).UnixNano())
		inRow = 0
	}
	if inRow == 0 {
		a.unknown.Store(0)
	}
}
