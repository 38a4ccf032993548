package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// writeConn is a MySQL connection that makes group commits cheaper in two ways.
// Bulk inserts are prepared once per connection, because parsing their text
// costs the server more than a third of its work for a row, and database/sql
// does not keep a statement prepared from one transaction to the next. And it
// runs with autocommit off, so that a transaction begins with its first
// statement and not with a round trip of its own.
type writeConn struct {
	*ledConn
	stmts map[bulkSize]driver.Stmt
	named []driver.NamedValue // scratch of execBulk; a connection has one user at a time
}

// fullConn is everything that database/sql can ask of a connection and that
// go-sql-driver's connection does.
type fullConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// maxPrepared bounds the statements that one connection keeps prepared: sixteen
// sizes of some ten inserts. What goes beyond runs as text.
const maxPrepared = 160

// bulk is the rows of one insert, passed as the only argument of a statement
// whose text ends in VALUES.
type bulk struct {
	cols   int
	values []any
}

// bulkSize names a prepared statement.
type bulkSize struct {
	head string
	rows int
}

// CheckNamedValue lets a bulk through; execBulk checks its values.
func (c *writeConn) CheckNamedValue(v *driver.NamedValue) error {
	if _, ok := v.Value.(bulk); ok {
		return nil
	}
	return c.fullConn.CheckNamedValue(v)
}

// ExecContext runs a statement, a bulk insert prepared and any other as text.
func (c *writeConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 1 {
		if b, ok := args[0].Value.(bulk); ok {
			return c.execBulk(ctx, query, b)
		}
	}
	return c.fullConn.ExecContext(ctx, query, args)
}

// execBulk runs an insert of many rows, prepared if it can be.
func (c *writeConn) execBulk(ctx context.Context, head string, b bulk) (driver.Result, error) {
	named := c.named[:0]
	for i, v := range b.values {
		nv := driver.NamedValue{Ordinal: i + 1, Value: v}
		if err := c.fullConn.CheckNamedValue(&nv); err != nil {
			return nil, fmt.Errorf("value %d of %q: %w", i+1, head, err)
		}
		named = append(named, nv)
	}
	defer func() {
		clear(named) // keep the room, not the values
		c.named = named
	}()
	size := bulkSize{head, len(b.values) / b.cols}
	stmt, ok := c.stmts[size]
	if !ok {
		text := head + " " + tuples(size.rows, b.cols)
		if size.rows < rowStep || len(c.stmts) >= maxPrepared {
			return c.fullConn.ExecContext(ctx, text, named)
		}
		var err error
		if stmt, err = c.PrepareContext(ctx, text); errors.As(err, new(*mysql.MySQLError)) {
			// above max_prepared_stmt_count, or a proxy that prepares nothing
			return c.fullConn.ExecContext(ctx, text, named)
		} else if err != nil {
			return nil, err
		}
		c.stmts[size] = stmt
	}
	res, err := stmt.(driver.StmtExecContext).ExecContext(ctx, named)
	if err != nil && !IsDuplicate(err) {
		delete(c.stmts, size) // after DDL a server may insist on preparing again
		err = errors.Join(err, stmt.Close())
	}
	return res, err
}

// BeginTx says nothing to the server: see writeConn. A transaction that only reads
// (Decide) is said, so that a proxy sees it, and makes sure that the server leads:
// no write of its own would.
func (c *writeConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if opts != (driver.TxOptions{ReadOnly: opts.ReadOnly}) {
		return nil, errors.New("sqldb: a transaction has no other options")
	}
	if !c.IsValid() {
		return nil, driver.ErrBadConn
	}
	if opts.ReadOnly {
		if _, err := c.fullConn.ExecContext(ctx, startTransaction, nil); err != nil {
			return nil, err
		}
		if err := c.look(ctx); err != nil {
			return nil, err
		}
	}
	return openTx{c.fullConn}, nil
}

// startTransaction begins a transaction in words.
const startTransaction = "START TRANSACTION"

// ledConn is a MySQL connection that leaves a server which does not lead any more. After
// a switchover the old primary lives on with its connections and answers reads; only
// writes fail there.
type ledConn struct {
	fullConn
	of     *connector
	host   int       // of the connector's
	looked time.Time // when the server took writes
}

// BeginTx is the driver's own, which database/sql must see.
func (c *ledConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.fullConn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

// ResetSession looks at the server before the connection is used again, at most once
// in lookAgain. driver.ErrBadConn makes database/sql take another one.
func (c *ledConn) ResetSession(ctx context.Context) error {
	switch err := c.fullConn.ResetSession(ctx); {
	case err != nil:
		return err
	case c.looked.UnixNano() < c.of.still.Load():
		return driver.ErrBadConn
	case time.Since(c.looked) < lookAgain:
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	err := c.look(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		c.leaves()
	}
	return err
}

// leaves says that the server stands still: the pool's other connections, which would wait for it
// one after the other, are left without a look, and the search begins at the next host.
func (c *ledConn) leaves() {
	c.of.still.Store(time.Now().UnixNano())
	c.of.at.CompareAndSwap(int64(c.host), int64((c.host+1)%len(c.of.hosts)))
}

// look asks the server whether it takes writes: driver.ErrBadConn when it does not, or
// does not answer. A server that does not know the question takes them.
func (c *ledConn) look(ctx context.Context) error {
	now := time.Now()
	rows, err := c.QueryContext(ctx, "SELECT @@read_only", nil)
	if errors.As(err, new(*mysql.MySQLError)) {
		c.looked = now
		return nil
	}
	if err != nil {
		return driver.ErrBadConn
	}
	defer func() { _ = rows.Close() }()
	value := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(value); err != nil {
		return driver.ErrBadConn
	}
	answer := fmt.Sprint(value[0])
	if text, ok := value[0].([]byte); ok {
		answer = string(text)
	}
	if answer != "0" && !strings.EqualFold(answer, "OFF") {
		return driver.ErrBadConn
	}
	c.looked = now
	return nil
}

// openTx ends the transaction that is open on a connection. As in the driver's
// own, only the socket's time-out ends a stall: a COMMIT that is given up
// leaves nobody knowing.
type openTx struct{ conn driver.ExecerContext }

// Commit makes the transaction last.
func (t openTx) Commit() error { return t.end("COMMIT") }

// Rollback undoes it.
func (t openTx) Rollback() error { return t.end("ROLLBACK") }

// end sends the one word, without a context: see openTx.
func (t openTx) end(how string) error {
	_, err := t.conn.ExecContext(context.Background(), how, nil)
	return err
}

// resuming makes connections on which it is no error to create what is there.
type resuming struct{ driver.Connector }

// Connect makes a connection.
func (r resuming) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION wait_timeout = "+seconds(migrateDeadAfter), nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return resumingConn{conn.(fullConn)}, nil
}

// resumingConn is such a connection.
type resumingConn struct{ fullConn }

// ExecContext runs a statement; to create or drop again what an earlier run did is
// a success.
func (c resumingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := c.fullConn.ExecContext(ctx, query, args)
	var my *mysql.MySQLError
	if errors.As(err, &my) && (my.Number == mysqlTableExists || my.Number == mysqlColumnExists ||
		my.Number == mysqlIndexExists || my.Number == mysqlNothingToDrop) {
		return driver.RowsAffected(0), nil
	}
	return res, err
}

// BeginTx is the driver's own, which database/sql must see.
func (c resumingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.fullConn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}
