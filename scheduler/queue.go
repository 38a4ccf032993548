package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// Bounds of the producer.
const (
	// wakeUpBuffer is how many wake-ups may wait for Redis, half a megabyte of
	// them. When it is full, more are left to the sweep.
	wakeUpBuffer = 8192
	// senders is how many goroutines hand wake-ups to Redis: at 5 ms a call, 8 set
	// 1600 a second.
	senders = 8
	// enqueueTimeout bounds one call: a Redis that hangs must not hold the buffer.
	enqueueTimeout = 500 * time.Millisecond
	// rememberFor is how long a second whose task was set is not set again: tens of
	// thousands of orders placed in a second share one task and one call to Redis.
	rememberFor = 10 * time.Second
	// maxRemembered is how many seconds are remembered; past it, all are forgotten,
	// which costs Redis a call for each.
	maxRemembered = 4096
	// flushWait is how long Close waits for Redis to take what is in the buffer;
	// the sweep does the rest.
	flushWait = time.Second
)

// Queue is the producer: it sets wake-ups in Redis and implements order.Tasks. It
// never makes its caller wait, least of all for Redis.
type Queue struct {
	redis   redis.UniversalClient
	client  *asynq.Client
	log     *slog.Logger
	now     func() time.Time
	observe Observer

	wakeUps chan wakeUp
	mu      sync.RWMutex // guards closed against a send on a closed channel
	closed  bool
	workers sync.WaitGroup
	failing atomic.Bool // the last call failed: it is logged once, not per task

	setMu sync.Mutex
	set   map[int64]time.Time // seconds whose task was set, and when

	ctx    context.Context // ends when Close has waited long enough
	cancel context.CancelFunc
}

// wakeUp is a wake-up to set: of a second, or of a refund.
type wakeUp struct {
	slot   int64     // the second in Unix time; 0 for a refund
	refund string    // its number
	at     time.Time // of a refund
}

// NewQueue starts a producer on a Redis. now is this process's clock, which only
// tells what was set lately; observe may be nil. Close ends the producer and
// leaves the client open.
func NewQueue(client redis.UniversalClient, now func() time.Time, log *slog.Logger, observe Observer) *Queue {
	if observe == nil {
		observe = nobody{}
	}
	q := &Queue{redis: client, client: asynq.NewClientFromRedisClient(client), now: now, log: log, observe: observe,
		wakeUps: make(chan wakeUp, wakeUpBuffer), set: map[int64]time.Time{}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	for range senders {
		q.workers.Go(func() {
			for u := range q.wakeUps {
				q.send(u)
			}
		})
	}
	return q
}

// WakeAt sets the wake-up of the orders that are due at a time: that of its
// second, which all orders of that second share. It returns at once; a wake-up
// that cannot be set is counted and left to the sweep. It is not taken back when
// an order is paid, since its second may have others.
func (q *Queue) WakeAt(at time.Time) {
	if slot := slotOf(at); q.remember(slot) {
		q.offer(wakeUp{slot: slot})
	}
}

// RefundAt sets the wake-up of a refund, in a queue of its own: a storm of
// timeouts does not hold money back. It returns at once, like WakeAt.
func (q *Queue) RefundAt(outRefundNo string, at time.Time) {
	q.offer(wakeUp{refund: outRefundNo, at: at})
}

// remember notes that the task of a second is set now, and reports that it has to
// be: that it was not lately. A second that has come always has to be set: its
// task may have run.
func (q *Queue) remember(slot int64) bool {
	now := q.now()
	q.setMu.Lock()
	defer q.setMu.Unlock()
	if at, ok := q.set[slot]; ok && slot > now.Unix() && now.Sub(at) < rememberFor {
		return false
	}
	if len(q.set) >= maxRemembered {
		clear(q.set)
	}
	q.set[slot] = now
	return true
}

// forget undoes remember: for seconds whose task could not be set, or without
// arguments for all, when Redis has lost them.
func (q *Queue) forget(slots ...int64) {
	q.setMu.Lock()
	defer q.setMu.Unlock()
	if len(slots) == 0 {
		clear(q.set)
	}
	for _, s := range slots {
		delete(q.set, s)
	}
}

// offer puts a wake-up into the buffer, or drops it when there is no room.
func (q *Queue) offer(u wakeUp) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return
	}
	select {
	case q.wakeUps <- u:
	default:
		q.observe.Armed("dropped")
		q.forget(u.slot)
	}
}

// send sets a wake-up in Redis.
func (q *Queue) send(u wakeUp) {
	if q.ctx.Err() != nil { // closing, and Redis has not kept up
		q.observe.Armed("dropped")
		return
	}
	ctx, cancel := context.WithTimeout(q.ctx, enqueueTimeout)
	defer cancel()
	if u.refund != "" {
		_, _ = q.scheduleRefund(ctx, u.refund, wakeID(u.refund, u.at), u.at)
	} else if _, err := q.scheduleSlot(ctx, u.slot); err != nil {
		q.forget(u.slot)
	}
}

// scheduleSlot makes the task of a second.
func (q *Queue) scheduleSlot(ctx context.Context, slot int64) (bool, error) {
	return q.enqueue(ctx, TypeExpire, payload{V: 2, Slot: slot}, asynq.Queue(slotQueue(slot)),
		asynq.TaskID(slotID(slot)), asynq.Timeout(partTimeout), asynq.ProcessAt(time.Unix(slot, 0)))
}

// schedulePart makes a task, for any worker and at once, of the n-th part of a
// second. Each part goes to another queue than the one before it.
func (q *Queue) schedulePart(ctx context.Context, slot, n int64, from, to *mark) (bool, error) {
	return q.enqueue(ctx, TypeExpire, payload{V: 2, Slot: slot, From: from, To: to}, asynq.Queue(slotQueue(slot+n)),
		asynq.TaskID(partID(slot, from, to)), asynq.Timeout(partTimeout))
}

// scheduleRefund makes a task of a refund at a time, under an id.
func (q *Queue) scheduleRefund(ctx context.Context, no, id string, at time.Time) (bool, error) {
	return q.enqueue(ctx, TypeRefund, payload{V: 1, OutRefundNo: no}, asynq.Queue(QueueRefund), asynq.TaskID(id),
		asynq.Timeout(taskTimeout), asynq.ProcessAt(ceil(at)))
}

// enqueue makes a task and reports whether it is new. A conflict means that the
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

// Close sets what is in the buffer, as far as Redis takes it within flushWait, and
// ends the producer. It may be called more than once; wake-ups that come later
// are left to the sweep.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.wakeUps)
	}
	q.mu.Unlock()
	timer := time.AfterFunc(flushWait, q.cancel)
	defer timer.Stop()
	q.workers.Wait()
	q.cancel()
}
