package order_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

func eachWith(t *testing.T, shape func(*order.Config), test func(t *testing.T, f *ordertest.Fixture)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { test(t, ordertest.NewWith(t, db, shape)) })
}

// races is eachWith at every isolation level.
func races(t *testing.T, shape func(*order.Config), test func(t *testing.T, f *ordertest.Fixture)) {
	t.Helper()
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) { test(t, ordertest.NewWith(t, db, shape)) })
}

// byItself approves every refund, so that a test is about what comes after.
func byItself(c *order.Config) { c.RefundAutoApprove = payment.MaxFen }

func fen(n payment.Fen) *payment.Fen { return &n }

// Without it no refund works: asked for, approved, sent once, processed, paid back, stock on the shelf.
func TestRefundRoad(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 3)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 1))
		if r.State != order.RefundStatePending || r.Amount != 100 || f.State(t, o.OrderNo) != order.StateRefunding {
			t.Fatalf("%+v, order %s", r, f.State(t, o.OrderNo))
		}
		if err := f.Refund(t.Context(), r.OutRefundNo, ordertest.Scheduler); err != nil || f.WeChat.Refunded != 0 {
			t.Fatal("an unapproved refund was sent", err)
		}
		if r = f.MustDecide(t, r.OutRefundNo, order.RefundEventApprove,
			ordertest.Finance); r.State != order.RefundStateOwed || len(f.Tasks.Refunds[r.OutRefundNo]) == 0 {
			t.Fatalf("approved: %+v, tasks %v", r, f.Tasks.Refunds)
		}
		f.MustLookAtRefund(t, r.OutRefundNo)
		if f.RefundState(t, r.OutRefundNo) != order.RefundStateProcessing || f.Available(t, "mug") != 2 {
			t.Fatalf("sent: %s, %d on the shelf before the money went back", f.RefundState(t, r.OutRefundNo),
				f.Available(t, "mug"))
		}
		f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess)
		f.MustLookAtRefund(t, r.OutRefundNo) // the poll
		if f.RefundState(t, r.OutRefundNo) != order.RefundStateSucceeded || f.Available(t, "mug") != 3 ||
			f.State(t, o.OrderNo) != order.StatePaid {
			t.Fatalf("ended: %s, %d on the shelf, order %s", f.RefundState(t, r.OutRefundNo), f.Available(t, "mug"),
				f.State(t, o.OrderNo))
		}
		rest := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k2", 0)) // all that is left
		if rest.Amount != 200 || !slices.Equal(rest.Items, []stock.Line{{SkuID: "mug", Quantity: 2}}) {
			t.Fatalf("the rest is %+v", rest)
		}
		f.MustDecide(t, rest.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
		f.Clock.Advance(2 * time.Minute)
		f.MustLookAtRefund(t, rest.OutRefundNo)
		f.MustSettleRefund(t, f.WeChat.EndRefund(rest.OutRefundNo, payment.RefundSuccess))
		if f.State(t, o.OrderNo) != order.StateRefunded || f.Available(t, "mug") != 5 || f.WeChat.Refunded != 2 {
			t.Fatalf("order %s, %d on the shelf, %d calls", f.State(t, o.OrderNo), f.Available(t, "mug"),
				f.WeChat.Refunded)
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		var names []string
		for _, e := range events {
			names = append(names, e.Event)
		}
		want := "refund.requested refund.approved refund.sent refund.accepted refund.succeeded"
		if err != nil || strings.Count(strings.Join(names, " "), want) != 2 {
			t.Fatalf("%v: %v", err, names)
		}
	})
}

// hyperswitch #13182 and yudao's updateOrderRefundPrice (peers 16, 41): checked first and written later, parallel
// partial refunds together exceed the payment. Exactly those that fit must be taken.
func TestParallelPartialRefundsNeverExceedThePayment(t *testing.T) {
	races(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		byLines, byAmount := f.PaidOne(t, "r1", "mug", 3), f.PaidOne(t, "r2", "mug", 5)
		var lines, amounts atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := f.AskRefund(t.Context(), ordertest.Ask(byLines.OrderNo, fmt.Sprint("l", i), 1))
				var exceeds *order.ReturnExceedsError
				if err == nil {
					lines.Add(1)
				} else if !errors.As(err, &exceeds) {
					t.Errorf("by lines: %v", err)
				}
			})
			wg.Go(func() {
				r := ordertest.Ask(byAmount.OrderNo, fmt.Sprint("a", i), 0)
				r.Amount = fen(120)
				_, err := f.AskRefund(t.Context(), r)
				var exceeds *order.RefundExceedsError
				if err == nil {
					amounts.Add(1)
				} else if !errors.As(err, &exceeds) || exceeds.Left != 20 || !exceeds.InProgress {
					t.Errorf("by amount: %v", err)
				}
			})
		}
		wg.Wait()
		if lines.Load() != 3 || amounts.Load() != 4 {
			t.Fatalf("%d of 8 × 1 of 3 lines, %d of 8 × 120 of 500 fen", lines.Load(), amounts.Load())
		}
		for _, o := range []order.Order{byLines, byAmount} {
			rows, _, err := f.ListRefunds(t.Context(), order.RefundFilter{OrderNo: o.OrderNo})
			if err != nil {
				t.Fatal(err)
			}
			for range rows { // one a minute
				f.Clock.Advance(2 * time.Minute)
				for _, r := range rows {
					_ = f.Refund(t.Context(), r.OutRefundNo, ordertest.Scheduler) // only one of them claims it
				}
			}
			for _, r := range rows {
				f.MustSettleRefund(t, f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
			}
		}
		if f.State(t, byLines.OrderNo) != order.StateRefunded || f.State(t, byAmount.OrderNo) != order.StatePaid ||
			f.Available(t, "mug") != 5 {
			t.Fatalf("%s, %s, %d on the shelf", f.State(t, byLines.OrderNo), f.State(t, byAmount.OrderNo),
				f.Available(t, "mug"))
		}
	})
}

// The key of a request is what makes it one request: yudao rejects the repeat (peers 15) and leaves a dead end.
func TestRefundRequestIsIdempotent(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o, other := f.PaidOne(t, "r1", "mug", 2), f.PaidOne(t, "r2", "mug", 2)
		var replayed atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				a, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k", 1))
				if err != nil || a.Refund.Amount != 100 || a.Refund.State != order.RefundStateOwed {
					t.Errorf("%+v, %v", a, err)
				}
				if a.Replayed {
					replayed.Add(1)
				}
			})
		}
		wg.Wait()
		if replayed.Load() != 15 {
			t.Fatalf("%d replays of 16", replayed.Load())
		}
		no := f.FirstRefund(t, o.OrderNo)
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		a, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k", 1))
		if err != nil || !a.Replayed || a.Refund.State != order.RefundStateOwed || a.Refund.Version != 1 {
			t.Fatalf("a repeat after the end: %+v, %v", a, err)
		}
		for _, r := range []order.AskRefund{ordertest.Ask(o.OrderNo, "k", 2), ordertest.Ask(other.OrderNo, "k", 1)} {
			if _, err := f.AskRefund(t.Context(), r); !errors.Is(err, order.ErrRequestReused) {
				t.Errorf("another request under the same key: %v", err)
			}
		}
	})
}

// Every refusal must come before anything is written, with a reason that helps.
func TestRefundRefusals(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o, unpaid := f.PaidOne(t, "r1", "mug", 2), f.PlaceOne(t, "r2", "mug", 1)
		tooMuch, none := ordertest.Ask(o.OrderNo, "a", 1), ordertest.Ask(o.OrderNo, "b", 1)
		tooMuch.Amount = fen(101)
		none.Lines = []stock.Line{{SkuID: "cup", Quantity: 1}}
		more := ordertest.Ask(o.OrderNo, "c", 0)
		more.Amount = fen(201)
		foreign, bad := ordertest.Ask(o.OrderNo, "d", 1), ordertest.Ask(o.OrderNo, "", -1)
		foreign.CustomerID = "d"
		bad.Reason, bad.Lines = "", []stock.Line{{SkuID: "mug", Quantity: -1}}
		for name, c := range map[string]struct {
			ask  order.AskRefund
			want any
		}{
			"more than the lines cost": {tooMuch, new(*order.ValidationError)},
			"a SKU of another order":   {none, new(*order.ReturnExceedsError)},
			"more than was paid":       {more, new(*order.RefundExceedsError)},
			"another's order":          {foreign, order.ErrNotFound},
			"nonsense":                 {bad, new(*order.ValidationError)},
			"not paid":                 {ordertest.Ask(unpaid.OrderNo, "e", 1), new(*order.RefusedError)},
		} {
			_, err := f.AskRefund(t.Context(), c.ask)
			if target, ok := c.want.(error); ok && !errors.Is(err, target) || !ok && !errors.As(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.Clock.Advance(365 * 24 * time.Hour)
		_, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "f", 1))
		if !errors.Is(err, order.ErrRefundTooOld) {
			t.Errorf("after a year: %v", err)
		}
		if rows, _, err := f.ListRefunds(t.Context(), order.RefundFilter{}); err != nil || len(rows) != 0 ||
			f.State(t, o.OrderNo) != order.StatePaid {
			t.Errorf("refused, yet %v %v", rows, err)
		}
	})
}

// WeChat takes 50 refunds of a payment and one a minute; both must hold before the call, whoever calls.
func TestWeChatsLimitsHoldBeforeTheCall(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 1)
		var nos []string
		for i := range 50 {
			r := ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 0)
			r.Amount = fen(1)
			nos = append(nos, f.MustAsk(t, r).OutRefundNo)
		}
		r := ordertest.Ask(o.OrderNo, "k50", 0)
		r.Amount = fen(1)
		if _, err := f.AskRefund(t.Context(), r); !errors.Is(err, order.ErrTooManyRefunds) {
			t.Errorf("the 51st: %v", err)
		}
		var wg sync.WaitGroup
		for _, no := range nos {
			wg.Go(func() { _ = f.Refund(t.Context(), no, ordertest.Scheduler) }) // all at once: one claims it
		}
		wg.Wait()
		if f.WeChat.Refunded != 1 {
			t.Fatalf("%d calls within a minute", f.WeChat.Refunded)
		}
		for range 3 {
			before := f.WeChat.Refunded
			f.Clock.Advance(time.Minute + time.Second)
			for _, no := range nos {
				err := f.Refund(t.Context(), no, ordertest.Scheduler)
				if err != nil && !errors.As(err, new(*order.NotDueError)) {
					t.Fatal(err)
				}
			}
			if f.WeChat.Refunded != before+1 {
				t.Fatalf("%d calls in a minute", f.WeChat.Refunded-before)
			}
		}
	})
}

// A customer who asks for a large sum in small parts must not get around approval, nor one person around the second.
func TestPartsOfARefundAreItsSum(t *testing.T) {
	eachWith(t, func(c *order.Config) {
		c.RefundAutoApprove, c.RefundTwoPersons = 100, 300
	}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 8)
		for i, want := range []int{0, 1, 1, 1, 2} { // 100, 200, 200 again, 300, 400
			r := f.MustAsk(t, ordertest.Ask(o.OrderNo, fmt.Sprint("part", i), 1))
			if r.ApprovalsNeeded != want {
				t.Errorf("part %d of 100 fen needs %d approvals, want %d", i+1, r.ApprovalsNeeded, want)
			}
			if i == 1 { // what was rejected counts no more
				if _, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
					Event: order.RefundEventReject, Reason: "no", Cause: ordertest.Finance}); err != nil {
					t.Fatal(err)
				}
			}
		}
		other := f.PaidOne(t, "r2", "mug", 1)
		if r := f.MustAsk(t, ordertest.Ask(other.OrderNo, "other", 1)); r.ApprovalsNeeded != 0 {
			t.Errorf("a refund of another order: %+v", r)
		}
	})
}

// Approver ≠ requester, two persons above the limit, and the approval of one person counts once.
func TestApprovals(t *testing.T) {
	eachWith(t, func(c *order.Config) {
		c.RefundAutoApprove, c.RefundTwoPersons = 100, 200
	}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		o := f.PaidOne(t, "r1", "mug", 6)
		small := f.PaidOne(t, "r0", "mug", 1)
		if r := f.MustAsk(t, ordertest.Ask(small.OrderNo, "small", 1)); r.State != order.RefundStateOwed {
			t.Errorf("a small one waits: %+v", r)
		}
		own := ordertest.Ask(o.OrderNo, "own", 2)
		own.CustomerID, own.Cause = "", ordertest.Finance
		r := f.MustAsk(t, own)
		approve := order.RefundDecision{OutRefundNo: r.OutRefundNo, Event: order.RefundEventApprove, Reason: "ok",
			Cause: ordertest.Finance}
		if _, err := f.DecideRefund(t.Context(), approve); !errors.Is(err, order.ErrSelfApproval) {
			t.Errorf("approved by its asker: %v", err)
		}
		if r = f.MustDecide(t, r.OutRefundNo, order.RefundEventApprove,
			ordertest.Finance2); r.State != order.RefundStateOwed {
			t.Errorf("one other person suffices: %+v", r)
		}
		large := f.MustAsk(t, ordertest.Ask(o.OrderNo, "large", 3))
		for range 2 {
			if r := f.MustDecide(t, large.OutRefundNo, order.RefundEventApprove,
				ordertest.Finance); r.State != order.RefundStatePending || len(r.Approvals) != 1 {
				t.Errorf("one person approved a large one: %+v", r)
			}
		}
		if r := f.MustDecide(t, large.OutRefundNo, order.RefundEventApprove,
			ordertest.Finance2); r.State != order.RefundStateOwed {
			t.Errorf("two persons did not: %+v", r)
		}
		var refused *order.RefundRefusedError
		reject := order.RefundDecision{OutRefundNo: large.OutRefundNo, Event: order.RefundEventReject, Reason: "no",
			Cause: ordertest.Finance}
		if _, err := f.DecideRefund(t.Context(), reject); !errors.As(err, &refused) || refused.Why == "" {
			t.Errorf("rejected after the approval: %v", err)
		}
	})
}

// A rejected refund must give order and sum free again, and take no stock.
func TestRejectedRefundFreesTheOrder(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 2)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 2))
		if r = f.MustDecide(t, r.OutRefundNo, order.RefundEventReject,
			ordertest.Finance); r.State != order.RefundStateRejected || r.DecidedWhy != "seen" {
			t.Fatalf("%+v", r)
		}
		if f.State(t, o.OrderNo) != order.StatePaid || f.Available(t, "mug") != 3 {
			t.Fatalf("order %s, %d on the shelf", f.State(t, o.OrderNo), f.Available(t, "mug"))
		}
		again := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k2", 2))
		if again.OutRefundNo == r.OutRefundNo || again.Amount != 200 {
			t.Fatalf("%+v", again)
		}
	})
}

// lilishop (peers 25) swallows the exception and leaves no trace of a refund whose call failed; jeepay books it as
// failed. No answer, a lost answer, 429: the outcome is unknown, and only the same number again is safe. Whatever is
// lost how often, WeChat's ledger must show one refund.
func TestUnknownOutcomeAsksAgainWithTheSameNumber(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		for i, lose := range []func(op string) (before, after error){
			func(op string) (error, error) { return ordertest.ErrLost(op), nil },
			func(op string) (error, error) { return nil, ordertest.ErrLost(op) },
			func(op string) (error, error) {
				return nil, &payment.GatewayError{Op: op, Kind: payment.KindRateLimited, Status: 429}
			},
		} {
			o := f.PaidOne(t, fmt.Sprint("r", i), "mug", 1)
			r := f.MustAsk(t, ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 1))
			f.WeChat.Before = func(op, _ string) error { e, _ := lose(op); return e }
			f.WeChat.After = func(op, _ string) error { _, e := lose(op); return e }
			for range 4 {
				f.MustLookAtRefund(t, r.OutRefundNo)
				if got := f.RefundState(t, r.OutRefundNo); got != order.RefundStateOwed {
					t.Fatalf("loss %d: without an answer the refund is %s", i, got)
				}
			}
			f.WeChat.Before, f.WeChat.After = nil, nil
			f.MustLookAtRefund(t, r.OutRefundNo)
			if got := f.RefundState(t, r.OutRefundNo); got != order.RefundStateProcessing ||
				len(f.WeChat.Refunds()) != i+1 {
				t.Fatalf("loss %d: %s, %d refunds at WeChat", i, got, len(f.WeChat.Refunds()))
			}
			if row, err := f.FindRefund(t.Context(), r.OutRefundNo); err != nil || row.Problem != "" ||
				row.SentAt.IsZero() {
				t.Fatalf("%+v %v", row, err)
			}
		}
	})
}

// WeChat refuses a repeat whose parameters differ: a deployment that moved the notify URL between two calls of a refund
// must not change what is sent.
func TestRepeatedCallHasTheFirstParameters(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		f.WeChat.After = func(op, _ string) error { return ordertest.ErrLost(op) }
		f.MustLookAtRefund(t, no)
		f.WeChat.After = nil
		moved := f.Restarted(t, func(c *order.Config) {
			byItself(c)
			c.RefundNotifyURL = "https://new.example/wechat/v3/notify/refund"
		})
		var calls []string
		f.WeChat.Before = func(op, _ string) error { calls = append(calls, op); return nil }
		moved.MustLookAtRefund(t, no)
		if f.RefundState(t, no) != order.RefundStateProcessing || !slices.Equal(calls, []string{"refund"}) {
			t.Errorf("%s after %v", f.RefundState(t, no), calls)
		}

		f.WeChat.Refuse = "PARAM_ERROR" // of the old URL, say: a refusal leaves no parameters at WeChat
		refused := f.MustAsk(t, ordertest.Ask(f.PaidOne(t, "r2", "mug", 1).OrderNo, "k2", 1)).OutRefundNo
		f.MustLookAtRefund(t, refused)
		f.WeChat.Refuse = ""
		moved.MustDecide(t, refused, order.RefundEventRetry, ordertest.Finance)
		moved.MustLookAtRefund(t, refused)
		if row, err := f.FindRefund(t.Context(), refused); err != nil || row.State != order.RefundStateProcessing ||
			row.NotifyURL != "https://new.example/wechat/v3/notify/refund" {
			t.Errorf("%+v, %v", row, err)
		}
	})
}

// yudao's sync (peers 14) takes "not exists" of a call still in flight for a failure; the later success throws.
// Not known must move nothing while a call may be on its way, and the callback that overtakes the answer must count.
func TestSyncDuringASlowRefundCall(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1))
		slow := make(chan struct{})
		entered := make(chan struct{})
		f.WeChat.Before = func(op, _ string) error {
			if op == "refund" {
				close(entered)
				<-slow
			}
			return nil
		}
		done := make(chan error, 1)
		go func() { done <- f.Refund(t.Context(), r.OutRefundNo, ordertest.Scheduler) }()
		<-entered
		var later *order.NotDueError
		if err := f.Refund(t.Context(), r.OutRefundNo, ordertest.Scheduler); !errors.As(err, &later) {
			t.Errorf("a second caller while the first is on its way: %v", err)
		}
		close(slow)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.WeChat.Before = nil
		f.MustSettleRefund(t, f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
		if f.RefundState(t, r.OutRefundNo) != order.RefundStateSucceeded || f.WeChat.Refunded != 1 {
			t.Fatalf("%s, %d calls", f.RefundState(t, r.OutRefundNo), f.WeChat.Refunded)
		}
	})
}

// jeepay (peers 21) closes what is in process after two hours. A bank card takes three days, and must end right.
func TestRefundThatTakesThreeDays(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1))
		f.MustLookAtRefund(t, r.OutRefundNo)
		begin, polls := f.Clock.Now(), 0
		for f.Clock.Now().Sub(begin) < 72*time.Hour {
			f.MustLookAtRefund(t, r.OutRefundNo)
			if polls++; f.RefundState(t, r.OutRefundNo) != order.RefundStateProcessing ||
				f.State(t, o.OrderNo) != order.StateRefunding {
				t.Fatalf("after %s: %s", f.Clock.Now().Sub(begin), f.RefundState(t, r.OutRefundNo))
			}
		}
		if polls < 100 || polls > 200 {
			t.Errorf("%d polls in three days", polls)
		}
		f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess)
		f.MustLookAtRefund(t, r.OutRefundNo)
		if f.State(t, o.OrderNo) != order.StateRefunded {
			t.Fatal(f.State(t, o.OrderNo))
		}
	})
}

// Duplicates, an older answer after a newer one, and one with another amount, payment or merchant must not move money
// or stock twice. A refund that nobody asked for is held.
func TestRefundWordsInAnyOrder(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 2)
		r := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1))
		f.MustLookAtRefund(t, r.OutRefundNo)
		accepted := f.WeChat.Refunds()[r.OutRefundNo]
		done := f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess)

		for field, change := range map[string]func(*payment.Refund){
			"amount":      func(w *payment.Refund) { w.Amount-- },
			"transaction": func(w *payment.Refund) { w.TransactionID = "4299" },
			"mchid":       func(w *payment.Refund) { w.MchID = "1999999999" },
			"refund_id":   func(w *payment.Refund) { w.RefundID = "5099" },
			"total":       func(w *payment.Refund) { w.Total++ },
		} {
			w := done
			change(&w)
			if s := f.MustSettleRefund(t, w); s.Outcome != order.RefundOutcomeHeld || s.Reason != field ||
				f.RefundState(t, r.OutRefundNo) != order.RefundStateProcessing {
				t.Errorf("wrong %s: %+v, refund %s", field, s, f.RefundState(t, r.OutRefundNo))
			}
		}
		var applied atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			for _, w := range []payment.Refund{done, accepted} {
				wg.Go(func() {
					if s, err := f.SettleRefund(t.Context(), w, ordertest.Notified); err != nil {
						t.Error(err)
					} else if s.Outcome == order.RefundOutcomeApplied {
						applied.Add(1)
					}
				})
			}
		}
		wg.Wait()
		if applied.Load() != 1 || f.Available(t, "mug") != 4 || f.State(t, o.OrderNo) != order.StatePaid {
			t.Fatalf("applied %d times, %d on the shelf, order %s", applied.Load(), f.Available(t, "mug"),
				f.State(t, o.OrderNo))
		}
		foreign := done
		foreign.OutRefundNo, foreign.RefundID, foreign.Amount = "byhand1", "5077", 50
		for range 2 {
			s := f.MustSettleRefund(t, foreign)
			if s.Outcome != order.RefundOutcomeHeld || s.Reason != "unknown_refund" {
				t.Errorf("%+v", s)
			}
		}
		if f.RefundState(t, "byhand1") != order.RefundStateHeld || f.State(t, o.OrderNo) != order.StatePaid {
			t.Error("a refund that nobody asked for moved the order")
		}
		if _, err := f.SettleRefund(t.Context(), payment.Refund{OutRefundNo: "a/b", Amount: 1,
			Status: payment.RefundSuccess}, ordertest.Notified); !errors.Is(err, payment.ErrMalformed) {
			t.Error(err)
		}
	})
}

// CLOSED ends a number, not the debt: another number with the same amount must follow, once, however often WeChat Pay
// says so.
func TestClosedRefundGetsANewNumber(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		first := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		no := first
		for generation := 2; generation <= 4; generation++ {
			f.MustLookAtRefund(t, no)
			closed := f.WeChat.EndRefund(no, payment.RefundClosed)
			for range 3 {
				f.MustSettleRefund(t, closed)
			}
			if f.RefundState(t, no) != order.RefundStateClosed || f.State(t, o.OrderNo) != order.StateRefunding {
				t.Fatalf("%s, order %s", f.RefundState(t, no), f.State(t, o.OrderNo))
			}
			no = fmt.Sprintf("%s-G%d", first, generation)
		}
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		if f.State(t, o.OrderNo) != order.StateRefunded || f.Available(t, "mug") != 5 || len(f.WeChat.Refunds()) != 4 {
			t.Fatalf("order %s, %d on the shelf, %d numbers", f.State(t, o.OrderNo), f.Available(t, "mug"),
				len(f.WeChat.Refunds()))
		}
	})
}

// ABNORMAL needs a person; what the person does on the merchant platform must be seen, and so must a decision here.
func TestAbnormalRefundHasWaysOut(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		var nos [2]string
		var orders [2]order.Order
		for i := range nos {
			orders[i] = f.PaidOne(t, fmt.Sprint("r", i), "mug", 1)
			nos[i] = f.MustAsk(t, ordertest.Ask(orders[i].OrderNo, fmt.Sprint("k", i), 1)).OutRefundNo
			f.MustLookAtRefund(t, nos[i])
			f.MustSettleRefund(t, f.WeChat.EndRefund(nos[i], payment.RefundAbnormal))
			if f.RefundState(t, nos[i]) != order.RefundStateAbnormal ||
				f.State(t, orders[i].OrderNo) != order.StateRefunding {
				t.Fatal(f.RefundState(t, nos[i]))
			}
		}
		f.WeChat.EndRefund(nos[0], payment.RefundSuccess) // mended on the merchant platform
		f.MustDecide(t, nos[0], order.RefundEventRetry, ordertest.Finance)
		if err := f.Refund(t.Context(), nos[0], ordertest.Scheduler); err != nil ||
			f.RefundState(t, nos[0]) != order.RefundStateSucceeded {
			t.Fatal(err, f.RefundState(t, nos[0]))
		}
		r := f.MustDecide(t, nos[1], order.RefundEventByHand, ordertest.Finance)
		if r.State != order.RefundStateByHand || r.DecidedBy != "fin" ||
			f.State(t, orders[1].OrderNo) != order.StateRefunded || f.Available(t, "mug") != 5 {
			t.Fatalf("%+v, order %s, %d on the shelf", r, f.State(t, orders[1].OrderNo), f.Available(t, "mug"))
		}
	})
}

// A refund whose turn came again while the first call was under way: what that one brings, when it comes last, must not
// be written over what the newer call has settled, nor be taken for WeChat Pay refusing what it had accepted.
func TestStaleRefundCallChangesNothing(t *testing.T) {
	ends := map[string]func() error{ // of the first call, once the second was answered
		"no answer": func() error { return ordertest.ErrLost("refund") },
		"refused":   func() error { return nil }, // the number was unknown, when it was asked about
	}
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		for name, end := range ends {
			no := f.MustAsk(t, ordertest.Ask(f.PaidOne(t, "r"+name[:2], "mug", 1).OrderNo, "k"+name[:2], 1)).OutRefundNo
			held := "refund"
			if name == "refused" {
				f.WeChat.Refuse, held = "PARAM_ERROR", "refund_query"
			}
			hold := func(op string) error {
				if op != held {
					return nil
				}
				f.WeChat.After, f.WeChat.Before, f.WeChat.Refuse = nil, nil, ""
				f.Clock.Advance(time.Minute)
				f.MustLookAtRefund(t, no)
				if state := f.RefundState(t, no); state != order.RefundStateProcessing {
					t.Fatalf("the second call: %s", state)
				}
				return end()
			}
			if name == "refused" {
				f.WeChat.After = func(op, _ string) error { return hold(op) }
			} else {
				f.WeChat.Before = func(op, _ string) error { return hold(op) }
			}
			f.MustLookAtRefund(t, no)
			row, err := f.FindRefund(t.Context(), no)
			if err != nil || row.State != order.RefundStateProcessing || row.Problem != "" {
				t.Errorf("%s: %s %q, %v", name, row.State, row.Problem, err)
			}
		}
	})
}

// NOT_ENOUGH is not a no: the refund waits for the money. Any other definite no ends in a person's hands, and may be
// given up.
func TestNotEnoughWaitsAndRefusalGoesToAPerson(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		f.WeChat.Refuse = "NOT_ENOUGH"
		for range 10 {
			f.MustLookAtRefund(t, no)
		}
		if row, err := f.FindRefund(t.Context(), no); err != nil || row.State != order.RefundStateOwed ||
			!strings.Contains(row.Problem, "NOT_ENOUGH") {
			t.Fatalf("%+v, %v", row, err)
		}
		f.WeChat.Refuse = "USER_ACCOUNT_ABNORMAL"
		f.MustLookAtRefund(t, no)
		if f.RefundState(t, no) != order.RefundStateRefused || f.State(t, o.OrderNo) != order.StateRefunding {
			t.Fatal(f.RefundState(t, no))
		}
		if err := f.Refund(t.Context(), no, ordertest.Scheduler); err != nil || f.WeChat.Refunded != 11 {
			t.Fatalf("a refused refund is sent again by itself: %d calls, %v", f.WeChat.Refunded, err)
		}
		for _, end := range []order.RefundEvent{order.RefundEventCancel, order.RefundEventByHand} {
			giveUp := order.RefundDecision{OutRefundNo: no, Event: end, Reason: "account closed",
				Cause: ordertest.Finance}
			var wait *order.RefundRefusedError
			if _, err := f.DecideRefund(t.Context(), giveUp); !errors.As(err, &wait) {
				t.Errorf("%s while an answer may be on its way: %v", end, err)
			}
		}
		f.Clock.Advance(2 * time.Minute)
		f.MustDecide(t, no, order.RefundEventCancel, ordertest.Finance)
		if f.RefundState(t, no) != order.RefundStateCancelled || f.State(t, o.OrderNo) != order.StatePaid {
			t.Fatal(f.RefundState(t, no), f.State(t, o.OrderNo))
		}
		f.WeChat.Refuse = ""
		again := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k2", 1))
		f.MustLookAtRefund(t, again.OutRefundNo)
		if f.RefundState(t, again.OutRefundNo) != order.RefundStateProcessing {
			t.Fatal("after giving one up no other can be sent")
		}
	})
}

// A definite no after a lost yes: WeChat took the first call, and the repeat is answered "already refunded". Without
// asking for the number it would be booked as refused, and the money gone.
func TestRefusalIsBelievedOnlyWhenTheNumberIsUnknown(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		f.WeChat.After = func(op, _ string) error {
			if op == "refund" {
				return &payment.GatewayError{Op: op, Kind: payment.KindRejected, Status: 400, Code: "INVALID_REQUEST"}
			}
			return nil
		}
		f.MustLookAtRefund(t, no)
		if f.RefundState(t, no) != order.RefundStateProcessing {
			t.Fatal(f.RefundState(t, no))
		}
	})
}

// bambora #9, coreshop #2529 and yudao (peers 10, 45) keep late money. It must go back by itself, once, whatever is
// lost.
func TestLateAndDuplicatePaymentsGoBackByThemselves(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PlaceOne(t, "r1", "mug", 1)
		out := f.Prepaid(t, o.OrderNo)
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(out, true)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
				t.Fatal(err)
			}
		}
		no := "R" + trade.TransactionID
		if len(f.Tasks.Refunds[no]) == 0 {
			t.Fatal("nobody was woken to send it back")
		}
		f.WeChat.After = func(string, string) error {
			f.WeChat.After = nil
			return ordertest.ErrLost("refund")
		}
		f.MustLookAtRefund(t, no)
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		if f.State(t, o.OrderNo) != order.StateRefunded || len(f.WeChat.Refunds()) != 1 || f.Available(t, "mug") != 5 {
			t.Fatalf("order %s, %d refunds, %d on the shelf", f.State(t, o.OrderNo), len(f.WeChat.Refunds()),
				f.Available(t, "mug"))
		}

		paid := f.PaidOne(t, "r2", "mug", 1)
		second := trade
		second.OutTradeNo, second.TransactionID = paid.OrderNo+"-01", "4299"
		f.WeChat.Put(second)
		if s, err := f.Settle(t.Context(), second, ordertest.Notified); err != nil ||
			s.Reason != order.ReasonDuplicate {
			t.Fatal(s, err)
		}
		f.MustLookAtRefund(t, "R4299")
		f.MustSettleRefund(t, f.WeChat.EndRefund("R4299", payment.RefundSuccess))
		if f.State(t, paid.OrderNo) != order.StatePaid || f.Available(t, "mug") != 4 {
			t.Fatalf("the duplicate's refund moved its order: %s", f.State(t, paid.OrderNo))
		}
	})
}

// dujiao-next's users (peers 46) ask for it: deliver if stock is left, else refund. Never both, never neither.
func TestLatePaymentRevivesWhenStockIsThere(t *testing.T) {
	eachWith(t, func(c *order.Config) {
		c.LatePayment = order.LatePolicyRevive
	}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 2)
		var orders []order.Order
		var trades []payment.Trade
		for i := range 2 {
			o := f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
			out := f.Prepaid(t, o.OrderNo)
			f.Clock.Advance(31 * time.Minute)
			if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
				t.Fatal(err)
			}
			trade, err := f.WeChat.Pay(out, true)
			if err != nil {
				t.Fatal(err)
			}
			orders, trades = append(orders, o), append(trades, trade)
		}
		f.PaidOne(t, "else", "mug", 1) // one unit is left for two late payers
		var wg sync.WaitGroup
		var revived, owed atomic.Int64
		for _, trade := range trades {
			for range 4 {
				wg.Go(func() {
					s, err := f.Settle(t.Context(), trade, ordertest.Notified)
					switch {
					case err != nil:
						t.Error(err)
					case s.Settled == order.SettledApplied && s.Reason == "revived":
						revived.Add(1)
					case s.Settled == order.SettledOwed:
						owed.Add(1)
					}
				})
			}
		}
		wg.Wait()
		states := []order.State{f.State(t, orders[0].OrderNo), f.State(t, orders[1].OrderNo)}
		slices.Sort(states)
		if revived.Load() != 1 || owed.Load() != 1 || f.Available(t, "mug") != 0 ||
			!slices.Equal(states, []order.State{order.StateLate, order.StatePaid}) {
			t.Fatalf("revived %d, owed %d, %d on the shelf, %v", revived.Load(), owed.Load(), f.Available(t, "mug"),
				states)
		}
		for i, o := range orders {
			if f.State(t, o.OrderNo) == order.StatePaid { // and it can be refunded like every other
				r := f.MustAsk(t, ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 1))
				f.MustDecide(t, r.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
				f.MustLookAtRefund(t, r.OutRefundNo)
				f.MustSettleRefund(t, f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
				if f.Available(t, "mug") != 1 || f.State(t, o.OrderNo) != order.StateRefunded {
					t.Fatalf("%d on the shelf, %s", f.Available(t, "mug"), f.State(t, o.OrderNo))
				}
			}
		}
	})
}

// Goods that come back broken are not for sale again: the refund says so, and still counts against the line.
func TestRefundWithoutRestock(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 2)
		r := ordertest.Ask(o.OrderNo, "k", 2)
		r.NoRestock, r.Amount = true, fen(150) // less than they cost
		no := f.MustAsk(t, r).OutRefundNo
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		if f.Available(t, "mug") != 3 || f.State(t, o.OrderNo) != order.StatePaid {
			t.Fatalf("%d on the shelf, %s", f.Available(t, "mug"), f.State(t, o.OrderNo))
		}
		var exceeds *order.ReturnExceedsError
		_, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, "k2", 1))
		if !errors.As(err, &exceeds) || exceeds.Left != 0 {
			t.Errorf("the same goods twice: %v", err)
		}
	})
}

// Whoever sends back a held payment of an order must wait for a transaction that holds the order: otherwise the other
// one sees a payment that is owed and no refund of it, reports a broken invariant and refuses its own command.
func TestHeldPaymentGoesBackUnderItsOrder(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		trade := payment.Trade{OutTradeNo: o.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4299",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 700, PayerTotal: payment.Said(700), Currency: payment.CNY, SuccessTime: f.Clock.Now()}
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		sent := make(chan error, 1)
		err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.Update(ctx, "UPDATE orders SET remark = remark WHERE order_no = ?", o.OrderNo); err != nil {
				return err
			}
			go func() { sent <- f.RefundHeld(context.WithoutCancel(t.Context()), "4299", ordertest.Finance) }()
			select {
			case err := <-sent:
				t.Errorf("it did not wait for its order: %v", err)
				sent <- err
			case <-time.After(300 * time.Millisecond): // without the lock it takes a few
			}
			return nil
		})
		if err := errors.Join(err, <-sent); err != nil {
			t.Fatal(err)
		}
		if f.RefundState(t, "R4299") != order.RefundStateOwed {
			t.Error(f.RefundState(t, "R4299"))
		}
	})
}

// A payment that fits no order must have a way back that nobody can take twice.
func TestHeldPaymentGoesBack(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		trade := payment.Trade{OutTradeNo: "01JD4Z0000000000000000000X-01", State: payment.TradeSuccess,
			TransactionID: "4288", AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 700, PayerTotal: payment.Said(700), Currency: payment.CNY, SuccessTime: f.Clock.Now()}
		f.WeChat.Put(trade)
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := f.RefundHeld(t.Context(), "4288", ordertest.Finance); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		f.MustLookAtRefund(t, "R4288")
		f.MustSettleRefund(t, f.WeChat.EndRefund("R4288", payment.RefundSuccess))
		if f.RefundState(t, "R4288") != order.RefundStateSucceeded || f.WeChat.Refunded != 1 {
			t.Fatal(f.RefundState(t, "R4288"), f.WeChat.Refunded)
		}
	})
}

// A random walk over people, answers, callbacks and lost calls: whatever the order of events, WeChat's ledger and
// ours agree, and every invariant holds at the end. Without the guarded sum and the lock of the order they do not.
func TestRefundsOfManyHandsAtOnce(t *testing.T) {
	races(t, func(c *order.Config) {
		c.RefundAutoApprove, c.RefundSpacing = 150, -1
	}, func(t *testing.T, f *ordertest.Fixture) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		f.SKU(t, "mug", 1000)
		var orders []order.Order
		for i := range 8 {
			orders = append(orders, f.PaidOne(t, fmt.Sprint("r", i), "mug", 4))
		}
		var calls atomic.Int64
		f.WeChat.Before = func(op, _ string) error {
			if calls.Add(1)%7 == 0 {
				return ordertest.ErrLost(op)
			}
			return nil
		}
		f.WeChat.After = func(op, _ string) error {
			if calls.Load()%5 == 0 {
				return ordertest.ErrLost(op)
			}
			return nil
		}
		ends := []payment.RefundStatus{payment.RefundSuccess, payment.RefundSuccess, payment.RefundClosed,
			payment.RefundAbnormal, payment.RefundProcessing}
		var wg sync.WaitGroup
		for hand := range 8 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(hand)))
				for step := range 60 {
					o := orders[rnd.IntN(len(orders))]
					switch rnd.IntN(5) {
					case 0:
						_, _ = f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, fmt.Sprint(hand, "-", step),
							int64(1+rnd.IntN(2))))
					case 1, 2:
						rows, _, err := f.ListRefunds(t.Context(), order.RefundFilter{OrderNo: o.OrderNo})
						if err != nil {
							t.Error(err)
						}
						for _, r := range rows {
							if e := order.RefundEvents()[rnd.IntN(5)]; r.State == order.RefundStatePending &&
								e != order.RefundEventReject || r.State == order.RefundStateAbnormal {
								_, _ = f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
									Event: e, Reason: "walk", Cause: ordertest.Finance})
							}
							_ = f.Refund(t.Context(), r.OutRefundNo, ordertest.Scheduler)
						}
					case 3:
						for no, r := range f.WeChat.Refunds() {
							if r.Status == payment.RefundProcessing && rnd.IntN(3) == 0 {
								w := f.WeChat.EndRefund(no, ends[rnd.IntN(len(ends))])
								_, _ = f.SettleRefund(t.Context(), w, ordertest.Notified)
							}
						}
					case 4:
						f.Clock.Advance(time.Duration(rnd.IntN(40)) * time.Second)
					}
				}
			})
		}
		wg.Wait()
		f.WeChat.Before, f.WeChat.After = nil, nil
		settleAll(t, f)
		ours := map[string]payment.Fen{}
		rows, _, err := f.ListRefunds(t.Context(), order.RefundFilter{Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.State == order.RefundStateSucceeded {
				ours[r.OutRefundNo] = r.Amount
			}
		}
		theirs := 0
		for no, r := range f.WeChat.Refunds() {
			if r.Status == payment.RefundSuccess {
				theirs++
				if ours[no] != r.Amount {
					t.Errorf("WeChat paid %s back, %s yuan; ours: %s, %s", no, r.Amount, f.RefundState(t, no), ours[no])
				}
			}
		}
		if theirs != len(ours) || theirs == 0 {
			t.Errorf("WeChat paid %d back, ours are %d", theirs, len(ours))
		}
	})
}

// settleAll ends every refund that is under way.
func settleAll(t *testing.T, f *ordertest.Fixture) {
	t.Helper()
	for range 20 {
		f.Clock.Advance(48 * time.Hour)
		due, err := f.DueRefunds(t.Context(), order.DueCursor{}, f.Clock.Now(), 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(due) == 0 {
			return
		}
		for _, d := range due {
			if err := f.Refund(t.Context(), d.Key, ordertest.Scheduler); err != nil &&
				!errors.As(err, new(*order.NotDueError)) {
				t.Fatal(err)
			}
		}
		for no, r := range f.WeChat.Refunds() {
			if r.Status == payment.RefundProcessing || r.Status == payment.RefundAbnormal &&
				f.RefundState(t, no) != order.RefundStateByHand {
				f.WeChat.EndRefund(no, payment.RefundSuccess)
			}
		}
	}
	t.Fatal("refunds do not end")
}

// A COMMIT whose answer is lost, at every step of a refund: asked for, approved, claimed, WeChat's answer taken in.
// Done or not done, in the end there is one refund, here and at WeChat, and the stock came back once.
func TestRefundSurvivesLostCommits(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	f := ordertest.New(t, sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop")))
	f.SKU(t, "mug", 1000)
	again := func(mode faultproxy.Mode, what string, do func() error) {
		t.Helper()
		proxy.Next(mode)
		err := do()
		for i := 0; errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown); i++ {
			if i == 5 {
				break
			}
			err = do() // what the caller does: the same again
		}
		if err != nil {
			t.Fatalf("%s, %s: %v", what, mode, err)
		}
	}
	n := 0
	for _, mode := range []faultproxy.Mode{faultproxy.CutBefore, faultproxy.CutAfter} {
		for range 10 {
			n++
			o := f.PaidOne(t, fmt.Sprint("r", n), "mug", 2)
			before, calls := f.Available(t, "mug"), len(f.WeChat.Refunds())
			var no string
			again(mode, "ask", func() error {
				a, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, fmt.Sprint("k", n), 1))
				no = a.Refund.OutRefundNo
				return err
			})
			again(mode, "approve", func() error {
				_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no,
					Event: order.RefundEventApprove, Reason: "ok", Cause: ordertest.Finance})
				return err
			})
			again(mode, "send", func() error {
				err := f.Refund(t.Context(), no, ordertest.Scheduler)
				if errors.As(err, new(*order.NotDueError)) { // it is claimed, and the claimant has no answer
					return f.LookAtRefund(t, no)
				}
				return err
			})
			if f.RefundState(t, no) == order.RefundStateOwed { // the answer was lost on the way in
				f.MustLookAtRefund(t, no)
			}
			word := f.WeChat.EndRefund(no, payment.RefundSuccess)
			again(mode, "word", func() error {
				_, err := f.SettleRefund(t.Context(), word, ordertest.Notified)
				return err
			})
			if f.RefundState(t, no) != order.RefundStateSucceeded || f.Available(t, "mug") != before+1 ||
				len(f.WeChat.Refunds()) != calls+1 {
				t.Fatalf("%s: %s, %d back, %d refunds at WeChat", mode, f.RefundState(t, no),
					f.Available(t, "mug")-before, len(f.WeChat.Refunds())-calls)
			}
		}
		if hits := proxy.Hits(mode); hits < 40 {
			t.Errorf("%s: %d COMMITs were met, want 40", mode, hits)
		}
	}
}

// A trade that was refunded elsewhere before its payment was heard of comes without success_time. Its payment was a
// moment ago, and must not be "more than a year old", nor of no day at all, which no bill is held against.
func TestPaymentWithoutItsTime(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		for _, c := range []struct {
			name  string
			heard time.Duration
		}{{"at-once", time.Minute}, {"after-days", 72 * time.Hour}} { // the clock goes on: verify knows no future
			name, heard := c.name, c.heard
			o := f.PlaceOne(t, name, "mug", 2)
			trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			f.Clock.Advance(heard)
			want := f.Clock.Now()
			if want.After(o.ExpireAt) {
				want = o.ExpireAt // nobody pays later, so that its day is known
			}
			trade.State, trade.SuccessTime = payment.TradeRefund, time.Time{}
			if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
				t.Fatal(err)
			}
			got, err := f.Find(t.Context(), o.OrderNo)
			if err != nil || got.Payment == nil || !got.Payment.SuccessTime.Equal(want) {
				t.Errorf("heard of %s: paid %+v, %v", name, got.Payment, err)
			}
			if _, err := f.AskRefund(t.Context(), ordertest.Ask(o.OrderNo, o.OrderNo, 1)); err != nil {
				t.Errorf("heard of %s: %v", name, err)
			}
		}
	})
}

// The ages of open refunds are of all that have not ended and of no other, on every engine, each at its bound.
func TestRefundsByAge(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 99)
		begin := f.Clock.Now()
		o := f.PaidOne(t, "r", "mug", 9)
		last := begin.Add(order.RefundAges[len(order.RefundAges)-1])
		for i, age := range slices.Backward(append([]time.Duration{0}, order.RefundAges...)) {
			f.Clock.Set(last.Add(-age))
			f.MustAsk(t, ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 1))
		}
		all, err := f.RefundsByAge(t.Context())
		if err != nil || len(all) != len(order.RefundAges)+1 {
			t.Fatalf("%+v %v", all, err)
		}
		for _, a := range all {
			if a.Count != 1 || a.State != order.RefundStatePending || a.Amount <= 0 {
				t.Errorf("%+v", a)
			}
		}
	})
}
