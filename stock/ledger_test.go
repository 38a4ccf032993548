package stock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

// placeOrder writes the row that a caller of the ledger locks before it returns stock.
func placeOrder(t testing.TB, db *sqldb.DB, no string) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause,
  close_reason, close_tries, created_at, expire_at, updated_at)
VALUES (?, 'c', ?, '', 'pending', 1, 1, '', '', '', '', 0, 0, 0, 0)`, no, no)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lockOrder does what the ledger asks of the callers of its returns.
func lockOrder(ctx context.Context, tx *sqldb.Tx, no string) error {
	return tx.QueryRowContext(ctx, `SELECT order_no
FROM orders
WHERE order_no = ?
FOR UPDATE`, no).Scan(&no)
}

// flows counts the flows of an order, of any kind.
func flows(t testing.TB, db *sqldb.DB, no string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM stock_flows WHERE order_no = ?`,
		no).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Without the guard in the decrement a rush on one SKU sells more than there is; without the retries it sells less.
func TestHotSKUSellsExactlyItsStock(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		const stocked, buyers = 40, 64
		put(t, db, "mug", stocked)
		var sold, refused atomic.Int64
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range buyers {
			wg.Go(func() {
				<-start
				short, err := deduct(db, fmt.Sprint("o", i), line("mug", 1))
				switch {
				case err != nil:
					t.Error(err)
				case short == nil:
					sold.Add(1)
				default:
					refused.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		if sold.Load() != stocked || refused.Load() != buyers-stocked || left(t, db, "mug") != 0 {
			t.Fatalf("%d sold, %d refused, %d left", sold.Load(), refused.Load(), left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// The lost update of Vendure, Medusa and nopCommerce (peers 7): what was read before must not be written over what a
// neighbour did since.
func TestStaleShelfIsRefused(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 10)
		demand := map[string]int64{"mug": 2}
		var stale *stock.Shelf
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			stale, err = stock.Open(ctx, tx, stock.Want{Units: demand, At: time.Now()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if short, err := deduct(db, "first", line("mug", 9)); short != nil || err != nil {
			t.Fatal(short, err)
		}
		if short := stale.Take("second", []stock.Line{line("mug", 2)}, nil); short != nil {
			t.Fatal("the shelf of this test is not stale", short)
		}
		errStop := errors.New("stop")
		err = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if err := stale.Commit(ctx, tx, time.Now()); !errors.Is(err, sqldb.ErrLostRace) {
				t.Error("a stale shelf was committed:", err)
			}
			return errStop // and not the lost race, which would be run again
		})
		if !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		if left(t, db, "mug") != 1 || flows(t, db, "second") != 0 {
			t.Fatal(left(t, db, "mug"), flows(t, db, "second"))
		}
	})
}

// One transaction that gives a unit back and takes one, as orders that close and come back together do, was judged by
// what was there before: it told of a shelf that has more, or was held back by its own return in each of its runs.
func TestThresholdIsJudgedByWhatThisTransactionGaveBack(t *testing.T) {
	for _, c := range []struct {
		name              string
		there, told, want int64 // there: before; told: of before; want: how often it is told
	}{{"more is left than before", 6, 0, 0}, {"it was told, and may be again", 5, 1, 1}, {"it stays below", 3, 1, 0}} {
		t.Run(c.name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				put(t, db, "mug", c.there+1)
				placeOrder(t, db, "first")
				if short, err := deduct(db, "first", line("mug", 1)); short != nil || err != nil {
					t.Fatal(short, err)
				}
				_, err := db.Pool().ExecContext(t.Context(), "UPDATE skus SET low_at = 5, low_told = ?", c.told)
				if err != nil {
					t.Fatal(err)
				}
				told := int64(0)
				tell := func(context.Context, *sqldb.Tx, []string, time.Time) error { told++; return nil }
				err = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					told = 0
					if err := lockOrder(ctx, tx, "first"); err != nil {
						return err
					}
					shelf, err := stock.Open(ctx, tx, stock.Want{Units: map[string]int64{"mug": 1}, At: time.Now(),
						Tell: tell})
					if err != nil {
						return err
					}
					if _, err := stock.ReturnAll(ctx, tx, []string{"first"}, "close", time.Now()); err != nil {
						return err
					}
					if short := shelf.Take("second", []stock.Line{line("mug", 1)}, nil); short != nil {
						t.Error(short)
					}
					return shelf.Commit(ctx, tx, time.Now())
				})
				if err != nil || told != c.want || left(t, db, "mug") != c.there {
					t.Errorf("%v, told %d times, %d left", err, told, left(t, db, "mug"))
				}
			})
		})
	}
}

// newbee's bug (peers 6): an order for 2 of A and 9 of B went through although B had 5, because only the first count
// was looked at.
func TestShortSecondLineMovesNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 5)
		put(t, db, "b", 5)
		short, err := deduct(db, "o1", line("a", 2), line("b", 9))
		if err != nil || len(short) != 1 || short[0] != (stock.Short{Index: 1, SkuID: "b", Requested: 9,
			Available: 5}) {
			t.Fatalf("%+v %v", short, err)
		}
		short, err = deduct(db, "o1", line("a", 6), line("ghost", 1), line("b", 9))
		if err != nil || len(short) == 0 || short[0].SkuID != "ghost" {
			t.Fatalf("an unknown SKU: %+v %v", short, err)
		}
		if left(t, db, "a") != 5 || left(t, db, "b") != 5 || flows(t, db, "o1") != 0 {
			t.Fatal("something moved", left(t, db, "a"), left(t, db, "b"), flows(t, db, "o1"))
		}
		if short, err := deduct(db, "o1", line("a", 2), line("b", 5)); short != nil || err != nil {
			t.Fatal("a refused order may come again, smaller:", short, err)
		}
		conserved(t, db)
	})
}

// In a batch one order's shortage must stay its own, and who came first must get the last unit.
func TestBatchIsDecidedInOrderOfArrival(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 3)
		put(t, db, "tee", 1)
		batch := []stock.Deduction{
			{OrderNo: "z-first", Lines: []stock.Line{line("mug", 2)}},
			{OrderNo: "big", Lines: []stock.Line{line("mug", 2), line("tee", 1)}},
			{OrderNo: "a-last", Lines: []stock.Line{line("tee", 1), line("mug", 1)}},
			{OrderNo: "z-first", Lines: []stock.Line{line("mug", 2)}},
			{OrderNo: "none", Lines: []stock.Line{line("mug", 1)}},
		}
		run := func() (refused []bool) {
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				answers, err := stock.Deduct(ctx, tx, batch, time.Now())
				refused = nil
				for _, short := range answers {
					refused = append(refused, short != nil)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return refused
		}
		want := []bool{false, true, false, false, true}
		for range 2 { // the second time nothing is left, and the answers are the same
			if got := run(); !slices.Equal(got, want) {
				t.Fatalf("refused: %v, want %v", got, want)
			}
			if left(t, db, "mug") != 0 || left(t, db, "tee") != 0 {
				t.Fatal(left(t, db, "mug"), left(t, db, "tee"))
			}
		}
		conserved(t, db)
	})
}

// RuoYi's deadlock (peers 18) where it is likeliest: both carts lock the last units and are larger than one chunk of
// the decrement.
func TestOppositeLargeCartsOnTightStock(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		const skus, carts = 70, 8
		var forth []stock.Line
		for i := range skus {
			id := fmt.Sprintf("s%03d", i)
			put(t, db, id, int64(carts*(i%3+1)))
			forth = append(forth, line(id, int64(i%3+1)))
		}
		back := slices.Clone(forth)
		slices.Reverse(back)
		var wg sync.WaitGroup
		for i := range carts {
			wg.Go(func() {
				lines := forth
				if i%2 == 1 {
					lines = back
				}
				if short, err := deduct(db, fmt.Sprint("o", i), lines...); short != nil || err != nil {
					t.Error(short, err)
				}
			})
		}
		wg.Wait()
		for _, l := range forth {
			if n := left(t, db, l.SkuID); n != 0 {
				t.Fatalf("%d left of %s", n, l.SkuID)
			}
		}
		if err := returnAll(db, "o0", false); err != nil {
			t.Fatal(err)
		}
		for _, l := range forth { // each SKU gets its own quantity back, not its neighbour's
			if n := left(t, db, l.SkuID); n != l.Quantity {
				t.Fatalf("%d of %s came back, %d were taken", n, l.SkuID, l.Quantity)
			}
		}
		conserved(t, db)
	})
}

// A quantity of nothing or less would put stock on the shelf by "deducting" it.
func TestOnlyPositiveQuantitiesMove(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 3)
		for _, n := range []int64{0, -5} {
			if short, err := deduct(db, "o1", line("mug", n)); err == nil {
				t.Errorf("%d were deducted: %v", n, short)
			}
		}
		if _, err := deduct(db, "o1", line("mug", 2)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{0, -1} {
			if answer, err := giveBack(db, "o1", "R", line("mug", n)); !errors.Is(answer, stock.ErrReturnExceeds) ||
				err != nil {
				t.Errorf("%d came back: %v %v", n, answer, err)
			}
		}
		if left(t, db, "mug") != 1 {
			t.Fatal(left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// An unlimited SKU must never be short and never get a number, and its flows must still say what was sold.
func TestUnlimitedIsNeverShort(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "ebook", -1)
		put(t, db, "mug", 1)
		if short, err := deduct(db, "o1", line("ebook", 1_000_000), line("mug", 1)); short != nil || err != nil {
			t.Fatal(short, err)
		}
		if short, err := deduct(db, "o2", line("ebook", 1), line("mug", 1)); len(short) != 1 ||
			short[0].SkuID != "mug" || err != nil {
			t.Fatal(short, err)
		}
		if flows(t, db, "o1") != 2 || flows(t, db, "o2") != 0 {
			t.Fatal(flows(t, db, "o1"), flows(t, db, "o2"))
		}
		if err := returnAll(db, "o1", false); err != nil {
			t.Fatal(err)
		}
		s, err := admin(db).Find(t.Context(), "ebook")
		if err != nil || !s.Unlimited || s.Available != 0 || left(t, db, "mug") != 1 {
			t.Fatalf("%+v %v", s, err)
		}
		if answer, err := giveBack(db, "o1", "R", line("ebook", 1)); !errors.Is(answer, stock.ErrReturnExceeds) ||
			err != nil {
			t.Fatal("an unlimited SKU came back twice:", answer, err)
		}
	})
}

// MySQL compares keys without regard to case unless told, and two SKUs would share a shelf.
func TestSKUsDifferByCase(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "Mug", 5)
		put(t, db, "mug", 2)
		if short, err := deduct(db, "o1", line("Mug", 4), line("mug", 1)); short != nil || err != nil {
			t.Fatal(short, err)
		}
		if left(t, db, "Mug") != 1 || left(t, db, "mug") != 1 {
			t.Fatal(left(t, db, "Mug"), left(t, db, "mug"))
		}
	})
}

func returnAll(db *sqldb.DB, no string, lock bool) error {
	return db.InTx(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		if lock {
			if err := lockOrder(ctx, tx, no); err != nil {
				return err
			}
		}
		return returnHeld(ctx, tx, []string{no}, stock.RefClose, time.Now())
	})
}

// The double returns of mall, mall4j, Magento and WooCommerce (peers 3, 4, 43): cancel, timeout and callback together
// return once.
func TestConcurrentReturnsReturnOnce(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		put(t, db, "tee", 2)
		placeOrder(t, db, "o1")
		for no, n := range map[string]int64{"o1": 3, "other": 2} {
			if short, err := deduct(db, no, line("mug", n)); short != nil || err != nil {
				t.Fatal(short, err)
			}
		}
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				if err := returnAll(db, "o1", true); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left(t, db, "mug") != 3 || flows(t, db, "o1") != 2 {
			t.Fatalf("%d on the shelf, want 3; %d flows, want a deduct and a return", left(t, db, "mug"),
				flows(t, db, "o1"))
		}
		conserved(t, db)
	})
}

// The seed's rule that returns add up to no more than was deducted, with all of them at once and one ref among them
// twice.
func TestConcurrentPartialReturnsStopAtTheDeducted(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 10)
		placeOrder(t, db, "o1")
		if _, err := deduct(db, "o1", line("mug", 3)); err != nil {
			t.Fatal(err)
		}
		var fits, exceeds atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				var answer error
				err := db.InTx(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
					if err := lockOrder(ctx, tx, "o1"); err != nil {
						return err
					}
					answers, err := stock.ReturnLines(ctx, tx,
						[]stock.PartialReturn{{OrderNo: "o1", Ref: fmt.Sprint("R", i),
							Lines: []stock.Line{line("mug", 1)}}}, time.Now())
					if err == nil {
						answer = answers[0]
					}
					return err
				})
				switch {
				case err != nil:
					t.Error(err)
				case answer == nil:
					fits.Add(1)
				case errors.Is(answer, stock.ErrReturnExceeds):
					exceeds.Add(1)
				}
			})
		}
		wg.Wait()
		if fits.Load() != 3 || exceeds.Load() != 5 || left(t, db, "mug") != 10 {
			t.Fatalf("%d fitted, %d refused, %d on the shelf", fits.Load(), exceeds.Load(), left(t, db, "mug"))
		}
		conserved(t, db)
	})
}

// A refund of several lines must come back whole or not at all, and a batch must see what its own earlier members
// returned.
func TestPartialReturnIsAllOrNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 2)
		put(t, db, "b", 2)
		if _, err := deduct(db, "o1", line("a", 2), line("b", 1)); err != nil {
			t.Fatal(err)
		}
		var answers []error
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			answers, err = stock.ReturnLines(ctx, tx, []stock.PartialReturn{
				{OrderNo: "o1", Ref: "R1", Lines: []stock.Line{line("a", 1), line("b", 2)}},
				{OrderNo: "o1", Ref: "R2", Lines: []stock.Line{line("a", 1), line("a", 1)}},
				{OrderNo: "o1", Ref: "R2", Lines: []stock.Line{line("a", 1), line("a", 1)}},
				{OrderNo: "o1", Ref: "R3", Lines: []stock.Line{line("a", 1)}},
			}, time.Now())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, refused := range []bool{true, false, false, true} {
			if errors.Is(answers[i], stock.ErrReturnExceeds) != refused {
				t.Errorf("partial return %d: %v", i, answers[i])
			}
		}
		if left(t, db, "a") != 2 || left(t, db, "b") != 1 {
			t.Fatal(left(t, db, "a"), left(t, db, "b"))
		}
		if err := returnAll(db, "o1", false); err != nil { // what is still out, and not what R2 brought
			t.Fatal(err)
		}
		if left(t, db, "a") != 2 || left(t, db, "b") != 2 {
			t.Fatal(left(t, db, "a"), left(t, db, "b"))
		}
		conserved(t, db)
	})
}

// Systems that keep stock in two steps lose it in a crash between them (peers 37, 47): here a transaction that ends
// after any step has moved nothing.
func TestCrashBetweenStatementsMovesNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		if _, err := deduct(db, "old", line("mug", 2)); err != nil {
			t.Fatal(err)
		}
		work := func(ctx context.Context, tx *sqldb.Tx) error {
			answers, err := stock.Deduct(ctx, tx, []stock.Deduction{{OrderNo: "new",
				Lines: []stock.Line{line("mug", 1)}}}, time.Now())
			if err != nil || answers[0] != nil {
				return fmt.Errorf("deduct: %v %w", answers, err)
			}
			return returnHeld(ctx, tx, []string{"old"}, stock.RefClose, time.Now())
		}
		errCrash := errors.New("crash")
		ends := map[string]func(ctx context.Context, cancel context.CancelFunc) error{
			"the caller's context ends": func(ctx context.Context, cancel context.CancelFunc) error {
				cancel()
				<-ctx.Done()
				return ctx.Err()
			},
			"it ends unnoticed": func(ctx context.Context, cancel context.CancelFunc) error {
				cancel()
				<-ctx.Done()
				return nil
			},
			"an error": func(context.Context, context.CancelFunc) error { return errCrash },
			"a panic":  func(context.Context, context.CancelFunc) error { panic(errCrash) },
		}
		for name, end := range ends {
			ctx, cancel := context.WithCancel(t.Context())
			err := func() (err error) {
				defer func() {
					if r := recover(); r != nil {
						err = r.(error)
					}
				}()
				return db.InTx(ctx, func(inner context.Context, tx *sqldb.Tx) error {
					if err := work(inner, tx); err != nil {
						return err
					}
					return end(inner, cancel)
				})
			}()
			cancel()
			if err == nil {
				t.Errorf("%s: committed", name)
			}
			if left(t, db, "mug") != 3 || flows(t, db, "new") != 0 || flows(t, db, "old") != 1 {
				t.Fatalf("%s: %d on the shelf, want 3", name, left(t, db, "mug"))
			}
		}
		conserved(t, db)
	})
}

// Any sequence of operations must give what a plain map of numbers gives: answer by answer, shelf by shelf.
func TestLedgerAgreesWithAModel(t *testing.T) {
	db := sqldbtest.SQLite(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		ids := []string{fmt.Sprint("a", run), fmt.Sprint("b", run)}
		shelf, out, refs := map[string]int64{}, map[string]map[string]int64{}, map[string]bool{}
		for _, id := range ids {
			shelf[id] = rapid.Int64Range(0, 6).Draw(rt, "stock")
			put(t, db, id, shelf[id])
		}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			no := fmt.Sprint("o", run, "-", rapid.IntRange(0, 2).Draw(rt, "order"))
			a, b := rapid.Int64Range(1, 3).Draw(rt, "of a"), rapid.Int64Range(1, 3).Draw(rt, "of b")
			lines := []stock.Line{line(ids[1], b), line(ids[0], a)}
			enough := shelf[ids[0]] >= a && shelf[ids[1]] >= b
			switch rapid.IntRange(0, 2).Draw(rt, "operation") {
			case 0:
				short, err := deduct(db, no, lines...)
				if want := out[no] != nil || enough; err != nil || want != (short == nil) {
					rt.Fatalf("deduct %s: %v %v, the model says %v", no, short, err, want)
				}
				if out[no] == nil && enough {
					out[no] = map[string]int64{ids[0]: a, ids[1]: b}
					shelf[ids[0]] -= a
					shelf[ids[1]] -= b
				}
			case 1:
				ref := fmt.Sprint("R", rapid.IntRange(0, 3).Draw(rt, "ref"))
				fits := out[no][ids[0]] >= a && out[no][ids[1]] >= b
				answer, err := giveBack(db, no, ref, lines...)
				if want := refs[no+ref] || fits; err != nil || want != (answer == nil) {
					rt.Fatalf("return %s of %s: %v %v, the model says %v", ref, no, answer, err, want)
				}
				if fits && !refs[no+ref] {
					refs[no+ref] = true
					for _, l := range lines {
						out[no][l.SkuID] -= l.Quantity
						shelf[l.SkuID] += l.Quantity
					}
				}
			case 2:
				if err := returnAll(db, no, false); err != nil {
					rt.Fatalf("return all of %s: %v", no, err)
				}
				for id, n := range out[no] {
					shelf[id] += n
					out[no][id] = 0
				}
			}
			for _, id := range ids {
				if n := left(t, db, id); n != shelf[id] {
					rt.Fatalf("%d of %s on the shelf, the model says %d", n, id, shelf[id])
				}
			}
		}
		conserved(rt, db)
	})
}
