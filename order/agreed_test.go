package order_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// Who has agreed that money goes back, when it goes.

func letGo(t *testing.T, f *ordertest.Fixture, name string) {
	t.Helper()
	if err := operators.Disable(t.Context(), f.DB, name, "boss", f.Clock.Now()); err != nil {
		t.Fatal(err)
	}
}

// Two have approved, and one of them is let go before the first call: the money waits for another.
func TestAnApproverWhoWasLetGoSendsNothing(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 5)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		carl := person(t, f, "carl", operators.Bootstrap)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 5)).OutRefundNo
		for _, w := range []order.Cause{anna, bea} {
			if _, err := approve(t, f, no, w); err != nil {
				t.Fatal(err)
			}
		}
		letGo(t, f, "anna")
		f.MustLookAtRefund(t, no)
		if s := f.RefundState(t, no); s != order.RefundStatePending || len(f.WeChat.Refunds()) != 0 {
			t.Fatalf("%s, WeChat Pay has %d", s, len(f.WeChat.Refunds()))
		}
		if _, err := approve(t, f, no, carl); err != nil {
			t.Fatal(err)
		}
		f.MustLookAtRefund(t, no)
		if s := f.RefundState(t, no); s != order.RefundStateProcessing {
			t.Errorf("two who may have agreed: %s", s)
		}
	})
}

// WeChat Pay has refused it, and then one of the two is let go: an operator who is no finance does not send it again.
func TestARetryIsNoApproval(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 5)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		no := refusedOf(t, f, o, 5, anna, bea)
		letGo(t, f, "anna")
		if err := decideBy(t, f, no, order.RefundEventRetry, "again", as("olga")); err != nil {
			t.Fatal(err)
		}
		f.MustLookAtRefund(t, no)
		r, err := f.FindRefund(t.Context(), no)
		if err != nil || r.State != order.RefundStateRefused || len(f.WeChat.Refunds()) != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if !strings.Contains(r.Problem, "cancel it") {
			t.Errorf("it does not say what to do: %s", r.Problem)
		}
		f.Clock.Advance(2 * time.Minute)
		f.MustDecide(t, no, order.RefundEventCancel, bea)
	})
}

// What takes the place of a closed refund goes out by the approvals of the closed one, as long as they count.
func TestASuccessorGoesByTheApprovalsOfTheClosedOne(t *testing.T) {
	for _, gone := range []bool{false, true} {
		eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
			f.SKU(t, "mug", 9)
			o := f.PaidOne(t, "r1", "mug", 5)
			anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
			carl := person(t, f, "carl", operators.Bootstrap)
			no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 5)).OutRefundNo
			for _, w := range []order.Cause{anna, bea} {
				if _, err := approve(t, f, no, w); err != nil {
					t.Fatal(err)
				}
			}
			f.MustLookAtRefund(t, no)
			f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundClosed))
			whole, err := f.Find(t.Context(), o.OrderNo)
			if err != nil {
				t.Fatal(err)
			}
			next := whole.Refunds[len(whole.Refunds)-1].OutRefundNo
			f.Clock.Advance(time.Hour)
			want := order.RefundStateProcessing
			if gone {
				letGo(t, f, "anna")
				want = order.RefundStatePending
			}
			f.MustLookAtRefund(t, next)
			if s := f.RefundState(t, next); s != want {
				t.Fatalf("let go %t: %s", gone, s)
			}
			if !gone {
				return
			}
			made := person(t, f, "made", "bea")
			var same *operators.SameError
			if _, err := approve(t, f, next, made); !errors.As(err, &same) {
				t.Errorf("approved by bea, and by whom she has made: %v", err)
			}
			if r, err := approve(t, f, next, carl); err != nil || r.State != order.RefundStateOwed {
				t.Errorf("%+v, %v", r, err)
			}
			f.MustLookAtRefund(t, next)
			if s := f.RefundState(t, next); s != order.RefundStateProcessing {
				t.Error(s)
			}
		})
	}
}

// After a restore WeChat Pay tells that the refund of a payment was closed, before it tells of the payment. That one
// was agreed to, and nothing of it went back: what goes back now is agreed to anew.
func TestHeldMoneyOfAClosedRefundTakesTwo(t *testing.T) {
	const lots = 10_000_000
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 500_000 }, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.MustSettleRefund(t, payment.Refund{OutRefundNo: "R4290", RefundID: "501", TransactionID: "4290",
			OutTradeNo: o.OrderNo + "-01", Status: payment.RefundClosed, Amount: lots, Total: lots,
			MchID: ordertest.MchID, CreateTime: f.Clock.Now()})
		held(t, f, "4290", lots, o.OrderNo+"-01")
		if err := f.RefundHeld(t.Context(), "4290", anna); !errors.Is(err, order.ErrRefundWaits) {
			t.Fatalf("by anna alone: %v", err)
		}
		if s := f.RefundState(t, "R4290"); s != order.RefundStateHeld {
			t.Errorf("the closed one is %s", s)
		}
		if err := f.RefundHeld(t.Context(), "4290", bea); err != nil {
			t.Fatal(err)
		}
		all, _, err := f.ListRefunds(t.Context(), order.RefundFilter{TransactionID: "4290",
			State: order.RefundStateOwed})
		if err != nil || len(all) != 1 || all[0].Amount != lots {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// Whoever has asked for a refund does not say alone that it went back another way, even of a sum that takes one.
func TestAnAskerSettlesByHandWithAnother(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 100_000 }, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PaidOne(t, "r1", "mug", 5)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		made := person(t, f, "made", "anna")
		ask := ordertest.Ask(o.OrderNo, "k", 5)
		ask.CustomerID, ask.Cause = "", anna
		no := f.MustAsk(t, ask).OutRefundNo
		if _, err := approve(t, f, no, bea); err != nil {
			t.Fatal(err)
		}
		f.WeChat.Refuse = "PARAM_ERROR"
		f.MustLookAtRefund(t, no)
		f.Clock.Advance(2 * time.Minute)
		for _, who := range []order.Cause{made, anna} {
			_ = decideBy(t, f, no, order.RefundEventByHand, "cash", who)
			if s := f.RefundState(t, no); s != order.RefundStateRefused {
				t.Fatalf("asked for by anna, and called paid by %s: %s", who.Actor.ID, s)
			}
		}
		if err := decideBy(t, f, no, order.RefundEventByHand, "cash", bea); err != nil ||
			f.RefundState(t, no) != order.RefundStateByHand {
			t.Errorf("by bea: %s, %v", f.RefundState(t, no), err)
		}
	})
}

// The second of two who is an account of an hour is heard of, as the first is.
func TestAFreshSecondIsHeard(t *testing.T) {
	for _, what := range []string{"by hand", "to a card"} {
		t.Run(what, func(t *testing.T) {
			var log *bytes.Buffer
			eachWith(t, func(c *order.Config) { heard(&log)(c); c.RefundTwoPersons = 1; c.RefundAutoApprove = 0 },
				func(t *testing.T, f *ordertest.Fixture) {
					f.SKU(t, "mug", 9)
					anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
					if err := operators.Create(t.Context(), f.DB, "fresh", operators.Finance, operators.Bootstrap,
						f.Clock.Now().Add(-time.Hour)); err != nil {
						t.Fatal(err)
					}
					no := abnormalOf(t, f, 5, anna, bea)
					for _, who := range []order.Cause{anna, as("fresh")} {
						if strings.Contains(log.String(), "less than a day: fresh") {
							t.Fatal("heard of before")
						}
						var err error
						if what == "by hand" {
							err = decideBy(t, f, no, order.RefundEventByHand, "cash", who)
						} else {
							_, err = f.SendToCard(t.Context(), order.RefundToCard{OutRefundNo: no,
								To: payment.CardOfUser, Card: buyersCard, Reason: "her card", Cause: who})
						}
						if err != nil {
							t.Fatal(err)
						}
					}
					if !strings.Contains(log.String(), "less than a day: fresh") {
						t.Errorf("%s, and no alarm", f.RefundState(t, no))
					}
				})
		})
	}
}

// Judging a held payment again may send it back: above the limit of two that is for sending it back, which takes two.
func TestJudgingAgainSendsNoLargeSumBack(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "a", "mug", 5)
		no := f.Prepaid(t, o.OrderNo)
		other := payment.Trade{OutTradeNo: no, State: payment.TradeSuccess, TransactionID: "4291", AppID: "wxother",
			MchID: ordertest.MchID, TradeType: "NATIVE", Total: o.Total, PayerTotal: payment.Said(o.Total),
			Currency: payment.CNY, SuccessTime: f.Clock.Now()}
		if s, err := f.Settle(t.Context(), other, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		if s := f.State(t, o.OrderNo); s != order.StateClosed {
			t.Fatal(s)
		}
		mended := f.Restarted(t, func(c *order.Config) { twoPeople(c); c.OtherAppIDs = []string{"wxother"} })
		var judged *order.JudgedError
		if s, err := mended.JudgeHeld(t.Context(), "4291", "mended", anna); !errors.As(err, &judged) {
			t.Fatalf("500 fen by anna alone: %+v, %v", s, err)
		}
		if s := f.State(t, o.OrderNo); s != order.StateClosed {
			t.Errorf("and the order is %s", s)
		}
		if err := mended.RefundHeld(t.Context(), "4291", anna); !errors.Is(err, order.ErrRefundWaits) {
			t.Errorf("by anna: %v", err)
		}
		if err := mended.RefundHeld(t.Context(), "4291", bea); err != nil {
			t.Errorf("by bea: %v", err)
		}
	})
}
