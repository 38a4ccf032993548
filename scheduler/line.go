package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"orderd/order"
)

// Bounds of the waiting line.
const (
	// linePagesAtOnce is how many pages of the line a worker has under way: an
	// answer of WeChat Pay that takes seconds holds up its own page only.
	linePagesAtOnce = 12
	// waitingAtOnce is how many of those pages wait for their permits. One takes
	// permits and one is ready to follow it; with several replicas, more would not
	// get theirs before their claims run out.
	waitingAtOnce = 2
	// lineTime is how long one walk along the line may take. Orders that a walk
	// has passed, because they were not due again or had to be left, are seen
	// only by the next walk.
	lineTime = 30 * time.Second
	// lineShare: of as many pages one is of orders that nobody can pay, because no
	// prepay was sent for them, while others wait that may be paid. Abandoned carts must
	// not hold up what money can still come for, nor wait for ever behind it.
	lineShare = 4
)

// lineSignal is what closer and line know of each other, so that neither holds
// the other: whether somebody waits, and that the line should be looked at.
type lineSignal struct {
	wake chan struct{} // its one element says that somebody may wait
	open atomic.Bool   // the last look found somebody waiting
}

func newLineSignal() *lineSignal { return &lineSignal{wake: make(chan struct{}, 1)} }

// notify says that somebody may wait in line. It never blocks.
func (s *lineSignal) notify() {
	select {
	case s.wake <- struct{}{}:
	default: // the line is about to be looked at anyway
	}
}

// lineParams is what a line needs.
type lineParams struct {
	Orders   Orders
	Closer   *closer
	Failures *failureTracker
	Signal   *lineSignal
	Log      *slog.Logger
	Now      func() time.Time
}

// line serves the orders that wait to be closed: those in state closing whose due
// time has come. They wait for the rate, or WeChat Pay gave no usable answer the
// last time, or the worker that had claimed them is gone. Those that may be paid go
// before those that never could, but for one page in lineShare; among each the order of
// their due times is their order in the line. Every worker serves it; claims keep them
// from one another.
type line struct {
	lineParams
	lineSlots *group        // the pages under way
	waiting   chan struct{} // holds one element per page that waits for its permits
}

func newLine(p lineParams) *line {
	return &line{lineParams: p, lineSlots: newGroup(linePagesAtOnce, shutdownWait),
		waiting: make(chan struct{}, waitingAtOnce)}
}

// run serves the line whenever somebody may wait there, until ctx ends.
func (l *line) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.Signal.wake:
		}
		if more := l.walk(ctx); more {
			l.Signal.notify()
		}
	}
}

// walk goes along the line once, from its head, and reports whether it stopped
// before its end.
func (l *line) walk(ctx context.Context) (more bool) {
	defer l.lineSlots.Wait()
	defer l.Signal.open.Store(false)
	end := time.Now().Add(lineTime) // a duration only, never stored
	var places linePlaces
	for n := 1; ctx.Err() == nil; n++ {
		page, err := l.next(ctx, &places, n%lineShare != 0)
		if err != nil {
			if ctx.Err() == nil {
				l.Log.Warn("cannot read who waits to be closed", "err", err)
			}
			return false
		}
		if len(page) == 0 {
			return false
		}
		l.Signal.open.Store(true)
		l.startPage(ctx, page)
		if time.Now().After(end) {
			return true
		}
	}
	return false
}

// linePlaces are how far a walk is among the orders that cannot be paid, and among
// those that may be.
type linePlaces struct{ never, prepaid order.DueCursor }

// next reads the next page of those that may be paid, or of the others, and where there
// is none of these, of those. Orders that come due while a walk is under way are behind
// its places, and so are found by it.
func (l *line) next(ctx context.Context, places *linePlaces, prepaid bool) ([]order.Due, error) {
	for _, prepaid := range []bool{prepaid, !prepaid} {
		place := &places.never
		if prepaid {
			place = &places.prepaid
		}
		page, err := l.Orders.WaitingOrders(ctx, prepaid, *place, l.Now(), l.Closer.most())
		if err != nil {
			return nil, err
		}
		if len(page) > 0 {
			*place = placeOf(page[len(page)-1])
			return page, nil
		}
	}
	return nil, nil
}

// startPage begins to close a page beside others. It returns when the page is one
// of those that wait for their permits, so that the next page is not read, and
// does not grow old, before it can wait too.
func (l *line) startPage(ctx context.Context, page []order.Due) {
	if !l.lineSlots.acquire(ctx) {
		return
	}
	l.waiting <- struct{}{}
	l.lineSlots.start(ctx, func(ctx context.Context) { l.closePage(ctx, page) })
}

// closePage closes a page of the line. It gives its place among the waiting pages
// to the next one as soon as it has its permits, or needs none.
func (l *line) closePage(ctx context.Context, page []order.Due) {
	admitted := sync.OnceFunc(func() { <-l.waiting })
	defer admitted()
	page, err := l.Failures.withoutFailed(ctx, page)
	if err == nil && len(page) > 0 {
		err = l.Closer.run(ctx, page, func(page []order.Due) []error {
			return l.Closer.closeDue(ctx, page, cause("line", ""), func(ctx context.Context, n int) error {
				defer admitted()
				return l.Closer.admit(ctx, n)
			})
		})
	}
	if err != nil && isFailure(err) {
		l.Log.Warn("closing orders not done", "orders", len(page), "first", page[0].Key, "err", err)
	}
}
