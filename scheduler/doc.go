// Package scheduler brings time to orders: it sees to it that every unpaid
// order is looked at when its time has come.
//
// The truth is the column due_at of the orders. asynq is the alarm clock: a
// task per second in which orders are due, exact to a fraction of a second,
// cut into parts for all workers when the second has many. The sweep reads the
// column and covers whatever the clock forgets: with Redis off, flushed or
// restarted empty every order still ends, within the sweep's interval.
//
// What happens to orders is package order's: a task carries only keys, may run
// twice, early, late or never, and only asks "what is due?". Of the database it
// owns failed_tasks, where the few stand that cannot be done, and rate_limits,
// the pace that all workers keep together towards WeChat Pay.
package scheduler
