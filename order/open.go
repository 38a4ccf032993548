package order

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// How many unpaid orders one customer may have: unpaid orders hold stock, and
// without a limit one customer takes a hot SKU off the shelf for nothing.

// TooManyOpenError: the customer has as many unpaid orders as one may have.
// Nothing was placed; the same request again, after one was paid or cancelled,
// places it.
type TooManyOpenError struct {
	Open int
	// Wait is how long until the first of them is closed by itself; 0 when that
	// is overdue.
	Wait time.Duration
}

func (e *TooManyOpenError) Error() string {
	return fmt.Sprintf("the customer has %d unpaid orders", e.Open)
}

// opened is what a batch knows of the unpaid orders of its customers, of whom it
// has one placement each. Nil: there is no limit.
type opened map[string]openOrders

type openOrders struct {
	count int
	first time.Time // the earliest time at which one of them is looked at
}

// refuses gives the refusal of a placement that would be one too many.
func (o opened) refuses(p *placing, limit int) error {
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
		done, err := s.turns.take(ctx, p.CustomerID)
		if err != nil {
			return Placed{}, err
		}
		defer done()
	}
	return s.placements.Do(ctx, p)
}

// turns lets one caller per key through at a time. Only keys that somebody
// holds or waits for are remembered.
type turns struct {
	mu  sync.Mutex
	all map[string]*turn
}

type turn struct {
	free  chan struct{} // one token
	users int           // who holds it or waits for it
}

// take waits for the turn of a key; done ends it.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	t.mu.Lock()
	if t.all == nil {
		t.all = map[string]*turn{}
	}
	u := t.all[key]
	if u == nil {
		u = &turn{free: make(chan struct{}, 1)}
		u.free <- struct{}{}
		t.all[key] = u
	}
	u.users++
	t.mu.Unlock()
	select {
	case <-u.free:
		return func() { u.free <- struct{}{}; t.leave(key, u) }, nil
	case <-ctx.Done():
		t.leave(key, u)
		return nil, ctx.Err()
	}
}

func (t *turns) leave(key string, u *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u.users--; u.users == 0 {
		delete(t.all, key)
	}
}
