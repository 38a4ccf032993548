package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Options shape a run. The report holds them, so that it can be run again; a zero field
// takes its default where it has one.
type Options struct {
	// Orders is how many must be placed; Kills and Faults how often the nemesis must
	// strike, by SIGKILL (of services, workers, MariaDB, Redis) and in any other way.
	Orders int
	Kills  int
	Faults int
	// Trials is how often each of the faults comes that are alone and measured.
	Trials int
	// Limit ends the faults even if something is missing, which makes the run invalid;
	// default an hour.
	Limit time.Duration
	// Seed is of every choice, default drawn; what the machine makes of it differs all
	// the same: a red seed is run again to see the same faults, not the same instant.
	Seed uint64
	// Buyers is how many act at once; default 128.
	Buyers uint64
	// APIs and Workers are processes of the service; defaults 3 and 2, so that a kill
	// leaves others that go on, and several workers meet at the same orders.
	APIs    int
	Workers int
	// MinRate is orders a second without faults, below which the run is invalid.
	MinRate float64
	// Dir is for everything that the run leaves behind, default a temporary folder; Keep
	// keeps it when all is well.
	Dir  string
	Keep bool
	// Tags are of the build of the services, such as failpoints.
	Tags string
	// Mutant breaks the service on purpose, by the name of one of Mutants.
	Mutant string
	// Gate is the mode of a flash sale of the hot SKUs, one of gateModes; off or "" for none.
	Gate string
	// Rate is how many orders a second each sale of mode redis makes: what is asked above that waits in
	// a queue. 0: no queue.
	Rate int64
	// SaleFaults is how many of the faults of the gate come, drawn by the seed; default all.
	SaleFaults int
	// Replica is how far a replica is behind from which what is only shown is read, by people who
	// read all the time; 0: there is none.
	Replica time.Duration
	// Warm is the time without faults at first, in which Report.Rate is measured; default
	// 10 s.
	Warm time.Duration

	// Say is called with progress; may be nil.
	Say func(format string, args ...any) `json:"-"`

	// overlay is the file for `go build -overlay` when there is a mutant, else "".
	overlay string // of the build, when there is a mutant
}

// Defaults of Options.
const (
	usualBuyers  = 128
	usualAPIs    = 3
	usualWorkers = 2
	usualWarm    = 10 * time.Second
	usualLimit   = time.Hour
	usualReplica = 5 * time.Second // of a mutant that needs one
	maxSeed      = 1_000_000       // of a drawn seed: short enough to type again
)

// Bounds of the phases.
const (
	// liveness is when everything must have ended, counted from the last fault: the waits
	// of the service are divided by pace, so that what it tries again comes well within.
	liveness = 60 * time.Second
	sayEvery = 10 * time.Second // progress while the nemesis works
)

// Errors of a run. Anything else means that the harness itself failed.
var (
	// ErrViolation: a promise was broken. The report says which.
	ErrViolation = errors.New("a promise was broken")
	// ErrInvalid: too little happened for the run to prove anything.
	ErrInvalid = errors.New("too little happened: the run proves nothing")
)

// Run is one run from nothing to a report. The report comes with ErrViolation and
// ErrInvalid too; it is nil only when nothing could be started. The folder is removed
// when all was well and Keep was not asked for: a red run is to be looked into.
func Run(ctx context.Context, o Options) (*Report, error) {
	o.defaults()
	if o.Rate > 0 && o.Gate != string(stock.GateRedis) {
		return nil, errors.New("a rate needs a sale in mode redis")
	}
	dir, err := folder(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Mutant != "" {
		if o.overlay, err = mutate(ctx, dir, o.Mutant); err != nil {
			return nil, err
		}
	}
	r := newReport(o)
	o.Say("seed %d: build and start %d services, %d workers, MariaDB, Redis, WeChat Pay; everything is in %s",
		o.Seed, o.APIs, o.Workers, dir)
	s, err := newStage(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	err = perform(ctx, o, s, r)
	s.close()
	verdict := r.verdict()
	if r.Verdict = "0 violations"; verdict != nil {
		r.Verdict = verdict.Error()
	}
	if err == nil { // a harness that failed is no verdict
		err = verdict
	}
	if err == nil && !o.Keep {
		_ = os.RemoveAll(dir)
	}
	return r, err
}

// folder makes the folder of a run. One that has something in it already would
// mix two runs.
func folder(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "chaos-")
	}
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return "", fmt.Errorf("%s is not empty: name a new folder", dir)
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// defaults fills in what was left out.
func (o *Options) defaults() {
	o.Buyers = cmp.Or(o.Buyers, usualBuyers)
	o.APIs = cmp.Or(o.APIs, usualAPIs)
	o.Workers = cmp.Or(o.Workers, usualWorkers)
	o.Warm = cmp.Or(o.Warm, usualWarm)
	o.Limit = cmp.Or(o.Limit, usualLimit)
	if !o.gated() {
		o.Gate = gateOf(o.Mutant)
	}
	if replicaMutant(o.Mutant) {
		o.Replica = cmp.Or(o.Replica, usualReplica)
	}
	if queueMutant(o.Mutant) {
		o.Rate = cmp.Or(o.Rate, mutantRate)
	}
	o.Trials = max(o.Trials, 0)
	o.Seed = cmp.Or(o.Seed, uint64(time.Now().UnixNano())%maxSeed)
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
}

// perform goes through the phases: warm, safety, heal, liveness, reconcile twice, verify,
// cold restart, verify. Its error is the harness's; broken promises go into the report.
func perform(ctx context.Context, o Options, s *stage, r *Report) error {
	h, err := newHistory(filepath.Join(s.dir, "history.jsonl"))
	if err != nil {
		return err
	}
	defer func() { _ = h.close() }()
	shop, n := newShop(s, o, h), newNemesis(s, o, h)
	shopping, closeShop := context.WithCancel(ctx)
	defer closeShop()
	meters := newMeters(s)
	defer meters.stop()

	if err := s.openSale(ctx); err != nil {
		return err
	}
	// Services are started again for as long as there are faults; afterwards heal does
	// it.
	supervising, unsupervise := context.WithCancel(ctx)
	defer unsupervise()
	var supervisor sync.WaitGroup
	supervisor.Go(func() {
		if err := s.supervise(supervising); err != nil {
			n.failed(err)
		}
	})
	defer shop.watch(ctx)()
	defer shop.reads(ctx)()
	begin := time.Now()
	// The run goes on until there was enough of everything, a deadlock among it; what is
	// broken already, a harness that failed and the limit of time end it too.
	enough := func() bool {
		kills, faults := n.counts()
		done := shop.counted("placed") >= o.Orders && kills >= o.Kills && faults >= o.Faults && meters.locked() > 0 &&
			n.trialsLeft(o) == 0 && n.saleLeft(&o) == 0
		return done || shop.broken() || n.failure() != nil || time.Since(begin) > o.Limit
	}
	o.Say("warm: %s without faults", o.Warm)
	shop.open(shopping, enough)
	if !sqldb.Sleep(ctx, o.Warm) {
		return ctx.Err()
	}
	// The rate without faults says whether this machine was fit for the run: on one that
	// is starved, faults would find nobody at work.
	r.Rate = float64(shop.counted("placed")) / time.Since(begin).Seconds()
	if n.usual, err = s.late(ctx, begin, time.Now(), ""); err != nil {
		return err
	}
	safety(ctx, o, shop, n, r, enough)
	if r.Late = n.usual; time.Since(begin) > o.Limit {
		r.Cut = o.Limit
	}
	unsupervise()
	supervisor.Wait()
	o.Say("heal")
	// Buyers end their visits with the faults still there; then the faults are undone.
	shop.wg.Wait()
	closeShop()
	healed, err := n.heal(ctx)
	if err != nil {
		return err
	}
	r.Placed = shop.counted("placed")
	r.Kills, r.Faults, r.Exits = n.kills, n.faults, s.exits()
	r.Trials = n.tried
	r.Sale = n.sold(&o)

	// Nothing goes wrong any more: from here on everything that is open is a finding.
	j := &judge{stage: s, shop: shop, report: r, found: map[string]string{}, healed: map[string]int64{}}
	o.Say("liveness: everything must find its end within %s", liveness)
	if err := j.quiet(ctx, healed, liveness); err != nil {
		return err
	}
	r.Ended = time.Now()
	return judgeAll(ctx, o, j, meters)
}

// judgeAll holds what is left against everything that was promised. The order matters:
// the bill heals before the ledgers are compared, and the cold restart comes after all
// that reads what it must not change.
func judgeAll(ctx context.Context, o Options, j *judge, meters *meters) error {
	r := j.report
	if o.gated() {
		o.Say("verify with the gates open, turn them off")
		if err := j.closed(ctx); err != nil {
			return fmt.Errorf("end the sale: %w", err)
		}
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"reconcile the day, wait for the end of what the bill has found, reconcile twice more", j.reconciled},
		{"hold WeChat Pay's ledger and the buyers' words against the books", j.ledgers},
		{"verify", func(ctx context.Context) error { return j.verified(ctx, "verify") }},
		{"verify what the replica has", j.replicated},
		{"kill everything, start cold, verify", j.cold},
		{"read the logs", func(context.Context) error { return j.logs() }},
		{"what was noticed on the way", j.noticed},
		{"count what went wrong", func(ctx context.Context) error { return r.count(ctx, j.stage, j.shop, meters) }},
	} {
		o.Say("%s", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	r.Complete = true
	return nil
}

// safety lets the nemesis work until there was enough of everything. Its pace follows the
// orders, so that faults are spread over all of them and the last order meets as many as
// the first.
func safety(ctx context.Context, o Options, shop *shop, n *nemesis, r *Report, enough func() bool) {
	o.Say("safety: %d orders, %d kills, %d other faults", o.Orders, o.Kills, o.Faults)
	begin, said := time.Now(), time.Now()
	for ctx.Err() == nil && !enough() {
		placed := shop.counted("placed")
		kills, faults := n.counts()
		if time.Since(said) > sayEvery {
			said = time.Now()
			o.Say("  %6d of %d orders, %d of %d kills, %d of %d faults, %.0f orders/s",
				placed, o.Orders, kills, o.Kills, faults, o.Faults, float64(placed)/time.Since(r.Began).Seconds())
		}
		// What is done runs ahead of the orders by a little, never far.
		share := float64(placed) / float64(o.Orders)
		n.sellBadly(ctx, &o, share)
		if t, ok := n.nextTrial(o, share, kills+faults); ok {
			n.try(ctx, shop, t)
			continue
		}
		// One kill and two faults ahead, so that the first orders meet some.
		wantKill := float64(kills) < share*float64(o.Kills)+1
		wantFault := float64(faults) < share*float64(o.Faults)+2
		if wantKill || wantFault {
			n.once(ctx, wantKill && (!wantFault || n.rnd.IntN(2) == 0))
		} else if share >= 1 {
			// All that is missing is a deadlock: in a short run one fault in twenty may
			// not have met the shop.
			n.holdLocks(ctx)
		}
		// Between two actions the services get a moment to recover in, or fail to.
		sqldb.Sleep(ctx, n.between(20*time.Millisecond, 400*time.Millisecond))
	}
	r.Safety = time.Since(begin).Round(time.Millisecond)
}

// again waits once more for everything to end: the bill may have brought money for closed
// orders, whose refunds take their time. The report keeps the first waiting time, which
// is the one after the faults.
func (j *judge) again(ctx context.Context) error {
	if j.report.ByKind["liveness"] > 0 {
		return nil // it did not end the first time
	}
	before := j.report.Liveness
	err := j.quiet(ctx, time.Now(), liveness)
	j.report.Liveness = before
	return err
}
