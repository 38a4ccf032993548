package bulk_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/ordertest"
	"orderd/payment/operators"
)

// twoPeople has 250 fen and more take two.
func twoPeople(c *order.Config) { c.RefundTwoPersons = 250 }

// people makes people of finance, who have been here for long.
func (s *shop) people(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.person(name, 2*operators.FreshFor)
	}
}

// person makes a person of finance whose account is so old.
func (s *shop) person(name string, old time.Duration) {
	s.t.Helper()
	if err := operators.Create(s.t.Context(), s.DB, name, operators.Finance, operators.Bootstrap,
		s.Clock.Now().Add(-old)); err != nil {
		s.t.Fatal(err)
	}
}

// does sends one statement.
func (s *shop) does(statement string, args ...any) {
	s.t.Helper()
	if _, err := s.DB.Pool().ExecContext(s.t.Context(), statement, args...); err != nil {
		s.t.Fatal(err)
	}
}

// waitsForALock waits until a session waits for a row. The server renews what it tells of that when nobody has asked
// for a tenth of a second.
func (s *shop) waitsForALock() {
	s.t.Helper()
	for range 400 {
		n := 0
		if err := s.DB.QueryRowContext(s.t.Context(), `SELECT COUNT(*)
FROM information_schema.innodb_trx
WHERE trx_state = 'LOCK WAIT'`).Scan(&n); err != nil {
			s.t.Fatal(err)
		}
		if n > 0 {
			return
		}
		time.Sleep(150 * time.Millisecond)
	}
	s.t.Fatal("nobody waits")
}

// Whoever started a run has it go on at the moment at which it is stopped, or written down: what the word of one is
// worth is judged by what is there when it is written. SQLite has one writer at a time, and nothing comes in between.
func TestAResumeIsJudgedWhenItIsWritten(t *testing.T) {
	s, ctx := newShop(t, sqldbtest.MariaDB(t), twoPeople), t.Context()
	s.refunds(3, ordertest.Customer)
	run := s.started(bulk.KindApprove, 3)
	if _, err := s.Resume(ctx, run.ID, "fin2", "I have looked"); err != nil {
		t.Fatal(err)
	}
	other := bulk.NewID(s.Clock.Now())
	for _, c := range []struct{ what, id, statement string }{
		{"a stop", run.ID, `UPDATE bulk_runs
SET state = 'stopped', note = 'fin3: wait', ended_at = created_at
WHERE id = ?`},
		{"a start", other, `INSERT INTO bulk_runs
  (id, kind, actor, reason, filter, total, sum_fen, state, done, changed, failed, note, holder, held_until, created_at,
  ended_at)
SELECT ?, kind, actor, reason, filter, total, sum_fen, 'stopped', 0, 0, 0, '', '', 0, created_at, created_at
FROM bulk_runs`},
	} {
		ended := make(chan error)
		if err := s.DB.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.Update(ctx, c.statement, c.id); err != nil {
				return err
			}
			go func() {
				_, err := s.Resume(t.Context(), c.id, "fin", "go on")
				for errors.Is(err, sqldb.ErrLocked) { // on a slow machine one waits longer than the server lets anybody
					_, err = s.Resume(t.Context(), c.id, "fin", "go on")
				}
				ended <- err
			}()
			s.waitsForALock()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, bulk.ErrSecond) {
			t.Errorf("%s: %v", c.what, err)
		}
		if got, err := s.Runs.Find(ctx, c.id); err != nil || got.State != bulk.StateStopped {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
	s.does("DELETE FROM bulk_runs WHERE id = ?", other) // it has no rows
}

// Who was let go before the money moves counts no more, the second person as well as the first; nor who has become no
// second person meanwhile.
func TestASecondWhoWasLetGoApprovesNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, twoPeople), t.Context()
		s.people("ann", "bea", "cai", "dai")
		all := s.refunds(3, ordertest.Customer)
		a := s.ask(bulk.KindApprove, 3)
		a.Actor = "ann"
		run, err := s.Start(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		goes := func(by string) {
			t.Helper()
			if run, err := s.Resume(ctx, run.ID, by, "I have looked: all is well"); err != nil ||
				run.State != bulk.StateRunning || bulk.WentOnBy(run.Note) != by {
				t.Fatalf("%+v, %v", run, err)
			}
		}
		stops := func(what string, why error, moved int) {
			t.Helper()
			if run := s.worked(s.Runs, run.ID); run.State != bulk.StateStopped || run.Note != why.Error() {
				t.Errorf("%s: %+v", what, run)
			}
			pending := 0
			for _, no := range all {
				if s.RefundState(t, no) == order.RefundStatePending {
					pending++
				}
			}
			if len(all)-pending != moved {
				t.Errorf("%s: %d moved, want %d", what, len(all)-pending, moved)
			}
		}
		goes("bea")
		if err := operators.Disable(ctx, db, "bea", "cli:root", s.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		stops("let go before the first row", bulk.ErrLeft, 0)
		goes("cai")
		if _, settle, err := s.Claimed(ctx, run.ID, true); err != nil || settle() != nil {
			t.Fatal(err)
		}
		s.does("UPDATE operators SET role = 'viewer' WHERE name = 'cai'")
		stops("another role after the first row", bulk.ErrLeft, 1)
		goes("dai")
		s.does("UPDATE operators SET created_by = 'ann' WHERE name = 'dai'")
		stops("made by the first", bulk.ErrLeft, 1)
		s.people("eve")
		goes("eve")
		run = s.worked(s.Runs, run.ID)
		s.counts(&run, 3, 0, 0)
	})
}

// A process of before two people were wanted starts a run as under way, and has one go on by anybody; the limit may be
// lower than it was: whoever works at it asks for the second person.
func TestALargeRunWithoutASecondIsNotWorkedAt(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, twoPeople), t.Context()
		all := s.refunds(3, ordertest.Customer)
		run := s.started(bulk.KindApprove, 3)
		for note, why := range map[string]error{"": bulk.ErrSecond, "fin: go on": bulk.ErrSecond,
			"cli:root: go on": bulk.ErrLeft, bulk.ErrSecond.Error(): bulk.ErrSecond} {
			s.does("UPDATE bulk_runs SET state = 'running', note = ?, ended_at = 0 WHERE id = ?", note, run.ID)
			if got := s.worked(s.Runs, run.ID); got.State != bulk.StateStopped || got.Note != why.Error() {
				t.Errorf("%q: %+v", note, got)
			}
		}
		for _, no := range all {
			if got := s.RefundState(t, no); got != order.RefundStatePending {
				t.Errorf("by one person %s is %s", no, got)
			}
		}
		if _, err := s.Resume(ctx, run.ID, "fin2", "I have looked"); err != nil {
			t.Fatal(err)
		}
		run = s.worked(s.Runs, run.ID)
		s.counts(&run, 3, 0, 0)
	})
}

// Two accounts that were made for one occasion do not pass unseen, whichever of them is new; nothing is told that was
// not committed.
func TestAFreshPersonOfABulkRaisesAnAlarm(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, twoPeople), t.Context()
		s.people("ann", "bea")
		s.person("new", time.Hour)
		s.refunds(3, ordertest.Customer)
		var heard []string
		id := ""
		r, err := bulk.New(bulk.Config{DB: s.DB, Orders: s.Service, Now: s.Clock.Now, Alarm: func(what, detail string) {
			heard = append(heard, what+"; "+detail)
			if run, err := s.Runs.Find(ctx, id); err != nil || run.State != bulk.StateRunning {
				t.Errorf("told before it was committed: %+v, %v", run, err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ first, second string }{{"ann", "bea"}, {"ann", "new"}, {"new", "bea"}} {
			a := s.ask(bulk.KindApprove, 3)
			a.Actor, heard, id = c.first, nil, a.ID
			if _, err := r.Start(ctx, a); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Resume(ctx, a.ID, c.first, "go on"); !errors.Is(err, bulk.ErrSecond) || heard != nil {
				t.Errorf("%v, %q", err, heard)
			}
			for range 2 { // the second time it is under way
				if _, err := r.Resume(ctx, a.ID, c.second, "go on"); err != nil {
					t.Fatal(err)
				}
			}
			want := map[bool]int{true: 1}[slices.Contains([]string{c.first, c.second}, "new")]
			if len(heard) != want || want == 1 &&
				!strings.HasSuffix(heard[0], "; "+a.ID+": "+c.second+", after "+c.first) {
				t.Errorf("%+v: %q", c, heard)
			}
		}
	})
}
