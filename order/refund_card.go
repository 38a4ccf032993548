package order

import (
	"context"
	"errors"

	"orderd/migrations/bounds"
	"orderd/payment"
	"orderd/payment/operators"
)

// A refund that the buyer's account does not take, sent to a bank card by people.

// RefundToCard is a person's decision where the money of an abnormal refund goes.
type RefundToCard struct {
	OutRefundNo string
	To          payment.CardOwner
	Card        payment.BankCard // with CardOfUser alone; neither stored nor logged
	Reason      string           // 1–200 characters
	Cause       Cause
}

// SendToCard asks WeChat Pay to send the money of an abnormal refund to a bank card. The
// refund comes back processing when WeChat Pay has taken it; abnormal as before when this
// was the first of two people's word: the buyer's card, and a sum that two have to
// approve, take two, of whom the second enters the card. The intent is committed before the
// call. Without an answer WeChat Pay is asked how far it is before a person may do it again.
//
// Errors: *ValidationError, ErrRefundNotFound, *RefundRefusedError (it is not abnormal, or
// was asked about a moment ago), *operators.SameError, operators.ErrShell,
// operators.ErrNoLonger, *payment.GatewayError, database errors.
func (s *Service) SendToCard(ctx context.Context, c RefundToCard) (Refund, error) {
	if err := c.validate(); err != nil {
		return Refund{}, err
	}
	row, err := s.refundNow(ctx, c.OutRefundNo, "")
	if err != nil {
		return Refund{}, err
	}
	command := &sendToCard{ofRefund: ofRefundRow(row, c.Cause), to: c.To, why: c.Reason}
	command.detail = map[string]string{"reason": c.Reason, "to": string(c.To)}
	done, err := s.apply(ctx, command)
	if err != nil {
		return Refund{}, err
	}
	if row = done.refund.row; !done.turn.claimed {
		return row, nil
	}
	s.wakeRefund(row)
	answer, err := s.cfg.Gateway.AbnormalRefund(ctx, payment.AbnormalRequest{OutRefundNo: row.OutRefundNo,
		RefundID: row.RefundID, TransactionID: row.TransactionID, Amount: row.Amount, Total: row.PaymentTotal,
		To: c.To, Card: c.Card})
	s.observe.RefundAsked("abnormal_refund", outcomeOf(err, answer.Status))
	if err == nil {
		err = s.takeAnswer(ctx, answer, "answer", c.Cause)
	} else {
		if payment.KindOf(err) == payment.KindMisconfigured {
			s.alarm("wechat refuses our credentials", row.OrderNo, err.Error())
		}
		err = errors.Join(err, s.noteRefund(ctx, row, err, false, c.Cause))
	}
	if err != nil {
		return row, err
	}
	return s.refundNow(ctx, row.OutRefundNo, "")
}

// validate gives a *ValidationError that names the field and never its value.
func (c *RefundToCard) validate() error {
	bad := func(pointer, code, detail string) error {
		return &ValidationError{Fields: []FieldError{{pointer, code, detail}}}
	}
	if err := checkReason(c.Reason); err != nil {
		return err
	}
	switch {
	case c.To != payment.CardOfMerchant && c.To != payment.CardOfUser:
		return bad("#/type", "ENUM", "type is MERCHANT_BANK_CARD or USER_BANK_CARD")
	case c.To == payment.CardOfMerchant && c.Card != (payment.BankCard{}):
		return bad("#/bank_account", "INVALID", "the merchant's own account is known to WeChat Pay; give no card")
	case c.To == payment.CardOfUser && !c.Card.Valid():
		return bad("#/bank_account", "FORMAT", "a debit card is needed: bank_type such as ICBC_DEBIT, bank_account of "+
			"12 to 19 digits, and real_name")
	}
	return nil
}

// sendToCard takes the turn to send an abnormal refund to a card.
type sendToCard struct {
	ofRefund
	to  payment.CardOwner
	why string
}

// needs adds who decides.
func (c *sendToCard) needs(n *needs) {
	c.ofRefund.needs(n)
	n.person(c.cause.Actor)
}

// decide notes the first of two people, or commits the intent of the call.
func (c *sendToCard) decide(b *batch) (applied, error) {
	e, r, err := c.find(b)
	if err != nil {
		return applied{}, err
	}
	who := c.cause.Actor
	refuse := func(why string) (applied, error) {
		return applied{}, &RefundRefusedError{Refund: r.after, Why: why}
	}
	switch {
	case who.Type != ActorOperator:
		return refuse("a person decides where the money of a refund goes")
	case !b.people.May(who.ID, operators.Finance):
		return applied{}, operators.ErrNoLonger
	case cardRefused(&r.after, b.now) != "":
		return refuse(cardRefused(&r.after, b.now))
	}
	why := c.why
	var alarms []string
	if c.to == payment.CardOfUser || b.takesTwo(&r.after, who.ID) {
		done, both, noted, err := b.firstOfTwo(e, r, &c.header, why, string(c.to), "refund.to_card_said")
		if noted || err != nil {
			return done, err
		}
		why, alarms = both, done.alarms
	}
	r.after.DecidedBy = bounds.Operator.Cut(who.ID)
	r.after.DecidedWhy = bounds.Reason.Shorten("sent to " + string(c.to) + ": " + why)
	r.after.SentTo, r.after.Said = c.to, RefundWord{}
	r.after.AskedAt, r.after.DueAt, r.touched = b.now, b.now.Add(b.s.cfg.RefundPoll[0]), true
	r.after.Tries++
	done := applied{refund: &refundApplied{}, turn: turn{claimed: true}, alarms: alarms}
	b.applyToOrder(e, &c.header, r, "", "refund.to_card", &done)
	done.refund.row = r.after
	return done, nil
}

// ownAccount reports that the money of a refund went to the merchant's own bank account.
func (r *Refund) ownAccount() bool {
	return r.SentTo == payment.CardOfMerchant
}
