package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"orderd/migrations/sqldb"
)

// Statements that hold the tables of package stock, skus and stock_flows, against
// orders. Package stock knows no orders, so they are here.

// accountQuery reads an account; its arguments are the SKU twice. It is one statement, so that
// all of it is of one moment. What operators put in has no order, the first part of the key of
// stock_flows; what is reserved is found from the open orders, by the index of what is due.
const accountQuery = `SELECT s.available, s.unlimited, COALESCE((
    SELECT SUM(b.remaining)
    FROM stock_buckets b /*! FORCE INDEX (ix_buckets_state) */
    WHERE b.state IN ('open', 'closing')
      AND b.sku_id = s.sku_id), 0), COALESCE((
    SELECT SUM(f.delta)
    FROM stock_flows f
    WHERE f.order_no = ''
      AND f.sku_id = s.sku_id), 0), COALESCE((
    SELECT SUM(i.quantity)
    FROM orders o /*! FORCE INDEX (ix_orders_due) */
    CROSS JOIN order_items i
    WHERE o.state IN ('pending', 'closing')
      AND i.order_no = o.order_no
      AND i.sku_id = ?), 0)
FROM skus s
WHERE s.sku_id = ?`

// findAccount gives the account of a SKU. ErrNotFound when there is no such SKU.
func findAccount(ctx context.Context, q querier, skuID string) (Account, error) {
	a := Account{SkuID: skuID}
	err := q.QueryRowContext(ctx, accountQuery, skuID, skuID).Scan(&a.Available, &a.Unlimited, &a.Allocated, &a.CameIn,
		&a.Reserved)
	if errors.Is(err, sql.ErrNoRows) {
		return a, ErrNotFound
	}
	a.setSold()
	return a, err
}

// setSold says that what came in and is nowhere else is sold.
func (a *Account) setSold() {
	if !a.Unlimited {
		a.Sold = a.CameIn - a.Available - a.Allocated - a.Reserved
	}
}

// accountsQuery reads the accounts of n SKUs; its arguments are the SKUs four times. It is one statement, as
// accountQuery is, and reads the open orders once for all of them.
func accountsQuery(n int) string {
	in := "(" + sqldb.In(n) + ")"
	return `SELECT 'available' AS part, sku_id, available AS units, unlimited
FROM skus
WHERE sku_id IN ` + in + `
UNION ALL
SELECT 'allocated', sku_id, SUM(remaining), 0
FROM stock_buckets /*! FORCE INDEX (ix_buckets_state) */
WHERE state IN ('open', 'closing')
  AND sku_id IN ` + in + `
GROUP BY sku_id
UNION ALL
SELECT 'came', sku_id, SUM(delta), 0
FROM stock_flows /*! FORCE INDEX (PRIMARY) */
WHERE order_no = ''
  AND sku_id IN ` + in + `
GROUP BY sku_id
UNION ALL
SELECT 'reserved', i.sku_id, SUM(i.quantity), 0
FROM orders o /*! FORCE INDEX (ix_orders_due) */
CROSS JOIN order_items i
WHERE o.state IN ('pending', 'closing')
  AND i.order_no = o.order_no
  AND i.sku_id IN ` + in + `
GROUP BY i.sku_id`
}

// findAccounts gives the accounts of SKUs; those that are not there have none.
func findAccounts(ctx context.Context, q querier, skuIDs []string) (map[string]Account, error) {
	all := make(map[string]Account, len(skuIDs))
	if len(skuIDs) == 0 {
		return all, nil
	}
	args := sqldb.Args(skuIDs)
	err := sqldb.Each(ctx, q, accountsQuery(len(skuIDs)), slices.Concat(args, args, args, args),
		func(rows *sql.Rows) error {
			var part, id string
			var units int64
			var unlimited bool
			if err := rows.Scan(&part, &id, &units, &unlimited); err != nil {
				return err
			}
			a := all[id]
			switch part {
			case "available":
				a.SkuID, a.Available, a.Unlimited = id, units, unlimited
			case "allocated":
				a.Allocated = units
			case "came":
				a.CameIn = units
			case "reserved":
				a.Reserved = units
			}
			all[id] = a
			return nil
		})
	for id, a := range all {
		if a.SkuID == "" { // its row is gone, or came after
			delete(all, id)
			continue
		}
		a.setSold()
		all[id] = a
	}
	return all, err
}

// goodsOf gives the first goods of an order, by title ("" without one) and id, and how many
// pieces all of its lines have.
func goodsOf(ctx context.Context, q querier, orderNo string) (title, skuID string, units int64, err error) {
	err = sqldb.Each(ctx, q, `SELECT i.sku_id, COALESCE(s.title, ''), i.quantity
FROM order_items i
LEFT JOIN skus s ON s.sku_id = i.sku_id
WHERE i.order_no = ?
ORDER BY i.line_no`, []any{orderNo}, func(rows *sql.Rows) error {
		var id, name string
		var quantity int64
		if err := rows.Scan(&id, &name, &quantity); err != nil {
			return err
		}
		if units == 0 {
			skuID, title = id, name
		}
		units += quantity
		return nil
	})
	if err != nil {
		return "", "", 0, fmt.Errorf("goods of %s: %w", orderNo, err)
	}
	return title, skuID, units, nil
}

// heldByOrder gives how many units the flows of an order have taken and not
// given back.
func heldByOrder(ctx context.Context, q querier, orderNo string) (int64, error) {
	var sum sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT SUM(delta)
FROM stock_flows
WHERE order_no = ?`, orderNo).Scan(&sum)
	if err != nil {
		return 0, fmt.Errorf("what %s still holds: %w", orderNo, err)
	}
	return -sum.Int64, nil
}

// returnedUnder counts the flows that a refund has given back.
func returnedUnder(ctx context.Context, q querier, orderNo, outRefundNo string) (int64, error) {
	var flows int64
	err := q.QueryRowContext(ctx, `SELECT COUNT(*)
FROM stock_flows
WHERE order_no = ?
  AND kind = 'return'
  AND ref = ?`, orderNo, outRefundNo).Scan(&flows)
	if err != nil {
		return 0, fmt.Errorf("what %s has given back: %w", outRefundNo, err)
	}
	return flows, nil
}
