package wechatsim_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// Without the re-entry rules a merchant who computes a repeat anew ("now + 30
// minutes"), or re-uses a number after a cancel, would look correct.
func TestReentry(t *testing.T) {
	pay := func(b *bench, no string) { must(b.t, b.sim.Pay(no, wechatsim.PayOptions{})) }
	closeIt := func(b *bench, no string) { b.close(no).want(b.t, 204, "") }
	open := func(b *bench, no string) { b.prepay(no, nil).want(b.t, 200, "") }
	otherAmount := func(p map[string]any) { p["amount"] = map[string]any{"total": 1, "currency": "CNY"} }
	tests := []struct {
		name   string
		before []func(*bench, string)
		edit   func(map[string]any)
		status int
		code   string
	}{
		{"same parameters", []func(*bench, string){open}, nil, 200, ""},
		{"other amount", []func(*bench, string){open}, otherAmount, 400, "INVALID_REQUEST"},
		{"other time_expire", []func(*bench, string){open},
			func(p map[string]any) { p["time_expire"] = "2038-01-01T00:00:00+08:00" }, 400, "INVALID_REQUEST"},
		{"paid", []func(*bench, string){open, pay}, nil, 400, "ORDERPAID"},
		{"closed", []func(*bench, string){open, closeIt}, nil, 400, "ORDER_CLOSED"},
		{"closed, other parameters", []func(*bench, string){open, closeIt}, otherAmount, 400, "ORDER_CLOSED"},
		{"closed before the first prepay", []func(*bench, string){closeIt}, nil, 400, "INVALID_REQUEST"},
	}
	b := start(t, wechatsim.Options{})
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			no := fmt.Sprintf("REENTRY-%02d", i)
			for _, step := range test.before {
				step(b, no)
			}
			b.prepay(no, test.edit).want(t, test.status, test.code)
		})
	}
}

// Without a fresh code_url on a repeat, and with the order of keys counting as a
// difference, honest repeats would fail or look unchanged.
func TestRepeatGivesANewCode(t *testing.T) {
	b := start(t, wechatsim.Options{})
	first := b.prepay("REPEAT01", nil).want(t, 200, "")
	body := params("REPEAT01", nil) // encoding/json sorts; turn the order round
	reversed := `{"out_trade_no":"REPEAT01",` + strings.Replace(body[1:], `"out_trade_no":"REPEAT01",`, "", 1)
	second := b.do(request{method: "POST", target: "/v3/pay/transactions/native", body: reversed}).want(t, 200, "")
	if string(first.body) == string(second.body) {
		t.Errorf("the same code_url twice: %s", first.body)
	}
	otherKind := b.do(request{method: "POST", target: "/v3/pay/transactions/app", body: body})
	otherKind.want(t, 400, "INVALID_REQUEST")
	if v := b.trade("REPEAT01"); v.Prepays != 2 {
		t.Errorf("%d prepays counted, 2 happened", v.Prepays)
	}
}

// Without WeChat's validation a merchant's malformed prepay is found in
// production only.
func TestPrepayRefusesWhatWeChatRefuses(t *testing.T) {
	set := func(name string, v any) func(map[string]any) { return func(p map[string]any) { p[name] = v } }
	amount := func(v any) func(map[string]any) { return set("amount", map[string]any{"total": v}) }
	tests := []struct {
		name, kind string
		edit       func(map[string]any)
		code       string
	}{
		{"no description", "native", set("description", ""), "PARAM_ERROR"},
		{"128 characters", "native", set("description", strings.Repeat("苹", 128)), "PARAM_ERROR"},
		{"emoji", "native", set("description", "apple 🍎"), "PARAM_ERROR"},
		{"null", "native", set("attach", nil), "PARAM_ERROR"},
		{"long attach", "native", set("attach", strings.Repeat("a", 129)), "PARAM_ERROR"},
		{"5 characters", "native", set("out_trade_no", "12345"), "PARAM_ERROR"},
		{"33 characters", "native", set("out_trade_no", strings.Repeat("1", 33)), "PARAM_ERROR"},
		{"slash in number", "native", set("out_trade_no", "ORDER/0001"), "PARAM_ERROR"},
		{"zero", "native", amount(0), "PARAM_ERROR"},
		{"negative", "native", amount(-1), "PARAM_ERROR"},
		{"fraction", "native", amount(1.5), "PARAM_ERROR"},
		{"string amount", "native", amount("149.00"), "PARAM_ERROR"},
		{"no amount", "native", set("amount", map[string]any{}), "PARAM_ERROR"},
		{"dollars", "native", set("amount", map[string]any{"total": 1, "currency": "USD"}), "PARAM_ERROR"},
		{"time without zone", "native", set("time_expire", "2026-08-01T10:30:00"), "PARAM_ERROR"},
		{"query in notify_url", "native", set("notify_url", "https://shop.example/n?a=b"), "PARAM_ERROR"},
		{"relative notify_url", "native", set("notify_url", "/n"), "PARAM_ERROR"},
		{"other app", "native", set("appid", "wx0000000000000002"), "APPID_MCHID_NOT_MATCH"},
		{"other merchant", "native", set("mchid", "1900000002"), "PARAM_ERROR"},
		{"no openid", "jsapi", nil, "PARAM_ERROR"},
		{"no scene", "h5", nil, "PARAM_ERROR"},
		{"unknown scene", "h5", set("scene_info", map[string]any{"payer_client_ip": "14.23.150.211",
			"h5_info": map[string]any{"type": "TV"}}), "PARAM_ERROR"},
		{"loopback client", "h5", set("scene_info", map[string]any{"payer_client_ip": "127.0.0.1",
			"h5_info": map[string]any{"type": "Wap"}}), "PARAM_ERROR"},
	}
	b := start(t, wechatsim.Options{StrictClientIP: true})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.do(request{method: "POST", target: "/v3/pay/transactions/" + test.kind, body: params("INVALID01",
				test.edit)}).want(t, 400, test.code)
		})
	}
	for _, body := range []string{"", "null", "[]", "{", `{"appid":"a"} {}`} {
		b.do(request{method: "POST", target: "/v3/pay/transactions/native", body: body}).want(t, 400, "PARAM_ERROR")
	}
	if _, found := b.sim.Trade("INVALID01"); found {
		t.Error("a refused prepay left a trade behind")
	}
}

// WeChat's documents say characters and WeChat counts bytes: a simulator that counts characters lets a shop go live
// whose orders cannot be paid. 203 of at most 128 and 145 of at most 127 are what captured refusals said.
func TestLengthsAreInBytes(t *testing.T) {
	b := start(t, wechatsim.Options{})
	for i, test := range []struct {
		field, value string
		refused      string // what the message says
	}{
		{"attach", strings.Repeat("a", 128), ""}, {"attach", strings.Repeat("a", 129), "字节数 129，大于最大值 128"},
		{"attach", strings.Repeat("é", 64), ""}, {"attach", strings.Repeat("é", 65), "字节数 130，大于最大值 128"},
		{"attach", strings.Repeat("字", 42), ""}, {"attach", strings.Repeat("字", 43), "字节数 129，大于最大值 128"},
		{"attach", strings.Repeat("字", 67) + "aa", "字节数 203，大于最大值 128"},
		{"description", strings.Repeat("a", 127), ""}, {"description", strings.Repeat("a", 128), "字节数 128，大于最大值 127"},
		{"description", strings.Repeat("字", 42) + "a", ""},
		{"description", strings.Repeat("字", 48) + "a", "字节数 145，大于最大值 127"},
	} {
		r := b.prepay(fmt.Sprintf("BYTES-%03d", i), func(p map[string]any) { p[test.field] = test.value })
		if test.refused == "" {
			r.want(t, 200, "")
			continue
		}
		if r.want(t, 400, "PARAM_ERROR"); !strings.Contains(string(r.body), test.refused) {
			t.Errorf("%s of %d bytes: %s", test.field, len(test.value), r.body)
		}
	}
}

// A Native payment that the shop wants open for longer ends after seven days.
func TestNativeExpiresWithinSevenDays(t *testing.T) {
	b := start(t, wechatsim.Options{})
	b.prepay("SEVEN001", func(p map[string]any) {
		p["time_expire"] = time.Now().Add(8 * 24 * time.Hour).Format(time.RFC3339)
	}).want(t, 200, "")
	if left := time.Until(b.trade("SEVEN001").TimeExpire); left > 7*24*time.Hour || left < 7*24*time.Hour-time.Minute {
		t.Errorf("it can be paid for %s", left)
	}
}

// Without a lock per trade a payment and a close could both win, and the
// merchant's whole design rests on WeChat never letting that happen.
func TestPayAgainstClose(t *testing.T) {
	const races = 500 // enough to see both winners many times on two cores
	b := start(t, wechatsim.Options{})
	paid, closed, took := 0, 0, 2*time.Millisecond
	for i := range races {
		no := fmt.Sprintf("RACE-%04d", i)
		b.prepay(no, nil).want(t, 200, "")
		var wg sync.WaitGroup
		var payErr error
		var closeReply reply
		ready := make(chan struct{})
		wg.Go(func() {
			<-ready
			// A close takes its time over HTTP, more on a busy machine: pay at moments
			// spread over what the one before took.
			spread := time.Now().Add(took * time.Duration(i%50) / 40)
			for time.Now().Before(spread) {
				runtime.Gosched()
			}
			payErr = b.sim.Pay(no, wechatsim.PayOptions{})
		})
		wg.Go(func() { <-ready; closeReply = b.close(no) })
		began := time.Now()
		close(ready)
		wg.Wait()
		took = min(max(time.Since(began), time.Millisecond), time.Second)
		switch v := b.trade(no); {
		case payErr == nil && closeReply.code == "ORDERPAID" && v.State == wechatsim.StateSuccess &&
			v.ClosedAt.IsZero():
			paid++
		case errors.Is(payErr, wechatsim.ErrClosed) && closeReply.status == http.StatusNoContent &&
			v.State == wechatsim.StateClosed && v.TransactionID == "":
			closed++
		default:
			t.Fatalf("race %d: pay %v, close %d %s, trade %+v", i, payErr, closeReply.status, closeReply.code, v)
		}
	}
	t.Logf("%d paid, %d closed", paid, closed)
	if paid == 0 || closed == 0 {
		t.Errorf("%d paid, %d closed: the race was never a race", paid, closed)
	}
}

// Without time_expire being honoured a merchant who leaves it out, or sends it
// wrong, would not be noticed; and Force must still let money through.
func TestTimeExpire(t *testing.T) {
	c := &clock{at: time.Now()}
	b := start(t, wechatsim.Options{Now: c.now})
	expire := c.now().Add(3 * time.Second)
	b.prepay("EXPIRE01", func(p map[string]any) { p["time_expire"] = expire.Format(time.RFC3339Nano) }).want(t, 200, "")
	c.forward(3*time.Second + time.Millisecond)
	if err := b.sim.Pay("EXPIRE01", wechatsim.PayOptions{}); !errors.Is(err, wechatsim.ErrExpired) {
		t.Errorf("paid after time_expire: %v", err)
	}
	b.query("EXPIRE01").want(t, 200, "")
	if v := b.trade("EXPIRE01"); v.State != wechatsim.StateNotPay {
		t.Errorf("time_expire is not a close, the trade is %s", v.State)
	}
	must(t, b.sim.Pay("EXPIRE01", wechatsim.PayOptions{At: expire})) // the last moment counts
	b.prepay("EXPIRE02", func(p map[string]any) {
		p["time_expire"] = c.now().Add(time.Second).Format(time.RFC3339Nano)
	}).want(t, 200, "")
	c.forward(time.Minute)
	b.close("EXPIRE02").want(t, 204, "")
	must(t, b.sim.Pay("EXPIRE02", wechatsim.PayOptions{Force: true}))
	if v := b.trade("EXPIRE02"); v.State != wechatsim.StateSuccess || v.ClosedAt.IsZero() {
		t.Errorf("forced payment after close: %+v", v)
	}
	if got := events(b.sim, "EXPIRE02", wechatsim.KindEffect); fmt.Sprint(got) != "[created closed paid_after_close]" {
		t.Errorf("effects %v", got)
	}
}

// Without the strict minute, a merchant that relies on a time_expire of seconds
// would only learn in production that WeChat raises it.
func TestStrictExpireRaisesToAMinute(t *testing.T) {
	c := &clock{at: time.Now()}
	b := start(t, wechatsim.Options{Now: c.now, StrictExpire: true})
	b.prepay("STRICT01", func(p map[string]any) {
		p["time_expire"] = c.now().Add(time.Second).Format(time.RFC3339)
	}).want(t, 200, "")
	c.forward(59 * time.Second)
	must(t, b.sim.Pay("STRICT01", wechatsim.PayOptions{}))
}

// Without an end of code_url and of the trade itself, an unpaid order could be
// paid weeks later here and never in life.
func TestUnpaidTradesEndByThemselves(t *testing.T) {
	c := &clock{at: time.Now()}
	b := start(t, wechatsim.Options{Now: c.now})
	b.prepay("AGEING01", nil).want(t, 200, "")
	c.forward(2*time.Hour + time.Second)
	if err := b.sim.Pay("AGEING01", wechatsim.PayOptions{}); !errors.Is(err, wechatsim.ErrExpired) {
		t.Errorf("paid with a code_url of two hours ago: %v", err)
	}
	b.prepay("AGEING01", nil).want(t, 200, "") // a new code
	c.forward(7 * 24 * time.Hour)
	if err := b.sim.Pay("AGEING01", wechatsim.PayOptions{}); !errors.Is(err, wechatsim.ErrClosed) {
		t.Errorf("a trade of seven days ago: %v", err)
	}
}

// Without named reasons a test's buyer cannot tell a won race from a typing error.
func TestWhyABuyerCannotPay(t *testing.T) {
	b := start(t, wechatsim.Options{})
	b.close("BURNED01").want(t, 204, "")
	b.prepay("PAIDPAID", nil).want(t, 200, "")
	must(t, b.sim.Pay("PAIDPAID", wechatsim.PayOptions{}))
	for no, want := range map[string]error{"NOSUCH01": wechatsim.ErrUnknownTrade,
		"BURNED01": wechatsim.ErrUnknownTrade, "PAIDPAID": wechatsim.ErrAlreadyPaid} {
		if err := b.sim.Pay(no, wechatsim.PayOptions{Force: true}); !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", no, want, err)
		}
	}
	b.query("BURNED01").want(t, 404, "ORDER_NOT_EXIST")
	b.prepay("COUPON01", nil).want(t, 200, "")
	if err := b.sim.Pay("COUPON01", wechatsim.PayOptions{PayerTotal: 14901}); err == nil ||
		b.trade("COUPON01").State != wechatsim.StateNotPay {
		t.Errorf("paid more than it costs: %v", err)
	}
}

// Without these switches the answers that WeChat's documents leave open (both
// spellings, 403, 404 on an unseen number) could not be tried.
func TestOpenQuestionsAreSwitches(t *testing.T) {
	b := start(t, wechatsim.Options{PaidCode: "TRADE_ERROR", PaidStatus: 403, UnknownCloseNotFound: true})
	b.prepay("SWITCH01", nil).want(t, 200, "")
	must(t, b.sim.Pay("SWITCH01", wechatsim.PayOptions{}))
	b.close("SWITCH01").want(t, 403, "TRADE_ERROR")
	b.close("UNSEEN01").want(t, 404, "ORDER_NOT_EXIST")
	b.do(request{method: "POST", target: "/v3/pay/transactions/out-trade-no/SWITCH01/close",
		body: `{"mchid":"1"}`}).want(t, 400, "PARAM_ERROR")
	both := start(t, wechatsim.Options{Seed: 1, Nastiness: &wechatsim.Nastiness{OtherSpelling: 0.5}})
	both.prepay("SPELLING1", nil).want(t, 200, "")
	must(t, both.sim.Pay("SPELLING1", wechatsim.PayOptions{}))
	seen := map[string]int{}
	for range 30 {
		seen[both.close("SPELLING1").code]++
	}
	if len(seen) != 2 || seen["ORDERPAID"] == 0 || seen["ORDER_PAID"] == 0 {
		t.Errorf("spellings %v: both are wanted", seen)
	}
}
