package order

import (
	"cmp"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/shipping"
)

// command is one thing that is done to one order. Whoever wants an order changed
// makes a command and hands it to Service.apply: there is no other way to its
// state. A command says what has to be loaded for it and decides in memory, by
// the tables of machine.go and refund_machine.go; it reads and writes nothing
// itself, and may be decided several times when its transaction is run again.
//
// The commands of orders are in this file and in unanswered.go, those of refunds in
// refund_command.go, refund_decide.go and refund_status.go. A new one is a type with a decide method: the compiler asks
// for it, and the header brings the rest.
type command interface {
	// about gives what every command has.
	about() *header
	// needs adds what has to be loaded before it can decide.
	needs(n *needs)
	// decide changes the loaded order, in memory. An error is this command's
	// alone; the other commands of the batch go on.
	decide(b *batch) (applied, error)
	// beforeCommit is called when everything is written and nothing committed:
	// tests end the process there.
	beforeCommit()
}

// header is what every command has: which order, who, and why.
type header struct {
	orderNo    string // "" for money that fits no order
	customerID string // the command is for this customer's order only; "" for anybody's
	ifVersion  int64  // the command is for this version only; 0 for any
	cause      Cause
	detail     map[string]string // for the timeline
	looks      int               // runs of it alone that met another row than it had read; see lost
	took       time.Duration     // of the call to WeChat Pay whose answer this is, for the timeline
	did        *made             // what the last run of its transaction made of it, committed or not
}

// lost says what becomes of a command that was alone in its transaction, under locks,
// and met a row that it had not read: it looks again, and after maxLooks of them, when
// nobody can be between its look and its write so often, its rows are damaged.
func (h *header) lost(err error) error {
	if h.looks++; h.looks < maxLooks {
		return fmt.Errorf("%w: %w", sqldb.ErrLostRace, err)
	}
	return &DamagedError{OrderNo: h.orderNo, Err: err}
}

func (h *header) about() *header { return h }
func (h *header) needs(n *needs) { n.order(h.orderNo) }
func (h *header) beforeCommit()  {}

// applied is what became of a command.
type applied struct {
	order      Order // as it is now, without items, payments and attempts
	before     State
	cell       Cell           // what the table said
	alarms     []string       // for an operator, once it is committed
	notes      []string       // for the log, once it is committed: nobody has to do anything
	turn       turn           // of cancel, expire and claimRefund
	settlement Settlement     // of settle
	attempt    Attempt        // of endCall: as it is now
	refund     *refundApplied // of whatever made or changed a refund; nil otherwise
	journalled string         // of settle: the transaction that it has recorded; "" otherwise
	waits      bool           // of writeOffHeld: a second person is waited for
}

// turn is the right to ask WeChat Pay about an order or a refund: one caller
// has it until the next due time, which is committed before the call.
type turn struct {
	claimed bool          // it is this caller's now
	due     time.Time     // nobody's yet: it comes then
	late    time.Duration // with expire: how long after the due time the order moved
	attempt *Attempt      // with cancel and expire: what WeChat Pay has to close, nil when nothing was opened
}

// refundApplied is what became of a refund.
type refundApplied struct {
	row       Refund // as it is now
	successor Refund // takes the place of row, which WeChat Pay has closed; zero without
	replayed  bool   // with askRefund: it was answered before
	settled   RefundSettled
}

// cancel: a customer or an operator wants the order closed.
type cancel struct {
	header
	reason CloseReason
}

// decide moves a pending order to closing, and gives the caller the turn to ask
// WeChat Pay. Of an order whose time was over it only notes, once, who wants it closed
// now: somebody asks already, or has asked.
func (c *cancel) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	done := b.event(e, &c.header, EventCancel)
	switch {
	case done.cell.Verdict == VerdictMove:
		b.claimClose(e, c.reason)
		done.turn.claimed = true
	case done.cell.Effect == EffectCloseReason && b.wantClosed(e, c.reason):
		b.record(e, &c.header, eventWanted, e.after.State, nil)
	}
	done.order = e.after
	return done, nil
}

// expire: the time of the order may have come. It believes the row, not its
// caller: an early one does nothing.
type expire struct {
	header
	// queued: more orders are due than WeChat Pay takes calls. The order moves to
	// closing, keeps its due time, which is its place in the queue, and nobody has
	// its turn yet.
	queued bool
}

// decide moves a pending order that is due to closing, or takes the next turn of
// one that is closing. The turn is the caller's unless it is queued.
func (c *expire) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	due := e.after.DueAt
	if !due.IsZero() && b.now.Before(due) {
		return applied{order: e.after, before: e.after.State, cell: same(), turn: turn{due: due}}, nil
	}
	done := b.event(e, &c.header, EventExpire)
	if e.after.State != StateClosing {
		return done, nil
	}
	moved := done.cell.Verdict == VerdictMove
	switch {
	case c.queued && moved:
		b.wantClosed(e, CloseReasonTimeout)
		e.after.DueAt = due
	case c.queued: // it is in the queue already
	case moved:
		b.claimClose(e, CloseReasonTimeout)
	default: // closing, and its turn has come again
		b.nextAsk(e)
	}
	if moved {
		done.turn.late = b.now.Sub(due)
	}
	done.turn.claimed, done.order = !c.queued, e.after
	return done, nil
}

// closeDone: WeChat Pay can no longer take money for the order. The proof, what
// WeChat answered, is in the header's detail and must name the close.
type closeDone struct{ header }

// decide closes a closing order, and its stock comes back in the same transaction.
func (c *closeDone) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	return b.event(e, &c.header, EventCloseDone), nil
}

func (c *closeDone) beforeCommit() { failpoint.Hit("close.written") }

// settle takes one payment in: it makes its order paid, or it is owed back, or
// it fits no order and is held for a person. It is recorded in every case.
type settle struct {
	header
	trade payment.Trade // what WeChat Pay says that it holds
	// again: it is recorded as held, and judged once more by the configuration as it is.
	again bool
}

// newSettle makes the command for a payment. Which order it is for, its number
// says: out_trade_no comes back from WeChat Pay as we sent it.
func newSettle(trade payment.Trade, cause Cause) *settle {
	return &settle{trade: trade, header: header{orderNo: OrderNoOf(trade.OutTradeNo), cause: cause,
		detail: map[string]string{"transaction_id": trade.TransactionID, "out_trade_no": trade.OutTradeNo,
			"total": trade.Total.String()}}}
}

// needs adds whether the payment was recorded before.
func (c *settle) needs(n *needs) {
	n.order(c.orderNo)
	n.transactions[c.trade.TransactionID] = true
	n.mayOwe[c.orderNo] = append(n.mayOwe[c.orderNo], c.trade.TransactionID)
	if c.again {
		n.person(c.cause.Actor)
		n.refundsOfOrder(c.orderNo)
		n.refunded[c.trade.TransactionID], n.refundsOfPayment[c.trade.TransactionID] = true, true
	}
}

func (c *settle) beforeCommit() { failpoint.Hit("notify.written") }

// decide goes through the questions in this order: Was it recorded before? Can it
// be for this order at all? What does the table say of the order's state?
func (c *settle) decide(b *batch) (applied, error) {
	e := b.orders[c.orderNo] // nil for a number that is not one of ours
	before, ok := b.recorded[c.trade.TransactionID]
	if c.again {
		if err := c.mayJudge(b, e, before); err != nil {
			return applied{}, err
		}
	} else if ok {
		done := applied{settlement: Settlement{
			OrderNo: before.orderNo, Settled: SettledRepeated, Reason: before.reason}}
		if e != nil {
			done.order, done.before, done.settlement.State = e.after, e.after.State, e.after.State
			if before.orderNo != "" && before.orderNo != c.orderNo {
				done.alarms = append(done.alarms, "a payment is told for two orders: "+c.trade.TransactionID)
			}
		}
		return done, nil
	}
	if reason := b.misfit(e, &c.trade); reason != "" { // not again: mayJudge has looked
		return c.hold(b, e, reason), nil
	}
	done := applied{before: e.after.State, cell: Next(e.after.State, EventPay),
		settlement: Settlement{OrderNo: c.orderNo, Settled: SettledApplied}}
	s := &done.settlement
	// Of money that WeChat Pay calls refunded its buyer has some, or all: nobody waits for the goods.
	revived := e.after.State == StateClosed && c.trade.State != payment.TradeRefund && b.revive(e)
	if revived {
		done.cell, s.Reason = Next(StateClosed, EventRevive), "revived"
	}
	back := !revived && (done.cell.Verdict != VerdictMove || done.cell.Effect == EffectOweRefund)
	if c.again && back && b.s.ApprovalsFor(c.trade.Total) > 1 {
		return applied{}, &JudgedError{Reason: before.reason, Why: "its order has no use for it, and to give so " +
			"much back takes two people: send it back as money that is held"}
	}
	switch {
	case revived:
		b.moveAs(e, &c.header, done.cell, "payment.revived")
	case done.cell.Effect == EffectOweRefund && done.cell.Verdict == VerdictMove:
		s.Settled, s.Reason = SettledOwed, ReasonLate
		b.move(e, &c.header, done.cell)
	case done.cell.Verdict == VerdictMove:
		b.move(e, &c.header, done.cell)
	default:
		s.Settled, s.Reason = SettledOwed, ReasonDuplicate
		b.record(e, &c.header, "payment.duplicate", e.after.State, nil)
	}
	if s.Settled == SettledOwed {
		done.notes = append(done.notes, s.Reason+" payment, owed back") // it goes back by itself
		row := b.owe(owing{transactionID: c.trade.TransactionID, orderNo: c.orderNo, outTradeNo: c.trade.OutTradeNo,
			total: c.trade.Total, amount: c.trade.Total, reason: s.Reason})
		done.refund = &refundApplied{row: row.after}
	}
	c.journal(b, *s)
	if c.trade.State == payment.TradeRefund && !c.again { // some went back that nobody here has sent
		done.alarms = append(done.alarms, refundedElsewhere+c.trade.TransactionID)
		b.record(e, &c.header, eventRefundTold, e.after.State, nil)
	}
	done.journalled = c.trade.TransactionID
	done.order, s.State = e.after, e.after.State
	return done, nil
}

// mayJudge says why a payment is not judged again: only one that is held and still
// here is, and only when it can be for its order by now.
func (c *settle) mayJudge(b *batch, e *entry, before recorded) error {
	p := b.refunds.payments[c.trade.TransactionID]
	switch {
	case !b.people.May(c.cause.Actor.ID, operators.Finance):
		return operators.ErrNoLonger
	case p == nil:
		return ErrNotFound
	case before.settled != SettledHeld:
		return &JudgedError{Reason: before.reason, Why: heldRefused(HeldApply, before.settled, before.reason)}
	case heldRefused(HeldApply, p.outcome, before.reason) != "":
		return &JudgedError{Reason: before.reason, Why: heldRefused(HeldApply, p.outcome, before.reason)}
	case b.wentBack(c.trade.TransactionID) > 0, !p.told.IsZero(): // of what was told nobody knows how much it was
		return &JudgedError{Reason: before.reason, Why: "money of this payment has gone back to its buyer already"}
	}
	if reason := b.misfit(e, &c.trade); reason != "" {
		return &JudgedError{Reason: reason, Why: "the payment does not fit its order: " + reason}
	}
	return nil
}

// misfit says why a payment cannot be for this order, "" when it can.
func (b *batch) misfit(e *entry, t *payment.Trade) string {
	switch {
	case t.MchID != b.s.cfg.MchID:
		return "mchid"
	case !b.s.cfg.ourApp(t.AppID):
		return "appid"
	case e == nil:
		return "unknown_order"
	case t.Currency != payment.CNY && t.Currency != "": // a query of an unpaid trade leaves it out
		return misfitCurrency
	case t.Total != e.after.Total: // what it cost, not what the buyer paid after coupons
		return misfitAmount
	}
	return ""
}

// hold keeps a payment that cannot be for this order until a person has looked.
func (c *settle) hold(b *batch, e *entry, reason string) applied {
	done := applied{settlement: Settlement{OrderNo: c.orderNo, Settled: SettledHeld, Reason: reason},
		alarms: []string{"payment held: " + reason}, journalled: c.trade.TransactionID}
	if e == nil {
		done.settlement.OrderNo = ""
	} else {
		b.record(e, &c.header, "payment.held", e.after.State, map[string]string{"reason": reason})
		done.order, done.before, done.settlement.State = e.after, e.after.State, e.after.State
	}
	c.journal(b, done.settlement)
	return done
}

// journal records the payment, once per transaction id, also within the batch.
func (c *settle) journal(b *batch, s Settlement) {
	owed := payment.Fen(0)
	if s.Settled == SettledOwed {
		owed = c.trade.Total
	}
	at := b.now
	if s.Settled == SettledApplied {
		b.paid = append(b.paid, shipping.Paid{OrderNo: s.OrderNo, OutTradeNo: c.trade.OutTradeNo,
			TransactionID: c.trade.TransactionID, TradeType: c.trade.TradeType, AppID: c.trade.AppID,
			PaidAt: cmp.Or(c.trade.SuccessTime, b.paidBy(s.OrderNo))})
	}
	if c.again { // when it came stays
		at = b.recorded[c.trade.TransactionID].at
	}
	b.recorded[c.trade.TransactionID] = recorded{orderNo: s.OrderNo, settled: s.Settled, reason: s.Reason, at: at}
	if c.again {
		p := b.refunds.payments[c.trade.TransactionID]
		p.judged, p.orderNo, p.outcome, p.reason = true, s.OrderNo, s.Settled, s.Reason
		p.adds += owed
		return
	}
	trade := c.trade
	if trade.SuccessTime.IsZero() {
		trade.SuccessTime = b.paidBy(s.OrderNo)
	}
	b.payments = append(b.payments, paymentRow{Trade: trade, orderNo: s.OrderNo, at: b.now,
		source: c.cause.Type, settled: s.Settled, reason: s.Reason, refund: owed})
}

// paidBy is when a payment was made at the latest, for a trade without success_time:
// WeChat Pay's answer about one that was refunded need not have it. Nobody pays after
// the deadline. Its day, and how old it is, are taken from this.
func (b *batch) paidBy(orderNo string) time.Time {
	if e := b.orders[orderNo]; e != nil && e.after.ExpireAt.Before(b.now) {
		return e.after.ExpireAt
	}
	return b.now
}
