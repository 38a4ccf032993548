package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
)

// tidbSays is what a TiDB cluster answers when it is busy, moving, or has met a hot row; the texts are those of its
// error codes (docs.pingcap.com/tidb/stable/error-codes) and of client-go.
var tidbSays = []struct {
	number uint16
	text   string
}{
	{8002, "can not retry select for update statement"},
	{8022, "Error: KV error safe to retry"},
	{8027, "Information schema is out of date: schema failed to update in 1 lease"},
	{8028, "Information schema is changed during the execution of the statement"},
	{8175, "Your query has been cancelled due to exceeding the allowed memory limit for a single SQL query"},
	{8176, "Your query has been cancelled due to exceeding the allowed memory limit for the tidb-server instance"},
	{8229, "TTL manager has timed out, pessimistic locks may expire, please commit or rollback this transaction"},
	{9001, "PD server timeout"}, {9002, "TiKV server timeout"}, {9003, "TiKV server is busy"},
	{9004, "Resolve lock timeout"}, {9005, "Region is unavailable"}, {9007, "Write conflict"},
	{9008, "TiKV store token is up to the limit"}, {9010, "TiKV server reports stale command"},
	{9011, "TiKV max timestamp is not synced"},
	{1105, "pessimistic lock retry limit reached"}, {1105, "lock wait timeout"},
	{1317, "Query execution was interrupted"},
}

// behindProxy is a database that answers what the test wants.
func behindProxy(t *testing.T) (*sqldb.DB, *faultproxy.Proxy) {
	t.Helper()
	server, proxy := shopBehind(t)
	return sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop")), proxy
}

// Whatever a cluster says of itself once, at a statement or at COMMIT, is tried again and done once.
func TestBusyClusterIsAskedAgain(t *testing.T) {
	db, proxy := behindProxy(t)
	put(t, db, "stock", 1000)
	for i, says := range tidbSays {
		for _, at := range []string{"UPDATE skus", "COMMIT"} {
			before := available(t, db, "stock")
			hits := proxy.Hits(faultproxy.Refused)
			proxy.Answer(at, says.number, says.text, 1)
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if _, err := tx.ExecContext(ctx, insertSKU, fmt.Sprintf("%s-%d", at, i), 1); sqldb.IsDuplicate(err) {
					return nil
				} else if err != nil {
					return err
				}
				_, err := tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'stock'")
				return err
			})
			if err != nil {
				t.Errorf("%d %q at %s: %v", says.number, says.text, at, err)
			}
			if n := before - available(t, db, "stock"); n != 1 && err == nil {
				t.Errorf("%d %q at %s: done %d times", says.number, says.text, at, n)
			}
			if proxy.Hits(faultproxy.Refused) != hits+1 {
				t.Errorf("%d at %s: not met", says.number, at)
			}
		}
	}
}

// A cluster that is busy is asked as often as one transaction is tried, however many share it: were they tried one by
// one, forty callers would come down forty times on servers that have just said that they cannot.
func TestBusyClusterMeetsNoStorm(t *testing.T) {
	db, proxy := behindProxy(t)
	const calls, tries = 40, 20
	for _, says := range []struct {
		number uint16
		text   string
	}{{9003, "TiKV server is busy"}, {9005, "Region is unavailable"}, {8027, "Information schema is out of date"},
		{9001, "PD server timeout"}} {
		sizes := make(chan int, 10000)
		g := adder(db, sqldb.GroupOptions{MaxBatch: 128}, sizes)
		before := proxy.Hits(faultproxy.Refused)
		proxy.Answer("INSERT INTO skus", says.number, says.text, 1<<30)
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				_, err := g.Do(t.Context(), fmt.Sprintf("%d-%d", says.number, i))
				if !errors.Is(err, sqldb.ErrUnavailable) {
					t.Errorf("%d: %v", says.number, err)
				}
			})
		}
		wg.Wait()
		proxy.Answer("", 0, "", 0)
		g.Close()
		close(sizes)
		batches := map[int]int{}
		asked := 0
		for n := range sizes {
			batches[n]++
			asked++
		}
		if hits := proxy.Hits(faultproxy.Refused) - before; hits != asked {
			t.Errorf("%d: %d transactions, %d refused", says.number, asked, hits)
		}
		// The first calls may have gone by themselves, while the rest gathered: of each lane one transaction.
		if most := (len(batches) + 1) * tries; asked > most || asked >= calls*tries/2 {
			t.Errorf("%d: the cluster was asked %d times by %d calls, of sizes %v", says.number, asked, calls, batches)
		}
	}
}
