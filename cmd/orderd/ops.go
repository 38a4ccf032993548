package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

// usualOpsAddr is the listener of monitoring where no other was configured and the role
// admin, which has the same on its own, does not run.
const usualOpsAddr = "127.0.0.1:9091"

// startGauges makes what monitoring reads beside the counters: whether the process is ready,
// and the numbers of the database in /metrics of a process that works for
// people or runs timeouts. Those that serve buyers do without: there may be dozens, and each
// would read the same rows.
func (a *app) startGauges(_ context.Context, o options) error {
	a.ready = console.NewReadiness(time.Now, a.checks()...)
	if !o.has("admin") && !o.has("worker") {
		return nil
	}
	// A home of its own: what people ask does not decide whether buyers are sent to Redis.
	a.home = a.sharedGate(shape{gateRedis: cmp.Or(a.gateRedis, a.redis)}, a.log)
	from := console.Sources{Orders: a.orders, Differences: a.reconciler, Tasks: a.queue, Failures: a.failures,
		Webhooks: a.webhooks,
		Gates:    a.stock, CloseRate: a.s.CloseRate, Lag: a.db.Lag,
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

// startOps opens the listener of monitoring: where it was configured, and where nothing else
// would have /metrics and /readyz. An address that nobody asked for and that is taken is no
// reason not to serve.
func (a *app) startOps(ctx context.Context, o options) (err error) {
	addr := a.s.OpsAddr
	if addr == "" && o.has("admin") {
		return nil
	}
	e := console.NewOps(a.ready, a.metrics, time.Now, a.log)
	a.Ops, err = a.listen(ctx, "ops", cmp.Or(addr, usualOpsAddr), "ORDERD_OPS_ADDR", e)
	if err != nil && addr == "" {
		a.announce("monitoring: nobody can read /metrics and /readyz, %s is taken (set ORDERD_OPS_ADDR)", usualOpsAddr)
		return nil
	}
	return err
}

// lameDuck has /readyz fail and goes on serving for so long: a load balancer takes a moment
// to see it, and what it sends meanwhile is served as ever.
func (a *app) lameDuck(wait time.Duration) {
	a.ready.Drain()
	time.Sleep(wait)
}

// shutdown ends the listeners, all at once, and lets requests under way finish until ctx
// ends; then they are cut.
func (a *app) shutdown(ctx context.Context) error {
	errs := make([]error, len(a.servers))
	var all sync.WaitGroup
	for i, srv := range a.servers {
		all.Go(func() {
			if err := srv.Shutdown(ctx); err != nil {
				errs[i] = errors.Join(err, srv.Close())
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// checks are what /readyz looks at. Without the database nothing can be served; without
// Redis timeouts are late. WeChat Pay is not among them: a process that is taken out of
// service because of it could not serve those who only read.
func (a *app) checks() []console.Check {
	return []console.Check{
		{Name: "database", Critical: true, Ask: func(ctx context.Context) (string, error) {
			return "", takesWrites(ctx, a.db, a.clock.Now)
		}},
		{Name: "schema", Ask: a.schemaKnown},
		{Name: "redis", Ask: func(ctx context.Context) (string, error) {
			if err := scheduler.Writable(ctx, a.redis); err != nil {
				return "timeouts run from the database while it takes no writes", err
			}
			return "", nil
		}},
		{Name: "wechat", Ask: a.trusted},
		{Name: "wechat_keys", Ask: a.keysLast},
	}
}

// takesWrites asks the database whether it takes a write, and commits one: a server that is
// read-only, full or without its majority answers a ping. On MySQL it is a permit of a rate
// that nobody else takes; while another session holds that row, the answer is without it.
func takesWrites(ctx context.Context, db *sqldb.DB, now func() time.Time) error {
	if err := db.Writable(ctx); err != nil || db.Engine() == sqldb.SQLite {
		return err // of an SQLite file that was a write
	}
	_, _, err := scheduler.NewBucket(db, "ready", readyRate, 1, now).Take(ctx, 1)
	return err
}

// readyRate is how many processes may ask the database in a second, and each be answered by
// a write.
const readyRate = 1000

// errSchema is that somebody took a migration back under this program.
var errSchema = errors.New("the schema is behind")

// schemaKnown says which schema the database has. serve starts on none that is behind.
func (a *app) schemaKnown(ctx context.Context) (string, error) {
	has, knows, err := migrations.Versions(ctx, a.db)
	if err == nil && has < knows {
		err = errSchema
	}
	return fmt.Sprintf("%d, this program knows %d", has, knows), err
}

// errKeyEnds is that a certificate of WeChat Pay ends within keyWarning.
var errKeyEnds = errors.New("a certificate ends")

// keysLast says whether WeChat Pay's certificates last; ids of keys are no secret.
func (a *app) keysLast(context.Context) (string, error) {
	for _, k := range a.gateway.Keys() {
		if !k.NotAfter.IsZero() && time.Until(k.NotAfter) < keyWarning {
			return "certificate " + k.ID + " ends on " + k.NotAfter.Format(time.DateOnly), errKeyEnds
		}
	}
	return "", nil
}

// errDistrust is that WeChat Pay's answers are not believed.
var errDistrust = errors.New("wechat pay's answers are not believed")

// trusted says whether WeChat Pay's answers are believed, by what the calls of this
// process have shown: ids of keys are no secret. It asks nobody.
func (a *app) trusted(context.Context) (string, error) {
	switch w := a.gateway.Trust(); {
	case w.Trouble != "":
		return inSettings(w.Trouble) + "; since " + stamp(w.Since.UTC()), errDistrust
	case w.Verified.IsZero():
		return "no answer yet", nil
	default:
		return "last verified answer at " + stamp(w.Verified.UTC()) + " under key " + w.Serial, nil
	}
}
