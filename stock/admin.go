package stock

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

const (
	// ownRefBytes of a hash tell the keys of any number of people apart.
	ownRefBytes = 16
	// maxPage is how many SKUs List gives at most: one answer of a few ten kB.
	maxPage = 500
	// unlimitedQuantity as a quantity makes an unlimited SKU.
	unlimitedQuantity = -1
)

// InvalidError lists everything that is wrong with a SKU or a change, in words for the
// person who sent it. Nothing was written.
type InvalidError struct{ Problems []string }

// Error gives all problems in one line.
func (e *InvalidError) Error() string { return strings.Join(e.Problems, "; ") }

// BelowZeroError: a change would leave less than nothing on the shelf. Nothing moved.
// Both numbers are in units, Available with what is allocated.
type BelowZeroError struct{ Available, Delta int64 }

// Error gives both numbers, in units.
func (e *BelowZeroError) Error() string {
	return fmt.Sprintf("the shelf holds %d, a change of %d would leave less than nothing", e.Available, e.Delta)
}

// ErrSKUVersion: the caller acted on an older version of the SKU.
var ErrSKUVersion = errors.New("the SKU has changed since it was read")

// ErrSKUExists: a SKU was to be made, and there is one.
var ErrSKUExists = errors.New("there is a SKU of this id already")

// Admin is the operators' side of stock: SKUs and what comes in. Every change of a
// shelf is a flow, committed with it. Its methods are safe for concurrent use.
type Admin struct {
	db   *sqldb.DB
	now  func() time.Time
	tell Tell
}

// NewAdmin gives the operators' side of a database. now is the clock of the times that
// are stored.
func NewAdmin(db *sqldb.DB, now func() time.Time) *Admin { return &Admin{db: db, now: now} }

// Telling has the shop told when little is left of a SKU. It gives a, and is called before a is used.
func (a *Admin) Telling(tell Tell) *Admin {
	a.tell = tell
	return a
}

// Put names a SKU, its title, price and first stock.
type Put struct {
	SkuID    string
	Title    string
	PriceFen int64
	// Quantity is the first stock, −1 for unlimited. It counts only when the
	// SKU is new: later calls change title and price, stock moves by flows.
	Quantity *int64
	// LowAt is its threshold, 0 for none; nil leaves it as it is. See SetLow.
	LowAt *int64
	Actor string // who does it
	// IfVersion refuses with ErrSKUVersion unless an existing SKU has this version; 0 for any.
	IfVersion int64
	// IfNew refuses with ErrSKUExists unless there is none.
	IfNew bool
}

// Put creates a SKU, or changes the title and price of an existing one.
// Errors: *InvalidError, ErrSKUVersion, ErrSKUExists, database errors.
func (a *Admin) Put(ctx context.Context, p Put) (sku SKU, created bool, err error) {
	if err := p.validate(); err != nil {
		return SKU{}, false, err
	}
	now := a.now()
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if tx.MayBeDone() {
			if sku, err = lockSKU(ctx, tx, p.SkuID); err == nil && p.made(&sku, now) {
				return nil // by the run before this one, created or not
			}
			if err != nil && !errors.Is(err, ErrSKUNotFound) {
				return err
			}
		}
		if created, err = put(ctx, tx, p, now); err == nil {
			sku, err = lockSKU(ctx, tx, p.SkuID)
		}
		if err == nil && p.LowAt != nil {
			err = a.setLow(ctx, tx, &sku, *p.LowAt)
		}
		return err
	})
	if err != nil {
		return SKU{}, false, err
	}
	return sku, created, nil
}

// made reports that a SKU is as this very Put made it at now.
func (p *Put) made(sku *SKU, now time.Time) bool {
	return sku.Title == p.Title && sku.PriceFen == p.PriceFen && sqldb.Millis(sku.UpdatedAt) == sqldb.Millis(now) &&
		(p.IfVersion == 0 || sku.Version == p.IfVersion+1) && (p.LowAt == nil || sku.LowAt == *p.LowAt)
}

// put is Put in its transaction. The UPDATE comes first: most calls are about a SKU
// that exists, and it is the one statement that decides so without a race.
func put(ctx context.Context, tx *sqldb.Tx, p Put, now time.Time) (created bool, err error) {
	if !p.IfNew {
		n, err := tx.Update(ctx, `UPDATE skus
SET title = ?, price_fen = ?, version = version + 1, updated_at = ?
WHERE sku_id = ?
  AND (? = 0 OR version = ?)`, p.Title, p.PriceFen, sqldb.Millis(now), p.SkuID, p.IfVersion, p.IfVersion)
		if err != nil || n == 1 {
			return false, err
		}
	}
	if p.IfVersion != 0 {
		return false, ErrSKUVersion
	}
	quantity := int64(0)
	if p.Quantity != nil {
		quantity = *p.Quantity
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, 1, ?, ?)`, p.SkuID, p.Title, p.PriceFen, max(quantity, 0), quantity == unlimitedQuantity,
		sqldb.Millis(now), sqldb.Millis(now))
	if sqldb.IsDuplicate(err) && p.IfNew {
		return false, ErrSKUExists
	}
	if sqldb.IsDuplicate(err) {
		return false, sqldb.ErrLostRace // somebody created it just now: change that one
	}
	if err != nil || quantity == unlimitedQuantity {
		return true, err
	}
	return true, insertOperatorFlow(ctx, tx, flow{kind: KindInitial, skuID: p.SkuID, delta: quantity}, p.Actor, "", now)
}

// validate refuses with an *InvalidError what the columns cannot hold or an order could
// not be placed with.
func (p *Put) validate() error {
	bad := wrongs(bounds.SkuID.Check(p.SkuID), bounds.Title.Check(p.Title), bounds.PriceFen.Check(p.PriceFen))
	if p.Quantity != nil && *p.Quantity != unlimitedQuantity {
		if wrong := bounds.Stock.Check(*p.Quantity); wrong != nil {
			bad = append(bad, wrong.Detail+", or -1 for unlimited")
		}
	}
	bad = append(bad, wrongLow(p.LowAt)...)
	if p.Actor != "" {
		bad = append(bad, wrongs(bounds.Operator.Check(p.Actor))...)
	}
	if bad != nil {
		return &InvalidError{bad}
	}
	return nil
}

// wrongLow gives the words for what is wrong with a threshold, nil for none of them.
func wrongLow(lowAt *int64) []string {
	if lowAt == nil {
		return nil
	}
	return wrongs(bounds.LowAt.Check(*lowAt))
}

// wrongs gives the words for what is wrong, nil when nothing is.
func wrongs(found ...*bounds.Wrong) (bad []string) {
	for _, wrong := range found {
		if wrong != nil {
			bad = append(bad, wrong.Detail)
		}
	}
	return bad
}

// insertOperatorFlow writes a flow of an operator, with who and why. Orders' flows are
// written by insertFlows, many at once.
func insertOperatorFlow(ctx context.Context, tx *sqldb.Tx, f flow, actor, reason string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, actor, reason, created_at)
VALUES ('', ?, ?, ?, ?, ?, ?, ?)`, string(f.kind), f.ref, f.skuID, f.delta, actor, reason, sqldb.Millis(at))
	if sqldb.IsDuplicate(err) {
		return sqldb.ErrLostRace // the same key came in meanwhile: the next run finds it
	}
	return err
}

// Change moves the stock of one SKU by an operator's hand. The same Change may be sent
// again: its Key moves stock once per SKU, kind and actor.
type Change struct {
	SkuID string
	Delta int64 // what comes in; below zero only with Adjust
	// ExpectedAvailable refuses with *ChangedError unless pool and buckets together hold this;
	// nil for any.
	ExpectedAvailable *int64
	Key               string // idempotency key, 1–64 of [0-9A-Za-z_-]
	Actor             string // who does it, up to 64 bytes
	Reason            string // 1–200 characters
}

// Changed is the result of a change. Before and After are not known for a
// replay: the shelf has moved on since, and the flow alone is the record.
type Changed struct {
	SKU      SKU    // as it is now
	FlowNo   string // KIND:KEY, names the flow
	Delta    int64  // units
	Before   *int64 // units on the shelf before the change, with what is allocated
	After    *int64 // and after it
	Replayed bool   // the same change was made before under this key, and not again
}

// Replenish puts more of a SKU on the shelf, once per key. Errors:
// *InvalidError, ErrSKUNotFound, ErrUnlimited, ErrKeyReused, database errors.
func (a *Admin) Replenish(ctx context.Context, c Change) (Changed, error) {
	if c.Delta < 1 {
		return Changed{}, &InvalidError{[]string{"quantity must be at least 1"}}
	}
	return a.change(ctx, KindReplenish, c)
}

// Adjust corrects a shelf after a count, up or down but never below zero, once
// per key. What is in buckets counts. Errors as Replenish, *ChangedError, *BelowZeroError and
// *ElsewhereError.
func (a *Admin) Adjust(ctx context.Context, c Change) (Changed, error) {
	if c.Delta == 0 {
		return Changed{}, &InvalidError{[]string{"delta must not be 0"}}
	}
	return a.change(ctx, KindAdjust, c)
}

// change makes one change of a shelf, once per kind and key. A run that was committed
// without an answer is known by what it left on the shelf, and told as the change.
func (a *Admin) change(ctx context.Context, kind Kind, c Change) (Changed, error) {
	if err := c.validate(); err != nil {
		return Changed{}, err
	}
	var done Changed
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before := done // of the run before, which may have been committed
		done = Changed{Delta: c.Delta}
		// The lock comes first and the repeat is looked for before the shelf is
		// judged: a double click that waited for its twin must find the twin's
		// flow, not a shelf that its twin has changed.
		sku, err := lockSKU(ctx, tx, c.SkuID)
		if err != nil {
			return err
		}
		ref := ""
		if ref, done.Replayed, err = replayed(ctx, tx, kind, c); err != nil {
			return err
		}
		done.FlowNo = string(kind) + ":" + ref
		switch {
		case done.Replayed && tx.MayBeDone() && before.After != nil && *before.After == sku.Free():
			done = before
		case !done.Replayed:
			if err := a.move(ctx, tx, kind, ref, c, sku, &done); err != nil {
				return err
			}
		}
		done.SKU, err = lockSKU(ctx, tx, c.SkuID)
		return err
	})
	if err != nil {
		return Changed{}, err
	}
	return done, nil
}

// lockSKU reads a SKU and locks it and its buckets until the transaction ends.
func lockSKU(ctx context.Context, tx *sqldb.Tx, id string) (SKU, error) {
	sku, err := scanSKU(tx.QueryRowContext(ctx, `SELECT `+skuColumns+`
FROM skus
WHERE sku_id = ?
FOR UPDATE`, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrSKUNotFound
	}
	if err != nil {
		return sku, err
	}
	allocated, err := lockAllocated(ctx, tx, []string{id})
	sku.Allocated = allocated[id]
	return sku, err
}

// move changes the shelf, which was read as sku, and writes the flow. Buckets are called back
// where the pool cannot bear the change alone, and where somebody says what he has counted. The
// UPDATE demands the number that was read, although the row is locked, and its rows are
// counted: so it is right on every engine and under every isolation level.
func (a *Admin) move(ctx context.Context, tx *sqldb.Tx, kind Kind, ref string, c Change, sku SKU,
	done *Changed) error {
	switch {
	case sku.Unlimited:
		return ErrUnlimited
	case c.ExpectedAvailable != nil && *c.ExpectedAvailable != sku.Free():
		return &ChangedError{Expected: *c.ExpectedAvailable, Available: sku.Free()}
	case c.ExpectedAvailable != nil || sku.Available+c.Delta < 0:
		if err := callBack(ctx, tx, []*SKU{&sku}, a.now()); err != nil {
			return err
		}
	}
	if err := sku.bears(c.Delta); err != nil {
		return err
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET available = available + ?, updated_at = ?
WHERE sku_id = ?
  AND available = ?`, c.Delta, sqldb.Millis(a.now()), c.SkuID, sku.Available)
	if err != nil {
		return err
	}
	if n != 1 {
		return sqldb.ErrLostRace
	}
	before, after := sku.Free(), sku.Free()+c.Delta
	done.Before, done.After = &before, &after
	if err := judge(ctx, tx, a.tell, &sku, after, a.now()); err != nil {
		return err
	}
	return insertOperatorFlow(ctx, tx, flow{kind: kind, ref: ref, skuID: c.SkuID, delta: c.Delta}, c.Actor,
		c.Reason, a.now())
}

// replayed gives the ref of the flow of a change, and reports that this very change was
// made before; ErrKeyReused when its actor has used the key for something else. A key is
// its actor's: two people who count their deliveries with the same numbers have two.
func replayed(ctx context.Context, tx *sqldb.Tx, kind Kind, c Change) (ref string, before bool, err error) {
	ref = c.Key
	err = sqldb.Each(ctx, tx, `SELECT ref, actor, delta, reason
FROM stock_flows
WHERE order_no = ''
  AND kind = ?
  AND ref IN (?, ?)
  AND sku_id = ?`, []any{string(kind), c.Key, c.ownRef(), c.SkuID}, func(rows *sql.Rows) error {
		var found, actor, reason string
		var delta int64
		if err := rows.Scan(&found, &actor, &delta, &reason); err != nil {
			return err
		}
		switch {
		case actor == c.Actor && (delta != c.Delta || reason != c.Reason):
			return ErrKeyReused
		case actor == c.Actor:
			ref, before = found, true
		case !before:
			ref = c.ownRef() // the key itself is somebody else's
		}
		return nil
	})
	return ref, before, err
}

// ownRef is the ref of a change whose key somebody else has used before: of key and actor,
// and with a sign that no key has.
func (c *Change) ownRef() string {
	sum := sha256.Sum256([]byte(c.Actor + "\x00" + c.Key))
	return "~" + hex.EncodeToString(sum[:ownRefBytes])
}

// validate refuses with an *InvalidError. Whether Delta may be below zero, Replenish
// and Adjust decide.
func (c *Change) validate() error {
	bad := wrongs(bounds.SkuID.Check(c.SkuID), bounds.IdempotencyKey.Check(c.Key), bounds.Reason.Check(c.Reason))
	if most := bounds.Stock.Most; c.Delta < -most || c.Delta > most {
		bad = append(bad, fmt.Sprintf("a change must be within ±%d", most))
	}
	if c.Actor != "" {
		bad = append(bad, wrongs(bounds.Operator.Check(c.Actor))...)
	}
	if bad != nil {
		return &InvalidError{bad}
	}
	return nil
}

// skuColumns are the columns that scanSKU reads.
const skuColumns = `sku_id, title, price_fen, available, unlimited, version, created_at, updated_at, closed_until,
  opens_at, per_customer, low_at, low_told`

// shownColumns are those of scanShown.
const shownColumns = skuColumns + ", " + allocatedColumn

// scanShown reads one row of shownColumns, in their order.
func scanShown(row interface{ Scan(...any) error }) (SKU, error) {
	var allocated int64
	s, err := scanSKU(row, &allocated)
	s.Allocated = allocated
	return s, err
}

// scanSKU reads one row of skuColumns, in their order, and more columns behind them.
func scanSKU(row interface{ Scan(...any) error }, more ...any) (SKU, error) {
	var s SKU
	var created, updated, closed, opens int64
	err := row.Scan(append([]any{&s.SkuID, &s.Title, &s.PriceFen, &s.Available, &s.Unlimited, &s.Version, &created,
		&updated, &closed, &opens, &s.PerCustomer, &s.LowAt, &s.lowTold}, more...)...)
	s.LowAt = max(s.LowAt, 0)
	s.SoldOut = closed == SoldOut
	s.CreatedAt, s.UpdatedAt = sqldb.FromMillis(created), sqldb.FromMillis(updated)
	if opens > 0 {
		s.OpensAt = sqldb.FromMillis(opens)
	}
	return s, err
}

// Find gives a SKU, or ErrSKUNotFound, which is said only where SKUs are written.
func (a *Admin) Find(ctx context.Context, id string) (sku SKU, err error) {
	found, err := a.FindMany(ctx, []string{id})
	if err != nil || len(found) > 0 {
		return append(found, SKU{})[0], err
	}
	err = a.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		sku, err = scanShown(tx.QueryRowContext(ctx, `SELECT `+shownColumns+`
FROM skus
WHERE sku_id = ?`, id))
		if errors.Is(err, sql.ErrNoRows) {
			err = ErrSKUNotFound
		}
		return err
	})
	return sku, err
}

// FindMany gives the SKUs that exist, by ascending id; an id that does not is left out.
func (a *Admin) FindMany(ctx context.Context, ids []string) ([]SKU, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return a.query(ctx, a.db, `SELECT `+shownColumns+`
FROM skus
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
ORDER BY sku_id`, sqldb.Args(ids)...)
}

// List gives the SKUs after cursor, by ascending id, at most limit and never more than
// maxPage. "" begins at the first; the id of the last one is the next cursor. They may be
// as old as a replica is: what decides about a SKU finds it under its lock.
func (a *Admin) List(ctx context.Context, cursor string, limit int) ([]SKU, error) {
	if err := bounds.SkuID.Cursor(cursor); err != nil {
		return nil, err
	}
	return a.query(ctx, a.db.Shown(), listQuery, cursor, min(max(limit, 1), maxPage))
}

// ListFrom is List from an id on, also one that there is none of: with the beginning of ids it begins at
// the first of those.
func (a *Admin) ListFrom(ctx context.Context, first, cursor string, limit int) ([]SKU, error) {
	if err := errors.Join(bounds.SkuID.Cursor(first), bounds.SkuID.Cursor(cursor)); err != nil {
		return nil, err
	}
	if first <= cursor {
		return a.List(ctx, cursor, limit)
	}
	return a.query(ctx, a.db.Shown(), listFromQuery, first, min(max(limit, 1), maxPage))
}

// listQuery reads a page of SKUs.
const listQuery = `SELECT ` + shownColumns + `
FROM skus
WHERE sku_id > ?
ORDER BY sku_id
LIMIT ?`

// listFromQuery is listQuery with the first one.
const listFromQuery = `SELECT ` + shownColumns + `
FROM skus
WHERE sku_id >= ?
ORDER BY sku_id
LIMIT ?`

// query reads rows of shownColumns from a side that shows.
func (a *Admin) query(ctx context.Context, from sqldb.Querier, query string, args ...any) ([]SKU, error) {
	rows, err := from.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read SKUs: %w", err)
	}
	defer rows.Close()
	var skus []SKU
	for rows.Next() {
		s, err := scanShown(rows)
		if err != nil {
			return nil, fmt.Errorf("read SKUs: %w", err)
		}
		skus = append(skus, s)
	}
	return skus, rows.Err()
}
