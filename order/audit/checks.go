package audit

import (
	"fmt"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
)

// schemaCheck is the one check that reads the schema and not the rows.
const schemaCheck = "schema.guards"

// check is an invariant: a SELECT that must return no row.
type check struct{ id, meaning, query string }

// deadRefunds are the states in which a refund no longer counts against its
// payment: RefundState.Committed says the same, and a test holds them together.
const deadRefunds = `'rejected', 'closed', 'cancelled', 'held'`

// refundEnds is the event of an order that says how its refund r ended; what
// refundNames says, and a test holds them together.
const refundEnds = `CASE r.state WHEN 'success' THEN 'refund.succeeded' WHEN 'by_hand' THEN 'refund.by_hand'
    WHEN 'closed' THEN 'refund.closed' WHEN 'rejected' THEN 'refund.rejected' WHEN 'cancelled' THEN 'refund.cancelled' END`

// overdueAfter is how late an order may be looked at by a healthy service.
const overdueAfter = time.Minute

// args are the arguments of a check's query.
func (a *Auditor) args(c check) []any {
	switch c.id {
	case "money.facts":
		return []any{a.cfg.AppID, a.cfg.MchID}
	case "quiet.orders":
		return []any{sqldb.Millis(a.cfg.Now().Add(-overdueAfter))}
	}
	return nil
}

// checks hold at every moment, also while the service runs.
var checks = []check{
	{schemaCheck, "the keys and bounds that guard the books are there, as they were made", ""}, // see migrations.MissingGuards
	{"stock.conserved", "what is on the shelf is what came in less what is out", `
SELECT s.sku_id, s.available, COALESCE(f.total, 0) AS flows
FROM skus s
LEFT JOIN (
  SELECT sku_id, SUM(delta) AS total
  FROM stock_flows
  GROUP BY sku_id) f ON f.sku_id = s.sku_id
WHERE s.unlimited = 0
  AND s.available <> COALESCE(f.total, 0)`},
	{"stock.not_negative", "no shelf holds less than nothing", `
SELECT sku_id, available
FROM skus
WHERE available < 0`},
	{"stock.not_oversold", "open and paid orders hold no more of a SKU than ever came in", `
SELECT i.sku_id, SUM(i.quantity) AS held, MAX(c.came_in) AS came_in
FROM order_items i
JOIN orders o ON o.order_no = i.order_no AND o.state IN ('pending', 'closing', 'paid', 'refunding')
JOIN skus s ON s.sku_id = i.sku_id AND s.unlimited = 0
LEFT JOIN (
  SELECT sku_id, SUM(delta) AS came_in
  FROM stock_flows
  WHERE order_no = ''
  GROUP BY sku_id) c ON c.sku_id = i.sku_id
LEFT JOIN (
  SELECT f.sku_id, SUM(f.delta) AS came_back
  FROM stock_flows f
  JOIN orders p ON p.order_no = f.order_no AND p.state IN ('paid', 'refunding')
  WHERE f.kind = 'return' AND f.ref <> 'close'
  GROUP BY f.sku_id) b ON b.sku_id = i.sku_id
GROUP BY i.sku_id
HAVING SUM(i.quantity) - COALESCE(MAX(b.came_back), 0) > COALESCE(MAX(c.came_in), 0)`},
	{"stock.deducted_once", "every line of an order was deducted once, with its quantity", `
SELECT i.order_no, i.sku_id, i.quantity, COALESCE(-f.delta, 0) AS deducted
FROM order_items i
LEFT JOIN stock_flows f ON f.order_no = i.order_no AND f.kind = 'deduct' AND f.ref = '' AND f.sku_id = i.sku_id
WHERE f.delta IS NULL OR -f.delta <> i.quantity`},
	{"stock.revived_once", "stock was taken again only for an order that had given it back, all of it", `
SELECT d.order_no, d.ref, d.sku_id, d.delta, COALESCE(r.delta, 0) AS given_back
FROM stock_flows d
LEFT JOIN stock_flows r ON r.order_no = d.order_no AND r.kind = 'return' AND r.ref = 'close' AND r.sku_id = d.sku_id
WHERE d.kind = 'deduct'
  AND d.ref <> ''
  AND (d.ref <> 'revive' OR r.delta IS NULL OR r.delta <> -d.delta)`},
	{"stock.no_stray_flow", "every deduction belongs to a line of an order", `
SELECT f.order_no, f.sku_id, f.kind
FROM stock_flows f
LEFT JOIN order_items i ON i.order_no = f.order_no AND i.sku_id = f.sku_id
WHERE f.order_no <> '' AND i.order_no IS NULL`},
	{"stock.flow_of_a_sku", "every flow is of a SKU that exists", `
SELECT f.order_no, f.kind, f.ref, f.sku_id
FROM stock_flows f
LEFT JOIN skus s ON s.sku_id = f.sku_id
WHERE s.sku_id IS NULL`},
	{"stock.returned_no_more", "no order gave back more than it took", `
SELECT f.order_no, f.sku_id, SUM(f.delta) AS too_much
FROM (
  SELECT DISTINCT order_no
  FROM stock_flows
  WHERE kind = 'return') r
JOIN stock_flows f ON f.order_no = r.order_no
GROUP BY f.order_no, f.sku_id
HAVING SUM(f.delta) > 0`},
	{"stock.agrees_with_state", "open and paid orders keep their stock, closed and late ones gave all of it back", `
SELECT o.order_no, o.state, f.net, f.close_returns
FROM (
  SELECT order_no, SUM(delta) AS net, SUM(CASE WHEN ref = 'close' THEN 1 WHEN ref = 'revive' THEN -1 ELSE 0 END) AS close_returns
  FROM stock_flows
  WHERE order_no <> ''
  GROUP BY order_no
  HAVING SUM(delta) <> 0
    OR SUM(CASE WHEN ref = 'close' THEN 1 WHEN ref = 'revive' THEN -1 ELSE 0 END) <> 0) f
JOIN orders o ON o.order_no = f.order_no
WHERE (o.state IN ('closed', 'late') AND f.net <> 0)
  OR (o.state IN ('pending', 'closing', 'paid', 'refunding') AND f.close_returns <> 0)`},
	{"stock.return_has_refund", "what came back after a sale came back with a refund that has paid, and no more than it says", `
SELECT f.order_no, f.ref, f.sku_id, f.delta, COALESCE(i.quantity, 0) AS refunded
FROM stock_flows f
LEFT JOIN refunds r ON r.out_refund_no = f.ref AND r.order_no = f.order_no AND r.state IN ('success', 'by_hand') AND r.restock = 1
LEFT JOIN refund_items i ON i.out_refund_no = r.out_refund_no AND i.sku_id = f.sku_id
WHERE f.kind = 'return'
  AND f.ref <> 'close'
  AND (i.quantity IS NULL OR i.quantity <> f.delta)`},
	{"stock.refund_returned", "a refund that has paid gave its lines back, unless it says not to", `
SELECT r.out_refund_no, i.sku_id, i.quantity
FROM refunds r
JOIN refund_items i ON i.out_refund_no = r.out_refund_no
LEFT JOIN stock_flows f ON f.order_no = r.order_no AND f.kind = 'return' AND f.ref = r.out_refund_no AND f.sku_id = i.sku_id
WHERE r.state IN ('success', 'by_hand')
  AND r.restock = 1
  AND f.order_no IS NULL`},
	{"stock.refunded_no_more", "refunds give no more of a line back than the order has", `
SELECT r.order_no, i.sku_id, SUM(i.quantity) AS refunded, COALESCE(MAX(o.quantity), 0) AS ordered
FROM refund_items i
JOIN refunds r ON r.out_refund_no = i.out_refund_no AND r.state NOT IN (` + deadRefunds + `)
LEFT JOIN order_items o ON o.order_no = r.order_no AND o.sku_id = i.sku_id
GROUP BY r.order_no, i.sku_id
HAVING SUM(i.quantity) > COALESCE(MAX(o.quantity), 0)`},
	{"close.proven", "no stock came back and no order closed without WeChat's proven close before it", `
SELECT o.order_no, o.state
FROM orders o
LEFT JOIN order_events e ON e.order_no = o.order_no AND e.event = 'close.accepted' AND e.to_state = 'closed' AND e.detail LIKE '%"close":%'
LEFT JOIN stock_flows f ON f.order_no = o.order_no AND f.kind = 'return' AND f.ref = 'close'
WHERE (o.state IN ('closed', 'late') OR f.order_no IS NOT NULL)
  AND (e.order_no IS NULL OR e.at > f.created_at)
GROUP BY o.order_no, o.state`},
	{"events.last_is_state", "an order's state and version are those of its last event", `
SELECT o.order_no, o.state, o.version, COALESCE(c.n, 0) AS events, COALESCE(l.to_state, 'pending') AS last_state
FROM orders o
LEFT JOIN (
  SELECT order_no, COUNT(*) AS n, MAX(seq) AS last_seq
  FROM order_events
  GROUP BY order_no) c ON c.order_no = o.order_no
LEFT JOIN order_events l ON l.order_no = o.order_no AND l.seq = c.last_seq
WHERE o.version <> COALESCE(c.n, 0) + 1
  OR o.version <> COALESCE(c.last_seq, 1)
  OR o.state <> COALESCE(l.to_state, 'pending')`},
	{"events.chain", "each event begins in the state in which the one before it ended", `
SELECT e.order_no, e.seq, e.from_state, COALESCE(p.to_state, '') AS state_before
FROM order_events e
LEFT JOIN order_events p ON p.order_no = e.order_no AND p.seq = e.seq - 1
WHERE (e.seq = 2 AND e.from_state <> 'pending')
  OR (e.seq > 2 AND (p.order_no IS NULL OR p.to_state <> e.from_state))
  OR (e.seq < 2)`},
	{"events.allowed", "every change of state is one that the state machine allows", allowedQuery()},
	{"events.time", "time never goes back within an order", `
SELECT e.order_no, e.seq
FROM order_events e
JOIN orders o ON o.order_no = e.order_no
LEFT JOIN order_events p ON p.order_no = e.order_no AND p.seq = e.seq - 1
WHERE e.at < COALESCE(p.at, o.created_at)
  OR e.at > o.updated_at`},
	{"events.payments", "a payment is one event of its order, the one that its outcome says", `
SELECT p.order_no, p.transaction_id AS what, COUNT(e.seq) AS found
FROM payments p
LEFT JOIN order_events e ON e.order_no = p.order_no
  AND e.event = CONCAT('payment.', CASE p.reason WHEN '' THEN 'applied' WHEN 'revived' THEN 'revived'
    WHEN 'late' THEN 'late' WHEN 'duplicate' THEN 'duplicate' ELSE 'held' END)
  AND INSTR(e.detail, CONCAT('"transaction_id":"', p.transaction_id, '"')) > 0
WHERE p.order_no <> ''
GROUP BY p.order_no, p.transaction_id
HAVING COUNT(e.seq) <> 1
UNION ALL
SELECT e.order_no, CONCAT('event ', e.seq) AS what, COUNT(p.transaction_id) AS found
FROM order_events e
LEFT JOIN payments p ON p.order_no = e.order_no
  AND INSTR(e.detail, CONCAT('"transaction_id":"', p.transaction_id, '"')) > 0
WHERE e.event IN ('payment.applied', 'payment.revived', 'payment.late', 'payment.duplicate', 'payment.held')
GROUP BY e.order_no, e.seq
HAVING COUNT(p.transaction_id) <> 1`},
	{"events.refunds", "the end of a refund is one event of its order", `
SELECT r.order_no, r.out_refund_no AS what, COUNT(e.seq) AS found
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.event = ` + refundEnds + `
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE r.order_no <> ''
  AND r.state IN ('success', 'by_hand', 'closed', 'rejected', 'cancelled')
GROUP BY r.order_no, r.out_refund_no
HAVING COUNT(e.seq) <> 1
UNION ALL
SELECT e.order_no, CONCAT('event ', e.seq) AS what, COUNT(r.out_refund_no) AS found
FROM order_events e
LEFT JOIN refunds r ON r.order_no = e.order_no
  AND e.event = ` + refundEnds + `
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE e.event IN ('refund.succeeded', 'refund.by_hand', 'refund.closed', 'refund.rejected', 'refund.cancelled')
GROUP BY e.order_no, e.seq
HAVING COUNT(r.out_refund_no) <> 1`},
	{"events.one_end", "an order is either paid or closed, once", `
SELECT order_no, COUNT(*) AS ends
FROM order_events
WHERE from_state IN ('pending', 'closing') AND to_state IN ('paid', 'closed')
GROUP BY order_no
HAVING COUNT(*) > 1`},
	{"events.of_an_order", "every event belongs to an order", `
SELECT e.order_no, e.seq
FROM order_events e
LEFT JOIN orders o ON o.order_no = e.order_no
WHERE o.order_no IS NULL`},
	{"order.total", "an order costs the sum of its lines", `
SELECT o.order_no, o.total_fen, COALESCE(i.lines_fen, 0) AS lines_fen
FROM orders o
LEFT JOIN (
  SELECT order_no, SUM(quantity * price_fen) AS lines_fen
  FROM order_items
  GROUP BY order_no) i ON i.order_no = o.order_no
WHERE o.total_fen <> COALESCE(i.lines_fen, 0)`},
	{"order.lines", "the lines of an order are numbered from 1 without a gap, each SKU on one of them", `
SELECT order_no, COUNT(*) AS n, MAX(line_no) AS last_line, COUNT(DISTINCT sku_id) AS skus
FROM order_items
GROUP BY order_no
HAVING MIN(line_no) <> 1
  OR MAX(line_no) <> COUNT(*)
  OR COUNT(DISTINCT sku_id) <> COUNT(*)`},
	{"order.line_of_an_order", "every line belongs to an order", `
SELECT i.order_no, i.line_no
FROM order_items i
LEFT JOIN orders o ON o.order_no = i.order_no
WHERE o.order_no IS NULL`},
	{"order.close_reason", "who wanted an order closed is known from the moment of asking, and not before", `
SELECT order_no, state, close_reason
FROM orders
WHERE (state = 'pending' AND close_reason <> '')
  OR (state IN ('closing', 'closed', 'late') AND close_reason NOT IN ('timeout', 'cancel', 'operator'))`},
	{"attempt.of_an_order", "every WeChat order is of an order of ours, has its number and asks for its total", `
SELECT a.out_trade_no, a.order_no, a.attempt_no, a.amount_fen, COALESCE(o.total_fen, 0) AS total_fen
FROM payment_attempts a
LEFT JOIN orders o ON o.order_no = a.order_no
WHERE o.order_no IS NULL
  OR a.amount_fen <> o.total_fen
  OR SUBSTR(a.out_trade_no, 1, 27) <> CONCAT(a.order_no, '-')
  OR CAST(SUBSTR(a.out_trade_no, 28) AS DECIMAL) <> a.attempt_no`},
	{"attempt.one_payable", "another WeChat order was opened for an order only after the one before it was closed", `
SELECT a.out_trade_no, COALESCE(b.state, 'missing') AS before_it
FROM payment_attempts a
LEFT JOIN payment_attempts b ON b.order_no = a.order_no AND b.attempt_no = a.attempt_no - 1
WHERE a.attempt_no <> 1
  AND (b.state IS NULL OR b.state <> 'closed')`},
	{"order.due", "an open order has a time to be looked at, a finished one has none", `
SELECT order_no, state
FROM orders
WHERE (state IN ('pending', 'closing') AND due_at IS NULL)
  OR (state NOT IN ('pending', 'closing') AND due_at IS NOT NULL)`},
	{"money.paid_once", "a paid order has one payment of its whole amount, an unpaid one has none", `
SELECT o.order_no, o.state, o.total_fen, COALESCE(p.payments, 0) AS payments, COALESCE(p.paid_fen, 0) AS paid_fen
FROM orders o
LEFT JOIN (
  SELECT order_no, COUNT(*) AS payments, SUM(amount_fen) AS paid_fen
  FROM payments
  WHERE outcome = 'applied'
  GROUP BY order_no) p ON p.order_no = o.order_no
WHERE (o.state IN ('paid', 'refunding') AND (COALESCE(p.payments, 0) <> 1 OR p.paid_fen <> o.total_fen))
  OR (o.state = 'refunded' AND (p.payments > 1 OR p.paid_fen <> o.total_fen))
  OR (o.state IN ('pending', 'closing', 'closed', 'late') AND p.payments > 0)`},
	{"money.facts", "money that came for an order has its total, our currency, our app, our merchant", `
SELECT p.transaction_id, p.order_no, p.amount_fen, p.currency, p.appid, p.mchid
FROM payments p
LEFT JOIN orders o ON o.order_no = p.order_no
WHERE (p.outcome = 'applied' OR p.reason IN ('late', 'duplicate'))
  AND (p.amount_fen <> o.total_fen
    OR p.currency NOT IN ('CNY', '')
    OR p.appid <> ?
    OR p.mchid <> ?)`},
	{"money.of_its_attempt", "a payment is on the order whose WeChat order it paid", `
SELECT p.transaction_id, p.order_no, p.out_trade_no
FROM payments p
LEFT JOIN payment_attempts a ON a.out_trade_no = p.out_trade_no
WHERE p.order_no <> ''
  AND (SUBSTR(p.out_trade_no, 1, 26) <> p.order_no OR a.order_no <> p.order_no)`},
	{"money.owed_back", "every payment that did not make its order paid is owed back, whole and once", `
SELECT p.transaction_id, p.order_no, p.amount_fen, COALESCE(SUM(r.amount_fen), 0) AS owed_fen
FROM payments p
LEFT JOIN refunds r ON r.transaction_id = p.transaction_id AND r.state NOT IN (` + deadRefunds + `)
WHERE p.outcome = 'owed'
GROUP BY p.transaction_id, p.order_no, p.amount_fen
HAVING p.amount_fen <> COALESCE(SUM(r.amount_fen), 0)`},
	{"money.no_more_back", "refunds never exceed their payment, and the payment knows their sum", `
SELECT p.transaction_id, p.amount_fen, p.refund_fen, COALESCE(r.total, 0) AS refunds_fen
FROM payments p
LEFT JOIN (
  SELECT transaction_id, SUM(amount_fen) AS total
  FROM refunds
  WHERE state NOT IN (` + deadRefunds + `)
  GROUP BY transaction_id) r ON r.transaction_id = p.transaction_id
WHERE p.refund_fen <> COALESCE(r.total, 0)
  OR p.refund_fen > p.amount_fen
  OR p.refund_fen < 0`},
	{"money.accounted", "every payment is on an order of ours, owed back, or held for a person", `
SELECT p.transaction_id, p.order_no, p.outcome
FROM payments p
LEFT JOIN orders o ON o.order_no = p.order_no
WHERE p.outcome = 'applied' AND o.order_no IS NULL`},
	{"money.refund_of_order", "a refund belongs to the order of its payment", `
SELECT r.out_refund_no, r.order_no, COALESCE(p.order_no, '') AS payment_of
FROM refunds r
LEFT JOIN payments p ON p.transaction_id = r.transaction_id
WHERE r.state <> 'held'
  AND (p.transaction_id IS NULL OR p.order_no <> r.order_no)`},
	{"money.refunded", "an order is refunded when all its money went back, and only then", `
SELECT o.order_no, o.state, COALESCE(SUM(p.amount_fen), 0) AS paid_fen, COALESCE(SUM(r.back), 0) AS back_fen
FROM orders o
LEFT JOIN payments p ON p.order_no = o.order_no AND (p.outcome = 'applied' OR p.reason = 'late')
LEFT JOIN (
  SELECT transaction_id, SUM(amount_fen) AS back
  FROM refunds
  WHERE state IN ('success', 'by_hand')
  GROUP BY transaction_id) r ON r.transaction_id = p.transaction_id
WHERE o.state IN ('paid', 'refunding', 'refunded')
GROUP BY o.order_no, o.state
HAVING (o.state = 'refunded') <> (COALESCE(SUM(r.back), 0) >= COALESCE(SUM(p.amount_fen), 0))
  OR (o.state = 'refunded' AND COUNT(p.transaction_id) = 0)`},
	{"money.refunding", "an order is refunding as long as a refund of it is under way", `
SELECT o.order_no, o.state, COUNT(r.out_refund_no) AS under_way
FROM orders o
LEFT JOIN refunds r ON r.order_no = o.order_no AND r.reason = 'aftersale'
  AND r.state IN ('pending_approval', 'owed', 'processing', 'abnormal', 'refused')
WHERE o.state IN ('paid', 'refunding', 'refunded')
GROUP BY o.order_no, o.state
HAVING (o.state = 'refunding') <> (COUNT(r.out_refund_no) > 0)`},
	{"money.total", "all money taken in is kept on orders, went back or goes back, or is held", `
SELECT t.taken_in, t.kept, t.back
FROM (
  SELECT
    (SELECT COALESCE(SUM(amount_fen), 0) FROM payments WHERE outcome <> 'held') AS taken_in,
    (SELECT COALESCE(SUM(amount_fen - refund_fen), 0) FROM payments WHERE outcome = 'applied') AS kept,
    (SELECT COALESCE(SUM(r.amount_fen), 0) FROM refunds r WHERE r.state NOT IN (` + deadRefunds + `)) AS back) t
WHERE t.taken_in <> t.kept + t.back`},
	{"refund.approved", "nothing was sent without the approvals that it needed, none of them the asker's", `
SELECT r.out_refund_no, r.state, r.approvals_needed, COUNT(a.approver) AS approvals
FROM refunds r
LEFT JOIN refund_approvals a ON a.out_refund_no = r.out_refund_no
  AND NOT (r.requester_type = 'operator' AND a.approver = r.requester_id)
WHERE r.generation = 1
  AND r.state NOT IN ('pending_approval', 'rejected', 'held')
GROUP BY r.out_refund_no, r.state, r.approvals_needed
HAVING COUNT(a.approver) < r.approvals_needed`},
	{"refund.facts", "a refund names its payment's WeChat order and total, and the closed number whose place it takes", `
SELECT r.out_refund_no, r.out_trade_no, r.total_fen, r.generation, r.replaces
FROM refunds r
JOIN payments p ON p.transaction_id = r.transaction_id
LEFT JOIN refunds b ON b.out_refund_no = r.replaces AND b.state = 'closed' AND b.generation = r.generation - 1
WHERE r.state <> 'held'
  AND (r.out_trade_no <> p.out_trade_no
    OR r.total_fen <> p.amount_fen
    OR (r.generation = 1 AND r.replaces <> '')
    OR (r.generation <> 1 AND b.out_refund_no IS NULL))`},
	{"refund.states", "every refund is in a state that the state machine knows", statesQuery()},
	{"refund.parts", "every line and every approval of a refund belongs to one", `
SELECT i.out_refund_no, i.sku_id AS what
FROM refund_items i
LEFT JOIN refunds r ON r.out_refund_no = i.out_refund_no
WHERE r.out_refund_no IS NULL
UNION ALL
SELECT a.out_refund_no, a.approver AS what
FROM refund_approvals a
LEFT JOIN refunds r ON r.out_refund_no = a.out_refund_no
WHERE r.out_refund_no IS NULL`},
	{"refund.due", "a refund that is under way has a time to be looked at, a finished one has none", `
SELECT out_refund_no, state
FROM refunds
WHERE (state IN ('owed', 'processing', 'abnormal') AND due_at IS NULL)
  OR (state NOT IN ('owed', 'processing', 'abnormal') AND due_at IS NOT NULL)`},
	{"refund.one_successor", "a refund that WeChat closed was replaced once, by the same amount", `
SELECT r.out_refund_no, COUNT(n.out_refund_no) AS successors
FROM refunds r
LEFT JOIN refunds n ON n.replaces = r.out_refund_no AND n.amount_fen = r.amount_fen AND n.transaction_id = r.transaction_id
WHERE r.state = 'closed'
GROUP BY r.out_refund_no
HAVING COUNT(n.out_refund_no) <> 1`},
	{"books.resolved_have_owners", "what was resolved by hand has who and why, and two people wrote off", `
SELECT id, kind, ref, status
FROM differences
WHERE (status IN ('RESOLVED', 'WRITTEN_OFF') AND resolved_by = '')
  OR (status = 'WRITTEN_OFF' AND (resolved_why = '' OR proposed_by = '' OR proposed_by = resolved_by))`},
	{"books.day_is_whole", "of a day that is reconciled every payment of ours is matched, across another day, or a difference", `
SELECT d.bill_date, d.ours_fen AS reconciled_fen, COALESCE(SUM(p.amount_fen), 0) AS ours_now_fen
FROM (
  SELECT bill_date, day_from, day_to, ours_fen
  FROM reconciliations
  WHERE bill_type IN ('ALL', 'SUCCESS')
    AND state = 'done'
    AND finished_at >= day_to) d
LEFT JOIN payments p ON p.paid_at >= d.day_from AND p.paid_at < d.day_to
GROUP BY d.bill_date, d.ours_fen
HAVING d.ours_fen <> COALESCE(SUM(p.amount_fen), 0)`},
	{"books.bill_is_whole", "of a bill that was stored every piece is there", `
SELECT b.bill_date, b.bill_type, b.chunks, COUNT(c.seq) AS found
FROM bill_files b
LEFT JOIN bill_chunks c ON c.bill_date = b.bill_date AND c.bill_type = b.bill_type AND c.sha1 = b.sha1
GROUP BY b.bill_date, b.bill_type, b.sha1, b.chunks
HAVING b.chunks <> COUNT(c.seq)`},
	{"money.late", "a late order has one late payment, and a late payment a late order or one whose money went back", `
SELECT o.order_no, o.state, COUNT(p.transaction_id) AS late_payments
FROM orders o
JOIN payments p ON p.order_no = o.order_no AND p.reason = 'late'
GROUP BY o.order_no, o.state
HAVING o.state NOT IN ('late', 'refunded')
  OR COUNT(p.transaction_id) > 1
UNION ALL
SELECT o.order_no, o.state, 0 AS late_payments
FROM orders o
LEFT JOIN payments p ON p.order_no = o.order_no AND p.outcome = 'owed' AND p.reason = 'late'
WHERE o.state = 'late'
  AND p.transaction_id IS NULL`},
	{"money.outcome", "why a payment was not applied is known, and only then", `
SELECT transaction_id, outcome, reason
FROM payments
WHERE (outcome = 'applied' AND reason NOT IN ('', 'revived'))
  OR (outcome <> 'applied' AND reason IN ('', 'revived'))
  OR (outcome = 'held' AND reason IN ('late', 'duplicate'))`},
}

// quietChecks hold when nothing is under way: faults have stopped, the queue is
// empty, people have decided what waits for them.
var quietChecks = []check{
	{"quiet.orders", "no order is overdue by more than a minute, and none is being closed", `
SELECT order_no, state, due_at
FROM orders
WHERE state = 'closing'
  OR (state = 'pending' AND due_at < ?)`},
	{"quiet.refunds", "no refund is on its way", `
SELECT out_refund_no, order_no, state
FROM refunds
WHERE state IN ('owed', 'processing')`},
	{"quiet.people", "no refund and no payment waits for a person, unless its difference was resolved", `
SELECT w.what, w.state
FROM (
  SELECT out_refund_no AS what, state
  FROM refunds
  WHERE state IN ('pending_approval', 'abnormal', 'refused', 'held')
  UNION ALL
  SELECT transaction_id AS what, outcome AS state
  FROM payments
  WHERE outcome = 'held') w
LEFT JOIN differences d ON d.ref = w.what AND d.status IN ('RESOLVED', 'WRITTEN_OFF')
WHERE d.ref IS NULL`},
	{"quiet.books", "no difference is open, no reconciliation runs or has failed", `
SELECT bill_date, id AS what, status AS state
FROM differences
WHERE status = 'OPEN'
UNION ALL
SELECT bill_date, bill_type AS what, state
FROM reconciliations
WHERE state IN ('running', 'failed')`},
}

// allowedQuery lists the moves of the state machine itself, so that the check
// and the machine cannot drift apart.
func allowedQuery() string {
	seen := map[string]bool{}
	var pairs []string
	for _, from := range order.States() {
		for _, e := range order.Events() {
			if c := order.Next(from, e); c.Verdict == order.VerdictMove {
				p := fmt.Sprintf("(from_state = '%s' AND to_state = '%s')", from, c.To)
				if !seen[p] {
					seen[p] = true
					pairs = append(pairs, p)
				}
			}
		}
	}
	return `
SELECT order_no, seq, from_state, to_state
FROM order_events
WHERE from_state <> to_state
  AND NOT (` + strings.Join(pairs, "\n    OR ") + `)`
}

// statesQuery lists the states of a refund and its reasons for being.
func statesQuery() string {
	var states []string
	for _, s := range order.RefundStates() {
		states = append(states, "'"+string(s)+"'")
	}
	return `
SELECT out_refund_no, state, reason
FROM refunds
WHERE state NOT IN (` + strings.Join(states, ", ") + `)
  OR reason NOT IN ('` + strings.Join([]string{order.ReasonAftersale, order.ReasonLate, order.ReasonDuplicate, order.ReasonHeld}, "', '") + `')`
}
