package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/wechatsim"
)

// kill −9 at every step of a refund: its turn taken and the call on its way, the call lost, WeChat Pay has taken it and
// its answer is not committed. Of customers' refunds and of late money alike, WeChat Pay's ledger must show one each.
func TestKillNineAtEveryStepOfARefund(t *testing.T) {
	v, sim, secret, dsn := newVictim(t)
	v.env = append(v.env, "ORDERD_REFUND_AUTO_APPROVE=1000000", "ORDERD_REFUND_TWO_PERSONS=0", "ORDERD_PAY_WITHIN=5m")
	v.start()
	if code, _, errs := words(t, "stock", "import", sampleFile(t), "--yes", "--dsn", dsn, "--data-dir", t.TempDir()); code != exitOK {
		t.Fatal(errs)
	}
	token, err := orderhttp.MintToken([]byte(secret), "c1", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	post := func(path, key, body string, status int) (got struct {
		OrderNo     string `json:"order_no"`
		OutTradeNo  string `json:"out_trade_no"`
		OutRefundNo string `json:"out_refund_no"`
	}) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, "http://"+v.api+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Idempotency-Key": {key}}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil || res.StatusCode != status {
			t.Fatalf("%s: %d %+v %v", path, res.StatusCode, got, err)
		}
		return got
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(90 * time.Second); !done(); time.Sleep(5 * time.Millisecond) { // polling, not timing
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	cfg := &settings{DSN: dsn, SimAddr: "127.0.0.1:1", NotifyAddr: "127.0.0.1:1", PayWithin: time.Minute, DataDir: t.TempDir()}
	err = withCore(t.Context(), cfg, func(c *core) error {
		acked := map[string]bool{}
		var refunds []string
		steps := []wechatsim.Fault{
			{Endpoint: "refund", Kind: wechatsim.FaultDelay, DelayMS: 400}, // killed while it is on its way
			{Endpoint: "refund", Kind: wechatsim.FaultTimeout},             // taken, never answered
			{Endpoint: "refund", Kind: wechatsim.FaultCutBefore},           // lost on its way
		}
		for i := range 2 * len(steps) {
			late := i%len(steps) == 1 && i > len(steps)
			o := post("/v1/orders", fmt.Sprint("o", i), `{"items":[{"sku_id":"mug","quantity":2}]}`, 201)
			out := post("/v1/orders/"+o.OrderNo+"/prepay", "", `{"trade_type":"NATIVE"}`, 200).OutTradeNo
			acked[o.OrderNo] = true
			state := func() order.State {
				found, err := c.orders.Find(t.Context(), o.OrderNo)
				if err != nil {
					t.Fatal(err)
				}
				return found.State
			}
			fault, no := steps[i%len(steps)], o.OrderNo+"-R01"
			fault.OutTradeNo, fault.Count = no, 1
			if late {
				post("/v1/orders/"+o.OrderNo+"/cancel", "", `{"reason":"x"}`, 200)
				fault.OutTradeNo = out // the number of its refund is not known yet
			}
			if err := sim.AddFault(fault); err != nil {
				t.Fatal(err)
			}
			if !late && fault.Kind == wechatsim.FaultTimeout { // nobody tells of it either: only the same number again can find out
				if err := sim.AddFault(wechatsim.Fault{Endpoint: "notify", OutTradeNo: no, Kind: wechatsim.FaultDrop, Count: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if err := sim.Pay(out, wechatsim.PayOptions{Notify: true, Force: late}); err != nil {
				t.Fatal(err)
			}
			if late {
				trade, _ := sim.Trade(out)
				no = "R" + trade.TransactionID
			} else {
				until("not paid", func() bool { return state() == order.Paid })
				post("/v1/orders/"+o.OrderNo+"/refunds", fmt.Sprint("r", i), `{"items":[{"sku_id":"mug","quantity":1}],"reason":"small"}`, 201)
			}
			refunds = append(refunds, no)
			until("the turn was never taken", func() bool {
				r, err := c.orders.FindRefund(t.Context(), no)
				_, taken := sim.Refund(no)
				return err == nil && !r.SentAt.IsZero() && (taken || fault.Kind != wechatsim.FaultTimeout)
			})
			v.signal(syscall.SIGKILL)
			v.start()
		}
		until("refunds do not end", func() bool {
			for _, no := range refunds {
				if r, err := c.orders.FindRefund(t.Context(), no); err != nil || r.State != order.RefundSucceeded {
					return false
				}
			}
			return true
		})
		v.signal(syscall.SIGTERM)
		if all := sim.Refunds(); len(all) != len(refunds) {
			t.Errorf("WeChat Pay has %d refunds, %d were asked for", len(all), len(refunds))
		}
		again := 0
		for _, no := range refunds {
			if r, _ := sim.Refund(no); r.State != wechatsim.StateSuccess {
				t.Errorf("%s is %s at WeChat Pay", no, r.State)
			} else if r.Requests > 1 {
				again++
			}
		}
		if again == 0 {
			t.Error("no refund was sent twice: the run proves nothing")
		}
		t.Logf("%d refunds, %d of them sent again after a kill", len(refunds), again)
		audit(t, sim, dsn, acked)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
