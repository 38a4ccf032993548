package wechat

import (
	"context"

	"orderd/payment"
)

// Refund asks WeChat to send money back.
func (g *Gateway) Refund(context.Context, payment.RefundRequest) (payment.Refund, error) {
	return payment.Refund{}, refusal("refund", "not built yet")
}

// QueryRefund asks for the present state of a refund.
func (g *Gateway) QueryRefund(context.Context, string) (payment.Refund, error) {
	return payment.Refund{}, refusal("refund_query", "not built yet")
}
