package order

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/stock"
)

// ErrVersion: the caller acted on an older version of the order.
var ErrVersion = errors.New("the order has changed since it was read")

// change is one event brought to an order. Exactly one of event, trade, opened,
// refund and note says what it is; the others are events with more to write.
type change struct {
	orderNo    string
	customerID string // "" for everybody but the customer
	ifVersion  int64  // 0 for any
	cause      Cause

	event  Event
	reason CloseReason // with Cancel and Expire

	trade  *payment.Trade // with Pay: what WeChat says it holds
	opened *Attempt       // a prepay was answered: store it, if it still matters
	refund *refundChange  // something that happens to a refund of it
	note   string         // an event that moves nothing, such as close.unknown

	detail map[string]string
	took   time.Duration
}

// changed is what became of a change.
type changed struct {
	order   Order // header only: no items, payments or attempts
	before  State
	cell    Cell
	settled Settlement    // with Pay
	mine    bool          // with Cancel, Expire: it is now the caller's turn to ask WeChat
	due     time.Time     // with Expire: when the turn comes, unless mine
	late    time.Duration // with Expire: how long after the due time it moved
	alarms  []string

	refund        Refund // with refund changes: as it is now
	successor     Refund // the refund that takes the place of a closed one
	replayed      bool   // with an ask: it was answered before
	refundSettled RefundSettled
}

// ledger is a batch of changes being decided in memory and then written.
type ledger struct {
	s      *Service
	now    time.Time
	orders map[string]*entry
	paid   map[string]recorded // by transaction id

	events   []eventRow
	payments []paymentRow
	opened   []Attempt
	returns  []string

	books     *books
	givebacks []stock.PartialReturn
	shelf     *stock.Shelf // for orders that late money may revive; nil without
	lines     map[string][]Item
}

// entry is a locked order: as it was read, and as it becomes.
type entry struct {
	read, now Order
	tries     int64 // asks of WeChat that this batch adds
	walk      walk
}

// recorded is a payment that is in the journal.
type recorded struct {
	orderNo string
	settled Settled
	reason  string
}

// changeBatch is the one door through which the state of an order is written.
// It locks the orders of the batch in ascending order, takes every change
// through the table in order of arrival, and writes the result set by set:
// state, events, refunds, payments, stock. Nothing is decided by what was read
// alone: the UPDATE names the state it believes in and its rows are counted,
// and the next event number and the transaction id are unique keys. What must
// always hold is asserted before and after the write, see assert.go.
func (s *Service) changeBatch(ctx context.Context, tx *sqldb.Tx, batch []change) ([]sqldb.Outcome[changed], error) {
	l := &ledger{s: s}
	if err := l.read(ctx, tx, batch); err != nil {
		return nil, err
	}
	l.now = s.cfg.Now().Truncate(time.Millisecond) // under the locks: waiting for them took time
	outcomes := make([]sqldb.Outcome[changed], len(batch))
	backs := make([]int, 0, len(batch)) // whose givebacks they are
	for i := range batch {
		outcomes[i].Answer, outcomes[i].Err = l.decide(&batch[i])
		for len(backs) < len(l.givebacks) {
			backs = append(backs, i)
		}
	}
	if s.spoil != nil {
		s.spoil(l)
	}
	if err := l.assert(); err != nil {
		return nil, err
	}
	failed, err := l.write(ctx, tx)
	for i, why := range failed {
		if why != nil { // the money has gone back all the same: tell, do not fail
			a := &outcomes[backs[i]].Answer
			a.alarms = append(a.alarms, "stock of a refund not returned: "+why.Error())
		}
	}
	if err != nil {
		if sqldb.IsDuplicate(err) && len(batch) == 1 {
			// The row came between our read and our write, on an engine whose
			// locks did not keep it out. What it did is found on the next run.
			return nil, fmt.Errorf("%w: %w", sqldb.ErrLostRace, err)
		}
		return nil, err
	}
	written(batch)
	return outcomes, nil
}

// written marks the moment before COMMIT, by what the batch brings.
func written(batch []change) {
	for i := range batch {
		switch c := &batch[i]; {
		case c.trade != nil:
			failpoint.Hit("notify.written")
		case c.event == EventCloseDone:
			failpoint.Hit("close.written")
		case c.refund != nil && c.refund.told != nil && c.refund.told.Status == payment.RefundSuccess:
			failpoint.Hit("refund.written")
		}
	}
}

func (l *ledger) read(ctx context.Context, tx *sqldb.Tx, batch []change) error {
	nos, transactions := map[string]bool{}, map[string]bool{}
	for i := range batch {
		nos[batch[i].orderNo] = true
		if t := batch[i].trade; t != nil {
			transactions[t.TransactionID] = true
		}
	}
	var err error
	if l.orders, err = lockOrders(ctx, tx, slices.Sorted(maps.Keys(nos))); err != nil {
		return err
	}
	if l.paid, err = findRecorded(ctx, tx, slices.Sorted(maps.Keys(transactions))); err != nil {
		return err
	}
	if l.books, err = readBooks(ctx, tx, batch); err != nil {
		return err
	}
	return l.openShelf(ctx, tx, batch)
}

// openShelf reads the stock of the closed orders of the batch that money has
// come for, when the policy is to revive them.
func (l *ledger) openShelf(ctx context.Context, tx *sqldb.Tx, batch []change) error {
	if l.s.cfg.LatePayment != LatePolicyRevive {
		return nil
	}
	var nos []string
	for i := range batch {
		if e := l.orders[batch[i].orderNo]; batch[i].trade != nil && e != nil && e.now.State == StateClosed {
			nos = append(nos, e.now.OrderNo)
		}
	}
	if len(nos) == 0 {
		return nil
	}
	var err error
	if l.lines, err = findItems(ctx, tx, nos); err != nil {
		return err
	}
	demand := map[string]int64{}
	for _, items := range l.lines {
		for _, it := range items {
			demand[it.SkuID] += it.Quantity
		}
	}
	l.shelf, err = stock.Open(ctx, tx, demand)
	return err
}

// revive takes the stock of a closed order again and reports whether all of it
// was there.
func (l *ledger) revive(orderNo string) bool {
	if l.shelf == nil {
		return false
	}
	var lines []stock.Line
	for _, it := range l.lines[orderNo] {
		lines = append(lines, stock.Line{SkuID: it.SkuID, Quantity: it.Quantity})
	}
	return lines != nil && l.shelf.TakeAgain(orderNo, lines) == nil
}

// decide takes one change through the table, in memory.
func (l *ledger) decide(c *change) (changed, error) {
	switch {
	case c.trade != nil:
		return l.settle(c), nil
	case c.refund != nil:
		return l.refund(c)
	}
	e, ok := l.orders[c.orderNo]
	if !ok || (c.customerID != "" && c.customerID != e.now.CustomerID) {
		return changed{}, ErrNotFound
	}
	if c.ifVersion != 0 && c.ifVersion != e.now.Version {
		return changed{}, ErrVersion
	}
	switch {
	case c.opened != nil:
		return l.open(e, c), nil
	case c.note != "":
		l.record(e, c, c.note, e.now.State, nil)
		return changed{order: e.now, before: e.now.State}, nil
	}
	return l.event(e, c), nil
}

// event is cancel, expire or close_done.
func (l *ledger) event(e *entry, c *change) changed {
	done := changed{before: e.now.State, cell: Next(e.now.State, c.event)}
	if c.event == EventExpire && !e.now.DueAt.IsZero() && l.now.Before(e.now.DueAt) {
		done.cell, done.due, done.order = same(), e.now.DueAt, e.now
		return done
	}
	switch done.cell.Verdict {
	case VerdictMove:
		l.moveTo(e, c, done.cell)
		done.mine = e.now.State == StateClosing
	case VerdictSame:
		if c.event == EventExpire && e.now.State == StateClosing {
			l.nextAsk(e) // the one who gets this turn asks, the others wait for the next
			done.mine = true
		}
	case VerdictRefuse:
	case VerdictAlarm:
		done.alarms = append(done.alarms, done.cell.Why)
	}
	if c.event == EventExpire && done.cell.Verdict == VerdictMove {
		done.late = l.now.Sub(e.read.DueAt)
	}
	done.order = e.now
	return done
}

// moveTo changes the state of an order; nothing else does but orderHears, for
// what its refunds do to it.
func (l *ledger) moveTo(e *entry, c *change, cell Cell) { l.moveAs(e, c, cell, eventNames[cell.To]) }

func (l *ledger) moveAs(e *entry, c *change, cell Cell, name string) {
	from := e.now.State
	e.now.State = cell.To
	e.now.DueAt = time.Time{}
	if cell.To == StateClosing {
		e.now.CloseReason = c.reason
		l.nextAsk(e)
	}
	if cell.Effect == EffectReturnStock {
		l.returns = append(l.returns, e.now.OrderNo)
	}
	l.record(e, c, name, from, nil)
}

// eventNames names the event that brought an order into a state.
var eventNames = map[State]string{
	StateClosing: "close.requested", StateClosed: "close.accepted", StatePaid: "payment.applied", StateLate: "payment.late",
	StateRefunding: "refund.requested", StateRefunded: "refund.succeeded",
}

// nextAsk sets when WeChat is asked again if this ask stays without an answer.
func (l *ledger) nextAsk(e *entry) {
	e.now.DueAt = l.s.askAgain(l.now, e.now.CloseTries)
	e.now.CloseTries++
	e.tries++
}

// open stores the answer to a prepay. When the order left pending meanwhile the
// answer is kept for the record and must not be handed out.
func (l *ledger) open(e *entry, c *change) changed {
	l.opened = append(l.opened, *c.opened)
	if e.now.State != StatePending {
		l.record(e, c, "prepay.too_late", e.now.State, map[string]string{"out_trade_no": c.opened.OutTradeNo})
		return changed{order: e.now, before: e.now.State, cell: refuse("the order left pending before WeChat Pay answered")}
	}
	l.record(e, c, "prepay.opened", e.now.State, map[string]string{
		"out_trade_no": c.opened.OutTradeNo, "trade_type": string(c.opened.TradeType)})
	return changed{order: e.now, before: e.now.State, cell: same()}
}

// settle takes one payment in: it makes its order paid, or it is owed back, or
// it fits no order and is held for a person. It is recorded in every case.
func (l *ledger) settle(c *change) changed {
	t := c.trade
	e := l.orders[c.orderNo]
	if before, ok := l.paid[t.TransactionID]; ok {
		done := changed{settled: Settlement{OrderNo: before.orderNo, Settled: SettledRepeated, Reason: before.reason}}
		if e != nil {
			done.order, done.before, done.settled.State = e.now, e.now.State, e.now.State
		}
		return done
	}
	done := changed{settled: Settlement{OrderNo: c.orderNo}}
	if reason := l.misfit(e, t); reason != "" {
		return l.hold(e, c, done, reason)
	}
	done.before, done.cell = e.now.State, Next(e.now.State, EventPay)
	done.settled.Settled = SettledApplied
	if e.now.State == StateClosed && l.revive(c.orderNo) {
		done.cell, done.settled.Reason = Next(StateClosed, EventRevive), "revived"
	}
	switch {
	case done.settled.Reason == "revived":
		l.moveAs(e, c, done.cell, "payment.revived")
	case done.cell.Verdict == VerdictMove && done.cell.Effect == EffectNone:
		l.moveTo(e, c, done.cell)
	case done.cell.Verdict == VerdictMove:
		done.settled.Settled, done.settled.Reason = SettledOwed, ReasonLate
		l.moveTo(e, c, done.cell)
	default:
		done.settled.Settled, done.settled.Reason = SettledOwed, ReasonDuplicate
		l.record(e, c, "payment.duplicate", e.now.State, nil)
	}
	if done.settled.Settled == SettledOwed {
		done.alarms = append(done.alarms, done.settled.Reason+" payment, owed back")
		done.refund = l.owedRow(t.TransactionID, c.orderNo, t.OutTradeNo, t.Total, done.settled.Reason)
		l.books.add(&refundEntry{now: done.refund, touched: true})
	}
	l.journal(c, done.settled)
	done.order, done.settled.State = e.now, e.now.State
	return done
}

// misfit says why a payment cannot be for this order, "" when it can.
func (l *ledger) misfit(e *entry, t *payment.Trade) string {
	switch {
	case t.MchID != l.s.cfg.MchID:
		return "mchid"
	case t.AppID != l.s.cfg.AppID:
		return "appid"
	case e == nil:
		return "unknown_order"
	case t.Currency != payment.CNY && t.Currency != "": // a query of an unpaid trade leaves it out
		return "currency"
	case t.Total != e.now.Total: // what it cost, not what the buyer paid after coupons
		return "amount"
	}
	return ""
}

func (l *ledger) hold(e *entry, c *change, done changed, reason string) changed {
	done.settled.Settled, done.settled.Reason = SettledHeld, reason
	done.alarms = append(done.alarms, "payment held: "+reason)
	if e == nil {
		done.settled.OrderNo = ""
	} else {
		l.record(e, c, "payment.held", e.now.State, map[string]string{"reason": reason})
		done.order, done.before, done.settled.State = e.now, e.now.State, e.now.State
	}
	l.journal(c, done.settled)
	return done
}

func (l *ledger) journal(c *change, s Settlement) {
	l.paid[c.trade.TransactionID] = recorded{orderNo: s.OrderNo, settled: s.Settled, reason: s.Reason}
	l.payments = append(l.payments, paymentRow{Trade: *c.trade, orderNo: s.OrderNo, at: l.now,
		source: c.cause.Type, settled: s.Settled, reason: s.Reason, refund: owedOf(c.trade, s)})
}

// owedOf is what of a payment is owed back from the start.
func owedOf(t *payment.Trade, s Settlement) payment.Fen {
	if s.Settled == SettledOwed {
		return t.Total
	}
	return 0
}

// stamp is the time of what is written about an order: now, but never before
// what was written last. Another replica wrote that, by its own clock. What is
// due is decided by now alone.
func (l *ledger) stamp(e *entry) time.Time { return later(l.now, e.now.UpdatedAt) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// record adds an event; every event is a version.
func (l *ledger) record(e *entry, c *change, name string, from State, extra map[string]string) {
	e.now.Version++
	e.now.UpdatedAt = l.stamp(e)
	detail := maps.Clone(c.detail)
	if detail == nil {
		detail = map[string]string{}
	}
	maps.Copy(detail, extra)
	if c.trade != nil {
		detail["transaction_id"], detail["out_trade_no"] = c.trade.TransactionID, c.trade.OutTradeNo
		detail["total"] = c.trade.Total.String()
	}
	l.events = append(l.events, eventRow{orderNo: e.now.OrderNo, seq: e.now.Version, at: e.now.UpdatedAt, name: name,
		from: from, to: e.now.State, cause: c.cause, detail: encodeDetail(detail), took: c.took})
}

// maxDetail is the width of order_events.detail in characters; values are cut
// to fit, since a detail explains and never decides.
const maxDetail = 1000

func encodeDetail(detail map[string]string) string {
	if len(detail) == 0 {
		return ""
	}
	for limit := maxDetail / 2; ; limit /= 2 {
		b, err := json.Marshal(detail)
		if err == nil && len(b) <= maxDetail {
			return string(b)
		}
		for k, v := range detail {
			if len(v) > limit {
				detail[k] = strings.ToValidUTF8(v[:limit], "")
			}
		}
		if limit == 0 {
			return ""
		}
	}
}

// write writes what was decided, in the lock order of doc.go. It gives one
// answer per giveback.
func (l *ledger) write(ctx context.Context, tx *sqldb.Tx) ([]error, error) {
	for _, part := range []func(context.Context, *sqldb.Tx) error{l.assertLastEvents, l.writeOrders, l.writeRefunds, l.writeTaken, l.writeRows} {
		if err := part(ctx, tx); err != nil {
			return nil, err
		}
	}
	if len(l.returns) > 0 {
		at := l.now
		for _, no := range l.returns { // not before the close that proves them
			at = later(at, l.orders[no].now.UpdatedAt)
		}
		if err := stock.ReturnAll(ctx, tx, l.returns, stock.RefClose, at); err != nil {
			return nil, err
		}
	}
	if l.shelf != nil {
		if err := l.shelf.Commit(ctx, tx, l.now); err != nil {
			return nil, err
		}
	}
	var failed []error
	if len(l.givebacks) > 0 {
		var err error
		if failed, err = stock.ReturnLines(ctx, tx, l.givebacks, l.now); err != nil {
			return nil, err
		}
	}
	return failed, l.assertFlows(ctx, tx, failed)
}

func (l *ledger) writeRows(ctx context.Context, tx *sqldb.Tx) error {
	if err := insertPayments(ctx, tx, l.payments); err != nil {
		return err
	}
	if len(l.payments) > 0 {
		failpoint.Hit("notify.journalled")
	}
	if err := insertEvents(ctx, tx, l.events); err != nil {
		return err
	}
	for _, a := range l.opened {
		if err := setAttempt(ctx, tx, a); err != nil {
			return err
		}
	}
	return nil
}

// step is everything that one UPDATE sets and believes. Orders that take the
// same step share the statement; a batch of callbacks is one.
type step struct {
	from, to State
	versions int64
	tries    int64
	due      int64 // 0 for none
	reason   CloseReason
	updated  int64
}

func (l *ledger) writeOrders(ctx context.Context, tx *sqldb.Tx) error {
	steps := map[step][]string{}
	for no, e := range l.orders {
		st := step{from: e.read.State, to: e.now.State, versions: e.now.Version - e.read.Version, tries: e.tries,
			due: toMS(e.now.DueAt), reason: e.now.CloseReason, updated: toMS(e.now.UpdatedAt)}
		if st.versions == 0 && st.tries == 0 {
			continue
		}
		steps[st] = append(steps[st], no)
	}
	sorted := slices.Collect(maps.Keys(steps))
	sort.Slice(sorted, func(i, j int) bool { return compareSteps(sorted[i], sorted[j]) < 0 })
	for _, st := range sorted {
		nos := steps[st]
		slices.Sort(nos)
		args := []any{string(st.to), st.versions, sql.NullInt64{Int64: st.due, Valid: st.due != 0}, string(st.reason), st.tries,
			st.updated, string(st.from)}
		n, err := tx.Update(ctx, `UPDATE orders
SET state = ?, version = version + ?, due_at = ?, close_reason = ?, close_tries = close_tries + ?, updated_at = ?
WHERE state = ?
  AND order_no IN (`+sqldb.In(len(nos))+`)`, append(args, sqldb.Args(nos)...)...)
		if err != nil {
			return fmt.Errorf("write the state of %d orders: %w", len(nos), err)
		}
		if n != int64(len(nos)) {
			return sqldb.ErrLostRace
		}
	}
	return nil
}

func compareSteps(a, b step) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.versions, b.versions),
		cmp.Compare(a.tries, b.tries), cmp.Compare(a.due, b.due), cmp.Compare(a.reason, b.reason), cmp.Compare(a.updated, b.updated))
}

// bring takes one change through the door and tells the world of it.
func (s *Service) bring(ctx context.Context, c change) (changed, error) {
	done, err := s.changes.Do(ctx, c)
	if err != nil {
		s.tellBroken(err)
		return done, err
	}
	for _, what := range done.alarms {
		s.alarm(what, c.orderNo, string(done.before))
	}
	if done.cell.Verdict == VerdictMove {
		s.observe.Transition(done.before, done.order.State, c.cause.Actor.Type)
		s.log.Debug("order moved", "order_no", c.orderNo, "from", done.before, "to", done.order.State, "cause", c.cause.Type)
	}
	return done, nil
}
