package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// sampleEach is one call in how many that TightLoop times: a clock takes as long as what is
// measured.
const sampleEach = 64

// TightLoop is ClosedLoop for calls of less than a microsecond: it times one in sampleEach, and
// looks whether the time is over no more often.
func TightLoop(ctx context.Context, callers int, length time.Duration, do func() error) Sample {
	var s Sample
	var mu sync.Mutex
	var times [][]time.Duration
	start := time.Now()
	end := start.Add(length)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			var done, failed int64
			var took []time.Duration
			count := func(err error) {
				if err != nil {
					failed++
				} else {
					done++
				}
			}
			for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
				err := do()
				count(err)
				if err == nil {
					took = append(took, time.Since(now))
				}
				for range sampleEach - 1 {
					count(do())
				}
			}
			mu.Lock()
			defer mu.Unlock()
			s.Done, s.Failed = s.Done+done, s.Failed+failed
			times = append(times, took)
		})
	}
	wg.Wait()
	s.Took = time.Since(start)
	s.P50, s.P99 = Percentiles(slices.Concat(times...))
	return s
}
