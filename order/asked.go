package order

import (
	"context"
	"errors"
	"slices"

	"orderd/payment"
)

// asked is WeChat Pay with one rule more: an answer proves something only about the trade,
// merchant and app that were asked for. Any other is no usable answer and an alarm, and
// nothing moves. Only what says that money is there passes: Settle holds what does not fit.
type asked struct {
	payment.Gateway
	s *Service
}

// Query asks for the state of a trade of ours.
func (a asked) Query(ctx context.Context, outTradeNo string) (payment.Trade, error) {
	trade, err := a.Gateway.Query(ctx, outTradeNo)
	if other := trade.OtherThan(outTradeNo, a.s.cfg.MchID, a.s.cfg.appIDs()); err == nil && other != "" {
		trade, err = payment.Trade{}, &payment.GatewayError{Op: "query", Kind: payment.KindUnknown,
			RequestID: trade.RequestID, Err: payment.ErrOtherAnswer}
		a.alarm(err, outTradeNo, other)
		return trade, err
	}
	a.alarm(err, outTradeNo, "")
	return trade, err
}

// Prepay, Close, Refund and QueryRefund are compared by the gateway, which knows what it sent.
func (a asked) Prepay(ctx context.Context, q payment.Attempt) (payment.Prepaid, error) {
	r, err := a.Gateway.Prepay(ctx, q)
	a.alarm(err, q.OutTradeNo, "")
	return r, err
}

// Close is like Prepay.
func (a asked) Close(ctx context.Context, outTradeNo string) (payment.CloseReply, error) {
	r, err := a.Gateway.Close(ctx, outTradeNo)
	a.alarm(err, outTradeNo, "")
	return r, err
}

// Refund is like Prepay.
func (a asked) Refund(ctx context.Context, q payment.RefundRequest) (payment.Refund, error) {
	r, err := a.Gateway.Refund(ctx, q)
	a.alarm(err, q.OutRefundNo, "")
	return r, err
}

// QueryRefund is like Prepay.
func (a asked) QueryRefund(ctx context.Context, outRefundNo string) (payment.Refund, error) {
	r, err := a.Gateway.QueryRefund(ctx, outRefundNo)
	a.alarm(err, outRefundNo, "")
	return r, err
}

// alarm tells of an answer that is about something else; other is the field, where it is known.
func (a asked) alarm(err error, number, other string) {
	if errors.Is(err, payment.ErrOtherAnswer) {
		a.s.alarm("WeChat Pay answered about something else", OrderNoOf(number),
			number+" "+other+": "+err.Error())
	}
}

// appIDs are the app ids that payments of ours may carry.
func (c *Config) appIDs() []string { return append([]string{c.AppID}, c.OtherAppIDs...) }

// ourApp reports that a payment of an app id may be ours.
func (c *Config) ourApp(id string) bool { return id == c.AppID || slices.Contains(c.OtherAppIDs, id) }
