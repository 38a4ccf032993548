package console

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"orderd/order"
)

// lanes is the drawing of a timeline: a lane for everybody who did something, and for refunds and stock,
// with a mark for whatever happened.
type lanes struct {
	Class               string
	Width, Height, Left int
	Lanes               []lane
	Marks               []mark
	Ticks               []chartTick
}

type lane struct {
	Word string
	Y    int
}

// mark is something that happened, at its place; Class is the colour of the state it led to.
type mark struct {
	X           float64
	Y           int
	Class, Path string // Path is its shape: "" for a circle
	Title       string
}

// The drawing's measures, in its own units.
const (
	laneHeight = 34
	laneTop    = 20
	laneRight  = 20  // that a mark at the end is whole
	tickRoom   = 72  // of a time below
	laneStep   = .35 // between two marks of one moment, in powers of ten of milliseconds
)

// happening is a mark before it has its place.
type happening struct {
	at           time.Time
	lane         string // its word
	class, shape string
	title        string
}

// lanesOf draws a timeline for a screen and for a telephone.
func lanesOf(events []order.TimelineEvent, flows []order.OrderFlow, l lang) []lanes {
	all := happenings(events, flows, l)
	if len(all) == 0 {
		return nil
	}
	return []lanes{drawLanes(all, "wide", 1000, 110), drawLanes(all, "narrow", 340, 76)}
}

// happenings are the marks of a timeline, oldest first.
func happenings(events []order.TimelineEvent, flows []order.OrderFlow, l lang) (all []happening) {
	for i := range events {
		e := &events[i]
		h := happening{at: e.At, lane: l.actor(e.Actor.Type), class: looks["order."+string(e.To)].Class,
			title: l.event(e.Event) + " " + exactTime(e.At)}
		all = append(all, h)
		if strings.HasPrefix(e.Event, "refund.") {
			h.lane, h.shape, h.class = l.word("title.refunds"), "triangle", colourBack
			all = append(all, h)
		}
	}
	for i := range flows {
		f := &flows[i]
		h := happening{at: f.At, lane: l.word("nav.stock"), class: colourIdle, shape: "square",
			title: fmt.Sprintf("%s %s %+d %s", f.SkuID, l.word("flow."+string(f.Kind)), f.Delta, exactTime(f.At))}
		if f.Delta > 0 {
			h.class = colourGood
		}
		all = append(all, h)
	}
	slices.SortStableFunc(all, func(a, b happening) int { return a.at.Compare(b.at) })
	return all
}

// drawLanes places marks by time, on a scale of the logarithm of what lies between two of them: half an
// hour of waiting and the milliseconds of a close are both seen.
func drawLanes(all []happening, class string, width, left int) lanes {
	d := lanes{Class: class, Width: width, Left: left}
	rows := map[string]int{}
	for _, h := range all {
		if _, known := rows[h.lane]; !known {
			rows[h.lane] = laneTop + len(rows)*laneHeight
			d.Lanes = append(d.Lanes, lane{h.lane, rows[h.lane]})
		}
	}
	d.Height = len(rows)*laneHeight + laneTop
	places := placesOf(all)
	span := max(places[len(places)-1], laneStep)
	from := float64(left) + 10
	for i, h := range all {
		x := tenth(from + places[i]/span*(float64(width)-laneRight-from))
		m := mark{X: x, Y: rows[h.lane], Class: h.class, Title: h.title}
		switch h.shape {
		case "square":
			m.Path = fmt.Sprintf("M%v %dh12v12h-12z", x-6, m.Y-6)
		case "triangle":
			m.Path = fmt.Sprintf("M%v %dl7 13h-14z", x, m.Y-7)
		}
		d.Marks = append(d.Marks, m)
	}
	d.addTicks(all)
	return d
}

// placesOf gives how far from the first one each is. What happened in one moment stands in one place, unless
// it is in one lane.
func placesOf(all []happening) []float64 {
	places, here := make([]float64, len(all)), map[string]bool{all[0].lane: true}
	for i := 1; i < len(all); i++ {
		gap := all[i].at.Sub(all[i-1].at).Milliseconds()
		if gap == 0 && !here[all[i].lane] {
			places[i] = places[i-1]
			here[all[i].lane] = true
			continue
		}
		places[i] = places[i-1] + laneStep + math.Log10(1+float64(gap))
		here = map[string]bool{all[i].lane: true}
	}
	return places
}

// addTicks writes times below: the first and the last, and of those between what has room.
func (d *lanes) addTicks(all []happening) {
	last := len(all) - 1
	written := ""
	write := func(x float64, at time.Time) {
		text := clockTime(at)
		if text == written {
			text = at.Format(".000") // of the same second
		} else {
			written = text
		}
		d.Ticks = append(d.Ticks, chartTick{x, text})
	}
	write(d.Marks[0].X, all[0].at)
	end, until := d.Marks[last].X, d.Marks[0].X+tickRoom
	if end < until {
		return
	}
	for i := 1; i < last; i++ {
		if x := d.Marks[i].X; x >= until && x <= end-tickRoom {
			write(x, all[i].at)
			until = x + tickRoom
		}
	}
	write(min(end, float64(d.Width)-tickRoom/2), all[last].at)
}

// clockTime is a time of a day, and exactTime one of a year with milliseconds.
func clockTime(t time.Time) string { return t.In(beijing).Format("15:04:05") }
func exactTime(t time.Time) string { return t.In(beijing).Format("01-02 15:04:05.000") }
