package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

// stockCmd is `orderd stock …`: what operators' API can do with SKUs, and files.
type stockCmd struct {
	// Files: for the first SKUs of a shop, and for taking them to another database.
	Import stockImport `cmd:"" help:"${stock_import}"`
	Export stockExport `cmd:"" help:"Write all SKUs as such a file."`
	Show   stockShow   `cmd:"" help:"Show a SKU and where its units are, or all SKUs."`
	Flows  stockFlows  `cmd:"" help:"List what moved the units of a SKU, newest orders first."`
	// Movements by hand; each leaves a flow with who and why.
	Replenish stockReplenish `cmd:"" help:"Put more on the shelf."`
	Adjust    stockAdjust    `cmd:"" help:"Correct the shelf after a count."`
	Low       stockLow       `cmd:"" help:"${stock_low}"`
	// Flash sales: docs/flash-sale.md.
	Gate    stockGate    `cmd:"" help:"Show how a SKU is sold in a flash sale, or say so anew."`
	Gates   stockGates   `cmd:"" help:"List the flash sales and where their units are."`
	Buckets stockBuckets `cmd:"" help:"${stock_buckets}"`
	Rebuild stockRebuild `cmd:"" help:"${stock_rebuild}"`
	Verify  stockVerify  `cmd:"" help:"${stock_verify}"`
}

// byWhom names the person at this machine, for flows and timelines: cli: and the name at
// the system, which is no proof. Whoever may run verbs has the database anyway.
func byWhom() string {
	u, err := user.Current()
	if err != nil {
		return "cli"
	}
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, u.Username)
	return bounds.Operator.Cut("cli:" + name)
}

// stockImport is `orderd stock import`. The same file again moves no stock a second time.
type stockImport struct {
	confirm
	output
	File string `arg:"" help:"The CSV file."`
	// Mode matters to SKUs that exist: set makes the shelf what the file says, add adds
	// it.
	Mode stock.Mode `enum:"set,add" default:"set" help:"${stock_import_mode}"`
	// DryRun reports every bad line and writes nothing, so it asks nobody.
	DryRun bool `help:"Check the file only."`
}

// Run imports SKUs; every bad line is reported, and then nothing is written. The report
// is shown with an error too: it says how far the import came.
func (c *stockImport) Run(ctx context.Context, s *settings, t *terminal) error {
	f, err := openFile(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if !c.DryRun {
		if err := c.ask(t, fmt.Sprintf("Import %s (%s)?", c.File, c.Mode)); err != nil {
			return err
		}
	}
	return withCore(ctx, s, func(co *core) error {
		p := t.progress()
		r, err := co.stock.Import(ctx, f, stock.ImportOptions{Mode: c.Mode, DryRun: c.DryRun, Actor: byWhom(),
			Progress: func(done, total int) { p.Show("%d of %d lines", done, total) }})
		p.End()
		show := c.show(t, r, func(w io.Writer) {
			for _, p := range r.Problems {
				screen.Printf(w, "%s\n", p)
			}
			screen.Printf(w, "%d lines: %d SKUs created, %d updated, %d applied before\n", r.Lines, r.Created,
				r.Updated, r.Repeated)
		})
		return errors.Join(err, show)
	})
}

// stockExport is `orderd stock export`: a CSV file that stock import reads.
type stockExport struct{}

// Run writes the SKUs to stdout.
func (*stockExport) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(c *core) error { return c.stock.Export(ctx, t.Out) })
}

// stockShow is `orderd stock show`.
type stockShow struct {
	output
	SKU string `arg:"" optional:"" help:"One SKU; without it all are listed."`
}

// Run shows one SKU with its account, or all.
func (c *stockShow) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		if c.SKU != "" {
			return c.one(ctx, s, co, t)
		}
		// All SKUs are read, so many at a time.
		const all = 500
		var skus []stock.SKU
		for cursor := ""; ; {
			page, err := co.stock.List(ctx, cursor, all)
			if err != nil {
				return err
			}
			skus = append(skus, page...)
			if len(page) < all {
				break
			}
			cursor = page[len(page)-1].SkuID
		}
		return c.show(t, viewed(skus, console.ViewSKU), func(w io.Writer) {
			screen.Printf(w, "SKU\tTITLE\tPRICE\tAVAILABLE\tALLOCATED\n")
			for _, k := range skus {
				screen.Printf(w, "%s\t%s\t%s\t%s\t%d\n", k.SkuID, k.Title, payment.Fen(k.PriceFen), shelf(k),
					k.Allocated)
			}
		})
	})
}

// shelf is the number in the pool, or the word unlimited.
func shelf(k stock.SKU) string {
	if k.Unlimited {
		return "unlimited"
	}
	return fmt.Sprint(k.Available)
}

// one shows a SKU with its account: what came in, and where each unit is now.
func (c stockShow) one(ctx context.Context, s *settings, co *core, t *terminal) error {
	k, err := co.stock.Find(ctx, c.SKU)
	if err != nil {
		return err
	}
	a, err := co.orders.StockAccount(ctx, c.SKU)
	if err != nil {
		return err
	}
	v := console.ViewAccount(&k, &a)
	if v.Queued, err = co.queued(ctx, s, c.SKU); err != nil {
		return err
	}
	return c.show(t, v, func(w io.Writer) {
		screen.Printf(w, "%s %s, %s yuan\n", k.SkuID, k.Title, payment.Fen(k.PriceFen))
		if k.Unlimited {
			screen.Printf(w, "unlimited; reserved %d\n", a.Reserved)
			return
		}
		screen.Printf(w, "came in %d = available %d + allocated %d + reserved %d + sold %d\n", a.CameIn, a.Available,
			a.Allocated, a.Reserved, a.Sold)
		if k.LowAt > 0 {
			screen.Printf(w, "%s\n", lowAt(k))
		}
		if v.Queued == nil || *v.Queued > 0 {
			screen.Printf(w, "of what is allocated for those who wait: %s\n", unitsOr(v.Queued))
		}
	})
}

// stockFlows is `orderd stock flows`.
type stockFlows struct {
	output
	SKU    string    `arg:"" help:"The SKU."`
	From   time.Time `help:"${stock_flows_from}"`
	To     time.Time `help:"Placed before this time; without it, now."`
	Limit  pageRows  `default:"50" help:"1 to 200."`
	Cursor string    `help:"Go on after this flow."`
}

// Run lists flows.
func (c *stockFlows) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		if _, err := co.stock.Find(ctx, c.SKU); err != nil {
			return err
		}
		flows, next, err := co.orders.Flows(ctx, order.FlowFilter{SkuID: c.SKU, From: c.From, To: c.To,
			Limit: int(c.Limit), Cursor: c.Cursor})
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		return c.show(t, viewed(flows, console.ViewFlow), func(w io.Writer) {
			screen.Printf(w, "AT\tTYPE\tQUANTITY\tORDER\tREF\tWHO\tREASON\n")
			for _, f := range flows {
				screen.Printf(w, "%s\t%s\t%+d\t%s\t%s\t%s\t%s\n", stamp(f.At), f.Kind, f.Delta, f.OrderNo, f.Ref,
					f.Actor, f.Reason)
			}
		})
	})
}

// queued gives how many units of a SKU are set aside in the queue of its sale, nil when Redis cannot
// say.
func (c *core) queued(ctx context.Context, s *settings, skuID string) (*int64, error) {
	gates, err := c.stock.SaleStocks(ctx, skuID)
	waits := func(g stock.GateStock) bool { return g.SkuID == skuID && g.Queues() }
	if err != nil || !slices.ContainsFunc(gates, waits) {
		return new(int64), err
	}
	home, end, err := c.saleHome(s)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // no Redis that a verb can ask: it is not known
	}
	defer end()
	return console.QueuedOf(ctx, gates, home, skuID), nil
}

// stockChange is what replenish and adjust have in common. The key is required, and not
// drawn: a person who is not sure whether it worked repeats the same line of the shell.
type stockChange struct {
	confirm
	SKU    string `arg:"" help:"The SKU."`
	Reason reason `required:"" help:"Why."`
	Key    string `required:"" help:"Idempotency key: the same key moves stock once."`
}

// stockReplenish is `orderd stock replenish`.
type stockReplenish struct {
	stockChange
	Quantity int64 `arg:"" help:"How many come in."`
}

// Run puts more on the shelf.
func (c *stockReplenish) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.apply(ctx, s, t, fmt.Sprintf("Put %d more of %s on the shelf?", c.Quantity, c.SKU),
		func(a *stock.Admin, ch stock.Change) (stock.Changed, error) {
			ch.Delta = c.Quantity
			return a.Replenish(ctx, ch)
		})
}

// stockAdjust is `orderd stock adjust`.
type stockAdjust struct {
	stockChange
	Delta    int64  `required:"" help:"Change, such as --delta=-3."`
	Expected *int64 `help:"What the shelf must hold now, with what is allocated."`
}

// Run corrects the shelf.
func (c *stockAdjust) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.apply(ctx, s, t, fmt.Sprintf("Change the shelf of %s by %d?", c.SKU, c.Delta),
		func(a *stock.Admin, ch stock.Change) (stock.Changed, error) {
			// Without --expected a change that was counted yesterday is made all the
			// same.
			ch.Delta, ch.ExpectedAvailable = c.Delta, c.Expected
			return a.Adjust(ctx, ch)
		})
}

// stockLow is `orderd stock low`. It asks nobody: it moves nothing.
type stockLow struct {
	output
	SKU string `arg:"" help:"The SKU."`
	At  int64  `required:"" help:"Units, in pool and buckets together; 0 for none."`
}

// Run gives a SKU another threshold.
func (c *stockLow) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		k, err := co.stock.SetLow(ctx, c.SKU, c.At)
		if err != nil {
			return err
		}
		return c.show(t, console.ViewSKU(&k), func(w io.Writer) {
			screen.Printf(w, "%s: %s left, %s\n", k.SkuID, left(k), lowAt(k))
		})
	})
}

// left is what is left of a SKU, or the word unlimited.
func left(k stock.SKU) string {
	if k.Unlimited {
		return "unlimited"
	}
	return fmt.Sprint(k.Free())
}

// lowAt says when the shop is told that little is left.
func lowAt(k stock.SKU) string {
	if k.LowAt == 0 {
		return "nobody is told when it is little"
	}
	return fmt.Sprintf("the shop is told at %d", k.LowAt)
}

// apply asks the person and moves stock once, however often the key is used. A repeat
// says that nothing moved now, and is no error.
func (c stockChange) apply(ctx context.Context, s *settings, t *terminal, question string,
	do func(*stock.Admin, stock.Change) (stock.Changed, error)) error {
	if err := c.ask(t, question); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		done, err := do(co.stock, stock.Change{SkuID: c.SKU, Key: c.Key, Actor: byWhom(), Reason: string(c.Reason)})
		if err != nil {
			return err
		}
		if done.Replayed {
			screen.Printf(t.Err, "this key was applied before; nothing moved now\n")
		}
		screen.Printf(t.Out, "%s: %+d, now %d\n", c.SKU, done.Delta, done.SKU.Free())
		return nil
	})
}
