package order_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// onThePlatform refunds so much of a payment on the merchant platform, and gives what WeChat Pay says of it.
func onThePlatform(t *testing.T, f *ordertest.Fixture, o order.Order, no string, amount payment.Fen) payment.Refund {
	t.Helper()
	if o.Payment == nil {
		var err error
		if o, err = f.Find(t.Context(), o.OrderNo); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: no,
		TransactionID: o.Payment.TransactionID, Amount: amount, Total: o.Payment.Total})
	if err != nil {
		t.Fatal(err)
	}
	r.MchID = ordertest.MchID
	return r
}

// Half of a payment is refunded on the merchant platform, and then the customer asks for one of his two units: both
// together are the whole payment for half of the goods, and nobody has looked.
func TestMoneyRefundedElsewhereStopsWhatGoesByItself(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 2)
		f.MustSettleRefund(t, onThePlatform(t, f, o, "PLATFORM1", 100))
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1))
		if r.State != order.RefundStatePending || r.ApprovalsNeeded != 1 {
			t.Fatalf("it went out by itself: %+v", r)
		}
		f.MustLookAtRefund(t, r.OutRefundNo)
		if f.WeChat.Refunded != 1 {
			t.Fatal("sent")
		}
		if r, err := f.FindRefund(t.Context(), r.OutRefundNo); err != nil || r.Elsewhere != 100 {
			t.Errorf("who approves does not see it: %+v, %v", r, err)
		}
		if o, err := f.Find(t.Context(), o.OrderNo); err != nil || !slices.ContainsFunc(o.Refunds,
			func(r order.Refund) bool {
				return r.State == order.RefundStateHeld && r.Told == payment.RefundProcessing
			}) {
			t.Errorf("the order does not show it: %+v, %v", o.Refunds, err)
		}
		f.MustDecide(t, r.OutRefundNo, order.RefundEventReject, ordertest.Finance)

		// A person has looked: what is left goes by itself again, and no more than that.
		if held := f.MustDecide(t, "PLATFORM1", order.RefundEventApprove, ordertest.Finance); held.DecidedBy != "fin" ||
			held.State != order.RefundStateHeld {
			t.Errorf("%+v", held)
		}
		ask := ordertest.Ask(o.OrderNo, "k2", 0)
		ask.Amount = fen(101)
		var exceeds *order.RefundExceedsError
		if _, err := f.AskRefund(t.Context(), ask); !errors.As(err, &exceeds) || exceeds.Left != 100 {
			t.Errorf("more than is left: %v", err)
		}
		if rest := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k3", 1)); rest.Amount != 100 ||
			rest.State != order.RefundStateOwed {
			t.Errorf("what is left: %+v", rest)
		}
		if _, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k4", 1)); err == nil {
			t.Error("nothing is left")
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || !strings.Contains(namesOf(events), "refund.held") ||
			!strings.Contains(namesOf(events), "refund.looked_at") {
			t.Errorf("%s, %v", namesOf(events), err)
		}
	})
}

func namesOf(events []order.TimelineEvent) string {
	var names []string
	for _, e := range events {
		names = append(names, e.Event)
	}
	return strings.Join(names, " ")
}

// What was approved by itself before WeChat Pay told of the other refund must not be sent after it; a person who
// wants it sent all the same says so, and can never send more than the payment has.
func TestARefundThatWaitsIsHeldBackWhenMoneyWentElsewhere(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 3)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1))
		f.MustSettleRefund(t, onThePlatform(t, f, o, "PLATFORM1", 200))
		f.MustLookAtRefund(t, r.OutRefundNo)
		if r, err := f.FindRefund(t.Context(), r.OutRefundNo); err != nil || f.WeChat.Refunded != 1 ||
			r.State != order.RefundStatePending || !strings.Contains(r.Problem, "went back elsewhere") {
			t.Fatalf("%+v, %v, %d calls", r, err, f.WeChat.Refunded)
		}
		f.MustDecide(t, r.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
		f.MustLookAtRefund(t, r.OutRefundNo)
		if f.RefundState(t, r.OutRefundNo) != order.RefundStateProcessing {
			t.Errorf("a person wants it sent: %s", f.RefundState(t, r.OutRefundNo))
		}

		over := f.PaidOne(t, "r2", "mug", 3)
		r = f.MustAsk(t, ordertest.Ask(over.OrderNo, "k2", 2))
		f.MustSettleRefund(t, onThePlatform(t, f, over, "PLATFORM2", 200))
		for range 2 {
			f.MustLookAtRefund(t, r.OutRefundNo)
			if f.RefundState(t, r.OutRefundNo) != order.RefundStateRefused {
				t.Fatalf("more than the payment: %s", f.RefundState(t, r.OutRefundNo))
			}
			f.MustDecide(t, r.OutRefundNo, order.RefundEventRetry, ordertest.Finance)
		}
		f.MustLookAtRefund(t, r.OutRefundNo)
		f.Clock.Advance(2 * time.Minute)
		f.MustDecide(t, r.OutRefundNo, order.RefundEventCancel, ordertest.Finance)
	})
}

// An approval is of what was to be seen: a refund that no longer fits beside what went back elsewhere is not approved.
func TestNobodyApprovesMoreThanIsLeft(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 2)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 2))
		f.MustSettleRefund(t, onThePlatform(t, f, o, "PLATFORM1", 100))
		var refused *order.RefundRefusedError
		_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
			Event: order.RefundEventApprove, Reason: "ok", Cause: ordertest.Finance})
		if !errors.As(err, &refused) || f.RefundState(t, r.OutRefundNo) != order.RefundStatePending {
			t.Errorf("approved: %v", err)
		}
		f.MustDecide(t, r.OutRefundNo, order.RefundEventReject, ordertest.Finance)
	})
}

// A refund that WeChat Pay closed gave nothing back: it must not keep the customer from his money for ever. Nobody
// asks about a refund that was made elsewhere unless a person wants it asked.
func TestWhatWasClosedElsewhereCountsNoMore(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 1)
		f.MustSettleRefund(t, onThePlatform(t, f, o, "PLATFORM1", 100))
		if _, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k1", 1)); err == nil {
			t.Fatal("all of it went back elsewhere")
		}
		f.WeChat.EndRefund("PLATFORM1", payment.RefundClosed)
		r := f.MustDecide(t, "PLATFORM1", order.RefundEventRetry, ordertest.Finance)
		if r.Told != payment.RefundClosed {
			t.Errorf("%+v", r)
		}
		if r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k2", 1)); r.State != order.RefundStateOwed {
			t.Errorf("%+v", r)
		}
		// Word that comes twice and in the wrong order: what paid out is not undone.
		paid := f.PaidOne(t, "r2", "mug", 1)
		w := onThePlatform(t, f, paid, "PLATFORM2", 100)
		for _, status := range []payment.RefundStatus{payment.RefundSuccess, payment.RefundProcessing,
			payment.RefundClosed} {
			w.Status = status
			f.MustSettleRefund(t, w)
		}
		if r, err := f.FindRefund(t.Context(), "PLATFORM2"); err != nil || r.Told != payment.RefundSuccess ||
			r.Elsewhere != 100 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// WeChat Pay says REFUND of a trade and not how much: until a person has looked nothing of that payment may go back
// by itself, whether it is known by a late query or by the first word of the payment.
func TestATradeThatWasRefundedElsewhereWaitsForAPerson(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		known, fresh := f.PaidOne(t, "r1", "mug", 2), f.PlaceOne(t, "r2", "mug", 2)
		ours := f.PaidOne(t, "r3", "mug", 2)
		onThePlatform(t, f, known, "PLATFORM1", 50)
		if _, err := f.Sync(t.Context(), known.OrderNo, ordertest.Customer); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(f.Prepaid(t, fresh.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.State = payment.TradeRefund
		s, err := f.Settle(t.Context(), trade, ordertest.Notified)
		if err != nil || s.Settled != order.SettledApplied {
			t.Fatal(s, err)
		}
		for _, no := range []string{known.OrderNo, fresh.OrderNo} {
			if r := f.MustAsk(t, ordertest.Ask(no, "k"+no, 1)); r.State != order.RefundStatePending {
				t.Errorf("it went out by itself: %+v", r)
			}
			if o, err := f.Find(t.Context(), no); err != nil || o.Payment.RefundTold.IsZero() {
				t.Errorf("%+v, %v", o.Payment, err)
			}
		}
		r := f.MustAsk(t, ordertest.Ask(ours.OrderNo, "k", 1)) // REFUND that is explained by ours says nothing
		f.MustLookAtRefund(t, r.OutRefundNo)
		if _, err := f.Sync(t.Context(), ours.OrderNo, ordertest.Customer); err != nil {
			t.Fatal(err)
		}
		f.Clock.Advance(2 * time.Minute)
		if r := f.MustAsk(t, ordertest.Ask(ours.OrderNo, "k2", 1)); r.State != order.RefundStateOwed {
			t.Errorf("%+v", r)
		}
	})
}

// Told of before its payment, a refund has no order; it counts all the same when the payment is there.
func TestARefundElsewhereThatCameBeforeItsPaymentCounts(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 2)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		w := onThePlatform(t, f, order.Order{Payment: &order.Payment{TransactionID: trade.TransactionID,
			Total: trade.Total}}, "PLATFORM1", 150)
		f.MustSettleRefund(t, w)
		s, err := f.Settle(t.Context(), trade, ordertest.Notified)
		if err != nil || s.Settled != order.SettledApplied {
			t.Fatal(s, err)
		}
		var exceeds *order.RefundExceedsError
		if _, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k", 1)); !errors.As(err, &exceeds) ||
			exceeds.Left != 50 {
			t.Errorf("%v", err)
		}
	})
}

// Asked for and told of at the same moment, at every isolation level: whichever comes first, what goes out with what
// went back elsewhere never exceeds the payment, nor does it go out by itself.
func TestRefundsHereAndElsewhereAtOnce(t *testing.T) {
	races(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 90)
		for i := range 6 {
			o := f.PaidOne(t, "r"+string(rune('a'+i)), "mug", 2)
			w := onThePlatform(t, f, o, "PLATFORM"+string(rune('a'+i)), 150)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := f.SettleRefund(t.Context(), w, ordertest.Notified); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { _, _ = f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k", 1)) })
			wg.Wait()
			got, err := f.Find(t.Context(), o.OrderNo)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range got.Refunds {
				if r.State == order.RefundStateOwed {
					f.MustLookAtRefund(t, r.OutRefundNo)
				}
			}
		}
		if f.WeChat.Refunded != 6 {
			t.Errorf("%d refunds were sent beside those of the platform", f.WeChat.Refunded-6)
		}
	})
}

// WeChat Pay tells of our refund an hour before it tells of its payment, after a restore: a clean database, and
// verify must say so.
func TestVerifyInventsNothingAboutAnOwnedRefund(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 2)
		out := f.Prepaid(t, o.OrderNo)
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(out, true)
		if err != nil {
			t.Fatal(err)
		}
		w := onThePlatform(t, f, order.Order{Payment: &order.Payment{TransactionID: trade.TransactionID,
			Total: trade.Total}}, "R"+trade.TransactionID, trade.Total)
		f.MustSettleRefund(t, w)
		f.Clock.Advance(time.Hour)
		s, err := f.Settle(t.Context(), trade, ordertest.Notified)
		if err != nil || s.Settled != order.SettledOwed {
			t.Fatal(s, err)
		}
		f.AssertVerified(t)
	})
}

// A restore lost a payment and its refund. The payment is told of again, owed back under the number that it always
// had, and WeChat Pay answers with the refund that it took yesterday.
func TestVerifyInventsNothingAboutARefundOfBeforeARestore(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 2)
		out := f.Prepaid(t, o.OrderNo)
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(out, true)
		if err != nil {
			t.Fatal(err)
		}
		f.WeChat.Now = f.Clock.Now
		w := onThePlatform(t, f, order.Order{Payment: &order.Payment{TransactionID: trade.TransactionID,
			Total: trade.Total}}, "R"+trade.TransactionID, trade.Total)
		if w.CreateTime.IsZero() {
			t.Fatal("WeChat Pay says no time")
		}
		f.Clock.Advance(24 * time.Hour)
		s, err := f.Settle(t.Context(), trade, ordertest.Notified)
		if err != nil || s.Settled != order.SettledOwed {
			t.Fatal(s, err)
		}
		f.MustLookAtRefund(t, "R"+trade.TransactionID)
		f.MustSettleRefund(t, f.WeChat.EndRefund("R"+trade.TransactionID, payment.RefundSuccess))
		if s := f.RefundState(t, "R"+trade.TransactionID); s != order.RefundStateSucceeded {
			t.Fatal(s)
		}
		f.AssertVerified(t)
	})
}

// WeChat Pay's first word on a refund that it took before the restore may be the notification that it has paid, which
// has no create_time: then it ended before the call of ours by which its day goes.
func TestVerifyInventsNothingAboutARefundThatHadEndedBeforeItsCall(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 2)
		out := f.Prepaid(t, o.OrderNo)
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(out, true)
		if err != nil {
			t.Fatal(err)
		}
		f.WeChat.Now = f.Clock.Now
		no := "R" + trade.TransactionID
		onThePlatform(t, f, order.Order{Payment: &order.Payment{TransactionID: trade.TransactionID,
			Total: trade.Total}}, no, trade.Total)
		ended := f.WeChat.EndRefund(no, payment.RefundSuccess)
		ended.CreateTime, ended.MchID = time.Time{}, ordertest.MchID
		f.Clock.Advance(24 * time.Hour)
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		f.WeChat.Before = loseAll("refund")
		f.MustLookAtRefund(t, no)
		f.WeChat.Before = nil
		f.MustSettleRefund(t, ended)
		if s := f.RefundState(t, no); s != order.RefundStateSucceeded {
			t.Fatal(s)
		}
		f.AssertVerified(t)
	})
}

// The previous program wrote 0 where WeChat Pay did not say when a trade that was refunded was paid. It is refunded
// here as one that was paid when it was heard of, and verify must not call it broken for ever.
func TestVerifyInventsNothingAboutAPaymentWithoutItsTime(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 2)
		for _, set := range []string{"payment_attempts SET call_no = 0, answer_no = 0", "payments SET paid_at = 0"} {
			lose(t, f, "UPDATE "+set+" WHERE order_no = ?", o.OrderNo)
		}
		f.AssertVerified(t)
	})
}

// WeChat Pay said of a held payment that money of it went back, and not how much: it may be all. Judged again, it makes
// its order paid, and nobody is told.
func TestHeldPaymentThatWasRefundedElsewhereIsNotApplied(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.State = payment.TradeRefund // all of it, on the merchant platform
		g := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000009" })
		if s, err := g.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		s, err := f.JudgeHeld(t.Context(), trade.TransactionID, "the app id was wrong", ordertest.Finance)
		if !errors.As(err, new(*order.JudgedError)) {
			t.Errorf("%+v %v", s, err)
		}
	})
}

// waitsForPeople fails the test unless the next refund of a payment, which would go by itself, waits for a person, and
// the rows are whole.
func waitsForPeople(t *testing.T, f *ordertest.Fixture, o order.Order, key string) {
	t.Helper()
	if r := f.MustAsk(t, ordertest.Ask(o.OrderNo, key, 1)); r.State != order.RefundStatePending {
		t.Errorf("the next goes by itself: %+v", r)
	}
	f.AssertVerified(t)
}

// WeChat Pay refused a refund, did not know its number, and a person gave it up; then WeChat Pay says that it has paid
// it. That counted nowhere, and as much went out once more. The same of a number that it had closed.
func TestMoneyOfARefundThatEndedHereCounts(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 3)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1)).OutRefundNo
		f.WeChat.Refuse = "PARAM_ERROR"
		f.MustLookAtRefund(t, no)
		f.WeChat.Refuse = ""
		f.Clock.Advance(2 * time.Minute)
		f.MustDecide(t, no, order.RefundEventCancel, ordertest.Finance)
		f.MustSettleRefund(t, onThePlatform(t, f, o, no, 100)) // WeChat Pay has it all the same
		waitsForPeople(t, f, o, "k2")
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		var exceeds *order.RefundExceedsError
		if _, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k3", 2)); !errors.As(err, &exceeds) ||
			exceeds.Left != 100 {
			t.Errorf("200 of 300 are gone, or asked for: %v", err)
		}
		f.AssertVerified(t)
	})
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 3)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1)).OutRefundNo
		f.MustLookAtRefund(t, no)
		closed := f.WeChat.EndRefund(no, payment.RefundClosed)
		f.MustSettleRefund(t, closed)
		closed.Status, closed.SuccessTime = payment.RefundSuccess, f.Clock.Now()
		f.MustSettleRefund(t, closed)
		whole, err := f.Find(t.Context(), o.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		next := whole.Refunds[len(whole.Refunds)-1].OutRefundNo
		f.Clock.Advance(2 * time.Minute)
		f.MustLookAtRefund(t, next)
		if s := f.RefundState(t, next); next == no || s != order.RefundStatePending {
			t.Errorf("what takes the place of one that paid after all is %s", s)
		}
	})
}

// WeChat Pay says that it has paid a refund that waits for its approval here (the rows are of a backup). It was
// rejected, and the money forgotten; what WeChat Pay then says of a closed number is taken in, too.
func TestARefundThatWeChatPayHasIsNotRejected(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundAutoApprove = 100 }, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 6)
		reject := func(no string) error {
			_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no,
				Event: order.RefundEventReject, Reason: "no", Cause: ordertest.Finance})
			return err
		}
		var refused *order.RefundRefusedError
		paid := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 2)).OutRefundNo
		onThePlatform(t, f, o, paid, 200)
		f.MustSettleRefund(t, f.WeChat.EndRefund(paid, payment.RefundSuccess))
		if err := reject(paid); !errors.As(err, &refused) {
			t.Errorf("rejected, with its money gone: %v", err)
		}
		f.MustDecide(t, paid, order.RefundEventApprove, ordertest.Finance)
		f.MustLookAtRefund(t, paid)
		if r, err := f.FindRefund(t.Context(), paid); err != nil || r.State != order.RefundStateSucceeded ||
			r.Told != "" {
			t.Errorf("%+v, %v", r, err)
		}
		closed := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k2", 2)).OutRefundNo
		f.MustSettleRefund(t, onThePlatform(t, f, o, closed, 200))
		if err := reject(closed); !errors.As(err, &refused) {
			t.Errorf("rejected while WeChat Pay has it: %v", err)
		}
		f.MustSettleRefund(t, f.WeChat.EndRefund(closed, payment.RefundClosed))
		if err := reject(closed); err != nil {
			t.Errorf("WeChat Pay has closed it: %v", err)
		}
	})
}

// After rows were lost WeChat Pay has another refund of the same payment under the number. What it took was forgotten,
// and the next number went out by itself.
func TestMoneyUnderABurntNumberIsForAPerson(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 3)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1)).OutRefundNo
		onThePlatform(t, f, o, no, 150)
		f.MustLookAtRefund(t, no)
		whole, err := f.Find(t.Context(), o.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		next := whole.Refunds[len(whole.Refunds)-1].OutRefundNo
		f.Clock.Advance(2 * time.Minute)
		f.MustLookAtRefund(t, next)
		if s := f.RefundState(t, no); s != order.RefundStateClosed {
			t.Fatalf("%s is %s", no, s)
		}
		if s := f.RefundState(t, next); s != order.RefundStatePending {
			t.Errorf("150 of 300 had gone back, and 100 more is %s: %+v", s, f.WeChat.Refunds())
		}
		// That another one was looked at says nothing of this.
		f.MustSettleRefund(t, onThePlatform(t, f, o, "PLATFORM1", 10))
		f.MustDecide(t, "PLATFORM1", order.RefundEventApprove, ordertest.Finance)
		waitsForPeople(t, f, o, "k2")
	})
}

// A refund that was made elsewhere and that WeChat Pay does not know any more counted against its payment for ever: the
// buyer got nothing of what is left, and nobody had a way out.
func TestHeldRefundThatNobodyKnowsIsGivenUpByTwo(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 2)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		told := onThePlatform(t, f, o, "PLATFORM", 200)
		f.MustSettleRefund(t, told)
		cancel := func(who order.Cause) error {
			_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: "PLATFORM",
				Event: order.RefundEventCancel, Reason: "lost", Cause: who})
			return err
		}
		ask := func(key string) error {
			_, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, key, 2))
			return err
		}
		f.Clock.Advance(30 * 24 * time.Hour)
		var refused *order.RefundRefusedError
		if err := cancel(anna); !errors.As(err, &refused) {
			t.Errorf("WeChat Pay knows it: %v", err)
		}
		f.WeChat.Forget("PLATFORM")
		for range 2 { // one person twice is one
			if err := cancel(anna); err != nil {
				t.Error(err)
			}
			f.AssertVerified(t)
		}
		var exceeds *order.RefundExceedsError
		if err := ask("k1"); !errors.As(err, &exceeds) {
			t.Errorf("after the first of two: %v", err)
		}
		if err := cancel(bea); err != nil {
			t.Error(err)
		}
		f.AssertVerified(t)
		if err := ask("k2"); err != nil {
			t.Errorf("after the second: %v", err)
		}
		// Should WeChat Pay tell of it again, it counts again.
		f.MustSettleRefund(t, told)
		if r, err := f.FindRefund(t.Context(), "PLATFORM"); err != nil || r.Told != payment.RefundProcessing {
			t.Errorf("%+v, %v", r, err)
		}
		f.AssertVerified(t)
	})
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 2)
		onThePlatform(t, f, o, "PLATFORM", 200)
		f.MustSettleRefund(t, f.WeChat.EndRefund("PLATFORM", payment.RefundSuccess))
		f.WeChat.Forget("PLATFORM")
		f.Clock.Advance(30 * 24 * time.Hour)
		var refused *order.RefundRefusedError
		_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: "PLATFORM",
			Event: order.RefundEventCancel, Reason: "lost", Cause: person(t, f, "anna", operators.Bootstrap)})
		if !errors.As(err, &refused) {
			t.Errorf("WeChat Pay said that it paid it: %v", err)
		}
	})
}
