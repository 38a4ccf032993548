package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// masters gives how many keys each master of a cluster has, by its address.
func masters(t *testing.T, c *redis.ClusterClient) map[string]int64 {
	t.Helper()
	var mu sync.Mutex
	keys := map[string]int64{}
	if err := c.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		n, err := node.DBSize(ctx).Result()
		mu.Lock()
		keys[node.Options().Addr] = n
		mu.Unlock()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}

// owe adds orders to s that are due at a time, a refund to every third, and
// their wake-ups: the master of the orders has more keys than any other.
func owe(s *shop, q *Queue, name string, n int, at time.Time) {
	for i := range n {
		no := fmt.Sprint(name, i)
		s.mu.Lock()
		s.due["o"+no] = at
		if i%3 == 0 {
			s.refundDue["r"+no] = at
		}
		s.mu.Unlock()
		q.WakeAt(at)
		if i%3 == 0 {
			q.RefundAt("r"+no, at)
		}
	}
}

// A key that is of no queue, or a command over two slots, works on one Redis and fails on a cluster: nothing would be
// on time there, and the sweep would hide it. So there is none here, but for the loss of the data.
func TestRedisCluster(t *testing.T) {
	t.Parallel() // it mostly waits
	cluster := sqldbtest.RedisCluster(t)
	s := newShop(map[string]time.Time{})
	q, w := newWorker(t, cluster.URL(), s, Options{SweepEvery: time.Hour, CloseRate: 10_000, RefundRate: 10_000})
	at := time.Now().Add(2 * time.Second).Truncate(time.Second)
	for i := range 3 { // three seconds are three queues on three masters
		owe(s, q, fmt.Sprint(i, "-"), 10, at.Add(time.Duration(i)*time.Second))
	}
	wait(t, "wake-ups are set and seen", func() bool { return tasks(t, q) == 3 })
	if m, err := q.Missing(t.Context(), s); err != nil || m != (Missing{Due: 3}) {
		t.Errorf("%+v %v", m, err)
	}
	for addr, keys := range masters(t, q.redis.(*redis.ClusterClient)) {
		if keys == 0 {
			t.Errorf("nothing is on %s: the queues are not spread", addr)
		}
	}
	run(t, w)
	wait(t, "orders and refunds end by their tasks", func() bool { return s.left() == 0 && s.refundsLeft() == 0 })
	s.ranOnce(t)
}

// All masters came back empty: a loss that is not seen leaves every order to the sweep, late by its interval.
func TestRedisClusterLosesEverything(t *testing.T) {
	t.Parallel() // it mostly waits
	cluster := sqldbtest.RedisCluster(t)
	s := newShop(map[string]time.Time{})
	q, _ := start(t, cluster.URL(), s)
	owe(s, q, "", 20, time.Now().Add(8*time.Second))
	wait(t, "wake-ups are set", func() bool { return tasks(t, q) >= 1 })
	client := q.redis.(*redis.ClusterClient)
	if err := client.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		return node.FlushAll(ctx).Err()
	}); err != nil {
		t.Fatal(err)
	}
	wait(t, "wake-ups are set again", func() bool { return tasks(t, q) >= 1 || s.left() == 0 })
	wait(t, "all end", func() bool { return s.left() == 0 && s.refundsLeft() == 0 })
	s.ranOnce(t)
}

// A master that holds queues dies: what it had not told its replica is lost, and for seconds nobody serves its
// slots. Every order and refund must end, none twice, and the queue must work again on the replica.
func TestRedisClusterLosesAMaster(t *testing.T) {
	t.Parallel() // it mostly waits
	cluster := sqldbtest.RedisCluster(t)
	s := newShop(map[string]time.Time{})
	q, w := newWorker(t, cluster.URL(), s, Options{SweepEvery: 300 * time.Millisecond, CloseRate: 10_000})
	for i := range 12 { // some are due before the replica takes over, some after
		owe(s, q, fmt.Sprint(i, "-"), 5, time.Now().Add(time.Duration(i+2)*500*time.Millisecond))
	}
	wait(t, "wake-ups are set", func() bool { return tasks(t, q) >= 4 })
	run(t, w) // now: before that no task was done, however slow the machine is
	client := q.redis.(*redis.ClusterClient)
	var dead string
	before := masters(t, client)
	for addr, keys := range before {
		if dead == "" || keys > before[dead] {
			dead = addr
		}
	}
	cluster.Node(dead).Kill()
	killed := time.Now()
	wait(t, "the replica serves", func() bool { _, err := q.Depth(); return err == nil })
	if took := time.Since(killed); took > 45*time.Second { // the client asks the cluster for its map once a minute
		t.Errorf("the queue could be read again %s after the master's death, of which the cluster needs four", took)
	}
	wait(t, "all end", func() bool { return s.left() == 0 && s.refundsLeft() == 0 })
	s.ranOnce(t)
	at := time.Now().Add(3 * time.Second)
	owe(s, q, "later", 10, at)
	wait(t, "wake-ups are set on the replica", func() bool {
		d, err := q.Depth()
		return err == nil && d.States["scheduled"] >= 1 || s.left() == 0
	})
	wait(t, "what came after ends", func() bool { return s.left() == 0 && s.refundsLeft() == 0 })
	s.ranOnce(t)
}

// The answer of one node says nothing of the others: a cluster that evicts on one of them loses that one's wake-ups. A
// replica counts, it is the master of tomorrow.
func TestRedisClusterSafety(t *testing.T) {
	cluster := sqldbtest.RedisCluster(t)
	client, err := Connect(cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if f := Safety(t.Context(), client); f[0].Level != sqldb.LevelOK || f[0].Found != "noeviction" ||
		f[1].Level != sqldb.LevelWarn {
		t.Error(f)
	}
	set := func(node int, name, value string) string {
		t.Helper()
		addr := cluster.Nodes[node].Addr
		if err := direct(t, addr).ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
		return value + " at " + addr
	}
	for _, node := range []int{1, 5} { // a master, a replica
		bad := set(node, "maxmemory-policy", "allkeys-lru")
		if f := Safety(t.Context(), client)[0]; f.Level != sqldb.LevelFail ||
			!strings.HasPrefix(f.Found, bad+", noeviction at ") {
			t.Error(f)
		}
		set(node, "maxmemory-policy", "noeviction")
	}
	set(1, "appendonly", "yes")
	if f := Safety(t.Context(), client)[1]; f.Level != sqldb.LevelWarn {
		t.Error(f)
	}
	cluster.Nodes[5].Kill()
	if f := Safety(t.Context(), client)[0]; f.Level != sqldb.LevelWarn {
		t.Error(f)
	}
}

// A URL that cannot work must be refused at the start, and credentials arrive as they were meant.
func TestClusterURL(t *testing.T) {
	for _, url := range []string{"redis+cluster://", "redis+cluster://h1", "redis+cluster://h1:1,,h2:2",
		"redis+cluster://u:%zz@h1:1"} {
		if _, err := Connect(url); !errors.Is(err, ErrRedisURL) {
			t.Errorf("%q: %v", url, err)
		}
	}
	client, err := Connect("redis+cluster://u:p%40ss@h1:1,h2:2")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, ok := client.(*redis.ClusterClient)
	if !ok || len(c.Options().Addrs) != 2 || c.Options().Username != "u" || c.Options().Password != "p@ss" {
		t.Errorf("%T %+v", client, c)
	}
}

// A Redis that evicts keys loses wake-ups: it must be refused with the reason. And URLs must not leak passwords.
func TestSafetyAndConnect(t *testing.T) {
	server := sqldbtest.RedisServer(t)
	client, err := Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	level := func() sqldb.Level { return Safety(t.Context(), client)[0].Level }
	if level() != sqldb.LevelOK {
		t.Error(Safety(t.Context(), client))
	}
	if err := client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if level() != sqldb.LevelFail {
		t.Error(Safety(t.Context(), client))
	}
	for _, url := range []string{"", "http://x", "redis://u:hunter2@[", "redis://:hunter2@h:1/x"} {
		if _, err := Connect(url); !errors.Is(err, ErrRedisURL) || len(err.Error()) != len(ErrRedisURL.Error()) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// losses counts what the sweep tells of Redis.
type losses struct {
	nobody
	n int
}

func (l *losses) RedisLost() { l.n++ }

// A Redis that is new has lost nothing: were the first start of a service a loss, the alarm on losses would be raised
// by every installation, and nobody would look at it when it is one.
func TestANewRedisHasLostNothing(t *testing.T) {
	m, seen := mini(t), &losses{}
	_, w := newWorker(t, "redis://"+m.Addr(), newShop(map[string]time.Time{}), Options{Observe: seen})
	w.sweep.pass(t.Context())
	if w.sweep.pass(t.Context()); seen.n != 0 {
		t.Errorf("%d losses of a new Redis", seen.n)
	}
	m.FlushAll()
	w.sweep.pass(t.Context()) // finds that what it wrote a moment ago is gone
	w.sweep.pass(t.Context())
	if w.sweep.pass(t.Context()); seen.n != 1 {
		t.Errorf("%d losses, one happened", seen.n)
	}
}
