package order_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// 64 at once on one order: cancels, timeouts, the buyer's money and its callbacks, order after order. One of paid and
// closed wins, the one that won at WeChat, and everybody else is refused with a reason (reliability T2, W7).
func TestSixtyFourActorsOnOneOrder(t *testing.T) {
	orders := 25 // 100 over the four
	if longRun() {
		orders = 1000
	}
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", int64(orders))
		seed := uint64(time.Now().UnixNano())
		t.Log("seed", seed)
		rnd := rand.New(rand.NewPCG(seed, 2))
		ends := map[order.State]int{}
		for i := range orders {
			o := f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
			out := f.Prepaid(t, o.OrderNo)
			f.Clock.Advance(31 * time.Minute)
			crowd(t, f, o.OrderNo, out, rnd.Perm(64), int64(i%3*28)) // at once, in the middle, when all 56 are through
			ends[judged(t, f, o.OrderNo, out)]++
		}
		t.Log(orders, "orders of 64 actors:", ends)
		if ends[order.StatePaid] == 0 || ends[order.StateClosed] == 0 {
			t.Error("one side always won: the run proves nothing")
		}
		if left := f.Available(t, "mug"); left != int64(ends[order.StateClosed]) {
			t.Errorf("%d left, %d orders closed", left, ends[order.StateClosed])
		}
	})
}

// crowd starts the actors together, in an order of their own; the buyer pays
// when so many of the others are through.
func crowd(t *testing.T, f *ordertest.Fixture, no, out string, turns []int, after int64) {
	t.Helper()
	var through atomic.Int64
	pay := make(chan struct{})
	pass := func() {
		if through.Add(1) == after+1 {
			close(pay)
		}
	}
	pass()
	var trade payment.Trade
	var once sync.Once
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, turn := range turns {
		wg.Go(func() {
			<-start
			switch {
			case turn < 8: // the buyer pays once, his callback comes eight times
				<-pay
				once.Do(func() { trade, _ = f.WeChat.Pay(out, false) })
				if !trade.Paid() {
					return
				}
				if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil ||
					s.Settled != order.SettledApplied && s.Settled != order.SettledRepeated {
					t.Errorf("callback: %+v, %v", s, err)
				}
			case turn < 40:
				if _, err := f.Cancel(t.Context(), cancel(no)); err != nil &&
					!errors.As(err, new(*order.RefusedError)) {
					t.Errorf("cancel: %v", err)
				}
				pass()
			default:
				if err := f.Expire(t.Context(), no, ordertest.Scheduler); err != nil &&
					!errors.As(err, new(*order.NotDueError)) {
					t.Errorf("timeout: %v", err)
				}
				pass()
			}
		})
	}
	close(start)
	wg.Wait()
}

// judged gives the end of an order and holds it against WeChat's.
func judged(t *testing.T, f *ordertest.Fixture, no, out string) order.State {
	t.Helper()
	state := f.State(t, no)
	trade, _ := f.WeChat.Trade(out)
	if want := map[bool]order.State{true: order.StatePaid, false: order.StateClosed}[trade.Paid()]; state != want {
		t.Errorf("%s at WeChat, %s here", trade.State, state)
	}
	events, err := f.Timeline(t.Context(), no)
	if err != nil {
		t.Fatal(err)
	}
	final := 0
	for _, e := range events {
		if e.From != e.To && (e.To == order.StatePaid || e.To == order.StateClosed) {
			final++
		}
	}
	if final != 1 {
		t.Errorf("%s reached its end %d times", no, final)
	}
	return state
}

// A handler that outlives its deadline goes on beside the second run of its task, as asynq has it. Whichever asks
// WeChat last, the stock comes back once and the late one changes nothing (reliability T5).
func TestLateHandlerChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		f.Clock.Advance(time.Hour)
		hung, release := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		f.WeChat.After = func(op, _ string) error {
			if op == "query" && first.CompareAndSwap(false, true) {
				close(hung)
				<-release
			}
			return nil
		}
		late := make(chan error)
		go func() { late <- f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler) }()
		<-hung
		f.Clock.Advance(time.Hour) // its lease is over, and it is due
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
			t.Fatal(err)
		}
		before, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || f.State(t, o.OrderNo) != order.StateClosed {
			t.Fatal(f.State(t, o.OrderNo), err)
		}
		close(release)
		if err := <-late; err != nil {
			t.Error(err)
		}
		after, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || len(after) != len(before) || f.Available(t, "mug") != 1 {
			t.Errorf("%d events, then %d; %d left (%v)", len(before), len(after), f.Available(t, "mug"), err)
		}
	})
}

// WeChat accepts a close and still says NOTPAY when asked: the stock must stay where it is until there is proof, and
// money that comes after all must find its order (reliability W6).
func TestAcceptedCloseThatStaysOpen(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		out := f.Prepaid(t, o.OrderNo)
		open, _ := f.WeChat.Trade(out)
		f.WeChat.After = func(op, _ string) error {
			if op == "close" { // accepted, and nothing done
				f.WeChat.Put(open)
			}
			return nil
		}
		for range 3 {
			f.Clock.Advance(time.Hour)
			if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); !errors.As(err, new(*order.ClosingError)) {
				t.Fatal(err)
			}
			if f.State(t, o.OrderNo) != order.StateClosing || f.Available(t, "mug") != 0 {
				t.Fatalf("%s, %d left: WeChat can still be paid", f.State(t, o.OrderNo), f.Available(t, "mug"))
			}
		}
		if _, err := f.WeChat.Pay(out, false); err != nil {
			t.Fatal(err)
		}
		f.WeChat.After = nil
		f.Clock.Advance(time.Hour)
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil ||
			f.State(t, o.OrderNo) != order.StatePaid {
			t.Fatal(f.State(t, o.OrderNo), err)
		}
	})
}
