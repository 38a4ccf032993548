package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"orderd/migrations/sqldb"
	"orderd/order/audit"
)

// ofKind are the orders that a violation is planted in.
type ofKind int

// The kinds, by what world.order makes of a number.
const (
	// isPaid is without a refund, isPartly has one line given back.
	isPaid ofKind = iota
	isPartly
	// isClosed was never paid, isLate was paid after that, and the money went back.
	isClosed
	isLate
	// isPending is unpaid; isNone is no order: the row is found by its key.
	isPending
	isNone
)

// has reports whether world.order makes order i of this kind.
func (k ofKind) has(i int) bool {
	switch k {
	case isPaid:
		return i%10 > 0 && i%10 < 7
	case isPartly:
		return i%10 == 0
	case isClosed:
		return (i%10 == 7 || i%10 == 8) && i%lateEvery != 7
	case isLate:
		return i%lateEvery == 7
	case isPending:
		return i%10 == 9
	case isNone:
	}
	return false
}

// violation is rows changed by hand. $o is an order of its kind, drawn by chance, and $on
// what MariaDB wants after DROP INDEX. The checks named, and no others, find it, in one
// row or in as many as stand after the colon, each with the order's number or with key in
// it.
type violation struct {
	in ofKind
	// key is what the finding must name, with isNone; else it is the order's number.
	key string
	// sql may be several statements, with a semicolon between; checks are ids of package
	// audit, with a space between.
	sql    string
	checks string
}

// sums are the checks of which one row answers for many orders: they must fire, and how
// many rows they have says nothing.
var sums = map[string]bool{"stock.conserved": true, "money.total": true}

// Heads of statements that several violations share.
const (
	// never is in the year 2286, in milliseconds.
	never = "9999999999999"
	// again repeats a flow of an order with another kind, reference or amount.
	again    = "INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) SELECT order_no, "
	newFlow  = "INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at) VALUES "
	newEvent = "INSERT INTO order_events (order_no, seq, at, event, from_state, to_state, " +
		"actor_type, actor_id, cause_type, cause_id, detail, took_ms) "
	newTold     = "INSERT INTO events_out (type, order_no, at, version, state, ref) "
	newShipment = "INSERT INTO shipments (order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, " +
		"version, due_at, message, put_by, created_at, updated_at) "
	newGate = "INSERT INTO stock_gates (sku_id, sale, mode, state, origin, version, actor, reason, created_at, " +
		"updated_at) VALUES "
	newBucket = "INSERT INTO stock_buckets (bucket_id, sku_id, epoch, no, home, state, remaining, seq, seen_at) VALUES "
	newMove   = "INSERT INTO stock_moves (bucket_id, seq, sku_id, delta, cause, at) VALUES "
	// lent is behind a bucket of 5 units: they left the pool.
	lent    = "UPDATE skus SET available = available - 5 WHERE sku_id = "
	soldOut = "UPDATE skus SET closed_until = 9223372036854775807 WHERE sku_id = "
	newDiff = "INSERT INTO differences (id, bill_date, bill_type, run_no, kind, ref, order_no, out_trade_no, " +
		"transaction_id, bill_line, bill_fen, ours_fen, bill_state, ours_state, facts, healable, status, " +
		"opened_at) " +
		"VALUES "
)

// violations has at least one for every check. Each is planted in an order of its own,
// so that a finding has one cause.
var violations = []violation{
	// Stock: on the shelf, in the flows, and both against the orders.
	{isNone, "sku0007",
		"UPDATE skus SET available = -1 WHERE sku_id = 'sku0007'",
		"stock.not_negative stock.conserved"},
	{isNone, "sku0008", "UPDATE skus SET available = available + 1 WHERE sku_id = 'sku0008'", "stock.conserved"},
	{isNone, "sku0009",
		"UPDATE stock_flows SET delta = 1 WHERE order_no = '' AND sku_id = 'sku0009'",
		"stock.not_oversold stock.conserved"},
	{isNone, "sku0011",
		"DELETE FROM stock_flows WHERE order_no = '' AND sku_id = 'sku0011'",
		"stock.came_in stock.not_oversold stock.conserved"},
	{isNone, "sku0012", "UPDATE skus SET title = '' WHERE sku_id = 'sku0012'", "stock.sku_facts"},
	{isNone, "sku0013", "UPDATE skus SET unlimited = 1 WHERE sku_id = 'sku0013'", "stock.sku_facts stock.came_in"},
	{isNone, "sku0014", newFlow + "('', 'adjust', 'y', 'sku0014', 0, 1)", "stock.flow_facts"},
	{isPaid, "", "UPDATE stock_flows SET created_at = 1 WHERE order_no = '$o'", "stock.flow_facts:2"},
	{isPending, "", "DELETE FROM stock_flows WHERE order_no = '$o' AND delta = -2", "stock.deducted_once"},
	{isPaid, "",
		again + "'deduct', 'again', sku_id, -1, created_at FROM stock_flows WHERE order_no = '$o' AND delta = -2",
		"stock.revived_once"},
	{isPaid, "",
		again + "'return', 'close', sku_id, 2, created_at FROM stock_flows WHERE order_no = '$o' AND delta = -2",
		"stock.agrees_with_state close.proven"},
	{isClosed, "",
		again + "'return', 'again', sku_id, 2, created_at FROM stock_flows WHERE order_no = '$o' AND delta = -2",
		"stock.returned_no_more stock.agrees_with_state stock.return_has_refund"},
	{isClosed, "", "DELETE FROM stock_flows WHERE order_no = '$o' AND kind = 'return'", "stock.agrees_with_state"},
	{isNone, "stray1", newFlow + "('stray1', 'deduct', '', 'sku0010', -1, 1)", "stock.no_stray_flow"},
	// Buckets of flash sales.
	{isNone, "7000001", newGate + "('sku0020', 's', 'local', 'open', 'hand', 1, 'x', 'x', 1, 1);" + newBucket +
		"(7000001, 'sku0020', 0, 0, 'p', 'open', 6, 1, 1);" + newMove + "(7000001, 1, 'sku0020', 5, 'grant', 1);" +
		lent + "'sku0020'", "bucket.conserved stock.conserved"},
	{isNone, "7000002", newGate + "('sku0021', 's', 'local', 'open', 'hand', 1, 'x', 'x', 1, 1);" + newBucket +
		"(7000002, 'sku0021', 0, 0, 'p', 'open', -1, 1, 1);" + newMove + "(7000002, 1, 'sku0021', 5, 'grant', 1);" +
		lent + "'sku0021'", "bucket.not_negative bucket.conserved stock.conserved"},
	{isNone, "7000003", newGate + "('sku0022', 's', 'local', 'open', 'hand', 1, 'x', 'x', 1, 1);" + newBucket +
		"(7000003, 'sku0022', 0, 0, 'p', 'open', 5, 2, 1);" + newMove + "(7000003, 1, 'sku0022', 5, 'grant', 1);" +
		lent + "'sku0022'", "bucket.moves_dense"},
	{isNone, "7000004", newBucket + "(7000004, 'sku0023', 0, 0, 'p', 'closed', 5, 2, 1);" + newMove +
		"(7000004, 1, 'sku0023', 5, 'grant', 1), (7000004, 2, 'sku0023', 0, 'close', 1)", "bucket.closed_is_empty"},
	{isPaid, "", "UPDATE stock_flows SET bucket_id = 7000005 WHERE order_no = '$o' AND delta = -2",
		"bucket.flow_of_its_sku"},
	{isNone, "7000006", newBucket + "(7000006, 'sku0024', 0, 0, 'p', 'open', 5, 1, 1);" + newMove +
		"(7000006, 1, 'sku0024', 5, 'grant', 1);" + lent + "'sku0024'", "bucket.gated"},
	{isNone, "ghost9", "INSERT INTO sale_buyers (sale, customer_id, slot, order_no) VALUES ('s', 'c1', 1, 'ghost9')",
		"gate.limit"},
	{isNone, "sku0025", newGate + "('sku0025', 's', 'local', 'open', 'hand', 1, 'x', 'x', 1, 1);" + newBucket +
		"(7000008, 'sku0025', 0, 0, 'p', 'open', 5, 1, 1);" + newMove + "(7000008, 1, 'sku0025', 5, 'grant', 1);" +
		lent + "'sku0025';" + soldOut + "'sku0025'", "gate.sold_out_has_no_bucket quiet.sold_out"},
	{isNone, "7000009", newGate + "('sku0026', 's', 'local', 'ended', 'hand', 1, 'x', 'x', 1, 1);" + newBucket +
		"(7000009, 'sku0026', 0, 0, 'p', 'open', 5, 1, 1);" + newMove + "(7000009, 1, 'sku0026', 5, 'grant', 1);" +
		lent + "'sku0026'", "quiet.buckets"},
	{isNone, "sku0027", newGate + "('sku0027', 's', 'local', 'open', 'hand', 1, 'x', 'x', 1, 1);" + soldOut +
		"'sku0027'", "quiet.sold_out"},
	{isNone, "ghost1", newFlow + "('', 'adjust', 'x', 'ghost1', 1, 1)", "stock.flow_of_a_sku stock.flow_facts"},
	{isPartly, "",
		"UPDATE refunds SET restock = 0 WHERE order_no = '$o'",
		"stock.return_has_refund refund.terms_told"},
	{isPartly, "", "DELETE FROM stock_flows WHERE order_no = '$o' AND kind = 'return'", "stock.refund_returned"},
	{isPartly, "",
		"UPDATE refund_items SET quantity = 9 WHERE out_refund_no = '$o-R01'",
		"stock.refunded_no_more stock.return_has_refund refund.lines_told"},
	{isPartly, "",
		"UPDATE order_events SET detail = REPLACE(detail, ' 2}', ' 2} {x 1}') WHERE order_no = '$o' AND event = " +
			"'refund.requested'",
		"refund.lines_told"},
	{isPartly, "",
		"UPDATE order_events SET detail = REPLACE(detail, 'approvals\":\"0', 'approvals\":\"2') WHERE order_no = " +
			"'$o' AND event = 'refund.requested'",
		"refund.terms_told"},
	// Goods that nobody reports, and a report about money that never came.
	{isPaid, "",
		newShipment + "SELECT order_no, 'due', transaction_id, out_trade_no, paid_at, '{}', paid_at, 1, NULL, '', " +
			"'', received_at, received_at FROM payments WHERE order_no = '$o'", "shipment.facts"},
	{isPending, "",
		newShipment + "SELECT order_no, 'owed', 'none', out_trade_no, 1, '', 0, 0, 1, '', '', 1, 1 " +
			"FROM payment_attempts WHERE order_no = '$o'", "shipment.facts"},
	{isPending, "",
		"UPDATE payment_attempts SET state = 'closed', call_no = 1, answer_no = 1 WHERE order_no = '$o'",
		"attempt.closed_told"},
	{isClosed, "",
		"UPDATE order_events SET detail = '' WHERE order_no = '$o' AND event = 'close.accepted'",
		"close.proven attempt.closed_newest"},
	{isPending, "",
		"UPDATE orders SET state = 'closing', close_reason = 'cancel' WHERE order_no = '$o'",
		"events.last_is_state quiet.orders close.asked"},
	{isClosed, "",
		"DELETE FROM order_events WHERE order_no = '$o' AND event = 'close.requested'",
		"events.chain events.last_is_state close.asked"},
	{isPaid, "",
		newEvent + "SELECT order_no, version + 1, updated_at, 'x', state, 'pending', '', '', '', '', '', 0 FROM " +
			"orders WHERE order_no = '$o';UPDATE orders SET version = version + 1, state = 'pending' WHERE " +
			"order_no = '$o'",
		"events.allowed events.named events.facts money.paid_once order.due"},
	{isClosed, "",
		"UPDATE order_events SET at = 1 WHERE order_no = '$o' AND event = 'close.accepted'",
		"events.time"},
	{isClosed, "",
		newEvent + "SELECT order_no, version + 1, updated_at, 'x', 'closing', 'paid', '', '', '', '', '', 0 FROM " +
			"orders WHERE order_no = '$o'",
		"events.one_end events.chain events.last_is_state events.named events.facts"},
	{isPaid, "",
		newEvent + "SELECT order_no, 4, at, event, 'paid', 'paid', '', '', '', '', detail, 0 FROM order_events " +
			"WHERE order_no = '$o' AND event = 'payment.applied'",
		"events.payments events.last_is_state events.facts"},
	{isPartly, "",
		"UPDATE order_events SET event = 'x' WHERE order_no = '$o' AND event = 'refund.succeeded'",
		"events.refunds events.named"},
	{isNone, "stray2",
		newEvent + "VALUES ('stray2', 2, 1, 'x', 'pending', 'pending', '', '', '', '', '', 0)",
		"events.of_an_order"},
	// Orders, their lines and trades.
	{isPending, "", "UPDATE order_items SET line_no = 3 WHERE order_no = '$o' AND line_no = 2", "order.lines"},
	{isNone, "stray3",
		"INSERT INTO order_items (order_no, line_no, sku_id, quantity, price_fen) VALUES ('stray3', 1, " +
			"'sku0001', 1, 1)",
		"order.line_of_an_order stock.deducted_once"},
	{isPaid, "",
		"UPDATE orders SET total_fen = total_fen + 1 WHERE order_no = '$o'",
		"order.total attempt.of_an_order money.paid_once money.facts"},
	{isPending, "", "UPDATE orders SET close_reason = 'cancel' WHERE order_no = '$o'",
		"order.close_reason close.asked"},
	{isPending, "", "UPDATE orders SET due_at = NULL WHERE order_no = '$o'", "order.due"},
	{isPending, "",
		"INSERT INTO payment_attempts (out_trade_no, order_no, attempt_no, state, trade_type, description, " +
			"attach, notify_url, time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, " +
			"answered_at) VALUES ('$o-02', '$o', 2, 'live', 'APP', '', '', '', '', 300, '', '', '', '', 1, 1)",
		"attempt.one_payable attempt.facts attempt.times"},
	{isClosed, "",
		"UPDATE order_events SET detail = REPLACE(detail, '-01', '-00') WHERE order_no = '$o' AND event = " +
			"'close.accepted'",
		"attempt.closed_newest"},
	// What a row decides by.
	{isPaid, "", "UPDATE orders SET customer_id = '' WHERE order_no = '$o'", "order.facts"},
	{isPaid, "", "UPDATE orders SET request_hash = 'x' WHERE order_no = '$o'", "order.facts"},
	{isPending, "", "UPDATE orders SET close_tries = 3 WHERE order_no = '$o'", "order.facts"},
	{isPaid, "", "UPDATE orders SET created_at = created_at - 1 WHERE order_no = '$o'", "order.times"},
	{isPaid, "", "UPDATE orders SET updated_at = " + never + " WHERE order_no = '$o'", "order.times"},
	{isPending, "",
		"UPDATE orders SET expire_at = " + never + " WHERE order_no = '$o'",
		"order.times order.due_soon attempt.facts"},
	{isPending, "", "UPDATE orders SET due_at = " + never + " WHERE order_no = '$o'", "order.due_soon"},
	{isClosed, "", "UPDATE orders SET close_reason = 'cancel' WHERE order_no = '$o'", "close.asked"},
	{isPaid, "", "UPDATE orders SET close_reason = 'timeout' WHERE order_no = '$o'", "close.asked"},
	{isClosed, "",
		newEvent + "SELECT order_no, version + 1, updated_at, 'close.wanted', state, state, 'customer', " +
			"customer_id, '', '', '', 0 FROM orders WHERE order_no = '$o';UPDATE orders SET version = version + 1 " +
			"WHERE order_no = '$o'",
		"close.asked"},
	{isPaid, "",
		"UPDATE order_events SET actor_type = 'operator' WHERE order_no = '$o' AND seq = 2",
		"events.facts"},
	{isClosed, "",
		"UPDATE order_events SET event = 'x' WHERE order_no = '$o' AND event = 'close.requested'",
		"events.named close.asked"},
	{isPending, "",
		"UPDATE payment_attempts SET time_expire = '2099-01-01T00:00:00+08:00' WHERE order_no = '$o'",
		"attempt.facts"},
	{isPending, "", "UPDATE payment_attempts SET called_at = " + never + " WHERE order_no = '$o'", "attempt.times"},
	{isPending, "", "UPDATE payment_attempts SET answer = '' WHERE order_no = '$o'", "attempt.times"},
	// Money that came, and that went back.
	{isPaid, "", "UPDATE payments SET payer_fen = payer_fen + 1 WHERE order_no = '$o'", "money.payer"},
	{isPaid, "",
		"UPDATE payments SET paid_at = 0 WHERE order_no = '$o';UPDATE payment_attempts SET call_no = 1, " +
			"answer_no = 1 WHERE order_no = '$o'",
		"money.when"},
	{isPaid, "", "UPDATE payments SET paid_at = paid_at - 86400000 WHERE order_no = '$o'", "money.when"},
	{isPaid, "", "UPDATE payments SET received_at = " + never + " WHERE order_no = '$o'", "money.when"},
	{isNone, "FEED1", newTold + "SELECT 'order.paid', 'FEED1', 1, 2, 'paid', ''", "events.told"},
	{isClosed, "", newTold + "SELECT 'order.created', order_no, created_at, 1, 'pending', '' FROM orders WHERE " +
		"order_no = '$o'", "events.told"}, // and not of its close
	{isPaid, "", "DELETE FROM payment_attempts WHERE order_no = '$o'", "attempt.told"},
	{isLate, "",
		"UPDATE orders SET state = 'late' WHERE order_no = '$o';UPDATE order_events SET to_state = 'late' WHERE " +
			"order_no = '$o' AND to_state = 'refunded'",
		"money.refunded"},
	{isPaid, "", "DELETE FROM payments WHERE order_no = '$o'", "money.paid_once money.refunded events.payments"},
	{isPaid, "", "UPDATE payments SET appid = 'wx1' WHERE order_no = '$o'", "money.facts"},
	{isPaid, "",
		"UPDATE payments SET out_trade_no = 'x' WHERE order_no = '$o'",
		"money.of_its_attempt events.payments"},
	{isPaid, "",
		"UPDATE payments SET order_no = '' WHERE order_no = '$o'",
		"money.accounted money.paid_once money.refunded events.payments"},
	{isPaid, "",
		"UPDATE payments SET reason = 'late' WHERE order_no = '$o'",
		"money.outcome money.late events.payments"},
	{isLate, "",
		"DELETE FROM refunds WHERE order_no = '$o'",
		"money.owed_back money.no_more_back money.refunded events.refunds money.total refund.told"},
	{isPartly, "",
		"UPDATE refunds SET amount_fen = 999 WHERE order_no = '$o'",
		"money.no_more_back money.refunded events.refunds refund.told"},
	{isPartly, "",
		"UPDATE refunds SET transaction_id = 'x' WHERE order_no = '$o'",
		"money.refund_of_order money.no_more_back money.total"},
	{isPaid, "",
		"UPDATE orders SET state = 'refunding' WHERE order_no = '$o'",
		"money.refunding events.last_is_state"},
	{isPartly, "",
		"INSERT INTO refunds (out_refund_no, order_no, transaction_id, amount_fen, state, reason, created_at, " +
			"updated_at, told) SELECT 'elsewhere-$o', order_no, transaction_id, 1, 'held', 'held', 1, 1, 'SUCCESS' " +
			"FROM payments WHERE order_no = '$o'",
		"money.elsewhere refund.told quiet.people"},
	{isNone, "ghost5",
		"INSERT INTO payments (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, " +
			"appid, mchid, paid_at, received_at, source, outcome, reason) VALUES ('ghost5', '', 'x', 1, 1, 'CNY', " +
			"'', '', '', 1, 1, '', 'owed', 'unknown_order');INSERT INTO write_offs (transaction_id, amount_fen, " +
			"proposed_by, proposed_why, proposed_at, written_off_by, written_off_why, written_off_at) VALUES " +
			"('ghost5', 1, 'eve', 'x', 1, 'eve', 'x', 1)",
		"money.written_off"},
	// Refunds by themselves.
	{isPartly, "", "UPDATE refunds SET requester_id = 'eve' WHERE order_no = '$o'", "refund.asker refund.told"},
	{isLate, "", "UPDATE refunds SET reason = 'duplicate' WHERE order_no = '$o'", "refund.reason"},
	{isPartly, "", "UPDATE refunds SET asked_at = " + never + " WHERE order_no = '$o'", "refund.times"},
	{isPartly, "", "UPDATE refunds SET accepted_at = 0 WHERE order_no = '$o'", "refund.times"},
	{isPartly, "", "UPDATE refunds SET tries = -1 WHERE order_no = '$o'", "refund.counts"},
	{isPartly, "",
		"UPDATE refunds SET state = 'by_hand' WHERE order_no = '$o'",
		"refund.decided events.refunds:2"},
	{isPartly, "",
		"UPDATE refunds SET due_at = " + never + " WHERE order_no = '$o'",
		"refund.due refund.due_soon"},
	{isPartly, "",
		"INSERT INTO refund_approvals (out_refund_no, approver, reason, at) VALUES ('$o-R01', 'eve', 'x', 1)",
		"refund.approvals refund.approvals_told"},
	{isPartly, "",
		"INSERT INTO refunds (out_refund_no, order_no, transaction_id, refund_id, amount_fen, state, reason, " +
			"created_at, updated_at) SELECT CONCAT(out_refund_no, 'x'), '', '42', refund_id, 1, 'held', 'held', " +
			"created_at, updated_at FROM refunds WHERE order_no = '$o'",
		"refund.one_number quiet.people"},
	{isPartly, "",
		"UPDATE refunds SET approvals_needed = 1 WHERE order_no = '$o'",
		"refund.approved refund.terms_told"},
	{isPartly, "", "UPDATE refunds SET total_fen = 1 WHERE order_no = '$o'", "refund.facts"},
	{isPartly, "",
		"UPDATE refunds SET state = 'lost' WHERE order_no = '$o'",
		"refund.states events.refunds stock.return_has_refund"},
	{isNone, "ghost2",
		"INSERT INTO refund_items (out_refund_no, sku_id, quantity) VALUES ('ghost2', 'x', 1)",
		"refund.parts"},
	{isPartly, "", "UPDATE refunds SET due_at = 1 WHERE order_no = '$o'", "refund.due"},
	{isPartly, "",
		"UPDATE refunds SET state = 'closed' WHERE order_no = '$o'",
		"refund.one_successor stock.return_has_refund money.no_more_back events.refunds:2"},
	// Acts on many.
	{isNone, "bulk1",
		"INSERT INTO bulk_runs (id, kind, actor, reason, filter, total, sum_fen, state, done, changed, failed, note, " +
			"holder, held_until, created_at, ended_at) " +
			"VALUES ('bulk1', 'order.ask', 'x', 'x', '', 1, 1, 'running', 0, 0, 0, '', '', 0, 1, 0)",
		"bulk.runs"},
	{isNone, "bulk2",
		"INSERT INTO bulk_rows (run_id, seq, ref, version, amount_fen, state, detail) " +
			"VALUES ('bulk2', 1, 'x', 1, 1, 'waiting', '')",
		"bulk.rows"},
	// Reconciliation.
	{isNone, "diff1",
		newDiff + "('diff1', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '{}', 0, " +
			"'RESOLVED', 1)",
		"books.resolved_have_owners books.differences"},
	{isNone, "1999-01-01",
		"INSERT INTO reconciliations (bill_date, bill_type, state, day_from, day_to, finished_at, ours_fen, " +
			"result) VALUES ('1999-01-01', 'ALL', 'done', 1, 2, 3, 5, '')",
		"books.day_is_whole books.runs"},
	{isNone, "1999-01-02",
		"INSERT INTO bill_files (bill_date, bill_type, sha1, source, size_bytes, chunks, received_at) VALUES " +
			"('1999-01-02', 'ALL', 'x', 'file', 1, 2, 1)",
		"books.bill_is_whole books.bills"},
	{isNone, "1999-01-03",
		"INSERT INTO reconciliations (bill_date, bill_type, state, run_no, holder, lease_until, started_at, " +
			"result) " +
			"VALUES ('1999-01-03', 'ALL', 'failed', 1, 'x', " + never + ", 1, '')",
		"books.runs quiet.books"},
	{isNone, "ghost3",
		"INSERT INTO matched_across (kind, ref, bill_date) VALUES ('payment', 'ghost3', '1999-01-03')",
		"books.across"},
	{isNone, "1999-01-05",
		"INSERT INTO bill_files (bill_date, bill_type, sha1, source, size_bytes, chunks, received_at) VALUES " +
			"('1999-01-05', 'ALL', 'x', 'wechat', 1, 1, 1);INSERT INTO bill_hands (bill_date, bill_type, sha1, act, " +
			"who, how, why, at) VALUES ('1999-01-05', 'ALL', 'x', 'gave', 'eve', '', '', 1)",
		"books.signed books.bill_is_whole books.bills books.hands"},
	{isNone, "diff3",
		newDiff + "('diff3', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '{}', 0, " +
			"'RESOLVED', 1);INSERT INTO reconciliations (bill_date, bill_type, state, result) VALUES ('1999-01-06', " +
			"'ALL', 'new', '');UPDATE differences SET bill_date = '1999-01-06', run_no = 0, resolved_by = " +
			"'reconciler', resolved_at = 2, resolution = 'in the bill of another day' WHERE id = 'diff3'",
		"books.ended"},
	{isNone, "ghost5",
		"INSERT INTO difference_notes (difference_id, ref, what, word, body, who, how, at) VALUES ('ghost5', 'n', " +
			"'comment', '', 'x', 'eve', '', 1)",
		"books.notes"},
	{isNone, "1999-01-07",
		"INSERT INTO day_closings (bill_date, seq, who, how, why, at, sha1, found_sha256, manifest_sha256, " +
			"previous_sha256) VALUES ('1999-01-07', 1, '', '', '', 1, '', '', '', '')",
		"books.closings"},
	{isNone, "1999-01-08",
		"INSERT INTO day_closing_parts (bill_date, seq, name, part, body) VALUES ('1999-01-08', 1, 'x', 0, 'x')",
		"books.proofs"},
	// People, and what waits for them.
	{isNone, "eve",
		"INSERT INTO operator_tokens (name, role, sha256, created_by, created_at) VALUES ('eve', 'root', 'x', " +
			"'eve', 1)",
		"people.tokens"},
	{isNone, "adam",
		"INSERT INTO operators (name, role, created_by, created_at) VALUES ('adam', 'root', 'cli:root', 1)",
		"people.operators"},
	{isNone, "refund.forge",
		"INSERT INTO trail (seq, act, step, at, actor, role, address, session, action, target, reason, asked, " +
			"outcome, was, became, request_id, prev_sha256, sha256) VALUES (1, 'a', 0, 1, 'eve', '', '', '', " +
			"'refund.forge', '', " +
			"'', '', '', '', '', '', '', 'x')",
		"trail.chain"},
	{isNone, "1999-01-04",
		"INSERT INTO bill_hands (bill_date, bill_type, sha1, act, who, how, why, at) VALUES ('1999-01-04', 'ALL', " +
			"'x', 'gave', 'eve', '', '', 1)",
		"books.hands"},
	{isPending, "", "UPDATE payment_attempts SET call_no = -1, answer_no = -1 WHERE order_no = '$o'", "attempt.calls"},
	{isNone, "ghost4",
		"INSERT INTO failed_tasks (task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at) " +
			"VALUES ('order:expire', 'ghost4', 'failing', 1, 'x', '', 1, 1, " + never + ")",
		"people.failed_tasks"},
	// What is fine while the service works, and not when nothing is under way.
	{isPending, "", "UPDATE orders SET due_at = 1 WHERE order_no = '$o'", "quiet.orders order.due_soon"},
	{isPartly, "",
		"UPDATE refunds SET state = 'processing' WHERE order_no = '$o'",
		"quiet.refunds refund.due money.refunding stock.return_has_refund events.refunds refund.told"},
	{isPaid, "",
		"UPDATE payments SET outcome = 'held', reason = 'amount' WHERE order_no = '$o'",
		"quiet.people money.paid_once money.refunded events.payments"},
	{isNone, "diff2",
		newDiff + "('diff2', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '{}', 0, " +
			"'OPEN', 1)",
		"quiet.books books.differences"},
	// The schema itself.
	{isNone, "u_attempts_order", "DROP INDEX u_attempts_order$on", "schema.guards"},
}

// seedAll plants every violation, each in an order of its own, verifies once, and counts
// what of it was found, and what was found beside it. One run and not one for each: a
// violation must not hide another.
func (w *world) seedAll(ctx context.Context, db *sqldb.DB) (seeded, found, invented int, err error) {
	conn, err := db.Pool().Conn(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	// The CHECK constraints of the schema would refuse what a person with a client that
	// ignores them, a restore or a defect can do: they are off for this connection.
	off, on := "PRAGMA ignore_check_constraints = 1", ""
	if db.Engine() == sqldb.MySQL {
		off, on = "SET SESSION check_constraint_checks = 0", " ON payment_attempts"
	}
	if _, err = conn.ExecContext(ctx, off); err != nil {
		return 0, 0, 0, err
	}
	keys := make([]string, len(violations))
	used := map[int]bool{}
	for i, v := range violations {
		if keys[i] = v.key; v.in != isNone {
			keys[i] = w.orderNo(w.draw(v.in, used))
		}
		for _, one := range strings.Split(strings.NewReplacer("$on", on, "$o", keys[i]).Replace(v.sql), ";") {
			if err := plant(ctx, conn, one); err != nil {
				return 0, 0, 0, err
			}
		}
	}
	if err := conn.Close(); err != nil {
		return 0, 0, 0, err
	}
	r, err := verifyAll(ctx, db)
	if err != nil {
		return 0, 0, 0, err
	}
	found, invented = judge(r, keys)
	return len(violations), found, invented, nil
}

// plant runs one statement, which must change a row (a DROP counts none): a violation
// that is none would count as one that was not found.
func plant(ctx context.Context, conn *sql.Conn, statement string) error {
	res, err := conn.ExecContext(ctx, statement)
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	if n, err := res.RowsAffected(); err != nil || (n == 0 && !strings.HasPrefix(statement, "DROP")) {
		return fmt.Errorf("%s: changed nothing, %w", statement, err)
	}
	return nil
}

// draw gives an order of a kind that no violation is in yet. A world that has fewer of a
// kind than there are violations would never end; the default has hundreds of each.
func (w *world) draw(k ofKind, used map[int]bool) int {
	for {
		if i := w.rnd.IntN(w.orders); k.has(i) && !used[i] {
			used[i] = true
			return i
		}
	}
}

// judge counts the violations that all of their checks have named, and the rows that no
// violation explains. keys are the order numbers, or keys, in the order of violations.
// What is missing or too much is printed.
func judge(r audit.Report, keys []string) (found, invented int) {
	rows := map[string]audit.CheckResult{}
	for _, c := range r.Checks {
		rows[c.ID] = c
	}
	explained := map[string]int{}
	for i, v := range violations {
		named := true
		for _, check := range strings.Fields(v.checks) {
			id, times, many := strings.Cut(check, ":")
			n := 1
			if many {
				n, _ = strconv.Atoi(times)
			}
			explained[id] += n
			text := strings.Join(rows[id].Violations, "\n")
			if !sums[id] && strings.Count(text, keys[i]) < n || rows[id].Count == 0 {
				fmt.Printf("not found: %s by %s\n", keys[i], id)
				named = false
			}
		}
		if named { // by every check that must find it
			found++
		}
	}
	// Rows beyond those that the violations explain are false alarms.
	for id, c := range rows {
		if extra := c.Count - explained[id]; extra != 0 && !sums[id] {
			fmt.Printf("%s has %d rows, %d were planted: %v\n", id, c.Count, explained[id], c.Violations)
			invented += max(extra, 0)
		}
	}
	return found, invented
}
