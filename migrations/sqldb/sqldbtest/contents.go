package sqldbtest

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
)

// Contents gives every row of every table as text, by table: what must not change is
// the same before and after. Tables of other tests are in other databases; rows are
// sorted, because no engine promises an order.
func Contents(t testing.TB, db *sqldb.DB) map[string][]string {
	t.Helper()
	list := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`
	if db.Engine() == sqldb.MySQL {
		list = `SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()`
	}
	all := map[string][]string{}
	for _, table := range texts(t, db, list) {
		all[table] = texts(t, db, `SELECT * FROM `+table)
	}
	return all
}

// Changed names the tables whose rows differ, sorted. One that was not there before
// counts when it has rows.
func Changed(before, after map[string][]string) []string {
	var names []string
	for table := range after {
		if !slices.Equal(before[table], after[table]) {
			names = append(names, table)
		}
	}
	slices.Sort(names)
	return names
}

// texts gives the rows of a query as sorted text. A row of one column is that value,
// for lists of names; in others each value is quoted, so that where one ends is seen
// and NULL is not the text "NULL".
func texts(t testing.TB, db *sqldb.DB, query string) []string {
	t.Helper()
	rows, err := db.Pool().QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var all []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		cells := make([]string, len(values))
		for i, v := range values {
			if cells[i] = v.String; !v.Valid {
				cells[i] = "NULL"
			} else if len(values) > 1 {
				cells[i] = fmt.Sprintf("%q", v.String)
			}
		}
		all = append(all, strings.Join(cells, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}
