package audit_test

import (
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// A goroutine that stays behind is a connection, a timer or an order's work that nobody ends.
func TestMain(m *testing.M) { sqldbtest.NoLeaks(m) }
