package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// watched is orders whose every look is written down with its time.
type watched struct {
	*shop
	mu    sync.Mutex
	looks map[string][]time.Time
}

func (w *watched) look(no string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks[no] = append(w.looks[no], time.Now())
}

// A day of a worker without a queue, on a clock that jumps: if the sweep drifted, lost its cursor or came too early,
// only a real day would show it.
func TestADayOfSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const orders, day, every = 2000, 24 * time.Hour, 5 * time.Second
		ladder := []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute,
			5 * time.Minute}
		s := &watched{shop: newShop(map[string]time.Time{}), looks: map[string][]time.Time{}}
		due, begin := map[string]time.Time{}, time.Now()
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := range orders {
			no := fmt.Sprintf("o%04d", i)
			due[no] = begin.Add(rand.N(day - time.Hour))
			if rnd.IntN(10) == 0 {
				due[no] = begin.Add(12 * time.Hour) // a herd at noon
			}
			s.due[no] = due[no]
		}
		s.answer = func(no string, n int) error {
			s.look(no)
			if no[len(no)-1] != '7' || n > 8 { // one in ten gets no answer for eight times
				return nil
			}
			return &order.ClosingError{At: time.Now().Add(ladder[min(n-1, len(ladder)-1)]),
				Err: errors.New("no answer")}
		}
		_, w := newWorker(t, "", s.shop, Options{SweepEvery: every, CloseRate: 50})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		w.Stop()
		if s.left() != 0 || s.early != 0 {
			t.Errorf("%d orders left, %d looked at early", s.left(), s.early)
		}
		const latest = every*12/10 + 6*time.Second // a herd of 200 waits for 50 a second
		for no, looks := range s.looks {
			for i, at := range looks {
				from := due[no]
				if i > 0 {
					from = looks[i-1].Add(ladder[min(i-1, len(ladder)-1)])
				}
				if late := at.Sub(from); late < 0 || late > latest {
					t.Errorf("%s, look %d: %s after its time", no, i+1, late)
				}
			}
		}
	})
}

// eachPass tells of each pass of the sweep, which looks for refunds once, and nobody else does.
type eachPass struct {
	*shop
	tell func()
}

func (p *eachPass) DueRefunds(ctx context.Context, after order.DueCursor, until time.Time,
	limit int) ([]order.Due, error) {
	p.tell()
	return p.shop.DueRefunds(ctx, after, until, limit)
}

// Two replicas that sweep in step would double every query for nothing; one that never jitters would stay in step.
func TestSweepsJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, hours = 10 * time.Second, 6
		var passes [2][]time.Time
		var workers []*Worker
		for i := range passes {
			s := newShop(map[string]time.Time{})
			_, w := newWorker(t, "", s, Options{SweepEvery: every, Orders: &eachPass{s, func() {
				passes[i] = append(passes[i], time.Now())
			}}})
			s.due["always"] = time.Now() // gives each pass something to do
			s.answer = func(string, int) error {
				return &order.ClosingError{At: time.Now(), Err: errors.New("no answer")}
			}
			run(t, w)
			workers = append(workers, w)
		}
		time.Sleep(hours * time.Hour)
		for _, w := range workers {
			w.Stop()
		}
		for i, at := range passes {
			shortest, longest, n := time.Hour, time.Duration(0), 0
			for j := 1; j < len(at); j++ {
				gap := at[j].Sub(at[j-1])
				if gap == 0 {
					continue // several looks at the clock in one pass
				}
				n++
				shortest, longest = min(shortest, gap), max(longest, gap)
			}
			if shortest < every*8/10 || longest > every*12/10 || longest-shortest < every/4 {
				t.Errorf("worker %d: passes %s to %s apart", i, shortest, longest)
			}
			if mean := hours * time.Hour / time.Duration(n); mean < every*97/100 || mean > every*103/100 {
				t.Errorf("worker %d: a pass each %s", i, mean)
			}
		}
	})
}

// The ladders of the service, rung by the sweep for three hours with WeChat Pay away and then slow: a ladder that
// starts again, stops, or asks too often shows in the times of the calls.
func TestLaddersOfHours(t *testing.T) {
	const every = 20 * time.Second
	ladder := func(rungs ...time.Duration) []time.Duration { return rungs }
	s, m := time.Second, time.Minute
	for name, c := range map[string]struct {
		op    string
		steps []time.Duration
		begin func(t *testing.T, f *ordertest.Fixture)
		lost  bool
	}{
		"close without an answer": {"close", ladder(5*s, 15*s, 30*s, m, 2*m, 5*m, 5*m),
			func(t *testing.T, f *ordertest.Fixture) {
				f.Prepaid(t, f.PlaceOne(t, "k", "mug", 1).OrderNo) // its deadline comes
			}, true},
		"refund without an answer": {"refund", ladder(15*s, 30*s, m, 2*m, 5*m, 10*m, 30*m, 30*m),
			func(t *testing.T, f *ordertest.Fixture) {
				askBack(t, f)
			}, true},
		"refund that stays under way": {"refund_query", ladder(m, m, m, m, m, 5*m, 10*m, 20*m, 30*m, 30*m),
			func(t *testing.T, f *ordertest.Fixture) {
				askBack(t, f)
			}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) {
					c.Now, c.RefundAutoApprove = time.Now, payment.MaxFen
				})
				f.WeChat.Now = time.Now
				f.SKU(t, "mug", 5)
				c.begin(t, f)
				var mu sync.Mutex
				var calls []time.Time
				f.WeChat.After = func(op, _ string) error {
					mu.Lock()
					defer mu.Unlock()
					if op == c.op {
						calls = append(calls, time.Now())
					}
					if c.lost {
						return ordertest.ErrLost(op)
					}
					return nil
				}
				f.WeChat.Before = func(op, _ string) error {
					if op == "query" && c.lost { // else the close would be decided by it
						return ordertest.ErrLost(op)
					}
					return nil
				}
				w, err := NewWorker(Options{Orders: f.Service, Now: time.Now, Log: slog.New(slog.DiscardHandler),
					SweepEvery: every})
				if err != nil {
					t.Fatal(err)
				}
				run(t, w)
				time.Sleep(3 * time.Hour)
				w.Stop()
				if len(calls) < 10 {
					t.Fatalf("%d calls in three hours", len(calls))
				}
				for i := 1; i < len(calls); i++ {
					want := c.steps[min(i-1, len(c.steps)-1)]
					if gap := calls[i].Sub(calls[i-1]); gap < want || gap > want+every*13/10 {
						t.Errorf("call %d came %s after the one before, its step is %s", i+1, gap, want)
					}
				}
			})
		})
	}
}

func askBack(t *testing.T, f *ordertest.Fixture) {
	t.Helper()
	no := f.PlaceOne(t, "k", "mug", 1).OrderNo
	trade, err := f.WeChat.Pay(f.Prepaid(t, no), false)
	if err != nil {
		t.Fatal(err)
	}
	trade.SuccessTime = time.Now()
	if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
	if _, err := f.AskRefund(t.Context(), order.AskRefund{OrderNo: no, CustomerID: "c", RequestID: "k",
		Reason: "small", Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
}

// heldRefunds is orders whose refunds somebody holds: each is waited for, and fails.
type heldRefunds struct{ *shop }

func (h *heldRefunds) Refund(_ context.Context, no string, _ order.Cause) error {
	time.Sleep(2 * time.Second)
	h.shop.mu.Lock()
	defer h.shop.mu.Unlock()
	h.shop.refundRan[no]++
	return sqldb.ErrLocked
}

// Refunds that wait for a row that somebody holds were run in the pass of the sweep before its timeouts: without Redis
// every order was closed as late as they took.
func TestHeldRefundsDoNotHoldTimeoutsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(map[string]time.Time{})
		due := map[string]time.Time{}
		var late time.Duration
		s.answer = func(no string, _ int) error {
			late = max(late, time.Since(due[no]))
			return nil
		}
		const every = 5 * time.Second
		for i := range 4 * sweepAtOnce {
			s.refundDue[fmt.Sprint("r", i)] = time.Now()
		}
		for i := range 300 {
			no := fmt.Sprint("o", i)
			due[no] = time.Now().Add(time.Duration(i) * time.Second)
			s.due[no] = due[no]
		}
		_, w := newWorker(t, "", s, Options{SweepEvery: every, RefundRate: 1000, Orders: &heldRefunds{s}})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		w.Stop()
		if s.left() != 0 || late > every*13/10 {
			t.Errorf("%d orders left, the latest came after %s", s.left(), late)
		}
		if s.refundRan["r0"] < 50 { // once in a pass, the eight seconds that they take apart
			t.Errorf("a held refund had %d turns", s.refundRan["r0"])
		}
	})
}
