package audit

// writtenOff is the condition that people have written a payment off: it is owed to nobody.
const writtenOff = `EXISTS (
      SELECT 1
      FROM write_offs w
      WHERE w.transaction_id = p.transaction_id
        AND w.written_off_at > 0)`

// goneElsewhere is what of a payment its buyer has by refunds that were made elsewhere.
const goneElsewhere = `COALESCE((
      SELECT SUM(h.amount_fen)
      FROM refunds h
      WHERE h.transaction_id = p.transaction_id
        AND h.state IN (` + deadRefunds + `)
        AND h.told = 'SUCCESS'), 0)`

// owedPayments are the payments that are owed back, each with the sum of its refunds and
// with what of it went back elsewhere for certain. That counts where people decided about
// money that was held; late money and a second payment are owed whole.
const owedPayments = `(
  SELECT p.transaction_id, p.order_no, p.amount_fen,
    COALESCE((
      SELECT SUM(r.amount_fen)
      FROM refunds r
      WHERE r.transaction_id = p.transaction_id AND r.state NOT IN (` + deadRefunds + `)), 0) AS owed_fen,
    CASE WHEN p.reason IN ('late', 'duplicate') THEN 0 ELSE ` + goneElsewhere + ` END AS elsewhere_fen
  FROM payments p
  WHERE p.outcome = 'owed'
    AND NOT ` + writtenOff + `)`

// moneyChecks: every fen that came in is on an order, went back, goes back, or
// waits for a person.
var moneyChecks = []check{
	// The applied payment is the order's own; late and duplicate ones are owed back and
	// do not count here. refunded may also be an order whose only payment came late.
	{"money.paid_once", "a paid order has one payment of its whole amount, an unpaid one has none", `
SELECT o.order_no, o.state, o.total_fen, COALESCE(p.payments, 0) AS payments, COALESCE(p.paid_fen, 0) AS paid_fen
FROM orders o
LEFT JOIN (
  SELECT order_no, COUNT(*) AS payments, SUM(amount_fen) AS paid_fen
  FROM payments
  WHERE outcome = 'applied'
    /*and order order_no*/
  GROUP BY order_no) p ON p.order_no = o.order_no
WHERE ((o.state IN ('paid', 'refunding') AND (COALESCE(p.payments, 0) <> 1 OR p.paid_fen <> o.total_fen))
    OR (o.state = 'refunded' AND (p.payments > 1 OR p.paid_fen <> o.total_fen))
    OR (o.state IN ('pending', 'closing', 'closed', 'late') AND p.payments > 0))
  /*and order o.order_no*/`},
	// The arguments are the apps, appIDs of them, and the merchant of the configuration. A
	// source that names no currency leaves it empty.
	{"money.facts", "money that came for an order has its total, our currency, our app, our merchant", `
SELECT p.transaction_id, p.order_no, p.amount_fen, p.currency, p.appid, p.mchid
FROM payments p
LEFT JOIN orders o ON o.order_no = p.order_no
WHERE (p.outcome = 'applied' OR p.reason IN ('late', 'duplicate'))
  AND (p.amount_fen <> o.total_fen
    OR p.currency NOT IN ('CNY', '')
    OR p.appid NOT IN (?, ?, ?, ?, ?, ?, ?, ?)
    OR p.mchid <> ?)
  /*and order p.order_no*/`},
	// The first 26 characters of an out_trade_no are the order number.
	{"money.of_its_attempt", "a payment is on the order whose WeChat order it paid", `
SELECT p.transaction_id, p.order_no, p.out_trade_no
FROM payments p
LEFT JOIN payment_attempts a ON a.out_trade_no = p.out_trade_no
WHERE p.order_no <> ''
  AND (SUBSTR(p.out_trade_no, 1, 26) <> p.order_no OR a.order_no <> p.order_no)
  /*and order p.order_no*/`},
	// A refund that failed for good does not count: its successor has to be there. Of money
	// that was held a part may have gone back elsewhere, before or after it was owed.
	{"money.owed_back", "every payment that did not make its order paid is owed back, whole and once", `
SELECT p.transaction_id, p.order_no, p.amount_fen, p.owed_fen, p.elsewhere_fen
FROM ` + owedPayments + ` p
WHERE p.owed_fen > p.amount_fen
  OR p.owed_fen + p.elsewhere_fen < p.amount_fen`},
	// refund_fen repeats the sum of the refunds that count, so that a guarded UPDATE can
	// refuse one too many.
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
	// A refund that was made elsewhere is held. What a program before migration 7 wrote of
	// one does not say whether WeChat Pay closed it.
	{"money.elsewhere", "what went back elsewhere counted before more was sent, and nothing went by itself after it", `
SELECT r.out_refund_no, p.amount_fen, p.refund_fen, SUM(h.amount_fen) AS elsewhere_fen
FROM refunds r
JOIN payments p ON p.transaction_id = r.transaction_id
JOIN refunds h ON h.transaction_id = r.transaction_id
  AND h.state = 'held'
  AND h.told NOT IN ('', 'CLOSED', 'NOTFOUND')
  AND h.created_at < r.sent_at
WHERE r.state NOT IN (` + deadRefunds + `)
GROUP BY r.out_refund_no, r.reason, r.approvals_needed, r.decided_by, p.amount_fen, p.refund_fen
HAVING p.refund_fen + SUM(h.amount_fen) > p.amount_fen
  OR (r.reason = 'aftersale' AND r.approvals_needed = 0 AND r.decided_by = '' AND MIN(h.decided_by) = '')`},
	// owed and held are looked at by money.owed_back and by people.
	{"money.accounted", "every payment is on an order of ours, owed back, or held for a person", `
SELECT p.transaction_id, p.order_no, p.outcome
FROM payments p
LEFT JOIN orders o ON o.order_no = p.order_no
WHERE p.outcome = 'applied' AND o.order_no IS NULL`},
	// A held refund has no payment of ours.
	{"money.refund_of_order", "a refund belongs to the order of its payment", `
SELECT r.out_refund_no, r.order_no, COALESCE(p.order_no, '') AS payment_of
FROM refunds r
LEFT JOIN payments p ON p.transaction_id = r.transaction_id
WHERE r.state <> 'held'
  AND (p.transaction_id IS NULL OR p.order_no <> r.order_no)
  /*and order r.order_no*/`},
	// Money that went back for an order that was paid twice does not count: it never was
	// the order's.
	{"money.refunded", "an order is refunded when all its money went back, and only then", `
SELECT o.order_no, o.state, COALESCE(SUM(p.amount_fen), 0) AS paid_fen, COALESCE(SUM(r.back), 0) AS back_fen
FROM orders o
LEFT JOIN payments p ON p.order_no = o.order_no AND (p.outcome = 'applied' OR p.reason = 'late')
LEFT JOIN (
  SELECT transaction_id, SUM(amount_fen) AS back
  FROM refunds
  WHERE state IN ('success', 'by_hand')
  GROUP BY transaction_id) r ON r.transaction_id = p.transaction_id
WHERE o.state IN ('paid', 'refunding', 'refunded', 'late')
GROUP BY o.order_no, o.state
HAVING (o.state = 'refunded') <> (COALESCE(SUM(r.back), 0) >= COALESCE(SUM(p.amount_fen), 0))
  OR (o.state = 'refunded' AND COUNT(p.transaction_id) = 0)`},
	// Refunds of money that was owed back from the start (late, duplicate) do not
	// change the state of an order that is paid.
	{"money.refunding", "an order is refunding as long as a refund of it is under way", `
SELECT o.order_no, o.state, COUNT(r.out_refund_no) AS under_way
FROM orders o
LEFT JOIN refunds r ON r.order_no = o.order_no AND r.reason = 'aftersale'
  AND r.state IN ('pending_approval', 'owed', 'processing', 'abnormal', 'refused')
WHERE o.state IN ('paid', 'refunding', 'refunded')
GROUP BY o.order_no, o.state
HAVING (o.state = 'refunding') <> (COUNT(r.out_refund_no) > 0)`},
	// The sums of all of the above: what each row hides from its own check would be
	// missing here.
	{"money.total", "all money taken in is kept on orders, went back or goes back, is held, or was written off", `
SELECT t.taken_in, t.kept, t.back, t.elsewhere, t.written_off
FROM (
  SELECT
    (SELECT COALESCE(SUM(amount_fen), 0) FROM payments WHERE outcome <> 'held') AS taken_in,
    (SELECT COALESCE(SUM(amount_fen - refund_fen), 0) FROM payments WHERE outcome = 'applied') AS kept,
    (SELECT COALESCE(SUM(r.amount_fen), 0) FROM refunds r WHERE r.state NOT IN (` + deadRefunds + `)) AS back,
    (SELECT COALESCE(SUM(p.amount_fen - p.owed_fen), 0) FROM ` + owedPayments + ` p
      WHERE p.owed_fen BETWEEN p.amount_fen - p.elsewhere_fen AND p.amount_fen) AS elsewhere,
    (SELECT COALESCE(SUM(p.amount_fen), 0)
      FROM payments p
      WHERE p.outcome = 'owed'
        AND ` + writtenOff + `) AS written_off) t
WHERE t.taken_in <> t.kept + t.back + t.elsewhere + t.written_off`},
	{"money.written_off", "held money was written off by two people, with who, why and when, and none of it goes back",
		writeOffs},
}

// writeOffs holds them against the two people, the payment, and, where it has an order, the
// timeline. What went back elsewhere since the write-off was told later: then less is left than
// was written off, never more.
var writeOffs = `
SELECT w.transaction_id, COALESCE(p.order_no, '') AS order_no, p.outcome, w.amount_fen, w.proposed_by, w.written_off_by
FROM write_offs w
LEFT JOIN payments p ON p.transaction_id = w.transaction_id
WHERE (p.transaction_id IS NULL
  OR w.amount_fen NOT BETWEEN 0 AND p.amount_fen
  OR w.proposed_by = ''
  OR w.proposed_why = ''
  OR w.proposed_at < p.received_at - $slack
  OR w.proposed_at > $latest
  OR (w.written_off_at = 0 AND (w.written_off_by <> '' OR w.written_off_why <> ''))
  OR (w.written_off_at <> 0 AND (w.written_off_by IN ('', w.proposed_by)
    OR w.written_off_why = ''
    OR w.written_off_at < w.proposed_at - $slack
    OR w.written_off_at > $latest
    OR p.outcome <> 'owed'
    OR p.reason IN ('', 'revived', 'late', 'duplicate')
    OR p.refund_fen <> 0
    OR w.amount_fen + ` + goneElsewhere + ` < p.amount_fen
    OR EXISTS (
      SELECT 1
      FROM refunds r
      WHERE r.transaction_id = p.transaction_id
        AND r.state NOT IN (` + deadRefunds + `))
    OR ` + onePerson("w.written_off_by", "w.proposed_by", "w.written_off_at") + `)))
  /*and order p.order_no*/
UNION ALL
SELECT w.transaction_id, p.order_no, e.event, w.amount_fen, w.proposed_by, w.written_off_by
FROM write_offs w
JOIN payments p ON p.transaction_id = w.transaction_id AND p.order_no <> ''
LEFT JOIN order_events e ON e.order_no = p.order_no
  AND e.at BETWEEN w.proposed_at - $slack AND w.proposed_at + $slack
  AND e.event = 'payment.write_off_said'
  AND e.actor_id = w.proposed_by
  AND INSTR(e.detail, CONCAT('"transaction_id":"', w.transaction_id, '"')) > 0
  AND INSTR(e.detail, CONCAT('"written_off":"', $yuan(w.amount_fen), '"')) > 0
WHERE e.order_no IS NULL
  /*and order p.order_no*/
UNION ALL
SELECT w.transaction_id, p.order_no, e.event, w.amount_fen, w.proposed_by, w.written_off_by
FROM write_offs w
JOIN payments p ON p.transaction_id = w.transaction_id AND p.order_no <> ''
LEFT JOIN order_events e ON e.order_no = p.order_no
  AND e.at BETWEEN w.written_off_at - $slack AND w.written_off_at + $slack
  AND e.event = 'payment.written_off'
  AND e.actor_id = w.written_off_by
  AND INSTR(e.detail, CONCAT('"transaction_id":"', w.transaction_id, '"')) > 0
  AND INSTR(e.detail, CONCAT('"with":"', w.proposed_by, '"')) > 0
WHERE w.written_off_at <> 0
  AND e.order_no IS NULL
  /*and order p.order_no*/
UNION ALL
SELECT CONCAT('event ', e.seq) AS transaction_id, e.order_no, e.event, 0 AS amount_fen, e.actor_id AS proposed_by,
  '' AS written_off_by
FROM order_events e
WHERE e.event = 'payment.written_off'
  AND NOT EXISTS (
    SELECT 1
    FROM payments p
    JOIN write_offs w ON w.transaction_id = p.transaction_id AND w.written_off_at > 0
    WHERE p.order_no = e.order_no
      AND INSTR(e.detail, CONCAT('"transaction_id":"', p.transaction_id, '"')) > 0)
  /*and order e.order_no*/`

// outcomeChecks: why a payment did not make its order paid is known. Reports list
// them last.
var outcomeChecks = []check{
	{"money.late", "a late order has one late payment, and a late payment a late order or one whose money went back", `
SELECT o.order_no, o.state, COUNT(p.transaction_id) AS late_payments
FROM orders o
JOIN payments p ON p.order_no = o.order_no AND p.reason = 'late'
/*where order o.order_no*/
GROUP BY o.order_no, o.state
HAVING o.state NOT IN ('late', 'refunded')
  OR COUNT(p.transaction_id) > 1
UNION ALL
SELECT o.order_no, o.state, 0 AS late_payments
FROM orders o
LEFT JOIN payments p ON p.order_no = o.order_no AND p.outcome = 'owed' AND p.reason = 'late'
WHERE o.state = 'late'
  AND p.transaction_id IS NULL
  /*and order o.order_no*/`},
	// '' is a payment that arrived in time, 'revived' one that came late and found the
	// stock again.
	{"money.outcome", "why a payment was not applied is known, and only then", `
SELECT transaction_id, outcome, reason
FROM payments
WHERE ((outcome = 'applied' AND reason NOT IN ('', 'revived'))
    OR (outcome <> 'applied' AND reason IN ('', 'revived'))
    OR (outcome = 'held' AND reason IN ('late', 'duplicate')))
  /*and order order_no*/`},
}
