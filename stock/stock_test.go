package stock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

func admin(db *sqldb.DB) *stock.Admin { return stock.NewAdmin(db, time.Now) }

func put(t testing.TB, db *sqldb.DB, id string, quantity int64) {
	t.Helper()
	if _, _, err := admin(db).Put(context.Background(), stock.Put{SkuID: id, Title: id, PriceFen: 100,
		Quantity: &quantity}); err != nil {
		t.Fatal(err)
	}
}

func left(t testing.TB, db *sqldb.DB, id string) int64 {
	t.Helper()
	s, err := admin(db).Find(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s.Available
}

// conserved fails when a shelf and its buckets are not the sum of its flows, or a bucket is
// not what its moves and its flows say.
func conserved(t interface{ Fatalf(string, ...any) }, db *sqldb.DB) {
	var bad, buckets int
	err := db.QueryRowContext(context.Background(), `SELECT COUNT(*)
FROM skus s
LEFT JOIN (SELECT sku_id, SUM(delta) AS total FROM stock_flows GROUP BY sku_id) f ON f.sku_id = s.sku_id
WHERE s.unlimited = 0
  AND (s.available < 0 OR COALESCE(f.total, 0) <> s.available + (
    SELECT COALESCE(SUM(b.remaining), 0)
    FROM stock_buckets b
    WHERE b.sku_id = s.sku_id))`).Scan(&bad)
	if err != nil || bad != 0 {
		t.Fatalf("%d shelves are not the sum of their flows (%v)", bad, err)
	}
	err = db.QueryRowContext(context.Background(), `SELECT COUNT(*)
FROM stock_buckets b
WHERE b.remaining <> (SELECT COALESCE(SUM(m.delta), 0) FROM stock_moves m WHERE m.bucket_id = b.bucket_id)
  + (SELECT COALESCE(SUM(f.delta), 0) FROM stock_flows f WHERE f.bucket_id = b.bucket_id)`).Scan(&buckets)
	if err != nil || buckets != 0 {
		t.Fatalf("%d buckets are not the sum of their moves and flows (%v)", buckets, err)
	}
}

func deduct(db *sqldb.DB, no string, lines ...stock.Line) (short []stock.Short, err error) {
	err = db.InTx(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		answers, err := stock.Deduct(ctx, tx, []stock.Deduction{{OrderNo: no, Lines: lines}}, time.Now())
		if err == nil {
			short = answers[0]
		}
		return err
	})
	return short, err
}

func giveBack(db *sqldb.DB, no, ref string, lines ...stock.Line) (answer, err error) {
	err = db.InTx(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		answers, err := stock.ReturnLines(ctx, tx, []stock.PartialReturn{{OrderNo: no, Ref: ref, Lines: lines}},
			time.Now())
		if err == nil {
			answer = answers[0]
		}
		return err
	})
	return answer, err
}

func line(id string, n int64) stock.Line { return stock.Line{SkuID: id, Quantity: n} }

// dtm's bug (peers 26): the duplicate must be tested before sufficiency, or the one who has the last unit is refused.
func TestSameDeductTwiceAtZero(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 1)
		for i := range 3 {
			if short, err := deduct(db, "o1", line("mug", 1)); short != nil || err != nil {
				t.Fatal(i, short, err)
			}
		}
		if short, err := deduct(db, "o2", line("mug", 1)); len(short) != 1 || err != nil {
			t.Fatal(short, err)
		}
		conserved(t, db)
	})
}

// Two callers and the last unit (peers 7, Vendure, Medusa): exactly one gets it.
func TestLastUnit(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 10)
		var got atomic.Int64
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				short, err := deduct(db, fmt.Sprint("o", i), line("mug", 1))
				if err != nil {
					t.Error(err)
				}
				if short == nil && err == nil {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if got.Load() != 10 || left(t, db, "mug") != 0 {
			t.Fatalf("%d sold of 10, %d left", got.Load(), left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// RuoYi's deadlock (peers 18): carts in opposite order must not show one to a buyer.
func TestOppositeCarts(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 1000)
		put(t, db, "b", 1000)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				lines := []stock.Line{line("a", 1), line("b", 2)}
				if i%2 == 1 {
					lines[0], lines[1] = lines[1], lines[0]
				}
				if short, err := deduct(db, fmt.Sprint("o", i), lines...); short != nil || err != nil {
					t.Error(short, err)
				}
			})
		}
		wg.Wait()
		if left(t, db, "a") != 1000-32 || left(t, db, "b") != 1000-64 {
			t.Fatal(left(t, db, "a"), left(t, db, "b"))
		}
	})
}

// Medusa's bug (peers 42): one SKU on two lines, each checked alone.
func TestOneSKUOnTwoLines(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 3)
		if short, err := deduct(db, "o1", line("mug", 2), line("mug", 2)); len(short) != 1 ||
			short[0].Requested != 4 || err != nil {
			t.Fatal(short, err)
		}
		if left(t, db, "mug") != 3 {
			t.Fatal("something moved")
		}
	})
}

// newbee's bug (peers 5): a sold-out shelf could not take its unit back. And many returns at once must be one.
func TestReturnToZeroOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 2)
		if _, err := deduct(db, "o1", line("mug", 2)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return returnHeld(ctx, tx, []string{"o1"}, stock.RefClose, time.Now())
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if left(t, db, "mug") != 2 {
			t.Fatal(left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// Partial returns in parallel (reliability T3): never more than was taken, a repeated ref counts once.
func TestPartialReturns(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 3)
		if _, err := deduct(db, "o1", line("mug", 3)); err != nil {
			t.Fatal(err)
		}
		fits := 0
		for i := range 8 {
			answer, err := giveBack(db, "o1", fmt.Sprint("R", i), line("mug", 1))
			switch {
			case err != nil:
				t.Fatal(err)
			case answer == nil:
				fits++
			case !errors.Is(answer, stock.ErrReturnExceeds):
				t.Fatal(answer)
			}
		}
		if again, err := giveBack(db, "o1", "R0", line("mug", 1)); again != nil || err != nil {
			t.Fatal("a repeat is an error:", again, err)
		}
		if foreign, err := giveBack(db, "ghost", "R", line("mug", 1)); !errors.Is(foreign, stock.ErrReturnExceeds) ||
			err != nil {
			t.Fatal(foreign, err)
		}
		if fits != 3 || left(t, db, "mug") != 3 {
			t.Fatalf("%d of 3 returns fitted, %d on the shelf", fits, left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// A replenish or adjust that is sent twice must move once, and a shelf never goes below zero by hand either.
func TestOperatorsChanges(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		put(t, db, "ebook", -1)
		a := admin(db)
		c := stock.Change{SkuID: "mug", Delta: 10, Key: "k1", Actor: "op", Reason: "PO-7"}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := a.Replenish(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left(t, db, "mug") != 15 {
			t.Fatalf("%d on the shelf", left(t, db, "mug"))
		}
		c.Delta = 11
		if _, err := a.Replenish(t.Context(), c); !errors.Is(err, stock.ErrKeyReused) {
			t.Error("another change under the same key:", err)
		}
		five := int64(5)
		if _, err := a.Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: -3, ExpectedAvailable: &five, Key: "k2",
			Reason: "count"}); !errors.As(err, new(*stock.ChangedError)) {
			t.Error("another shelf than expected:", err)
		}
		if _, err := a.Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: -16, Key: "k3",
			Reason: "count"}); !errors.As(err, new(*stock.BelowZeroError)) {
			t.Error("below zero:", err)
		}
		if _, err := a.Replenish(t.Context(), stock.Change{SkuID: "ebook", Delta: 1, Key: "k4",
			Reason: "x"}); !errors.Is(err, stock.ErrUnlimited) {
			t.Error("unlimited:", err)
		}
		if _, err := a.Replenish(t.Context(), stock.Change{SkuID: "ghost", Delta: 1, Key: "k5",
			Reason: "x"}); !errors.Is(err, stock.ErrSKUNotFound) {
			t.Error("unknown:", err)
		}
		_, err := a.Adjust(t.Context(), stock.Change{SkuID: "m g", Key: "k 6"})
		if !errors.As(err, new(*stock.InvalidError)) {
			t.Error("invalid:", err)
		}
		conserved(t, db)
	})
}

// A second Put must change title and price and never the stock, and an old version must be refused.
func TestPutChangesNoStock(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		many := int64(500)
		s, created, err := admin(db).Put(t.Context(), stock.Put{SkuID: "mug", Title: "Red mug", PriceFen: 200,
			Quantity: &many, IfVersion: 1})
		if err != nil || created || s.Available != 5 || s.PriceFen != 200 || s.Version != 2 {
			t.Fatalf("%+v %v %v", s, created, err)
		}
		if _, _, err := admin(db).Put(t.Context(), stock.Put{SkuID: "mug", Title: "x", PriceFen: 1,
			IfVersion: 1}); !errors.Is(err, stock.ErrSKUVersion) {
			t.Fatal(err)
		}
	})
}

// Every bad line must be named and nothing written; the same file twice must move stock once.
func TestImport(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		a := admin(db)
		bad := "sku_id,title,price_fen,quantity\nok,Fine,100,5\nb d,Bad " +
			"id,100,5\nfree,Free,0,5\nneg,Negative,100,-2\nok,Twice,100,1\nnum,Word,x,1\nshort,1\n"
		r, err := a.Import(t.Context(), strings.NewReader(bad), stock.ImportOptions{Mode: stock.ModeSet})
		if !errors.Is(err, stock.ErrImport) || len(r.Problems) != 6 || !strings.HasPrefix(r.Problems[0], "line 3: ") {
			t.Fatalf("%v %q", err, r.Problems)
		}
		if skus, err := a.List(t.Context(), "", 10); err != nil || len(skus) != 0 {
			t.Fatal("a bad file wrote something", skus, err)
		}
		var file bytes.Buffer
		file.WriteString("\ufeffquantity,sku_id,price_fen,title\r\n")
		for i := range 1203 {
			fmt.Fprintf(&file, "%d,s%04d,100,\"Mug, no. %d\"\r\n", i%7-1, i, i)
		}
		for round, want := range []stock.ImportReport{{Lines: 1203, Created: 1203},
			{Lines: 1203, Repeated: 0, Updated: 1203}, {Lines: 1203, Repeated: 1203}} {
			mode := stock.ModeAdd
			if round == 0 {
				mode = stock.ModeSet
			}
			r, err := a.Import(t.Context(), bytes.NewReader(file.Bytes()), stock.ImportOptions{Mode: mode, Actor: "t"})
			if err != nil || r.Created+r.Updated+r.Repeated != want.Lines || (round == 2 && r.Repeated != 1203) {
				t.Fatalf("round %d: %+v %v", round, r, err)
			}
		}
		if left(t, db, "s0006") != 10 { // 5 set, 5 added, and the third time nothing
			t.Fatal(left(t, db, "s0006"))
		}
		conserved(t, db)
		var out bytes.Buffer
		if err := a.Export(t.Context(), &out); err != nil || strings.Count(out.String(), "\n") != 1204 ||
			!strings.Contains(out.String(), "s0000,\"Mug, no. 0\",100,-1") {
			t.Fatal(err, out.Len())
		}
		for name, text := range map[string]string{"empty": "", "no lines": "sku_id,title,price_fen,quantity\n",
			"missing": "sku_id,title\na,b\n", "unknown": "sku_id,title,price_fen,quantity,x\na,b,1,1,1\n"} {
			if _, err := a.Import(t.Context(), strings.NewReader(text),
				stock.ImportOptions{Mode: stock.ModeSet}); !errors.Is(err, stock.ErrImport) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Whatever comes in whatever order, the shelf must be the sum of its flows and never negative.
func TestConservationUnderAnySequence(t *testing.T) {
	db := sqldbtest.SQLite(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id := fmt.Sprint("sku", n)
		put(t, db, id, rapid.Int64Range(0, 5).Draw(rt, "stock"))
		for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			no := fmt.Sprint("o", n, "-", rapid.IntRange(0, 3).Draw(rt, "order"))
			q := rapid.Int64Range(1, 3).Draw(rt, "quantity")
			var err error
			switch rapid.IntRange(0, 3).Draw(rt, "operation") {
			case 0:
				_, err = deduct(db, no, line(id, q))
			case 1:
				_, err = giveBack(db, no, fmt.Sprint("R", rapid.IntRange(0, 2).Draw(rt, "ref")), line(id, q))
			case 2:
				_, err = admin(db).Replenish(context.Background(),
					stock.Change{SkuID: id, Delta: q, Key: fmt.Sprint("k", n, "-", i), Reason: "r"})
			case 3:
				_, err = admin(db).Adjust(context.Background(),
					stock.Change{SkuID: id, Delta: -q, Key: fmt.Sprint("a", n, "-", i), Reason: "r"})
				if errors.As(err, new(*stock.BelowZeroError)) {
					err = nil
				}
			}
			if err != nil {
				rt.Fatalf("%v", err)
			}
		}
		conserved(rt, db)
	})
}

// returnHeld is stock.ReturnAll for tests that look at the shelf alone.
func returnHeld(ctx context.Context, tx *sqldb.Tx, orderNos []string, ref string, at time.Time) error {
	_, err := stock.ReturnAll(ctx, tx, orderNos, ref, at)
	return err
}
