package audit

import (
	"strings"

	"orderd/order"
)

// rowChecks: what a row decides by is within what the service ever writes there,
// and agrees with the rows that say the same. A hand that changes one of them moves
// no money and no unit by itself, but the service believes it.
var rowChecks = []check{
	// closed_until is near, that of a SKU that is sold out, or that of one that is about to be
	// sold again: 1 << 62 and when that was written.
	{"stock.sku_facts", "a SKU can be sold: title, price, version, and a counter only where there is one", `
SELECT sku_id, title, price_fen, available, unlimited, version, created_at, updated_at, opens_at, closed_until,
  per_customer, low_at, low_told
FROM skus
WHERE title = ''
  OR price_fen > 100000000
  OR version < 1
  OR unlimited NOT IN (0, 1)
  OR (unlimited = 1 AND available <> 0)
  OR created_at < 1
  OR updated_at < created_at - $slack
  OR created_at > $latest
  OR updated_at > $latest
  OR opens_at < 0
  OR closed_until < 0
  OR (closed_until > $ahead AND closed_until < 4611686018427387904)
  OR (closed_until > 4611686018427387904 + $latest AND closed_until <> 9223372036854775807)
  OR per_customer NOT BETWEEN 0 AND 100
  OR low_at < -1
  OR low_at = 0
  OR low_told NOT IN (0, 1)
  OR (low_at < 0 AND low_told = 1)`},
	// An order's flow has no actor and no reason: its order tells.
	{"stock.flow_facts", "a flow is of a kind that there is, with a reason or an order, and of the order's time", `
SELECT f.order_no, f.kind, f.ref, f.sku_id, f.actor, f.reason, f.created_at
FROM stock_flows f
LEFT JOIN orders o ON o.order_no = f.order_no
WHERE (f.kind NOT IN ('initial', 'replenish', 'adjust', 'deduct', 'return')
    OR (f.kind = 'initial' AND f.ref <> '')
    OR (f.kind IN ('replenish', 'adjust') AND (f.ref = '' OR f.reason = ''))
    OR (f.order_no <> '' AND (f.actor <> '' OR f.reason <> ''))
    OR f.created_at < 1
    OR f.created_at > $latest
    OR f.created_at < o.created_at - $slack
    OR f.created_at > o.updated_at + $slack)
  /*and sku f.sku_id*/`},
	// The hash of a request is a SHA-256 in base64: a repeat is told by it.
	{"order.facts", "an order has its customer and its request, a number of a shop if it is a shop's, and was asked " +
		"about only when it was to be closed", `
SELECT order_no, state, customer_id, request_id, request_hash, close_tries, shop, reference
FROM orders
WHERE customer_id = ''
  OR reference = ''
  OR (reference IS NOT NULL AND shop = '')
  OR request_id = ''
  OR LENGTH(request_hash) <> 43
  OR close_tries < 0
  OR (state = 'pending' AND close_tries <> 0)`},
	// 3600000: so long a placement may wait in the queue of a sale (gate.LongestWait).
	// 2678400000: a deadline may be 31 days away at most.
	{"order.times", "an order was placed at the time in its number, or within an hour of it when it waited in the " +
		"queue of a sale, its deadline is a whole second after that, and it changed since", `
SELECT order_no, created_at, expire_at, updated_at
FROM orders
WHERE (LENGTH(order_no) <> 26
    OR created_at < $ulid(order_no)
    OR created_at > $ulid(order_no) + 3600000
    OR expire_at <= created_at
    OR expire_at > created_at + 2678400000
    OR expire_at % 1000 <> 0
    OR updated_at < created_at
    OR updated_at > $latest)
  /*and order order_no*/`},
	// 90000000 is lookAhead: that long after the deadline a grace may end. A repair sets
	// the time of the repair, which has been.
	{"order.due_soon", "an unpaid order is looked at soon after its deadline and not before, a closing one soon", `
SELECT order_no, state, expire_at, due_at
FROM orders
WHERE (state = 'pending' AND (due_at < expire_at OR (due_at > expire_at + 90000000 AND due_at > $latest)))
  OR (state = 'closing' AND due_at > $ahead)`},
	// Whether money that comes late revives an order depends on it. It is the first person
	// of whom the timeline says so: who asked for the close (e), who wanted it when its time
	// was over (w), or the second who vouched that nothing was paid (v).
	{"close.asked", "who wanted the order closed is who the timeline says", `
SELECT o.order_no, o.close_reason, e.actor_type AS asked_by, COALESCE(w.actor_type, '') AS wanted_by,
  COALESCE(v.actor_type, '') AS vouched_by
FROM order_events e
JOIN orders o ON o.order_no = e.order_no
LEFT JOIN order_events w ON w.order_no = e.order_no
  AND w.event = 'close.wanted'
LEFT JOIN order_events v ON v.order_no = e.order_no
  AND v.event = 'close.accepted'
  AND INSTR(v.detail, '"close":"vouched"') > 0
WHERE e.event = 'close.requested'
  AND o.close_reason <> CASE
    WHEN e.actor_type IN ('customer', 'shop')
      OR (e.actor_type <> 'operator' AND w.actor_type IN ('customer', 'shop')) THEN 'cancel'
    WHEN e.actor_type = 'operator' OR w.actor_type = 'operator' OR v.actor_type = 'operator' THEN 'operator'
    ELSE 'timeout' END
UNION ALL
SELECT o.order_no, o.close_reason, '', '', ''
FROM orders o
LEFT JOIN order_events e ON e.order_no = o.order_no
  AND e.event = 'close.requested'
WHERE o.close_reason <> ''
  AND e.order_no IS NULL`},
	{"events.facts", "an event says what happened and by whom, and a customer's is by the order's", eventFacts()},
	{"events.named", "a move has the name of what it is", `
SELECT order_no, seq, event, from_state, to_state
FROM order_events
WHERE from_state <> to_state
  AND event <> CASE to_state
    WHEN 'closing' THEN 'close.requested'
    WHEN 'closed' THEN 'close.accepted'
    WHEN 'late' THEN 'payment.late'
    WHEN 'refunding' THEN 'refund.requested'
    WHEN 'refunded' THEN CASE event WHEN 'refund.by_hand' THEN event ELSE 'refund.succeeded' END
    WHEN 'paid' THEN CASE from_state
      WHEN 'closed' THEN 'payment.revived'
      WHEN 'refunding' THEN CASE WHEN event LIKE 'refund.%' THEN event ELSE '' END
      ELSE 'payment.applied' END
    ELSE '' END`},
	// WeChat Pay was sent these, and a repeat sends them again. From the deadline on it
	// refuses payers by itself.
	{"attempt.facts", "a WeChat order was asked for with what its order and its kind of payment need, up to the " +
		"order's deadline", `
SELECT a.out_trade_no, a.trade_type, a.attach, a.notify_url, a.time_expire, o.expire_at
FROM payment_attempts a
JOIN orders o ON o.order_no = a.order_no
WHERE (a.trade_type NOT IN ('JSAPI', 'NATIVE', 'H5', 'APP')
    OR (a.trade_type = 'JSAPI' AND a.openid = '')
    OR (a.trade_type = 'H5' AND (a.client_ip = '' OR a.h5_type = ''))
    OR a.description = ''
    OR a.notify_url = ''
    OR a.attach <> o.attach
    OR COALESCE($moment(a.time_expire), 0) <> o.expire_at
    OR a.attempt_no < 1
    OR a.attempt_no > 99)
  /*and order a.order_no*/`},
	// Until some time after called_at WeChat Pay may still open it: the close waits.
	{"attempt.times", "WeChat Pay was asked while the order could be paid, and an answer that is handed out is " +
		"there", `
SELECT a.out_trade_no, a.state, a.called_at, a.answered_at, o.created_at, o.expire_at
FROM payment_attempts a
JOIN orders o ON o.order_no = a.order_no
WHERE a.called_at < o.created_at - $slack
  OR a.called_at > o.expire_at + $slack
  OR a.called_at > $latest
  OR a.answered_at > $latest
  OR (a.answered_at <> 0 AND a.answered_at < o.created_at - $slack)
  OR (a.state = 'live' AND (a.answered_at = 0 OR SUBSTR(a.answer, 1, 1) <> '{'))`},
	// 90000000 is lookAhead; after an outage the next ask counts from now. A call is committed
	// with called_at, by the clock of its process.
	{"attempt.calls", "calls of an attempt are numbered, its newest answer is kept, and it is asked about in time", `
SELECT a.out_trade_no, a.call_no, a.answer_no, a.open_calls, a.asks, a.ask_at, o.expire_at
FROM payment_attempts a
JOIN orders o ON o.order_no = a.order_no
WHERE a.call_no < 0
  OR a.answer_no < 0
  OR a.answer_no > a.call_no
  OR a.asks < 0
  OR (a.ask_at > o.expire_at + 90000000 AND a.ask_at > $ahead)
  OR (a.open_calls <> '' AND (SUBSTR(a.open_calls, 1, 1) <> '{' OR SUBSTR(a.open_calls, -1) <> '}'))
  OR (a.open_calls <> '' AND a.open_calls NOT LIKE '{"%":[%,%]}')
  OR (a.open_calls <> '' AND (
    JSON_VALID(a.open_calls) = 0
    OR $lastcall(a.open_calls) > a.called_at + $slack
    OR $lastcall(a.open_calls) > $latest))`},
	// Nobody asks WeChat Pay about a closed one again, and another is opened beside it. The
	// program before migration 8 numbers no calls and writes no such event.
	{"attempt.closed_told", "of an open order every closed WeChat order has what proved that in the timeline", `
SELECT a.out_trade_no, a.order_no, o.state
FROM orders o
JOIN payment_attempts a ON a.order_no = o.order_no
LEFT JOIN order_events e ON e.order_no = a.order_no
  AND e.event = 'prepay.closed'
  AND INSTR(e.detail, CONCAT('"out_trade_no":"', a.out_trade_no, '"')) > 0
WHERE o.state IN ('pending', 'closing')
  AND a.state = 'closed'
  AND a.call_no > 0
  AND e.order_no IS NULL`},
	// What the buyer was given is in the timeline, and that something was sent is on the order:
	// an attempt that is gone may be paid, and the close would ask nobody.
	{"attempt.told", "a WeChat order that the timeline has is there, and one of every order that was prepaid", `
SELECT e.order_no, e.seq, e.detail
FROM order_events e
LEFT JOIN payment_attempts a ON a.order_no = e.order_no
  AND INSTR(e.detail, CONCAT('"out_trade_no":"', a.out_trade_no, '"')) > 0
WHERE e.event = 'prepay.opened'
  AND a.out_trade_no IS NULL
UNION ALL
SELECT o.order_no, 0 AS seq, 'prepaid' AS detail
FROM orders o
WHERE o.prepaid <> 0
  AND NOT EXISTS (SELECT 1 FROM payment_attempts a WHERE a.order_no = o.order_no)`},
	{"money.payer", "the buyer paid no more than the order cost", `
SELECT transaction_id, order_no, amount_fen, payer_fen, payer_said
FROM payments
WHERE amount_fen < 1
  OR payer_fen < 0
  OR payer_said NOT IN (0, 1)
  OR (outcome <> 'held' AND payer_fen > amount_fen)`},
	// paid_at is the day of the bill. The program before migration 8 wrote 0 where WeChat
	// Pay did not say it, of a trade that was refunded; it counted no calls.
	{"money.when", "a payment was made after its order was placed and before it was heard of", `
SELECT p.transaction_id, p.order_no, p.paid_at, p.received_at, o.created_at
FROM payments p
LEFT JOIN orders o ON o.order_no = p.order_no
LEFT JOIN payment_attempts a ON a.out_trade_no = p.out_trade_no
WHERE p.paid_at < 0
  OR (p.paid_at = 0 AND (a.call_no > 0 OR p.refund_told <> 0))
  OR p.paid_at > p.received_at + $slack
  OR (p.paid_at <> 0 AND p.paid_at < o.created_at - $slack)
  OR p.received_at > $latest
  OR p.received_at < 1
  OR p.refund_told > $latest`},
}

// eventFacts lists the actors, from package order, for the reason of allowedQuery.
func eventFacts() string {
	var actors []string
	for _, a := range order.ActorTypes() {
		actors = append(actors, string(a))
	}
	return `
SELECT e.order_no, e.seq, e.event, e.actor_type, e.actor_id, o.customer_id
FROM order_events e
JOIN orders o ON o.order_no = e.order_no
WHERE e.event = ''
  OR e.actor_type NOT IN ('` + strings.Join(actors, "', '") + `')
  OR (e.actor_type = 'customer' AND e.actor_id <> o.customer_id)
  OR (e.actor_type IN ('operator', 'shop') AND e.actor_id = '')
  OR e.took_ms < 0
  OR (e.detail <> '' AND (SUBSTR(e.detail, 1, 1) <> '{' OR SUBSTR(e.detail, -1) <> '}'))`
}

// refundRowChecks are rowChecks of refunds.
var refundRowChecks = []check{
	{"refund.asker", "a refund that was asked for has its asker and request, and a customer's is of the own order", `
SELECT r.out_refund_no, r.requester_type, r.requester_id, r.shop, o.customer_id, r.request_id, r.request_hash
FROM refunds r
JOIN orders o ON o.order_no = r.order_no
WHERE (r.shop <> '' AND (r.reason <> 'aftersale' OR r.requester_type <> 'customer'))
  OR r.reason = 'aftersale'
  AND (r.requester_type NOT IN ('customer', 'operator')
    OR r.requester_id = ''
    OR (r.requester_type = 'customer' AND r.requester_id <> o.customer_id)
    OR (r.generation = 1 AND COALESCE(r.request_id, '') = '')
    OR (r.generation = 1 AND LENGTH(r.request_hash) <> 43))`},
	// What a payment is owed back for is what the payment says; goods come back with what
	// was asked for alone.
	{"refund.reason", "why a refund exists is what its payment says, and goods return only with what was asked for", `
SELECT r.out_refund_no, r.reason, p.outcome, p.reason AS payment_reason, r.restock
FROM refunds r
JOIN payments p ON p.transaction_id = r.transaction_id
LEFT JOIN (SELECT DISTINCT out_refund_no FROM refund_items) i ON i.out_refund_no = r.out_refund_no
WHERE r.state NOT IN (` + deadRefunds + `)
  AND ((r.reason = 'aftersale' AND p.outcome <> 'applied')
    OR (r.reason IN ('late', 'duplicate') AND (p.outcome <> 'owed' OR p.reason <> r.reason))
    OR (r.reason = 'held' AND (p.outcome = 'applied' OR p.reason IN ('late', 'duplicate')))
    OR (r.reason <> 'aftersale' AND (r.restock <> 0 OR i.out_refund_no IS NOT NULL))
    OR r.restock NOT IN (0, 1))`},
	{"refund.told", "what was asked for, sent, accepted and went back elsewhere is in the timeline as the refund says",
		refundTold},
	// asked_at keeps other refunds of the payment waiting, accepted_at is the day of the
	// bill. After a restore from a backup WeChat Pay may tell of a refund before its
	// payment, and has taken it before the row was made again: only the order is older for
	// certain. An accepted_at that is sent_at is ours, succeeded_at never is.
	{"refund.times", "a refund came after its payment, was sent after it came, and ended after it was accepted", `
SELECT r.out_refund_no, r.state, p.received_at, r.created_at, r.sent_at, r.asked_at, r.accepted_at, r.succeeded_at,
  r.updated_at
FROM refunds r
LEFT JOIN payments p ON p.transaction_id = r.transaction_id AND r.state <> 'held'
LEFT JOIN orders o ON o.order_no = p.order_no
WHERE r.created_at < 1
  OR r.created_at < COALESCE(CASE r.reason WHEN 'aftersale' THEN p.received_at ELSE o.created_at END, 1) - $slack
  OR r.created_at > $latest
  OR r.updated_at < r.created_at - $slack
  OR r.updated_at > $latest
  OR (r.sent_at <> 0 AND r.sent_at < r.created_at - $slack)
  OR r.sent_at > $latest
  OR (r.asked_at <> 0 AND r.asked_at < r.sent_at - $slack)
  OR r.asked_at > $latest
  OR (r.accepted_at <> 0 AND r.accepted_at < o.created_at - $slack)
  OR r.accepted_at > $latest
  OR (r.succeeded_at <> 0 AND r.accepted_at <> r.sent_at AND r.succeeded_at < r.accepted_at - $slack)
  OR (r.succeeded_at <> 0 AND r.succeeded_at < o.created_at - $slack)
  OR r.succeeded_at > $latest
  OR (r.state = 'success' AND r.accepted_at = 0)`},
	{"refund.counts", "a refund has a version, no fewer tries than none, and zero to two approvals to wait for", `
SELECT out_refund_no, version, tries, generation, approvals_needed
FROM refunds
WHERE version < 1
  OR tries < 0
  OR generation < 1
  OR approvals_needed NOT IN (0, 1, 2)`},
	{"refund.one_number", "no two refunds have one number of WeChat Pay", `
SELECT refund_id, COUNT(*) AS refunds, MIN(out_refund_no) AS one, MAX(out_refund_no) AS other
FROM refunds
WHERE refund_id <> ''
GROUP BY refund_id
HAVING COUNT(*) > 1`},
	// refund.approved counts them. There may be more than are needed: that of a person who
	// may not approve any more does not count.
	{"refund.approvals", "approvals came before the refund was sent, with a reason, and only where some are needed", `
SELECT r.out_refund_no, r.state, r.approvals_needed, COUNT(a.approver) AS approvals, MAX(a.at) AS last_at, r.sent_at
FROM refunds r
LEFT JOIN refund_approvals a ON a.out_refund_no = r.out_refund_no
GROUP BY r.out_refund_no, r.state, r.approvals_needed, r.created_at, r.sent_at
HAVING (r.approvals_needed = 0 AND (r.state = 'pending_approval' OR COUNT(a.approver) > 0))
  OR MIN(a.at) < r.created_at - $slack
  OR MAX(a.at) > $latest
  OR (r.sent_at <> 0 AND MAX(a.at) > r.sent_at + $slack)
  OR MIN(a.approver) = ''
  OR MIN(a.reason) = ''`},
	{"refund.approvals_told", "an approval is an event of the order, by who approved, and the other way round", `
SELECT a.out_refund_no, a.approver, r.order_no
FROM refund_approvals a
JOIN refunds r ON r.out_refund_no = a.out_refund_no AND r.order_no <> ''
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.event = 'refund.approved'
  AND e.actor_id = a.approver
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', a.out_refund_no, '"')) > 0
WHERE e.order_no IS NULL
UNION ALL
SELECT r.out_refund_no, e.actor_id AS approver, r.order_no
FROM order_events e
JOIN refunds r ON r.order_no = e.order_no
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
LEFT JOIN refund_approvals a ON a.out_refund_no = r.out_refund_no AND a.approver = e.actor_id
WHERE e.event = 'refund.approved'
  AND a.approver IS NULL`},
	// One of another state was retried, or sent to a card. What was made
	// elsewhere and has no order has no timeline.
	{"refund.decided", "what a person ended or looked at has who and why, and so has the timeline", `
SELECT out_refund_no, state, decided_by, decided_why
FROM refunds
WHERE (state IN ('rejected', 'cancelled', 'by_hand') AND (decided_by = '' OR decided_why = ''))
  OR (decided_by = '' AND decided_why <> '')
UNION ALL
SELECT r.out_refund_no, r.state, r.decided_by, r.decided_why
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.actor_id = r.decided_by
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
  AND CASE
    WHEN r.state IN ('rejected', 'cancelled', 'by_hand') THEN e.event = ` + refundEnds + `
    WHEN r.state = 'held' THEN e.event = 'refund.looked_at'
    ELSE e.event LIKE 'refund.%' END
WHERE r.decided_by <> ''
  AND r.order_no <> ''
  AND e.order_no IS NULL
UNION ALL
SELECT r.out_refund_no, r.state, e.actor_id, r.decided_why
FROM order_events e
JOIN refunds r ON r.order_no = e.order_no
  AND r.state = 'held'
  AND r.decided_by = ''
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE e.event = 'refund.looked_at'`},
	{"refund.said", "the first of two people's word has what, who, why and when, and so has the timeline", refundSaid},
	{"refund.lines_told", "what goods a refund gives back is in the timeline as its lines are", linesTold},
	{"refund.terms_told", "who has to agree to a refund, and whether goods come back, is as the timeline has it last",
		termsTold},
	// 216000000 is 60 hours: nobody is told of what is owed later than that. What is owed and
	// has a content is partial: its rest is. No text in its JSON has these quotes bare.
	{"shipment.facts", "a shipment is of a payment that its order kept, and is looked at while it is open", `
SELECT s.order_no, s.state, s.transaction_id, s.version, s.tries, s.due_at
FROM shipments s
LEFT JOIN payments p ON p.transaction_id = s.transaction_id
  AND p.order_no = s.order_no
  AND p.outcome = 'applied'
WHERE p.transaction_id IS NULL
  OR s.out_trade_no <> p.out_trade_no
  OR s.paid_at <> p.paid_at
  OR s.version < 0
  OR s.tries < 0
  OR (s.content <> '' AND NOT JSON_VALID(s.content))
  OR s.reships < 0
  OR s.reships > 1
  OR (s.state = 'due' AND s.due_at IS NULL)
  OR (s.state IN ('reported', 'refused', 'void') AND s.due_at IS NOT NULL)
  OR (s.state IN ('due', 'reported', 'refused') AND (s.version < 1 OR s.content = '' OR s.put_at < 1))
  OR (s.state = 'owed' AND s.version = 0 AND (s.content <> '' OR s.put_at <> 0))
  OR (s.state = 'owed' AND s.version > 0 AND (s.put_at < 1 OR INSTR(s.content, '"partial":true') = 0))
  OR s.due_at > $latest + 216000000
  OR s.put_at > $latest
  OR s.created_at > $latest
  OR s.updated_at > $latest
  OR s.updated_at < s.created_at`},
	{"refund.due_soon", "a refund that is under way is looked at within a day", `
SELECT out_refund_no, state, due_at
FROM refunds
WHERE due_at > $ahead`},
}

// refundTold: the timeline has who asked for what, also who sent held money back and so was
// the first to agree; what went out under which number (one that a repair made again may
// not have been sent since) and that it was taken; and what WeChat Pay told of refunds that
// are not ours: those keep others from going out by themselves.
const refundTold = `
SELECT r.out_refund_no, r.order_no, r.amount_fen, COUNT(e.seq) AS found
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.event = 'refund.requested'
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
  AND INSTR(e.detail, CONCAT('"refund":"', $yuan(r.amount_fen), '"')) > 0
  AND e.actor_type = CASE WHEN r.shop <> '' THEN 'shop' ELSE r.requester_type END
  AND e.actor_id = CASE WHEN r.shop <> '' THEN r.shop ELSE r.requester_id END
WHERE (r.reason = 'aftersale'
    OR (r.reason = 'held' AND r.state <> 'held' AND r.requester_type = 'operator' AND r.order_no <> ''))
  AND r.generation = 1
  /*and order r.order_no*/
GROUP BY r.out_refund_no, r.order_no, r.amount_fen
HAVING COUNT(e.seq) <> 1
UNION ALL
SELECT CONCAT('event ', seq) AS out_refund_no, order_no, 0 AS amount_fen, found
FROM (
  SELECT e.order_no, e.seq, (SELECT COUNT(*)
    FROM refunds r
    WHERE r.order_no = e.order_no
      AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
      AND (r.sent_at > 0 OR EXISTS (
        SELECT 1
        FROM order_events f
        WHERE f.order_no = r.order_no
          AND f.seq > e.seq
          AND f.event = 'repair.refund_owed'
          AND INSTR(f.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0))) AS found
  FROM order_events e
  WHERE e.event = 'refund.sent'
    /*and order e.order_no*/) sent
WHERE found <> 1
UNION ALL
SELECT r.out_refund_no, r.order_no, r.amount_fen, 0 AS found
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.event = CASE r.state
    WHEN 'processing' THEN 'refund.accepted'
    WHEN 'abnormal' THEN 'refund.abnormal'
    ELSE 'refund.sent' END
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE r.order_no <> ''
  AND (r.sent_at <> 0 OR r.state IN ('processing', 'abnormal'))
  AND e.order_no IS NULL
  /*and order r.order_no*/
UNION ALL
SELECT CONCAT('event ', e.seq) AS out_refund_no, e.order_no, 0 AS amount_fen, COUNT(r.out_refund_no) AS found
FROM order_events e
LEFT JOIN refunds r ON r.order_no IN (e.order_no, '')
  AND (r.order_no <> '' OR r.state <> 'held')
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
  AND INSTR(e.detail, CONCAT('"refund":"', $yuan(r.amount_fen), '"')) > 0
WHERE e.event = 'refund.held'
  /*and order e.order_no*/
GROUP BY e.order_no, e.seq
HAVING COUNT(r.out_refund_no) <> 1
UNION ALL
SELECT r.out_refund_no, r.order_no, r.amount_fen, 0 AS found
FROM refunds r
WHERE r.state IN (` + deadRefunds + `)
  AND r.order_no <> ''
  AND r.told <> ''
  AND NOT EXISTS (
    SELECT 1
    FROM order_events e
    WHERE e.order_no = r.order_no
      AND e.event = 'refund.held'
      AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
      AND INSTR(e.detail, CONCAT('"wechat":"', r.told, '"')) > 0
      AND (INSTR(e.detail, '"transaction_id":"') = 0
        OR INSTR(e.detail, CONCAT('"transaction_id":"', r.transaction_id, '"')) > 0))
  /*and order r.order_no*/
UNION ALL
SELECT CONCAT('event ', e.seq) AS out_refund_no, e.order_no, 0 AS amount_fen, COUNT(p.transaction_id) AS found
FROM order_events e
LEFT JOIN payments p ON p.order_no = e.order_no AND p.refund_told <> 0
WHERE e.event = 'payment.refund_told'
  /*and order e.order_no*/
GROUP BY e.order_no, e.seq
HAVING COUNT(p.transaction_id) = 0`

// refundSaid: the word that waits for a second person's.
const refundSaid = `
SELECT out_refund_no, state, said_what, said_by, said_why, said_at
FROM refunds
WHERE (said_what = '') <> (said_by = '')
  OR (said_what = '') <> (said_why = '')
  OR (said_what = '') <> (said_at = 0)
  OR said_at > $latest
  OR said_what NOT IN ('', 'by_hand', 'unknown', 'MERCHANT_BANK_CARD', 'USER_BANK_CARD')
  OR sent_to NOT IN ('', 'MERCHANT_BANK_CARD', 'USER_BANK_CARD')
UNION ALL
SELECT r.out_refund_no, r.state, r.said_what, r.said_by, r.said_why, r.said_at
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.actor_id = r.said_by
  AND e.event = CASE r.said_what
    WHEN 'by_hand' THEN 'refund.by_hand_said'
    WHEN 'unknown' THEN 'refund.unknown_said'
    ELSE 'refund.to_card_said' END
  AND e.at BETWEEN r.said_at - $slack AND r.said_at + $slack
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE r.said_what <> ''
  AND r.order_no <> ''
  AND e.order_no IS NULL
UNION ALL
SELECT r.out_refund_no, r.state, r.sent_to, '' AS said_by, '' AS said_why, 0 AS said_at
FROM refunds r
LEFT JOIN order_events e ON e.order_no = r.order_no
  AND e.event = 'refund.to_card'
  AND INSTR(e.detail, CONCAT('"to":"', r.sent_to, '"')) > 0
  AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
WHERE r.sent_to <> ''
  AND r.order_no <> ''
  AND e.order_no IS NULL`

// linesTold: the event that asked for a refund has its lines, "{mug 1} {cup 2}", and what
// takes the place of a closed refund has the same. A text that order.encodeDetail has cut is
// of 500 characters, and shows no more than that lines are missing.
const linesTold = `
SELECT t.out_refund_no, t.order_no, t.items, COUNT(i.sku_id) AS found
FROM (
  SELECT r.out_refund_no, r.order_no, CASE INSTR(e.detail, '"items":"')
    WHEN 0 THEN ''
    ELSE SUBSTR(SUBSTR(e.detail, INSTR(e.detail, '"items":"') + 9), 1,
      INSTR(SUBSTR(e.detail, INSTR(e.detail, '"items":"') + 9), '"') - 1) END AS items
  FROM refunds r
  JOIN order_events e ON e.order_no = r.order_no
    AND e.event = 'refund.requested'
    AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
  WHERE r.reason = 'aftersale'
    /*and order r.order_no*/) t
LEFT JOIN refund_items i ON i.out_refund_no = t.out_refund_no
GROUP BY t.out_refund_no, t.order_no, t.items
HAVING COUNT(i.sku_id) < LENGTH(t.items) - LENGTH(REPLACE(t.items, '{', ''))
  OR (LENGTH(t.items) <> 500
    AND COUNT(i.sku_id) <> SUM(
      CASE WHEN INSTR(t.items, CONCAT('{', i.sku_id, ' ', i.quantity, '}')) > 0 THEN 1 ELSE 0 END))
UNION ALL
SELECT r.out_refund_no, r.order_no, i.sku_id AS items, COALESCE(j.quantity, 0) AS found
FROM refunds r
JOIN refund_items i ON i.out_refund_no = r.replaces
LEFT JOIN refund_items j ON j.out_refund_no = r.out_refund_no AND j.sku_id = i.sku_id
WHERE r.replaces <> ''
  AND (j.quantity IS NULL OR j.quantity <> i.quantity)
  /*and order r.order_no*/
UNION ALL
SELECT r.out_refund_no, r.order_no, j.sku_id AS items, j.quantity AS found
FROM refunds r
JOIN refund_items j ON j.out_refund_no = r.out_refund_no
LEFT JOIN refund_items i ON i.out_refund_no = r.replaces AND i.sku_id = j.sku_id
WHERE r.replaces <> ''
  AND i.out_refund_no IS NULL
  /*and order r.order_no*/`

// termsTold: every event of a refund that was asked for has them as they are after it. What
// takes the place of a closed refund begins with the same.
const termsTold = `
SELECT r.out_refund_no, r.state, r.approvals_needed, r.restock, e.seq, e.detail
FROM (
  SELECT r.out_refund_no, MAX(e.seq) AS seq
  FROM refunds r
  JOIN order_events e ON e.order_no = r.order_no
    AND e.event LIKE 'refund.%'
    AND INSTR(e.detail, CONCAT('"out_refund_no":"', r.out_refund_no, '"')) > 0
    AND INSTR(e.detail, '"restock":"') > 0
  WHERE r.reason = 'aftersale'
    /*and order r.order_no*/
  GROUP BY r.out_refund_no) l
JOIN refunds r ON r.out_refund_no = l.out_refund_no
JOIN order_events e ON e.order_no = r.order_no AND e.seq = l.seq
WHERE INSTR(e.detail, CONCAT('"approvals":"', r.approvals_needed, '"')) = 0
  OR INSTR(e.detail, CONCAT('"restock":"', r.restock, '"')) = 0
UNION ALL
SELECT r.out_refund_no, r.state, r.approvals_needed, r.restock, 0 AS seq, '' AS detail
FROM refunds r
JOIN refunds b ON b.out_refund_no = r.replaces
WHERE (r.approvals_needed < b.approvals_needed
    OR (r.restock <> b.restock AND r.decided_by = ''))
  /*and order r.order_no*/`
