package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/stock"
)

// stockGate is `orderd stock gate`: how a SKU is sold in a flash sale. With a mode it says so
// anew, all of it: what is not given is its default, and not what it was.
type stockGate struct {
	confirm
	output
	SKU         string    `arg:"" help:"The SKU."`
	Mode        string    `enum:",off,local,redis" default:"" help:"${gate_mode}"`
	Sale        string    `help:"Name of the sale: SKUs of one name share the limit (default: the SKU's own)."`
	PerCustomer int64     `help:"Units that one customer may have in the sale; 0: no limit."`
	OpensAt     time.Time `placeholder:"TIME" help:"When it begins, 2026-11-11T00:00:00+08:00 (default: at once)."`
	ClosesAt    time.Time `placeholder:"TIME" help:"When it ends (default: never)."`
	Buckets     int64     `help:"Buckets in Redis."`
	Rate        int64     `help:"Orders a second that are created of a queue; 0: no queue."`
	Reason      reason    `help:"Why; with --mode."`
}

// gateShown is a gate as the verb shows it, in the names of the API.
type gateShown struct {
	SkuID string            `json:"sku_id"`
	Gate  *console.GateView `json:"gate"` // null: it has never had one
}

// Run shows the gate of a SKU, or sets it. It acts on what it has read and shown: a gate that
// was changed meanwhile stays as it is.
func (c *stockGate) Run(ctx context.Context, s *settings, t *terminal) error {
	given := c.change()
	if c.Mode == "" && given != (stock.GateChange{SkuID: c.SKU, Actor: given.Actor}) {
		return fmt.Errorf("%w: say --mode too: it sets the whole gate", errUsage)
	}
	if c.Mode != "" && c.Reason == "" {
		return fmt.Errorf("%w: --mode needs --reason", errUsage)
	}
	return withCore(ctx, s, func(co *core) error {
		if _, err := co.stock.Find(ctx, c.SKU); err != nil {
			return err
		}
		g, found, err := co.stock.FindGate(ctx, c.SKU)
		if err != nil {
			return err
		}
		if c.Mode != "" {
			given.IfVersion = g.Version
			if err := c.ask(t, gateQuestion(&given)); err != nil {
				return err
			}
			if err := co.begin(ctx); err != nil {
				return err
			}
			if g, err = co.stock.SetGate(ctx, given); err != nil {
				return err
			}
			found = true
		}
		return c.showGate(t, &g, found)
	})
}

// change is what the command line says of the gate.
func (c *stockGate) change() stock.GateChange {
	return stock.GateChange{SkuID: c.SKU, Mode: stock.GateMode(c.Mode), Sale: c.Sale, Buckets: c.Buckets, Rate: c.Rate,
		PerCustomer: c.PerCustomer, OpensAt: c.OpensAt, ClosesAt: c.ClosesAt, Actor: byWhom(), Reason: string(c.Reason)}
}

// gateQuestion says to a person what a change does.
func gateQuestion(g *stock.GateChange) string {
	if g.Mode == stock.GateOff {
		return fmt.Sprintf("Sell %s by the database alone, without times and limits?", g.SkuID)
	}
	words := []string{fmt.Sprintf("Sell %s in mode %s", g.SkuID, g.Mode)}
	if !g.OpensAt.IsZero() {
		words = append(words, "from "+stamp(g.OpensAt.UTC()))
	}
	if !g.ClosesAt.IsZero() {
		words = append(words, "to "+stamp(g.ClosesAt.UTC()))
	}
	if g.PerCustomer > 0 {
		words = append(words, fmt.Sprintf("at most %d units a customer", g.PerCustomer))
	}
	return strings.Join(words, ", ") + "?"
}

// showGate shows a gate.
func (c *stockGate) showGate(t *terminal, g *stock.Gate, found bool) error {
	shown := gateShown{SkuID: c.SKU}
	if found {
		v := console.ViewGate(g)
		shown.Gate = &v
	}
	return c.show(t, shown, func(w io.Writer) {
		v := shown.Gate
		if v == nil {
			screen.Printf(w, "%s has never had a gate: the database decides\n", c.SKU)
			return
		}
		screen.Printf(w, "sku\t%s\nsale\t%s\nmode\t%s\nstate\t%s\n", c.SKU, v.Sale, v.Mode, v.State)
		screen.Printf(w, "opens\t%s\ncloses\t%s\n", timeOr(v.OpensAt, "at once"), timeOr(v.ClosesAt, "never"))
		screen.Printf(w, "per customer\t%s\n", limitOr(v.PerCustomer))
		screen.Printf(w, "set by\t%s (%s), version %d: %s\n", v.Actor, v.Origin, v.Version, v.Reason)
	})
}

// timeOr shows a time, or what no time means.
func timeOr(at *string, none string) string {
	if at == nil {
		return none
	}
	return *at
}

// limitOr shows a limit of units.
func limitOr(units int64) string {
	if units == 0 {
		return "no limit"
	}
	return fmt.Sprint(units)
}

// stockGates is `orderd stock gates`.
type stockGates struct{ output }

// Run lists the gates that are not off, with their units.
func (c *stockGates) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		gates, err := co.stock.GateStocks(ctx)
		if err != nil {
			return err
		}
		all := make([]console.SaleView, len(gates)) // never nil: none is [], not null
		for i := range gates {
			all[i] = console.ViewSale(&gates[i])
		}
		return c.show(t, all, func(w io.Writer) {
			screen.Printf(w, "SKU\tSALE\tMODE\tON SALE\tPOOL\tALLOCATED\tHOLDERS\tPER CUSTOMER\tOPENS\tORIGIN\n")
			for i := range all {
				v := &all[i]
				screen.Printf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", v.SkuID, v.Sale, v.Mode, soldWord(v),
					v.Pool, v.Allocated, v.Holders, limitOr(v.PerCustomer), timeOr(v.OpensAt, "at once"), v.Origin)
			}
		})
	})
}

// soldWord says whether a SKU is sold.
func soldWord(v *console.SaleView) string {
	switch {
	case v.State == "ended":
		return v.State
	case v.SoldOut:
		return "sold out"
	}
	return "yes"
}
