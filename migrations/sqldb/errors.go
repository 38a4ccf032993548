package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that InTx and Group return when the database, not the caller, is the reason.
var (
	// ErrUnavailable: the database is away or too slow, and nothing was
	// committed. Come again.
	ErrUnavailable = errors.New("database unavailable")
	// ErrUnknown: a COMMIT was sent, its answer never came, and the database
	// could not be asked again in time. The work is done or not done; a repeat
	// with the same keys finds out. It also matches ErrUnavailable.
	ErrUnknown = fmt.Errorf("outcome of the commit unknown: %w", ErrUnavailable)
	// ErrLocked: another transaction holds a row for longer than one waits for it, and
	// nothing was committed. The database is well: others are served meanwhile, whoever
	// needs that row comes again. It also matches ErrUnavailable.
	ErrLocked = fmt.Errorf("a row is locked by another transaction: %w", ErrUnavailable)
	// ErrLostRace is for the functions that InTx runs: a guarded write found
	// another row than it had read. The transaction is rolled back and run again.
	ErrLostRace = errors.New("a row changed between reading and writing it")
)

// Class sorts database errors by what may be done next.
type Class int

// The classes.
const (
	// ClassOther: an error of ours or of the data; a repeat fails the same way.
	ClassOther Class = iota
	// ClassRetry: the transaction was certainly rolled back; run the whole of it again.
	ClassRetry
	// ClassDown: no usable connection. Before COMMIT nothing happened; at COMMIT it means unknown.
	ClassDown
	// ClassDuplicate: a unique key was there already.
	ClassDuplicate
)

// MySQL error numbers (dev.mysql.com/doc/mysql-errors, mariadb.com/kb/en/mariadb-error-codes).
const (
	mysqlTooManyConns  = 1040
	mysqlShutdown      = 1053
	mysqlTableExists   = 1050
	mysqlColumnExists  = 1060
	mysqlIndexExists   = 1061
	mysqlDupEntry      = 1062
	mysqlNothingToDrop = 1091 // the column or index of a DROP is not there
	mysqlRecordChanged = 1020 // MariaDB with innodb_snapshot_isolation
	mysqlTableFull     = 1114 // the disk, in most cases
	mysqlLockWait      = 1205
	mysqlDeadlock      = 1213
	mysqlReadOnlyOpt   = 1290 // --read-only: a replica, such as an old primary
	mysqlReadOnlyTx    = 1792
	mysqlReadOnlyMode  = 1836
	mysqlUnknownCom    = 1047 // Galera: node not ready
	mysqlGroupConflict = 3101 // group replication: certification failed
	mysqlNoWait        = 3572 // a row locked by another, under NOWAIT
	mysqlConnKilled    = 1927
	// TiDB, docs.pingcap.com/tidb/stable/error-codes: the transaction was rolled
	// back and may be run again.
	tidbRetry1        = 8002
	tidbRetry2        = 8005
	tidbRetry3        = 8022
	tidbSchemaChanged = 8028
	tidbWriteConflict = 9007
)

// Classify tells what may be done after err.
func Classify(err error) Class {
	var my *mysql.MySQLError
	var lite *sqlite.Error
	var network net.Error
	switch {
	case err == nil:
		return ClassOther
	case errors.Is(err, ErrLostRace):
		return ClassRetry
	case errors.As(err, &my):
		return classifyMySQL(my.Number)
	case errors.As(err, &lite):
		return classifySQLite(lite.Code())
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return ClassDown
	}
	return ClassOther
}

// classifyMySQL sorts a server's error number.
func classifyMySQL(number uint16) Class {
	switch number {
	case mysqlDupEntry:
		return ClassDuplicate
	case mysqlDeadlock, mysqlLockWait, mysqlRecordChanged, mysqlGroupConflict, mysqlNoWait,
		tidbRetry1, tidbRetry2, tidbRetry3, tidbSchemaChanged, tidbWriteConflict:
		return ClassRetry
	case mysqlTooManyConns, mysqlShutdown, mysqlReadOnlyOpt, mysqlReadOnlyTx, mysqlReadOnlyMode, mysqlUnknownCom,
		mysqlTableFull, mysqlConnKilled:
		return ClassDown
	}
	return ClassOther
}

// classifySQLite sorts a result code, sqlite.org/rescode.html.
func classifySQLite(code int) Class {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return ClassDuplicate
	}
	switch code & 0xff { // the extended codes keep the primary one in the low byte
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ClassRetry
	case sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		return ClassDown
	}
	return ClassOther
}

// isLockWait reports that a lock of somebody else was not waited for any longer.
// SQLite's one lock is that of the whole file: there nobody is a neighbour.
func isLockWait(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && (my.Number == mysqlLockWait || my.Number == mysqlNoWait)
}

// IsDuplicate reports that a unique key refused a row.
func IsDuplicate(err error) bool { return err != nil && Classify(err) == ClassDuplicate }

// unavailable marks an error as ErrUnavailable.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// Wrap says what could not be done, and marks a database that is away with
// ErrUnavailable: InTx does so by itself, a query outside does not.
func Wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if Classify(err) == ClassDown && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
