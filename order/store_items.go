package order

import (
	"context"
	"database/sql"
	"fmt"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// All statements of this package on the table order_items, and the one that
// holds the items of orders against the flows of their stock.

// itemColumns is how many values a row of order_items has.
const itemColumns = 5

// appendItems adds the values of an order's items to those of a bulk insert.
func appendItems(values []any, orderNo any, items []Item) []any {
	for _, it := range items {
		values = append(values, orderNo, int64(it.LineNo), it.SkuID, it.Quantity, int64(it.UnitPrice))
	}
	return values
}

// insertItems adds the rows that appendItems has collected.
func insertItems(ctx context.Context, tx *sqldb.Tx, values []any) error {
	err := tx.InsertRows(ctx, `INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
VALUES`, itemColumns, values)
	if err != nil {
		return fmt.Errorf("insert order items: %w", err)
	}
	return nil
}

// findItems gives the items of orders by order number.
func findItems(ctx context.Context, q querier, orderNos []string) (map[string][]Item, error) {
	all := make(map[string][]Item, len(orderNos))
	if len(orderNos) == 0 {
		return all, nil
	}
	err := sqldb.Each(ctx, q, `SELECT order_no, line_no, sku_id, quantity, price_fen
FROM order_items
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no, line_no`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no string
		var it Item
		if err := rows.Scan(&no, &it.LineNo, &it.SkuID, &it.Quantity, &it.UnitPrice); err != nil {
			return err
		}
		all[no] = append(all[no], it)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find order items: %w", err)
	}
	return all, nil
}

// lineFlows is what the flows say of one line of an order, in units.
type lineFlows struct {
	orderNo, skuID string
	ordered        int64 // the line's quantity
	deducted       int64 // taken when the order was placed
	out            int64 // taken and not given back, all flows together
	closed         int64 // of the close and the revival together: negative when the close gave back
}

// eachLineFlows gives every line of orders with its flows, by primary-key prefix.
func eachLineFlows(ctx context.Context, tx *sqldb.Tx, orderNos []string, do func(lineFlows)) error {
	return sqldb.Each(ctx, tx, `SELECT i.order_no, i.sku_id, i.quantity,
  COALESCE(SUM(CASE WHEN f.kind = 'deduct' AND f.ref = '' THEN -f.delta ELSE 0 END), 0),
  COALESCE(SUM(-f.delta), 0),
  COALESCE(SUM(CASE WHEN f.ref IN ('`+stock.RefClose+`', '`+stock.RefRevive+`') THEN -f.delta ELSE 0 END), 0)
FROM order_items i
LEFT JOIN stock_flows f ON f.order_no = i.order_no AND f.sku_id = i.sku_id
WHERE i.order_no IN (`+sqldb.In(len(orderNos))+`)
GROUP BY i.order_no, i.sku_id, i.quantity`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var l lineFlows
		if err := rows.Scan(&l.orderNo, &l.skuID, &l.ordered, &l.deducted, &l.out, &l.closed); err != nil {
			return err
		}
		do(l)
		return nil
	})
}
