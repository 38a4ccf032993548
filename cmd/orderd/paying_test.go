package main

import (
	"log/slog"
	"net/http"
	"strconv"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment/wechatsim"
)

// A close that comes while the buyer's bank is at it is answered 429. A service that takes that for "not paid" sells
// the goods twice; one that asks again at once is locked out; one that waits for the notification alone never hears of
// a payment whose notification is lost.
func TestCancelWhileTheBuyerPays(t *testing.T) {
	dir := t.TempDir()
	a := embeddedWith(t, dir, slog.New(slog.DiscardHandler), func(s *settings) { s.Pace = 4 })
	defer a.Close()
	for i, test := range []struct {
		name string
		pay  wechatsim.PayOptions
		end  order.State
	}{
		{"notified", wechatsim.PayOptions{Takes: 2 * time.Second, Notify: true}, order.StatePaid},
		{"notification lost", wechatsim.PayOptions{Takes: 2 * time.Second}, order.StatePaid},
		{"the bank says no", wechatsim.PayOptions{Takes: 2 * time.Second, Fails: true}, order.StateClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got struct {
				OrderNo    string `json:"order_no"`
				OutTradeNo string `json:"out_trade_no"`
			}
			one := []any{map[string]any{"sku_id": "1001", "quantity": 1}}
			buy(t, a, "/v1/orders", "key-"+strconv.Itoa(i), map[string]any{"items": one}, &got)
			buy(t, a, "/v1/orders/"+got.OrderNo+"/prepay", "", map[string]any{"trade_type": "NATIVE"}, &got)
			if err := a.sim.Pay(got.OutTradeNo, test.pay); err != nil {
				t.Fatal(err)
			}
			if st := buy(t, a, "/v1/orders/"+got.OrderNo+"/cancel", "", map[string]any{"reason": "x"}, nil); st !=
				http.StatusAccepted {
				t.Errorf("cancel while the buyer pays: %d, want 202", st)
			}
			look := func() order.Order {
				o, err := a.orders.Find(t.Context(), got.OrderNo)
				if err != nil {
					t.Fatal(err)
				}
				return o
			}
			if o := look(); o.State != order.StateClosing {
				t.Fatalf("%s before WeChat Pay knew", o.State)
			}
			for end := time.Now().Add(2 * time.Minute); look().State != test.end; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("still %s", look().State)
				}
			}
			if v, _ := a.sim.Trade(got.OutTradeNo); v.Closes > 4 {
				t.Errorf("%d closes within two seconds", v.Closes)
			}
		})
	}
	if code, out, _ := words(t, "verify", "--data-dir", dir, "--sim-addr", a.sim.addr); code != exitOK {
		t.Error(out)
	}
}
