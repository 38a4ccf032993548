package order

import (
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
)

// All statements of this package on the table orders.

// querier is a transaction or the database itself.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// orderColumns are the columns that scanOrder reads, in its order.
const orderColumns = `order_no, customer_id, state, version, total_fen, remark, attach, placed_cause,
  close_reason, close_tries, created_at, expire_at, due_at, updated_at, shop, reference`

// scanOrder reads orderColumns, and what a query selects beside them.
func scanOrder(row interface{ Scan(...any) error }, extra ...any) (Order, error) {
	var o Order
	var created, expire, updated int64
	var due sql.NullInt64
	var reference sql.NullString
	err := row.Scan(append([]any{&o.OrderNo, &o.CustomerID, &o.State, &o.Version, &o.Total, &o.Remark, &o.Attach,
		&o.PlacedCause, &o.CloseReason, &o.CloseTries, &created, &expire, &due, &updated, &o.Shop, &reference},
		extra...)...)
	o.Reference = reference.String
	o.CreatedAt, o.UpdatedAt = sqldb.FromMillis(created), sqldb.FromMillis(updated)
	o.ExpireAt = sqldb.FromMillis(expire)
	if due.Valid {
		o.DueAt = sqldb.FromMillis(due.Int64)
	}
	return o, err
}

// lockOrders reads orders in ascending order and locks them until the
// transaction ends. Numbers that do not exist are left out.
func lockOrders(ctx context.Context, tx *sqldb.Tx, orderNos []string) (map[string]*entry, error) {
	entries := make(map[string]*entry, len(orderNos))
	if len(orderNos) == 0 {
		return entries, nil
	}
	err := sqldb.Each(ctx, tx, `SELECT `+orderColumns+`
FROM orders /*! FORCE INDEX (PRIMARY) */
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no
FOR UPDATE`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		o, err := scanOrder(rows)
		entries[o.OrderNo] = &entry{before: o, after: o}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lock orders: %w", err)
	}
	return entries, nil
}

// updateOrders takes orders one step and gives the number of rows that it found
// as the step believes them. Only batch.writeOrders calls it: it is the one
// statement that changes the state of an order.
func updateOrders(ctx context.Context, tx *sqldb.Tx, st *step, orderNos []string) (int64, error) {
	query := "UPDATE orders\nSET state = ?, version = version + ?, close_tries = close_tries + ?"
	args := []any{string(st.to), st.versions, st.tries}
	add := func(when bool, text string, values ...any) {
		if when {
			query, args = query+text, append(args, values...)
		}
	}
	add(st.setDue, ", due_at = ?", sql.NullInt64{Int64: st.due, Valid: st.due != 0})
	add(st.reason != "", ", close_reason = ?", string(st.reason))
	add(st.updated != 0, ", updated_at = ?", st.updated)
	add(true, "\nWHERE state = ?", string(st.from))
	add(st.believed, "\n  AND version = ?\n  AND updated_at <= ?", st.version, st.now)
	add(st.believed && st.asked >= 0, "\n  AND close_tries = ?\n  AND due_at <= ?", st.asked, st.now)
	add(true, "\n  AND order_no IN ("+sqldb.In(len(orderNos))+")", sqldb.Args(orderNos)...)
	n, err := tx.Update(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("write the state of %d orders: %w", len(orderNos), err)
	}
	return n, nil
}

// holdPending makes sure that an order is pending and stays so until the
// transaction ends: the guarded UPDATE conflicts with every change of state. The
// state itself stays. From here on the order may be paid, and stands in line for its
// close before those that never could.
func holdPending(ctx context.Context, tx *sqldb.Tx, orderNo string, now time.Time) error {
	n, err := tx.Update(ctx, `UPDATE orders
SET updated_at = ?, prepaid = 1
WHERE order_no = ?
  AND state = 'pending'`, sqldb.Millis(now), orderNo)
	if err != nil {
		return fmt.Errorf("hold the order: %w", err)
	}
	if n != 1 {
		return sqldb.ErrLostRace
	}
	return nil
}

// insertOrders writes the fresh members of a batch and their items, in the order
// of their numbers, so that rows go to the end of the primary key. State and
// version have their defaults: pending, 1.
func insertOrders(ctx context.Context, tx *sqldb.Tx, batch []placing, outcomes []sqldb.Outcome[Placed],
	fresh []int) error {
	// Package sort: an instance of slices.SortFunc is 20 kB of binary here.
	sort.Slice(fresh, func(i, j int) bool { return batch[fresh[i]].orderNo < batch[fresh[j]].orderNo })
	const cols = 14
	args := make([]any, 0, cols*len(fresh))
	items := make([]any, 0, itemColumns*len(fresh))
	for _, i := range fresh {
		p, o := &batch[i], &outcomes[i].Answer.Order
		var no, created any = o.OrderNo, sqldb.Millis(o.CreatedAt) // made into an any once, not six times
		args = append(args, no, o.CustomerID, p.RequestID, p.hash, int64(o.Total),
			o.Remark, o.Attach, o.PlacedCause, created, sqldb.Millis(o.ExpireAt), sqldb.Millis(o.DueAt), created,
			o.Shop, sql.NullString{String: o.Reference, Valid: o.Reference != ""}) // orders without one are not alike
		items = appendItems(items, no, o.Items)
	}
	err := tx.InsertRows(ctx, `INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, total_fen,
   remark, attach, placed_cause, created_at, expire_at, due_at, updated_at, shop, reference)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert orders: %w", err)
	}
	return insertItems(ctx, tx, items)
}

// lockPlaced gives the keys of these members of a batch that orders were placed
// under. Under a lock, it waits for a row that a neighbour has inserted and not
// committed; the index holds all that is read, so that it does not wait for
// whoever changes the order. A key that nobody has is not locked (READ COMMITTED
// takes no gap locks). SQLite has one writer, and so nothing to wait for.
func lockPlaced(ctx context.Context, tx *sqldb.Tx, batch []placing, members []int) (map[requestKey]bool, error) {
	var taken map[requestKey]bool // most often nothing is
	args := make([]any, 0, 2*len(members))
	for _, i := range members {
		args = append(args, batch[i].CustomerID, batch[i].RequestID)
	}
	lock := "\n/*! LOCK IN SHARE MODE */"
	if tx.TiDB() { // which refuses to share (1235)
		lock = "\nFOR UPDATE"
	} else if tx.NoWait() { // MariaDB and MySQL have no common words for it; neither runs the other's
		lock = "\n/*M! LOCK IN SHARE MODE NOWAIT */ /*!80000 FOR SHARE NOWAIT */"
	}
	err := sqldb.Each(ctx, tx, `SELECT customer_id, request_id
FROM orders /*! FORCE INDEX (u_orders_request) */
WHERE `+byRequest(len(members))+lock, args, func(rows *sql.Rows) error {
		var k requestKey
		err := rows.Scan(&k.customerID, &k.requestID)
		if taken == nil {
			taken = map[requestKey]bool{}
		}
		taken[k] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for refused placements: %w", err)
	}
	return taken, nil
}

// byRequest is the condition for n keys of placements.
func byRequest(n int) string {
	return strings.TrimSuffix(strings.Repeat("(customer_id = ? AND request_id = ?) OR ", n), " OR ")
}

// findPlaced finds the orders that were placed under the keys of the batch, as
// they were at their placement.
func findPlaced(ctx context.Context, tx *sqldb.Tx, batch []placing) (map[requestKey]placedBefore, error) {
	known := map[requestKey]placedBefore{}
	args := make([]any, 0, 2*len(batch))
	for i := range batch {
		args = append(args, batch[i].CustomerID, batch[i].RequestID)
	}
	err := sqldb.Each(ctx, tx, `SELECT `+orderColumns+`, request_id, request_hash
FROM orders
WHERE `+byRequest(len(batch)), args, func(rows *sql.Rows) error {
		var request, hash string
		o, err := scanOrder(rows, &request, &hash)
		known[requestKey{o.CustomerID, request}] = placedBefore{order: asPlaced(o), hash: hash}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find repeated placements: %w", err)
	}
	nos := make([]string, 0, len(known))
	for _, before := range known {
		nos = append(nos, before.order.OrderNo)
	}
	items, err := findItems(ctx, tx, nos)
	if err != nil {
		return nil, err
	}
	for key, before := range known {
		before.order.Items = items[before.order.OrderNo]
		known[key] = before
	}
	return known, nil
}

// findReferences gives the orders that have the references of these members of a batch, as of those
// that are committed.
func findReferences(ctx context.Context, tx *sqldb.Tx, batch []placing) (map[shopReference]string, error) {
	taken := map[shopReference]string{}
	var args []any
	for i := range batch {
		if p := &batch[i]; p.Reference != "" {
			args = append(args, p.Reference, p.Shop)
		}
	}
	if len(args) == 0 {
		return taken, nil
	}
	err := sqldb.Each(ctx, tx, `SELECT shop, reference, order_no
FROM orders /*! FORCE INDEX (u_orders_reference) */
WHERE `+strings.TrimSuffix(strings.Repeat("(reference = ? AND shop = ?) OR ", len(args)/2), " OR "), args,
		func(rows *sql.Rows) error {
			var of shopReference
			var no string
			err := rows.Scan(&of.shop, &of.reference, &no)
			taken[of] = no
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("find orders by the shop's number: %w", err)
	}
	return taken, nil
}

// openHorizon is for how long after its placement an unpaid order counts, at least: twice
// the time to pay where that is more, and all of the longest that a shop may give. It bounds
// the orders that are looked at, so that a customer with thousands of old orders places as fast
// as a new one. What is unpaid for
// longer waits for WeChat Pay, not for its buyer; it holds its stock all the same.
const openHorizon = 24 * time.Hour

// findOpen counts the unpaid orders of customers that were placed since a time.
func findOpen(ctx context.Context, tx *sqldb.Tx, customers []string, since time.Time) (openOrders, error) {
	// The index is forced: guessing at every customer's rows to choose one takes
	// MariaDB as long as reading them.
	open := openOrders{}
	err := sqldb.Each(ctx, tx, `SELECT customer_id, COUNT(*), MIN(due_at)
FROM orders /*! FORCE INDEX (ix_orders_open) */
WHERE customer_id IN (`+sqldb.In(len(customers))+`)
  AND order_no > ?
  AND due_at > 0
GROUP BY customer_id`, append(sqldb.Args(customers), placedAfter(since)), func(rows *sql.Rows) error {
		var id string
		var has openCount
		var first int64
		err := rows.Scan(&id, &has.count, &first)
		has.first = sqldb.FromMillis(first)
		open[id] = has
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count unpaid orders: %w", err)
	}
	return open, nil
}

// findOpenUnits adds to open the units that those orders hold, by SKU.
func findOpenUnits(ctx context.Context, tx *sqldb.Tx, open openOrders, since time.Time) error {
	who := slices.Sorted(maps.Keys(open))
	err := sqldb.Each(ctx, tx, `SELECT o.customer_id, i.sku_id, SUM(i.quantity)
FROM orders o /*! FORCE INDEX (ix_orders_open) */
JOIN order_items i ON i.order_no = o.order_no
WHERE o.customer_id IN (`+sqldb.In(len(who))+`)
  AND o.order_no > ?
  AND o.due_at > 0
GROUP BY o.customer_id, i.sku_id`, append(sqldb.Args(who), placedAfter(since)), func(rows *sql.Rows) error {
		var id, sku string
		var n int64
		err := rows.Scan(&id, &sku, &n)
		has := open[id]
		if has.units == nil {
			has.units = map[string]int64{}
		}
		has.units[sku] = n
		open[id] = has
		return err
	})
	if err != nil {
		return fmt.Errorf("count the units of unpaid orders: %w", err)
	}
	return nil
}

// newestOrderNo gives the number of the order that was placed last, which holds
// its time.
func newestOrderNo(ctx context.Context, q querier) (no string, err error) {
	err = q.QueryRowContext(ctx, "SELECT order_no FROM orders ORDER BY order_no DESC LIMIT 1").Scan(&no)
	return no, err
}

// findOrder reads the row of one order. ErrNotFound when there is none.
func findOrder(ctx context.Context, q querier, orderNo string) (Order, error) {
	o, err := scanOrder(q.QueryRowContext(ctx, `SELECT `+orderColumns+`
FROM orders
WHERE order_no = ?`, orderNo))
	if errors.Is(err, sql.ErrNoRows) {
		return Order{}, ErrNotFound
	}
	return o, err
}

// findDueOrders gives up to limit orders of a state that are due after a place
// and by until.
func findDueOrders(ctx context.Context, tx *sqldb.Tx, state State, after DueCursor, until time.Time,
	limit int) ([]Due, error) {
	return scanDueOrders(ctx, tx, state, dueQuery{
		"SELECT order_no, version, due_at, close_tries FROM orders WHERE state = ?",
		[]any{string(state)}, "order_no"}, after, until, limit)
}

// findWaiting gives up to limit closing orders that are due after a place and by until,
// either those that a prepay was sent for or the others, by ix_orders_line.
func findWaiting(ctx context.Context, tx *sqldb.Tx, prepaid bool, after DueCursor, until time.Time,
	limit int) ([]Due, error) {
	which := 0
	if prepaid {
		which = 1
	}
	return scanDueOrders(ctx, tx, StateClosing, dueQuery{
		"SELECT order_no, version, due_at, close_tries FROM orders /*! FORCE INDEX (ix_orders_line) */\n" +
			"WHERE state = 'closing'\n  AND prepaid = ?",
		[]any{which}, "order_no"}, after, until, limit)
}

// unnoted is an open order, and whether a prepay was sent for it of which something that
// a prepay notes is missing.
type unnoted struct {
	at      DueCursor
	unnoted bool
}

// findUnnoted gives up to limit orders of a state that a prepay was noted for, or was
// not, and that are due after a place and by until, by ix_orders_line.
func findUnnoted(ctx context.Context, tx *sqldb.Tx, state State, prepaid bool, after DueCursor, until time.Time,
	limit int) ([]unnoted, error) {
	which, missing := 0, ""
	if prepaid {
		which, missing = 1, "\n    AND a.state = 'live' AND a.ask_at IS NULL"
	}
	var page []unnoted
	err := eachDue(ctx, tx, dueQuery{`SELECT order_no, due_at, EXISTS (
    SELECT 1 FROM payment_attempts a WHERE a.order_no = orders.order_no` + missing + `)
FROM orders /*! FORCE INDEX (ix_orders_line) */
WHERE state = ?
  AND prepaid = ?`, []any{string(state), which}, "order_no"}, after, until, limit, func(rows *sql.Rows) error {
		var o unnoted
		var at int64
		err := rows.Scan(&o.at.Key, &at, &o.unnoted)
		o.at.At = sqldb.FromMillis(at)
		page = append(page, o)
		return err
	})
	return page, err
}

// setPrepaid locks those of the orders that are open, notes that they may be paid, and
// gives the pending ones.
func setPrepaid(ctx context.Context, tx *sqldb.Tx, orderNos []string) (pending []string, err error) {
	var open []string
	err = sqldb.Each(ctx, tx, `SELECT order_no, state
FROM orders /*! FORCE INDEX (PRIMARY) */
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
  AND state IN ('pending', 'closing')
ORDER BY orders.order_no
FOR UPDATE`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no string
		var state State
		err := rows.Scan(&no, &state)
		open = append(open, no)
		if state == StatePending {
			pending = append(pending, no)
		}
		return err
	})
	if err != nil || len(open) == 0 {
		return nil, err
	}
	_, err = tx.Update(ctx, `UPDATE orders
SET prepaid = 1
WHERE prepaid = 0
  AND order_no IN (`+sqldb.In(len(open))+`)`, sqldb.Args(open)...)
	return pending, err
}

// scanDueOrders reads a query of orders of a state.
func scanDueOrders(ctx context.Context, tx *sqldb.Tx, state State, what dueQuery, after DueCursor, until time.Time,
	limit int) ([]Due, error) {
	var due []Due
	err := eachDue(ctx, tx, what, after, until, limit, func(rows *sql.Rows) error {
		d := Due{State: state}
		var at int64
		err := rows.Scan(&d.Key, &d.Version, &at, &d.Tries)
		d.At = sqldb.FromMillis(at)
		due = append(due, d)
		return err
	})
	return due, err
}

// dueQuery is a query of what is due: it ends in a WHERE with a term, and key is
// the column that tells rows of the same due_at apart.
type dueQuery struct {
	query string
	args  []any
	key   string
}

// eachDue gives up to limit rows of a query that are due after a place and by
// until, in the order of (due_at, key). It asks for the rest of the place's
// millisecond, and then for what is due later. Asked for in one query, a database
// finds the place by the time alone and reads past all rows of that millisecond,
// for every page of a herd.
func eachDue(ctx context.Context, tx *sqldb.Tx, what dueQuery, after DueCursor, until time.Time, limit int,
	row func(*sql.Rows) error) error {
	from, to := sqldb.Millis(after.At), sqldb.Millis(until)
	for _, part := range []struct {
		where string
		args  []any
	}{
		{"due_at = ? AND " + what.key + " > ?", []any{from, after.Key}},
		{"due_at > ? AND due_at <= ?", []any{from, to}},
	} {
		if limit <= 0 || from > to {
			break
		}
		args := append(append(slices.Clone(what.args), part.args...), limit)
		if err := sqldb.Each(ctx, tx, what.query+`
  AND `+part.where+`
ORDER BY due_at, `+what.key+`
LIMIT ?`, args, func(rows *sql.Rows) error {
			limit--
			return row(rows)
		}); err != nil {
			return err
		}
	}
	return nil
}

// countOpen counts the open orders by state, and those that were due before now,
// through the index on the due time. An open order without one is counted: verify finds
// it (order.due).
func countOpen(ctx context.Context, q querier, now time.Time,
	row func(state State, orders, overdue int64, oldest time.Time)) error {
	return sqldb.Each(ctx, q, `SELECT state, COUNT(*), SUM(CASE WHEN due_at < ? THEN 1 ELSE 0 END),
  COALESCE(MIN(due_at), 0)
FROM orders
WHERE state IN ('pending', 'closing')
GROUP BY state`, []any{sqldb.Millis(now)}, func(rows *sql.Rows) error {
		var st State
		var n, overdue, oldest int64
		if err := rows.Scan(&st, &n, &overdue, &oldest); err != nil {
			return err
		}
		row(st, n, overdue, sqldb.FromMillis(oldest))
		return nil
	})
}

// overdueQuery gives the orders of a state that were due before a time, no more than so many.
const overdueQuery = `SELECT order_no
FROM orders /*! FORCE INDEX (ix_orders_due) */
WHERE state = ?
  AND due_at < ?
ORDER BY due_at
LIMIT ?`

// countOverdue counts what overdueQuery gives.
func countOverdue(ctx context.Context, q querier, state State, now time.Time, most int64) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*)
FROM (`+overdueQuery+`) late`, string(state), sqldb.Millis(now), most).Scan(&n)
	return n, err
}

// countByMinute counts the open orders that are due by until, by the minute of
// their due time and by state; the zero time stands for everything before now.
func countByMinute(ctx context.Context, q querier, now, until time.Time,
	row func(minute time.Time, state State, orders int64)) error {
	return countDue(ctx, q, "due_at - due_at % 60000", now, until, row)
}

// countBySecond is countByMinute by the second in which the orders are taken: that of their due
// time, rounded up.
func countBySecond(ctx context.Context, q querier, now, until time.Time,
	row func(second time.Time, state State, orders int64)) error {
	return countDue(ctx, q, "due_at + 999 - (due_at + 999) % 1000", now, until, row)
}

// countDue counts the open orders that are due by until, by a time in milliseconds that SQL makes
// of their due time, and by state; the zero time stands for everything before now.
func countDue(ctx context.Context, q querier, rounded string, now, until time.Time,
	row func(from time.Time, state State, orders int64)) error {
	return sqldb.Each(ctx, q, `SELECT CASE WHEN due_at < ? THEN 0 ELSE `+rounded+` END AS due_from,
  state, COUNT(*)
FROM orders
WHERE state IN ('pending', 'closing')
  AND due_at <= ?
GROUP BY due_from, state
ORDER BY due_from, state`, []any{sqldb.Millis(now), sqldb.Millis(until)}, func(rows *sql.Rows) error {
		var from, n int64
		var state State
		if err := rows.Scan(&from, &state, &n); err != nil {
			return err
		}
		row(sqldb.FromMillis(from), state, n)
		return nil
	})
}

// placedQuery reads what became of the orders placed from a time on, newest first.
const placedQuery = `SELECT order_no, state, close_reason
FROM orders /*! FORCE INDEX (PRIMARY) */
WHERE order_no >= ?
  AND order_no <= ?
ORDER BY order_no DESC
LIMIT ?`

// eachPlaced gives up to limit orders placed from a time on, newest first.
func eachPlaced(ctx context.Context, q querier, from time.Time, limit int,
	row func(at time.Time, state State, why CloseReason)) error {
	return sqldb.Each(ctx, q, placedQuery, []any{placedAfter(from), lastOrderNo, limit}, func(rows *sql.Rows) error {
		var no string
		var state State
		var why CloseReason
		if err := rows.Scan(&no, &state, &why); err != nil {
			return err
		}
		row(timeOf(no), state, why)
		return nil
	})
}

// findVersions reads the versions of those orders that are there.
func findVersions(ctx context.Context, q sqldb.Querier, orderNos []string) (map[string]int64, error) {
	versions := make(map[string]int64, len(orderNos))
	if len(orderNos) == 0 {
		return versions, nil
	}
	err := sqldb.Each(ctx, q, `SELECT order_no, version
FROM orders
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no string
		var version int64
		err := rows.Scan(&no, &version)
		versions[no] = version
		return err
	})
	return versions, err
}

// findEndedOrders gives those of the orders that have ended. An open one without a due
// time is damaged.
func findEndedOrders(ctx context.Context, q querier, orderNos []string) ([]string, error) {
	return findKeys(ctx, q, `SELECT order_no
FROM orders
WHERE due_at IS NULL
  AND state NOT IN ('pending', 'closing')
  AND order_no IN (`+sqldb.In(len(orderNos))+`)`, orderNos)
}

// findKeys runs a query that gives one column of those of the keys that it selects.
func findKeys(ctx context.Context, q querier, query string, keys []string) (found []string, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	err = sqldb.Each(ctx, q, query, sqldb.Args(keys), func(rows *sql.Rows) error {
		var key string
		err := rows.Scan(&key)
		found = append(found, key)
		return err
	})
	return found, err
}
