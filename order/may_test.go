package order_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// A note that moved an order, or was lost, or stood twice because its button was pressed twice, is worse than none.
func TestNoteIsALineOfTheTimelineAlone(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		who := order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "li"}, Type: "request", ID: "r1"}
		for _, o := range []order.Order{f.PlaceOne(t, "a", "mug", 1), f.PaidOne(t, "b", "mug", 1)} {
			before, err := f.Find(t.Context(), o.OrderNo)
			if err != nil {
				t.Fatal(err)
			}
			n := order.Note{OrderNo: o.OrderNo, Text: "买家要求 <周一> 送", IfVersion: before.Version, Cause: who}
			after, err := f.AddNote(t.Context(), n)
			if err != nil || after.State != before.State || after.Version != before.Version+1 ||
				!after.DueAt.Equal(before.DueAt) {
				t.Errorf("%s became %s, version %d: %v", before.State, after.State, after.Version, err)
			}
			if _, err = f.AddNote(t.Context(), n); !errors.Is(err, order.ErrVersion) {
				t.Errorf("the same note again: %v", err)
			}
			events, err := f.Timeline(t.Context(), o.OrderNo)
			if err != nil {
				t.Fatal(err)
			}
			last := events[len(events)-1]
			if last.Event != "order.noted" || last.Detail["note"] != n.Text || last.Actor.ID != "li" ||
				last.From != last.To {
				t.Errorf("the timeline ends with %+v", last)
			}
		}
		for _, text := range []string{"", " ", "a\x00b"} {
			_, err := f.AddNote(t.Context(), order.Note{OrderNo: "x", Text: text, IfVersion: 1, Cause: who})
			if !errors.As(err, new(*order.ValidationError)) {
				t.Errorf("the note %q: %v", text, err)
			}
		}
		if _, err := f.AddNote(t.Context(), order.Note{OrderNo: "x", Text: "x", IfVersion: 1, Cause: who}); !errors.Is(
			err, order.ErrNotFound) {
			t.Errorf("of no order: %v", err)
		}
	})
}

// What a page offers and the command refuses is a button that does nothing; what it does not offer and the command
// takes, nobody can do.
func TestWhatMayBeAskedBackIsWhatIsTaken(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 20)
		ask := func(no, key string, fen payment.Fen) error {
			r := order.AskRefund{OrderNo: no, RequestID: key, Reason: "x", Cause: ordertest.Finance}
			if fen > 0 {
				r.Amount = &fen
			}
			_, err := f.AskRefund(t.Context(), r)
			return err
		}
		now := func(no string) order.Order {
			o, err := f.Find(t.Context(), no)
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		open := f.PlaceOne(t, "a", "mug", 1)
		o := now(open.OrderNo)
		if left := o.RefundLeft(f.Clock.Now()); left != 0 || ask(open.OrderNo, "k0", 0) == nil {
			t.Errorf("%s of what is not paid", left)
		}
		no := f.PaidOne(t, "b", "mug", 2).OrderNo
		o = now(no)
		all := o.RefundLeft(f.Clock.Now())
		if all != o.Total || !slices.Equal(o.ReturnLeft(), []int64{2}) {
			t.Fatalf("%s of %s, %v", all, o.Total, o.ReturnLeft())
		}
		if err := ask(no, "k1", all+1); !errors.As(err, new(*order.RefundExceedsError)) {
			t.Errorf("more than is left: %v", err)
		}
		if err := ask(no, "k2", 1); err != nil {
			t.Fatal(err)
		}
		o = now(no)
		if left := o.RefundLeft(f.Clock.Now()); left != all-1 {
			t.Errorf("%s left of %s, want one fen less", left, all)
		}
		if err := ask(no, "k3", 0); err != nil {
			t.Fatal(err)
		}
		o = now(no)
		if left := o.RefundLeft(f.Clock.Now()); left != 0 || o.ReturnLeft()[0] != 0 || ask(no, "k4", 1) == nil {
			t.Errorf("%s and %v left of what goes back", left, o.ReturnLeft())
		}
		old := f.PaidOne(t, "c", "mug", 1).OrderNo
		f.Clock.Advance(366 * 24 * time.Hour)
		o = now(old)
		if left := o.RefundLeft(f.Clock.Now()); left != 0 || !errors.Is(ask(old, "k5", 0), order.ErrRefundTooOld) {
			t.Errorf("%s of a payment of a year ago", left)
		}
	})
}

// The same of money that is held: each act that is offered is taken, each that is not is refused.
func TestActionsOfHeldMoneyAreThoseThatAreTaken(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		f.SKU(t, "mug", 5)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		held(t, f, "4290", 77, o.OrderNo+"-01") // another amount
		held(t, f, "4291", 5, noOrder)
		check := func(id string, want ...order.HeldAction) {
			t.Helper()
			h, err := f.FindHeld(t.Context(), id)
			if err != nil || h.TransactionID != id || !slices.Equal(h.Actions(), want) {
				t.Errorf("%s: %v of %+v, %v, want %v", id, h.Actions(), h, err, want)
			}
		}
		check("4290", order.HeldRefund, order.HeldWriteOff)
		refusedHeld(t, f, "4290", order.HeldApply, anna)
		check("4291", order.HeldApply, order.HeldRefund, order.HeldWriteOff)
		mustResolve(t, f, "4291", order.HeldWriteOff, anna, order.HeldWaits)
		check("4291", order.HeldApply, order.HeldRefund, order.HeldWriteOff)
		mustResolve(t, f, "4291", order.HeldWriteOff, bea, order.HeldWrittenOff)
		check("4291")
		mustResolve(t, f, "4290", order.HeldRefund, anna, order.HeldOwed)
		check("4290")
		for _, a := range order.HeldActions() {
			refusedHeld(t, f, "4291", a, anna, "again")
		}
		refusedHeld(t, f, "4290", order.HeldApply, anna, "again")
		refusedHeld(t, f, "4290", order.HeldWriteOff, anna, "again")
		if _, err := f.FindHeld(t.Context(), "none"); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("no payment: %v", err)
		}
	})
}
