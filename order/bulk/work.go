package bulk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/operators"
)

// Run works at runs until ctx ends: at those that nobody works at, a part of each in turn. It ends after the row that
// is being done, and another process goes on at once.
func (r *Runs) Run(ctx context.Context) {
	look := time.NewTicker(r.cfg.LookEvery)
	defer look.Stop()
	for {
		more, err := r.pass(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("bulk runs cannot go on now", "err", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-r.rung:
		}
	}
}

// pass gives each run that is free its turn, and reports that there was one.
func (r *Runs) pass(ctx context.Context) (some bool, err error) {
	if ctx.Err() != nil {
		return false, nil
	}
	runs, err := r.free(ctx)
	if err != nil {
		return false, err
	}
	var failed error
	for i := range runs {
		went, err := r.turn(ctx, runs[i].ID, turnRows)
		failed = errors.Join(failed, err)
		some = some || went
	}
	return some, failed
}

// Work works at one run until it has ended, whoever does its rows, and tells how far it is at each step.
func (r *Runs) Work(ctx context.Context, id string, tell func(Run)) (Run, error) {
	look := time.NewTicker(r.cfg.LookEvery)
	defer look.Stop()
	for {
		went, err := r.turn(ctx, id, tellRows)
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("a bulk run cannot go on now", "run", id, "err", err)
		}
		if ctx.Err() != nil {
			return Run{}, ctx.Err()
		}
		run, err := r.Find(ctx, id)
		if err != nil {
			return Run{}, err
		}
		tell(run)
		if run.State != StateRunning {
			return run, nil
		}
		if went {
			continue
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
}

// turn does up to most rows of a run, and reports that there was one.
func (r *Runs) turn(ctx context.Context, id string, most int) (some bool, err error) {
	for n := 0; n < most && ctx.Err() == nil; n++ {
		c, err := r.claim(ctx, id)
		if err != nil || c.row.Seq == 0 {
			return some, err
		}
		if begun, err := r.permitted(ctx, &c); err != nil || !begun {
			r.putBack(ctx, &c)
			r.release(ctx, id)
			return some, err
		}
		if err := r.do(ctx, &c); err != nil { // whoever asks again at once asks what is locked, or limited, still
			r.release(ctx, id)
			return some, err
		}
		some = true
	}
	r.release(ctx, id)
	return some, nil
}

// permitted waits until the row may be done, and reports that it still may be then.
func (r *Runs) permitted(ctx context.Context, c *claimed) (bool, error) {
	if r.cfg.Calls == nil || c.run.Kind == KindApprove { // an approval calls nobody: its refund is sent by a worker
		return true, nil
	}
	if err := r.permit(ctx); err != nil {
		return false, err
	}
	return r.keeps(ctx, c)
}

// passed is where this process is among the rows that were passed by, for each run: one that stays locked must not
// keep it from those behind it.
type passed struct {
	sync.Mutex
	after map[string]int64
}

// place is the row of a run that was passed by last.
func (p *passed) place(id string) int64 {
	p.Lock()
	defer p.Unlock()
	return p.after[id]
}

// at remembers that a row was passed by.
func (p *passed) at(id string, seq int64) {
	p.Lock()
	defer p.Unlock()
	p.after[id] = seq
}

// forget ends with a run.
func (p *passed) forget(id string) {
	p.Lock()
	defer p.Unlock()
	delete(p.after, id)
}

// storeFor bounds the writing of what came of a row when the process stops.
const storeFor = 5 * time.Second

// tellRows is how many rows Work does between two words of how far it is.
const tellRows = 5

// errBusy: others take the whole rate of calls.
var errBusy = errors.New("others take all of the calls to WeChat Pay that there may be")

// permit waits for the right to call WeChat Pay, with the others who share its rate; not for as long as the run is
// held.
func (r *Runs) permit(ctx context.Context) error {
	for waited := time.Duration(0); waited < holdFor/2; {
		got, wait, err := r.cfg.Calls.Take(ctx, 1)
		if err != nil || got > 0 {
			return err
		}
		wait = min(wait, holdFor/4)
		waited += wait
		if !sqldb.Sleep(ctx, wait) {
			return ctx.Err()
		}
	}
	return errBusy
}

// do does a row and writes what came of it. An error says that nobody knows yet: it is passed by, and asked for again
// at the end.
func (r *Runs) do(ctx context.Context, c *claimed) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actFor)
	defer cancel()
	state, detail, err := r.outcome(ctx, c)
	if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeFor)
		defer cancel()
		return errors.Join(err, r.passBy(end, c, whyPassed(err)))
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeFor)
	defer cancel()
	return r.settle(end, c.run.ID, c.row.Seq, state, detail)
}

// Why a row was passed by.
const (
	atLimit    = "WeChat Pay takes no more calls now; it is asked for again at the end"
	passedBusy = "somebody else is at it, or the database gave no answer; it is tried again at the end"
)

// whyPassed is the detail of a row that was passed by.
func whyPassed(err error) string {
	if payment.KindOf(err) == payment.KindRateLimited {
		return atLimit
	}
	return passedBusy
}

// outcome does a row by the act on one thing, and says what came of it.
func (r *Runs) outcome(ctx context.Context, c *claimed) (RowState, string, error) {
	detail, err := r.act(ctx, c)
	var gateway *payment.GatewayError
	switch {
	case err == nil:
		return RowDone, detail, nil
	case errors.Is(err, order.ErrVersion):
		return r.changed(ctx, c)
	case errors.As(err, &gateway) && gateway.Kind != payment.KindRateLimited:
		return RowFailed, noAnswer, nil
	case gateway != nil, errors.Is(err, sqldb.ErrUnavailable), errors.Is(err, sqldb.ErrOverloaded),
		errors.Is(err, sqldb.ErrUnknown), ctx.Err() != nil:
		return "", "", fmt.Errorf("%s of %s: %w", c.run.Kind, c.row.Ref, err)
	}
	return RowFailed, r.said(c, err), nil
}

// said is why a row failed, for everybody who may look: what a rule says, and of anything else that the log has it.
func (r *Runs) said(c *claimed, err error) string {
	for _, rule := range []error{order.ErrNotFound, order.ErrRefundNotFound, order.ErrSelfApproval, operators.ErrShell,
		operators.ErrNoLonger, errTwo} {
		if errors.Is(err, rule) {
			return rule.Error()
		}
	}
	var refused *order.RefusedError
	var refundRefused *order.RefundRefusedError
	var same *operators.SameError
	switch {
	case errors.As(err, &refused):
		return refused.Why
	case errors.As(err, &refundRefused):
		return refundRefused.Why
	case errors.As(err, &same):
		return same.Error()
	}
	r.cfg.Log.Error("a row of a bulk run failed", "run", c.run.ID, "ref", c.row.Ref, "err", err)
	return failedOtherwise
}

// Details are what a run says of rows by itself, for who says it in another language.
func Details() []string {
	return []string{atLimit, passedBusy, noAnswer, closingStill, failedOtherwise, errTwo.Error()}
}

// failedOtherwise is the detail of a row that failed by no rule.
const failedOtherwise = "it could not be done; the log of the service says why"

// noAnswer is the detail of an order that WeChat Pay was asked about in vain.
const noAnswer = "WeChat Pay gave no usable answer"

// act does one row. order.ErrVersion: it is not as it was counted. The detail says what is still waited for.
func (r *Runs) act(ctx context.Context, c *claimed) (detail string, err error) {
	why := c.cause()
	switch c.run.Kind {
	case KindClose:
		o, err := r.cfg.Orders.Cancel(ctx, order.CancelRequest{OrderNo: c.row.Ref, IfVersion: c.row.Version,
			Reason: c.run.Reason, Cause: why})
		return waitsFor(&o, err)
	case KindAsk:
		o, err := r.cfg.Orders.Find(ctx, c.row.Ref)
		if err != nil {
			return "", err
		}
		if o.Version != c.row.Version { // what an answer has changed is in the timeline by the run's id
			return "", order.ErrVersion
		}
		_, err = r.cfg.Orders.Sync(ctx, c.row.Ref, why)
		return "", err
	case KindApprove:
		f, err := r.cfg.Orders.FindRefund(ctx, c.row.Ref)
		switch {
		case err != nil:
			return "", err
		case f.Version == c.row.Version && f.MayTakeTwo(r.cfg.Orders.ApprovalsFor): // by a limit that is lower now
			return "", errTwo
		}
		_, err = r.cfg.Orders.DecideRefund(ctx, order.RefundDecision{OutRefundNo: c.row.Ref,
			Event: order.RefundEventApprove, Reason: c.run.Reason, IfVersion: c.row.Version, Cause: why})
		return "", err
	}
	return "", ErrNone
}

// errTwo: a run has the approvals of one person only.
var errTwo = errors.New("two people have to approve this refund: decide about it by itself")

// closingStill is the detail of an order that was asked to be closed, of which WeChat Pay has said nothing yet.
const closingStill = "WeChat Pay has not answered yet; it is asked again by itself"

// waitsFor says what an order that was asked to be closed waits for.
func waitsFor(o *order.Order, err error) (string, error) {
	if err == nil && o.State == order.StateClosing {
		return closingStill, nil
	}
	return "", err
}

// cause says in the timeline who did it, by which run.
func (c *claimed) cause() order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: c.run.Actor}, Type: causeType, ID: c.run.ID}
}

// causeType is order.Cause's of what a run does; its ID is the run's.
const causeType = "bulk"

// changed says what came of a row whose version is not the counted one: this run has done it before, and did not come
// to say so; or somebody else has changed it.
func (r *Runs) changed(ctx context.Context, c *claimed) (RowState, string, error) {
	no, refund := c.row.Ref, ""
	if c.run.Kind == KindApprove {
		f, err := r.cfg.Orders.FindRefund(ctx, c.row.Ref)
		if err != nil {
			return "", "", err
		}
		no, refund = f.OrderNo, f.OutRefundNo
	}
	typ := causeType
	if c.run.Kind == KindAsk { // Sync says itself that it was an answer
		typ = "query"
	}
	done, err := r.cfg.Orders.Caused(ctx, no, typ, c.run.ID, refund)
	switch {
	case err != nil:
		return "", "", err
	case done:
		return RowDone, "", nil
	}
	return RowChanged, "", nil
}
