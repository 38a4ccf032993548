package wechat

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

func body(code string) string {
	return fmt.Sprintf(`{"code":%q,"message":"说明","detail":{"field":"/amount","value":1,"issue":"canary-body",`+
		`"location":"body"}}`, code)
}

// closeCase is one thing that can come back from a close.
type closeCase struct {
	name   string
	reply  reply
	answer payment.CloseAnswer // 0: an error of this kind
	kind   payment.Kind
	code   string
}

func closeCases() []closeCase {
	w := theWorld()
	return []closeCase{
		{"204", reply{status: 204}, payment.CloseAccepted, 0, ""},
		{"204 signed with the certificate", reply{status: 204, key: w.cert, serial: testSerial},
			payment.CloseAccepted, 0, ""},
		{"204 unsigned", reply{status: 204, unsigned: true}, 0, unknown, ""},
		{"204 wrong key", reply{status: 204, key: w.stranger}, 0, unknown, ""},
		{"204 key and serial crossed", reply{status: 204, key: w.cert}, 0, unknown, ""},
		{"204 old", reply{status: 204, age: 301 * time.Second}, 0, unknown, ""},
		{"204 from the future", reply{status: 204, age: -302 * time.Second}, 0, unknown, ""},
		{"204 unknown certificate", reply{status: 204, key: w.stranger,
			serial: "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"}, 0, unknown, ""},
		{"204 unknown public key", reply{status: 204, key: w.stranger, serial: "PUB_KEY_ID_9"}, 0, unknown, ""},
		{"204 serial in lower case", reply{status: 204, key: w.cert, serial: strings.ToLower(testSerial)}, 0, unknown,
			""},
		{"204 other signature type", reply{status: 204,
			spoil: func(h http.Header) { h.Set(headerSignatureType, "WECHATPAY2-SM2-WITH-SM3") }}, 0, unknown, ""},
		{"204 two serials", reply{status: 204, spoil: func(h http.Header) { h.Add(headerSerial, testSerial) }}, 0,
			unknown, ""},
		{"204 probe", reply{status: 204,
			spoil: func(h http.Header) { h.Set(headerSignature, "WECHATPAY/SIGNTEST/abc") }}, 0, unknown, ""},
		{"200", reply{status: 200, body: `{}`}, 0, unknown, ""},
		{"202", reply{status: 202, body: body("USERPAYING")}, 0, payment.KindUserPaying, ""},
		{"202 unsigned", reply{status: 202, unsigned: true}, 0, unknown, ""},
		{"400 ORDERPAID", reply{status: 400, body: body("ORDERPAID")}, payment.ClosePaid, 0, "ORDERPAID"},
		{"400 ORDER_PAID", reply{status: 400, body: body("ORDER_PAID")}, payment.ClosePaid, 0, "ORDER_PAID"},
		{"403 ORDER_PAID", reply{status: 403, body: body("ORDER_PAID")}, payment.ClosePaid, 0, "ORDER_PAID"},
		{"500 ORDERPAID", reply{status: 500, body: body("ORDERPAID")}, payment.ClosePaid, 0, "ORDERPAID"},
		{"400 ORDERPAID forged", reply{status: 400, body: body("ORDERPAID"), unsigned: true}, 0, unknown, ""},
		{"400 ORDER_CLOSED", reply{status: 400, body: body("ORDER_CLOSED")}, payment.CloseAlreadyClosed, 0,
			"ORDER_CLOSED"},
		{"403 ORDERCLOSED", reply{status: 403, body: body("ORDERCLOSED")}, payment.CloseAlreadyClosed, 0,
			"ORDERCLOSED"},
		{"500 ORDERCLOSED", reply{status: 500, body: body("ORDERCLOSED")}, 0, unknown, "ORDERCLOSED"},
		{"404 ORDER_NOT_EXIST", reply{status: 404, body: body("ORDER_NOT_EXIST")}, payment.CloseNotFound, 0,
			"ORDER_NOT_EXIST"},
		{"404 ORDERNOTEXIST", reply{status: 404, body: body("ORDERNOTEXIST")}, payment.CloseNotFound, 0,
			"ORDERNOTEXIST"},
		{"404 ORDER_NOT_EXIST forged", reply{status: 404, body: body("ORDER_NOT_EXIST"), key: w.stranger}, 0, unknown,
			""},
		{"400 ORDER_NOT_EXIST", reply{status: 400, body: body("ORDER_NOT_EXIST")}, 0, unknown, "ORDER_NOT_EXIST"},
		{"404 without a code", reply{status: 404, body: `<html>`}, 0, unknown, ""},
		{"403 TRADE_ERROR", reply{status: 403, body: body("TRADE_ERROR")}, 0, unknown, "TRADE_ERROR"},
		{"403 RULE_LIMIT", reply{status: 403, body: body("RULE_LIMIT")}, 0, payment.KindRejected, "RULE_LIMIT"},
		{"403 NO_AUTH", reply{status: 403, body: body("NO_AUTH")}, 0, payment.KindMisconfigured, "NO_AUTH"},
		{"400 PARAM_ERROR", reply{status: 400, body: body("PARAM_ERROR")}, 0, payment.KindRejected, "PARAM_ERROR"},
		{"401", reply{status: 401, body: body("SIGN_ERROR")}, 0, payment.KindMisconfigured, "SIGN_ERROR"},
		{"401 unsigned", reply{status: 401, body: body("SIGN_ERROR"), unsigned: true}, 0, payment.KindMisconfigured,
			"SIGN_ERROR"},
		{"429", reply{status: 429, body: body("FREQUENCY_LIMITED")}, 0, payment.KindRateLimited, "FREQUENCY_LIMITED"},
		{"429 of a gateway", reply{status: 429, body: "slow down", unsigned: true}, 0, payment.KindRateLimited, ""},
		{"403 FREQUENCY_LIMITED", reply{status: 403, body: body("FREQUENCY_LIMITED")}, 0, payment.KindRateLimited,
			"FREQUENCY_LIMITED"},
		{"500", reply{status: 500, body: body("SYSTEM_ERROR")}, 0, unknown, "SYSTEM_ERROR"},
		{"500 INVALID_TRANSACTIONID", reply{status: 500, body: body("INVALID_TRANSACTIONID")}, 0, unknown,
			"INVALID_TRANSACTIONID"},
		{"502 HTML", reply{status: 502, body: "<html>canary-body bad gateway</html>", unsigned: true}, 0, unknown, ""},
		{"503 empty", reply{status: 503, unsigned: true}, 0, unknown, ""},
		{"400 detail of odd types", reply{status: 400,
			body: `{"code":"ORDERPAID","message":"m","detail":{"detail":{"issue":"x"},"value":3}}`},
			payment.ClosePaid, 0, "ORDERPAID"},
		{"400 code is a number", reply{status: 400, body: `{"code":17}`}, 0, unknown, ""},
		{"400 code is not a word", reply{status: 400, body: `{"code":"ORDER PAID\n canary"}`}, 0, unknown, ""},
		{"redirect", reply{status: 307, location: "/v3/elsewhere", unsigned: true}, 0, unknown, ""},
		{"signed redirect", reply{status: 302, location: "/v3/elsewhere"}, 0, unknown, ""},
		{"more than 1 MiB", reply{status: 400, body: `{"code":"ORDERPAID","message":"` + strings.Repeat("x",
			maxAnswer) + `"}`}, 0, unknown, ""},
		{"cut", reply{cut: true}, 0, unknown, ""},
		{"cut in the body", reply{status: 400, body: body("ORDERPAID"), short: true}, 0, unknown, ""},
	}
}

// Without the table, 200, 202, 400 and 502 would all look like success to
// whoever reads gopay's err, and stock would come back for open or paid orders.
func TestCloseAnswers(t *testing.T) {
	for _, tc := range closeCases() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, s := against(t, tc.reply)
			got, err := g.Close(t.Context(), testNo)
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests were made, want 1", n)
			}
			if tc.answer != 0 {
				if err != nil || got.Answer != tc.answer || got.Code != tc.code || got.Status != tc.reply.status ||
					got.RequestID == "" {
					t.Fatalf("got %+v, %v; want %s", got, err, tc.answer)
				}
				return
			}
			var ge *payment.GatewayError
			if !errors.As(err, &ge) || got != (payment.CloseReply{}) {
				t.Fatalf("got %+v, %v; want a gateway error and no answer", got, err)
			}
			if ge.Kind != tc.kind || ge.Status != tc.reply.status || ge.Op != "close" {
				t.Fatalf("got %v, want kind %s and status %d", ge, tc.kind, tc.reply.status)
			}
			if tc.code != "" && ge.Code != tc.code {
				t.Errorf("code %q, want %q", ge.Code, tc.code)
			}
			noCanary(t, "error", everyText(err)+ge.Message)
		})
	}
}

// A close that gets no answer in time must be unknown, must say so to callers
// that test for the deadline, and must not outlive its time-out.
func TestCloseTimesOut(t *testing.T) {
	hang := make(chan struct{})
	s := newSham(t, func(seen) reply { return reply{status: 204, hang: hang} })
	defer close(hang)
	c := testConfig()
	c.BaseURL, c.Timeout = s.URL, 50*time.Millisecond
	g := mustNew(t, c)
	_, err := g.Close(t.Context(), testNo)
	if payment.KindOf(err) != payment.KindUnknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("time-out: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = g.Close(ctx, testNo); payment.KindOf(err) != payment.KindUnknown || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled caller: %v", err)
	}
}

// Nobody listening must be an unknown with a plain text, not a panic and not a URL in a log.
func TestCloseWithoutServer(t *testing.T) {
	g, s := against(t, reply{status: 204})
	s.Close()
	_, err := g.Close(t.Context(), testNo)
	if payment.KindOf(err) != payment.KindUnknown || !errors.Is(err, errNoConnection) || !payment.Ended(err) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error names the address: %v", err)
	}
}

// Whoever sits in the middle with another certificate must learn nothing
// (openids, order numbers) and must not be able to answer.
func TestOtherTLSCertificate(t *testing.T) {
	got := make(chan struct{}, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got <- struct{}{} }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake
	s.StartTLS()
	t.Cleanup(s.Close)
	c := testConfig()
	c.BaseURL = s.URL
	_, err := mustNew(t, c).Close(t.Context(), testNo)
	if payment.KindOf(err) != payment.KindUnknown || !errors.Is(err, errTLS) || len(got) != 0 {
		t.Errorf("got %v, %d requests", err, len(got))
	}
}

// The verdict on the same answer must not depend on luck: each rule of the
// table must be reachable, or it is dead text that a reader trusts.
func TestEveryRuleDecidesSomething(t *testing.T) {
	for i, want := range answerRules {
		op := want.op
		if op == "" {
			op = opClose
		}
		codes := append([]string{"SOMETHINGELSE"}, want.codes...)
		reached := false
		for status := want.from; status <= want.to && !reached; status++ {
			for _, code := range codes {
				for _, distrust := range []error{nil, errBadSig} {
					f := &facts{status: status, code: code, distrust: distrust}
					for j, r := range answerRules {
						if r.fits(op, f, code) {
							reached = reached || j == i
							break
						}
					}
				}
			}
		}
		if !reached {
			t.Errorf("rule %d (%s %d–%d %v) never decides", i, want.op, want.from, want.to, want.codes)
		}
	}
}

// No unproven answer may ever be definite, whatever status and code it carries.
func TestUnsignedIsNeverDefinite(t *testing.T) {
	codes := []string{"", "ORDERPAID", "ORDER_CLOSED", "ORDER_NOT_EXIST", "NO_AUTH", "USERPAYING", "X"}
	for _, op := range []string{opPrepay, opQuery, opClose} {
		for status := 0; status < 700; status++ {
			for _, code := range codes {
				v := judge(op, &facts{status: status, code: code, distrust: errBadSig})
				if v.done || v.closed != 0 || v.absent || v.kind == payment.KindRejected {
					t.Fatalf("%s %d %s unsigned: %s", op, status, code, v)
				}
			}
		}
	}
}

var update = flag.Bool("update", false, "rewrite the table in docs/wechat.md")

// Without this the page that operators read would drift from the code that acts.
func TestAnswerTableIsDocumented(t *testing.T) {
	const path, begin, end = "../../docs/wechat.md", "<!-- answers: begin -->\n", "<!-- answers: end -->"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("docs/wechat.md has lost the marks around its table")
	}
	want := head + begin + answerTable() + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(page) {
		t.Error("docs/wechat.md differs from answerRules; run: go test ./payment/wechat -run Documented -update")
	}
}

// answerTable prints the rules as the page shows them.
func answerTable() string {
	var b strings.Builder
	b.WriteString("| # | call | HTTP status | code (underscores ignored) | signed by WeChat | outcome | why | " +
		"source |\n" +
		"| ---: | --- | --- | --- | --- | --- | --- | --- |\n")
	for i, r := range answerRules {
		op, codes := r.op, "any"
		if op == "" {
			op = "any"
		}
		if r.codes != nil {
			codes = "none"
			if r.codes[0] != "" {
				codes = "`" + strings.Join(r.codes, "` `") + "`"
			}
		}
		mark := map[signing]string{signed: "yes", unsigned: "no", either: "either"}[r.signing]
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | `%s` | %s | %s |\n", i+1, op, statuses(r), codes, mark, r.verdict,
			r.why, sourceOf(r))
	}
	return b.String()
}

// statuses are those of a rule, as the page shows them.
func statuses(r rule) string {
	if r.from == r.to {
		return fmt.Sprint(r.from)
	}
	return fmt.Sprintf("%d–%d", r.from, r.to)
}
