// Package webhooks tells the shop's back end what happened, by Standard Webhooks 1.0.0
// (github.com/standard-webhooks/standard-webhooks): every event of the feed is sent to every
// endpoint that wants its type, at least once, signed, until it is taken or its ladder ends.
//
// The database comes first: a worker makes a row per endpoint and event (plan.go), and sends
// what is due (send.go). Each endpoint has a lane of its own, so that one which is slow
// delays no other, and each sending is claimed before it is made, so that whoever dies in it
// is followed. Whoever commits an event rings the worker (ring.go), which looks by itself as
// well: nothing here needs a ring, or Redis, but to be quick. Bodies are thin: they name an
// order and its version, and the receiver fetches the rest, so that late, repeated or
// reordered ones mislead nobody.
package webhooks
