package order

import "fmt"

// RefundState is the state of one refund.
type RefundState string

// The states of a refund. Those of WeChat's own words are processing, success,
// closed and abnormal.
const (
	RefundStatePending    RefundState = "pending_approval" // asked for, finance decides
	RefundStateRejected   RefundState = "rejected"         // finance said no; nothing was sent
	RefundStateOwed       RefundState = "owed"             // approved or due by itself: sent until WeChat has taken it
	RefundStateProcessing RefundState = "processing"       // WeChat has taken it
	RefundStateSucceeded  RefundState = "success"          // the buyer has the money
	RefundStateClosed     RefundState = "closed"           // WeChat gave it up; another number takes its place
	RefundStateAbnormal   RefundState = "abnormal"         // the buyer's account takes no money: a person acts
	RefundStateRefused    RefundState = "refused"          // WeChat's definite no: a person decides
	RefundStateCancelled  RefundState = "cancelled"        // refused, and given up
	RefundStateByHand     RefundState = "by_hand"          // paid back outside WeChat Pay, a person vouches for it
	RefundStateHeld       RefundState = "held"             // WeChat tells of a refund that we never asked for, see Told
)

// RefundStates lists all states of a refund.
func RefundStates() []RefundState {
	return []RefundState{RefundStatePending, RefundStateRejected, RefundStateOwed, RefundStateProcessing,
		RefundStateSucceeded, RefundStateClosed, RefundStateAbnormal, RefundStateRefused, RefundStateCancelled,
		RefundStateByHand, RefundStateHeld}
}

// Committed reports that the refund's amount counts against its payment: it
// went back, or may go back.
func (s RefundState) Committed() bool {
	switch s {
	case RefundStatePending, RefundStateOwed, RefundStateProcessing, RefundStateSucceeded, RefundStateAbnormal,
		RefundStateRefused, RefundStateByHand:
		return true
	case RefundStateRejected, RefundStateClosed, RefundStateCancelled, RefundStateHeld:
		return false
	}
	panic(fmt.Sprintf("order: no such refund state %q", s))
}

// Open reports that the refund has not ended.
func (s RefundState) Open() bool { return s.Committed() && !s.PaidBack() }

// PaidBack reports that the buyer has the money.
func (s RefundState) PaidBack() bool { return s == RefundStateSucceeded || s == RefundStateByHand }

// RefundEvent is something that happens to a refund.
type RefundEvent string

// The events of a refund: people's, then WeChat's.
const (
	RefundEventApprove   RefundEvent = "approve"   // the last approval that it needed
	RefundEventReject    RefundEvent = "reject"    // finance says no
	RefundEventRetry     RefundEvent = "retry"     // an operator wants it asked again now
	RefundEventCancel    RefundEvent = "cancel"    // finance gives a refused one up
	RefundEventByHand    RefundEvent = "by_hand"   // finance vouches that the money went back another way
	RefundEventAccepted  RefundEvent = "accepted"  // PROCESSING
	RefundEventSucceeded RefundEvent = "succeeded" // SUCCESS
	RefundEventClosed    RefundEvent = "closed"    // CLOSED
	RefundEventAbnormal  RefundEvent = "abnormal"  // ABNORMAL
	RefundEventRefused   RefundEvent = "refused"   // a definite no, and WeChat does not know the number
	RefundEventOwned     RefundEvent = "owned"     // the payment of a held one came: it is ours, from before a restore
	RefundEventHeldBack  RefundEvent = "held_back" // money went back elsewhere before it was sent: people decide again
)

// RefundEvents lists all events of a refund.
func RefundEvents() []RefundEvent {
	return []RefundEvent{RefundEventApprove, RefundEventReject, RefundEventRetry, RefundEventCancel, RefundEventByHand,
		RefundEventAccepted, RefundEventSucceeded, RefundEventClosed, RefundEventAbnormal, RefundEventRefused,
		RefundEventOwned, RefundEventHeldBack}
}

// RefundCell is one decision on a refund. Only Verdict, To and Why are used.
type RefundCell struct {
	Verdict Verdict
	To      RefundState
	Why     string
}

// The kinds of cells.
func moveRefundTo(to RefundState) RefundCell { return RefundCell{Verdict: VerdictMove, To: to} }
func sameRefundCell() RefundCell             { return RefundCell{Verdict: VerdictSame} }
func refuseRefundCell(why string) RefundCell { return RefundCell{Verdict: VerdictRefuse, Why: why} }
func alarmRefundCell(why string) RefundCell  { return RefundCell{Verdict: VerdictAlarm, Why: why} }

// Why the table says no, for the person who asked; why it raises an alarm, for an
// operator.
const (
	refundDecided  = "this refund has been decided already"
	refundEnded    = "this refund has ended"
	refundNotYet   = "this refund waits for its approval"
	refundUnderWay = "this refund is on its way; it can be given up only after WeChat Pay has refused it"
	refundUnasked  = "WeChat Pay answers a refund that was never sent"
	refundRevoked  = "WeChat Pay has changed its mind about a refund that had ended"
	refundForeign  = "this refund was not made here; approve it when you have looked, retry it to ask WeChat Pay, " +
		"cancel it with a second person when WeChat Pay does not know it"
	refundNotBroken = "only a refund that WeChat Pay has refused, cannot pay out, says PROCESSING of for weeks or " +
		"gives no usable answer about is settled by hand"
	refundOurs = "this refund was made here"
)

// A refund begins in one of these states; every later one comes from NextRefund.

// askedState is that of a refund that somebody asks for: it waits for people, or
// is within what is approved by itself.
func askedState(approvalsNeeded int) RefundState {
	if approvalsNeeded == 0 {
		return RefundStateOwed
	}
	return RefundStatePending
}

// owedState is that of money that goes back whoever wants it.
func owedState() RefundState { return RefundStateOwed }

// successorState is that of what takes the place of a closed refund, when its
// payment has so many numbers already: WeChat Pay takes no more than MaxRefunds.
func successorState(numbers int) RefundState {
	if numbers >= MaxRefunds {
		return RefundStateRefused
	}
	return RefundStateOwed
}

// foreignState is that of a refund that WeChat Pay tells of and that was never
// asked for here.
func foreignState() RefundState { return RefundStateHeld }

// NextRefund is the state machine of one refund, no I/O. Word from WeChat may be
// repeated and may come in any order.
func NextRefund(s RefundState, e RefundEvent) RefundCell {
	switch s {
	case RefundStatePending:
		return nextUndecided(e)
	case RefundStateOwed, RefundStateProcessing, RefundStateAbnormal, RefundStateRefused:
		return nextSent(s, e)
	case RefundStateSucceeded, RefundStateClosed:
		return nextAnswered(s, e)
	case RefundStateRejected, RefundStateCancelled, RefundStateByHand:
		return nextEnded(s, e)
	case RefundStateHeld:
		if e == RefundEventOwned {
			return moveRefundTo(RefundStateOwed)
		}
		return refuseRefundCell(refundForeign)
	}
	panic(fmt.Sprintf("order: no such refund state %q", s))
}

// nextUndecided is for a refund that waits for its approval. WeChat Pay was never
// asked.
func nextUndecided(e RefundEvent) RefundCell {
	switch e {
	case RefundEventApprove:
		return moveRefundTo(RefundStateOwed)
	case RefundEventReject:
		return moveRefundTo(RefundStateRejected)
	case RefundEventRetry, RefundEventCancel, RefundEventByHand:
		return refuseRefundCell(refundNotYet)
	case RefundEventAccepted, RefundEventSucceeded, RefundEventClosed, RefundEventAbnormal, RefundEventRefused:
		return alarmRefundCell(refundUnasked)
	case RefundEventOwned:
		return refuseRefundCell(refundOurs)
	case RefundEventHeldBack:
		return sameRefundCell()
	}
	panic(unknownRefundEvent(e))
}

// nextSent is for a refund that may be at WeChat.
func nextSent(s RefundState, e RefundEvent) RefundCell {
	to := map[RefundEvent]RefundState{RefundEventAccepted: RefundStateProcessing,
		RefundEventSucceeded: RefundStateSucceeded, RefundEventClosed: RefundStateClosed,
		RefundEventAbnormal: RefundStateAbnormal, RefundEventRefused: RefundStateRefused}
	switch e {
	case RefundEventApprove:
		return sameRefundCell()
	case RefundEventReject:
		return refuseRefundCell(refundDecided)
	case RefundEventRetry:
		if s == RefundStateRefused {
			return moveRefundTo(RefundStateOwed)
		}
		return sameRefundCell() // asked again now
	case RefundEventCancel:
		if s == RefundStateRefused {
			return moveRefundTo(RefundStateCancelled)
		}
		return refuseRefundCell(refundUnderWay)
	case RefundEventByHand:
		return moveRefundTo(RefundStateByHand) // one on its way only when it is stuck: decideRefund.allowed
	case RefundEventRefused:
		if s == RefundStateProcessing || s == RefundStateAbnormal {
			return alarmRefundCell("WeChat Pay refuses a refund that it had accepted")
		}
	case RefundEventAccepted, RefundEventSucceeded, RefundEventClosed, RefundEventAbnormal:
	case RefundEventOwned:
		return refuseRefundCell(refundOurs)
	case RefundEventHeldBack:
		if s == RefundStateOwed { // and never sent: claimRefund.claimSend
			return moveRefundTo(RefundStatePending)
		}
		return refuseRefundCell(refundDecided)
	default:
		panic(unknownRefundEvent(e))
	}
	if to[e] == s {
		return sameRefundCell()
	}
	return moveRefundTo(to[e])
}

// nextAnswered is for a refund that ended by WeChat's word. An older word that
// comes late is a repeat; one that contradicts the end is an alarm.
func nextAnswered(s RefundState, e RefundEvent) RefundCell {
	switch e {
	case RefundEventApprove:
		return sameRefundCell()
	case RefundEventReject, RefundEventRetry, RefundEventCancel, RefundEventByHand:
		return refuseRefundCell(refundEnded)
	case RefundEventAccepted, RefundEventAbnormal:
		return sameRefundCell()
	case RefundEventSucceeded:
		if s == RefundStateSucceeded {
			return sameRefundCell()
		}
		return alarmRefundCell(refundRevoked)
	case RefundEventClosed:
		if s == RefundStateClosed {
			return sameRefundCell()
		}
		return alarmRefundCell(refundRevoked)
	case RefundEventRefused:
		return alarmRefundCell(refundRevoked)
	case RefundEventOwned:
		return refuseRefundCell(refundOurs)
	case RefundEventHeldBack:
		return refuseRefundCell(refundEnded)
	}
	panic(unknownRefundEvent(e))
}

// nextEnded is for a refund that a person ended.
func nextEnded(s RefundState, e RefundEvent) RefundCell {
	switch e {
	case RefundEventApprove, RefundEventRetry:
		return refuseRefundCell(refundEnded)
	case RefundEventReject:
		if s == RefundStateRejected {
			return sameRefundCell()
		}
		return refuseRefundCell(refundEnded)
	case RefundEventCancel:
		if s == RefundStateCancelled {
			return sameRefundCell()
		}
		return refuseRefundCell(refundEnded)
	case RefundEventByHand:
		if s == RefundStateByHand {
			return sameRefundCell()
		}
		return refuseRefundCell(refundEnded)
	case RefundEventAccepted, RefundEventSucceeded, RefundEventAbnormal:
		return alarmRefundCell("WeChat Pay pays back a refund that was ended here")
	case RefundEventClosed, RefundEventRefused:
		return sameRefundCell()
	case RefundEventOwned:
		return refuseRefundCell(refundOurs)
	case RefundEventHeldBack:
		return refuseRefundCell(refundEnded)
	}
	panic(unknownRefundEvent(e))
}

// unknownRefundEvent is the panic of an event that the table does not know.
func unknownRefundEvent(e RefundEvent) string {
	return fmt.Sprintf("order: no such refund event %q", e)
}
