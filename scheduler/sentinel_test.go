package scheduler

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// The hosts are the sentinels', the user and password the servers', and a password with any character goes through.
func TestSentinelURL(t *testing.T) {
	client, err := Connect("rediss+sentinel://u:p%40s%2Fs@h1:1,h2:2/the%2Fshop/3?sentinel_password=s%26e")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, ok := client.(*redis.Client)
	if !ok {
		t.Fatalf("%T", client)
	}
	if o := c.Options(); o.Addr != failoverAddr || o.DB != 3 || o.Username != "u" || o.Password != "p@s/s" ||
		o.TLSConfig == nil {
		t.Errorf("%+v", o)
	}
	var o redis.UniversalOptions
	rest, ok := hostsOf("u:p@h1:1,h2:2/shop?sentinel_user=w&sentinel_password=s%26e", &o)
	if !ok || !masterOf(rest, &o) || len(o.Addrs) != 2 || o.MasterName != "shop" || o.DB != 0 ||
		o.SentinelUsername != "w" || o.SentinelPassword != "s&e" {
		t.Errorf("%+v", o)
	}
	for _, url := range []string{"redis+sentinel://", "redis+sentinel://h1:1", "redis+sentinel://h1:1/",
		"redis+sentinel://h1/shop",
		"redis+sentinel://h1:1/shop/x", "redis+sentinel://h1:1/shop/-1", "redis+sentinel://h1:1/shop/1/2",
		"redis+sentinel://h1:1/shop?password=hunter2", "redis+sentinel://h1:1/shop?sentinel_user=a&sentinel_user=b",
		"redis+sentinel://h1:1/shop?sentinel_user=%zz", "redis+cluster://h1:1/shop", "rediss+other://h1:1"} {
		if _, err := Connect(url); !errors.Is(err, ErrRedisURL) || len(err.Error()) != len(ErrRedisURL.Error()) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// node is one of the servers that sentinels watch, asked itself.
func node(t *testing.T, redises *servers.RedisSentinel, i int) *redis.Client {
	t.Helper()
	c := redises.Client(i)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A master that dies takes no timeout along: what came before it and what comes after is run, by the
// sweep, while the sentinels take more than one to put the replica in its place. All of it over TLS.
func TestSentinelsMasterDies(t *testing.T) {
	redises := sqldbtest.RedisSentinelTLS(t)
	s := newShop(map[string]time.Time{})
	q, w := newWorker(t, redises.URL(2), s, Options{SweepEvery: 300 * time.Millisecond, CloseRate: 10_000})
	for i := range 16 { // due before, while nobody serves, and after
		owe(s, q, fmt.Sprint(i, "-"), 5, time.Now().Add(time.Duration(i+2)*500*time.Millisecond))
	}
	wait(t, "wake-ups are set", func() bool { return tasks(t, q) >= 4 })
	run(t, w) // now: before that no task was done, however slow the machine is
	if n := node(t, redises, 0).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys in database 0, 2 was named", n)
	}
	redises.Nodes[0].Kill()
	killed := time.Now()
	wait(t, "the replica serves", func() bool { return Writable(t.Context(), q.redis) == nil })
	t.Logf("the replica served after %s", time.Since(killed).Round(time.Millisecond))
	wait(t, "all end", func() bool { return s.left() == 0 && s.refundsLeft() == 0 })
	s.mu.Lock()
	t.Logf("the latest was %s late", s.late.Round(time.Millisecond))
	if s.late > 20*time.Second { // 0.6 s were seen on a busy machine
		t.Error("the sweep of every 300 ms did not stand in for Redis")
	}
	s.mu.Unlock()
	s.ranOnce(t)
	owe(s, q, "later", 10, time.Now().Add(2*time.Second))
	wait(t, "wake-ups are set on the replica", func() bool {
		d, err := q.Depth()
		return err == nil && d.States["scheduled"] >= 1 || s.left() == 0
	})
	wait(t, "what came after ends", func() bool { return s.left() == 0 && s.refundsLeft() == 0 })
	s.ranOnce(t)
}

// A setting that only the replica has is the master's after the next death.
func TestSafetyLooksAtTheReplicasOfSentinels(t *testing.T) {
	redises := sqldbtest.RedisSentinel(t)
	client, err := Connect(redises.URL(0))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if f := Safety(t.Context(), client); f[0].Level != sqldb.LevelOK || f[0].Found != "noeviction" {
		t.Error(f)
	}
	replica := redises.Nodes[1]
	if err := node(t, redises, 1).ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if f := Safety(t.Context(), client)[0]; f.Level != sqldb.LevelFail ||
		!strings.HasPrefix(f.Found, "allkeys-lru at "+replica.Addr+", noeviction at ") {
		t.Error(f)
	}
	wrong := strings.Replace(redises.URL(0), "of+the", url.QueryEscape("not the"), 1)
	refused, err := Connect(wrong)
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if f := Safety(t.Context(), refused); len(f) != 1 || f[0].Level != sqldb.LevelWarn ||
		f[0].Found != "no sentinel names the master" {
		t.Error(f)
	}
}
