package order

import (
	"context"
	"database/sql"
	"fmt"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Statements that hold the tables of package stock, skus and stock_flows, against
// orders. Package stock knows no orders, so they are here.

// sumFlows gives what is on the shelf and in buckets, and sums the flows of a SKU by their
// kind and the state of their order, "" without one; in one statement, so that all are of
// one moment. ErrNotFound when there is no such SKU.
func sumFlows(ctx context.Context, q querier, a *Account) error {
	found := false
	err := sqldb.Each(ctx, q, `SELECT s.available, COALESCE(b.allocated, 0), s.unlimited, COALESCE(f.kind, ''),
  COALESCE(o.state, ''), COALESCE(SUM(f.delta), 0)
FROM skus s
LEFT JOIN (
  SELECT sku_id, SUM(remaining) AS allocated
  FROM stock_buckets
  WHERE sku_id = ?
    AND state IN ('open', 'closing')
  GROUP BY sku_id) b ON b.sku_id = s.sku_id
LEFT JOIN stock_flows f ON f.sku_id = s.sku_id
LEFT JOIN orders o ON o.order_no = f.order_no
WHERE s.sku_id = ?
GROUP BY s.available, COALESCE(b.allocated, 0), s.unlimited, COALESCE(f.kind, ''), COALESCE(o.state, '')`,
		[]any{a.SkuID, a.SkuID},
		func(rows *sql.Rows) error {
			var kind stock.Kind
			var state State
			var delta int64
			if err := rows.Scan(&a.Available, &a.Allocated, &a.Unlimited, &kind, &state, &delta); err != nil {
				return err
			}
			found = true
			if kind != "" {
				a.add(kind, state, delta)
			}
			return nil
		})
	if err == nil && !found {
		err = ErrNotFound
	}
	return err
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
