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
	// HeldWriteOff keeps it as nobody's, by the word of two people.
	HeldWriteOff HeldAction = "WRITE_OFF"
)

// HeldActions lists them.
func HeldActions() []HeldAction { return []HeldAction{HeldApply, HeldRefund, HeldWriteOff} }

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
	HeldApplied    HeldOutcome = "applied"     // it makes its order paid
	HeldOwed       HeldOutcome = "owed"        // it goes back
	HeldWaits      HeldOutcome = "waits"       // a second person has to do the same
	HeldWrittenOff HeldOutcome = "written_off" // it stays, and is nobody's
)

// ResolvedHeld is the answer of ResolveHeld.
type ResolvedHeld struct {
	TransactionID string
	OrderNo       string // "" when it names no order of ours
	Outcome       HeldOutcome
	Reason        string // of HeldOwed: why it was not applied, as Settlement has it
}

// ResolveHeld does what a person decided about a payment that is held. No money moves out but by
// a refund, which the limits of refunds bind; a write-off takes two people. Of several decisions at
// once one is done. A repeat, which is the same action by the same person for the same reason, is
// told what it came to and changes nothing, also when the payment is not held any more; of what takes
// two people the first is told how it stands now. Whatever else comes then is refused.
//
// Errors: *ValidationError, ErrNotFound (no such payment is recorded), those of JudgeHeld and of
// RefundHeld but ErrRefundWaits, *HeldError, those of WeChat Pay for HeldApply, database errors.
func (s *Service) ResolveHeld(ctx context.Context, r ResolveHeld) (ResolvedHeld, error) {
	if err := checkReason(r.Reason); err != nil {
		return ResolvedHeld{}, err
	}
	var trade payment.Trade
	var before ResolvedHeld
	repeated := false
	done := ResolvedHeld{TransactionID: r.TransactionID}
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if trade, err = findHeld(ctx, tx, r.TransactionID); err == nil {
			done.OrderNo, err = orderOfPayment(ctx, tx, r.TransactionID)
		}
		if err == nil && r.Action == HeldApply {
			before, repeated, err = judgedBefore(ctx, tx, &r)
		}
		return err
	})
	if err != nil {
		return ResolvedHeld{}, sqldb.Wrap("find the held payment", err)
	}
	waits := false
	switch r.Action {
	case HeldApply:
		if repeated {
			return before, nil
		}
		return s.applyHeld(ctx, r, trade)
	case HeldRefund:
		done.Outcome, err = HeldOwed, s.refundHeld(ctx, r.TransactionID, r.Reason, r.Cause)
		if waits = errors.Is(err, ErrRefundWaits); waits {
			err = nil
		}
	case HeldWriteOff:
		done.Outcome = HeldWrittenOff
		waits, err = s.writeOffHeld(ctx, r)
	default:
		err = &ValidationError{Fields: []FieldError{{"#/action", "ENUM", fmt.Sprintf(
			"want one of %s, %s, %s", HeldApply, HeldRefund, HeldWriteOff)}}}
	}
	if err != nil {
		return ResolvedHeld{}, err
	}
	if waits {
		done.Outcome = HeldWaits
	}
	return done, nil
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
	if errors.As(err, new(*JudgedError)) { // the same request was faster, and is this one
		var before ResolvedHeld
		repeated := false
		readErr := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			before, repeated, err = judgedBefore(ctx, tx, &r)
			return err
		})
		if repeated || readErr != nil {
			return before, sqldb.Wrap("find who had a payment judged", readErr)
		}
	}
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
