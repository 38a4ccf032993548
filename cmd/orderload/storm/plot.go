package storm

import (
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plot is one diagram: lines over seconds since the first deadline.
type plot struct {
	// title and unit are texts of the diagram; unit is that of the y axis.
	title, unit string
	log         bool // the y axis is logarithmic
	lines       []line
}

// line is the points of one mode.
type line struct {
	name   string
	points []point
}

// Sizes of a diagram, in pixels unless said otherwise.
const (
	plotWidth, plotHeight = 860, 300 // of one diagram, with its margins
	plotLeft, plotRight   = 74, 20   // margins; the left one has the labels of the y axis
	plotTop, plotBottom   = 40, 46   // the upper one has title and legend
	legendAt, legendStep  = 24, 190  // above the axes, and from one entry to the next
	innerWidth            = plotWidth - plotLeft - plotRight
	innerHeight           = plotHeight - plotTop - plotBottom

	plotTicks         = 6    // at most about so many at an axis
	logFloor  float64 = 0.01 // seconds, where a logarithmic axis begins: less is not seen
)

// axis maps values from from to to on pixels.
type axis struct {
	from, to float64
	size     float64
	log      bool
}

// pixel is where a value is, from the axis' origin on. What is below the begin of a
// logarithmic axis stands at it.
func (a axis) pixel(v float64) float64 {
	if a.log {
		return a.size * (math.Log10(max(v, a.from)) - math.Log10(a.from)) / (math.Log10(a.to) - math.Log10(a.from))
	}
	return a.size * (v - a.from) / (a.to - a.from)
}

// ticks are the values that are written at the axis: round ones.
func (a axis) ticks() (all []float64) {
	if a.log {
		for v := a.from; v <= a.to*1.0001; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	step := roundStep((a.to - a.from) / plotTicks)
	for v := math.Ceil(a.from/step) * step; v <= a.to+step/1000; v += step {
		all = append(all, v)
	}
	return all
}

// roundStep is the next 1, 2 or 5 times a power of ten.
func roundStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*1.0001 {
			return m * power
		}
	}
	return 10 * power
}

// axes span all lines, from zero or from logFloor on; the upper end is a round number,
// and never 0, so that nothing is divided by it.
func (p plot) axes() (x, y axis) {
	x, y = axis{size: innerWidth}, axis{size: innerHeight, log: p.log}
	for _, l := range p.lines {
		for _, at := range l.points {
			x.to, y.to = max(x.to, at.At), max(y.to, at.Value)
		}
	}
	x.to = max(x.to, 1)
	if y.to = max(y.to, 1); p.log {
		y.from, y.to = logFloor, math.Pow(10, math.Ceil(math.Log10(y.to)))
		return x, y
	}
	step := roundStep(y.to / plotTicks)
	y.to = math.Ceil(y.to/step-0.0001) * step
	return x, y
}

// drawStorms draws lateness and backlog of some runs, one line each.
func drawStorms(all []*storm) string {
	late := plot{title: "lateness: 99th percentile by second of the deadline", unit: "s late", log: true}
	backlog := plot{title: "backlog: orders that are due and open", unit: "orders"}
	for _, st := range all {
		late.lines = append(late.lines, line{st.Mode, st.Outcome.Late})
		backlog.lines = append(backlog.lines, line{st.Mode, thin(st.Outcome.Backlog)})
	}
	return draw(late, backlog)
}

// thin leaves as many points as can be told apart: of those that fall on one pixel the
// highest, because peaks are what a reader looks for.
func thin(points []point) []point {
	step := len(points)/innerWidth + 1
	if step == 1 {
		return points
	}
	var kept []point
	for i := 0; i < len(points); i += step {
		top := points[i]
		for _, p := range points[i:min(i+step, len(points))] {
			if p.Value > top.Value {
				top = p
			}
		}
		kept = append(kept, top)
	}
	return append(kept, points[len(points)-1])
}

// The colours are told apart on white and on black, and by those who see no
// red; the lines differ in their dashes too.
const plotStyle = `<style>
svg { background: #fff; color: #222; font: 12px sans-serif }
.l0 { stroke: #0072b2 } .l1 { stroke: #d55e00; stroke-dasharray: 7 3 } .l2 { stroke: #009e73; stroke-dasharray: 2 3 }
.l3 { stroke: #cc79a7; stroke-dasharray: 9 3 2 3 }
.line { fill: none; stroke-width: 2 } .dot { stroke-width: 6; stroke-linecap: round }
.grid { stroke: #8884; stroke-width: 1 } .axis { stroke: currentColor; stroke-width: 1 } text { fill: currentColor }
@media (prefers-color-scheme: dark) {
svg { background: #111; color: #ddd } .l0 { stroke: #56b4e9 } .l1 { stroke: #e69f00 } .l2 { stroke: #2bd4a4 }
}
</style>
`

// draw puts diagrams one below the other into one SVG that needs nothing else: no font,
// no script, so that it shows in a README.
func draw(plots ...plot) string {
	var b strings.Builder
	height := plotHeight * len(plots)
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "+
		"role=\"img\">\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n%s", escape(plots[0].title), plotStyle)
	for i, p := range plots {
		fmt.Fprintf(&b, "<g transform=\"translate(%d %d)\">\n", plotLeft, i*plotHeight+plotTop)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// draw draws axes, grid, legend and lines; the origin is the corner of the axes, and y
// grows downward, as in all of SVG.
func (p plot) draw(b *strings.Builder) {
	x, y := p.axes()
	label := func(at, down float64, anchor, text string) {
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", at, down, anchor, escape(text))
	}
	stroke := func(class string, x1, y1, x2, y2 float64) {
		fmt.Fprintf(b, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1, x2, y2)
	}
	label(-plotLeft+8, -legendAt, "start", p.title)
	for _, v := range y.ticks() {
		down := innerHeight - y.pixel(v)
		stroke("grid", 0, down, innerWidth, down)
		label(-6, down+4, "end", number(v))
	}
	for _, v := range x.ticks() {
		stroke("axis", x.pixel(v), innerHeight, x.pixel(v), innerHeight+4)
		label(x.pixel(v), innerHeight+18, "middle", number(v))
	}
	stroke("axis", 0, innerHeight, innerWidth, innerHeight)
	stroke("axis", 0, 0, 0, innerHeight)
	label(innerWidth, innerHeight+36, "end", "seconds after the first deadline")
	label(-6, -8, "end", p.unit)
	for i, l := range p.lines {
		class := fmt.Sprintf("l%d", i%4)
		at := float64(innerWidth - (len(p.lines)-i)*legendStep + 10)
		stroke("line "+class, at, -legendAt-4, at+30, -legendAt-4)
		label(at+36, -legendAt, "start", l.name)
		p.path(b, class, l, x, y)
	}
}

// path draws one line; a single point is a dot.
func (p plot) path(b *strings.Builder, class string, l line, x, y axis) {
	if len(l.points) == 0 {
		return
	}
	if len(l.points) == 1 {
		class += " dot"
	}
	fmt.Fprintf(b, "<path class=\"line %s\" d=\"", class)
	for i, at := range l.points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(b, "%s%.1f %.1f", verb, x.pixel(at.At), innerHeight-y.pixel(at.Value))
	}
	if len(l.points) == 1 {
		b.WriteString("h0")
	}
	b.WriteString("\"/>\n")
}

// number writes a tick shortly.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// escape makes text safe inside of XML.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
