// Command wechatsim runs the WeChat Pay simulator (payment/wechatsim) as a process of
// its own: what a developer points a merchant's base URL at. No real money is
// anywhere in it.
//
// It prints where its API and its control surface are, which keys it uses and the
// seed of its random decisions, then serves until SIGTERM. The same seed and the
// same requests give the same faults again.
package main
