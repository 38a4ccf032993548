package main

import (
	"os"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// suite removes what its tests have built.
type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir) // in the system's folder of temporary files
	}
	return code
}

// A goroutine that stays behind is a connection, a timer or an order's work that nobody ends.
func TestMain(m *testing.M) { sqldbtest.NoLeaks(suite{m}) }
