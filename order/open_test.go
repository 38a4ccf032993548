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

// Five unpaid orders of ten thousand units each take a hot SKU off the shelf as surely as a thousand orders do. The
// limit is of units of a SKU and a customer, in one order or in several, under whatever keys, at once or not.
func TestOneCustomerCannotHoardUnits(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const limit, stocked = 10, 1000
		shape := func(c *order.Config) { c.MaxOpenUnits = limit }
		f := ordertest.NewWith(t, db, shape)
		f.SKU(t, "hot", stocked)
		f.SKU(t, "other", stocked)
		f.SKU(t, "free", -1)
		place := func(f *ordertest.Fixture, customer, key string, lines ...stock.Line) error {
			_, err := f.Place(t.Context(), order.Placement{CustomerID: customer, RequestID: key, Lines: lines})
			return err
		}
		full := func(err error, held int64) {
			t.Helper()
			var units *order.TooManyUnitsError
			if !errors.As(err, &units) || units.SkuID != "hot" || units.Held != held || units.Limit != limit {
				t.Errorf("%v: %+v", err, units)
			}
		}
		full(place(f, "c", "a", stock.Line{SkuID: "hot", Quantity: 11}), 0)
		full(place(f, "c", "b", stock.Line{SkuID: "other", Quantity: 1}, stock.Line{SkuID: "hot", Quantity: 6},
			stock.Line{SkuID: "hot", Quantity: 5}), 0) // two lines of one SKU are one
		first := f.PlaceOne(t, "k1", "hot", 6)
		second := f.PlaceOne(t, "k2", "hot", 4)
		full(place(f, "c", "k3", stock.Line{SkuID: "hot", Quantity: 1}), 10)
		if f.Available(t, "hot") != stocked-10 || f.Available(t, "other") != stocked {
			t.Error("a refusal took stock")
		}
		for _, other := range []error{
			place(f, "c", "k4", stock.Line{SkuID: "other", Quantity: 10}),
			place(f, "c", "k5", stock.Line{SkuID: "free", Quantity: 5000}), // nobody can take that away
			place(f, "d", "k1", stock.Line{SkuID: "hot", Quantity: 10}),
			place(f, "c", "k1", stock.Line{SkuID: "hot", Quantity: 6}), // a repeat at the limit
		} {
			if other != nil {
				t.Error(other)
			}
		}
		// What is being closed holds its stock; what is paid is no hoard any more.
		f.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
		_, _ = f.Cancel(t.Context(), order.CancelRequest{OrderNo: first.OrderNo, CustomerID: "c",
			Cause: ordertest.Customer})
		f.WeChat.Before = nil
		if f.State(t, first.OrderNo) != order.StateClosing {
			t.Fatal(f.State(t, first.OrderNo))
		}
		full(place(f, "c", "k6", stock.Line{SkuID: "hot", Quantity: 1}), 10)
		trade, err := f.WeChat.Pay(f.Prepaid(t, second.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		full(place(f, "c", "k6", stock.Line{SkuID: "hot", Quantity: 5}), 6)
		if err := place(f, "c", "k6", stock.Line{SkuID: "hot", Quantity: 4}); err != nil {
			t.Errorf("the refused key is as good as new: %v", err)
		}

		// At once, and by two processes: each lets one at a time through.
		at := func(customer string, fs ...*ordertest.Fixture) (units int64) {
			var all sync.WaitGroup
			var mu sync.Mutex
			for i := range 40 {
				all.Go(func() {
					err := place(fs[i%len(fs)], customer, fmt.Sprint("at", i), stock.Line{SkuID: "hot", Quantity: 3})
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						units += 3
					} else if !errors.As(err, new(*order.TooManyUnitsError)) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return units
		}
		if got := at("many", f); got != 9 {
			t.Errorf("%d units at once, 9 fit", got)
		}
		if got := at("both", f, f.Restarted(t, shape)); got < 9 || got > 12 {
			t.Errorf("%d units through two processes: one placement too many at most", got)
		}
	})
}

// An order that WeChat Pay keeps closing holds its units: for a day its customer gets no more of them, and then as many
// again, since it is not the customer who keeps them.
func TestUnprovenOrdersCountForADay(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.MaxOpenOrders, c.MaxOpenUnits = 1, 5 },
		func(t *testing.T, f *ordertest.Fixture) {
			f.SKU(t, "mug", 50)
			o := f.PlaceOne(t, "r0", "mug", 5)
			f.Prepaid(t, o.OrderNo)
			f.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
			f.Clock.Advance(time.Hour)
			if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err == nil {
				t.Fatal("it was closed without an answer")
			}
			again := order.Placement{CustomerID: "c", RequestID: "r1",
				Lines: []stock.Line{{SkuID: "mug", Quantity: 5}}}
			var tooMany *order.TooManyOpenError
			f.Clock.Advance(22*time.Hour + 50*time.Minute)
			if _, err := f.Place(t.Context(), again); !errors.As(err, &tooMany) {
				t.Errorf("within a day: %v", err)
			}
			f.Clock.Advance(20 * time.Minute)
			_, err := f.Place(t.Context(), again)
			if s := f.State(t, o.OrderNo); err != nil || s != order.StateClosing || f.Available(t, "mug") != 40 {
				t.Errorf("after a day: %v, %s, %d on the shelf", err, s, f.Available(t, "mug"))
			}
		})
}
