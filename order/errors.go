package order

import (
	"errors"
	"fmt"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment"
	"orderd/stock"
)

// Every error that this package names. Any other error is the database's, and
// matches sqldb.ErrUnavailable, sqldb.ErrOverloaded or sqldb.ErrUnknown when it
// says something about whether the call took effect.

// Errors of the service. Errors with data are structs below.
var (
	// ErrNotFound: no such order, or it is another customer's.
	ErrNotFound = errors.New("order not found")
	// ErrRequestReused: the same customer used this key for another order.
	ErrRequestReused = errors.New("this idempotency key was used for another request")
	// ErrVersion: the caller acted on an older version of the order. Read it again.
	ErrVersion = errors.New("the order has changed since it was read")
	// ErrNotPaid: a trade that carries no payment cannot be settled.
	ErrNotPaid = errors.New("the trade is not paid")
)

// ValidationError lists everything that is wrong with a request.
type ValidationError struct{ Fields []FieldError }

// FieldError is one thing that is wrong, with a JSON pointer to it.
type FieldError struct{ Pointer, Code, Detail string }

// invalid collects what is wrong with a request, by the table of package bounds.
type invalid []FieldError

// text notes what is wrong with a text.
func (v *invalid) text(pointer string, f *bounds.Field, s string) {
	if wrong := f.Check(s); wrong != nil {
		*v = append(*v, FieldError{pointer, wrong.Code, wrong.Detail})
	}
}

// number notes what is wrong with a number, and reports that nothing is.
func (v *invalid) number(pointer string, n *bounds.Number, value int64) bool {
	wrong := n.Check(value)
	if wrong != nil {
		*v = append(*v, FieldError{pointer, wrong.Code, wrong.Detail})
	}
	return wrong == nil
}

// err gives a *ValidationError with all of it, nil when nothing is wrong.
func (v *invalid) err() error {
	if len(*v) == 0 {
		return nil
	}
	return &ValidationError{Fields: *v}
}

// checkReason gives a *ValidationError unless a reason fits: it stands in the timelines,
// flows and refunds that it explains for ever.
func checkReason(reason string) error {
	var bad invalid
	bad.text("#/reason", &bounds.Reason, reason)
	return bad.err()
}

func (e *ValidationError) Error() string {
	return fmt.Sprintf("%s: %s (%d in all)", e.Fields[0].Pointer, e.Fields[0].Detail, len(e.Fields))
}

// InsufficientError names every SKU that was short. Nothing was taken.
type InsufficientError struct{ Items []stock.Short }

func (e *InsufficientError) Error() string {
	s := e.Items[0]
	return fmt.Sprintf("SKU %s has %d left, %d asked", s.SkuID, s.Available, s.Requested)
}

// NotStartedError: the sale of a SKU has not begun. Nothing was taken.
type NotStartedError struct {
	SkuID   string
	Index   int // of the line
	OpensAt time.Time
	Wait    time.Duration // until then
}

func (e *NotStartedError) Error() string {
	return fmt.Sprintf("the sale of SKU %s begins at %s", e.SkuID, e.OpensAt.Format(time.RFC3339Nano))
}

// CustomerLimitError: the customer would have more units of a sale than one may have.
// Nothing was taken. All numbers are in units.
type CustomerLimitError struct {
	Sale               string
	Index              int // of the first line of the sale
	Asked, Held, Limit int64
}

func (e *CustomerLimitError) Error() string {
	return fmt.Sprintf("%d units asked, %d held, a customer may have %d of this sale", e.Asked, e.Held, e.Limit)
}

// UnknownSKUError names a SKU that does not exist.
type UnknownSKUError struct {
	SkuID string
	Index int // of the line
}

func (e *UnknownSKUError) Error() string { return fmt.Sprintf("SKU %s does not exist", e.SkuID) }

// PriceChangedError: the customer saw another total than the SKUs cost now.
type PriceChangedError struct{ Expected, Actual payment.Fen }

func (e *PriceChangedError) Error() string {
	return fmt.Sprintf("the total is %d fen now, %d were expected", e.Actual, e.Expected)
}

// ReferenceTakenError: another order of the shop has this reference. Nothing was placed.
type ReferenceTakenError struct{ OrderNo string }

func (e *ReferenceTakenError) Error() string {
	return "order " + e.OrderNo + " has this reference already"
}

// NotPayableError: the order cannot be prepaid any more.
type NotPayableError struct {
	State   State
	Expired bool // still pending, but its time to pay is over
	// Held: it has a payment that does not fit it, which a person has to look at; until
	// then the buyer is not asked to pay once more.
	Held bool
}

func (e *NotPayableError) Error() string {
	if e.Held {
		return "a payment of this order is being looked into"
	}
	if e.Expired {
		return "the time to pay this order is over"
	}
	return fmt.Sprintf("an order that is %s cannot be paid", e.State)
}

// JudgedError: a held payment stays held. Reason is why it does not fit its order, as
// Settlement has it.
type JudgedError struct{ Reason, Why string }

func (e *JudgedError) Error() string { return e.Why }

// HeldError: a payment that is or was held is not written off, or was by others.
type HeldError struct{ Why string }

func (e *HeldError) Error() string { return e.Why }

// RefusedError: the state machine says no. Order is the order as it is.
type RefusedError struct {
	Order Order
	Event Event
	Why   string
}

func (e *RefusedError) Error() string { return e.Why }

// NotDueError: asked too early; come back At.
type NotDueError struct{ At time.Time }

func (e *NotDueError) Error() string { return "not due before " + e.At.Format(time.RFC3339Nano) }

// ClosingError: WeChat gave no usable answer to the close. Nothing moved; it is
// asked again At.
type ClosingError struct {
	At  time.Time
	Err error
}

func (e *ClosingError) Error() string {
	return fmt.Sprintf("close not proven, asking again at %s: %v", e.At.Format(time.RFC3339), e.Err)
}

// Unwrap gives the gateway's error.
func (e *ClosingError) Unwrap() error { return e.Err }

// TooManyOpenError: the customer has as many unpaid orders as one may have.
// Nothing was placed; the same request again, after one was paid or cancelled,
// places it.
type TooManyOpenError struct {
	Open int
	// Wait is how long until the first of them is closed by itself; 0 when that
	// is overdue.
	Wait time.Duration
}

func (e *TooManyOpenError) Error() string {
	return fmt.Sprintf("the customer has %d unpaid orders", e.Open)
}

// TooManyUnitsError: with this placement the customer's unpaid orders would hold more
// units of a SKU than one customer's may. Nothing was placed.
type TooManyUnitsError struct {
	Index              int // of the line, from 0
	SkuID              string
	Asked, Held, Limit int64 // units: of the line, of the unpaid orders, and at most
}

func (e *TooManyUnitsError) Error() string {
	return fmt.Sprintf("the customer's unpaid orders hold %d of SKU %s, with %d more it would be above %d",
		e.Held, e.SkuID, e.Asked, e.Limit)
}

// Errors of refunds.
var (
	// ErrRefundNotFound: no such refund, or it is of another customer's order.
	ErrRefundNotFound = errors.New("refund not found")
	// ErrSelfApproval: the approver asked for this refund himself.
	ErrSelfApproval = errors.New("a refund is approved by somebody else than the one who asked for it")
	// ErrRefundWaits: it is asked for, and waits for the approval of somebody else.
	ErrRefundWaits = errors.New("the refund waits for the approval of a second person")
	// ErrRefundTooOld: WeChat Pay sends money back within a year of its payment.
	ErrRefundTooOld = errors.New("the payment is more than a year old: WeChat Pay refunds it no more")
	// ErrTooManyRefunds: WeChat Pay takes 50 refunds of one payment.
	ErrTooManyRefunds = errors.New("WeChat Pay takes no more than 50 refunds of one payment")
)

// RefundExceedsError: more than what is left of the payment.
type RefundExceedsError struct {
	Asked, Left payment.Fen
	// InProgress: the rest is taken by refunds that have not ended yet.
	InProgress bool
}

func (e *RefundExceedsError) Error() string {
	return fmt.Sprintf("%s yuan asked back, %s are left of the payment", e.Asked, e.Left)
}

// ReturnExceedsError: more of a SKU than the order has and has not returned.
type ReturnExceedsError struct {
	SkuID       string
	Asked, Left int64
}

func (e *ReturnExceedsError) Error() string {
	return fmt.Sprintf("%d of SKU %s asked back, %d can be", e.Asked, e.SkuID, e.Left)
}

// RefundRefusedError: the refund is in a state that does not allow it.
type RefundRefusedError struct {
	Refund Refund
	Event  RefundEvent
	Why    string
}

func (e *RefundRefusedError) Error() string { return e.Why }

// DamagedError: the rows of an order contradict one another, so that nothing can be
// written for it: a row that would be new is there already, or one that was read under
// a lock is not the one that is written. Nothing was done, a repeat fails the same way,
// and a person has to look (orderd verify).
type DamagedError struct {
	OrderNo string // "" for money that fits no order
	Err     error  // what the database refuses
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("order %s: its rows contradict one another, nothing can be written for it: %v", e.OrderNo, e.Err)
}

// BrokenError: a transaction would have broken an invariant and was rolled back.
type BrokenError struct {
	Invariant string // one of Invariants()
	OrderNo   string
	Detail    string // for an operator
}

func (e *BrokenError) Error() string {
	return "the invariant " + e.Invariant + " would be broken: rolled back"
}
