package order_test

import (
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// reviving is the policy that takes late money with the goods.
func reviving(c *order.Config) { c.LatePayment = order.LatePolicyRevive }

// An order that its customer or an operator has closed would be delivered, because its money came late: nobody waits
// for it. Only what ran out of time is revived.
func TestOnlyTimeoutsAreRevived(t *testing.T) {
	eachWith(t, reviving, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		for name, end := range map[string]struct {
			close func(no string) error
			want  order.State
		}{
			"timeout": {func(no string) error {
				f.Clock.Advance(31 * time.Minute)
				return f.Expire(t.Context(), no, ordertest.Scheduler)
			}, order.StatePaid},
			"customer": {func(no string) error {
				_, err := f.Cancel(t.Context(), cancel(no))
				return err
			}, order.StateLate},
			"operator": {func(no string) error {
				_, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: no, Reason: "fraud",
					Cause: ordertest.Finance})
				return err
			}, order.StateLate},
		} {
			o := f.PlaceOne(t, name, "mug", 1)
			out := f.Prepaid(t, o.OrderNo)
			if err := end.close(o.OrderNo); err != nil {
				t.Fatal(err)
			}
			trade, err := f.WeChat.Pay(out, true)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.State != end.want {
				t.Errorf("closed by %s: %+v %v", name, s, err)
			}
		}
	})
}

// The policy was ignored when the close and the money shared a transaction: what may be revived was read before the
// batch had closed anything. The last unit is on the shelf again only by that close.
func TestRevivalInTheBatchOfItsClose(t *testing.T) {
	for name, c := range map[string]struct {
		shape    func(*order.Config)
		payFirst bool
		cancels  bool
		want     order.State
	}{
		"close, then money":            {reviving, false, false, order.StatePaid},
		"money, then close":            {reviving, true, false, order.StatePaid},
		"of a cancel":                  {reviving, false, true, order.StateLate},
		"when late money goes back":    {func(*order.Config) {}, false, false, order.StateLate},
		"money first, and it is taken": {func(*order.Config) {}, true, false, order.StatePaid},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, c.shape, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o := f.PlaceOne(t, "a", "mug", 1)
				out := f.Prepaid(t, o.OrderNo)
				f.WeChat.Before = loseAll("close", "query")
				if c.cancels {
					_, _ = f.Cancel(t.Context(), cancel(o.OrderNo))
				} else {
					f.Clock.Advance(31 * time.Minute)
					_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
				}
				f.WeChat.Before = nil
				trade, err := f.WeChat.Pay(out, true)
				if err != nil {
					t.Fatal(err)
				}
				s, err := f.CloseAndSettle(t.Context(), trade, c.payFirst)
				if err != nil || s.State != c.want {
					t.Fatalf("%+v %v, want %s", s, err, c.want)
				}
				want := int64(0)
				if c.want == order.StateLate {
					want = 1
				}
				if f.Available(t, "mug") != want {
					t.Errorf("%d on the shelf, want %d", f.Available(t, "mug"), want)
				}
				if c.want == order.StateLate {
					no := "R" + trade.TransactionID
					f.MustLookAtRefund(t, no)
					f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
				}
			})
		})
	}
}
