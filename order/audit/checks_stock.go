package audit

// allocated is a table of what is in the buckets of SKUs.
const allocated = `
  SELECT sku_id, SUM(remaining) AS allocated
  FROM stock_buckets
  WHERE state IN ('open', 'closing')
  GROUP BY sku_id`

// stockChecks: the shelf is what the flows of stock add up to, an order holds what
// its state says, and what came back had a reason: a close that WeChat Pay has
// proven, or a refund.
var stockChecks = []check{
	// The sum of all flows is the counter with what is in buckets; an unlimited SKU has no
	// counter.
	{"stock.conserved", "what is on the shelf is what came in less what is out", `
SELECT s.sku_id, s.available, COALESCE(b.allocated, 0) AS allocated, COALESCE(f.total, 0) AS flows
FROM skus s
LEFT JOIN (
  SELECT sku_id, SUM(delta) AS total
  FROM stock_flows
  GROUP BY sku_id) f ON f.sku_id = s.sku_id
LEFT JOIN (` + allocated + `) b ON b.sku_id = s.sku_id
WHERE s.unlimited = 0
  AND s.available + COALESCE(b.allocated, 0) <> COALESCE(f.total, 0)`},
	// Nothing else says what a counter began with: without this flow the sum of the
	// others means nothing. An unlimited SKU was made without one.
	{"stock.came_in", "a SKU has one flow of its first stock, and an unlimited one has none", `
SELECT s.sku_id, s.unlimited, COALESCE(f.n, 0) AS first_flows
FROM skus s
LEFT JOIN (
  SELECT sku_id, COUNT(*) AS n
  FROM stock_flows
  WHERE order_no = ''
    AND kind = 'initial'
  GROUP BY sku_id) f ON f.sku_id = s.sku_id
WHERE COALESCE(f.n, 0) <> 1 - s.unlimited
  /*and sku s.sku_id*/`},
	// A CHECK constraint says the same; schema.guards sees whether it is there, this
	// one what came in without it.
	{"stock.not_negative", "no shelf holds less than nothing", `
SELECT sku_id, available
FROM skus
WHERE available < 0`},
	// Held is what open and paid orders asked for; of it, came_back was returned by
	// refunds of a part. Flows without an order are what came in.
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
	// ref '' is the deduction of the placement.
	{"stock.deducted_once", "every line of an order was deducted once, with its quantity", `
SELECT i.order_no, i.sku_id, i.quantity, COALESCE(-f.delta, 0) AS deducted
FROM order_items i
LEFT JOIN stock_flows f ON f.order_no = i.order_no AND f.kind = 'deduct' AND f.ref = '' AND f.sku_id = i.sku_id
WHERE (f.delta IS NULL OR -f.delta <> i.quantity)
  /*and order i.order_no*/
  /*and sku i.sku_id*/`},
	// A deduction with a ref is the one for money that came late: it undoes, line by line,
	// the return of the close before it.
	{"stock.revived_once", "stock was taken again only for an order that had given it back, all of it", `
SELECT d.order_no, d.ref, d.sku_id, d.delta, COALESCE(r.delta, 0) AS given_back
FROM stock_flows d
LEFT JOIN stock_flows r ON r.order_no = d.order_no AND r.kind = 'return' AND r.ref = 'close' AND r.sku_id = d.sku_id
WHERE d.kind = 'deduct'
  AND d.ref <> ''
  AND (d.ref <> 'revive' OR r.delta IS NULL OR r.delta <> -d.delta)
  /*and order d.order_no*/
  /*and sku d.sku_id*/`},
	{"stock.no_stray_flow", "every deduction belongs to a line of an order", `
SELECT f.order_no, f.sku_id, f.kind
FROM stock_flows f
LEFT JOIN order_items i ON i.order_no = f.order_no AND i.sku_id = f.sku_id
WHERE f.order_no <> ''
  AND i.order_no IS NULL
  /*and order f.order_no*/
  /*and sku f.sku_id*/`},
	{"stock.flow_of_a_sku", "every flow is of a SKU that exists", `
SELECT f.order_no, f.kind, f.ref, f.sku_id
FROM stock_flows f
LEFT JOIN skus s ON s.sku_id = f.sku_id
WHERE s.sku_id IS NULL`},
	// A sum of deltas above 0 is more units back than out.
	{"stock.returned_no_more", "no order gave back more than it took", `
SELECT f.order_no, f.sku_id, SUM(f.delta) AS too_much
FROM (
  SELECT DISTINCT order_no
  FROM stock_flows
  WHERE kind = 'return'
    /*and order order_no*/) r
JOIN stock_flows f ON f.order_no = r.order_no
/*where sku f.sku_id*/
GROUP BY f.order_no, f.sku_id
HAVING SUM(f.delta) > 0`},
	// net is what the order has returned less what it took, 0 when all is back;
	// close_returns counts the lines that a close returned and no late payment took again.
	{"stock.agrees_with_state", "open and paid orders keep their stock, closed and late ones gave all of it back", `
SELECT o.order_no, o.state, f.net, f.close_returns
FROM (
  SELECT order_no, SUM(delta) AS net,
    SUM(CASE WHEN ref = 'close' THEN 1 WHEN ref = 'revive' THEN -1 ELSE 0 END) AS close_returns
  FROM stock_flows
  WHERE order_no <> ''
    /*and order order_no*/
    /*and sku sku_id*/
  GROUP BY order_no
  HAVING SUM(delta) <> 0
    OR SUM(CASE WHEN ref = 'close' THEN 1 WHEN ref = 'revive' THEN -1 ELSE 0 END) <> 0) f
JOIN orders o ON o.order_no = f.order_no
WHERE (o.state IN ('closed', 'late') AND f.net <> 0)
  OR (o.state IN ('pending', 'closing', 'paid', 'refunding') AND f.close_returns <> 0)`},
	// The ref of such a return is the out_refund_no.
	{"stock.return_has_refund",
		"what came back after a sale came back with a refund that has paid, and no more than it says", `
SELECT f.order_no, f.ref, f.sku_id, f.delta, COALESCE(i.quantity, 0) AS refunded
FROM stock_flows f
LEFT JOIN refunds r ON r.out_refund_no = f.ref
  AND r.order_no = f.order_no
  AND r.state IN ('success', 'by_hand')
  AND r.restock = 1
LEFT JOIN refund_items i ON i.out_refund_no = r.out_refund_no AND i.sku_id = f.sku_id
WHERE f.kind = 'return'
  AND f.ref <> 'close'
  AND (i.quantity IS NULL OR i.quantity <> f.delta)
  /*and order f.order_no*/
  /*and sku f.sku_id*/`},
	{"stock.refund_returned", "a refund that has paid gave its lines back, unless it says not to", `
SELECT r.out_refund_no, i.sku_id, i.quantity
FROM refunds r
JOIN refund_items i ON i.out_refund_no = r.out_refund_no
LEFT JOIN stock_flows f ON f.order_no = r.order_no
  AND f.kind = 'return'
  AND f.ref = r.out_refund_no
  AND f.sku_id = i.sku_id
WHERE r.state IN ('success', 'by_hand')
  AND r.restock = 1
  AND f.order_no IS NULL
  /*and order r.order_no*/
  /*and sku i.sku_id*/`},
	{"stock.refunded_no_more", "refunds give no more of a line back than the order has", `
SELECT r.order_no, i.sku_id, SUM(i.quantity) AS refunded, COALESCE(MAX(o.quantity), 0) AS ordered
FROM refund_items i
JOIN refunds r ON r.out_refund_no = i.out_refund_no AND r.state NOT IN (` + deadRefunds + `)
LEFT JOIN order_items o ON o.order_no = r.order_no AND o.sku_id = i.sku_id
/*where order r.order_no*/
GROUP BY r.order_no, i.sku_id
HAVING SUM(i.quantity) > COALESCE(MAX(o.quantity), 0)`},
	// The timeline has the answer of WeChat Pay's close in the detail of close.accepted,
	// and it is not younger than the return that rests on it.
	{"close.proven", "no stock came back and no order closed without WeChat's proven close before it", `
SELECT o.order_no, o.state
FROM orders o
LEFT JOIN order_events e ON e.order_no = o.order_no
  AND e.event = 'close.accepted'
  AND e.to_state = 'closed'
  AND e.detail LIKE '%"close":%'
LEFT JOIN stock_flows f ON f.order_no = o.order_no AND f.kind = 'return' AND f.ref = 'close'
WHERE (o.state IN ('closed', 'late') OR f.order_no IS NOT NULL)
  AND (e.order_no IS NULL OR e.at > f.created_at)
  /*and order o.order_no*/
  /*and sku f.sku_id*/
GROUP BY o.order_no, o.state`},
}
