package order

import (
	"context"
	"slices"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// How many unpaid orders one customer may have, and how many units of a SKU they may
// hold together: unpaid orders hold stock, and without a limit one customer takes a hot
// SKU off the shelf for nothing. An order that stays closing because WeChat Pay gives no
// answer counts until openHorizon: its customer has the limits again then, beside the stock
// that it holds.

// openOrders is what a batch knows of the unpaid orders of its customers, of whom it
// has one placement each. Nil: there is no limit.
type openOrders map[string]openCount

// openCount is what one customer has.
type openCount struct {
	count int
	first time.Time        // the earliest time at which one of them is looked at
	units map[string]int64 // that they hold, by SKU; only where units are limited
}

// limitsOpen reports that a customer's unpaid orders are limited, or their units.
func (s *Service) limitsOpen() bool { return s.cfg.MaxOpenOrders > 0 || s.cfg.MaxOpenUnits > 0 }

// openOf counts the unpaid orders of the customers of a batch: nil when they are
// not limited. Their units are read only of customers who have such orders: most have
// none, and a batch of those costs one query.
func (s *Service) openOf(ctx context.Context, tx *sqldb.Tx, batch []placing) (openOrders, error) {
	if !s.limitsOpen() {
		return nil, nil
	}
	who := make([]string, len(batch))
	for i := range batch {
		who[i] = batch[i].CustomerID
	}
	slices.Sort(who)
	since := batch[0].at.Add(-max(openHorizon, 2*s.cfg.PayWithin, s.cfg.PayWithinMost))
	open, err := findOpen(ctx, tx, slices.Compact(who), since)
	if err != nil || s.cfg.MaxOpenUnits <= 0 || len(open) == 0 {
		return open, err
	}
	return open, findOpenUnits(ctx, tx, open, since)
}

// refuses gives the refusal of a placement that would be one order or one unit too
// many. Of a SKU without a limit nobody can take anything away.
func (o openOrders) refuses(s *Service, p *placing, shelf *stock.Shelf) error {
	if o == nil {
		return nil
	}
	has := o[p.CustomerID]
	wait := max(has.first.Sub(p.at), 0)
	if s.cfg.MaxOpenOrders > 0 && has.count >= s.cfg.MaxOpenOrders {
		return &TooManyOpenError{Open: has.count, Wait: wait}
	}
	limit := s.cfg.MaxOpenUnits
	for i, l := range p.Lines {
		sku, _ := shelf.SKU(l.SkuID)
		if held := has.units[l.SkuID]; limit > 0 && !sku.Unlimited && held+l.Quantity > limit {
			return &TooManyUnitsError{Index: i, SkuID: l.SkuID, Asked: l.Quantity, Held: held, Limit: limit}
		}
	}
	return nil
}

// placeInTurn places within the limits of unpaid orders. A batch sees what was
// committed before it, not what is decided beside it; so the placements of one
// customer take turns in this process. Processes do not know of one another: of n of
// them each may let one placement through that does not see the others', so that a
// customer has at the worst n − 1 orders too many and n times as many units, and gets
// nothing more before they are paid or closed. To be exact, every batch would have to
// lock all its customers: a lock near the limit alone does not see a placement that was
// far from it when it began.
func (s *Service) placeInTurn(ctx context.Context, p placing) (Placed, error) {
	s.customerHere()
	if s.limitsOpen() {
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
