package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order/ordertest/canary"
)

// Report is what a run says. Counters are of the whole run.
type Report struct {
	Options Options   `json:"options"`
	Commit  string    `json:"commit"` // of the working tree, "" outside of one
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	// Rate is orders placed a second in the warm phase; Placed is those of the whole run.
	Rate   float64 `json:"orders_per_second_without_faults"`
	Placed int     `json:"placed"`
	// The phases, by their length.
	Safety   time.Duration `json:"safety_ns"`   // how long there were faults
	Liveness time.Duration `json:"liveness_ns"` // after them, until everything had ended
	// What went wrong, and what the buyers made of it.
	Kills  map[string]int `json:"kills"`  // by victim
	Faults map[string]int `json:"faults"` // by action
	Buyers map[string]int `json:"buyers"` // what they did and met
	// Trials is what the faults that come alone have measured, by check. Late is by how
	// much the timeouts of orders came late at most without faults.
	Trials map[string]Trial `json:"trials"`
	Late   time.Duration    `json:"late_without_faults_ns"`
	// Cut is Options.Limit when it has ended the run before there was enough, else 0.
	Cut time.Duration `json:"cut_short_after_ns,omitempty"`
	// Happened is what the run had to meet, each with how often it had to. Alarms are
	// counted from the logs.
	Happened []Happened     `json:"happened"`
	Alarms   map[string]int `json:"alarms"`
	Healed   int            `json:"healed_by_the_bill"`
	// Invariants is how many checks verify made; 0 says that it did not come so far.
	Invariants int           `json:"invariants"`
	VerifyTook time.Duration `json:"verify_ns"`
	LogBytes   int64         `json:"log_bytes"`
	Sale       SaleReport    `json:"sale"`     // with a gate
	Exits      int           `json:"exits"`    // services that ended by themselves: a server was away at their start
	Complete   bool          `json:"complete"` // every step of the judge was done
	// Verdict is "0 violations" or the text of ErrViolation or ErrInvalid. Violations has
	// some of each kind, ByKind counts all of them.
	Verdict    string         `json:"verdict"`
	Violations []string       `json:"violations"`
	ByKind     map[string]int `json:"violations_by_kind"`
	Broken     int            `json:"violations_total"`
}

// Happened is something that must happen often enough for the run to count.
type Happened struct {
	What string `json:"what"`
	N    int    `json:"n"`
	Need int    `json:"need"`
}

// newReport begins now. It notes the commit and whether the tree has changes: a table
// without them could not be made again.
func newReport(o Options) *Report {
	r := &Report{Options: o, Began: time.Now(), ByKind: map[string]int{},
		Alarms: map[string]int{}, Kills: map[string]int{}, Faults: map[string]int{}}
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
		if exec.Command("git", "diff", "--quiet", "HEAD").Run() != nil {
			r.Commit += " with changes"
		}
	}
	return r
}

// maxOfKind is how many violations of a kind are written out; the counts are of all. One
// broken rule often has a row for each order, and must not hide the others.
const maxOfKind = 10

// violated takes down a broken promise. What stands before the first colon is the name of
// the check, by which docs/chaos.md and the table of mutants know it.
func (r *Report) violated(format string, args ...any) {
	v := fmt.Sprintf(format, args...)
	kind := kindOf(v)
	r.Broken++
	if r.ByKind[kind]++; r.ByKind[kind] <= maxOfKind {
		r.Violations = append(r.Violations, v)
	}
}

// maxKind is how long the name of a check is at most, in bytes: a longer text before a
// colon is a sentence.
const maxKind = 40

// kindOf names the check that a violation is of: what stands before its first colon, of
// verify the invariant, of a difference its kind too.
func kindOf(v string) string {
	name, rest, found := strings.Cut(v, ":")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.Contains(v, "answered 500"):
		return "answer 500"
	case strings.HasPrefix(name, "log of"):
		return "assertion in the log"
	case !found, len(name) >= maxKind:
		return "other"
	case strings.HasPrefix(name, "verify"), strings.HasPrefix(name, "after"):
		name, _, _ = strings.Cut(rest, ":")
	case strings.HasPrefix(rest, openDifference):
		name += " " + strings.Fields(rest[len(openDifference):])[0]
	}
	return name
}

// openDifference is followed by the kind of a difference and what it is about.
const openDifference = "an open difference: "

// CaughtBy names the checks that found something, in the order in which they did.
func (r *Report) CaughtBy() []string {
	var names []string
	for _, v := range r.Violations {
		name, _, _ := strings.Cut(kindOf(v), " ") // of a difference the check alone
		if kind := kindOf(v); !strings.HasPrefix(kind, "R1 ") {
			name = kind
		}
		if !slices.Contains(names, name) && name != "other" {
			names = append(names, name)
		}
	}
	return names
}

// verdict is nil when nothing was broken and enough happened. A violation counts whatever
// else is missing; a run without one that met too little proves nothing.
func (r *Report) verdict() error {
	short := r.short()
	switch {
	case r.Broken > 0 && r.Cut > 0: // what is missing is missing from the proof too
		return fmt.Errorf("%w: %d times; and %s", ErrViolation, r.Broken, strings.Join(short, "; "))
	case r.Broken > 0:
		return fmt.Errorf("%w: %d times", ErrViolation, r.Broken)
	case len(short) > 0:
		return fmt.Errorf("%w: %s", ErrInvalid, strings.Join(short, "; "))
	}
	return nil
}

// short says what was missing.
func (r *Report) short() (short []string) {
	if r.Cut > 0 {
		short = append(short, fmt.Sprintf("it was cut short by its limit of %s", r.Cut))
	}
	if !r.Complete || len(r.Happened) < len(needs) || r.Invariants == 0 {
		short = append(short, "it ended before everything was judged")
	}
	for _, h := range r.Happened {
		if h.N < h.Need {
			short = append(short, fmt.Sprintf("%s: %d of %d", h.What, h.N, h.Need))
		}
	}
	for _, h := range []Happened{{"orders", r.Placed, r.Options.Orders}, {"kills", sum(r.Kills), r.Options.Kills},
		{"other faults", sum(r.Faults), r.Options.Faults}} {
		if h.N < h.Need {
			short = append(short, fmt.Sprintf("%d of %d %s", h.N, h.Need, h.What))
		}
	}
	if r.Rate < r.Options.MinRate {
		short = append(short, fmt.Sprintf("%.0f orders/s without faults, of %.0f", r.Rate, r.Options.MinRate))
	}
	for _, t := range trials {
		if n := r.Trials[t.check].Times; n < r.Options.Trials {
			short = append(short, fmt.Sprintf("%d of %d trials of %s", n, r.Options.Trials, t.name))
		}
	}
	return short
}

// needsOf is the number of orders that needs are for, those of the nightly size; smaller
// runs need their share, and of everything at least one.
const needsOf = 100_000

// needs is what must happen in needsOf orders for a run to count, by a name of the
// report. Where there is a query the database tells; else it is a counter of the harness
// with the same name. A run that meets none of an interesting race is a quiet day and no
// proof.
var needs = []struct {
	what  string
	of    int
	query string // "" where the harness counts itself
}{
	// The race that the service was built against, by its possible ends.
	{"paid in the instant before the close", 500, ""},
	{"close refused while the buyer pays", 300, ""},
	{"close asked, answer: paid", 500, `SELECT COUNT(*)
FROM order_events
WHERE event = 'payment.applied'
  AND from_state = 'closing'
  AND cause_type = 'query'`},
	{"callback while closing", 500, `SELECT COUNT(*)
FROM order_events
WHERE event = 'payment.applied'
  AND from_state = 'closing'
  AND cause_type = 'notification'`},
	{"callback after the close, money sent back", 100, `SELECT COUNT(*)
FROM refunds r
JOIN payments p ON p.transaction_id = r.transaction_id AND p.source = 'notification'
WHERE r.reason = 'late'
  AND r.state = 'success'`},
	// What Redis forgot.
	{"sweep found what the queue had lost", 200, `SELECT COUNT(*)
FROM order_events
WHERE event = 'close.requested'
  AND (cause_type = 'sweep' OR cause_id LIKE 'sweep:%')`},
	// COMMITs without an answer, and closes.
	{"cut before commit", 100, ""},
	{"cut after commit", 100, ""},
	{"close answered, answer lost", 200, ""},
	// Callbacks that come too often or from somebody else.
	{"callback after it was acknowledged", 5000, ""},
	{"forged callback", 1000, ""},
	// Contention for one row.
	{"sold out", 1000, ""},
	{"cancel and timeout at once", 500, ""},
	{"task put off and delivered again", 200, ""},
	{"partial return refused", 200, ""},
	// One is enough: that a deadlock is retried is what has to be seen once.
	{"deadlock", 1, ""},
}

// count fills in how often everything happened; own is what proxies, meters, the
// simulator and the buyers have counted.
func (r *Report) count(ctx context.Context, s *stage, shop *shop, m *meters) error {
	r.Buyers = shop.counts
	own := map[string]int{"cut before commit": s.mysqlProxy.Hits(faultproxy.CutBefore),
		"cut after commit":                 s.mysqlProxy.Hits(faultproxy.CutAfter),
		"task put off and delivered again": m.again(), "deadlock": m.locked()}
	s.truth.mu.Lock()
	maps.Copy(own, s.truth.counts)
	s.truth.mu.Unlock()
	maps.Copy(own, shop.counts)
	for _, need := range needs {
		h := Happened{What: need.what, N: own[need.what], Need: max(1, need.of*r.Options.Orders/needsOf)}
		if need.query != "" {
			if err := s.db.QueryRowContext(ctx, need.query).Scan(&h.N); err != nil {
				return err
			}
		}
		r.Happened = append(r.Happened, h)
	}
	r.Happened = append(r.Happened, shop.sawReplica()...)
	if r.Options.gated() {
		r.Happened = append(r.Happened, r.Sale.happened(&r.Options, shop, m)...)
	}
	return nil
}

// Write writes the report for people, as Markdown: docs/runs has such files. A write that
// fails is not noticed; the JSON has the same.
func (r *Report) Write(w io.Writer) {
	o := r.Options
	fmt.Fprintf(w, "# Chaos run: %d orders, seed %d: **%s**\n\n", r.Placed, o.Seed, r.Verdict)
	fmt.Fprintf(w, "`go run ./cmd/orderload chaos --orders %d --kills %d --faults %d --trials %d --seed %d "+
		"--min-rate %.0f`",
		o.Orders, o.Kills, o.Faults, o.Trials, o.Seed, o.MinRate)
	if o.Mutant != "" {
		fmt.Fprintf(w, " `--mutant %s`", o.Mutant)
	}
	if o.Tags != "" {
		fmt.Fprintf(w, " `--tags %s`", o.Tags)
	}
	if o.gated() {
		fmt.Fprintf(w, " `--gate %s`", o.Gate)
		if o.SaleFaults > 0 {
			fmt.Fprintf(w, " `--sale-faults %d`", o.SaleFaults)
		}
	}
	if o.Replica > 0 {
		fmt.Fprintf(w, " `--replica %s`", o.Replica)
	}
	fmt.Fprintf(w, " at commit %s, %s UTC, %d cores, %s.\n\n",
		r.Commit, r.Began.UTC().Format("2006-01-02 15:04"), runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(w, "%d services, %d workers, MariaDB with full durability, Redis with its log on disk; %d buyers.\n",
		o.APIs, o.Workers, o.Buyers)
	fmt.Fprintf(w, "Without faults %.0f orders/s. Faults for %s; after healing everything found its end within %s. "+
		"%d invariants verified in %s, and again after a cold restart.\n",
		r.Rate, r.Safety.Round(time.Second), r.Liveness, r.Invariants, r.VerifyTook.Round(time.Millisecond))
	fmt.Fprintf(w, "The bill healed %d payments and ends of refunds that nobody had told of. "+
		"%d times a service gave up at its start because a server was away, and was started again. "+
		"%.1f MB of logs were searched for canary secrets, panics and broken assertions.\n\n",
		r.Healed, r.Exits, float64(r.LogBytes)/1e6)
	kills, faults := sum(r.Kills), sum(r.Faults)
	fmt.Fprintf(w, "%d kills with SIGKILL: %s.\n%d other faults: %s.\n\n", kills, list(r.Kills), faults, list(r.Faults))
	if o.gated() {
		fmt.Fprint(w, r.Sale.text(o.Gate))
	}
	r.writeTrials(w)
	fmt.Fprintf(w, "| happened | times | needed |\n|---|---:|---:|\n")
	for _, h := range r.Happened {
		mark := ""
		if h.N < h.Need {
			mark = " **short**"
		}
		fmt.Fprintf(w, "| %s | %d | %d%s |\n", h.What, h.N, h.Need, mark)
	}
	fmt.Fprintf(w, "\nBuyers: %s.\nAlarms: %s.\n", list(r.Buyers), list(r.Alarms))
	if r.Broken == 0 && kills > 0 && r.Placed > 0 {
		// The rule of three: of n tries without a failure, the rate is below 3/n with 95
		// %.
		fmt.Fprintf(w, "\nWhat zero means (rule of three, 95 %%): fewer than %.2f %% of kills and %.0f in a million "+
			"orders violate. It does not show power loss, the live WeChat Pay or several hosts.\n",
			300/float64(kills), 3e6/float64(r.Placed))
	}
	r.writeViolations(w)
}

// writeTrials writes what the faults that came alone have measured.
func (r *Report) writeTrials(w io.Writer) {
	if len(r.Trials) == 0 {
		return
	}
	fmt.Fprintf(w, "Alone, with a stopwatch (without faults timeouts came %s late at most):\n\n", r.Late)
	fmt.Fprintf(w, "| check | fault | times | measured | worst | at most |\n|---|---|---:|---|---:|---:|\n")
	for _, check := range slices.Sorted(maps.Keys(r.Trials)) {
		t := r.Trials[check]
		fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s |\n", t.Check, t.Name, t.Times, t.What,
			t.Worst.Round(10*time.Millisecond), t.Bound.Round(10*time.Millisecond))
	}
	fmt.Fprintln(w)
}

// writeViolations counts the broken promises by kind and quotes some of each.
func (r *Report) writeViolations(w io.Writer) {
	if r.Broken == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %d violations\n\n| check | times |\n|---|---:|\n", r.Broken)
	for _, kind := range slices.Sorted(maps.Keys(r.ByKind)) {
		fmt.Fprintf(w, "| %s | %d |\n", kind, r.ByKind[kind])
	}
	fmt.Fprintf(w, "\nUp to %d of each:\n\n", maxOfKind)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "- %s\n", strings.ReplaceAll(v, "\n", "\n  "))
	}
}

// sum adds up counters.
func sum(m map[string]int) (n int) {
	for _, c := range m {
		n += c
	}
	return n
}

// list writes counters in the order of their names.
func list(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

// meters adds up counters of processes and servers that die with their numbers: each is
// read often, and only what it grew by is added.
type meters struct {
	stage  *stage
	cancel context.CancelFunc
	done   chan struct{}

	mu sync.Mutex
	// last is each process's counters at the last look; total is of all of them, ended
	// ones too. lastDeadlocks is the same of the server.
	last          map[string]map[string]float64 // by process and series
	total         map[string]float64            // by series
	deadlocks     int
	lastDeadlocks int
}

// metersEvery is the time between two looks: what a process counted since the last one
// before its kill is lost, so that the report says too little and never too much.
const metersEvery = 500 * time.Millisecond

// newMeters looks every metersEvery, until stop.
func newMeters(s *stage) *meters {
	ctx, cancel := context.WithCancel(context.Background())
	m := &meters{stage: s, cancel: cancel, done: make(chan struct{}), last: map[string]map[string]float64{},
		total: map[string]float64{}}
	go func() {
		defer close(m.done)
		for sqldb.Sleep(ctx, metersEvery) {
			m.read(ctx)
		}
	}()
	return m
}

// stop ends the looking, and waits for it.
func (m *meters) stop() { m.cancel(); <-m.done }

// locked is the deadlocks so far.
func (m *meters) locked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deadlocks
}

// again is the tasks so far that were delivered again, those that died processes counted
// included.
func (m *meters) again() int {
	total := 0.0
	for series, n := range m.series("orderd_scheduler_tasks_total{") {
		if !strings.Contains(series, `result="done"`) && !strings.Contains(series, `result="poison"`) {
			total += n
		}
	}
	return int(total)
}

// series gives the counters so far whose names begin so, by name and labels.
func (m *meters) series(name string) map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]float64{}
	for series, n := range m.total {
		if strings.Contains(series, name) {
			found[series] = n
		}
	}
	return found
}

// sum adds up the counters of a name.
func (m *meters) sum(name string) (total float64) {
	for _, n := range m.series(name) {
		total += n
	}
	return total
}

// read takes the counters of all processes, and InnoDB's deadlocks. A counter that is smaller
// than at the last look began anew.
func (m *meters) read(ctx context.Context) {
	for _, p := range m.stage.processes() {
		now, ok := scrape(ctx, "http://"+p.admin+"/metrics", canary.AdminToken)
		if !ok {
			continue
		}
		m.mu.Lock()
		for series, n := range now {
			if last := m.last[p.name][series]; n >= last {
				m.total[series] += n - last
			} else { // it began anew
				m.total[series] += n
			}
		}
		m.last[p.name] = now
		m.mu.Unlock()
	}
	if n := m.stage.deadlocks(ctx); n >= 0 {
		m.mu.Lock()
		if n < m.lastDeadlocks { // it counts from its start
			m.lastDeadlocks = 0
		}
		m.deadlocks += n - m.lastDeadlocks
		m.lastDeadlocks = n
		m.mu.Unlock()
	}
}

// deadlocks is how many InnoDB has seen since it started (MariaDB's status
// Innodb_deadlocks), -1 when it is away.
func (s *stage) deadlocks(ctx context.Context) int {
	var name string
	var n int
	if err := s.db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").Scan(&name, &n); err != nil {
		return -1
	}
	return n
}

// scrapeTimeout is for one answer of /metrics: the process may be stopped.
const scrapeTimeout = time.Second

// scrape reads the counters of tasks and gates of a process, by name and labels. False when it
// did not answer.
func scrape(ctx context.Context, url, token string) (counters map[string]float64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := (&http.Client{Timeout: scrapeTimeout}).Do(req)
	if err != nil {
		return nil, false
	}
	defer res.Body.Close()
	counters = map[string]float64{}
	for scan := bufio.NewScanner(res.Body); scan.Scan(); {
		text := scan.Text()
		i := strings.LastIndexByte(text, ' ') // a label may have one
		series, value := text[:max(i, 0)], text[i+1:]
		if !strings.Contains(series, "orderd_scheduler_tasks_total{") && !strings.Contains(series, "gate_") {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			counters[series] = n
		}
	}
	return counters, res.StatusCode == http.StatusOK
}
