package stock

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
)

// Recounted is what Recount found and left, in units: what the counter said, pool and
// buckets together, what its flows add up to, and what both say now. Was and Flows are equal
// when there was nothing to do.
type Recounted struct{ Was, Flows, Now int64 }

// Recount makes the counter of a SKU, its pool and its buckets, and the sum of its flows agree
// again, on the smaller of the two and never below zero: nobody but a person who has counted the shelf knows which
// of them is right. A hand may have moved the counter, or lost or changed a flow, such as a
// count downwards, and what was raised then would be sold without being there. Goods that
// are there are put back by 'stock adjust' or 'stock replenish', with a reason, after this.
// A flow says what both were, who made them agree and why: its units are what the flows
// said too much, 0 when it was the counter. What is in buckets is called back first; what
// is promised in a queue stays there and counts. key makes it unique and, with the prefix that
// it gets here, must fit into the 64 characters of stock_flows.ref. Errors: ErrSKUNotFound,
// *BelowZeroError when the flows themselves are below zero, *ElsewhereError when
// the pool alone cannot be lowered by as much.
func Recount(ctx context.Context, tx *sqldb.Tx, id, key, actor, reason string, at time.Time,
	tell Tell) (Recounted, error) {
	sku, err := lockSKU(ctx, tx, id) // whoever moves it has committed flow and counter, or neither
	if err != nil || sku.Unlimited {
		return Recounted{sku.Available, sku.Available, sku.Available}, err
	}
	// No order takes from a locked bucket: the flows that are committed are those of Allocated.
	var sum sql.NullInt64
	err = tx.QueryRowContext(ctx, `SELECT SUM(delta)
FROM stock_flows
WHERE sku_id = ?`, id).Scan(&sum)
	if err != nil {
		return Recounted{}, fmt.Errorf("add up the flows of %s: %w", id, err)
	}
	r := Recounted{Was: sku.Free(), Flows: sum.Int64, Now: max(0, min(sku.Free(), sum.Int64))}
	switch {
	case r.Flows < 0:
		return r, &BelowZeroError{Available: 0, Delta: r.Flows}
	case r.Was == r.Flows:
		return r, nil
	}
	if err := callBack(ctx, tx, []*SKU{&sku}, at); err != nil {
		return r, err
	}
	if err := sku.bears(r.Now - r.Was); err != nil {
		return r, err
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET available = ?, updated_at = ?
WHERE sku_id = ?
  AND available = ?`, r.Now-sku.Allocated, sqldb.Millis(at), id, sku.Available)
	if err != nil {
		return r, fmt.Errorf("recount %s: %w", id, err)
	}
	if n != 1 {
		return r, sqldb.ErrLostRace
	}
	if err := judge(ctx, tx, tell, &sku, r.Now, at); err != nil {
		return r, err
	}
	err = insertOperatorFlow(ctx, tx, flow{kind: KindAdjust, ref: "recount-" + key, skuID: id, delta: r.Now - r.Flows},
		actor, recountReason(r, reason), at)
	return r, err
}

// recountReason is the reason of the flow: what was said before, and a reason of
// bounds.RepairReason, which always fits behind it.
func recountReason(r Recounted, reason string) string {
	return fmt.Sprintf("the counter said %d, the flows %d: %s", r.Was, r.Flows, reason)
}
