package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// reconcileCmd is `orderd reconcile …`.
type reconcileCmd struct {
	Run        reconcileRun        `cmd:"" help:"${reconcile_run}"`
	List       reconcileList       `cmd:"" help:"List the days that were reconciled, newest first."`
	Show       reconcileShow       `cmd:"" help:"Show the result of a day: the bridge from our books to the bill."`
	Diffs      reconcileDiffs      `cmd:"" help:"List differences, as a table, JSON, CSV or a workbook."`
	Resolve    reconcileResolve    `cmd:"" help:"${reconcile_resolve}"`
	Confirm    reconcileConfirm    `cmd:"" help:"${reconcile_confirm}"`
	Month      reconcileMonth      `cmd:"" help:"${reconcile_month}"`
	Difference reconcileDifference `cmd:"" help:"Show a difference, what can be done about it, and what was said."`
	Assign     reconcileAssign     `cmd:"" help:"Give a difference to somebody of finance."`
	Comment    reconcileComment    `cmd:"" help:"Say something about a difference; it stays."`
	Work       reconcileWork       `cmd:"" help:"${reconcile_work}"`
	Import     reconcileImport     `cmd:"" help:"${reconcile_import}"`
	Close      reconcileClose      `cmd:"" help:"${reconcile_close}"`
	Pack       reconcilePack       `cmd:"" help:"${reconcile_pack}"`
	Bill       reconcileBill       `cmd:"" help:"Print the bill of a day that counts, or the file that was given."`
}

// errOpen marks differences that are open: exit 3, which a daily job can alarm by. The
// run itself has succeeded.
var errOpen = errors.New("differences are open")

// reconcileRun is `orderd reconcile run`: here and now, beside a running service, which
// does it by itself every day.
type reconcileRun struct {
	output
	confirm
	person
	// Date is the day of the bill. WeChat Pay makes it the next morning, and keeps it
	// three months; today's is the simulator's alone.
	Date string           `default:"yesterday" help:"Day of Beijing: YYYY-MM-DD, yesterday or today."`
	Type payment.BillType `name:"type" default:"ALL" enum:"ALL,SUCCESS,REFUND,FUNDFLOW" help:"${reconcile_run_type}"`
	// Bill takes the place of the download: for a day that WeChat Pay no longer gives.
	Bill string `type:"existingfile" help:"${reconcile_run_bill}"`
}

// billDay reads a day as a person writes it: the words are days of Beijing, whatever the
// zone of this machine; other text is passed on and judged by package reconcile.
func billDay(text string) string {
	switch text {
	case "today":
		return reconcile.Day(time.Now())
	case "yesterday":
		return reconcile.Day(time.Now().AddDate(0, 0, -1))
	}
	return text
}

// Run reconciles one bill, that of WeChat Pay or the file that was given.
func (c *reconcileRun) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		if err := c.sayReplaced(ctx, co, t); err != nil {
			return err
		}
		p := t.progress()
		q := reconcile.RunRequest{Date: billDay(c.Date), Type: c.Type, Progress: stages(p)}
		if c.Bill != "" {
			f, err := openFile(c.Bill)
			if err != nil {
				return err
			}
			defer f.Close()
			q.File = f
			if q.By, err = c.reconcileCause(ctx, co); err != nil {
				return err
			}
		}
		res, err := co.reconciler.Run(ctx, q)
		p.End()
		if err != nil {
			return err
		}
		return c.report(t, res)
	})
}

// sayReplaced says which result the run replaces, and asks where the day is closed: a file leaves the result of a bill
// that counts as it is.
func (c *reconcileRun) sayReplaced(ctx context.Context, co *core, t *terminal) error {
	was, err := co.reconciler.Replaced(ctx, reconcile.ID(billDay(c.Date), c.Type))
	switch {
	case errors.Is(err, reconcile.ErrNotFound): // what is no day Run says better
		return nil
	case err != nil || was == nil || c.Bill != "" && was.Counts:
		return err
	}
	screen.Printf(t.Err, "this replaces the result of %s: %d differences are open; of those that people have ended "+
		"(%d), proposed (%d) or put off (%d), what two people wrote off stays, with all that was said and done\n",
		stamp(was.FinishedAt), was.Result.Open, was.Ended, was.Proposed, was.Marked)
	if k := was.Closing; k != nil {
		return c.ask(t, fmt.Sprintf("%s was closed by %s, and has to be closed once more when the result is another. "+
			"Run it again?", k.Date, k.Who))
	}
	return nil
}

// reconcileConfirm is `orderd reconcile confirm`: a second person's word on a file.
type reconcileConfirm struct {
	output
	confirm
	person
	ID     string `arg:"" help:"Day and type, such as 2026-11-19-ALL; a day alone means ALL."`
	SHA1   string `arg:"" name:"sha1" help:"Of the file, as 'reconcile show' prints it."`
	Reason reason `required:"" help:"Why, such as what it was compared with."`
}

// Run confirms a file as the person of the token; the shell is nobody's second person.
func (c *reconcileConfirm) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, fmt.Sprintf("Let the file %s count for %s?", c.SHA1, c.ID)); err != nil {
		return err
	}
	return c.aboutBills(ctx, s, func(co *core, cause reconcile.Cause) error {
		res, err := co.reconciler.Confirm(ctx, reconcile.Confirmation{ID: reconciliationID(c.ID), SHA1: c.SHA1,
			Reason: string(c.Reason), Cause: cause})
		if err != nil {
			return err
		}
		return c.report(t, res)
	})
}

// report prints a result; open differences, and those of an old day that still wait for
// the bill of another, are errOpen, after the result was printed.
func (c output) report(t *terminal, res reconcile.Result) error {
	if c.Output == "json" {
		if err := c.show(t, res, nil); err != nil {
			return err
		}
	} else if err := reconcile.WriteText(t.Out, res); err != nil {
		return err
	}
	// Not an error of the run: the exit code says that somebody has to look.
	if res.Uncounted {
		screen.Printf(t.Err, "a file ends no difference until a second person confirms it: 'orderd reconcile confirm "+
			"%s %s'\n", reconcile.ID(res.Date, res.Type), res.SHA1)
	}
	if n := res.Waiting(time.Now()); n > 0 && res.Balanced() {
		return fmt.Errorf("%w: %d wait for the bill of another day, which should be here; see 'orderd reconcile list'",
			errOpen, n)
	}
	if !res.Balanced() {
		return fmt.Errorf("%w: %d; see 'orderd reconcile diffs %s', resolve them with 'orderd reconcile resolve'",
			errOpen, res.Open, reconcile.ID(res.Date, res.Type))
	}
	return nil
}

// stages shows the stages of a reconciliation: a bar, or the number alone where the length
// is not known, total 0.
func stages(p *screen.Progress) func(stage string, done, total int64) {
	const width = 24
	return func(stage string, done, total int64) {
		if total == 0 {
			p.Show("%-9s %d", stage, done)
			return
		}
		full := int(min(width*done/total, width))
		p.Show("%-9s [%s%s] %d/%d", stage, strings.Repeat("█", full), strings.Repeat("·", width-full), done, total)
	}
}

// reconcileList is `orderd reconcile list`.
type reconcileList struct {
	output
	Limit pageRows `default:"31" help:"1 to 200."`
}

// Run lists days.
func (c *reconcileList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		all, err := co.reconciler.List(ctx, "", int(c.Limit))
		if err != nil {
			return err
		}
		return c.show(t, viewed(all, console.ViewReconciliation), func(w io.Writer) {
			screen.Printf(w, "DAY\tTYPE\tSTATE\tSOURCE\tBILL\tOURS\tFEES\tOPEN\tPENDING\tHEALED\tPROBLEM\n")
			for _, x := range all {
				// A run that did not end well has no result, and shows zeros beside its
				// problem.
				r := x.Result
				if r == nil {
					r = &reconcile.Result{}
				}
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", x.Date, x.Type, x.State,
					x.Hands(), r.Payments.BillFen-r.Refunds.BillFen,
					r.Payments.OursFen-r.Refunds.OursFen, r.Totals.Fees(), r.Open, r.Pending, r.Healed, x.Problem)
			}
		})
	})
}

// reconcileShow is `orderd reconcile show`.
type reconcileShow struct {
	output
	ID string `arg:"" help:"Day and type, such as 2026-11-19-ALL; a day alone means ALL."`
}

// reconciliationID completes a day to an id; it is told from one by its length.
func reconciliationID(text string) string {
	if day := billDay(text); len(day) == len(time.DateOnly) {
		return reconcile.ID(day, payment.BillAll)
	}
	return text
}

// Run shows a day. One without a result, because it runs or its bill was not usable, is
// an error that says which.
func (c *reconcileShow) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		x, err := co.reconciler.Show(ctx, reconciliationID(c.ID))
		if err != nil {
			return err
		}
		if x.Result == nil {
			return fmt.Errorf("%s is %s: %s", x.ID(), x.State, x.Problem)
		}
		files, err := co.reconciler.Files(ctx, x.ID())
		if err != nil {
			return err
		}
		for _, f := range files {
			if f.Source == reconcile.SourceFile {
				screen.Printf(t.Err, "file %s of %s, given by %s, confirmed by %s\n", f.SHA1, stamp(f.ReceivedAt),
					strings.Join(f.GivenBy, ", "), cmp.Or(f.ConfirmedBy, "nobody"))
			}
		}
		return c.report(t, *x.Result)
	})
}

// reconcileDiffs is `orderd reconcile diffs`. It has an Output of its own, with more
// forms than the other verbs.
type reconcileDiffs struct {
	Output string `short:"o" enum:"table,json,csv,xlsx" default:"table" help:"table, json, csv or xlsx."`
	ID     string `arg:"" optional:"" help:"Day and type, such as 2026-11-19-ALL; without it, of all days."`
	// Status is a pointer because "" has a meaning of its own: of any status.
	Status   *reconcile.Status `help:"${reconcile_diffs_status}"`
	Type     reconcile.Kind    `name:"type" help:"${reconcile_diffs_type}"`
	Assignee string            `help:"${reconcile_assignee}"`
	Age      int               `help:"Those that have been open for so many days."`
	File     string            `type:"path" help:"Write there instead of standard output."`
}

// Run lists differences: of a day all of them, of all days the open ones, unless --status
// says otherwise. An open one among them is errOpen.
func (c *reconcileDiffs) Run(ctx context.Context, s *settings, t *terminal) error {
	if st := c.Status; st != nil && *st != "" && !slices.Contains(reconcile.Statuses(), *st) {
		return fmt.Errorf("%w: there is no status %q; OPEN, PENDING_NEXT_DAY, RESOLVED, WRITTEN_OFF, or \"\" for all",
			errUsage, *st)
	}
	if c.Type != "" && !slices.Contains(reconcile.Kinds(), c.Type) {
		return fmt.Errorf("%w: there is no type %.30q; see docs/reconciliation.md", errUsage, c.Type)
	}
	return withCore(ctx, s, func(co *core) (err error) {
		f := reconcile.DifferenceFilter{Status: reconcile.StatusOpen, Kind: c.Type, Assignee: assigneeOf(c.Assignee)}
		f.OlderThan(time.Now(), c.Age)
		id := ""
		if c.ID != "" {
			id, f.Status = reconciliationID(c.ID), ""
		}
		if c.Status != nil {
			f.Status = *c.Status
		}
		x, all, err := co.reconciler.Export(ctx, id, f)
		if err != nil {
			return err
		}
		var res reconcile.Result
		if x.Result != nil { // a day has it in the first sheet of a workbook
			res = *x.Result
		}
		out := t.Out
		if c.File != "" {
			file, err := os.Create(c.File)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out = file
		}
		if err := c.write(&terminal{Out: out, Err: t.Err}, res, all); err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(d reconcile.Difference) bool { return d.Status == reconcile.StatusOpen }) {
			return errOpen
		}
		return nil
	})
}

// write prints differences in the form that was asked for; res is for the first sheet of
// a workbook.
func (c reconcileDiffs) write(t *terminal, res reconcile.Result, all []reconcile.Difference) error {
	switch c.Output {
	case "csv":
		return reconcile.WriteCSV(t.Out, all)
	case "xlsx":
		return reconcile.WriteXLSX(t.Out, res, all)
	}
	view := func(d *reconcile.Difference) console.DifferenceView { return console.ViewDifference(d, time.Now()) }
	return output{Output: c.Output}.show(t, viewed(all, view), func(w io.Writer) {
		screen.Printf(w, "ID\tDAY\tTYPE\t\tSTATUS\tDAYS\tASSIGNEE\tORDER\tNUMBER\tOURS\tBILL\tDIFFERENCE\tSOURCE\t"+
			"RESOLUTION\n")
		for _, d := range all {
			screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Date, d.Kind,
				d.Kind.Label(), d.Status, d.AgeDays(time.Now()), d.Assignee, d.OrderNo, d.Ref,
				strings.TrimSpace(d.OursFen.String()+" "+d.OursState),
				strings.TrimSpace(d.BillFen.String()+" "+d.BillState), d.Diff(),
				strings.TrimSpace(string(d.Source)+" "+d.GivenBy), resolutionOf(&d))
		}
	})
}

// resolutionOf says how a difference ended, or who waits for a second person to end it.
func resolutionOf(d *reconcile.Difference) string {
	if d.Status == reconcile.StatusOpen && d.ProposedBy != "" {
		return "proposed by " + d.ProposedBy + ", waits for a second person"
	}
	return strings.TrimSpace(d.Resolution + " " + d.ResolvedBy)
}

// reconcileResolve is `orderd reconcile resolve`.
type reconcileResolve struct {
	output
	confirm
	person
	ID     string           `arg:"" help:"Of the difference."`
	Action reconcile.Action `required:"" enum:"${reconcile_resolve_action_enum}" help:"${reconcile_resolve_action}"`
	Reason reason           `required:"" help:"Why."`
}

// Run resolves a difference as the person of the token, or as the shell. A write-off is
// proposed by the first person and done by the second; the shell can only propose.
func (c *reconcileResolve) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, fmt.Sprintf("%s of %s?", c.Action, c.ID)); err != nil {
		return err
	}
	return c.aboutBills(ctx, s, func(co *core, cause reconcile.Cause) error {
		d, err := co.reconciler.Resolve(ctx, reconcile.Resolve{ID: c.ID, Action: c.Action, Reason: string(c.Reason),
			Cause: cause})
		if err != nil {
			return err
		}
		// Half of a write-off; the same command by another person is the other half.
		if d.Status == reconcile.StatusOpen && d.ProposedBy != "" {
			screen.Printf(t.Err, "proposed by %s, and not written off yet: %s\n", d.ProposedBy,
				sameByAnother("reconcile resolve "+d.ID+" --action "+string(c.Action)))
		}
		if c.Action == reconcile.RefundPayment && d.Status == reconcile.StatusOpen {
			screen.Printf(t.Err, "proposed, and not sent yet: %s, or approves the refund\n",
				sameByAnother("reconcile resolve "+d.ID+" --action "+string(c.Action)))
		}
		return reconcileDiffs{Output: c.Output}.write(t, reconcile.Result{}, []reconcile.Difference{d})
	})
}

// reconcileBill is `orderd reconcile bill`: the stored file, byte for byte, uncompressed; on
// a terminal what cannot be seen of it is written out.
type reconcileBill struct {
	ID string `arg:"" help:"Day and type, such as 2026-11-19-ALL; a day alone means ALL."`
}

// Run prints the stored bill.
func (c *reconcileBill) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		f, _, err := co.reconciler.OpenBill(ctx, reconciliationID(c.ID))
		if err != nil {
			return err
		}
		return errors.Join(screen.Copy(t.Out, t.OutTTY, f), f.Close())
	})
}
