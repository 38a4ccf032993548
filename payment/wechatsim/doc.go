// Package wechatsim is a stand-in for WeChat Pay (API v3) over HTTP: prepay,
// query, close, refunds, bills, platform certificates, the test of signatures and the
// notifications of all of them, signed and encrypted as WeChat signs and encrypts. No
// real money is anywhere in it.
//
// It exists because WeChat Pay v3 has no sandbox, and the one call that can be tried there
// for nothing (echo.go) opens no trade. It shares no code with the
// client that it judges and imports the standard library only, so that a
// misunderstanding on one side cannot hide on the other; its tests use
// Tencent's own SDK as a second client.
//
// It owns the trades and refunds (in memory: a restart forgets them), the keys of
// both sides, the buyer (Pay), the callbacks with WeChat's retry ladder, the
// bills, faults, and the log of every request and effect. That log is an oracle:
// stock returned for a trade that was SUCCESS at any time is a bug of the
// merchant's.
//
// # Deliberate differences from the real one
//
//   - A time_expire less than a minute ahead is taken as it is, because tests
//     use seconds. Options.StrictExpire raises it to one minute as WeChat does.
//   - notify_url may be http and loopback.
//   - payer_client_ip may be loopback unless Options.StrictClientIP is set.
//   - A bill of today may be asked for unless Options.StrictBillTime is set.
//
// # Known differences that nobody wanted
//
// They were found by comparing with WeChat's documents and captured answers; a test
// against the simulator says nothing about them.
//
//   - A 400 PARAM_ERROR names the field in detail.field and detail.issue; captured ones
//     have detail.location and say the rest in the message.
//   - A callback always has a Wechatpay-Signature-Type; WeChat's may lack it.
//   - CLOSED has no cause here: at WeChat it is seven days without money in the merchant's
//     account. The statuses of TRADE_OVERDUE and REFUND_FEE_MISMATCH have no source.
//   - There is one host; WeChat has a second one, api2.mch.weixin.qq.com.
//
// # Reading order
//
// sim.go (options, life), trade.go (what a trade may do: all state changes),
// serve.go (a request's way through), prepay.go, query.go, close.go, refund.go,
// bill.go, certificates.go, echo.go, then notify.go (callbacks), pay.go (the buyer), faults.go and
// nasty.go (misbehaviour), control.go (the /control surface), log.go (the
// oracle), auth.go and sign.go (the cryptography), keys.go (both sides' keys).
package wechatsim
