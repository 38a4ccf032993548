package sqldbtest

import (
	"path/filepath"
	"slices"
	"testing"

	"orderd/migrations/sqldb"
)

// A database that is copied is the one that the migrations make: every table, column, index
// and row of it.
func TestACopyIsWhatTheMigrationsMake(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		made := open(t, "sqlite:"+filepath.Join(t.TempDir(), "made.db"))
		same(t, describeSQLite(t, made), describeSQLite(t, SQLite(t)))
	})
	t.Run("mariadb", func(t *testing.T) {
		made := open(t, MariaDBDSN(t))
		same(t, describeMariaDB(t, made), describeMariaDB(t, MariaDB(t)))
	})
}

func same(t *testing.T, made, copied []string) {
	t.Helper()
	if len(made) < 20 || !slices.Equal(made, copied) {
		t.Errorf("made:   %q\ncopied: %q", made, copied)
	}
}

func describeSQLite(t *testing.T, db *sqldb.DB) []string {
	t.Helper()
	all := texts(t, db, "SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master ORDER BY type, name")
	for _, table := range texts(t, db, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name") {
		all = append(all, texts(t, db, "SELECT '"+table+" ' || COUNT(*) FROM "+table)...)
	}
	return all
}

func describeMariaDB(t *testing.T, db *sqldb.DB) []string {
	t.Helper()
	tables := texts(t, db,
		"SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1")
	var all []string
	for _, table := range tables {
		var create string
		if err := db.QueryRowContext(t.Context(), "SHOW CREATE TABLE "+table).Scan(new(string), &create); err != nil {
			t.Fatal(err)
		}
		all = append(all, create)
		all = append(all, texts(t, db, "SELECT CONCAT('"+table+" ', COUNT(*)) FROM "+table)...)
	}
	return all
}
