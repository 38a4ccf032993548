package orderhttp

import (
	"encoding/json"
	"strings"
	"testing"
)

// What the decoder of payments accepts, encoding/json must read the same way: another payer's openid pays another
// order.
func FuzzDecodePrepay(f *testing.F) {
	f.Add([]byte(`{"trade_type":"JSAPI","payer":{"openid":"o-1"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodePrepay(body)
		if err != nil {
			if f := failureOf(err); f.Code != CodeMalformed && f.Code != CodeValidation {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var plain struct {
			TradeType string `json:"trade_type"`
			Payer     struct {
				OpenID string `json:"openid"`
			} `json:"payer"`
			Scene struct {
				ClientIP string `json:"payer_client_ip"`
				H5       struct {
					Type string `json:"type"`
				} `json:"h5_info"`
			} `json:"scene_info"`
		}
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(&plain); err != nil {
			t.Fatalf("%q is accepted, encoding/json says %v", body, err)
		}
		if plain.TradeType != string(r.TradeType) || plain.Payer.OpenID != r.OpenID ||
			plain.Scene.ClientIP != r.ClientIP || plain.Scene.H5.Type != r.H5Type {
			t.Fatalf("%q: %+v, encoding/json reads %+v", body, r, plain)
		}
	})
}
