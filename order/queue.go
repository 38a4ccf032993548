package order

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
	"orderd/stock/gate"
)

// A placement that met a sale whose orders are made at a rate waits in a queue (gate.Queue)
// with its number and its units, and is no order: it has no row. A drainer makes the order of it
// by PlaceQueued, which is Place at a later time. What a placement is needs nothing but its
// payload, and what became of one that is refused is kept for its customer by the queue.

// SaleQueue is what orders need of the queue of sales; gate.Queue has it.
type SaleQueue interface {
	// Find gives a placement of this customer that waits, or what became of it; false when
	// there is none, or it is an order.
	Find(ctx context.Context, customerID, orderNo string) (gate.Queued, bool, error)
	// Withdraw takes a placement out of the queue, for ever. Found and not withdrawn: it
	// is or becomes an order.
	Withdraw(ctx context.Context, customerID, orderNo string) (withdrawn, found bool, err error)
}

// Queued is a placement that waits to become an order, or was withdrawn while it did.
type Queued struct {
	OrderNo   string        // of the order that it becomes
	Lines     []stock.Line  // as they were asked for; nil of one that was withdrawn
	Withdrawn bool          // its customer does not want it: it never becomes an order
	Repeated  bool          // it was queued by an earlier try
	Position  int64         // 1 is the next; about
	Wait      time.Duration // until its order is made; about
}

// QueuedError: the placement is no order yet, or was withdrawn before it was one. Nobody can
// pay for it, and a repeat of its placement is answered with the same number.
type QueuedError struct{ Queued }

func (e *QueuedError) Error() string {
	if e.Withdrawn {
		return "the placement of " + e.OrderNo + " was withdrawn from the queue"
	}
	return fmt.Sprintf("the placement of %s waits in the queue, in place %d", e.OrderNo, e.Position)
}

// NotReadyError: the queue of the sale is full, or units may be where nobody can be asked now.
// Nothing was placed, and nothing waits; come back after Wait, under the same key.
type NotReadyError struct{ Wait time.Duration }

func (e *NotReadyError) Error() string { return "the queue of the sale is full, or cannot be asked" }

// PlacedAsError: what waited in the queue is the order of this number. It is another one than
// was given when a repeat was placed while the queue could not be asked.
type PlacedAsError struct{ OrderNo string }

func (e *PlacedAsError) Error() string { return "it is order " + e.OrderNo }

// Errors of the queue.
var (
	// ErrUnreadable: what waits in the queue cannot be read. No repeat cures it.
	ErrUnreadable = errors.New("what waits in the queue cannot be read")
	// errNotMade is what the customer is told of a placement that nobody could make an order of.
	errNotMade = errors.New("the order could not be made")
)

// waiting is a placement as it waits in the queue. Programs before and after this one read it:
// no field is renamed, and none is needed that was not always there.
type waiting struct {
	CustomerID string        `json:"customer_id"`
	RequestID  string        `json:"request_id"`
	Lines      []waitingLine `json:"lines"` // as they were asked for
	Expected   *payment.Fen  `json:"expected_fen,omitempty"`
	Remark     string        `json:"remark,omitempty"`
	Attach     string        `json:"attach,omitempty"`
	Cause      string        `json:"cause,omitempty"`
	Shop       string        `json:"shop,omitempty"`
	Reference  string        `json:"reference,omitempty"`
	ExpiresIn  int64         `json:"expires_in,omitempty"` // seconds to pay, from when the order is made
}

// waitingLine is a line of it.
type waitingLine struct {
	SkuID    string `json:"sku_id"`
	Quantity int64  `json:"quantity"`
}

// payload writes a placement down for the queue, with the lines as they were asked for.
func (p *Placement) payload(asked []stock.Line) []byte {
	w := waiting{CustomerID: p.CustomerID, RequestID: p.RequestID, Expected: p.ExpectedTotal, Remark: p.Remark,
		Attach: p.Attach, Cause: p.Cause, Shop: p.Shop, Reference: p.Reference,
		ExpiresIn: int64(p.ExpiresIn / time.Second)}
	for _, l := range asked {
		w.Lines = append(w.Lines, waitingLine(l))
	}
	b, err := json.Marshal(w)
	if err != nil {
		panic(fmt.Errorf("write a placement down: %w", err)) // our own type with our own values
	}
	return b
}

// readWaiting reads what payload wrote.
func readWaiting(payload []byte) (Placement, error) {
	var w waiting
	if err := json.Unmarshal(payload, &w); err != nil {
		return Placement{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	p := Placement{CustomerID: w.CustomerID, RequestID: w.RequestID, ExpectedTotal: w.Expected, Remark: w.Remark,
		Attach: w.Attach, Cause: w.Cause, Shop: w.Shop, Reference: w.Reference,
		ExpiresIn: time.Duration(w.ExpiresIn) * time.Second}
	for _, l := range w.Lines {
		p.Lines = append(p.Lines, stock.Line(l))
	}
	if err := p.validate(); err != nil {
		return Placement{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return p, nil
}

// waits gives the answer to a placement that the gate does not let through now: it waits, or has
// to come again. False: it goes to the ledger.
func (s *Service) waits(ctx context.Context, try *placing, t *gate.Ticket, asked []stock.Line) (Placed, bool, error) {
	if t.Queued == nil && t.NotReady == 0 && !t.Reused {
		if t.OrderNo == "" {
			return Placed{}, false, nil
		}
		placed, found, err := s.findRepeat(ctx, try)
		if !found && err == nil && s.cfg.Now().Sub(timeOf(t.OrderNo)) > borrowFor {
			err = &NotReadyError{Wait: notReadyFor}
		}
		if found || err != nil {
			s.cfg.Gate.Settle(*t, gate.Used) // by the try that has made the order, or nobody
		}
		return placed, found || err != nil, err
	}
	if t.Queued == nil || t.Queued.Repeat || t.Queued.Unsure { // its order may be there, or have been made just now
		placed, found, err := s.findRepeat(ctx, try)
		if found && t.Queued != nil && !t.Queued.Repeat {
			s.unqueue(ctx, try)
		}
		if found || err != nil {
			return placed, true, err
		}
	}
	switch {
	case t.Reused:
		return Placed{}, true, ErrRequestReused
	case t.Queued == nil:
		return Placed{}, true, &NotReadyError{Wait: t.NotReady}
	}
	q := Queued{OrderNo: t.Queued.OrderNo, Repeated: t.Queued.Repeat, Position: t.Queued.Position, Wait: t.Queued.Wait,
		Withdrawn: t.Queued.State == gate.QueueWithdrawn}
	if !q.Withdrawn {
		q.Lines = asked
	}
	return Placed{}, true, &QueuedError{q}
}

// unqueue takes a placement out of the queue whose key has an order already. Where that fails its turn
// comes, and finds the order.
func (s *Service) unqueue(ctx context.Context, try *placing) {
	if s.cfg.Queue == nil {
		return
	}
	if _, _, err := s.cfg.Queue.Withdraw(ctx, try.CustomerID, try.orderNo); err != nil {
		s.log.Debug("a repeat waits in the queue", "order_no", try.orderNo, "err", err)
	}
}

// borrowFor is how old an earlier try may be whose units its repeat takes: when they are a minute old
// and no order's, they are taken for lost and go back.
const borrowFor = 30 * time.Second

// notReadyFor is after how long to come again when units may be where nobody was asked.
const notReadyFor = time.Second

// sure makes it no refusal that the ledger has found too few units while more are in buckets
// that the gate has not asked, or in the pool for others.
func sure(t *gate.Ticket, err error) error {
	if shortOf(err, func(s stock.Short) bool { return s.Kept || s.Elsewhere && !t.Asked }) {
		return &NotReadyError{Wait: notReadyFor}
	}
	return err
}

// elsewhere reports that a refusal for stock is of the pool alone: more is in buckets that are not
// called back.
func elsewhere(err error) bool { return shortOf(err, func(s stock.Short) bool { return s.Elsewhere }) }

// shortOf reports that an error is a refusal for stock with such an item.
func shortOf(err error, is func(stock.Short) bool) bool {
	var short *InsufficientError
	return errors.As(err, &short) && slices.ContainsFunc(short.Items, is)
}

// repeat is the answer to a placement whose order is there already, when it is found.
type repeat struct {
	found  bool
	answer sqldb.Outcome[Placed]
}

// findRepeat gives the answer to a placement whose order is there already, if it is. Those that look at
// the same time look together.
func (s *Service) findRepeat(ctx context.Context, try *placing) (Placed, bool, error) {
	r, err := s.repeats.Do(ctx, *try)
	if err != nil || !r.found {
		return Placed{}, false, sqldb.Wrap("look for a repeated placement", err)
	}
	return r.answer.Answer, true, r.answer.Err
}

// findRepeats is findRepeat for a batch.
func (s *Service) findRepeats(ctx context.Context, tx *sqldb.Tx, batch []placing) ([]sqldb.Outcome[repeat], error) {
	known, err := findPlaced(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	found := make([]sqldb.Outcome[repeat], len(batch))
	for i := range batch {
		if before, ok := known[batch[i].key()]; ok {
			found[i].Answer = repeat{true, before.answer(&batch[i])}
		}
	}
	return found, nil
}

// PlaceQueued makes the order of a placement that waits, under its number and by the rules of
// this moment: what Place would say to it now is what becomes of it. Its time to pay begins now.
// Nil and nil: the order is there, by this call or an earlier one. An outcome: it becomes no
// order, and the queue is to keep the outcome for its customer. An error leaves it in the queue:
// ErrUnreadable is for ever; one that matches sqldb.ErrUnavailable, ErrOverloaded, ErrUnknown or
// ErrGroupClosed, or is ctx's, is of the moment.
func (s *Service) PlaceQueued(ctx context.Context, e gate.Entry) (outcome []byte, err error) {
	p, err := readWaiting(e.Payload)
	if err != nil {
		return nil, err
	}
	asked := p.Lines
	p.Lines = stock.Merge(asked)
	now := s.cfg.Now().Truncate(time.Millisecond)
	if now.Sub(timeOf(e.OrderNo)) > gate.LongestWait {
		return writeOutcome(sqldb.ErrOverloaded), nil
	}
	try := s.newPlacing(p, e.OrderNo, now)
	if len(e.Buckets) == len(p.Lines) { // else all are of the pool
		try.from = e.Buckets
	}
	placed, err := s.placeInTurn(ctx, try)
	s.settleTicket(gate.Ticket{}, e.OrderNo, &placed, err)
	if elsewhere(err) { // its own bucket was given up: when the others are empty too it is sold out
		return nil, fmt.Errorf("%w: units of %s are in other buckets", sqldb.ErrOverloaded, e.OrderNo)
	}
	placed, err = s.counted(placed, err)
	switch {
	case err == nil && placed.Order.OrderNo == e.OrderNo:
		return nil, nil
	case err == nil:
		return writeOutcome(&PlacedAsError{placed.Order.OrderNo}), nil
	case refusalKind(err) == "":
		return nil, err
	}
	return writeOutcome(PointAt(asked, err)), nil
}

// NotMade is the outcome of a placement of which nobody could make an order.
func NotMade() []byte { return writeOutcome(errNotMade) }

// FindQueued gives a placement of this customer that waits in the queue or was withdrawn there.
// It is asked about numbers of which no order was found. Errors: *PlacedAsError, it is an order by
// now; the refusal that Place would have given, for as long as the queue keeps it; ErrNotFound;
// sqldb.ErrUnavailable when the queue cannot be asked.
func (s *Service) FindQueued(ctx context.Context, customerID, orderNo string) (Queued, error) {
	if s.cfg.Queue == nil || customerID == "" {
		return Queued{}, ErrNotFound
	}
	t, found, err := s.cfg.Queue.Find(ctx, customerID, orderNo)
	if err != nil {
		return Queued{}, fmt.Errorf("%w: look for %s in the queue: %w", sqldb.ErrUnavailable, orderNo, err)
	}
	if !found { // perhaps it was one of the queue when its order was looked for, and is one no more
		if _, err := s.findNow(ctx, orderNo, customerID); err != nil {
			return Queued{}, err
		}
		return Queued{}, &PlacedAsError{orderNo}
	}
	if t.State == gate.QueueRefused {
		return Queued{}, readOutcome(t.Problem)
	}
	q := Queued{OrderNo: orderNo, Position: t.Position, Wait: t.Wait, Withdrawn: t.State == gate.QueueWithdrawn}
	if p, err := readWaiting(t.Payload); err == nil && !q.Withdrawn { // else it is shown without them
		q.Lines = p.Lines
	}
	return q, nil
}

// Times of a withdrawal that came too late.
const (
	becomesFor  = 2 * time.Second // a drainer makes the order in so much, mostly
	becomesLook = 100 * time.Millisecond
)

// withdraw takes a placement out of the queue for a cancel that has found no order. It gives the
// number of the order when it came too late and the order is there by now.
func (s *Service) withdraw(ctx context.Context, customerID, orderNo string) (placedAs string, err error) {
	if s.cfg.Queue == nil || customerID == "" {
		return "", ErrNotFound
	}
	withdrawn, found, err := s.cfg.Queue.Withdraw(ctx, customerID, orderNo)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: withdraw %s from the queue: %w", sqldb.ErrUnavailable, orderNo, err)
	case withdrawn:
		return "", &QueuedError{Queued{OrderNo: orderNo, Withdrawn: true}}
	}
	for end := time.Now().Add(becomesFor); ; {
		if _, err := s.findNow(ctx, orderNo, customerID); !errors.Is(err, ErrNotFound) {
			return orderNo, err
		}
		var as *PlacedAsError
		_, err := s.FindQueued(ctx, customerID, orderNo)
		if errors.As(err, &as) {
			return as.OrderNo, nil
		}
		if err != nil || !found {
			return "", cmp.Or(err, ErrNotFound) // refused: nothing is left to cancel
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("%w: the order of %s is being made", sqldb.ErrOverloaded, orderNo)
		}
		if !sqldb.Sleep(ctx, becomesLook) {
			return "", ctx.Err()
		}
	}
}
