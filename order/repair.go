package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// RepairRequest names one broken row and says who repairs it and why. Package
// order/audit finds such rows.
type RepairRequest struct {
	Check   string // that found the row: the id of a check that has a repair
	Key     string // of the row: order, refund, transaction or SKU, as the check has it
	OrderNo string // the order that the row belongs to, "" for none
	Reason  string // see CheckRepairReason
	Cause   Cause  // who repairs
}

// CheckRepairReason gives a *ValidationError unless a reason has 1 to 200
// characters: it stands in the timelines and flows that it explains for ever.
func CheckRepairReason(reason string) error {
	if n := utf8.RuneCountInString(reason); n == 0 || n > maxDecision {
		return &ValidationError{Fields: []FieldError{
			{"#/reason", "REQUIRED", "a reason of 1 to 200 characters is needed"}}}
	}
	return nil
}

// RefundEventName names the event of an order that tells that a refund of it came
// into a state, "" for a state that no event of its own tells.
func RefundEventName(s RefundState) string { return refundNames[s] }

// mends repair what one check finds, by the id of the check. Each runs in a
// transaction of its own and decides again, under the order's lock, whether there
// is still something to do; false: there is not.
var mends = map[string]func(ctx context.Context, m *mending) (needed bool, err error){
	"money.owed_back":         mendOwed,
	"refund.one_successor":    mendSuccessor,
	"money.no_more_back":      mendTaken,
	"refund.due":              mendRefundDue,
	"order.due":               mendOrderDue,
	"stock.agrees_with_state": mendReturn,
	"stock.refund_returned":   mendRefundReturn,
	"stock.conserved":         mendCounter,
}

// Repair mends one row, in a transaction of its own, through the one writer of
// orders, and writes who did it and why. done is false, and nothing was written,
// when the row is not broken any more. After an error that matches
// sqldb.ErrUnknown it may have been written or not: to repeat it does no harm.
// After any other error nothing was written.
func (s *Service) Repair(ctx context.Context, r RepairRequest) (done bool, err error) {
	mend := mends[r.Check]
	if mend == nil {
		return false, fmt.Errorf("order: what check %q finds cannot be repaired", r.Check)
	}
	if err := CheckRepairReason(r.Reason); err != nil {
		return false, err
	}
	id, err := s.newOrderNo(s.cfg.Now())
	if err != nil {
		return false, err
	}
	wrote := false // also by an earlier try that was committed and whose answer was lost
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		m := mending{s: s, key: r.Key, orderNo: r.OrderNo, tx: tx, id: id, reason: r.Reason,
			c: change{orderNo: r.OrderNo, cause: r.Cause,
				detail: map[string]string{"reason": r.Reason, "check": r.Check}},
			l: &ledger{s: s, now: s.cfg.Now().Truncate(time.Millisecond)}}
		needed, err := mend(ctx, &m)
		if err != nil || !needed {
			return err
		}
		wrote = true
		return m.write(ctx)
	})
	if err != nil {
		return false, err
	}
	if wrote {
		s.log.Warn("repaired", "check", r.Check, "key", r.Key, "by", r.Cause.Actor.ID, "reason", r.Reason)
	}
	return wrote, nil
}

// mending is one repair in its transaction.
type mending struct {
	s            *Service
	key, orderNo string
	id, reason   string // of this repair
	tx           *sqldb.Tx
	c            change
	l            *ledger
}

// read locks the order and reads it with its refunds and payments, or the refund or
// payment of r when it has no order.
func (m *mending) read(ctx context.Context, r *refundChange) (*entry, error) {
	m.c.refund = r
	err := m.l.read(ctx, m.tx, []change{m.c})
	return m.l.orders[m.orderNo], err
}

// write writes what was decided as any other change of an order is written; a
// return that exceeds what was taken undoes the repair.
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

// mendOwed makes the lost refund of a payment that is owed back.
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

// mendSuccessor makes the refund that takes the place of one that WeChat Pay closed.
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

// mendTaken raises what a payment says is taken of it.
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

// mendRefundDue sets when a refund is looked at.
func mendRefundDue(ctx context.Context, m *mending) (bool, error) {
	e, err := m.read(ctx, &refundChange{no: m.key})
	if err != nil {
		return false, err
	}
	row := m.l.books.refunds[m.key]
	if row == nil {
		return false, nil
	}
	under := row.now.State == RefundStateOwed || row.now.State == RefundStateProcessing ||
		row.now.State == RefundStateAbnormal
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

// mendOrderDue sets when an order is looked at.
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

// mendReturn gives back what a closed order still holds.
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

// mendRefundReturn gives the lines of a refund back that has paid.
func mendRefundReturn(ctx context.Context, m *mending) (bool, error) {
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
	m.l.givebacks = append(m.l.givebacks, stock.PartialReturn{OrderNo: m.orderNo, Ref: m.key, Lines: row.now.Items})
	m.l.record(e, &m.c, "repair.stock_returned", e.now.State, map[string]string{"out_refund_no": m.key})
	return true, nil
}

// mendCounter sets a counter of stock to the sum of its flows.
func mendCounter(ctx context.Context, m *mending) (bool, error) {
	r, err := stock.Recount(ctx, m.tx, m.key, m.id, cut(m.c.cause.Actor.ID, 64), m.reason, m.l.now)
	return r.Was != r.Now, err
}
