package redisgate_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// soldAgainWithin is how long a sale may be without Redis after a fail-over: two looks of the keeper for the drift, one
// for new buckets, and a machine that is busy; less than stock.SeenFor, after which units are given up in any case.
const soldAgainWithin = 25 * time.Second

// pair is a Redis and one that is to follow it.
type pair struct{ master, replica *servers.Redis }

// newPair starts both.
func newPair(t *testing.T) pair {
	t.Helper()
	return pair{sqldbtest.RedisServer(t, "--repl-diskless-sync-delay", "0"), sqldbtest.RedisServer(t)}
}

// copied makes the replica a copy of the master, and cuts the link when it has everything: what the master does from
// then on the replica never hears of.
func (p pair) copied(m *market) {
	m.Helper()
	client := connect(m, p.replica.Addr)
	host, port, err := net.SplitHostPort(p.master.Addr)
	if err != nil {
		m.Fatal(err)
	}
	if err := client.SlaveOf(m.Context(), host, port).Err(); err != nil {
		m.Fatal(err)
	}
	m.until("the replica has the data of its master", func() bool {
		info, err := client.Info(m.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	if err := client.SlaveOf(m.Context(), "NO", "ONE").Err(); err != nil {
		m.Fatal(err)
	}
}

// proxied puts a proxy before a Redis.
func proxied(t *testing.T, server *servers.Redis) *faultproxy.Proxy {
	t.Helper()
	proxy, err := faultproxy.New(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy
}

// again asserts that so many new epochs at least are begun from before on, and that it is sold from Redis again, in
// time.
func (m *market) again(before, epochs int64) {
	m.Helper()
	begin := time.Now()
	m.until("there is a new epoch", func() bool { return m.epochs.Load() >= before+epochs })
	m.soldFromRedis(100)
	took := time.Since(begin)
	m.Logf("sold from Redis again after %s, %d epochs", took.Round(time.Millisecond), m.epochs.Load()-before)
	if took > soldAgainWithin {
		m.Errorf("sold from Redis again after %s", took)
	}
}

// A replica that lags behind and is promoted has units again that were sold, and knows nothing of the last tickets: no
// unit is sold twice, every order stands, the epoch ends, and the sale goes on from new buckets within seconds (R8).
func TestRedisFailsOverToALaggingReplica(t *testing.T) {
	const stocked = 6000
	both := newPair(t)
	proxy := proxied(t, both.master)
	m := newMarket(t, sqldbtest.MariaDB(t), proxy.Addr(), 2)
	m.sell("hot", stocked, 2)
	m.slow.Store(true)
	d := m.buyers(4, "hot")
	m.soldFromRedis(100)
	both.copied(m)
	m.soldFromRedis(200)
	before := m.epochs.Load()
	proxy.Switch(both.replica.Addr)
	proxy.Reset()
	m.again(before, 1)
	d.end(stocked)
	m.checks(m.pods[0].shared)
}

// Two masters that both believe to be the one sell the same units, one to each half of the processes: the database has
// them once. When all processes come to one of them again, the sale goes on from it (R9).
func TestTwoMastersSellTheSameUnits(t *testing.T) {
	const stocked = 6000
	both := newPair(t)
	left, right := proxied(t, both.master), proxied(t, both.master)
	m := newMarketOn(t, sqldbtest.MariaDB(t), connect(t, left.Addr()), 1)
	m.client = connect(t, right.Addr())
	m.start(m.pods[0].Fixture)
	m.sell("hot", stocked, 2)
	m.slow.Store(true)
	d := m.buyers(4, "hot")
	m.soldFromRedis(100)
	both.copied(m)
	m.soldFromRedis(100)
	before := m.epochs.Load()
	right.Switch(both.replica.Addr)
	right.Reset()
	sold := d.sold.Load()
	m.until("both halves sell", func() bool { return d.sold.Load() > sold+300 })
	m.until("it is noticed", func() bool { return m.epochs.Load() > before })
	left.Switch(both.replica.Addr)
	left.Reset()
	m.again(m.epochs.Load(), 0)
	d.end(stocked)
	m.checks(m.pods[0].shared)
}
