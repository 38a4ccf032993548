package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"orderd/cmd/orderload/bench"
)

// HelpTexts are the texts that are too long for a line with their flag: the tags of
// Cmd name them, so whoever parses a Cmd passes them to kong.
var HelpTexts = kong.Vars{
	"expire_spread": "They come due evenly over this time, on whole seconds as Place sets them; " +
		"0s: all in the same second.",
	"expire_lead": "How far ahead the first deadline is; the orders are seeded and verified before it " +
		"(default: by their number).",
	"expire_mode": "ours (the service as 'orderd serve' builds it), " +
		"per-order (an asynq task per order over 16 queues), naive (a transaction per order, polling); a list, or all.",
	"expire_protocol": "Close by the real protocol against the simulator over loopback, and say what RSA costs. " +
		"Only ours.",
	"expire_patience": "How long after the last deadline the orders may take (default: five minutes, or by the rate).",
}

// Cmd is "orderload expire"; kong reads its tags. docs/benchmarks.md has its tables and
// the commands that made them.
type Cmd struct {
	Orders  int           `help:"Unpaid orders that come due (default: 100000, with --protocol 20000)."`
	Spread  time.Duration `default:"60s" help:"${expire_spread}"`
	Lead    time.Duration `help:"${expire_lead}"`
	Mode    []string      `default:"ours" enum:"ours,naive,per-order,all" help:"${expire_mode}"`
	Gateway time.Duration `default:"1ms" help:"The scripted WeChat Pay answers a close after this time."`

	Protocol bool `help:"${expire_protocol}"`
	// Rate, Pay and Foreground make the storm more like a day: a limit, buyers, a shop.
	Rate       float64       `help:"WeChat's limit in closes a second (default: none). Only ours."`
	Pay        float64       `help:"This share of the orders is paid while they wait; at most 0.5."`
	Foreground int           `help:"So many placements and as many callbacks a second beside the storm."`
	Quiet      time.Duration `default:"10s" help:"They are measured for so long before the storm too."`

	// Workers and what follows make it worse: several processes, and something that
	// fails.
	Workers  int           `help:"Share the work among so many processes (default: this one). Only ours."`
	Kill     bool          `help:"Kill the first worker after a third of the orders."`
	Pause    bool          `help:"Stop the second worker after a third of the orders."`
	PauseFor time.Duration `default:"20s" help:"And let it go on after this time."`
	Flush    bool          `help:"Empty Redis two seconds before the first deadline."`

	// BufferPool and LogFile are sizes of InnoDB: the tables fit into memory, and the log
	// is not what is measured.
	BufferPool string        `default:"4G" help:"Of the private MariaDB."`
	LogFile    string        `default:"4G" help:"Of the private MariaDB."`
	Patience   time.Duration `help:"${expire_patience}"`

	SVG  string `name:"svg" type:"path" help:"Draw lateness and backlog over time here."`
	JSON string `name:"json" type:"path" help:"Write everything that was measured here."`
}

// The modes, as --mode names them.
const (
	// Ours is what `orderd serve` runs; the other two are what it is compared with.
	modeOurs     = "ours"
	modeNaive    = "naive"
	modePerOrder = "per-order"
	modeAll      = "all" // of them
)

// Run lets unpaid orders come due in every mode and says how late they were
// closed. It fails when one was closed early, twice, without proof, or not at
// all, or when the ledgers do not agree after it.
func (k *Cmd) Run(ctx context.Context, set *bench.Settings) error {
	if err := k.complete(); err != nil {
		return err
	}
	r, err := k.startRig(ctx, set)
	if err != nil {
		return err
	}
	defer r.stop()
	var all []*storm
	for _, mode := range k.Mode {
		st, failed := k.one(ctx, r, mode)
		if st != nil {
			all = append(all, st)
		}
		if failed != nil {
			err = fmt.Errorf("%s: %w", mode, failed)
			break
		}
	}
	k.tables(all) // also of what went before a failure
	return errors.Join(err, k.write(all))
}

// Bounds and defaults of a run.
const (
	// minStorm is the least that a percentile says something about.
	minStorm = 100
	// maxStorm is bounded by the numbers of the crowd, which have eight digits.
	maxStorm      = 10_000_000
	defaultOrders = 100_000
	// protocolSize is the default with --protocol: RSA takes a millisecond and more for
	// each.
	protocolSize = 20_000
	patience     = 5 * time.Minute
	// maxPay leaves enough orders to close: the lateness is theirs.
	maxPay = 0.5

	// The lead, unless it is given: time to start the servers and the mode, and to
	// seed and verify so many orders a second, on a busy machine.
	startLead = 15 * time.Second
	seedRate  = 8_000
)

// complete sets what was left out and refuses what does not fit together, before any
// server is started.
func (k *Cmd) complete() error {
	if k.Orders == 0 && k.Protocol {
		k.Orders = protocolSize
	} else if k.Orders == 0 {
		k.Orders = defaultOrders
	}
	if slices.Contains(k.Mode, modeAll) {
		k.Mode = []string{modeNaive, modePerOrder, modeOurs}
	}
	// The other modes know no rate, no worker processes and no real gateway.
	onlyOurs := len(k.Mode) == 1 && k.Mode[0] == modeOurs
	switch {
	case k.Orders < minStorm || k.Orders > maxStorm:
		return fmt.Errorf("--orders must be %d to %d", minStorm, maxStorm)
	case k.Spread < 0 || k.Spread%time.Second != 0:
		return errors.New("--spread must be whole seconds: deadlines are")
	case k.Pay < 0 || k.Pay > maxPay:
		return errors.New("--pay must be 0 to 0.5")
	case (k.Protocol || k.Rate != 0 || k.Workers != 0) && !onlyOurs:
		return errors.New("--protocol, --rate and --workers are of --mode ours alone")
	case k.Workers != 0 && (k.Protocol || k.Pay != 0):
		return errors.New("--workers have a WeChat Pay each: leave out --protocol and --pay")
	case (k.Kill || k.Pause) && k.Workers < 3:
		return errors.New("--kill and --pause need --workers 3 or more")
	case k.Workers > maxWorkers:
		return fmt.Errorf("--workers must be at most %d", maxWorkers)
	}
	if k.Patience == 0 {
		k.Patience = patience
		if k.Rate > 0 { // and twice the time that the rate needs
			k.Patience += time.Duration(2 * float64(k.Orders) / k.Rate * float64(time.Second))
		}
	}
	if k.Lead == 0 {
		k.Lead = startLead + time.Duration(k.Orders/seedRate)*time.Second
		if k.Foreground > 0 {
			k.Lead += k.Quiet
		}
	}
	return nil
}

// one runs one mode on a database of its own. The figures come only with a run that ended
// whole; what judge refuses is an error beside them.
func (k *Cmd) one(ctx context.Context, r *rig, mode string) (done *storm, err error) {
	st, err := k.prepare(ctx, r, mode)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run, err := st.begin(ctx)
	if err != nil {
		return nil, err
	}
	// Setting a task for every order takes long; the first deadline must not be over.
	if err := st.ready(); err != nil {
		run.stop()
		return nil, err
	}
	// From here on everything runs at once. All but the mode end with ctx, in the reverse
	// order; the mode itself is stopped last, so that what is beside it can finish.
	beside := st.startForeground(ctx, run)
	sampled := st.startSampling(ctx, run)
	troubled := st.startTrouble(ctx, run)
	err = st.drain(ctx, run)
	st.Drained = time.Now()
	cancel()
	troubled()
	sampled()
	beside()
	run.stop()
	if err != nil {
		return nil, err
	}
	return st, st.judge(context.WithoutCancel(ctx), run) // ctx was ended by us
}

// write draws and writes what was asked for; nothing when no mode came to its end.
func (k *Cmd) write(all []*storm) error {
	if len(all) == 0 {
		return nil
	}
	if k.SVG != "" {
		if err := os.WriteFile(k.SVG, []byte(drawStorms(all)), 0o600); err != nil {
			return err
		}
	}
	if k.JSON == "" {
		return nil
	}
	b, err := json.MarshalIndent(all, "", " ")
	return errors.Join(err, os.WriteFile(k.JSON, append(b, '\n'), 0o600))
}
