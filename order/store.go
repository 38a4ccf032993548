package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// querier is a transaction or the database itself.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

const orderColumns = `order_no, customer_id, state, version, total_fen, remark, attach, placed_cause,
  close_reason, close_tries, created_at, expire_at, due_at, updated_at`

func scanOrder(row interface{ Scan(...any) error }, extra ...any) (Order, error) {
	var o Order
	var created, expire, updated int64
	var due sql.NullInt64
	err := row.Scan(append([]any{&o.OrderNo, &o.CustomerID, &o.State, &o.Version, &o.Total, &o.Remark, &o.Attach, &o.PlacedCause,
		&o.CloseReason, &o.CloseTries, &created, &expire, &due, &updated}, extra...)...)
	o.CreatedAt, o.ExpireAt, o.UpdatedAt = fromMS(created), fromMS(expire), fromMS(updated)
	if due.Valid {
		o.DueAt = fromMS(due.Int64)
	}
	return o, err
}

// fromMS gives the zero time for 0.
func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// toMS gives 0 for the zero time.
func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// insertOrders writes the fresh members of a batch and their items, in the order
// of their numbers, so that rows go to the end of the primary key.
func insertOrders(ctx context.Context, tx *sqldb.Tx, batch []placing, outcomes []sqldb.Outcome[Placed], fresh []int) error {
	sort.Slice(fresh, func(i, j int) bool { return batch[fresh[i]].orderNo < batch[fresh[j]].orderNo }) // not slices: its code is large
	const cols, itemCols = 12, 5                                                                        // state, version and what only a close writes have their defaults
	args := make([]any, 0, cols*len(fresh))
	items := make([]any, 0, itemCols*len(fresh))
	for _, i := range fresh {
		p, o := &batch[i], &outcomes[i].Answer.Order
		var no, created any = o.OrderNo, toMS(o.CreatedAt) // made into an any once, not six times
		args = append(args, no, o.CustomerID, p.RequestID, p.hash, int64(o.Total),
			o.Remark, o.Attach, o.PlacedCause, created, toMS(o.ExpireAt), toMS(o.DueAt), created)
		for _, it := range o.Items {
			items = append(items, no, int64(it.LineNo), it.SkuID, it.Quantity, int64(it.UnitPrice))
		}
	}
	err := tx.InsertRows(ctx, `INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, total_fen,
   remark, attach, placed_cause, created_at, expire_at, due_at, updated_at)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert orders: %w", err)
	}
	err = tx.InsertRows(ctx, `INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
VALUES`, itemCols, items)
	if err != nil {
		return fmt.Errorf("insert order items: %w", err)
	}
	return nil
}

// findPlaced finds the orders that were placed under the keys of the batch, as
// they were at their placement.
func findPlaced(ctx context.Context, tx *sqldb.Tx, batch []placing) (map[requestKey]placedBefore, error) {
	known := map[requestKey]placedBefore{}
	keys := map[string]requestKey{} // by order number
	args := make([]any, 0, 2*len(batch))
	for i := range batch {
		args = append(args, batch[i].CustomerID, batch[i].RequestID)
	}
	where := strings.TrimSuffix(strings.Repeat("(customer_id = ? AND request_id = ?) OR ", len(batch)), " OR ")
	rows, err := tx.QueryContext(ctx, `SELECT `+orderColumns+`, request_id, request_hash
FROM orders
WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("find repeated placements: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var request, hash string
		o, err := scanOrder(rows, &request, &hash)
		if err != nil {
			return nil, fmt.Errorf("find repeated placements: %w", err)
		}
		key := requestKey{o.CustomerID, request}
		known[key], keys[o.OrderNo] = placedBefore{order: asPlaced(o), hash: hash}, key
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(known) == 0 {
		return known, err
	}
	items, err := findItems(ctx, tx, slices.Collect(keysOf(keys)))
	if err != nil {
		return nil, err
	}
	for no, key := range keys {
		before := known[key]
		before.order.Items = items[no]
		known[key] = before
	}
	return known, nil
}

// findOpen counts the unpaid orders of the customers of a batch: nil when they
// are not limited.
func (s *Service) findOpen(ctx context.Context, tx *sqldb.Tx, batch []placing) (opened, error) {
	if s.cfg.MaxOpenOrders <= 0 {
		return nil, nil
	}
	who := make([]string, len(batch))
	for i := range batch {
		who[i] = batch[i].CustomerID
	}
	slices.Sort(who)
	who = slices.Compact(who)
	args := append(sqldb.Args(who), placedAfter(batch[0].at.Add(-max(openHorizon, 2*s.cfg.PayWithin))))
	// Forced: guessing at every customer's rows to choose an index takes MariaDB
	// as long as reading them.
	open := opened{}
	err := sqldb.Each(ctx, tx, `SELECT customer_id, COUNT(*), MIN(due_at)
FROM orders /*! FORCE INDEX (ix_orders_open) */
WHERE customer_id IN (`+sqldb.In(len(who))+`)
  AND order_no > ?
  AND due_at > 0
GROUP BY customer_id`, args, func(rows *sql.Rows) error {
		var id string
		var has openOrders
		var first int64
		err := rows.Scan(&id, &has.count, &first)
		has.first = fromMS(first)
		open[id] = has
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count unpaid orders: %w", err)
	}
	return open, nil
}

// openHorizon bounds the orders that are looked at for unpaid ones: a customer
// with thousands of old orders places as fast as a new one. What is unpaid for
// longer waits for WeChat Pay, not for its buyer.
const openHorizon = 24 * time.Hour

// placedAfter is below every order number that is given at or after t.
func placedAfter(t time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(t)) // cannot fail before the year 10889
	return id.String()
}

func keysOf[K comparable, V any](m map[K]V) func(yield func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// asPlaced takes an order back to its first moment, so that a repeated request
// gets the answer of the first one.
func asPlaced(o Order) Order {
	o.State, o.Version, o.CloseReason, o.CloseTries, o.UpdatedAt = StatePending, 1, "", 0, o.CreatedAt
	return o
}

// findItems gives the items of orders by order number.
func findItems(ctx context.Context, q querier, orderNos []string) (map[string][]Item, error) {
	all := make(map[string][]Item, len(orderNos))
	if len(orderNos) == 0 {
		return all, nil
	}
	rows, err := q.QueryContext(ctx, `SELECT order_no, line_no, sku_id, quantity, price_fen
FROM order_items
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no, line_no`, sqldb.Args(orderNos)...)
	if err != nil {
		return nil, fmt.Errorf("find order items: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var no string
		var it Item
		if err := rows.Scan(&no, &it.LineNo, &it.SkuID, &it.Quantity, &it.UnitPrice); err != nil {
			return nil, fmt.Errorf("find order items: %w", err)
		}
		all[no] = append(all[no], it)
	}
	return all, rows.Err()
}

// findAttempts gives the WeChat orders of orders, of each the oldest first.
func findAttempts(ctx context.Context, q querier, orderNos ...string) ([]Attempt, error) {
	rows, err := q.QueryContext(ctx, `SELECT out_trade_no, order_no, attempt_no, state, trade_type, description, attach, notify_url,
  time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at
FROM payment_attempts
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no, attempt_no`, sqldb.Args(orderNos)...)
	if err != nil {
		return nil, sqldb.Wrap("find payment attempts", err)
	}
	defer rows.Close()
	var all []Attempt
	for rows.Next() {
		var a Attempt
		var answer string
		var called, answered int64
		if err := rows.Scan(&a.OutTradeNo, &a.OrderNo, &a.No, &a.State, &a.TradeType, &a.Description, &a.Attempt.Attach, &a.NotifyURL,
			&a.TimeExpire, &a.Amount, &a.OpenID, &a.ClientIP, &a.H5Type, &answer, &called, &answered); err != nil {
			return nil, sqldb.Wrap("find payment attempts", err)
		}
		if answer != "" {
			if err := json.Unmarshal([]byte(answer), &a.Answer); err != nil {
				return nil, fmt.Errorf("stored answer of attempt %s: %w", a.OutTradeNo, err)
			}
		}
		a.CalledAt, a.AnsweredAt = fromMS(called), fromMS(answered)
		all = append(all, a)
	}
	return all, rows.Err()
}

func insertAttempt(ctx context.Context, tx *sqldb.Tx, a Attempt) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO payment_attempts
  (out_trade_no, order_no, attempt_no, state, trade_type, description, attach, notify_url,
   time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at)
VALUES (`+sqldb.In(16)+`)`,
		a.OutTradeNo, a.OrderNo, a.No, string(a.State), string(a.TradeType), a.Description, a.Attempt.Attach, a.NotifyURL,
		a.TimeExpire, int64(a.Amount), a.OpenID, a.ClientIP, a.H5Type, "", toMS(a.CalledAt), 0)
	if err != nil {
		return fmt.Errorf("insert payment attempt: %w", err)
	}
	return nil
}

// setAttempt writes the state of an attempt, and its answer when there is one.
func setAttempt(ctx context.Context, tx *sqldb.Tx, a Attempt) error {
	answer := ""
	if a.Answer != (payment.Prepaid{}) {
		b, err := json.Marshal(a.Answer)
		if err != nil {
			return fmt.Errorf("encode the answer of attempt %s: %w", a.OutTradeNo, err)
		}
		answer = string(b)
	}
	n, err := tx.Update(ctx, `UPDATE payment_attempts
SET state = ?, answer = ?, called_at = ?, answered_at = ?
WHERE out_trade_no = ?
  AND state <> 'closed'`, string(a.State), answer, toMS(a.CalledAt), toMS(a.AnsweredAt), a.OutTradeNo)
	if err != nil {
		return fmt.Errorf("update payment attempt: %w", err)
	}
	if n != 1 {
		return fmt.Errorf("attempt %s is closed or gone: %w", a.OutTradeNo, ErrNotFound)
	}
	return nil
}
