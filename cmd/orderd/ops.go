package main

import (
	"cmp"
	"context"

	"orderd/cmd/orderd/console"
	"orderd/migrations"
)

// startGauges has the numbers of the database in /metrics of a process that works for
// people or runs timeouts. Those that serve buyers do without: there may be dozens, and each
// would read the same rows.
func (a *app) startGauges(_ context.Context, o options) error {
	if !o.has("admin") && !o.has("worker") {
		return nil
	}
	// A home of its own: what people ask does not decide whether buyers are sent to Redis.
	a.home = a.sharedGate(shape{gateRedis: cmp.Or(a.gateRedis, a.redis)}, a.log)
	from := console.Sources{Orders: a.orders, Differences: a.reconciler, Tasks: a.queue, Failures: a.failures,
		Gates: a.stock, CloseRate: a.s.CloseRate,
		Schema: func(ctx context.Context) (has, knows int64, err error) { return migrations.Versions(ctx, a.db) }}
	for _, k := range a.gateway.Keys() {
		if !k.NotAfter.IsZero() {
			from.Keys = append(from.Keys, console.Key{ID: k.ID, NotAfter: k.NotAfter})
		}
	}
	if a.shipping != nil {
		from.Shipments = a.shipping
	}
	if a.home != nil {
		from.Queues = a.home
	}
	a.metrics.Watch(from, a.clock.Now)
	return nil
}
