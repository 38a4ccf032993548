package order_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

var errGivenUp = errors.New("given up")

// A buyer's first try is half way through its transaction when its repeat reaches another process, which would refuse
// it: told "sold out" or "the price has changed", he orders elsewhere, and has this order too. Whatever the refusal,
// the repeat waits for the end of the first try. On MariaDB only: SQLite has one writer, so that nothing is half way.
func TestRefusalWaitsForItsFirstTry(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	cases := map[string]struct {
		change func(t *testing.T, f *ordertest.Fixture, db *sqldb.DB) // so that the repeat would be refused
		is     func(err error) bool
	}{
		"sold out": {func(t *testing.T, _ *ordertest.Fixture, db *sqldb.DB) {
			exec(t, db, "UPDATE skus SET unlimited = 0, available = 0")
		}, func(err error) bool { return errors.As(err, new(*order.InsufficientError)) }},
		"unknown": {func(t *testing.T, _ *ordertest.Fixture, db *sqldb.DB) {
			exec(t, db, "DELETE FROM skus")
		}, func(err error) bool { return errors.As(err, new(*order.UnknownSKUError)) }},
		"price": {func(t *testing.T, f *ordertest.Fixture, _ *sqldb.DB) {
			_, _, err := f.Admin.Put(t.Context(), stock.Put{SkuID: "mug", Title: "mug", PriceFen: 250})
			if err != nil {
				t.Fatal(err)
			}
		}, func(err error) bool { return errors.As(err, new(*order.PriceChangedError)) }},
		"too many open": {func(t *testing.T, f *ordertest.Fixture, _ *sqldb.DB) {
			if _, err := f.Place(t.Context(), one("c", "other", "mug")); err != nil {
				t.Fatal(err)
			}
		}, func(err error) bool { return errors.As(err, new(*order.TooManyOpenError)) }},
	}
	for name, c := range cases {
		for ending, end := range map[string]error{"committed": nil, "rolled back": errGivenUp} {
			t.Run(name+", "+ending, func(t *testing.T) {
				schema := "t" + string(ending[0]) + name[:3]
				if err := server.Create(t.Context(), schema); err != nil {
					t.Fatal(err)
				}
				db := sqldbtest.Open(t, server.DSN(schema))
				limit := func(c *order.Config) { c.MaxOpenOrders = 1 }
				a := ordertest.NewUnverified(t, db, limit)
				b := a.Restarted(t, limit)
				a.SKU(t, "mug", -1)
				total := payment.Fen(100)
				p := order.Placement{CustomerID: "c", RequestID: "k", ExpectedTotal: &total,
					Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}

				type answer struct {
					placed order.Placed
					err    error
				}
				repeat := make(chan answer, 1)
				first, err := a.PlaceAndHold(t.Context(), p, func() error {
					c.change(t, a, db)
					go func() {
						placed, err := b.Place(context.WithoutCancel(t.Context()), p)
						repeat <- answer{placed, err}
					}()
					if waitsForLock(t, db, repeat) {
						return end
					}
					early := <-repeat
					t.Errorf("the first try was under way, the repeat was told %v", early.err)
					repeat <- early
					return end
				})
				if !errors.Is(err, end) {
					t.Fatal(err)
				}
				got := <-repeat
				no := got.placed.Order.OrderNo
				switch {
				case end == nil && (got.err != nil || no != first.Order.OrderNo || !got.placed.Replayed):
					t.Errorf("%s was placed, its repeat was told %q, %v", first.Order.OrderNo, no, got.err)
				case end != nil && !c.is(got.err):
					t.Errorf("nothing was placed, the repeat was told %q, %v", no, got.err)
				}
			})
		}
	}
}

// waitsForLock waits until a transaction waits for a lock; false when there was an answer first.
func waitsForLock[A any](t *testing.T, db *sqldb.DB, answered <-chan A) bool {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		var name string
		var n int
		if err := db.QueryRowContext(t.Context(),
			"SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'").Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return true
		}
		if len(answered) > 0 {
			return false
		}
		time.Sleep(time.Millisecond) // polling, not timing
	}
	t.Fatal("nobody waits, and nobody answers")
	return false
}

// Beside a locked row a batch is tried without any waiting: a repeat that waited there all the same, for its first
// try, would hold up whoever is in the batch with it.
func TestRefusalDoesNotWaitWhereNobodyMay(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	a := ordertest.NewUnverified(t, db, func(*order.Config) {})
	b := a.Restarted(t, func(*order.Config) {})
	a.SKU(t, "mug", -1)
	p := one("c", "k", "mug")
	_, err := a.PlaceAndHold(t.Context(), p, func() error {
		exec(t, db, "UPDATE skus SET unlimited = 0, available = 0")
		if took := quickest(func() {
			if err := b.PlaceWithoutWaiting(t.Context(), p); !errors.Is(err, sqldb.ErrLocked) {
				t.Errorf("the first try was under way, the repeat was told %v", err)
			}
		}); took > lockWait {
			t.Errorf("it waited each time, the quickest: %s", took)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
