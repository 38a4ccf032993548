package console

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"orderd/docs"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/orderhttp"
	"orderd/order/ordertest"
	"orderd/order/shops"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/payment/feed"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/reconcile/reconciletest"
	"orderd/payment/shipping"
	"orderd/payment/trail"
	"orderd/scheduler"
	"orderd/stock"
)

var (
	_ order.Observer     = (*Metrics)(nil)
	_ scheduler.Observer = (*Metrics)(nil)
)

const customer = "customer-secret-id"

// desk is the listener on the real service with a scripted WeChat Pay.
type desk struct {
	*ordertest.Fixture
	t            *testing.T
	http.Handler // held against the document; console is without
	console      http.Handler
	metrics      *Metrics
	routes       [][2]string
	tokens       *TokenStore
	logins       *operators.Logins
	keys         *shops.Store
	books        *reconcile.Reconciler
	bills        map[string]string
	runs         *bulk.Runs

	failures *scheduler.DeadLetters
	home     *home // what Redis has of sales; nothing at first
	stopping chan struct{}
	health   Health
}

// FetchBill gives the bill of a day, if there is one.
func (d *desk) FetchBill(_ context.Context, date string, kind payment.BillType, w io.Writer) (payment.Bill, error) {
	text, ok := d.bills[date]
	if !ok {
		return payment.Bill{}, payment.ErrNoBill
	}
	_, err := io.WriteString(w, text)
	return payment.Bill{Date: date, Type: kind, SHA1: strings.Repeat("aa", 20)}, err
}

func secret(r Role) string { return strings.Repeat(string(r)+"-", 10) }

func newDesk(t *testing.T, checks ...Check) *desk {
	t.Helper()
	return newDeskOf(t, ordertest.New(t, sqldbtest.SQLite(t)), nil, checks...)
}

// deskTokens are those of the configuration, one of each role.
func deskTokens() (tokens []Token) {
	for _, r := range []Role{Viewer, Operator, Finance, Admin} {
		tokens = append(tokens, Token{Name: "the-" + string(r), Role: r, SHA256: sha256.Sum256([]byte(secret(r)))})
	}
	return tokens
}

// newDeskOf is newDesk on a fixture of one's own; log nil is silent.
func newDeskOf(t *testing.T, f *ordertest.Fixture, log *slog.Logger, checks ...Check) *desk {
	t.Helper()
	d := &desk{Fixture: f, t: t, metrics: NewMetrics(), bills: map[string]string{}, stopping: make(chan struct{})}
	tokens := deskTokens()
	books, err := reconcile.New(reconcile.Config{DB: d.DB, Orders: reconciletest.Orders{Service: d.Service},
		Gateway: d.WeChat, Bills: d, Now: d.Clock.Now, MchID: ordertest.MchID})
	if err != nil {
		t.Fatal(err)
	}
	d.books = books
	d.failures = scheduler.NewDeadLetters(d.DB, d.Clock.Now)
	d.tokens = NewTokenStore(d.DB, d.Clock.Now)
	ships, err := shipping.New(shipping.Config{DB: d.DB, AppID: ordertest.AppID, Now: d.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := webhooks.New(webhooks.Config{DB: d.DB, Now: d.Clock.Now, Key: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}
	runs, err := bulk.New(bulk.Config{DB: d.DB, Orders: d.Service, Now: d.Clock.Now, LookEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	d.runs = runs
	d.home = &home{}
	d.logins = operators.NewLogins(operators.LoginConfig{DB: d.DB, Now: d.Clock.Now,
		Key: strings.Repeat("k", 32), Cost: operators.Cost{Passes: 1, KiB: 8, Threads: 1}})
	d.logins.Keyed("the bootstrap token")
	d.keys = shops.New(d.DB, d.Clock.Now)
	e, err := New(Options{Logins: d.logins, ShopKeys: d.keys, Trail: trail.New(d.DB, d.Clock.Now, log),
		Home: d.home, Queues: d.home, Orders: d.Service, Stock: d.Admin, Refunds: d.Service,
		Reconciler: books, Failures: d.failures, Shipments: ships, Webhooks: hooks, Bulk: runs,
		TokenStore: d.tokens, Tokens: tokens, Metrics: d.metrics, Ready: NewReadiness(d.Clock.Now, checks...),
		Now: d.Clock.Now, Log: log, OpenAPI: docs.AdminOpenAPI, CloseRate: 50,
		Feed: feed.New(d.DB), EventsEvery: 5 * time.Millisecond, Stopping: d.stopping,
		Health: func(context.Context) Health { return d.health }})
	if err != nil {
		t.Fatal(err)
	}
	d.console, d.Handler = e, described(t, e)
	d.metrics.Watch(Sources{Orders: d.Service, Differences: books, Shipments: ships, Webhooks: hooks,
		Failures: d.failures,
		Gates:    d.Admin, Queues: d.home,
		Schema: func(ctx context.Context) (int64, int64, error) { return migrations.Versions(ctx, d.DB) },
		Lag: func() (sqldb.Lag, bool) {
			return sqldb.Lag{Known: true, Age: 1500 * time.Millisecond, Fresh: true}, true
		},
		Keys: []Key{{"5157F09EFDC096DE15EBE81A47057A72", time.Unix(1_900_000_000, 0)}}}, d.Clock.Now)
	t.Cleanup(func() { // the people of this test's configuration have no accounts
		for _, q := range []string{"UPDATE operators SET created_by = 'bootstrap' WHERE created_by LIKE 'the-%'",
			"UPDATE operators SET disabled_by = 'bootstrap' WHERE disabled_by LIKE 'the-%'",
			"UPDATE operator_tokens SET created_by = 'bootstrap' WHERE created_by LIKE 'the-%'"} {
			if _, err := d.DB.Pool().ExecContext(context.Background(), q); err != nil {
				t.Error(err)
			}
		}
	})
	for _, r := range e.Routes() {
		d.routes = append(d.routes, [2]string{r.Method, r.Path})
	}
	return d
}

// ask sends a request as a role, "" for nobody, with headers in pairs.
func (d *desk) ask(role Role, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+secret(role))
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if !strings.HasPrefix(r.Header.Get("Accept-Language"), "en") {
		d.saysChinese(w)
	}
	return w
}

// english is three words of English in a row: a sentence, and no name or value.
var english = regexp.MustCompile(`[a-z]{2,} [a-z]{2,} [a-z]{2,}`)

// saysChinese fails the test when a field of a problem is explained in English to whoever
// asked for Chinese, or for nothing.
func (d *desk) saysChinese(w *httptest.ResponseRecorder) {
	var p orderhttp.Problem
	if w.Code < http.StatusBadRequest || json.Unmarshal(w.Body.Bytes(), &p) != nil {
		return
	}
	// What is said of a body that is no JSON, and of tokens, is for whoever writes a program.
	ofPrograms := p.Code == orderhttp.CodeMalformed || p.Code == orderhttp.CodeUnauthenticated
	if !ofPrograms && english.MatchString(p.Detail) {
		d.t.Errorf("%d %s: %q is not Chinese (order/orderhttp/chinese.go)", p.Status, p.Code, p.Detail)
	}
	for _, e := range p.Errors {
		if english.MatchString(e.Detail) {
			d.t.Errorf("%s: %q is not Chinese (order/orderhttp/chinese.go)", e.Pointer, e.Detail)
		}
	}
}

func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Fatalf("got %d %.400s, want %d with %q", w.Code, w.Body, status, text)
	}
}

// signedIn is what only a browser that is signed in opens.
const signedIn Role = "somebody who is signed in"

// A route added without a decision about its role could be open to everybody.
func TestEveryRouteAndRole(t *testing.T) {
	needs := map[string]Role{
		"GET /healthz":                                  "",
		"GET /readyz":                                   "",
		"GET /metrics":                                  "",
		"GET /problems/:slug":                           "",
		"GET /":                                         Viewer,
		"GET /static/:name":                             "",
		"POST /ui/language":                             "",
		"GET /ui/orders":                                Viewer,
		"GET /ui/orders.csv":                            Viewer,
		"GET /ui/orders.xlsx":                           Viewer,
		"GET /ui/orders/:no":                            Viewer,
		"GET /login":                                    "",
		"POST /login":                                   "",
		"GET /setup":                                    "",
		"POST /setup":                                   "",
		"POST /logout":                                  signedIn,
		"GET /ui/me":                                    signedIn,
		"POST /ui/me/sessions/end":                      signedIn,
		"GET /ui/me/password":                           signedIn,
		"POST /ui/me/password":                          signedIn,
		"GET /ui/me/totp":                               signedIn,
		"POST /ui/me/totp":                              signedIn,
		"POST /ui/me/totp/confirm":                      signedIn,
		"POST /ui/me/totp/off":                          signedIn,
		"GET /ui/people":                                signedIn,
		"POST /ui/people":                               signedIn,
		"POST /ui/people/:name/disable":                 signedIn,
		"POST /ui/people/:name/end-sessions":            signedIn,
		"POST /ui/people/:name/link":                    signedIn,
		"GET /ui/people/:name":                          signedIn,
		"POST /ui/people/:name/role":                    signedIn,
		"POST /ui/people/:name/end-session":             signedIn,
		"POST /ui/people/:name/tokens":                  signedIn,
		"POST /ui/people/:name/tokens/revoke":           signedIn,
		"POST /ui/shop-keys":                            signedIn,
		"POST /ui/shop-keys/revoke":                     signedIn,
		"GET /ui/search":                                Viewer,
		"GET /ui/held":                                  Viewer,
		"GET /ui/tasks":                                 Viewer,
		"GET /ui/webhooks":                              Admin,
		"GET /admin/v1/openapi.yaml":                    Viewer,
		"GET /admin/v1/search":                          Viewer,
		"GET /admin/v1/timeouts/due":                    Viewer,
		"GET /admin/v1/orders":                          Viewer,
		"GET /admin/v1/orders/:no":                      Viewer,
		"GET /admin/v1/orders/:no/timeline":             Viewer,
		"POST /admin/v1/orders/:no/close":               Operator,
		"POST /admin/v1/orders/:no/payment-query":       Operator,
		"POST /admin/v1/orders/:no/vouch-unpaid":        operatorOrFinance,
		"POST /admin/v1/orders/:no/notes":               operatorOrFinance,
		"POST /admin/v1/orders/:no/payer":               operatorOrFinance,
		"GET /admin/v1/held":                            Viewer,
		"POST /admin/v1/held/:id":                       Finance,
		"GET /admin/v1/payments/held":                   Viewer,
		"POST /admin/v1/payments/held/:id/judge-again":  Finance,
		"GET /admin/v1/skus":                            Viewer,
		"GET /admin/v1/skus/:id":                        Viewer,
		"GET /admin/v1/skus/:id/flows":                  Viewer,
		"PUT /admin/v1/skus/:id":                        Operator,
		"POST /admin/v1/skus/:id/replenish":             Operator,
		"POST /admin/v1/skus/:id/adjust":                Admin,
		"POST /admin/v1/skus/:id/gate":                  Admin,
		"POST /admin/v1/skus/:id/buckets":               Admin,
		"POST /admin/v1/skus/:id/rebuild-cache":         Admin,
		"GET /admin/v1/gates":                           Viewer,
		"GET /admin/v1/gates/:name":                     Viewer,
		"GET /ui/stock":                                 Viewer,
		"GET /ui/stock/:id":                             Viewer,
		"GET /ui/timeouts":                              Viewer,
		"POST /ui/views":                                signedIn,
		"POST /ui/views/drop":                           signedIn,
		"GET /ui/events":                                Viewer,
		"GET /ui/callbacks":                             Viewer,
		"GET /ui/health":                                Viewer,
		"GET /ui/webhooks/:id":                          Admin,
		"GET /ui/gates":                                 Viewer,
		"GET /ui/gates/:name":                           Viewer,
		"GET /admin/v1/shipments":                       Viewer,
		"GET /admin/v1/orders/:no/shipment":             Viewer,
		"POST /admin/v1/orders/:no/shipment":            Operator,
		"GET /ui/shipments":                             Viewer,
		"GET /admin/v1/tasks/dead":                      Viewer,
		"GET /admin/v1/tasks/dead/groups":               Viewer,
		"GET /ui/bulk":                                  Viewer,
		"GET /ui/bulk/:id":                              Viewer,
		"GET /ui/bulk/:id/rows.csv":                     Viewer,
		"GET /admin/v1/bulk":                            Viewer,
		"GET /admin/v1/bulk/:id":                        Viewer,
		"GET /admin/v1/bulk/:id/rows":                   Viewer,
		"POST /admin/v1/bulk/order.close":               Operator,
		"POST /admin/v1/bulk/order.ask":                 Operator,
		"POST /admin/v1/bulk/refund.approve":            Finance,
		"POST /admin/v1/bulk/:id/stop":                  operatorOrFinance,
		"POST /admin/v1/bulk/:id/resume":                operatorOrFinance,
		"POST /admin/v1/tasks/dead/run":                 Operator,
		"POST /admin/v1/tasks/dead/discard":             Operator,
		"POST /admin/v1/tasks/dead/:id/run":             Operator,
		"POST /admin/v1/tasks/dead/:id/discard":         Operator,
		"GET /debug/pprof/":                             Admin,
		"GET /debug/pprof/profile":                      Admin,
		"GET /debug/pprof/trace":                        Admin,
		"GET /debug/pprof/:name":                        Admin,
		"GET /ui/refunds":                               Viewer,
		"GET /admin/v1/refunds":                         Viewer,
		"GET /admin/v1/refunds/:no":                     Viewer,
		"POST /admin/v1/refunds/:no/approve":            Finance,
		"POST /admin/v1/refunds/:no/reject":             Finance,
		"POST /admin/v1/refunds/:no/cancel":             Finance,
		"POST /admin/v1/refunds/:no/by-hand":            Finance,
		"POST /admin/v1/refunds/:no/to-card":            Finance,
		"POST /admin/v1/refunds/:no/retry":              operatorOrFinance,
		"POST /admin/v1/orders/:no/refunds":             Operator,
		"GET /admin/v1/reconciliations":                 Finance,
		"POST /admin/v1/reconciliations":                Finance,
		"GET /admin/v1/reconciliations/:id":             Finance,
		"GET /admin/v1/reconciliations/:id/bill":        Finance,
		"POST /admin/v1/reconciliations/:id/confirm":    Finance,
		"GET /admin/v1/reconciliations/:id/differences": Finance,
		"GET /admin/v1/differences":                     Finance,
		"GET /admin/v1/months/:month":                   Finance,
		"POST /admin/v1/reconciliations/:id/close":      Finance,
		"GET /admin/v1/reconciliations/:id/closings":    Finance,
		"GET /admin/v1/reconciliations/:id/proof":       Finance,
		"GET /admin/v1/differences/work.xlsx":           Finance,
		"POST /admin/v1/stock/import":                   Operator,
		"POST /admin/v1/stock/import/apply":             Operator,
		"GET /ui/skus/import":                           Operator,
		"POST /ui/skus/import":                          signedIn,
		"POST /admin/v1/differences/import":             Finance,
		"POST /admin/v1/differences/import/apply":       Finance,
		"GET /admin/v1/differences/:id":                 Finance,
		"POST /admin/v1/differences/:id/assign":         Finance,
		"POST /admin/v1/differences/:id/comments":       Finance,
		"POST /admin/v1/differences/:id/resolve":        Finance,
		"GET /ui/reconciliations":                       Finance,
		"GET /ui/reconciliations/:id":                   Finance,
		"GET /ui/reconciliations.csv":                   Finance,
		"GET /ui/reconciliations.xlsx":                  Finance,
		"GET /ui/reconciliations/:id/day.csv":           Finance,
		"GET /ui/reconciliations/:id/day.xlsx":          Finance,
		"GET /ui/differences":                           Finance,
		"GET /ui/differences/:id":                       Finance,
		"GET /ui/differences/import":                    Finance,
		"POST /ui/differences/import":                   signedIn,
		"GET /ui/reconciliations/upload":                Finance,
		"POST /ui/reconciliations/upload":               signedIn,
		"GET /admin/v1/webhooks":                        Admin,
		"POST /admin/v1/webhooks":                       Admin,
		"GET /admin/v1/webhooks/:id":                    Admin,
		"PUT /admin/v1/webhooks/:id":                    Admin,
		"DELETE /admin/v1/webhooks/:id":                 Admin,
		"POST /admin/v1/webhooks/:id/rotate":            Admin,
		"POST /admin/v1/webhooks/:id/enable":            Admin,
		"POST /admin/v1/webhooks/:id/disable":           Admin,
		"POST /admin/v1/webhooks/:id/test":              Admin,
		"GET /admin/v1/webhooks/:id/deliveries":         Admin,
		"POST /admin/v1/webhooks/:id/redeliver":         Admin,
		"GET /admin/v1/operators":                       Admin,
		"POST /admin/v1/operators":                      Admin,
		"POST /admin/v1/operators/:name/disable":        Admin,
		"POST /admin/v1/operators/:name/role":           Admin,
		"GET /admin/v1/tokens":                          Admin,
		"POST /admin/v1/tokens":                         Admin,
		"DELETE /admin/v1/tokens/:name":                 Admin,
		"GET /admin/v1/audit":                           Admin,
		"GET /ui/trail":                                 Admin,
		"GET /ui/trail.csv":                             Admin,
	}
	for _, a := range (&console{}).formActs() { // a form is for whoever may do the same by the API, in a browser
		if needs[a.route] == "" {
			t.Errorf("the form %s asks %s, which has no row", a.path, a.route)
		}
		needs["GET "+a.path], needs["POST "+a.path] = needs[a.route], signedIn
	}
	allowed := map[Role]string{Viewer: "viewer operator finance admin", Operator: "operator admin",
		Finance: "finance admin", Admin: "admin", operatorOrFinance: "operator finance admin"}
	d := newDesk(t)
	revoked, err := d.tokens.Create(t.Context(), "gone", Admin, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.tokens.Revoke(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if len(d.routes) != len(needs) {
		t.Errorf("%d routes, %d rows", len(d.routes), len(needs))
	}
	for _, r := range d.routes {
		need, ok := needs[r[0]+" "+r[1]]
		if !ok {
			t.Errorf("%s %s has no row", r[0], r[1])
			continue
		}
		path := strings.NewReplacer(":no", "01NONE", ":id", "none", ":name", "heap").Replace(r[1])
		w := d.ask("", r[0], path, "")
		if got := w.Code == http.StatusUnauthorized; got != (need != "") {
			t.Errorf("%s %s without a token: %d", r[0], path, w.Code)
		}
		if need != "" {
			for _, bad := range []string{secret("forged"), revoked, tokenPrefix, tokenPrefix + strings.Repeat("A", 43),
				revoked + "x"} {
				if w := d.ask("", r[0], path, "", "Authorization", "Bearer "+bad); w.Code != http.StatusUnauthorized {
					t.Errorf("%s %s with the bad token %.8s…: %d", r[0], path, bad, w.Code)
				}
			}
		}
		if strings.HasSuffix(path, "/profile") || strings.HasSuffix(path, "/trace") {
			path += "?seconds=bad" // admin's own run would take its time
		}
		for _, role := range []Role{Viewer, Operator, Finance, Admin} {
			if need == "" || (role == Admin && strings.Contains(path, "seconds")) {
				continue
			}
			w := d.ask(role, r[0], path, "")
			if need == signedIn { // no token opens it; TestEveryRouteAndSession has who does
				want(t, w, 401, "UNAUTHENTICATED")
				continue
			}
			if refused := w.Code == http.StatusForbidden; refused == strings.Contains(allowed[need], string(role)) {
				t.Errorf("%s %s as %s: %d", r[0], path, role, w.Code)
			}
		}
	}
}

// The type of a problem is a path of the listener that answered with it, of the one for monitoring too: a dead one
// helps nobody.
func TestProblemsHaveTheirPages(t *testing.T) {
	d := newDesk(t)
	ops := NewOps(NewReadiness(d.Clock.Now), NewMetrics(), d.Clock.Now, nil)
	for name, listener := range map[string]http.Handler{"admin": d.Handler, "ops": ops} {
		for _, path := range []string{"/admin/v1/orders", "/no/such"} { // 401 and 404 on the one, 404 on the other
			w := httptest.NewRecorder()
			listener.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			var p orderhttp.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(name, path, err)
			}
			page := httptest.NewRecorder()
			listener.ServeHTTP(page, httptest.NewRequest(http.MethodGet, p.Type, nil))
			if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), string(p.Code)) {
				t.Errorf("%s: %s of %s: %d %s", name, p.Type, path, page.Code, page.Body)
			}
		}
	}
}

// A heap profile holds openids and tokens; a measurement without an end slows the service for good.
func TestProfilesAreBoundedAndForAdmins(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"", "heap", "goroutine?debug=1", "profile?seconds=1", "trace?seconds=1"} {
		want(t, d.ask("", "GET", "/debug/pprof/"+path, ""), 401, "UNAUTHENTICATED")
		for _, role := range []Role{Viewer, Operator, Finance} {
			want(t, d.ask(role, "GET", "/debug/pprof/"+path, ""), 403, "FORBIDDEN")
		}
	}
	want(t, d.ask(Admin, "GET", "/debug/pprof/", ""), 200, "goroutine")
	want(t, d.ask(Admin, "GET", "/debug/pprof/goroutine?debug=1", ""), 200, "goroutine profile:")
	want(t, d.ask(Admin, "GET", "/debug/pprof/heap", ""), 200, "\x1f\x8b") // gzip
	for _, name := range []string{"none", "cmdline", "symbol"} {
		want(t, d.ask(Admin, "GET", "/debug/pprof/"+name, ""), 404, "")
	}
	for _, path := range []string{"profile", "trace", "heap"} {
		for _, seconds := range []string{"bad", "0", "-1", "301", "1e9"} {
			want(t, d.ask(Admin, "GET", "/debug/pprof/"+path+"?seconds="+seconds, ""), 422, "1 至 300")
		}
	}

	ctx, hangUp := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // one measures until it is told to end
		defer close(ended)
		for ctx.Err() == nil {
			r := httptest.NewRequest("GET", "/debug/pprof/profile?seconds=300", nil).WithContext(ctx)
			r.Header.Set("Authorization", "Bearer "+secret(Admin))
			d.ServeHTTP(httptest.NewRecorder(), r)
		}
	}()
	another := func(seconds string) *httptest.ResponseRecorder {
		return d.ask(Admin, "GET", "/debug/pprof/profile?seconds="+seconds, "")
	}
	for another("0").Code == 422 { // the first one has not begun
		time.Sleep(time.Millisecond)
	}
	want(t, another("1"), 409, "RUN_IN_PROGRESS")
	hangUp()
	<-ended
	want(t, another("1"), 200, "\x1f\x8b")
}

// A click on an old page must not close an order that has moved on, nor bypass WeChat, nor go unexplained.
func TestCloseAsksForVersionAndReason(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "r1", "a", 2)
	path := "/admin/v1/orders/" + o.OrderNo + "/close"
	want(t, d.ask(Operator, "POST", path, `{"reason":"x"}`), 428, "IF_MATCH_REQUIRED")
	for _, tag := range []string{`"v9"`, `v1`, `*`, `"v01"`, `W/"v1"`} {
		want(t, d.ask(Operator, "POST", path, `{"reason":"x"}`, "If-Match", tag), 412, "VERSION_MISMATCH")
	}
	for _, body := range []string{`{}`, `{"reason":""}`, `{"reason":"` + strings.Repeat("因", 201) + `"}`} {
		want(t, d.ask(Operator, "POST", path, body, "If-Match", `"v1"`), 422, "#/reason")
	}
	want(t, d.ask(Operator, "POST", path, `{"reason":"x","state":"closed"}`, "If-Match", `"v1"`), 400,
		"MALFORMED_REQUEST")
	if d.State(t, o.OrderNo) != order.StatePending || d.Available(t, "a") != 3 {
		t.Fatal("a refused close changed something")
	}
	want(t, d.ask(Operator, "POST", path, `{"reason":"buyer rang"}`, "If-Match", `"v1"`), 200, `"state":"closed"`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/orders/"+o.OrderNo+"/timeline", ""), 200, "buyer rang")
	want(t, d.ask(Viewer, "GET", "/admin/v1/orders/"+o.OrderNo+"/timeline", ""), 200, `"id":"the-operator"`)
	if d.Available(t, "a") != 5 {
		t.Error("stock is not back")
	}
}

// Closing while WeChat is silent would sell the stock of an order that can still be paid.
func TestCloseWithoutAnswerStaysClosing(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "r1", "a", 2)
	d.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
	want(t, d.ask(Operator, "POST", "/admin/v1/orders/"+o.OrderNo+"/close", `{"reason":"x"}`, "If-Match", `"v1"`), 202,
		`"state":"closing"`)
	if d.Available(t, "a") != 3 {
		t.Error("stock came back without a proven close")
	}
}

// A paid order must not be closed by a click, and the payment-query is what brings the payment in.
func TestPaidOrderIsNotClosed(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "r1", "a", 1)
	if _, err := d.WeChat.Pay(d.Prepaid(t, o.OrderNo), false); err != nil {
		t.Fatal(err)
	}
	w := d.ask(Operator, "POST", "/admin/v1/orders/"+o.OrderNo+"/payment-query", "")
	want(t, w, 200, `"state":"paid"`)
	want(t, d.ask(Operator, "POST", "/admin/v1/orders/"+o.OrderNo+"/close", `{"reason":"x"}`, "If-Match",
		w.Header().Get("ETag")), 409, "ORDER_ALREADY_PAID")
}

// A retried delivery counted twice, or a count corrected over somebody else's, makes the shelf a lie.
func TestStockChangesOnceAndGuarded(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	const up, fix = "/admin/v1/skus/a/replenish", "/admin/v1/skus/a/adjust"
	want(t, d.ask(Operator, "POST", up, `{"quantity":3,"reason":"x"}`), 400, "IDEMPOTENCY_KEY_REQUIRED")
	want(t, d.ask(Operator, "POST", up, `{"quantity":3}`, "Idempotency-Key", "k"), 422, "#/reason")
	want(t, d.ask(Operator, "POST", up, `{"quantity":-3,"reason":"x"}`, "Idempotency-Key", "k"), 422,
		"VALIDATION_FAILED")
	want(t, d.ask(Operator, "POST", up, `{"quantity":3,"reference_no":"PO-7","reason":"x"}`, "Idempotency-Key", "k"),
		200, `"after":8`)
	if w := d.ask(Operator, "POST", up, `{"quantity":3,"reference_no":"PO-7","reason":"x"}`, "Idempotency-Key",
		"k"); w.Code != 200 || w.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("replay: %d %v", w.Code, w.Header())
	}
	want(t, d.ask(Operator, "POST", up, `{"quantity":4,"reason":"x"}`, "Idempotency-Key", "k"), 422,
		"IDEMPOTENCY_KEY_REUSED")
	want(t, d.ask(Admin, "POST", fix, `{"delta":-3,"expected_available":7,"reason":"x"}`, "Idempotency-Key", "f"), 409,
		"STOCK_CHANGED")
	want(t, d.ask(Admin, "POST", fix, `{"delta":-9,"expected_available":8,"reason":"x"}`, "Idempotency-Key", "f"), 409,
		"STOCK_CHANGED")
	want(t, d.ask(Admin, "POST", fix, `{"delta":-3,"expected_available":8,"reason":"x"}`, "Idempotency-Key", "f"), 200,
		`"after":5`)
	want(t, d.ask(Operator, "POST", "/admin/v1/skus/none/replenish", `{"quantity":3,"reason":"x"}`, "Idempotency-Key",
		"n"), 404, "SKU_NOT_FOUND")
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/a", ""), 200, `"sold":0`)
}

// Operators who see the pool alone would take a sale's units for lost, and correct a count that is right.
func TestOperatorsSeeWhatIsAllocated(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "hot", 600)
	if _, err := d.Admin.SetGate(t.Context(), stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Rate: 10,
		Actor: "op", Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for bucket, home := range []string{"p1", stock.HomeRedis} {
			g := stock.Grant{Bucket: int64(bucket) + 1, SkuID: "hot", Home: home, Seq: 1, Want: 50, At: d.Clock.Now()}
			if _, err := g.Move(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const path = "/admin/v1/skus/hot"
	w := d.ask(Viewer, "GET", path, "")
	want(t, w, 200, `"available":500,"allocated":100,"sold_out":false`)
	want(t, w, 200, `"sold":0`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus", ""), 200, `"available":500,"allocated":100,`)
	want(t, d.ask(Admin, "POST", path+"/adjust", `{"delta":-560,"reason":"x"}`, "Idempotency-Key", "r"), 409,
		"hot 有 50 件在排队抢购中")
	w = d.ask(Admin, "POST", path+"/adjust", `{"delta":-1,"expected_available":600,"reason":"x"}`, "Idempotency-Key",
		"s")
	want(t, w, 200, `"available":549,"allocated":50,`)
	want(t, w, 200, `"before":600,"after":599`)
}

// Two operators would overwrite one another's price.
func TestPutSKU(t *testing.T) {
	d := newDesk(t)
	const path, body = "/admin/v1/skus/new",
		`{"title":"Mug","price":{"total":500,"currency":"CNY"},"quantity":7,"reason":"x"}`
	want(t, d.ask(Operator, "PUT", path, body), 201, `"available":7`)
	want(t, d.ask(Operator, "PUT", path, body), 428, "IF_MATCH_REQUIRED")
	want(t, d.ask(Operator, "PUT", path, body, "If-Match", `"v1"`), 200, `"version":2`)
	want(t, d.ask(Operator, "PUT", path, body, "If-Match", `"v1"`), 412, "VERSION_MISMATCH")
	want(t, d.ask(Operator, "PUT", path, `{"title":"","price":{"total":0,"currency":"CNY"},"reason":"x"}`, "If-Match",
		`"v2"`), 422, "VALIDATION_FAILED")
}

// Foreign bodies must be refused before anything is done with them.
func TestBodies(t *testing.T) {
	d := newDesk(t)
	const path = "/admin/v1/orders/x/close"
	want(t, d.ask(Operator, "POST", path, `{"reason":"`+strings.Repeat("x", 70<<10)+`"}`, "If-Match", `"v1"`), 413,
		"BODY_TOO_LARGE")
	want(t, d.ask(Operator, "POST", path, `{"reason":"x"}`, "If-Match", `"v1"`, "Content-Type", "text/plain"), 415,
		"UNSUPPORTED_MEDIA_TYPE")
	want(t, d.ask(Operator, "POST", path, `{"reason":"x"}{}`, "If-Match", `"v1"`), 400, "MALFORMED_REQUEST")
	want(t, d.ask(Operator, "POST", path, `{"reason":"x"}`, "If-Match", `"v1"`), 404, "ORDER_NOT_FOUND")
	want(t, d.ask(Viewer, "GET", "/admin/v1/orders?limit=0", ""), 422, "?limit")
}

// An orchestrator that takes the service down because WeChat is down would end reading too.
func TestReady(t *testing.T) {
	away := func(context.Context) (string, error) { return "no answer", errors.New("secret host") }
	fine := func(context.Context) (string, error) { return "", nil }
	want(t, newDesk(t, Check{"mysql", true, fine}, Check{"wechat", false, away}).ask("", "GET", "/readyz", ""), 200,
		`"status":"warn"`)
	w := newDesk(t, Check{"mysql", true, away}).ask("", "GET", "/readyz", "")
	want(t, w, 503, `"status":"fail"`)
	if strings.Contains(w.Body.String(), "secret host") {
		t.Error("the error is shown to anybody")
	}
}

// A page that may run scripts could act with the operator's hands.
func TestPages(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "r1", "a", 1)
	for _, path := range []string{"/", "/ui/orders/" + o.OrderNo} {
		w := d.ask(Viewer, "GET", path, "")
		want(t, w, 200, o.OrderNo)
		if csp := w.Header().Get("Content-Security-Policy"); csp != strictCSP || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %s", path, csp)
		}
	}
}

// A browser keeps a password of HTTP Basic for ever and sends it along with whatever another site has it ask for; a
// token is a machine's.
func TestNoTokenIsABrowsersPassword(t *testing.T) {
	d := newDesk(t)
	for _, method := range []string{"GET /", "GET /admin/v1/orders", "POST /admin/v1/tasks/dead/run"} {
		verb, path, _ := strings.Cut(method, " ")
		r := httptest.NewRequest(verb, path, nil)
		r.SetBasicAuth("anybody", secret(Admin))
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		want(t, w, 401, "UNAUTHENTICATED")
		if says := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(says, "Bearer") {
			t.Errorf("%s asks for %q", method, says)
		}
	}
}

// A series that Prometheus refuses, or one per order, loses the alarms of all.
func TestMetrics(t *testing.T) {
	d := newDesk(t)
	m := d.metrics
	for _, id := range []string{"01JD4ZORDER", customer} {
		m.Transition(order.State(id), order.StatePaid, order.ActorType(id))
		m.Settled(id, order.Settlement{OrderNo: id, Settled: order.SettledOwed, Reason: "late", State: order.StateLate})
		m.Refused(id)
		m.CloseAsked(id)
		m.Alarm(id, id, id)
		m.Broken(id)
		m.Batch(id, 3, time.Millisecond)
		m.Armed(id)
		m.Rung(id)
		m.WrongToken(id, true)
		m.Fired(id)
		m.Notified(id, id, time.Millisecond)
		m.Notified("refund", "applied", time.Millisecond)
		m.Stock(id, errors.New(id))
		m.GateDecision(id, id)
		m.Refused(id)
	}
	m.GateDecision("local", "sold_out")
	m.Refused("customer_limit")
	m.GateFenced()
	m.GateGranted(40, time.Millisecond)
	m.GateRecalled(2)
	m.GateEpoch("lost")
	m.GateEpoch(customer)
	m.GateDrift(3)
	m.GateAway(true)
	m.Transition("", order.StatePending, order.ActorCustomer)
	m.Lateness(time.Second)
	m.WrongToken("admin", false)
	m.Broken("order.due")
	m.Swept(3)
	m.Swept(4)
	m.Asked(order.AskPaid, time.Second)
	m.Asked(order.AskOutcome(customer), time.Second)
	m.Built("v1.2.3", "0123456789ab")
	m.Alarm("payment held: amount", "", "")
	m.WeChat("close", "accepted", time.Millisecond)
	d.ask(Viewer, "GET", "/admin/v1/orders/01JD4ZORDER?x="+customer, "")
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	text := d.ask("", "GET", "/metrics", "").Body.String()
	for _, series := range []string{`orderd_orders_transitions_total{actor="customer",from="new",to="pending"} 1`,
		`orderd_orders_open{status="pending"} 0`,
		"orderd_timeouts_overdue 0", "orderd_closes_waiting 0", "orderd_closes_waiting_drain_seconds 0",
		"orderd_timeout_oldest_overdue_seconds 0",
		`orderd_trade_asks_total{outcome="paid"} 1`, `orderd_trade_asks_total{outcome="other"} 1`,
		"orderd_trade_ask_lateness_seconds_count 2", "orderd_timeouts_missing_in_redis_total 7",
		"orderd_late_payments_total 2",
		"orderd_timeout_lateness_seconds_count 1",
		`orderd_wechat_request_seconds_count{op="close",outcome="accepted"} 1`,
		`orderd_wrong_tokens_total{listener="other",result="held"} 2`,
		`orderd_wrong_tokens_total{listener="admin",result="refused"} 1`,
		`orderd_notify_seconds_count{outcome="applied",type="refund"} 2`,
		`orderd_notify_seconds_count{outcome="other",type="other"} 2`, "orderd_notify_total{",
		`orderd_stock_operations_total{op="deduct",result="ok"} 1`, "orderd_idempotency_total{",
		`orderd_invariant_violations_total{invariant="order.due"} 1`,
		`orderd_invariant_violations_total{invariant="other"} 2`,
		"orderd_group_commit_seconds_count{", `orderd_webhook_rings_total{result="other"} 2`,
		`orderd_gate_decisions_total{code="sold_out",mode="local"} 1`,
		"orderd_gate_fenced_total 1",
		`orderd_gate_decisions_total{code="other",mode="other"} 2`, "orderd_gate_granted_units_total 40",
		"orderd_gate_refill_seconds_count 1", "orderd_gate_recalls_total 2", `orderd_gate_epochs_total{cause="lost"} 1`,
		`orderd_gate_epochs_total{cause="other"} 1`, "orderd_gate_drift_units 3", "orderd_gate_redis_away 1",
		`orderd_orders_refused_total{reason="customer_limit"} 1`,
		`orderd_build_info{commit="0123456789ab",goversion="go`, `,version="v1.2.3"} 1`,
		`orderd_alarms_total{kind="held"} 1`, `orderd_alarms_total{kind="other"} 2`,
		"orderd_payments_held 0", "orderd_payments_held_fen 0", "orderd_payments_held_oldest_seconds 0",
		"orderd_recon_open_oldest_seconds 0", "orderd_recon_last_success_timestamp_seconds 0",
		`orderd_metrics_source_up{source="schema"} 1`, "orderd_schema_version ", "orderd_schema_behind 0",
		"orderd_replica_reading 1", "orderd_replica_lag_seconds 1.5",
		`orderd_wechat_key_expiry_timestamp_seconds{key="5157F09EFDC096DE15EBE81A47057A72"} 1.9e+09`,
		`route="/admin/v1/orders/:no",status_class="4xx"`} {
		if !strings.Contains(text, series) {
			t.Errorf("no %s", series)
		}
	}
	if strings.Contains(text, "01JD4ZORDER") || strings.Contains(text, customer) {
		t.Error("an id is in a label")
	}
}

// counting counts queries; it is away when told.
type counting struct {
	*order.Service
	n    int
	away bool
}

func (c *counting) Backlog(ctx context.Context) (order.Backlog, error) {
	c.n++
	if _, bounded := ctx.Deadline(); !bounded || c.away {
		return order.Backlog{}, errors.New("away")
	}
	return order.Backlog{Overdue: 4}, nil
}

// Scrapes without a cache and a bound would load the database most when it is slowest; an old number would be a lie.
func TestScrapesAreCheap(t *testing.T) {
	d := newDesk(t)
	clock, c, m := &ordertest.Clock{}, &counting{Service: d.Service}, NewMetrics()
	clock.Set(time.UnixMilli(1_800_000_000_000))
	m.Watch(Sources{Orders: c, Differences: d.books, Failures: d.failures}, clock.Now)
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	for range 10 {
		if !strings.Contains(scrape(), "orderd_timeouts_overdue 4") {
			t.Fatal("no backlog")
		}
	}
	if c.n != 1 {
		t.Errorf("%d queries for 10 scrapes", c.n)
	}
	c.away = true
	clock.Advance(gaugeFor)
	if text := scrape(); strings.Contains(text, "orderd_timeouts_overdue 4") ||
		!strings.Contains(text, `orderd_metrics_source_up{source="database"} 0`) {
		t.Error("an old number, or no sign that the database is away")
	}
}
