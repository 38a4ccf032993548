package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"orderd/cmd/screen"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
	"orderd/payment/wechatsim"
	"orderd/stock"
)

// demoCmd is `orderd demo`: buyers, races and a WeChat Pay that loses answers, on
// embedded parts, in under a minute. It is a show and a test: exit 4 says that the books
// do not balance, exit 1 that something else failed, such as a race that did not happen.
type demoCmd struct {
	Orders      int    `help:"Buyers, 60 to 5000 (default: 200, with --sale 1000)."`
	Sale        bool   `help:"A flash sale: a ticket for every tenth buyer, and everybody wants one."`
	Processes   int    `default:"1" help:"With --sale: over so many processes, 1 to 8."`
	Seed        uint64 `help:"Of every random decision (default: drawn and printed)."`
	KeepRunning bool   `help:"Stay up afterwards."`
}

// The demo takes seconds where a shop takes minutes.
const (
	demoPayWithin = 4 * time.Second  // the time to pay
	demoGrace     = time.Second      // from the deadline to the close
	demoCloseRate = 200              // orders a second that are closed: the simulator has no limit
	demoSpeed     = 30               // how much faster the simulator repeats notifications than WeChat Pay
	demoOrders    = 200              // buyers, unless it is said
	demoMin       = 60               // buyers: one of every kind in deck
	demoMax       = 5000             // buyers: what a laptop serves in the time
	demoSettle    = 25 * time.Second // how long the last order may take to end
	demoScarce    = 8                // buyers for each unit of the scarce SKU, of which every fourth wants one
)

// Run shows the life of orders. It ends well only if the books balance, every kind of
// race happened, and WeChat Pay's own ledger agrees. With a merchant configured it is
// errUsage: it would pay.
func (c *demoCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.complete(); err != nil {
		return err
	}
	if !s.simulated() {
		return fmt.Errorf("%w: a merchant is configured; the demo pays, and so it only speaks to the simulator",
			errUsage)
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	if err := c.prepare(s); err != nil {
		return err
	}
	// What goes wrong on purpose would fill the screen: the log goes to a file.
	logFile, err := os.OpenFile(filepath.Join(s.DataDir, "demo.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	// Shorter than a shop's, so that the slowest way to an end takes less than
	// demoSettle. prepayInFlight is above gatewayTimeout, as order.Config demands.
	quick := shape{
		closeRetry:     []time.Duration{time.Second, time.Second, 2 * time.Second},
		prepayInFlight: 3 * time.Second,
		gatewayTimeout: 2 * time.Second,
		refundSpacing:  2 * time.Second,
		refundRetry:    []time.Duration{time.Second, 2 * time.Second},
		refundPoll:     []time.Duration{time.Second},
	}
	o := options{roles: allRoles, migrate: true, shape: quick, simSeed: c.Seed, simSpeed: demoSpeed, simNasty: true}
	a, err := start(ctx, s, o, slog.New(slog.NewTextHandler(logFile, nil)))
	if err != nil {
		return err
	}
	what, show := fmt.Sprintf("%s to pay, a WeChat Pay that loses answers; seed %d", demoPayWithin, c.Seed), c.run
	if c.Sale {
		what, show = fmt.Sprintf("%d tickets, %d processes", c.Orders/saleShare, c.Processes), c.runSale
	}
	screen.Printf(t.Err, "orderd demo: %d buyers, %s\n"+
		"data in %s, kept for 'orderd verify --data-dir %s' and the other verbs\n\n",
		c.Orders, what, s.DataDir, s.DataDir)
	err = show(ctx, a, t)
	if c.KeepRunning && err == nil {
		screen.Printf(t.Err, "\nstill running: api http://%s  operators http://%s; Ctrl-C ends it\n", dialable(a.API),
			dialable(a.Admin))
		a.firstLink(ctx, t)
		<-ctx.Done()
	}
	return errors.Join(err, a.Close())
}

// complete sets the number of buyers where it was not given, and refuses what is out of bounds.
func (c *demoCmd) complete() error {
	switch {
	case c.Orders != 0:
	case c.Sale:
		c.Orders = saleBuyers
	default:
		c.Orders = demoOrders
	}
	switch {
	case c.Processes < 1 || c.Processes > saleProcesses || c.Processes > 1 && !c.Sale:
		return fmt.Errorf("%w: --processes must be 1 to %d, and is of --sale", errUsage, saleProcesses)
	case c.Orders < demoMin || c.Orders > demoMax:
		return fmt.Errorf("%w: --orders must be %d to %d, so that every race happens", errUsage, demoMin, demoMax)
	}
	return nil
}

// prepare chooses a fresh data directory and free ports unless they were given: a demo
// must not meet a service that runs on this machine, nor leave its orders in that one's
// data. With --keep-running the usual ports are kept, so that the README's commands work.
func (c demoCmd) prepare(s *settings) error {
	s.PayWithin, s.CloseGrace, s.SweepEvery, s.CloseRate = demoPayWithin, demoGrace, time.Second, demoCloseRate
	if c.Sale {
		s.PayWithin = salePayWithin
	}
	s.ShopAddr = ""                                        // its buyers are programs
	s.AutoApprove, s.TwoPersons = int64(payment.MaxFen), 0 // nobody sits at the finance desk of a demo
	for env, addr := range map[string]*string{
		"ORDERD_API_ADDR":   &s.APIAddr,
		"ORDERD_ADMIN_ADDR": &s.AdminAddr,
		"ORDERD_SIM_ADDR":   &s.SimAddr,
	} {
		if s.origins[env] == "default" && !c.KeepRunning {
			*addr = "127.0.0.1:0"
		}
	}
	if s.origins["ORDERD_NOTIFY_ADDR"] == "default" { // its address goes into the callbacks before it is bound
		free, err := freeAddr()
		if err != nil {
			return err
		}
		s.NotifyAddr = free
	}
	if s.origins["ORDERD_DATA_DIR"] == "default" {
		s.DataDir = filepath.Join(s.DataDir, "demo-"+time.Now().UTC().Format("20060102-150405.000"))
	}
	return os.MkdirAll(s.DataDir, 0o700)
}

// run fills the shop, lets the buyers in, waits for the last order and judges. Prices are
// in fen. The scarce SKU runs out, the others cannot: each buyer takes one unit.
func (c demoCmd) run(ctx context.Context, a *app, t *terminal) error {
	scarce := int64(c.Orders / demoScarce)
	plenty := int64(c.Orders * 3)
	for _, k := range []stock.Put{
		// plenty is three for each buyer: only the tickets can run out.
		{SkuID: "mug", Title: "Blue mug", PriceFen: 14900, Quantity: &plenty},
		{SkuID: "tee", Title: "White tee", PriceFen: 9900, Quantity: &plenty},
		{SkuID: "ticket", Title: "Concert ticket (scarce)", PriceFen: 68000, Quantity: &scarce},
	} {
		if _, _, err := a.stock.Put(ctx, k); err != nil {
			return err
		}
	}
	p := newPopulation(a, c.Seed, c.Orders, newShow(t, c.Orders))
	if err := p.shop(ctx); err != nil {
		return err
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	return c.judge(ctx, a, p, t)
}

// judge makes the summary from the database and from what the simulator recorded, not
// from what the buyers saw: a buyer can be told a thing and the books hold another.
// errBroken comes before races that are missing.
func (c demoCmd) judge(ctx context.Context, a *app, p *population, t *terminal) error {
	sum, wrong, err := summarize(ctx, a)
	if err != nil {
		return err
	}
	if err := screen.Table(t.Out, func(w io.Writer) { p.summary(w, sum) }); err != nil {
		return err
	}
	// Before verify: what reconciling heals is verified too.
	day, open, err := reconcileDemo(ctx, a)
	if err != nil {
		return err
	}
	screen.Printf(t.Out, "\n%s\n", screen.Lines(day))
	r, err := a.audit.Verify(ctx, nil)
	if err != nil {
		return err
	}
	// Nil: every check, with no progress line between the demo's own.
	broken := 0
	for _, check := range r.Checks {
		if check.Count > 0 {
			broken++
			screen.Printf(t.Out, "BROKEN %s: %s %v\n", check.ID, check.Meaning, check.Violations)
		}
	}
	for _, line := range wrong {
		screen.Printf(t.Out, "WRONG %s\n", line)
	}
	screen.Printf(t.Out, "\nverify: %d of %d invariants hold; WeChat Pay's ledger and ours %s\n", len(r.Checks)-broken,
		len(r.Checks), agree(len(wrong)))
	// An oversold unit and an open difference are as bad as a broken check.
	if broken > 0 || len(wrong) > 0 || sum.oversold != 0 || open > 0 {
		return fmt.Errorf("%w: the books do not balance (seed %d)", errBroken, c.Seed)
	}
	if missing := p.show.missing(); len(missing) > 0 {
		return fmt.Errorf("the books balance, but these races did not happen, so the run shows less than it should: "+
			"%v (seed %d)", missing, c.Seed)
	}
	screen.Printf(t.Out, "the books balance\n")
	return nil
}

// summary prints what happened, as rows of a table.
func (p *population) summary(w io.Writer, sum summary) {
	screen.Printf(w, "\n")
	for _, line := range []struct {
		name string
		n    int64
	}{
		{"placed", sum.placed},
		{"refused, sold out", p.soldOut.Load()},
		{"repeated requests answered from the first", p.replayed.Load()},
		{"paid", sum.paid},
		{"closed by timeout", sum.byTimeout},
		{"closed by cancel", sum.byCancel},
		{"saved by close-first", sum.saved},
		{"refunds, late payments among them", sum.refunds},
		{"oversold", sum.oversold},
	} {
		screen.Printf(w, "%s:\t%d\n", line.name, line.n)
	}
}

// reconcileDemo reconciles WeChat Pay's bills of the demo's days, two when it ran over
// midnight, twice each: the second time nothing may be left to heal or to explain. text
// is a line for each day, open the number of differences.
func reconcileDemo(ctx context.Context, a *app) (text string, open int64, err error) {
	var b strings.Builder
	days := []string{reconcile.Day(a.began), reconcile.Day(time.Now())}
	for _, day := range slices.Compact(days) {
		var first, res reconcile.Result
		if first, err = runUntilAnswered(ctx, a, day); err == nil {
			res, err = runUntilAnswered(ctx, a, day)
		}
		if err != nil {
			return "", 0, fmt.Errorf("reconcile %s: %w", day, err)
		}
		open += res.Open
		fmt.Fprintf(&b, "reconciled %s: %d payments %s yuan, %d refunds %s yuan in WeChat Pay's bill; "+
			"matched %d and %d; healed %d; open %d\n", day,
			res.Payments.BillCount, res.Payments.BillFen, res.Refunds.BillCount, res.Refunds.BillFen,
			res.Payments.Matched, res.Refunds.Matched, first.Healed, res.Open)
	}
	return b.String(), open, nil
}

// billTries is how often a day is reconciled before the demo gives up: the simulator
// loses some answers, and five in a row only when it is broken.
const billTries = 5

// runUntilAnswered reconciles a day; a WeChat Pay that gave no answer is asked again at
// once, as the daily run does later.
func runUntilAnswered(ctx context.Context, a *app, day string) (res reconcile.Result, err error) {
	for range billTries {
		res, err = a.reconciler.Run(ctx, reconcile.RunRequest{Date: day})
		var g *payment.GatewayError
		if !errors.As(err, &g) || g.Kind != payment.KindUnknown {
			break
		}
	}
	return res, err
}

// agree says how many orders differ between WeChat Pay and us.
func agree(wrong int) string {
	if wrong == 0 {
		return "agree on every trade and every refund"
	}
	return fmt.Sprintf("differ on %d", wrong)
}

// summary counts orders by how they ended. saved are payments that a close or a query
// found, whose notification had not come: each would be a lost sale, and a unit sold
// twice, in a shop that closes without asking. oversold is units, over all SKUs.
type summary struct {
	placed, paid, byTimeout, byCancel, saved, refunds, oversold int64
}

// summaryPage is how many orders are read at once, the most that a list gives.
const summaryPage = 200

// summarize reads every order and compares it with what the simulator recorded. wrong has
// a sentence for each difference. held counts what orders that are paid or open have of
// each SKU, which must not be more than what came in.
func summarize(ctx context.Context, a *app) (s summary, wrong []string, err error) {
	held := map[string]int64{}
	for cursor := ""; ; {
		orders, next, err := a.orders.List(ctx, order.Filter{Limit: summaryPage, Cursor: cursor})
		if err != nil {
			return s, nil, err
		}
		for _, o := range orders {
			whole, err := a.orders.Find(ctx, o.OrderNo)
			if err != nil {
				return s, nil, err
			}
			s.count(whole)
			if whole.State == order.StatePaid || whole.State == order.StatePending ||
				whole.State == order.StateClosing {
				for _, it := range whole.Items {
					held[it.SkuID] += it.Quantity
				}
			}
			wrong = append(wrong, compare(whole, a.sim)...)
		}
		if cursor = next; next == "" {
			break
		}
	}
	// source is notification, query or bill: what told of the payment first.
	if err := a.db.QueryRowContext(ctx, `SELECT COUNT(*)
FROM payments
WHERE outcome = 'applied'
  AND source = 'query'`).Scan(&s.saved); err != nil {
		return s, nil, err
	}
	// CameIn is what was ever put on the shelf, by initial stock and by operators.
	for sku, n := range held {
		account, err := a.orders.StockAccount(ctx, sku)
		if err != nil {
			return s, nil, err
		}
		s.oversold += max(n-account.CameIn, 0)
	}
	return s, wrong, nil
}

// count adds an order. One that was paid and refunded counts as paid; money that came
// after the close leaves its order where the close put it.
func (s *summary) count(o order.Order) {
	s.placed++
	s.refunds += int64(len(o.Refunds))
	switch {
	case o.State == order.StatePending || o.State == order.StateClosing: // no end
	case o.Payment != nil && o.Payment.Outcome == order.SettledApplied: // also when it was to be closed first
		s.paid++
	case o.CloseReason == order.CloseReasonTimeout:
		s.byTimeout++
	default:
		s.byCancel++
	}
}

// compare compares an order with the simulator: money there must be on a paid order or
// have gone back, a closed order must not be payable there, and every refund must be the
// same on both sides. Trades that the simulator does not know were never opened: their
// prepay had no answer.
func compare(o order.Order, sim *simulator) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.State == order.StatePending || o.State == order.StateClosing || o.State == order.StateRefunding {
		say("%s is still %s", o.OrderNo, o.State)
	}
	// Not paid there and closed here is as it should be; the cases name what is not.
	back := map[string]int64{} // by payment, as WeChat Pay has it
	for _, r := range o.Refunds {
		there, known := sim.Refund(r.OutRefundNo)
		switch {
		case known && there.State == wechatsim.StateSuccess:
			back[there.TransactionID] += there.Amount
			if r.State != order.RefundStateSucceeded || there.Amount != int64(r.Amount) {
				say("refund %s of %s yuan is %s, WeChat Pay has paid %d fen back", r.OutRefundNo, r.Amount, r.State,
					there.Amount)
			}
		case r.State == order.RefundStateSucceeded:
			say("refund %s has succeeded, WeChat Pay says %q", r.OutRefundNo, there.State)
		}
	}
	for _, at := range o.Attempts {
		trade, known := sim.Trade(at.OutTradeNo)
		if !known {
			continue
		}
		paidThere := trade.State == wechatsim.StateSuccess || trade.State == wechatsim.StateRefund
		switch {
		case paidThere && o.State != order.StatePaid && back[trade.TransactionID] == 0 && len(o.Refunds) == 0:
			say("%s is %s, WeChat Pay holds its money", o.OrderNo, o.State)
		case paidThere && o.State == order.StateRefunded && back[trade.TransactionID] != trade.Total:
			say("%s is refunded, WeChat Pay has paid %d of %d fen back", o.OrderNo, back[trade.TransactionID],
				trade.Total)
		case !paidThere && o.State == order.StatePaid && len(o.Attempts) == 1:
			say("%s is paid, WeChat Pay says %s", o.OrderNo, trade.State)
		case o.State == order.StateClosed && trade.State == wechatsim.StateNotPay:
			say("%s is closed and still payable at WeChat Pay", o.OrderNo)
		}
	}
	return wrong
}

// show is the screen: a line that moves, and lines for the races, a few of each kind. It
// is safe for concurrent use. All of it goes to standard error; the summary is the data.
type show struct {
	// seen counts all races, printed or not; done are buyers who have gone.
	color bool
	line  *screen.Progress
	total int
	mu    sync.Mutex
	seen  map[race]int
	done  int
}

// perRace is how many of a kind are printed.
const perRace = 2

// newShow makes the screen for so many buyers.
func newShow(t *terminal, total int) *show {
	return &show{color: t.Color, line: t.progress(), total: total, seen: map[race]int{}}
}

// tell counts a race and prints its first few times. The yellow dot is for terminals with
// colours.
func (s *show) tell(r race, orderNo, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[r]++; s.seen[r] > perRace {
		return
	}
	format := "• %s  %s\n"
	if s.color {
		format = screen.Yellow("•") + " %s  %s\n"
	}
	s.line.Print(format, orderNo, text)
}

// finished counts a buyer who has gone.
func (s *show) finished() {
	s.mu.Lock()
	s.done++
	s.mu.Unlock()
}

// missing are the races that did not happen, in the order of allRaces.
func (s *show) missing() (kinds []race) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range allRaces {
		if s.seen[r] == 0 {
			kinds = append(kinds, r)
		}
	}
	return kinds
}
