package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
)

// Bounds of the producer.
const (
	armBuffer  = 8192                   // wake-ups waiting for Redis; past it the sweep sets them
	armers     = 8                      // goroutines that talk to Redis
	armTimeout = 500 * time.Millisecond // one enqueue; a hung Redis must not hold the buffer
	// armedFor is how long a slot that was set is not set again: tens of
	// thousands of orders placed in a second share one, and one call to Redis.
	armedFor  = 10 * time.Second
	maxArmed  = 4096        // slots remembered
	flushWait = time.Second // for what waits when the queue closes; the sweep has the rest
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

// Observer is told what the scheduler does. Implementations must be quick and
// safe for concurrent use.
type Observer interface {
	Armed(result string) // a slot or a refund's wake-up: set, conflict, dropped, failed
	Fired(result string) // an order or a refund was run: done, not_due, unknown, throttled, poison, error
	Swept(overdue int)   // one pass of the sweep: orders whose task had not come
	Died()               // a task gave up: somebody has to look
	RedisLost()          // Redis came back without its data
}

// Queue is the producer: it implements order.Tasks. It never makes its caller
// wait, and never for Redis.
type Queue struct {
	redis   redis.UniversalClient
	client  *asynq.Client
	log     *slog.Logger
	now     func() time.Time
	observe Observer

	arms    chan arm
	mu      sync.RWMutex // guards closed against a send on a closed channel
	closed  bool
	workers sync.WaitGroup
	failing atomic.Bool // said once, not per task

	armedMu sync.Mutex
	armed   map[int64]time.Time // slots, and when they were set

	ctx    context.Context // ends when Close has waited long enough
	cancel context.CancelFunc
}

// arm is a wake-up to set: of a slot, or of a refund.
type arm struct {
	slot   int64
	refund string
	at     time.Time // of a refund
}

// NewQueue starts a producer on a Redis. Close ends it and leaves the client open.
func NewQueue(client redis.UniversalClient, now func() time.Time, log *slog.Logger, observe Observer) *Queue {
	if observe == nil {
		observe = nobody{}
	}
	q := &Queue{redis: client, client: asynq.NewClientFromRedisClient(client), now: now, log: log, observe: observe, arms: make(chan arm, armBuffer), armed: map[int64]time.Time{}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	for range armers {
		q.workers.Go(func() {
			for a := range q.arms {
				q.handle(a)
			}
		})
	}
	return q
}

// WakeAt sets the wake-up of the orders that are due at a time: that of its
// second, which all orders of that second share. It returns at once; a wake-up
// that cannot be set is counted and left to the sweep. Nobody takes it back: an
// order may be paid, but its second has others.
func (q *Queue) WakeAt(at time.Time) {
	if slot := slotOf(at); q.unset(slot) {
		q.hand(arm{slot: slot})
	}
}

// RefundAt sets the wake-up of a refund, in a queue of its own: a storm of
// timeouts does not hold money back.
func (q *Queue) RefundAt(outRefundNo string, at time.Time) {
	q.hand(arm{refund: outRefundNo, at: at})
}

// unset reports that a slot was not set lately, and remembers that it is now. A
// slot that has come is always unset: its task may have run.
func (q *Queue) unset(slot int64) bool {
	now := q.now()
	q.armedMu.Lock()
	defer q.armedMu.Unlock()
	if at, ok := q.armed[slot]; ok && slot > now.Unix() && now.Sub(at) < armedFor {
		return false
	}
	if len(q.armed) >= maxArmed {
		clear(q.armed)
	}
	q.armed[slot] = now
	return true
}

// forget makes slots be set again: one that was not, or all, when Redis has lost
// them.
func (q *Queue) forget(slots ...int64) {
	q.armedMu.Lock()
	defer q.armedMu.Unlock()
	if len(slots) == 0 {
		clear(q.armed)
	}
	for _, s := range slots {
		delete(q.armed, s)
	}
}

func (q *Queue) hand(a arm) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return
	}
	select {
	case q.arms <- a:
	default:
		q.observe.Armed("dropped")
		q.forget(a.slot)
	}
}

func (q *Queue) handle(a arm) {
	if q.ctx.Err() != nil { // closing, and Redis has not kept up
		q.observe.Armed("dropped")
		return
	}
	ctx, cancel := context.WithTimeout(q.ctx, armTimeout)
	defer cancel()
	if a.refund != "" {
		_, _ = q.armRefund(ctx, a.refund, wakeID(a.refund, a.at), a.at)
	} else if _, err := q.armSlot(ctx, a.slot); err != nil {
		q.forget(a.slot)
	}
}

// armSlot sets the task of a second.
func (q *Queue) armSlot(ctx context.Context, slot int64) (bool, error) {
	return q.enqueue(ctx, TypeExpire, payload{V: 2, Slot: slot}, asynq.Queue(slotQueue(slot)), asynq.TaskID(slotID(slot)),
		asynq.Timeout(partTimeout), asynq.ProcessAt(time.Unix(slot, 0)))
}

// armPart gives a part of a slot to whoever is free, now.
func (q *Queue) armPart(ctx context.Context, slot, n int64, from, to *mark) (bool, error) {
	return q.enqueue(ctx, TypeExpire, payload{V: 2, Slot: slot, From: from, To: to}, asynq.Queue(slotQueue(slot+n)), asynq.TaskID(partID(slot, from, to)),
		asynq.Timeout(partTimeout))
}

func (q *Queue) armRefund(ctx context.Context, no, id string, at time.Time) (bool, error) {
	return q.enqueue(ctx, TypeRefund, payload{V: 1, OutRefundNo: no}, asynq.Queue(QueueRefund), asynq.TaskID(id), asynq.Timeout(taskTimeout), asynq.ProcessAt(ceil(at)))
}

// enqueue sets a task and reports whether it is new. A conflict means that the
// same wake-up is set already, often by this very call before its answer was lost.
func (q *Queue) enqueue(ctx context.Context, typ string, p payload, options ...asynq.Option) (bool, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return false, err
	}
	_, err = q.client.EnqueueContext(ctx, asynq.NewTask(typ, b), append(options, asynq.MaxRetry(maxRetry))...)
	switch {
	case err == nil:
		q.failing.Store(false)
		q.observe.Armed("set")
		return true, nil
	case errors.Is(err, asynq.ErrTaskIDConflict):
		q.observe.Armed("conflict")
		return false, nil
	}
	q.observe.Armed("failed")
	if !q.failing.Swap(true) {
		q.log.Warn("wake-ups cannot be set, the sweep takes over", "err", err)
	}
	return false, err
}

// Close sets what is waiting, as far as Redis takes it within flushWait, and
// ends the producer. The rest is the sweep's.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.arms)
	}
	q.mu.Unlock()
	timer := time.AfterFunc(flushWait, q.cancel)
	defer timer.Stop()
	q.workers.Wait()
	q.cancel()
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

type nobody struct{}

func (nobody) Armed(string) {}
func (nobody) Fired(string) {}
func (nobody) Swept(int)    {}
func (nobody) Died()        {}
func (nobody) RedisLost()   {}
