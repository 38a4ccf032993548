package orderhttp

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

// The answer of a placement is what clients are written against, word by word.
func TestPlacementAnswer(t *testing.T) {
	w := newWorld(t)
	var got order.Placement
	w.placed = func(p order.Placement) (order.Placed, error) {
		got = p
		o := pendingOrder()
		o.Remark, o.Attach = p.Remark, p.Attach
		return order.Placed{Order: o}, nil
	}
	rec := w.ask(t, "POST", "/v1/orders",
		`{"items":[{"sku_id":"1001","quantity":2}],"expected_total":{"total":29800,"currency":"CNY"},`+
			`"remark":"a\tb 请","attach":"shop-7"}`,
		headerRequestID, "req-1")
	want := `{"order_no":"01JD4ZABCDEFGHJKMNPQRSTVWX","state":"pending","version":1,"amount":{"total":29800,` +
		`"currency":"CNY"},` +
		`"items":[{"sku_id":"1001","quantity":2,"unit_price":14900}],"remark":"a\tb 请","attach":"shop-7",` +
		`"created_at":"2026-11-20T13:42:05.120Z","time_expire":"2026-11-20T14:12:06Z","expires_in_seconds":1800,` +
		`"payment":null,"refunds":[],"close_reason":null}`
	if rec.Code != 201 || strings.TrimSpace(rec.Body.String()) != want {
		t.Errorf("%d\n%s\nwant\n%s", rec.Code, rec.Body, want)
	}
	for name, value := range map[string]string{"Location": "/v1/orders/" + someOrder, "ETag": `"v1"`,
		"Cache-Control": "no-store",
		headerRequestID: "req-1", headerReplayed: "", "Content-Type": "application/json"} {
		if rec.Header().Get(name) != value {
			t.Errorf("%s: %q", name, rec.Header().Get(name))
		}
	}
	total := payment.Fen(29800)
	if want := (order.Placement{CustomerID: "c1", RequestID: "k1", Lines: []stock.Line{{SkuID: "1001", Quantity: 2}},
		ExpectedTotal: &total,
		Remark:        "a\tb 请", Attach: "shop-7", Cause: "req-1"}); !reflect.DeepEqual(got, want) {
		t.Errorf("placed %+v", got)
	}
}

// A repeat that gets other bytes, an hour later, makes a client believe in a second order.
func TestReplayIsByteIdentical(t *testing.T) {
	w := newWorld(t)
	replayed := false
	w.placed = func(order.Placement) (order.Placed, error) {
		return order.Placed{Order: pendingOrder(), Replayed: replayed}, nil
	}
	first := w.ask(t, "POST", "/v1/orders", goodBody)
	replayed = true
	w.clock.advance(10 * time.Minute)
	second := w.ask(t, "POST", "/v1/orders", goodBody)
	if first.Code != second.Code || first.Body.String() != second.Body.String() {
		t.Errorf("%d %s\n%d %s", first.Code, first.Body, second.Code, second.Body)
	}
	if first.Header().Get(headerReplayed) != "" || second.Header().Get(headerReplayed) != "true" {
		t.Errorf("replayed: %q, %q", first.Header().Get(headerReplayed), second.Header().Get(headerReplayed))
	}
}

// Without a key a repeated request is a second order.
func TestIdempotencyKeys(t *testing.T) {
	for key, want := range map[string]string{
		"abc": "abc", `"abc"`: "abc", "A_b-9": "A_b-9", strings.Repeat("k", 64): strings.Repeat("k", 64),
		"": "", `""`: "", `"`: "", "a b": "", "a.b": "", "ключ": "", "a\x00": "", strings.Repeat("k", 65): "", `"a`: "",
		"a,b": "",
	} {
		w := newWorld(t)
		var got string
		w.placed = func(p order.Placement) (order.Placed, error) {
			got = p.RequestID
			return order.Placed{Order: pendingOrder()}, nil
		}
		rec := w.ask(t, "POST", "/v1/orders", goodBody, headerKey, key)
		if want == "" {
			wantProblem(t, rec, 400, CodeKeyRequired)
		} else if rec.Code != 201 || got != want {
			t.Errorf("%q: %d, placed under %q", key, rec.Code, got)
		}
	}
	w := newWorld(t)
	r := httptest.NewRequest("POST", "/v1/orders", strings.NewReader(goodBody))
	r.Header.Set("Authorization", "Bearer "+token(t, "c1", epoch))
	r.Header[headerKey] = []string{"a", "b"}
	rec := httptest.NewRecorder()
	w.echo.ServeHTTP(rec, r)
	wantProblem(t, rec, 400, CodeKeyRequired)
}

// What is not exactly a placement must not become one: nothing is called.
func TestBodiesThatCannotBeRead(t *testing.T) {
	for body, pointers := range map[string]string{
		``: "", `{`: "", `null`: "#", `[]`: "#", `"x"`: "#", `7`: "#", goodBody + goodBody: "", goodBody + "x": "",
		"\xff": "",
		`{"items":[{"sku_id":"1001","quantity":1,}]}`:                       "",
		`{"items":[{"sku_id":"\xff","quantity":1}]}`:                        "",
		`{"items":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`: "",
		`{"items":null}`: "#/items",
		`{"items":{}}`:   "#/items",
		`{"items":[7]}`:  "#/items/0",
		`{"items":[{"sku_id":1001,"quantity":"1"}]}`: "#/items/0/sku_id " +
			"#/items/0/quantity",
		`{"items":[{"sku_id":"1001","quantity":1.5}]}`:                            "#/items/0/quantity",
		`{"items":[{"sku_id":"1001","quantity":1e2}]}`:                            "#/items/0/quantity",
		`{"items":[{"sku_id":"1001","quantity":99999999999999999999}]}`:           "#/items/0/quantity",
		`{"items":[{"sku_id":"1001","quantity":null}]}`:                           "#/items/0/quantity",
		`{"items":[{"sku_id":"1001","quantity":1,"quantity":2}]}`:                 "#/items/0/quantity",
		`{"items":[{"sku_id":"1001","quantity":1,"quan\u0074ity":2}]}`:            "#/items/0/quantity",
		`{"Items":[{"sku_id":"1001","quantity":1}]}`:                              "#/Items",
		`{"items":[{"sku_id":"1001","quantity":1}],"a/b~c":{"x":[1,"]",{}]}}`:     "#/a~1b~0c",
		`{"items":[{"sku_id":"1001","quantity":1,"unit_price":1}],"total":1}`:     "#/items/0/unit_price #/total",
		`{"items":[{"sku_id":"1001","quantity":1}],"customer_id":"c2"}`:           "#/customer_id",
		`{"items":[{"sku_id":"1001","quantity":1}],"state":"paid"}`:               "#/state",
		`{"items":[{"sku_id":"1001","quantity":1}],"order_no":"1","version":1}`:   "#/order_no #/version",
		`{"items":[{"sku_id":"1001","quantity":1}],"expected_total":1}`:           "#/expected_total",
		`{"items":[{"sku_id":"1001","quantity":1}],"request_id":"x","cause":"y"}`: "#/request_id #/cause",
		`{"items":[{"sku_id":"1001","quantity":1}],"remark":7,"attach":true}`:     "#/remark #/attach",
	} {
		w := newWorld(t)
		p := wantProblem(t, w.ask(t, "POST", "/v1/orders", body), 400, CodeMalformed)
		var got []string
		for _, e := range p.Errors {
			got = append(got, e.Pointer)
		}
		if strings.Join(got, " ") != pointers {
			t.Errorf("%s\npoints at %v, want %s", body, got, pointers)
		}
		if w.count() > 0 {
			t.Errorf("%s called %v", body, w.calls)
		}
	}
}

// A client that learns of one mistake at a time needs as many rounds as it made mistakes.
func TestValuesThatAreNotAllowed(t *testing.T) {
	line := `{"sku_id":"1001","quantity":1}`
	for body, pointers := range map[string]string{
		`{}`:           "#/items",
		`{"items":[]}`: "#/items",
		`{"items":[` + strings.Repeat(line+",", int(bounds.Lines.Most)) + line + `]}`: "#/items",
		`{"items":[` + strings.Repeat(line+",", 500) + line + `]}`:                    "#/items",
		`{"items":[{}]}`:                "#/items/0/sku_id #/items/0/quantity",
		`{"items":[{"sku_id":"1001"}]}`: "#/items/0/quantity",
		`{"items":[{"quantity":1}]}`:    "#/items/0/sku_id",
		`{"items":[{"sku_id":"1001 ","quantity":0},{"sku_id":"` + strings.Repeat("1",
			65) + `","quantity":-1},{"sku_id":"a'b","quantity":10001}]}`: "#/items/0/sku_id #/items/0/quantity " +
			"#/items/1/sku_id #/items/1/quantity #/items/2/sku_id #/items/2/quantity",
		`{"items":[` + line +
			`],"expected_total":{"total":-1,"currency":"USD"}}`: "#/expected_total/total #/expected_total/currency",
		`{"items":[` + line +
			`],"expected_total":{}}`: "#/expected_total/total",
		`{"items":[` + line + `],"remark":"` + strings.Repeat("请",
			201) + `","attach":"a\nb"}`: "#/remark #/attach",
		`{"items":[` + line + `],"remark":"a\u0000b","attach":"` + strings.Repeat("x",
			129) + `"}`: "#/remark #/attach",
	} {
		w := newWorld(t)
		p := wantProblem(t, w.ask(t, "POST", "/v1/orders", body), 422, CodeValidation)
		var got []string
		for _, e := range p.Errors {
			got = append(got, e.Pointer)
			if e.Code == "" || e.Detail == "" {
				t.Errorf("%s: %+v", body, e)
			}
		}
		if strings.Join(got, " ") != pointers {
			t.Errorf("%.200s\npoints at %v, want %s", body, got, pointers)
		}
		if w.count() > 0 {
			t.Errorf("%.200s called %v", body, w.calls)
		}
	}
}

// A large body must be refused before it is in memory, a compressed one before it unfolds.
func TestBodiesThatAreNotLookedAt(t *testing.T) {
	big := `{"items":[],"remark":"` + strings.Repeat("x", maxBody) + `"}`
	w := newWorld(t)
	wantProblem(t, w.ask(t, "POST", "/v1/orders", big), 413, CodeBodyTooLarge)
	// of unknown length
	r := httptest.NewRequest("POST", "/v1/orders", struct{ *strings.Reader }{strings.NewReader(big)})
	r.ContentLength = -1
	r.Header.Set("Authorization", "Bearer "+token(t, "c1", epoch))
	r.Header.Set(headerKey, "k")
	rec := httptest.NewRecorder()
	w.echo.ServeHTTP(rec, r)
	wantProblem(t, rec, 413, CodeBodyTooLarge)

	for _, typ := range []string{"text/plain", "application/xml", "multipart/form-data; boundary=x",
		"application/json; charset=gbk", "x/", "application/merge-patch+json"} {
		wantProblem(t, w.ask(t, "POST", "/v1/orders", goodBody, "Content-Type", typ), 415, CodeUnsupportedMedia)
	}
	wantProblem(t, w.ask(t, "POST", "/v1/orders", goodBody, "Content-Encoding", "gzip"), 415, CodeUnsupportedMedia)
	if w.count() > 0 {
		t.Errorf("called %v", w.calls)
	}
	w.placed = func(order.Placement) (order.Placed, error) { return order.Placed{Order: pendingOrder()}, nil }
	for _, typ := range []string{"application/json", "application/json; charset=UTF-8",
		"application/x-www-form-urlencoded", ""} {
		if rec := w.ask(t, "POST", "/v1/orders", goodBody, "Content-Type", typ); rec.Code != 201 {
			t.Errorf("%q: %d %s", typ, rec.Code, rec.Body)
		}
	}
}

// A customer who hammers must not take the service from the others.
func TestLimitsPerCustomer(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Place = Rate{Every: 2 * time.Second, Burst: 3} })
	w.placed = func(order.Placement) (order.Placed, error) { return order.Placed{Order: pendingOrder()}, nil }
	for i := range 3 {
		if rec := w.ask(t, "POST", "/v1/orders", goodBody); rec.Code != 201 {
			t.Fatalf("placement %d: %d", i, rec.Code)
		}
	}
	rec := w.ask(t, "POST", "/v1/orders", goodBody)
	wantProblem(t, rec, 429, CodeRateLimited)
	wait, err := strconv.Atoi(rec.Header().Get("Retry-After"))
	if err != nil || wait != 2 {
		t.Errorf("Retry-After %q", rec.Header().Get("Retry-After"))
	}
	if rec := w.ask(t, "POST", "/v1/orders", goodBody, "Authorization",
		"Bearer "+token(t, "c2", epoch)); rec.Code != 201 {
		t.Errorf("another customer: %d", rec.Code)
	}
	if w.count() != 4 {
		t.Errorf("called %d times", w.count())
	}
	w.clock.advance(time.Duration(wait) * time.Second)
	if rec := w.ask(t, "POST", "/v1/orders", goodBody); rec.Code != 201 {
		t.Errorf("after Retry-After: %d", rec.Code)
	}
}

// Requests for refunds cost finance its time: they are limited as payments are.
func TestRefundsAreLimited(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Pay = Rate{Every: time.Minute, Burst: 1} })
	w.asked = func(order.AskRefund) (order.AskedRefund, error) {
		return order.AskedRefund{Refund: order.Refund{OutRefundNo: "R1", State: order.RefundStatePending,
			Reason: order.ReasonAftersale}}, nil
	}
	ask := func() *httptest.ResponseRecorder {
		return w.ask(t, "POST", "/v1/orders/"+someOrder+"/refunds", `{"reason":"x"}`, headerKey, "k")
	}
	if rec := ask(); rec.Code != 201 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	wantProblem(t, ask(), 429, CodeRateLimited)
}

// A limiter that remembers everybody for ever is a leak; one that forgets the busy is none.
func TestLimiterForgetsTheOldest(t *testing.T) {
	now := epoch
	l := newLimiter(Rate{Every: time.Minute, Burst: 1}, func() time.Time { return now })
	for i := range 3 * maxTracked {
		if l.take(strconv.Itoa(i)) != 0 {
			t.Fatalf("key %d is limited at its first call", i)
		}
		if len(l.young) > maxTracked || len(l.old) > maxTracked {
			t.Fatalf("%d and %d keys are remembered", len(l.young), len(l.old))
		}
	}
	if l.take(strconv.Itoa(3*maxTracked-1)) != time.Minute || l.take(strconv.Itoa(2*maxTracked-1)) != time.Minute {
		t.Error("a recent key was forgotten")
	}
}

// Whatever the decoder accepts, encoding/json must read the same way; else two
// programs on the way disagree about what was ordered.
func FuzzDecodePlacement(f *testing.F) {
	for _, seed := range []string{goodBody,
		`{"items":[{"sku_id":"a","quantity":1}],"expected_total":{"total":1,"currency":"CNY"},"remark":"\u8bf7\n",` +
			`"attach":"\"\\"}`,
		` { "items" : [ { "quantity" : 3 , "sku_id" : "A:b" } , {"sku_id":"x","quantity":1} ] } `,
		`{"items":[{"a":[{"b":"]}"},1.5e3,true,null]}]}`,
		`{"a":1,"b":{"c":[]},"items":[]}`, `[1,2]`, `{"items":[[[[[[[[[[]]]]]]]]]]}`, `{"":0}`,
		`{"items":[{"sku_id":"1","quantity":-0}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodePlacement(body)
		if err != nil {
			if f := failureOf(err); f.Code != CodeMalformed && f.Code != CodeValidation {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var plain struct {
			Items []struct {
				SkuID    string `json:"sku_id"`
				Quantity int64  `json:"quantity"`
			} `json:"items"`
			Expected *struct {
				Total    payment.Fen `json:"total"`
				Currency string      `json:"currency"`
			} `json:"expected_total"`
			Remark string `json:"remark"`
			Attach string `json:"attach"`
		}
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(&plain); err != nil {
			t.Fatalf("%q is accepted, encoding/json says %v", body, err)
		}
		same := len(plain.Items) == len(p.Lines) && plain.Remark == p.Remark && plain.Attach == p.Attach &&
			(plain.Expected == nil) == (p.ExpectedTotal == nil) &&
			(p.ExpectedTotal == nil || plain.Expected.Total == *p.ExpectedTotal)
		for i := range min(len(p.Lines), len(plain.Items)) {
			same = same && plain.Items[i].SkuID == p.Lines[i].SkuID && plain.Items[i].Quantity == p.Lines[i].Quantity
		}
		if !same {
			t.Fatalf("%q: %+v, encoding/json reads %+v", body, p, plain)
		}
	})
}

// What the decoder of refunds accepts, encoding/json must read the same way: the amount goes to the bank.
func FuzzDecodeRefund(f *testing.F) {
	for _, seed := range []string{`{"reason":"x"}`,
		`{"items":[{"sku_id":"a","quantity":1}],"amount":{"refund":5,"currency":"CNY"},` +
			`"reason":"\u8bf7"}`,
		`{"restock":null,"reason":"x"}`, `{"amount":{},"reason":"x"}`, `{"amount":5,"reason":"x"}`,
		`{"reason":"x","reason":"y"}`, `{"reason":" "}`, `{"Reason":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ask, err := decodeRefund(body)
		if err != nil {
			if f := failureOf(err); f.Code != CodeMalformed && f.Code != CodeValidation {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var plain struct {
			Items []struct {
				SkuID    string `json:"sku_id"`
				Quantity int64  `json:"quantity"`
			} `json:"items"`
			Amount *struct {
				Refund   payment.Fen `json:"refund"`
				Currency string      `json:"currency"`
			} `json:"amount"`
			Reason string `json:"reason"`
		}
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(&plain); err != nil {
			t.Fatalf("%q is accepted, encoding/json says %v", body, err)
		}
		same := len(plain.Items) == len(ask.Lines) && plain.Reason == ask.Reason &&
			!ask.Restock && !ask.NoRestock && // the shop's word
			(plain.Amount == nil) == (ask.Amount == nil) && (ask.Amount == nil || plain.Amount.Refund == *ask.Amount)
		for i := range min(len(ask.Lines), len(plain.Items)) {
			same = same && plain.Items[i].SkuID == ask.Lines[i].SkuID &&
				plain.Items[i].Quantity == ask.Lines[i].Quantity
		}
		if !same {
			t.Fatalf("%q: %+v, encoding/json reads %+v", body, ask, plain)
		}
	})
}

// BenchmarkPlace is what HTTP costs around a placement: token, key, JSON, chain.
func BenchmarkPlace(b *testing.B) {
	w := newWorld(b, func(o *Options) { o.Limits = Limits{Place: Rate{Burst: -1}} })
	w.placed = func(order.Placement) (order.Placed, error) { return order.Placed{Order: pendingOrder()}, nil }
	authorization := "Bearer " + token(b, "c1", epoch)
	b.ReportAllocs()
	for b.Loop() {
		w.calls = w.calls[:0]
		r := httptest.NewRequest("POST", "/v1/orders", strings.NewReader(goodBody))
		r.Header = http.Header{"Authorization": {authorization}, headerKey: {"k"}, "Content-Type": {"application/json"}}
		rec := httptest.NewRecorder()
		w.echo.ServeHTTP(rec, r)
		if rec.Code != 201 {
			b.Fatal(rec.Code, rec.Body)
		}
	}
}
