package stock

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// Recounted is what Recount did to a counter, in units; Was and Now are equal when
// there was nothing to do.
type Recounted struct{ Was, Now int64 }

// Recount sets the counter of a SKU to the sum of its flows. The flows are the truth:
// every one of them was written once, with an order or a person behind it, and the
// counter only repeats their sum. A flow that made them follow a counter moved by hand
// would invent goods that nobody has seen; goods that did come in are replenished, with
// a reason, after this. The correction itself leaves a flow of 0 units that says what
// the counter was, who set it right and why; key makes it unique and, with the prefix
// that it gets here, must fit into the 64 characters of stock_flows.ref. Errors:
// ErrSKUNotFound, *BelowZeroError when the flows themselves are below zero.
func Recount(ctx context.Context, tx *sqldb.Tx, id, key, actor, reason string, at time.Time) (Recounted, error) {
	sku, err := lockSKU(ctx, tx, id) // whoever moves it has committed flow and counter, or neither
	if err != nil || sku.Unlimited {
		return Recounted{sku.Available, sku.Available}, err
	}
	var sum sql.NullInt64
	err = tx.QueryRowContext(ctx, `SELECT SUM(delta)
FROM stock_flows
WHERE sku_id = ?`, id).Scan(&sum)
	if err != nil {
		return Recounted{}, fmt.Errorf("add up the flows of %s: %w", id, err)
	}
	r := Recounted{Was: sku.Available, Now: sum.Int64}
	switch {
	case r.Now < 0:
		return r, &BelowZeroError{Available: 0, Delta: r.Now}
	case r.Was == r.Now:
		return r, nil
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET available = ?, updated_at = ?
WHERE sku_id = ?
  AND available = ?`, r.Now, sqldb.Millis(at), id, r.Was)
	if err != nil {
		return r, fmt.Errorf("recount %s: %w", id, err)
	}
	if n != 1 {
		return r, sqldb.ErrLostRace
	}
	err = insertOperatorFlow(ctx, tx, flow{kind: KindAdjust, ref: "recount-" + key, skuID: id}, actor,
		bounds.Reason.Cut(fmt.Sprintf("the counter said %d, the flows %d: %s", r.Was, r.Now, reason)), at)
	return r, err
}
