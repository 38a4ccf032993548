package console

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"orderd/order"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/scheduler"
	"orderd/stock"
)

// other stands for a label value that is not one of the known ones. Labels are bounded
// here and not left to callers: an order number in a label would be a series per order.
const other = "other"

// Metrics counts what the parts of the service report: it is the Observer of order,
// scheduler and orderhttp, and WeChat is the gateway's. All methods are quick and safe
// for concurrent use. Names follow Prometheus' conventions: all begin with orderd_, _total is
// for what only grows, _seconds for durations, _timestamp_seconds for a moment as Unix time;
// base units and no milliseconds.
type Metrics struct {
	registry *prometheus.Registry

	// Orders and their money.
	transitions, refusals, settled, closes *prometheus.CounterVec
	stock, idempotency, broken             *prometheus.CounterVec
	late, alarms                           prometheus.Counter
	refundsSettled, refundsAsked           *prometheus.CounterVec
	// Of group commits: how full they are says whether the database or the callers are
	// the limit.
	batchSize, batchTook *prometheus.HistogramVec

	wakeUps, tasks           *prometheus.CounterVec
	redisLost, died, missing prometheus.Counter
	lateness                 prometheus.Histogram
	asks                     *prometheus.CounterVec
	askLateness              prometheus.Histogram

	// Histograms, whose _count is the number of calls.
	wechat, notify, requests *prometheus.HistogramVec
	notifications            *prometheus.CounterVec
	wrongTokens              *prometheus.CounterVec
	signatures, tries        *prometheus.CounterVec

	shipping *prometheus.CounterVec

	// Of gates.
	gateDecisions *prometheus.CounterVec
	gateFenced    prometheus.Counter
	gateRecalls   prometheus.Counter
	gateGranted   prometheus.Counter
	gateRefill    prometheus.Histogram
	gateEpochs    *prometheus.CounterVec
	gateDrift     prometheus.Gauge
	gateAway      prometheus.Gauge
	gateDrained   *prometheus.CounterVec
	gateWaited    prometheus.Histogram
}

// Upper bounds of histograms.
var (
	// latenessBuckets are seconds: the aim is one, an outage is half an hour.
	latenessBuckets = []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 1800}
	// waitSeconds are how long one may stand in the queue of a sale: an hour at most.
	waitSeconds = []float64{.1, .5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	// batchSizes are members, 1 to 256: the largest batch is 128.
	batchSizes = prometheus.ExponentialBuckets(1, 2, 9)
	// batchSeconds are 0.5 ms, a commit on a fast disk, to 4 s, past every time-out of a
	// request.
	batchSeconds = prometheus.ExponentialBuckets(.0005, 2, 14)
)

// NewMetrics makes the series of the service on a registry of their own, so that two
// services in one test do not meet on the global one. Names and labels are a contract
// with dashboards and alarms; docs/operations.md says what to do when one rises.
func NewMetrics() *Metrics {
	r := registry{prometheus.NewRegistry()}
	// go_… and process_…, which dashboards made for Go programs expect.
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := &Metrics{
		registry: r.Registry,

		transitions: r.counters("orderd_orders_transitions_total",
			"Orders that moved from one state to another; from is new for a placement.", "from", "to", "actor"),
		refusals: r.counters("orderd_orders_refused_total", "Placements that were refused.", "reason"),
		settled: r.counters("orderd_payments_settled_total",
			"Payments taken in, by what told of them and what became of them.", "source", "outcome"),
		closes: r.counters("orderd_close_verdicts_total", "What WeChat Pay's answers to a close proved.", "verdict"),
		stock: r.counters("orderd_stock_operations_total",
			"Operations on shelves; a deduction or return of an order counts once.", "op", "result"),
		idempotency: r.counters("orderd_idempotency_total", "Requests with an idempotency key.", "result"),
		broken: r.counters("orderd_invariant_violations_total",
			"Transactions that would have broken an invariant and were rolled back.", "invariant"),
		late: r.counter("orderd_late_payments_total",
			"Payments that came after their order was closed; they are owed back."),
		alarms: r.counter("orderd_alarms_total", "Things that must not happen; the log says which."),
		refundsSettled: r.counters("orderd_refunds_settled_total",
			"WeChat Pay's word on refunds, by where it came from and what became of it.", "source", "outcome"),
		refundsAsked: r.counters("orderd_refund_calls_total",
			"Calls to WeChat Pay about refunds, by outcome.", "op", "outcome"),
		batchSize: r.histograms("orderd_group_commit_members", "Members of one group commit.", batchSizes, "group"),
		batchTook: r.histograms("orderd_group_commit_seconds", "Duration of one group commit.", batchSeconds, "group"),

		wakeUps: r.counters("orderd_scheduler_wakeups_total",
			"Wake-ups handed to the queue: one for all orders of a second, one per refund.", "result"),
		tasks:     r.counters("orderd_scheduler_tasks_total", "Orders and refunds that had their turn.", "result"),
		redisLost: r.counter("orderd_scheduler_redis_lost_total", "Times that Redis came back without its data."),
		died:      r.counter("orderd_scheduler_tasks_died_total", "Tasks that gave up and wait for a person."),
		missing: r.counter("orderd_timeouts_missing_in_redis_total",
			"Orders whose task had not come and that the sweep took instead."),
		lateness: r.histogram("orderd_timeout_lateness_seconds",
			"How long after its due time an unpaid order was taken to closing.", latenessBuckets),

		asks: r.counters("orderd_trade_asks_total",
			"Times that WeChat Pay was asked whether an open trade is paid, by what it said.", "outcome"),
		askLateness: r.histogram("orderd_trade_ask_lateness_seconds",
			"How long after its time WeChat Pay was asked about an open trade.", latenessBuckets),

		wechat: r.histograms("orderd_wechat_request_seconds", "Calls to WeChat Pay.",
			prometheus.DefBuckets, "op", "outcome"),
		notify: r.histograms("orderd_notify_seconds",
			"Answers to WeChat Pay's notifications; WeChat waits five seconds.",
			prometheus.DefBuckets, "type", "outcome"),
		requests: r.histograms("orderd_http_request_seconds", "HTTP requests, by the pattern of the route.",
			prometheus.DefBuckets, "route", "method", "status_class"),
		wrongTokens: r.counters("orderd_wrong_tokens_total",
			"Tokens that are nobody's; held were answered 429.", "listener", "result"),
		notifications: r.counters("orderd_notify_total", "Payment notifications answered.", "outcome"),
		signatures: r.counters("orderd_wechat_signatures_total",
			"Signatures that were looked at, of WeChat Pay's answers and of callbacks.", "on", "result"),
		tries: r.counters("orderd_wechat_tries_total",
			"Requests to WeChat Pay by entry; a call makes a second one where the first was not answered.",
			"host", "result"),

		shipping: r.counters("orderd_shipping_reports_total",
			"Shipments reported to WeChat, by what it answered.", "outcome"),
	}
	r.gates(m)
	return m
}

// gates makes the series of flash sales.
func (r registry) gates(m *Metrics) {
	m.gateDecisions = r.counters("orderd_gate_decisions_total",
		"Lines of placements that met a gate, by what it said.", "mode", "code")
	m.gateFenced = r.counter("orderd_gate_fenced_total",
		"Buckets of this process that somebody else closed: a recall, or a change of the gate.")
	m.gateRecalls = r.counter("orderd_gate_recalls_total",
		"Buckets that batches of this process called back, because a pool was short.")
	m.gateGranted = r.counter("orderd_gate_granted_units_total",
		"Units that came from pools into the memory of this process.")
	m.gateRefill = r.histogram("orderd_gate_refill_seconds", "Duration of one such grant.", batchSeconds)
	m.gateEpochs = r.counters("orderd_gate_epochs_total",
		"Times that buckets in Redis were given up for new ones.", "cause")
	m.gateDrift = r.gauge("orderd_gate_drift_units", "Units that Redis has and the database has not, at the last look.")
	m.gateAway = r.gauge("orderd_gate_redis_away", "1 while this process sells gates in mode redis without Redis.")
	m.gateDrained = r.counters("orderd_gate_drained_total",
		"Placements taken from the queues of sales, by what became of them; later are tried again.", "outcome")
	m.gateWaited = r.histogram("orderd_gate_queue_wait_seconds", "How long those waited that ended.", waitSeconds)
}

// registry makes series and registers them. Two series of one name are a mistake of ours,
// and panic at the start.
type registry struct{ *prometheus.Registry }

// counter makes a counter without labels.
func (r registry) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

// counters makes a counter for each combination of labels, when it is first used: until
// then the series is absent, and not 0.
func (r registry) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.MustRegister(c)
	return c
}

// gauge makes a gauge without labels.
func (r registry) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.MustRegister(g)
	return g
}

// histogram makes a histogram without labels; buckets are upper bounds.
func (r registry) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.MustRegister(h)
	return h
}

// histograms makes a histogram for each combination of labels.
func (r registry) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	r.MustRegister(h)
	return h
}

// known keeps label values to a fixed set; what is not in it is counted as other.
func known(v string, allowed ...string) string {
	if slices.Contains(allowed, v) {
		return v
	}
	return other
}

// stateLabel gives a state of an order as a label, other for one that the machine does
// not have.
func stateLabel(s order.State) string {
	if slices.Contains(order.States(), s) {
		return string(s)
	}
	return other
}

// Transition implements order.Observer. A placement deducts stock and a close returns it
// in the same transaction as the order moves, so both are counted here as well.
func (m *Metrics) Transition(from, to order.State, by order.ActorType) {
	was := "new"
	if from != "" {
		was = stateLabel(from)
	}
	m.transitions.WithLabelValues(was, stateLabel(to),
		known(string(by), string(order.ActorCustomer), string(order.ActorScheduler),
			string(order.ActorWeChat), string(order.ActorOperator), string(order.ActorReconciler))).Inc()
	switch {
	case from == "":
		m.stock.WithLabelValues("deduct", "ok").Inc()
		m.idempotency.WithLabelValues("first").Inc()
	case to == order.StateClosed:
		m.stock.WithLabelValues("return", "ok").Inc()
	}
}

// Settled implements order.Observer. A payment that is owed back by an order that is late
// came after the close: that is what orderd_late_payments_total counts.
func (m *Metrics) Settled(source string, s order.Settlement) {
	m.settled.WithLabelValues(known(source, "notification", "query", "bill"),
		known(string(s.Settled), string(order.SettledApplied), string(order.SettledOwed), string(order.SettledHeld),
			string(order.SettledRepeated))).Inc()
	if s.Settled == order.SettledOwed && s.State == order.StateLate {
		m.late.Inc()
	}
}

// Refused implements order.Observer. stock and key count twice: as a refused placement,
// and as what became of the shelf or of the key.
func (m *Metrics) Refused(what string) {
	m.refusals.WithLabelValues(known(what, "stock", "price", "sku", "key", "open_orders", "open_units",
		"not_started", "customer_limit")).Inc()
	switch what {
	case "stock":
		m.stock.WithLabelValues("deduct", "short").Inc()
	case "key":
		m.idempotency.WithLabelValues("reused").Inc()
	}
}

// Replayed implements order.Observer: a repeat that was answered from the first request.
func (m *Metrics) Replayed() { m.idempotency.WithLabelValues("replayed").Inc() }

// Lateness implements order.Observer.
func (m *Metrics) Lateness(d time.Duration) { m.lateness.Observe(d.Seconds()) }

// CloseAsked implements order.Observer. unknown is a close without a usable answer: the
// order stays closing and is asked about again.
func (m *Metrics) CloseAsked(verdict string) {
	m.closes.WithLabelValues(known(verdict, "closed", "paid", "unknown")).Inc()
}

// RefundSettled implements order.Observer.
func (m *Metrics) RefundSettled(source string, s order.RefundSettled) {
	m.refundsSettled.WithLabelValues(known(source, "answer", "notification", "query", "bill"),
		known(string(s.Outcome), string(order.RefundOutcomeApplied), string(order.RefundOutcomeRepeated),
			string(order.RefundOutcomeHeld))).Inc()
}

// RefundAsked implements order.Observer. The outcome is WeChat Pay's status in lower
// case, or the kind of a payment.GatewayError.
func (m *Metrics) RefundAsked(op, outcome string) {
	m.refundsAsked.WithLabelValues(known(op, "refund", "refund_query", "abnormal_refund"),
		known(outcome, "processing", "success", "closed", "abnormal",
			"notfound", "unknown", "rate_limited", "user_paying", "rejected", "misconfigured")).Inc()
}

// Alarm implements order.Observer. What and where are in the log, not in labels.
func (m *Metrics) Alarm(string, string, string) { m.alarms.Inc() }

// Broken implements order.Observer.
func (m *Metrics) Broken(invariant string) {
	m.broken.WithLabelValues(known(invariant, order.Invariants()...)).Inc()
}

// Batch implements order.Observer. place is the group of placements, change that of
// everything that changes an order.
func (m *Metrics) Batch(name string, size int, took time.Duration) {
	name = known(name, "place", "change")
	m.batchSize.WithLabelValues(name).Observe(float64(size))
	m.batchTook.WithLabelValues(name).Observe(took.Seconds())
}

// Armed implements scheduler.Observer. Nothing is lost with dropped and failed: the sweep
// finds the order in the database.
func (m *Metrics) Armed(result string) {
	m.wakeUps.WithLabelValues(known(result, "set", "conflict", "dropped", "failed")).Inc()
}

// Fired implements scheduler.Observer. unknown is a WeChat Pay without a usable answer,
// throttled an order that waits for the rate of closes, poison one that fails by itself.
func (m *Metrics) Fired(result string) {
	m.tasks.WithLabelValues(known(result, "done", "not_due", "unknown", "throttled", "poison", "error")).Inc()
}

// Asked implements scheduler.Observer.
func (m *Metrics) Asked(outcome order.AskOutcome, late time.Duration) {
	label := other
	if slices.Contains(order.AskOutcomes(), outcome) {
		label = string(outcome)
	}
	m.asks.WithLabelValues(label).Inc()
	m.askLateness.Observe(late.Seconds())
}

// Swept implements scheduler.Observer.
func (m *Metrics) Swept(overdue int) { m.missing.Add(float64(overdue)) }

// Died implements scheduler.Observer.
func (m *Metrics) Died() { m.died.Inc() }

// RedisLost implements scheduler.Observer.
func (m *Metrics) RedisLost() { m.redisLost.Inc() }

// Request implements orderhttp.Observer. The route is a pattern by contract, none when no
// route matched; the status is a class (2xx), to keep the number of series small.
func (m *Metrics) Request(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

// Notified implements orderhttp.Observer. orderd_notify_total counts the same by outcome alone.
func (m *Metrics) Notified(kind, outcome string, took time.Duration) {
	outcome = known(outcome, "applied", "owed", "held", "repeated", "probe", "unsigned", "unknown_key", "v2_refund",
		"echo", "malformed", "too_large", "failed")
	m.notify.WithLabelValues(known(kind, "payment", "refund"), outcome).Observe(took.Seconds())
	m.notifications.WithLabelValues(outcome).Inc()
}

// WrongToken counts a token that is nobody's; held says that it was answered 429.
func (m *Metrics) WrongToken(listener string, held bool) {
	result := "refused"
	if held {
		result = "held"
	}
	m.wrongTokens.WithLabelValues(known(listener, "api", "admin"), result).Inc()
}

// WeChat counts a call to WeChat Pay; op and outcome are constants of package wechat.
func (m *Metrics) WeChat(op, outcome string, took time.Duration) {
	m.wechat.WithLabelValues(op, outcome).Observe(took.Seconds())
}

// Signature counts a signature that was looked at; on and result are constants of package
// wechat.
func (m *Metrics) Signature(on, result string) { m.signatures.WithLabelValues(on, result).Inc() }

// Tried counts a request to an entry of WeChat Pay: its address is the configuration's.
func (m *Metrics) Tried(host, result string) { m.tries.WithLabelValues(host, result).Inc() }

// Stock counts an operator's change of stock: op is replenish, adjust, gate, buckets or rebuild, err is
// what refused it. Package stock has no Observer, because nobody else changes shelves by hand.
func (m *Metrics) Stock(op string, err error) {
	result := "ok"
	if err != nil {
		result = "refused"
	}
	m.stock.WithLabelValues(known(op, "replenish", "adjust", "gate", "buckets", "rebuild"), result).Inc()
}

// Shipping implements shipping.Observer.
func (m *Metrics) Shipping(outcome string) {
	m.shipping.WithLabelValues(known(outcome, shipping.Outcomes()...)).Inc()
}

// GateDecision implements gate.Observer.
func (m *Metrics) GateDecision(mode, code string) {
	m.gateDecisions.WithLabelValues(known(mode, string(stock.GateLocal), string(stock.GateRedis)),
		known(code, "taken", "pool", "queued", "not_ready", "sold_out", "not_started")).Inc()
}

// GateFenced implements gate.Observer.
func (m *Metrics) GateFenced() { m.gateFenced.Inc() }

// GateRecalled implements gate.Observer.
func (m *Metrics) GateRecalled(buckets int) { m.gateRecalls.Add(float64(buckets)) }

// GateGranted implements gate.Observer.
func (m *Metrics) GateGranted(units int64, took time.Duration) {
	m.gateGranted.Add(float64(units))
	m.gateRefill.Observe(took.Seconds())
}

// GateEpoch implements redisgate.SharedObserver.
func (m *Metrics) GateEpoch(cause string) {
	m.gateEpochs.WithLabelValues(known(cause, "joined", "lost", "behind", "ahead", "drift", "fenced", "recalled",
		"taken")).Inc()
}

// GateDrift implements redisgate.SharedObserver.
func (m *Metrics) GateDrift(units int64) { m.gateDrift.Set(float64(units)) }

// GateAway implements redisgate.SharedObserver.
func (m *Metrics) GateAway(away bool) {
	value := 0.0
	if away {
		value = 1
	}
	m.gateAway.Set(value)
}

// Drained implements scheduler.Observer.
func (m *Metrics) Drained(outcome string, waited time.Duration) {
	m.gateDrained.WithLabelValues(known(outcome, "placed", "refused", "later")).Inc()
	if outcome != "later" {
		m.gateWaited.Observe(waited.Seconds())
	}
}

// maxScrapes is how many scrapes may be under way, more are answered 503: Prometheus has
// one, a pair of them two.
const maxScrapes = 4

// Handler serves GET /metrics in the text format of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// backlogs is where the gauges of open orders come from.
type backlogs interface {
	Backlog(ctx context.Context) (order.Backlog, error)
}

// sources are what the gauges are read from; tasks may be nil in a process without a
// queue.
type sources struct {
	orders     backlogs
	refunds    Refunds
	reconciler Reconciler
	shipments  Shipments // nil: there are none
	tasks      Tasks
	failures   *scheduler.DeadLetters
	gates      Gates
	queues     Queues // nil: nothing is known of them
	// closeRate is how many orders a second WeChat Pay is asked to close, 0 or
	// less without a limit.
	closeRate float64
}

// watch adds the gauges that need a query. It is called once, by New, because the sources
// exist later than the counters.
func (m *Metrics) watch(from sources, now func() time.Time) {
	m.registry.MustRegister(&gauges{sources: from, now: now})
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
	sources
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
		g.last = slices.Concat(g.backlog(), g.owed(), g.differences(), g.shipped(), g.depth(), g.failed(), g.sales(),
			g.waiting())
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

// backlog is the orders that are open, and how late they are. A queue that drains at
// closeRate takes waiting/closeRate seconds; a rate below 1 is taken for 1.
func (g *gauges) backlog() []prometheus.Metric {
	b, all, ok := ask("database", g.orders.Backlog)
	if !ok {
		return all
	}
	open := desc("orderd_orders_open", "Orders that are not at an end.", "status")
	for _, s := range []order.State{order.StatePending, order.StateClosing} {
		all = append(all, gauge(open, float64(b.Open[s]), string(s)))
	}
	oldest := 0.0
	if !b.Oldest.IsZero() {
		oldest = max(g.now().Sub(b.Oldest).Seconds(), 0)
	}
	return append(all,
		gauge(desc("orderd_timeouts_overdue", "Open orders past their due time."), float64(b.Overdue)),
		gauge(desc("orderd_closes_waiting", "Closing orders that wait for their turn at WeChat Pay."),
			float64(b.Waiting)),
		gauge(desc("orderd_closes_waiting_drain_seconds", "How long those take at the rate of closes."),
			float64(b.Waiting)/max(g.closeRate, 1)),
		gauge(desc("orderd_timeout_oldest_overdue_seconds", "How long the oldest overdue order has been due."), oldest))
}

// owed is the money that goes back, or waits for somebody, by state. A state without a
// refund is 0 and not absent.
func (g *gauges) owed() []prometheus.Metric {
	b, all, ok := ask("refunds", g.refunds.RefundBacklog)
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
		age := 0.0
		if at := b.Oldest[s]; !at.IsZero() {
			age = max(g.now().Sub(at).Seconds(), 0)
		}
		all = append(all, gauge(count, float64(b.Count[s]), string(s)), gauge(fen, float64(b.Amount[s]), string(s)),
			gauge(oldest, age, string(s)))
	}
	return all
}

// differences is what the reconciliations found and nobody has resolved. Fen are counted
// without signs, so that one too much and one too little do not make nothing.
func (g *gauges) differences() []prometheus.Metric {
	o, all, ok := ask("books", g.reconciler.Open)
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
	age := 0.0
	if !o.OldestPending.IsZero() {
		age = max(g.now().Sub(o.OldestPending).Seconds(), 0)
	}
	all = append(all, gauge(desc("orderd_recon_pending_amount_fen", "What those that wait are worth, without signs."),
		float64(o.PendingFen)),
		gauge(desc("orderd_recon_pending_oldest_seconds", "Age of the oldest that waits; 0 for none."), age))
	last := 0.0
	if !o.LastDoneAt.IsZero() {
		last = float64(min(o.LastDoneAt.Unix(), g.now().Unix())) // another machine's clock wrote it
	}
	return append(all, gauge(desc("orderd_recon_open_amount_fen", "What bills and books differ by, without signs."),
		float64(o.Fen)),
		gauge(desc("orderd_recon_last_success_timestamp_seconds",
			"When the newest day was reconciled that is, with WeChat Pay's own bill; 0 for none."), last))
}

// shipped is what a mini program's shop has to send, or to mend.
func (g *gauges) shipped() []prometheus.Metric {
	if g.shipments == nil {
		return nil
	}
	b, all, ok := ask("shipments", g.shipments.Backlog)
	if !ok {
		return all
	}
	oldest := 0.0
	if !b.OldestOwed.IsZero() {
		oldest = max(g.now().Sub(b.OldestOwed).Seconds(), 0)
	}
	open := desc("orderd_shipments_open", "Shipments that are owed, due at WeChat, or refused by it.", "state")
	return append(all, gauge(open, float64(b.Owed), string(shipping.StateOwed)),
		gauge(open, float64(b.Due), string(shipping.StateDue)),
		gauge(open, float64(b.Refused), string(shipping.StateRefused)),
		gauge(desc("orderd_shipment_oldest_owed_seconds", "Since when the oldest order is paid that nobody has sent."),
			oldest))
}

// depth is how many tasks the queue holds, by the states that asynq has: pending, active,
// scheduled, retry, archived.
func (g *gauges) depth() []prometheus.Metric {
	if g.tasks == nil {
		return nil
	}
	d, all, ok := ask("queue", func(context.Context) (scheduler.Depth, error) { return g.tasks.Depth() })
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
	type counts struct{ failing, dead int }
	n, all, ok := ask("failed_tasks", func(ctx context.Context) (counts, error) {
		failing, dead, err := g.failures.Count(ctx)
		return counts{failing, dead}, err
	})
	if !ok {
		return all
	}
	series := desc("orderd_failed_tasks", "Tasks that failed: failing are tried again, dead wait for a person.",
		"state")
	return append(all, gauge(series, float64(n.failing), scheduler.StateFailing),
		gauge(series, float64(n.dead), scheduler.StateDead))
}

// sales is the gates that are not off, by whose word they are there, and the units of all
// their open buckets: a label for each SKU would be a series for each.
func (g *gauges) sales() []prometheus.Metric {
	if g.gates == nil {
		return nil
	}
	gates, all, ok := ask("gates", g.gates.GateStocks)
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
	if g.queues == nil {
		return nil
	}
	depths, all, ok := ask("queues", g.queues.Depths)
	if !ok {
		return all
	}
	var n int64
	var oldest time.Duration
	for _, d := range depths {
		n, oldest = n+d.Waiting, max(oldest, d.Oldest)
	}
	return append(all,
		gauge(desc("orderd_gate_queue_depth", "Placements that wait in the queues of sales."), float64(n)),
		gauge(desc("orderd_gate_queue_age_seconds", "For how long the one has waited that came first; 0 for none."),
			oldest.Seconds()))
}
