package order

import (
	"context"
	"errors"
	"fmt"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// validTransactionID: a transaction id of WeChat Pay has up to 32
// characters by its documents, 28 digits so far. It becomes part of the number of
// a refund and must stay within that one's alphabet.
func validTransactionID(id string) bool {
	return bounds.WeChatNo.Fits(id)
}

// Settle takes in what WeChat says it holds, whatever it came by: a notification,
// a query, a bill. It is the one way for money to get in, idempotent by
// transaction id, and when it returns nil the payment is committed: on its
// order, or owed back, or held for a person because it fits no order of ours.
// The caller may acknowledge in every one of these cases.
func (s *Service) Settle(ctx context.Context, trade payment.Trade, cause Cause) (Settlement, error) {
	if !trade.Paid() {
		return Settlement{}, fmt.Errorf("settle %s: %w (%s)", trade.OutTradeNo, ErrNotPaid, trade.State)
	}
	if !validTransactionID(trade.TransactionID) || trade.Total <= 0 || len(trade.OutTradeNo) > bounds.OutTradeNo.Most {
		return Settlement{}, fmt.Errorf("settle: %w: transaction id, total or out_trade_no out of bounds",
			payment.ErrMalformed)
	}
	if cause.Type == "notification" {
		s.customerHere()
	}
	done, err := s.apply(ctx, newSettle(trade, cause))
	if err == nil && trade.State == payment.TradeRefund && done.settlement.Settled == SettledRepeated {
		// A new one was recorded with it. One without an order is held: its order may be found yet.
		_, err = s.apply(ctx, &tellRefunded{transactionID: trade.TransactionID,
			header: header{orderNo: done.settlement.OrderNo, cause: cause,
				detail: map[string]string{"transaction_id": trade.TransactionID}}})
	}
	if err != nil {
		return Settlement{}, fmt.Errorf("settle %s: %w", trade.OutTradeNo, err)
	}
	s.observe.Settled(cause.Type, done.settlement)
	if done.refund != nil {
		s.wakeRefund(done.refund.row)
	}
	return done.settlement, nil
}

// JudgeHeld judges a payment that is held once more, after what did not fit was mended:
// the app id or the merchant number of the configuration, or an order that was lost and
// is there again. One that fits goes the way of every payment: it makes its order paid,
// or goes back because the order has ended.
//
// Errors: *ValidationError (no reason), operators.ErrNoLonger, ErrNotFound, *JudgedError (it
// is not held, has gone back, still does not fit, or would go back and takes two people to),
// database errors.
func (s *Service) JudgeHeld(ctx context.Context, transactionID, why string, cause Cause) (Settlement, error) {
	if err := checkReason(why); err != nil {
		return Settlement{}, err
	}
	var trade payment.Trade
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		trade, err = findHeld(ctx, tx, transactionID)
		return err
	})
	if err != nil {
		return Settlement{}, sqldb.Wrap("find the held payment", err)
	}
	c := newSettle(trade, cause)
	c.again, c.detail["reason"] = true, why
	done, err := s.apply(ctx, c)
	if err != nil {
		return Settlement{}, err
	}
	s.observe.Settled("judged", done.settlement)
	if done.refund != nil {
		s.wakeRefund(done.refund.row)
	}
	return done.settlement, nil
}

// HeldPayment is a payment that fits no order of ours and waits for a person.
type HeldPayment struct {
	Payment
	OrderNo string // of the order that its number names, "" when there is none
	AppID   string
	MchID   string
	// WriteOff is what was said of writing it off. Of one that is held it may be the word of
	// somebody who may no longer, or about another sum: then it counts no more.
	WriteOff WriteOff
}

// ListHeld gives held payments by their numbers, and the cursor of the next page, ""
// at the end; cursor is "" for the first page.
func (s *Service) ListHeld(ctx context.Context, cursor string, limit int) ([]HeldPayment, string, error) {
	return s.pageOfHeld(ctx, listHeld, cursor, limit)
}

// ListWrittenOff gives the payments that were held and that two people have written off, as
// ListHeld gives those that are held.
func (s *Service) ListWrittenOff(ctx context.Context, cursor string, limit int) ([]HeldPayment, string, error) {
	return s.pageOfHeld(ctx, listWrittenOff, cursor, limit)
}

// FindHeld gives a payment that is held, or was, as ListHeld gives those that are. Errors: ErrNotFound for one that
// was never recorded, database errors.
func (s *Service) FindHeld(ctx context.Context, transactionID string) (h HeldPayment, err error) {
	err = s.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all, err := readHeld(ctx, tx, paymentQuery, transactionID)
		if err == nil && len(all) == 0 {
			err = ErrNotFound
		}
		if err == nil {
			h = all[0]
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return HeldPayment{}, err
	}
	return h, sqldb.Wrap("find a held payment", err)
}

// pageOfHeld gives a page of one of the two.
func (s *Service) pageOfHeld(ctx context.Context,
	list func(ctx context.Context, q querier, cursor string, limit int) ([]HeldPayment, error),
	cursor string, limit int) (all []HeldPayment, next string, err error) {
	limit = pageSize(limit)
	if err := bounds.WeChatNo.Cursor(cursor); err != nil {
		return nil, "", err
	}
	err = s.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = list(ctx, tx, cursor, limit+1)
		return err
	})
	if err != nil {
		return nil, "", sqldb.Wrap("list held payments", err)
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], all[limit-1].TransactionID, nil
}

// Sync asks WeChat now what it knows of an order and takes in a payment that it
// holds. An order that was never prepaid is not asked about. It never closes
// anything. Errors: ErrNotFound, *payment.GatewayError, database errors.
func (s *Service) Sync(ctx context.Context, orderNo string, cause Cause) (Order, error) {
	o, err := s.findNow(ctx, orderNo, "")
	if err != nil {
		return Order{}, err
	}
	for i := len(o.Attempts) - 1; i >= 0; i-- {
		trade, err := s.cfg.Gateway.Query(ctx, o.Attempts[i].OutTradeNo)
		if err != nil {
			return o, err
		}
		if !trade.Paid() {
			continue
		}
		ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
		defer cancel()
		if _, err := s.Settle(ctx, trade, Cause{Actor: cause.Actor, Type: "query", ID: cause.ID}); err != nil {
			return o, err
		}
		return s.findNow(ctx, orderNo, "")
	}
	return o, nil
}
