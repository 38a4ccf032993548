package operators

import (
	"context"
	"errors"
	"fmt"

	"orderd/migrations/sqldb"
)

// Still is Who for what a browser does by itself, such as a page that keeps itself up to date: it does
// not count as seen, so that a page that is left open ends its session as any other does.
func (l *Logins) Still(ctx context.Context, secret string) (*Session, error) {
	var found []Session
	err := l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		found, err = sessions(ctx, tx, "s.sha256 = ?", hashOf(secret), l.now())
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look a session up: %w", err), sqldb.ErrUnavailable)
	}
	if len(found) == 0 {
		return nil, nil
	}
	return &found[0], nil
}
