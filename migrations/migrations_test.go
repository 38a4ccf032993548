package migrations_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// Without it a migration that cannot be taken back, or only once applied, would ship.
func TestUpDownUp(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		if err := migrations.Check(ctx, db); err != nil {
			t.Fatal(err)
		}
		all, err := migrations.Status(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		for range all {
			if _, err := migrations.Down(ctx, db); err != nil {
				t.Fatal(err)
			}
		}
		if err := migrations.Check(ctx, db); !errors.Is(err, migrations.ErrSchemaBehind) {
			t.Fatalf("an empty database passes as up to date: %v", err)
		}
		if applied, err := migrations.Up(ctx, db); err != nil || len(applied) != len(all) {
			t.Fatalf("applied %d of %d: %v", len(applied), len(all), err)
		}
	})
}

// Without the lock two processes that start at once fail on "table exists".
func TestConcurrentUp(t *testing.T) {
	dsn := sqldbtest.MariaDBDSN(t)
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() {
			db, err := sqldb.Open(t.Context(), dsn)
			if err != nil {
				errs[i] = err
				return
			}
			defer db.Close()
			_, errs[i] = migrations.Up(t.Context(), db)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A migration killed half-way leaves some of its statements behind, because MySQL commits each: the next start must
// go on with it and end in the very same schema, not stop on "table exists" for ever (reliability T9).
func TestKilledHalfWay(t *testing.T) {
	whole := schema(t, sqldbtest.MariaDB(t))
	files, err := filepath.Glob("sql/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for i, file := range files {
		statements := upOf(t, file)
		for _, k := range []int{1, len(statements) / 2, len(statements) - 1, len(statements)} {
			t.Run(filepath.Base(file), func(t *testing.T) { // its connections end with it
				killedHalfWay(t, file, len(files)-i, k, whole)
			})
		}
	}
}

// killedHalfWay takes migrations back, one of which is the last, runs k statements of that one, brings the schema up
// and compares it with the whole one.
func killedHalfWay(t *testing.T, file string, back, k int, whole string) {
	t.Helper()
	statements := upOf(t, file)
	db := sqldbtest.MariaDB(t)
	for range back {
		if _, err := migrations.Down(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(file, "/00001_") { // what the first migration leaves behind when it is killed
		statements = append([]string{"CREATE TABLE " + migrations.BegunTable +
			" (at BIGINT NOT NULL PRIMARY KEY)"}, statements...)
		k++
	}
	for _, statement := range statements[:k] {
		if _, err := db.Pool().ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if _, err := migrations.Up(t.Context(), db); err != nil {
		t.Errorf("killed after %d of %d statements: %v", k, len(statements), err)
		return
	}
	if err := migrations.Check(t.Context(), db); err != nil {
		t.Error(err)
	}
	if got := schema(t, db); got != whole {
		t.Errorf("killed after %d of %d statements: another schema:\n%s", k, len(statements), got)
	}
}

// A database in which somebody else has a table of one of our names must be refused, not used.
func TestForeignTableIsRefused(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.MariaDBDSN(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Pool().ExecContext(t.Context(), "CREATE TABLE order_items (id INT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Status(t.Context(), db); err != nil { // makes goose's own table
		t.Fatal(err)
	}
	for range 3 {
		if _, err := migrations.Up(t.Context(), db); err == nil {
			t.Error("migrated around a foreign table")
		}
	}
}

// upOf gives the statements of a migration.
func upOf(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	up, _, _ := strings.Cut(string(text), "-- +goose Down")
	var statements []string
	for _, s := range strings.Split(up, ";\n") {
		if strings.TrimSpace(s) != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// schema gives all columns and indexes of a database in words.
func schema(t *testing.T, db *sqldb.DB) string {
	t.Helper()
	var b strings.Builder
	for _, query := range []string{`SELECT CONCAT_WS(' ', table_name, column_name, column_type, is_nullable,
  IFNULL(column_default, ''))
FROM information_schema.columns
WHERE table_schema = DATABASE()
ORDER BY table_name, column_name`, `SELECT CONCAT_WS(' ', table_name, index_name, seq_in_index, column_name, non_unique)
FROM information_schema.statistics
WHERE table_schema = DATABASE()
ORDER BY table_name, index_name, seq_in_index`} {
		err := sqldb.Each(t.Context(), db, query, nil, func(rows *sql.Rows) error {
			var line string
			err := rows.Scan(&line)
			b.WriteString(line + "\n")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// MySQL compares keys without case by default: two idempotency keys would be one.
func TestKeysAreCaseSensitive(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for _, id := range []string{"a", "A"} {
			if _, err := db.Pool().ExecContext(t.Context(), `INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
VALUES (?, 't', 1, 0, 0, 1, 0, 0)`, id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The CHECKs are the second line of defence: without them a wrong statement could sell below zero.
func TestChecksFire(t *testing.T) {
	bad := map[string]string{
		"below zero": `INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
VALUES ('x', 't', 1, -1, 0, 1, 0, 0)`,
		"free": `INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
VALUES ('x', 't', 0, 1, 0, 1, 0, 0)`,
		"deduct adds": `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, actor, reason, created_at)
VALUES ('o', 'deduct', '', 'x', 1, '', '', 0)`,
		"return takes": `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, actor, reason, created_at)
VALUES ('o', 'return', 'close', 'x', -1, '', '', 0)`,
		"unknown state": `INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause,
  close_reason, close_tries, created_at, expire_at, updated_at)
VALUES ('o', 'c', 'r', 'h', 'lost', 1, 1, '', '', '', '', 0, 0, 0, 0)`,
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for name, statement := range bad {
			if _, err := db.Pool().ExecContext(t.Context(), statement); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}

// A wrong DSN must say what is allowed and never show the password.
func TestBadDSN(t *testing.T) {
	for _, dsn := range []string{"", "postgres:x", "mysql:", "mysql:u:hunter2@tcp(127.0.0.1:1)/",
		"mysql:u:hunter2@nonsense"} {
		_, err := sqldb.Open(t.Context(), dsn)
		if !errors.Is(err, sqldb.ErrDSN) {
			t.Errorf("%q: %v", dsn, err)
		}
	}
	_, err := sqldb.Open(t.Context(), "mysql:u:hunter2@tcp(127.0.0.1:1)/db")
	if !errors.Is(err, sqldb.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("no server: %v", err)
	}
	if _, err := sqldb.Open(t.Context(), "sqlite:"+t.TempDir()); err == nil {
		t.Error("a folder was opened as a database")
	}
	db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "new", "x.db"))
	if err != nil {
		t.Fatalf("a missing folder is made: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// Old and new programs run side by side during a deploy: what the one before schema 5 says to the database must work
// on it. It forces an index by name, and without that name every placement would fail.
func TestProgramBeforeSchema5(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for _, query := range []string{
			"SELECT customer_id, COUNT(*), MIN(due_at) FROM orders /*! FORCE INDEX (ix_orders_open) */ WHERE " +
				"customer_id IN ('c') AND due_at > 0 GROUP BY customer_id",
			"SELECT order_no, state, version, due_at FROM orders WHERE due_at >= 1 AND due_at <= 2 AND (due_at > 1 " +
				"OR order_no > '') ORDER BY due_at, order_no LIMIT 500",
			"SELECT state, COUNT(*), SUM(CASE WHEN due_at < 5 THEN 1 ELSE 0 END), MIN(due_at) FROM orders WHERE " +
				"due_at > 0 GROUP BY state",
		} {
			if err := sqldb.Each(t.Context(), db, query, nil, func(*sql.Rows) error { return nil }); err != nil {
				t.Errorf("%s: %v", query, err)
			}
		}
	})
}

// TiDB makes tables without their CHECK constraints, unless it was told to keep them before: what nobody notices until
// a row is wrong. Nothing is made then, and whoever asks is told what to do first.
func TestTablesAreNotMadeWithoutTheirChecks(t *testing.T) {
	dsn, answer := sqldbtest.AsTiDB(t)
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	answer(false)
	if _, err := migrations.Up(t.Context(), db); !errors.Is(err, sqldb.ErrChecksOff) ||
		!strings.Contains(err.Error(), "SET GLOBAL tidb_enable_check_constraint = ON") {
		t.Errorf("checks are off: %v", err)
	}
	tables := 0
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*)
FROM information_schema.tables
WHERE table_schema = DATABASE()`).Scan(&tables); err != nil || tables > 0 {
		t.Errorf("%d tables were made, %v", tables, err)
	}
	answer(true)
	if applied, err := migrations.Up(t.Context(), db); err != nil || len(applied) == 0 {
		t.Errorf("checks are on: %d applied, %v", len(applied), err)
	}
	answer(false) // nothing is missing: serve --auto-migrate starts
	if applied, err := migrations.Up(t.Context(), db); err != nil || len(applied) > 0 {
		t.Errorf("nothing is missing: %d applied, %v", len(applied), err)
	}
}
