package audit

import (
	"strings"

	"orderd/order"
)

// deadRefunds are the states in which a refund no longer counts against its
// payment: those that order.RefundState.Committed denies, and a test compares them.
const deadRefunds = `'rejected', 'closed', 'cancelled', 'held'`

// refundChecks: a refund was approved, names what it gives back, and is looked at
// until it has ended.
var refundChecks = []check{
	// A refund in the place of a closed one (generation 2 and on) rests on the approvals
	// of the first.
	{"refund.approved", "nothing was sent without the approvals that it needed, none of them the asker's", `
SELECT out_refund_no, state, approvals_needed, approvals
FROM (
  SELECT r.out_refund_no, r.state, r.approvals_needed, (SELECT COUNT(*)
    FROM refund_approvals a
    WHERE a.out_refund_no = r.out_refund_no
      AND NOT (r.requester_type = 'operator'
        AND (a.approver = r.requester_id OR ` + onePerson("a.approver", "r.requester_id", "a.at") + `))) AS approvals
  FROM refunds r
  WHERE r.generation = 1
    AND r.state NOT IN ('pending_approval', 'rejected', 'held')
    /*and order r.order_no*/) counted
WHERE approvals < approvals_needed`},
	// WeChat Pay refuses a refund whose total is not the payment's.
	{"refund.facts",
		"a refund names its payment's WeChat order and total, and the closed number whose place it takes", `
SELECT r.out_refund_no, r.out_trade_no, r.total_fen, r.generation, r.replaces
FROM refunds r
JOIN payments p ON p.transaction_id = r.transaction_id
LEFT JOIN refunds b ON b.out_refund_no = r.replaces AND b.state = 'closed' AND b.generation = r.generation - 1
WHERE r.state <> 'held'
  AND (r.out_trade_no <> p.out_trade_no
    OR r.total_fen <> p.amount_fen
    OR (r.generation = 1 AND r.replaces <> '')
    OR (r.generation <> 1 AND b.out_refund_no IS NULL))
  /*and order r.order_no*/`},
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
	// A refund number that WeChat Pay has closed can never pay: the money goes back under
	// the next one.
	{"refund.one_successor", "a refund that WeChat closed was replaced once, by the same amount", `
SELECT r.out_refund_no, COUNT(n.out_refund_no) AS successors
FROM refunds r
LEFT JOIN refunds n ON n.replaces = r.out_refund_no
  AND n.amount_fen = r.amount_fen
  AND n.transaction_id = r.transaction_id
WHERE r.state = 'closed'
  /*and order r.order_no*/
GROUP BY r.out_refund_no
HAVING COUNT(n.out_refund_no) <> 1`},
}

// statesQuery lists the states of a refund and its reasons for being, from package
// order, for the reason of allowedQuery.
func statesQuery() string {
	var states []string
	for _, s := range order.RefundStates() {
		states = append(states, "'"+string(s)+"'")
	}
	reasons := []string{order.ReasonAftersale, order.ReasonLate, order.ReasonDuplicate, order.ReasonHeld}
	return `
SELECT out_refund_no, state, reason
FROM refunds
WHERE (state NOT IN (` + strings.Join(states, ", ") + `)
    OR reason NOT IN ('` + strings.Join(reasons, "', '") + `'))
  /*and order order_no*/`
}
