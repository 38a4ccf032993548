package stock

import (
	"context"
	"database/sql"
	"maps"
	"slices"

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
		all, err = gateStocks(ctx, tx, `g.mode IN ('local', 'redis')`)
		return err
	})
	return all, sqldb.Wrap("read the gates", err)
}

// SaleStocks gives the gates of one sale as GateStocks does: of the sale that a SKU of this
// name is in, else of the sale of this name. Of a SKU whose gate is off it gives that one; none
// is no error. It is for showing.
func (a *Admin) SaleStocks(ctx context.Context, name string) (all []GateStock, err error) {
	err = a.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		g, found, err := findGate(ctx, tx, name)
		if err != nil {
			return err
		}
		if found && g.Mode == GateOff {
			all, err = gateStocks(ctx, tx, `g.sku_id = ?`, name)
			return err
		}
		sale := name
		if found {
			sale = g.Sale
		}
		all, err = gateStocks(ctx, tx, `g.mode IN ('local', 'redis')
  AND g.sale = ?`, sale)
		return err
	})
	return all, sqldb.Wrap("read a sale", err)
}

// gateStocks reads the gates that a condition names, and the buckets of their SKUs.
func gateStocks(ctx context.Context, tx *sqldb.Tx, where string, args ...any) (all []GateStock, err error) {
	at := map[string]int{}
	err = sqldb.Each(ctx, tx, selectGates+`WHERE `+where+`
ORDER BY g.sku_id`, args, func(rows *sql.Rows) error {
		g, err := scanGate(rows)
		at[g.SkuID] = len(all)
		all = append(all, GateStock{Gate: g})
		return err
	})
	if err != nil || len(all) == 0 {
		return all, err
	}
	buckets, err := readBuckets(ctx, tx, bucketsByState, `state IN ('open', 'closing')
  AND sku_id IN (`+sqldb.In(len(at))+`)
ORDER BY bucket_id`, sqldb.Args(slices.Collect(maps.Keys(at))))
	for _, b := range buckets {
		all[at[b.SkuID]].Buckets = append(all[at[b.SkuID]].Buckets, b)
	}
	return all, err
}
