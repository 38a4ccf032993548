package order_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// twoPeople makes every refund above one yuan wait for one approval, and above two for two.
func twoPeople(c *order.Config) { c.RefundAutoApprove, c.RefundTwoPersons = 100, 200 }

// person makes the account of somebody who works here, long ago, and gives what they do its name.
func person(t *testing.T, f *ordertest.Fixture, name, by string) order.Cause {
	t.Helper()
	err := operators.Create(t.Context(), f.DB, name, operators.Finance, by, f.Clock.Now().Add(-2*operators.FreshFor))
	if err != nil {
		t.Fatal(err)
	}
	return as(name)
}

func as(name string) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: name}, Type: "request", ID: "r"}
}

func approve(t *testing.T, f *ordertest.Fixture, no string, who order.Cause) (order.Refund, error) {
	t.Helper()
	return f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no, Event: order.RefundEventApprove,
		Reason: "seen", Cause: who})
}

// An admin who makes an account and approves with it what he has asked for, or what he has approved before, is one
// person who does what takes two. None of these may send money.
func TestApproverMadeByAnotherIsNoSecondPerson(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 6)
		boss := person(t, f, "boss", operators.Bootstrap)
		made := person(t, f, "made", "boss")
		other := person(t, f, "other", operators.Bootstrap)
		shell := order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "cli:root"}, Type: "cli"}

		own := ordertest.Ask(o.OrderNo, "own", 2)
		own.CustomerID, own.Cause = "", boss
		r := f.MustAsk(t, own)
		large := f.MustAsk(t, ordertest.Ask(o.OrderNo, "large", 3))
		if large.ApprovalsNeeded != 2 {
			t.Fatalf("%+v", large)
		}
		refused := func(no string, who order.Cause, what string) {
			t.Helper()
			r, err := approve(t, f, no, who)
			var same *operators.SameError
			if !errors.As(err, &same) && !errors.Is(err, operators.ErrShell) {
				t.Errorf("%s: %v %+v", what, err, r)
			}
			if r, err = f.FindRefund(t.Context(), no); err != nil || r.State != order.RefundStatePending {
				t.Errorf("%s, and it moved: %s %v", what, r.State, err)
			}
		}
		refused(r.OutRefundNo, made, "made by the asker")
		refused(r.OutRefundNo, shell, "the shell, for what an operator asked")
		refused(large.OutRefundNo, shell, "the shell, first of two")
		if _, err := approve(t, f, large.OutRefundNo, made); err != nil {
			t.Fatal(err)
		}
		refused(large.OutRefundNo, boss, "has made the other approver")
		refused(large.OutRefundNo, shell, "the shell, second of two")
		if r, err := approve(t, f, large.OutRefundNo, other); err != nil || r.State != order.RefundStateOwed {
			t.Errorf("two people did not suffice: %v %+v", err, r)
		}
		if r, err := approve(t, f, r.OutRefundNo, other); err != nil || r.State != order.RefundStateOwed {
			t.Errorf("somebody else did not suffice: %v %+v", err, r)
		}
	})
}

// The shell may decide alone what one person may, and propose what another confirms; whom it has made is no other.
func TestShellProposesAndConfirmsNothing(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 6)
		fin := person(t, f, "fin-from-shell", "cli:lena")
		other := person(t, f, "other", operators.Bootstrap)
		shell := order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "cli:root"}, Type: "cli"}
		ask := ordertest.Ask(o.OrderNo, "k1", 2)
		ask.CustomerID, ask.Cause = "", shell
		r := f.MustAsk(t, ask)
		var same *operators.SameError
		if _, err := approve(t, f, r.OutRefundNo, fin); !errors.As(err, &same) {
			t.Errorf("the shell asked, and approves by a token that it made: %v", err)
		}
		if r, err := approve(t, f, r.OutRefundNo, other); err != nil || r.State != order.RefundStateOwed {
			t.Errorf("%v %+v", err, r)
		}
		small := f.PaidOne(t, "r2", "mug", 2)
		c := f.MustAsk(t, ordertest.Ask(small.OrderNo, "k2", 0))
		if r, err := approve(t, f, c.OutRefundNo, shell); err != nil || r.State != order.RefundStateOwed {
			t.Errorf("one approval of what a customer asked: %v %+v", err, r)
		}
	})
}

// An approval of somebody who was let go before the money moved, or who is no finance any more, counts no more.
func TestApprovalCountsWhileItsPersonMayApprove(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, f *ordertest.Fixture) error{
		"disabled": func(t *testing.T, f *ordertest.Fixture) error {
			return operators.Disable(t.Context(), f.DB, "anna", "boss", f.Clock.Now())
		},
		"another role": func(t *testing.T, f *ordertest.Fixture) error {
			return operators.SetRole(t.Context(), f.DB, "anna", operators.Operator, f.Clock.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 50)
				o := f.PaidOne(t, "r1", "mug", 6)
				anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
				carl := person(t, f, "carl", operators.Bootstrap)
				r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 5))
				if _, err := approve(t, f, r.OutRefundNo, anna); err != nil {
					t.Fatal(err)
				}
				if err := end(t, f); err != nil {
					t.Fatal(err)
				}
				for _, event := range []order.RefundEvent{order.RefundEventApprove, order.RefundEventReject} {
					_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo, Event: event,
						Reason: "x", Cause: anna})
					if event == order.RefundEventReject && !errors.Is(err, operators.ErrNoLonger) {
						t.Errorf("%s by one who may no longer: %v", event, err)
					}
				}
				if r, err := approve(t, f, r.OutRefundNo, bea); err != nil || r.State != order.RefundStatePending {
					t.Fatalf("one of two approvals counts: %v %+v", err, r)
				}
				if r, err := approve(t, f, r.OutRefundNo, carl); err != nil || r.State != order.RefundStateOwed {
					t.Errorf("two that count: %v %+v", err, r)
				}
			})
		})
	}
}

// What an approval by an account or token of today is worth is for people to say: they have to hear of it.
func TestFreshApprovalRaisesAnAlarm(t *testing.T) {
	var log *bytes.Buffer
	eachWith(t, func(c *order.Config) {
		twoPeople(c)
		log = new(bytes.Buffer)
		c.Log = slog.New(slog.NewTextHandler(log, nil))
	}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 6)
		old := person(t, f, "old", operators.Bootstrap)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 5))
		if err := operators.Create(t.Context(), f.DB, "new", operators.Finance, operators.Bootstrap,
			f.Clock.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		for _, who := range []order.Cause{old, as("new")} {
			if _, err := approve(t, f, r.OutRefundNo, who); err != nil {
				t.Fatal(err)
			}
		}
		r, err := f.FindRefund(t.Context(), r.OutRefundNo)
		if err != nil || len(r.Approvals) != 2 {
			t.Fatalf("%v %+v", err, r)
		}
		for _, a := range r.Approvals {
			if a.Fresh != (a.Approver == "new") {
				t.Errorf("%+v", a)
			}
		}
		if text := log.String(); !strings.Contains(text, "less than a day: new") ||
			strings.Contains(text, "less than a day: old") {
			t.Errorf("alarms: %s", log)
		}
	})
}

// One person who clicks twice, in two windows and by two processes, is one person.
func TestOnePersonAtOnceIsOneApproval(t *testing.T) {
	races(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 6)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 5))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := approve(t, f, r.OutRefundNo, anna); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		r, err := f.FindRefund(t.Context(), r.OutRefundNo)
		if err != nil || r.State != order.RefundStatePending || len(r.Approvals) != 1 {
			t.Fatalf("%v %+v", err, r)
		}
		if r, err = approve(t, f, r.OutRefundNo, bea); err != nil || r.State != order.RefundStateOwed {
			t.Errorf("%v %+v", err, r)
		}
	})
}

// held makes a payment that fits no order, of so many fen; with an order it has its number and another sum.
func held(t *testing.T, f *ordertest.Fixture, id string, fen payment.Fen, outTradeNo string) {
	t.Helper()
	trade := payment.Trade{OutTradeNo: outTradeNo, State: payment.TradeSuccess, TransactionID: id,
		AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
		Total: fen, PayerTotal: payment.Said(fen), Currency: payment.CNY, SuccessTime: f.Clock.Now()}
	f.WeChat.Put(trade)
	if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
}

// A hundred thousand yuan that fit no order were sent back by one token, and nobody's name stood anywhere. Sending back
// is a refund that a person decides: the limit holds, and the names are on it.
func TestHeldMoneyGoesBackByPeople(t *testing.T) {
	const lots = 10_000_000
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 500_000 }, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		made := person(t, f, "made", "anna")
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		held(t, f, "4290", lots, o.OrderNo+"-01")
		wait := func(who order.Cause) {
			t.Helper()
			if err := f.RefundHeld(t.Context(), "4290", who); !errors.Is(err, order.ErrRefundWaits) {
				t.Fatal(err)
			}
			r, err := f.FindRefund(t.Context(), "R4290")
			if err != nil || r.State != order.RefundStatePending || !r.DueAt.IsZero() || r.Requester != anna.Actor ||
				r.ApprovalsNeeded != 1 {
				t.Fatalf("%v %+v", err, r)
			}
		}
		wait(anna)
		wait(anna) // the same person again is no second one
		var same *operators.SameError
		if err := f.RefundHeld(t.Context(), "4290", made); !errors.As(err, &same) {
			t.Errorf("confirmed by an account of the same person: %v", err)
		}
		if _, err := approve(t, f, "R4290", anna); !errors.Is(err, order.ErrSelfApproval) {
			t.Errorf("approved by the one who sends it back: %v", err)
		}
		f.AssertVerified(t)

		// Rejected it is held again, and can be decided again, under another number.
		reject := order.RefundDecision{OutRefundNo: "R4290", Event: order.RefundEventReject, Reason: "whose is it?",
			Cause: bea}
		if _, err := f.DecideRefund(t.Context(), reject); err != nil {
			t.Fatal(err)
		}
		f.AssertVerified(t)
		if err := f.RefundHeld(t.Context(), "4290", bea); !errors.Is(err, order.ErrRefundWaits) {
			t.Fatal(err)
		}
		if f.RefundState(t, "R4290") != order.RefundStateRejected {
			t.Error(f.RefundState(t, "R4290"))
		}
		if err := f.RefundHeld(t.Context(), "4290", anna); err != nil { // the same act by another is the second word
			t.Fatal(err)
		}
		r, err := f.FindRefund(t.Context(), "R4290-2")
		if err != nil || r.State != order.RefundStateOwed || r.Requester != bea.Actor || len(r.Approvals) != 1 ||
			r.Approvals[0].Approver != "anna" {
			t.Fatalf("%v %+v", err, r)
		}
		if err := f.RefundHeld(t.Context(), "4290", made); err != nil { // done: nothing is asked of anybody
			t.Error(err)
		}
		names := map[string]string{}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			names[e.Event] = e.Actor.ID
		}
		if names["refund.requested"] != "bea" || names["refund.approved"] != "anna" ||
			names["refund.rejected"] != "bea" {
			t.Errorf("the timeline names %v", names)
		}

		// Below the limit one person suffices, by name; nobody else does.
		held(t, f, "4291", 500_000, "01JD4Z0000000000000000000X-01")
		if err := f.RefundHeld(t.Context(), "4291", ordertest.Scheduler); err == nil {
			t.Error("the scheduler decides")
		}
		if err := operators.SetRole(t.Context(), f.DB, "made", operators.Operator, f.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if err := f.RefundHeld(t.Context(), "4291", made); !errors.Is(err, operators.ErrNoLonger) {
			t.Errorf("no finance: %v", err)
		}
		if err := f.RefundHeld(t.Context(), "4291", anna); err != nil {
			t.Fatal(err)
		}
		if r, err := f.FindRefund(t.Context(), "R4291"); err != nil || r.State != order.RefundStateOwed ||
			r.Requester != anna.Actor {
			t.Errorf("%v %+v", err, r)
		}
	})
}

// Without an order nothing is locked: several who send the same money back at once are still one refund, and the number
// of people counts.
func TestHeldMoneyWithoutAnOrderTakesTwoAtOnce(t *testing.T) {
	races(t, func(c *order.Config) { c.RefundTwoPersons = 500_000 }, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		held(t, f, "4292", 600_000, "01JD4Z0000000000000000000X-01")
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				if err := f.RefundHeld(t.Context(), "4292", anna); !errors.Is(err, order.ErrRefundWaits) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if f.RefundState(t, "R4292") != order.RefundStatePending {
			t.Fatal("one person sent it")
		}
		if err := f.RefundHeld(t.Context(), "4292", bea); err != nil ||
			f.RefundState(t, "R4292") != order.RefundStateOwed {
			t.Error(err)
		}
		f.MustLookAtRefund(t, "R4292")
		f.MustSettleRefund(t, f.WeChat.EndRefund("R4292", payment.RefundSuccess))
	})
}

// Whoever was let go judged held money again, and it went to an order or back: every other decision looked the account
// up where it was written.
func TestWhoWasLetGoJudgesNoHeldMoney(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		held(t, f, "4290", 7, "01JD4Z0000000000000000000X-01")
		if err := operators.Disable(t.Context(), f.DB, "anna", "boss", f.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if s, err := f.JudgeHeld(t.Context(), "4290", "mended", anna); !errors.Is(err, operators.ErrNoLonger) {
			t.Errorf("%+v, %v", s, err)
		}
		if s, err := f.JudgeHeld(t.Context(), "4290", "mended", bea); !errors.As(err, new(*order.JudgedError)) {
			t.Errorf("by one who may: %+v, %v", s, err)
		}
	})
}

// Sent back once more after a rejection, held money has another number, and whoever had sent it was not looked up: the
// maker of that account agreed with it, and one person did what takes two.
func TestHeldMoneySentBackAgainTakesTwoPeople(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 500_000 }, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		made, carl := person(t, f, "made", "anna"), person(t, f, "carl", operators.Bootstrap)
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		for id, out := range map[string]string{"4290": o.OrderNo + "-01", "4291": "01JD4Z0000000000000000000X-01"} {
			held(t, f, id, 600_000, out)
			wait := func(no string, who order.Cause) {
				t.Helper()
				if err := f.RefundHeld(t.Context(), id, who); !errors.Is(err, order.ErrRefundWaits) {
					t.Fatal(err)
				}
				if s := f.RefundState(t, no); s != order.RefundStatePending {
					t.Fatalf("%s is %s", no, s)
				}
			}
			wait("R"+id, carl)
			f.MustDecide(t, "R"+id, order.RefundEventReject, bea)
			wait("R"+id+"-2", made)
			var same *operators.SameError
			if err := f.RefundHeld(t.Context(), id, anna); !errors.As(err, &same) {
				t.Errorf("agreed to by who made the account that asks: %v", err)
			}
			if s := f.RefundState(t, "R"+id+"-2"); s != order.RefundStatePending {
				t.Errorf("sent by one person: %s", s)
			}
		}
	})
}

// Who sends held money back is the first of the two. Let go before the other agrees, they count no more.
func TestWhoSendsHeldMoneyBackCountsWhileTheyMay(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, f *ordertest.Fixture) error{
		"disabled": func(t *testing.T, f *ordertest.Fixture) error {
			return operators.Disable(t.Context(), f.DB, "anna", "boss", f.Clock.Now())
		},
		"another role": func(t *testing.T, f *ordertest.Fixture) error {
			return operators.SetRole(t.Context(), f.DB, "anna", operators.Operator, f.Clock.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 500_000 },
				func(t *testing.T, f *ordertest.Fixture) {
					anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
					held(t, f, "4292", 600_000, "01JD4Z0000000000000000000X-01")
					if err := f.RefundHeld(t.Context(), "4292", anna); !errors.Is(err, order.ErrRefundWaits) {
						t.Fatal(err)
					}
					if err := end(t, f); err != nil {
						t.Fatal(err)
					}
					err := f.RefundHeld(t.Context(), "4292", bea)
					if s := f.RefundState(t, "R4292"); s != order.RefundStatePending {
						t.Errorf("sent by one who may: %s, %v", s, err)
					}
				})
		})
	}
}

// The first word that nothing was paid was of somebody who was let go before the second was said.
func TestTheWordOfOneWhoWasLetGoVouchesForNothing(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		carl := person(t, f, "carl", operators.Bootstrap)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.WeChat.Before = loseAll("close", "query")
		_, _ = f.Cancel(t.Context(), cancel(o.OrderNo))
		f.Clock.Advance(32 * time.Minute)
		for _, c := range []struct {
			who    order.Cause
			closes bool
		}{{anna, false}, {bea, false}, {carl, true}} {
			v, err := f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "looked", Cause: c.who})
			if err != nil || v.Closed != c.closes {
				t.Errorf("%s: %v %v", c.who.Actor.ID, v.Closed, err)
			}
			if c.who == anna {
				if err := operators.Disable(t.Context(), f.DB, "anna", "boss", f.Clock.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// Whoever sends held money back above the limit of two is the first of them. That is a person, and one who still may
// when the other agrees: the shell is none, and whoever was dismissed meanwhile needs another in their place.
func TestFirstOfTwoWhoSendBackIsAPerson(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		wrong := f.Restarted(t, func(c *order.Config) { twoPeople(c); c.AppID = "wx0000000000000009" })
		held := func(customer string, n int64) string {
			t.Helper()
			trade, err := f.WeChat.Pay(f.Prepaid(t, f.PlaceOne(t, customer, "mug", n).OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			s, err := wrong.Settle(t.Context(), trade, ordertest.Notified)
			if err != nil || s.Settled != order.SettledHeld {
				t.Fatal(s, err)
			}
			return trade.TransactionID
		}
		ann, thief := person(t, f, "ann", operators.Bootstrap), person(t, f, "thief", operators.Bootstrap)
		bob := person(t, f, "bob", operators.Bootstrap)

		large := held("large", 6)
		if err := f.RefundHeld(t.Context(), large, as("cli:ann")); !errors.Is(err, operators.ErrShell) {
			t.Errorf("the shell first: %v", err)
		}
		if err := f.RefundHeld(t.Context(), large, thief); !errors.Is(err, order.ErrRefundWaits) {
			t.Errorf("a person first: %v", err)
		}
		previous(t, f, "UPDATE operators SET disabled_at = ?, disabled_by = 'boss' WHERE name = 'thief'",
			sqldb.Millis(f.Clock.Now()))
		if err := f.RefundHeld(t.Context(), large, ann); !errors.Is(err, order.ErrRefundWaits) {
			t.Errorf("with one who was dismissed: %v", err)
		}
		if err := f.RefundHeld(t.Context(), large, bob); err != nil {
			t.Errorf("two who may: %v", err)
		}
		if err := f.RefundHeld(t.Context(), held("small", 2), as("cli:ann")); err != nil {
			t.Errorf("the shell, where one suffices: %v", err)
		}
	})
}

// The second word that nothing was paid comes from an account of today: it stands, and people have to hear of it.
func TestFreshVouchRaisesAnAlarm(t *testing.T) {
	var log *bytes.Buffer
	eachWith(t, func(c *order.Config) {
		log = new(bytes.Buffer)
		c.Log = slog.New(slog.NewTextHandler(log, nil))
	}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		old := person(t, f, "old", operators.Bootstrap)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.WeChat.Before = loseAll("close", "query")
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Log(err)
		}
		f.Clock.Advance(32 * time.Minute)
		if err := operators.Create(t.Context(), f.DB, "new", operators.Finance, operators.Bootstrap,
			f.Clock.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		for i, who := range []order.Cause{old, as("new")} {
			v, err := f.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: o.OrderNo, Reason: "looked", Cause: who})
			if err != nil || v.Closed != (i == 1) {
				t.Fatal(v.Closed, err)
			}
		}
		if !strings.Contains(log.String(), "less than a day: new") {
			t.Errorf("nobody hears of it")
		}
	})
}
