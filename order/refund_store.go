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

const refundColumns = `out_refund_no, order_no, transaction_id, out_trade_no, refund_id, amount_fen, total_fen, state, reason, note,
  restock, requester_type, requester_id, request_id, request_hash, approvals_needed, decided_by, decided_why, replaces, generation,
  tries, notify_url, problem, created_at, sent_at, asked_at, accepted_at, succeeded_at, due_at, updated_at, version`

func scanRefund(row interface{ Scan(...any) error }) (Refund, error) {
	var r Refund
	var created, sent, asked, accepted, succeeded, updated int64
	var due sql.NullInt64
	var request sql.NullString
	err := row.Scan(&r.OutRefundNo, &r.OrderNo, &r.TransactionID, &r.OutTradeNo, &r.RefundID, &r.Amount, &r.PaymentTotal, &r.State, &r.Reason, &r.Note,
		&r.Restock, &r.Requester.Type, &r.Requester.ID, &request, &r.requestHash, &r.ApprovalsNeeded, &r.DecidedBy, &r.DecidedWhy, &r.Replaces, &r.Generation,
		&r.Tries, &r.NotifyURL, &r.Problem, &created, &sent, &asked, &accepted, &succeeded, &due, &updated, &r.Version)
	r.requestID = request.String
	r.CreatedAt, r.SentAt, r.AskedAt, r.AcceptedAt = fromMS(created), fromMS(sent), fromMS(asked), fromMS(accepted)
	r.SucceededAt, r.DueAt, r.UpdatedAt = fromMS(succeeded), fromMS(due.Int64), fromMS(updated)
	return r, err
}

func sortedKeys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

// lockRefunds reads and locks the refunds of orders, and those of the numbers,
// oldest first.
func lockRefunds(ctx context.Context, tx *sqldb.Tx, orders, numbers map[string]bool) ([]Refund, error) {
	seen := map[string]bool{}
	var all []Refund
	read := func(column string, keys []string) error {
		if len(keys) == 0 {
			return nil
		}
		err := sqldb.Each(ctx, tx, `SELECT `+refundColumns+`
FROM refunds
WHERE `+column+` IN (`+sqldb.In(len(keys))+`)
ORDER BY out_refund_no
FOR UPDATE`, sqldb.Args(keys), func(rows *sql.Rows) error {
			r, err := scanRefund(rows)
			if err == nil && !seen[r.OutRefundNo] {
				seen[r.OutRefundNo] = true
				all = append(all, r)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("lock refunds: %w", err)
		}
		return nil
	}
	if err := errors.Join(read("order_no", sortedKeys(orders)), read("out_refund_no", sortedKeys(numbers))); err != nil {
		return nil, err
	}
	sort.SliceStable(all, func(i, j int) bool { // package sort: an instance of slices.Sort for rows this wide is 20 kB of binary
		a, b := &all[i], &all[j]
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.OutRefundNo, b.OutRefundNo)) < 0
	})
	return all, fillRefunds(ctx, tx, all)
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
	err = sqldb.Each(ctx, q, `SELECT out_refund_no, approver, reason, at
FROM refund_approvals
WHERE out_refund_no IN (`+sqldb.In(len(nos))+`)
ORDER BY out_refund_no, at, approver`, sqldb.Args(nos), func(rows *sql.Rows) error {
		var no string
		var a Approval
		var ms int64
		err := rows.Scan(&no, &a.Approver, &a.Reason, &ms)
		if err == nil {
			a.At = fromMS(ms)
			at[no].Approvals = append(at[no].Approvals, a)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find refund approvals: %w", err)
	}
	return nil
}

// findPaid reads the payments of orders and those of the transaction ids.
func findPaid(ctx context.Context, tx *sqldb.Tx, orders, transactions map[string]bool) (map[string]*paidEntry, error) {
	found := map[string]*paidEntry{}
	for column, keys := range map[string][]string{"order_no": sortedKeys(orders), "transaction_id": sortedKeys(transactions)} {
		if len(keys) == 0 {
			continue
		}
		err := sqldb.Each(ctx, tx, `SELECT transaction_id, order_no, out_trade_no, amount_fen, refund_fen, paid_at, outcome
FROM payments
WHERE `+column+` IN (`+sqldb.In(len(keys))+`)`, sqldb.Args(keys), func(rows *sql.Rows) error {
			p := new(paidEntry)
			var paid int64
			err := rows.Scan(&p.transactionID, &p.orderNo, &p.outTradeNo, &p.amount, &p.taken, &paid, &p.outcome)
			p.paidAt = fromMS(paid)
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

// findAsked finds the refunds of repeated requests.
func findAsked(ctx context.Context, tx *sqldb.Tx, asks []askKey, into map[askKey]string) error {
	args := make([]any, 0, 3*len(asks))
	for _, k := range asks {
		args = append(args, string(k.by), k.id, k.no)
	}
	where := strings.TrimSuffix(strings.Repeat("(requester_type = ? AND requester_id = ? AND request_id = ?) OR ", len(asks)), " OR ")
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
func (l *ledger) writeRefunds(ctx context.Context, tx *sqldb.Tx) error {
	var fresh []Refund
	var changed []*refundEntry
	for _, no := range slices.Sorted(maps.Keys(l.books.refunds)) {
		switch r := l.books.refunds[no]; {
		case !r.touched:
		case r.read.Version == 0:
			fresh = append(fresh, r.now)
		default:
			changed = append(changed, r)
		}
	}
	if err := insertRefunds(ctx, tx, fresh); err != nil {
		return err
	}
	for _, r := range changed {
		if err := l.updateRefund(ctx, tx, r); err != nil {
			return err
		}
	}
	return nil
}

// insertRefunds writes new refunds. Their numbers are unique, and made so that
// one payment is owed back once whatever happens.
func insertRefunds(ctx context.Context, tx *sqldb.Tx, refunds []Refund) error {
	const cols, itemCols = 26, 3
	args := make([]any, 0, cols*len(refunds))
	var items []any
	for _, r := range refunds {
		args = append(args, r.OutRefundNo, r.OrderNo, r.TransactionID, r.OutTradeNo, r.RefundID, int64(r.Amount), int64(r.PaymentTotal), string(r.State),
			r.Reason, r.Note, flag(r.Restock), string(r.Requester.Type), r.Requester.ID, sql.NullString{String: r.requestID, Valid: r.requestID != ""}, r.requestHash,
			int64(r.ApprovalsNeeded), r.Replaces, int64(r.Generation), r.Problem, toMS(r.CreatedAt), toMS(r.AcceptedAt), toMS(r.SucceededAt),
			sql.NullInt64{Int64: toMS(r.DueAt), Valid: !r.DueAt.IsZero()}, toMS(r.UpdatedAt), r.DecidedBy, r.DecidedWhy)
		for _, l := range r.Items {
			items = append(items, r.OutRefundNo, l.SkuID, l.Quantity)
		}
	}
	err := tx.InsertRows(ctx, `INSERT INTO refunds
  (out_refund_no, order_no, transaction_id, out_trade_no, refund_id, amount_fen, total_fen, state, reason, note, restock,
   requester_type, requester_id, request_id, request_hash, approvals_needed, replaces, generation, problem,
   created_at, accepted_at, succeeded_at, due_at, updated_at, decided_by, decided_why)
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

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// updateRefund writes one refund, if it is still the one that was read.
func (l *ledger) updateRefund(ctx context.Context, tx *sqldb.Tx, r *refundEntry) error {
	n := &r.now
	rows, err := tx.Update(ctx, `UPDATE refunds
SET state = ?, version = version + 1, refund_id = ?, decided_by = ?, decided_why = ?, tries = ?, notify_url = ?, problem = ?,
  sent_at = ?, asked_at = ?, accepted_at = ?, succeeded_at = ?, due_at = ?, updated_at = ?
WHERE out_refund_no = ?
  AND state = ?
  AND version = ?`, string(n.State), n.RefundID, n.DecidedBy, n.DecidedWhy, n.Tries, n.NotifyURL, n.Problem,
		toMS(n.SentAt), toMS(n.AskedAt), toMS(n.AcceptedAt), toMS(n.SucceededAt), sql.NullInt64{Int64: toMS(n.DueAt), Valid: !n.DueAt.IsZero()}, toMS(l.now),
		n.OutRefundNo, string(r.read.State), r.read.Version)
	if err != nil {
		return fmt.Errorf("write refund %s: %w", n.OutRefundNo, err)
	}
	if rows != 1 {
		return sqldb.ErrLostRace
	}
	for _, a := range r.approvals {
		if _, err := tx.ExecContext(ctx, `INSERT INTO refund_approvals
  (out_refund_no, approver, reason, at)
VALUES (?, ?, ?, ?)`, n.OutRefundNo, a.Approver, a.Reason, toMS(a.At)); err != nil {
			return fmt.Errorf("write the approval of %s: %w", n.OutRefundNo, err)
		}
	}
	return nil
}

// writeTaken raises what refunds take of their payments. The bound is in the
// statement: whatever was read, refunds never exceed their payment.
func (l *ledger) writeTaken(ctx context.Context, tx *sqldb.Tx) error {
	for _, id := range slices.Sorted(maps.Keys(l.books.payments)) {
		p := l.books.payments[id]
		if p.adds == 0 && !p.owe {
			continue
		}
		n, err := tx.Update(ctx, `UPDATE payments
SET refund_fen = refund_fen + ?, outcome = ?
WHERE transaction_id = ?
  AND refund_fen = ?
  AND refund_fen + ? BETWEEN 0 AND amount_fen`, int64(p.adds), string(p.outcome), id, int64(p.taken), int64(p.adds))
		if err != nil {
			return fmt.Errorf("write what is refunded of %s: %w", id, err)
		}
		if n != 1 {
			return sqldb.ErrLostRace
		}
	}
	return nil
}

// FindRefund gives a refund.
func (s *Service) FindRefund(ctx context.Context, outRefundNo string) (Refund, error) {
	return s.findRefund(ctx, "out_refund_no = ?", outRefundNo)
}

// FindOwnRefund gives a refund of this customer's order; another's is
// ErrRefundNotFound, found out by the same query in the same time.
func (s *Service) FindOwnRefund(ctx context.Context, customerID, outRefundNo string) (Refund, error) {
	return s.findRefund(ctx, `out_refund_no = ?
  AND EXISTS (SELECT 1 FROM orders o WHERE o.order_no = refunds.order_no AND o.customer_id = ?)`, outRefundNo, customerID)
}

func (s *Service) findRefund(ctx context.Context, where string, args ...any) (Refund, error) {
	r, err := scanRefund(s.db.QueryRowContext(ctx, `SELECT `+refundColumns+`
FROM refunds
WHERE `+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return Refund{}, ErrRefundNotFound
	}
	one := []Refund{r}
	if err == nil {
		err = fillRefunds(ctx, s.db, one)
	}
	if err != nil {
		return Refund{}, sqldb.Wrap("find refund", err)
	}
	return one[0], nil
}

// RefundFilter selects refunds, newest numbers first. Zero fields do not select.
type RefundFilter struct {
	State         RefundState
	OrderNo       string
	TransactionID string
	Reason        string
	Limit         int    // 1–200
	Cursor        string // out_refund_no of the last one seen
}

// ListRefunds gives refunds and the cursor of the next page, "" at the end.
func (s *Service) ListRefunds(ctx context.Context, f RefundFilter) ([]Refund, string, error) {
	limit := min(cmp.Or(max(f.Limit, 0), defaultPage), maxPage)
	terms, args := []string{"1 = 1"}, []any{}
	for column, v := range map[string]string{"state": string(f.State), "order_no": f.OrderNo, "transaction_id": f.TransactionID, "reason": f.Reason} {
		if v != "" {
			terms, args = append(terms, column+" = ?"), append(args, v)
		}
	}
	if f.Cursor != "" {
		terms, args = append(terms, "out_refund_no < ?"), append(args, f.Cursor)
	}
	rows, err := s.queryRefunds(ctx, `WHERE `+strings.Join(terms, "\n  AND ")+`
ORDER BY out_refund_no DESC
LIMIT ?`, append(args, limit+1)...)
	if err != nil {
		return nil, "", sqldb.Wrap("list refunds", err)
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].OutRefundNo
	}
	return rows, next, nil
}

func (s *Service) queryRefunds(ctx context.Context, tail string, args ...any) ([]Refund, error) {
	var all []Refund
	err := sqldb.Each(ctx, s.db, `SELECT `+refundColumns+`
FROM refunds
`+tail, args, func(rows *sql.Rows) error {
		r, err := scanRefund(rows)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, fillRefunds(ctx, s.db, all)
}

// DueRefunds pages through the refunds that somebody has to look at, in the
// order of their due time: those after the cursor and due by until. In the
// cursor and the answer the number stands where an order's would.
func (s *Service) DueRefunds(ctx context.Context, after DueCursor, until time.Time, limit int) ([]Due, error) {
	var due []Due
	err := s.eachDue(ctx, "SELECT out_refund_no, version, due_at FROM refunds WHERE due_at > 0", nil, "out_refund_no", after, until, limit, func(rows *sql.Rows) error {
		var d Due
		var at int64
		err := rows.Scan(&d.Key, &d.Version, &at)
		d.At = fromMS(at)
		due = append(due, d)
		return err
	})
	if err != nil {
		return nil, sqldb.Wrap("find due refunds", err)
	}
	return due, nil
}

// RefundBacklog counts the refunds that have not ended, by state, and what they
// are worth.
type RefundBacklog struct {
	Count  map[RefundState]int64
	Amount map[RefundState]payment.Fen
	Oldest map[RefundState]time.Time // when the oldest was asked for
}

// RefundBacklog reads the open refunds through the index on their state.
func (s *Service) RefundBacklog(ctx context.Context) (RefundBacklog, error) {
	b := RefundBacklog{Count: map[RefundState]int64{}, Amount: map[RefundState]payment.Fen{}, Oldest: map[RefundState]time.Time{}}
	err := sqldb.Each(ctx, s.db, `SELECT state, COUNT(*), SUM(amount_fen), MIN(created_at)
FROM refunds
WHERE state IN ('pending_approval', 'owed', 'processing', 'abnormal', 'refused', 'held')
GROUP BY state`, nil, func(rows *sql.Rows) error {
		var st RefundState
		var n, oldest int64
		var sum payment.Fen
		err := rows.Scan(&st, &n, &sum, &oldest)
		b.Count[st], b.Amount[st], b.Oldest[st] = n, sum, fromMS(oldest)
		return err
	})
	if err != nil {
		return b, sqldb.Wrap("count open refunds", err)
	}
	return b, nil
}
