package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"orderd/order"
	"orderd/order/shops"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/payment/wechatsim"
)

// A shop's back end has a key and an address: it places an order for a customer, hears that it was paid, signed as the
// specification wants it, and reads the same back from the feed.
func TestShopHearsOfItsOrders(t *testing.T) {
	a := embeddedWith(t, t.TempDir(), slog.New(slog.DiscardHandler), func(s *settings) {
		s.WebhookAllow = "127.0.0.0/8"
	})
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	type heard struct {
		header http.Header
		body   []byte
	}
	got := make(chan heard, 100)
	shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- heard{r.Header, body}
	}))
	defer shop.Close()
	_, secret, err := a.webhooks.Add(t.Context(), webhooks.Put{URL: shop.URL, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := a.shops.Create(t.Context(), "web", []shops.Scope{shops.Place, shops.Read}, "test")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string, into any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.API+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer " + key}, "Orderd-Customer": {"c1"},
			"Idempotency-Key": {"k1"}, "Content-Type": {"application/json"},
			"X-Request-Id": {strings.Repeat("r", 60)}, "Traceparent": {"00-" + trace + "-00f067aa0ba902b7-01"}}
		client := http.Client{Timeout: 30 * time.Second}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		if err := json.Unmarshal(text, into); err != nil || res.StatusCode > 201 {
			t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
		}
	}
	var o struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
	}
	ask("POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}],"reference":"A-1","expires_in":120}`, &o)
	ask("POST", "/v1/orders/"+o.OrderNo+"/prepay", `{"trade_type":"NATIVE"}`, &o)
	if err := a.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	type event struct {
		Type string
		Data struct {
			OrderNo   string `json:"order_no"`
			State     string
			Reference string
		}
	}
	want := []string{"order.created " + o.OrderNo + " pending A-1", "order.paid " + o.OrderNo + " paid A-1"}
	var told []string
	for len(told) < len(want) {
		select {
		case h := <-got:
			if err := verifier.Verify(h.body, h.header); err != nil {
				t.Error(err)
			}
			var e event
			if err := json.Unmarshal(h.body, &e); err != nil {
				t.Fatal(err)
			}
			told = append(told, fmt.Sprint(e.Type, " ", e.Data.OrderNo, " ", e.Data.State, " ", e.Data.Reference))
			of := payment.ParseTrace(h.header.Get("Traceparent")).ID
			if want := map[string]string{"order.created": trace}[e.Type]; of != want { // WeChat Pay has none
				t.Errorf("%s came in the trace %q, want %q", e.Type, of, want)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("after %q nothing more came", told)
		}
	}
	if slices.Sort(told); !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	var read struct {
		Data []event
	}
	ask("GET", "/v1/events?types=order.created,order.paid", "", &read)
	var back []string
	for _, e := range read.Data {
		back = append(back, fmt.Sprint(e.Type, " ", e.Data.OrderNo, " ", e.Data.State, " ", e.Data.Reference))
	}
	if !slices.Equal(back, want) {
		t.Errorf("read %q, want %q", back, want)
	}
	var found struct {
		Data []struct {
			OrderNo   string `json:"order_no"`
			Reference string
		}
	}
	ask("GET", "/v1/orders?reference=A-1", "", &found)
	if len(found.Data) != 1 || found.Data[0].OrderNo != o.OrderNo || found.Data[0].Reference != "A-1" {
		t.Errorf("found by its reference: %+v", found)
	}
	timeline, err := a.orders.Timeline(t.Context(), o.OrderNo)
	if err != nil || len(timeline) == 0 || timeline[0].Actor != (order.Actor{Type: order.ActorShop, ID: "web"}) ||
		timeline[0].Cause.ID != strings.Repeat("r", 28)+"/"+trace+"-01" {
		t.Errorf("the timeline does not say which shop it was: %+v, %v", timeline, err)
	}
}
