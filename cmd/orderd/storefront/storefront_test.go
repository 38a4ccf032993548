package storefront

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// sources gives the texts of the package's files that end so, without tests.
func sources(t *testing.T, ext string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ext) || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // G122: of the tree
		all[path] = string(text)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	return all
}

// inline are what the policy does not run.
var inline = regexp.MustCompile(`(?i)\sstyle\s*=|<style|<script(?:\s[^>]*)?>[^<]|\son[a-z]+\s*=|javascript:`)

// A style, a script or an address of somebody else in a page needs a policy that lets an attacker's in too.
func TestPagesHaveNothingInlineAndNothingForeign(t *testing.T) {
	for _, bad := range []string{`<p style="x">`, `<style>`, `<script>x</script>`, `<a onclick="x">`} {
		if !inline.MatchString(bad) {
			t.Errorf("%s is not found", bad)
		}
	}
	for name, text := range sources(t, ".html") {
		if found := inline.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
		if foreign := strings.ReplaceAll(text, "http://{{.Console}}", ""); strings.Contains(foreign, "http:") ||
			strings.Contains(foreign, "https:") || strings.Contains(foreign, `"//`) {
			t.Errorf("%s names another host", name)
		}
	}
	for _, name := range []string{"shop.css", "shop.js"} {
		where, err := asset(name)
		body := statics[strings.TrimPrefix(where, "/static/")]
		if err != nil || len(body) == 0 || len(body) > 10_000 {
			t.Errorf("%s has %d bytes: %v", name, len(body), err)
		}
		if strings.Contains(string(body), "http") || strings.Contains(string(body), "url(") {
			t.Errorf("%s names another place", name)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
		t.Error(policy)
	}
}

// A text that is missing is seen as its name, by whoever meets the case.
func TestEveryWordIsThereInBothLanguages(t *testing.T) {
	han := regexp.MustCompile(`\p{Han}`)
	for key, w := range words {
		if w[zh] == "" || w[en] == "" {
			t.Errorf("%s: %q", key, w)
		}
		if han.MatchString(w[en]) && key != "lang.other" {
			t.Errorf("%s is Chinese in English: %q", key, w[en])
		}
		if !han.MatchString(w[zh]) && key != "lang.other" && key != "who.orderd" {
			t.Errorf("%s is not Chinese: %q", key, w[zh])
		}
		if a, b := strings.Count(w[zh], "%"), strings.Count(w[en], "%"); a != b {
			t.Errorf("%s has %d values in Chinese and %d in English", key, a, b)
		}
	}
	quoted := regexp.MustCompile(`"((?:step|verdict|no|phone|error|who|state|lane)\.[A-Za-z_.]+)"`)
	inPages := regexp.MustCompile(`\.T "([^"]+)"|\.Act "([^"]+)"`)
	found := 0
	for name, text := range sources(t, ".go") {
		if name == "words.go" {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if found++; strings.HasSuffix(m[1], ".") {
				continue // put together, below
			}
			if _, known := words[m[1]]; !known {
				t.Errorf("%s asks for %s", name, m[1])
			}
		}
	}
	for name, text := range sources(t, ".html") {
		for _, m := range inPages.FindAllStringSubmatch(text, -1) {
			key := m[1]
			if m[2] != "" {
				key = "do." + m[2]
				if acts[m[2]] == nil {
					t.Errorf("%s has a button for %s, which nothing does", name, m[2])
				}
			}
			if found++; words[key] == [2]string{} {
				t.Errorf("%s asks for %s", name, key)
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d words are asked for", found)
	}
	for _, state := range []string{pending, closing, closed, paid, late, refunding, refunded} {
		for _, of := range []string{"state.", "phone.", "step.state."} {
			if words[of+state] == [2]string{} {
				t.Errorf("nothing is said of %s%s", of, state)
			}
		}
	}
}

// A text in a template has one language.
func TestTemplatesHaveNoTextOfTheirOwn(t *testing.T) {
	actions, tags := regexp.MustCompile(`(?s){{.*?}}`), regexp.MustCompile(`<[^>]*>`)
	said := regexp.MustCompile(`\s(?:alt|title|aria-label|placeholder)="([^"]*)"`)
	for name, text := range sources(t, ".html") {
		text = actions.ReplaceAllString(text, "")
		for _, m := range said.FindAllStringSubmatch(text, -1) {
			if m[1] != "" {
				t.Errorf("%s says %q", name, m[1])
			}
		}
		rest := strings.ReplaceAll(tags.ReplaceAllString(text, ""), "orderd", "")
		if letters := regexp.MustCompile(`\p{L}+`).FindString(rest); letters != "" {
			t.Errorf("%s says %q", name, letters)
		}
	}
}

// The page says what is true of each case. Without a sentence of its own a race would be shown as a usual payment.
func TestVerdictOfEveryCase(t *testing.T) {
	with := func(state string, change func(*story)) *story {
		st := &story{fromStart: true, trades: []string{"x-01"}, order: orderView{State: state}}
		change(st)
		return st
	}
	refund := func(kind, status string) func(*story) {
		return func(st *story) { st.order.Refunds = []refundView{{Kind: kind, RefundStatus: status}} }
	}
	for want, st := range map[string]*story{
		"verdict.pending":    with(pending, func(*story) {}),
		"verdict.left":       with(pending, func(st *story) { st.left = true }),
		"verdict.nocode":     with(pending, func(st *story) { st.trades = nil }),
		"verdict.paying":     with(pending, func(st *story) { st.money = 1 }),
		"verdict.lost":       with(pending, func(st *story) { st.money, st.lost = 1, true }),
		"verdict.forgotten":  with(pending, func(st *story) { st.forgotten = true }),
		"verdict.closing":    with(closing, func(*story) {}),
		"verdict.cancelled":  with(closed, func(st *story) { st.order.CloseReason = "cancel" }),
		"verdict.timeout":    with(closed, func(st *story) { st.order.CloseReason = "timeout" }),
		"verdict.paid":       with(paid, func(*story) {}),
		"verdict.found":      with(paid, func(st *story) { st.lost = true }),
		"verdict.instant":    with(paid, func(st *story) { st.paidFirst = true }),
		"verdict.twice":      with(paid, refund("duplicate", "OWED")),
		"verdict.twice.back": with(paid, refund("duplicate", success)),
		"verdict.asked":      with(refunding, refund("aftersale", askedFor)),
		"verdict.refunding":  with(refunding, refund("aftersale", "PROCESSING")),
		"verdict.refunded":   with(refunded, refund("aftersale", success)),
		"verdict.late":       with(late, refund("late", "OWED")),
		"verdict.late.back":  with(refunded, refund("late", success)),
	} {
		if got, _ := st.verdict(); got != want {
			t.Errorf("%s instead of %s", got, want)
		}
		if words[want] == [2]string{} {
			t.Errorf("nothing says %s", want)
		}
	}
	for key := range words {
		if of, ok := strings.CutPrefix(key, "else."); ok && words["verdict."+of] == [2]string{} {
			t.Errorf("%s belongs to nothing", key)
		}
		if strings.HasPrefix(key, "verdict.") && !strings.Contains(sources(t, ".go")["story.go"], `"`+key+`"`) {
			t.Errorf("%s is never said", key)
		}
	}
}

// bare is a shop whose service is away.
func bare(t *testing.T) (*Shop, http.Handler) {
	t.Helper()
	var made *Shop
	o := Options{API: "127.0.0.1:1", Sim: "127.0.0.1:1", Key: "k", Now: time.Now, Stopping: make(chan struct{}),
		Token: func(string) (string, error) { return "", errors.New("none") },
		Goods: func(context.Context) ([]string, error) { return []string{"1001"}, nil }}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	made = &Shop{o: o, slots: make(chan struct{}, maxAtOnce), stories: map[string]*story{}}
	return made, h
}

// Who looks at orders without end must not fill the memory of a service.
func TestStoriesAreBounded(t *testing.T) {
	s, _ := bare(t)
	now := time.UnixMilli(1_800_000_000_000)
	s.o.Now = func() time.Time { now = now.Add(time.Second); return now }
	first := s.story("c", "first")
	for i := range 3 * maxStories {
		s.story("c", fmt.Sprint(i))
		if s.story("c", "first") != first {
			t.Fatalf("one that is used was forgotten after %d", i)
		}
	}
	if len(s.stories) != maxStories {
		t.Errorf("%d are remembered", len(s.stories))
	}
	for range 2 * maxSteps {
		first.hear(entry{Kind: "request", Endpoint: "prepay", Status: 200, At: now})
	}
	if len(first.steps) != maxSteps {
		t.Errorf("%d steps are remembered", len(first.steps))
	}
}

// A visitor whose service is away is told so, and in what language; nothing of the error is shown.
func TestServiceThatIsAway(t *testing.T) {
	_, h := bare(t)
	for _, c := range []struct{ accept, cookie, want string }{
		{"", "", "orderd 暂时没有应答"}, {"en-GB,en;q=0.9,zh;q=0.8", "", "orderd does not answer"},
		{"fr, zh-TW, en", "", "orderd 暂时没有应答"}, {"en", cookieLanguage + "=zh", "orderd 暂时没有应答"},
		{"zh", cookieLanguage + "=en", "orderd does not answer"},
	} {
		r := httptest.NewRequest("GET", "http://127.0.0.1/", nil)
		r.Header.Set("Accept-Language", c.accept)
		r.Header.Set("Cookie", c.cookie)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 503 || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "refused") {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a storefront of nothing was made")
	}
}

// More requests at once than there is room for are refused, and room comes back.
func TestRequestsAtOnceAreBounded(t *testing.T) {
	s, _ := bare(t)
	hold, entered := make(chan struct{}), make(chan struct{})
	h := s.guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-hold }))
	ask := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/", nil))
		return w.Code
	}
	ended := make(chan int)
	for range maxAtOnce {
		go func() { ended <- ask() }()
		<-entered
	}
	if status := ask(); status != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", status)
	}
	close(hold)
	for range maxAtOnce {
		if status := <-ended; status != http.StatusOK {
			t.Error(status)
		}
	}
	go func() { <-entered }()
	if status := ask(); status != http.StatusOK {
		t.Errorf("after it: %d", status)
	}
}

// Any page that a visitor has open beside the shop can make their browser ask: what it asks for must not use up what
// the visitors have together, neither acts nor places.
func TestPagesOfStrangersUseUpNothing(t *testing.T) {
	s, _ := bare(t)
	inside := 0
	h := s.guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside++ }))
	ask := func(method string, headers ...string) int {
		r := httptest.NewRequest(method, "http://localhost/orders", nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 2 * actsAtOnce {
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"},
			{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}} {
			if status := ask("POST", headers...); status != http.StatusForbidden {
				t.Fatalf("%v: %d", headers, status)
			}
		}
	}
	for range actsAtOnce {
		if status := ask("POST", "Sec-Fetch-Site", "same-origin"); status != http.StatusOK {
			t.Fatalf("the visitor: %d", status)
		}
	}
	if status := ask("POST", "Sec-Fetch-Site", "same-origin"); status != http.StatusTooManyRequests {
		t.Errorf("visitors have no bound: %d", status)
	}
	inside = 0
	for _, c := range []struct {
		site, mode, dest string
		status           int
	}{
		{"cross-site", "no-cors", "image", 403}, {"cross-site", "navigate", "iframe", 403}, {"cross-site", "", "", 403},
		{"same-site", "cors", "empty", 403}, {"cross-site", "navigate", "document", 200},
		{"none", "navigate", "document", 200},
		{"same-origin", "cors", "empty", 200},
	} {
		if status := ask("GET", "Sec-Fetch-Site", c.site, "Sec-Fetch-Mode", c.mode, "Sec-Fetch-Dest",
			c.dest); status != c.status {
			t.Errorf("%+v: %d", c, status)
		}
	}
	if inside != 3 {
		t.Errorf("%d were let in", inside)
	}
}

// Times and sums are read by people.
func TestFormats(t *testing.T) {
	for fen, want := range map[int64]string{0: "¥0.00", 5: "¥0.05", 14900: "¥149.00", 123456789: "¥1,234,567.89"} {
		if got := yuan(fen); got != want {
			t.Errorf("%d is %s", fen, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0.00s", 1230 * time.Millisecond: "1.23s", -5: "0.00s",
		61*time.Second + 9*time.Millisecond: "61.00s"} {
		if got := since(d); got != want {
			t.Errorf("%s is %s", d, got)
		}
	}
}
