// Command orderload measures orderd and tries to break it. Its tables are those of
// docs/benchmarks.md and docs/chaos.md, which also name the commands.
//
// Every measurement runs against a private MariaDB with full durability, beside
// the naive peer (package bench: a transaction per order, at its best
// concurrency), in the same run and in turns. Read the ratios: on a shared machine
// only they can be repeated. After each measurement all invariants are verified,
// and a broken one fails the command.
//
//	place      order.Service.Place against a transaction per order
//	callback   order.Service.Settle against a transaction per callback; --lost: none comes
//	http       both of them over HTTP, with token, JSON and RSA
//	reconcile  a bill of a day against as many payments, with seeded differences
//	verify     every invariant of a large world, with seeded violations
//	expire     unpaid orders that come due together: package storm
//	gate       a flash sale: refusals, the last unit, many processes, what it costs others
//	chaos      kills, cuts and false callbacks, and a judge: package chaos
//
// Load goes to loopback only, is bounded in time, and ends by itself.
package main
