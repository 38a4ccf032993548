package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// maxRepairs bounds the rows of one kind that a run looks at; the next run goes on.
const maxRepairs = 10_000

// RepairOptions say what Repair does.
type RepairOptions struct {
	Apply  bool   // do it; otherwise say what would be done
	Reason string // of 1 to 200 characters, needed to apply
	Cause  Cause  // who applies
}

// Repair is one row that can be repaired honestly.
type Repair struct {
	Check string `json:"check"`
	Key   string `json:"key"` // order, refund, transaction or SKU
	Do    string `json:"do"`
	Why   string `json:"why"` // that this is honest
	// Outcome is "" for a plan, "done", "no longer needed", or why it failed.
	Outcome string `json:"outcome"`
}

// LeftOver is a broken invariant that no program repairs honestly.
type LeftOver struct {
	Check string `json:"check"`
	Count int    `json:"count"`
	Next  string `json:"next"` // for a person
}

// Repairs is what can be repaired, and what is left for a person.
type Repairs struct {
	Repairs []Repair   `json:"repairs"`
	Left    []LeftOver `json:"left"`
	Applied bool       `json:"applied"`
}

// repairKind mends what one check finds. find gives the key of every row and the
// number of its order; mend runs in a transaction of its own and decides again,
// under the order's lock, whether there is still something to do.
type repairKind struct {
	check, do, why, find string
	mend                 func(ctx context.Context, m *mending) (needed bool, err error)
}

// repairKinds are in an order in which an earlier one leaves nothing half done
// for a later one: money, times, goods, and the counters last.
var repairKinds = []repairKind{
	{"money.owed_back", "owe the payment back, under the number it always had",
		"the payment says that it is owed back; its refund's number is made from the transaction's, and WeChat Pay pays a number once", `
SELECT p.transaction_id, p.order_no
FROM payments p
WHERE p.outcome = 'owed'
  AND p.order_no <> ''
  AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.transaction_id = p.transaction_id)
  AND NOT EXISTS (
    SELECT 1
    FROM order_events e
    WHERE e.order_no = p.order_no
      AND e.event IN ('refund.succeeded', 'refund.by_hand')
      AND INSTR(e.detail, p.transaction_id) > 0)`, mendOwed},
	{"refund.one_successor", "make the refund that takes the place of the closed one",
		"WeChat Pay has closed the first number for good and the money is still here; the next number is made from it", `
SELECT r.out_refund_no, r.order_no
FROM refunds r
WHERE r.state = 'closed'
  AND r.reason <> 'aftersale'
  AND NOT EXISTS (SELECT 1 FROM refunds n WHERE n.replaces = r.out_refund_no)`, mendSuccessor},
	{"money.no_more_back", "raise what the payment says is taken to the sum of its refunds",
		"the refunds are the record, their sum on the payment only repeats it, and raising it lets nothing more go back", `
SELECT p.transaction_id, p.order_no
FROM payments p
JOIN refunds r ON r.transaction_id = p.transaction_id AND r.state NOT IN (` + deadRefunds + `)
GROUP BY p.transaction_id, p.order_no, p.refund_fen, p.amount_fen
HAVING SUM(r.amount_fen) > p.refund_fen
  AND SUM(r.amount_fen) <= p.amount_fen`, mendTaken},
	{"refund.due", "set when the refund is looked at, now for one under way and never for one that ended",
		"a look at it only asks WeChat Pay how far it is, or sends the same number again", `
SELECT out_refund_no, order_no
FROM refunds
WHERE (state IN ('owed', 'processing', 'abnormal') AND due_at IS NULL)
  OR (state NOT IN ('owed', 'processing', 'abnormal') AND due_at IS NOT NULL)`, mendRefundDue},
	{"order.due", "set when the order is looked at, after its deadline for an open one and never for a finished one",
		"a look at it only asks WeChat Pay, and closes what is proven unpaid", `
SELECT order_no, order_no AS of_order
FROM orders
WHERE (state IN ('pending', 'closing') AND due_at IS NULL)
  OR (state NOT IN ('pending', 'closing') AND due_at IS NOT NULL)`, mendOrderDue},
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
HAVING SUM(f.delta) < 0`, mendReturn},
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
      AND f.ref = r.out_refund_no)`, mendGiveback},
	{"stock.conserved", "set the counter to the sum of its flows, with a flow of nothing that says so",
		"every flow has an order or a person behind it and the counter only repeats their sum; goods that did come in are replenished after this", `
SELECT s.sku_id, '' AS of_order
FROM skus s
LEFT JOIN (
  SELECT sku_id, SUM(delta) AS total
  FROM stock_flows
  GROUP BY sku_id) f ON f.sku_id = s.sku_id
WHERE s.unlimited = 0
  AND s.available <> COALESCE(f.total, 0)
  AND COALESCE(f.total, 0) >= 0`, mendCounter},
}

// Repair finds what can be repaired honestly: by flows, refunds and events with
// a reason, through the same doors as everything else, each in a transaction of
// its own that changes nothing unless the row is still broken. It is safe beside
// a running service, and a repeat finds nothing. Without Apply nothing is
// written. What is left is named with the next step for a person.
func (s *Service) Repair(ctx context.Context, o RepairOptions) (Repairs, error) {
	if n := utf8.RuneCountInString(o.Reason); o.Apply && (n == 0 || n > maxDecision) {
		return Repairs{}, &ValidationError{Fields: []FieldError{{"#/reason", "REQUIRED", "a reason of 1 to 200 characters is needed"}}}
	}
	done := Repairs{Repairs: []Repair{}, Left: []LeftOver{}, Applied: o.Apply}
	before, err := s.Verify(ctx, nil)
	if err != nil {
		return done, err
	}
	mended := map[string]int{}
	for _, k := range repairKinds {
		found, err := s.findRepairs(ctx, k)
		if err != nil {
			return done, sqldb.Wrap("repair "+k.check, err)
		}
		for _, m := range found {
			r := Repair{Check: k.check, Key: m.key, Do: k.do, Why: k.why}
			if o.Apply {
				r.Outcome = s.applyRepair(ctx, k, m, o)
			}
			if !strings.HasPrefix(r.Outcome, notRepaired) {
				mended[k.check]++
			}
			done.Repairs = append(done.Repairs, r)
		}
	}
	for _, c := range before.Broken() {
		if left := c.Count - mended[c.ID]; left > 0 {
			done.Left = append(done.Left, LeftOver{Check: c.ID, Count: left, Next: nextStep(c.ID)})
		}
	}
	return done, ctx.Err()
}

func (s *Service) findRepairs(ctx context.Context, k repairKind) ([]mending, error) {
	var found []mending
	err := sqldb.Each(ctx, s.db, strings.TrimSpace(k.find)+"\nLIMIT ?", []any{maxRepairs}, func(rows *sql.Rows) error {
		m := mending{s: s}
		err := rows.Scan(&m.key, &m.orderNo)
		found = append(found, m)
		return err
	})
	return found, err
}

// applyRepair says what became of one repair. One that fails leaves its row as
// it was, and the others go on.
func (s *Service) applyRepair(ctx context.Context, k repairKind, m mending, o RepairOptions) string {
	outcome, wrote := "no longer needed", false
	id, err := s.newOrderNo(s.cfg.Now())
	if err != nil {
		return notRepaired + ", nothing changed: " + err.Error()
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		m := m
		m.tx, m.id, m.reason = tx, id, o.Reason
		m.c = change{orderNo: m.orderNo, cause: o.Cause, detail: map[string]string{"reason": o.Reason, "check": k.check}}
		m.l = &ledger{s: s, now: s.cfg.Now().Truncate(time.Millisecond)}
		needed, err := k.mend(ctx, &m)
		if err != nil || !needed {
			if !wrote { // or an earlier try was committed and its answer lost
				outcome = "no longer needed"
			}
			return err
		}
		outcome, wrote = "done", true
		return m.write(ctx)
	})
	switch {
	case errors.Is(err, sqldb.ErrUnknown):
		return notRepaired + " for certain, run it again: " + err.Error()
	case err != nil:
		return notRepaired + ", nothing changed: " + err.Error()
	}
	if outcome == "done" {
		s.log.Warn("repaired", "check", k.check, "key", m.key, "by", o.Cause.Actor.ID, "reason", o.Reason)
	}
	return outcome
}

// notRepaired begins the outcome of a repair that was not done.
const notRepaired = "not repaired"

// mending is one repair in its transaction.
type mending struct {
	s            *Service
	key, orderNo string
	id, reason   string // of this repair
	tx           *sqldb.Tx
	c            change
	l            *ledger
}

// read locks the order and reads its books, and those of a refund or payment.
func (m *mending) read(ctx context.Context, r *refundChange) (*entry, error) {
	m.c.refund = r
	err := m.l.read(ctx, m.tx, []change{m.c})
	return m.l.orders[m.orderNo], err
}

// write writes through the door's own hands; a giveback that exceeds what was
// taken undoes the repair.
func (m *mending) write(ctx context.Context) error {
	if m.l.books == nil { // a counter, written already
		return nil
	}
	failed, err := m.l.write(ctx, m.tx)
	return errors.Join(append(failed, err)...)
}

// hears writes the repair of a refund into its order, or on the refund when it
// has none.
func (m *mending) hears(e *entry, r *refundEntry, event string) {
	r.touched = true
	if e == nil {
		r.now.DecidedBy, r.now.DecidedWhy = cut(m.c.cause.Actor.ID, 64), m.reason
	}
	m.l.orderHears(e, &m.c, r, "", event, new(changed))
}

func mendOwed(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, &refundChange{held: m.key})
	p := m.l.books.payments[m.key]
	if err != nil || p == nil || p.outcome != SettledOwed {
		return false, err
	}
	for _, r := range m.l.books.refunds {
		if r.now.TransactionID == m.key {
			return false, nil
		}
	}
	var reason string
	if err := m.tx.QueryRowContext(ctx, `SELECT reason
FROM payments
WHERE transaction_id = ?`, m.key).Scan(&reason); err != nil {
		return false, fmt.Errorf("why %s is owed back: %w", m.key, err)
	}
	if reason != ReasonLate && reason != ReasonDuplicate {
		reason = ReasonHeld
	}
	fresh := &refundEntry{now: m.l.owedRow(p.transactionID, p.orderNo, p.outTradeNo, p.amount, reason)}
	m.l.books.add(fresh)
	p.adds = p.amount - p.taken
	m.hears(e, fresh, "repair.refund_owed")
	return true, nil
}

func mendSuccessor(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, &refundChange{no: m.key})
	if err != nil {
		return false, err
	}
	row := m.l.books.refunds[m.key]
	if row == nil || row.now.State != RefundStateClosed || row.now.Reason == ReasonAftersale {
		return false, nil // what a customer asked for may have been asked for again since
	}
	for _, r := range m.l.books.refunds {
		if r.now.Replaces == m.key {
			return false, nil
		}
	}
	next := m.l.succeed(row)
	m.hears(e, m.l.books.refunds[next.OutRefundNo], "repair.refund_owed")
	return true, m.takeAll(row.now.TransactionID)
}

// takeAll sets what is taken of a payment to the sum of its refunds.
func (m *mending) takeAll(transactionID string) error {
	p := m.l.books.payments[transactionID]
	if p == nil {
		return ErrNotFound
	}
	sum := payment.Fen(0)
	for _, r := range m.l.books.refunds {
		if r.now.TransactionID == transactionID && r.now.State.Committed() {
			sum += r.now.Amount
		}
	}
	if sum > p.amount {
		return &RefundExceedsError{Asked: sum, Left: p.amount}
	}
	p.adds = sum - p.taken
	return nil
}

func mendTaken(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, &refundChange{held: m.key})
	p := m.l.books.payments[m.key]
	if err != nil || p == nil {
		return false, err
	}
	if err := m.takeAll(m.key); err != nil || p.adds <= 0 {
		p.adds = 0
		return false, err
	}
	if e != nil {
		m.l.record(e, &m.c, "repair.refund_sum", e.now.State, map[string]string{"transaction": m.key})
	}
	return true, nil
}

func mendRefundDue(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, &refundChange{no: m.key})
	if err != nil {
		return false, err
	}
	row := m.l.books.refunds[m.key]
	if row == nil {
		return false, nil
	}
	under := row.now.State == RefundStateOwed || row.now.State == RefundStateProcessing || row.now.State == RefundStateAbnormal
	if under != row.now.DueAt.IsZero() {
		return false, nil
	}
	row.now.DueAt = time.Time{}
	if under {
		row.now.DueAt = m.l.now
	}
	m.hears(e, row, "repair.refund_due")
	return true, nil
}

func mendOrderDue(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, nil)
	if err != nil || e == nil {
		return false, err
	}
	open := e.now.State == StatePending || e.now.State == StateClosing
	if open != e.now.DueAt.IsZero() {
		return false, nil
	}
	e.now.DueAt = time.Time{}
	switch {
	case !open:
	case e.now.State == StatePending && m.l.now.Before(e.now.ExpireAt.Add(m.s.cfg.Grace)):
		e.now.DueAt = e.now.ExpireAt.Add(m.s.cfg.Grace)
	default:
		e.now.DueAt = m.l.now
	}
	m.l.record(e, &m.c, "repair.due", e.now.State, nil)
	return true, nil
}

func mendReturn(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, nil)
	if err != nil || e == nil || (e.now.State != StateClosed && e.now.State != StateLate) {
		return false, err
	}
	var out sql.NullInt64
	if err := m.tx.QueryRowContext(ctx, `SELECT SUM(delta)
FROM stock_flows
WHERE order_no = ?`, m.orderNo).Scan(&out); err != nil {
		return false, fmt.Errorf("what %s still holds: %w", m.orderNo, err)
	}
	if out.Int64 >= 0 {
		return false, nil
	}
	m.l.returns = append(m.l.returns, m.orderNo)
	m.l.record(e, &m.c, "repair.stock_returned", e.now.State, nil)
	return true, nil
}

func mendGiveback(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, &refundChange{no: m.key})
	if err != nil || e == nil {
		return false, err
	}
	row := m.l.books.refunds[m.key]
	if row == nil || !row.now.State.PaidBack() || !row.now.Restock || len(row.now.Items) == 0 {
		return false, nil
	}
	var back int64
	if err := m.tx.QueryRowContext(ctx, `SELECT COUNT(*)
FROM stock_flows
WHERE order_no = ?
  AND kind = 'return'
  AND ref = ?`, m.orderNo, m.key).Scan(&back); err != nil {
		return false, fmt.Errorf("what %s has given back: %w", m.key, err)
	}
	if back > 0 {
		return false, nil
	}
	m.l.givebacks = append(m.l.givebacks, stock.Giveback{OrderNo: m.orderNo, Ref: m.key, Lines: row.now.Items})
	m.l.record(e, &m.c, "repair.stock_returned", e.now.State, map[string]string{"out_refund_no": m.key})
	return true, nil
}

func mendCounter(ctx context.Context, m *mending) (bool, error) {
	r, err := stock.Recount(ctx, m.tx, m.key, m.id, cut(m.c.cause.Actor.ID, 64), m.reason, m.l.now)
	return r.Was != r.Now, err
}

// nextSteps is what a person does about what no program repairs, by the first
// word of the check.
var nextSteps = map[string]string{
	"schema":  "stop the service, put the key or constraint back as migrations/sql has it, and look for what came in twice meanwhile",
	"stock":   "stop selling the SKU; 'orderd order timeline NO' and 'orderd stock show SKU' say what happened; count the shelf, then 'orderd stock adjust' with the reason",
	"close":   "'orderd verify --wechat': an order closed without a proof may still take money; keep its stock aside until WeChat Pay says CLOSED",
	"events":  "an event cannot be made up: compare with a backup and the service's log, restore the lost rows from there, and say so in the log of the incident",
	"order":   "'orderd order get NO' and a backup: find which of the order, its lines and its flows was changed, and by whom; deliver nothing until then",
	"attempt": "'orderd verify --wechat' asks whether the WeChat order can still be paid; close it on the merchant platform if it should not",
	"money":   "'orderd order sync NO', 'orderd verify --wechat' and 'orderd reconcile run --date DAY' tell what WeChat Pay holds: its word is the truth of money; neither deliver nor refund until they agree",
	"refund":  "'orderd refund get NO' and 'orderd verify --wechat' tell how far it is at WeChat Pay; then retry, cancel or settle it by hand",
	"books":   "'orderd reconcile run --date DAY' again; what stays is a difference for two people",
	"quiet":   "let the service run until nothing is under way, and decide what waits for a person",
}

func nextStep(check string) string {
	word, _, _ := strings.Cut(check, ".")
	return nextSteps[word]
}
