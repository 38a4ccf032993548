package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/scheduler"
)

// part is what a mode is built of.
type part struct {
	db      *sqldb.DB
	redis   redis.UniversalClient
	gateway payment.Gateway
	rate    float64 // closes a second, 0 for no limit
	seen    *watch
	log     *slog.Logger
}

// running is a mode at work. orders places and settles beside it.
type running struct {
	orders *order.Service
	queue  *scheduler.Queue // of ours, else nil
	stop   func()
	fleet  *fleet // with workers of their own, else nil
}

// watch is orderd's own metrics, and counts the orders that were closed.
type watch struct {
	*console.Metrics
	closed atomic.Int64
}

func newWatch() *watch { return &watch{Metrics: console.NewMetrics()} }

// Transition counts.
func (w *watch) Transition(from, to order.State, by order.ActorType) {
	if to == order.StateClosed {
		w.closed.Add(1)
	}
	w.Metrics.Transition(from, to, by)
}

// stormLog passes warnings on.
func stormLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// startOurs is the queue, the service and the worker as orderd serve builds
// them. This function alone knows how.
func startOurs(ctx context.Context, p part) (*running, error) {
	clock, err := sqldb.NewClock(ctx, p.db, time.Now)
	if err != nil {
		return nil, err
	}
	queue := scheduler.NewQueue(p.redis, time.Now, p.log, p.seen)
	orders, err := stormService(p, queue, clock.Now)
	if err != nil {
		queue.Close()
		return nil, err
	}
	rate := p.rate
	if rate == 0 {
		rate = -1
	}
	worker, err := scheduler.NewWorker(scheduler.Options{Orders: orders, Queue: queue, Now: clock.Now, Log: p.log, Observe: p.seen,
		DeadLetters: scheduler.NewDeadLetters(p.db, clock.Now), CloseRate: rate, Closes: scheduler.NewBucket(p.db, "close", p.rate, scheduler.Burst(p.rate), clock.Now)})
	if err == nil {
		err = worker.Start()
	}
	stop := func() { queue.Close(); orders.Close() }
	if err != nil {
		stop()
		return nil, err
	}
	return &running{orders: orders, queue: queue, stop: func() { worker.Stop(); stop() }}, nil
}

func stormService(p part, tasks order.Tasks, now func() time.Time) (*order.Service, error) {
	return order.New(order.Config{DB: p.db, Gateway: p.gateway, Tasks: tasks, Now: now, Log: p.log, Observe: p.seen,
		MchID: mchID, AppID: appID, NotifyURL: "https://shop.example/notify"})
}

// arm sets the wake-ups that Place would have set, one for each second. What it
// does not set the worker's look-ahead finds.
func (c crowd) arm(q *scheduler.Queue) {
	for i := 1; i <= c.n; i++ {
		if i == 1 || !c.due(i).Equal(c.due(i-1)) {
			q.WakeAt(c.due(i))
		}
	}
}

// perOrder is what asynq's own advice comes to: a task per order, set before
// its deadline, over many queues with a server each, and handlers that wait for
// a group commit.
const (
	perOrderQueues  = 16
	perOrderEach    = 128 // handlers of a queue
	perOrderArmers  = 256
	perOrderTimeout = 20 * time.Second
)

func perOrderQueue(i int) string { return fmt.Sprintf("storm-%02d", i%perOrderQueues) }

func startPerOrder(ctx context.Context, p part, c crowd) (*running, error) {
	orders, err := stormService(p, nil, time.Now)
	if err != nil {
		return nil, err
	}
	client := newCoalesced(p.redis)
	if err := armPerOrder(ctx, asynq.NewClientFromRedisClient(client), c); err != nil {
		client.end()
		orders.Close()
		return nil, err
	}
	handler := asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		return orders.Expire(ctx, string(t.Payload()), order.Cause{Actor: order.Actor{Type: order.ActorScheduler, ID: "storm"}, Type: "task", ID: string(t.Payload())})
	})
	servers := make([]*asynq.Server, perOrderQueues)
	for i := range servers {
		servers[i] = asynq.NewServerFromRedisClient(client, asynq.Config{Concurrency: perOrderEach, Queues: map[string]int{perOrderQueue(i): 1},
			LogLevel: asynq.FatalLevel, DelayedTaskCheckInterval: 250 * time.Millisecond, TaskCheckInterval: 100 * time.Millisecond,
			RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second }, IsFailure: func(error) bool { return false }})
		if err = errors.Join(err, servers[i].Start(handler)); err != nil {
			servers = servers[:i]
			break
		}
	}
	stop := func() {
		var wg sync.WaitGroup
		for _, s := range servers {
			wg.Go(s.Shutdown)
		}
		wg.Wait()
		client.end()
		orders.Close()
	}
	if err != nil {
		stop()
		return nil, err
	}
	return &running{orders: orders, stop: stop}, nil
}

// armPerOrder sets the task of every order.
func armPerOrder(ctx context.Context, client *asynq.Client, c crowd) error {
	var next atomic.Int64
	errs := make([]error, perOrderArmers)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= c.n && errs[w] == nil; i = int(next.Add(1)) {
				no := c.no(i)
				_, errs[w] = client.EnqueueContext(ctx, asynq.NewTask("storm", []byte(no)), asynq.Queue(perOrderQueue(i)), asynq.TaskID(no),
					asynq.ProcessAt(c.due(i)), asynq.MaxRetry(40), asynq.Timeout(perOrderTimeout))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startNaive is what every other system does: a loop asks for what is due, and
// each order is closed in a transaction of its own, over as many connections.
func startNaive(ctx context.Context, p part, pool *sql.DB, conns int) (*running, error) {
	orders, err := stormService(p, nil, time.Now)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	due := make(chan string, naivePage)
	var wg sync.WaitGroup
	wg.Go(func() { defer close(due); naivePoll(ctx, pool, due) })
	for range conns {
		wg.Go(func() {
			for no := range due {
				if err := naiveClose(ctx, pool, p.gateway, no); err == nil {
					p.seen.closed.Add(1)
				} else if ctx.Err() == nil {
					p.log.Warn("naive close", "order_no", no, "err", err)
				}
			}
		})
	}
	return &running{orders: orders, stop: func() { cancel(); wg.Wait(); orders.Close() }}, nil
}

const (
	naivePage = 1000
	naiveIdle = 50 * time.Millisecond
)

// naivePoll hands out what is due, once.
func naivePoll(ctx context.Context, db *sql.DB, due chan<- string) {
	var at int64
	var no string
	for ctx.Err() == nil {
		page, err := naiveDue(ctx, db, &at, &no)
		for _, no := range page {
			select {
			case due <- no:
			case <-ctx.Done():
				return
			}
		}
		if err != nil || len(page) < naivePage {
			pauseFor(ctx, naiveIdle)
		}
	}
}

// naiveDue reads a page and moves the cursor behind it.
func naiveDue(ctx context.Context, db *sql.DB, at *int64, no *string) ([]string, error) {
	rows, err := db.QueryContext(ctx, `SELECT order_no, due_at
FROM orders
WHERE state = 'pending'
  AND due_at >= ?
  AND due_at <= ?
  AND (due_at > ? OR order_no > ?)
ORDER BY due_at, order_no
LIMIT ?`, *at, time.Now().UnixMilli(), *at, *no, naivePage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []string
	for rows.Next() {
		if err := rows.Scan(no, at); err != nil {
			return page, err
		}
		page = append(page, *no)
	}
	return page, rows.Err()
}

// naiveClose is the baseline of a timeout: WeChat Pay is asked, and one
// transaction writes the same rows.
func naiveClose(ctx context.Context, db *sql.DB, gateway payment.Gateway, no string) error {
	asked := time.Now().UnixMilli()
	if _, err := gateway.Close(ctx, no+"-01"); err != nil {
		return err
	}
	for {
		err := naiveCloseTx(ctx, db, no, asked)
		if sqldb.Classify(err) != sqldb.ClassRetry {
			return err
		}
	}
}

func naiveCloseTx(ctx context.Context, db *sql.DB, no string, asked int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	now := time.Now().UnixMilli()
	var state, sku string
	var version, quantity int64
	if err := tx.QueryRowContext(ctx, "SELECT state, version FROM orders WHERE order_no = ? FOR UPDATE", no).Scan(&state, &version); err != nil || state != "pending" {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE orders
SET state = 'closed', version = version + 2, due_at = NULL, close_reason = 'timeout', close_tries = 1, updated_at = ?
WHERE order_no = ? AND state = 'pending'`, now, no); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES (?, ?, ?, 'close.requested', 'pending', 'closing', 'scheduler', 'storm', 'poll', '', '', 0),
  (?, ?, ?, 'close.accepted', 'closing', 'closed', 'scheduler', 'storm', 'poll', '', ?, ?)`,
		no, version+1, asked, no, version+2, now, `{"close":"accepted","close_status":"204","out_trade_no":"`+no+`-01"}`, now-asked); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "SELECT sku_id, quantity FROM order_items WHERE order_no = ?", no).Scan(&sku, &quantity); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES (?, 'return', 'close', ?, ?, ?)`, no, sku, quantity, now); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE skus SET available = available + ?, updated_at = ? WHERE sku_id = ?", quantity, now, sku); err != nil {
		return err
	}
	return tx.Commit()
}

// pauseFor waits, or less when ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
