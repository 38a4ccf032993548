package console

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// Bounds of the histogram of timeouts: what one answer shows, and what is read for it, a row for
// every second that has orders.
const (
	leastBucket  = time.Second
	mostBuckets  = 400
	mostHorizon  = 6 * time.Hour
	usualBucket  = time.Minute
	usualHorizon = time.Hour
)

// dueView is the timeouts that come: whether they will be on time. Overdue are those whose time
// has come and that nobody has taken yet. Missing are those of Data whose second has no wake-up
// in Redis: the sweep takes them, late by its interval at most. Both of Redis are null where it
// is away, or this process has none.
type dueView struct {
	Data    []dueBucket `json:"data"`
	Overdue int64       `json:"overdue"`
	Missing *int64      `json:"missing"`
}

// dueBucket is the open orders that are taken from From on, for the length of a bucket.
type dueBucket struct {
	From      time.Time `json:"from"`
	DueInDB   int64     `json:"due_in_db"`
	Scheduled *int64    `json:"scheduled_in_redis"` // of them, those whose second has a wake-up
}

// listDue is GET /admin/v1/timeouts/due?bucket=1m&horizon=60m: the open orders by the time at
// which they are taken, each bucket up to the horizon, also empty ones.
func (c *console) listDue(ctx echo.Context) error {
	q := query{Context: ctx}
	bucket, horizon := q.duration("bucket", usualBucket), q.duration("horizon", usualHorizon)
	switch {
	case bucket < leastBucket || bucket%time.Second != 0:
		q.wrong("bucket", "RANGE", "want whole seconds, such as 1m")
	case horizon > mostHorizon || horizon < bucket || horizon/bucket > mostBuckets:
		q.wrong("horizon", "RANGE", "want at most 6h, and 1 to 400 buckets")
	}
	if err := q.err(); err != nil {
		return err
	}
	v, err := c.due(ctx.Request().Context(), bucket, horizon)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, v)
}

// due counts what comes due. A bucket begins at a multiple of its length.
func (c *console) due(ctx context.Context, bucket, horizon time.Duration) (dueView, error) {
	now := c.Now()
	seconds, err := c.Orders.DueBySecond(ctx, horizon)
	if err != nil {
		return dueView{}, err
	}
	set := c.scheduled(now.Add(horizon))
	v := dueView{Data: []dueBucket{}}
	if set != nil {
		v.Missing = new(int64)
	}
	first := now.Truncate(bucket)
	for from := first; !from.After(now.Add(horizon)); from = from.Add(bucket) {
		b := dueBucket{From: from}
		if set != nil {
			b.Scheduled = new(int64)
		}
		v.Data = append(v.Data, b)
	}
	for _, s := range seconds {
		at := int(s.At.Sub(first) / bucket)
		if s.At.IsZero() {
			v.Overdue = s.Orders
			continue
		}
		if at >= len(v.Data) { // rounded up, beyond the horizon
			continue
		}
		v.add(&v.Data[at], s, set)
	}
	return v, nil
}

// add counts the orders of a second.
func (v *dueView) add(b *dueBucket, s order.DueSecond, set map[int64]bool) {
	b.DueInDB += s.Orders
	switch {
	case set == nil:
	case set[s.At.Unix()]:
		*b.Scheduled += s.Orders
	default:
		*v.Missing += s.Orders
	}
}

// scheduled gives the seconds up to a time that have a wake-up; nil where Redis cannot be asked.
func (c *console) scheduled(until time.Time) map[int64]bool {
	if c.Tasks == nil {
		return nil
	}
	set, err := c.Tasks.Scheduled(until)
	if err != nil {
		c.Log.Warn("timeouts in Redis not read", "error", err)
		return nil
	}
	return set
}
