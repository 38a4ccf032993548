package order_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/alisql"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// Hints on an UPDATE that is not the last statement commit half a batch. And who queues in the server with a row that
// the others want waits for them, and they for him.
func TestPlacingCommitsByItsDecrement(t *testing.T) {
	const ends = "ROLLBACK_ON_FAIL COMMIT_ON_SUCCESS */ skus\n"
	for _, c := range []struct {
		name     string
		skus     []string
		quantity int64  // of the 100 of each
		want     string // the beginning of the last UPDATE
		where    string // in it
	}{
		{"one SKU", []string{"mug"}, 1, "UPDATE /*+ ccl_queue_field(sku_id) TARGET_AFFECT_ROW(1) " + ends,
			"\nWHERE sku_id = 'mug'\n"},
		{"a SKU that is nearly out, under its lock", []string{"mug"}, 40, "UPDATE /*+ TARGET_AFFECT_ROW(1) " + ends,
			"\nWHERE sku_id IN ('mug')\n"},
		{"two SKUs", []string{"cup", "mug"}, 1, "UPDATE /*+ TARGET_AFFECT_ROW(2) " + ends,
			"\nWHERE sku_id IN ('cup','mug')\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []alisql.Mode{alisql.Obey, alisql.Plain} {
				db, server := sqldbtest.AliSQL(t, mode)
				f := ordertest.New(t, db)
				var lines []stock.Line
				for _, sku := range c.skus {
					f.SKU(t, sku, 100)
					lines = append(lines, stock.Line{SkuID: sku, Quantity: c.quantity})
				}
				server.Heard()
				_, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "r", Lines: lines})
				if err != nil {
					t.Fatal(err)
				}
				said := transaction(server.Heard())
				want, where := c.want, c.where
				if mode == alisql.Plain {
					want, where = "UPDATE skus\n", strings.Replace(where, "= 'mug'", "IN ('mug')", 1)
				}
				n := len(said)
				if n < 2 || said[n-1] != "COMMIT" || !strings.HasPrefix(said[n-2], want) ||
					!strings.Contains(said[n-2], where) {
					t.Errorf("%s: said %q, want %q … %q and COMMIT at the end", mode, said, want, where)
				}
				for _, s := range said[:max(n-2, 0)] {
					if strings.Contains(s, "COMMIT_ON_SUCCESS") {
						t.Errorf("%s: %q is not the last", mode, s)
					}
				}
				if left := f.Available(t, c.skus[0]); left != 100-c.quantity {
					t.Errorf("%s: %d left", mode, left)
				}
			}
		})
	}
}

// transaction gives what the connection that placed has said, up to its COMMIT.
func transaction(heard []alisql.Statement) (texts []string) {
	inserts := func(s alisql.Statement) bool { return strings.HasPrefix(s.Text, "INSERT INTO orders") }
	at := slices.IndexFunc(heard, inserts)
	if at < 0 {
		return nil
	}
	for _, s := range heard {
		if s.Conn == heard[at].Conn {
			texts = append(texts, s.Text)
		}
	}
	return texts
}

// The last units are wanted by many, the decrement is the COMMIT, and every third answer to it, or every third
// statement itself, is lost: each buyer must find one order or none, and the shelf exactly as many units less.
func TestLastUnitsAreSoldOnceByDecrementsThatCommit(t *testing.T) {
	for _, cut := range []alisql.Cut{alisql.CutBefore, alisql.CutAfter} {
		t.Run(string(cut), func(t *testing.T) {
			db, server := sqldbtest.AliSQL(t, alisql.Obey)
			f := ordertest.New(t, db)
			const units, buyers = 60, 8
			f.SKU(t, "mug", units)
			server.Every(3, cut)
			var sold atomic.Int64
			var wg sync.WaitGroup
			for b := range buyers {
				wg.Go(func() {
					for n := 0; placeUntilAnswered(t, f, fmt.Sprint(b, "-", n)); n++ {
						sold.Add(1)
					}
				})
			}
			wg.Wait()
			if n := sold.Load(); n != units || f.Available(t, "mug") != 0 {
				t.Errorf("%d of %d units sold, %d left", n, units, f.Available(t, "mug"))
			}
			if server.Cuts() == 0 {
				t.Error("nothing was cut")
			}
		})
	}
}

// placeUntilAnswered asks for a mug with the same key until there is an answer, and reports that it was sold.
func placeUntilAnswered(t *testing.T, f *ordertest.Fixture, key string) bool {
	for {
		_, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: key,
			Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
		switch {
		case err == nil:
			return true
		case errors.Is(err, sqldb.ErrUnavailable) && t.Context().Err() == nil:
			continue
		case !errors.As(err, new(*order.InsufficientError)):
			t.Error(err)
		}
		return false
	}
}
