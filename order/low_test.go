package order_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
)

// toldLow is how often the shop was told that little is left of a SKU.
func toldLow(t *testing.T, db *sqldb.DB, sku string) int64 {
	t.Helper()
	return gatetest.Count(t, db, "SELECT COUNT(*) FROM events_out WHERE type = 'stock.low' AND ref = ?", sku)
}

// setLow gives a SKU its threshold.
func setLow(t *testing.T, f *ordertest.Fixture, sku string, at int64) {
	t.Helper()
	if got, err := f.Admin.SetLow(t.Context(), sku, at); err != nil || got.LowAt != at {
		t.Fatal(got, err)
	}
}

// Who is told of each order below the threshold stops reading, and who is told once for ever sells out the next time:
// the shop is told each time that the stock falls to it, by the order that does it, and not while it stays there.
func TestLowStockIsToldOnceEachTimeItFalls(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 20)
		f.SKU(t, "cup", 20)
		setLow(t, f, "mug", 10)
		var last order.Order
		n := 0
		sell := func(units, want int64) {
			t.Helper()
			n++
			last = f.PlaceOne(t, fmt.Sprint("r", n), "mug", units)
			f.PlaceOne(t, fmt.Sprint("cup", n), "cup", 1)
			if got := toldLow(t, db, "mug"); got != want {
				t.Errorf("told %d times with %d left, want %d", got, f.Available(t, "mug"), want)
			}
		}
		sell(4, 0)
		sell(5, 0) // 11 left
		sell(1, 1) // 10 left
		sell(3, 1)
		if _, err := f.Cancel(t.Context(), cancel(last.OrderNo)); err != nil { // 10 left: no more than that
			t.Fatal(err)
		}
		sell(4, 1)                                                             // 6 left
		if _, err := f.Cancel(t.Context(), cancel(last.OrderNo)); err != nil { // 10
			t.Fatal(err)
		}
		in := stock.Change{SkuID: "mug", Delta: 1, Key: "in", Reason: "r"}
		if _, err := f.Admin.Replenish(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		sell(1, 2) // 11 to 10
		if got := toldLow(t, db, "cup"); got != 0 {
			t.Errorf("told of a SKU without a threshold %d times", got)
		}
	})
}

// What people do to a shelf takes it to its threshold as an order does; and a threshold that is reached already when it
// is set would never be told. One that is taken away tells no more.
func TestLowStockByPeople(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 20)
		told := func(what string, want int64) {
			t.Helper()
			if got := toldLow(t, db, "mug"); got != want {
				t.Errorf("%s: told %d times, want %d", what, got, want)
			}
		}
		change := func(do func(stock.Change) error, key string, by int64) {
			t.Helper()
			if err := do(stock.Change{SkuID: "mug", Delta: by, Key: key, Reason: "r"}); err != nil {
				t.Fatal(err)
			}
		}
		adjust := func(c stock.Change) error { _, err := f.Admin.Adjust(t.Context(), c); return err }
		setLow(t, f, "mug", 10)
		change(adjust, "down", -12) // 8
		told("counted", 1)
		setLow(t, f, "mug", 9)
		told("another threshold that is reached as well", 1)
		setLow(t, f, "mug", 5)
		told("one that is not", 1)
		setLow(t, f, "mug", 8)
		told("one that is, again", 2)
		const file = "sku_id,title,price_fen,quantity\nmug,mug,100,%d\n"
		for i, quantity := range []int64{30, 3} {
			_, err := f.Admin.Import(t.Context(), strings.NewReader(fmt.Sprintf(file, quantity)),
				stock.ImportOptions{Mode: stock.ModeSet, Actor: "op"})
			if err != nil {
				t.Fatal(err)
			}
			told(fmt.Sprint("imported ", quantity), int64(2+i))
		}
		setLow(t, f, "mug", 0)
		change(adjust, "up", 30)
		change(adjust, "down-again", -33)
		told("no threshold", 3)
		price := stock.Put{SkuID: "mug", Title: "mug", PriceFen: 200}
		if sku, _, err := f.Admin.Put(t.Context(), price); err != nil || sku.LowAt != 0 {
			t.Error(sku, err)
		}
		price.LowAt = new(int64)
		*price.LowAt = 1
		if sku, _, err := f.Admin.Put(t.Context(), price); err != nil || sku.LowAt != 1 {
			t.Error(sku, err)
		}
		told("with its price", 4)
		for _, wrong := range []int64{-1, 1_000_000_001} {
			if _, err := f.Admin.SetLow(t.Context(), "mug", wrong); !errors.As(err, new(*stock.InvalidError)) {
				t.Errorf("%d: %v", wrong, err)
			}
		}
		if _, err := f.Admin.SetLow(t.Context(), "none", 1); !errors.Is(err, stock.ErrSKUNotFound) {
			t.Error(err)
		}
	})
}

// Beside one another each of many sees more than the threshold before it: one of them tells, in whichever process.
func TestLowStockBesideOneAnother(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1000)
		setLow(t, f, "mug", 900)
		services := []*ordertest.Fixture{f, f.Restarted(t, func(*order.Config) {})}
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				for n := range 5 {
					p := one(fmt.Sprint("c", i), fmt.Sprint(n), "mug")
					if _, err := services[i%2].Place(t.Context(), p); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if got, left := toldLow(t, db, "mug"), f.Available(t, "mug"); got != 1 || left != 840 {
			t.Errorf("told %d times, %d left", got, left)
		}
	})
}

// A flash sale that hands its units into buckets would tell of a full shelf that it is empty, or never of one that is
// sold from buckets alone: what is in buckets is left too, and who sells it looks.
func TestLowStockInAFlashSale(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const processes, callers, stocked, low = 4, 8, 2000, 100
		ps := gatetest.Pods(t, db, processes, nil)
		ps[0].SKU(t, "hot", stocked)
		setLow(t, ps[0].Fixture, "hot", low)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		sell := func(each int) {
			var all sync.WaitGroup
			for i := range processes * callers {
				all.Go(func() {
					for n := range each {
						p := one(fmt.Sprint("c", i), fmt.Sprint(each, "-", n), "hot")
						_, err := ps[i%processes].Place(t.Context(), p)
						if err != nil && !errors.As(err, new(*order.InsufficientError)) &&
							!errors.Is(err, sqldb.ErrUnavailable) {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
		}
		sell(50) // 1600: 400 are left, some of them in buckets
		buckets := gatetest.Count(t, db, "SELECT COUNT(*) FROM stock_flows WHERE bucket_id <> 0")
		if got := toldLow(t, db, "hot"); got != 0 || buckets == 0 {
			t.Errorf("told %d times, %d units from buckets", got, buckets)
		}
		sell(60)
		if got := toldLow(t, db, "hot"); got != 1 {
			t.Errorf("told %d times of what is sold out", got)
		}
	})
}

// The feed names the SKU, and nothing of an order.
func TestLowStockInTheFeed(t *testing.T) {
	db := sqldbtest.SQLite(t)
	f := ordertest.New(t, db)
	f.SKU(t, "mug", 2)
	setLow(t, f, "mug", 1)
	f.PlaceOne(t, "r", "mug", 1)
	if told := feedOf(t, db); !slices.Contains(told, "stock.low  0  mug") {
		t.Errorf("%q", told)
	}
}

// While a sale goes on units that come back are moved on into buckets, so that the pool is never above the threshold:
// when the buckets come home the shelf is full, and its next falling was told to nobody.
func TestLowStockIsToldAgainAfterASale(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ps := gatetest.Pods(t, db, 1, nil)
		ps[0].SKU(t, "hot", 200)
		setLow(t, ps[0].Fixture, "hot", 150)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		gatetest.Eventually(t, "units are in a bucket", func() bool {
			ps[0].Asks("hot")
			return ps[0].Available(t, "hot") <= 190
		})
		if _, err := db.Pool().ExecContext(t.Context(), "UPDATE skus SET low_told = 1"); err != nil { // of before
			t.Fatal(err)
		}
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateOff})
		gatetest.Eventually(t, "the units are home", func() bool { return ps[0].Available(t, "hot") == 200 })
		ps[0].PlaceOne(t, "r", "hot", 60)
		if got := toldLow(t, db, "hot"); got != 1 {
			t.Errorf("told %d times", got)
		}
	})
}
