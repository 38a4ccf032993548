package order_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// dueAsks gives whom to ask about now.
func dueAsks(t *testing.T, f *ordertest.Fixture) []order.Ask {
	t.Helper()
	asks, err := f.DueAsks(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return asks
}

// askDue claims and asks whatever is due, and gives what came of it.
func askDue(t *testing.T, f *ordertest.Fixture) []order.AskOutcome {
	t.Helper()
	claimed, err := f.ClaimAsks(t.Context(), dueAsks(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return f.AskPaid(t.Context(), claimed, ordertest.Scheduler)
}

// wantOutcomes fails the test unless the outcomes are these.
func wantOutcomes(t *testing.T, got []order.AskOutcome, want ...order.AskOutcome) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// A buyer had paid, the notification was lost, and the page said "unpaid" for half an hour, until the deadline.
func TestLostNotificationIsFoundByAsking(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		if _, err := f.WeChat.Pay(no, false); err != nil {
			t.Fatal(err)
		}
		if asks := dueAsks(t, f); len(asks) != 0 {
			t.Fatalf("asked in the moment of the prepay: %+v", asks)
		}
		f.Clock.Advance(10 * time.Second)
		wantOutcomes(t, askDue(t, f), order.AskPaid)
		if f.State(t, o.OrderNo) != order.StatePaid {
			t.Errorf("the order is %s", f.State(t, o.OrderNo))
		}
	})
}

// An open trade is asked about more and more rarely, once at a time, and an ask that learned nothing leaves no event:
// 45 of an order's half hour would be its history. When the order is pending no more, nobody asks.
func TestAsksOnALadder(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		before, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		for _, wait := range []time.Duration{10, 15, 20, 30, 40, 40, 40} {
			f.Clock.Advance(wait*time.Second - time.Millisecond)
			if asks := dueAsks(t, f); len(asks) != 0 {
				t.Fatalf("asked before %d s: %+v", wait, asks)
			}
			f.Clock.Advance(time.Millisecond)
			wantOutcomes(t, askDue(t, f), order.AskOpen)
		}
		if after, err := f.Timeline(t.Context(), o.OrderNo); err != nil || len(after) != len(before) {
			t.Errorf("%d events, %d before the asks, %v", len(after), len(before), err)
		}
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		queries := f.WeChat.Queries
		f.Clock.Advance(time.Minute)
		for range 2 { // the first takes it off the list
			wantOutcomes(t, askDue(t, f))
		}
		if asks := dueAsks(t, f); len(asks) != 0 || f.WeChat.Queries != queries {
			t.Errorf("still on the list: %+v, asked %d times", asks, f.WeChat.Queries-queries)
		}
	})
}

// Two workers that read the same list must not both ask: WeChat Pay's rate is for all of them together.
func TestAskIsClaimedOnce(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 100)
		for i := range 20 {
			f.Prepaid(t, f.PlaceOne(t, string(rune('a'+i)), "mug", 1).OrderNo)
		}
		f.Clock.Advance(time.Minute)
		due := dueAsks(t, f)
		var mu sync.Mutex
		claims := map[string]int{}
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				got, err := f.ClaimAsks(t.Context(), due)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, a := range got {
					claims[a.OutTradeNo]++
				}
			})
		}
		workers.Wait()
		if len(claims) != 20 {
			t.Errorf("%d of 20 trades were claimed", len(claims))
		}
		for no, n := range claims {
			if n != 1 {
				t.Errorf("%s was claimed %d times", no, n)
			}
		}
	})
}

// A list that was read while the order was being paid elsewhere must not take a pending order off it: what a read says
// of the state is checked where it is written.
func TestPendingOrderStaysOnTheList(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.Clock.Advance(time.Minute)
		wrong := dueAsks(t, f)
		wrong[0].Waits = false
		if got, err := f.ClaimAsks(t.Context(), wrong); err != nil || len(got) != 0 {
			t.Fatal(got, err)
		}
		if asks := dueAsks(t, f); len(asks) != 1 {
			t.Error("a pending order is asked about no more")
		}
	})
}

// A trade that WeChat Pay has closed by itself was handed out as payable until its code was two hours old.
// A "closed" of another merchant says nothing of it.
func TestAskFindsAClosedTrade(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		f.WeChat.Put(payment.Trade{OutTradeNo: no, State: payment.TradeClosed, MchID: "1900000009",
			AppID: ordertest.AppID})
		f.Clock.Advance(10 * time.Second)
		wantOutcomes(t, askDue(t, f), order.AskUnknown)
		if again := f.Prepaid(t, o.OrderNo); again != no {
			t.Errorf("closed on another merchant's word: %s", again)
		}
		f.WeChat.Put(payment.Trade{OutTradeNo: no, State: payment.TradeClosed, MchID: ordertest.MchID,
			AppID: ordertest.AppID})
		f.Clock.Advance(15 * time.Second)
		wantOutcomes(t, askDue(t, f), order.AskClosed)
		if again := f.Prepaid(t, o.OrderNo); again != o.OrderNo+"-02" {
			t.Errorf("handed out %s", again)
		}
	})
}

// WeChat Pay away, or without an answer: nothing moves, and it is asked again at the next step.
func TestAskWithoutAnAnswer(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.WeChat.Before = func(op, _ string) error {
			return &payment.GatewayError{Op: op, Kind: payment.KindRateLimited}
		}
		f.Clock.Advance(10 * time.Second)
		wantOutcomes(t, askDue(t, f), order.AskRateLimited)
		f.WeChat.Before = loseAll("query")
		f.Clock.Advance(15 * time.Second)
		wantOutcomes(t, askDue(t, f), order.AskUnknown)
		f.WeChat.Before = nil
		f.Clock.Advance(20 * time.Second)
		wantOutcomes(t, askDue(t, f), order.AskOpen)
		if f.State(t, o.OrderNo) != order.StatePending {
			t.Error(f.State(t, o.OrderNo))
		}
	})
}

// The program before this one closes an attempt and does not take it off the list: it was asked about until the
// deadline.
func TestTradeClosedByThePreviousProgramIsNotAskedAbout(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		if _, err := f.WeChat.Close(t.Context(), no); err != nil {
			t.Fatal(err)
		}
		previous(t, f, `UPDATE payment_attempts
SET state = 'closed'
WHERE out_trade_no = ?
  AND state <> 'closed'`, no)
		before := f.WeChat.Queries
		for range 10 {
			f.Clock.Advance(time.Minute)
			askDue(t, f)
		}
		if n := f.WeChat.Queries - before; n > 1 {
			t.Errorf("a closed trade was asked about %d times", n)
		}
		// That program does not say in the timeline why it closed: verify names the trade until its order ends.
		_, err := f.Cancel(t.Context(), cancel(o.OrderNo))
		if got := f.State(t, o.OrderNo); err != nil || got != order.StateClosed {
			t.Errorf("%s: %v", got, err)
		}
	})
}

// Trades that the program before this one opened, before the migration or beside it, have no time to be asked at: a
// lost notification of one is found at the deadline only.
func TestTradeOfThePreviousProgramIsAskedAbout(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		previous(t, f, `UPDATE payment_attempts
SET call_no = 0, answer_no = 0, open_calls = '', ask_at = NULL, asks = 0
WHERE out_trade_no = ?`, no)
		previous(t, f, `UPDATE orders SET prepaid = 0 WHERE order_no = ?`, o.OrderNo)
		if _, err := f.WeChat.Pay(no, false); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			f.Clock.Advance(time.Minute)
			askDue(t, f)
		}
		if got := f.State(t, o.OrderNo); got != order.StatePaid {
			t.Errorf("paid 20 minutes ago, and %s", got)
		}
	})
}

// An order that the program before this one has prepaid may be paid as any other: it must not wait in the line behind
// those, among the carts that nobody can pay.
func TestOrderPrepaidByThePreviousProgramIsNoAbandonedCart(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		previous(t, f, `UPDATE orders SET prepaid = 0 WHERE order_no = ?`, o.OrderNo)
		f.WeChat.Before = loseAll("close", "query")
		f.Clock.Advance(31 * time.Minute)
		_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
		f.Clock.Advance(time.Minute)
		for _, prepaid := range []bool{true, false} {
			page, err := f.WaitingOrders(t.Context(), prepaid, order.DueCursor{}, f.Clock.Now(), 10)
			if err != nil || (len(page) == 1) != prepaid {
				t.Errorf("among those that may be paid (%t): %d, %v", prepaid, len(page), err)
			}
		}
	})
}

// It goes on beside this program until its last process is gone: what it prepays a minute later is found as well, also
// where this program has prepaid the same order before, and with more open orders than one page has.
func TestPrepaysBesideThePreviousProgramAreAdopted(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.AdoptPages(3)
		f.SKU(t, "mug", 100)
		for i := range 8 {
			f.PlaceOne(t, fmt.Sprint("cart", i), "mug", 1)
		}
		askDue(t, f)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		previous(t, f, `UPDATE payment_attempts SET ask_at = NULL WHERE out_trade_no = ?`, no)
		if _, err := f.WeChat.Pay(no, false); err != nil {
			t.Fatal(err)
		}
		for range 12 {
			f.Clock.Advance(15 * time.Second)
			askDue(t, f)
		}
		if got := f.State(t, o.OrderNo); got != order.StatePaid {
			t.Errorf("paid three minutes ago, and %s", got)
		}
	})
}

// A held payment was found once. Every later ask found it again: in the log, and in the metric of lost notifications.
func TestHeldPaymentIsFoundOnce(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.AppID = "wx0000000000000009"
		f.WeChat.Put(trade)
		found := 0
		for range 20 {
			f.Clock.Advance(time.Minute)
			for _, outcome := range askDue(t, f) {
				if outcome == order.AskPaid {
					found++
				}
			}
		}
		if found != 1 {
			t.Errorf("found %d times", found)
		}
	})
}

// orderd was away for more than a day, and asks about a trade before it closes its order: a clean database, and verify
// must say so.
func TestVerifyInventsNothingAboutAnAskAfterALongOutage(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		f.Prepaid(t, f.PlaceOne(t, "a", "mug", 1).OrderNo)
		f.Clock.Advance(30 * time.Hour)
		asks, err := f.DueAsks(t.Context(), 10)
		if err == nil {
			asks, err = f.ClaimAsks(t.Context(), asks)
		}
		if err != nil || len(asks) != 1 {
			t.Fatalf("%+v, %v", asks, err)
		}
		f.AssertVerified(t)
	})
}
