package migrations_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// A key that a new migration adds and the list lacks would not be missed when it is dropped.
func TestGuardsAreThoseOfTheMigrations(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		err := db.Snapshot(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			keys, err := migrations.FindGuards(ctx, tx, db.Engine())
			if err != nil {
				return err
			}
			bounds, err := migrations.FindBounds(ctx, tx, db.Engine())
			// the migration runner's own
			maps.DeleteFunc(keys, func(name, _ string) bool { return strings.HasPrefix(name, "goose_") })
			if !maps.Equal(keys, migrations.Guards) {
				t.Errorf("there are %v, listed are %v", keys, migrations.Guards)
			}
			if got := slices.Sorted(maps.Keys(bounds)); !slices.Equal(got,
				slices.Sorted(slices.Values(migrations.Bounds))) {
				t.Errorf("there are %v, listed are %v", got, migrations.Bounds)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
