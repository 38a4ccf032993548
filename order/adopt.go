package order

import (
	"cmp"
	"context"
	"sync"
	"time"

	"orderd/migrations/sqldb"
)

// A prepay notes that its order may be paid, and its answer when WeChat Pay is asked
// about it. The program before schema 8 knew neither: what it has prepaid, before the
// migration or beside this program, would stand in line among the carts that nobody can
// pay, and nobody would ask about it until its deadline. So whoever reads those lists
// walks the open orders first and notes both.

const (
	// adoptEvery is how often a process begins to walk the open orders for prepays of a
	// program before schema 8, which note less: the first of these walks is at its start.
	adoptEvery = time.Minute
	// adoptPage is how many orders that walk reads at a time, once for each read of the
	// list of asks, or of the line.
	adoptPage = 1000
)

// adopting is how far the walk has come.
type adopting struct {
	mu    sync.Mutex
	began time.Time // the newest walk
	list  int       // where it is in adoptLists; past them: it has ended
	after DueCursor // in that list
	page  int       // instead of adoptPage, in tests
}

// adoptLists are the open orders as ix_orders_line has them, those first that wait for
// their close.
var adoptLists = [...]struct {
	state   State
	prepaid bool
}{{StateClosing, false}, {StatePending, false}, {StatePending, true}}

// adoptPrepaid goes one page on in the walk, or past all lists that end within it. It is
// best effort: what fails is logged, and found by the next walk.
func (s *Service) adoptPrepaid(ctx context.Context) {
	a := &s.adopting
	if !a.mu.TryLock() {
		return // somebody else walks
	}
	defer a.mu.Unlock()
	now := s.cfg.Now()
	if since := now.Sub(a.began); since < 0 || since >= adoptEvery && (a.began.IsZero() || a.list == len(adoptLists)) {
		a.began, a.list, a.after = now, 0, DueCursor{}
	}
	for left := cmp.Or(a.page, adoptPage); left > 0 && a.list < len(adoptLists); {
		list := adoptLists[a.list]
		if _, asks := s.cfg.askAfter(0); list.prepaid && !asks { // nothing is missing of those
			a.list++
			continue
		}
		var page []unnoted
		err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			page, err = findUnnoted(ctx, tx, list.state, list.prepaid, a.after, now.AddDate(100, 0, 0), left)
			return err
		})
		if err != nil {
			a.list = len(adoptLists)
			s.log.Warn("prepays of an earlier program are not looked for", "err", err)
			return
		}
		if err := s.notePrepaid(ctx, page, now); err != nil {
			s.log.Warn("prepays of an earlier program are not noted yet", "err", err)
		}
		if left -= len(page); left > 0 {
			a.list, a.after = a.list+1, DueCursor{}
		} else {
			a.after = page[len(page)-1].at
		}
	}
}

// notePrepaid notes of those orders of a page that need it that they may be paid, and
// when WeChat Pay is asked. One whose row somebody holds is left for the next walk.
func (s *Service) notePrepaid(ctx context.Context, page []unnoted, now time.Time) error {
	var orderNos []string
	for _, o := range page {
		if o.unnoted {
			orderNos = append(orderNos, o.at.Key)
		}
	}
	return sqldb.Apart(orderNos, false, mostLocked, func(orderNos []string, noWait bool) error {
		return s.db.InTxOfMany(ctx, noWait, func(ctx context.Context, tx *sqldb.Tx) error {
			pending, err := setPrepaid(ctx, tx, orderNos)
			wait, asks := s.cfg.askAfter(0)
			if err != nil || !asks || len(pending) == 0 {
				return err
			}
			return listAsks(ctx, tx, pending, now.Add(wait))
		})
	}, func(left []string, err error) error {
		if len(left) > 1 {
			return err
		}
		return nil
	})
}
