package reconcile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Rows around midnight. Two clocks may put one row on two days: the bill of the one has
// it, the other misses it. Such a match is remembered in table matched_across with the
// bill that it rests on, only when the times are within Config.BoundaryWindow of each
// other, and it is decided again whenever that bill's day runs again. What waits for the
// bill of the other day waits until that bill was here, and never longer than a date.

// pendingGrace is how long after the bill of the other day should be out a difference may
// wait for it: half a day, in which a late bill and a day without a worker pass.
const pendingGrace = 12 * time.Hour

// mayWait reports that a difference can be explained by the bill of another day that is
// not here yet, and until when it may wait for it. done tells of days whether a bill that
// counts was reconciled.
func (r *Reconciler) mayWait(d *Difference, done map[string]bool) (until time.Time, ok bool) {
	if d.Kind != LocalOnly && d.Kind != RefundLocalOnly || d.WaitsFor == "" || done[d.WaitsFor] {
		return time.Time{}, false
	}
	from, err := dayStart(d.WaitsFor)
	if err != nil {
		return time.Time{}, false
	}
	until = from.AddDate(0, 0, 1).Add(billHour*time.Hour + pendingGrace)
	return until, r.cfg.Now().Before(until)
}

// doneNear tells of the day before and the day after a day whether their bills count and
// are done.
func (r *Reconciler) doneNear(ctx context.Context, date string, kind payment.BillType) (map[string]bool, error) {
	from, err := dayStart(date)
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	err = r.decide(ctx, `SELECT r.bill_date
FROM reconciliations r
WHERE r.bill_date IN (?, ?)
  AND r.bill_type = ?
  AND r.state = 'done'
  AND r.finished_at >= r.day_to
  AND `+countingRow, []any{from.AddDate(0, 0, -1).Format(time.DateOnly), from.AddDate(0, 0, 1).Format(time.DateOnly),
		string(kind)}, func(rows *sql.Rows) error {
		var day string
		err := rows.Scan(&day)
		done[day] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the days around one: %w", err)
	}
	return done, nil
}

// endWaiting opens what has waited long enough for the bill of another day. It runs before
// whatever counts or resolves differences; when nothing waits too long, it only reads. A
// row that somebody holds is left to the next call, and the others do not wait for it.
func (r *Reconciler) endWaiting(ctx context.Context) error {
	now := r.cfg.Now().UnixMilli()
	for after := ""; ; {
		ids, err := sqldb.Decided(ctx, r.db, `SELECT id
FROM differences
WHERE status = 'PENDING_NEXT_DAY'
  AND pending_until <= ?
  AND id > ?
ORDER BY id
LIMIT ?`, []any{now, after, lookups}, sqldb.Column[string])
		if err == nil && len(ids) > 0 {
			err = r.openWaited(ctx, now, ids)
		}
		if err != nil {
			return fmt.Errorf("open what has waited too long: %w", err)
		}
		if len(ids) < lookups {
			return nil
		}
		after = ids[len(ids)-1]
	}
}

// openWaited opens differences that are not held by somebody; who holds one is found by
// halves.
func (r *Reconciler) openWaited(ctx context.Context, now int64, ids []string) error {
	return sqldb.Apart(ids, true, 0, func(ids []string, noWait bool) error {
		return r.db.InTxOfMany(ctx, noWait, func(ctx context.Context, tx *sqldb.Tx) error {
			args := sqldb.Args(ids)
			if _, err := sqldb.Known(ctx, tx, `SELECT id
FROM differences /*! FORCE INDEX (PRIMARY) */
WHERE id IN (`+sqldb.In(len(ids))+`)
FOR UPDATE`, args...); err != nil {
				return err
			}
			_, err := tx.Update(ctx, `UPDATE differences
SET status = 'OPEN', pending_until = 0
WHERE status = 'PENDING_NEXT_DAY'
  AND pending_until <= ?
  AND id IN (`+sqldb.In(len(ids))+`)`, append([]any{now}, args...)...)
			return err
		})
	}, func([]string, error) error { return nil }) // a locked one stays for the next call
}

// endWaitingIfCan is endWaiting before a read, which shows what is there and does not
// fail because a status could not be brought up to date.
func (r *Reconciler) endWaitingIfCan(ctx context.Context) {
	if err := r.endWaiting(ctx); err != nil && ctx.Err() == nil {
		r.log.Warn("differences may have waited too long", "err", err)
	}
}

// inOtherBills tells which rows of this bill, which are ours of a day near by, another
// bill has had: one that matched_across knows, or that of their own day, which is done
// and did not miss them.
func (r *Reconciler) inOtherBills(ctx context.Context, u *run, rows []item,
	known map[sideKey]ownRow) (map[sideKey]bool, error) {
	across, err := r.findAcross(ctx, rows)
	if err != nil {
		return nil, err
	}
	had, ofDay := map[sideKey]bool{}, map[string][]item{}
	for _, it := range rows {
		k := sideKey{it.refund, it.key}
		ours := known[k]
		own := Day(time.UnixMilli(ours.at))
		switch date := across[k]; {
		case date == u.date: // this bill, in an earlier run
		case date != "" && (it.refund || nextTo(date, own)):
			had[k] = true
		case it.refund && ours.state == "closed": // its own bill need not have it, and nobody missed it
		default:
			ofDay[own] = append(ofDay[own], it)
		}
	}
	for day, rows := range ofDay {
		if err := r.inOwnBill(ctx, u, day, rows, known, had); err != nil {
			return nil, fmt.Errorf("find rows in the bill of their own day: %w", err)
		}
	}
	return had, nil
}

// nextTo reports that two days follow each other, in either order.
func nextTo(a, b string) bool {
	from, err := dayStart(a)
	return err == nil && (Day(from.AddDate(0, 0, 1)) == b || Day(from.AddDate(0, 0, -1)) == b)
}

// inOwnBill adds to had the rows that the bill of their own day has: it is done, they were
// here by then, and it did not miss them.
func (r *Reconciler) inOwnBill(ctx context.Context, u *run, day string, rows []item, known map[sideKey]ownRow,
	had map[sideKey]bool) error {
	var finished int64
	err := r.decideRow(ctx, `SELECT r.finished_at
FROM reconciliations r
WHERE r.bill_date = ?
  AND r.bill_type IN ('ALL', ?)
  AND r.state = 'done'
  AND r.finished_at >= r.day_to
  AND `+countingRow+`
ORDER BY r.finished_at DESC
LIMIT 1`, []any{day, string(u.kind)}, &finished)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	keys := make([]string, len(rows))
	for i, it := range rows {
		keys[i] = it.key
	}
	missed := map[string]bool{}
	err = r.decide(ctx, `SELECT ref
FROM differences
WHERE ref IN (`+sqldb.In(len(keys))+`)
  AND bill_date = ?
  AND kind IN ('LOCAL_ONLY', 'REFUND_LOCAL_ONLY')
  AND NOT (status = 'RESOLVED' AND resolution = '`+agreed+`')`, append(sqldb.Args(keys), day),
		func(rows *sql.Rows) error {
			var ref string
			err := rows.Scan(&ref)
			missed[ref] = true
			return err
		})
	for _, it := range rows {
		k := sideKey{it.refund, it.key}
		if err == nil && !missed[it.key] && known[k].recorded <= finished {
			had[k] = true
		}
	}
	return err
}

// sideName is the word for a side in table matched_across.
func sideName(refund bool) string {
	if refund {
		return "refund"
	}
	return "payment"
}

// saveAcross remembers rows of this bill that are ours of another day, so that
// day does not miss them, and settles what that day's run has noted of them.
func (r *Reconciler) saveAcross(ctx context.Context, u *run, rows []item) error {
	if len(rows) == 0 {
		return nil
	}
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		const cols = 6 // of the INSERT below
		var args []any
		for _, it := range rows {
			if _, err := tx.ExecContext(ctx, `DELETE FROM matched_across
WHERE kind = ?
  AND ref = ?`, sideName(it.refund), it.key); err != nil {
				return fmt.Errorf("remember rows of another day: %w", err)
			}
			args = append(args, sideName(it.refund), it.key, u.date, u.sha1, string(u.source()), u.no)
		}
		if err := tx.InsertRows(ctx, `INSERT INTO matched_across
  (kind, ref, bill_date, sha1, source, run_no)
VALUES`, cols, args); err != nil {
			return fmt.Errorf("remember rows of another day: %w", err)
		}
		keys := make([]string, len(rows))
		for i, it := range rows {
			keys[i] = it.key
		}
		_, err := tx.Update(ctx, `UPDATE differences
SET status = 'RESOLVED', resolution = '`+acrossDays+`', resolved_by = 'reconciler', resolved_why = '',
  resolved_at = ?, pending_until = 0
WHERE kind IN ('LOCAL_ONLY', 'REFUND_LOCAL_ONLY')
  AND status IN ('OPEN', 'PENDING_NEXT_DAY')
  AND ref IN (`+sqldb.In(len(keys))+`)`, append([]any{r.cfg.Now().UnixMilli()}, sqldb.Args(keys)...)...)
		return err
	})
}

// forgetAcross forgets the rows of another day that an earlier run of this day has
// remembered and this one did not find again, and opens what they had settled.
func (r *Reconciler) forgetAcross(ctx context.Context, tx *sqldb.Tx, u *run) error {
	where, args := `WHERE bill_date = ?
  AND run_no <> ?`, []any{u.date, u.no}
	if u.kind != payment.BillAll { // a bill of one side says nothing of the other
		where += `
  AND kind = ?`
		args = append(args, sideName(u.kind == payment.BillRefund))
	}
	var refs []string
	err := sqldb.Each(ctx, tx, `SELECT ref
FROM matched_across
`+where, args, func(rows *sql.Rows) error {
		var ref string
		err := rows.Scan(&ref)
		refs = append(refs, ref)
		return err
	})
	for len(refs) > 0 && err == nil {
		n := min(lookups, len(refs))
		_, err = tx.Update(ctx, `UPDATE differences
SET status = 'OPEN', resolution = '', resolved_by = '', resolved_at = 0
WHERE kind IN ('LOCAL_ONLY', 'REFUND_LOCAL_ONLY')
  AND status = 'RESOLVED'
  AND resolved_by = 'reconciler'
  AND resolution = '`+acrossDays+`'
  AND ref IN (`+sqldb.In(n)+`)`, sqldb.Args(refs[:n])...)
		refs = refs[n:]
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM matched_across
`+where, args...)
	}
	if err != nil {
		return fmt.Errorf("forget rows of another day: %w", err)
	}
	return nil
}

// findAcross tells which rows of ours were in another day's bill, and of which day.
func (r *Reconciler) findAcross(ctx context.Context, rows []item) (map[sideKey]string, error) {
	had := map[sideKey]string{}
	for _, refund := range []bool{false, true} {
		keys := keysOf(rows, refund)
		if len(keys) == 0 {
			continue
		}
		err := r.decide(ctx, `SELECT ref, bill_date
FROM matched_across
WHERE kind = ?
  AND ref IN (`+sqldb.In(len(keys))+`)`, append([]any{sideName(refund)}, sqldb.Args(keys)...),
			func(rows *sql.Rows) error {
				var ref, date string
				err := rows.Scan(&ref, &date)
				had[sideKey{refund, ref}] = date
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("find rows of another day's bill: %w", err)
		}
	}
	return had, nil
}
