package redisgate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/stock/gate"
)

// tend keeps the keys of the buckets from vanishing, and looks for tickets that nobody has.
func (s *Shared) tend(ctx context.Context, v *view) error {
	renew := time.Since(s.keeper.renewed) >= renewEvery
	sweep := time.Since(s.keeper.swept) >= sweepEvery
	if !renew && !sweep {
		return nil
	}
	now := time.Now()
	skus := map[*saleView][]string{}
	for sku, sale := range v.sales {
		skus[sale] = append(skus[sale], sku)
	}
	var errs []error
	if renew {
		s.keeper.renewed = now
		errs = append(errs, s.renewQueues(ctx))
	}
	if sweep {
		s.keeper.swept = now
	}
	for sale, of := range skus {
		for _, l := range sale.lanes {
			if s.resting.rests(l.bucket) {
				continue
			}
			if renew {
				errs = append(errs, s.renew(ctx, l.bucket, of))
			}
			if sweep {
				errs = append(errs, s.sweep(ctx, l.bucket))
			}
		}
	}
	return errors.Join(errs...)
}

// renew lets the keys of a bucket live for keysFor from now on.
func (s *Shared) renew(ctx context.Context, b Bucket, skus []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	k := s.home.keys(b)
	names := []string{k.gate(), k.ticket(), k.wal()}
	for _, sku := range skus {
		names = append(names, k.leaved(sku), k.flow(sku), k.back(sku), k.buyer(sku))
	}
	return s.expire(ctx, names)
}

// expire lets keys live for keysFor from now on.
func (s *Shared) expire(ctx context.Context, names []string) error {
	return s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for _, name := range names {
			p.Expire(ctx, name, keysFor)
		}
	})
}

// renewQueues is renew of all queues, also of those whose sale goes on with other buckets or is over.
// Those of the latter that are empty are not asked for any more when what became of who waited there
// is not told any more.
func (s *Shared) renewQueues(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	buckets, err := s.inLine(ctx)
	if err != nil || len(buckets) == 0 {
		return err
	}
	lengths, err := s.lengths(ctx, buckets)
	if err != nil {
		return err
	}
	names, now := s.queues(), s.cfg.Now()
	var gone []any
	for i, b := range buckets {
		k := s.home.keys(b)
		// The gate as well: the next sale of this name begins above its token, as the ids of its entries must.
		names = append(names, k.gate(), k.queue(), k.queued(), k.claimed())
		v := s.view.Load().names[b.Sale]
		kept := v != nil && v.lanes[b.No] != nil
		if kept {
			v.lanes[b.No].listed.Store(false) // in case the set was lost
		}
		if s.keeper.emptyFor(b, !kept && lengths[i] == 0, now) > gate.KeepProblem {
			gone = append(gone, b.member())
		}
	}
	if len(gone) > 0 {
		err = s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
			for _, name := range s.queues() {
				p.SRem(ctx, name, gone...)
			}
		})
	}
	return errors.Join(err, s.expire(ctx, names))
}

// emptyFor notes whether a queue is empty, and gives for how long it is.
func (k *keeping) emptyFor(b Bucket, empty bool, now time.Time) time.Duration {
	since, known := k.empty[b]
	switch {
	case !empty:
		delete(k.empty, b)
		return 0
	case !known:
		k.empty[b] = now
		return 0
	}
	return now.Sub(since)
}

// orphan is an old ticket of a bucket's log that its maker has not settled.
type orphan struct {
	entry   string
	orderNo string
	lines   []Line
}

// sweep gives back the units of old tickets that became no order: their makers are gone.
func (s *Shared) sweep(ctx context.Context, b Bucket) error {
	old, err := s.old(ctx, b, sqldb.Millis(s.cfg.Now().Add(-lostAfter)))
	if err != nil || len(old) == 0 {
		return err
	}
	nos := make([]string, len(old))
	for i, o := range old {
		nos[i] = o.orderNo
	}
	placed, err := s.admin.Placed(ctx, nos)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, o := range old {
		if !placed[o.orderNo] && !s.giveBack(b, o.orderNo, o.lines) {
			kept[o.entry] = true
		}
	}
	var gone []string
	for _, o := range old {
		if !kept[o.entry] {
			gone = append(gone, o.entry)
		}
	}
	if len(gone) > 0 {
		s.forget(b, gone)
	}
	return nil
}

// old gives the tickets of the first entries of a log that were taken before a time, in
// milliseconds.
func (s *Shared) old(ctx context.Context, b Bucket, before int64) (old []orphan, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	entries, err := s.cfg.Client.XRangeN(ctx, s.home.keys(b).wal(), "-", "+", sweepPage).Result()
	s.noted(err)
	if err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", b, err)
	}
	for _, e := range entries {
		for no, v := range e.Values {
			var p parcel
			text, _ := v.(string)
			if err := json.Unmarshal([]byte(text), &p); err != nil {
				return nil, fmt.Errorf("read entry %s of %s: %w", e.ID, b, err)
			}
			if p.At < before {
				old = append(old, orphan{e.ID, no, p.Lines})
			}
		}
	}
	return old, nil
}
