package orderhttp

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
)

// queueShop sells SKU 1001 by a queue, of which the test makes orders.
type queueShop struct {
	*saleShop
	line *gatetest.Line
}

func newQueueShop(t *testing.T, db *sqldb.DB) *queueShop {
	t.Helper()
	line := gatetest.NewLine()
	s := &queueShop{newSaleShopOn(t, db, db, line), line}
	s.setMode(t, stock.GateRedis, stock.GateChange{Rate: 2})
	return s
}

func eachQueueShop(t *testing.T, test func(t *testing.T, s *queueShop)) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { test(t, newQueueShop(t, db)) })
}

// post places and gives the answer.
func (s *queueShop) post(t *testing.T, customer, key, body string) *httptest.ResponseRecorder {
	t.Helper()
	return s.ask(t, customer, "POST", "/v1/orders", body, headerKey, key)
}

// drain makes orders of all that waits, as the drainer does.
func (s *queueShop) drain(t *testing.T) {
	t.Helper()
	entries, err := s.line.Claim(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		problem, err := s.PlaceQueued(t.Context(), e)
		if err == nil && problem != nil {
			err = s.line.Refuse(t.Context(), e, problem)
		} else if err == nil {
			err = s.line.Done(t.Context(), []gate.Entry{e})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func queuedOf(t *testing.T, rec *httptest.ResponseRecorder, status int) QueuedView {
	t.Helper()
	var v QueuedView
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != status {
		t.Fatalf("%d, want %d: %s", rec.Code, status, rec.Body)
	}
	return v
}

// The whole way of a buyer who waits: he is told his place and when to come, by POST, its repeat and GET alike, cannot
// pay yet, and has an order under the same number when his turn has come, which he pays and gets his money back for.
// Nobody else sees any of it.
func TestQueuedPaidRefunded(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		s.post(t, "before", "k", oneOf1001)
		rec := s.post(t, "c", "k", oneOf1001)
		v := queuedOf(t, rec, 202)
		path := "/v1/orders/" + v.OrderNo
		want := fmt.Sprintf(`{"order_no":%q,"state":"queued","queue":{"position":2,"wait_seconds":2},`+
			`"items":[{"sku_id":"1001","quantity":1}]}`, v.OrderNo)
		again, get := s.post(t, "c", "k", oneOf1001), s.ask(t, "c", "GET", path, "")
		for what, r := range map[string]*httptest.ResponseRecorder{"first": rec, "repeat": again, "GET": get} {
			if strings.TrimSpace(r.Body.String()) != want {
				t.Errorf("%s: %s", what, r.Body)
			}
			after, err := strconv.Atoi(r.Header().Get("Retry-After"))
			if at := r.Header().Get("Location"); err != nil || after < 2 || after > 3 || at != path {
				t.Errorf("%s: Retry-After %d, %v, Location %q", what, after, err, at)
			}
			if status := map[string]int{"first": 202, "repeat": 202, "GET": 200}[what]; r.Code != status {
				t.Errorf("%s: %d", what, r.Code)
			}
		}
		if rec.Header().Get(headerReplayed) != "" || again.Header().Get(headerReplayed) != "true" {
			t.Error("who repeats is not told")
		}
		for _, r := range [][2]string{{"GET", ""}, {"POST", "/prepay"}, {"POST", "/cancel"}, {"POST", "/payment-query"},
			{"GET", "/qrcode.svg"}, {"GET", "/refunds"}} {
			body := ""
			if r[1] == "/prepay" {
				body = `{"trade_type":"NATIVE"}`
			}
			wantProblem(t, s.ask(t, "x", r[0], path+r[1], body), 404, CodeOrderNotFound)
			if r[1] == "" || r[1] == "/cancel" || r[1] == "/refunds" {
				continue
			}
			if p := wantProblem(t, s.ask(t, "c", r[0], path+r[1], body), 409, CodeOrderNotPayable); !p.Retryable {
				t.Errorf("%s: %+v", r[1], p)
			}
		}
		s.drain(t)
		o := orderOf(t, s.ask(t, "c", "GET", path, ""), 200)
		if o.State != order.StatePending || s.place(t, "c", "k", oneOf1001).OrderNo != o.OrderNo {
			t.Errorf("%+v", o)
		}
		if rec := s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`); rec.Code != 200 {
			t.Fatal(rec.Code, rec.Body)
		}
		trade, err := s.WeChat.Pay(o.OrderNo+"-01", false)
		if err != nil || s.notified(t, trade) != 204 {
			t.Fatal(err)
		}
		if rec := s.ask(t, "c", "POST", path+"/refunds", `{"reason":"x"}`, headerKey, "r"); rec.Code != 201 {
			t.Fatal(rec.Code, rec.Body)
		}
		s.AssertVerified(t)
	})
}

// A buyer who is refused after he has waited reads the very problem that he would have read at once, in his language,
// and not that his order does not exist; nobody else does.
func TestRefusedInTheQueueReadsAsAtOnce(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		bodies := map[string]string{
			"price": `{"items":[{"sku_id":"1001","quantity":1},{"sku_id":"1001","quantity":1}],` +
				`"expected_total":{"total":200}}`,
			"stock": `{"items":[{"sku_id":"1001","quantity":4},{"sku_id":"1001","quantity":7}]}`,
		}
		codes := map[string]Code{"price": CodePriceChanged, "stock": CodeStockInsufficient}
		numbers := map[string]string{}
		for who, body := range bodies {
			numbers[who] = queuedOf(t, s.post(t, who, "k", body), 202).OrderNo
		}
		if _, _, err := s.Admin.Put(t.Context(), stock.Put{SkuID: "1001", Title: "x", PriceFen: 101,
			Actor: "cli:test"}); err != nil {
			t.Fatal(err)
		}
		s.drain(t)
		s.line.Direct(true)
		for who, no := range numbers {
			for _, language := range []string{"en", "zh"} {
				wantProblem(t, s.ask(t, "x", "GET", "/v1/orders/"+no, ""), 404, CodeOrderNotFound)
				read := func(rec *httptest.ResponseRecorder) string {
					p := wantProblem(t, rec, 409, codes[who])
					p.Instance, p.RequestID = "", "" // of the request
					b, err := json.Marshal(p)
					if err != nil {
						t.Fatal(err)
					}
					return string(b)
				}
				queued := read(s.ask(t, who, "GET", "/v1/orders/"+no, "", "Accept-Language", language))
				atOnce := read(s.ask(t, who, "POST", "/v1/orders", bodies[who], headerKey, "k", "Accept-Language",
					language))
				if queued != atOnce {
					t.Errorf("after the queue\n%s\nat once\n%s", queued, atOnce)
				}
			}
		}
	})
}

// Who cancels while he waits is told that it is closed, at once and whenever he asks again.
func TestCancelledInTheQueueIsClosed(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		no := queuedOf(t, s.post(t, "c", "k", oneOf1001), 202).OrderNo
		path := "/v1/orders/" + no
		want := fmt.Sprintf(`{"order_no":%q,"state":"closed","close_reason":"cancel"}`, no)
		for _, rec := range []*httptest.ResponseRecorder{s.ask(t, "c", "POST", path+"/cancel", ""),
			s.ask(t, "c", "POST", path+"/cancel", ""), s.ask(t, "c", "GET", path, "")} {
			if rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != want ||
				rec.Header().Get("Retry-After") != "" {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		}
		if p := wantProblem(t, s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`), 409,
			CodeOrderNotPayable); p.Retryable {
			t.Errorf("%+v", p)
		}
		s.drain(t)
		if n := gatetest.Count(t, s.DB, "SELECT COUNT(*) FROM orders"); n != 0 {
			t.Errorf("%d orders", n)
		}
	})
}

// A long poll on what waits has to end when there is an order, or none: a client that polls so learns of it at once.
func TestLongPollOfTheQueue(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		for who, body := range map[string]string{"c": oneOf1001, "d": `{"items":[{"sku_id":"1001","quantity":99}]}`} {
			path := "/v1/orders/" + queuedOf(t, s.post(t, who, "k", body), 202).OrderNo
			begin := time.Now()
			if v := queuedOf(t, s.ask(t, who, "GET", path+"?wait=1", ""), 200); v.State != stateQueued ||
				time.Since(begin) < 900*time.Millisecond {
				t.Errorf("%+v after %s", v, time.Since(begin))
			}
			told := make(chan *httptest.ResponseRecorder)
			go func() { told <- s.ask(t, who, "GET", path+"?wait=20", "") }()
			time.Sleep(50 * time.Millisecond)
			s.drain(t)
			begin = time.Now()
			rec := <-told
			took := time.Since(begin)
			if took > 10*time.Second || rec.Code != map[string]int{"c": 200, "d": 409}[who] { // of the 20 s of the poll
				t.Errorf("%s after %s: %d %s", who, took, rec.Code, rec.Body)
			}
		}
	})
}

// A repeat that came while the queue could not be asked was placed under another number: the number that its buyer was
// told first could be read and cancelled, and not be paid or refunded.
func TestNumberThatWasPlacedAsAnother(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		path := "/v1/orders/" + queuedOf(t, s.post(t, "c", "k", oneOf1001), 202).OrderNo
		s.line.Away(gate.ErrQueueAway)
		placed := s.place(t, "c", "k", oneOf1001).OrderNo
		s.line.Away(nil)
		s.drain(t)
		if o := orderOf(t, s.ask(t, "c", "GET", path, ""), 200); o.OrderNo != placed {
			t.Errorf("%s was placed as %s", o.OrderNo, placed)
		}
		ok := func(status int, method, what, body string, headers ...string) {
			t.Helper()
			if rec := s.ask(t, "c", method, path+what, body, headers...); rec.Code != status {
				t.Errorf("%s %s: %d %s", method, what, rec.Code, rec.Body)
			}
			wantProblem(t, s.ask(t, "x", method, path+what, body, headers...), 404, CodeOrderNotFound)
		}
		ok(200, "POST", "/prepay", `{"trade_type":"NATIVE"}`)
		ok(200, "GET", "/qrcode.svg", "")
		trade, err := s.WeChat.Pay(placed+"-01", false)
		if err != nil || s.notified(t, trade) != 204 {
			t.Fatal(err)
		}
		ok(200, "POST", "/payment-query", "")
		ok(201, "POST", "/refunds", `{"reason":"x"}`, headerKey, "r")
		ok(200, "GET", "/refunds", "")
	})
}

// A full queue must not read as sold out: it is 503, and when to come again.
func TestQueueIsFullOverHTTP(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		s.line.Full(8 * time.Second)
		rec := s.post(t, "c", "k", oneOf1001)
		p := wantProblem(t, rec, 503, CodeStockNotReady)
		if after, _ := strconv.Atoi(rec.Header().Get("Retry-After")); !p.Retryable || after < 8 || after > 10 {
			t.Errorf("Retry-After %d: %+v", after, p)
		}
	})
}

// While the queue cannot be asked nobody who waits in it may be told that there is nothing.
func TestQueueIsAwayOverHTTP(t *testing.T) {
	eachQueueShop(t, func(t *testing.T, s *queueShop) {
		no := queuedOf(t, s.post(t, "c", "k", oneOf1001), 202).OrderNo
		s.line.Away(gate.ErrQueueAway)
		wantProblem(t, s.ask(t, "c", "GET", "/v1/orders/"+no, ""), 503, CodeMaintenance)
		wantProblem(t, s.ask(t, "c", "POST", "/v1/orders/"+no+"/cancel", ""), 503, CodeMaintenance)
	})
}
