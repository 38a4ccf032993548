package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order/audit"
	"orderd/payment/reconcile"
	"orderd/payment/wechatsim"
)

// pair is a service whose DSN names two servers, one of which follows the other, and its buyers. Both come up
// read-only, as docs/operations.md has it.
type pair struct {
	*victim
	sim              *wechatsim.Sim
	primary, replica *servers.MariaDB
	post             func(v *victim, path, key, body string, into any) int
	began            time.Time
	stop             chan struct{}
	buyers           sync.WaitGroup

	mu      sync.Mutex
	orders  map[string]bool // answered with 201
	refunds map[string]bool // answered with 201
	unsure  map[string]bool // keys of orders and refunds that had a try without an answer
}

// newPair starts all of it but the buyers.
func newPair(t *testing.T, semiSync bool) *pair {
	t.Helper()
	p := &pair{began: time.Now(), stop: make(chan struct{}), orders: map[string]bool{}, refunds: map[string]bool{},
		unsure: map[string]bool{}, post: poster(t, victimSecret, 5*time.Second)}
	p.primary, p.replica = sqldbtest.Replicated(t, semiSync, "--read-only=ON")
	if err := p.primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	p.must(t, p.primary, "CREATE USER shop@'%'", "GRANT ALL ON shop.* TO shop@'%'", "SET GLOBAL read_only = OFF")
	p.victim, p.sim = newVictimOn(t, buildService(t), newMerchant(t),
		"mysql:shop@tcp("+p.primary.Addr+","+p.replica.Addr+")/shop")
	p.env = append(p.env, "ORDERD_DATA_DIR="+t.TempDir(), "ORDERD_PAY_WITHIN=20m", "ORDERD_SWEEP_EVERY=500ms",
		"ORDERD_PACE=4", "ORDERD_ASK_EVERY=0", // what the fail-over lost is taken in by the verb, and not before
		"ORDERD_RECONCILE_DAILY=false", "ORDERD_REFUND_AUTO_APPROVE=1000000", "ORDERD_REFUND_TWO_PERSONS=0")
	p.start()
	if code, said := p.verb(t, nil, "stock", "import", sampleFile(t), "--yes"); code != exitOK {
		t.Fatal(said)
	}
	for who := range 6 {
		p.buyers.Go(func() {
			for i := 0; !p.over(); i++ {
				p.buy(fmt.Sprintf("b%d-%d", who, i), i)
			}
		})
	}
	return p
}

// must runs statements on a server, of which a later one needs the earlier ones.
func (p *pair) must(t *testing.T, on *servers.MariaDB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := on.Exec(t.Context(), s); err != nil {
			t.Fatal(s, err)
		}
	}
}

// verb runs a verb with the service's configuration, and takes in what it answers.
func (p *pair) verb(t *testing.T, into any, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.binary, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.env...), &out, &errs
	err := cmd.Run()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			t.Fatalf("%v: %v: %s%s", args, err, &out, &errs)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String() + errs.String()
}

// over: the buyers are sent home.
func (p *pair) over() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// ask posts with one key until it is answered as wanted, by the documented retry. False when the order is no more, or
// the buyers are sent home. What had no answer once may have been done, and so may that which the service tried at both
// servers, and said of the second that the order is not there.
func (p *pair) ask(path, key, body string, want int, into any) bool {
	for !p.over() {
		status := p.post(p.victim, path, key, body, into)
		if status == want {
			return true
		}
		if status == 0 || status == http.StatusNotFound || status >= http.StatusInternalServerError {
			p.told(p.unsure, key)
		}
		if status == http.StatusNotFound {
			return false
		}
		time.Sleep(20 * time.Millisecond) // of a buyer
	}
	return false
}

// buy is one order of two mugs: of eight buyers two pay, two pay and send one mug back, two both, one comes only so far
// as to see how to pay, and one not even that.
func (p *pair) buy(key string, i int) {
	var o struct {
		OrderNo     string `json:"order_no"`
		OutTradeNo  string `json:"out_trade_no"`
		OutRefundNo string `json:"out_refund_no"`
	}
	if !p.ask("/v1/orders", key, `{"items":[{"sku_id":"mug","quantity":2}]}`, http.StatusCreated, &o) {
		return
	}
	p.told(p.orders, o.OrderNo)
	if i%8 == 7 || !p.ask("/v1/orders/"+o.OrderNo+"/prepay", key, `{"trade_type":"NATIVE"}`, http.StatusOK, &o) ||
		i%8 == 6 {
		return
	}
	if err := p.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil || i%8 < 2 {
		return // the error: the trade was closed meanwhile
	}
	ask := fmt.Sprintf(`{"items":[{"sku_id":"mug","quantity":%d}],"reason":"chipped"}`, i%2+1)
	if p.ask("/v1/orders/"+o.OrderNo+"/refunds", key, ask, http.StatusCreated, &o) {
		p.told(p.refunds, o.OutRefundNo)
	}
}

// told notes a number that somebody was told, or a key.
func (p *pair) told(of map[string]bool, no string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of[no] = true
}

// paid gives the payments that the service has acknowledged.
func (p *pair) paid() map[string]bool {
	acknowledged := map[string]bool{}
	for _, e := range p.sim.Log(0) {
		if e.Kind == wechatsim.KindCallback && e.OutRefundNo == "" && e.Status/100 == 2 {
			acknowledged[e.TransactionID] = true
		}
	}
	return acknowledged
}

// more waits for so many more orders and payments, and half as many refunds, each acknowledged, and for some refunds of
// which WeChat Pay has heard.
func (p *pair) more(t *testing.T, n int) {
	t.Helper()
	count := func() [4]int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return [4]int{len(p.orders), len(p.paid()), 2 * len(p.refunds), 4 * len(p.sim.Refunds())}
	}
	before := count()
	p.until(t, "more orders, payments and refunds", func() bool {
		for i, is := range count() {
			if is < before[i]+n {
				return false
			}
		}
		return true
	})
}

// until waits for a condition.
func (p *pair) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(settleWithin); !done(); time.Sleep(20 * time.Millisecond) { // polling, not timing
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// failsOver: the primary dies in the middle of everything, and its replica leads, with what it has. The old disk then
// serves alone, read-only.
func (p *pair) failsOver(t *testing.T) (old string) {
	t.Helper()
	p.primary.Kill()
	p.must(t, p.replica, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")
	p.more(t, 10)
	close(p.stop)
	p.buyers.Wait()
	p.signal(syscall.SIGTERM)
	if err := p.primary.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return "mysql:shop@tcp(" + p.primary.Addr + ")/shop"
}

// keys are the columns of a server's rows, joined by a space.
func keys(t *testing.T, of *servers.MariaDB, query string) map[string]string {
	t.Helper()
	db, err := sqldb.Open(t.Context(), of.DSN("shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]string{}
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key, more string
		if err := rows.Scan(&key, &more); err != nil {
			t.Fatal(err)
		}
		all[key] = more
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// Of each table its key, and what the key of the request was.
const (
	ordersOf   = "SELECT order_no, request_id FROM orders"
	paymentsOf = "SELECT transaction_id, '' FROM payments"
	refundsOf  = "SELECT out_refund_no, COALESCE(request_id, '') FROM refunds"
	attemptsOf = "SELECT out_trade_no, '' FROM payment_attempts"
)

// against is what `verify --against` answers: 4 when there is anything, and the books of the new primary are sound.
func (p *pair) against(t *testing.T, old string) audit.Lost {
	t.Helper()
	var v struct {
		audit.Report
		Lost audit.Lost `json:"only_in_other"`
	}
	code, said := p.verb(t, &v, "verify", "--against", old, "-o", "json")
	if code != map[bool]int{true: exitInvariant}[v.Lost.Any()] || !v.OK() || len(v.Checks) == 0 {
		t.Fatalf("verify --against: exit %d: %s", code, said)
	}
	return v.Lost
}

// wantLost holds a list against what the two servers have and what people were told: all that was acknowledged and is
// gone stands there, and of what was not only that which had a try without an answer. It gives how much of it was
// acknowledged.
func (p *pair) wantLost(t *testing.T, what, query string, list []string, acknowledged map[string]bool) (n int) {
	t.Helper()
	was, is := keys(t, p.primary, query), keys(t, p.replica, query)
	lost := maps.Clone(was)
	maps.DeleteFunc(lost, func(no, _ string) bool { _, there := is[no]; return there })
	if want := slices.Sorted(maps.Keys(lost)); !slices.Equal(list, want) {
		t.Errorf("%s: listed are %v, lost %v", what, list, want)
	}
	for no := range acknowledged {
		if _, there := is[no]; !there && !slices.Contains(list, no) {
			t.Errorf("%s %s was acknowledged, is not there, and is not listed", what, no)
		}
	}
	for _, no := range list {
		switch key := lost[no]; {
		case acknowledged[no]:
			n++
		case key != "" && !p.unsure[key]:
			t.Errorf("%s %s is lost, and nobody was told of it, and nobody asked in vain", what, no)
		}
	}
	return n
}

// lists holds all that is listed against what is lost, and gives how much of it was acknowledged.
func (p *pair) lists(t *testing.T, l *audit.Lost) (orders, payments, refunds int) {
	t.Helper()
	var o, tr, pay, r []string
	for _, one := range l.Orders {
		o = append(o, one.OrderNo)
	}
	for _, one := range l.Trades {
		tr = append(tr, one.OutTradeNo)
	}
	for _, one := range l.Payments {
		pay = append(pay, one.TransactionID)
	}
	for _, one := range l.Refunds {
		r = append(r, one.OutRefundNo)
	}
	p.wantLost(t, "trade", attemptsOf, tr, nil)
	return p.wantLost(t, "order", ordersOf, o, p.orders), p.wantLost(t, "payment", paymentsOf, pay, p.paid()),
		p.wantLost(t, "refund", refundsOf, r, p.refunds)
}

// A primary dies under load, and a replica that lags leads in its place: what was acknowledged and is gone is exactly
// what `verify --against` lists, with exit 4. `held adopt` then takes in or sends back each of its payments, and every
// fen that was ever paid is in a paid order or back with its buyer.
func TestCrashedPrimaryIsAccountedFor(t *testing.T) {
	p := newPair(t, false)
	p.more(t, 20)
	p.must(t, p.replica, "STOP SLAVE SQL_THREAD") // it lags from now on
	p.more(t, 30)
	old := p.failsOver(t)
	lost := p.against(t, old)
	orders, payments, refunds := p.lists(t, &lost)
	if t.Logf("lost were %d orders, %d payments, %d refunds that were acknowledged", orders, payments,
		refunds); orders < 20 || payments < 20 || refunds < 10 {
		t.Fatal("too few to show anything")
	}
	lostOrders := map[string]bool{}
	for _, o := range lost.Orders {
		lostOrders[o.OrderNo] = true
	}
	adopt := func(want func(one *audit.Adopted, lost bool) bool, args ...string) {
		t.Helper()
		var all []audit.Adopted
		args = append([]string{"held", "adopt", "--against", old, "--reason", "lost in the fail-over", "--yes",
			"-o", "json"}, args...)
		if code, said := p.verb(t, &all, args...); code != exitOK || len(all) == 0 {
			t.Fatalf("held adopt: exit %d: %s", code, said)
		}
		for _, one := range all {
			no, _, _ := strings.Cut(one.Number, "-")
			if one.Payment != "" && !want(&one, lostOrders[no]) {
				t.Errorf("lost %t: %+v", lostOrders[no], one)
			}
		}
	}
	adopt(func(one *audit.Adopted, lost bool) bool {
		return one.Outcome == audit.AdoptKnown || // WeChat Pay has called again meanwhile
			one.Outcome == map[bool]string{true: audit.AdoptHeld, false: audit.AdoptApplied}[lost]
	})
	adopt(func(one *audit.Adopted, lost bool) bool {
		return one.Outcome == audit.AdoptOwed && lost || one.Outcome == audit.AdoptKnown &&
			(!lost || strings.Contains(one.Reason, "went back elsewhere: nothing is left")) // by a refund that was lost
	}, "--refund")
	rest := p.against(t, old) // orders are lost for good, and what was to be sent back and never was
	if len(rest.Payments) > 0 || len(rest.Orders) != len(lost.Orders) {
		t.Errorf("still lost: %d orders, %+v", len(rest.Orders), rest.Payments)
	}
	for _, r := range rest.Refunds {
		if there, known := p.sim.Refund(r.OutRefundNo); known {
			t.Errorf("still lost: %+v, which WeChat Pay has: %+v", r, there)
		}
	}
	p.accounted(t, lostOrders, lost.Trades)
}

// accounted waits for the ends of all refunds, and holds WeChat Pay's ledger against the books of the new primary: what
// was paid for a lost order is back with its buyer, and of every other payment as much as WeChat Pay says. A lost trade
// that nobody has paid can be paid no more. What the bill has to ask people about is what was lost, and nothing else.
func (p *pair) accounted(t *testing.T, lost map[string]bool, trades []audit.LostTrade) {
	t.Helper()
	p.start()
	p.until(t, "the callbacks of all payments, and the ends of all refunds", func() bool {
		in := keys(t, p.replica, paymentsOf)
		for _, trade := range p.sim.Trades() {
			if _, there := in[trade.TransactionID]; trade.TransactionID != "" && !there {
				return false
			}
		}
		return len(keys(t, p.replica, refundsOf+" WHERE state IN ('pending_approval', 'owed', 'processing')")) == 0
	})
	p.signal(syscall.SIGTERM)
	back, kept, paid := map[string]int64{}, int64(0), map[string]bool{}
	for _, r := range p.sim.Refunds() {
		back[r.TransactionID] += r.Amount
	}
	ours := keys(t, p.replica, `SELECT p.transaction_id, CONCAT(p.amount_fen, ' ', COALESCE((SELECT SUM(r.amount_fen)
FROM refunds r WHERE r.transaction_id = p.transaction_id AND (r.state = 'success' OR r.told = 'SUCCESS')), 0))
FROM payments p`)
	for _, trade := range p.sim.Trades() {
		no, _, _ := strings.Cut(trade.OutTradeNo, "-")
		if trade.TransactionID == "" {
			continue
		}
		gone := back[trade.TransactionID]
		paid[trade.OutTradeNo], kept = true, kept+trade.Total-gone
		if lost[no] && gone != trade.Total {
			t.Errorf("order %s is lost, and of %d fen went %d back", no, trade.Total, gone)
		}
		if want := fmt.Sprint(trade.Total, " ", gone); ours[trade.TransactionID] != want {
			t.Errorf("trade %s: of WeChat Pay's fen are paid and back %q, of ours %q", trade.OutTradeNo, want,
				ours[trade.TransactionID])
		}
	}
	for _, one := range trades {
		if trade, _ := p.sim.Trade(one.OutTradeNo); !paid[one.OutTradeNo] && trade.State != wechatsim.StateClosed {
			t.Errorf("%s can be paid: %s", one.OutTradeNo, trade.State)
		}
	}
	p.reconciles(t, len(paid))
	if code, said := p.verb(t, nil, "verify", "--wechat"); code != exitOK {
		t.Error(said)
	}
	t.Logf("of %d payments %d fen are kept", len(paid), kept)
}

// reconciles: the bill has so many payments, all of which are here, and what is open for people is what was lost: the
// refunds that are recorded, and the payments of which all went back by them.
func (p *pair) reconciles(t *testing.T, paid int) {
	t.Helper()
	held := len(keys(t, p.replica, paymentsOf+" WHERE outcome = 'held'"))
	recorded := len(keys(t, p.replica, refundsOf+" WHERE state = 'held'"))
	var matched, open, healed int64
	is, all := map[reconcile.Kind]int64{}, ""
	for _, day := range slices.Compact([]string{reconcile.Day(p.began), reconcile.Day(time.Now())}) {
		var r reconcile.Result
		_, said := p.verb(t, &r, "reconcile", "run", "--date", day, "-o", "json")
		matched, open, healed, all = matched+r.Payments.Matched, open+r.Open+r.Pending, healed+r.Healed, all+said
		for kind, n := range r.Differences {
			is[kind] += n
		}
	}
	if is[reconcile.StateMismatch] != int64(held) || is[reconcile.RefundBillOnly] != int64(recorded) ||
		open != int64(held+recorded) || recorded == 0 || matched != int64(paid) || healed != 0 {
		t.Errorf("%d are paid; of %d payments and %d refunds that are held reconcile says %s", paid, held, recorded,
			all)
	}
}

// With semi-synchronous replication the same death loses nothing that anybody was told of: no order, no payment whose
// callback was acknowledged, no refund. What nobody was told of may be on the old disk alone.
func TestSemiSyncLosesNoAcknowledgedOrder(t *testing.T) {
	p := newPair(t, true)
	p.more(t, 30)
	if err := p.replica.CaughtUp(t.Context()); err != nil { // and hears nothing more
		t.Fatal(err)
	}
	if err := p.primary.AwaitCommitThatWaits(t.Context()); err != nil { // load that only one server sees
		t.Fatal(err)
	}
	old := p.failsOver(t)
	for what, of := range map[string]struct {
		query string
		told  map[string]bool
	}{"order": {ordersOf, p.orders}, "payment": {paymentsOf, p.paid()}, "refund": {refundsOf, p.refunds}} {
		is := keys(t, p.replica, of.query)
		for no := range of.told {
			if _, there := is[no]; !there {
				t.Errorf("%s %s was acknowledged and is lost", what, no)
			}
		}
		t.Logf("%d of %d acknowledged: %s", len(of.told), len(is), what)
	}
	lost := p.against(t, old)
	if orders, payments, refunds := p.lists(t, &lost); orders+payments+refunds > 0 {
		t.Errorf("lost are %d orders, %d payments, %d refunds that were acknowledged", orders, payments, refunds)
	}
}
