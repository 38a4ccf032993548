package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Bounds of one InTx.
const (
	// txBudget is the time for all tries together, so that a caller has its answer
	// within three seconds unless a COMMIT stalls.
	txBudget = 2300 * time.Millisecond
	// maxTries: a hot row that deadlocks twenty times is a bug, not bad luck.
	maxTries = 20
	// sharedTries is maxTries for a transaction of many: what keeps failing is soon
	// looked for among them.
	sharedTries = 5
	// retryPause is the first pause; each is twice the one before, and jittered by
	// half of it in both directions so that two transactions do not meet again.
	retryPause = 2 * time.Millisecond
	// maxPause ends the doubling: a deadlock is over long before, and a fail-over of
	// the database, which takes longer, is noticed at most that much too late.
	maxPause = 100 * time.Millisecond
)

// forUpdate is the lock suffix that SQLite does not have. It must end the statement.
const forUpdate = "FOR UPDATE"

// Tx is a transaction. A statement that ends in "FOR UPDATE" has that suffix
// dropped on SQLite, where the one writer holds everything.
type Tx struct {
	tx     *sql.Tx
	db     *DB
	engine Engine
	begun  bool // the server knows that it is a transaction
	reads  bool // it writes nothing: see Snapshot and Decide
	unsure bool
	noWait bool
	tells  []string

	// committing: a statement was sent that commits, so that the transaction may be done.
	// over: its last statement was sent. See UpdateLast.
	committing bool
	over       bool
}

// MayBeDone reports that the same work may have been committed a moment ago: an earlier
// run of the same call ended in a COMMIT without an answer. Whoever finds it done then
// has to take it for his own.
func (tx *Tx) MayBeDone() bool { return tx.unsure }

// errReads: a write, or a lock, in a transaction of Snapshot or Decide. The server is not told that they
// only read, because not every server takes the words.
var errReads = errors.New("sqldb: a write or a lock in a transaction that only reads")

// goesOn panics when the transaction has had its last statement.
func (tx *Tx) goesOn() {
	if tx.over {
		panic("sqldb: a statement after the last one of its transaction")
	}
}

// begin says that a transaction begins, before a read that says so neither by a lock
// nor by a change: a proxy that sends reads elsewhere would send it there. All others
// begin with their first statement, which saves them a round trip.
func (tx *Tx) begin(ctx context.Context, query string) error {
	tx.goesOn()
	if tx.begun || tx.engine != MySQL {
		return nil
	}
	tx.begun = true
	if strings.HasSuffix(query, forUpdate) {
		return nil
	}
	_, err := tx.tx.ExecContext(ctx, startTransaction)
	return err
}

// NoWait reports that the transaction must not wait for a row that another holds. A
// statement that ends in "FOR UPDATE" sees to that by itself; what would change rows
// without having locked them locks them so first.
func (tx *Tx) NoWait() bool { return tx.noWait }

// ExecContext runs a statement that returns no rows.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tx.goesOn()
	if tx.reads {
		return nil, errReads
	}
	tx.begun = true
	return tx.tx.ExecContext(ctx, query, args...)
}

// QueryContext runs a statement that returns rows.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if tx.locks(query) {
		return nil, errReads
	}
	if err := tx.begin(ctx, query); err != nil {
		return nil, err
	}
	return tx.tx.QueryContext(ctx, tx.text(query), args...)
}

// locks reports that a statement locks in a transaction that only reads.
func (tx *Tx) locks(query string) bool { return tx.reads && strings.HasSuffix(query, forUpdate) }

// refusal is an argument that no statement is sent with: a sql.Row with an error of ours is not made
// in another way.
type refusal struct{}

// Value refuses.
func (refusal) Value() (driver.Value, error) { return nil, errReads }

// QueryRowContext runs a statement that returns at most one row.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if tx.locks(query) {
		return tx.tx.QueryRowContext(ctx, query, refusal{})
	}
	if err := tx.begin(ctx, query); err != nil { // whatever it is, the query meets it too
		return tx.tx.QueryRowContext(ctx, query, args...)
	}
	return tx.tx.QueryRowContext(ctx, tx.text(query), args...)
}

// text gives the statement as the engine reads it.
func (tx *Tx) text(query string) string {
	switch {
	case tx.engine == SQLite:
		return strings.TrimSuffix(query, forUpdate)
	case tx.noWait && strings.HasSuffix(query, forUpdate):
		return query + " NOWAIT" // MariaDB 10.3, MySQL 8.0, TiDB
	}
	return query
}

// Update runs a statement and gives the number of rows it matched, which for
// every conditional UPDATE is the decision.
func (tx *Tx) Update(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// UpdateRows is Update where the decision was made before: unless it matches so many rows,
// it is ErrLostRace.
func (tx *Tx) UpdateRows(ctx context.Context, rows int, query string, args ...any) error {
	n, err := tx.Update(ctx, query, args...)
	if err == nil && n != int64(rows) {
		err = ErrLostRace
	}
	return err
}

// Sizes of the statements of a bulk insert: multiples of rowStep, so that a few
// prepared ones serve batches of every size and fewer than rowStep rows are
// left to go as text.
const (
	// rowStep: an insert of this many rows or more is cut to a multiple of it, and
	// the rest goes in one of its own.
	rowStep = 16
	// maxRows is the largest insert; more are cut. With it 127 columns fit into
	// SQLite's 32,766 placeholders (sqlite.org/limits.html).
	maxRows = 256
)

// InsertRows runs head ("INSERT INTO t (a, b) VALUES", a constant) with the
// rows in args, cols values each, in few statements.
func (tx *Tx) InsertRows(ctx context.Context, head string, cols int, args []any) error {
	for len(args) > 0 {
		rows := min(len(args)/cols, maxRows)
		if rows > rowStep {
			rows -= rows % rowStep
		}
		if err := tx.insert(ctx, head, cols, args[:rows*cols]); err != nil {
			return err
		}
		args = args[rows*cols:]
	}
	return nil
}

// insert runs one INSERT: on MySQL as a bulk, which writeConn prepares.
func (tx *Tx) insert(ctx context.Context, head string, cols int, args []any) (err error) {
	switch tx.engine {
	case MySQL:
		_, err = tx.ExecContext(ctx, head, bulk{cols: cols, values: args})
	case SQLite:
		_, err = tx.ExecContext(ctx, head+" "+tuples(len(args)/cols, cols), args...)
	}
	return err
}

// Querier is what can read rows: a DB, or a Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Each gives every row of a query to do, until one is refused. It gives do's
// error and the database's as they are.
func Each(ctx context.Context, q Querier, query string, args []any, do func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Decided gives every row of a query that decides something, as scan reads it: see
// DB.Decide.
func Decided[T any](ctx context.Context, db *DB, query string, args []any,
	scan func(*sql.Rows) (T, error)) (all []T, err error) {
	err = db.Decide(ctx, func(ctx context.Context, tx *Tx) error {
		all = nil // of a run that was cut off
		return Each(ctx, tx, query, args, func(rows *sql.Rows) error {
			row, err := scan(rows)
			all = append(all, row)
			return err
		})
	})
	return all, err
}

// Column scans a row of one column, for Decided. "return v, rows.Scan(&v)" would leave it to the compiler
// whether v is read before it is scanned (the language's specification, "Order of evaluation").
func Column[T any](rows *sql.Rows) (T, error) {
	var v T
	err := rows.Scan(&v)
	return v, err
}

// Known reports that a query finds a row: for a repeat that looks for its own work.
func Known(ctx context.Context, tx *Tx, query string, args ...any) (bool, error) {
	found := false
	err := Each(ctx, tx, query, args, func(*sql.Rows) error { found = true; return nil })
	return found, err
}

// In gives n placeholders, "?,?,?", for the list of an IN.
func In(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// tuples gives the placeholders of rows, "(?,?),(?,?)".
func tuples(rows, cols int) string {
	return strings.TrimSuffix(strings.Repeat("("+In(cols)+"),", rows), ",")
}

// Args turns a slice into arguments of a statement.
func Args[T any](values []T) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}

// InTx runs fn in a transaction and commits it.
//
// fn may run several times: after a deadlock or a lock wait the whole
// transaction is run again, and after a COMMIT whose answer was lost too. So fn
// must be repeatable by its keys: ids are made before InTx, unique rows are
// looked for before they are written, and what an earlier run of itself
// committed is a success: MayBeDone says when that can be. It must not call the
// network and must not keep anything of a run that did not commit.
//
// The error is fn's own, or matches ErrUnavailable (nothing happened; ErrLocked when
// it was another's lock) or ErrUnknown (ask again with the same keys). ctx ends the
// waiting, not a COMMIT that is under way.
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return db.inTx(ctx, patience{tries: maxTries}, fn)
}

// InTxOfMany is InTx for rows of many, who could be written apart as well: it gives
// up, with ErrLocked, after waiting a second for one lock or failing a few times, so
// that the others do not wait for one of them. With noWait it waits for no lock at
// all (see Tx.NoWait): so the one is found among them.
func (db *DB) InTxOfMany(ctx context.Context, noWait bool, fn func(ctx context.Context, tx *Tx) error) error {
	return db.inTx(ctx, patience{tries: sharedTries, oneWait: true, noWait: noWait}, fn)
}

// Held gives the keys whose rows another session holds at this moment, and waits for none.
// query selects by "IN (?)", which is made as long as the keys are, names the index that finds
// them, lest rows beside them are met too, and ends in "FOR UPDATE".
// They are found by halves, each by NOWAIT: SKIP LOCKED would find them in one statement, and
// TiDB takes it and locks nothing.
func (db *DB) Held(ctx context.Context, query string, keys []string) (map[string]bool, error) {
	held := map[string]bool{}
	err := Apart(keys, true, 0, func(part []string, noWait bool) error {
		return db.InTxOfMany(ctx, noWait, func(ctx context.Context, tx *Tx) error {
			text := strings.Replace(query, "IN (?)", "IN ("+In(len(part))+")", 1)
			return Each(ctx, tx, text, Args(part), func(*sql.Rows) error { return nil })
		})
	}, func(one []string, _ error) error {
		held[one[0]] = true
		return nil
	})
	return held, err
}

// patience says how long a transaction is tried.
type patience struct {
	tries   int  // that the server undoes
	oneWait bool // the first lock that is waited for in vain ends it
	noWait  bool // see Tx.NoWait
}

// inTx is InTx with some patience.
func (db *DB) inTx(ctx context.Context, p patience, fn func(ctx context.Context, tx *Tx) error) error {
	return db.tell(again(ctx, p, func(ctx context.Context, unsure bool) (error, bool) {
		return db.once(ctx, unsure, p.noWait, fn)
	}))
}

// Decide is InTx for what is only read and decides something: what is due, whose turn
// it is, whether a thing exists. It reads where InTx writes, on a server that leads at
// that moment, and writes nothing. Like fn of InTx, fn may run several times.
func (db *DB) Decide(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	pool := db.write
	if db.engine == SQLite {
		pool = db.read // the same file, and nobody waits for the one that writes
	}
	return db.tell(again(ctx, patience{tries: maxTries}, func(ctx context.Context, _ bool) (error, bool) {
		tx, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err, false
		}
		defer func() { _ = tx.Rollback() }() // nothing was written
		return fn(ctx, &Tx{tx: tx, db: db, engine: db.engine, begun: true, reads: true}), false
	}))
}

// again runs a transaction until it has an answer, or the time is up. unsure tells it
// that an earlier run may have been committed.
func again(ctx context.Context, p patience,
	once func(ctx context.Context, unsure bool) (err error, atCommit bool)) error {
	ctx, cancel := context.WithTimeout(ctx, txBudget)
	defer cancel()
	unknown := false // a COMMIT of ours is out there
	locked := false  // the server's last word was that somebody holds a row
	raced := 0       // tries that the server has undone
	for try := 1; ; try++ {
		err, atCommit := once(ctx, unknown)
		class := Classify(err)
		unknown = unknown || (atCommit && class == ClassDown)
		if err == nil || (class != ClassRetry && class != ClassDown && class != ClassRefused) {
			return err
		}
		if class == ClassRetry {
			locked = isLockWait(err)
			raced++
		}
		over := raced == p.tries || locked && p.oneWait
		if !over && class != ClassRefused && try < maxTries && pause(ctx, try) {
			continue
		}
		switch {
		case unknown:
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		case class == ClassRefused:
			return unavailable(err)
		case locked, over && p.tries == sharedTries: // somebody's, among many
			return fmt.Errorf("%w: %w", ErrLocked, err)
		}
		return unavailable(err)
	}
}

// once is one try of InTx. atCommit says that the error came from COMMIT, or from a
// statement that commits or after it, so that the transaction may be done.
func (db *DB) once(ctx context.Context, unsure, noWait bool, fn func(ctx context.Context, tx *Tx) error) (err error,
	atCommit bool) {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err, false
	}
	// Roll back by hand on every way out, panics included: after a lock wait
	// (1205) MariaDB has undone one statement only, and a COMMIT would keep the
	// half that went before.
	committed := false
	t := &Tx{tx: tx, db: db, engine: db.engine, unsure: unsure, noWait: noWait}
	defer func() {
		if !committed {
			_ = tx.Rollback()
		}
		if committed || t.committing {
			db.hearers.tell(t.tells)
		}
	}()
	if err := fn(ctx, t); err != nil {
		return err, t.committing
	}
	if overdue(ctx) && !t.committing {
		// A process that stood still goes on before its timers do: nobody waits for
		// this transaction any more, and its caller may have been told no since.
		return context.DeadlineExceeded, false
	}
	err = tx.Commit()
	committed = true
	if errors.Is(err, sql.ErrTxDone) { // ctx ended before COMMIT was sent, and database/sql rolled back
		return context.Cause(ctx), t.committing
	}
	return err, true
}

// pause waits before the next try and reports false when the time is up.
func pause(ctx context.Context, try int) bool {
	d := min(retryPause<<min(try-1, 10), maxPause) // 10: far beyond maxPause, and no overflow
	return Sleep(ctx, d/2+rand.N(d))
}
