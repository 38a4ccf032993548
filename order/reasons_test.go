package order_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment/operators"
)

// The longest reason of the widest characters that JSON escapes, in two halves.
var longReason = strings.Repeat(`"`, bounds.Reason.Most/2) + strings.Repeat("退", bounds.Reason.Most/2)

// A reason stands whole in the timeline, whoever gives it. Where the row puts a mark and a name before it, and it does
// not fit any more, the row shows that something is missing.
func TestReasonsAreNotCutSilently(t *testing.T) {
	eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		o := f.PaidOne(t, "r1", "mug", 5)
		ask := ordertest.Ask(o.OrderNo, "k", 5)
		ask.CustomerID, ask.Cause, ask.Reason = "", anna, longReason
		r := f.MustAsk(t, ask)
		for _, who := range []order.Cause{bea, person(t, f, "carl", operators.Bootstrap)} {
			if _, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
				Event: order.RefundEventApprove, Reason: longReason, Cause: who}); err != nil {
				t.Fatal(err)
			}
		}
		f.WeChat.Refuse = "PARAM_ERROR"
		f.MustLookAtRefund(t, r.OutRefundNo)
		f.Clock.Advance(2 * time.Minute)
		for _, who := range []order.Cause{anna, bea} {
			got, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
				Event: order.RefundEventByHand, Reason: longReason, Cause: who})
			first := who.Actor.ID == "anna"
			if err != nil || first && got.Said.Why != longReason ||
				!first && (!strings.HasSuffix(got.DecidedWhy, "退…") || !bounds.Reason.Fits(got.DecidedWhy)) {
				t.Errorf("%s: %q, %q, %v", who.Actor.ID, got.Said.Why, got.DecidedWhy, err)
			}
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, e := range events {
			why, ok := e.Detail["reason"]
			if ok && why != longReason {
				t.Errorf("%s: the reason is %q", e.Event, why)
			}
			if ok {
				whole++
			}
		}
		if whole < 4 {
			t.Errorf("%d events have a reason: %s", whole, namesOf(events))
		}
	})
}

// A close that nobody can explain later, or whose reason forges a line, is refused before anything is done.
func TestCloseNeedsAReasonThatFits(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 1)
		for _, reason := range []string{"", " \u200b", "a\x1b[2J", "a\u202eb", longReason + "x"} {
			_, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: o.OrderNo, Reason: reason,
				Cause: as("olga")})
			var invalid *order.ValidationError
			if !errors.As(err, &invalid) || f.State(t, o.OrderNo) != order.StatePending {
				t.Errorf("closed for %+q: %v", reason, err)
			}
		}
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: o.OrderNo, Reason: longReason,
			Cause: as("olga")}); err != nil {
			t.Fatal(err)
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || !slices.ContainsFunc(events, func(e order.TimelineEvent) bool {
			return e.Detail["reason"] == longReason
		}) {
			t.Errorf("%+v, %v", events, err)
		}
	})
}
