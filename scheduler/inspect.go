package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"orderd/order"
)

// Depth is how many tasks the queue of timeouts holds, by state.
type Depth struct {
	Queue  string
	States map[string]int
	// Latency is the age of the oldest timeout that waits to run.
	Latency time.Duration
	// Paused: somebody told asynq to hand out no timeouts. The sweep goes on.
	Paused bool
}

// Depth reads the queue of timeouts. It fails while Redis is away.
func (q *Queue) Depth() (Depth, error) { return q.DepthOf(QueueExpire) }

// DepthOf reads one queue.
func (q *Queue) DepthOf(queue string) (Depth, error) {
	d := Depth{Queue: queue, States: map[string]int{}}
	// Asked first, because GetQueueInfo's "not found" is an error of asynq's
	// internals that cannot be told from others.
	known, err := q.inspector().Queues()
	if err != nil {
		return d, fmt.Errorf("read the queue: %w", err)
	} else if !slices.Contains(known, queue) {
		return d, nil // nothing was ever set
	}
	info, err := q.inspector().GetQueueInfo(queue)
	if err != nil {
		return d, fmt.Errorf("read the queue: %w", err)
	}
	d.States = map[string]int{"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled, "retry": info.Retry, "archived": info.Archived}
	d.Latency, d.Paused = info.Latency, info.Paused
	return d, nil
}

// Dead is a task that gave up.
type Dead struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	OrderNo string `json:"order_no"`
	// OutRefundNo stands instead of OrderNo in a task of a refund.
	OutRefundNo string    `json:"out_refund_no,omitempty"`
	Error       string    `json:"error"`
	Tried       int       `json:"tried"`
	DiedAt      time.Time `json:"died_at"`
}

// maxDead is how many dead tasks one page shows.
const maxDead = 200

// ErrNoSuchTask: the task is not, or no longer, among the dead.
var ErrNoSuchTask = errors.New("no such dead task")

// Dead lists the tasks that gave up, at most maxDead of each queue.
func (q *Queue) Dead() ([]Dead, error) {
	var dead []Dead
	for _, queue := range slices.Sorted(maps.Keys(queues())) {
		tasks, err := q.inspector().ListArchivedTasks(queue, asynq.PageSize(maxDead))
		if errors.Is(err, asynq.ErrQueueNotFound) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("list dead tasks: %w", err)
		}
		for _, t := range tasks {
			p, _ := decodePayload(t.Payload) // a poison task has no order: shown as such
			dead = append(dead, Dead{ID: t.ID, Type: t.Type, OrderNo: p.OrderNo, OutRefundNo: p.OutRefundNo, Error: t.LastErr, Tried: t.Retried, DiedAt: t.LastFailedAt})
		}
	}
	return dead, nil
}

// RunDead gives a dead task one more run; if that fails too it is dead again.
func (q *Queue) RunDead(id string) error { return q.onDead(id, q.inspector().RunTask) }

// DiscardDead removes a dead task. The order is not touched: if it is still
// due, the sweep goes on with it.
func (q *Queue) DiscardDead(id string) error { return q.onDead(id, q.inspector().DeleteTask) }

// onDead acts on a task only while it is dead: deleting or running one in
// another state would take a live wake-up away or run it early.
func (q *Queue) onDead(id string, act func(queue, id string) error) error {
	for queue := range queues() {
		t, err := q.inspector().GetTaskInfo(queue, id)
		if err == nil && t.State != asynq.TaskStateArchived {
			return ErrNoSuchTask
		} else if err == nil {
			err = act(queue, id)
		}
		switch {
		case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
			continue
		case err != nil:
			return fmt.Errorf("dead task %.80q: %w", id, err)
		}
		return nil
	}
	return ErrNoSuchTask
}

// Missing compares the orders that come due soon with the wake-ups in Redis.
type Missing struct {
	Due     int  // orders that come due within rearmAhead
	Missing int  // of those, without a wake-up at their due time
	More    bool // there are more than were looked at
}

// Missing counts what Redis has lost. The sweep sets the nearest again by
// itself; a number that stays is a Redis that loses keys.
func (q *Queue) Missing(ctx context.Context, orders Orders) (Missing, error) {
	var m Missing
	now := q.now()
	after := order.DueCursor{At: now}
	for m.Due < sweepMaxRows {
		page, err := orders.DueOrders(ctx, after, now.Add(rearmAhead), sweepPage)
		if err != nil {
			return m, fmt.Errorf("compare wake-ups: %w", err)
		}
		if len(page) == 0 {
			return m, nil
		}
		asked, err := q.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, d := range page {
				p.Exists(ctx, taskKey(wakeID(d.OrderNo, d.At)))
			}
			return nil
		})
		if err != nil {
			return m, fmt.Errorf("compare wake-ups: %w", err)
		}
		for _, a := range asked {
			if found, ok := a.(*redis.IntCmd); ok && found.Val() == 0 {
				m.Missing++
			}
		}
		m.Due += len(page)
		last := page[len(page)-1]
		after = order.DueCursor{At: last.At, OrderNo: last.OrderNo}
	}
	m.More = true
	return m, nil
}

// taskKey is where asynq keeps a task.
func taskKey(id string) string { return "asynq:{" + QueueExpire + "}:t:" + id }

func (q *Queue) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(q.redis) }
