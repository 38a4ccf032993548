package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

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
	// ErrRefused: the database is there and refuses what everybody needs, for want of a
	// right, a table, room or time: nothing was committed, and a person has to act
	// (Advice). A repeat finds the same until then. It also matches ErrUnavailable.
	ErrRefused = fmt.Errorf("the database refuses: %w", ErrUnavailable)
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
	// ClassRefused: whoever does the same meets the same, until a person acts. It is the
	// database's error and never the row's.
	ClassRefused
)

// MySQL error numbers with a name here. The others are in serverErrors.
const (
	mysqlTableExists   = 1050
	mysqlColumnExists  = 1060
	mysqlIndexExists   = 1061
	mysqlDupEntry      = 1062
	mysqlNothingToDrop = 1091 // the column or index of a DROP is not there
	mysqlUnknownError  = 1105 // no number of its own: see unnumbered
	mysqlLockWait      = 1205
	mysqlNoWait        = 3572 // a row locked by another, under NOWAIT; MariaDB says 1205
)

// What a person does about an error that waiting does not cure.
const (
	adviseRights  = "give orderd's user the rights of docs/grants.sql, then see 'orderd doctor'"
	adviseSchema  = "is this the right database? Then 'orderd migrate up'"
	adviseTime    = "lift the limit on a statement's time for orderd's user (max_statement_time, max_execution_time)"
	adviseKilled  = "find who ends orderd's statements: KILL QUERY, a watchdog, a proxy's time limit"
	adviseConns   = "raise max_connections, or the limits of orderd's user"
	adviseDisk    = "free or add disk for the database"
	adviseReplica = "point ORDERD_DSN at the server that writes"
	adviseRepair  = "the database's files are damaged: see its log, restore a backup, then 'orderd verify'"
	adviseServer  = "see the log of the database server"
	adviseMemory  = "give the database server more memory, or a statement more of it (tidb_mem_quota_query)"
)

// serverError says what an error number of a server means for us.
type serverError struct {
	class  Class
	advice string // "" when waiting cures it
}

// serverErrors has every error of a server that is not of our statement or its data.
// Sources: dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html,
// mariadb.com/kb/en/mariadb-error-code-reference, and of the 8000s and 9000s
// docs.pingcap.com/tidb/stable/error-codes. The names are those of MySQL.
var serverErrors = map[uint16]serverError{
	mysqlDupEntry: {class: ClassDuplicate},

	// The transaction was rolled back by the server, or its statement was, and it may be run again.
	1020:          {class: ClassRetry}, // ER_CHECKREAD: MariaDB with innodb_snapshot_isolation
	mysqlLockWait: {class: ClassRetry}, // ER_LOCK_WAIT_TIMEOUT
	1213:          {class: ClassRetry}, // ER_LOCK_DEADLOCK
	1412:          {class: ClassRetry}, // ER_TABLE_DEF_CHANGED: after a migration
	1615:          {class: ClassRetry}, // ER_NEED_REPREPARE
	1637:          {class: ClassRetry}, // ER_TOO_MANY_CONCURRENT_TRXS
	3101:          {class: ClassRetry}, // ER_TRANSACTION_ROLLBACK_DURING_COMMIT: group replication
	mysqlNoWait:   {class: ClassRetry}, // ER_LOCK_NOWAIT
	8002:          {class: ClassRetry}, // TiDB: SELECT FOR UPDATE met another's write
	8005:          {class: ClassRetry}, // TiDB: write conflict
	8022:          {class: ClassRetry}, // TiDB: the commit failed and was rolled back
	8028:          {class: ClassRetry}, // TiDB: the schema changed meanwhile
	9007:          {class: ClassRetry}, // TiDB: write conflict at TiKV

	// The server, or the way to it, is away or about to be.
	1047: {class: ClassDown}, // ER_UNKNOWN_COM_ERROR: a Galera node that is not ready
	1053: {class: ClassDown}, // ER_SERVER_SHUTDOWN
	1079: {class: ClassDown}, // ER_SHUTDOWN_COMPLETE
	1080: {class: ClassDown}, // ER_FORCING_CLOSE
	1152: {class: ClassDown}, // ER_ABORTING_CONNECTION
	1158: {class: ClassDown}, // ER_NET_READ_ERROR
	1159: {class: ClassDown}, // ER_NET_READ_INTERRUPTED
	1160: {class: ClassDown}, // ER_NET_ERROR_ON_WRITE
	1161: {class: ClassDown}, // ER_NET_WRITE_INTERRUPTED
	1184: {class: ClassDown}, // ER_NEW_ABORTING_CONNECTION
	1927: {class: ClassDown}, // MariaDB: ER_CONNECTION_KILLED
	3032: {class: ClassDown}, // ER_SERVER_OFFLINE_MODE
	3168: {class: ClassDown}, // ER_SERVER_ISNT_AVAILABLE
	3169: {class: ClassDown}, // ER_SESSION_WAS_KILLED
	4031: {class: ClassDown}, // ER_CLIENT_INTERACTION_TIMEOUT: wait_timeout
	8027: {class: ClassDown}, // TiDB: this server lost touch with the schema's leader
	8229: {class: ClassDown}, // TiDB: the transaction outlived its locks (max-txn-ttl)
	9001: {class: ClassDown}, // TiDB: PD does not answer
	9002: {class: ClassDown}, // TiDB: TiKV does not answer
	9003: {class: ClassDown}, // TiDB: TiKV is busy
	9004: {class: ClassDown}, // TiDB: too many locks to resolve
	9005: {class: ClassDown}, // TiDB: a region has no leader
	9008: {class: ClassDown}, // TiDB: too many requests at one TiKV
	9010: {class: ClassDown}, // TiDB: TiKV calls the command stale
	9011: {class: ClassDown}, // TiDB: a new leader of a region is not ready

	// It may pass by itself, and if it stays a person has to know.
	1040: {ClassDown, adviseConns},   // ER_CON_COUNT_ERROR
	1203: {ClassDown, adviseConns},   // ER_TOO_MANY_USER_CONNECTIONS
	1226: {ClassDown, adviseConns},   // ER_USER_LIMIT_REACHED: per hour
	1290: {ClassDown, adviseReplica}, // ER_OPTION_PREVENTS_STATEMENT: --read-only
	1792: {ClassDown, adviseReplica}, // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
	1836: {ClassDown, adviseReplica}, // ER_READ_ONLY_MODE
	1021: {ClassDown, adviseDisk},    // ER_DISK_FULL
	1026: {ClassDown, adviseDisk},    // ER_ERROR_ON_WRITE
	1030: {ClassDown, adviseDisk},    // ER_GET_ERRNO: of the storage engine, in most cases 28, no space
	1114: {ClassDown, adviseDisk},    // ER_RECORD_FILE_FULL: the disk, in most cases
	1317: {ClassDown, adviseKilled},  // ER_QUERY_INTERRUPTED
	1969: {ClassDown, adviseTime},    // MariaDB: ER_STATEMENT_TIMEOUT, max_statement_time
	3024: {ClassDown, adviseTime},    // ER_QUERY_TIMEOUT, max_execution_time
	1037: {ClassDown, adviseServer},  // ER_OUTOFMEMORY
	1038: {ClassDown, adviseServer},  // ER_OUT_OF_SORTMEMORY
	1041: {ClassDown, adviseServer},  // ER_OUT_OF_RESOURCES
	1129: {ClassDown, adviseServer},  // ER_HOST_IS_BLOCKED: after many connection errors
	1180: {ClassDown, adviseServer},  // ER_ERROR_DURING_COMMIT: done or not
	1206: {ClassDown, adviseServer},  // ER_LOCK_TABLE_FULL
	8175: {ClassDown, adviseMemory},  // TiDB: over tidb_mem_quota_query
	8176: {ClassDown, adviseMemory},  // TiDB: the whole server is over its memory
	3100: {ClassDown, adviseServer},  // ER_RUN_HOOK_ERROR: group replication, at COMMIT

	// A person has to act.
	1044: {ClassRefused, adviseRights}, // ER_DBACCESS_DENIED_ERROR
	1045: {ClassRefused, adviseRights}, // ER_ACCESS_DENIED_ERROR
	1130: {ClassRefused, adviseRights}, // ER_HOST_NOT_PRIVILEGED
	1142: {ClassRefused, adviseRights}, // ER_TABLEACCESS_DENIED_ERROR
	1143: {ClassRefused, adviseRights}, // ER_COLUMNACCESS_DENIED_ERROR
	1227: {ClassRefused, adviseRights}, // ER_SPECIFIC_ACCESS_DENIED_ERROR
	1820: {ClassRefused, adviseRights}, // ER_MUST_CHANGE_PASSWORD
	1862: {ClassRefused, adviseRights}, // ER_MUST_CHANGE_PASSWORD_LOGIN
	3118: {ClassRefused, adviseRights}, // ER_ACCOUNT_HAS_BEEN_LOCKED
	1046: {ClassRefused, adviseSchema}, // ER_NO_DB_ERROR
	1049: {ClassRefused, adviseSchema}, // ER_BAD_DB_ERROR
	1054: {ClassRefused, adviseSchema}, // ER_BAD_FIELD_ERROR
	1146: {ClassRefused, adviseSchema}, // ER_NO_SUCH_TABLE
	1194: {ClassRefused, adviseRepair}, // ER_CRASHED_ON_USAGE
	1195: {ClassRefused, adviseRepair}, // ER_CRASHED_ON_REPAIR
	1712: {ClassRefused, adviseRepair}, // ER_INDEX_CORRUPT
	1877: {ClassRefused, adviseRepair}, // ER_TABLE_CORRUPT
	3098: {ClassRefused, adviseServer}, // ER_BEFORE_DML_VALIDATION_ERROR: group replication refuses the table
}

// unnumbered is the same for what comes as 1105 (ER_UNKNOWN_ERROR) and says what it is by
// its text alone: TiDB (executor/adapter.go, client-go's error/error.go).
var unnumbered = []struct {
	text string
	serverError
}{
	{"pessimistic lock retry limit reached", serverError{class: ClassRetry}}, // TiDB: a hot row, 256 times
	{lockWaitText, serverError{class: ClassRetry}},                           // TiDB: client-go's, without its number
}

// lockWaitText is what a lock wait that ended is called where it has no number.
const lockWaitText = "lock wait timeout"

// liteErrors is the same for SQLite, by primary result code (sqlite.org/rescode.html).
var liteErrors = map[int]serverError{
	sqlite3.SQLITE_BUSY:      {class: ClassRetry},
	sqlite3.SQLITE_LOCKED:    {class: ClassRetry},
	sqlite3.SQLITE_SCHEMA:    {class: ClassRetry},
	sqlite3.SQLITE_PROTOCOL:  {class: ClassRetry}, // the locking of the WAL
	sqlite3.SQLITE_INTERRUPT: {class: ClassDown},
	sqlite3.SQLITE_NOMEM:     {ClassDown, adviseServer},
	sqlite3.SQLITE_FULL:      {ClassDown, adviseDisk},
	sqlite3.SQLITE_IOERR:     {ClassDown, adviseDisk},
	sqlite3.SQLITE_CANTOPEN:  {ClassDown, "is the file of ORDERD_DSN there, and may orderd write it and its folder?"},
	sqlite3.SQLITE_READONLY:  {ClassDown, "let orderd write the file of ORDERD_DSN and its folder"},
	sqlite3.SQLITE_PERM:      {ClassRefused, "let orderd write the file of ORDERD_DSN and its folder"},
	sqlite3.SQLITE_AUTH:      {ClassRefused, "let orderd write the file of ORDERD_DSN and its folder"},
	sqlite3.SQLITE_CORRUPT:   {ClassRefused, adviseRepair},
	sqlite3.SQLITE_NOTADB:    {ClassRefused, adviseRepair},
}

// Advice is what a person does about an error of the database, "" when waiting cures
// it, or it is no error of the database.
func Advice(err error) string { return look(err).advice }

// Classify tells what may be done after err.
func Classify(err error) Class { return look(err).class }

// look finds what an error means for us.
func look(err error) serverError {
	var my *mysql.MySQLError
	var lite *sqlite.Error
	var network net.Error
	switch {
	case err == nil:
		return serverError{}
	case errors.Is(err, ErrLostRace):
		return serverError{class: ClassRetry}
	case errors.As(err, &my):
		return lookMySQL(my)
	case errors.As(err, &lite):
		return lookSQLite(lite)
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync), errors.Is(err, mysql.ErrPktSyncMul),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return serverError{class: ClassDown}
	}
	return serverError{}
}

// lookMySQL is look for MySQL and its kin: by number, and by text where there is none.
func lookMySQL(err *mysql.MySQLError) serverError {
	if err.Number != mysqlUnknownError {
		return serverErrors[err.Number]
	}
	for _, u := range unnumbered {
		if strings.Contains(err.Message, u.text) {
			return u.serverError
		}
	}
	return serverError{}
}

// lookSQLite is look for SQLite, whose missing tables and columns have no code of
// their own.
func lookSQLite(err *sqlite.Error) serverError {
	switch err.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return serverError{class: ClassDuplicate}
	case sqlite3.SQLITE_ERROR:
		if text := err.Error(); strings.Contains(text, "no such table") || strings.Contains(text, "no such column") {
			return serverError{ClassRefused, adviseSchema}
		}
	}
	return liteErrors[err.Code()&0xff] // the extended codes keep the primary one in the low byte
}

// isLockWait reports that a lock of somebody else was not waited for any longer.
// SQLite's one lock is that of the whole file: there nobody is a neighbour.
func isLockWait(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && (my.Number == mysqlLockWait || my.Number == mysqlNoWait ||
		my.Number == mysqlUnknownError && strings.Contains(my.Message, lockWaitText))
}

// IsDuplicate reports that a unique key refused a row.
func IsDuplicate(err error) bool { return err != nil && Classify(err) == ClassDuplicate }

// unavailable marks an error as ErrUnavailable, or as ErrRefused when it is that.
func unavailable(err error) error {
	if Classify(err) == ClassRefused {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Wrap says what could not be done, and marks a database that is away with
// ErrUnavailable: InTx does so by itself, a query outside does not.
func Wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if class := Classify(err); (class == ClassDown || class == ClassRefused) && !errors.Is(err, ErrUnavailable) {
		err = unavailable(err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
