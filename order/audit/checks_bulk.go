package audit

// bulkChecks: acts on many things say how far they are, and what they say is to be seen in the things.
var bulkChecks = []check{
	{"bulk.runs", "a bulk run has the rows, the sum and the ends that it says, and its times", `
SELECT r.id, r.kind, r.state, r.total, r.sum_fen, r.done, r.changed, r.failed, x.found
FROM bulk_runs r
LEFT JOIN (
  SELECT run_id, COUNT(*) AS found, SUM(amount_fen) AS fen,
    SUM(CASE WHEN state = 'done' THEN 1 ELSE 0 END) AS done,
    SUM(CASE WHEN state = 'changed' THEN 1 ELSE 0 END) AS changed,
    SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) AS failed
  FROM bulk_rows
  GROUP BY run_id) x ON x.run_id = r.id
WHERE x.found IS NULL
  OR x.found <> r.total
  OR x.fen <> r.sum_fen
  OR x.done <> r.done
  OR x.changed <> r.changed
  OR x.failed <> r.failed
  OR r.kind NOT IN ('order.close', 'order.ask', 'refund.approve')
  OR r.actor = ''
  OR r.reason = ''
  OR (r.state = 'done' AND r.done + r.changed + r.failed <> r.total)
  OR (r.state = 'running' AND r.ended_at <> 0)
  OR (r.state <> 'running' AND r.ended_at < r.created_at - $slack)
  OR r.created_at < 1
  OR r.created_at > $latest
  OR r.ended_at > $latest
  OR r.held_until > $latest`},
	// An order that was closing already is asked about by itself, and leaves no event of the run.
	{"bulk.rows", "a row of a bulk run is of a thing that is there, and what was done to it is to be seen there", `
SELECT x.run_id, x.seq, x.ref, x.version, x.amount_fen, x.state
FROM bulk_rows x
LEFT JOIN bulk_runs r ON r.id = x.run_id
LEFT JOIN orders o ON o.order_no = x.ref AND r.kind IN ('order.close', 'order.ask')
LEFT JOIN refunds f ON f.out_refund_no = x.ref AND r.kind = 'refund.approve'
LEFT JOIN refund_approvals a ON a.out_refund_no = x.ref AND a.approver = r.actor
WHERE r.id IS NULL
  OR (o.order_no IS NULL AND f.out_refund_no IS NULL)
  OR x.seq < 1
  OR x.seq > r.total
  OR x.version < 1
  OR x.version > COALESCE(o.version, f.version)
  OR x.amount_fen <> COALESCE(o.total_fen, f.amount_fen)
  OR (x.state = 'failed' AND x.detail = '')
  OR (x.state = 'done' AND r.kind = 'order.close' AND o.state = 'pending')
  OR (x.state = 'done' AND r.kind = 'refund.approve' AND a.approver IS NULL)`},
}
