package audit_test

import (
	"errors"
	"testing"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// byItself approves every refund, so that a test is about what comes after.
func byItself(c *order.Config) { c.RefundAutoApprove = payment.MaxFen }

func ask(no, key string, quantity int64) order.AskRefund {
	r := order.AskRefund{OrderNo: no, CustomerID: "c", RequestID: key, Reason: "too small", Cause: ordertest.Customer}
	if quantity > 0 {
		r.Lines = []stock.Line{{SkuID: "mug", Quantity: quantity}}
	}
	return r
}

func mustAsk(t *testing.T, f *ordertest.Fixture, r order.AskRefund) order.Refund {
	t.Helper()
	asked, err := f.AskRefund(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return asked.Refund
}

func mustDecide(t *testing.T, f *ordertest.Fixture, no string, e order.RefundEvent, who order.Cause) order.Refund {
	t.Helper()
	r, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no, Event: e, Reason: "seen", Cause: who})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// turn lets the worker look at a refund at its due time.
func turn(t *testing.T, f *ordertest.Fixture, no string) error {
	t.Helper()
	for range 3 { // the minute between two refunds of one order may move it
		r, err := f.FindRefund(t.Context(), no)
		if err != nil {
			t.Fatal(err)
		}
		if r.DueAt.After(f.Clock.Now()) {
			f.Clock.Set(r.DueAt)
		}
		if err := f.Refund(t.Context(), no, ordertest.Scheduler); !errors.As(err, new(*order.NotDueError)) {
			return err
		}
	}
	return errors.New("never due")
}

func mustTurn(t *testing.T, f *ordertest.Fixture, no string) {
	t.Helper()
	if err := turn(t, f, no); err != nil {
		t.Fatal(err)
	}
}

func settleRefund(t *testing.T, f *ordertest.Fixture, r payment.Refund) order.RefundSettled {
	t.Helper()
	s, err := f.SettleRefund(t.Context(), r, ordertest.Notified)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cancel(no string) order.CancelRequest {
	return order.CancelRequest{OrderNo: no, CustomerID: "c", Cause: ordertest.Customer}
}
