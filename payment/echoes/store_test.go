package echoes_test

import (
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment"
	"orderd/payment/echoes"
)

// What doctor looks for is there once, on every engine; what is nobody's question is not kept, and nothing is for long.
func TestWhatIsHeardAndKept(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		now := time.UnixMilli(1_800_000_000_000)
		s := echoes.New(db, func() time.Time { return now })
		count := func(message string, want int) {
			t.Helper()
			if n, err := s.Count(t.Context(), message); err != nil || n != want {
				t.Errorf("%q: %d rows (%v), want %d", message, n, err, want)
			}
		}
		ours, other := strings.Repeat("A", 26), strings.Repeat("B", 26)
		for _, e := range []payment.Echo{{ID: "n-1", Message: ours}, {ID: "n-1", Message: ours},
			{ID: "n-2", Message: "hello, a test by hand"}, {ID: "", Message: ours}, {ID: "n-3"}} {
			if err := s.Heard(t.Context(), e); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
		count(ours, 1)
		count(other, 0)
		count("hello, a test by hand", 0)
		count("", 1)
		now = now.Add(7*24*time.Hour + time.Millisecond)
		if err := s.Heard(t.Context(), payment.Echo{ID: "n-4", Message: other}); err != nil {
			t.Fatal(err)
		}
		count(ours, 0)
		count("", 0)
		count(other, 1)
	})
}
