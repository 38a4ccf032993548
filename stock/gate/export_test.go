package gate

import (
	"context"
	"time"

	"orderd/stock"
)

// Believe has g believe marks for so long, where it may for stock.MarkFor.
func (g *Gate) Believe(d time.Duration) { g.believe = d }

// Keeper is the loop beside a gate, a look at a time.
type Keeper = keeper

// NewKeeper makes the keeper of a gate that Run does not keep.
func NewKeeper(g *Gate, keys Keys) *Keeper { return newKeeper(g, keys) }

// Look does everything once, also what was done a moment ago.
func (k *keeper) Look(ctx context.Context) error {
	k.read, k.seen = time.Time{}, time.Time{}
	return k.look(ctx)
}

// Leave gives the units of the process back, as the end of Run does.
func (k *keeper) Leave(ctx context.Context) { k.leave(ctx) }

// Marks are the marks of one SKU, without a gate.
type Marks struct{ marks }

// Read takes in a mark that was read: see extend.
func (m *Marks) Read(asOf, now time.Time, closed time.Duration) (incomplete bool) {
	return m.extend(asOf, now, closed, time.Time{})
}

// Keys takes in that these have an order, and that nobody else has under the mark that stands.
func (m *Marks) Keys(claims ...*Claim) {
	var all []uint64
	for _, c := range claims {
		all = append(all, fingerprint(c.CustomerID, c.RequestID))
	}
	m.merge(all)
	m.complete.Store(m.mark.Load().stretch)
}

// Refuses reports that a claim is refused from memory at this moment.
func (m *Marks) Refuses(c *Claim) bool { return m.refuses(c) != nil }

// Until is when the mark lapses.
func (m *Marks) Until() time.Time { return m.mark.Load().until }

// Detector finds SKUs hot.
type Detector struct{ detector }

// Asked counts units that a batch asked for.
func (d *Detector) Asked(units map[string]int64) { d.count(units, false) }

// Again counts a batch that was run again.
func (d *Detector) Again(units map[string]int64) { d.count(units, true) }

// Second ends a second.
func (d *Detector) Second(now time.Time) (hot []string, rates map[string]int64, over bool) {
	return d.second(now)
}

// Remembered is how many SKUs are remembered.
func (d *Detector) Remembered() int { return len(d.skus) }

// Holding is what a process has of one SKU.
type Holding struct{ holding }

// Raise takes a grant in.
func (h *Holding) Raise(bucket, seq, units int64) bool { return h.raise(bucket, seq, units) }

// Take takes units.
func (h *Holding) Take(units int64) (bucket int64) { bucket, _ = h.take(units); return bucket }

// Wants gives the units that are to be asked for.
func (h *Holding) Wants() (units int64) { _, _, units = h.wants(); return units }

// Drop forgets a bucket.
func (h *Holding) Drop(bucket int64) bool { return h.drop(bucket) }

// MarkUntil is when the mark of a SKU lapses in this process; false for none.
func (g *Gate) MarkUntil(sku string) (until time.Time, marked bool) {
	v := g.view.Load()
	if v == nil || v.gates[sku] == nil || v.gates[sku].marks.mark.Load() == nil {
		return time.Time{}, false
	}
	return v.gates[sku].marks.mark.Load().until, true
}

// Sells has g know of a gate, and hold units of it in a bucket of this process.
func (g *Gate) Sells(c *stock.Gate, bucket, units int64) {
	s := new(gated)
	s.conf.Store(c)
	s.local.raise(bucket, 1, units)
	g.view.Store(&view{asOf: time.Now(), gates: map[string]*gated{c.SkuID: s}})
}
