package order_test

import (
	"strings"
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

// timedOut is an order whose time is over, prepaid, which WeChat Pay was asked to close without an answer; the trade is
// the money that comes for it all the same, and that nobody has told yet.
func timedOut(t *testing.T, f *ordertest.Fixture) (order.Order, payment.Trade) {
	t.Helper()
	o := f.PlaceOne(t, "a", "mug", 1)
	out := f.Prepaid(t, o.OrderNo)
	f.Clock.Advance(32 * time.Minute)
	f.WeChat.Before = loseAll("close", "query")
	_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
	f.WeChat.Before = nil
	trade, err := f.WeChat.Pay(out, true)
	if err != nil || f.State(t, o.OrderNo) != order.StateClosing {
		t.Fatal(f.State(t, o.OrderNo), err)
	}
	return o, trade
}

// settled brings money to its order.
func settled(t *testing.T, f *ordertest.Fixture, trade payment.Trade) {
	t.Helper()
	if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
}

// byWish counts the events in which somebody says, beside the clock, that an order is to be closed.
func byWish(t *testing.T, f *ordertest.Fixture, orderNo string) (n int) {
	t.Helper()
	events, err := f.Timeline(t.Context(), orderNo)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Event == "close.wanted" {
			n++
		}
	}
	return n
}

// closedFor fails the test unless an order was wanted closed by this, and said so as often.
func closedFor(t *testing.T, f *ordertest.Fixture, orderNo string, want order.CloseReason, wishes int) {
	t.Helper()
	o, err := f.Find(t.Context(), orderNo)
	if err != nil || o.CloseReason != want || byWish(t, f, orderNo) != wishes {
		t.Errorf("closed by %s, %d wishes, want %s and %d: %v", o.CloseReason, byWish(t, f, orderNo), want, wishes, err)
	}
}

// goesBack fails the test unless late money is on its way back and the goods are on the shelf, and lets it arrive.
func goesBack(t *testing.T, f *ordertest.Fixture, trade payment.Trade) {
	t.Helper()
	if s := f.State(t, order.OrderNoOf(trade.OutTradeNo)); s != order.StateLate || f.Available(t, "mug") != 1 {
		t.Fatalf("%s, %d on the shelf", s, f.Available(t, "mug"))
	}
	no := "R" + trade.TransactionID
	f.MustLookAtRefund(t, no)
	f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
}

// The time of an order was over, and then its customer cancelled it, or an operator closed it: while WeChat Pay was
// asked, or when it had answered. It was revived all the same, because the clock had been first.
func TestCancelledWhileClosingIsNotRevived(t *testing.T) {
	byOperator := func(no string) order.CancelRequest {
		return order.CancelRequest{OrderNo: no, Reason: "fraud", Cause: ordertest.Finance}
	}
	for name, c := range map[string]struct {
		ask    func(no string) order.CancelRequest
		closed bool // when it is asked
		want   order.CloseReason
	}{
		"customer":                     {cancel, false, order.CloseReasonCancel},
		"operator":                     {byOperator, false, order.CloseReasonOperator},
		"customer, of a closed order":  {cancel, true, order.CloseReasonCancel},
		"operator, of a closed order":  {byOperator, true, order.CloseReasonOperator},
		"nobody, and so it is revived": {nil, true, order.CloseReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, reviving, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o, trade := timedOut(t, f)
				end := func() {
					proof := map[string]string{"close": "accepted", "out_trade_no": trade.OutTradeNo}
					if err := f.CloseDone(t.Context(), o.OrderNo, proof); err != nil {
						t.Fatal(err)
					}
				}
				if c.closed {
					end()
				}
				wishes, version := 0, int64(0)
				for range 3 { // twice says no more than once
					if c.ask == nil {
						break
					}
					got, err := f.Cancel(t.Context(), c.ask(o.OrderNo))
					if err != nil || got.CloseReason != c.want || version != 0 && got.Version != version {
						t.Fatalf("%s by %s at version %d, was %d: %v", got.State, got.CloseReason, got.Version, version,
							err)
					}
					wishes, version = 1, got.Version
				}
				if !c.closed {
					end()
				}
				closedFor(t, f, o.OrderNo, c.want, wishes)
				settled(t, f, trade)
				if c.ask != nil {
					goesBack(t, f, trade)
				} else if s := f.State(t, o.OrderNo); s != order.StatePaid {
					t.Errorf("nobody has cancelled it, and it is %s", s)
				}
				closedFor(t, f, o.OrderNo, c.want, wishes)
			})
		})
	}
}

// Two people have said of an order that nothing was paid, and it was closed by their word. The money that proves them
// wrong would have it delivered without anybody looking.
func TestVouchedOrderIsNotRevived(t *testing.T) {
	for name, c := range map[string]struct {
		cancelled bool // by its customer, before the second word
		want      order.CloseReason
	}{
		"out of time": {false, order.CloseReasonOperator},
		"cancelled":   {true, order.CloseReasonCancel},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, reviving, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o, trade := timedOut(t, f)
				closed := false
				for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
					closedFor(t, f, o.OrderNo, order.CloseReasonTimeout, 0) // one word closes nothing
					if c.cancelled && who == ordertest.Finance2 {
						if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
							t.Fatal(err)
						}
					}
					v, err := f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "looked",
						Cause: who})
					if err != nil {
						t.Fatal(err)
					}
					closed = v.Closed
				}
				if !closed {
					t.Fatal("two people do not close it")
				}
				settled(t, f, trade)
				goesBack(t, f, trade)
				closedFor(t, f, o.OrderNo, c.want, map[bool]int{true: 1}[c.cancelled])
			})
		})
	}
}

// What comes for an order in one transaction is decided in the order in which it came, as if each had its own.
func TestWhoClosedItInOneBatch(t *testing.T) {
	for what, want := range map[string]struct {
		state  order.State
		reason order.CloseReason
		wishes int
	}{
		"cancel closed paid":       {order.StateLate, order.CloseReasonCancel, 1},
		"close closed paid":        {order.StateLate, order.CloseReasonOperator, 1},
		"closed cancel paid":       {order.StateLate, order.CloseReasonCancel, 1},
		"closed cancel close paid": {order.StateLate, order.CloseReasonCancel, 1},
		"close cancel closed paid": {order.StateLate, order.CloseReasonOperator, 1},
		"closed paid cancel":       {order.StatePaid, order.CloseReasonTimeout, 0}, // ask for a refund instead
		"cancel paid closed":       {order.StatePaid, order.CloseReasonCancel, 1},  // money is quicker than the close
		"paid cancel":              {order.StatePaid, order.CloseReasonTimeout, 0},
		"cancel closed":            {order.StateClosed, order.CloseReasonCancel, 1},
		"closed cancel":            {order.StateClosed, order.CloseReasonCancel, 1},
		"cancel cancel closed":     {order.StateClosed, order.CloseReasonCancel, 1},
		"closed cancel cancel":     {order.StateClosed, order.CloseReasonCancel, 1},
		"word paid":                {order.StateLate, order.CloseReasonOperator, 0},
		"word cancel paid":         {order.StateLate, order.CloseReasonOperator, 0},
		"cancel word paid":         {order.StateLate, order.CloseReasonCancel, 1},
		"closed word paid":         {order.StatePaid, order.CloseReasonTimeout, 0}, // it came when nobody needed it
		"closed paid":              {order.StatePaid, order.CloseReasonTimeout, 0},
		"paid word":                {order.StatePaid, order.CloseReasonTimeout, 0},
	} {
		t.Run(what, func(t *testing.T) {
			eachWith(t, reviving, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o, trade := timedOut(t, f)
				if strings.Contains(what, "word") { // the first of two
					if _, err := f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "looked",
						Cause: ordertest.Finance}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := f.InOneBatch(t.Context(), trade, strings.Fields(what)...); err != nil {
					t.Fatal(err)
				}
				closedFor(t, f, o.OrderNo, want.reason, want.wishes)
				if s := f.State(t, o.OrderNo); s != want.state {
					t.Fatalf("%s, want %s", s, want.state)
				}
				switch want.state {
				case order.StateLate:
					goesBack(t, f, trade)
				case order.StatePaid, order.StateClosed:
					if n := f.Available(t, "mug"); n != map[order.State]int64{order.StateClosed: 1}[want.state] {
						t.Errorf("%s, and %d on the shelf", want.state, n)
					}
				case order.StatePending, order.StateClosing, order.StateRefunding, order.StateRefunded:
				}
			})
		})
	}
}

// Late money revived an order of which WeChat Pay said in the same answer that it was refunded: goods were taken off
// the shelf for money that is with its buyer.
func TestMoneyThatWentBackRevivesNothing(t *testing.T) {
	eachWith(t, reviving, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 2)
		no := f.Prepaid(t, o.OrderNo)
		f.Clock.Advance(time.Hour)
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(no, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "PLATFORM",
			TransactionID: trade.TransactionID, Amount: trade.Total, Total: trade.Total}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Sync(t.Context(), o.OrderNo, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		if s := f.State(t, o.OrderNo); s != order.StateLate || f.Available(t, "mug") != 9 {
			t.Errorf("%s, %d of 9 left", s, f.Available(t, "mug"))
		}
	})
}
