package order

import (
	"context"
	"maps"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/operators"
)

// What becomes of a closing order about which WeChat Pay gives no usable answer: it
// is asked again, and what such answers prove together, or with what we know, ends
// it. Whatever else holds it up, two people can (docs/states.md, "How it ends").

// Bounds of waiting for an answer.
const (
	// unknownAfter is how long after its last moment to pay a trade that WeChat Pay
	// does not know is proven unpayable. WeChat repeats a notification for 24 h 4 min
	// ("支付通知"): had it been paid at the last moment, we would know.
	unknownAfter = 25 * time.Hour
	// selfClosed is when WeChat Pay closes a trade by itself (its documents of
	// "关闭订单"), whatever time_expire we have on record.
	selfClosed = 7 * 24 * time.Hour
	// vouchAfter is how long after the last moment to pay people may vouch that nothing
	// was paid: WeChat's clock is not ours.
	vouchAfter = time.Minute
)

// silence is what is known of an order about which WeChat Pay gave no usable answer.
type silence struct {
	newest *Attempt        // nil when nothing was ever opened
	since  time.Time       // when the first such answer was written down; zero without
	heard  map[string]bool // the different ones that are in the timeline
	// vouched are the people who said that nothing was paid, oldest first.
	vouched []Actor
}

// loadSilences reads them for orders that are locked: no attempt and no event comes
// beside it.
func loadSilences(ctx context.Context, tx *sqldb.Tx, orderNos []string) (map[string]*silence, error) {
	all := make(map[string]*silence, len(orderNos))
	if len(orderNos) == 0 {
		return all, nil
	}
	for _, no := range orderNos {
		all[no] = &silence{heard: map[string]bool{}}
	}
	attempts, err := findAttempts(ctx, tx, orderNos...)
	if err != nil {
		return nil, err
	}
	for i := range attempts { // of each order the oldest first
		all[attempts[i].OrderNo].newest = &attempts[i]
	}
	err = eachSilence(ctx, tx, orderNos, func(no string, v *TimelineEvent) {
		s := all[no]
		if v.Event == eventVouched {
			s.vouched = append(s.vouched, v.Actor)
			return
		}
		if s.heard[answerKey(v.Detail)] = true; s.since.IsZero() {
			s.since = v.At
		}
	})
	return all, err
}

// The events of the timeline that this file writes and reads.
const (
	eventUnknown = "close.unknown"
	eventVouched = "close.vouched"
)

// answerKey tells answers apart: what was asked about, and what came. There are few
// of them, so that the timeline of an order that is asked about for ever does not grow.
func answerKey(detail map[string]string) string {
	return strings.Join([]string{detail["out_trade_no"], detail["close"], detail["query"], detail["held"]}, " ")
}

// unanswered brings an ask that proved nothing by itself. It is written into the
// timeline when it says something new; how often was asked is orders.close_tries.
type unanswered struct {
	header
	// held is the transaction that WeChat Pay holds for the order and that could not
	// be its payment; "" without.
	held string
}

// needs adds what was answered before, the payments of the order that are here and, of
// held money, all that went back of it.
func (c *unanswered) needs(n *needs) {
	n.refundsOfOrder(c.orderNo)
	n.silent[c.orderNo] = true
	if c.held != "" {
		n.refunded[c.held], n.refundsOfPayment[c.held] = true, true
	}
}

// decide closes the order when the answers, with what we know, prove that no money
// can come; otherwise it notes what is new.
func (c *unanswered) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	if e.after.State != StateClosing {
		return applied{order: e.after, before: e.after.State, cell: same()}, nil
	}
	s := b.silences[c.orderNo]
	if proof := c.proof(b, e, s); proof != nil {
		h := c.header
		h.detail = maps.Clone(c.detail)
		maps.Copy(h.detail, proof)
		return b.event(e, &h, EventCloseDone), nil
	}
	if key := answerKey(c.detail); !s.heard[key] {
		s.heard[key] = true
		b.record(e, &c.header, eventUnknown, StateClosing, nil)
	}
	return applied{order: e.after, before: e.after.State, cell: same()}, nil
}

// proof says by what an order ends of which WeChat Pay did not say that it is
// closed, nil when nothing proves it.
func (c *unanswered) proof(b *batch, e *entry, s *silence) map[string]string {
	about := c.detail["out_trade_no"] == closableNo(c.orderNo, s.newest)
	switch {
	case !about: // it says nothing about what can be paid now
	case c.held != "":
		// A trade takes money once: with this money back with the buyer there is none, nor
		// when two people have written it off.
		p := b.refunds.payments[c.held]
		switch {
		case p == nil || !p.isOf(c.orderNo):
		case b.refunds.writtenOff(c.held):
			return map[string]string{"held_written_off": c.held}
		case b.wentBack(c.held) >= p.amount:
			return map[string]string{"held_back": c.held}
		}
	case s.newest == nil || s.newest.State == AttemptClosed:
		// A prepay commits its attempt before WeChat Pay hears of it, and a closing order
		// gets none: there is nothing that could be paid.
		if wait := b.s.cfg.CloseUnprepaid; wait > 0 && !s.since.IsZero() && !b.now.Before(s.since.Add(wait)) {
			return map[string]string{"close": "never_prepaid", "answer": c.detail["close"],
				"without_answer_since": s.since.Format(time.RFC3339)}
		}
	case c.detail["query"] == string(payment.TradeNotFound):
		// Money that is here and held was paid for some trade of it, whatever is said now.
		if end := payableUntil(&e.before, s.newest); !b.now.Before(end.Add(unknownAfter)) && !b.holds(c.orderNo) {
			return map[string]string{"payable_until": end.Format(time.RFC3339)}
		}
	}
	return nil
}

// payableUntil is the last moment at which a buyer can pay an attempt: what WeChat Pay
// was told, and never later than its own seven days.
func payableUntil(o *Order, a *Attempt) time.Time {
	end := later(a.CalledAt, o.CreatedAt).Add(selfClosed)
	if told, err := time.Parse(time.RFC3339, a.TimeExpire); err == nil && told.Before(end) {
		end = told.UTC()
	}
	return later(end, o.ExpireAt)
}

// isOf reports that a payment was made for this order, also when it was recorded
// before the order was there.
func (p *paidEntry) isOf(orderNo string) bool {
	return p.orderNo == orderNo || p.orderNo == "" && OrderNoOf(p.outTradeNo) == orderNo
}

// holds reports that money for this order is here, not wholly back with its buyer and not
// written off.
func (b *batch) holds(orderNo string) bool {
	for id, p := range b.refunds.payments {
		if p.isOf(orderNo) && b.wentBack(id) < p.amount && !b.refunds.writtenOff(id) {
			return true
		}
	}
	return false
}

// wentBack is how much of a payment its buyer has again: by our refunds, and by those
// that were made elsewhere and that WeChat Pay told us of.
func (b *batch) wentBack(transactionID string) payment.Fen {
	back := payment.Fen(0)
	for _, r := range b.refunds.byNo {
		n := &r.after
		if n.TransactionID == transactionID && (n.State.PaidBack() || n.wentElsewhere()) {
			back += n.Amount
		}
	}
	return back
}

// recordUnanswered writes down what an ask brought that proved nothing, and gives a
// *ClosingError, or nil when the order has ended all the same.
func (s *Service) recordUnanswered(ctx context.Context, c Claim, cause Cause, r closeResult, held string) error {
	r.proof["error"] = r.err.Error()
	if held != "" {
		r.proof["held"] = held
	}
	done, err := s.apply(ctx, &unanswered{held: held,
		header: header{orderNo: c.Key, cause: cause, detail: r.proof, took: r.took}})
	if err != nil || done.order.State != StateClosing {
		return err
	}
	s.cfg.Tasks.WakeAt(c.At)
	return &ClosingError{At: c.At, Err: r.err}
}

// VouchRequest is a person's word that nothing was paid for an order.
type VouchRequest struct {
	OrderNo string
	Reason  string // 1–200 characters: how it was found out
	Cause   Cause
}

// Vouched is what became of it.
type Vouched struct {
	Order  Order
	Closed bool // the second person said so: the order is closed
}

// VouchUnpaid is the way out of an order that stays closing because WeChat Pay gives
// no usable answer: two people who have looked on the merchant platform say that
// nothing was paid. The first word is noted, the second, by somebody else, closes the
// order and gives its stock back. Repeating one's own word changes nothing, and who is
// no second person beside the first (package operators) is a first one.
//
// Errors: *ValidationError, ErrNotFound, operators.ErrShell and
// operators.ErrNoLonger, *RefusedError (it is not closing, WeChat Pay has not been asked, or the
// buyer could still pay), database errors. Money that comes all the same is late.
func (s *Service) VouchUnpaid(ctx context.Context, r VouchRequest) (Vouched, error) {
	if err := checkReason(r.Reason); err != nil {
		return Vouched{}, err
	}
	done, err := s.apply(ctx, &vouch{header: header{orderNo: r.OrderNo, cause: r.Cause,
		detail: map[string]string{"reason": r.Reason}}})
	if err != nil {
		return Vouched{}, err
	}
	if done.cell.Verdict == VerdictRefuse {
		return Vouched{}, &RefusedError{Order: done.order, Event: EventCloseDone, Why: done.cell.Why}
	}
	o, err := s.findNow(ctx, r.OrderNo, "")
	return Vouched{Order: o, Closed: done.order.State == StateClosed}, err
}

// vouch: a person says that nothing was paid for an order.
type vouch struct{ header }

// needs adds who said so before.
func (c *vouch) needs(n *needs) {
	n.order(c.orderNo)
	n.silent[c.orderNo] = true
	n.person(c.cause.Actor)
}

// Why people cannot vouch.
const (
	vouchNotClosing = "only an order that is closing, and that WeChat Pay gives no usable answer about, is vouched for"
	vouchUnasked    = "WeChat Pay has not been asked yet, or has not been asked in vain: wait for its answer"
	vouchPayable    = "the buyer can still pay: wait until a minute after the time to pay"
)

// decide notes the first person's word, and closes by the second's.
func (c *vouch) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	s := b.silences[c.orderNo]
	done := applied{order: e.after, before: e.after.State, cell: same()}
	end := e.before.ExpireAt
	if s.newest != nil {
		end = payableUntil(&e.before, s.newest)
	}
	if why := vouchRefused(e.after.State, !s.since.IsZero(), end, b.now); why != "" {
		done.cell = refuse(why)
		return done, nil
	}
	return c.word(b, e, s)
}

// word notes a person's word, or closes by it when somebody else has given theirs: from
// then on it is they who wanted the order closed, unless its customer had.
func (c *vouch) word(b *batch, e *entry, s *silence) (applied, error) {
	who := c.cause.Actor
	switch {
	case operators.Shell(who.ID):
		return applied{}, operators.ErrShell
	case !b.mayVouch(who):
		return applied{}, operators.ErrNoLonger
	}
	said := false
	for _, other := range s.vouched {
		said = said || strings.EqualFold(other.ID, who.ID)
		if !b.mayVouch(other) || b.people.Second(who.ID, other.ID) != nil {
			continue
		}
		h := c.header
		h.detail = map[string]string{"close": "vouched", "vouched_by": other.ID,
			"out_trade_no": closableNo(c.orderNo, s.newest), "reason": c.detail["reason"]}
		b.wantClosed(e, CloseReasonOperator)
		done := b.event(e, &h, EventCloseDone)
		for _, a := range []Actor{other, who} {
			if b.people.Fresh(a.ID, b.now) {
				done.alarms = append(done.alarms, freshVouch+a.ID)
			}
		}
		return done, nil
	}
	if !said {
		s.vouched = append(s.vouched, who)
		b.record(e, &c.header, eventVouched, StateClosing, nil)
	}
	return applied{order: e.after, before: e.after.State, cell: same()}, nil
}

// freshVouch tells of a word that may be one person's second.
const freshVouch = "an order was closed by the word of an account or token of less than a day: "

// mayVouch reports that a person's word counts now: that of the shell never does, and who
// has lost account or role since it was given counts no more.
func (b *batch) mayVouch(who Actor) bool {
	return !operators.Shell(who.ID) && (b.people.May(who.ID, operators.Operator) ||
		b.people.May(who.ID, operators.Finance))
}
