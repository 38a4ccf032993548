package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/time/rate"

	"orderd/order"
)

// Orders is what the scheduler needs of orders.
type Orders interface {
	// Expire looks at an order whose time may have come (order.Service.Expire).
	Expire(ctx context.Context, orderNo string, cause order.Cause) error
	// DueOrders pages through the orders due by until (order.Service.DueOrders).
	DueOrders(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)
	// Refund sends a refund whose time may have come, or asks how far it is
	// (order.Service.Refund).
	Refund(ctx context.Context, outRefundNo string, cause order.Cause) error
	// DueRefunds pages through the refunds due by until (order.Service.DueRefunds).
	DueRefunds(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)
}

// Daily is the day's reconciliation.
type Daily interface {
	// CatchUp reconciles every day whose bill is out and that is not done. It may
	// be called at any time, by several at once.
	CatchUp(ctx context.Context) error
}

// Options shape a Worker. Orders, Now and Log are required.
type Options struct {
	Orders  Orders
	Queue   *Queue // nil: no Redis at all, the sweep does everything
	Now     func() time.Time
	Log     *slog.Logger
	Observe Observer // may be nil

	Concurrency int // handlers at once; default 32, they mostly wait for WeChat
	// CloseRate is how many orders a second are taken to WeChat. WeChat
	// publishes no limit for close and has answered FREQUENCY_LIMITED at low
	// volume. Default 50.
	CloseRate float64
	// Daily is run every day after WeChat's bills are out, and whenever a day was
	// missed; nil for never.
	Daily Daily
	// RefundRate is how many refund calls a second go to WeChat, which takes 150.
	// Default 50.
	RefundRate float64
	// SweepEvery is the interval of the sweep, and with it how late an order
	// may be when Redis is gone. Default 5 s.
	SweepEvery time.Duration
	// Poll is how often due tasks are looked for. Default 250 ms.
	Poll time.Duration
}

// Bounds of the worker.
const (
	limiterWait  = 3 * time.Second  // in the handler; longer and the task goes back
	shutdownWait = 22 * time.Second // above taskTimeout, so that no handler is ever cut off
	closeBurst   = 10
)

// Worker runs what is due: asynq tasks when there is a queue, and the sweep.
type Worker struct {
	o        Options
	server   *asynq.Server
	limiter  *rate.Limiter // closes
	refunds  *rate.Limiter
	stop     context.CancelFunc
	stopping context.Context // ends when Stop is called
	loops    sync.WaitGroup
	sweep    sweep
}

// NewWorker prepares a worker; Start starts it.
func NewWorker(o Options) (*Worker, error) {
	if o.Orders == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("scheduler: Options needs Orders, Now and Log")
	}
	setDefault(&o.Concurrency, 32)
	setDefault(&o.CloseRate, 50)
	setDefault(&o.RefundRate, 50)
	setDefault(&o.SweepEvery, 5*time.Second)
	setDefault(&o.Poll, 250*time.Millisecond)
	if o.Observe == nil {
		o.Observe = nobody{}
	}
	w := &Worker{o: o, limiter: rate.NewLimiter(rate.Limit(o.CloseRate), closeBurst),
		refunds: rate.NewLimiter(rate.Limit(o.RefundRate), closeBurst)}
	w.stopping, w.stop = context.WithCancel(context.Background())
	w.sweep.w = w
	if o.Queue != nil {
		w.server = asynq.NewServerFromRedisClient(o.Queue.redis, asynq.Config{
			Concurrency:              o.Concurrency,
			Queues:                   queues(),
			RetryDelayFunc:           func(n int, err error, _ *asynq.Task) time.Duration { return retryDelay(o.Now(), n, err) },
			IsFailure:                isFailure,
			Logger:                   &quietLog{log: o.Log, now: o.Now},
			ShutdownTimeout:          shutdownWait,
			DelayedTaskCheckInterval: o.Poll,
			TaskCheckInterval:        max(o.Poll/2, 20*time.Millisecond),
		})
	}
	return w, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Start starts tasks and sweep. A Redis that is away does not stop it.
func (w *Worker) Start() error {
	ctx := w.stopping
	w.loops.Go(func() { w.sweep.run(ctx) })
	if w.o.Daily != nil {
		w.loops.Go(func() { w.catchUp(ctx) })
	}
	if w.server == nil {
		return nil
	}
	w.loops.Go(func() {
		for { // a Redis that is away at the start joins later
			err := w.server.Start(asynq.HandlerFunc(w.handle))
			if err == nil {
				w.loops.Go(func() { w.ringDaily(ctx) })
				<-ctx.Done()
				w.server.Shutdown()
				return
			}
			w.o.Log.Warn("tasks wait for Redis, the sweep runs without", "err", err)
			if !sleep(ctx, w.o.SweepEvery) {
				return
			}
		}
	})
	return nil
}

// Stop lets the handlers that run finish and ends everything.
func (w *Worker) Stop() {
	w.stop()
	w.loops.Wait()
}

// handle runs one task. It believes nothing of it but the key.
func (w *Worker) handle(ctx context.Context, t *asynq.Task) error {
	err := w.do(ctx, t)
	w.o.Observe.Fired(result(err))
	if errors.Is(err, errPoison) || errors.Is(err, order.ErrNotFound) || errors.Is(err, order.ErrRefundNotFound) {
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry) // archived at once, and visible
	}
	if at, ok := nextAsk(err); ok {
		return w.later(ctx, t, at, err)
	}
	return err
}

// later hands over to the order's wake-up at its next time and lets this task
// end. Whoever asked WeChat has set that wake-up too, under the same id: were
// this task retried beside it, an order would gain a task with every round. It
// is retried only when the wake-up's id is its own, which it holds while it
// runs, or when the wake-up cannot be set.
func (w *Worker) later(ctx context.Context, t *asynq.Task, at time.Time, why error) error {
	p, err := decodePayload(t.Payload())
	if err != nil {
		return err
	}
	if now := w.o.Now(); !at.After(now) {
		at = now.Add(minDelay) // never round and round without a pause
	}
	next := wakeID(p.key(), at)
	if id, _ := asynq.GetTaskID(ctx); id == next {
		return why
	}
	if _, err := w.o.Queue.enqueue(ctx, arm{orderNo: p.key(), version: p.Version, refund: p.OutRefundNo != ""}, next, asynq.ProcessAt(ceil(at))); err != nil {
		return why
	}
	return nil
}

// do runs a task by its type.
func (w *Worker) do(ctx context.Context, t *asynq.Task) error {
	if t.Type() == TypeReconcile && w.o.Daily != nil {
		if err := w.reconcile(ctx); err != nil { // not a dead task: it is caught up with
			w.o.Log.Warn("daily reconciliation", "err", err)
		}
		return nil
	}
	p, err := decodePayload(t.Payload())
	if err != nil {
		return err
	}
	id, _ := asynq.GetTaskID(ctx)
	switch {
	case t.Type() == TypeExpire && p.OrderNo != "":
		return w.expire(ctx, p.OrderNo, cause("task", id))
	case t.Type() == TypeRefund && p.OutRefundNo != "":
		return w.refund(ctx, p.OutRefundNo, cause("task", id))
	}
	return fmt.Errorf("%w: type %q", errPoison, t.Type())
}

func (w *Worker) expire(ctx context.Context, orderNo string, why order.Cause) error {
	if err := throttle(ctx, w.limiter, orderNo); err != nil {
		return err
	}
	return w.o.Orders.Expire(ctx, orderNo, why)
}

func (w *Worker) refund(ctx context.Context, outRefundNo string, why order.Cause) error {
	if err := throttle(ctx, w.refunds, outRefundNo); err != nil {
		return err
	}
	return w.o.Orders.Refund(ctx, outRefundNo, why)
}

// throttle waits for a place in the rate that WeChat bears.
func throttle(ctx context.Context, l *rate.Limiter, what string) error {
	ctx, cancel := context.WithTimeout(ctx, limiterWait)
	defer cancel()
	if err := l.Wait(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, errThrottled)
	}
	return nil
}

func cause(kind, id string) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ByScheduler, ID: "worker"}, Type: kind, ID: id}
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// quietLog passes asynq's words on, each message at most once per interval:
// while Redis is away asynq repeats itself several times a second.
type quietLog struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	quietFor    = 10 * time.Second
	quietPrefix = 24   // characters that tell messages apart
	quietMax    = 1000 // kinds remembered
)

func (q *quietLog) say(level slog.Level, args []any) {
	text := fmt.Sprint(args...)
	key := text[:min(len(text), quietPrefix)]
	q.mu.Lock()
	now := q.now()
	if q.last == nil || len(q.last) > quietMax {
		q.last = map[string]time.Time{}
	}
	quiet := now.Sub(q.last[key]) < quietFor
	if !quiet {
		q.last[key] = now
	}
	q.mu.Unlock()
	if !quiet {
		q.log.Log(context.Background(), level, "asynq: "+text)
	}
}

func (q *quietLog) Debug(args ...any) { q.say(slog.LevelDebug, args) }
func (q *quietLog) Info(args ...any)  { q.say(slog.LevelDebug, args) }
func (q *quietLog) Warn(args ...any)  { q.say(slog.LevelWarn, args) }
func (q *quietLog) Error(args ...any) { q.say(slog.LevelWarn, args) }
func (q *quietLog) Fatal(args ...any) { q.say(slog.LevelError, args) }
