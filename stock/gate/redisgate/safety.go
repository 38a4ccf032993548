package redisgate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
)

// SafetyOptions say what Safety looks at.
type SafetyOptions struct {
	Prefix string // in front of every key
	// Queues: a sale has a queue. What waits in it is in Redis alone, and is lost with it.
	Queues bool
	// Sales has the number of buckets of each sale that is under way.
	Sales map[string]int64
}

// The least version of Redis: before it XTRIM has no MINID.
const leastMajor, leastMinor = 6, 2

// Safety looks at a Redis that has, or shall have, the buckets of sales: that it can be asked,
// and the settings by which it may lose them. All nodes of a cluster are looked at, replicas too,
// which are masters after a fail-over. It writes one key.
func Safety(ctx context.Context, client redis.UniversalClient, o SafetyOptions) []sqldb.Finding {
	all, err := nodesOf(ctx, client)
	if err == nil {
		err = client.Set(ctx, o.Prefix+"gate_alive", 1, time.Minute).Err()
	}
	if err != nil {
		return []sqldb.Finding{awayFinding(err, o)}
	}
	found := []sqldb.Finding{{ID: "gate_redis.write", Level: sqldb.LevelOK, Found: "taken"},
		worst(all, "gate_redis.version", versionFinding),
		worst(all, "gate_redis.maxmemory_policy", policyFinding),
		worst(all, "gate_redis.appendonly", func(n node) sqldb.Finding { return aofFinding(n, o) }),
		worst(all, "gate_redis.replicas", replicasFinding)}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		found = append(found, spreadFinding(ctx, cluster, o))
	}
	return found
}

// awayFinding says why Redis takes no writes. Sales go on without it, but for their queues.
func awayFinding(err error, o SafetyOptions) sqldb.Finding {
	f := sqldb.Finding{ID: "gate_redis.write", Level: sqldb.LevelWarn, Found: "no answer",
		Why: "sales in mode redis are sold by each process alone, as in mode local", Fix: "start it, or correct " +
			"ORDERD_GATE_REDIS (without it, ORDERD_REDIS)"}
	var answer redis.Error
	if errors.As(err, &answer) {
		f.Found, f.Fix = err.Error(), "its answer says what to do: it is a replica, is full, lacks its replicas or "+
			"its disk, or does not know us; orderd writes and runs scripts on the keys "+o.Prefix+"*"
	}
	if o.Queues {
		f.Level, f.Why = sqldb.LevelFail, f.Why+"; those who wait in line become no orders until it is back"
	}
	return f
}

// node is one server.
type node struct {
	ctx    context.Context
	client *redis.Client
	addr   string
}

// nodesOf gives the servers behind a client.
func nodesOf(ctx context.Context, client redis.UniversalClient) (all []node, err error) {
	switch c := client.(type) {
	case *redis.Client:
		return []node{{ctx, c, c.Options().Addr}}, nil
	case *redis.ClusterClient:
		var mu sync.Mutex
		err = c.ForEachShard(ctx, func(_ context.Context, n *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, node{ctx, n, n.Options().Addr})
			return nil
		})
		slices.SortFunc(all, func(a, b node) int { return strings.Compare(a.addr, b.addr) })
		return all, err
	}
	return nil, fmt.Errorf("a client of type %T", client)
}

// worst gives the worst finding of all nodes, with the node's address when there are several.
func worst(all []node, id string, look func(node) sqldb.Finding) sqldb.Finding {
	rank := map[sqldb.Level]int{sqldb.LevelOK: 0, sqldb.LevelWarn: 1, sqldb.LevelFail: 2}
	var worst sqldb.Finding
	for i, n := range all {
		f := look(n)
		if len(all) > 1 && f.Level != sqldb.LevelOK {
			f.Found += " at " + n.addr
		}
		if i == 0 || rank[f.Level] > rank[worst.Level] {
			worst = f
		}
	}
	worst.ID = id
	return worst
}

// config reads a setting; "" when it cannot.
func (n node) config(name string) string {
	m, err := n.client.ConfigGet(n.ctx, name).Result()
	if err != nil {
		return ""
	}
	return m[name]
}

// info reads a line of INFO; "" when it cannot.
func (n node) info(section, name string) string {
	text, err := n.client.Info(n.ctx, section).Result()
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

// unread is a finding of what Redis does not let us read.
func unread(fix string) sqldb.Finding {
	return sqldb.Finding{Level: sqldb.LevelWarn, Found: "not readable", Why: "it could not be looked at", Fix: fix}
}

// versionFinding holds the version against the least.
func versionFinding(n node) sqldb.Finding {
	version := n.info("server", "redis_version")
	f := sqldb.Finding{Level: sqldb.LevelOK, Found: version}
	switch recent, ok := isRecent(version); {
	case !ok:
		return unread("check that it is Redis 6.2 or later")
	case !recent:
		f.Level = sqldb.LevelFail
		f.Why, f.Fix = "before 6.2 the log of a bucket cannot be cut", "run Redis 6.2 or later, or Valkey"
	}
	return f
}

// isRecent reports that a version is not below the least; ok is false for what is none.
func isRecent(version string) (recent, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false, false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err != nil || err2 != nil {
		return false, false
	}
	return major > leastMajor || major == leastMajor && minor >= leastMinor, true
}

// policyFinding wants that no key of a bucket is evicted.
func policyFinding(n node) sqldb.Finding {
	f := sqldb.Finding{Level: sqldb.LevelOK, Found: n.config("maxmemory-policy")}
	switch f.Found {
	case "noeviction":
	case "":
		return unread("check that maxmemory-policy is noeviction")
	default:
		f.Level = sqldb.LevelFail
		f.Why = "a Redis that evicts keys takes buckets apart in the middle of a sale, and forgets who waits in line"
		f.Fix = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf, on every node"
	}
	return f
}

// aofFinding wants of a Redis with queues that it keeps what it was told. Buckets alone are made
// anew from the database.
func aofFinding(n node, o SafetyOptions) sqldb.Finding {
	aof, fsync := n.config("appendonly"), n.config("appendfsync")
	f := sqldb.Finding{Level: sqldb.LevelOK, Found: aof + ", appendfsync " + fsync}
	const always = "redis-cli CONFIG SET appendonly yes and CONFIG SET appendfsync always, and the same in redis.conf"
	switch {
	case !o.Queues && aof != "":
		f.Found += "; no sale has a queue, and buckets are made anew from the database"
	case aof == "":
		return unread("check that appendonly is yes, and appendfsync always where a sale has a queue")
	case aof != "yes":
		f.Level = sqldb.LevelFail
		f.Why, f.Fix = "a restart of Redis forgets who waits in line, although 202 was said", always
	case fsync != "always":
		f.Level = sqldb.LevelWarn
		f.Why, f.Fix = "a crash of its machine forgets those who came to the line in the last second or more", always
	}
	return f
}

// replicasFinding wants of a master with replicas that it takes no writes without them.
func replicasFinding(n node) sqldb.Finding {
	replicas, least := n.info("replication", "connected_slaves"), n.config("min-replicas-to-write")
	f := sqldb.Finding{Level: sqldb.LevelOK, Found: replicas + " replicas, min-replicas-to-write " + least}
	switch {
	case n.info("replication", "role") != "master":
		f.Found = "a replica"
	case replicas == "" || least == "":
		return unread("check that min-replicas-to-write is 1 or more where there are replicas")
	case replicas != "0" && least == "0":
		f.Level = sqldb.LevelWarn
		f.Why = "a master that is cut off from its replicas goes on selling, and what it sold in a queue is lost at " +
			"the fail-over"
		f.Fix = "redis-cli CONFIG SET min-replicas-to-write 1, and the same in redis.conf, on every node"
	}
	return f
}

// spreadFinding looks where in a cluster the buckets of the sales are: what is on one master is
// counted down by one core.
func spreadFinding(ctx context.Context, cluster *redis.ClusterClient, o SafetyOptions) sqldb.Finding {
	f := sqldb.Finding{ID: "gate_redis.slots", Level: sqldb.LevelOK}
	slots, err := cluster.ClusterSlots(ctx).Result()
	if err != nil {
		f.Level, f.Found = sqldb.LevelFail, err.Error()
		f.Why, f.Fix = "nobody knows which node has which bucket", "redis-cli --cluster check"
		return f
	}
	covered, masters := 0, map[string]bool{}
	for _, s := range slots {
		covered += s.End - s.Start + 1
		if len(s.Nodes) > 0 {
			masters[s.Nodes[0].Addr] = true
		}
	}
	const all = 16384
	f.Found = fmt.Sprintf("%d of %d slots on %d masters", covered, all, len(masters))
	if covered < all {
		f.Level = sqldb.LevelFail
		f.Why, f.Fix = "buckets in the other slots cannot be sold from", "redis-cli --cluster fix"
		return f
	}
	for sale, buckets := range o.Sales {
		on := map[string]bool{}
		for no := range buckets {
			key := New(cluster, o.Prefix).keys(Bucket{Sale: sale, No: no}).gate()
			slot, err := cluster.ClusterKeySlot(ctx, key).Result()
			for _, s := range slots {
				if err == nil && int64(s.Start) <= slot && slot <= int64(s.End) && len(s.Nodes) > 0 {
					on[s.Nodes[0].Addr] = true
				}
			}
		}
		if most := min(int(buckets), len(masters)); len(on) < most {
			f.Level = sqldb.LevelWarn
			f.Found = fmt.Sprintf("%s; the %d buckets of %s are on %d of them", f.Found, buckets, sale, len(on))
			f.Why = "one core counts down what others could help with"
			f.Fix = "orderd stock buckets SKU --count N with a larger number"
		}
	}
	return f
}
