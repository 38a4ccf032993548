package console

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/ordertest"
	"orderd/order/ordertest/canary"
	"orderd/order/shops"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// said is what a form is told in Chinese.
func said(word string, values ...any) string { return zh.word(word, values...) }

// mainOf is what a page has of its own.
func mainOf(w *httptest.ResponseRecorder) string {
	_, rest, _ := strings.Cut(w.Body.String(), "<main")
	return rest
}

// shownKey finds the key of one-time codes in a page.
var shownKey = regexp.MustCompile(`密钥</dt><dd><code data-id>([A-Z2-7]{32})<`)

const password = "correct horse battery"

// browser is somebody's: it keeps cookies, and sends what browsers send along.
type browser struct {
	d       *desk
	cookies map[string]string
	headers map[string]string
	host    string // "": this machine
}

// stranger is a browser that is nobody's yet.
func (d *desk) stranger() *browser {
	return &browser{d: d, cookies: map[string]string{}, headers: map[string]string{"Sec-Fetch-Site": "same-origin",
		"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language": "zh-CN"}}
}

// browser makes an account with a password and gives a browser that is signed in as that person.
func (d *desk) browser(t *testing.T, name string, role Role) *browser {
	t.Helper()
	if err := operators.Create(t.Context(), d.DB, name, role, operators.Bootstrap, d.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	link, err := d.logins.LinkOf(t.Context(), name, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	b := d.stranger()
	w := b.post("/setup", "t", link, "password", password, "again", password)
	if w.Code != http.StatusSeeOther || b.cookies[sessionCookie] == "" {
		t.Fatalf("not signed in: %d %.300s", w.Code, w.Body)
	}
	return b
}

// send asks with a form's fields in pairs, or without a body where there are none.
func (b *browser) send(method, path string, form []string) *httptest.ResponseRecorder {
	values := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	r := httptest.NewRequest(method, path, strings.NewReader(values.Encode()))
	if method != http.MethodGet {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Host = cmp.Or(b.host, "127.0.0.1:9090")
	for name, value := range b.headers {
		r.Header.Set(name, value)
	}
	for name, value := range b.cookies {
		r.Header.Add("Cookie", name+"="+value)
	}
	w := httptest.NewRecorder()
	b.d.ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		if b.cookies[k.Name] = k.Value; k.MaxAge < 0 {
			delete(b.cookies, k.Name)
		}
	}
	return w
}

func (b *browser) get(path string) *httptest.ResponseRecorder { return b.send("GET", path, nil) }

func (b *browser) post(path string, form ...string) *httptest.ResponseRecorder {
	return b.send("POST", path, form)
}

// leads fails the test unless an answer sends the browser to a page.
func leads(t *testing.T, w *httptest.ResponseRecorder, to string) {
	t.Helper()
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != to {
		t.Fatalf("got %d to %q, want 303 to %q: %.300s", w.Code, w.Header().Get("Location"), to, w.Body)
	}
}

// Who came in, from where, who was turned away, and what was done about people is in the audit trail; and a login that
// cannot be written down is none.
func TestWhoComesAndGoesIsInTheTrail(t *testing.T) {
	d := newDesk(t)
	link, err := d.logins.FirstLink(t.Context(), "cli:root")
	if err != nil {
		t.Fatal(err)
	}
	b := d.stranger()
	leads(t, b.post("/setup", "t", link, "name", "anna", "password", password, "again", password), "/")
	leads(t, b.post("/logout"), "/login")
	want(t, b.post("/login", "name", "anna", "password", "wrong horse battery"), 403, said("said.wrong"))
	want(t, b.post("/login", "name", password, "password", password), 403, said("said.wrong"))
	leads(t, b.post("/login", "name", "anna", "password", password), "/")
	want(t, b.post("/ui/people", "name", "bea", "role", "viewer", "reason", "new"), 200, "/setup?t=")
	leads(t, b.post("/ui/people/bea/role", "role", "finance", "reason", "moved"), "/ui/people/bea")
	want(t, b.post("/ui/people/bea/link", "reason", "lost"), 200, "/setup?t=")
	leads(t, b.post("/ui/people/bea/end-sessions", "reason", "lost"), "/ui/people/bea")
	want(t, b.post("/ui/people/bea/tokens", "label", "laptop", "reason", "x"), 200, "bea:laptop")
	leads(t, b.post("/ui/people/bea/tokens/revoke", "token", "bea:laptop", "reason", "x"), "/ui/people/bea")
	leads(t, b.post("/ui/people/bea/disable", "reason", "gone"), "/ui/people/bea")
	want(t, b.post("/ui/me/totp"), 200, "<svg")
	leads(t, b.post("/ui/me/password", "old", password, "password", password+"2", "again", password+"2"), "/ui/me")
	leads(t, b.post("/ui/me/sessions/end"), "/ui/me")
	expected := []string{"anna link.use anna done"}
	for _, act := range []string{"login.end", "", "login.begin anna refused", "", "person.create bea",
		"person.role bea", "person.link bea", "session.end bea", "token.create bea", "token.revoke bea",
		"person.disable bea", "totp.begin", "password.change", "session.end"} {
		switch {
		case act == "":
		case strings.HasSuffix(act, "refused"):
			expected = append(expected, "anna "+act, nobodyKnown+" login.begin "+nobodyKnown+" refused",
				"anna login.begin anna done")
		default:
			expected = append(expected, "anna "+act, "anna "+act+" done")
		}
	}
	if got := d.trailed(t); !slices.Equal(got, expected) {
		t.Errorf("the trail has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
	}
	rows := strings.Join(sqldbtest.Contents(t, d.DB)["trail"], "\n")
	if strings.Contains(rows, password) || !strings.Contains(rows, "192.0.2.1") || !strings.Contains(rows, "moved") {
		t.Errorf("%s", rows)
	}
	before := sqldbtest.Contents(t, d.DB)
	for range 2 * operators.MostWrong { // what is not looked at is not written down
		b.post("/login", "name", "bo", "password", "wrong horse battery")
	}
	if got := len(sqldbtest.Contents(t, d.DB)["trail"]) - len(before["trail"]); got != operators.MostWrong {
		t.Errorf("%d rows of a flood", got)
	}
	if _, err := d.DB.Pool().ExecContext(t.Context(), "ALTER TABLE trail RENAME TO away"); err != nil {
		t.Fatal(err)
	}
	sessions := len(sqldbtest.Contents(t, d.DB)["operator_sessions"])
	if w := b.post("/login", "name", "anna", "password", password+"2"); w.Code < 500 {
		t.Errorf("let in without a trail: %d", w.Code)
	}
	if got := len(sqldbtest.Contents(t, d.DB)["operator_sessions"]); got != sessions {
		t.Error("a session that the trail does not have")
	}
	if _, err := d.DB.Pool().ExecContext(t.Context(), "ALTER TABLE away RENAME TO trail"); err != nil {
		t.Fatal(err)
	}
}

// Whoever has lost a role, or the account, while a form was open posts it in vain.
func TestAFormOutlivesNoRole(t *testing.T) {
	for what, end := range map[string]func(o *office) error{
		"a lower role": func(o *office) error {
			return operators.SetRole(t.Context(), o.DB, "adam", Viewer, o.Clock.Now())
		},
		"another role and back": func(o *office) error {
			return cmp.Or(operators.SetRole(t.Context(), o.DB, "adam", Viewer, o.Clock.Now()),
				operators.SetRole(t.Context(), o.DB, "adam", Admin, o.Clock.Now()))
		},
		"a disabled account": func(o *office) error {
			return operators.Disable(t.Context(), o.DB, "adam", "the boss", o.Clock.Now())
		},
		"the end of the session": func(o *office) error { return o.logins.EndAll(t.Context(), "adam", "") },
		"half an hour": func(o *office) error {
			o.Clock.Advance(operators.SessionIdle)
			return nil
		},
	} {
		o := newOffice(t)
		want(t, o.adam.get("/ui/people/bert"), 200, "bert")
		if err := end(o); err != nil {
			t.Fatal(err)
		}
		before := sqldbtest.Contents(t, o.DB)
		for _, pattern := range o.posts(t) {
			path, fields, ok := o.form(pattern)
			if !ok || slices.Contains([]string{"/login", "/setup", "/ui/language"}, pattern) {
				continue
			}
			w := o.adam.post(path, append(fields, provePassword, password)...)
			if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/login") {
				t.Errorf("%s: %s: %d %s", what, path, w.Code, w.Header().Get("Location"))
			}
		}
		if changed := sqldbtest.Changed(before, sqldbtest.Contents(t, o.DB)); len(changed) > 0 {
			t.Errorf("%s: %v changed", what, changed)
		}
		if _, err := o.DB.Pool().ExecContext(t.Context(),
			"UPDATE operators SET disabled_by = 'bootstrap' WHERE disabled_at <> 0"); err != nil {
			t.Fatal(err)
		}
	}
}

// What a link is answered that does not work tells neither whether it ever did nor whose it was.
func TestDeadLinksAreAlike(t *testing.T) {
	d := newDesk(t)
	d.browser(t, "anna", Admin) // by a link, which is used
	link := func(person string) string {
		t.Helper()
		secret, err := d.logins.LinkOf(t.Context(), person, "cli")
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	used, replaced := link("anna"), ""
	leads(t, d.stranger().post("/setup", "t", used, "password", password, "again", password), "/")
	replaced, _ = link("anna"), link("anna")
	late := link("anna")
	d.Clock.Advance(operators.LinkFor)
	known := regexp.MustCompile(`(?s)<time.*?</time>|name="back" value="[^"]*"`)
	first := ""
	for what, secret := range map[string]string{"used": used, "replaced": replaced, "too late": late,
		"of nobody": strings.Repeat("A", 43), "empty": "", "no secret": "%00<x>"} {
		got := d.stranger().get("/setup?t=" + url.QueryEscape(secret))
		post := d.stranger().post("/setup", "t", secret, "name", "anna", "password", password, "again", password)
		for _, w := range []*httptest.ResponseRecorder{got, post} {
			want(t, w, 404, said("in.link.dead"))
			body := known.ReplaceAllString(w.Body.String(), "")
			if first == "" {
				first = body
			}
			if body != first || len(w.Result().Cookies()) > 0 {
				t.Errorf("%s is told apart: %s", what, body)
			}
		}
	}
}

// From the first link to the last logout: each step as a person meets it.
func TestFirstPersonToLogout(t *testing.T) {
	d := newDesk(t)
	link, err := d.logins.FirstLink(t.Context(), "cli:root")
	if err != nil {
		t.Fatal(err)
	}
	b := d.stranger()
	leads(t, b.get("/ui/refunds"), "/login?next=%2Fui%2Frefunds")
	want(t, b.get("/login?next=/ui/refunds"), 200, `value="/ui/refunds"`)
	want(t, b.get("/setup?t="+link), 200, "创建管理员")
	want(t, b.get("/setup?t="+link+"x"), 404, "链接无效")
	want(t, b.post("/setup", "t", link, "name", "anna", "password", password, "again", "x"), 422, said("said.notagain"))
	want(t, b.post("/setup", "t", link, "name", "anna", "password", "short", "again", "short"), 422,
		said("said.weak", 12, 128))
	want(t, b.post("/setup", "t", link, "name", "boot strap", "password", password, "again", password), 422,
		said("said.name"))
	leads(t, b.post("/setup", "t", link, "name", "anna", "password", password, "again", password), "/")
	want(t, b.get("/"), 200, "<h1>需要处理</h1>")
	want(t, b.post("/setup", "t", link, "name", "eve", "password", password, "again", password), 404, "链接无效")
	w := b.get("/ui/me")
	want(t, w, 200, "anna")
	for name, says := range map[string]string{"Cache-Control": "no-store", "Content-Security-Policy": strictCSP,
		"Referrer-Policy": "same-origin"} {
		if w.Header().Get(name) != says {
			t.Errorf("%s: %q", name, w.Header().Get(name))
		}
	}
	leads(t, b.get("/login?next=/ui/gates"), "/ui/gates")
	leads(t, b.post("/logout"), "/login")
	if b.cookies[sessionCookie] != "" || b.cookies[browserCookie] == "" {
		t.Errorf("cookies: %v", b.cookies)
	}
	want(t, b.post("/login", "name", "anna", "password", "wrong horse battery", "next", "/"), 403, "不正确")
	leads(t, b.post("/login", "name", " anna ", "password", password, "next", "//evil.example/"), "/")
	leads(t, b.post("/ui/me/password", "old", password, "password", "another horse battery", "again",
		"another horse battery"), "/ui/me")
	want(t, b.get("/ui/me"), 200, "当前")
	want(t, b.post("/ui/me/password", "old", password, "password", "a third horse battery", "again",
		"a third horse battery"), 403, "不正确")
}

// What a browser may do is what its person's role may, on every route, and the API's writes are not among it: a page
// of another site can have a browser send a cookie, and no token.
func TestEveryRouteAndSession(t *testing.T) {
	d := newDesk(t)
	people := map[Role]*browser{}
	for role, name := range map[Role]string{Viewer: "vera", Operator: "otto", Finance: "fred", Admin: "adam"} {
		people[role] = d.browser(t, name, role)
	}
	ended := d.browser(t, "gone", Admin)
	if err := d.logins.EndAll(t.Context(), "gone", ""); err != nil {
		t.Fatal(err)
	}
	c := &console{Options: Options{Metrics: NewMetrics(), TokenStore: d.tokens, Logins: d.logins}}
	tried := 0
	for _, r := range c.routes() {
		if r.role == "" || r.path == "/logout" {
			continue
		}
		path := strings.NewReplacer(":no", "01NONE", ":id", "none", ":name", "heap").Replace(r.path)
		if strings.HasSuffix(path, "/profile") || strings.HasSuffix(path, "/trace") {
			path += "?seconds=bad"
		}
		for role, b := range people {
			tried++
			b.headers["Accept"] = "*/*" // as a program: no page instead of a refusal
			w := b.send(r.method, path, nil)
			switch {
			case r.method != http.MethodGet && strings.HasPrefix(path, "/admin/"):
				want(t, w, 401, "UNAUTHENTICATED")
			case !role.May(r.role):
				want(t, w, 403, "FORBIDDEN")
			case w.Code == 401 || w.Code == 403 && strings.Contains(w.Body.String(), "FORBIDDEN") || w.Code >= 500:
				t.Errorf("%s %s as %s: %d %.200s", r.method, path, role, w.Code, w.Body)
			}
		}
		ended.headers["Accept"] = "*/*"
		want(t, ended.send(r.method, path, nil), 401, "UNAUTHENTICATED")
	}
	if tried < 4*60 {
		t.Errorf("only %d were tried", tried)
	}
}

// forms are the fields that a form of a route has, for tests that send one which would be taken.
var forms = map[string][]string{
	"/login":                         {"name", "adam", "password", password},
	"/setup":                         {"t", "LINK", "name", "eve", "password", password, "again", password},
	"/logout":                        {},
	"/ui/language":                   {"to", "en", "back", "/"},
	"/ui/me/sessions/end":            {},
	"/ui/me/password":                {"old", password, "password", password + "2", "again", password + "2"},
	"/ui/me/totp":                    {},
	"/ui/me/totp/confirm":            {"code", "000000"},
	"/ui/me/totp/off":                {},
	"/ui/people":                     {"name", "eve", "role", "admin", "reason", "x"},
	"/ui/people/:name/role":          {"role", "admin", "reason", "x"},
	"/ui/people/:name/disable":       {"reason", "x"},
	"/ui/people/:name/end-session":   {"id", "SESSION", "reason", "x"},
	"/ui/people/:name/end-sessions":  {"reason", "x"},
	"/ui/people/:name/link":          {"reason", "x"},
	"/ui/people/:name/tokens":        {"label", "laptop", "reason", "x"},
	"/ui/people/:name/tokens/revoke": {"token", "bert:desk", "reason", "x"},
	"/ui/shop-keys":                  {"shop", "web", "scope_read", "1", "reason", "x"},
	"/ui/shop-keys/revoke":           {"key", "old/1", "reason", "x"},
}

// office is a desk with adam, an admin; bert, a viewer with a session and a token; a key of a shop; and a link.
type office struct {
	*desk
	adam, bert *browser
	fill       *strings.Replacer // of what forms has in capitals
}

func newOffice(t *testing.T) *office {
	t.Helper()
	d := newDesk(t)
	o := &office{desk: d, adam: d.browser(t, "adam", Admin), bert: d.browser(t, "bert", Viewer)}
	_, _, err := d.tokens.CreateFor(t.Context(), "bert", "desk", "adam")
	if err == nil {
		_, _, err = d.keys.Create(t.Context(), "old", shops.Scopes(), "adam")
	}
	all, e := d.logins.Sessions(t.Context(), "bert")
	link, e2 := d.logins.LinkOf(t.Context(), "adam", "cli")
	if err := cmp.Or(err, e, e2); err != nil {
		t.Fatal(err)
	}
	o.fill = strings.NewReplacer("SESSION", all[0].ID, "LINK", link)
	return o
}

// form gives path and fields of a route's form that would be taken; ok is false where forms has none.
func (o *office) form(pattern string) (path string, fields []string, ok bool) {
	fields, ok = forms[pattern]
	fields = slices.Clone(fields)
	for i := range fields {
		fields[i] = o.fill.Replace(fields[i])
	}
	return strings.NewReplacer(":name", "bert", ":no", "01NONE", ":id", "none").Replace(pattern), fields, ok
}

// posts gives the routes that take a form.
func (o *office) posts(t *testing.T) (all []string) {
	t.Helper()
	for _, r := range o.routes {
		if r[0] != http.MethodGet && !strings.HasPrefix(r[1], "/admin/") {
			all = append(all, r[1])
		}
	}
	if len(all) < len(forms) {
		t.Fatalf("%d routes take forms: %v", len(all), all)
	}
	return all
}

// A stolen cookie is of no use to a page of another site, whatever it has the browser post and wherever: every route
// that changes something refuses it, the API's too, and the same form of the own page is taken.
func TestAnotherSitesFormChangesNothing(t *testing.T) {
	o := newOffice(t)
	before := sqldbtest.Contents(t, o.DB)
	tried := 0
	for _, headers := range []map[string]string{{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
		{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9091"},
		{"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:9090"}} {
		thief := &browser{d: o.desk, cookies: o.adam.cookies, headers: headers}
		for _, r := range o.routes {
			if r[0] == http.MethodGet {
				continue
			}
			path, fields, _ := o.form(r[1])
			tried++
			w := thief.send(r[0], path, fields)
			want(t, w, 403, "FORBIDDEN")
			if len(w.Result().Cookies()) > 0 {
				t.Errorf("%s %s sets a cookie", r[0], path)
			}
		}
	}
	if changed := sqldbtest.Changed(before, sqldbtest.Contents(t, o.DB)); len(changed) > 0 {
		t.Errorf("another site changed %v", changed)
	}
	if tried < 6*40 {
		t.Errorf("only %d were tried", tried)
	}
	want(t, o.bert.get("/ui/me"), 200, "bert")
	leads(t, (&browser{d: o.desk, cookies: o.adam.cookies,
		headers: map[string]string{"Origin": "http://127.0.0.1:9090"}}).post("/logout"), "/login")
}

// What asks for the password again does so however it is reached: a form that is posted straight to the act, without
// the page that asks, changes nothing.
func TestNothingGoesAroundThePassword(t *testing.T) {
	// These ask for it themselves, or do no harm.
	free := []string{"/logout", "/ui/me/sessions/end", "/ui/me/password", "/ui/me/totp/confirm"}
	tried := 0
	for _, pattern := range newOffice(t).posts(t) {
		if _, ok := forms[pattern]; !ok || !strings.HasPrefix(pattern, "/ui/") || slices.Contains(free, pattern) ||
			pattern == "/ui/language" {
			continue
		}
		tried++
		o := newOffice(t)
		path, fields, _ := o.form(pattern)
		o.Clock.Advance(operators.ProvedFor)
		want(t, o.adam.get("/ui/me"), 200, "adam") // which notes that it was seen
		before := sqldbtest.Contents(t, o.DB)
		for _, more := range [][]string{nil, {"prove", "1"}, {provePassword, ""}} {
			w := o.adam.post(path, append(slices.Clone(fields), more...)...)
			want(t, w, 403, said("title.prove"))
		}
		want(t, o.adam.post(path, append(slices.Clone(fields), provePassword, "wrong horse battery")...), 403,
			said("said.wrong"))
		after := sqldbtest.Contents(t, o.DB)
		for _, mine := range []string{"login_failures", "trail"} {
			delete(before, mine)
			delete(after, mine)
		}
		if changed := sqldbtest.Changed(before, after); len(changed) > 0 {
			t.Errorf("%s without the password changed %v", pattern, changed)
		}
		w := o.adam.post(path, append(slices.Clone(fields), provePassword, password)...)
		if w.Code != http.StatusOK && w.Code != http.StatusSeeOther {
			t.Errorf("%s with the password: %d %.300s", pattern, w.Code, w.Body)
		}
	}
	if tried < 12 {
		t.Errorf("only %d were tried", tried)
	}
}

// tlsDesk is a desk behind a proxy that has the TLS.
func tlsDesk(t *testing.T, d *desk) *desk {
	t.Helper()
	e, err := New(Options{Orders: d.Service, Stock: d.Admin, Refunds: d.Service, Reconciler: d.books,
		Failures: d.failures, TokenStore: d.tokens, Tokens: deskTokens(), Metrics: NewMetrics(),
		Ready: NewReadiness(d.Clock.Now), Now: d.Clock.Now, Logins: d.logins, BehindTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	behind := *d
	behind.Handler, behind.console = e, e
	return &behind
}

// What the cookies say is what keeps scripts, other sites and networks from them, and one that anybody without TLS can
// plant is not taken where there is TLS: also of a proxy that does not say so.
func TestCookies(t *testing.T) {
	d := newDesk(t)
	d.browser(t, "anna", Viewer)
	behind := tlsDesk(t, d)
	const public = "console.example.com"
	for _, c := range []struct {
		what, host string
		d          *desk
		headers    map[string]string
		secure     bool
	}{
		{"on this machine", "127.0.0.1:9090", d, nil, false},
		{"by a tunnel", "localhost:7000", d, nil, false},
		{"by a tunnel of another family", "[::1]:7000", d, nil, false},
		{"by a name of this machine", "orderd.localhost:7000", d, nil, false},
		{"a proxy that says so", "127.0.0.1:9090", d, map[string]string{"X-Forwarded-Proto": "https"}, true},
		{"a proxy that leaves it to the browser", "127.0.0.1:9090", d,
			map[string]string{"Origin": "https://127.0.0.1:9090"}, true},
		{"a proxy that says nothing, and keeps the name", public, d, nil, true},
		{"a proxy that says nothing, and keeps no name", "127.0.0.1:9090", behind, nil, true},
		{"a proxy that says the wrong thing", "127.0.0.1:9090", behind,
			map[string]string{"X-Forwarded-Proto": "http"}, true},
		{"a name that looks like this machine's", "127.0.0.1.example.com", d, nil, true},
		{"another one", "localhost.example.com", d, nil, true},
	} {
		b := c.d.stranger()
		b.host = c.host
		for name, value := range c.headers {
			b.headers[name] = value
		}
		w := b.post("/login", "name", "anna", "password", password)
		set := w.Result().Header.Values("Set-Cookie")
		if len(set) != 2 {
			t.Fatalf("%s: %d %q", c.what, w.Code, set)
		}
		for i, name := range []string{sessionCookie, browserCookie} {
			if c.secure {
				name = hostPrefix + name
			}
			if k := set[i]; !strings.HasPrefix(k, name+"=") || strings.Contains(k, "; Secure") != c.secure ||
				!strings.Contains(k, "; HttpOnly") || !strings.Contains(k, "; SameSite=Strict") ||
				!strings.Contains(k, "Path=/") || strings.Contains(k, "Domain") || strings.Contains(k, "Expires") ||
				strings.Contains(k, "Max-Age") != (i == 1) {
				t.Errorf("%s: %s", c.what, k)
			}
		}
		want(t, b.get("/ui/me"), 200, "anna")
		if !c.secure {
			continue
		}
		// One that a page without TLS planted, in a browser that was here before, and in one that was not.
		b.cookies[sessionCookie] = b.cookies[secureCookie]
		delete(b.cookies, secureCookie)
		leads(t, b.get("/ui/me"), "/login?next=%2Fui%2Fme")
		delete(b.cookies, hostPrefix+browserCookie)
		leads(t, b.get("/ui/me"), "/login?next=%2Fui%2Fme")
	}
	// Two of one name, of which another path or program of the machine has set one.
	b := d.stranger()
	leads(t, b.post("/login", "name", "anna", "password", password), "/")
	b.headers["Cookie"] = sessionCookie + "=planted"
	leads(t, b.get("/ui/me"), "/login?next=%2Fui%2Fme")
}

// A browser that drops the cookie of a page without TLS leads its person round in a circle, the password on the
// network each time.
func TestAPageInTheClearIsToldSo(t *testing.T) {
	d := newDesk(t)
	link, err := d.logins.FirstLink(t.Context(), "cli")
	if err != nil {
		t.Fatal(err)
	}
	behind := tlsDesk(t, d)
	for host, at := range map[string]*desk{"console.example.com": d, "127.0.0.1:9090": behind} {
		b := at.stranger()
		b.host, b.headers["Origin"] = host, "http://"+host
		want(t, b.post("/setup", "t", link, "name", "anna", "password", password, "again", password), 422,
			said("said.tls"))
		want(t, b.post("/login", "name", "anna", "password", password), 403, said("said.tls"))
		if len(b.cookies) > 0 {
			t.Errorf("%s: %v", host, b.cookies)
		}
	}
	b := d.stranger()
	b.headers["Origin"] = "http://127.0.0.1:9090"
	leads(t, b.post("/setup", "t", link, "name", "anna", "password", password, "again", password), "/")
}

// Whoever plants a session in a browser before the login has nothing after it.
func TestLoginChangesTheSession(t *testing.T) {
	d := newDesk(t)
	d.browser(t, "anna", Admin)
	eve := d.browser(t, "eve", Viewer)
	victim := d.stranger()
	planted := eve.cookies[sessionCookie]
	for _, value := range []string{planted, "made-up-by-eve"} {
		victim.cookies[sessionCookie] = value
		leads(t, victim.post("/login", "name", "anna", "password", password), "/")
		if victim.cookies[sessionCookie] == value {
			t.Error("the id is the one of before")
		}
		eve.cookies[sessionCookie] = value
		leads(t, eve.get("/ui/me"), "/login?next=%2Fui%2Fme")
	}
}

// The sixth try is answered as any other is, whichever process it comes to; and names that nobody has are no different.
func TestLoginsAreHeldOverProcesses(t *testing.T) {
	d := newDesk(t)
	d.browser(t, "anna", Admin)
	other := newDeskOf(t, d.Fixture, nil) // another process on the same database
	for _, name := range []string{"anna", "nobody"} {
		for i := range operators.MostWrong {
			at := []*desk{d, other}[i%2]
			want(t, at.stranger().post("/login", "name", name, "password", "wrong horse battery"), 403, "不正确")
		}
		for _, at := range []*desk{d, other} {
			w := at.stranger().post("/login", "name", name, "password", password)
			want(t, w, 429, "15 分钟")
			if w.Header().Get("Retry-After") != "900" {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		}
		d.Clock.Advance(operators.WrongWithin)
	}
	leads(t, other.stranger().post("/login", "name", "anna", "password", password), "/")
	want(t, d.ask("", "GET", "/metrics", ""), 200, `orderd_wrong_tokens_total{listener="login",result="held"} 2`)
}

// What moves much asks for the password again, once in five minutes, and the form is not lost by it.
func TestStepUp(t *testing.T) {
	d := newDesk(t)
	adam := d.browser(t, "adam", Admin)
	form := []string{"name", "bea", "role", "finance", "reason", "新同事 \"<b>\""}
	d.Clock.Advance(operators.ProvedFor)
	w := adam.post("/ui/people", form...)
	want(t, w, 403, "请再次输入密码")
	var again []string
	for _, m := range regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(
		mainOf(w), -1) {
		again = append(again, m[1], html.UnescapeString(m[2]))
	}
	if len(again) != len(form) || !strings.Contains(w.Body.String(), `action="/ui/people"`) {
		t.Fatalf("%q", again)
	}
	want(t, adam.post("/ui/people", append(again, provePassword, "wrong horse battery")...), 403, "不正确")
	if people, err := d.logins.People(t.Context()); err != nil || len(people) != 1 {
		t.Fatal("done without the password: ", people, err)
	}
	want(t, adam.post("/ui/people", append(again, provePassword, password)...), 200, "/setup?t=")
	want(t, adam.post("/ui/people", "name", "carl", "role", "viewer", "reason", "x"), 200, "/setup?t=")
	for range operators.MostWrong {
		d.Clock.Advance(operators.ProvedFor)
		adam.post("/ui/people/carl/disable", "reason", "x", provePassword, "wrong horse battery")
		d.Clock.Advance(-operators.ProvedFor + time.Second)
	}
	d.Clock.Advance(operators.ProvedFor)
	want(t, adam.post("/ui/people/carl/disable", "reason", "x", provePassword, password), 429, "分钟后再试")
}

// What an admin does about people is done, with a reason, and ends what they are signed in by.
func TestPeople(t *testing.T) {
	d := newDesk(t)
	adam := d.browser(t, "adam", Admin)
	want(t, adam.post("/ui/people", "name", "bea", "role", "finance", "reason", ""), 422, said("said.reason", 200))
	want(t, adam.post("/ui/people", "name", "bea", "role", "king", "reason", "x"), 422, said("said.role"))
	want(t, adam.post("/ui/people", "name", "adam", "role", "viewer", "reason", "x"), 422, said("said.name"))
	want(t, adam.post("/ui/people", "name", "bea", "role", "viewer", "reason", "x", "more", "y"), 400,
		"MALFORMED_REQUEST")
	want(t, adam.post("/ui/people", "name", "bea", "name", "bo", "role", "viewer", "reason", "x"), 400,
		"MALFORMED_REQUEST")
	w := adam.post("/ui/people", "name", "bea", "role", "finance", "reason", "new")
	want(t, w, 200, "一次性链接")
	link := regexp.MustCompile(`http://127.0.0.1:9090/setup\?t=([\w-]+)`).FindStringSubmatch(w.Body.String())[1]
	bea := d.stranger()
	leads(t, bea.post("/setup", "t", link, "password", password, "again", password), "/")
	want(t, bea.get("/ui/people"), 403, "FORBIDDEN")
	want(t, adam.get("/ui/people"), 200, "bea")
	leads(t, adam.post("/ui/people/bea/end-sessions", "reason", "lost laptop"), "/ui/people/bea")
	leads(t, bea.get("/ui/me"), "/login?next=%2Fui%2Fme")
	leads(t, bea.post("/login", "name", "bea", "password", password), "/")
	want(t, adam.post("/ui/people/nobody/link", "reason", "x"), 404, "NOT_FOUND")
	want(t, d.ask(Admin, "POST", "/admin/v1/operators/bea/role", `{"reason":"x","role":"viewer"}`), 204, "")
	leads(t, bea.get("/ui/me"), "/login?next=%2Fui%2Fme")
	leads(t, bea.post("/login", "name", "bea", "password", password), "/")
	want(t, adam.post("/ui/people/bea/role", "role", "king", "reason", "x"), 422, said("said.role"))
	want(t, adam.post("/ui/people/bea/role", "role", "finance", "reason", " "), 422, said("said.reason", 200))
	leads(t, adam.post("/ui/people/bea/role", "role", "operator", "reason", "moved"), "/ui/people/bea")
	leads(t, bea.get("/ui/me"), "/login?next=%2Fui%2Fme")
	leads(t, bea.post("/login", "name", "bea", "password", password), "/")
	want(t, bea.get("/ui/me"), 200, "客服")
	session := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`).FindStringSubmatch(
		adam.get("/ui/people/bea").Body.String())[1]
	want(t, adam.post("/ui/people/bea/end-session", "id", session), 422, said("said.reason", 200))
	leads(t, adam.post("/ui/people/adam/end-session", "id", session, "reason", "x"), "/ui/people/adam") // not adam's
	want(t, bea.get("/ui/me"), 200, "bea")
	leads(t, adam.post("/ui/people/bea/end-session", "id", session, "reason", "x"), "/ui/people/bea")
	leads(t, bea.get("/ui/me"), "/login?next=%2Fui%2Fme")
	want(t, adam.get("/ui/people/nobody"), 404, "NOT_FOUND")
	leads(t, bea.post("/login", "name", "bea", "password", password), "/")
	leads(t, adam.post("/ui/people/bea/disable", "reason", "gone"), "/ui/people/bea")
	leads(t, bea.get("/ui/me"), "/login?next=%2Fui%2Fme")
	want(t, bea.post("/login", "name", "bea", "password", password), 403, "不正确")
	second := d.stranger()
	leads(t, second.post("/login", "name", "adam", "password", password), "/")
	leads(t, second.post("/ui/me/sessions/end"), "/ui/me")
	leads(t, adam.get("/ui/me"), "/login?next=%2Fui%2Fme")
	id := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`)
	leads(t, adam.post("/login", "name", "adam", "password", password), "/")
	leads(t, second.post("/ui/me/sessions/end", "id", id.FindStringSubmatch(second.get("/ui/me").Body.String())[1]),
		"/ui/me")
	leads(t, adam.get("/ui/me"), "/login?next=%2Fui%2Fme")
}

// A secret that a page makes is shown once, works, and stops when it is revoked; nobody revokes another's by somebody's
// page.
func TestSecretsOfPeopleAndShops(t *testing.T) {
	d := newDesk(t)
	adam := d.browser(t, "adam", Admin)
	d.browser(t, "bea", Viewer)
	secret := func(w *httptest.ResponseRecorder) string {
		t.Helper()
		m := regexp.MustCompile(`<code data-id>([\w-]{40,})</code>`).FindStringSubmatch(mainOf(w))
		if w.Code != 200 || m == nil || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		return m[1]
	}
	want(t, adam.post("/ui/people/bea/tokens", "label", "a b", "reason", "x"), 422, said("said.label"))
	want(t, adam.post("/ui/people/nobody/tokens", "reason", "x"), 404, "NOT_FOUND")
	token := secret(adam.post("/ui/people/bea/tokens", "label", "laptop", "reason", "x"))
	auth := []string{"Authorization", "Bearer " + token}
	want(t, d.ask("", "GET", "/admin/v1/skus", "", auth...), 200, "data")
	page := adam.get("/ui/people/bea").Body.String()
	if !strings.Contains(page, "bea:laptop") || strings.Contains(page, token) {
		t.Error("the list has the secret, or not the token")
	}
	want(t, adam.post("/ui/people/adam/tokens/revoke", "token", "bea:laptop", "reason", "x"), 404, "NOT_FOUND")
	want(t, adam.post("/ui/people/bea/tokens/revoke", "token", "bea:laptop"), 422, said("said.reason", 200))
	want(t, d.ask("", "GET", "/admin/v1/skus", "", auth...), 200, "data")
	leads(t, adam.post("/ui/people/bea/tokens/revoke", "token", "bea:laptop", "reason", "x"), "/ui/people/bea")
	want(t, d.ask("", "GET", "/admin/v1/skus", "", auth...), 401, "UNAUTHENTICATED")

	want(t, adam.post("/ui/shop-keys", "shop", "web", "reason", "x"), 422, said("said.shop"))
	want(t, adam.post("/ui/shop-keys", "shop", "web", "scope_read", "1"), 422, said("said.reason", 200))
	want(t, adam.post("/ui/shop-keys", "shop", "web", "scope_all", "1", "reason", "x"), 400, "MALFORMED_REQUEST")
	key := secret(adam.post("/ui/shop-keys", "shop", "web", "scope_read", "1", "scope_stock", "1", "reason", "x"))
	if k, err := d.keys.Who(t.Context(), key); err != nil || k == nil || len(k.Scopes) != 2 || k.CreatedBy != "adam" {
		t.Errorf("%+v %v", k, err)
	}
	secret(adam.post("/ui/shop-keys", "shop", "web", "scope_read", "1", "reason", "x"))
	want(t, adam.post("/ui/shop-keys", "shop", "web", "scope_read", "1", "reason", "x"), 422, said("said.twokeys"))
	want(t, adam.get("/ui/people"), 200, "web/1")
	want(t, adam.post("/ui/shop-keys/revoke", "key", "web/1", "reason", ""), 422, said("said.reason", 200))
	leads(t, adam.post("/ui/shop-keys/revoke", "key", "web/1", "reason", "x"), "/ui/people")
	want(t, adam.post("/ui/shop-keys/revoke", "key", "web/1", "reason", "x"), 404, "NOT_FOUND")
	if k, err := d.keys.Who(t.Context(), key); err != nil || k != nil {
		t.Errorf("%+v %v", k, err)
	}
}

// Where one-time codes are required, whoever decides about money does nothing before they are on; and they are asked
// for from then on.
func TestOneTimeCodes(t *testing.T) {
	d := newDesk(t)
	adam, vera := d.browser(t, "adam", Admin), d.browser(t, "vera", Viewer)
	o := Options{Orders: d.Service, Stock: d.Admin, Refunds: d.Service, Reconciler: d.books, Failures: d.failures,
		TokenStore: d.tokens, Tokens: deskTokens(), Metrics: NewMetrics(), Ready: NewReadiness(d.Clock.Now),
		Now: d.Clock.Now, Logins: d.logins, RequireTOTP: true}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d.Handler = described(t, e)
	want(t, vera.get("/"), 200, "")
	leads(t, adam.get("/"), "/ui/me/totp")
	adam.headers["Accept"] = "*/*"
	want(t, adam.get("/admin/v1/orders"), 401, "UNAUTHENTICATED")
	want(t, adam.post("/ui/people/vera/disable", "reason", "x"), 401, "UNAUTHENTICATED")
	want(t, adam.get("/ui/me/totp"), 200, "必须启用")
	w := adam.post("/ui/me/totp")
	want(t, w, 200, "<svg")
	secret := shownKey.FindStringSubmatch(w.Body.String())[1]
	want(t, w, 200, "otpauth://totp/orderd:adam?issuer=orderd&amp;secret="+secret)
	w = adam.post("/ui/me/totp/confirm", "code", "000000")
	want(t, w, 403, "不正确")
	want(t, w, 403, "<svg") // whoever mistyped it has the picture still, and the same key
	want(t, w, 403, "secret="+secret)
	leads(t, adam.post("/ui/me/totp/confirm", "code", codeAt(t, secret, d.Clock.Now())), "/ui/me")
	want(t, adam.get("/"), 200, "<h1>需要处理</h1>")
	want(t, adam.post("/ui/me/totp/off"), 403, "FORBIDDEN")
	b := d.stranger()
	want(t, b.post("/login", "name", "adam", "password", password), 403, "不正确")
	d.Clock.Advance(time.Minute)
	leads(t, b.post("/login", "name", "adam", "password", password, "code", codeAt(t, secret, d.Clock.Now())), "/")
	want(t, d.stranger().post("/login", "name", "adam", "password", password, "code",
		codeAt(t, secret, d.Clock.Now())), 403, "不正确")
	secret = shownKey.FindStringSubmatch(vera.post("/ui/me/totp").Body.String())[1]
	d.Clock.Advance(operators.ProvedFor)
	w = vera.post("/ui/me/totp/confirm", "code", "000000")
	want(t, w, 403, "不正确") // a session whose password was not given a moment ago is shown no key
	if strings.Contains(w.Body.String(), secret) || strings.Contains(vera.get("/ui/me/totp").Body.String(), secret) {
		t.Error("the key is shown without the password")
	}
}

// Two tabs that send the first link at one moment make one admin.
func TestSetupOnceUnderConcurrency(t *testing.T) {
	d := newDesk(t)
	link, err := d.logins.FirstLink(t.Context(), "cli:root")
	if err != nil {
		t.Fatal(err)
	}
	codes := make([]int, 8)
	var all sync.WaitGroup
	for i := range codes {
		all.Go(func() {
			codes[i] = d.stranger().post("/setup", "t", link, "name", "admin"+string(rune('a'+i)), "password", password,
				"again", password).Code
		})
	}
	all.Wait()
	in := 0
	for _, code := range codes {
		if code == http.StatusSeeOther {
			in++
		} else if code != http.StatusNotFound {
			t.Errorf("%d", code)
		}
	}
	if people, err := d.logins.People(t.Context()); err != nil || len(people) != 1 || in != 1 {
		t.Errorf("%d were let in: %+v %v", in, people, err)
	}
}

// No password, code, link or cookie is in the log, a metric or the answer to somebody else, whatever goes wrong.
func TestLoginsSecretsAreNotLogged(t *testing.T) {
	var log strings.Builder
	f := ordertest.New(t, sqldbtest.SQLite(t))
	d := newDeskOf(t, f, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	link, err := d.logins.FirstLink(t.Context(), "cli:root")
	if err != nil {
		t.Fatal(err)
	}
	set := canary.New(nil)
	const lost, fresh = "canary wrong password", "canary fresh password"
	var said strings.Builder
	adam := d.stranger()
	for _, s := range [][2]string{{"link", link}, {"password", password}, {"wrong password", lost}, {"new", fresh}} {
		set.Add(s[0], s[1])
	}
	post := func(path string, form ...string) *httptest.ResponseRecorder {
		w := adam.post(path, form...)
		said.WriteString(w.Body.String()) // the cookie has its header
		return w
	}
	leads(t, post("/setup", "t", link, "name", "adam", "password", password, "again", password), "/")
	set.Add("session", adam.cookies[sessionCookie])
	post("/login", "name", lost, "password", lost, "code", lost)
	post("/login", "name", "adam", "password", password, "password", lost)
	post("/login", "name", "adam", "passwort", lost)
	post("/login", "name", "adam", "password", lost+"%zz;")
	adam.get("/setup?t=" + link)
	adam.get("/setup?u=" + link)
	post("/ui/people", "name", lost, "role", lost, "reason", "x")
	d.Clock.Advance(operators.ProvedFor)
	post("/ui/people/adam/link", "reason", "x", provePassword, lost)
	post("/ui/me/password", "old", lost, "password", fresh, "again", lost)
	post("/ui/me/password", "old", password, "password", fresh, "again", fresh)
	set.Add("another session", adam.cookies[sessionCookie])
	w := adam.post("/ui/me/totp")
	set.Add("TOTP", shownKey.FindStringSubmatch(w.Body.String())[1])
	adam.post("/ui/me/totp/confirm", "code", "x") // the page of a wrong code has the key still
	rename := func(from, to string) {             // a database that refuses
		t.Helper()
		if _, err := d.DB.Pool().ExecContext(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to); err != nil {
			t.Fatal(err)
		}
	}
	rename("operator_passwords", "away")
	post("/login", "name", "adam", "password", fresh)
	post("/setup", "t", link, "password", fresh, "again", fresh)
	post("/ui/me/totp")
	rename("away", "operator_passwords")
	said.WriteString(d.ask("", "GET", "/metrics", "").Body.String())
	if !strings.Contains(log.String(), "login refused") || !strings.Contains(log.String(), "err=") {
		t.Errorf("too little was said: %s", log.String())
	}
	if found := set.Find([]byte(log.String())); len(found) > 0 {
		t.Errorf("the log has %v:\n%s", found, log.String())
	}
	if found := set.Find([]byte(said.String())); len(found) > 0 {
		t.Errorf("answers have %v", found)
	}
}

// A link to the console must not lead elsewhere after the login.
func TestNextIsAPageOfTheConsole(t *testing.T) {
	for _, evil := range []string{"", "//evil.example/", "https://evil.example/", "/\\evil.example", "\\\\evil.example",
		"/login", "/admin/v1/orders", "javascript:alert(1)", "/ui", "//evil.example/ui/", "/ui/\r\nX: y", "http:/ui/x",
		"evil.example/ui/", "/%zz"} {
		if got := nextPage(evil); got != "/" {
			t.Errorf("%q leads to %q", evil, got)
		}
	}
	for _, page := range []string{"/", "/ui/refunds", "/ui/orders/01JD?x=1"} {
		if got := nextPage(page); got != page {
			t.Errorf("%q leads to %q", page, got)
		}
	}
	for back, to := range map[string]string{"/login?next=%2Fui%2Fme": "/login?next=%2Fui%2Fme",
		"/setup?t=x": "/setup?t=x",
		"/logout":    "/", "//evil.example/login": "/", "/admin/v1/tokens": "/", "https://evil.example/login": "/"} {
		if got := backPage(back); got != to {
			t.Errorf("%q leads back to %q", back, got)
		}
	}
}

// codeAt is what a telephone shows (RFC 6238).
func codeAt(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, at.Unix()/30)
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

// Rows that somebody takes off the end of the trail are missed by the log alone: a login that is no line of it can be
// made never to have been.
func TestEveryLoginIsALineOfTheLog(t *testing.T) {
	var log strings.Builder
	d := newDeskOf(t, ordertest.New(t, sqldbtest.SQLite(t)), slog.New(slog.NewTextHandler(&log, nil)))
	d.browser(t, "anna", Finance) // by a link
	for _, f := range [][]string{{"anna", "wrong " + password}, {"nobody-here", password}, {"anna", password}} {
		d.stranger().post("/login", "name", f[0], "password", f[1])
	}
	var actions []string
	err := trail.New(d.DB, d.Clock.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		actions = append(actions, e.Action+" "+e.Actor+" "+e.Outcome)
		if !strings.Contains(log.String(), "msg=trail seq="+fmt.Sprint(e.Seq)+" action="+e.Action+" ") ||
			!strings.Contains(log.String(), "sha256="+e.SHA256) {
			t.Errorf("the log has no line of row %d, %s of %s", e.Seq, e.Action, e.Actor)
		}
		return nil
	})
	expected := []string{"link.use anna done", "login.begin anna refused", "login.begin unknown refused",
		"login.begin anna done"}
	if err != nil || !slices.Equal(actions, expected) {
		t.Errorf("%q, %v", actions, err)
	}
	if strings.Contains(log.String(), password) || strings.Contains(log.String(), "nobody-here") {
		t.Error("the log has a password, or a name that may be one")
	}
}
