package bench

import (
	"context"
	"database/sql"
	"math"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/feed"
)

// Naive is the peer of every comparison: it writes the same rows with the same
// guarantees as orderd, in one transaction per order, callback or timeout, with
// SELECT … FOR UPDATE and guarded updates. It is never used outside of orderload.
type Naive struct {
	db      *sql.DB
	retried atomic.Int64
}

// DefaultNaiveConns is the size of the naive peer's pool: more brought it nothing
// on two cores.
const DefaultNaiveConns = 64

// NewNaive opens a pool of conns connections to a database of orderd: the driver's
// defaults, but for interpolation, which saves the peer a round trip a statement.
func NewNaive(dsn string, conns int) (*Naive, error) {
	cfg, err := mysql.ParseDSN(strings.TrimPrefix(dsn, "mysql:"))
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams = true
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return &Naive{db: db}, nil
}

// Close closes the pool.
func (n *Naive) Close() { _ = n.db.Close() }

// Retried is how many transactions were run again so far.
func (n *Naive) Retried() int64 { return n.retried.Load() }

// transact runs do in a transaction, again for as long as the server asks for a
// repeat (a deadlock, a lock wait that took too long).
func (n *Naive) transact(ctx context.Context, do func(tx *sql.Tx) error) error {
	return n.tryFor(ctx, math.MaxInt, do)
}

// tryFor is transact with an end: after so many tries their last error stands.
func (n *Naive) tryFor(ctx context.Context, tries int, do func(tx *sql.Tx) error) error {
	for try := 1; ; try++ {
		err := n.once(ctx, do)
		if sqldb.Classify(err) != sqldb.ClassRetry || try == tries {
			return err
		}
		n.retried.Add(1)
	}
}

// once is one try of transact.
func (n *Naive) once(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := n.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a COMMIT it does nothing
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// statement is one write of a transaction.
type statement struct {
	query string
	args  []any
}

// told is the row of the feed that tells of an order.
func told(at int64, what feed.Type, orderNo string, version int64, state order.State) statement {
	return statement{`INSERT INTO events_out
  (at, type, order_no, version, state, ref, reference)
VALUES (?, ?, ?, ?, ?, '', '')`, []any{at, string(what), orderNo, version, string(state)}}
}

// write runs statements one after the other, a round trip each.
func write(ctx context.Context, tx *sql.Tx, statements ...statement) error {
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
	}
	return nil
}
