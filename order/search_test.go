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
		for _, text := range []string{"", "  ", "a b", "🎁", strings.Repeat("a", 65), "a\x00"} {
			if _, err := f.Search(t.Context(), text); !errors.As(err, new(*order.ValidationError)) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
