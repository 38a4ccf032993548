package sqldb_test

import (
	"context"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
)

// frozenFirst opens a database by two hosts, of which the first is a proxy before the second.
func frozenFirst(t *testing.T) (*faultproxy.Proxy, string) {
	t.Helper()
	server, proxy := shopBehind(t)
	return proxy, server.TCPDSN(proxy.Addr()+","+server.Addr, "shop")
}

// answers reads within a request's time, several times, until there is an answer.
func answers(t *testing.T, when string, db *sqldb.DB) {
	t.Helper()
	for begin := time.Now(); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		var one int
		err := db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
		cancel()
		if err == nil {
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("%s: %v", when, err)
		}
	}
}

// The kernel of a host whose server stands still takes connections, and nobody greets: what is shown must come from
// the next host, for a process that starts and for one that has connections there.
func TestReadsLeaveAServerThatStandsStill(t *testing.T) {
	proxy, dsn := frozenFirst(t)
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	answers(t, "before", db)
	proxy.Silence(true)
	answers(t, "a process that serves", db)
	fresh, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal("a process that starts:", err)
	}
	t.Cleanup(func() { _ = fresh.Close() })
	answers(t, "a process that starts", fresh)
}
