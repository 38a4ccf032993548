package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/order/ordertest/contract"
	"orderd/order/shops"
	"orderd/payment/wechatsim"
)

var update = flag.Bool("update", false, "write what is generated into docs/")

// documents are what clients of customers and of operators are written by.
var documents = sync.OnceValues(func() (of [2]*contract.Document, err error) {
	for i, file := range []string{"../../docs/openapi.yaml", "../../docs/admin-openapi.yaml"} {
		if of[i], err = contract.Load(file); err != nil {
			return of, err
		}
	}
	return of, nil
})

// house is a whole service with its four listeners, two customers who each
// have a paid order with a refund, and an operator of each role.
type house struct {
	*app
	doors  map[string]*echo.Echo
	held   map[string]http.Handler // the doors, every answer held against their documents
	secret map[string]string       // Authorization by principal
	ids    map[string]ids          // by customer
}

type ids struct{ order, refund, transaction string }

// The principals who knock at every door, in the order of the table.
var principals = []string{"nobody", "malformed", "expired", "foreign key", "customer A", "customer B",
	"shop for A", "revoked shop", "viewer", "operator", "finance", "admin", "revoked admin"}

func newHouse(t *testing.T) *house {
	t.Helper()
	return newHouseIn(t, embedded(t, t.TempDir()))
}

func newHouseIn(t *testing.T, a *app) *house {
	t.Helper()
	h := &house{app: a, doors: map[string]*echo.Echo{}, held: map[string]http.Handler{}, secret: map[string]string{},
		ids: map[string]ids{}}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, name := range []string{"api", "notify", "admin", "ops"} {
		h.doors[name] = h.servers[i].Handler.(*echo.Echo)
		h.held[name] = h.doors[name]
	}
	described, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	h.held["api"] = described[0].Handler(t, h.doors["api"])
	h.held["admin"] = described[1].Below(t, "/admin/", h.doors["admin"])
	h.bearer(t, "expired", h.JWTSecret, "customer-A", time.Now().Add(-2*time.Hour))
	h.bearer(t, "foreign key", strings.Repeat("x", 32), "customer-A", time.Now())
	h.bearer(t, "customer A", h.JWTSecret, "customer-A", time.Now())
	h.bearer(t, "customer B", h.JWTSecret, "customer-B", time.Now())
	h.secret["malformed"] = "Bearer " + strings.Repeat("x", 40)
	store := console.NewTokenStore(h.db, time.Now)
	for _, role := range []string{"viewer", "operator", "finance", "admin", "revoked admin"} {
		_, last, ok := strings.Cut(role, " ")
		if !ok {
			last = role
		}
		secret, err := store.Create(t.Context(), strings.ReplaceAll(role, " ", "-"), console.Role(last), "bootstrap")
		if err != nil {
			t.Fatal(err)
		}
		h.secret[role] = "Bearer " + secret
	}
	if err := store.Revoke(t.Context(), "revoked-admin"); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"shop for A", "revoked shop"} {
		key, secret, err := h.shops.Create(t.Context(), "web", shops.Scopes(), "bootstrap")
		if err == nil && who == "revoked shop" {
			err = h.shops.Revoke(t.Context(), key.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.secret[who] = "Bearer " + secret
	}
	for _, who := range []string{"customer A", "customer B"} {
		h.ids[who] = h.orderOf(t, who)
	}
	return h
}

// bearer gives a principal a customer's token.
func (h *house) bearer(t *testing.T, who, key, customer string, at time.Time) {
	t.Helper()
	token, err := orderhttp.MintToken([]byte(key), customer, at, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	h.secret[who] = "Bearer " + token
}

// orderOf gives a customer a paid order with a refund that waits for approval.
func (h *house) orderOf(t *testing.T, who string) ids {
	t.Helper()
	var o struct {
		OrderNo     string `json:"order_no"`
		OutTradeNo  string `json:"out_trade_no"`
		OutRefundNo string `json:"out_refund_no"`
	}
	do := func(path, body string) {
		t.Helper()
		rec := h.ask("api", who, "POST", path, body, "Idempotency-Key", "setup")
		if err := json.Unmarshal(rec.Body.Bytes(), &o); err != nil || rec.Code > 201 {
			t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	do("/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}],"remark":"remark of `+who+`"}`)
	do("/v1/orders/"+o.OrderNo+"/prepay", `{"trade_type":"JSAPI","payer":{"openid":"openid-of-`+who[len(who)-1:]+`"}}`)
	if err := h.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	var paid order.Order
	for end := time.Now().Add(2 * time.Minute); paid.State != order.StatePaid; {
		var err error
		if paid, err = h.orders.Find(t.Context(), o.OrderNo); err != nil || time.Now().After(end) {
			t.Fatal("not paid: ", paid.State, err)
		}
	}
	do("/v1/orders/"+o.OrderNo+"/refunds", `{"reason":"reason of `+who+`"}`)
	return ids{o.OrderNo, o.OutRefundNo, paid.Payment.TransactionID}
}

// ask sends a request to a listener as a principal, headers in pairs.
func (h *house) ask(door, who, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	// As from the wire: the path is parsed as it is written.
	u := *r.URL
	u.Path, u.RawPath, u.RawQuery = path, "", ""
	if p, q, ok := strings.Cut(path, "?"); ok {
		u.Path, u.RawQuery = p, q
	}
	if parsed, err := r.URL.Parse(path); err == nil && strings.Contains(path, "%") {
		u.Path, u.RawPath = parsed.Path, parsed.RawPath
	}
	r.URL, r.RequestURI = &u, path
	if h.secret[who] != "" {
		r.Header.Set("Authorization", h.secret[who])
	}
	if strings.Contains(who, "shop") {
		r.Header.Set("Orderd-Customer", "customer-A")
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Idempotency-Key", "key")
	r.Header.Set("X-Request-Id", "r")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.held[door].ServeHTTP(rec, r)
	return rec
}

// Who may use a route. open: everybody; a customer: customers; its owner: the
// one whose order it names, and a shop that acts for them; a shop: its key alone; wechat: whoever has WeChat Pay's
// signature, which none of the principals has; the rest are operators' roles.
const (
	open       = "everybody"
	customers  = "customer"
	owner      = "its owner"
	shopOnly   = "shop"
	wechatOnly = "WeChat Pay"
	viewer     = "viewer"
	operator   = "operator"
	finance    = "finance"
	either     = "operator or finance"
	admin      = "admin"
	// signedIn is a browser with a session, which none of the principals has.
	signedIn = "who is signed in"
)

// access is the decision about every route of every listener. A route without
// one fails the test.
var access = map[string]string{
	"api GET /healthz":                                    open,
	"api GET /openapi.yaml":                               open,
	"api GET /problems/:slug":                             open,
	"api POST /v1/orders":                                 customers,
	"api GET /v1/orders":                                  customers,
	"api GET /v1/events":                                  shopOnly,
	"api GET /v1/stock":                                   customers,
	"api GET /v1/skus":                                    customers,
	"api GET /v1/skus/:sku_id/stock":                      customers,
	"api GET /v1/orders/:order_no":                        owner,
	"api POST /v1/orders/:order_no/prepay":                owner,
	"api POST /v1/orders/:order_no/payment-query":         owner,
	"api POST /v1/orders/:order_no/cancel":                owner,
	"api GET /v1/orders/:order_no/qrcode.svg":             owner,
	"api POST /v1/orders/:order_no/refunds":               owner,
	"api GET /v1/orders/:order_no/refunds":                owner,
	"api GET /v1/orders/:order_no/refunds/:out_refund_no": owner,
	"api GET /v1/refunds/:out_refund_no":                  owner,

	"notify GET /healthz":                   open,
	"notify POST /wechat/v3/notify/payment": wechatOnly,
	"notify POST /wechat/v3/notify/refund":  wechatOnly,

	"ops GET /healthz": open,
	"ops GET /readyz":  open,
	"ops GET /metrics": open,

	"ops GET /problems/:slug": open,

	"admin GET /healthz":                                  open,
	"admin GET /readyz":                                   open,
	"admin GET /metrics":                                  open,
	"admin GET /problems/:slug":                           open,
	"admin GET /login":                                    open,
	"admin POST /login":                                   open,
	"admin GET /setup":                                    open,
	"admin POST /setup":                                   open,
	"admin POST /logout":                                  signedIn,
	"admin GET /ui/me":                                    signedIn,
	"admin POST /ui/me/sessions/end":                      signedIn,
	"admin GET /ui/me/password":                           signedIn,
	"admin POST /ui/me/password":                          signedIn,
	"admin GET /ui/me/totp":                               signedIn,
	"admin POST /ui/me/totp":                              signedIn,
	"admin POST /ui/me/totp/confirm":                      signedIn,
	"admin POST /ui/me/totp/off":                          signedIn,
	"admin GET /admin/v1/audit":                           admin,
	"admin GET /ui/trail":                                 admin,
	"admin GET /ui/trail.csv":                             admin,
	"admin GET /ui/people":                                signedIn,
	"admin POST /ui/people":                               signedIn,
	"admin POST /ui/people/:name/disable":                 signedIn,
	"admin POST /ui/people/:name/end-sessions":            signedIn,
	"admin POST /ui/people/:name/link":                    signedIn,
	"admin GET /ui/people/:name":                          signedIn,
	"admin POST /ui/people/:name/role":                    signedIn,
	"admin POST /ui/people/:name/end-session":             signedIn,
	"admin POST /ui/people/:name/tokens":                  signedIn,
	"admin POST /ui/people/:name/tokens/revoke":           signedIn,
	"admin POST /ui/shop-keys":                            signedIn,
	"admin POST /ui/shop-keys/revoke":                     signedIn,
	"admin GET /":                                         viewer,
	"admin GET /static/:name":                             open,
	"admin POST /ui/language":                             open,
	"admin GET /ui/orders":                                viewer,
	"admin GET /ui/orders.csv":                            viewer,
	"admin GET /ui/orders.xlsx":                           viewer,
	"admin GET /ui/orders/:no":                            viewer,
	"admin GET /ui/search":                                viewer,
	"admin GET /ui/held":                                  viewer,
	"admin GET /ui/tasks":                                 viewer,
	"admin GET /ui/webhooks":                              admin,
	"admin GET /ui/refunds":                               viewer,
	"admin GET /ui/reconciliations":                       finance,
	"admin GET /ui/reconciliations/:id":                   finance,
	"admin GET /ui/reconciliations/:id/day.csv":           finance,
	"admin GET /ui/reconciliations/:id/day.xlsx":          finance,
	"admin GET /ui/reconciliations.csv":                   finance,
	"admin GET /ui/reconciliations.xlsx":                  finance,
	"admin GET /ui/differences":                           finance,
	"admin GET /ui/differences/:id":                       finance,
	"admin POST /admin/v1/stock/import":                   operator,
	"admin POST /admin/v1/stock/import/apply":             operator,
	"admin GET /ui/skus/import":                           operator,
	"admin POST /ui/skus/import":                          signedIn,
	"admin GET /ui/differences/import":                    finance,
	"admin POST /ui/differences/import":                   signedIn,
	"admin GET /ui/reconciliations/upload":                finance,
	"admin POST /ui/reconciliations/upload":               signedIn,
	"admin GET /admin/v1/openapi.yaml":                    viewer,
	"admin GET /admin/v1/search":                          viewer,
	"admin GET /admin/v1/timeouts/due":                    viewer,
	"admin GET /admin/v1/orders":                          viewer,
	"admin GET /admin/v1/orders/:no":                      viewer,
	"admin GET /admin/v1/orders/:no/timeline":             viewer,
	"admin POST /admin/v1/orders/:no/close":               operator,
	"admin POST /admin/v1/orders/:no/payment-query":       operator,
	"admin POST /admin/v1/orders/:no/refunds":             operator,
	"admin POST /admin/v1/orders/:no/vouch-unpaid":        either,
	"admin POST /admin/v1/orders/:no/notes":               either,
	"admin POST /admin/v1/orders/:no/payer":               either,
	"admin GET /admin/v1/held":                            viewer,
	"admin POST /admin/v1/held/:id":                       finance,
	"admin GET /admin/v1/payments/held":                   viewer,
	"admin POST /admin/v1/payments/held/:id/judge-again":  finance,
	"admin GET /admin/v1/skus":                            viewer,
	"admin GET /admin/v1/skus/:id":                        viewer,
	"admin GET /admin/v1/skus/:id/flows":                  viewer,
	"admin PUT /admin/v1/skus/:id":                        operator,
	"admin POST /admin/v1/skus/:id/replenish":             operator,
	"admin POST /admin/v1/skus/:id/adjust":                admin,
	"admin POST /admin/v1/skus/:id/gate":                  admin,
	"admin POST /admin/v1/skus/:id/buckets":               admin,
	"admin POST /admin/v1/skus/:id/rebuild-cache":         admin,
	"admin GET /admin/v1/gates":                           viewer,
	"admin GET /admin/v1/gates/:name":                     viewer,
	"admin GET /ui/stock":                                 viewer,
	"admin GET /ui/stock/:id":                             viewer,
	"admin GET /ui/timeouts":                              viewer,
	"admin POST /ui/views":                                signedIn,
	"admin POST /ui/views/drop":                           signedIn,
	"admin GET /ui/events":                                viewer,
	"admin GET /ui/callbacks":                             viewer,
	"admin GET /ui/health":                                viewer,
	"admin GET /ui/webhooks/:id":                          admin,
	"admin GET /ui/gates":                                 viewer,
	"admin GET /ui/gates/:name":                           viewer,
	"admin GET /admin/v1/shipments":                       viewer,
	"admin GET /admin/v1/orders/:no/shipment":             viewer,
	"admin POST /admin/v1/orders/:no/shipment":            operator,
	"admin GET /ui/shipments":                             viewer,
	"admin GET /admin/v1/tasks/dead":                      viewer,
	"admin GET /admin/v1/tasks/dead/groups":               viewer,
	"admin GET /ui/bulk":                                  viewer,
	"admin GET /ui/bulk/:id":                              viewer,
	"admin GET /ui/bulk/:id/rows.csv":                     viewer,
	"admin GET /admin/v1/bulk":                            viewer,
	"admin GET /admin/v1/bulk/:id":                        viewer,
	"admin GET /admin/v1/bulk/:id/rows":                   viewer,
	"admin POST /admin/v1/bulk/order.close":               operator,
	"admin POST /admin/v1/bulk/order.ask":                 operator,
	"admin POST /admin/v1/bulk/refund.approve":            finance,
	"admin POST /admin/v1/bulk/:id/stop":                  either,
	"admin POST /admin/v1/bulk/:id/resume":                either,
	"admin POST /admin/v1/tasks/dead/run":                 operator,
	"admin POST /admin/v1/tasks/dead/discard":             operator,
	"admin POST /admin/v1/tasks/dead/:id/run":             operator,
	"admin POST /admin/v1/tasks/dead/:id/discard":         operator,
	"admin GET /admin/v1/refunds":                         viewer,
	"admin GET /admin/v1/refunds/:no":                     viewer,
	"admin POST /admin/v1/refunds/:no/approve":            finance,
	"admin POST /admin/v1/refunds/:no/reject":             finance,
	"admin POST /admin/v1/refunds/:no/cancel":             finance,
	"admin POST /admin/v1/refunds/:no/by-hand":            finance,
	"admin POST /admin/v1/refunds/:no/to-card":            finance,
	"admin POST /admin/v1/refunds/:no/retry":              either,
	"admin GET /admin/v1/reconciliations":                 finance,
	"admin POST /admin/v1/reconciliations":                finance,
	"admin GET /admin/v1/reconciliations/:id":             finance,
	"admin GET /admin/v1/reconciliations/:id/bill":        finance,
	"admin POST /admin/v1/reconciliations/:id/confirm":    finance,
	"admin GET /admin/v1/reconciliations/:id/differences": finance,
	"admin GET /admin/v1/differences":                     finance,
	"admin GET /admin/v1/months/:month":                   finance,
	"admin POST /admin/v1/reconciliations/:id/close":      finance,
	"admin GET /admin/v1/reconciliations/:id/closings":    finance,
	"admin GET /admin/v1/reconciliations/:id/proof":       finance,
	"admin GET /admin/v1/differences/work.xlsx":           finance,
	"admin POST /admin/v1/differences/import":             finance,
	"admin POST /admin/v1/differences/import/apply":       finance,
	"admin GET /admin/v1/differences/:id":                 finance,
	"admin POST /admin/v1/differences/:id/assign":         finance,
	"admin POST /admin/v1/differences/:id/comments":       finance,
	"admin POST /admin/v1/differences/:id/resolve":        finance,
	"admin GET /admin/v1/operators":                       admin,
	"admin POST /admin/v1/operators":                      admin,
	"admin POST /admin/v1/operators/:name/disable":        admin,
	"admin POST /admin/v1/operators/:name/role":           admin,
	"admin GET /admin/v1/tokens":                          admin,
	"admin POST /admin/v1/tokens":                         admin,
	"admin DELETE /admin/v1/tokens/:name":                 admin,
	"admin GET /admin/v1/webhooks":                        admin,
	"admin POST /admin/v1/webhooks":                       admin,
	"admin GET /admin/v1/webhooks/:id":                    admin,
	"admin PUT /admin/v1/webhooks/:id":                    admin,
	"admin DELETE /admin/v1/webhooks/:id":                 admin,
	"admin POST /admin/v1/webhooks/:id/rotate":            admin,
	"admin POST /admin/v1/webhooks/:id/enable":            admin,
	"admin POST /admin/v1/webhooks/:id/disable":           admin,
	"admin POST /admin/v1/webhooks/:id/test":              admin,
	"admin GET /admin/v1/webhooks/:id/deliveries":         admin,
	"admin POST /admin/v1/webhooks/:id/redeliver":         admin,
	"admin GET /debug/pprof/":                             admin,
	"admin GET /debug/pprof/profile":                      admin,
	"admin GET /debug/pprof/trace":                        admin,
	"admin GET /debug/pprof/:name":                        admin,
}

// expected is what a principal gets at a door of this need: 401, 403, 404, or
// "in" for whatever the handler answers.
func expected(listener, need, who string) string {
	in := func(ok bool, otherwise string) string {
		if ok {
			return "in"
		}
		return otherwise
	}
	switch {
	case need == open:
		return "in"
	case listener == "notify", need == signedIn:
		return "401"
	case listener == "api" && need == owner && who == "customer B":
		return "404"
	case listener == "api" && need == shopOnly && strings.HasPrefix(who, "customer "):
		return "403"
	case listener == "api" && who == "shop for A":
		return "in"
	case listener == "api" && need == shopOnly:
		return "401"
	case listener == "api":
		return in(who == "customer A" || who == "customer B", "401")
	case !slices.Contains([]string{viewer, operator, finance, admin}, who):
		return "401"
	case need == viewer, who == admin:
		return "in"
	case need == either:
		return in(who == operator || who == finance, "403")
	}
	return in(who == need, "403")
}

// got says what an answer is in the table's words.
func got(need, who string, status int) string {
	switch {
	case status == 401, status == 403, status == 404 && need == owner:
		return fmt.Sprint(status)
	case status >= 500:
		return fmt.Sprint(status)
	}
	return "in"
}

func (h *house) path(pattern string, i ids) string {
	path := strings.NewReplacer(":order_no", i.order, ":out_refund_no", i.refund, ":sku_id", "1001", ":slug",
		"internal", ":name", "heap", ":id", "1001").Replace(pattern)
	if strings.Contains(path, "/refunds/:no") {
		path = strings.Replace(path, ":no", i.refund, 1)
	}
	path = strings.Replace(path, ":no", i.order, 1)
	if strings.HasSuffix(path, "/profile") || strings.HasSuffix(path, "/trace") {
		path += "?seconds=bad" // whoever is in does not have to wait for one
	}
	return path
}

// each calls do for every route of every listener, in order.
func (h *house) each(do func(listener, method, pattern string)) {
	for _, listener := range []string{"api", "notify", "admin", "ops"} {
		routes := h.doors[listener].Routes()
		slices.SortFunc(routes, func(a, b *echo.Route) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
		for _, r := range routes {
			do(listener, r.Method, r.Path)
		}
	}
}

const securityDoc = "../../docs/security.md"

// bodies are needed by routes that read them before they look for the order.
var bodies = map[string]string{"/v1/orders/:order_no/prepay": `{"trade_type":"NATIVE"}`,
	"/v1/orders/:order_no/refunds": `{"reason":"x"}`}

// A route that was added without a decision about who may use it is open to somebody. Every route of every listener is
// asked as every principal; the table in docs/security.md is what they got.
func TestEveryRouteAndPrincipal(t *testing.T) {
	h := newHouse(t)
	access := maps.Clone(access)
	for path, route := range console.Forms() { // whoever may ask the API sees the form, and posts it by a browser
		if access["admin "+route] == "" {
			t.Errorf("the form %s asks %s, which has no row", path, route)
		}
		access["admin GET "+path], access["admin POST "+path] = access["admin "+route], signedIn
	}
	left := len(access)
	var table strings.Builder
	fmt.Fprintf(&table, "| listener | route | for | %s |\n|---|---|---|%s\n", strings.Join(principals, " | "),
		strings.Repeat("---|", len(principals)))
	h.each(func(listener, method, pattern string) {
		need, ok := access[listener+" "+method+" "+pattern]
		if !ok {
			t.Errorf("%s: %s %s has no row: who may use it?", listener, method, pattern)
			return
		}
		left--
		var cells []string
		for _, who := range principals {
			want := expected(listener, need, who)
			rec := h.ask(listener, who, method, h.path(pattern, h.ids["customer A"]), bodies[pattern])
			if g := got(need, who, rec.Code); g != want {
				t.Errorf("%s: %s %s as %s: %d, want %s: %.200s", listener, method, pattern, who, rec.Code, want,
					rec.Body)
			}
			cells = append(cells, want)
		}
		fmt.Fprintf(&table, "| %s | `%s %s` | %s | %s |\n", listener, method, pattern, need, strings.Join(cells, " | "))
	})
	if left != 0 {
		t.Errorf("%d rows have no route", left)
	}
	text, err := os.ReadFile(securityDoc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- routes -->\n", "<!-- /routes -->"
	head, rest, ok := strings.Cut(string(text), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/security.md has no place for the table of routes")
	}
	if *update {
		if err := os.WriteFile(securityDoc, []byte(head+begin+table.String()+end+tail), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if old != table.String() {
		t.Error("the table in docs/security.md is not what the routes are: go test ./cmd/orderd -run " +
			"TestEveryRouteAndPrincipal -update")
	}
}

// strange is an answer without what differs between any two requests.
func strange(rec *httptest.ResponseRecorder, used ids) string {
	body := strings.NewReplacer(used.refund, "REFUND", used.order, "ORDER").Replace(rec.Body.String())
	header := rec.Header().Clone()
	header.Del("Date")
	return fmt.Sprint(rec.Code, header, body)
}

// An id that answers differently because it is somebody else's can be found by trying; and one word of another's order
// is a leak.
func TestForeignIDsAreUnknownIDs(t *testing.T) {
	h := newHouse(t)
	unknown := ids{order: "01JD4ZABCDEFGHJKMNPQRSTVWX", refund: "01JD4ZABCDEFGHJKMNPQRSTVWX-R01"}
	verbs := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	before := h.contents(t)
	tried := 0
	for _, pair := range [][2]string{{"customer A", "customer B"}, {"customer B", "customer A"}} {
		thief, victim := pair[0], h.ids[pair[1]]
		mixed := ids{h.ids[thief].order, victim.refund, ""}
		h.each(func(listener, _, pattern string) {
			if listener != "api" || !strings.Contains(pattern, "_no") {
				return
			}
			for _, verb := range verbs {
				for _, body := range []string{"", bodies[pattern]} {
					theirs := h.ask("api", thief, verb, h.path(pattern, victim), body)
					nobodys := h.ask("api", thief, verb, h.path(pattern, unknown), body)
					if a, b := strange(theirs, victim), strange(nobodys, unknown); a != b ||
						(theirs.Code < 400 && verb != "OPTIONS") {
						t.Errorf("%s, %s %s:\n%s\n%s", thief, verb, pattern, a, b)
					}
					if strings.Contains(pattern, ":order_no") && strings.Contains(pattern, ":out_refund_no") {
						own := h.ask("api", thief, verb, h.path(pattern, mixed), body)
						if own.Code < 400 && verb != "OPTIONS" {
							t.Errorf("another's refund below one's own order: %d %s", own.Code, own.Body)
						}
					}
					if text := strange(theirs, victim); leaks(text, victim, pair[1]) {
						t.Errorf("%s, %s %s leaks: %s", thief, verb, pattern, text)
					}
					tried++
				}
			}
		})
		for _, list := range []string{"/v1/orders", "/v1/orders?limit=200",
			"/v1/orders?customer_id=" + strings.ReplaceAll(pair[1], " ", "-"), "/v1/orders?state=paid",
			"/v1/orders?cursor=" + victim.order, "/v1/stock?sku_ids=1001"} {
			rec := h.ask("api", thief, "GET", list, "")
			if text := strings.ReplaceAll(rec.Body.String(), list, ""); leaks(text, victim, pair[1]) {
				t.Errorf("%s, %s: %s", thief, list, text)
			}
		}
	}
	if changed := sqldbtest.Changed(before, h.contents(t)); len(changed) > 0 {
		t.Errorf("strangers changed %v", changed)
	}
	t.Logf("%d requests with foreign ids, 0 leaks", tried)
}

// leaks reports a word of the victim's in a text.
func leaks(text string, victim ids, who string) bool {
	for _, word := range []string{victim.order, victim.refund, victim.transaction, "of " + who,
		"openid-of-" + who[len(who)-1:], strings.ReplaceAll(who, " ", "-")} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// tricks spell the way to a route differently: a router and what guards it must not read it differently.
var tricks = map[string]func(path string) string{
	"slash at the end": func(p string) string { return p + "/" },
	"two slashes":      func(p string) string { return "/" + p },
	"double inside":    func(p string) string { i := strings.LastIndex(p, "/"); return p[:i] + "/" + p[i:] },
	"upper case":       strings.ToUpper,
	"%2f":              func(p string) string { i := strings.LastIndex(p, "/"); return p[:i] + "%2f" + p[i+1:] },
	"dot segment":      func(p string) string { i := strings.LastIndex(p, "/"); return p[:i] + "/." + p[i:] },
	"from a free one":  func(p string) string { return "/healthz/.." + p },
	"from the problem": func(p string) string { return "/problems/..%2f.." + p },
	"semicolon":        func(p string) string { return p + ";/healthz" },
	"%00":              func(p string) string { return p + "%00" },
	"metrics suffix":   func(p string) string { return p + "/metrics" },
	"encoded letter":   func(p string) string { return strings.Replace(p, "/v1", "/%761", 1) },
}

// contents is what the database has, without what a process notes by itself: that it runs, and when a secret was used.
func (h *house) contents(t *testing.T) map[string][]string {
	t.Helper()
	for _, s := range []string{"UPDATE operator_tokens SET used_at = 0", "UPDATE shop_keys SET used_at = 0",
		"DELETE FROM processes"} {
		if _, err := h.db.Pool().ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return sqldbtest.Contents(t, h.db)
}

// Headers by which some frameworks let a request be another one.
var disguises = [][]string{
	{"X-HTTP-Method-Override", "POST"}, {"X-HTTP-Method", "PUT"}, {"X-Method-Override", "DELETE"},
	{"X-Original-URL", "/healthz"}, {"X-Rewrite-URL", "/healthz"},
	{"X-Forwarded-For", "127.0.0.1"}, {"X-Real-IP", "127.0.0.1"}, {"X-Customer-Id", "customer-A"},
	{"X-Forwarded-User", "admin"}, {"Cookie", "session=admin"}, {"Cookie", "orderd_session=admin"},
	{"Connection", "Authorization"}, {"X-Forwarded-Host", "127.0.0.1:9090"},
}

// A second spelling of a guarded path, or a header that makes one request another, must open nothing.
func TestNoTrickOpensADoor(t *testing.T) {
	h := newHouse(t)
	before := h.contents(t)
	tried := 0
	h.each(func(listener, method, pattern string) {
		need := access[listener+" "+method+" "+pattern]
		path := h.path(pattern, h.ids["customer A"])
		for _, who := range []string{"nobody", "customer B", "viewer"} {
			if need == open || expected(listener, need, who) == "in" {
				continue
			}
			for name, trick := range tricks {
				tried++
				rec := h.ask(listener, who, method, trick(path), "")
				if rec.Code < 400 || rec.Code >= 500 {
					t.Errorf("%s: %s %s, %s as %s: %d %.100s", listener, method, path, name, who, rec.Code, rec.Body)
				}
			}
			for _, d := range disguises {
				for _, verb := range []string{method, "GET", "POST"} {
					tried++
					rec := h.ask(listener, who, verb, path, "", d...)
					// A GET may be a route of its own that is meant for them.
					twin := expected(listener, access[listener+" "+verb+" "+pattern], who)
					if rec.Code < 400 && (verb == method || twin != "in") {
						t.Errorf("%s: %s %s with %v as %s: %d", listener, verb, path, d, who, rec.Code)
					}
				}
			}
		}
	})
	if changed := sqldbtest.Changed(before, h.contents(t)); len(changed) > 0 {
		t.Errorf("tricks changed %v", changed)
	}
	t.Logf("%d tricks tried", tried)
}

// A route of the operators that shows up at the public door is one configuration mistake from everybody.
func TestPublicListenersHaveOnlyTheirs(t *testing.T) {
	h := newHouse(t)
	h.each(func(listener, method, pattern string) {
		if listener != "admin" || strings.HasSuffix(pattern, "/healthz") {
			return
		}
		for _, public := range []string{"api", "notify", "ops"} {
			if access[public+" "+method+" "+pattern] == open {
				continue // its own: monitoring's three, and the pages of problems
			}
			rec := h.ask(public, "admin", method, h.path(pattern, h.ids["customer A"]), "")
			if rec.Code != 404 {
				t.Errorf("%s %s at the listener %s: %d", method, pattern, public, rec.Code)
			}
		}
	})
	var s settings
	for _, f := range s.fields() {
		if f.env == "ORDERD_ADMIN_ADDR" {
			return
		}
	}
	t.Error("the admin listener has no address of its own")
}
