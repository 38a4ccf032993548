package console

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// timeoutRoutes is the page of timeouts.
func (c *console) timeoutRoutes() []route {
	return []route{{http.MethodGet, "/ui/timeouts", Viewer, c.timeoutsPage}}
}

// dueShown is how far ahead the page of timeouts looks, a minute at a time.
const dueShown = time.Hour

// unknownCount stands for a number that nobody can say.
const unknownCount = "–"

// timeoutsView is what the page of timeouts shows.
type timeoutsView struct {
	Backlog order.Backlog
	Due     chart
	Minutes []order.DueMinute // those that have orders, without what is overdue
	Total   int64             // of them
	Drain   time.Duration     // how long the closes that wait take at the rate of closes
	Rate    string            // of closes, in a second; "": no limit
	// Missing are due and have no wake-up in Redis, "–" where it cannot say.
	Missing  string
	Lateness latency
	// InTime of those whose time has come were taken within onTime, so large a part of them; Late were not.
	InTime, Late uint64
	Part         string
}

// onTime is how late an order may be taken to be in time, a bound of latenessBuckets: the aim.
const onTime = time.Second

// timeoutsPage is GET /ui/timeouts: whether orders that nobody pays are closed on time.
func (c *console) timeoutsPage(ctx echo.Context) error {
	rctx, l := ctx.Request().Context(), languageOf(ctx.Request())
	v := timeoutsView{Lateness: c.Metrics.latencyOf(c.Metrics.lateness), Missing: unknownCount}
	v.InTime = v.Lateness.Within(onTime)
	v.Late, v.Part = v.Lateness.Count-v.InTime, percentText(v.InTime, v.Lateness.Count)
	var err error
	if v.Backlog, err = c.Orders.Backlog(rctx); err != nil {
		return err
	}
	if c.CloseRate > 0 {
		v.Rate = countText(c.CloseRate)
		v.Drain = time.Duration(float64(v.Backlog.Waiting) / c.CloseRate * float64(time.Second)).Round(time.Second)
	}
	if v.Due, v.Minutes, err = c.dueChart(ctx, l); err != nil {
		return err
	}
	for _, m := range v.Minutes {
		v.Total += m.Pending + m.Closing
	}
	due, err := c.due(rctx, time.Minute, dueShown)
	if err != nil {
		return err
	}
	if due.Missing != nil {
		v.Missing = countText(float64(*due.Missing))
	}
	return c.show(ctx, "timeouts", v)
}

// dueChart draws how many orders are taken in each minute of the next hour.
func (c *console) dueChart(ctx echo.Context, l lang) (chart, []order.DueMinute, error) {
	all, err := c.Orders.DueByMinute(ctx.Request().Context(), dueShown)
	if err != nil {
		return chart{}, nil, err
	}
	first := c.Now().Truncate(time.Minute)
	n := int(dueShown/time.Minute) + 1
	pending := series{Word: l.look("order", order.StatePending).Word, Class: colourInfo, Values: make([]float64, n)}
	closing := series{Word: l.look("order", order.StateClosing).Word, Class: colourWarn, Values: make([]float64, n)}
	places := make([]string, n)
	for i := range places {
		places[i] = first.Add(time.Duration(i) * time.Minute).In(beijing).Format("15:04")
	}
	var minutes []order.DueMinute
	for _, m := range all {
		if m.From == nil {
			continue
		}
		if i := int(m.From.Sub(first) / time.Minute); i >= 0 && i < n {
			pending.Values[i], closing.Values[i] = float64(m.Pending), float64(m.Closing)
			minutes = append(minutes, m)
		}
	}
	drawn := chart{Label: l.word("due.chart"), Places: places, Series: []series{pending, closing}, Unit: countText}
	return drawn, minutes, nil
}
