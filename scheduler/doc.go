// Package scheduler brings time to orders: it sees to it that every unpaid
// order is looked at when its time has come.
//
// The truth is the column due_at of the orders. asynq is the alarm clock: a
// task per wake-up, exact to a fraction of a second. The sweep reads the column
// and covers whatever the clock forgets: with Redis off, flushed or restarted
// empty every order still ends, within the sweep's interval.
//
// It owns nothing in the database. A task carries only a key, may run twice,
// early, late or never, and only asks "is it due?".
package scheduler
