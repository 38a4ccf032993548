package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/stock"
)

// gateScaleCmd is "orderload gate scale": one hot SKU sold by many processes.
type gateScaleCmd struct {
	Processes int           `default:"16" help:"Real processes, each with pools of its own."`
	Callers   int           `default:"256" help:"Callers in each process."`
	Delay     time.Duration `help:"Between each process and the database: its answers come so much later."`
	Queued    bool          `help:"In Redis, with a queue that two drainers make orders of, against one process."`
}

// Run measures the SKU without a gate and with one, in turns.
func (c *gateScaleCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{fmt.Sprintf("%d processes × %d callers, %s to the database", c.Processes, c.Callers, c.Delay),
		"orders/s", "p50", "p99", "failed", "ratio"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		if c.Queued {
			return c.measureQueued(ctx, set, shop)
		}
		return c.measure(ctx, set, shop)
	})
}

// measure takes turns; a SKU has a gate only while that side is measured.
func (c *gateScaleCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	if err := putHot(ctx, shop.DB.DB, hotSKU, plenty); err != nil {
		return nil, err
	}
	f, err := startSaleFleet(ctx, shop.DB, c.Processes, c.Delay)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	sums := []saleReport{newSaleReport(), newSaleReport()}
	side := func(i int, j saleJob) func() (bench.Sample, error) {
		j.Callers, j.Length = c.Callers, set.Length()
		return func() (bench.Sample, error) {
			r, err := f.run(ctx, j)
			if err != nil {
				return bench.Sample{}, err
			}
			sums[i].add(&r)
			n, _ := r.failed()
			return bench.Sample{Done: r.Sold, Failed: n, Took: r.Took, P50: quantile(r.Sales, 50),
				P99: quantile(r.Sales, 99)}, nil
		}
	}
	off, local, err := bench.TakeTurns(set.Rounds, side(0, saleJob{SKU: bench.SKU(0)}),
		side(1, saleJob{SKU: hotSKU, Gated: true}))
	if err != nil {
		return nil, err
	}
	rows := []gateRow{saleRow("off (group commit in each)", off, &sums[0], off),
		saleRow("**local**", local, &sums[1], off)}
	units, err := bench.FromBuckets(ctx, shop.DB.DB, stock.GateLocal)
	switch {
	case err != nil:
	case units == 0:
		err = errNotGated
	case sums[0].Refused+sums[1].Refused > 0:
		err = fmt.Errorf("%w: somebody was told sold out, of %d units", errSale, int64(plenty))
	}
	return rows, err
}

// saleRow is the median round of a side, with what failed in all rounds.
func saleRow(name string, s bench.Sample, sum *saleReport, base bench.Sample) gateRow {
	_, kinds := sum.failed()
	return gateRow{name, []any{s.Rate(), s.P50, s.P99, strings.TrimSpace(kinds), ratio(s.Rate(), base.Rate())}}
}

// gateTailCmd is "orderload gate tail": the end of a sale over several processes.
type gateTailCmd struct {
	Processes int   `default:"8" help:"Real processes."`
	Callers   int   `default:"16" help:"Callers in each process, who ask until they are refused."`
	Units     int64 `default:"1000" help:"Units of each round."`
}

// Run sells a SKU to its last unit, once a round.
func (c *gateTailCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{fmt.Sprintf("%d processes, %d units", c.Processes, c.Units), "sold", "refused", "failed",
		"first short pool to last unit"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return c.measure(ctx, set, shop)
	})
}

// measure is an error unless every round is exact.
func (c *gateTailCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	f, err := startSaleFleet(ctx, shop.DB, c.Processes, 0)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	var rows []gateRow
	for round := range set.Rounds {
		sku := fmt.Sprint(hotSKU, round)
		if err := putHot(ctx, shop.DB.DB, sku, c.Units); err != nil {
			return rows, err
		}
		r, err := f.run(ctx, saleJob{SKU: sku, Gated: true, Callers: c.Callers, UntilSoldOut: true})
		if err != nil {
			return rows, err
		}
		_, kinds := r.failed()
		tail, err := tailOf(ctx, shop.DB, sku, &r)
		rows = append(rows, gateRow{fmt.Sprintf("round %d", round+1), []any{r.Sold, r.Refused,
			strings.TrimSpace(kinds), tail}})
		if err = errors.Join(err, exact(ctx, shop.DB, sku, c.Units, &r)); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// tailOf is the time from the recall by which a pool was found short to the last answer that
// sold a unit.
func tailOf(ctx context.Context, db *bench.Database, sku string, r *saleReport) (string, error) {
	var first int64
	err := db.QueryRowContext(ctx, `SELECT COALESCE(MIN(at), 0)
FROM stock_moves
WHERE sku_id = ?
  AND cause = 'close'`, sku).Scan(&first)
	if err != nil {
		return "", err
	}
	if first == 0 {
		return "no unit was recalled", nil
	}
	return bench.Round(time.Duration(r.LastSold-first) * time.Millisecond).String(), nil
}

// exact is an error unless all units of a SKU are sold, by the processes' word and by the rows.
func exact(ctx context.Context, db *bench.Database, sku string, units int64, r *saleReport) error {
	var rows, left, allocated int64
	for _, q := range []struct {
		into  *int64
		query string
	}{{&rows, "SELECT COUNT(*) FROM order_items WHERE sku_id = ?"},
		{&left, "SELECT available FROM skus WHERE sku_id = ?"},
		{&allocated, "SELECT COALESCE(SUM(remaining), 0) FROM stock_buckets WHERE sku_id = ?"}} {
		if err := db.QueryRowContext(ctx, q.query, sku).Scan(q.into); err != nil {
			return err
		}
	}
	if n, kinds := r.failed(); r.Sold != units || rows != units || left != 0 || allocated != 0 || n != 0 {
		return fmt.Errorf("%w: %d sold by the answers, %d by the rows, of %d; %d left, %d in buckets; failed%s",
			errSale, r.Sold, rows, units, left, allocated, kinds)
	}
	return nil
}

// gateSaleCmd is "orderload gate sale": a flash sale.
type gateSaleCmd struct {
	Processes int           `default:"4" help:"Real processes."`
	Requests  int           `default:"100000" help:"Requests of all processes, each by a buyer of its own."`
	For       time.Duration `default:"5s" help:"They come evenly over this time."`
	Units     int64         `default:"10000" help:"Units that there are."`
}

// Run holds the sale once a round.
func (c *gateSaleCmd) Run(ctx context.Context, set *bench.Settings) error {
	columns := []string{fmt.Sprintf("%d requests within %s, %d processes", c.Requests, c.For, c.Processes), "sold",
		"refused", "failed", "repeats", "answered within", "sale p99", "refusal p50", "refusal p99"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return c.measure(ctx, set, shop)
	})
}

// measure is an error unless every round is exact. Latencies count from when a request was due.
func (c *gateSaleCmd) measure(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	f, err := startSaleFleet(ctx, shop.DB, c.Processes, 0)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	var rows []gateRow
	each := c.Requests / c.Processes
	for round := range set.Rounds {
		sku := fmt.Sprint(hotSKU, round)
		if err := putHot(ctx, shop.DB.DB, sku, c.Units); err != nil {
			return rows, err
		}
		r, err := f.run(ctx, saleJob{SKU: sku, Gated: true, Callers: saleCallers, Requests: each, Length: c.For})
		if err != nil {
			return rows, err
		}
		_, kinds := r.failed()
		rows = append(rows, gateRow{fmt.Sprintf("%d units", c.Units), []any{r.Sold, r.Refused, strings.TrimSpace(kinds),
			r.Repeats, r.Took, quantile(r.Sales, 99), quantile(r.Refusals, 50), quantile(r.Refusals, 99)}})
		err = exact(ctx, shop.DB, sku, c.Units, &r)
		if all := r.Sold + r.Refused; err == nil && all != int64(each*c.Processes) {
			err = fmt.Errorf("%w: %d of %d requests were answered", errSale, all, each*c.Processes)
		}
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}
