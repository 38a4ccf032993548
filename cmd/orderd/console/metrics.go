package console

import (
	"cmp"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"orderd/order"
	"orderd/payment/shipping"
	"orderd/payment/wechat"
	"orderd/stock"
)

// Metrics counts what the parts of the service report: it is the Observer of order,
// scheduler and orderhttp, and WeChat is the gateway's. All methods are quick and safe
// for concurrent use. Names follow Prometheus' conventions: all begin with orderd_, _total is
// for what only grows, _seconds for durations, _timestamp_seconds for a moment as Unix time;
// base units and no milliseconds.
type Metrics struct {
	registry *prometheus.Registry

	// Orders and their money.
	transitions, refusals, settled, closes *counters
	stock, idempotency, broken, alarms     *counters
	late                                   prometheus.Counter
	refundsSettled, refundsAsked           *counters
	// Of group commits: how full they are says whether the database or the callers are
	// the limit.
	batchSize, batchTook *prometheus.HistogramVec

	wakeUps, tasks, asks     *counters
	redisLost, died, missing prometheus.Counter
	lateness, askLateness    prometheus.Histogram

	// Histograms, whose _count is the number of calls.
	wechat, notify, requests               *prometheus.HistogramVec
	notifications, wrongTokens, signatures *counters
	tries                                  *prometheus.CounterVec
	shipping, webhooks, rings              *counters
	cut                                    prometheus.Counter

	// Of gates.
	gateDecisions, gateEpochs, gateDrained *counters
	gateFenced, gateRecalls, gateGranted   prometheus.Counter
	gateRefill, gateWaited                 prometheus.Histogram
	gateDrift, gateAway                    prometheus.Gauge
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
	m := &Metrics{registry: r.Registry}
	r.orders(m)
	r.refunds(m)
	r.timeouts(m)
	r.calls(m)
	r.gates(m)
	return m
}

// Built says which program this is: version and commit as `orderd version` has them. It is
// called once.
func (m *Metrics) Built(version, commit string) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "orderd_build_info",
		Help: "The program that runs; always 1."}, []string{"version", "commit", "goversion"})
	m.registry.MustRegister(g)
	g.WithLabelValues(version, commit, runtime.Version()).Set(1)
}

// orders makes the series of orders, their money and their stock.
func (r registry) orders(m *Metrics) {
	m.transitions = r.sparse("orderd_orders_transitions_total",
		"Orders that moved from one state to another; from is new for a placement.",
		among("from", append(texts(order.States()), stateNew)...), among("to", texts(order.States())...),
		among("actor", texts(actors)...))
	m.presetMoves()
	m.refusals = r.counters("orderd_orders_refused_total", "Placements that were refused.",
		among("reason", "stock", "price", "sku", "key", "reference", "open_orders", "open_units",
			"not_started", "customer_limit"))
	m.settled = r.counters("orderd_payments_settled_total",
		"Payments taken in, by what told of them and what became of them.",
		among("source", "notification", "query", "bill"),
		among("outcome", texts([]order.Settled{order.SettledApplied, order.SettledOwed, order.SettledHeld,
			order.SettledRepeated})...))
	m.late = r.counter("orderd_late_payments_total",
		"Payments that came after their order was closed; they are owed back.")
	m.closes = r.counters("orderd_close_verdicts_total", "What WeChat Pay's answers to a close proved.",
		among("verdict", "closed", "paid", "unknown"))
	m.stock = r.counters("orderd_stock_operations_total",
		"Operations on shelves; a deduction or return of an order counts once.",
		among("op", "deduct", "return", "replenish", "adjust", "gate", "buckets", "rebuild"),
		among("result", "ok", "short", "refused"))
	m.idempotency = r.counters("orderd_idempotency_total", "Requests with an idempotency key.",
		among("result", "first", "replayed", "reused"))
	m.broken = r.counters("orderd_invariant_violations_total",
		"Transactions that would have broken an invariant and were rolled back.",
		among("invariant", order.Invariants()...))
	m.alarms = r.counters("orderd_alarms_total", "Things that must not happen; the log says which.",
		among("kind", allAlarmKinds()...))
	m.batchSize = r.histograms("orderd_group_commit_members", "Members of one group commit.", batchSizes, "group")
	m.batchTook = r.histograms("orderd_group_commit_seconds", "Duration of one group commit.", batchSeconds, "group")
}

// refunds makes the series of refunds.
func (r registry) refunds(m *Metrics) {
	m.refundsSettled = r.counters("orderd_refunds_settled_total",
		"WeChat Pay's word on refunds, by where it came from and what became of it.",
		among("source", "answer", "notification", "query", "bill"),
		among("outcome", texts([]order.RefundOutcome{order.RefundOutcomeApplied, order.RefundOutcomeRepeated,
			order.RefundOutcomeHeld})...))
	m.refundsAsked = r.counters("orderd_refund_calls_total", "Calls to WeChat Pay about refunds, by outcome.",
		among("op", "refund", "refund_query", "abnormal_refund"),
		among("outcome", "processing", "success", "closed", "abnormal",
			"notfound", "unknown", "rate_limited", "user_paying", "rejected", "misconfigured"))
}

// timeouts makes the series of the scheduler.
func (r registry) timeouts(m *Metrics) {
	m.wakeUps = r.counters("orderd_scheduler_wakeups_total",
		"Wake-ups handed to the queue: one for all orders of a second, one per refund.",
		among("result", "set", "conflict", "dropped", "failed"))
	m.tasks = r.counters("orderd_scheduler_tasks_total", "Orders and refunds that had their turn.",
		among("result", "done", "not_due", "unknown", "throttled", "poison", "error"))
	m.redisLost = r.counter("orderd_scheduler_redis_lost_total", "Times that Redis came back without its data.")
	m.died = r.counter("orderd_scheduler_tasks_died_total", "Tasks that gave up and wait for a person.")
	m.missing = r.counter("orderd_timeouts_missing_in_redis_total",
		"Orders whose task had not come and that the sweep took instead.")
	m.lateness = r.histogram("orderd_timeout_lateness_seconds",
		"How long after its due time an unpaid order was taken to closing.", latenessBuckets)
	m.asks = r.counters("orderd_trade_asks_total",
		"Times that WeChat Pay was asked whether an open trade is paid, by what it said.",
		among("outcome", texts(order.AskOutcomes())...))
	m.askLateness = r.histogram("orderd_trade_ask_lateness_seconds",
		"How long after its time WeChat Pay was asked about an open trade.", latenessBuckets)
}

// calls makes the series of requests to us and of ours to WeChat Pay.
func (r registry) calls(m *Metrics) {
	m.wechat = r.histograms("orderd_wechat_request_seconds", "Calls to WeChat Pay.",
		prometheus.DefBuckets, "op", "outcome")
	m.notify = r.histograms("orderd_notify_seconds",
		"Answers to WeChat Pay's notifications; WeChat waits five seconds.",
		prometheus.DefBuckets, "type", "outcome")
	m.requests = r.histograms("orderd_http_request_seconds", "HTTP requests, by the pattern of the route.",
		prometheus.DefBuckets, "route", "method", "status_class")
	m.cut = r.counter("orderd_http_answers_cut_total",
		"Answers that ended in the middle for a reason of ours: their connection was ended too.")
	m.wrongTokens = r.counters("orderd_wrong_tokens_total",
		"Tokens that are nobody's, and wrong logins of the console; held were answered 429.",
		among("listener", "api", "admin", "login"), among("result", "refused", "held"))
	m.notifications = r.counters("orderd_notify_total", "Payment notifications answered.",
		among("outcome", "applied", "owed", "held", "repeated", "probe", "unsigned", "unknown_key", "v2_refund",
			"echo", "malformed", "too_large", "failed"))
	m.signatures = r.counters("orderd_wechat_signatures_total",
		"Signatures that were looked at, of WeChat Pay's answers and of callbacks.",
		among("on", "answer", "callback"), among("result", wechat.SignatureResults()...))
	m.tries = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orderd_wechat_tries_total",
		Help: "Requests to WeChat Pay by entry; a call makes a second one where the first was not answered.",
	}, []string{"host", "result"}) // the hosts are the configuration's
	r.MustRegister(m.tries)
	m.shipping = r.counters("orderd_shipping_reports_total", "Shipments reported to WeChat, by what it answered.",
		among("outcome", shipping.Outcomes()...))
	m.webhooks = r.counters("orderd_webhook_calls_total", "Events sent to webhooks, by what became of the call.",
		among("outcome", "delivered", "failed", "gone", "given_up"))
	m.rings = r.counters("orderd_webhook_rings_total",
		"Times that the process which makes deliveries was rung through Redis; what it does not hear it looks for.",
		among("result", "set", "conflict", "failed"))
}

// gates makes the series of flash sales.
func (r registry) gates(m *Metrics) {
	m.gateDecisions = r.counters("orderd_gate_decisions_total",
		"Lines of placements that met a gate, by what it said.",
		among("mode", string(stock.GateLocal), string(stock.GateRedis)),
		among("code", "taken", "pool", "queued", "not_ready", "sold_out", "not_started"))
	m.gateFenced = r.counter("orderd_gate_fenced_total",
		"Buckets of this process that somebody else closed: a recall, or a change of the gate.")
	m.gateRecalls = r.counter("orderd_gate_recalls_total",
		"Buckets that batches of this process called back, because a pool was short.")
	m.gateGranted = r.counter("orderd_gate_granted_units_total",
		"Units that came from pools into the memory of this process.")
	m.gateRefill = r.histogram("orderd_gate_refill_seconds", "Duration of one such grant.", batchSeconds)
	m.gateEpochs = r.counters("orderd_gate_epochs_total",
		"Times that buckets in Redis were given up for new ones.",
		among("cause", "joined", "lost", "behind", "ahead", "drift", "fenced", "recalled", "taken"))
	m.gateDrift = r.gauge("orderd_gate_drift_units",
		"Units that Redis has and the database has not, at the last look.")
	m.gateAway = r.gauge("orderd_gate_redis_away", "1 while this process sells gates in mode redis without Redis.")
	m.gateDrained = r.counters("orderd_gate_drained_total",
		"Placements taken from the queues of sales, by what became of them; later are tried again.",
		among("outcome", "placed", "refused", "later"))
	m.gateWaited = r.histogram("orderd_gate_queue_wait_seconds", "How long those waited that ended.", waitSeconds)
}

// stateNew is what an order that is placed comes from, as a label.
const stateNew = "new"

// actors are the kinds of those who move orders.
var actors = order.ActorTypes()

// presetMoves makes the series of the moves that the state machine has.
func (m *Metrics) presetMoves() {
	m.transitions.preset(stateNew, string(order.StatePending))
	for _, from := range order.States() {
		for _, e := range order.Events() {
			if cell := order.Next(from, e); cell.Verdict == order.VerdictMove {
				m.transitions.preset(string(from), string(cell.To))
			}
		}
	}
}

// texts gives values of a type of text as text.
func texts[T ~string](values []T) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}

// Transition implements order.Observer. A placement deducts stock and a close returns it
// in the same transaction as the order moves, so both are counted here as well.
func (m *Metrics) Transition(from, to order.State, by order.ActorType) {
	m.transitions.inc(cmp.Or(string(from), stateNew), string(to), string(by))
	switch {
	case from == "":
		m.stock.inc("deduct", "ok")
		m.idempotency.inc("first")
	case to == order.StateClosed:
		m.stock.inc("return", "ok")
	}
}

// Settled implements order.Observer. A payment that is owed back by an order that is late
// came after the close: that is what orderd_late_payments_total counts.
func (m *Metrics) Settled(source string, s order.Settlement) {
	m.settled.inc(source, string(s.Settled))
	if s.Settled == order.SettledOwed && s.State == order.StateLate {
		m.late.Inc()
	}
}

// Refused implements order.Observer. stock and key count twice: as a refused placement,
// and as what became of the shelf or of the key.
func (m *Metrics) Refused(what string) {
	m.refusals.inc(what)
	switch what {
	case "stock":
		m.stock.inc("deduct", "short")
	case "key":
		m.idempotency.inc("reused")
	}
}

// Replayed implements order.Observer: a repeat that was answered from the first request.
func (m *Metrics) Replayed() { m.idempotency.inc("replayed") }

// Lateness implements order.Observer.
func (m *Metrics) Lateness(d time.Duration) { m.lateness.Observe(d.Seconds()) }

// CloseAsked implements order.Observer. unknown is a close without a usable answer: the
// order stays closing and is asked about again.
func (m *Metrics) CloseAsked(verdict string) {
	m.closes.inc(verdict)
}

// RefundSettled implements order.Observer.
func (m *Metrics) RefundSettled(source string, s order.RefundSettled) {
	m.refundsSettled.inc(source, string(s.Outcome))
}

// RefundAsked implements order.Observer. The outcome is WeChat Pay's status in lower
// case, or the kind of a payment.GatewayError.
func (m *Metrics) RefundAsked(op, outcome string) {
	m.refundsAsked.inc(op, outcome)
}

// Alarm implements order.Observer. What and where are in the log, the label is its kind.
func (m *Metrics) Alarm(what, _, _ string) { m.alarms.inc(alarmKind(what)) }

// Broken implements order.Observer.
func (m *Metrics) Broken(invariant string) { m.broken.inc(invariant) }

// Batch implements order.Observer. place is the group of placements, change that of
// everything that changes an order.
func (m *Metrics) Batch(name string, size int, took time.Duration) {
	name = among("group", "place", "change").known(name)
	m.batchSize.WithLabelValues(name).Observe(float64(size))
	m.batchTook.WithLabelValues(name).Observe(took.Seconds())
}

// Armed implements scheduler.Observer. Nothing is lost with dropped and failed: the sweep
// finds the order in the database.
func (m *Metrics) Armed(result string) { m.wakeUps.inc(result) }

// Rung implements scheduler.Observer.
func (m *Metrics) Rung(result string) { m.rings.inc(result) }

// Fired implements scheduler.Observer. unknown is a WeChat Pay without a usable answer,
// throttled an order that waits for the rate of closes, poison one that fails by itself.
func (m *Metrics) Fired(result string) { m.tasks.inc(result) }

// Asked implements scheduler.Observer.
func (m *Metrics) Asked(outcome order.AskOutcome, late time.Duration) {
	m.asks.inc(string(outcome))
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

// Cut implements orderhttp.Observer.
func (m *Metrics) Cut() { m.cut.Inc() }

// Notified implements orderhttp.Observer. orderd_notify_total counts the same by outcome alone.
func (m *Metrics) Notified(kind, outcome string, took time.Duration) {
	outcome = m.notifications.labels[0].known(outcome)
	m.notify.WithLabelValues(among("type", "payment", "refund").known(kind), outcome).Observe(took.Seconds())
	m.notifications.inc(outcome)
}

// WrongToken counts a token that is nobody's; held says that it was answered 429.
func (m *Metrics) WrongToken(listener string, held bool) {
	result := "refused"
	if held {
		result = "held"
	}
	m.wrongTokens.inc(listener, result)
}

// WeChat counts a call to WeChat Pay; op and outcome are constants of package wechat.
func (m *Metrics) WeChat(op, outcome string, took time.Duration) {
	m.wechat.WithLabelValues(op, outcome).Observe(took.Seconds())
}

// Signature counts a signature that was looked at; on and result are constants of package
// wechat.
func (m *Metrics) Signature(on, result string) { m.signatures.inc(on, result) }

// Tried counts a request to an entry of WeChat Pay: its address is the configuration's.
func (m *Metrics) Tried(host, result string) { m.tries.WithLabelValues(host, result).Inc() }

// Stock counts an operator's change of stock: op is replenish, adjust, gate, buckets or rebuild, err is
// what refused it. Package stock has no Observer, because nobody else changes shelves by hand.
func (m *Metrics) Stock(op string, err error) {
	result := "ok"
	if err != nil {
		result = "refused"
	}
	m.stock.inc(op, result)
}

// Webhook implements webhooks.Observer.
func (m *Metrics) Webhook(outcome string) { m.webhooks.inc(outcome) }

// Shipping implements shipping.Observer.
func (m *Metrics) Shipping(outcome string) { m.shipping.inc(outcome) }

// GateDecision implements gate.Observer.
func (m *Metrics) GateDecision(mode, code string) { m.gateDecisions.inc(mode, code) }

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
func (m *Metrics) GateEpoch(cause string) { m.gateEpochs.inc(cause) }

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
	m.gateDrained.inc(outcome)
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
