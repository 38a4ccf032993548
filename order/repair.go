package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/bounds"
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
	// Unsound tells why the rows that the repair rests on cannot be believed, "" when
	// they can. It is asked in the transaction of the repair, under its locks, and
	// whatever was written is undone when it has a reason. Nil: nobody is asked.
	Unsound func(ctx context.Context, tx *sqldb.Tx) (why string, err error)
}

// UnsoundError is the answer to a repair that would build on rows that are broken
// themselves. Nothing was written.
type UnsoundError struct{ Why string }

func (e *UnsoundError) Error() string { return e.Why }

// CheckRepairReason gives a *ValidationError unless a reason fits (bounds.RepairReason): it
// stands in the timelines and flows that it explains for ever.
func CheckRepairReason(reason string) error {
	var bad invalid
	bad.text("#/reason", &bounds.RepairReason, reason)
	return bad.err()
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
	"events.told":             mendTold,
}

// Repair mends one row, in a transaction of its own, through the one writer of
// orders, and writes who did it and why. done is false, and nothing was written,
// when the row is not broken any more. An *UnsoundError means that what it rests on
// is broken too, and that nothing was written. After an error that matches
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
	id, err := s.ids.next(s.cfg.Now())
	if err != nil {
		return false, err
	}
	wrote := false // also by an earlier try that was committed and whose answer was lost
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		m := mending{batch: newBatch(s), key: r.Key, tx: tx, id: id, reason: r.Reason,
			header: header{orderNo: r.OrderNo, cause: r.Cause,
				detail: map[string]string{"reason": r.Reason, "check": r.Check}}}
		m.now = s.cfg.Now().Truncate(time.Millisecond)
		needed, err := mend(ctx, &m)
		if err != nil || !needed {
			return err
		}
		if r.Unsound != nil {
			why, err := r.Unsound(ctx, tx)
			if err != nil {
				return err
			}
			if why != "" {
				return &UnsoundError{why}
			}
		}
		wrote = true
		return m.finish(ctx)
	})
	if err != nil {
		return false, err
	}
	if wrote {
		s.log.Warn("repaired", "check", r.Check, "key", r.Key, "by", r.Cause.Actor.ID, "reason", r.Reason)
	}
	return wrote, nil
}

// mending is one repair in its transaction. It loads and writes as every command
// does; it is not asserted before the write, since what it mends is broken.
type mending struct {
	*batch
	header
	key        string // of the row that is mended
	id, reason string // of this repair
	tx         *sqldb.Tx
	loaded     bool // and so there is something to write
}

// load locks the order, and reads the refunds and payments that are asked for.
func (m *mending) load(ctx context.Context, add func(n *needs)) (*entry, error) {
	n := newNeeds()
	n.order(m.orderNo)
	if add != nil {
		n.refundsOfOrder(m.orderNo)
		add(n)
	}
	m.loaded = true
	if err := m.loadNeeds(ctx, m.tx, n); err != nil {
		return nil, err
	}
	m.now = m.s.cfg.Now().Truncate(time.Millisecond) // under the locks: waiting for them took time
	r, p := m.refunds.byNo[m.key], m.refunds.payments[m.key]
	if (r != nil && r.after.OrderNo != m.orderNo) || (p != nil && p.orderNo != m.orderNo) {
		return nil, fmt.Errorf("order: %s is not of order %q", m.key, m.orderNo)
	}
	return m.orders[m.orderNo], nil
}

// refund is what is to be loaded for the repair of a refund.
func (m *mending) refund(n *needs) { n.refunds[m.key] = true }

// payment is what is to be loaded for the repair of a payment.
func (m *mending) payment(n *needs) {
	n.refunded[m.key], n.refunds[owedRefundNo(m.key)] = true, true
}

// finish writes what was decided; a return that exceeds what was taken undoes the
// repair.
func (m *mending) finish(ctx context.Context) error {
	if !m.loaded { // a counter, written already
		return nil
	}
	refused, err := m.write(ctx, m.tx)
	return errors.Join(append(refused, err)...)
}

// tell writes the repair of a refund into its order, or on the refund when it has
// none.
func (m *mending) tell(e *entry, r *refundEntry, event string) {
	r.touched = true
	if e == nil {
		r.after.DecidedBy, r.after.DecidedWhy = bounds.Actor.Cut(m.cause.Actor.ID), m.reason
	}
	m.applyToOrder(e, &m.header, r, "", event, &applied{})
}

// mendOwed makes the lost refund of a payment that is owed back. That of money that was
// held waits for people once more, however many had agreed.
func mendOwed(ctx context.Context, m *mending) (bool, error) {
	e, err := m.load(ctx, m.payment)
	p := m.refunds.payments[m.key]
	if err != nil || p == nil || p.outcome != SettledOwed || m.refunds.writtenOff(m.key) {
		return false, err
	}
	for _, r := range m.refunds.byNo {
		if r.after.TransactionID == m.key {
			return false, nil
		}
	}
	reason, err := reasonOfPayment(ctx, m.tx, m.key)
	if err != nil {
		return false, err
	}
	if reason != ReasonLate && reason != ReasonDuplicate {
		reason = ReasonHeld
	}
	fresh := &refundEntry{after: m.owedRefund(owing{transactionID: p.transactionID, orderNo: p.orderNo,
		outTradeNo: p.outTradeNo, total: p.amount, amount: p.amount, reason: reason})}
	if reason == ReasonHeld { // people decide about it, and their approvals were lost with it
		row := &fresh.after
		row.ApprovalsNeeded, row.DueAt = max(1, m.s.ApprovalsFor(p.amount)), time.Time{}
		row.State = askedState(row.ApprovalsNeeded)
	}
	m.refunds.add(fresh)
	p.adds = p.amount - p.taken
	m.tell(e, fresh, "repair.refund_owed")
	return true, nil
}

// mendSuccessor makes the refund that takes the place of one that WeChat Pay closed.
func mendSuccessor(ctx context.Context, m *mending) (bool, error) {
	e, err := m.load(ctx, m.refund)
	if err != nil {
		return false, err
	}
	row := m.refunds.byNo[m.key]
	if row == nil || row.after.State != RefundStateClosed || row.after.Reason == ReasonAftersale {
		return false, nil // what a customer asked for may have been asked for again since
	}
	for _, r := range m.refunds.byNo {
		if r.after.Replaces == m.key {
			return false, nil
		}
	}
	next := m.succeed(row)
	m.tell(e, m.refunds.byNo[next.OutRefundNo], "repair.refund_owed")
	return true, m.takeAll(row.after.TransactionID)
}

// takeAll sets what is taken of a payment to the sum of its refunds.
func (m *mending) takeAll(transactionID string) error {
	p := m.refunds.payments[transactionID]
	if p == nil {
		return ErrNotFound
	}
	sum := payment.Fen(0)
	for _, r := range m.refunds.byNo {
		if r.after.TransactionID == transactionID && r.after.State.Committed() {
			sum += r.after.Amount
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
	e, err := m.load(ctx, m.payment)
	p := m.refunds.payments[m.key]
	if err != nil || p == nil {
		return false, err
	}
	if err := m.takeAll(m.key); err != nil || p.adds <= 0 {
		p.adds = 0
		return false, err
	}
	if e != nil {
		m.record(e, &m.header, "repair.refund_sum", e.after.State, map[string]string{"transaction": m.key})
	}
	return true, nil
}

// mendRefundDue sets when a refund is looked at.
func mendRefundDue(ctx context.Context, m *mending) (bool, error) {
	e, err := m.load(ctx, m.refund)
	if err != nil {
		return false, err
	}
	row := m.refunds.byNo[m.key]
	if row == nil {
		return false, nil
	}
	under := row.after.State == RefundStateOwed || row.after.State == RefundStateProcessing ||
		row.after.State == RefundStateAbnormal
	if under != row.after.DueAt.IsZero() {
		return false, nil
	}
	row.after.DueAt = time.Time{}
	if under {
		row.after.DueAt = m.now
	}
	m.tell(e, row, "repair.refund_due")
	return true, nil
}

// mendOrderDue sets when an order is looked at.
func mendOrderDue(ctx context.Context, m *mending) (bool, error) {
	e, err := m.load(ctx, nil)
	if err != nil || e == nil {
		return false, err
	}
	open := e.after.State.waits()
	if open != e.after.DueAt.IsZero() {
		return false, nil
	}
	e.after.DueAt = time.Time{}
	switch {
	case !open:
	case e.after.State == StatePending && m.now.Before(e.after.ExpireAt.Add(m.s.cfg.Grace)):
		e.after.DueAt = e.after.ExpireAt.Add(m.s.cfg.Grace)
	default:
		e.after.DueAt = m.now
	}
	m.record(e, &m.header, "repair.due", e.after.State, nil)
	return true, nil
}

// mendReturn gives back the stock that a closed order still holds.
func mendReturn(ctx context.Context, m *mending) (bool, error) {
	e, err := m.load(ctx, nil)
	if err != nil || e == nil || (e.after.State != StateClosed && e.after.State != StateLate) {
		return false, err
	}
	held, err := heldByOrder(ctx, m.tx, m.orderNo)
	if err != nil || held <= 0 {
		return false, err
	}
	m.returns = append(m.returns, m.orderNo)
	m.record(e, &m.header, "repair.stock_returned", e.after.State, nil)
	return true, nil
}

// mendRefundReturn gives back the lines of a refund that has paid.
func mendRefundReturn(ctx context.Context, m *mending) (bool, error) {
	e, err := m.load(ctx, m.refund)
	if err != nil || e == nil {
		return false, err
	}
	row := m.refunds.byNo[m.key]
	if row == nil || !row.after.State.PaidBack() || !row.after.Restock || len(row.after.Items) == 0 {
		return false, nil
	}
	back, err := returnedUnder(ctx, m.tx, m.orderNo, m.key)
	if err != nil || back > 0 {
		return false, err
	}
	m.partial = append(m.partial, stock.PartialReturn{OrderNo: m.orderNo, Ref: m.key, Lines: row.after.Items})
	m.record(e, &m.header, "repair.stock_returned", e.after.State, map[string]string{"out_refund_no": m.key})
	return true, nil
}

// mendCounter makes the counter of a SKU and the sum of its flows agree on the smaller one.
func mendCounter(ctx context.Context, m *mending) (bool, error) {
	r, err := stock.Recount(ctx, m.tx, m.key, m.id, bounds.Actor.Cut(m.cause.Actor.ID), m.reason, m.now,
		TellLow)
	return r.Was != r.Flows, err
}
