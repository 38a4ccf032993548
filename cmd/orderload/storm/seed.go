package storm

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"orderd/cmd/orderload/bench"
)

// seed fills an empty MariaDB with the crowd, its stock and its flows, so that every
// invariant holds. MariaDB makes the rows: a million take seconds, where placing them
// would take minutes.
func (c crowd) seed(ctx context.Context, db *sql.DB) error {
	begin := time.Now()
	if err := c.seedStock(ctx, db); err != nil {
		return fmt.Errorf("seed the stock: %w", err)
	}
	for from := 1; from <= c.n; from += seedPiece {
		if err := c.seedOrders(ctx, db, from, min(from+seedPiece-1, c.n)); err != nil {
			return fmt.Errorf("seed orders from %d: %w", from, err)
		}
		bench.Progress.Show("seeding %d of %d, %.0f s", min(from+seedPiece-1, c.n), c.n, time.Since(begin).Seconds())
	}
	// Statistics of the time when the tables were empty would choose the wrong index.
	_, err := db.ExecContext(ctx, "ANALYZE TABLE orders, order_items, stock_flows, skus")
	bench.Progress.End()
	return err
}

// numbered puts a range of numbers, a table of MariaDB's SEQUENCE engine (seq_1_to_9), in
// the place of the table numbers.
func numbered(query string, from, to int) string {
	return strings.Replace(query, "FROM numbers", fmt.Sprintf("FROM seq_%d_to_%d", from, to), 1)
}

// seedStock writes the shelves as they are after all orders have taken their unit, each
// with the flow by which its stock came in.
func (c crowd) seedStock(ctx context.Context, db *sql.DB) error {
	now := time.Now().UnixMilli()
	// Order i takes a unit of SKU i modulo their number.
	if _, err := db.ExecContext(ctx, numbered(`INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
SELECT CONCAT('sku', LPAD(seq, 4, '0')), 'storm', ?, ? - (? DIV ?) - (seq BETWEEN 1 AND ? MOD ?), 0, 1, ?, ?
FROM numbers`, 0, seedSKUs-1), bench.Fen, seedStock, c.n, seedSKUs, c.n, seedSKUs, now, now); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, numbered(`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT '', 'initial', '', CONCAT('sku', LPAD(seq, 4, '0')), ?, ?
FROM numbers`, 0, seedSKUs-1), seedStock, now)
	return err
}

// secondsSQL is crowd.due in SQL: a time in milliseconds of order seq. Its arguments
// are that time of the first order, the spread in seconds and the number of orders.
const secondsSQL = "? + ((seq - 1) * ? DIV ?) * 1000"

// seedOrders writes the orders from and to, both inclusive, of one piece: their numbers
// share a prefix. Each has a line and the flow of its unit, and no trade: WeChat Pay is
// asked to close it all the same.
func (c crowd) seedOrders(ctx context.Context, db *sql.DB, from, to int) error {
	prefix, seconds := c.prefix(from), int(c.spread/time.Second)
	due := c.first.UnixMilli()
	expire := due - seedGrace.Milliseconds()
	// All of a piece were placed together: their numbers share that time.
	created := c.due(from).Add(-seedGrace - seedWithin).UnixMilli()
	if _, err := db.ExecContext(ctx, numbered(`INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause,
   close_reason, close_tries, created_at, expire_at, due_at, updated_at)
SELECT CONCAT(?, LPAD(seq, 8, '0')), CONCAT('c', seq MOD ?), CONCAT('r', seq), REPEAT('0', 43), 'pending', 1, ?,
  '', '', 'storm', '', 0, ?, `+secondsSQL+`, `+secondsSQL+`, ?
FROM numbers`, from, to), prefix, seedCustomers, bench.Fen,
		created, expire, seconds, c.n, due, seconds, c.n, created); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, numbered(`INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
SELECT CONCAT(?, LPAD(seq, 8, '0')), 1, CONCAT('sku', LPAD(seq MOD ?, 4, '0')), 1, ?
FROM numbers`, from, to), prefix, seedSKUs, bench.Fen); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, numbered(`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT CONCAT(?, LPAD(seq, 8, '0')), 'deduct', '', CONCAT('sku', LPAD(seq MOD ?, 4, '0')), -1, ?
FROM numbers`, from, to), prefix, seedSKUs, created)
	return err
}
