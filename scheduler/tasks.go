package scheduler

import (
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

// The task types and their queues. A queue's name has no braces and no
// capitals, so that it is one slot of a Redis Cluster.
const (
	TypeExpire  = "order:expire"
	QueueExpire = "expire"

	TypeRefund  = "refund:ask"
	QueueRefund = "refund"

	TypeReconcile  = "reconcile:daily"
	QueueReconcile = "reconcile"
)

// queues lists the queues with asynq's weights: money that goes back is not
// held up by timeouts, and the day's bill is nobody's hurry.
func queues() map[string]int {
	return map[string]int{QueueExpire: 6, QueueRefund: 3, QueueReconcile: 1}
}

// Policies of a task.
const (
	taskTimeout = 20 * time.Second // two calls to WeChat with their own time-outs, and two commits
	maxRetry    = 40               // about two hours of "other" errors; what WeChat owes us does not count as failures
	maxBackoff  = 5 * time.Minute
	minDelay    = time.Second // asynq keeps whole seconds and rounds down
)

// payload is what a task carries: a key and, to read a dead task by, the
// version at which it was set. Unknown fields are from a newer program and are
// passed over.
type payload struct {
	V           int    `json:"v"`
	OrderNo     string `json:"order_no,omitempty"`
	OutRefundNo string `json:"out_refund_no,omitempty"`
	Version     int64  `json:"version"`
}

// key is what the task is about.
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
	if err := json.Unmarshal(b, &p); err != nil || p.key() == "" || p.V < 1 {
		return p, fmt.Errorf("%w: payload %.80q", errPoison, b)
	}
	return p, nil
}

// wakeID names the wake-up of an order at a time: setting it twice is a
// conflict, which asynq refuses, and an order may have several.
func wakeID(orderNo string, at time.Time) string {
	return orderNo + ":" + strconv.FormatInt(ceil(at).Unix(), 10)
}

// sweepID is apart from the wake-ups' ids: after a crash a wake-up may sit
// "active" under asynq's lease for half a minute, or archived for ever, and
// would block its own id. One try per order and bucket.
func sweepID(orderNo string, now time.Time, bucket time.Duration) string {
	return "sweep:" + orderNo + ":" + strconv.FormatInt(now.UnixNano()/int64(bucket), 36)
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

// isFailure tells asynq which errors use up a retry: not those that only say
// "later".
func isFailure(err error) bool {
	_, later := nextAsk(err)
	return !later && !errors.Is(err, errThrottled) && !errors.Is(err, sqldb.ErrUnavailable) && !errors.Is(err, sqldb.ErrOverloaded)
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
