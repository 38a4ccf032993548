package reconcile

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Unapplied is a payment of ours that made no order paid: it came late or twice, or fits no order.
type Unapplied struct {
	TransactionID string
	OrderNo       string // "" of none of ours
	Amount        payment.Fen
	Outcome       string // of table payments
	Reason        string
	PaidAt        time.Time
}

// UnappliedOf are those of a day: all of them counted and summed, and the first unappliedShown.
type UnappliedOf struct {
	Sum
	Rows []Unapplied
}

// unappliedShown is far more than come late on one day.
const unappliedShown = 200

// Statements along the index of payments by their time, which has amount and outcome: the rows themselves are read of
// those few alone.
const (
	unappliedSum = `SELECT COUNT(*), COALESCE(SUM(amount_fen), 0)
FROM payments /*! FORCE INDEX (ix_payments_paid) */
WHERE paid_at >= ?
  AND paid_at < ?
  AND outcome <> 'applied'`
	unappliedRows = `SELECT transaction_id, order_no, amount_fen, outcome, reason, paid_at
FROM payments /*! FORCE INDEX (ix_payments_paid) */
WHERE paid_at >= ?
  AND paid_at < ?
  AND outcome <> 'applied'
ORDER BY paid_at, transaction_id
LIMIT ?`
)

// Unapplied gives the payments of a day that are ours and no order's: a bridge counts them, and the list of orders that
// were paid on the day has none of them. Errors: ErrRequest.
func (r *Reconciler) Unapplied(ctx context.Context, date string) (all UnappliedOf, err error) {
	day, err := dayStart(date)
	if err != nil {
		return all, err
	}
	from, to := day.UnixMilli(), day.AddDate(0, 0, 1).UnixMilli()
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all = UnappliedOf{}
		if err := tx.QueryRowContext(ctx, unappliedSum, from, to).Scan(&all.Count, &all.Fen); err != nil ||
			all.Count == 0 {
			return err
		}
		return sqldb.Each(ctx, tx, unappliedRows, []any{from, to, unappliedShown}, func(rows *sql.Rows) error {
			var p Unapplied
			var at int64
			err := rows.Scan(&p.TransactionID, &p.OrderNo, &p.Amount, &p.Outcome, &p.Reason, &at)
			p.PaidAt = sqldb.FromMillis(at)
			all.Rows = append(all.Rows, p)
			return err
		})
	})
	if err != nil {
		return all, fmt.Errorf("read the payments of a day that are no order's: %w", err)
	}
	return all, nil
}
