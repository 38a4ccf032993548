package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sample is one measurement: what was done, how fast, how long each took.
type sample struct {
	done   int64
	failed int64
	took   time.Duration
	p50    time.Duration
	p99    time.Duration
}

func (s sample) rate() float64 { return float64(s.done) / s.took.Seconds() }

func (s sample) String() string {
	return fmt.Sprintf("%8.0f/s  p50 %7s  p99 %7s  failed %d", s.rate(), round(s.p50), round(s.p99), s.failed)
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Microsecond)
}

// closedLoop runs callers that each call do again and again for a time. do gets
// a number that no other call has.
func closedLoop(ctx context.Context, callers int, length time.Duration, do func(ctx context.Context, n int64) error) sample {
	var s sample
	var n, failed atomic.Int64
	times := make([][]time.Duration, callers)
	start := time.Now()
	end := start.Add(length)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				t := time.Now()
				if err := do(ctx, n.Add(1)); err != nil {
					failed.Add(1)
					continue
				}
				times[c] = append(times[c], time.Since(t))
			}
		})
	}
	wg.Wait()
	s.took, s.failed = time.Since(start), failed.Load()
	all := slices.Concat(times...)
	slices.Sort(all)
	s.done = int64(len(all))
	if len(all) > 0 {
		s.p50, s.p99 = all[len(all)/2], all[len(all)*99/100]
	}
	return s
}

// median gives the sample whose rate is in the middle.
func median(samples []sample) sample {
	slices.SortFunc(samples, func(a, b sample) int { return int(a.rate() - b.rate()) })
	return samples[len(samples)/2]
}

// row prints one line of a table as Markdown.
func row(cells ...any) {
	fmt.Print("|")
	for _, c := range cells {
		switch v := c.(type) {
		case float64:
			fmt.Printf(" %.0f |", v)
		case time.Duration:
			fmt.Printf(" %s |", round(v))
		default:
			fmt.Printf(" %v |", v)
		}
	}
	fmt.Println()
}
