package sqldb

// For tests.
const (
	DeadAfter = deadAfter
	WriteIdle = writeIdle
)
