package sqldbtest

import "go.uber.org/goleak"

// NoLeaks runs the tests of a package, for its TestMain, and fails it when they
// leave goroutines behind. The waiting for the shared server ends with the process.
func NoLeaks(m goleak.TestingM) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("orderd/migrations/sqldb/sqldbtest/servers.(*child).Start.func1"),
		// a service that a test started; it dies with the process
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")) // half a second after a connection was cut
}
