package console

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// callbackRoutes is the page of callbacks.
func (c *console) callbackRoutes() []route {
	return []route{{http.MethodGet, "/ui/callbacks", Viewer, c.callbacksPage}}
}

// lastReceived is how many payments the page of callbacks looks back on.
const lastReceived = 50

// callbacksView is what the page of callbacks shows.
type callbacksView struct {
	// Of this process, since it began.
	All        latency
	Chart      chart
	Outcomes   []outcomeCount
	Signatures []outcomeCount
	Repeated   uint64
	Distrusted uint64 // signatures of callbacks that were not believed
	// Of all processes, by what is written.
	Received []receivedRow
	Told     int       // of Received, those that a callback told of
	Last     time.Time // when the last callback of those came; zero: none
	Held     order.HeldBacklog
}

// outcomeCount is how often something had an outcome, and how long it took.
type outcomeCount struct {
	Outcome string
	Count   uint64
	Took    latency
}

// receivedRow is a payment, and how long after it was made we knew; 0 where nobody can say.
type receivedRow struct {
	order.Received
	After time.Duration
}

// callbacksPage is GET /ui/callbacks: whether WeChat Pay reaches us.
func (c *console) callbacksPage(ctx echo.Context) error {
	rctx, l := ctx.Request().Context(), languageOf(ctx.Request())
	v := c.callbacksOf(l)
	received, err := c.Orders.LastReceived(rctx, lastReceived)
	if err != nil {
		return err
	}
	for _, r := range received {
		row := receivedRow{Received: r}
		if !r.PaidAt.IsZero() {
			row.After = max(r.ReceivedAt.Sub(r.PaidAt), 0)
		}
		v.Received = append(v.Received, row)
		if r.Source != "notification" {
			continue
		}
		if v.Told++; r.ReceivedAt.After(v.Last) {
			v.Last = r.ReceivedAt
		}
	}
	if v.Held, err = c.Orders.HeldBacklog(rctx); err != nil {
		return err
	}
	return c.show(ctx, "callbacks", v)
}

// callbacksOf reads what this process has counted of callbacks.
func (c *console) callbacksOf(l lang) callbacksView {
	all := c.Metrics.latencies(c.Metrics.notify, "outcome")
	v := callbacksView{All: c.Metrics.latencyOf(c.Metrics.notify), Repeated: all["repeated"].Count}
	for _, outcome := range slices.Sorted(maps.Keys(all)) {
		v.Outcomes = append(v.Outcomes, outcomeCount{outcome, all[outcome].Count, all[outcome]})
	}
	signatures := c.Metrics.signatures.counts("callback")
	for _, result := range slices.Sorted(maps.Keys(signatures)) {
		if n := signatures[result]; n > 0 {
			v.Signatures = append(v.Signatures, outcomeCount{Outcome: result, Count: n})
			if result != "ok" && result != "probe" {
				v.Distrusted += n
			}
		}
	}
	s := series{Word: l.word("cb.answers"), Class: colourInfo}
	for _, b := range v.All.Buckets {
		place := "> " + tookText(v.All.Buckets[max(len(v.All.Buckets)-2, 0)].Most)
		if b.Most > 0 {
			place = "≤ " + tookText(b.Most)
		}
		v.Chart.Places = append(v.Chart.Places, place)
		s.Values = append(s.Values, float64(b.Count))
	}
	v.Chart.Label, v.Chart.Series, v.Chart.Unit = l.word("cb.chart"), []series{s}, countText
	return v
}
