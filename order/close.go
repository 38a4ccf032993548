package order

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

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
	Reason    string // ≤ 200 characters, for the timeline
	Cause     Cause
}

// storeTimeout bounds the storing of an answer of WeChat when the caller's own
// time is up: the database has its answer or its error well within it.
const storeTimeout = 5 * time.Second

// Cancel closes an unpaid order: it asks WeChat Pay to close it and gives the
// stock back only when that is proven. The order that comes back is Closed, or
// Closing when WeChat gave no usable answer (it is asked again by itself, and
// the stock stays reserved), or Late when it was closed and paid afterwards.
//
// A *RefusedError carries the order when money is here: ask for a refund.
// ErrNotFound, ErrVersion and database errors mean that nothing changed, except
// sqldb.ErrUnknown: asked again, it says.
func (s *Service) Cancel(ctx context.Context, r CancelRequest) (Order, error) {
	reason := CloseReasonCancel
	if r.Cause.Actor.Type == ActorOperator {
		reason = CloseReasonOperator
	}
	c := change{orderNo: r.OrderNo, customerID: r.CustomerID, ifVersion: r.IfVersion, cause: r.Cause, event: EventCancel, reason: reason}
	if r.Reason != "" {
		c.detail = map[string]string{"reason": r.Reason}
	}
	done, err := s.bring(ctx, c)
	if err != nil {
		return Order{}, err
	}
	if done.mine {
		err = s.finish(ctx, done.order, r.Cause)
		var closing *ClosingError
		if err != nil && !errors.As(err, &closing) {
			// The order is committed as closing, and somebody will ask again:
			// that is the answer, whatever went wrong after it.
			s.log.Warn("cancel left the order closing", "order_no", r.OrderNo, "err", err)
		}
	}
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	o, err := s.Find(ctx, r.OrderNo)
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
	done, err := s.bring(ctx, change{orderNo: orderNo, cause: cause, event: EventExpire, reason: CloseReasonTimeout})
	switch {
	case err != nil:
		return err
	case !done.due.IsZero():
		return &NotDueError{At: done.due}
	case !done.mine:
		return nil
	}
	if done.cell.Verdict == VerdictMove {
		s.observe.Lateness(done.late)
	}
	return s.finish(ctx, done.order, cause)
}

// verdict is what WeChat's answers prove about one trade.
type verdict struct {
	kind  verdictKind
	trade payment.Trade     // with verdictPaid
	proof map[string]string // for the timeline: what was answered
	err   error             // with verdictUnknown
	took  time.Duration
}

type verdictKind int

const (
	verdictUnknown verdictKind = iota // nothing moves
	verdictClosed                     // no money can come any more
	verdictPaid                       // the money is there
)

func (k verdictKind) String() string {
	switch k {
	case verdictUnknown:
		return "unknown"
	case verdictClosed:
		return "closed"
	case verdictPaid:
		return "paid"
	}
	return strconv.Itoa(int(k))
}

// finish asks WeChat to close an order that is Closing and writes what is
// proven. This and its like for many orders (expire.go) are the only ways from
// Closing to Closed, and so the only places from which the stock of an unpaid
// order comes back.
func (s *Service) finish(ctx context.Context, o Order, cause Cause) error {
	intended()
	attempts, err := findAttempts(ctx, s.db, o.OrderNo)
	if err != nil {
		return err
	}
	number, attempt := attemptNo(o.OrderNo, 1), (*Attempt)(nil)
	if n := len(attempts); n > 0 {
		attempt = &attempts[n-1] // at most one is payable: the earlier ones were closed before it was opened
		number = attempt.OutTradeNo
	}
	v := s.askClose(ctx, number, attempt)
	s.observe.CloseAsked(v.kind.String())

	// The answer is stored whoever has hung up meanwhile.
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	return s.proven(ctx, o, cause, v)
}

// intended marks the moment after the intent to close was committed, committed
// that after the end was.
func intended()  { failpoint.Hit("close.intended") }
func committed() { failpoint.Hit("close.committed") }

// proven writes what WeChat's answers prove about a closing order.
func (s *Service) proven(ctx context.Context, o Order, cause Cause, v verdict) error {
	switch v.kind {
	case verdictClosed:
		_, err := s.bring(ctx, change{orderNo: o.OrderNo, cause: cause, event: EventCloseDone, detail: v.proof, took: v.took})
		committed()
		return err
	case verdictPaid:
		settled, err := s.Settle(ctx, v.trade, Cause{Actor: Actor{Type: ActorWeChat}, Type: "query", ID: cause.ID})
		if err != nil || settled.State != StateClosing {
			return err
		}
		v.err = fmt.Errorf("WeChat Pay holds a payment that does not fit this order (%s)", settled.Reason)
	case verdictUnknown:
	}
	v.proof["error"] = v.err.Error()
	if _, err := s.bring(ctx, change{orderNo: o.OrderNo, cause: cause, note: "close.unknown", detail: v.proof, took: v.took}); err != nil {
		return err
	}
	s.cfg.Tasks.WakeAt(o.DueAt)
	return &ClosingError{At: o.DueAt, Err: v.err}
}

// askClose asks WeChat to close a trade and decides what the answer proves, by
// the table of docs/wechat.md: a close is never believed alone where a prepay
// was ever sent, because 204 also comes for numbers that WeChat has not seen;
// and every answer but a clear one is decided by a query. attempt is nil when
// no prepay was ever sent under this number: then nothing can be payable, and
// the close burns the number.
func (s *Service) askClose(ctx context.Context, outTradeNo string, attempt *Attempt) verdict {
	start := s.cfg.Now()
	v := verdict{proof: map[string]string{"out_trade_no": outTradeNo}}
	defer func() { v.took = s.cfg.Now().Sub(start) }()

	reply, err := s.cfg.Gateway.Close(ctx, outTradeNo)
	failpoint.Hit("close.answered")
	if err != nil {
		v.proof["close"] = payment.KindOf(err).String()
		if payment.KindOf(err) == payment.KindMisconfigured {
			s.alarm("wechat refuses our credentials", attemptOrder(outTradeNo), err.Error())
			v.err = err
			return v
		}
	} else {
		v.proof["close"], v.proof["close_request"] = reply.Answer.String(), reply.RequestID
		v.proof["close_status"] = strconv.Itoa(reply.Status)
		if attempt == nil && reply.Answer != payment.ClosePaid {
			v.kind = verdictClosed
			return v
		}
	}
	s.decideByQuery(ctx, &v, outTradeNo, attempt, err)
	return v
}

// decideByQuery settles what a close left open. closeErr is nil when WeChat
// gave a definite answer to the close.
func (s *Service) decideByQuery(ctx context.Context, v *verdict, outTradeNo string, attempt *Attempt, closeErr error) {
	trade, err := s.cfg.Gateway.Query(ctx, outTradeNo)
	failpoint.Hit("close.queried")
	if err != nil {
		v.proof["query"] = payment.KindOf(err).String()
		v.err = errors.Join(closeErr, err)
		return
	}
	v.proof["query"], v.proof["query_request"] = string(trade.State), trade.RequestID
	v.err = closeErr
	switch trade.State {
	case payment.TradeSuccess, payment.TradeRefund:
		v.kind, v.trade, v.err = verdictPaid, trade, nil
	case payment.TradeClosed:
		v.kind, v.err = verdictClosed, nil
	case payment.TradeNotFound:
		v.err = errors.Join(closeErr, s.missing(outTradeNo, attempt))
		if v.err == nil {
			v.kind = verdictClosed
		}
	case payment.TradeNotPay, payment.TradeUserPaying, payment.TradeRevoked, payment.TradePayError:
		v.err = errors.Join(closeErr, fmt.Errorf("WeChat Pay says %s", trade.State))
	}
}

// missing says why "no such trade" proves nothing, nil when it proves that no
// money can come: no prepay was ever sent, or its call ended without an answer
// so long ago that it cannot arrive any more.
func (s *Service) missing(outTradeNo string, attempt *Attempt) error {
	switch {
	case attempt == nil:
		return nil
	case attempt.State == AttemptLive:
		s.alarm("wechat does not know a trade that it opened", attempt.OrderNo, outTradeNo)
		return errors.New("WeChat Pay does not know a trade that it opened: wrong merchant or key?")
	case s.cfg.Now().Before(attempt.CalledAt.Add(s.cfg.PrepayInFlight)):
		return errors.New("a prepay is still on its way to WeChat Pay")
	}
	return nil
}

// attemptNo is the out_trade_no of an order's n-th attempt.
func attemptNo(orderNo string, n int) string { return fmt.Sprintf("%s-%02d", orderNo, n) }

// attemptOrder gives the order number in an out_trade_no, "" when it is not one of ours.
func attemptOrder(outTradeNo string) string {
	if len(outTradeNo) != orderNoLen+3 || outTradeNo[orderNoLen] != '-' {
		return ""
	}
	return outTradeNo[:orderNoLen]
}

// orderNoLen is the length of a ULID.
const orderNoLen = 26
