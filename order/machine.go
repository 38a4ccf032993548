package order

import "fmt"

// State is the state of an order, the same word in database, API, logs and docs.
type State string

// The seven states.
const (
	// StatePending holds stock and waits for money. It ends with a payment, a cancel
	// or its deadline.
	StatePending State = "pending"
	// StateClosing holds stock while WeChat Pay is asked to close. It ends with a
	// proof that no money can come, or with a payment that was quicker.
	StateClosing State = "closing"
	// StateClosed has neither stock nor money. It ends only when money comes late.
	StateClosed State = "closed"
	// StatePaid has sold its stock and has its money. It ends when a refund is asked for.
	StatePaid State = "paid"
	// StateRefunding is paid with one or more refunds under way. It ends when the
	// last of them does.
	StateRefunding State = "refunding"
	// StateRefunded has given all its money back. It does not end.
	StateRefunded State = "refunded"
	// StateLate was paid after it was closed: it has money, owed back, and no stock.
	// It ends when the money has gone back.
	StateLate State = "late"
)

// States lists all states in the order of an order's life.
func States() []State {
	return []State{StatePending, StateClosing, StateClosed, StatePaid, StateRefunding, StateRefunded, StateLate}
}

// Event is something that happens to an order, whoever brings it.
type Event string

// The events.
const (
	EventCancel     Event = "cancel"      // a customer or an operator wants it closed
	EventExpire     Event = "expire"      // the deadline passed
	EventCloseDone  Event = "close_done"  // WeChat can no longer take money for it: proven
	EventPay        Event = "pay"         // WeChat holds money for it
	EventRefund     Event = "refund"      // a refund was asked for
	EventRefundPart Event = "refund_part" // a refund succeeded, some money stays
	EventRefundAll  Event = "refund_all"  // a refund succeeded, no money stays
	EventRefundFail Event = "refund_fail" // a refund ended without success
	EventRefundNext Event = "refund_next" // a refund ended, another one is still under way
	EventRevive     Event = "revive"      // late money, and the policy takes the stock again: it was all there
)

// Events lists all events.
func Events() []Event {
	return []Event{EventCancel, EventExpire, EventCloseDone, EventPay, EventRefund,
		EventRefundPart, EventRefundAll, EventRefundFail, EventRefundNext, EventRevive}
}

// Verdict is what the table says of an event.
type Verdict int

// The verdicts.
const (
	// VerdictMove: the order goes to Cell.To.
	VerdictMove Verdict = iota + 1
	// VerdictSame: a harmless repeat; nothing changes and nobody is to blame.
	VerdictSame
	// VerdictRefuse: it cannot be done; Cell.Why is for a person.
	VerdictRefuse
	// VerdictAlarm: it must not happen; nothing changes and an operator is told why.
	VerdictAlarm
)

// Effect is what must be written in the same transaction as the verdict.
type Effect int

// The effects.
const (
	// EffectNone: nothing beside the state and its event.
	EffectNone Effect = iota
	// EffectReturnStock: every unit the order still holds goes back to its SKU.
	EffectReturnStock
	// EffectOweRefund: the payment that came with this event is owed back, whole.
	EffectOweRefund
	// EffectDeductStock: the lines of the order are taken from the shelf again.
	EffectDeductStock
	// EffectCloseReason: who wants the order closed is written down, if that is news
	// (CloseReason.then).
	EffectCloseReason
)

// Cell is one decision.
type Cell struct {
	Verdict Verdict
	To      State  // with Move
	Effect  Effect // with Move or Same
	Why     string // with Refuse or Alarm: a sentence for a person
}

// The kinds of cells.
func move(to State) Cell                   { return Cell{Verdict: VerdictMove, To: to} }
func moveAnd(to State, effect Effect) Cell { return Cell{Verdict: VerdictMove, To: to, Effect: effect} }
func same() Cell                           { return Cell{Verdict: VerdictSame} }
func sameAnd(effect Effect) Cell           { return Cell{Verdict: VerdictSame, Effect: effect} }
func refuse(why string) Cell               { return Cell{Verdict: VerdictRefuse, Why: why} }
func alarm(why string) Cell                { return Cell{Verdict: VerdictAlarm, Why: why} }

// Why the table says no, for the person who asked; why it raises an alarm, for an
// operator.
const (
	notPaid       = "the order has not been paid, there is nothing to refund"
	noRefundYet   = "no refund of this order is under way"
	paidNoCancel  = "the order is paid; ask for a refund instead"
	paidNotClosed = "WeChat Pay says closed, yet we hold its payment"
	notAsked      = "nobody asked WeChat Pay to close this order"
	lateRefund    = "the order is closed; its late payment goes back by itself"
	allWentBack   = "all the money of this order went back already"
	notClosed     = "the order is not closed, there is nothing to revive"
)

// Next is the state machine: one cell for every state and event, no I/O. Pay
// means a payment that was not recorded before; a repeat of a recorded one
// never gets here.
func Next(s State, e Event) Cell {
	switch s {
	case StatePending:
		return nextPending(e)
	case StateClosing:
		return nextClosing(e)
	case StateClosed:
		return nextClosed(e)
	case StatePaid:
		return nextPaid(e)
	case StateRefunding:
		return nextRefunding(e)
	case StateRefunded:
		return nextRefunded(e)
	case StateLate:
		return nextLate(e)
	}
	panic(fmt.Sprintf("order: no such state %q", s))
}

// nextPending: the buyer may pay, cancel or let the time pass. Nothing takes it to
// closed directly: WeChat Pay is asked first.
func nextPending(e Event) Cell {
	switch e {
	case EventCancel, EventExpire:
		return move(StateClosing)
	case EventCloseDone:
		return alarm(notAsked)
	case EventPay:
		return move(StatePaid)
	case EventRefund:
		return refuse(notPaid)
	case EventRefundPart, EventRefundAll, EventRefundFail, EventRefundNext:
		return alarm(noRefundYet)
	case EventRevive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

// nextClosing: WeChat Pay is being asked to close, and a payment may still win. Only
// a proof (close_done) gives the stock back.
func nextClosing(e Event) Cell {
	switch e {
	case EventCancel:
		return sameAnd(EffectCloseReason)
	case EventExpire:
		return same()
	case EventCloseDone:
		return moveAnd(StateClosed, EffectReturnStock)
	case EventPay:
		return move(StatePaid)
	case EventRefund:
		return refuse(notPaid)
	case EventRefundPart, EventRefundAll, EventRefundFail, EventRefundNext:
		return alarm(noRefundYet)
	case EventRevive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

// nextClosed: stock is back on the shelf. Money that still comes is late: it goes
// back, or takes the stock again if the policy says so and all of it is there.
func nextClosed(e Event) Cell {
	switch e {
	case EventCancel:
		return sameAnd(EffectCloseReason)
	case EventExpire, EventCloseDone:
		return same()
	case EventPay:
		return moveAnd(StateLate, EffectOweRefund)
	case EventRefund:
		return refuse(notPaid)
	case EventRefundPart, EventRefundAll, EventRefundFail, EventRefundNext:
		return alarm(noRefundYet)
	case EventRevive:
		return moveAnd(StatePaid, EffectDeductStock)
	}
	panic(noEvent(e))
}

// nextPaid: stock is sold and the money is here. Only refunds lead on; another
// payment is owed back.
func nextPaid(e Event) Cell {
	switch e {
	case EventCancel:
		return refuse(paidNoCancel)
	case EventExpire:
		return same()
	case EventCloseDone:
		return alarm(paidNotClosed)
	case EventPay:
		return sameAnd(EffectOweRefund) // another transaction: that one is owed
	case EventRefund:
		return move(StateRefunding)
	case EventRefundPart, EventRefundAll, EventRefundFail, EventRefundNext:
		return alarm(noRefundYet)
	case EventRevive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

// nextRefunding: one or more refunds are under way, their sum bounded by the
// payment. The end of the last one leads to paid (money is left) or refunded.
func nextRefunding(e Event) Cell {
	switch e {
	case EventCancel:
		return refuse(paidNoCancel)
	case EventExpire:
		return same()
	case EventCloseDone:
		return alarm(paidNotClosed)
	case EventPay:
		return sameAnd(EffectOweRefund)
	case EventRefund, EventRefundNext:
		return same() // several may be under way, their sum is bounded
	case EventRefundPart, EventRefundFail:
		return move(StatePaid)
	case EventRefundAll:
		return move(StateRefunded)
	case EventRevive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

// nextRefunded: all the money went back. An end: only another payment can come, and
// it is owed back.
func nextRefunded(e Event) Cell {
	switch e {
	case EventCancel:
		return refuse(allWentBack)
	case EventExpire:
		return same()
	case EventCloseDone:
		return alarm(paidNotClosed)
	case EventPay:
		return sameAnd(EffectOweRefund)
	case EventRefund:
		return refuse(allWentBack)
	case EventRefundPart, EventRefundAll, EventRefundFail, EventRefundNext:
		return alarm(noRefundYet)
	case EventRevive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

// nextLate: money for an order whose stock was given back. Its refund, whole, leads
// to refunded.
func nextLate(e Event) Cell {
	switch e {
	case EventCancel, EventExpire, EventCloseDone:
		return same()
	case EventPay:
		return sameAnd(EffectOweRefund)
	case EventRefund:
		return refuse(lateRefund)
	case EventRefundPart:
		return alarm("a late payment goes back whole, not in part")
	case EventRefundAll:
		return move(StateRefunded)
	case EventRefundFail:
		return alarm("the refund of a late payment failed: the buyer's money is still here")
	case EventRefundNext:
		return same()
	case EventRevive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

// noEvent is the panic of an event that the table does not know: the linter
// exhaustive finds a forgotten one before it can be reached.
func noEvent(e Event) string { return fmt.Sprintf("order: no such event %q", e) }
