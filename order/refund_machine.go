package order

import "fmt"

// RefundState is the state of one refund.
type RefundState string

// The states of a refund. Those of WeChat's own words are processing, success,
// closed and abnormal.
const (
	RefundPending    RefundState = "pending_approval" // asked for, finance decides
	RefundRejected   RefundState = "rejected"         // finance said no; nothing was sent
	RefundOwed       RefundState = "owed"             // approved or due by itself: sent until WeChat has taken it
	RefundProcessing RefundState = "processing"       // WeChat has taken it
	RefundSucceeded  RefundState = "success"          // the buyer has the money
	RefundClosed     RefundState = "closed"           // WeChat gave it up; another number takes its place
	RefundAbnormal   RefundState = "abnormal"         // the buyer's account takes no money: a person acts
	RefundRefused    RefundState = "refused"          // WeChat's definite no: a person decides
	RefundCancelled  RefundState = "cancelled"        // refused, and given up
	RefundByHand     RefundState = "by_hand"          // paid back outside WeChat Pay, a person vouches for it
	RefundHeld       RefundState = "held"             // WeChat tells of a refund that we never asked for
)

// RefundStates lists all states of a refund.
func RefundStates() []RefundState {
	return []RefundState{RefundPending, RefundRejected, RefundOwed, RefundProcessing, RefundSucceeded, RefundClosed,
		RefundAbnormal, RefundRefused, RefundCancelled, RefundByHand, RefundHeld}
}

// Committed reports that the refund's amount counts against its payment: it
// went back, or may go back.
func (s RefundState) Committed() bool {
	switch s {
	case RefundPending, RefundOwed, RefundProcessing, RefundSucceeded, RefundAbnormal, RefundRefused, RefundByHand:
		return true
	case RefundRejected, RefundClosed, RefundCancelled, RefundHeld:
		return false
	}
	panic(fmt.Sprintf("order: no such refund state %q", s))
}

// Open reports that the refund has not ended.
func (s RefundState) Open() bool { return s.Committed() && !s.PaidBack() }

// PaidBack reports that the buyer has the money.
func (s RefundState) PaidBack() bool { return s == RefundSucceeded || s == RefundByHand }

// RefundEvent is something that happens to a refund.
type RefundEvent string

// The events of a refund: people's, then WeChat's.
const (
	ApproveRefund  RefundEvent = "approve"   // the last approval that it needed
	RejectRefund   RefundEvent = "reject"    // finance says no
	RetryRefund    RefundEvent = "retry"     // an operator wants it asked again now
	CancelRefund   RefundEvent = "cancel"    // finance gives a refused one up
	SettleByHand   RefundEvent = "by_hand"   // finance vouches that the money went back another way
	RefundAccepted RefundEvent = "accepted"  // PROCESSING
	RefundDone     RefundEvent = "succeeded" // SUCCESS
	RefundGaveUp   RefundEvent = "closed"    // CLOSED
	RefundBroken   RefundEvent = "abnormal"  // ABNORMAL
	RefundRefuse   RefundEvent = "refused"   // a definite no, and WeChat does not know the number
)

// RefundEvents lists all events of a refund.
func RefundEvents() []RefundEvent {
	return []RefundEvent{ApproveRefund, RejectRefund, RetryRefund, CancelRefund, SettleByHand,
		RefundAccepted, RefundDone, RefundGaveUp, RefundBroken, RefundRefuse}
}

// RefundCell is one decision on a refund. Only Verdict, To and Why are used.
type RefundCell struct {
	Verdict Verdict
	To      RefundState
	Why     string
}

func toRefund(to RefundState) RefundCell { return RefundCell{Verdict: Move, To: to} }
func sameRefund() RefundCell             { return RefundCell{Verdict: Same} }
func noRefund(why string) RefundCell     { return RefundCell{Verdict: Refuse, Why: why} }
func alarmRefund(why string) RefundCell  { return RefundCell{Verdict: Alarm, Why: why} }

const (
	refundDecided   = "this refund has been decided already"
	refundEnded     = "this refund has ended"
	refundNotYet    = "this refund waits for its approval"
	refundUnderWay  = "this refund is on its way; it can be given up only after WeChat Pay has refused it"
	refundUnasked   = "WeChat Pay answers a refund that was never sent"
	refundRevoked   = "WeChat Pay has changed its mind about a refund that had ended"
	refundForeign   = "this refund was not made here; settle the difference it makes in the reconciliation"
	refundNotBroken = "only a refund that WeChat Pay has refused or cannot pay out is settled by hand"
)

// NextRefund is the state machine of one refund, no I/O. Word from WeChat may be
// repeated and may come in any order.
func NextRefund(s RefundState, e RefundEvent) RefundCell {
	switch s {
	case RefundPending:
		return nextUndecided(e)
	case RefundOwed, RefundProcessing, RefundAbnormal, RefundRefused:
		return nextSent(s, e)
	case RefundSucceeded, RefundClosed:
		return nextAnswered(s, e)
	case RefundRejected, RefundCancelled, RefundByHand:
		return nextEnded(s, e)
	case RefundHeld:
		return noRefund(refundForeign)
	}
	panic(fmt.Sprintf("order: no such refund state %q", s))
}

func nextUndecided(e RefundEvent) RefundCell {
	switch e {
	case ApproveRefund:
		return toRefund(RefundOwed)
	case RejectRefund:
		return toRefund(RefundRejected)
	case RetryRefund, CancelRefund, SettleByHand:
		return noRefund(refundNotYet)
	case RefundAccepted, RefundDone, RefundGaveUp, RefundBroken, RefundRefuse:
		return alarmRefund(refundUnasked)
	}
	panic(noRefundEvent(e))
}

// nextSent is for a refund that may be at WeChat.
func nextSent(s RefundState, e RefundEvent) RefundCell {
	to := map[RefundEvent]RefundState{RefundAccepted: RefundProcessing, RefundDone: RefundSucceeded, RefundGaveUp: RefundClosed,
		RefundBroken: RefundAbnormal, RefundRefuse: RefundRefused}
	switch e {
	case ApproveRefund:
		return sameRefund()
	case RejectRefund:
		return noRefund(refundDecided)
	case RetryRefund:
		if s == RefundRefused {
			return toRefund(RefundOwed)
		}
		return sameRefund() // asked again now
	case CancelRefund:
		if s == RefundRefused {
			return toRefund(RefundCancelled)
		}
		return noRefund(refundUnderWay)
	case SettleByHand:
		if s == RefundRefused || s == RefundAbnormal {
			return toRefund(RefundByHand)
		}
		return noRefund(refundNotBroken)
	case RefundRefuse:
		if s == RefundProcessing || s == RefundAbnormal {
			return alarmRefund("WeChat Pay refuses a refund that it had accepted")
		}
	case RefundAccepted, RefundDone, RefundGaveUp, RefundBroken:
	default:
		panic(noRefundEvent(e))
	}
	if to[e] == s {
		return sameRefund()
	}
	return toRefund(to[e])
}

// nextAnswered is for a refund that ended by WeChat's word. An older word that
// comes late is a repeat; one that contradicts the end is an alarm.
func nextAnswered(s RefundState, e RefundEvent) RefundCell {
	switch e {
	case ApproveRefund:
		return sameRefund()
	case RejectRefund, RetryRefund, CancelRefund, SettleByHand:
		return noRefund(refundEnded)
	case RefundAccepted, RefundBroken:
		return sameRefund()
	case RefundDone:
		if s == RefundSucceeded {
			return sameRefund()
		}
		return alarmRefund(refundRevoked)
	case RefundGaveUp:
		if s == RefundClosed {
			return sameRefund()
		}
		return alarmRefund(refundRevoked)
	case RefundRefuse:
		return alarmRefund(refundRevoked)
	}
	panic(noRefundEvent(e))
}

// nextEnded is for a refund that a person ended.
func nextEnded(s RefundState, e RefundEvent) RefundCell {
	switch e {
	case ApproveRefund, RetryRefund:
		return noRefund(refundEnded)
	case RejectRefund:
		if s == RefundRejected {
			return sameRefund()
		}
		return noRefund(refundEnded)
	case CancelRefund:
		if s == RefundCancelled {
			return sameRefund()
		}
		return noRefund(refundEnded)
	case SettleByHand:
		if s == RefundByHand {
			return sameRefund()
		}
		return noRefund(refundEnded)
	case RefundAccepted, RefundDone, RefundBroken:
		return alarmRefund("WeChat Pay pays back a refund that was ended here")
	case RefundGaveUp, RefundRefuse:
		return sameRefund()
	}
	panic(noRefundEvent(e))
}

func noRefundEvent(e RefundEvent) string { return fmt.Sprintf("order: no such refund event %q", e) }
