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

// sumFlows gives what is on the shelf, and sums the flows of a SKU by their kind and
// the state of their order, "" without one; in one statement, so that both are of one
// moment. ErrNotFound when there is no such SKU.
func sumFlows(ctx context.Context, q querier, a *Account) error {
	found := false
	err := sqldb.Each(ctx, q, `SELECT s.available, s.unlimited, COALESCE(f.kind, ''), COALESCE(o.state, ''),
  COALESCE(SUM(f.delta), 0)
FROM skus s
LEFT JOIN stock_flows f ON f.sku_id = s.sku_id
LEFT JOIN orders o ON o.order_no = f.order_no
WHERE s.sku_id = ?
GROUP BY s.available, s.unlimited, COALESCE(f.kind, ''), COALESCE(o.state, '')`, []any{a.SkuID},
		func(rows *sql.Rows) error {
			var kind stock.Kind
			var state State
			var delta int64
			if err := rows.Scan(&a.Available, &a.Unlimited, &kind, &state, &delta); err != nil {
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
