package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
		err = errors.Join(sheet.WriteCSV(f, console.TrailTable(ctx, co.trail, c.From, c.To)), f.Close())
		if err != nil {
			return errors.Join(err, os.Remove(c.File))
		}
		screen.Printf(t.Err, "wrote %s\n", c.File)
		return nil
	})
}
