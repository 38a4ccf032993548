package scheduler

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// rediscover lets a cluster client ask who serves what as soon as a node does
// not answer. By itself go-redis believes in a dead master until what it knows
// is ten seconds old. It asks at most five times a second, however many fail.
type rediscover struct{ client *redis.ClusterClient }

func newCluster(o *redis.UniversalOptions) *redis.ClusterClient {
	c := redis.NewClusterClient(o.Cluster())
	c.AddHook(rediscover{c})
	return c
}

func (r rediscover) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r rediscover) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return r.after(ctx, next(ctx, cmd)) }
}

func (r rediscover) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return r.after(ctx, next(ctx, cmds)) }
}

// after passes err on. An answer of Redis, be it a refusal, comes from a node
// that lives, and go-redis itself follows those that lead elsewhere.
func (r rediscover) after(ctx context.Context, err error) error {
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) && !errors.Is(err, context.Canceled) {
		r.client.ReloadState(ctx)
	}
	return err
}
