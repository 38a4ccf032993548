package console

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// latency is how long something took since this process began, as its histogram has it. The bounds of a
// histogram are coarse: a quantile is between two of them.
type latency struct {
	Count   uint64
	Buckets []latencyBucket
}

// latencyBucket is how many took at most Most, and longer than the bucket before allows.
type latencyBucket struct {
	Most  time.Duration // 0: longer than all others
	Count uint64
}

// latencyOf reads a histogram, all of its labels together.
func (m *Metrics) latencyOf(h prometheus.Collector) latency {
	r := prometheus.NewRegistry()
	if r.Register(h) != nil {
		return latency{}
	}
	families, err := r.Gather()
	if err != nil || len(families) != 1 {
		return latency{} // nothing was seen yet
	}
	var l latency
	for _, of := range families[0].GetMetric() {
		seen, all := uint64(0), of.GetHistogram()
		for i, b := range all.GetBucket() {
			if i == len(l.Buckets) {
				most := time.Duration(b.GetUpperBound() * float64(time.Second))
				l.Buckets = append(l.Buckets, latencyBucket{Most: most})
			}
			l.Buckets[i].Count += b.GetCumulativeCount() - seen
			seen = b.GetCumulativeCount()
		}
		if n := len(all.GetBucket()); n == len(l.Buckets) {
			l.Buckets = append(l.Buckets, latencyBucket{})
		}
		l.Buckets[len(l.Buckets)-1].Count += all.GetSampleCount() - seen
		l.Count += all.GetSampleCount()
	}
	return l
}

// Quantile is the time within which this part of them was done, as histogram_quantile of Prometheus has it:
// of what is beyond all bounds, the last bound.
func (l latency) Quantile(part float64) time.Duration {
	rank, seen, below := part*float64(l.Count), 0.0, time.Duration(0)
	for _, b := range l.Buckets {
		if seen+float64(b.Count) >= rank && b.Count > 0 && b.Most > 0 {
			within := (rank - seen) / float64(b.Count)
			return below + time.Duration(math.Round(within*float64(b.Most-below)))
		}
		seen += float64(b.Count)
		if b.Most > 0 {
			below = b.Most
		}
	}
	return below
}

// P50 and P99 are for templates.
func (l latency) P50() time.Duration { return l.Quantile(.5) }
func (l latency) P99() time.Duration { return l.Quantile(.99) }
