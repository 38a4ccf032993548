package reconcile_test

import (
	"errors"
	"testing"
	"time"

	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
)

// A run replaces the result of the one before: whoever starts it must know what that is, and nothing that people did
// may be gone with it.
func TestAnotherRunKeepsWhatPeopleDid(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		one, two := d.paid(t), d.paid(t)
		for _, who := range []string{fin.ActorID, fin2.ActorID} {
			if err := operators.Create(t.Context(), d.DB, who, operators.Finance, operators.Bootstrap,
				d.Clock.Now()); err != nil {
				t.Fatal(err)
			}
		}
		d.Clock.Set(midnight.Add(36 * time.Hour))
		id := reconcile.ID(day, payment.BillAll)
		if was, err := d.Replaced(t.Context(), id); was != nil || err != nil {
			t.Errorf("before the first run: %+v, %v", was, err)
		}
		if _, err := d.Replaced(t.Context(), "never"); !errors.Is(err, reconcile.ErrNotFound) {
			t.Errorf("of no name: %v", err)
		}
		d.run(t, day)
		off, open := d.diffs(t, day)["LOCAL_ONLY "+one.TransactionID], d.diffs(t, day)["LOCAL_ONLY "+two.TransactionID]
		resolve := func(x *reconcile.Difference, by reconcile.Cause) {
			t.Helper()
			if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
				Reason: "lost", Cause: by}); err != nil {
				t.Fatal(err)
			}
		}
		resolve(&off, fin)
		resolve(&off, fin2)
		resolve(&open, fin)
		if _, err := d.Comment(t.Context(), reconcile.Comment{ID: open.ID, Text: "asked", Cause: fin}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Assign(t.Context(), reconcile.Assign{ID: open.ID, To: fin2.ActorID, Cause: fin}); err != nil {
			t.Fatal(err)
		}
		was, err := d.Replaced(t.Context(), id)
		if err != nil || was == nil || was.Ended != 1 || was.Proposed != 1 || was.Marked != 0 || was.Result.Open != 1 ||
			was.Closing != nil {
			t.Fatalf("%+v, %v", was, err)
		}
		before := map[string]reconcile.Difference{off.ID: {}, open.ID: {}}
		for of := range before {
			before[of] = d.differenceOf(t, of)
		}
		d.run(t, day)
		for of := range before {
			now, was := d.differenceOf(t, of), before[of]
			if now.Version() != was.Version() || now.ResolvedWhy != was.ResolvedWhy || now.Assignee != was.Assignee ||
				now.ProposedBy != was.ProposedBy {
				t.Errorf("before %+v, after another run %+v", was, now)
			}
		}
		if notes, err := d.Notes(t.Context(), off.ID, open.ID); err != nil || len(notes[off.ID]) != 2 ||
			len(notes[open.ID]) != 3 {
			t.Errorf("%+v, %v", notes, err)
		}
		resolve(&open, fin2)
		if _, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: day, Reason: "all is well",
			Cause: fin}); err != nil {
			t.Fatal(err)
		}
		if was, err := d.Replaced(t.Context(), id); err != nil || was.Closing == nil ||
			was.Closing.Who != fin.ActorID || was.Ended != 2 {
			t.Errorf("of a closed day: %+v, %v", was, err)
		}
		d.run(t, day) // the same result: the closing stands
		if was, err := d.Replaced(t.Context(), id); err != nil || was.Closing == nil {
			t.Errorf("the same result has opened the day: %+v, %v", was, err)
		}
	})
}

// differenceOf reads one difference.
func (d *desk) differenceOf(t *testing.T, id string) reconcile.Difference {
	t.Helper()
	x, err := d.Difference(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
