package sqldbtest

import (
	"database/sql"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
)

// ReadsByIndex fails the test when the database would read the whole of a table, or of an index,
// for a query. It gives how many steps the query has. What an engine plans for tables of a few
// rows says nothing: the caller puts in more.
func ReadsByIndex(t *testing.T, db *sqldb.DB, query string, args ...any) (steps int) {
	t.Helper()
	NotOnTiDB(t, db, "its plans are written otherwise")
	explain := "EXPLAIN "
	if db.Engine() == sqldb.SQLite {
		explain = "EXPLAIN QUERY PLAN "
	}
	rows, err := db.QueryContext(t.Context(), explain+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for ; rows.Next(); steps++ {
		values, into := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i, n := range names {
			v := values[i].String
			if (n == "type" && (v == "ALL" || v == "index")) || (n == "detail" && strings.HasPrefix(v, "SCAN")) {
				t.Errorf("the whole of a table is read: %v", values)
			}
		}
	}
	if rows.Err() != nil {
		t.Error(rows.Err())
	}
	return steps
}

// ReadsPageBy fails the test unless the first step of a query is by the index of this name, and
// it gives them in their order. Few rows may be sorted after they were read. Nothing is read whole.
// "PRIMARY" is the primary key on every engine.
func ReadsPageBy(t *testing.T, db *sqldb.DB, index string, few bool, query string, args ...any) {
	t.Helper()
	ReadsByIndex(t, db, query, args...)
	steps, err := db.Explain(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(steps, "\n")
	if db.Engine() == sqldb.SQLite && index == "PRIMARY" {
		index = "sqlite_autoindex_"
	}
	if !strings.Contains(steps[0], index) {
		t.Errorf("not read by %s:\n%s", index, plan)
	}
	if !few && (strings.Contains(plan, "filesort") || strings.Contains(plan, "TEMP B-TREE")) {
		t.Errorf("sorted after it was read:\n%s", plan)
	}
}
