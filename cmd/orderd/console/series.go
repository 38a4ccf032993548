package console

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// other stands for a label value that is not one of the known ones. Labels are bounded
// here and not left to callers: an order number in a label would be a series per order.
const other = "other"

// label is a label of a counter with all the values that it may have, beside other.
type label struct {
	name   string
	values []string
}

// among is a label of these values.
func among(name string, values ...string) label { return label{name, values} }

// known keeps a value to those of the label; what is not among them is other.
func (l label) known(value string) string {
	if slices.Contains(l.values, value) {
		return value
	}
	return other
}

// counters is a counter for each combination of the values of its labels. Each is there
// from the start, with 0: of a series that begins with its first event increase() gives
// nothing for that event, so that an alarm on it misses the first time.
type counters struct {
	vec    *prometheus.CounterVec
	labels []label
}

// with gives the counter of some values, which are kept to the known ones.
func (c *counters) with(values ...string) prometheus.Counter {
	for i, v := range values {
		values[i] = c.labels[i].known(v)
	}
	return c.vec.WithLabelValues(values...)
}

// inc counts one event.
func (c *counters) inc(values ...string) { c.with(values...).Inc() }

// preset makes a counter for every way to go on from the first values.
func (c *counters) preset(first ...string) {
	if len(first) == len(c.labels) {
		c.vec.WithLabelValues(first...)
		return
	}
	for _, v := range c.labels[len(first)].values {
		c.preset(append(slices.Clone(first), v)...)
	}
}

// registry makes series and registers them. Two series of one name are a mistake of ours,
// and panic at the start.
type registry struct{ *prometheus.Registry }

// counter makes a counter without labels.
func (r registry) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

// counters makes a counter for each combination of labels.
func (r registry) counters(name, help string, labels ...label) *counters {
	c := r.sparse(name, help, labels...)
	c.preset()
	return c
}

// sparse is counters of which most combinations cannot be; none is there before its first
// event unless it is made.
func (r registry) sparse(name, help string, labels ...label) *counters {
	names := make([]string, len(labels))
	for i, l := range labels {
		names[i] = l.name
	}
	c := &counters{prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, names), labels}
	r.MustRegister(c.vec)
	return c
}

// gauge makes a gauge without labels.
func (r registry) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.MustRegister(g)
	return g
}

// histogram makes a histogram without labels; buckets are upper bounds.
func (r registry) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.MustRegister(h)
	return h
}

// histograms makes a histogram for each combination of labels, when it is first used: a
// dozen series each, so that none is made in advance. What an alarm counts has a counter.
func (r registry) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	r.MustRegister(h)
	return h
}
