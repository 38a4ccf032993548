package order_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// Everything ends: by itself, or by people. These tests are of orders that stayed where they were for ever.

// heldPayment pays a prepaid order under another app id, as after a change of the configuration, and has it held.
func heldPayment(t *testing.T, f *ordertest.Fixture, orderNo string) payment.Trade {
	t.Helper()
	trade, err := f.WeChat.Pay(f.Prepaid(t, orderNo), false)
	if err != nil {
		t.Fatal(err)
	}
	trade.AppID = "wx_old"
	f.WeChat.Put(trade)
	if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	return trade
}

// expireUntil looks at an order again and again, every six minutes of the clock, until it is in a state or so much
// time has passed.
func expireUntil(t *testing.T, f *ordertest.Fixture, orderNo string, state order.State, within time.Duration) {
	t.Helper()
	for end := f.Clock.Now().Add(within); ; f.Clock.Advance(6 * time.Minute) {
		err := f.Expire(t.Context(), orderNo, ordertest.Scheduler)
		if f.State(t, orderNo) == state {
			return
		}
		if f.Clock.Now().After(end) {
			t.Fatalf("%s is %s after %s: %v", orderNo, f.State(t, orderNo), within, err)
		}
	}
}

// atMostEvents fails the test when a timeline has grown with the number of asks.
func atMostEvents(t *testing.T, f *ordertest.Fixture, orderNo string, most int) {
	t.Helper()
	if events, err := f.Timeline(t.Context(), orderNo); err != nil || len(events) > most {
		t.Errorf("%d events: %v", len(events), err)
	}
}

// Money that could not be the order's, and that its buyer has again, would keep the order closing and its stock held
// for ever: by our refund, and by one that somebody made on the merchant platform.
func TestHeldMoneyThatIsBackClosesItsOrder(t *testing.T) {
	for name, goBack := range map[string]func(t *testing.T, f *ordertest.Fixture, trade payment.Trade){
		"sent back here": func(t *testing.T, f *ordertest.Fixture, trade payment.Trade) {
			if err := f.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance); err != nil {
				t.Fatal(err)
			}
			f.MustLookAtRefund(t, "R"+trade.TransactionID)
			expired(t, f, trade, order.StateClosing) // on its way is not there
			f.MustSettleRefund(t, f.WeChat.EndRefund("R"+trade.TransactionID, payment.RefundSuccess))
		},
		"on the platform": func(t *testing.T, f *ordertest.Fixture, trade payment.Trade) {
			half := foreignRefund(f, trade, "a", trade.Total/2)
			f.MustSettleRefund(t, half)
			expired(t, f, trade, order.StateClosing) // a half is not all
			f.MustSettleRefund(t, foreignRefund(f, trade, "b", trade.Total-half.Amount))
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o := f.PlaceOne(t, "a", "mug", 1)
				trade := heldPayment(t, f, o.OrderNo)
				f.Clock.Advance(31 * time.Minute)
				expired(t, f, trade, order.StateClosing)
				goBack(t, f, trade)
				expireUntil(t, f, o.OrderNo, order.StateClosed, time.Hour)
				if f.Available(t, "mug") != 1 {
					t.Errorf("%d of 1 on the shelf", f.Available(t, "mug"))
				}
				atMostEvents(t, f, o.OrderNo, 12)
			})
		})
	}
}

// expired looks at the order of a trade for some hours and fails the test unless it is in a state then.
func expired(t *testing.T, f *ordertest.Fixture, trade payment.Trade, want order.State) {
	t.Helper()
	no := order.OrderNoOf(trade.OutTradeNo)
	for range 20 {
		_ = f.Expire(t.Context(), no, ordertest.Scheduler)
		f.Clock.Advance(6 * time.Minute)
	}
	if got := f.State(t, no); got != want {
		t.Fatalf("%s is %s, want %s", no, got, want)
	}
}

// foreignRefund is WeChat Pay's word on a refund of a trade that was not made here.
func foreignRefund(f *ordertest.Fixture, trade payment.Trade, no string, amount payment.Fen) payment.Refund {
	return payment.Refund{OutRefundNo: "platform-" + no, RefundID: "59" + no, TransactionID: trade.TransactionID,
		OutTradeNo: trade.OutTradeNo, Status: payment.RefundSuccess, Amount: amount, Total: trade.Total,
		MchID: ordertest.MchID, SuccessTime: f.Clock.Now()}
}

// WeChat Pay does not know a trade that it opened: the merchant number has changed, or our key. It was asked for ever,
// with an event for each ask.
func TestUnknownTradeEndsAfterWeChatsOwnLimits(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		// Another WeChat, which knows nothing.
		g := ordertest.NewWith(t, db, func(c *order.Config) { c.Now = f.Clock.Now })
		g.Clock = f.Clock
		g.Clock.Advance(31 * time.Minute)
		for g.Clock.Now().Before(o.ExpireAt.Add(25 * time.Hour)) {
			_ = g.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
			g.Clock.Advance(20 * time.Minute)
		}
		if g.State(t, o.OrderNo) != order.StateClosing {
			t.Fatal("closed while a notification of it may still be on its way")
		}
		expireUntil(t, g, o.OrderNo, order.StateClosed, time.Hour)
		atMostEvents(t, g, o.OrderNo, 5)
	})
}

// WeChat Pay is away, and its answers differ: each different one is told once.
func TestAsksThatLearnNothingAddNoEvents(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.Clock.Advance(31 * time.Minute)
		kinds := []payment.Kind{payment.KindUnknown, payment.KindRateLimited, payment.KindMisconfigured}
		for i := range 60 {
			f.WeChat.Before = func(op, _ string) error {
				return &payment.GatewayError{Op: op, Kind: kinds[i%len(kinds)], Err: errors.New(fmt.Sprint("try ", i))}
			}
			_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
			f.Clock.Advance(6 * time.Minute)
		}
		got, err := f.Find(t.Context(), o.OrderNo)
		if err != nil || got.State != order.StateClosing || got.CloseTries != 60 {
			t.Errorf("%s, asked %d times: %v", got.State, got.CloseTries, err)
		}
		atMostEvents(t, f, o.OrderNo, 3+len(kinds))
		f.WeChat.Before = nil
		expireUntil(t, f, o.OrderNo, order.StateClosed, time.Hour)
	})
}

// Abandoned carts held their stock as long as WeChat Pay was away, although nothing was ever opened there.
func TestNeverPrepaidEndsWhileWeChatIsAway(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 3)
		never := f.PlaceOne(t, "never", "mug", 1)
		opened := f.PlaceOne(t, "opened", "mug", 1)
		f.Prepaid(t, opened.OrderNo)
		shut := f.PlaceOne(t, "shut", "mug", 1)
		f.Prepaid(t, shut.OrderNo)
		f.WeChat.After = func(op, _ string) error { // the trade is closed for another type, which then is not opened
			if op == "query" {
				f.WeChat.Before = loseAll("prepay", "close", "query")
			}
			return nil
		}
		_, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: shut.OrderNo, CustomerID: "c",
			TradeType: payment.App, Cause: ordertest.Customer})
		if err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.After, f.WeChat.Before = nil, loseAll("close", "query")
		f.Clock.Advance(31 * time.Minute)
		_ = f.Expire(t.Context(), never.OrderNo, ordertest.Scheduler)
		f.Clock.Advance(9 * time.Minute)
		_ = f.Expire(t.Context(), never.OrderNo, ordertest.Scheduler)
		if f.State(t, never.OrderNo) != order.StateClosing {
			t.Fatal("closed before WeChat Pay had its time to answer")
		}
		expireUntil(t, f, never.OrderNo, order.StateClosed, 10*time.Minute)
		for range 20 {
			_ = f.Expire(t.Context(), opened.OrderNo, ordertest.Scheduler)
			f.Clock.Advance(6 * time.Minute)
		}
		if f.State(t, opened.OrderNo) != order.StateClosing || f.Available(t, "mug") != 1 {
			t.Errorf("an order that may be paid is %s, %d on the shelf", f.State(t, opened.OrderNo),
				f.Available(t, "mug"))
		}
		// Closed for good: nothing can be opened for it any more.
		_, err = f.Prepay(t.Context(), order.PrepayRequest{OrderNo: never.OrderNo, CustomerID: "c",
			TradeType: payment.Native, Cause: ordertest.Customer})
		if !errors.As(err, new(*order.NotPayableError)) {
			t.Errorf("prepay after it: %v", err)
		}
		atMostEvents(t, f, never.OrderNo, 4)
	})
}

// The setting keeps such orders waiting for WeChat Pay.
func TestNeverPrepaidWaitsWhenToldTo(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewWith(t, db, func(c *order.Config) { c.CloseUnprepaid = -1 })
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.Before = loseAll("close", "query")
		f.Clock.Advance(31 * time.Minute)
		for range 50 {
			_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
			f.Clock.Advance(6 * time.Minute)
		}
		if f.State(t, o.OrderNo) != order.StateClosing {
			t.Errorf("it is %s", f.State(t, o.OrderNo))
		}
	})
}

// Nobody could end an order about which WeChat Pay says nothing. Two people can, one alone cannot, and the shell is
// nobody's second person.
func TestTwoPeopleVouchThatNothingWasPaid(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		say := func(who order.Cause) (order.Vouched, error) {
			return f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "not on the platform",
				Cause: who})
		}
		refused := new(*order.RefusedError)
		if _, err := say(ordertest.Finance); !errors.As(err, refused) {
			t.Errorf("of a pending order: %v", err)
		}
		f.WeChat.Before = loseAll("close", "query")
		_, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: o.OrderNo, Cause: ordertest.Customer})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := say(ordertest.Finance); !errors.As(err, refused) {
			t.Errorf("while the buyer can pay: %v", err)
		}
		f.Clock.Advance(32 * time.Minute)
		shell := ordertest.Finance2
		shell.Actor.ID = "cli:root"
		for range 3 {
			if v, err := say(ordertest.Finance); err != nil || v.Closed {
				t.Errorf("one person closes: %v", err)
			}
		}
		if _, err := say(shell); !errors.Is(err, operators.ErrShell) {
			t.Errorf("the shell is the second person: %v", err)
		}
		atMostEvents(t, f, o.OrderNo, 5)
		v, err := say(ordertest.Finance2)
		if err != nil || !v.Closed || v.Order.State != order.StateClosed || f.Available(t, "mug") != 1 {
			t.Errorf("%s, %d on the shelf: %v", v.Order.State, f.Available(t, "mug"), err)
		}
		if _, err := say(ordertest.Finance2); !errors.As(err, refused) {
			t.Errorf("once more: %v", err)
		}
	})
}

// A payment that was held because the configuration was wrong stayed held after it was mended: its buyer paid and had
// nothing. Judged again it goes the way of every payment, whatever became of its order meanwhile.
func TestHeldPaymentIsJudgedAgain(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		wrong := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000002" })
		paidFor := func(request string) payment.Trade {
			t.Helper()
			trade, err := f.WeChat.Pay(f.Prepaid(t, f.PlaceOne(t, request, "mug", 1).OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := wrong.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Reason != "appid" {
				t.Fatal(s, err)
			}
			return trade
		}
		pending, closing, closed, twice := paidFor("pending"), paidFor("closing"), paidFor("closed"), paidFor("twice")
		closedNo := order.OrderNoOf(closed.OutTradeNo)
		f.Clock.Advance(31 * time.Minute)
		_ = wrong.Expire(t.Context(), order.OrderNoOf(closing.OutTradeNo), ordertest.Scheduler)
		_ = wrong.Expire(t.Context(), closedNo, ordertest.Scheduler)
		if err := f.CloseDone(t.Context(), closedNo,
			map[string]string{"close": "accepted", "out_trade_no": closed.OutTradeNo}); err != nil {
			t.Fatal(err)
		}
		judge := func(g *ordertest.Fixture, id string) (order.Settlement, error) {
			return g.JudgeHeld(t.Context(), id, "the app id was wrong", ordertest.Finance)
		}
		stays := new(*order.JudgedError)
		if _, err := judge(wrong, pending.TransactionID); !errors.As(err, stays) || (*stays).Reason != "appid" {
			t.Errorf("before it was mended: %v", err)
		}
		if _, err := judge(f, "4200"); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("a payment that nobody knows: %v", err)
		}
		for trade, want := range map[*payment.Trade]order.Settlement{
			&pending: {Settled: order.SettledApplied, State: order.StatePaid},
			&closing: {Settled: order.SettledApplied, State: order.StatePaid},
			&closed:  {Settled: order.SettledOwed, Reason: order.ReasonLate, State: order.StateLate},
			&twice:   {Settled: order.SettledApplied, State: order.StatePaid},
		} {
			want.OrderNo = order.OrderNoOf(trade.OutTradeNo)
			if s, err := judge(f, trade.TransactionID); err != nil || s != want {
				t.Errorf("%+v %v, want %+v", s, err, want)
			}
		}
		if _, err := judge(f, twice.TransactionID); !errors.As(err, stays) {
			t.Errorf("judged twice: %v", err)
		}
		if err := f.RefundHeld(t.Context(), pending.TransactionID, ordertest.Finance); err == nil {
			t.Error("sent back after it made its order paid")
		}
		f.MustLookAtRefund(t, "R"+closed.TransactionID)
		f.MustSettleRefund(t, f.WeChat.EndRefund("R"+closed.TransactionID, payment.RefundSuccess))
		if f.State(t, closedNo) != order.StateRefunded || f.Available(t, "mug") != 2 {
			t.Errorf("%s, %d on the shelf", f.State(t, closedNo), f.Available(t, "mug"))
		}
		if held, _, err := f.ListHeld(t.Context(), "", 0); err != nil || len(held) != 0 {
			t.Errorf("%v held: %v", held, err)
		}
	})
}

// A held payment whose order was lost, and is there again, or whose money is on its way back.
func TestHeldPaymentIsNotJudgedOnceItGoesBack(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		wrong := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000002" })
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wrong.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		f.MustSettleRefund(t, foreignRefund(f, trade, "a", 1)) // somebody began on the merchant platform
		_, err = f.JudgeHeld(t.Context(), trade.TransactionID, "mended", ordertest.Finance)
		if !errors.As(err, new(*order.JudgedError)) || f.State(t, o.OrderNo) != order.StatePending {
			t.Errorf("%s: %v", f.State(t, o.OrderNo), err)
		}
		held, _, err := f.ListHeld(t.Context(), "", 10)
		if err != nil || len(held) != 1 || held[0].OrderNo != o.OrderNo || held[0].Reason != "appid" {
			t.Errorf("%+v %v", held, err)
		}
		b, err := f.HeldBacklog(t.Context())
		if want := (order.HeldBacklog{Count: 1, Amount: 100, Oldest: held[0].ReceivedAt}); err != nil || b != want {
			t.Errorf("%+v %v", b, err)
		}
	})
}

// A buyer whose money is held was told that the order is paid, and could never pay it, also with the money back.
func TestHeldMoneyIsNotAlreadyPaid(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade := heldPayment(t, f, o.OrderNo)
		prepay := func(typ payment.TradeType) (order.Prepayment, error) {
			return f.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: typ,
				Cause: ordertest.Customer})
		}
		for range 2 {
			var held *order.NotPayableError
			if _, err := prepay(payment.App); !errors.As(err, &held) || !held.Held {
				t.Errorf("another trade type: %v", err)
			}
		}
		if err := f.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		f.MustLookAtRefund(t, "R"+trade.TransactionID)
		if got, err := f.Find(t.Context(), o.OrderNo); err != nil || got.Payment != nil {
			t.Errorf("shown as paid: %+v %v", got.Payment, err)
		}
		f.MustSettleRefund(t, f.WeChat.EndRefund("R"+trade.TransactionID, payment.RefundSuccess))
		p, err := prepay(payment.App)
		if err != nil || p.OutTradeNo != o.OrderNo+"-02" {
			t.Fatalf("with the money back: %+v %v", p, err)
		}
		again, err := f.WeChat.Pay(p.OutTradeNo, false)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := f.Settle(t.Context(), again, ordertest.Notified); err != nil || s.State != order.StatePaid {
			t.Error(s, err)
		}
	})
}

// A transaction that is recorded for another order (rows that were mended by hand, two databases made one) kept the
// order closing, and nobody could end it.
func TestPaymentOfAnotherOrderEndsByPeople(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 2)
		paid, other := f.PaidOne(t, "a", "mug", 1), f.PlaceOne(t, "b", "mug", 1)
		trade, _ := f.WeChat.Trade(paid.OrderNo + "-01")
		trade.OutTradeNo = f.Prepaid(t, other.OrderNo)
		f.WeChat.Put(trade)
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil ||
			s.Settled != order.SettledRepeated || s.OrderNo != paid.OrderNo {
			t.Fatal(s, err)
		}
		f.Clock.Advance(32 * time.Minute)
		expired(t, f, trade, order.StateClosing)
		for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
			if _, err := f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: other.OrderNo, Reason: "not its money",
				Cause: who}); err != nil {
				t.Fatal(err)
			}
		}
		if f.State(t, other.OrderNo) != order.StateClosed || f.State(t, paid.OrderNo) != order.StatePaid {
			t.Errorf("%s, %s", f.State(t, other.OrderNo), f.State(t, paid.OrderNo))
		}
		atMostEvents(t, f, other.OrderNo, 6)
	})
}

// An open order without a due time is damaged, and holds stock. Its dead task, the one thing that names it, was taken
// for one of an order that has ended, and forgotten.
func TestOpenOrderWithoutDueTimeHasNotEnded(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewUnverified(t, db, func(*order.Config) {})
		f.SKU(t, "mug", 2)
		o := f.PlaceOne(t, "a", "mug", 1)
		previous(t, f, "UPDATE orders SET due_at = NULL WHERE order_no = ?", o.OrderNo)
		if ended, err := f.Ended(t.Context(), false, []string{o.OrderNo}); err != nil || len(ended) != 0 {
			t.Errorf("a pending order has ended: %v %v", ended, err)
		}
		r := f.MustAsk(t, ordertest.Ask(f.PaidOne(t, "b", "mug", 1).OrderNo, "k", 1))
		f.MustDecide(t, r.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
		previous(t, f, "UPDATE refunds SET due_at = NULL WHERE out_refund_no = ?", r.OutRefundNo)
		if ended, err := f.Ended(t.Context(), true, []string{r.OutRefundNo}); err != nil || len(ended) != 0 {
			t.Errorf("a refund that is owed has ended: %v %v", ended, err)
		}
	})
}

// The word of somebody whose account was disabled since, because it was stolen, closes an order together with one more.
func TestVouchOfADisabledAccountCountsNoMore(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		thief, honest := person(t, f, "thief", operators.Bootstrap), person(t, f, "honest", operators.Bootstrap)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.WeChat.Before = loseAll("close", "query")
		f.Clock.Advance(32 * time.Minute)
		_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
		say := func(who order.Cause) (order.Vouched, error) {
			return f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "looked", Cause: who})
		}
		if _, err := say(thief); err != nil {
			t.Fatal(err)
		}
		previous(t, f, "UPDATE operators SET disabled_at = ?, disabled_by = 'boss' WHERE name = 'thief'",
			sqldb.Millis(f.Clock.Now()))
		if v, err := say(honest); err != nil || v.Closed {
			t.Errorf("closed by one who works here and one who does not any more: %+v %v", v.Order.State, err)
		}
	})
}

// Whoever is at the shell has a name and a token, too. The shell's word and then the person's own closed an order: one
// person did what takes two, because the shell was refused as the second of them only.
func TestShellIsNotTheFirstOfTwoWhoVouch(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.WeChat.Before = loseAll("close", "query")
		f.Clock.Advance(32 * time.Minute)
		_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
		ann := person(t, f, "ann", operators.Bootstrap)
		var last order.Vouched
		for _, who := range []order.Cause{as("cli:ann"), ann} {
			last, _ = f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "looked", Cause: who})
		}
		if last.Closed {
			t.Errorf("the shell and ann have closed it, %d on the shelf", f.Available(t, "mug"))
		}
	})
}

// The configuration names the wrong merchant: the notification of a payment is held for that (and is in our own rows),
// and a query says "no such trade". 25 hours later that is taken for a proof that nothing was paid.
func TestHeldPaymentOutweighsNoSuchTrade(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		g := f.Restarted(t, func(c *order.Config) {
			c.Gateway, c.MchID = wrongMerchant{f.WeChat}, "1900000009"
		})
		if s, err := g.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Reason != "mchid" {
			t.Fatal(s, err)
		}
		f.Clock.Advance(31 * time.Minute)
		for range 30 {
			_ = g.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
			f.Clock.Advance(time.Hour)
		}
		if state := f.State(t, o.OrderNo); state != order.StateClosing {
			t.Errorf("%s, %d on the shelf, and we hold payment %s of it", state, f.Available(t, "mug"),
				trade.TransactionID)
		}
		// It ends all the same: with the money back there is none.
		if err := f.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		f.MustLookAtRefund(t, "R"+trade.TransactionID)
		f.MustSettleRefund(t, f.WeChat.EndRefund("R"+trade.TransactionID, payment.RefundSuccess))
		f.Clock.Advance(time.Hour)
		_ = g.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
		if state := f.State(t, o.OrderNo); state != order.StateClosed {
			t.Errorf("the money is back, and it is %s", state)
		}
	})
}
