package sqldb

// For tests.
const (
	DeadAfter = deadAfter
	WriteIdle = writeIdle
)

// ConnectError is what Connect makes of an error of the driver's.
var ConnectError = connectError
