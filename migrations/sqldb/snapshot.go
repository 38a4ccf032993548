package sqldb

import (
	"context"
	"database/sql"
)

// Snapshot reads in one transaction that only reads: all of its queries see one
// moment, that of the first of them, whatever is committed meanwhile. It takes
// no locks and no time-out but ctx's, and should not be held for long: the
// engines keep what others overwrite until it ends.
func (db *DB) Snapshot(ctx context.Context, read func(ctx context.Context, tx *Tx) error) error {
	tx, err := db.moment(ctx, db.show)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	err = read(ctx, &Tx{tx: tx, engine: db.engine, begun: true, reads: true})
	if class := Classify(err); class == ClassDown || class == ClassRefused {
		err = db.tell(unavailable(err))
	}
	return err
}

// moment begins a transaction that sees one moment.
func (db *DB) moment(ctx context.Context, pool *sql.DB) (*sql.Tx, error) {
	options := &sql.TxOptions{ReadOnly: true} // SQLite: a deferred transaction, which is a snapshot
	if db.engine == MySQL {
		// Of this transaction only, and without the words READ ONLY, which TiDB refuses (1235).
		options = &sql.TxOptions{Isolation: sql.LevelRepeatableRead}
	}
	return pool.BeginTx(ctx, options)
}

// Engine tells which family the transaction's database belongs to.
func (tx *Tx) Engine() Engine { return tx.engine }
