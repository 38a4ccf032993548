package orderhttp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/order"
)

const (
	// stateQueued is the state of a placement that waits in the queue of a sale. It is no
	// state of an order: there is none yet.
	stateQueued = "queued"
	// queuedEvery is how often a long poll asks how far its placement is. That it has become
	// an order the watcher tells sooner.
	queuedEvery = 2 * time.Second
	// jitterShare is which part of a wait is added to it at most, a fourth, by chance: those
	// who were told together do not come back together.
	jitterShare = 4
)

// QueuedView is a placement that waits in the queue of a sale, or was withdrawn there: then its
// state is closed, and it has nothing more.
type QueuedView struct {
	OrderNo string       `json:"order_no"`
	State   string       `json:"state"`
	Queue   *QueueView   `json:"queue,omitempty"`
	Items   []QueuedItem `json:"items,omitempty"`
	// CloseReason is cancel of a withdrawn one, as an order's that its customer has closed.
	CloseReason order.CloseReason `json:"close_reason,omitempty"`
}

// QueueView is a place in the queue: 1 is the next, and in about so many seconds its order is
// made.
type QueueView struct {
	Position    int64 `json:"position"`
	WaitSeconds int64 `json:"wait_seconds"`
}

// QueuedItem is a line as it was asked for. It has no price before there is an order.
type QueuedItem struct {
	SkuID    string `json:"sku_id"`
	Quantity int64  `json:"quantity"`
}

// showQueued answers with a placement that waits, and when to ask again; or with one that was
// withdrawn.
func (a *api) showQueued(c echo.Context, status int, q *order.Queued) error {
	v := QueuedView{OrderNo: q.OrderNo, State: stateQueued}
	if q.Withdrawn {
		v.State, v.CloseReason = string(order.StateClosed), order.CloseReasonCancel
		return c.JSON(status, v)
	}
	v.Queue = &QueueView{Position: q.Position, WaitSeconds: int64(seconds(q.Wait, time.Second))}
	for _, l := range q.Lines {
		v.Items = append(v.Items, QueuedItem(l))
	}
	h := c.Response().Header()
	h.Set("Location", "/v1/orders/"+q.OrderNo)
	h.Set("Retry-After", strconv.Itoa(seconds(jittered(q.Wait), time.Second)))
	if q.Repeated {
		h.Set(headerReplayed, "true")
	}
	return c.JSON(status, v)
}

// jittered adds up to a part of itself to a wait.
func jittered(d time.Duration) time.Duration {
	return d + rand.N(d/jitterShare+1) //nolint:gosec // no secret
}

// showWaiting is show for a number that is no order: it may wait in the queue of a sale. With
// wait it answers when that has changed, or when the wait is over.
func (a *api) showWaiting(c echo.Context, no string, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		q, err := a.queued(c, no)
		var as *order.PlacedAsError
		if errors.As(err, &as) {
			no = as.OrderNo
		} else if err != nil {
			return err
		}
		left := min(time.Until(end), queuedEvery)
		if as == nil && (q.Withdrawn || left <= 0 || !a.pause(c, no, left)) {
			return a.showQueued(c, http.StatusOK, &q)
		}
		o, err := a.look(c, no)
		switch {
		case err == nil:
			return a.showOrder(c, http.StatusOK, &o)
		case as != nil || !errors.Is(err, order.ErrNotFound):
			return err
		}
	}
}

// pause waits until a placement is an order, for so long at most. False: it may not wait, the
// client is gone, or the service stops.
func (a *api) pause(c echo.Context, no string, d time.Duration) bool {
	select {
	case a.polls <- struct{}{}:
		defer func() { <-a.polls }()
	default:
		return false
	}
	c.Set(polledKey, true)
	end := time.NewTimer(d)
	defer end.Stop()
	if _, err := a.newer(c.Request().Context(), no, 0, end.C); err != nil {
		return false
	}
	select {
	case <-a.Stopping:
		return false
	default:
		return true
	}
}

// queued asks the queue within the budget of a read.
func (a *api) queued(c echo.Context, no string) (order.Queued, error) {
	ctx, cancel := context.WithTimeout(c.Request().Context(), storeBudget)
	defer cancel()
	return a.Orders.FindQueued(ctx, customerOf(c), no)
}

// onOrder does what is asked of an order, by its number or by that under which it waited in the queue
// of a sale. One that still waits there cannot be paid yet, and one that was refused is that refusal.
func (a *api) onOrder(c echo.Context, no string, do func(no string) error) error {
	err := do(no)
	if !errors.Is(err, order.ErrNotFound) {
		return err
	}
	q, err := a.queued(c, no)
	var as *order.PlacedAsError
	switch {
	case err == nil:
		return &order.QueuedError{Queued: q}
	case errors.As(err, &as):
		return do(as.OrderNo)
	}
	return err
}

// onPlaced is onOrder where what waits, or was refused, is no order: there is nothing to refund.
func (a *api) onPlaced(c echo.Context, no string, do func(no string) error) error {
	err := do(no)
	if !errors.Is(err, order.ErrNotFound) {
		return err
	}
	_, queueErr := a.queued(c, no)
	var as *order.PlacedAsError
	switch {
	case errors.As(queueErr, &as):
		return do(as.OrderNo)
	case errors.Is(queueErr, sqldb.ErrUnavailable): // it may have been placed as another
		return queueErr
	}
	return err
}

// queueFailure has the errors of the queue of a sale; a Failure without a code means that it is
// none of them.
func queueFailure(err error) Failure {
	var queued *order.QueuedError
	var full *order.NotReadyError
	switch {
	case errors.As(err, &full):
		return Failure{Code: CodeStockNotReady, RetryAfter: jittered(full.Wait)}
	case errors.As(err, &queued) && queued.Withdrawn:
		return Failure{Code: CodeOrderNotPayable, Text: Text{"The order was cancelled before it was made.",
			"该订单在生成前已取消。"}}
	case errors.As(err, &queued):
		return Failure{Code: CodeOrderNotPayable, RetryAfter: max(jittered(queued.Wait), time.Second), Text: Text{
			"The order is queued, and is made when its turn comes.", "订单正在排队,轮到时将自动生成。"}}
	}
	return Failure{}
}
