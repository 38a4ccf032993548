package operators_test

import (
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

// When a token was last used is for whoever asks which of them can be revoked. It must cost a shop's requests nothing:
// one write a minute, whatever they are and however many processes answer them, and none of them is refused for it.
func TestUsesAreNotedOnceAMinute(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		if _, err := db.Pool().ExecContext(t.Context(), `INSERT INTO shop_keys
  (name, shop, scopes, sha256, created_by, created_at)
VALUES ('mine/1', 'mine', 'place', 'hash', 'cli', 0)`); err != nil {
			t.Fatal(err)
		}
		begin := time.UnixMilli(1_800_000_000_000).UTC()
		now := begin
		update := "UPDATE shop_keys SET used_at = ? WHERE sha256 = ? AND used_at < ?"
		one := operators.NewUses(db, func() time.Time { return now }, update)
		other := operators.NewUses(db, func() time.Time { return now }, update)
		used := func() (after time.Duration) {
			t.Helper()
			var at int64
			if err := db.Pool().QueryRowContext(t.Context(), "SELECT used_at FROM shop_keys").Scan(&at); err != nil {
				t.Fatal(err)
			}
			return sqldb.FromMillis(at).Sub(begin)
		}
		for _, step := range []struct {
			at   time.Duration
			by   *operators.Uses
			want time.Duration
		}{{0, one, 0}, {time.Second, one, 0}, {59 * time.Second, one, 0}, {59 * time.Second, other, 0},
			{61 * time.Second, one, 61 * time.Second}, {62 * time.Second, other, 61 * time.Second},
			{122 * time.Second, other, 122 * time.Second}, {10 * time.Second, one, 122 * time.Second}} {
			now = begin.Add(step.at)
			step.by.Note(t.Context(), "hash")
			step.by.Note(t.Context(), "nobody's")
			if got := used(); got != step.want {
				t.Errorf("at %s it was used at %s, want %s", step.at, got, step.want)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		now = begin.Add(time.Hour)
		one.Note(t.Context(), strings.Repeat("x", 64)) // a database that is away
	})
}
