package audit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"orderd/order"
	"orderd/payment/feed"
)

// refundEnds is the event of an order that tells how its refund r ended. It repeats
// order.RefundEventName, and a test compares them.
const refundEnds = `CASE r.state
    WHEN 'success' THEN 'refund.succeeded'
    WHEN 'by_hand' THEN 'refund.by_hand'
    WHEN 'closed' THEN 'refund.closed'
    WHEN 'rejected' THEN 'refund.rejected'
    WHEN 'cancelled' THEN 'refund.cancelled' END`

// eventChecks: the timeline of an order has no gap, makes only moves of the state
// machine, ends in the order's state, and has every payment and refund once.
var eventChecks = []check{
	// The placement is version 1 and has no event; each event adds 1 to the version and
	// has it as its seq. l.seq stands for c.last_seq in the WHERE: of that TiDB makes a
	// condition of the join, and finds every order wrong (pingcap/tidb#66833).
	{"events.last_is_state", "an order's state and version are those of its last event", `
SELECT o.order_no, o.state, o.version, COALESCE(c.n, 0) AS events, COALESCE(l.to_state, 'pending') AS last_state
FROM orders o
LEFT JOIN (
  SELECT order_no, COUNT(*) AS n, MAX(seq) AS last_seq
  FROM order_events
  /*where order order_no*/
  GROUP BY order_no) c ON c.order_no = o.order_no
LEFT JOIN order_events l ON l.order_no = o.order_no AND l.seq = c.last_seq
WHERE (o.version <> COALESCE(c.n, 0) + 1
    OR o.version <> COALESCE(l.seq, 1)
    OR o.state <> COALESCE(l.to_state, 'pending'))
  /*and order o.order_no*/`},
	// A gap in the numbers is an event that was deleted; a from_state that does not
	// fit, one that was changed by hand.
	{"events.chain", "each event begins in the state in which the one before it ended", `
SELECT e.order_no, e.seq, e.from_state, COALESCE(p.to_state, '') AS state_before
FROM order_events e
LEFT JOIN order_events p ON p.order_no = e.order_no AND p.seq = e.seq - 1
WHERE ((e.seq = 2 AND e.from_state <> 'pending')
    OR (e.seq > 2 AND (p.order_no IS NULL OR p.to_state <> e.from_state))
    OR e.seq < 2)
  /*and order e.order_no*/`},
	// An event that changes nothing, such as a note or a refund's, is no move.
	{"events.allowed", "every change of state is one that the state machine allows", allowedQuery()},
	// In milliseconds, as they are stored: two events may have the same time.
	{"events.time", "time never goes back within an order", `
SELECT e.order_no, e.seq
FROM order_events e
JOIN orders o ON o.order_no = e.order_no
LEFT JOIN order_events p ON p.order_no = e.order_no AND p.seq = e.seq - 1
WHERE e.at < COALESCE(p.at, o.created_at)
  OR e.at > o.updated_at`},
	// Both directions: each payment has one event that names it, and each such event has
	// its payment.
	{"events.payments", "a payment is one event of its order, the one that its outcome says, with its amount", `
SELECT p.order_no, p.transaction_id AS what, COUNT(e.seq) AS found
FROM payments p
LEFT JOIN order_events e ON e.order_no = p.order_no
  AND e.event = CONCAT('payment.', CASE p.reason WHEN '' THEN 'applied' WHEN 'revived' THEN 'revived'
    WHEN 'late' THEN 'late' WHEN 'duplicate' THEN 'duplicate' ELSE 'held' END)
  AND INSTR(e.detail, CONCAT('"transaction_id":"', p.transaction_id, '"')) > 0
  AND INSTR(e.detail, CONCAT('"out_trade_no":"', p.out_trade_no, '"')) > 0
  AND INSTR(e.detail, CONCAT('"total":"', $yuan(p.amount_fen), '"')) > 0
WHERE p.order_no <> ''
  /*and order p.order_no*/
GROUP BY p.order_no, p.transaction_id
HAVING COUNT(e.seq) <> 1
UNION ALL
SELECT e.order_no, CONCAT('event ', e.seq) AS what, COUNT(p.transaction_id) AS found
FROM order_events e
LEFT JOIN payments p ON p.order_no = e.order_no
  AND INSTR(e.detail, CONCAT('"transaction_id":"', p.transaction_id, '"')) > 0
WHERE e.event IN ('payment.applied', 'payment.revived', 'payment.late', 'payment.duplicate', 'payment.held')
  /*and order e.order_no*/
GROUP BY e.order_no, e.seq
HAVING COUNT(p.transaction_id) <> 1`},
	// Both directions, as events.payments.
	{"events.refunds", "the end of a refund is one event of its order, with its amount", `
SELECT r.order_no, r.out_refund_no AS what, COUNT(e.seq) AS found
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.event = ` + refundEnds + `
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
  AND INSTR(e.detail, CONCAT('"refund":"', $yuan(r.amount_fen), '"')) > 0
WHERE r.order_no <> ''
  AND r.state IN ('success', 'by_hand', 'closed', 'rejected', 'cancelled')
  /*and order r.order_no*/
GROUP BY r.order_no, r.out_refund_no
HAVING COUNT(e.seq) <> 1
UNION ALL
SELECT e.order_no, CONCAT('event ', e.seq) AS what, COUNT(r.out_refund_no) AS found
FROM order_events e
LEFT JOIN refunds r ON r.order_no = e.order_no
  AND e.event = ` + refundEnds + `
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE e.event IN ('refund.succeeded', 'refund.by_hand', 'refund.closed', 'refund.rejected', 'refund.cancelled')
  /*and order e.order_no*/
GROUP BY e.order_no, e.seq
HAVING COUNT(r.out_refund_no) <> 1`},
	// From pending or closing alone: money that comes late moves a closed order, by an
	// event of its own.
	{"events.one_end", "an order is either paid or closed, once", `
SELECT order_no, COUNT(*) AS ends
FROM order_events
WHERE from_state IN ('pending', 'closing')
  AND to_state IN ('paid', 'closed')
  /*and order order_no*/
GROUP BY order_no
HAVING COUNT(*) > 1`},
	// No foreign key guards it: order_events is written in the transaction of its
	// order.
	{"events.of_an_order", "every event belongs to an order", `
SELECT e.order_no, e.seq
FROM order_events e
LEFT JOIN orders o ON o.order_no = e.order_no
WHERE o.order_no IS NULL`},
	{"events.told", "what the feed tells of the newest orders is what happened to them, each once, and what is low " +
		"was told", toldQuery()},
}

// toldNewest is how many events at the end of the feed events.told looks at.
var toldNewest = strconv.Itoa(order.ToldNewest)

// toldQuery holds the end of the feed against the orders whose placement it tells: whatever
// happens to one has a larger id than its placement, so that nothing of them is cut off. Of
// other orders it asks that they are there, and, placed a minute after the oldest event that
// is looked at, that their placement was told. What is told comes from order.Told. Of a SKU of which nothing is
// in buckets it asks that the shop was told, if no more is left than its threshold.
func toldQuery() string {
	newest := `id > (SELECT COALESCE(MAX(id), 0) - ` + toldNewest + ` FROM events_out)`
	low := string(feed.StockLow)
	whole := `IN (SELECT order_no FROM events_out WHERE ` + newest + ` AND type = '` +
		string(feed.OrderCreated) + `')`
	parts := []string{`
  SELECT order_no, version, type, state, 1 AS told, 0 AS happened
  FROM events_out
  WHERE ` + newest + ` AND order_no ` + whole, `
  SELECT order_no, 1, '` + string(feed.OrderCreated) + `', 'pending', 0, 1
  FROM orders
  WHERE order_no ` + whole}
	happened := func(t feed.Type, where string) {
		parts = append(parts, `
  SELECT order_no, seq, '`+string(t)+`', to_state, 0, 1
  FROM order_events
  WHERE `+where+` AND order_no `+whole)
	}
	for _, from := range order.States() {
		for _, to := range order.States() {
			for _, t := range order.Told("", from, to) {
				happened(t, fmt.Sprintf("from_state = '%s' AND to_state = '%s'", from, to))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(order.ToldByName)) {
		happened(order.ToldByName[name], "event = '"+name+"'")
	}
	return `
SELECT order_no, version, type, state, SUM(told) AS told, SUM(happened) AS happened
FROM (` + strings.Join(parts, "\n  UNION ALL") + `) e
GROUP BY order_no, version, type, state
HAVING SUM(told) <> SUM(happened)
UNION ALL
SELECT e.order_no, e.version, e.type, e.state, 1, 0
FROM events_out e
LEFT JOIN orders o ON o.order_no = e.order_no
WHERE e.` + newest + `
  AND e.order_no <> ''
  AND (o.order_no IS NULL
    OR (e.reference <> '' AND e.reference <> COALESCE(o.reference, ''))
    OR o.created_at > (SELECT MIN(at) + 60000 FROM events_out WHERE ` + newest + `)
      AND e.order_no NOT ` + whole + `)
UNION ALL
SELECT e.ref, 0, e.type, '', 1, 0
FROM events_out e
LEFT JOIN skus s ON s.sku_id = e.ref
WHERE e.` + newest + `
  AND e.type = '` + low + `'
  AND s.sku_id IS NULL
UNION ALL
SELECT s.sku_id, 0, '` + low + `', '', 0, 1
FROM skus s
WHERE s.low_told = 0
  AND s.low_at > 0
  AND s.available <= s.low_at
  AND s.unlimited = 0
  AND NOT EXISTS (
    SELECT 1
    FROM stock_buckets b
    WHERE b.sku_id = s.sku_id
      AND b.state IN ('open', 'closing'))`
}

// allowedQuery lists the moves of the state machine itself, so that the check and the
// machine cannot drift apart: here and in statesQuery this package takes its rule from
// package order instead of repeating it.
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
  AND NOT (` + strings.Join(pairs, "\n    OR ") + `)
  /*and order order_no*/`
}
