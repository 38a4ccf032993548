package sqldb

import (
	"context"
	"database/sql"
	"strings"
)

// Explain gives how the database would run a query, a line for each step in the engine's own
// words: the table, the index by which it is read, and what is done beside, such as sorting.
func (db *DB) Explain(ctx context.Context, query string, args ...any) (steps []string, err error) {
	explain, wanted := "EXPLAIN ", map[string]bool{"table": true, "type": true, "key": true, "Extra": true}
	if db.engine == SQLite {
		explain, wanted = "EXPLAIN QUERY PLAN ", map[string]bool{"detail": true}
	}
	err = Each(ctx, db, explain+query, args, func(rows *sql.Rows) error {
		names, err := rows.Columns()
		if err != nil {
			return err
		}
		values, into := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		var words []string
		for i, name := range names {
			if wanted[name] && values[i].String != "" {
				words = append(words, values[i].String)
			}
		}
		steps = append(steps, strings.Join(words, " "))
		return nil
	})
	return steps, err
}
