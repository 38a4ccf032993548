package reconcile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"orderd/migrations/sqldb"
)

// Does says what an action does, in a sentence for the person who is about to take it.
func (a Action) Does() string {
	switch a {
	case ApplyPayment:
		return "WeChat Pay is asked about this order now, and what it says is booked as a payment of it; the " +
			"difference ends when it says that it was paid."
	case RefundPayment:
		return "The payment fits no order and goes back to its buyer, all that is left of it; a sum above the limit " +
			"of two people waits for a second one."
	case MarkPending:
		return "It waits for the bill of the neighbouring day, and is open again when that bill does not have it."
	case WriteOff:
		return "It ends without any money being moved. You propose it; it ends when somebody else of finance does " +
			"the same."
	}
	return ""
}

// refused says why an action cannot be done about a difference as it stands, nil when it
// can: the one place that judges it. Errors: ErrResolved, ErrRequest with a reason.
func (r *Reconciler) refused(d *Difference, a Action) error {
	switch {
	case !slices.Contains(Actions(), a):
		return fmt.Errorf("%w: there is no action %.20q; APPLY_PAYMENT, REFUND, MARK_PENDING or WRITE_OFF", ErrRequest,
			a)
	case d.Status == StatusResolved || d.Status == StatusWrittenOff:
		return ErrResolved
	case !slices.Contains(d.Kind.Actions(), a):
		return fmt.Errorf("%w: %s cannot be done about %s; %s can", ErrRequest, a, d.Kind, d.Kind.Actions())
	}
	switch a {
	case ApplyPayment:
		if r.cfg.Orders.OrderNoOf(d.OutTradeNo) == "" {
			return fmt.Errorf("%w: only a payment of one of our orders that we lack can be applied", ErrRequest)
		}
	case RefundPayment:
		if d.OursState != "held" {
			return fmt.Errorf("%w: only a payment that fits no order of ours is refunded here; refund the others by "+
				"their orders", ErrRequest)
		}
	case MarkPending:
		done := map[string]bool{d.WaitsFor: d.neighbourHere}
		switch _, ok := r.mayWait(d, done); {
		case d.WaitsFor == "":
			return fmt.Errorf("%w: only a row near midnight can be in the bill of another day", ErrRequest)
		case done[d.WaitsFor]:
			return fmt.Errorf("%w: the bill of %s is here, and does not explain it", ErrRequest, d.WaitsFor)
		case !ok:
			return fmt.Errorf("%w: it has waited long enough for the bill of %s", ErrRequest, d.WaitsFor)
		}
	case WriteOff:
	}
	return nil
}

// lookAround notes of differences whether the bill that they may wait for is here, and with
// it what is allowed about each: by few lookups in the primary key, of the days that they
// wait for.
func (r *Reconciler) lookAround(ctx context.Context, q sqldb.Reader, all []Difference) error {
	here := map[string]bool{}
	for i := range all {
		d := &all[i]
		if d.WaitsFor == "" || d.Status == StatusResolved || d.Status == StatusWrittenOff {
			continue
		}
		key := ID(d.WaitsFor, d.Type)
		if _, known := here[key]; !known {
			var n int
			err := q.QueryRowContext(ctx, `SELECT 1
FROM reconciliations r
WHERE r.bill_date = ?
  AND r.bill_type = ?
  AND r.state = 'done'
  AND r.finished_at >= r.day_to
  AND `+countingRow, d.WaitsFor, string(d.Type)).Scan(&n)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("find the bill that a difference waits for: %w", err)
			}
			here[key] = n == 1
		}
		d.neighbourHere = here[key]
	}
	for i := range all {
		for bit, a := range Actions() {
			if r.refused(&all[i], a) == nil {
				all[i].allowed |= 1 << bit
			}
		}
	}
	return nil
}
