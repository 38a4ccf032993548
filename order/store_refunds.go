package order

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// All statements of this package on the tables refunds, refund_items and
// refund_approvals.

// refundColumns are the columns that scanRefund reads, in its order.
const refundColumns = `out_refund_no, order_no, transaction_id, out_trade_no, refund_id, amount_fen, total_fen,
  state, reason, note, restock, requester_type, requester_id, request_id, request_hash,
  approvals_needed, decided_by, decided_why, replaces, generation, tries, notify_url, problem,
  created_at, sent_at, asked_at, accepted_at, succeeded_at, due_at, updated_at, version, told,
  said_what, said_by, said_why, said_at, sent_to, shop`

// scanRefund reads refundColumns.
func scanRefund(row interface{ Scan(...any) error }) (Refund, error) {
	var r Refund
	var created, sent, asked, accepted, succeeded, updated, said int64
	var due sql.NullInt64
	var request sql.NullString
	err := row.Scan(&r.OutRefundNo, &r.OrderNo, &r.TransactionID, &r.OutTradeNo, &r.RefundID,
		&r.Amount, &r.PaymentTotal, &r.State, &r.Reason, &r.Note, &r.Restock, &r.Requester.Type,
		&r.Requester.ID, &request, &r.requestHash,
		&r.ApprovalsNeeded, &r.DecidedBy, &r.DecidedWhy, &r.Replaces, &r.Generation, &r.Tries, &r.NotifyURL, &r.Problem,
		&created, &sent, &asked, &accepted, &succeeded, &due, &updated, &r.Version, &r.Told,
		&r.Said.What, &r.Said.By, &r.Said.Why, &said, &r.SentTo, &r.Shop)
	r.requestID = request.String
	r.CreatedAt, r.SentAt, r.AskedAt = sqldb.FromMillis(created), sqldb.FromMillis(sent), sqldb.FromMillis(asked)
	r.AcceptedAt, r.SucceededAt = sqldb.FromMillis(accepted), sqldb.FromMillis(succeeded)
	r.DueAt, r.UpdatedAt = sqldb.FromMillis(due.Int64), sqldb.FromMillis(updated)
	r.Said.At = sqldb.FromMillis(said)
	return r, err
}

// lockRefunds reads and locks the refunds of orders, those of the numbers and those of
// payments, oldest first. Each by its index: a database that reads a small table whole
// waits for every row that somebody holds. After a wait in vain nothing more is read,
// since the next would wait for the same row.
func lockRefunds(ctx context.Context, tx *sqldb.Tx, n *needs) ([]Refund, error) {
	seen := map[string]bool{}
	var all []Refund
	for _, by := range []struct {
		column, index string
		keys          []string
	}{
		{"order_no", "ix_refunds_order", sorted(n.refundsOf)},
		{"out_refund_no", "PRIMARY", sorted(n.refunds)},
		{"transaction_id", "ix_refunds_transaction", sorted(n.refundsOfPayment)},
	} {
		if len(by.keys) == 0 {
			continue
		}
		err := sqldb.Each(ctx, tx, `SELECT `+refundColumns+`
FROM refunds /*! FORCE INDEX (`+by.index+`) */
WHERE `+by.column+` IN (`+sqldb.In(len(by.keys))+`)
ORDER BY out_refund_no
FOR UPDATE`, sqldb.Args(by.keys), func(rows *sql.Rows) error {
			r, err := scanRefund(rows)
			if err == nil && !seen[r.OutRefundNo] {
				seen[r.OutRefundNo] = true
				all = append(all, r)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("lock refunds: %w", err)
		}
	}
	// Package sort: an instance of slices.SortFunc for rows this wide is 20 kB of binary.
	sort.SliceStable(all, func(i, j int) bool {
		a, b := &all[i], &all[j]
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.OutRefundNo, b.OutRefundNo)) < 0
	})
	return all, fillRefunds(ctx, tx, all)
}

// findStray reads the refunds of payments that have no order, and those that WeChat Pay
// told of before it told of their payment.
func findStray(ctx context.Context, tx *sqldb.Tx, transactions []string) ([]Refund, error) {
	if len(transactions) == 0 {
		return nil, nil
	}
	stray, err := queryRefunds(ctx, tx, `WHERE transaction_id IN (`+sqldb.In(len(transactions))+`)
  AND order_no = ''
ORDER BY out_refund_no`, sqldb.Args(transactions)...)
	if err != nil {
		return nil, fmt.Errorf("find refunds made elsewhere: %w", err)
	}
	return stray, nil
}

// fillElsewhere adds to refunds what of their payments went back elsewhere, by the rule of
// Refund.countsElsewhere.
func fillElsewhere(ctx context.Context, q querier, all []Refund) error {
	of := map[string]bool{}
	for i := range all {
		of[all[i].TransactionID] = true
	}
	back := map[string]payment.Fen{}
	err := sqldb.Each(ctx, q, `SELECT transaction_id, SUM(amount_fen)
FROM refunds
WHERE transaction_id IN (`+sqldb.In(len(of))+`)
  AND state IN ('held', 'rejected', 'cancelled', 'closed')
  AND (told <> '' OR state = 'held')
  AND told NOT IN ('`+string(payment.RefundClosed)+`', '`+string(payment.RefundNotFound)+`')
GROUP BY transaction_id`, sqldb.Args(sorted(of)), func(rows *sql.Rows) error {
		var id string
		var fen payment.Fen
		err := rows.Scan(&id, &fen)
		back[id] = fen
		return err
	})
	if err != nil {
		return fmt.Errorf("find what went back elsewhere: %w", err)
	}
	for i := range all {
		all[i].Elsewhere = back[all[i].TransactionID]
	}
	return nil
}

// fillRefunds adds lines and approvals.
func fillRefunds(ctx context.Context, q querier, all []Refund) error {
	if len(all) == 0 {
		return nil
	}
	at := make(map[string]*Refund, len(all))
	nos := make([]string, len(all))
	for i := range all {
		nos[i], at[all[i].OutRefundNo] = all[i].OutRefundNo, &all[i]
	}
	if err := fillElsewhere(ctx, q, all); err != nil {
		return err
	}
	err := sqldb.Each(ctx, q, `SELECT out_refund_no, sku_id, quantity
FROM refund_items
WHERE out_refund_no IN (`+sqldb.In(len(nos))+`)
ORDER BY out_refund_no, sku_id`, sqldb.Args(nos), func(rows *sql.Rows) error {
		var no string
		var l stock.Line
		err := rows.Scan(&no, &l.SkuID, &l.Quantity)
		if err == nil {
			at[no].Items = append(at[no].Items, l)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find refund items: %w", err)
	}
	err = sqldb.Each(ctx, q, `SELECT out_refund_no, approver, reason, at, fresh
FROM refund_approvals
WHERE out_refund_no IN (`+sqldb.In(len(nos))+`)
ORDER BY out_refund_no, at, approver`, sqldb.Args(nos), func(rows *sql.Rows) error {
		var no string
		var a Approval
		var ms int64
		err := rows.Scan(&no, &a.Approver, &a.Reason, &ms, &a.Fresh)
		if err == nil {
			a.At = sqldb.FromMillis(ms)
			at[no].Approvals = append(at[no].Approvals, a)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find refund approvals: %w", err)
	}
	return nil
}

// findAsked finds the refunds of repeated requests.
func findAsked(ctx context.Context, tx *sqldb.Tx, asks []askKey, into map[askKey]string) error {
	args := make([]any, 0, 3*len(asks))
	for _, k := range asks {
		args = append(args, string(k.by), k.id, k.no)
	}
	const one = "(requester_type = ? AND requester_id = ? AND request_id = ?) OR "
	where := strings.TrimSuffix(strings.Repeat(one, len(asks)), " OR ")
	err := sqldb.Each(ctx, tx, `SELECT requester_type, requester_id, request_id, out_refund_no
FROM refunds
WHERE `+where, args, func(rows *sql.Rows) error {
		var k askKey
		var no string
		err := rows.Scan(&k.by, &k.id, &k.no, &no)
		into[k] = no
		return err
	})
	if err != nil {
		return fmt.Errorf("find repeated refund requests: %w", err)
	}
	return nil
}

// writeRefunds writes the refunds that changed, new ones first.
func (b *batch) writeRefunds(ctx context.Context, tx *sqldb.Tx) error {
	var fresh []Refund
	var changed []*refundEntry
	for _, no := range slices.Sorted(maps.Keys(b.refunds.byNo)) {
		switch r := b.refunds.byNo[no]; {
		case !r.touched:
		case r.before.Version == 0:
			fresh = append(fresh, r.after)
		default:
			changed = append(changed, r)
		}
	}
	if err := insertRefunds(ctx, tx, fresh); err != nil {
		return err
	}
	for _, r := range changed {
		if err := b.updateRefund(ctx, tx, r); err != nil {
			return err
		}
	}
	return nil
}

// insertRefunds writes new refunds. Their numbers are unique, and made so that
// one payment is owed back once whatever happens.
func insertRefunds(ctx context.Context, tx *sqldb.Tx, refunds []Refund) error {
	const cols, itemCols = 28, 3
	args := make([]any, 0, cols*len(refunds))
	var items []any
	for i := range refunds {
		r := &refunds[i]
		args = append(args, r.OutRefundNo, r.OrderNo, r.TransactionID, r.OutTradeNo, r.RefundID,
			int64(r.Amount), int64(r.PaymentTotal), string(r.State), r.Reason, r.Note, flag(r.Restock),
			string(r.Requester.Type), r.Requester.ID,
			sql.NullString{String: r.requestID, Valid: r.requestID != ""}, r.requestHash,
			int64(r.ApprovalsNeeded), r.Replaces, int64(r.Generation), r.Problem,
			sqldb.Millis(r.CreatedAt), sqldb.Millis(r.AcceptedAt), sqldb.Millis(r.SucceededAt), nullMillis(r.DueAt),
			sqldb.Millis(r.UpdatedAt), r.DecidedBy, r.DecidedWhy, string(r.Told), r.Shop)
		for _, l := range r.Items {
			items = append(items, r.OutRefundNo, l.SkuID, l.Quantity)
		}
	}
	err := tx.InsertRows(ctx, `INSERT INTO refunds
  (out_refund_no, order_no, transaction_id, out_trade_no, refund_id, amount_fen, total_fen, state, reason, note,
   restock, requester_type, requester_id, request_id, request_hash, approvals_needed, replaces, generation, problem,
   created_at, accepted_at, succeeded_at, due_at, updated_at, decided_by, decided_why, told, shop)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert refunds: %w", err)
	}
	err = tx.InsertRows(ctx, `INSERT INTO refund_items
  (out_refund_no, sku_id, quantity)
VALUES`, itemCols, items)
	if err != nil {
		return fmt.Errorf("insert refund items: %w", err)
	}
	return nil
}

// nullMillis gives NULL for the zero time: what is never due.
func nullMillis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: sqldb.Millis(t), Valid: !t.IsZero()}
}

// flag gives 1 for true: SQLite and MySQL have no boolean of their own.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// updateRefund writes one refund, if it is still the one that was read.
func (b *batch) updateRefund(ctx context.Context, tx *sqldb.Tx, r *refundEntry) error {
	n := &r.after
	if r.owned {
		if err := ownRefund(ctx, tx, n); err != nil {
			return err
		}
	}
	rows, err := tx.Update(ctx, `UPDATE refunds
SET state = ?, version = version + 1, refund_id = ?, decided_by = ?, decided_why = ?, tries = ?,
  notify_url = ?, problem = ?, sent_at = ?, asked_at = ?, accepted_at = ?, succeeded_at = ?, due_at = ?, updated_at = ?,
  told = ?, restock = ?, approvals_needed = ?, said_what = ?, said_by = ?, said_why = ?, said_at = ?, sent_to = ?
WHERE out_refund_no = ?
  AND state = ?
  AND version = ?`, string(n.State), n.RefundID, n.DecidedBy, n.DecidedWhy, n.Tries, n.NotifyURL, n.Problem,
		sqldb.Millis(n.SentAt), sqldb.Millis(n.AskedAt), sqldb.Millis(n.AcceptedAt), sqldb.Millis(n.SucceededAt),
		nullMillis(n.DueAt), sqldb.Millis(b.now), string(n.Told), flag(n.Restock), n.ApprovalsNeeded,
		n.Said.What, n.Said.By, n.Said.Why, sqldb.Millis(n.Said.At), string(n.SentTo),
		n.OutRefundNo, string(r.before.State), r.before.Version)
	if err != nil {
		return fmt.Errorf("write refund %s: %w", n.OutRefundNo, err)
	}
	if rows != 1 {
		return sqldb.ErrLostRace
	}
	for _, a := range r.approvals {
		if _, err := tx.ExecContext(ctx, `INSERT INTO refund_approvals
  (out_refund_no, approver, reason, at, fresh)
VALUES (?, ?, ?, ?, ?)`, n.OutRefundNo, a.Approver, a.Reason, sqldb.Millis(a.At), flag(a.Fresh)); err != nil {
			return fmt.Errorf("write the approval of %s: %w", n.OutRefundNo, err)
		}
	}
	return nil
}

// ownRefund gives a refund that WeChat Pay told of first what only its payment says. The
// guarded UPDATE after it holds the row to what was read.
func ownRefund(ctx context.Context, tx *sqldb.Tx, n *Refund) error {
	_, err := tx.Update(ctx, `UPDATE refunds
SET order_no = ?, out_trade_no = ?, total_fen = ?, reason = ?, note = ?, requester_type = ?, requester_id = ?
WHERE out_refund_no = ?
  AND state = 'held'`, n.OrderNo, n.OutTradeNo, int64(n.PaymentTotal), n.Reason, n.Note,
		string(n.Requester.Type), n.Requester.ID, n.OutRefundNo)
	if err != nil {
		return fmt.Errorf("own refund %s: %w", n.OutRefundNo, err)
	}
	return nil
}

// findRefund reads one refund with its lines and approvals. ErrRefundNotFound
// when there is none, or when it is not of this customer's order ("" for anybody).
func findRefund(ctx context.Context, q querier, outRefundNo, customerID string) (Refund, error) {
	where, args := "out_refund_no = ?", []any{outRefundNo}
	if customerID != "" {
		where += `
  AND EXISTS (SELECT 1 FROM orders o WHERE o.order_no = refunds.order_no AND o.customer_id = ?)`
		args = append(args, customerID)
	}
	found, err := queryRefunds(ctx, q, "WHERE "+where, args...)
	if err != nil {
		return Refund{}, sqldb.Wrap("find refund", err)
	}
	if len(found) == 0 {
		return Refund{}, ErrRefundNotFound
	}
	return found[0], nil
}

// queryRefunds reads the refunds that the end of a query selects, with their
// lines and approvals.
func queryRefunds(ctx context.Context, q querier, tail string, args ...any) ([]Refund, error) {
	var all []Refund
	err := sqldb.Each(ctx, q, `SELECT `+refundColumns+`
FROM refunds
`+tail, args, func(rows *sql.Rows) error {
		r, err := scanRefund(rows)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, fillRefunds(ctx, q, all)
}

// refundsOf reads the refunds of an order, oldest first.
func refundsOf(ctx context.Context, q querier, orderNo string) ([]Refund, error) {
	return queryRefunds(ctx, q, `WHERE order_no = ?
ORDER BY created_at, out_refund_no`, orderNo)
}

// listRefunds gives up to limit refunds, the newest numbers first.
func listRefunds(ctx context.Context, q querier, f *RefundFilter, limit int) ([]Refund, error) {
	tail, args := f.tail(limit)
	return queryRefunds(ctx, q, tail, args...)
}

// tail is what follows the columns of a page, with its arguments: the index by which it is
// read, and where its rows are. Each index has the page in the order of its numbers, or few
// rows: those of an order, or of a payment, or of a state that waits.
func (f *RefundFilter) tail(limit int) (string, []any) {
	columns := []struct{ name, value, index string }{ // the narrower first
		{"order_no", f.OrderNo, "ix_refunds_order"},
		{"transaction_id", f.TransactionID, "ix_refunds_transaction"},
		{"state", string(f.State), "ix_refunds_state"},
		{"reason", f.Reason, "ix_refunds_reason"},
	}
	if f.State == "" || !f.State.Open() { // most refunds are at an end, and of aftersale
		columns[2], columns[3] = columns[3], columns[2]
	}
	var w terms
	index := ""
	for _, c := range columns {
		term := c.name + " = ?"
		if index != "" {
			term = "+" + term // for SQLite: not by this one
		}
		if w.add(c.value != "", term, c.value); c.value != "" && index == "" {
			index = c.index
		}
	}
	w.add(f.Cursor != "", "out_refund_no < ?", f.Cursor)
	w.add(f.Cursor == "", "out_refund_no <= ?", lastRefundNo)
	return `/*! FORCE INDEX (` + cmp.Or(index, "PRIMARY") + `) */
WHERE ` + strings.Join(w.terms, "\n  AND ") + `
ORDER BY out_refund_no DESC
LIMIT ?`, append(w.args, limit)
}

// lastRefundNo is not below any number of a refund.
const lastRefundNo = "~"

// findDueRefunds gives up to limit refunds that are due after a place and by until.
func findDueRefunds(ctx context.Context, tx *sqldb.Tx, after DueCursor, until time.Time, limit int) ([]Due, error) {
	var due []Due
	query := "SELECT out_refund_no, version, due_at FROM refunds WHERE due_at > 0"
	err := eachDue(ctx, tx, dueQuery{query, nil, "out_refund_no"}, after, until, limit, func(rows *sql.Rows) error {
		var d Due
		var at int64
		err := rows.Scan(&d.Key, &d.Version, &at)
		d.At = sqldb.FromMillis(at)
		due = append(due, d)
		return err
	})
	return due, err
}

// countRefunds counts the refunds that have not ended by state, through the index
// on it.
func countRefunds(ctx context.Context, q querier,
	row func(state RefundState, refunds int64, sum payment.Fen, oldest time.Time)) error {
	return sqldb.Each(ctx, q, `SELECT state, COUNT(*), SUM(amount_fen), MIN(created_at)
FROM refunds
WHERE state IN ('pending_approval', 'owed', 'processing', 'abnormal', 'refused', 'held')
GROUP BY state`, nil, func(rows *sql.Rows) error {
		var st RefundState
		var n, oldest int64
		var sum payment.Fen
		if err := rows.Scan(&st, &n, &sum, &oldest); err != nil {
			return err
		}
		row(st, n, sum, sqldb.FromMillis(oldest))
		return nil
	})
}

// ageRefunds counts the refunds that have not ended by state and by the first of the times, newest first, that they
// were asked for after; the last group is older than all of them. It reads what countRefunds reads.
func ageRefunds(ctx context.Context, q querier, times []time.Time,
	row func(state RefundState, group int, refunds int64, sum payment.Fen)) error {
	var cases strings.Builder
	args := make([]any, len(times))
	for i, t := range times {
		fmt.Fprintf(&cases, " WHEN created_at > ? THEN %d", i)
		args[i] = sqldb.Millis(t)
	}
	return sqldb.Each(ctx, q, `SELECT state, CASE`+cases.String()+fmt.Sprintf(` ELSE %d END AS age`, len(times))+
		`, COUNT(*), SUM(amount_fen)
FROM refunds
WHERE state IN ('pending_approval', 'owed', 'processing', 'abnormal', 'refused', 'held')
GROUP BY state, age`, args, func(rows *sql.Rows) error {
		var st RefundState
		var group int
		var n int64
		var sum payment.Fen
		if err := rows.Scan(&st, &group, &n, &sum); err != nil {
			return err
		}
		row(st, group, n, sum)
		return nil
	})
}

// orderOfRefund gives the order of a refund and whether there is such a refund.
// The order is written once and never changes.
func orderOfRefund(ctx context.Context, tx *sqldb.Tx, outRefundNo string) (no string, found bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT order_no
FROM refunds
WHERE out_refund_no = ?`, outRefundNo).Scan(&no)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return no, err == nil, err
}

// findEndedRefunds gives those of the refunds that are never due: they have ended, or
// wait for a person. One that somebody is to look at and that has no due time is damaged.
func findEndedRefunds(ctx context.Context, q querier, numbers []string) ([]string, error) {
	return findKeys(ctx, q, `SELECT out_refund_no
FROM refunds
WHERE due_at IS NULL
  AND state NOT IN ('owed', 'processing', 'abnormal')
  AND out_refund_no IN (`+sqldb.In(len(numbers))+`)`, numbers)
}
