package order

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// The invariants that are asserted. Verify has a check of the same name where it
// has the same rule for all rows (docs/verify.md).
const (
	mustChain     = "events.chain"            // an event begins where the one before it ended
	mustEnd       = "events.last_is_state"    // state and version are those of the last event
	mustAllow     = "events.allowed"          // every move is one of the table
	mustProve     = "close.proven"            // closed only with an answer of WeChat Pay, about what can be paid
	mustBeDue     = "order.due"               // somebody looks at an open order, nobody at an ended one
	mustTotal     = "order.total"             // an order costs what its lines cost
	mustHold      = "stock.agrees_with_state" // stock is held while the state says so
	mustDeduct    = "stock.deducted_once"     // every line was taken once, whole
	mustReturn    = "stock.returned_no_more"  // no more comes back than was taken
	mustAskLess   = "stock.refunded_no_more"  // refunds give back no more than was ordered
	mustPayOnce   = "money.paid_once"         // one payment makes an order paid, with its total
	mustOwe       = "money.owed_back"         // money that cannot be kept has its refund
	mustNotExceed = "money.no_more_back"      // refunds take no more than their payment
	mustRefund    = "money.refunding"         // refunding while, and only while, a refund is under way
	mustEmpty     = "money.refunded"          // refunded when, and only when, all of it went back
	mustWake      = "refund.due"              // somebody looks at a refund that is under way
	mustApprove   = "refund.approved"         // nothing is sent before enough people agreed
	mustSucceed   = "refund.one_successor"    // what WeChat closed is replaced
	mustStep      = "refund.allowed"          // every move of a refund is one of its table
	mustWriteOff  = "money.written_off"       // held money is written off by two people, and then none of it goes back
)

// Invariants lists the names of what is asserted: the labels of the metric.
func Invariants() []string {
	return []string{mustChain, mustEnd, mustAllow, mustProve, mustBeDue, mustTotal, mustHold, mustDeduct, mustReturn,
		mustAskLess, mustPayOnce, mustOwe, mustNotExceed, mustRefund, mustEmpty, mustWake, mustApprove, mustSucceed,
		mustStep, mustWriteOff}
}

// broken makes the error of an invariant. The detail is for an operator; the
// caller is told the invariant's name alone.
func broken(invariant, orderNo, format string, args ...any) error {
	return &BrokenError{Invariant: invariant, OrderNo: orderNo, Detail: fmt.Sprintf(format, args...)}
}

// brokenIn gives every *BrokenError in an error, at most one per order.
func brokenIn(err error) []*BrokenError {
	switch e := err.(type) { //nolint:errorlint // the tree of errors is walked here, node by node
	case *BrokenError:
		return []*BrokenError{e}
	case interface{ Unwrap() []error }:
		var all []*BrokenError
		for _, one := range e.Unwrap() {
			all = append(all, brokenIn(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return brokenIn(e.Unwrap())
	}
	return nil
}

// reportBroken tells metrics and operators of a transaction that was rolled back.
func (s *Service) reportBroken(err error) {
	for _, b := range brokenIn(err) {
		s.observe.Broken(b.Invariant)
		s.alarm("invariant would be broken: "+b.Invariant, b.OrderNo, b.Detail)
	}
}

// brokenOrders collects what is broken, the first invariant of each order.
type brokenOrders struct {
	seen map[string]bool
	all  []error
}

// add notes an error, nil for none.
func (c *brokenOrders) add(err error) {
	var b *BrokenError
	if err == nil || errors.As(err, &b) && c.seen[b.OrderNo] {
		return
	}
	if b != nil {
		if c.seen == nil {
			c.seen = map[string]bool{}
		}
		c.seen[b.OrderNo] = true
	}
	c.all = append(c.all, err)
}

// err is nil when nothing is broken.
func (c *brokenOrders) err() error { return errors.Join(c.all...) }

// walk is what a batch does to one order.
type walk struct {
	seq                       int64 // of its last event
	newest                    int   // number of its newest attempt, read with that event; 0 without
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

// waits reports that an order in this state is looked at when its due time comes;
// any other is never due.
func (s State) waits() bool {
	switch s {
	case StatePending, StateClosing:
		return true
	case StateClosed, StatePaid, StateRefunding, StateRefunded, StateLate:
	}
	return false
}

// sold reports that an order in this state keeps one payment as its own. A
// refunded one did if a payment was ever applied: late money went back otherwise.
func (s State) sold(applied bool) bool {
	switch s {
	case StatePaid, StateRefunding:
		return true
	case StateRefunded:
		return applied
	case StatePending, StateClosing, StateClosed, StateLate:
	}
	return false
}

// assert holds what was decided against the invariants, before it is written. It
// names every order that would break one, so that a page can go on without them.
func (b *batch) assert() error {
	var broken brokenOrders
	b.assertEvents(&broken)
	b.assertPayments(&broken)
	for _, no := range b.returns {
		b.orders[no].walk.returned++
	}
	if b.shelf != nil {
		for no, taken := range b.shelf.Taken {
			b.orders[no].walk.retakenUnits += taken.Quantity
		}
	}
	for _, e := range b.orders {
		broken.add(b.assertOrder(e))
	}
	for _, r := range b.refunds.byNo {
		if r.touched {
			broken.add(b.assertRefund(r))
		}
	}
	for no := range b.refunds.whole {
		broken.add(b.assertMoney(no))
	}
	return broken.err()
}

// assertEvents walks the new events: each begins where the one before it ended,
// and moves as the table allows.
func (b *batch) assertEvents(found *brokenOrders) {
	for _, e := range b.orders {
		e.walk = walk{seq: e.before.Version, state: e.before.State}
	}
	for i := range b.events {
		v := &b.events[i]
		e := b.orders[v.orderNo]
		switch {
		case e == nil || v.seq != e.walk.seq+1 || v.from != e.walk.state:
			found.add(broken(mustChain, v.orderNo, "event %d %s begins in %s", v.seq, v.name, v.from))
			continue
		case v.name == "":
			found.add(broken(mustChain, v.orderNo, "event %d to %s has no name", v.seq, v.to))
		case v.from != v.to && !canMove(v.from, v.to):
			found.add(broken(mustAllow, v.orderNo, "event %s moves from %s to %s", v.name, v.from, v.to))
		case v.from == StateClosing && v.to == StateClosed && !strings.Contains(v.detail, `"close":`):
			found.add(broken(mustProve, v.orderNo, "closed without an answer of WeChat Pay: %s", v.detail))
		}
		e.walk.seq, e.walk.state = v.seq, v.to
	}
}

// assertProofs: what WeChat Pay proved is that no money can come by the trade that
// was opened last. A proof of another says nothing about it. An order without any
// attempt is closed by the number that its first one would have had.
func (b *batch) assertProofs(found *brokenOrders) {
	for i := range b.events {
		v := &b.events[i]
		if v.from != StateClosing || v.to != StateClosed {
			continue
		}
		number := attemptNo(v.orderNo, max(b.orders[v.orderNo].walk.newest, 1))
		if !strings.Contains(v.detail, `"out_trade_no":"`+number+`"`) {
			found.add(broken(mustProve, v.orderNo, "closed without a proof for %s: %s", number, v.detail))
		}
	}
}

// canMove reports that some event takes an order from one state to the other.
func canMove(from, to State) bool { return moves[[2]State{from, to}] }

// moves are the moves of the table. They are asked for with every event that is
// written.
var moves = func() map[[2]State]bool {
	all := map[[2]State]bool{}
	for _, from := range States() {
		for _, e := range Events() {
			if c := Next(from, e); c.Verdict == VerdictMove {
				all[[2]State{from, c.To}] = true
			}
		}
	}
	return all
}()

// assertPayments: a payment is on its order, whole, or owed back, whole. What was held
// went back in part elsewhere, and is owed at least what is left.
func (b *batch) assertPayments(found *brokenOrders) {
	for i := range b.payments {
		found.add(b.assertPayment(&b.payments[i]))
	}
	for id, p := range b.refunds.payments {
		row := &paymentRow{Trade: payment.Trade{TransactionID: id, Total: p.amount},
			orderNo: p.orderNo, settled: p.outcome, reason: p.reason, refund: p.taken + p.adds}
		switch {
		case b.refunds.writtenOff(id):
			if w := b.refunds.writeOffs[id]; p.owe || p.judged || p.adds != 0 || w.touched {
				found.add(b.assertWrittenOff(p, &w.after))
			}
		case p.judged:
			found.add(b.assertPayment(row))
		case p.owe:
			found.add(b.assertSentBack(row))
		}
	}
}

// assertPayment holds one new payment against its order and its refund, and counts
// it for assertOrder.
func (b *batch) assertPayment(p *paymentRow) error {
	e := b.orders[p.orderNo]
	switch p.settled {
	case SettledApplied:
		if e == nil || p.Total != e.after.Total || p.refund != 0 {
			return broken(mustPayOnce, p.orderNo, "payment %s of %d fen applied", p.TransactionID, p.Total)
		}
		e.walk.applied++
	case SettledOwed:
		if e == nil || p.refund != p.Total || !b.owes(p) {
			return broken(mustOwe, p.orderNo, "payment %s of %d fen is owed and has no such refund",
				p.TransactionID, p.Total)
		}
		if p.reason == ReasonLate {
			e.walk.late++
		}
	case SettledHeld, SettledRepeated, SettledWrittenOff:
		if p.settled != SettledHeld || p.refund != 0 {
			return broken(mustOwe, p.orderNo, "payment %s is %s and takes %d fen back",
				p.TransactionID, p.settled, p.refund)
		}
	}
	return nil
}

// assertSentBack holds a payment that a person sends back, or keeps here after all, against
// its refund and what went back elsewhere.
func (b *batch) assertSentBack(p *paymentRow) error {
	p.reason = ReasonHeld
	gone := b.refunds.goneElsewhere(p.TransactionID)
	switch {
	case p.settled == SettledHeld && p.refund != 0:
		return broken(mustOwe, p.orderNo, "payment %s is held and takes %d fen back", p.TransactionID, p.refund)
	case p.settled == SettledOwed && (p.refund > p.Total || p.refund+gone < p.Total || !b.owes(p)):
		return broken(mustOwe, p.orderNo, "payment %s of %d fen is owed, %d went back elsewhere, its refund takes %d",
			p.TransactionID, p.Total, gone, p.refund)
	}
	return nil
}

// owes reports that a payment has the refund that gives back what it says is taken of it.
func (b *batch) owes(p *paymentRow) bool {
	for _, r := range b.refunds.byNo {
		if n := &r.after; n.TransactionID == p.TransactionID && n.Reason == p.reason && n.State.Committed() &&
			n.Amount == p.refund && n.OrderNo == p.orderNo {
			return true
		}
	}
	return false
}

// assertOrder holds a state against what the batch did to stock and money.
func (b *batch) assertOrder(e *entry) error {
	w, no := &e.walk, e.after.OrderNo
	if e.after.Version == e.before.Version && e.tries == 0 && w.returned == 0 && w.applied+w.late == 0 {
		return nil // not written
	}
	if e.after.Version != w.seq || e.after.State != w.state ||
		(e.before.Version == 1 && e.before.State != StatePending) {
		return broken(mustEnd, no, "%s at version %d, its events say %s at %d",
			e.after.State, e.after.Version, w.state, w.seq)
	}
	if e.after.State.waits() == e.after.DueAt.IsZero() {
		return broken(mustBeDue, no, "%s, due at %v", e.after.State, e.after.DueAt)
	}
	if w.retakenUnits != 0 {
		w.retaken++
		for _, it := range b.lines[no] {
			w.wantedUnits += it.Quantity
		}
	}
	hadStock, hadMoney := e.before.State.holding()
	stock, money := e.after.State.holding()
	if e.after.State == StateRefunded {
		stock = hadStock // a late order had none, a sold one's is with the buyer or came back with its refunds
	}
	switch {
	case hadStock+w.retaken-w.returned != stock || w.retakenUnits != w.wantedUnits:
		return broken(mustHold, no, "%s to %s: returned %d times, %d of %d units taken again",
			e.before.State, e.after.State, w.returned, w.retakenUnits, w.wantedUnits)
	case hadMoney+w.applied+w.late != money:
		return broken(mustPayOnce, no, "%s to %s with %d payments applied and %d late",
			e.before.State, e.after.State, w.applied, w.late)
	}
	return nil
}

// assertRefund holds one refund against its own rules.
func (b *batch) assertRefund(r *refundEntry) error {
	n := &r.after
	looked := n.State == RefundStateOwed || n.State == RefundStateProcessing || n.State == RefundStateAbnormal
	if looked == n.DueAt.IsZero() {
		return broken(mustWake, n.OrderNo, "refund %s is %s, due at %v", n.OutRefundNo, n.State, n.DueAt)
	}
	if r.before.Version != 0 && !refundCanBecome(r.before.State, n.State) {
		return broken(mustStep, n.OrderNo, "refund %s from %s to %s", n.OutRefundNo, r.before.State, n.State)
	}
	if n.State == RefundStateClosed && r.before.State != RefundStateClosed {
		next := b.refunds.byNo[successorNo(*n)]
		if next == nil || next.after.Replaces != n.OutRefundNo || next.after.Amount != n.Amount ||
			next.after.TransactionID != n.TransactionID {
			return broken(mustSucceed, n.OrderNo, "refund %s is closed and not replaced", n.OutRefundNo)
		}
	}
	agreed := 0
	for _, a := range n.Approvals {
		if n.Requester.Type != ActorOperator || a.Approver != n.Requester.ID {
			agreed++
		}
	}
	sent := n.State != RefundStatePending && n.State != RefundStateRejected && n.State != RefundStateHeld
	if n.Generation == 1 && sent && agreed < n.ApprovalsNeeded {
		return broken(mustApprove, n.OrderNo, "refund %s is %s with %d of %d approvals",
			n.OutRefundNo, n.State, agreed, n.ApprovalsNeeded)
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

// goesOut reports that this batch asks for a refund of a payment, or takes the first
// turn to send one: what of it went back elsewhere counts from then on. Of those that
// are at WeChat Pay already, and of a payment that is owed back whole, WeChat Pay
// decides.
func (b *batch) goesOut(transactionID string) bool {
	for _, r := range b.refunds.byNo {
		n := &r.after
		asked := r.before.Version == 0 && n.Reason == ReasonAftersale && n.Generation == 1
		sent := r.before.SentAt.IsZero() && !n.SentAt.IsZero()
		if n.TransactionID == transactionID && n.State.Committed() && (asked || sent) {
			return true
		}
	}
	return false
}

// assertMoney holds an order against all its payments and refunds, which a batch
// with refund changes has read.
func (b *batch) assertMoney(no string) error {
	e := b.orders[no]
	if e == nil {
		return nil
	}
	open, back, given := false, map[string]payment.Fen{}, map[string]payment.Fen{}
	lines := map[string]int64{}
	for _, r := range b.refunds.ofOrder[no] {
		n := &r.after
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
	for _, it := range b.refunds.items[no] {
		if lines[it.SkuID] > it.Quantity {
			return broken(mustAskLess, no, "refunds give back %d of SKU %s, %d were ordered",
				lines[it.SkuID], it.SkuID, it.Quantity)
		}
	}
	applied, paid, backOfPaid := e.walk.applied, e.walk.applied*int(e.after.Total), payment.Fen(0)
	for id, p := range b.refunds.payments {
		if p.orderNo != no {
			continue
		}
		if taken := p.taken + p.adds; taken != given[id] || taken < 0 || taken > p.amount {
			return broken(mustNotExceed, no, "payment %s of %d fen has %d taken, its refunds take %d",
				id, p.amount, taken, given[id])
		}
		if back, _ := b.refunds.elsewhere(id); b.goesOut(id) && given[id]+back > p.amount {
			return broken(mustNotExceed, no, "payment %s of %d fen has %d back elsewhere, its refunds take %d",
				id, p.amount, back, given[id])
		}
		if p.outcome == SettledApplied && !p.judged { // what this batch has applied is counted already
			applied, paid, backOfPaid = applied+1, paid+int(p.amount), back[id]
		}
	}
	state := e.after.State
	sold := state.sold(applied > 0)
	switch {
	case sold && (applied != 1 || paid != int(e.after.Total)), !sold && applied != 0:
		return broken(mustPayOnce, no, "%s with %d payments applied, %d fen of %d", state, applied, paid, e.after.Total)
	case sold && (state == StateRefunding) != open:
		return broken(mustRefund, no, "%s, a refund under way: %v", state, open)
	case sold && (state == StateRefunded) != (backOfPaid >= e.after.Total), state == StateRefunded && back[""] == 0:
		return broken(mustEmpty, no, "%s with %d of %d fen back", state, backOfPaid, e.after.Total)
	}
	return nil
}

// assertLastEvents holds the orders as they were loaded, or believed, against
// their last events, by primary key, and the proofs of those that were closed against
// their attempts. A fresh order has no event, its placement is the row.
func (b *batch) assertLastEvents(ctx context.Context, tx *sqldb.Tx) error {
	at := map[int64][]string{} // orders by their version, which is the number of their last event
	for no, e := range b.orders {
		if e.before.Version > 1 && e.after.Version != e.before.Version {
			at[e.before.Version] = append(at[e.before.Version], no)
		}
	}
	var found brokenOrders
	for _, version := range slices.Sorted(maps.Keys(at)) {
		nos := at[version]
		slices.Sort(nos)
		there := make(map[string]bool, len(nos))
		err := eachState(ctx, tx, version, nos, func(no string, to State, newest int) {
			there[no], b.orders[no].walk.newest = true, newest
			if was := b.orders[no].before.State; to != was {
				found.add(broken(mustEnd, no, "%s at version %d, its last event says %s", was, version, to))
			}
		})
		if err != nil {
			return fmt.Errorf("read last events: %w", err)
		}
		for _, no := range nos {
			if !there[no] {
				found.add(broken(mustEnd, no, "%s at version %d, which no event has",
					b.orders[no].before.State, version))
			}
		}
	}
	b.assertProofs(&found)
	return found.err()
}

// assertFlows holds the flows of the orders whose stock moved against their lines
// and states, after the write. Lines that a refund could not give back moved
// nothing. The flows of closed orders are those that their return has read under
// the locks and added to; the others are read again.
func (b *batch) assertFlows(ctx context.Context, tx *sqldb.Tx, refused []error) error {
	var again []string
	for i, g := range b.partial {
		if refused[i] == nil {
			again = append(again, g.OrderNo)
		}
	}
	for no, e := range b.orders {
		if e.walk.retaken > 0 {
			again = append(again, no)
		}
	}
	if len(again)+len(b.returns) == 0 {
		return nil
	}
	more, err := stock.ReadFlows(ctx, tx, again)
	if err != nil {
		return err
	}
	flows := make(map[string][]stock.LineFlows, len(b.orders))
	for _, lines := range [][]stock.LineFlows{b.flows, more} {
		for len(lines) > 0 {
			n := 1
			for n < len(lines) && lines[n].OrderNo == lines[0].OrderNo {
				n++
			}
			flows[lines[0].OrderNo], lines = lines[:n], lines[n:]
		}
	}
	var found brokenOrders
	err = eachItem(ctx, tx, slices.Concat(b.returns, again), func(no, sku string, ordered int64) {
		var line stock.LineFlows // nothing was ever taken
		if i := slices.IndexFunc(flows[no], func(l stock.LineFlows) bool { return l.SkuID == sku }); i >= 0 {
			line = flows[no][i]
		}
		found.add(b.assertLine(no, sku, ordered, line))
	})
	if err != nil {
		return fmt.Errorf("read the lines of orders: %w", err)
	}
	return found.err()
}

// assertLine holds the flows of one line against the state of its order.
func (b *batch) assertLine(no, sku string, ordered int64, l stock.LineFlows) error {
	state := b.orders[no].after.State
	held, _ := state.holding()
	switch {
	case l.Deducted != ordered:
		return broken(mustDeduct, no, "%d of SKU %s ordered, %d deducted", ordered, sku, l.Deducted)
	case l.Out < 0:
		return broken(mustReturn, no, "SKU %s: %d more returned than deducted", sku, -l.Out)
	case (held == 0 && l.Out != 0) || (held == 1 && l.Closed != 0):
		return broken(mustHold, no, "%s holds %d of SKU %s, its close gave back %d", state, l.Out, sku, -l.Closed)
	}
	return nil
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
		if no != o.OrderNo || line == len(o.Items) ||
			o.Items[line].SkuID != taken.SkuID || o.Items[line].Quantity != taken.Quantity {
			return broken(mustDeduct, o.OrderNo, "%d of SKU %s taken for %s is not its line %d",
				taken.Quantity, taken.SkuID, no, line+1)
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
			return broken(mustBeDue, o.OrderNo, "created %v, to be paid by %v, due at %v",
				o.CreatedAt, o.ExpireAt, o.DueAt)
		}
		i, line, total = i+1, 0, 0
	}
	if i != len(fresh) {
		return broken(mustDeduct, outcomes[fresh[i]].Answer.Order.OrderNo, "nothing taken for %d orders", len(fresh)-i)
	}
	return nil
}
