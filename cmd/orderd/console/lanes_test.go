package console

import (
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/stock"
)

// Half an hour of waiting and the milliseconds of a close are one picture: a scale of time alone makes one dot of the
// second, and one of places alone hides the first.
func TestLanesShowMinutesAndMilliseconds(t *testing.T) {
	begin := time.Date(2026, 11, 29, 4, 6, 26, 863e6, beijing)
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	event := func(d time.Duration, who order.ActorType, what string, to order.State) order.TimelineEvent {
		return order.TimelineEvent{At: at(d), Event: what, To: to, Actor: order.Actor{Type: who}}
	}
	events := []order.TimelineEvent{event(0, order.ActorCustomer, "order.placed", order.StatePending),
		event(30*time.Minute, order.ActorScheduler, "close.requested", order.StateClosing),
		event(30*time.Minute+38*time.Millisecond, order.ActorWeChat, "close.accepted", order.StateClosed),
		event(31*time.Minute, order.ActorWeChat, "payment.late", order.StateLate),
		event(31*time.Minute, order.ActorScheduler, "refund.requested", order.StateLate)}
	closedAt := 30*time.Minute + 38*time.Millisecond
	flows := []order.OrderFlow{{SkuID: "mug", Flow: order.Flow{Kind: stock.KindDeduct, Delta: -1, At: at(0)}},
		{SkuID: "mug", Flow: order.Flow{Kind: stock.KindReturn, Delta: 1, At: at(closedAt)}}}
	for _, d := range lanesOf(events, flows, zh) {
		if len(d.Lanes) != 5 || len(d.Marks) != 8 {
			t.Fatalf("%s: %+v", d.Class, d)
		}
		x := map[string][]float64{}
		for _, m := range d.Marks {
			if m.X < float64(d.Left) || m.X > float64(d.Width)-laneRight/2 || m.Y > d.Height-laneTop {
				t.Errorf("%s: out of the frame: %+v", d.Class, m)
			}
			word, _, _ := strings.Cut(m.Title, " ")
			x[word] = append(x[word], m.X)
		}
		placed, asked, closed, late := x["下单"][0], x["请微信支付关单"][0], x["关单成功"][0], x["关单后付款"][0]
		if !(placed < asked && asked < closed && closed < late) ||
			closed-asked < (asked-placed)/5 || asked-placed < 2*(closed-asked) {
			t.Errorf("%s: at %v, %v, %v, %v", d.Class, placed, asked, closed, late)
		}
		if mug := x["mug"]; mug[0] != placed || mug[1] != closed || x["应退款项"][0] != late || x["应退款项"][1] != late {
			t.Errorf("%s: what happened in one moment stands apart: %v", d.Class, x)
		}
		for i := 1; i < len(d.Ticks); i++ {
			if d.Ticks[i].X-d.Ticks[i-1].X < tickRoom/2 || d.Ticks[i].X+tickRoom/2 > float64(d.Width) {
				t.Errorf("%s: times meet, or are cut: %+v", d.Class, d.Ticks)
			}
		}
		if d.Ticks[0].Text != "04:06:26" || d.Ticks[len(d.Ticks)-1].Text != "04:37:26" {
			t.Errorf("%s: %+v", d.Class, d.Ticks)
		}
	}
	if lanesOf(nil, nil, zh) != nil {
		t.Error("a drawing of nothing")
	}
	if one := lanesOf(events[:1], nil, en); len(one[0].Marks) != 1 || len(one[0].Ticks) != 1 {
		t.Errorf("of one event: %+v", one)
	}
}

// Two things that one person did in one millisecond are two marks.
func TestLanesHideNoMark(t *testing.T) {
	now := time.Now()
	events := make([]order.TimelineEvent, 6)
	for i := range events {
		events[i] = order.TimelineEvent{At: now, Event: "x", Actor: order.Actor{Type: order.ActorWeChat}}
	}
	marks := lanesOf(events, nil, zh)[0].Marks
	for i := 1; i < len(marks); i++ {
		if marks[i].X-marks[i-1].X < 14 {
			t.Errorf("%+v lies on %+v", marks[i], marks[i-1])
		}
	}
}
