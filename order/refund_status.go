package order

import (
	"errors"
	"fmt"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

// What WeChat Pay says of refunds: ours, and those that were made elsewhere.

// refundStatus is what WeChat Pay says of a refund.
type refundStatus struct {
	ofRefund
	status payment.Refund
}

func (c *refundStatus) beforeCommit() {
	if c.status.Status == payment.RefundSuccess {
		failpoint.Hit("refund.written")
	}
}

// errOtherOrder: the refund, or the payment that is sent back, has another order than a moment ago.
var errOtherOrder = errors.New("it has been given its order meanwhile; do it again")

// decide takes WeChat's word on a refund of ours, and holds that on any other.
func (c *refundStatus) decide(b *batch) (applied, error) {
	e, r, err := c.find(b)
	switch {
	case err != nil:
		return c.hold(b, b.orders[c.orderNo]), nil
	case r.after.OrderNo != c.orderNo: // its payment came meanwhile, and gave it its order
		return applied{}, errOtherOrder
	}
	return c.applyWeChatStatus(b, e, r), nil
}

// applyWeChatStatus takes WeChat's word on a refund of ours.
func (c *refundStatus) applyWeChatStatus(b *batch, e *entry, r *refundEntry) applied {
	done := applied{refund: &refundApplied{
		settled: RefundSettled{OutRefundNo: c.outRefundNo, OrderNo: r.after.OrderNo}}}
	settled := &done.refund.settled
	if r.after.State == RefundStateHeld {
		settled.Outcome, settled.Reason, settled.State = RefundOutcomeHeld, "unknown_refund", r.after.State
		c.tellHeld(b, e, r, &done)
		return done
	}
	if reason := b.refundMisfit(r, &c.status); reason != "" {
		if c.burnt(&r.after, reason) {
			c.burn(b, e, r, reason, &done)
		} else {
			c.doubt(b, e, r, reason, &done)
		}
		return done
	}
	cell := NextRefund(r.after.State, refundEventOf(c.status.Status))
	settled.Outcome = RefundOutcomeRepeated
	b.copyWeChatFacts(r, &c.status)
	c.tellEnded(b, e, r, cell, &done)
	switch cell.Verdict {
	case VerdictSame:
		c.noNews(b, r, &done)
	case VerdictRefuse, VerdictAlarm:
		done.alarms = append(done.alarms, cell.Why)
		settled.Outcome, settled.Reason = RefundOutcomeHeld, "contradicts"
	case VerdictMove:
		settled.Outcome = RefundOutcomeApplied
		r.after.Problem, r.after.Told = "", ""
		b.moveRefund(e, r, &c.header, cell.To, &done)
		done.alarms = append(done.alarms, alarmOfEnd(&r.after, &done.refund.successor)...)
	}
	done.refund.row, settled.State = r.after, r.after.State
	return done
}

// processingFor is how long after WeChat Pay took a refund, or a card for it, PROCESSING is
// an answer: then it is a problem, and people may settle the refund by hand. Its documents
// say three working days to a bank card, and that it closes after seven days what finds no
// money in the merchant's account.
const processingFor = 15 * 24 * time.Hour

// errRefundStuck is the problem of a refund that is PROCESSING for longer.
var errRefundStuck = fmt.Errorf("WeChat Pay says PROCESSING for more than %d days", processingFor/(24*time.Hour))

// noNews takes a repeated answer: WeChat Pay has a usable one again, unless it is
// PROCESSING for too long.
func (c *refundStatus) noNews(b *batch, row *refundEntry, done *applied) {
	r, problem := &row.after, ""
	if r.State == RefundStateProcessing && c.status.Status == payment.RefundProcessing &&
		!b.now.Before(r.AcceptedAt.Add(processingFor)) && !b.now.Before(r.AskedAt.Add(processingFor)) {
		problem = errRefundStuck.Error()
	}
	if !r.State.Open() || r.Problem == problem {
		return
	}
	if r.Problem, row.touched = problem, true; problem != "" {
		done.alarms = append(done.alarms, problem+": ask its support, or pay the buyer another way and settle it by "+
			"hand: "+r.OutRefundNo)
	}
}

// alarmOfEnd is what a person has to do although WeChat Pay has ended a refund. WeChat Pay
// closes one after seven days without money for it in the merchant's account (its page
// "退款常见问题", merchant/4013071200), so that its successor waits for the same.
func alarmOfEnd(r, successor *Refund) []string {
	switch {
	case r.State == RefundStateClosed && successor.State == RefundStateRefused:
		return []string{"WeChat Pay has closed a refund, and takes no more of this payment: " + successor.OutRefundNo}
	case r.State == RefundStateClosed:
		return []string{"WeChat Pay has closed a refund; is there money in the merchant's account? It goes out again " +
			"as " + successor.OutRefundNo}
	case r.State == RefundStateSucceeded && r.ownAccount():
		return []string{"the money of a refund is in the merchant's own bank account, pay the buyer from there: " +
			r.OutRefundNo}
	}
	return nil
}

// tellHeld takes news of a refund that is held: it was alarmed about already. What paid
// out is not taken back by an older word, and what was closed takes nothing more.
func (c *refundStatus) tellHeld(b *batch, e *entry, row *refundEntry, done *applied) {
	r, t := &row.after, &c.status
	done.refund.row = *r
	if b.refundMisfit(row, t) != "" || r.Told == t.Status || r.Told == payment.RefundSuccess {
		return
	}
	r.Told, r.Said, row.touched = t.Status, RefundWord{}, true
	b.copyWeChatFacts(row, t)
	b.applyToOrder(e, &c.header, row, "", "refund.held", done)
	done.refund.row = *r
}

// tellEnded keeps what WeChat Pay says, against the table, of a refund that was not sent yet
// or that counts no more: that it pays it, and then that it closed it. Until then it takes
// of its payment all the same (countsElsewhere). What paid out is not taken back.
func (c *refundStatus) tellEnded(b *batch, e *entry, row *refundEntry, cell RefundCell, done *applied) {
	r, says := &row.after, c.status.Status
	pays := toldPaid(says) && cell.Verdict == VerdictAlarm
	closes := says == payment.RefundClosed && r.toldPaid()
	switch {
	case cell.Verdict == VerdictMove || !pays && !closes:
		return
	case r.State.Committed() && r.State != RefundStatePending:
		return
	case r.Told == says || r.Told == payment.RefundSuccess:
		return
	}
	r.Told, row.touched = says, true
	b.applyToOrder(e, &c.header, row, "", "refund.held", done)
}

// copyWeChatFacts keeps WeChat's number and times, which the bill is matched by.
func (b *batch) copyWeChatFacts(row *refundEntry, t *payment.Refund) {
	r := &row.after
	before := *r
	if r.RefundID == "" {
		r.RefundID = t.RefundID
	}
	if !t.CreateTime.IsZero() && (r.AcceptedAt.IsZero() || r.AcceptedAt.Equal(r.SentAt)) {
		r.AcceptedAt = t.CreateTime
	}
	if r.AcceptedAt.IsZero() {
		r.AcceptedAt = r.SentAt // a notification does not tell: the call's time until an answer does
	}
	if t.Status == payment.RefundSuccess && r.SucceededAt.IsZero() {
		r.SucceededAt = t.SuccessTime
	}
	row.touched = row.touched || before.RefundID != r.RefundID ||
		!before.AcceptedAt.Equal(r.AcceptedAt) || !before.SucceededAt.Equal(r.SucceededAt)
}

// refundMisfit says why WeChat's word cannot be about this refund of ours.
func (b *batch) refundMisfit(row *refundEntry, t *payment.Refund) string {
	switch {
	case t.MchID != "" && t.MchID != b.s.cfg.MchID:
		return "mchid"
	case t.TransactionID != row.after.TransactionID:
		return "transaction"
	case t.Amount != row.after.Amount:
		return "amount"
	case t.Total != 0 && row.after.PaymentTotal != 0 && t.Total != row.after.PaymentTotal:
		return "total"
	case row.after.RefundID != "" && t.RefundID != "" && t.RefundID != row.after.RefundID:
		return "refund_id"
	}
	return ""
}

// refundedElsewhere begins the alarm of a payment of which some went back that nobody here has
// sent; eventRefundTold is its event.
const (
	refundedElsewhere = "a payment was refunded elsewhere: "
	eventRefundTold   = "payment.refund_told"
)

// tellRefunded: WeChat Pay says of a payment that is recorded that some of it went back.
type tellRefunded struct {
	header
	transactionID string
}

// needs adds everything that can explain it.
func (c *tellRefunded) needs(n *needs) {
	n.refundsOfOrder(c.orderNo)
	n.refunded[c.transactionID] = true
}

// decide notes it once, when no refund that is known here explains it: WeChat Pay does
// not say how much went back, nor under which number.
func (c *tellRefunded) decide(b *batch) (applied, error) {
	for _, r := range b.refunds.byNo {
		if r.after.TransactionID == c.transactionID && r.after.explainsRefund() {
			return applied{}, nil
		}
	}
	done := applied{}
	b.tellPayment(b.orders[c.orderNo], &c.header, c.transactionID, &done)
	return done, nil
}

// tellPayment notes, once, that some of a payment went back and nobody can say how much.
func (b *batch) tellPayment(e *entry, h *header, transactionID string, done *applied) {
	p := b.refunds.payments[transactionID]
	if p == nil || !p.told.IsZero() {
		return
	}
	p.told, p.tell = b.now, true
	done.alarms = append(done.alarms, refundedElsewhere+transactionID)
	if e != nil {
		b.record(e, h, eventRefundTold, e.after.State, nil)
		done.order = e.after
	}
}

// explainsRefund reports that WeChat Pay may call a trade refunded because of this refund:
// it is held, WeChat Pay has it, or it was sent and its answer is out. Of one that was
// refused nothing went back, nor of one that has ended here, unless WeChat Pay says so.
func (r *Refund) explainsRefund() bool {
	switch r.State {
	case RefundStateProcessing, RefundStateAbnormal, RefundStateSucceeded:
		return true
	case RefundStateOwed:
		return !r.SentAt.IsZero()
	case RefundStateByHand: // WeChat Pay had it before it was settled by hand
		return r.RefundID != ""
	case RefundStateHeld, RefundStateRejected, RefundStateClosed, RefundStateCancelled:
		return r.countsElsewhere()
	case RefundStatePending:
		return r.toldPaid()
	case RefundStateRefused:
		return false
	}
	panic(fmt.Sprintf("order: no such refund state %q", r.State))
}

// burnt reports that WeChat Pay, asked about the number of a refund that it never took,
// has another refund under it: one of before a restore from a backup. This one can never
// be sent under it. What a notification or a bill says is only doubted.
func (c *refundStatus) burnt(r *Refund, reason string) bool {
	asked := c.cause.Type == "answer" || c.cause.Type == "query"
	other := reason == "transaction" || reason == "amount" || reason == "total"
	return asked && other && r.State == RefundStateOwed && r.RefundID == ""
}

// burn closes a refund whose number is another's; its successor goes out under one that
// was never used. What went back under it is of the same payment, or of another: of the
// same it counts, and how much it was is in no row (see unclear).
func (c *refundStatus) burn(b *batch, e *entry, r *refundEntry, reason string, done *applied) {
	settled := &done.refund.settled
	r.after.Problem = "WeChat Pay has another refund under this number: " + reason
	b.moveRefund(e, r, &c.header, NextRefund(r.after.State, RefundEventClosed).To, done)
	done.alarms = append(done.alarms, r.after.Problem)
	if c.status.TransactionID == r.after.TransactionID && toldPaid(c.status.Status) {
		b.tellPayment(e, &c.header, r.after.TransactionID, done)
	}
	settled.Outcome, settled.Reason, settled.State = RefundOutcomeHeld, reason, r.after.State
	done.refund.row = r.after
}

// doubt keeps word of WeChat Pay that cannot be about this refund, once: a repeat
// of it is no news.
func (c *refundStatus) doubt(b *batch, e *entry, r *refundEntry, reason string, done *applied) {
	settled := &done.refund.settled
	settled.Outcome, settled.Reason, settled.State = RefundOutcomeHeld, reason, r.after.State
	done.alarms = append(done.alarms, "word on a refund held: "+reason)
	if problem := "WeChat Pay tells something else: " + reason; r.after.Problem != problem {
		r.after.Problem, r.touched = problem, true
		b.applyToOrder(e, &c.header, r, "", "refund.held", done)
	}
	done.refund.row = r.after
}

// hold keeps a refund that WeChat Pay tells of and that we never asked for, such
// as one that was made on the merchant platform. Nothing moves: whether it
// belongs to an order is for a person to say.
func (c *refundStatus) hold(b *batch, e *entry) applied {
	t := &c.status
	settled := RefundSettled{OutRefundNo: t.OutRefundNo, Outcome: RefundOutcomeHeld,
		Reason: "unknown_refund", State: foreignState()}
	if t.MchID != "" && t.MchID != b.s.cfg.MchID {
		settled.Reason = "mchid"
	}
	row := Refund{OutRefundNo: t.OutRefundNo, OrderNo: c.orderNo, TransactionID: t.TransactionID,
		OutTradeNo: bounds.OutTradeNo.Cut(t.OutTradeNo), RefundID: t.RefundID,
		Amount: t.Amount, PaymentTotal: t.Total, State: foreignState(), Told: t.Status, Reason: ReasonHeld,
		Generation: 1, Version: 1, Requester: Actor{Type: ActorWeChat},
		CreatedAt: b.now, UpdatedAt: b.now, AcceptedAt: t.CreateTime, SucceededAt: t.SuccessTime}
	if e == nil {
		row.OrderNo = ""
	}
	fresh := &refundEntry{after: row, touched: true}
	b.refunds.add(fresh)
	settled.OrderNo = row.OrderNo
	done := applied{refund: &refundApplied{row: row, settled: settled},
		alarms: []string{"refund held: " + settled.Reason}}
	b.applyToOrder(e, &c.header, fresh, "", "refund.held", &done)
	return done
}
