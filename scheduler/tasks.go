package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb"
	"orderd/order"
)

// The task types and their queues. A queue is one slot of a Redis Cluster: its
// name has no braces and no capitals.
const (
	TypeExpire = "order:expire"
	// QueueExpire is where programs before the slots put a task per order. It is
	// still emptied.
	QueueExpire = "expire"

	TypeRefund  = "refund:ask"
	QueueRefund = "refund"

	TypeReconcile  = "reconcile:daily"
	QueueReconcile = "reconcile"
)

// slotQueues take the timeouts in turn, second by second and part by part. Their
// names fall on different masters of a Redis Cluster of three to nine (slots
// 12216, 8155 and 4090).
var slotQueues = [...]string{"expire-1", "expire-2", "expire-3"}

// queues lists the queues with asynq's weights: money that goes back is not
// held up by timeouts, and the day's bill is nobody's hurry.
func queues() map[string]int {
	all := map[string]int{QueueExpire: 1, QueueRefund: 3, QueueReconcile: 1}
	for _, q := range slotQueues {
		all[q] = 2
	}
	return all
}

// Policies of a task.
const (
	taskTimeout = 20 * time.Second // two calls to WeChat with their own time-outs, and two commits
	partTimeout = 5 * time.Minute  // a thousand orders at a WeChat that takes its time
	maxRetry    = 40               // about two hours of "other" errors; what WeChat owes us does not count as failures
	maxBackoff  = 5 * time.Minute
	minDelay    = time.Second // asynq keeps whole seconds and rounds down
)

// payload is what a task carries: keys, and nothing that anybody believes.
// Unknown fields are from a newer program and are passed over.
type payload struct {
	V           int    `json:"v"`
	OrderNo     string `json:"order_no,omitempty"` // version 1
	OutRefundNo string `json:"out_refund_no,omitempty"`
	Version     int64  `json:"version"`

	// Slot is the second, in Unix time, whose orders are due.
	Slot int64 `json:"slot,omitempty"`
	// From and To bound a part of a slot: the orders after From, up to and with
	// To. Without them it is the whole.
	From *mark `json:"from,omitempty"`
	To   *mark `json:"to,omitempty"`
}

// mark is the place of an order among those that are due.
type mark struct {
	At      int64  `json:"at"` // milliseconds
	OrderNo string `json:"order_no"`
}

func markOf(c order.DueCursor) *mark { return &mark{At: c.At.UnixMilli(), OrderNo: c.Key} }

func (m *mark) cursor() order.DueCursor {
	return order.DueCursor{At: time.UnixMilli(m.At), Key: m.OrderNo}
}

// key is what the task is about, when it is one thing.
func (p payload) key() string {
	if p.OutRefundNo != "" {
		return p.OutRefundNo
	}
	return p.OrderNo
}

// errPoison marks a task that no retry can cure.
var errPoison = errors.New("unusable task")

func decodePayload(b []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(b, &p); err != nil || (p.key() == "" && p.Slot <= 0) || p.V < 1 || (p.From == nil) != (p.To == nil) {
		return p, fmt.Errorf("%w: payload %.80q", errPoison, b)
	}
	return p, nil
}

// slotID names the task of a second: all orders that are due in it share it, and
// setting it again is a conflict, which asynq refuses.
func slotID(slot int64) string { return "slot:" + strconv.FormatInt(slot, 10) }

// partID names a part of a slot by where it begins and ends.
func partID(slot int64, from, to *mark) string {
	id := "part:" + strconv.FormatInt(slot, 10)
	for _, m := range []*mark{from, to} {
		id += ":" + strconv.FormatInt(m.At, 10) + ":" + m.OrderNo
	}
	return id
}

// slotQueue is the queue of a slot.
func slotQueue(slot int64) string { return slotQueues[slot%int64(len(slotQueues))] }

// slotOf is the second in which an order due at t is taken: asynq keeps whole
// seconds and rounds down, so it is rounded up.
func slotOf(t time.Time) int64 { return ceil(t).Unix() }

// wakeID names the wake-up of a refund at a time.
func wakeID(outRefundNo string, at time.Time) string {
	return outRefundNo + ":" + strconv.FormatInt(ceil(at).Unix(), 10)
}

// ceil rounds up to the whole second: asynq truncates and would run early.
func ceil(t time.Time) time.Time {
	if r := t.Truncate(time.Second); !r.Equal(t) {
		return r.Add(time.Second)
	}
	return t
}

// errThrottled: the limiter towards WeChat had no room in time.
var errThrottled = errors.New("waiting for the rate limit towards WeChat Pay")

// nextAsk is when an order wants to be asked about again, if err says so.
func nextAsk(err error) (time.Time, bool) {
	var notDue *order.NotDueError
	var closing *order.ClosingError
	switch {
	case errors.As(err, &notDue):
		return notDue.At, true
	case errors.As(err, &closing):
		return closing.At, true
	}
	return time.Time{}, false
}

// retryDelay says when a task that ended in err is tried again.
func retryDelay(now time.Time, n int, err error) time.Duration {
	if at, ok := nextAsk(err); ok {
		return max(ceil(at).Sub(now), minDelay)
	}
	switch {
	case errors.Is(err, errThrottled):
		return 2*time.Second + rand.N(3*time.Second)
	case errors.Is(err, asynq.ErrLeaseExpired), errors.Is(err, sqldb.ErrUnavailable), errors.Is(err, sqldb.ErrOverloaded):
		return minDelay + rand.N(2*time.Second)
	}
	d := min(time.Second<<min(n, 10), maxBackoff)
	return max(d/2+rand.N(d/2+1), minDelay)
}

// isFailure tells which errors are the task's own fault: not those that only say
// "later", and not those of a database or a process that is away.
func isFailure(err error) bool {
	if _, later := nextAsk(err); later {
		return false
	}
	for _, excused := range []error{errThrottled, sqldb.ErrUnavailable, sqldb.ErrUnknown, sqldb.ErrOverloaded, sqldb.ErrGroupClosed,
		context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, excused) {
			return false
		}
	}
	return true
}

// result names how a handler ended, for metrics.
func result(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.As(err, new(*order.NotDueError)):
		return "not_due"
	case errors.As(err, new(*order.ClosingError)):
		return "unknown"
	case errors.Is(err, errThrottled):
		return "throttled"
	case errors.Is(err, errPoison):
		return "poison"
	}
	return "error"
}
