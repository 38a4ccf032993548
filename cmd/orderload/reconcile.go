package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

type reconcileCmd struct {
	Rows int    `default:"1000000" help:"Payments of the day; the bill has as many, and a refund for every fiftieth."`
	Seed uint64 `default:"1" help:"Of the differences."`
	Flat bool   `help:"Reconcile twice as many rows too, to show that memory stays."`
}

// The day of the bench.
const billDay = "2026-11-20"

var billFrom = time.Date(2026, 11, 20, 0, 0, 0, 0, time.FixedZone("Beijing", 8*60*60))

// seededKinds are the differences, a ten-thousandth of the rows each: a
// thousandth in all.
const seededEvery = 10_000

// Run reconciles a bill against as many payments, checks that every seeded
// difference was found and none invented, and says how fast, beside naive ways.
func (k *reconcileCmd) Run(ctx context.Context, c *cli) error {
	b, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer b.server.Stop()
	sizes := []int{k.Rows}
	if k.Flat {
		sizes = append(sizes, 2*k.Rows)
	}
	fmt.Println("| reconciliation of one day | rows | rows/s | resident memory, peak | differences seeded / found / invented |\n|---|---|---|---|---|")
	for _, rows := range sizes {
		db, err := b.fresh(ctx)
		if err != nil {
			return err
		}
		err = k.one(ctx, db, rows, rows == k.Rows)
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (k *reconcileCmd) one(ctx context.Context, db *sqldb.DB, rows int, naive bool) error {
	dir, err := os.MkdirTemp("", "orderload-bill-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	day := newBillDay(rows, k.Seed)
	if err := day.fill(ctx, db); err != nil {
		return err
	}
	path := filepath.Join(dir, "bill.csv")
	if err := day.write(path); err != nil {
		return err
	}
	r, err := reconcile.New(reconcile.Config{DB: db, Orders: noOrders{}, Gateway: noGateway{}, Bills: noBills{}, Now: time.Now, MchID: mchID, TempDir: dir})
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak counts from here
		return err
	}
	start := time.Now()
	res, err := r.Run(ctx, reconcile.RunRequest{Date: billDay, File: f, Progress: func(stage string, done, total int64) {
		fmt.Fprintf(os.Stderr, "\r\033[K%-9s %d", stage, done)
	}})
	took := time.Since(start)
	fmt.Fprint(os.Stderr, "\r\033[K")
	if err != nil {
		return err
	}
	peak, err := peakMemory()
	if err != nil {
		return err
	}
	found, invented, err := day.judge(ctx, r)
	if err != nil {
		return err
	}
	row("**payment/reconcile**: read, stored, matched (seed "+strconv.FormatUint(k.Seed, 10)+")", res.Totals.Rows, float64(res.Totals.Rows)/took.Seconds(),
		fmt.Sprintf("%d MB", peak>>20), fmt.Sprintf("%d / %d / %d", len(day.seeded), found, invented))
	if found != len(day.seeded) || invented != 0 {
		return fmt.Errorf("seed %d: %d of %d differences found, %d invented", k.Seed, found, len(day.seeded), invented)
	}
	if !naive {
		return nil
	}
	return k.naive(ctx, db, path)
}

// billDay is a day of payments and refunds, and a bill that differs here and there.
type billDayOf struct {
	rows   int
	seeded map[string]bool // "KIND ref"
	odd    map[int]reconcile.Kind
	oddR   map[int]reconcile.Kind // of refunds, by the payment's number
}

func newBillDay(rows int, seed uint64) *billDayOf {
	d := &billDayOf{rows: rows, seeded: map[string]bool{}, odd: map[int]reconcile.Kind{}, oddR: map[int]reconcile.Kind{}}
	rnd := rand.New(rand.NewPCG(seed, 3))
	each := max(rows/seededEvery, 1)
	for _, kind := range reconcile.Kinds() {
		for range each {
			i := rnd.IntN(rows)
			if strings.Contains(string(kind), "REFUND") {
				i -= i % 50 // a payment that has a refund
				for d.oddR[i] != "" {
					i = rnd.IntN(rows/50) * 50
				}
				d.oddR[i] = kind
				d.seeded[string(kind)+" "+refundNoOf(i)] = true
				continue
			}
			for d.odd[i] != "" {
				i = rnd.IntN(rows)
			}
			d.odd[i] = kind
			d.seeded[string(kind)+" "+transactionOf(i)] = true
		}
	}
	return d
}

func transactionOf(i int) string { return fmt.Sprintf("42000012342026112%011d", i) }
func orderNoOf(i int) string     { return fmt.Sprintf("01JD4Z%020d", i) }
func refundNoOf(i int) string    { return orderNoOf(i) + "-R01" }
func fenOf(i int) int64          { return int64(100 + i%100_000) }

// at spreads the payments over the day, away from midnight.
func (d *billDayOf) at(i int) time.Time {
	return billFrom.Add(time.Hour + time.Duration(i)*(22*time.Hour/time.Duration(d.rows))).Truncate(time.Second)
}

// fill writes our side.
func (d *billDayOf) fill(ctx context.Context, db *sqldb.DB) error {
	const page = 5_000
	for from := 0; from < d.rows; from += page {
		var pays, backs []any
		for i := from; i < min(from+page, d.rows); i++ {
			at := d.at(i).UnixMilli()
			if d.odd[i] != reconcile.BillOnly {
				pays = append(pays, transactionOf(i), orderNoOf(i), orderNoOf(i)+"-01", fenOf(i), fenOf(i), "CNY", "NATIVE", appID, mchID, at, at, "notification", "applied", "")
			}
			if i%50 == 0 && d.oddR[i] != reconcile.RefundBillOnly {
				backs = append(backs, refundNoOf(i), orderNoOf(i), transactionOf(i), 50, "success", "aftersale", at, at, at)
			}
		}
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return errors.Join(tx.InsertRows(ctx, `INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid, paid_at, received_at, source, outcome, reason)
VALUES`, 14, pays), tx.InsertRows(ctx, `INSERT INTO refunds
  (out_refund_no, order_no, transaction_id, amount_fen, state, reason, created_at, accepted_at, updated_at)
VALUES`, 9, backs))
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "\r\033[Kfilling %d of %d", from, d.rows)
	}
	return nil
}

// write writes the bill, in an order that has nothing to do with ours.
func (d *billDayOf) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprint(w, "\ufeff交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,"+
		"微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n")
	var n, paid, back int64
	pay := func(i int, fen int64, state string) {
		n, paid = n+1, paid+fen
		yuan := payment.Fen(fen).String()
		fmt.Fprintf(w, "`%s,`%s,`%s,`0,`,`%s,`%s-01,`oUpF8uMuAJO_M2pxb1Q9zNjWeS6o,`NATIVE,`%s,`OTHERS,`CNY,`%s,`0.00,`0,`0,`0.00,`0.00,`,`,`Blue mug, large,`shop-7,`0.00000,`0.60%%,`%s,`0.00,`\r\n",
			d.at(i).Format(time.DateTime), appID, mchID, transactionOf(i), tradeOf(d, i), state, yuan, yuan)
	}
	refund := func(i int, fen int64, state string) {
		n, back = n+1, back+fen
		yuan := payment.Fen(fen).String()
		fmt.Fprintf(w, "`%s,`%s,`%s,`0,`,`%s,`%s-01,`o,`NATIVE,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`5030%024d,`%s,`%s,`0.00,`ORIGINAL,`%s,`mug,`shop-7,`0.00000,`0.60%%,`0.00,`%s,`\r\n",
			d.at(i).Format(time.DateTime), appID, mchID, transactionOf(i), orderNoOf(i), i, refundNoOf(i), yuan, state, yuan)
	}
	const stride = 7_919 // prime: every number once, in no order
	for s, i := 0, 0; s < d.rows; s, i = s+1, (i+stride)%d.rows {
		switch d.odd[i] {
		case reconcile.LocalOnly:
		case reconcile.AmountMismatch:
			pay(i, fenOf(i)+1, "SUCCESS")
		case reconcile.StateMismatch:
			pay(i, fenOf(i), "REVOKED")
		case reconcile.Duplicate:
			pay(i, fenOf(i), "SUCCESS")
			pay(i, fenOf(i), "SUCCESS")
		case "", reconcile.BillOnly, reconcile.RefundBillOnly, reconcile.RefundLocalOnly, reconcile.RefundAmountMismatch, reconcile.RefundStateMismatch, reconcile.DuplicateRefund:
			pay(i, fenOf(i), "SUCCESS")
		}
		if i%50 != 0 {
			continue
		}
		switch d.oddR[i] {
		case reconcile.RefundLocalOnly:
		case reconcile.RefundAmountMismatch:
			refund(i, 51, "SUCCESS")
		case reconcile.RefundStateMismatch:
			refund(i, 50, "FAIL")
		case reconcile.DuplicateRefund:
			refund(i, 50, "SUCCESS")
			refund(i, 50, "SUCCESS")
		case "", reconcile.RefundBillOnly, reconcile.BillOnly, reconcile.LocalOnly, reconcile.AmountMismatch, reconcile.StateMismatch, reconcile.Duplicate:
			refund(i, 50, "SUCCESS")
		}
	}
	fmt.Fprintf(w, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n`%d,`%s,`%s,`0.00,`0.00000,`%s,`%s\r\n",
		n, payment.Fen(paid), payment.Fen(back), payment.Fen(paid), payment.Fen(back))
	return errors.Join(w.Flush(), f.Close())
}

// tradeOf is the order of a payment; one that we do not have is another system's,
// or it would be healed.
func tradeOf(d *billDayOf, i int) string {
	if d.odd[i] == reconcile.BillOnly {
		return fmt.Sprintf("OTHER%d", i)
	}
	return orderNoOf(i)
}

// judge compares what was found with what was seeded.
func (d *billDayOf) judge(ctx context.Context, r *reconcile.Reconciler) (found, invented int, err error) {
	seen := map[string]bool{}
	for cursor := ""; ; {
		page, err := r.Differences(ctx, reconcile.DifferenceFilter{Date: billDay, Status: reconcile.StatusOpen, Cursor: cursor, Limit: 500})
		if err != nil {
			return found, invented, err
		}
		for _, x := range page {
			cursor = x.ID
			name := string(x.Kind) + " " + x.Ref
			if d.seeded[name] && !seen[name] {
				seen[name] = true
				found++
			} else {
				invented++
			}
		}
		if len(page) < 500 {
			return found, invented, nil
		}
	}
}

// naive is what the shops that were read do: a query for every row, or a loop in
// a loop; on a sample, since nobody would wait for the end.
func (k *reconcileCmd) naive(ctx context.Context, db *sqldb.DB, path string) error {
	const sample, nested = 20_000, 4_000
	text, err := head(path, sample)
	if err != nil {
		return err
	}
	start := time.Now()
	for _, line := range text {
		cells := strings.Split(line, ",`")
		var fen int64
		if err := db.QueryRowContext(ctx, "SELECT amount_fen FROM payments WHERE transaction_id = ?", cells[5]).Scan(&fen); err != nil {
			fen = 0 // bill only
		}
	}
	took := time.Since(start)
	row(fmt.Sprintf("a query for every row (sample of %d)", sample), sample, float64(sample)/took.Seconds(), "", "")
	var keys []string
	for _, line := range text[:nested] {
		keys = append(keys, strings.Split(line, ",`")[5])
	}
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
	whole := took.Seconds() * float64(k.Rows) / nested * float64(k.Rows) / nested
	row(fmt.Sprintf("a loop in a loop (sample of %d × %d, extrapolated)", nested, nested), k.Rows, float64(k.Rows)/whole, "", "")
	if hits != nested {
		return errors.New("the loop in a loop lost rows")
	}
	return nil
}

// head gives the first rows of payments of a bill.
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
		return nil, errors.Join(errors.New("the bill has too few rows for the samples: use --rows 50000 or more"), scan.Err())
	}
	return lines, nil
}

// peakMemory is VmHWM of this process.
func peakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmHWM in /proc/self/status")
}

// noOrders knows the grammar of our numbers and takes in nothing.
type noOrders struct{}

func (noOrders) OrderNoOf(outTradeNo string) string { return order.OrderNoOf(outTradeNo) }
func (noOrders) Settle(context.Context, payment.Trade, reconcile.Cause) (string, error) {
	return "", errNoGateway
}
func (noOrders) SettleRefund(context.Context, payment.Refund, reconcile.Cause) (bool, error) {
	return false, errNoGateway
}
func (noOrders) RefundHeld(context.Context, string, reconcile.Cause) error { return errNoGateway }

type noBills struct{}

func (noBills) FetchBill(context.Context, string, payment.BillType, io.Writer) (payment.Bill, error) {
	return payment.Bill{}, errNoGateway
}
