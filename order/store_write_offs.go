package order

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"orderd/migrations/sqldb"
)

// All statements of this package on the table write_offs, what people have said of money that
// is held and nobody's. Whether a payment is written off stands there alone: payments.outcome
// is owed then, which for every program means that nothing more is done about it by itself.

// findWriteOffs gives what was said of the payments of transactions, of those of which
// something was.
func findWriteOffs(ctx context.Context, q querier, transactions []string) (map[string]WriteOff, error) {
	found := map[string]WriteOff{}
	if len(transactions) == 0 {
		return found, nil
	}
	err := sqldb.Each(ctx, q, `SELECT transaction_id, amount_fen, proposed_by, proposed_why, proposed_at,
  written_off_by, written_off_why, written_off_at
FROM write_offs
WHERE transaction_id IN (`+sqldb.In(len(transactions))+`)`, sqldb.Args(transactions), func(rows *sql.Rows) error {
		var id string
		var w WriteOff
		var proposed, done int64
		err := rows.Scan(&id, &w.Amount, &w.ProposedBy, &w.ProposedWhy, &proposed, &w.WrittenOffBy, &w.WrittenOffWhy,
			&done)
		w.ProposedAt, w.WrittenOffAt = sqldb.FromMillis(proposed), sqldb.FromMillis(done)
		found[id] = w
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find write-offs: %w", err)
	}
	return found, nil
}

// writeWriteOffs writes what this batch has said of held payments: the first word by the
// primary key, every other by what was read.
func (b *batch) writeWriteOffs(ctx context.Context, tx *sqldb.Tx) error {
	for _, id := range slices.Sorted(maps.Keys(b.refunds.writeOffs)) {
		e := b.refunds.writeOffs[id]
		if !e.touched {
			continue
		}
		n, was := &e.after, &e.before
		args := []any{int64(n.Amount), n.ProposedBy, n.ProposedWhy, sqldb.Millis(n.ProposedAt), n.WrittenOffBy,
			n.WrittenOffWhy, sqldb.Millis(n.WrittenOffAt), id}
		if was.ProposedBy == "" {
			if _, err := tx.ExecContext(ctx, `INSERT INTO write_offs
  (amount_fen, proposed_by, proposed_why, proposed_at, written_off_by, written_off_why, written_off_at, transaction_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, args...); err != nil {
				return fmt.Errorf("write what is said of held money %s: %w", id, err)
			}
			continue
		}
		rows, err := tx.Update(ctx, `UPDATE write_offs
SET amount_fen = ?, proposed_by = ?, proposed_why = ?, proposed_at = ?, written_off_by = ?, written_off_why = ?,
  written_off_at = ?
WHERE transaction_id = ?
  AND proposed_by = ?
  AND proposed_at = ?
  AND written_off_at = 0`, append(args, was.ProposedBy, sqldb.Millis(was.ProposedAt))...)
		if err != nil {
			return fmt.Errorf("write what is said of held money %s: %w", id, err)
		}
		if rows != 1 {
			return sqldb.ErrLostRace
		}
	}
	return nil
}

// writtenOffQuery reads the numbers of a page of the payments that were written off. What was only
// proposed is read with it, and is as few as what is held.
const writtenOffQuery = `SELECT transaction_id
FROM write_offs /*! FORCE INDEX (PRIMARY) */
WHERE written_off_at > 0
  AND transaction_id > ?
ORDER BY transaction_id
LIMIT ?`

// listWrittenOff gives up to limit payments that were written off by their numbers, those after
// cursor.
func listWrittenOff(ctx context.Context, q querier, cursor string, limit int) ([]HeldPayment, error) {
	var ids []string
	err := sqldb.Each(ctx, q, writtenOffQuery, []any{cursor, limit}, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return readHeld(ctx, q, `SELECT `+heldColumns+`
FROM payments /*! FORCE INDEX (PRIMARY) */
WHERE transaction_id IN (`+sqldb.In(len(ids))+`)
ORDER BY transaction_id`, sqldb.Args(ids)...)
}
