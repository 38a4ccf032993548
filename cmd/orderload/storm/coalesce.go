package storm

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// coalesced is a Redis client that sends the scripts of many callers in one
// pipeline: asynq cannot enqueue many tasks at once, and a round trip per task would
// bound the rate of the mode per-order unfairly. Nobody waits for a pipeline to
// fill: it carries what came in while the one before it was under way.
type coalesced struct {
	redis.UniversalClient
	calls chan script
	quit  chan struct{}
}

// script is one call of EvalSha and where its answer goes.
type script struct {
	sha  string
	keys []string
	args []any
	done chan *redis.Cmd
}

const (
	// coalesceMost is scripts of a pipeline, coalesceFlight pipelines under way.
	coalesceMost   = 256
	coalesceFlight = 4
	// coalesceQueue is scripts that wait, before callers do.
	coalesceQueue = 16 * coalesceMost
)

// newCoalesced wraps a client until its end is called. All other commands go through it
// as they are.
func newCoalesced(client redis.UniversalClient) *coalesced {
	c := &coalesced{UniversalClient: client, calls: make(chan script, coalesceQueue), quit: make(chan struct{})}
	for range coalesceFlight {
		go c.flush()
	}
	return c
}

// EvalSha queues a script and waits for its answer; every step of asynq is one. When ctx
// ends first the script may run all the same.
func (c *coalesced) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	call := script{sha, keys, args, make(chan *redis.Cmd, 1)}
	select {
	case c.calls <- call:
	case <-ctx.Done():
		return failed(ctx, ctx.Err())
	case <-c.quit:
		return failed(ctx, redis.ErrClosed)
	}
	select {
	case cmd := <-call.done:
		return cmd
	case <-ctx.Done():
		return failed(ctx, ctx.Err())
	case <-c.quit:
		return failed(ctx, redis.ErrClosed)
	}
}

// failed answers a caller that has gone; the command itself may be under way.
func failed(ctx context.Context, err error) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(err)
	return cmd
}

// end fails everybody who waits; the client itself stays open.
func (c *coalesced) end() { close(c.quit) }

// flush sends pipelines, one at a time, until the end.
func (c *coalesced) flush() {
	for {
		var batch []script
		select {
		case call := <-c.calls:
			batch = append(batch, call)
		case <-c.quit:
			return
		}
		for more := true; more && len(batch) < coalesceMost; {
			select {
			case next := <-c.calls:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		pipe := c.Pipeline()
		cmds := make([]*redis.Cmd, len(batch))
		for i, b := range batch {
			cmds[i] = pipe.EvalSha(context.Background(), b.sha, b.keys, b.args...)
		}
		_, _ = pipe.Exec(context.Background()) // each command has its own error
		for i, b := range batch {
			b.done <- cmds[i]
		}
	}
}
