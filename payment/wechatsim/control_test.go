package wechatsim_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orderd/payment/wechatsim"
)

// A page that a developer visits must not make trades paid: neither by a form, nor by fetch, nor under a name that its
// DNS turns to this machine.
func TestControlAnswersNoPage(t *testing.T) {
	for _, anywhere := range []bool{false, true} {
		b := start(t, wechatsim.Options{ControlAnywhere: anywhere})
		for _, tt := range []struct {
			what    string
			host    string
			headers map[string]string
			want    int
		}{
			{"a program", "127.0.0.1:7070", map[string]string{"Content-Type": "application/json"}, 200},
			{"a charset", "localhost", map[string]string{"Content-Type": "application/json; charset=utf-8"}, 200},
			{"IPv6", "[::1]:7070", map[string]string{"Content-Type": "application/json"}, 200},
			{"the address bar", "127.0.0.1", map[string]string{"Content-Type": "application/json",
				"Sec-Fetch-Site": "none"}, 200},
			{"a form", "127.0.0.1", map[string]string{"Content-Type": "text/plain",
				"Origin": "https://evil.example"}, 403},
			{"an old browser's form", "127.0.0.1", map[string]string{"Content-Type": "text/plain"}, 415},
			{"curl -d", "127.0.0.1", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
			{"no type", "127.0.0.1", nil, 415},
			{"a sandboxed frame", "127.0.0.1", map[string]string{"Content-Type": "application/json",
				"Origin": "null"}, 403},
			{"fetch", "127.0.0.1", map[string]string{"Content-Type": "application/json",
				"Sec-Fetch-Site": "cross-site"}, 403},
			{"another port here", "127.0.0.1", map[string]string{"Content-Type": "application/json",
				"Sec-Fetch-Site": "same-site"}, 403},
		} {
			r := httptest.NewRequest(http.MethodPost, "/control/clock", strings.NewReader(`{"speed":1}`))
			r.RemoteAddr, r.Host = "127.0.0.1:40000", tt.host
			for name, value := range tt.headers {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			b.sim.Handler().ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%s, anywhere %v: %d %s", tt.what, anywhere, w.Code, w.Body)
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/control/trades", nil)
		r.RemoteAddr, r.Host = "127.0.0.1:40000", "rebound.evil.example:7070"
		w := httptest.NewRecorder()
		b.sim.Handler().ServeHTTP(w, r)
		if want := map[bool]int{false: 403, true: 200}[anywhere]; w.Code != want {
			t.Errorf("another name of this machine, anywhere %v: %d", anywhere, w.Code)
		}
	}
}
