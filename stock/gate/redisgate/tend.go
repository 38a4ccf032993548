package redisgate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/stock"
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
	for sale, of := range skus {
		for _, l := range sale.lanes {
			if s.keeper.rests(l.bucket) {
				continue
			}
			if renew {
				errs = append(errs, s.renew(ctx, l.bucket, of))
				s.keeper.renewed = now
			}
			if sweep {
				errs = append(errs, s.sweep(ctx, l.bucket))
				s.keeper.swept = now
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
	names := []string{k.gate(), k.ticket(), k.wal(), k.queue()}
	for _, sku := range skus {
		names = append(names, k.leaved(sku), k.flow(sku), k.back(sku), k.buyer(sku))
	}
	_, err := s.cfg.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			p.Expire(ctx, name, keysFor)
		}
		return nil
	})
	s.noted(err)
	return err
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

// Check is a difference between Redis and the database.
type Check struct {
	Name   string // redis.left: more units than the database has; redis.streams: an old ticket without an end
	Bucket string
	Detail string
}

// Verify compares the buckets of all sales with their rows: what a bucket has more than its
// row, at the same move and twice in turn, and tickets that nobody has settled long after they
// could have become an order.
func (s *Shared) Verify(ctx context.Context) ([]Check, error) {
	gates, err := s.admin.Gates(ctx)
	if err != nil {
		return nil, err
	}
	sales := map[string][]*stock.Gate{}
	for i := range gates {
		if g := &gates[i]; g.Mode == stock.GateRedis && !g.Ended && g.Epoch > 0 {
			sales[g.Sale] = append(sales[g.Sale], g)
		}
	}
	var checks []Check
	for name, of := range sales {
		first, err := s.compare(ctx, name, of)
		if err != nil {
			return nil, err
		}
		again, err := s.compare(ctx, name, of)
		if err != nil {
			return nil, err
		}
		for id, c := range again {
			if _, twice := first[id]; twice {
				checks = append(checks, c)
			}
		}
		more, err := s.streams(ctx, name, of)
		if err != nil {
			return nil, err
		}
		checks = append(checks, more...)
	}
	return checks, nil
}

// compare gives the buckets of a sale that have more units than their rows.
func (s *Shared) compare(ctx context.Context, name string, gates []*stock.Gate) (map[int64]Check, error) {
	rows, err := s.rows(ctx)
	if err != nil {
		return nil, err
	}
	k := s.saleOf(name, gates, rows)
	found := map[int64]Check{}
	for no, l := range k.view.lanes {
		stat, err := k.stat(ctx, l.bucket)
		if err != nil {
			return nil, err
		}
		for _, g := range gates {
			id := stock.SharedBucket(g.SkuID, k.token, no)
			row, st := rows[id], stat.SKUs[g.SkuID]
			if row == nil || stat.Token != k.token || st.BucketID != id || st.Seq != row.Seq {
				continue
			}
			if st.Left > row.Remaining {
				found[id] = Check{"redis.left", l.bucket.String(),
					fmt.Sprintf("%s: Redis has %d units, the database %d", g.SkuID, st.Left, row.Remaining)}
			}
		}
	}
	return found, nil
}

// streams gives the tickets of a sale that should have been settled: two times lostAfter and
// a sweep ago.
func (s *Shared) streams(ctx context.Context, name string, gates []*stock.Gate) (checks []Check, err error) {
	k := s.saleOf(name, gates, nil)
	for _, l := range k.view.lanes {
		old, err := s.old(ctx, l.bucket, sqldb.Millis(s.cfg.Now().Add(-2*lostAfter-sweepEvery)))
		if err != nil {
			return nil, err
		}
		for _, o := range old {
			checks = append(checks, Check{"redis.streams", l.bucket.String(), "the ticket of " + o.orderNo})
		}
	}
	return checks, nil
}
