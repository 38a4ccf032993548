package audit

// bookChecks: what reconciliation with WeChat Pay's bills has written: the bills
// as they came, the days that were compared, and the differences.
var bookChecks = []check{
	// Writing off needs two people: one proposes, another resolves.
	{"books.resolved_have_owners", "what was resolved by hand has who and why, and two people wrote off", `
SELECT id, kind, ref, status
FROM differences
WHERE (status IN ('RESOLVED', 'WRITTEN_OFF') AND resolved_by = '')
  OR (status = 'WRITTEN_OFF' AND (resolved_why = '' OR proposed_by = '' OR proposed_by = resolved_by))`},
	// ours_fen is what the reconciliation of a day has seen of our payments. Days that
	// were reconciled before they were over are left out.
	{"books.day_is_whole",
		"of a day that is reconciled every payment of ours is matched, across another day, or a difference", `
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
	// A bill is stored in pieces, see bill_chunks.
	{"books.bill_is_whole", "of a bill that was stored every piece is there", `
SELECT b.bill_date, b.bill_type, b.chunks, COUNT(c.seq) AS found
FROM bill_files b
LEFT JOIN bill_chunks c ON c.bill_date = b.bill_date AND c.bill_type = b.bill_type AND c.sha1 = b.sha1
GROUP BY b.bill_date, b.bill_type, b.sha1, b.chunks
HAVING b.chunks <> COUNT(c.seq)`},
}
