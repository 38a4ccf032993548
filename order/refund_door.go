package order

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// refundChange is something that happens to a refund, brought through the door
// of its order. Exactly one of ask, held, claim, told, event and problem says
// what it is; event may come with a problem.
type refundChange struct {
	ask  *AskRefund
	hash string // of ask

	held string // a held payment that is to be sent back

	no      string // of an existing refund
	claim   bool   // the worker's: my turn?
	told    *payment.Refund
	event   RefundEvent
	why     string // of a person
	problem string // of a call
}

// refundEntry is a refund as it was read, and as it becomes.
type refundEntry struct {
	read, now Refund
	touched   bool
	approvals []Approval // added
}

// paidEntry is a payment that refunds are of.
type paidEntry struct {
	transactionID, orderNo, outTradeNo string
	amount                             payment.Fen
	taken                              payment.Fen // refund_fen as read
	adds                               payment.Fen // what this batch adds to it
	paidAt                             time.Time
	outcome                            Settled
	owe                                bool // from held to owed
}

func (p *paidEntry) left() payment.Fen { return p.amount - p.taken - p.adds }

// askKey is what makes a request for a refund the same request.
type askKey struct {
	by ActorType
	id string
	no string
}

func (c *change) askKey() askKey {
	return askKey{c.cause.Actor.Type, c.cause.Actor.ID, c.refund.ask.RequestID}
}

// books are the refunds and payments of the orders of a batch.
type books struct {
	refunds  map[string]*refundEntry   // by number
	ofOrder  map[string][]*refundEntry // by order number, oldest first
	payments map[string]*paidEntry     // by transaction id
	items    map[string][]Item         // by order number
	asked    map[askKey]string         // number of the refund of a repeated request
	whole    map[string]bool           // orders of which all payments and refunds are here
}

// readBooks reads what the refund changes of a batch need. The orders are locked,
// so nobody else writes the refunds of one meanwhile; those without an order are
// held by their version alone.
func readBooks(ctx context.Context, tx *sqldb.Tx, batch []change) (*books, error) {
	orders, numbers, transactions := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var asks []askKey
	for i := range batch {
		c := batch[i].refund
		if c == nil {
			continue
		}
		if batch[i].orderNo != "" {
			orders[batch[i].orderNo] = true
		}
		if c.no != "" {
			numbers[c.no] = true
		}
		if c.held != "" {
			transactions[c.held], numbers[owedNo(c.held)] = true, true
		}
		if c.ask != nil {
			asks = append(asks, batch[i].askKey())
		}
	}
	b := &books{refunds: map[string]*refundEntry{}, ofOrder: map[string][]*refundEntry{}, payments: map[string]*paidEntry{}, asked: map[askKey]string{}, whole: orders}
	if len(orders)+len(numbers)+len(transactions) == 0 {
		return b, nil
	}
	rows, err := lockRefunds(ctx, tx, orders, numbers)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		b.add(&refundEntry{read: r, now: r})
		transactions[r.TransactionID] = true
	}
	if b.payments, err = findPaid(ctx, tx, orders, transactions); err != nil {
		return nil, err
	}
	if len(asks) == 0 {
		return b, nil
	}
	if err := findAsked(ctx, tx, asks, b.asked); err != nil {
		return nil, err
	}
	b.items, err = findItems(ctx, tx, sortedKeys(orders))
	return b, err
}

func (b *books) add(r *refundEntry) {
	b.refunds[r.now.OutRefundNo] = r
	if no := r.now.OrderNo; no != "" {
		b.ofOrder[no] = append(b.ofOrder[no], r)
	}
}

// applied gives the payment that made an order paid.
func (b *books) applied(orderNo string) *paidEntry {
	for _, p := range b.payments {
		if p.orderNo == orderNo && p.outcome == SettledApplied {
			return p
		}
	}
	return nil
}

// refund decides what happens to a refund, in memory.
func (l *ledger) refund(c *change) (changed, error) {
	r := c.refund
	e := l.orders[c.orderNo] // nil for a refund without an order
	switch {
	case r.ask != nil:
		return l.askRefund(e, c)
	case r.held != "":
		return l.oweHeld(c)
	}
	row := l.books.refunds[r.no]
	if row == nil {
		if r.told != nil {
			return l.holdRefund(e, c, "unknown_refund"), nil
		}
		return changed{}, ErrRefundNotFound
	}
	switch {
	case r.claim:
		return l.claimRefund(e, row, c), nil
	case r.told != nil:
		return l.tellRefund(e, row, c), nil
	case r.event != "":
		return l.decideRefund(e, row, c)
	}
	row.now.Problem, row.touched = cut(r.problem, maxProblem), true
	return changed{refund: row.now}, nil
}

// maxProblem is the width of refunds.problem.
const maxProblem = 200

// askRefund records a new refund, or finds the one of the first request.
func (l *ledger) askRefund(e *entry, c *change) (changed, error) {
	ask := c.refund.ask
	if no, ok := l.books.asked[c.askKey()]; ok {
		row := l.books.refunds[no]
		if row == nil || row.now.requestHash != c.refund.hash {
			return changed{}, ErrRequestReused // of another order, or of other content
		}
		return changed{refund: asAsked(row.now), replayed: true}, nil
	}
	if e == nil || (c.customerID != "" && c.customerID != e.now.CustomerID) {
		return changed{}, ErrNotFound
	}
	cell := Next(e.now.State, EventRefund)
	paid := l.books.applied(c.orderNo)
	if paid == nil && cell.Verdict != VerdictRefuse {
		cell = refuse(notPaid)
	}
	if cell.Verdict == VerdictRefuse {
		return changed{order: e.now, before: e.now.State, cell: cell}, nil
	}
	row := Refund{OrderNo: c.orderNo, TransactionID: paid.transactionID, OutTradeNo: paid.outTradeNo, PaymentTotal: paid.amount,
		Reason: ReasonAftersale, Note: ask.Reason, Restock: !ask.NoRestock, Requester: c.cause.Actor, Generation: 1,
		CreatedAt: l.now, UpdatedAt: l.now, Version: 1, requestID: ask.RequestID, requestHash: c.refund.hash}
	var err error
	if row.Items, row.Amount, err = l.refundable(ask, paid); err != nil {
		return changed{}, err
	}
	used := l.numbersOf(paid.transactionID)
	switch {
	case !l.now.Before(paid.paidAt.Add(refundYears)):
		return changed{}, ErrRefundTooOld
	case used >= MaxRefunds:
		return changed{}, ErrTooManyRefunds
	}
	row.OutRefundNo = refundNo(c.orderNo, len(l.books.ofOrder[c.orderNo])+1)
	row.ApprovalsNeeded = l.s.approvals(paid.taken + paid.adds + row.Amount)
	row.State = RefundStatePending
	if row.ApprovalsNeeded == 0 {
		row.State, row.DueAt = RefundStateOwed, l.now
	}
	paid.adds += row.Amount
	fresh := &refundEntry{now: row, touched: true}
	l.books.add(fresh)
	l.books.asked[c.askKey()] = row.OutRefundNo
	done := changed{before: e.now.State, cell: cell, refund: row}
	l.orderHears(e, c, fresh, EventRefund, "refund.requested", &done)
	return done, nil
}

// approvals is how many people have to agree to a refund that makes the sum of
// a payment's refunds this: in parts it is no smaller.
func (s *Service) approvals(sum payment.Fen) int {
	switch {
	case sum <= s.cfg.RefundAutoApprove:
		return 0
	case s.cfg.RefundTwoPersons > 0 && sum > s.cfg.RefundTwoPersons:
		return 2
	}
	return 1
}

// asAsked takes a refund back to its first moment.
func asAsked(r Refund) Refund {
	a := r
	a.State, a.DueAt = RefundStatePending, time.Time{}
	if r.ApprovalsNeeded == 0 {
		a.State = RefundStateOwed
	}
	a.RefundID, a.Approvals, a.DecidedBy, a.DecidedWhy, a.Problem, a.Tries, a.Version = "", nil, "", "", "", 0, 1
	a.SentAt, a.AskedAt, a.AcceptedAt, a.SucceededAt, a.UpdatedAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}, r.CreatedAt
	return a
}

// numbersOf counts the refund numbers that WeChat has, or may come to have, of
// one payment.
func (l *ledger) numbersOf(transactionID string) int {
	n := 0
	for _, r := range l.books.refunds {
		if r.now.TransactionID == transactionID && r.now.State != RefundStateRejected {
			n++
		}
	}
	return n
}

// refundable gives the lines and the amount of a request, or says what is too much.
func (l *ledger) refundable(ask *AskRefund, paid *paidEntry) ([]stock.Line, payment.Fen, error) {
	left, price := map[string]int64{}, map[string]payment.Fen{}
	items := l.books.items[ask.OrderNo]
	for _, it := range items {
		left[it.SkuID], price[it.SkuID] = it.Quantity, it.UnitPrice
	}
	back, waiting := payment.Fen(0), payment.Fen(0)
	for _, r := range l.books.ofOrder[ask.OrderNo] {
		if !r.now.State.Committed() || r.now.TransactionID != paid.transactionID {
			continue
		}
		for _, it := range r.now.Items {
			left[it.SkuID] -= it.Quantity
		}
		if r.now.State.PaidBack() {
			back += r.now.Amount
		} else {
			waiting += r.now.Amount
		}
	}
	lines, amount := ask.Lines, paid.left()
	if len(lines) == 0 && ask.Amount == nil { // everything that is left
		for _, it := range items {
			if n := left[it.SkuID]; n > 0 {
				lines = append(lines, stock.Line{SkuID: it.SkuID, Quantity: n})
			}
		}
	} else if len(lines) > 0 {
		amount = 0
		for _, line := range lines {
			if line.Quantity > left[line.SkuID] {
				return nil, 0, &ReturnExceedsError{SkuID: line.SkuID, Asked: line.Quantity, Left: left[line.SkuID]}
			}
			amount += price[line.SkuID] * payment.Fen(line.Quantity)
		}
	}
	if ask.Amount != nil {
		if len(lines) > 0 && *ask.Amount > amount {
			return nil, 0, &ValidationError{Fields: []FieldError{{"#/amount/refund", "TOO_MUCH",
				fmt.Sprintf("these lines cost %d fen", amount)}}}
		}
		amount = *ask.Amount
	}
	if amount < 1 || amount > paid.left() {
		return nil, 0, &RefundExceedsError{Asked: amount, Left: paid.left(), InProgress: waiting > 0 && amount <= paid.amount-back}
	}
	return lines, amount, nil
}

// decideRefund is a person's word, or WeChat's definite no.
func (l *ledger) decideRefund(e *entry, row *refundEntry, c *change) (changed, error) {
	r := c.refund
	cell := NextRefund(row.now.State, r.event)
	who := c.cause.Actor.ID
	if r.event == RefundEventApprove && row.now.State == RefundStatePending {
		if who == row.now.Requester.ID && c.cause.Actor.Type == row.now.Requester.Type {
			return changed{}, ErrSelfApproval
		}
		return l.approveRefund(e, row, c), nil
	}
	ends := r.event == RefundEventCancel || (r.event == RefundEventByHand && row.now.State == RefundStateRefused)
	if ends && cell.Verdict == VerdictMove && l.now.Before(row.now.AskedAt.Add(refundSettle)) {
		cell = noRefund("WeChat Pay was asked less than a minute ago; wait until no answer can be on its way")
	}
	if r.event == RefundEventCancel && cell.Verdict == VerdictMove && row.now.Reason != ReasonAftersale {
		cell = noRefund("this money is owed back whoever wants it; retry it, or settle it by hand")
	}
	done := changed{refund: row.now}
	switch cell.Verdict {
	case VerdictRefuse:
		return changed{}, &RefundRefusedError{Refund: row.now, Event: r.event, Why: cell.Why}
	case VerdictAlarm:
		done.alarms = append(done.alarms, cell.Why)
	case VerdictSame:
		if r.event == RefundEventRetry {
			row.now.DueAt, row.touched = l.now, true
			l.orderHears(e, c, row, "", "refund.retried", &done)
		}
	case VerdictMove:
		row.touched = true
		if r.event != RefundEventRefused {
			row.now.DecidedBy, row.now.DecidedWhy = cut(who, 64), cut(r.why, 4*maxDecision)
		}
		if r.problem != "" {
			row.now.Problem = cut(r.problem, maxProblem)
		}
		l.moveRefund(e, row, c, cell.To, refundNames[cell.To], &done)
		if r.event == RefundEventRefused {
			done.alarms = append(done.alarms, "WeChat Pay refuses a refund: "+row.now.Problem)
		}
	}
	done.refund = row.now
	return done, nil
}

// refundNames names the event of an order that brought a refund into a state.
var refundNames = map[RefundState]string{
	RefundStateRejected: "refund.rejected", RefundStateOwed: "refund.retried", RefundStateProcessing: "refund.accepted",
	RefundStateSucceeded: "refund.succeeded", RefundStateClosed: "refund.closed", RefundStateAbnormal: "refund.abnormal",
	RefundStateRefused: "refund.refused", RefundStateCancelled: "refund.cancelled", RefundStateByHand: "refund.by_hand",
}

// approveRefund counts one person once; the last one needed sends it.
func (l *ledger) approveRefund(e *entry, row *refundEntry, c *change) changed {
	who := c.cause.Actor.ID
	done := changed{refund: row.now}
	if slices.ContainsFunc(row.now.Approvals, func(a Approval) bool { return a.Approver == who }) {
		return done
	}
	a := Approval{Approver: who, Reason: c.refund.why, At: l.now}
	row.now.Approvals = append(slices.Clone(row.now.Approvals), a)
	row.approvals, row.touched = append(row.approvals, a), true
	if len(row.now.Approvals) >= row.now.ApprovalsNeeded {
		row.now.State, row.now.DueAt = RefundStateOwed, l.now
	}
	l.orderHears(e, c, row, "", "refund.approved", &done)
	done.refund = row.now
	return done
}

// claimRefund gives the turn to ask WeChat to one caller, and sets the next
// turn before the call is made: who dies in it is followed by another.
func (l *ledger) claimRefund(e *entry, row *refundEntry, c *change) changed {
	r := &row.now
	done := changed{refund: *r}
	if r.DueAt.IsZero() {
		return done
	}
	if l.now.Before(r.DueAt) {
		done.due = r.DueAt
		return done
	}
	row.touched = true
	if r.State != RefundStateOwed {
		r.DueAt = l.now.Add(step2(l.s.cfg.RefundPoll, r.Tries-1))
		if r.State == RefundStateAbnormal {
			r.DueAt = l.now.Add(abnormalPoll)
		}
		r.Tries++
		done.mine, done.refund = true, *r
		return done
	}
	if free := l.lastCall(row).Add(l.s.cfg.RefundSpacing); l.now.Before(free) {
		r.DueAt = free
		done.due, done.refund = free, *r
		return done
	}
	if paid := l.books.payments[r.TransactionID]; paid != nil && !l.now.Before(paid.paidAt.Add(refundYears)) {
		r.Problem = ErrRefundTooOld.Error()
		l.moveRefund(e, row, c, RefundStateRefused, "refund.refused", &done)
		done.alarms = append(done.alarms, "a refund is too old to be sent")
		done.refund = *r
		return done
	}
	r.DueAt = l.now.Add(step2(l.s.cfg.RefundRetry, r.Tries))
	r.AskedAt = l.now
	if r.Tries++; r.SentAt.IsZero() {
		r.SentAt, r.NotifyURL = l.now, l.s.cfg.RefundNotifyURL
		l.orderHears(e, c, row, "", "refund.sent", &done)
	}
	done.mine, done.refund = true, *r
	return done
}

// abnormalPoll is how often a refund that a person has to mend is asked about.
const abnormalPoll = time.Hour

// step2 gives the n-th step of a ladder, its last one for ever.
func step2(ladder []time.Duration, n int64) time.Duration {
	return ladder[min(max(n, 0), int64(len(ladder)-1))]
}

// lastCall is when WeChat was last asked for another refund of the same payment.
func (l *ledger) lastCall(row *refundEntry) time.Time {
	var last time.Time
	for _, r := range l.books.refunds {
		if r != row && r.now.TransactionID == row.now.TransactionID && r.now.AskedAt.After(last) {
			last = r.now.AskedAt
		}
	}
	return last
}

// tellRefund takes WeChat's word on a refund of ours.
func (l *ledger) tellRefund(e *entry, row *refundEntry, c *change) changed {
	t := c.refund.told
	done := changed{refundSettled: RefundSettled{OutRefundNo: t.OutRefundNo, OrderNo: row.now.OrderNo}}
	if row.now.State == RefundStateHeld {
		done.refundSettled.Outcome, done.refundSettled.Reason, done.refundSettled.State = RefundOutcomeHeld, "unknown_refund", RefundStateHeld
		return done // a repeat: whoever looks has been told
	}
	if reason := l.refundMisfit(row, t); reason != "" {
		return l.unfitRefund(e, row, c, done, reason)
	}
	cell := NextRefund(row.now.State, refundEventOf(t.Status))
	done.refundSettled.Outcome = RefundOutcomeRepeated
	l.learn(row, t)
	switch cell.Verdict {
	case VerdictSame:
	case VerdictRefuse, VerdictAlarm:
		done.alarms = append(done.alarms, cell.Why)
		done.refundSettled.Outcome, done.refundSettled.Reason = RefundOutcomeHeld, "contradicts"
	case VerdictMove:
		done.refundSettled.Outcome = RefundOutcomeApplied
		row.touched, row.now.Problem = true, ""
		l.moveRefund(e, row, c, cell.To, refundNames[cell.To], &done)
	}
	done.refund, done.refundSettled.State = row.now, row.now.State
	return done
}

// learn keeps WeChat's number and times, which the bill is matched by.
func (l *ledger) learn(row *refundEntry, t *payment.Refund) {
	r := &row.now
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
	row.touched = row.touched || before.RefundID != r.RefundID || !before.AcceptedAt.Equal(r.AcceptedAt) || !before.SucceededAt.Equal(r.SucceededAt)
}

// refundMisfit says why WeChat's word cannot be about this refund of ours.
func (l *ledger) refundMisfit(row *refundEntry, t *payment.Refund) string {
	switch {
	case t.MchID != "" && t.MchID != l.s.cfg.MchID:
		return "mchid"
	case t.TransactionID != row.now.TransactionID:
		return "transaction"
	case t.Amount != row.now.Amount:
		return "amount"
	case t.Total != 0 && row.now.PaymentTotal != 0 && t.Total != row.now.PaymentTotal:
		return "total"
	case row.now.RefundID != "" && t.RefundID != "" && t.RefundID != row.now.RefundID:
		return "refund_id"
	}
	return ""
}

func (l *ledger) unfitRefund(e *entry, row *refundEntry, c *change, done changed, reason string) changed {
	done.refundSettled.Outcome, done.refundSettled.Reason = RefundOutcomeHeld, reason
	done.refundSettled.State = row.now.State
	done.alarms = append(done.alarms, "word on a refund held: "+reason)
	if problem := "WeChat Pay tells something else: " + reason; row.now.Problem != problem {
		row.now.Problem, row.touched = problem, true
		l.orderHears(e, c, row, "", "refund.held", &done) // once: a repeat of it is no news
	}
	done.refund = row.now
	return done
}

// holdRefund keeps a refund that WeChat tells of and that we never asked for,
// such as one that was made on the merchant platform. Nothing moves: whether it
// belongs to an order is for a person to say.
func (l *ledger) holdRefund(e *entry, c *change, reason string) changed {
	t := c.refund.told
	done := changed{refundSettled: RefundSettled{OutRefundNo: t.OutRefundNo, Outcome: RefundOutcomeHeld, Reason: reason, State: RefundStateHeld}}
	if t.MchID != "" && t.MchID != l.s.cfg.MchID {
		done.refundSettled.Reason = "mchid"
	}
	done.alarms = append(done.alarms, "refund held: "+done.refundSettled.Reason)
	row := Refund{OutRefundNo: t.OutRefundNo, OrderNo: c.orderNo, TransactionID: t.TransactionID, OutTradeNo: cut(t.OutTradeNo, 32),
		RefundID: t.RefundID, Amount: t.Amount, PaymentTotal: t.Total, State: RefundStateHeld, Reason: ReasonHeld, Generation: 1, Version: 1,
		Requester: Actor{Type: ActorWeChat}, CreatedAt: l.now, UpdatedAt: l.now, AcceptedAt: t.CreateTime, SucceededAt: t.SuccessTime}
	if e == nil {
		row.OrderNo = ""
	}
	fresh := &refundEntry{now: row, touched: true}
	l.books.add(fresh)
	done.refundSettled.OrderNo = row.OrderNo
	l.orderHears(e, c, fresh, "", "refund.held", &done)
	done.refund = row
	return done
}

// oweHeld owes a held payment back.
func (l *ledger) oweHeld(c *change) (changed, error) {
	p := l.books.payments[c.refund.held]
	switch {
	case p == nil:
		return changed{}, ErrNotFound
	case p.outcome == SettledOwed && l.books.refunds[owedNo(p.transactionID)] != nil:
		return changed{}, nil // done before
	case p.outcome != SettledHeld:
		return changed{}, &RefundRefusedError{Why: "only a payment that is held goes back this way"}
	}
	row := l.owedRow(p.transactionID, p.orderNo, p.outTradeNo, p.amount, ReasonHeld)
	p.adds, p.owe, p.outcome = p.adds+p.amount, true, SettledOwed
	fresh := &refundEntry{now: row, touched: true}
	l.books.add(fresh)
	return changed{refund: row}, nil
}

// owedRow is the refund of a payment that is owed back, whole.
func (l *ledger) owedRow(transactionID, orderNo, outTradeNo string, amount payment.Fen, reason string) Refund {
	return Refund{OutRefundNo: owedNo(transactionID), OrderNo: orderNo, TransactionID: transactionID, OutTradeNo: outTradeNo,
		Amount: amount, PaymentTotal: amount, State: RefundStateOwed, Reason: reason, Note: owedNotes[reason], Generation: 1, Version: 1,
		Requester: Actor{Type: ActorScheduler}, CreatedAt: l.now, UpdatedAt: l.now, DueAt: l.now}
}

// owedNotes is what the buyer reads of money that comes back by itself.
var owedNotes = map[string]string{
	ReasonLate:      "订单已关闭，支付款原路退回",
	ReasonDuplicate: "订单重复支付，多付款原路退回",
	ReasonHeld:      "支付未匹配到订单，款项原路退回",
}

// moveRefund changes the state of a refund and lets its order hear of it: the
// refund moves first, and only its move reaches the order.
func (l *ledger) moveRefund(e *entry, row *refundEntry, c *change, to RefundState, name string, done *changed) {
	was := row.now.State
	row.now.State, row.touched = to, true
	row.now.DueAt = time.Time{}
	switch to {
	case RefundStateOwed: // again, after a no: WeChat does not know the number, so there is nothing to repeat
		row.now.DueAt, row.now.NotifyURL = l.now, l.s.cfg.RefundNotifyURL
	case RefundStateProcessing:
		row.now.DueAt = l.now.Add(l.s.cfg.RefundPoll[0])
		row.now.Tries = 1
	case RefundStateAbnormal:
		row.now.DueAt = l.now.Add(abnormalPoll)
		done.alarms = append(done.alarms, "WeChat Pay cannot pay a refund out: act on the merchant platform, or settle it by hand")
	case RefundStateSucceeded, RefundStateByHand:
		if row.now.Restock && len(row.now.Items) > 0 {
			l.givebacks = append(l.givebacks, stock.PartialReturn{OrderNo: row.now.OrderNo, Ref: row.now.OutRefundNo, Lines: row.now.Items})
		}
	case RefundStateClosed:
		done.successor = l.succeed(row)
	case RefundStatePending, RefundStateRejected, RefundStateRefused, RefundStateCancelled, RefundStateHeld:
	}
	if paid := l.books.payments[row.now.TransactionID]; paid != nil && was.Committed() && !to.Committed() {
		paid.adds -= row.now.Amount
	}
	l.orderHears(e, c, row, l.endEvent(e, row), name, done)
}

// Waits before another number is tried: a refund that WeChat closes again and
// again is an operator's, yet never forgotten.
var closedWaits = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// succeed makes the refund that takes the place of one that WeChat closed.
func (l *ledger) succeed(row *refundEntry) Refund {
	next := Refund{OutRefundNo: nextNo(row.now), OrderNo: row.now.OrderNo, TransactionID: row.now.TransactionID,
		OutTradeNo: row.now.OutTradeNo, Amount: row.now.Amount, PaymentTotal: row.now.PaymentTotal, State: RefundStateOwed,
		Reason: row.now.Reason, Note: row.now.Note, Items: row.now.Items, Restock: row.now.Restock, Requester: row.now.Requester,
		ApprovalsNeeded: row.now.ApprovalsNeeded, Replaces: row.now.OutRefundNo, Generation: row.now.Generation + 1,
		CreatedAt: l.now, UpdatedAt: l.now, Version: 1, DueAt: l.now.Add(step2(closedWaits, int64(row.now.Generation-1)))}
	if l.numbersOf(row.now.TransactionID) >= MaxRefunds {
		next.State, next.DueAt, next.Problem = RefundStateRefused, time.Time{}, ErrTooManyRefunds.Error()
	}
	l.books.add(&refundEntry{now: next, touched: true})
	if paid := l.books.payments[row.now.TransactionID]; paid != nil {
		paid.adds += next.Amount // the closed one's share is given back beside it
	}
	return next
}

// endEvent is what the end of a refund is to its order; "" when it has not
// ended, or is none of the order's business.
func (l *ledger) endEvent(e *entry, row *refundEntry) Event {
	if e == nil || row.now.State.Open() {
		return ""
	}
	open, back := false, payment.Fen(0)
	for _, r := range l.books.ofOrder[e.now.OrderNo] {
		if e.now.State == StateRefunding && r.now.Reason != ReasonAftersale {
			continue // a duplicate payment's refund
		}
		open = open || r.now.State.Open()
		if r.now.State.PaidBack() {
			back += r.now.Amount
		}
	}
	switch {
	case e.now.State == StateRefunding && row.now.Reason == ReasonAftersale:
	case e.now.State == StateLate:
	default:
		return ""
	}
	switch {
	case open:
		return EventRefundNext
	case e.now.State == StateLate && row.now.State.PaidBack(), e.now.State == StateRefunding && back >= e.now.Total:
		return EventRefundAll
	case row.now.State.PaidBack():
		return EventRefundPart
	}
	return EventRefundFail
}

// orderHears writes an event of the order, which moves when event says so.
func (l *ledger) orderHears(e *entry, c *change, row *refundEntry, event Event, name string, done *changed) {
	if e == nil {
		return
	}
	extra := map[string]string{"out_refund_no": row.now.OutRefundNo, "refund": row.now.Amount.String()}
	if p := row.now.Problem; p != "" {
		extra["problem"] = p
	}
	if row.now.Replaces != "" {
		extra["replaces"] = row.now.Replaces
	}
	if len(row.now.Items) > 0 && name == "refund.requested" {
		extra["items"] = strings.Trim(fmt.Sprint(row.now.Items), "[]")
	}
	from := e.now.State
	if event != "" {
		cell := Next(from, event)
		switch cell.Verdict {
		case VerdictMove:
			e.now.State, e.now.DueAt = cell.To, time.Time{}
			done.before, done.cell = from, cell
		case VerdictSame:
		case VerdictRefuse, VerdictAlarm:
			done.alarms = append(done.alarms, cell.Why)
		}
	}
	l.record(e, c, name, from, extra)
	done.order = e.now
}
