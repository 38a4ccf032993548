package order

import (
	"context"
	"errors"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// Describe writes the description of a payment.
var Describe = describe

// Spoil changes what a batch with this order has decided before it is asserted;
// how "" spoils nothing and still tells seen how many orders the batch has. It
// must be called while nothing is under way.
func (s *Service) Spoil(orderNo, how string, seen func(orders int)) {
	s.spoil = func(b *batch) {
		e := b.orders[orderNo]
		if e == nil {
			return
		}
		seen(len(b.orders))
		if how != "" {
			spoilers[how](b, e)
		}
	}
}

// SpoilPlaced does so with what is placed for this customer.
func (s *Service) SpoilPlaced(customerID string, how func(*Order), seen func(orders int)) {
	s.spoilPlaced = func(outcomes []sqldb.Outcome[Placed]) {
		for i := range outcomes {
			if o := &outcomes[i].Answer.Order; o.CustomerID == customerID {
				seen(len(outcomes))
				how(o)
			}
		}
	}
}

// spoilers are the mistakes that the code of commands could make: each changes what
// a batch has decided.
var spoilers = map[string]func(b *batch, e *entry){
	"a gap between events":     func(b *batch, e *entry) { last(b, e).seq++ },
	"an event from nowhere":    func(b *batch, e *entry) { last(b, e).from = StateClosed },
	"a state without an event": func(b *batch, e *entry) { e.after.Version++ },
	"a move that nobody allows": func(b *batch, e *entry) {
		e.after.State, last(b, e).to = StateRefunded, StateRefunded
	},
	"stock that stays":      func(b *batch, _ *entry) { b.returns = nil },
	"stock of a sold order": func(b *batch, e *entry) { b.returns = append(b.returns, e.after.OrderNo) },
	"one fen less applied":  func(b *batch, e *entry) { paymentOf(b, e).Total-- },
	"the payment forgotten": func(b *batch, _ *entry) { b.payments = nil },
	"a late payment without row": func(b *batch, e *entry) {
		delete(b.refunds.byNo, owedRefundNo(paymentOf(b, e).TransactionID))
	},
	"more back than ordered": func(b *batch, e *entry) {
		refundOf(b, e).after.Items = []stock.Line{{SkuID: "mug", Quantity: 9}}
	},
	"all back elsewhere": func(b *batch, e *entry) {
		r := refundOf(b, e).after
		held := Refund{OutRefundNo: "PLATFORM", OrderNo: r.OrderNo, TransactionID: r.TransactionID,
			Amount: r.PaymentTotal, State: RefundStateHeld, Told: payment.RefundSuccess, Version: 1}
		b.refunds.add(&refundEntry{before: held, after: held})
	},
	"a fen less sent back": func(b *batch, e *entry) {
		r := &refundOf(b, e).after
		r.Amount--
		b.refunds.payments[r.TransactionID].adds--
	},
	"all back, and paid":         func(b *batch, e *entry) { e.after.State, last(b, e).to = StatePaid, StatePaid },
	"nobody looks at the refund": func(b *batch, e *entry) { refundOf(b, e).after.DueAt = time.Time{} },
	"a refund that goes back": func(b *batch, e *entry) {
		r := refundOf(b, e)
		r.after.State, r.after.DueAt = RefundStatePending, time.Time{}
	},
	"closed without another": func(b *batch, e *entry) { delete(b.refunds.byNo, successorNo(refundOf(b, e).before)) },
	"written off by one": func(b *batch, e *entry) {
		for _, w := range b.refunds.writeOffs {
			w.after.ProposedBy = w.after.WrittenOffBy
		}
	},
	"written off, not all": func(b *batch, e *entry) {
		for _, w := range b.refunds.writeOffs {
			w.after.Amount--
		}
	},
	"due for ever": func(b *batch, e *entry) { e.after.DueAt = b.now },
}

func last(b *batch, e *entry) *eventRow {
	for i := len(b.events) - 1; i >= 0; i-- {
		if b.events[i].orderNo == e.after.OrderNo {
			return &b.events[i]
		}
	}
	return nil
}

func paymentOf(b *batch, e *entry) *paymentRow {
	for i := range b.payments {
		if b.payments[i].orderNo == e.after.OrderNo {
			return &b.payments[i]
		}
	}
	return nil
}

// refundOf gives the oldest refund of the order, which has one or is asked for one.
func refundOf(b *batch, e *entry) *refundEntry { return b.refunds.ofOrder[e.after.OrderNo][0] }

// note writes an event that moves nothing, such as close.unknown.
type note struct {
	header
	event string // for the timeline
}

// decide adds the event, whatever the order's state.
func (c *note) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	b.record(e, &c.header, c.event, e.after.State, nil)
	return applied{order: e.after, before: e.after.State}, nil
}

// Note writes an event that moves nothing.
func (s *Service) Note(ctx context.Context, orderNo string) error {
	_, err := s.apply(ctx, &note{event: "close.unknown", header: header{orderNo: orderNo}})
	return err
}

// CloseDone applies the end of a close, with proof as the answer of WeChat Pay.
func (s *Service) CloseDone(ctx context.Context, orderNo string, proof map[string]string) error {
	cause := Cause{Actor: Actor{Type: ActorScheduler}}
	_, err := s.apply(ctx, &closeDone{header{orderNo: orderNo, detail: proof, cause: cause}})
	return err
}

// Forget takes away what claims know of attempts, as if nothing had been opened.
func Forget(claims []Claim) {
	for i := range claims {
		claims[i].attempt = nil
	}
}

// Turns counts the customers who are remembered because they are placing, or wait
// to.
func (s *Service) Turns() int {
	s.placing.mu.Lock()
	defer s.placing.mu.Unlock()
	return len(s.placing.all)
}

// ExpireAll does what a worker does with a page: it claims the orders, waits for
// admit (the rate of calls) when there is one, and closes what it has claimed. It
// gives an error for each order of the page.
func (s *Service) ExpireAll(ctx context.Context, page []Due, cause Cause,
	admit func(context.Context, int) error) []error {
	claims, errs := s.ClaimDue(ctx, page, cause)
	ended := make([]error, len(claims))
	var refused error
	if admit != nil && len(claims) > 0 {
		refused = admit(ctx, len(claims))
	}
	if refused == nil {
		ended = s.CloseClaimed(ctx, claims, cause)
	}
	for i, c := range claims {
		if refused != nil {
			ended[i] = &ClosingError{At: c.At, Err: refused}
		}
		for j := range page {
			if page[j].Key == c.Key && ended[i] != nil {
				errs[j] = ended[i]
			}
		}
	}
	return errs
}

// EachRow runs the reads that assertions rest on, for orders at version 2, and gives every order number that they
// hand on.
func EachRow(ctx context.Context, tx *sqldb.Tx, orderNos []string, do func(orderNo string)) error {
	return errors.Join(
		eachState(ctx, tx, 2, orderNos, func(no string, _ State, _ int) { do(no) }),
		eachItem(ctx, tx, orderNos, func(no, _ string, _ int64) { do(no) }),
	)
}

// PlaceAndHold is Place in a transaction of its own, which calls hold when
// everything is written and before it commits: an error of hold rolls back.
func (s *Service) PlaceAndHold(ctx context.Context, p Placement, hold func() error) (Placed, error) {
	now := s.cfg.Now()
	no, err := s.ids.next(now)
	if err != nil {
		return Placed{}, err
	}
	mine := placing{Placement: p, orderNo: no, hash: p.hash(), at: now, expireAt: now.Add(s.cfg.PayWithin)}
	var outcomes []sqldb.Outcome[Placed]
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if outcomes, err = s.tryPlace(ctx, tx, []placing{mine}); err != nil {
			return err
		}
		return errors.Join(outcomes[0].Err, hold())
	})
	if err != nil {
		return Placed{}, err
	}
	return outcomes[0].Answer, nil
}

// CloseAndSettle brings the end of a close and a payment to an order in one transaction, the payment first or last.
func (s *Service) CloseAndSettle(ctx context.Context, trade payment.Trade, payFirst bool) (end Settlement, err error) {
	what := []string{"closed", "paid"}
	if payFirst {
		slices.Reverse(what)
	}
	o, err := s.InOneBatch(ctx, trade, what...)
	return Settlement{State: o.State}, err
}

// InOneBatch brings to the order of a trade, in one transaction and in this order: "cancel" by its customer, "close"
// by an operator, "word" of a person (the shell's is none) that nothing was paid, "closed" as WeChat Pay's answer, and
// "paid". The order is as it was committed then.
func (s *Service) InOneBatch(ctx context.Context, trade payment.Trade, what ...string) (end Order, err error) {
	no := OrderNoOf(trade.OutTradeNo)
	by := func(t ActorType, id string) header {
		return header{orderNo: no, cause: Cause{Actor: Actor{Type: t, ID: id}, Type: "request"}}
	}
	var commands []command
	for _, w := range what {
		var c command
		switch w {
		case "cancel":
			c = &cancel{header: by(ActorCustomer, "c"), reason: CloseReasonCancel}
		case "close":
			c = &cancel{header: by(ActorOperator, "fin"), reason: CloseReasonOperator}
		case "word":
			c = &vouch{by(ActorOperator, "fin2")}
		case "closed":
			done := &closeDone{by(ActorWeChat, "")}
			done.detail = map[string]string{"close": "accepted", "out_trade_no": trade.OutTradeNo}
			c = done
		case "paid":
			c = newSettle(trade, Cause{Actor: Actor{Type: ActorWeChat}})
		default:
			return Order{}, errors.New("order: no such command " + w)
		}
		commands = append(commands, c)
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		outcomes, err := s.applyBatch(ctx, tx, commands)
		for _, o := range outcomes {
			err = errors.Join(err, o.Err)
			end = o.Answer.order
		}
		return err
	})
	return end, err
}

// Then is who wanted an order closed when somebody else wants it too.
func (r CloseReason) Then(by CloseReason) CloseReason { return r.then(by) }

// Revivable reports that late money may revive an order closed for r.
func (r CloseReason) Revivable() bool { return r.revivable() }

// PlaceWithoutWaiting is Place in a transaction that waits for no lock.
func (s *Service) PlaceWithoutWaiting(ctx context.Context, p Placement) error {
	now := s.cfg.Now()
	mine := placing{Placement: p, orderNo: "never", hash: p.hash(), at: now, expireAt: now.Add(s.cfg.PayWithin)}
	return s.db.InTxOfMany(ctx, true, func(ctx context.Context, tx *sqldb.Tx) error {
		outcomes, err := s.tryPlace(ctx, tx, []placing{mine})
		if err == nil {
			err = outcomes[0].Err
		}
		return err
	})
}

// AdoptPages has the walk for prepays of an earlier program read n orders at a time.
func (s *Service) AdoptPages(n int) { s.adopting.page = n }

// How outcomes are kept.
var (
	WriteOutcome = writeOutcome
	ReadOutcome  = readOutcome
)

// What other lists read, for EXPLAIN.
const (
	AccountQuery = accountQuery
	OverdueQuery = overdueQuery
	HeldQuery    = heldQuery
	SearchQuery  = searchQuery
	TitleQuery   = titleQuery
	AttachQuery  = attachQuery

	WrittenOffQuery = writtenOffQuery

	OrderFlowsQuery    = orderFlowsQuery
	OperatorFlowsQuery = operatorFlowsQuery
)

// SearchArgs are its arguments.
var SearchArgs = searchArgs

// RefundStatement gives the statement of a page of refunds with its arguments.
func RefundStatement(f RefundFilter) (query string, args []any) {
	tail, args := f.tail(51)
	return "SELECT " + refundColumns + "\nFROM refunds\n" + tail, args
}

// CausesQuery is causesQuery, for EXPLAIN.
var CausesQuery = causesQuery

// PlacedQuery is placedQuery, for EXPLAIN.
const PlacedQuery = placedQuery

// ReceivedQuery is receivedQuery, for EXPLAIN.
const ReceivedQuery = receivedQuery

// AccountsQuery is accountsQuery, for EXPLAIN.
var AccountsQuery = accountsQuery
