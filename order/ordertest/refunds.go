package ordertest

import (
	"errors"
	"testing"

	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

// Ask is a request of customer "c" for a refund of so many of SKU "mug"; with 0, of
// everything that is left.
func Ask(orderNo, key string, quantity int64) order.AskRefund {
	r := order.AskRefund{OrderNo: orderNo, CustomerID: "c", RequestID: key, Reason: "too small", Cause: Customer}
	if quantity > 0 {
		r.Lines = []stock.Line{{SkuID: "mug", Quantity: quantity}}
	}
	return r
}

// MustAsk asks for a refund and gives it as it was recorded.
func (f *Fixture) MustAsk(t testing.TB, r order.AskRefund) order.Refund {
	t.Helper()
	asked, err := f.AskRefund(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return asked.Refund
}

// FirstRefund gives the number of an order's oldest refund, "" without.
func (f *Fixture) FirstRefund(t testing.TB, orderNo string) string {
	t.Helper()
	o, err := f.Find(t.Context(), orderNo)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Refunds) == 0 {
		return ""
	}
	return o.Refunds[0].OutRefundNo
}

// MustDecide makes somebody's decision on a refund.
func (f *Fixture) MustDecide(t testing.TB, no string, e order.RefundEvent, who order.Cause) order.Refund {
	t.Helper()
	r, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no, Event: e, Reason: "seen", Cause: who})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// LookAtRefund does what the worker does with a refund at its due time, to which
// the clock is moved.
func (f *Fixture) LookAtRefund(t testing.TB, no string) error {
	t.Helper()
	for range 3 { // the minute between two refunds of one order may move it
		r, err := f.FindRefund(t.Context(), no)
		if err != nil {
			t.Fatal(err)
		}
		if r.DueAt.After(f.Clock.Now()) {
			f.Clock.Set(r.DueAt)
		}
		if err := f.Refund(t.Context(), no, Scheduler); !errors.As(err, new(*order.NotDueError)) {
			return err
		}
	}
	return errors.New("never due")
}

// MustLookAtRefund is LookAtRefund, which has to succeed.
func (f *Fixture) MustLookAtRefund(t testing.TB, no string) {
	t.Helper()
	if err := f.LookAtRefund(t, no); err != nil {
		t.Fatal(err)
	}
}

// MustSettleRefund notifies of a refund.
func (f *Fixture) MustSettleRefund(t testing.TB, r payment.Refund) order.RefundSettled {
	t.Helper()
	s, err := f.SettleRefund(t.Context(), r, Notified)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
