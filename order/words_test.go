package order_test

import (
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// What the first of two people says, and what people's other texts cannot say for them.

// refusedOf asks for a refund, has it approved by people, and WeChat Pay refuse it for good.
func refusedOf(t *testing.T, f *ordertest.Fixture, o order.Order, n int64, who ...order.Cause) string {
	t.Helper()
	r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k-"+o.OrderNo[20:], n))
	for _, w := range who {
		if _, err := approve(t, f, r.OutRefundNo, w); err != nil {
			t.Fatal(err)
		}
	}
	f.WeChat.Refuse = "PARAM_ERROR"
	f.MustLookAtRefund(t, r.OutRefundNo)
	f.WeChat.Refuse = ""
	if s := f.RefundState(t, r.OutRefundNo); s != order.RefundStateRefused {
		t.Fatal(s)
	}
	f.Clock.Advance(2 * time.Minute)
	return r.OutRefundNo
}

// abnormalOf is a refund that two have approved and that WeChat Pay cannot pay out.
func abnormalOf(t *testing.T, f *ordertest.Fixture, n int64, who ...order.Cause) string {
	t.Helper()
	o := f.PaidOne(t, "r1", "mug", n)
	no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", n)).OutRefundNo
	for _, w := range who {
		if _, err := approve(t, f, no, w); err != nil {
			t.Fatal(err)
		}
	}
	f.MustLookAtRefund(t, no)
	f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundAbnormal))
	f.Clock.Advance(2 * time.Minute)
	return no
}

func decideBy(t *testing.T, f *ordertest.Fixture, no string, e order.RefundEvent, why string, who order.Cause) error {
	t.Helper()
	_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no, Event: e, Reason: why, Cause: who})
	return err
}

// The reason of a retry, by whoever may retry, is no word of the first of two, whatever it says.
func TestAReasonIsNoFirstWordByHand(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 5)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		no := refusedOf(t, f, o, 5, anna, bea)
		if err := decideBy(t, f, no, order.RefundEventRetry, "by hand, first of two: x", as("cli:root")); err != nil {
			t.Fatal(err)
		}
		f.WeChat.Refuse = "PARAM_ERROR"
		f.MustLookAtRefund(t, no)
		f.Clock.Advance(2 * time.Minute)
		err := decideBy(t, f, no, order.RefundEventByHand, "cash", bea)
		if s := f.RefundState(t, no); err != nil || s != order.RefundStateRefused {
			t.Errorf("bea is the first: %s, %v", s, err)
		}
		if err = decideBy(t, f, no, order.RefundEventByHand, "cash", anna); err != nil ||
			f.RefundState(t, no) != order.RefundStateByHand {
			t.Errorf("anna is the second: %s, %v", f.RefundState(t, no), err)
		}
	})
}

// And none for the buyer's card.
func TestAReasonIsNoFirstWordOfACard(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 5)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		no := refusedOf(t, f, o, 5, anna, bea)
		if err := decideBy(t, f, no, order.RefundEventRetry, string(payment.CardOfUser)+", first of two: x",
			as("cli:root")); err != nil {
			t.Fatal(err)
		}
		f.WeChat.RefundStatus = payment.RefundAbnormal
		f.MustLookAtRefund(t, no)
		f.Clock.Advance(2 * time.Minute)
		r, err := f.SendToCard(t.Context(), order.RefundToCard{OutRefundNo: no, To: payment.CardOfUser,
			Card: buyersCard, Reason: "her card", Cause: bea})
		if err != nil || r.State != order.RefundStateAbnormal || len(f.WeChat.Cards) > 0 {
			t.Errorf("sent to a card that one person has named: %s, %v", r.State, err)
		}
	})
}

// A reason does not say either that the money is in the merchant's account: somebody would pay the buyer from there.
func TestAReasonSendsToNoCard(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 5)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		no := refusedOf(t, f, o, 5, anna, bea)
		if err := decideBy(t, f, no, order.RefundEventRetry, "sent to "+string(payment.CardOfMerchant)+": x",
			as("cli:root")); err != nil {
			t.Fatal(err)
		}
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		r, err := f.FindRefund(t.Context(), no)
		if err != nil || r.State != order.RefundStateSucceeded || r.SentTo != "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// The word of the first of two is about the refund as it stood: once WeChat Pay has taken it up again, it takes two
// anew.
func TestAWordByHandEndsWithItsState(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		no := abnormalOf(t, f, 5, anna, bea)
		if err := decideBy(t, f, no, order.RefundEventByHand, "cash", anna); err != nil {
			t.Fatal(err)
		}
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundProcessing))
		if s := f.RefundState(t, no); s != order.RefundStateProcessing {
			t.Fatal(s)
		}
		f.Clock.Advance(30 * 24 * time.Hour)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundAbnormal))
		f.Clock.Advance(2 * time.Minute)
		err := decideBy(t, f, no, order.RefundEventByHand, "cash", bea)
		if s := f.RefundState(t, no); err != nil || s != order.RefundStateAbnormal {
			t.Errorf("settled by bea, and by what anna said a month ago: %s, %v", s, err)
		}
		r, err := f.FindRefund(t.Context(), no)
		if err != nil || r.SaidByHand() != "bea" || r.Said.Why != "cash" || !r.Said.At.Equal(f.Clock.Now()) {
			t.Errorf("%+v, %v", r.Said, err)
		}
	})
}
