package reconcile

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// DayState says in one word where a day of a month stands: a word of the API.
type DayState string

// The states of a day.
const (
	DayBalanced    DayState = "BALANCED"    // reconciled with a bill that counts, nothing open
	DayOpen        DayState = "OPEN"        // reconciled, and differences are open, or wait too long
	DayRunning     DayState = "RUNNING"     // a run is under way
	DayWaiting     DayState = "WAITING"     // WeChat Pay has not made the bill yet
	DayFailed      DayState = "FAILED"      // the last run did not end well
	DayUnconfirmed DayState = "UNCONFIRMED" // it only has a file that nobody has confirmed
	DayMissing     DayState = "MISSING"     // its bill should be out, and nobody has reconciled it
	DayNotDue      DayState = "NOT_DUE"     // its bill is not due yet
	DayBefore      DayState = "BEFORE"      // before our first payment: there is nothing to reconcile
)

// DayStates are all of them.
func DayStates() []DayState {
	return []DayState{DayBalanced, DayOpen, DayRunning, DayWaiting, DayFailed, DayUnconfirmed, DayMissing, DayNotDue,
		DayBefore}
}

// Lacks reports that the sums of a month lack this day although its bill should be in them.
func (s DayState) Lacks() bool {
	switch s {
	case DayRunning, DayWaiting, DayFailed, DayUnconfirmed, DayMissing:
		return true
	case DayBalanced, DayOpen, DayNotDue, DayBefore:
	}
	return false
}

// Figures are what a day or a month comes to. Fees are in 1/100000 yuan, as bills have them.
type Figures struct {
	PaidCount   int64       `json:"paid_count"` // of the bill, as PaidFen
	PaidFen     payment.Fen `json:"paid_fen"`
	RefundCount int64       `json:"refund_count"`
	RefundFen   payment.Fen `json:"refund_fen"`
	// OursPaidFen and OursRefundFen are what our rows have.
	OursPaidFen   payment.Fen `json:"ours_paid_fen"`
	OursRefundFen payment.Fen `json:"ours_refund_fen"`
	FeeX100000    int64       `json:"fee_x100000"`
	// Open and Pending are of all bills of a day in a month, and of the one bill in FiguresOf.
	Open    int64 `json:"open"`
	Pending int64 `json:"pending_next_day"`
}

// BillFen is what the bill comes to: paid less refunded.
func (f *Figures) BillFen() payment.Fen { return f.PaidFen - f.RefundFen }

// OursFen is the same of our rows.
func (f *Figures) OursFen() payment.Fen { return f.OursPaidFen - f.OursRefundFen }

// netX100000 is what is left of the bill after refunds and fees, in 1/100000 yuan.
func (f *Figures) netX100000() int64 { return int64(f.BillFen())*1000 - f.FeeX100000 }

// Fees are the fees in yuan, with the places that they have: two at least, five at most.
func (f *Figures) Fees() string { return places(f.FeeX100000) }

// Net is what is left of the bill after refunds and fees, in yuan, as Fees.
func (f *Figures) Net() string { return places(f.netX100000()) }

// places prints 1/100000 yuan with two to five places.
func places(x100000 int64) string {
	text := decimal(x100000, 5)
	least := strings.IndexByte(text, '.') + len(".00")
	return text[:least] + strings.TrimRight(text[least:], "0")
}

// add adds the money of a day to a month.
func (f *Figures) add(day *Figures) {
	f.PaidCount += day.PaidCount
	f.PaidFen += day.PaidFen
	f.RefundCount += day.RefundCount
	f.RefundFen += day.RefundFen
	f.OursPaidFen += day.OursPaidFen
	f.OursRefundFen += day.OursRefundFen
	f.FeeX100000 += day.FeeX100000
}

// MonthDay is a day of a month. Figures are nil without a result, and where State says that the
// result does not count.
type MonthDay struct {
	Date    string
	State   DayState
	Figures *Figures
	// Open and Pending are the differences of all bills of the day, also where it has no figures.
	Open    int64
	Pending int64
	Problem string   // of the last run
	SHA1    string   // of the bill
	Closing *Closing // the last one, nil for none
}

// Closed reports that somebody has closed the day, and that it stands as it did then.
func (d *MonthDay) Closed() bool { return d.Closing != nil && !d.Closing.Reopened }

// Month is a month of Beijing: each of its days, whether it was reconciled or not.
type Month struct {
	Month string // YYYY-MM
	Days  []MonthDay
	// Sums are those of the days that have figures, and the differences of all days: one of a day that was reconciled
	// early is open too. Missing is how many days they lack, NotDue how many have not come or have no bill yet.
	Sums    Figures
	Missing int
	NotDue  int
	// Closed says that all days from our first payment on are closed, and stand as they did.
	Closed bool
}

// Balanced reports that the sums are whole and nothing is open.
func (m *Month) Balanced() bool { return m.Missing == 0 && m.Sums.Open == 0 }

// monthStart gives the first day of a month of Beijing, or ErrRequest.
func monthStart(month string) (time.Time, error) {
	t, err := time.ParseInLocation("2006-01", month, beijing)
	if err != nil {
		return t, fmt.Errorf("%w: the month %.20q is not YYYY-MM", ErrRequest, month)
	}
	return t, nil
}

// MonthOf gives the month of Beijing that a time falls in, as YYYY-MM.
func MonthOf(t time.Time) string { return t.In(beijing).Format("2006-01") }

// Month gives a month with all of its days, by the bills of all transactions, as of one
// moment. It reads the rows of the month alone, by their keys. Errors: ErrRequest.
func (r *Reconciler) Month(ctx context.Context, month string) (Month, error) {
	from, err := monthStart(month)
	if err != nil {
		return Month{}, err
	}
	first, any, err := r.firstDay(ctx)
	if err != nil {
		return Month{}, err
	}
	r.endWaitingIfCan(ctx)
	var stored map[string]*Stored
	var open map[string]*openOf
	var closings map[string]*Closing
	var now map[string]endings
	err = r.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) (err error) {
		if stored, open, err = storedOf(ctx, v, from); err == nil {
			closings, err = closingsOf(ctx, v, from.AddDate(0, 0, -1), from.AddDate(0, 1, -1))
		}
		if err == nil && len(closings) > 0 {
			now, err = endingsOf(ctx, v, from, from.AddDate(0, 1, -1))
		}
		return err
	})
	if err != nil {
		return Month{}, err
	}
	m := Month{Month: month}
	closed := true
	for day := from; day.Before(from.AddDate(0, 1, 0)); day = day.AddDate(0, 0, 1) {
		d := r.monthDay(day, stored[Day(day)], !any || Day(day) < Day(first))
		if of := open[d.Date]; of != nil {
			d.Open, d.Pending = of.open, of.pending
		}
		if d.Closing = closings[Day(day)]; d.Closing != nil {
			d.Closing.weigh(stored[Day(day)], now[Day(day)], closings[Day(day.AddDate(0, 0, -1))])
		}
		closed = closed && (d.State == DayBefore || d.Closed())
		m.Days = append(m.Days, d)
		m.Sums.Open += d.Open
		m.Sums.Pending += d.Pending
		switch {
		case d.Figures != nil && !d.State.Lacks():
			m.Sums.add(d.Figures)
		case d.State.Lacks():
			m.Missing++
		case d.State == DayNotDue:
			m.NotDue++
		}
	}
	m.Closed = closed && any && Day(first) <= Day(from.AddDate(0, 1, -1))
	return m, nil
}

// monthDay says how a day stands; s is nil without a row, before says that nothing of ours is as
// old.
func (r *Reconciler) monthDay(day time.Time, s *Stored, before bool) MonthDay {
	now := r.cfg.Now()
	d := MonthDay{Date: Day(day), State: DayMissing}
	due := !now.Before(billDue(day))
	switch {
	case !due:
		d.State = DayNotDue
	case before:
		d.State = DayBefore
	}
	if s == nil || s.State == "new" {
		return d
	}
	d.Problem, d.SHA1 = s.Problem, s.SHA1
	if s.Result != nil && s.Counts {
		d.Figures = FiguresOf(s.Result)
	}
	early := s.FinishedAt.Before(day.AddDate(0, 0, 1)) // run before its day was over
	switch {
	case s.State == "running":
		d.State = DayRunning
	case s.State == "waiting":
		d.State = DayWaiting
	case s.State == "failed" || s.Result == nil:
		d.State = DayFailed
	case !s.Counts:
		d.State = DayUnconfirmed
	case early:
		d.Figures = nil
	case s.Result.Open > 0 || s.Result.Waiting(now) > 0:
		d.State = DayOpen
	default:
		d.State = DayBalanced
	}
	if !due && d.State.Lacks() { // whoever asks early finds what is not there yet, and the month lacks nothing
		d.State, d.Figures = DayNotDue, nil
	}
	return d
}

// FiguresOf are the figures of a result.
func FiguresOf(res *Result) *Figures {
	return &Figures{PaidCount: res.Totals.Payments, PaidFen: res.Payments.BillFen, RefundCount: res.Totals.Refunds,
		RefundFen: res.Refunds.BillFen, OursPaidFen: res.Payments.OursFen, OursRefundFen: res.Refunds.OursFen,
		FeeX100000: res.Totals.FeeX100000, Open: res.Open, Pending: res.Pending}
}

// monthStatement reads the bills of all transactions of a month, and openStatement what is open
// of its days, of all their bills, because a day with any of it cannot be closed: along the key, which begins with the
// day, and along what is open, which is little of all that there ever was.
const (
	monthStatement = `SELECT ` + storedColumns + `
FROM reconciliations r /*! FORCE INDEX (PRIMARY) */
WHERE r.bill_date >= ?
  AND r.bill_date <= ?
  AND r.bill_type = 'ALL'`
	openStatement = `SELECT bill_date, status, COUNT(*)
FROM differences /*! FORCE INDEX (ix_differences_status) */
WHERE status IN ('OPEN', 'PENDING_NEXT_DAY')
  AND +bill_date >= ?
  AND +bill_date <= ?
GROUP BY bill_date, status`
)

// openOf is how many differences of a day are open, and wait for the bill of another one.
type openOf struct{ open, pending int64 }

// storedOf reads the bills of all transactions of a month, and what is open now of each of its days, whether it has
// such a bill or not.
func storedOf(ctx context.Context, q sqldb.Reader, from time.Time) (map[string]*Stored, map[string]*openOf, error) {
	all, open := map[string]*Stored{}, map[string]*openOf{}
	days := []any{Day(from), Day(from.AddDate(0, 1, -1))}
	err := sqldb.Each(ctx, q, openStatement, days, func(rows *sql.Rows) error {
		var day string
		var status Status
		var n int64
		err := rows.Scan(&day, &status, &n)
		if open[day] == nil {
			open[day] = &openOf{}
		}
		if status == StatusOpen {
			open[day].open = n
		} else {
			open[day].pending = n
		}
		return err
	})
	if err == nil {
		err = sqldb.Each(ctx, q, monthStatement, days, func(rows *sql.Rows) error {
			s, err := scanStored(rows)
			if s.Result != nil {
				s.Result.Open, s.Result.Pending = 0, 0
				if of := open[s.Date]; of != nil {
					s.Result.Open, s.Result.Pending = of.open, of.pending
				}
			}
			all[s.Date] = &s
			return err
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read a month: %w", err)
	}
	return all, open, nil
}

// AcrossRow is a payment or a refund of ours of one day in the bill of another.
type AcrossRow struct {
	Refund   bool
	Ref      string // transaction id, or out_refund_no
	OrderNo  string
	Amount   payment.Fen
	OwnDate  string // when it was by our row
	BillDate string // whose bill has it
}

// AcrossRows are those of a day, at most acrossShown of each side.
type AcrossRows struct {
	InBill []AcrossRow // in this day's bill, and ours of another day
	Ours   []AcrossRow // ours of this day, and in another day's bill
}

// acrossShown is far more than two clocks put on the wrong side of midnight.
const acrossShown = 200

// Across gives the rows of a day that stand in the bill of another one, both ways. It reads along the
// bills of three days. Errors: ErrRequest.
func (r *Reconciler) Across(ctx context.Context, date string) (AcrossRows, error) {
	day, err := dayStart(date)
	if err != nil {
		return AcrossRows{}, err
	}
	var all AcrossRows
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all = AcrossRows{}
		for _, bill := range []string{Day(day.AddDate(0, 0, -1)), date, Day(day.AddDate(0, 0, 1))} {
			for _, refund := range []bool{false, true} {
				if err := acrossOf(ctx, tx, bill, refund, func(row AcrossRow) {
					switch {
					case bill == date && len(all.InBill) < acrossShown:
						all.InBill = append(all.InBill, row)
					case bill != date && row.OwnDate == date && len(all.Ours) < acrossShown:
						all.Ours = append(all.Ours, row)
					}
				}); err != nil {
					return fmt.Errorf("read rows across midnight: %w", err)
				}
			}
		}
		return nil
	})
	return all, err
}

// acrossOf reads what a bill has of other days.
func acrossOf(ctx context.Context, tx *sqldb.Tx, bill string, refund bool, do func(AcrossRow)) error {
	query := `SELECT m.ref, p.order_no, p.amount_fen, p.paid_at
FROM matched_across m
JOIN payments p ON p.transaction_id = m.ref
WHERE m.bill_date = ?
  AND m.kind = ?
ORDER BY m.ref`
	if refund {
		query = `SELECT m.ref, f.order_no, f.amount_fen, f.accepted_at
FROM matched_across m
JOIN refunds f ON f.out_refund_no = m.ref
WHERE m.bill_date = ?
  AND m.kind = ?
ORDER BY m.ref`
	}
	return sqldb.Each(ctx, tx, query, []any{bill, sideName(refund)}, func(rows *sql.Rows) error {
		row := AcrossRow{Refund: refund, BillDate: bill}
		var at int64
		err := rows.Scan(&row.Ref, &row.OrderNo, &row.Amount, &at)
		row.OwnDate = Day(time.UnixMilli(at))
		do(row)
		return err
	})
}
