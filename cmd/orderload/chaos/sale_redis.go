package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order/ordertest/canary"
	"orderd/stock"
)

// usualBuckets is how many buckets in Redis a SKU of the sale has; scale draws other numbers,
// up to mostBuckets. A pool keeps stock.KeepPerHolder units for each, which a deep one has.
const usualBuckets, mostBuckets = 2, 4

// bucketFaults are what goes wrong with the Redis of a sale's buckets, which the queue does
// not use. A fault has happened when units were in buckets before it, and when more is sold
// from Redis after it: a sale that never comes back to Redis makes the run invalid.
var bucketFaults = []saleFault{
	{"its Redis killed, nothing on disk", onBuckets(func(n *nemesis, ctx context.Context, _ *rand.Rand) error {
		return n.killBuckets(ctx, nil, func() error { return os.RemoveAll(n.bucketsLog()) })
	})},
	{"its Redis killed, appendfsync everysec", onBuckets(func(n *nemesis, ctx context.Context, _ *rand.Rand) error {
		return n.killBuckets(ctx, []string{"CONFIG SET appendfsync everysec"}, nil)
	})},
	{"its Redis killed, appendfsync always", onBuckets(func(n *nemesis, ctx context.Context, _ *rand.Rand) error {
		return n.killBuckets(ctx, []string{"CONFIG SET appendfsync always"}, nil)
	})},
	{"its Redis put back to an older state", onBuckets((*nemesis).putBack)},
	{"its Redis flushed", onBuckets(func(n *nemesis, ctx context.Context, _ *rand.Rand) error {
		return command(ctx, n.buckets.Addr, "FLUSHALL")
	})},
	{"its Redis stopped", onBuckets(func(n *nemesis, ctx context.Context, _ *rand.Rand) error {
		n.buckets.Pause()
		sqldb.Sleep(ctx, bucketsStopped)
		n.buckets.Resume()
		return nil
	})},
	{"its Redis fails over to a replica that lags", onBuckets(func(n *nemesis, ctx context.Context,
		_ *rand.Rand) error {
		return n.failOver(ctx, 0)
	})},
	{"two masters of its Redis", onBuckets(func(n *nemesis, ctx context.Context, _ *rand.Rand) error {
		return n.failOver(ctx, twoMasters)
	})},
	{"buckets scaled every second", onBuckets(func(n *nemesis, ctx context.Context, rnd *rand.Rand) error {
		for range scalings {
			if err := n.scale(ctx, rnd); err != nil {
				return err
			}
			sqldb.Sleep(ctx, time.Second)
		}
		return nil
	})},
}

const (
	// bucketsStopped is how long the Redis of the buckets stands still.
	bucketsStopped = 3 * time.Second
	// lag is how much a replica or a backup is behind, which has old buckets then.
	lag = time.Second
	// twoMasters is how long two servers are asked for the same buckets.
	twoMasters = 2 * time.Second
	// scalings is how often the number of buckets changes, once a second.
	scalings = 5
	// soldAgainWithin bounds the time until a sale comes back to its Redis: it asks for two
	// seconds whether it is healthy, and the number of buckets may have changed.
	soldAgainWithin = 20 * time.Second
	// replicaPatience is for a replica to have everything.
	replicaPatience = 10 * time.Second
)

// provoke brings a sale in Redis to a step that it does not come to by itself all the time:
// new buckets are opened when their number changes, and called back when Redis has lost them.
func (n *nemesis) provoke(ctx context.Context, rnd *rand.Rand, step string) {
	if n.buckets == nil {
		return
	}
	switch step { // one that cannot be provoked now is tried again
	case "gate.given", "gate.opened":
		_ = n.scale(ctx, rnd)
	case "gate.epoch", "gate.recalled":
		n.doubts.begin()
		_ = command(ctx, n.buckets.Addr, "FLUSHALL")
		n.doubts.end()
	}
}

// startBuckets starts the Redis of the buckets for a run in mode redis, with a proxy.
func (s *stage) startBuckets(ctx context.Context) (err error) {
	if s.gate != string(stock.GateRedis) {
		return nil
	}
	if s.buckets, err = s.newBuckets(ctx); err != nil {
		return err
	}
	if s.bucketsProxy, err = faultproxy.New(s.buckets.Addr); err != nil || s.rate == 0 {
		return err
	}
	s.aloneProxy, err = faultproxy.New(s.buckets.Addr)
	return err
}

// eachProxy does something with the proxies before the Redis of the buckets.
func (s *stage) eachProxy(do func(p *faultproxy.Proxy)) {
	for _, p := range []*faultproxy.Proxy{s.bucketsProxy, s.aloneProxy} {
		if p != nil {
			do(p)
		}
	}
}

// newBuckets starts a Redis in a folder of its own.
func (s *stage) newBuckets(ctx context.Context) (*servers.Redis, error) {
	s.bucketsDirs++
	return servers.StartRedis(ctx, s.bucketsDir(), "--appendonly", "yes", "--repl-diskless-sync-delay", "0",
		"--requirepass", canary.RedisPass, "--masterauth", canary.RedisPass)
}

// bucketsDir is the folder of the newest Redis of the buckets, bucketsLog its log on disk.
func (s *stage) bucketsDir() string { return filepath.Join(s.dir, "g"+strconv.Itoa(s.bucketsDirs)) }
func (s *stage) bucketsLog() string { return filepath.Join(s.bucketsDir(), "appendonlydir") }

// onBuckets makes a fault of something that is done to the Redis of the buckets.
func onBuckets(do func(n *nemesis, ctx context.Context, rnd *rand.Rand) error) func(*nemesis, context.Context,
	*rand.Rand) bool {
	return func(n *nemesis, ctx context.Context, rnd *rand.Rand) bool {
		if !n.sellsFromRedis(ctx) {
			return false
		}
		if err := do(n, ctx, rnd); err != nil {
			if ctx.Err() == nil {
				n.failed(fmt.Errorf("the Redis of the buckets: %w", err))
			}
			return false
		}
		return n.sellsFromRedis(ctx)
	}
}

// sellsFromRedis waits until more units are sold out of buckets in Redis, and reports that
// they were.
func (n *nemesis) sellsFromRedis(ctx context.Context) bool {
	before, known := int64(0), false
	for end := time.Now().Add(soldAgainWithin); time.Now().Before(end); {
		sold, err := n.soldFromRedis(ctx)
		switch {
		case err != nil: // the database is away
		case !known:
			before, known = sold, true
		case sold > before:
			return true
		}
		if !sqldb.Sleep(ctx, quietEvery) {
			return false
		}
	}
	return false
}

// soldFromRedis is how many units were taken out of buckets in Redis so far.
func (s *stage) soldFromRedis(ctx context.Context) (units int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(-f.delta), 0)
FROM stock_buckets b
JOIN stock_flows f ON f.bucket_id = b.bucket_id
WHERE b.home = 'redis'`).Scan(&units)
	return units, err
}

// killBuckets kills the Redis of the buckets, after commands, and starts it again with what
// lose leaves of its files.
func (n *nemesis) killBuckets(ctx context.Context, before []string, lose func() error) error {
	for _, c := range before {
		if err := command(ctx, n.buckets.Addr, c); err != nil {
			return err
		}
	}
	n.buckets.Kill()
	if lose != nil {
		if err := lose(); err != nil {
			return err
		}
	}
	return n.buckets.Start(context.WithoutCancel(ctx))
}

// putBack puts an older state of Redis back: its log ends, it sells on, and is killed.
func (n *nemesis) putBack(ctx context.Context, _ *rand.Rand) error {
	if err := command(ctx, n.buckets.Addr, "CONFIG SET appendonly no"); err != nil {
		return err
	}
	sqldb.Sleep(ctx, lag)
	return n.killBuckets(ctx, nil, nil)
}

// failOver makes a replica the master, which has not heard of what the old one did in the
// last moment. For as long as both live, connections that were open stay with the old one.
func (n *nemesis) failOver(ctx context.Context, both time.Duration) error {
	old := n.buckets
	replica, err := n.newBuckets(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	n.buckets = replica // in any case: close ends it
	defer old.Kill()    // its files stay
	if err := copyOf(ctx, replica.Addr, old.Addr); err != nil {
		return err
	}
	sqldb.Sleep(ctx, lag)
	n.eachProxy(func(p *faultproxy.Proxy) { p.Switch(replica.Addr) })
	if both > 0 {
		// A process that begins anew comes to the new one, as do new connections of the others.
		if n.apis[0].kill(0) {
			n.killed("api")
		}
		sqldb.Sleep(ctx, both)
	}
	n.eachProxy((*faultproxy.Proxy).Reset)
	return nil
}

// copyOf makes a Redis the replica of another one, and ends that when it has everything: from
// then on it lags behind.
func copyOf(ctx context.Context, replica, master string) error {
	client := redis.NewClient(&redis.Options{Addr: replica, Password: canary.RedisPass})
	defer func() { _ = client.Close() }()
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return err
	}
	if err := client.SlaveOf(ctx, host, port).Err(); err != nil {
		return err
	}
	for end := time.Now().Add(replicaPatience); ; {
		info, err := client.Info(ctx, "replication").Result()
		if err == nil && strings.Contains(info, "master_link_status:up") {
			return client.SlaveOf(ctx, "NO", "ONE").Err()
		}
		if time.Now().After(end) || !sqldb.Sleep(ctx, readyEvery) {
			return fmt.Errorf("the replica does not get the data of its master within %s: %w", replicaPatience, err)
		}
	}
}

// scale gives the whole sale another number of buckets, by the operator's route at a process
// that does not sell.
func (n *nemesis) scale(ctx context.Context, rnd *rand.Rand) error {
	buckets := 1 + rnd.Int64N(mostBuckets)
	for i := range sale {
		c := n.gateAs(&sale[i], stock.GateRedis)
		c.Buckets = buckets
		if err := persist(ctx, func() error {
			return n.setGateOnce(ctx, c, n.workers[rnd.IntN(len(n.workers))])
		}); err != nil {
			return err
		}
	}
	return nil
}
