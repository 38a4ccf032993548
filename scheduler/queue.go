package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/url"
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
	armBuffer   = 8192                   // wake-ups waiting for Redis; past it the sweep sets them
	armers      = 8                      // goroutines that talk to Redis
	armTimeout  = 500 * time.Millisecond // one enqueue; a hung Redis must not hold the buffer
	dropAtLeast = 2 * time.Second        // nearer ones may be pending, where deleting scans the list
	flushWait   = time.Second            // for what waits when the queue closes; the sweep has the rest
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
		return redis.NewUniversalClient(&o), nil
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
	Armed(result string)              // set, conflict, dropped, failed, unset
	Fired(result string)              // a task ran: done, not_due, unknown, throttled, poison, error
	Swept(overdue, asked, direct int) // one pass: rows found, tasks made, orders run without a task
	RedisLost()                       // Redis came back without its data
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

	ctx    context.Context // ends when Close has waited long enough
	cancel context.CancelFunc
}

type arm struct {
	orderNo string
	version int64
	at      time.Time
	drop    bool
	refund  bool // orderNo is the number of a refund
}

// NewQueue starts a producer on a Redis. Close ends it and leaves the client open.
func NewQueue(client redis.UniversalClient, now func() time.Time, log *slog.Logger, observe Observer) *Queue {
	if observe == nil {
		observe = nobody{}
	}
	q := &Queue{redis: client, client: asynq.NewClientFromRedisClient(client), now: now, log: log, observe: observe, arms: make(chan arm, armBuffer)}
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

// CloseAt sets a wake-up. It returns at once; a wake-up that cannot be set is
// counted and left to the sweep.
func (q *Queue) CloseAt(orderNo string, version int64, at time.Time) {
	q.hand(arm{orderNo: orderNo, version: version, at: at})
}

// RefundAt sets the wake-up of a refund, in a queue of its own: a storm of
// timeouts does not hold money back.
func (q *Queue) RefundAt(outRefundNo string, at time.Time) {
	q.hand(arm{orderNo: outRefundNo, at: at, refund: true})
}

// Drop takes a wake-up back, when it is far enough ahead to be still asleep;
// otherwise it fires and finds nothing to do.
func (q *Queue) Drop(orderNo string, at time.Time) {
	if at.Sub(q.now()) >= dropAtLeast {
		q.hand(arm{orderNo: orderNo, at: at, drop: true})
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
	}
}

func (q *Queue) handle(a arm) {
	if q.ctx.Err() != nil { // closing, and Redis has not kept up
		q.observe.Armed("dropped")
		return
	}
	ctx, cancel := context.WithTimeout(q.ctx, armTimeout)
	defer cancel()
	if a.drop {
		if err := q.inspector().DeleteTask(QueueExpire, wakeID(a.orderNo, a.at)); err == nil {
			q.observe.Armed("unset")
		}
		return
	}
	_, _ = q.enqueue(ctx, a, wakeID(a.orderNo, a.at), asynq.ProcessAt(ceil(a.at)))
}

// enqueue sets a task and reports whether it is new. A conflict means that the
// same wake-up is set already, often by this very call before its answer was lost.
func (q *Queue) enqueue(ctx context.Context, a arm, id string, when ...asynq.Option) (bool, error) {
	task, queue, p := TypeExpire, QueueExpire, payload{V: 1, OrderNo: a.orderNo, Version: a.version}
	if a.refund {
		task, queue, p = TypeRefund, QueueRefund, payload{V: 1, OutRefundNo: a.orderNo}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return false, err
	}
	options := append([]asynq.Option{asynq.Queue(queue), asynq.TaskID(id), asynq.MaxRetry(maxRetry), asynq.Timeout(taskTimeout)}, when...)
	_, err = q.client.EnqueueContext(ctx, asynq.NewTask(task, b), options...)
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
			"redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
	}
	aof := sqldb.Finding{ID: "redis.appendonly", Level: sqldb.LevelOK, Found: config(ctx, client, "appendonly")}
	if aof.Found == "no" {
		aof.Level, aof.Why, aof.Fix = sqldb.LevelWarn, "a restart of Redis forgets the wake-ups; the sweep re-arms them",
			"redis-cli CONFIG SET appendonly yes, and the same in redis.conf"
	}
	return []sqldb.Finding{f, aof}
}

func config(ctx context.Context, client redis.UniversalClient, name string) string {
	m, err := client.ConfigGet(ctx, name).Result()
	if err != nil {
		return ""
	}
	return m[name]
}

type nobody struct{}

func (nobody) Armed(string)        {}
func (nobody) Fired(string)        {}
func (nobody) Swept(int, int, int) {}
func (nobody) RedisLost()          {}
