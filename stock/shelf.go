package stock

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
)

// updateChunk is how many SKUs one UPDATE names: its CASE is searched from the top
// for every row, so that a long one costs the square of its length.
const updateChunk = 64

// tight is how many times the demand of a batch must be on the shelf for the
// batch to go without locking it first. Below that a neighbour's batch may well
// take what this one counted on, and a decision made under a lock is cheaper
// than one made twice.
const tight = 4

// Shelf is the SKUs of a batch of placements, inside one transaction. Take
// decides in memory, in the order of the calls; Commit writes what was decided
// and holds it against the table: a decrement that would go below zero fails
// the transaction, whatever was read.
type Shelf struct {
	now     int64 // see Want
	skus    map[string]*item
	flows   []flow
	buckets map[int64]int64       // what was taken from them, units by id
	held    map[int64]*Bucket     // of a batch that was fenced: what they hold, read under locks; nil for unread
	gated   map[string]lockedGate // those of the short ones that have a gate
	news    News
	locked  bool // the rows of the SKUs were locked when they were read
	tell    Tell
}

// News is what a batch has learned of gates, to be believed when its transaction is committed.
type News struct {
	Closed []Closed
	Fenced []int64 // buckets that hold nothing any more, or less than their homes gave out
	// Recalled is how many of these this batch has called back itself, because the pool was short.
	Recalled int
}

// Closed is a SKU whose pool is not sold, to anybody new, for at least so long from when
// the batch read it.
type Closed struct {
	SkuID   string
	For     time.Duration
	OpensAt time.Time // of a sale that has not begun; zero: sold out
}

// item is one SKU of a Shelf, of whose columns only those that an order needs are read.
type item struct {
	SKU
	left        int64 // Available less what this batch took; 0 while the pool is not sold
	taken       int64
	opensAt     int64 // milliseconds of the database's clock
	closedUntil int64
	short       bool // somebody was refused
	elsewhere   bool // units are in buckets that were not called back
}

// closed reports that the pool is not sold at this time, in milliseconds: the sale has not
// begun, or the SKU is sold out.
func (i *item) closed(now int64) bool { return max(i.opensAt, i.closedUntil) > now }

// flow is one row of stock_flows: so many units, moved by this order or operator. Flows
// are written and never changed.
type flow struct {
	orderNo string // "" for an operator's
	kind    Kind
	ref     string
	skuID   string
	delta   int64 // units, negative for what was taken
	bucket  int64 // that it was taken from; 0: the pool
}

// Want is what a batch needs of the shelf.
type Want struct {
	// Units are asked of the pool, or FromNowhere, by SKU, all members together. A SKU whose units are
	// taken from buckets alone stands here with 0: its price is read.
	Units map[string]int64
	// Buckets are those that members take from.
	Buckets []int64
	// Fenced says that this batch has met ErrFenced: the buckets are read under locks.
	Fenced bool
	// At is now, by the database's clock.
	At time.Time
	// Tell is asked when this batch takes a SKU to its threshold; nil: nobody is told.
	Tell Tell
	// Again says that orders which exist take again what they have given back: what is not
	// sold to anybody new is sold to them.
	Again bool
}

// now is At in milliseconds, or for Again a time at which everything is sold.
func (w *Want) now() int64 {
	if w.Again {
		return math.MaxInt64
	}
	return sqldb.Millis(w.At)
}

// Open reads the SKUs that a batch asks for. Where stock is tight the rows are locked, in
// ascending order, until the transaction ends. Where the pool is short and there are buckets
// of the SKU, in processes or in Redis, they are recalled: so the last unit is sold exactly,
// and nobody is told sold out while another home has one.
func Open(ctx context.Context, tx *sqldb.Tx, want Want) (*Shelf, error) {
	ids := slices.Sorted(maps.Keys(want.Units))
	s, err := readShelf(ctx, tx, ids, "")
	if err != nil {
		return nil, err
	}
	// The decrement at the end would wait, and locks are taken in one order: SKUs, buckets.
	lock := tx.NoWait() || want.Fenced
	for id, it := range s.skus {
		scarce := !it.Unlimited && it.Available > 0 && it.Available < tight*want.Units[id]
		lock = lock || (scarce || it.mayFall(want.Units[id])) && !it.closed(want.now())
	}
	if !lock { // a gate that is short is looked at under its lock: units move between two reads
		lock, err = gated(ctx, tx, s.short(want))
		if err != nil {
			return nil, err
		}
	}
	if lock {
		if s, err = readShelf(ctx, tx, ids, "\nFOR UPDATE"); err != nil {
			return nil, err
		}
		if err := s.recall(ctx, tx, want); err != nil {
			return nil, err
		}
	}
	for _, it := range s.skus {
		it.left = it.Available
		if it.closed(want.now()) && !it.Unlimited {
			it.left = 0
		}
	}
	s.now, s.buckets, s.tell = want.now(), make(map[int64]int64, len(want.Buckets)), want.Tell
	if len(want.Buckets) > 0 && (want.Fenced || tx.NoWait()) {
		err = s.holdBuckets(ctx, tx, want.Buckets)
	}
	return s, err
}

// short gives the SKUs of which the pool has less than is asked for, ascending.
func (s *Shelf) short(want Want) (ids []string) {
	for id, it := range s.skus {
		if !it.Unlimited && it.Available < want.Units[id] && !it.closed(want.now()) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// gated reports that one of the SKUs has a gate.
func gated(ctx context.Context, tx *sqldb.Tx, ids []string) (bool, error) {
	if len(ids) == 0 {
		return false, nil
	}
	found, err := sqldb.Known(ctx, tx, `SELECT sku_id
FROM stock_gates
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND mode <> 'off'
LIMIT 1`, sqldb.Args(ids)...)
	return found, sqldb.Wrap("look for gates", err)
}

// recall takes the buckets of the short SKUs back into the pool, and notes which of them have
// a gate. Buckets in Redis of a gate with a queue stay, and those that run out: what is in them is
// set aside for those who wait, or was refused to this placement when it asked them. The rows of
// the SKUs are locked, without which neither gates nor buckets change;
// both are read under locks, so that an old snapshot does not hide them.
func (s *Shelf) recall(ctx context.Context, tx *sqldb.Tx, want Want) error {
	ids := s.short(want)
	if len(ids) == 0 {
		return nil
	}
	var err error
	if s.gated, err = lockGates(ctx, tx, ids); err != nil || len(s.gated) == 0 {
		return err
	}
	buckets, kept, err := recallFree(ctx, tx, slices.Sorted(maps.Keys(s.gated)), s.gated, want.At)
	if err != nil {
		return err
	}
	for _, b := range kept {
		if it := s.skus[b.SkuID]; it != nil && b.Remaining > 0 {
			it.elsewhere = true
		}
	}
	if len(buckets) == 0 {
		return nil
	}
	s.held = make(map[int64]*Bucket, len(buckets))
	for _, b := range buckets {
		if it := s.skus[b.SkuID]; it != nil {
			it.Available += b.Remaining
		}
		s.held[b.ID] = &Bucket{ID: b.ID, SkuID: b.SkuID, State: BucketClosed}
		s.news.Fenced = append(s.news.Fenced, b.ID)
	}
	s.news.Recalled += len(buckets)
	return nil
}

// holdBuckets reads buckets and locks them: what they hold, and not what their homes believe,
// is given out.
func (s *Shelf) holdBuckets(ctx context.Context, tx *sqldb.Tx, ids []int64) error {
	buckets, err := lockBuckets(ctx, tx, bucketsByID, `bucket_id IN (`+sqldb.In(len(ids))+`)
  AND state <> 'closed'`, sqldb.Args(ids))
	if err != nil {
		return err
	}
	s.held = make(map[int64]*Bucket, len(ids))
	for _, id := range ids {
		s.held[id] = &Bucket{ID: id, State: BucketClosed}
	}
	for i := range buckets {
		s.held[buckets[i].ID] = &buckets[i]
	}
	return nil
}

// Held says which of the SKUs have a row that another session holds at this moment. It
// waits for none of them.
func Held(ctx context.Context, db *sqldb.DB, ids []string) (map[string]bool, error) {
	return db.Held(ctx, `SELECT sku_id
FROM skus /*! FORCE INDEX (PRIMARY) */
WHERE sku_id IN (?)
FOR UPDATE`, ids)
}

// readShelf reads SKUs, in ascending order; lock is "" or a FOR UPDATE.
func readShelf(ctx context.Context, tx *sqldb.Tx, ids []string, lock string) (*Shelf, error) {
	s := &Shelf{skus: make(map[string]*item, len(ids)), locked: lock != ""}
	if len(ids) == 0 {
		return s, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT sku_id, price_fen, available, unlimited, opens_at, closed_until,
  per_customer, low_at, low_told
FROM skus /*! FORCE INDEX (PRIMARY) */
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
ORDER BY sku_id`+lock, sqldb.Args(ids)...)
	if err != nil {
		return nil, fmt.Errorf("read the shelf: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		it := new(item)
		if err := rows.Scan(&it.SkuID, &it.PriceFen, &it.Available, &it.Unlimited, &it.opensAt, &it.closedUntil,
			&it.PerCustomer, &it.LowAt, &it.lowTold); err != nil {
			return nil, fmt.Errorf("read the shelf: %w", err)
		}
		it.left, it.LowAt = it.Available, max(it.LowAt, 0)
		s.skus[it.SkuID] = it
	}
	return s, rows.Err()
}

// SKU gives price and stock as they were read; only id, price, stock, PerCustomer, LowAt and
// Unlimited are set.
func (s *Shelf) SKU(id string) (SKU, bool) {
	it, ok := s.skus[id]
	if !ok {
		return SKU{}, false
	}
	return it.SKU, true
}

// OpensAt gives the begin of the SKU's sale when it is still to come.
func (s *Shelf) OpensAt(id string) (at time.Time, coming bool) {
	it := s.skus[id]
	if it == nil || it.opensAt <= s.now {
		return time.Time{}, false
	}
	return sqldb.FromMillis(it.opensAt), true
}

// Take takes all lines for an order and gives nil, or takes nothing and tells what
// was short. from has the bucket of each line, 0 for the pool, FromNowhere for neither; nil: all
// are of the pool. The order must be new (a repeat has to be found before, or the last
// unit would be refused to the one who has it), its lines name every SKU once, and
// all of them exist.
func (s *Shelf) Take(orderNo string, lines []Line, from []int64) []Short {
	return s.take(orderNo, "", lines, from)
}

// PutBack counts units that this transaction returns before Commit takes. The SKUs that
// the shelf does not have are passed over.
func (s *Shelf) PutBack(lines []Line) {
	for _, l := range lines {
		if it := s.skus[l.SkuID]; it != nil {
			it.left += l.Quantity
		}
	}
}

// TakeAgain is Take for an order whose stock had been returned by a close: its
// flows have a ref of their own, so that it can happen once.
func (s *Shelf) TakeAgain(orderNo string, lines []Line) []Short {
	for i, l := range lines {
		if _, ok := s.skus[l.SkuID]; !ok {
			return []Short{{Index: i, SkuID: l.SkuID, Requested: l.Quantity}}
		}
	}
	return s.take(orderNo, RefRevive, lines, nil)
}

// take is Take, with flows of this ref. An unlimited SKU leaves its flow too, so that a
// return knows what the order took.
func (s *Shelf) take(orderNo, ref string, lines []Line, from []int64) []Short {
	var short []Short
	for i, l := range lines {
		it := s.skus[l.SkuID]
		source := s.source(from, i, l)
		if source == FromNowhere || source == 0 && !it.Unlimited && it.left < l.Quantity {
			it.short = true
			short = append(short, Short{Index: i, SkuID: l.SkuID, Requested: l.Quantity, Available: it.left,
				Elsewhere: it.elsewhere, Kept: source == FromNowhere && it.left > 0})
		}
	}
	if short != nil {
		return short
	}
	for i, l := range lines {
		it := s.skus[l.SkuID]
		bucket := s.source(from, i, l)
		switch {
		case bucket != 0:
			s.buckets[bucket] += l.Quantity
			if b := s.held[bucket]; b != nil {
				b.Remaining -= l.Quantity
			}
		case !it.Unlimited:
			it.left -= l.Quantity
			it.taken += l.Quantity
		}
		s.flows = append(s.flows, flow{orderNo: orderNo, kind: KindDeduct, ref: ref, skuID: l.SkuID,
			delta: -l.Quantity, bucket: bucket})
	}
	return nil
}

// source gives the bucket that a line is taken from, 0 for the pool: its own, unless that was
// found closed, empty or another SKU's. FromNowhere stays.
func (s *Shelf) source(from []int64, i int, l Line) int64 {
	if from == nil || from[i] == 0 || s.skus[l.SkuID].Unlimited {
		return 0
	}
	if from[i] == FromNowhere {
		return FromNowhere
	}
	b := s.held[from[i]]
	if b == nil {
		return from[i] // believed, and held against the row by Commit
	}
	if b.State != BucketClosed && b.SkuID == l.SkuID && b.Remaining >= l.Quantity {
		return from[i]
	}
	if !slices.Contains(s.news.Fenced, b.ID) {
		s.news.Fenced = append(s.news.Fenced, b.ID)
	}
	return 0
}

// Taken gives what was taken for which order, in the order of the calls, until Commit,
// which sorts it. It is an iterator for range.
func (s *Shelf) Taken(yield func(orderNo string, taken Line) bool) {
	for i := range s.flows {
		if f := &s.flows[i]; !yield(f.orderNo, Line{SkuID: f.skuID, Quantity: -f.delta}) {
			return
		}
	}
}

// Commit writes the flows and the decrements. It fails with sqldb.ErrLostRace,
// which runs the transaction again, when the shelf no longer holds what Take
// gave away, and with ErrFenced, which does so too, when a bucket does not. The
// decrements come last, so that a hot row is locked briefly. A batch that took nothing
// calls it as well: it may have to mark a SKU as sold out.
func (s *Shelf) Commit(ctx context.Context, tx *sqldb.Tx, at time.Time) error {
	return s.write(ctx, tx, at, tx.UpdateRows)
}

// CommitLast is Commit where the transaction has nothing more to do: not even a read may
// follow. Of a server that can, the decrement is the COMMIT as well (sqldb.Tx.UpdateLast).
func (s *Shelf) CommitLast(ctx context.Context, tx *sqldb.Tx, at time.Time) error {
	return s.write(ctx, tx, at, func(ctx context.Context, rows int, query string, args ...any) error {
		queue := "sku_id"
		if s.locked { // those before us in the queue would wait for our row, and we for our turn
			queue = ""
		}
		return tx.UpdateLast(ctx, rows, queue, query, args...)
	})
}

// write is Commit, which sends the decrement by last if that is all that is left to send.
// Where there are several none of them is: half of the batch would be committed. Buckets
// have nothing to gain, each is one process's; nor has a batch of so many SKUs that one
// UPDATE does not hold them.
func (s *Shelf) write(ctx context.Context, tx *sqldb.Tx, at time.Time,
	last func(ctx context.Context, rows int, query string, args ...any) error) error {
	if err := insertFlows(ctx, tx, s.flows, at); err != nil {
		return err
	}
	taken := make(map[string]int64, len(s.skus))
	for id, it := range s.skus {
		if it.taken > 0 {
			taken[id] = it.taken
		}
	}
	judged, err := s.judgeLow(ctx, tx, at)
	if err != nil {
		return err
	}
	soldOut, update := s.soldOut(), tx.UpdateRows
	if len(taken) <= updateChunk && len(s.buckets) == 0 && len(soldOut) == 0 {
		update = last
	}
	err = eachChunk(taken, func(ids []string, sum string, args []any) error {
		guard, guardArgs := lowGuard(sum, args, judged)
		query := `UPDATE skus
SET available = available - ` + sum + `
WHERE sku_id IN (` + sqldb.In(len(ids)) + `)
  AND unlimited = 0
  AND opens_at <= ?
  AND closed_until <= ?
  AND available >= ` + sum
		query += "\n  AND " + guard
		err := update(ctx, len(ids), query,
			slices.Concat(args, sqldb.Args(ids), []any{s.now, s.now}, args, guardArgs)...)
		if err != nil {
			return fmt.Errorf("take from the shelf: %w", err)
		}
		failpoint.Hit("place.taken")
		return nil
	})
	if err != nil {
		return err
	}
	if err := takeFromBuckets(ctx, tx, s.buckets); err != nil {
		return err
	}
	return s.sellOut(ctx, tx, soldOut, at)
}

// soldOut gives the SKUs that sellOut is to mark, in ascending order.
func (s *Shelf) soldOut() (ids []string) {
	for id, it := range s.skus {
		if _, gated := s.gated[id]; gated && it.short && it.left == 0 && !it.elsewhere && !it.closed(s.now) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// sellOut marks the SKUs of which this batch has refused somebody and nothing is left: the
// pool is not sold before it is opened again, and who reads the mark may say so from
// memory for as long as it stands. Only gates are marked: nobody would open another SKU
// again. Nothing may be in a bucket either, which is looked at under the lock of the SKU,
// without which no bucket gets anything and no gate is taken away.
func (s *Shelf) sellOut(ctx context.Context, tx *sqldb.Tx, ids []string, at time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := readShelf(ctx, tx, ids, "\nFOR UPDATE")
	if err != nil {
		return err
	}
	if err := s.tellSoldOut(ctx, tx, rows, at); err != nil {
		return err
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET closed_until = ?
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND available = 0
  AND closed_until <= ?
  AND EXISTS (
    SELECT 1
    FROM stock_gates g
    WHERE g.sku_id = skus.sku_id
      AND g.mode <> 'off')
  AND NOT EXISTS (
    SELECT 1
    FROM stock_buckets b
    WHERE b.sku_id = skus.sku_id
      AND b.state IN ('open', 'closing')
      AND b.remaining > 0)`, slices.Concat([]any{SoldOut}, sqldb.Args(ids), []any{s.now})...)
	if err != nil {
		return fmt.Errorf("mark as sold out: %w", err)
	}
	if n > 0 {
		failpoint.Hit("gate.marked")
	}
	return nil
}

// News gives what the batch has learned of gates, for after its COMMIT.
func (s *Shelf) News() News {
	for id, it := range s.skus {
		if closed := MarkUntil(it.opensAt, it.closedUntil) - s.now; !it.Unlimited && closed > 0 {
			long := min(closed, MarkFor.Milliseconds())
			c := Closed{SkuID: id, For: time.Duration(long) * time.Millisecond}
			c.OpensAt, _ = s.OpensAt(id)
			s.news.Closed = append(s.news.Closed, c)
		}
	}
	return s.news
}

// insertFlows writes flows of orders in the order of the primary key, so that two
// batches wait for one another instead of deadlocking.
func insertFlows(ctx context.Context, tx *sqldb.Tx, flows []flow, at time.Time) error {
	sort.Slice(flows, func(i, j int) bool { // not slices.SortFunc: an instance of it is 20 kB of binary
		a, b := &flows[i], &flows[j]
		return cmp.Or(cmp.Compare(a.orderNo, b.orderNo), cmp.Compare(a.ref, b.ref), cmp.Compare(a.skuID, b.skuID)) < 0
	})
	const cols = 6 // as named below; an order's flows have no actor and no reason of their own
	args := make([]any, 0, (cols+1)*len(flows))
	var ms any = sqldb.Millis(at) // an any here, so that it is allocated once and not for every flow
	fromBuckets := slices.ContainsFunc(flows, func(f flow) bool { return f.bucket != 0 })
	for _, f := range flows {
		args = append(args, f.orderNo, string(f.kind), f.ref, f.skuID, f.delta, ms)
		if fromBuckets {
			args = append(args, f.bucket)
		}
	}
	var err error
	if fromBuckets {
		err = tx.InsertRows(ctx, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at, bucket_id)
VALUES`, cols+1, args)
	} else {
		err = tx.InsertRows(ctx, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES`, cols, args)
	}
	if err != nil {
		return fmt.Errorf("write stock flows: %w", err)
	}
	return nil
}

// eachChunk splits quantities per SKU into ascending chunks and gives each with
// the SQL expression of "the quantity of this row's SKU" and its arguments. The
// ascending order is the lock order that keeps opposite carts from deadlocking.
func eachChunk(quantity map[string]int64, do func(ids []string, sum string, args []any) error) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(quantity)), updateChunk) {
		sum, args := ofRow("sku_id", ids, quantity)
		if err := do(ids, sum, args); err != nil {
			return err
		}
	}
	return nil
}

// ofRow gives the SQL expression of "the quantity of this row", by its key, and its
// arguments.
func ofRow[K comparable](key string, ids []K, quantity map[K]int64) (sum string, args []any) {
	if len(ids) == 1 {
		return "?", []any{quantity[ids[0]]}
	}
	args = make([]any, 0, 2*len(ids))
	for _, id := range ids {
		args = append(args, id, quantity[id])
	}
	return "CASE " + key + strings.Repeat(" WHEN ? THEN ?", len(ids)) + " END", args
}
