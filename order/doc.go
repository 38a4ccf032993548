// Package order is the life of an order: placed, prepaid, paid, or closed and its
// stock given back; and of the money that goes back.
//
// It owns the tables orders, order_items, order_events and payment_attempts, the
// journal payments, refunds with refund_items and refund_approvals, and write_offs. Stock it
// moves through package stock, inside its own transactions. It does not own the
// queue (it asks Tasks for a wake-up and never relies on one), nor HTTP, nor
// WeChat's protocol (payment.Gateway).
//
// Read in this order:
//
//	machine.go, refund_machine.go   the two tables: what an event is to a state
//	command.go, refund_command.go   what can be done to an order or a refund, each a type
//	refund_decide.go, refund_status.go   people's decisions on refunds; WeChat Pay's word on them
//	held.go, write_off.go           people's decisions on money that fits no order
//	unanswered.go, ask.go           WeChat Pay has no word: what ends a closing order, who asks again
//	adopt.go                        what an earlier program has prepaid is noted
//	load.go, apply.go               the one way to an order's state: load, decide, assert, write
//	assert.go                       what must always hold, checked before COMMIT
//	close.go, timeout.go            WeChat Pay is asked first: for one order, for a page
//	place.go, prepay.go, pay.go, refund.go, view.go   the methods of Service
//	store_*.go                      all SQL, a file per table
//
// Package order/audit looks at all rows, however they came there.
//
// Three rules hold everywhere. No call to WeChat Pay is made inside a transaction:
// the intent is committed before the call and the answer after it, and no answer
// moves nothing. What was read decides nothing alone: an UPDATE names what it
// believes, and its rows are counted. What may be repeated has a unique key, and
// the repeat gets the first answer.
//
// Locks are taken in this order: orders, refunds, payments, write_offs, stock_flows,
// skus; within a table by ascending key.
package order
