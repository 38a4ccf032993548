package order

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// maxViolations is how many rows a failed check names; the count is of all.
const maxViolations = 20

// Report is the result of Verify.
type Report struct {
	Checks   []CheckResult `json:"checks"`
	Orders   int64         `json:"orders"`
	Payments int64         `json:"payments"`
	// Held counts payments that wait for a person. They are accounted for, and
	// so no violation, but somebody has to look.
	Held int64         `json:"held"`
	Took time.Duration `json:"took_ns"`
}

// CheckResult is one invariant and the rows that break it.
type CheckResult struct {
	ID         string   `json:"id"`
	Meaning    string   `json:"meaning"`
	Count      int      `json:"count"`
	Violations []string `json:"violations"` // at most maxViolations, "column=value …"
}

// OK reports that no invariant is broken.
func (r Report) OK() bool {
	for _, c := range r.Checks {
		if c.Count > 0 {
			return false
		}
	}
	return true
}

// check is an invariant: a SELECT that must return no row. Each is one
// statement and so sees one moment; all of them hold at every moment, also
// while the service runs.
type check struct{ id, meaning, query string }

// deadRefunds are the states in which a refund no longer counts against its
// payment: RefundState.Committed says the same, and a test holds them together.
const deadRefunds = `'rejected', 'closed', 'cancelled', 'held'`

var checks = []check{
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
	{"stock.returned_no_more", "no order gave back more than it took", `
SELECT order_no, sku_id, SUM(delta) AS too_much
FROM stock_flows
WHERE order_no <> ''
GROUP BY order_no, sku_id
HAVING SUM(delta) > 0`},
	{"stock.agrees_with_state", "open and paid orders keep their stock, closed and late ones gave all of it back", `
SELECT o.order_no, o.state, SUM(f.delta) AS net,
  SUM(CASE WHEN f.ref = 'close' THEN 1 WHEN f.ref = 'revive' THEN -1 ELSE 0 END) AS close_returns
FROM orders o
JOIN stock_flows f ON f.order_no = o.order_no
GROUP BY o.order_no, o.state
HAVING (o.state IN ('closed', 'late') AND SUM(f.delta) <> 0)
  OR (o.state IN ('pending', 'closing', 'paid', 'refunding')
    AND SUM(CASE WHEN f.ref = 'close' THEN 1 WHEN f.ref = 'revive' THEN -1 ELSE 0 END) <> 0)`},
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
	{"events.allowed", "every change of state is one that the state machine allows", ""}, // built from the table
	{"events.time", "time never goes back within an order", `
SELECT e.order_no, e.seq
FROM order_events e
JOIN order_events p ON p.order_no = e.order_no AND p.seq = e.seq - 1
WHERE e.at < p.at`},
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
SELECT o.order_no, o.total_fen, COALESCE(SUM(i.quantity * i.price_fen), 0) AS lines_fen
FROM orders o
LEFT JOIN order_items i ON i.order_no = o.order_no
GROUP BY o.order_no, o.total_fen
HAVING o.total_fen <> COALESCE(SUM(i.quantity * i.price_fen), 0)`},
	{"order.due", "an open order has a time to be looked at, a finished one has none", `
SELECT order_no, state
FROM orders
WHERE (state IN ('pending', 'closing') AND due_at IS NULL)
  OR (state NOT IN ('pending', 'closing') AND due_at IS NOT NULL)`},
	{"money.paid_once", "a paid order has one payment of its whole amount, an unpaid one has none", `
SELECT o.order_no, o.state, o.total_fen, COUNT(p.transaction_id) AS payments, COALESCE(SUM(p.amount_fen), 0) AS paid_fen
FROM orders o
LEFT JOIN payments p ON p.order_no = o.order_no AND p.outcome = 'applied'
GROUP BY o.order_no, o.state, o.total_fen
HAVING (o.state IN ('paid', 'refunding') AND (COUNT(p.transaction_id) <> 1 OR SUM(p.amount_fen) <> o.total_fen))
  OR (o.state IN ('pending', 'closing', 'closed', 'late') AND COUNT(p.transaction_id) <> 0)`},
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
HAVING (o.state = 'refunded') <> (COALESCE(SUM(r.back), 0) >= COALESCE(SUM(p.amount_fen), 0))`},
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
	{"money.late", "a late order has a late payment", `
SELECT o.order_no
FROM orders o
LEFT JOIN payments p ON p.order_no = o.order_no AND p.outcome = 'owed' AND p.reason = 'late'
WHERE o.state = 'late'
GROUP BY o.order_no
HAVING COUNT(p.transaction_id) = 0`},
}

// Verify checks every invariant against the database, however the rows came
// there. progress is called before each check and may be nil. An error means
// that the database could not be read, not that a check failed.
func (s *Service) Verify(ctx context.Context, progress func(done, total int, id string)) (Report, error) {
	start := s.cfg.Now()
	var r Report
	for i, c := range checks {
		if progress != nil {
			progress(i, len(checks), c.id)
		}
		if c.query == "" {
			c.query = allowedQuery()
		}
		result, err := s.run(ctx, c)
		if err != nil {
			return r, readError("verify "+c.id, err)
		}
		r.Checks = append(r.Checks, result)
	}
	err := s.db.QueryRowContext(ctx, `SELECT
  (SELECT COUNT(*) FROM orders),
  (SELECT COUNT(*) FROM payments),
  (SELECT COUNT(*) FROM payments WHERE outcome = 'held')`).Scan(&r.Orders, &r.Payments, &r.Held)
	if err != nil {
		return r, readError("verify", err)
	}
	r.Took = s.cfg.Now().Sub(start)
	return r, nil
}

// allowedQuery lists the moves of the state machine itself, so that the check
// and the machine cannot drift apart.
func allowedQuery() string {
	seen := map[string]bool{}
	var pairs []string
	for _, from := range States() {
		for _, e := range Events() {
			if c := Next(from, e); c.Verdict == Move {
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

func (s *Service) run(ctx context.Context, c check) (CheckResult, error) {
	result := CheckResult{ID: c.id, Meaning: c.meaning, Violations: []string{}}
	rows, err := s.db.QueryContext(ctx, strings.TrimSpace(c.query))
	if err != nil {
		return result, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return result, err
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return result, err
		}
		if result.Count++; result.Count > maxViolations {
			continue
		}
		parts := make([]string, len(names))
		for i, n := range names {
			parts[i] = n + "=" + values[i].String
		}
		result.Violations = append(result.Violations, strings.Join(parts, " "))
	}
	return result, rows.Err()
}
