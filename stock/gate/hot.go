package gate

import (
	"sync"
	"time"
)

// When a SKU is hot, and when it is no more.
const (
	// hotRate is in units a second that one process is asked for, hotAgain in batches a second
	// that had to be run again: a neighbour had taken what they counted on, or held the row.
	hotRate, hotAgain = 1000, 20
	// hotSeconds in turn make a SKU hot.
	hotSeconds = 2
	// coolRate is in units a second; below it a process finds a SKU cool.
	coolRate = 100
	// coolAfter: an automatic gate that no process has found hot for so long ends.
	coolAfter = time.Minute
)

// detector counts what is asked for.
type detector struct {
	mu    sync.Mutex
	skus  map[string]*demand
	since time.Time // of this machine; a duration only
}

// demand is how much of a SKU was asked for.
type demand struct {
	units, again int64 // since the last count
	hot          int   // counts in turn that were above
}

// count adds what a batch asked for, or that it was run again.
func (d *detector) count(units map[string]int64, again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.skus == nil {
		d.skus = map[string]*demand{}
	}
	for id, n := range units {
		s := d.skus[id]
		if s == nil {
			s = new(demand)
			d.skus[id] = s
		}
		if again {
			s.again++
		} else {
			s.units += n
		}
	}
}

// second ends a second at now, or returns nothing before it is over: the SKUs that are hot, and the
// units a second of all that were asked for. What nobody asked for is forgotten.
func (d *detector) second(now time.Time) (hot []string, rates map[string]int64, over bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		d.since = now
	}
	took := now.Sub(d.since)
	if took < time.Second {
		return nil, nil, false
	}
	d.since = now
	rates = make(map[string]int64, len(d.skus))
	for id, s := range d.skus {
		if s.units == 0 && s.again == 0 {
			delete(d.skus, id)
			continue
		}
		rates[id] = perSecond(s.units, took)
		if rates[id] >= hotRate || perSecond(s.again, took) >= hotAgain {
			s.hot++
		} else {
			s.hot = 0
		}
		if s.hot >= hotSeconds {
			hot = append(hot, id)
		}
		s.units, s.again = 0, 0
	}
	return hot, rates, true
}

// perSecond is a rate, of a time that is a second or more.
func perSecond(n int64, took time.Duration) int64 { return n * 1000 / took.Milliseconds() }
