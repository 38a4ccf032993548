package console

import (
	"context"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// fen makes an amount of what package stock has as a number of fen.
func fen(n int64) payment.Fen { return payment.Fen(n) }

// need is something that waits for a person: how much of it, what it is worth and since when, and the
// page that has it. What has neither worth nor beginning has the zero of them.
type need struct {
	Word, Path string
	Count      int64
	Fen        payment.Fen
	Oldest     time.Time
	Bad        bool // money or orders stand still until somebody acts
}

// overview is what the first page shows.
type overview struct {
	Needs   []need
	Money   order.DayMoney
	Backlog order.Backlog
	Pending int64 // open orders that wait for money, and for WeChat Pay's answer to a close
	Closing int64
	Failing int // tasks that are tried again
	Orders  []order.Order
	Today   placedToday
	Placed  chart // what became of the orders of the last hour, by minute
	Minutes []placedRow
	Due     chart
	DueRows []order.DueMinute
	DueAll  int64 // come due within the hour
	// Lateness and Callbacks are of this process.
	Lateness   latency
	Callbacks  latency
	Repeated   uint64
	Distrusted uint64
}

// placedToday is what became of the orders of a day.
type placedToday struct {
	Placed, Paid int64 // Paid are also those that went back
	Closed       int64
	Timeout      int64 // of them; the rest was by an operator
	Cancelled    int64
	Whole        bool // these are all, and not only the newest order.PlacedLimit
}

// Percent is how many of a hundred were paid.
func (p placedToday) Percent() int64 {
	if p.Placed == 0 {
		return 0
	}
	return p.Paid * 100 / p.Placed
}

// placedRow is a minute of the chart of orders, by the groups that are drawn.
type placedRow struct {
	At     time.Time
	Groups []int64
}

// placedGroups are the states that are drawn as one, by what they mean for the shop.
var placedGroups = []struct {
	word, class string
	states      []order.State
}{
	{"today.won", colourGood, []order.State{order.StatePaid}},
	{"today.wait", colourInfo, []order.State{order.StatePending, order.StateClosing}},
	{"today.back", colourBack, []order.State{order.StateRefunding, order.StateRefunded, order.StateLate}},
	{"today.gone", colourIdle, []order.State{order.StateClosed}},
}

// placedShown is how far back the chart of orders goes.
const placedShown = time.Hour

// addPlaced adds what became of the orders of today and of the last hour, read once.
func (c *console) addPlaced(ctx context.Context, v *overview, day time.Time, l lang) error {
	first := c.Now().Truncate(time.Minute).Add(-placedShown)
	from := day
	if first.Before(from) {
		from = first
	}
	all, whole, err := c.Orders.PlacedByMinute(ctx, from)
	if err != nil {
		return err
	}
	n := int(placedShown/time.Minute) + 1
	v.Today.Whole = whole
	v.Placed = chart{Label: l.word("today.chart"), Unit: countText}
	for i := range n {
		v.Placed.Places = append(v.Placed.Places, first.Add(time.Duration(i)*time.Minute).In(beijing).Format("15:04"))
	}
	for _, g := range placedGroups {
		v.Placed.Series = append(v.Placed.Series, series{l.word(g.word), g.class, make([]float64, n)})
	}
	for i := range all {
		m := &all[i]
		if !m.From.Before(day) {
			v.Today.add(m)
		}
		at := int(m.From.Sub(first) / time.Minute)
		if at < 0 || at >= n {
			continue
		}
		row := placedRow{At: m.From}
		for j, g := range placedGroups {
			sum := int64(0)
			for _, s := range g.states {
				sum += m.States[s]
			}
			row.Groups = append(row.Groups, sum)
			v.Placed.Series[j].Values[at] = float64(sum)
		}
		v.Minutes = append(v.Minutes, row)
	}
	return nil
}

// add counts a minute.
func (p *placedToday) add(m *order.PlacedMinute) {
	for s, n := range m.States {
		p.Placed += n
		switch s {
		case order.StatePaid, order.StateRefunding, order.StateRefunded:
			p.Paid += n
		case order.StateClosed:
			p.Closed += n
		case order.StatePending, order.StateClosing, order.StateLate:
		}
	}
	p.Timeout += m.Closed[order.CloseReasonTimeout]
	p.Cancelled += m.Closed[order.CloseReasonCancel]
}

// page is GET /: what waits for a person, the money of today, the newest orders.
func (c *console) page(ctx echo.Context) error {
	rctx := ctx.Request().Context()
	v := overview{}
	var err error
	if v.Orders, _, err = c.Orders.List(rctx, order.Filter{Limit: defaultRows / 5}); err != nil {
		return err
	}
	if v.Backlog, err = c.Orders.Backlog(rctx); err != nil {
		return err
	}
	v.Pending, v.Closing = v.Backlog.Open[order.StatePending], v.Backlog.Open[order.StateClosing]
	day, err := time.ParseInLocation(time.DateOnly, reconcile.Day(c.Now()), beijing)
	if err != nil {
		return err
	}
	if v.Money, err = c.Orders.MoneyOf(rctx, day, day.AddDate(0, 0, 1)); err != nil {
		return err
	}
	l := languageOf(ctx.Request())
	if err := c.addPlaced(rctx, &v, day, l); err != nil {
		return err
	}
	if v.Due, v.DueRows, err = c.dueChart(ctx, l); err != nil {
		return err
	}
	for _, m := range v.DueRows {
		v.DueAll += m.Pending + m.Closing
	}
	calls := c.callbacksOf(l)
	v.Lateness, v.Callbacks = c.Metrics.latencyOf(c.Metrics.lateness), calls.All
	v.Repeated, v.Distrusted = calls.Repeated, calls.Distrusted
	role, _ := ctx.Get(roleKey).(Role)
	if v.Needs, err = c.moneyNeeds(rctx, role); err != nil {
		return err
	}
	failing, dead, err := c.Failures.Count(rctx)
	if err != nil {
		return err
	}
	v.Failing = failing
	if mayWork(role, "nav.tasks") {
		v.Needs = append(v.Needs, need{Word: "need.dead", Path: "/ui/tasks", Count: int64(dead), Bad: true})
	}
	v.Needs = append(v.Needs,
		need{Word: "need.overdue", Path: "/ui/orders?stuck=1", Count: v.Backlog.Overdue, Oldest: v.Backlog.Oldest,
			Bad: true})
	rest, err := c.outsideNeeds(rctx, role)
	if err != nil {
		return err
	}
	v.Needs = append(v.Needs, rest...)
	return c.show(ctx, "overview", v)
}

// moneyNeeds is the money that waits for a person: of differences with a bill only finance knows.
func (c *console) moneyNeeds(ctx context.Context, role Role) ([]need, error) {
	held, err := c.Orders.HeldBacklog(ctx)
	if err != nil {
		return nil, err
	}
	refunds, err := c.Refunds.RefundBacklog(ctx)
	if err != nil {
		return nil, err
	}
	stuck := need{Word: "need.stuck", Path: "/ui/refunds", Bad: true}
	for _, s := range []order.RefundState{order.RefundStateRefused, order.RefundStateAbnormal} {
		stuck.Count += refunds.Count[s]
		stuck.Fen += refunds.Amount[s]
		if at := refunds.Oldest[s]; !at.IsZero() && (stuck.Oldest.IsZero() || at.Before(stuck.Oldest)) {
			stuck.Oldest = at
		}
	}
	pending := order.RefundStatePending
	all := []need{
		{Word: "need.held", Path: "/ui/held", Count: held.Count, Fen: held.Amount, Oldest: held.Oldest, Bad: true},
		{Word: "need.approve", Path: "/ui/refunds", Count: refunds.Count[pending], Fen: refunds.Amount[pending],
			Oldest: refunds.Oldest[pending]},
		stuck}
	if !role.May(Finance) {
		return all, nil
	}
	open, err := c.Reconciler.Open(ctx)
	if err != nil {
		return nil, err
	}
	differences := need{Word: "need.differences", Path: uiDiffs, Fen: open.Fen, Oldest: open.OldestAt,
		Bad: true}
	for _, n := range open.Count {
		differences.Count += n
	}
	return append(all, differences), nil
}

// outsideNeeds is what the shop's own people and programs wait for: parcels and webhooks.
func (c *console) outsideNeeds(ctx context.Context, role Role) (all []need, err error) {
	if c.Webhooks != nil {
		b, err := c.Webhooks.Backlog(ctx)
		if err != nil {
			return nil, err
		}
		n := need{Word: "need.webhooks", Count: int64(b.Failing + b.Disabled), Bad: true}
		if b.Failing > 0 {
			n.Oldest = b.Oldest
		}
		if role.May(Admin) {
			n.Path = "/ui/webhooks"
		}
		all = append(all, n)
	}
	if c.Shipments != nil {
		b, err := c.Shipments.Backlog(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, need{Word: "need.ship", Path: "/ui/shipments", Count: b.Owed, Oldest: b.OldestOwed},
			need{Word: "need.shiprefused", Path: "/ui/shipments", Count: b.Refused, Bad: true})
	}
	return all, nil
}
