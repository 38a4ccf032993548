package sqldb_test

import (
	"testing"

	"orderd/migrations/sqldb"
)

// A number says nothing without the server that wrote it: after a fail-over there are two of it.
func TestPlacesInMariaDBsLogs(t *testing.T) {
	for _, c := range []struct {
		is, place   string
		has, beyond bool
	}{
		{"0-1-5", "0-1-5", true, false},
		{"0-1-4", "0-1-5", false, false},
		{"0-1-6", "0-1-5", true, true},
		{"0-1-10", "0-1-9", true, true}, // by number, not by text
		{"0-2-5", "0-1-5", false, true},
		{"0-2-4", "0-1-5", false, false},
		{"0-2-6", "0-1-5", false, true},
		{"", "0-1-5", false, false},
		{"0-1-5", "0-1-5,1-1-2", false, false},
		{"0-1-5,1-1-2", "0-1-5,1-1-2", true, false},
		{"0-1-5,1-1-2", "0-1-5", true, false}, // it follows another primary too
	} {
		if has, beyond := sqldb.GTIDsHave(c.is, c.place), sqldb.GTIDsBeyond(c.is, c.place); has != c.has ||
			beyond != c.beyond {
			t.Errorf("at %q, asked for %q: has %t, beyond %t", c.is, c.place, has, beyond)
		}
	}
}
