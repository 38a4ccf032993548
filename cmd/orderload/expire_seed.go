package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// The seeded world: orders of one unit at 100 fen, over bulkSKUs SKUs.
const (
	seedPiece     = 20_000 // orders of one statement
	seedCustomers = 50_000
	seedGrace     = 20 * time.Second // order.Config's default
	seedWithin    = 30 * time.Minute // and its time to pay
	seedFen       = 100
	seedInfix     = "0ST0RM00" // between the time and the number: no letter that a ULID lacks
)

// crowd is unpaid orders that come due from first on, evenly over spread, on
// whole seconds. They are numbered from 1 in the order of their deadlines.
type crowd struct {
	n      int
	first  time.Time
	spread time.Duration
}

// due is the due time of order i.
func (c crowd) due(i int) time.Time {
	return c.first.Add(time.Duration((i-1)*int(c.spread/time.Second)/c.n) * time.Second)
}

// last is the last due time.
func (c crowd) last() time.Time { return c.due(c.n) }

// dueBy counts the orders that are due at t.
func (c crowd) dueBy(t time.Time) int {
	switch seconds := int(c.spread / time.Second); {
	case t.Before(c.first):
		return 0
	case !t.Before(c.last()):
		return c.n
	default: // of the first s of the seconds
		s := int(t.Sub(c.first)/time.Second) + 1
		return (s*c.n + seconds - 1) / seconds
	}
}

// no is the number of order i: a ULID of about the time at which it was placed.
func (c crowd) no(i int) string { return fmt.Sprintf("%s%08d", c.prefix(i), i) }

// prefix is what the numbers of a piece share.
func (c crowd) prefix(i int) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(c.due((i-1)/seedPiece*seedPiece + 1).Add(-seedGrace - seedWithin))) // cannot fail before the year 10889
	return id.String()[:10] + seedInfix
}

// seqOf gives back the number of a seeded order from its order_no or
// out_trade_no, 0 for any other order.
func seqOf(no string) int {
	if len(no) < 26 || no[10:18] != seedInfix {
		return 0
	}
	n := 0
	for _, c := range []byte(no[18:26]) {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// seed fills an empty MariaDB with the crowd, its stock and its flows, so that
// the books agree.
func (c crowd) seed(ctx context.Context, db *sql.DB) error {
	begin := time.Now()
	if err := c.seedStock(ctx, db); err != nil {
		return fmt.Errorf("seed the stock: %w", err)
	}
	for from := 1; from <= c.n; from += seedPiece {
		if err := c.seedOrders(ctx, db, from, min(from+seedPiece-1, c.n)); err != nil {
			return fmt.Errorf("seed orders from %d: %w", from, err)
		}
		fmt.Fprintf(os.Stderr, "\r\033[Kseeding %d of %d, %.0f s", min(from+seedPiece-1, c.n), c.n, time.Since(begin).Seconds())
	}
	_, err := db.ExecContext(ctx, "ANALYZE TABLE orders, order_items, stock_flows, skus")
	fmt.Fprint(os.Stderr, "\r\033[K")
	return err
}

// numbered puts a range of numbers, a table that MariaDB makes up, in the place
// of the table numbers.
func numbered(query string, from, to int) string {
	return strings.Replace(query, "FROM numbers", fmt.Sprintf("FROM seq_%d_to_%d", from, to), 1)
}

func (c crowd) seedStock(ctx context.Context, db *sql.DB) error {
	now := time.Now().UnixMilli()
	// Order i takes a unit of SKU i modulo their number.
	if _, err := db.ExecContext(ctx, numbered(`INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
SELECT CONCAT('sku', LPAD(seq, 4, '0')), 'storm', ?, ? - (? DIV ?) - (seq BETWEEN 1 AND ? MOD ?), 0, 1, ?, ?
FROM numbers`, 0, bulkSKUs-1), seedFen, cameIn, c.n, bulkSKUs, c.n, bulkSKUs, now, now); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, numbered(`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT '', 'initial', '', CONCAT('sku', LPAD(seq, 4, '0')), ?, ?
FROM numbers`, 0, bulkSKUs-1), cameIn, now)
	return err
}

// secondsSQL is the milliseconds at which order seq is due, later or earlier by
// what its first argument is; the others are the seconds and the orders: due().
const secondsSQL = "? + ((seq - 1) * ? DIV ?) * 1000"

func (c crowd) seedOrders(ctx context.Context, db *sql.DB, from, to int) error {
	prefix, seconds := c.prefix(from), int(c.spread/time.Second)
	due := c.first.UnixMilli()
	expire := due - seedGrace.Milliseconds()
	created := expire - seedWithin.Milliseconds()
	if _, err := db.ExecContext(ctx, numbered(`INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause,
   close_reason, close_tries, created_at, expire_at, due_at, updated_at)
SELECT CONCAT(?, LPAD(seq, 8, '0')), CONCAT('c', seq MOD ?), CONCAT('r', seq), REPEAT('0', 43), 'pending', 1, ?, '', '', 'storm',
  '', 0, `+secondsSQL+`, `+secondsSQL+`, `+secondsSQL+`, `+secondsSQL+`
FROM numbers`, from, to), prefix, seedCustomers, seedFen,
		created, seconds, c.n, expire, seconds, c.n, due, seconds, c.n, created, seconds, c.n); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, numbered(`INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
SELECT CONCAT(?, LPAD(seq, 8, '0')), 1, CONCAT('sku', LPAD(seq MOD ?, 4, '0')), 1, ?
FROM numbers`, from, to), prefix, bulkSKUs, seedFen); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, numbered(`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
SELECT CONCAT(?, LPAD(seq, 8, '0')), 'deduct', '', CONCAT('sku', LPAD(seq MOD ?, 4, '0')), -1, `+secondsSQL+`
FROM numbers`, from, to), prefix, bulkSKUs, created, seconds, c.n)
	return err
}
