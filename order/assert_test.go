package order_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// guarded is a service whose metrics and log can be read.
type guarded struct {
	*ordertest.Fixture
	metrics *console.Metrics
	log     bytes.Buffer
	n       int
	fired   map[string]int
}

func newGuarded(t *testing.T, db *sqldb.DB) *guarded {
	t.Helper()
	g := &guarded{metrics: console.NewMetrics(), fired: map[string]int{}}
	g.Fixture = ordertest.NewUnverified(t, db, func(c *order.Config) {
		byItself(c)
		c.Lanes, c.Observe = 1, g.metrics
		c.Log = slog.New(slog.NewTextHandler(&g.log, nil))
	})
	g.SKU(t, "mug", 1000)
	return g
}

func (g *guarded) key() string { g.n++; return fmt.Sprint("k", g.n) }

// The orders that the cases need, each in its state by the normal way.
func (g *guarded) pending(t *testing.T) string { return g.PlaceOne(t, g.key(), "mug", 2).OrderNo }

func (g *guarded) closing(t *testing.T) string {
	t.Helper()
	no := g.pending(t)
	g.Prepaid(t, no)
	g.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
	if o, err := g.Cancel(t.Context(), cancel(no)); err != nil || o.State != order.StateClosing {
		t.Fatal(o.State, err)
	}
	g.WeChat.Before = nil
	return no
}

func (g *guarded) closed(t *testing.T) string {
	t.Helper()
	no := g.closing(t)
	if err := g.close(t.Context(), no); err != nil {
		t.Fatal(err)
	}
	return no
}

// held is an order for which money came that cannot be its own.
func (g *guarded) held(t *testing.T) string {
	t.Helper()
	no := g.pending(t)
	heldPayment(t, g.Fixture, no)
	return no
}

func (g *guarded) paid(t *testing.T) string { return g.PaidOne(t, g.key(), "mug", 2).OrderNo }

func (g *guarded) refunding(t *testing.T) string {
	t.Helper()
	no := g.paid(t)
	g.Fixture.MustLookAtRefund(t, g.Fixture.MustAsk(t, ordertest.Ask(no, g.key(), 2)).OutRefundNo)
	return no
}

// What happens to them.
func (g *guarded) close(ctx context.Context, no string) error {
	return g.CloseDone(ctx, no, map[string]string{"close": "accepted", "out_trade_no": no + "-01"})
}

func (g *guarded) pay(ctx context.Context, no string) error {
	trade, err := g.WeChat.Pay(no+"-01", true)
	if err != nil {
		trade, _ = g.WeChat.Trade(no + "-01")
	}
	if trade.OutTradeNo == "" { // never prepaid
		trade = payment.Trade{OutTradeNo: no + "-01", State: payment.TradeSuccess, TransactionID: "42" + no,
			AppID: ordertest.AppID,
			MchID: ordertest.MchID, Total: 200, Currency: payment.CNY, SuccessTime: g.Clock.Now()}
	}
	_, err = g.Settle(ctx, trade, ordertest.Notified)
	return err
}

func (g *guarded) ask(ctx context.Context, no string) error {
	_, err := g.AskRefund(ctx, ordertest.Ask(no, "ask"+no, 1))
	return err
}

func (g *guarded) sendBack(ctx context.Context, no string) error {
	trade, _ := g.WeChat.Trade(no + "-01")
	return g.RefundHeld(ctx, trade.TransactionID, ordertest.Finance)
}

// proposed is an order for which money came that cannot be its own, and which one person would write off.
func (g *guarded) proposed(t *testing.T) string {
	t.Helper()
	no := g.held(t)
	trade, _ := g.WeChat.Trade(no + "-01")
	mustResolve(t, g.Fixture, trade.TransactionID, order.HeldWriteOff, ordertest.Finance, order.HeldWaits)
	return no
}

func (g *guarded) writeOff(ctx context.Context, no string) error {
	trade, _ := g.WeChat.Trade(no + "-01")
	_, err := g.ResolveHeld(ctx, order.ResolveHeld{TransactionID: trade.TransactionID, Action: order.HeldWriteOff,
		Reason: "nobody's", Cause: ordertest.Finance2})
	return err
}

func (g *guarded) end(status payment.RefundStatus) func(context.Context, string) error {
	return func(ctx context.Context, no string) error {
		o, err := g.Find(ctx, no)
		if err == nil {
			_, err = g.SettleRefund(ctx, g.WeChat.EndRefund(o.Refunds[0].OutRefundNo, status), ordertest.Notified)
		}
		return err
	}
}

func (g *guarded) look(ctx context.Context, no string) error {
	o, err := g.Find(ctx, no)
	if err == nil {
		r := o.Refunds[0]
		g.Clock.Set(r.DueAt)
		err = g.Refund(ctx, r.OutRefundNo, ordertest.Scheduler)
	}
	return err
}

// rows is everything that the database has of an order.
func (g *guarded) rows(t *testing.T, no string) string {
	t.Helper()
	var all strings.Builder
	for _, q := range []string{
		"SELECT state, version, due_at, close_tries FROM orders WHERE order_no = ?",
		"SELECT seq, event, from_state, to_state FROM order_events WHERE order_no = ? ORDER BY seq",
		"SELECT transaction_id, outcome, amount_fen, refund_fen " +
			"FROM payments WHERE order_no = ? ORDER BY transaction_id",
		"SELECT out_refund_no, state, version, amount_fen FROM refunds WHERE order_no = ? ORDER BY out_refund_no",
		"SELECT kind, ref, sku_id, delta FROM stock_flows WHERE order_no = ? ORDER BY kind, ref, sku_id",
	} {
		err := sqldb.Each(t.Context(), g.DB, q, []any{no}, func(rows *sql.Rows) error {
			var v [4]any
			err := rows.Scan(&v[0], &v[1], &v[2], &v[3])
			fmt.Fprintf(&all, "%s\n", v)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%smugs %d", all.String(), g.Available(t, "mug"))
}

func (g *guarded) metric(t *testing.T, series string) bool {
	t.Helper()
	w := httptest.NewRecorder()
	g.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return strings.Contains(w.Body.String(), series+"\n")
}

// wantBroken checks the error, its metric and the alarm, and that the error's text has no details for the caller.
func (g *guarded) wantBroken(t *testing.T, err error, invariant, orderNo string) {
	t.Helper()
	var b *order.BrokenError
	if !errors.As(err, &b) || b.Invariant != invariant {
		if b != nil {
			t.Fatalf("%s fired: %s, not %s", b.Invariant, b.Detail, invariant)
		}
		t.Fatalf("%v, not %s", err, invariant)
	}
	if strings.Contains(err.Error(), b.Detail) || b.Detail == "" {
		t.Errorf("the caller reads %q", err)
	}
	if !g.metric(t, fmt.Sprintf("orderd_invariant_violations_total{invariant=%q} %d", invariant, g.fired[invariant])) {
		t.Error("the metric does not show it")
	}
	line := g.log.String()
	if !strings.Contains(line, "invariant would be broken: "+invariant) ||
		(orderNo != "" && !strings.Contains(line, orderNo)) {
		t.Errorf("no alarm: %s", line)
	}
}

// A broken invariant that is committed costs money or stock before anybody looks. Each is broken once, by a row that
// somebody changed by hand or by a mistake of the code that applies commands, and must be rolled back, be counted,
// raise an alarm, and harm nobody else in the batch.
func TestBrokenInvariantsAreRolledBack(t *testing.T) {
	cases := []struct {
		name, invariant string
		make            func(*guarded, *testing.T) string
		seed            string // $ is the order; or
		spoil           string
		do              func(*guarded, context.Context, string) error
	}{
		{"an event is gone", "events.last_is_state", (*guarded).closing,
			"DELETE FROM order_events WHERE order_no = '$' AND seq = (SELECT version FROM orders WHERE order_no = '$')",
			"", (*guarded).pay},
		{"a state without its event", "events.last_is_state", (*guarded).paid,
			"UPDATE orders SET state = 'pending', due_at = 1 WHERE order_no = '$'", "", (*guarded).note},
		{"a placement that is not pending", "events.last_is_state", (*guarded).pending,
			"UPDATE orders SET state = 'closing' WHERE order_no = '$'", "", (*guarded).note},
		{"a version without an event", "events.last_is_state", (*guarded).pending, "", "a state without an event",
			(*guarded).pay},
		{"a gap between events", "events.chain", (*guarded).pending, "", "a gap between events", (*guarded).pay},
		{"an event from nowhere", "events.chain", (*guarded).pending, "", "an event from nowhere", (*guarded).pay},
		{"a move that nobody allows", "events.allowed", (*guarded).pending, "", "a move that nobody allows",
			(*guarded).pay},
		{"closed without proof", "close.proven", (*guarded).closing, "", "",
			func(g *guarded, ctx context.Context, no string) error { return g.CloseDone(ctx, no, nil) }},
		{"closed with the proof of another trade", "close.proven", (*guarded).closing, "", "",
			func(g *guarded, ctx context.Context, no string) error {
				return g.CloseDone(ctx, no, map[string]string{"close": "accepted", "out_trade_no": no + "-02"})
			}},
		{"nobody looks at an open order", "order.due", (*guarded).pending,
			"UPDATE orders SET due_at = NULL WHERE order_no = '$'", "", (*guarded).note},
		{"a paid order stays due", "order.due", (*guarded).pending, "", "due for ever", (*guarded).pay},
		{"closed, and the stock stays", "stock.agrees_with_state", (*guarded).closing, "", "stock that stays",
			(*guarded).close},
		{"paid, and the stock goes back", "stock.agrees_with_state", (*guarded).pending, "", "stock of a sold order",
			(*guarded).pay},
		{"sold, and its close gave back", "stock.agrees_with_state", (*guarded).refunding,
			"UPDATE refund_items SET quantity = 1 WHERE out_refund_no LIKE '$-R%'; " +
				"INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) " +
				"VALUES ('$', 'return', 'close', 'mug', 1, 1)", "", nil},
		{"less deducted than ordered", "stock.deducted_once", (*guarded).closing,
			"UPDATE stock_flows SET delta = -1 WHERE order_no = '$'", "", (*guarded).close},
		{"more returned than deducted", "stock.returned_no_more", (*guarded).closing,
			"INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) " +
				"VALUES ('$', 'return', 'x', 'mug', 5, 1)", "", (*guarded).close},
		{"more refunded than ordered", "stock.refunded_no_more", (*guarded).paid, "", "more back than ordered",
			(*guarded).ask},
		{"paid a fen too little", "money.paid_once", (*guarded).pending, "", "one fen less applied", (*guarded).pay},
		{"paid without a payment", "money.paid_once", (*guarded).pending, "", "the payment forgotten", (*guarded).pay},
		{"late without a payment", "money.paid_once", (*guarded).closed, "", "the payment forgotten", (*guarded).pay},
		{"the applied payment is gone", "money.paid_once", (*guarded).refunding,
			"UPDATE payments SET outcome = 'owed' WHERE order_no = '$'", "", (*guarded).look},
		{"late money not owed", "money.owed_back", (*guarded).closed, "", "a late payment without row", (*guarded).pay},
		{"held money sent back, not all", "money.owed_back", (*guarded).held, "", "a fen less sent back",
			(*guarded).sendBack},
		{"the sum of refunds is lost", "money.no_more_back", (*guarded).refunding,
			"UPDATE payments SET refund_fen = 0 WHERE order_no = '$'", "", (*guarded).look},
		{"more refunds than payment", "money.no_more_back", (*guarded).refunding,
			"UPDATE refunds SET amount_fen = 999 WHERE order_no = '$'; " +
				"UPDATE payments SET refund_fen = 999 WHERE order_no = '$'", "", (*guarded).look},
		{"more back with what went elsewhere", "money.no_more_back", (*guarded).paid, "", "all back elsewhere",
			(*guarded).ask},
		{"refunding, and the order is paid", "money.refunding", (*guarded).refunding,
			"UPDATE orders SET state = 'paid' WHERE order_no = '$'", "", (*guarded).look},
		{"all went back, and it is paid", "money.refunded", (*guarded).refunding, "", "all back, and paid", nil},
		{"held money written off by one", "money.written_off", (*guarded).proposed, "", "written off by one",
			(*guarded).writeOff},
		{"held money written off, not all", "money.written_off", (*guarded).proposed, "", "written off, not all",
			(*guarded).writeOff},
		{"nobody looks at a refund", "refund.due", (*guarded).paid, "", "nobody looks at the refund", (*guarded).ask},
		{"a refund that goes back in time", "refund.allowed", (*guarded).refunding, "", "a refund that goes back", nil},
		{"sent without approval", "refund.approved", (*guarded).refunding,
			"UPDATE refunds SET approvals_needed = 1 WHERE order_no = '$'", "", (*guarded).look},
		{"closed and not replaced", "refund.one_successor", (*guarded).refunding, "", "closed without another",
			func(g *guarded, ctx context.Context, no string) error { return g.end(payment.RefundClosed)(ctx, no) }},
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		g := newGuarded(t, db)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				no, neighbours := c.make(g, t), []string{g.pending(t), g.pending(t), g.pending(t)}
				for seed := range strings.SplitSeq(strings.ReplaceAll(c.seed, "$", no), ";") {
					if seed != "" {
						exec(t, db, seed)
					}
				}
				do := c.do
				if do == nil {
					do = func(g *guarded, ctx context.Context, no string) error {
						return g.end(payment.RefundSuccess)(ctx, no)
					}
				}
				before := g.rows(t, no)
				err := g.inCompany(t, c.invariant, no, c.spoil, neighbours,
					func() error { return do(g, t.Context(), no) })
				g.wantBroken(t, err, c.invariant, no)
				if after := g.rows(t, no); after != before {
					t.Errorf("not rolled back:\n%s\nwas\n%s", after, before)
				}
			})
		}
		g.placements(t)
		for _, id := range order.Invariants() {
			if g.fired[id] == 0 {
				t.Errorf("%s never fired", id)
			}
		}
	})
}

// placements are the same for what is placed: the mistakes are the placement's own.
func (g *guarded) placements(t *testing.T) {
	for name, c := range map[string]struct {
		invariant string
		spoil     func(*order.Order)
	}{
		"a total that is not its lines'": {"order.total", func(o *order.Order) { o.Total++ }},
		"placed paid":                    {"events.last_is_state", func(o *order.Order) { o.State = order.StatePaid }},
		"never due":                      {"order.due", func(o *order.Order) { o.DueAt = time.Time{} }},
		"more ordered than taken":        {"stock.deducted_once", func(o *order.Order) { o.Items[0].Quantity++ }},
		"a line that was not taken": {"stock.deducted_once",
			func(o *order.Order) { o.Items = append(o.Items, o.Items[0]) }},
		"another order's stock": {"stock.deducted_once", func(o *order.Order) { o.OrderNo = "x" }},
	} {
		t.Run(name, func(t *testing.T) {
			left, placed := g.Available(t, "mug"), int64(0)
			place := func(customer, key string) error {
				_, err := g.Place(t.Context(), order.Placement{CustomerID: customer, RequestID: key,
					Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
				return err
			}
			shared := 0
			g.SpoilPlaced("guilty", c.spoil, func(orders int) { shared = max(shared, orders) })
			var err error
			for shared < 2 {
				var keys []string
				for range 4 {
					keys = append(keys, g.key())
				}
				var wg sync.WaitGroup
				wg.Go(func() { err = place("guilty", keys[0]) })
				for _, k := range keys[1:] {
					wg.Go(func() {
						if err := place("c", k); err != nil {
							t.Errorf("a neighbour failed: %v", err)
						}
					})
				}
				wg.Wait()
				placed += 3
				g.fired[c.invariant]++
			}
			g.wantBroken(t, err, c.invariant, "")
			if now := g.Available(t, "mug"); now != left-placed {
				t.Errorf("%d left, not %d", now, left-placed)
			}
			page, _, err := g.List(t.Context(), order.Filter{CustomerID: "guilty", Limit: 10})
			if err != nil || len(page) != 0 {
				t.Errorf("%d orders placed, %v", len(page), err)
			}
		})
	}
}

func (g *guarded) note(ctx context.Context, no string) error { return g.Note(ctx, no) }

func exec(t *testing.T, db *sqldb.DB, query string) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, query)
		if err == nil && n == 0 {
			t.Error("the seed changed nothing")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inCompany lets do happen while neighbours are written without a pause, until it
// has been in one batch with one of them. It fails every time.
func (g *guarded) inCompany(t *testing.T, invariant, no, spoil string, neighbours []string,
	do func() error) (guilty error) {
	t.Helper()
	shared := 0
	g.Spoil(no, spoil, func(orders int) { shared = max(shared, orders) })
	for shared < 2 {
		ended := make(chan struct{})
		var wg sync.WaitGroup
		for _, n := range neighbours {
			wg.Go(func() {
				for open := true; open; {
					if err := g.Note(t.Context(), n); err != nil {
						t.Errorf("a neighbour failed: %v", err)
						return
					}
					select {
					case <-ended:
						open = false
					default:
					}
				}
			})
		}
		guilty = do()
		close(ended)
		wg.Wait()
		g.fired[invariant]++
		if t.Failed() || !errors.As(guilty, new(*order.BrokenError)) {
			break
		}
	}
	return guilty
}
