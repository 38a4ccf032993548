package chaos

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest/canary"
	"orderd/order/ordertest/model"
	"orderd/payment/reconcile"
	"orderd/payment/wechatsim"
)

// judge holds what the service has against what WeChat Pay did and what the
// buyers saw. It reads the database by a way of its own and never asks the
// service.
type judge struct {
	*stage
	shop   *shop
	report *Report

	// What read has taken from the tables, by order number, transaction id and refund
	// number.
	orders   map[string]orderRow
	byKey    map[string]string // customer and key → order number
	payments map[string]paymentRow
	refunds  map[string]refundRow

	// By day, what the last reconciliation said, and the money then; what it healed.
	found  map[string]string
	healed map[string]int64
}

// orderRow, paymentRow and refundRow are the rows that are held against the ledgers, as
// far as they matter for that.
type orderRow struct {
	customer, key string
	state         order.State
}

// outcome is applied, owed or held; trade is the out_trade_no, received when we had it.
type paymentRow struct {
	order, trade, outcome string
	fen                   int64
	received              time.Time
}

// state is the text of order.RefundState.
type refundRow struct {
	transaction, state string
	fen                int64
}

// open counts the orders and the refunds that have not ended.
const open = `SELECT
  (SELECT COUNT(*) FROM orders WHERE state IN ('pending', 'closing')),
  (SELECT COUNT(*) FROM refunds WHERE state IN ('pending_approval', 'owed', 'processing'))`

const (
	// quietEvery is the time between two looks whether everything has ended: Liveness is
	// as exact as that.
	quietEvery = 200 * time.Millisecond
	// unseenEvery is the same for acknowledged callbacks that nobody has looked at.
	unseenEvery = 10 * time.Millisecond
	// ackLag is how much later than its acknowledgement a payment may say that it came:
	// two clocks, and an acknowledgement that is noted when it arrives.
	ackLag = time.Second
)

// quiet waits until nothing is under way, within at most from now on; begin is when the
// last fault was undone, for the report. What is left then is the violation "liveness":
// stock that stays reserved for ever, or money that is never sent back.
func (j *judge) quiet(ctx context.Context, begin time.Time, within time.Duration) error {
	var orders, refunds int
	for {
		if err := j.db.QueryRowContext(ctx, open).Scan(&orders, &refunds); err != nil {
			return err
		}
		waiting, err := j.waiting(ctx)
		if err != nil {
			return err
		}
		j.report.Liveness = time.Since(begin).Round(10 * time.Millisecond)
		if orders+refunds == 0 && waiting == 0 {
			return nil
		}
		if time.Since(begin) > within {
			j.report.violated("liveness: %d orders, %d refunds and %d who wait have not found their end %s after "+
				"everything was healed", orders, refunds, waiting, within)
			return j.list(ctx)
		}
		if !sqldb.Sleep(ctx, quietEvery) {
			return ctx.Err()
		}
	}
}

// list names some of what has not ended.
func (j *judge) list(ctx context.Context) error {
	return sqldb.Each(ctx, j.db, `SELECT o.order_no, o.state, o.close_tries, COALESCE(o.due_at, 0)
FROM orders o
WHERE o.state IN ('pending', 'closing')
ORDER BY o.order_no
LIMIT 10`, nil, func(rows *sql.Rows) error {
		var no, state string
		var tries, due int64
		err := rows.Scan(&no, &state, &tries, &due)
		j.report.violated("liveness: %s is %s, asked %d times, due %s",
			no, state, tries, time.UnixMilli(due).UTC().Format(time.TimeOnly))
		return err
	})
}

// ledgers holds every row against WeChat Pay's ledger and the answers to the buyers.
// Nobody writes any more; it all fits into memory.
func (j *judge) ledgers(ctx context.Context) error {
	if err := j.read(ctx); err != nil {
		return err
	}
	j.payment()
	j.refund()
	j.buyers()
	return nil
}

// read takes in the tables, while nobody writes, by the harness's own connection: no
// proxy and no service is between.
func (j *judge) read(ctx context.Context) error {
	j.orders, j.byKey = map[string]orderRow{}, map[string]string{}
	j.payments, j.refunds = map[string]paymentRow{}, map[string]refundRow{}
	err := sqldb.Each(ctx, j.db, `SELECT order_no, customer_id, request_id, state
FROM orders`, nil, func(rows *sql.Rows) error {
		var no string
		var o orderRow
		err := rows.Scan(&no, &o.customer, &o.key, &o.state)
		j.orders[no], j.byKey[o.customer+" "+o.key] = o, no
		return err
	})
	if err != nil {
		return err
	}
	err = sqldb.Each(ctx, j.db, `SELECT transaction_id, order_no, out_trade_no, outcome, amount_fen, received_at
FROM payments`, nil, func(rows *sql.Rows) error {
		var id string
		var p paymentRow
		var received int64
		err := rows.Scan(&id, &p.order, &p.trade, &p.outcome, &p.fen, &received)
		p.received = time.UnixMilli(received).UTC()
		j.payments[id] = p
		return err
	})
	if err != nil {
		return err
	}
	return sqldb.Each(ctx, j.db, `SELECT out_refund_no, transaction_id, state, amount_fen
FROM refunds`, nil, func(rows *sql.Rows) error {
		var no string
		var r refundRow
		err := rows.Scan(&no, &r.transaction, &r.state, &r.fen)
		j.refunds[no] = r
		return err
	})
}

// payment is W1 to W3 and C1: the same payments on both sides, nothing closed here that
// can be paid there, and no callback acknowledged before its payment was taken in. A
// payment that is held is one of the harness's lies, which WeChat Pay's ledger does not
// have.
func (j *judge) payment() {
	paidThere := map[string]bool{} // by transaction id
	for _, t := range j.sim.Trades() {
		paid := t.State == wechatsim.StateSuccess || t.State == wechatsim.StateRefund
		no, _, _ := strings.Cut(t.OutTradeNo, "-")
		o, known := j.orders[no]
		p, held := j.payments[t.TransactionID]
		switch {
		case !known:
			j.report.violated("W1: WeChat Pay has trade %s of an order that does not exist", t.OutTradeNo)
		case paid && (!held || p.fen != t.Total || p.order != no || p.outcome == "held"):
			j.report.violated("W1: WeChat Pay was paid %d fen for %s (order %s), we hold %+v",
				t.Total, t.OutTradeNo, o.state, p)
		// Money that came in time must have its goods; only what came after a close may
		// go back.
		case paid && t.ClosedAt.IsZero() && p.outcome != "applied":
			j.report.violated("W3: %s was paid before WeChat Pay had closed anything, and is %s here, its money %s",
				t.OutTradeNo, o.state, p.outcome)
		case t.State == wechatsim.StateNotPay && (o.state == order.StateClosed || o.state == order.StateLate):
			j.report.violated("W3: %s is %s here and can be paid at WeChat Pay", no, o.state)
		}
		paidThere[t.TransactionID] = paid
		if at, acknowledged := j.accepted(t.OutTradeNo); acknowledged && (!held || p.received.After(at.Add(ackLag))) {
			j.report.violated("C1: the callback of %s was acknowledged at %s, its payment came at %s",
				t.OutTradeNo, at, p.received)
		}
	}
	for id, p := range j.payments {
		if p.outcome != "held" && !paidThere[id] {
			j.report.violated("W2: we hold %s of order %s and WeChat Pay was never paid it", id, p.order)
		}
	}
}

// accepted is when the first callback of a trade was acknowledged, by the simulator's
// clock; ok is false when none was.
func (j *judge) accepted(trade string) (at time.Time, ok bool) {
	j.truth.mu.Lock()
	defer j.truth.mu.Unlock()
	at, ok = j.truth.accepted[trade]
	return at, ok
}

// noticed takes in what was found while the run went on: C2 of the simulator, and what
// the shop has seen.
func (j *judge) noticed(ctx context.Context) error {
	for j.truth.unseen.Load() > 0 {
		if !sqldb.Sleep(ctx, unseenEvery) {
			return ctx.Err()
		}
	}
	j.truth.mu.Lock()
	for _, lie := range j.truth.forged {
		j.report.violated("C2: a forged callback was acknowledged: %s", lie)
	}
	j.truth.mu.Unlock()
	j.shop.mu.Lock()
	defer j.shop.mu.Unlock()
	for _, text := range j.shop.violations {
		j.report.violated("%s", text)
	}
	return nil
}

// refund is W4, M2 and M3: the same refunds on both sides, never more than was paid, and
// none given up.
func (j *judge) refund() {
	back := map[string]int64{}
	there := map[string]bool{}
	for _, r := range j.sim.Refunds() {
		ours, known := j.refunds[r.OutRefundNo]
		there[r.OutRefundNo] = r.State == wechatsim.StateSuccess
		if r.State == wechatsim.StateSuccess {
			back[r.TransactionID] += r.Amount
		}
		if !known || ours.fen != r.Amount || ours.transaction != r.TransactionID {
			j.report.violated("W4: WeChat Pay has refund %s of %d fen, we have %+v", r.OutRefundNo, r.Amount, ours)
		}
	}
	for no, r := range j.refunds {
		switch r.state {
		case "success":
			if !there[no] {
				j.report.violated("W4: refund %s is paid back here and not at WeChat Pay", no)
			}
		case "closed": // another has its place, says verify
		default:
			j.report.violated("M3: refund %s has ended as %s, and nobody has decided so", no, r.state)
		}
	}
	for id, fen := range back { // M2
		if fen > j.payments[id].fen {
			j.report.violated("M2: of %s %d fen went back, %d were paid", id, fen, j.payments[id].fen)
		}
	}
}

// buyers is V1, V2 and V4: what they were answered is so, nobody has an order that nobody
// asked for, and every order ended in a state that its model allows. An order that nobody
// was promised may exist: its buyer had no answer.
func (j *judge) buyers() {
	asked := map[string]bool{} // by order number
	for _, v := range j.shop.visits {
		no := j.byKey[v.customer+" "+v.key]
		asked[no] = true
		switch {
		case v.orderNo != "" && no != v.orderNo:
			j.report.violated("V1: %s/%s was promised order %s and has %q", v.customer, v.key, v.orderNo, no)
		case v.refused != "" && no != "":
			j.report.violated("V2: %s/%s was told %s and has order %s", v.customer, v.key, v.refused, no)
		}
		v.mu.Lock()
		j.inLine(v, no)
		v.model.May(order.EventExpire) // everybody's time is up
		state := model.Absent
		if no != "" {
			state = j.orders[no].state
		}
		if err := v.model.Observe(state); err != nil {
			j.report.violated("V4: %s/%s (%s), order %q at the end: %v", v.customer, v.key, v.doing, no, err)
		}
		v.mu.Unlock()
	}
	for no := range j.orders {
		if !asked[no] {
			j.report.violated("V1: nobody asked for order %s", no)
		}
	}
}

// verified runs the service's own command, as an operator would after an incident. Its
// exit code must agree with what it found: a monitor sees nothing else.
func (j *judge) verified(ctx context.Context, when string) error {
	return j.verifiedBy(ctx, when, "verify", "--quiescent", "-o", "json")
}

// verifiedBy is verified by a verb whose answer is a report of checks.
func (j *judge) verifiedBy(ctx context.Context, when string, verb ...string) error {
	out, exit, err := j.verb(ctx, verb...)
	if err != nil {
		return err
	}
	return j.reported(when, out, exit)
}

// reported judges what a verb has answered that verifies.
func (j *judge) reported(when, out string, exit int) error {
	var r audit.Report
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil {
		return fmt.Errorf("verify answered with exit %d: %.2000s", exit, out)
	}
	if len(r.Checks) >= j.report.Invariants {
		j.report.Invariants, j.report.VerifyTook = len(r.Checks), r.Took
	}
	broken := false
	for _, c := range r.Checks {
		if c.ID == "quiet.people" || c.ID == "quiet.books" {
			// The lies that WeChat Pay's signature vouched for wait for a person, as they
			// must: see reconciled.
			continue
		}
		if broken = broken || c.Count > 0; c.Count > 0 {
			j.report.violated("%s: %s: %d rows, such as %s", when, c.ID, c.Count,
				strings.Join(c.Violations[:min(3, len(c.Violations))], " | "))
		}
	}
	if exit == 0 && broken {
		j.report.violated("%s: verify ended with 0", when)
	}
	return nil
}

// billTries is how often a bill that did not come is asked for again: the simulator loses
// some answers of its own.
const billTries = 5

// reconciled runs each day three times (R1, R2). The first finds what nobody has told of,
// whose refunds take their time: a bill that is taken while one ends lacks it or has it,
// and differs for the while. So the second run is after all ends and must find nothing
// to book, and the third must be in everything the second again. The only differences
// that may be open then are those of payments that WeChat Pay's signature vouched for
// and its ledger does not have: the harness told these lies itself.
func (j *judge) reconciled(ctx context.Context) error {
	for run := 1; run <= 3; run++ {
		for _, day := range j.days() {
			if err := j.reconciledOnce(ctx, day, run); err != nil {
				return err
			}
		}
		if run == 1 {
			if err := j.again(ctx); err != nil {
				return err
			}
		}
	}
	return sqldb.Each(ctx, j.db, `SELECT d.kind, d.ref, COALESCE(p.outcome, '')
FROM differences d
LEFT JOIN payments p ON p.transaction_id = d.transaction_id
WHERE d.status = 'OPEN'`, nil, func(rows *sql.Rows) error {
		var kind, ref, outcome string
		err := rows.Scan(&kind, &ref, &outcome)
		if outcome != "held" {
			j.report.violated("R1: "+openDifference+"%s %s", kind, ref)
		}
		return err
	})
}

// reconciledOnce is run number run of a day.
func (j *judge) reconciledOnce(ctx context.Context, day string, run int) error {
	out, exit, err := j.reconcileDay(ctx, day)
	if err != nil {
		return err
	}
	var res reconcile.Result
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&res); err != nil {
		j.report.violated("R1: reconciling %s ended with %d: %.1000s", day, exit, out)
		delete(j.found, day) // the next run is compared with no other
		return nil
	}
	after, err := j.money(ctx)
	if err != nil {
		return err
	}
	after += fmt.Sprintf(" %+v", res)
	first := j.healed[day]
	before, ran := j.found[day]
	switch {
	case run == 1:
		j.report.Healed += int(res.Healed)
	case run == 2 && res.Healed > first: // it counts the first run's too
		j.report.violated("R2: reconciling %s again booked %d rows that the first run had not", day, res.Healed-first)
	case run == 3 && ran && before != after:
		j.report.violated("R2: reconciling %s again changed something: %s, then %s", day, before, after)
	}
	j.healed[day], j.found[day] = res.Healed, after
	return nil
}

// reconcileDay runs the command. When WeChat Pay gave no answer in time, as it may on a
// busy machine, a person runs it again.
func (j *judge) reconcileDay(ctx context.Context, day string) (out string, exit int, err error) {
	for range 1 + billTries {
		out, exit, err = j.verb(ctx, "reconcile", "run", "--date", day, "-o", "json")
		if err != nil || exit != 1 || !billUnknown.MatchString(out) {
			break
		}
	}
	return out, exit, err
}

// billUnknown is what the command says of a bill, or of its file, that did not come.
var billUnknown = regexp.MustCompile(`wechat pay bill\w*: unknown`)

// money counts what a second run must not add to, as a text that two runs are compared
// by.
func (j *judge) money(ctx context.Context) (string, error) {
	var payments, refunds, fen, back int64
	row := j.db.QueryRowContext(ctx, `SELECT
  (SELECT COUNT(*) FROM payments), (SELECT COALESCE(SUM(amount_fen), 0) FROM payments),
  (SELECT COUNT(*) FROM refunds), (SELECT COALESCE(SUM(amount_fen), 0) FROM refunds)`)
	err := row.Scan(&payments, &fen, &refunds, &back)
	return fmt.Sprintf("%d payments of %d fen, %d refunds of %d fen", payments, fen, refunds, back), err
}

// days are the days of Beijing that the run touched: two when it went over midnight
// there.
func (j *judge) days() []string {
	first, last := reconcile.Day(j.report.Began), reconcile.Day(time.Now())
	if first == last {
		return []string{first}
	}
	return []string{first, last}
}

// logs looks for what must never stand in a log, panics, broken assertions and secrets
// (S17), and counts the alarms, which are no violations: a run makes what they warn of.
func (j *judge) logs() error {
	for _, p := range j.processes() {
		b, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		text := string(b)
		for _, word := range []string{"panic:", "recovering from panic", "panic [", "fatal error:", "invariant"} {
			if i := strings.Index(text, word); i >= 0 {
				j.report.violated("log of %s: %q: %s", p.name, word, around(text, i))
			}
		}
		for _, secret := range j.secrets.Find(b) {
			j.report.violated("S17: the log of %s contains the %s", p.name, secret)
		}
		j.report.LogBytes += int64(len(b))
		for _, l := range strings.Split(text, "\n") {
			if _, what, ok := strings.Cut(l, "msg=alarm what="); ok {
				what, _, _ = strings.Cut(strings.TrimPrefix(what, `"`), " order_no=")
				j.report.Alarms[strings.Trim(what, `"`)]++
			}
		}
	}
	return nil
}

// maxQuote is how much of a log a violation quotes, in bytes.
const maxQuote = 600

// around is the line at i and what follows it, where the stack of a panic stands.
func around(text string, i int) string {
	i = strings.LastIndexByte(text[:i], '\n') + 1
	return text[i:min(len(text), i+maxQuote)]
}

// tables are those that must be the same after everything was killed and started again:
// all that has orders, stock or money in it.
const tables = "orders, order_items, order_events, stock_flows, skus, stock_gates, stock_buckets, stock_moves, " +
	"sale_buyers, payments, refunds, refund_items, " +
	"refund_approvals, payment_attempts, reconciliations, differences, bill_files, bill_chunks"

// fingerprint is MariaDB's checksum of every table (CHECKSUM TABLE), one text. A table
// that does not exist has none, and is an error.
func (j *judge) fingerprint(ctx context.Context) (string, error) {
	var sums []string
	err := sqldb.Each(ctx, j.db, "CHECKSUM TABLE "+tables, nil, func(rows *sql.Rows) error {
		var table string
		var sum sql.NullInt64
		err := rows.Scan(&table, &sum)
		if err == nil && !sum.Valid {
			err = fmt.Errorf("table %s cannot be read", table)
		}
		sums = append(sums, fmt.Sprint(table, "=", sum.Int64))
		return err
	})
	return strings.Join(sums, " "), err
}

// cold kills everything, starts it again and looks whether all of it is there: what was
// acknowledged is on disk and not in a buffer.
func (j *judge) cold(ctx context.Context) error {
	for _, p := range j.processes() {
		p.kill(0)
	}
	before, err := j.fingerprint(ctx) // when nobody writes any more
	if err != nil {
		return err
	}
	j.mariadb.Kill()
	j.redis.Kill()
	if err := errors.Join(j.mariadb.Start(ctx), j.redis.Start(ctx)); err != nil {
		return err
	}
	after, err := j.fingerprint(ctx)
	if err != nil {
		return err
	}
	if before != after {
		j.report.violated("durability: before %s, after %s", before, after)
	}
	if err := j.startAll(ctx); err != nil {
		return err
	}
	return j.verified(ctx, "after a cold restart")
}

// commandTimeout is for one command to Redis: it may be reading its log.
const commandTimeout = 5 * time.Second

// command sends one command to Redis, which must answer OK.
func command(ctx context.Context, addr, text string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(commandTimeout))
	answers := bufio.NewReader(c)
	for _, line := range []string{"AUTH " + canary.RedisPass, text} {
		if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if answer != "+OK\r\n" {
			return fmt.Errorf("redis answered %q", answer)
		}
	}
	return nil
}
