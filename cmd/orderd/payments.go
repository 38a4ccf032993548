package main

import (
	"context"
	"io"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
	"orderd/payment/operators"
)

// paymentsCmd is `orderd payments …`.
type paymentsCmd struct {
	Held heldCmd `cmd:"" help:"Payments that fit no order and wait for a person."`
}

// heldMoneyCmd is `orderd held …`.
type heldMoneyCmd struct {
	List    heldList    `cmd:"" default:"withargs" help:"List them."`
	Resolve heldResolve `cmd:"" help:"Decide about one."`
	Adopt   heldAdopt   `cmd:"" help:"${held_adopt}"`
}

// heldResolve is `orderd held resolve`.
type heldResolve struct {
	output
	confirm
	person
	ID     string           `arg:"" name:"transaction-id" help:"Transaction of WeChat Pay."`
	Action order.HeldAction `required:"" enum:"APPLY,REFUND,WRITE_OFF" help:"${held_action}"`
	Reason reason           `required:"" help:"Why, for the timeline."`
}

// Run decides about a payment as the person of the token, or as the shell.
func (c *heldResolve) Run(ctx context.Context, s *settings, t *terminal) error {
	question := string(c.Action) + " the held payment " + c.ID + "?"
	if c.Action == order.HeldRefund {
		question += " (" + s.twoPersons() + ")"
	}
	if err := c.ask(t, question); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		why, err := c.cause(ctx, co, operators.Finance)
		if err != nil {
			return err
		}
		done, err := co.orders.ResolveHeld(ctx, order.ResolveHeld{TransactionID: c.ID, Action: c.Action,
			Reason: string(c.Reason), Cause: why})
		if err != nil {
			return err
		}
		if done.Outcome == order.HeldWaits {
			screen.Printf(t.Err, "proposed, and not done yet: %s\n",
				sameByAnother("held resolve "+c.ID+" --action "+string(c.Action)))
		}
		return c.show(t, console.ViewResolvedHeld(&done), func(w io.Writer) {
			screen.Printf(w, "%s\t%s %s\torder %s\n", done.TransactionID, done.Outcome, done.Reason, done.OrderNo)
		})
	})
}

// heldCmd is `orderd payments held …`.
type heldCmd struct {
	List       heldList       `cmd:"" default:"withargs" help:"List them."`
	JudgeAgain heldJudgeAgain `cmd:"" help:"Judge one again, after the configuration was mended."`
}

// heldList is `orderd payments held list`.
type heldList struct {
	output
	WrittenOff bool     `help:"Those that were held and that two people have written off."`
	Limit      pageRows `default:"50" help:"1 to 200."`
	Cursor     string   `help:"Go on after this transaction."`
}

// Run lists held payments.
func (c *heldList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		list := co.orders.ListHeld
		if c.WrittenOff {
			list = co.orders.ListWrittenOff
		}
		rows, next, err := list(ctx, c.Cursor, int(c.Limit))
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		return c.show(t, viewed(rows, console.ViewHeld), func(w io.Writer) {
			screen.Printf(w, "TRANSACTION\tAMOUNT\tDOES NOT FIT\tORDER\tOUT TRADE NO\tAPP\tPAID\tWRITE-OFF\n")
			for _, h := range rows {
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.TransactionID, h.Total, h.Reason, h.OrderNo,
					h.OutTradeNo, h.AppID, stamp(h.SuccessTime), writeOffOf(&h.WriteOff))
			}
		})
	})
}

// writeOffOf says who has written a held payment off, or proposed to, "" for nobody.
func writeOffOf(w *order.WriteOff) string {
	switch {
	case w.Done():
		return w.Amount.String() + " by " + w.ProposedBy + " and " + w.WrittenOffBy + ", " + stamp(w.WrittenOffAt)
	case w.ProposedBy != "":
		return "proposed by " + w.ProposedBy
	}
	return ""
}

// heldJudgeAgain is `orderd payments held judge-again`.
type heldJudgeAgain struct {
	output
	confirm
	person
	ID     string `arg:"" name:"transaction-id" help:"Transaction of WeChat Pay."`
	Reason reason `required:"" help:"What was mended, for the timeline."`
}

// Run judges a payment again. One that still does not fit is an error that says why.
func (c *heldJudgeAgain) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "Judge "+c.ID+" again? One that fits makes its order paid, or goes back."); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		why, err := c.cause(ctx, co, operators.Finance)
		if err != nil {
			return err
		}
		done, err := co.orders.JudgeHeld(ctx, c.ID, string(c.Reason), why)
		if err != nil {
			return err
		}
		return c.show(t, console.ViewSettlement(&done), func(w io.Writer) {
			screen.Printf(w, "%s\t%s %s\torder %s is %s\n", c.ID, done.Settled, done.Reason, done.OrderNo, done.State)
		})
	})
}
