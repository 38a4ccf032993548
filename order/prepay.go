package order

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

// Bounds of prepay.
const (
	maxPrepaySwap = 3               // rounds of "close the other trade type first" in one call
	prepayValid   = 2 * time.Hour   // of code_url and prepay_id, WeChat's documents
	h5Valid       = 5 * time.Minute // of h5_url, same
	maxOpenID     = 128
)

// beijing is the zone in which WeChat writes its own times; any offset would do.
var beijing = time.FixedZone("CST", 8*3600)

// Prepay gives the parameters to pay an order with. One payable trade per order
// exists at a time: the same request again gives the same answer while that is
// valid, another trade type closes the earlier trade first. The parameters are
// committed before WeChat is called, and a repeat uses the committed ones. An
// answer that comes after the order has left Pending is not handed out.
//
// Errors: *ValidationError, ErrNotFound, *NotPayableError, *RefusedError (it is
// paid), *payment.GatewayError (KindRejected: WeChat said no; otherwise ask
// again), database errors.
func (s *Service) Prepay(ctx context.Context, r PrepayRequest) (Prepayment, error) {
	if err := r.validate(); err != nil {
		return Prepayment{}, err
	}
	for range maxPrepaySwap {
		a, other, err := s.intend(ctx, r)
		if err != nil {
			return Prepayment{}, err
		}
		if other != nil {
			if err := s.closeAttempt(ctx, *other); err != nil {
				return Prepayment{}, err
			}
			continue
		}
		if a.State == AttemptLive && s.cfg.Now().Before(validUntil(a)) {
			return prepayment(a), nil
		}
		return s.callPrepay(ctx, a, r)
	}
	return Prepayment{}, &payment.GatewayError{Op: "prepay", Kind: payment.KindUnknown,
		Err: errors.New("other payments of this order keep being opened")}
}

// validate checks what each trade type needs (WeChat Pay, "JSAPI/APP/H5/Native
// 下单"): JSAPI the payer's openid, H5 the payer's address and kind of client.
func (r *PrepayRequest) validate() error {
	bad := func(pointer, code, detail string) error {
		return &ValidationError{Fields: []FieldError{{pointer, code, detail}}}
	}
	switch r.TradeType {
	case payment.Native, payment.App:
	case payment.JSAPI:
		if r.OpenID == "" || len(r.OpenID) > maxOpenID {
			return bad("#/payer/openid", "REQUIRED", "JSAPI needs the payer's openid")
		}
	case payment.H5:
		if ip := net.ParseIP(r.ClientIP); ip == nil || ip.IsLoopback() {
			return bad("#/scene_info/payer_client_ip", "REQUIRED", "H5 needs the payer's public IP address")
		}
		if r.H5Type != "iOS" && r.H5Type != "Android" && r.H5Type != "Wap" {
			return bad("#/scene_info/h5_info/type", "ENUM", "H5 needs a type: iOS, Android or Wap")
		}
	default:
		return bad("#/trade_type", "ENUM", "trade_type is JSAPI, NATIVE, H5 or APP")
	}
	return nil
}

// intend commits the intent of a prepay. It gives the attempt to call with (or
// whose answer still holds), or another one that must be closed first.
func (s *Service) intend(ctx context.Context, r PrepayRequest) (a Attempt, other *Attempt, err error) {
	now := s.cfg.Now().Truncate(time.Millisecond)
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, other = Attempt{}, nil
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
			if last.State == AttemptRefused || last.TradeType != r.TradeType || last.OpenID != r.OpenID ||
				last.H5Type != r.H5Type {
				other = &last
				return nil
			}
			a = last
			return nil
		}
		if n >= maxAttempts {
			return &NotPayableError{State: o.State}
		}
		a = s.newAttempt(o, r, n+1, now)
		return insertAttempt(ctx, tx, a)
	})
	return a, other, err
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
			Description: "Order " + o.OrderNo, Attach: o.Attach, NotifyURL: s.cfg.NotifyURL,
			TimeExpire: o.ExpireAt.In(beijing).Format(time.RFC3339), Amount: o.Total,
			OpenID: r.OpenID, ClientIP: r.ClientIP, H5Type: r.H5Type,
		},
		No: n, State: AttemptCalling, CalledAt: now,
	}
}

// callPrepay calls WeChat with a committed attempt and stores the answer.
func (s *Service) callPrepay(ctx context.Context, a Attempt, r PrepayRequest) (Prepayment, error) {
	s.customerHere()
	start := s.cfg.Now()
	failpoint.Hit("prepay.intended")
	prepaid, err := s.cfg.Gateway.Prepay(ctx, a.Attempt)
	if err != nil {
		return Prepayment{}, s.prepayFailed(ctx, a, r, err)
	}
	failpoint.Hit("prepay.answered")
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	a.State, a.Answer, a.AnsweredAt = AttemptLive, prepaid, s.cfg.Now().Truncate(time.Millisecond)
	done, err := s.apply(ctx, &storePrepay{attempt: a,
		header: header{orderNo: a.OrderNo, cause: r.Cause, took: a.AnsweredAt.Sub(start)}})
	if err != nil {
		return Prepayment{}, fmt.Errorf("store the prepay answer: %w", err)
	}
	if done.cell.Verdict == VerdictRefuse {
		// The order is being closed. Its closing may have asked WeChat before
		// this trade was opened there, so it is closed once more; nobody has
		// seen these parameters.
		if _, err := s.cfg.Gateway.Close(ctx, a.OutTradeNo); err != nil {
			s.alarm("a trade opened too late may be payable", a.OrderNo, err.Error())
		}
		return Prepayment{}, &NotPayableError{State: done.order.State}
	}
	return prepayment(a), nil
}

// prepayFailed sorts a failed call: a definite no is written down, and when
// WeChat says that the trade is paid, the money is taken in.
func (s *Service) prepayFailed(ctx context.Context, a Attempt, r PrepayRequest, failure error) error {
	if payment.KindOf(failure) != payment.KindRejected {
		return failure // it may have been opened: the same parameters are sent again next time
	}
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	o, err := s.Sync(ctx, a.OrderNo, r.Cause)
	if err == nil && o.Payment != nil {
		return &RefusedError{Order: o, Event: EventPay, Why: "the order is paid already"}
	}
	a.State = AttemptRefused
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return setAttempt(ctx, tx, a) })
	if err != nil {
		s.log.Warn("refused prepay not stored", "out_trade_no", a.OutTradeNo, "err", err)
	}
	return failure
}

// closeAttempt makes an earlier attempt unpayable, proven, so that another may
// be opened.
func (s *Service) closeAttempt(ctx context.Context, a Attempt) error {
	result := s.askClose(ctx, a.OutTradeNo, &a)
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	switch result.proven {
	case closeClosed:
		a.State = AttemptClosed
		return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if err := setAttempt(ctx, tx, a); err != nil && !errors.Is(err, ErrNotFound) { // closed by a neighbour
				return err
			}
			return nil
		})
	case closePaid:
		_, err := s.Settle(ctx, result.trade,
			Cause{Actor: Actor{Type: ActorWeChat}, Type: "query", ID: result.trade.RequestID})
		if err != nil {
			return err
		}
		o, err := s.Find(ctx, a.OrderNo)
		if err != nil {
			return err
		}
		return &RefusedError{Order: o, Event: EventPay, Why: "the order is paid already"}
	case closeUnknown:
	}
	return &payment.GatewayError{Op: "close", Kind: payment.KindUnknown,
		Err: errors.New("the earlier payment of this order could not be closed yet")}
}

// validUntil is how long an answer may be handed out again. After it the same
// parameters are sent once more, under the same number.
func validUntil(a Attempt) time.Time {
	if a.TradeType == payment.H5 {
		return a.AnsweredAt.Add(h5Valid)
	}
	return a.AnsweredAt.Add(prepayValid)
}

// prepayment is what the client gets of an attempt.
func prepayment(a Attempt) Prepayment {
	expire, _ := time.Parse(time.RFC3339, a.TimeExpire) // we wrote it
	return Prepayment{OrderNo: a.OrderNo, OutTradeNo: a.OutTradeNo, TradeType: a.TradeType,
		TimeExpire: expire.UTC(), Prepaid: a.Answer}
}
