package scheduler

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
)

// Time-outs and size of a connection to Redis. They are short because nothing
// waits for Redis that could not do without it.
const (
	redisDialTimeout = 500 * time.Millisecond
	redisReadTimeout = time.Second // also of a write
	// redisPool is how many connections a process has at most, of a cluster to
	// each node: one for each task that runs by default (defaultConcurrency), and
	// one for each of the queue's senders.
	redisPool = 40
)

// ErrRedisURL marks a Redis URL that cannot be used. Its text never has a part of
// the URL, which may hold a password.
var ErrRedisURL = errors.New("bad Redis URL: want redis://HOST:PORT/DB, redis+cluster://H1:P1,H2:P2 or " +
	"redis+sentinel://H1:P1,H2:P2/MASTER/DB; rediss… for TLS")

// Connect opens a Redis by its URL, with time-outs that suit the queue:
//
//	redis://[USER:PASSWORD@]HOST:PORT[/DB]
//	redis+cluster://[USER:PASSWORD@]H1:P1,H2:P2              all masters, or some
//	redis+sentinel://[USER:PASSWORD@]H1:P1,H2:P2/MASTER[/DB]  the sentinels, and what they call the master
//
// Each with rediss for TLS, of the sentinels too. The sentinels' own user and password
// follow as ?sentinel_user=…&sentinel_password=…. It does not wait for the server, which
// may be away. Its only error is ErrRedisURL.
func Connect(rawURL string) (redis.UniversalClient, error) {
	quiet.Do(func() { redis.SetLogger(silent{}) })
	o := redis.UniversalOptions{ContextTimeoutEnabled: true, DialTimeout: redisDialTimeout,
		ReadTimeout: redisReadTimeout, WriteTimeout: redisReadTimeout, PoolSize: redisPool}
	scheme, rest, _ := strings.Cut(rawURL, "://")
	kind := strings.Replace(scheme, "rediss", "redis", 1)
	if kind != scheme {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	switch kind {
	case "redis+cluster":
		o.IsClusterMode = true
		if rest, ok := hostsOf(rest, &o); !ok || strings.Trim(rest, "/") != "" {
			return nil, ErrRedisURL
		}
		return newCluster(&o), nil
	case "redis+sentinel":
		if rest, ok := hostsOf(rest, &o); !ok || !masterOf(rest, &o) {
			return nil, ErrRedisURL
		}
		return redis.NewUniversalClient(&o), nil
	case "redis":
	default:
		return nil, ErrRedisURL
	}
	parsed, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, ErrRedisURL
	}
	o.Addrs, o.DB, o.TLSConfig = []string{parsed.Addr}, parsed.DB, parsed.TLSConfig
	o.Username, o.Password = parsed.Username, parsed.Password
	return redis.NewUniversalClient(&o), nil
}

// quiet is for go-redis' own log, which goes to stderr in a form of its own. What it says there,
// that a connection failed or a sentinel named another master, shows in the findings of doctor
// and in the log of whoever asked.
var quiet sync.Once

// silent says nothing.
type silent struct{}

// Printf implements go-redis' logger.
func (silent) Printf(context.Context, string, ...any) {}

// hostsOf reads USER:PASS@H1:P1,H2:P2 from the beginning of a URL into o, gives what follows, and
// reports whether it could. Package url does not take several hosts.
func hostsOf(rest string, o *redis.UniversalOptions) (after string, ok bool) {
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		var userErr, passwordErr error
		o.Username, userErr = url.PathUnescape(user)
		o.Password, passwordErr = url.PathUnescape(password)
		if userErr != nil || passwordErr != nil {
			return "", false
		}
		rest = rest[at+1:]
	}
	hosts := rest
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		hosts, after = rest[:end], rest[end:]
	}
	o.Addrs = strings.Split(hosts, ",")
	for _, addr := range o.Addrs {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return "", false
		}
	}
	return after, true
}

// masterOf reads /MASTER[/DB][?sentinel_user=…&sentinel_password=…] into o, and reports whether
// it could.
func masterOf(rest string, o *redis.UniversalOptions) bool {
	path, query, _ := strings.Cut(rest, "?")
	name, number, numbered := strings.Cut(strings.Trim(path, "/"), "/")
	var err error
	if o.MasterName, err = url.PathUnescape(name); err != nil || o.MasterName == "" {
		return false
	}
	if numbered {
		if o.DB, err = strconv.Atoi(number); err != nil || o.DB < 0 {
			return false
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for name, value := range values {
		switch {
		case len(value) == 1 && name == "sentinel_user":
			o.SentinelUsername = value[0]
		case len(value) == 1 && name == "sentinel_password":
			o.SentinelPassword = value[0]
		default:
			return false
		}
	}
	return true
}

// rediscover is a hook that lets a cluster client ask which node serves what as
// soon as a node does not answer. By itself go-redis keeps to a dead master until
// what it knows is ten seconds old. go-redis asks at most five times a second,
// however many calls fail.
type rediscover struct{ client *redis.ClusterClient }

func newCluster(o *redis.UniversalOptions) *redis.ClusterClient {
	c := redis.NewClusterClient(o.Cluster())
	c.AddHook(rediscover{c})
	return c
}

// DialHook implements redis.Hook.
func (r rediscover) DialHook(next redis.DialHook) redis.DialHook {
	return next
}

// ProcessHook implements redis.Hook.
func (r rediscover) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return r.after(ctx, next(ctx, cmd)) }
}

// ProcessPipelineHook implements redis.Hook.
func (r rediscover) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return r.after(ctx, next(ctx, cmds)) }
}

// after passes err on, and has the client look at the cluster again unless it is an
// answer of Redis: that comes from a node that lives, and go-redis by itself
// follows the answers that point to another node.
func (r rediscover) after(ctx context.Context, err error) error {
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) && !errors.Is(err, context.Canceled) {
		r.client.ReloadState(ctx)
	}
	return err
}

// aliveFor is how long the key of a write that proves that Redis takes writes is kept.
const aliveFor = time.Minute

// errForgets: a Redis that takes a write and has lost it a moment later.
var errForgets = errors.New("what Redis took a moment ago is gone")

// aliveKey is the key of such a write, on the node that has the queue.
func aliveKey(queue string) string { return "orderd:alive:{" + queue + "}" }

// Writable writes a small key on each node that has a queue, and gives what Redis says
// against it: a PING is answered as well by a read-only replica, by a Redis that is
// full, and by one that has lost its replicas or its disk, and none of them hands out
// a task. It takes redisPatience at most.
func Writable(ctx context.Context, client redis.UniversalClient) error {
	_, err := writeAll(ctx, client)
	return err
}

// writeAll does that, and reports whether the keys of an earlier write were there, all
// of them.
func writeAll(ctx context.Context, client redis.UniversalClient) (kept bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	pipe := client.Pipeline()
	var were []*redis.IntCmd
	var writes []*redis.StatusCmd
	for queue := range queues() {
		were = append(were, pipe.Exists(ctx, aliveKey(queue)))
		writes = append(writes, pipe.Set(ctx, aliveKey(queue), "1", aliveFor))
	}
	_, err = pipe.Exec(ctx)
	kept = true
	for i := range were {
		kept = kept && were[i].Val() == 1
		if err == nil {
			err = writes[i].Err()
		}
	}
	return kept, err
}

// refusals are what Redis says when it takes no writes (redis.io, "Error replies"; the
// texts of Redis 7), and what to do about it.
var refusals = []struct{ prefix, fix string }{
	{"READONLY", "it is a replica: point ORDERD_REDIS at the master"},
	{"OOM", "it is full: raise maxmemory"},
	{"NOREPLICAS", "bring its replicas back, or lower min-replicas-to-write"},
	{"MISCONF", "it cannot write its snapshot: free its disk, see its log (stop-writes-on-bgsave-error)"},
	{"MASTERDOWN", "it is a replica without its master: point ORDERD_REDIS at the master"},
	{"CLUSTERDOWN", "bring the missing nodes of the cluster back"},
	{"NOPERM", "give the user of ORDERD_REDIS the right to write the keys asynq:* and orderd:*"},
}

// writeFinding says whether Redis takes writes.
func writeFinding(ctx context.Context, client redis.UniversalClient) sqldb.Finding {
	f := sqldb.Finding{ID: "redis.write", Level: sqldb.LevelOK, Found: "taken"}
	err := Writable(ctx, client)
	if err == nil {
		return f
	}
	f.Level, f.Found = sqldb.LevelWarn, err.Error()
	f.Why = "it answers and hands out no tasks: timeouts run from the database, up to two seconds late"
	f.Fix = "see the log of Redis"
	for _, r := range refusals {
		if strings.HasPrefix(err.Error(), r.prefix) {
			f.Fix = r.fix
		}
	}
	return f
}

// pingFinding says why a PING failed: nobody answered, or Redis did and let us not in.
func pingFinding(err error) sqldb.Finding {
	f := sqldb.Finding{ID: "redis.ping", Level: sqldb.LevelWarn, Found: "no answer",
		Why: "timeouts run from the database, late by the sweep's interval", Fix: "start Redis"}
	var answer redis.Error
	switch {
	case errors.As(err, &answer):
		f.Found, f.Fix = err.Error(), "see the log of Redis"
	case strings.Contains(err.Error(), "all sentinels"): // go-redis' words for it
		f.Found, f.Fix = "no sentinel names the master", "start the sentinels, or correct their addresses, the "+
			"master's name and sentinel_password in ORDERD_REDIS"
	}
	for _, r := range append([]struct{ prefix, fix string }{
		{"WRONGPASS", "correct user and password in ORDERD_REDIS"},
		{"NOAUTH", "Redis wants a password: put it into ORDERD_REDIS, redis://:PASSWORD@HOST:PORT/DB"},
		{"ERR AUTH", "Redis has no password: take it out of ORDERD_REDIS"},
		{"ERR invalid password", "correct the password in ORDERD_REDIS"},
		{"ERR DB index", "Redis has no database of that number: correct the one in ORDERD_REDIS"},
	}, refusals...) {
		if strings.HasPrefix(f.Found, r.prefix) {
			f.Fix = r.fix
		}
	}
	return f
}

// Safety looks at the Redis settings that the queue relies on: that no key is
// evicted, and that a restart keeps the data. A Redis that is away is a warning:
// orders go on without it.
func Safety(ctx context.Context, client redis.UniversalClient) []sqldb.Finding {
	if err := client.Ping(ctx).Err(); err != nil {
		return []sqldb.Finding{pingFinding(err)}
	}
	policy := config(ctx, client, "maxmemory-policy")
	f := sqldb.Finding{ID: "redis.maxmemory_policy", Level: sqldb.LevelOK, Found: policy}
	switch policy {
	case "noeviction":
	case "":
		f.Level, f.Found = sqldb.LevelWarn, "not readable"
		f.Why, f.Fix = "a Redis that evicts keys loses wake-ups and blocks their ids",
			"check that maxmemory-policy is noeviction"
	default:
		f.Level = sqldb.LevelFail
		f.Why, f.Fix = "a Redis that evicts keys loses wake-ups and blocks their ids for ever",
			"redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf, on every node"
	}
	aof := sqldb.Finding{ID: "redis.appendonly", Level: sqldb.LevelOK, Found: config(ctx, client, "appendonly")}
	if aof.Found == "no" || strings.HasPrefix(aof.Found, "no at ") {
		aof.Level = sqldb.LevelWarn
		aof.Why, aof.Fix = "a restart of Redis forgets the wake-ups; the sweep re-arms them",
			"redis-cli CONFIG SET appendonly yes, and the same in redis.conf, on every node"
	}
	return []sqldb.Finding{f, aof, writeFinding(ctx, client), versionFinding(ctx, client)}
}

// leastRedis is the first version that asynq's scripts run on, by its README ("Redis version
// 4.0 or higher").
const leastRedis = 4

// versionFinding says which Redis it is, of a cluster the one of a node.
func versionFinding(ctx context.Context, client redis.UniversalClient) sqldb.Finding {
	f := sqldb.Finding{ID: "redis.version", Level: sqldb.LevelOK}
	info, err := client.Info(ctx, "server").Result()
	_, rest, ok := strings.Cut(info, "redis_version:")
	f.Found, _, _ = strings.Cut(strings.TrimSpace(rest), "\r\n")
	major, _, _ := strings.Cut(f.Found, ".")
	n, wrong := strconv.Atoi(major)
	switch {
	case err != nil || !ok || wrong != nil:
		f.Level, f.Found, f.Why = sqldb.LevelWarn, "not readable", "the queue needs Redis 4 or newer"
		f.Fix = "give the user of ORDERD_REDIS the right to INFO, or look at the server"
	case n < leastRedis:
		f.Level, f.Why, f.Fix = sqldb.LevelFail, "the queue's scripts need Redis 4 or newer", "install a newer Redis"
	}
	return f
}

// config reads a setting of Redis; "" when it cannot. All nodes of a cluster, and the
// replicas that sentinels watch, should have the same: they are masters after a
// fail-over. If not, the result is all values that were found, each with a node that has
// it, sorted.
func config(ctx context.Context, client redis.UniversalClient, name string) string {
	var mu sync.Mutex
	found := map[string]string{}
	read := func(ctx context.Context, node *redis.Client) error {
		m, err := node.ConfigGet(ctx, name).Result()
		mu.Lock()
		defer mu.Unlock()
		found[m[name]] = node.Options().Addr
		return err
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachShard(ctx, read)
	case *redis.Client:
		err = errors.Join(read(ctx, c), forEachReplica(ctx, c, read))
	}
	if err != nil {
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

// failoverAddr is the address that go-redis gives a client that asks sentinels for its master.
const failoverAddr = "FailoverClient"

// forEachReplica does something on each replica of a master that sentinels watch, as the
// master knows them (INFO replication), with the same credentials. Of another client it
// does nothing: the replicas of a Redis that nobody puts in its place are no concern.
func forEachReplica(ctx context.Context, master *redis.Client, do func(context.Context, *redis.Client) error) error {
	if master.Options().Addr != failoverAddr {
		return nil
	}
	info, err := master.Info(ctx, "replication").Result()
	for line := range strings.Lines(info) {
		name, facts, _ := strings.Cut(strings.TrimSpace(line), ":")
		if !strings.HasPrefix(name, "slave") || !strings.Contains(facts, "ip=") {
			continue
		}
		values := map[string]string{}
		for fact := range strings.SplitSeq(facts, ",") {
			key, value, _ := strings.Cut(fact, "=")
			values[key] = value
		}
		o := master.Options()
		replica := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(values["ip"], values["port"]),
			Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig, DialTimeout: o.DialTimeout,
			ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, ContextTimeoutEnabled: true})
		err = errors.Join(err, do(ctx, replica), replica.Close())
	}
	return err
}
