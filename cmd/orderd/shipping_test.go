package main

import (
	"strings"
	"testing"
)

// Shipments are off unless a mini program's shop has said where access tokens come from; what cannot be is refused by
// the name of its setting, without its secret.
func TestShippingSettings(t *testing.T) {
	for name, c := range map[string]struct {
		set  settings
		want string
	}{
		"both":     {settings{ShippingSecret: "s", ShippingTokenURL: "https://shop.example/token"}, "not both"},
		"no https": {settings{ShippingTokenURL: "http://user:canary@shop.example/token"}, "ORDERD_SHIPPING_TOKEN_URL"},
		"no host":  {settings{ShippingSecret: "s", ShippingBaseURL: "https:///"}, "ORDERD_SHIPPING_BASE_URL"},
		"loopback": {settings{ShippingTokenURL: "http://127.0.0.1:9/token"}, ""},
		"off":      {settings{}, ""},
	} {
		err := c.set.checkShipping()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the error has the password: %v", name, err)
		}
	}
	if (&settings{}).ships() || !(&settings{ShippingSecret: "s"}).ships() {
		t.Error("shipments are on or off for the wrong reason")
	}
}

func TestParseParcel(t *testing.T) {
	p, err := parseParcel("SF:SF123:杯*1:189****1234", 1)
	if err != nil || p.Carrier != "SF" || p.Number != "SF123" || p.Goods != "杯*1" || p.Contact != "189****1234" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := parseParcel("SF123", 1); err == nil {
		t.Error("a parcel without a carrier is taken")
	}
	if p, err := parseParcel("a: b", 4); err != nil || p.Goods != "a: b" {
		t.Errorf("%+v, %v", p, err)
	}
}
