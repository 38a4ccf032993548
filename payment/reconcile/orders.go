package reconcile

import (
	"context"

	"orderd/payment"
)

// Orders is what reconciliation needs of orders. Payments and refunds that a
// bill shows enter by the same methods as those of a WeChat Pay notification,
// so there is one rule for what money may do to an order. This package imports
// no order code: cmd/orderd/reconcile_orders.go joins the two.
type Orders interface {
	// OrderNoOf gives the number of the order in an out_trade_no, or "" when the number
	// was not made by orderd: other systems of the same merchant have rows in the same
	// bill. It looks at the number alone; whether there is such an order, Settle finds
	// out.
	OrderNoOf(outTradeNo string) string
	// Settle records a payment, once per transaction id. The outcome is a word for
	// people (applied, owed, held, repeated): it becomes part of a resolution.
	// Nil means that the payment is committed, whatever the outcome.
	Settle(ctx context.Context, trade payment.Trade, cause Cause) (outcome string, err error)
	// SettleRefund records what WeChat says of a refund, once per number and
	// status. applied is false when it changed nothing: it was known before, or it
	// fits no refund of ours and waits for a person.
	SettleRefund(ctx context.Context, refund payment.Refund, cause Cause) (applied bool, err error)
	// RefundHeld sends a payment back to its buyer that fits no order of ours. Nil: it
	// goes. ErrRefundWaits: the person of cause has proposed it, and somebody else has to
	// agree, by the same call or by approving the refund.
	RefundHeld(ctx context.Context, transactionID string, cause Cause) error
}

// ActorType is the kind of an actor: a stored word of timelines, never changed.
type ActorType string

// The actors of this package.
const (
	// ActorReconciler is a run that heals by itself. Its ID is that of the run:
	// ID(date, type).
	ActorReconciler ActorType = "reconciler"
	// ActorOperator is a person who resolves a difference. Its ID is their name.
	ActorOperator ActorType = "operator"
)

// Cause is why an order is changed, for its timeline: who did it, and because of
// what. Package order has the same four words; orders keep them as they are.
type Cause struct {
	ActorType ActorType
	ActorID   string
	// Type is causeBill, or how the person asked (request, cli); at most 16 characters.
	Type string
	// ID is that of the difference, or of the request; "" without; at most 64
	// characters.
	ID string
}

// causeBill is the type of a cause that is a row of a bill.
const causeBill = "bill"

// ByOperator is the cause of what a person decided. how is the way they came
// (request, cli), id the request's number, "" without one.
func ByOperator(name, how, id string) Cause {
	return Cause{ActorType: ActorOperator, ActorID: name, Type: how, ID: id}
}
