// Package wechat is the payment.Gateway on WeChat Pay API v3, built on gopay.
//
// It owns the keys, the connection, the verification of everything that comes
// from WeChat Pay (answers and notifications alike), and the one table that
// says what each answer means (answers.go, printed in docs/wechat.md). It is
// the only package that imports gopay, and no gopay type or error leaves it.
//
// It does not own what an order does with an answer (package order), the
// payment attempts and refunds that are stored (package order), or the HTTP
// route of a notification (package order/orderhttp). Between calls it remembers only which
// of WeChat Pay's two entries is well (hosts.go), and repeats a call only at the other one:
// any other repeat is the caller's decision, because only the caller knows whether the
// order still wants it.
//
// gopay builds, signs and sends the requests and decodes the answers. What it
// leaves open is closed in transport.go: gopay verifies no error answer and no
// time-stamp, so our RoundTripper verifies both before gopay sees a byte, and
// gopay's own verification (which would fetch keys in the background and
// overwrite shared fields) stays off.
package wechat
