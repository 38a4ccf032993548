package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/wechatsim"
	"orderd/stock"
)

// waiter is a buyer in the queue of a sale, and what he was told so far.
type waiter struct {
	s        *scene
	customer string
	token    string
	body     string
	no       string // of the 202, or 201
	queued   bool
}

// crowd has n buyers post at once; every fifth at a wrong price. It gives those that have a number.
func (s *scene) crowd(name string, n int) (all []*waiter) {
	s.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		w := &waiter{s: s, customer: fmt.Sprint(name, i), body: `{"items":[{"sku_id":"1001","quantity":1}]}`}
		if i%5 == 4 {
			w.body = `{"items":[{"sku_id":"1001","quantity":1}],"expected_total":{"total":1}}`
		}
		wg.Go(func() {
			var err error
			if w.token, err = orderhttp.MintToken([]byte(victimSecret), w.customer, time.Now(), time.Hour); err != nil {
				return
			}
			if w.post(); w.no != "" {
				mu.Lock()
				all = append(all, w)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// post places, and gives the status, 0 when no answer comes.
func (w *waiter) post() int {
	a := w.s.try(w.s.api, w.token, "/v1/orders", "key", w.body)
	if a.status == http.StatusAccepted || a.status == http.StatusCreated {
		w.no, w.queued = a.OrderNo, w.queued || a.status == http.StatusAccepted
	}
	return a.status
}

// read gives the answer to GET: its status and its state or code.
func (w *waiter) read() (status int, state string) {
	for {
		if status, state = w.look(); status != http.StatusTooManyRequests {
			return status, state
		}
		time.Sleep(200 * time.Millisecond) // whoever waits in a loop is told to ask less often
	}
}

// look is one read.
func (w *waiter) look() (status int, state string) {
	req, err := http.NewRequestWithContext(w.s.t.Context(), http.MethodGet, "http://"+w.s.api+"/v1/orders/"+w.no, nil)
	if err != nil {
		return 0, ""
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	var v struct{ State, Code string }
	_ = json.Unmarshal(text, &v) // what it is not says its status
	return res.StatusCode, v.State + v.Code
}

// ended waits until nobody of these waits any more, and asserts what has become of each: one order, or for a wrong
// price the refusal, and never both.
func (s *scene) ended(all []*waiter) {
	s.t.Helper()
	for _, w := range all {
		state := ""
		s.until("somebody waits for ever", func() bool {
			if _, state = w.read(); state == "queued" {
				time.Sleep(100 * time.Millisecond) // who asks more often is told to wait
			}
			return state != "" && state != "queued" && state != string(orderhttp.CodeMaintenance)
		})
		want, orders := string(order.StatePending), int64(1)
		if strings.Contains(w.body, "expected") {
			want, orders = string(orderhttp.CodePriceChanged), 0
		}
		if got := s.number(`SELECT COUNT(*) FROM orders WHERE customer_id = ?`, w.customer); state != want ||
			got != orders {
			s.t.Errorf("%s %s: %s, told %s, want %s; %d orders, want %d", s.point.Name, w.customer, w.no, state, want,
				got, orders)
		}
	}
}

// sells gives the SKU a gate in mode redis with a rate, and waits until a queue is met.
func (s *scene) sells(rate int64, mode stock.GateMode) {
	s.t.Helper()
	if _, err := s.core.stock.SetGate(s.t.Context(), stock.GateChange{SkuID: "1001", Mode: mode, Buckets: 2, Rate: rate,
		Actor: "cli:test", Reason: "a kill"}); err != nil {
		s.t.Fatal(err)
	}
}

// verified runs orderd verify.
func (s *scene) verified() {
	s.t.Helper()
	verify := exec.Command(s.binary, "verify")
	verify.Env = append(os.Environ(), s.env...)
	if out, err := verify.CombinedOutput(); err != nil {
		s.t.Errorf("step %s %s: orderd verify: %v\n%s", s.point.No, s.point.Name, err, out)
	}
}

// killDraining: whoever was told 202 has one order or one refusal, whichever step the drainer died at.
func killDraining(s *scene) {
	env := []string{"ORDERD_PAY_WITHIN=1h", "ORDERD_GATE_AUTO=false"}
	s.sells(4, stock.GateRedis) // fewer than come, on any machine
	s.startArmed(env...)
	var all []*waiter
	queued := 0
	s.until("nobody was queued", func() bool {
		for _, w := range s.crowd(fmt.Sprint("crowd", len(all), "-"), 40) {
			if all = append(all, w); w.queued {
				queued++
			}
		}
		return queued >= 10 || s.reached()
	})
	s.dies()
	s.sells(200, stock.GateRedis) // so that the test ends
	s.start(env...)
	s.ended(all)
	if queued == 0 {
		s.t.Error("nobody was queued: this has tested nothing")
	}
	s.sells(0, stock.GateOff)
	s.verified()
}

// What a 202 is worth when Redis is killed, by what it keeps: with an append-only file all that wait become orders,
// whatever its fsync is, because what was answered is with the operating system; without one all are lost, their
// numbers are not found, and the same request makes their orders.
func TestQueueSurvivesRedis(t *testing.T) {
	k := &killer{binary: buildService(t), merchant: newMerchant(t)}
	for name, c := range map[string]struct {
		options []string
		kept    bool
	}{
		"always":   {[]string{"--appendonly", "yes", "--appendfsync", "always"}, true},
		"everysec": {[]string{"--appendonly", "yes", "--appendfsync", "everysec"}, true},
		"no":       {[]string{"--appendonly", "yes", "--appendfsync", "no"}, true},
		"nothing":  {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := sqldbtest.RedisServer(t, c.options...)
			one := &killer{binary: k.binary, merchant: k.merchant, redis: server}
			s := one.scene(t, failpoint.Point{No: "-", Name: "redis killed"}, 0)
			s.sells(2, stock.GateRedis)
			s.start("ORDERD_PAY_WITHIN=1h", "ORDERD_GATE_AUTO=false")
			var all []*waiter
			s.until("nobody was queued", func() bool {
				all = nil
				for _, w := range s.crowd(fmt.Sprint("c", time.Now().UnixNano(), "-"), 40) {
					if w.queued {
						all = append(all, w)
					}
				}
				return len(all) >= 20
			})
			server.Kill()
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Faster now, so that the test ends.
			s.sells(200, stock.GateRedis)
			if c.kept {
				s.ended(all)
				s.verified()
				return
			}
			lost := 0
			for _, w := range all {
				if strings.Contains(w.body, "expected") {
					continue
				}
				s.until("it is neither found nor lost", func() bool {
					status, state := w.read()
					if status == http.StatusNotFound {
						lost++
					}
					return status == http.StatusNotFound || status == http.StatusOK && state != "queued"
				})
				s.until("its repeat makes no order", func() bool {
					w.post()
					status, state := w.read()
					return status == http.StatusOK && state != "queued"
				})
			}
			if lost == 0 {
				t.Error("nothing was lost: this has tested nothing")
			}
			s.verified()
		})
	}
}

// A burst above what the sale makes a second: 200 buyers for 150 units at 25 a second. As many orders as units are made
// and no faster than that, the others are told that it is sold out, and nobody is told both.
func TestBurstIsMadeAtItsRate(t *testing.T) {
	const units, rate, buyers = 150, 25, 200 // most come before their turn, on a slow machine too
	k := &killer{binary: buildService(t), merchant: newMerchant(t), redis: sqldbtest.RedisServer(t)}
	s := k.scene(t, failpoint.Point{No: "-", Name: "burst"}, 0)
	quantity := int64(units)
	if _, _, err := s.core.stock.Put(t.Context(), stock.Put{SkuID: "rush", Title: "Rush", PriceFen: 100,
		Quantity: &quantity, Actor: "cli:test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.core.stock.SetGate(t.Context(), stock.GateChange{SkuID: "rush", Mode: stock.GateRedis, Buckets: 2,
		Rate: rate, Actor: "cli:test", Reason: "a burst"}); err != nil {
		t.Fatal(err)
	}
	s.start("ORDERD_PAY_WITHIN=1h", "ORDERD_GATE_AUTO=false")
	s.until("there are no units in Redis", func() bool {
		return s.number(`SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND remaining > 0`) == 2
	})
	var mu sync.Mutex
	var told []*waiter
	refused := 0
	var all sync.WaitGroup
	begin := time.Now()
	for i := range buyers {
		w := &waiter{s: s, customer: fmt.Sprint("b", i), body: `{"items":[{"sku_id":"rush","quantity":1}]}`}
		var err error
		if w.token, err = orderhttp.MintToken([]byte(victimSecret), w.customer, time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for end := time.Now().Add(settleWithin); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				status := w.post()
				if status == 0 || status >= 500 {
					continue // not ready, or no answer: the same request again
				}
				mu.Lock()
				defer mu.Unlock()
				if w.no != "" {
					told = append(told, w)
				} else if status == http.StatusConflict {
					refused++
				}
				return
			}
		})
	}
	all.Wait()
	s.ended(told)
	queued := 0
	for _, w := range told {
		if w.queued {
			queued++
		}
	}
	t.Logf("%d told a number, %d of them queued, %d refused", len(told), queued, refused)
	if len(told) != units || refused != buyers-units || queued < units/2 {
		t.Errorf("%d of %d units, %d of %d refused, %d queued", len(told), units, refused, buyers-units, queued)
	}
	s.pace(begin, rate)
	s.verified()
}

// ask is a request of a waiter, about his number.
func (w *waiter) ask(method, path, body string) (status int, header http.Header, text string) {
	w.s.t.Helper()
	about := strings.TrimSuffix("/v1/orders/"+w.no, "/") + path
	req, err := http.NewRequestWithContext(w.s.t.Context(), method, "http://"+w.s.api+about, strings.NewReader(body))
	if err != nil {
		w.s.t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + w.token}, "Content-Type": {"application/json"},
		"Accept-Language": {"en"}, "Idempotency-Key": {"key"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.s.t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		w.s.t.Fatal(err)
	}
	return res.StatusCode, res.Header, strings.TrimSpace(string(got))
}

// saw asserts an answer, by its status and what is in it, and gives the answer.
func (w *waiter) saw(method, path, body string, status int, has string) (http.Header, string) {
	w.s.t.Helper()
	got, header, text := w.ask(method, path, body)
	if got != status || !strings.Contains(text, has) {
		w.s.t.Errorf("%s %s%s: %d %s, want %d and %s", method, w.no, path, got, text, status, has)
	}
	return header, text
}

// problemOf gives a problem without what is of its request.
func problemOf(t *testing.T, text string) string {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	delete(p, "instance")
	delete(p, "request_id")
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The whole of a queue over HTTP, on MariaDB and Redis: what waits is shown to its buyer alone, cannot be paid, can be
// cancelled for ever, is refused by the price of its turn with the problem that it would have had at once, and becomes
// an order that is paid and paid back.
func TestQueueOverHTTP(t *testing.T) {
	k := &killer{binary: buildService(t), merchant: newMerchant(t), redis: sqldbtest.RedisServer(t)}
	s := k.scene(t, failpoint.Point{No: "-", Name: "over HTTP"}, 0)
	s.sells(1, stock.GateRedis) // nobody's turn comes while he is looked at, on any machine
	s.start("ORDERD_PAY_WITHIN=1h", "ORDERD_GATE_AUTO=false")
	var all []*waiter
	s.until("nobody was queued", func() bool {
		all = nil
		for _, w := range s.crowd(fmt.Sprint("c", time.Now().UnixNano(), "-"), 40) {
			if w.queued && !strings.Contains(w.body, "expected") {
				all = append(all, w)
			}
		}
		return len(all) >= 24
	})
	// The last of the crowd are not known here by their place: those that wait the longest are asked.
	slices.SortFunc(all, func(a, b *waiter) int { return cmp.Compare(a.position(), b.position()) })
	paid, cancelled := all[len(all)-1], all[len(all)-2]
	paid.saw("GET", "", "", 200, `"state":"queued","queue":{"position":`)
	paid.saw("GET", "", "", 200, `"items":[{"sku_id":"1001","quantity":1}]`)
	other := *cancelled
	other.token = paid.token
	other.saw("GET", "", "", 404, "ORDER_NOT_FOUND")
	other.saw("POST", "/cancel", "", 404, "ORDER_NOT_FOUND")
	header, _ := paid.saw("POST", "/prepay", `{"trade_type":"NATIVE"}`, 409, "ORDER_NOT_PAYABLE")
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for range 2 {
		cancelled.saw("POST", "/cancel", "", 200, `"state":"closed"`)
	}
	cancelled.saw("GET", "", "", 200, `"state":"closed"`)

	priced := &waiter{s: s, customer: "priced", body: `{"items":[{"sku_id":"1001","quantity":1}],` +
		`"expected_total":{"total":14900}}`, token: s.tokenOf("priced")}
	if status := priced.post(); status != http.StatusAccepted {
		t.Fatal(status)
	}
	if _, _, err := s.core.stock.Put(t.Context(), stock.Put{SkuID: "1001", Title: "Blue mug", PriceFen: 15000,
		Actor: "cli:test"}); err != nil {
		t.Fatal(err)
	}
	s.sells(200, stock.GateRedis)
	var queued string
	s.until("the price is never refused", func() bool {
		status, _, text := priced.ask("GET", "", "") // who asks so often is told 429 in between
		queued = text
		return status == http.StatusConflict
	})
	if !strings.Contains(queued, "PRICE_CHANGED") {
		t.Error(queued)
	}
	other = *priced
	other.token = paid.token
	other.saw("GET", "", "", 404, "ORDER_NOT_FOUND")
	var atOnce string
	s.until("nobody waits any more, and one is told at once", func() bool {
		time.Sleep(time.Second) // or those who ask would be a queue themselves
		w := &waiter{s: s, token: s.tokenOf(fmt.Sprint("later", time.Now().UnixNano()))}
		status, _, text := w.place(priced.body)
		atOnce = text
		return status == http.StatusConflict
	})
	if a, b := problemOf(t, queued), problemOf(t, atOnce); a != b {
		t.Errorf("after the queue\n%s\nat once\n%s", a, b)
	}

	s.until("its turn does not come", func() bool {
		_, state := paid.read()
		return state == string(order.StatePending)
	})
	paid.saw("POST", "/prepay", `{"trade_type":"NATIVE"}`, 200, "code_url")
	if err := s.sim.Pay(paid.no+"-01", wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	s.is(paid.no, order.StatePaid)
	paid.saw("POST", "/refunds", `{"reason":"x"}`, 201, "out_refund_no")
	s.is(paid.no, order.StateRefunded)
	if n := s.number(`SELECT COUNT(*) FROM orders WHERE customer_id IN (?, 'priced')`, cancelled.customer); n != 0 {
		t.Errorf("%d orders of those who have none", n)
	}
	s.verified()
}

// position is his place in the queue, 0 when he does not wait.
func (w *waiter) position() int64 {
	_, _, text := w.ask("GET", "", "")
	var v struct{ Queue struct{ Position int64 } }
	_ = json.Unmarshal([]byte(text), &v) // an order has none
	return v.Queue.Position
}

// place posts a body, of whoever has no number yet.
func (w *waiter) place(body string) (status int, header http.Header, text string) {
	w.s.t.Helper()
	w.no = ""
	return w.ask("POST", "", body)
}

// tokenOf is the token of a customer.
func (s *scene) tokenOf(customer string) string {
	s.t.Helper()
	token, err := orderhttp.MintToken([]byte(victimSecret), customer, time.Now(), time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// pace asserts that at no time more orders had been made from the begin on, of a sale that is asked for all that it
// has, than the rate allows: a quarter of a second of it may be made up for in each of two buckets. Between a claim and
// its order a machine may take its time, so that two orders say nothing of the rate between them.
func (s *scene) pace(begin time.Time, rate int64) {
	s.t.Helper()
	at, err := sqldb.Decided(s.t.Context(), s.core.db, `SELECT created_at
FROM orders
ORDER BY created_at`, nil, sqldb.Column[int64])
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range at {
		took := at[i] - sqldb.Millis(begin) + 100 // by which the database's clock may differ
		if n, most := int64(i+1), rate*took/1000+rate/4+2; n > most {
			s.t.Fatalf("%d orders in %d ms, at most %d", n, took, most)
		}
	}
}
