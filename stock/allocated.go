package stock

import (
	"context"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
)

// What is free of a SKU is in its pool, skus.available, or allocated: in buckets that are not
// closed. Both together are what its flows add up to, so that whoever holds a number
// against the flows, or judges it for a person, takes the sum.

// allocatedColumn is what is allocated of a SKU in a statement that reads skus: so both are
// of one moment, while units move between them.
const allocatedColumn = `(
  SELECT COALESCE(SUM(b.remaining), 0)
  FROM stock_buckets b
  WHERE b.sku_id = skus.sku_id
    AND b.state IN ('open', 'closing'))`

// ElsewhereError: a change would take more out of the pool than is there, and the rest is in
// Redis under a gate with a queue, promised to those who wait in line. Nothing moved. All
// numbers are in units.
type ElsewhereError struct {
	SkuID     string
	Pool      int64 // with what was called back for the change
	Elsewhere int64
	Delta     int64
}

// Error gives the numbers, and the way out.
func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("%d units of %s are in buckets of a sale with a queue, and its pool of %d cannot bear a change "+
		"of %d: end its sale first", e.Elsewhere, e.SkuID, e.Pool, e.Delta)
}

// Free is what can be sold of a SKU by the books: its pool, and what is allocated.
func (s *SKU) Free() int64 { return s.Available + s.Allocated }

// lockAllocated locks the buckets of SKUs that are not closed, and gives what is in them: no
// order takes from them until the transaction ends. The caller holds the rows of the SKUs, so
// that none is opened either.
func lockAllocated(ctx context.Context, tx *sqldb.Tx, skuIDs []string) (map[string]int64, error) {
	buckets, err := lockBuckets(ctx, tx, bucketsByState, `state IN ('open', 'closing')
  AND sku_id IN (`+sqldb.In(len(skuIDs))+`)`, sqldb.Args(skuIDs))
	if err != nil {
		return nil, err
	}
	allocated := make(map[string]int64)
	for _, b := range buckets {
		allocated[b.SkuID] += b.Remaining
	}
	return allocated, nil
}

// callBack takes what is in buckets of SKUs back into their pools, as a placement does that
// finds them short, but for units that are promised. The rows of the SKUs are locked and given
// as they were read then.
func callBack(ctx context.Context, tx *sqldb.Tx, skus []*SKU, at time.Time) error {
	held := make(map[string]*SKU)
	var ids []string
	for _, s := range skus {
		if s.Allocated > 0 {
			held[s.SkuID] = s
			ids = append(ids, s.SkuID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	gates, err := lockGates(ctx, tx, ids)
	if err != nil {
		return err
	}
	buckets, _, err := recallFree(ctx, tx, ids, gates, at)
	for _, b := range buckets {
		held[b.SkuID].Available += b.Remaining
		held[b.SkuID].Allocated -= b.Remaining
	}
	return err
}

// bears refuses a change that the pool of a SKU cannot bear: with a *BelowZeroError when all
// that is free could not either, else with an *ElsewhereError.
func (s *SKU) bears(delta int64) error {
	switch {
	case s.Free()+delta < 0:
		return &BelowZeroError{Available: s.Free(), Delta: delta}
	case s.Available+delta < 0:
		return &ElsewhereError{SkuID: s.SkuID, Pool: s.Available, Elsewhere: s.Allocated, Delta: delta}
	}
	return nil
}
