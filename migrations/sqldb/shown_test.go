package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// served gives the number of the server that answers what is shown.
func served(t *testing.T, db *sqldb.DB) (id int) {
	t.Helper()
	if err := db.Shown().QueryRowContext(t.Context(), "SELECT @@server_id").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// servedBy waits until a server answers what is shown.
func servedBy(t *testing.T, db *sqldb.DB, id int) {
	t.Helper()
	for begin := time.Now(); served(t, db) != id; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 2*time.Minute {
			l, _ := db.Lag()
			t.Fatalf("server %d does not show: %+v", id, l)
		}
	}
}

// shownMugs counts the SKUs of a name as they are shown, by a snapshot.
func shownMugs(t *testing.T, db *sqldb.DB, name string) (n int) {
	t.Helper()
	err := db.Shown().Snapshot(t.Context(), func(ctx context.Context, v sqldb.View) error {
		return v.QueryRowContext(ctx, "SELECT COUNT(*) FROM skus WHERE sku_id = ?", name).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A replica shows while it is within the bound. What it has not got yet is missing there alone: what decides sees it,
// and so does what the primary shows. One that is held back, dies, or is no copy of the database is left for the
// primary.
func TestReplicaShowsWithinItsBound(t *testing.T) {
	primary, replica := sqldbtest.Replicated(t, false)
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, primary.DSN("shop"))
	for _, s := range []string{"CREATE USER reader@'%'", "GRANT SELECT ON shop.* TO reader@'%'"} {
		if err := primary.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	// The same with another bound, by a user who may read the shop and nothing else, here and there.
	other, err := sqldb.Open(t.Context(), "mysql:reader@tcp("+primary.Addr+")/shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	follow := func(db *sqldb.DB, bound time.Duration) {
		t.Helper()
		if err := db.ShowFrom(t.Context(), "mysql:reader@tcp("+replica.Addr+")/shop", migrations.Birth,
			bound); err != nil {
			t.Fatal(err)
		}
		servedBy(t, db, 2)
	}
	follow(db, time.Minute)
	follow(other, sqldb.LeastLag)
	put(t, db, "mug", 10)
	for begin := time.Now(); shownMugs(t, db, "mug") == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 2*time.Minute {
			t.Fatal("the replica never shows it")
		}
	}
	if err := replica.Exec(t.Context(), "STOP SLAVE SQL_THREAD"); err != nil {
		t.Fatal(err)
	}
	put(t, db, "cup", 3)
	if n := shownMugs(t, db, "cup"); n != 0 || served(t, db) != 2 {
		t.Error("a minute has not passed, and the replica does not show")
	}
	known, err := sqldb.Decided(t.Context(), db, "SELECT sku_id FROM skus", nil, sqldb.Column[string])
	if err != nil || !slices.Contains(known, "cup") {
		t.Error("what decides does not see what was written:", known, err)
	}
	if n := available(t, db, "cup"); n != 3 {
		t.Errorf("the primary shows %d", n)
	}
	servedBy(t, other, 1)
	if n := shownMugs(t, other, "cup"); n != 1 {
		t.Error("the primary stands in for the replica, and does not show what it has")
	}
	if l, _ := other.Lag(); l.Fresh || !errors.Is(l.Err, sqldb.ErrBehind) {
		t.Errorf("%+v", l)
	}
	if err := replica.Exec(t.Context(), "START SLAVE"); err != nil {
		t.Fatal(err)
	}
	servedBy(t, other, 2)
	if n := shownMugs(t, other, "cup"); n != 1 {
		t.Error("it is fresh again, and has not what was written before")
	}
	stranger := sqldbtest.Open(t, primary.DSN("shop"))
	err = stranger.ShowFrom(t.Context(), replica.DSN("mysql"), "SELECT DATABASE()", time.Minute)
	if l, _ := stranger.Lag(); err != nil || !errors.Is(l.Err, sqldb.ErrNoCopy) || served(t, stranger) != 1 {
		t.Errorf("another database shows: %+v, %v", l, err)
	}
	goAstray(t, primary, replica)
	servedBy(t, db, 1) // its bound is a minute, in which it was fresh
	if l, _ := db.Lag(); !errors.Is(l.Err, sqldb.ErrNoCopy) {
		t.Errorf("it has what the primary has not: %+v", l)
	}
	for range 3 { // the primary comes to the same numbers, and beyond
		put(t, db, fmt.Sprint("pot ", time.Now().UnixNano()), 1)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		l, _ := db.Lag()
		if l.Fresh || time.Since(begin) > 2*time.Minute {
			t.Fatalf("numbers of another server count: %+v", l)
		}
		if errors.Is(l.Err, sqldb.ErrBehind) {
			break
		}
	}
	replica.Kill()
	for range 5 { // at once, each without an error
		if n := shownMugs(t, db, "cup"); n != 1 || served(t, db) != 1 {
			t.Error("the replica is dead, and the primary does not show")
		}
	}
}

// goAstray gives a replica the place of one whose primary has died, and whose log led one change further than that of
// the server that writes now.
func goAstray(t *testing.T, primary, replica *servers.MariaDB) {
	t.Helper()
	var at string
	err := sqldbtest.Open(t, primary.DSN("shop")).QueryRowContext(t.Context(), "SELECT @@GLOBAL.gtid_current_pos").
		Scan(&at)
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if _, err := fmt.Sscanf(at, "0-1-%d", &number); err != nil {
		t.Fatal(at, err)
	}
	for _, s := range []string{"STOP SLAVE", fmt.Sprintf("SET GLOBAL gtid_slave_pos = '0-7-%d'", number+1)} {
		if err := replica.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// A primary that writes no log has the place that it had as a replica for ever: nobody is measured by it.
func TestNoReplicaIsMeasuredWithoutALog(t *testing.T) {
	dsn := sqldbtest.MariaDBDSN(t)
	db := sqldbtest.Open(t, dsn)
	set := func(place string) {
		t.Helper()
		if _, err := db.Pool().ExecContext(context.WithoutCancel(t.Context()),
			"SET GLOBAL gtid_slave_pos = '"+place+"'"); err != nil {
			t.Fatal(err)
		}
	}
	set("0-9-5")
	t.Cleanup(func() { set("") })
	other := sqldbtest.Open(t, dsn) // closed first
	if err := other.ShowFrom(t.Context(), dsn, "SELECT DATABASE()", time.Minute); err != nil {
		t.Fatal(err)
	}
	if l, _ := other.Lag(); l.Fresh || !errors.Is(l.Err, sqldb.ErrNoGTIDs) {
		t.Errorf("%+v", l)
	}
}

// Of several hosts one would be measured and another one read.
func TestReplicaIsOneServer(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	err := db.ShowFrom(t.Context(), "mysql:reader@tcp(a:3306,b:3306)/shop", "SELECT 1", time.Minute)
	if !errors.Is(err, sqldb.ErrDSN) {
		t.Error(err)
	}
}

// What decides takes a *Tx. Neither what shows nor what it gives is one, or leads to one.
func TestShownLeadsToNoTransaction(t *testing.T) {
	for of, want := range map[reflect.Type][]string{
		reflect.TypeFor[sqldb.Shown](): {"FromReplica", "QueryContext", "QueryRowContext", "Snapshot"},
		reflect.TypeFor[sqldb.View]():  {"QueryContext", "QueryRowContext"},
	} {
		var has []string
		for i := range of.NumMethod() {
			m := of.Method(i)
			has = append(has, m.Name)
			if strings.Contains(m.Type.String(), "Tx") || strings.Contains(m.Type.String(), "sqldb.DB") {
				t.Errorf("%s: %s", m.Name, m.Type)
			}
		}
		if !slices.Equal(has, want) {
			t.Errorf("%s has %v: does one of them write, or decide?", of, has)
		}
	}
}
