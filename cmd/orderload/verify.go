package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order/audit"
)

type verifyCmd struct {
	Orders int    `default:"100000" help:"Orders of the world, with two lines each."`
	Seed   uint64 `default:"1" help:"Of the violations."`
	Checks bool   `help:"Print the time of every check."`
}

// Run fills a world of orders that is in order, verifies it, seeds a violation
// of every kind somewhere in it, and shows that exactly these are found; on
// MariaDB and on SQLite.
func (k *verifyCmd) Run(ctx context.Context, c *cli) error {
	b, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer b.server.Stop()
	dir, err := os.MkdirTemp("", "orderload-verify-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	maria, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	lite, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(dir, "orderd.db"))
	if err != nil {
		return errors.Join(err, maria.Close())
	}
	if _, err = migrations.Up(ctx, lite); err == nil {
		fmt.Println("| verify | orders | rows | checks | took | slowest check | resident memory, peak | violations seeded / found / invented |\n|---|---|---|---|---|---|---|---|")
		err = errors.Join(k.one(ctx, "MariaDB", maria), k.one(ctx, "SQLite", lite))
	}
	return errors.Join(err, maria.Close(), lite.Close())
}

func (k *verifyCmd) one(ctx context.Context, engine string, db *sqldb.DB) error {
	w := &bulkWorld{orders: k.Orders, now: time.Now().UnixMilli(), rnd: rand.New(rand.NewPCG(k.Seed, 4)), stock: map[int]int64{}}
	rows, err := w.fill(ctx, db)
	if err != nil {
		return err
	}
	a, err := auditor(db)
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak counts from here
		return err
	}
	clean, err := verifyAll(ctx, a)
	if err != nil {
		return err
	}
	peak, err := peakMemory()
	if err != nil {
		return err
	}
	if broken := clean.Broken(); len(broken) > 0 {
		return fmt.Errorf("a world in order, and yet %+v", broken)
	}
	byTime := slices.SortedFunc(slices.Values(clean.Checks), func(x, y audit.CheckResult) int { return int(y.Took - x.Took) })
	if k.Checks {
		for _, c := range byTime {
			fmt.Fprintf(os.Stderr, "%-8s %8s  %s\n", engine, round(c.Took), c.ID)
		}
	}
	seeded, found, invented, err := w.seedAll(ctx, db, a)
	row("**"+engine+"** (seed "+fmt.Sprint(k.Seed)+")", k.Orders, rows, len(clean.Checks), clean.Took, byTime[0].ID+" "+round(byTime[0].Took).String(),
		fmt.Sprintf("%d MB", peak>>20), fmt.Sprintf("%d / %d / %d", seeded, found, invented))
	if err == nil && (found != seeded || invented != 0) {
		err = fmt.Errorf("%s, seed %d: %d of %d violations found, %d invented", engine, k.Seed, found, seeded, invented)
	}
	return err
}

func verifyAll(ctx context.Context, a *audit.Auditor) (audit.Report, error) {
	r, err := a.VerifyWith(ctx, audit.VerifyOptions{Quiescent: true, Progress: func(done, total int, id string) {
		fmt.Fprintf(os.Stderr, "\r\033[K%d of %d  %s", done+1, total, id)
	}})
	fmt.Fprint(os.Stderr, "\r\033[K")
	return r, err
}

// bulkWorld is orders as a shop has them: of ten, seven paid, one of them with
// a refund of a line, two closed, one still open; of a hundred closed ones three
// were paid late and their money went back.
type bulkWorld struct {
	orders int
	now    int64
	rnd    *rand.Rand
	stock  map[int]int64 // what is out, by SKU
	rows   rowSet
	n      int
}

// rowSet is what is inserted together, by head of the statement.
type rowSet map[*table][]any

type table struct {
	head string
	cols int
}

func into(name, columns string) *table {
	return &table{"INSERT INTO " + name + "\n  (" + columns + ")\nVALUES", strings.Count(columns, ",") + 1}
}

var (
	ordersTable = into("orders", "order_no, customer_id, request_id, request_hash, state, version, total_fen, remark, attach, placed_cause, close_reason, close_tries, created_at, expire_at, due_at, updated_at")
	itemsTable  = into("order_items", "order_no, line_no, sku_id, quantity, price_fen")
	flowsTable  = into("stock_flows", "order_no, kind, ref, sku_id, delta, created_at")
	eventsTable = into("order_events", "order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms")
	triesTable  = into("payment_attempts", "out_trade_no, order_no, attempt_no, state, trade_type, description, attach, notify_url, time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at")
	paysTable   = into("payments", "transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid, paid_at, received_at, source, outcome, reason, refund_fen")
	backsTable  = into("refunds", "out_refund_no, order_no, transaction_id, out_trade_no, refund_id, amount_fen, total_fen, state, reason, note, restock, requester_type, requester_id, request_id, approvals_needed, created_at, sent_at, accepted_at, succeeded_at, updated_at")
	partsTable  = into("refund_items", "out_refund_no, sku_id, quantity")
	skusTable   = into("skus", "sku_id, title, price_fen, available, unlimited, version, created_at, updated_at")
	allTables   = []*table{ordersTable, itemsTable, flowsTable, eventsTable, triesTable, paysTable, backsTable, partsTable, skusTable}
)

const bulkSKUs, cameIn = 1000, 1_000_000

func (w *bulkWorld) add(t *table, values ...any) {
	w.rows[t] = append(w.rows[t], values...)
	w.n++
}

// fill writes the world and gives the number of its rows.
func (w *bulkWorld) fill(ctx context.Context, db *sqldb.DB) (int, error) {
	const page = 2_000
	w.rows = rowSet{}
	for i := range w.orders {
		w.order(i)
		if i%page != page-1 && i != w.orders-1 {
			continue
		}
		if i == w.orders-1 {
			for n := range bulkSKUs {
				w.add(flowsTable, "", "initial", "", sku(n), cameIn, w.now)
				w.add(skusTable, sku(n), "bench", 100, cameIn-w.stock[n], 0, 1, w.now, w.now)
			}
		}
		if err := w.flush(ctx, db); err != nil {
			return 0, err
		}
		fmt.Fprintf(os.Stderr, "\r\033[Kfilling %d of %d", i, w.orders)
	}
	return w.n, nil
}

func (w *bulkWorld) flush(ctx context.Context, db *sqldb.DB) error {
	defer func() { w.rows = rowSet{} }()
	for _, t := range allTables {
		if len(w.rows[t]) == 0 {
			continue
		}
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return tx.InsertRows(ctx, t.head, t.cols, w.rows[t]) })
		if err != nil {
			return err
		}
	}
	return nil
}

// life is one order while its rows are made.
type life struct {
	w     *bulkWorld
	no    string
	at    int64
	seq   int
	state string
	paid  string // transaction id
}

func (l *life) event(name, to, detail string) {
	l.seq++
	l.at++
	l.w.add(eventsTable, l.no, l.seq, l.at, name, l.state, to, "wechat", "", "notification", l.no, detail, 3)
	l.state = to
}

// Every order has two lines, of one and of two units of 100 fen; one of
// lateEvery was paid after it was closed.
const bulkTotal, lateEvery = 300, 300

func (w *bulkWorld) order(i int) {
	l := &life{w: w, no: orderNoOf(i), at: w.now - 1_000_000, seq: 1, state: "pending"}
	a, b := w.rnd.IntN(bulkSKUs), w.rnd.IntN(bulkSKUs-1)
	if b >= a {
		b++
	}
	for n, s := range []int{a, b} {
		w.add(itemsTable, l.no, n+1, sku(s), n+1, 100)
		w.add(flowsTable, l.no, "deduct", "", sku(s), -n-1, l.at)
		w.stock[s] += int64(n) + 1
	}
	w.add(triesTable, l.no+"-01", l.no, 1, "live", "NATIVE", "x", "", "https://shop.example/n", "", bulkTotal, "", "", "", "", l.at, l.at)
	l.event("prepay.opened", "pending", "")
	var due any
	reason, tries := "", 0
	switch kind := i % 10; {
	case kind < 7:
		l.pay("applied", "payment.applied", "paid", "")
		if kind == 0 {
			l.refundLine(b)
		}
	case kind < 9:
		reason, tries = "timeout", 1
		l.close(a, b)
		if i%lateEvery == 7 {
			l.pay("owed", "payment.late", "late", "late")
			l.refundLate()
		}
	default:
		due = w.now + 1_800_000
	}
	w.add(ordersTable, l.no, fmt.Sprint("c", i%10_000), fmt.Sprint("r", i), "h", l.state, l.seq, bulkTotal, "", "", "bench", reason, tries,
		w.now-1_000_000, w.now+1_800_000, due, l.at)
}

func (l *life) pay(outcome, name, to, reason string) {
	l.paid = "42" + l.no
	back := 0
	switch {
	case outcome == "owed":
		back = bulkTotal
	case strings.HasSuffix(l.no, "0"): // kind 0
		back = 200
	}
	l.event(name, to, `{"out_trade_no":"`+l.no+`-01","total":"3.00","transaction_id":"`+l.paid+`"}`)
	l.w.add(paysTable, l.paid, l.no, l.no+"-01", bulkTotal, bulkTotal, "CNY", "NATIVE", appID, mchID, l.at, l.at, "notification", outcome, reason, back)
}

func (l *life) close(skus ...int) {
	l.event("close.requested", "closing", "")
	l.event("close.accepted", "closed", `{"close":"accepted","close_status":"204","query":"CLOSED"}`)
	for n, s := range skus {
		l.w.add(flowsTable, l.no, "return", "close", sku(s), n+1, l.at)
		l.w.stock[s] -= int64(n) + 1
	}
}

// refundLine gives the line of two units back.
func (l *life) refundLine(n int) {
	no := l.no + "-R01"
	l.event("refund.requested", "refunding", `{"out_refund_no":"`+no+`"}`)
	l.refund(no, 200, "aftersale", 1, "paid")
	l.w.add(partsTable, no, sku(n), 2)
	l.w.add(flowsTable, l.no, "return", no, sku(n), 2, l.at)
	l.w.stock[n] -= 2
}

func (l *life) refundLate() { l.refund("R"+l.paid, bulkTotal, "late", 0, "refunded") }

func (l *life) refund(no string, amount int, reason string, restock int, to string) {
	l.event("refund.sent", l.state, `{"out_refund_no":"`+no+`"}`)
	l.event("refund.succeeded", to, `{"out_refund_no":"`+no+`"}`)
	l.w.add(backsTable, no, l.no, l.paid, l.no+"-01", "5"+no, amount, bulkTotal, "success", reason, "x", restock, "scheduler", "", nil, 0,
		l.at, l.at, l.at, l.at, l.at)
}
