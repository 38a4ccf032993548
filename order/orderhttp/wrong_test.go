package orderhttp

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// Whoever guesses is told to wait, in memory that is bounded; whoever has a right token is not held back, from the same
// address, and neither is a client whose token has only expired.
func TestWrongTokensAreLimitedByAddress(t *testing.T) {
	var refused, held int
	world := newWorld(t, func(o *Options) {
		o.WrongTokens = NewWrongTokens(3, nil, o.Now, func(h bool) {
			if h {
				held++
			} else {
				refused++
			}
		})
	})
	now := world.clock.Now()
	ask := func(token, from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/v1/orders?limit=0", nil)
		r.RemoteAddr = from
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		world.echo.ServeHTTP(w, r)
		return w
	}
	right, expired := token(t, "c1", now), token(t, "c1", now.Add(-2*time.Hour))
	const here = "192.0.2.7:4711"
	for i := range 5 {
		want, after := http.StatusUnauthorized, ""
		if i >= 3 {
			want, after = http.StatusTooManyRequests, "20"
		}
		if w := ask(fmt.Sprint("guess", i), here); w.Code != want || w.Header().Get("Retry-After") != after {
			t.Errorf("wrong token %d: %d, Retry-After %q", i, w.Code, w.Header().Get("Retry-After"))
		}
		if w := ask(expired, here); w.Code != http.StatusUnauthorized {
			t.Errorf("an expired token: %d", w.Code)
		}
		if w := ask("", here); w.Code != http.StatusUnauthorized {
			t.Errorf("no token: %d", w.Code)
		}
		if w := ask(right, here); w.Code != http.StatusUnprocessableEntity { // its parameter is read
			t.Errorf("the right token beside %d wrong ones: %d", i, w.Code)
		}
	}
	if w := ask("guess", "192.0.2.8:1"); w.Code != http.StatusUnauthorized {
		t.Errorf("another address: %d", w.Code)
	}
	if refused != 4 || held != 2 {
		t.Errorf("%d are counted refused and %d held", refused, held)
	}
}

// One client is one address, in IPv6 the network of it; behind a trusted proxy it is the proxy's word.
func TestAddressOfAClient(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		remote, forwarded, want string
		proxies                 []netip.Prefix
	}{
		{"192.0.2.7:1", "", "192.0.2.7", nil},
		{"192.0.2.7:1", "198.51.100.9", "192.0.2.7", nil},
		{"192.0.2.7:1", "198.51.100.9", "192.0.2.7", proxies},
		{"10.1.1.1:1", "198.51.100.9", "198.51.100.9", proxies},
		{"10.1.1.1:1", "garbage", "10.1.1.1", proxies},
		{"10.1.1.1:1", "192.168.1.7", "192.168.1.7", proxies}, // behind one proxy, and not one client
		{"10.1.1.1:1", "192.168.1.8", "192.168.1.8", proxies},
		{"10.1.1.1:1", "10.2.2.2", "10.1.1.1", proxies},
		{"[::ffff:192.0.2.7]:1", "", "192.0.2.7", nil},
		{"[2001:db8:1:2:3:4:5:6]:1", "", "2001:db8:1:2::/64", nil},
		{"[fe80::1%eth0]:1", "", "fe80::/64", nil},
		{"pipe", "", "", nil},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = tt.remote
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := addressOf(r, tt.proxies); got != tt.want {
			t.Errorf("%s for %q: %q, want %q", tt.remote, tt.forwarded, got, tt.want)
		}
	}
}

// 0 is no limit, nil nothing at all, and many addresses do not fill the memory.
func TestWrongTokensWithoutALimit(t *testing.T) {
	wrong := errors.New("wrong")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	counted := 0
	for _, w := range []*WrongTokens{nil, NewWrongTokens(0, nil, time.Now, func(bool) { counted++ })} {
		for range 100 {
			if err := w.Refuse(r, wrong); err != wrong {
				t.Fatal(err)
			}
		}
	}
	if counted != 100 {
		t.Errorf("%d are counted", counted)
	}
	w := NewWrongTokens(1, nil, time.Now, nil)
	for i := range 3 * maxTracked {
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)
		_ = w.Refuse(r, wrong)
	}
	if n := len(w.limit.young) + len(w.limit.old); n > 2*maxTracked {
		t.Errorf("%d addresses are remembered", n)
	}
}

// A customer's token that never ends, in 9999, is refused, whoever signed it.
func TestTokensThatLastTooLong(t *testing.T) {
	now := time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)
	v, err := NewSecretVerifier(secret, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for _, bound := range []time.Duration{0, time.Hour} {
		most := bound
		if bound == 0 {
			most = DefaultTokenLife
		}
		v.Bound(bound)
		for life, fits := range map[time.Duration]bool{most: true, most + leeway: true,
			most + leeway + time.Second:                             false,
			time.Until(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)): false} {
			token, err := MintToken(secret, "c1", now, life)
			if err != nil {
				t.Fatal(err)
			}
			if customer, err := v.Customer(token); (err == nil) != fits || (customer == "c1") != fits {
				t.Errorf("%s of at most %s: %q, %v", life, most, customer, err)
			}
		}
	}
}
