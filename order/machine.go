package order

import "fmt"

// State is the state of an order, the same word in database, API, logs and docs.
type State string

// The seven states.
const (
	Pending   State = "pending"   // stock held, waiting for money
	Closing   State = "closing"   // stock held, WeChat is being asked to close
	Closed    State = "closed"    // no stock, no money
	Paid      State = "paid"      // stock sold, money here
	Refunding State = "refunding" // paid, a refund is under way
	Refunded  State = "refunded"  // all the money went back
	Late      State = "late"      // paid after it was closed: money here, owed back, no stock
)

// States lists all states in the order of an order's life.
func States() []State { return []State{Pending, Closing, Closed, Paid, Refunding, Refunded, Late} }

// Event is something that happens to an order, whoever brings it.
type Event string

// The events.
const (
	Cancel     Event = "cancel"      // a customer or an operator wants it closed
	Expire     Event = "expire"      // the deadline passed
	CloseDone  Event = "close_done"  // WeChat can no longer take money for it: proven
	Pay        Event = "pay"         // WeChat holds money for it
	Refund     Event = "refund"      // a refund was asked for
	RefundPart Event = "refund_part" // a refund succeeded, some money stays
	RefundAll  Event = "refund_all"  // a refund succeeded, no money stays
	RefundFail Event = "refund_fail" // a refund ended without success
	RefundNext Event = "refund_next" // a refund ended, another one is still under way
	Revive     Event = "revive"      // late money, and the policy takes the stock again: it was all there
)

// Events lists all events.
func Events() []Event {
	return []Event{Cancel, Expire, CloseDone, Pay, Refund, RefundPart, RefundAll, RefundFail, RefundNext, Revive}
}

// Verdict is what the table says of an event.
type Verdict int

// The verdicts.
const (
	// Move: the order goes to Cell.To.
	Move Verdict = iota + 1
	// Same: a harmless repeat; nothing changes and nobody is to blame.
	Same
	// Refuse: it cannot be done; Cell.Why is for a person.
	Refuse
	// Alarm: it must not happen; nothing changes and an operator is told why.
	Alarm
)

// Effect is what must be written in the same transaction as the verdict.
type Effect int

// The effects.
const (
	// None: nothing beside the state and its event.
	None Effect = iota
	// ReturnStock: every unit the order still holds goes back to its SKU.
	ReturnStock
	// OweRefund: the payment that came with this event is owed back, whole.
	OweRefund
	// DeductStock: the lines of the order are taken from the shelf again.
	DeductStock
)

// Cell is one decision.
type Cell struct {
	Verdict Verdict
	To      State  // with Move
	Effect  Effect // with Move or Same
	Why     string // with Refuse or Alarm: a sentence for a person
}

func move(to State) Cell                   { return Cell{Verdict: Move, To: to} }
func moveAnd(to State, effect Effect) Cell { return Cell{Verdict: Move, To: to, Effect: effect} }
func same() Cell                           { return Cell{Verdict: Same} }
func sameAnd(effect Effect) Cell           { return Cell{Verdict: Same, Effect: effect} }
func refuse(why string) Cell               { return Cell{Verdict: Refuse, Why: why} }
func alarm(why string) Cell                { return Cell{Verdict: Alarm, Why: why} }

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
	case Pending:
		return nextPending(e)
	case Closing:
		return nextClosing(e)
	case Closed:
		return nextClosed(e)
	case Paid:
		return nextPaid(e)
	case Refunding:
		return nextRefunding(e)
	case Refunded:
		return nextRefunded(e)
	case Late:
		return nextLate(e)
	}
	panic(fmt.Sprintf("order: no such state %q", s))
}

func nextPending(e Event) Cell {
	switch e {
	case Cancel, Expire:
		return move(Closing)
	case CloseDone:
		return alarm(notAsked)
	case Pay:
		return move(Paid)
	case Refund:
		return refuse(notPaid)
	case RefundPart, RefundAll, RefundFail, RefundNext:
		return alarm(noRefundYet)
	case Revive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

func nextClosing(e Event) Cell {
	switch e {
	case Cancel, Expire:
		return same()
	case CloseDone:
		return moveAnd(Closed, ReturnStock)
	case Pay:
		return move(Paid)
	case Refund:
		return refuse(notPaid)
	case RefundPart, RefundAll, RefundFail, RefundNext:
		return alarm(noRefundYet)
	case Revive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

func nextClosed(e Event) Cell {
	switch e {
	case Cancel, Expire, CloseDone:
		return same()
	case Pay:
		return moveAnd(Late, OweRefund)
	case Refund:
		return refuse(notPaid)
	case RefundPart, RefundAll, RefundFail, RefundNext:
		return alarm(noRefundYet)
	case Revive:
		return moveAnd(Paid, DeductStock)
	}
	panic(noEvent(e))
}

func nextPaid(e Event) Cell {
	switch e {
	case Cancel:
		return refuse(paidNoCancel)
	case Expire:
		return same()
	case CloseDone:
		return alarm(paidNotClosed)
	case Pay:
		return sameAnd(OweRefund) // another transaction: that one is owed
	case Refund:
		return move(Refunding)
	case RefundPart, RefundAll, RefundFail, RefundNext:
		return alarm(noRefundYet)
	case Revive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

func nextRefunding(e Event) Cell {
	switch e {
	case Cancel:
		return refuse(paidNoCancel)
	case Expire:
		return same()
	case CloseDone:
		return alarm(paidNotClosed)
	case Pay:
		return sameAnd(OweRefund)
	case Refund, RefundNext:
		return same() // several may be under way, their sum is bounded
	case RefundPart, RefundFail:
		return move(Paid)
	case RefundAll:
		return move(Refunded)
	case Revive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

func nextRefunded(e Event) Cell {
	switch e {
	case Cancel:
		return refuse(allWentBack)
	case Expire:
		return same()
	case CloseDone:
		return alarm(paidNotClosed)
	case Pay:
		return sameAnd(OweRefund)
	case Refund:
		return refuse(allWentBack)
	case RefundPart, RefundAll, RefundFail, RefundNext:
		return alarm(noRefundYet)
	case Revive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

func nextLate(e Event) Cell {
	switch e {
	case Cancel, Expire, CloseDone:
		return same()
	case Pay:
		return sameAnd(OweRefund)
	case Refund:
		return refuse(lateRefund)
	case RefundPart:
		return alarm("a late payment goes back whole, not in part")
	case RefundAll:
		return move(Refunded)
	case RefundFail:
		return alarm("the refund of a late payment failed: the buyer's money is still here")
	case RefundNext:
		return same()
	case Revive:
		return alarm(notClosed)
	}
	panic(noEvent(e))
}

func noEvent(e Event) string { return fmt.Sprintf("order: no such event %q", e) }
