package audit

// bookChecks: what reconciliation with WeChat Pay's bills has written: the bills
// as they came, the days that were compared, and the differences.
var bookChecks = []check{
	// Writing off needs two people: one proposes, another resolves.
	{"books.resolved_have_owners", "what was resolved by hand has who and why, and two people wrote off", `
SELECT id, kind, ref, status
FROM differences
WHERE (status IN ('RESOLVED', 'WRITTEN_OFF') AND resolved_by = '')
  OR (status = 'WRITTEN_OFF' AND (resolved_why = '' OR proposed_by = '' OR proposed_by = resolved_by))
  OR (status = 'WRITTEN_OFF' AND ` + onePerson("resolved_by", "proposed_by", "resolved_at") + `)`},
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
	// lease_until keeps other runs away, finished_at and the day's times say what need not
	// be run again.
	{"books.runs", "a reconciliation is of a day that has been, has its lease and times, and a bill that is stored", `
SELECT r.bill_date, r.bill_type, r.state, r.sha1, r.holder, r.lease_until, r.started_at, r.finished_at, r.day_from,
  r.day_to
FROM reconciliations r
LEFT JOIN bill_files b ON b.bill_date = r.bill_date AND b.bill_type = r.bill_type AND b.sha1 = r.sha1
WHERE r.bill_type NOT IN ('ALL', 'SUCCESS', 'REFUND', 'FUNDFLOW')
  OR COALESCE($day(r.bill_date), $latest) >= $latest
  OR r.run_no < 0
  OR r.ours_fen < 0
  OR r.lease_until > $latest
  OR r.started_at > $latest
  OR r.finished_at > $latest
  OR (r.state = 'running' AND (r.holder = '' OR r.started_at = 0))
  OR (r.state = 'done' AND (
    JSON_VALID(r.result) = 0
    OR r.finished_at < r.started_at - $slack
    OR r.day_from <> $day(r.bill_date)
    OR r.day_to <> r.day_from + 86400000
    OR (r.sha1 <> '' AND b.sha1 IS NULL)))`},
	// 524288 is the size of all pieces but the last.
	{"books.bills", "a stored bill has its hash, its source, its size, and pieces that were cut where they are cut", `
SELECT b.bill_date, b.bill_type, b.sha1, b.source, b.size_bytes, b.chunks, b.received_at, SUM(LENGTH(c.body)) AS found
FROM bill_files b
LEFT JOIN bill_chunks c ON c.bill_date = b.bill_date AND c.bill_type = b.bill_type AND c.sha1 = b.sha1
GROUP BY b.bill_date, b.bill_type, b.sha1, b.source, b.size_bytes, b.chunks, b.received_at
HAVING LENGTH(b.sha1) <> 40
  OR b.bill_type NOT IN ('ALL', 'SUCCESS', 'REFUND', 'FUNDFLOW')
  OR b.source NOT IN ('wechat', 'file')
  OR b.size_bytes < 1
  OR b.received_at > $latest
  OR b.received_at < COALESCE($day(b.bill_date), $latest + 1)
  OR MIN(c.seq) <> 0
  OR MAX(c.seq) <> b.chunks - 1
  OR MIN(LENGTH(c.body)) < 1
  OR MAX(LENGTH(c.body)) > 524288
  OR SUM(LENGTH(c.body)) <= (b.chunks - 1) * 524288`},
	// The program before migration 7 knew no day to wait for: see its pending_until.
	{"books.differences", "a difference was found by a run, and stands where its texts and times say", `
SELECT d.id, d.bill_date, d.bill_type, d.kind, d.status, d.opened_at, d.proposed_by, d.resolution, d.resolved_by,
  d.resolved_at
FROM differences d
LEFT JOIN reconciliations r ON r.bill_date = d.bill_date AND r.bill_type = d.bill_type
WHERE r.bill_date IS NULL
  OR d.run_no NOT BETWEEN 0 AND r.run_no
  OR d.kind NOT IN (` + differenceKinds + `)
  OR d.ref = ''
  OR JSON_VALID(d.facts) = 0
  OR SUBSTR(d.facts, 1, 1) <> '{'
  OR d.healable NOT IN (0, 1)
  OR (d.healable = 1 AND d.kind NOT IN ('BILL_ONLY', 'REFUND_BILL_ONLY', 'REFUND_STATE_MISMATCH'))
  OR d.opened_at < 1
  OR d.opened_at > $latest
  OR (d.proposed_by = '') <> (d.proposed_why = '')
  OR d.source NOT IN ('', 'wechat', 'file')
  OR d.pending_until > $day(d.bill_date) + 2678400000
  OR (d.status <> 'PENDING_NEXT_DAY' AND d.pending_until <> 0)
  OR (d.status = 'PENDING_NEXT_DAY' AND d.waits_for = '' AND d.pending_until NOT IN (0, d.opened_at + 259200000))
  OR (d.status IN ('OPEN', 'PENDING_NEXT_DAY') AND (d.resolved_at <> 0 OR d.resolution <> ''))
  OR (d.status IN ('RESOLVED', 'WRITTEN_OFF') AND (
    d.resolution = ''
    OR d.resolved_at < d.opened_at - $slack
    OR d.resolved_at > $latest
    OR (d.resolved_by <> 'reconciler' AND d.resolved_why = '')))`},
	// A bill that a person gave counts when another says so: another than one of those who
	// gave it. Who confirmed it may give it, too, when the day has to run again.
	{"books.hands", "a bill that was confirmed was given by somebody else", `
SELECT h.bill_date, h.bill_type, h.sha1, h.act, h.who, h.at
FROM bill_hands h
LEFT JOIN bill_files b ON b.bill_date = h.bill_date AND b.bill_type = h.bill_type AND b.sha1 = h.sha1
WHERE h.act NOT IN ('fetched', 'gave', 'confirmed')
  OR h.bill_type NOT IN ('ALL', 'SUCCESS', 'REFUND', 'FUNDFLOW')
  OR h.who = ''
  OR (LENGTH(h.sha1) <> 40 AND (h.sha1 <> '' OR h.act <> 'fetched'))
  OR h.at < 1
  OR h.at > $latest
  OR $day(h.bill_date) IS NULL
  OR (h.act = 'confirmed' AND (b.sha1 IS NULL OR NOT EXISTS (
    SELECT 1
    FROM bill_hands g
    WHERE g.bill_date = h.bill_date
      AND g.bill_type = h.bill_type
      AND g.sha1 = h.sha1
      AND g.act = 'gave'
      AND g.who <> h.who
      AND NOT ` + onePerson("h.who", "g.who", "h.at") + `)))`},
	{"books.notes", "what people said of a difference is of one that there is, and who works on it was given it", `
SELECT n.difference_id, n.ref, n.what, n.word, n.who, n.at
FROM difference_notes n
LEFT JOIN differences d ON d.id = n.difference_id
WHERE d.id IS NULL
  OR n.what NOT IN ('comment', 'assign', 'act')
  OR (n.what = 'comment' AND (n.word <> '' OR n.body = ''))
  OR (n.what = 'assign' AND n.body <> '')
  OR (n.what = 'act' AND (n.word NOT IN ('APPLY_PAYMENT', 'REFUND', 'MARK_PENDING', 'WRITE_OFF') OR n.body = ''))
  OR n.who = ''
  OR n.at < 1
  OR n.at > $latest
UNION ALL
SELECT d.id, '', 'assignee', d.assignee, '', 0
FROM differences d
WHERE d.assignee <> ''
  AND NOT EXISTS (
    SELECT 1
    FROM difference_notes n
    WHERE n.difference_id = d.id
      AND n.what = 'assign'
      AND n.word = d.assignee)`},
	// Days are closed once they are over, each time under the next number, and name the proof of
	// the day before.
	{"books.closings", "a day that was closed was over, has its bill and its proof, and follows the day before", `
SELECT c.bill_date, c.seq, c.who, c.at, c.sha1, c.manifest_sha256, c.previous_sha256
FROM day_closings c
LEFT JOIN day_closings b ON b.bill_date = c.bill_date AND b.seq = c.seq - 1
LEFT JOIN bill_files f ON f.bill_date = c.bill_date AND f.bill_type = 'ALL' AND f.sha1 = c.sha1
WHERE $day(c.bill_date) IS NULL
  OR c.seq < 1
  OR (c.seq > 1 AND b.seq IS NULL)
  OR c.who = ''
  OR c.why = ''
  OR c.at < $day(c.bill_date) + 86400000 - $slack
  OR c.at > $latest
  OR (c.sha1 <> '' AND f.sha1 IS NULL)
  OR LENGTH(c.found_sha256) <> 64
  OR LENGTH(c.manifest_sha256) <> 64
  OR (c.previous_sha256 <> '' AND NOT EXISTS (
    SELECT 1
    FROM day_closings p
    WHERE p.manifest_sha256 = c.previous_sha256
      AND $day(p.bill_date) = $day(c.bill_date) - 86400000))
  OR (
    SELECT COUNT(DISTINCT k.name)
    FROM day_closing_parts k
    WHERE k.bill_date = c.bill_date
      AND k.seq = c.seq) <> 9`},
	{proofsCheck, "the files kept with a closing are those that were closed, whole, and its row says what they do", `
SELECT k.bill_date, k.seq, k.name, c.seq AS closing, COUNT(*) AS parts
FROM day_closing_parts k
LEFT JOIN day_closings c ON c.bill_date = k.bill_date AND c.seq = k.seq
GROUP BY k.bill_date, k.seq, k.name, c.seq
HAVING closing IS NULL
  OR k.name NOT IN ('VERIFY.txt', 'verify.sh', 'chain.txt', 'closing.json', 'result.json', 'result.txt',
    'differences.csv', 'notes.csv', 'SHA256SUMS')
  OR MIN(k.part) <> 0
  OR MAX(k.part) <> COUNT(*) - 1
  OR MIN(LENGTH(k.body)) < 1
  OR MAX(LENGTH(k.body)) > 524288`},
	// Whoever fetches a bill says so, also of one that a person gave before. A bill that was
	// fetched by the program before migration 7 came long before somebody gave it, too; a
	// file is given within the same minute in which it is stored.
	{"books.signed", "a bill that is called WeChat Pay's was fetched, and so was the word that a day has none", `
SELECT b.bill_date, b.bill_type, b.sha1, b.source
FROM bill_files b
JOIN bill_hands g ON g.bill_date = b.bill_date
  AND g.bill_type = b.bill_type
  AND g.sha1 = b.sha1
  AND g.act = 'gave'
  AND g.at BETWEEN b.received_at AND b.received_at + 60000
LEFT JOIN bill_hands f ON f.bill_date = b.bill_date
  AND f.bill_type = b.bill_type
  AND f.sha1 = b.sha1
  AND f.act = 'fetched'
WHERE b.source = 'wechat'
  AND f.act IS NULL
UNION ALL
SELECT r.bill_date, r.bill_type, r.sha1, b.source
FROM reconciliations r
JOIN bill_files b ON b.bill_date = r.bill_date AND b.bill_type = r.bill_type AND b.received_at <= r.finished_at
JOIN bill_hands g ON g.bill_date = b.bill_date AND g.bill_type = b.bill_type AND g.sha1 = b.sha1
LEFT JOIN bill_hands f ON f.bill_date = r.bill_date
  AND f.bill_type = r.bill_type
  AND f.sha1 = ''
  AND f.act = 'fetched'
WHERE r.state = 'done'
  AND r.sha1 = ''
  AND r.bill_type <> 'FUNDFLOW'
  AND f.act IS NULL`},
	// A run resolves what it has not seen, and marks what it has; a file of one person marks,
	// and reopens nothing.
	{"books.ended", "what a run has ended it did not see, or is in the bill of the other day", `
SELECT d.id, d.bill_date, d.bill_type, d.kind, d.ref, d.resolution
FROM differences d
JOIN reconciliations r ON r.bill_date = d.bill_date AND r.bill_type = d.bill_type
LEFT JOIN matched_across m ON m.ref = d.ref
  AND m.kind = CASE WHEN d.kind = 'LOCAL_ONLY' THEN 'payment' ELSE 'refund' END
WHERE d.status = 'RESOLVED'
  AND d.resolved_by = 'reconciler'
  AND (
    (d.resolution = 'in the bill of another day' AND (
      m.ref IS NULL
      OR d.kind NOT IN ('LOCAL_ONLY', 'REFUND_LOCAL_ONLY')))
    OR (d.resolution IN ('bill and books agree now', 'healed')
      AND d.run_no = r.run_no
      AND NOT EXISTS (
        SELECT 1
        FROM bill_hands h
        WHERE h.bill_date = d.bill_date
          AND h.bill_type = d.bill_type
          AND h.act = 'gave')))`},
	// A row there hides a payment or refund from the run of its own day, when that is near.
	// Two clocks differ by minutes, which half a day leaves room for. When WeChat Pay took a
	// refund is between our first call and our last one, or its own word. The program before
	// migration 7 names no bill and matched any day; nobody goes by that.
	{"books.across", "what was matched across midnight is ours, near it, and in a bill that was reconciled", `
SELECT m.kind, m.ref, m.bill_date, m.sha1
FROM matched_across m
LEFT JOIN payments p ON m.kind = 'payment' AND p.transaction_id = m.ref
LEFT JOIN refunds r ON m.kind = 'refund' AND r.out_refund_no = m.ref
LEFT JOIN (SELECT DISTINCT bill_date FROM reconciliations) d ON d.bill_date = m.bill_date
WHERE d.bill_date IS NULL
  OR (p.transaction_id IS NULL AND r.out_refund_no IS NULL)
  OR (m.sha1 <> '' AND (
    p.paid_at < $day(m.bill_date) - 43200000
    OR p.paid_at >= $day(m.bill_date) + 129600000
    OR (r.accepted_at < $day(m.bill_date) - 43200000 AND r.asked_at < $day(m.bill_date) - 43200000)
    OR (r.accepted_at >= $day(m.bill_date) + 129600000 AND NOT r.sent_at BETWEEN 1 AND $day(m.bill_date) + 129600000)
    OR NOT EXISTS (SELECT 1 FROM bill_files b WHERE b.bill_date = m.bill_date AND b.sha1 = m.sha1)))`},
}

// differenceKinds are those of package reconcile, which this package must not import.
const differenceKinds = `'BILL_ONLY', 'LOCAL_ONLY', 'AMOUNT_MISMATCH', 'STATE_MISMATCH', 'DUPLICATE_PAYMENT',
    'REFUND_BILL_ONLY', 'REFUND_LOCAL_ONLY', 'REFUND_AMOUNT_MISMATCH', 'REFUND_STATE_MISMATCH', 'DUPLICATE_REFUND',
    'OTHER_DAY', 'REFUND_OTHER_DAY', 'IN_TWO_BILLS', 'REFUND_IN_TWO_BILLS'`

// taskChecks: what waits for somebody.
var taskChecks = []check{
	{"people.failed_tasks", "a task that failed says when and why, and is tried again soon or waits for a person", `
SELECT task_type, task_key, state, tries, first_at, last_at, next_at
FROM failed_tasks
WHERE tries < 0
  OR cause = ''
  OR first_at < 1
  OR last_at < first_at - $slack
  OR last_at > $latest
  OR (state = 'failing' AND next_at > $ahead)`},
}
