package gate_test

import (
	"slices"
	"testing"
	"time"

	"orderd/stock/gate"
)

// second is what happens in one second.
type second struct {
	asked map[string]int64
	again int // batches that were run again
}

// A SKU that is found hot by chance gets a gate that nobody needs, and one that is not found keeps everybody waiting:
// two seconds in turn count, of a thousand units or twenty batches that lost against a neighbour.
func TestDetector(t *testing.T) {
	of := func(n int64) map[string]int64 { return map[string]int64{"x": n} }
	yes, no := true, false
	for name, c := range map[string]struct {
		seconds []second
		hot     []bool // after each
	}{
		"a thousand, twice":            {[]second{{of(1000), 0}, {of(1000), 0}}, []bool{no, yes}},
		"a little less":                {[]second{{of(999), 0}, {of(999), 0}, {of(999), 0}}, []bool{no, no, no}},
		"with a pause":                 {[]second{{of(5000), 0}, {of(10), 0}, {of(5000), 0}}, []bool{no, no, no}},
		"contention":                   {[]second{{of(40), 20}, {of(40), 20}}, []bool{no, yes}},
		"contention of buckets alone":  {[]second{{of(0), 20}, {of(0), 20}}, []bool{no, yes}},
		"a little contention":          {[]second{{of(40), 19}, {of(40), 19}, {of(40), 19}}, []bool{no, no, no}},
		"hot as long as it is":         {[]second{{of(2000), 0}, {of(2000), 0}, {of(2000), 0}}, []bool{no, yes, yes}},
		"a second of each is hot too":  {[]second{{of(1000), 0}, {of(1), 20}}, []bool{no, yes}},
		"run again is not asked again": {[]second{{of(900), 19}, {of(900), 19}}, []bool{no, no}},
	} {
		d := new(gate.Detector)
		now := time.Now()
		d.Second(now)
		for i, s := range c.seconds {
			d.Asked(s.asked)
			for range s.again {
				d.Again(map[string]int64{"x": 100})
			}
			now = now.Add(time.Second)
			hot, rates, over := d.Second(now)
			if !over || slices.Contains(hot, "x") != c.hot[i] || rates["x"] != s.asked["x"] {
				t.Errorf("%s, second %d: hot %v, %d a second, over %t", name, i, hot, rates["x"], over)
			}
		}
	}
}

// A second that is cut short would make three hundred units a thousand a second, and one that is long hide them.
func TestDetectorCountsBySeconds(t *testing.T) {
	d := new(gate.Detector)
	now := time.Now()
	d.Second(now)
	d.Asked(map[string]int64{"x": 3000})
	if _, _, over := d.Second(now.Add(999 * time.Millisecond)); over {
		t.Error("a second is over before it is")
	}
	if _, rates, over := d.Second(now.Add(3 * time.Second)); !over || rates["x"] != 1000 {
		t.Errorf("3,000 in three seconds: %d a second", rates["x"])
	}
}

// What is asked for once would be remembered for ever: anybody may name a SKU that does not exist.
func TestDetectorForgets(t *testing.T) {
	d := new(gate.Detector)
	now := time.Now()
	d.Second(now)
	for i := range 1000 {
		d.Asked(map[string]int64{string(rune('a' + i)): 1})
	}
	d.Second(now.Add(time.Second))
	d.Second(now.Add(2 * time.Second))
	if n := d.Remembered(); n != 0 {
		t.Errorf("%d SKUs that nobody asks for are remembered", n)
	}
}

// BenchmarkDemand is what every batch of placements pays for the detector, with one SKU and with a hundred.
func BenchmarkDemand(b *testing.B) {
	for name, n := range map[string]int{"1": 1, "100": 100} {
		b.Run(name, func(b *testing.B) {
			g := gate.New(gate.Config{})
			units := map[string]int64{}
			for i := range n {
				units[string(rune('a'+i))] = 1
			}
			b.ReportAllocs()
			for b.Loop() {
				g.Demand(units, false)
			}
		})
	}
}
