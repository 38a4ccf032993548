package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// lines collects what a process logs.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// of gives the lines with a message, as JSON; one that is none fails the test.
func (l *lines) of(t *testing.T, message string) (all []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("no JSON: %s", line)
		}
		if o["msg"] == message {
			all = append(all, o)
		}
	}
	return all
}

// A buyer's complaint has the trace of the shop's own system and no order number: with the trace in the log and in the
// timeline the order is found, and from an order the trace.
func TestATraceIsFoundInLogAndTimeline(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	log := &lines{}
	s := &settings{LogLevel: "info", LogFormat: "json"}
	h := newHouseIn(t, embeddedWith(t, t.TempDir(), s.logger(&terminal{Err: log}),
		func(s *settings) { s.AccessLog = true }))
	place := func(key string, headers ...string) string {
		t.Helper()
		rec := h.ask("api", "customer A", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}]}`,
			append(headers, "Idempotency-Key", key)...)
		var o struct {
			OrderNo string `json:"order_no"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &o); err != nil || rec.Code != http.StatusCreated {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return o.OrderNo
	}
	cause := func(no string) string {
		t.Helper()
		all, err := h.orders.Timeline(t.Context(), no)
		if err != nil || len(all) == 0 {
			t.Fatal(all, err)
		}
		return all[0].Cause.ID
	}
	const parent = "-00f067aa0ba902b7-01"
	long := strings.Repeat("r", 40)
	for name, c := range map[string]struct {
		headers []string
		want    string
	}{
		"both": {[]string{"X-Request-Id", "mine", "Traceparent", "00-" + trace + parent}, "mine/" + trace + "-01"},
		"no room for both": {[]string{"X-Request-Id", long, "Traceparent", "00-" + trace + parent},
			long[:28] + "/" + trace + "-01"},
		"no trace": {[]string{"X-Request-Id", "mine"}, "mine"},
		"not one":  {[]string{"X-Request-Id", "mine", "Traceparent", "00-" + trace}, "mine"},
	} {
		if got := cause(place(strings.ReplaceAll(name, " ", "-"), c.headers...)); got != c.want {
			t.Errorf("%s: the cause is %q, want %q", name, got, c.want)
		}
	}
	for _, door := range []string{"api", "notify", "admin", "ops"} {
		h.ask(door, "nobody", "GET", "/healthz", "")
	}
	h.ready.Drain()
	h.ask("ops", "nobody", "GET", "/readyz", "") // 503, asked every second
	h.ask("admin", "nobody", "GET", "/metrics", "")
	if probed := log.of(t, "request not served"); len(probed) != 0 {
		t.Errorf("probes are logged: %v", probed)
	}
	traced := 0
	for _, line := range log.of(t, "request") {
		if route, _ := line["route"].(string); route == "/healthz" || route == "/readyz" || route == "/metrics" {
			t.Errorf("probes are logged: %v", line)
		}
		if line["trace_id"] == trace {
			traced++
		}
		if line["route"] == nil || line["status"] == nil || line["request_id"] == nil || line["level"] != "INFO" {
			t.Errorf("%v", line)
		}
	}
	if traced != 2 {
		t.Errorf("%d lines of the access log have the trace", traced)
	}
	h.ask("api", "customer A", "GET", "/v1/orders?state=paid&cursor=canary", "")
	h.ask("admin", "admin", "GET", "/admin/v1/orders?customer_id=canary", "")
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, secret := range append([]string{"canary", h.AdminToken}, tokens(h)...) {
		if strings.Contains(log.b.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// tokens are the secrets of all principals.
func tokens(h *house) (all []string) {
	for _, s := range h.secret {
		all = append(all, strings.TrimPrefix(s, "Bearer "))
	}
	return all
}
