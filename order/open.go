package order

import (
	"context"
	"slices"
	"sync"
	"time"

	"orderd/migrations/sqldb"
)

// How many unpaid orders one customer may have: unpaid orders hold stock, and
// without a limit one customer takes a hot SKU off the shelf for nothing.

// openOrders is what a batch knows of the unpaid orders of its customers, of whom it
// has one placement each. Nil: there is no limit.
type openOrders map[string]openCount

// openCount is what one customer has.
type openCount struct {
	count int
	first time.Time // the earliest time at which one of them is looked at
}

// openOf counts the unpaid orders of the customers of a batch: nil when they are
// not limited.
func (s *Service) openOf(ctx context.Context, tx *sqldb.Tx, batch []placing) (openOrders, error) {
	if s.cfg.MaxOpenOrders <= 0 {
		return nil, nil
	}
	who := make([]string, len(batch))
	for i := range batch {
		who[i] = batch[i].CustomerID
	}
	slices.Sort(who)
	return findOpen(ctx, tx, slices.Compact(who), batch[0].at.Add(-max(openHorizon, 2*s.cfg.PayWithin)))
}

// refuses gives the refusal of a placement that would be one too many.
func (o openOrders) refuses(p *placing, limit int) error {
	if has := o[p.CustomerID]; o != nil && has.count >= limit {
		return &TooManyOpenError{Open: has.count, Wait: max(has.first.Sub(p.at), 0)}
	}
	return nil
}

// placeInTurn places within the limit of unpaid orders. A batch sees what was
// committed before it, not what is decided beside it; so the placements of one
// customer take turns in this process. Processes do not know of one another: n
// of them may together exceed the limit by n − 1.
func (s *Service) placeInTurn(ctx context.Context, p placing) (Placed, error) {
	s.customerHere()
	if s.cfg.MaxOpenOrders > 0 {
		unlock, err := s.placing.lock(ctx, p.CustomerID)
		if err != nil {
			return Placed{}, err
		}
		defer unlock()
	}
	return s.placements.Do(ctx, p)
}

// customerLocks lets one caller per customer through at a time. Only customers
// that somebody holds or waits for are remembered.
type customerLocks struct {
	mu  sync.Mutex
	all map[string]*customerLock
}

// customerLock is the lock of one customer, while somebody is interested in it.
type customerLock struct {
	free  chan struct{} // one token
	users int           // who holds it or waits for it
}

// lock waits for a customer's lock; unlock gives it back.
func (t *customerLocks) lock(ctx context.Context, customerID string) (unlock func(), err error) {
	t.mu.Lock()
	if t.all == nil {
		t.all = map[string]*customerLock{}
	}
	l := t.all[customerID]
	if l == nil {
		l = &customerLock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		t.all[customerID] = l
	}
	l.users++
	t.mu.Unlock()
	select {
	case <-l.free:
		return func() { l.free <- struct{}{}; t.leave(customerID, l) }, nil
	case <-ctx.Done():
		t.leave(customerID, l)
		return nil, ctx.Err()
	}
}

// leave forgets a lock that nobody holds or waits for any more.
func (t *customerLocks) leave(customerID string, l *customerLock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(t.all, customerID)
	}
}
