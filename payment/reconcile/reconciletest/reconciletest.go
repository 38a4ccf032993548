// Package reconciletest joins reconciliation to a real order service, for tests. It
// does what cmd/orderd/reconcile_orders.go does; a test there compares the two.
package reconciletest

import (
	"context"
	"errors"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// Orders is an order service as reconciliation needs it.
type Orders struct{ Service *order.Service }

var _ reconcile.Orders = Orders{}

// OrderNoOf asks for the grammar of our numbers, which package order has.
func (o Orders) OrderNoOf(outTradeNo string) string { return order.OrderNoOf(outTradeNo) }

// Settle records a payment.
func (o Orders) Settle(ctx context.Context, trade payment.Trade, c reconcile.Cause) (string, error) {
	s, err := o.Service.Settle(ctx, trade, Cause(c))
	return string(s.Settled), err
}

// SettleRefund records what WeChat says of a refund.
func (o Orders) SettleRefund(ctx context.Context, refund payment.Refund, c reconcile.Cause) (bool, error) {
	s, err := o.Service.SettleRefund(ctx, refund, Cause(c))
	return s.Outcome == order.RefundOutcomeApplied, err
}

// RefundHeld sends a held payment back.
func (o Orders) RefundHeld(ctx context.Context, transactionID string, c reconcile.Cause) error {
	err := o.Service.RefundHeld(ctx, transactionID, Cause(c))
	if errors.Is(err, order.ErrRefundWaits) {
		return reconcile.ErrRefundWaits
	}
	return err
}

// Cause turns a cause of reconciliation into one of orders. All four words are kept.
func Cause(c reconcile.Cause) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorType(c.ActorType), ID: c.ActorID}, Type: c.Type, ID: c.ID}
}
