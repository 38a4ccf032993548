package order_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// Buyers saw "Order 01M8…" in their bills: WeChat Pay wants a true description of the goods, and its risk control
// stops the payments of merchants who send another.
func TestBuyerSeesTheGoods(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewWith(t, db, func(c *order.Config) { c.PayDescription = "果园-{goods}" })
		f.SKU(t, "apple", 10)
		f.SKU(t, "pear", 10)
		for id, title := range map[string]string{"apple": "红富士 苹果🍎", "pear": "梨"} {
			if _, _, err := stock.NewAdmin(db, f.Clock.Now).Put(t.Context(),
				stock.Put{SkuID: id, Title: title, PriceFen: 100, Actor: "op"}); err != nil {
				t.Fatal(err)
			}
		}
		for i, test := range []struct {
			lines []stock.Line
			want  string
		}{
			{[]stock.Line{{SkuID: "apple", Quantity: 1}}, "果园-红富士 苹果□"},
			{[]stock.Line{{SkuID: "apple", Quantity: 2}, {SkuID: "pear", Quantity: 1}}, "果园-红富士 苹果□ 等 3 件"},
		} {
			placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: strconv.Itoa(i),
				Lines: test.lines})
			if err != nil {
				t.Fatal(err)
			}
			f.Prepaid(t, placed.Order.OrderNo)
			if got := attemptOf(t, f, placed.Order.OrderNo, 1).Description; got != test.want {
				t.Errorf("the buyer reads %q, want %q", got, test.want)
			}
		}
	})
}

// WeChat Pay counts 127 bytes, and refuses a description that was cut inside a character: an order of goods with a
// long title could never be paid.
func TestDescriptionIsCutAtACharacter(t *testing.T) {
	for _, r := range []string{"a", "é", "苹", "🍎"} {
		for n := 120; n <= 140; n++ {
			for _, units := range []int64{1, 2, 10_000} {
				got := order.Describe("店-{goods}", strings.Repeat(r, n), "sku", units)
				if len(got) > 127 || !utf8.ValidString(got) || !strings.HasPrefix(got, "店-") {
					t.Fatalf("%d × %q: %d bytes: %q", n, r, len(got), got)
				}
				if units > 1 && !strings.HasSuffix(got, " 件") {
					t.Fatalf("the number of pieces was cut off: %q", got)
				}
				if len(got) < 127-3 { // the widest that is sent
					t.Fatalf("%d × %q: only %d bytes of 127 are used: %q", n, r, len(got), got)
				}
			}
		}
	}
	for title, want := range map[string]string{
		"": "sku", "\u200b\u202e": "sku", "  a \t\n b  ": "a b", "\xff苹": "□苹", "a\u2028b": "a b",
	} {
		if got := order.Describe("{goods}", title, "sku", 1); got != want {
			t.Errorf("%q: %q, want %q", title, got, want)
		}
	}
}

// A template without the goods sends every buyer the same words; one that fills the description leaves no room for
// them.
func TestPayDescriptionNeedsTheGoods(t *testing.T) {
	for template, ok := range map[string]bool{
		"": true, "{goods}": true, "店-{goods}": true, "shop": false, "{goods}{goods}": false,
		strings.Repeat("店", 20) + "{goods}": true, strings.Repeat("店", 21) + "{goods}": false,
		"a\n{goods}": false, "🍎{goods}": false, "{title} {goods}": false,
	} {
		if err := order.CheckPayDescription(template); (err == nil) != ok {
			t.Errorf("%q: %v", template, err)
		}
	}
}
