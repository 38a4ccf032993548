package scheduler

import (
	"context"
	"fmt"
	"time"

	"orderd/order"
)

// Missing compares the seconds in which orders come due soon with the tasks in
// Redis.
type Missing struct {
	Due     int // slots that come due within lookAheadAfterLoss
	Missing int // of those, without a task
}

// Missing counts what Redis has lost. The sweep sets the nearest again by
// itself; a number that stays is a Redis that loses keys.
func (q *Queue) Missing(ctx context.Context, orders DueOrders) (Missing, error) {
	var m Missing
	slots := map[int64]bool{}
	now := q.now()
	for _, state := range []order.State{order.StatePending, order.StateClosing} {
		err := eachSlot(ctx, orders, state, now, now.Add(lookAheadAfterLoss), func(slot int64) { slots[slot] = true })
		if err != nil {
			return m, fmt.Errorf("compare wake-ups: %w", err)
		}
	}
	for slot := range slots { // one by one: on a cluster they are on different nodes
		found, err := q.redis.Exists(ctx, taskKey(slot)).Result()
		if err != nil {
			return m, fmt.Errorf("compare wake-ups: %w", err)
		}
		m.Due++
		if found == 0 {
			m.Missing++
		}
	}
	return m, nil
}

// DueOrders is what Missing needs of orders; order.Service implements it.
type DueOrders interface {
	DueOrders(ctx context.Context, state order.State, after order.DueCursor, until time.Time,
		limit int) ([]order.Due, error)
}

// taskKey is where asynq keeps the task of a slot.
func taskKey(slot int64) string { return "asynq:{" + slotQueue(slot) + "}:t:" + slotID(slot) }
