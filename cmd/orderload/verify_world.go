package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// world is orders as a shop has them: of ten, seven paid, one of them with a refund of a
// line, two closed, one still open; one closed one in sixty was paid late and its money
// went back. It is rows and not calls of the service, which would take hours for as many.
type world struct {
	orders int
	// now is Unix milliseconds, as all times of the tables; orders were placed placedAgo
	// before it, which their numbers say, and can be paid until expireAt.
	now, expireAt int64
	// placed is the begin of every order's number.
	placed string
	rnd    *rand.Rand
	// stock is the units that are out, by the number of the SKU.
	stock map[int]int64
	// rows are not written yet; n is how many were made so far.
	rows rowSet
	n    int
}

// newWorld is empty; its times are relative to now, its draws follow from rnd: the same
// seed makes the same world.
func newWorld(orders int, rnd *rand.Rand) *world {
	const second = 1000
	w := &world{orders: orders, now: time.Now().UnixMilli(), rnd: rnd, stock: map[int]int64{}, rows: rowSet{}}
	w.expireAt = (w.now + dueIn) / second * second
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(time.UnixMilli(w.now - placedAgo))) // cannot fail before the year 10889
	const timeLen = 10
	w.placed = id.String()[:timeLen]
	return w
}

// orderNo is the number of order i: a ULID of the time of its placement.
func (w *world) orderNo(i int) string { return fmt.Sprintf("%s%016d", w.placed, i) }

// rowSet is the values to insert together, by table: one row after the other.
type rowSet map[*table][]any

// table is the head of an INSERT, and how many columns it names.
type table struct {
	head string
	cols int
}

// into is the table with the columns that the rows here have; what is left out has its
// default of the schema.
func into(name, columns string) *table {
	return &table{"INSERT INTO " + name + "\n  (" + columns + ")\nVALUES", strings.Count(columns, ",") + 1}
}

// The tables, with the columns that have no default here.
var (
	// Most columns; what a real row would have from its default is left out.
	ordersTable = into("orders", `order_no, customer_id, request_id, request_hash, state, version, total_fen,
   remark, attach, placed_cause, close_reason, close_tries, created_at, expire_at, due_at, updated_at`)
	itemsTable  = into("order_items", "order_no, line_no, sku_id, quantity, price_fen")
	flowsTable  = into("stock_flows", "order_no, kind, ref, sku_id, delta, created_at")
	eventsTable = into("order_events", `order_no, seq, at, event, from_state, to_state,
   actor_type, actor_id, cause_type, cause_id, detail, took_ms`)
	attemptsTable = into("payment_attempts", `out_trade_no, order_no, attempt_no, state, trade_type, description,
   attach, notify_url, time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at`)
	paymentsTable = into("payments", `transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency,
   trade_type, appid, mchid, paid_at, received_at, source, outcome, reason, refund_fen`)
	refundsTable = into("refunds", `out_refund_no, order_no, transaction_id, out_trade_no, refund_id, amount_fen,
   total_fen, state, reason, note, restock, requester_type, requester_id, request_id, request_hash, approvals_needed,
   created_at, sent_at, accepted_at, succeeded_at, updated_at`)
	refundItemsTable = into("refund_items", "out_refund_no, sku_id, quantity")
	skusTable        = into("skus", "sku_id, title, price_fen, available, unlimited, version, created_at, updated_at")

	// allTables is the order in which they are written.
	allTables = []*table{ordersTable, itemsTable, flowsTable, eventsTable, attemptsTable, paymentsTable, refundsTable,
		refundItemsTable, skusTable}
)

const (
	// worldSKUs is how many SKUs the lines are of, drawn evenly.
	worldSKUs = 1000
	// cameIn is units of every SKU at the beginning: more than all orders take.
	cameIn = 1_000_000
)

// add makes one row, with as many values as the table's columns; flush writes it.
func (w *world) add(t *table, values ...any) {
	w.rows[t] = append(w.rows[t], values...)
	w.n++
}

// fill writes the world and gives the number of its rows. Shelves are written last: only
// then is known what is out.
func (w *world) fill(ctx context.Context, db *sqldb.DB) (int, error) {
	const page = 2_000 // orders inserted together
	for i := range w.orders {
		w.order(i)
		if i%page != page-1 && i != w.orders-1 {
			continue
		}
		if i == w.orders-1 {
			for n := range worldSKUs {
				w.add(flowsTable, "", "initial", "", bench.SKU(n), cameIn, w.now-placedAgo)
				w.add(skusTable, bench.SKU(n), "bench", bench.Fen, cameIn-w.stock[n], 0, 1, w.now-placedAgo, w.now)
			}
		}
		if err := w.flush(ctx, db); err != nil {
			return 0, err
		}
		bench.Progress.Show("filling %d of %d", i, w.orders)
	}
	return w.n, nil
}

// flush writes what was made, a transaction for each table, in the order of allTables,
// and forgets it: memory does not grow with the world.
func (w *world) flush(ctx context.Context, db *sqldb.DB) error {
	defer func() { w.rows = rowSet{} }()
	for _, t := range allTables {
		if len(w.rows[t]) == 0 {
			continue
		}
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.InsertRows(ctx, t.head, t.cols, w.rows[t])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// life is one order while its rows are made: each step writes the events and rows that
// the service would have written.
type life struct {
	w            *world
	no, customer string
	// at is the time of the last event, in Unix milliseconds, seq its number; 1 is the
	// placement, which writes none.
	at    int64
	seq   int
	state string
	// paid is the transaction id.
	paid string
}

// event takes the order to a state, a millisecond later; the chain of states and times is
// what verify checks.
func (l *life) event(name, to, detail string) { l.eventBy("wechat", "", name, to, detail) }

// eventBy is event with who did it.
func (l *life) eventBy(actor, id, name, to, detail string) {
	const took = 3 // milliseconds, as the event says of its call
	l.seq++
	l.at++
	l.w.add(eventsTable, l.no, l.seq, l.at, name, l.state, to, actor, id, "notification", l.no, detail, took)
	l.state = to
}

const (
	// worldTotal is of two lines, of one unit and of two; in fen.
	worldTotal = 3 * bench.Fen
	// partFen is what a refund of the second line gives back.
	partFen = 2 * bench.Fen
	// lateEvery is orders of which one was paid after it was closed.
	lateEvery = 300
	// placedAgo is milliseconds since the placement: some seventeen minutes.
	placedAgo = 1_000_000
	// dueIn is milliseconds until an open order's deadline: not during the run, so that
	// nothing is overdue.
	dueIn     = 1_800_000
	customers = 10_000
)

// order makes the rows of order i: what becomes of it follows from i alone, its SKUs from
// rnd. The kinds of the violations (ofKind.has) follow what it does with i.
func (w *world) order(i int) {
	l := &life{w: w, no: w.orderNo(i), customer: fmt.Sprint("c", i%customers), at: w.now - placedAgo, seq: 1,
		state: "pending"}
	a, b := w.rnd.IntN(worldSKUs), w.rnd.IntN(worldSKUs-1)
	if b >= a { // two different ones
		b++
	}
	for n, s := range []int{a, b} {
		w.add(itemsTable, l.no, n+1, bench.SKU(s), n+1, bench.Fen)
		w.add(flowsTable, l.no, "deduct", "", bench.SKU(s), -n-1, l.at)
		w.stock[s] += int64(n) + 1
	}
	w.add(attemptsTable, l.no+"-01", l.no, 1, "live", "NATIVE", "x", "", "https://shop.example/n",
		time.UnixMilli(w.expireAt).In(beijing).Format(time.RFC3339), worldTotal, "", "", "",
		`{"code_url":"weixin://x"}`, l.at, l.at)
	l.event("prepay.opened", "pending", `{"out_trade_no":"`+l.no+`-01","trade_type":"NATIVE"}`)
	var due any
	reason, tries := "", 0
	switch kind := i % 10; {
	// isPaid, isPartly.
	case kind < 7:
		l.pay("applied", "payment.applied", "paid", "")
		if kind == 0 {
			l.refundLine(b)
		}
	// isClosed, isLate.
	case kind < 9:
		reason, tries = "timeout", 1
		l.close(a, b)
		if i%lateEvery == 7 {
			l.pay("owed", "payment.late", "late", "late")
			l.refundLate()
		}
	// isPending.
	default:
		due = w.now + dueIn // a part of a second after the deadline
	}
	w.add(ordersTable, l.no, l.customer, fmt.Sprint("r", i), hash, l.state, l.seq, worldTotal,
		"", "", "bench", reason, tries, w.now-placedAgo, w.expireAt, due, l.at)
}

// pay takes in a payment. Its refund_fen is what refunds will have given back: the column
// is written once here, and not when they end.
func (l *life) pay(outcome, name, to, reason string) {
	l.paid = "42" + l.no
	back := 0
	switch {
	case outcome == "owed":
		back = worldTotal
	case strings.HasSuffix(l.no, "0"): // i%10 == 0: refundLine follows
		back = partFen
	}
	l.event(name, to, `{"out_trade_no":"`+l.no+`-01","total":"3.00","transaction_id":"`+l.paid+`"}`)
	l.w.add(paymentsTable, l.paid, l.no, l.no+"-01", worldTotal, worldTotal, "CNY", "NATIVE", bench.AppID, bench.MchID,
		l.at, l.at, "notification", outcome, reason, back)
}

// close closes the order, with the proof in the event's detail, and returns its stock.
func (l *life) close(skus ...int) {
	l.event("close.requested", "closing", "")
	l.event("close.accepted", "closed",
		`{"close":"accepted","close_status":"204","out_trade_no":"`+l.no+`-01","query":"CLOSED"}`)
	for n, s := range skus {
		l.w.add(flowsTable, l.no, "return", "close", bench.SKU(s), n+1, l.at)
		l.w.stock[s] -= int64(n) + 1
	}
}

// hash stands for the hash of a request, in its length.
var hash = strings.Repeat("h", 43)

// beijing is the zone of WeChat Pay's own times.
var beijing = time.FixedZone("CST", 8*3600)

// refundDetail is the detail of a refund's events.
func refundDetail(no string, amount int) string {
	return fmt.Sprintf(`{"out_refund_no":"%s","refund":"%s"}`, no, payment.Fen(amount))
}

// refundLine refunds the line of two units, of SKU n, and returns them to the shelf; the
// order is paid again after it, because a part of the money has stayed.
func (l *life) refundLine(n int) {
	no := l.no + "-R01"
	asked := fmt.Sprintf(`{"approvals":"0","items":"{%s 2}","out_refund_no":"%s","refund":"%s","restock":"1"}`,
		bench.SKU(n), no, payment.Fen(partFen))
	l.eventBy("customer", l.customer, "refund.requested", "refunding", asked)
	l.refund(no, partFen, "aftersale", 1, "paid")
	l.w.add(refundItemsTable, no, bench.SKU(n), 2)
	l.w.add(flowsTable, l.no, "return", no, bench.SKU(n), 2, l.at)
	l.w.stock[n] -= 2
}

// refundLate sends all the money of a late payment back, under a number that is made of
// the transaction's.
func (l *life) refundLate() { l.refund("R"+l.paid, worldTotal, "late", 0, "refunded") }

// refund sends an amount back and takes the order to a state. restock is 1 when the goods
// return to the shelf. It needs no approval: such a row is right with approvals_needed 0.
func (l *life) refund(no string, amount int, reason string, restock int, to string) {
	l.event("refund.sent", l.state, refundDetail(no, amount))
	l.event("refund.succeeded", to, refundDetail(no, amount))
	asker, id, requestHash := "scheduler", "", ""
	var request any
	if reason == "aftersale" {
		asker, id, request, requestHash = "customer", l.customer, "r"+l.no, hash
	}
	l.w.add(refundsTable, no, l.no, l.paid, l.no+"-01", "5"+no, amount, worldTotal, "success", reason, "x", restock,
		asker, id, request, requestHash, 0, l.at, l.at, l.at, l.at, l.at)
}
