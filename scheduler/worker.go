package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"orderd/order"
)

// Orders is what the scheduler needs of orders.
type Orders interface {
	// ClaimDue takes the turn of a page of orders whose time may have come
	// (order.Service.ClaimDue).
	ClaimDue(ctx context.Context, page []order.Due, cause order.Cause) ([]order.Claim, []error)
	// CloseClaimed asks WeChat Pay about those whose turn was taken
	// (order.Service.CloseClaimed).
	CloseClaimed(ctx context.Context, claims []order.Claim, cause order.Cause) []error
	// AwaitClose puts a page of unpaid orders in line (order.Service.AwaitClose).
	AwaitClose(ctx context.Context, page []order.Due, cause order.Cause) []error
	// DueOrders pages through the orders due by until (order.Service.DueOrders).
	DueOrders(ctx context.Context, state order.State, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)
	// Refund sends a refund whose time may have come, or asks how far it is
	// (order.Service.Refund).
	Refund(ctx context.Context, outRefundNo string, cause order.Cause) error
	// DueRefunds pages through the refunds due by until (order.Service.DueRefunds).
	DueRefunds(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)
}

// Limiter is a rate that is kept towards WeChat Pay, by all replicas together
// (Bucket).
type Limiter interface {
	// Take takes up to n turns and says how long until the next one is free.
	Take(ctx context.Context, n int) (got int, wait time.Duration, err error)
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

	// Failures keeps what cannot be done; nil: nothing is kept, and it is tried
	// again at every sweep.
	Failures *Failures

	Concurrency int // tasks at once; default 32, they mostly wait for WeChat or a lane
	// CloseRate is how many orders a second are taken to WeChat, by all replicas
	// that share Closes. WeChat publishes no limit for close and has answered
	// FREQUENCY_LIMITED at low volume. Default 50, negative for no limit. When
	// more are due, they wait in line as closing.
	CloseRate float64
	// Closes keeps CloseRate; nil: this worker keeps it alone.
	Closes Limiter
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
	shutdownWait = 22 * time.Second // above taskTimeout, so that no refund is ever cut off
	refundBurst  = 10
)

// Worker runs what is due: asynq tasks when there is a queue, and the sweep.
type Worker struct {
	o        Options
	servers  []*asynq.Server
	refunds  *rate.Limiter
	stop     context.CancelFunc
	stopping context.Context // ends when Stop is called
	loops    sync.WaitGroup
	sweep    sweep
	expiry   expiry
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
	w := &Worker{o: o, refunds: rate.NewLimiter(rate.Limit(o.RefundRate), refundBurst)}
	w.stopping, w.stop = context.WithCancel(context.Background())
	w.sweep.w = w
	w.expiry.init(w)
	if o.Queue != nil {
		w.serve(queues())
	}
	return w, nil
}

// serve prepares the server of the queues. On a cluster each has a server of its
// own: one server of several stops at the first whose node does not answer.
func (w *Worker) serve(names map[string]int) {
	o := &w.o
	if _, cluster := o.Queue.redis.(*redis.ClusterClient); cluster && len(names) > 1 {
		for name := range names {
			w.serve(map[string]int{name: 1})
		}
		return
	}
	w.servers = append(w.servers, asynq.NewServerFromRedisClient(o.Queue.redis, asynq.Config{
		Concurrency:              o.Concurrency,
		Queues:                   names,
		RetryDelayFunc:           func(n int, err error, _ *asynq.Task) time.Duration { return retryDelay(o.Now(), n, err) },
		IsFailure:                isFailure,
		Logger:                   &quietLog{log: o.Log, now: o.Now},
		ShutdownTimeout:          shutdownWait,
		DelayedTaskCheckInterval: o.Poll,
		TaskCheckInterval:        max(o.Poll/2, 20*time.Millisecond),
	}))
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
	w.loops.Go(func() { w.expiry.runLine(ctx) })
	if w.o.Daily != nil {
		w.loops.Go(func() { w.catchUp(ctx) })
	}
	for i, server := range w.servers {
		w.loops.Go(func() { w.keep(ctx, server, i == 0) })
	}
	return nil
}

// keep runs a server until the worker stops. A Redis that is away at the start
// joins later.
func (w *Worker) keep(ctx context.Context, server *asynq.Server, first bool) {
	for {
		err := server.Start(asynq.HandlerFunc(w.handle))
		if err == nil {
			if first {
				w.loops.Go(func() { w.ringDaily(ctx) })
			}
			<-ctx.Done()
			server.Shutdown()
			return
		}
		w.o.Log.Warn("tasks wait for Redis, the sweep runs without", "err", err)
		if !sleep(ctx, w.o.SweepEvery) {
			return
		}
	}
}

// Stop lets the handlers that run finish and ends everything.
func (w *Worker) Stop() {
	w.stop()
	w.loops.Wait()
}

// handle runs one task. It believes nothing of it but the keys.
func (w *Worker) handle(ctx context.Context, t *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	err := w.do(ctx, t.Type(), t.Payload(), id)
	if at, ok := nextAsk(err); ok {
		return w.later(ctx, t, at, err)
	}
	if errors.Is(err, errPoison) { // kept where a person finds it, and gone from the queue
		return w.bury(ctx, Failure{Type: t.Type(), Key: id, Cause: err, Payload: t.Payload(), Poison: true})
	}
	return err
}

// bury keeps failures in the database. Nil means that they are kept, and need no
// other try than the sweep's.
func (w *Worker) bury(ctx context.Context, failed ...Failure) error {
	if len(failed) == 0 {
		return nil
	}
	first := failed[0]
	if w.o.Failures == nil {
		return first.Cause
	}
	died, err := w.o.Failures.Record(ctx, failed)
	w.expiry.failing.Store(true)
	for range died {
		w.o.Observe.Died()
	}
	w.o.Log.Warn("tasks failed", "failed", len(failed), "dead", died, "type", first.Type, "first", first.Key, "err", first.Cause)
	return err
}

// later hands over to the wake-up at the next time and lets this task end.
// Whoever asked WeChat has set that wake-up too, under the same id: were this
// task retried beside it, a refund would gain a task with every round. It is
// retried only when the wake-up's id is its own, which it holds while it runs,
// or when the wake-up cannot be set.
func (w *Worker) later(ctx context.Context, t *asynq.Task, at time.Time, why error) error {
	p, err := decodePayload(t.Payload())
	if err != nil {
		return err
	}
	if now := w.o.Now(); !at.After(now) {
		at = now.Add(minDelay) // never round and round without a pause
	}
	if p.OutRefundNo == "" {
		if p.Slot == slotOf(at) { // its own second, and too early
			return why
		}
		w.o.Queue.WakeAt(at)
		return nil
	}
	next := wakeID(p.OutRefundNo, at)
	if id, _ := asynq.GetTaskID(ctx); id == next {
		return why
	}
	if _, err := w.o.Queue.armRefund(ctx, p.OutRefundNo, next, at); err != nil {
		return why
	}
	return nil
}

// do runs a task by its type.
func (w *Worker) do(ctx context.Context, typ string, content []byte, id string) error {
	if typ == TypeReconcile && w.o.Daily != nil {
		if err := w.reconcile(ctx); err != nil { // not a dead task: it is caught up with
			w.o.Log.Warn("daily reconciliation", "err", err)
		}
		return nil
	}
	p, err := decodePayload(content)
	if err != nil {
		return err
	}
	why := cause("task", id)
	switch {
	case typ == TypeExpire && p.From != nil:
		return w.expiry.part(ctx, p.From.cursor(), p.To.cursor(), cause("task", slotID(p.Slot))) // a row per order holds it: short
	case typ == TypeExpire && p.Slot > 0:
		return w.expiry.slot(ctx, p.Slot, why)
	case typ == TypeExpire && p.OrderNo != "":
		return w.one(ctx, Failure{Type: typ, Key: p.OrderNo}, why)
	case typ == TypeRefund && p.OutRefundNo != "":
		return w.one(ctx, Failure{Type: typ, Key: p.OutRefundNo}, why)
	}
	return fmt.Errorf("%w: type %q", errPoison, typ)
}

// one runs one order or refund, unless it failed before: then its next try is
// the sweep's.
func (w *Worker) one(ctx context.Context, of Failure, why order.Cause) error {
	if w.o.Failures != nil {
		if any, err := w.expiry.anyFailed(ctx); err != nil {
			return err
		} else if any {
			known, err := w.o.Failures.Known(ctx, of.Type, []string{of.Key})
			if err != nil || len(known) > 0 {
				return err
			}
		}
	}
	return w.retry(ctx, of, why)
}

// retry runs one order or refund; what cannot be done is kept.
func (w *Worker) retry(ctx context.Context, of Failure, why order.Cause) (err error) {
	switch of.Type {
	case TypeExpire:
		// As a page of one: a turn at WeChat Pay is taken when it is known that it
		// is needed.
		err = w.expiry.closeDue(ctx, []order.Due{{Key: of.Key, State: order.StatePending, Version: 1}}, why, w.expiry.admit)[0]
	case TypeRefund:
		if err = throttle(ctx, w.refunds, of.Key); err == nil {
			err = w.o.Orders.Refund(ctx, of.Key, why)
		}
	}
	w.o.Observe.Fired(result(err))
	if err == nil || !isFailure(err) {
		return err
	}
	of.Cause = err
	of.Poison = errors.Is(err, order.ErrNotFound) || errors.Is(err, order.ErrRefundNotFound)
	return w.bury(ctx, of)
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
	return order.Cause{Actor: order.Actor{Type: order.ActorScheduler, ID: "worker"}, Type: kind, ID: id}
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
