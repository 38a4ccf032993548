package order

import (
	"slices"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment/operators"
)

// What people decide about refunds.

// decideRefund is a person's decision.
type decideRefund struct {
	ofRefund
	event RefundEvent
	why   string // the person's words
	// restock is the person's word for whether goods go back to the shelf; nil: none.
	restock *bool
	version int64 // the decision is about this version only; 0 for any
}

// needs adds who decides.
func (c *decideRefund) needs(n *needs) {
	c.ofRefund.needs(n)
	n.person(c.cause.Actor)
}

// decide counts an approval, or takes the refund through its table.
func (c *decideRefund) decide(b *batch) (applied, error) {
	e, r, err := c.find(b)
	if err != nil {
		return applied{}, err
	}
	if c.version != 0 && (c.version != r.after.Version || r.touched) { // touched: by another command of this batch
		return applied{}, ErrVersion
	}
	if c.event == RefundEventApprove && c.restock != nil && *c.restock != r.after.Restock &&
		(r.after.State != RefundStatePending || r.after.approvedBy(c.cause.Actor.ID)) {
		return applied{}, &RefundRefusedError{Refund: r.after, Event: c.event, Why: refundDecided}
	}
	if c.event != RefundEventRetry && !b.people.May(c.cause.Actor.ID, operators.Finance) {
		return applied{}, operators.ErrNoLonger
	}
	switch {
	case c.event == RefundEventApprove && r.after.State == RefundStatePending:
		return c.approve(b, e, r)
	case c.event == RefundEventApprove && r.after.State == RefundStateHeld:
		return c.lookedAt(b, e, r), nil
	}
	cell, why := r.after.CanDecide(c.event, b.now), c.why
	var alarms []string
	if c.event == RefundEventByHand && cell.Verdict == VerdictMove && b.takesTwo(&r.after, c.cause.Actor.ID) {
		done, both, noted, err := b.firstOfTwo(e, r, &c.header, c.why, saidByHand, "refund.by_hand_said")
		if noted && r.touched { // not for a repeat
			c.sayRestock(r)
			done.refund.row = r.after
		}
		if noted || err != nil {
			return done, err
		}
		why, alarms = both, done.alarms
	}
	done, err := b.refundEvent(e, r, &c.header, c.event, cell, func() {
		c.sayRestock(r)
		r.after.DecidedBy = bounds.Operator.Cut(c.cause.Actor.ID)
		r.after.DecidedWhy = bounds.Reason.Shorten(why)
	})
	done.alarms = append(alarms, done.alarms...)
	return done, err
}

// takesTwo reports that it takes a second person beside who to settle a refund by hand, or
// to send it to another account. It does of a sum that two have to approve, since nobody but
// they can say that it went back; and of what who has asked for, or somebody who is no other.
func (b *batch) takesTwo(r *Refund, who string) bool {
	asked := r.Requester.Type == ActorOperator && b.people.Second(who, r.Requester.ID) != nil
	return asked || r.ApprovalsNeeded > 1 || b.s.ApprovalsFor(r.Amount) > 1
}

// SaidByHand is the first of the two people who settle a refund by hand, as long as the
// second is waited for; "" for nobody.
func (r *Refund) SaidByHand() string {
	if NextRefund(r.State, RefundEventByHand).Verdict != VerdictMove || r.Said.What != saidByHand {
		return ""
	}
	return r.Said.By
}

// firstOfTwo notes the first person's word about a refund: what they say, one of those of
// RefundWord. It gives noted false when this is the second's, and then both is the reason
// with the first person's name.
func (b *batch) firstOfTwo(e *entry, r *refundEntry, h *header, why, what, event string) (done applied, both string,
	noted bool, err error) {
	who, first := h.cause.Actor.ID, ""
	if r.after.Said.What == what {
		first = r.after.Said.By
	}
	which, err := b.wordBeside(who, first)
	switch {
	case err != nil:
		return applied{}, "", false, err
	case which == wordRepeated:
		return applied{refund: &refundApplied{row: r.after}}, "", true, nil
	case which == wordSecond:
		b.actsFresh(who, &done)
		return done, "with " + first + ": " + why, false, nil
	}
	r.after.Said = RefundWord{What: what, By: bounds.Operator.Cut(who), Why: bounds.Reason.Cut(why), At: b.now}
	r.touched = true
	done = applied{refund: &refundApplied{}}
	b.actsFresh(who, &done)
	b.applyToOrder(e, h, r, "", event, &done)
	done.refund.row = r.after
	return done, "", true, nil
}

// CanDecide says what a decision about the refund leads to at a time, or why it is refused; who decides is not
// looked at. It is what the table says, and what it cannot know: an answer of WeChat Pay may still be on its way,
// and money that is owed is nobody's to keep. That of a payment that is held is decided about again.
func (r *Refund) CanDecide(e RefundEvent, now time.Time) RefundCell {
	cell := NextRefund(r.State, e)
	if cell.Verdict != VerdictMove {
		return cell
	}
	cancels := e == RefundEventCancel
	onItsWay := r.State == RefundStateOwed || r.State == RefundStateProcessing
	ends := cancels || (e == RefundEventByHand && (r.State == RefundStateRefused || onItsWay))
	switch {
	case e == RefundEventByHand && onItsWay && (r.Problem == "" || r.SentAt.IsZero()):
		return refuseRefundCell(refundNotBroken)
	case ends && now.Before(r.AskedAt.Add(answerWait)):
		return refuseRefundCell("WeChat Pay was asked less than a minute ago; wait until no answer can be on its way")
	case cancels && (r.Reason == ReasonLate || r.Reason == ReasonDuplicate):
		return refuseRefundCell("this money is owed back whoever wants it; retry it, or settle it by hand")
	case e == RefundEventReject && r.toldPaid():
		return refuseRefundCell("WeChat Pay says that it has this refund (" + string(r.Told) +
			"): approve it, then its word is taken in")
	}
	return cell
}

// lookedAt notes that a person has looked at a refund that was made elsewhere. It counts
// against its payment as before, and no longer keeps what is left from going back by
// itself.
func (c *decideRefund) lookedAt(b *batch, e *entry, r *refundEntry) applied {
	done := applied{refund: &refundApplied{}}
	if r.after.DecidedBy == "" {
		r.after.DecidedBy = bounds.Operator.Cut(c.cause.Actor.ID)
		r.after.DecidedWhy = bounds.Reason.Shorten(c.why)
		r.touched = true
		b.applyToOrder(e, &c.header, r, "", "refund.looked_at", &done)
	}
	done.refund.row = r.after
	return done
}

// sayRestock takes the person's word for the goods. It is written with the approval or the
// end that it came with; the last word counts.
func (c *decideRefund) sayRestock(r *refundEntry) {
	if c.restock != nil {
		r.after.Restock = *c.restock
	}
}

// restocks is whether the goods of a request go back to the shelf, as long as whoever
// approves it says nothing else.
func (s *Service) restocks(ask *AskRefund) bool {
	return ask.Restock || (!ask.NoRestock && !s.cfg.RefundNoRestock)
}

// approvals are those of a refund and of the closed ones whose place it takes: people agreed
// to the money, not to a number.
func (s *refundSet) approvals(r *Refund) []Approval {
	all := slices.Clone(r.Approvals)
	for old := s.byNo[r.Replaces]; old != nil; old = s.byNo[old.after.Replaces] {
		all = append(all, old.after.Approvals...)
	}
	return all
}

// actedBefore are the operators who have asked for a refund or approved it.
func (s *refundSet) actedBefore(r *Refund) []string {
	var all []string
	if r.Requester.Type == ActorOperator {
		all = append(all, r.Requester.ID)
	}
	for _, a := range s.approvals(r) {
		all = append(all, a.Approver)
	}
	return all
}

// approvedBy reports that an operator has approved it.
func (r *Refund) approvedBy(name string) bool {
	return slices.ContainsFunc(r.Approvals, func(a Approval) bool { return a.Approver == name })
}

// approve counts one person once; the last one needed sends the refund. What takes two
// operators takes two people by the rule of package operators: the one who asked, if it was
// one, and everybody who approves. Who has lost account or role since counts no more.
func (c *decideRefund) approve(b *batch, e *entry, r *refundEntry) (applied, error) {
	who := c.cause.Actor
	if who.ID == r.after.Requester.ID && who.Type == r.after.Requester.Type {
		return applied{}, ErrSelfApproval
	}
	if r.after.approvedBy(who.ID) {
		return applied{refund: &refundApplied{row: r.after}}, nil
	}
	r.after.ApprovalsNeeded = b.asksFor(&r.after)
	if err := b.mayApprove(who, &r.after); err != nil {
		return applied{}, err
	}
	// One that WeChat Pay has takes nothing more by being approved.
	if paid := b.refunds.payments[r.after.TransactionID]; paid != nil && !r.after.toldPaid() {
		if why := b.refunds.tooMuch(paid); why != "" {
			return applied{}, &RefundRefusedError{Refund: r.after, Event: c.event, Why: why + "; reject it"}
		}
	}
	a := Approval{Approver: who.ID, Reason: c.why, At: b.now, Fresh: b.people.Fresh(who.ID, b.now)}
	c.sayRestock(r)
	r.after.Approvals = append(slices.Clone(r.after.Approvals), a)
	r.approvals, r.touched = append(r.approvals, a), true
	done := applied{refund: &refundApplied{}}
	b.actsFresh(who.ID, &done)
	if b.counted(&r.after) >= b.needed(&r.after) {
		r.after.State, r.after.DueAt = NextRefund(r.after.State, RefundEventApprove).To, b.now
		r.after.Problem = "" // what it was held back for
	}
	b.applyToOrder(e, &c.header, r, "", "refund.approved", &done)
	done.refund.row = r.after
	return done, nil
}

// actsFresh raises the alarm of what takes two people and was done by an account or token so
// young that it may be one person's second.
func (b *batch) actsFresh(who string, done *applied) {
	if b.people.Fresh(who, b.now) {
		done.alarms = append(done.alarms, "a refund was approved by an account or token of less than a day: "+who)
	}
}

// mayApprove says why an operator's approval of a refund does not count; nil: it does. The
// shell may approve alone what a customer asked for and one approval suffices for: that
// takes no second person.
func (b *batch) mayApprove(who Actor, r *Refund) error {
	if r.ApprovalsNeeded > 1 && operators.Shell(who.ID) {
		return operators.ErrShell
	}
	for _, other := range b.refunds.actedBefore(r) {
		if other != r.Requester.ID && !b.people.May(other, operators.Finance) {
			continue // an approval that counts no more is in nobody's way
		}
		if err := b.people.Second(who.ID, other); err != nil {
			return err
		}
	}
	return nil
}

// counted is how many approvals of a refund count now. That of the shell counts as long as
// one suffices.
func (b *batch) counted(r *Refund) int {
	who := map[string]bool{}
	for _, a := range b.refunds.approvals(r) {
		if b.people.May(a.Approver, operators.Finance) && (r.ApprovalsNeeded < 2 || !operators.Shell(a.Approver)) {
			who[a.Approver] = true
		}
	}
	return len(who)
}

// agreed reports that enough of those who have agreed to a refund still may. One that needs
// no approval was sent by a rule, or by one person alone, who may be the shell.
func (b *batch) agreed(r *Refund) bool {
	if r.ApprovalsNeeded == 0 {
		return r.Reason != ReasonHeld || r.Requester.Type != ActorOperator ||
			b.people.May(r.Requester.ID, operators.Finance)
	}
	return b.counted(r) >= b.needed(r)
}

// needed is how many approvals a refund needs now. Whoever sent held money back was the
// first of those who agree, as long as they may; the shell, let in by an earlier program, is
// none of them.
func (b *batch) needed(r *Refund) int {
	if r.Reason == ReasonHeld && r.Requester.Type == ActorOperator &&
		(operators.Shell(r.Requester.ID) || !b.people.May(r.Requester.ID, operators.Finance)) {
		return r.ApprovalsNeeded + 1
	}
	return r.ApprovalsNeeded
}
