// Package wechatsim is a stand-in for WeChat Pay (API v3) over HTTP: prepay,
// query, close, platform certificates and payment notifications, signed and
// encrypted as WeChat signs and encrypts. No real money is anywhere in it.
//
// It exists because WeChat Pay v3 has no sandbox. It shares no code with the
// client that it judges and imports the standard library only, so that a
// misunderstanding on one side cannot hide on the other; its tests use
// Tencent's own SDK as a second client.
//
// It owns the trades (in memory: a restart forgets them), the keys of both
// sides, the buyer (Pay), the callbacks with WeChat's retry ladder, faults, and
// the log of every request and effect. That log is an oracle: stock returned
// for a trade that was SUCCESS at any time is a bug of the merchant's.
// It does not own refunds and bills yet: their routes answer in WeChat's error
// form that they are not there.
//
// # Deliberate differences from the real one
//
//   - A time_expire less than a minute ahead is taken as it is, because tests
//     use seconds. Options.StrictExpire raises it to one minute as WeChat does.
//   - notify_url may be http and loopback.
//   - payer_client_ip may be loopback unless Options.StrictClientIP is set.
//
// # Reading order
//
// sim.go (options, life), trade.go (what a trade may do: all state changes),
// serve.go (a request's way through), prepay.go, query.go, close.go,
// certificates.go, then notify.go (callbacks), pay.go (the buyer), faults.go and
// nasty.go (misbehaviour), control.go (the /control surface), log.go (the
// oracle), auth.go and sign.go (the cryptography), keys.go (both sides' keys).
package wechatsim
