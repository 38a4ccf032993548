package wechatsim_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"

	"orderd/payment/wechatsim"
)

// abnormal makes a refund that the buyer's account does not take, and gives WeChat's number of it.
func (b *bench) abnormal(transaction, no string) string {
	b.t.Helper()
	must(b.t, b.sim.SetRefundOutcome(no, wechatsim.StateAbnormal, time.Millisecond))
	b.refund(transaction, no, 100, nil).want(b.t, 200, "")
	until(b.t, "the refund is abnormal", func() bool {
		r, _ := b.sim.Refund(no)
		return r.State == wechatsim.StateAbnormal
	})
	r, _ := b.sim.Refund(no)
	return r.RefundID
}

// The buyer's card is encrypted under the key that the request names. A simulator that takes anything in its place
// would let a merchant send cards in the clear, or under a key that WeChat cannot open; Tencent's SDK encrypts here.
func TestOfficialSDKSendsAnAbnormalRefundToACard(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		ctx := context.Background()
		serial, err := c.responses.GetAcceptSerial(ctx)
		must(t, err)
		seal := func(text string) string {
			t.Helper()
			pem := string(b.keys.Client().VerifyKeys[serial])
			if pub, err := utils.LoadPublicKey(pem); err == nil {
				sealed, err := utils.EncryptOAEPWithPublicKey(text, pub)
				must(t, err)
				return sealed
			}
			cert, err := utils.LoadCertificate(pem)
			must(t, err)
			sealed, err := utils.EncryptOAEPWithCertificate(text, cert)
			must(t, err)
			return sealed
		}
		b.sim.SetBalance(true)
		tx := b.paid("TOCARD01")
		id := b.abnormal(tx, "R-CARD1")
		card := map[string]any{"out_refund_no": "R-CARD1", "type": "USER_BANK_CARD", "bank_type": "ICBC_DEBIT",
			"bank_account": seal("6222020000000000403"), "real_name": seal("张三")}
		send := func(edit func(map[string]any)) error {
			t.Helper()
			body := map[string]any{}
			for k, v := range card {
				body[k] = v
			}
			edit(body)
			res, err := c.client.Post(ctx, "https://api.mch.weixin.qq.com/v3/refund/domestic/refunds/"+id+
				"/apply-abnormal-refund", body)
			if err != nil {
				return err
			}
			defer func() { _ = res.Response.Body.Close() }()
			var got struct {
				Status  string
				Channel string
				Account string `json:"user_received_account"`
			}
			must(t, json.NewDecoder(res.Response.Body).Decode(&got))
			if got.Status != "PROCESSING" || got.Channel != "OTHER_BANKCARD" || got.Account != "ICBC借记卡0403" {
				t.Errorf("%+v", got)
			}
			return nil
		}
		for field, wrong := range map[string]any{"bank_account": "6222020000000000403", "real_name": seal(""),
			"bank_type": "ICBC_CREDIT", "type": "CARD", "out_refund_no": "R-CARD2"} {
			err := send(func(m map[string]any) { m[field] = wrong })
			if !core.IsAPIError(err, "PARAM_ERROR") {
				t.Errorf("%s: %v", field, err)
			}
		}
		must(t, send(func(map[string]any) {}))
		wantAPIError(t, send(func(map[string]any) {}), http.StatusBadRequest, "INVALID_REQUEST")
		until(t, "the card has it", func() bool {
			r, _ := b.sim.Refund("R-CARD1")
			return r.State == wechatsim.StateSuccess && r.Card == "USER_BANK_CARD"
		})
		b.do(request{method: "POST", target: "/v3/refund/domestic/refunds/50300000/apply-abnormal-refund",
			body: `{"out_refund_no":"R","type":"MERCHANT_BANK_CARD"}`}).want(t, 404, "RESOURCE_NOT_EXISTS")
	})
}
