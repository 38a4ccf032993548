package console

import (
	"strings"
	"testing"
	"time"
)

// A chart that is out of its frame, or whose texts lie on each other, is worse than its table.
func TestChartsAreDrawnWithinTheirFrame(t *testing.T) {
	places := make([]string, 61)
	a, b := make([]float64, 61), make([]float64, 61)
	for i := range places {
		places[i], a[i], b[i] = "04:38", float64(i), float64(60-i)
	}
	c := chart{Places: places, Series: []series{{"a", colourInfo, a}, {"b", colourWarn, b}}, Unit: countText}
	for _, d := range c.Drawings() {
		if d.Grid[0].Text != "0" || d.Grid[2].Text != "100" { // 60 of both together
			t.Errorf("%+v", d.Grid)
		}
		heights := map[float64]float64{}
		for _, bar := range d.Bars {
			if bar.X < d.Left || bar.X+bar.W > d.Right || bar.Y < chartTop ||
				bar.Y+bar.H > chartHeight-chartBottom+.2 || bar.W <= 0 || bar.H <= 0 ||
				!strings.HasPrefix(bar.Title, "04:38 · ") {
				t.Errorf("%s: %+v", d.Class, bar)
			}
			heights[bar.X] += bar.H
		}
		for x, h := range heights {
			if h < 78 || h > 80.5 { // 60 of 100 of the height
				t.Errorf("at %v the bars are %v high", x, h)
			}
		}
		if len(d.Bars) != 120 { // none for nothing
			t.Errorf("%d bars", len(d.Bars))
		}
		for i := 1; i < len(d.Ticks); i++ {
			if d.Ticks[i].X-d.Ticks[i-1].X < 5*charWidth || d.Ticks[i].X+5*charWidth/2 > d.Right {
				t.Errorf("%s: texts meet: %+v", d.Class, d.Ticks)
			}
		}
	}
	c.Lines = true
	if d := c.draw("wide", 1000); len(d.Lines) != 2 || d.Grid[2].Text != "100" ||
		strings.Count(d.Lines[0].Points, ",") != 61 {
		t.Errorf("%+v", d)
	}
	if (chart{Places: places, Series: []series{{"a", colourInfo, make([]float64, 61)}}}).Empty() != true || c.Empty() {
		t.Error("empty is not what is empty")
	}
	for most, top := range map[float64]float64{0: 2, 1: 2, 2: 2, 3: 4, 9: 10, 10: 10, 11: 20, 51: 100, .03: .04} {
		one := chart{Places: []string{"x"}, Series: []series{{"a", colourInfo, []float64{most}}}}
		if got := one.top(); got < top*.999 || got > top*1.001 {
			t.Errorf("up to %v: %v, want %v", most, got, top)
		}
	}
}

// Who reads that it is quick acts on it: the quantile is that of what was measured, and nothing is not quick.
func TestLatencyIsThatOfItsHistogram(t *testing.T) {
	m := NewMetrics()
	if l := m.latencyOf(m.notify); l.Count != 0 || l.P99() != 0 {
		t.Errorf("of nothing: %+v", l)
	}
	for i := range 100 {
		m.Lateness(time.Duration(i) * time.Millisecond)
		m.Notified([]string{"payment", "refund"}[i%2], "applied", 3*time.Millisecond)
	}
	m.Lateness(2 * time.Hour)
	l := m.latencyOf(m.lateness)
	if l.Count != 101 || l.P50() < 45*time.Millisecond || l.P50() > 55*time.Millisecond ||
		l.P99() > 100*time.Millisecond || l.P99() < 90*time.Millisecond || l.Quantile(1) != 30*time.Minute {
		t.Errorf("%v %v %v of %d", l.P50(), l.P99(), l.Quantile(1), l.Count)
	}
	if l := m.latencyOf(m.notify); l.Count != 100 || l.P99() > 5*time.Millisecond || l.P99() < 4*time.Millisecond ||
		l.Buckets[0].Count != 100 {
		t.Errorf("of two labels: %+v", l)
	}
}
