package wechat

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

const testRefundNo = "01JD4ZKX0000000000000000AB-R01"

func testRefund() payment.RefundRequest {
	return payment.RefundRequest{OutRefundNo: testRefundNo, TransactionID: "4200001234202611201234567890",
		Amount: 100, Total: 39800,
		Reason: "尺码不合", NotifyURL: "https://pay.example.com/wechat/v3/notify/refund"}
}

// refundBody is a refund as WeChat prints it, with fields changed or (nil) removed.
func refundBody(change map[string]any) string {
	m := map[string]any{
		"refund_id": "50000000382019052709732678859", "out_refund_no": testRefundNo,
		"transaction_id": "4200001234202611201234567890", "out_trade_no": testNo, "channel": "ORIGINAL",
		"user_received_account": "canary card 0403", "create_time": "2026-11-21T10:34:56+08:00",
		"status": "PROCESSING", "funds_account": "UNSETTLED", "promotion_detail": []any{}, "next_year": 1,
		"amount": map[string]any{"total": 39800, "refund": 100, "payer_total": 39700, "payer_refund": 99,
			"currency": "CNY", "from": []any{}},
	}
	for k, v := range change {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func amount(refund, total int) map[string]any {
	return map[string]any{"refund": refund, "total": total}
}

// An answer read wrongly pays twice or never: each that WeChat can give, and each that it cannot, has its meaning.
func TestRefundAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		reply  reply
		status payment.RefundStatus // "": an error of this kind
		kind   payment.Kind
		code   string
	}{
		"processing": {reply{status: 200, body: refundBody(nil)}, payment.RefundProcessing, 0, ""},
		"success": {reply{status: 200, body: refundBody(map[string]any{"status": "SUCCESS",
			"success_time": "2026-11-21T10:35:00+08:00"})}, payment.RefundSuccess, 0, ""},
		"closed": {reply{status: 200, body: refundBody(map[string]any{"status": "CLOSED"})},
			payment.RefundClosed, 0, ""},
		"abnormal": {reply{status: 200, body: refundBody(map[string]any{"status": "ABNORMAL"})},
			payment.RefundAbnormal, 0, ""},
		"a new status": {reply{status: 200, body: refundBody(map[string]any{"status": "PARTLY"})}, "", unknown, ""},
		"our own word": {reply{status: 200, body: refundBody(map[string]any{"status": "NOTFOUND"})}, "", unknown, ""},
		"unsigned":     {reply{status: 200, body: refundBody(nil), unsigned: true}, "", unknown, ""},
		"old":          {reply{status: 200, body: refundBody(nil), age: 10 * time.Minute}, "", unknown, ""},
		"a stranger's": {reply{status: 200, body: refundBody(nil), key: theWorld().stranger}, "", unknown, ""},
		"about another refund": {reply{status: 200, body: refundBody(map[string]any{"out_refund_no": "R2"})}, "",
			unknown, ""},
		"about another payment": {reply{status: 200, body: refundBody(map[string]any{"transaction_id": "4299"})}, "",
			unknown, ""},
		"another amount": {reply{status: 200, body: refundBody(map[string]any{"amount": amount(101, 39800)})},
			"", unknown, ""},
		"another total": {reply{status: 200, body: refundBody(map[string]any{"amount": amount(100, 39801)})},
			"", unknown, ""},
		"no total": {reply{status: 200, body: refundBody(map[string]any{"amount": map[string]any{"refund": 100}})},
			payment.RefundProcessing, 0, ""},
		"no amount": {reply{status: 200, body: refundBody(map[string]any{"amount": nil})}, "", unknown, ""},
		"another currency": {reply{status: 200,
			body: refundBody(map[string]any{"amount": map[string]any{"refund": 100, "total": 39800,
				"currency": "USD"}})}, "", unknown, ""},
		"no refund id": {reply{status: 200, body: refundBody(map[string]any{"refund_id": nil})}, "", unknown, ""},
		"a broken time": {reply{status: 200, body: refundBody(map[string]any{"create_time": "yesterday"})},
			"", unknown, ""},
		"cut":                  {reply{cut: true}, "", unknown, ""},
		"half an answer":       {reply{status: 200, body: refundBody(nil), short: true}, "", unknown, ""},
		"202":                  {reply{status: 202, body: body("USERPAYING")}, "", payment.KindUserPaying, ""},
		"204":                  {reply{status: 204}, "", unknown, ""},
		"not enough":           {reply{status: 403, body: body("NOT_ENOUGH")}, "", payment.KindRejected, "NOT_ENOUGH"},
		"not enough, old word": {reply{status: 403, body: body("NOTENOUGH")}, "", payment.KindRejected, "NOTENOUGH"},
		"not enough, forged":   {reply{status: 403, body: body("NOT_ENOUGH"), unsigned: true}, "", unknown, ""},
		"account abnormal": {reply{status: 403, body: body("USER_ACCOUNT_ABNORMAL")}, "", payment.KindRejected,
			"USER_ACCOUNT_ABNORMAL"},
		"invalid": {reply{status: 400, body: body("INVALID_REQUEST")}, "", payment.KindRejected, "INVALID_REQUEST"},
		"no such order": {reply{status: 404, body: body("RESOURCE_NOT_EXISTS")}, "", payment.KindRejected,
			"RESOURCE_NOT_EXISTS"},
		"no reason": {reply{status: 400, body: "{}"}, "", unknown, ""},
		"no auth":   {reply{status: 403, body: body("NO_AUTH")}, "", payment.KindMisconfigured, "NO_AUTH"},
		"sign error": {reply{status: 401, body: body("SIGN_ERROR"), unsigned: true}, "",
			payment.KindMisconfigured, "SIGN_ERROR"},
		"too fast": {reply{status: 429, body: body("FREQUENCY_LIMITED")}, "", payment.KindRateLimited,
			"FREQUENCY_LIMITED"},
		"too fast, 400": {reply{status: 400, body: body("FREQUENCY_LIMITED")}, "", payment.KindRateLimited,
			"FREQUENCY_LIMITED"},
		"retry":        {reply{status: 500, body: body("BIZ_ERR_NEED_RETRY")}, "", unknown, "BIZ_ERR_NEED_RETRY"},
		"retry, 400":   {reply{status: 400, body: body("BIZ_ERR_NEED_RETRY")}, "", unknown, "BIZ_ERR_NEED_RETRY"},
		"system error": {reply{status: 500, body: body("SYSTEM_ERROR")}, "", unknown, "SYSTEM_ERROR"},
		"a web page":   {reply{status: 502, body: "<html>canary</html>", unsigned: true}, "", unknown, ""},
	} {
		g, s := against(t, c.reply)
		got, err := g.Refund(t.Context(), testRefund())
		if c.status != "" {
			if err != nil || got.Status != c.status || got.Amount != 100 || got.RefundID == "" ||
				got.CreateTime.IsZero() || got.RequestID == "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		} else {
			var e *payment.GatewayError
			if !errors.As(err, &e) || e.Kind != c.kind || e.Code != c.code || e.Op != "refund" ||
				got != (payment.Refund{}) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			noCanary(t, name, everyText(err))
		}
		if n := len(s.requests()); n != 1 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// A repeat must be the same bytes, or WeChat refuses it as another request.
func TestRefundRequestIsTheSameEveryTime(t *testing.T) {
	g, s := against(t, reply{status: 200, body: refundBody(nil)})
	for range 3 {
		if _, err := g.Refund(t.Context(), testRefund()); err != nil {
			t.Fatal(err)
		}
	}
	all := s.requests()
	want := `{"amount":{"currency":"CNY","refund":100,"total":39800},` +
		`"notify_url":"https://pay.example.com/wechat/v3/notify/refund","out_refund_no":"` + testRefundNo +
		`","reason":"尺码不合","transaction_id":"4200001234202611201234567890"}`
	for _, r := range all {
		if r.method != http.MethodPost || r.uri != "/v3/refund/domestic/refunds" ||
			strings.TrimSpace(string(r.body)) != want {
			t.Errorf("%s %s %s", r.method, r.uri, r.body)
		}
	}
	for name, change := range map[string]func(*payment.RefundRequest){
		"number":      func(q *payment.RefundRequest) { q.OutRefundNo = "a/../b" },
		"transaction": func(q *payment.RefundRequest) { q.TransactionID = "" },
		"zero":        func(q *payment.RefundRequest) { q.Amount = 0 },
		"above":       func(q *payment.RefundRequest) { q.Amount = q.Total + 1 },
		"reason":      func(q *payment.RefundRequest) { q.Reason = strings.Repeat("长", 27) },
		"query":       func(q *payment.RefundRequest) { q.NotifyURL += "?a=1" },
	} {
		q := testRefund()
		change(&q)
		if _, err := g.Refund(t.Context(), q); payment.KindOf(err) != payment.KindRejected {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.requests()); n != len(all) {
		t.Errorf("%d bad requests were sent", n-len(all))
	}
	real := mustNew(t, testConfig()) // against WeChat itself, which can reach public addresses only
	for _, u := range []string{"http://pay.example.com/n", "https://localhost/n", "https://10.0.0.1/n"} {
		q := testRefund()
		q.NotifyURL = u
		if _, err := real.Refund(t.Context(), q); payment.KindOf(err) != payment.KindRejected {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// "Not found" is believed only signed and with its status: it frees a refund for a person to give up.
func TestRefundQueryAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		reply  reply
		status payment.RefundStatus
		kind   payment.Kind
	}{
		"success": {reply{status: 200, body: refundBody(map[string]any{"status": "SUCCESS"})},
			payment.RefundSuccess, 0},
		"not found":        {reply{status: 404, body: body("RESOURCE_NOT_EXISTS")}, payment.RefundNotFound, 0},
		"forged not found": {reply{status: 404, body: body("RESOURCE_NOT_EXISTS"), unsigned: true}, "", unknown},
		"contradiction":    {reply{status: 400, body: body("RESOURCE_NOT_EXISTS")}, "", unknown},
		"another refund":   {reply{status: 200, body: refundBody(map[string]any{"out_refund_no": "R2"})}, "", unknown},
		"bare 404":         {reply{status: 404, body: "<html>"}, "", unknown},
		"500":              {reply{status: 500, body: body("SYSTEM_ERROR")}, "", unknown},
	} {
		g, s := against(t, c.reply)
		got, err := g.QueryRefund(t.Context(), testRefundNo)
		if c.status != "" && (err != nil || got.Status != c.status || got.OutRefundNo != testRefundNo) ||
			c.status == "" && payment.KindOf(err) != c.kind {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if r := s.requests()[0]; r.uri != "/v3/refund/domestic/refunds/"+testRefundNo {
			t.Errorf("%s: asked %s", name, r.uri)
		}
	}
}

// refundNotice is a refund notification before it is signed.
func refundNotice(event string, change map[string]any) string {
	plain := map[string]any{"mchid": "1900007291", "status": nil, "create_time": nil, "refund_status": "SUCCESS",
		"success_time": "2026-11-21T10:35:00+08:00"}
	for k, v := range change {
		plain[k] = v
	}
	text := refundBody(plain)
	return notice(text, func(top, res map[string]any) {
		top["event_type"] = event
		res["original_type"], res["associated_data"], res["ciphertext"] = "refund", "refund",
			seal(text, "fdasfjihihih", "refund")
	})
}

// Without this no refund would end by callback, or a wrong one would.
func TestRefundNotification(t *testing.T) {
	g := mustNew(t, testConfig())
	for event, status := range map[string]payment.RefundStatus{eventRefunded: payment.RefundSuccess,
		eventAbnormal: payment.RefundAbnormal, eventClosed: payment.RefundClosed} {
		n := refundNotice(event, map[string]any{"refund_status": string(status)})
		got, err := g.ParseRefund(signedHeader(n), []byte(n))
		if err != nil || got.Refund.Status != status || got.Refund.Amount != 100 || got.Refund.Total != 39800 ||
			got.Refund.MchID != "1900007291" ||
			got.Refund.OutRefundNo != testRefundNo || got.Refund.SuccessTime.IsZero() || got.ID == "" {
			t.Errorf("%s: %+v, %v", event, got, err)
		}
	}
	for name, n := range map[string]string{
		"event against status": refundNotice(eventRefunded, map[string]any{"refund_status": "CLOSED"}),
		"a payment":            notice(tradeBody(nil), nil),
		"a payment's event":    refundNotice(eventPaid, nil),
		"processing":           refundNotice(eventRefunded, map[string]any{"refund_status": "PROCESSING"}),
		"no merchant":          refundNotice(eventRefunded, map[string]any{"mchid": nil}),
		"amount as text":       refundNotice(eventRefunded, map[string]any{"amount": map[string]any{"refund": "100"}}),
		"a path as number":     refundNotice(eventRefunded, map[string]any{"out_refund_no": "a/b"}),
		"not JSON":             "canary",
	} {
		_, err := g.ParseRefund(signedHeader(n), []byte(n))
		if !errors.Is(err, payment.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		noCanary(t, name, everyText(err))
	}
	n := refundNotice(eventRefunded, nil)
	if _, err := g.ParseNotification(signedHeader(n), []byte(n)); !errors.Is(err, payment.ErrMalformed) {
		t.Errorf("a refund taken for a payment: %v", err)
	}
}

// One flipped bit that is accepted would let a forger end a refund.
func TestEveryFlippedBitOfARefundIsRefused(t *testing.T) {
	g := mustNew(t, testConfig())
	body := []byte(refundNotice(eventRefunded, nil))
	header := signedHeader(string(body))
	if _, err := g.ParseRefund(header, body); err != nil {
		t.Fatal(err)
	}
	for bit := range len(body) * 8 {
		if _, err := g.ParseRefund(header, []byte(flipped(body, bit))); !errors.Is(err, payment.ErrBadSignature) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	signature := []byte(header.Get(headerSignature))
	for bit := range len(signature) * 8 {
		h := header.Clone()
		h.Set(headerSignature, flipped(signature, bit))
		if _, err := g.ParseRefund(h, body); !errors.Is(err, payment.ErrBadSignature) {
			t.Fatalf("bit %d of the signature: %v", bit, err)
		}
	}
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil || z.Close() != nil {
		panic(err)
	}
	return out.Bytes()
}

func sha1Hex(b []byte) string { s := sha1.Sum(b); return hex.EncodeToString(s[:]) }

// billSham answers the application with a signed address and the download with a file.
func billSham(t *testing.T, apply reply, file func(w http.ResponseWriter, r *http.Request)) (*Gateway, *[]string) {
	t.Helper()
	s := newSham(t, func(seen) reply { return apply })
	var asked []string
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		if strings.HasPrefix(r.URL.Path, "/v3/bill/") && r.URL.Path != "/v3/bill/downloadurl" {
			inner.ServeHTTP(w, r)
			return
		}
		parts := strings.Split(r.Header.Get("Authorization"), `"`)
		if len(parts) < 10 || !rsaVerifies(&theWorld().merchant.PublicKey,
			r.Method+"\n"+r.RequestURI+"\n"+parts[5]+"\n"+parts[3]+"\n\n", parts[9]) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		file(w, r)
	})
	c := testConfig()
	c.BaseURL = s.URL
	return mustNew(t, c), &asked
}

func applied(hash, address string) reply {
	return reply{status: 200, body: fmt.Sprintf(`{"hash_type":"SHA1","hash_value":%q,"download_url":%q}`, hash,
		address)}
}

const billAddress = "https://api.mch.weixin.qq.com/v3/billdownload/file?token=abc.com%2Bx&tartype=gzip"

// gopay cuts a bill at 10 MiB, believes any host and checks no hash. Whole or an error, nothing between.
func TestFetchBillWholeOrNotAtAll(t *testing.T) {
	large := bytes.Repeat([]byte("`2026-11-20 13:42:05,`4200…,`149.00\r\n"), 400_000) // 15 MB
	packed := gzipped(large)
	send := func(b []byte) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	for name, c := range map[string]struct {
		apply reply
		file  func(http.ResponseWriter, *http.Request)
		want  error // nil: whole
		kind  payment.Kind
	}{
		"15 MB, gzip":  {applied(sha1Hex(large), billAddress), send(packed), nil, 0},
		"15 MB, plain": {applied(strings.ToUpper(sha1Hex(large)), billAddress), send(large), nil, 0},
		"another hash": {applied(sha1Hex([]byte("x")), billAddress), send(packed), payment.ErrBillDamaged, 0},
		"cut gzip":     {applied(sha1Hex(large), billAddress), send(packed[:len(packed)/2]), payment.ErrBillDamaged, 0},
		"cut plain":    {applied(sha1Hex(large), billAddress), send(large[:len(large)/2]), payment.ErrBillDamaged, 0},
		"broken gzip": {applied(sha1Hex(large), billAddress), send(append([]byte{0x1f, 0x8b}, "canary"...)),
			payment.ErrBillDamaged, 0},
		"empty": {applied(sha1Hex(large), billAddress), send(nil), payment.ErrBillDamaged, 0},
		"a bomb": {applied(sha1Hex(large), billAddress), send(gzipped(make([]byte, 64<<20))),
			payment.ErrBillDamaged, 0},
		"a web page": {applied(sha1Hex(large), billAddress), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<html>canary")
		}, payment.ErrBillDamaged, 0},
		"a token that is over": {applied(sha1Hex(large), billAddress), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, body("INVALID_REQUEST"))
		}, nil, unknown},
		"a redirect": {applied(sha1Hex(large), billAddress), func(w http.ResponseWriter,
			r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, nil, unknown},
		"cut in the middle": {applied(sha1Hex(large), billAddress), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999999")
			_, _ = w.Write(packed[:1000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, payment.ErrBillDamaged, 0},
		"a foreign path": {applied(sha1Hex(large),
			"https://api.mch.weixin.qq.com/v3/pay/transactions/x?token=1"), send(packed), nil, unknown},
		"no hash": {applied("", billAddress), send(packed), nil, unknown},
		"unsigned application": {reply{status: 200, body: applied(sha1Hex(large), billAddress).body,
			unsigned: true}, send(packed), nil, unknown},
		"nothing on that day":  {reply{status: 400, body: body("NO_STATEMENT_EXIST")}, nil, payment.ErrNoBill, 0},
		"nothing, another way": {reply{status: 404, body: body("NO_STATEMENT_EXIST")}, nil, payment.ErrNoBill, 0},
		"nothing, forged": {reply{status: 400, body: body("NO_STATEMENT_EXIST"), unsigned: true}, nil, nil,
			unknown},
		"nothing, a failure":  {reply{status: 500, body: body("NO_STATEMENT_EXIST")}, nil, nil, unknown},
		"not made, a failure": {reply{status: 502, body: body("STATEMENT_CREATING")}, nil, nil, unknown},
		"not made yet": {reply{status: 400, body: body("STATEMENT_CREATING")}, nil, payment.ErrBillNotReady,
			0},
		"no permission":          {reply{status: 403, body: body("NO_AUTH")}, nil, nil, payment.KindMisconfigured},
		"WeChat's system failed": {reply{status: 500, body: body("SYSTEM_ERROR")}, nil, nil, unknown},
	} {
		g, asked := billSham(t, c.apply, c.file)
		var got bytes.Buffer
		b, err := g.FetchBill(t.Context(), "2026-11-20", payment.BillAll, &got)
		switch {
		case c.kind != 0:
			// KindOf gives any other error KindUnknown
			if !errors.As(err, new(*payment.GatewayError)) || payment.KindOf(err) != c.kind {
				t.Errorf("%s: %v", name, err)
			}
		case c.want != nil:
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || b.Size != int64(len(large)) || b.SHA1 != sha1Hex(large) || !bytes.Equal(got.Bytes(), large):
			t.Errorf("%s: %+v, %d bytes, %v", name, b, got.Len(), err)
		}
		noCanary(t, name, everyText(err))
		if u := (*asked)[0]; u != "/v3/bill/tradebill?bill_date=2026-11-20&bill_type=ALL&tar_type=GZIP" {
			t.Errorf("%s: asked %s", name, u)
		}
		for _, u := range (*asked)[1:] {
			if u != "/v3/billdownload/file?token=abc.com%2Bx&tartype=gzip" {
				t.Errorf("%s: fetched %s", name, u)
			}
		}
	}
}

// A download address has one of WeChat's two hosts and one of two paths, by its pages; no other place gets the
// merchant's signature. The file is asked of the host that was given.
func TestDownloadAddressesAreWeChats(t *testing.T) {
	file := []byte("x")
	for address, want := range map[string]string{
		"https://api.mch.weixin.qq.com/v3/billdownload/file?token=a":             "/v3/billdownload/file?token=a",
		" https://api.mch.weixin.qq.com/v3/billdownload/file?token=a":            "/v3/billdownload/file?token=a",
		"https://api2.mch.weixin.qq.com/v3/billdownload/file?token=a":            "/v3/billdownload/file?token=a",
		"https://api.mch.weixin.qq.com/v3/bill/downloadurl?token=a":              "/v3/bill/downloadurl?token=a",
		"https://api2.mch.weixin.qq.com/v3/bill/downloadurl?token=a":             "/v3/bill/downloadurl?token=a",
		"https://api.mch.weixin.qq.com:443/v3/billdownload/file?token=a":         "/v3/billdownload/file?token=a",
		"HTTPS://API2.mch.weixin.qq.com/v3/billdownload/file?token=A":            "/v3/billdownload/file?token=A",
		"http://api.mch.weixin.qq.com:443/v3/billdownload/file?token=a":          "",
		"http://api.mch.weixin.qq.com/v3/bill/downloadurl?token=a":               "",
		"https://api.mch.weixin.qq.com.evil.example/v3/bill/downloadurl?token=a": "",
		"https://evil.example/v3/billdownload/file?token=a":                      "",
		"https://api3.mch.weixin.qq.com/v3/billdownload/file?token=a":            "",
		"https://x@api.mch.weixin.qq.com/v3/billdownload/file?token=a":           "",
		"https://api.mch.weixin.qq.com:8443/v3/billdownload/file?token=a":        "",
		"https://api.mch.weixin.qq.com/v3/bill/downloadurl/../x?token=a":         "",
		"https://api.mch.weixin.qq.com/v3/bill/%64ownloadurl?token=a":            "",
		"https://api.mch.weixin.qq.com/v3/bill/downloadurl":                      "",
	} {
		g, asked := billSham(t, applied(sha1Hex(file), address), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(file)
		})
		_, err := g.FetchBill(t.Context(), "2026-11-20", payment.BillAll, io.Discard)
		if (err == nil) != (want != "") || want != "" && (*asked)[1] != want || want == "" && len(*asked) != 1 {
			t.Errorf("%s: %v, %s", address, err, *asked)
		}
		g.hosts.list = []string{productionURL, secondURL}
		whole, err := g.billTarget(address)
		plain := strings.NewReplacer(" ", "", "HTTPS://API2", "https://api2", ":443", "").Replace(address)
		if (err == nil) != (want != "") || err == nil && whole != plain {
			t.Errorf("in production %s: %s %v", address, whole, err)
		}
	}
}

// The fund flow has an address and parameters of its own; a full disk is the caller's error, not a damaged bill.
func TestFetchFundFlowAndFullDisk(t *testing.T) {
	file := []byte("x")
	g, asked := billSham(t, applied(sha1Hex(file), billAddress), func(w http.ResponseWriter,
		_ *http.Request) {
		_, _ = w.Write(file)
	})
	if _, err := g.FetchBill(t.Context(), "2026-11-20", payment.BillFundFlow, io.Discard); err != nil {
		t.Fatal(err)
	}
	if u := (*asked)[0]; u != "/v3/bill/fundflowbill?account_type=BASIC&bill_date=2026-11-20&tar_type=GZIP" {
		t.Error(u)
	}
	full := errors.New("disk full")
	_, err := g.FetchBill(t.Context(), "2026-11-20", payment.BillAll,
		writerFunc(func([]byte) (int, error) { return 0, full }))
	if !errors.Is(err, full) || errors.Is(err, payment.ErrBillDamaged) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.FetchBill(ctx, "2026-11-20", payment.BillAll,
		io.Discard); payment.KindOf(err) != unknown || err == nil {
		t.Error(err)
	}
	if _, err := g.FetchBill(t.Context(), "20261120", payment.BillAll,
		io.Discard); payment.KindOf(err) != payment.KindRejected {
		t.Error(err)
	}
	sent := len(*asked)
	if _, err := g.FetchBill(t.Context(), "2026-11-20", "ALL&x=1",
		io.Discard); payment.KindOf(err) != payment.KindRejected || len(*asked) != sent {
		t.Errorf("%v, %d calls", err, len(*asked)-sent)
	}
}

// A download that hangs must end; one whose reader is slow (a busy database) must not.
func TestStalledDownloadEndsSlowReaderDoesNot(t *testing.T) {
	file := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MB
	g, _ := billSham(t, applied(sha1Hex(file), billAddress), func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(file[:len(file)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	g.stall = 50 * time.Millisecond
	if _, err := g.FetchBill(t.Context(), "2026-11-20", payment.BillAll, io.Discard); err == nil ||
		errors.Is(err, context.Canceled) {
		t.Errorf("hung: %v", err)
	}
	g, _ = billSham(t, applied(sha1Hex(file), billAddress), func(w http.ResponseWriter,
		_ *http.Request) {
		_, _ = w.Write(file)
	})
	g.stall = 2 * time.Second
	waited := false
	b, err := g.FetchBill(t.Context(), "2026-11-20", payment.BillAll, writerFunc(func(p []byte) (int, error) {
		if !waited {
			waited = true
			time.Sleep(g.stall + 200*time.Millisecond)
		}
		return len(p), nil
	}))
	if err != nil || b.Size != int64(len(file)) {
		t.Errorf("slow reader: %+v, %v", b, err)
	}
}
