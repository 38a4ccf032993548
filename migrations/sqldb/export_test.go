package sqldb

import "context"

// For tests.
const (
	DeadAfter = deadAfter
	WriteIdle = writeIdle
)

// ConnectError is what Connect makes of an error of the driver's.
var ConnectError = connectError

// Follows is what a server says that has no variable for it.
func (db *DB) Follows(ctx context.Context) (following, known bool, err error) { return db.follows(ctx) }

// Hosts are those of a DSN.
func Hosts(dsn string) ([]string, error) {
	cfg, err := mysqlConfig(dsn)
	if err != nil {
		return nil, err
	}
	return hostsOf(cfg), nil
}

// ErrReads is what a write or a lock meets in a transaction that only reads.
var ErrReads = errReads

// GTIDsHave and GTIDsBeyond compare two places in MariaDB's logs.
func GTIDsHave(is, place string) bool   { return gtidsOf(is).has(gtidsOf(place)) }
func GTIDsBeyond(is, place string) bool { return gtidsOf(is).beyond(gtidsOf(place)) }
