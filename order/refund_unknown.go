package order

import (
	"context"

	"orderd/payment"
	"orderd/payment/operators"
)

// A refund that was made elsewhere, and that WeChat Pay does not know any more: it counts
// against its payment until two people say that it did not happen.

// giveUpHeld asks WeChat Pay about a refund that is held, and takes a person's word that it
// did not happen where it does not know the number. The word of a second person is written
// as what WeChat Pay said last: the refund stays held, and counts no more unless WeChat Pay
// tells of it again.
func (s *Service) giveUpHeld(ctx context.Context, row Refund, d RefundDecision) (Refund, error) {
	if d.IfVersion != 0 && d.IfVersion != row.Version { // the command is for this row alone
		return Refund{}, ErrVersion
	}
	answer, err := s.cfg.Gateway.QueryRefund(ctx, row.OutRefundNo)
	s.observe.RefundAsked("refund_query", outcomeOf(err, answer.Status))
	if err != nil {
		return row, err
	}
	if answer.Status != payment.RefundNotFound {
		if err := s.takeAnswer(ctx, answer, "query", d.Cause); err != nil {
			return row, err
		}
		return row, &RefundRefusedError{Refund: row, Event: d.Event,
			Why: "WeChat Pay knows this refund, and says " + string(answer.Status)}
	}
	c := &unknownRefund{ofRefund: ofRefundRow(row, d.Cause), why: d.Reason, version: row.Version}
	c.detail = map[string]string{"reason": d.Reason}
	done, err := s.apply(ctx, c)
	if err != nil {
		return Refund{}, err
	}
	return done.refund.row, nil
}

// SaidUnknown is the first of the two people who say that a refund did not happen, as long
// as the second is waited for; "" for nobody.
func (r *Refund) SaidUnknown() string {
	if r.State != RefundStateHeld || r.Said.What != saidUnknown {
		return ""
	}
	return r.Said.By
}

// unknownRefund: a person says that a refund that was made elsewhere did not happen.
type unknownRefund struct {
	ofRefund
	why     string
	version int64 // of the refund, as it was when WeChat Pay did not know it
}

// needs adds who decides.
func (c *unknownRefund) needs(n *needs) {
	c.ofRefund.needs(n)
	n.person(c.cause.Actor)
}

// decide notes the first of two people, or that the refund counts no more. It takes two
// whatever the sum: what it took of its payment can go back once more.
func (c *unknownRefund) decide(b *batch) (applied, error) {
	e, row, err := c.find(b)
	if err != nil {
		return applied{}, err
	}
	r := &row.after
	refuse := func(why string) (applied, error) {
		return applied{}, &RefundRefusedError{Refund: *r, Event: RefundEventCancel, Why: why}
	}
	switch {
	case !b.people.May(c.cause.Actor.ID, operators.Finance):
		return applied{}, operators.ErrNoLonger
	case r.State != RefundStateHeld, r.Version != c.version:
		return refuse("something has happened to this refund since WeChat Pay was asked; look at it again")
	case r.Told == payment.RefundSuccess:
		return refuse("WeChat Pay has said that it paid this refund")
	case !r.countsElsewhere():
		return applied{refund: &refundApplied{row: *r}}, nil
	case b.now.Before(r.CreatedAt.Add(unknownAfter)):
		return refuse("WeChat Pay told of this refund a day ago at most; wait, it may know it again")
	}
	done, _, noted, err := b.firstOfTwo(e, row, &c.header, c.why, saidUnknown, "refund.unknown_said")
	if noted || err != nil {
		return done, err
	}
	r.Told, r.Said, row.touched = payment.RefundNotFound, RefundWord{}, true
	done.refund = &refundApplied{}
	b.applyToOrder(e, &c.header, row, "", "refund.held", &done)
	done.refund.row = *r
	return done, nil
}
