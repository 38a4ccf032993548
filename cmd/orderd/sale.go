package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/migrations/sqldb"
	"orderd/order/audit"
	"orderd/scheduler"
	"orderd/stock"
	"orderd/stock/gate"
)

// errNoGateRedis: Redis is inside a service, where no verb can ask it.
var errNoGateRedis = fmt.Errorf("%w: no Redis is configured; one that is embedded in serve cannot be asked from "+
	"outside: its page /ui/gates/SKU shows it. Set ORDERD_GATE_REDIS or ORDERD_REDIS", errUsage)

// saleHome gives what has the buckets of sales in Redis, with its end. It does not wait for
// Redis, which may be away.
func (c *core) saleHome(s *settings) (gate.Inspector, func(), error) {
	if s.GateRedis == "" && s.embeddedRedis() || openSharedGate == nil {
		return nil, nil, errNoGateRedis
	}
	client, err := scheduler.Connect(cmp.Or(s.GateRedis, s.Redis))
	if err != nil {
		return nil, nil, err
	}
	home := c.sharedGate(shape{gateRedis: client}, quietLogger())
	inspector, ok := home.(gate.Inspector)
	if !ok {
		return nil, nil, errors.Join(errNoGateRedis, client.Close())
	}
	return inspector, func() { _ = client.Close() }, nil
}

// verifyRedis holds the buckets in Redis against the database, appends the checks to a report,
// and gives how many buckets there were.
func verifyRedis(ctx context.Context, co *core, s *settings, r *audit.Report) (int, error) {
	home, end, err := co.saleHome(s)
	if err != nil {
		return 0, err
	}
	defer end()
	begun := time.Now()
	v, err := home.Verify(ctx)
	if err != nil && !errors.Is(err, sqldb.ErrUnavailable) {
		err = fmt.Errorf("%w: Redis: %w", errDown, err)
	}
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	for _, c := range v.Checks {
		const most = 20 // as package audit names
		r.Checks = append(r.Checks, audit.CheckResult{ID: c.ID, Meaning: c.Meaning, Count: len(c.Violations),
			Violations: append([]string{}, c.Violations[:min(len(c.Violations), most)]...),
			Took:       took / time.Duration(len(v.Checks))})
	}
	r.Took += took
	return v.Buckets, nil
}

// stockVerify is `orderd stock verify`: those checks of verify that are of stock, and the
// buckets in Redis (ORDERD_GATE_REDIS, or --redis and ORDERD_REDIS) held against the database.
type stockVerify struct{ output }

// Run checks. It may run in the middle of a sale. Without a Redis that can be asked it checks the
// rest, unless a sale has its buckets there.
func (c *stockVerify) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		gates, err := co.stock.GateStocks(ctx)
		if err != nil {
			return err
		}
		inRedis := slices.ContainsFunc(gates, func(g stock.GateStock) bool {
			return g.Mode == stock.GateRedis && !g.Ended
		})
		v, buckets := verified{}, 0
		v.Report, err = co.audit.VerifyWith(ctx, audit.VerifyOptions{Areas: []string{"stock", "bucket", "gate"}})
		if err == nil {
			buckets, err = verifyRedis(ctx, co, s, &v.Report)
		}
		if errors.Is(err, errNoGateRedis) && !inRedis {
			err = nil
		}
		if err != nil {
			return err
		}
		err = c.show(t, v, func(w io.Writer) {
			v.table(w)
			screen.Printf(w, "%d buckets of sales in Redis\n", buckets)
		})
		if err != nil || v.OK() {
			return err
		}
		return fmt.Errorf("%w: see the rows above; for what begins with redis 'orderd stock rebuild SKU' has the "+
			"buckets made anew from the database, for the rest 'orderd verify --repair' says what can be done",
			errBroken)
	})
}

// renewal is what verbs that have the buckets of a sale made anew have in common.
type renewal struct {
	confirm
	output
	Reason reason `help:"Why."`
	DryRun bool   `help:"Say what would be done, and do nothing."`
}

// run does a renewal of a sale as the person was told of it, when he agrees, and shows it.
func (c *renewal) run(ctx context.Context, co *core, t *terminal, r stock.Renewal, question string) error {
	if c.Reason == "" {
		return fmt.Errorf("%w: this needs --reason", errUsage)
	}
	r.Actor, r.Reason, r.DryRun = byWhom(), string(c.Reason), true
	would, err := co.stock.RenewBuckets(ctx, r) // refused before anybody is asked
	if err != nil || c.DryRun {
		return c.showRenewed(t, &would, true, err)
	}
	if err := c.ask(t, fmt.Sprintf(question, would.Sale)); err != nil {
		return err
	}
	if err := co.begin(ctx); err != nil {
		return err
	}
	r.DryRun, r.IfVersions = false, map[string]int64{}
	for i := range would.Gates {
		r.IfVersions[would.Gates[i].SkuID] = would.Gates[i].Version - 1
	}
	done, err := co.stock.RenewBuckets(ctx, r)
	return c.showRenewed(t, &done, false, err)
}

// showRenewed shows what was done, or would be.
func (c *renewal) showRenewed(t *terminal, r *stock.Renewed, dry bool, err error) error {
	if err != nil {
		return err
	}
	v := console.ViewRenewed(r, dry)
	return c.show(t, v, func(w io.Writer) {
		screen.Printf(w, "SKU\tMODE\tBUCKETS IN REDIS\tGIVEN UP\tUNITS BACK\tPOOL\tVERSION\n")
		for _, k := range v.SKUs {
			screen.Printf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", k.SkuID, k.Mode, k.Buckets, k.Closed, k.Back, k.Pool,
				k.Version)
		}
		if dry {
			screen.Printf(w, "\nnothing was changed; the same without --dry-run does it\n")
			return
		}
		screen.Printf(w, "\nepoch %d of sale %s: every process hands the units out anew within a second\n", v.Epoch,
			v.Sale)
	})
}

// stockBuckets is `orderd stock buckets`.
type stockBuckets struct {
	renewal
	SKU   string `arg:"" help:"A SKU of the sale."`
	Count int64  `help:"Buckets in Redis from now on, of all SKUs of the sale; needs --reason."`
}

// Run shows the buckets of a SKU's sale, or says how many there are.
func (c *stockBuckets) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.Count == 0 && (c.Reason != "" || c.DryRun) {
		return fmt.Errorf("%w: say --count too, or neither: then the buckets are shown", errUsage)
	}
	return withCore(ctx, s, func(co *core) error {
		if c.Count != 0 {
			return c.run(ctx, co, t, stock.Renewal{SkuID: c.SKU, Buckets: c.Count},
				fmt.Sprintf("Have the sale %%s counted down in %d buckets in Redis?", c.Count))
		}
		if _, err := co.stock.Find(ctx, c.SKU); err != nil {
			return err
		}
		gates, err := co.stock.SaleStocks(ctx, c.SKU)
		if err != nil {
			return err
		}
		home, end, err := co.saleHome(s)
		why := ""
		if err != nil {
			why = err.Error()
		} else {
			defer end()
		}
		return c.showSale(t, console.ViewSaleDetail(ctx, gates, home, why, co.clock.Now()))
	})
}

// showSale shows a sale and its buckets.
func (c *stockBuckets) showSale(t *terminal, v console.SaleDetail) error {
	return c.show(t, v, func(w io.Writer) {
		for i := range v.Gates {
			g := &v.Gates[i]
			screen.Printf(w, "%s\tsale %s, mode %s, epoch %d, version %d\n", g.SkuID, g.Sale, g.Mode, g.Epoch,
				g.Version)
			screen.Printf(w, "\tpool %d, in buckets %d, queued %s\n\tbuyers are told: %s\n", g.Pool, g.Allocated,
				unitsOr(g.Queued), g.Told)
		}
		if len(v.Gates) == 0 {
			screen.Printf(w, "%s is in no sale: the database decides\n", c.SKU)
			return
		}
		screen.Printf(w, "\nSKU\tNO\tHOME\tSTATE\tUNITS\tMOVE\tREDIS HAS\tON THEIR WAY\tIN LINE\tDRIFT\n")
		for i := range v.Buckets {
			b := &v.Buckets[i]
			state, left, tickets, waiting, drift := string(b.State), "", "", "", ""
			if state == "" {
				state = "waits for units"
			}
			if r := b.Redis; r != nil {
				left, tickets, waiting, drift = fmt.Sprintf("%d at %d", r.Left, r.Seq), fmt.Sprint(r.Tickets),
					fmt.Sprint(r.Waiting), fmt.Sprint(r.Drift)
				if !r.Known {
					left = "not of this epoch"
				}
			}
			screen.Printf(w, "%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", b.SkuID, b.No, b.Home, state, b.Remaining,
				b.Seq, left, tickets, waiting, drift)
		}
		if v.Redis != "" {
			screen.Printf(w, "\nRedis was not asked for what it has: %s\n", v.Redis)
		}
	})
}

// unitsOr is a number of units, or that it is not known.
func unitsOr(n *int64) string {
	if n == nil {
		return "unknown: Redis cannot say"
	}
	return fmt.Sprint(*n)
}

// stockRebuild is `orderd stock rebuild`.
type stockRebuild struct {
	renewal
	SKU  string `arg:"" optional:"" help:"A SKU of the sale."`
	Sale string `help:"The name of a sale instead."`
}

// Run gives the buckets of a sale up. It acts on what it has read: a gate that was changed
// meanwhile stays as it is.
func (c *stockRebuild) Run(ctx context.Context, s *settings, t *terminal) error {
	if (c.SKU == "") == (c.Sale == "") {
		return fmt.Errorf("%w: name a SKU, or a sale with --sale", errUsage)
	}
	return withCore(ctx, s, func(co *core) error {
		return c.run(ctx, co, t, stock.Renewal{SkuID: c.SKU, Sale: c.Sale},
			"Give the buckets of sale %s up, and have new ones made from the database?")
	})
}
