package stock

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	skus  map[string]*item
	flows []flow
}

// item is one SKU of a Shelf, of whose columns only those that an order needs are read.
type item struct {
	SKU
	left  int64 // Available less what this batch took
	taken int64
}

// flow is one row of stock_flows: so many units, moved by this order or operator. Flows
// are written and never changed.
type flow struct {
	orderNo string // "" for an operator's
	kind    Kind
	ref     string
	skuID   string
	delta   int64 // units, negative for what was taken
}

// Open reads the SKUs that a batch asks for; demand is the quantity per SKU of
// all its lines together. Where stock is tight the rows are locked, in
// ascending order, until the transaction ends.
func Open(ctx context.Context, tx *sqldb.Tx, demand map[string]int64) (*Shelf, error) {
	ids := slices.Sorted(maps.Keys(demand))
	s, err := readShelf(ctx, tx, ids, "")
	if err != nil {
		return nil, err
	}
	lock := tx.NoWait() // the decrement at the end would wait
	for id, it := range s.skus {
		lock = lock || !it.Unlimited && it.left > 0 && it.left < tight*demand[id]
	}
	if lock {
		return readShelf(ctx, tx, ids, "\nFOR UPDATE")
	}
	return s, nil
}

// Held says which of the SKUs have a row that another session holds at this moment. It
// waits for none of them.
func Held(ctx context.Context, db *sqldb.DB, ids []string) (map[string]bool, error) {
	return db.Held(ctx, `SELECT sku_id
FROM skus /*! FORCE INDEX (PRIMARY) */
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
FOR UPDATE`, sqldb.Args(ids)...)
}

// readShelf reads SKUs, in ascending order; lock is "" or a FOR UPDATE.
func readShelf(ctx context.Context, tx *sqldb.Tx, ids []string, lock string) (*Shelf, error) {
	s := &Shelf{skus: make(map[string]*item, len(ids))}
	if len(ids) == 0 {
		return s, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT sku_id, price_fen, available, unlimited
FROM skus /*! FORCE INDEX (PRIMARY) */
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
ORDER BY sku_id`+lock, sqldb.Args(ids)...)
	if err != nil {
		return nil, fmt.Errorf("read the shelf: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		it := new(item)
		if err := rows.Scan(&it.SkuID, &it.PriceFen, &it.Available, &it.Unlimited); err != nil {
			return nil, fmt.Errorf("read the shelf: %w", err)
		}
		it.left = it.Available
		s.skus[it.SkuID] = it
	}
	return s, rows.Err()
}

// SKU gives price and stock as they were read; only id, price, stock and
// Unlimited are set.
func (s *Shelf) SKU(id string) (SKU, bool) {
	it, ok := s.skus[id]
	if !ok {
		return SKU{}, false
	}
	return it.SKU, true
}

// Take takes all lines for an order and gives nil, or takes nothing and tells what
// was short. The order must be new (a repeat has to be found before, or the last
// unit would be refused to the one who has it), its lines name every SKU once, and
// all of them exist.
func (s *Shelf) Take(orderNo string, lines []Line) []Short { return s.take(orderNo, "", lines) }

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
	return s.take(orderNo, RefRevive, lines)
}

// take is Take, with flows of this ref. An unlimited SKU leaves its flow too, so that a
// return knows what the order took.
func (s *Shelf) take(orderNo, ref string, lines []Line) []Short {
	var short []Short
	for i, l := range lines {
		it := s.skus[l.SkuID]
		if !it.Unlimited && it.left < l.Quantity {
			short = append(short, Short{Index: i, SkuID: l.SkuID, Requested: l.Quantity, Available: it.left})
		}
	}
	if short != nil {
		return short
	}
	for _, l := range lines {
		it := s.skus[l.SkuID]
		if !it.Unlimited {
			it.left -= l.Quantity
			it.taken += l.Quantity
		}
		s.flows = append(s.flows, flow{orderNo: orderNo, kind: KindDeduct, ref: ref, skuID: l.SkuID,
			delta: -l.Quantity})
	}
	return nil
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
// gave away. The decrements come last, so that a hot row is locked briefly.
func (s *Shelf) Commit(ctx context.Context, tx *sqldb.Tx, at time.Time) error {
	if err := insertFlows(ctx, tx, s.flows, at); err != nil {
		return err
	}
	taken := make(map[string]int64, len(s.skus))
	for id, it := range s.skus {
		if it.taken > 0 {
			taken[id] = it.taken
		}
	}
	return eachChunk(taken, func(ids []string, sum string, args []any) error {
		query := `UPDATE skus
SET available = available - ` + sum + `
WHERE sku_id IN (` + sqldb.In(len(ids)) + `)
  AND unlimited = 0
  AND available >= ` + sum
		n, err := tx.Update(ctx, query, slices.Concat(args, sqldb.Args(ids), args)...)
		if err != nil {
			return fmt.Errorf("take from the shelf: %w", err)
		}
		if n != int64(len(ids)) {
			return sqldb.ErrLostRace
		}
		failpoint.Hit("place.taken")
		return nil
	})
}

// insertFlows writes flows of orders in the order of the primary key, so that two
// batches wait for one another instead of deadlocking.
func insertFlows(ctx context.Context, tx *sqldb.Tx, flows []flow, at time.Time) error {
	sort.Slice(flows, func(i, j int) bool { // not slices.SortFunc: an instance of it is 20 kB of binary
		a, b := &flows[i], &flows[j]
		return cmp.Or(cmp.Compare(a.orderNo, b.orderNo), cmp.Compare(a.ref, b.ref), cmp.Compare(a.skuID, b.skuID)) < 0
	})
	const cols = 6 // as named below; an order's flows have no actor and no reason of their own
	args := make([]any, 0, cols*len(flows))
	var ms any = sqldb.Millis(at) // an any here, so that it is allocated once and not for every flow
	for _, f := range flows {
		args = append(args, f.orderNo, string(f.kind), f.ref, f.skuID, f.delta, ms)
	}
	err := tx.InsertRows(ctx, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, created_at)
VALUES`, cols, args)
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
		sum, args := "?", []any{quantity[ids[0]]}
		if len(ids) > 1 {
			sum = "CASE sku_id" + strings.Repeat(" WHEN ? THEN ?", len(ids)) + " END"
			args = make([]any, 0, 2*len(ids))
			for _, id := range ids {
				args = append(args, id, quantity[id])
			}
		}
		if err := do(ids, sum, args); err != nil {
			return err
		}
	}
	return nil
}
