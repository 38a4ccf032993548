package main

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
)

// listed is the orders of a month that lists are read from, put in by sets: of ten, seven are
// paid, two closed and one refunded in part; the newest are open, and the first of these stuck.
// It is what lists read, and no world that verify would find in order.
type listed struct {
	orders, open int
	now          time.Time
}

const (
	// listPiece is orders that were placed in the same millisecond, and are written together.
	listPiece = 5_000
	listSpan  = 30 * 24 * time.Hour
	// listStuck of the open orders are past their due time, and every listRare-th payment is
	// held: few, as in a shop that is looked after.
	listStuck, listRare = 100, 2_500
	// listCustomers, listSKUs: whose order it is and of what follow from its number.
	listCustomers, listSKUs = 50_000, 1_000
	// listReplenished is how often operators have put goods in.
	listReplenished = 5_000
	listStock       = 1_000_000
)

// numbersTable has the numbers 1 to n, of which INSERT … SELECT makes rows.
const numbersTable = "list_numbers"

// piece is the orders from and to, both inclusive, placed at one time, with what their
// statements have as arguments.
type piece struct {
	from, to int
	prefix   string // of their numbers: the time in a ULID
	at       int64  // Unix milliseconds
}

// piece gives the piece that begins with order from.
func (w listed) piece(from int) piece {
	at := w.now.Add(-listSpan + listSpan/time.Duration(w.orders+1)*time.Duration(from))
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(at)) // cannot fail before the year 10889
	const timeLen = 10
	return piece{from, min(from+listPiece-1, w.orders), id.String()[:timeLen], at.UnixMilli()}
}

// fill puts the world into an empty database.
func (w listed) fill(ctx context.Context, db *sqldb.DB) error {
	defer bench.Progress.End()
	if err := w.numbers(ctx, db); err != nil {
		return fmt.Errorf("numbers: %w", err)
	}
	if err := w.stock(ctx, db); err != nil {
		return fmt.Errorf("stock: %w", err)
	}
	for from := 1; from <= w.orders; from += listPiece {
		if err := w.fillPiece(ctx, db, w.piece(from)); err != nil {
			return fmt.Errorf("orders from %d: %w", from, err)
		}
		bench.Progress.Show("filling %d of %d", from, w.orders)
	}
	_, err := db.Pool().ExecContext(ctx, "DROP TABLE "+numbersTable)
	return err
}

// numbers makes the table of numbers by doubling it.
func (w listed) numbers(ctx context.Context, db *sqldb.DB) error {
	pool := db.Pool()
	if _, err := pool.ExecContext(ctx, "CREATE TABLE "+numbersTable+" (i BIGINT NOT NULL PRIMARY KEY)"); err != nil {
		return err
	}
	if _, err := pool.ExecContext(ctx, "INSERT INTO "+numbersTable+" VALUES (1)"); err != nil {
		return err
	}
	for n := 1; n < max(w.orders, listReplenished); n *= 2 {
		if _, err := pool.ExecContext(ctx, `INSERT INTO `+numbersTable+`
SELECT i + ?
FROM `+numbersTable, n); err != nil {
			return err
		}
	}
	return nil
}

// padded is a number in SQL as text of so many digits, on every engine.
func padded(number string, digits int) string {
	return fmt.Sprintf("SUBSTR(CONCAT('0000000000000000', %s), -%d)", number, digits)
}

// The parts of rows in SQL, i being the number of the order.
var (
	listNo       = "CONCAT(?, " + padded("i", 16) + ")"
	listSKU      = "CONCAT('sku', " + padded("i % 1000", 4) + ")"
	listCustomer = "CONCAT('c', i % 50000)"
	// listState takes as arguments from which order on they are closing and stuck, and from
	// which pending.
	listState = `CASE WHEN i > ? THEN 'pending' WHEN i > ? THEN 'closing' WHEN i % 5000 = 0 THEN 'late'
    WHEN i % 10 < 7 THEN 'paid' WHEN i % 10 < 9 THEN 'closed' ELSE 'refunded' END`
)

// stock writes the shelves and what operators put on them.
func (w listed) stock(ctx context.Context, db *sqldb.DB) error {
	at := w.now.Add(-listSpan).UnixMilli()
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
SELECT ` + listSKU + `, 'list', ?, ?, 0, 1, ?, ?
FROM ` + numbersTable + `
WHERE i <= ?`, []any{bench.Fen, listStock, at, at, listSKUs}},
		{`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT '', 'initial', '', ` + listSKU + `, ?, ?
FROM ` + numbersTable + `
WHERE i <= ?`, []any{listStock, at, listSKUs}},
		{`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT '', 'replenish', CONCAT('r', i), ` + listSKU + `, 10, ?
FROM ` + numbersTable + `
WHERE i <= ?`, []any{at, listReplenished}},
	} {
		if _, err := db.Pool().ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
	}
	return nil
}

// fillPiece writes the rows of a piece in one transaction.
func (w listed) fillPiece(ctx context.Context, db *sqldb.DB, p piece) error {
	const minute = 60_000
	pending, closing := w.orders-w.open+listStuck, w.orders-w.open
	due := w.now.UnixMilli() + 15*minute
	where := "\nFROM " + numbersTable + "\nWHERE i BETWEEN ? AND ?"
	return db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, s := range []struct {
			query string
			args  []any
		}{
			{`INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause,
   close_reason, close_tries, created_at, expire_at, due_at, updated_at)
SELECT ` + listNo + `, ` + listCustomer + `, CONCAT('r', i), 'h', ` + listState + `, 1, ?, '', '', 'bench', '', 0,
  ?, ?, CASE WHEN i > ? THEN ? + i WHEN i > ? THEN ? ELSE NULL END, ?` + where,
				[]any{p.prefix, pending, closing, bench.Fen, p.at, p.at + 15*minute, pending, due, closing,
					w.now.UnixMilli() - 60*minute, p.at, p.from, p.to}},
			{`INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
SELECT ` + listNo + `, 1, ` + listSKU + `, 1, ?` + where, []any{p.prefix, bench.Fen, p.from, p.to}},
			{`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT ` + listNo + `, 'deduct', '', ` + listSKU + `, -1, ?` + where, []any{p.prefix, p.at, p.from, p.to}},
			{`INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid, paid_at,
   received_at, source, outcome, reason)
SELECT CONCAT('42', ` + listNo + `), ` + listNo + `, CONCAT(` + listNo + `, '-01'), ?, ?, 'CNY', 'NATIVE', 'a', 'm', ?,
  ?, 'notification', CASE WHEN i % ? = 0 THEN 'held' ELSE 'applied' END, ''` + where + `
  AND i % 10 NOT IN (7, 8)
  AND i <= ?`, []any{p.prefix, p.prefix, p.prefix, bench.Fen, bench.Fen, p.at, p.at, listRare,
				p.from, p.to, closing}},
			{`INSERT INTO refunds
  (out_refund_no, order_no, transaction_id, amount_fen, state, reason, created_at, updated_at, out_trade_no, total_fen,
   refund_id, requester_type, requester_id)
SELECT CONCAT(` + listNo + `, '-R01'), ` + listNo + `, CONCAT('42', ` + listNo + `), ?, 'success',
  CASE WHEN i % ? = 9 THEN 'held' ELSE 'aftersale' END, ?, ?, CONCAT(` + listNo + `, '-01'), ?,
  CONCAT('50', ` + listNo + `), 'scheduler', ''` + where + `
  AND i % 10 = 9
  AND i <= ?`, []any{p.prefix, p.prefix, p.prefix, bench.Fen, listRare, p.at, p.at, p.prefix,
				bench.Fen, p.prefix, p.from, p.to, closing}},
		} {
			if _, err := tx.Update(ctx, s.query, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}
