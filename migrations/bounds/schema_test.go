package bounds_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// columnsOf gives the declared type of each column of the schema, as TABLE.COLUMN, in lower case.
func columnsOf(ctx context.Context, tx *sqldb.Tx) (map[string]string, error) {
	query := `SELECT table_name, column_name, column_type
FROM information_schema.columns
WHERE table_schema = DATABASE()`
	if tx.Engine() == sqldb.SQLite {
		query = `SELECT t.name, c.name, c.type
FROM sqlite_master t
JOIN pragma_table_info(t.name) c
WHERE t.type = 'table'`
	}
	columns := map[string]string{}
	err := sqldb.Each(ctx, tx, query, nil, func(rows *sql.Rows) error {
		var table, column, kind string
		err := rows.Scan(&table, &column, &kind)
		if !strings.HasPrefix(table, "goose_") && !strings.HasPrefix(table, "sqlite_") {
			columns[table+"."+column] = strings.ToLower(kind)
		}
		return err
	})
	return columns, err
}

// A value that passes every decoder and fits no column is a 500 for whoever sent it, and one that is cut without a
// word on an engine that cuts. MySQL counts characters: a bound in bytes is at most as many.
func TestEveryColumnHoldsItsField(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var columns map[string]string
		err := db.Snapshot(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			columns, err = columnsOf(ctx, tx)
			return err
		})
		if err != nil || len(columns) < 100 {
			t.Fatalf("%d columns: %v", len(columns), err)
		}
		fieldOf := map[string]bool{}
		for _, f := range bounds.Fields {
			for _, name := range strings.Fields(f.Columns) {
				fieldOf[name] = true
				var width int
				if _, err := fmt.Sscanf(columns[name], "varchar(%d)", &width); err != nil {
					t.Errorf("%s is to be in %s, which is %q", f.Name, name, columns[name])
				} else if width < f.Most {
					t.Errorf("%s may have %d %s, and %s holds %d characters", f.Name, f.Most, f.Unit, name, width)
				}
			}
		}
		for _, n := range bounds.Numbers {
			for _, name := range strings.Fields(n.Columns) {
				if !strings.HasPrefix(columns[name], "bigint") {
					t.Errorf("%s is to be in %s, which is %q", n.Name, name, columns[name])
				}
			}
		}
		ownOf := map[string]bool{}
		for _, o := range bounds.Own {
			for _, name := range strings.Fields(o.Columns) {
				if ownOf[name] = true; columns[name] == "" {
					t.Errorf("%s is gone", name)
				}
			}
		}
		for name, kind := range columns {
			number := strings.HasPrefix(kind, "bigint") || strings.HasPrefix(kind, "smallint") || kind == "integer"
			if own := ownOf[name]; !number && own == fieldOf[name] {
				t.Errorf("%s, %s, is the column of a field: %t; of the service's own: %t; it must be one of them", name,
					kind, fieldOf[name], own)
			}
		}
	})
}
