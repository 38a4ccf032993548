package bench

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/order"
)

// The deadlines of a naive order: orderd's defaults of 30 minutes to pay and 20
// seconds of grace.
const (
	naivePayWithin = 30 * time.Minute
	naiveGrace     = 20 * time.Second
)

// naiveHash stands where orderd stores the hash of the request: as long as one.
const naiveHash = "0123456789012345678901234567890123456789012"

// errSoldOut is a placement for which the stock does not suffice. No measurement
// lets it come to that.
var errSoldOut = errors.New("sold out")

// NaivePlacement is an order of one unit; At is the time in its number.
type NaivePlacement struct {
	OrderNo, Customer, Request, SKU string
	At                              time.Time
}

// NewNaivePlacement is an order that is placed now.
func NewNaivePlacement(customer, request, sku string) NaivePlacement {
	id := ulid.Make()
	return NaivePlacement{OrderNo: id.String(), Customer: customer, Request: request, SKU: sku,
		At: ulid.Time(id.Time())}
}

// expireAt is the deadline: a whole second, as orderd's.
func (p NaivePlacement) expireAt() time.Time {
	return p.At.Add(naivePayWithin + time.Second - time.Millisecond).Truncate(time.Second)
}

// Place places an order: the order, its line, its stock flow and the shelf.
func (n *Naive) Place(ctx context.Context, p NaivePlacement) error {
	at, expire := p.At.UnixMilli(), p.expireAt().UnixMilli()
	return n.transact(ctx, func(tx *sql.Tx) error {
		var price int64
		err := tx.QueryRowContext(ctx, "SELECT price_fen FROM skus WHERE sku_id = ?", p.SKU).Scan(&price)
		if err != nil {
			return err
		}
		if err := write(ctx, tx, statement{`INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, total_fen,
   remark, attach, placed_cause, created_at, expire_at, due_at, updated_at)
VALUES (?, ?, ?, ?, ?, '', '', 'bench', ?, ?, ?, ?)`, []any{p.OrderNo, p.Customer, p.Request, naiveHash, price,
			at, expire, expire + naiveGrace.Milliseconds(), at}}, statement{`INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
VALUES (?, 1, ?, 1, ?)`, []any{p.OrderNo, p.SKU, price}}, statement{`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES (?, 'deduct', '', ?, -1, ?)`, []any{p.OrderNo, p.SKU, at}}); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE skus
SET available = available - 1
WHERE sku_id = ?
  AND available >= 1`, p.SKU)
		if err != nil {
			return err
		}
		if rows, err := res.RowsAffected(); err != nil || rows != 1 {
			return errors.Join(errSoldOut, err)
		}
		return nil
	})
}

// placed is what the HTTP interface needs to answer a placement.
func (p NaivePlacement) placed() order.Placed {
	return order.Placed{Order: order.Order{OrderNo: p.OrderNo, CustomerID: p.Customer, State: order.StatePending,
		Version: 1, Total: Fen, Items: []order.Item{{LineNo: 1, SkuID: p.SKU, Quantity: 1, UnitPrice: Fen}},
		CreatedAt: p.At, ExpireAt: p.expireAt()}}
}
