package main

import (
	"testing"

	"orderd/order"
	"orderd/payment/reconcile"
	"orderd/payment/reconcile/reconciletest"
)

// Timelines store these words: one that is translated, or differs between the service and its tests, rewrites history.
func TestReconcileKeepsTheWordsOfTimelines(t *testing.T) {
	for _, c := range []struct {
		cause reconcile.Cause
		want  order.Cause
	}{
		{reconcile.Cause{ActorType: reconcile.ActorReconciler, ActorID: "2026-11-20-ALL", Type: "bill", ID: "d"},
			order.Cause{Actor: order.Actor{Type: order.ActorReconciler, ID: "2026-11-20-ALL"}, Type: "bill", ID: "d"}},
		{reconcile.ByOperator("fin", "request", "r"),
			order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "fin"}, Type: "request", ID: "r"}},
	} {
		if got := orderCause(c.cause); got != c.want {
			t.Errorf("the service writes %+v, want %+v", got, c.want)
		}
		if got := reconciletest.Cause(c.cause); got != c.want {
			t.Errorf("tests write %+v, want %+v", got, c.want)
		}
	}
}
