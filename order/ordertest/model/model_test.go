package model

import (
	"errors"
	"slices"
	"testing"

	"orderd/order"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error) {
	t.Helper()
	if v := new(Violation); !errors.As(err, &v) || len(v.Trace) == 0 {
		t.Fatalf("a wrong answer was believed: %v", err)
	}
}

func placed(t *testing.T) *Order {
	t.Helper()
	o := New()
	must(t, o.Answered(o.Began(Place), order.StatePending))
	return o
}

// Two tables that drift apart would call a correct service wrong, or a wrong one correct.
func TestMovesAreThoseOfTheMachine(t *testing.T) {
	for _, s := range order.States() {
		for _, e := range order.Events() {
			want := s
			if c := order.Next(s, e); c.Verdict == order.VerdictMove {
				want = c.To
			}
			if got := after(s, e); got != want {
				t.Errorf("%s × %s: the model says %s, the machine %s", s, e, got, want)
			}
		}
	}
}

// A checker that believes everything proves nothing: each of these answers is a lie.
func TestWrongObservationsAreRefused(t *testing.T) {
	for name, lie := range map[string]func(o *Order) error{
		"paid without a payment":     func(o *Order) error { return o.Observe(order.StatePaid) },
		"gone":                       func(o *Order) error { return o.Observe(Absent) },
		"closed without a cause":     func(o *Order) error { return o.Observe(order.StateClosed) },
		"refunded without a payment": func(o *Order) error { return o.Observe(order.StateRefunded) },
		"a cancel that did nothing": func(o *Order) error {
			return o.Answered(o.Began(order.EventCancel), order.StatePending)
		},
		"placed by a failed placement": func(*Order) error {
			o := New()
			return errors.Join(o.Failed(o.Began(Place)), o.Observe(order.StatePending))
		},
		"a read before the placement": func(*Order) error { return New().Observe(order.StatePending) },
		"closed after proof of payment": func(o *Order) error {
			o.Cannot(order.EventCloseDone)
			o.May(order.EventExpire)
			return o.Observe(order.StateClosed)
		},
		"refunding that nobody asked": func(o *Order) error {
			o.May(order.EventPay)
			return o.Observe(order.StateRefunding)
		},
		"an acknowledged payment undone": func(o *Order) error {
			return errors.Join(o.Answered(o.Began(order.EventPay), Untold), o.Observe(order.StatePending))
		},
		"late, back to closed": func(o *Order) error {
			o.May(order.EventExpire)
			o.May(order.EventPay)
			return errors.Join(o.Observe(order.StateLate), o.Observe(order.StateClosed))
		},
		"paid, then closed": func(o *Order) error {
			o.May(order.EventExpire)
			o.May(order.EventPay)
			return errors.Join(o.Observe(order.StatePaid), o.Observe(order.StateClosed))
		},
	} {
		t.Run(name, func(t *testing.T) { refused(t, lie(placed(t))) })
	}
}

// Without both branches an answer that was lost would make every later truth a violation, or none.
func TestAnUnknownAnswerKeepsBothBranches(t *testing.T) {
	o := New()
	o.Unknown(o.Began(Place))
	if got := o.Possible(); !slices.Equal(got, []order.State{Absent, order.StatePending}) {
		t.Fatal(got)
	}
	must(t, o.Observe(Absent)) // it may still be on its way
	must(t, o.Observe(order.StatePending))
	refused(t, o.Observe(Absent)) // the proof pruned
	o.Unknown(o.Began(order.EventCancel))
	o.May(order.EventPay)
	for _, s := range []order.State{order.StatePending, order.StateClosing, order.StateClosed, order.StatePaid,
		order.StateLate} {
		if !slices.Contains(o.Possible(), s) {
			t.Errorf("%s should be possible", s)
		}
	}
	must(t, o.Observe(order.StateClosing))
	refused(t, o.Observe(order.StatePending))
	o.Cannot(order.EventPay)
	must(t, o.Observe(order.StateClosed))
	refused(t, o.Observe(order.StateLate))
}

// A proof that a request is dead must end its branch, or a lost order could come back at any time.
func TestCannotEndsABranch(t *testing.T) {
	o := New()
	o.Unknown(o.Began(Place))
	o.Cannot(Place)
	must(t, o.Observe(Absent))
	refused(t, o.Observe(order.StatePending))
}

// Calls that overlap may take effect in either order; calls one after the other may not.
func TestOverlappingCalls(t *testing.T) {
	o := placed(t)
	pay, stop, get := o.Began(order.EventPay), o.Began(order.EventCancel), o.Began(Get)
	must(t, o.Answered(get, order.StateClosing)) // the cancel came first …
	must(t, o.Answered(pay, Untold))             // … and the payment won all the same
	must(t, o.Answered(stop, order.StatePaid))
	refused(t, o.Observe(order.StateClosing))

	o = placed(t)
	must(t, o.Answered(o.Began(order.EventPay), order.StatePaid))
	refused(t, o.Answered(o.Began(order.EventCancel), order.StateClosing))
}

// More calls at a time than are followed must make the model generous, not wrong.
func TestMoreCallsThanAreFollowed(t *testing.T) {
	o := placed(t)
	var ops []Op
	for range maxOpen + 3 {
		ops = append(ops, o.Began(order.EventCancel))
	}
	for _, op := range ops {
		must(t, o.Answered(op, order.StateClosing))
	}
	must(t, o.Observe(order.StateClosed))
	refused(t, o.Observe(order.StatePaid))
}

// An oversold shelf, and one that lost units, must be seen; an unknown answer excuses its own units only.
func TestShelf(t *testing.T) {
	s := NewShelf(3)
	s.Taking(2)
	must(t, s.Took(2))
	s.Taking(1) // unknown
	must(t, s.Observe(1))
	must(t, s.Observe(0))
	for _, n := range []int64{2, -1} {
		if s.Observe(n) == nil {
			t.Errorf("%d believed", n)
		}
	}
	s.Taking(2)
	if s.Took(2) == nil {
		t.Error("sold 4 of 3")
	}
	s = NewShelf(1)
	s.Taking(1)
	s.NotTaken(1)
	if s.Observe(0) == nil {
		t.Error("a refused placement took a unit")
	}
	s.Taking(1)
	must(t, s.Took(1))
	s.Giving(1)
	must(t, s.Observe(1))
	s.Gave(1)
	if low, high := s.Range(); low != 1 || high != 1 || s.Observe(0) == nil {
		t.Error(low, high)
	}
}
