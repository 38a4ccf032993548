package order

import (
	"context"
	"errors"
	"fmt"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// HeldAction is what a person decides about a payment that is held.
type HeldAction string

// The actions.
const (
	// HeldApply judges it again, after WeChat Pay has said that it still has it: JudgeHeld.
	HeldApply HeldAction = "APPLY"
	// HeldRefund sends it back: RefundHeld.
	HeldRefund HeldAction = "REFUND"
)

// HeldActions lists them.
func HeldActions() []HeldAction { return []HeldAction{HeldApply, HeldRefund} }

// ResolveHeld asks for something to be done about a payment that is held.
type ResolveHeld struct {
	TransactionID string
	Action        HeldAction
	Reason        string // for the timeline
	Cause         Cause  // a person's
}

// HeldOutcome is what became of a payment that was held.
type HeldOutcome string

// The outcomes.
const (
	HeldApplied HeldOutcome = "applied" // it makes its order paid
	HeldOwed    HeldOutcome = "owed"    // it goes back
	HeldWaits   HeldOutcome = "waits"   // a second person has to do the same
)

// ResolvedHeld is the answer of ResolveHeld.
type ResolvedHeld struct {
	TransactionID string
	OrderNo       string // "" when it names no order of ours
	Outcome       HeldOutcome
	Reason        string // of HeldOwed: why it was not applied, as Settlement has it
}

// ResolveHeld does what a person decided about a payment that is held. No money moves out but by
// a refund, which the limits of refunds bind. HeldRefund again finds what it did and changes
// nothing; HeldApply again is a *JudgedError, since the payment is not held any more: whoever
// lost the answer reads the order.
//
// Errors: *ValidationError, ErrNotFound (no such payment is recorded), those of JudgeHeld and of
// RefundHeld but ErrRefundWaits, those of WeChat Pay for HeldApply, database errors.
func (s *Service) ResolveHeld(ctx context.Context, r ResolveHeld) (ResolvedHeld, error) {
	if err := checkReason(r.Reason); err != nil {
		return ResolvedHeld{}, err
	}
	var trade payment.Trade
	done := ResolvedHeld{TransactionID: r.TransactionID}
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if trade, err = findHeld(ctx, tx, r.TransactionID); err == nil {
			done.OrderNo, err = orderOfPayment(ctx, tx, r.TransactionID)
		}
		return err
	})
	if err != nil {
		return ResolvedHeld{}, sqldb.Wrap("find the held payment", err)
	}
	switch r.Action {
	case HeldApply:
		return s.applyHeld(ctx, r, trade)
	case HeldRefund:
		done.Outcome = HeldOwed
		if err := s.refundHeld(ctx, r.TransactionID, r.Reason, r.Cause); errors.Is(err, ErrRefundWaits) {
			done.Outcome = HeldWaits
		} else if err != nil {
			return ResolvedHeld{}, err
		}
		return done, nil
	}
	return ResolvedHeld{}, &ValidationError{Fields: []FieldError{{"#/action", "ENUM", fmt.Sprintf(
		"want one of %s, %s", HeldApply, HeldRefund)}}}
}

// applyHeld asks WeChat Pay about a payment that is held, and judges it again when WeChat Pay
// has it as it was told. Money that WeChat Pay calls refunded is applied no more: that is noted on
// the payment, as for a query of its order.
func (s *Service) applyHeld(ctx context.Context, r ResolveHeld, held payment.Trade) (ResolvedHeld, error) {
	told, err := s.cfg.Gateway.Query(ctx, held.OutTradeNo)
	if err != nil {
		return ResolvedHeld{}, err
	}
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	if told.State == payment.TradeRefund && told.TransactionID == r.TransactionID {
		noted := Cause{Actor: r.Cause.Actor, Type: "query", ID: r.Cause.ID}
		if _, err := s.Settle(ctx, told, noted); err != nil {
			return ResolvedHeld{}, err
		}
		return ResolvedHeld{}, &JudgedError{Reason: "wechat", Why: "some or all of this money has gone back to its " +
			"buyer at WeChat Pay: it is not applied; see on the merchant platform how much went back"}
	}
	if told.State != payment.TradeSuccess || told.TransactionID != r.TransactionID || told.Total != held.Total {
		return ResolvedHeld{}, &JudgedError{Reason: "wechat", Why: fmt.Sprintf("WeChat Pay says of %s: %s %s, %s "+
			"yuan; only what it has as it was told is applied", held.OutTradeNo, told.State, told.TransactionID,
			told.Total)}
	}
	settled, err := s.JudgeHeld(ctx, r.TransactionID, r.Reason, r.Cause)
	if err != nil {
		return ResolvedHeld{}, err
	}
	done := ResolvedHeld{TransactionID: r.TransactionID, OrderNo: settled.OrderNo, Outcome: HeldApplied,
		Reason: settled.Reason}
	if settled.Settled != SettledApplied {
		done.Outcome = HeldOwed
	}
	return done, nil
}
