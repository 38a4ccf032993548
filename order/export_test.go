package order

import (
	"context"
	"time"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Spoil changes what a batch with this order has decided before it is asserted;
// how "" spoils nothing and still tells seen how many orders the batch has. It
// must be called while nothing is under way.
func (s *Service) Spoil(orderNo, how string, seen func(orders int)) {
	s.spoil = func(l *ledger) {
		e := l.orders[orderNo]
		if e == nil {
			return
		}
		seen(len(l.orders))
		if how != "" {
			spoilers[how](l, e)
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

// spoilers are the mistakes that code of the door could make.
var spoilers = map[string]func(l *ledger, e *entry){
	"a gap between events":       func(l *ledger, e *entry) { last(l, e).seq++ },
	"an event from nowhere":      func(l *ledger, e *entry) { last(l, e).from = StateClosed },
	"a state without an event":   func(l *ledger, e *entry) { e.now.Version++ },
	"a move that nobody allows":  func(l *ledger, e *entry) { e.now.State, last(l, e).to = StateRefunded, StateRefunded },
	"stock that stays":           func(l *ledger, _ *entry) { l.returns = nil },
	"stock of a sold order":      func(l *ledger, e *entry) { l.returns = append(l.returns, e.now.OrderNo) },
	"one fen less applied":       func(l *ledger, e *entry) { paymentOf(l, e).Total-- },
	"the payment forgotten":      func(l *ledger, _ *entry) { l.payments = nil },
	"a late payment without row": func(l *ledger, e *entry) { delete(l.books.refunds, owedNo(paymentOf(l, e).TransactionID)) },
	"more back than ordered": func(l *ledger, e *entry) {
		refundOf(l, e).now.Items = []stock.Line{{SkuID: "mug", Quantity: 9}}
	},
	"all back, and paid":         func(l *ledger, e *entry) { e.now.State, last(l, e).to = StatePaid, StatePaid },
	"nobody looks at the refund": func(l *ledger, e *entry) { refundOf(l, e).now.DueAt = time.Time{} },
	"a refund that goes back": func(l *ledger, e *entry) {
		r := refundOf(l, e)
		r.now.State, r.now.DueAt = RefundStatePending, time.Time{}
	},
	"closed without another": func(l *ledger, e *entry) { delete(l.books.refunds, nextNo(refundOf(l, e).read)) },
	"due for ever":           func(l *ledger, e *entry) { e.now.DueAt = l.now },
}

func last(l *ledger, e *entry) *eventRow {
	for i := len(l.events) - 1; i >= 0; i-- {
		if l.events[i].orderNo == e.now.OrderNo {
			return &l.events[i]
		}
	}
	return nil
}

func paymentOf(l *ledger, e *entry) *paymentRow {
	for i := range l.payments {
		if l.payments[i].orderNo == e.now.OrderNo {
			return &l.payments[i]
		}
	}
	return nil
}

// refundOf gives the oldest refund of the order, which has one or is asked for one.
func refundOf(l *ledger, e *entry) *refundEntry { return l.books.ofOrder[e.now.OrderNo][0] }

// Note writes an event that moves nothing.
func (s *Service) Note(ctx context.Context, orderNo string) error {
	_, err := s.bring(ctx, change{orderNo: orderNo, note: "close.unknown"})
	return err
}

// CloseDone brings the end of a close with what WeChat is said to have answered.
func (s *Service) CloseDone(ctx context.Context, orderNo string, proof map[string]string) error {
	_, err := s.bring(ctx, change{orderNo: orderNo, event: EventCloseDone, detail: proof})
	return err
}

// Turns counts the customers whose turns are remembered.
func (s *Service) Turns() int {
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	return len(s.turns.all)
}

// ExpireAll does what a worker does with a page: it takes the turns, waits for
// admit when there is one, and brings the orders to their end. It gives an error
// for each order of the page.
func (s *Service) ExpireAll(ctx context.Context, page []Due, cause Cause, admit func(context.Context, int) error) []error {
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
