package echoes

import (
	"context"
	"fmt"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// keep is how long a row is kept, for a person who looks at what came.
const keep = 7 * 24 * time.Hour

// Store is the table, in one database.
type Store struct {
	db  *sqldb.DB
	now func() time.Time
}

// New gives the table of a database.
func New(db *sqldb.DB, now func() time.Time) *Store { return &Store{db: db, now: now} }

// Heard records a callback, once however often it comes, one that does not decrypt with an
// empty message. A message that is none of doctor's is not recorded: WeChat Pay signed it,
// and somebody else of this merchant has asked for it.
func (s *Store) Heard(ctx context.Context, e payment.Echo) error {
	if !bounds.NotificationID.Fits(e.ID) || e.Message != "" && !bounds.Echo.Fits(e.Message) {
		return nil
	}
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		at := s.now()
		if _, err := tx.ExecContext(ctx, `DELETE FROM echoes
WHERE heard_at < ?`, sqldb.Millis(at.Add(-keep))); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO echoes
  (id, message, heard_at)
VALUES (?, ?, ?)`, e.ID, e.Message, sqldb.Millis(at))
		if sqldb.IsDuplicate(err) {
			return nil // a repeat
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record the callback of a test: %w", err)
	}
	return nil
}

// Count gives how many callbacks came with a message; of "", how many do not decrypt.
func (s *Store) Count(ctx context.Context, message string) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COUNT(*)
FROM echoes
WHERE message = ?`, message).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("look for the callback of a test: %w", err)
	}
	return n, nil
}
