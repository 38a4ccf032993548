package trail_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/trail"
)

// begun is when the clock of the tests begins.
var begun = time.UnixMilli(1_800_000_000_000).UTC()

// broken gives what Check finds.
func broken(t *testing.T, db *sqldb.DB) (all []string) {
	t.Helper()
	if err := trail.Check(t.Context(), db, func(row string) { all = append(all, row) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// write adds an act of a person, whole.
func write(t *testing.T, tr *trail.Trail, actor, action, target string) {
	t.Helper()
	act, err := tr.Begin(t.Context(), trail.Who{Actor: actor, Role: "finance", Address: "192.0.2.1", Session: "s",
		RequestID: "r"}, trail.What{Action: action, Target: target, Reason: "因为", Asked: `{"a":1}`})
	if err != nil {
		t.Fatal(err)
	}
	if err := act.End(t.Context(), "", trail.Done, "owed", "processing"); err != nil {
		t.Fatal(err)
	}
}

// A trail in which a row can be changed, taken out, put in or swapped without anybody seeing it proves nothing.
func TestWhatIsWrittenCannotBeChanged(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		tr := trail.New(db, func() time.Time { return begun }, nil)
		for i := range 3 {
			write(t, tr, "fin", "refund.approve", fmt.Sprint("R", i))
		}
		if found := broken(t, db); len(found) > 0 {
			t.Fatalf("a trail that nobody touched: %q", found)
		}
		for _, statement := range []string{"UPDATE trail SET reason = 'x' WHERE seq = 3",
			"UPDATE trail SET sha256 = 'x' WHERE seq = 6", "UPDATE trail SET became = '' WHERE seq = 6",
			"UPDATE trail SET actor = 'eve' WHERE seq = 1", "UPDATE trail SET at = at + 1 WHERE seq = 2",
			"DELETE FROM trail WHERE seq = 3", "DELETE FROM trail WHERE seq = 1",
			"UPDATE trail SET seq = 9 WHERE seq = 6", "UPDATE trail SET outcome = 'refused' WHERE seq = 4",
			"UPDATE trail SET actor = 'fi', role = 'nfinance' WHERE seq = 1"} {
			undo := errors.New("undo")
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if n, err := tx.Update(ctx, statement); err != nil || n != 1 {
					t.Fatalf("%s: %d rows, %v", statement, n, err)
				}
				found := 0
				if err := trail.Check(ctx, tx, func(string) { found++ }); err != nil {
					return err
				}
				if found == 0 {
					t.Errorf("%s is not found", statement)
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Fatal(err)
			}
		}
		if found := broken(t, db); len(found) > 0 {
			t.Errorf("what was undone is still there: %q", found)
		}
	})
}

// Two who act at the same moment have two rows, one behind the other: a gap, or two rows on one, would be
// somebody's forgery.
func TestManyAtOnceAreOneChain(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var group sync.WaitGroup
		for who := range 8 {
			group.Go(func() {
				tr := trail.New(db, func() time.Time { return begun }, nil)
				for i := range 5 {
					act, err := tr.Begin(t.Context(), trail.Who{Actor: fmt.Sprint("p", who)}, trail.What{Action: "x.y",
						Target: fmt.Sprint(i)})
					if err == nil {
						err = act.End(t.Context(), "", trail.Done, "", "")
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if found := broken(t, db); len(found) > 0 {
			t.Errorf("%q", found)
		}
		if seq, sum, err := trail.New(db, time.Now, nil).Head(t.Context()); err != nil || seq != 80 || len(sum) != 64 {
			t.Errorf("the head is %d %q, %v", seq, sum, err)
		}
	})
}

// What does not fit its column is cut before its hash is made: a hash over more than is stored breaks the chain.
func TestLongAndStrangeTextsAreCut(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		tr := trail.New(db, func() time.Time { return begun.Add(999 * time.Microsecond) }, nil)
		long := strings.Repeat("长\n", 2000) + "\xff\xf0😀"
		act, err := tr.Begin(t.Context(), trail.Who{Actor: long, Role: long, Address: long, Session: long,
			RequestID: long}, trail.What{Action: long, Target: long, Reason: long, Asked: long})
		if err != nil {
			t.Fatal(err)
		}
		if err := act.End(t.Context(), "\xff 😀", "done:"+long, long, long); err != nil {
			t.Fatal(err)
		}
		if found := broken(t, db); len(found) > 0 {
			t.Errorf("%q", found)
		}
	})
}

// A filter that shows more or less than it says hides an act, or shows another's.
func TestTrailIsListedByWhoWhatAndWhen(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		now := begun
		tr := trail.New(db, func() time.Time { return now }, nil)
		for i, who := range []string{"fin", "adam", "fin", "li"} {
			now = begun.Add(time.Duration(i) * time.Hour)
			write(t, tr, who, []string{"refund.approve", "person.role"}[i%2], fmt.Sprint("T", i))
		}
		for name, c := range map[string]struct {
			f    trail.Filter
			want string
		}{
			"all":    {trail.Filter{}, "8 7 6 5 4 3 2 1"},
			"who":    {trail.Filter{Actor: "fin"}, "6 5 2 1"},
			"what":   {trail.Filter{Action: "person.role"}, "8 7 4 3"},
			"target": {trail.Filter{Target: "T2"}, "6 5"},
			"from":   {trail.Filter{From: begun.Add(2 * time.Hour)}, "8 7 6 5"},
			"to":     {trail.Filter{To: begun.Add(time.Hour)}, "2 1"},
			"range":  {trail.Filter{From: begun.Add(time.Hour), To: begun.Add(2 * time.Hour), Actor: "adam"}, "4 3"},
			"later":  {trail.Filter{From: begun.Add(24 * time.Hour)}, ""},
			"before": {trail.Filter{To: begun}, ""},
			"nobody": {trail.Filter{Actor: "eve"}, ""},
		} {
			var got []string
			for c.f.Limit = 3; ; {
				page, next, err := tr.List(t.Context(), c.f)
				if err != nil || len(page) > 3 {
					t.Fatalf("%s: %d rows, %v", name, len(page), err)
				}
				for _, e := range page {
					got = append(got, fmt.Sprint(e.Seq))
				}
				if c.f.Cursor = next; next == "" {
					break
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: %v, want %s", name, got, c.want)
			}
		}
		for _, bad := range []string{"x", "0", "-1", "01", "9999999999999999999"} {
			_, _, err := tr.List(t.Context(), trail.Filter{Cursor: bad, Limit: 3})
			if !errors.Is(err, bounds.ErrCursor) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
		n := 0
		if err := tr.All(t.Context(), begun.Add(time.Hour), begun.Add(3*time.Hour), func(*trail.Entry) error {
			n++
			return nil
		}); err != nil || n != 4 {
			t.Errorf("an export of two hours has %d rows, %v", n, err)
		}
	})
}
