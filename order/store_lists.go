package order

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Lists of orders. Each reads by one index, named in its statement for MySQL's planner, as
// many rows as its page has: the table is of everything that was ever ordered.

// MaxListRange is the longest time of placing in which a list may look through all orders.
const MaxListRange = 31 * 24 * time.Hour

// Filter selects orders, newest first. Zero fields do not select; From is within, To is not.
type Filter struct {
	OrderNo                string
	CustomerID             string
	State                  State
	CreatedFrom, CreatedTo time.Time
	OutTradeNo             string
	TransactionID          string
	OutRefundNo            string
	Reference              string // a shop's number
	Shop                   string // whose back end placed it; no index has it alone: for Reference
	Stuck                  bool   // past its due time by more than StuckAfter
	Limit                  int    // 1–200
	Cursor                 string // order_no of the last one seen

	// No index has these: they need one of the numbers, Reference, CustomerID, or both of Created, at
	// most MaxListRange apart.
	SkuID                string
	AmountMin, AmountMax payment.Fen
	TradeType            payment.TradeType // a trade of it was opened for the order
	PaidFrom, PaidTo     time.Time         // WeChat's time of the payment that made it paid
	ClosedFrom, ClosedTo time.Time         // when it was closed unpaid
}

// numbered reports that the filter names an order, or the trade, payment or refund of one.
func (f *Filter) numbered() bool {
	return f.OrderNo != "" || f.OutTradeNo != "" || f.TransactionID != "" || f.OutRefundNo != ""
}

// check refuses with a *ValidationError what would look through the orders of all times.
func (f *Filter) check() error {
	if f.numbered() || f.CustomerID != "" || f.Reference != "" {
		return nil
	}
	within := !f.CreatedFrom.IsZero() && !f.CreatedTo.IsZero() && f.CreatedTo.Sub(f.CreatedFrom) <= MaxListRange
	var bad invalid
	for _, slow := range []struct {
		given bool
		name  string
	}{
		{f.SkuID != "", "sku_id"}, {f.AmountMin > 0, "amount_min"}, {f.AmountMax > 0, "amount_max"},
		{f.TradeType != "", "trade_type"},
		{!f.PaidFrom.IsZero(), "paid_from"}, {!f.PaidTo.IsZero(), "paid_to"},
		{!f.ClosedFrom.IsZero(), "closed_from"}, {!f.ClosedTo.IsZero(), "closed_to"},
	} {
		if slow.given && !within {
			bad = append(bad, FieldError{"?" + slow.name, "NEEDS_RANGE",
				"no index has it: say with created_from and created_to, at most 31 days apart, when the orders were " +
					"placed, or whose they are with customer_id"})
		}
	}
	if bad == nil {
		return nil
	}
	return &ValidationError{Fields: bad}
}

// listOrders gives up to limit orders, newest first.
func listOrders(ctx context.Context, q querier, f *Filter, now time.Time, limit int) ([]Order, error) {
	query, args := f.query(now, limit)
	var orders []Order
	err := sqldb.Each(ctx, q, query, args, func(rows *sql.Rows) error {
		o, err := scanOrder(rows)
		orders = append(orders, o)
		return err
	})
	return orders, err
}

// query is the statement of a page with its arguments.
func (f *Filter) query(now time.Time, limit int) (string, []any) {
	var w terms
	index := f.byIndex(&w, now)
	f.byRow(&w)
	return `SELECT ` + orderColumns + `
FROM orders /*! FORCE INDEX (` + index + `) */
WHERE ` + strings.Join(w.terms, "\n  AND ") + `
ORDER BY order_no DESC
LIMIT ?`, append(w.args, limit)
}

// terms are those of a WHERE, with their arguments.
type terms struct {
	terms []string
	args  []any
}

// add adds a term where it is wanted.
func (w *terms) add(when bool, term string, args ...any) {
	if when {
		w.terms, w.args = append(w.terms, term), append(w.args, args...)
	}
}

// byIndex adds the terms by which the rows are found, and gives their index. The states at an
// end have no due time (order.due of verify), which leaves their numbers in order in ix_orders_due;
// of the open orders all of a state are read.
func (f *Filter) byIndex(w *terms, now time.Time) (index string) {
	final := f.State != "" && !f.State.waits()
	switch {
	case f.numbered():
		index = "PRIMARY"
		w.add(f.OrderNo != "", "order_no = ?", f.OrderNo)
		w.add(f.OutTradeNo != "", "order_no = ?", OrderNoOf(f.OutTradeNo))
		w.add(f.TransactionID != "", "order_no IN (SELECT order_no FROM payments WHERE transaction_id = ?)",
			f.TransactionID)
		w.add(f.OutRefundNo != "", "order_no IN (SELECT order_no FROM refunds WHERE out_refund_no = ?)", f.OutRefundNo)
	case f.Reference != "":
		index = "u_orders_reference"
	case f.CustomerID != "":
		index = "ix_orders_open"
	case f.State != "":
		index = "ix_orders_due"
		w.add(final, "due_at IS NULL")
	case f.Stuck:
		index = "ix_orders_due"
		w.add(true, "state IN ('pending', 'closing')")
	default:
		index = "PRIMARY"
	}
	w.add(f.Reference != "", "reference = ?", f.Reference)
	w.add(f.Shop != "", "shop = ?", f.Shop)
	w.add(f.State != "", "state = ?", string(f.State))
	w.add(f.CustomerID != "", "customer_id = ?", f.CustomerID)
	w.add(f.Stuck, "due_at < ?", sqldb.Millis(now.Add(-StuckAfter)))
	f.between(w)
	return index
}

// between adds the terms on the time of placing, which is in the number of an order, and on
// the page.
func (f *Filter) between(w *terms) {
	w.add(!f.CreatedFrom.IsZero(), "order_no >= ?", placedAfter(f.CreatedFrom))
	w.add(!f.CreatedTo.IsZero(), "order_no < ?", placedAfter(f.CreatedTo))
	w.add(f.Cursor != "", "order_no < ?", f.Cursor)
	w.add(f.Cursor == "" && f.CreatedTo.IsZero() && !f.numbered() && f.Reference == "", "order_no <= ?", lastOrderNo)
}

// byRow adds the terms that are looked at row by row. They count in a subquery of their own:
// one that MySQL may turn round would read the other table first, whole.
func (f *Filter) byRow(w *terms) {
	w.add(f.AmountMin > 0, "total_fen >= ?", int64(f.AmountMin))
	w.add(f.AmountMax > 0, "total_fen <= ?", int64(f.AmountMax))
	w.add(f.SkuID != "", `(
    SELECT COUNT(*)
    FROM order_items i
    WHERE i.order_no = orders.order_no
      AND i.sku_id = ?) > 0`, f.SkuID)
	w.add(f.TradeType != "", `(
    SELECT COUNT(*)
    FROM payment_attempts a
    WHERE a.order_no = orders.order_no
      AND a.trade_type = ?) > 0`, string(f.TradeType))
	from, to, some := millisRange(f.PaidFrom, f.PaidTo)
	w.add(some, `(
    SELECT COUNT(*)
    FROM payments p
    WHERE p.order_no = orders.order_no
      AND p.outcome = 'applied'
      AND CASE WHEN p.paid_at > 0 THEN p.paid_at ELSE p.received_at END BETWEEN ? AND ?) > 0`, from, to)
	from, to, some = millisRange(f.ClosedFrom, f.ClosedTo)
	w.add(some, `(
    SELECT COUNT(*)
    FROM order_events e
    WHERE e.order_no = orders.order_no
      AND e.from_state IN ('pending', 'closing')
      AND e.to_state = 'closed'
      AND e.at BETWEEN ? AND ?) > 0`, from, to)
}

// millisRange gives the first and the last millisecond from a time and before another, zero
// times for no bound; some is false when there is neither.
func millisRange(from, to time.Time) (first, last int64, some bool) {
	const end = 1 << 53 // after every time that RFC 3339 can say
	last = end
	if !to.IsZero() {
		last = sqldb.Millis(to) - 1
	}
	if !from.IsZero() {
		first = sqldb.Millis(from)
	}
	return first, last, !from.IsZero() || !to.IsZero()
}

// ListStatement gives the statement of a page of a list with its arguments, for EXPLAIN.
func ListStatement(f Filter, now time.Time) (query string, args []any) {
	return f.query(now, pageSize(f.Limit)+1)
}

// TotalLimit is how many orders a total looks at, at most.
const TotalLimit = 10_000

// Total is how many orders a filter means, and what they come to.
type Total struct {
	Count  int64
	Amount payment.Fen
	// Whole reports that these are all: otherwise they are those among the TotalLimit that were looked at.
	Whole bool
}

// totalQuery is the statement of a total with its arguments: what the index finds, up to one more than
// TotalLimit, and how many of that the rest of the filter means.
func (f *Filter) totalQuery(now time.Time) (string, []any) {
	all := *f
	all.Cursor = ""
	var found, meant terms
	index := all.byIndex(&found, now)
	all.byRow(&meant)
	if len(meant.terms) == 0 {
		meant.terms = []string{"1 = 1"}
	}
	return `SELECT COUNT(*), COALESCE(SUM(hit), 0), COALESCE(SUM(hit * total_fen), 0)
FROM (
    SELECT total_fen, CASE WHEN ` + strings.Join(meant.terms, "\n      AND ") + ` THEN 1 ELSE 0 END AS hit
    FROM (
        SELECT order_no, total_fen
        FROM orders /*! FORCE INDEX (` + index + `) */
        WHERE ` + strings.Join(found.terms, "\n          AND ") + `
        LIMIT ?) orders) t`, append(append(meant.args, found.args...), TotalLimit+1)
}

// Total counts and sums the orders of a filter, whatever its page; Shop alone is no filter for it. Errors:
// *ValidationError, database errors.
func (s *Service) Total(ctx context.Context, f Filter) (t Total, err error) {
	if err := f.check(); err != nil {
		return t, err
	}
	query, args := f.totalQuery(s.cfg.Now())
	var looked int64
	if err := s.db.Shown().QueryRowContext(ctx, query, args...).Scan(&looked, &t.Count, &t.Amount); err != nil {
		return t, sqldb.Wrap("count orders", err)
	}
	t.Whole = looked <= TotalLimit
	return t, nil
}

// TotalStatement gives the statement of a total with its arguments, for EXPLAIN.
func TotalStatement(f Filter, now time.Time) (query string, args []any) { return f.totalQuery(now) }

// Selected is what an act on many things needs of an order.
type Selected struct {
	OrderNo string
	Version int64
	Total   payment.Fen
}

// selectQuery is the statement of Select with its arguments: what the index finds, up to one more than most, and of
// that what the rest of the filter means.
func (f *Filter) selectQuery(now time.Time, prepaid bool, most int) (string, []any) {
	all := *f
	all.Cursor = ""
	var found, meant terms
	index := all.byIndex(&found, now)
	all.byRow(&meant)
	meant.add(prepaid, `(
        SELECT COUNT(*)
        FROM payment_attempts a
        WHERE a.order_no = orders.order_no) > 0`)
	meant.add(len(meant.terms) == 0, "1 = 1")
	return `SELECT order_no, version, total_fen, CASE WHEN ` + strings.Join(meant.terms, "\n      AND ") + `
  THEN 1 ELSE 0 END
FROM (
    SELECT order_no, version, total_fen
    FROM orders /*! FORCE INDEX (` + index + `) */
    WHERE ` + strings.Join(found.terms, "\n      AND ") + `
    LIMIT ?) orders
ORDER BY order_no DESC`, append(append(meant.args, found.args...), most+1)
}

// Select gives the orders of a filter, whatever its page, the newest first; with prepaid those alone for which a trade
// was opened. whole is false when the index has more than most, looked at or not: then they are not given. Errors:
// *ValidationError, database errors.
func (s *Service) Select(ctx context.Context, f Filter, prepaid bool, most int) (all []Selected, whole bool,
	err error) {
	if err := f.check(); err != nil {
		return nil, false, err
	}
	query, args := f.selectQuery(s.cfg.Now(), prepaid, most)
	looked := 0
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all, looked = nil, 0 // of a run that was cut off
		return sqldb.Each(ctx, tx, query, args, func(rows *sql.Rows) error {
			var o Selected
			hit := false
			err := rows.Scan(&o.OrderNo, &o.Version, &o.Total, &hit)
			if looked++; hit {
				all = append(all, o)
			}
			return err
		})
	})
	if err != nil {
		return nil, false, sqldb.Wrap("select orders", err)
	}
	if looked > most {
		return nil, false, nil
	}
	return all, true, nil
}

// SelectStatement gives the statement of Select with its arguments, for EXPLAIN.
func SelectStatement(f Filter, now time.Time, most int) (query string, args []any) {
	return f.selectQuery(now, true, most)
}
