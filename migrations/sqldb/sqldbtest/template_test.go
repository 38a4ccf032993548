package sqldbtest

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pressly/goose/v3"

	"orderd/migrations/sqldb"
)

// A database that is copied is the one that the migrations make: every table, column, index
// and row of it. goose's own rows say when it was migrated, and are only counted.
func TestACopyIsWhatTheMigrationsMake(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		same(t, open(t, "sqlite:"+filepath.Join(t.TempDir(), "made.db")), SQLite(t))
	})
	t.Run("mariadb", func(t *testing.T) { same(t, open(t, MariaDBDSN(t)), MariaDB(t)) })
}

func same(t *testing.T, made, copied *sqldb.DB) {
	t.Helper()
	rows, copies := Contents(t, made), Contents(t, copied)
	if is, want := schemaOf(t, copied, copies), schemaOf(t, made, rows); len(want) < 20 || !slices.Equal(is, want) {
		t.Errorf("made:   %q\ncopied: %q", want, is)
	}
	if is, want := len(copies[goose.DefaultTablename]), len(rows[goose.DefaultTablename]); is != want || want == 0 {
		t.Errorf("%d migrations are noted, want %d", is, want)
	}
	for _, own := range []string{goose.DefaultTablename, "goose_lock"} {
		delete(rows, own)
		delete(copies, own)
	}
	if changed := Changed(rows, copies); len(changed) > 0 || len(rows) != len(copies) {
		t.Errorf("rows differ in %v", changed)
	}
}

// schemaOf gives the statements that make a database's tables and indexes.
func schemaOf(t *testing.T, db *sqldb.DB, tables map[string][]string) []string {
	t.Helper()
	if db.Engine() == sqldb.SQLite {
		return texts(t, db, "SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master")
	}
	var all []string
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		all = append(all, texts(t, db, "SHOW CREATE TABLE "+table)...)
	}
	return all
}
