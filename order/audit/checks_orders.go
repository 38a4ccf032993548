package audit

// orderChecks: the parts of an order agree with one another, and its attempts to
// pay (WeChat orders, one out_trade_no each) with it.
var orderChecks = []check{
	// Lines keep the price of the moment of placing: a SKU may cost something else by
	// now.
	{"order.total", "an order costs the sum of its lines", `
SELECT o.order_no, o.total_fen, COALESCE(i.lines_fen, 0) AS lines_fen
FROM orders o
LEFT JOIN (
  SELECT order_no, SUM(quantity * price_fen) AS lines_fen
  FROM order_items
  /*where order order_no*/
  GROUP BY order_no) i ON i.order_no = o.order_no
WHERE o.total_fen <> COALESCE(i.lines_fen, 0)
  /*and order o.order_no*/`},
	{"order.lines", "the lines of an order are numbered from 1 without a gap, each SKU on one of them", `
SELECT order_no, COUNT(*) AS n, MAX(line_no) AS last_line, COUNT(DISTINCT sku_id) AS skus
FROM order_items
/*where order order_no*/
GROUP BY order_no
HAVING MIN(line_no) <> 1
  OR MAX(line_no) <> COUNT(*)
  OR COUNT(DISTINCT sku_id) <> COUNT(*)`},
	{"order.line_of_an_order", "every line belongs to an order", `
SELECT i.order_no, i.line_no
FROM order_items i
LEFT JOIN orders o ON o.order_no = i.order_no
WHERE o.order_no IS NULL`},
	// A paid order may have one: it was to be closed when the money came.
	{"order.close_reason", "who wanted an order closed is known from the moment of asking, and not before", `
SELECT order_no, state, close_reason
FROM orders
WHERE ((state = 'pending' AND close_reason <> '')
    OR (state IN ('closing', 'closed', 'late') AND close_reason NOT IN ('timeout', 'cancel', 'operator')))
  /*and order order_no*/`},
	// An out_trade_no is the order number (26 characters), a dash, and the number of the
	// attempt.
	{"attempt.of_an_order", "every WeChat order is of an order of ours, has its number and asks for its total", `
SELECT a.out_trade_no, a.order_no, a.attempt_no, a.amount_fen, COALESCE(o.total_fen, 0) AS total_fen
FROM payment_attempts a
LEFT JOIN orders o ON o.order_no = a.order_no
WHERE o.order_no IS NULL
  OR a.amount_fen <> o.total_fen
  OR SUBSTR(a.out_trade_no, 1, 27) <> CONCAT(a.order_no, '-')
  OR CAST(SUBSTR(a.out_trade_no, 28) AS DECIMAL) <> a.attempt_no`},
	// WeChat Pay would take money for every order of its own that is open: the one before
	// must be closed there first.
	{"attempt.one_payable", "another WeChat order was opened for an order only after the one before it was closed", `
SELECT a.out_trade_no, COALESCE(b.state, 'missing') AS before_it
FROM payment_attempts a
LEFT JOIN payment_attempts b ON b.order_no = a.order_no AND b.attempt_no = a.attempt_no - 1
WHERE a.attempt_no <> 1
  AND (b.state IS NULL OR b.state <> 'closed')`},
	// A close proves something only of the trade that it was asked for. The earlier ones of
	// an order were closed before the newest was opened.
	{"attempt.closed_newest", "an order closed by the proof of the WeChat order that was opened for it last", `
SELECT o.order_no, o.state, a.out_trade_no, a.state AS attempt_state
FROM orders o
JOIN payment_attempts a ON a.order_no = o.order_no
  AND a.state <> 'closed'
JOIN order_events e ON e.order_no = o.order_no
  AND e.event = 'close.accepted'
  AND e.to_state = 'closed'
WHERE o.state IN ('closed', 'late')
  AND e.detail NOT LIKE CONCAT('%"out_trade_no":"', a.out_trade_no, '"%')
  AND NOT EXISTS (
    SELECT 1
    FROM payment_attempts b
    WHERE b.order_no = a.order_no
      AND b.attempt_no > a.attempt_no)`},
	// Without due_at an open order would never be closed, and its stock be lost to
	// everybody.
	{"order.due", "an open order has a time to be looked at, a finished one has none", `
SELECT order_no, state
FROM orders
WHERE (state IN ('pending', 'closing') AND due_at IS NULL)
  OR (state NOT IN ('pending', 'closing') AND due_at IS NOT NULL)`},
}
