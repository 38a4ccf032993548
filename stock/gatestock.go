package stock

import (
	"context"
	"database/sql"
	"fmt"

	"orderd/migrations/sqldb"
)

// GateStock is a gate, and the buckets of its SKU that are not closed.
type GateStock struct {
	Gate
	Buckets []Bucket // by ascending id
}

// Allocated is how many units are in the buckets.
func (g *GateStock) Allocated() (units int64) {
	for i := range g.Buckets {
		units += g.Buckets[i].Remaining
	}
	return units
}

// SoldOut reports that the SKU is marked as sold out.
func (g *Gate) SoldOut() bool { return g.ClosedUntil == SoldOut }

// GateStocks gives the gates that are not off, by ascending SKU, with their buckets of the
// same moment. It is for showing.
func (a *Admin) GateStocks(ctx context.Context) (all []GateStock, err error) {
	err = a.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		at := map[string]int{}
		err := sqldb.Each(ctx, tx, selectGates+`WHERE g.mode <> 'off'
ORDER BY g.sku_id`, nil, func(rows *sql.Rows) error {
			g, err := scanGate(rows)
			at[g.SkuID] = len(all)
			all = append(all, GateStock{Gate: g})
			return err
		})
		if err != nil || len(all) == 0 {
			return err
		}
		buckets, err := readBuckets(ctx, tx, bucketsByState, `state IN ('open', 'closing')
ORDER BY bucket_id`, nil)
		for _, b := range buckets {
			if i, gated := at[b.SkuID]; gated {
				all[i].Buckets = append(all[i].Buckets, b)
			}
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("read the gates: %w", err)
	}
	return all, err
}
