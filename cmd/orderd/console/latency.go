package console

import (
	"math"
	"slices"
	"strconv"
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
func (m *Metrics) latencyOf(h prometheus.Collector) latency { return m.latencies(h, "")[""] }

// latencies reads a histogram by the values of a label.
func (m *Metrics) latencies(h prometheus.Collector, label string) map[string]latency {
	all := map[string]latency{}
	r := prometheus.NewRegistry()
	if r.Register(h) != nil {
		return all
	}
	families, err := r.Gather()
	if err != nil || len(families) != 1 {
		return all // nothing was seen yet
	}
	for _, of := range families[0].GetMetric() {
		value := ""
		for _, pair := range of.GetLabel() {
			if pair.GetName() == label {
				value = pair.GetValue()
			}
		}
		l, seen, hist := all[value], uint64(0), of.GetHistogram()
		buckets := hist.GetBucket()
		if l.Buckets == nil {
			l.Buckets = make([]latencyBucket, len(buckets)+1)
		}
		for i, b := range buckets {
			l.Buckets[i].Most = time.Duration(b.GetUpperBound() * float64(time.Second))
			l.Buckets[i].Count += b.GetCumulativeCount() - seen
			seen = b.GetCumulativeCount()
		}
		l.Buckets[len(buckets)].Count += hist.GetSampleCount() - seen
		l.Count += hist.GetSampleCount()
		all[value] = l
	}
	return all
}

// counts reads counters by the values of their last label, those whose first label has a value.
func (c *counters) counts(first string) map[string]uint64 {
	all := map[string]uint64{}
	for _, value := range append(slices.Clone(c.labels[1].values), other) {
		r := prometheus.NewRegistry()
		if r.Register(c.vec.WithLabelValues(first, value)) != nil {
			continue
		}
		families, err := r.Gather()
		if err == nil && len(families) == 1 && len(families[0].GetMetric()) == 1 {
			all[value] = uint64(families[0].GetMetric()[0].GetCounter().GetValue())
		}
	}
	return all
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

// Within is how many took at most so long: one of the bounds of its buckets.
func (l latency) Within(most time.Duration) (n uint64) {
	for _, b := range l.Buckets {
		if b.Most > 0 && b.Most <= most {
			n += b.Count
		}
	}
	return n
}

// percentText writes a part of a whole: all of it is 100 % and nothing less is.
func percentText(part, of uint64) string {
	if of == 0 {
		return unknownCount
	}
	return strconv.FormatFloat(math.Floor(float64(part)*10000/float64(of))/100, 'f', -1, 64) + " %"
}
