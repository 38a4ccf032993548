package order_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// Why the shelf holds what it holds was only to be had by SQL. Page by page the list must be the whole of it: a flow
// left out at the end of a page is a unit that nobody can explain.
func TestFlowsOfASKU(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		begin := f.Clock.Now()
		f.SKU(t, "mug", 10)
		f.SKU(t, "cup", 10)
		first := f.PlaceOne(t, "first", "mug", 2) // in the same millisecond as the first stock
		f.PlaceOne(t, "cup", "cup", 1)
		f.Clock.Advance(time.Minute)
		for i := range 3 { // in one millisecond too
			if _, err := f.Admin.Replenish(t.Context(), stock.Change{SkuID: "mug", Delta: int64(i) + 1,
				Key: fmt.Sprint("k", i), Actor: "li", Reason: "truck"}); err != nil {
				t.Fatal(err)
			}
		}
		second := f.PlaceOne(t, "second", "mug", 1)
		f.Clock.Advance(time.Minute)
		if _, err := f.Cancel(t.Context(), cancel(first.OrderNo)); err != nil {
			t.Fatal(err)
		}
		// Behind each flow what was left after it: the last column begins at what is left now and ends at nothing.
		const want = "deduct -1 second 15, replenish 3 k2 16, replenish 2 k1 13, replenish 1 k0 11, " +
			"return 2 first 10, deduct -2 first 8, initial 10  10"
		for _, limit := range []int{1, 2, 3, 7, 200} {
			var got []string
			for cursor, pages := "", 0; cursor != "" || pages == 0; pages++ {
				page, next, err := f.Flows(t.Context(), order.FlowFilter{SkuID: "mug", From: begin, Limit: limit,
					Cursor: cursor})
				if err != nil || len(page) == 0 || len(page) > limit {
					t.Fatal(len(page), err)
				}
				for _, m := range page {
					of := strings.NewReplacer(first.OrderNo, "first", second.OrderNo, "second").Replace(m.OrderNo)
					if of == "" {
						of = m.Ref
					}
					if m.Left == nil {
						t.Fatalf("nothing is said of what is left after %+v", m)
					}
					got = append(got, fmt.Sprintf("%s %d %s %d", m.Kind, m.Delta, of, *m.Left))
				}
				cursor = next
			}
			if g := strings.Join(got, ", "); g != want {
				t.Errorf("by %d: %s\nwant %s", limit, g, want)
			}
		}
		later, _, err := f.Flows(t.Context(), order.FlowFilter{SkuID: "mug", From: begin.Add(time.Millisecond),
			To: begin.Add(time.Hour)})
		if err != nil || len(later) != 4 {
			t.Errorf("%d flows of orders that were placed later, %v", len(later), err)
		}
		if later[0].Left != nil {
			t.Error("a list that does not begin now says what was left")
		}
		for _, cursor := range []string{"x", "1.2.3", "1..deduct.r.x", "1..deduct.r.s.t",
			"x..deduct.", "1..steal.k", "1.a b.deduct.",
			"1...🎁"} {
			if _, _, err := f.Flows(t.Context(), order.FlowFilter{SkuID: "mug", Cursor: cursor}); !errors.Is(err,
				bounds.ErrCursor) {
				t.Errorf("%q: %v", cursor, err)
			}
		}
		if _, _, err := f.Flows(t.Context(), order.FlowFilter{SkuID: "mug", From: begin.AddDate(0, 0, -32),
			To: begin}); !errors.As(err, new(*order.ValidationError)) {
			t.Error(err)
		}
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, order.OrderFlowsQuery, "0", "1", "1", "", "", "", "mug", 51)
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", true, order.OperatorFlowsQuery, "mug", 0, 1, 1, "", "", "", 51)
	})
}

// An order's page says what it took and gave back; another order's units beside them would be looked for in vain.
func TestFlowsOfAnOrder(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		f.PlaceOne(t, "other", "mug", 3)
		o := f.PlaceOne(t, "mine", "mug", 2)
		f.Clock.Advance(time.Second)
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: o.OrderNo, CustomerID: o.CustomerID,
			Cause: order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: o.CustomerID}}}); err != nil {
			t.Fatal(err)
		}
		flows, err := f.OrderFlows(t.Context(), o.OrderNo)
		if err != nil || len(flows) != 2 || flows[0].SkuID != "mug" || flows[0].Kind != stock.KindDeduct ||
			flows[0].Delta != -2 || flows[1].Kind != stock.KindReturn || flows[1].Delta != 2 ||
			!flows[0].At.Before(flows[1].At) {
			t.Errorf("%+v, %v", flows, err)
		}
		if flows, err := f.OrderFlows(t.Context(), "none"); err != nil || len(flows) != 0 {
			t.Errorf("%+v, %v", flows, err)
		}
	})
}

// The money of a day is what WeChat Pay took on it: to the millisecond, and no other day's.
func TestMoneyOfADay(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		o, err := f.Find(t.Context(), f.PaidOne(t, "r", "mug", 2).OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		paid := o.Payment.SuccessTime
		for _, r := range []struct {
			from, to time.Time
			want     order.DayMoney
		}{
			{paid, paid.Add(time.Millisecond), order.DayMoney{Paid: 1, Amount: o.Total}},
			{paid.Add(-time.Hour), paid, order.DayMoney{}},
			{paid.Add(time.Millisecond), paid.Add(time.Hour), order.DayMoney{}},
		} {
			if got, err := f.MoneyOf(t.Context(), r.from, r.to); err != nil || got != r.want {
				t.Errorf("%v to %v: %+v, %v", r.from, r.to, got, err)
			}
		}
	})
}
