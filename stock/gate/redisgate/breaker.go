package redisgate

import (
	"context"
	"errors"
	"sync"
	"time"

	"orderd/stock"
)

// When Redis is away, and when it is back.
const (
	// patience bounds a call: buyers wait for it.
	patience = 500 * time.Millisecond
	// mostFailures in turn say that Redis is away; one call that ran out of patience does so
	// alone, unless others were answered meanwhile: then it is a node of a cluster.
	mostFailures = 3
	// probeFor bounds a look whether Redis is back, which holds the keeper up.
	probeFor = 200 * time.Millisecond
	// healthyFor: it is asked again when it took writes for so long.
	healthyFor = 2 * time.Second
)

// breaker remembers whether Redis can be asked.
type breaker struct {
	mu       sync.Mutex
	failures int       // in turn
	answered time.Time // the last call that was, of this machine
	away     bool
	healthy  time.Time // of this machine: it takes writes since; zero while it does not
}

// up reports that Redis can be asked.
func (b *breaker) up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.away
}

// note counts how a call went, and reports that Redis is away since this very one. What a
// script answers is no failure. Before it is taken for away others are asked whether it answers
// them.
func (b *breaker) note(err error, answers func() bool) (fell bool) {
	if !b.fails(err) || answers() && !b.fails(nil) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fell = !b.away
	b.away, b.healthy = true, time.Time{}
	return fell
}

// fails counts how a call went, and reports that Redis seems to be away since then.
func (b *breaker) fails(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || isAnswer(err) {
		b.failures, b.answered = 0, time.Now()
		return false
	}
	b.failures++
	hangs := errors.Is(err, context.DeadlineExceeded) && time.Since(b.answered) >= patience
	return !b.away && (b.failures >= mostFailures || hangs)
}

// probed takes in how a look went while Redis was away, and reports that it is back.
func (b *breaker) probed(err error) (back bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.healthy = time.Time{}
		return false
	}
	if b.healthy.IsZero() {
		b.healthy = time.Now()
	}
	if time.Since(b.healthy) < healthyFor {
		return false
	}
	b.away, b.failures = false, 0
	return true
}

// resting remembers the buckets that could not be reached: of a cluster, those whose master is away.
type resting struct {
	mu sync.Mutex
	of map[Bucket]rest // by place
}

// rest is since when a bucket was not reached, and until when it is left alone.
type rest struct {
	since time.Time // of the database's clock
	until time.Time // of this machine
}

// rests reports that a bucket could not be reached a moment ago. It is given to nobody, and
// what its row has is called back by whoever finds the pool short; of a sale with a queue, when
// nobody has reached it for stock.SeenFor.
func (r *resting) rests(b Bucket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.of[b.place()].until)
}

// rested reports that a bucket could not be reached when it was last asked.
func (r *resting) rested(b Bucket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.of[b.place()]
	return known
}

// gone reports that a bucket which rests was not reached for stock.SeenFor, as this process knows.
func (r *resting) gone(b Bucket, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	of, known := r.of[b.place()]
	return known && now.Sub(of.since) > stock.SeenFor
}

// note counts how a call to a bucket went. One that nobody has asked since for
// longer than the queues are renewed begins anew.
func (r *resting) note(b Bucket, reached bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reached {
		delete(r.of, b.place())
		return
	}
	of, known := r.of[b.place()]
	if !known || time.Since(of.until) > 2*renewEvery {
		of.since = now
	}
	of.until = time.Now().Add(restFor)
	r.of[b.place()] = of
}

// isAnswer reports that a script ran and said this.
func isAnswer(err error) bool {
	return errors.Is(err, ErrNotReady) || errors.Is(err, ErrDone) || errors.Is(err, ErrGap) ||
		errors.Is(err, ErrWentBack) || errors.Is(err, stock.ErrReturnExceeds)
}
