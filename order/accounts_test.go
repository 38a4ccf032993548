package order_test

import (
	"errors"
	"fmt"
	"strings"
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

// A total that is not that of its list, or that reads every order there ever was, is worse than none.
func TestTotalIsThatOfItsList(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		f.SKU(t, "cup", 100)
		begin := f.Clock.Now()
		for i := range 7 {
			f.PlaceOne(t, fmt.Sprint("o", i), "mug", 1)
		}
		paid := f.PaidOne(t, "paid", "cup", 3)
		within := order.Filter{CreatedFrom: begin.Add(-time.Hour), CreatedTo: begin.Add(time.Hour)}
		of := func(change func(*order.Filter)) order.Filter {
			all := within
			change(&all)
			return all
		}
		for name, filter := range map[string]order.Filter{"all": {}, "time": within,
			"state": {State: order.StatePaid}, "open": {State: order.StatePending},
			"customer": {CustomerID: paid.CustomerID}, "number": {OrderNo: paid.OrderNo}, "stuck": {Stuck: true},
			"page":   of(func(f *order.Filter) { f.Cursor, f.Limit = paid.OrderNo, 1 }),
			"sku":    of(func(f *order.Filter) { f.SkuID = "cup" }),
			"amount": of(func(f *order.Filter) { f.AmountMin = paid.Total }),
			"paid":   of(func(f *order.Filter) { f.PaidFrom, f.SkuID = begin.Add(-time.Hour), "cup" }),
			"trade":  of(func(f *order.Filter) { f.TradeType, f.State = "NATIVE", order.StatePaid })} {
			list := filter
			list.Cursor, list.Limit = "", 200
			all, _, err := f.List(t.Context(), list)
			want := order.Total{Whole: true}
			for i := range all {
				want.Count++
				want.Amount += all[i].Total
			}
			got, totalErr := f.Total(t.Context(), filter)
			if err != nil || totalErr != nil || got != want {
				t.Errorf("%s: %+v, the list has %+v (%v, %v)", name, got, want, err, totalErr)
			}
			if db.TiDB() { // its plans are written otherwise
				continue
			}
			query, args := order.TotalStatement(filter, f.Clock.Now())
			steps, err := db.Explain(t.Context(), query, args...)
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(steps, "\n")
			for _, step := range steps { // how the rest of a filter is looked at, the test of List says
				if w := strings.Fields(step); w[0] == "orders" && (w[1] == "ALL" || w[1] == "index") ||
					strings.HasPrefix(step, "SCAN orders USING") {
					t.Errorf("%s reads all of a table:\n%s", name, plan)
				}
			}
			if db.Engine() == sqldb.SQLite && !strings.Contains(plan, "SEARCH orders USING") {
				t.Errorf("%s: %s", name, plan)
			}
		}
		if _, err := f.Total(t.Context(), order.Filter{SkuID: "cup"}); !errors.As(err, new(*order.ValidationError)) {
			t.Errorf("without dates: %v", err)
		}
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
