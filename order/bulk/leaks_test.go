package bulk_test

import (
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// A goroutine that stays behind is a connection or a transaction that nobody ends.
func TestMain(m *testing.M) { sqldbtest.NoLeaks(m) }
