package redisgate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"orderd/migrations/sqldb"
	"orderd/stock"
	"orderd/stock/gate"
)

var _ gate.Inspector = (*Shared)(nil)

// scanPage is how many fields of a hash are read at once: others wait for Redis meanwhile.
const scanPage = 1000

// What Verify holds Redis to.
const (
	checkLeft    = "redis.left"
	checkFlows   = "redis.flows"
	checkStreams = "redis.streams"
)

// Look implements gate.Inspector.
func (s *Shared) Look(ctx context.Context, gates []stock.Gate) (all []gate.HomeBucket, err error) {
	if len(gates) == 0 {
		return nil, nil
	}
	of := make([]*stock.Gate, len(gates))
	for i := range gates {
		of[i] = &gates[i]
	}
	k := s.saleOf(gates[0].Sale, of, nil)
	for no := range k.buckets {
		stat, err := k.stat(ctx, Bucket{Sale: k.name, No: no})
		if err != nil {
			return nil, fmt.Errorf("look at the buckets of %s: %w", k.name, err)
		}
		b := gate.HomeBucket{No: no, Epoch: stat.Token, Open: stat.Open, Tickets: stat.WAL, Waiting: stat.Queue,
			Units: map[string]gate.HomeUnits{}}
		for sku, st := range stat.SKUs {
			b.Units[sku] = gate.HomeUnits{Bucket: st.BucketID, Seq: st.Seq, Left: st.Left}
		}
		all = append(all, b)
	}
	return all, nil
}

// verifying is a Verify under way.
type verifying struct {
	*Shared
	buckets int
	found   map[string][]string // violations by check
}

// Verify implements gate.Inspector.
func (s *Shared) Verify(ctx context.Context) (gate.Verdict, error) {
	gates, err := s.admin.Gates(ctx)
	if err != nil {
		return gate.Verdict{}, err
	}
	sales := map[string][]*stock.Gate{}
	for i := range gates {
		if g := &gates[i]; g.Mode == stock.GateRedis && !g.Ended && g.Epoch > 0 {
			sales[g.Sale] = append(sales[g.Sale], g)
		}
	}
	v := verifying{Shared: s, found: map[string][]string{}}
	for _, name := range slices.Sorted(maps.Keys(sales)) {
		for _, check := range []func(context.Context, string, []*stock.Gate) error{v.left, v.flows, v.streams} {
			if err := check(ctx, name, sales[name]); err != nil {
				return gate.Verdict{}, fmt.Errorf("verify the buckets of %s: %w", name, err)
			}
		}
	}
	return gate.Verdict{Buckets: v.buckets, Checks: []gate.Check{
		{ID: checkLeft, Meaning: "no bucket in Redis is lost, or has more units than its row",
			Violations: v.found[checkLeft]},
		{ID: checkFlows, Meaning: "what was given out of a bucket in Redis is what its flows there add up to",
			Violations: v.found[checkFlows]},
		{ID: checkStreams, Meaning: "every ticket in Redis became an order or came back within " +
			(2*lostAfter + sweepEvery).String(), Violations: v.found[checkStreams]},
	}}, nil
}

// says notes what breaks a check.
func (v *verifying) says(check string, b Bucket, format string, args ...any) {
	v.found[check] = append(v.found[check], b.String()+": "+fmt.Sprintf(format, args...))
}

// left looks twice for buckets of a sale that have more units than their rows, or are lost. The
// rows are read first: what is taken and committed between makes the row greater.
func (v *verifying) left(ctx context.Context, name string, gates []*stock.Gate) error {
	first, err := v.compare(ctx, name, gates)
	if err != nil {
		return err
	}
	again, err := v.compare(ctx, name, gates)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(again)) {
		if d := again[id]; first[id].what == d.what {
			v.says(checkLeft, d.bucket, "%s", d.detail)
		}
	}
	return nil
}

// difference is what one look finds at a bucket.
type difference struct {
	what   string
	bucket Bucket
	detail string
}

// compare gives the buckets of a sale that are wrong in one look.
func (v *verifying) compare(ctx context.Context, name string, gates []*stock.Gate) (map[int64]difference, error) {
	rows, err := v.rows(ctx)
	if err != nil {
		return nil, err
	}
	k := v.saleOf(name, gates, rows)
	found := map[int64]difference{}
	for no, l := range k.view.lanes {
		stat, err := k.stat(ctx, l.bucket)
		if err != nil {
			return nil, err
		}
		for _, g := range gates {
			id := stock.SharedBucket(g.SkuID, k.token, no)
			row, st := rows[id], stat.SKUs[g.SkuID]
			switch {
			case row == nil || stat.Token > k.token: // a new epoch has begun, or there are none yet
			case stat.Token < k.token || !stat.Open || st.BucketID != id || st.Left < 0:
				found[id] = difference{"lost", l.bucket, fmt.Sprintf("%s: Redis has lost the bucket, of which the "+
					"database has %d units", g.SkuID, row.Remaining)}
			case st.Seq == row.Seq && st.Left > row.Remaining:
				found[id] = difference{"more", l.bucket, fmt.Sprintf("%s: Redis has %d units, the database %d", g.SkuID,
					st.Left, row.Remaining)}
			}
		}
	}
	return found, nil
}

// flows looks for buckets of a sale whose units are not accounted for: what was granted is what
// is left and what the flows say was taken, less what came back.
func (v *verifying) flows(ctx context.Context, name string, gates []*stock.Gate) error {
	k := v.saleOf(name, gates, nil)
	for no := range k.buckets {
		v.buckets++
		for _, g := range gates {
			if err := v.flowsOf(ctx, k, k.view.lanes[no].bucket, g.SkuID); err != nil {
				return err
			}
		}
	}
	return nil
}

// flowsOf looks at one SKU of a bucket. Neither flows nor returns are ever taken out of their
// hashes while the bucket is open, so that what is added up between two looks is at least what
// the first implies, and at most what the second does, however many buy meanwhile. The first
// and the last look only say that it was this opening all the time.
func (v *verifying) flowsOf(ctx context.Context, k *sale, b Bucket, sku string) error {
	var taken [4]int64
	var back [2]int64
	var flows int64
	names := v.home.keys(b)
	for i, sum := range []struct {
		key  string
		into *int64
	}{{names.back(sku), &back[0]}, {names.flow(sku), &flows}, {names.back(sku), &back[1]}, {}} {
		var known bool
		var err error
		if taken[i], known, err = v.taken(ctx, k, b, sku); err != nil || !known {
			return err
		}
		if sum.into == nil {
			continue
		}
		if *sum.into, err = v.sum(ctx, sum.key); err != nil {
			return err
		}
	}
	if missing := taken[1] + back[0] - flows; missing > 0 {
		v.says(checkFlows, b, "%s: %d units were taken of which there is no flow", sku, missing)
	}
	if more := flows - taken[2] - back[1]; more > 0 {
		v.says(checkFlows, b, "%s: there are flows of %d units that are still in it", sku, more)
	}
	return nil
}

// taken gives what was granted to a bucket and is not in it at this moment; false when it is not
// of this epoch.
func (v *verifying) taken(ctx context.Context, k *sale, b Bucket, sku string) (int64, bool, error) {
	id := stock.SharedBucket(sku, b.Token, b.No)
	stat, err := k.stat(ctx, b)
	st := stat.SKUs[sku]
	if err != nil || stat.Token != b.Token || st.BucketID != id || st.Left < 0 {
		return 0, false, err
	}
	granted, err := v.admin.Granted(ctx, id, st.Seq)
	return granted - st.Left, true, err
}

// sum adds up the lines of a hash; what it has beside them, of single returns, is passed over. A
// field that HSCAN gives twice counts once.
func (v *verifying) sum(ctx context.Context, key string) (units int64, err error) {
	seen := map[string]bool{}
	for cursor := uint64(0); ; {
		var page []string
		callCtx, cancel := context.WithTimeout(ctx, patience)
		page, cursor, err = v.cfg.Client.HScan(callCtx, key, cursor, "", scanPage).Result()
		cancel()
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", key, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			if seen[page[i]] || strings.Contains(page[i], "|") {
				continue
			}
			seen[page[i]] = true
			n, err := strconv.ParseInt(page[i+1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s of %s: %w", page[i], key, err)
			}
			units += n
		}
		if cursor == 0 {
			return units, nil
		}
	}
}

// streams looks for tickets of a sale that should have been settled: two times lostAfter and
// a sweep ago.
func (v *verifying) streams(ctx context.Context, name string, gates []*stock.Gate) error {
	k := v.saleOf(name, gates, nil)
	for no := range k.buckets {
		b := k.view.lanes[no].bucket
		old, err := v.old(ctx, b, sqldb.Millis(v.cfg.Now().Add(-2*lostAfter-sweepEvery)))
		if err != nil {
			return err
		}
		for _, o := range old {
			v.says(checkStreams, b, "the ticket of %s", o.orderNo)
		}
	}
	return nil
}
