package webhooks

import (
	"context"
	"slices"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment/feed"
)

// ringEvery is the least time between two rings of a process: what thousands of orders a
// second commit is some ten rings, and a look at the feed for each.
const ringEvery = 100 * time.Millisecond

// known is the endpoints that are on, as they were read at a time.
type known struct {
	on []Endpoint
	at time.Time // of this machine; for a duration only
}

// Relay rings whoever makes deliveries when this process has committed an event that an
// endpoint wants, until ctx ends: itself, if it does, else another by Config.Ring. Every
// process that serves runs it. It delays no commit, and may lose any ring: the look of Run
// finds what it is told of as well.
func (s *Service) Relay(ctx context.Context) {
	if s.box == nil {
		return
	}
	b, stop := s.hear()
	defer stop()
	s.relay(ctx, b)
}

// hear has a bell rung by what this process commits, until stop.
func (s *Service) hear() (b *bell, stop func()) {
	b = &bell{rung: make(chan struct{}, 1)}
	return b, s.feed.OnCommit(func(types []feed.Type) {
		failpoint.Hit("hook.told")
		b.ring(types)
	})
}

// relay passes on what a bell rings until ctx ends.
func (s *Service) relay(ctx context.Context, b *bell) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.rung:
		}
		if types := b.taken(); s.wanted(ctx, types) {
			if s.plans.Load() {
				s.wake()
			} else if s.cfg.Ring != nil {
				s.cfg.Ring(ctx)
			}
		}
		if !sqldb.Sleep(ctx, ringEvery) {
			return
		}
	}
}

// wake has Run look at the feed now. Several before it does are one.
func (s *Service) wake() {
	select {
	case s.rung <- struct{}{}:
	default:
	}
}

// wanted reports that an endpoint wants events of one of these types. Endpoints are read
// once a lookEvery at most; what cannot be read is wanted.
func (s *Service) wanted(ctx context.Context, types []feed.Type) bool {
	k := s.known.Load()
	if k == nil || time.Since(k.at) > lookEvery {
		at := time.Now()
		on, err := s.on(ctx)
		if err != nil {
			return true
		}
		k = &known{on, at}
		s.known.Store(k)
	}
	return slices.ContainsFunc(k.on, func(e Endpoint) bool {
		return len(e.Types) == 0 ||
			slices.ContainsFunc(types, func(t feed.Type) bool { return slices.Contains(e.Types, t) })
	})
}

// bell collects what is rung until somebody comes.
type bell struct {
	mu    sync.Mutex
	types []feed.Type
	rung  chan struct{}
}

// ring adds types.
func (b *bell) ring(types []feed.Type) {
	b.mu.Lock()
	for _, t := range types {
		if !slices.Contains(b.types, t) {
			b.types = append(b.types, t)
		}
	}
	b.mu.Unlock()
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// taken gives the types since the last call.
func (b *bell) taken() []feed.Type {
	b.mu.Lock()
	defer b.mu.Unlock()
	types := b.types
	b.types = nil
	return types
}
