package sqldbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orderd/migrations"
	"orderd/migrations/sqldb"
)

// Templates are what a fresh, migrated database is copied from: the migrations run once
// in a test process, because every step of them (a file each, parsed anew, and a commit)
// cost a test more than most of what it asks.
var templates struct {
	sqliteOnce, mariaOnce sync.Once
	sqlite                string // the file
	maria                 []string
	sqliteErr, mariaErr   error
}

// copySQLite puts a migrated database into file.
func copySQLite(t testing.TB, file string) {
	t.Helper()
	templates.sqliteOnce.Do(func() {
		dir := processDir("template")
		if templates.sqliteErr = os.MkdirAll(dir, 0o700); templates.sqliteErr != nil {
			return
		}
		templates.sqlite = filepath.Join(dir, "orderd.db")
		templates.sqliteErr = migrate("sqlite:" + templates.sqlite) // closed: all of it is in the one file
	})
	if templates.sqliteErr != nil {
		t.Fatal(templates.sqliteErr)
	}
	data, err := os.ReadFile(templates.sqlite)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// migratedMariaDB makes a migrated database on the shared server and gives its name.
func migratedMariaDB(t testing.TB) string {
	t.Helper()
	name := emptyMariaDB(t)
	templates.mariaOnce.Do(func() { templates.maria, templates.mariaErr = mariaTemplate(context.Background()) })
	if templates.mariaErr != nil {
		t.Fatal(templates.mariaErr)
	}
	db, err := sql.Open("mysql", strings.TrimPrefix(shared.maria.DSN(name), "mysql:")+"?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), strings.Join(templates.maria, ";\n")); err != nil {
		t.Fatalf("copy the migrated database: %v", err)
	}
	return name
}

// mariaTemplate migrates a database of the shared server and gives the statements that
// make another like it: its tables as the server tells of them, and their rows.
func mariaTemplate(ctx context.Context) (statements []string, err error) {
	const name = "migrated"
	if err := shared.maria.Create(ctx, name); err != nil {
		return nil, err
	}
	if err := migrate(shared.maria.DSN(name)); err != nil {
		return nil, err
	}
	db, err := sql.Open("mysql", strings.TrimPrefix(shared.maria.DSN(name), "mysql:"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tables, err := tablesOf(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		var create string
		if err := db.QueryRowContext(ctx, "SHOW CREATE TABLE "+table).Scan(new(string), &create); err != nil {
			return nil, fmt.Errorf("table %s: %w", table, err)
		}
		statements = append(statements, create,
			"INSERT INTO "+table+" SELECT * FROM "+name+"."+table)
	}
	return statements, nil
}

// tablesOf gives the names of the tables of a database. A view, a trigger or a routine in
// it is an error: the copy would lack it.
func tablesOf(ctx context.Context, db *sql.DB) (names []string, err error) {
	var others int
	if err := db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM information_schema.views
    WHERE table_schema = DATABASE())
  + (SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE())
  + (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = DATABASE())`).Scan(&others); err != nil {
		return nil, err
	}
	if others > 0 {
		return nil, fmt.Errorf("the schema has %d views, triggers or routines: teach the template to copy them", others)
	}
	rows, err := db.QueryContext(ctx, "SHOW TABLES")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// migrate brings a database to the newest schema.
func migrate(dsn string) error {
	db, err := sqldb.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	if _, err = migrations.Up(context.Background(), db); err != nil {
		_ = db.Close()
		return err
	}
	return db.Close()
}
