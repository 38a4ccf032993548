package bench

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/feed"
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

// Way is how a naive placement takes its unit off the shelf.
type Way string

// The ways. All of them read the SKU, write the order, its line and its stock flow, and
// take the unit last.
const (
	// WayConditional decrements where enough is left and counts the rows: what other
	// systems do, and the baseline of every table.
	WayConditional Way = "conditional UPDATE"
	// WayPessimistic reads the SKU under its lock and writes what is left: nobody else
	// reads it so until this transaction ends.
	WayPessimistic Way = "pessimistic: SELECT … FOR UPDATE, UPDATE"
	// WayOptimistic writes what is left if the shelf still holds what it read, else the
	// transaction is run again, optimisticTries times in all. What it compares is the
	// number of units itself, which is all that it decides by; a version that counts
	// changes would refuse the same updates, and some more.
	WayOptimistic Way = "optimistic: compare and set, tried again"
)

// optimisticTries is after how many lost races an optimistic placement gives up: as
// many as orderd gives a transaction. Its buyer is told to come again.
const optimisticTries = 20

// Place places an order by WayConditional.
func (n *Naive) Place(ctx context.Context, p NaivePlacement) error {
	return n.PlaceBy(ctx, WayConditional, p)
}

// PlaceBy places an order: the order, its line, its stock flow, its row in the feed and the shelf.
func (n *Naive) PlaceBy(ctx context.Context, way Way, p NaivePlacement) error {
	tries, lock := math.MaxInt, ""
	switch way {
	case WayConditional:
	case WayPessimistic:
		lock = "\nFOR UPDATE"
	case WayOptimistic:
		tries = optimisticTries
	}
	return n.tryFor(ctx, tries, func(tx *sql.Tx) error {
		var price, left int64
		err := tx.QueryRowContext(ctx, `SELECT price_fen, available
FROM skus
WHERE sku_id = ?`+lock, p.SKU).Scan(&price, &left)
		if err != nil {
			return err
		}
		if left < 1 {
			return errSoldOut
		}
		if err := p.insert(ctx, tx, price); err != nil {
			return err
		}
		return way.take(ctx, tx, p.SKU, left)
	})
}

// insert writes the order, its line, its stock flow and its row in the feed.
func (p NaivePlacement) insert(ctx context.Context, tx *sql.Tx, price int64) error {
	at, expire := p.At.UnixMilli(), p.expireAt().UnixMilli()
	return write(ctx, tx, statement{`INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, total_fen,
   remark, attach, placed_cause, created_at, expire_at, due_at, updated_at)
VALUES (?, ?, ?, ?, ?, '', '', 'bench', ?, ?, ?, ?)`, []any{p.OrderNo, p.Customer, p.Request, naiveHash, price,
		at, expire, expire + naiveGrace.Milliseconds(), at}}, statement{`INSERT INTO order_items
  (order_no, line_no, sku_id, quantity, price_fen)
VALUES (?, 1, ?, 1, ?)`, []any{p.OrderNo, p.SKU, price}}, statement{`INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES (?, 'deduct', '', ?, -1, ?)`, []any{p.OrderNo, p.SKU, at}},
		told(at, feed.OrderCreated, p.OrderNo, 1, order.StatePending))
}

// take takes one unit of a SKU of which this transaction has read that so many are left.
func (w Way) take(ctx context.Context, tx *sql.Tx, sku string, left int64) error {
	query, args, none := `UPDATE skus
SET available = available - 1
WHERE sku_id = ?
  AND available >= 1`, []any{sku}, errSoldOut
	switch w {
	case WayConditional:
	case WayPessimistic:
		query, args = `UPDATE skus
SET available = ?
WHERE sku_id = ?`, []any{left - 1, sku}
	case WayOptimistic:
		query, args, none = `UPDATE skus
SET available = ?
WHERE sku_id = ?
  AND available = ?`, []any{left - 1, sku, left}, sqldb.ErrLostRace
	}
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	rows, err := res.RowsAffected()
	if err == nil && rows != 1 {
		err = none
	}
	return err
}

// placed is what the HTTP interface needs to answer a placement.
func (p NaivePlacement) placed() order.Placed {
	return order.Placed{Order: order.Order{OrderNo: p.OrderNo, CustomerID: p.Customer, State: order.StatePending,
		Version: 1, Total: Fen, Items: []order.Item{{LineNo: 1, SkuID: p.SKU, Quantity: 1, UnitPrice: Fen}},
		CreatedAt: p.At, ExpireAt: p.expireAt()}}
}
