package console

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/scheduler"
	"orderd/stock"
)

// Backlogs is where the gauges of orders come from; *order.Service implements it.
type Backlogs interface {
	Backlog(ctx context.Context) (order.Backlog, error)
	HeldBacklog(ctx context.Context) (order.HeldBacklog, error)
	RefundBacklog(ctx context.Context) (order.RefundBacklog, error)
}

// Differences is where the gauges of reconciliation come from; *reconcile.Reconciler
// implements it.
type Differences interface {
	Open(ctx context.Context) (reconcile.Open, error)
}

// Key is a key by which WeChat Pay signs and that ends: a certificate.
type Key struct {
	ID       string
	NotAfter time.Time
}

// Sources are what the gauges are read from. A nil one is left out: its series are absent.
type Sources struct {
	Orders      Backlogs
	Differences Differences
	Shipments   Shipments
	Webhooks    Webhooks
	Tasks       Tasks
	Failures    *scheduler.DeadLetters
	Gates       Gates
	Queues      Queues
	// Schema gives the newest migration that the database has, and the newest of this
	// program.
	Schema func(ctx context.Context) (has, knows int64, err error)
	Keys   []Key
	// Lag gives how far behind the replica is that lists are read from; ok is false without one.
	Lag func() (l sqldb.Lag, ok bool)
	// CloseRate is how many orders a second WeChat Pay is asked to close, 0 or less
	// without a limit.
	CloseRate float64
}

// Watch adds the gauges that need a query. It is called once, and after NewMetrics, because
// the sources exist later than the counters. Every process that watches shows the same
// numbers, of the one database: an alarm takes their max and not their sum.
func (m *Metrics) Watch(from Sources, now func() time.Time) {
	m.registry.MustRegister(&gauges{Sources: from, now: now})
}

// Bounds of the queries behind the gauges: a scrape must never hurt the database.
const (
	// gaugeTimeout bounds one source; Prometheus waits ten seconds for all of them.
	gaugeTimeout = time.Second
	// gaugeFor is how long the numbers are kept: one query in that time, however many
	// scrape. Prometheus usually comes every 15 seconds and so never sees old ones.
	gaugeFor = 5 * time.Second
)

// gauges reads its sources at most once in gaugeFor. A source that fails shows as
// orderd_metrics_source_up 0 and without its series: an old number would look like a good one.
type gauges struct {
	Sources
	// now is the clock of ages and of gaugeFor.
	now func() time.Time

	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

// desc describes a series that is made anew at each scrape.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe sends nothing, which makes this an unchecked collector: which
// series there are depends on which sources answer.
func (g *gauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. The lock is held while the sources are read:
// scrapes at the same time wait for one reading and share it. A clock that was set back
// reads anew.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if age := g.now().Sub(g.at); g.at.IsZero() || age < 0 || age >= gaugeFor {
		g.last = slices.Concat(g.backlog(), g.held(), g.owed(), g.differences(), g.shipped(), g.told(), g.depth(),
			g.failed(), g.sales(), g.waiting(), g.schema(), g.lag(), g.keys())
		g.at = g.now()
	}
	for _, m := range g.last {
		out <- m
	}
}

// gauge is a number of this scrape. It panics when labels do not fit d, which are both
// written here.
func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// up says whether a source answered, 1 or 0, in the series that alarms look at before
// they believe that a gauge is quiet.
func up(source string, err error) prometheus.Metric {
	v := 1.0
	if err != nil {
		v = 0
	}
	return gauge(desc("orderd_metrics_source_up", "Whether the source of the gauges answered.", "source"), v, source)
}

// ask reads a source within gaugeTimeout. It always gives the series that says whether
// the source answered.
func ask[T any](source string, read func(context.Context) (T, error)) (got T, all []prometheus.Metric, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), gaugeTimeout)
	defer cancel()
	got, err := read(ctx)
	return got, []prometheus.Metric{up(source, err)}, err == nil
}

// age is how long ago a moment was, in seconds: 0 for none, and for one in the future,
// which another machine's clock may have written.
func (g *gauges) age(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(g.now().Sub(at).Seconds(), 0)
}

// backlog is the orders that are open, and how late they are. A queue that drains at
// closeRate takes waiting/closeRate seconds; a rate below 1 is taken for 1.
func (g *gauges) backlog() []prometheus.Metric {
	if g.Orders == nil {
		return nil
	}
	b, all, ok := ask("database", g.Orders.Backlog)
	if !ok {
		return all
	}
	open := desc("orderd_orders_open", "Orders that are not at an end.", "status")
	for _, s := range []order.State{order.StatePending, order.StateClosing} {
		all = append(all, gauge(open, float64(b.Open[s]), string(s)))
	}
	return append(all,
		gauge(desc("orderd_timeouts_overdue", "Open orders past their due time."), float64(b.Overdue)),
		gauge(desc("orderd_closes_waiting", "Closing orders that wait for their turn at WeChat Pay."),
			float64(b.Waiting)),
		gauge(desc("orderd_closes_waiting_drain_seconds", "How long those take at the rate of closes."),
			float64(b.Waiting)/max(g.CloseRate, 1)),
		gauge(desc("orderd_timeout_oldest_overdue_seconds", "How long the oldest overdue order has been due."),
			g.age(b.Oldest)))
}

// held is the money that fits no order and waits for a person.
func (g *gauges) held() []prometheus.Metric {
	if g.Orders == nil {
		return nil
	}
	b, all, ok := ask("payments", g.Orders.HeldBacklog)
	if !ok {
		return all
	}
	return append(all,
		gauge(desc("orderd_payments_held", "Payments that fit no order and wait for a person."), float64(b.Count)),
		gauge(desc("orderd_payments_held_fen", "What those are worth."), float64(b.Amount)),
		gauge(desc("orderd_payments_held_oldest_seconds", "How long the oldest of them has waited; 0 for none."),
			g.age(b.Oldest)))
}

// owed is the money that goes back, or waits for somebody, by state. A state without a
// refund is 0 and not absent.
func (g *gauges) owed() []prometheus.Metric {
	if g.Orders == nil {
		return nil
	}
	b, all, ok := ask("refunds", g.Orders.RefundBacklog)
	if !ok {
		return all
	}
	count, fen := desc("orderd_refunds_open", "Refunds that are not at an end.", "state"),
		desc("orderd_refund_open_fen", "What open refunds are worth.", "state")
	oldest := desc("orderd_refund_oldest_seconds", "Age of the oldest open refund.", "state")
	for _, s := range order.RefundStates() {
		if !s.Open() && s != order.RefundStateHeld {
			continue
		}
		all = append(all, gauge(count, float64(b.Count[s]), string(s)), gauge(fen, float64(b.Amount[s]), string(s)),
			gauge(oldest, g.age(b.Oldest[s]), string(s)))
	}
	return all
}

// differences is what the reconciliations found and nobody has resolved. Fen are counted
// without signs, so that one too much and one too little do not make nothing.
func (g *gauges) differences() []prometheus.Metric {
	if g.Differences == nil {
		return nil
	}
	o, all, ok := ask("books", g.Differences.Open)
	if !ok {
		return all
	}
	open := desc("orderd_recon_open_differences", "Open differences between bills and books.", "type")
	for _, k := range reconcile.Kinds() {
		all = append(all, gauge(open, float64(o.Count[k]), string(k)))
	}
	pending := desc("orderd_recon_pending_differences", "Differences that wait for the bill of another day.", "type")
	for _, k := range reconcile.Kinds() {
		if slices.Contains(k.Actions(), reconcile.MarkPending) {
			all = append(all, gauge(pending, float64(o.Pending[k]), string(k)))
		}
	}
	all = append(all, gauge(desc("orderd_recon_pending_amount_fen", "What those that wait are worth, without signs."),
		float64(o.PendingFen)),
		gauge(desc("orderd_recon_pending_oldest_seconds", "Age of the oldest that waits; 0 for none."),
			g.age(o.OldestPending)))
	last := 0.0
	if !o.LastDoneAt.IsZero() {
		last = float64(min(o.LastDoneAt.Unix(), g.now().Unix())) // another machine's clock wrote it
	}
	return append(all, gauge(desc("orderd_recon_open_amount_fen", "What bills and books differ by, without signs."),
		float64(o.Fen)),
		gauge(desc("orderd_recon_open_oldest_seconds", "Age of the oldest open difference; 0 for none."),
			g.age(o.OldestAt)),
		gauge(desc("orderd_recon_last_success_timestamp_seconds",
			"When the newest day was reconciled that is, with WeChat Pay's own bill; 0 for none."), last))
}

// shipped is what a mini program's shop has to send, or to mend.
func (g *gauges) shipped() []prometheus.Metric {
	if g.Shipments == nil {
		return nil
	}
	b, all, ok := ask("shipments", g.Shipments.Backlog)
	if !ok {
		return all
	}
	open := desc("orderd_shipments_open", "Shipments that are owed, due at WeChat, or refused by it.", "state")
	return append(all, gauge(open, float64(b.Owed), string(shipping.StateOwed)),
		gauge(open, float64(b.Due), string(shipping.StateDue)),
		gauge(open, float64(b.Refused), string(shipping.StateRefused)),
		gauge(desc("orderd_shipment_oldest_owed_seconds", "Since when the oldest order is paid that nobody has sent."),
			g.age(b.OldestOwed)))
}

// told is what is on its way to the shop's webhooks.
func (g *gauges) told() []prometheus.Metric {
	if g.Webhooks == nil {
		return nil
	}
	b, all, ok := ask("webhooks", g.Webhooks.Backlog)
	if !ok {
		return all
	}
	ends := desc("orderd_webhooks", "Webhooks that take what they are sent, take nothing, or are disabled.", "state")
	return append(all, gauge(ends, float64(b.On-b.Failing), "on"), gauge(ends, float64(b.Failing), "failing"),
		gauge(ends, float64(b.Disabled), "disabled"),
		gauge(desc("orderd_webhook_waiting", "Events that wait for a webhook to take them."), float64(b.Waiting)),
		gauge(desc("orderd_webhook_oldest_waiting_seconds", "Age of the oldest of them; 0 for none."), g.age(b.Oldest)))
}

// depth is how many tasks the queue holds, by the states that asynq has: pending, active,
// scheduled, retry, archived.
func (g *gauges) depth() []prometheus.Metric {
	if g.Tasks == nil {
		return nil
	}
	d, all, ok := ask("queue", func(context.Context) (scheduler.Depth, error) { return g.Tasks.Depth() })
	if !ok {
		return all
	}
	series := desc("orderd_asynq_tasks", "Tasks in the queue, by state.", "queue", "state")
	for state, n := range d.States {
		all = append(all, gauge(series, float64(n), d.Queue, state))
	}
	return all
}

// failed is the tasks that failed and have not ended well since.
func (g *gauges) failed() []prometheus.Metric {
	if g.Failures == nil {
		return nil
	}
	type counts struct{ failing, dead int }
	n, all, ok := ask("failed_tasks", func(ctx context.Context) (counts, error) {
		failing, dead, err := g.Failures.Count(ctx)
		return counts{failing, dead}, err
	})
	if !ok {
		return all
	}
	series := desc("orderd_failed_tasks",
		"Tasks that failed: failing are tried again, dead wait for a person.", "state")
	return append(all, gauge(series, float64(n.failing), scheduler.StateFailing),
		gauge(series, float64(n.dead), scheduler.StateDead))
}

// sales is the gates that are not off, by whose word they are there, and the units of all
// their open buckets: a label for each SKU would be a series for each.
func (g *gauges) sales() []prometheus.Metric {
	if g.Gates == nil {
		return nil
	}
	gates, all, ok := ask("gates", g.Gates.GateStocks)
	if !ok {
		return all
	}
	count, units, soldOut, reopening, over := map[bool]int{}, int64(0), 0, 0, 0
	for i := range gates {
		s := &gates[i]
		count[s.Auto]++
		units += s.Allocated()
		if s.Ended {
			continue
		}
		if s.SoldOut() {
			soldOut++
		}
		if stock.Reopening(s.ClosedUntil) || s.SoldOut() && s.Available > 0 {
			reopening++
		}
		if !s.ClosesAt.IsZero() && g.now().After(s.ClosesAt) {
			over++
		}
	}
	open := desc("orderd_gates_open", "Gates of flash sales that are not off.", "origin")
	return append(all, gauge(open, float64(count[false]), "hand"), gauge(open, float64(count[true]), "auto"),
		gauge(desc("orderd_gates_sold_out", "Gates whose SKU is marked as sold out."), float64(soldOut)),
		gauge(desc("orderd_gates_reopening", "Gates of which something came back that is not sold again yet."),
			float64(reopening)),
		gauge(desc("orderd_gates_over", "Gates whose time is over and that nobody has ended."), float64(over)),
		gauge(desc("orderd_gate_left", "Units in the buckets of all gates, beside the pools."), float64(units)))
}

// waiting is what waits in the queues of all sales, and for how long: a label for each sale would
// be a series for each.
func (g *gauges) waiting() []prometheus.Metric {
	if g.Queues == nil {
		return nil
	}
	depths, all, ok := ask("queues", g.Queues.Depths)
	if !ok {
		return all
	}
	var n int64
	var oldest time.Duration
	for _, d := range depths {
		n, oldest = n+d.Waiting, max(oldest, d.Oldest)
	}
	return append(all, gauge(desc("orderd_gate_queue_depth", "Placements that wait in the queues of sales."),
		float64(n)),
		gauge(desc("orderd_gate_queue_age_seconds", "For how long the one has waited that came first; 0 for none."),
			oldest.Seconds()))
}

// schema is how old the schema of the database is. It is behind when somebody took a
// migration back under a program that runs.
func (g *gauges) schema() []prometheus.Metric {
	if g.Schema == nil {
		return nil
	}
	var knows int64
	has, all, ok := ask("schema", func(ctx context.Context) (has int64, err error) {
		has, knows, err = g.Schema(ctx)
		return has, err
	})
	if !ok {
		return all
	}
	return append(all, gauge(desc("orderd_schema_version", "The newest migration of the database."), float64(has)),
		gauge(desc("orderd_schema_behind", "By how many migrations the program is newer than the database."),
			float64(max(knows-has, 0))))
}

// lag is how far behind the replica of this process is, which every process measures by itself.
func (g *gauges) lag() []prometheus.Metric {
	if g.Lag == nil {
		return nil
	}
	l, ok := g.Lag()
	if !ok {
		return nil
	}
	reading := 0.0
	if l.Fresh {
		reading = 1
	}
	all := []prometheus.Metric{gauge(desc("orderd_replica_reading",
		"1 while lists are read from the replica of ORDERD_READ_DSN, 0 while the primary stands in."), reading)}
	if l.Known {
		all = append(all, gauge(desc("orderd_replica_lag_seconds",
			"Age of the newest moment of which the replica is known to have everything."), l.Age.Seconds()))
	}
	return all
}

// keys is when the certificates of WeChat Pay end. Its public keys never do and are not
// among them.
func (g *gauges) keys() (all []prometheus.Metric) {
	end := desc("orderd_wechat_key_expiry_timestamp_seconds", "When a certificate of WeChat Pay ends.", "key")
	for _, k := range g.Keys {
		all = append(all, gauge(end, float64(k.NotAfter.Unix()), k.ID))
	}
	return all
}
