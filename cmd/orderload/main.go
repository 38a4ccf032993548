package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"github.com/alecthomas/kong"

	"orderd/cmd/orderload/bench"
	"orderd/cmd/orderload/storm"
)

// cli is the command line: kong reads flags, defaults and help from the tags. The
// settings of package bench are flags of every command.
type cli struct {
	bench.Settings

	Profile string `type:"path" help:"Write a CPU profile of this process here."`

	Place     placeCmd     `cmd:"" help:"Placement through order.Service against a transaction per order."`
	Feed      feedCmd      `cmd:"" help:"What the row per placement in the feed costs, with and without in turns."`
	Callback  callbackCmd  `cmd:"" help:"Payment callbacks and closes against a transaction per event."`
	HTTP      httpCmd      `cmd:"" name:"http" help:"Placement and callbacks over HTTP."`
	Reconcile reconcileCmd `cmd:"" help:"A bill of a day against as many payments."`
	Gate      gateCmd      `cmd:"" help:"A flash sale: what its gate refuses, sells and costs."`
	Expire    storm.Cmd    `cmd:"" help:"${main_expire}"`
	Chaos     chaosCmd     `cmd:"" help:"Try to break the service: kills, cuts, lies, and a judge."`
	Lists     listsCmd     `cmd:"" help:"What lists and pages read of 500,000 orders."`
	Pages     pagesCmd     `cmd:"" help:"How long each page of the console takes with 500,000 orders."`
	Verify    verifyCmd    `cmd:"" help:"Every invariant of a large world, and violations seeded in it."`

	// ExpireWorker is this program again, started by expire --workers; its name there is
	// storm's workerName.
	ExpireWorker storm.WorkerCmd `cmd:"" hidden:""`
	// GateWorker is a process of a sale, started by gate; its name is gateWorkerName.
	GateWorker gateWorkerCmd `cmd:"" hidden:""`
}

// helpTexts are those that are too long for a line with their flag; the tags name them.
// Those of expire are in package storm, beside its flags.
var helpTexts = kong.Vars{
	"main_expire":    "Unpaid orders that come due together: how late they are closed, beside other ways.",
	"place_maxunits": "Units of a SKU that a customer's unpaid orders may hold (default: no limit, not counted).",
	"place_maxopen":  "Unpaid orders a customer may have, counted for each placement (default: no limit, not counted).",
	"http_callbacks": "Callbacks per round of order.Service; signing them beforehand takes a millisecond each.",
	"chaos_size": "smoke (2,000 orders, 10 kills, 50 other faults), pr (10,000, 50, 300) " +
		"or nightly (100,000, 500, 5,000).",
	"chaos_trials": "How often each of the faults comes that are alone and measured, instead of the size's; " +
		"-1 for none.",
	"chaos_mutant": "Break the service on purpose; the run must be red. 'list' lists the mutants, " +
		"'all' runs each and prints the table of docs/runs/mutants.md, 'a,b' prints the rows of these.",
	"chaos_sale_faults": "So many of the faults of gates, drawn by the seed (default: all).",
	"chaos_rate": "With --gate redis: each sale makes so many orders a second, and who asks above that waits in a " +
		"queue (0: no queue). Adds the faults of queues.",
	"chaos_replica": "Read what is only shown from a replica that is so far behind, all the time.",
	"chaos_gate": "Sell the hot SKUs by a gate: local, in the memory of processes, or redis. Adds the faults of " +
		"gates; a mutant of gates brings its own.",
}

// gcPercent is orderd's own (cmd/orderd): the code under test must not collect
// garbage more often here than in the service.
const gcPercent = 400

// main ends a command on SIGINT and SIGTERM by cancelling its context, so that private
// servers are stopped. An error ends it with exit 1; kong prints it.
func main() {
	debug.SetGCPercent(gcPercent)
	var c cli
	k := kong.Parse(&c, kong.Name("orderload"), kong.UsageOnError(), helpTexts, storm.HelpTexts)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		k.FatalIfErrorf(err)
		k.FatalIfErrorf(pprof.StartCPUProfile(f))
		defer pprof.StopCPUProfile()
	}
	k.FatalIfErrorf(k.Run(&c.Settings))
}
