package redisgate_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/scheduler"
	"orderd/stock"
)

// clusterBuckets of the sale "both" are on all of three masters.
const clusterBuckets = 6

// clusterMarket is a sale of two SKUs on a Redis Cluster. owner gives the master of each bucket.
func clusterMarket(t *testing.T, c *servers.RedisCluster, stocked int64) (m *market, owner map[int64]string) {
	t.Helper()
	opened, err := scheduler.Connect(c.URL()) // as ORDERD_GATE_REDIS is opened
	if err != nil {
		t.Fatal(err)
	}
	client := opened.(*redis.ClusterClient)
	t.Cleanup(func() { _ = client.Close() })
	m, owner = newMarketOn(t, sqldbtest.MariaDB(t), client, 2), map[int64]string{}
	masters := map[string]bool{}
	for no := range int64(clusterBuckets) {
		node, err := client.MasterForKey(t.Context(), fmt.Sprintf("gate_{both/%d}", no))
		if err != nil {
			t.Fatal(err)
		}
		owner[no] = node.Options().Addr
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
