package order_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// world is one order of every kind that money passes through, all in order.
type world struct {
	*ordertest.Fixture
	partly, whole, late, open string // order numbers
}

func newWorld(t *testing.T, db *sqldb.DB) *world {
	t.Helper()
	w := &world{Fixture: ordertest.NewUnverified(t, db, byItself)}
	w.SKU(t, "mug", 100)
	back := func(key, no string, quantity int64) {
		r := mustAsk(t, w.Fixture, ask(no, key, quantity))
		mustTurn(t, w.Fixture, r.OutRefundNo)
		settleRefund(t, w.Fixture, w.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
	}
	w.partly, w.whole = w.PaidOne(t, "a", "mug", 3).OrderNo, w.PaidOne(t, "b", "mug", 2).OrderNo
	back("a", w.partly, 1)
	back("b", w.whole, 2)
	o := w.PlaceOne(t, "c", "mug", 1)
	out := w.Prepaid(t, o.OrderNo)
	if _, err := w.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
		t.Fatal(err)
	}
	trade, err := w.WeChat.Pay(out, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Settle(t.Context(), trade, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
	w.late = o.OrderNo
	w.open = w.PaidOne(t, "d", "mug", 2).OrderNo
	mustAsk(t, w.Fixture, ask(w.open, "d", 1))
	w.AssertVerified(t)
	return w
}

// A check that cannot fire proves nothing: every violation of money and of what comes back is seeded by hand, and its
// check must name it.
func TestVerifyFindsSeededViolations(t *testing.T) {
	for name, c := range map[string]struct {
		seed  string // $x is the order of that name
		check string
	}{
		"stock back, refund says not to":          {"UPDATE refunds SET restock = 0 WHERE order_no = '$partly'", "stock.return_has_refund"},
		"stock back, refund never paid":           {"UPDATE refunds SET state = 'owed', due_at = 1 WHERE order_no = '$partly'", "stock.return_has_refund"},
		"refund paid, stock kept":                 {"DELETE FROM stock_flows WHERE order_no = '$partly' AND kind = 'return'", "stock.refund_returned"},
		"more refunded than bought":               {"UPDATE refund_items SET quantity = 9 WHERE out_refund_no = '$open-R01'", "stock.refunded_no_more"},
		"stock taken again of an open order":      {"INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) VALUES ('$open', 'deduct', 'revive', 'mug', -2, 1)", "stock.revived_once"},
		"refunds above the payment":               {"UPDATE refunds SET amount_fen = 999 WHERE order_no = '$partly'", "money.no_more_back"},
		"the sum of refunds lost":                 {"UPDATE payments SET refund_fen = 0 WHERE order_no = '$whole'", "money.no_more_back"},
		"all went back, the order is paid":        {"UPDATE orders SET state = 'paid' WHERE order_no = '$whole'", "money.refunded"},
		"refunded, the money is here":             {"UPDATE refunds SET state = 'rejected' WHERE order_no = '$whole'", "money.refunded"},
		"a refund on another order":               {"UPDATE refunds SET order_no = '$whole' WHERE order_no = '$partly'", "money.refund_of_order"},
		"late money not owed back":                {"DELETE FROM refunds WHERE order_no = '$late'", "money.owed_back"},
		"refunding without a refund":              {"UPDATE refunds SET state = 'rejected', due_at = NULL WHERE order_no = '$open'", "money.refunding"},
		"paid with a refund under way":            {"UPDATE orders SET state = 'paid' WHERE order_no = '$open'", "money.refunding"},
		"money of nobody":                         {"UPDATE payments SET refund_fen = refund_fen - 1 WHERE order_no = '$partly'", "money.total"},
		"sent without approval":                   {"UPDATE refunds SET approvals_needed = 1 WHERE order_no = '$whole'", "refund.approved"},
		"under way, and nobody looks":             {"UPDATE refunds SET due_at = NULL WHERE order_no = '$open'", "refund.due"},
		"ended, and somebody looks for ever":      {"UPDATE refunds SET due_at = 1 WHERE order_no = '$whole'", "refund.due"},
		"closed and never replaced":               {"UPDATE refunds SET state = 'closed', due_at = NULL WHERE order_no = '$late'", "refund.one_successor"},
		"an applied payment of no order":          {"UPDATE payments SET order_no = 'nobody' WHERE order_no = '$partly'", "money.accounted"},
		"stock kept by a closed order":            {"DELETE FROM stock_flows WHERE order_no = '$late' AND kind = 'return'", "stock.agrees_with_state"},
		"a refund's stock returned as a close's":  {"UPDATE stock_flows SET ref = 'close' WHERE order_no = '$partly' AND kind = 'return'", "stock.agrees_with_state"},
		"a payment that no bill was held against": {"INSERT INTO reconciliations (bill_date, bill_type, state, day_from, day_to, finished_at, ours_fen, result) VALUES ('2027-01-15', 'ALL', 'done', 1, 1900000000000, 1900000000000, 5, '')", "books.day_is_whole"},
		"written off by one":                      {"INSERT INTO differences (id, bill_date, bill_type, run_no, kind, ref, order_no, out_trade_no, transaction_id, bill_line, bill_fen, ours_fen, bill_state, ours_state, facts, healable, status, opened_at, proposed_by, resolved_by, resolved_why) VALUES ('x', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'WRITTEN_OFF', 1, 'fin', 'fin', 'x')", "books.resolved_have_owners"},
	} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				w := newWorld(t, db)
				seed := strings.NewReplacer("$partly", w.partly, "$whole", w.whole, "$late", w.late, "$open", w.open).Replace(c.seed)
				err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					n, err := tx.Update(ctx, seed)
					if err == nil && n == 0 {
						t.Error("the seed changed nothing")
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				r, err := w.Verify(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				var fired []string
				for _, check := range r.Checks {
					if check.Count > 0 {
						fired = append(fired, check.ID)
					}
				}
				if !slices.Contains(fired, c.check) {
					t.Errorf("%s did not fire, only %v", c.check, fired)
				}
			})
		})
	}
}

// Our books alone cannot show what WeChat has and we lack: each way in which the two can differ must be named.
func TestVerifyWithWeChat(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		broken := func() map[string]int {
			t.Helper()
			r, err := w.VerifyWeChat(t.Context(), w.Clock.Now().Add(-time.Hour), nil)
			if err != nil || r.Orders < 5 {
				t.Fatal(r, err)
			}
			found := map[string]int{}
			for _, c := range r.Checks {
				if c.Count > 0 {
					found[c.ID] = c.Count
				}
			}
			return found
		}
		if found := broken(); len(found) != 0 {
			t.Fatalf("in order, yet %v", found)
		}
		unheard := w.PlaceOne(t, "unheard", "mug", 1)
		if _, err := w.WeChat.Pay(w.Prepaid(t, unheard.OrderNo), false); err != nil {
			t.Fatal(err)
		}
		invented, _ := w.WeChat.Trade(w.open + "-01")
		invented.State = payment.TradeNotPay
		w.WeChat.Put(invented)
		payable := w.PlaceOne(t, "payable", "mug", 1)
		out := w.Prepaid(t, payable.OrderNo)
		if _, err := w.Cancel(t.Context(), cancel(payable.OrderNo)); err != nil {
			t.Fatal(err)
		}
		trade, _ := w.WeChat.Trade(out)
		trade.State = payment.TradeNotPay
		w.WeChat.Put(trade)
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE refunds SET state = 'cancelled' WHERE order_no = ?", w.whole)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		found := broken()
		for _, id := range []string{"wechat.paid_is_held", "wechat.held_is_paid", "wechat.closed_takes_nothing", "wechat.refunds_agree"} {
			if found[id] != 1 {
				t.Errorf("%s: %d", id, found[id])
			}
		}
	})
}

// The list of dead states stands in SQL and in Go: a state that is dead in one only would lose money in silence.
func TestDeadRefundsAreTheUncommitted(t *testing.T) {
	for _, s := range order.RefundStates() {
		if dead := strings.Contains(order.DeadRefunds, "'"+string(s)+"'"); dead == s.Committed() {
			t.Errorf("%s: dead in SQL %v, committed in Go %v", s, dead, s.Committed())
		}
	}
}
