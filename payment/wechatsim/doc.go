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
// What is known to differ from WeChat Pay, or cannot be known, and by what each is judged.
// A test against the simulator says nothing about them.
//
//   - What it plays after notes and captures alone, because no client library reads it: the
//     order of checks, the messages, the tails of Request-ID. Judged by captured bodies
//     (captured_test.go) and by probes of others (true_test.go).
//   - 400 PARAM_ERROR: detail as the documents have it, but of a text with too many bytes, as
//     captured. Which of the two forms WeChat uses for which field is known of those alone.
//   - CLOSED has no cause here: at WeChat it is seven days without money in the merchant's
//     account. Judged by nobody; SetRefundOutcome makes it.
//   - The statuses of TRADE_OVERDUE and REFUND_FEE_MISMATCH have no source (Options.RefundCodes).
//   - The moment at which a payment that collides with a close becomes NOTPAY again is
//     inferred, the 429 before it is WeChat's staff's word.
//   - The echo's encrypted_echo_message is refused; its summary is ours. The rest is judged by
//     the official SDK.
//   - Rates are not limited, but for what a fault or a collision answers.
//
// # Reading order
//
// sim.go (options, life), trade.go (what a trade may do: all state changes),
// serve.go (a request's way through), prepay.go, query.go, close.go, refund.go,
// bill.go, certificates.go, echo.go, then notify.go (callbacks), pay.go (the buyer), faults.go and
// nasty.go (misbehaviour), control.go (the /control surface), log.go (the
// oracle), auth.go and sign.go (the cryptography), keys.go (both sides' keys).
package wechatsim
