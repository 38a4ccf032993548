package stock

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"orderd/migrations/sqldb"
)

// A SKU may have a threshold, skus.low_at (below 0: none). When no more units than that are left,
// the shop is told, once: skus.low_told is 1 from then on, until there are more again. Both change
// under the lock of the SKU's row alone, so that of two who see it fall one tells.
//
// What is left is the pool and the buckets together. A batch that takes from the pool sees the very
// unit: its decrement demands (lowGuard) that it does not pass the threshold unseen, and whoever
// comes near it has the row locked. Takers from buckets hold no row of the SKU, and several of them
// at a time: they lock it when what they see is within a few batches of the threshold. Where they
// pass it all the same, the next one who takes of the SKU tells, or the first who is refused because
// nothing is left.

// Tell tells the shop, in the transaction that makes it so, that of each of these SKUs no more is
// left than its threshold.
type Tell func(ctx context.Context, tx *sqldb.Tx, skuIDs []string, at time.Time) error

// noThreshold as skus.low_at is no threshold.
const noThreshold = -1

// watched reports that somebody is to be told when little is left, and was not yet.
func (s *SKU) watched() bool { return s.LowAt > 0 && !s.lowTold && !s.Unlimited }

// mayFall reports that a batch that takes so many units of the pool comes to the threshold, as far
// as the row was when it was read.
func (i *item) mayFall(units int64) bool {
	return units > 0 && i.watched() && i.Available-units <= i.LowAt
}

// lowGuard is the condition of a decrement that it does not pass a threshold of which nobody was
// told, with its arguments; those of judged were looked at under their lock.
func lowGuard(sum string, args []any, judged []string) (guard string, guardArgs []any) {
	guard = "(low_at < 0 OR low_told = 1 OR available - " + sum + " > low_at"
	guardArgs = args
	if len(judged) > 0 {
		guard += " OR sku_id IN (" + sqldb.In(len(judged)) + ")"
		guardArgs = slices.Concat(args, sqldb.Args(judged))
	}
	return guard + ")", guardArgs
}

// judgeLow tells of the SKUs that this batch takes to their threshold. It gives those that lowGuard
// is not to hold back: more of them is in buckets, or they were judged here.
func (s *Shelf) judgeLow(ctx context.Context, tx *sqldb.Tx, at time.Time) (judged []string, err error) {
	if err := s.lookAgain(ctx, tx); err != nil {
		return nil, err
	}
	judged, sold := s.nearLow()
	if len(judged) == 0 {
		return nil, nil
	}
	allocated, err := findAllocated(ctx, tx, judged)
	if err != nil {
		return nil, err
	}
	near := slices.DeleteFunc(slices.Clone(judged), func(id string) bool {
		it, few := s.skus[id], sold[id]
		if allocated[id] > 0 { // others take of it at this moment
			few *= tight
		}
		return it.Available+allocated[id]-few > it.LowAt
	})
	if len(near) == 0 {
		return judged, nil
	}
	// Read again where it is locked, too: this transaction may have put units back since.
	rows, err := readShelf(ctx, tx, slices.Sorted(maps.Keys(s.skus)), "\nFOR UPDATE")
	if err != nil {
		return nil, err
	}
	s.locked = true
	if allocated, err = lockAllocated(ctx, tx, near); err != nil {
		return nil, err
	}
	var fallen []string
	for _, id := range near {
		if it := rows.skus[id]; it != nil && it.watched() && it.Available+allocated[id]-sold[id] <= it.LowAt {
			fallen = append(fallen, id)
		}
	}
	return judged, tellLow(ctx, tx, s.tell, fallen, at)
}

// lookAgain asks of the SKUs that this batch takes, and of which the shop had been told when they were
// read, whether it was: what this very transaction has put back lets it be told again, and lowGuard
// would hold it back in every run.
func (s *Shelf) lookAgain(ctx context.Context, tx *sqldb.Tx) error {
	told := false
	for _, it := range s.skus {
		told = told || it.LowAt > 0 && it.lowTold && it.taken > 0
	}
	if !told {
		return nil
	}
	rows, err := readShelf(ctx, tx, slices.Sorted(maps.Keys(s.skus)), "\nFOR UPDATE")
	if err != nil {
		return err
	}
	for id, it := range rows.skus {
		s.skus[id].lowTold = it.lowTold
	}
	s.locked = true
	return nil
}

// nearLow gives the SKUs whose pool, as this batch has read it, is at their threshold when this batch
// and a few like it have taken of them, ascending, and how many units it takes of each, of pool and
// buckets. What is taken of the pool alone is only looked at under its lock: else lowGuard does.
func (s *Shelf) nearLow() (near []string, sold map[string]int64) {
	sold = map[string]int64{}
	for i := range s.flows {
		if f := &s.flows[i]; s.skus[f.skuID].watched() {
			sold[f.skuID] -= f.delta
		}
	}
	for id, n := range sold {
		it := s.skus[id]
		switch pool := it.taken == n; {
		case pool && (!s.locked || it.Available-n > it.LowAt), !pool && it.Available-tight*n > it.LowAt:
		default:
			near = append(near, id)
		}
	}
	slices.Sort(near)
	return near, sold
}

// tellSoldOut tells of SKUs of which somebody was refused, rows, and nothing is left: those that took
// the last from buckets did not see one another. The rows are locked.
func (s *Shelf) tellSoldOut(ctx context.Context, tx *sqldb.Tx, rows *Shelf, at time.Time) error {
	var watched []string
	for id, it := range rows.skus {
		if it.watched() && it.Available == 0 {
			watched = append(watched, id)
		}
	}
	if len(watched) == 0 {
		return nil
	}
	slices.Sort(watched)
	allocated, err := lockAllocated(ctx, tx, watched)
	if err != nil {
		return err
	}
	fallen := slices.DeleteFunc(watched, func(id string) bool { return allocated[id] > rows.skus[id].LowAt })
	return tellLow(ctx, tx, s.tell, fallen, at)
}

// findAllocated gives what is in buckets of SKUs that are not closed, at this moment.
func findAllocated(ctx context.Context, tx *sqldb.Tx, skuIDs []string) (map[string]int64, error) {
	allocated := map[string]int64{}
	err := sqldb.Each(ctx, tx, `SELECT sku_id, SUM(remaining)
FROM stock_buckets `+string(bucketsByState)+`
WHERE state IN ('open', 'closing')
  AND sku_id IN (`+sqldb.In(len(skuIDs))+`)
GROUP BY sku_id`, sqldb.Args(skuIDs), func(rows *sql.Rows) error {
		var id string
		var n int64
		err := rows.Scan(&id, &n)
		allocated[id] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add up buckets: %w", err)
	}
	return allocated, nil
}

// tellLow marks SKUs, whose rows are locked, as told of, and tells.
func tellLow(ctx context.Context, tx *sqldb.Tx, tell Tell, ids []string, at time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET low_told = 1
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND low_told = 0`, sqldb.Args(ids)...)
	if err == nil && n != int64(len(ids)) {
		err = sqldb.ErrLostRace
	}
	if err == nil && tell != nil {
		err = tell(ctx, tx, ids, at)
	}
	return sqldb.Wrap("tell that little is left", err)
}

// rearmed is the SET of skus.low_told for units that come into the pool. It stands before that of
// available, which MySQL has changed already where it comes first.
func rearmed(sum string) string {
	return "low_told = CASE WHEN available + " + sum + " > low_at THEN 0 ELSE low_told END"
}

// judge tells, or lets tell again, by what is left of a SKU from now on. Its row, which was read as
// sku, and its buckets are locked.
func judge(ctx context.Context, tx *sqldb.Tx, tell Tell, sku *SKU, left int64, at time.Time) error {
	low := sku.LowAt > 0 && !sku.Unlimited && left <= sku.LowAt
	switch {
	case low == sku.lowTold:
		return nil
	case low:
		return tellLow(ctx, tx, tell, []string{sku.SkuID}, at)
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET low_told = 0
WHERE sku_id = ?
  AND low_told = 1`, sku.SkuID)
	if err == nil && n != 1 {
		err = sqldb.ErrLostRace
	}
	return err
}

// setLow gives a SKU, whose row and buckets are locked, another threshold, 0 for none. One that is
// reached already is told at once.
func (a *Admin) setLow(ctx context.Context, tx *sqldb.Tx, sku *SKU, lowAt int64) error {
	stored := lowAt
	if lowAt == 0 {
		stored = noThreshold
	}
	_, err := tx.Update(ctx, `UPDATE skus
SET low_at = ?
WHERE sku_id = ?`, stored, sku.SkuID)
	if err != nil {
		return fmt.Errorf("set the threshold of %s: %w", sku.SkuID, err)
	}
	sku.LowAt = lowAt
	return judge(ctx, tx, a.tell, sku, sku.Free(), a.now())
}

// SetLow gives a SKU another threshold: when no more than so many units are left, in pool and buckets,
// the shop is told, once until there are more again; 0 for none. One that is reached already is told
// at once. Errors: *InvalidError, ErrSKUNotFound, database errors.
func (a *Admin) SetLow(ctx context.Context, skuID string, lowAt int64) (sku SKU, err error) {
	if bad := wrongLow(&lowAt); bad != nil {
		return SKU{}, &InvalidError{bad}
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if sku, err = lockSKU(ctx, tx, skuID); err != nil {
			return err
		}
		return a.setLow(ctx, tx, &sku, lowAt)
	})
	if err != nil {
		return SKU{}, err
	}
	return sku, nil
}
