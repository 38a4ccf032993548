package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// rung counts rings by their result.
type rung struct {
	nobody
	set, conflict, failed atomic.Int64
}

func (r *rung) Rung(result string) {
	map[string]*atomic.Int64{"set": &r.set, "conflict": &r.conflict, "failed": &r.failed}[result].Add(1)
}

// A storm of rings is one task, whoever rings; it is heard when somebody listens, and then the next one is.
func TestRings(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: mini(t).Addr()})
	defer client.Close()
	var seen rung
	one := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), &seen)
	other := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), &seen)
	defer one.Close()
	defer other.Close()
	for range 100 {
		one.Ring(t.Context())
		other.Ring(t.Context())
	}
	if d, err := one.DepthOf(QueueRing); err != nil || d.States["pending"] != 1 || seen.set.Load() != 1 ||
		seen.conflict.Load() != 199 {
		t.Errorf("%+v, %v, %d set, %d conflicts", d, err, seen.set.Load(), seen.conflict.Load())
	}
	var heard atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	listening.Go(func() { one.Rings(ctx, func() { heard.Add(1) }) })
	wait(t, "the ring is heard", func() bool { return heard.Load() == 1 })
	wait(t, "the next one is", func() bool {
		other.Ring(t.Context())
		return heard.Load() >= 2
	})
	if workers, err := one.Workers(); err != nil || len(workers) != 0 {
		t.Errorf("who hears rings runs tasks: %+v, %v", workers, err)
	}
	stop()
	listening.Wait()
	if d, err := one.DepthOf(QueueRing); err != nil || d.States["archived"] != 0 || d.States["retry"] != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// A Redis that is away, or does not answer, costs who rings nothing but the time of a call, and whoever listens comes
// back.
func TestRingsWithoutRedis(t *testing.T) {
	for name, addr := range map[string]string{"away": "127.0.0.1:1", "hung": hung(t)} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
			defer client.Close()
			var seen rung
			q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), &seen)
			defer q.Close()
			q.Ring(t.Context())
			if n := seen.failed.Load(); n != 1 {
				t.Errorf("%d failed", n)
			}
			ctx, stop := context.WithCancel(t.Context())
			stop()
			q.Rings(ctx, func() { t.Error("heard") })
		})
	}
}
