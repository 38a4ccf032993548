package order_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

func limited(t *testing.T, db *sqldb.DB, limit int) *ordertest.Fixture {
	t.Helper()
	return ordertest.NewWith(t, db, func(c *order.Config) { c.MaxOpenOrders = limit })
}

func one(customer, request, sku string) order.Placement {
	return order.Placement{CustomerID: customer, RequestID: request, Lines: []stock.Line{{SkuID: sku, Quantity: 1}}}
}

// Without a limit one customer takes a hot SKU off everybody's shelf and never pays.
func TestOneCustomerCannotHoard(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const limit, stocked = 5, 100
		f := limited(t, db, limit)
		f.SKU(t, "hot", stocked)
		f.SKU(t, "free", -1)
		place := func(f *ordertest.Fixture, customer string, n int) (placed int) {
			var all sync.WaitGroup
			var mu sync.Mutex
			for i := range n {
				sku := []string{"hot", "free"}[i%2] // rows that nobody locks too
				all.Go(func() {
					_, err := f.Place(t.Context(), one(customer, fmt.Sprintf("%p-%d", f, i), sku))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						placed++
					case !errors.As(err, new(*order.TooManyOpenError)):
						t.Error(err)
					}
				})
			}
			all.Wait()
			return placed
		}
		if got := place(f, "hoarder", 80); got != limit {
			t.Errorf("the hoarder has %d orders, %d are allowed", got, limit)
		}
		if left := f.Available(t, "hot"); left < stocked-limit {
			t.Errorf("%d of %d left", left, stocked)
		}
		if got := place(f, "buyer", 2); got != 2 {
			t.Errorf("another customer got %d of 2", got)
		}
		// Two processes: each lets one at a time through, so one too many at most.
		g := f.Restarted(t, func(c *order.Config) { c.MaxOpenOrders = limit })
		var all sync.WaitGroup
		var got [2]int
		for i, f := range []*ordertest.Fixture{f, g} {
			all.Go(func() { got[i] = place(f, "both", 40) })
		}
		all.Wait()
		if n := got[0] + got[1]; n < limit || n > limit+1 {
			t.Errorf("%d orders through two processes, %d and one are allowed", n, limit)
		}
	})
}

// A customer at the limit must get the order that a lost answer hid, be told when
// there is room, and have room when an order was paid or cancelled.
func TestLimitOfOpenOrdersMakesRoom(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := limited(t, db, 2)
		f.SKU(t, "1001", 10)
		first := f.PlaceOne(t, "k1", "1001", 1)
		f.Clock.Advance(time.Minute)
		second := f.PlaceOne(t, "k2", "1001", 1)
		full := func(request string) {
			t.Helper()
			_, err := f.Place(t.Context(), one("c", request, "1001"))
			var open *order.TooManyOpenError
			if !errors.As(err, &open) || open.Open != 2 || open.Wait <= 0 || open.Wait > 30*time.Minute {
				t.Errorf("%v: %+v", err, open)
			}
		}
		full("k3")
		if again, err := f.Place(t.Context(), one("c", "k1", "1001")); err != nil || !again.Replayed ||
			again.Order.OrderNo != first.OrderNo {
			t.Errorf("the repeat of an order at the limit: %+v, %v", again, err)
		}
		if got := f.Available(t, "1001"); got != 8 {
			t.Errorf("%d left", got)
		}
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: first.OrderNo, CustomerID: "c",
			Cause: ordertest.Customer}); err != nil {
			t.Fatal(err)
		}
		third := f.PlaceOne(t, "k3", "1001", 1) // the refused key is as good as new
		full("k4")
		trade, err := f.WeChat.Pay(f.Prepaid(t, second.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		f.PlaceOne(t, "k4", "1001", 1)
		// An order that is being closed still holds its stock.
		f.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
		_, _ = f.Cancel(t.Context(), order.CancelRequest{OrderNo: third.OrderNo, CustomerID: "c",
			Cause: ordertest.Customer})
		if got := f.State(t, third.OrderNo); got != order.StateClosing {
			t.Fatal(got)
		}
		full("k5")
	})
}

// A customer who hangs up while waiting for an earlier placement must not block later ones for ever.
func TestTurnsEnd(t *testing.T) {
	f := limited(t, sqldbtest.SQLite(t), 2)
	f.SKU(t, "1001", 10)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for i := range 20 {
		if _, err := f.Place(gone, one("c", fmt.Sprint("g", i), "1001")); err == nil {
			t.Fatal("placed for nobody")
		}
	}
	f.PlaceOne(t, "k1", "1001", 1)
	if n := f.Turns(); n != 0 {
		t.Errorf("%d turns are remembered", n)
	}
}
