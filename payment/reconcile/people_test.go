package reconcile_test

import (
	"errors"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/reconcile/reconciletest"
)

// A write-off that an admin proposes and confirms by an account of his own making, or that the shell confirms, is one
// person's; and money that fits no order was sent back by one person whatever the sum.
func TestWhatTakesTwoPeopleAtTheDesk(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Fixture = d.Restarted(t, func(c *order.Config) { c.RefundTwoPersons = 50 })
		d.shop.Orders = reconciletest.Orders{Service: d.Service}
		for name, by := range map[string]string{"boss": operators.Bootstrap, "made": "boss",
			"bea": operators.Bootstrap} {
			if err := operators.Create(t.Context(), d.DB, name, operators.Finance, by,
				noon.Add(-2*operators.FreshFor)); err != nil {
				t.Fatal(err)
			}
		}
		odd := d.PlaceOne(t, "odd", "mug", 1)
		d.Prepaid(t, odd.OrderNo)
		wrong := payment.Trade{OutTradeNo: odd.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4266",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 99, PayerTotal: payment.Said(99),
			Currency: payment.CNY, SuccessTime: noon}
		d.WeChat.Put(wrong)
		short := d.paid(t)
		d.bills.bills[day] = billOf(payRow(wrong))
		d.run(t, day)
		found := d.diffs(t, day)
		do := func(id string, a reconcile.Action, who string) (reconcile.Difference, error) {
			return d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: a, Reason: "seen",
				Cause: reconcile.ByOperator(who, "request", "r")})
		}
		refused := func(id string, a reconcile.Action, who string) {
			t.Helper()
			x, err := do(id, a, who)
			var same *operators.SameError
			if !errors.As(err, &same) && !errors.Is(err, operators.ErrShell) {
				t.Errorf("%s by %s: %+v %v", a, who, x, err)
			}
			if x, err := d.Difference(t.Context(), id); err != nil || x.Status != reconcile.StatusOpen {
				t.Errorf("%s by %s: %+v %v", a, who, x, err)
			}
		}
		lost := found["LOCAL_ONLY "+short.TransactionID].ID
		if x, err := do(lost, reconcile.WriteOff, "boss"); err != nil || x.Status != reconcile.StatusOpen {
			t.Fatalf("%+v %v", x, err)
		}
		refused(lost, reconcile.WriteOff, "made")
		refused(lost, reconcile.WriteOff, "cli:root")
		if x, err := do(lost, reconcile.WriteOff, "bea"); err != nil || x.Status != reconcile.StatusWrittenOff {
			t.Errorf("two people: %+v %v", x, err)
		}
		held := found["STATE_MISMATCH 4266"].ID
		if held == "" {
			held = found["BILL_ONLY 4266"].ID
		}
		for range 2 {
			if x, err := do(held, reconcile.RefundPayment, "boss"); err != nil || x.Status != reconcile.StatusOpen ||
				d.RefundState(t, "R4266") != order.RefundStatePending {
				t.Fatalf("one person: %+v %v", x, err)
			}
		}
		refused(held, reconcile.RefundPayment, "made")
		if x, err := do(held, reconcile.RefundPayment, "bea"); err != nil || x.Status != reconcile.StatusResolved ||
			d.RefundState(t, "R4266") != order.RefundStateOwed {
			t.Errorf("two people: %+v %v", x, err)
		}
	})
}

// A proposal of a person who was let go before anybody agreed counts, for a write-off.
func TestAProposalOfOneWhoWasLetGoCountsNoMore(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, d *desk) error{
		"disabled": func(t *testing.T, d *desk) error {
			return operators.Disable(t.Context(), d.DB, "anna", "boss", d.Clock.Now())
		},
		"another role": func(t *testing.T, d *desk) error {
			return operators.SetRole(t.Context(), d.DB, "anna", operators.Viewer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachDesk(t, func(t *testing.T, d *desk) {
				for _, who := range []string{"anna", "bea"} {
					if err := operators.Create(t.Context(), d.DB, who, operators.Finance, operators.Bootstrap,
						noon.Add(-2*operators.FreshFor)); err != nil {
						t.Fatal(err)
					}
				}
				short := d.paid(t)
				d.bills.bills[day] = billOf()
				d.Clock.Set(noon.Add(24 * time.Hour))
				d.run(t, day)
				id := d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID].ID
				do := func(who string) (reconcile.Difference, error) {
					return d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.WriteOff, Reason: "seen",
						Cause: reconcile.ByOperator(who, "request", "r")})
				}
				if _, err := do("anna"); err != nil {
					t.Fatal(err)
				}
				if err := end(t, d); err != nil {
					t.Fatal(err)
				}
				if x, err := do("bea"); err == nil && x.Status == reconcile.StatusWrittenOff {
					t.Errorf("written off by one who works here: %+v", x)
				}
			})
		})
	}
}

// A bill file whose giver was let go before anybody confirmed it.
func TestAFileOfOneWhoWasLetGoIsNotConfirmed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		for _, who := range []string{"fin", "fin2"} {
			if err := operators.Create(t.Context(), d.DB, who, operators.Finance, operators.Bootstrap,
				noon.Add(-2*operators.FreshFor)); err != nil {
				t.Fatal(err)
			}
		}
		a := d.paid(t)
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.give(t, fin, billOf())
		_ = a
		if err := operators.Disable(t.Context(), d.DB, "fin", "boss", d.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if res, err := d.confirm(t, fin2, billOf()); err == nil {
			t.Errorf("%+v", res)
		}
	})
}
