package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// RawBatch is how many orders Raw writes in a transaction: as many as a group commit holds.
const RawBatch = 128

// Raw writes the rows of orders and decides nothing: no price is read, no key is looked for and
// no shortage told. It is the limit of what a database takes of such rows.
type Raw struct {
	naive                      *Naive
	orders, items, flows, told *sql.Stmt
}

// NewRaw prepares the statements of RawBatch orders.
func NewRaw(ctx context.Context, n *Naive) (r *Raw, err error) {
	r = &Raw{naive: n}
	for _, s := range []struct {
		into      **sql.Stmt
		head, row string
	}{
		{&r.orders, `INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, total_fen,
   remark, attach, placed_cause, created_at, expire_at, due_at, updated_at)
VALUES`, "(?, ?, ?, ?, ?, '', '', 'bench', ?, ?, ?, ?)"},
		{&r.items, `INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
VALUES`, "(?, 1, ?, 1, ?)"},
		{&r.flows, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES`, "(?, 'deduct', '', ?, -1, ?)"},
		{&r.told, `INSERT INTO events_out
  (at, type, order_no, version, state, ref, reference)
VALUES`, "(?, 'order.created', ?, 1, 'pending', '', '')"},
	} {
		query := strings.Join([]string{s.head, strings.Repeat(s.row+", ", RawBatch-1), s.row}, " ")
		*s.into, err = n.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // Close
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("prepare raw rows: %w", err)
		}
	}
	return r, nil
}

// Close gives the statements back.
func (r *Raw) Close() {
	for _, s := range []*sql.Stmt{r.orders, r.items, r.flows, r.told} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// Insert writes RawBatch orders of one unit of the SKU of the first, in one transaction.
func (r *Raw) Insert(ctx context.Context, batch []NaivePlacement) error {
	if len(batch) != RawBatch {
		return fmt.Errorf("a raw batch has %d orders, not %d", RawBatch, len(batch))
	}
	var orders, items, flows, told []any
	for _, p := range batch {
		at, expire := p.At.UnixMilli(), p.expireAt().UnixMilli()
		orders = append(orders, p.OrderNo, p.Customer, p.Request, naiveHash, Fen,
			at, expire, expire+naiveGrace.Milliseconds(), at)
		items = append(items, p.OrderNo, p.SKU, Fen)
		flows = append(flows, p.OrderNo, p.SKU, at)
		told = append(told, at, p.OrderNo)
	}
	return r.naive.transact(ctx, func(tx *sql.Tx) error {
		for _, s := range []struct {
			prepared *sql.Stmt
			args     []any
		}{{r.orders, orders}, {r.items, items}, {r.flows, flows}, {r.told, told}} {
			stmt := tx.StmtContext(ctx, s.prepared) //nolint:sqlclosecheck // ends with the transaction
			if _, err := stmt.ExecContext(ctx, s.args...); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE skus
SET available = available - ?
WHERE sku_id = ?
  AND available >= ?`, RawBatch, batch[0].SKU, RawBatch)
		return err
	})
}
