package bulk_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/ordertest"
	"orderd/payment/operators"
)

// A number fits another set as well: money that nobody has seen must not be approved, nor an order closed that is not
// as it was seen.
func TestAnotherSetOfTheSameNumberIsRefused(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, plain), t.Context()
		seen := s.refunds(3, ordertest.Customer)
		a := s.ask(bulk.KindApprove, 3)
		s.MustDecide(t, seen[1], order.RefundEventReject, ordertest.Finance2)
		s.refunds(1, ordertest.Customer)
		if _, err := s.Start(ctx, a); !errors.Is(err, bulk.ErrChanged) {
			t.Fatal(err)
		}
		if _, err := s.Runs.Find(ctx, a.ID); !errors.Is(err, bulk.ErrNotFound) {
			t.Fatalf("something was done: %v", err)
		}
		s.look(a)
		if run, err := s.Start(ctx, a); err != nil || run.Total != 3 {
			t.Fatalf("%+v, %v", run, err)
		}
		open := s.orders(2)
		a = s.ask(bulk.KindClose, 2)
		if _, err := s.AddNote(ctx, order.Note{OrderNo: open[0], Text: "wait", Cause: ordertest.Finance,
			IfVersion: whole(s, open[0]).Version}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start(ctx, a); !errors.Is(err, bulk.ErrChanged) {
			t.Error(err)
		}
		ask := s.ask(bulk.KindAsk, 2)
		ask.Filter.Orders.State = order.StatePending
		s.look(ask)
		ask.Kind = bulk.KindClose // it was seen for another act
		if _, err := s.Start(ctx, ask); !errors.Is(err, bulk.ErrChanged) {
			t.Error(err)
		}
	})
}

// meanwhile has something happen between the look for a run and that for what its filter finds.
type meanwhile struct {
	*order.Service
	do func()
}

func (m *meanwhile) Select(ctx context.Context, f order.Filter, prepaid bool, most int) ([]order.Selected, bool,
	error) {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Service.Select(ctx, f, prepaid, most)
}

// Of two requests at once with one id the second must hear of the run, and not that there is nothing left.
func TestTwoStartsAtOnceAreOneRun(t *testing.T) {
	s := newShop(t, sqldbtest.SQLite(t), plain)
	s.orders(2)
	a := s.ask(bulk.KindClose, 2)
	m := &meanwhile{Service: s.Service}
	m.do = func() {
		run, err := s.Start(t.Context(), a)
		if err != nil {
			t.Error(err)
		}
		s.worked(s.Runs, run.ID)
	}
	second, err := bulk.New(bulk.Config{DB: s.DB, Orders: m, Now: s.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if run, err := second.Start(t.Context(), a); err != nil || run.ID != a.ID || run.Done != 2 {
		t.Errorf("%+v, %v", run, err)
	}
}

// locked has orders that somebody else has locked.
type locked struct {
	*order.Service
	those map[string]bool
	fails error
	asked []string
}

func (l *locked) Sync(ctx context.Context, no string, cause order.Cause) (order.Order, error) {
	l.asked = append(l.asked, no)
	if l.those[no] {
		return order.Order{}, l.fails
	}
	return l.Service.Sync(ctx, no, cause)
}

// One row that is locked must not keep the others waiting, nor two of them those behind them.
func TestALockedRowIsPassedBy(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, plain), t.Context()
		open := s.orders(5)
		slices.Reverse(open) // as they are done
		l := &locked{Service: s.Service, fails: sqldb.ErrLocked,
			those: map[string]bool{open[0]: true, open[2]: true, open[3]: true}}
		r, err := bulk.New(bulk.Config{DB: s.DB, Orders: l, Now: s.Clock.Now, LookEvery: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		run := s.started(bulk.KindAsk, 5)
		for range 6 {
			if err := r.Pass(ctx); err != nil && !errors.Is(err, sqldb.ErrLocked) {
				t.Fatal(err)
			}
		}
		passed, err := r.Passed(ctx, run.ID)
		rows := s.rows(run.ID, bulk.RowDoing)
		if err != nil || passed != 3 || len(rows) != 3 || rows[0].Detail != bulk.PassedBusy ||
			len(s.rows(run.ID, bulk.RowDone)) != 2 {
			t.Fatalf("%d passed by, %v: %+v", passed, err, rows)
		}
		last := l.asked[len(l.asked)-3:]
		slices.Sort(last)
		if len(slices.Compact(last)) != 3 {
			t.Errorf("of those that were passed by, one was asked for again and again: %v", l.asked)
		}
		l.those = nil
		run = s.worked(r, run.ID)
		s.counts(&run, 5, 0, 0)
		if rows := s.rows(run.ID, bulk.RowDone); rows[0].Detail != "" {
			t.Errorf("%+v", rows)
		}
	})
}

// What no rule says may have anything in it, and is not for everybody who looks at a run.
func TestWhatFailsByNoRuleIsNotShown(t *testing.T) {
	s := newShop(t, sqldbtest.SQLite(t), plain)
	open := s.orders(1)
	l := &locked{Service: s.Service, those: map[string]bool{open[0]: true}, fails: errors.New("dial 10.0.0.7: secret")}
	r, err := bulk.New(bulk.Config{DB: s.DB, Orders: l, Now: s.Clock.Now, LookEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	run := s.started(bulk.KindAsk, 1)
	run = s.worked(r, run.ID)
	s.counts(&run, 0, 0, 1)
	if rows := s.rows(run.ID, bulk.RowFailed); rows[0].Detail != bulk.Otherwise {
		t.Errorf("%+v", rows)
	}
}

// while is a rate that others take while something happens.
type while struct {
	do  func()
	err error
}

func (w *while) Take(context.Context, int) (int, time.Duration, error) {
	if w.do != nil {
		w.do()
	}
	return 1, 0, w.err
}

// Who waits for the right to call may wait for long: what was stopped meanwhile, or may not be done by its person any
// more, is not done, and what was never begun is compared with what was counted.
func TestAWaitForTheRateIsNoLeave(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, plain), t.Context()
		open := s.orders(1)
		if err := operators.Create(ctx, db, "li", operators.Operator, "cli:root", s.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		w := &while{}
		r, err := bulk.New(bulk.Config{DB: s.DB, Orders: s.Service, Now: s.Clock.Now, Calls: w,
			LookEvery: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		a := s.ask(bulk.KindClose, 1)
		a.Actor = "li"
		run, err := s.Start(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		waits := func(what string) {
			t.Helper()
			if rows := s.rows(run.ID, bulk.RowWaiting); len(rows) != 1 || s.State(t, open[0]) != order.StatePending {
				t.Errorf("%s: %+v, %s", what, rows, s.State(t, open[0]))
			}
		}
		w.do = func() {
			if _, err := s.Stop(ctx, run.ID, "wang", "wait"); err != nil {
				t.Error(err)
			}
		}
		run = s.worked(r, run.ID)
		waits("stopped")
		if _, err := s.Resume(ctx, run.ID, "wang", "go on"); err != nil {
			t.Fatal(err)
		}
		w.do, w.err = nil, errors.New("the rate is not to be had")
		if err := r.Pass(ctx); !errors.Is(err, w.err) {
			t.Fatal(err)
		}
		waits("no rate")
		w.err, w.do = nil, func() {
			if err := operators.Disable(ctx, db, "li", "cli:root", s.Clock.Now()); err != nil {
				t.Error(err)
			}
		}
		if run = s.worked(r, run.ID); run.State != bulk.StateStopped || run.Note != operators.ErrNoLonger.Error() {
			t.Errorf("%+v", run)
		}
		waits("no role")
		s.long(r, w)
	})
}

// long has a process wait for as long as it has a run, nearly: it has the run for as long again.
func (s *shop) long(r *bulk.Runs, w *while) {
	s.t.Helper()
	run, ctx := s.started(bulk.KindAsk, 1), s.t.Context()
	w.do = func() { s.Clock.Advance(bulk.HoldFor - time.Second) }
	s.WeChat.Before = func(string, string) error {
		s.Clock.Advance(bulk.HoldFor - time.Second)
		return s.another().Pass(ctx)
	}
	run = s.worked(r, run.ID)
	s.WeChat.Before = nil
	s.counts(&run, 1, 0, 0)
}

// Who died after WeChat Pay had said that an order is paid has done that row: it is as it was counted no more by that.
func TestWhoDiesAfterAPaymentHasAsked(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, plain), t.Context()
		o := s.PlaceOne(t, "r", "mug", 1)
		if _, err := s.WeChat.Pay(s.Prepaid(t, o.OrderNo), false); err != nil {
			t.Fatal(err)
		}
		run := s.started(bulk.KindAsk, 1)
		if _, _, err := s.Claimed(ctx, run.ID, true); err != nil || s.State(t, o.OrderNo) != order.StatePaid {
			t.Fatal(s.State(t, o.OrderNo), err)
		}
		s.Clock.Advance(bulk.HoldFor + time.Second)
		run = s.worked(s.another(), run.ID)
		s.counts(&run, 1, 0, 0)
	})
}
