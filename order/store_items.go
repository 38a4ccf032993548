package order

import (
	"context"
	"database/sql"
	"fmt"

	"orderd/migrations/sqldb"
)

// All statements of this package on the table order_items.

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

// eachItem gives what orders have of each SKU, by primary-key prefix.
func eachItem(ctx context.Context, q querier, orderNos []string, do func(orderNo, skuID string, quantity int64)) error {
	return sqldb.Each(ctx, q, `SELECT order_no, sku_id, quantity
FROM order_items
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no, sku string
		var quantity int64
		if err := rows.Scan(&no, &sku, &quantity); err != nil {
			return err
		}
		do(no, sku, quantity)
		return nil
	})
}
