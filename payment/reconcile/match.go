package reconcile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Kind names how the two sides differ. It is stored in differences.kind, shown in
// exports and metrics, and part of the number of a difference: never renamed.
type Kind string

// The kinds of differences: of payments, then of refunds.
const (
	// BillOnly, 长款: WeChat was paid, we have no payment of it. Healed when it is of
	// an order of ours (healable).
	BillOnly Kind = "BILL_ONLY"
	// LocalOnly, 短款: our payment is in no bill, neither of its day nor, by
	// matched_across, of another one. Near midnight it waits for the next bill first.
	LocalOnly Kind = "LOCAL_ONLY"
	// AmountMismatch, 金额不符: one payment, two amounts.
	AmountMismatch Kind = "AMOUNT_MISMATCH"
	// StateMismatch, 状态不符: the bill does not say SUCCESS, or we hold the money
	// because it fits no order.
	StateMismatch Kind = "STATE_MISMATCH"
	// Duplicate, 重复: the bill has one transaction id twice. The first row is matched,
	// each other one is a difference.
	Duplicate Kind = "DUPLICATE_PAYMENT"

	// RefundBillOnly: made on the merchant platform, or lost here. Never healed: nobody
	// here has decided that this money goes back.
	RefundBillOnly Kind = "REFUND_BILL_ONLY"
	// RefundLocalOnly: WeChat accepted it by our table, the bill lacks it.
	RefundLocalOnly Kind = "REFUND_LOCAL_ONLY"
	// RefundAmountMismatch: the same refund with another amount.
	RefundAmountMismatch Kind = "REFUND_AMOUNT_MISMATCH"
	// RefundStateMismatch: it ended otherwise than we know. Healed when our row is
	// still under way.
	RefundStateMismatch Kind = "REFUND_STATE_MISMATCH"
	// DuplicateRefund: the bill has one out_refund_no twice.
	DuplicateRefund Kind = "DUPLICATE_REFUND"

	// OtherDay, 日期不符: a row of the bill is ours, of another day, and too far from
	// midnight for two clocks. The payment is missed in the bill of its own day too.
	OtherDay       Kind = "OTHER_DAY"
	RefundOtherDay Kind = "REFUND_OTHER_DAY"
	// TwoBills, 跨日重复: one number stands in the bills of two days.
	TwoBills       Kind = "IN_TWO_BILLS"
	RefundTwoBills Kind = "REFUND_IN_TWO_BILLS"
)

// Kinds lists all kinds of differences.
func Kinds() []Kind {
	return []Kind{BillOnly, LocalOnly, AmountMismatch, StateMismatch, Duplicate,
		RefundBillOnly, RefundLocalOnly, RefundAmountMismatch, RefundStateMismatch, DuplicateRefund,
		OtherDay, RefundOtherDay, TwoBills, RefundTwoBills}
}

// Label is the kind's name as finance departments and WeChat's own texts have it; a
// kind that is not known is its own label.
func (k Kind) Label() string {
	switch k {
	case BillOnly:
		return "长款"
	case LocalOnly:
		return "短款"
	case AmountMismatch:
		return "金额不符"
	case StateMismatch:
		return "状态不符"
	case Duplicate:
		return "重复"
	case RefundBillOnly:
		return "退款长款"
	case RefundLocalOnly:
		return "退款短款"
	case RefundAmountMismatch:
		return "退款金额不符"
	case RefundStateMismatch:
		return "退款状态不符"
	case DuplicateRefund:
		return "退款重复"
	case OtherDay:
		return "日期不符"
	case RefundOtherDay:
		return "退款日期不符"
	case TwoBills:
		return "跨日重复"
	case RefundTwoBills:
		return "退款跨日重复"
	}
	return string(k)
}

// Bounds of reading our side.
const (
	// oursPage is how many rows of ours a query reads, continued by key: a
	// million rows are fifty short queries instead of one that holds a snapshot for long.
	oursPage = 20_000
	// lookups is how many numbers stand in one IN list, and how many differences in
	// one INSERT: 22 columns of 500 rows stay below the 32,766 parameters of SQLite.
	lookups = 500
)

// tally is one side of the result (payments or refunds) while it is being made: the
// bridge, and the sums of all matched pairs on either side. Their difference must be
// that of the mismatched amounts, which are added up one by one: a second way to the
// same number, by which the bridge is checked.
type tally struct {
	Bridge
	matchedBill, matchedOurs payment.Fen
}

// addAll adds what another partition has counted.
func (t *tally) addAll(o *tally) {
	t.Bridge.addAll(&o.Bridge)
	t.matchedBill += o.matchedBill
	t.matchedOurs += o.matchedOurs
}

// pass is one comparison of the two sides. What it finds is gathered and written, or
// looked up, in batches of lookups: the memory of a pass does not grow with the
// differences of a day, which may be all of its rows when a bill is the wrong one.
type pass struct {
	r   *Reconciler
	run *run
	// from is the first moment of the day, to that of the next.
	from, to time.Time
	// bill and ours are the two sides on disk.
	bill     *spill
	ours     *spill
	payments tally
	refunds  tally
	pending  []Difference // not yet written
	billOnly []item       // not yet looked up under other days
	oursOnly []item
	edges    []pair // matched, not yet looked up in the bills of other days
}

// pair is a row of the bill and the one of ours that it is.
type pair struct{ bill, ours item }

// side is the tally of refunds or of payments.
func (p *pass) side(refund bool) *tally {
	if refund {
		return &p.refunds
	}
	return &p.payments
}

// spillOurs writes our side of the day to disk, page by key, through an index that has
// all that is read.
//
// A page begins after the time and number at which the last one ended. The condition is
// spelled out, and not (paid_at, transaction_id) > (?, ?), because MySQL uses an index
// less fully for a comparison of row constructors (its manual, "Row Constructor
// Expression Optimization").
func (p *pass) spillOurs(ctx context.Context) error {
	if p.run.kind != payment.BillRefund {
		if err := p.page(ctx, false, `SELECT paid_at, transaction_id, amount_fen, outcome
FROM payments
WHERE paid_at >= ?
  AND paid_at < ?
  AND (paid_at > ? OR transaction_id > ?)
ORDER BY paid_at, transaction_id
LIMIT ?`); err != nil {
			return fmt.Errorf("read our payments: %w", err)
		}
	}
	if p.run.kind == payment.BillSuccess {
		return nil
	}
	if err := p.page(ctx, true, `SELECT accepted_at, out_refund_no, amount_fen, state
FROM refunds
WHERE accepted_at >= ?
  AND accepted_at < ?
  AND (accepted_at > ? OR out_refund_no > ?)
ORDER BY accepted_at, out_refund_no
LIMIT ?`); err != nil {
		return fmt.Errorf("read our refunds: %w", err)
	}
	return nil
}

// page reads our rows of a day in pages and writes them to disk. Rows are read as raw bytes: a
// day has a million of them, and a string of each would be the cost of the whole stage.
func (p *pass) page(ctx context.Context, refund bool, query string) error {
	at, after := p.from.UnixMilli(), ""
	side := p.side(refund)
	for {
		n := 0
		err := p.r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			n = 0 // a page that was cut off goes on after its last row
			rows, err := tx.QueryContext(ctx, query, at, p.to.UnixMilli(), at, after, oursPage)
			if err != nil {
				return err
			}
			defer rows.Close()
			var key, state sql.RawBytes
			var amount int64
			for rows.Next() {
				if err := rows.Scan(&at, &key, &amount, &state); err != nil {
					return err
				}
				if refund && string(state) == "held" {
					after = string(key) // a refund of WeChat's that we never asked for is not ours
					n++
					continue
				}
				if err := p.ours.addOurs(refund, key, state, amount, at); err != nil {
					return err
				}
				side.OursCount++
				side.OursFen += payment.Fen(amount)
				after = string(key)
				n++
			}
			return rows.Err()
		})
		if err != nil {
			return err
		}
		p.run.progress("ours", side.OursCount, 0)
		if n < oursPage {
			return nil
		}
	}
}

// sideKey is the number by which a row is matched: a transaction id, or an out_refund_no. The
// two kinds never meet.
type sideKey struct {
	refund bool
	key    string
}

// duplicate counts a second row of the bill under one number.
func (p *pass) duplicate(it *item) {
	p.differ(p.kindOf(it.refund, Duplicate, DuplicateRefund), it, nil, 0)
	p.side(it.refund).Duplicates.add(it.amount)
}

// kindOf picks the kind of a difference for a payment or for a refund.
func (p *pass) kindOf(refund bool, ofPayment, ofRefund Kind) Kind {
	if refund {
		return ofRefund
	}
	return ofPayment
}

// mismatch is what is wrong with a pair, "" for nothing. A row in another currency has no
// amount in fen, and differs from every payment in yuan. What we hold came in that currency
// as the bill has it, and is refunded by its state.
func (p *pass) mismatch(bill, ours *facts, billState, oursState string) Kind {
	foreign := bill.foreign != 0
	switch {
	case foreign && oursState == "held" && bill.foreign == ours.amount:
		return p.kindOf(bill.refund, StateMismatch, RefundStateMismatch)
	case foreign || bill.amount != ours.amount:
		return p.kindOf(bill.refund, AmountMismatch, RefundAmountMismatch)
	case !agree(bill.refund, billState, oursState):
		return p.kindOf(bill.refund, StateMismatch, RefundStateMismatch)
	}
	return ""
}

// agree reports that the two states can be of one thing: WeChat's words of the bill on
// one side, those of payments.outcome and refunds.state on the other. A bill is a
// snapshot: a refund that it calls PROCESSING may have ended since. CHANGE is a refund
// that cannot reach the buyer's account (ABNORMAL in the API); what became of it, we
// know better than the bill.
func agree(refund bool, bill, ours string) bool {
	if !refund {
		return bill == "SUCCESS" && ours != "held"
	}
	switch bill {
	case "PROCESSING":
		return ours != "held"
	case "SUCCESS":
		return ours == "success"
	case "FAIL":
		return ours == "closed"
	case "CHANGE":
		return ours == "abnormal" || ours == "success" || ours == "by_hand" || ours == "processing"
	}
	return false
}

// lookUp asks for what one side alone has: a row of the bill may be ours under another
// day (日切, two clocks at midnight), and one of ours may have been in another day's
// bill. It asks for full batches, and with all for the rest too.
func (p *pass) lookUp(ctx context.Context, all bool) error {
	for len(p.billOnly) >= lookups || all && len(p.billOnly) > 0 {
		n := min(lookups, len(p.billOnly))
		if err := p.elsewhere(ctx, p.billOnly[:n]); err != nil {
			return err
		}
		p.billOnly = slices.Delete(p.billOnly, 0, n)
	}
	for len(p.oursOnly) >= lookups || all && len(p.oursOnly) > 0 {
		n := min(lookups, len(p.oursOnly))
		if err := p.earlier(ctx, p.oursOnly[:n]); err != nil {
			return err
		}
		p.oursOnly = slices.Delete(p.oursOnly, 0, n)
	}
	for len(p.edges) >= lookups || all && len(p.edges) > 0 {
		n := min(lookups, len(p.edges))
		if err := p.twice(ctx, p.edges[:n]); err != nil {
			return err
		}
		p.edges = slices.Delete(p.edges, 0, n)
	}
	return nil
}

// twice finds rows that met in this bill and that the bill of another day has had too.
func (p *pass) twice(ctx context.Context, pairs []pair) error {
	rows := make([]item, len(pairs))
	for i := range pairs {
		rows[i] = pairs[i].ours
	}
	had, err := p.r.findAcross(ctx, rows)
	if err != nil {
		return err
	}
	for i := range pairs {
		b, o := &pairs[i].bill, &pairs[i].ours
		if date := had[sideKey{b.refund, b.key}]; date != p.run.date && p.mayHave(o, date) {
			p.differ(p.kindOf(b.refund, TwoBills, RefundTwoBills), b, o, o.amount)
		}
	}
	return nil
}

// mayHave reports that the bill of another day can have a row of ours by right. A match
// of a program before migration 7 may be of any day: it is not believed.
func (p *pass) mayHave(ours *item, date string) bool {
	return date != "" && (ours.refund || date == p.neighbour(ours.at))
}

// elsewhere finds rows of the bill among ours of any day. Those that two clocks may have
// put on two days are remembered in matched_across, so that the run of their own day does
// not miss them, whichever of the two runs comes first.
func (p *pass) elsewhere(ctx context.Context, rows []item) error {
	known, err := p.r.findOurs(ctx, rows)
	if err != nil {
		return err
	}
	others, err := p.r.otherBusiness(ctx, rows)
	if err != nil {
		return err
	}
	var near []item
	for i := range rows {
		it := &rows[i]
		s := p.side(it.refund)
		ours, ok := known[sideKey{it.refund, it.key}]
		switch {
		case ok && it.again:
			p.duplicate(it)
		case !ok && others[it.line]:
			s.Other.add(it.amount)
		case !ok:
			s.BillOnly.add(it.amount)
			p.differ(p.kindOf(it.refund, BillOnly, RefundBillOnly), it, nil, 0)
		case !p.near(it, &ours):
			s.AcrossBill.add(it.amount)
			p.differ(p.kindOf(it.refund, OtherDay, RefundOtherDay), it, &ours.item, ours.amount)
		default:
			s.AcrossBill.add(it.amount)
			near = append(near, *it)
		}
	}
	return p.across(ctx, near, known)
}

// near reports that the time of a row of the bill can be that of ours, on two clocks.
func (p *pass) near(bill *item, ours *ownRow) bool {
	at, window := bill.at, p.r.cfg.BoundaryWindow.Milliseconds()
	return at+window >= ours.since && at-window <= ours.until
}

// across decides on rows of the bill that are ours, of another day near by. One that a
// bill has had before is in two bills; of the others, amounts and states are compared.
func (p *pass) across(ctx context.Context, near []item, known map[sideKey]ownRow) error {
	if len(near) == 0 {
		return nil
	}
	had, err := p.r.inOtherBills(ctx, p.run, near, known)
	if err != nil {
		return err
	}
	var across []item
	for i := range near {
		it := &near[i]
		ours := known[sideKey{it.refund, it.key}]
		if had[sideKey{it.refund, it.key}] {
			p.differ(p.kindOf(it.refund, TwoBills, RefundTwoBills), it, &ours.item, ours.amount)
			continue
		}
		across = append(across, *it)
		// An amount is of the other day's bridge; here the row is across as a whole.
		if kind := p.mismatch(&it.facts, &ours.facts, it.state, ours.state); kind != "" {
			p.differ(kind, it, &ours.item, ours.amount)
		}
	}
	if !p.run.counts {
		return nil // a file proves nothing to the run of another day
	}
	return p.r.saveAcross(ctx, p.run, across)
}

// earlier finds rows of ours that another day's bill has had.
func (p *pass) earlier(ctx context.Context, rows []item) error {
	had, err := p.r.findAcross(ctx, rows)
	if err != nil {
		return err
	}
	for i := range rows {
		it := &rows[i]
		s := p.side(it.refund)
		if p.mayHave(it, had[sideKey{it.refund, it.key}]) {
			s.AcrossOurs.add(it.amount)
			continue
		}
		if it.refund && it.state == "closed" {
			// WeChat gave it up: a bill need not have it. It is counted as if another
			// bill had it, so that the bridge closes.
			s.AcrossOurs.add(it.amount)
			continue
		}
		s.LocalOnly.add(it.amount)
		p.differ(p.kindOf(it.refund, LocalOnly, RefundLocalOnly), nil, it, it.amount)
	}
	return nil
}

// differ notes a difference; it is written with others. bill or ours is nil where that
// side has no row.
func (p *pass) differ(kind Kind, bill, ours *item, oursFen payment.Fen) {
	d := Difference{Date: p.run.date, Type: p.run.kind, Kind: kind, Status: StatusOpen, OursFen: oursFen}
	if ours != nil {
		d.Ref, d.OursState = ours.key, ours.state
		if bill == nil {
			d.WaitsFor = p.neighbour(ours.at)
		}
	}
	if until, ok := p.r.mayWait(&d, p.run.other); ok {
		d.Status, d.PendingUntil = StatusPending, until
	}
	if bill != nil {
		d.Ref, d.BillFen, d.BillState, d.Line, d.Facts = bill.key, bill.amount, bill.state, bill.line, bill.said()
		d.OutTradeNo, d.TransactionID = d.Facts.OutTradeNo, d.Facts.TransactionID
		d.OrderNo = p.r.cfg.Orders.OrderNoOf(d.Facts.OutTradeNo)
		d.healable = p.r.healable(kind, bill, ours)
	}
	d.ID = idOf(d)
	p.pending = append(p.pending, d)
}

// neighbour gives the day that WeChat Pay may have a row of ours on instead, by its time
// in milliseconds since 1970: the one before or after, near midnight, and "" else.
func (p *pass) neighbour(ms int64) string {
	at := time.UnixMilli(ms)
	switch {
	case at.Sub(p.from) < p.r.cfg.BoundaryWindow:
		return p.from.AddDate(0, 0, -1).Format(time.DateOnly)
	case p.to.Sub(at) < p.r.cfg.BoundaryWindow:
		return p.to.Format(time.DateOnly)
	}
	return ""
}

// flush writes the differences that were found: full batches, and with all the rest
// too. Each batch is a transaction of its own, short enough for the time that InTx has;
// a run that is killed between two is repeated and finds the first ones known.
func (p *pass) flush(ctx context.Context, all bool) error {
	for len(p.pending) >= lookups || all && len(p.pending) > 0 {
		n := min(lookups, len(p.pending))
		if err := p.r.saveDifferences(ctx, p.run, p.pending[:n]); err != nil {
			return err
		}
		p.pending = slices.Delete(p.pending, 0, n)
	}
	return nil
}

// bridge closes both sides to the fen, from sums that were made apart: the
// bill's by its reader, ours by reading our rows, the rest by matching. A bridge
// that does not close is a fault of this package, never a difference: the run
// fails, and nobody is shown a wrong result.
func (p *pass) bridge(t Totals) (payments, refunds Bridge, err error) {
	p.payments.BillCount, p.payments.BillFen = t.Payments, t.PaidFen
	p.refunds.BillCount, p.refunds.BillFen = t.Refunds, t.RefundFen
	for name, s := range map[string]*tally{"payments": &p.payments, "refunds": &p.refunds} {
		b := &s.Bridge
		made := b.OursFen + b.BillOnly.Fen - b.LocalOnly.Fen + b.Amounts.Fen + b.Duplicates.Fen +
			b.AcrossBill.Fen - b.AcrossOurs.Fen + b.Other.Fen
		count := b.OursCount + b.BillOnly.Count - b.LocalOnly.Count + b.Duplicates.Count +
			b.AcrossBill.Count - b.AcrossOurs.Count + b.Other.Count
		if made != b.BillFen || count != b.BillCount || s.matchedBill-s.matchedOurs != b.Amounts.Fen {
			err = errors.Join(err, fmt.Errorf("the bridge of %s does not close: %s yuan in %d rows by matching, "+
				"the bill has %s in %d", name, made, count, b.BillFen, b.BillCount))
		}
	}
	return p.payments.Bridge, p.refunds.Bridge, err
}
