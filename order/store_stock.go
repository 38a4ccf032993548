package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Statements that hold the tables of package stock, skus and stock_flows, against
// orders. Package stock knows no orders, so they are here.

// findSKU gives what is on the shelf. ErrNotFound when there is no such SKU.
func findSKU(ctx context.Context, q querier, skuID string) (available int64, unlimited bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT available, unlimited
FROM skus
WHERE sku_id = ?`, skuID).Scan(&available, &unlimited)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return available, unlimited, err
}

// sumFlows sums the flows of a SKU by their kind and the state of their order,
// "" without one.
func sumFlows(ctx context.Context, q querier, skuID string, row func(kind stock.Kind, state State, delta int64)) error {
	return sqldb.Each(ctx, q, `SELECT f.kind, COALESCE(o.state, ''), SUM(f.delta)
FROM stock_flows f
LEFT JOIN orders o ON o.order_no = f.order_no
WHERE f.sku_id = ?
GROUP BY f.kind, COALESCE(o.state, '')`, []any{skuID}, func(rows *sql.Rows) error {
		var kind stock.Kind
		var state State
		var delta int64
		if err := rows.Scan(&kind, &state, &delta); err != nil {
			return err
		}
		row(kind, state, delta)
		return nil
	})
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
