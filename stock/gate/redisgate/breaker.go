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
// script answers is no failure.
func (b *breaker) note(err error) (fell bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || isAnswer(err) {
		b.failures, b.answered = 0, time.Now()
		return false
	}
	b.failures++
	hangs := errors.Is(err, context.DeadlineExceeded) && time.Since(b.answered) >= patience
	if b.away || b.failures < mostFailures && !hangs {
		return false
	}
	b.away, b.healthy = true, time.Time{}
	return true
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

// isAnswer reports that a script ran and said this.
func isAnswer(err error) bool {
	return errors.Is(err, ErrNotReady) || errors.Is(err, ErrDone) || errors.Is(err, ErrGap) ||
		errors.Is(err, ErrWentBack) || errors.Is(err, stock.ErrReturnExceeds)
}
