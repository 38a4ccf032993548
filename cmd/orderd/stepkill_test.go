package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/wechatsim"
	"orderd/stock"
)

var (
	stepRounds = flag.Int("steps.rounds", 1, "kills at every step; ORDERD_TEST_LONG=1 makes it 20")
	stepFrom   = flag.Int("steps.from", 0, "the first of these rounds, for a run in slices")
	// They mostly wait, for a deadline or for the next turn.
	stepLanes = flag.Int("steps.lanes", 12, "services that are killed at a time")
)

const (
	// settleWithin bounds the end of a flow after a restart. WeChat Pay is asked again 5, 20 and 50 seconds after a
	// close without an answer, and a run of the bill holds it for thirty.
	settleWithin = 3 * time.Minute
	shelved      = 1000 // units on the shelf at the start
	noRedis      = "ORDERD_REDIS=redis://127.0.0.1:1/0"
	// soon is a deadline that a test can wait for, and that a busy machine does not miss before the step is reached.
	soon = "ORDERD_PAY_WITHIN=4s"
)

// killed is what must be seen of a kill at a step of each flow.
var killed = map[string]func(*scene){
	"place": killPlacing, "prepay": killPrepaying, "notify": killNotified, "close": killClosing,
	"refund": killRefunding, "recon": killReconciling, "sweep": killSweeping,
	"gate": killSelling, "sale": killSale, "drain": killDraining, "hook": killTelling,
}

// kill −9 at every step of every flow, on MariaDB and Redis: a process that dies between any two of them must leave
// nothing undone, nothing twice and nothing unknown for ever. The step is blocked, the process killed from outside.
func TestKillAtEveryStep(t *testing.T) {
	rounds := *stepRounds
	if os.Getenv("ORDERD_TEST_LONG") == "1" {
		rounds = max(rounds, 20)
	}
	k := &killer{binary: buildService(t, "-tags", "failpoints"), merchant: newMerchant(t),
		redis: sqldbtest.RedisServer(t, "--databases", "1024")}
	sqldbtest.MariaDBDSN(t) // starts the server that all share
	type kill struct {
		flow  string
		point failpoint.Point
		round int
	}
	kills := make(chan kill)
	done := make(chan struct{})
	for range *stepLanes {
		go func() {
			defer func() { done <- struct{}{} }()
			for one := range kills {
				name := one.point.No + "-" + strings.ReplaceAll(one.point.Name, ".", "-")
				t.Run(fmt.Sprintf("%s/%s/%d", one.flow, name, one.round), func(t *testing.T) {
					killed[one.flow](k.scene(t, one.point, one.round))
					k.kills.Add(1)
				})
			}
		}()
	}
	for round := *stepFrom; round < *stepFrom+rounds; round++ {
		for _, p := range slices.Backward(failpoint.Points) { // the long waits first
			if slices.Contains(saleSteps, p.Name) {
				kills <- kill{"sale", p, round}
			}
			if killed[p.Flow] != nil {
				kills <- kill{p.Flow, p, round}
			} else if p.Name != "" {
				t.Errorf("step %s has a name and nobody kills at it", p.Name)
			}
		}
	}
	close(kills)
	for range *stepLanes {
		<-done
	}
	t.Logf("%d kills, each at its step, %d rounds", k.kills.Load(), rounds)
}

// killer is what all scenes share.
type killer struct {
	binary   string
	merchant *merchant
	redis    interface{ URL() string }
	next     atomic.Int64 // database of Redis
	kills    atomic.Int64
}

// scene is one service on a database of its own, to be killed at one step.
type scene struct {
	*victim
	point failpoint.Point
	round int
	sim   *wechatsim.Sim
	core  *core // behind the service's back
	redis redis.UniversalClient
	url   string // of Redis
	log   string // of the steps
	token string
}

func (k *killer) scene(t *testing.T, p failpoint.Point, round int) *scene {
	dsn := sqldbtest.MariaDBDSN(t)
	v, sim := newVictimOn(t, k.binary, k.merchant, dsn)
	dir := t.TempDir()
	s := &scene{victim: v, point: p, round: round, sim: sim, log: filepath.Join(dir, "steps"),
		url: strings.TrimSuffix(k.redis.URL(), "/0") + fmt.Sprintf("/%d", k.next.Add(1)%1024)}
	v.env = append(v.env, "ORDERD_DATA_DIR="+dir, "ORDERD_REDIS="+s.url, "ORDERD_SWEEP_EVERY=500ms",
		"ORDERD_CLOSE_GRACE=0s",
		"ORDERD_ASK_EVERY=0", // what nobody tells of waits for the close, and the bill
		"ORDERD_RECONCILE_DAILY=false", "ORDERD_REFUND_AUTO_APPROVE=1000000", "ORDERD_REFUND_TWO_PERSONS=0",
		"ORDERD_FAILPOINTS_LOG="+s.log)
	opt, err := redis.ParseURL(s.url)
	if err != nil {
		t.Fatal(err)
	}
	s.redis = redis.NewClient(opt)
	t.Cleanup(func() { _ = s.redis.Close() })
	if err := s.redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	// Any merchant will do for looking: this core asks WeChat Pay nothing.
	s.core, err = openCore(t.Context(), s.settings(dsn), shape{migrate: true}, quietLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.bury() // or the database would wait for its transactions
		if _, err := s.core.db.Pool().ExecContext(context.Background(),
			"DROP DATABASE "+dsn[strings.LastIndex(dsn, "/")+1:]); err != nil {
			t.Error(err) // hundreds of rounds would fill the disk
		}
		s.core.Close()
	})
	if err := sampleSKU(t.Context(), s.core.stock); err != nil {
		t.Fatal(err)
	}
	if s.token, err = orderhttp.MintToken([]byte(victimSecret), "c1", time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	return s
}

// settings are the victim's, for the core that looks.
func (s *scene) settings(dsn string) *settings {
	of := func(name string) string {
		for _, e := range s.env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	}
	return &settings{DSN: dsn, PayWithin: time.Minute, MchID: of("ORDERD_WECHAT_MCHID"),
		AppID: of("ORDERD_WECHAT_APPID"), SerialNo: of("ORDERD_WECHAT_SERIAL_NO"),
		PrivateKey: of("ORDERD_WECHAT_PRIVATE_KEY"), APIv3Key: of("ORDERD_WECHAT_APIV3_KEY"),
		VerifyKeys: of("ORDERD_WECHAT_VERIFY_KEYS"),
		BaseURL:    of("ORDERD_WECHAT_BASE_URL"), NotifyURL: of("ORDERD_WECHAT_NOTIFY_URL")}
}

// startArmed starts a service that will stand still at the step.
func (s *scene) startArmed(env ...string) {
	s.t.Helper()
	if s.point.Name == "" {
		s.start(env...)
		return
	}
	at := ""
	if s.point.Name == "recon.line" || s.point.Name == "recon.healed" {
		at = "@2" // half of what there is
	}
	s.start(append(env, "ORDERD_FAILPOINTS="+s.point.Name+"=block"+at)...)
}

// dies waits until the process stands at the step and kills it there.
func (s *scene) dies() {
	s.t.Helper()
	s.until("the step was never reached", s.reached)
	s.kill()
}

// reached reports that the process stands at the step.
func (s *scene) reached() bool {
	text, err := os.ReadFile(s.log)
	return err == nil && strings.Contains(string(text), s.point.Name+" block ")
}

func (s *scene) kill() { s.signal(syscall.SIGKILL) }

// until waits for a condition; it is polling, not timing.
func (s *scene) until(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(settleWithin); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("step %s %s: %s", s.point.No, s.point.Name, what)
		}
	}
}

// answer is what an API says, as far as anybody here asks.
type answer struct {
	OrderNo     string `json:"order_no"`
	OutTradeNo  string `json:"out_trade_no"`
	OutRefundNo string `json:"out_refund_no"`
	State       string `json:"state"`

	status   int
	replayed bool
}

// try posts and gives status 0 when no answer comes, as from a process that dies.
func (s *scene) try(addr, token, path, key, body string) (a answer) {
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		return a
	}
	req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return a
	}
	defer res.Body.Close()
	if json.NewDecoder(res.Body).Decode(&a) != nil {
		return answer{}
	}
	a.status, a.replayed = res.StatusCode, res.Header.Get("Idempotent-Replayed") == "true"
	return a
}

// asks posts as a customer whose answer may never come.
func (s *scene) asks(path, key, body string) { go s.try(s.api, s.token, path, key, body) }

// post posts as a customer and wants this status.
func (s *scene) post(path, key, body string, status int) answer {
	s.t.Helper()
	a := s.try(s.api, s.token, path, key, body)
	if a.status != status {
		s.t.Fatalf("step %s %s: %s answers %d %+v, want %d", s.point.No, s.point.Name, path, a.status, a, status)
	}
	return a
}

const (
	twoMugs = `{"items":[{"sku_id":"1001","quantity":2}]}`
	native  = `{"trade_type":"NATIVE"}`
)

// opened places an order and opens its trade.
func (s *scene) opened(key string) answer {
	s.t.Helper()
	o := s.post("/v1/orders", key, twoMugs, http.StatusCreated)
	return s.post("/v1/orders/"+o.OrderNo+"/prepay", "", native, http.StatusOK)
}

func (s *scene) find(orderNo string) order.Order {
	s.t.Helper()
	o, err := s.core.orders.Find(s.t.Context(), orderNo)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// is waits for a state.
func (s *scene) is(orderNo string, want order.State) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s never became %s", orderNo, want), func() bool { return s.find(orderNo).State == want })
}

// number runs a query that gives one number.
func (s *scene) number(query string, args ...any) (n int64) {
	s.t.Helper()
	if err := s.core.db.QueryRowContext(s.t.Context(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// want compares what is with what must be.
func want[T comparable](s *scene, what string, is, must T) {
	s.t.Helper()
	if is != must {
		s.t.Errorf("step %s %s: %s: %v, want %v", s.point.No, s.point.Name, what, is, must)
	}
}

func (s *scene) onShelf() int64 { return s.number(`SELECT available FROM skus`) }

func (s *scene) events(orderNo, name string) int64 {
	return s.number(`SELECT COUNT(*) FROM order_events WHERE order_no = ? AND event = ?`, orderNo, name)
}

// returns counts the flows by which an order gave stock back.
func (s *scene) returns(orderNo string) int64 {
	return s.number(`SELECT COUNT(*) FROM stock_flows WHERE order_no = ? AND kind = 'return'`, orderNo)
}

// ends waits for the end of every flow and holds our books against the invariants, and against WeChat Pay's ledger in
// both directions.
func (s *scene) ends() {
	s.t.Helper()
	s.until("not every flow ended", func() bool {
		return s.number(`SELECT COUNT(*) FROM orders WHERE state IN ('pending', 'closing', 'refunding')`) == 0 &&
			s.number(`SELECT COUNT(*) FROM refunds WHERE state <> 'success'`) == 0 &&
			s.number(`SELECT COUNT(*) FROM reconciliations WHERE state <> 'done'`) == 0
	})
	s.signal(syscall.SIGTERM)
	verify := exec.Command(s.binary, "verify", "--wechat")
	verify.Env = append(os.Environ(), s.env...)
	if out, err := verify.CombinedOutput(); err != nil {
		s.t.Errorf("step %s %s: orderd verify --wechat: %v\n%s", s.point.No, s.point.Name, err, out)
	}
	ctx := s.t.Context()
	err := sqldb.Each(ctx, s.core.db, `SELECT order_no FROM orders`, nil, func(rows *sql.Rows) error {
		var no string
		if err := rows.Scan(&no); err != nil {
			return err
		}
		for _, line := range compare(s.find(no), &simulator{Sim: s.sim}) {
			s.t.Errorf("step %s %s: %s", s.point.No, s.point.Name, line)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, trade := range s.sim.Trades() {
		if trade.TransactionID != "" {
			want(s, "payments of "+trade.OutTradeNo+" in the journal",
				s.number(`SELECT COUNT(*) FROM payments WHERE transaction_id = ? AND amount_fen = ?`,
					trade.TransactionID, trade.Total), 1)
		}
	}
	for _, r := range s.sim.Refunds() {
		want(s, "refunds of ours with the number "+r.OutRefundNo,
			s.number(`SELECT COUNT(*) FROM refunds WHERE out_refund_no = ? AND amount_fen = ?`, r.OutRefundNo,
				r.Amount), 1)
	}
}

// wakeUps counts the timeouts that Redis has for orders.
func (s *scene) wakeUps() int {
	s.t.Helper()
	keys, err := s.redis.Keys(context.Background(), "asynq:{expire-*}:t:*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return len(keys)
}

// killPlacing: before COMMIT nothing is there, after it all is; the same key tells either.
func killPlacing(s *scene) {
	committed := s.point.No == "5" || s.point.No == "6"
	s.startArmed(soon)
	s.asks("/v1/orders", "k", twoMugs)
	if s.point.No == "6" {
		s.until("no wake-up is in Redis", func() bool { return s.wakeUps() == 1 })
	}
	s.dies()
	if committed {
		want(s, "orders after the kill", s.number(`SELECT COUNT(*) FROM orders`), 1)
		want(s, "on the shelf after the kill", s.onShelf(), shelved-2)
		want(s, "wake-ups in Redis", s.wakeUps(), map[string]int{"5": 0, "6": 1}[s.point.No])
	} else {
		want(s, "orders after the kill", s.number(`SELECT COUNT(*) FROM orders`), 0)
		want(s, "flows after the kill", s.number(`SELECT COUNT(*) FROM stock_flows WHERE order_no <> ''`), 0)
		want(s, "on the shelf after the kill", s.onShelf(), shelved)
	}
	again := []string{soon}
	if s.point.No == "5" && s.round%2 == 0 {
		again = append(again, noRedis) // it expires without a task
	}
	s.start(again...)
	first := s.post("/v1/orders", "k", twoMugs, http.StatusCreated)
	want(s, "the same key is a repeat", first.replayed, committed)
	second := s.post("/v1/orders", "k", twoMugs, http.StatusCreated)
	want(s, "the order of the same key", second.OrderNo, first.OrderNo)
	want(s, "orders", s.number(`SELECT COUNT(*) FROM orders`), 1)
	s.is(first.OrderNo, order.StateClosed)
	want(s, "returns", s.returns(first.OrderNo), 1)
	want(s, "on the shelf", s.onShelf(), shelved)
	s.ends()
}

// killSelling: a process dies with units of a sale in its hands, or half way through a change of the sale. All units
// are sold or on the shelf in the end, and who asks again gets his order, or the refusal that is true.
func killSelling(s *scene) {
	sell := func(mode stock.GateMode) {
		s.t.Helper()
		_, err := s.core.stock.SetGate(s.t.Context(), stock.GateChange{SkuID: "1001", Mode: mode, Actor: "test",
			Reason: "a test"})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	sell(stock.GateLocal)
	const unlimited, all = "ORDERD_MAX_OPEN_UNITS=0", `{"items":[{"sku_id":"1001","quantity":1000}]}`
	env := []string{soon, unlimited, "ORDERD_MAX_OPEN_ORDERS=0"}
	s.startArmed(env...)
	switch s.point.Name {
	case "gate.marked", "gate.reopened":
		s.post("/v1/orders", "all", all, http.StatusCreated)
		s.asks("/v1/orders", "k", twoMugs) // marked by this one, and opened when the other is closed
	case "gate.recalled":
		s.until("nothing was granted", func() bool { // to a process that somebody has just asked
			s.post("/v1/orders", "first", twoMugs, http.StatusCreated)
			return s.number(`SELECT COUNT(*) FROM stock_buckets`) > 0
		})
		s.asks("/v1/orders", "rest", `{"items":[{"sku_id":"1001","quantity":990}]}`)
	default: // a process asks for units when somebody has asked it
		asked := 0
		s.until("the step was never reached", func() bool {
			asked++
			s.asks("/v1/orders", fmt.Sprint("ask", asked), twoMugs)
			return s.reached()
		})
	}
	s.dies()
	marked := s.number(`SELECT COUNT(*) FROM skus WHERE closed_until = ?`, stock.SoldOut)
	want(s, "marks that were committed", marked, 0)
	s.start(env...)
	var again answer
	s.until("the same key never has an order", func() bool {
		again = s.try(s.api, s.token, "/v1/orders", "k", twoMugs)
		return again.status == http.StatusCreated
	})
	s.is(again.OrderNo, order.StateClosed)
	s.until("not every order closes", func() bool {
		return s.number(`SELECT COUNT(*) FROM orders WHERE state <> 'closed'`) == 0
	})
	sell(stock.GateOff)
	want(s, "in buckets of a gate that is off", s.number(`SELECT COALESCE(SUM(remaining), 0) FROM stock_buckets`), 0)
	want(s, "on the shelf", s.onShelf(), shelved)
	s.ends()
}

// killPrepaying: the customer asks again and gets the same number, or never asks again and the order closes.
func killPrepaying(s *scene) {
	// asked again and paid, asked again and cancelled, left alone
	way := (s.round + map[string]int{"8": 1, "9": 2}[s.point.No]) % 3
	within := "ORDERD_PAY_WITHIN=5m"
	if way == 2 {
		within = soon
	}
	s.startArmed(within)
	o := s.post("/v1/orders", "k", twoMugs, http.StatusCreated)
	path := "/v1/orders/" + o.OrderNo
	s.asks(path+"/prepay", "", native)
	s.dies()
	want(s, "attempts after the kill", s.number(`SELECT COUNT(*) FROM payment_attempts WHERE state = 'calling'`), 1)
	want(s, "trades at WeChat Pay after the kill", len(s.sim.Trades()),
		map[string]int{"7": 0, "8": 1, "9": 1}[s.point.No])
	s.start(within)
	if way < 2 {
		again := s.post(path+"/prepay", "", native, http.StatusOK)
		want(s, "out_trade_no", again.OutTradeNo, o.OrderNo+"-01")
		if way == 0 {
			if err := s.sim.Pay(again.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
				s.t.Fatal(err)
			}
			s.is(o.OrderNo, order.StatePaid)
		} else {
			s.post(path+"/cancel", "", `{"reason":"x"}`, http.StatusOK)
		}
	}
	if way > 0 {
		s.is(o.OrderNo, order.StateClosed)
		want(s, "returns", s.returns(o.OrderNo), 1)
	}
	want(s, "attempts", s.number(`SELECT COUNT(*) FROM payment_attempts`), 1)
	want(s, "trades at WeChat Pay", len(s.sim.Trades()), 1)
	s.ends()
}

// killNotified: what was not committed comes again, what was is acknowledged when it does.
func killNotified(s *scene) {
	committed := s.point.No == "13" || s.point.No == "14"
	s.startArmed("ORDERD_PAY_WITHIN=5m")
	o := s.opened("k")
	if err := s.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
		s.t.Fatal(err)
	}
	accepted := func() int { trade, _ := s.sim.Trade(o.OutTradeNo); return trade.CallbacksAccepted }
	if s.point.No == "14" {
		s.until("WeChat Pay has no 204", func() bool { return accepted() == 1 })
		s.kill()
	} else {
		s.dies()
		want(s, "accepted before the kill", accepted(), 0)
	}
	state, journal := order.StatePending, int64(0)
	if committed {
		state, journal = order.StatePaid, 1
	}
	want(s, "state after the kill", s.find(o.OrderNo).State, state)
	want(s, "journal after the kill", s.number(`SELECT COUNT(*) FROM payments`), journal)
	s.start("ORDERD_PAY_WITHIN=5m")
	s.is(o.OrderNo, order.StatePaid)
	s.until("WeChat Pay never had its 204", func() bool { return accepted() >= 1 })
	want(s, "events", s.events(o.OrderNo, "payment.applied"), 1)
	want(s, "journal", s.number(`SELECT COUNT(*) FROM payments`), 1)
	want(s, "refunds of a payment that was taken in twice", s.number(`SELECT COUNT(*) FROM refunds`), 0)
	want(s, "accepted", accepted(), 1)
	s.ends()
}

// killClosing: by its task, by the customer, by the sweep alone. The stock is held until the close is proven and comes
// back once; who pays in between has an order.
func killClosing(s *scene) {
	way := (s.round + int(s.point.No[1]-'0')) % 3
	within, armed := soon, []string{}
	switch way {
	case 1:
		within = "ORDERD_PAY_WITHIN=5m"
	case 2:
		armed = append(armed, noRedis)
	}
	s.startArmed(append(armed, within)...)
	o := s.opened("k")
	if way == 1 {
		s.asks("/v1/orders/"+o.OrderNo+"/cancel", "", `{"reason":"x"}`)
	}
	s.dies()
	state, returns := order.StateClosing, int64(0)
	if s.point.No == "20" {
		state, returns = order.StateClosed, 1
	}
	want(s, "state after the kill", s.find(o.OrderNo).State, state)
	want(s, "returns after the kill", s.returns(o.OrderNo), returns)
	trade, _ := s.sim.Trade(o.OutTradeNo)
	there := wechatsim.StateClosed
	if s.point.No == "15" {
		there = wechatsim.StateNotPay
	}
	want(s, "at WeChat Pay after the kill", trade.State, there)
	end, end2 := order.StateClosed, int64(1)
	if s.point.No == "15" && s.round%2 == 1 { // the buyer is quicker than the second ask
		if err := s.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Force: true}); err != nil {
			s.t.Fatal(err)
		}
		end, end2 = order.StatePaid, 0
	}
	s.start(within)
	s.is(o.OrderNo, end)
	want(s, "returns", s.returns(o.OrderNo), end2)
	want(s, "on the shelf", s.onShelf(), shelved-2+2*end2)
	s.ends()
}

// killRefunding: a part that the customer asked for, and money that came late and goes back by itself. One number, one
// refund at WeChat Pay, whoever tells of its end.
func killRefunding(s *scene) {
	late := s.round%2 == 1 && s.point.No != "21" && s.point.No != "24"
	again := s.point.No == "22" || s.point.No == "23"
	s.startArmed("ORDERD_PAY_WITHIN=5m")
	o := s.opened("k")
	no, ask := "", `{"items":[{"sku_id":"1001","quantity":1}],"reason":"chipped"}`
	if late {
		s.post("/v1/orders/"+o.OrderNo+"/cancel", "", `{"reason":"x"}`, http.StatusOK)
	}
	if err := s.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true, Force: late}); err != nil {
		s.t.Fatal(err)
	}
	if late {
		trade, _ := s.sim.Trade(o.OutTradeNo)
		no = "R" + trade.TransactionID
	} else {
		s.is(o.OrderNo, order.StatePaid)
		if again { // nobody tells of it: only the same number again can find out
			if err := s.sim.AddFault(wechatsim.Fault{Endpoint: "notify", OutTradeNo: o.OutTradeNo,
				Kind: wechatsim.FaultDrop, Count: 1}); err != nil {
				s.t.Fatal(err)
			}
		}
		s.asks("/v1/orders/"+o.OrderNo+"/refunds", "r", ask)
	}
	s.dies()
	if !late {
		no = s.find(o.OrderNo).Refunds[0].OutRefundNo
	}
	asked := map[string]int{"21": 0, "21b": 0, "22": 1, "23": 1, "24": 1}[s.point.No]
	want(s, "refunds at WeChat Pay after the kill", len(s.sim.Refunds()), asked)
	want(s, "refunds of ours after the kill",
		s.number(`SELECT COUNT(*) FROM refunds WHERE out_refund_no = ? AND state <> 'success'`, no), 1)
	held := s.onShelf()
	s.start("ORDERD_PAY_WITHIN=5m")
	if !late {
		repeat := s.post("/v1/orders/"+o.OrderNo+"/refunds", "r", ask, http.StatusCreated)
		want(s, "the number of the same key", repeat.OutRefundNo, no)
		want(s, "the same key is a repeat", repeat.replayed, true)
	}
	s.until("the refund does not end", func() bool {
		return s.number(`SELECT COUNT(*) FROM refunds WHERE out_refund_no = ? AND state = 'success'`, no) == 1
	})
	want(s, "refunds", s.number(`SELECT COUNT(*) FROM refunds`), 1)
	want(s, "refunds at WeChat Pay", len(s.sim.Refunds()), 1)
	there, _ := s.sim.Refund(no)
	if !late {
		requests := 1
		if again {
			requests = 2
		}
		want(s, "requests for it at WeChat Pay", there.Requests, requests)
		want(s, "on the shelf", s.onShelf(), held+1)
		want(s, "returns", s.returns(o.OrderNo), 1)
	}
	want(s, "successes in the timeline", s.events(o.OrderNo, "refund.succeeded"), 1)
	s.ends()
}

// killReconciling: the bill has four payments that we know and four that we do not. The run that follows the killed one
// must find what a run finds that nobody killed.
func killReconciling(s *scene) {
	s.startArmed("ORDERD_PAY_WITHIN=10m")
	now := time.Now()
	var paid []string
	for i := range 8 {
		o := s.opened(fmt.Sprint("k", i))
		if err := s.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: i < 4, DropNotify: i >= 4,
			At: now}); err != nil {
			s.t.Fatal(err)
		}
		paid = append(paid, o.OrderNo)
	}
	for _, no := range paid[:4] {
		s.is(no, order.StatePaid)
	}
	day := now.In(time.FixedZone("CST", 8*3600)).Format(time.DateOnly)
	reconcile := func() {
		s.try(s.admin, victimSecret, "/admin/v1/reconciliations", "", `{"bill_date":"`+day+`","reason":"x"}`)
	}
	go reconcile()
	s.dies()
	booked := map[string]int64{"26b": 2, "28": 4}[s.point.No]
	want(s, "booked after the kill", s.number(`SELECT COUNT(*) FROM payments`), 4+booked)
	s.start("ORDERD_PAY_WITHIN=10m")
	s.until("no run ended", func() bool {
		got, err := s.core.reconciler.Show(s.t.Context(), day+"-ALL")
		if err != nil || got.State != "done" {
			reconcile() // refused while the dead run's lease lasts
			return false
		}
		return true
	})
	got, err := s.core.reconciler.Show(s.t.Context(), day+"-ALL")
	if err != nil {
		s.t.Fatal(err)
	}
	r, fen := got.Result, payment.Fen(8*2*14900)
	if err := errors.Join(
		clean(r.Payments.BillCount == 8 && r.Payments.BillFen == fen, "bill"),
		clean(r.Payments.OursCount == 8 && r.Payments.OursFen == fen && r.Payments.Matched == 8, "ours"),
		clean(r.Healed == 4 && r.Open == 0 && r.Pending == 0 && r.Balanced() && r.SHA1 != "", "differences"),
	); err != nil {
		s.t.Errorf("step %s %s: not as a run that nobody killed: %v: %+v", s.point.No, s.point.Name, err, r)
	}
	for _, no := range paid {
		want(s, "events", s.events(no, "payment.applied"), 1)
	}
	want(s, "journal", s.number(`SELECT COUNT(*) FROM payments`), 8)
	want(s, "stored bills", s.number(`SELECT COUNT(*) FROM bill_files`), 1)
	s.ends()
}

func clean(ok bool, what string) error {
	if ok {
		return nil
	}
	return errors.New(what)
}

// killSweeping: three orders are due and no Redis is there, or one is and the wake-ups are being set. The next process
// goes on where this one died.
func killSweeping(s *scene) {
	env := []string{soon}
	if s.round%2 == 0 {
		env = append(env, noRedis)
	}
	s.startArmed(env...)
	var nos []string
	for i := range 3 {
		nos = append(nos, s.post("/v1/orders", fmt.Sprint("k", i), twoMugs, http.StatusCreated).OrderNo)
	}
	s.dies()
	s.start(soon)
	for _, no := range nos {
		s.is(no, order.StateClosed)
		want(s, "returns", s.returns(no), 1)
		want(s, "closed in the timeline", s.events(no, "close.accepted"), 1)
	}
	want(s, "on the shelf", s.onShelf(), shelved)
	s.ends()
}
