package reconcile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/operators"
)

// Action is what a person does about a difference: a word of the API and of the CLI.
type Action string

// The actions.
const (
	// ApplyPayment asks WeChat about the order and records what it says. For BILL_ONLY
	// of one of our orders: what a run could not heal, or a bill that a person gave
	// has.
	ApplyPayment Action = "APPLY_PAYMENT"
	// RefundPayment sends a payment back that fits no order of ours, all of it. Only
	// for one that is held; others are refunded by their orders.
	RefundPayment Action = "REFUND"
	// MarkPending lets it wait for the bill of the day before or after, near midnight and
	// only while that bill is not here. Its run opens it again unless that bill has it, and
	// so does a date.
	MarkPending Action = "MARK_PENDING"
	// WriteOff ends it without money: a second person has to confirm, by the same
	// action.
	WriteOff Action = "WRITE_OFF"
)

// Actions lists what people can do about differences.
func Actions() []Action { return []Action{ApplyPayment, RefundPayment, MarkPending, WriteOff} }

// People is how many people an action takes: where WeChat Pay, asked, or a later bill
// decides, one; what ends a difference by somebody's word alone, two.
func (a Action) People() int {
	if a == WriteOff {
		return 2
	}
	return 1
}

// Actions gives what people may do about a kind of difference: the one table of it, which
// docs/reconciliation.md shows. What each of them demands besides is said at Action.
func (k Kind) Actions() []Action {
	switch k {
	case BillOnly:
		return []Action{ApplyPayment, WriteOff}
	case LocalOnly, RefundLocalOnly:
		return []Action{MarkPending, WriteOff}
	case StateMismatch:
		return []Action{RefundPayment, WriteOff}
	case AmountMismatch, Duplicate, RefundBillOnly, RefundAmountMismatch, RefundStateMismatch, DuplicateRefund,
		OtherDay, RefundOtherDay, TwoBills, RefundTwoBills:
	}
	return []Action{WriteOff}
}

// Resolve is a person's word on a difference. The reason and the person are stored with
// it.
type Resolve struct {
	ID     string
	Action Action
	Reason string // 1–200 characters
	Cause  Cause  // of a person: ByOperator
	// Key is for whoever may ask twice: what has ended, marked or proposed something by it does
	// nothing more for the same difference. At most 32 characters, "" for none.
	Key string
	// Version is that of the difference as whoever decides has seen it: on another one nothing is
	// done (ErrChanged). "" is any.
	Version string
}

// DifferenceFilter selects differences by ID order, which is no order of time: IDs are
// hashes. Zero fields do not select, but Limit must be set.
type DifferenceFilter struct {
	Date    string
	Type    payment.BillType
	Status  Status
	Kind    Kind
	OrderNo string
	// Assignee selects those of a person, Nobody those of nobody. Without Date and OrderNo each
	// needs a Status: the index by which they are read begins with both.
	Assignee string
	// OpenedBefore selects what is older.
	OpenedBefore time.Time
	Cursor       string // ID of the last one seen
	Limit        int
}

// Nobody is the Assignee of a filter for differences that have none: no name has a slash.
const Nobody = "/"

// Differences gives differences in the order of their IDs, at most Limit, after Cursor.
// Fewer than Limit are the last ones.
func (r *Reconciler) Differences(ctx context.Context, f DifferenceFilter) (all []Difference, err error) {
	r.endWaitingIfCan(ctx)
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = r.findDifferences(ctx, tx, &f)
		return err
	})
	return all, err
}

// findDifferences reads the differences of a filter.
func (r *Reconciler) findDifferences(ctx context.Context, q sqldb.Reader, f *DifferenceFilter) ([]Difference, error) {
	if err := bounds.DifferenceID.Cursor(f.Cursor); err != nil {
		return nil, err
	}
	if f.Assignee != "" && f.Status == "" && f.Date == "" && f.OrderNo == "" {
		return nil, fmt.Errorf("%w: whose differences takes a status, a day or an order", ErrRequest)
	}
	tail, args := f.tail()
	return r.readDifferences(ctx, q, tail, args...)
}

// tail is what follows the columns of a page, with its arguments: the index by which it is read,
// and where its rows are. Each has the page in the order of ids. Of a kind alone no index has
// the page; differences are few.
func (f *DifferenceFilter) tail() (string, []any) {
	index, has := "PRIMARY", []string(nil)
	switch {
	case f.OrderNo != "":
		index, has = "ix_differences_order", []string{"order_no"}
	case f.Date != "":
		index, has = "ix_differences_bill", []string{"bill_date", "bill_type"}
	case f.Assignee != "":
		index, has = "ix_differences_assignee", []string{"assignee", "status"}
	case f.Status != "":
		index, has = "ix_differences_status", []string{"status"}
	}
	terms, args := []string{"id > ?"}, []any{f.Cursor}
	for _, t := range []struct{ column, value string }{
		{"bill_date", f.Date}, {"bill_type", string(f.Type)}, {"status", string(f.Status)},
		{"kind", string(f.Kind)}, {"order_no", f.OrderNo},
		{"assignee", f.Assignee},
	} {
		if t.value == "" {
			continue
		}
		if t.column == "assignee" && t.value == Nobody {
			t.value = ""
		}
		term := t.column + " = ?"
		if !slices.Contains(has, t.column) {
			term = "+" + term // for SQLite: not by another index
		}
		terms, args = append(terms, term), append(args, t.value)
	}
	if !f.OpenedBefore.IsZero() {
		terms, args = append(terms, "+opened_at < ?"), append(args, f.OpenedBefore.UnixMilli())
	}
	return "/*! FORCE INDEX (" + index + ") */\nWHERE " + strings.Join(terms, "\n  AND ") + `
ORDER BY id
LIMIT ?`, append(args, f.Limit)
}

// differencesPage is how many differences are read at once where all are wanted.
const differencesPage = 500

// Difference gives one difference, or ErrNotFound.
func (r *Reconciler) Difference(ctx context.Context, id string) (Difference, error) {
	r.endWaitingIfCan(ctx)
	found, err := r.queryDifferences(ctx, `WHERE id = ?`, id)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Difference{}, err
	}
	return found[0], nil
}

// Resolve does what a person decided; money moves by the same methods as everywhere
// (Orders). It gives the difference as it is then. Errors: ErrNotFound, ErrResolved,
// ErrSecondPerson, those of operators.Second, ErrRequest with a reason, those of Orders
// and of WeChat. Money moves
// before the difference is closed: a crash in between leaves it open, and the same
// action again finds the money moved, once, and closes it.
func (r *Reconciler) Resolve(ctx context.Context, q Resolve) (Difference, error) {
	if wrong := bounds.Reason.Check(q.Reason); wrong != nil {
		return Difference{}, fmt.Errorf("%w: %s", ErrRequest, wrong.Detail)
	}
	d, err := r.Difference(ctx, q.ID)
	if err != nil {
		return d, err
	}
	if done, err := r.noted(ctx, q.ID, q.Key); done || err != nil {
		return d, err
	}
	if err := r.refused(&d, q.Action); err != nil {
		return d, err
	}
	if q.Version != "" && q.Version != d.Version() {
		return d, ErrChanged
	}
	switch q.Action {
	case ApplyPayment:
		err = r.applyPayment(ctx, &d, q)
	case RefundPayment:
		switch err = r.cfg.Orders.RefundHeld(ctx, d.Ref, q.Cause); {
		case err == nil:
			err = r.close(ctx, &d, q, StatusResolved, refunded)
		case errors.Is(err, ErrRefundWaits):
			// Proposed: the difference stays open until somebody else agrees.
			note := r.acted(&d, q)
			err = r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return insertNote(ctx, tx, note) })
		}
	case MarkPending:
		err = r.markPending(ctx, &d, q)
	case WriteOff:
		err = r.writeOff(ctx, &d, q)
	}
	if err != nil {
		return d, err
	}
	return r.Difference(ctx, q.ID)
}

// applyPayment asks WeChat about the payment and records its answer: the bill alone is not
// enough where a person could not tell why it was missed.
func (r *Reconciler) applyPayment(ctx context.Context, d *Difference, q Resolve) error {
	trade, err := r.cfg.Gateway.Query(ctx, d.OutTradeNo)
	if err != nil {
		return err
	}
	if !trade.Paid() || trade.TransactionID != d.Ref {
		return fmt.Errorf("%w: WeChat Pay says of %s: %s", ErrRequest, d.OutTradeNo, trade.State)
	}
	outcome, err := r.cfg.Orders.Settle(ctx, trade, q.Cause)
	if err != nil {
		return err
	}
	return r.close(ctx, d, q, StatusResolved, PaymentBecame+outcome)
}

// markPending lets one person put a difference off, as a run does by itself: only near
// midnight, only while the bill that may explain it is not here, and not beyond its date.
func (r *Reconciler) markPending(ctx context.Context, d *Difference, q Resolve) error {
	until, _ := r.mayWait(d, nil)
	return r.update(ctx, d, q, assign{`status = ?, resolved_by = ?, resolved_why = ?, pending_until = ?`,
		[]any{string(StatusPending), q.Cause.ActorID, q.Reason, until.UnixMilli()}})
}

// writeOff needs two people, by the rule of package operators: the first proposes, another
// confirms. The proposal is stored in the row, and the UPDATE demands that it is still that
// one, so that two who propose at once do not become two who confirm. Who may is read
// behind the lock of the row, in the transaction that writes.
func (r *Reconciler) writeOff(ctx context.Context, d *Difference, q Resolve) error {
	who := q.Cause.ActorID
	propose := assign{`proposed_by = ?, proposed_why = ?`, []any{who, q.Reason}}
	switch d.ProposedBy {
	case "":
		return r.update(ctx, d, q, propose)
	case who:
		return ErrSecondPerson
	}
	end := r.ending(q, StatusWrittenOff, WrittenOffAfter+d.ProposedBy)
	var fresh bool
	note := r.acted(d, q)
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if _, err = sqldb.Known(ctx, tx, `SELECT id
FROM differences
WHERE id = ?
FOR UPDATE`, d.ID); err != nil {
			return err
		}
		if fresh, err = operators.Second(ctx, tx, r.cfg.Now(), who, d.ProposedBy); err != nil {
			return err
		}
		known, err := operators.Find(ctx, tx, d.ProposedBy)
		switch {
		case err != nil:
			return err
		case !known.May(d.ProposedBy, operators.Finance): // let go since: this is the first word
			fresh = false
			return r.updateIn(ctx, tx, d, note, propose)
		}
		return r.updateIn(ctx, tx, d, note, end)
	})
	if err == nil && fresh {
		r.freshActed("a difference was written off", d.ID, who, d.ProposedBy)
	}
	return err
}

// freshActed tells of an act of two people of whom one is new, and so may be the other.
func (r *Reconciler) freshActed(what, of, who string, others ...string) {
	what += " by two of whom one has an account or token of less than a day"
	r.alarm(what, of+": "+who+", after "+strings.Join(others, ", "))
}

// alarm tells an operator of what must not happen unseen.
func (r *Reconciler) alarm(what, detail string) {
	r.log.Error("alarm", "what", what, "detail", detail)
	if r.cfg.Alarm != nil {
		r.cfg.Alarm(what, detail)
	}
}

// close ends a difference.
func (r *Reconciler) close(ctx context.Context, d *Difference, q Resolve, to Status, resolution string) error {
	return r.update(ctx, d, q, r.ending(q, to, resolution))
}

// ending is what the end of a difference changes of it.
func (r *Reconciler) ending(q Resolve, to Status, resolution string) assign {
	return assign{`status = ?, resolution = ?, resolved_by = ?, resolved_why = ?, resolved_at = ?, pending_until = 0`,
		[]any{string(to), bounds.Resolution.Cut(resolution), q.Cause.ActorID, q.Reason, r.cfg.Now().UnixMilli()}}
}

// assign is the SET of an UPDATE: SQL of this package with placeholders, never a person's
// text, and what is put into them.
type assign struct {
	set  string
	args []any
}

// update is updateIn in a transaction of its own.
func (r *Reconciler) update(ctx context.Context, d *Difference, q Resolve, a assign) error {
	note := r.acted(d, q)
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return r.updateIn(ctx, tx, d, note, a) })
}

// updateIn changes a difference that is still as it was read, else ErrResolved, and writes
// down what was done.
func (r *Reconciler) updateIn(ctx context.Context, tx *sqldb.Tx, d *Difference, note Note, a assign) error {
	n, err := tx.Update(ctx, `UPDATE differences
SET `+a.set+`
WHERE id = ?
  AND status = ?
  AND proposed_by = ?`, append(slices.Clone(a.args), d.ID, string(d.Status), d.ProposedBy)...)
	if err == nil && n == 0 && tx.MayBeDone() { // by the run before this one
		done, err := sqldb.Known(ctx, tx, `SELECT id
FROM differences
WHERE `+strings.ReplaceAll(a.set, ",", "\n  AND")+`
  AND id = ?`, append(slices.Clone(a.args), d.ID)...)
		if err != nil || done {
			return err
		}
	}
	if err == nil && n == 0 {
		return ErrResolved // somebody was faster
	}
	if err == nil {
		err = insertNote(ctx, tx, note)
	}
	return err
}

// Open counts the open differences of all days, for metrics and alarms.
type Open struct {
	Count  map[Kind]int64
	Fen    payment.Fen // what the bill and our rows differ by, without signs
	Oldest string      // bill date of the oldest, "" without
	// OldestAt is when the one was opened that has been open for longest, the zero time without.
	OldestAt time.Time
	// Pending are those that wait for the bill of another day; OldestPending is when the
	// oldest of them was found, the zero time without one.
	Pending       map[Kind]int64
	PendingFen    payment.Fen
	OldestPending time.Time
	// LastDone is the newest day that is over and reconciled with WeChat Pay's own bill, "" for
	// none; LastDoneAt is when that was, the zero time for none.
	LastDone   string
	LastDoneAt time.Time
}

// Open reads the open differences through the index on their status, and the newest day
// that is done, as of one moment.
func (r *Reconciler) Open(ctx context.Context) (o Open, err error) {
	r.endWaitingIfCan(ctx)
	err = r.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		o = Open{Count: map[Kind]int64{}, Pending: map[Kind]int64{}}
		if err := o.count(ctx, tx); err != nil {
			return err
		}
		return sqldb.Each(ctx, tx, `SELECT r.bill_date, r.finished_at
FROM reconciliations r
WHERE r.bill_type = 'ALL'
  AND r.state = 'done'
  AND r.finished_at >= r.day_to
  AND `+signedRow+`
ORDER BY r.bill_date DESC
LIMIT 1`, nil, func(rows *sql.Rows) error {
			var at int64
			err := rows.Scan(&o.LastDone, &at)
			o.LastDoneAt = sqldb.FromMillis(at)
			return err
		})
	})
	if err != nil {
		return o, fmt.Errorf("count open differences: %w", err)
	}
	return o, nil
}

// count adds what is open and what waits.
func (o *Open) count(ctx context.Context, q sqldb.Reader) error {
	return sqldb.Each(ctx, q, `SELECT status, kind, COUNT(*), SUM(ABS(bill_fen - ours_fen)), MIN(bill_date),
  MIN(opened_at)
FROM differences
WHERE status IN ('OPEN', 'PENDING_NEXT_DAY')
GROUP BY status, kind`, nil, func(rows *sql.Rows) error {
		var status Status
		var kind Kind
		var n, opened int64
		var fen payment.Fen
		var oldest string
		err := rows.Scan(&status, &kind, &n, &fen, &oldest, &opened)
		at := sqldb.FromMillis(opened)
		if status == StatusPending {
			o.Pending[kind] = n
			o.PendingFen += fen
			if o.OldestPending.IsZero() || at.Before(o.OldestPending) {
				o.OldestPending = at
			}
			return err
		}
		o.Count[kind] = n
		o.Fen += fen
		if o.Oldest == "" || oldest < o.Oldest {
			o.Oldest = oldest
		}
		if o.OldestAt.IsZero() || at.Before(o.OldestAt) {
			o.OldestAt = at
		}
		return err
	})
}
