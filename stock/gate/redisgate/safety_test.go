package redisgate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock/gate/redisgate"
)

// finding gives a finding by its id.
func finding(t *testing.T, all []sqldb.Finding, id string) sqldb.Finding {
	t.Helper()
	for _, f := range all {
		if f.ID == id {
			return f
		}
	}
	t.Fatalf("no %s in %+v", id, all)
	return sqldb.Finding{}
}

// A setting of Redis that loses a queue, or takes a bucket apart, is found before the sale by who asks, or at midnight
// by the buyers. Each is set on a real server, and must be told of; and what is right must not be.
func TestSafetyNamesEachWrongSetting(t *testing.T) {
	server := sqldbtest.RedisServer(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	set := func(pairs ...string) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			if err := client.ConfigSet(t.Context(), pairs[i], pairs[i+1]).Err(); err != nil {
				t.Fatal(pairs[i], err)
			}
		}
	}
	const ok, warn, fail = sqldb.LevelOK, sqldb.LevelWarn, sqldb.LevelFail
	for _, c := range []struct {
		name   string
		set    []string
		queues bool
		id     string
		level  sqldb.Level
	}{
		{"as it should be", []string{"appendonly", "yes", "appendfsync", "always"}, true, "gate_redis.appendonly", ok},
		{"a second is lost", []string{"appendfsync", "everysec"}, true, "gate_redis.appendonly", warn},
		{"all is lost", []string{"appendonly", "no"}, true, "gate_redis.appendonly", fail},
		{"no queue is lost", nil, false, "gate_redis.appendonly", ok},
		{"evicts", []string{"maxmemory-policy", "allkeys-lru"}, false, "gate_redis.maxmemory_policy", fail},
		{"does not evict", []string{"maxmemory-policy", "noeviction"}, false, "gate_redis.maxmemory_policy", ok},
		{"no replicas", nil, false, "gate_redis.replicas", ok},
		{"of today", nil, false, "gate_redis.version", ok},
		{"full", []string{"maxmemory", "1"}, false, "gate_redis.write", warn},
		{"full, and has a queue", nil, true, "gate_redis.write", fail},
		{"has room again", []string{"maxmemory", "0"}, true, "gate_redis.write", ok},
	} {
		set(c.set...)
		found := redisgate.Safety(t.Context(), client, redisgate.SafetyOptions{Queues: c.queues})
		f := finding(t, found, c.id)
		if f.Level != c.level || f.Level != ok && (f.Why == "" || f.Fix == "") || f.Found == "" {
			t.Errorf("%s: %+v", c.name, f)
		}
	}

	replica := sqldbtest.RedisServer(t, "--replicaof", strings.Replace(server.Addr, ":", " ", 1))
	replicas := func(want sqldb.Level) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; {
			found := redisgate.Safety(t.Context(), client, redisgate.SafetyOptions{})
			if f := found[len(found)-1]; f.ID == "gate_redis.replicas" && f.Level == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("want %s: %+v", want, found)
			}
		}
	}
	replicas(warn)
	set("min-replicas-to-write", "1")
	replicas(ok)
	of := redis.NewClient(&redis.Options{Addr: replica.Addr})
	defer of.Close()
	if f := finding(t, redisgate.Safety(t.Context(), of, redisgate.SafetyOptions{}),
		"gate_redis.write"); f.Level != warn || !strings.Contains(f.Found, "READONLY") {
		t.Errorf("a replica: %+v", f)
	}
	server.Kill()
	if f := finding(t, redisgate.Safety(t.Context(), client, redisgate.SafetyOptions{Queues: true}),
		"gate_redis.write"); f.Level != fail || f.Found != "no answer" {
		t.Errorf("away: %+v", f)
	}
}

// On a cluster the answer of one node says nothing of the others, and buckets that are all on one master are counted
// down by one core, however many there are.
func TestSafetyOfACluster(t *testing.T) {
	cluster := sqldbtest.RedisCluster(t)
	var addrs []string
	for _, n := range cluster.Nodes {
		addrs = append(addrs, n.Addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	defer client.Close()
	levels := map[sqldb.Level]string{} // a sale of each kind
	for i := range 100 {
		sale := fmt.Sprint("sale", i)
		o := redisgate.SafetyOptions{Sales: map[string]int64{sale: 2}}
		f := finding(t, redisgate.Safety(t.Context(), client, o), "gate_redis.slots")
		if levels[f.Level] = sale; len(levels) == 2 {
			break
		}
	}
	if levels[sqldb.LevelOK] == "" || levels[sqldb.LevelWarn] == "" {
		t.Fatal(levels)
	}
	found := redisgate.Safety(t.Context(), client, redisgate.SafetyOptions{})
	if f := finding(t, found, "gate_redis.slots"); f.Level != sqldb.LevelOK ||
		!strings.HasPrefix(f.Found, "16384 of 16384 slots") {
		t.Errorf("%+v", f)
	}
	last := redis.NewClient(&redis.Options{Addr: addrs[len(addrs)-1]})
	defer last.Close()
	if err := last.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	found = redisgate.Safety(t.Context(), client, redisgate.SafetyOptions{})
	if f := finding(t, found, "gate_redis.maxmemory_policy"); f.Level != sqldb.LevelFail ||
		!strings.Contains(f.Found, "allkeys-lru at "+last.Options().Addr) {
		t.Errorf("%+v", f)
	}
}

// A version that is compared as text holds 10 for less than 6.
func TestVersionsOfRedis(t *testing.T) {
	for version, want := range map[string][2]bool{"6.0.16": {false, true}, "6.2.0": {true, true}, "5.9": {false, true},
		"7.2.4": {true, true}, "10.0.1": {true, true}, "": {}, "unstable": {}, "x.y": {}} {
		if recent, ok := redisgate.IsRecent(version); recent != want[0] || ok != want[1] {
			t.Errorf("%q: %t %t", version, recent, ok)
		}
	}
}
