package sqldbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"orderd/migrations/sqldb"
)

// ownVariable names a server of one's own, such as a TiDB, as mysql:USER:PASS@tcp(HOST:PORT): tests make and drop
// databases of their own there, and touch no other.
const ownVariable = "ORDERD_TEST_DSN"

// Own opens a fresh, migrated database on the server of ORDERD_TEST_DSN; it is dropped with the test. Without one the
// test is skipped and says so. TiDB has to keep CHECK constraints before (docs/tidb.md).
func Own(t testing.TB) *sqldb.DB {
	t.Helper()
	dsn := os.Getenv(ownVariable)
	if dsn == "" {
		t.Skip("not run: " + ownVariable + " names no server of your own")
	}
	config, err := ownServer(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	admin := sql.OpenDB(server)
	config.DBName = fmt.Sprintf("testsoforderd_%d_%d", os.Getpid(), shared.n.Add(1))
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+config.DBName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer admin.Close()
		_, err := admin.ExecContext(context.Background(), "DROP DATABASE "+config.DBName) //nolint:gosec // our name
		if err != nil {
			t.Error(err)
		}
	})
	return open(t, "mysql:"+config.FormatDSN())
}

// ownServer reads the variable, whose slash may be missing. A database is refused: it may be somebody's.
func ownServer(dsn string) (*mysql.Config, error) {
	rest, is := strings.CutPrefix(dsn, "mysql:")
	if !is {
		return nil, fmt.Errorf("%s: want mysql:USER:PASS@tcp(HOST:PORT)", ownVariable)
	}
	if !strings.Contains(rest[strings.LastIndex(rest, ")")+1:], "/") {
		rest += "/"
	}
	config, err := mysql.ParseDSN(rest)
	if err == nil && config.DBName != "" {
		err = fmt.Errorf("it names a server and no database; %s may be somebody's", config.DBName)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ownVariable, err)
	}
	return config, nil
}

// NotOnTiDB skips a test on TiDB, and says why it means nothing there.
func NotOnTiDB(t testing.TB, db *sqldb.DB, why string) {
	t.Helper()
	if db.TiDB() {
		t.Skip("not run on TiDB: " + why)
	}
}
