package storm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/stock"
)

// foreground is what the shop does beside the storm: placements and callbacks at a fixed
// rate. A call's latency counts from the moment at which it was meant to begin, so that
// waiting for a slow call before it is not hidden (coordinated omission: a closed loop
// would ask less when the service is slow, and look well).
type foreground struct {
	rate           int // of each, a second
	places, settle calls
}

const (
	// besideWarm is how long placements run before anything is measured.
	besideWarm = 5 * time.Second
	// besideLag is how long after them callbacks begin: they pay what was placed.
	besideLag = 2 * time.Second
	// besideFlight is calls under way; more are refused, and count as failed.
	besideFlight = 4096
	// besideQueue is how many seconds of placements may wait for their callback.
	besideQueue = 60
)

// startForeground starts both, besideWarm and Quiet ahead of the first deadline. The
// function that it gives waits for their end, which is that of ctx.
func (st *storm) startForeground(ctx context.Context, run *running) (wait func()) {
	if st.k.Foreground == 0 {
		return func() {}
	}
	st.beside = &foreground{rate: st.k.Foreground}
	start := st.First.Add(-st.k.Quiet - besideWarm)
	placed := make(chan string, besideQueue*st.k.Foreground)
	name := ulid.Make().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		st.beside.places.openLoop(ctx, st.k.Foreground, start, func(ctx context.Context, n int64) error {
			got, err := run.orders.Place(ctx, order.Placement{CustomerID: fmt.Sprint("f", n%seedCustomers),
				RequestID: fmt.Sprint(name, "-", n), Cause: "bench",
				Lines: []stock.Line{{SkuID: bench.SKU(int(n) % seedSKUs), Quantity: 1}}})
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
				return bench.Settle(ctx, run.orders, no)
			default:
				return bench.ErrUsedUp // the placements are behind: not the callback's latency
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

// latency is one call: at is when it was meant to begin, took counts from there.
type latency struct {
	at     time.Time // when it was meant to begin
	took   time.Duration
	failed bool
}

// openLoop begins rate calls a second from start until ctx ends, whether the
// earlier ones have ended or not, and waits for them. A call that returns
// bench.ErrUsedUp does not count.
func (c *calls) openLoop(ctx context.Context, rate int, start time.Time, do func(ctx context.Context, n int64) error) {
	var g errgroup.Group
	g.SetLimit(besideFlight)
	for n := int64(0); ; n++ {
		at := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if d := time.Until(at); d > 0 {
			sqldb.Sleep(ctx, d)
		}
		if ctx.Err() != nil {
			break
		}
		if !g.TryGo(func() error {
			if err := do(context.WithoutCancel(ctx), n); !errors.Is(err, bench.ErrUsedUp) {
				c.add(latency{at, time.Since(at), err != nil})
			}
			return nil
		}) {
			c.add(latency{at, 0, true})
		}
	}
	_ = g.Wait() // failures are in c
}

// add notes a call that has ended or was refused.
func (c *calls) add(l latency) {
	c.mu.Lock()
	c.all = append(c.all, l)
	c.mu.Unlock()
}

// between gives count, failures and percentiles of the calls that were meant to begin
// from from on and before to. It is called when all have ended.
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
	s.Calls = len(times)
	s.P50, s.P99 = bench.Percentiles(times)
	return s
}

// phase is the calls of a time. The percentiles are of those that did not fail.
type phase struct {
	Calls, Failed int
	P50, P99      time.Duration
}

// besideResult is the two kinds of calls, before the storm and in it; Rate is of each, a
// second.
type besideResult struct {
	Rate                                         int
	PlaceQuiet, PlaceStorm, PaidQuiet, PaidStorm phase
}

// judge splits the calls at the first deadline. The first besideWarm of the placements
// are in neither part: connections and statements are made then.
func (f *foreground) judge(first, drained time.Time) *besideResult {
	from := first.Add(-time.Hour) // before everything
	if len(f.places.all) > 0 {
		from = f.places.all[0].at.Add(besideWarm)
	}
	return &besideResult{f.rate, f.places.between(from, first), f.places.between(first, drained),
		f.settle.between(from, first), f.settle.between(first, drained)}
}

// print prints the table of a mode.
func (b *besideResult) print(mode string) {
	fmt.Println()
	bench.Header(fmt.Sprintf("beside %s, %d/s each", mode, b.Rate), "quiet p50", "quiet p99", "storm p50", "storm p99",
		"p99, ratio", "failed")
	for _, l := range []struct {
		name         string
		quiet, storm phase
	}{{"placements", b.PlaceQuiet, b.PlaceStorm}, {"callbacks", b.PaidQuiet, b.PaidStorm}} {
		bench.Row(l.name, l.quiet.P50, l.quiet.P99, l.storm.P50, l.storm.P99,
			fmt.Sprintf("%.1f ×", float64(l.storm.P99)/float64(max(l.quiet.P99, 1))), l.quiet.Failed+l.storm.Failed)
	}
}
