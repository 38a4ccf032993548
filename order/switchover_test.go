package order_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// must runs statements on a server, of which a later one needs the earlier ones.
func must(t *testing.T, on *servers.MariaDB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := on.Exec(t.Context(), s); err != nil {
			t.Fatal(s, err)
		}
	}
}

// A DSN that names both servers needs no address that moves. A switchover as docs/operations.md has it, while buyers
// place orders and look at them: a connection to a server that takes no writes any more is left, and the next one is
// made to the other server. Nobody's order is refused or missing.
func TestSwitchoverFailsNoPlacement(t *testing.T) {
	primary, replica := sqldbtest.Replicated(t, false)
	must(t, replica, "SET GLOBAL read_only = ON")
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	must(t, primary, "CREATE USER shop@'%'", "GRANT ALL ON shop.* TO shop@'%'")
	db := sqldbtest.Open(t, "mysql:shop@tcp("+replica.Addr+","+primary.Addr+")/shop")
	f := ordertest.New(t, db)
	f.SKU(t, "mug", 100_000)
	ctx, stop := context.WithCancel(t.Context())
	var placed, after atomic.Int64
	var moved atomic.Bool
	var failed sync.Map
	var buyers sync.WaitGroup
	for b := range 4 {
		buyers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				customer := fmt.Sprintf("b%d-%d", b, i)
				o, err := f.Place(t.Context(), order.Placement{CustomerID: customer, RequestID: "once",
					Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
				if err != nil {
					failed.Store("place "+customer, err)
					continue
				}
				if _, err := f.FindOwn(t.Context(), customer, o.Order.OrderNo); err != nil {
					failed.Store("find "+customer, err)
				}
				placed.Add(1)
				if moved.Load() {
					after.Add(1)
				}
			}
		})
	}
	reach := func(n *atomic.Int64, least int64) {
		t.Helper()
		for begin := time.Now(); n.Load() < least; time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) > 60*time.Second {
				t.Fatalf("%d orders in a minute", n.Load())
			}
		}
	}
	reach(&placed, 50)
	begin := time.Now()
	must(t, primary, "SET GLOBAL read_only = ON")
	place, err := primary.Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	must(t, replica, "DO MASTER_GTID_WAIT('"+place+"', 60)", "STOP SLAVE", "RESET SLAVE ALL",
		"SET GLOBAL read_only = OFF")
	gap := time.Since(begin)
	moved.Store(true)
	reach(&after, 50)
	stop()
	buyers.Wait()
	failed.Range(func(what, err any) bool {
		// Placements wait for a server that takes writes, for a time; so long a gap is a busy machine's.
		if gap < time.Second || strings.HasPrefix(what.(string), "find") {
			t.Errorf("%s: %v", what, err)
		}
		return true
	})
	t.Logf("%d orders, none writable for %s", placed.Load(), gap)
	left, err := sqldb.Decided(t.Context(), db, "SELECT available FROM skus", nil, sqldb.Column[int64])
	if err != nil || gap < time.Second && left[0] != 100_000-placed.Load() {
		t.Errorf("%d on the shelf after %d orders: %v", left, placed.Load(), err)
	}
}
