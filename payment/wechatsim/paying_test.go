package wechatsim_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"

	"orderd/payment/wechatsim"
)

// Between the password and the payment WeChat Pay refuses a close with 429 (its staff, developers.weixin.qq.com
// 00024ef66683…, January 2025). Without that window no test would show what a merchant does with such a 429, and then
// with the money.
func TestOfficialSDKClosesWhileTheBuyerPays(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		ctx, svc := context.Background(), &native.NativeApiService{Client: c.client}
		state := func(no string) string {
			t.Helper()
			got, _, err := svc.QueryOrderByOutTradeNo(ctx, native.QueryOrderByOutTradeNoRequest{OutTradeNo: &no,
				Mchid: str(mchID)})
			must(t, err)
			return *got.TradeState
		}
		for no, fails := range map[string]bool{"PAYING-01": false, "PAYING-02": true} {
			b.prepay(no, nil).want(t, 200, "")
			must(t, b.sim.Pay(no, wechatsim.PayOptions{Takes: time.Second, Fails: fails}))
			_, err := svc.CloseOrder(ctx, native.CloseOrderRequest{OutTradeNo: &no, Mchid: str(mchID)})
			wantAPIError(t, err, http.StatusTooManyRequests, "FREQUENCY_LIMITED")
			if got := state(no); got != "NOTPAY" {
				t.Errorf("%s while it is paid: %s", no, got)
			}
			if err := b.sim.Pay(no, wechatsim.PayOptions{}); !errors.Is(err, wechatsim.ErrPaying) {
				t.Errorf("%s paid twice at once: %v", no, err)
			}
			until(t, "the end of the payment", func() bool { return !b.trade(no).Paying })
			switch got := state(no); {
			case !fails && got != "SUCCESS":
				t.Errorf("paid: %s", got)
			case fails:
				_, err := svc.CloseOrder(ctx, native.CloseOrderRequest{OutTradeNo: &no, Mchid: str(mchID)})
				if must(t, err); got != "NOTPAY" || state(no) != "CLOSED" {
					t.Errorf("not paid: %s, closed: %s", got, state(no))
				}
			}
		}
	})
}

// The fault lets the password come right before a close, and the control surface lets a demonstration pay slowly.
func TestPayingByFaultAndControl(t *testing.T) {
	b := start(t, wechatsim.Options{UserPaying: true})
	f, err := wechatsim.ParseFault("close=paying:50ms:x1")
	must(t, err)
	must(t, b.sim.AddFault(f))
	b.prepay("PAYING-03", nil).want(t, 200, "")
	b.close("PAYING-03").want(t, 429, "FREQUENCY_LIMITED")
	until(t, "the payment", func() bool { return b.trade("PAYING-03").State == wechatsim.StateSuccess })
	b.close("PAYING-03").want(t, 400, "ORDERPAID")

	b.prepay("PAYING-04", nil).want(t, 200, "")
	b.control("POST", "/trades/PAYING-04/pay", `{"takes_ms":60000,"fails":true}`).want(t, 200, "")
	if got := string(b.query("PAYING-04").want(t, 200, "").body); !strings.Contains(got, `"trade_state":"USERPAYING"`) {
		t.Error(got)
	}
	b.control("POST", "/trades/PAYING-04/pay", `{}`).want(t, 409, "")
	b.control("POST", "/trades/PAYING-04/pay", `{"fails":true}`).want(t, 400, "")
	if _, err := wechatsim.ParseFault("close=paying"); err == nil {
		t.Error("a payment that takes no time was armed")
	}
}
