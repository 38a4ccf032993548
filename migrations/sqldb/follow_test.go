package sqldb_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// pair is two servers with a shelf of mugs, the old one with 10 and the fresh one with 7, and an address that leads to
// the old one.
func pair(t *testing.T) (old, fresh *servers.MariaDB, proxy *faultproxy.Proxy, db *sqldb.DB) {
	t.Helper()
	old, fresh = sqldbtest.MariaDBServer(t), sqldbtest.MariaDBServer(t)
	for mugs, server := range map[int64]*servers.MariaDB{10: old, 7: fresh} {
		for _, err := range []error{server.Create(t.Context(), "shop"),
			server.Exec(t.Context(), "CREATE USER shop@'%'"),
			server.Exec(t.Context(), "GRANT ALL ON shop.* TO shop@'%'")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		put(t, sqldbtest.Open(t, server.DSN("shop")), "mug", mugs)
	}
	proxy, err := faultproxy.NewMySQL(old.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return old, fresh, proxy, sqldbtest.Open(t, "mysql:shop@tcp("+proxy.Addr()+")/shop")
}

// decided gives the mugs on the shelf, read as what decides.
func decided(ctx context.Context, db *sqldb.DB) (n int64, err error) {
	err = db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT available FROM skus WHERE sku_id = 'mug'").Scan(&n)
	})
	return n, err
}

// An old primary that lives on and only reads keeps its connections, and answers what was true before the switchover: a
// buyer does not find the order that he has just placed, a refund is not found and given up. What decides is never read
// there, and what is shown only for seconds, although its connections are in use all the time.
func TestReadsFollowTheServerThatWrites(t *testing.T) {
	old, fresh, proxy, db := pair(t)
	var warm sync.WaitGroup
	for range 16 { // every connection of both pools
		warm.Go(func() {
			if n := available(t, db, "mug"); n != 10 {
				t.Errorf("%d shown", n)
			}
			if n, err := decided(t.Context(), db); n != 10 || err != nil {
				t.Error(n, err)
			}
		})
	}
	warm.Wait()
	if err := old.Exec(t.Context(), "SET GLOBAL read_only = 1"); err != nil {
		t.Fatal(err)
	}
	proxy.Switch(fresh.Addr)
	for range 40 {
		if n, err := decided(t.Context(), db); n != 7 || err != nil {
			t.Fatalf("decided by the old primary: %d, %v", n, err)
		}
	}
	begin, right := time.Now(), 0
	for right < 100 {
		if right++; available(t, db, "mug") != 7 {
			right = 0
		}
		if time.Since(begin) > 30*time.Second { // a connection lives for a minute
			t.Fatal("half a minute after the switchover the old primary is still shown")
		}
	}
}

// A transaction that begins with a plain read is none to a proxy that sends reads to a replica: without a word it would
// be decided there. One that begins by a lock or a change says so itself, and pays no round trip for the word.
func TestDecisionsAreSeenAsTransactions(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, server.DSN("shop"))
	put(t, db, "mug", 10)
	const read = "SELECT available FROM skus WHERE sku_id = 'mug'"
	run := func(queries ...string) func(context.Context, *sqldb.Tx) error {
		return func(ctx context.Context, tx *sqldb.Tx) (err error) {
			for _, q := range queries {
				var n int64
				if err == nil && strings.HasPrefix(q, "SELECT") {
					err = tx.QueryRowContext(ctx, q).Scan(&n)
				} else if err == nil {
					_, err = tx.Update(ctx, q)
				}
			}
			return err
		}
	}
	const write = "UPDATE skus SET title = 'x' WHERE sku_id = 'mug'"
	for _, c := range []struct {
		name  string
		do    func(context.Context, func(context.Context, *sqldb.Tx) error) error
		fn    func(context.Context, *sqldb.Tx) error
		begun int
	}{
		{"decide", db.Decide, run(read, read), 1},
		{"a plain read first", db.InTx, run(read, write, read), 1},
		{"a lock first", db.InTx, run(read+"\nFOR UPDATE", read), 0},
		{"a change first", db.InTx, run(write, read), 0},
	} {
		before := begun(t, db)
		if err := c.do(t.Context(), c.fn); err != nil {
			t.Fatal(c.name, err)
		}
		if n := begun(t, db) - before; n != c.begun {
			t.Errorf("%s: %d transactions were said", c.name, n)
		}
	}
}

// begun counts the transactions that clients of a server have begun in words.
func begun(t *testing.T, db *sqldb.DB) (n int) {
	t.Helper()
	var name string
	if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Com_begin'").Scan(&name, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A repeat of a transaction whose COMMIT had no answer must be told so: it may find its own work, and must not take it
// for somebody else's. A repeat after a deadlock finds none.
func TestRepeatKnowsThatItMayBeDone(t *testing.T) {
	db, proxy := behindProxy(t)
	put(t, db, "mug", 10)
	runs := func(first error) (told []bool) {
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			told = append(told, tx.MayBeDone())
			if _, err := tx.Update(ctx, "UPDATE skus SET title = 'x' WHERE sku_id = 'mug'"); err != nil {
				return err
			}
			err := first
			first = nil
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return told
	}
	if got := fmt.Sprint(runs(fmt.Errorf("made up: %w", sqldb.ErrLostRace))); got != "[false false]" {
		t.Errorf("after a lost race: %s", got)
	}
	proxy.Next(faultproxy.CutAfter)
	if got := fmt.Sprint(runs(nil)); got != "[false true]" {
		t.Errorf("after a lost COMMIT: %s", got)
	}
}
