package stock_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

// dtm's bug (peers 26) at the operators' counter: a double click on a change that uses up what it expected must not
// be told that the shelf has changed.
func TestConcurrentRepeatsOfAnAdjustAreAllAnsweredDone(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "exp", 5)
		put(t, db, "all", 5)
		five := int64(5)
		for name, c := range map[string]stock.Change{
			"expected": {SkuID: "exp", Delta: -3, ExpectedAvailable: &five, Key: "k1", Actor: "op", Reason: "count"},
			"to zero":  {SkuID: "all", Delta: -5, Key: "k1", Actor: "op", Reason: "count"},
		} {
			var first atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					done, err := admin(db).Adjust(t.Context(), c)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					if !done.Replayed {
						first.Add(1)
					}
				})
			}
			wg.Wait()
			if first.Load() != 1 {
				t.Errorf("%s: %d calls say that they made the change", name, first.Load())
			}
		}
		if left(t, db, "exp") != 2 || left(t, db, "all") != 0 {
			t.Fatal(left(t, db, "exp"), left(t, db, "all"))
		}
		conserved(t, db)
	})
}

// A replay that is told to the operator as a new change, or a key that is shared between SKUs and kinds, would make
// counts wrong.
func TestKeysBelongToOneKindAndSKU(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 1)
		put(t, db, "b", 1)
		a := admin(db)
		c := stock.Change{SkuID: "a", Delta: 4, Key: "k", Actor: "op", Reason: "PO-7"}
		done, err := a.Replenish(t.Context(), c)
		if err != nil || done.Replayed || done.Before == nil || *done.Before != 1 || done.After == nil ||
			*done.After != 5 || done.SKU.Available != 5 {
			t.Fatalf("%+v %v", done, err)
		}
		if done, err = a.Replenish(t.Context(), c); err != nil || !done.Replayed || done.Delta != 4 ||
			done.SKU.Available != 5 {
			t.Fatalf("replay: %+v %v", done, err)
		}
		if done, err = a.Adjust(t.Context(), c); err != nil || done.Replayed || done.SKU.Available != 9 {
			t.Fatalf("the same key of another kind: %+v %v", done, err)
		}
		c.SkuID = "b"
		if done, err = a.Replenish(t.Context(), c); err != nil || done.Replayed || done.SKU.Available != 5 {
			t.Fatalf("the same key of another SKU: %+v %v", done, err)
		}
		conserved(t, db)
	})
}

// A correction while the shop is selling must neither be lost nor take a shelf below zero, whoever wins.
func TestAdjustWhileSelling(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 20)
		var out atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				if short, err := deduct(db, fmt.Sprint("o", i), line("mug", 2)); err != nil {
					t.Error(err)
				} else if short == nil {
					out.Add(2)
				}
			})
			wg.Go(func() {
				_, err := admin(db).Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: -1, Key: fmt.Sprint("k", i),
					Reason: "broken"})
				if err == nil {
					out.Add(1)
				} else if !errors.As(err, new(*stock.BelowZeroError)) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if out.Load()+left(t, db, "mug") != 20 {
			t.Fatalf("%d out and %d left of 20", out.Load(), left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// Two operators who name the same new SKU must not both put their stock on the shelf, nor see a database error.
func TestConcurrentPutsCreateOnce(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		five := int64(5)
		var created atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, fresh, err := admin(db).Put(t.Context(),
					stock.Put{SkuID: "mug", Title: "Mug", PriceFen: 100, Quantity: &five, Actor: "op"})
				if err != nil {
					t.Error(err)
				}
				if fresh {
					created.Add(1)
				}
			})
		}
		wg.Wait()
		if created.Load() != 1 || left(t, db, "mug") != 5 {
			t.Fatal(created.Load(), left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// What the columns cannot hold must be refused with all reasons at once, alike on both engines, and change nothing.
func TestBadInputIsRefusedWithEveryReason(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		a := admin(db)
		below, above := int64(-2), bounds.Stock.Most+1
		wantProblems := func(name string, want int, err error) {
			t.Helper()
			var invalid *stock.InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) != want {
				t.Errorf("%s: %v, want %d problems", name, err, want)
			}
		}
		for name, c := range map[string]struct {
			put  stock.Put
			want int
		}{
			"everything": {stock.Put{SkuID: "a b", Quantity: &below}, 4},
			"long": {stock.Put{SkuID: strings.Repeat("x", 65), Title: strings.Repeat("杯", 128),
				PriceFen: 1 << 40, Quantity: &above, Actor: strings.Repeat("a", 65)}, 5},
			"bad bytes": {stock.Put{SkuID: "mug\xff", Title: "\xb1\xad", PriceFen: 1}, 2},
			"newline":   {stock.Put{SkuID: "mug\n", Title: "x", PriceFen: 1}, 1},
			"no id":     {stock.Put{Title: "x", PriceFen: 1}, 1},
		} {
			_, _, err := a.Put(t.Context(), c.put)
			wantProblems("put, "+name, c.want, err)
		}
		_, err := a.Replenish(t.Context(), stock.Change{SkuID: "mug", Delta: 0, Key: "k", Reason: "x"})
		wantProblems("replenish nothing", 1, err)
		_, err = a.Replenish(t.Context(), stock.Change{SkuID: "mug", Delta: -1, Key: "k", Reason: "x"})
		wantProblems("replenish less", 1, err)
		_, err = a.Adjust(t.Context(), stock.Change{SkuID: "a b", Delta: bounds.Stock.Most + 1,
			Key: strings.Repeat("k", 65), Actor: strings.Repeat("a", 65), Reason: strings.Repeat("因", 201)})
		wantProblems("adjust, everything", 5, err)

		full := stock.Put{SkuID: strings.Repeat("x", 64), Title: strings.Repeat("🍵", 127), PriceFen: 100,
			Actor: strings.Repeat("a", 64)}
		if s, created, err := a.Put(t.Context(), full); err != nil || !created || s.Title != full.Title ||
			s.Available != 0 {
			t.Errorf("the longest that is allowed: %+v %v", s, err)
		}
		c := stock.Change{SkuID: full.SkuID, Delta: bounds.Stock.Most, Key: strings.Repeat("k", 64), Actor: full.Actor,
			Reason: strings.Repeat("因", 200)}
		if _, err := a.Replenish(t.Context(), c); err != nil {
			t.Error("the longest that is allowed:", err)
		}
		if left(t, db, "mug") != 5 {
			t.Error(left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// A page that skips or repeats a SKU would make an export lie.
func TestListPagesByKey(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 7 {
			put(t, db, fmt.Sprint("s", i), int64(i))
		}
		var seen []string
		for cursor := ""; ; {
			page, err := admin(db).List(t.Context(), cursor, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, s := range page {
				seen = append(seen, s.SkuID)
			}
			cursor = page[len(page)-1].SkuID
		}
		if got := strings.Join(seen, " "); got != "s0 s1 s2 s3 s4 s5 s6" {
			t.Fatal(got)
		}
		some, err := admin(db).FindMany(t.Context(), []string{"s5", "ghost", "s1"})
		if err != nil || len(some) != 2 || some[0].SkuID != "s1" || some[1].Available != 5 {
			t.Fatal(some, err)
		}
		if _, err := admin(db).Find(t.Context(), "ghost"); !errors.Is(err, stock.ErrSKUNotFound) {
			t.Fatal(err)
		}
	})
}

// A shop with a hundred thousand SKUs is looked at by the page.
func TestSKUsAreReadByThePage(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 60 {
			put(t, db, fmt.Sprint("sku", i), 10)
		}
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, stock.ListQuery, "sku1", 51)
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, stock.ListFromQuery, "sku1", 51)
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, stock.ListQuery, "", 51)
	})
}
