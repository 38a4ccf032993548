package order

import (
	"slices"
	"time"

	"orderd/payment"
)

// What people may do about an order or a payment as it stands. Pages ask before they offer it; the commands ask the
// same of what they have locked.

// CanClose reports that people can have an order in this state closed.
func (s State) CanClose() bool {
	return Next(s, EventCancel).Verdict == VerdictMove || s == StateClosing
}

// MayTakeTwo reports that two people may have to agree to a refund: by what was said when it was asked for, or by the
// limit of today, of which limit is Service.ApprovalsFor; whatever else of its payment goes back.
func (r *Refund) MayTakeTwo(limit func(sum payment.Fen) int) bool {
	return r.ApprovalsNeeded > 1 || limit(max(r.Amount, r.PaymentTotal)) > 1
}

// RefundLeft is what of the payment of an order can be asked back at a time: 0 when nothing can.
func (o *Order) RefundLeft(now time.Time) payment.Fen {
	p := o.Payment
	if Next(o.State, EventRefund).Verdict == VerdictRefuse || p == nil || p.Outcome != SettledApplied ||
		!now.Before(p.SuccessTime.Add(refundWithin)) {
		return 0
	}
	left, numbers := p.Total, 0
	for i := range o.Refunds {
		r := &o.Refunds[i]
		if r.TransactionID != p.TransactionID {
			continue
		}
		if r.takesNumber() {
			numbers++
		}
		if r.State.Committed() || r.countsElsewhere() {
			left -= r.Amount
		}
	}
	if numbers >= MaxRefunds {
		return 0
	}
	return max(0, left)
}

// ReturnLeft is how many units of each line have not gone back by a refund that counts, in the order of Items.
func (o *Order) ReturnLeft() []int64 {
	left := make([]int64, len(o.Items))
	gone := map[string]int64{}
	for i := range o.Refunds {
		if r := &o.Refunds[i]; r.State.Committed() && o.Payment != nil &&
			r.TransactionID == o.Payment.TransactionID {
			for _, l := range r.Items {
				gone[l.SkuID] += l.Quantity
			}
		}
	}
	for i, it := range o.Items {
		left[i] = max(0, it.Quantity-gone[it.SkuID])
	}
	return left
}

// CanVouch reports that people may say of an order that nothing was paid for it; events is its timeline.
func (o *Order) CanVouch(events []TimelineEvent, now time.Time) bool {
	end, asked := o.ExpireAt, false
	if n := len(o.Attempts); n > 0 {
		end = payableUntil(o, &o.Attempts[n-1])
	}
	for i := range events {
		asked = asked || events[i].Event == eventUnknown
	}
	return vouchRefused(o.State, asked, end, now) == ""
}

// vouchRefused says why nobody can vouch for an order, "" when people can: asked, WeChat Pay gave an answer without
// use; until end the buyer could pay.
func vouchRefused(s State, asked bool, end, now time.Time) string {
	switch {
	case s != StateClosing:
		return vouchNotClosing
	case !asked:
		return vouchUnasked
	case now.Before(end.Add(vouchAfter)):
		return vouchPayable
	}
	return ""
}

// Actions are what ResolveHeld takes about a payment as its row has it, the least harmful first; none when it is not
// held any more. What is known of its refunds alone, such as money that went back elsewhere, is not asked.
func (h *HeldPayment) Actions() []HeldAction {
	var all []HeldAction
	for _, a := range HeldActions() {
		if heldRefused(a, h.Outcome, h.Reason) == "" && !h.WriteOff.Done() {
			all = append(all, a)
		}
	}
	return all
}

// heldRefused says why a payment that has come to an outcome for a reason cannot be decided about so, "" when it can.
func heldRefused(a HeldAction, outcome Settled, reason string) string {
	held := outcome == SettledHeld
	switch {
	case a == HeldApply && !held:
		return "only a payment that is held is judged again"
	case a == HeldApply && (reason == misfitAmount || reason == misfitCurrency): // neither ever changes
		return "the payment does not fit its order: " + reason
	case a == HeldRefund && !held:
		return "only a payment that is held goes back this way"
	case a == HeldWriteOff && !held:
		return "only a payment that is held is written off; this one is " + string(outcome) +
			", by what was decided before"
	}
	return ""
}

// Why a payment cannot be for its order whatever becomes of the configuration.
const (
	misfitAmount   = "amount"
	misfitCurrency = "currency"
)

// Payers are WeChat's ids of those who opened an attempt of the order, each once, oldest first.
func (o *Order) Payers() (all []string) {
	for i := range o.Attempts {
		if id := o.Attempts[i].OpenID; id != "" && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// CanGoToCard reports that people may have the money of a refund sent to a bank card at a time.
func (r *Refund) CanGoToCard(now time.Time) bool { return cardRefused(r, now) == "" }

// cardRefused says why the money of a refund is not sent to a bank card, "" when it can be.
func cardRefused(r *Refund, now time.Time) string {
	switch {
	case r.State != RefundStateAbnormal:
		return "only a refund that WeChat Pay cannot pay out goes to a bank card"
	case r.RefundID == "":
		return "WeChat Pay's number of this refund is not known yet; retry it first"
	case r.SentTo != "" && now.Before(r.AskedAt.Add(answerWait)):
		return "WeChat Pay was asked less than a minute ago; wait until no answer can be on its way"
	}
	return ""
}
