package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/operators"
)

// Money that is held and nobody's: two people write it off. It stays with the merchant, goes
// to no order and back to nobody.

// WriteOff is what people have said of a payment that is held.
type WriteOff struct {
	Amount      payment.Fen // what is written off: the payment, less what went back elsewhere by then
	ProposedBy  string      // the first person, "" for nobody
	ProposedWhy string      // that person's words
	ProposedAt  time.Time
	// WrittenOffBy is the second person, "" as long as one is waited for.
	WrittenOffBy  string
	WrittenOffWhy string
	WrittenOffAt  time.Time
}

// Done reports that two people have written the payment off.
func (w *WriteOff) Done() bool { return !w.WrittenOffAt.IsZero() }

// writeOffEntry is what was said of a payment as it was loaded, and as it becomes.
type writeOffEntry struct {
	before, after WriteOff
	touched       bool // it has to be written
}

// writeOff gives what was said of a payment, an empty one for nothing.
func (s *refundSet) writeOff(transactionID string) *writeOffEntry {
	e := s.writeOffs[transactionID]
	if e == nil {
		e = new(writeOffEntry)
		s.writeOffs[transactionID] = e
	}
	return e
}

// writtenOff reports that a payment is written off.
func (s *refundSet) writtenOff(transactionID string) bool {
	e := s.writeOffs[transactionID]
	return e != nil && e.after.Done()
}

// The events of the timeline that tell of a write-off: the first word, and the second.
const (
	eventWriteOffSaid = "payment.write_off_said"
	eventWrittenOff   = "payment.written_off"
)

// freshWriteOff tells of a word that may be one person's second.
const freshWriteOff = "held money was written off by an account or token of less than a day: "

// writeOffHeld: a person says that money which is held stays here and is nobody's. It takes
// two people whatever the sum, as the write-off of a difference does: nobody else ever hears
// of it.
type writeOffHeld struct {
	header
	transactionID string
	why           string // the person's words
}

// needs adds the payment, everything that went back of it, and who decides.
func (c *writeOffHeld) needs(n *needs) {
	n.refundsOfOrder(c.orderNo)
	n.refunded[c.transactionID], n.refundsOfPayment[c.transactionID] = true, true
	n.person(c.cause.Actor)
}

// decide notes the first of two people, or takes the payment out of what is held.
func (c *writeOffHeld) decide(b *batch) (applied, error) {
	p := b.refunds.payments[c.transactionID]
	switch {
	case p == nil:
		return applied{}, ErrNotFound
	case p.orderNo != c.orderNo: // recorded meanwhile: its order is not locked, and would not hear of it
		return applied{}, errOtherOrder
	case c.cause.Actor.Type != ActorOperator:
		return applied{}, &HeldError{Why: "people decide whether money that is held is written off"}
	case !b.people.May(c.cause.Actor.ID, operators.Finance):
		return applied{}, operators.ErrNoLonger
	case c.cause.Actor.ID == operators.Bootstrap: // a first word beside which nobody whom it made is a second
		return applied{}, operators.ErrShell
	}
	w := b.refunds.writeOff(c.transactionID)
	switch {
	case w.after.Done():
		return c.again(&w.after)
	case heldRefused(HeldWriteOff, p.outcome, p.reason) != "":
		return applied{}, &HeldError{Why: heldRefused(HeldWriteOff, p.outcome, p.reason)}
	}
	left, err := b.refunds.keepable(p)
	if err != nil {
		return applied{}, err
	}
	first := ""
	if b.refunds.stillSaid(&w.after, c.transactionID, left) {
		first = w.after.ProposedBy
	}
	which, err := b.wordBeside(c.cause.Actor.ID, first)
	switch {
	case err != nil:
		return applied{}, err
	case which == wordRepeated && w.after.ProposedWhy != c.why:
		return applied{}, &HeldError{Why: "you have proposed to write this payment off, for another reason, and a " +
			"second person is waited for; repeat it with that reason"}
	case which == wordRepeated:
		return applied{waits: true}, nil
	}
	return c.word(b, p, w, which, left), nil
}

// word takes down one of two people's word.
func (c *writeOffHeld) word(b *batch, p *paidEntry, w *writeOffEntry, which word, left payment.Fen) applied {
	who, event := bounds.Operator.Cut(c.cause.Actor.ID), eventWriteOffSaid
	done, fresh := applied{}, []string{who}
	extra := map[string]string{"written_off": left.String()}
	w.touched = true
	if which == wordFirst {
		w.after = WriteOff{Amount: left, ProposedBy: who, ProposedWhy: c.why, ProposedAt: b.now}
		done.waits = true
	} else {
		event, extra["with"] = eventWrittenOff, w.after.ProposedBy
		fresh = append(fresh, w.after.ProposedBy)
		w.after.WrittenOffBy, w.after.WrittenOffWhy, w.after.WrittenOffAt = who, c.why, b.now
		p.owe, p.outcome = true, SettledOwed
	}
	for _, name := range fresh {
		if b.people.Fresh(name, b.now) {
			done.alarms = append(done.alarms, freshWriteOff+name)
		}
	}
	if e := b.orders[c.orderNo]; e != nil {
		b.record(e, &c.header, event, e.after.State, extra)
		done.order = e.after
	}
	return done
}

// again is a word about a payment that is written off: a repeat by one of the two is told so,
// everybody else that it is decided.
func (c *writeOffHeld) again(w *WriteOff) (applied, error) {
	who := c.cause.Actor.ID
	if who == w.ProposedBy && c.why == w.ProposedWhy || who == w.WrittenOffBy && c.why == w.WrittenOffWhy {
		return applied{}, nil
	}
	return applied{}, &HeldError{Why: "this payment was written off by " + w.ProposedBy + " and " + w.WrittenOffBy}
}

// keepable is what of a held payment is left to be written off, 0 when all of it went back
// elsewhere. It waits for what is on its way there, as sendable does.
func (s *refundSet) keepable(p *paidEntry) (payment.Fen, error) {
	for _, r := range s.byNo {
		if n := &r.after; n.TransactionID == p.transactionID && n.countsElsewhere() && !n.wentElsewhere() {
			return 0, &HeldError{Why: "refund " + n.OutRefundNo + " of this payment was made elsewhere and has not " +
				"ended; retry it to ask WeChat Pay, and write the rest off when it has"}
		}
	}
	return s.left(p), nil
}

// stillSaid reports that the first person's word is about the payment as it is: the same sum
// is left, and nobody has sent it back since.
func (s *refundSet) stillSaid(w *WriteOff, transactionID string, left payment.Fen) bool {
	for _, r := range s.byNo {
		if n := &r.after; n.TransactionID == transactionID && !n.CreatedAt.Before(w.ProposedAt) {
			return false
		}
	}
	return w.Amount == left
}

// word is which of two people's words one is.
type word int

// The words.
const (
	wordFirst    word = iota // nobody's that counts was before it
	wordRepeated             // the first person's again: it changes nothing
	wordSecond               // what takes two people is done by it
)

// wordBeside judges the word of who, where it takes two people, beside that of first, "" for
// nobody's. That of the shell never counts, nor that of whoever has lost account or role since;
// two are two by the rule of package operators, whose errors it gives.
func (b *batch) wordBeside(who, first string) (word, error) {
	counts := first != "" && !operators.Shell(first) && b.people.May(first, operators.Finance)
	switch {
	case operators.Shell(who):
		return wordFirst, operators.ErrShell
	case !counts:
		return wordFirst, nil
	case first == who:
		return wordRepeated, nil
	}
	return wordSecond, b.people.Second(who, first)
}

// writeOffHeld brings a person's word that a payment which is held is written off, and reports
// whether a second person is waited for.
func (s *Service) writeOffHeld(ctx context.Context, r ResolveHeld) (waits bool, err error) {
	var no string
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		no, err = orderOfPayment(ctx, tx, r.TransactionID)
		return err
	})
	if err != nil {
		return false, sqldb.Wrap("find the order of a held payment", err)
	}
	c := &writeOffHeld{transactionID: r.TransactionID, why: r.Reason, header: header{orderNo: no, cause: r.Cause,
		detail: map[string]string{"transaction_id": r.TransactionID, "reason": r.Reason}}}
	done, err := s.apply(ctx, c)
	if errors.Is(err, errOtherOrder) { // it came a moment ago, or got its order: once
		return s.writeOffHeld(ctx, r)
	}
	return done.waits, err
}

// assertWrittenOff holds a payment that this batch writes off against the two people, and
// against what goes back of it.
func (b *batch) assertWrittenOff(p *paidEntry, w *WriteOff) error {
	switch {
	case p.was != SettledHeld || p.outcome != SettledOwed || p.taken+p.adds != 0:
		return broken(mustWriteOff, p.orderNo, "payment %s is written off, was %s, is %s, and %d fen of it go back",
			p.transactionID, p.was, p.outcome, p.taken+p.adds)
	case w.ProposedBy == "" || b.people.Second(w.WrittenOffBy, w.ProposedBy) != nil:
		return broken(mustWriteOff, p.orderNo, "payment %s is written off by %q and %q", p.transactionID, w.ProposedBy,
			w.WrittenOffBy)
	case w.Amount != b.refunds.left(p):
		return broken(mustWriteOff, p.orderNo, "%d fen of payment %s are written off, %d are left", w.Amount,
			p.transactionID, b.refunds.left(p))
	}
	return nil
}

// judgedBefore reports that this person has had this payment judged again, for the same
// reason, and what came of it: a repeat of what was done.
func judgedBefore(ctx context.Context, tx *sqldb.Tx, r *ResolveHeld) (done ResolvedHeld, ok bool, err error) {
	found, err := findRecorded(ctx, tx, []string{r.TransactionID})
	if err != nil {
		return done, false, err
	}
	p := found[r.TransactionID]
	done = ResolvedHeld{TransactionID: r.TransactionID, OrderNo: p.orderNo, Outcome: HeldApplied, Reason: p.reason}
	switch {
	case p.settled == SettledApplied:
	case p.settled == SettledOwed && (p.reason == ReasonLate || p.reason == ReasonDuplicate):
		done.Outcome = HeldOwed
	default:
		return done, false, nil
	}
	events, err := findEvents(ctx, tx, p.orderNo)
	if err != nil {
		return done, false, fmt.Errorf("find who had a payment judged: %w", err)
	}
	ok = slices.ContainsFunc(events, func(e TimelineEvent) bool {
		return e.Actor == r.Cause.Actor && strings.HasPrefix(e.Event, "payment.") && e.Event != eventWriteOffSaid &&
			e.Detail["transaction_id"] == r.TransactionID && e.Detail["reason"] == r.Reason
	})
	return done, ok, nil
}
