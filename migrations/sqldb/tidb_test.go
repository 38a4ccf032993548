package sqldb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// asTiDB opens an empty database that is taken for TiDB's.
func asTiDB(t *testing.T, rewrites ...string) *sqldb.DB {
	t.Helper()
	dsn, answer := sqldbtest.AsTiDB(t)
	answer(true, rewrites...)
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// What TiDB alone reads as a statement is sent on every connection, and MariaDB takes it for a comment: all other
// tests run on that.
func TestTransactionsOfTiDBArePessimistic(t *testing.T) {
	db := asTiDB(t, "/*T!, tidb_txn_mode = 'pessimistic' */", ", @tidb_txn_mode = 'pessimistic'")
	if !db.TiDB() || sqldbtest.MariaDB(t).TiDB() || sqldbtest.SQLite(t).TiDB() {
		t.Error("which one is TiDB?")
	}
	const ask = "SELECT COALESCE(@tidb_txn_mode, '')"
	var shows, writes string
	if err := db.QueryRowContext(t.Context(), ask).Scan(&shows); err != nil {
		t.Fatal(err)
	}
	if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, ask).Scan(&writes)
	}); err != nil {
		t.Fatal(err)
	}
	if shows != "pessimistic" || writes != "pessimistic" {
		t.Errorf("connections that read: %q, that write: %q", shows, writes)
	}
}

// A proxy that swallows what is pinned may leave the variable empty: the server is TiDB all the same.
func TestTiDBIsKnownByTheVariableAlone(t *testing.T) {
	if db := asTiDB(t, "LIKE 'version'", "LIKE 'init_connect'"); !db.TiDB() {
		t.Error("a variable without a value is none")
	}
}

// The clock of one tidb-server is not the cluster's: a transaction's own time is, and there is none outside of one.
func TestClockOfTiDBIsTheClusters(t *testing.T) {
	db := asTiDB(t)
	for _, function := range []string{
		"CREATE FUNCTION TIDB_CURRENT_TSO() RETURNS BIGINT RETURN IF(@@in_transaction, 42, 0)",
		"CREATE FUNCTION TIDB_PARSE_TSO(tso BIGINT) RETURNS DATETIME(3) " +
			"RETURN IF(tso = 42, NOW(3) + INTERVAL 1 HOUR, NULL)",
	} {
		if _, err := db.Pool().ExecContext(t.Context(), function); err != nil {
			t.Fatal(err)
		}
	}
	clock, err := sqldb.NewClock(t.Context(), db, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if off := clock.Off() + time.Hour; off.Abs() > time.Minute {
		t.Errorf("%s off the cluster's time", off)
	}
}

// What TiDB answers to a transaction that is said to read only, to whoever shows and to whoever decides.
func TestNoTransactionIsSaidToReadOnly(t *testing.T) {
	db, proxy := behindProxy(t)
	proxy.Answer("READ ONLY", 1235, "function READ ONLY has only noop implementation in tidb now", 1<<30)
	read := func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM skus").Scan(new(int))
	}
	if err := errors.Join(db.Snapshot(t.Context(), read), db.Decide(t.Context(), read)); err != nil {
		t.Error(err)
	}
}

// Whose rows are held is found without SKIP LOCKED, which locks nothing on TiDB, and without waiting for any.
func TestHeldRowsAreFound(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		if db.Engine() == sqldb.SQLite {
			return // its one writer holds all or nothing
		}
		all := []string{"a", "b", "c", "d", "e", "f", "g"}
		for _, id := range all {
			put(t, db, id, 1)
		}
		const query = "SELECT sku_id FROM skus /*! FORCE INDEX (PRIMARY) */ WHERE sku_id IN (?) FOR UPDATE"
		held, err := db.Held(t.Context(), query, all)
		if err != nil || len(held) != 0 {
			t.Errorf("nobody holds one: %v %v", held, err)
		}
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			err := tx.UpdateRows(ctx, 2, "UPDATE skus SET available = 2 WHERE sku_id IN ('b', 'f')")
			if err != nil {
				return err
			}
			held, err = db.Held(ctx, query, append(all, "there is none"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(held) != 2 || !held["b"] || !held["f"] {
			t.Errorf("held: %v, b and f are", held)
		}
	})
}
