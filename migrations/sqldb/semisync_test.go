package sqldb_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// lost kills a primary −9 under load, a moment after its replica stopped to hear from it, and gives how many of the
// answered writes the replica has not.
func lost(t *testing.T, semiSync bool) (answered, missing int) {
	t.Helper()
	primary, replica := sqldbtest.Replicated(t, semiSync)
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, primary.DSN("shop"))
	g := adder(db, sqldb.GroupOptions{MaxBatch: 16}, nil)
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var acked []string
	var load sync.WaitGroup
	for w := range 8 {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("w%d-%d", w, i)
				if _, err := g.Do(ctx, id); err == nil {
					mu.Lock()
					acked = append(acked, id)
					mu.Unlock()
				}
			}
		})
	}
	some := func(n int) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			have := len(acked)
			mu.Unlock()
			if have >= n {
				return
			}
			if time.Since(begin) > 2*time.Minute {
				t.Fatalf("%d of %d writes in two minutes", have, n)
			}
		}
	}
	some(200)
	if err := replica.CaughtUp(t.Context()); err != nil { // and hears nothing more
		t.Fatal(err)
	}
	if semiSync { // load that only one server sees
		if err := primary.AwaitCommitThatWaits(t.Context()); err != nil {
			t.Fatal(err)
		}
	} else {
		mu.Lock()
		have := len(acked)
		mu.Unlock()
		some(have + 200)
	}
	primary.Kill()
	stop()
	load.Wait()
	g.Close()
	return len(acked), gone(t, replica, acked)
}

// gone counts the writes that a replica, once it leads, has not.
func gone(t *testing.T, replica *servers.MariaDB, acked []string) (missing int) {
	t.Helper()
	if err := replica.Exec(t.Context(), "STOP SLAVE"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, replica.DSN("shop"))
	have := map[string]bool{}
	ids, err := sqldb.Decided(t.Context(), db, "SELECT sku_id FROM skus", nil, sqldb.Column[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		have[id] = true
	}
	for _, id := range acked {
		if !have[id] {
			missing++
		}
	}
	return missing
}

// What was answered is on two servers when semi-synchronous replication waits after the sync and never falls back: the
// primary may die at once. Without it the same death loses what the replica had not heard yet.
func TestSemiSyncLosesNothingAnswered(t *testing.T) {
	answered, missing := lost(t, true)
	if missing > 0 {
		t.Errorf("%d of %d answered writes are lost", missing, answered)
	}
	t.Logf("semi-synchronous: %d of %d lost", missing, answered)
	answered, missing = lost(t, false)
	if missing == 0 {
		t.Errorf("0 of %d answered writes are lost without it: this test would not see a loss", answered)
	}
	t.Logf("asynchronous: %d of %d lost", missing, answered)
}

// Whoever points orderd at a replica, or trusts one that follows when it can, is told.
func TestSafetyKnowsReplicas(t *testing.T) {
	primary, replica := sqldbtest.Replicated(t, false)
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, primary.DSN("shop"))
	finding := func(db *sqldb.DB, id string) sqldb.Finding {
		t.Helper()
		found, err := db.Safety(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.ID == id {
				if f.Level != sqldb.LevelOK && (f.Why == "" || f.Fix == "") {
					t.Errorf("no reason or no way out: %+v", f)
				}
				return f
			}
		}
		t.Fatalf("%s: no finding", id)
		return sqldb.Finding{}
	}
	set := func(statement string) {
		t.Helper()
		if err := primary.Exec(t.Context(), "SET GLOBAL rpl_semi_sync_master_"+statement); err != nil {
			t.Fatal(err)
		}
	}
	if f := finding(db, "mysql.role"); f.Level != sqldb.LevelOK {
		t.Error(f)
	}
	if f := finding(db, "mysql.semi_sync"); f.Level != sqldb.LevelWarn || !strings.Contains(f.Why, "asynchronously") {
		t.Error(f)
	}
	set("enabled = ON")
	if f := finding(db, "mysql.semi_sync"); f.Level != sqldb.LevelOK {
		t.Error(f)
	}
	set("wait_no_slave = OFF")
	if f := finding(db, "mysql.semi_sync"); f.Level != sqldb.LevelWarn || !strings.Contains(f.Why, "leaves") {
		t.Error(f)
	}
	set("wait_no_slave = ON")
	set("timeout = 10000")
	if f := finding(db, "mysql.semi_sync"); f.Level != sqldb.LevelWarn || !strings.Contains(f.Why, "so many ms") {
		t.Error(f)
	}
	set("wait_point = AFTER_COMMIT")
	if f := finding(db, "mysql.semi_sync"); f.Level != sqldb.LevelWarn || !strings.Contains(f.Why, "others see") {
		t.Error(f)
	}
	follower, err := sqldb.Open(t.Context(), replica.DSN("shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	if f := finding(follower, "mysql.role"); f.Level != sqldb.LevelWarn {
		t.Error(f)
	}
	asksWhatItFollows(t, primary, replica)
	replica.Kill()
	set("wait_point = AFTER_SYNC")
	set("timeout = 100") // of the writes by which it notices
	wait := time.Now().Add(2 * time.Minute)
	for finding(db, "mysql.semi_sync").Found != "enabled=true status=OFF wait_point=AFTER_SYNC timeout=100 clients=0" {
		if time.Now().After(wait) {
			t.Fatal(finding(db, "mysql.semi_sync"))
		}
		if err := primary.Exec(t.Context(), "CREATE OR REPLACE DATABASE other"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if f := finding(db, "mysql.semi_sync"); f.Level != sqldb.LevelWarn || !strings.Contains(f.Why, "too few replicas") {
		t.Error(f)
	}
}

// MySQL has no variable for whether it follows another server, and has given the statement that says it another name:
// whoever points orderd at its replica must be told by what it does answer, in either name or from the table, and an
// account that may ask none of it must not be told that all is well. The table is MySQL's alone: here it is one of
// ours.
func asksWhatItFollows(t *testing.T, primary, replica *servers.MariaDB) {
	t.Helper()
	for _, statement := range []string{"CREATE TABLE shop.connections (CHANNEL_NAME VARCHAR(64), " +
		"SERVICE_STATE VARCHAR(20))", "CREATE USER poor@'%'", "GRANT SELECT ON shop.* TO poor@'%'"} {
		if err := primary.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	through := func(server *servers.MariaDB, who string) (*sqldb.DB, *faultproxy.Proxy) {
		t.Helper()
		proxy, err := faultproxy.NewMySQL(server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Close)
		db, err := sqldb.Open(t.Context(), strings.Replace(server.TCPDSN(proxy.Addr(), "shop"), "root", who, 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db, proxy
	}
	says := func(what string, db *sqldb.DB, wantFollowing, wantKnown bool) {
		t.Helper()
		following, known, err := db.Follows(t.Context())
		if err != nil || following != wantFollowing || known != wantKnown {
			t.Errorf("%s: follows %t, known %t, %v", what, following, known, err)
		}
	}
	follower, behind := through(replica, "root")
	leader, before := through(primary, "root")
	says("SHOW REPLICA STATUS of a replica", follower, true, true)
	says("SHOW REPLICA STATUS of a primary", leader, false, true)
	behind.Answer("REPLICA STATUS", 1064, "You have an error in your SQL syntax", 1) // before 8.0.22
	says("SHOW SLAVE STATUS", follower, true, true)
	behind.Rewrite("'Slave_running', ", "") // MySQL has no such variable
	found, err := follower.Safety(t.Context())
	if i := slices.IndexFunc(found, func(f sqldb.Finding) bool { return f.ID == "mysql.role" }); err != nil || i < 0 ||
		found[i].Level != sqldb.LevelWarn || !strings.Contains(found[i].Found, "follows another") {
		t.Errorf("%+v %v", found, err)
	}
	poor, _ := through(primary, "poor")
	says("an account without rights", poor, false, false)
	before.Rewrite("performance_schema.replication_connection_status", "shop.connections")
	for _, c := range []struct {
		channel, state string
		following      bool
	}{{"group_replication_applier", "ON", false}, {"", "OFF", false}, {"", "CONNECTING", true}} {
		if err := primary.Exec(t.Context(), "INSERT INTO shop.connections VALUES ('"+c.channel+"', '"+c.state+
			"')"); err != nil {
			t.Fatal(err)
		}
		says(c.channel+" "+c.state, leader, c.following, true)
	}
}
