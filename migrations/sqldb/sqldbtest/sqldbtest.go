// Package sqldbtest gives tests a fresh, migrated database on every engine,
// and private servers that a test may hurt.
//
// SQLite is always there. MariaDB and Redis are started when their programs
// are found (Debian's packages mariadb-server and redis-server); without them
// the test is skipped and says so, or fails where ORDERD_TEST_REQUIRE=1. A server of
// one's own, such as a TiDB, is one more engine where ORDERD_TEST_DSN names it.
package sqldbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/alisql"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// Each runs test on every engine, each time with a fresh, migrated database.
func Each(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("mariadb", func(t *testing.T) { test(t, MariaDB(t)) })
	t.Run("own", func(t *testing.T) { test(t, Own(t)) })
}

// Races is Each for tests of concurrency: MariaDB also under REPEATABLE READ,
// and there with innodb_snapshot_isolation, which answers 1020 where it would
// lose an update. The service sets READ COMMITTED and must not rest on it: a
// proxy makes another level of it. TiDB's REPEATABLE READ is not among them: it reads
// from before a lock, and orderd does not start on it (Safety).
func Races(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	Each(t, test)
	t.Run("repeatable read", func(t *testing.T) { test(t, isolated(t, "OFF")) })
	t.Run("snapshot isolation", func(t *testing.T) { test(t, isolated(t, "ON")) })
}

// isolated gives a database of the shared server whose transactions are REPEATABLE
// READ, with innodb_snapshot_isolation OFF or ON (a MariaDB setting). It fails the test
// when the server did not take either.
func isolated(t *testing.T, snapshot string) *sqldb.DB {
	t.Helper()
	name := migratedMariaDB(t)
	proxy, err := faultproxy.NewMySQL(shared.maria.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	proxy.Rewrite("READ COMMITTED", "REPEATABLE READ")
	db := connect(t, shared.maria.TCPDSN(proxy.Addr(), name)+"?innodb_snapshot_isolation="+snapshot)
	var level string
	if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT CONCAT(@@tx_isolation, ' ', @@innodb_snapshot_isolation)").Scan(&level)
	}); err != nil {
		t.Fatal(err)
	}
	if level != "REPEATABLE-READ "+snapshot {
		t.Fatalf("isolation %q, snapshot isolation %s is wanted", level, snapshot)
	}
	return db
}

// SQLite opens a fresh database in a file, which goes with the test's folder: in
// memory, every connection would have a database of its own.
func SQLite(t testing.TB) *sqldb.DB {
	t.Helper()
	file := filepath.Join(t.TempDir(), "orderd.db")
	copySQLite(t, file)
	return connect(t, "sqlite:"+file)
}

// MariaDB opens a fresh database on the server that the tests of this process share,
// the first of which starts it.
func MariaDB(t testing.TB) *sqldb.DB {
	t.Helper()
	name := migratedMariaDB(t) // starts the server
	return connect(t, shared.maria.DSN(name))
}

// MariaDBDSN makes an empty database on the shared server and gives its DSN.
func MariaDBDSN(t testing.TB) string {
	t.Helper()
	name := emptyMariaDB(t) // starts the server
	return shared.maria.DSN(name)
}

// emptyMariaDB makes an empty database on the shared server and gives its name.
func emptyMariaDB(t testing.TB) string {
	t.Helper()
	startShared(t)
	name := "t" + strconv.FormatInt(shared.n.Add(1), 10)
	if err := shared.maria.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

// startShared starts the server that the tests of this process share, once.
func startShared(t testing.TB) {
	t.Helper()
	shared.mariaOnce.Do(func() {
		shared.maria, shared.mariaErr = servers.StartMariaDB(context.Background(), processDir("mariadb"))
	})
	require(t, shared.mariaErr)
}

// AliSQL opens a fresh database of the shared server behind a stand-in for Alibaba
// Cloud's MySQL, which ends with the test.
func AliSQL(t testing.TB, mode alisql.Mode) (*sqldb.DB, *alisql.Server) {
	t.Helper()
	name := migratedMariaDB(t)
	server, err := alisql.Start(shared.maria.Addr, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return connect(t, shared.maria.TCPDSN(server.Addr(), name)), server
}

// AsTiDB makes an empty database of the shared server and gives its DSN behind a proxy that has it
// taken for TiDB. answer says whether it would keep CHECK constraints, and what more the proxy
// replaces in statements. It shows what orderd asks of TiDB, and nothing of what TiDB answers.
func AsTiDB(t testing.TB) (dsn string, answer func(checks bool, rewrites ...string)) {
	t.Helper()
	name := emptyMariaDB(t)
	proxy, err := faultproxy.NewMySQL(shared.maria.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	stands := map[bool]string{true: "LIKE 'autocommit'", false: "LIKE 'read_only'"} // that is ON, and OFF
	answer = func(checks bool, rewrites ...string) {
		proxy.Rewrite(append([]string{"LIKE 'tidb_txn_mode'", "LIKE 'version'",
			"LIKE 'tidb_enable_check_constraint'", stands[checks]}, rewrites...)...)
	}
	answer(true)
	return shared.maria.TCPDSN(proxy.Addr(), name), answer
}

// MariaDBServer starts a server of the test's own, which it may kill. options are those
// of the server's command line. It ends with the test.
func MariaDBServer(t testing.TB, options ...string) *servers.MariaDB {
	t.Helper()
	m, err := servers.StartMariaDB(t.Context(), processDir(fmt.Sprintf("mariadb%d", shared.n.Add(1))), options...)
	require(t, err)
	t.Cleanup(m.Stop)
	return m
}

// Replicated starts a primary and a replica of it, of the test's own, of which it may kill
// one. semiSync: the primary answers a COMMIT when the replica has it. options are those of
// both command lines.
func Replicated(t testing.TB, semiSync bool, options ...string) (primary, replica *servers.MariaDB) {
	t.Helper()
	primary = MariaDBServer(t, append(servers.ReplicaOptions(1), options...)...)
	replica = MariaDBServer(t, append(servers.ReplicaOptions(2), options...)...)
	err := servers.Replicate(t.Context(), primary, replica)
	if err == nil && semiSync {
		err = primary.SemiSync(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return primary, replica
}

// Open opens and migrates a database of such a server.
func Open(t testing.TB, dsn string) *sqldb.DB {
	t.Helper()
	return open(t, dsn)
}

// RedisServer starts a Redis of the test's own, empty, which it may kill.
func RedisServer(t testing.TB, options ...string) *servers.Redis {
	t.Helper()
	r, err := servers.StartRedis(t.Context(), processDir(fmt.Sprintf("redis%d", shared.n.Add(1))), options...)
	require(t, err)
	t.Cleanup(r.Stop)
	return r
}

// RedisCluster starts a Redis Cluster of the test's own, empty: three masters,
// each with a replica, of which it may kill some.
func RedisCluster(t testing.TB) *servers.RedisCluster {
	t.Helper()
	return redisCluster(t, 1)
}

// RedisMasters is RedisCluster without replicas: what a dead master had is lost, and the
// others go on.
func RedisMasters(t testing.TB) *servers.RedisCluster {
	t.Helper()
	return redisCluster(t, 0, "--cluster-require-full-coverage", "no")
}

// redisCluster starts three masters with so many replicas each.
func redisCluster(t testing.TB, replicas int, options ...string) *servers.RedisCluster {
	t.Helper()
	c, err := servers.StartRedisCluster(t.Context(), processDir(fmt.Sprintf("cluster%d", shared.n.Add(1))), 3,
		replicas, options...)
	require(t, err)
	t.Cleanup(c.Stop)
	return c
}

// RedisSentinel starts a master, a replica and three sentinels of the test's own, empty,
// of which it may kill some.
func RedisSentinel(t testing.TB) *servers.RedisSentinel {
	t.Helper()
	return startSentinels(t, nil)
}

// RedisSentinelTLS is RedisSentinel over TLS alone. Its certificate, one for all tests of a process,
// is what SSL_CERT_FILE names for the time of the test: Go reads the system's certificates once, when
// the first connection needs them.
func RedisSentinelTLS(t testing.TB) *servers.RedisSentinel {
	t.Helper()
	files, err := tlsFiles()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", files.Cert)
	return startSentinels(t, files)
}

var tlsFiles = sync.OnceValues(func() (*servers.TLSFiles, error) { return servers.NewTLSFiles(processDir("tls")) })

func startSentinels(t testing.TB, files *servers.TLSFiles) *servers.RedisSentinel {
	t.Helper()
	s, err := servers.StartRedisSentinel(t.Context(), processDir(fmt.Sprintf("sentinel%d", shared.n.Add(1))), files)
	require(t, err)
	t.Cleanup(s.Stop)
	return s
}

// connect opens a database that has the newest schema; it is closed with the test.
func connect(t testing.TB, dsn string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// open is connect, and brings the database to the newest schema.
func open(t testing.TB, dsn string) *sqldb.DB {
	t.Helper()
	db := connect(t, dsn)
	if _, err := migrations.Up(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

// shared is the servers of this test process, which die with it, and n, from which
// databases and folders have their numbers. mariaErr is why the first start failed: it
// is not tried again.
var shared struct {
	n         atomic.Int64
	mariaOnce sync.Once
	maria     *servers.MariaDB
	mariaErr  error
	sweepOnce sync.Once
}

// require skips the test when a server is not installed, or fails it where
// ORDERD_TEST_REQUIRE=1: a run that must prove something must not leave tests out. Any
// other error fails it.
func require(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if !errors.Is(err, servers.ErrNotInstalled) || os.Getenv("ORDERD_TEST_REQUIRE") == "1" {
		t.Fatal(err)
	}
	t.Skipf("not run: %v (install Debian's mariadb-server and redis-server)", err)
}

// dirPrefix and the process id name the folder of a test process below the system's for
// temporary files.
const dirPrefix = "orderd-test-"

// processDir gives a folder for a server of this process. The folders of
// processes that have ended are removed: a test binary has no exit hook.
func processDir(name string) string {
	shared.sweepOnce.Do(func() {
		old, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
		for _, dir := range old {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), dirPrefix))
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				_ = os.RemoveAll(dir)
			}
		}
	})
	return filepath.Join(os.TempDir(), dirPrefix+strconv.Itoa(os.Getpid()), name)
}
