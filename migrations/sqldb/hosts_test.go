package sqldb_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// Hosts are listed as people write lists.
func TestHostsAreListedWithSpaces(t *testing.T) {
	got, err := sqldb.Hosts("u:p@tcp(db1:3307, db2 ,[::1]:3308)/shop")
	if want := []string{"db1:3307", "db2:3306", "[::1]:3308"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// A host to fail over to that is not there is found out at the fail-over, and two servers that take writes by what
// each lacks: doctor says both before. One server under two addresses is one.
func TestDoctorAsksEveryHost(t *testing.T) {
	one, two := sqldbtest.MariaDBServer(t), sqldbtest.MariaDBServer(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{one.Create(t.Context(), "shop"), two.Create(t.Context(), "shop")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, port, err := net.SplitHostPort(one.Addr)
	if err != nil {
		t.Fatal(err)
	}
	finding := func(hosts ...string) (f sqldb.Finding) {
		t.Helper()
		db, err := sqldb.Open(t.Context(), one.TCPDSN(strings.Join(hosts, ", "), "shop"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		all, err := db.Safety(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, is := range all {
			if is.ID == "mysql.hosts" {
				f = is
			}
		}
		return f
	}
	check := func(what string, f sqldb.Finding, level sqldb.Level, found string) {
		t.Helper()
		if f.Level != level || f.Found != found ||
			(level == sqldb.LevelWarn || level == sqldb.LevelFail) && (f.Why == "" || f.Fix == "") {
			t.Errorf("%s: %+v, want %q", what, f, found)
		}
	}
	check("one host", finding(one.Addr), "", "")
	check("one server twice", finding(one.Addr, "localhost:"+port), sqldb.LevelOK,
		one.Addr+"=writable localhost:"+port+"=writable")
	check("two that write", finding(one.Addr, two.Addr), sqldb.LevelFail, one.Addr+"=writable "+two.Addr+"=writable")
	if err := two.Exec(t.Context(), "SET GLOBAL read_only = ON"); err != nil {
		t.Fatal(err)
	}
	check("a pair", finding(one.Addr, two.Addr), sqldb.LevelOK, one.Addr+"=writable "+two.Addr+"=read-only")
	check("one away", finding(one.Addr, away), sqldb.LevelWarn, one.Addr+"=writable "+away+"=unreachable")
}
