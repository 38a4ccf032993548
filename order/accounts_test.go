package order_test

import (
	"fmt"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// What the first page says of today's orders is what became of them, read by their numbers; and who told of a payment
// is the one who did.
func TestWhatTheFirstPageCounts(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		f.PlaceOne(t, "before", "mug", 1)
		f.Clock.Advance(2 * time.Minute)
		begin := f.Clock.Now()
		paid, err := f.Find(t.Context(), f.PaidOne(t, "paid", "mug", 3).OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		gone := f.PlaceOne(t, "open", "mug", 2)
		if _, err := f.Cancel(t.Context(), cancel(gone.OrderNo)); err != nil {
			t.Fatal(err)
		}
		f.Clock.Advance(time.Minute)
		f.PlaceOne(t, "later", "mug", 1)
		all, whole, err := f.PlacedByMinute(t.Context(), begin)
		if err != nil || !whole || len(all) != 2 || all[0].States[order.StatePending] != 1 ||
			all[1].States[order.StatePaid] != 1 || all[1].States[order.StateClosed] != 1 ||
			all[1].Closed[order.CloseReasonCancel] != 1 || !all[1].From.Equal(begin.Truncate(time.Minute)) {
			t.Errorf("%+v %v %v", all, whole, err)
		}
		received, err := f.LastReceived(t.Context(), 5)
		if err != nil || len(received) != 1 || received[0].OrderNo != paid.OrderNo ||
			received[0].Amount != paid.Total || received[0].Source != "notification" ||
			!received[0].PaidAt.Equal(paid.Payment.SuccessTime) {
			t.Errorf("%+v %v", received, err)
		}
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, order.PlacedQuery, "0", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 51)
		sqldbtest.ReadsPageBy(t, db, "ix_payments_outcome", false, order.ReceivedQuery, "applied", 51)
	})
}

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
