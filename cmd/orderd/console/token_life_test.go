package console

import (
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"orderd/order/orderhttp"
	"orderd/payment/operators"
)

// A token ends by itself, also one of before the bound was set, and the list says when.
func TestOperatorTokensExpire(t *testing.T) {
	for _, bound := range []time.Duration{0, time.Hour} {
		d := newDesk(t)
		d.tokens.Bound(bound)
		life := bound
		if bound == 0 {
			life = DefaultTokenLife
		}
		secret, err := d.tokens.Create(t.Context(), "x", Viewer, operators.Bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		ask := func() int {
			return d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+secret).Code
		}
		d.Clock.Advance(life - time.Minute)
		if code := ask(); code != 200 {
			t.Errorf("a minute before its end: %d", code)
		}
		all, err := d.tokens.List(t.Context())
		if err != nil || len(all) != 1 || !all[0].ExpiresAt.Equal(all[0].CreatedAt.Add(life)) {
			t.Errorf("%+v, %v", all, err)
		}
		d.Clock.Advance(time.Minute)
		if code := ask(); code != 401 {
			t.Errorf("at its end: %d", code)
		}
		if who, err := d.tokens.Who(t.Context(), secret); who != nil || err != nil {
			t.Errorf("a verb of the shell: %+v, %v", who, err)
		}
	}
}

// Whoever guesses at the operators' listener is held and counted; an operator at the same address is not.
func TestWrongOperatorTokensAreHeld(t *testing.T) {
	d := newDesk(t)
	d.metrics = NewMetrics()
	e, err := New(Options{Orders: d.Service, Stock: d.Admin, Refunds: d.Service, Reconciler: d.books,
		Failures: d.failures, TokenStore: d.tokens, Metrics: d.metrics,
		Ready: NewReadiness(d.Clock.Now), Now: d.Clock.Now,
		Tokens: []Token{{Name: "root", Role: Admin, SHA256: sha256.Sum256([]byte(secret(Admin)))}},
		WrongTokens: orderhttp.NewWrongTokens(3, nil, d.Clock.Now, func(held bool) {
			d.metrics.WrongToken("admin", held)
		})})
	if err != nil {
		t.Fatal(err)
	}
	d.Handler = described(t, e)
	for i := range 5 {
		status, says := 401, "UNAUTHENTICATED"
		if i >= 3 {
			status, says = 429, "RATE_LIMITED"
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", fmt.Sprint("Bearer ", tokenPrefix, i))
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		want(t, w, status, says)
		if (w.Header().Get("WWW-Authenticate") != "") != (status == 401) ||
			(w.Header().Get("Retry-After") != "") != (status == 429) {
			t.Errorf("%d: %v", status, w.Header())
		}
		want(t, d.ask(Admin, "GET", "/admin/v1/orders", ""), 200, "")
		want(t, d.ask("", "GET", "/admin/v1/orders", ""), 401, "UNAUTHENTICATED")
	}
	text := d.ask("", "GET", "/metrics", "")
	want(t, text, 200, `orderd_wrong_tokens_total{listener="admin",result="refused"} 3`)
	want(t, text, 200, `orderd_wrong_tokens_total{listener="admin",result="held"} 2`)
}

// Which tokens nobody uses any more is seen where they are revoked.
func TestTokensSayWhenTheyWereUsed(t *testing.T) {
	d := newDesk(t)
	secret, err := d.tokens.Create(t.Context(), "li", Viewer, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	b := d.browser(t, "ann", Admin)
	listed := func() (used *time.Time) {
		t.Helper()
		all, err := d.tokens.ListOf(t.Context(), "li")
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].UsedAt
	}
	if at := listed(); at != nil {
		t.Fatalf("it was used at %s", at)
	}
	ask := func() {
		t.Helper()
		want(t, d.ask("", "GET", "/admin/v1/orders", "", "Authorization", "Bearer "+secret), 200, "data")
	}
	ask()
	first := d.Clock.Now()
	d.Clock.Advance(30 * time.Second)
	ask()
	if at := listed(); at == nil || !at.Equal(first.Truncate(time.Millisecond)) {
		t.Fatalf("used at %v, want %s", at, first)
	}
	d.Clock.Advance(31 * time.Second)
	ask()
	if at := listed(); !at.After(first) {
		t.Errorf("used at %v", at)
	}
	want(t, b.get("/ui/people/li"), 200, "最近使用")
	want(t, d.ask(Admin, "GET", "/admin/v1/tokens", ""), 200, `"used_at":"`+listed().Format(time.RFC3339)[:16])
}
