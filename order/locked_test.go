package order_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// hold changes rows in a transaction of another session, which stays open until release is called: a forgotten BEGIN,
// or a host that died.
func hold(t *testing.T, db *sqldb.DB, statement string) (release func()) {
	t.Helper()
	raw, err := db.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"BEGIN", statement} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	release = sync.OnceFunc(func() {
		_, _ = raw.ExecContext(context.Background(), "ROLLBACK")
		_ = raw.Close()
	})
	t.Cleanup(release)
	return release
}

// holdOrder holds the row of an order.
func holdOrder(t *testing.T, db *sqldb.DB, no string) (release func()) {
	t.Helper()
	return hold(t, db, "UPDATE orders SET remark = 'x' WHERE order_no = '"+no+"'")
}

// together calls do for 0 to n-1 at once and gives the errors, and how long the slowest took of those of others.
func together(n int, others func(i int) bool, do func(i int) error) (errs []error, slowest time.Duration) {
	errs = make([]error, n)
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			begin := time.Now()
			errs[i] = do(i)
			took[i] = time.Since(begin)
		})
	}
	wg.Wait()
	for i, d := range took {
		if others(i) {
			slowest = max(slowest, d)
		}
	}
	return errs, slowest
}

// lockWait is less than the second that the server has anybody wait for a lock.
const lockWait = 900 * time.Millisecond

// quickRounds runs rounds while somebody holds a row, and gives each its number: in two of them nobody may wait for it.
// On a busy machine some rounds are slow by themselves; who waits for a lock waits in each.
func quickRounds(t *testing.T, round func(r int) (slowest time.Duration)) {
	t.Helper()
	for r, quick := 1, 0; quick < 2; r++ {
		if r > 8 {
			t.Fatalf("a neighbour waited for the row of another in all of eight rounds but %d", quick)
		}
		if round(r) <= lockWait {
			quick++
		}
	}
}

// quickest is how long the quickest of five calls took, or the first in which nobody waited for a lock.
func quickest(do func()) time.Duration {
	least := time.Hour
	for n := 0; n < 5 && least > lockWait; n++ {
		begin := time.Now()
		do()
		least = min(least, time.Since(begin))
	}
	return least
}

// One order whose row somebody else holds once failed every callback that shared its batch. Its neighbours may wait
// for the lock once, and never again while it is held; when it is free, it is served at once.
func TestNeighboursOfALockedOrder(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(c *order.Config) { byItself(c); c.Lanes = 1 })
	f.SKU(t, "mug", 1000)
	pay := func(prefix string) (trades []payment.Trade) {
		for i := range 21 {
			tr, err := f.WeChat.Pay(f.Prepaid(t, f.PlaceOne(t, fmt.Sprint(prefix, i), "mug", 1).OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			trades = append(trades, tr)
		}
		return trades
	}
	first := pay("first")
	victim := first[0]
	release := holdOrder(t, f.DB, order.OrderNoOf(victim.OutTradeNo))
	round := func(r int, trades []payment.Trade) time.Duration {
		trades[0] = victim
		errs, slowest := together(len(trades), func(i int) bool { return i > 0 }, func(i int) error {
			_, err := f.Settle(t.Context(), trades[i], ordertest.Notified)
			return err
		})
		for i, err := range errs {
			if locked := errors.Is(err, sqldb.ErrLocked); locked != (i == 0) || i > 0 && err != nil {
				t.Errorf("round %d, callback %d of 21: %v", r, i, err)
			}
		}
		t.Logf("round %d: the slowest neighbour took %s", r, slowest.Round(time.Millisecond))
		return slowest
	}
	if slowest := round(0, first); slowest > 10*time.Second { // each of them for a second would be longer
		t.Errorf("the first round: a neighbour waited %s for the row of another", slowest)
	}
	quickRounds(t, func(r int) time.Duration { return round(r, pay(fmt.Sprint("r", r, "-"))) })
	release()
	if _, err := f.Settle(t.Context(), victim, ordertest.Notified); err != nil {
		t.Errorf("released: %v", err)
	}
}

// A SKU whose row somebody holds must not keep the others from being sold, neither once nor for long.
func TestNeighboursOfALockedSKU(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(c *order.Config) { byItself(c); c.Lanes = 1 })
	f.SKU(t, "mug", 1000)
	f.SKU(t, "tee", 1000)
	hold(t, f.DB, "UPDATE skus SET title = 'x' WHERE sku_id = 'mug'")
	round := func(r int) time.Duration {
		errs, slowest := together(40, func(i int) bool { return i%2 == 1 }, func(i int) error {
			_, err := f.Place(t.Context(), order.Placement{CustomerID: fmt.Sprint("c", i),
				RequestID: fmt.Sprint("r", r), Lines: []stock.Line{{SkuID: []string{"mug", "tee"}[i%2], Quantity: 1}}})
			return err
		})
		for i, err := range errs {
			if errors.Is(err, sqldb.ErrLocked) != (i%2 == 0) || i%2 == 1 && err != nil {
				t.Errorf("round %d, placement %d: %v", r, i, err)
			}
		}
		t.Logf("round %d: the slowest of another SKU took %s", r, slowest.Round(time.Millisecond))
		return slowest
	}
	if slowest := round(0); slowest > 10*time.Second { // each of them for a second would be longer
		t.Errorf("the first round: a placement of another SKU waited %s", slowest)
	}
	quickRounds(t, round)
}

// A cart with a SKU whose row somebody holds waits for it. Whoever wanted another SKU of that cart, and none that is
// held, waited behind it and was refused with it: 29 of 30.
func TestCartsWithoutALockedSKUDoNotWaitForCartsWithIt(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(c *order.Config) { byItself(c); c.Lanes = 1 })
	for _, sku := range []string{"mug", "tee", "pen"} {
		f.SKU(t, sku, 100_000)
	}
	hold(t, f.DB, "UPDATE skus SET title = 'x' WHERE sku_id = 'mug'")
	place := func(customer string, round int, skus ...string) error {
		p := order.Placement{CustomerID: customer, RequestID: fmt.Sprint("r", round)}
		for _, s := range skus {
			p.Lines = append(p.Lines, stock.Line{SkuID: s, Quantity: 1})
		}
		_, err := f.Place(t.Context(), p)
		return err
	}
	round := func(r int) time.Duration {
		errs, slowest := together(40, func(i int) bool { return i%4 > 0 }, func(i int) error {
			if i%4 == 0 {
				return place(fmt.Sprint("cart", i), r, "mug", "tee")
			}
			return place(fmt.Sprint("c", i), r, "tee", "pen")
		})
		for i, err := range errs {
			if errors.Is(err, sqldb.ErrLocked) != (i%4 == 0) || i%4 > 0 && err != nil {
				t.Errorf("round %d, cart %d: %v", r, i, err)
			}
		}
		t.Logf("round %d: the slowest without the locked SKU took %s", r, slowest.Round(time.Millisecond))
		return slowest
	}
	if slowest := round(0); slowest > 10*time.Second { // each of them for a second would be longer
		t.Errorf("the first round: one who wants nothing that is locked waited %s", slowest)
	}
	quickRounds(t, round)
}

// One payment whose row somebody else holds failed every refund that was asked for beside its own: 20 of 20.
func TestNeighboursOfALockedPayment(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(c *order.Config) { byItself(c); c.Lanes = 1 })
	f.SKU(t, "mug", 1000)
	var nos []string
	for i := range 21 {
		nos = append(nos, f.PaidOne(t, fmt.Sprint("o", i), "mug", 9).OrderNo) // a unit for each round
	}
	hold(t, f.DB, "UPDATE payments SET trade_type = 'X' WHERE order_no = '"+nos[0]+"'")
	round := func(r int) time.Duration {
		errs, slowest := together(len(nos), func(i int) bool { return i > 0 }, func(i int) error {
			_, err := f.AskRefund(t.Context(), ordertest.Ask(nos[i], fmt.Sprint("r", r, "-", i), 1))
			return err
		})
		for i, err := range errs {
			if errors.Is(err, sqldb.ErrLocked) != (i == 0) || i > 0 && err != nil {
				t.Errorf("round %d, refund %d of 21: %v", r, i, err)
			}
		}
		t.Logf("round %d: the slowest neighbour took %s", r, slowest.Round(time.Millisecond))
		return slowest
	}
	if slowest := round(0); slowest > 10*time.Second { // each of them for a second would be longer
		t.Errorf("the first round: a neighbour waited %s for the payment of another", slowest)
	}
	quickRounds(t, round)
}

// A page of timeouts with a row that somebody holds once failed as a whole, pass after pass.
func TestPageWithALockedRow(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), byItself)
	f.SKU(t, "mug", 1000)
	nos := placeMany(t, f, 30)
	more := func(prefix string) {
		for i := range 10 {
			nos = append(nos, f.PlaceOne(t, fmt.Sprint(prefix, i), "mug", 1).OrderNo)
		}
	}
	release := holdOrder(t, f.DB, nos[7])
	pass := func() (took time.Duration) {
		t.Helper()
		f.Clock.Advance(time.Hour)
		page := due(t, f, order.StatePending)
		begin := time.Now()
		for i, err := range f.ExpireAll(t.Context(), page, swept, nil) {
			held := page[i].Key == nos[7]
			if errors.Is(err, sqldb.ErrLocked) != held || !held && err != nil {
				t.Errorf("%s: %v", page[i].Key, err)
			}
		}
		took = time.Since(begin)
		for _, no := range nos {
			if state := f.State(t, no); (state == order.StateClosed) != (no != nos[7]) {
				t.Errorf("%s is %s", no, state)
			}
		}
		return took
	}
	if took := pass(); took > 10*time.Second { // each of them for a second would be longer
		t.Errorf("the page took %s", took)
	}
	quickRounds(t, func(r int) time.Duration {
		more(fmt.Sprint("m", r, "-"))
		return pass()
	})
	release()
	for end := time.Now().Add(time.Minute); f.State(t, nos[7]) != order.StateClosed; {
		f.ExpireAll(t.Context(), due(t, f, order.StatePending), swept, nil)
		if time.Now().After(end) {
			t.Fatal("the row is free, and its order is not taken")
		}
	}
}

// Beside customers pages go one at a time and rest after it. The second that one of them
// waits for somebody's lock is no work to rest from: its own neighbours and the next page
// would have to wait for three times as long.
func TestPageWithALockedRowBesideCustomers(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), byItself)
	f.SKU(t, "mug", 1000)
	nos := placeMany(t, f, 40)
	holdOrder(t, f.DB, nos[3])
	f.Clock.Advance(time.Hour)
	page := due(t, f, order.StatePending)
	customers(t, f)

	begin := time.Now() // durations only
	var wg sync.WaitGroup
	for i, part := range [][]order.Due{page[:20], page[20:]} { // the locked one is in the first
		wg.Go(func() {
			errs := f.ExpireAll(t.Context(), part, swept, nil)
			if took := time.Since(begin); took > 3500*time.Millisecond { // three times as long is four seconds
				t.Errorf("page %d took %s", i, took)
			}
			for j, err := range errs {
				switch no := part[j].Key; {
				case no == nos[3] && !errors.Is(err, sqldb.ErrLocked), no != nos[3] && errors.Is(err, sqldb.ErrLocked):
					t.Errorf("%s: %v", no, err)
				case no != nos[3] && err != nil: // the busy machine's: it is asked again, as a sweep does
					t.Logf("%s: %v", no, err)
					if errs := f.ExpireAll(t.Context(), part[j:j+1], swept, nil); errs[0] != nil {
						t.Errorf("%s again: %v", no, errs[0])
					}
				}
			}
		})
	}
	wg.Wait()
	for _, no := range nos {
		if state := f.State(t, no); (state == order.StateClosed) != (no != nos[3]) {
			t.Errorf("%s is %s", no, state)
		}
	}
}

// customers lets somebody place all the time, until the test ends.
func customers(t *testing.T, f *ordertest.Fixture) {
	t.Helper()
	f.SKU(t, "tee", 1000)
	f.PlaceOne(t, "first", "tee", 1)
	var wg sync.WaitGroup
	end := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
				f.PlaceOne(t, fmt.Sprint("customer", i), "tee", 1)
			}
		}
	})
	t.Cleanup(func() { close(end); wg.Wait() })
}

// Whose rows are held is asked without waiting: the answer names them, and one that is not there is not held.
func TestHeldRowsAreNamed(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), byItself)
	f.SKU(t, "mug", 1000)
	nos := placeMany(t, f, 5)
	ask := func() string {
		t.Helper()
		held, err := f.DB.Held(t.Context(), `SELECT order_no
FROM orders /*! FORCE INDEX (PRIMARY) */
WHERE order_no IN (?)
FOR UPDATE`, []string{nos[1], nos[3], "NOT-THERE"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(held)
	}
	release := holdOrder(t, f.DB, nos[3])
	if took := quickest(func() {
		if got, want := ask(), fmt.Sprint(map[string]bool{nos[3]: true}); got != want {
			t.Errorf("held are %s, want %s", got, want)
		}
	}); took > lockWait {
		t.Errorf("it waited each time, the quickest: %s", took)
	}
	release()
	if got := ask(); got != "map[]" {
		t.Errorf("held are %s", got)
	}
}

// One attempt whose row somebody else holds must not keep the others from being asked about.
func TestNeighboursOfALockedAttemptAreAskedAbout(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(*order.Config) {})
	f.SKU(t, "mug", 10)
	locked := f.Prepaid(t, f.PlaceOne(t, "locked", "mug", 1).OrderNo)
	paid := f.PlaceOne(t, "paid", "mug", 1)
	if _, err := f.WeChat.Pay(f.Prepaid(t, paid.OrderNo), false); err != nil {
		t.Fatal(err)
	}
	hold(t, f.DB, "UPDATE payment_attempts SET description = 'x' WHERE out_trade_no = '"+locked+"'")
	f.Clock.Advance(time.Minute)
	var err error
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		var claimed []order.Ask
		if claimed, err = f.ClaimAsks(t.Context(), dueAsks(t, f)); err == nil {
			f.AskPaid(t.Context(), claimed, ordertest.Scheduler)
		}
		if f.State(t, paid.OrderNo) == order.StatePaid {
			return
		}
	}
	t.Errorf("not asked about while a neighbour is locked: %v", err)
}

// The same of an attempt that is only to be taken off the list: its neighbours are asked about all the same, and it is
// off the list soon after it is free.
func TestNeighboursOfALockedAttemptOffTheList(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(*order.Config) {})
	f.SKU(t, "mug", 10)
	gone := f.PlaceOne(t, "gone", "mug", 1)
	no := f.Prepaid(t, gone.OrderNo)
	paid := f.PlaceOne(t, "paid", "mug", 1)
	if _, err := f.WeChat.Pay(f.Prepaid(t, paid.OrderNo), false); err != nil {
		t.Fatal(err)
	}
	previous(t, f, "UPDATE payment_attempts SET state = 'closed' WHERE out_trade_no = ? AND state <> 'closed'", no)
	release := hold(t, f.DB, "UPDATE payment_attempts SET description = 'x' WHERE out_trade_no = '"+no+"'")
	f.Clock.Advance(time.Minute)
	wantOutcomes(t, askDue(t, f), order.AskPaid)
	if took := quickest(func() {
		if len(dueAsks(t, f)) != 0 {
			t.Error("the locked one is read again at once")
		}
	}); took > lockWait {
		t.Errorf("the locked one is waited for: %s", took)
	}
	release()
	for end := time.Now().Add(time.Minute); ; {
		askDue(t, f)
		var left int
		if err := f.DB.Pool().QueryRowContext(t.Context(),
			"SELECT COUNT(*) FROM payment_attempts WHERE out_trade_no = ? AND ask_at IS NOT NULL",
			no).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("still on the list")
		}
	}
}

// The row of one SKU is held, and nine of ten orders of a page have it. The others were once failed with them, pass
// after pass, behind the first that were found locked.
func TestPageOfManyWithALockedSKU(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), byItself)
	f.SKU(t, "mug", 10_000)
	f.SKU(t, "tee", 10_000)
	of := map[string]string{}
	for i := range 1000 {
		sku := "mug"
		if i%10 == 9 {
			sku = "tee"
		}
		of[f.PlaceOne(t, fmt.Sprint("o", i), sku, 1).OrderNo] = sku
	}
	release := hold(t, f.DB, "UPDATE skus SET title = 'x' WHERE sku_id = 'mug'")
	f.Clock.Advance(time.Hour)
	page := due(t, f, order.StatePending)
	begin := time.Now()
	for i, err := range f.ExpireAll(t.Context(), page, swept, nil) {
		if held := of[page[i].Key] == "mug"; errors.Is(err, sqldb.ErrLocked) != held || !held && err != nil {
			t.Errorf("%s, a %s: %v", page[i].Key, of[page[i].Key], err)
		}
	}
	if took := time.Since(begin); took > 2*time.Minute { // a second for each of the nine hundred would be longer
		t.Errorf("the page took %s", took)
	}
	for no, sku := range of {
		if state := f.State(t, no); (state == order.StateClosed) != (sku == "tee") {
			t.Errorf("%s, a %s, is %s", no, sku, state)
		}
	}
	release()
	f.Clock.Advance(time.Hour)
	open := func() []order.Due { return append(due(t, f, order.StatePending), due(t, f, order.StateClosing)...) }
	for end := time.Now().Add(2 * time.Minute); len(open()) > 0; {
		f.ExpireAll(t.Context(), open(), swept, nil)
		if f.Clock.Advance(time.Hour); time.Now().After(end) {
			t.Fatalf("the SKU is free, and %d orders are not taken", len(open()))
		}
	}
}
