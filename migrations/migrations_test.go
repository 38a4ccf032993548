package migrations_test

import (
	"errors"
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
		"below zero":    `INSERT INTO skus (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at) VALUES ('x', 't', 1, -1, 0, 1, 0, 0)`,
		"free":          `INSERT INTO skus (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at) VALUES ('x', 't', 0, 1, 0, 1, 0, 0)`,
		"deduct adds":   `INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, actor, reason, created_at) VALUES ('o', 'deduct', '', 'x', 1, '', '', 0)`,
		"return takes":  `INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, actor, reason, created_at) VALUES ('o', 'return', 'close', 'x', -1, '', '', 0)`,
		"unknown state": `INSERT INTO orders (order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause, close_reason, close_tries, created_at, expire_at, updated_at) VALUES ('o', 'c', 'r', 'h', 'lost', 1, 1, '', '', '', '', 0, 0, 0, 0)`,
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
	for _, dsn := range []string{"", "postgres:x", "mysql:", "mysql:u:hunter2@tcp(127.0.0.1:1)/", "mysql:u:hunter2@nonsense"} {
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
