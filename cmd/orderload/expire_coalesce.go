package main

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// coalesced sends the scripts of many callers in one pipeline: asynq has no
// enqueue of many, and a round trip per task is what its rate ends at. There is
// no linger: a pipeline is what waited while the one before it was under way.
type coalesced struct {
	redis.UniversalClient
	calls chan script
	quit  chan struct{}
}

type script struct {
	sha  string
	keys []string
	args []any
	done chan *redis.Cmd
}

const (
	coalesceMost   = 256 // scripts of a pipeline
	coalesceFlight = 4   // pipelines under way
)

// newCoalesced wraps a client until its end is called.
func newCoalesced(client redis.UniversalClient) *coalesced {
	c := &coalesced{UniversalClient: client, calls: make(chan script, 16*coalesceMost), quit: make(chan struct{})}
	for range coalesceFlight {
		go c.flush()
	}
	return c
}

// EvalSha is asynq's every step.
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

func (c *coalesced) end() { close(c.quit) }

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
