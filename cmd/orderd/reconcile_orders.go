package main

import (
	"context"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// reconcileOrders gives reconciliation what it needs of orders. The two packages
// do not know each other; this file and its twin for tests, package
// reconciletest, are where they meet. It translates and decides nothing.
type reconcileOrders struct{ orders *order.Service }

var _ reconcile.Orders = reconcileOrders{}

// OrderNoOf asks for the grammar of our numbers, which package order has.
func (r reconcileOrders) OrderNoOf(outTradeNo string) string { return order.OrderNoOf(outTradeNo) }

// Settle records a payment.
func (r reconcileOrders) Settle(ctx context.Context, trade payment.Trade, c reconcile.Cause) (string, error) {
	s, err := r.orders.Settle(ctx, trade, orderCause(c))
	return string(s.Settled), err
}

// SettleRefund records what WeChat says of a refund.
func (r reconcileOrders) SettleRefund(ctx context.Context, refund payment.Refund, c reconcile.Cause) (bool, error) {
	s, err := r.orders.SettleRefund(ctx, refund, orderCause(c))
	return s.Outcome == order.RefundOutcomeApplied, err
}

// RefundHeld sends a held payment back.
func (r reconcileOrders) RefundHeld(ctx context.Context, transactionID string, c reconcile.Cause) error {
	return r.orders.RefundHeld(ctx, transactionID, orderCause(c))
}

// orderCause keeps all four words: timelines store them.
func orderCause(c reconcile.Cause) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorType(c.ActorType), ID: c.ActorID}, Type: c.Type, ID: c.ID}
}
