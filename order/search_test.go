package order_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// Whoever has a number from a message does not know what kind of number it is; what was not found by it was looked for
// by SQL.
func TestSearchFindsByAnyNumber(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		o := whole(t, f, f.PaidOne(t, "first", "mug", 1))
		asked, err := f.AskRefund(t.Context(), order.AskRefund{OrderNo: o.OrderNo, RequestID: "r", Reason: "r",
			Cause: ordertest.Customer})
		if err != nil {
			t.Fatal(err)
		}
		refund := asked.Refund.OutRefundNo
		if _, err := db.Pool().ExecContext(t.Context(), "UPDATE refunds SET refund_id = 'W1' WHERE out_refund_no = '"+
			refund+"'"); err != nil {
			t.Fatal(err)
		}
		newest := f.PlaceOne(t, "second", "mug", 1)
		no := o.OrderNo
		for text, want := range map[string]string{
			no:                           "order " + no + " " + no,
			" " + strings.ToLower(no):    "order " + no + " " + no,
			o.Payment.OutTradeNo:         "attempt " + o.Payment.OutTradeNo + " " + no,
			o.Payment.TransactionID:      "payment " + o.Payment.TransactionID + " " + no,
			refund:                       "refund " + refund + " " + no,
			strings.ToLower(refund):      "refund " + refund + " " + no,
			"W1":                         "refund " + refund + " " + no,
			o.CustomerID:                 "customer " + o.CustomerID + " " + newest.OrderNo,
			"mug":                        "sku mug ",
			"nothing":                    "",
			"01J00000000000000000000000": "",
		} {
			hits, err := f.Search(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range hits {
				got = append(got, fmt.Sprintf("%s %s %s", h.Kind, h.ID, h.OrderNo))
			}
			if g := strings.Join(got, ", "); g != want {
				t.Errorf("%q: %q, want %q", text, g, want)
			}
		}
		held(t, f, "4290", 100, "nobodys-01")
		if hits, err := f.Search(t.Context(), "4290"); err != nil || len(hits) != 1 ||
			hits[0] != (order.Hit{Kind: order.HitPayment, ID: "4290", Outcome: order.SettledHeld}) {
			t.Errorf("held money of no order: %v, %v", hits, err)
		}
		f.SKU(t, o.CustomerID, 1)
		if hits, err := f.Search(t.Context(), o.CustomerID); err != nil || len(hits) != 2 ||
			hits[0].Kind != order.HitCustomer || hits[1].Kind != order.HitSKU {
			t.Errorf("a SKU of a customer's name: %v, %v", hits, err)
		}
		sqldbtest.ReadsByIndex(t, db, order.SearchQuery, order.SearchArgs("mug")...)
		for _, text := range []string{"", "  ", "a\nb", strings.Repeat("a", 129), "a\x00"} {
			if _, err := f.Search(t.Context(), text); !errors.As(err, new(*order.ValidationError)) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

// Who answers the telephone has the name of the goods, or what the shop wrote beside the order, and no number: both
// are found by an index, and no more than a page of them.
func TestSearchFindsByTitleAndAttach(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		put := func(id, title string) {
			t.Helper()
			units := int64(9)
			if _, _, err := f.Admin.Put(t.Context(), stock.Put{SkuID: id, Title: title, PriceFen: 1,
				Quantity: &units}); err != nil {
				t.Fatal(err)
			}
		}
		put("m1", "马克杯 大")
		put("m2", "马克杯 小")
		put("m3", "大马克杯")
		put("m4", "Mug with lid")
		put("m5", "马克%杯")
		o := f.PlaceOne(t, "r", "m1", 1)
		if _, err := db.Pool().ExecContext(t.Context(), "UPDATE orders SET attach = '直播 7' WHERE order_no = '"+
			o.OrderNo+"'"); err != nil {
			t.Fatal(err)
		}
		found := func(text string) string {
			t.Helper()
			hits, err := f.Search(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range hits {
				got = append(got, string(h.Kind)+" "+strings.ReplaceAll(h.ID, o.OrderNo, "no"))
			}
			return strings.Join(got, ", ")
		}
		for text, want := range map[string]string{"马克杯": "sku m1, sku m2", "马克杯 小": "sku m2", "mug": "sku m4",
			"MUG W": "sku m4", "mug with": "sku m4", "克杯": "", "马克%": "sku m5", "m1": "sku m1", "直播 7": "attach 直播 7",
			"直播": "", "马克_": ""} {
			if got := found(text); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
		}
		for i := range order.SearchMost + 3 {
			put(fmt.Sprint("t", i), fmt.Sprint("Tea ", i))
		}
		if got := strings.Count(found("tea"), "sku"); got != order.SearchMost+1 {
			t.Errorf("%d of many", got)
		}
		sqldbtest.ReadsPageBy(t, db, "ix_skus_title", false, order.TitleQuery, "Tea", "Teb", 11)
		sqldbtest.ReadsPageBy(t, db, "ix_orders_attach", false, order.AttachQuery, "直播 7", 11)
	})
}
