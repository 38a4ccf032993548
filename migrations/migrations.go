package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"orderd/migrations/sqldb"
)

//go:embed sql/*.sql
var files embed.FS

// ErrSchemaBehind: the database has not seen every migration of this binary.
var ErrSchemaBehind = errors.New("database schema is behind this binary: run 'orderd migrate up'")

// Migration is one step of the schema and whether the database has it. Its JSON is that
// of orderd migrate status.
type Migration struct {
	Version int64  `json:"version"` // from 1, the number at the begin of the file's name
	Name    string `json:"name"`    // of the file
	Applied bool   `json:"applied"` // the database has it
}

// Up applies every missing migration and gives those it applied. Two processes
// may call it at once: on MySQL a lock table makes them take turns, and one that
// was killed half-way is gone on with when its lease is over, half a minute. Where
// the tables would lack their CHECK constraints it applies none: sqldb.ErrChecksOff.
func Up(ctx context.Context, db *sqldb.DB) ([]Migration, error) {
	if err := mayMigrate(ctx, db); err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	pool, done, err := resumable(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	p, err := provider(db, pool, true)
	if err != nil {
		return nil, errors.Join(err, done(false))
	}
	results, err := p.Up(ctx)
	if err = errors.Join(err, done(err == nil)); err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	applied := make([]Migration, 0, len(results))
	for _, r := range results {
		applied = append(applied, Migration{Version: r.Source.Version, Name: r.Source.Path, Applied: true})
	}
	return applied, nil
}

// mayMigrate refuses a server that would make the tables of missing migrations without
// their CHECK constraints. Where nothing is missing, nothing is made.
func mayMigrate(ctx context.Context, db *sqldb.DB) error {
	err := db.KeepsChecks(ctx)
	if errors.Is(err, sqldb.ErrChecksOff) {
		if has, knows, of := Versions(ctx, db); of == nil && has >= knows {
			return nil
		}
	}
	return err
}

// Down takes the newest applied migration back. It destroys data: what the tables of
// that step held. On MySQL each of its statements commits by itself, so that one that
// fails leaves the rest half done.
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
		all = append(all, Migration{Version: s.Source.Version, Name: s.Source.Path,
			Applied: s.State == goose.StateApplied})
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

// Birth is a statement whose value only copies of one database have in common: when its first
// migration ran, in seconds.
const Birth = `SELECT MIN(tstamp)
FROM ` + goose.DefaultTablename

// Versions gives the newest migration that the database has, and the newest of this binary.
// It reads one row; Check reads them all.
func Versions(ctx context.Context, db *sqldb.DB) (has, knows int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0)
FROM `+goose.DefaultTablename+`
WHERE is_applied = 1`).Scan(&has)
	if err != nil {
		return 0, 0, fmt.Errorf("version of the schema: %w", err)
	}
	all, err := fs.Glob(files, "sql/*.sql")
	if err != nil {
		return 0, 0, err
	}
	for _, name := range all {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return 0, 0, err
		}
		knows = max(knows, version)
	}
	return has, knows, nil
}

// begunTable is there while the first migration of a database is under way. It
// tells our half of a schema from somebody else's tables of the same names.
const begunTable = "orderd_migration_begun"

// resumable gives the pool to migrate with, and what to do afterwards. MySQL
// commits every statement of a schema change, so that a database may have half
// of the next migration: to create or drop that again is no error. In one that has
// never finished a migration only what we have begun ourselves is gone on with.
func resumable(ctx context.Context, db *sqldb.DB) (pool *sql.DB, done func(applied bool) error, err error) {
	plain := func(bool) error { return nil }
	if db.Engine() != sqldb.MySQL {
		return db.Pool(), plain, nil
	}
	var version int64
	// An error is no such table yet: no version.
	_ = db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0)
FROM `+goose.DefaultTablename+`
WHERE is_applied = 1`).Scan(&version)
	if version == 0 {
		if ours, err := begin(ctx, db); err != nil || !ours {
			return db.Pool(), plain, err
		}
	}
	pool = db.ResumingPool()
	return pool, func(applied bool) error {
		if applied && version == 0 { // later ones leave it alone: whoever finds nothing to do may have no right to
			_, err = pool.ExecContext(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+begunTable)
		}
		return errors.Join(err, pool.Close())
	}, nil
}

// begin marks a database without our tables as begun. False: it has tables of
// our names that are not ours.
func begin(ctx context.Context, db *sqldb.DB) (ours bool, err error) {
	names, err := tableNames()
	if err != nil {
		return false, err
	}
	var begun, there int
	args := append([]any{begunTable, begunTable, begunTable}, sqldb.Args(names)...)
	err = db.QueryRowContext(ctx, `SELECT COALESCE(SUM(table_name = ?), 0), COALESCE(SUM(table_name <> ?), 0)
FROM information_schema.tables
WHERE table_schema = DATABASE()
  AND table_name IN (?,`+sqldb.In(len(names))+")", args...).Scan(&begun, &there)
	if err != nil || begun == 0 && there > 0 {
		return false, err
	}
	_, err = db.Pool().ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+begunTable+" (at BIGINT NOT NULL PRIMARY KEY)")
	return err == nil, err
}

// tableNames are the tables that the migrations create, read from the files of sql: a
// list beside them would miss the next one.
func tableNames() (names []string, err error) {
	createTable := regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)
	all, err := fs.Glob(files, "sql/*.sql")
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		for _, m := range createTable.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names, nil
}

// provider gives goose's runner for the engine. locked says that it changes the
// schema, and so must keep others out; SQLite's one writer does that by itself.
func provider(db *sqldb.DB, pool *sql.DB, locked bool) (*goose.Provider, error) {
	dir, err := fs.Sub(files, "sql")
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	if db.TiDB() {
		dir = quoted{dir}
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
