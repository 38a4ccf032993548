package audit

import (
	"time"
)

// overdueAfter is how late an open order may be looked at by a healthy service:
// its sweep comes every few seconds, and a minute allows for a restart.
const overdueAfter = time.Minute

// quietChecks hold only when nothing is under way: faults have stopped, the queue
// is empty, people have decided what waits for them.
var quietChecks = []check{
	// The argument is the moment overdueAfter ago.
	{"quiet.orders", "no order is overdue by more than a minute, and none is being closed", `
SELECT order_no, state, due_at
FROM orders
WHERE state = 'closing'
  OR (state = 'pending' AND due_at < ?)`},
	{"quiet.refunds", "no refund is on its way", `
SELECT out_refund_no, order_no, state
FROM refunds
WHERE state IN ('owed', 'processing')`},
	// A refund that is held has its out_refund_no as the ref of its difference, a
	// payment its transaction id.
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
	{"quiet.buckets", "nothing is in a bucket of a sale that is over", `
SELECT b.bucket_id, b.sku_id, b.state, b.remaining, g.mode, g.state AS sale
FROM stock_buckets b
JOIN stock_gates g ON g.sku_id = b.sku_id
WHERE b.state IN ('open', 'closing')
  AND (g.mode = 'off' OR g.state = 'ended')`},
	// A mark is set when nothing is left, so that what is there has come back since, by a flow
	// or out of a bucket: the arguments are the moment reopensWithin ago. A unit that comes
	// back later hides it for as long again, which in quiet none does. Above 1 << 62 it is about
	// to be sold again, and says since when.
	{"quiet.sold_out", "no SKU of a sale has stayed marked as sold out for five seconds with units in its pool", `
SELECT s.sku_id, s.available
FROM stock_gates g
JOIN skus s ON s.sku_id = g.sku_id
WHERE g.mode <> 'off'
  AND g.state = 'open'
  AND (s.closed_until = 9223372036854775807
    OR s.closed_until BETWEEN 4611686018427387904 AND 4611686018427387904 + ?)
  AND s.available > 0
  AND NOT EXISTS (
    SELECT 1
    FROM stock_flows f
    WHERE f.sku_id = s.sku_id
      AND f.delta > 0
      AND f.created_at > ?)
  AND NOT EXISTS (
    SELECT 1
    FROM stock_buckets b
    JOIN stock_moves m ON m.bucket_id = b.bucket_id AND m.delta < 0 AND m.at > ?
    WHERE b.sku_id = s.sku_id)`},
	{"quiet.books", "no difference is open, no reconciliation runs or has failed", `
SELECT bill_date, id AS what, status AS state
FROM differences
WHERE status = 'OPEN'
UNION ALL
SELECT bill_date, bill_type AS what, state
FROM reconciliations
WHERE state IN ('running', 'failed')`},
}
