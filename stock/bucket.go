package stock

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
)

// A flash sale hands units of a SKU from its pool, skus.available, into buckets. A bucket
// is a row here and a home where it is counted down quickly: the memory of one process, or
// a key in Redis. The transaction that places orders takes from the row, guarded by its
// state and its number, so that a home may be wrong, late, restored or dead, and nothing
// is sold twice. The safety argument is one line: the units of the home and of the
// tickets that it has given and that are not committed are never more than remaining.
// Nothing in it is a clock: whoever closes the row has the units, and an old holder finds
// no row.
//
// Pool and open buckets together are what the flows of a SKU add up to. Moves between
// them are no flows: they have numbers of their own in stock_moves.

// BucketState is what a bucket may be taken from.
type BucketState string

// The states.
const (
	// BucketOpen is counted down by its home.
	BucketOpen BucketState = "open"
	// BucketClosing gets nothing more; what its home has given out is still placed.
	BucketClosing BucketState = "closing"
	// BucketClosed is empty for ever.
	BucketClosed BucketState = "closed"
)

// HomeRedis is the home of a bucket in Redis. Any other home is a process, by a name
// that no second one has.
const HomeRedis = "redis"

// Bucket is units of a SKU that were handed out of the pool.
type Bucket struct {
	ID        int64 // never used again
	SkuID     string
	Home      string
	Epoch, No int64 // of a sale in Redis: its time of validity, and the place among its buckets; 0 elsewhere
	State     BucketState
	Remaining int64 // units, of which its home may have given out some
	Seq       int64 // the number of its last move
	SeenAt    time.Time
}

// Bounds of what a home gets.
const (
	// leastGrant: fewer units are not worth a transaction.
	leastGrant = 16
	// KeepPerHolder is how many units for each holder must be in the pool for it to give
	// any away: below that the pool sells the rest exactly, and nothing is moved to and fro.
	KeepPerHolder = 64
)

// Grant asks for units of a SKU for a bucket.
type Grant struct {
	Bucket int64 // its id, drawn by the caller when Seq is 1
	SkuID  string
	Home   string
	Epoch  int64
	No     int64
	Seq    int64 // the number of this move: 1 opens the bucket
	Want   int64 // units
	At     time.Time
}

// Move moves units from the pool into a bucket and gives their number: as many as are
// wanted, at most the share of a holder, and none at all when the pool is not deep any more or
// is not sold at this time. A run whose COMMIT had no answer gives what it moved. A bucket
// that was closed meanwhile, or has a move of this number from elsewhere, is ErrFenced.
func (g *Grant) Move(ctx context.Context, tx *sqldb.Tx) (int64, error) {
	if moved, err := g.done(ctx, tx); err != nil || moved > 0 {
		return moved, err
	}
	units, err := g.share(ctx, tx)
	if err != nil || units == 0 {
		return 0, err
	}
	if g.Seq == 1 {
		_, err = tx.ExecContext(ctx, `INSERT INTO stock_buckets
  (bucket_id, sku_id, epoch, no, home, state, remaining, seq, seen_at)
VALUES (?, ?, ?, ?, ?, 'open', ?, 1, ?)`, g.Bucket, g.SkuID, g.Epoch, g.No, g.Home, units, sqldb.Millis(g.At))
	} else {
		var n int64
		n, err = tx.Update(ctx, `UPDATE stock_buckets
SET remaining = remaining + ?, seq = ?, seen_at = ?
WHERE bucket_id = ?
  AND seq = ?
  AND home = ?
  AND state = 'open'`, units, g.Seq, sqldb.Millis(g.At), g.Bucket, g.Seq-1, g.Home)
		if err == nil && n != 1 {
			return 0, ErrFenced
		}
	}
	if err != nil {
		return 0, fmt.Errorf("grant bucket %d: %w", g.Bucket, err)
	}
	err = insertMoves(ctx, tx, "grant", []Bucket{{ID: g.Bucket, Seq: g.Seq, SkuID: g.SkuID, Remaining: units}}, g.At)
	if err != nil {
		return 0, err
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET available = available - ?
WHERE sku_id = ?
  AND unlimited = 0
  AND available >= ?`, units, g.SkuID, units)
	if err == nil && n != 1 {
		err = sqldb.ErrLostRace
	}
	return units, err
}

// done gives the units of this very move when an earlier run of it was committed.
func (g *Grant) done(ctx context.Context, tx *sqldb.Tx) (units int64, err error) {
	if !tx.MayBeDone() {
		return 0, nil
	}
	err = sqldb.Each(ctx, tx, `SELECT delta
FROM stock_moves
WHERE bucket_id = ?
  AND seq = ?
  AND cause = 'grant'`, []any{g.Bucket, g.Seq}, func(rows *sql.Rows) error { return rows.Scan(&units) })
	return units, err
}

// share locks the SKU and gives how many units a holder may have of it at this moment: half
// of what the pool would give each of the holders, this one among them. A SKU whose gate was
// taken away meanwhile gives none: nobody would take them back. One with a queue gives what is
// wanted, its last unit too, because the pool would sell it above the rate; and it does so before
// its sale begins, so that the first second finds full buckets. All reads are locking ones,
// and so of this moment under every isolation level.
func (g *Grant) share(ctx context.Context, tx *sqldb.Tx) (int64, error) {
	shelf, err := readShelf(ctx, tx, []string{g.SkuID}, "\nFOR UPDATE")
	if err != nil {
		return 0, err
	}
	it := shelf.skus[g.SkuID]
	if it == nil || it.Unlimited || it.closedUntil > sqldb.Millis(g.At) {
		return 0, nil
	}
	gates, err := lockGates(ctx, tx, []string{g.SkuID})
	gate, gated := gates[g.SkuID]
	if err != nil || !gated {
		return 0, err
	}
	if g.Home == HomeRedis && (gate.Mode != GateRedis || gate.Epoch != g.Epoch) {
		return 0, nil // this epoch is over: nobody would ever ask for its units
	}
	queues := g.Home == HomeRedis && gate.queues()
	if it.closed(sqldb.Millis(g.At)) && !queues {
		return 0, nil
	}
	open, err := lockBuckets(ctx, tx, bucketsByState, `state = 'open'
  AND sku_id = ?`, []any{g.SkuID})
	if err != nil {
		return 0, err
	}
	holders := int64(1)
	for i := range open {
		if open[i].ID != g.Bucket {
			holders++
		}
	}
	share := it.Available / (2 * holders)
	switch {
	case queues:
		return min(g.Want, it.Available), nil
	case it.Available < KeepPerHolder*holders || min(g.Want, share) < leastGrant:
		return 0, nil
	}
	return min(g.Want, share), nil
}

// closeBuckets takes what the buckets still hold back into the pool by a
// move of each. The caller holds the rows of their SKUs, which every move locks first, and
// theirs.
func closeBuckets(ctx context.Context, tx *sqldb.Tx, buckets []Bucket, at time.Time) error {
	if len(buckets) == 0 {
		return nil
	}
	ids := make([]any, len(buckets))
	back := make(map[string]int64, len(buckets))
	for i := range buckets {
		b := &buckets[i]
		ids[i] = b.ID
		b.Seq++
		back[b.SkuID] += b.Remaining
	}
	n, err := tx.Update(ctx, `UPDATE stock_buckets
SET state = 'closed', remaining = 0, seq = seq + 1
WHERE bucket_id IN (`+sqldb.In(len(ids))+`)
  AND state <> 'closed'`, ids...)
	if err != nil {
		return fmt.Errorf("close buckets: %w", err)
	}
	if n != int64(len(ids)) {
		return sqldb.ErrLostRace
	}
	closing := make([]Bucket, len(buckets))
	for i, b := range buckets {
		b.Remaining = -b.Remaining
		closing[i] = b
	}
	if err := insertMoves(ctx, tx, "close", closing, at); err != nil {
		return err
	}
	return eachChunk(back, func(ids []string, sum string, args []any) error {
		n, err := tx.Update(ctx, `UPDATE skus
SET `+rearmed(sum)+`,
  available = available + `+sum+`
WHERE sku_id IN (`+sqldb.In(len(ids))+`)`, slices.Concat(args, args, sqldb.Args(ids))...)
		if err == nil && n != int64(len(ids)) {
			err = ErrSKUNotFound
		}
		if err != nil {
			return fmt.Errorf("take buckets back: %w", err)
		}
		failpoint.Hit("gate.recalled")
		return nil
	})
}

// Recall closes the buckets of these SKUs whose home is a process, and gives them as they
// were: their units are in the pool again, to be sold in this transaction. The caller holds the
// rows of the SKUs. Buckets in Redis are left.
func Recall(ctx context.Context, tx *sqldb.Tx, skuIDs []string, at time.Time) ([]Bucket, error) {
	return recall(ctx, tx, `state = 'open'
  AND home <> 'redis'`, skuIDs, at)
}

// recallAll is Recall for the buckets in Redis too. What Redis still has of them is
// worth nothing from then on, and its keeper begins a new epoch.
func recallAll(ctx context.Context, tx *sqldb.Tx, skuIDs []string, at time.Time) ([]Bucket, error) {
	return recall(ctx, tx, `state IN ('open', 'closing')`, skuIDs, at)
}

// recallFree is recallAll but for units that are promised: buckets in Redis of gates with a queue,
// and those that run out, are given as kept, locked.
func recallFree(ctx context.Context, tx *sqldb.Tx, ids []string, gates map[string]lockedGate, at time.Time) (
	back, kept []Bucket, err error) {
	all, err := lockBuckets(ctx, tx, bucketsByState, `state IN ('open', 'closing')
  AND sku_id IN (`+sqldb.In(len(ids))+`)`, sqldb.Args(ids))
	if err != nil {
		return nil, nil, err
	}
	for _, b := range all {
		if b.Home == HomeRedis && (b.State == BucketClosing || gates[b.SkuID].queues()) {
			kept = append(kept, b)
		} else {
			back = append(back, b)
		}
	}
	return back, kept, closeBuckets(ctx, tx, slices.Clone(back), at)
}

// recall is Recall of the buckets that a condition names.
func recall(ctx context.Context, tx *sqldb.Tx, where string, skuIDs []string, at time.Time) ([]Bucket, error) {
	buckets, err := lockBuckets(ctx, tx, bucketsByState, where+`
  AND sku_id IN (`+sqldb.In(len(skuIDs))+`)`, sqldb.Args(skuIDs))
	if err != nil {
		return nil, err
	}
	return buckets, closeBuckets(ctx, tx, slices.Clone(buckets), at)
}

// bucketIndex is the index by which buckets are read. It is named, so that no read under locks
// takes those of rows that it does not want.
type bucketIndex string

// The indexes.
const (
	bucketsByID    bucketIndex = "/*! FORCE INDEX (PRIMARY) */"
	bucketsByState bucketIndex = "/*! FORCE INDEX (ix_buckets_state) */"
)

// lockBuckets reads the buckets that a condition names, by ascending id, and locks them.
func lockBuckets(ctx context.Context, tx *sqldb.Tx, by bucketIndex, where string, args []any) ([]Bucket, error) {
	return readBuckets(ctx, tx, by, where+"\nORDER BY bucket_id\nFOR UPDATE", args)
}

// readBuckets reads the buckets that the end of a statement names.
func readBuckets(ctx context.Context, q sqldb.Querier, by bucketIndex, where string,
	args []any) (buckets []Bucket, err error) {
	err = sqldb.Each(ctx, q, `SELECT bucket_id, sku_id, home, epoch, no, state, remaining, seq, seen_at
FROM stock_buckets `+string(by)+`
WHERE `+where, args, func(rows *sql.Rows) error {
		var b Bucket
		var seen int64
		err := rows.Scan(&b.ID, &b.SkuID, &b.Home, &b.Epoch, &b.No, &b.State, &b.Remaining, &b.Seq, &seen)
		b.SeenAt = sqldb.FromMillis(seen)
		buckets = append(buckets, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read buckets: %w", err)
	}
	return buckets, nil
}

// insertMoves writes a move of each bucket: its number, and Remaining units, negative for
// what goes back to the pool.
func insertMoves(ctx context.Context, tx *sqldb.Tx, cause string, moves []Bucket, at time.Time) error {
	const cols = 6 // as named below
	args := make([]any, 0, cols*len(moves))
	for i := range moves {
		b := &moves[i]
		args = append(args, b.ID, b.Seq, b.SkuID, b.Remaining, cause, sqldb.Millis(at))
	}
	err := tx.InsertRows(ctx, `INSERT INTO stock_moves
  (bucket_id, seq, sku_id, delta, cause, at)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("write moves of buckets: %w", err)
	}
	return nil
}

// takeFromBuckets takes what a batch sold out of its buckets, and fails with ErrFenced
// when one of them is closed or holds less. It is the guard of every unit that a home
// has given out.
func takeFromBuckets(ctx context.Context, tx *sqldb.Tx, taken map[int64]int64) error {
	if len(taken) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(taken))
	sum, args := ofRow("bucket_id", ids, taken)
	n, err := tx.Update(ctx, `UPDATE stock_buckets
SET remaining = remaining - `+sum+`
WHERE bucket_id IN (`+sqldb.In(len(ids))+`)
  AND state IN ('open', 'closing')
  AND remaining >= `+sum, slices.Concat(args, sqldb.Args(ids), args)...)
	if err != nil {
		return fmt.Errorf("take from buckets: %w", err)
	}
	if n != int64(len(ids)) {
		return ErrFenced
	}
	return nil
}
