package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"orderd/migrations/sqldb"
)

//go:embed sql/*.sql
var files embed.FS

// ErrSchemaBehind: the database has not seen every migration of this binary.
var ErrSchemaBehind = errors.New("database schema is behind this binary: run 'orderd migrate up'")

// Migration is one step of the schema and whether the database has it.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

// Up applies every missing migration and gives those it applied. Two processes
// may call it at once: on MySQL a lock table makes them take turns, and one that
// was killed half-way is gone on with when its lease is over, half a minute.
func Up(ctx context.Context, db *sqldb.DB) ([]Migration, error) {
	pool, done := resumable(ctx, db)
	defer done()
	p, err := provider(db, pool, true)
	if err != nil {
		return nil, err
	}
	results, err := p.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	applied := make([]Migration, 0, len(results))
	for _, r := range results {
		applied = append(applied, Migration{Version: r.Source.Version, Name: r.Source.Path, Applied: true})
	}
	return applied, nil
}

// Down takes the newest applied migration back. It destroys data.
func Down(ctx context.Context, db *sqldb.DB) (Migration, error) {
	p, err := provider(db, db.Pool(), true)
	if err != nil {
		return Migration{}, err
	}
	r, err := p.Down(ctx)
	if err != nil {
		return Migration{}, fmt.Errorf("migrate down: %w", err)
	}
	return Migration{Version: r.Source.Version, Name: r.Source.Path}, nil
}

// Status lists all migrations, oldest first. It takes no lock: the lock is a row
// that is written, and whoever only looks may not be allowed to write.
func Status(ctx context.Context, db *sqldb.DB) ([]Migration, error) {
	p, err := provider(db, db.Pool(), false)
	if err != nil {
		return nil, err
	}
	status, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	all := make([]Migration, 0, len(status))
	for _, s := range status {
		all = append(all, Migration{Version: s.Source.Version, Name: s.Source.Path, Applied: s.State == goose.StateApplied})
	}
	return all, nil
}

// Check returns ErrSchemaBehind unless every migration of this binary is applied.
func Check(ctx context.Context, db *sqldb.DB) error {
	all, err := Status(ctx, db)
	if err != nil {
		return err
	}
	for _, m := range all {
		if !m.Applied {
			return fmt.Errorf("%w (missing %s)", ErrSchemaBehind, m.Name)
		}
	}
	return nil
}

// resumable gives the pool to migrate with. A database that was never migrated
// must be empty of our tables; one that was may have half of the next migration,
// because MySQL commits every statement of a schema change.
func resumable(ctx context.Context, db *sqldb.DB) (pool *sql.DB, done func()) {
	var begun int
	if db.Engine() == sqldb.MySQL && db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+goose.DefaultTablename).Scan(&begun) == nil {
		pool = db.ResumingPool()
		return pool, func() { _ = pool.Close() }
	}
	return db.Pool(), func() {}
}

func provider(db *sqldb.DB, pool *sql.DB, locked bool) (*goose.Provider, error) {
	dir, err := fs.Sub(files, "sql")
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	var options []goose.ProviderOption
	dialect := database.DialectSQLite3
	if db.Engine() == sqldb.MySQL {
		dialect = database.DialectMySQL
	}
	if locked && db.Engine() == sqldb.MySQL {
		locker, err := lock.NewMySQLTableLocker()
		if err != nil {
			return nil, fmt.Errorf("migration lock: %w", err)
		}
		options = append(options, goose.WithLocker(locker))
	}
	p, err := goose.NewProvider(dialect, pool, dir, options...)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return p, nil
}
