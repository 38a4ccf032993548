package order_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// noOrder is an out_trade_no that names no order.
const noOrder = "01JD4Z0000000000000000000X-01"

// resolve decides about a held payment, for the reason "nobody's" unless another is given.
func resolve(t *testing.T, f *ordertest.Fixture, id string, a order.HeldAction, who order.Cause,
	why ...string) (order.ResolvedHeld, error) {
	t.Helper()
	return f.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: id, Action: a, Cause: who,
		Reason: strings.Join(append(why, "nobody's")[:1], "")})
}

// mustResolve fails unless it comes to this.
func mustResolve(t *testing.T, f *ordertest.Fixture, id string, a order.HeldAction, who order.Cause,
	want order.HeldOutcome) {
	t.Helper()
	done, err := resolve(t, f, id, a, who)
	if err != nil || done.Outcome != want || done.TransactionID != id {
		t.Fatalf("%s by %s: %+v, %v, want %s", a, who.Actor.ID, done, err, want)
	}
}

// heldAt has a payment held by a service that is configured wrongly.
func heldAt(t *testing.T, wrong *ordertest.Fixture, trade payment.Trade) {
	t.Helper()
	if s, err := wrong.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
}

// refusedHeld fails unless it is refused as what is decided is, or cannot be.
func refusedHeld(t *testing.T, f *ordertest.Fixture, id string, a order.HeldAction, who order.Cause, why ...string) {
	t.Helper()
	done, err := resolve(t, f, id, a, who, why...)
	if !errors.As(err, new(*order.HeldError)) && !errors.As(err, new(*order.JudgedError)) &&
		!errors.As(err, new(*order.RefundRefusedError)) {
		t.Errorf("%s by %s %s: %+v, %v", a, who.Actor.ID, why, done, err)
	}
}

// listed gives the payments that are held, and those that are written off, by their numbers.
func listed(t *testing.T, f *ordertest.Fixture) (held, off []order.HeldPayment) {
	t.Helper()
	held, _, err := f.ListHeld(t.Context(), "", 0)
	if err == nil {
		off, _, err = f.ListWrittenOff(t.Context(), "", 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return held, off
}

// Money that nobody claims stayed in the list of what waits for a person for ever. Two people write it off, whatever
// the sum; neither one person alone, nor by a second account, nor the shell can.
func TestHeldMoneyIsWrittenOffByTwo(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		made, carl := person(t, f, "made", "anna"), person(t, f, "carl", operators.Bootstrap)
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		held(t, f, "4290", 77, o.OrderNo+"-01")
		held(t, f, "4291", 5, noOrder)
		for _, id := range []string{"4290", "4291"} {
			for _, shell := range []string{"cli:root", operators.Bootstrap} {
				if done, err := resolve(t, f, id, order.HeldWriteOff, as(shell)); !errors.Is(err, operators.ErrShell) {
					t.Fatalf("the first of two is %s: %+v, %v", shell, done, err)
				}
			}
			if _, err := resolve(t, f, id, order.HeldWriteOff, ordertest.Scheduler); err == nil {
				t.Error("the scheduler decides")
			}
			mustResolve(t, f, id, order.HeldWriteOff, anna, order.HeldWaits)
			mustResolve(t, f, id, order.HeldWriteOff, anna, order.HeldWaits)
			refusedHeld(t, f, id, order.HeldWriteOff, anna, "another reason")
			for _, who := range []order.Cause{made, as("cli:root")} {
				done, err := resolve(t, f, id, order.HeldWriteOff, who)
				if !errors.Is(err, operators.ErrShell) && !errors.As(err, new(*operators.SameError)) {
					t.Errorf("the second of two is %s: %+v, %v", who.Actor.ID, done, err)
				}
			}
		}
		if waiting, off := listed(t, f); len(waiting) != 2 || len(off) != 0 || waiting[0].WriteOff.Done() ||
			waiting[0].WriteOff.ProposedBy != "anna" {
			t.Fatalf("%+v %+v", waiting, off)
		}
		f.AssertVerified(t)
		for _, id := range []string{"4290", "4291"} {
			mustResolve(t, f, id, order.HeldWriteOff, bea, order.HeldWrittenOff)
			mustResolve(t, f, id, order.HeldWriteOff, bea, order.HeldWrittenOff) // a repeat, of either
			mustResolve(t, f, id, order.HeldWriteOff, anna, order.HeldWrittenOff)
			refusedHeld(t, f, id, order.HeldWriteOff, bea, "another reason")
			refusedHeld(t, f, id, order.HeldWriteOff, carl)
			for _, who := range []order.Cause{anna, bea, carl} {
				refusedHeld(t, f, id, order.HeldRefund, who)
				refusedHeld(t, f, id, order.HeldApply, who)
				if err := f.RefundHeld(t.Context(), id, who); !errors.As(err, new(*order.RefundRefusedError)) {
					t.Errorf("sent back: %v", err)
				}
				if s, err := f.JudgeHeld(t.Context(), id, "mended", who); !errors.As(err, new(*order.JudgedError)) {
					t.Errorf("judged: %+v, %v", s, err)
				}
			}
		}
		waiting, off := listed(t, f)
		want := order.WriteOff{Amount: 77, ProposedBy: "anna", ProposedWhy: "nobody's", ProposedAt: f.Clock.Now(),
			WrittenOffBy: "bea", WrittenOffWhy: "nobody's", WrittenOffAt: f.Clock.Now()}
		if len(waiting) != 0 || len(off) != 2 || off[0].WriteOff != want || off[0].Reason != "amount" {
			t.Errorf("%+v %+v", waiting, off)
		}
		if b, err := f.HeldBacklog(t.Context()); err != nil || b.Count != 0 {
			t.Errorf("%+v, %v", b, err)
		}
		hits, err := f.Search(t.Context(), "4291")
		if err != nil || len(hits) != 1 || hits[0].Outcome != order.SettledWrittenOff {
			t.Errorf("%+v, %v", hits, err)
		}
		saidBy(t, f, o.OrderNo, map[string]string{"payment.write_off_said": "anna", "payment.written_off": "bea"})
		// Its trade has taken its money: the order ends, and its stock is sold again.
		f.Clock.Advance(31 * time.Minute)
		expireUntil(t, f, o.OrderNo, order.StateClosed, time.Hour)
		if f.Available(t, "mug") != 1 {
			t.Error("its unit is not back")
		}
	})
}

// saidBy fails unless each of these events is in the timeline once, by this person.
func saidBy(t *testing.T, f *ordertest.Fixture, orderNo string, want map[string]string) {
	t.Helper()
	events, err := f.Timeline(t.Context(), orderNo)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, e := range events {
		if want[e.Event] != "" {
			said[e.Event] += e.Actor.ID
			if e.Detail["reason"] != "nobody's" {
				t.Errorf("%+v", e)
			}
		}
	}
	for event, who := range want {
		if said[event] != who {
			t.Errorf("%s is by %q, want %q", event, said[event], who)
		}
	}
}

// The word of somebody who was let go before a second person agreed is nobody's: it takes two who may.
func TestAWriteOffByOneWhoWasLetGoWaits(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		carl, dora := person(t, f, "carl", operators.Bootstrap), person(t, f, "dora", operators.Bootstrap)
		held(t, f, "4291", 5, noOrder)
		mustResolve(t, f, "4291", order.HeldWriteOff, anna, order.HeldWaits)
		if err := operators.Disable(t.Context(), f.DB, "anna", "boss", f.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if done, err := resolve(t, f, "4291", order.HeldWriteOff, anna); !errors.Is(err, operators.ErrNoLonger) {
			t.Errorf("%+v, %v", done, err)
		}
		mustResolve(t, f, "4291", order.HeldWriteOff, bea, order.HeldWaits)
		if err := operators.SetRole(t.Context(), f.DB, "bea", operators.Operator, f.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		mustResolve(t, f, "4291", order.HeldWriteOff, carl, order.HeldWaits)
		mustResolve(t, f, "4291", order.HeldWriteOff, dora, order.HeldWrittenOff)
		if _, off := listed(t, f); len(off) != 1 || off[0].WriteOff.ProposedBy != "carl" {
			t.Errorf("%+v", off)
		}
	})
}

// A proposal is about the money as it was: one that was made before somebody sent it back, or before a part of it went
// back elsewhere, is nobody's word about what is left.
func TestAProposedWriteOffIsOfWhatIsLeft(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 250 }, func(t *testing.T, f *ordertest.Fixture) {
		h := newHeldRest(t, f)
		id := h.trade.TransactionID
		mustResolve(t, f, id, order.HeldWriteOff, ordertest.Finance, order.HeldWaits)
		f.Clock.Advance(time.Second)
		r := h.sendBack(ordertest.Finance, true) // it is owed, and no longer written off
		refusedHeld(t, f, id, order.HeldWriteOff, ordertest.Finance2)
		h.MustDecide(t, r.OutRefundNo, order.RefundEventReject, ordertest.Finance2)
		f.Clock.Advance(time.Second)
		mustResolve(t, f, id, order.HeldWriteOff, ordertest.Finance2, order.HeldWaits)
		h.elsewhere("PLATFORM1", 100, payment.RefundProcessing)
		refusedHeld(t, f, id, order.HeldWriteOff, ordertest.Finance) // nobody knows what is left
		h.told("PLATFORM1", payment.RefundSuccess)
		f.Clock.Advance(time.Second)
		mustResolve(t, f, id, order.HeldWriteOff, ordertest.Finance, order.HeldWaits) // it was 300, and is 200
		mustResolve(t, f, id, order.HeldWriteOff, ordertest.Finance2, order.HeldWrittenOff)
		if _, off := listed(t, f); len(off) != 1 || off[0].WriteOff.Amount != 200 {
			t.Errorf("%+v", off)
		}
	})
}

// WeChat Pay had closed a refund that was made elsewhere, and pays it after the first person's word: that was about
// more than is left.
func TestAProposedWriteOffIsOfItsSum(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		h := newHeldRest(t, f)
		h.elsewhere("PLATFORM1", 100, payment.RefundClosed)
		f.Clock.Advance(time.Second)
		mustResolve(t, f, h.trade.TransactionID, order.HeldWriteOff, ordertest.Finance, order.HeldWaits)
		paid := h.WeChat.EndRefund("PLATFORM1", payment.RefundSuccess)
		paid.Status, paid.MchID = payment.RefundSuccess, ordertest.MchID
		h.MustSettleRefund(t, paid)
		mustResolve(t, f, h.trade.TransactionID, order.HeldWriteOff, ordertest.Finance2, order.HeldWaits)
		mustResolve(t, f, h.trade.TransactionID, order.HeldWriteOff, ordertest.Finance, order.HeldWrittenOff)
		if _, off := listed(t, f); len(off) != 1 || off[0].WriteOff.Amount != 200 {
			t.Errorf("%+v", off)
		}
	})
}

// All of it went back on the merchant platform: nothing is left to be sent back or applied, and the list had it for
// ever. And what is told after the write-off is known, and counts as of money that is held.
func TestHeldMoneyThatWentBackElsewhereIsWrittenOff(t *testing.T) {
	for _, first := range []string{"it went back", "it is written off"} {
		t.Run(first, func(t *testing.T) {
			eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
				h := newHeldRest(t, f)
				want := payment.Fen(300)
				if first == "it went back" {
					h.elsewhere("PLATFORM1", 300, payment.RefundSuccess)
					f.Clock.Advance(time.Second)
					want = 0
				}
				for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
					if _, err := resolve(t, f, h.trade.TransactionID, order.HeldWriteOff, who); err != nil {
						t.Fatal(err)
					}
				}
				if _, off := listed(t, f); len(off) != 1 || off[0].WriteOff.Amount != want {
					t.Errorf("%+v", off)
				}
				if first == "it is written off" {
					h.elsewhere("PLATFORM1", 300, payment.RefundSuccess)
					r, err := f.FindRefund(t.Context(), "PLATFORM1")
					if err != nil || r.State != order.RefundStateHeld || r.OrderNo != h.order {
						t.Errorf("%+v, %v", r, err)
					}
					trade := h.trade
					trade.State = payment.TradeRefund // and the bill, or a query, has the payment once more
					if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil ||
						s.Settled != order.SettledRepeated {
						t.Errorf("%+v, %v", s, err)
					}
				}
				refusedHeld(t, f, h.trade.TransactionID, order.HeldRefund, ordertest.Finance)
				f.Clock.Advance(31 * time.Minute)
				expireUntil(t, f, h.order, order.StateClosed, time.Hour)
			})
		})
	}
}

// Several decide about the same money at once, by several processes: one of them is done, and its money counts once.
func TestOneDecisionAboutHeldMoneyWins(t *testing.T) {
	races(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		carl, dora := person(t, f, "carl", operators.Bootstrap), person(t, f, "dora", operators.Bootstrap)
		f.SKU(t, "mug", 50)
		other := f.Restarted(t, byItself)
		for i := range 12 {
			o := f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
			trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			wrong := f.Restarted(t, func(c *order.Config) { byItself(c); c.AppID = "wx0000000000000009" })
			id, odd := trade.TransactionID, fmt.Sprint("55", i)
			heldAt(t, wrong, trade)
			held(t, f, odd, 7, noOrder)
			for _, id := range []string{id, odd} {
				if i%2 == 0 { // else both words come at once
					mustResolve(t, f, id, order.HeldWriteOff, anna, order.HeldWaits)
				}
				f.Clock.Advance(time.Second)
				var all sync.WaitGroup
				var won [3]atomic.Int32
				act := func(s *ordertest.Fixture, a order.HeldAction, who order.Cause) {
					all.Go(func() {
						done, err := s.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: id, Action: a,
							Reason: "nobody's", Cause: who})
						switch {
						case err == nil && done.Outcome == order.HeldApplied:
							won[0].Add(1)
						case err == nil && done.Outcome == order.HeldOwed:
							won[1].Add(1)
						case err == nil && done.Outcome == order.HeldWrittenOff:
							won[2].Add(1)
						case errors.As(err, new(*order.BrokenError)), errors.As(err, new(*order.DamagedError)):
							t.Errorf("%s: %v", a, err)
						}
					})
				}
				act(f, order.HeldWriteOff, bea)
				act(other, order.HeldWriteOff, dora)
				act(other, order.HeldRefund, carl)
				if id != odd {
					act(f, order.HeldApply, anna)
				}
				all.Wait()
				kinds := 0
				for j := range won {
					if won[j].Load() > 0 {
						kinds++
					}
				}
				if kinds != 1 {
					t.Errorf("%s: applied %d, owed %d, written off %d", id, won[0].Load(), won[1].Load(), won[2].Load())
				}
			}
		}
	})
}

// A lost answer is asked for again: the same act by the same person is told what it came to, and everything else that
// the payment is decided.
func TestARepeatedDecisionAboutHeldMoneyIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		f.SKU(t, "mug", 5)
		wrong := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000009" })
		heldFor := func(key string) (string, string) {
			o := f.PlaceOne(t, key, "mug", 1)
			trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			heldAt(t, wrong, trade)
			return o.OrderNo, trade.TransactionID
		}
		paid, id := heldFor("applied")
		want := order.ResolvedHeld{TransactionID: id, OrderNo: paid, Outcome: order.HeldApplied}
		for range 3 {
			if done, err := resolve(t, f, id, order.HeldApply, anna); err != nil || done != want {
				t.Fatalf("%+v, %v", done, err)
			}
		}
		refusedHeld(t, f, id, order.HeldApply, anna, "another reason")
		refusedHeld(t, f, id, order.HeldApply, bea)
		refusedHeld(t, f, id, order.HeldRefund, anna)
		refusedHeld(t, f, id, order.HeldWriteOff, anna)

		// One whose order had ended goes back, and is told so again.
		late, id := heldFor("late")
		f.Clock.Advance(31 * time.Minute)
		_ = wrong.Expire(t.Context(), late, ordertest.Scheduler)
		if err := f.CloseDone(t.Context(), late,
			map[string]string{"close": "accepted", "out_trade_no": late + "-01"}); err != nil {
			t.Fatal(err)
		}
		want = order.ResolvedHeld{TransactionID: id, OrderNo: late, Outcome: order.HeldOwed, Reason: order.ReasonLate}
		for range 2 {
			if done, err := resolve(t, f, id, order.HeldApply, anna); err != nil || done != want {
				t.Fatalf("%+v, %v", done, err)
			}
		}
		refusedHeld(t, f, id, order.HeldApply, bea)

		for i, outTradeNo := range []string{noOrder, paid + "-01"} { // sent back, without an order and with one
			id := fmt.Sprint("66", i)
			held(t, f, id, 5, outTradeNo)
			mustResolve(t, f, id, order.HeldRefund, anna, order.HeldOwed)
			mustResolve(t, f, id, order.HeldRefund, anna, order.HeldOwed)
			refusedHeld(t, f, id, order.HeldRefund, anna, "another reason")
			refusedHeld(t, f, id, order.HeldRefund, bea)
			refusedHeld(t, f, id, order.HeldApply, anna)
			refusedHeld(t, f, id, order.HeldWriteOff, anna)
		}
	})
}

// Two who send the same request at once, as a client does whose answer is late, are told the same.
func TestTheSameDecisionAtOnceIsOne(t *testing.T) {
	races(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		anna := person(t, f, "anna", operators.Bootstrap)
		f.SKU(t, "mug", 50)
		wrong := f.Restarted(t, func(c *order.Config) { byItself(c); c.AppID = "wx0000000000000009" })
		for i := range 6 {
			o := f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
			trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			heldAt(t, wrong, trade)
			odd := fmt.Sprint("77", i)
			held(t, f, odd, 5, noOrder)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() { mustResolve(t, f, trade.TransactionID, order.HeldApply, anna, order.HeldApplied) })
				all.Go(func() { mustResolve(t, f, odd, order.HeldWriteOff, anna, order.HeldWaits) })
			}
			all.Wait()
		}
	})
}
