package wechat

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// answerSources names the sources of the rules by their call and first code, or their status without one: keys of the
// list at the end of docs/wechat.md. "ours" is a decision of ours that has none.
var answerSources = map[string]string{
	"any 401": "rules, captured-401", "any 429": "rules, staff-429", "any 100 unsigned": "rules, probes",
	"prepay 200": "prepay", "query 200": "query", "refund 200": "refund", "refund_query 200": "refund",
	"abnormal_refund 200": "abnormal", "bill 200": "bill", "echo 200": "echo", "close 204": "close, community-204",
	"any 202": "close-table",
	"any 100": "ours", "close ORDERPAID": "captured-paid, guide", "any USERPAYING": "close-table",
	"any FREQUENCYLIMITED": "close-table, staff-429", "any SYSTEMERROR": "close-table, refund",
	"prepay OPENIDMISMATCH": "close-table", "any 500": "rules", "close ORDERCLOSED": "close-table",
	"close ORDERNOTEXIST": "close-table", "query ORDERNOTEXIST": "query", "close TRADEERROR": "close-table",
	"refund_query RESOURCENOTEXISTS": "refund", "refund NOTENOUGH": "captured-notenough, refund",
	"bill NOSTATEMENTEXIST": "bill", "bill STATEMENTCREATING": "bill", "any NOAUTH": "captured-noauth, close-table",
	"prepay ORDERPAID": "prepay", "prepay ORDERCLOSED": "prepay", "prepay INVALIDREQUEST": "prepay, community-204",
	"prepay OUTTRADENOUSED": "prepay", "refund USERACCOUNTABNORMAL": "refund, refund-faq", "any ": "ours",
	"any 400": "ours",
}

// sourceOf is the last column of a rule in the table.
func sourceOf(r rule) string {
	op, what := r.op, strconv.Itoa(r.from)
	if op == "" {
		op = "any"
	}
	if r.codes != nil {
		what = r.codes[0]
	}
	if r.signing == unsigned {
		what += " unsigned"
	}
	return answerSources[op+" "+what]
}

var (
	sourceKeys  = regexp.MustCompile(`^[a-z0-9-]+(, [a-z0-9-]+)*$`)
	sourceLines = regexp.MustCompile(`(?m)^- \*\*([a-z0-9-]+)\*\*: \S`)
)

// What is believed of WeChat Pay has to be right by source, because it can hardly be tried: a line without one, or with
// one that nobody can find, is a guess that reads like a fact.
func TestEveryLineNamesItsSource(t *testing.T) {
	page, err := os.ReadFile("../../docs/wechat.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, m := range sourceLines.FindAllStringSubmatch(string(page), -1) {
		known = append(known, m[1])
	}
	used := map[string]bool{}
	check := func(where, keys string) {
		if !sourceKeys.MatchString(keys) {
			t.Errorf("no source: %s (%q)", where, keys)
			return
		}
		for _, key := range strings.Split(keys, ", ") {
			if used[key] = true; !slices.Contains(known, key) {
				t.Errorf("%q is in no list of sources: %s", key, where)
			}
		}
	}
	rows := 0
	body, list, found := strings.Cut(string(page), "\n## Sources\n")
	for _, section := range strings.Split(body, "\n## ") {
		title, text, _ := strings.Cut(section, "\n")
		lines := strings.Split(text, "\n")
		named := false
		for i, line := range lines {
			if keys, ok := strings.CutPrefix(line, "Sources: "); ok {
				named = true
				check(title, strings.TrimSuffix(keys, "."))
			}
			header := i+1 < len(lines) && strings.HasPrefix(lines[i+1], "| -")
			if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| -") || header {
				continue
			}
			cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
			rows++
			check(line, cells[len(cells)-1])
		}
		if !named {
			t.Errorf("the section %q names no sources", title)
		}
	}
	for _, key := range known {
		if !used[key] {
			t.Errorf("source %q is used by no line", key)
		}
	}
	if !found || list == "" || rows < 60 {
		t.Errorf("%d rows were read", rows)
	}
}
