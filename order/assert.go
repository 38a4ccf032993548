package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// What must always hold of an order is asserted inside the transaction that
// writes it: before the write, of what was read and of what is about to be
// written, and of its last event and its stock flows by one primary-key read per
// batch each, where there is something to read. A transaction that would break
// an invariant is rolled back whole. Its group then runs every member by itself,
// so that the guilty one fails alone; its caller gets a *BrokenError, which the
// edge answers with a bare 500, and an operator gets a metric and an alarm.
//
// The names are those of verify where it has the same check. Verify looks at all
// rows, however they came there; this stops the one that is coming now.

// BrokenError: a transaction would have broken an invariant and was rolled back.
type BrokenError struct {
	Invariant string // one of Invariants()
	OrderNo   string
	Detail    string // for an operator
}

func (e *BrokenError) Error() string {
	return "the invariant " + e.Invariant + " would be broken: rolled back"
}

// The invariants that are asserted.
const (
	mustChain     = "events.chain"
	mustEnd       = "events.last_is_state"
	mustAllow     = "events.allowed"
	mustProve     = "close.proven"
	mustBeDue     = "order.due"
	mustTotal     = "order.total"
	mustHold      = "stock.agrees_with_state"
	mustDeduct    = "stock.deducted_once"
	mustReturn    = "stock.returned_no_more"
	mustAskLess   = "stock.refunded_no_more"
	mustPayOnce   = "money.paid_once"
	mustOwe       = "money.owed_back"
	mustNotExceed = "money.no_more_back"
	mustRefund    = "money.refunding"
	mustEmpty     = "money.refunded"
	mustWake      = "refund.due"
	mustApprove   = "refund.approved"
	mustSucceed   = "refund.one_successor"
	mustStep      = "refund.allowed"
)

// Invariants lists the names of what is asserted.
func Invariants() []string {
	return []string{mustChain, mustEnd, mustAllow, mustProve, mustBeDue, mustTotal, mustHold, mustDeduct, mustReturn, mustAskLess,
		mustPayOnce, mustOwe, mustNotExceed, mustRefund, mustEmpty, mustWake, mustApprove, mustSucceed, mustStep}
}

func broken(invariant, orderNo, format string, args ...any) error {
	return &BrokenError{Invariant: invariant, OrderNo: orderNo, Detail: fmt.Sprintf(format, args...)}
}

// tellBroken tells an operator of a transaction that was rolled back.
func (s *Service) tellBroken(err error) {
	var b *BrokenError
	if errors.As(err, &b) {
		s.observe.Broken(b.Invariant)
		s.alarm("invariant would be broken: "+b.Invariant, b.OrderNo, b.Detail)
	}
}

// walk is what a batch does to one order.
type walk struct {
	seq                       int64 // of its last event
	state                     State
	returned, retaken         int // whole orders' worth of stock
	applied, late             int // payments
	retakenUnits, wantedUnits int64
}

// holding is what a state says that an order has: one order's worth of stock,
// one payment (which may have gone back).
func (s State) holding() (stock, money int) {
	switch s {
	case StatePending, StateClosing:
		return 1, 0
	case StatePaid, StateRefunding, StateRefunded: // what came back after the sale is the refunds' business
		return 1, 1
	case StateLate:
		return 0, 1
	case StateClosed:
	}
	return 0, 0
}

// assert holds what was decided against the invariants, before it is written.
func (l *ledger) assert() error {
	if err := errors.Join(l.assertEvents(), l.assertPayments()); err != nil {
		return err
	}
	for _, no := range l.returns {
		l.orders[no].walk.returned++
	}
	if l.shelf != nil {
		for no, taken := range l.shelf.Taken {
			l.orders[no].walk.retakenUnits += taken.Quantity
		}
	}
	for _, e := range l.orders {
		if err := l.assertOrder(e); err != nil {
			return err
		}
	}
	for _, r := range l.books.refunds {
		if r.touched {
			if err := l.assertRefund(r); err != nil {
				return err
			}
		}
	}
	for no := range l.books.whole {
		if err := l.assertBooks(no); err != nil {
			return err
		}
	}
	return nil
}

// assertEvents walks the new events: each begins where the one before it ended,
// and moves as the table allows.
func (l *ledger) assertEvents() error {
	for _, e := range l.orders {
		e.walk = walk{seq: e.read.Version, state: e.read.State}
	}
	for i := range l.events {
		v := &l.events[i]
		e := l.orders[v.orderNo]
		switch {
		case e == nil || v.seq != e.walk.seq+1 || v.from != e.walk.state:
			return broken(mustChain, v.orderNo, "event %d %s begins in %s", v.seq, v.name, v.from)
		case v.from != v.to && !canMove(v.from, v.to):
			return broken(mustAllow, v.orderNo, "event %s moves from %s to %s", v.name, v.from, v.to)
		case v.from == StateClosing && v.to == StateClosed && !strings.Contains(v.detail, `"close":`):
			return broken(mustProve, v.orderNo, "closed without an answer of WeChat Pay: %s", v.detail)
		}
		e.walk.seq, e.walk.state = v.seq, v.to
	}
	return nil
}

func canMove(from, to State) bool {
	return slices.ContainsFunc(Events(), func(e Event) bool {
		c := Next(from, e)
		return c.Verdict == VerdictMove && c.To == to
	})
}

// assertPayments: a payment is on its order, whole, or owed back, whole.
func (l *ledger) assertPayments() error {
	for i := range l.payments {
		p := &l.payments[i]
		e := l.orders[p.orderNo]
		switch p.settled {
		case SettledApplied:
			if e == nil || p.Total != e.now.Total || p.refund != 0 {
				return broken(mustPayOnce, p.orderNo, "payment %s of %d fen applied", p.TransactionID, p.Total)
			}
			e.walk.applied++
		case SettledOwed:
			r := l.books.refunds[owedNo(p.TransactionID)]
			if e == nil || r == nil || !r.now.State.Committed() || r.now.Amount != p.Total || r.now.OrderNo != p.orderNo || p.refund != p.Total {
				return broken(mustOwe, p.orderNo, "payment %s of %d fen is owed and has no such refund", p.TransactionID, p.Total)
			}
			if p.reason == ReasonLate {
				e.walk.late++
			}
		case SettledHeld, SettledRepeated:
			if p.settled == SettledRepeated || p.refund != 0 {
				return broken(mustOwe, p.orderNo, "payment %s is %s and takes %d fen back", p.TransactionID, p.settled, p.refund)
			}
		}
	}
	return nil
}

// assertOrder holds a state against what the batch did to stock and money.
func (l *ledger) assertOrder(e *entry) error {
	w, no := &e.walk, e.now.OrderNo
	if e.now.Version == e.read.Version && e.tries == 0 && w.returned == 0 && w.applied+w.late == 0 {
		return nil // not written
	}
	if e.now.Version != w.seq || e.now.State != w.state || (e.read.Version == 1 && e.read.State != StatePending) {
		return broken(mustEnd, no, "%s at version %d, its events say %s at %d", e.now.State, e.now.Version, w.state, w.seq)
	}
	if open := e.now.State == StatePending || e.now.State == StateClosing; open == e.now.DueAt.IsZero() {
		return broken(mustBeDue, no, "%s, due at %v", e.now.State, e.now.DueAt)
	}
	if w.retakenUnits != 0 {
		w.retaken++
		for _, it := range l.lines[no] {
			w.wantedUnits += it.Quantity
		}
	}
	hadStock, hadMoney := e.read.State.holding()
	stock, money := e.now.State.holding()
	if e.now.State == StateRefunded {
		stock = hadStock // a late order had none, a sold one's is with the buyer or came back with its refunds
	}
	switch {
	case hadStock+w.retaken-w.returned != stock || w.retakenUnits != w.wantedUnits:
		return broken(mustHold, no, "%s to %s: returned %d times, %d of %d units taken again", e.read.State, e.now.State, w.returned, w.retakenUnits, w.wantedUnits)
	case hadMoney+w.applied+w.late != money:
		return broken(mustPayOnce, no, "%s to %s with %d payments applied and %d late", e.read.State, e.now.State, w.applied, w.late)
	}
	return nil
}

// assertRefund holds one refund against its own rules.
func (l *ledger) assertRefund(r *refundEntry) error {
	n := &r.now
	looked := n.State == RefundStateOwed || n.State == RefundStateProcessing || n.State == RefundStateAbnormal
	if looked == n.DueAt.IsZero() {
		return broken(mustWake, n.OrderNo, "refund %s is %s, due at %v", n.OutRefundNo, n.State, n.DueAt)
	}
	if r.read.Version != 0 && !refundCanBecome(r.read.State, n.State) {
		return broken(mustStep, n.OrderNo, "refund %s from %s to %s", n.OutRefundNo, r.read.State, n.State)
	}
	if n.State == RefundStateClosed && r.read.State != RefundStateClosed {
		next := l.books.refunds[nextNo(*n)]
		if next == nil || next.now.Replaces != n.OutRefundNo || next.now.Amount != n.Amount || next.now.TransactionID != n.TransactionID {
			return broken(mustSucceed, n.OrderNo, "refund %s is closed and not replaced", n.OutRefundNo)
		}
	}
	agreed := 0
	for _, a := range n.Approvals {
		if n.Requester.Type != ActorOperator || a.Approver != n.Requester.ID {
			agreed++
		}
	}
	if n.Generation == 1 && n.State != RefundStatePending && n.State != RefundStateRejected && n.State != RefundStateHeld && agreed < n.ApprovalsNeeded {
		return broken(mustApprove, n.OrderNo, "refund %s is %s with %d of %d approvals", n.OutRefundNo, n.State, agreed, n.ApprovalsNeeded)
	}
	return nil
}

// refundCanBecome reports that some events take a refund from one state to the other.
func refundCanBecome(from, to RefundState) bool {
	seen := []RefundState{from}
	for i := 0; i < len(seen); i++ {
		for _, e := range RefundEvents() {
			if c := NextRefund(seen[i], e); c.Verdict == VerdictMove && !slices.Contains(seen, c.To) {
				seen = append(seen, c.To)
			}
		}
	}
	return slices.Contains(seen, to)
}

// assertBooks holds an order against all its payments and refunds, which a batch
// with refund changes has read.
func (l *ledger) assertBooks(no string) error {
	e := l.orders[no]
	if e == nil {
		return nil
	}
	open, back, given := false, map[string]payment.Fen{}, map[string]payment.Fen{}
	lines := map[string]int64{}
	for _, r := range l.books.ofOrder[no] {
		n := &r.now
		open = open || (n.State.Open() && n.Reason == ReasonAftersale)
		if n.State.PaidBack() {
			back[n.TransactionID] += n.Amount
			back[""] += n.Amount
		}
		if n.State.Committed() {
			given[n.TransactionID] += n.Amount
			for _, it := range n.Items {
				lines[it.SkuID] += it.Quantity
			}
		}
	}
	for _, it := range l.books.items[no] {
		if lines[it.SkuID] > it.Quantity {
			return broken(mustAskLess, no, "refunds give back %d of SKU %s, %d were ordered", lines[it.SkuID], it.SkuID, it.Quantity)
		}
	}
	applied, paid, backOfPaid := e.walk.applied, e.walk.applied*int(e.now.Total), payment.Fen(0)
	for id, p := range l.books.payments {
		if p.orderNo != no {
			continue
		}
		if taken := p.taken + p.adds; taken != given[id] || taken < 0 || taken > p.amount {
			return broken(mustNotExceed, no, "payment %s of %d fen has %d taken, its refunds take %d", id, p.amount, taken, given[id])
		}
		if p.outcome == SettledApplied {
			applied, paid, backOfPaid = applied+1, paid+int(p.amount), back[id]
		}
	}
	state := e.now.State
	sold := state == StatePaid || state == StateRefunding || (state == StateRefunded && applied > 0)
	switch {
	case sold && (applied != 1 || paid != int(e.now.Total)), !sold && applied != 0:
		return broken(mustPayOnce, no, "%s with %d payments applied, %d fen of %d", state, applied, paid, e.now.Total)
	case sold && (state == StateRefunding) != open:
		return broken(mustRefund, no, "%s, a refund under way: %v", state, open)
	case sold && (state == StateRefunded) != (backOfPaid >= e.now.Total), state == StateRefunded && back[""] == 0:
		return broken(mustEmpty, no, "%s with %d of %d fen back", state, backOfPaid, e.now.Total)
	}
	return nil
}

// assertLastEvents holds the orders that were read against their last events:
// one read by primary key. A fresh order has none, its placement is the row.
func (l *ledger) assertLastEvents(ctx context.Context, tx *sqldb.Tx) error {
	var args []any
	for no, e := range l.orders {
		if e.read.Version > 1 && e.now.Version != e.read.Version {
			args = append(args, no, e.read.Version)
		}
	}
	if len(args) == 0 {
		return nil
	}
	found := 0
	err := sqldb.Each(ctx, tx, `SELECT order_no, to_state
FROM order_events
WHERE `+strings.TrimSuffix(strings.Repeat("(order_no = ? AND seq = ?) OR ", len(args)/2), " OR "), args, func(rows *sql.Rows) error {
		var no string
		var to State
		if err := rows.Scan(&no, &to); err != nil {
			return err
		}
		found++
		if e := l.orders[no]; to != e.read.State {
			return broken(mustEnd, no, "%s at version %d, its last event says %s", e.read.State, e.read.Version, to)
		}
		return nil
	})
	if err == nil && found != len(args)/2 {
		return broken(mustEnd, args[0].(string), "%d of %d orders have no event of their version", len(args)/2-found, len(args)/2)
	}
	return err
}

// assertFlows holds the flows of the orders whose stock moved against their
// lines and states: one read by primary-key prefix, after the write. What a
// shelf did not take back was told, and moved nothing.
func (l *ledger) assertFlows(ctx context.Context, tx *sqldb.Tx, refused []error) error {
	nos := slices.Clone(l.returns)
	for i, g := range l.givebacks {
		if refused[i] == nil {
			nos = append(nos, g.OrderNo)
		}
	}
	for no, e := range l.orders {
		if e.walk.retaken > 0 {
			nos = append(nos, no)
		}
	}
	if len(nos) == 0 {
		return nil
	}
	return sqldb.Each(ctx, tx, `SELECT i.order_no, i.sku_id, i.quantity,
  COALESCE(SUM(CASE WHEN f.kind = 'deduct' AND f.ref = '' THEN -f.delta ELSE 0 END), 0),
  COALESCE(SUM(-f.delta), 0),
  COALESCE(SUM(CASE WHEN f.ref IN ('`+stock.RefClose+`', '`+stock.RefRevive+`') THEN -f.delta ELSE 0 END), 0)
FROM order_items i
LEFT JOIN stock_flows f ON f.order_no = i.order_no AND f.sku_id = i.sku_id
WHERE i.order_no IN (`+sqldb.In(len(nos))+`)
GROUP BY i.order_no, i.sku_id, i.quantity`, sqldb.Args(nos), func(rows *sql.Rows) error {
		var no, sku string
		var ordered, deducted, out, closed int64
		if err := rows.Scan(&no, &sku, &ordered, &deducted, &out, &closed); err != nil {
			return err
		}
		state := l.orders[no].now.State
		held, _ := state.holding()
		switch {
		case deducted != ordered:
			return broken(mustDeduct, no, "%d of SKU %s ordered, %d deducted", ordered, sku, deducted)
		case out < 0:
			return broken(mustReturn, no, "SKU %s: %d more returned than deducted", sku, -out)
		case (held == 0 && out != 0) || (held == 1 && closed != 0):
			return broken(mustHold, no, "%s holds %d of SKU %s, its close gave back %d", state, out, sku, -closed)
		}
		return nil
	})
}

// assertPlaced holds the fresh orders of a batch against what was taken for
// them, before both are written.
func assertPlaced(outcomes []sqldb.Outcome[Placed], fresh []int, shelf *stock.Shelf) error {
	i, line := 0, 0
	var total payment.Fen
	for no, taken := range shelf.Taken {
		if i == len(fresh) {
			return broken(mustDeduct, no, "stock taken for no order")
		}
		o := &outcomes[fresh[i]].Answer.Order
		if no != o.OrderNo || line == len(o.Items) || o.Items[line].SkuID != taken.SkuID || o.Items[line].Quantity != taken.Quantity {
			return broken(mustDeduct, o.OrderNo, "%d of SKU %s taken for %s is not its line %d", taken.Quantity, taken.SkuID, no, line+1)
		}
		total += o.Items[line].UnitPrice * payment.Fen(o.Items[line].Quantity)
		if line++; line < len(o.Items) {
			continue
		}
		switch {
		case o.Total != total || total < 1:
			return broken(mustTotal, o.OrderNo, "%d fen, its lines cost %d", o.Total, total)
		case o.State != StatePending || o.Version != 1:
			return broken(mustEnd, o.OrderNo, "placed %s at version %d", o.State, o.Version)
		case o.DueAt.Before(o.ExpireAt) || !o.ExpireAt.After(o.CreatedAt):
			return broken(mustBeDue, o.OrderNo, "created %v, to be paid by %v, due at %v", o.CreatedAt, o.ExpireAt, o.DueAt)
		}
		i, line, total = i+1, 0, 0
	}
	if i != len(fresh) {
		return broken(mustDeduct, outcomes[fresh[i]].Answer.Order.OrderNo, "nothing taken for %d orders", len(fresh)-i)
	}
	return nil
}
