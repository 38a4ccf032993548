package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"orderd/cmd/screen"
)

// root is the command line; kong reads names, flags and help from its tags. A verb is a
// struct whose Run is called with what kong was given to bind: the context, the settings,
// the terminal. ${…} in a tag is a text of help.go.
type root struct {
	// Config is embedded, so that every verb takes the flags of the configuration.
	Config settings `embed:""`

	Serve     serveCmd     `cmd:"" help:"${serve}"`
	Demo      demoCmd      `cmd:"" help:"Watch buyers, races and a WeChat Pay that loses answers; then the books."`
	Sim       simCmd       `cmd:"" help:"Run the WeChat Pay simulator alone."`
	Trigger   triggerCmd   `cmd:"" help:"Let the simulator send one payment notification for an order."`
	Migrate   migrateCmd   `cmd:"" help:"Bring the database schema up or down."`
	Stock     stockCmd     `cmd:"" help:"SKUs and what is on the shelf."`
	Order     orderCmd     `cmd:"" help:"Look at orders, close them, ask WeChat Pay about them."`
	Find      findCmd      `cmd:"" help:"Find whatever has a number or an id."`
	Held      heldMoneyCmd `cmd:"" help:"${held}"`
	Payments  paymentsCmd  `cmd:"" help:"Look at payments that fit no order, judge them again."`
	Refund    refundCmd    `cmd:"" help:"Look at refunds, ask for them, approve and reject them."`
	Shipment  shipmentCmd  `cmd:"" help:"What was sent, of a mini program's shop: list it, say it."`
	Webhook   webhookCmd   `cmd:"" help:"Whom the shop's events are sent to: add, test, look, send again."`
	Listen    listenCmd    `cmd:"" help:"${listen}"`
	Bulk      bulkCmd      `cmd:"" help:"Do one act to all that a filter means: ask about, close, approve."`
	Tasks     tasksCmd     `cmd:"" help:"Look at what comes due, and at the tasks that failed; run or discard those."`
	Reconcile reconcileCmd `cmd:"" help:"${reconcile}"`
	Token     tokenCmd     `cmd:"" help:"Make tokens for customers and operators, revoke them."`
	Operator  operatorCmd  `cmd:"" help:"The accounts of the people who work at the shop."`
	Verify    verifyCmd    `cmd:"" help:"Check every invariant: each unit of stock, each fen, each event."`
	Doctor    doctorCmd    `cmd:"" help:"Look at all that orderd depends on: what is wrong and how to mend it."`
	// Print is called so because Config is taken; its verb is `orderd config`.
	Print      configCmd     `cmd:"" name:"config" help:"Show the configuration and where each value came from."`
	Audit      auditCmd      `cmd:"" help:"What people did: list it, write all of it into a file."`
	Export     exportCmd     `cmd:"" help:"Write files to run it: alarms, dashboard, units, manifests."`
	Completion completionCmd `cmd:"" help:"Print what bash, zsh or fish reads to complete verbs and flags."`
	Version    versionCmd    `cmd:"" help:"Show version and commit."`
}

// terminal is what verbs read and write: data on Out, words on Err. Tests give buffers,
// so no verb uses os.Stdout itself.
type terminal struct {
	In       io.Reader
	Out, Err io.Writer
	// TTY says that Err is a terminal: progress may move the cursor (progress).
	TTY bool
	// OutTTY says that Out is a terminal, on which a file could move the cursor too.
	OutTTY bool
	// Color allows colours: on a terminal without NO_COLOR (no-color.org).
	Color bool
	// Ask says that In is a terminal: questions can be answered.
	Ask bool
}

// gcPercent is GOGC, whose default is 100: a few megabytes for time. The heap is small,
// so the collector would run often and scan the stack of every waiting caller each time,
// a third of our own CPU per placement at 256 callers. GOGC in the environment wins.
const gcPercent = 400

// main ends a verb on SIGINT and SIGTERM by cancelling its context; serve then drains.
func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], newTerminal(os.Stdin, os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}

// newTerminal is what a verb reads and writes, of the files of a process.
func newTerminal(in, out, errs *os.File) *terminal {
	tty := screen.IsTerminal(errs)
	return &terminal{In: in, Out: out, Err: errs, TTY: tty,
		OutTTY: screen.IsTerminal(out), Color: tty && os.Getenv("NO_COLOR") == "", Ask: screen.IsTerminal(in)}
}

// progress is the one way to say how far a verb is: a line that moves on a terminal, plain
// lines every few seconds elsewhere.
func (t *terminal) progress() *screen.Progress { return screen.NewProgress(t.Err, t.TTY) }

// run is main without the process, for tests: it parses, runs a verb and gives the exit
// code. The configuration file is read before the command line is parsed, because kong
// takes the variables that the file sets as defaults of the flags.
func run(ctx context.Context, args []string, io *terminal) int {
	var r root
	// kong would end the process after --help; here it only says with which code.
	code := -1
	parser, err := kong.New(&r, kong.Name("orderd"), kong.Writers(io.Out, io.Err),
		kong.Description("Order lifecycle and payment reconciliation for WeChat Pay. Start with: orderd demo"),
		kong.Exit(func(c int) { code = c }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.PostBuild(envNames), kong.PostBuild(putHelpTexts))
	if err != nil {
		screen.Printf(io.Err, "orderd: %v\n", err)
		return exitFailed
	}
	file, err := envFile(args)
	if err == nil {
		err = r.Config.fromFile(file)
	}
	if err != nil {
		screen.Printf(io.Err, "orderd: %v\n", err)
		return exitUsage
	}
	k, err := parser.Parse(args)
	if code >= 0 { // help was asked for
		return code
	}
	if err != nil {
		screen.Printf(io.Err, "orderd: %v\nRun 'orderd --help' for what there is.\n", err)
		return exitUsage
	}
	if err := r.Config.complete(args); err != nil {
		screen.Printf(io.Err, "orderd: %v\n", err)
		return exitUsage
	}
	r.Config.act = actOf(k, &r.Config, io)
	k.BindTo(ctx, (*context.Context)(nil))
	err = k.Run(&r.Config, io)
	if err != nil {
		screen.Printf(io.Err, "orderd: %v\n", err)
		if next := hint(err); next != "" {
			screen.Printf(io.Err, "%s\n", next)
		}
	}
	return exitCode(err)
}
