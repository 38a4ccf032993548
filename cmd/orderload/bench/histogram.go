package bench

import (
	"maps"
	"slices"
	"time"
)

// Histogram is how many times each value was seen, by milliseconds. A million
// orders are a few thousand entries, and the database can count them itself.
type Histogram map[int64]int64

// Quantiles are the percentiles of a histogram, exact to its millisecond.
type Quantiles struct{ P50, P90, P99, Max time.Duration }

// Quantiles gives for each share the smallest value that so many of all do not
// exceed (nearest rank, rounded up: a percentile is never flattered). Zeros when
// the histogram is empty.
func (h Histogram) Quantiles() (q Quantiles) {
	keys := slices.Sorted(maps.Keys(h))
	var total int64
	for _, n := range h {
		total += n
	}
	var below int64
	for _, ms := range keys {
		d := time.Duration(ms) * time.Millisecond
		before := below
		below += h[ms]
		for _, part := range []struct {
			share int64 // of a hundred
			into  *time.Duration
		}{{50, &q.P50}, {90, &q.P90}, {99, &q.P99}, {100, &q.Max}} {
			if need := (total*part.share + 99) / 100; before < need && need <= below {
				*part.into = d
			}
		}
	}
	return q
}
