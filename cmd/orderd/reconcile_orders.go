package main

import (
	"context"
	"errors"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// reconcileOrders gives reconciliation what it needs of orders. The two packages
// do not know each other; this file and its twin for tests, package
// reconciletest, are where they meet. It translates and decides nothing.
type reconcileOrders struct{ orders *order.Service }

var _ reconcile.Orders = reconcileOrders{}

// OrderNoOf gives the order number in an out_trade_no of ours, "" for another system's:
// several systems may take payments with one merchant number.
func (r reconcileOrders) OrderNoOf(outTradeNo string) string { return order.OrderNoOf(outTradeNo) }

// Settle records a payment that the bill has and we have not, by the one method that does
// so. It gives what became of it, such as applied or owed.
func (r reconcileOrders) Settle(ctx context.Context, trade payment.Trade, c reconcile.Cause) (string, error) {
	s, err := r.orders.Settle(ctx, trade, orderCause(c))
	return string(s.Settled), err
}

// SettleRefund records what WeChat says of a refund, and reports that this changed
// something.
func (r reconcileOrders) SettleRefund(ctx context.Context, refund payment.Refund, c reconcile.Cause) (bool, error) {
	s, err := r.orders.SettleRefund(ctx, refund, orderCause(c))
	return s.Outcome == order.RefundOutcomeApplied, err
}

// RefundHeld sends a payment back that fits no order.
func (r reconcileOrders) RefundHeld(ctx context.Context, transactionID string, c reconcile.Cause) error {
	err := r.orders.RefundHeld(ctx, transactionID, orderCause(c))
	if errors.Is(err, order.ErrRefundWaits) {
		return reconcile.ErrRefundWaits
	}
	return err
}

// orderCause keeps all four words: timelines store them, and reconcile has types of its
// own so that it need not import package order.
func orderCause(c reconcile.Cause) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorType(c.ActorType), ID: c.ActorID}, Type: c.Type, ID: c.ID}
}
