package stock

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"orderd/migrations/sqldb"
)

// The buckets of a sale in Redis belong to an epoch, a number on its gates that only grows.
// Everything that makes Redis doubtful, or wrong for the gates as they are now, is mended
// in one way: the epoch ends, which closes its rows and so fences whatever Redis still
// gives out, and the next one begins with buckets of its own.

// SharedBucket gives the id of the bucket of a SKU in Redis, by its epoch and its place among
// the buckets of the sale. It is the same for everybody who opens it, and another one in
// every epoch. Scripts of Redis count in floating point: it is below 2^53.
func SharedBucket(skuID string, epoch, no int64) int64 {
	sum := sha256.Sum256([]byte(strconv.FormatInt(epoch, 10) + "/" + strconv.FormatInt(no, 10) + "/" + skuID))
	return int64(binary.BigEndian.Uint64(sum[:8])>>11) + 1
}

// NewEpoch ends the epoch of a sale and begins another, of a number above floor and above those
// of all its gates: the units of its buckets go back to the pool. few says that the next one has one
// bucket, however many were set. from has the epoch of each gate of the sale in mode redis as
// the caller has read them; when that is not how they are any more, nothing is done. It reports
// whether this call did.
func (a *Admin) NewEpoch(ctx context.Context, sale string, from map[string]int64, floor int64,
	few bool) (begun bool, err error) {
	now := a.now()
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		begun = false
		ids := slices.Sorted(maps.Keys(from))
		if _, err := readShelf(ctx, tx, ids, "\nFOR UPDATE"); err != nil {
			return err
		}
		gates, err := lockGates(ctx, tx, ids)
		if err != nil {
			return err
		}
		to := floor
		for id, epoch := range from {
			if g, open := gates[id]; !open || g.Mode != GateRedis || g.Epoch != epoch {
				return nil
			}
			to = max(to, epoch)
		}
		counts := ""
		if few {
			counts = fewBuckets
		}
		_, err = beginEpoch(ctx, tx, sale, ids, to+1, now, ", counts = ?", counts)
		begun = err == nil
		return err
	})
	if errors.Is(err, errOtherSale) {
		return false, nil
	}
	return begun && err == nil, err
}

// beginEpoch takes what is in buckets of these gates of a sale back into the pools, and gives them the
// number of the next epoch. set is more to be written to them. The buckets are given as they
// were; the caller holds the rows of the SKUs. A gate that is of another sale by now is
// errOtherSale.
func beginEpoch(ctx context.Context, tx *sqldb.Tx, sale string, ids []string, epoch int64, now time.Time,
	set string, args ...any) ([]Bucket, error) {
	buckets, err := recallAll(ctx, tx, ids, now)
	if err != nil {
		return nil, err
	}
	n, err := tx.Update(ctx, `UPDATE stock_gates
SET epoch = ?, updated_at = ?`+set+`
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND sale = ?
  AND mode <> 'off'`, slices.Concat([]any{epoch, sqldb.Millis(now)}, args, sqldb.Args(ids), []any{sale})...)
	if err == nil && n != int64(len(ids)) {
		err = errOtherSale
	}
	return buckets, sqldb.Wrap("begin an epoch", err)
}

// fewBuckets is in stock_gates.counts when an epoch has one bucket.
const fewBuckets = "1"

// Drain begins the end of the buckets of these SKUs in Redis, in order: they get nothing more, and
// are not called back. Their keeper gives out no more of them, and gives them up when orders
// were made of all that waits.
func (a *Admin) Drain(ctx context.Context, skuIDs []string) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := readShelf(ctx, tx, skuIDs, "\nFOR UPDATE"); err != nil {
			return err
		}
		return drain(ctx, tx, skuIDs)
	})
}

// drain is Drain in a transaction that holds the rows of the SKUs.
func drain(ctx context.Context, tx *sqldb.Tx, skuIDs []string) error {
	_, err := tx.Update(ctx, `UPDATE stock_buckets
SET state = 'closing'
WHERE sku_id IN (`+sqldb.In(len(skuIDs))+`)
  AND state = 'open'
  AND home = 'redis'`, sqldb.Args(skuIDs)...)
	return sqldb.Wrap("let buckets run out", err)
}

// errOtherSale: a gate is of another sale by now.
var errOtherSale = errors.New("a gate of another sale")

// MoveOf gives the units of a move of a bucket, false when there is no such move.
func (a *Admin) MoveOf(ctx context.Context, bucket, seq int64) (units int64, found bool, err error) {
	moves, err := sqldb.Decided(ctx, a.db, `SELECT delta
FROM stock_moves
WHERE bucket_id = ?
  AND seq = ?`, []any{bucket, seq}, sqldb.Column[int64])
	if err != nil || len(moves) == 0 {
		return 0, false, sqldb.Wrap("read a move", err)
	}
	return moves[0], true, nil
}

// Granted gives how many units came to a bucket by its moves up to a number.
func (a *Admin) Granted(ctx context.Context, bucket, seq int64) (int64, error) {
	sums, err := sqldb.Decided(ctx, a.db, `SELECT COALESCE(SUM(delta), 0)
FROM stock_moves
WHERE bucket_id = ?
  AND seq <= ?
  AND cause = 'grant'`, []any{bucket, seq}, sqldb.Column[int64])
	if err != nil || len(sums) == 0 {
		return 0, sqldb.Wrap("add up the moves of a bucket", err)
	}
	return sums[0], nil
}

// Placed gives those of these orders that have taken units.
func (a *Admin) Placed(ctx context.Context, orderNos []string) (map[string]bool, error) {
	found := make(map[string]bool, len(orderNos))
	if len(orderNos) == 0 {
		return found, nil
	}
	nos, err := sqldb.Decided(ctx, a.db, `SELECT DISTINCT order_no
FROM stock_flows
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
  AND kind = 'deduct'`, sqldb.Args(orderNos), sqldb.Column[string])
	if err != nil {
		return nil, fmt.Errorf("look for orders: %w", err)
	}
	for _, no := range nos {
		found[no] = true
	}
	return found, nil
}
