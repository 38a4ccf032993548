package order

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

// Bounds of prepay.
const (
	maxPrepayRounds = 5 // in one call: the other trade type is closed, or a call was not alone
	// maxLot is of openCall.by: two of one order's calls have the same once in a hundred million.
	maxLot = 1 << 31
)

// beijing is the zone in which WeChat writes its own times; any offset would do.
var beijing = time.FixedZone("CST", 8*3600)

// Prepay gives the parameters to pay an order with. One payable trade per order
// exists at a time: the same request again gives the same answer while that is
// payable, one with another trade type, payer or app closes the earlier trade first. The parameters and the
// call are committed before WeChat is called, and a repeat uses the committed ones
// (prepay_calls.go). Where two calls were answered side by side, one more decides. An
// answer that comes after the order has left Pending is not handed out.
//
// Errors: *ValidationError, ErrNotFound, *NotPayableError, *RefusedError (it is
// paid), *payment.GatewayError (KindRejected: WeChat said no; otherwise ask
// again), database errors.
func (s *Service) Prepay(ctx context.Context, r PrepayRequest) (Prepayment, error) {
	if err := r.validate(); err != nil {
		return Prepayment{}, err
	}
	r.plain()
	for range maxPrepayRounds {
		what, err := s.intend(ctx, r)
		switch {
		case err != nil:
			return Prepayment{}, err
		case what.answered:
			return prepayment(what.attempt), nil
		case !what.close:
			if p, sure, err := s.callPrepay(ctx, what.attempt, r); err != nil || sure {
				return p, err
			}
		default:
			if err := s.closeAttempt(ctx, what.attempt, r.Cause); err != nil {
				return Prepayment{}, err
			}
		}
	}
	return Prepayment{}, &payment.GatewayError{Op: "prepay", Kind: payment.KindUnknown,
		Err: errors.New("this order keeps being prepaid at the same time")}
}

// validate checks what each trade type needs (WeChat Pay, "JSAPI/APP/H5/Native
// 下单"): JSAPI the payer's openid, H5 the payer's address and kind of client.
func (r *PrepayRequest) validate() error {
	var bad invalid
	need := func(pointer, code, detail string) { bad = append(bad, FieldError{pointer, code, detail}) }
	switch r.TradeType {
	case payment.Native, payment.App:
	case payment.JSAPI:
		bad.text("#/payer/openid", &bounds.OpenID, r.OpenID)
	case payment.H5:
		if !bounds.PublicAddress(r.ClientIP) {
			need("#/scene_info/payer_client_ip", bounds.CodeRequired, "H5 needs the payer's public IP address")
		}
		if r.H5Type == "" {
			need("#/scene_info/h5_info/type", bounds.CodeEnum, "H5 needs a type: iOS, Android or Wap")
		}
	default:
		need("#/trade_type", bounds.CodeEnum, "trade_type is JSAPI, NATIVE, H5 or APP")
	}
	if r.TradeType != payment.JSAPI && r.OpenID != "" {
		bad.text("#/payer/openid", &bounds.OpenID, r.OpenID)
	}
	bad.text("#/scene_info/payer_client_ip", &bounds.PayerIP, r.ClientIP)
	bad.text("#/scene_info/h5_info/type", &bounds.H5Type, r.H5Type)
	return bad.err()
}

// intent is what a prepay does next with an attempt: call with it, unless its answer
// still holds, or it must be closed first.
type intent struct {
	attempt         Attempt
	answered, close bool
}

// intend commits the intent of a prepay call.
func (s *Service) intend(ctx context.Context, r PrepayRequest) (what intent, err error) {
	now := s.cfg.Now().Truncate(time.Millisecond)
	by := rand.Int64N(maxLot) + 1 //nolint:gosec // a lot, not a secret
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		what = intent{}
		o, err := lockPending(ctx, tx, r, now)
		if err != nil {
			return err
		}
		attempts, err := findAttempts(ctx, tx, o.OrderNo)
		if err != nil {
			return err
		}
		n := 0 // the newest
		if len(attempts) > 0 {
			n = attempts[len(attempts)-1].No
		}
		if n > 0 && attempts[len(attempts)-1].State != AttemptClosed {
			last := attempts[len(attempts)-1]
			if last.State == AttemptRefused || !last.serves(&r, s.cfg.AppID) {
				what = intent{attempt: last, close: true}
				return nil
			}
			if what = (intent{attempt: last, answered: last.payable(now)}); what.answered {
				// A trade takes money once. The close finds out whether that is back with its buyer.
				what.close, err = hasHeld(ctx, tx, o.OrderNo, last.OutTradeNo)
				what.answered = !what.close
				return err
			}
			begun, err := what.attempt.begin(now, s.cfg.PrepayInFlight, by)
			if err != nil || !begun {
				return err
			}
			return beginCall(ctx, tx, &last, &what.attempt)
		}
		if n >= maxAttempts {
			return &NotPayableError{State: o.State}
		}
		title, sku, units, err := goodsOf(ctx, tx, o.OrderNo)
		if err != nil {
			return err
		}
		what = intent{attempt: s.newAttempt(o, r, n+1, now)}
		what.attempt.Description = describe(s.cfg.PayDescription, title, sku, units)
		what.attempt.open = openCalls{1: {at: now, by: by}}
		return insertAttempt(ctx, tx, what.attempt)
	})
	return what, err
}

// lockPending makes sure that the order can be paid now and stays so until the
// transaction ends: the guarded UPDATE conflicts with every change of state.
func lockPending(ctx context.Context, tx *sqldb.Tx, r PrepayRequest, now time.Time) (Order, error) {
	entries, err := lockOrders(ctx, tx, []string{r.OrderNo})
	if err != nil {
		return Order{}, err
	}
	e, ok := entries[r.OrderNo]
	if !ok || (r.CustomerID != "" && e.before.CustomerID != r.CustomerID) {
		return Order{}, ErrNotFound
	}
	o := e.before
	switch {
	case o.State != StatePending && Next(o.State, EventCancel).Verdict == VerdictRefuse:
		return o, &RefusedError{Order: o, Event: EventPay, Why: "the order is paid already"}
	case o.State != StatePending:
		return o, &NotPayableError{State: o.State}
	case !now.Before(o.ExpireAt):
		return o, &NotPayableError{State: o.State, Expired: true}
	}
	return o, holdPending(ctx, tx, o.OrderNo, later(now, o.UpdatedAt))
}

// newAttempt is the n-th WeChat order of an order. WeChat refuses payers from its
// time_expire on by itself: the deadline holds there too.
func (s *Service) newAttempt(o Order, r PrepayRequest, n int, now time.Time) Attempt {
	return Attempt{
		Attempt: payment.Attempt{
			OutTradeNo: attemptNo(o.OrderNo, n), OrderNo: o.OrderNo, TradeType: r.TradeType,
			Attach: o.Attach, NotifyURL: s.cfg.NotifyURL,
			TimeExpire: o.ExpireAt.In(beijing).Format(time.RFC3339), Amount: o.Total,
			OpenID: r.OpenID, ClientIP: r.ClientIP, H5Type: r.H5Type,
		},
		No: n, State: AttemptCalling, CallNo: 1, CalledAt: now,
	}
}

// callPrepay calls WeChat with a committed attempt and stores the answer. It is not sure
// when another call was answered beside it and all have ended, so that one more can be
// alone. While one is on its way, its answer is as good as another.
func (s *Service) callPrepay(ctx context.Context, a Attempt, r PrepayRequest) (p Prepayment, sure bool, err error) {
	s.customerHere()
	start := s.cfg.Now()
	failpoint.Hit("prepay.intended")
	prepaid, err := s.cfg.Gateway.Prepay(ctx, a.Attempt)
	if err != nil {
		return p, false, s.prepayFailed(ctx, a, r, err)
	}
	failpoint.Hit("prepay.answered")
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	done, err := s.apply(ctx, &endCall{call: a, end: callAnswered, answer: prepaid,
		header: header{orderNo: a.OrderNo, cause: r.Cause, took: s.cfg.Now().Sub(start)}})
	if err != nil {
		return p, false, fmt.Errorf("store the prepay answer: %w", err)
	}
	if done.cell.Verdict == VerdictRefuse {
		// The order, or this trade of it, was closed, and that may have asked WeChat
		// before this call opened the trade there: it is closed once more. Nobody has
		// seen these parameters.
		if _, err := s.cfg.Gateway.Close(ctx, a.OutTradeNo); err != nil {
			s.alarm("a trade opened too late may be payable", a.OrderNo, err.Error())
		}
		if done.order.State == StatePending {
			return p, false, &payment.GatewayError{Op: "prepay", Kind: payment.KindUnknown,
				Err: errors.New("another payment of this order was opened meanwhile")}
		}
		return p, false, &NotPayableError{State: done.order.State}
	}
	// One in doubt is handed out to this client, and asked for anew by the next.
	sure = prepaid.Doubt || done.attempt.sure() || done.attempt.open.underWay(s.cfg.Now(), s.cfg.PrepayInFlight)
	return prepayment(done.attempt), sure, nil // of a newer call, when that was answered first
}

// prepayFailed sorts a failed call. One that is proven to have ended without an effect
// is not waited for any more; a definite no is written down, and when WeChat says that
// the trade is paid, the money is taken in.
func (s *Service) prepayFailed(ctx context.Context, a Attempt, r PrepayRequest, failure error) error {
	if !payment.Ended(failure) {
		return failure // it may have been opened: the same parameters are sent again next time
	}
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	end := callVoid
	var g *payment.GatewayError
	if payment.KindOf(failure) == payment.KindRejected {
		end = callRefused
		if errors.As(failure, &g) && !g.NotSent {
			err := s.afterRefusal(ctx, a.OrderNo, r.Cause)
			var held *NotPayableError
			if errors.As(err, &held) && held.Held {
				failure = err // and the number is used up: the next call has it closed
			} else if err != nil {
				failure, end = err, callVoid // the order is paid or being closed; the call has ended all the same
			}
		}
	}
	_, err := s.apply(ctx, &endCall{call: a, end: end, header: header{orderNo: a.OrderNo, cause: r.Cause}})
	if err != nil { // the call counts as under way for a while
		s.log.Warn("end of a prepay call not stored", "out_trade_no", a.OutTradeNo, "err", err)
	}
	return failure
}

// afterRefusal asks whether a prepay was refused because money is here, and says so. When
// that cannot be found out, WeChat Pay's refusal is the answer: nil.
func (s *Service) afterRefusal(ctx context.Context, orderNo string, cause Cause) error {
	o, err := s.Sync(ctx, orderNo, cause)
	if err != nil {
		return nil
	}
	return s.unpayable(ctx, o)
}

// closeAttempt makes an earlier attempt unpayable, proven, so that another may
// be opened.
func (s *Service) closeAttempt(ctx context.Context, a Attempt, cause Cause) error {
	result := s.askClose(ctx, a.OutTradeNo, &a)
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	switch result.proven {
	case closeClosed:
		done, err := s.apply(ctx, &closeTrade{attempt: a,
			header: header{orderNo: a.OrderNo, cause: cause, detail: result.proof, took: result.took}})
		if err != nil || done.cell.Verdict != VerdictRefuse {
			return err
		}
	case closePaid:
		settled, err := s.Settle(ctx, result.trade,
			Cause{Actor: Actor{Type: ActorWeChat}, Type: "query", ID: result.trade.RequestID})
		if err != nil {
			return err
		}
		if settled.State == StatePending {
			return s.usedUp(ctx, a, result.trade.TransactionID)
		}
		o, err := s.findNow(ctx, a.OrderNo, "")
		if err == nil {
			err = s.unpayable(ctx, o)
		}
		return err
	case closeUnknown:
	}
	return &payment.GatewayError{Op: "close", Kind: payment.KindUnknown,
		Err: errors.New("the earlier payment of this order could not be closed yet")}
}

// unpayable says what keeps an order, as it is after WeChat Pay was asked about its
// payment, from being paid: nil when nothing does. Money that is held is not the
// order's: its buyer is not told that the order is paid.
func (s *Service) unpayable(ctx context.Context, o Order) error {
	switch {
	case Next(o.State, EventCancel).Verdict == VerdictRefuse:
		return &RefusedError{Order: o, Event: EventPay, Why: "the order is paid already"}
	case o.State != StatePending:
		return &NotPayableError{State: o.State}
	}
	held := false
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		held, err = hasHeld(ctx, tx, o.OrderNo, "")
		return err
	})
	if err == nil && held {
		return &NotPayableError{State: o.State, Held: true}
	}
	return sqldb.Wrap("look for held payments", err)
}

// usedUp is for an attempt that has taken money which could not be its order's: no more
// can come by it. Another is opened once the buyer has that money again.
func (s *Service) usedUp(ctx context.Context, a Attempt, transactionID string) error {
	done, err := s.apply(ctx, &useUp{outTradeNo: a.OutTradeNo, transactionID: transactionID,
		header: header{orderNo: a.OrderNo, cause: Cause{Actor: Actor{Type: ActorWeChat}, Type: "query"},
			detail: map[string]string{"transaction_id": transactionID}}})
	if err == nil && done.cell.Verdict == VerdictRefuse {
		return &NotPayableError{State: done.order.State, Held: true}
	}
	return err
}

// useUp closes an attempt whose money has gone back.
type useUp struct {
	header
	outTradeNo, transactionID string
}

// needs adds all that went back of the payment.
func (c *useUp) needs(n *needs) {
	n.order(c.orderNo)
	n.attempts[c.outTradeNo] = true
	n.refunded[c.transactionID], n.refundsOfPayment[c.transactionID] = true, true
}

// decide refuses as long as the money is here.
func (c *useUp) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	done := applied{order: e.after, before: e.after.State, cell: same()}
	entry, p := b.attempts[c.outTradeNo], b.refunds.payments[c.transactionID]
	if entry == nil || p == nil || !p.isOf(c.orderNo) || b.wentBack(c.transactionID) < p.amount {
		done.cell = refuse("a payment of this order is being looked into")
		return done, nil
	}
	entry.close(b, e, &c.header) // whatever calls of it are under way: a paid trade is not opened again
	done.order = e.after
	return done, nil
}

// prepayment is what the client gets of an attempt.
func prepayment(a Attempt) Prepayment {
	expire, _ := time.Parse(time.RFC3339, a.TimeExpire) // we wrote it
	return Prepayment{OrderNo: a.OrderNo, OutTradeNo: a.OutTradeNo, TradeType: a.TradeType,
		TimeExpire: expire.UTC(), PayableUntil: a.PayableUntil(), Prepaid: a.Answer}
}
