package order

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

// CancelRequest asks to close an unpaid order.
type CancelRequest struct {
	OrderNo string
	// CustomerID limits it to this customer's orders; "" for operators.
	CustomerID string
	// IfVersion refuses with ErrVersion unless the order has this version; 0 for any.
	IfVersion int64
	Reason    string // bounds.Reason, for the timeline; a customer's may be left out (bounds.Note)
	Cause     Cause
}

// storeTimeout bounds the storing of an answer of WeChat when the caller's own
// time is up: the database has its answer or its error well within it.
const storeTimeout = 5 * time.Second

// Cancel closes an unpaid order: it asks WeChat Pay to close it and gives the
// stock back only when that is proven. The order that comes back is Closed, or
// Closing when WeChat gave no usable answer (it is asked again by itself, and
// the stock stays reserved), or Late when it was closed and paid afterwards. Of an
// order whose time was over it notes who wants it closed, once: late money does not
// revive it any more.
//
// A *RefusedError carries the order when money is here: ask for a refund.
// *ValidationError (the reason), ErrNotFound, ErrVersion and database errors mean that
// nothing changed, except sqldb.ErrUnknown: asked again, it says. A placement that waits in the
// queue of a sale is withdrawn there, and never becomes an order: a *QueuedError that is
// Withdrawn. One that was refused there is that refusal.
func (s *Service) Cancel(ctx context.Context, r CancelRequest) (Order, error) {
	reason, bound := CloseReasonCancel, &bounds.Note
	if r.Cause.Actor.Type == ActorOperator {
		reason, bound = CloseReasonOperator, &bounds.Reason
	}
	var bad invalid
	if bad.text("#/reason", bound, r.Reason); len(bad) > 0 {
		return Order{}, bad.err()
	}
	c := &cancel{reason: reason,
		header: header{orderNo: r.OrderNo, customerID: r.CustomerID, ifVersion: r.IfVersion, cause: r.Cause}}
	if r.Reason != "" {
		c.detail = map[string]string{"reason": r.Reason}
	}
	done, err := s.apply(ctx, c)
	if errors.Is(err, ErrNotFound) {
		if r.OrderNo, err = s.withdraw(ctx, r.CustomerID, r.OrderNo); err == nil {
			c.orderNo = r.OrderNo
			done, err = s.apply(ctx, c)
		}
	}
	if err != nil {
		return Order{}, err
	}
	if done.turn.claimed {
		err = s.closeAtWeChat(ctx, claimOf(&done), r.Cause)
		var closing *ClosingError
		if err != nil && !errors.As(err, &closing) {
			// The order is committed as closing, and somebody will ask again:
			// that is the answer, whatever went wrong after it.
			s.log.Warn("cancel left the order closing", "order_no", r.OrderNo, "err", err)
		}
	}
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	o, err := s.findNow(ctx, r.OrderNo, "")
	if errors.Is(err, sqldb.ErrUnavailable) { // it is closing at least, and cannot be shown
		return Order{}, fmt.Errorf("%w: %w", sqldb.ErrUnknown, err)
	}
	if err != nil {
		return Order{}, err
	}
	if cell := Next(o.State, EventCancel); cell.Verdict == VerdictRefuse {
		return o, &RefusedError{Order: o, Event: EventCancel, Why: cell.Why}
	}
	return o, nil
}

// Expire looks at an order whose time has come: an unpaid one is taken to
// closing and WeChat is asked to close it; one that is closing is asked about
// again. Nil means that there is nothing more to do for it. A *NotDueError says
// when to come back, a *ClosingError that WeChat gave no usable answer and when
// it is asked again; ErrNotFound that there is no such order. It believes the
// database, not its caller: an early call does nothing.
func (s *Service) Expire(ctx context.Context, orderNo string, cause Cause) error {
	done, err := s.apply(ctx, &expire{header: header{orderNo: orderNo, cause: cause}})
	switch {
	case err != nil:
		return err
	case !done.turn.due.IsZero():
		return &NotDueError{At: done.turn.due}
	case !done.turn.claimed:
		return nil
	}
	if done.cell.Verdict == VerdictMove {
		s.observe.Lateness(done.turn.late)
	}
	return s.closeAtWeChat(ctx, claimOf(&done), cause)
}

// closeResult is what WeChat's answers prove about one trade.
type closeResult struct {
	proven closeProven
	trade  payment.Trade     // with closePaid
	proof  map[string]string // for the timeline: what was answered
	err    error             // with closeUnknown: why nothing is proven
	took   time.Duration
}

// closeProven is what is known of a trade after it was asked about.
type closeProven int

const (
	closeUnknown closeProven = iota // nothing moves, and it is asked again
	closeClosed                     // no money can come any more
	closePaid                       // the money is there
)

// String is the label of the metric: closed, paid or unknown.
func (p closeProven) String() string {
	switch p {
	case closeUnknown:
		return "unknown"
	case closeClosed:
		return "closed"
	case closePaid:
		return "paid"
	}
	return strconv.Itoa(int(p))
}

// closeAtWeChat asks WeChat Pay to close an order whose turn this process has,
// and writes what is proven. This and CloseClaimed, its like for many orders, are
// the only ways from closing to closed, and so the only places from which the
// stock of an unpaid order comes back.
func (s *Service) closeAtWeChat(ctx context.Context, c Claim, cause Cause) error {
	closeIntended()
	result := s.askAbout(ctx, c)
	// The answer is stored whoever has hung up meanwhile.
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	return s.recordCloseResult(ctx, c, cause, result)
}

// closeIntended marks the moment after the intent to close was committed and
// before anybody was asked, closeCommitted the one after the end was: tests end the
// process there.
func closeIntended()  { failpoint.Hit("close.intended") }
func closeCommitted() { failpoint.Hit("close.committed") }

// closableNo is the number by which WeChat Pay closes an order: that of its newest
// attempt, which alone may be payable, since the earlier ones were closed before it
// was opened. Without any it is the first one's, which was never sent: the close
// burns it.
func closableNo(orderNo string, newest *Attempt) string {
	if newest == nil {
		return attemptNo(orderNo, 1)
	}
	return newest.OutTradeNo
}

// askAbout asks WeChat Pay to close an order by the number that it knows it by.
func (s *Service) askAbout(ctx context.Context, c Claim) closeResult {
	result := s.askClose(ctx, closableNo(c.Key, c.attempt), c.attempt)
	s.observe.CloseAsked(result.proven.String())
	return result
}

// doneCommand is the command that a proven close comes to.
func (r *closeResult) doneCommand(orderNo string, cause Cause) command {
	return &closeDone{header{orderNo: orderNo, cause: cause, detail: r.proof, took: r.took}}
}

// recordCloseResult writes what WeChat's answers prove about a closing order.
func (s *Service) recordCloseResult(ctx context.Context, c Claim, cause Cause, r closeResult) error {
	held := "" // money that WeChat Pay holds for it and that is not its payment
	switch r.proven {
	case closeClosed:
		_, err := s.apply(ctx, r.doneCommand(c.Key, cause))
		closeCommitted()
		return err
	case closePaid:
		settled, err := s.Settle(ctx, r.trade, Cause{Actor: Actor{Type: ActorWeChat}, Type: "query", ID: cause.ID})
		if err != nil || settled.State != StateClosing {
			return err
		}
		held = r.trade.TransactionID
		r.err = fmt.Errorf("WeChat Pay holds a payment that does not fit this order (%s)", settled.Reason)
		if settled.OrderNo != "" && settled.OrderNo != c.Key {
			r.err = fmt.Errorf("WeChat Pay tells a payment that is recorded for order %s", settled.OrderNo)
		}
	case closeUnknown:
	}
	return s.recordUnanswered(ctx, c, cause, r, held)
}

// askClose asks WeChat to close a trade and decides what the answer proves, by
// the table of docs/wechat.md: a close is never believed alone where a prepay
// was ever sent, because 204 also comes for numbers that WeChat has not seen;
// and every answer but a clear one is decided by a query. attempt is nil when
// no prepay was ever sent under this number: then nothing can be payable, and
// the close burns the number.
func (s *Service) askClose(ctx context.Context, outTradeNo string, attempt *Attempt) closeResult {
	start := s.cfg.Now()
	r := closeResult{proof: map[string]string{"out_trade_no": outTradeNo}}
	defer func() { r.took = s.cfg.Now().Sub(start) }()

	reply, err := s.cfg.Gateway.Close(ctx, outTradeNo)
	failpoint.Hit("close.answered")
	if err != nil {
		r.proof["close"] = payment.KindOf(err).String()
		if g := (*payment.GatewayError)(nil); errors.As(err, &g) && g.Status == http.StatusUnauthorized {
			r.err = err // a query would be refused alike; who may not close any more may still ask
			return r
		}
	} else {
		r.proof["close"], r.proof["close_request"] = reply.Answer.String(), reply.RequestID
		r.proof["close_status"] = strconv.Itoa(reply.Status)
		if attempt == nil && reply.Answer != payment.ClosePaid {
			r.proven = closeClosed
			return r
		}
	}
	s.decideByQuery(ctx, &r, outTradeNo, attempt, err)
	return r
}

// decideByQuery settles what a close left open. closeErr is nil when WeChat
// gave a definite answer to the close.
func (s *Service) decideByQuery(ctx context.Context, r *closeResult, outTradeNo string, attempt *Attempt,
	closeErr error) {
	trade, err := s.cfg.Gateway.Query(ctx, outTradeNo)
	failpoint.Hit("close.queried")
	if err != nil {
		r.proof["query"] = payment.KindOf(err).String()
		r.err = errors.Join(closeErr, err)
		return
	}
	r.proof["query"], r.proof["query_request"] = string(trade.State), trade.RequestID
	r.err = closeErr
	switch trade.State {
	case payment.TradeSuccess, payment.TradeRefund:
		r.proven, r.trade, r.err = closePaid, trade, nil
	case payment.TradeClosed:
		r.proven, r.err = closeClosed, nil
	case payment.TradeNotFound:
		missing := s.missing(outTradeNo, attempt)
		if missing == nil && payment.KindOf(closeErr) == payment.KindMisconfigured && closeErr != nil {
			missing = errors.New("the merchant may be the wrong one, whose word proves nothing")
		}
		r.err = errors.Join(closeErr, missing)
		if missing == nil {
			r.proven, r.err = closeClosed, nil
		}
	case payment.TradeNotPay, payment.TradeUserPaying, payment.TradeRevoked, payment.TradePayError:
		r.err = errors.Join(closeErr, fmt.Errorf("WeChat Pay says %s", trade.State))
	}
}

// missing says why "no such trade" proves nothing, nil when it proves that no
// money can come: no prepay was ever sent, or each call of it has ended without an
// effect, or began so long ago that it cannot arrive any more. A trade that was opened
// once is not unopened by the refusal of a repeat.
func (s *Service) missing(outTradeNo string, attempt *Attempt) error {
	switch {
	case attempt == nil:
		return nil
	case attempt.State != AttemptClosed && attempt.opened():
		s.alarm("wechat does not know a trade that it opened", attempt.OrderNo, outTradeNo)
		return errors.New("WeChat Pay does not know a trade that it opened: wrong merchant or key?")
	case attempt.open.underWay(s.cfg.Now(), s.cfg.PrepayInFlight):
		return errors.New("a prepay is still on its way to WeChat Pay")
	}
	return nil
}
