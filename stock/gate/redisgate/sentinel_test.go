package redisgate_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/scheduler"
)

// behindSentinels is the client of ORDERD_GATE_REDIS for a master that sentinels watch.
func behindSentinels(t *testing.T, s *servers.RedisSentinel, database int) redis.UniversalClient {
	t.Helper()
	client, err := scheduler.Connect(s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// serverOf is a client of one of the servers that sentinels watch.
func serverOf(t *testing.T, r *servers.Redis) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr, Password: servers.RedisPassword})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A master that sentinels watch dies in mid-sale, and the replica that they put in its place lacks the last tickets and
// counts units that are sold: nobody is refused meanwhile, no order is lost and no unit is sold twice, and the sale
// comes back to Redis with new buckets as soon as there is a master again.
func TestSentinelsPromoteAReplicaThatLags(t *testing.T) {
	const stocked, database = 3000, 3
	redises := sqldbtest.RedisSentinel(t)
	m := newMarketOn(t, sqldbtest.MariaDB(t), behindSentinels(t, redises, database), 2)
	m.sell("hot", stocked, 2)
	m.slow.Store(true)
	d := m.buyers(4, "hot")
	m.soldFromRedis(100)
	if n := serverOf(t, redises.Nodes[0]).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys in database 0, another was named", n)
	}
	m.deafen(serverOf(t, redises.Nodes[1]))
	m.soldFromRedis(100)
	before, sold := m.epochs.Load(), d.sold.Load()
	redises.Nodes[0].Kill()
	m.until("it is sold without Redis", func() bool { return m.away.Load() > 0 && d.sold.Load() > sold+50 })
	m.again(before, 1)
	if gone, later := d.gone.Load(), d.later.Load(); gone+later != 0 {
		t.Errorf("%d were told that it is sold out while it was not, %d to come again", gone, later)
	}
	d.end(stocked)
	m.checks(m.pods[0].shared)
}

// deafen has a replica hear nothing of its master any more: it comes back with a wrong password.
func (m *market) deafen(replica *redis.Client) {
	m.Helper()
	ctx := m.Context()
	if err := replica.ConfigSet(ctx, "masterauth", "wrong").Err(); err != nil {
		m.Fatal(err)
	}
	if err := replica.ClientKillByFilter(ctx, "TYPE", "master").Err(); err != nil {
		m.Fatal(err)
	}
	m.until("the replica hears nothing", func() bool {
		info, err := replica.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:down")
	})
}
