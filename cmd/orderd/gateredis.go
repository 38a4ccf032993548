package main

import (
	"context"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// Where gates in mode redis have their buckets. This file alone imports redisgate: without it,
// and that folder, such gates are sold like local ones.

// gatePrefix is in front of every key of a gate: a user of Redis that may write orderd:* may
// write them.
const gatePrefix = "orderd:"

func init() {
	openSharedGate = func(p sharedGate) gate.Shared {
		observe, _ := p.observe.(redisgate.SharedObserver)
		return redisgate.NewShared(redisgate.SharedConfig{DB: p.db, Client: p.client, Now: p.now, Prefix: gatePrefix,
			Log: p.log, Observe: observe})
	}
	gateSafety = func(ctx context.Context, client redis.UniversalClient, queues bool,
		sales map[string]int64) []sqldb.Finding {
		return redisgate.Safety(ctx, client, redisgate.SafetyOptions{Prefix: gatePrefix, Queues: queues, Sales: sales})
	}
}
