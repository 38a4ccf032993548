package scheduler

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"orderd/migrations/sqldb"
)

// Options shape a Worker. Orders, Now and Log are required.
type Options struct {
	Orders Orders
	// Queue is where tasks come from and wake-ups go; nil: there is no Redis, and
	// the sweep does everything.
	Queue *Queue
	// Now should be the database's clock (sqldb.Clock): it decides what is due.
	Now     func() time.Time
	Log     *slog.Logger
	Observe Observer // may be nil

	// DeadLetters keeps what cannot be done; nil: nothing is kept, and it is tried
	// again at every pass of the sweep.
	DeadLetters *DeadLetters

	// Concurrency is how many tasks run at once; default 32. They mostly wait, for
	// WeChat Pay or for a database connection.
	Concurrency int
	// CloseRate is how many orders a second are closed at WeChat Pay, and open trades
	// asked about as far as closes leave it, by all replicas that share Closes;
	// default 50, negative for no limit. WeChat publishes no limit for its close call
	// and has answered FREQUENCY_LIMITED at low volume. When more orders are due, they wait in state closing.
	CloseRate float64
	// Closes keeps CloseRate; nil: this worker keeps it alone.
	Closes Limiter
	// RefundRate is how many refund calls a second this worker makes; default 50.
	// WeChat documents 150 for a merchant.
	RefundRate float64
	// Daily is run every day after WeChat's bills are out, and whenever a day was
	// missed; nil: never.
	Daily Daily
	// SaleQueue is where placements of sales wait whose orders are made at a rate; nil: none do.
	SaleQueue SaleQueue
	// SweepEvery is the interval of the sweep, and so how late an order may be when
	// Redis is away; default 5 s.
	SweepEvery time.Duration
	// Poll is how often Redis is asked for tasks that have come due; default
	// 250 ms.
	Poll time.Duration
}

// Defaults of Options, where 0 stands for "not given".
const (
	defaultConcurrency = 32
	defaultCloseRate   = 50 // calls a second
	defaultRefundRate  = 50 // calls a second
	defaultSweepEvery  = 5 * time.Second
	defaultPoll        = 250 * time.Millisecond
)

const (
	// shutdownWait is how long a stop waits for what runs. It is above
	// taskTimeout, so that no refund is ever cut off.
	shutdownWait = 22 * time.Second
	// leastPoll keeps idle servers from asking Redis more than 50 times a second,
	// however short Poll is.
	leastPoll = 20 * time.Millisecond
)

// Worker runs what is due: the asynq tasks, when there is a queue, the waiting
// line, the sweep, the asker, the drainer and the daily reconciliation. It only starts and stops them and
// routes tasks; the work is the closer's and the runner's.
type Worker struct {
	queue      *Queue // nil without Redis
	log        *slog.Logger
	now        func() time.Time
	sweepEvery time.Duration

	servers  []*asynq.Server
	runner   *runner
	line     *line
	sweep    *sweep
	asker    *asker
	daily    *daily   // nil: never
	drainer  *drainer // nil: nothing waits
	failures *failureTracker

	stopping context.Context // ends when Stop is called
	stop     context.CancelFunc
	loops    sync.WaitGroup
}

// NewWorker prepares a worker; Start starts it.
func NewWorker(o Options) (*Worker, error) {
	if o.Orders == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("scheduler: Options needs Orders, Now and Log")
	}
	o.Concurrency = cmp.Or(o.Concurrency, defaultConcurrency)
	o.CloseRate = cmp.Or(o.CloseRate, defaultCloseRate)
	o.RefundRate = cmp.Or(o.RefundRate, defaultRefundRate)
	o.SweepEvery = cmp.Or(o.SweepEvery, defaultSweepEvery)
	o.Poll = cmp.Or(o.Poll, defaultPoll)
	if o.Observe == nil {
		o.Observe = nobody{}
	}
	w := &Worker{queue: o.Queue, log: o.Log, now: o.Now, sweepEvery: o.SweepEvery}
	w.stopping, w.stop = context.WithCancel(context.Background())
	w.failures = &failureTracker{trackerParams: trackerParams{
		DeadLetters: o.DeadLetters, Observe: o.Observe, Log: o.Log}}
	signal := newLineSignal()
	closer := newCloser(closerParams{Orders: o.Orders, Queue: o.Queue, Failures: w.failures, Line: signal,
		Limiter: closeLimiter(o), CloseRate: o.CloseRate, Observe: o.Observe, Now: o.Now})
	w.asker = newAsker(askerParams{Orders: o.Orders, Limiter: spareOf(closer.Limiter), Observe: o.Observe, Log: o.Log,
		Now: o.Now})
	w.line = newLine(lineParams{Orders: o.Orders, Closer: closer, Failures: w.failures, Signal: signal, Log: o.Log,
		Now: o.Now})
	if o.SaleQueue != nil {
		w.drainer = newDrainer(drainerParams{Orders: o.Orders, Queue: o.SaleQueue, Failures: w.failures,
			Observe: o.Observe, Log: o.Log, Now: o.Now})
	}
	if o.Daily != nil {
		w.daily = &daily{dailyParams{Daily: o.Daily, Queue: o.Queue, Log: o.Log, Now: o.Now,
			FirstAfter: o.SweepEvery, Stopping: w.stopping}}
	}
	w.runner = newRunner(runnerParams{Orders: o.Orders, Closer: closer, Failures: w.failures, Daily: w.daily,
		RefundRate: rate.Limit(o.RefundRate), Observe: o.Observe, Log: o.Log})
	w.sweep = newSweep(sweepParams{Orders: o.Orders, Queue: o.Queue, Closer: closer, Runner: w.runner,
		Failures: w.failures, Line: signal, Observe: o.Observe, Log: o.Log, Now: o.Now, Every: o.SweepEvery})
	if o.Queue != nil {
		w.addServers(o, queues())
	}
	return w, nil
}

// closeLimiter is what keeps the rate of closes; nil for no limit.
func closeLimiter(o Options) Limiter {
	switch {
	case o.CloseRate < 0:
		return nil
	case o.Closes == nil:
		return &localBucket{Bucket: NewBucket(nil, "", o.CloseRate, Burst(o.CloseRate), o.Now)}
	}
	return o.Closes
}

// spareOf is what closes leave of their rate; nil for no limit.
func spareOf(l Limiter) Limiter {
	if shared, ok := l.(sparing); ok {
		return shared.Spare()
	}
	return l
}

// addServers prepares the asynq server of the queues. On a Redis Cluster each
// queue has a server of its own: one server of several queues stops at the first
// whose node does not answer.
func (w *Worker) addServers(o Options, names map[string]int) {
	if _, cluster := o.Queue.redis.(*redis.ClusterClient); cluster && len(names) > 1 {
		for name := range names {
			w.addServers(o, map[string]int{name: 1})
		}
		return
	}
	w.servers = append(w.servers, asynq.NewServerFromRedisClient(o.Queue.redis, asynq.Config{
		Concurrency: o.Concurrency,
		Queues:      names,
		RetryDelayFunc: func(n int, err error, _ *asynq.Task) time.Duration {
			return retryDelay(o.Now(), n, err)
		},
		IsFailure:                isFailure,
		Logger:                   &quietLog{log: o.Log, now: o.Now},
		ShutdownTimeout:          shutdownWait,
		DelayedTaskCheckInterval: o.Poll,
		TaskCheckInterval:        max(o.Poll/2, leastPoll),
	}))
}

// Start starts everything and returns at once. A Redis that is away does not stop
// it.
func (w *Worker) Start() error {
	ctx := w.stopping
	w.loops.Go(func() { w.sweep.run(ctx) })
	w.loops.Go(func() { w.line.run(ctx) })
	w.loops.Go(func() { w.asker.run(ctx) })
	if w.daily != nil {
		w.loops.Go(func() { w.daily.catchUp(ctx) })
	}
	if w.drainer != nil {
		w.loops.Go(func() { w.drainer.run(ctx) })
	}
	for i, server := range w.servers {
		w.loops.Go(func() { w.keep(ctx, server, i == 0) })
	}
	return nil
}

// keep runs a server until the worker stops. While Redis is away it tries again
// and again to start. With the first server that has started, the daily task is
// scheduled.
func (w *Worker) keep(ctx context.Context, server *asynq.Server, first bool) {
	for {
		err := server.Start(asynq.HandlerFunc(w.handle))
		if err == nil {
			if first && w.daily != nil {
				w.loops.Go(func() { w.daily.schedule(ctx) })
			}
			<-ctx.Done()
			server.Shutdown()
			return
		}
		w.log.Warn("tasks wait for Redis, the sweep runs without", "err", err)
		if !sqldb.Sleep(ctx, w.sweepEvery) {
			return
		}
	}
}

// Stop lets what runs finish, for shutdownWait at most, and ends everything.
func (w *Worker) Stop() {
	w.stop()
	w.loops.Wait()
}

// handle runs one task. It believes nothing of it but the keys.
func (w *Worker) handle(ctx context.Context, t *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	err := w.runner.run(ctx, t.Type(), t.Payload(), id)
	if at, ok := nextAsk(err); ok {
		return w.reschedule(ctx, t, at, err)
	}
	if errors.Is(err, errPoison) { // kept where a person finds it, and gone from the queue
		return w.failures.deadLetter(ctx,
			Failure{Type: t.Type(), Key: id, Cause: err, Payload: t.Payload(), Poison: true})
	}
	return err
}

// reschedule hands over to the wake-up at the next time and lets this task end.
// Whoever asked WeChat Pay has set that wake-up too, under the same id: were this
// task retried beside it, a refund would gain a task with every round. The task is
// retried, by returning why, only when the wake-up's id is its own, which asynq
// keeps taken while it runs, or when the wake-up cannot be set.
func (w *Worker) reschedule(ctx context.Context, t *asynq.Task, at time.Time, why error) error {
	p, err := decodePayload(t.Payload())
	if err != nil {
		return err
	}
	if now := w.now(); !at.After(now) {
		at = now.Add(minDelay) // never round and round without a pause
	}
	if p.OutRefundNo == "" {
		if p.Slot == slotOf(at) { // its own second, and too early
			return why
		}
		w.queue.WakeAt(at)
		return nil
	}
	next := wakeID(p.OutRefundNo, at)
	if id, _ := asynq.GetTaskID(ctx); id == next {
		return why
	}
	if _, err := w.queue.scheduleRefund(ctx, p.OutRefundNo, next, at); err != nil {
		return why
	}
	return nil
}
