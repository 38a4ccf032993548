package gate

import (
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"
)

// marks is what this process knows of a SKU's pool not being sold: until when, and who has
// an order of it nevertheless.
//
// Nothing of the SKU is sold to anybody new before a mark that was read has lapsed (see
// stock.Admin.Reopen). So the set of those who have an order does not grow while a mark
// stands, and one that was read whole under it is complete: who is not in it has no order,
// and can be refused from memory. A mark that was read while the last one stood continues
// it. The set is of fingerprints; one that two share sends both to the database.
type marks struct {
	mark     atomic.Pointer[mark]
	complete atomic.Int64             // the stretch for which keys is complete
	keys     atomic.Pointer[[]uint64] // ascending
	read     atomic.Int64             // keys are read up to here: nanoseconds, of the database's clock
	reading  atomic.Bool
	again    atomic.Int64 // after a read that failed: not before this, in nanoseconds of the database's clock
}

// mark says that the pool is not sold.
type mark struct {
	until   time.Time // of this machine; for comparing alone
	opensAt time.Time // of a sale that has not begun, by the database's clock; zero: sold out
	stretch int64     // one more with every mark that does not continue the one before
}

// seed of the fingerprints: of this process, so that nobody can choose two that collide.
var seed = maphash.MakeSeed()

// fingerprint stands for a placement.
func fingerprint(customerID, requestID string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(customerID) // never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(requestID)
	return h.Sum64()
}

// refuses gives the mark by which a placement can be refused from memory, nil for none.
func (m *marks) refuses(c *Claim) *mark {
	now := m.mark.Load()
	if now == nil || m.complete.Load() != now.stretch || !time.Now().Before(now.until) {
		return nil
	}
	if keys := m.keys.Load(); keys != nil { // else nobody has an order
		if _, has := slices.BinarySearch(*keys, fingerprint(c.CustomerID, c.RequestID)); has {
			return nil
		}
	}
	return now
}

// extend takes in that the pool is not sold for so long from asOf on, and reports that the
// keys have to be read for it. That was read after asOf and not later than now: a read that
// ended after the last mark may have missed a sale between the two.
func (m *marks) extend(asOf, now time.Time, closed time.Duration, opensAt time.Time) (incomplete bool) {
	until := asOf.Add(closed)
	for {
		last := m.mark.Load()
		next := &mark{until: until, opensAt: opensAt, stretch: 1}
		if last != nil {
			if !until.After(last.until) {
				return m.complete.Load() != last.stretch
			}
			if next.stretch = last.stretch; !now.Before(last.until) {
				next.stretch++
			}
		}
		if m.mark.CompareAndSwap(last, next) {
			return m.complete.Load() != next.stretch
		}
	}
}

// merge adds fingerprints, which it sorts.
func (m *marks) merge(more []uint64) {
	var all []uint64
	if keys := m.keys.Load(); keys != nil {
		all = slices.Clone(*keys)
	}
	all = append(all, more...)
	slices.Sort(all)
	all = slices.Clip(slices.Compact(all))
	m.keys.Store(&all)
}
