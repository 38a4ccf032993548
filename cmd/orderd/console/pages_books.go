package console

import (
	"strings"

	"github.com/labstack/echo/v4"

	"orderd/payment"
	"orderd/payment/reconcile"
)

// reconciliationsPage is GET /ui/reconciliations: the last month and what is open.
func (c *console) reconciliationsPage(ctx echo.Context) error {
	all, open, err := c.Reconciler.Recent(ctx.Request().Context(), daysShown, differencesShown)
	if err != nil {
		return err
	}
	return c.show(ctx, "reconciliations", map[string]any{"Days": all, "Differences": open})
}

// bridgeRow is a line of the way from our rows to the bill: payments and refunds.
type bridgeRow struct {
	Word              string
	Payments, Refunds reconcile.Sum
}

// dayView is one run with its differences.
type dayView struct {
	Day         *reconcile.Stored
	Bridge      []bridgeRow
	States      int64 // rows of both kinds whose states differ
	Text        lines // of a bill that has no bridge
	Differences []reconcile.Difference
	Files       []reconcile.BillFile
}

// dayPage is GET /ui/reconciliations/:id: one run and its differences.
func (c *console) dayPage(ctx echo.Context) error {
	s, all, err := c.Reconciler.Export(ctx.Request().Context(), ctx.Param("id"),
		reconcile.DifferenceFilter{Limit: maxRows})
	if err != nil {
		return reconcileError(err)
	}
	v := dayView{Day: &s, Differences: all}
	switch {
	case s.Result == nil:
	case s.Type == payment.BillFundFlow:
		var text strings.Builder
		if err := reconcile.WriteText(&text, *s.Result); err != nil {
			return err
		}
		v.Text = lines(text.String())
	default:
		v.Bridge = bridgeOf(&s.Result.Payments, &s.Result.Refunds)
		v.States = s.Result.Payments.States + s.Result.Refunds.States
	}
	if v.Files, err = c.Reconciler.Files(ctx.Request().Context(), s.ID()); err != nil {
		return err
	}
	return c.show(ctx, "day", v)
}

// bridgeOf are the lines of a bridge, in the order in which they are added up.
func bridgeOf(p, r *reconcile.Bridge) []bridgeRow {
	sum := func(n int64, f payment.Fen) reconcile.Sum { return reconcile.Sum{Count: n, Fen: f} }
	return []bridgeRow{
		{"bridge.ours", sum(p.OursCount, p.OursFen), sum(r.OursCount, r.OursFen)},
		{"bridge.billonly", p.BillOnly, r.BillOnly},
		{"bridge.localonly", p.LocalOnly, r.LocalOnly},
		{"bridge.amounts", p.Amounts, r.Amounts},
		{"bridge.duplicates", p.Duplicates, r.Duplicates},
		{"bridge.acrossbill", p.AcrossBill, r.AcrossBill},
		{"bridge.acrossours", p.AcrossOurs, r.AcrossOurs},
		{"bridge.other", p.Other, r.Other},
		{"bridge.bill", sum(p.BillCount, p.BillFen), sum(r.BillCount, r.BillFen)},
	}
}
