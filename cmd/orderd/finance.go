package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/migrations/bounds"
	"orderd/payment/reconcile"
)

// tableFile is an output that is a table, JSON or a file.
type tableFile struct {
	Output string `short:"o" enum:"table,json,csv,xlsx" default:"table" help:"table, json, csv or xlsx."`
	File   string `type:"path" help:"Write there instead of standard output."`
}

// into gives write a terminal whose standard output is --file, if there is one.
func (f tableFile) into(t *terminal, write func(t *terminal) error) (err error) {
	if f.File == "" {
		return write(t)
	}
	file, err := os.Create(f.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(&terminal{Out: file, Err: t.Err})
}

// reconcileMonth is `orderd reconcile month`.
type reconcileMonth struct {
	tableFile
	Month string `arg:"" optional:"" help:"Of Beijing, such as 2026-11; this month without it."`
}

// Run shows a month. Days that are missing, or differences that are open, are errOpen.
func (c *reconcileMonth) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		m, err := co.reconciler.Month(ctx, cmp.Or(c.Month, reconcile.MonthOf(time.Now())))
		if err != nil {
			return err
		}
		lacks, err := console.MonthLacks(ctx, &m, co.orders, co.orders)
		if err != nil {
			return err
		}
		if err := c.into(t, func(t *terminal) error { return c.write(t, &m, lacks) }); err != nil {
			return err
		}
		if m.Missing > 0 || m.Sums.Open > 0 {
			return fmt.Errorf("%w: %d, and %d days are missing in the sums", errOpen, m.Sums.Open, m.Missing)
		}
		return nil
	})
}

// write prints a month in the form that was asked for.
func (c *reconcileMonth) write(t *terminal, m *reconcile.Month, lacks []reconcile.MonthLack) error {
	switch c.Output {
	case "csv":
		return reconcile.WriteMonthCSV(t.Out, m)
	case "xlsx":
		return reconcile.WriteMonthXLSX(t.Out, m)
	}
	return output{Output: c.Output}.show(t, console.ViewMonth(m, lacks), func(w io.Writer) {
		screen.Printf(w, "DAY\tSTATE\tPAID\tREFUNDED\tBILL\tOURS\tFEES\tNET\tOPEN\tPENDING\tCLOSED\n")
		line := func(day, state string, f *reconcile.Figures, closed string) {
			screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", day, state, f.PaidFen, f.RefundFen,
				f.BillFen(), f.OursFen(), f.Fees(), f.Net(), f.Open, f.Pending, closed)
		}
		for i := range m.Days {
			d := &m.Days[i]
			if d.Figures == nil {
				screen.Printf(w, "%s\t%s\t\t\t\t\t\t\t%s\t%s\t%s\n", d.Date, d.State, orNone(d.Open),
					orNone(d.Pending), closedBy(d.Closing))
				continue
			}
			line(d.Date, string(d.State), d.Figures, closedBy(d.Closing))
		}
		state := "SUM"
		if m.Missing > 0 {
			state = fmt.Sprintf("%d DAYS MISSING", m.Missing)
		}
		closed := ""
		if m.Closed {
			closed = "closed"
		}
		line(m.Month, state, &m.Sums, closed)
		for i := range lacks {
			l := &lacks[i]
			screen.Printf(w, "LACKS\t%s\t%s\t%d\t%s\n", l.What, cmp.Or(l.Date, m.Month), l.Count, doAbout(l))
		}
	})
}

// doAbout is the verb that ends what a month lacks.
func doAbout(l *reconcile.MonthLack) string {
	switch l.What {
	case reconcile.LackRun:
		return "orderd reconcile run --date " + l.Date
	case reconcile.LackOpen, reconcile.LackNeighbour:
		return "orderd reconcile diffs " + l.Date
	case reconcile.LackClosing:
		return "orderd reconcile close " + l.Date
	case reconcile.LackHeld:
		return "orderd held list"
	case reconcile.LackRefunds:
		return "orderd refund list"
	case reconcile.LackDue:
	}
	return "wait for the bill"
}

// orNone prints a number, and nothing for 0.
func orNone(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// closedBy says who closed a day, and whether that still holds.
func closedBy(c *reconcile.Closing) string {
	switch {
	case c == nil:
		return ""
	case c.Reopened:
		return "REOPENED, was closed by " + c.Who
	}
	return c.Who
}

// reconcileClose is `orderd reconcile close`.
type reconcileClose struct {
	output
	confirm
	person
	Date   string `arg:"" help:"Day of Beijing: YYYY-MM-DD or yesterday."`
	Reason reason `required:"" help:"What was looked at."`
}

// Run closes a day.
func (c *reconcileClose) Run(ctx context.Context, s *settings, t *terminal) error {
	day := billDay(c.Date)
	if err := c.ask(t, "Close "+day+"?"); err != nil {
		return err
	}
	return c.aboutBills(ctx, s, func(co *core, cause reconcile.Cause) error {
		done, err := co.reconciler.CloseDay(ctx, reconcile.CloseDay{Date: day, Reason: string(c.Reason), Cause: cause})
		if err != nil {
			return err
		}
		return c.show(t, done, func(w io.Writer) {
			screen.Printf(w, "closed\t%s, the %d. time, by %s\nproof\t%s\nthe day before\t%s\n", done.Date, done.Seq,
				done.Who, done.Manifest, cmp.Or(done.Previous, "none: the chain begins here"))
		})
	})
}

// reconcilePack is `orderd reconcile pack`.
type reconcilePack struct {
	Date string `arg:"" help:"Day of Beijing: YYYY-MM-DD or yesterday."`
	File string `type:"path" help:"Where to; proof-DAY.zip without it."`
	Seq  int64  `help:"Of an earlier closing, from 1; the last one without it."`
}

// Run writes the proof of a day into a file that is not there yet.
func (c *reconcilePack) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) (err error) {
		p, err := co.reconciler.Pack(ctx, billDay(c.Date), c.Seq)
		if err != nil {
			return err
		}
		name := cmp.Or(c.File, p.Name())
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(p.WriteZIP(ctx, file), file.Close()); err != nil {
			return errors.Join(err, os.Remove(name))
		}
		says := "nobody has closed this day: it is as it stands now"
		if p.Closing != nil {
			says = "as " + p.Closing.Who + " closed it at " + stamp(p.Closing.At)
		}
		screen.Printf(t.Out, "%s\t%s\n", name, says)
		return nil
	})
}

// reconcileDifference is `orderd reconcile difference`.
type reconcileDifference struct {
	output
	ID string `arg:"" help:"Of the difference."`
}

// Run shows a difference, what can be done about it, and what was said and done.
func (c *reconcileDifference) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		d, err := co.reconciler.Difference(ctx, c.ID)
		if err != nil {
			return err
		}
		notes, err := co.reconciler.Notes(ctx, d.ID)
		if err != nil {
			return err
		}
		v := console.ViewDifference(&d, time.Now())
		v.Notes = notes[d.ID]
		return c.show(t, v, func(w io.Writer) {
			screen.Printf(w, "%s\t%s of %s\n", d.ID, d.Kind.Label()+" "+string(d.Kind), d.Date)
			screen.Printf(w, "status\t%s %s, %d days\n", d.Status, resolutionOf(&d), v.AgeDays)
			screen.Printf(w, "ours\t%s %s\nbill\t%s %s\nnumber\t%s\norder\t%s\n", d.OursFen, d.OursState, d.BillFen,
				d.BillState, d.Ref, d.OrderNo)
			screen.Printf(w, "assignee\t%s\n", cmp.Or(d.Assignee, "nobody"))
			for _, a := range v.Choices {
				screen.Printf(w, "can be done\t%s: %s\n", a.Action, a.Does)
			}
			for _, n := range v.Notes {
				screen.Printf(w, "%s\t%s %s %s %s\n", stamp(n.At), n.Who, n.What, n.Word, n.Text)
			}
		})
	})
}

// reconcileAssign is `orderd reconcile assign`.
type reconcileAssign struct {
	output
	person
	ID string `arg:"" help:"Of the difference."`
	To string `required:"" help:"A person of finance; \"\" for nobody."`
}

// Run gives a difference to somebody.
func (c *reconcileAssign) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.aboutBills(ctx, s, func(co *core, cause reconcile.Cause) error {
		d, err := co.reconciler.Assign(ctx, reconcile.Assign{ID: c.ID, To: c.To, Cause: cause})
		if err != nil {
			return err
		}
		return c.show(t, console.ViewDifference(&d, time.Now()), func(w io.Writer) {
			screen.Printf(w, "%s\t%s\n", d.ID, cmp.Or(d.Assignee, "nobody"))
		})
	})
}

// comment is the text of `orderd reconcile comment`.
type comment string

// Validate is for kong.
func (c comment) Validate() error {
	if wrong := bounds.Comment.Check(string(c)); wrong != nil {
		return errors.New(wrong.Detail)
	}
	return nil
}

// reconcileComment is `orderd reconcile comment`.
type reconcileComment struct {
	output
	person
	ID   string  `arg:"" help:"Of the difference."`
	Text comment `arg:"" help:"What is to be said; it stays."`
}

// Run says something about a difference.
func (c *reconcileComment) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.aboutBills(ctx, s, func(co *core, cause reconcile.Cause) error {
		n, err := co.reconciler.Comment(ctx, reconcile.Comment{ID: c.ID, Text: string(c.Text), Cause: cause})
		if err != nil {
			return err
		}
		return c.show(t, n, func(w io.Writer) { screen.Printf(w, "%s\t%s\t%s\n", stamp(n.At), n.Who, n.Text) })
	})
}

// reconcileWork is `orderd reconcile work`.
type reconcileWork struct {
	File     string `arg:"" type:"path" help:"The workbook to write."`
	Assignee string `help:"${reconcile_assignee}"`
	Age      int    `help:"Those that have been open for so many days."`
}

// Run writes the workbook that finance fills in, into a file that is not there yet.
func (c *reconcileWork) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		f := reconcile.DifferenceFilter{Status: reconcile.StatusOpen, Assignee: assigneeOf(c.Assignee)}
		f.OlderThan(time.Now(), c.Age)
		file, err := os.OpenFile(c.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(co.reconciler.WriteWork(ctx, file, f), file.Close()); err != nil {
			return errors.Join(err, os.Remove(c.File))
		}
		screen.Printf(t.Out, "%s: fill it in, then 'orderd reconcile import %s'\n", c.File, c.File)
		return nil
	})
}

// assigneeOf reads an assignee as a person writes it: - is nobody.
func assigneeOf(text string) string {
	if text == "-" {
		return reconcile.Nobody
	}
	return text
}

// reconcileImport is `orderd reconcile import`.
type reconcileImport struct {
	output
	person
	File string `arg:"" type:"existingfile" help:"A workbook of 'reconcile work', filled in."`
	Yes  bool   `help:"Do it; without it nothing is done, and what would be is shown."`
}

// Run says row by row what a workbook would do, or does it. What was refused or went wrong is an
// error, after all the rest was done.
func (c *reconcileImport) Run(ctx context.Context, s *settings, t *terminal) error {
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(file, reconcile.MaxImport+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return c.aboutBills(ctx, s, func(co *core, cause reconcile.Cause) error {
		p := t.progress()
		done, err := co.reconciler.Import(ctx, reconcile.Import{File: text, Apply: c.Yes, Cause: cause,
			Progress: func(done, total int) { p.Show("rows %d/%d", done, total) }})
		p.End()
		if err != nil {
			return err
		}
		if err := c.show(t, done, func(w io.Writer) { writeImported(w, &done) }); err != nil {
			return err
		}
		bad := done.Counts[reconcile.OutcomeRefused] + done.Counts[reconcile.OutcomeFailed]
		switch {
		case bad > 0:
			return fmt.Errorf("%d steps were refused, or failed", bad)
		case !c.Yes && len(done.Rows) > 0:
			screen.Printf(t.Err, "nothing was done yet: 'orderd reconcile import %s --yes' does it\n", c.File)
		}
		return nil
	})
}

// writeImported prints what became of each row.
func writeImported(w io.Writer, done *reconcile.Imported) {
	screen.Printf(w, "ROW\tDIFFERENCE\tTYPE\tWHAT\tVALUE\tOUTCOME\tWHY\n")
	for _, row := range done.Rows {
		for _, s := range row.Steps {
			screen.Printf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Row, row.ID, row.Kind, s.What,
				strings.TrimSpace(s.Word+" "+s.Text), s.Outcome, s.Why)
		}
	}
}
