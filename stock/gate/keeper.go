package gate

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/stock"
)

// Times of the keeper.
const (
	// lookEvery is the time between two looks at the gates, which are one statement.
	lookEvery = 250 * time.Millisecond
	// seenEvery is the time between two words that this process is alive, and between two
	// looks for buckets of processes that are not.
	seenEvery = 10 * time.Second
	// deadAfter: the bucket of a process that was not seen for so long is closed, for
	// tidiness. A recall does not wait for it.
	deadAfter = time.Minute
	// keysOverlap is how far before the last read of the keys the next one begins: an order
	// has its number when it is asked for, and is committed order.FirstTryWithin later at most.
	keysOverlap = 15 * time.Second
	// LongestWait is how long a placement may wait in the queue of a sale for its order, which
	// has its number from the beginning: so much earlier the keys of a sale with a queue are read.
	LongestWait = time.Hour
	// keysHorizon: of a SKU that is older, the keys of older orders are not read. Who repeats
	// a placement after so long may be told from memory that it is sold out.
	keysHorizon = 30 * 24 * time.Hour
	// keysRetry is the pause after a read of the keys that failed. Until they are read, the
	// ledger refuses.
	keysRetry = 5 * time.Second
	// leaving bounds the giving back of buckets when the process ends.
	leaving = 2 * time.Second
)

// Run keeps the gate until ctx ends: it reads the gates, asks for units and gives them back,
// reopens what was sold out and ends what is over. keys is where the orders are. Every process
// that places orders runs it; what two of them do at once is done once. At the end the
// units of this process go back to the pool.
func (g *Gate) Run(ctx context.Context, keys Keys) {
	k := newKeeper(g, keys)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("gates not kept", "err", err)
		}
		select {
		case <-ctx.Done():
			k.leave(context.WithoutCancel(ctx))
			return
		case <-ticker.C:
		case <-g.ring:
		}
	}
}

// keeper is the loop beside a Gate.
type keeper struct {
	*Gate
	keys    Keys
	read    time.Time // of this machine; durations only
	counted time.Time
	seen    time.Time
	opening map[string]opening // the SKUs that are about to be sold again
}

// opening is a reopening as this process has seen it.
type opening struct {
	closedUntil int64
	since       time.Time // of this machine, after it was first read; a duration only
}

func newKeeper(g *Gate, keys Keys) *keeper {
	return &keeper{Gate: g, keys: keys, opening: map[string]opening{}}
}

// look does everything once.
func (k *keeper) look(ctx context.Context) error {
	fresh := time.Since(k.read) >= lookEvery/2 // a ring alone is no reason to read them again
	if fresh {
		if err := k.readGates(ctx); err != nil {
			return err
		}
	}
	v := k.view.Load()
	k.count(v)
	errs := []error{k.closeOrphans(ctx), k.sell(ctx)}
	if fresh {
		errs = append(errs, k.keepShared(ctx, v))
	}
	for _, id := range slices.Sorted(maps.Keys(v.gates)) {
		s := v.gates[id]
		if fresh {
			errs = append(errs, k.turn(ctx, s))
		}
		errs = append(errs, k.fill(ctx, s))
		k.readKeys(ctx, s)
	}
	return errors.Join(append(errs, k.detect(ctx, v), k.tidy(ctx, v))...)
}

// readGates makes the view new. What a SKU has in memory stays as long as it has a gate.
func (k *keeper) readGates(ctx context.Context) error {
	asOf := time.Now()
	gates, err := k.admin.Gates(ctx)
	if err != nil {
		return err
	}
	now := sqldb.Millis(k.cfg.Now())
	old := k.view.Load()
	next := &view{asOf: asOf, gates: make(map[string]*gated, len(gates))}
	seen := make(map[string]opening)
	for i := range gates {
		c := &gates[i]
		if stock.Reopening(c.ClosedUntil) {
			if seen[c.SkuID] = k.opening[c.SkuID]; seen[c.SkuID].closedUntil != c.ClosedUntil {
				seen[c.SkuID] = opening{c.ClosedUntil, time.Now()}
			}
		}
		if c.Mode == stock.GateOff {
			continue
		}
		var s *gated
		if old != nil {
			s = old.gates[c.SkuID]
		}
		if s == nil {
			s = new(gated)
		}
		s.conf.Store(c)
		if c.Mode == stock.GateRedis {
			s.queues.Store(true)
		}
		next.gates[c.SkuID] = s
		if closed := stock.MarkUntil(openMillis(c), c.ClosedUntil) - now; closed > 0 {
			long := time.Duration(min(closed, k.believe.Milliseconds())) * time.Millisecond
			opensAt := c.OpensAt
			if sqldb.Millis(opensAt) <= now {
				opensAt = time.Time{} // it is sold out
			}
			s.marks.extend(asOf, time.Now(), long, opensAt)
		}
	}
	if err := k.findForsaken(ctx, next); err != nil {
		return err
	}
	k.read, k.opening = asOf, seen
	k.view.Store(next)
	if old != nil {
		k.forget(old, next)
	} else {
		close(k.first)
	}
	return nil
}

// keepShared keeps the gates in mode redis.
func (k *keeper) keepShared(ctx context.Context, v *view) error {
	if k.cfg.Shared == nil {
		return nil
	}
	var gates []*stock.Gate
	for _, s := range v.gates {
		if c := s.conf.Load(); c.Mode == stock.GateRedis {
			gates = append(gates, c)
		}
	}
	return k.cfg.Shared.Keep(ctx, gates)
}

// findForsaken finds out of which gates with a queue nobody has reached the shared home for long: the
// rows of their buckets say when somebody last did. One that has never had any has nobody waiting. It
// is known before this process loses the home.
func (k *keeper) findForsaken(ctx context.Context, v *view) error {
	sales := map[string]string{} // by SKU
	for id, s := range v.gates {
		if c := s.conf.Load(); c.Queues() {
			sales[id] = c.Sale
		}
	}
	if len(sales) == 0 {
		return nil
	}
	kept, err := k.admin.LastKept(ctx, slices.Sorted(maps.Keys(sales)))
	if err != nil {
		return err
	}
	bySale := map[string]time.Time{}
	for id, at := range kept {
		if at.After(bySale[sales[id]]) {
			bySale[sales[id]] = at
		}
	}
	for id, sale := range sales {
		v.gates[id].forsaken.Store(k.cfg.Now().Sub(bySale[sale]) > stock.SeenFor)
	}
	return nil
}

// openMillis is the begin of a sale, 0 for none.
func openMillis(c *stock.Gate) int64 {
	if c.OpensAt.IsZero() {
		return 0
	}
	return sqldb.Millis(c.OpensAt)
}

// forget has the buckets of SKUs that have no gate any more closed, in case a grant was under
// way while theirs was taken away.
func (k *keeper) forget(old, next *view) {
	for id, s := range old.gates {
		if next.gates[id] != nil {
			continue
		}
		if bucket := s.local.id(); s.local.drop(bucket) {
			k.orphan(bucket)
		}
	}
}

// count begins a new second of every SKU's sales.
func (k *keeper) count(v *view) {
	if k.counted.IsZero() {
		k.counted = time.Now()
	}
	if took := time.Since(k.counted); took >= time.Second {
		k.counted = time.Now()
		for _, s := range v.gates {
			s.local.count(took, s.refused.Swap(0))
		}
	}
}

// sell ends the reopenings that this process has seen for long enough.
func (k *keeper) sell(ctx context.Context) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(k.opening)) {
		if o := k.opening[id]; time.Since(o.since) >= stock.ReopenAfter {
			sold, err := k.admin.Sell(ctx, id, o.closedUntil)
			if sold {
				failpoint.Hit("gate.reopened")
			}
			if err == nil {
				delete(k.opening, id) // or it was somebody else
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// turn ends a sale whose time is over, and reopens a SKU of which something came back.
func (k *keeper) turn(ctx context.Context, s *gated) error {
	c, now := s.conf.Load(), k.cfg.Now()
	switch {
	case c.Ended:
	case !c.ClosesAt.IsZero() && !now.Before(c.ClosesAt):
		_, err := k.admin.EndGate(ctx, c.SkuID, now)
		return err
	case c.ClosedUntil == stock.SoldOut && c.Available > 0:
		closedUntil, err := k.admin.Reopen(ctx, c.SkuID)
		if closedUntil != 0 {
			k.opening[c.SkuID] = opening{closedUntil, time.Now()}
		}
		return err
	}
	return nil
}

// fill asks for units for this process, and gives back what nobody asks for.
func (k *keeper) fill(ctx context.Context, s *gated) error {
	c := s.conf.Load()
	mode := k.mode(s)
	if id := s.local.id(); id != 0 && (mode != stock.GateLocal || c.Ended || s.local.idle() == id) {
		if s.local.drop(id) {
			k.orphan(id)
		}
		return nil
	}
	if mode != stock.GateLocal || c.Ended || c.Available < stock.KeepPerHolder {
		return nil
	}
	bucket, seq, want := s.local.wants()
	if want <= 0 {
		return nil
	}
	if bucket == 0 {
		bucket = newID()
	}
	grant := stock.Grant{Bucket: bucket, SkuID: c.SkuID, Home: k.cfg.Home, Seq: seq + 1, Want: want, At: k.cfg.Now()}
	begun := time.Now()
	var units int64
	err := k.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		units, err = grant.Move(ctx, tx)
		if errors.Is(err, stock.ErrFenced) { // not to be run again: it stays closed
			units, err = 0, errGone
		}
		return err
	})
	if err != nil {
		if s.local.drop(bucket) || !errors.Is(err, errGone) {
			k.orphan(bucket)
		}
		if errors.Is(err, errGone) {
			k.cfg.Observe.GateFenced()
			return nil
		}
		return err
	}
	if units > 0 {
		failpoint.Hit("gate.granted")
		if !s.local.raise(bucket, seq+1, units) {
			return nil // given up meanwhile: it is an orphan
		}
		k.cfg.Observe.GateGranted(units, time.Since(begun))
	}
	return nil
}

// errGone: the bucket that was to be filled is closed.
var errGone = errors.New("the bucket is closed")

// newID draws the id of a bucket: a positive number that nobody has had.
func newID() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:])>>2) + 1
}

// closeOrphans closes the buckets whose units are in doubt. What cannot be done now stays
// for the next time, and for anybody's recall.
func (k *keeper) closeOrphans(ctx context.Context) error {
	k.mu.Lock()
	ids := k.orphans
	k.orphans = nil
	k.mu.Unlock()
	err := k.admin.CloseBuckets(ctx, ids, k.cfg.Now())
	if err != nil {
		k.mu.Lock()
		k.orphans = append(k.orphans, ids...)
		k.mu.Unlock()
	}
	return err
}

// readKeys reads who has an order of a SKU that is not sold, when that is not known. It
// reads beside the loop: a SKU that was sold for weeks has many.
func (k *keeper) readKeys(ctx context.Context, s *gated) {
	now := s.marks.mark.Load()
	begun := k.cfg.Now()
	if now == nil || s.marks.complete.Load() == now.stretch || time.Now().After(now.until) ||
		begun.UnixNano() < s.marks.again.Load() || !s.marks.reading.CompareAndSwap(false, true) {
		return
	}
	c := s.conf.Load()
	since := begun.Add(-keysHorizon)
	if c.SKUSince.After(since) {
		since = c.SKUSince
	}
	if last := s.marks.read.Load(); last != 0 {
		since = time.Unix(0, last).Add(-keysOverlap)
		if s.queues.Load() {
			since = since.Add(-LongestWait)
		}
	}
	go func() {
		defer s.marks.reading.Store(false)
		var more []uint64
		err := k.keys.RequestKeys(ctx, c.SkuID, since, func(customerID, requestID string) {
			more = append(more, fingerprint(customerID, requestID))
		})
		if err != nil {
			if ctx.Err() == nil {
				k.cfg.Log.Warn("keys of a sale not read", "sku_id", c.SkuID, "err", err)
			}
			s.marks.again.Store(k.cfg.Now().Add(keysRetry).UnixNano())
			return
		}
		s.marks.merge(more)
		s.marks.read.Store(begun.UnixNano())
		s.marks.complete.Store(now.stretch)
	}()
}

// detect gives SKUs that are hot a gate, keeps those that are there by themselves, and ends
// what is hot no more.
func (k *keeper) detect(ctx context.Context, v *view) error {
	if k.cfg.NoAuto {
		return nil
	}
	hot, rates, over := k.hot.second(time.Now())
	if !over {
		return nil
	}
	var errs []error
	var still []string
	for id, s := range v.gates {
		c := s.conf.Load()
		if !c.Auto {
			continue
		}
		switch {
		case max(rates[id], s.local.rate()) >= coolRate:
			still = append(still, id)
		case k.cfg.Now().Sub(c.HotAt) > coolAfter:
			errs = append(errs, k.auto(ctx, id, stock.GateOff, "no process was asked for much of it for a minute"))
		}
	}
	for _, id := range hot {
		if v.gates[id] == nil {
			errs = append(errs, k.auto(ctx, id, stock.GateLocal, "found hot by itself"))
		}
	}
	if len(still) > 0 {
		errs = append(errs, k.admin.Hot(ctx, still, k.cfg.Now()))
	}
	return errors.Join(errs...)
}

// auto makes or ends a gate by itself. What a person has said stands.
func (k *keeper) auto(ctx context.Context, id string, mode stock.GateMode, why string) error {
	_, err := k.admin.SetGate(ctx, stock.GateChange{SkuID: id, Mode: mode, Actor: "orderd", Reason: why, Auto: true})
	switch {
	case errors.Is(err, stock.ErrNoAutoGate), errors.Is(err, stock.ErrUnlimited), errors.Is(err, stock.ErrSKUNotFound):
		return nil
	case err == nil:
		k.cfg.Log.Info("automatic gate", "sku_id", id, "mode", mode, "why", why)
	}
	return err
}

// tidy says that this process is alive, and closes the buckets of those that are not.
func (k *keeper) tidy(ctx context.Context, v *view) error {
	if time.Since(k.seen) < seenEvery {
		return nil
	}
	k.seen = time.Now()
	var mine []int64
	for _, s := range v.gates {
		if id := s.local.id(); id != 0 {
			mine = append(mine, id)
		}
	}
	if len(mine) > 0 {
		if err := k.admin.Seen(ctx, mine, k.cfg.Now()); err != nil {
			return err
		}
	}
	buckets, err := k.admin.OpenBuckets(ctx)
	if err != nil {
		return err
	}
	var dead []int64
	for i := range buckets {
		if b := &buckets[i]; b.Home != stock.HomeRedis && k.cfg.Now().Sub(b.SeenAt) > deadAfter {
			dead = append(dead, b.ID)
		}
	}
	return k.admin.CloseBuckets(ctx, dead, k.cfg.Now())
}

// leave gives the units of this process back.
func (k *keeper) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaving)
	defer cancel()
	if v := k.view.Swap(&view{}); v != nil {
		k.forget(v, &view{})
	}
	if err := k.closeOrphans(ctx); err != nil {
		k.cfg.Log.Warn("units of a sale not given back: the next recall has them", "err", err)
	}
}
