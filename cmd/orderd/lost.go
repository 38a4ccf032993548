package main

import (
	"context"
	"fmt"
	"io"

	"orderd/cmd/screen"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment/operators"
)

// heldAdopt is `orderd held adopt`: after a fail-over that lost writes, WeChat Pay is asked about every trade, payment
// and refund that only the old primary has.
type heldAdopt struct {
	output
	confirm
	person
	Against string `required:"" placeholder:"DSN" help:"${held_adopt_against}"`
	Refund  bool   `help:"${held_adopt_refund}"`
	Reason  reason `required:"" help:"Why, for the timelines."`
}

// Run takes in what was paid, closes what nobody has paid, and with --refund sends back what was paid for lost orders.
func (c *heldAdopt) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := order.CheckRepairReason(string(c.Reason)); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := c.ask(t, c.question(s)); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		why, err := c.cause(ctx, co, operators.Finance)
		if err != nil {
			return err
		}
		var all []audit.Adopted
		err = withOther(ctx, c.Against, func(other *sqldb.DB) error {
			if err := fenced(ctx, other); err != nil {
				return err
			}
			p := t.progress()
			defer p.End()
			lost, err := co.audit.Against(ctx, other, func(table, after string) { p.Show("%s %s", table, after) })
			if err != nil {
				return err
			}
			all, err = co.audit.Adopt(ctx, lost, audit.Adopting{Till: co.orders, Close: co.gateway.Close,
				Refund: c.Refund, Reason: string(c.Reason), Cause: why,
				Progress: func(asked int, id string) { p.Show("WeChat Pay %d  %s", asked, id) }})
			return err
		})
		if all == nil {
			return err
		}
		shown := c.show(t, all, func(w io.Writer) {
			screen.Printf(w, "NUMBER\tORDER\tTRANSACTION\tOUTCOME\tWHY\n")
			for _, one := range all {
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\n", one.Number, one.OrderNo, one.Payment, one.Outcome, one.Reason)
			}
		})
		if err != nil {
			return fmt.Errorf("%w; what is above and not failed is done, run it again for the rest", err)
		}
		return shown
	})
}

// question is what the person agrees to.
func (c *heldAdopt) question(s *settings) string {
	if c.Refund {
		return "Take in what was paid for what only the other database has, SEND THE MONEY OF LOST ORDERS BACK (" +
			s.twoPersons() + "), and close the rest?"
	}
	return "Take in what was paid for what only the other database has, and close the rest?"
}

// withOther opens the other database, whatever it is called, and closes it again.
func withOther(ctx context.Context, dsn string, do func(other *sqldb.DB) error) error {
	other, err := sqldb.OpenExisting(ctx, dsn)
	if err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	defer other.Close()
	return do(other)
}

// fenced refuses another database that takes writes: its orders are not lost, and their trades must not be closed.
func fenced(ctx context.Context, other *sqldb.DB) error {
	if other.Engine() == sqldb.SQLite {
		return nil // a file that somebody has copied
	}
	var readOnly bool
	if err := other.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&readOnly); err != nil {
		return sqldb.Wrap("--against", err)
	}
	if !readOnly {
		return fmt.Errorf("%w: the database of --against takes writes, so that its orders are not lost: is it the old "+
			"primary, and not the one that serves? Then SET GLOBAL read_only = ON there", errUsage)
	}
	return nil
}

// lostTable prints what only the other database has.
func lostTable(w io.Writer, l *audit.Lost) {
	screen.Printf(w, "\nonly the other database has %d orders, %d trades, %d payments, %d refunds\n", len(l.Orders),
		len(l.Trades), len(l.Payments), len(l.Refunds))
	for _, o := range l.Orders {
		screen.Printf(w, "  order\t%s\t%s\t%s\tof %s\n", o.OrderNo, o.State, o.Total, o.CustomerID)
	}
	for _, tr := range l.Trades {
		screen.Printf(w, "  trade\t%s\t%s\t%s\n", tr.OutTradeNo, tr.State, tr.Amount)
	}
	for _, p := range l.Payments {
		screen.Printf(w, "  payment\t%s\t%s\t%s\torder %s\n", p.TransactionID, p.Outcome, p.Amount, p.OrderNo)
	}
	for _, r := range l.Refunds {
		screen.Printf(w, "  refund\t%s\t%s\t%s\torder %s\n", r.OutRefundNo, r.State, r.Amount, r.OrderNo)
	}
}
