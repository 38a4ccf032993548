package console

import (
	"html"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template/parse"
	"time"

	"orderd/order"
	"orderd/order/shops"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/stock"
)

// templates gives the text of every template file.
func templates(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := fs.Glob(uiFiles, "ui/templates/*.html")
	if err != nil || len(names) != len(pageNames)+2 {
		t.Fatalf("%d templates for %d pages: %v", len(names), len(pageNames), err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(uiFiles, name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	return all
}

// inline are what a policy without 'unsafe-inline' does not run: a page with one of them is half a page.
var inline = regexp.MustCompile(`(?i)\sstyle\s*=|<style|<script(?:\s[^>]*)?>[^<]|<script(?:\s+(?:defer|async))*\s*>|` +
	`\son[a-z]+\s*=|javascript:`)

// A style, a script or a handler in a page needs a policy that lets an attacker's run too.
func TestTemplatesHaveNothingInline(t *testing.T) {
	for _, bad := range []string{`<p style="x">`, `<style>`, `<script>x</script>`, `<script defer>`, `<a onclick="x">`,
		`<script src="a">x</script>`, `<a href="javascript:x">`} {
		if !inline.MatchString(bad) {
			t.Errorf("%s is not found", bad)
		}
	}
	for name, text := range templates(t) {
		if found := inline.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
	for _, word := range []string{"unsafe", "http", "*"} {
		if strings.Contains(strictCSP, word) {
			t.Errorf("the policy has %s", word)
		}
	}
}

// What every page loads is small, has its sum in its name, and is kept for good; whoever has not said who they are
// has it too.
func TestAssets(t *testing.T) {
	d := newDesk(t)
	for name, most := range map[string]int{"console.css": 12_000, "console.js": 10_000} {
		a := assets[name]
		if n := len(a.body); n == 0 || n > most {
			t.Errorf("%s has %d bytes of at most %d", name, n, most)
		}
		if !regexp.MustCompile(`^/static/console\.[0-9a-f]{8}\.(css|js)$`).MatchString(a.path) {
			t.Errorf("%s is at %s", name, a.path)
		}
		w := d.ask("", "GET", a.path, "")
		want(t, w, 200, string(a.body[:20]))
		for header, value := range map[string]string{"Cache-Control": "public, max-age=31536000, immutable",
			"X-Content-Type-Options": "nosniff", "Content-Type": a.media} {
			if got := w.Header().Get(header); got != value {
				t.Errorf("%s: %s is %q", name, header, got)
			}
		}
		if page := d.ask(Viewer, "GET", "/", "").Body.String(); !strings.Contains(page, a.path) {
			t.Errorf("a page does not load %s", name)
		}
	}
	if len(assets) != 2 {
		t.Errorf("%d files", len(assets))
	}
	for _, path := range []string{"/static/console.css", "/static/console.00000000.css", "/static/..%2fui.go",
		"/static/%2e%2e%2ftemplates%2flayout.html"} {
		want(t, d.ask("", "GET", path, ""), 404, "NOT_FOUND")
	}
}

// visible removes what of a template nobody reads: marks, attributes, what is for a machine.
var visible = []*regexp.Regexp{regexp.MustCompile(`(?s)<(code|pre|kbd)[^>]*>.*?</(code|pre|kbd)>`),
	regexp.MustCompile(`(?s)<!--.*?-->`)}

// spoken are attributes that are read to people.
var spoken = regexp.MustCompile(
	`\s(title|placeholder|aria-label|alt|data-l|data-copy|data-copied)="((?:{{.*?}}|[^"])*)"`)

var (
	anyTag    = regexp.MustCompile(`<[^>]*>`)
	anyAction = regexp.MustCompile(`(?s){{.*?}}`)
	letters   = regexp.MustCompile(`\p{L}+`)
)

// A text that stands in a template has one language.
func TestEveryTextIsInTheTable(t *testing.T) {
	allowed := []string{"orderd", "CSV", "XLSX", "SHA", "ms"}
	for name, text := range templates(t) {
		for _, m := range spoken.FindAllStringSubmatch(text, -1) {
			if rest := anyAction.ReplaceAllString(m[2], ""); letters.MatchString(rest) {
				t.Errorf("%s: %s says %q", name, m[1], rest)
			}
		}
		for _, r := range visible {
			text = r.ReplaceAllString(text, "")
		}
		text = anyTag.ReplaceAllString(anyAction.ReplaceAllString(text, ""), " ")
		for _, word := range letters.FindAllString(text, -1) {
			if !slices.Contains(allowed, word) {
				t.Errorf("%s has the text %q", name, word)
			}
		}
	}
}

// keys gives the words that a template asks for by their names, and the beginnings of those it makes.
func keys(n parse.Node, names, begins map[string]bool) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, inner := range n.Nodes {
				keys(inner, names, begins)
			}
		}
	case *parse.ActionNode:
		keys(n.Pipe, names, begins)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			keys(n.Pipe, names, begins)
		}
	case *parse.PipeNode:
		for _, cmd := range n.Cmds {
			keys(cmd, names, begins)
		}
	case *parse.CommandNode:
		if id, ok := n.Args[0].(*parse.IdentifierNode); ok && len(n.Args) > 1 {
			text, isText := n.Args[1].(*parse.StringNode)
			switch {
			case isText && id.Ident == "t":
				names[text.Text] = true
			case isText && id.Ident == "print":
				begins[text.Text] = true
			case isText && id.Ident == "look":
				begins["st."+text.Text+"."] = true
			}
		}
		for _, arg := range n.Args {
			keys(arg, names, begins)
		}
	case *parse.IfNode:
		keys(n.Pipe, names, begins)
		keys(n.List, names, begins)
		keys(n.ElseList, names, begins)
	case *parse.RangeNode:
		keys(n.Pipe, names, begins)
		keys(n.List, names, begins)
		keys(n.ElseList, names, begins)
	case *parse.WithNode:
		keys(n.Pipe, names, begins)
		keys(n.List, names, begins)
		keys(n.ElseList, names, begins)
	}
}

// values are those of a beginning that things can have.
func values() map[string][]string {
	v := map[string][]string{
		"status.": {"400", "401", "403", "404", "405", "409", "412", "413", "415", "422", "428", "429", "500",
			"502", "503"},
		"source.": {"", string(reconcile.SourceWeChat), string(reconcile.SourceFile)}, "origin.": {"hand", "auto"},
		"flow.": {string(stock.KindDeduct), string(stock.KindReturn), string(stock.KindInitial),
			string(stock.KindReplenish), string(stock.KindAdjust)},
		"light.": {"database", "redis", "wechat", "workers"}, "st.light.": {"pass", "ok", "warn", "fail", "unknown"},
		"st.sent.": {"waiting", "failing", "delivered", "given_up"},
		"cb.is.": {"applied", "owed", "held", "repeated", "probe", "unsigned", "unknown_key", "v2_refund", "echo",
			"malformed", "too_large", "failed", "other"},
		"cb.by.":     {"notification", "query", "bill"},
		"st.import.": {"new", "change", "same", "before"}, "stockmode.": {"set", "add"},
		"st.sku.": {"ok", "low", "out", "unlimited"},
		"settled.": {string(order.SettledApplied), string(order.SettledOwed), string(order.SettledHeld),
			string(order.SettledRepeated), string(order.SettledWrittenOff)},
		"reason.": {order.ReasonAftersale, order.ReasonLate, order.ReasonDuplicate, order.ReasonHeld},
		"hit.": {string(order.HitOrder), string(order.HitAttempt), string(order.HitPayment), string(order.HitRefund),
			string(order.HitReference),
			string(order.HitAttach), string(order.HitCustomer), string(order.HitSKU)},
		"st.attempt.": {string(order.AttemptCalling), string(order.AttemptLive), string(order.AttemptRefused),
			string(order.AttemptClosed)},
		"st.day.": {"new", "running", "waiting", "failed", "done"}, "st.task.": {"dead", "failing"},
		"st.hook.": {"on", "disabled", "failing"}, "st.person.": {"active", "disabled"},
		"st.ended.": {"done", "refused", "failed"},
		"none.":     {"held", "refunds", "tasks", "orders", "gates", "diffs", "ship", "hooks"},
		// What timelines have: what brought an event, and what is beside it; and what WeChat Pay's bills say.
		"cause.": {"request", "notification", "query", "task", "answer", "sweep", "line", "bill", "bulk"},
		"d.": {"out_trade_no", "transaction_id", "transaction", "out_refund_no", "replaces", "trade_type",
			"reason", "note", "total", "refund", "items", "restock", "approvals", "reference", "error",
			"problem", "answer", "check", "close", "close_request", "close_status", "query", "query_request",
			"payable_until", "held", "held_back", "held_written_off", "written_off", "vouched_by",
			"without_answer_since", "wechat", "with", "to", "line"},
		"bill.":       {"SUCCESS", "REFUND", "REVOKED", "PROCESSING", "CHANGE", "CLOSED"},
		"heldwhy.":    {"mchid", "appid", "unknown_order", "currency", "amount"},
		"st.bulk.":    {"running", "stopped", "done"},
		"bulk.note.":  {"running", "stopped", "done"},
		"st.bulkrow.": {"waiting", "doing", "done", "changed", "failed"},
	}
	for _, a := range (&console{}).formActs() {
		v["act."] = append(v["act."], a.name, a.name+".what", a.name+".done")
		for _, of := range a.outcomes {
			v["act."] = append(v["act."], a.name+"."+of+".done")
		}
		if a.waits {
			v["act."] = append(v["act."], a.name+".accepted")
		}
		for _, f := range a.fields {
			if f.kind != asHidden {
				v["field."] = append(v["field."], f.name)
			}
		}
	}
	for i := range len(order.RefundAges) + 1 {
		v["ages."] = append(v["ages."], strconv.Itoa(i))
	}
	v["ages."] = append(v["ages."], "approval", "wechat", "person")
	v["act."] = append(append(v["act."], Actions()...), "books.repair", "held.adopt") // and of the shell alone
	v["resolution."] = append(reconcile.Resolutions(), "", "payment", "writtenoff")
	v["status.todo."] = v["status."]
	for _, r := range operators.Roles() {
		v["role."], v["role.may."] = append(v["role."], string(r)), append(v["role.may."], string(r))
	}
	for _, s := range shops.Scopes() {
		v["scope."] = append(v["scope."], string(s))
	}
	for _, a := range order.ActorTypes() {
		v["actor."] = append(v["actor."], string(a))
	}
	for _, s := range order.States() {
		v["st.order."] = append(v["st.order."], string(s))
	}
	for _, s := range order.RefundStates() {
		v["st.refund."] = append(v["st.refund."], string(s))
	}
	for _, s := range order.CloseReasons() {
		v["close."] = append(v["close."], string(s))
	}
	for _, k := range reconcile.Kinds() {
		v["kind."] = append(v["kind."], string(k))
	}
	v["kindwhat."] = v["kind."]
	for _, a := range reconcile.Actions() {
		v["does."] = append(v["does."], string(a))
	}
	v["refusal."] = append([]string{refusalOther}, refusals...)
	for _, l := range reconcile.Lacks() {
		v["lack."] = append(v["lack."], string(l))
	}
	v["doeswhat."], v["note."] = v["does."], []string{reconcile.NoteComment, reconcile.NoteAssign, reconcile.NoteAct,
		"row"}
	for _, o := range reconcile.Outcomes() {
		v["outcome."], v["st.outcome."] = append(v["outcome."], string(o)), append(v["st.outcome."], string(o))
	}
	v["st.cal."] = []string{"CLOSED", "REOPENED"}
	for _, s := range reconcile.DayStates() {
		v["st.cal."] = append(v["st.cal."], string(s))
	}
	for _, s := range reconcile.Statuses() {
		v["st.diff."] = append(v["st.diff."], string(s))
	}
	for _, s := range []shipping.State{shipping.StateOwed, shipping.StateDue, shipping.StateReported,
		shipping.StateRefused, shipping.StateVoid} {
		v["st.ship."] = append(v["st.ship."], strings.ToUpper(string(s)))
	}
	return v
}

// A page that is short of a word shows its key to somebody who has to decide about money.
func TestNoWordIsMissing(t *testing.T) {
	names, begins := map[string]bool{}, map[string]bool{}
	for _, name := range pageNames {
		names["title."+name] = true
		for _, tree := range pages[zh][name].Templates() {
			if tree.Tree != nil {
				keys(tree.Tree.Root, names, begins)
			}
		}
	}
	all := values()
	begins["actor."] = true
	for begin := range begins {
		if len(all[begin]) == 0 {
			t.Errorf("nobody says what values %q has", begin)
		}
		for _, value := range all[begin] {
			names[begin+value] = true
		}
	}
	source, err := filepath.Glob("*.go") // words that the code names
	if err != nil || len(names) < 200 {
		t.Fatalf("%d words, %v", len(names), err)
	}
	named := regexp.MustCompile(`"((?:need|nav|story|todo|side|bridge|said|off|card|line|mode|way|[cf]|units|due|cb|` +
		`today|run|limit)\.[a-z.]+)"`)
	for _, file := range source {
		if strings.HasSuffix(file, "_test.go") || file == "words.go" {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(read(t, file), -1) {
			names[m[1]] = true
		}
	}
	for _, r := range append(order.CloseReasons(), "") {
		names["story.closed."+string(r)] = true
	}
	for _, s := range []order.State{order.StatePaid, order.StateRefunding, order.StateRefunded, order.StateLate} {
		names["story."+string(s)] = true
	}
	delete(names, "story.closed")
	for name := range names {
		w, known := words[name]
		if !known || name != "source." && (w[zh] == "" || w[en] == "") {
			t.Errorf("%q: %q", name, w)
		}
	}
	for name, w := range words {
		if strings.Count(w[zh], "%") != strings.Count(w[en], "%") {
			t.Errorf("%q has other values in the other language", name)
		}
		if begin := name[:strings.LastIndex(name, ".")+1]; !names[name] && !strings.HasPrefix(name, "event.") &&
			!strings.HasPrefix(name, "actor.") && len(all[begin]) == 0 {
			t.Errorf("%q is a word of nothing", name)
		}
	}
}

// A state that is a colour alone is nothing to whoever does not see it, and one that has no row is a grey word.
func TestEveryStateHasWordShapeAndColour(t *testing.T) {
	for begin, states := range values() {
		kind, ok := strings.CutPrefix(begin, "st.")
		if !ok {
			continue
		}
		for _, s := range states {
			for _, l := range langs {
				look := l.look(strings.TrimSuffix(kind, "."), s)
				if look.Word == "" || look.Shape == "" || look.Shape == "◇" || look.Class == "" {
					t.Errorf("%s%s: %+v", kind, s, look)
				}
				if css := string(assets["console.css"].body); !strings.Contains(css, "."+look.Class+"{color:var(--") {
					t.Errorf("the colour %s of %s%s is not in the stylesheet", look.Class, kind, s)
				}
			}
		}
	}
}

// An event that has happened to some order of these tests and has no words is a code on the page.
func TestEventsHaveWords(t *testing.T) {
	for _, name := range []string{"order.placed", "close.requested", "close.accepted", "prepay.opened",
		"payment.applied", "payment.late", "refund.requested", "refund.approved", "refund.sent", "refund.accepted",
		"refund.succeeded"} {
		for _, l := range langs {
			if l.event(name) == name {
				t.Errorf("%s has no words", name)
			}
		}
	}
}

// Money is never a float, and nobody counts zeros.
func TestYuanIsWritten(t *testing.T) {
	for f, text := range map[payment.Fen]string{0: "¥0.00", 5: "¥0.05", 99_999: "¥999.99", 100_000: "¥1,000.00",
		123_456_789: "¥1,234,567.89", -100_001: "−¥1,000.01", -9223372036854775808: "−¥92,233,720,368,547,758.08",
		9223372036854775807: "¥92,233,720,368,547,758.07"} {
		if got := yuan(f); got != text {
			t.Errorf("%d: %s, want %s", f, got, text)
		}
	}
	for fees, text := range map[string]string{"20056.932": "¥20,056.932", "-0.89406": "−¥0.89406", "1200": "¥1,200"} {
		if got := decimals(fees); got != text {
			t.Errorf("%s is shown as %s, want %s", fees, got, text)
		}
	}
	for id, text := range map[string]string{"": "–", "short": "••••", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o": "o••••6o"} {
		if got := mask(id); got != text {
			t.Errorf("%q is shown as %q", id, got)
		}
	}
	at := time.Date(2026, 11, 28, 20, 6, 30, 5e6, time.UTC)
	if got := zoned(at); got != "2026-11-29 04:06:30.005 +08:00 = 2026-11-28 20:06:30.005Z" {
		t.Error(got)
	}
}

// The language is the browser's, until somebody chooses; and the choice leads back to where it was made, and nowhere
// else.
func TestLanguageIsChosen(t *testing.T) {
	d := newDesk(t)
	for _, tt := range []struct{ header, cookie, lang, says string }{
		{"", "", "zh-CN", "需要处理"}, {"en-US,en;q=0.9", "", "en", "What needs a person"},
		{"de", "", "zh-CN", "需要处理"}, {"en", "zh", "zh-CN", "需要处理"}, {"zh-CN", "en", "en", "What needs a person"},
		{"en", "xx", "en", "What needs a person"},
	} {
		w := d.ask(Viewer, "GET", "/", "", "Accept-Language", tt.header, "Cookie", languageCookie+"="+tt.cookie)
		want(t, w, 200, `<html lang="`+tt.lang+`">`)
		want(t, w, 200, "<h1>"+tt.says+"</h1>")
		if w.Header().Get("Content-Language") == "" {
			t.Error("no Content-Language")
		}
	}
	for back, to := range map[string]string{"/ui/orders?state=paid": "/ui/orders?state=paid", "": "/",
		"//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "/\tx": "/", "/a b": "/",
		"evil": "/"} {
		w := d.ask("", "POST", "/ui/language", url.Values{"to": {"en"}, "back": {back}}.Encode(),
			"Content-Type", "application/x-www-form-urlencoded")
		cookies := w.Result().Cookies()
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != to || len(cookies) != 1 ||
			cookies[0].Value != "en" || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode {
			t.Errorf("back to %q: %d %v", back, w.Code, w.Header())
		}
	}
}

// browse asks as a browser does.
func (d *desk) browse(role Role, path string, headers ...string) *httptest.ResponseRecorder {
	const accept = "text/html,application/xhtml+xml,*/*;q=0.8"
	return d.ask(role, "GET", path, "", append([]string{"Accept", accept}, headers...)...)
}

// An error is no dead end: a browser gets a page with what to do, its code and the number of the request; a program
// gets what it always got.
func TestErrorsArePages(t *testing.T) {
	d := newDesk(t)
	for _, tt := range []struct {
		role   Role
		path   string
		status int
		code   string
		says   string
	}{
		{Viewer, "/ui/orders/01NONE", 404, "ORDER_NOT_FOUND", "请检查编号是否完整"},
		{Viewer, "/none", 404, "NOT_FOUND", "请检查编号是否完整"},
		{Viewer, "/ui/reconciliations", 403, "FORBIDDEN", "请由有权限的同事操作"},
		{Viewer, "/ui/orders?sku_id=a", 422, "VALIDATION_FAILED", "?sku_id"},
		{Viewer, "/ui/orders?yuan_min=x", 422, "VALIDATION_FAILED", "?yuan_min"},
	} {
		w := d.browse(tt.role, tt.path)
		want(t, w, tt.status, tt.says)
		body := html.UnescapeString(w.Body.String())
		for _, text := range []string{"<code>" + tt.code + "</code>", w.Header().Get("X-Request-Id"), `href="/"`,
			"<main"} {
			if !strings.Contains(body, text) {
				t.Errorf("%s has no %q: %s", tt.path, text, body)
			}
		}
		h := w.Header()
		if !strings.HasPrefix(h.Get("Content-Type"), "text/html") || h.Get("Content-Security-Policy") != strictCSP ||
			h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", tt.path, h)
		}
		want(t, d.ask(tt.role, "GET", tt.path, ""), tt.status, `"code":"`+tt.code+`"`)
	}
	if w := d.browse("", "/ui/orders"); w.Code != http.StatusSeeOther ||
		!strings.HasPrefix(w.Header().Get("Location"), "/login") {
		t.Errorf("whoever is not signed in: %d %v", w.Code, w.Header())
	}
	want(t, d.browser(t, "anna", Viewer).send("GET", "/", nil), 200, `href="/ui/me">anna</a>`)
	w := d.browse(Viewer, "/ui/orders/01NONE", "Accept-Language", "en")
	want(t, w, 404, "See whether the number is whole")
}

// The menu has what a role may open, and says where one is.
func TestMenuIsOfTheRole(t *testing.T) {
	d := newDesk(t)
	for role, has := range map[Role][2]bool{Viewer: {false, false}, Operator: {false, false}, Finance: {true, false},
		Admin: {true, true}} {
		page := d.ask(role, "GET", "/ui/orders", "").Body.String()
		for i, path := range []string{"/ui/reconciliations", "/ui/webhooks"} {
			if strings.Contains(page, `<a href="`+path+`"`) != has[i] {
				t.Errorf("%s and %s", role, path)
			}
		}
		if strings.Count(page, `aria-current="page"`) != 1 {
			t.Errorf("%s: %s", role, page)
		}
	}
}
