package audit

import "time"

// reopensWithin is how long a healthy service leaves a SKU marked as sold out when something
// has come back: its keepers look several times a second.
const reopensWithin = 5 * time.Second

// gateChecks: the units of a flash sale that were handed out of the pool are where their
// moves and the orders say, and a sale gives nobody more than it says. stock.conserved holds
// the sum of pool and buckets.
var gateChecks = []check{
	// An order that took from a bucket says so in its flow. What comes back goes to the pool.
	{"bucket.conserved", "what is in a bucket is what was moved into it less what was sold out of it", `
SELECT b.bucket_id, b.sku_id, b.remaining, COALESCE(m.moved, 0) AS moved, COALESCE(f.sold, 0) AS sold
FROM stock_buckets b
LEFT JOIN (
  SELECT bucket_id, SUM(delta) AS moved
  FROM stock_moves
  /*where sku sku_id*/
  GROUP BY bucket_id) m ON m.bucket_id = b.bucket_id
LEFT JOIN (
  SELECT bucket_id, SUM(delta) AS sold
  FROM stock_flows
  WHERE bucket_id <> 0
    /*and sku sku_id*/
  GROUP BY bucket_id) f ON f.bucket_id = b.bucket_id
WHERE b.remaining <> COALESCE(m.moved, 0) + COALESCE(f.sold, 0)
  /*and sku b.sku_id*/`},
	// A CHECK constraint says the same; see stock.not_negative.
	{"bucket.not_negative", "no bucket holds less than nothing", `
SELECT bucket_id, sku_id, remaining
FROM stock_buckets
WHERE remaining < 0`},
	// So no move is lost or made twice. The first opens the bucket, and only the last of a
	// closed one closes it.
	{"bucket.moves_dense", "the moves of a bucket are numbered from 1 to its last, and are of its SKU", `
SELECT b.bucket_id, b.sku_id, b.seq, COUNT(m.seq) AS moves
FROM stock_buckets b
LEFT JOIN stock_moves m ON m.bucket_id = b.bucket_id
GROUP BY b.bucket_id, b.sku_id, b.seq, b.state
HAVING COUNT(m.seq) <> b.seq
  OR COALESCE(MIN(m.seq), 0) <> 1
  OR MAX(m.seq) <> b.seq
  OR SUM(CASE
    WHEN m.sku_id <> b.sku_id
      OR (m.seq = 1 AND m.cause <> 'grant')
      OR (m.cause = 'close') <> (m.seq = b.seq AND b.state = 'closed')
    THEN 1
    ELSE 0 END) > 0
UNION ALL
SELECT m.bucket_id, MAX(m.sku_id) AS sku_id, 0 AS seq, COUNT(*) AS moves
FROM stock_moves m
LEFT JOIN stock_buckets b ON b.bucket_id = m.bucket_id
WHERE b.bucket_id IS NULL
GROUP BY m.bucket_id`},
	{"bucket.closed_is_empty", "a closed bucket is empty", `
SELECT bucket_id, sku_id, state, remaining
FROM stock_buckets
WHERE (state NOT IN ('open', 'closing', 'closed')
    OR (state = 'closed' AND remaining <> 0))
  /*and sku sku_id*/`},
	// An order that takes again what it gave back takes it from the pool.
	{"bucket.flow_of_its_sku", "only placements take from a bucket, and only units of its SKU", `
SELECT f.order_no, f.kind, f.ref, f.sku_id, f.bucket_id, COALESCE(b.sku_id, '') AS bucket_of
FROM stock_flows f
LEFT JOIN stock_buckets b ON b.bucket_id = f.bucket_id
WHERE f.bucket_id <> 0
  AND (b.sku_id IS NULL OR b.sku_id <> f.sku_id OR f.kind <> 'deduct' OR f.ref <> '')
  /*and order f.order_no*/
  /*and sku f.sku_id*/`},
	// Who ends a gate calls its buckets back first: nobody would look for them later.
	{"bucket.gated", "only a SKU with a gate has buckets that hold something", `
SELECT b.bucket_id, b.sku_id, b.state, b.remaining, COALESCE(g.mode, '') AS mode
FROM stock_buckets b
LEFT JOIN stock_gates g ON g.sku_id = b.sku_id
WHERE b.state IN ('open', 'closing')
  AND (g.mode IS NULL OR g.mode = 'off')`},
	// A slot is a unit that a customer has in a sale; that of an order which has ended without
	// a sale keeps its row until another order gets it. The limit may have been lowered since a
	// slot was given, and a SKU may be in another sale now: what an order was given is held
	// against the limit only when that has not changed since.
	{"gate.limit", "a customer has no more units of a sale than its limit, each for an order of his", `
SELECT b.sale, b.customer_id, b.slot, b.order_no
FROM sale_buyers b
LEFT JOIN orders o ON o.order_no = b.order_no
LEFT JOIN (
  SELECT g.sale, MAX(s.per_customer) AS most, MAX(g.updated_at) AS since
  FROM stock_gates g
  JOIN skus s ON s.sku_id = g.sku_id AND s.per_customer > 0
  GROUP BY g.sale) l ON l.sale = b.sale
WHERE b.slot < 1
  OR b.slot > 100
  OR o.order_no IS NULL
  OR o.customer_id <> b.customer_id
  OR (b.slot > l.most AND o.created_at > l.since + $slack)
UNION ALL
SELECT b.sale, b.customer_id, b.slots AS slot, b.order_no
FROM (
  SELECT sale, MAX(customer_id) AS customer_id, order_no, COUNT(*) AS slots
  FROM sale_buyers
  GROUP BY sale, order_no) b
JOIN order_items i ON i.order_no = b.order_no
GROUP BY b.sale, b.customer_id, b.slots, b.order_no
HAVING SUM(i.quantity) < b.slots`},
	// closed_until is the mark. An ended sale is marked while its last buckets are closed.
	{"gate.sold_out_has_no_bucket", "a SKU that is marked as sold out has nothing in a bucket", `
SELECT s.sku_id, b.bucket_id, b.state, b.remaining
FROM skus s
JOIN stock_buckets b ON b.sku_id = s.sku_id AND b.state IN ('open', 'closing') AND b.remaining > 0
LEFT JOIN stock_gates g ON g.sku_id = s.sku_id
WHERE s.closed_until = 9223372036854775807
  AND (g.state IS NULL OR g.state <> 'ended')`},
}
