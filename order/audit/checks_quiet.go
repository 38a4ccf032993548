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
	{"quiet.books", "no difference is open, no reconciliation runs or has failed", `
SELECT bill_date, id AS what, status AS state
FROM differences
WHERE status = 'OPEN'
UNION ALL
SELECT bill_date, bill_type AS what, state
FROM reconciliations
WHERE state IN ('running', 'failed')`},
}
