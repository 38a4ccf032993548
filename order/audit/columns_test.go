package audit_test

import (
	"database/sql"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/audit"
)

// columnsOf gives every column of the schema as TABLE.COLUMN. The table of goose is not ours.
func columnsOf(t *testing.T, db *sqldb.DB) []string {
	t.Helper()
	query := `SELECT table_name, column_name
FROM information_schema.columns
WHERE table_schema = DATABASE()`
	if db.Engine() == sqldb.SQLite {
		query = `SELECT m.name, c.name
FROM sqlite_master m
JOIN pragma_table_info(m.name) c
WHERE m.type = 'table'`
	}
	var all []string
	err := sqldb.Each(t.Context(), db, query, nil, func(rows *sql.Rows) error {
		var table, column string
		err := rows.Scan(&table, &column)
		if !strings.HasPrefix(table, "goose") && !strings.HasPrefix(table, "sqlite_") {
			all = append(all, table+"."+column)
		}
		return err
	})
	if err != nil || len(all) < 100 {
		t.Fatal(len(all), err)
	}
	slices.Sort(all)
	return all
}

// A column that no check looks at can be changed by a hand, and the service believes it: whoever adds one says in
// docs/verify.md which check holds it, or why none is needed.
func TestEveryColumnHasItsCheck(t *testing.T) {
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "## Every column\n")
	table, _, also := strings.Cut(table, "\n## ")
	if !found || !also {
		t.Fatal("no chapter on columns")
	}
	ids := map[string]bool{"wechat.paid_is_held": true, "wechat.refunds_agree": true}
	for _, id := range audit.CheckIDs() {
		ids[id] = true
	}
	held := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| (.*) \\|$").FindAllStringSubmatch(table, -1) {
		column, by := row[1], row[2]
		checks := regexp.MustCompile("`([a-z]+\\.[a-z_]+)`").FindAllStringSubmatch(by, -1)
		for _, c := range checks {
			if !ids[c[1]] {
				t.Errorf("%s is held by %s, which is no check", column, c[1])
			}
		}
		if none := strings.HasPrefix(by, "none: "); none == (len(checks) > 0) {
			t.Errorf("%s needs its checks, or why there are none: %s", column, by)
		}
		if held[column] {
			t.Errorf("%s is there twice", column)
		}
		held[column] = true
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		there := columnsOf(t, db)
		for _, c := range there {
			if !held[c] {
				t.Errorf("docs/verify.md does not say which check holds %s, or why none does", c)
			}
		}
		for c := range held {
			if !slices.Contains(there, c) {
				t.Errorf("docs/verify.md says what holds %s, which does not exist", c)
			}
		}
	})
}
