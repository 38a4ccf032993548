package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/feed"
)

// maxRepairs bounds the rows of one check that a run looks at, so that its report
// fits into memory; the next run goes on.
const maxRepairs = 10_000

// RepairOptions say what Repair does. The zero value plans and writes nothing.
type RepairOptions struct {
	Apply  bool        // repair; otherwise only say what would be done
	Reason string      // of 1 to 200 characters, needed to apply
	Cause  order.Cause // who applies
}

// Repair is one row that can be repaired honestly.
type Repair struct {
	Check string `json:"check"` // the id of the check that it breaks
	Key   string `json:"key"`   // its order, refund, transaction or SKU
	Do    string `json:"do"`    // what is done about it
	Why   string `json:"why"`   // why that makes nothing up
	// Outcome is "" for a plan, "done", "no longer needed", "not repairable" and why,
	// also in a plan, or why it failed.
	Outcome string `json:"outcome"`
}

// LeftOver is a broken invariant that no program repairs honestly: mending it would
// make something up, such as an event that nobody saw.
type LeftOver struct {
	Check string `json:"check"` // its id
	Count int    `json:"count"` // of the rows that are left
	Next  string `json:"next"`  // what a person does about them
}

// Repairs is what can be repaired, and what is left for a person.
type Repairs struct {
	Repairs []Repair   `json:"repairs"`
	Left    []LeftOver `json:"left"`
	Applied bool       `json:"applied"` // false: this is a plan
}

// repairKind finds the rows of one check that can be repaired: find gives the key
// of each and the number of its order. What is done about a row is decided again,
// and done, by order.Service.Repair.
type repairKind struct {
	check, do, why, find string
	// rests are the checks of the rows that the repair believes, narrowed to the
	// order or the SKU of its row: where one of them finds something the repair would
	// build on it, and is not done. A check that cannot be narrowed must find nothing
	// anywhere.
	rests []string
	of    subject
}

// What most repairs believe.
var (
	// wholeTimeline: the state of an order is that which its events led to.
	wholeTimeline = []string{"events.last_is_state", "events.chain", "events.allowed", "events.one_end"}
	// wholeFlows: what an order took and gave back is what its lines, its state, its
	// close and its refunds say.
	wholeFlows = []string{"order.total", "order.lines", "stock.deducted_once", "stock.revived_once",
		"stock.no_stray_flow", "stock.returned_no_more", "stock.return_has_refund"}
	// wholeMoney: what came for an order is what its events and its attempt say.
	wholeMoney = []string{"money.paid_once", "money.facts", "money.of_its_attempt", "money.outcome",
		"events.payments"}
	// wholePast: the refunds of an order are of its payments and in the states of its events.
	// One that is lost may be among what was sent.
	wholePast = []string{"refund.facts", "refund.states", "refund.approved", "money.refund_of_order",
		"events.refunds"}
	// wholeRefunds: and what each of them gives back, money and goods, is what was asked for,
	// agreed to and sent. It is what a repair of a refund's row takes from that row.
	wholeRefunds = append([]string{"refund.told", "refund.lines_told", "refund.terms_told"}, wholePast...)
	// unnamedSKU: what is lost of an order may have been units of any SKU.
	unnamedSKU = []string{"order.line_of_an_order", "events.of_an_order", "attempt.of_an_order", "money.accounted"}
)

// broken is a row that a repairKind has found. orderNo is "" where the row is of no
// order, such as a SKU's.
type broken struct{ key, orderNo string }

// repairKinds are in an order in which an earlier one leaves nothing half done
// for a later one: money, times, goods, and the counters last.
var repairKinds = []repairKind{
	{"money.owed_back", "owe the payment back, under the number it always had",
		"the payment says that it is owed back; its refund's number is made from the transaction's, and " +
			"WeChat Pay pays a number once; that of held money waits for its approvals again", `
SELECT p.transaction_id, p.order_no
FROM payments p
WHERE p.outcome = 'owed'
  AND p.order_no <> ''
  AND NOT ` + writtenOff + `
  AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.transaction_id = p.transaction_id)
  AND NOT EXISTS (
    SELECT 1
    FROM order_events e
    WHERE e.order_no = p.order_no
      AND e.event IN ('refund.succeeded', 'refund.by_hand')
      AND INSTR(e.detail, p.transaction_id) > 0)`,
		slices.Concat(wholeTimeline, wholeMoney, wholePast, []string{"money.late", "money.written_off"}), ofOrder},
	{"refund.one_successor", "make the refund that takes the place of the closed one",
		"WeChat Pay has closed the first number for good and the money is still here; the next number is " +
			"made from it", `
SELECT r.out_refund_no, r.order_no
FROM refunds r
WHERE r.state = 'closed'
  AND r.reason <> 'aftersale'
  AND NOT EXISTS (SELECT 1 FROM refunds n WHERE n.replaces = r.out_refund_no)`,
		slices.Concat(wholeTimeline, wholeMoney, wholeRefunds, []string{"stock.return_has_refund"}), ofOrder},
	{"money.no_more_back", "raise what the payment says is taken to the sum of its refunds",
		"the refunds are the record, their sum on the payment only repeats it, and raising it lets nothing " +
			"more go back", `
SELECT p.transaction_id, p.order_no
FROM payments p
JOIN refunds r ON r.transaction_id = p.transaction_id AND r.state NOT IN (` + deadRefunds + `)
GROUP BY p.transaction_id, p.order_no, p.refund_fen, p.amount_fen
HAVING SUM(r.amount_fen) > p.refund_fen
  AND SUM(r.amount_fen) <= p.amount_fen`,
		slices.Concat(wholeMoney, wholeRefunds, []string{"refund.one_successor", "stock.refunded_no_more"}), ofOrder},
	{"refund.due", "set when the refund is looked at, now for one under way and never for one that ended",
		"a look at it only asks WeChat Pay how far it is, or sends the same number again", `
SELECT out_refund_no, order_no
FROM refunds
WHERE (state IN ('owed', 'processing', 'abnormal') AND due_at IS NULL)
  OR (state NOT IN ('owed', 'processing', 'abnormal') AND due_at IS NOT NULL)`,
		slices.Concat(wholeTimeline, wholeMoney, wholeRefunds), ofOrder},
	{"order.due", "set when the order is looked at, after its deadline for an open one and never for a finished one",
		"a look at it only asks WeChat Pay, and closes what is proven unpaid", `
SELECT order_no, order_no AS of_order
FROM orders
WHERE (state IN ('pending', 'closing') AND due_at IS NULL)
  OR (state NOT IN ('pending', 'closing') AND due_at IS NOT NULL)`,
		slices.Concat(wholeTimeline, []string{"money.paid_once", "events.payments", "order.close_reason",
			"stock.agrees_with_state", "order.times", "attempt.facts"}), ofOrder},
	{"stock.agrees_with_state", "give everything back that the closed order still holds",
		"WeChat Pay's close was proven before the order closed, and the timeline has the proof", `
SELECT o.order_no, o.order_no AS of_order
FROM orders o
JOIN stock_flows f ON f.order_no = o.order_no
WHERE o.state IN ('closed', 'late')
  AND EXISTS (
    SELECT 1
    FROM order_events e
    WHERE e.order_no = o.order_no
      AND e.event = 'close.accepted'
      AND e.to_state = 'closed'
      AND e.detail LIKE '%"close":%')
GROUP BY o.order_no
HAVING SUM(f.delta) < 0`,
		slices.Concat(wholeTimeline, wholeMoney, wholeFlows, []string{"close.proven"}), ofOrder},
	{"stock.refund_returned", "give the lines of the refund back",
		"the refund has paid and says that its lines return; their flow carries its number, so that they return once", `
SELECT r.out_refund_no, r.order_no
FROM refunds r
WHERE r.state IN ('success', 'by_hand')
  AND r.restock = 1
  AND EXISTS (SELECT 1 FROM refund_items i WHERE i.out_refund_no = r.out_refund_no)
  AND NOT EXISTS (
    SELECT 1
    FROM stock_flows f
    WHERE f.order_no = r.order_no
      AND f.kind = 'return'
      AND f.ref = r.out_refund_no)`,
		slices.Concat(wholeTimeline, wholeMoney, wholeRefunds, wholeFlows,
			[]string{"stock.refunded_no_more"}), ofOrder},
	{"stock.conserved", "lower the counter, or the sum of its flows, to the smaller of the two, with a flow that " +
		"says so",
		"which of them is right only a count of the shelf tells, and what was raised would be sold without being " +
			"there; goods that are there are put back by 'stock adjust' after this", `
SELECT s.sku_id, '' AS of_order
FROM skus s
LEFT JOIN (
  SELECT sku_id, SUM(delta) AS total
  FROM stock_flows
  GROUP BY sku_id) f ON f.sku_id = s.sku_id
LEFT JOIN (` + allocated + `) b ON b.sku_id = s.sku_id
WHERE s.unlimited = 0
  AND s.available + COALESCE(b.allocated, 0) <> COALESCE(f.total, 0)
  AND COALESCE(f.total, 0) >= 0`,
		slices.Concat(wholeFlows, unnamedSKU, []string{"stock.came_in", "stock.flow_facts",
			"stock.agrees_with_state", "stock.refund_returned", "close.proven", "bucket.conserved",
			"bucket.closed_is_empty", "bucket.flow_of_its_sku"}), ofSKU},
	{"events.told", "tell the shop what happened, late, dated when it is told",
		"the timeline has it, and whoever did it, such as a program that knows no feed, told nobody; who was told " +
			"too much is told no more by it", `
SELECT CONCAT(order_no, '/', version, '/', type) AS what, order_no
FROM (` + toldQuery() + `) t
WHERE told < happened
  AND type <> '` + string(feed.StockLow) + `'`,
		wholeTimeline, ofOrder},
}

// Repair finds what can be repaired honestly and has it repaired by the service of
// orders: by flows, refunds and events with a reason, through the one writer of
// orders, each in a transaction of its own that changes nothing unless the row is
// still broken. It is safe beside a running service, and a repeat finds nothing.
// Without Apply nothing is written. What is left is named with the next step for a
// person.
func (a *Auditor) Repair(ctx context.Context, o RepairOptions) (Repairs, error) {
	if o.Apply {
		if err := order.CheckRepairReason(o.Reason); err != nil {
			return Repairs{}, err
		}
	}
	done := Repairs{Repairs: []Repair{}, Left: []LeftOver{}, Applied: o.Apply}
	before, err := a.VerifyWith(ctx, VerifyOptions{Primary: true})
	if err != nil {
		return done, err
	}
	left := map[string]int{} // rows that are broken, less those that are or would be mended
	for _, c := range before.Broken() {
		left[c.ID] = c.Count
	}
	// What is planned for before a row counts as done, as it is when the plan is applied.
	planned := func(id string, _ bool) bool { return left[id] <= 0 }
	for _, k := range repairKinds {
		found, err := a.findRepairs(ctx, k)
		if err != nil {
			return done, sqldb.Wrap("repair "+k.check, err)
		}
		for _, row := range found {
			r := Repair{Check: k.check, Key: row.key, Do: k.do, Why: k.why}
			if o.Apply {
				r.Outcome = a.applyRepair(ctx, k, row, o)
			} else if r.Outcome, err = a.unsoundNow(ctx, k, row, planned); err != nil {
				return done, sqldb.Wrap("repair "+k.check, err)
			}
			if !strings.HasPrefix(r.Outcome, notRepaired) && !strings.HasPrefix(r.Outcome, notRepairable) {
				left[k.check]--
			}
			done.Repairs = append(done.Repairs, r)
		}
	}
	for _, c := range before.Broken() {
		if n := left[c.ID]; n > 0 {
			done.Left = append(done.Left, LeftOver{Check: c.ID, Count: n, Next: nextStep(c.ID)})
		}
	}
	return done, ctx.Err()
}

// unsound tells which of the checks that a repair rests on finds something about its
// row, and what: "" when all that the repair believes is whole. skip leaves checks out,
// narrow says whether one is narrowed to the row.
func (a *Auditor) unsound(
	ctx context.Context, tx *sqldb.Tx, k repairKind, row broken, skip func(id string, narrow bool) bool,
) (string, error) {
	key := row.orderNo
	if k.of == ofSKU {
		key = row.key
	}
	for _, c := range checks {
		query, times := c.narrowed(k.of)
		if !slices.Contains(k.rests, c.id) || skip(c.id, times > 0) {
			continue
		}
		args := a.args(c)
		for range times {
			args = append(args, key)
		}
		first := ""
		err := eachRow(ctx, tx, a.text(tx.Engine(), query), args, func(row string) {
			if first == "" {
				first = row
			}
		})
		if err != nil {
			return "", sqldb.Wrap("check "+c.id, err)
		}
		if first != "" {
			return fmt.Sprintf("%s: what it rests on is broken itself, see %s: %s", notRepairable, c.id, first), nil
		}
	}
	return "", nil
}

// unsoundNow is unsound without locks.
func (a *Auditor) unsoundNow(
	ctx context.Context, k repairKind, row broken, skip func(id string, narrow bool) bool,
) (why string, err error) {
	err = a.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		why, err = a.unsound(ctx, tx, k, row, skip)
		return err
	})
	return why, err
}

// findRepairs gives the rows that a repair is planned for, at most maxRepairs. It reads
// outside any transaction: what it finds is decided again under the lock.
func (a *Auditor) findRepairs(ctx context.Context, k repairKind) ([]broken, error) {
	var found []broken
	query := strings.TrimSpace(k.find) + "\nLIMIT ?"
	err := sqldb.Each(ctx, a.db, query, []any{maxRepairs}, func(rows *sql.Rows) error {
		var row broken
		err := rows.Scan(&row.key, &row.orderNo)
		found = append(found, row)
		return err
	})
	return found, err
}

// What begins the outcome of a repair that was not done: it failed, or it must not be
// done because the rows that it rests on are broken themselves.
const (
	notRepaired   = "not repaired"
	notRepairable = "not repairable"
)

// applyRepair says what became of one repair. One that fails leaves its row as
// it was, and the others go on. Checks that read all orders are asked before the
// locks: a transaction has no time for them.
func (a *Auditor) applyRepair(ctx context.Context, k repairKind, row broken, o RepairOptions) string {
	why, err := a.unsoundNow(ctx, k, row, func(_ string, narrow bool) bool { return narrow })
	switch {
	case err != nil:
		return notRepaired + ", nothing changed: " + err.Error()
	case why != "":
		return why
	}
	done, err := a.cfg.Orders.Repair(ctx, order.RepairRequest{
		Check: k.check, Key: row.key, OrderNo: row.orderNo, Reason: o.Reason, Cause: o.Cause,
		Unsound: func(ctx context.Context, tx *sqldb.Tx) (string, error) {
			return a.unsound(ctx, tx, k, row, func(_ string, narrow bool) bool { return !narrow })
		}})
	var unsound *order.UnsoundError
	switch {
	case errors.As(err, &unsound):
		return unsound.Why
	case errors.Is(err, sqldb.ErrUnknown):
		return notRepaired + " for certain, run it again: " + err.Error()
	case err != nil:
		return notRepaired + ", nothing changed: " + err.Error()
	case done:
		return "done"
	}
	return "no longer needed"
}

// nextSteps is what a person does about what no program repairs, by the first
// word of the check.
var nextSteps = map[string]string{
	"schema": "stop the service, put the key or constraint back as migrations/sql has it, and look for what came " +
		"in twice meanwhile",
	"stock": "stop selling the SKU; 'orderd order timeline NO' and 'orderd stock show SKU' say what happened; " +
		"count the shelf, then 'orderd stock adjust' with the reason",
	"bucket": "the moves and the flows are the record of a bucket: find what was changed by hand, in the row, its " +
		"moves or its flows, and put it right; then 'orderd verify --repair' recounts the SKU",
	"gate": "stop the sale; 'orderd stock show SKU' and the table of its buyers say what happened; what a customer " +
		"has above the limit is refunded by a person",
	"close": "'orderd verify --wechat': an order closed without a proof may still take money; keep its stock " +
		"aside until WeChat Pay says CLOSED",
	"events": "an event cannot be made up: compare with a backup and the service's log, restore the lost rows from " +
		"there, and say so in the log of the incident",
	"order": "'orderd order get NO' and a backup: find which of the order, its lines and its flows was changed, " +
		"and by whom; deliver nothing until then",
	"attempt": "'orderd verify --wechat' asks whether the WeChat order can still be paid; close it on the merchant " +
		"platform if it should not",
	"money": "'orderd order sync NO', 'orderd verify --wechat' and 'orderd reconcile run --date DAY' tell what " +
		"WeChat Pay holds: its word is the truth of money; neither deliver nor refund until they agree",
	"refund": "'orderd refund get NO' and 'orderd verify --wechat' tell how far it is at WeChat Pay; then retry, " +
		"cancel or settle it by hand",
	"shipment": "'orderd order get NO' and the mini program's page of deliveries tell what was reported; say it " +
		"again there, or here with what the parcel's paper says",
	"bulk": "'orderd bulk show ID' and the timelines of its orders tell what was done: those are right; start " +
		"another run for what was not",
	"books":  "'orderd reconcile run --date DAY' again; what stays is a difference for two people",
	"people": "'orderd token list' and 'orderd tasks list': revoke what nobody knows, and run what waits again",
	"trail": "compare the rows with the lines 'trail' of the log and with the proofs of closed days, which have the " +
		"hashes; ask whoever has the database's prompt",
	"quiet": "let the service run until nothing is under way, and decide what waits for a person",
}

// nextStep gives it for a check, whose id begins with that word; "" for a word that is
// not in the table.
func nextStep(check string) string {
	word, _, _ := strings.Cut(check, ".")
	return nextSteps[word]
}
