// Package storm measures what happens when many unpaid orders come due together:
// how late each is taken to closing and how late its stock is back, beside two
// other ways to do it. It is the command "orderload expire".
//
// A run goes through these steps, once for each mode:
//
//	crowd.go, seed.go       unpaid orders on whole seconds, seeded by SQL and verified
//	modes.go, per_order.go  the mode is started: ours, per-order or naive
//	beside.go, buyers.go    meanwhile others place, settle and pay, if asked for
//	workers.go              or the work is shared by processes, some of them killed
//	samples.go, storm.go    CPU, memory and backlog are sampled until no order is open
//	judge.go                then the database is asked: for every order its lateness,
//	                        none early, none without proof, all invariants
//	table.go, plot.go       and the result is printed, drawn and written as JSON
//
// Ours is order.Service, scheduler.Queue and scheduler.Worker as orderd serve
// builds them. Naive is bench.Naive: a poller and a transaction per order.
// Per-order is what asynq's own advice comes to: a task for every order.
//
// How to read the table: lateness is from the due time to the committed event
// close.requested, "closed" is to close.accepted. The exact figures come from the
// database after the run; samples serve for CPU and memory only.
package storm
