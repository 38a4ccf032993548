package reconcile

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

// healed is the resolution of a difference that a run recorded by itself. It is stored,
// and counted by (countOpen): never change it. It also stands for what came late by a
// notification between two runs: both ways the money is recorded and the difference
// gone.
const healed = "healed"

// agreed and acrossDays are the other resolutions of a run, stored and compared too.
const (
	agreed     = "bill and books agree now"
	acrossDays = "in the bill of another day"
)

// The resolutions of a person: of money that went back, and with what follows them. They are stored.
const (
	refunded = "refunded"
	// PaymentBecame begins the resolution of a payment that was recorded; the outcome follows it (Orders.Settle).
	PaymentBecame = "payment "
	// WrittenOffAfter begins that of a write-off; who proposed it follows it.
	WrittenOffAfter = "written off, proposed by "
)

// Resolutions are the texts of Difference.Resolution that stand alone.
func Resolutions() []string { return []string{healed, agreed, acrossDays, refunded} }

// healable reports that a difference can be recorded without a person: a payment of an
// order of ours that we have not heard of, or the end of a refund of ours. The state
// words are those of the two tables: WeChat's in the bill, ours in table refunds.
// Everything else is a person's: money that we have and WeChat has not, an amount that
// is not ours, a refund that nobody here decided.
func (r *Reconciler) healable(kind Kind, bill, ours *item) bool {
	f := bill.said()
	if bill.amount == 0 || bill.refund && f.OutRefundNo == "" {
		return false // in another currency, or without the number by which it would be recorded
	}
	switch kind {
	case BillOnly:
		return bill.state == "SUCCESS" && r.cfg.Orders.OrderNoOf(f.OutTradeNo) != ""
	case RefundBillOnly:
		// It is told, never healed: what went back elsewhere counts against its payment
		// from then on, and the difference stays open for a person.
		return r.cfg.Orders.OrderNoOf(f.OutTradeNo) != ""
	case RefundStateMismatch:
		return slices.Contains([]string{"SUCCESS", "FAIL", "CHANGE"}, bill.state) &&
			slices.Contains([]string{"owed", "processing", "abnormal", "refused"}, ours.state)
	case LocalOnly, AmountMismatch, StateMismatch, Duplicate, RefundLocalOnly, RefundAmountMismatch, DuplicateRefund,
		OtherDay, RefundOtherDay, TwoBills, RefundTwoBills:
	}
	return false
}

// heal records what can be recorded, the way a notification is. It gives how many went;
// what did not go stays open, and the log says why. It goes by what is stored and not
// by what is in memory: only a difference that is committed may be healed, so that its
// number, which is the cause in the order's timeline, can be found.
func (r *Reconciler) heal(ctx context.Context, u *run) (done int, err error) {
	for after := ""; ; {
		page, err := r.openOf(ctx, u, after)
		if err != nil {
			return done, err
		}
		for i := range page {
			after = page[i].ID
			ok, err := r.healOne(ctx, u, &page[i])
			if ctx.Err() != nil {
				return done, ctx.Err()
			}
			switch {
			case err != nil:
				r.log.Warn("not healed", "difference", page[i].ID, "kind", page[i].Kind, "ref", page[i].Ref, "err", err)
			case ok:
				if err := r.endHealed(ctx, u, page[i].ID); err != nil {
					return done, err
				}
				done++
				failpoint.Hit("recon.healed")
			}
		}
		u.progress("healing", int64(done), 0)
		if len(page) < healPage {
			return done, nil
		}
	}
}

// endHealed ends a difference that a file has, and that WeChat Pay, asked, has confirmed.
// A bill that counts ends it by not having it any more; a file ends nothing by itself.
func (r *Reconciler) endHealed(ctx context.Context, u *run, id string) error {
	if u.counts {
		return nil
	}
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE differences
SET status = 'RESOLVED', resolution = '`+healed+`', resolved_by = 'reconciler', resolved_why = '', resolved_at = ?
WHERE id = ?
  AND status = 'OPEN'`, r.cfg.Now().UnixMilli(), id)
		return err
	})
}

// openOf reads a page of the differences of this pass that can be healed.
func (r *Reconciler) openOf(ctx context.Context, u *run, after string) ([]Difference, error) {
	return r.queryDifferences(ctx, `WHERE bill_date = ?
  AND bill_type = ?
  AND run_no = ?
  AND status = 'OPEN'
  AND healable = 1
  AND id > ?
ORDER BY id
LIMIT ?`, u.date, string(u.kind), u.no, after, healPage)
}

// healOne records one difference. A bill that WeChat signed for is believed; of a file
// that a person gave, only what WeChat says of the same number when it is asked. false
// without an error: nothing was done and nothing went wrong.
func (r *Reconciler) healOne(ctx context.Context, u *run, d *Difference) (bool, error) {
	if d.FactsProblem != "" {
		return false, errors.New(d.FactsProblem)
	}
	cause := Cause{ActorType: ActorReconciler, ActorID: ID(u.date, u.kind), Type: causeBill, ID: d.ID}
	if d.Kind == RefundStateMismatch || d.Kind == RefundBillOnly {
		return r.healRefund(ctx, u, d, cause)
	}
	trade := payment.Trade{OutTradeNo: d.OutTradeNo, State: payment.TradeSuccess, TransactionID: d.Ref,
		AppID: d.Facts.AppID, MchID: d.Facts.MchID, TradeType: d.Facts.TradeType, Total: d.BillFen,
		PayerTotal: payment.Said(d.BillFen - d.Facts.Coupon), Currency: d.Facts.Currency, SuccessTime: d.Facts.At}
	if u.fromFile {
		asked, err := r.cfg.Gateway.Query(ctx, d.OutTradeNo)
		if err != nil {
			return false, err
		}
		if !asked.Paid() || asked.TransactionID != d.Ref || asked.Total != d.BillFen {
			return false, fmt.Errorf("WeChat Pay does not say what the file says: %s", asked.State)
		}
		trade = asked
	}
	_, err := r.cfg.Orders.Settle(ctx, trade, cause)
	return err == nil, err
}

// healRefund records the end of a refund of ours, with the same caution. The words of
// the bill become those of the API: FAIL is CLOSED, CHANGE is ABNORMAL. A bill is a snapshot
// of the night: what it says of a refund that did not reach its buyer makes another one go
// out, so that WeChat Pay is asked, and what it says now is recorded.
func (r *Reconciler) healRefund(ctx context.Context, u *run, d *Difference, cause Cause) (bool, error) {
	status := map[string]payment.RefundStatus{"SUCCESS": payment.RefundSuccess, "FAIL": payment.RefundClosed,
		"CHANGE": payment.RefundAbnormal, "PROCESSING": payment.RefundProcessing}[d.BillState]
	refund := payment.Refund{OutRefundNo: d.Ref, RefundID: d.Facts.RefundID, TransactionID: d.Facts.TransactionID,
		OutTradeNo: d.Facts.OutTradeNo, Status: status, Amount: d.BillFen, MchID: d.Facts.MchID, CreateTime: d.Facts.At}
	if status == payment.RefundSuccess {
		// The present bill of all transactions has no time of success: its time is that of
		// the acceptance, which is earlier by minutes, or by days for a bank card.
		refund.SuccessTime = d.Facts.At
	}
	if u.fromFile || d.Kind == RefundStateMismatch && status != payment.RefundSuccess {
		asked, err := r.cfg.Gateway.QueryRefund(ctx, d.Ref)
		switch {
		case err != nil:
			return false, err
		case asked.Status == payment.RefundNotFound || asked.Amount != d.BillFen ||
			u.fromFile && asked.Status != status:
			return false, fmt.Errorf("WeChat Pay does not say what the bill says: %s", asked.Status)
		}
		refund = asked
	}
	applied, err := r.cfg.Orders.SettleRefund(ctx, refund, cause)
	return err == nil && applied, err
}

// differenceColumns are those of scanDifference, in its order. healable is not among
// them: it is only asked for in SQL.
const differenceColumns = `id, bill_date, bill_type, kind, ref, order_no, out_trade_no, transaction_id, bill_line,
  bill_fen, ours_fen, bill_state, ours_state, facts, status, opened_at, proposed_by, proposed_why, resolution,
  resolved_by, resolved_why, resolved_at, source, given_by, waits_for, pending_until, assignee`

// queryDifferences reads differences; tail is everything after FROM. It never gives nil: an
// empty list is [] in JSON.
func (r *Reconciler) queryDifferences(ctx context.Context, tail string, args ...any) ([]Difference, error) {
	var all []Difference
	err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = r.readDifferences(ctx, tx, tail, args...)
		return err
	})
	return all, err
}

// readDifferences gives the differences that the end of a query selects.
func (r *Reconciler) readDifferences(ctx context.Context, q sqldb.Reader, tail string,
	args ...any) ([]Difference, error) {
	all := []Difference{}
	err := sqldb.Each(ctx, q, `SELECT `+differenceColumns+`
FROM differences
`+tail, args, func(rows *sql.Rows) error {
		d, err := scanDifference(rows)
		all = append(all, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read differences: %w", err)
	}
	return all, r.lookAround(ctx, q, all)
}

// scanDifference reads one row of differenceColumns.
func scanDifference(rows interface{ Scan(...any) error }) (Difference, error) {
	var d Difference
	var facts string
	var opened, resolved, until int64
	err := rows.Scan(&d.ID, &d.Date, &d.Type, &d.Kind, &d.Ref, &d.OrderNo, &d.OutTradeNo, &d.TransactionID, &d.Line,
		&d.BillFen, &d.OursFen, &d.BillState, &d.OursState, &facts, &d.Status, &opened, &d.ProposedBy, &d.ProposedWhy,
		&d.Resolution, &d.ResolvedBy, &d.ResolvedWhy, &resolved, &d.Source, &d.GivenBy, &d.WaitsFor, &until,
		&d.Assignee)
	if err != nil {
		return d, err
	}
	d.OpenedAt, d.ResolvedAt = sqldb.FromMillis(opened), sqldb.FromMillis(resolved)
	d.PendingUntil = sqldb.FromMillis(until)
	if err := json.Unmarshal([]byte(facts), &d.Facts); err != nil { // one row must not hide the others
		d.Facts, d.FactsProblem = Facts{}, unreadable+err.Error()
	}
	return d, nil
}

// unreadable begins what is said of a text of JSON that somebody has damaged. A run of the day
// with WeChat Pay's bill writes it again.
const unreadable = "what is stored cannot be read, run the day again: "

// Stored is a row of table reconciliations: a reconciliation as it is kept, with its
// differences counted now.
type Stored struct {
	Date       string
	Type       payment.BillType
	State      string // new, running, waiting (the bill is not made yet), failed, done
	SHA1       string // of the bill of the last run that ended well; "" when there was none
	StartedAt  time.Time
	FinishedAt time.Time
	Problem    string  // of the last run that did not end well
	Result     *Result // nil until a run has ended well, and where Problem says that it cannot be read
	// Source is where the bill of Result came from, "" without one. Counts says that it
	// counts for the day: it is WeChat Pay's, or two people stand behind it.
	Source Source
	Counts bool
}

// ID is the name of the reconciliation.
func (s *Stored) ID() string { return ID(s.Date, s.Type) }

// storedColumns are those of scanStored, in its order.
const storedColumns = `r.bill_date, r.bill_type, r.state, r.sha1, r.started_at, r.finished_at, r.problem, r.result,
  CASE WHEN r.result = '' THEN '' WHEN ` + signedRow + ` THEN 'wechat' ELSE 'file' END,
  CASE WHEN ` + countingRow + ` THEN 1 ELSE 0 END`

// scanStored reads one row of storedColumns.
func scanStored(rows interface{ Scan(...any) error }) (Stored, error) {
	var s Stored
	var started, finished int64
	var result string
	err := rows.Scan(&s.Date, &s.Type, &s.State, &s.SHA1, &started, &finished, &s.Problem, &result, &s.Source,
		&s.Counts)
	s.StartedAt, s.FinishedAt = sqldb.FromMillis(started), sqldb.FromMillis(finished)
	if err == nil && result != "" {
		s.Result = new(Result)
		if wrong := json.Unmarshal([]byte(result), s.Result); wrong != nil { // one day must not hide the others
			s.Result, s.Problem = nil, unreadable+wrong.Error()
			return s, nil
		}
		s.Result.Source, s.Result.Uncounted = s.Source, !s.Counts
	}
	return s, err
}

// Show gives one reconciliation by its ID, or ErrNotFound, which is said only where
// reconciliations are written. The ID is YYYY-MM-DD-TYPE: ten characters, a dash, and the
// type. What is open is counted at the moment at which the rest is read.
func (r *Reconciler) Show(ctx context.Context, id string) (s Stored, err error) {
	r.endWaitingIfCan(ctx)
	err = r.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		s, err = findStored(ctx, tx, id)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return r.showNow(ctx, id)
	}
	return s, err
}

// showNow is Show where reconciliations are written: for what decides.
func (r *Reconciler) showNow(ctx context.Context, id string) (s Stored, err error) {
	r.endWaitingIfCan(ctx)
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		s, err = findStored(ctx, tx, id)
		return err
	})
	return s, err
}

// findStored reads one reconciliation, and counts what is open now: people have resolved
// some since the run.
func findStored(ctx context.Context, q sqldb.Reader, id string) (Stored, error) {
	if len(id) < 12 || id[10] != '-' {
		return Stored{}, ErrNotFound
	}
	s, err := scanStored(q.QueryRowContext(ctx, `SELECT `+storedColumns+`
FROM reconciliations r
WHERE r.bill_date = ?
  AND r.bill_type = ?`, id[:10], id[11:]))
	if errors.Is(err, sql.ErrNoRows) {
		return s, ErrNotFound
	} else if err != nil {
		return s, fmt.Errorf("read a reconciliation: %w", err)
	}
	if s.Result != nil {
		err = countOpen(ctx, q, s.Result)
	}
	return s, err
}

// Export gives a reconciliation and the differences that a filter selects, from its cursor
// on, all as of one moment: their number is that of the sums. With the ID "" there is no
// reconciliation, and they are of all days; with the Limit 0 they are all. They are held
// in memory: files are whole or not made.
func (r *Reconciler) Export(ctx context.Context, id string, f DifferenceFilter) (s Stored, all []Difference,
	err error) {
	r.endWaitingIfCan(ctx)
	if id != "" {
		f.Date, f.Type = id[:min(len(id), 10)], payment.BillType(id[min(len(id), 11):])
	}
	read := func(ctx context.Context, q sqldb.Reader) (err error) {
		if id != "" {
			if s, err = findStored(ctx, q, id); err != nil {
				return err
			}
		}
		all, err = r.exported(ctx, q, f)
		return err
	}
	err = r.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) error { return read(ctx, v) })
	if errors.Is(err, ErrNotFound) { // said only where it is written
		err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return read(ctx, tx) })
	}
	return s, all, err
}

// exported reads the differences of a filter, page by page.
func (r *Reconciler) exported(ctx context.Context, q sqldb.Reader, f DifferenceFilter) ([]Difference, error) {
	all, limit := []Difference{}, f.Limit
	for f.Limit = differencesPage; ; {
		if limit > 0 {
			f.Limit = min(differencesPage, limit-len(all))
		}
		page, err := r.findDifferences(ctx, q, &f)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < f.Limit || len(all) == limit {
			return all, nil
		}
		f.Cursor = page[len(page)-1].ID
	}
}

// List gives at most limit reconciliations, newest day first and types of a day in
// their order: those after the ID before in that order, or from the first on when
// before is "". All are as of one moment.
func (r *Reconciler) List(ctx context.Context, before string, limit int) (all []Stored, err error) {
	r.endWaitingIfCan(ctx)
	err = r.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) (err error) {
		all, err = listStored(ctx, v, before, limit)
		return err
	})
	return all, err
}

// Recent gives the newest reconciliations and what is open, as of one moment: at most so
// many of each.
func (r *Reconciler) Recent(ctx context.Context, days, differences int) (all []Stored, open []Difference, err error) {
	r.endWaitingIfCan(ctx)
	err = r.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) (err error) {
		if all, err = listStored(ctx, v, "", days); err == nil {
			open, err = r.findDifferences(ctx, v, &DifferenceFilter{Status: StatusOpen, Limit: differences})
		}
		return err
	})
	return all, open, err
}

// listStatement reads a page of reconciliations, backwards along the primary key: the newest day
// first, and the types of a day from behind. Two days more than the page are enough: the one at
// which the page before it ended, and the last one, which may have been cut.
func listStatement(date string, limit int) (string, []any) {
	return `SELECT ` + storedColumns + `
FROM reconciliations r /*! FORCE INDEX (PRIMARY) */
WHERE r.bill_date <= ?
ORDER BY r.bill_date DESC, r.bill_type DESC
LIMIT ?`, []any{date, listRows(limit)}
}

// listRows is how many rows are read for a page.
func listRows(limit int) int { return limit + 2*len(billTypes) }

// pageOfDays makes a page of what listStatement read: the types of a day in their order, those
// behind a type of a date.
func pageOfDays(read []Stored, date string, kind payment.BillType, limit int) []Stored {
	if n := len(read); n == listRows(limit) { // there may be more of the last day
		last := read[n-1].Date
		read = slices.DeleteFunc(read, func(s Stored) bool { return s.Date == last })
	}
	read = slices.DeleteFunc(read, func(s Stored) bool { return s.Date == date && s.Type <= kind })
	slices.SortStableFunc(read, func(a, b Stored) int {
		return cmp.Or(strings.Compare(b.Date, a.Date), strings.Compare(string(a.Type), string(b.Type)))
	})
	return read[:min(len(read), limit)]
}

// listStored is List in a transaction.
func listStored(ctx context.Context, q sqldb.Reader, before string, limit int) ([]Stored, error) {
	date, kind := "9999-99-99", ""
	if before != "" {
		if len(before) < len(time.DateOnly)+len("-X") || before[10] != '-' {
			return nil, bounds.ErrCursor
		}
		date, kind = before[:10], before[11:]
		if _, err := time.Parse(time.DateOnly, date); err != nil ||
			!slices.Contains(billTypes, payment.BillType(kind)) {
			return nil, bounds.ErrCursor
		}
	}
	query, args := listStatement(date, limit)
	all := []Stored{}
	err := sqldb.Each(ctx, q, query, args, func(rows *sql.Rows) error {
		s, err := scanStored(rows)
		all = append(all, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list reconciliations: %w", err)
	}
	all = pageOfDays(all, date, payment.BillType(kind), limit)
	for i := range all {
		if all[i].Result == nil {
			continue
		}
		if err := countOpen(ctx, q, all[i].Result); err != nil {
			return nil, err
		}
	}
	return all, nil
}
