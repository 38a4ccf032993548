package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"orderd/order"
)

const (
	// permitWait is how long a refund waits for its permit inside the handler.
	// After it, the task goes back to the queue and its worker is free for others.
	permitWait = 3 * time.Second
	// refundBurst is how many refunds may go out together after a rest.
	refundBurst = 10
)

// runnerParams is what a runner needs.
type runnerParams struct {
	Orders     Orders
	Closer     *closer
	Failures   *failureTracker
	Daily      *daily     // nil: there is no reconciliation
	RefundRate rate.Limit // calls a second
	Observe    Observer
	Log        *slog.Logger
}

// runner runs one task, whoever asks for it: asynq, or the sweep that tries a failed
// one again. It finds by the type of a task who does the work.
type runner struct {
	runnerParams
	refunds *rate.Limiter
}

func newRunner(p runnerParams) *runner {
	return &runner{runnerParams: p, refunds: rate.NewLimiter(p.RefundRate, refundBurst)}
}

// run runs a task by its type and content. An error that is errPoison means that
// the task cannot be understood.
func (r *runner) run(ctx context.Context, typ string, content []byte, id string) error {
	if typ == TypeReconcile && r.Daily == nil { // who reconciles catches up with the day by itself
		r.Log.Info("the daily reconciliation is not this replica's")
		return nil
	}
	if typ == TypeReconcile {
		if err := r.Daily.reconcile(ctx); err != nil { // not kept as failed: catchUp repeats it
			r.Log.Warn("daily reconciliation", "err", err)
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
		// The cause is stored with every order of the part, so it names the second:
		// the id of a part holds two order numbers and is too long for that.
		return r.Closer.part(ctx, p.From.cursor(), p.To.cursor(), cause("task", slotID(p.Slot)))
	case typ == TypeExpire && p.Slot > 0:
		return r.Closer.slot(ctx, p.Slot, why)
	case typ == TypeExpire && p.OrderNo != "":
		return r.one(ctx, Failure{Type: typ, Key: p.OrderNo}, why)
	case typ == TypeRefund && p.OutRefundNo != "":
		return r.one(ctx, Failure{Type: typ, Key: p.OutRefundNo}, why)
	}
	return fmt.Errorf("%w: type %q", errPoison, typ)
}

// one runs one order or refund, unless it failed before: then the sweep tries it
// again, at its time.
func (r *runner) one(ctx context.Context, of Failure, why order.Cause) error {
	if failed, err := r.Failures.hasFailed(ctx, of.Type, of.Key); err != nil || failed {
		return err
	}
	return r.retry(ctx, of, why)
}

// retry runs one order or refund, of which Type and Key are given, and keeps it as
// failed when it cannot be done.
func (r *runner) retry(ctx context.Context, of Failure, why order.Cause) (err error) {
	switch of.Type {
	case TypeExpire:
		// As a page of one, so that a permit is taken only when it is known to be
		// needed. ClaimDue reads the order when it is not as it is believed here.
		page := []order.Due{{Key: of.Key, State: order.StatePending, Version: 1}}
		err = r.Closer.closeDue(ctx, page, why, r.Closer.admit)[0]
	case TypeRefund:
		if err = r.permit(ctx, of.Key); err == nil {
			err = r.Orders.Refund(ctx, of.Key, why)
		}
	}
	r.Observe.Fired(result(err))
	if err == nil || !isFailure(err) {
		return err
	}
	of.Cause = err
	of.Poison = errors.Is(err, order.ErrNotFound) || errors.Is(err, order.ErrRefundNotFound)
	return r.Failures.deadLetter(ctx, of)
}

// permit waits until the rate of refunds allows one more call.
func (r *runner) permit(ctx context.Context, outRefundNo string) error {
	ctx, cancel := context.WithTimeout(ctx, permitWait)
	defer cancel()
	if err := r.refunds.Wait(ctx); err != nil {
		return fmt.Errorf("%s: %w", outRefundNo, errThrottled)
	}
	return nil
}
