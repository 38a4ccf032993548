package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// All statements of this package on the table payments, the journal of money
// that WeChat Pay says it holds.

// paymentRow is a payment to be recorded.
type paymentRow struct {
	payment.Trade
	orderNo string // "" when it fits no order
	at      time.Time
	source  string // notification, query, bill …
	settled Settled
	reason  string
	refund  payment.Fen // of it that is owed back from the start
}

// refundTold is when WeChat Pay said that some of a payment went back that was not even
// known here: how much, and under which number, it does not say of a trade.
func (p *paymentRow) refundTold() time.Time {
	if p.State == payment.TradeRefund {
		return p.at
	}
	return time.Time{}
}

// payerOf is what the buyer paid, by its two columns. The programs before payer_said wrote 0
// where WeChat Pay had not said it: of their rows 0 is not known.
func payerOf(fen, said int64) payment.MaybeFen {
	if said == 0 && fen == 0 {
		return payment.MaybeFen{}
	}
	return payment.Said(payment.Fen(fen))
}

// paidAt is when a payment was made, at the latest: the programs before migration 8 wrote 0
// where WeChat Pay had not said it.
func paidAt(paid, received int64) time.Time {
	if paid == 0 {
		paid = received
	}
	return sqldb.FromMillis(paid)
}

// findRecorded finds which transactions are in the journal already.
func findRecorded(ctx context.Context, tx *sqldb.Tx, transactions []string) (map[string]recorded, error) {
	found := make(map[string]recorded, len(transactions))
	if len(transactions) == 0 {
		return found, nil
	}
	err := sqldb.Each(ctx, tx, `SELECT transaction_id, order_no, outcome, reason, received_at
FROM payments
WHERE transaction_id IN (`+sqldb.In(len(transactions))+`)`, sqldb.Args(transactions), func(rows *sql.Rows) error {
		var id string
		var r recorded
		var at int64
		err := rows.Scan(&id, &r.orderNo, &r.settled, &r.reason, &at)
		r.at = sqldb.FromMillis(at)
		found[id] = r
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find recorded payments: %w", err)
	}
	return found, nil
}

// insertPayments records payments. The transaction id is the primary key: a payment
// that two callbacks bring at once is recorded by one of them.
func insertPayments(ctx context.Context, tx *sqldb.Tx, payments []paymentRow) error {
	sort.Slice(payments, func(i, j int) bool { return payments[i].TransactionID < payments[j].TransactionID })
	const cols = 17
	args := make([]any, 0, cols*len(payments))
	for i := range payments {
		p := &payments[i]
		payer, said := p.PayerTotal.Fen()
		args = append(args, p.TransactionID, p.orderNo, p.OutTradeNo, int64(p.Total), int64(payer), flag(said),
			bounds.Currency.Cut(p.Currency), bounds.PaidBy.Cut(p.TradeType), bounds.AppID.Cut(p.AppID),
			bounds.MchID.Cut(p.MchID),
			sqldb.Millis(p.SuccessTime), sqldb.Millis(p.at),
			bounds.PaidFrom.Cut(p.source), string(p.settled), p.reason, int64(p.refund),
			sqldb.Millis(p.refundTold()))
	}
	err := tx.InsertRows(ctx, `INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, payer_said, currency, trade_type, appid, mchid,
   paid_at, received_at, source, outcome, reason, refund_fen, refund_told)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert payments: %w", err)
	}
	return nil
}

// findPayment gives the payment that made an order paid, else the oldest one that came
// too late or twice and is owed back, nil without. Money that could not be the order's
// is none of its payments, also on its way back.
func findPayment(ctx context.Context, q querier, orderNo string) (*Payment, error) {
	var p Payment
	var payer, said, paid, received, told int64
	err := q.QueryRowContext(ctx, `SELECT transaction_id, out_trade_no, trade_type, amount_fen, payer_fen, payer_said,
  currency, paid_at, received_at, outcome, reason, refund_told
FROM payments
WHERE order_no = ?
  AND (outcome = 'applied' OR reason IN ('late', 'duplicate'))
ORDER BY CASE outcome WHEN 'applied' THEN 0 ELSE 1 END, received_at, transaction_id
LIMIT 1`, orderNo).Scan(&p.TransactionID, &p.OutTradeNo, &p.TradeType, &p.Total, &payer, &said, &p.Currency,
		&paid, &received, &p.Outcome, &p.Reason, &told)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	p.PayerTotal = payerOf(payer, said)
	p.SuccessTime, p.ReceivedAt = paidAt(paid, received), sqldb.FromMillis(received)
	p.RefundTold = sqldb.FromMillis(told)
	return &p, err
}

// paidEntry is a payment that refunds are of.
type paidEntry struct {
	transactionID, orderNo, outTradeNo string
	amount                             payment.Fen
	taken                              payment.Fen // refund_fen: what its refunds take, as read
	adds                               payment.Fen // what this batch adds to it
	paidAt                             time.Time   // at the latest, where an earlier program did not know it
	outcome                            Settled
	was                                Settled   // outcome as it was read
	owe                                bool      // this batch takes it from held to owed, or back
	told                               time.Time // Payment.RefundTold
	tell                               bool      // this batch sets it
	judged                             bool      // this batch has judged it again, and by its reason
	reason                             string
}

// left is what no refund has taken yet.
func (p *paidEntry) left() payment.Fen { return p.amount - p.taken - p.adds }

// findPaid reads the payments of orders and those of the transaction ids.
func findPaid(ctx context.Context, tx *sqldb.Tx, orders, transactions map[string]bool) (map[string]*paidEntry, error) {
	found := map[string]*paidEntry{}
	lock := ""
	if tx.NoWait() { // writeTaken would wait
		lock = "\nFOR UPDATE"
	}
	for _, by := range []struct {
		column, index string
		keys          []string
	}{
		{"order_no", "ix_payments_order", sorted(orders)},
		{"transaction_id", "PRIMARY", sorted(transactions)},
	} {
		if len(by.keys) == 0 {
			continue
		}
		err := sqldb.Each(ctx, tx, `SELECT transaction_id, order_no, out_trade_no,
  amount_fen, refund_fen, CASE WHEN paid_at > 0 THEN paid_at ELSE received_at END, outcome, refund_told
FROM payments /*! FORCE INDEX (`+by.index+`) */
WHERE `+by.column+` IN (`+sqldb.In(len(by.keys))+`)`+lock, sqldb.Args(by.keys), func(rows *sql.Rows) error {
			p := new(paidEntry)
			var paid, told int64
			err := rows.Scan(&p.transactionID, &p.orderNo, &p.outTradeNo, &p.amount, &p.taken, &paid, &p.outcome, &told)
			p.was = p.outcome
			p.paidAt, p.told = sqldb.FromMillis(paid), sqldb.FromMillis(told)
			if found[p.transactionID] == nil {
				found[p.transactionID] = p
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find the payments of refunds: %w", err)
		}
	}
	return found, nil
}

// writeTaken raises what refunds take of their payments. The bound is in the
// statement: whatever was read, refunds never exceed their payment.
func (b *batch) writeTaken(ctx context.Context, tx *sqldb.Tx) error {
	for _, id := range slices.Sorted(maps.Keys(b.refunds.payments)) {
		p := b.refunds.payments[id]
		if p.tell {
			if _, err := tx.Update(ctx, `UPDATE payments
SET refund_told = ?
WHERE transaction_id = ?
  AND refund_told = 0`, sqldb.Millis(p.told), id); err != nil {
				return fmt.Errorf("write that %s was refunded elsewhere: %w", id, err)
			}
		}
		if p.adds == 0 && !p.owe && !p.judged {
			continue
		}
		query, args := "UPDATE payments\nSET refund_fen = refund_fen + ?, outcome = ?",
			[]any{int64(p.adds), string(p.outcome)}
		if p.judged {
			query, args = query+", order_no = ?, reason = ?", append(args, p.orderNo, p.reason)
		}
		query += `
WHERE transaction_id = ?
  AND refund_fen = ?
  AND refund_fen + ? BETWEEN 0 AND amount_fen`
		args = append(args, id, int64(p.taken), int64(p.adds))
		if p.judged || p.owe { // one without an order is under no lock
			query, args = query+"\n  AND outcome = ?", append(args, string(p.was))
		}
		n, err := tx.Update(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("write what is refunded of %s: %w", id, err)
		}
		if n != 1 {
			return sqldb.ErrLostRace
		}
	}
	return nil
}

// orderOfPayment gives the order of a payment, "" when it has none or is not
// recorded. It is written once and never changes.
func orderOfPayment(ctx context.Context, tx *sqldb.Tx, transactionID string) (no string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT order_no
FROM payments
WHERE transaction_id = ?`, transactionID).Scan(&no)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return no, err
}

// findHeld gives a recorded payment that is held, as WeChat Pay told it: ErrNotFound
// without. What it was told is written once and never changes.
func findHeld(ctx context.Context, q querier, transactionID string) (t payment.Trade, err error) {
	var payer, said, paid int64
	t.TransactionID, t.State = transactionID, payment.TradeSuccess
	err = q.QueryRowContext(ctx, `SELECT out_trade_no, amount_fen, payer_fen, payer_said, currency, trade_type, appid,
  mchid, paid_at
FROM payments
WHERE transaction_id = ?`, transactionID).Scan(&t.OutTradeNo, &t.Total, &payer, &said, &t.Currency, &t.TradeType,
		&t.AppID, &t.MchID, &paid)
	t.PayerTotal, t.SuccessTime = payerOf(payer, said), sqldb.FromMillis(paid)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return t, err
}

// hasHeld reports that a payment of an order is held, or was and is on its way back or
// there; with outTradeNo, one that came by this attempt.
func hasHeld(ctx context.Context, q querier, orderNo, outTradeNo string) (held bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) > 0
FROM payments
WHERE order_no = ?
  AND outcome <> 'applied'
  AND reason NOT IN ('late', 'duplicate')
  AND (? = '' OR out_trade_no = ?)`, orderNo, outTradeNo, outTradeNo).Scan(&held)
	return held, err
}

// heldColumns are the columns of a payment that listHeld reads, in its order.
const heldColumns = `transaction_id, order_no, out_trade_no, trade_type, amount_fen, payer_fen, payer_said, currency,
  appid, mchid, paid_at, received_at, outcome, reason`

// heldQuery reads a page of the held payments after a number. Few are held: all of them are
// read by the index, and no other payment.
const heldQuery = `SELECT ` + heldColumns + `
FROM payments /*! FORCE INDEX (ix_payments_outcome) */
WHERE outcome = 'held'
  AND transaction_id > ?
ORDER BY transaction_id
LIMIT ?`

// paymentQuery reads one payment as heldQuery reads those that are held.
const paymentQuery = `SELECT ` + heldColumns + `
FROM payments
WHERE transaction_id = ?`

// listHeld gives up to limit held payments by their numbers, those after cursor.
func listHeld(ctx context.Context, q querier, cursor string, limit int) ([]HeldPayment, error) {
	return readHeld(ctx, q, heldQuery, cursor, limit)
}

// readHeld gives the payments of a query of heldColumns, with what was said of them.
func readHeld(ctx context.Context, q querier, query string, args ...any) ([]HeldPayment, error) {
	var all []HeldPayment
	var ids []string
	err := sqldb.Each(ctx, q, query, args, func(rows *sql.Rows) error {
		var h HeldPayment
		var payer, said, paid, received int64
		err := rows.Scan(&h.TransactionID, &h.OrderNo, &h.OutTradeNo, &h.TradeType, &h.Total, &payer, &said,
			&h.Currency, &h.AppID, &h.MchID, &paid, &received, &h.Outcome, &h.Reason)
		h.PayerTotal = payerOf(payer, said)
		h.SuccessTime, h.ReceivedAt = paidAt(paid, received), sqldb.FromMillis(received)
		all, ids = append(all, h), append(ids, h.TransactionID)
		return err
	})
	if err != nil {
		return nil, err
	}
	said, err := findWriteOffs(ctx, q, ids)
	for i := range all {
		all[i].WriteOff = said[all[i].TransactionID]
	}
	return all, err
}

// countHeld counts the payments that are held.
func countHeld(ctx context.Context, q querier) (b HeldBacklog, err error) {
	var oldest int64
	err = q.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(amount_fen), 0), COALESCE(MIN(received_at), 0)
FROM payments
WHERE outcome = 'held'`).Scan(&b.Count, &b.Amount, &oldest)
	b.Oldest = sqldb.FromMillis(oldest)
	return b, err
}

// receivedQuery reads the payments that came last of those that one thing became of.
const receivedQuery = `SELECT transaction_id, order_no, amount_fen, paid_at, received_at, source, outcome
FROM payments /*! FORCE INDEX (ix_payments_outcome) */
WHERE outcome = ?
ORDER BY received_at DESC
LIMIT ?`

// listReceived gives up to limit of the payments that were received last of an outcome, newest first.
func listReceived(ctx context.Context, q querier, outcome Settled, limit int) (all []Received, err error) {
	err = sqldb.Each(ctx, q, receivedQuery, []any{string(outcome), limit}, func(rows *sql.Rows) error {
		var r Received
		var paid, received int64
		err := rows.Scan(&r.TransactionID, &r.OrderNo, &r.Amount, &paid, &received, &r.Source, &r.Outcome)
		r.PaidAt, r.ReceivedAt = sqldb.FromMillis(paid), sqldb.FromMillis(received)
		if paid <= 0 {
			r.PaidAt = time.Time{}
		}
		all = append(all, r)
		return err
	})
	return all, err
}

// sumPaid sums what was paid in a time, by what became of it.
func sumPaid(ctx context.Context, q querier, from, to time.Time) (m DayMoney, err error) {
	err = sqldb.Each(ctx, q, `SELECT outcome, COUNT(*), SUM(amount_fen)
FROM payments
WHERE paid_at >= ?
  AND paid_at < ?
GROUP BY outcome`, []any{sqldb.Millis(from), sqldb.Millis(to)}, func(rows *sql.Rows) error {
		var outcome Settled
		var count int64
		var sum payment.Fen
		if err := rows.Scan(&outcome, &count, &sum); err != nil {
			return err
		}
		if outcome == SettledApplied {
			m.Paid, m.Amount = count, sum
			return nil
		}
		m.Other += count
		m.OtherAmount += sum
		return nil
	})
	return m, err
}

// reasonOfPayment gives why a recorded payment was not applied.
func reasonOfPayment(ctx context.Context, q querier, transactionID string) (reason string, err error) {
	err = q.QueryRowContext(ctx, `SELECT reason
FROM payments
WHERE transaction_id = ?`, transactionID).Scan(&reason)
	if err != nil {
		return "", fmt.Errorf("why %s is owed back: %w", transactionID, err)
	}
	return reason, nil
}
