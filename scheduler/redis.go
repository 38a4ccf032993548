package scheduler

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
)

// ErrRedisURL marks a Redis URL that cannot be used; it never shows a password.
var ErrRedisURL = errors.New("bad Redis URL: want redis://HOST:PORT/DB, rediss://… or redis+cluster://H1:P1,H2:P2")

// Connect opens a Redis by URL with time-outs that suit the queue. It does not
// wait for the server: Redis may be away.
func Connect(rawURL string) (redis.UniversalClient, error) {
	o := redis.UniversalOptions{ContextTimeoutEnabled: true, DialTimeout: 500 * time.Millisecond,
		ReadTimeout: time.Second, WriteTimeout: time.Second, PoolSize: 40}
	if rest, ok := strings.CutPrefix(rawURL, "redis+cluster://"); ok {
		if !clusterURL(rest, &o) {
			return nil, ErrRedisURL
		}
		return newCluster(&o), nil
	}
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") {
		return nil, ErrRedisURL
	}
	parsed, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, ErrRedisURL
	}
	o.Addrs, o.DB, o.Username, o.Password, o.TLSConfig = []string{parsed.Addr}, parsed.DB, parsed.Username, parsed.Password, parsed.TLSConfig
	return redis.NewUniversalClient(&o), nil
}

// clusterURL reads USER:PASS@H1:P1,H2:P2, which is no URL to package url, and
// reports whether it could.
func clusterURL(rest string, o *redis.UniversalOptions) bool {
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		var userErr, passwordErr error
		o.Username, userErr = url.PathUnescape(user)
		o.Password, passwordErr = url.PathUnescape(password)
		if userErr != nil || passwordErr != nil {
			return false
		}
		rest = rest[at+1:]
	}
	o.Addrs = strings.Split(strings.TrimSuffix(rest, "/"), ",")
	o.IsClusterMode = true
	for _, addr := range o.Addrs {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return false
		}
	}
	return true
}

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

// Safety looks at the Redis settings that the queue relies on. A Redis that is
// away is a warning: orders go on without it.
func Safety(ctx context.Context, client redis.UniversalClient) []sqldb.Finding {
	if err := client.Ping(ctx).Err(); err != nil {
		return []sqldb.Finding{{ID: "redis.ping", Level: sqldb.LevelWarn, Found: "no answer",
			Why: "timeouts run from the database, late by the sweep's interval", Fix: "start Redis"}}
	}
	policy := config(ctx, client, "maxmemory-policy")
	f := sqldb.Finding{ID: "redis.maxmemory_policy", Level: sqldb.LevelOK, Found: policy}
	switch policy {
	case "noeviction":
	case "":
		f.Level, f.Found, f.Why, f.Fix = sqldb.LevelWarn, "not readable", "a Redis that evicts keys loses wake-ups and blocks their ids",
			"check that maxmemory-policy is noeviction"
	default:
		f.Level, f.Why, f.Fix = sqldb.LevelFail, "a Redis that evicts keys loses wake-ups and blocks their ids for ever",
			"redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf, on every node"
	}
	aof := sqldb.Finding{ID: "redis.appendonly", Level: sqldb.LevelOK, Found: config(ctx, client, "appendonly")}
	if aof.Found == "no" || strings.HasPrefix(aof.Found, "no at ") {
		aof.Level, aof.Why, aof.Fix = sqldb.LevelWarn, "a restart of Redis forgets the wake-ups; the sweep re-arms them",
			"redis-cli CONFIG SET appendonly yes, and the same in redis.conf, on every node"
	}
	return []sqldb.Finding{f, aof}
}

// config reads a setting, "" when it cannot. The nodes of a cluster, replicas
// too, which are masters after a fail-over, should be of one mind; if not, the
// settings come with a node that has each, sorted.
func config(ctx context.Context, client redis.UniversalClient, name string) string {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		m, err := client.ConfigGet(ctx, name).Result()
		if err != nil {
			return ""
		}
		return m[name]
	}
	var mu sync.Mutex
	found := map[string]string{}
	if err := cluster.ForEachShard(ctx, func(ctx context.Context, node *redis.Client) error {
		m, err := node.ConfigGet(ctx, name).Result()
		mu.Lock()
		defer mu.Unlock()
		found[m[name]] = node.Options().Addr
		return err
	}); err != nil {
		return ""
	}
	var all []string
	for value, addr := range found {
		if len(found) == 1 {
			return value
		}
		all = append(all, value+" at "+addr)
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}
