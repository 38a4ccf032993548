package reconcile

import (
	"context"
	"errors"
	"fmt"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Replaced is what another run of a bill puts a new result in place of, and what people have done about its
// differences. Of that a run takes nothing away: notes, assignees and what two people wrote off stay, and only what the
// new bill has again, or explains, changes its status.
type Replaced struct {
	Stored
	// Ended are the differences that people have ended, Proposed those of which one person has proposed that, and
	// Marked those that a person has put off.
	Ended, Proposed, Marked int64
	// Closing is the day's closing where it stands: another result opens the day again. Nil for none.
	Closing *Closing
}

// Replaced tells what a run of a bill would replace: nil while it has no result. Errors: ErrNotFound for what is no
// name of a reconciliation.
func (r *Reconciler) Replaced(ctx context.Context, id string) (*Replaced, error) {
	was := &Replaced{}
	err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if was.Stored, err = findStored(ctx, tx, id); err != nil || was.Result == nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `SELECT
  COALESCE(SUM(CASE WHEN status IN ('RESOLVED', 'WRITTEN_OFF') AND resolved_by <> 'reconciler' THEN 1 ELSE 0 END), 0),
  COALESCE(SUM(CASE WHEN status = 'OPEN' AND proposed_by <> '' THEN 1 ELSE 0 END), 0),
  COALESCE(SUM(CASE WHEN status = 'PENDING_NEXT_DAY' AND resolved_by <> '' THEN 1 ELSE 0 END), 0)
FROM differences /*! FORCE INDEX (ix_differences_bill) */
WHERE bill_date = ?
  AND bill_type = ?`, was.Date, string(was.Type)).Scan(&was.Ended, &was.Proposed, &was.Marked)
		if err != nil {
			return fmt.Errorf("count what people have done about a day: %w", err)
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrNotFound) && len(id) >= 12:
		return nil, nil
	case err != nil:
		return nil, err
	case was.Result == nil:
		return nil, nil
	case was.Type == payment.BillFundFlow:
		return was, nil
	}
	all, err := r.Closings(ctx, was.Date)
	if n := len(all); n > 0 && !all[n-1].Reopened {
		was.Closing = &all[n-1]
	}
	return was, err
}
