package sqldb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Errors of a Group that say that nothing was tried.
var (
	// ErrOverloaded: the queue in front of the group is full.
	ErrOverloaded = errors.New("too many calls are waiting for the database")
	// ErrGroupClosed: the service is stopping.
	ErrGroupClosed = errors.New("the service is stopping")

	// errWaited is the answer to a call that was in the queue for too long.
	errWaited = fmt.Errorf("%w: the calls before this one have used up its time", ErrUnavailable)
)

// Bounds of waiting. Together they are below the three seconds in which a caller
// has an answer, unless a COMMIT stalls.
const (
	// maxWait is how long a call waits for a batch. Those that have waited longer
	// are refused so that the others have time: under overload every queue grows
	// until its oldest call is as old as it may be.
	maxWait = 1500 * time.Millisecond
	// lastChance is what a batch has at least, however long its oldest member has
	// waited: a second's wait for a lock, and the rest of the work.
	lastChance = 1300 * time.Millisecond
)

// Defaults of GroupOptions.
const (
	// defaultMaxBatch is in calls. Beyond 128 the fsync is already shared so widely
	// that a larger batch gains nothing, and it would leave a second lane without
	// work while 256 callers wait.
	defaultMaxBatch = 128
	// defaultMaxQueue is in calls: a fifth of a second of work at full speed, more
	// would only be answered too late.
	defaultMaxQueue = 8192
)

// Outcome is what one member of a batch gets: an answer, or an error of its own.
type Outcome[A any] struct {
	Answer A
	Err    error
}

// GroupOptions shape a Group. The zero value is usable: every default is below.
type GroupOptions struct {
	// Name is what Observe is told, and what a panic names.
	Name string
	// MaxBatch bounds one transaction, in calls. Default 128 (defaultMaxBatch).
	MaxBatch int
	// Lanes is how many transactions may be under way. SQLite has one writer.
	// Default 1; two overlap one batch's COMMIT with the next one's statements.
	Lanes int
	// MaxQueue bounds the calls that wait; more are ErrOverloaded. Default 8192
	// (defaultMaxQueue).
	MaxQueue int
	// Observe is told of every transaction: its size and duration. May be nil.
	Observe func(name string, size int, took time.Duration)
}

// Group commits the calls of many callers together: while one batch commits,
// the next one collects. There is no linger timer, so a single call on an idle
// service is committed at once.
//
// run handles a batch in the order of arrival inside one transaction, under
// the rules of InTx, and gives one Outcome per member; a member's Err is its
// own and the rest is committed. When run itself fails for a reason that may
// be one member's (a duplicate key, bad data), nothing of the batch is
// committed and every member is run again alone, so that nobody fails for a
// neighbour. Members are told after COMMIT, never before.
type Group[R, A any] struct {
	db  *DB
	opt GroupOptions
	run func(ctx context.Context, tx *Tx, batch []R) ([]Outcome[A], error)

	mu     sync.Mutex
	work   sync.Cond // signalled when queue grows or the group closes
	queue  []*member[R, A]
	closed bool
	lanes  sync.WaitGroup // and the goroutine that runs aside

	keys   func(R) []string // see KeyedBy
	locked Locked           // of those keys
	aside  []*member[R, A]  // those that wait for a row that another transaction holds
	waits  bool             // a goroutine looks after them
}

// member is one call that waits for its outcome.
type member[R, A any] struct {
	request R
	arrived time.Time     // a duration only, never stored
	done    chan struct{} // closed when outcome is set
	outcome Outcome[A]
}

// NewGroup starts a group. Close ends it.
func NewGroup[R, A any](
	db *DB, opt GroupOptions, run func(ctx context.Context, tx *Tx, batch []R) ([]Outcome[A], error),
) *Group[R, A] {
	opt.MaxBatch = cmp.Or(opt.MaxBatch, defaultMaxBatch)
	if opt.Lanes == 0 || db.engine == SQLite {
		opt.Lanes = 1
	}
	opt.MaxQueue = cmp.Or(opt.MaxQueue, defaultMaxQueue)
	g := &Group[R, A]{db: db, opt: opt, run: run, keys: func(R) []string { return nil }}
	g.work.L = &g.mu
	for range opt.Lanes {
		g.lanes.Go(g.lane)
	}
	return g
}

// KeyedBy says which rows a request may have to wait for, by keys of the caller's
// choice, and returns the group. It is called before the first Do.
func (g *Group[R, A]) KeyedBy(keys func(R) []string) *Group[R, A] {
	g.keys = keys
	return g
}

// Locked is what the group knows of its keys. Whoever writes the same rows another way
// shares it.
func (g *Group[R, A]) Locked() *Locked { return &g.locked }

// Do hands in one request and waits for its outcome. When ctx ends while the
// request still waits for a batch, it is withdrawn: the error is ctx's and
// nothing was or will be done. Once it is part of a batch Do waits for the
// committed truth. The time in which it is told begins with the call: waiting
// for other batches is part of it.
func (g *Group[R, A]) Do(ctx context.Context, request R) (A, error) {
	var zero A
	m := &member[R, A]{request: request, arrived: time.Now(), done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	g.mu.Lock()
	if g.closed || len(g.queue) >= g.opt.MaxQueue {
		closed := g.closed
		g.mu.Unlock()
		if closed {
			return zero, ErrGroupClosed
		}
		return zero, ErrOverloaded
	}
	g.queue = append(g.queue, m)
	g.mu.Unlock()
	g.work.Signal()

	select {
	case <-m.done:
		return m.outcome.Answer, m.outcome.Err
	case <-ctx.Done():
	}
	if g.withdraw(m) {
		return zero, ctx.Err()
	}
	<-m.done
	return m.outcome.Answer, m.outcome.Err
}

// withdraw takes a member out of the queue. False means that a batch has it.
func (g *Group[R, A]) withdraw(m *member[R, A]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue, m)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	return i >= 0
}

// Close lets the calls that are in finish and stops the group. Later calls get
// ErrGroupClosed.
func (g *Group[R, A]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.work.Broadcast()
	g.lanes.Wait()
}

// lane commits one batch after the other until the group has ended.
func (g *Group[R, A]) lane() {
	for {
		batch := g.take()
		if batch == nil {
			return
		}
		if batch = refuseLate(batch); len(batch) == 0 {
			continue
		}
		if batch = g.setAside(batch); len(batch) == 0 {
			continue
		}
		start := time.Now() // a duration only, never stored
		g.commit(batch)
		if g.opt.Observe != nil {
			g.opt.Observe(g.opt.Name, len(batch), time.Since(start))
		}
	}
}

// take waits for work and gives the next batch, nil when the group has ended.
func (g *Group[R, A]) take() []*member[R, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		g.gather()
		if n := min(len(g.queue), g.opt.MaxBatch); n > 0 {
			batch := slices.Clone(g.queue[:n])
			clear(g.queue[:n])
			g.queue = g.queue[n:]
			if len(g.queue) == 0 {
				g.queue = nil // let the backing array of a burst go
			} else {
				g.work.Signal() // another lane may take the rest
			}
			return batch
		}
		if g.closed {
			return nil
		}
		g.work.Wait()
	}
}

// maxYields bounds gather: one yield runs every caller that is runnable at that
// moment, and two or three are enough for all of them to call.
const maxYields = 8

// gather lets those callers come that are about to call: the ones that the last
// batch answered are runnable at this moment, and a lane that left with the
// first two of them would let the rest wait for a whole transaction. It yields
// while the queue grows and never sleeps; a single call pays one yield, which
// costs nothing on an idle service. Called and left with mu locked.
func (g *Group[R, A]) gather() {
	for range maxYields {
		n := len(g.queue)
		if n == 0 || n >= g.opt.MaxBatch {
			return
		}
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
		if len(g.queue) <= n {
			return
		}
	}
}

// commit runs the batch and answers every member, or sets it aside. When the batch
// fails for a reason that may be one member's, it is looked for.
func (g *Group[R, A]) commit(batch []*member[R, A]) {
	p := patience{tries: maxTries, oneWait: true}
	if len(batch) > 1 {
		p.tries = sharedTries
	}
	err := g.transact(batch, p)
	switch {
	case err == nil:
		answer(batch)
	case errors.Is(err, ErrLocked), errors.Is(err, ErrRefused): // a right that one of them needs
		g.halve(batch, err, time.Now().Add(lastChance))
	case len(batch) == 1 || errors.Is(err, ErrUnavailable):
		refuse(batch, err)
	default:
		g.halve(batch, err, time.Now().Add(lastChance))
	}
}

// halve runs the halves of a batch that has failed with err, and their halves, until
// whoever fails is alone, and has no patience meanwhile: the time is the others'. A
// member that is alone with a locked row, or needs more tries, is set aside.
func (g *Group[R, A]) halve(batch []*member[R, A], err error, end time.Time) {
	if len(batch) == 1 {
		if m := batch[0]; errors.Is(err, ErrLocked) {
			g.locked.Found(g.keys(m.request)...)
			g.wait(batch)
		} else {
			refuse(batch, err)
		}
		return
	}
	for _, half := range [][]*member[R, A]{batch[:len(batch)/2], batch[len(batch)/2:]} {
		if half = g.setAside(half); len(half) == 0 { // those of a row that was just found locked
			continue
		}
		if time.Now().After(end) {
			refuse(half, errWaited)
			continue
		}
		err := g.transact(half, patience{tries: sharedTries, oneWait: true, noWait: true})
		switch {
		case err == nil:
			answer(half)
		case errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrLocked) && !errors.Is(err, ErrRefused):
			refuse(half, err) // the database went away between them
		default:
			g.halve(half, err, end)
		}
	}
}

// answer tells the members of a batch that their outcomes are committed.
func answer[R, A any](batch []*member[R, A]) {
	for _, m := range batch {
		close(m.done)
	}
}

// refuse tells the members of a batch that nothing was done.
func refuse[R, A any](batch []*member[R, A], err error) {
	for _, m := range batch {
		m.outcome = Outcome[A]{Err: err}
		close(m.done)
	}
}

// setAside takes those out of a batch that need a row that was found locked: they
// would hold up the others.
func (g *Group[R, A]) setAside(batch []*member[R, A]) []*member[R, A] {
	var wait, rest []*member[R, A]
	for _, m := range batch {
		if g.locked.Any(g.keys(m.request)...) {
			wait = append(wait, m)
		} else {
			rest = append(rest, m)
		}
	}
	if len(wait) == 0 {
		return batch
	}
	g.wait(wait)
	return rest
}

// asideEvery is the pause between two tries at rows that are locked.
const asideEvery = 20 * time.Millisecond

// wait has members wait aside for the rows that they need.
func (g *Group[R, A]) wait(members []*member[R, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.aside = append(g.aside, members...)
	if !g.waits {
		g.waits = true
		g.lanes.Go(g.tryAside)
	}
}

// tryAside tries those who wait for locked rows, round after round, until nobody does.
// One of those who need the same row stands for all: no connection waits for a lock.
func (g *Group[R, A]) tryAside() {
	for {
		g.mu.Lock()
		round := g.aside
		g.aside = nil
		g.waits = len(round) > 0
		g.mu.Unlock()
		if len(round) == 0 {
			return
		}
		// Who needs one row first: it says most about that row.
		slices.SortStableFunc(round, func(a, b *member[R, A]) int {
			return cmp.Compare(len(g.keys(a.request)), len(g.keys(b.request)))
		})
		var still []*member[R, A]
		var locked [][]string // the keys of those who have met a locked row in this round
		for _, m := range round {
			keys := g.keys(m.request)
			// One of several keys is locked, and which is not known: whoever has not all of
			// them may need none that is.
			blocked := slices.ContainsFunc(locked, func(of []string) bool { return hasAll(keys, of) })
			if !blocked && g.tryAlone(m, keys) {
				continue
			}
			if !blocked && len(keys) > 0 {
				locked = append(locked, keys)
			}
			if m.waited(txBudget) {
				refuse([]*member[R, A]{m}, ErrLocked)
			} else {
				still = append(still, m)
			}
		}
		if len(still) > 0 {
			g.mu.Lock()
			g.aside = append(still, g.aside...)
			g.mu.Unlock()
			time.Sleep(asideEvery)
		}
	}
}

// hasAll reports that every key of some is among keys.
func hasAll(keys, some []string) bool {
	return !slices.ContainsFunc(some, func(k string) bool { return !slices.Contains(keys, k) })
}

// tryAlone runs one member without waiting for a lock, and reports that it has its
// answer.
func (g *Group[R, A]) tryAlone(m *member[R, A], keys []string) bool {
	alone := []*member[R, A]{m}
	err := g.transact(alone, patience{tries: maxTries, oneWait: true, noWait: true})
	if errors.Is(err, ErrLocked) {
		g.locked.Found(keys...)
		return false
	}
	g.locked.Free(keys...)
	if err != nil {
		refuse(alone, err)
	} else {
		answer(alone)
	}
	return true
}

// refuseLate tells those who have waited too long so, at once, and gives the
// others. The queue is in order of arrival.
func refuseLate[R, A any](batch []*member[R, A]) []*member[R, A] {
	for len(batch) > 0 && batch[0].waited(maxWait) {
		batch[0].outcome.Err = errWaited
		close(batch[0].done)
		batch = batch[1:]
	}
	return batch
}

// waited reports that a member has waited longer than limit.
func (m *member[R, A]) waited(limit time.Duration) bool { return time.Since(m.arrived) > limit }

// transact runs members in one transaction and gives them their outcomes, none of
// them after an error.
func (g *Group[R, A]) transact(batch []*member[R, A], p patience) error {
	requests := make([]R, len(batch))
	for i, m := range batch {
		requests[i] = m.request
	}
	var outcomes []Outcome[A]
	// The callers' contexts are not used: one caller's dead context must not
	// cancel the others' transaction. The time of the oldest is everybody's.
	left := max(txBudget-time.Since(batch[0].arrived), lastChance)
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	err := g.db.inTx(ctx, p, func(ctx context.Context, tx *Tx) error {
		var err error
		outcomes, err = g.run(ctx, tx, requests)
		return err
	})
	if err != nil {
		return err
	}
	if len(outcomes) != len(batch) {
		panic(fmt.Sprintf("sqldb: group %q answered %d of %d members", g.opt.Name, len(outcomes), len(batch)))
	}
	for i, m := range batch {
		m.outcome = outcomes[i]
	}
	return nil
}
