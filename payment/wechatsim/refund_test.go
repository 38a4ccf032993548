package wechatsim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/services/refunddomestic"

	"orderd/payment/wechatsim"
)

// paid opens and pays a trade and gives its transaction id.
func (b *bench) paid(no string) string {
	b.t.Helper()
	b.prepay(no, nil).want(b.t, 200, "")
	must(b.t, b.sim.Pay(no, wechatsim.PayOptions{}))
	return b.trade(no).TransactionID
}

func refundParams(transaction, no string, amount int64, edit func(map[string]any)) string {
	p := map[string]any{"transaction_id": transaction, "out_refund_no": no, "reason": "尺码不合",
		"amount": map[string]any{"refund": amount, "total": 14900, "currency": "CNY"}}
	if edit != nil {
		edit(p)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func (b *bench) refund(transaction, no string, amount int64, edit func(map[string]any)) reply {
	b.t.Helper()
	return b.do(request{method: "POST", target: "/v3/refund/domestic/refunds", body: refundParams(transaction, no,
		amount, edit)})
}

// Without WeChat's rules in it the simulator would take refunds that WeChat refuses, and hide bugs that cost money.
func TestRefundRules(t *testing.T) {
	c := &clock{at: time.Now()}
	b := start(t, wechatsim.Options{Now: c.now, RefundDelay: time.Hour})
	tx := b.paid("REFUND01")
	b.prepay("UNPAID01", nil).want(t, 200, "")
	first := b.refund(tx, "R1", 100, nil).want(t, 200, "")
	var body struct {
		RefundID string `json:"refund_id"`
		Status   string
	}
	must(t, json.Unmarshal(first.body, &body))
	if body.Status != "PROCESSING" || b.trade("REFUND01").State != wechatsim.StateRefund {
		t.Errorf("%s, trade %s", first.body, b.trade("REFUND01").State)
	}
	again := b.refund(tx, "R1", 100, nil).want(t, 200, "")
	if string(again.body) != string(first.body) {
		t.Errorf("a repeat: %s", again.body)
	}
	b.refund(tx, "R1", 101, nil).want(t, 400, "INVALID_REQUEST")
	b.refund(tx, "R2", 100, nil).want(t, 429, "FREQUENCY_LIMITED")
	c.forward(time.Minute)
	b.refund(tx, "R2", 14801, nil).want(t, 400, "INVALID_REQUEST")
	b.refund(tx, "R2", 14800, nil).want(t, 200, "")
	c.forward(time.Minute)
	b.refund(tx, "R3", 1, nil).want(t, 400, "INVALID_REQUEST")
	b.refund("4299", "R4", 1, nil).want(t, 404, "RESOURCE_NOT_EXISTS")
	for field, edit := range map[string]func(map[string]any){
		"number":   func(p map[string]any) { p["out_refund_no"] = "a/b" },
		"both":     func(p map[string]any) { p["out_trade_no"] = "REFUND01" },
		"zero":     func(p map[string]any) { p["amount"].(map[string]any)["refund"] = 0 },
		"currency": func(p map[string]any) { p["amount"].(map[string]any)["currency"] = "USD" },
		"reason":   func(p map[string]any) { p["reason"] = fmt.Sprintf("%081d", 0) },
	} {
		if r := b.refund(tx, "R5", 1, edit); r.status != 400 || r.code != "PARAM_ERROR" {
			t.Errorf("%s: %d %s", field, r.status, r.code)
		}
	}
	b.do(request{method: "POST", target: "/v3/refund/domestic/refunds", body: refundParams("", "R6", 1,
		func(p map[string]any) { delete(p, "transaction_id"); p["out_trade_no"] = "UNPAID01" })}).want(t, 403,
		"TRADE_ERROR")
	b.do(request{method: "GET", target: "/v3/refund/domestic/refunds/R1"}).want(t, 200, "")
	b.do(request{method: "GET", target: "/v3/refund/domestic/refunds/R99"}).want(t, 404, "RESOURCE_NOT_EXISTS")
	b.sim.SetBalance(false)
	late := b.paid("REFUND02")
	b.refund(late, "R7", 1, nil).want(t, 403, "NOT_ENOUGH")
	b.sim.SetBalance(true)
	b.refund(late, "R7", 1, nil).want(t, 200, "")
	c.forward(366 * 24 * time.Hour)
	b.refund(late, "R8", 1, nil).want(t, 400, "INVALID_REQUEST")
}

// The lock of the trade decides: 100 refunds at once never take more than was paid, and at most fifty are taken.
func TestParallelRefundsNeverExceedThePayment(t *testing.T) {
	b := start(t, wechatsim.Options{NoSpacing: true, RefundDelay: time.Hour})
	big, small := b.paid("PARALLEL1"), b.paid("PARALLEL2")
	var bigs, smalls atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if b.refund(big, fmt.Sprint("B", i), 1000, nil).status == 200 {
				bigs.Add(1)
			}
			if b.refund(small, fmt.Sprint("S", i), 1, nil).status == 200 {
				smalls.Add(1)
			}
		})
	}
	wg.Wait()
	if bigs.Load() != 14 || smalls.Load() != 50 {
		t.Errorf("%d of 14.9 refunds, %d of 50", bigs.Load(), smalls.Load())
	}
}

// A merchant who cannot see ABNORMAL and CLOSED has never handled them; SUCCESS must be final.
func TestRefundOutcomes(t *testing.T) {
	b := start(t, wechatsim.Options{NoSpacing: true, RefundDelay: 5 * time.Millisecond})
	tx := b.paid("OUTCOME1")
	must(t, b.sim.SetRefundOutcome("RA", wechatsim.StateAbnormal, -1))
	b.control("POST", "/refunds/RC/outcome", `{"status":"CLOSED"}`).want(t, 200, "")
	for _, no := range []string{"RS", "RA", "RC"} {
		b.refund(tx, no, 100, nil).want(t, 200, "")
	}
	state := func(no string) wechatsim.State { r, _ := b.sim.Refund(no); return r.State }
	until(t, "the three ends", func() bool {
		return state("RS") == wechatsim.StateSuccess && state("RA") == wechatsim.StateAbnormal &&
			state("RC") == wechatsim.StateClosed
	})
	must(t, b.sim.SetRefundOutcome("RS", wechatsim.StateClosed, 0))
	if state("RS") != wechatsim.StateSuccess {
		t.Error("money that went back came again")
	}
	r, _ := b.sim.Refund("RA")
	b.do(request{method: "POST", target: "/v3/refund/domestic/refunds/" + r.RefundID + "/apply-abnormal-refund",
		body: `{"out_refund_no":"RA","type":"MERCHANT_BANK_CARD"}`}).want(t, 200, "")
	until(t, "the abnormal one is mended", func() bool { return state("RA") == wechatsim.StateSuccess })
	b.refund(tx, "RN", 14900-200, nil).want(t, 200, "") // a closed one takes nothing
}

// Tencent's own client must understand every answer and believe every notification, in both modes of keys.
func TestOfficialSDKRefunds(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		type told struct {
			status, no, mch string
			amount          int64
			event           string
		}
		got := make(chan told, 10)
		shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var n struct {
				MchID        string `json:"mchid"`
				OutRefundNo  string `json:"out_refund_no"`
				RefundStatus string `json:"refund_status"`
				Amount       struct{ Refund int64 }
			}
			parsed, err := c.notices.ParseNotifyRequest(r.Context(), r, &n)
			if err != nil {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			got <- told{n.RefundStatus, n.OutRefundNo, n.MchID, n.Amount.Refund, parsed.EventType}
			w.WriteHeader(http.StatusNoContent)
		}))
		defer shop.Close()
		ctx, svc := context.Background(), &refunddomestic.RefundsApiService{Client: c.client}
		tx := b.paid("SDKREFUND")
		for no, end := range map[string]wechatsim.State{"SDK-S": wechatsim.StateSuccess,
			"SDK-A": wechatsim.StateAbnormal, "SDK-C": wechatsim.StateClosed} {
			must(t, b.sim.SetRefundOutcome(no, end, 0))
			ask := refunddomestic.CreateRequest{TransactionId: &tx, OutRefundNo: core.String(no),
				Reason: core.String("x"), NotifyUrl: core.String(shop.URL + "/refund"),
				Amount: &refunddomestic.AmountReq{Refund: core.Int64(100), Total: core.Int64(14900),
					Currency: core.String("CNY")}}
			r, _, err := svc.Create(ctx, ask)
			if err != nil {
				if core.IsAPIError(err, "FREQUENCY_LIMITED") { // the minute between two
					continue
				}
				t.Fatal(err)
			}
			if *r.OutRefundNo != no || *r.TransactionId != tx || *r.Amount.Refund != 100 ||
				*r.Status != refunddomestic.STATUS_PROCESSING || r.CreateTime == nil {
				t.Errorf("%v", r)
			}
			n := <-got
			want := map[wechatsim.State]string{wechatsim.StateSuccess: "REFUND.SUCCESS",
				wechatsim.StateAbnormal: "REFUND.ABNORMAL", wechatsim.StateClosed: "REFUND.CLOSED"}
			if n.no != no || n.status != string(end) || n.mch != mchID || n.amount != 100 || n.event != want[end] {
				t.Errorf("%+v", n)
			}
			q, _, err := svc.QueryByOutRefundNo(ctx, refunddomestic.QueryByOutRefundNoRequest{OutRefundNo: &no})
			if err != nil || string(*q.Status) != string(end) ||
				(end == wechatsim.StateSuccess) != (q.SuccessTime != nil) {
				t.Errorf("%v %v", q, err)
			}
		}
		_, _, err := svc.QueryByOutRefundNo(ctx,
			refunddomestic.QueryByOutRefundNoRequest{OutRefundNo: core.String("NOBODY")})
		wantAPIError(t, err, http.StatusNotFound, "RESOURCE_NOT_EXISTS")
	})
}

// Faults must reach refunds by the refund's own number, and lies about them must be rightly signed.
func TestRefundFaultsAndLies(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{NoSpacing: true, RefundDelay: time.Hour}, true)
	tx := b.paid("FAULTS01")
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "refund", OutTradeNo: "RF", Kind: "cut_after", Count: 1}))
	if r := b.refund(tx, "RF", 100, nil); r.err == nil {
		t.Errorf("answered %d", r.status)
	}
	if _, done := b.sim.Refund("RF"); !done {
		t.Error("the cut came before the effect")
	}
	b.refund(tx, "RG", 100, func(p map[string]any) { p["notify_url"] = s.url }).want(t, 200, "")
	for mode, accepted := range map[string]bool{"normal": true, "forged": false, "wrong_amount": true,
		"wrong_mchid": true, "old_timestamp": false, "signtest": false} {
		r := b.control("POST", "/refunds/RG/notify", fmt.Sprintf(`{"mode":%q}`, mode)).want(t, 200, "")
		var d struct{ Deliveries []wechatsim.Delivery }
		must(t, json.Unmarshal(r.body, &d))
		if len(d.Deliveries) != 1 || d.Deliveries[0].Accepted() != accepted {
			t.Errorf("%s: %s", mode, r.body)
		}
	}
}
