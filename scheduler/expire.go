package scheduler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
)

// Bounds of expiry.
const (
	partSize   = 2000 // orders in a part of a slot
	pagesAtOne = 4    // parts under way at once: one writes, one commits, the others are at WeChat
	// lineAtOnce pages of the line are under way at once: an answer that takes
	// seconds holds up its own page only. nextAtOnce of them wait for their turns:
	// with several replicas more would not get them before their claim is over.
	lineAtOnce, nextAtOnce = 12, 2
	headOfLine             = 64 // of those in line are looked at for one who waits
	// A page is to be through before the turns that it took come up again: its
	// size follows how quick WeChat Pay answers.
	firstPage, leastPage, mostPage = 256, 16, partSize
	quickPage, slowPage            = time.Second, 2500 * time.Millisecond
	// lineTime is how long one walk along the line may take: those that failed
	// behind it have their next turn when it begins anew.
	lineTime = 30 * time.Second
	// forgetting is how long nobody asks whether anything has failed.
	forgetting = time.Second
)

// expiry takes orders to their end, page by page: the seconds and parts that
// tasks bring, the sweep's, and those that wait in line for WeChat Pay.
type expiry struct {
	w       *Worker
	limiter Limiter       // nil: no limit
	pages   chan struct{} // under way
	line    chan struct{} // pages of the line that are under way
	next    chan struct{} // of those, the ones that wait for their turns
	door    chan struct{} // turns are taken for one page after the other
	bell    chan struct{} // somebody may be in line
	size    atomic.Int64  // of a page

	failing  atomic.Bool // something has failed: pages are held against it
	looked   atomic.Int64
	lineOpen atomic.Bool // somebody is in line
}

func (x *expiry) init(w *Worker) {
	x.w, x.limiter = w, w.o.Closes
	x.pages, x.bell, x.door = make(chan struct{}, pagesAtOne), make(chan struct{}, 1), make(chan struct{}, 1)
	x.line, x.next = make(chan struct{}, lineAtOnce), make(chan struct{}, nextAtOnce)
	x.size.Store(firstPage)
	switch {
	case w.o.CloseRate < 0:
		x.limiter = nil
	case x.limiter == nil:
		x.limiter = &alone{Bucket: NewBucket(nil, "", w.o.CloseRate, Burst(w.o.CloseRate), w.o.Now)}
	}
}

// Burst is how many closes may go out together after a rest at a rate: those of
// a quarter of a second, and 10 at least.
func Burst(perSecond float64) int { return max(int(perSecond/4), 10) }

// alone is the rate of a worker that shares it with nobody: a Bucket without a
// database.
type alone struct {
	*Bucket
	mu   sync.Mutex
	next int64
}

// Take implements Limiter.
func (l *alone) Take(_ context.Context, n int) (got int, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	got, wait, l.next = l.share(n, l.next, l.now().UnixMicro())
	return got, wait, nil
}

// admit waits for n turns at WeChat Pay. One page after the other does: pages
// that gather turns side by side would all be complete, and ask, at once.
func (x *expiry) admit(ctx context.Context, n int) error {
	if x.limiter == nil {
		return nil
	}
	select {
	case x.door <- struct{}{}:
	case <-ctx.Done():
		return errThrottled
	}
	defer func() { <-x.door }()
	for n > 0 {
		got, wait, err := x.limiter.Take(ctx, n)
		if err != nil {
			return err
		}
		if n -= got; n > 0 && !sleep(ctx, max(wait, time.Millisecond)) {
			return errThrottled
		}
	}
	return nil
}

// closeDue takes the turn of a page, waits for the rate, and brings the orders to
// their end. It gives an error for each order of the page.
func (x *expiry) closeDue(ctx context.Context, page []order.Due, why order.Cause,
	admit func(ctx context.Context, n int) error) []error {
	claims, errs := x.w.o.Orders.ClaimDue(ctx, page, why)
	if len(claims) == 0 {
		return errs
	}
	var ended []error
	if err := admit(ctx, len(claims)); err != nil {
		for _, c := range claims { // their turn comes again when the claim is over
			ended = append(ended, &order.ClosingError{At: c.At, Err: err})
		}
	} else {
		ended = x.w.o.Orders.CloseClaimed(ctx, claims, why)
	}
	byKey := make(map[string]error, len(claims))
	for i, c := range claims {
		byKey[c.Key] = ended[i]
	}
	for i := range page {
		if err := byKey[page[i].Key]; err != nil {
			errs[i] = err
		}
	}
	return errs
}

// most is how many orders may be taken to WeChat Pay in one page: of a limit the
// turns of a quarter of a second, so that they come before the claim is over.
func (x *expiry) most() int {
	n := int(x.size.Load())
	if x.limiter != nil {
		n = min(n, max(int(x.w.o.CloseRate/4), 1))
	}
	return n
}

// slot takes the orders that are due in one second. When they are many it gives
// them away in parts, to all workers.
func (x *expiry) slot(ctx context.Context, slot int64, why order.Cause) error {
	end := time.Unix(slot, 0)
	if early := end.Sub(x.w.o.Now()); early > 0 { // our clock, or Redis's, is not the database's
		if early > time.Second || !sleep(ctx, early) {
			return &order.NotDueError{At: end}
		}
	}
	x.ring()
	from := order.DueCursor{At: end.Add(-time.Second + time.Millisecond)}
	for n := int64(0); ; n++ {
		page, err := x.w.o.Orders.DueOrders(ctx, order.StatePending, from, end, partSize)
		if err != nil || len(page) == 0 {
			return err
		}
		to := placeOf(page[len(page)-1])
		full := len(page) == partSize
		if n == 0 && !full || !x.giveAway(ctx, slot, n, from, to) {
			if err := x.take(ctx, page, why); err != nil {
				return err
			}
		}
		if !full {
			return nil
		}
		from = to
	}
}

func placeOf(d order.Due) order.DueCursor { return order.DueCursor{At: d.At, Key: d.Key} }

// giveAway makes a task of a part, and reports whether it did.
func (x *expiry) giveAway(ctx context.Context, slot, n int64, from, to order.DueCursor) bool {
	ctx, cancel := context.WithTimeout(ctx, armTimeout)
	defer cancel()
	_, err := x.w.o.Queue.armPart(ctx, slot, n, markOf(from), markOf(to))
	return err == nil
}

// part takes the orders after one place up to another, as far as they are still
// due.
func (x *expiry) part(ctx context.Context, from, to order.DueCursor, why order.Cause) error {
	page, err := x.w.o.Orders.DueOrders(ctx, order.StatePending, from, to.At, partSize)
	if err != nil {
		return err
	}
	for n := len(page); n > 0 && page[n-1].At.Equal(to.At) && page[n-1].Key > to.Key; n-- {
		page = page[:n-1]
	}
	return x.take(ctx, page, why)
}

// take takes unpaid orders to closing and, as far as there are turns, to WeChat Pay
// and to their end. Nil means that nobody has to come back for them: they ended,
// or their next turn is known. Other errors mean that it has to be done again.
func (x *expiry) take(ctx context.Context, due []order.Due, why order.Cause) error {
	due, err := x.sound(ctx, due)
	if err != nil {
		return err
	}
	inLine, err := x.hasToWait(ctx, due)
	if err != nil || len(due) == 0 {
		return err
	}
	run, most := func(page []order.Due) []error { return x.closeDue(ctx, page, why, x.admit) }, x.most
	if inLine {
		defer x.ring()
		run, most = func(page []order.Due) []error { return x.w.o.Orders.AwaitClose(ctx, page, why) }, func() int { return int(x.size.Load()) }
	} else {
		select {
		case x.pages <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-x.pages }()
	}
	var errs []error
	for len(due) > 0 {
		n := min(len(due), most())
		errs = append(errs, x.run(ctx, due[:n], run))
		due = due[n:]
	}
	return errors.Join(errs...)
}

// hasToWait reports that more are due than may be asked about at once, or that
// others are in line already.
func (x *expiry) hasToWait(ctx context.Context, due []order.Due) (bool, error) {
	if x.limiter == nil || len(due) == 0 {
		return false, nil
	}
	if len(due) > x.most() || x.lineOpen.Load() {
		return true, nil
	}
	waiting, err := x.w.o.Orders.DueOrders(ctx, order.StateClosing, order.DueCursor{}, x.w.o.Now(), headOfLine)
	if err == nil {
		waiting, err = x.sound(ctx, waiting) // the dead do not wait
	}
	return len(waiting) > 0, err
}

// run runs one page and settles it. The next page is smaller when this one took
// long, or too long for the database, and larger after a quick one.
func (x *expiry) run(ctx context.Context, page []order.Due, do func([]order.Due) []error) error {
	start := time.Now() // a duration only, never stored
	err := x.settle(ctx, page, do(page))
	size, took := x.size.Load(), time.Since(start)
	switch {
	case took > slowPage, errors.Is(err, sqldb.ErrUnavailable):
		x.size.CompareAndSwap(size, max(int64(len(page)/2), leastPage))
	case took < quickPage && int64(len(page)) >= size:
		x.size.CompareAndSwap(size, min(2*size, mostPage))
	}
	return err
}

// sound leaves out those that failed before: they have a time of their own, or a
// person has.
func (x *expiry) sound(ctx context.Context, due []order.Due) ([]order.Due, error) {
	if x.w.o.Failures == nil || len(due) == 0 {
		return due, nil
	}
	if any, err := x.anyFailed(ctx); err != nil || !any {
		return due, err
	}
	known, err := x.w.o.Failures.Known(ctx, TypeExpire, keysOf(due))
	if err != nil || len(known) == 0 {
		return due, err
	}
	good := make([]order.Due, 0, len(due))
	for _, d := range due {
		if _, failed := known[d.Key]; !failed {
			good = append(good, d)
		}
	}
	return good, nil
}

// anyFailed reports that something has failed. It asks once in a while.
func (x *expiry) anyFailed(ctx context.Context) (bool, error) {
	now, looked := time.Now().UnixNano(), x.looked.Load()
	if now-looked > int64(forgetting) && x.looked.CompareAndSwap(looked, now) {
		empty, err := x.w.o.Failures.Empty(ctx)
		if err != nil {
			x.looked.Store(0)
			return false, err
		}
		x.failing.Store(!empty)
	}
	return x.failing.Load(), nil
}

func keysOf(due []order.Due) []string {
	nos := make([]string, len(due))
	for i, d := range due {
		nos[i] = d.Key
	}
	return nos
}

// settle counts what became of a page and keeps what cannot be done. Its error
// is the database's, or that of a process that stops.
func (x *expiry) settle(ctx context.Context, page []order.Due, errs []error) error {
	var failed []Failure
	var again error
	for i, err := range errs {
		x.w.o.Observe.Fired(result(err))
		if err == nil {
			continue
		}
		if _, later := nextAsk(err); later {
			continue
		}
		if isFailure(err) {
			failed = append(failed, Failure{Type: TypeExpire, Key: page[i].Key, Cause: err})
		} else {
			again = err
		}
	}
	return errors.Join(again, x.w.bury(context.WithoutCancel(ctx), failed...))
}

// ring says that somebody may be in line.
func (x *expiry) ring() {
	select {
	case x.bell <- struct{}{}:
	default:
	}
}

// runLine serves the line: the orders that are closing and whose turn has come.
// They wait for the rate, for an answer that did not come the last time, or
// because whoever had their turn is gone.
func (x *expiry) runLine(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.bell:
		}
		if more := x.walkLine(ctx); more {
			x.ring()
		}
	}
}

// walkLine walks along the line once, from its head, and reports whether it
// broke off.
func (x *expiry) walkLine(ctx context.Context) (more bool) {
	var running sync.WaitGroup
	defer running.Wait()
	defer x.lineOpen.Store(false)
	end := time.Now().Add(lineTime) // a duration only, never stored
	for after := (order.DueCursor{}); ctx.Err() == nil; {
		page, err := x.w.o.Orders.DueOrders(ctx, order.StateClosing, after, x.w.o.Now(), x.most())
		if err != nil {
			if ctx.Err() == nil {
				x.w.o.Log.Warn("cannot read who waits to be closed", "err", err)
			}
			return false
		}
		if len(page) == 0 {
			return false
		}
		x.lineOpen.Store(true)
		after = placeOf(page[len(page)-1])
		x.inTurn(ctx, &running, page)
		if time.Now().After(end) {
			return true
		}
	}
	return false
}

// inTurn serves a page beside others.
func (x *expiry) inTurn(ctx context.Context, running *sync.WaitGroup, page []order.Due) {
	select {
	case x.line <- struct{}{}:
	case <-ctx.Done():
		return
	}
	x.next <- struct{}{}
	running.Go(func() {
		defer func() { <-x.line }()
		x.serve(ctx, page)
	})
}

// serve takes a page of the line through; a stop does not cut it off.
func (x *expiry) serve(ctx context.Context, page []order.Due) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
	defer cancel()
	admitted := sync.OnceFunc(func() { <-x.next })
	defer admitted()
	page, err := x.sound(ctx, page)
	if err == nil && len(page) > 0 {
		err = x.run(ctx, page, func(page []order.Due) []error {
			return x.closeDue(ctx, page, cause("line", ""), func(ctx context.Context, n int) error {
				defer admitted()
				return x.admit(ctx, n)
			})
		})
	}
	if err != nil && isFailure(err) {
		x.w.o.Log.Warn("closing orders not done", "orders", len(page), "first", page[0].Key, "err", err)
	}
}
