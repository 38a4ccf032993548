package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/stock"
)

// A repair that rests on rows which are broken themselves builds on them: a counter that was right became wrong when
// a deduct flow was lost, and what was sold already was sold again. Each is planted; the plan and the repair must name
// the check, and leave the counter, the refund, the due time as it is.
func TestRepairRestsOnWholeRows(t *testing.T) {
	for _, c := range unsound {
		t.Run(c.check+", "+c.name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				w := newWorld(t, db)
				w.seed(t, c.sql)
				broken, key := w.report(t), w.sql(c.key)[0]
				for what, o := range map[string]audit.RepairOptions{"plan": {}, "repair": byHand} {
					r := w.repair(t, o)
					i := slices.IndexFunc(r.Repairs, func(r audit.Repair) bool {
						return r.Check == c.check && strings.HasPrefix(r.Key, key)
					})
					if i < 0 {
						t.Errorf("the %s does not show it: %+v", what, r)
					} else if got := r.Repairs[i].Outcome; !strings.HasPrefix(got, "not repairable") ||
						!strings.Contains(got, " "+c.because+":") {
						t.Errorf("the %s says %q, want it to name %s", what, got, c.because)
					}
				}
				if left := w.report(t); !slices.Equal(left, broken) {
					t.Errorf("%v\nbecame\n%v", broken, left)
				}
			})
		})
	}
}

// unsound are repairs that would build on a row that is broken, with the check that finds that row.
var unsound = []struct{ check, name, sql, key, because string }{
	{"stock.conserved", "a deduct flow lost", "DELETE FROM stock_flows WHERE order_no = '$asked' AND kind = 'deduct'",
		"mug", "stock.deducted_once"},
	{"stock.conserved", "a flow without its order", flowInto + "('nobody', 'deduct', '', 'mug', -1, 1)",
		"mug", "stock.no_stray_flow"},
	{"stock.conserved", "a deduct flow doubled", flowInto + "('$asked', 'deduct', 'again', 'mug', -2, 1)",
		"mug", "stock.revived_once"},
	{"stock.conserved", "a return doubled", flowInto + "('$closed', 'return', 'again', 'mug', 1, 1)",
		"mug", "stock.returned_no_more"},
	{"stock.conserved", "a return of nobody's refund", flowInto + "('$asked', 'return', 'x', 'mug', 1, 1)",
		"mug", "stock.return_has_refund"},
	{"stock.conserved", "the first stock lost", "DELETE FROM stock_flows WHERE kind = 'initial' AND sku_id = 'mug';" +
		flowInto + "('', 'replenish', 'x', 'mug', 60, 1)", "mug", "stock.came_in"},
	{"stock.conserved", "the lines of an order and its flows lost", "DELETE FROM order_items WHERE order_no = " +
		"'$asked';" +
		"DELETE FROM stock_flows WHERE order_no = '$asked'", "mug", "order.total"},
	{"stock.conserved", "an order lost, and its lines and flows", "DELETE FROM orders WHERE order_no = '$asked';" +
		"DELETE FROM order_items WHERE order_no = '$asked';DELETE FROM stock_flows WHERE order_no = '$asked'",
		"mug", "events.of_an_order"},
	{"stock.conserved", "a paid order's stock returned", flowInto + "('$asked', 'return', 'close', 'mug', 2, 1)",
		"mug", "stock.agrees_with_state"},
	{"stock.conserved", "more in a bucket than was moved there", saleRows +
		";UPDATE stock_buckets SET remaining = remaining + 1 WHERE bucket_id = 1", "mug", "bucket.conserved"},
	{"stock.conserved", "sold from a bucket that there is not", "UPDATE skus SET available = available + 1 WHERE " +
		"sku_id = 'mug';UPDATE stock_flows SET bucket_id = 9 WHERE order_no = '$asked' AND kind = 'deduct'",
		"mug", "bucket.flow_of_its_sku"},
	{"stock.agrees_with_state", "closed by hand after it was paid", "UPDATE orders SET state = 'closed' WHERE " +
		"order_no = '$asked';UPDATE order_events SET event = 'close.accepted', " +
		"to_state = 'closed', detail = '{\"close\":\"accepted\"}' WHERE order_no = '$asked' AND seq = 2",
		"$asked", "events.last_is_state"},
	{"stock.agrees_with_state", "a line's flow lost", "DELETE FROM stock_flows WHERE order_no = '$closed' AND " +
		"kind = " +
		"'return';UPDATE stock_flows SET delta = -2 WHERE order_no = '$closed' AND kind = 'deduct'",
		"$closed", "stock.deducted_once"},
	{"stock.agrees_with_state", "money came", "DELETE FROM stock_flows WHERE order_no = '$late' AND kind = " +
		"'return';" +
		"UPDATE payments SET outcome = 'applied', reason = '' WHERE order_no = '$late'", "$late", "events.payments"},
	{"stock.refund_returned", "paid by hand, and never sent", "UPDATE refunds SET state = 'success', due_at = NULL " +
		"WHERE order_no = '$open'", "$open-R01", "events.refunds"},
	{"stock.refund_returned", "of another order", "DELETE FROM stock_flows WHERE order_no = '$partly' AND kind = " +
		"'return';UPDATE refunds SET transaction_id = (SELECT transaction_id FROM payments WHERE order_no = " +
		"'$whole') " +
		"WHERE order_no = '$partly'", "$partly-R01", "money.refund_of_order"},
	{"money.owed_back", "the order's own money, owed by hand", "UPDATE payments SET outcome = 'owed', reason = " +
		"'late', " +
		"refund_fen = 0 WHERE order_no = '$asked';DELETE FROM refunds WHERE order_no = '$asked'",
		"42", "events.payments"},
	{"money.owed_back", "of another amount", "DELETE FROM refunds WHERE order_no = '$late';UPDATE payments SET " +
		"amount_fen = amount_fen + 100 WHERE order_no = '$late'", "42", "events.payments"},
	{"money.owed_back", "its write-off lost", "DELETE FROM write_offs", "42", "money.written_off"},
	{"refund.one_successor", "closed by hand after it was paid", "UPDATE refunds SET state = 'closed', due_at = " +
		"NULL " +
		"WHERE order_no = '$late'", "R42", "events.refunds"},
	{"money.no_more_back", "a rejected refund brought back", "UPDATE refunds SET state = 'processing', due_at = 1 " +
		"WHERE out_refund_no = '$asked-R01'", "42", "events.refunds"},
	{"refund.due", "settled by hand and owed again", "UPDATE refunds SET state = 'owed', due_at = NULL WHERE " +
		"order_no " +
		"= '$whole'", "$whole-R01", "events.refunds"},
	{"refund.due", "sent without approval", "UPDATE refunds SET state = 'owed', approvals_needed = 2, due_at = " +
		"NULL " +
		"WHERE order_no = '$open'", "$open-R01", "refund.approved"},
	{"refund.due", "its amount raised", "UPDATE refunds SET amount_fen = amount_fen + 50, due_at = NULL WHERE " +
		"order_no = '$open'", "$open-R01", "refund.told"},
	{"money.no_more_back", "its amount raised", "UPDATE refunds SET amount_fen = amount_fen + 50 WHERE order_no = " +
		"'$open'", "42", "refund.told"},
	{"stock.refund_returned", "its lines raised", "DELETE FROM stock_flows WHERE order_no = '$partly' AND kind = " +
		"'return';UPDATE refund_items SET quantity = 3 WHERE out_refund_no = '$partly-R01'", "$partly-R01",
		"refund.lines_told"},
	{"stock.refund_returned", "of goods that stay with the buyer",
		"DELETE FROM stock_flows WHERE order_no = '$partly' AND " +
			"kind = 'return';UPDATE order_events SET detail = REPLACE(detail, '\"restock\":\"1\"', " +
			"'\"restock\":\"0\"') WHERE order_no = '$partly'", "$partly-R01", "refund.terms_told"},
	{"order.due", "its deadline moved to 2286", "UPDATE orders SET due_at = NULL, expire_at = " + never +
		" WHERE order_no = '$pending'", "$pending", "order.times"},
	{"order.due", "its deadline moved by a day", "UPDATE orders SET due_at = NULL, expire_at = expire_at + 86400000 " +
		"WHERE order_no = '$pending'", "$pending", "attempt.facts"},
	{"order.due", "open by hand after it was paid", "UPDATE orders SET state = 'pending', due_at = NULL WHERE " +
		"order_no " +
		"= '$asked'", "$asked", "events.last_is_state"},
	{"order.due", "open by hand after it was closed", "UPDATE orders SET state = 'closing', due_at = NULL WHERE " +
		"order_no = '$closed'", "$closed", "stock.agrees_with_state"},
}

// Units that are sold must not be sold again because somebody lost the flow that took them.
func TestRepairDoesNotOversell(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewUnverified(t, db, byItself)
		f.SKU(t, "mug", 10)
		w := &world{Fixture: f, asked: f.PaidOne(t, "a", "mug", 3).OrderNo}
		w.seed(t, "DELETE FROM stock_flows WHERE order_no = '$asked'")
		r := w.repair(t, byHand)
		sold := 3
		for i := range 10 {
			if _, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: fmt.Sprint("n", i),
				Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}); err == nil {
				sold++
			}
		}
		if sold > 10 {
			t.Errorf("%d of 10 sold after %+v", sold, r)
		}
	})
}

// A check that a repair rests on and that does not exist, or looks at all orders for one, would be no check, or one
// that keeps everybody's rows from being repaired for the sake of one.
func TestRepairsRestOnTheirOwnRows(t *testing.T) {
	want := []string{"stock.conserved order.total", "stock.conserved order.lines",
		"stock.conserved order.line_of_an_order", "stock.conserved events.of_an_order",
		"stock.conserved attempt.of_an_order", "stock.conserved money.accounted"}
	if got := audit.NotNarrowed(); !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v: what is lost of an order may have been of any SKU", got, want)
	}
}
