package main

import (
	"context"
	"fmt"
	"io"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
)

// findCmd is `orderd find`.
type findCmd struct {
	output
	Text string `arg:"" name:"any" help:"${find_any}"`
}

// Run shows whatever has this number or id; nothing is order.ErrNotFound.
func (c *findCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		hits, err := co.orders.Search(ctx, c.Text)
		if err != nil {
			return err
		}
		if len(hits) == 0 {
			return fmt.Errorf("%w: nothing has %q as order_no, out_trade_no, transaction_id, out_refund_no, "+
				"refund_id, a shop's reference, what it attached, customer, SKU or the beginning of a title",
				order.ErrNotFound, c.Text)
		}
		return c.show(t, console.ViewFound(c.Text, hits), func(w io.Writer) {
			screen.Printf(w, "WHAT\tNUMBER\tORDER\tLOOK AT IT\n")
			for _, h := range hits {
				screen.Printf(w, "%s\t%s\t%s\torderd %s\n", h.Kind, h.ID, h.OrderNo, lookAt(h))
			}
		})
	})
}

// lookAt is the verb that shows what was found.
func lookAt(h order.Hit) string {
	switch h.Kind {
	case order.HitRefund:
		return "refund get " + h.ID
	case order.HitCustomer:
		return "order list --customer " + h.ID
	case order.HitSKU:
		return "stock show " + h.ID
	case order.HitOrder, order.HitAttempt, order.HitPayment, order.HitReference, order.HitAttach:
	}
	switch {
	case h.OrderNo != "":
		return "order get " + h.OrderNo
	case h.Outcome == order.SettledHeld: // money that names no order of ours
		return "held list"
	case h.Outcome == order.SettledWrittenOff:
		return "held list --written-off"
	}
	return "refund list --transaction " + h.ID // it was held, and went back
}
