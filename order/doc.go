// Package order is the life of an order: placed, prepaid, paid, or closed and
// its stock given back.
//
// It owns the tables orders, order_items and order_events, and writes the
// journal of package payment and the ledger of package stock inside its own
// transactions. It does not own the queue (it asks Tasks for a wake-up and
// never relies on one), nor HTTP, nor WeChat's protocol (payment.Gateway).
//
// Read in this order: machine.go (one table decides), door.go (one function
// writes the state), close.go (stock comes back only after a proven close),
// expire.go (the same for a page of timeouts, in few statements).
//
// What must always hold of an order is asserted in the transaction that writes
// it (assert.go); verify.go looks at all rows, however they came there.
//
// Locks are taken in this order everywhere: orders, refunds, payments,
// stock_flows, skus; within a table by ascending key.
package order
