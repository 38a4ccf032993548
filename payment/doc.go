// Package payment holds the words that orders and WeChat Pay share: money in
// fen, the gateway that an order speaks to and its typed answers, refunds,
// bills, and the checks of numbers that go out to WeChat Pay.
//
// It has types and pure functions only: it owns no table, makes no call and
// keeps no state. The tables payments, refunds and payment_attempts are written
// by package order, in the transactions that move the order. The gateway itself
// is package payment/wechat, its stand-in for tests and demonstrations is
// payment/wechatsim, payment/reconcile compares WeChat Pay's bills with what
// we recorded, and payment/echoes notes the callbacks of tests that moved nothing.
//
// # Reading order
//
// fen.go (money), gateway.go (prepay, query, close, notifications and what an
// error means), refund.go, bill.go, text.go, trace.go.
package payment
