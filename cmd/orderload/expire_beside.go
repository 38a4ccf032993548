package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/order"
	"orderd/stock"
)

// foreground is what the shop does beside the storm: placements and callbacks
// at a fixed rate. A call's latency counts from the moment at which it was
// meant to begin, so that nobody waits unseen.
type foreground struct {
	rate           int
	places, settle calls
}

const (
	besideWarm   = 5 * time.Second // placements begin so long before anything is measured
	besideLag    = 2 * time.Second // and callbacks so long after them: they pay what was placed
	besideFlight = 4096            // calls under way; more are refused, and count as failed
)

// startForeground starts both. The function that it gives waits for their end,
// which is that of ctx.
func (st *storm) startForeground(ctx context.Context, run *running) (wait func()) {
	if st.k.Foreground == 0 {
		return func() {}
	}
	st.beside = &foreground{rate: st.k.Foreground}
	start := st.First.Add(-st.k.Quiet - besideWarm)
	placed := make(chan string, 60*st.k.Foreground)
	name := ulid.Make().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		st.beside.places.openLoop(ctx, st.k.Foreground, start, func(ctx context.Context, n int64) error {
			got, err := run.orders.Place(ctx, order.Placement{CustomerID: fmt.Sprint("f", n%seedCustomers), RequestID: fmt.Sprint(name, "-", n), Cause: "bench",
				Lines: []stock.Line{{SkuID: sku(int(n) % bulkSKUs), Quantity: 1}}})
			if err == nil {
				select {
				case placed <- got.Order.OrderNo:
				default: // nobody pays any more
				}
			}
			return err
		})
	})
	wg.Go(func() {
		st.beside.settle.openLoop(ctx, st.k.Foreground, start.Add(besideLag), func(ctx context.Context, _ int64) error {
			select {
			case no := <-placed:
				return settle(ctx, run.orders, no)
			default:
				return errNoMoreOrders // the placements are behind: not the callback's latency
			}
		})
	})
	return wg.Wait
}

// calls is the latencies of one kind of call.
type calls struct {
	mu  sync.Mutex
	all []latency
}

type latency struct {
	at     time.Time // when it was meant to begin
	took   time.Duration
	failed bool
}

// openLoop begins rate calls a second from start until ctx ends, whether the
// earlier ones have ended or not, and waits for them.
func (c *calls) openLoop(ctx context.Context, rate int, start time.Time, do func(ctx context.Context, n int64) error) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, besideFlight)
	for n := int64(0); ; n++ {
		at := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if d := time.Until(at); d > 0 {
			pauseFor(ctx, d)
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case slots <- struct{}{}:
		default:
			c.add(latency{at, 0, true})
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := do(context.WithoutCancel(ctx), n); !errors.Is(err, errNoMoreOrders) {
				c.add(latency{at, time.Since(at), err != nil})
			}
		})
	}
	wg.Wait()
}

func (c *calls) add(l latency) {
	c.mu.Lock()
	c.all = append(c.all, l)
	c.mu.Unlock()
}

// between gives count, failures and percentiles of the calls that were meant to
// begin in a time.
func (c *calls) between(from, to time.Time) (s phase) {
	var times []time.Duration
	for _, l := range c.all {
		switch {
		case l.at.Before(from) || !l.at.Before(to):
		case l.failed:
			s.Failed++
		default:
			times = append(times, l.took)
		}
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	if s.Calls = len(times); s.Calls > 0 {
		s.P50, s.P99 = times[s.Calls/2], times[s.Calls*99/100]
	}
	return s
}

// phase is the calls of a time.
type phase struct {
	Calls, Failed int
	P50, P99      time.Duration
}

// besideSeen is the two kinds of calls, before the storm and in it.
type besideSeen struct {
	Rate                                         int
	PlaceQuiet, PlaceStorm, PaidQuiet, PaidStorm phase
}

func (f *foreground) judge(first, drained time.Time) *besideSeen {
	long := first.Add(-time.Hour)
	quiet := f.places.all
	if len(quiet) > 0 {
		long = quiet[0].at.Add(besideWarm)
	}
	return &besideSeen{f.rate, f.places.between(long, first), f.places.between(first, drained), f.settle.between(long, first), f.settle.between(first, drained)}
}

func (b *besideSeen) table(mode string) {
	fmt.Printf("\n| beside %s, %d/s each | quiet p50 | quiet p99 | storm p50 | storm p99 | p99, ratio | failed |\n|---|---|---|---|---|---|---|\n", mode, b.Rate)
	for _, l := range []struct {
		name         string
		quiet, storm phase
	}{{"placements", b.PlaceQuiet, b.PlaceStorm}, {"callbacks", b.PaidQuiet, b.PaidStorm}} {
		row(l.name, l.quiet.P50, l.quiet.P99, l.storm.P50, l.storm.P99,
			fmt.Sprintf("%.1f ×", float64(l.storm.P99)/float64(max(l.quiet.P99, 1))), l.quiet.Failed+l.storm.Failed)
	}
}

// buyers pay orders of the crowd while they wait, from the last in the queue
// on: they have the longest to wait.
type buyers struct {
	st    *storm
	came  atomic.Int64
	paid  atomic.Int64 // WeChat Pay took their money
	taken atomic.Int64 // and we know of it

	mu   sync.Mutex
	errs []error
}

// buyersSeen is how many came, and how many came in time.
type buyersSeen struct{ Came, Paid int64 }

const (
	buyersAtOnce = 64
	buyersWithin = 5 * time.Second // without a rate of closes to wait for
)

func newBuyers(st *storm) *buyers { return &buyers{st: st} }

// run lets them come evenly over the time in which most of them still wait.
func (b *buyers) run(ctx context.Context, s *order.Service) {
	n := int(b.st.k.Pay * float64(b.st.crowd.n))
	over := buyersWithin
	if rate := b.st.k.Rate; rate > 0 {
		over = time.Duration(0.8 * float64(b.st.crowd.n-n) / rate * float64(time.Second))
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, buyersAtOnce)
	for i := range n {
		pauseFor(ctx, time.Until(b.st.First.Add(over*time.Duration(i)/time.Duration(n))))
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b.one(context.WithoutCancel(ctx), s, b.st.crowd.n-i)
		})
	}
	wg.Wait()
}

// one pays at WeChat Pay, and brings the callback until it is taken.
func (b *buyers) one(ctx context.Context, s *order.Service, i int) {
	b.came.Add(1)
	if !b.st.wechat.pay(i) {
		return
	}
	b.paid.Add(1)
	const tries = 10
	no := b.st.crowd.no(i)
	for try := 1; ; try++ {
		got, err := s.Settle(ctx, paidTrade(no), order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: no})
		if err == nil && (got.Settled == order.SettledApplied || got.Settled == order.SettledRepeated) {
			b.taken.Add(1)
			return
		}
		if try == tries || err == nil {
			b.mu.Lock()
			b.errs = append(b.errs, errors.Join(fmt.Errorf("payment of order %s: %+v", no, got), err))
			b.mu.Unlock()
			return
		}
		pauseFor(ctx, time.Second)
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

func (b *buyers) judge() *buyersSeen { return &buyersSeen{b.came.Load(), b.paid.Load()} }
