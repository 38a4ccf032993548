package bench

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/feed"
)

// The naive peer's polling.
const (
	naivePage = 1000                  // due orders read at once
	naiveIdle = 50 * time.Millisecond // between two looks when there are fewer than a page
)

// NaiveExpiry says how the naive peer closes what is due.
type NaiveExpiry struct {
	Gateway payment.Gateway
	Workers int                             // orders closed at once, a connection each
	Closed  func()                          // called after every order; from several goroutines
	Failed  func(orderNo string, err error) // called instead when an order could not be closed
}

// Expire closes unpaid orders as they come due until ctx ends: one loop asks for
// what is due, and workers close an order each in a transaction of its own.
func (n *Naive) Expire(ctx context.Context, e NaiveExpiry) {
	due := make(chan string, naivePage) // the poller is a page ahead of the workers
	var wg sync.WaitGroup
	wg.Go(func() { defer close(due); n.poll(ctx, due) })
	for range e.Workers {
		wg.Go(func() {
			for no := range due {
				if err := n.closeOrder(ctx, e.Gateway, no); err == nil {
					e.Closed()
				} else if ctx.Err() == nil {
					e.Failed(no, err)
				}
			}
		})
	}
	wg.Wait()
}

// poll sends the number of every order that is due, once.
func (n *Naive) poll(ctx context.Context, due chan<- string) {
	var after cursor
	for ctx.Err() == nil {
		page, err := n.due(ctx, &after)
		for _, no := range page {
			select {
			case due <- no:
			case <-ctx.Done(): // an order that was read and not handed out stays pending
				return
			}
		}
		if err != nil || len(page) < naivePage {
			sqldb.Sleep(ctx, naiveIdle)
		}
	}
}

// cursor is the last order that was read, in the order of the due times.
type cursor struct {
	dueAt   int64 // Unix milliseconds
	orderNo string
}

// due reads a page and moves the cursor behind it.
func (n *Naive) due(ctx context.Context, after *cursor) ([]string, error) {
	rows, err := n.db.QueryContext(ctx, `SELECT order_no, due_at
FROM orders
WHERE state = 'pending'
  AND due_at >= ?
  AND due_at <= ?
  AND (due_at > ? OR order_no > ?)
ORDER BY due_at, order_no
LIMIT ?`, after.dueAt, time.Now().UnixMilli(), after.dueAt, after.orderNo, naivePage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []string
	for rows.Next() {
		if err := rows.Scan(&after.orderNo, &after.dueAt); err != nil {
			return page, err
		}
		page = append(page, after.orderNo)
	}
	return page, rows.Err()
}

// closeOrder asks WeChat Pay to close the trade, then writes what orderd writes in
// its two transactions in one: both events, the return of the stock, the shelf and the feed.
// An order that is not pending any more is left alone.
func (n *Naive) closeOrder(ctx context.Context, gateway payment.Gateway, no string) error {
	asked := time.Now().UnixMilli()
	if _, err := gateway.Close(ctx, outTradeNo(no)); err != nil {
		return err
	}
	return n.transact(ctx, func(tx *sql.Tx) error {
		now := time.Now().UnixMilli()
		var state, sku string
		var version, quantity int64
		err := tx.QueryRowContext(ctx, `SELECT state, version
FROM orders
WHERE order_no = ?
FOR UPDATE`, no).Scan(&state, &version)
		if err != nil || state != "pending" {
			return err
		}
		detail := `{"close":"accepted","close_status":"204","out_trade_no":"` + outTradeNo(no) + `"}`
		err = write(ctx, tx, statement{`UPDATE orders
SET state = 'closed', version = version + 2, due_at = NULL, close_reason = 'timeout', close_tries = 1,
    updated_at = ?
WHERE order_no = ?
  AND state = 'pending'`, []any{now, no}}, statement{`INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES (?, ?, ?, 'close.requested', 'pending', 'closing', 'scheduler', 'storm', 'poll', '', '', 0),
  (?, ?, ?, 'close.accepted', 'closing', 'closed', 'scheduler', 'storm', 'poll', '', ?, ?)`,
			[]any{no, version + 1, asked, no, version + 2, now, detail, now - asked}})
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `SELECT sku_id, quantity
FROM order_items
WHERE order_no = ?`, no).Scan(&sku, &quantity); err != nil {
			return err
		}
		return write(ctx, tx, statement{`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES (?, 'return', 'close', ?, ?, ?)`, []any{no, sku, quantity, now}}, statement{`UPDATE skus
SET available = available + ?, updated_at = ?
WHERE sku_id = ?`, []any{quantity, now, sku}}, told(now, feed.OrderClosed, no, version+2, order.StateClosed))
	})
}
