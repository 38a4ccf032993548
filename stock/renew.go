package stock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// Renewal is what a person says of the buckets of a sale that is under way: that they are to be
// new, and how many in Redis. Their units go back to the pools, and are handed out
// again from there: it is the same epoch as SetGate and the keepers begin, in one transaction.
type Renewal struct {
	// SkuID is a SKU of the sale. In mode redis all SKUs of its sale share the buckets, in mode
	// local it has its own.
	SkuID string
	// Sale names a sale instead, all of it.
	Sale string
	// Buckets is how many there are in Redis from now on; 0: as many as before.
	Buckets int64
	Actor   string
	Reason  string
	// IfVersions refuses with ErrGateVersion unless the gates of these SKUs have these
	// versions.
	IfVersions map[string]int64
	// DryRun does all of it, and takes it back.
	DryRun bool
}

// Renewed is what a Renewal did, or would do.
type Renewed struct {
	Sale  string
	Epoch int64 // of its gates from now on
	// Gates are as they are from now on, by ascending SKU. Their Buckets are those that were
	// closed, as they were.
	Gates []GateStock
}

// errDryRun takes a transaction back that has done all.
var errDryRun = errors.New("a dry run")

// mostRenewals bounds the tries of a Renewal while gates join its sale and leave it.
const mostRenewals = 3

// RenewBuckets does what a Renewal says. What Redis or a process still gives out of the buckets of
// before is worth nothing, and no buyer hears of it. Errors: *InvalidError, ErrSKUNotFound,
// ErrGateVersion, database errors.
func (a *Admin) RenewBuckets(ctx context.Context, r Renewal) (done Renewed, err error) {
	if err := r.validate(); err != nil {
		return Renewed{}, err
	}
	now := a.now()
	for range mostRenewals {
		var ids []string
		if ids, err = a.sharing(ctx, &r); err != nil {
			return Renewed{}, err
		}
		err = a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return r.apply(ctx, tx, ids, now, &done) })
		if !errors.Is(err, errOtherSale) {
			break
		}
	}
	switch {
	case errors.Is(err, errDryRun):
		return done, nil
	case errors.Is(err, errOtherSale):
		return Renewed{}, ErrGateVersion
	case err != nil:
		return Renewed{}, err
	}
	return done, nil
}

// validate refuses with an *InvalidError.
func (r *Renewal) validate() error {
	bad := wrongs(bounds.Reason.Check(r.Reason))
	if r.SkuID != "" {
		bad = append(bad, wrongs(bounds.SkuID.Check(r.SkuID))...)
	} else {
		bad = append(bad, wrongs(bounds.Sale.Check(r.Sale))...)
	}
	if r.Buckets != 0 {
		bad = append(bad, wrongs(bounds.GateBuckets.Check(r.Buckets))...)
	}
	if bad != nil {
		return &InvalidError{bad}
	}
	return nil
}

// sharing gives the SKUs whose buckets are renewed, ascending, as they are at this moment.
func (a *Admin) sharing(ctx context.Context, r *Renewal) (ids []string, err error) {
	if r.SkuID != "" {
		if _, err := a.Find(ctx, r.SkuID); err != nil {
			return nil, err
		}
	}
	err = a.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		gates, err := r.gates(ctx, tx)
		ids = nil
		for i := range gates {
			ids = append(ids, gates[i].SkuID)
		}
		return err
	})
	return ids, err
}

// gates reads those whose buckets are renewed: a *InvalidError when there are none.
func (r *Renewal) gates(ctx context.Context, tx *sqldb.Tx) ([]Gate, error) {
	sale := r.Sale
	if r.SkuID != "" {
		g, found, err := findGate(ctx, tx, r.SkuID)
		switch {
		case err != nil:
			return nil, err
		case !found || g.Mode == GateOff || g.Ended:
			return nil, &InvalidError{[]string{r.SkuID + " is in no sale that is under way: 'orderd stock gate' " +
				"opens one"}}
		case r.Buckets != 0 && g.Mode != GateRedis:
			return nil, &InvalidError{[]string{"a sale in mode local has a bucket for each process that sells: only " +
				"one in mode redis has a number of them"}}
		case g.Mode == GateLocal:
			return []Gate{g}, nil
		}
		sale = g.Sale
	}
	gates, err := saleGates(ctx, tx, sale, r.SkuID != "" || r.Buckets != 0)
	if err == nil && len(gates) == 0 {
		err = &InvalidError{[]string{"no such sale is under way: " + sale}}
	}
	return gates, err
}

// saleGates reads the open gates of a sale, by ascending SKU; inRedis: only those in mode redis.
func saleGates(ctx context.Context, tx *sqldb.Tx, sale string, inRedis bool) (gates []Gate, err error) {
	modes := `'local', 'redis'`
	if inRedis {
		modes = `'redis'`
	}
	err = sqldb.Each(ctx, tx, selectGates+`WHERE g.mode IN (`+modes+`)
  AND g.sale = ?
  AND g.state = 'open'
ORDER BY g.sku_id`, []any{sale}, func(rows *sql.Rows) error {
		g, err := scanGate(rows)
		gates = append(gates, g)
		return err
	})
	return gates, sqldb.Wrap("read the gates of a sale", err)
}

// apply is RenewBuckets in its transaction. The rows of the SKUs are locked before anything is read.
func (r *Renewal) apply(ctx context.Context, tx *sqldb.Tx, ids []string, now time.Time, done *Renewed) error {
	if _, err := readShelf(ctx, tx, ids, "\nFOR UPDATE"); err != nil {
		return err
	}
	gates, err := r.gates(ctx, tx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(gates, ids, func(g Gate, id string) bool { return g.SkuID == id }) {
		return errOtherSale
	}
	if tx.MayBeDone() && done.Gates != nil && r.made(gates, now) {
		return nil // by the run before this one
	}
	*done = Renewed{Sale: gates[0].Sale, Epoch: 1}
	for i := range gates {
		done.Epoch = max(done.Epoch, gates[i].Epoch+1)
		if want := r.IfVersions[gates[i].SkuID]; want != 0 && want != gates[i].Version {
			return ErrGateVersion
		}
	}
	buckets, err := r.write(ctx, tx, gates, ids, now, done)
	if err != nil {
		return err
	}
	if gates, err = r.gates(ctx, tx); err != nil {
		return err
	}
	done.Gates = make([]GateStock, len(gates))
	for i, g := range gates {
		done.Gates[i] = GateStock{Gate: g}
		for _, b := range buckets {
			if b.SkuID == g.SkuID {
				done.Gates[i].Buckets = append(done.Gates[i].Buckets, b)
			}
		}
	}
	if r.DryRun {
		return errDryRun
	}
	return nil
}

// write begins the epoch, or, for another number of buckets of a sale with a queue, the end of this
// one in order: the next is begun by the keeper when nobody waits any more. hot_at says when, by
// which a run that was committed is known.
func (r *Renewal) write(ctx context.Context, tx *sqldb.Tx, gates []Gate, ids []string, now time.Time,
	done *Renewed) ([]Bucket, error) {
	set, args := `, version = version + 1, counts = '', hot_at = ?, actor = ?, reason = ?`,
		[]any{sqldb.Millis(now), r.Actor, r.Reason}
	if r.Buckets != 0 {
		set, args = set+`, buckets = ?`, append(args, r.Buckets)
	}
	queues := func(g Gate) bool { return g.Queues() }
	if r.Buckets != 0 && slices.ContainsFunc(gates, queues) {
		return r.drain(ctx, tx, ids, now, done, set, args)
	}
	set += `, counts = ''`
	buckets, err := beginEpoch(ctx, tx, done.Sale, ids, done.Epoch, now, set, args...)
	if err != nil {
		return nil, fmt.Errorf("renew the buckets of %s: %w", done.Sale, err)
	}
	return buckets, nil
}

// drain sets the gates, and begins the end of their buckets in Redis.
func (r *Renewal) drain(ctx context.Context, tx *sqldb.Tx, ids []string, now time.Time, done *Renewed, set string,
	args []any) ([]Bucket, error) {
	done.Epoch--
	n, err := tx.Update(ctx, `UPDATE stock_gates
SET updated_at = ?`+set+`
WHERE sku_id IN (`+sqldb.In(len(ids))+`)
  AND sale = ?
  AND mode = 'redis'`, slices.Concat([]any{sqldb.Millis(now)}, args, sqldb.Args(ids), []any{done.Sale})...)
	if err == nil && n != int64(len(ids)) {
		err = errOtherSale
	}
	if err != nil {
		return nil, sqldb.Wrap("set the buckets of a sale", err)
	}
	buckets, err := Recall(ctx, tx, ids, now)
	if err != nil {
		return nil, err
	}
	return buckets, drain(ctx, tx, ids)
}

// made reports that gates are as this very Renewal made them at now.
func (r *Renewal) made(gates []Gate, now time.Time) bool {
	return !slices.ContainsFunc(gates, func(g Gate) bool {
		want := r.IfVersions[g.SkuID]
		return g.Actor != r.Actor || g.Reason != r.Reason || sqldb.Millis(g.HotAt) != sqldb.Millis(now) ||
			want != 0 && g.Version != want+1
	})
}
