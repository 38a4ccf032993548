package sqldb_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// Whoever waits for what others commit hears of a transaction once, of all that it told, when it can be read; and of
// one that was undone, nothing.
func TestCommitIsHeardOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var heard [][]string
		stop := db.OnCommit(func(what []string) { heard = append(heard, slices.Clone(what)) })
		undone := errors.New("undone")
		write := func(end error, what ...string) {
			t.Helper()
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				for _, w := range what {
					tx.Tells(w)
				}
				if len(heard) > 0 && slices.Equal(heard[len(heard)-1], what) {
					t.Error("heard before the commit")
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Fatal(err)
			}
		}
		write(nil, "a", "b", "a")
		write(undone, "c")
		write(nil)
		write(nil, "d")
		stop()
		write(nil, "e")
		if len(heard) != 2 || !slices.Equal(heard[0], []string{"a", "b"}) || !slices.Equal(heard[1], []string{"d"}) {
			t.Errorf("heard %q", heard)
		}
	})
}
