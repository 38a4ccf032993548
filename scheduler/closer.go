package scheduler

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
)

// Bounds of pages.
const (
	// partSize is how many orders a part of a second has, and the most that one
	// page has. It is also the most that package order writes in one transaction;
	// larger ones are no quicker and hold their locks longer.
	partSize = 2000
	// pagesAtOnce is how many pages of unpaid orders a worker has under way: while
	// one is written and one committed, the others wait for WeChat Pay.
	pagesAtOnce = 4
	// lookForWaiting is how many of those in line are looked at for one that has
	// not failed before. Were the first 64 all failed ones, a page would go ahead
	// of those behind them; the rate would hold all the same.
	lookForWaiting = 64

	// A page is to be through before its claims run out. Its size follows how
	// quick WeChat Pay and the database are: it begins with firstPage orders, is
	// doubled after a page that took less than quickPage, up to mostPage, and
	// halved after one that took more than slowPage, down to leastPage. slowPage
	// is half of the shortest claim, 5 s, the first step of order's CloseRetry;
	// quickPage lies below half of slowPage, so that doubling a quick page does not
	// make a slow one.
	firstPage = 256
	leastPage = 16
	mostPage  = partSize
	quickPage = time.Second
	slowPage  = 2500 * time.Millisecond

	// ratePages is into how many pages the permits of a second are cut, 4: the
	// permits of a page then come within a quarter of a second, before its claims
	// run out.
	ratePages = 4
	// leastBurst is how many closes may go out together after a rest, however low
	// the rate: a handful of orders need not wait for one another.
	leastBurst = 10
)

// closerParams is what a closer needs.
type closerParams struct {
	Orders   Orders
	Queue    *Queue // nil: without Redis, then no task of a second comes here
	Failures *failureTracker
	Line     *lineSignal
	// Limiter keeps CloseRate; nil: there is no limit, and nobody waits in line.
	Limiter   Limiter
	CloseRate float64 // calls a second
	Observe   Observer
	Now       func() time.Time
}

// closer takes unpaid orders whose time has come to their end at WeChat Pay, page
// by page: those of a second or a part of one, which tasks name; those that the
// sweep finds; and, for the line, those that wait for the rate.
type closer struct {
	closerParams
	pageSlots chan struct{} // holds one element per page of unpaid orders under way
	rateMu    chan struct{} // a mutex whose wait ends with a context; held while a page takes its permits
	size      atomic.Int64  // orders in the next page, leastPage to mostPage
}

func newCloser(p closerParams) *closer {
	c := &closer{closerParams: p, pageSlots: make(chan struct{}, pagesAtOnce), rateMu: make(chan struct{}, 1)}
	c.size.Store(firstPage)
	return c
}

// Burst is how many closes may go out together after a rest, at a rate of
// perSecond: those of a quarter of a second, and 10 at least.
func Burst(perSecond float64) int { return max(int(perSecond/ratePages), leastBurst) }

// slot closes the orders that are due in one second, given in Unix time. When
// they are more than a part, it makes a task of every part, for all workers. Nil
// means that nobody has to come back for them.
func (c *closer) slot(ctx context.Context, slot int64, why order.Cause) error {
	end := time.Unix(slot, 0)
	// asynq runs a task by the clock of its process; what is due is decided by the
	// database's.
	if early := end.Sub(c.Now()); early > 0 {
		if early > time.Second || !sqldb.Sleep(ctx, early) {
			return &order.NotDueError{At: end}
		}
	}
	c.Line.notify()
	// The orders of a second are those that are due after the second before it, up
	// to and with its own end. Due times are whole milliseconds.
	from := order.DueCursor{At: end.Add(-time.Second + time.Millisecond)}
	for n := int64(0); ; n++ {
		page, err := c.Orders.DueOrders(ctx, order.StatePending, from, end, partSize)
		if err != nil || len(page) == 0 {
			return err
		}
		to := placeOf(page[len(page)-1])
		full := len(page) == partSize
		if n == 0 && !full || !c.delegate(ctx, slot, n, from, to) {
			if err := c.take(ctx, page, why); err != nil {
				return err
			}
		}
		if !full {
			return nil
		}
		from = to
	}
}

// placeOf is the place of an order among those that are due.
func placeOf(d order.Due) order.DueCursor { return order.DueCursor{At: d.At, Key: d.Key} }

// delegate makes a task of the n-th part of a slot, and reports whether it did.
func (c *closer) delegate(ctx context.Context, slot, n int64, from, to order.DueCursor) bool {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	_, err := c.Queue.schedulePart(ctx, slot, n, markOf(from), markOf(to))
	return err == nil
}

// part closes the orders after one place, up to and with another, as far as they
// are still due. Its result is that of take.
func (c *closer) part(ctx context.Context, from, to order.DueCursor, why order.Cause) error {
	page, err := c.Orders.DueOrders(ctx, order.StatePending, from, to.At, partSize)
	if err != nil {
		return err
	}
	for n := len(page); n > 0 && page[n-1].At.Equal(to.At) && page[n-1].Key > to.Key; n-- {
		page = page[:n-1]
	}
	return c.take(ctx, page, why)
}

// take moves unpaid orders to closing and, as far as the rate allows, closes them
// at WeChat Pay. Nil means that nobody has to come back for them: they ended, or
// they have a new due time, or wait in line. After an error the same orders have
// to be taken again.
func (c *closer) take(ctx context.Context, due []order.Due, why order.Cause) error {
	due, err := c.Failures.withoutFailed(ctx, due)
	if err != nil {
		return err
	}
	waits, err := c.hasToWait(ctx, due)
	if err != nil || len(due) == 0 {
		return err
	}
	run, most := func(page []order.Due) []error { return c.closeDue(ctx, page, why, c.admit) }, c.most
	if waits {
		defer c.Line.notify()
		run = func(page []order.Due) []error { return c.Orders.AwaitClose(ctx, page, why) }
		most = func() int { return int(c.size.Load()) } // no permits are needed
	} else {
		select {
		case c.pageSlots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-c.pageSlots }()
	}
	var errs []error
	for len(due) > 0 {
		n := min(len(due), most())
		errs = append(errs, c.run(ctx, due[:n], run))
		due = due[n:]
	}
	return errors.Join(errs...)
}

// hasToWait reports that more orders are due than may be asked about at once, or
// that others wait in line already and must not be overtaken.
func (c *closer) hasToWait(ctx context.Context, due []order.Due) (bool, error) {
	if c.Limiter == nil || len(due) == 0 {
		return false, nil
	}
	if len(due) > c.most() || c.Line.open.Load() {
		return true, nil
	}
	waiting, err := c.Orders.DueOrders(ctx, order.StateClosing, order.DueCursor{}, c.Now(), lookForWaiting)
	if err == nil {
		// Failed orders are closing and past their due time too, and nobody is
		// about to close them: they would make all others wait for ever.
		waiting, err = c.Failures.withoutFailed(ctx, waiting)
	}
	return len(waiting) > 0, err
}

// most is how many orders may be taken to WeChat Pay in one page: under a rate, no
// more than the permits of a quarter of a second.
func (c *closer) most() int {
	n := int(c.size.Load())
	if c.Limiter != nil {
		n = min(n, max(int(c.CloseRate/ratePages), 1))
	}
	return n
}

// run runs one page with do, settles it, and lets its duration decide the size of
// the next page.
func (c *closer) run(ctx context.Context, page []order.Due, do func([]order.Due) []error) error {
	start := time.Now() // a duration only, never stored
	err := c.settle(ctx, page, do(page))
	size, took := c.size.Load(), time.Since(start)
	switch {
	case errors.Is(err, sqldb.ErrLocked): // somebody holds a row: that says nothing of the database
	case took > slowPage, errors.Is(err, sqldb.ErrUnavailable):
		c.size.CompareAndSwap(size, max(int64(len(page)/2), leastPage))
	case took < quickPage && int64(len(page)) >= size:
		c.size.CompareAndSwap(size, min(2*size, mostPage))
	}
	return err
}

// settle reports what became of each order of a page and keeps those that failed.
// It returns an error only when the page has to be taken again: the database or
// this process is about to be away.
func (c *closer) settle(ctx context.Context, page []order.Due, errs []error) error {
	var failed []Failure
	var again error
	for i, err := range errs {
		c.Observe.Fired(result(err))
		if err == nil {
			continue
		}
		if _, later := nextAsk(err); later {
			continue // it has a new due time
		}
		if isFailure(err) {
			failed = append(failed, Failure{Type: TypeExpire, Key: page[i].Key, Cause: err})
		} else if again == nil || !errors.Is(err, sqldb.ErrLocked) { // what concerns all of them is told first
			again = err
		}
	}
	return errors.Join(again, c.Failures.deadLetter(context.WithoutCancel(ctx), failed...))
}

// closeDue brings the orders of a page to their end, in parts of as many as are best
// taken together now: beside customers a part is closed, and its answers stored,
// before the next one is claimed, so that no claim runs out while others are asked
// about. It returns an error, or nil, for each order of the page.
func (c *closer) closeDue(ctx context.Context, page []order.Due, why order.Cause,
	admit func(ctx context.Context, n int) error) []error {
	errs := make([]error, 0, len(page))
	for rest := page; len(rest) > 0; {
		n := min(len(rest), c.Orders.PageLimit(ctx))
		errs = append(errs, c.closePart(ctx, rest[:n], why, admit)...)
		rest = rest[n:]
	}
	return errs
}

// closePart claims the orders of a part, waits with admit until the rate allows as
// many calls as there are claims, and closes them. admit is not called when nothing
// was claimed.
func (c *closer) closePart(ctx context.Context, page []order.Due, why order.Cause,
	admit func(ctx context.Context, n int) error) []error {
	claims, errs := c.Orders.ClaimDue(ctx, page, why)
	if len(claims) == 0 {
		return errs
	}
	var ended []error
	if err := admit(ctx, len(claims)); err != nil {
		for _, claim := range claims { // due again when the claim runs out
			ended = append(ended, &order.ClosingError{At: claim.At, Err: err})
		}
	} else {
		ended = c.Orders.CloseClaimed(ctx, claims, why)
	}
	byKey := make(map[string]error, len(claims))
	for i, claim := range claims {
		byKey[claim.Key] = ended[i]
	}
	for i := range page {
		if err := byKey[page[i].Key]; err != nil {
			errs[i] = err
		}
	}
	return errs
}

// admit waits for n permits of the rate. One page after the other does: pages that
// gathered permits side by side would all be complete, and call, at the same
// moment.
func (c *closer) admit(ctx context.Context, n int) error {
	if c.Limiter == nil {
		return nil
	}
	select {
	case c.rateMu <- struct{}{}:
	case <-ctx.Done():
		return errThrottled
	}
	defer func() { <-c.rateMu }()
	for n > 0 {
		got, wait, err := c.Limiter.Take(ctx, n)
		if err != nil {
			return err
		}
		if n -= got; n > 0 && !sqldb.Sleep(ctx, max(wait, leastWait)) {
			return errThrottled
		}
	}
	return nil
}
