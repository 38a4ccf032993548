package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"orderd/cmd/screen"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
)

// verifyCmd is `orderd verify`: every invariant, from the database alone, exit 4 when one
// is broken. docs/verify.md has the checks. It may run beside the service.
type verifyCmd struct {
	output
	// WeChat and Since: the answers of WeChat Pay cost a call each, and are bounded by
	// time.
	WeChat bool          `name:"wechat" help:"Ask WeChat Pay about every payment and refund too, 100 a second."`
	Since  time.Duration `default:"24h" help:"How far back WeChat Pay is asked about."`
	// Quiescent is for tests and for a service that was stopped: in a running one an
	// order that is closing is no mistake.
	Quiescent bool `help:"${verify_quiescent}"`
	// Repair alone plans, Apply does what was planned and is still broken, Reason stands
	// in the timelines.
	Repair bool `help:"${verify_repair}"`
	Apply  bool `help:"With --repair: do it, then verify again. Needs --reason."`
	// Against is the old primary's database, after a fail-over that may have lost writes.
	Against string `placeholder:"DSN" help:"${verify_against}"`
	// Metrics is a file, since no process that is scraped knows what this one found.
	Metrics string `type:"path" placeholder:"FILE" help:"${verify_metrics}"`
	Reason  reason `help:"With --apply: why, for the timelines and the flows."`
}

// verified is what verify shows: the result of the checks, and with --repair what was or
// can be done about it. The JSON of both is a contract with scripts.
type verified struct {
	audit.Report
	Repairs *audit.Repairs `json:"repair,omitempty"`
	Lost    *audit.Lost    `json:"only_in_other,omitempty"`
}

// Run checks every invariant, with --repair after what was or can be repaired. A repair
// needs a reason before anything is done; without --apply nothing is changed.
func (c *verifyCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	switch {
	case c.Apply && !c.Repair:
		return fmt.Errorf("%w: --apply goes with --repair", errUsage)
	case c.Apply && c.Reason == "":
		return fmt.Errorf("%w: --apply needs --reason: it stands in the timelines for ever", errUsage)
	case c.Apply:
		if err := order.CheckRepairReason(string(c.Reason)); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	return withCore(ctx, s, func(co *core) error {
		v := verified{}
		var err error
		if c.Against != "" { // before anything is repaired: another one than asked for is refused
			if v.Lost, err = against(ctx, co, c.Against, t); err != nil {
				return err
			}
		}
		if c.Repair {
			r, err := co.audit.Repair(ctx, audit.RepairOptions{Apply: c.Apply, Reason: string(c.Reason),
				Cause: cliCause()})
			if err != nil {
				return err
			}
			v.Repairs = &r
		}
		if v.Report, err = c.check(ctx, co, t); err != nil {
			return err
		}
		if c.Metrics != "" {
			if err := writeMetrics(c.Metrics, v.Report, time.Now()); err != nil {
				return err
			}
		}
		err = c.show(t, v, v.table)
		switch {
		case err != nil:
			return err
		case v.OK() && v.Lost != nil && v.Lost.Any():
			return fmt.Errorf("%w: the other database has what this one has not; 'orderd held adopt' takes in what "+
				"was paid for it", errLost)
		case v.OK():
			return nil
		// After a repair the rows are those that it could not mend.
		case c.Repair:
			return fmt.Errorf("%w: what is left is named above, with the next step", errBroken)
		}
		return fmt.Errorf("%w: see the rows above; 'orderd order timeline NO' shows what happened to an order, "+
			"'orderd verify --repair' what can be repaired", errBroken)
	})
}

// check verifies, says how far it is, and with --wechat asks
// WeChat Pay too: its checks are appended to those of the database.
func (c verifyCmd) check(ctx context.Context, co *core, t *terminal) (audit.Report, error) {
	p := t.progress()
	defer p.End()
	r, err := co.audit.VerifyWith(ctx, audit.VerifyOptions{Quiescent: c.Quiescent, Primary: c.Repair,
		Progress: func(done, total int, id string) {
			p.Show("%d of %d  %s", done+1, total, id)
		}})
	if err != nil || !c.WeChat {
		return r, err
	}
	w, err := co.audit.VerifyWeChat(ctx, time.Now().Add(-c.Since), func(done int64, id string) {
		p.Show("WeChat Pay %d  %s", done, id)
	})
	r.Checks, r.Took = append(r.Checks, w.Checks...), r.Took+w.Took
	return r, err
}

// against lists what only the database of a DSN has.
func against(ctx context.Context, co *core, dsn string, t *terminal) (l *audit.Lost, err error) {
	p := t.progress()
	defer p.End()
	l = new(audit.Lost)
	err = withOther(ctx, dsn, func(other *sqldb.DB) (err error) {
		*l, err = co.audit.Against(ctx, other, func(table, after string) { p.Show("%s %s", table, after) })
		return err
	})
	return l, err
}

// table prints every check, the rows that break one, and the repairs: one heading for
// each check, because its reason is the same for all of its rows.
func (v verified) table(w io.Writer) {
	for _, check := range v.Checks {
		mark := "ok"
		if check.Count > 0 {
			mark = "BROKEN"
		}
		screen.Printf(w, "%s\t%s\t%s\n", mark, check.ID, check.Meaning)
		for _, row := range check.Violations {
			screen.Printf(w, "\t\t  %s\n", row)
		}
		if more := check.Count - len(check.Violations); more > 0 {
			screen.Printf(w, "\t\t  … and %d more\n", more)
		}
	}
	screen.Printf(w, "\n%d orders, %d payments, %d of them held for a person; %d checks in %s\n",
		v.Orders, v.Payments, v.Held, len(v.Checks), v.Took.Round(time.Millisecond))
	if v.Lost != nil {
		lostTable(w, v.Lost)
	}
	if v.Repairs == nil {
		return
	}
	last := ""
	for _, r := range v.Repairs.Repairs {
		if r.Check != last {
			screen.Printf(w, "\n%s: %s\n  because %s\n", r.Check, r.Do, r.Why)
			last = r.Check
		}
		outcome := r.Outcome
		if outcome == "" {
			outcome = "planned"
		}
		screen.Printf(w, "  %s  %s\n", r.Key, outcome)
	}
	for _, l := range v.Repairs.Left {
		screen.Printf(w, "\n%s (%d): for a person\n  %s\n", l.Check, l.Count, l.Next)
	}
	switch {
	case len(v.Repairs.Repairs) == 0:
		screen.Printf(w, "\nthere is nothing that a program can repair\n")
	case !v.Repairs.Applied:
		screen.Printf(w, "\nnothing was changed; 'orderd verify --repair --apply --reason …' does it\n")
	}
}
