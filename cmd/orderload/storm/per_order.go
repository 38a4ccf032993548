package storm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"orderd/order"
)

// The mode per-order is what asynq's own advice comes to: a task per order, set
// before its deadline, over many queues with a server each, and handlers that wait
// for a group commit.
const (
	// perOrderQueues is one list in Redis each: a single one is a bottleneck.
	perOrderQueues = 16
	// perOrderEach is handlers of a queue: together they fill the group commits.
	perOrderEach = 128
	// perOrderArmers is enqueues under way while the tasks are set, as many as coalesced
	// puts into one pipeline.
	perOrderArmers = 256
	// perOrderTimeout is a handler's; a close has a call of WeChat Pay in it.
	perOrderTimeout = 20 * time.Second
	// perOrderRetries is of a task, far more than a run needs; perOrderRetry is between
	// two of them.
	perOrderRetries = 40
	perOrderRetry   = 1 * time.Second

	// How often asynq looks for scheduled tasks that are due, and for work when its
	// queues were empty: its defaults of 5 s and 1 s would be most of the lateness.
	perOrderForward = 250 * time.Millisecond
	perOrderPoll    = 100 * time.Millisecond
)

// perOrderQueue is the queue of order i.
func perOrderQueue(i int) string { return fmt.Sprintf("storm-%02d", i%perOrderQueues) }

// startPerOrder sets the task of every order and starts a server per queue. The handlers
// call the same order.Service: what differs is how they are woken.
func startPerOrder(ctx context.Context, p parts, c crowd) (*running, error) {
	orders, err := newService(p, nil, time.Now)
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
		no := string(t.Payload())
		actor := order.Actor{Type: order.ActorScheduler, ID: "storm"}
		return orders.Expire(ctx, no, order.Cause{Actor: actor, Type: "task", ID: no})
	})
	servers := make([]*asynq.Server, perOrderQueues)
	for i := range servers {
		servers[i] = asynq.NewServerFromRedisClient(client, asynq.Config{Concurrency: perOrderEach,
			Queues: map[string]int{perOrderQueue(i): 1}, LogLevel: asynq.FatalLevel,
			DelayedTaskCheckInterval: perOrderForward, TaskCheckInterval: perOrderPoll,
			RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return perOrderRetry },
			IsFailure:      func(error) bool { return false }})
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
	g, arming := errgroup.WithContext(ctx)
	g.SetLimit(perOrderArmers)
	for i := 1; i <= c.n && arming.Err() == nil; i++ {
		g.Go(func() error {
			no := c.no(i)
			_, err := client.EnqueueContext(arming, asynq.NewTask("storm", []byte(no)), asynq.Queue(perOrderQueue(i)),
				asynq.TaskID(no), asynq.ProcessAt(c.due(i)),
				asynq.MaxRetry(perOrderRetries), asynq.Timeout(perOrderTimeout))
			return err
		})
	}
	return errors.Join(g.Wait(), ctx.Err()) // a run that was interrupted set only some
}
