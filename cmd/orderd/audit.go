package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/payment/sheet"
	"orderd/payment/trail"
)

// auditCmd is `orderd audit …`: what people did, in the console, by the API and by verbs. Whether it is whole and
// unchanged `orderd verify` checks.
type auditCmd struct {
	List   auditList   `cmd:"" help:"List what people did, newest first."`
	Export auditExport `cmd:"" help:"Write all that people did into a CSV file, with the hashes."`
	Verify auditVerify `cmd:"" help:"Make the hashes of such a file again, without a database."`
}

// auditList is `orderd audit list`.
type auditList struct {
	output
	Actor  string    `help:"Who: a name, or cli:NAME for the shell."`
	Action string    `help:"What, such as order.close."`
	Target string    `help:"Number, id or name of what it was done to."`
	From   time.Time `help:"At this time or after, such as 2026-11-20T13:42:05Z."`
	To     time.Time `help:"Before this time."`
	Limit  pageRows  `default:"50" help:"1 to 200."`
	Cursor string    `help:"Go on after this row."`
}

// Run lists a page. What has no outcome was asked; how it ended says the row of the same act.
func (c *auditList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		rows, next, err := co.trail.List(ctx, trail.Filter{Actor: c.Actor, Action: c.Action, Target: c.Target,
			From: c.From, To: c.To, Limit: int(c.Limit), Cursor: c.Cursor})
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		return c.show(t, viewed(rows, console.ViewTrail), func(w io.Writer) {
			screen.Printf(w, "SEQ\tAT\tACTOR\tACTION\tTARGET\tOUTCOME\tWAS → BECAME\tREASON\tASKED\n")
			for i := range rows {
				r := &rows[i]
				outcome, moved := r.Outcome, ""
				if r.Step == trail.StepAsked {
					outcome = "asked"
				}
				if r.Was+r.Became != "" {
					moved = r.Was + " → " + r.Became
				}
				screen.Printf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Seq, stamp(r.At), r.Actor, r.Action,
					r.Target, outcome, moved, r.Reason, r.Asked)
			}
		})
	})
}

// auditExport is `orderd audit export`.
type auditExport struct {
	File string    `arg:"" type:"path" help:"Made here; one that is there stays as it is."`
	From time.Time `help:"At this time or after; without it, from the beginning."`
	To   time.Time `help:"Before this time; without it, to the end."`
}

// Run writes every row, oldest first, with all that a hash is over. A file that is not whole is taken away again.
func (c *auditExport) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		// Who did what, and from where, is for its owner alone.
		f, err := os.OpenFile(c.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		switch {
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%w: there is a file %s already", errUsage, c.File)
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %w", errUsage, err)
		case err != nil:
			return err
		}
		rows := func(do func(*trail.Entry) error) error { return co.trail.All(ctx, c.From, c.To, do) }
		err = errors.Join(sheet.WriteCSV(f, trail.Table(rows)), f.Close())
		if err != nil {
			return errors.Join(err, os.Remove(c.File))
		}
		screen.Printf(t.Err, "wrote %s\n", c.File)
		return nil
	})
}

// auditVerify is `orderd audit verify`. It needs no database: an auditor has the file alone.
type auditVerify struct {
	File string `arg:"" type:"existingfile" help:"What audit export or the console made."`
	Last string `help:"SHA-256 that a row must have, as the log or a day's proof has it: nothing before is missing."`
}

// Run makes every hash again. A file that is not what was written has the code of a broken invariant.
func (c *auditVerify) Run(t *terminal) error {
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer f.Close()
	wrong := 0
	of, err := trail.CheckFile(f, strings.ToLower(c.Last), func(row string) {
		if wrong++; wrong <= wrongShown {
			screen.Printf(t.Out, "%s\n", row)
		}
	})
	if err != nil {
		return err
	}
	switch {
	case wrong > 0:
		return fmt.Errorf("%w: %s is not what was written: %d rows are wrong", errBroken, c.File, wrong)
	case c.Last != "" && of.Known == 0:
		return fmt.Errorf("%w: no row of %s has that hash: its end is missing, or another; it ends with row %d, "+
			"sha256 %s", errBroken, c.File, of.Last, of.Sum)
	case of.Last == 0:
		screen.Printf(t.Out, "no rows\n")
		return nil
	}
	screen.Printf(t.Out, "rows %d to %d are one chain; the last is %s\n", of.First, of.Last, of.Sum)
	return nil
}

// wrongShown is how many wrong rows are told one by one.
const wrongShown = 20
