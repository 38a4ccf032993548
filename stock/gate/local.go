package gate

import (
	"sync"
	"time"
)

// holding is what this process has of one SKU: a bucket, of which left units are in its memory.
// They and the tickets that are not committed are never more than the bucket's row holds.
type holding struct {
	mu       sync.Mutex
	bucket   int64 // 0: none
	seq      int64 // of its last move
	left     int64
	granted  int64     // units of the last grant, to tell what is low
	emptied  bool      // somebody was sent to the pool since the last grant
	asked    time.Time // somebody last asked, of this machine; a duration only
	taken    int64     // units since the last count
	lastRate int64     // units a second at the last count
	demand   int64     // the same, with those who were refused from memory
}

// lowWater is the part of a grant below which the next one is asked for: it is on its way
// while the rest is sold.
const lowWater = 2

// take takes units and gives their bucket, 0 when there are not so many. low says that the
// keeper is to ask for more.
func (h *holding) take(units int64) (bucket int64, low bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = time.Now()
	h.taken += units
	if h.bucket == 0 || h.left < units {
		low = !h.emptied
		h.emptied = true
		return 0, low
	}
	before := h.left >= h.granted/lowWater
	h.left -= units
	return h.bucket, before && h.left < h.granted/lowWater
}

// putBack gives units of a ticket back that were not used; of a bucket that is gone they are
// the pool's.
func (h *holding) putBack(bucket, units int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bucket == bucket {
		h.left += units
		h.taken -= units
	}
}

// drop forgets a bucket, and reports that it was held.
func (h *holding) drop(bucket int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if bucket == 0 || h.bucket != bucket {
		return false
	}
	h.bucket, h.seq, h.left, h.granted = 0, 0, 0, 0
	return true
}

// raise takes a grant in, the first of a bucket or one more, unless the bucket was dropped while
// it was under way.
func (h *holding) raise(bucket, seq, units int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq > 1 && h.bucket != bucket {
		return false
	}
	h.bucket, h.seq = bucket, seq
	h.left += units
	h.granted, h.emptied = h.left, false
	return true
}

// Bounds of what a process asks for.
const (
	// leastWant is in units.
	leastWant = 16
	// idleAfter: a bucket that nobody has asked for so long goes back to the pool.
	idleAfter = 10 * time.Second
	// interest: a process of which nobody has asked for so long asks for nothing.
	interest = 2 * time.Second
)

// wants gives the bucket that is to be filled and the units that it is to get: the sales of a
// second. 0 units: nothing is needed.
func (h *holding) wants() (bucket, seq, units int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	enough := h.bucket != 0 && h.left >= h.granted/lowWater && !h.emptied
	if enough || h.asked.IsZero() || time.Since(h.asked) > interest {
		return h.bucket, h.seq, 0
	}
	want := max(h.lastRate, h.taken, leastWant)
	if h.emptied { // it was too little
		want = max(want, 2*h.granted)
	}
	return h.bucket, h.seq, want - h.left
}

// idle gives the bucket when nobody has asked for it for a while, else 0.
func (h *holding) idle() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bucket != 0 && time.Since(h.asked) > idleAfter {
		return h.bucket
	}
	return 0
}

// id gives the bucket, 0 for none.
func (h *holding) id() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bucket
}

// count begins a new second, so long after the last one, in which so many units were refused
// without asking for them here.
func (h *holding) count(took time.Duration, refused int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastRate, h.demand, h.taken = perSecond(h.taken, took), perSecond(h.taken+refused, took), 0
	if h.bucket == 0 {
		h.emptied = false // it may ask again
	}
}

// rate gives the units a second that were asked for at the last count, also of those who were
// refused.
func (h *holding) rate() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.demand
}
