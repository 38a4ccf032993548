package order_test

import (
	"slices"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
)

// A storm of timeouts must be seen before it comes, and the late ones apart from it.
func TestDueByMinute(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		f.Clock.Set(f.Clock.Now().Truncate(time.Minute).Add(59 * time.Second))
		closing := f.PlaceOne(t, "c", "mug", 1)
		f.Prepaid(t, closing.OrderNo)
		f.WeChat.Before = loseAll("close", "query")
		if o, err := f.Cancel(t.Context(), cancel(closing.OrderNo)); err != nil || o.State != order.StateClosing {
			t.Fatal(o.State, err)
		}
		first := f.PlaceOne(t, "a1", "mug", 1)
		f.Clock.Advance(time.Second)
		second := f.PlaceOne(t, "a2", "mug", 1)
		f.PlaceOne(t, "a3", "mug", 1)
		f.Clock.Set(first.DueAt.Add(time.Millisecond))
		far := f.PlaceOne(t, "a4", "mug", 1)
		got, err := f.DueByMinute(t.Context(), far.DueAt.Sub(f.Clock.Now()))
		if err != nil {
			t.Fatal(err)
		}
		at, last := second.DueAt.Truncate(time.Minute), far.DueAt.Truncate(time.Minute)
		want := []order.DueMinute{{Pending: 1, Closing: 1}, {From: &at, Pending: 2}, {From: &last, Pending: 1}}
		if !slices.EqualFunc(got, want, func(a, b order.DueMinute) bool {
			return a.Pending == b.Pending && a.Closing == b.Closing && (a.From == nil) == (b.From == nil) &&
				(a.From == nil || a.From.Equal(*b.From))
		}) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		// By the second in which they are taken, to be held against the tasks in Redis.
		seconds, err := f.DueBySecond(t.Context(), far.DueAt.Sub(f.Clock.Now()))
		wantSeconds := []order.DueSecond{{Orders: 2}, {At: second.DueAt, Orders: 2}, {At: far.DueAt, Orders: 1}}
		if err != nil || !slices.EqualFunc(seconds, wantSeconds, func(a, b order.DueSecond) bool {
			return a.Orders == b.Orders && a.At.Equal(b.At)
		}) {
			t.Errorf("got %+v, want %+v, %v", seconds, wantSeconds, err)
		}
		if got, err = f.DueByMinute(t.Context(), 0); err != nil || len(got) != 1 || got[0].From != nil {
			t.Errorf("%+v %v", got, err)
		}
	})
}
