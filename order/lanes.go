package order

import (
	"context"
	"errors"
	"time"

	"orderd/migrations/sqldb"
)

// Pages of timeouts and the calls of customers share one database. While
// customers are here, pages are small and pause, so that a customer waits for one
// short transaction at most.

const (
	// pageLimit is how many orders one transaction takes when nobody else is here.
	// A transaction has a fixed cost of a few statements and one fsync; at this
	// size it is below a hundredth of the cost of the rows, so that more orders
	// would only hold their locks for longer.
	pageLimit = 2000
	// politeLimit is that while customers place and pay: some 3 ms of work.
	politeLimit = 32
	// politePause is how long a page rests beside customers, as a multiple of the
	// time that its transaction took: they have two thirds of the database.
	politePause = 2
	// mostRest is the longest rest. So few orders are work of some milliseconds; a
	// transaction that took much longer has waited, which took nothing from anybody.
	mostRest = 200 * time.Millisecond
	// customersFor is how long after the last placement or payment customers are
	// taken to be here.
	customersFor = 250 * time.Millisecond
)

// errTooMany: customers have come since the page was cut to size. It is halved.
var errTooMany = errors.New("too many orders for one transaction beside customers")

// customerHere notes that a customer waits for an answer of this process.
func (s *Service) customerHere() { s.customers.Store(time.Now().UnixNano()) }

// PageLimit is how many orders are best claimed and closed together now, and the
// most that one transaction takes: few while customers are here or at another
// process. Whether they place there, the newest order number tells, which holds its
// time; it is read at most once in customersFor.
func (s *Service) PageLimit(ctx context.Context) int {
	now := time.Now() // durations only, never stored
	looked := s.looked.Load()
	if now.UnixNano()-looked > int64(customersFor) && s.looked.CompareAndSwap(looked, now.UnixNano()) {
		newest, err := newestOrderNo(ctx, s.db)
		if err == nil && newest > placedAfter(s.cfg.Now().Add(-2*customersFor)) {
			s.customerHere()
		}
	}
	if now.UnixNano()-s.customers.Load() > int64(customersFor) {
		return pageLimit
	}
	return politeLimit
}

// inLane runs a transaction over n orders when there is a lane for it: one more
// than customers have, since one waits for the other's SKUs, or a single one
// while customers are here, which rests after each transaction. noWait: see
// sqldb.DB.InTxOfMany.
func (s *Service) inLane(ctx context.Context, n int, noWait bool,
	run func(ctx context.Context, tx *sqldb.Tx) error) error {
	lane, limit := s.bulk, s.PageLimit(ctx)
	if n > limit {
		return errTooMany
	}
	if limit == politeLimit {
		lane = s.polite
	}
	select {
	case lane <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-lane }()
	start := time.Now() // a duration only, never stored
	err := s.db.InTxOfMany(ctx, noWait, run)
	if lane == s.polite {
		sqldb.Sleep(ctx, restAfter(time.Since(start), err))
	}
	return err
}

// restAfter is how long the lane beside customers rests after a transaction. One that
// waited for somebody's lock has done nothing to rest from: its neighbours, who are
// written next, would wait for him once more.
func restAfter(took time.Duration, err error) time.Duration {
	if errors.Is(err, sqldb.ErrLocked) {
		return 0
	}
	return min(politePause*took, mostRest)
}
