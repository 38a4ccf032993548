package scheduler

import (
	"context"
	"sync"
	"time"
)

// group runs functions side by side, at most so many at once. It stands in place
// of errgroup.SetLimit because a stop must end the wait for a free place, and
// must not end what was begun.
type group struct {
	places  chan struct{} // one per function that runs
	running sync.WaitGroup
	timeout time.Duration
}

// newGroup returns a group of at most limit functions at once, each of which has
// timeout to end.
func newGroup(limit int, timeout time.Duration) *group {
	return &group{places: make(chan struct{}, limit), timeout: timeout}
}

// Go waits for a free place and starts f. It reports false, without having
// started f, when ctx ended first.
func (g *group) Go(ctx context.Context, f func(ctx context.Context)) bool {
	if !g.acquire(ctx) {
		return false
	}
	g.start(ctx, f)
	return true
}

// acquire waits for a free place, and reports false when ctx ended first. After
// true, start must be called.
func (g *group) acquire(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case g.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// start runs f on the place that acquire gave. The context of f has the values
// of ctx and the timeout of the group, and does not end with ctx: a stop lets f
// finish, since an answer of WeChat Pay that is not stored has to be asked for
// again.
func (g *group) start(ctx context.Context, f func(ctx context.Context)) {
	g.running.Go(func() {
		defer func() { <-g.places }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.timeout)
		defer cancel()
		f(ctx)
	})
}

// Wait waits until everything that was started has ended.
func (g *group) Wait() { g.running.Wait() }
