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
