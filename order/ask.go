package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// A payment whose notification is lost was known at the deadline only, when the order
// was to be closed. So WeChat Pay is asked about every open trade, soon after its
// prepay and then more rarely (Config.AskEvery). When is a column of the attempt; it
// is moved before the call, so that no two processes ask at once, and taken away by
// whoever finds that the order is pending no more. What was learned is settled as a
// notification is; an ask that learned nothing leaves no trace but its time.

// Ask is an open trade that WeChat Pay is to be asked about.
type Ask struct {
	OutTradeNo, OrderNo string
	At                  time.Time // when it came due
	Asks                int64     // how often it was asked about
	Waits               bool      // its order is pending: the others are only taken off the list
	callNo              int64     // the newest prepay call of it
}

// AskOutcome is what an ask came to: the label of a metric.
type AskOutcome string

// The outcomes.
const (
	AskPaid        AskOutcome = "paid"         // the money was there, and is taken in
	AskKnown       AskOutcome = "known"        // the money is here: it is held, or its notification was quicker
	AskOpen        AskOutcome = "open"         // not paid yet
	AskClosed      AskOutcome = "closed"       // nobody can pay it any more: the next prepay gets another number
	AskNotFound    AskOutcome = "not_found"    // WeChat Pay does not know it: the close alarms
	AskRateLimited AskOutcome = "rate_limited" // too many calls
	AskUnknown     AskOutcome = "unknown"      // no usable answer
	AskError       AskOutcome = "error"        // the answer could not be stored
)

// AskOutcomes lists them.
func AskOutcomes() []AskOutcome {
	return []AskOutcome{AskPaid, AskKnown, AskOpen, AskClosed, AskNotFound, AskRateLimited, AskUnknown, AskError}
}

// DueAsks gives up to limit asks that are due now, the oldest first, without those whose
// row somebody was just found to hold.
func (s *Service) DueAsks(ctx context.Context, limit int) (asks []Ask, err error) {
	s.adoptPrepaid(ctx)
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		asks, err = findDueAsks(ctx, tx, s.cfg.Now(), limit)
		return err
	})
	asks = slices.DeleteFunc(asks, func(a Ask) bool {
		return s.asksLocked.Any(a.OutTradeNo) && !s.asksLocked.Due(a.OutTradeNo)
	})
	return asks, sqldb.Wrap("find due asks", err)
}

// ClaimAsks takes the turn of the asks whose order waits for money, and the others off
// the list. It gives those whose turn this process has now; the next turn of each is
// committed with it. Those whose row somebody else holds are left for later, so that the
// others do not wait for them. Errors are the database's: the turn of none was got.
func (s *Service) ClaimAsks(ctx context.Context, asks []Ask) ([]Ask, error) {
	var claimed []Ask
	var failed error
	try := func(asks []Ask, noWait bool) {
		err := sqldb.Apart(asks, noWait, mostLocked, func(asks []Ask, noWait bool) error {
			got, err := s.claimTogether(ctx, asks, noWait)
			claimed = append(claimed, got...)
			if err == nil && noWait && len(asks) == 1 {
				s.asksLocked.Free(asks[0].OutTradeNo)
			}
			return err
		}, s.asksHeld)
		if failed == nil {
			failed = err
		}
	}
	rest := make([]Ask, 0, len(asks))
	for i, a := range asks {
		switch {
		case !s.asksLocked.Any(a.OutTradeNo):
			rest = append(rest, a)
		case s.asksLocked.Due(a.OutTradeNo):
			try(asks[i:i+1], true)
		}
	}
	try(rest, false)
	if failed != nil && len(claimed) == 0 {
		return nil, fmt.Errorf("claim %d asks: %w", len(asks), failed)
	}
	if failed != nil { // what was claimed is asked; the rest is still due
		s.log.Warn("asks not claimed", "err", failed)
	}
	return claimed, nil
}

// asksHeld notes that somebody holds the row of an ask. Of more than one, which were not
// sought, the error is that of the page.
func (s *Service) asksHeld(asks []Ask, err error) error {
	if len(asks) > 1 {
		return err
	}
	if s.asksLocked.Found(asks[0].OutTradeNo) {
		s.log.Warn("the row of this trade is locked by another session of the database; it is asked about later",
			"out_trade_no", asks[0].OutTradeNo, "err", err)
	}
	return nil
}

// claimTogether claims asks in one transaction. With noWait it waits for no lock.
func (s *Service) claimTogether(ctx context.Context, asks []Ask, noWait bool) (claimed []Ask, err error) {
	var gone []string
	for i := range asks {
		if !asks[i].Waits {
			gone = append(gone, asks[i].OutTradeNo)
		}
	}
	err = s.db.InTxOfMany(ctx, noWait, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		claimed, err = lockAsks(ctx, tx, asks)
		if err != nil {
			return err
		}
		now := s.cfg.Now()
		byNext := map[int64][]string{}
		for i := range claimed {
			a := &claimed[i]
			wait, asks := s.cfg.askAfter(a.Asks + 1)
			if !asks { // another process still has them asked about
				wait = defaultAskEvery
			}
			next := sqldb.Millis(now.Add(wait))
			byNext[next] = append(byNext[next], a.OutTradeNo)
		}
		return moveAsks(ctx, tx, byNext, gone)
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// AskPaid asks WeChat Pay about claimed trades and takes in what is paid. It gives an
// outcome for each, in their order.
func (s *Service) AskPaid(ctx context.Context, asks []Ask, cause Cause) []AskOutcome {
	outcomes := make([]AskOutcome, len(asks))
	forEach(len(asks), func(i int) { outcomes[i] = s.askOne(ctx, &asks[i], cause) })
	return outcomes
}

// askOne asks about one trade.
func (s *Service) askOne(ctx context.Context, a *Ask, cause Cause) AskOutcome {
	trade, err := s.cfg.Gateway.Query(ctx, a.OutTradeNo)
	if err != nil {
		if payment.KindOf(err) == payment.KindRateLimited {
			return AskRateLimited
		}
		return AskUnknown
	}
	// The answer is stored whoever stops meanwhile.
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	outcome := AskOpen
	switch trade.State {
	case payment.TradeSuccess, payment.TradeRefund:
		outcome = AskPaid
		var settled Settlement
		settled, err = s.Settle(ctx, trade, Cause{Actor: Actor{Type: ActorWeChat}, Type: "query", ID: trade.RequestID})
		if settled.Settled == SettledRepeated {
			outcome = AskKnown
		}
	case payment.TradeClosed:
		outcome = AskClosed
		_, err = s.apply(ctx, &closeTrade{header: header{orderNo: a.OrderNo, cause: cause,
			detail: map[string]string{"query": string(trade.State), "query_request": trade.RequestID}},
			attempt: Attempt{Attempt: payment.Attempt{OutTradeNo: a.OutTradeNo}, CallNo: a.callNo}})
	case payment.TradeNotFound:
		outcome = AskNotFound
	case payment.TradeNotPay, payment.TradeUserPaying, payment.TradeRevoked, payment.TradePayError:
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.log.Warn("answer of an ask not stored", "out_trade_no", a.OutTradeNo, "err", err)
		return AskError
	}
	return outcome
}
