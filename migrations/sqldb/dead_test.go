package sqldb_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// shopBehind starts a server with an empty database shop, and a proxy before it.
func shopBehind(t *testing.T) (*servers.MariaDB, *faultproxy.Proxy) {
	t.Helper()
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return server, proxy
}

// behind opens a database of a server twice: as it is, and through a proxy.
func behind(t *testing.T) (*servers.MariaDB, *faultproxy.Proxy, *sqldb.DB, *sqldb.DB) {
	t.Helper()
	server, proxy := shopBehind(t)
	direct := sqldbtest.Open(t, server.TCPDSN(server.Addr, "shop"))
	far, err := sqldb.Open(t.Context(), server.TCPDSN(proxy.Addr(), "shop"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return server, proxy, direct, far
}

// A host that dies in a transaction sends no FIN: the server would keep its locks for its own wait_timeout, 8 hours,
// and nobody could sell that SKU. The death comes between two statements, at the COMMIT, and while the server waits for
// the rest of a statement.
func TestLocksOfADeadHostEnd(t *testing.T) {
	_, proxy, direct, far := behind(t)
	put(t, direct, "mug", 100)
	take := func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'mug'")
		return err
	}
	for name, die := range map[string]func(ctx context.Context, tx *sqldb.Tx) error{
		"between two statements": func(ctx context.Context, tx *sqldb.Tx) error {
			err := take(ctx, tx)
			proxy.Abandon()
			return errors.Join(err, errOwn)
		},
		"at COMMIT": func(ctx context.Context, tx *sqldb.Tx) error {
			proxy.Next(faultproxy.Dead)
			return take(ctx, tx)
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_ = far.InTx(ctx, die)
		cancel()
		begin := time.Now()
		for time.Since(begin) < time.Minute {
			if direct.InTx(t.Context(), take) == nil {
				break
			}
		}
		if took := time.Since(begin); took > 30*time.Second { // hours, were it the server's own time
			t.Errorf("%s: the row was locked for %s", name, took)
		} else {
			t.Logf("%s: locked for %s", name, took.Round(10*time.Millisecond))
		}
	}
}

// What is set for a connection must be in force on it, the pool must be quicker than the server where it ends idle
// connections, and a proxy that swallows the setting must be told of by doctor.
func TestDeadHostsAreInForce(t *testing.T) {
	server, proxy, direct, _ := behind(t)
	finding := func(db *sqldb.DB) sqldb.Finding {
		t.Helper()
		all, err := db.Safety(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.ID == "mysql.dead_hosts" {
				return f
			}
		}
		t.Fatal("doctor says nothing of dead hosts")
		return sqldb.Finding{}
	}
	if f := finding(direct); f.Level != sqldb.LevelOK || !strings.Contains(f.Found, "wait_timeout=5") {
		t.Errorf("%+v", f)
	}
	var reader int
	if err := direct.QueryRowContext(t.Context(), "SELECT @@wait_timeout").Scan(&reader); err != nil || reader > 120 {
		t.Errorf("a reader that is dead is kept for %d s, %v", reader, err)
	}
	proxy.Rewrite("wait_timeout = 5", "wait_timeout = 28800")
	deaf, err := sqldb.Open(t.Context(), server.TCPDSN(proxy.Addr(), "shop"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deaf.Close() })
	if f := finding(deaf); f.Level != sqldb.LevelWarn || f.Fix == "" {
		t.Errorf("a proxy that swallows it: %+v", f)
	}
	// Every connection that writes and lies idle is gone before the server would end it.
	if err := direct.InTx(t.Context(), func(context.Context, *sqldb.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if sqldb.WriteIdle+time.Second >= sqldb.DeadAfter {
		t.Errorf("the pool keeps idle writers for %s, the server for %s", sqldb.WriteIdle, sqldb.DeadAfter)
	}
}
