package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// reconcileCmd is "orderload reconcile": payment/reconcile over a whole day, with
// differences whose number and place are known.
type reconcileCmd struct {
	Rows int    `default:"1000000" help:"Payments of the day; the bill has as many, and a refund for every fiftieth."`
	Seed uint64 `default:"1" help:"Of the differences."`
	Flat bool   `help:"Reconcile twice as many rows too, to show that memory stays."`
}

// Run reconciles a bill against as many payments, checks that every seeded difference was
// found and none invented, and says how fast, beside naive ways. Each size has a database
// of its own.
func (k *reconcileCmd) Run(ctx context.Context, set *bench.Settings) error {
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	// Memory that is the same at twice the rows is what --flat shows.
	sizes := []int{k.Rows}
	if k.Flat {
		sizes = append(sizes, 2*k.Rows)
	}
	bench.Header("reconciliation of one day", "rows", "rows/s", "resident memory, peak",
		"differences seeded / found / invented")
	for _, rows := range sizes {
		db, err := server.NewDatabase(ctx)
		if err != nil {
			return err
		}
		err = k.one(ctx, db.DB, rows, rows == k.Rows)
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
	}
	return nil
}

// one reconciles a day of so many payments; naive adds the naive ways to the table.
func (k *reconcileCmd) one(ctx context.Context, db *sqldb.DB, rows int, naive bool) error {
	dir, err := os.MkdirTemp("", "orderload-bill-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Our side and the bill follow from the same seed: what differs is known.
	day := newBillDay(rows, k.Seed)
	if err := day.fill(ctx, db); err != nil {
		return err
	}
	path := filepath.Join(dir, "bill.csv")
	if err := day.write(path); err != nil {
		return err
	}
	gateway := bench.NewGateway(bench.GatewayOptions{})
	r, err := reconcile.New(reconcile.Config{DB: db, Orders: noOrders{}, Gateway: gateway, Bills: gateway,
		Now: time.Now, MchID: bench.MchID, TempDir: dir})
	if err != nil {
		return err
	}
	res, took, peak, err := timeRun(ctx, r, path)
	if err != nil {
		return err
	}
	found, invented, err := day.judge(ctx, r)
	if err != nil {
		return err
	}
	bench.Row(fmt.Sprintf("**payment/reconcile**: read, stored, matched (seed %d)", k.Seed), res.Totals.Rows,
		float64(res.Totals.Rows)/took.Seconds(), bench.Megabytes(peak),
		fmt.Sprintf("%d / %d / %d", len(day.seeded), found, invented))
	// A fast reconciliation that misses one is worth nothing.
	if found != len(day.seeded) || invented != 0 {
		return fmt.Errorf("seed %d: %d of %d differences found, %d invented", k.Seed, found, len(day.seeded), invented)
	}
	if !naive { // of the first size only
		return nil
	}
	return k.naive(ctx, db, path)
}

// timeRun reconciles the bill at path: how long it took, and the peak of resident memory
// in bytes. A bill is read as a stream; memory that grew with it would end a process at
// some size.
func timeRun(ctx context.Context, r *reconcile.Reconciler, path string) (
	res reconcile.Result, took time.Duration, peak int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return res, 0, 0, err
	}
	defer f.Close()
	if err := bench.ResetPeakMemory(); err != nil {
		return res, 0, 0, err
	}
	start := time.Now()
	progress := func(stage string, done, total int64) { bench.Progress.Show("%-9s %d", stage, done) }
	res, err = r.Run(ctx, reconcile.RunRequest{Date: billDate, File: f, Progress: progress,
		By: reconcile.ByOperator("orderload", "cli", "")})
	took = time.Since(start)
	bench.Progress.End()
	if err == nil {
		peak, err = bench.PeakMemory()
	}
	return res, took, peak, err
}

// Sizes of the naive samples: nobody would wait for the whole bill.
const (
	// queriedRows are looked up one by one.
	queriedRows = 20_000
	// nestedRows are held against one another: the square of it.
	nestedRows = 4_000
)

// naive does what the shops whose code was read do: a query for every row, or a loop in a
// loop. Both are samples of the same bill.
func (k *reconcileCmd) naive(ctx context.Context, db *sqldb.DB, path string) error {
	text, err := head(path, queriedRows)
	if err != nil {
		return err
	}
	start := time.Now()
	for _, line := range text {
		var fen int64
		err := db.QueryRowContext(ctx, `SELECT amount_fen
FROM payments
WHERE transaction_id = ?`, transactionIn(line)).Scan(&fen)
		if err != nil {
			fen = 0 // in the bill only
		}
	}
	// No memory for these rows: they keep nothing.
	took := time.Since(start)
	bench.Row(fmt.Sprintf("a query for every row (sample of %d)", queriedRows), queriedRows,
		float64(queriedRows)/took.Seconds(), "", "")
	var keys []string
	for _, line := range text[:nestedRows] {
		keys = append(keys, transactionIn(line))
	}
	// Each key is looked for from the start of the same list, as the nested loops of
	// those shops do: half of the list on the average.
	start, hits := time.Now(), 0
	for _, a := range keys {
		for _, b := range keys {
			if a == b {
				hits++
				break
			}
		}
	}
	took = time.Since(start)
	// Every row is held against half of the others: the time grows with the square.
	whole := took.Seconds() * float64(k.Rows) / nestedRows * float64(k.Rows) / nestedRows
	bench.Row(fmt.Sprintf("a loop in a loop (sample of %d × %d, extrapolated)", nestedRows, nestedRows), k.Rows,
		float64(k.Rows)/whole, "", "")
	if hits != nestedRows {
		return errors.New("the loop in a loop lost rows")
	}
	return nil
}

// transactionIn is the sixth column of a row of a bill, WeChat Pay's number. Every value
// of a bill has a backquote before it, so that spreadsheets take it as text.
func transactionIn(line string) string { return strings.Split(line, ",`")[5] }

// head gives the first n rows of payments of a bill, without its heads, refunds and sums;
// an error when there are fewer.
func head(path string, n int) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	scan := bufio.NewScanner(f)
	for scan.Scan() && len(lines) < n {
		if t := scan.Text(); strings.HasPrefix(t, "`") && strings.Contains(t, "`SUCCESS,`OTHERS") {
			lines = append(lines, t)
		}
	}
	if len(lines) < n {
		err := errors.New("the bill has too few rows for the samples: use --rows 50000 or more")
		return nil, errors.Join(err, scan.Err())
	}
	return lines, nil
}

// noOrders is the orders of a reconciliation that may heal nothing: the seeded
// differences must stay, to be counted.
type noOrders struct{}

// OrderNoOf knows the grammar of our numbers.
func (noOrders) OrderNoOf(outTradeNo string) string { return order.OrderNoOf(outTradeNo) }

// Settle fails like a service that gives no answer: the difference stays open.
func (noOrders) Settle(context.Context, payment.Trade, reconcile.Cause) (string, error) {
	return "", bench.ErrNoAnswer
}

func (noOrders) SettleRefund(context.Context, payment.Refund, reconcile.Cause) (bool, error) {
	return false, bench.ErrNoAnswer
}

func (noOrders) RefundHeld(context.Context, string, reconcile.Cause) error { return bench.ErrNoAnswer }
