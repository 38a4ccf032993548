package stock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

const header = "sku_id,title,price_fen,quantity\n"

func importText(ctx context.Context, db *sqldb.DB, text string, o stock.ImportOptions) (stock.ImportReport, error) {
	if o.Mode == "" {
		o.Mode = stock.ModeSet
	}
	return admin(db).Import(ctx, strings.NewReader(text), o)
}

func stockedFile(n int, quantity int64) string {
	var b strings.Builder
	b.WriteString(header)
	for i := range n {
		fmt.Fprintf(&b, "s%04d,Mug %d,100,%d\n", i, i, quantity)
	}
	return b.String()
}

// A stray quote must be named with its line like any other mistake, and the lines after it still be looked at.
func TestImportNamesEveryBadLine(t *testing.T) {
	db := sqldbtest.SQLite(t)
	for name, c := range map[string]struct {
		text string
		want []string // how the problems begin
	}{
		"quote in the first field": {header + "a\"b,Title,1,1\nb d,Title,1,1\n", []string{"line 2: ", "line 3: "}},
		"quote in a later field":   {header + "ok,Ti\"tle,1,1\nok2,Title,0,1\n", []string{"line 2: ", "line 3: "}},
		"text after a quote":       {header + "\"ok\"x,Title,1,1\nok2,Title,1,-2\n", []string{"line 2: ", "line 3: "}},
		"quote that never ends":    {header + "ok,\"Title,1,1\nok2,Title,1,1\n", []string{"line 2: "}},
		"two short lines":          {header + "a\nb\n", []string{"line 2: ", "line 3: "}},
		"a line too wide":          {header + "a,Title,1,1,1\n", []string{"line 2: "}},
		"numbers": {header + "a,A,1e2,1\nb,B,1.5,1\nc,C,\"1,000\",1\nd,D,,1\ne,E,1,99999999999999999999\n",
			[]string{"line 2: ", "line 3: ", "line 4: ", "line 5: ", "line 6: "}},
		"both numbers": {header + "a,A,x,y\n", []string{"line 2: quantity", "line 2: price_fen"}},
		"bounds": {header + "a,A,0,1\nb,B,1,-2\nc,C,1,1000000001\nd,,1,1\n" + strings.Repeat("x", 65) + ",X,1,1\n",
			[]string{"line 2: ", "line 3: ", "line 4: ", "line 5: ", "line 6: "}},
		"GBK": {header + "a,\xb1\xad\xd7\xd3,1,1\nb,\xb1\xad,1,1\n",
			[]string{"line 2: the file is not in UTF-8, but in GBK"}},
		"UTF-16":               {"\xff\xfes\x00k\x00u\x00", []string{"the file is in UTF-16"}},
		"a workbook":           {"PK\x03\x04\x14", []string{"the file is an .xlsx workbook"}},
		"the same SKU":         {header + "a,A,1,1\nA,A,1,1\na,A,1,1\n", []string{"line 4: SKU a is on line 2"}},
		"a title on two lines": {header + "a,\"A\nA\",1,1\nb d,B,1,1\n", []string{"line 4: "}},
		"column twice":         {"sku_id,title,price_fen,quantity,title\na,A,1,1,A\n", []string{"line 1: "}},
		"column unknown":       {"sku_id,title,price_fen,menge\na,A,1,1\n", []string{"line 1: ", "line 1: "}},
		"bad header":           {"sku\"_id,title\n", []string{"line 1: "}},
	} {
		r, err := importText(t.Context(), db, c.text, stock.ImportOptions{})
		ok := errors.Is(err, stock.ErrImport) && len(r.Problems) == len(c.want)
		for i := range min(len(c.want), len(r.Problems)) {
			ok = ok && strings.HasPrefix(r.Problems[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s: %v %q", name, err, r.Problems)
		}
	}
	if skus, err := admin(db).List(t.Context(), "", 10); err != nil || len(skus) != 0 {
		t.Fatal("a bad file wrote something", skus, err)
	}
	_, err := importText(t.Context(), db, stockedFile(1, 1), stock.ImportOptions{Mode: "replace"})
	if !errors.As(err, new(*stock.InvalidError)) {
		t.Error("an unknown mode:", err)
	}
}

// A file that a crash cut short is imported again, and what was sold in between must not come back on the shelf.
func TestImportResumedAfterACrashMovesStockOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const lines = 1100 // three transactions
		for _, mode := range []stock.Mode{stock.ModeSet, stock.ModeAdd} {
			prefix := string(mode) + "-"
			file := strings.ReplaceAll(stockedFile(lines, 5), "\ns", "\n"+prefix)
			ctx, crash := context.WithCancel(t.Context())
			_, err := importText(ctx, db, file, stock.ImportOptions{Mode: mode, Progress: func(done, total int) {
				if done == 500 && total == lines {
					crash()
				}
			}})
			crash()
			if err == nil {
				t.Fatal(mode, "the import of this test did not crash")
			}
			if short, err := deduct(db, "order-"+prefix, line(prefix+"0000", 2)); short != nil || err != nil {
				t.Fatal(mode, short, err)
			}
			r, err := importText(t.Context(), db, file, stock.ImportOptions{Mode: mode})
			if err != nil || r.Created != lines-500 || r.Repeated != 500 {
				t.Fatalf("%s: %+v %v", mode, r, err)
			}
			if left(t, db, prefix+"0000") != 3 || left(t, db, prefix+"0001") != 5 || left(t, db, prefix+"1099") != 5 {
				t.Fatal(mode, left(t, db, prefix+"0000"), left(t, db, prefix+"0001"), left(t, db, prefix+"1099"))
			}
		}
		conserved(t, db)
	})
}

// Two operators who import the same file at the same time must move its stock once, and neither must see a database
// error.
func TestConcurrentImportsOfOneFile(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		together := func(file string, mode stock.Mode) {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if _, err := importText(t.Context(), db, file,
						stock.ImportOptions{Mode: mode, Actor: "op"}); err != nil {
						t.Error(mode, err)
					}
				})
			}
			wg.Wait()
		}
		// New SKUs only: no row is there to wait for, and the inserts collide.
		together(stockedFile(300, 5), stock.ModeSet)
		if left(t, db, "s0000") != 5 || left(t, db, "s0299") != 5 {
			t.Fatal(left(t, db, "s0000"), left(t, db, "s0299"))
		}
		// Old and new ones.
		together(stockedFile(310, 7), stock.ModeSet)
		if left(t, db, "s0000") != 7 || left(t, db, "s0309") != 7 {
			t.Fatal(left(t, db, "s0000"), left(t, db, "s0309"))
		}
		together(stockedFile(310, 7), stock.ModeAdd)
		if left(t, db, "s0000") != 14 || left(t, db, "s0309") != 14 {
			t.Fatal(left(t, db, "s0000"), left(t, db, "s0309"))
		}
		conserved(t, db)
	})
}

// A line that cannot be applied to the SKU that exists must stop the file before its first line is written, and a dry
// run must say so too.
func TestImportCannotChangeLimitedToUnlimited(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		put(t, db, "ebook", -1)
		file := stockedFile(600, 5) + "mug,Mug,100,-1\nebook,E-book,100,3\n"
		for _, dry := range []bool{true, false} {
			r, err := importText(t.Context(), db, file, stock.ImportOptions{DryRun: dry})
			if !errors.Is(err, stock.ErrImport) || len(r.Problems) != 2 ||
				!strings.HasPrefix(r.Problems[0], "line 602: ") || !strings.HasPrefix(r.Problems[1], "line 603: ") {
				t.Fatalf("dry %v: %v %q", dry, err, r.Problems)
			}
		}
		if skus, err := admin(db).List(t.Context(), "", 10); err != nil || len(skus) != 2 {
			t.Fatal("the lines before it were written", len(skus), err)
		}
		if _, err := importText(t.Context(), db, header+"mug,Blue mug,200,9\nebook,E-book,200,-1\n",
			stock.ImportOptions{}); err != nil {
			t.Fatal("the same kind of stock:", err)
		}
		s, err := admin(db).Find(t.Context(), "ebook")
		if err != nil || s.PriceFen != 200 || !s.Unlimited || left(t, db, "mug") != 9 {
			t.Fatalf("%+v %v", s, err)
		}
		conserved(t, db)
	})
}

// A dry run that writes is no dry run.
func TestDryRunWritesNothing(t *testing.T) {
	db := sqldbtest.SQLite(t)
	r, err := importText(t.Context(), db, stockedFile(3, 5), stock.ImportOptions{DryRun: true})
	if err != nil || r.Lines != 3 || r.Created != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	if skus, err := admin(db).List(t.Context(), "", 10); err != nil || len(skus) != 0 {
		t.Fatal(skus, err)
	}
}

// An export that does not come back as it was would change prices or stock by being looked at.
func TestExportImportsAsItWas(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		a := admin(db)
		for i, title := range []string{`plain`, `comma, "quoted"`, "two\nlines", "杯子 🍵", `-1`} {
			n := int64(i - 1)
			if _, _, err := a.Put(t.Context(), stock.Put{SkuID: fmt.Sprint("s", i), Title: title,
				PriceFen: int64(i + 1), Quantity: &n}); err != nil {
				t.Fatal(err)
			}
		}
		var before, after bytes.Buffer
		if err := a.Export(t.Context(), &before); err != nil {
			t.Fatal(err)
		}
		if r, err := importText(t.Context(), db, before.String(), stock.ImportOptions{}); err != nil || r.Updated != 5 {
			t.Fatalf("%+v %v", r, err)
		}
		if err := a.Export(t.Context(), &after); err != nil || after.String() != before.String() {
			t.Fatalf("%v\n%s\n%s", err, before.String(), after.String())
		}
		conserved(t, db)
	})
}

// One SKU that somebody holds locked must not keep the other lines of a file out, nor be left out without a word.
func TestImportPassesALockedSKUBy(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	if _, err := importText(t.Context(), db, stockedFile(60, 1), stock.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	raw, err := db.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, q := range []string{"BEGIN", "UPDATE skus SET title = 'x' WHERE sku_id = 's0017'"} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	r, err := importText(t.Context(), db, stockedFile(60, 5), stock.ImportOptions{})
	if !errors.Is(err, sqldb.ErrLocked) || !strings.Contains(err.Error(), "line 19 ") || r.Updated != 59 {
		t.Errorf("%d of 59 lines are in: %v", r.Updated, err)
	}
	if _, err := raw.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	r, err = importText(t.Context(), db, stockedFile(60, 5), stock.ImportOptions{})
	if err != nil || r.Updated != 1 || r.Repeated != 59 {
		t.Errorf("again: %+v, %v", r, err)
	}
}

// A line does what was seen of it, on every engine: what has changed since the plan is passed by and named, under the
// lock and not before it.
func TestImportPassesByWhatHasChangedSinceItWasSeen(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ctx, a := t.Context(), admin(db)
		if _, err := importText(ctx, db, stockedFile(4, 10), stock.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		file := header + "s0000,Mug,100,20\ns0001,Mug,100,20\ns0002,Mug,100,20\nfresh,New,100,1\nother,New,100,1\n"
		plan, err := a.PlanImport(ctx, []byte(file), stock.ModeSet)
		if err != nil || len(plan.Rows) != 5 || plan.Created != 2 || plan.Updated != 3 || plan.Rows[0].Then() != 20 {
			t.Fatalf("%+v %v", plan, err)
		}
		var seen []stock.Seen
		for _, r := range plan.Rows {
			seen = append(seen, r.Seen)
		}
		_, err = a.Replenish(ctx, stock.Change{SkuID: "s0001", Key: "k", Delta: 1, Actor: "li", Reason: "r"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Put(ctx, stock.Put{SkuID: "s0002", Title: "Jug", PriceFen: 100}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Put(ctx, stock.Put{SkuID: "other", Title: "Jug", PriceFen: 100}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the button twice
			r, err := importText(ctx, db, file, stock.ImportOptions{Mode: stock.ModeSet, Seen: seen, Reason: "a count"})
			if err != nil || fmt.Sprint(r.Changed) != "[3 4 6]" || r.Created+r.Updated+r.Repeated != 2 {
				t.Fatalf("%+v %v", r, err)
			}
		}
		for id, units := range map[string]int64{"s0000": 20, "s0001": 11, "s0002": 10, "fresh": 1, "other": 0} {
			if s, err := a.Find(ctx, id); err != nil || s.Free() != units {
				t.Errorf("%s: %+v %v", id, s, err)
			}
		}
		if _, _, err := a.Put(ctx, stock.Put{SkuID: "fresh", Title: "X", PriceFen: 1, IfNew: true}); !errors.Is(err,
			stock.ErrSKUExists) {
			t.Errorf("made twice: %v", err)
		}
		again, err := a.PlanImport(ctx, []byte(file), stock.ModeSet)
		if err != nil || again.Rows[0].What != stock.ImportBefore || again.Rows[1].What != stock.ImportChange {
			t.Errorf("%+v %v", again.Rows, err)
		}
		conserved(t, db)
	})
}
