package audit_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// never is in the year 2286, in milliseconds.
const never = "9999999999999"

// rowSeeds are what a hand can change in one row without moving a unit or a fen, and what the service would believe.
var rowSeeds = []seed{
	{"a SKU without a title", "UPDATE skus SET title = '' WHERE sku_id = 'mug'", "stock.sku_facts"},
	{"a SKU that is half unlimited", "UPDATE skus SET unlimited = 2 WHERE sku_id = 'mug'", "stock.sku_facts"},
	{"a SKU that changed in the future", "UPDATE skus SET updated_at = " + never + " WHERE sku_id = 'mug'",
		"stock.sku_facts"},
	{"a flow of another time", "UPDATE stock_flows SET created_at = 1 WHERE order_no = '$pending'",
		"stock.flow_facts"},
	{"a flow of the future", "UPDATE stock_flows SET created_at = " + never + " WHERE order_no = '$pending'",
		"stock.flow_facts"},
	{"an adjustment without a reason", flowInto + "('', 'adjust', 'x', 'mug', 1, 1)", "stock.flow_facts"},
	{"a first stock that came later", "UPDATE stock_flows SET ref = 'x' WHERE kind = 'initial' AND sku_id = 'mug'",
		"stock.flow_facts"},
	{"an order of nobody", "UPDATE orders SET customer_id = '' WHERE order_no = '$open'", "order.facts"},
	{"an order of another customer", "UPDATE orders SET customer_id = 'eve' WHERE order_no = '$open'",
		"events.facts refund.asker"},
	{"an order without its request", "UPDATE orders SET request_id = '' WHERE order_no = '$open'", "order.facts"},
	{"a request that fits every content", "UPDATE orders SET request_hash = '' WHERE order_no = " +
		"'$open'", "order.facts"},
	{"asked about before it was to be closed", "UPDATE orders SET close_tries = 9 WHERE order_no = '$pending'",
		"order.facts"},
	{"fewer tries than none", "UPDATE orders SET close_tries = -1 WHERE order_no = '$closing'", "order.facts"},
	{"placed at another time than its number says", "UPDATE orders SET created_at = created_at - 1 WHERE " +
		"order_no = " +
		"'$open'", "order.times"},
	{"a deadline before the placement", "UPDATE orders SET expire_at = 1000 WHERE order_no = '$pending'",
		"order.times attempt.facts"},
	{"a deadline in 2286", "UPDATE orders SET expire_at = " + never + " WHERE order_no = '$pending'",
		"order.times attempt.facts order.due_soon"},
	{"a deadline an hour later", "UPDATE orders SET expire_at = expire_at + 3600000 WHERE order_no = '$pending'",
		"attempt.facts order.due_soon"},
	{"a deadline within a second", "UPDATE orders SET expire_at = expire_at + 1 WHERE order_no = '$pending'",
		"order.times"},
	{"changed before it was placed", "UPDATE orders SET updated_at = 1 WHERE order_no = '$pending'", "order.times"},
	{"changed in the future", "UPDATE orders SET updated_at = " + never + " WHERE order_no = " +
		"'$pending'", "order.times"},
	{"an unpaid order that is looked at in 2286", "UPDATE orders SET due_at = " + never + " WHERE order_no = " +
		"'$pending'",
		"order.due_soon"},
	{"an unpaid order that is closed before its deadline", "UPDATE orders SET due_at = expire_at - 1000 WHERE " +
		"order_no " +
		"= '$pending'", "order.due_soon"},
	{"a closing order that is looked at in a week", "UPDATE orders SET due_at = due_at + 604800000 WHERE " +
		"order_no = " +
		"'$closing'", "order.due_soon"},
	{"a timeout that the customer asked for", "UPDATE orders SET close_reason = 'timeout' WHERE order_no = '$closed'",
		"close.asked"},
	{"an operator's close that the customer asked for", "UPDATE orders SET close_reason = 'operator' WHERE " +
		"order_no = " +
		"'$closed'", "close.asked"},
	{"paid, and nobody knows who had wanted it closed", "UPDATE orders SET close_reason = '' WHERE order_no = " +
		"'$late'",
		"close.asked"},
	{"a timeout again that its customer cancelled then", "UPDATE orders SET close_reason = 'timeout' WHERE " +
		"order_no = '$wanted'", "close.asked"},
	{"an operator cancelled it then", "UPDATE orders SET close_reason = 'operator' WHERE order_no = '$wanted'",
		"close.asked"},
	{"nobody but the clock wanted it then", "UPDATE order_events SET actor_type = 'scheduler' WHERE order_no = " +
		"'$wanted' AND event = 'close.wanted'", "close.asked"},
	{"the customer's wish under another name", "UPDATE order_events SET event = 'order.note' WHERE order_no = " +
		"'$wanted' AND event = 'close.wanted'", "close.asked"},
	{"a timeout again that two people vouched for", "UPDATE orders SET close_reason = 'timeout' WHERE order_no = " +
		"'$vouched'", "close.asked"},
	{"the customer wanted it, and two people closed it", "UPDATE orders SET close_reason = 'cancel' WHERE " +
		"order_no = '$vouched'", "close.asked"},
	{"WeChat Pay closed what two people did", "UPDATE order_events SET detail = REPLACE(detail, 'vouched\"', " +
		"'closed\"') WHERE order_no = '$vouched' AND event = 'close.accepted'", "close.asked"},
	{"an operator's close that was the clock's", "UPDATE order_events SET actor_type = 'operator', actor_id = " +
		"'fin' WHERE order_no = '$closed' AND event = 'close.requested';UPDATE orders SET close_reason = 'timeout' " +
		"WHERE order_no = '$closed'", "close.asked"},
	{"sold, and the clock had wanted it closed", "UPDATE orders SET close_reason = 'timeout' WHERE order_no = " +
		"'$open'", "close.asked"},
	{"an event by nobody that there is", "UPDATE order_events SET actor_type = 'root' WHERE order_no = '$open' AND " +
		"seq = 2", "events.facts"},
	{"an event by an operator without a name", "UPDATE order_events SET actor_type = 'operator', actor_id = '' " +
		"WHERE " +
		"order_no = '$open' AND seq = 2", "events.facts"},
	{"an event by another customer", "UPDATE order_events SET actor_id = 'eve' WHERE order_no = '$closed' AND " +
		"actor_type = 'customer'", "events.facts"},
	{"an event without a name", "UPDATE order_events SET event = '' WHERE order_no = '$open' AND seq = 2",
		"events.facts"},
	{"an event whose detail is cut", "UPDATE order_events SET detail = '{\"transaction_id\":\"42' WHERE order_no = " +
		"'$open' AND event = 'payment.applied'", "events.facts"},
	{"a move under another name", "UPDATE order_events SET event = 'order.note' WHERE order_no = '$closed' AND " +
		"event = " +
		"'close.requested'", "events.named"},
	{"a payment that the shop is not told of", "DELETE FROM events_out WHERE order_no = '$open' AND type = " +
		"'order.paid'", "events.told"},
	{"a close that the shop is told of twice", "INSERT INTO events_out (at, type, order_no, version, state, ref) " +
		"SELECT at, type, order_no, version, state, ref FROM events_out WHERE order_no = '$closed' AND type = " +
		"'order.closed'", "events.told"},
	{"the shop is told of another state", "UPDATE events_out SET state = 'paid' WHERE order_no = '$closed' AND " +
		"type = 'order.closed'", "events.told"},
	{"the shop is told what did not happen", "UPDATE events_out SET type = 'order.paid' WHERE order_no = " +
		"'$closed' AND type = 'order.closed'", "events.told"},
	{"the shop is told another number of its own", "UPDATE events_out SET reference = 'x' WHERE order_no = " +
		"'$closed' AND type = 'order.closed'", "events.told"},
	{"a SKU of which nobody was told how little is left", "UPDATE skus SET low_at = available WHERE sku_id = 'mug'",
		"events.told"},
	{"the shop is told of a SKU that is none", "INSERT INTO events_out (at, type, order_no, version, state, ref) " +
		"VALUES (1800000000000, 'stock.low', '', 0, '', 'nothing')", "events.told"},
	{"a threshold of nothing", "UPDATE skus SET low_at = 0 WHERE sku_id = 'mug'", "stock.sku_facts"},
	{"a shop's number of no shop", "UPDATE orders SET reference = 'x' WHERE order_no = '$closed'", "order.facts"},
	{"a shop that asked for money that nobody asks for", "UPDATE refunds SET shop = 'x' WHERE reason = 'late'",
		"refund.asker"},
	{"the shop is told of an order that is none", "UPDATE events_out SET order_no = 'x' WHERE order_no = " +
		"'$pending'", "events.told"},
	{"an attempt that can be paid until 2099", "UPDATE payment_attempts SET time_expire = " +
		"'2099-01-01T00:00:00+08:00' " +
		"WHERE order_no = '$pending'", "attempt.facts"},
	{"an attempt that can be paid an hour longer, by the zone", "UPDATE payment_attempts SET time_expire = " +
		"CONCAT(SUBSTR(time_expire, 1, 19), '+07:00') WHERE order_no = '$pending'", "attempt.facts"},
	{"an attempt whose deadline nobody can read", "UPDATE payment_attempts SET time_expire = '' WHERE order_no = " +
		"'$pending'", "attempt.facts"},
	{"an attempt of a kind that is none", "UPDATE payment_attempts SET trade_type = 'CASH' WHERE order_no = " +
		"'$pending'",
		"attempt.facts"},
	{"a JSAPI payment of nobody", "UPDATE payment_attempts SET trade_type = 'JSAPI' WHERE order_no = '$pending'",
		"attempt.facts"},
	{"an H5 payment from nowhere", "UPDATE payment_attempts SET trade_type = 'H5' WHERE order_no = '$pending'",
		"attempt.facts"},
	{"an attempt with other words than its order", "UPDATE payment_attempts SET attach = 'x' WHERE order_no = " +
		"'$pending'", "attempt.facts"},
	{"an attempt that tells nobody", "UPDATE payment_attempts SET notify_url = '' WHERE order_no = '$pending'",
		"attempt.facts"},
	{"a gap in the attempts", "UPDATE payment_attempts SET attempt_no = 7, out_trade_no = '$pending-07' WHERE " +
		"out_trade_no = '$pending-02'", "attempt.one_payable attempt.told"},
	{"an attempt that is always in flight", "UPDATE payment_attempts SET called_at = " + never + " WHERE " +
		"order_no = " +
		"'$pending'", "attempt.times"},
	{"an attempt before its order", "UPDATE payment_attempts SET called_at = 1 WHERE order_no = '$pending'",
		"attempt.times"},
	{"an answer of the future, handed out for ever", "UPDATE payment_attempts SET answered_at = " + never + " " +
		"WHERE " +
		"order_no = '$pending'", "attempt.times"},
	{"an answer that is handed out and is not there", "UPDATE payment_attempts SET answer = '' WHERE " +
		"out_trade_no = " +
		"'$pending-02'", "attempt.times"},
	{"an attempt lost", "DELETE FROM payment_attempts WHERE order_no = '$open'", "attempt.told"},
	{"a payment without its attempt", "DELETE FROM payment_attempts WHERE out_trade_no = " +
		"'$asked-01'", "attempt.told"},
	{"a payment of another attempt", "UPDATE payments SET out_trade_no = '$asked-09' WHERE order_no = '$asked'",
		"events.payments"},
	{"a shipment of a payment that is none", shipmentOf(
		"'due', 'made-up', out_trade_no, paid_at, '{}', received_at, 1, received_at"), "shipment.facts"},
	{"a shipment paid on another day", shipmentOf(
		"'due', transaction_id, out_trade_no, paid_at - 86400000, '{}', received_at, 1, received_at"),
		"shipment.facts"},
	{"a shipment that nobody reports", shipmentOf(
		"'due', transaction_id, out_trade_no, paid_at, '{}', received_at, 1, NULL"), "shipment.facts"},
	{"a shipment to be reported in a year", shipmentOf(
		"'due', transaction_id, out_trade_no, paid_at, '{}', received_at, 1, received_at + 31536000000"),
		"shipment.facts"},
	{"a shipment whose content cannot be read", shipmentOf(
		"'due', transaction_id, out_trade_no, paid_at, 'x', received_at, 1, received_at"), "shipment.facts"},
	{"a whole shipment that is owed again", shipmentOf(
		"'owed', transaction_id, out_trade_no, paid_at, '{}', received_at, 1, received_at"), "shipment.facts"},
	{"a reported shipment of nothing", shipmentOf(
		"'reported', transaction_id, out_trade_no, paid_at, '', 0, 0, NULL"), "shipment.facts"},
	{"the buyer paid more than the total", "UPDATE payments SET payer_fen = amount_fen + 1 WHERE order_no = '$asked'",
		"money.payer"},
	{"the buyer paid less than nothing", "UPDATE payments SET payer_fen = -1 WHERE order_no = " +
		"'$asked'", "money.payer"},
	{"what the buyer paid was said twice", "UPDATE payments SET payer_said = 2 WHERE order_no = '$asked'",
		"money.payer"},
	{"a payment of no day", "UPDATE payments SET paid_at = 0 WHERE order_no = '$asked'", "money.when"},
	{"a payment of the day before", "UPDATE payments SET paid_at = paid_at - 86400000 WHERE order_no = '$asked'",
		"money.when"},
	{"a payment of the day after", "UPDATE payments SET paid_at = paid_at + 86400000 WHERE order_no = '$asked'",
		"money.when"},
	{"a payment that is heard of in 2286", "UPDATE payments SET received_at = " + never + " WHERE order_no = " +
		"'$asked'",
		"money.when"},
	{"amounts of payment, order and lines moved together", "UPDATE payments SET amount_fen = amount_fen + 100 " +
		"WHERE " +
		"order_no = '$asked';UPDATE orders SET total_fen = total_fen + 100 WHERE order_no = '$asked';UPDATE " +
		"order_items " +
		"SET price_fen = price_fen + 50 WHERE order_no = '$asked';UPDATE payment_attempts SET amount_fen = " +
		"amount_fen + " +
		"100 WHERE order_no = '$asked'", "events.payments"},
	{"late, and all its money is back", "UPDATE refunds SET state = 'success', due_at = NULL, accepted_at = " +
		"created_at " +
		"WHERE order_no = '$late'", "money.refunded events.refunds"},
	{"a refund of a stranger", "UPDATE refunds SET requester_id = 'eve' WHERE out_refund_no = '$partly-R01'",
		"refund.asker"},
	{"a refund that a machine asked for", "UPDATE refunds SET requester_type = 'scheduler' WHERE out_refund_no = " +
		"'$partly-R01'", "refund.asker"},
	{"a refund without its request", "UPDATE refunds SET request_id = NULL WHERE out_refund_no = '$partly-R01'",
		"refund.asker"},
	{"a refund whose request fits every content", "UPDATE refunds SET request_hash = '' WHERE out_refund_no = " +
		"'$partly-R01'", "refund.asker"},
	{"owed for another reason than its payment", "UPDATE refunds SET reason = 'duplicate' WHERE order_no = '$late'",
		"refund.reason"},
	{"owed, and the order keeps the money", "UPDATE refunds SET reason = 'late' WHERE order_no = '$partly'",
		"refund.reason"},
	{"late money brings goods back", "UPDATE refunds SET restock = 1 WHERE order_no = '$late'", "refund.reason"},
	{"lines of late money", "INSERT INTO refund_items (out_refund_no, sku_id, quantity) SELECT out_refund_no, " +
		"'mug', 1 " +
		"FROM refunds WHERE order_no = '$late'", "refund.reason"},
	{"a refund of another amount, and its payment with it", "UPDATE refunds SET amount_fen = amount_fen + 1 WHERE " +
		"order_no = '$open';UPDATE payments SET refund_fen = refund_fen + 1 WHERE order_no = '$open'", "refund.told"},
	{"a refund that nobody asked for", "UPDATE order_events SET event = 'order.note' WHERE order_no = '$open' AND " +
		"event = 'refund.requested'", "refund.told events.named"},
	{"a refund before its payment", "UPDATE refunds SET created_at = 1 WHERE order_no = '$open'", "refund.times"},
	{"a refund that keeps the others waiting for ever", "UPDATE refunds SET asked_at = " + never + " WHERE " +
		"order_no = " +
		"'$open'", "refund.times"},
	{"a refund sent before it was made", "UPDATE refunds SET sent_at = 1 WHERE order_no = '$partly'", "refund.times"},
	{"a refund of no bill's day", "UPDATE refunds SET accepted_at = 0 WHERE order_no = '$partly'", "refund.times"},
	{"a refund of another bill's day", "UPDATE refunds SET accepted_at = accepted_at - 86400000 WHERE order_no = " +
		"'$partly'", "refund.times"},
	{"a refund that paid in the future", "UPDATE refunds SET succeeded_at = " + never + " WHERE order_no = '$partly'",
		"refund.times"},
	{"a refund of no version", "UPDATE refunds SET version = 0 WHERE order_no = '$partly'", "refund.counts"},
	{"a refund with fewer tries than none", "UPDATE refunds SET tries = -1 WHERE order_no = " +
		"'$open'", "refund.counts"},
	{"a refund that nine must approve", "UPDATE refunds SET approvals_needed = 9 WHERE order_no = '$open'",
		"refund.counts refund.approved"},
	{"two refunds of one number of WeChat Pay", "UPDATE refunds SET refund_id = '50' WHERE order_no IN ('$partly', " +
		"'$whole')", "refund.one_number"},
	{"an approval too many", "INSERT INTO refund_approvals (out_refund_no, approver, reason, at) SELECT " +
		"out_refund_no, " +
		"'eve', 'x', created_at FROM refunds WHERE order_no = '$partly'", "refund.approvals refund.approvals_told"},
	{"an approval by another", "UPDATE refund_approvals SET approver = 'eve'", "refund.approvals_told"},
	{"an approval without a reason", "UPDATE refund_approvals SET reason = ''", "refund.approvals"},
	{"an approval of another time", "UPDATE refund_approvals SET at = 1", "refund.approvals"},
	{"to be approved by nobody, and it waits", "UPDATE refunds SET state = 'pending_approval', due_at = NULL WHERE " +
		"order_no = '$open'", "refund.approvals"},
	{"rejected by nobody", "UPDATE refunds SET decided_by = '' WHERE out_refund_no = '$asked-R01'", "refund.decided"},
	{"rejected for nothing", "UPDATE refunds SET decided_why = '' WHERE out_refund_no = " +
		"'$asked-R01'", "refund.decided"},
	{"a refund that is looked at in 2286", "UPDATE refunds SET due_at = " + never + " WHERE order_no = '$open'",
		"refund.due_soon"},

	{"a bulk run without its rows", bulkOf("'order.ask', 'x', 1, 'running', 0, 0", ""), "bulk.runs"},
	{"a bulk run that has done what it has not", bulkOf("'order.ask', 'x', 1, 'done', 1, 1800000000000", askedRow),
		"bulk.runs"},
	{"a bulk run by nobody", bulkOf("'order.ask', '', 1, 'running', 0, 0", askedRow), "bulk.runs"},
	{"closed in bulk, and open", bulkOf("'order.close', 'x', 1, 'running', 1, 0", "order_no, version, total_fen, "+
		"'done', '' FROM orders WHERE order_no = '$pending'"), "bulk.rows"},
	{"approved in bulk by somebody who has not", bulkOf("'refund.approve', 'nobody', 1, 'running', 1, 0",
		"out_refund_no, version, amount_fen, 'done', '' FROM refunds WHERE order_no = '$partly'"), "bulk.rows"},
	{"a row of a bulk run that there is not", bulkOf("'order.ask', 'x', 1, 'running', 0, 0", askedRow) +
		";DELETE FROM bulk_runs", "bulk.rows"},
	{"an order in bulk of a version that there never was", bulkOf("'order.ask', 'x', 1, 'running', 0, 0",
		"order_no, version + 1, total_fen, 'waiting', '' FROM orders WHERE order_no = '$asked'"), "bulk.rows"},

	{"a lease for ever", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', " + never + ", 1, '')", "books.runs"},
	{"a run by nobody", runInto + "('2027-01-14', 'ALL', 'running', 1, '', 1, 1, '')", "books.runs quiet.books"},
	{"a run of no day", runInto + "('someday', 'ALL', 'failed', 1, 'x', 1, 1, '')", "books.runs"},
	{"a run of the future", runInto + "('2099-01-01', 'ALL', 'failed', 1, 'x', 1, 1, '')", "books.runs"},
	{"a run of a bill that there is not", runInto + "('2027-01-14', 'COUPONS', 'failed', 1, 'x', 1, 1, '')",
		"books.runs"},
	{"done, and no bill", runInto + "('2027-01-14', 'ALL', 'done', 1, 'x', 1, 1, '{}');UPDATE reconciliations SET " +
		"sha1 = 'x'", "books.runs"},
	{"done, of other hours", runInto + "('2027-01-14', 'REFUND', 'done', 1, 'x', 1, 1, '{}');UPDATE " +
		"reconciliations " +
		"SET finished_at = 1, day_to = 86400000", "books.runs"},
	{"a bill with another hash", billInto + "('2027-01-14', 'ALL', 'x', 'file', 1, 1, 1800000000000);" + pieceInto,
		"books.bills"},
	{"a bill from nowhere", billInto + "('2027-01-14', 'ALL', '$sha', 'x', 1, 1, 1800000000000);" + pieceInto,
		"books.bills"},
	{"a bill before its day", billInto + "('2027-01-14', 'ALL', '$sha', 'file', 1, 1, " +
		"1);" + pieceInto, "books.bills"},
	{"a bill without its first piece", billInto + "('2027-01-14', 'ALL', '$sha', 'file', 1, 1, 1800000000000);" +
		pieceInto + ";UPDATE bill_chunks SET seq = 1", "books.bills"},
	{"an empty piece of a bill", billInto + "('2027-01-14', 'ALL', '$sha', 'file', 1, 1, " +
		"1800000000000);" + pieceInto +
		";UPDATE bill_chunks SET body = ''", "books.bills"},
	{"a difference that no run found", diffInto + "('x', '2027-01-15', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', " +
		"'42', 0, " +
		"0, 1, '', '', '', 0, 'OPEN', 1800000000000, '', '', '')", "books.differences"},
	{"a difference of a later run", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');" + diffInto +
		"('x', '2027-01-14', 'ALL', 2, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'OPEN', " +
		"1800000000000, '', '', '')", "books.differences"},
	{"a difference of a kind that is none", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, " +
		"'');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'SOME', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'OPEN', " +
		"1800000000000, '', " +
		"'', '')", "books.differences"},
	{"open, and it has ended", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'OPEN', " +
		"1800000000000, " +
		"'', '', '');UPDATE differences SET resolved_at = 1800000000000", "books.differences"},
	{"resolved at no time", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'RESOLVED', " +
		"1800000000000, '', 'fin', 'x');UPDATE differences SET resolution = 'x'", "books.differences"},
	{"resolved by a person without a reason", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, " +
		"'');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'RESOLVED', " +
		"1800000000000, '', 'fin', '');UPDATE differences SET resolution = 'x', resolved_at = 1800000000000",
		"books.differences"},
	{"proposed for nothing", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, 'OPEN', " +
		"1800000000000, " +
		"'fin', '', '')", "books.differences"},
	{"matched across to no bill", "INSERT INTO matched_across (kind, ref, bill_date) SELECT 'payment', " +
		"transaction_id, " +
		"'2027-01-15' FROM payments WHERE order_no = '$asked'", "books.across"},
	{"matched across, and not ours", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');INSERT INTO " +
		"matched_across (kind, ref, bill_date) VALUES ('payment', '43', '2027-01-14')", "books.across"},
	{"matched across to a day far away", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');INSERT INTO " +
		"matched_across (kind, ref, bill_date, sha1) SELECT 'payment', transaction_id, '2027-01-14', '$sha' FROM " +
		"payments WHERE order_no = '$asked'", "books.across"},
	{"a file is called WeChat Pay's", givenFile + ";UPDATE bill_files SET source = 'wechat'", "books.signed"},
	{"a day is said to have no bill", givenFile + doneDay + ";UPDATE reconciliations SET sha1 = ''", "books.signed"},
	{"a bill that nobody gave is confirmed", givenFile + ";" + handInto + "('2027-01-14', 'ALL', '$sha', " +
		"'confirmed', 'bea', 'request', 'x', 1800000000000);DELETE FROM bill_hands WHERE act = 'gave'",
		"books.hands"},
	{"a bill that there is not is confirmed", handInto + "('2027-01-14', 'ALL', '$sha', 'gave', 'fin', '', '', 1);" +
		handInto + "('2027-01-14', 'ALL', '$sha', 'confirmed', 'bea', '', 'x', 1)", "books.hands"},
	{"ended by the run that saw it", seenDiff + ";UPDATE differences SET status = 'RESOLVED', resolution = " +
		"'bill and books agree now', resolved_by = 'reconciler', resolved_at = 1800000000000", "books.ended"},
	{"in the bill of another day, which has it not", seenDiff + ";UPDATE differences SET status = 'RESOLVED', " +
		"resolution = 'in the bill of another day', resolved_by = 'reconciler', resolved_at = 1800000000000",
		"books.ended"},
	{"waits, and for no day", seenDiff + ";UPDATE differences SET status = 'PENDING_NEXT_DAY', pending_until = " +
		"1800100000000", "books.differences"},

	{"a token of a role that there is not", tokenInto + "('eve', 'root', '$sha012345678901234567890123', " +
		"'cli:root', 1, 0)", "people.tokens"},
	{"a token of nobody", tokenInto + "('eve', 'admin', '$sha012345678901234567890123', 'cli:root', 1, 0);UPDATE " +
		"operator_tokens SET person = 'nobody-here'", "people.tokens"},
	{"an operator of a role that there is not", personInto + "('eve', 'root', 'cli:root', 1)", "people.operators"},
	{"an operator that nobody made", personInto + "('eve', 'admin', '', 1)", "people.operators"},
	{"an operator of the future", personInto + "('eve', 'admin', 'cli:root', " + never + ")", "people.operators"},
	{"an operator who was ended at no time", personInto + "('eve', 'admin', 'cli:root', 1);UPDATE operators SET " +
		"disabled_by = 'fin'", "people.operators"},
	{"a bill that one person gave and confirmed", handInto + "('2027-01-14', 'ALL', '$sha', 'gave', 'eve', '', " +
		"'', 1);" +
		handInto + "('2027-01-14', 'ALL', '$sha', 'confirmed', 'eve', '', 'x', 1)", "books.hands"},
	{"a note of nothing", noteInto + "('none', 'n', 'comment', '', 'x', 'fin', '', 1)", "books.notes"},
	{"a difference that nobody was given", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '{}', 0, 'RESOLVED', " +
		"1800000000000, '', 'fin', 'x');UPDATE differences SET resolution = 'x', resolved_at = 1800000000000, " +
		"assignee = 'eve'", "books.notes"},
	{"a day closed by nobody", closedDay + ";UPDATE day_closings SET who = ''", "books.closings"},
	{"a day closed before it was over", closedDay + ";UPDATE day_closings SET at = at - 86400000", "books.closings"},
	{"a day that follows from no other", closedDay + ";UPDATE day_closings SET previous_sha256 = '" + "ffff" +
		hash64[4:] + "'", "books.closings"},
	{"a proof without its list", closedDay + ";DELETE FROM day_closing_parts WHERE name = 'SHA256SUMS'",
		"books.closings"},
	{"a proof of no closing", closedDay + ";DELETE FROM day_closings", "books.proofs"},
	{"a proof that was cut", closedDay + ";UPDATE day_closing_parts SET body = '' WHERE name = 'notes.csv'",
		"books.proofs"},
	{"a proof with the notes of another", closedDay + ";UPDATE day_closing_parts SET body = (SELECT body FROM " +
		"(SELECT body FROM day_closing_parts WHERE name = 'chain.txt') b) WHERE name = 'notes.csv'", "books.proofs"},
	{"a closing that names another proof", closedDay + ";UPDATE day_closings SET manifest_sha256 = '" + hash64 + "'",
		"books.proofs"},
	{"a day that somebody else has closed, says its row", closedDay + ";UPDATE day_closings SET who = 'fin'",
		"books.proofs"},
	{"a day closed for another reason, says its row", closedDay + ";UPDATE day_closings SET why = 'y'",
		"books.proofs"},
	{"a day closed in another way, says its row", closedDay + ";UPDATE day_closings SET how = 'cli'", "books.proofs"},
	{"a day closed at another time, says its row", closedDay + ";UPDATE day_closings SET at = at + 1",
		"books.proofs"},
	{"a day that follows from none, says its proof", closedDay + ";UPDATE day_closings SET previous_sha256 = " +
		"manifest_sha256", "books.proofs"},
	{"a bill that nobody gave", handInto + "('2027-01-14', 'ALL', '$sha', 'gave', '', '', '', 1)", "books.hands"},
	{"a bill that was found", handInto + "('2027-01-14', 'ALL', '$sha', 'found', 'eve', '', '', 1)", "books.hands"},
	{"an answer of a call that was not made", "UPDATE payment_attempts SET answer_no = call_no + 1 WHERE " +
		"order_no = " +
		"'$pending'", "attempt.calls"},
	{"an attempt that is asked about in 2286", "UPDATE payment_attempts SET ask_at = " + never + " WHERE " +
		"order_no = " +
		"'$pending'", "attempt.calls"},
	{"calls that nobody can read", "UPDATE payment_attempts SET open_calls = 'x' WHERE order_no = '$pending'",
		"attempt.calls"},
	{"a difference that waits for ever", runInto + "('2027-01-14', 'ALL', 'failed', 1, 'x', 1, 1, '');" + diffInto +
		"('x', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 1, '', '', '', 0, " +
		"'PENDING_NEXT_DAY', " +
		"1800000000000, '', '', '');UPDATE differences SET pending_until = " + never, "books.differences"},
	{"a token that nobody made", tokenInto + "('eve', 'admin', '$sha012345678901234567890123', '', 1, 0)",
		"people.tokens"},
	{"a token whose secret is not hashed", tokenInto + "('eve', 'admin', 'secret', 'cli:root', 1, " +
		"0)", "people.tokens"},
	{"a token that ended before it began", tokenInto + "('eve', 'admin', '$sha012345678901234567890123', " +
		"'cli:root', " +
		"1800000000000, 1)", "people.tokens"},
	{"a task that is tried again in 2286", taskInto + "'failing', 1, 'x', 1, 1, " +
		"" + never + ")", "people.failed_tasks"},
	{"a task that failed for nothing", taskInto + "'failing', 1, '', 1, 1, 1)", "people.failed_tasks"},
	{"a task that failed before it failed first", taskInto + "'dead', 1, 'x', 1800000000000, 1, 1)",
		"people.failed_tasks"},
}

const (
	runInto = "INSERT INTO reconciliations (bill_date, bill_type, state, run_no, holder, lease_until, started_at, " +
		"result) VALUES "
	billInto = "INSERT INTO bill_files (bill_date, bill_type, sha1, source, size_bytes, chunks, received_at) VALUES "
	// pieceInto gives every bill one piece.
	pieceInto = "INSERT INTO bill_chunks (bill_date, bill_type, sha1, seq, body) SELECT bill_date, bill_type, " +
		"sha1, 0, " +
		"'x' FROM bill_files"
	// givenFile is a bill of a day that one person gave, doneDay a run of it, and seenDiff
	// what the last run of a signed bill has seen.
	givenFile = billInto + "('2027-01-14', 'ALL', '$sha', 'file', 1, 1, 1800000000000);" + pieceInto + ";" +
		handInto + "('2027-01-14', 'ALL', '$sha', 'gave', 'fin', 'request', '', 1800000000000)"
	doneDay = ";INSERT INTO reconciliations (bill_date, bill_type, state, run_no, holder, lease_until, started_at, " +
		"finished_at, sha1, day_from, day_to, ours_fen, result) VALUES ('2027-01-14', 'ALL', 'done', 3, 'x', " +
		"1800000000000, 1800000000000, 1800000000000, '$sha', 1799856000000, 1799942400000, 0, '{}')"
	seenDiff = billInto + "('2027-01-14', 'ALL', '$sha', 'wechat', 1, 1, 1800000000000);" + pieceInto + ";" +
		handInto + "('2027-01-14', 'ALL', '$sha', 'fetched', 'wechat', '', '', 1800000000000)" + doneDay + ";" +
		diffInto + "('x', '2027-01-14', 'ALL', 3, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 100, '', 'applied', " +
		"'{}', 0, 'OPEN', 1800000000000, '', '', '')"
	personInto = "INSERT INTO operators (name, role, created_by, created_at) VALUES "
	handInto   = "INSERT INTO bill_hands (bill_date, bill_type, sha1, act, who, how, why, at) VALUES "
	noteInto   = "INSERT INTO difference_notes (difference_id, ref, what, word, body, who, how, at) VALUES "
	hash64     = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	tokenInto  = "INSERT INTO operator_tokens (name, role, sha256, created_by, created_at, revoked_at) VALUES "
	taskInto   = "INSERT INTO failed_tasks (task_type, task_key, payload, state, tries, cause, first_at, last_at, " +
		"next_at) " +
		"VALUES ('order:expire', 'x', '', "
)

// shipmentOf inserts a shipment of an order that was paid, with some columns as they are given.
func shipmentOf(columns string) string {
	return `INSERT INTO shipments
  (order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, version, due_at, message, put_by,
   created_at, updated_at)
SELECT order_no, ` + columns + `, '', '', received_at, received_at
FROM payments
WHERE order_no = '$asked'`
}

// closedDay is a day without a bill that somebody has closed, with its proof.
var closedDay = func() string {
	packed := func(text string) (hexed, sum string) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write([]byte(text))
		if err = errors.Join(err, z.Close()); err != nil {
			panic(err) // into memory
		}
		is := sha256.Sum256([]byte(text))
		return "X'" + hex.EncodeToString(b.Bytes()) + "'", hex.EncodeToString(is[:])
	}
	const part = "('2027-01-14', 1, '%s', 0, %s)"
	var parts []string
	list := ""
	for _, name := range []string{"VERIFY.txt", "verify.sh", "chain.txt", "closing.json", "result.json", "result.txt",
		"differences.csv", "notes.csv"} {
		text := name
		switch name {
		case "closing.json":
			text = `{"closed": true, "bill_date": "2027-01-14", "seq": 1, "closed_by": "flora", "how": "request", ` +
				`"reason": "x", "closed_at": "2027-01-15T08:00:00Z", "bill_sha1": ""}`
		case "chain.txt":
			text = "day 2027-01-14\nprevious none\n"
		}
		body, sum := packed(text)
		list += sum + "  " + name + "\n"
		parts = append(parts, fmt.Sprintf(part, name, body))
	}
	body, manifest := packed(list)
	parts = append(parts, fmt.Sprintf(part, "SHA256SUMS", body))
	return "INSERT INTO day_closings (bill_date, seq, who, how, why, at, sha1, found_sha256, manifest_sha256, " +
		"previous_sha256) VALUES ('2027-01-14', 1, 'flora', 'request', 'x', 1800000000000, '', '" + hash64 + "', '" +
		manifest + "', '');INSERT INTO day_closing_parts (bill_date, seq, name, part, body) VALUES " +
		strings.Join(parts, ", ")
}()

// askedRow is a row of a bulk run, about an order as it is.
const askedRow = "order_no, version, total_fen, 'waiting', '' FROM orders WHERE order_no = '$asked'"

// bulkOf inserts a bulk run, of which kind, actor, total, state, done and ended_at are given, and its row, without for
// "".
func bulkOf(run, row string) string {
	all := "INSERT INTO bulk_runs (id, reason, filter, holder, held_until, note, changed, failed, created_at, " +
		"sum_fen, kind, actor, total, state, done, ended_at) VALUES ('b1', 'x', '', '', 0, '', 0, 0, 1800000000000, " +
		"0, " + run + ")"
	if row != "" {
		all += ";INSERT INTO bulk_rows (run_id, seq, ref, version, amount_fen, state, detail) SELECT 'b1', 1, " + row +
			";UPDATE bulk_runs SET sum_fen = (SELECT SUM(amount_fen) FROM bulk_rows)"
	}
	return all
}
