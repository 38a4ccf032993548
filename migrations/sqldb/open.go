package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the embedded engine, pure Go
)

// Engine names a family of databases.
type Engine string

// The engines. MySQL stands for MySQL, MariaDB and whatever speaks their protocol.
const (
	MySQL  Engine = "mysql"
	SQLite Engine = "sqlite"
)

// Limits of a connection.
const (
	// dialTimeout bounds one connect, and one look: a database that does not answer in a second is away. Both
	// together are less than a request's budget.
	dialTimeout = time.Second
	// ioTimeout bounds one round trip inside a transaction, COMMIT above all:
	// database/sql gives COMMIT no context, so only the socket can end a stall.
	ioTimeout = 2 * time.Second
	// lockWaitSeconds keeps a blocked statement below ioTimeout, so that a lock
	// wait is a clean error 1205 and not a lost connection.
	lockWaitSeconds = "1"
	// busyTimeout is the same for SQLite, in milliseconds: another process may be
	// writing.
	busyTimeout = "2000"
	// defaultConns is how many connections a pool of MySQL has at most: where MariaDB
	// on a small machine stops gaining from more.
	defaultConns = 16
	// connIdle is how long a connection that reads is kept without work.
	connIdle = 5 * time.Minute
	// connLife bounds how long a connection stays at a server that the address
	// does not lead to any more, where nothing else shows it.
	connLife = time.Minute
	// deadAfter is when the server ends a connection that writes and says nothing
	// (wait_timeout, dev.mysql.com and mariadb.com/kb, "Server System Variables"). A
	// host that died in a transaction sends no FIN: by default, the server would keep
	// its locks for 8 hours. Our own longest silence in a transaction is below
	// txBudget, 2.3 s, whose end is a ROLLBACK. MariaDB's idle_transaction_timeout would
	// spare idle connections, but MySQL has none, and one rule is tested on both.
	deadAfter = 5 * time.Second
	// writeIdle is how long a connection that writes is kept without work. The pool
	// looks once a second, and is to be first: deadAfter is well above it.
	writeIdle = 3 * time.Second
	// readDeadAfter is deadAfter for connections that read: a little above connLife, so
	// that the pool is first. A dead report's snapshot keeps what others overwrite.
	// Between two statements of a snapshot, a check of ours works for seconds at most.
	readDeadAfter = connLife + 30*time.Second
	// readStall is how long a reader may leave its rows lying before the server ends the
	// connection (net_write_timeout): MySQL's and MariaDB's own default.
	readStall = time.Minute
	// migrateDeadAfter is deadAfter for a schema change: its connection lies idle while
	// another process has the turn, for as long as goose waits for it, 5 minutes.
	migrateDeadAfter = 10 * time.Minute
	// silence is when a connection whose other end does not answer any more is given
	// up: packets in flight by TCP_USER_TIMEOUT, an idle wait by keep-alive.
	silence = 15 * time.Second
	// lookAgain is how long a connection is believed to be at a server that writes: an
	// old primary that lives on answers reads and pings, and says nothing. One look
	// costs a round trip.
	lookAgain = time.Second
	// sqliteReaders is how many connections read an SQLite file beside the one that
	// writes.
	sqliteReaders = 8
)

// ErrDSN marks a DSN that cannot be used; the text says what is allowed.
var ErrDSN = errors.New("bad database DSN")

// ErrNoDatabase: there is no SQLite file where one has to be already.
var ErrNoDatabase = errors.New("there is no database")

// DB is an open database: a pool that writes and a pool that reads.
type DB struct {
	write, read *sql.DB
	show        *sql.DB  // what is shown comes from here: read, or that of another DB (ShowingFrom)
	replica     *replica // what Shown reads from, nil without: see ShowFrom
	engine      Engine
	path        string           // of SQLite's file
	connect     driver.Connector // of read; nil for SQLite
	troubles    *troubles
	hearers     *hearers
	hints       *atomic.Bool // see HasHints
	tidb        bool         // see TiDB
}

// Open opens dsn, "sqlite:PATH" or "mysql:USER:PASS@tcp(HOST:PORT)/DB" or
// "mysql:USER:PASS@unix(SOCKET)/DB", and checks that the database answers. Of several
// hosts, "tcp(HOST:PORT,HOST:PORT)", connections go to the one that takes writes.
// The settings that correctness needs (isolation, strict mode, time-outs) are
// set here and cannot be overridden by the DSN. An error never holds the
// password.
func Open(ctx context.Context, dsn string) (*DB, error) { return open(ctx, dsn, makeFile) }

// OpenExisting is Open for whoever must not make a database: an SQLite file that is not
// there is ErrNoDatabase, and no file or folder is made.
func OpenExisting(ctx context.Context, dsn string) (*DB, error) {
	return open(ctx, dsn, func(path string) error {
		_, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w at %s", ErrNoDatabase, path)
		}
		return err
	})
}

// open opens dsn; prepare sees to the file of SQLite before.
func open(ctx context.Context, dsn string, prepare func(path string) error) (*DB, error) {
	kind, rest, found := strings.Cut(dsn, ":")
	switch {
	case found && kind == "sqlite" && rest != "":
		if err := prepare(rest); err != nil {
			return nil, err
		}
		return openSQLite(ctx, rest)
	case found && kind == "mysql" && rest != "":
		return openMySQL(ctx, rest)
	}
	return nil, fmt.Errorf("%w: want sqlite:PATH or mysql:USER:PASS@tcp(HOST:3306)/DB or mysql:USER@unix(SOCKET)/DB",
		ErrDSN)
}

// Engine tells which family the database belongs to.
func (db *DB) Engine() Engine { return db.engine }

// Pool gives a pool that may write and whose statements may take long, for what
// must have a *sql.DB of its own: the migration runner. Everything else uses
// InTx and the Query methods.
func (db *DB) Pool() *sql.DB {
	if db.engine == SQLite {
		return db.write
	}
	return db.read // the same server and user, but without the read time-out
}

// ResumingPool is a Pool of its own for a schema change that begins again after
// it was cut off: MySQL commits every statement of it, so that some of its
// tables, columns and indexes may be there. To create them again is no error.
// SQLite undoes a change that is cut off, and has no such pool.
func (db *DB) ResumingPool() *sql.DB { return sql.OpenDB(resuming{db.connect}) }

// Close closes both pools, and that of the replica.
func (db *DB) Close() error {
	var err error
	if db.replica != nil {
		err = db.replica.close()
	}
	return errors.Join(err, db.write.Close(), db.read.Close())
}

// Ping asks for a sign of life where what is shown is read; Writable asks where it is written.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.show.PingContext(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

// probeBytes is what has to find room beside an SQLite file: sixteen of its pages, more
// than a transaction of an order writes.
const probeBytes = 64 << 10

// Writable asks the database whether it takes writes; a server that writes is pinged where
// it writes. An SQLite file is written and committed, and a file beside it: a full disk
// answers reads and pings.
func (db *DB) Writable(ctx context.Context) error {
	if db.engine == MySQL {
		if err := db.write.PingContext(ctx); err != nil {
			return unavailable(err)
		}
		return db.Ping(ctx)
	}
	// The same number once more is written all the same: nobody uses it (sqlite.org,
	// "PRAGMA user_version").
	if _, err := db.write.ExecContext(ctx, "PRAGMA user_version = 0"); err != nil {
		return unavailable(err)
	}
	f, err := os.CreateTemp(filepath.Dir(db.path), ".room-*")
	if err != nil {
		return unavailable(err)
	}
	_, err = f.Write(make([]byte, probeBytes))
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return unavailable(err)
	}
	return nil
}

// QueryContext reads outside a transaction, what is committed now. It is the door for
// showing: the server that answers may have led a second ago and may lag behind. What
// decides something, not found included, is read in InTx or by Decide, which give a Tx;
// a function that decides takes a Tx, and no DB fits there.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := db.show.QueryContext(ctx, query, args...)
	if class := Classify(err); class == ClassDown || class == ClassRefused {
		err = db.tell(unavailable(err))
	}
	return rows, err
}

// QueryRowContext is QueryContext for at most one row.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return db.show.QueryRowContext(ctx, query, args...)
}

// ShowingFrom gives db with another side to show from: a copy that lags behind, or a
// server that does not lead any more. What decides goes on reading db itself. Both
// must stay open; closing what it gives closes db alone.
func (db *DB) ShowingFrom(other *DB) *DB {
	behind := *db
	behind.show = other.show
	return &behind
}

// makeFile makes the file of an SQLite database that is not there, for its owner alone:
// it has who bought what, and SQLite gives the files beside it the same permissions. One
// that everybody can read, of an earlier program, is closed to others.
func makeFile(path string) error {
	if dir := filepath.Dir(path); dir != "." {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create the folder of the database: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o007 != 0 {
			if err := os.Chmod(name, st.Mode().Perm()&^0o007); err != nil {
				return fmt.Errorf("close the database to others: %w", err)
			}
		}
	}
	return nil
}

// openSQLite opens a file.
func openSQLite(ctx context.Context, path string) (*DB, error) {
	pool := func(conns int, extra ...string) (*sql.DB, error) {
		q := url.Values{"_pragma": {
			"busy_timeout(" + busyTimeout + ")", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		}}
		q["_pragma"] = append(q["_pragma"], extra...)
		q.Set("_txlock", "immediate") // a deferred one gets SQLITE_BUSY_SNAPSHOT, which no busy time-out cures
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		if err := db.PingContext(ctx); err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return db, nil
	}
	write, err := pool(1) // one writing connection: faster and fairer than SQLite's own waiting
	if err != nil {
		return nil, fmt.Errorf("open SQLite %s: %w", path, err)
	}
	read, err := pool(sqliteReaders, "query_only(1)")
	if err != nil {
		return nil, fmt.Errorf("open SQLite %s for reading: %w", path, errors.Join(err, write.Close()))
	}
	return &DB{troubles: new(troubles), hearers: new(hearers), hints: new(atomic.Bool),
		write: write, read: read, show: read,
		engine: SQLite, path: path}, nil
}

// mysqlConfig gives the settings of a connection that reads, which the DSN cannot change.
func mysqlConfig(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("%w: mysql: %w", ErrDSN, err)
	}
	if cfg.DBName == "" {
		return nil, fmt.Errorf("%w: mysql: name the database after the slash", ErrDSN)
	}
	cfg.ClientFoundRows = true // count matched rows, as SQLite does; every CAS changes a column anyway
	cfg.InterpolateParams = true
	cfg.ParseTime = true // goose's lock needs it
	cfg.Loc = time.UTC
	cfg.MultiStatements = false
	cfg.RejectReadOnly = true
	cfg.Timeout, cfg.WriteTimeout = dialTimeout, ioTimeout
	cfg.Logger = &mysql.NopLogger{} // its lines repeat errors that we return
	dialer := net.Dialer{Control: endSilence, KeepAliveConfig: net.KeepAliveConfig{Enable: true,
		Idle: silence / 3, Interval: silence / 3, Count: 2}}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !strings.HasPrefix(network, "tcp") {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		return dialer.DialContext(ctx, network, addr)
	}
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin")); err != nil {
		return nil, fmt.Errorf("%w: mysql: %w", ErrDSN, err)
	}
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["innodb_lock_wait_timeout"] = lockWaitSeconds
	cfg.Params["sql_mode"] = "'STRICT_ALL_TABLES,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
	cfg.Params["time_zone"] = "'+00:00'" + pinned

	cfg.Params["wait_timeout"], cfg.Params["net_write_timeout"] = seconds(readDeadAfter), seconds(readStall)
	return cfg, nil
}

// openMySQL opens a server's database.
func openMySQL(ctx context.Context, dsn string) (*DB, error) {
	cfg, err := mysqlConfig(dsn)
	if err != nil {
		return nil, err
	}
	read, connect, err := mysqlPool(cfg, reads) // no read time-out: reports run as long as their ctx lets them
	if err != nil {
		return nil, err
	}
	cfg.ReadTimeout = ioTimeout
	cfg.Params["autocommit"] = "0"  // see writeConn
	for _, name := range silences { // before a statement, in the middle of one, in the middle of its answer
		cfg.Params[name] = seconds(deadAfter)
	}
	write, _, err := mysqlPool(cfg, writes)
	if err != nil {
		return nil, errors.Join(err, read.Close())
	}
	db := &DB{troubles: new(troubles), hearers: new(hearers), hints: new(atomic.Bool),
		write: write, read: read, show: read,
		engine: MySQL, connect: connect}
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open MySQL at %s(%s)/%s as %s: %w", cfg.Net,
			strings.Join(hostsOf(cfg), ","), cfg.DBName, cfg.User, unavailable(err)), db.Close())
	}
	db.hints.Store(hasHints(ctx, write))
	if db.tidb, err = isTiDB(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("open MySQL: is it TiDB: %w", unavailable(err)), db.Close())
	}
	return db, nil
}

// openFollower makes the pool of a server that follows another, and connects to nothing.
func openFollower(dsn string) (*sql.DB, error) {
	rest, ok := strings.CutPrefix(dsn, "mysql:")
	if !ok {
		return nil, fmt.Errorf("%w: a replica is mysql:USER:PASS@tcp(HOST:3306)/DB", ErrDSN)
	}
	cfg, err := mysqlConfig(rest)
	if err != nil {
		return nil, err
	}
	if len(hostsOf(cfg)) > 1 {
		return nil, fmt.Errorf("%w: a replica is one server, since it is measured: name one host", ErrDSN)
	}
	pool, _, err := mysqlPool(cfg, follows)
	return pool, err
}

// silences are the session variables that say how long the server bears a client that
// says nothing: between two statements, within one, and while its answer is sent.
var silences = []string{"wait_timeout", "net_read_timeout", "net_write_timeout"}

// seconds gives a duration as MySQL's variables have it.
func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// role is what the connections of a pool are for.
type role int

// The roles. Connections that follow may be of a server that takes no writes.
const (
	reads role = iota
	writes
	follows
)

// usualPort is MySQL's.
const usualPort = "3306"

// hostsOf gives the hosts of a DSN, each with its port. The driver knows one: it takes a
// list for a host without a port, and gives it the usual one.
func hostsOf(cfg *mysql.Config) []string {
	if cfg.Net != "tcp" || !strings.Contains(cfg.Addr, ",") {
		return []string{cfg.Addr}
	}
	list := strings.TrimPrefix(strings.TrimSuffix(cfg.Addr, "]:"+usualPort), "[")
	hosts := strings.Split(list, ",")
	for i, host := range hosts {
		host = strings.TrimSpace(host)
		hosts[i] = host
		if _, _, err := net.SplitHostPort(host); err != nil {
			hosts[i] = net.JoinHostPort(strings.Trim(host, "[]"), usualPort)
		}
	}
	return hosts
}

// mysqlPool makes a pool of connections for something.
func mysqlPool(cfg *mysql.Config, as role) (*sql.DB, driver.Connector, error) {
	connect, hosts := &connector{as: as}, hostsOf(cfg)
	for _, host := range hosts {
		one := cfg.Clone()
		if one.Addr = host; len(hosts) > 1 && one.TLS != nil { // the driver took the list for its name
			one.TLS = one.TLS.Clone()
			one.TLS.ServerName, _, _ = net.SplitHostPort(host)
		}
		c, err := mysql.NewConnector(one)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: mysql: %w", ErrDSN, err)
		}
		connect.hosts, connect.names = append(connect.hosts, c), append(connect.names, host)
	}
	pool := sql.OpenDB(connect)
	pool.SetMaxOpenConns(defaultConns)
	pool.SetMaxIdleConns(defaultConns)
	pool.SetConnMaxIdleTime(connIdle)
	if as == writes {
		pool.SetConnMaxIdleTime(writeIdle)
	}
	pool.SetConnMaxLifetime(connLife)
	return pool, connect, nil
}

// connector connects to the host that takes writes, of several, and sets the isolation
// level of each new connection by statement: the variable's name differs between MySQL 8
// and MariaDB, the statement does not. READ COMMITTED takes no gap locks where REPEATABLE
// READ would deadlock with inserts. Connections that write become a writeConn.
type connector struct {
	hosts []driver.Connector
	names []string     // of the hosts, each with its port
	at    atomic.Int64 // the host that served last, at which the next search begins
	still atomic.Int64 // when a server did not answer any more, in ns: see ledConn.leaves
	as    role
}

// Driver is the driver of the hosts.
func (c *connector) Driver() driver.Driver { return c.hosts[0].Driver() }

// connectError names the one error of the driver's Connect that nobody else can: when the
// connection ends between the server's greeting and our answer to it, its own error of a
// connection that is bad comes out as it is (v1.10.1, connector.go).
func connectError(err error) error {
	if err.Error() == "bad connection" {
		return fmt.Errorf("%w: it ended while it was made", mysql.ErrInvalidConn)
	}
	return err
}

// Connect makes a connection. While none of several hosts takes writes, the first that
// answers has it: what is shown is shown, and a write says that the server is read-only.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	if len(c.hosts) == 1 {
		return c.to(ctx, 0)
	}
	var kept driver.Conn
	var errs []error
	first := int(c.at.Load())
	for i := range c.hosts {
		n := (first + i) % len(c.hosts)
		conn, leads, err := c.try(ctx, n)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case !leads:
			if kept == nil {
				kept = conn
			} else {
				errs = append(errs, conn.Close())
			}
			continue
		}
		c.at.Store(int64(n))
		if kept != nil {
			_ = kept.Close() // nobody misses it
		}
		return conn, nil
	}
	if kept != nil {
		return kept, nil
	}
	return nil, errors.Join(errs...)
}

// try makes a connection to one host of several, and asks whether it takes writes. The kernel of a
// host whose server stands still takes the connection, and nobody greets: what the driver bounds is
// the dial, and dialTimeout is for all of it.
func (c *connector) try(ctx context.Context, host int) (conn driver.Conn, leads bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err = c.to(ctx, host)
	if err == nil && (c.as == follows || ledOf(conn).look(ctx) == nil) {
		return conn, true, nil
	}
	if ctx.Err() != nil { // and the caller's own end, which database/sql sees for itself
		err = fmt.Errorf("%w: the host took a connection and did not answer in %s", mysql.ErrInvalidConn, dialTimeout)
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
		return nil, false, err
	}
	return conn, false, err
}

// to makes a connection to one host.
func (c *connector) to(ctx context.Context, host int) (driver.Conn, error) {
	conn, err := c.hosts[host].Connect(ctx)
	if err != nil {
		return nil, connectError(err)
	}
	_, err = conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if c.as == follows {
		return conn, nil
	}
	at := &ledConn{fullConn: conn.(fullConn), of: c, host: host, looked: time.Now()}
	if c.as == reads {
		return at, nil
	}
	return &writeConn{ledConn: at, stmts: map[bulkSize]driver.Stmt{}}, nil
}

// ledOf gives what looks at the server of a connection.
func ledOf(conn driver.Conn) *ledConn {
	if w, ok := conn.(*writeConn); ok {
		return w.ledConn
	}
	return conn.(*ledConn)
}
