package console

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"orderd/order"
	"orderd/payment"
)

// alarmTexts gives the texts of all alarms of the program by their places: the first literal of what is handed to
// alarm, raise, or appended to alarms, and what the two tables of states raise.
func alarmTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.Contains(path, "/cmd/orderload/") || strings.Contains(path, "/console/") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, arg := range alarmed(call) {
				if text := firstText(arg); text != "" {
					if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "freshActed" { // which adds the rest
						text += " by two of whom one has an account or token of less than a day"
					}
					texts[set.Position(call.Pos()).String()] = text
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range order.States() {
		for _, e := range order.Events() {
			if c := order.Next(s, e); c.Verdict == order.VerdictAlarm {
				texts[string(s)+" "+string(e)] = c.Why
			}
		}
	}
	for _, s := range order.RefundStates() {
		for _, e := range order.RefundEvents() {
			if c := order.NextRefund(s, e); c.Verdict == order.VerdictAlarm {
				texts["refund "+string(s)+" "+string(e)] = c.Why
			}
		}
	}
	return texts
}

// alarmed gives the arguments of a call that are the text of an alarm.
func alarmed(call *ast.CallExpr) []ast.Expr {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		if slices.Contains([]string{"alarm", "raise", "Alarm", "freshActed"}, f.Sel.Name) && len(call.Args) > 0 {
			return call.Args[:1]
		}
	case *ast.Ident:
		if f.Name != "append" {
			return nil
		}
		if to, ok := call.Args[0].(*ast.SelectorExpr); ok && to.Sel.Name == "alarms" {
			return call.Args[1:]
		}
	}
	return nil
}

// firstText gives the literal that an expression of text begins with, "" when it begins with something else.
func firstText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return firstText(e.X)
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	}
	return ""
}

// An alarm that is only one of many is looked at by nobody: each has a kind, by which somebody is woken.
func TestEveryAlarmHasAKind(t *testing.T) {
	texts := alarmTexts(t)
	if len(texts) < 40 {
		t.Fatalf("only %d alarms were found", len(texts))
	}
	texts["constant"] = "an order was closed by the word of an account or token of less than a day: "
	texts["elsewhere"] = "a payment was refunded elsewhere: "
	seen := map[string]bool{}
	for at, text := range texts {
		kind := alarmKind(text)
		seen[kind] = true
		if kind == other {
			t.Errorf("%s: the alarm %q has no kind: give it one in alarms.go", at, text)
		}
	}
	unseen := []string{"merchant", "signature"} // their texts are in variables
	for _, k := range alarmKinds {
		if !seen[k.kind] && !slices.Contains(unseen, k.kind) {
			t.Errorf("no alarm is of the kind %s", k.kind)
		}
	}
}

// increase() over a series that begins with its first event is 0 for that event: an alarm on the first violated
// invariant, the first held payment, the first dead task would come with the second.
func TestCountersBeginAtZero(t *testing.T) {
	m := NewMetrics()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, series := range []string{`orderd_alarms_total{kind="held"} 0`, `orderd_alarms_total{kind="other"} 0`,
		`orderd_invariant_violations_total{invariant="order.due"} 0`,
		`orderd_payments_settled_total{outcome="held",source="notification"} 0`,
		`orderd_notify_total{outcome="failed"} 0`, `orderd_scheduler_tasks_total{result="poison"} 0`,
		`orderd_wechat_signatures_total{on="answer",result="unknown_key"} 0`,
		`orderd_orders_transitions_total{actor="wechat",from="closed",to="late"} 0`,
		`orderd_orders_transitions_total{actor="customer",from="new",to="pending"} 0`,
		`orderd_gate_decisions_total{code="taken",mode="redis"} 0`} {
		if !strings.Contains(w.Body.String(), "\n"+series+"\n") {
			t.Errorf("no %s", series)
		}
	}
	if n := strings.Count(w.Body.String(), "\norderd_"); n > 700 {
		t.Errorf("%d series of a process that has done nothing", n)
	}
	if strings.Contains(w.Body.String(), `from="closed",to="pending"`) {
		t.Error("a move that cannot be has a series")
	}
}

// A selector with a value that no series has is silent for ever: the help of an alarm once named the outcome throttled,
// and the program says rate_limited.
func TestSelectorsNameValuesThatThereAre(t *testing.T) {
	d := newDesk(t)
	for _, kind := range []payment.Kind{payment.KindUnknown, payment.KindRateLimited, payment.KindMisconfigured} {
		d.metrics.WeChat("prepay", kind.String(), 0)
	}
	d.metrics.WeChat("prepay", "ok", 0)
	for _, result := range []string{"answered", "unanswered", "unreachable", "failed"} { // hosts.go of package wechat
		d.metrics.Tried("host", result)
	}
	d.metrics.Request("/v1/orders", "POST", 503, 0)
	text := d.ask("", "GET", "/metrics", "").Body.String()
	files, err := filepath.Glob("../deploy/*/orderd*.[yj]*")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	seen := 0
	for _, file := range append(files, "../../../docs/operations.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(file, ".test.") {
			continue // they make up series
		}
		selector := regexp.MustCompile(`(orderd_\w+)\{([a-z_]+)=~?\\?"([^"\\]*)\\?"`)
		for _, m := range selector.FindAllStringSubmatch(string(b), -1) {
			if strings.HasPrefix(m[1], "orderd_verify_") || m[2] == "instance" {
				continue // of a file, by the area of a check; and Prometheus' own
			}
			for value := range strings.SplitSeq(m[3], "|") {
				seen++
				series := regexp.MustCompile(m[1] + `(?:_count)?\{[^}]*` + m[2] + `="` + regexp.QuoteMeta(value) + `"`)
				if !series.MatchString(text) {
					t.Errorf("%s: no series %s has %s=%q", file, m[1], m[2], value)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d values are looked at", seen)
	}
}
