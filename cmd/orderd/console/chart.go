package console

import (
	"math"
	"slices"
	"strconv"
)

// chart is numbers side by side: bars one above the other, or lines. It is drawn as SVG, and its page
// has the same numbers as a table.
type chart struct {
	Label  string   // what it shows, for whoever does not see it
	Places []string // what stands below each place
	Series []series
	Unit   func(float64) string // how a number is written
	Lines  bool
}

// series is one number of each place. Word names it, in the language of the page; Class is its colour.
type series struct {
	Word, Class string
	Values      []float64
}

// zeros are the values of a series that counts.
func zeros(n int) []float64 { return make([]float64, n) }

// add counts n more at a place.
func (s *series) add(place int, n int64) { s.Values[place] += float64(n) }

// drawing is a chart as it is drawn, in units that are pixels at its usual width.
type drawing struct {
	Class         string
	Width, Height int
	Left, Right   float64 // of the lines across
	Grid          []gridLine
	Bars          []chartBar
	Lines         []chartLine
	Ticks         []chartTick
}

type gridLine struct {
	Y    float64
	Text string
}

type chartBar struct {
	X, Y, W, H   float64
	Class, Title string
}

type chartLine struct{ Points, Class string }

type chartTick struct {
	X    float64
	Text string
}

// The measures of drawings. A telephone has one of its own: the wide one's text would be a third as large.
const (
	chartHeight = 170
	chartTop    = 12
	chartBottom = 26 // below the lowest line, for text
	chartMargin = 46 // left of it, for numbers
	charWidth   = 8  // of a digit, and the gap beside it, at most
)

// Drawings are the chart for a screen and for a telephone; a stylesheet shows one of them.
func (c chart) Drawings() []drawing { return []drawing{c.draw("wide", 1000), c.draw("narrow", 340)} }

// draw draws the chart in a width.
func (c chart) draw(class string, width int) drawing {
	d := drawing{Class: class, Width: width, Height: chartHeight, Left: chartMargin, Right: float64(width)}
	top := c.top()
	y := func(v float64) float64 {
		return tenth(chartHeight - chartBottom - v/top*(chartHeight-chartBottom-chartTop))
	}
	for _, part := range []float64{0, .5, 1} {
		d.Grid = append(d.Grid, gridLine{y(part * top), c.Unit(part * top)})
	}
	step := (d.Right - d.Left) / float64(max(len(c.Places), 1))
	every := c.tickEvery(step)
	for i, text := range c.Places {
		if i%every == 0 {
			x := d.Left + (float64(i)+.5)*step
			if x <= d.Right-float64(len([]rune(text))*charWidth)/2 { // one at the end would be cut
				d.Ticks = append(d.Ticks, chartTick{tenth(x), text})
			}
		}
	}
	if c.Lines {
		for _, s := range c.Series {
			points := ""
			for i, v := range s.Values {
				points += coordinate(d.Left+(float64(i)+.5)*step) + "," + coordinate(y(v)) + " "
			}
			d.Lines = append(d.Lines, chartLine{points, s.Class})
		}
		return d
	}
	for i, text := range c.Places {
		below := 0.0
		for _, s := range c.Series {
			v := s.Values[i]
			if v <= 0 {
				continue
			}
			d.Bars = append(d.Bars, chartBar{X: tenth(d.Left + (float64(i)+.12)*step), W: tenth(step * .76),
				Y: y(below + v), H: tenth(y(below) - y(below+v)), Class: s.Class,
				Title: text + " · " + s.Word + " " + c.Unit(v)})
			below += v
		}
	}
	return d
}

// top is the number at the upper edge: 1, 2 or 4 with zeros, so that half of it is one that can be counted.
func (c chart) top() float64 {
	most := 0.0
	for i := range c.Places {
		sum := 0.0
		for _, s := range c.Series {
			if c.Lines {
				sum = max(sum, s.Values[i])
			} else {
				sum += max(s.Values[i], 0)
			}
		}
		most = max(most, sum)
	}
	if most <= 0 {
		return 2
	}
	for scale := math.Pow(10, math.Floor(math.Log10(most))); ; scale *= 10 {
		for _, n := range []float64{1, 2, 4} {
			if n*scale >= most && (n*scale >= 2 || most < 1) {
				return n * scale
			}
		}
	}
}

// tickEvery is how many places share one text below, so that texts do not meet.
func (c chart) tickEvery(step float64) int {
	longest := 1
	for _, text := range c.Places {
		longest = max(longest, len([]rune(text))+1)
	}
	for _, n := range []int{1, 2, 5, 10, 15, 20, 30} {
		if float64(n)*step >= float64(longest*charWidth) {
			return n
		}
	}
	return max(len(c.Places), 1)
}

// Empty reports that there is nothing to draw.
func (c chart) Empty() bool {
	return !slices.ContainsFunc(c.Series, func(s series) bool {
		return slices.ContainsFunc(s.Values, func(v float64) bool { return v != 0 })
	})
}

// countText writes a number of things.
func countText(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// tenth rounds a coordinate: more digits are bytes that nobody sees.
func tenth(v float64) float64 { return math.Round(v*10) / 10 }

func coordinate(v float64) string { return strconv.FormatFloat(tenth(v), 'f', -1, 64) }
