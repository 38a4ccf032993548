package order_test

import (
	"errors"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// A refund of ours was sent, refused for good and given up. Then WeChat Pay says of the trade that some
// of it went back: that was elsewhere, and nobody can say how much. The refused one explains nothing.
func TestARefusedRefundExplainsNoMoneyThatWentBack(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 2)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1))
		f.WeChat.Before = func(op, _ string) error {
			if op == "refund" {
				return &payment.GatewayError{Op: op, Kind: payment.KindRejected, Code: "PARAM_ERROR",
					Err: errors.New("no")}
			}
			return nil
		}
		f.MustLookAtRefund(t, r.OutRefundNo)
		f.WeChat.Before = nil
		if s := f.RefundState(t, r.OutRefundNo); s != order.RefundStateRefused {
			t.Fatal(s)
		}
		f.Clock.Advance(2 * time.Minute)
		f.MustDecide(t, r.OutRefundNo, order.RefundEventCancel, ordertest.Finance)
		onThePlatform(t, f, o, "PLATFORM1", 150)
		if _, err := f.Sync(t.Context(), o.OrderNo, ordertest.Customer); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Find(t.Context(), o.OrderNo); err != nil || got.Payment.RefundTold.IsZero() {
			t.Errorf("not noted: %+v, %v", got.Payment, err)
		}
		f.Clock.Advance(2 * time.Minute)
		if r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k2", 1)); r.State != order.RefundStatePending {
			t.Errorf("it goes out by itself: %+v", r)
		}
	})
}
