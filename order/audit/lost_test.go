package audit_test

import (
	"fmt"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
)

// A fail-over to a replica that had stopped to hear loses orders, payments, trades and refunds. They are listed by what
// the old primary still has, every payment among them is taken in or goes back, and what nobody has paid can be paid no
// more. WeChat Pay is the one that both shops have.
func TestWhatAFailOverLostIsListedAndAdopted(t *testing.T) {
	primary, replica := sqldbtest.Replicated(t, false)
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	old := ordertest.NewWith(t, sqldbtest.Open(t, primary.DSN("shop")), byItself)
	old.SKU(t, "mug", 20)
	a, b := old.PlaceOne(t, "a", "mug", 1), old.PlaceOne(t, "b", "mug", 1)
	back := old.PaidOne(t, "back", "mug", 1)
	old.Prepaid(t, a.OrderNo)
	old.Prepaid(t, b.OrderNo)
	heard, err := primary.Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"DO MASTER_GTID_WAIT('" + heard + "', 60)", "STOP SLAVE"} { // and hears nothing more
		if err := replica.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	pay := func(orderNo, number string, told bool) {
		t.Helper()
		trade, err := old.WeChat.Pay(number, false)
		if err == nil && told {
			_, err = old.Settle(t.Context(), trade, ordertest.Notified)
		}
		if err != nil {
			t.Fatal(orderNo, err)
		}
	}
	pay(a.OrderNo, a.OrderNo+"-01", true) // an order that is not lost
	if _, err := old.Prepay(t.Context(), order.PrepayRequest{OrderNo: b.OrderNo, CustomerID: "c",
		TradeType: payment.App, Cause: ordertest.Customer}); err != nil { // -02, and -01 is closed
		t.Fatal(err)
	}
	told := old.PaidOne(t, "told", "mug", 1)
	later, never := old.PlaceOne(t, "later", "mug", 1), old.PlaceOne(t, "never", "mug", 1)
	pay(later.OrderNo, old.Prepaid(t, later.OrderNo), false) // WeChat Pay will call the new shop, or not
	old.Prepaid(t, never.OrderNo)
	refund := old.MustAsk(t, ordertest.Ask(back.OrderNo, "r", 1)).OutRefundNo
	old.MustLookAtRefund(t, refund)

	shop := *old
	shop.DB = sqldbtest.Open(t, replica.DSN("shop"))
	fresh := shop.Restarted(t, byItself)
	list := func() audit.Lost {
		t.Helper()
		l, err := fresh.Audit.Against(t.Context(), old.DB, nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	lost := list()
	if got, want := numbers(&lost), fmt.Sprintln([]string{told.OrderNo, later.OrderNo, never.OrderNo},
		[]string{b.OrderNo + "-02", told.OrderNo + "-01", later.OrderNo + "-01", never.OrderNo + "-01"},
		2, []string{refund}); got != want {
		t.Fatalf("lost are\n%swant\n%s", got, want)
	}
	if none, err := old.Audit.Against(t.Context(), fresh.DB, nil); err != nil || none.Any() {
		t.Error("the new one has what the old one has not:", none, err)
	}

	how := audit.Adopting{Till: fresh.Service, Close: fresh.WeChat.Close, Reason: "lost in the fail-over",
		Cause: ordertest.Finance}
	adopt := func(want map[string]string) {
		t.Helper()
		all, err := fresh.Audit.Adopt(t.Context(), lost, how)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			if one.Outcome != want[one.Number] {
				t.Errorf("%+v, want %s", one, want[one.Number])
			}
		}
		if len(all) != len(want) {
			t.Errorf("%d numbers, want %d", len(all), len(want))
		}
	}
	want := map[string]string{a.OrderNo + "-01": audit.AdoptApplied, b.OrderNo + "-02": audit.AdoptClosed,
		told.OrderNo + "-01": audit.AdoptHeld, later.OrderNo + "-01": audit.AdoptHeld,
		never.OrderNo + "-01": audit.AdoptClosed, refund: audit.AdoptRecorded}
	adopt(want)
	if s := fresh.State(t, a.OrderNo); s != order.StatePaid {
		t.Errorf("the order that was paid is %s", s)
	}
	fresh.AssertVerified(t)

	how.Refund = true // what is held; again nothing is booked twice
	want[told.OrderNo+"-01"], want[later.OrderNo+"-01"] = audit.AdoptOwed, audit.AdoptOwed
	want[a.OrderNo+"-01"] = audit.AdoptKnown
	adopt(want)
	before := fresh.WeChat.Refunded
	due, err := fresh.DueRefunds(t.Context(), order.DueCursor{}, fresh.Clock.Now(), 10)
	if err != nil || len(due) != 2 {
		t.Fatal(due, err)
	}
	for _, d := range due {
		fresh.MustLookAtRefund(t, d.Key)
	}
	if n := fresh.WeChat.Refunded - before; n != 2 {
		t.Errorf("%d of 2 payments of lost orders went back", n)
	}
	// What has money is here, and what never had any is listed for ever.
	if rest := list(); len(rest.Payments)+len(rest.Refunds) > 0 || len(rest.Orders) != 3 || len(rest.Trades) != 4 {
		t.Errorf("still lost: %+v", rest)
	}
	fresh.AssertVerified(t)
}

// numbers are the keys of what is lost.
func numbers(l *audit.Lost) string {
	var orders, trades, refunds []string
	for _, o := range l.Orders {
		orders = append(orders, o.OrderNo)
	}
	for _, tr := range l.Trades {
		trades = append(trades, tr.OutTradeNo)
	}
	for _, r := range l.Refunds {
		refunds = append(refunds, r.OutRefundNo)
	}
	return fmt.Sprintln(orders, trades, len(l.Payments), refunds)
}
