package order_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// oper is somebody who asks and sends again, and decides about no money.
func oper(t *testing.T, f *ordertest.Fixture, name string) order.Cause {
	t.Helper()
	err := operators.Create(t.Context(), f.DB, name, operators.Operator, operators.Bootstrap,
		f.Clock.Now().Add(-2*operators.FreshFor))
	if err != nil {
		t.Fatal(err)
	}
	return as(name)
}

// A refund within what goes by itself is held back, because money went back elsewhere and no person has looked. One
// operator, who is no finance, sends it again, and with the other one it is a sum that takes two people.
func TestAnOperatorSendsNothingThatWaitsForFinance(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundAutoApprove, c.RefundTwoPersons = 100, 200 },
		func(t *testing.T, f *ordertest.Fixture) {
			f.SKU(t, "mug", 9)
			o := f.PaidOne(t, "r1", "mug", 3)
			r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1))
			if r.ApprovalsNeeded != 0 {
				t.Fatalf("%+v", r)
			}
			f.MustSettleRefund(t, onThePlatform(t, f, o, "PLATFORM1", 150))
			f.MustLookAtRefund(t, r.OutRefundNo)
			_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
				Event: order.RefundEventRetry, Reason: "again", Cause: oper(t, f, "olga")})
			if err == nil {
				f.MustLookAtRefund(t, r.OutRefundNo)
			}
			if s := f.RefundState(t, r.OutRefundNo); s != order.RefundStatePending || f.WeChat.Refunded != 1 {
				t.Errorf("sent by an operator alone: %s, %v", s, err)
			}
			for i, who := range []string{"anna", "bea"} {
				got, err := approve(t, f, r.OutRefundNo, person(t, f, who, operators.Bootstrap))
				if err != nil || (got.State == order.RefundStateOwed) != (i == 1) || got.ApprovalsNeeded != 2 {
					t.Fatalf("%s: %+v, %v", who, got, err)
				}
			}
			f.Clock.Advance(2 * time.Minute)
			f.MustLookAtRefund(t, r.OutRefundNo)
			if s := f.RefundState(t, r.OutRefundNo); s != order.RefundStateProcessing {
				t.Errorf("two people have agreed: %s", s)
			}
		})
}

// One approval is enough for 150 of it. Then WeChat Pay tells of 100 that went back elsewhere: with them it is a sum
// that takes two people, and one approval must not send it, as it does not when it was told of
// before the ask.
func TestMoneyElsewhereAfterTheAskTakesItsApprovals(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		anna := person(t, f, "anna", operators.Bootstrap)
		before, after := f.PaidOne(t, "r1", "mug", 4), f.PaidOne(t, "r2", "mug", 4)
		ask := func(o order.Order, key string) order.Refund {
			a := ordertest.Ask(o.OrderNo, key, 0)
			a.Amount = fen(150)
			return f.MustAsk(t, a)
		}
		f.MustSettleRefund(t, onThePlatform(t, f, before, "PLATFORM1", 100))
		if r := ask(before, "k1"); r.ApprovalsNeeded != 2 {
			t.Fatalf("%+v", r)
		}
		r := ask(after, "k2")
		f.MustSettleRefund(t, onThePlatform(t, f, after, "PLATFORM2", 100))
		if r, err := approve(t, f, r.OutRefundNo, anna); err == nil && r.State != order.RefundStatePending {
			t.Errorf("250 of 400 by one person: %+v", r)
		}
	})
}

// A refund of lots of money, approved by two and stuck, is not called paid by one person's word alone: a second person
// has to say so as well, and nobody whom the first has made.
func TestTwoPeopleCallALargeRefundPaid(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		carl := person(t, f, "carl", operators.Bootstrap)
		o := f.PaidOne(t, "r1", "mug", 5)
		ask := ordertest.Ask(o.OrderNo, "k", 5)
		ask.CustomerID, ask.Cause = "", anna
		r := f.MustAsk(t, ask)
		for _, who := range []order.Cause{bea, carl} {
			if _, err := approve(t, f, r.OutRefundNo, who); err != nil {
				t.Fatal(err)
			}
		}
		f.WeChat.Refuse = "PARAM_ERROR"
		f.MustLookAtRefund(t, r.OutRefundNo)
		f.Clock.Advance(2 * time.Minute)
		made := person(t, f, "made", "anna")
		var same *operators.SameError
		for _, c := range []struct {
			who  order.Cause
			want order.RefundState
			err  any
		}{{as("cli:root"), order.RefundStateRefused, nil}, {anna, order.RefundStateRefused, nil},
			{anna, order.RefundStateRefused, nil}, {made, order.RefundStateRefused, &same},
			{bea, order.RefundStateByHand, nil}} {
			_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
				Event: order.RefundEventByHand, Reason: "cash", Cause: c.who})
			if s := f.RefundState(t, r.OutRefundNo); s != c.want || (c.err != nil && !errors.As(err, c.err)) {
				t.Errorf("500 fen, above the limit of two, by %s: %s, %v", c.who.Actor.ID, s, err)
			}
		}
		got, err := f.FindRefund(t.Context(), r.OutRefundNo)
		if err != nil || got.DecidedBy != "bea" || got.DecidedWhy != "with anna: cash" {
			t.Errorf("%+v, %v", got, err)
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || !strings.Contains(namesOf(events), "refund.by_hand_said") {
			t.Errorf("%s, %v", namesOf(events), err)
		}
	})
}

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
