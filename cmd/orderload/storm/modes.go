package storm

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/cmd/orderd/console"
	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/scheduler"
)

// parts is what a mode is built of, the same for all of them.
type parts struct {
	db       *sqldb.DB
	redis    redis.UniversalClient
	gateway  payment.Gateway
	rate     float64 // closes a second, 0 for no limit
	observer *observer
	log      *slog.Logger
}

// running is a mode at work. orders places and settles beside it. stop waits for what is
// under way; it is called once.
type running struct {
	orders *order.Service
	queue  *scheduler.Queue // of ours, else nil
	stop   func()
	fleet  *fleet // with workers of their own, else nil
}

// observer is orderd's own metrics, whose cost belongs to what is measured, and counts
// the orders that were closed.
type observer struct {
	*console.Metrics
	closed atomic.Int64
}

// newObserver has counted nothing.
func newObserver() *observer { return &observer{Metrics: console.NewMetrics()} }

// Transition counts the closes, and passes on what orderd's own metrics count.
func (w *observer) Transition(from, to order.State, by order.ActorType) {
	if to == order.StateClosed {
		w.closed.Add(1)
	}
	w.Metrics.Transition(from, to, by)
}

// warnings logs what is worse than information to standard error.
func warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// startOurs starts the queue, the service and the worker as orderd serve builds them
// (cmd/orderd/app.go). This function alone knows how.
func startOurs(ctx context.Context, p parts) (*running, error) {
	run, now, err := startService(ctx, p)
	if err != nil {
		return nil, err
	}
	rate := p.rate
	if rate == 0 {
		rate = -1 // the worker's word for no limit
	}
	worker, err := scheduler.NewWorker(scheduler.Options{Orders: run.orders, Queue: run.queue, Now: now, Log: p.log,
		Observe: p.observer, DeadLetters: scheduler.NewDeadLetters(p.db, now), CloseRate: rate,
		Closes: scheduler.NewBucket(p.db, "close", p.rate, scheduler.Burst(p.rate), now)})
	if err == nil {
		err = worker.Start()
	}
	if err != nil {
		run.stop()
		return nil, err
	}
	stop := run.stop
	run.stop = func() { worker.Stop(); stop() }
	return run, nil
}

// startService is the part of orderd that places and settles: queue and service,
// with the clock that they share.
func startService(ctx context.Context, p parts) (run *running, now func() time.Time, err error) {
	clock, err := sqldb.NewClock(ctx, p.db, time.Now)
	if err != nil {
		return nil, nil, err
	}
	queue := scheduler.NewQueue(p.redis, time.Now, p.log, p.observer)
	orders, err := newService(p, queue, clock.Now)
	if err != nil {
		queue.Close()
		return nil, nil, err
	}
	return &running{orders: orders, queue: queue, stop: func() { queue.Close(); orders.Close() }}, clock.Now, nil
}

// newService is the service of this process; without tasks nobody is woken for a
// deadline.
func newService(p parts, tasks order.Tasks, now func() time.Time) (*order.Service, error) {
	return bench.NewService(order.Config{DB: p.db, Gateway: p.gateway, Tasks: tasks, Now: now, Log: p.log,
		Observe: p.observer})
}

// arm sets the wake-ups that Place would have set, one for each second
// (docs/decisions/0006). What it does not set the worker's look-ahead finds.
func (c crowd) arm(q *scheduler.Queue) {
	for i := 1; i <= c.n; i++ {
		if i == 1 || !c.due(i).Equal(c.due(i-1)) {
			q.WakeAt(c.due(i))
		}
	}
}

// startNaive starts the naive peer with so many connections, each with a close under way.
func startNaive(ctx context.Context, p parts, naive *bench.Naive, conns int) (*running, error) {
	orders, err := newService(p, nil, time.Now)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		naive.Expire(ctx, bench.NaiveExpiry{Gateway: p.gateway, Workers: conns,
			Closed: func() { p.observer.closed.Add(1) },
			Failed: func(orderNo string, err error) { p.log.Warn("naive close", "order_no", orderNo, "err", err) }})
	})
	return &running{orders: orders, stop: func() { cancel(); wg.Wait(); orders.Close() }}, nil
}
