package redisgate_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/scheduler"
	"orderd/stock"
)

// clusterBuckets of the sale "both" are on all of three masters.
const clusterBuckets = 6

// clusterClient opens a cluster as ORDERD_GATE_REDIS is opened.
func clusterClient(t *testing.T, c *servers.RedisCluster) *redis.ClusterClient {
	t.Helper()
	opened, err := scheduler.Connect(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := opened.(*redis.ClusterClient)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// ownerOf gives the master of a key.
func ownerOf(t *testing.T, client *redis.ClusterClient, key string) string {
	t.Helper()
	node, err := client.MasterForKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return node.Options().Addr
}

// clusterMarket is a sale of two SKUs on a Redis Cluster. owner gives the master of each bucket.
func clusterMarket(t *testing.T, c *servers.RedisCluster, stocked int64) (m *market, owner map[int64]string) {
	t.Helper()
	client := clusterClient(t, c)
	m, owner = newMarketOn(t, sqldbtest.MariaDB(t), client, 2), map[int64]string{}
	masters := map[string]bool{}
	for no := range int64(clusterBuckets) {
		owner[no] = ownerOf(t, client, fmt.Sprintf("gate_{both/%d}", no))
		masters[owner[no]] = true
	}
	if len(masters) != 3 {
		t.Fatalf("the buckets are all on %v", slices.Collect(maps.Keys(masters)))
	}
	for _, sku := range []string{"ball", "bat"} {
		m.pods[0].SKU(m, sku, stocked)
	}
	for _, sku := range []string{"ball", "bat"} {
		m.setGate(stock.GateChange{SkuID: sku, Sale: "both", Mode: stock.GateRedis, Buckets: clusterBuckets})
	}
	m.until("there are buckets of both", func() bool {
		return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") ==
			2*clusterBuckets
	})
	return m, owner
}

// soldOn is how many units were sold so far out of the buckets of some masters.
func (m *market) soldOn(owner map[int64]string, which func(addr string) bool) (units int64) {
	m.Helper()
	for no, addr := range owner {
		if which(addr) {
			units += m.count(`SELECT COUNT(*)
FROM stock_buckets b
JOIN stock_flows f ON f.bucket_id = b.bucket_id
WHERE b.home = 'redis'
  AND b.no = ?`, no)
		}
	}
	return units
}

// autumn #1341: CROSSSLOT. The buckets of a sale are spread over the masters, and a cart of two SKUs is in one slot:
// all masters sell, every unit is sold once, and Redis has nothing that the database has not.
func TestSaleOnACluster(t *testing.T) {
	const stocked = 2000
	m, owner := clusterMarket(t, sqldbtest.RedisMasters(t), stocked)
	m.buyers(8, "ball", "bat").end(stocked)
	for _, addr := range slices.Compact(slices.Sorted(maps.Values(owner))) {
		if m.soldOn(owner, func(a string) bool { return a == addr }) == 0 {
			m.Errorf("nothing was sold from the master %s", addr)
		}
	}
	m.checks(m.pods[0].shared)
}

// A master that dies in mid-sale takes its buckets along: the others go on selling theirs, its units are called back,
// and the last one is sold once.
func TestClusterMasterDiesInMidSale(t *testing.T) {
	const stocked = 6000
	c := sqldbtest.RedisMasters(t)
	m, owner := clusterMarket(t, c, stocked)
	m.slow.Store(true)
	d := m.buyers(4, "ball", "bat")
	m.soldFromRedis(200)
	dead := owner[0]
	c.Node(dead).Kill()
	others := func() int64 { return m.soldOn(owner, func(addr string) bool { return addr != dead }) }
	// What was under way when it died is over, twice: those who sell now have noticed.
	for range 2 {
		before := others()
		m.until("the other masters sell", func() bool { return others() > before+300 })
	}
	d.end(stocked)
	if n := m.count("SELECT COUNT(*) FROM stock_buckets WHERE remaining <> 0"); n != 0 {
		m.Errorf("units are left in %d buckets", n)
	}
}

// A master that dies with a replica is replaced by one that may lag behind: the sale goes on, and comes back to all of
// its buckets.
func TestClusterReplicaTakesOverInMidSale(t *testing.T) {
	const stocked = 6000
	c := sqldbtest.RedisCluster(t)
	m, owner := clusterMarket(t, c, stocked)
	m.slow.Store(true)
	d := m.buyers(4, "ball", "bat")
	m.soldFromRedis(200)
	dead := owner[0]
	c.Node(dead).Kill()
	mine := func() int64 { return m.soldOn(owner, func(addr string) bool { return addr == dead }) }
	before := mine()
	m.until("the replica sells", func() bool { return mine() > before+100 })
	d.end(stocked)
	m.checks(m.pods[0].shared)
}

// A master that dies without a replica stopped the queues of all sales, when it had the list of them or any bucket with
// a queue; and the orderly end of an epoch never ended. What waits on the others becomes orders, and when nobody has
// reached the dead one for long the sale goes on without it.
func TestClusterMasterWithAQueueDies(t *testing.T) {
	const stocked = 600
	c := sqldbtest.RedisMasters(t)
	client := clusterClient(t, c)
	m := &market{T: t, db: sqldbtest.SQLite(t), client: client, loose: true}
	m.startOn(m.db, 2)
	l := m.queues("hot", stocked, clusterBuckets, filling)
	l.fill(120)
	dead := ownerOf(t, client, "gate_queues")
	var lost, there int64 // that wait on the dead one, and on the others
	for no := range clusterBuckets {
		key := fmt.Sprintf("queue_{hot/%d}", no)
		n, err := client.XLen(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if ownerOf(t, client, key) == dead {
			lost += n
		} else {
			there += n
		}
	}
	if there == 0 {
		t.Fatal("nobody waits on the others")
	}
	sold := l.sold.Load()
	c.Node(dead).Kill()
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: clusterBuckets, Rate: 10_000})
	end := l.drainers(m.pods...)
	m.until("those who wait on the others have orders", func() bool { return l.sold.Load() >= sold+there })
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: clusterBuckets - 1, Rate: 10_000})
	m.until("the epoch is about to end", func() bool {
		return m.count("SELECT COUNT(*) FROM stock_buckets WHERE state = 'closing'") > 0
	})
	m.later.Store(int64(stock.SeenFor + time.Second))
	m.until("there are new buckets", func() bool {
		return m.count("SELECT COUNT(*) FROM stock_buckets WHERE state = 'open'") > 0
	})
	l.crowd(10)()
	m.until("all is sold", func() bool { return l.sold.Load() == stocked })
	end()
	if l.refused.Load() != 0 {
		t.Errorf("%d were refused after they were told to wait, %d wait on the dead one", l.refused.Load(), lost)
	}
	l.balanced(stocked)
}
