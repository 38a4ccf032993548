package redisgate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orderd/stock"
)

// How an epoch with a queue ends. Who waits was told that units are set aside for him, so that
// nobody else may have them: when nothing is doubtful, the rows of the buckets are closing
// first, which still lets orders be placed from them; then Redis gives out no more of them;
// the queue becomes orders; and when nobody waits the rows are closed, and the next epoch
// begins. Buyers who come meanwhile are to come again.
//
// It ends so when the gate is set otherwise, when its time is over, when the SKUs of a sale are not
// of one epoch, and when so little is left that it is better in one bucket. Everything doubtful
// ends an epoch at once, as without a queue: what waits is then decided on the pool, before anybody
// else is asked to come. So does a Redis that nobody has reached for stock.SeenFor.

// Times and numbers of sales with a queue.
const (
	// fillBefore is how long before its sale begins a bucket is filled.
	fillBefore = time.Minute
	// seenEvery is how old the word may be that the buckets are kept.
	seenEvery = 10 * time.Second
	// tailUnits for each bucket: less than that is brought together in one bucket, so that an order
	// of several units finds them, and the last ones.
	tailUnits = 32
)

// ofRedis gives the rows of the sale's buckets in Redis, of any epoch, in the order of their ids.
func (k *sale) ofRedis() (rows []*stock.Bucket) {
	for _, id := range slices.Sorted(maps.Keys(k.rows)) {
		if _, of := slices.BinarySearch(k.skus, k.rows[id].SkuID); of {
			rows = append(rows, k.rows[id])
		}
	}
	return rows
}

// over reports that the time of a gate is over.
func (k *sale) over(g *stock.Gate) bool {
	return !g.ClosesAt.IsZero() && !k.cfg.Now().Before(g.ClosesAt)
}

// drain goes on with the end of an epoch, or begins it, and reports that there is one.
func (k *sale) drain(ctx context.Context) (bool, error) {
	rows := k.ofRedis()
	var open, closing bool
	for _, b := range rows {
		open, closing = open || b.State == stock.BucketOpen, closing || b.State == stock.BucketClosing
	}
	if !closing && !(open && k.queues() && k.ends(rows)) {
		return false, nil
	}
	k.view.paused = true
	if open {
		return true, k.admin.Drain(ctx, k.skus) // the next look sees the rows
	}
	if err := k.seen(ctx); err != nil {
		return true, err
	}
	asked := map[Bucket]bool{}
	var waiting int64
	for _, row := range rows {
		b := Bucket{Sale: k.name, No: row.No, Token: row.Epoch}
		if asked[b] {
			continue
		}
		asked[b] = true
		n, err := k.close(ctx, b)
		switch {
		case errors.Is(err, errUnreached) && k.breaker.up(): // perhaps some wait there, for as long as seen says
			waiting++
		case err != nil:
			return true, err
		}
		waiting += n
	}
	if waiting > 0 {
		return true, nil
	}
	return true, k.newEpoch(ctx, "drained", 0)
}

// former reports that somebody waits who came in an epoch that has ended at once. His units are in
// the pool again, and there for him: the buckets of this epoch, to which all of the pool would go,
// are opened when nobody waits any more. Until then those of before give out nothing, and the rate is
// theirs together, also when they are more than those that are to come.
func (k *sale) former(ctx context.Context) (bool, error) {
	buckets, err := k.inLine(ctx)
	if err != nil {
		return false, err
	}
	var waiting, lines int64
	for _, b := range buckets {
		if b.Sale != k.name {
			continue
		}
		if k.resting.gone(b, k.cfg.Now()) {
			continue // who waits there is lost, or comes too late
		}
		if k.resting.rests(b) {
			waiting, lines = waiting+1, lines+1
			continue
		}
		stat, err := k.stat(ctx, b)
		if errors.Is(err, errUnreached) && k.breaker.up() {
			waiting, lines = waiting+1, lines+1
			continue
		}
		if err != nil {
			return false, err
		}
		if stat.Token == 0 || stat.Token >= k.token { // there is none of before
			continue
		}
		b.Token = stat.Token
		n, err := k.close(ctx, b)
		if err != nil {
			return false, err
		}
		if waiting += n; n > 0 {
			lines++
		}
	}
	k.view.pace = paceOf(k.rate, max(lines, k.buckets))
	return waiting > 0, nil
}

// ends reports that the epoch is to end in order: a gate is over, or the sale's gates are not of
// one epoch.
func (k *sale) ends(rows []*stock.Bucket) bool {
	for _, g := range k.gates {
		has := slices.ContainsFunc(rows, func(b *stock.Bucket) bool { return b.SkuID == g.SkuID })
		if g.Epoch != k.token || k.over(g) && has {
			return true
		}
	}
	return false
}

// close has a bucket give out nothing more, and gives how many wait in its queue. One that Redis
// does not know has nobody waiting; one that cannot be reached is errUnreached.
func (k *sale) close(ctx context.Context, b Bucket) (waiting int64, err error) {
	if k.resting.rests(b) {
		return 0, errUnreached
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	waiting, err = k.home.Close(ctx, b)
	if errors.Is(err, ErrNotReady) {
		return 0, nil
	}
	k.noted(err)
	if k.asked(b, err); err != nil {
		err = fmt.Errorf("%s: %w: %w", b, errUnreached, err)
	}
	return waiting, err
}

// closed is for a bucket that gives out nothing, though its row was open when it was read: another
// keeper ends the epoch. When that does not show at the next look, this one does.
func (k *sale) closed(ctx context.Context, b Bucket) error {
	k.view.paused = true
	if k.suspect(stock.SharedBucket(k.skus[0], b.Token, b.No), "closed") {
		return k.admin.Drain(ctx, k.skus)
	}
	return nil
}

// totals gives what is unsold of each SKU of the sale, in pool and buckets, as the database has it.
func (k *sale) totals() map[string]int64 {
	all := map[string]int64{}
	for _, g := range k.gates {
		all[g.SkuID] = g.Available
	}
	for _, b := range k.ofRedis() {
		all[b.SkuID] += b.Remaining
	}
	return all
}

// few reports that so little is left of a SKU that the next epoch has one bucket.
func (k *sale) few() bool {
	for _, units := range k.totals() {
		if units > 0 && units < tailUnits*k.wanted {
			return true
		}
	}
	return false
}

// resize ends the epoch when it has many buckets and little is left, or one and much is there again.
// It waits until those who wait are few: while an epoch ends, nothing is given out.
func (k *sale) resize(ctx context.Context) error {
	if k.wanted == 1 || k.waiting > k.rate || k.view.partly {
		return nil
	}
	little, much := false, true
	for _, g := range k.gates {
		units := k.view.left[g.SkuID] + g.Available
		little = little || units > 0 && units < tailUnits*k.wanted
		much = much && (units == 0 || units >= 2*tailUnits*k.wanted) // twice: not to and fro
	}
	if k.buckets > 1 && little || k.buckets == 1 && much && len(k.ofRedis()) > 0 {
		k.view.paused = true
		return k.admin.Drain(ctx, k.skus)
	}
	return nil
}

// seen says in the database that the buckets are kept, when nobody has for a while. A bucket that
// nobody could reach for stock.SeenFor ends the epoch.
func (k *sale) seen(ctx context.Context) error {
	var ids []int64
	for _, b := range k.ofRedis() {
		unseen, rests := k.cfg.Now().Sub(b.SeenAt), k.resting.rests(Bucket{Sale: k.name, No: b.No})
		if rests && unseen > stock.SeenFor {
			return k.newEpoch(ctx, "away", 0)
		}
		if !rests && unseen > seenEvery {
			ids = append(ids, b.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return k.admin.Seen(ctx, ids, k.cfg.Now())
}

// kept says in the database that the sale is kept, though none of its buckets has a row: units of those
// of before may be in the pool for others, from whom a process that cannot reach Redis would sell them.
func (k *sale) kept(ctx context.Context) error {
	if time.Since(k.keeper.told[k.name]) < seenEvery {
		return nil
	}
	err := k.admin.Kept(ctx, k.skus, k.cfg.Now())
	if err == nil {
		k.keeper.told[k.name] = time.Now()
	}
	return err
}

// endForsaken ends the epochs of sales with a queue whose buckets nobody has kept for stock.SeenFor,
// while this process has no Redis: their units are sold from the pool.
func (s *Shared) endForsaken(ctx context.Context, sales map[string][]*stock.Gate) error {
	queues := func(g *stock.Gate) bool { return g.Queues() }
	maps.DeleteFunc(sales, func(_ string, gates []*stock.Gate) bool { return !slices.ContainsFunc(gates, queues) })
	if len(sales) == 0 {
		return nil
	}
	rows, err := s.rows(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(sales)) {
		k := s.saleOf(name, sales[name], rows)
		kept := func(b *stock.Bucket) bool { return k.cfg.Now().Sub(b.SeenAt) <= stock.SeenFor }
		if of := k.ofRedis(); len(of) == 0 || slices.ContainsFunc(of, kept) {
			continue
		}
		if err := k.newEpoch(ctx, "away", 0); !errors.Is(err, errEpoch) {
			errs = append(errs, fmt.Errorf("sale %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
