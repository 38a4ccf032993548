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

// The task types and their queues. Tasks outlive the program that set them, so
// none of these is ever renamed. asynq puts the name of a queue in braces in each
// of its keys, so that a Redis Cluster has the whole queue on one node: a name has
// no braces of its own.
const (
	// TypeExpire looks at the unpaid orders of a second, of a part of one, or, as
	// earlier releases set it, at one order.
	TypeExpire = "order:expire"
	// QueueExpire is where earlier releases put a task per order. Nothing is put
	// there any more, and what is there is still run.
	QueueExpire = "expire"

	// TypeRefund sends one refund, or asks WeChat Pay how far it is.
	TypeRefund = "refund:ask"
	// QueueRefund has the tasks of refunds.
	QueueRefund = "refund"

	// TypeReconcile runs the reconciliation of the day.
	TypeReconcile = "reconcile:daily"
	// QueueReconcile has the one task of the day.
	QueueReconcile = "reconcile"

	// TypeRing says that there is something to deliver to webhooks.
	TypeRing = "webhook:ring"
	// QueueRing has the one task of that. The process that makes deliveries alone takes it,
	// so that it is none of queues.
	QueueRing = "webhook"
)

// slotQueues have the tasks of seconds and parts: each goes to the next queue.
// There are three, so that their names fall on different masters of a Redis
// Cluster of three to nine masters (its hash slots 12216, 8155 and 4090 of 16384).
// More queues would only be polled more.
var slotQueues = [...]string{"expire-1", "expire-2", "expire-3"}

// queues lists all queues with asynq's weights: a queue of weight 3 is asked first
// three times as often as one of weight 1. Refunds are not held up by timeouts;
// the reconciliation of the day has no hurry.
func queues() map[string]int {
	all := map[string]int{QueueExpire: 1, QueueRefund: 3, QueueReconcile: 1}
	for _, q := range slotQueues {
		all[q] = 2
	}
	return all
}

// Policies of a task.
const (
	// taskTimeout is how long one order or refund may take: two calls to WeChat Pay
	// of 5 s at most (payment/wechat), and two commits.
	taskTimeout = 20 * time.Second
	// partTimeout is how long a second or a part may take: 2000 orders, page after
	// page, while WeChat Pay answers slowly.
	partTimeout = 5 * time.Minute
	// maxRetry is how often asynq runs a task again after errors that isFailure
	// counts: two to three hours with the pauses between them. After it, asynq
	// archives the task and the sweep does the work.
	maxRetry = 40
	// maxBackoff is the longest pause between two of those runs.
	maxBackoff = 5 * time.Minute
	// minDelay is the shortest pause before a task runs again: asynq keeps whole
	// seconds and rounds down, so less would be none.
	minDelay = time.Second
	// excusedSpread is added, up to so much by chance, to the pause after an error
	// that is not the task's own fault, and throttledSpread after a refund that got
	// no permit within permitWait; throttledDelay is the least pause after that.
	excusedSpread   = 2 * time.Second
	throttledDelay  = 2 * time.Second
	throttledSpread = 3 * time.Second
	// backoffDoublings keeps the shift of the pause from running over: 2¹⁰ s is
	// above maxBackoff.
	backoffDoublings = 10
)

// payload is what a task carries: keys, and nothing that is believed. It names a
// second, a part of one, an order or a refund. Unknown fields are from a newer
// release and are passed over; a field is never renamed, since older releases may
// run beside this one.
type payload struct {
	V           int    `json:"v"`                  // of the format, 1 or more; 2 has seconds
	OrderNo     string `json:"order_no,omitempty"` // of a task of an earlier release
	OutRefundNo string `json:"out_refund_no,omitempty"`
	Version     int64  `json:"version"` // not used; releases with a task per order read it

	// Slot is the second, in Unix time, whose orders are due.
	Slot int64 `json:"slot,omitempty"`
	// From and To bound a part of a slot: the orders after From, up to and with
	// To. Without them it is the whole.
	From *mark `json:"from,omitempty"`
	To   *mark `json:"to,omitempty"`
}

// mark is an order.DueCursor in a payload: the place of an order among those that
// are due.
type mark struct {
	At      int64  `json:"at"` // due time, Unix time in milliseconds
	OrderNo string `json:"order_no"`
}

func markOf(c order.DueCursor) *mark { return &mark{At: c.At.UnixMilli(), OrderNo: c.Key} }

// cursor is the place that the mark stands for.
func (m *mark) cursor() order.DueCursor {
	return order.DueCursor{At: time.UnixMilli(m.At), Key: m.OrderNo}
}

// key is the number of the one refund or order that the task is about; "" when it
// is about a second.
func (p payload) key() string {
	if p.OutRefundNo != "" {
		return p.OutRefundNo
	}
	return p.OrderNo
}

// errPoison marks a task that no retry can cure: it cannot be understood.
var errPoison = errors.New("unusable task")

// decodePayload reads a payload, whoever wrote it. Its only error is errPoison,
// with the first 80 bytes of what it was.
func decodePayload(b []byte) (payload, error) {
	var p payload
	err := json.Unmarshal(b, &p)
	if err != nil || (p.key() == "" && p.Slot <= 0) || p.V < 1 || (p.From == nil) != (p.To == nil) {
		return p, fmt.Errorf("%w: payload %.80q", errPoison, b)
	}
	return p, nil
}

// slotID is the task id of a second. All orders that are due in it share the task:
// setting it again is a conflict of ids, which asynq refuses.
func slotID(slot int64) string { return slotPrefix + strconv.FormatInt(slot, 10) }

// slotPrefix stands before the second in the id of its task.
const slotPrefix = "slot:"

// partID is the task id of a part, by the places where it begins and ends: cut
// again in the same way, it is the same task.
func partID(slot int64, from, to *mark) string {
	id := "part:" + strconv.FormatInt(slot, 10)
	for _, m := range []*mark{from, to} {
		id += ":" + strconv.FormatInt(m.At, 10) + ":" + m.OrderNo
	}
	return id
}

// slotQueue is the queue of the task of a second.
func slotQueue(slot int64) string { return slotQueues[slot%int64(len(slotQueues))] }

// slotOf is the second, in Unix time, in which an order due at t is taken. It is
// rounded up: an order is never taken before its time.
func slotOf(t time.Time) int64 { return ceil(t).Unix() }

// wakeID is the task id of a refund at a time.
func wakeID(outRefundNo string, at time.Time) string {
	return outRefundNo + ":" + strconv.FormatInt(ceil(at).Unix(), 10)
}

// ceil rounds up to the whole second. asynq keeps the time of a task in whole
// seconds and rounds down, and so would run it early.
func ceil(t time.Time) time.Time {
	if r := t.Truncate(time.Second); !r.Equal(t) {
		return r.Add(time.Second)
	}
	return t
}

// errThrottled: there was no permit of the rate towards WeChat Pay in time.
var errThrottled = errors.New("waiting for the rate limit towards WeChat Pay")

// nextAsk is when an order or refund is due again, if err says only that: it is
// too early, or WeChat Pay gave no usable answer.
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

// retryDelay is how long asynq waits, now, before it runs a task again that ended
// in err after n runs before.
func retryDelay(now time.Time, n int, err error) time.Duration {
	if at, ok := nextAsk(err); ok {
		return max(ceil(at).Sub(now), minDelay)
	}
	switch {
	case errors.Is(err, errThrottled):
		return throttledDelay + rand.N(throttledSpread)
	case errors.Is(err, asynq.ErrLeaseExpired), errors.Is(err, sqldb.ErrUnavailable),
		errors.Is(err, sqldb.ErrOverloaded):
		return minDelay + rand.N(excusedSpread)
	}
	// A second, doubled with each run, and by chance between half of it and the
	// whole.
	d := min(time.Second<<min(n, backoffDoublings), maxBackoff)
	return max(d/2+rand.N(d/2+1), minDelay)
}

// isFailure reports that err is the task's own fault, and not one that only says
// "later", nor one of a database that is away or a process that stops. Only such
// errors count against maxRetry and maxFailures.
func isFailure(err error) bool {
	if _, later := nextAsk(err); later {
		return false
	}
	for _, excused := range []error{errThrottled, sqldb.ErrUnavailable, sqldb.ErrUnknown, sqldb.ErrOverloaded,
		sqldb.ErrGroupClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, excused) {
			return false
		}
	}
	return true
}

// result names how an order or a refund ended, as Observer.Fired has it.
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
