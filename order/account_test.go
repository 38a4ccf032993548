package order_test

import (
	"fmt"
	"sync"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// The shelf and the flows of a SKU were read one after the other: what was sold in between was missing from one of
// them, and the page of a SKU that sells said that its stock was not conserved.
func TestAccountIsOfOneMoment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1_000_000)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-done:
						return
					default:
					}
					if _, err := f.Place(t.Context(), order.Placement{CustomerID: fmt.Sprint("c", i),
						RequestID: fmt.Sprint("n", n), Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wrong, sold := 0, int64(0)
		for n := 0; n < 100 || (sold == 0 && n < 10_000); n++ {
			a, err := f.StockAccount(t.Context(), "mug")
			if err != nil {
				t.Error(err)
				break
			}
			if sold = a.Reserved; !a.Conserved() {
				wrong++
			}
		}
		close(done)
		wg.Wait()
		if wrong > 0 || sold == 0 {
			t.Errorf("%d of 100 accounts do not add up, %d units were reserved", wrong, sold)
		}
	})
}

// The row of an order and what belongs to it were read one after the other: who looked while the money came was shown
// an unpaid order with its payment.
func TestOrderIsOfOneMoment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1000)
		for i := range 60 {
			o := f.PlaceOne(t, fmt.Sprint("k", i), "mug", 1)
			trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
					t.Error(err)
				}
			})
			for range 3 {
				wg.Go(func() {
					for n := 0; n < 10_000; n++ {
						o, err := f.Find(t.Context(), o.OrderNo)
						if err != nil || (o.State == order.StatePaid) != (o.Payment != nil) {
							t.Errorf("%s with the payment %+v: %v", o.State, o.Payment, err)
							return
						}
						if o.State == order.StatePaid {
							return
						}
					}
					t.Error("it is never paid")
				})
			}
			wg.Wait()
		}
	})
}
