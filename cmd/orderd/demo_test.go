package main

import (
	"testing"

	"orderd/order"
)

// The demo left out orders that were to be closed when the money came and were refunded then, and those whose late
// money went back: its lines did not add up to what was placed.
func TestSummaryCountsEveryEnd(t *testing.T) {
	applied, owed := &order.Payment{Outcome: order.SettledApplied}, &order.Payment{Outcome: order.SettledOwed}
	clock, buyer := order.CloseReasonTimeout, order.CloseReasonCancel
	var s summary
	for _, o := range []order.Order{
		{State: order.StatePaid, Payment: applied},
		{State: order.StatePaid, Payment: applied, CloseReason: clock},
		{State: order.StateRefunding, Payment: applied},
		{State: order.StateRefunded, Payment: applied},
		{State: order.StateRefunded, Payment: applied, CloseReason: buyer},
		{State: order.StateClosed, CloseReason: clock},
		{State: order.StateLate, Payment: owed, CloseReason: clock},
		{State: order.StateRefunded, Payment: owed, CloseReason: clock},
		{State: order.StateClosed, CloseReason: buyer},
		{State: order.StateClosed, CloseReason: order.CloseReasonOperator},
		{State: order.StateRefunded, Payment: owed, CloseReason: buyer},
		{State: order.StatePending},
		{State: order.StateClosing, CloseReason: clock},
	} {
		s.count(o)
	}
	if want := (summary{placed: 13, paid: 5, byTimeout: 3, byCancel: 3}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}
