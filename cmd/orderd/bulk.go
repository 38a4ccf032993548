package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
	"orderd/order/bulk"
)

// bulkCmd is `orderd bulk …`.
type bulkCmd struct {
	Ask     bulkAsk     `cmd:"" help:"Ask WeChat Pay about all orders of a filter that a payment was opened for."`
	Close   bulkClose   `cmd:"" help:"Close all unpaid orders of a filter."`
	Approve bulkApprove `cmd:"" help:"Approve all refunds that wait for one person; a large sum waits for a second."`
	List    bulkList    `cmd:"" help:"List what was started, the newest first."`
	Show    bulkShow    `cmd:"" help:"Show how far one is, and what came of each row."`
	Stop    bulkStop    `cmd:"" help:"Stop one after the row that is being done."`
	Resume  bulkResume  `cmd:"" help:"Have one that was stopped go on; of a large sum, as the second person."`
}

// bulkStart is a verb that starts a run.
type bulkStart struct {
	output
	confirm
	person
	Count  int64  `help:"How many they are, as --dry-run says; without it a person is asked to type it."`
	Seen   string `help:"What stands for them all, as --dry-run says; needed with --count and --yes."`
	ID     string `help:"A ULID for the run: the same command with it again is the same run. Default: a new one."`
	DryRun bool   `help:"Say what would be done, and do nothing."`
	Reason reason `required:"" help:"Why, for the timelines."`
}

// bulkOrders are the filters of runs about orders.
type bulkOrders struct {
	bulkStart
	State    order.State `help:"pending, closing, closed, paid, refunding, refunded or late."`
	Customer string      `help:"Customer id."`
	SKU      string      `name:"sku" help:"With this SKU; needs --placed-from and --placed-to, or --customer."`
	Stuck    bool        `help:"Only orders overdue by more than five minutes."`
	From     time.Time   `name:"placed-from" help:"Placed at this time or after, such as 2026-11-20T13:42:05Z."`
	To       time.Time   `name:"placed-to" help:"Placed before this time."`
}

// filter is what the flags mean.
func (c *bulkOrders) filter() bulk.Filter {
	return bulk.Filter{Orders: order.Filter{State: c.State, CustomerID: c.Customer, SkuID: c.SKU, Stuck: c.Stuck,
		CreatedFrom: c.From, CreatedTo: c.To}}
}

// bulkAsk is `orderd bulk ask`.
type bulkAsk struct{ bulkOrders }

// Run asks WeChat Pay about orders.
func (c *bulkAsk) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.start(ctx, s, t, bulk.KindAsk, c.filter())
}

// bulkClose is `orderd bulk close`.
type bulkClose struct{ bulkOrders }

// Run closes orders.
func (c *bulkClose) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.start(ctx, s, t, bulk.KindClose, c.filter())
}

// bulkApprove is `orderd bulk approve`.
type bulkApprove struct {
	bulkStart
	Of    string `enum:",aftersale,late,duplicate,held" default:"" help:"aftersale, late, duplicate or held."`
	Order string `help:"Of this order."`
}

// Run approves refunds.
func (c *bulkApprove) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.start(ctx, s, t, bulk.KindApprove, bulk.Filter{Refunds: order.RefundFilter{Reason: c.Of,
		OrderNo: c.Order}})
}

// start says what is meant, has the number typed, and works at the run until it has ended: this process, or a service
// that runs.
func (c *bulkStart) start(ctx context.Context, s *settings, t *terminal, kind bulk.Kind, f bulk.Filter) error {
	return withCore(ctx, s, func(co *core) error {
		by, err := c.who(ctx, co, kind.Role())
		if err != nil {
			return err
		}
		a := bulk.Ask{ID: c.ID, Kind: kind, Filter: f, Count: c.Count, Seen: c.Seen, Actor: by,
			Reason: string(c.Reason)}
		was, err := co.bulk.Find(ctx, c.ID)
		switch {
		case errors.Is(err, bulk.ErrNotFound) || c.DryRun:
			if shown, err := c.confirmed(ctx, co, t, &a); err != nil || shown {
				return err
			}
		case err != nil:
			return err
		case a.Count == 0: // it has begun, and less is left by now
			a.Count = was.Total
		}
		if a.ID == "" {
			a.ID = bulk.NewID(co.clock.Now())
		}
		if err := co.begin(ctx); err != nil {
			return err
		}
		run, err := co.bulk.Start(ctx, &a)
		if err != nil {
			return err
		}
		return c.work(ctx, co, t, &run)
	})
}

// confirmed shows what is meant, and has a person say how many that is; shown: that was all that was wanted.
func (c *bulkStart) confirmed(ctx context.Context, co *core, t *terminal, a *bulk.Ask) (shown bool, err error) {
	p, err := co.bulk.Look(ctx, a.Kind, &a.Filter)
	if err != nil {
		return false, err
	}
	if c.DryRun {
		return true, c.show(t, console.ViewBulkPreview(a.Kind, &p), func(w io.Writer) {
			previewRows(w, &p)
			screen.Printf(w, "--count %d --seen %s\n", p.Count, p.Seen)
		})
	}
	if c.Yes && c.Count > 0 && c.Seen == "" {
		return false, fmt.Errorf("%w: say what was seen, as --dry-run says: --seen", errUsage)
	}
	if !c.Yes {
		if err := screen.Table(t.Err, func(w io.Writer) { previewRows(w, &p) }); err != nil {
			return false, err
		}
	}
	if a.Seen == "" {
		a.Seen = p.Seen
	}
	if c.Count == 0 && p.Count > 0 {
		a.Count, err = c.typed(t, p.Count)
		return false, err
	}
	if p.Count > 0 {
		return false, c.ask(t, fmt.Sprintf("%s of %d?", a.Kind, p.Count))
	}
	return false, nil
}

// work shows how far a run is until it has ended.
func (c *output) work(ctx context.Context, co *core, t *terminal, run *bulk.Run) error {
	screen.Printf(t.Err, "run %s\n", run.ID)
	line := t.progress()
	ended, err := co.bulk.Work(ctx, run.ID, func(r bulk.Run) {
		line.Show("%d of %d: %d done, %d changed, %d failed", r.Total-r.Waits(), r.Total, r.Done, r.Changed, r.Failed)
	})
	line.End()
	if err != nil {
		return fmt.Errorf("a running service goes on with %[1]s, or 'orderd bulk resume %[1]s': %[2]w", run.ID, err)
	}
	if ended.State == bulk.StateStopped {
		screen.Printf(t.Err, "stopped: %s\n", ended.Note)
		if co.bulk.TakesTwo(ended.Kind, ended.Sum) {
			screen.Printf(t.Err, "%s\n", goesByAnother(ended.ID))
		}
	}
	return c.show(t, console.ViewBulk(&ended), func(w io.Writer) { writeRuns(w, []bulk.Run{ended}) })
}

// goesByAnother is the second step of a run that takes two people.
func goesByAnother(id string) string {
	return "a second person has it go on, 'orderd bulk resume " + id + " --reason …', with a token of their own " +
		"(--token-file)"
}

// turn stops a run, or has it go on, by whoever may start one of its kind.
func (p person) turn(ctx context.Context, co *core, id, reason string, turn func(ctx context.Context, id, by,
	reason string) (bulk.Run, error)) (bulk.Run, error) {
	run, err := co.bulk.Find(ctx, id)
	if err != nil {
		return bulk.Run{}, err
	}
	by, err := p.who(ctx, co, run.Kind.Role())
	if err != nil {
		return bulk.Run{}, err
	}
	return turn(ctx, id, by, reason)
}

// typed has a person type how many there are. Without a terminal a script says it.
func (c *bulkStart) typed(t *terminal, count int64) (int64, error) {
	if c.Yes || !t.Ask {
		return 0, fmt.Errorf("%w: say how many are meant, as --dry-run says: --count %d --seen …", errUsage,
			count)
	}
	screen.Printf(t.Err, "Type how many there are: ")
	line, _ := bufio.NewReader(t.In).ReadString('\n') // the end of the input is an empty answer
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, errors.New("not done")
	}
	return n, nil
}

// previewRows shows what is meant, and the first of it.
func previewRows(w io.Writer, p *bulk.Preview) {
	screen.Printf(w, "%d, %s yuan\n", p.Count, p.Sum)
	for i := range p.First {
		screen.Printf(w, "  %s %s\n", p.First[i].Ref, p.First[i].Amount)
	}
}

// writeRuns prints runs as a table.
func writeRuns(w io.Writer, runs []bulk.Run) {
	screen.Printf(w, "RUN\tACT\tSTATE\tALL\tYUAN\tDONE\tCHANGED\tFAILED\tBY\tSTARTED\tFILTER\n")
	for i := range runs {
		r := &runs[i]
		screen.Printf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", r.ID, r.Kind, r.State, r.Total, r.Sum, r.Done,
			r.Changed, r.Failed, r.Actor, stamp(r.CreatedAt), r.Filter)
	}
}

// bulkList is `orderd bulk list`.
type bulkList struct {
	output
	Limit  pageRows `default:"50" help:"1 to 200."`
	Cursor string   `help:"Go on where a page ended."`
}

// Run lists runs.
func (c *bulkList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		runs, next, err := co.bulk.List(ctx, c.Cursor, int(c.Limit))
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		return c.show(t, viewed(runs, console.ViewBulk), func(w io.Writer) { writeRuns(w, runs) })
	})
}

// bulkShow is `orderd bulk show`.
type bulkShow struct {
	output
	Of    string   `arg:"" name:"run" help:"Its id."`
	State string   `enum:",waiting,doing,done,changed,failed" default:"" help:"Rows of this state alone."`
	Limit pageRows `default:"50" help:"1 to 200."`
	After int64    `help:"Go on after this row."`
}

// Run shows a run and a page of its rows.
func (c *bulkShow) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		run, err := co.bulk.Find(ctx, c.Of)
		if err != nil {
			return err
		}
		rows, next, err := co.bulk.Rows(ctx, run.ID, bulk.RowState(c.State), c.After, int(c.Limit))
		if err != nil {
			return err
		}
		if next > 0 {
			defer screen.Printf(t.Err, "more: --after %d\n", next)
		}
		v := struct {
			console.BulkView
			Rows []console.BulkRow `json:"rows"`
		}{console.ViewBulk(&run), viewed(rows, console.ViewBulkRow)}
		return c.show(t, v, func(w io.Writer) {
			writeRuns(w, []bulk.Run{run})
			screen.Printf(w, "\nROW\tNUMBER\tYUAN\tSTATE\tWHY\n")
			for i := range rows {
				r := &rows[i]
				screen.Printf(w, "%d\t%s\t%s\t%s\t%s\n", r.Seq, r.Ref, r.Amount, r.State, r.Detail)
			}
		})
	})
}

// bulkStop is `orderd bulk stop`.
type bulkStop struct {
	output
	person
	Of     string `arg:"" name:"run" help:"Its id."`
	Reason reason `required:"" help:"Why; it stands with the run."`
}

// Run stops a run.
func (c *bulkStop) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		run, err := c.turn(ctx, co, c.Of, string(c.Reason), co.bulk.Stop)
		if err != nil {
			return err
		}
		return c.show(t, console.ViewBulk(&run), func(w io.Writer) { writeRuns(w, []bulk.Run{run}) })
	})
}

// bulkResume is `orderd bulk resume`.
type bulkResume struct {
	output
	person
	Of     string `arg:"" name:"run" help:"Its id."`
	Reason reason `required:"" help:"Why; it stands with the run."`
}

// Run has a run that was stopped go on, in the name of whoever has started it, and works at it until it has ended: this
// process, or a service that runs.
func (c *bulkResume) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		run, err := c.turn(ctx, co, c.Of, string(c.Reason), co.bulk.Resume)
		if err != nil {
			return err
		}
		return c.work(ctx, co, t, &run)
	})
}
