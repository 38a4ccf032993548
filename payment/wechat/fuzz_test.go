package wechat

import (
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"orderd/payment"
)

// Anybody can send a callback: whatever its headers and bytes are, only what WeChat's key has signed, less than five
// minutes ago, may be believed, and a refusal must not quote the sender.
func FuzzCallback(f *testing.F) {
	g := mustNew(f, testConfig())
	for _, body := range []string{notice(tradeBody(nil), nil), refundNotice("REFUND.SUCCESS", nil), "{}", ""} {
		h := signedHeader(body)
		f.Add(h.Get(headerTimestamp), h.Get(headerNonce), h.Get(headerSerial), h.Get(headerSignature), []byte(body))
	}
	key := &theWorld().public.PublicKey
	f.Fuzz(func(t *testing.T, at, nonce, serial, signature string, body []byte) {
		h := http.Header{}
		for name, value := range map[string]string{headerTimestamp: at, headerNonce: nonce, headerSerial: serial,
			headerSignature:     signature,
			headerSignatureType: signatureType} {
			h.Set(name, value)
		}
		paid, err := g.ParseNotification(h, body)
		back, backErr := g.ParseRefund(h, body)
		if err == nil && backErr == nil {
			t.Fatal("a payment and a refund in one")
		}
		for _, err := range []error{err, backErr} {
			if err != nil && ((!errors.Is(err, payment.ErrBadSignature) && !errors.Is(err, payment.ErrMalformed)) ||
				len(err.Error()) > 300) {
				t.Fatalf("%v", err)
			}
		}
		if !errors.Is(err, payment.ErrBadSignature) || !errors.Is(backErr, payment.ErrBadSignature) {
			sec, _ := strconv.ParseInt(at, 10, 64)
			if age := time.Since(time.Unix(sec, 0)); !rsaVerifies(key, at+"\n"+nonce+"\n"+string(body)+"\n",
				signature) || age.Abs() > 301*time.Second {
				if len(body) <= MaxNotification {
					t.Fatalf("believed: %v %v, %+v %+v", err, backErr, paid, back)
				}
			}
		}
	})
}

// A resource that decrypts is WeChat's word; a refund that it cannot mean must still not move money.
func FuzzRefundResource(f *testing.F) {
	f.Add("REFUND.SUCCESS", []byte(refundBody(map[string]any{"mchid": "1900007291", "refund_status": "SUCCESS"})))
	f.Add("REFUND.CLOSED", []byte(`{"refund_status":"CLOSED","amount":{"refund":1}}`))
	aead, err := newAEAD(testAPIKey)
	if err != nil {
		f.Fatal(err)
	}
	g := &Gateway{aead: aead}
	f.Fuzz(func(t *testing.T, event string, plain []byte) {
		body := notice(string(plain), func(top, res map[string]any) {
			top["event_type"], res["original_type"] = event, originalRefund
		})
		n, err := g.readRefund([]byte(body))
		switch r := n.Refund; {
		case err != nil:
			if n != (payment.RefundNotification{}) || !errors.Is(err, payment.ErrMalformed) || len(err.Error()) > 200 {
				t.Fatalf("%+v, %v", n, err)
			}
		case n.ID == "" || r.MchID == "" || r.TransactionID == "" || !payment.ValidOutRefundNo(r.OutRefundNo),
			r.Amount < 1 || r.Amount > payment.MaxFen || (r.Total != 0 && r.Total < r.Amount),
			r.Status != payment.RefundSuccess && r.Status != payment.RefundClosed && r.Status != payment.RefundAbnormal:
			t.Fatalf("believed %+v", n)
		}
	})
}
