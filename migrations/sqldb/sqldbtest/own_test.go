package sqldbtest

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
)

// A server of one's own is one more engine: each test has a database of its own there, which is gone afterwards.
func TestAServerOfOnesOwnIsAnEngine(t *testing.T) {
	startShared(t)
	t.Setenv(ownVariable, strings.TrimSuffix(shared.maria.TCPDSN(shared.maria.Addr, "x"), "/x"))
	var names []string
	t.Run("engines", func(t *testing.T) {
		engines := 0
		Each(t, func(t *testing.T, db *sqldb.DB) {
			if engines++; engines < 3 {
				return
			}
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return sqldb.Each(ctx, tx, "SELECT DATABASE() FROM goose_db_version LIMIT 1", nil,
					func(rows *sql.Rows) error {
						names = append(names, "")
						return rows.Scan(&names[len(names)-1])
					})
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
	if len(names) != 1 || !strings.HasPrefix(names[0], "testsoforderd_") {
		t.Fatalf("databases of its own: %q", names)
	}
	if left := texts(t, MariaDB(t), "SHOW DATABASES"); slices.Contains(left, names[0]) || len(left) < 3 {
		t.Errorf("after the test: %q", left)
	}
	for _, bad := range []string{"sqlite:x", "root@tcp(h:1)/", "mysql:root@tcp(h:1)/shop"} {
		if _, err := ownServer(bad); err == nil || !strings.Contains(err.Error(), ownVariable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
