package order_test

import (
	"errors"
	"strings"
	"testing"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// Money that is held was applied by what was once told of it. What WeChat Pay no longer has, or has otherwise, must not
// make an order paid; and what a person decided twice is done once.
func TestHeldMoneyIsAppliedWhenWeChatPayHasIt(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		id := trade.TransactionID
		g := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000009" })
		if s, err := g.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		act := func(a order.HeldAction) (order.ResolvedHeld, error) {
			return f.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: id, Action: a,
				Reason: "the app id was wrong", Cause: ordertest.Finance})
		}
		for name, change := range map[string]func(*payment.Trade){
			"not paid":            func(t *payment.Trade) { t.State = payment.TradeNotPay },
			"another transaction": func(t *payment.Trade) { t.TransactionID += "9" },
			"another sum":         func(t *payment.Trade) { t.Total++ },
		} {
			other := trade
			change(&other)
			f.WeChat.Put(other)
			var judged *order.JudgedError
			if done, err := act(order.HeldApply); !errors.As(err, &judged) || judged.Reason != "wechat" {
				t.Errorf("%s: %+v, %v", name, done, err)
			}
		}
		f.WeChat.Put(trade)
		if done, err := f.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: "none", Action: order.HeldApply,
			Reason: "r", Cause: ordertest.Finance}); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("a payment that there is not: %+v, %v", done, err)
		}
		if _, err := act("KEEP"); !errors.As(err, new(*order.ValidationError)) {
			t.Errorf("an action that there is not: %v", err)
		}
		want := order.ResolvedHeld{TransactionID: id, OrderNo: o.OrderNo, Outcome: order.HeldApplied}
		if done, err := act(order.HeldApply); err != nil || done != want {
			t.Fatalf("%+v, %v", done, err)
		}
		if done, err := act(order.HeldApply); err != nil || done != want {
			t.Errorf("applied again: %+v, %v", done, err)
		}
		if done, err := act(order.HeldRefund); err == nil {
			t.Errorf("sent back: %+v", done)
		}
		if got := whole(t, f, o); got.State != order.StatePaid {
			t.Errorf("the order is %s", got.State)
		}
	})
}

// What WeChat Pay calls refunded was taken for paid: goods were sent for money that its buyer has again.
func TestHeldMoneyThatWentBackIsNotApplied(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		g := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000009" })
		if s, err := g.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		trade.State = payment.TradeRefund
		f.WeChat.Put(trade)
		for range 2 {
			var judged *order.JudgedError
			done, err := f.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: trade.TransactionID,
				Action: order.HeldApply, Reason: "the app id was wrong", Cause: ordertest.Finance})
			if !errors.As(err, &judged) || judged.Reason != "wechat" || !strings.Contains(judged.Why, "gone back") {
				t.Errorf("%+v, %v", done, err)
			}
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		noted := 0
		for _, e := range events {
			if e.Event == "payment.refund_told" {
				noted++
			}
		}
		if got := f.State(t, o.OrderNo); err != nil || got != order.StatePending || noted != 1 {
			t.Errorf("the order is %s, noted %d times, %v", got, noted, err)
		}
	})
}

// Sent back by verb and route, held money is a refund like every other: with its reason, and above the limit by two.
func TestHeldMoneyIsSentBackByPeople(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 500_000 }, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		held(t, f, "4290", 10_000_000, o.OrderNo+"-01")
		act := func(who order.Cause, want order.HeldOutcome) {
			t.Helper()
			done, err := f.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: "4290", Action: order.HeldRefund,
				Reason: "not ours", Cause: who})
			if err != nil || done.Outcome != want || done.OrderNo != o.OrderNo {
				t.Fatalf("%+v, %v", done, err)
			}
		}
		act(anna, order.HeldWaits)
		act(anna, order.HeldWaits)
		act(bea, order.HeldOwed)
		act(bea, order.HeldOwed)
		events, err := f.Timeline(t.Context(), o.OrderNo)
		reason := ""
		for _, e := range events {
			if e.Event == "refund.requested" {
				reason = e.Detail["reason"]
			}
		}
		if err != nil || reason != "not ours" {
			t.Errorf("the timeline has the reason %q, %v", reason, err)
		}
		if _, err := f.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: "none", Action: order.HeldRefund,
			Reason: "r", Cause: anna}); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("a payment that there is not: %v", err)
		}
	})
}
