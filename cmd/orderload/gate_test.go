package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"orderd/cmd/orderload/bench"
	"orderd/cmd/orderload/storm"
	"orderd/migrations/sqldb/sqldbtest"
)

// TestMain is a process of a sale when it is started as one: the fleet starts its own program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == gateWorkerName {
		var c cli
		k := kong.Parse(&c, helpTexts, storm.HelpTexts)
		k.BindTo(context.Background(), (*context.Context)(nil))
		k.FatalIfErrorf(k.Run(&c.Settings))
		return
	}
	os.Exit(m.Run())
}

// quickly is a measurement that is done soon: its figures are worth nothing, what is held against the rows is.
var quickly = &bench.Settings{Seconds: 1, Rounds: 1}

// gateShop is the shop of a measurement.
func gateShop(t *testing.T) *bench.Shop {
	t.Helper()
	server := bench.ServerOn(sqldbtest.MariaDBServer(t, gateConnections), t.TempDir())
	shop, err := server.NewShop(t.Context(), bench.ShopOptions{SKUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shop.Verify(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		shop.Close()
	})
	return shop
}

// wantRows fails the test unless a measurement ended well, with so many rows.
func wantRows(t *testing.T, rows []gateRow, err error, n int) {
	t.Helper()
	if err != nil || len(rows) != n {
		t.Fatalf("%d rows, not %d: %v; %v", len(rows), n, err, rows)
	}
	for _, r := range rows {
		if len(r.cells) != len(rows[0].cells) {
			t.Errorf("%s has %d cells, the first row %d", r.name, len(r.cells), len(rows[0].cells))
		}
	}
}

// Refusals that send statements would be shown as free, and a count that sees nothing would call everything free.
func TestRefusalsFromMemoryAreCounted(t *testing.T) {
	shop := gateShop(t)
	_ = sqldbtest.RedisServer(t) // or the test is skipped: without it a row says that there is no figure
	rows, err := (&gateRefuseCmd{Callers: 2}).inProcess(t.Context(), quickly, shop)
	wantRows(t, rows, err, 4)
	some := refusalCount{answers: 5, memory: 5, statements: 5}
	for _, c := range []struct{ memory, ledger refusalCount }{
		{some, some}, // all from memory, and statements
		{refusalCount{answers: 5, memory: 5}, refusalCount{answers: 5}}, // nothing is counted
		{refusalCount{answers: 5, statements: 5}, some},                 // no mark
	} {
		if silent(&c.memory, &c.ledger) == nil {
			t.Errorf("%+v is taken for silent", c)
		}
	}
}

// An interface that answers something else than the refusal would be measured as a refusal.
func TestRefusalsOverHTTP(t *testing.T) {
	rows, err := (&gateRefuseCmd{Callers: 2}).overHTTP(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 4)
}

// Raw rows that break an invariant are no limit of anything, and a gate that gives nothing out is none.
func TestDurableSides(t *testing.T) {
	shop := gateShop(t)
	_ = sqldbtest.RedisServer(t) // or the test is skipped: the command needs one
	rows, err := (&gateDurableCmd{Callers: 8}).measure(t.Context(), quickly, shop)
	wantRows(t, rows, err, 4)
}

// A sale over processes that loses, doubles or strands a unit would stand in the table as a figure.
func TestSalesOverProcessesAreExact(t *testing.T) {
	shop := gateShop(t)
	rows, err := (&gateTailCmd{Processes: 3, Callers: 4, Units: 400}).measure(t.Context(), quickly, shop)
	wantRows(t, rows, err, 1)
	if sold := rows[0].cells[0]; sold != int64(400) {
		t.Errorf("%v sold of 400", sold)
	}
	if err := exact(t.Context(), shop.DB, "hot0", 401, &saleReport{Sold: 401}); err == nil {
		t.Error("a unit that was not sold is not missed")
	}
}

// Requests that were never answered would not be missed, and units that are left would be called sold.
func TestSaleAnswersEverybody(t *testing.T) {
	c := &gateSaleCmd{Processes: 2, Requests: 600, For: time.Second, Units: 200}
	rows, err := c.measure(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 1)
	if rows[0].cells[0] != int64(200) || rows[0].cells[1] != int64(400) {
		t.Errorf("sold and refused: %v", rows[0].cells)
	}
}

// A delay that is not there would be called a network, and processes that do nothing a fleet.
func TestScaleOverADelay(t *testing.T) {
	c := &gateScaleCmd{Processes: 2, Callers: 2, Delay: 5 * time.Millisecond}
	rows, err := c.measure(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 2)
	for _, r := range rows {
		if p50, _ := r.cells[1].(time.Duration); p50 < c.Delay || !strings.HasPrefix(r.cells[3].(string), "0") {
			t.Errorf("%s: %v", r.name, r.cells)
		}
	}
}

// Placements that were told to wait and never became an order would be counted as made.
func TestScaleOfAQueue(t *testing.T) {
	_ = sqldbtest.RedisServer(t) // or the test is skipped: the command needs one
	c := &gateScaleCmd{Processes: 2, Callers: 64, Queued: true}
	rows, err := c.measureQueued(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 2)
}

// Neither of the two would be told apart from a process that measures nothing.
func TestBesideAndIdle(t *testing.T) {
	rows, err := (&gateBesideCmd{Rate: 50, Hot: 500, Units: 100}).measure(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 2)
	rows, err = (&gateIdleCmd{Callers: 8}).measure(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 4)
}

// A sale that fails, loses an order or strands a unit while its buckets come and go would stand in the table as quick.
func TestScalingAndLossAreExact(t *testing.T) {
	_ = sqldbtest.RedisServer(t) // or the test is skipped: the commands need one
	c := &gateBucketsCmd{Processes: 2, Callers: 4, To: []int64{3, 1}}
	rows, err := c.measure(t.Context(), quickly, gateShop(t))
	wantRows(t, rows, err, 2)
	shop := gateShop(t)
	rows, err = (&gateLossCmd{Processes: 2, Callers: 4, Orders: 50, Buckets: 2}).measure(t.Context(), quickly, shop)
	wantRows(t, rows, err, 3)

	lost := &saleLoad{}
	lost.sold.Store(1_000_000) // more answers than there are orders
	if err := lost.stop(t.Context(), shop.DB.DB); !errors.Is(err, errSale) {
		t.Error("an order that was answered and is not there is not missed:", err)
	}
	failed := &saleLoad{}
	failed.note(errSale)
	if err := failed.stop(t.Context(), shop.DB.DB); !errors.Is(err, errSale) {
		t.Error("a placement that failed is not told:", err)
	}
}

// What is called accepted must have been taken, and what is called sold out must not.
func TestDecidedInRedis(t *testing.T) {
	_ = sqldbtest.RedisServer(t)
	rows, err := (&gateDecideCmd{Pipeline: 16, Callers: 1}).measure(t.Context(), quickly)
	wantRows(t, rows, err, 4)
}

// The columns of redis-benchmark change places between versions: a figure of another column would be a baseline.
func TestParseRedisBenchmark(t *testing.T) {
	const said = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99","max"
"EVALSHA x 1 k 1","200000.00","10.1","1.2","9.5","20.3","22.1","30.0"
`
	s, err := parseRedisBenchmark(said, 400_000)
	if err != nil || s.Took != 2*time.Second || s.P50 != 9500*time.Microsecond || s.P99 != 22100*time.Microsecond {
		t.Errorf("%+v %v", s, err)
	}
	for _, wrong := range []string{"", "NOSCRIPT\n", `"a","0.00","1","1","1","1","1","1"`} {
		if _, err := parseRedisBenchmark(wrong, 1); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
