package redisgate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/stock"
)

// How the keeper works. Every process keeps all sales at once, without a lock among them:
// each step is idempotent by a number, and what another one has done already is found done.
//
//   - A bucket is opened in Redis before its row is made. So a row whose bucket Redis does not
//     know says for certain that Redis has lost it.
//   - Units leave the pool in the database first and come to Redis under the same number. What
//     a crash leaves between the two is idle, and the next keeper applies that move.
//   - Units come home by closing the row, and in no other way: at a recall, which the ledger
//     does when the pool is short, at the end of an epoch or of the gate. Redis is not asked,
//     and what it still gives out then is fenced, placed from the pool in the same call.
//   - Everything that makes Redis doubtful ends the epoch: the next one begins from the pool
//     with empty buckets. So does a change of the number of buckets.
//   - Of a sale with a queue a recall leaves these buckets alone, and an epoch that ends without
//     a doubt ends in order: drain.go.
//
// The number of the last ticket is not kept in the database, nor the run id of Redis: a Redis
// that has gone back in time shows more units than the row of a bucket at the same move
// (drift), and one that shows fewer can only leave some idle.

// Times and numbers of the keeper.
const (
	// leastFirst is in units.
	leastFirst = 64
	// firstPart of the pool is what all buckets get first.
	firstPart = 10
	// lowWater is the part of the last move below which a bucket gets the next.
	lowWater = 4
	// keysFor: the keys of a bucket vanish when nobody has kept it for so long. That is how
	// those of an epoch that is over are deleted, whoever dies.
	keysFor = time.Hour
	// renewEvery is the time between two renewals of that, and between two looks at the logs.
	renewEvery, sweepEvery = time.Minute, 10 * time.Second
	// lostAfter: a ticket so old that is no order never will be one (order.FirstTryWithin is
	// much less). Were that wrong, its order would be placed from the pool.
	lostAfter = time.Minute
	// restFor: a bucket that could not be reached is left alone for so long, because every try
	// holds the keeper up.
	restFor = healthyFor
	// sweepPage is how many entries of a log are looked at at once.
	sweepPage = 100
)

// keeping is what the keeper remembers between its looks.
type keeping struct {
	suspects map[int64]suspicion
	fenced   map[int64]bool   // buckets that the database refused since the last look
	scarce   map[string]int64 // as in Shared, before this look
	looks    int64
	drift    int64
	renewed  time.Time // of this machine
	swept    time.Time
	empty    map[Bucket]time.Time // queues that no sale has any more: since when they are empty
	told     map[string]time.Time // when this process last told that it keeps a sale without a row, of this machine
}

// suspicion is something wrong with a bucket that may be the moment between two reads.
type suspicion struct {
	what string
	look int64
}

// errOthers: another keeper has done this move, or the bucket is closed.
var errOthers = errors.New("moved by another keeper, or closed")

// errUnreached: a bucket could not be asked.
var errUnreached = errors.New("the bucket cannot be reached")

// errEpoch: the sale begins a new epoch, and has no buckets until the next look.
var errEpoch = errors.New("a new epoch has begun")

// Keep implements gate.Shared.
func (s *Shared) Keep(ctx context.Context, gates []*stock.Gate) error {
	sales := map[string][]*stock.Gate{}
	for _, g := range gates {
		if !g.Ended {
			sales[g.Sale] = append(sales[g.Sale], g)
		}
	}
	queues := func(g *stock.Gate) bool { return g.Queues() }
	s.noQueue.Store(!slices.ContainsFunc(gates, queues) && !s.left.Load())
	if !s.probe(ctx) {
		return s.endForsaken(ctx, sales)
	}
	next := &view{sales: map[string]*saleView{}, names: map[string]*saleView{}, kept: true}
	if len(sales) == 0 {
		s.view.Store(next)
		return nil
	}
	s.keeper.looks++
	s.keeper.drift = 0
	maps.DeleteFunc(s.keeper.suspects, func(_ int64, x suspicion) bool { return x.look < s.keeper.looks-1 })
	s.mu.Lock()
	s.keeper.fenced, s.fenced = s.fenced, map[int64]bool{}
	s.keeper.scarce, s.scarce = s.scarce, map[string]int64{}
	s.mu.Unlock()
	rows, err := s.rows(ctx) // before Redis is looked at: see judge
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(sales)) {
		k := s.saleOf(name, sales[name], rows)
		err := k.keep(ctx)
		if errors.Is(err, errEpoch) && !k.queues() {
			continue
		}
		k.view.paused = k.view.paused || err != nil && k.queues() && !k.view.partly
		if err != nil && !errors.Is(err, errEpoch) {
			errs = append(errs, fmt.Errorf("sale %s: %w", name, err))
		}
		next.names[name] = k.view
		for _, g := range k.gates {
			next.sales[g.SkuID] = k.view
		}
	}
	lines, err := s.lines(ctx, gates) // those of new buckets, too
	errs = append(errs, err)
	for name, v := range next.names {
		v.lines = lines[name]
	}
	s.view.Store(next)
	s.cfg.Observe.GateDrift(s.keeper.drift)
	return errors.Join(append(errs, s.tend(ctx, next))...)
}

// lines gives the buckets in which some may wait, by sale, but for those that rest. Nothing is asked
// when there is no queue.
func (s *Shared) lines(ctx context.Context, gates []*stock.Gate) (map[string][]Bucket, error) {
	if s.noQueue.Load() {
		return nil, nil
	}
	buckets, err := s.inLine(ctx)
	by := map[string][]Bucket{}
	for _, b := range buckets {
		if !s.resting.rests(b) {
			by[b.Sale] = append(by[b.Sale], b)
		}
	}
	return by, err
}

// rows gives the open buckets whose home is Redis, by id.
func (s *Shared) rows(ctx context.Context) (map[int64]*stock.Bucket, error) {
	all, err := s.admin.OpenBuckets(ctx)
	if err != nil {
		return nil, err
	}
	rows := map[int64]*stock.Bucket{}
	for i := range all {
		if all[i].Home == stock.HomeRedis {
			rows[all[i].ID] = &all[i]
		}
	}
	return rows, nil
}

// sale is one sale while it is kept.
type sale struct {
	*Shared
	name    string
	gates   []*stock.Gate // by SKU
	skus    []string
	token   int64
	buckets int64 // of this epoch
	wanted  int64 // of the next one, if enough is left
	rate    int64 // orders a second; 0: no queue
	waiting int64 // in all queues
	rows    map[int64]*stock.Bucket
	view    *saleView
}

// queues reports that what is asked of the sale may have to wait.
func (k *sale) queues() bool { return k.rate > 0 }

// saleOf gives a sale to be kept. The lanes of the buckets that it had stay.
func (s *Shared) saleOf(name string, gates []*stock.Gate, rows map[int64]*stock.Bucket) *sale {
	slices.SortFunc(gates, func(a, b *stock.Gate) int { return cmp.Compare(a.SkuID, b.SkuID) })
	k := &sale{Shared: s, name: name, gates: gates, token: gates[0].Epoch, rows: rows}
	few := true
	for _, g := range gates {
		k.skus = append(k.skus, g.SkuID)
		k.wanted, few = max(k.wanted, g.Buckets), few && g.Few
		if g.Rate > 0 && (k.rate == 0 || g.Rate < k.rate) { // one that has none follows the others
			k.rate = g.Rate
		}
	}
	if k.buckets = k.wanted; few {
		k.buckets = 1
	}
	k.viewed(s.view.Load().sales[gates[0].SkuID])
	return k
}

// viewed makes the view of a sale, of which nothing is known yet. The lanes of the buckets that it
// had stay.
func (k *sale) viewed(before *saleView) {
	drained := k.buckets // those that run out are drained at the same rate together
	for _, b := range k.ofRedis() {
		drained = max(drained, b.No+1)
	}
	v := &saleView{sale: k.name, token: k.token, lanes: map[int64]*lane{}, ids: map[string]map[int64]int64{},
		pace: paceOf(k.rate, drained), pool: map[string]int64{}, left: map[string]int64{},
		opensAt: map[string]time.Time{}}
	if k.Shared.mostQueued > 0 {
		v.pace.Room = k.Shared.mostQueued
	}
	for no := range k.buckets {
		b := Bucket{Sale: k.name, No: no, Token: k.token}
		if before != nil && before.lanes[no] != nil && before.lanes[no].bucket == b {
			v.lanes[no] = before.lanes[no]
		} else {
			v.lanes[no] = &lane{shared: k.Shared, bucket: b, open: map[int64]int{}}
		}
		pace := v.pace
		v.lanes[no].pace.Store(&pace)
	}
	for _, g := range k.gates {
		v.ids[g.SkuID] = map[int64]int64{}
		if k.deepOf(g) {
			v.pool[g.SkuID] = g.Available
		}
		v.opensAt[g.SkuID] = g.OpensAt
	}
	k.view = v
}

// keep opens, fills and mends the buckets of a sale.
func (k *sale) keep(ctx context.Context) error {
	if done, err := k.drain(ctx); done || err != nil {
		return err
	}
	for _, g := range k.gates {
		if g.Epoch != k.token || k.token == 0 {
			return k.newEpoch(ctx, "joined", 0)
		}
	}
	if k.queues() && len(k.ofRedis()) == 0 {
		waiting, err := k.former(ctx)
		if err == nil {
			err = k.kept(ctx)
		}
		if waiting || err != nil {
			k.view.paused = true
			return err
		}
	}
	var errs []error
	for no := range k.buckets {
		l := k.view.lanes[no]
		if k.resting.rests(l.bucket) {
			k.view.partly = true
			continue
		}
		err := k.bucket(ctx, l)
		if errors.Is(err, errUnreached) && k.breaker.up() { // its node of a cluster is away: the others sell
			k.asked(l.bucket, err)
			k.view.partly = true
			errs = append(errs, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	if k.queues() {
		errs = append(errs, k.resize(ctx), k.seen(ctx))
	}
	return errors.Join(errs...)
}

// place is a bucket in every epoch.
func (b Bucket) place() Bucket { return Bucket{Sale: b.Sale, No: b.No} }

// newEpoch gives the buckets of the sale up, and is errEpoch; its number is above floor.
func (k *sale) newEpoch(ctx context.Context, cause string, floor int64) error {
	from := make(map[string]int64, len(k.gates))
	for _, g := range k.gates {
		from[g.SkuID] = g.Epoch
	}
	begun, err := k.admin.NewEpoch(ctx, k.name, from, floor, k.queues() && k.few())
	if err != nil {
		return err
	}
	if begun {
		failpoint.Hit("gate.epoch")
		k.cfg.Observe.GateEpoch(cause)
		k.cfg.Log.Info("the buckets of a sale are given up for new ones", "sale", k.name, "cause", cause)
	}
	return errEpoch
}

// bucket keeps one bucket.
func (k *sale) bucket(ctx context.Context, l *lane) error {
	b := l.bucket
	if k.queues() {
		if err := k.list(ctx, l); err != nil {
			return fmt.Errorf("%s: %w: %w", b, errUnreached, err)
		}
	}
	rested := k.resting.rested(b)
	stat, err := k.stat(ctx, b)
	if err == nil && rested && k.queues() && stat.Token == b.Token {
		err = k.forgets(ctx, b)
	}
	if err != nil {
		return err
	}
	k.waiting += stat.Queue
	switch {
	case stat.Token > b.Token || stat.Token == b.Token && !k.ours(b, stat):
		return k.newEpoch(ctx, "taken", stat.Token)
	case k.queues() && stat.Token == b.Token && !stat.Open:
		return k.closed(ctx, b)
	}
	if stat.Token < b.Token || !stat.Open {
		for _, g := range k.gates {
			if k.rows[stock.SharedBucket(g.SkuID, b.Token, b.No)] != nil {
				return k.newEpoch(ctx, "lost", 0)
			}
		}
		if !k.deep() {
			return nil
		}
		if err := k.open(ctx, b); err != nil {
			return err
		}
		if stat, err = k.stat(ctx, b); err != nil {
			return err
		}
	}
	for _, g := range k.gates {
		if err := k.slice(ctx, b, g, stat.SKUs[g.SkuID]); err != nil {
			return err
		}
	}
	return nil
}

// ours reports that a bucket was opened for a SKU of this sale, and not for others that had its name
// before: those of one epoch may have the same number.
func (k *sale) ours(b Bucket, stat Stat) bool {
	return slices.ContainsFunc(k.skus, func(sku string) bool {
		return stat.SKUs[sku].BucketID == stock.SharedBucket(sku, b.Token, b.No)
	})
}

// forgets has a bucket say that it does not know all orders: while it could not be reached they came to
// others.
func (k *sale) forgets(ctx context.Context, b Bucket) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := k.cfg.Client.HSet(ctx, k.home.keys(b).gate(), "flows", "filling").Err()
	k.noted(err)
	if k.asked(b, err); err != nil {
		err = fmt.Errorf("%s: %w: %w", b, errUnreached, err)
	}
	return err
}

// deep reports that the pool of a SKU of the sale has enough for its buckets.
func (k *sale) deep() bool { return slices.ContainsFunc(k.gates, k.deepOf) }

// deepOf reports that the pool of a SKU has enough for all buckets, and is sold. Where there is a
// queue all of it goes into the buckets, and before the sale begins.
func (k *sale) deepOf(g *stock.Gate) bool {
	if now := k.cfg.Now(); k.queues() {
		filled := g.OpensAt.Add(-fillBefore).Before(now) && !k.over(g)
		return filled && g.Available > 0 && g.ClosedUntil <= sqldb.Millis(now)
	}
	return g.Available >= stock.KeepPerHolder*k.buckets && max(g.ClosedUntil, sqldb.Millis(g.OpensAt)) <=
		sqldb.Millis(k.cfg.Now())
}

// stat looks at a bucket; one that is not there has token 0.
func (s *Shared) stat(ctx context.Context, b Bucket, skus []string) (Stat, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stat, err := s.home.Stat(ctx, b, skus)
	if errors.Is(err, ErrNotReady) {
		return Stat{}, nil
	}
	s.noted(err)
	if s.asked(b, err); err != nil {
		err = fmt.Errorf("%s: %w: %w", b, errUnreached, err)
	}
	return stat, err
}

// stat is Shared.stat of this sale's SKUs.
func (k *sale) stat(ctx context.Context, b Bucket) (Stat, error) {
	return k.Shared.stat(ctx, b, k.skus)
}

// open opens a bucket, empty, and drops what the log has of epochs that are over.
func (k *sale) open(ctx context.Context, b Bucket) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o := Opening{Filling: true} // what came in an earlier epoch, or before there was a gate, is not known in this one
	for _, sku := range k.skus {
		o.Slices = append(o.Slices, Slice{SkuID: sku, BucketID: stock.SharedBucket(sku, b.Token, b.No)})
	}
	made, err := k.home.Open(ctx, b, o)
	if errors.Is(err, ErrNotReady) {
		return errEpoch // another process has opened the next one
	}
	k.noted(err)
	if err != nil || !made {
		return err
	}
	failpoint.Hit("gate.opened")
	err = k.cfg.Client.XTrimMinID(ctx, k.home.keys(b).wal(), b.token()+"-0").Err()
	k.noted(err)
	return errors.Join(err, k.renew(ctx, b, k.skus))
}

// slice keeps the part of one SKU in a bucket.
func (k *sale) slice(ctx context.Context, b Bucket, g *stock.Gate, st SKUStat) error {
	id := stock.SharedBucket(g.SkuID, b.Token, b.No)
	if st.BucketID != id {
		return k.newEpoch(ctx, "joined", 0)
	}
	k.view.left[g.SkuID] += max(st.Left, 0)
	row := k.rows[id]
	if row == nil {
		return k.first(ctx, b, g, id, st)
	}
	if k.keeper.fenced[id] {
		return k.newEpoch(ctx, "fenced", 0)
	}
	if st.Left < 0 {
		return k.newEpoch(ctx, "lost", 0)
	}
	switch cause, wrong := k.judge(row, st); {
	case wrong:
		return k.newEpoch(ctx, cause, 0)
	case cause != "":
		k.view.ids[g.SkuID][b.No] = id
		return nil
	}
	if st.Seq == row.Seq-1 {
		units, found, err := k.admin.MoveOf(ctx, id, row.Seq)
		if err != nil || !found {
			return err
		}
		if err := k.apply(ctx, b, Move{SkuID: g.SkuID, BucketID: id, Seq: row.Seq, Units: units}); err != nil {
			return err
		}
	} else if want := k.wants(g, st); want > 0 && k.deepOf(g) {
		err := k.grant(ctx, b, g, row.Seq+1, want)
		if err != nil && !errors.Is(err, errOthers) {
			return err
		}
	}
	k.view.ids[g.SkuID][b.No] = id
	return nil
}

// first makes the row of a bucket that has none: it is new, or was closed by a recall. The
// latter begins a new epoch when the pool has enough again. Where there is a queue a row that is
// gone says that the epoch is over, which was not seen yet: nothing is sold in this look.
func (k *sale) first(ctx context.Context, b Bucket, g *stock.Gate, id int64, st SKUStat) error {
	closed, again := st.Seq > 0, false
	if closed {
		again = k.suspect(id, "recalled")
		k.view.paused = k.view.paused || k.queues() && !again
	}
	if !k.deepOf(g) {
		return nil
	}
	if !closed {
		want := max(leastFirst, g.Available/firstPart/k.buckets)
		if k.queues() {
			want = k.wants(g, st)
		}
		err := k.grant(ctx, b, g, 1, want)
		if err == nil {
			k.view.ids[g.SkuID][b.No] = id
		}
		if errors.Is(err, errNone) && k.queues() {
			return nil // its neighbour has taken the last
		}
		if !errors.Is(err, errOthers) && !errors.Is(err, errNone) {
			return err
		}
		k.view.paused = k.view.paused || k.queues() // until it is known: repeats meet in one bucket
		again = k.suspect(id, "recalled")
	}
	if again {
		return k.newEpoch(ctx, "recalled", 0)
	}
	return nil
}

// judge compares a bucket with its row, which was read first: what is taken and committed
// between the two reads makes the row greater, never the bucket. cause is "" when
// nothing is wrong; wrong says that it was so at the look before, too.
func (k *sale) judge(row *stock.Bucket, st SKUStat) (cause string, wrong bool) {
	switch {
	case st.Seq < row.Seq-1:
		cause = "behind"
	case st.Seq > row.Seq: // another keeper was quicker, or the database has gone back
		cause = fmt.Sprintf("ahead of %d", row.Seq)
	case st.Seq == row.Seq && st.Left > row.Remaining:
		cause = "drift"
		k.keeper.drift += st.Left - row.Remaining
	default:
		return "", false
	}
	if !k.suspect(row.ID, cause) {
		return cause, false
	}
	name, _, _ := strings.Cut(cause, " ")
	return name, true
}

// suspect notes that something is wrong with a bucket, and reports that it was at the look
// before.
func (k *sale) suspect(id int64, what string) bool {
	before := k.keeper.suspects[id]
	k.keeper.suspects[id] = suspicion{what, k.keeper.looks}
	return before.what == what && before.look == k.keeper.looks-1
}

// wants gives how many units a bucket is to get: what it had, more when that was too little, also for
// one order. Where there is a queue it is its part of the pool: nobody buys there.
func (k *sale) wants(g *stock.Gate, st SKUStat) int64 {
	last := max(st.Units, leastFirst)
	switch {
	case k.queues():
		return max(g.Available/k.buckets, 1)
	case st.Left == 0:
		return 2 * last
	case st.Left < last/lowWater:
		return last - st.Left
	}
	if asked := k.keeper.scarce[g.SkuID]; st.Left < asked {
		return 2*asked - st.Left
	}
	return 0
}

// grant moves units from the pool into a bucket: in the database, then in Redis.
func (k *sale) grant(ctx context.Context, b Bucket, g *stock.Gate, seq, want int64) error {
	id := stock.SharedBucket(g.SkuID, b.Token, b.No)
	move := stock.Grant{Bucket: id, SkuID: g.SkuID, Home: stock.HomeRedis, Epoch: b.Token, No: b.No, Seq: seq,
		Want: want, At: k.cfg.Now()}
	var units int64
	err := k.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		units, err = move.Move(ctx, tx)
		if errors.Is(err, stock.ErrFenced) || sqldb.IsDuplicate(err) {
			err = errOthers
		}
		return err
	})
	if err != nil || units == 0 {
		return cmp.Or(err, noneGranted(seq))
	}
	failpoint.Hit("gate.given")
	return k.apply(ctx, b, Move{SkuID: g.SkuID, BucketID: id, Seq: seq, Units: units})
}

// noneGranted: the pool has none to give. A bucket that has no row yet is not there then.
func noneGranted(seq int64) error {
	if seq == 1 {
		return errNone
	}
	return nil
}

// errNone: the pool has no unit for a new bucket.
var errNone = errors.New("no unit for a new bucket")

// apply tells Redis of a move of the database.
func (k *sale) apply(ctx context.Context, b Bucket, m Move) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := k.home.Grant(ctx, b, m)
	if isAnswer(err) {
		return nil // done by another keeper, or seen as wrong at the next look
	}
	k.noted(err)
	return err
}
