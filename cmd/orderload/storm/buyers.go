package storm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
)

// buyers pay orders of the crowd while they wait, from the last deadline on: those have
// the longest to wait. They show that an order that is overdue is not lost to its buyer
// until WeChat Pay has closed it.
type buyers struct {
	st   *storm
	came atomic.Int64
	// paid counts those whose money WeChat Pay took, settled those whose callback orderd
	// has taken.
	paid    atomic.Int64
	settled atomic.Int64

	mu   sync.Mutex
	errs []error
}

// buyersResult is how many came, and how many came in time.
type buyersResult struct{ Came, Paid int64 }

const (
	// buyersAtOnce is callbacks under way.
	buyersAtOnce = 64
	// buyersWithin is in which they come, without a rate of closes to wait for;
	// buyersShare is of the time that the closes take at their rate, with one.
	buyersWithin = 5 * time.Second
	buyersShare  = 0.8
	// callbackMost is deliveries of a callback, callbackWait is between two of them.
	callbackMost = 10
	callbackWait = 1 * time.Second
)

// newBuyers is nobody yet: see run.
func newBuyers(st *storm) *buyers { return &buyers{st: st} }

// run lets them come evenly over the time in which most of them still wait, and waits for
// the last one. Those who have come are served to the end when ctx ends.
func (b *buyers) run(ctx context.Context, s *order.Service) {
	n := int(b.st.k.Pay * float64(b.st.crowd.n))
	over := buyersWithin
	if rate := b.st.k.Rate; rate > 0 {
		over = time.Duration(buyersShare * float64(b.st.crowd.n-n) / rate * float64(time.Second))
	}
	var g errgroup.Group
	g.SetLimit(buyersAtOnce)
	for i := range n {
		if !sqldb.Sleep(ctx, time.Until(b.st.First.Add(over*time.Duration(i)/time.Duration(n)))) {
			break
		}
		g.Go(func() error {
			b.one(context.WithoutCancel(ctx), s, b.st.crowd.n-i)
			return nil
		})
	}
	_ = g.Wait() // what went wrong is in errs
}

// one pays order i at WeChat Pay, and delivers the callback until it is taken, as WeChat
// Pay does. A buyer who comes after the close cannot pay, which is no failure.
func (b *buyers) one(ctx context.Context, s *order.Service, i int) {
	b.came.Add(1)
	if !b.st.wechat.Pay(i) {
		return
	}
	b.paid.Add(1)
	no := b.st.crowd.no(i)
	for try := 1; ; try++ {
		got, err := s.Settle(ctx, bench.PaidTrade(no), bench.CallbackOf(no))
		if err == nil && (got.Settled == order.SettledApplied || got.Settled == order.SettledRepeated) {
			b.settled.Add(1)
			return
		}
		if try == callbackMost || err == nil {
			b.mu.Lock()
			b.errs = append(b.errs, errors.Join(fmt.Errorf("payment of order %s: %+v", no, got), err))
			b.mu.Unlock()
			return
		}
		sqldb.Sleep(ctx, callbackWait)
	}
}

// err says which payments were not taken; the first few.
func (b *buyers) err() error {
	const few = 3
	if len(b.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d payments were not taken: %w", len(b.errs), errors.Join(b.errs[:min(few, len(b.errs))]...))
}

// judge gives the counts, after run.
func (b *buyers) judge() *buyersResult { return &buyersResult{b.came.Load(), b.paid.Load()} }
