package audit_test

// handSeeds are what somebody with the database's prompt does to what people have to agree to, and to the people.
var handSeeds = []seed{
	{"a line of a refund lost", "DELETE FROM refund_items WHERE out_refund_no = '$waits-R01' AND sku_id = 'cup'",
		"refund.lines_told"},
	{"all lines of a refund lost", "DELETE FROM refund_items WHERE out_refund_no = '$open-R01'", "refund.lines_told"},
	{"a line of a refund that paid lost", "DELETE FROM refund_items WHERE out_refund_no = '$whole-R01'",
		"refund.lines_told"},
	{"more goods come back than were asked for", "UPDATE refund_items SET quantity = 3 WHERE out_refund_no = " +
		"'$waits-R01' AND sku_id = 'cup'", "refund.lines_told"},
	{"goods come back that nobody asked for", "INSERT INTO refund_items (out_refund_no, sku_id, quantity) VALUES " +
		"('$open-R01', 'cup', 1)", "refund.lines_told"},
	{"a refund that one may approve", "UPDATE refunds SET approvals_needed = 1 WHERE out_refund_no = '$waits-R01'",
		"refund.terms_told"},
	{"a refund that nobody has to approve", "UPDATE refunds SET approvals_needed = 0, state = 'owed', due_at = " +
		"created_at WHERE out_refund_no = '$waits-R01'", "refund.terms_told"},
	{"goods that stay with the buyer", "UPDATE refunds SET restock = 0 WHERE out_refund_no = '$waits-R01'",
		"refund.terms_told"},
	{"a successor with other terms", closedWaits + ", 'owed', created_at, 1, restock, out_refund_no, 2 FROM refunds " +
		"WHERE out_refund_no = '$waits-R01'", "refund.terms_told"},
	{"a successor without its lines", closedWaits + ", 'owed', created_at, approvals_needed, restock, " +
		"out_refund_no, 2 FROM refunds WHERE out_refund_no = '$waits-R01'", "refund.lines_told"},
	{"a refund made elsewhere that nobody looked at", "UPDATE refunds SET decided_by = 'fin', decided_why = 'x' " +
		"WHERE out_refund_no = 'MADE-ELSEWHERE'", "refund.decided"},
	{"rejected by another", "UPDATE refunds SET decided_by = 'eve' WHERE out_refund_no = '$asked-R01'",
		"refund.decided"},
	{"settled by hand by the first of two, who said nothing", "UPDATE refunds SET said_what = 'by_hand', said_by = " +
		"'fin', said_why = 'x', said_at = created_at WHERE out_refund_no = '$waits-R01'", "refund.said"},
	{"sent to a card, and nobody said so", "UPDATE refunds SET sent_to = 'MERCHANT_BANK_CARD' WHERE out_refund_no = " +
		"'$waits-R01'", "refund.said"},
	{"a call that is always on its way", "UPDATE payment_attempts SET open_calls = REPLACE(open_calls, '[18', " +
		"'[99') WHERE order_no = '$calling'", "attempt.calls"},
	{"a call after the newest", "UPDATE payment_attempts SET open_calls = REPLACE(open_calls, '[18000', " +
		"'[18001') WHERE order_no = '$calling'", "attempt.calls"},
	{"calls that are no JSON", "UPDATE payment_attempts SET open_calls = '{\"1\":[1,2]]}' WHERE order_no = " +
		"'$calling'", "attempt.calls"},
	{"an attempt lost whose call is on its way", "DELETE FROM payment_attempts WHERE order_no = '$calling'",
		"attempt.told"},
	{"an approval lost", "DELETE FROM refund_approvals", "refund.approvals_told"},
	{"an operator's refund of another operator, who may then approve", "UPDATE refunds SET requester_id = 'eve' " +
		"WHERE order_no = '$noted' AND requester_type = 'operator'", "refund.told"},
	{"a refund that was sent, under a number that was not", "UPDATE refunds SET out_refund_no = CONCAT(" +
		"out_refund_no, '9') WHERE order_no = '$twice'", "refund.told"},
	{"sent, and called never sent", "UPDATE refunds SET sent_at = 0 WHERE order_no = '$twice'", "refund.told"},
	{"never sent, and called sent", "UPDATE refunds SET sent_at = created_at WHERE order_no = '$late'", "refund.told"},
	{"never sent, and called taken", "UPDATE refunds SET state = 'processing' WHERE order_no = '$open'",
		"refund.told"},
	{"taken, and called not payable", "UPDATE refunds SET state = 'abnormal' WHERE order_no = '$twice'",
		"refund.told"},
	{"made elsewhere, of another payment", "UPDATE refunds SET transaction_id = 'x' WHERE out_refund_no = " +
		"'MADE-ELSEWHERE'", "refund.told"},
	{"a refund of no time", "UPDATE refunds SET created_at = 0 WHERE out_refund_no = 'MADE-ELSEWHERE'",
		"refund.times"},
	{"a bill of a kind that is none, given", handInto + "('2027-01-14', 'COUPONS', '$sha', 'gave', 'fin', '', '', " +
		"1800000000000)", "books.hands"},
	{"a day whose result nobody can read", seenDiff + ";UPDATE reconciliations SET result = '{'", "books.runs"},
	{"a difference whose facts nobody can read", seenDiff + ";UPDATE differences SET facts = '{'",
		"books.differences"},
	{"written off by whom he made", seenDiff + ";" + writtenOff + "'flora', proposed_by = 'adam'",
		"books.resolved_have_owners"},
	{"written off by who made him", seenDiff + ";" + writtenOff + "'adam', proposed_by = 'flora'",
		"books.resolved_have_owners"},
	{"written off by the shell", seenDiff + ";" + writtenOff + "'cli:root', proposed_by = 'flora'",
		"books.resolved_have_owners"},
	{"written off by one whom the shell made, after the shell", seenDiff + ";" + writtenOff +
		"'adam', proposed_by = 'cli:lena'", "books.resolved_have_owners"},
	{"written off by whom he made a link", seenDiff + ";INSERT INTO operator_links (sha256, person, created_by, " +
		"created_at, ends_at) VALUES ('x', 'flora', 'olga', 1, 1);" + writtenOff + "'flora', proposed_by = 'olga'",
		"books.resolved_have_owners"},
	{"written off by the same in other letters", seenDiff + ";" + writtenOff + "'F1ora', proposed_by = 'flora'",
		"books.resolved_have_owners"},
	{"a bill confirmed by the shell", givenFile + ";" + confirmedBy + "'cli:root', 'cli', 'x', " + afterStaff + ")",
		"books.hands"},
	{"a bill confirmed by the same in other letters", givenFile + ";UPDATE bill_hands SET who = 'flora';" +
		confirmedBy + "'FLORA', '', 'x', " + afterStaff + ")", "books.hands"},
	{"approved by the shell, after an operator asked", "UPDATE refund_approvals SET approver = 'cli:root', at = " +
		afterStaff + ";UPDATE refunds SET requester_type = 'operator', requester_id = 'olga' WHERE out_refund_no = " +
		"(SELECT out_refund_no FROM refund_approvals)", "refund.approved"},
	{"approved by whom the asker made", "UPDATE refund_approvals SET approver = 'flora', at = " + afterStaff +
		";UPDATE refunds SET requester_type = 'operator', requester_id = 'adam' WHERE out_refund_no = " +
		"(SELECT out_refund_no FROM refund_approvals)", "refund.approved"},
	{"a payment that is missing, healed by itself", seenDiff + ";UPDATE differences SET healable = 1",
		"books.differences"},
	{"closed by hand", "UPDATE payment_attempts SET state = 'closed', ask_at = NULL, asks = 0 WHERE out_trade_no = " +
		"'$pending-02'", "attempt.closed_told"},
	{"closed by hand, and it is being asked for", "UPDATE payment_attempts SET state = 'closed' WHERE order_no = " +
		"'$calling'", "attempt.closed_told"},
	{"a row of the audit trail that nobody wrote", trailInto + "(1, 'a', 0, 1, 'eve', '', '', '', 'refund.approve', " +
		"'x', 'because', '', '', '', '', '', '', 'x')", "trail.chain"},
	{"the audit trail without its beginning", trailInto + "(2, 'a', 0, 1, 'eve', '', '', '', 'refund.approve', " +
		"'x', 'because', '', '', '', '', '', '', 'x')", "trail.chain"},
	{"an operator under the key of another name", "UPDATE operators SET name_key = 'x' WHERE name = 'flora'",
		"people.operators"},
	{"an operator made by nobody who was here", "UPDATE operators SET created_by = 'eve' WHERE name = 'flora'",
		"people.operators"},
	{"an operator who made the own account", "UPDATE operators SET created_by = 'flora' WHERE name = 'flora'",
		"people.operators"},
	{"an operator made by somebody who came later", "UPDATE operators SET created_at = created_at - 86400000 WHERE " +
		"name = 'flora'", "people.operators"},
	{"an operator made by somebody who had left", "UPDATE operators SET created_by = 'gone', created_at = created_at " +
		"+ 100000 WHERE name = 'flora';UPDATE operators SET created_at = 1000, disabled_at = 2000 WHERE name = 'gone'",
		"people.operators"},
	{"an account that is in use again", "UPDATE operators SET disabled_at = 0 WHERE name = 'gone'",
		"people.operators"},
	{"a token that does more than its person may", "UPDATE operator_tokens SET role = 'admin' WHERE name = 'flora'",
		"people.tokens"},
	{"a token of somebody who has left", "UPDATE operator_tokens SET revoked_at = 0 WHERE name = 'gone'",
		"people.tokens"},
	{"a token that speaks for another", "UPDATE operator_tokens SET person = 'adam', role = 'admin' WHERE name = " +
		"'flora'", "people.tokens"},
	{"a token made by nobody who was here", "UPDATE operator_tokens SET created_by = 'eve' WHERE name = 'flora'",
		"people.tokens"},
	{"a refund matched across to a day far away", runInto + "('2027-01-10', 'ALL', 'failed', 1, 'x', 1, 1, '');" +
		billInto + "('2027-01-10', 'ALL', '$sha', 'wechat', 1, 1, 1800000000000);" + pieceInto + ";INSERT INTO " +
		"matched_across (kind, ref, bill_date, sha1) VALUES ('refund', '$whole-R01', '2027-01-10', '$sha')",
		"books.across"},
	{"matched across to a bill that is not there", runInto + "('2027-01-15', 'ALL', 'failed', 1, 'x', 1, 1, '');" +
		"INSERT INTO matched_across (kind, ref, bill_date, sha1) VALUES ('refund', '$whole-R01', '2027-01-15', '$sha')",
		"books.across"},
}

// closedWaits closes the waiting refund and puts a successor there; its columns end with replaces and generation.
const closedWaits = "UPDATE refunds SET state = 'closed', due_at = NULL WHERE out_refund_no = '$waits-R01';" +
	"INSERT INTO refunds (out_refund_no, order_no, transaction_id, amount_fen, reason, created_at, updated_at, " +
	"out_trade_no, total_fen, requester_type, requester_id, state, due_at, approvals_needed, restock, replaces, " +
	"generation) SELECT CONCAT(out_refund_no, '-2'), order_no, transaction_id, amount_fen, reason, created_at, " +
	"updated_at, out_trade_no, total_fen, requester_type, requester_id"

// What is done by people who are there: a second after the staff of the world was made.
const (
	afterStaff = "(SELECT MAX(created_at) + 1000 FROM operators)"
	writtenOff = "UPDATE differences SET status = 'WRITTEN_OFF', resolution = 'written off', resolved_why = 'x', " +
		"proposed_why = 'x', resolved_at = " + afterStaff + ", resolved_by = "
	confirmedBy = handInto + "('2027-01-14', 'ALL', '$sha', 'confirmed', "
)
