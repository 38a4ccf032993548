package main

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment/wechatsim"
)

// The buyer's account is closed, and WeChat Pay cannot pay his refund out: from the command line it goes to the
// merchant's own account, with an alarm that the buyer has nothing yet; to a card of the buyer's the shell alone sends
// nothing, and what it was given of the card is in no output.
func TestAbnormalRefundToACardByVerb(t *testing.T) {
	dir := t.TempDir()
	var log lockedBuffer
	a := embeddedWith(t, dir, slog.New(slog.NewTextHandler(&log, nil)),
		func(s *settings) { s.Pace = 20 })
	defer a.Close()
	verb := func(args ...string) (int, string) {
		t.Helper()
		code, out, errs := words(t, append(args, "--data-dir", dir, "--sim-addr", a.sim.addr, "--notify-addr",
			a.Notify)...)
		return code, out + errs
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) { // polling, not timing
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	var got struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
		No         string `json:"out_refund_no"`
	}
	one := []any{map[string]any{"sku_id": "1001", "quantity": 1}}
	buy(t, a, "/v1/orders", "k1", map[string]any{"items": one}, &got)
	buy(t, a, "/v1/orders/"+got.OrderNo+"/prepay", "", map[string]any{"trade_type": "NATIVE"}, &got)
	if err := a.sim.Pay(got.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	state := func() order.RefundState {
		r, err := a.orders.FindRefund(t.Context(), got.No)
		if err != nil {
			t.Fatal(err)
		}
		return r.State
	}
	until("not paid", func() bool {
		o, err := a.orders.Find(t.Context(), got.OrderNo)
		return err == nil && o.State == order.StatePaid
	})
	if st := buy(t, a, "/v1/orders/"+got.OrderNo+"/refunds", "r1", map[string]any{"items": one, "reason": "x"},
		&got); st != http.StatusCreated {
		t.Fatal(st)
	}
	// A while after the refund was taken, so that the answer to the call is stored before the end.
	if err := a.sim.SetRefundOutcome(got.No, wechatsim.StateAbnormal, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if code, out := verb("refund", "approve", got.No, "--reason", "fair", "--yes"); code != exitOK {
		t.Fatal(out)
	}
	until("not abnormal", func() bool { return state() == order.RefundStateAbnormal })

	card := filepath.Join(dir, "card.json")
	if err := os.WriteFile(card, []byte(`{"bank_type":"ICBC_DEBIT","bank_account":"6222020000000000403",`+
		`"real_name":"张三"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := verb("refund", "to-card", got.No, "--to", "buyer", "--card", card, "--reason", "x", "--yes")
	if code == exitOK || strings.Contains(out, "6222") || strings.Contains(out, "张三") ||
		!strings.Contains(out, "two people") {
		t.Errorf("the shell alone: exit %d: %s", code, out)
	}
	for _, args := range [][]string{{"--to", "buyer"}, {"--card", card}, {"--to", "buyer", "--card", dir}} {
		args = append([]string{"refund", "to-card", got.No, "--reason", "x", "--yes"}, args...)
		if code, out := verb(args...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
	if code, out := verb("refund", "to-card", got.No, "--reason", "closed", "--yes"); code != exitOK ||
		!strings.Contains(out, "sent to MERCHANT_BANK_CARD: closed") {
		t.Fatal(code, out)
	}
	until("not paid out", func() bool { return state() == order.RefundStateSucceeded })
	until("no alarm", func() bool { return strings.Contains(log.String(), "own bank account") })
	if v, _ := a.sim.Refund(got.No); v.Card != "MERCHANT_BANK_CARD" {
		t.Errorf("%+v", v)
	}
	if strings.Contains(log.String(), "6222") {
		t.Error("the card is in the log")
	}
}
