package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"orderd/migrations/sqldb"
)

// exampleDB is an SQLite file of its own with a table of what is left of each SKU.
// remove takes it away again.
func exampleDB() (db *sqldb.DB, remove func(), err error) {
	dir, err := os.MkdirTemp("", "sqldb-example-")
	if err != nil {
		return nil, nil, err
	}
	db, err = sqldb.Open(context.Background(), "sqlite:"+filepath.Join(dir, "example.db"))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	for _, text := range []string{
		"CREATE TABLE shelf (sku VARCHAR(64) NOT NULL PRIMARY KEY, units BIGINT NOT NULL)",
		"INSERT INTO shelf (sku, units) VALUES ('mug', 3)",
	} {
		if _, err := db.Pool().Exec(text); err != nil {
			return nil, nil, errors.Join(err, db.Close(), os.RemoveAll(dir))
		}
	}
	return db, func() { _ = errors.Join(db.Close(), os.RemoveAll(dir)) }, nil
}

var errSoldOut = errors.New("sold out")

// A guarded UPDATE decides inside the transaction, and the number of rows that it
// matched is the decision. The function may run more than once, so that it keeps
// nothing outside itself; its own errors come back as they are, with nothing
// written.
func ExampleDB_InTx() {
	db, remove, err := exampleDB()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()
	take := func(units int64) error {
		return db.InTx(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
			n, err := tx.Update(ctx, `UPDATE shelf
SET units = units - ?
WHERE sku = 'mug'
  AND units >= ?`, units, units)
			if err == nil && n == 0 {
				err = errSoldOut
			}
			return err
		})
	}
	fmt.Println("two:", take(2))
	fmt.Println("two more:", take(2))
	fmt.Println("one:", take(1))
	// Output:
	// two: <nil>
	// two more: sold out
	// one: <nil>
}

// Five callers at the same time want one of three mugs each. They share
// transactions, as many of them as happen to wait together, and each gets an
// answer of its own after the COMMIT.
func ExampleGroup() {
	db, remove, err := exampleDB()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()
	sell := func(ctx context.Context, tx *sqldb.Tx, units []int64) ([]sqldb.Outcome[int64], error) {
		var left int64
		err := tx.QueryRowContext(ctx, "SELECT units FROM shelf WHERE sku = 'mug' FOR UPDATE").Scan(&left)
		if err != nil {
			return nil, err // the group runs every member again, alone
		}
		outcomes := make([]sqldb.Outcome[int64], len(units))
		for i, n := range units { // in the order in which they came
			if n > left {
				outcomes[i].Err = errSoldOut // this member's own; the others are committed
				continue
			}
			left -= n
			outcomes[i].Answer = n
		}
		_, err = tx.Update(ctx, "UPDATE shelf SET units = ? WHERE sku = 'mug'", left)
		return outcomes, err
	}
	group := sqldb.NewGroup(db, sqldb.GroupOptions{Name: "sell"}, sell)
	defer group.Close()

	var mu sync.Mutex
	var sold int64
	var refused int
	var callers sync.WaitGroup
	for range 5 {
		callers.Go(func() {
			n, err := group.Do(context.Background(), 1)
			mu.Lock()
			defer mu.Unlock()
			if sold += n; errors.Is(err, errSoldOut) {
				refused++
			}
		})
	}
	callers.Wait()
	fmt.Println("sold:", sold, "refused:", refused)
	// Output:
	// sold: 3 refused: 2
}

// Times are stored as milliseconds, 0 for none.
func ExampleFromMillis() {
	at := sqldb.FromMillis(1_800_000_000_123)
	fmt.Println(at, sqldb.Millis(at))
	fmt.Println(sqldb.FromMillis(0).IsZero(), sqldb.Millis(sqldb.FromMillis(0)))
	// Output:
	// 2027-01-15 08:00:00.123 +0000 UTC 1800000000123
	// true 0
}
