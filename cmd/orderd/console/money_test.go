package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime/multipart"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

func (d *desk) pendingRefund(t *testing.T, key string) order.Refund {
	t.Helper()
	o := d.PaidOne(t, key, "a", 2)
	asked, err := d.AskRefund(t.Context(), order.AskRefund{OrderNo: o.OrderNo, CustomerID: "c", RequestID: key,
		Reason: "small", Cause: ordertest.Customer})
	if err != nil {
		t.Fatal(err)
	}
	return asked.Refund
}

// Money leaves by these routes: the role, the reason, the version and the second person must hold on each.
func TestRefundDecisions(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 50)
	r := d.pendingRefund(t, "k1")
	path := "/admin/v1/refunds/" + r.OutRefundNo
	want(t, d.ask(Viewer, "GET", "/admin/v1/refunds?state=PENDING_APPROVAL", ""), 200, r.OutRefundNo)
	want(t, d.ask(Viewer, "GET", "/admin/v1/refunds?state=nonsense", ""), 422, "?state")
	want(t, d.ask(Viewer, "GET", "/admin/v1/refunds?reason=aftersale&order_no="+r.OrderNo+"&transaction_id="+
		r.TransactionID, ""), 200, r.OutRefundNo)
	for _, none := range []string{"reason=late", "order_no=01NONE", "transaction_id=4200", "state=OWED"} {
		want(t, d.ask(Viewer, "GET", "/admin/v1/refunds?"+none, ""), 200, `{"data":[],"next_cursor":null}`)
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/refunds?reason=nonsense&limit=201", ""), 422, "?reason")
	want(t, d.ask(Viewer, "GET", "/ui/orders/"+r.OrderNo, ""), 200, "<i aria-hidden=\"true\">◔</i>待审批</span>")
	want(t, d.ask(Viewer, "GET", path, ""), 200, `"refund_status":"PENDING_APPROVAL"`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/refunds/none", ""), 404, "REFUND_NOT_FOUND")
	want(t, d.ask(Finance, "POST", path+"/approve", `{}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", path+"/approve", `{"reason":"x","amount":1}`), 400, "MALFORMED_REQUEST")
	want(t, d.ask(Finance, "POST", path+"/approve", `{"reason":"x"}`, "If-Match", `"v9"`), 412, "VERSION_MISMATCH")
	want(t, d.ask(Finance, "POST", path+"/by-hand", `{"reason":"x"}`), 409, "REFUND_NOT_POSSIBLE")
	w := d.ask(Finance, "POST", path+"/approve", `{"reason":"x"}`, "If-Match", `"v1"`)
	want(t, w, 200, `"refund_status":"OWED"`)
	if w.Header().Get("ETag") != `"v2"` || !strings.Contains(w.Body.String(), `"approver":"the-finance"`) {
		t.Errorf("%s %s", w.Header().Get("ETag"), w.Body)
	}
	want(t, d.ask(Finance, "POST", path+"/reject", `{"reason":"x"}`), 409, "REFUND_NOT_POSSIBLE")
	want(t, d.ask(Operator, "POST", path+"/retry", `{"reason":"now"}`), 200, "OWED")
	want(t, d.ask(Finance, "POST", path+"/retry", `{"reason":"now"}`), 200, "OWED")
	want(t, d.ask(Viewer, "POST", path+"/retry", `{"reason":"now"}`), 403, "FORBIDDEN")

	other := d.pendingRefund(t, "k2")
	want(t, d.ask(Finance, "POST", "/admin/v1/refunds/"+other.OutRefundNo+"/reject", `{"reason":"worn"}`), 200,
		`"decided_why":"worn"`)
	want(t, d.ask(Operator, "POST", "/admin/v1/orders/"+other.OrderNo+"/refunds", `{"reason":"kind"}`), 400,
		"IDEMPOTENCY_KEY_REQUIRED")
	mine := d.ask(Admin, "POST", "/admin/v1/orders/"+other.OrderNo+"/refunds", `{"reason":"kind"}`, "Idempotency-Key",
		"o1")
	want(t, mine, 201, "PENDING_APPROVAL")
	var v struct {
		No string `json:"out_refund_no"`
	}
	if err := json.Unmarshal(mine.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	want(t, d.ask(Viewer, "GET", mine.Header().Get("Location"), ""), 200,
		`"requester":{"type":"operator","id":"the-admin"}`)
	again := d.ask(Admin, "POST", "/admin/v1/orders/"+other.OrderNo+"/refunds", `{"reason":"kind"}`, "Idempotency-Key",
		"o1")
	if again.Code != 201 || again.Body.String() != mine.Body.String() ||
		again.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("replay %d %s", again.Code, again.Body)
	}
	want(t, d.ask(Admin, "POST", "/admin/v1/orders/"+other.OrderNo+"/refunds", `{"reason":"other"}`, "Idempotency-Key",
		"o1"), 422, "IDEMPOTENCY_KEY_REUSED")
	want(t, d.ask(Admin, "POST", "/admin/v1/orders/01NONE/refunds", `{"reason":"kind"}`, "Idempotency-Key", "o2"), 404,
		"ORDER_NOT_FOUND")
	want(t, d.ask(Admin, "POST", "/admin/v1/orders/"+other.OrderNo+"/refunds", `{"reason":"kind","customer":"c"}`,
		"Idempotency-Key", "o3"), 400, "MALFORMED_REQUEST")
	want(t, d.ask(Admin, "POST", "/admin/v1/refunds/"+v.No+"/approve", `{"reason":"me"}`), 403, "FORBIDDEN")
	want(t, d.ask(Finance, "POST", "/admin/v1/refunds/"+v.No+"/approve", `{"reason":"ok"}`), 200, "OWED")
	want(t, d.ask(Viewer, "GET", "/ui/refunds", ""), 200, v.No)
	want(t, d.ask(Viewer, "GET", "/", ""), 200, "退款待审批 0")
	want(t, d.ask("", "GET", "/metrics", ""), 200, `orderd_refunds_open{state="owed"} 2`)
}

// Above the limit one person alone, or one person twice, must not send money.
func TestTwoPersonsApprove(t *testing.T) {
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) { c.RefundTwoPersons = 150 }),
		nil)
	d.SKU(t, "a", 5)
	path := "/admin/v1/refunds/" + d.pendingRefund(t, "k1").OutRefundNo
	second, err := d.tokens.Create(t.Context(), "second", Finance, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	want(t, d.ask(Viewer, "GET", path, ""), 200, `"approvals_needed":2`)
	for range 2 {
		want(t, d.ask(Finance, "POST", path+"/approve", `{"reason":"ok"}`), 200, `"refund_status":"PENDING_APPROVAL"`)
	}
	want(t, d.ask(Viewer, "GET", "/", ""), 200, `退款待审批 <span class="count">1</span></b> <span class="sum">¥2.00</span>`)
	w := d.ask("", "POST", path+"/approve", `{"reason":"agreed"}`, "Authorization", "Bearer "+second, "Content-Type",
		"application/json")
	want(t, w, 200, `"refund_status":"OWED"`)
	if text := w.Body.String(); strings.Count(text, `"approver":"the-finance"`) != 1 ||
		strings.Count(text, `"approver":"second"`) != 1 {
		t.Errorf("%s", text)
	}
}

// One person who said that a stuck refund was paid by hand saw it unchanged, on every face, and did not know that a
// second one was waited for.
func TestTwoPersonsSettleByHand(t *testing.T) {
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) { c.RefundTwoPersons = 150 }),
		nil)
	d.SKU(t, "a", 5)
	no := d.pendingRefund(t, "k1").OutRefundNo
	path := "/admin/v1/refunds/" + no
	second, err := d.tokens.Create(t.Context(), "second", Finance, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	other := func(act, body string) *httptest.ResponseRecorder {
		return d.ask("", "POST", path+act, body, "Authorization", "Bearer "+second, "Content-Type", "application/json")
	}
	want(t, d.ask(Finance, "POST", path+"/approve", `{"reason":"ok"}`), 200, "PENDING_APPROVAL")
	want(t, other("/approve", `{"reason":"ok"}`), 200, `"refund_status":"OWED"`)
	d.WeChat.Refuse = "INVALID_REQUEST"
	if err := d.Refund(t.Context(), no, ordertest.Finance); err != nil {
		t.Fatal(err)
	}
	d.Clock.Advance(2 * time.Minute)
	for range 2 { // one person, once or twice
		w := d.ask(Finance, "POST", path+"/by-hand", `{"reason":"by bank"}`)
		want(t, w, 200, `"said_by_hand":"the-finance"`)
		want(t, w, 200, `"refund_status":"REFUSED"`)
	}
	want(t, d.ask(Viewer, "GET", "/ui/refunds", ""), 200, "人工退款：the-finance 已确认，等待第二人")
	w := other("/by-hand", `{"reason":"seen"}`)
	want(t, w, 200, `"refund_status":"BY_HAND"`)
	if strings.Contains(w.Body.String(), "said_by_hand") {
		t.Errorf("nobody is waited for any more: %s", w.Body)
	}
}

// A refund that WeChat Pay refused must show its problem, and leave by the two ways out only.
func TestRefusedRefundOnTheDesk(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 10)
	d.WeChat.Refuse = "INVALID_REQUEST"
	for key, out := range map[string]string{"k1": "cancel", "k2": "by-hand"} {
		r := d.pendingRefund(t, key)
		path := "/admin/v1/refunds/" + r.OutRefundNo
		want(t, d.ask(Finance, "POST", path+"/approve", `{"reason":"ok"}`), 200, "OWED")
		if err := d.Refund(t.Context(), r.OutRefundNo, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		want(t, d.ask(Viewer, "GET", path, ""), 200, `"refund_status":"REFUSED"`)
		want(t, d.ask(Viewer, "GET", path, ""), 200, "INVALID_REQUEST")
		want(t, d.ask(Viewer, "GET", "/", ""), 200, `退款被拒或异常 <span class="count">1`)
		want(t, d.ask("", "GET", "/metrics", ""), 200, `orderd_refund_open_fen{state="refused"}`)
		want(t, d.ask(Operator, "POST", path+"/"+out, `{"reason":"x"}`), 403, "FORBIDDEN")
		d.Clock.Advance(2 * time.Minute)
		state := strings.ToUpper(map[string]string{"cancel": "cancelled", "by-hand": "by_hand"}[out])
		want(t, d.ask(Finance, "POST", path+"/"+out, `{"reason":"paid in cash"}`), 200, `"refund_status":"`+state+`"`)
		want(t, d.ask(Finance, "POST", path+"/retry", `{"reason":"x"}`), 409, "REFUND_NOT_POSSIBLE")
	}
}

// A secret in a log outlives its token: whoever reads logs could send money.
func TestTokensAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	d := newDeskOf(t, ordertest.New(t, sqldbtest.SQLite(t)),
		slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	made := d.ask(Admin, "POST", "/admin/v1/tokens", `{"name":"li.na","role":"finance","reason":"new"}`)
	var v struct{ Token string }
	if err := json.Unmarshal(made.Body.Bytes(), &v); err != nil || len(v.Token) != len(tokenPrefix)+43 {
		t.Fatalf("%v %s", err, made.Body)
	}
	d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+v.Token)
	d.ask("", "GET", "/admin/v1/tokens", "", "Authorization", "Bearer "+v.Token)
	want(t, d.ask(Admin, "DELETE", "/admin/v1/tokens/li.na", ""), 204, "")
	d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+v.Token)
	sum := sha256.Sum256([]byte(v.Token))
	for _, leak := range []string{v.Token, hex.EncodeToString(sum[:]), secret(Admin)} {
		if strings.Contains(log.String(), leak) {
			t.Errorf("logged: %s", &log)
		}
	}
	if !strings.Contains(log.String(), "token revoked") || !strings.Contains(log.String(), "li.na") {
		t.Errorf("the audit is not in the log: %s", &log)
	}
	if list := d.ask(Admin, "GET", "/admin/v1/tokens", ""); strings.Contains(list.Body.String(),
		hex.EncodeToString(sum[:])) {
		t.Errorf("the hash is shown: %s", list.Body)
	}
}

// An outage of the database must not look like a wrong token, and never like a right one; the fixed token still reads
// the lights.
func TestTokensWithoutADatabase(t *testing.T) {
	d := newDesk(t)
	away := sqldbtest.SQLite(t)
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{Orders: d.Service, Stock: d.Admin, Refunds: d.Service, Reconciler: d.books,
		Failures:   d.failures,
		TokenStore: NewTokenStore(away, d.Clock.Now),
		Tokens:     []Token{{Name: "bootstrap", Role: Admin, SHA256: sha256.Sum256([]byte(secret(Admin)))}},
		Metrics:    NewMetrics(), Ready: NewReadiness(d.Clock.Now), Now: d.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	d.Handler = described(t, e)
	want(t, d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+tokenPrefix+strings.Repeat("A", 43)),
		503, "MAINTENANCE")
	want(t, d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+secret("forged")), 401,
		"UNAUTHENTICATED")
	want(t, d.ask(Admin, "GET", "/admin/v1/orders", ""), 200, "data")
}

// Look-ups of made-up secrets must not fill the memory.
func TestLookUpsAreBounded(t *testing.T) {
	d := newDesk(t)
	for i := range maxRemembered + 10 {
		if who, err := d.tokens.find(t.Context(), sha256.Sum256(fmt.Append(nil, i))); who != nil || err != nil {
			t.Fatal(who, err)
		}
	}
	if n := len(d.tokens.seen); n > maxRemembered {
		t.Errorf("%d remembered", n)
	}
}

// An operator's token must end when it is revoked, its name must never come again, and its secret is shown once.
func TestOperatorTokens(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	made := d.ask(Admin, "POST", "/admin/v1/tokens", `{"name":"li.na","role":"finance","reason":"new"}`)
	want(t, made, 201, `"token":"ord_`)
	var v struct{ Token string }
	if err := json.Unmarshal(made.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	as := func(method, path, body string) *httptest.ResponseRecorder {
		return d.ask("", method, path, body, "Authorization", "Bearer "+v.Token, "Content-Type", "application/json")
	}
	want(t, as("GET", "/admin/v1/reconciliations", ""), 200, "data")
	want(t, as("GET", "/admin/v1/tokens", ""), 403, "FORBIDDEN")
	r := d.pendingRefund(t, "k1")
	want(t, as("POST", "/admin/v1/refunds/"+r.OutRefundNo+"/approve", `{"reason":"ok"}`), 200, `"approver":"li.na"`)
	if list := d.ask(Admin, "GET", "/admin/v1/tokens", ""); strings.Contains(list.Body.String(), v.Token) ||
		!strings.Contains(list.Body.String(), `"name":"li.na"`) {
		t.Errorf("%s", list.Body)
	}
	want(t, d.ask(Admin, "DELETE", "/admin/v1/tokens/li.na", ""), 204, "")
	want(t, as("GET", "/admin/v1/reconciliations", ""), 401, "UNAUTHENTICATED")
	want(t, d.ask(Admin, "DELETE", "/admin/v1/tokens/li.na", ""), 404, "NOT_FOUND")
	want(t, d.ask(Admin, "POST", "/admin/v1/tokens", `{"name":"li.na","role":"admin","reason":"again"}`), 422,
		"请换一个名字")
	for _, body := range []string{`{"name":"bootstrap","role":"admin","reason":"x"}`,
		`{"name":"a b","role":"admin","reason":"x"}`, `{"name":"cli:root","role":"admin","reason":"x"}`,
		`{"name":"x","role":"root","reason":"x"}`, `{"name":"x","role":"admin"}`} {
		want(t, d.ask(Admin, "POST", "/admin/v1/tokens", body), 422, "VALIDATION_FAILED")
	}
}

// A token that another process revokes must stop here too, soon, and a database that is away must not let anybody in.
func TestTokensAreLookedUpAgain(t *testing.T) {
	d := newDesk(t)
	secret, err := d.tokens.Create(t.Context(), "x", Viewer, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		return d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+secret).Code
	}
	if ask() != 200 {
		t.Fatal("not let in")
	}
	if err := NewTokenStore(d.DB, d.Clock.Now).Revoke(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	d.Clock.Advance(tokenFor)
	if code := ask(); code != 401 {
		t.Errorf("revoked elsewhere: %d", code)
	}
	away := sqldbtest.SQLite(t)
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	c := &console{Options: Options{TokenStore: NewTokenStore(away, time.Now)}}
	if who, err := c.who(t.Context(), secret); who != nil || !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("without a database: %+v, %v", who, err)
	}
}

const billHead = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
	"应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态," +
	"商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"

func bill(trades ...payment.Trade) string {
	var b strings.Builder
	b.WriteString(billHead + "\n")
	var sum payment.Fen
	for _, t := range trades {
		sum += t.Total
		fmt.Fprintf(&b,
			"`2027-01-15 16:00:00,`%s,`%s,`0,`,`%s,`%s,`o,`NATIVE,`SUCCESS,`OTHERS,`CNY,`%s,`0.00,"+
				"`0,`0,`0.00,`0.00,`,`,`mug,`,`0.00000,`0.60%%,`%s,`0.00,`\n",
			ordertest.AppID, ordertest.MchID, t.TransactionID, t.OutTradeNo, t.Total, t.Total)
	}
	fmt.Fprintf(&b, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\n"+
		"`%d,`%s,`0.00,`0.00,`0.00000,`%s,`0.00\n", len(trades), sum, sum)
	return b.String()
}

// Finance must be able to prove a day, or see what is wrong with it, resolve it, and take it along as a file.
func TestReconciliationOverHTTP(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "k1", "a", 1)
	trade, err := d.WeChat.Pay(d.Prepaid(t, o.OrderNo), false)
	if err != nil {
		t.Fatal(err)
	}
	foreign := payment.Trade{TransactionID: "4200009999999999999999999999", OutTradeNo: "OTHERSHOP1", Total: 555}
	const day = "2027-01-15" // of the fixture's clock, 16:00 in Beijing
	d.bills[day] = bill(trade, trade, foreign)
	want(t, d.ask(Finance, "POST", "/admin/v1/reconciliations", `{"bill_date":"15.1.2027"}`), 422, "#/bill_date")
	want(t, d.ask(Finance, "POST", "/admin/v1/reconciliations", `{"bill_date":"2027-01-15","bill_type":"SOME"}`), 422,
		"#/bill_type")
	want(t, d.ask(Finance, "GET", "/admin/v1/reconciliations/2027-01-15-ALL", ""), 404, "DIFFERENCE_NOT_FOUND")
	w := d.ask(Finance, "POST", "/admin/v1/reconciliations", `{"bill_date":"2027-01-15"}`)
	want(t, w, 202, "2027-01-15-ALL")
	at := w.Header().Get("Location")
	want(t, d.ask(Finance, "GET", at, ""), 200, `"state":"done"`)
	want(t, d.ask(Finance, "GET", at, ""), 200, `"healed":1`)
	want(t, d.ask(Finance, "GET", "/admin/v1/reconciliations", ""), 200, `"balanced":false`)
	if d.State(t, o.OrderNo) != order.StatePaid {
		t.Errorf("the missed payment: %s", d.State(t, o.OrderNo))
	}
	if got := d.ask(Finance, "GET", at+"/bill", ""); got.Body.String() != d.bills[day] ||
		got.Header().Get("X-Bill-SHA1") != strings.Repeat("aa", 20) {
		t.Errorf("the bill is another: %.200s", got.Body)
	}
	list := d.ask(Finance, "GET", at+"/differences?status=OPEN", "")
	want(t, list, 200, `"label":"重复"`)
	var page struct {
		Data []struct {
			ID   string
			Type string
			Bill struct{ Line int }
			Diff int64 `json:"amount_diff"`
		}
	}
	if err := json.Unmarshal(list.Body.Bytes(), &page); err != nil || len(page.Data) != 1 ||
		page.Data[0].Type != "DUPLICATE_PAYMENT" || page.Data[0].Bill.Line != 3 ||
		page.Data[0].Diff != int64(trade.Total) {
		t.Fatalf("%v %s", err, list.Body)
	}
	csv := d.ask(Finance, "GET", at+"/differences", "", "Accept", "text/csv")
	want(t, csv, 200, "\ufeffbill_date")
	want(t, csv, 200, "DUPLICATE_PAYMENT,重复,OPEN,"+o.OrderNo)
	want(t, d.ask(Finance, "GET", at, ""), 200, `"other_business":{"count":1,"fen":555}`)
	if x := d.ask(Finance, "GET", at+"/differences", "", "Accept", xlsxType); x.Code != 200 ||
		!bytes.HasPrefix(x.Body.Bytes(), []byte("PK")) {
		t.Errorf("%d %.20q", x.Code, x.Body)
	}
	resolve := "/admin/v1/differences/" + page.Data[0].ID + "/resolve"
	want(t, d.ask(Finance, "POST", resolve, `{"action":"WRITE_OFF"}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", resolve, `{"action":"FORGET","reason":"x"}`), 422, "WRITE_OFF")
	want(t, d.ask(Finance, "POST", resolve, `{"action":"APPLY_PAYMENT","reason":"x"}`), 422,
		"不能用")
	want(t, d.ask(Finance, "POST", resolve, `{"action":"WRITE_OFF","reason":"other shop"}`), 200,
		`"proposed_by":"the-finance"`)
	want(t, d.ask(Finance, "POST", resolve, `{"action":"WRITE_OFF","reason":"other shop"}`), 403, "核销须两人")
	want(t, d.ask(Admin, "POST", resolve, `{"action":"WRITE_OFF","reason":"yes"}`), 200, `"status":"WRITTEN_OFF"`)
	want(t, d.ask(Finance, "POST", "/admin/v1/differences/none/resolve", `{"action":"WRITE_OFF","reason":"x"}`), 404,
		"DIFFERENCE_NOT_FOUND")
	want(t, d.ask("", "GET", "/metrics", ""), 200, `orderd_recon_open_differences{type="DUPLICATE_PAYMENT"} 0`)
	want(t, d.ask(Finance, "GET", "/ui/reconciliations", ""), 200, day)
	want(t, d.ask(Finance, "GET", "/ui/reconciliations/2027-01-15-ALL", ""), 200, "平账")
}

// A bill that somebody has on his disk must be usable, and one that is none must say why.
func TestBillUpload(t *testing.T) {
	d := newDesk(t)
	send := func(field, text string) *httptest.ResponseRecorder {
		var b bytes.Buffer
		form := multipart.NewWriter(&b)
		_ = form.WriteField("bill_date", "2027-01-15")
		f, err := form.CreateFormFile(field, "bill.csv")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write([]byte(text))
		_ = form.Close()
		return d.ask(Finance, "POST", "/admin/v1/reconciliations", b.String(), "Content-Type",
			form.FormDataContentType())
	}
	want(t, send("bill", bill(payment.Trade{TransactionID: "42009",
		OutTradeNo: "01JD4ZKX0000000000000000AB-01", Total: 5})), 202,
		"2027-01-15-ALL")
	w := d.ask(Finance, "GET", "/admin/v1/reconciliations/2027-01-15-ALL", "")
	want(t, w, 200, `"open":1`)
	want(t, w, 200, `"source":"file","counts":false`)
	want(t, w, 200, `"given_by":["the-finance"]`)
	want(t, d.ask(Finance, "GET", "/admin/v1/differences", ""), 200, `"source":"file","given_by":"the-finance"`)
	page := d.ask(Finance, "GET", "/ui/reconciliations/2027-01-15-ALL", "")
	want(t, page, 200, "文件提供者： the-finance ")
	want(t, page, 200, "尚无人确认")
	var v struct {
		SHA1 string `json:"bill_sha1"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	// What one person gave counts by another's word.
	confirm := func(who Role, status int, says string) {
		t.Helper()
		want(t, d.ask(who, "POST", "/admin/v1/reconciliations/2027-01-15-ALL/confirm",
			`{"sha1":"`+v.SHA1+`","reason":"compared"}`), status, says)
	}
	confirm(Finance, 403, "FORBIDDEN")
	confirm(Viewer, 403, "FORBIDDEN")
	confirm(Admin, 200, `"confirmed_by":"the-admin"`)
	want(t, d.ask(Finance, "GET", "/ui/reconciliations/2027-01-15-ALL", ""), 200,
		"由 the-admin 确认")
	want(t, d.ask("", "GET", "/metrics", ""), 200, `orderd_recon_pending_differences{type="LOCAL_ONLY"} 0`)
	want(t, send("bill", "<html>"), 202, "")
	if w := d.ask(Finance, "GET", "/admin/v1/reconciliations/2027-01-15-ALL", ""); !strings.Contains(w.Body.String(),
		`"state":"done"`) {
		t.Errorf("a bad file ended a day that counts: %s", w.Body)
	}
	want(t, send("file", "x"), 400, "未知或重复")
	want(t, d.ask(Finance, "POST", "/admin/v1/reconciliations", "--x", "Content-Type",
		"multipart/form-data; boundary=x"), 400, "MALFORMED_REQUEST")
}

// between are refunds of which somebody decides between a request's look and its decision.
type between struct {
	Refunds
	then func()
}

func (b *between) FindRefund(ctx context.Context, no string) (order.Refund, error) {
	r, err := b.Refunds.FindRefund(ctx, no)
	b.now()
	return r, err
}

func (b *between) DecideRefund(ctx context.Context, d order.RefundDecision) (order.Refund, error) {
	b.now()
	return b.Refunds.DecideRefund(ctx, d)
}

func (b *between) now() {
	if then := b.then; then != nil {
		b.then = nil
		then()
	}
}

// Whether a refund is as it was seen is decided where the decision is: the first of two has said meanwhile that the
// goods do not come back.
func TestIfMatchHoldsWhereARefundIsDecided(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		d := newDeskOf(t, ordertest.NewWith(t, db, func(c *order.Config) { c.RefundTwoPersons = 150 }), nil)
		d.SKU(t, "a", 50)
		if err := operators.Create(t.Context(), d.DB, "bea", operators.Finance, operators.Bootstrap,
			d.Clock.Now().Add(-2*operators.FreshFor)); err != nil {
			t.Fatal(err)
		}
		r := d.pendingRefund(t, "k1")
		no := false
		b := &between{Refunds: d.Service, then: func() {
			if _, err := d.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo, Event: "approve",
				Reason: "broken goods", Restock: &no, Cause: order.Cause{Actor: order.Actor{Type: order.ActorOperator,
					ID: "bea"}, Type: "request"}}); err != nil {
				t.Error(err)
			}
		}}
		e, err := New(Options{Orders: d.Service, Stock: d.Admin, Refunds: b, Reconciler: d.books, Failures: d.failures,
			TokenStore: d.tokens, Tokens: []Token{{Name: "the-finance", Role: Finance,
				SHA256: sha256.Sum256([]byte(secret(Finance)))}}, Metrics: NewMetrics(),
			Ready: NewReadiness(d.Clock.Now), Now: d.Clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		d.Handler = described(t, e)
		path := "/admin/v1/refunds/" + r.OutRefundNo + "/approve"
		want(t, d.ask(Finance, "POST", path, `{"reason":"x"}`, "If-Match", `"v1"`), 412, "VERSION_MISMATCH")
		want(t, d.ask(Finance, "POST", path, `{"reason":"x"}`, "If-Match", `"v2"`), 200, `"refund_status":"OWED"`)
	})
}
