package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

var byHand = audit.RepairOptions{Apply: true, Reason: "restored from a backup", Cause: ordertest.Finance}

// seed changes rows by hand.
func (w *world) seed(t *testing.T, text string) {
	t.Helper()
	err := w.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for _, one := range w.sql(text) {
			if n, err := tx.Update(ctx, one); err != nil || n == 0 {
				return fmt.Errorf("%s: %d rows, %w", one, n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) repair(t *testing.T, o audit.RepairOptions) audit.Repairs {
	t.Helper()
	r, err := w.Audit.Repair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) report(t *testing.T) []string {
	t.Helper()
	r, err := w.Audit.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range r.Broken() {
		ids = append(ids, fmt.Sprint(c.ID, c.Violations))
	}
	return ids
}

// repairable are the damages that are repaired, each with the check that finds it.
var repairable = []struct {
	name, sql, check, key string
	gone                  int64 // units that the repair leaves to a person to put back
}{
	{"an open order that nobody looks at", "UPDATE orders SET due_at = NULL WHERE order_no = '$pending'", "order.due",
		"$pending", 0},
	{"a closing order that nobody looks at", "UPDATE orders SET due_at = NULL WHERE order_no = '$closing'",
		"order.due", "$closing", 0},
	{"a finished order that is looked at", "UPDATE orders SET due_at = 1 WHERE order_no = '$whole'", "order.due",
		"$whole", 0},
	{"a refund that nobody looks at", "UPDATE refunds SET due_at = NULL WHERE order_no = '$open'", "refund.due",
		"$open-R01", 0},
	{"a finished refund that is looked at", "UPDATE refunds SET due_at = 1 WHERE order_no = '$whole'", "refund.due",
		"$whole-R01", 0},
	{"counter too high", "UPDATE skus SET available = available + 7 WHERE sku_id = 'mug'", "stock.conserved", "mug",
		0},
	{"counter too low", "UPDATE skus SET available = available - 7 WHERE sku_id = 'mug'", "stock.conserved", "mug",
		7},
	{"counter too high, and units in a bucket", saleRows + ";UPDATE skus SET available = available + 7 WHERE " +
		"sku_id = 'mug'", "stock.conserved", "mug", 0},
	{"late money without its refund", "DELETE FROM refunds WHERE order_no = '$late'", "money.owed_back", "42", 0},
	{"a second payment without its refund", "DELETE FROM refunds WHERE order_no = '$twice'", "money.owed_back", "42",
		0},
	{"a closed refund without a successor", "UPDATE refunds SET state = 'closed', due_at = NULL WHERE order_no = " +
		"'$late';" + eventInto +
		"SELECT order_no, version + 1, updated_at, 'refund.closed', state, state, 'wechat', '', '', '', " +
		"CONCAT('{\"out_refund_no\":\"', (SELECT out_refund_no FROM refunds WHERE order_no = '$late'), " +
		"'\",\"refund\":\"1.00\"}'), " +
		"0 FROM orders WHERE order_no = '$late';" +
		"UPDATE orders SET version = version + 1 WHERE order_no = '$late'", "refund.one_successor", "R42", 0},
	{"the sum of refunds too low", "UPDATE payments SET refund_fen = 0 WHERE order_no = '$partly'",
		"money.no_more_back", "42", 0},
	{"closed, stock kept", "DELETE FROM stock_flows WHERE order_no = '$closed' AND kind = 'return';UPDATE skus SET " +
		"available = available - 1 WHERE sku_id = 'mug'", "stock.agrees_with_state", "$closed", 0},
	{"closed, the flow lost", "DELETE FROM stock_flows WHERE order_no = '$closed' AND kind = 'return'",
		"stock.agrees_with_state", "$closed", 0},
	{"refund paid, stock kept", "DELETE FROM stock_flows WHERE order_no = '$partly' AND kind = 'return';UPDATE " +
		"skus SET available = available - 1 WHERE sku_id = 'mug'", "stock.refund_returned", "$partly-R01", 0},
	{"a close that nobody was told of", "DELETE FROM events_out WHERE order_no = '$closed' AND type = 'order.closed'",
		"events.told", "$closed", 0},
	{"refunds that nobody was told of", "DELETE FROM events_out WHERE order_no = '$partly' AND type LIKE 'refund.%'",
		"events.told", "$partly", 0},
}

// Whoever repairs must see first what would be done, must not do it twice, and must not leave anything broken by it:
// a plan changes nothing, an applied one mends what it says, and the next one is empty.
func TestRepair(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		for _, c := range repairable {
			t.Run(c.name, func(t *testing.T) {
				shelf := w.Available(t, "mug")
				w.seed(t, c.sql)
				broken := w.report(t)
				if !slices.ContainsFunc(broken, func(s string) bool { return strings.HasPrefix(s, c.check) }) {
					t.Fatalf("%s did not find it: %v", c.check, broken)
				}
				is := func(r audit.Repair) bool {
					return r.Check == c.check && strings.HasPrefix(r.Key,
						w.sql(c.key)[0])
				}
				plan := w.repair(t, audit.RepairOptions{})
				if i := slices.IndexFunc(plan.Repairs, is); i < 0 || plan.Repairs[i].Outcome != "" {
					t.Fatalf("not planned: %+v", plan)
				}
				if again := w.report(t); !slices.Equal(broken, again) {
					t.Fatalf("the plan changed %v to %v", broken, again)
				}
				did := w.repair(t, byHand)
				if i := slices.IndexFunc(did.Repairs, is); i < 0 || did.Repairs[i].Outcome != "done" {
					t.Fatalf("not done: %+v", did)
				}
				if left := w.report(t); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				if now := w.Available(t, "mug"); now != shelf-c.gone {
					t.Errorf("the shelf held %d and now %d", shelf, now)
				}
				if again := w.repair(t, byHand); len(again.Repairs)+len(again.Left) > 0 {
					t.Errorf("a second time: %+v", again)
				}
			})
		}
		w.tellsOfRepairs(t)
		w.tellsLate(t)
	})
}

// tellsLate: what is told late is dated when it is told, as the feed is searched by its times; its order closed before.
func (w *world) tellsLate(t *testing.T) {
	t.Helper()
	w.seed(t, "DELETE FROM events_out WHERE order_no = '$closed' AND type = 'order.closed'")
	w.Clock.Advance(time.Minute)
	w.repair(t, byHand)
	var at int64
	if err := w.DB.QueryRowContext(t.Context(), `SELECT at
FROM events_out
WHERE order_no = ?
  AND type = 'order.closed'`, w.closed).Scan(&at); err != nil || at != w.Clock.Now().UnixMilli() {
		t.Errorf("told at %d, it is %d, %v", at, w.Clock.Now().UnixMilli(), err)
	}
}

// tellsOfRepairs: who repaired and why stands in the timeline, in the flows, and nowhere else.
func (w *world) tellsOfRepairs(t *testing.T) {
	t.Helper()
	events, err := w.Timeline(t.Context(), w.pending)
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; last.Event != "repair.due" || last.Actor.ID != "fin" ||
		last.Detail["reason"] != byHand.Reason {
		t.Errorf("the timeline says %+v", last)
	}
	var actor, reason string
	var flowed, counted int64
	if err := w.DB.QueryRowContext(t.Context(), `SELECT f.actor, f.reason, f.created_at, s.updated_at
FROM stock_flows f
JOIN skus s ON s.sku_id = f.sku_id
WHERE f.ref LIKE 'recount-%'
  AND f.delta = 0
ORDER BY f.created_at
LIMIT 1`).Scan(&actor, &reason, &flowed, &counted); err != nil || actor != "fin" ||
		!strings.Contains(reason, byHand.Reason) {
		t.Errorf("the flow says %s %s %v", actor, reason, err)
	}
	if now := w.Clock.Now().UnixMilli(); flowed == 0 || flowed > now || counted < flowed {
		t.Errorf("recounted at %d, the counter written at %d, it is %d", flowed, counted, now)
	}
}

// Which of a counter and its flows is right, no program knows: one of a person who took units off the shelf was lost,
// one says more than it was, or one is there twice. What the repair raised then would be sold without being there. Four
// units are on the shelf: 10 and 5 came in, 8 were broken, 3 are sold.
func TestRepairRaisesNoShelf(t *testing.T) {
	for name, hand := range map[string]string{
		"a count downwards lost":       "DELETE FROM stock_flows WHERE order_no = '' AND kind = 'adjust'",
		"a delivery that says more":    "UPDATE stock_flows SET delta = 50 WHERE order_no = '' AND kind = 'replenish'",
		"a first stock that says more": "UPDATE stock_flows SET delta = 100 WHERE order_no = '' AND kind = 'initial'",
		"a delivery twice": "INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, actor, reason, created_at) " +
			"SELECT order_no, kind, 'again', sku_id, delta, actor, reason, created_at FROM stock_flows WHERE kind = " +
			"'replenish'",
		"the counter raised": "UPDATE skus SET available = available + 3",
	} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				f := ordertest.NewUnverified(t, db, byItself)
				f.SKU(t, "mug", 10)
				w := &world{Fixture: f}
				w.change(t, stock.Change{SkuID: "mug", Delta: 5, Key: "in", Actor: "fin", Reason: "delivery"})
				w.change(t, stock.Change{SkuID: "mug", Delta: -8, Key: "count", Actor: "fin", Reason: "broken"})
				f.PaidOne(t, "a", "mug", 3)
				w.seed(t, hand)
				r := w.repair(t, byHand)
				if n := w.Available(t, "mug"); n != 4 {
					t.Errorf("4 units are there, the shelf holds %d after %+v", n, r)
				}
				if left := w.report(t); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				w.change(t, stock.Change{SkuID: "mug", Delta: 1, Key: "found", Actor: "fin", Reason: "found"})
				if left := w.report(t); len(left) > 0 {
					t.Errorf("left after a person's count: %v", left)
				}
			})
		})
	}
}

// change is what a person says about a shelf.
func (w *world) change(t *testing.T, c stock.Change) {
	t.Helper()
	do := w.Admin.Adjust
	if c.Delta > 0 {
		do = w.Admin.Replenish
	}
	if _, err := do(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// A repaired refund must reach the buyer once: WeChat Pay may have paid the lost one already.
func TestRepairedRefundIsPaidOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		trade, _ := w.WeChat.Trade(w.late + "-01")
		no := "R" + trade.TransactionID
		w.Fixture.MustLookAtRefund(t, no) // sent and accepted; then the row is lost
		w.seed(t, "DELETE FROM refunds WHERE order_no = '$late'")
		w.repair(t, byHand)
		w.Fixture.MustLookAtRefund(t, no)
		w.Fixture.MustSettleRefund(t, w.WeChat.EndRefund(no, payment.RefundSuccess))
		if s := w.State(t, w.late); s != order.StateRefunded {
			t.Errorf("the order is %s", s)
		}
		if left := w.report(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// What cannot be known must not be made up: a program that repaired these would hide the loss.
func TestRepairLeavesToPeople(t *testing.T) {
	for name, c := range map[string]struct{ sql, check string }{
		"paid without payment": {"DELETE FROM payments WHERE order_no = '$asked'",
			"money.paid_once"},
		"an event lost": {"DELETE FROM order_events WHERE order_no = '$closed' AND " +
			"event = 'close.requested'", "events.chain"},
		"a refund of a customer lost": {"DELETE FROM refunds WHERE order_no = '$partly';DELETE " +
			"FROM refund_items WHERE out_refund_no = '$partly-R01'", "money.no_more_back"},
		"a second refund lost": {"UPDATE payments SET refund_fen = 250 WHERE order_no = " +
			"'$partly'", "money.no_more_back"},
		"a customer's refund closed, the next one lost": {"UPDATE refunds SET state = 'closed', due_at = NULL " +
			"WHERE order_no = '$open'", "refund.one_successor"},
		"one counter of two": {"UPDATE skus SET available = available + 7 WHERE sku_id = 'mug';" +
			"INSERT INTO skus (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at) " +
			"VALUES ('tee', 'Tee', 1, 0, 0, 1, 1, 1);" +
			"INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) VALUES ('', 'adjust', 'x', " +
			"'tee', -5, 1)", "stock.conserved"},
		"a close without a proof": {"UPDATE order_events SET detail = '' WHERE order_no = '$closed' AND event = " +
			"'close.accepted';DELETE FROM stock_flows WHERE order_no = '$closed' AND kind = 'return'", "close.proven"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqldbtest.SQLite(t)) // what is left is decided before the engine
			w.seed(t, c.sql)
			did := w.repair(t, byHand)
			i := slices.IndexFunc(did.Left, func(l audit.LeftOver) bool { return l.Check == c.check })
			if i < 0 || did.Left[i].Next == "" {
				t.Errorf("not left to a person: %+v", did)
			}
			if _, err := w.Audit.Repair(t.Context(), audit.RepairOptions{Apply: true,
				Cause: ordertest.Finance}); err == nil {
				t.Error("applied without a reason")
			}
		})
	}
	for _, id := range audit.CheckIDs() {
		if audit.NextStep(id) == "" {
			t.Errorf("%s has no next step", id)
		}
	}
}

// A repair beside a running service must not undo what the service does meanwhile.
func TestRepairBesideARunningService(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		w.seed(t, "UPDATE skus SET available = available + 7 WHERE sku_id = 'mug';UPDATE orders SET due_at = NULL "+
			"WHERE order_no = '$pending';DELETE FROM refunds WHERE order_no = '$late';"+
			"DELETE FROM stock_flows WHERE order_no = '$partly' AND kind = 'return'")
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := range 5 {
					p, err := w.Place(t.Context(), order.Placement{CustomerID: "c",
						RequestID: fmt.Sprint("run", i, "-", n), Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := w.Cancel(t.Context(), cancel(p.Order.OrderNo)); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				if _, err := w.Audit.Repair(t.Context(), byHand); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left := w.report(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		for _, no := range []string{w.pending, w.late, w.partly} {
			events, err := w.Timeline(t.Context(), no)
			repairs := slices.DeleteFunc(events, func(e order.TimelineEvent) bool {
				return !strings.HasPrefix(e.Event,
					"repair.")
			})
			if err != nil || len(repairs) != 1 {
				t.Errorf("repaired once by one of four, yet %v %v", repairs, err)
			}
		}
	})
}

// A plan whose check the service of orders does not know could be shown and never done.
func TestEveryPlannedRepairCanBeDone(t *testing.T) {
	f := ordertest.New(t, sqldbtest.SQLite(t))
	f.SKU(t, "nothing", 0)
	for _, check := range audit.RepairedChecks() {
		r := order.RepairRequest{Check: check, Key: "nothing", OrderNo: "nothing", Reason: "a row that is not broken",
			Cause: ordertest.Finance}
		if done, err := f.Repair(t.Context(), r); done || err != nil {
			t.Errorf("%s: %v %v", check, done, err)
		}
	}
	if _, err := f.Repair(t.Context(), order.RepairRequest{Check: "close.proven", Reason: "x",
		Cause: ordertest.Finance}); err == nil {
		t.Error("what no program can repair was repaired")
	}
}

// Money that fits no order waits for its second person, and a hand deletes the refund that waits. The repair makes it
// again, and it has to wait for people again.
func TestRepairSendsNothingThatWaitsForASecondPerson(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		two := w.Restarted(t, func(c *order.Config) { c.RefundTwoPersons = 50 })
		o := w.PlaceOne(t, "held", "mug", 1)
		w.Prepaid(t, o.OrderNo)
		trade := payment.Trade{OutTradeNo: o.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4290",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 99, PayerTotal: payment.Said(99),
			Currency: payment.CNY, SuccessTime: w.Clock.Now()}
		if s, err := two.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		if err := two.RefundHeld(t.Context(), "4290", ordertest.Finance); !errors.Is(err, order.ErrRefundWaits) {
			t.Fatal(err)
		}
		w.AssertVerified(t)
		w.seed(t, "DELETE FROM refunds WHERE out_refund_no = 'R4290';UPDATE payments SET refund_fen = 0 WHERE "+
			"transaction_id = '4290'")
		r, err := two.Audit.Repair(t.Context(), byHand)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := two.FindRefund(t.Context(), "R4290"); err != nil || got.State != order.RefundStatePending ||
			got.ApprovalsNeeded != 2 {
			t.Errorf("it goes out by one person: %+v, %v; %+v", got, err, r.Repairs)
		}
		if left := w.report(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
