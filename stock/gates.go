package stock

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// GateMode says who counts the units of a SKU down.
type GateMode string

// The modes.
const (
	// GateOff is no gate: the ledger decides, by group commit.
	GateOff GateMode = "off"
	// GateLocal hands units to the memory of processes.
	GateLocal GateMode = "local"
	// GateRedis hands units to buckets in Redis. A process that has no Redis, or cannot reach
	// it, sells such a gate as a local one; with a queue when nobody else reaches it either.
	GateRedis GateMode = "redis"
)

// Gate is how a SKU is sold in a flash sale, and what of the SKU matters to it.
type Gate struct {
	SkuID    string
	Sale     string // SKUs of one sale are limited together
	Mode     GateMode
	Ended    bool // its time is over: nothing is sold until an operator says otherwise
	Auto     bool // found hot by a process, and given up by itself
	Version  int64
	Epoch    int64 // of its buckets in Redis
	Buckets  int64 // in Redis, as the gate was set
	Few      bool  // this epoch has one bucket, because what is left is little
	Rate     int64 // orders a second that are created of a queue; 0: no queue
	ClosesAt time.Time
	HotAt    time.Time // when a process last found it hot
	Actor    string
	Reason   string

	OpensAt     time.Time // zero: at once
	PerCustomer int64     // 0: no limit
	Available   int64
	ClosedUntil int64 // milliseconds of the database's clock, SoldOut for sold out
	SKUSince    time.Time
}

// Queues reports that what is asked of the gate above its rate waits in a queue, with units that
// are set aside for it: nobody else may have them before Redis is in doubt, or the queue is
// empty.
func (g *Gate) Queues() bool { return g.Mode == GateRedis && g.Rate > 0 }

// Times and numbers of gates.
const (
	// ReopenAfter is how long whoever opens a SKU that was not sold waits after it has seen that
	// it is Reopening: by then no process believes any more that it is not sold.
	ReopenAfter = 1200 * time.Millisecond
	// MarkFor is how long a mark that was read is believed.
	MarkFor = time.Second
	// SeenFor is how long buckets in Redis are taken for kept after their keepers were last seen:
	// then whoever finds them ends their epoch, with those who wait.
	SeenFor = 30 * time.Second
	// MaxAutoGates bounds the gates that are there by themselves. It is counted before one is
	// made: of processes that find one in the same moment, each may be one too many.
	MaxAutoGates = 64
)

// Errors of gates.
var (
	// ErrGateVersion: the caller acted on an older version of the gate.
	ErrGateVersion = errors.New("the gate has changed since it was read")
	// ErrNoAutoGate: a gate that would be made or ended by itself is a person's, or there are
	// MaxAutoGates.
	ErrNoAutoGate = errors.New("no automatic gate")
)

// GateChange sets a gate.
type GateChange struct {
	SkuID       string
	Mode        GateMode
	Sale        string // "": of this SKU alone, under its id
	Buckets     int64  // 0: one
	Rate        int64
	PerCustomer int64
	OpensAt     time.Time // zero: at once
	ClosesAt    time.Time // zero: never
	Actor       string
	Reason      string
	// Auto is the word of a process: it makes no gate of which a person has said something,
	// an "off" included, and ends no other.
	Auto bool
	// IfVersion refuses with ErrGateVersion unless the gate has this version; 0 for any.
	IfVersion int64
}

// gateColumns are the columns that scanGate reads, of stock_gates g and its SKU s.
const gateColumns = `g.sku_id, g.sale, g.mode, g.state, g.origin, g.version, g.epoch, g.buckets, g.counts, g.rate,
  g.closes_at, g.hot_at, g.actor, g.reason, s.opens_at, s.per_customer, s.available, s.closed_until, s.created_at`

// scanGate reads gateColumns.
func scanGate(row interface{ Scan(...any) error }) (Gate, error) {
	var g Gate
	var state, origin, counts string
	var closes, hot, opens, since int64
	err := row.Scan(&g.SkuID, &g.Sale, &g.Mode, &state, &origin, &g.Version, &g.Epoch, &g.Buckets, &counts, &g.Rate,
		&closes, &hot, &g.Actor, &g.Reason, &opens, &g.PerCustomer, &g.Available, &g.ClosedUntil, &since)
	g.Ended, g.Auto, g.Few = state == "ended", origin == "auto", counts == fewBuckets
	g.SKUSince, g.HotAt = sqldb.FromMillis(since), sqldb.FromMillis(hot)
	if closes > 0 {
		g.ClosesAt = sqldb.FromMillis(closes)
	}
	if opens > 0 {
		g.OpensAt = sqldb.FromMillis(opens)
	}
	return g, err
}

// selectGates reads gateColumns; a condition follows.
const selectGates = `SELECT ` + gateColumns + `
FROM stock_gates g
JOIN skus s ON s.sku_id = g.sku_id
`

// Gates gives all gates that are not off, or whose SKU is Reopening, with what their SKUs have,
// as one statement sees them where SKUs are written. Every process asks four times a second:
// gates that were ended long ago are not looked at.
func (a *Admin) Gates(ctx context.Context) ([]Gate, error) {
	return sqldb.Decided(ctx, a.db, selectKept, []any{reopening, SoldOut},
		func(rows *sql.Rows) (Gate, error) { return scanGate(rows) })
}

// selectKept reads the gates that processes keep. The indexes are named: what a planner counts
// of rows that were gates a moment ago leads it to read them all.
const selectKept = `SELECT ` + gateColumns + `
FROM stock_gates g /*! FORCE INDEX (ix_gates_mode) */
JOIN skus s ON s.sku_id = g.sku_id
WHERE g.mode IN ('local', 'redis')
UNION ALL
SELECT ` + gateColumns + `
FROM skus s /*! FORCE INDEX (ix_skus_closed) */
JOIN stock_gates g ON g.sku_id = s.sku_id
WHERE g.mode = 'off'
  AND s.closed_until >= ?
  AND s.closed_until < ?`

// FindGate gives the gate of a SKU, off ones too; false when it has never had one.
func (a *Admin) FindGate(ctx context.Context, id string) (gate Gate, found bool, err error) {
	err = a.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		gate, found, err = findGate(ctx, tx, id)
		return err
	})
	return gate, found, err
}

// findGate reads the gate of a SKU.
func findGate(ctx context.Context, tx *sqldb.Tx, id string) (gate Gate, found bool, err error) {
	err = sqldb.Each(ctx, tx, selectGates+`WHERE g.sku_id = ?`, []any{id}, func(rows *sql.Rows) (err error) {
		gate, err = scanGate(rows)
		found = true
		return err
	})
	if err != nil {
		err = fmt.Errorf("read the gate of %s: %w", id, err)
	}
	return gate, found, err
}

// lockedGate is what moves of units depend on, of a gate that is locked.
type lockedGate struct {
	Mode  GateMode
	Epoch int64
	Rate  int64
}

// queues reports that some of its units in Redis may be promised to those who wait in line.
func (g lockedGate) queues() bool { return g.Mode == GateRedis && g.Rate > 0 }

// lockGates gives those of the SKUs that have a gate which is open, and locks it. The caller
// holds the rows of the SKUs.
func lockGates(ctx context.Context, tx *sqldb.Tx, ids []string) (map[string]lockedGate, error) {
	gated := map[string]lockedGate{}
	err := sqldb.Each(ctx, tx, `SELECT sku_id, mode, epoch, rate
FROM stock_gates /*! FORCE INDEX (PRIMARY) */
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND mode <> 'off'
  AND state = 'open'
ORDER BY sku_id
FOR UPDATE`, sqldb.Args(ids), func(rows *sql.Rows) error {
		var id string
		var g lockedGate
		err := rows.Scan(&id, &g.Mode, &g.Epoch, &g.Rate)
		gated[id] = g
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lock gates: %w", err)
	}
	return gated, nil
}

// SetGate makes, changes or ends (GateOff) the gate of a SKU. Its buckets are closed and their
// units go back to the pool, to be handed out again as the gate says now. A SKU that was marked
// as sold out, or whose sale now begins earlier, is reopened: see Reopen. Errors:
// *InvalidError, ErrSKUNotFound, ErrUnlimited, ErrGateVersion, ErrNoAutoGate, database errors.
func (a *Admin) SetGate(ctx context.Context, c GateChange) (Gate, error) {
	if c.Sale == "" {
		c.Sale = c.SkuID
	}
	c.Buckets = max(c.Buckets, 1)
	now := a.now()
	if err := c.validate(now); err != nil {
		return Gate{}, err
	}
	var gate Gate
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		sku, err := lockSKU(ctx, tx, c.SkuID)
		if err != nil {
			return err
		}
		if sku.Unlimited {
			return ErrUnlimited
		}
		before, found, err := findGate(ctx, tx, c.SkuID)
		if err != nil {
			return err
		}
		if tx.MayBeDone() && found && c.made(&before, now) {
			gate = before // by the run before this one
			return nil
		}
		if err := c.allowed(ctx, tx, before, found); err != nil {
			return err
		}
		epoch, err := c.settleBuckets(ctx, tx, &before, now)
		if err != nil {
			return err
		}
		if err := c.write(ctx, tx, found, epoch, now); err != nil {
			return err
		}
		gate, _, err = findGate(ctx, tx, c.SkuID)
		return err
	})
	return gate, err
}

// made reports that a gate is as this very change made it at now.
func (c *GateChange) made(g *Gate, now time.Time) bool {
	return g.Mode == c.Mode && g.Sale == c.Sale && g.Actor == c.Actor && g.Reason == c.Reason && g.Auto == c.Auto &&
		sqldb.Millis(g.HotAt) == sqldb.Millis(now) && (c.IfVersion == 0 || g.Version == c.IfVersion+1)
}

// validate refuses with an *InvalidError what the columns cannot hold or makes no sense.
func (c *GateChange) validate(now time.Time) error {
	bad := wrongs(bounds.SkuID.Check(c.SkuID), bounds.Sale.Check(c.Sale), bounds.Reason.Check(c.Reason),
		bounds.GateBuckets.Check(c.Buckets), bounds.GateRate.Check(c.Rate), bounds.PerCustomer.Check(c.PerCustomer))
	switch c.Mode {
	case GateOff, GateLocal, GateRedis:
	default:
		bad = append(bad, "mode must be off, local or redis")
	}
	if !c.ClosesAt.IsZero() && !c.ClosesAt.After(c.OpensAt) {
		bad = append(bad, "closes_at must be after opens_at")
	}
	if c.Mode != GateOff && !c.ClosesAt.IsZero() && !c.ClosesAt.After(now) {
		bad = append(bad, "closes_at is over")
	}
	if c.Mode == GateOff && (!c.OpensAt.IsZero() || !c.ClosesAt.IsZero() || c.PerCustomer != 0 || c.Rate != 0) {
		bad = append(bad, "a gate that is off has no times, no rate and no limit")
	}
	if bad != nil {
		return &InvalidError{bad}
	}
	return nil
}

// allowed refuses a change of another version, and a process's where a person has spoken.
func (c *GateChange) allowed(ctx context.Context, tx *sqldb.Tx, before Gate, found bool) error {
	if c.IfVersion != 0 && before.Version != c.IfVersion {
		return ErrGateVersion
	}
	if c.Mode == GateRedis {
		if err := c.paced(ctx, tx); err != nil {
			return err
		}
	}
	if !c.Auto {
		return nil
	}
	if found && !before.Auto || (c.Mode == GateOff) != (found && before.Mode != GateOff) {
		return ErrNoAutoGate
	}
	if c.Mode == GateOff {
		return nil
	}
	count := 0
	err := sqldb.Each(ctx, tx, `SELECT COUNT(*)
FROM stock_gates
WHERE mode <> 'off'
  AND origin = 'auto'`, nil, func(rows *sql.Rows) error { return rows.Scan(&count) })
	if err == nil && count >= MaxAutoGates {
		err = ErrNoAutoGate
	}
	return err
}

// settleBuckets does what a change means for the buckets that there are, and gives the epoch of
// the gate from then on. Most often their units go back to the pool. Those in Redis of which
// some are set aside for a queue stay when nothing is about them, and are given up by their
// keeper when nobody waits any more, when the sale goes on with others.
func (c *GateChange) settleBuckets(ctx context.Context, tx *sqldb.Tx, before *Gate, now time.Time) (int64, error) {
	ids := []string{c.SkuID}
	goesOn := before.Mode == GateRedis && c.Mode == GateRedis && before.Sale == c.Sale && !before.Ended
	switch {
	case goesOn && c.Rate > 0 && before.Buckets == c.Buckets && before.PerCustomer == c.PerCustomer &&
		millisOrZero(before.OpensAt) == millisOrZero(c.OpensAt):
		return before.Epoch, nil
	case goesOn && before.Rate > 0:
		if _, err := Recall(ctx, tx, ids, now); err != nil {
			return 0, err
		}
		return before.Epoch, drain(ctx, tx, ids)
	}
	_, err := recallAll(ctx, tx, ids, now)
	return before.Epoch + 1, err // what Redis has of an earlier one is believed no more
}

// paced refuses a rate in a sale whose other SKUs have none, and none where they have one: a queue
// is of the whole sale, and its units are promised.
func (c *GateChange) paced(ctx context.Context, tx *sqldb.Tx) error {
	other := ""
	err := sqldb.Each(ctx, tx, `SELECT sku_id
FROM stock_gates
WHERE mode = 'redis'
  AND sku_id <> ?
  AND sale = ?
  AND state = 'open'
  AND (rate > 0) <> (? > 0)
LIMIT 1`, []any{c.SkuID, c.Sale, c.Rate}, func(rows *sql.Rows) error { return rows.Scan(&other) })
	if err == nil && other != "" {
		return &InvalidError{[]string{"all SKUs of a sale in mode redis have a rate, or none has: that of " + other +
			" is otherwise; end its gate first, or name another sale"}}
	}
	return sqldb.Wrap("look at the gates of the sale", err)
}

// write writes the gate and what its SKU knows of it. The SKU is locked.
func (c *GateChange) write(ctx context.Context, tx *sqldb.Tx, found bool, epoch int64, now time.Time) error {
	ms := sqldb.Millis(now)
	origin := "hand"
	if c.Auto {
		origin = "auto"
	}
	columns := []string{"sale", "mode", "state", "origin", "buckets", "rate", "closes_at", "hot_at", "actor", "reason",
		"updated_at"}
	values := []any{c.Sale, string(c.Mode), "open", origin, c.Buckets, c.Rate, millisOrZero(c.ClosesAt), ms, c.Actor,
		c.Reason, ms}
	if found {
		_, err := tx.Update(ctx, `UPDATE stock_gates
SET version = version + 1, counts = CASE WHEN epoch = ? THEN counts ELSE '' END, epoch = ?,
  `+strings.Join(columns, " = ?, ")+` = ?
WHERE sku_id = ?`, slices.Concat([]any{epoch, epoch}, values, []any{c.SkuID})...)
		if err != nil {
			return fmt.Errorf("write the gate: %w", err)
		}
	} else {
		_, err := tx.ExecContext(ctx, `INSERT INTO stock_gates
  (sku_id, version, created_at, `+strings.Join(columns, ", ")+`)
VALUES (?, 1, ?, `+sqldb.In(len(columns))+`)`, append([]any{c.SkuID, ms}, values...)...)
		if err != nil {
			return fmt.Errorf("write the gate: %w", err)
		}
	}
	opens := millisOrZero(c.OpensAt)
	// closed_until first: MySQL reads a column as it was set further left.
	n, err := tx.Update(ctx, `UPDATE skus
SET closed_until = CASE WHEN closed_until > ? OR opens_at > ? AND opens_at > ? THEN ? ELSE closed_until END,
  opens_at = ?, per_customer = ?
WHERE sku_id = ?`, ms, ms, opens, reopening+ms, opens, c.PerCustomer, c.SkuID)
	if err == nil && n != 1 {
		err = ErrSKUNotFound
	}
	return err
}

// millisOrZero is 0 for no time.
func millisOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return sqldb.Millis(t)
}

// Reopen begins to have a SKU sold again that was marked as sold out, when something has come
// back, and gives its closed_until, 0 when this call did not. Its end is Sell. In between nobody
// sells it, and nobody who reads it refuses it from memory for it; whoever read it before does so
// for MarkFor at most. So it takes two steps: a COMMIT may stall for longer than a mark is
// believed, and the clocks of two processes differ.
func (a *Admin) Reopen(ctx context.Context, id string) (closedUntil int64, err error) {
	value := reopening + sqldb.Millis(a.now())
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		closedUntil = 0
		n, err := tx.Update(ctx, `UPDATE skus
SET closed_until = ?
WHERE sku_id = ?
  AND closed_until = ?
  AND available > 0
  AND EXISTS (
    SELECT 1
    FROM stock_gates g
    WHERE g.sku_id = skus.sku_id
      AND g.state = 'open')`, value, id, SoldOut)
		if n == 1 {
			closedUntil = value
		}
		return err
	})
	return closedUntil, err
}

// Sell ends a reopening: the SKU is sold from now on. The caller has seen it with this
// closed_until ReopenAfter ago or before. It reports whether this call did.
func (a *Admin) Sell(ctx context.Context, id string, closedUntil int64) (sold bool, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE skus
SET closed_until = 0
WHERE sku_id = ?
  AND closed_until = ?`, id, closedUntil)
		sold = n == 1
		return err
	})
	return sold, err
}

// EndGate ends a sale whose time is over: its buckets go back to the pool, and nothing is sold
// until an operator says otherwise. It reports whether this call did. Where some wait in a queue,
// their orders are made first: it is for the keeper of its buckets to say when (Drain), and for
// anybody when there is none.
func (a *Admin) EndGate(ctx context.Context, id string, now time.Time) (ended bool, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := lockSKU(ctx, tx, id); err != nil {
			return err
		}
		n, err := tx.Update(ctx, `UPDATE stock_gates
SET state = 'ended', updated_at = ?
WHERE sku_id = ?
  AND mode <> 'off'
  AND state = 'open'
  AND closes_at BETWEEN 1 AND ?`, sqldb.Millis(now), id, sqldb.Millis(now))
		if ended = n == 1; err != nil || !ended {
			return err
		}
		if kept, err := keptInRedis(ctx, tx, id, now); err != nil || kept {
			return cmp.Or(err, errWaiting)
		}
		if _, err := recallAll(ctx, tx, []string{id}, now); err != nil {
			return err
		}
		_, err = tx.Update(ctx, `UPDATE skus
SET closed_until = ?
WHERE sku_id = ?`, SoldOut, id)
		return err
	})
	if errors.Is(err, errWaiting) {
		return false, nil
	}
	return ended && err == nil, err
}

// errWaiting: placements may wait for units of these buckets.
var errWaiting = errors.New("placements may wait in a queue")

// keptInRedis reports that a gate with a queue has buckets in Redis which are kept.
func keptInRedis(ctx context.Context, tx *sqldb.Tx, id string, now time.Time) (bool, error) {
	found, err := sqldb.Known(ctx, tx, `SELECT b.bucket_id
FROM stock_buckets b /*! FORCE INDEX (ix_buckets_state) */
JOIN stock_gates g ON g.sku_id = b.sku_id
WHERE b.state IN ('open', 'closing')
  AND b.sku_id = ?
  AND b.home = 'redis'
  AND b.seen_at > ?
  AND (g.rate > 0 OR b.state = 'closing')
LIMIT 1`, id, sqldb.Millis(now.Add(-SeenFor)))
	return found, sqldb.Wrap("look for buckets in Redis", err)
}

// Hot notes that a process finds these gates hot: those that are there by themselves stay.
func (a *Admin) Hot(ctx context.Context, ids []string, now time.Time) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE stock_gates
SET hot_at = ?
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND hot_at < ?`, append(append([]any{sqldb.Millis(now)}, sqldb.Args(ids)...), sqldb.Millis(now))...)
		return err
	})
}

// CloseBuckets takes what buckets hold back into the pool, whoever their home was. One that
// is closed already is passed over.
func (a *Admin) CloseBuckets(ctx context.Context, ids []int64, now time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		where := `bucket_id IN (` + sqldb.In(len(ids)) + `)
  AND state <> 'closed'`
		seen, err := readBuckets(ctx, tx, bucketsByID, where, sqldb.Args(ids))
		if err != nil || len(seen) == 0 {
			return err
		}
		skus := make([]string, len(seen))
		for i := range seen {
			skus[i] = seen[i].SkuID
		}
		if _, err := readShelf(ctx, tx, skus, "\nFOR UPDATE"); err != nil {
			return err
		}
		buckets, err := lockBuckets(ctx, tx, bucketsByID, where, sqldb.Args(ids))
		if err != nil {
			return err
		}
		return closeBuckets(ctx, tx, buckets, now)
	})
}

// Seen notes that the home of these buckets is alive.
func (a *Admin) Seen(ctx context.Context, ids []int64, now time.Time) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE stock_buckets
SET seen_at = ?
WHERE bucket_id IN (`+sqldb.In(len(ids))+`)
  AND state IN ('open', 'closing')`, append([]any{sqldb.Millis(now)}, sqldb.Args(ids)...)...)
		return err
	})
}

// LastKept gives when the buckets in Redis of each of these SKUs were last seen to be kept, those
// that are closed among them. A SKU that never had any is left out.
func (a *Admin) LastKept(ctx context.Context, skuIDs []string) (map[string]time.Time, error) {
	kept := make(map[string]time.Time, len(skuIDs))
	err := a.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		clear(kept)
		return sqldb.Each(ctx, tx, `SELECT sku_id, MAX(seen_at)
FROM stock_buckets `+string(bucketsByState)+`
WHERE state IN ('open', 'closing', 'closed')
  AND sku_id IN (`+sqldb.In(len(skuIDs))+`)
  AND home = 'redis'
GROUP BY sku_id`, sqldb.Args(skuIDs), func(rows *sql.Rows) error {
			var id string
			var at int64
			err := rows.Scan(&id, &at)
			kept[id] = sqldb.FromMillis(at)
			return err
		})
	})
	return kept, sqldb.Wrap("look who keeps buckets", err)
}

// Kept notes that somebody keeps the buckets in Redis of these SKUs, of which none is open at this
// time, where LastKept finds it: in the last one.
func (a *Admin) Kept(ctx context.Context, skuIDs []string, now time.Time) error {
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		last, err := readBuckets(ctx, tx, bucketsByState, `state = 'closed'
  AND sku_id IN (`+sqldb.In(len(skuIDs))+`)
  AND home = 'redis'
ORDER BY epoch DESC, seen_at DESC
LIMIT 1`, sqldb.Args(skuIDs))
		if err != nil || len(last) == 0 {
			return err
		}
		_, err = tx.Update(ctx, `UPDATE stock_buckets
SET seen_at = ?
WHERE bucket_id = ?`, sqldb.Millis(now), last[0].ID)
		return err
	})
	return sqldb.Wrap("note who keeps buckets", err)
}

// OpenBuckets gives all buckets that are not closed, by id.
func (a *Admin) OpenBuckets(ctx context.Context) (buckets []Bucket, err error) {
	err = a.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		buckets, err = readBuckets(ctx, tx, bucketsByState, `state IN ('open', 'closing')
ORDER BY bucket_id`, nil)
		return err
	})
	return buckets, err
}

// SalesOf gives the sale of each of these SKUs that has a gate.
func SalesOf(ctx context.Context, tx *sqldb.Tx, limited map[string]int64) (map[string]string, error) {
	sales := make(map[string]string, len(limited))
	ids := slices.Sorted(maps.Keys(limited))
	err := sqldb.Each(ctx, tx, `SELECT sku_id, sale
FROM stock_gates
WHERE sku_id IN (`+sqldb.In(len(ids))+`)`, sqldb.Args(ids), func(rows *sql.Rows) error {
		var id, sale string
		err := rows.Scan(&id, &sale)
		sales[id] = sale
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the sales of SKUs: %w", err)
	}
	return sales, nil
}
