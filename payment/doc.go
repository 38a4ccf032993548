// Package payment holds the words that orders and WeChat Pay share: money in
// fen, the gateway an order speaks to, its typed answers, and the journal of
// money received.
//
// It owns the tables payments, refunds and payment_attempts. It does not own
// the state of an order (package order) and knows no HTTP and no gopay
// (package payment/wechat).
package payment
