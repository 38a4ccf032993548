package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/stock"
)

// gateCmd is "orderload gate": what the gate of a flash sale refuses, sells and costs. Each
// measurement has its baseline in the same run, and is followed by verify.
type gateCmd struct {
	Refuse  gateRefuseCmd  `cmd:"" help:"Refusals from memory against Redis and the ledger; --http: over HTTP."`
	Decide  gateDecideCmd  `cmd:"" help:"What Redis decides by itself, against the seed's script."`
	Durable gateDurableCmd `cmd:"" help:"Accepted and committed in one process, against group commit and raw rows."`
	Scale   gateScaleCmd   `cmd:"" help:"One hot SKU sold by many processes, with a gate and without."`
	Buckets gateBucketsCmd `cmd:"" help:"Buckets in Redis scaled up and down under load."`
	Loss    gateLossCmd    `cmd:"" help:"Redis emptied, and killed, in the middle of a sale."`
	Tail    gateTailCmd    `cmd:"" help:"The last unit over several processes."`
	Sale    gateSaleCmd    `cmd:"" help:"So many requests within so many seconds for so many units."`
	Beside  gateBesideCmd  `cmd:"" help:"Ordinary placements beside a hot SKU."`
	Idle    gateIdleCmd    `cmd:"" help:"What the gate of a process costs where no SKU has one."`
}

// gateConnections is the private MariaDB's: enough for the pools of maxSaleProcesses and of the
// parent.
const gateConnections = "--max-connections=1500"

// errSale: a sale was not exact.
var errSale = errors.New("the sale is not exact")

// gateRow is a side of a measurement: a row of its table.
type gateRow struct {
	name  string
	cells []any
}

// printGate prints a table of such rows.
func printGate(columns []string, rows []gateRow) {
	bench.Header(columns...)
	for _, r := range rows {
		bench.Row(append([]any{r.name}, r.cells...)...)
	}
}

// ratio is a part of a whole as the tables write it.
func ratio(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("**%.2f ×**", a/b)
}

// withShop runs a measurement on a private MariaDB with a shop of one SKU of plenty, and prints
// its table under the columns.
func withShop(ctx context.Context, set *bench.Settings, columns []string,
	measure func(ctx context.Context, shop *bench.Shop) ([]gateRow, error)) error {
	server, err := set.Start(ctx, gateConnections)
	if err != nil {
		return err
	}
	defer server.Stop()
	shop, err := server.NewShop(ctx, bench.ShopOptions{SKUs: 1})
	if err != nil {
		return err
	}
	defer shop.Close()
	rows, err := measure(ctx, shop)
	printGate(columns, rows) // also of what went before a failure
	return errors.Join(err, shop.Verify(ctx))
}

// putSKU makes a SKU with so many units.
func putSKU(ctx context.Context, db *sqldb.DB, skuID string, units int64) error {
	_, _, err := stock.NewAdmin(db, time.Now).Put(ctx, stock.Put{SkuID: skuID, Title: "sale", PriceFen: bench.Fen,
		Quantity: &units})
	return err
}

// putHot makes a SKU with so many units and a gate of mode local.
func putHot(ctx context.Context, db *sqldb.DB, skuID string, units int64) error {
	if err := putSKU(ctx, db, skuID, units); err != nil {
		return err
	}
	return bench.OpenGate(ctx, db, skuID, stock.GateLocal, 1)
}

// keys makes the placements of a measurement: none is a repeat of another's.
type keys struct {
	run string
	n   atomic.Int64
}

// newKeys begins a measurement.
func newKeys() *keys { return &keys{run: ulid.Make().String() + "-"} }

// next is a placement of one unit of a SKU that nobody has asked for.
func (k *keys) next(skuID string) order.Placement {
	n := strconv.FormatInt(k.n.Add(1), 10)
	return order.Placement{CustomerID: "c" + n, RequestID: k.run + n, Cause: "bench",
		Lines: []stock.Line{{SkuID: skuID, Quantity: 1}}}
}

// placeFresh places one unit for somebody new. A repeat is an error: nothing was placed.
func placeFresh(ctx context.Context, s *order.Service, p order.Placement) error {
	placed, err := s.Place(ctx, p)
	if err == nil && placed.Replayed {
		err = errReplayed
	}
	return err
}

// refused is nil when a placement was refused because nothing is left, else an error.
func refused(err error) error {
	switch {
	case err == nil:
		return errors.New("sold, where nothing is left")
	case errors.As(err, new(*order.InsufficientError)):
		return nil
	default:
		return err
	}
}

// sellOut sells what a SKU has and waits until the process refuses it from memory.
func sellOut(ctx context.Context, s *bench.Gated, skuID string) error {
	if err := s.Await(ctx, skuID); err != nil {
		return err
	}
	k := newKeys()
	for end := time.Now().Add(gateMarked); ; sqldb.Sleep(ctx, 10*time.Millisecond) {
		if err := takeRefused(s, skuID, k.next(skuID)); err == nil {
			return nil
		}
		_, err := s.Orders.Place(ctx, k.next(skuID))
		if err != nil && !errors.As(err, new(*order.InsufficientError)) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not refused from memory within %s", skuID, gateMarked)
		}
	}
}

// gateMarked bounds the wait for a mark of this process.
const gateMarked = 2 * time.Minute

// noneFailed is an error when a side failed, whose figures are void then.
func noneFailed(name string, s bench.Sample) error {
	if s.Failed > 0 {
		return fmt.Errorf("%s: %d calls failed", name, s.Failed)
	}
	return nil
}
