// Package scheduler sees to it that every unpaid order is looked at when its time
// has come, and every refund that is under way when its next call is due.
//
// What is due is decided by a column of the database, orders.due_at, by the
// database's clock. asynq, a task queue in Redis, is only the alarm clock: it has
// one task per second in which orders are due, and runs it within a fraction of a
// second. With Redis off, flushed or restarted empty every order still ends,
// within the interval of the sweep, because the sweep reads the column itself.
//
// What happens to an order is decided by package order. A task carries only keys;
// it may run twice, early, late or never, since all it does is ask what is due.
//
// # Roles
//
// Every role is a type in a file of its own, with a params struct that lists what
// it needs. An arrow means "calls"; there is no circle.
//
//	order ---> Queue ---> Redis ---> asynq's servers, in Worker
//
//	Worker ---> runner --------> closer ---> order, Queue
//	       ---> sweep ---------> runner, closer, Queue
//	       ---> line ----------> closer
//	       ---> asker ---------> order
//	       ---> daily ---------> package reconcile
//
//	runner, closer, line, sweep ---> failureTracker ---> DeadLetters
//
// Worker starts and stops all others, runs the asynq servers, and gives each task
// to the runner.
//
// The runner runs one task: it finds by its type who does the work.
//
// The closer takes unpaid orders to their end, page by page. It claims them
// (order.Service.ClaimDue), waits until the rate of calls to WeChat Pay allows,
// and closes them (order.Service.CloseClaimed). When more are due than the rate
// allows, it lets them wait: they are in state closing then and keep their due
// time.
//
// The line serves those that wait, in the order of their due times, but those that may
// be paid before those that never could, and has the closer close their pages. What the
// closer has to know of it, whether somebody waits, stands in a lineSignal that both
// hold.
//
// The sweep runs what is overdue, sets lost wake-ups again, and tries failed tasks
// again.
//
// The asker asks WeChat Pay whether open trades are paid, at the times that package
// order has set for them, so that a lost notification is made up for. It takes of the
// rate only what closes leave.
//
// The failureTracker keeps failed tasks apart from the others. DeadLetters is
// their table, which operators list, run again and discard.
//
// The Queue is the producer: it sets wake-ups, and never makes an order wait for
// Redis. A Bucket is the rate towards WeChat Pay that all replicas keep together.
//
// # Words
//
// A slot is a second in which orders are due, and also the task of it; a part is a
// piece of it of at most 2000 orders, and also the task of that. A page is what is
// claimed and closed together. A wake-up is a task that is set for a time. A
// permit is one call to WeChat Pay under a rate.
//
// # Tables
//
// Of the database the package owns failed_tasks (deadletter_store.go) and
// rate_limits (bucket.go).
package scheduler
