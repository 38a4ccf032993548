package audit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/stock"
)

// world is one order of every kind that money passes through, all in order.
type world struct {
	*ordertest.Fixture
	// order numbers
	partly, whole, late, open, pending, closed, closing, asked, twice string
	wanted, vouched, unclaimed                                        string
	waits, calling, noted                                             string
	refunds                                                           map[string]string // the oldest of each
}

func newWorld(t *testing.T, db *sqldb.DB) *world {
	t.Helper()
	w := &world{Fixture: ordertest.NewUnverified(t, db, byItself)}
	w.SKU(t, "mug", 100)
	w.SKU(t, "cup", 100)
	w.outOfTime(t)
	back := func(key, no string, quantity int64) {
		r := w.Fixture.MustAsk(t, ordertest.Ask(no, key, quantity))
		w.Fixture.MustLookAtRefund(t, r.OutRefundNo)
		w.Fixture.MustSettleRefund(t, w.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
	}
	w.partly, w.whole = w.PaidOne(t, "a", "mug", 3).OrderNo, w.PaidOne(t, "b", "mug", 2).OrderNo
	back("a", w.partly, 1)
	back("b", w.whole, 2)
	w.late = w.cancelled(t, "c")
	w.pay(t, w.late+"-01")
	w.open = w.PaidOne(t, "d", "mug", 2).OrderNo
	w.Fixture.MustAsk(t, ordertest.Ask(w.open, "d", 1))
	w.closed = w.cancelled(t, "e")
	w.twice = w.PlaceOne(t, "f", "mug", 1).OrderNo
	w.Prepaid(t, w.twice)
	w.prepaidByApp(t, w.twice)
	w.pay(t, w.twice+"-02")
	w.pay(t, w.twice+"-01")
	w.MustLookAtRefund(t, w.FirstRefund(t, w.twice))
	placed, err := w.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "g",
		Lines: []stock.Line{{SkuID: "cup", Quantity: 1}, {SkuID: "mug", Quantity: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	w.pending = placed.Order.OrderNo
	w.Prepaid(t, w.pending)
	w.prepaidByApp(t, w.pending)
	careful := w.Restarted(t, func(*order.Config) {}) // approves nothing by itself
	w.asked = w.PaidOne(t, "h", "mug", 2).OrderNo
	careful.MustDecide(t, careful.MustAsk(t, ordertest.Ask(w.asked, "h1", 1)).OutRefundNo, order.RefundEventReject,
		ordertest.Finance)
	careful.MustDecide(t, careful.MustAsk(t, ordertest.Ask(w.asked, "h2", 1)).OutRefundNo, order.RefundEventApprove,
		ordertest.Finance)
	w.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
	w.closing = w.cancelled(t, "i")
	w.calling = w.PlaceOne(t, "k", "mug", 1).OrderNo
	if _, err := w.Prepay(t.Context(), order.PrepayRequest{OrderNo: w.calling, CustomerID: "c",
		TradeType: payment.App, Cause: ordertest.Customer}); err == nil {
		t.Fatal("answered")
	}
	w.WeChat.Before = nil
	w.waitsForTwo(t)
	w.refundedElsewhere(t)
	w.writesOff(t)
	w.staff(t)
	w.AssertVerified(t)
	w.refunds = map[string]string{}
	for _, no := range []string{w.partly, w.whole, w.open, w.asked, w.waits} {
		w.refunds[no] = w.FirstRefund(t, no)
	}
	return w
}

// outOfTime makes two orders whose time was over and that somebody wanted closed then, and leaves the clock where both
// have ended: one's customer, and of the other two people say that nothing was paid.
func (w *world) outOfTime(t *testing.T) {
	t.Helper()
	w.wanted, w.vouched = w.PlaceOne(t, "w", "mug", 1).OrderNo, w.PlaceOne(t, "v", "mug", 1).OrderNo
	w.Clock.Advance(32 * time.Minute)
	w.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
	for _, no := range []string{w.wanted, w.vouched} {
		_ = w.Expire(t.Context(), no, ordertest.Scheduler)
	}
	w.WeChat.Before = nil
	if _, err := w.Cancel(t.Context(), cancel(w.wanted)); err != nil {
		t.Fatal(err)
	}
	for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
		if _, err := w.VouchUnpaid(t.Context(), order.VouchRequest{OrderNo: w.vouched, Reason: "looked",
			Cause: who}); err != nil {
			t.Fatal(err)
		}
	}
	w.Clock.Advance(time.Hour)
	if err := w.Expire(t.Context(), w.wanted, ordertest.Scheduler); err != nil {
		t.Fatal(err)
	}
	for no, by := range map[string]order.CloseReason{w.wanted: order.CloseReasonCancel,
		w.vouched: order.CloseReasonOperator} {
		if o, err := w.Find(t.Context(), no); err != nil || o.State != order.StateClosed || o.CloseReason != by {
			t.Fatalf("%s by %s: %v", o.State, o.CloseReason, err)
		}
	}
}

// waitsForTwo has a refund of two lines that two people have to approve, and none has.
func (w *world) waitsForTwo(t *testing.T) {
	t.Helper()
	placed, err := w.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "l",
		Lines: []stock.Line{{SkuID: "cup", Quantity: 3}, {SkuID: "mug", Quantity: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	w.waits = placed.Order.OrderNo
	w.Prepaid(t, w.waits)
	w.pay(t, w.waits+"-01")
	ask := ordertest.Ask(w.waits, "l", 1)
	ask.Lines = []stock.Line{{SkuID: "cup", Quantity: 2}, {SkuID: "mug", Quantity: 1}}
	w.Restarted(t, func(c *order.Config) { c.RefundTwoPersons = 1 }).MustAsk(t, ask)
}

// refundedElsewhere has a refund of the merchant platform that nobody has looked at, and one that an operator asks for.
func (w *world) refundedElsewhere(t *testing.T) {
	t.Helper()
	w.noted = w.PaidOne(t, "m", "mug", 2).OrderNo
	o, err := w.Find(t.Context(), w.noted)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "MADE-ELSEWHERE",
		TransactionID: o.Payment.TransactionID, Amount: 100, Total: o.Payment.Total})
	if err != nil {
		t.Fatal(err)
	}
	r.MchID = ordertest.MchID
	w.MustSettleRefund(t, r)
	ask := ordertest.Ask(w.noted, "m", 1)
	ask.CustomerID, ask.Cause = "", order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "olga"},
		Type: "request", ID: "r"}
	w.MustAsk(t, ask)
}

// writesOff has money that fits no order, which two people have written off.
func (w *world) writesOff(t *testing.T) {
	t.Helper()
	w.unclaimed = w.PlaceOne(t, "u", "mug", 1).OrderNo
	trade, err := w.WeChat.Pay(w.Prepaid(t, w.unclaimed), false)
	if err != nil {
		t.Fatal(err)
	}
	trade.AppID = "wx_other"
	w.WeChat.Put(trade)
	if s, err := w.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
		if _, err := w.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: trade.TransactionID,
			Action: order.HeldWriteOff, Reason: "nobody's", Cause: who}); err != nil {
			t.Fatal(err)
		}
	}
}

// staff are an admin whom the shell made and two whom he made, each with a token, and one who has left.
func (w *world) staff(t *testing.T) {
	t.Helper()
	now := w.Clock.Now()
	for _, p := range []struct {
		name string
		role operators.Role
		by   string
	}{{"adam", operators.Admin, "cli:root"}, {"flora", operators.Finance, "adam"},
		{"gone", operators.Viewer, "adam"}, {"olga", operators.Operator, operators.Bootstrap}} {
		err := operators.Create(t.Context(), w.DB, p.name, p.role, p.by, now)
		if err == nil {
			err = w.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.Update(ctx, `INSERT INTO operator_tokens
  (name, person, role, sha256, created_by, created_at)
VALUES (?, ?, ?, ?, ?, ?)`, p.name, p.name, string(p.role), fmt.Sprintf("%064s", p.name), p.by, now.UnixMilli())
				return err
			})
		}
		if err == nil && p.name == "gone" {
			err = operators.Disable(t.Context(), w.DB, p.name, "adam", now)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// cancelled is an order that was prepaid and then cancelled.
func (w *world) cancelled(t *testing.T, key string) string {
	t.Helper()
	o := w.PlaceOne(t, key, "mug", 1)
	before := w.WeChat.Before
	w.WeChat.Before = nil
	w.Prepaid(t, o.OrderNo)
	w.WeChat.Before = before
	if _, err := w.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
		t.Fatal(err)
	}
	return o.OrderNo
}

// prepaidByApp closes the attempt of an order and opens another.
func (w *world) prepaidByApp(t *testing.T, no string) {
	t.Helper()
	if _, err := w.Prepay(t.Context(), order.PrepayRequest{OrderNo: no, CustomerID: "c", TradeType: payment.App,
		Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
}

// pay lets money come against all promises.
func (w *world) pay(t *testing.T, outTradeNo string) {
	t.Helper()
	trade, err := w.WeChat.Pay(outTradeNo, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Settle(t.Context(), trade, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
}

// sql fills the names of orders in.
func (w *world) sql(text string) []string {
	text = strings.NewReplacer("$partly-R01", w.refunds[w.partly], "$whole-R01", w.refunds[w.whole],
		"$open-R01", w.refunds[w.open], "$asked-R01", w.refunds[w.asked],
		"$waits-R01", w.refunds[w.waits], "$waits", w.waits, "$calling", w.calling, "$noted", w.noted,
		"$partly", w.partly, "$whole", w.whole, "$late", w.late, "$open", w.open, "$pending",
		w.pending,
		"$sha", strings.Repeat("5a", 20), "$closed", w.closed, "$closing", w.closing, "$asked", w.asked,
		"$twice", w.twice, "$wanted", w.wanted, "$vouched", w.vouched, "$unclaimed", w.unclaimed).Replace(text)
	return strings.Split(text, ";")
}

const (
	flowInto  = "INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) VALUES "
	eventInto = "INSERT INTO order_events (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, " +
		"cause_type, cause_id, detail, took_ms) "
	paymentInto = "INSERT INTO payments (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, " +
		"trade_type, appid, mchid, paid_at, received_at, source, outcome, reason, refund_fen) "
	trailInto = "INSERT INTO trail (seq, act, step, at, actor, role, address, session, action, target, reason, " +
		"asked, outcome, was, became, request_id, prev_sha256, sha256) VALUES "
	diffInto = "INSERT INTO differences (id, bill_date, bill_type, run_no, kind, ref, order_no, out_trade_no, " +
		"transaction_id, bill_line, bill_fen, ours_fen, bill_state, ours_state, facts, healable, status, " +
		"opened_at, proposed_by, resolved_by, resolved_why) VALUES "
)

// seed is a violation, made by hand in a world that is in order; $x is the order of that name, and the checks named
// must find it.
type seed struct{ name, sql, checks string }

// seeds are all kinds of violations; those of single rows are in seeds_test.go.
var seeds = slices.Concat(rowSeeds, handSeeds, gateSeeds, []seed{
	{"counter moved by hand", "UPDATE skus SET available = available + 1 WHERE sku_id = 'mug'", "stock.conserved"},
	{"return row without counter", flowInto + "('$partly', 'return', 'x', 'mug', 1, 1)",
		"stock.conserved stock.return_has_refund"},
	{"returned twice under another key", flowInto + "('$closed', 'return', 'again', 'mug', 1, 1)",
		"stock.returned_no_more stock.agrees_with_state stock.return_has_refund"},
	{"partial returns above what was bought", flowInto + "('$partly', 'return', 'x', 'mug', 9, 1)",
		"stock.returned_no_more"},
	{"a paid order also given back", flowInto + "('$twice', 'return', 'close', 'mug', 1, 1)",
		"stock.agrees_with_state close.proven"},
	{"the first stock lost", "DELETE FROM stock_flows WHERE kind = 'initial' AND sku_id = 'mug'",
		"stock.came_in stock.conserved"},
	{"unlimited by hand", "UPDATE skus SET unlimited = 1 WHERE sku_id = 'mug'", "stock.came_in"},
	{"sold below zero", "UPDATE skus SET available = -1 WHERE sku_id = 'mug'", "stock.not_negative stock.conserved"},
	{"more sold than ever came in", "UPDATE stock_flows SET delta = 5 WHERE order_no = '' AND sku_id = 'mug'",
		"stock.not_oversold"},
	{"a line never deducted", "DELETE FROM stock_flows WHERE order_no = '$pending' AND sku_id = 'cup'",
		"stock.deducted_once stock.conserved"},
	{"a line deducted with another quantity", "UPDATE stock_flows SET delta = -9 WHERE order_no = '$pending' AND " +
		"sku_id = 'cup'", "stock.deducted_once"},
	{"a line deducted twice", flowInto + "('$pending', 'deduct', 'again', 'mug', -2, 1)",
		"stock.revived_once stock.conserved"},
	{"stock taken again of an open order", flowInto + "('$open', 'deduct', 'revive', 'mug', -2, 1)",
		"stock.revived_once"},
	{"a flow of no order", flowInto + "('nobody', 'deduct', '', 'mug', -1, 1)", "stock.no_stray_flow"},
	{"a flow of no SKU", flowInto + "('', 'adjust', 'x', 'ghost', 1, 1)", "stock.flow_of_a_sku"},
	{"closed, stock kept", "DELETE FROM stock_flows WHERE order_no = '$closed' AND kind = 'return'",
		"stock.agrees_with_state"},
	{"stock kept by a late order", "DELETE FROM stock_flows WHERE order_no = '$late' AND kind = 'return'",
		"stock.agrees_with_state"},
	{"a refund's stock returned as a close's", "UPDATE stock_flows SET ref = 'close' WHERE order_no = '$partly' " +
		"AND kind = 'return'", "stock.agrees_with_state"},
	{"stock back, refund says not to", "UPDATE refunds SET restock = 0 WHERE order_no = '$partly'",
		"stock.return_has_refund"},
	{"stock back, refund never paid", "UPDATE refunds SET state = 'owed', due_at = 1 WHERE order_no = '$partly'",
		"stock.return_has_refund money.refunding events.refunds"},
	{"refund paid, stock kept", "DELETE FROM stock_flows WHERE order_no = '$partly' AND kind = 'return'",
		"stock.refund_returned"},
	{"more refunded than bought", "UPDATE refund_items SET quantity = 9 WHERE out_refund_no = '$open-R01'",
		"stock.refunded_no_more"},
	{"500 on close taken for success", "UPDATE order_events SET detail = '' WHERE order_no = '$closed' AND event = " +
		"'close.accepted'", "close.proven attempt.closed_newest"},
	{"stock back before the close was answered", "UPDATE stock_flows SET created_at = 1 WHERE order_no = '$closed' " +
		"AND kind = 'return'", "close.proven"},
	{"paid after closed", "UPDATE orders SET state = 'paid' WHERE order_no = '$closed'",
		"stock.agrees_with_state events.last_is_state money.paid_once"},
	{"state without event", "UPDATE orders SET state = 'closing', close_reason = 'cancel' WHERE order_no = '$pending'",
		"events.last_is_state"},
	{"the last event lost", "DELETE FROM order_events WHERE order_no = '$closed' AND event = 'close.accepted'",
		"events.last_is_state close.proven"},
	{"an event in the middle lost", "DELETE FROM order_events WHERE order_no = '$closed' AND event = " +
		"'close.requested'", "events.chain events.last_is_state"},
	{"state goes back", eventInto + "SELECT order_no, version + 1, updated_at, 'x', state, 'pending', '', '', '', " +
		"'', '', 0 FROM orders WHERE order_no = '$whole';UPDATE orders SET version = version + 1, state = " +
		"'pending', due_at = 1 WHERE order_no = '$whole'", "events.allowed"},
	{"event time back", "UPDATE order_events SET at = 1 WHERE order_no = '$closed' AND event = 'close.accepted'",
		"events.time"},
	{"an event after the order's last change", "UPDATE orders SET updated_at = 1 WHERE order_no = '$closed'",
		"events.time"},
	{"paid and closed", eventInto + "SELECT order_no, version + 1, updated_at, 'x', 'closing', 'paid', '', '', '', " +
		"'', '', 0 FROM orders WHERE order_no = '$closed'", "events.one_end"},
	{"the same callback twice", eventInto + "SELECT order_no, 9, at, event, 'paid', 'paid', actor_type, actor_id, " +
		"cause_type, cause_id, detail, 0 FROM order_events WHERE order_no = '$asked' AND event = 'payment.applied'",
		"events.payments"},
	{"paid, and nobody wrote why", "UPDATE order_events SET event = 'x' WHERE order_no = '$asked' AND event = " +
		"'payment.applied'", "events.payments"},
	{"a payment's event without the payment", "UPDATE order_events SET detail = '' WHERE order_no = '$asked' AND " +
		"event = 'payment.applied'", "events.payments"},
	{"a refund that ended without an event", "UPDATE order_events SET event = 'x' WHERE order_no = '$partly' AND " +
		"event = 'refund.succeeded'", "events.refunds"},
	{"a refund that ended twice", eventInto + "SELECT order_no, 99, at, event, 'paid', 'paid', actor_type, " +
		"actor_id, cause_type, cause_id, detail, 0 FROM order_events WHERE order_no = '$partly' AND event = " +
		"'refund.succeeded'", "events.refunds"},
	{"an order lost", "DELETE FROM orders WHERE order_no = '$asked'", "events.of_an_order order.line_of_an_order " +
		"attempt.of_an_order money.accounted"},
	{"the total is wrong", "UPDATE orders SET total_fen = total_fen + 1 WHERE order_no = '$pending'",
		"order.total attempt.of_an_order"},
	{"an order without lines", "DELETE FROM order_items WHERE order_no = '$pending'",
		"order.total stock.no_stray_flow"},
	{"a gap in the lines", "UPDATE order_items SET line_no = 3 WHERE order_no = '$pending' AND line_no = 2",
		"order.lines"},
	{"a SKU on two lines", "UPDATE order_items SET sku_id = 'mug' WHERE order_no = '$pending'", "order.lines"},
	{"a pending order that somebody closed", "UPDATE orders SET close_reason = 'cancel' WHERE order_no = '$pending'",
		"order.close_reason"},
	{"an open order that nobody looks at", "UPDATE orders SET due_at = NULL WHERE order_no = '$pending'", "order.due"},
	{"a finished order that is looked at for ever", "UPDATE orders SET due_at = 1 WHERE order_no = '$whole'",
		"order.due"},
	{"an attempt of another amount", "UPDATE payment_attempts SET amount_fen = 1 WHERE order_no = '$closed'",
		"attempt.of_an_order"},
	{"an attempt on another order", "UPDATE payment_attempts SET order_no = '$closed', attempt_no = 7 WHERE " +
		"out_trade_no = '$partly-01'", "attempt.of_an_order attempt.one_payable money.of_its_attempt"},
	{"two payable at once", "UPDATE payment_attempts SET state = 'live' WHERE out_trade_no = '$pending-01'",
		"attempt.one_payable"},
	{"closed by the proof of an earlier attempt", "UPDATE order_events SET detail = REPLACE(detail, '-01', '-00') " +
		"WHERE order_no = '$closed' AND event = 'close.accepted'", "attempt.closed_newest"},
	{"paid without payment", "DELETE FROM payments WHERE order_no = '$asked'", "money.paid_once events.payments"},
	{"a wrong amount applied", "UPDATE payments SET amount_fen = amount_fen + 1 WHERE order_no = '$asked'",
		"money.paid_once money.facts"},
	{"another app's money applied", "UPDATE payments SET appid = 'wx1' WHERE order_no = '$asked'", "money.facts"},
	{"another merchant's money applied", "UPDATE payments SET mchid = '1' WHERE order_no = '$asked'", "money.facts"},
	{"another currency applied", "UPDATE payments SET currency = 'USD' WHERE order_no = '$asked'", "money.facts"},
	{"a payment on another order", "UPDATE payments SET order_no = '$closed' WHERE order_no = '$asked'",
		"money.of_its_attempt money.paid_once money.refund_of_order events.payments"},
	{"an applied payment of no order", "UPDATE payments SET order_no = 'nobody' WHERE order_no = '$partly'",
		"money.accounted"},
	{"a second payment kept", "UPDATE payments SET outcome = 'applied', reason = '', refund_fen = 0 WHERE order_no " +
		"= '$twice' AND outcome = 'owed'", "money.paid_once"},
	{"nobody knows why it was not applied", "UPDATE payments SET reason = '' WHERE order_no = '$twice' AND outcome " +
		"= 'owed'", "money.outcome"},
	{"a late payment of an order that was never late", "UPDATE payments SET reason = 'late' WHERE order_no = " +
		"'$twice' AND outcome = 'owed'", "money.late"},
	{"late without a late payment", "UPDATE payments SET reason = 'duplicate' WHERE order_no = '$late'", "money.late"},
	{"late money not owed back", "DELETE FROM refunds WHERE order_no = '$late'",
		"money.owed_back money.no_more_back money.total"},
	{"refunded twice", "UPDATE refunds SET amount_fen = amount_fen * 2 WHERE order_no = '$whole'",
		"money.no_more_back"},
	{"refunds above the payment", "UPDATE refunds SET amount_fen = 999 WHERE order_no = '$partly'",
		"money.no_more_back"},
	{"sent beside what went back elsewhere", "INSERT INTO refunds (out_refund_no, order_no, transaction_id, " +
		"amount_fen, state, reason, created_at, updated_at, told) SELECT 'elsewhere', order_no, transaction_id, 1, " +
		"'held', 'held', 1, 1, 'SUCCESS' FROM payments WHERE order_no = '$partly'", "money.elsewhere"},
	{"held money written off by one", "UPDATE write_offs SET written_off_by = proposed_by", "money.written_off"},
	{"held money written off by one, who has made the other", "UPDATE write_offs SET written_off_by = 'flora', " +
		"proposed_by = 'adam';UPDATE order_events SET actor_id = 'flora', detail = REPLACE(detail, " +
		"'\"with\":\"fin\"', '\"with\":\"adam\"') WHERE event = 'payment.written_off';UPDATE order_events " +
		"SET actor_id = 'adam' WHERE event = 'payment.write_off_said'", "money.written_off"},
	{"held money written off, and the shell was one of the two", "UPDATE write_offs SET written_off_by = 'cli:root';" +
		"UPDATE order_events SET actor_id = 'cli:root' WHERE event = 'payment.written_off'", "money.written_off"},
	{"written off without a reason", "UPDATE write_offs SET written_off_why = ''", "money.written_off"},
	{"written off, and it goes back", "INSERT INTO refunds (out_refund_no, order_no, transaction_id, amount_fen, " +
		"state, reason, created_at, updated_at) SELECT 'R7', order_no, transaction_id, amount_fen, " +
		"'pending_approval', 'held', received_at, received_at FROM payments WHERE order_no = '$unclaimed';UPDATE " +
		"payments SET refund_fen = amount_fen WHERE order_no = '$unclaimed'", "money.written_off money.total"},
	{"written off, and an order is paid with it", "UPDATE payments SET outcome = 'applied', reason = '' WHERE " +
		"order_no = '$unclaimed'", "money.written_off money.paid_once"},
	{"written off, and still held", "UPDATE payments SET outcome = 'held' WHERE order_no = '$unclaimed'",
		"money.written_off"},
	{"a write-off lost", "DELETE FROM write_offs", "money.written_off money.owed_back"},
	{"a write-off that nobody has heard of", "UPDATE order_events SET event = 'order.note' WHERE event = " +
		"'payment.written_off'", "money.written_off"},
	{"less written off than there was", "UPDATE write_offs SET amount_fen = amount_fen - 1", "money.written_off"},
	{"the sum of refunds lost", "UPDATE payments SET refund_fen = 0 WHERE order_no = '$whole'", "money.no_more_back"},
	{"money of nobody", "UPDATE payments SET refund_fen = refund_fen - 1 WHERE order_no = '$partly'", "money.total"},
	{"all went back, the order is paid", "UPDATE orders SET state = 'paid' WHERE order_no = '$whole'",
		"money.refunded"},
	{"refunded, the money is here", "UPDATE refunds SET state = 'rejected' WHERE order_no = '$whole'",
		"money.refunded"},
	{"refunded, and never paid", "UPDATE orders SET state = 'refunded' WHERE order_no = '$closed'", "money.refunded"},
	{"a refund on another order", "UPDATE refunds SET order_no = '$whole' WHERE order_no = '$partly'",
		"money.refund_of_order"},
	{"refunding without a refund", "UPDATE refunds SET state = 'rejected', due_at = NULL WHERE order_no = '$open'",
		"money.refunding"},
	{"paid with a refund under way", "UPDATE orders SET state = 'paid' WHERE order_no = '$open'", "money.refunding"},
	{"sent without approval", "UPDATE refunds SET approvals_needed = 1 WHERE order_no = '$whole'", "refund.approved"},
	{"under way, and nobody looks", "UPDATE refunds SET due_at = NULL WHERE order_no = '$open'", "refund.due"},
	{"ended, and somebody looks for ever", "UPDATE refunds SET due_at = 1 WHERE order_no = '$whole'", "refund.due"},
	{"closed and never replaced", "UPDATE refunds SET state = 'closed', due_at = NULL WHERE order_no = '$late'",
		"refund.one_successor"},
	{"of another total", "UPDATE refunds SET total_fen = 1 WHERE order_no = '$open'", "refund.facts"},
	{"in the place of nothing", "UPDATE refunds SET generation = 2, replaces = 'ghost' WHERE order_no = '$open'",
		"refund.facts"},
	{"in a state that is none", "UPDATE refunds SET state = 'lost', due_at = NULL WHERE order_no = '$open'",
		"refund.states"},
	{"a line of no refund", "UPDATE refund_items SET out_refund_no = 'ghost' WHERE out_refund_no = '$open-R01'",
		"refund.parts"},
	{"an approval of no refund", "INSERT INTO refund_approvals (out_refund_no, approver, reason, at) VALUES " +
		"('ghost', 'fin', 'x', 1)", "refund.parts"},
	{"a payment that no bill was held against", "INSERT INTO reconciliations (bill_date, bill_type, state, " +
		"day_from, day_to, finished_at, ours_fen, result) VALUES ('2027-01-15', 'ALL', 'done', 1, 1900000000000, " +
		"1900000000000, 5, '')", "books.day_is_whole"},
	{"written off by one", diffInto + "('x', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, " +
		"'', '', '', 0, 'WRITTEN_OFF', 1, 'fin', 'fin', 'x')", "books.resolved_have_owners"},
	{"a piece of a bill lost", "INSERT INTO bill_files (bill_date, bill_type, sha1, source, size_bytes, chunks, " +
		"received_at) VALUES ('2027-01-15', 'ALL', 'x', 'file', 1, 2, 1)", "books.bill_is_whole"},

	{"overdue", "UPDATE orders SET due_at = 1 WHERE order_no = '$pending'", "quiet.orders"},
	{"stuck closing", "UPDATE orders SET state = 'closing' WHERE order_no = '$pending'", "quiet.orders"},
	{"a refund under way", "UPDATE refunds SET state = 'processing' WHERE order_no = '$partly'", "quiet.refunds"},
	{"a payment that waits for a person", "UPDATE payments SET outcome = 'held', reason = 'amount' WHERE order_no " +
		"= '$asked'", "quiet.people"},
	{"a refund that waits for a person", "UPDATE refunds SET state = 'refused' WHERE order_no = '$whole'",
		"quiet.people"},
	{"a difference left open", diffInto + "('x', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, " +
		"1, '', '', '', 0, 'OPEN', 1, '', '', '')", "quiet.books"},
	{"a reconciliation that never ended", "INSERT INTO reconciliations (bill_date, bill_type, state, result) " +
		"VALUES ('2027-01-15', 'ALL', 'running', '')", "quiet.books"},
})

var errSeeded = errors.New("taken back")

// broken seeds a violation, verifies in the same transaction, and takes it back:
// the rows that each check found.
func (w *world) broken(t *testing.T, seed string) map[string]int {
	t.Helper()
	sqldbtest.NotOnTiDB(t, w.DB, "no connection of it can leave out CHECK constraints")
	found := map[string]int{}
	err := w.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		off, on := "PRAGMA ignore_check_constraints = 1", "PRAGMA ignore_check_constraints = 0"
		if tx.Engine() == sqldb.MySQL {
			off, on = "SET SESSION check_constraint_checks = 0", "SET SESSION check_constraint_checks = 1"
		}
		if _, err := tx.ExecContext(ctx, off); err != nil {
			return err
		}
		defer tx.ExecContext(ctx, on)
		for _, one := range w.sql(seed) {
			if one == "" {
				continue
			}
			if n, err := tx.Update(ctx, one); err != nil || n == 0 {
				t.Errorf("%s: %d rows, %v", one, n, err)
			}
		}
		r, err := w.Audit.VerifyIn(ctx, tx, audit.VerifyOptions{Quiescent: true})
		if err != nil {
			return err
		}
		for _, c := range r.Checks {
			found[c.ID] = c.Count
		}
		return errSeeded
	})
	if !errors.Is(err, errSeeded) {
		t.Fatal(err)
	}
	return found
}

// A check that cannot fire proves nothing: every violation that a wrong program, a bad restore or a hand in the
// database can make is seeded, and its checks must name it.
func TestVerifyFindsSeededViolations(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		clean := w.broken(t, "")
		for _, c := range seeds {
			t.Run(c.name, func(t *testing.T) {
				found := w.broken(t, c.sql)
				for _, check := range strings.Fields(c.checks) {
					if found[check] <= clean[check] {
						t.Errorf("%s did not fire: %v", check, found)
					}
				}
			})
		}
		if again := w.broken(t, ""); !maps.Equal(clean, again) {
			t.Errorf("the world changed: %v, %v", clean, again)
		}
	})
}

// What the seeds of closed days break is whole before.
func TestAClosedDayIsFoundWhole(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		clean, closed := w.broken(t, ""), w.broken(t, closedDay)
		for _, check := range []string{"books.closings", "books.proofs"} {
			if closed[check] != clean[check] {
				t.Errorf("%s: %d, without the day %d", check, closed[check], clean[check])
			}
		}
	})
}

// A check without a seed may be one that finds nothing.
func TestEveryCheckHasASeed(t *testing.T) {
	seeded := map[string]bool{audit.SchemaCheck: true} // TestVerifyFindsDroppedGuards
	for _, c := range seeds {
		for _, check := range strings.Fields(c.checks) {
			seeded[check] = true
		}
	}
	ids := audit.CheckIDs()
	for _, id := range ids {
		if !seeded[id] {
			t.Errorf("%s has no seed", id)
		}
		delete(seeded, id)
	}
	if len(seeded) > 0 {
		t.Errorf("seeds of checks that do not exist: %v", seeded)
	}
}

// Without the unique keys two of everything could be written, and every check of rows would pass until then.
func TestVerifyFindsDroppedGuards(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		sqldbtest.NotOnTiDB(t, db, "it drops no clustered primary key and has one engine")
		f := ordertest.New(t, db)
		type change struct{ do, undo, found string }
		on := func(table string) string {
			if db.Engine() == sqldb.MySQL {
				return " ON " + table
			}
			return ""
		}
		changes := []change{
			{"DROP INDEX u_orders_request" + on("orders"), "CREATE UNIQUE INDEX u_orders_request ON orders " +
				"(customer_id, request_id)", "orders.u_orders_request"},
			{"DROP INDEX u_attempts_order" + on("payment_attempts") + ";CREATE UNIQUE INDEX u_attempts_order ON " +
				"payment_attempts (attempt_no, order_no)",
				"DROP INDEX u_attempts_order" + on("payment_attempts") +
					";CREATE UNIQUE INDEX u_attempts_order ON payment_attempts (order_no, attempt_no)",
				"payment_attempts.u_attempts_order"},
			{"DROP INDEX u_refunds_request" + on("refunds") + ";CREATE INDEX u_refunds_request ON refunds " +
				"(requester_type, requester_id, request_id)",
				"DROP INDEX u_refunds_request" + on("refunds") + ";CREATE UNIQUE INDEX u_refunds_request ON " +
					"refunds (requester_type, requester_id, request_id)", "refunds.u_refunds_request"},
		}
		if db.Engine() == sqldb.MySQL {
			changes = append(changes,
				change{"ALTER TABLE stock_flows DROP PRIMARY KEY", "ALTER TABLE stock_flows ADD PRIMARY KEY " +
					"(order_no, kind, ref, sku_id)", "stock_flows.PRIMARY"},
				change{"ALTER TABLE payments ENGINE = MyISAM", "ALTER TABLE payments ENGINE = InnoDB",
					"table_name=payments engine=MyISAM"},
				change{"ALTER TABLE orders DROP CONSTRAINT ck_orders_state",
					"ALTER TABLE orders ADD CONSTRAINT ck_orders_state CHECK (state <> '')", "ck_orders_state"},
				change{"ALTER TABLE operator_tokens MODIFY name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE " +
					"utf8mb4_general_ci NOT NULL",
					"ALTER TABLE operator_tokens MODIFY name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin " +
						"NOT NULL", "utf8mb4_general_ci"})
		}
		for _, c := range changes {
			exec := func(text string) {
				t.Helper()
				for _, one := range strings.Split(text, ";") {
					if _, err := db.Pool().ExecContext(t.Context(), one); err != nil {
						t.Fatal(one, err)
					}
				}
			}
			exec(c.do)
			r, err := f.Audit.Verify(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Broken(); len(got) != 1 || got[0].ID != audit.SchemaCheck || got[0].Count != 1 ||
				!strings.Contains(got[0].Violations[0], c.found) {
				t.Errorf("%s: %+v", c.do, got)
			}
			exec(c.undo)
		}
	})
}

// Checks that see different moments would call a payment that came between two of them missing.
func TestVerifySeesOneMoment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		n := 0
		r, err := f.Audit.VerifyWith(t.Context(), audit.VerifyOptions{Progress: func(done, _ int, id string) {
			if done%5 == 2 { // the schema came first, then the first rows
				n++
				f.PaidOne(t, fmt.Sprint("r", n), "mug", 1)
			}
		}})
		if err != nil || !r.OK() {
			t.Fatal(r.Broken(), err)
		}
		if n < 5 || r.Orders != 0 || r.Payments != 0 {
			t.Errorf("%d orders came meanwhile, %d orders and %d payments were seen; the moment was before the first",
				n, r.Orders, r.Payments)
		}
	})
}

// Our books alone cannot show what WeChat has and we lack: each way in which the two can differ must be named.
func TestVerifyWithWeChat(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		broken := func() map[string]int {
			t.Helper()
			r, err := w.Audit.VerifyWeChat(t.Context(), w.Clock.Now().Add(-time.Hour), nil)
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
		elsewhere, ok := w.WeChat.Trade(w.PaidOne(t, "elsewhere", "mug", 1).OrderNo + "-01")
		if !ok {
			t.Fatal("not paid")
		}
		elsewhere.State = payment.TradeRefund // on the merchant platform
		w.WeChat.Put(elsewhere)
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE refunds SET state = 'cancelled' WHERE order_no = ?", w.whole)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		found := broken()
		for _, id := range []string{"wechat.paid_is_held", "wechat.held_is_paid", "wechat.closed_takes_nothing",
			"wechat.refunds_agree", "wechat.refunds_known"} {
			if found[id] != 1 {
				t.Errorf("%s: %d", id, found[id])
			}
		}
	})
}

// The list of dead states stands in SQL and in Go: a state that is dead in one only would lose money in silence.
func TestDeadRefundsAreTheUncommitted(t *testing.T) {
	for _, s := range order.RefundStates() {
		if dead := strings.Contains(audit.DeadRefunds, "'"+string(s)+"'"); dead == s.Committed() {
			t.Errorf("%s: dead in SQL %v, committed in Go %v", s, dead, s.Committed())
		}
	}
}

// The events that end a refund stand in SQL and in Go: an end that only one of them knows would never be missed.
func TestRefundEndsAreThoseOfTheDoor(t *testing.T) {
	for _, s := range order.RefundStates() {
		name := order.RefundEventName(s)
		if name == "" {
			continue
		}
		ends := s.PaidBack() || (!s.Committed() && s != order.RefundStateHeld)
		if got := strings.Contains(audit.RefundEnds, "WHEN '"+string(s)+"' THEN '"+name+"'"); got != ends {
			t.Errorf("%s ends with %s in Go: %v, in SQL: %v", s, name, ends, got)
		}
	}
}

// Who verifies the stock of a sale under way waits for no check of money, and is told of none.
func TestVerifyOfAreas(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		a, err := audit.New(audit.Config{DB: db, Orders: f.Service, Now: f.Clock.Now, MchID: ordertest.MchID,
			AppID: ordertest.AppID})
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.VerifyWith(t.Context(), audit.VerifyOptions{Areas: []string{"stock", "bucket"}})
		if err != nil {
			t.Fatal(err)
		}
		areas := map[string]int{}
		for _, c := range r.Checks {
			area, _, _ := strings.Cut(c.ID, ".")
			areas[area]++
		}
		if len(areas) != 2 || areas["stock"] < 5 || areas["bucket"] < 5 {
			t.Error(areas)
		}
	})
}

// A check that the document does not explain, or one that only the document has, would send people the wrong way.
func TestDocumentNamesEveryCheck(t *testing.T) {
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	table, repairs, found := strings.Cut(string(text), "## Repair")
	table, _, _ = strings.Cut(table, "## Every column") // TestEveryColumnHasItsCheck
	repairs, rests, also := strings.Cut(repairs, "### What a repair rests on")
	if !found || !also {
		t.Fatal("no chapter on repair")
	}
	named := func(text string) []string {
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile("`([a-z]+\\.[a-z_]+)`").FindAllStringSubmatch(text, -1) {
			ids[m[1]] = true
		}
		return slices.Sorted(maps.Keys(ids))
	}
	all := append(audit.CheckIDs(), "wechat.paid_is_held", "wechat.held_is_paid", "wechat.closed_takes_nothing",
		"wechat.refunds_agree", "wechat.refunds_known")
	if got := named(table); !slices.Equal(got, slices.Sorted(slices.Values(all))) {
		t.Errorf("the document names %v, the checks are %v", got, all)
	}
	if got := named(repairs); !slices.Equal(got, slices.Sorted(slices.Values(audit.RepairedChecks()))) {
		t.Errorf("the document repairs %v, the program %v", got, audit.RepairedChecks())
	}
	for _, row := range audit.RepairRests() {
		if !strings.Contains(rests, row+"\n") {
			t.Errorf("the document lacks what a repair rests on:\n%s", row)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("verify: %[1]d of %[1]d invariants hold", audit.AlwaysChecks()); !strings.Contains(
		string(readme), want) {
		t.Errorf("the README's demo does not say %q", want)
	}
	for _, id := range []string{"S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "O1", "O2", "O3", "O4", "O5", "O6",
		"O7", "O8", "O9",
		"M1", "M2", "M3", "M4", "M5", "M6", "W1", "W2", "W3", "W4", "C1", "C2", "C3", "R1", "V1", "V2", "D1"} {
		if !regexp.MustCompile(`(?m)^\| [^|]*\b` + id + `\b[^|]* \|`).MatchString(table) {
			t.Errorf("%s is not mapped", id)
		}
	}
}
