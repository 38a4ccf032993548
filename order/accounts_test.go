package order_test

import (
	"fmt"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// A list of stock whose figures are not those of each SKU's own page sends somebody to count shelves.
func TestAccountsAreThoseOfEachSKU(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		ids := []string{"mug", "cup", "none"}
		for _, id := range ids[:2] {
			f.SKU(t, id, 100)
		}
		for i := range 30 {
			f.SKU(t, fmt.Sprint("other", i), 1)
			f.PlaceOne(t, fmt.Sprint("o", i), fmt.Sprint("other", i), 1)
		}
		f.PaidOne(t, "paid", "mug", 3)
		f.PlaceOne(t, "open", "mug", 2)
		f.PlaceOne(t, "open2", "cup", 1)
		all, err := f.StockAccounts(t.Context(), ids)
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, id := range ids[:2] {
			if one, err := f.StockAccount(t.Context(), id); err != nil || all[id] != one {
				t.Errorf("%s: %+v in the list, %+v alone (%v)", id, all[id], one, err)
			}
		}
		if a := all["mug"]; a.CameIn != 100 || a.Available != 95 || a.Reserved != 2 || a.Sold != 3 {
			t.Errorf("%+v", a)
		}
		if none, err := f.StockAccounts(t.Context(), nil); err != nil || len(none) != 0 {
			t.Error(none, err)
		}
		args := sqldb.Args(ids)
		var four []any
		for range 4 {
			four = append(four, args...)
		}
		sqldbtest.ReadsByIndex(t, db, order.AccountsQuery(len(ids)), four...)
	})
}
