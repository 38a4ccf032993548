package order

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/stock"
)

// The commands of refunds. A refund changes under the lock of its order, through
// the same writer as the order itself: the refund moves first, by the table of
// refund_machine.go, and only its move reaches the order.

// askRefund: a customer or an operator wants money back.
type askRefund struct {
	header
	ask    *AskRefund
	number string // of the refund, should it be a new one
	hash   string // tells two requests under one key apart
}

// needs adds everything that the request counts against: the order's refunds and
// payments, and whether the same request was made before.
func (c *askRefund) needs(n *needs) {
	n.refundsOfOrder(c.orderNo)
	n.asks = append(n.asks, c.key())
}

// askKey is what makes a request for a refund the same request.
type askKey struct {
	by ActorType
	id string
	no string // the asker's idempotency key
}

// key is unique in refunds (u_refunds_request).
func (c *askRefund) key() askKey {
	by, _ := c.asker()
	return askKey{by.Type, by.ID, c.ask.RequestID}
}

// asker gives in whose name a request is made, and the shop that makes it. What a shop asks for its
// customer is the customer's request: his key is the same key, whoever sends it.
func (c *askRefund) asker() (by Actor, shop string) {
	if by = c.cause.Actor; by.Type == ActorShop {
		return Actor{Type: ActorCustomer, ID: c.customerID}, by.ID
	}
	return by, ""
}

// decide records a new refund, or finds the one of the first request.
func (c *askRefund) decide(b *batch) (applied, error) {
	if no, ok := b.refunds.asked[c.key()]; ok {
		r := b.refunds.byNo[no]
		if r == nil || r.after.requestHash != c.hash {
			return applied{}, ErrRequestReused // of another order, or of other content
		}
		row := asAsked(r.after)
		row.Restock = b.s.restocks(c.ask)
		return applied{refund: &refundApplied{row: row, replayed: true}}, nil
	}
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	cell := Next(e.after.State, EventRefund)
	paid := b.refunds.applied(c.orderNo)
	if paid == nil && cell.Verdict != VerdictRefuse {
		cell = refuse(notPaid)
	}
	done := applied{order: e.after, before: e.after.State, cell: cell}
	if cell.Verdict == VerdictRefuse {
		return done, nil
	}
	row, err := c.newRefund(b, paid)
	if err != nil {
		return applied{}, err
	}
	paid.adds += row.Amount
	fresh := &refundEntry{after: row, touched: true}
	b.refunds.add(fresh)
	b.refunds.asked[c.key()] = row.OutRefundNo
	done.refund = &refundApplied{row: row}
	b.applyToOrder(e, &c.header, fresh, EventRefund, "refund.requested", &done)
	return done, nil
}

// newRefund makes the row of a request, or says why there can be none.
func (c *askRefund) newRefund(b *batch, paid *paidEntry) (Refund, error) {
	lines, amount, err := b.refundable(c.ask, paid)
	switch {
	case err != nil:
		return Refund{}, err
	case !b.now.Before(paid.paidAt.Add(refundWithin)):
		return Refund{}, ErrRefundTooOld
	case b.numbersOf(paid.transactionID) >= MaxRefunds:
		return Refund{}, ErrTooManyRefunds
	}
	r := Refund{OutRefundNo: c.number, OrderNo: c.orderNo,
		TransactionID: paid.transactionID, OutTradeNo: paid.outTradeNo, PaymentTotal: paid.amount,
		Amount: amount, Items: lines, Restock: b.s.restocks(c.ask),
		Reason: ReasonAftersale, Note: c.ask.Reason, Generation: 1,
		ApprovalsNeeded: b.approvals(paid, amount),
		CreatedAt:       b.now, UpdatedAt: b.now, Version: 1, requestID: c.ask.RequestID, requestHash: c.hash}
	r.Requester, r.Shop = c.asker()
	// Goods that go back to the shelf for less than they cost are for a person: else whoever keeps them has them
	// for sale again for a fen.
	if c.ask.NeedsPerson || r.Restock && amount < b.refunds.price(c.orderNo, lines) {
		r.ApprovalsNeeded = max(r.ApprovalsNeeded, 1)
	}
	r.State = askedState(r.ApprovalsNeeded)
	if r.State == RefundStateOwed {
		r.DueAt = b.now
	}
	return r, nil
}

// sendBackHeld: a person sends a payment back that fits no order. It is a refund like
// every other that a person decides: above the limit somebody else has to agree, by the
// same act or by approving it.
type sendBackHeld struct {
	header
	transactionID string
}

// needs adds the payment and everything that went back of it already, whatever order that has.
func (c *sendBackHeld) needs(n *needs) {
	n.refundsOfOrder(c.orderNo)
	n.refunded[c.transactionID], n.refunds[owedRefundNo(c.transactionID)] = true, true
	n.refundsOfPayment[c.transactionID] = true
	n.person(c.cause.Actor)
}

// decide owes back what is left of the payment, once: the number of the refund is made
// from the transaction's.
func (c *sendBackHeld) decide(b *batch) (applied, error) {
	p := b.refunds.payments[c.transactionID]
	switch {
	case p == nil:
		return applied{}, ErrNotFound
	case p.orderNo != c.orderNo: // recorded meanwhile: its order is not locked, and would not hear of it
		return applied{}, errOtherOrder
	case c.cause.Actor.Type != ActorOperator:
		return applied{}, &RefundRefusedError{Why: "a person decides whether money that is held goes back"}
	case !b.people.May(c.cause.Actor.ID, operators.Finance):
		return applied{}, operators.ErrNoLonger
	case b.refunds.writtenOff(c.transactionID):
		return applied{}, &RefundRefusedError{Why: "two people have written this payment off: it goes back no more"}
	case p.outcome == SettledOwed:
		return c.again(b)
	case heldRefused(HeldRefund, p.outcome, p.reason) != "":
		return applied{}, &RefundRefusedError{Why: heldRefused(HeldRefund, p.outcome, p.reason)}
	}
	left, err := b.refunds.sendable(p)
	if err != nil {
		return applied{}, err
	}
	needed := b.s.ApprovalsFor(p.amount) // all of it has gone back then, here and elsewhere
	if needed > 1 && operators.Shell(c.cause.Actor.ID) {
		return applied{}, operators.ErrShell
	}
	fresh := b.owe(owing{transactionID: p.transactionID, orderNo: p.orderNo, outTradeNo: p.outTradeNo,
		total: p.amount, amount: left, reason: ReasonHeld})
	if !fresh.owned { // else WeChat Pay has it already: it was agreed to before the restore
		row := &fresh.after
		row.Requester, row.requestHash = c.cause.Actor, c.hash()
		// Whoever sends it back is the first of those who have to agree.
		if row.ApprovalsNeeded = max(needed-1, 0); row.ApprovalsNeeded > 0 {
			row.State, row.DueAt = askedState(row.ApprovalsNeeded), time.Time{}
		}
	}
	p.adds, p.owe, p.outcome = p.adds+left, true, SettledOwed
	done := applied{refund: &refundApplied{row: fresh.after}}
	b.actsFresh(c.cause.Actor.ID, &done)
	b.applyToOrder(b.orders[c.orderNo], &c.header, fresh, "", "refund.requested", &done)
	return done, nil
}

// again is the same act by somebody: another person's is the approval that the refund
// waits for, everything else changes nothing. The refund was written in the transaction
// that made its payment owed, which may have committed after the refunds were read here:
// then there is none.
func (c *sendBackHeld) again(b *batch) (applied, error) {
	for _, r := range b.refunds.byNo {
		switch {
		case r.after.TransactionID != c.transactionID || !r.after.State.Committed():
		case r.after.State == RefundStatePending && r.after.Requester != c.cause.Actor &&
			!r.after.approvedBy(c.cause.Actor.ID):
			approval := decideRefund{ofRefund: ofRefund{header: c.header, outRefundNo: r.after.OutRefundNo},
				event: RefundEventApprove, why: cmp.Or(c.detail["reason"], agreesItGoesBack)}
			return approval.approve(b, b.orders[c.orderNo], r)
		default:
			return applied{refund: &refundApplied{row: r.after}}, c.conflict(&r.after, b.refunds.approvals(&r.after))
		}
	}
	return applied{}, nil
}

// agreesItGoesBack is the reason of an approval for which its person gave none.
const agreesItGoesBack = "agrees that it goes back"

// hash tells what its person said once from what is said again, "" without a reason.
func (c *sendBackHeld) hash() string {
	why := c.detail["reason"]
	if why == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(why))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// conflict is nil for a repeat of what was done: by who sends it back or agreed to that, for
// the same reason. Without a reason, as the reconciliation has it, everybody's is one, and so
// it is of what goes back by nobody's word.
func (c *sendBackHeld) conflict(r *Refund, approvals []Approval) error {
	why, who := c.detail["reason"], c.cause.Actor
	if why == "" || r.Requester.Type != ActorOperator {
		return nil
	}
	said := ""
	for _, a := range approvals {
		if a.Approver == who.ID {
			said = a.Reason
		}
	}
	switch {
	case r.Requester == who && (r.requestHash == "" || r.requestHash == c.hash()), said == why:
		return nil
	case r.Requester == who, said != "":
		return &RefundRefusedError{Refund: *r, Why: "you have sent this payment back already, for another reason; " +
			"see refund " + r.OutRefundNo}
	}
	return &RefundRefusedError{Refund: *r, Why: "this payment goes back already, by the word of others; see refund " +
		r.OutRefundNo}
}

// givenUp counts the refunds of a payment that people have given up: their numbers are used.
func (b *batch) givenUp(transactionID string) int {
	n := 0
	for _, r := range b.refunds.byNo {
		if r.after.TransactionID == transactionID && r.after.State.givenUp() {
			n++
		}
	}
	return n
}

// givenUp reports that a person ended a refund of which nothing went back.
func (s RefundState) givenUp() bool { return s == RefundStateRejected || s == RefundStateCancelled }

// ofRefund is the header of a command on a refund that is there already.
type ofRefund struct {
	header
	outRefundNo string
}

// needs adds the refund, and all others of its order: sums are asserted.
func (c *ofRefund) needs(n *needs) {
	n.refundsOfOrder(c.orderNo)
	n.refunds[c.outRefundNo] = true
}

// find gives the order of the refund, nil when it has none, and the refund.
func (c *ofRefund) find(b *batch) (*entry, *refundEntry, error) {
	r := b.refunds.byNo[c.outRefundNo]
	if r == nil {
		return nil, nil, ErrRefundNotFound
	}
	return b.orders[c.orderNo], r, nil
}

// noteProblem writes down why a call to WeChat Pay had no usable answer.
type noteProblem struct {
	ofRefund
	problem string
	turn    Refund // as the turn was committed whose call it was
}

// decide changes nothing but the words: the refund stays due.
func (c *noteProblem) decide(b *batch) (applied, error) {
	_, r, err := c.find(b)
	if err != nil {
		return applied{}, err
	}
	if r.after.hasTurn(&c.turn) { // a newer call has its own word
		r.after.Problem, r.touched = bounds.Problem.Cut(c.problem), true
	}
	return applied{refund: &refundApplied{row: r.after}}, nil
}

// hasTurn reports that nothing has happened to a refund since a turn of it was
// committed: neither an answer came, nor was it anybody else's turn.
func (r *Refund) hasTurn(turn *Refund) bool {
	return r.State == turn.State && r.Tries == turn.Tries && r.AskedAt.Equal(turn.AskedAt)
}

// refuseRefund: WeChat Pay says no for good, and does not know the number.
type refuseRefund struct {
	ofRefund
	problem string
	turn    Refund // as the turn was committed whose call it was
}

// decide takes the refund to refused: it is not sent again until a person says so.
func (c *refuseRefund) decide(b *batch) (applied, error) {
	e, r, err := c.find(b)
	if err != nil {
		return applied{}, err
	}
	if !r.after.hasTurn(&c.turn) { // a newer call is under way, or was answered: its word counts
		return applied{refund: &refundApplied{row: r.after}}, nil
	}
	return b.refundEvent(e, r, &c.header, RefundEventRefused, NextRefund(r.after.State, RefundEventRefused), func() {
		r.after.Problem = bounds.Problem.Cut(c.problem)
	})
}

// refundEvent takes a refund through one cell of its table. moving is called
// before it moves, to write down what only this event knows.
func (b *batch) refundEvent(e *entry, r *refundEntry, h *header, event RefundEvent, cell RefundCell,
	moving func()) (applied, error) {
	done := applied{refund: &refundApplied{}}
	switch cell.Verdict {
	case VerdictRefuse:
		return applied{}, &RefundRefusedError{Refund: r.after, Event: event, Why: cell.Why}
	case VerdictAlarm:
		done.alarms = append(done.alarms, cell.Why)
	case VerdictSame:
		if event == RefundEventRetry {
			r.after.DueAt, r.touched = b.now, true
			b.applyToOrder(e, h, r, "", "refund.retried", &done)
		}
	case VerdictMove:
		moving()
		b.moveRefund(e, r, h, cell.To, &done)
		if event == RefundEventRefused {
			done.alarms = append(done.alarms, "WeChat Pay refuses a refund: "+r.after.Problem)
		}
	}
	done.refund.row = r.after
	return done, nil
}

// refundNames names the event of an order that brought a refund into a state.
var refundNames = map[RefundState]string{
	RefundStateRejected: "refund.rejected", RefundStateOwed: "refund.retried", RefundStateProcessing: "refund.accepted",
	RefundStateSucceeded: "refund.succeeded", RefundStateClosed: "refund.closed",
	RefundStateAbnormal: "refund.abnormal",
	RefundStateRefused:  "refund.refused", RefundStateCancelled: "refund.cancelled",
	RefundStateByHand: "refund.by_hand", RefundStatePending: "refund.held_back",
}

// claimRefund takes the turn to ask WeChat Pay about a refund, and sets the next
// turn before the call is made: who dies in it is followed by another.
type claimRefund struct {
	ofRefund
	transactionID string
}

// needs adds who has agreed, and the closed refunds that they have agreed to.
func (c *claimRefund) needs(n *needs) {
	c.ofRefund.needs(n)
	n.approvers()
	if c.orderNo == "" {
		n.refundsOfPayment[c.transactionID] = true
	}
}

// decide gives the turn to one caller. A refund that is owed is sent, one that is
// processing or abnormal is asked about.
func (c *claimRefund) decide(b *batch) (applied, error) {
	e, row, err := c.find(b)
	if err != nil {
		return applied{}, err
	}
	r := &row.after
	done := applied{refund: &refundApplied{}}
	switch {
	case r.DueAt.IsZero(): // it has ended, or waits for a person
	case b.now.Before(r.DueAt):
		done.turn.due = r.DueAt
	case r.State == RefundStateOwed:
		c.claimSend(b, e, row, &done)
	default:
		row.touched, done.turn.claimed = true, true
		r.DueAt = b.now.Add(backoff(b.s.cfg.RefundPoll, r.Tries-1))
		if r.State == RefundStateAbnormal {
			r.DueAt = b.now.Add(abnormalPoll)
		}
		r.Tries++
	}
	done.refund.row = *r
	return done, nil
}

// claimSend takes the turn to send a refund: not within WeChat's minute after
// another refund of the same payment, and not when the payment is too old.
func (c *claimRefund) claimSend(b *batch, e *entry, row *refundEntry, done *applied) {
	r := &row.after
	row.touched = true
	if free := b.lastCall(row).Add(b.s.cfg.RefundSpacing); b.now.Before(free) {
		r.DueAt, done.turn.due = free, free
		return
	}
	if why := b.heldBack(r); why != "" {
		r.Problem = bounds.Problem.Cut(why)
		b.moveRefund(e, row, &c.header, NextRefund(r.State, RefundEventRefused).To, done)
		done.alarms = append(done.alarms, "a refund is held back: "+why)
		return
	}
	if n := b.asksFor(r); n > r.ApprovalsNeeded {
		r.ApprovalsNeeded, r.Problem = n, "some of this payment went back elsewhere: it takes more approvals"
		b.moveRefund(e, row, &c.header, NextRefund(r.State, RefundEventHeldBack).To, done)
		done.alarms = append(done.alarms, "a refund is held back: "+r.Problem)
		return
	}
	if r.Tries == 0 && !b.agreed(r) {
		c.holdBack(b, e, row, done)
		return
	}
	if paid := b.refunds.payments[r.TransactionID]; paid != nil && !b.now.Before(paid.paidAt.Add(refundWithin)) {
		r.Problem = ErrRefundTooOld.Error()
		b.moveRefund(e, row, &c.header, NextRefund(r.State, RefundEventRefused).To, done)
		done.alarms = append(done.alarms, "a refund is too old to be sent")
		return
	}
	r.DueAt, r.AskedAt = b.now.Add(backoff(b.s.cfg.RefundRetry, r.Tries)), b.now
	if r.Tries++; r.SentAt.IsZero() {
		r.SentAt, r.NotifyURL = b.now, b.s.cfg.RefundNotifyURL
		b.applyToOrder(e, &c.header, row, "", "refund.sent", done)
	}
	done.turn.claimed = true
}

// holdBack keeps a refund from being sent of which WeChat Pay knows nothing, because too few
// of those who agreed to it still may. One that was never sent waits for others; what is
// sent again after WeChat Pay's no, or by the word of one person, is for people to give up.
func (c *claimRefund) holdBack(b *batch, e *entry, row *refundEntry, done *applied) {
	r, event := &row.after, RefundEventHeldBack
	r.Problem = "somebody who agreed to it has lost account or role: it takes another approval"
	if !r.SentAt.IsZero() || r.ApprovalsNeeded == 0 {
		r.Problem = "somebody who agreed to it has lost account or role: cancel it, and have it asked for again"
		event = RefundEventRefused
	}
	b.moveRefund(e, row, &c.header, NextRefund(r.State, event).To, done)
	done.alarms = append(done.alarms, "a refund is held back: "+r.Problem)
}

// heldBack says why a refund that was never sent must not be sent now, "" when it may:
// some of its payment went back elsewhere, more than both can have. One that was sent
// before may be at WeChat Pay already; its second call brings the same answer.
func (b *batch) heldBack(r *Refund) string {
	paid := b.refunds.payments[r.TransactionID]
	if paid == nil || !r.SentAt.IsZero() {
		return ""
	}
	return b.refunds.tooMuch(paid)
}

// asksFor is how many people have to agree to a refund by what is known now, never fewer
// than when it was asked for: what went back elsewhere meanwhile is of the sum. It does not
// look at one that was sent, nor at money that is owed back whole.
func (b *batch) asksFor(r *Refund) int {
	paid := b.refunds.payments[r.TransactionID]
	if paid == nil || r.Reason != ReasonAftersale || !r.SentAt.IsZero() {
		return r.ApprovalsNeeded
	}
	n := 0
	if sum, _ := b.refunds.elsewhere(r.TransactionID); sum > 0 {
		for _, other := range b.refunds.byNo { // r too
			o := &other.after
			if o.TransactionID == r.TransactionID && o.State.Committed() && !o.CreatedAt.After(r.CreatedAt) {
				sum += o.Amount
			}
		}
		n = b.s.ApprovalsFor(sum)
	}
	if n == 0 && b.refunds.unclear(paid) != "" {
		n = 1
	}
	return max(r.ApprovalsNeeded, n)
}

// abnormalPoll is how often a refund that a person has to mend is asked about.
const abnormalPoll = time.Hour

// lastCall is when WeChat was last asked for another refund of the same payment.
func (b *batch) lastCall(row *refundEntry) time.Time {
	var last time.Time
	for _, r := range b.refunds.byNo {
		if r != row && r.after.TransactionID == row.after.TransactionID && r.after.AskedAt.After(last) {
			last = r.after.AskedAt
		}
	}
	return last
}

// refundable gives the lines and the amount of a request, or says what is too much.
func (b *batch) refundable(ask *AskRefund, paid *paidEntry) ([]stock.Line, payment.Fen, error) {
	left := map[string]int64{}
	items := b.refunds.items[ask.OrderNo]
	for _, it := range items {
		left[it.SkuID] = it.Quantity
	}
	back, waiting := payment.Fen(0), payment.Fen(0)
	for _, r := range b.refunds.ofOrder[ask.OrderNo] {
		if !r.after.State.Committed() || r.after.TransactionID != paid.transactionID {
			continue
		}
		for _, it := range r.after.Items {
			left[it.SkuID] -= it.Quantity
		}
		if r.after.State.PaidBack() {
			back += r.after.Amount
		} else {
			waiting += r.after.Amount
		}
	}
	elsewhere, _ := b.refunds.elsewhere(paid.transactionID)
	lines, amount := ask.Lines, b.refunds.left(paid)
	if len(lines) == 0 && (ask.Amount == nil || *ask.Amount == amount) { // everything that is left
		for _, it := range items {
			if n := left[it.SkuID]; n > 0 {
				lines = append(lines, stock.Line{SkuID: it.SkuID, Quantity: n})
			}
		}
	} else if len(lines) > 0 {
		for _, line := range lines {
			if line.Quantity > left[line.SkuID] {
				return nil, 0, &ReturnExceedsError{SkuID: line.SkuID, Asked: line.Quantity, Left: left[line.SkuID]}
			}
		}
		amount = b.refunds.price(ask.OrderNo, lines)
	}
	if ask.Amount != nil {
		if len(lines) > 0 && *ask.Amount > amount {
			return nil, 0, &ValidationError{Fields: []FieldError{{"#/amount/refund", "TOO_MUCH",
				fmt.Sprintf("these lines cost %d fen", amount)}}}
		}
		amount = *ask.Amount
	}
	if left := b.refunds.left(paid); amount < 1 || amount > left {
		return nil, 0, &RefundExceedsError{Asked: amount, Left: left,
			InProgress: waiting > 0 && amount <= paid.amount-back-elsewhere}
	}
	return lines, amount, nil
}

// approvals is how many people have to agree to a refund of so much more of a payment.
// What went back elsewhere is of the sum, and what is not clear is for a person.
func (b *batch) approvals(paid *paidEntry, amount payment.Fen) int {
	back, _ := b.refunds.elsewhere(paid.transactionID)
	n := b.s.ApprovalsFor(paid.taken + paid.adds + amount + back)
	if n == 0 && b.refunds.unclear(paid) != "" {
		return 1
	}
	return n
}

// ApprovalsFor is how many people have to agree to a refund that makes the sum of a payment's refunds this: in parts
// it is no smaller. 0, 1, or 2 above Config.RefundTwoPersons.
func (s *Service) ApprovalsFor(sum payment.Fen) int {
	return s.RefundLimits().approvals(sum)
}

// RefundLimits are up to which sum of a payment's refunds nobody has to agree, 0 for none, and above which two people
// have to, 0 for never.
type RefundLimits struct{ AutoApprove, TwoPersons payment.Fen }

// RefundLimits gives the limits of today, for whoever asks before they act.
func (s *Service) RefundLimits() RefundLimits {
	return RefundLimits{s.cfg.RefundAutoApprove, s.cfg.RefundTwoPersons}
}

// approvals is how many people a sum takes.
func (l RefundLimits) approvals(sum payment.Fen) int {
	switch {
	case sum <= l.AutoApprove:
		return 0
	case l.TwoPersons > 0 && sum > l.TwoPersons:
		return 2
	}
	return 1
}

// asAsked takes a refund back to its first moment.
func asAsked(r Refund) Refund {
	a, never := r, time.Time{}
	a.State, a.DueAt, a.Version, a.Tries, a.UpdatedAt = askedState(r.ApprovalsNeeded), never, 1, 0, r.CreatedAt
	a.RefundID, a.Approvals, a.DecidedBy, a.DecidedWhy, a.Problem, a.Told, a.Elsewhere = "", nil, "", "", "", "", 0
	a.SentAt, a.AskedAt, a.AcceptedAt, a.SucceededAt = never, never, never, never
	a.Said, a.SentTo = RefundWord{}, ""
	return a
}

// numbersOf counts the refund numbers that WeChat has, or may come to have, of
// one payment.
func (b *batch) numbersOf(transactionID string) int {
	n := 0
	for _, r := range b.refunds.byNo {
		if r.after.TransactionID == transactionID && r.after.takesNumber() {
			n++
		}
	}
	return n
}

// takesNumber reports that WeChat Pay has the number of a refund, or is about to.
func (r *Refund) takesNumber() bool { return r.State != RefundStateRejected || r.toldPaid() }

// owing is a payment that is owed back.
type owing struct {
	transactionID, orderNo, outTradeNo string
	total, amount                      payment.Fen // of the payment, and of it what goes back now
	reason                             string
}

// owe makes the refund of a payment that is owed back, once. After a restore from a
// backup WeChat Pay may have told of it before its payment was known here: then it waits
// as held under the same number, and becomes this refund. It is sent again under that
// number, and WeChat Pay answers how far it is. One that WeChat Pay has closed is none: what
// goes back is a new refund, under another number, and people agree to it anew.
func (b *batch) owe(o owing) *refundEntry {
	row := b.owedRefund(o)
	fresh := &refundEntry{after: row, touched: true}
	told := b.refunds.byNo[row.OutRefundNo]
	switch {
	case told == nil:
	case told.after.State.givenUp(): // and its number is used
		fresh.after.OutRefundNo += "-" + strconv.Itoa(b.givenUp(o.transactionID)+1)
	case told.after.State == RefundStateHeld && told.after.TransactionID == o.transactionID &&
		told.after.Amount == o.amount && told.after.countsElsewhere():
		row.RefundID, row.CreatedAt, row.Version = told.after.RefundID, told.after.CreatedAt, told.after.Version
		row.State = NextRefund(RefundStateHeld, RefundEventOwned).To
		fresh.before, fresh.after, fresh.owned = told.before, row, true
		b.refunds.drop(told)
	default: // the number is another refund's at WeChat Pay, or closed there: it can never send this one
		fresh.after.OutRefundNo = otherOwedNo(o.transactionID, b.s.ids.must(b.now))
	}
	b.refunds.add(fresh)
	return fresh
}

// owedRefund is the refund of a payment that is owed back.
func (b *batch) owedRefund(o owing) Refund {
	return Refund{OutRefundNo: owedRefundNo(o.transactionID), OrderNo: o.orderNo, TransactionID: o.transactionID,
		OutTradeNo: o.outTradeNo, Amount: o.amount, PaymentTotal: o.total, State: owedState(),
		Reason: o.reason, Note: owedNotes[o.reason], Generation: 1, Version: 1,
		Requester: Actor{Type: ActorScheduler},
		CreatedAt: b.now, UpdatedAt: b.now, DueAt: b.now}
}

// owedNotes is what the buyer reads of money that comes back by itself.
var owedNotes = map[string]string{
	ReasonLate:      "订单已关闭，支付款原路退回",
	ReasonDuplicate: "订单重复支付，多付款原路退回",
	ReasonHeld:      "支付未匹配到订单，款项原路退回",
}

// moveRefund changes the state of a refund and lets its order follow.
func (b *batch) moveRefund(e *entry, row *refundEntry, h *header, to RefundState, done *applied) {
	r := &row.after
	was := r.State
	r.State, r.DueAt, row.touched = to, time.Time{}, true
	r.Said = RefundWord{} // it was about the refund as it stood then
	switch to {
	case RefundStateOwed: // again, after a no: WeChat does not know the number, so there is nothing to repeat
		r.DueAt, r.NotifyURL, r.Tries = b.now, b.s.cfg.RefundNotifyURL, 0
	case RefundStateProcessing:
		r.DueAt = b.now.Add(b.s.cfg.RefundPoll[0])
		r.Tries = 1
	case RefundStateAbnormal:
		r.DueAt = b.now.Add(abnormalPoll)
		done.alarms = append(done.alarms,
			"WeChat Pay cannot pay a refund out: act on the merchant platform, or settle it by hand")
	case RefundStateSucceeded, RefundStateByHand:
		if r.Restock && len(r.Items) > 0 {
			b.partial = append(b.partial, stock.PartialReturn{OrderNo: r.OrderNo, Ref: r.OutRefundNo, Lines: r.Items})
		}
	case RefundStateClosed:
		done.refund.successor = b.succeed(row)
	case RefundStatePending, RefundStateRejected, RefundStateRefused, RefundStateCancelled, RefundStateHeld:
	}
	if paid := b.refunds.payments[r.TransactionID]; paid != nil && was.Committed() && !to.Committed() {
		paid.adds -= r.Amount
		if to.givenUp() && r.Reason == ReasonHeld { // somebody has to decide again
			paid.outcome, paid.owe = SettledHeld, true
		}
	}
	b.applyToOrder(e, h, row, b.endEvent(e, row), refundNames[to], done)
}

// Waits before another number is tried: a refund that WeChat closes again and
// again is an operator's, yet never forgotten.
var closedWaits = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// succeed makes the refund that takes the place of one that WeChat Pay closed.
func (b *batch) succeed(row *refundEntry) Refund {
	r := &row.after
	next := Refund{OutRefundNo: successorNo(*r), OrderNo: r.OrderNo, TransactionID: r.TransactionID,
		OutTradeNo: r.OutTradeNo, Amount: r.Amount, PaymentTotal: r.PaymentTotal,
		State:  successorState(b.numbersOf(r.TransactionID)),
		Reason: r.Reason, Note: r.Note, Items: r.Items, Restock: r.Restock, Requester: r.Requester, Shop: r.Shop,
		ApprovalsNeeded: r.ApprovalsNeeded, Replaces: r.OutRefundNo, Generation: r.Generation + 1,
		CreatedAt: b.now, UpdatedAt: b.now, Version: 1}
	if next.State == RefundStateRefused {
		next.Problem = ErrTooManyRefunds.Error()
	} else {
		next.DueAt = b.now.Add(backoff(closedWaits, int64(r.Generation-1)))
	}
	b.refunds.add(&refundEntry{after: next, touched: true})
	if paid := b.refunds.payments[r.TransactionID]; paid != nil {
		paid.adds += next.Amount // the closed one's share is given back beside it
	}
	return next
}

// waitsFor is why the refunds exist that an order in this state waits for: those of its
// own money. What goes back of other money that came for it (a second payment, one that
// was held) is none of its business. "" for a state that waits for none.
func (s State) waitsFor() string {
	switch s {
	case StateRefunding:
		return ReasonAftersale
	case StateLate:
		return ReasonLate
	case StatePending, StateClosing, StateClosed, StatePaid, StateRefunded:
	}
	return ""
}

// endEvent is what the end of a refund is to its order; "" when it has not
// ended, or is none of the order's business.
func (b *batch) endEvent(e *entry, row *refundEntry) Event {
	if e == nil || row.after.State.Open() {
		return ""
	}
	why := e.after.State.waitsFor()
	open, back := false, payment.Fen(0)
	for _, r := range b.refunds.ofOrder[e.after.OrderNo] {
		if r.after.Reason != why {
			continue
		}
		open = open || r.after.State.Open()
		if r.after.State.PaidBack() {
			back += r.after.Amount
		}
	}
	switch all := back >= e.after.Total; {
	case why == "":
		return ""
	case e.after.State == StateLate && all: // also when it was back before, and an earlier program waited for others
		return EventRefundAll
	case row.after.Reason != why:
		return ""
	case open:
		return EventRefundNext
	case all:
		return EventRefundAll
	case row.after.State.PaidBack():
		return EventRefundPart
	}
	return EventRefundFail
}

// applyToOrder writes an event about a refund into its order. The order moves
// when event says so and the table agrees; "" for an event that moves nothing.
func (b *batch) applyToOrder(e *entry, h *header, r *refundEntry, event Event, name string, done *applied) {
	if e == nil {
		return
	}
	extra := map[string]string{"out_refund_no": r.after.OutRefundNo, "refund": r.after.Amount.String()}
	if p := r.after.Problem; p != "" {
		extra["problem"] = p
	}
	if r.after.Replaces != "" {
		extra["replaces"] = r.after.Replaces
	}
	if r.after.Told != "" {
		extra["wechat"], extra["transaction_id"] = string(r.after.Told), r.after.TransactionID
	}
	if len(r.after.Items) > 0 && name == "refund.requested" {
		extra["items"] = strings.Trim(fmt.Sprint(r.after.Items), "[]")
	}
	if r.after.Reason == ReasonAftersale { // what people have to agree to: verify holds the row to the newest of these
		extra["approvals"] = strconv.Itoa(r.after.ApprovalsNeeded)
		extra["restock"] = strconv.FormatInt(flag(r.after.Restock), 10)
	}
	from := e.after.State
	if event != "" {
		cell := Next(from, event)
		switch cell.Verdict {
		case VerdictMove:
			e.after.State, e.after.DueAt = cell.To, time.Time{}
			done.before, done.cell = from, cell
		case VerdictSame:
		case VerdictRefuse, VerdictAlarm:
			done.alarms = append(done.alarms, cell.Why)
		}
	}
	b.record(e, h, name, from, extra)
	done.order = e.after
}
