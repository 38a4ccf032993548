package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"orderd/cmd/screen"
	"orderd/order"
	"orderd/scheduler"
)

// tasksCmd is `orderd tasks …`. All of it reads the database: Redis has only copies.
type tasksCmd struct {
	Due  tasksDue `cmd:"" help:"Show by the minute how many timeouts come due, and what is late."`
	Dead deadCmd  `cmd:"" help:"Look at the tasks that failed, run them again, discard them."`
}

// deadCmd is `orderd tasks dead …`.
type deadCmd struct {
	List    deadList    `cmd:"" help:"List failed tasks, the last one first."`
	Groups  deadGroups  `cmd:"" help:"Count failed tasks by their error."`
	Run     deadRun     `cmd:"" help:"Run failed tasks now, with all their tries. Without --yes: say how many."`
	Discard deadDiscard `cmd:"" help:"Forget failed tasks; orders are not touched. Without --yes: say how many."`
}

// failedFilter says which failed tasks are meant: those that fit all of its fields.
type failedFilter struct {
	State  string    `enum:"dead,failing" default:"dead" help:"${failed_filter_state}"`
	Type   string    `help:"order:expire or refund:ask."`
	Cause  string    `help:"A part of the last error."`
	Error  string    `help:"The last error, all of it, as 'tasks dead groups' shows it."`
	Before time.Time `help:"Failed last before this time, such as 2026-11-20T13:42:05Z."`
	After  time.Time `help:"Failed last at this time or after."`
}

// filter gives the filter without the state, which an id does not need: it means its task
// whether that is dead or failing.
func (f failedFilter) filter() scheduler.Filter {
	return scheduler.Filter{Type: f.Type, Cause: f.Cause, Error: f.Error, FailedBefore: f.Before, FailedAfter: f.After}
}

// deadList is `orderd tasks dead list`.
type deadList struct {
	output
	failedFilter
	Limit  pageRows `default:"50" help:"1 to 200."`
	Cursor string   `help:"Go on where a page ended."`
}

// Run lists failed tasks.
func (c *deadList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		f := c.filter()
		f.State = c.State
		tasks, next, err := co.failures.List(ctx, f, c.Cursor, int(c.Limit))
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		return c.show(t, append([]scheduler.FailedTask{}, tasks...), func(w io.Writer) { writeFailed(w, tasks) })
	})
}

// writeFailed prints failed tasks as a table.
func writeFailed(w io.Writer, tasks []scheduler.FailedTask) {
	screen.Printf(w, "ID\tSTATE\tTRIED\tFIRST\tLAST\tERROR\tPAYLOAD\n")
	for i := range tasks {
		x := &tasks[i]
		screen.Printf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", x.ID, x.State, x.Tried, stamp(x.FirstAt), stamp(x.LastAt),
			x.Error, x.Payload)
	}
}

// deadGroups is `orderd tasks dead groups`.
type deadGroups struct {
	output
	State string `enum:"dead,failing" default:"dead" help:"${failed_filter_state}"`
}

// Run counts failed tasks by type and error.
func (c *deadGroups) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		groups, whole, err := co.failures.Groups(ctx, c.State)
		if err != nil {
			return err
		}
		if !whole {
			screen.Printf(t.Err, "there are too many: these are of the tasks that failed last\n")
		}
		return c.show(t, append([]scheduler.Group{}, groups...), func(w io.Writer) {
			screen.Printf(w, "COUNT\tTYPE\tSTATE\tFIRST\tLAST\tERROR\n")
			for i := range groups {
				g := &groups[i]
				screen.Printf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", g.Count, g.Type, g.State, stamp(g.FirstAt),
					stamp(g.LastAt), g.Error)
			}
		})
	})
}

// deadAct is a verb about one failed task, or all that a filter means. A slip of the hand
// must not discard a thousand of them: no filter at all needs --all.
type deadAct struct {
	output
	confirm
	failedFilter
	ID  string `arg:"" optional:"" help:"Of the list; else a filter, or --all."`
	All bool   `help:"All of the state, where there is no other filter."`
}

// sample is how many of the tasks meant are shown before anything is done.
const sample = 5

// meant gives the tasks that the words mean, errUsage for words that mean none or two
// things.
func (c deadAct) meant() (scheduler.Filter, error) {
	f := c.filter()
	switch empty := f.Empty(); {
	case c.ID != "" && (!empty || c.All):
		return f, fmt.Errorf("%w: an id, or a filter, not both", errUsage)
	// An id is type and key; ParseFailedID does not look whether there is such a task.
	case c.ID != "":
		typ, key, err := scheduler.ParseFailedID(c.ID)
		if err != nil {
			return f, fmt.Errorf("%w: %q is no id of 'orderd tasks dead list'", errUsage, c.ID)
		}
		return scheduler.Filter{Type: typ, Keys: []string{key}}, nil
	case empty && !c.All:
		return f, fmt.Errorf("%w: which tasks? Give an id, --type, --cause, --error, --before or --after; or --all",
			errUsage)
	}
	f.State = c.State
	return f, nil
}

// act shows what is meant, asks, and does it. How many were done is printed with an error
// too. Tasks that fail or end between the count and the deed make the two differ.
func (c deadAct) act(ctx context.Context, s *settings, t *terminal, verb string,
	do func(*core, scheduler.Filter) (int, error)) error {
	f, err := c.meant()
	if err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		var answer struct {
			Matched int `json:"matched"`
			Done    int `json:"done"`
		}
		if answer.Matched, err = co.failures.Match(ctx, f); err != nil {
			return err
		}
		if answer.Matched == 0 && c.ID != "" {
			return scheduler.ErrNoFailedTask
		}
		if !c.Yes && answer.Matched > 0 {
			if err := c.preview(ctx, co, t, f, answer.Matched); err != nil {
				return err
			}
		}
		if answer.Matched > 0 {
			if err := c.ask(t, verb+" them?"); err != nil {
				return err
			}
			if err := co.begin(ctx); err != nil {
				return err
			}
			answer.Done, err = do(co, f)
		}
		return errors.Join(err, c.show(t, answer, func(w io.Writer) {
			screen.Printf(w, "%d matched, %d done\n",
				answer.Matched, answer.Done)
		}))
	})
}

// preview shows on standard error how many tasks are meant, and the first sample of them:
// the answer on standard output stays one that a program can read.
func (c deadAct) preview(ctx context.Context, co *core, t *terminal, f scheduler.Filter, n int) error {
	first, _, err := co.failures.List(ctx, f, "", sample)
	if err != nil {
		return err
	}
	screen.Printf(t.Err, "%d failed task(s) match; the last to fail are:\n", n)
	return output{}.show(&terminal{Out: t.Err}, nil, func(w io.Writer) { writeFailed(w, first) })
}

// deadRun is `orderd tasks dead run`. They are run by the workers of the service.
type deadRun struct{ deadAct }

// Run makes failed tasks due.
func (c *deadRun) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.act(ctx, s, t, "Run", func(co *core, f scheduler.Filter) (int, error) { return co.failures.Run(ctx, f) })
}

// deadDiscard is `orderd tasks dead discard`.
type deadDiscard struct {
	deadAct
	Reason reason `required:"" help:"Why; printed with your name, for the record of the shell."`
}

// Run forgets failed tasks. It prints who did it and why, because the rows are gone then
// and there is no timeline for tasks.
func (c *deadDiscard) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.act(ctx, s, t, "Discard", func(co *core, f scheduler.Filter) (int, error) {
		n, err := co.failures.Discard(ctx, f)
		screen.Printf(t.Err, "%s %s discarded %d failed task(s): %s\n", stamp(co.clock.Now().UTC()), byWhom(), n,
			c.Reason)
		return n, err
	})
}

// maxHorizon bounds the histogram to 1440 minutes of two states.
const maxHorizon = 24 * time.Hour

// tasksDue is `orderd tasks due`: a histogram of the open orders by the minute in which
// somebody looks at them next.
type tasksDue struct {
	output
	Horizon time.Duration `default:"1h" help:"How far ahead, at most 24h."`
}

// Run shows what comes due.
func (c *tasksDue) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.Horizon < 0 || c.Horizon > maxHorizon {
		return fmt.Errorf("%w: --horizon is 0 to 24h", errUsage)
	}
	return withCore(ctx, s, func(co *core) error {
		due, err := co.orders.DueByMinute(ctx, c.Horizon)
		if err != nil {
			return err
		}
		return c.show(t, append([]order.DueMinute{}, due...), func(w io.Writer) {
			var most int64 = 1
			for _, m := range due {
				most = max(most, m.Pending+m.Closing)
			}
			screen.Printf(w, "MINUTE\tUNPAID\tCLOSING\t\n")
			for _, m := range due {
				from := "overdue"
				if m.From != nil {
					from = m.From.Format("2006-01-02 15:04Z")
				}
				n := m.Pending + m.Closing
				screen.Printf(w, "%s\t%d\t%d\t%s\n", from, m.Pending, m.Closing,
					strings.Repeat("#", int((n*barWidth+most-1)/most)))
			}
		})
	})
}

// barWidth is the longest bar in characters: the table fits a terminal of 80.
const barWidth = 40
