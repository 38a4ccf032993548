package orderhttp

import (
	"cmp"
	"sync"
	"time"
)

// Limits bound what one customer may ask of one process; a request over the limit is
// answered 429 with Retry-After. A zero field takes its default, a Rate with a negative
// Burst is no limit.
type Limits struct {
	// Place is for placements. Default ten a second, 100 at once: no person does that, a
	// back end that repeats its requests after an outage may, and a robot is kept from
	// filling a batch.
	Place Rate
	// Pay is for prepay, payment-query, cancel and refunds, most of which call WeChat
	// Pay. Default as Place.
	Pay Rate
	// Read is for everything that reads. Default 50 a second, 200 at once: several pages
	// that poll.
	Read Rate
	// Query is per order and not per customer: asking WeChat Pay whether it is paid.
	// Default one in three seconds, because WeChat Pay limits how often a merchant may
	// ask.
	Query Rate
}

// Rate is a token bucket: one call per Every on average, Burst of them at once.
type Rate struct {
	Every time.Duration
	Burst int
}

// maxTracked bounds the customers that a limiter remembers in each of its two
// generations: 65,536, at about 100 bytes each some 13 MB for a full limiter. With more
// customers than that at once the oldest are forgotten and may ask again sooner than they
// should: the limit protects the service and is no promise.
const maxTracked = 1 << 16

// limiters are one limiter for each kind of request.
type limiters struct{ place, pay, read, query *limiter }

// newLimiters has the defaults that Limits documents.
func newLimiters(l Limits, now func() time.Time) limiters {
	return limiters{
		place: newLimiter(cmp.Or(l.Place, Rate{Every: 100 * time.Millisecond, Burst: 100}), now),
		pay:   newLimiter(cmp.Or(l.Pay, Rate{Every: 100 * time.Millisecond, Burst: 100}), now),
		read:  newLimiter(cmp.Or(l.Read, Rate{Every: 20 * time.Millisecond, Burst: 200}), now),
		query: newLimiter(cmp.Or(l.Query, Rate{Every: 3 * time.Second, Burst: 1}), now),
	}
}

// limiter is a token bucket per key in bounded memory. A bucket is one number, the time
// at which it will be full again (the generic cell rate algorithm). Keys live in two
// generations: when the young one has maxTracked keys it becomes the old one, and the old
// one, whose buckets have mostly filled up again, is forgotten. It is safe for concurrent
// use.
type limiter struct {
	every, depth time.Duration // depth is the burst as time
	unlimited    bool
	now          func() time.Time

	mu         sync.Mutex
	young, old map[string]time.Time
}

// newLimiter makes a limiter whose buckets are all full: after a restart every customer
// has the whole burst again, in each process.
func newLimiter(r Rate, now func() time.Time) *limiter {
	return &limiter{
		every: r.Every, depth: r.Every * time.Duration(r.Burst), unlimited: r.Burst < 0,
		now: now, young: map[string]time.Time{},
	}
}

// take takes one token of a key. It gives 0, or how long to wait until there is one; then
// nothing was taken, so that a client that asks too often is not kept out longer for it.
func (l *limiter) take(key string) time.Duration {
	if l.unlimited {
		return 0
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	full, ok := l.young[key]
	if !ok {
		full = l.old[key]
	}
	if full.Before(now) {
		full = now
	}
	full = full.Add(l.every)
	if wait := full.Sub(now) - l.depth; wait > 0 {
		return wait
	}
	if !ok && len(l.young) >= maxTracked {
		l.old, l.young = l.young, make(map[string]time.Time)
	}
	l.young[key] = full
	return 0
}
