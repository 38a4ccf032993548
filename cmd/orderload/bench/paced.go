package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
)

// Paced does n calls that are due evenly over a time, whatever became of those before, with at
// most so many under way. A latency counts from the moment at which its call was due: a stall is
// felt by all that came in it.
func Paced(ctx context.Context, n int, within time.Duration, callers int,
	do func(ctx context.Context, due time.Time) error) Sample {
	var s Sample
	var next, failed atomic.Int64
	times := make([][]time.Duration, callers)
	start := time.Now()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				due := start.Add(time.Duration(float64(within) * float64(i) / float64(n)))
				if wait := time.Until(due); wait > 0 {
					sqldb.Sleep(ctx, wait)
				}
				if err := do(ctx, due); err != nil {
					failed.Add(1)
					continue
				}
				times[c] = append(times[c], time.Since(due))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(times...)
	s.Took, s.Failed, s.Done = time.Since(start), failed.Load(), int64(len(all))
	s.P50, s.P99 = Percentiles(all)
	return s
}
