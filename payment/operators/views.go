package operators

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// View is what a person looks for often on a page of the console: filters, under a name of the person's own.
type View struct {
	Name  string
	Query string // of the page's address
}

const (
	// MaxViews is how many views a person has of one page: more are not looked at.
	MaxViews = 20
	// maxQuery is the width of the column, in bytes.
	maxQuery = 800
)

// Errors of SaveView.
var (
	// ErrViews: MaxViews are there.
	ErrViews = fmt.Errorf("there are %d saved filters of this page; remove one first", MaxViews)
	// ErrView: the name or the filters do not fit.
	ErrView = errors.New("a name has 1 to 40 characters, and the filters fit an address")
)

// Views gives the views that a person has of a page, by name.
func (l *Logins) Views(ctx context.Context, person, page string) ([]View, error) {
	all, err := sqldb.Decided(ctx, l.db, viewsQuery, []any{person, page}, func(rows *sql.Rows) (v View, err error) {
		err = rows.Scan(&v.Name, &v.Query)
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("read saved filters: %w", err)
	}
	return all, nil
}

const viewsQuery = `SELECT name, query
FROM saved_views
WHERE person = ?
  AND page = ?
ORDER BY name`

// SaveView keeps a view, in place of one of the same name. Errors: ErrView, ErrViews, database errors.
func (l *Logins) SaveView(ctx context.Context, person, page string, v View) error {
	if !bounds.ViewName.Fits(v.Name) || len(v.Query) > maxQuery {
		return ErrView
	}
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := dropView(ctx, tx, person, page, v.Name); err != nil {
			return err
		}
		n := 0
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*)
FROM saved_views
WHERE person = ?
  AND page = ?`, person, page).Scan(&n); err != nil {
			return err
		}
		if n >= MaxViews {
			return ErrViews
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO saved_views
  (person, page, name, query, saved_at)
VALUES (?, ?, ?, ?, ?)`, person, page, v.Name, v.Query, sqldb.Millis(l.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("save filters: %w", err)
	}
	return nil
}

// DropView forgets a view; one that is not there is forgotten.
func (l *Logins) DropView(ctx context.Context, person, page, name string) error {
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return dropView(ctx, tx, person, page, name)
	})
	if err != nil {
		return fmt.Errorf("forget saved filters: %w", err)
	}
	return nil
}

func dropView(ctx context.Context, tx *sqldb.Tx, person, page, name string) error {
	_, err := tx.Update(ctx, `DELETE FROM saved_views
WHERE person = ?
  AND page = ?
  AND name = ?`, person, page, name)
	return err
}
