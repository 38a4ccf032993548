package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sample is one measurement: how much was done, how fast, how long each call took.
type Sample struct {
	Done    int64         // calls that succeeded
	Failed  int64         // calls that returned an error; they are in no percentile
	Retried int64         // transactions run again inside of the calls; set by the few measurements that count them
	Took    time.Duration // wall time from the first call to the last
	P50     time.Duration // median latency of the calls that succeeded
	P99     time.Duration // their 99th percentile
}

// Rate is the successful calls a second.
func (s Sample) Rate() float64 { return float64(s.Done) / s.Took.Seconds() }

// String is the sample on one line, for commands that print every round.
func (s Sample) String() string {
	return fmt.Sprintf("%8.0f/s  p50 %7s  p99 %7s  failed %d", s.Rate(), Round(s.P50), Round(s.P99), s.Failed)
}

// Round leaves a duration three or four digits: above 10 ms tenths of a
// millisecond, below hundredths. Finer digits are noise.
func Round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Microsecond)
}

// Percentiles sorts the latencies in place and gives their median and their 99th
// percentile; zeros without any.
func Percentiles(latencies []time.Duration) (p50, p99 time.Duration) {
	if len(latencies) == 0 {
		return 0, 0
	}
	slices.Sort(latencies)
	return latencies[len(latencies)/2], latencies[len(latencies)*99/100]
}

// ErrUsedUp ends the caller of a closed loop that gets it: there is nothing left
// to do. It counts neither as done nor as failed.
var ErrUsedUp = errors.New("nothing is left to do")

// ClosedLoop runs callers that each call do again as soon as it has returned, for
// the given time. do gets a number, from 1 on, that no other call has.
func ClosedLoop(ctx context.Context, callers int, length time.Duration,
	do func(ctx context.Context, n int64) error) Sample {
	var s Sample
	var n, failed atomic.Int64
	times := make([][]time.Duration, callers) // one slice per caller: no lock in the measured path
	start := time.Now()
	end := start.Add(length)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				t := time.Now()
				switch err := do(ctx, n.Add(1)); {
				case errors.Is(err, ErrUsedUp):
					return
				case err != nil:
					failed.Add(1)
				default:
					times[c] = append(times[c], time.Since(t))
				}
			}
		})
	}
	wg.Wait()
	s.Took, s.Failed = time.Since(start), failed.Load()
	all := slices.Concat(times...)
	s.Done = int64(len(all))
	s.P50, s.P99 = Percentiles(all)
	return s
}

// Drain is a closed loop over a stock of n items: do gets each index from 0 to
// n-1 once, until they are used up or the time is over. Took ends with the last
// item, so that callers without work do not lower the rate.
func Drain(ctx context.Context, callers int, length time.Duration, n int,
	do func(ctx context.Context, i int) error) Sample {
	var lastDone atomic.Int64
	start := time.Now()
	s := ClosedLoop(ctx, callers, length, func(ctx context.Context, call int64) error {
		if call > int64(n) {
			return ErrUsedUp
		}
		err := do(ctx, int(call-1))
		lastDone.Store(int64(time.Since(start)))
		return err
	})
	s.Took = time.Duration(lastDone.Load())
	return s
}

// Median gives the sample whose rate is in the middle. It sorts the samples.
func Median(samples []Sample) Sample {
	slices.SortFunc(samples, func(a, b Sample) int { return int(a.Rate() - b.Rate()) })
	return samples[len(samples)/2]
}

// TakeTurns measures two sides alternately, the naive one first, so that both
// meet the same neighbours on a shared machine. It gives the median round of each.
func TakeTurns(rounds int, naive, ours func() (Sample, error)) (n, o Sample, err error) {
	medians, err := Turns(rounds, naive, ours)
	if err != nil {
		return Sample{}, Sample{}, err
	}
	return medians[0], medians[1], nil
}

// Turns is TakeTurns for any number of sides, in their order. There is at least one round.
func Turns(rounds int, sides ...func() (Sample, error)) ([]Sample, error) {
	samples := make([][]Sample, len(sides))
	for range rounds {
		for i, side := range sides {
			s, err := side()
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], s)
		}
	}
	medians := make([]Sample, len(sides))
	for i := range samples {
		medians[i] = Median(samples[i])
	}
	return medians, nil
}

// Best gives the candidate with the highest rate: the concurrency at which the
// naive peer does best, so that nobody can say it was held back.
func Best(candidates []int, rate func(candidate int) (float64, error)) (int, error) {
	best, bestRate := 0, 0.0
	for _, c := range candidates {
		r, err := rate(c)
		if err != nil {
			return 0, err
		}
		if r > bestRate {
			best, bestRate = c, r
		}
	}
	return best, nil
}
