package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orderd/order"
)

// listener is a browser that hears events.
type listener struct {
	t      *testing.T
	answer *http.Response
	lines  chan string // closed at the end
	cancel func()
}

// listen opens a stream as a browser does, with headers in pairs.
func listen(t *testing.T, server *httptest.Server, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+uiEvents, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	l := &listener{t: t, lines: make(chan string, 1000), cancel: cancel}
	if l.answer, err = server.Client().Do(r); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.lines)
		defer l.answer.Body.Close()
		for s := bufio.NewScanner(l.answer.Body); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { cancel(); l.ends() })
	return l
}

// hears waits for an event, and gives its data.
func (l *listener) hears(name string) string {
	l.t.Helper()
	limit, found := time.After(2*time.Minute), false
	for {
		select {
		case line, open := <-l.lines:
			if !open {
				l.t.Fatalf("the stream ended before %s", name)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok && found {
				return data
			}
			found = line == "event: "+name
		case <-limit:
			l.t.Fatalf("no %s was heard", name)
		}
	}
}

// ends waits for the end of the stream.
func (l *listener) ends() {
	l.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		select {
		case _, open := <-l.lines:
			if !open {
				return
			}
		case <-limit:
			l.t.Fatal("the stream goes on")
		}
	}
}

func liveServer(t *testing.T, d *desk) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(d.console)
	t.Cleanup(server.Close)
	return server
}

// Whoever looks at a list that is a minute old decides by what is no longer so: the page is told what changed, and how
// much waits.
func TestPagesHearWhatChanges(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	server := liveServer(t, d)
	viewer := listen(t, server, "Authorization", "Bearer "+secret(Viewer))
	finance := listen(t, server, "Authorization", "Bearer "+secret(Finance))
	if h := viewer.answer.Header; viewer.answer.StatusCode != 200 || h.Get("Content-Type") != "text/event-stream" ||
		h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", viewer.answer.StatusCode, h)
	}
	if data := viewer.hears("counts"); data != "{}" {
		t.Errorf("nothing waits: %s", data)
	}
	finance.hears("counts")
	o := d.PlaceOne(t, "r", "mug", 1)
	for _, l := range []*listener{viewer, finance} {
		var m changedMessage
		if err := json.Unmarshal([]byte(l.hears("changed")), &m); err != nil || len(m.Orders) != 1 ||
			m.Orders[0] != o.OrderNo || m.More {
			t.Errorf("%+v %v", m, err)
		}
	}
	d.Clock.Set(o.DueAt.Add(order.StuckAfter + time.Minute)) // overdue, of which every role's menu tells
	for _, l := range []*listener{viewer, finance} {
		if data := l.hears("counts"); data != `{"nav.overview":1,"nav.timeouts":1}` {
			t.Error(data)
		}
	}
	page := d.ask(Viewer, "GET", "/ui/orders", "").Body.String()
	for _, text := range []string{`data-live="/ui/events"`, `data-watch="*"`, `data-count="nav.timeouts">1</b>`} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q", text)
		}
	}
	want(t, d.ask(Viewer, "GET", "/ui/orders/"+o.OrderNo, ""), 200, `data-watch="`+o.OrderNo+`"`)
	w := d.ask(Viewer, "GET", "/ui/events", "") // who is no browser has the counts, and an end
	want(t, w, 200, `data: {"nav.overview":1,"nav.timeouts":1}`)
}

// A stream that outlives its session tells whoever sits down at the machine what happens in the shop.
func TestStreamsEndWithTheirSession(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "anna", Finance)
	server := liveServer(t, d)
	cookie := ""
	for name, value := range b.cookies {
		cookie += name + "=" + value + ";"
	}
	live := listen(t, server, "Cookie", cookie)
	live.hears("counts")
	var seen int64
	at := func() int64 {
		if err := d.DB.Pool().QueryRowContext(t.Context(), `SELECT MAX(seen_at)
FROM operator_sessions`).Scan(&seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	before := at()
	d.Clock.Advance(20 * time.Minute)
	other := listen(t, server, "Cookie", cookie)
	other.hears("counts")
	if at() != before {
		t.Error("a page that is left open keeps its session for ever")
	}
	b.send("POST", "/logout", nil)
	live.ends()
	other.ends()
	if again := listen(t, server, "Cookie", cookie); again.answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the logout: %d", again.answer.StatusCode)
	}
}

// A stop that waits for browsers is a stop by force; and a hundred browsers that listen take the process from buyers.
func TestStreamsAreFewAndEndWithTheProcess(t *testing.T) {
	d := newDesk(t)
	server := liveServer(t, d)
	all := make([]*listener, maxStreams)
	var tokens []string
	for i := range maxStreams/maxOfOne + 1 {
		token, err := d.tokens.Create(t.Context(), fmt.Sprint("viewer", i), Viewer, "the-admin")
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, "Bearer "+token)
	}
	for i := range all {
		all[i] = listen(t, server, "Authorization", tokens[i/maxOfOne])
		all[i].hears("counts")
	}
	more := listen(t, server, "Authorization", tokens[len(tokens)-1])
	if more.answer.StatusCode != http.StatusServiceUnavailable || more.answer.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", more.answer.StatusCode, more.answer.Header)
	}
	all[0].cancel()
	all[0].ends()
	deadline := time.Now().Add(2 * time.Minute)
	for next := 0; next != http.StatusOK; { // its place is free when the server has seen it go
		if time.Now().After(deadline) {
			t.Fatal("the place of one that has gone stays taken")
		}
		next = listen(t, server, "Authorization", tokens[len(tokens)-1]).answer.StatusCode
	}
	close(d.stopping)
	for _, l := range all[1:] {
		l.ends()
	}
}

// One person with many tabs must not have all of the places: the oldest tab ends, and is told, so that it does not come
// again and end the next.
func TestOnePersonHasFewStreams(t *testing.T) {
	d := newDesk(t)
	server := liveServer(t, d)
	var mine []string
	for _, name := range []string{"anna", "bea"} {
		cookie := ""
		for name, value := range d.browser(t, name, Viewer).cookies {
			cookie += name + "=" + value + ";"
		}
		mine = append(mine, cookie)
	}
	_, token, err := d.tokens.CreateFor(t.Context(), "anna", "laptop", "the-admin")
	if err != nil {
		t.Fatal(err)
	}
	phone := d.stranger() // another session is no other person, and neither is a token
	phone.post("/login", "name", "anna", "password", password)
	mine = append(mine, sessionCookie+"="+phone.cookies[sessionCookie])
	other := listen(t, server, "Cookie", mine[1])
	other.hears("counts")
	var tabs []*listener
	ways := [][2]string{{"Cookie", mine[0]}, {"Cookie", mine[2]}, {"Authorization", "Bearer " + token}}
	for i := range maxOfOne + 2 {
		way := ways[i%len(ways)]
		tabs = append(tabs, listen(t, server, way[0], way[1]))
		tabs[i].hears("counts")
		if over := i - maxOfOne; over >= 0 {
			tabs[over].hears("over")
			tabs[over].ends()
		}
	}
	d.SKU(t, "mug", 10)
	no := d.PlaceOne(t, "r", "mug", 1).OrderNo
	for _, l := range append(tabs[2:], other) {
		if data := l.hears("changed"); !strings.Contains(data, no) {
			t.Error(data)
		}
	}
}

// What waits is counted every two seconds while somebody looks: of half a million it is enough that it is very much.
func TestTheMenuCountsNoFurtherThanPeopleRead(t *testing.T) {
	c := &console{}
	c.pulses.last = pulse{Counts: map[string]int64{"nav.timeouts": mostCounted + 1, "nav.refunds": mostCounted}}
	if got := c.counted(&stream{role: Viewer}, c.pulses.last); !strings.Contains(got, `"nav.timeouts":"10000+"`) ||
		!strings.Contains(got, `"nav.refunds":10000`) || !strings.Contains(got, `"nav.overview":"10000+"`) {
		t.Error(got)
	}
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	for i := range 3 {
		d.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
	}
	for at, most := range map[time.Duration]int64{0: 0, 24 * time.Hour: 2} {
		now := d.Clock.Now()
		d.Clock.Advance(at)
		if n, err := d.Overdue(t.Context(), 2); err != nil || n != most {
			t.Errorf("after %v: %d, want %d, %v", at, n, most, err)
		}
		d.Clock.Set(now)
	}
}

// A browser that reads nothing must not hold up the others.
func TestSlowStreamIsEnded(t *testing.T) {
	c := &console{}
	slow, quick := &stream{out: make(chan string, 1)}, &stream{out: make(chan string, 3)}
	c.hub.streams = map[*stream]struct{}{slow: {}, quick: {}}
	for range 3 {
		c.tell(func(*stream) string { return "x" })
	}
	if _, there := c.hub.streams[slow]; there || len(quick.out) != 3 {
		t.Errorf("%d streams, %d messages", len(c.hub.streams), len(quick.out))
	}
	if <-slow.out; len(slow.out) != 0 {
		t.Error("it has more than it could take")
	}
	if _, open := <-slow.out; open {
		t.Error("it is not told that it ended")
	}
}

// A page on which secrets are typed or shown has no script that talks to the service.
func TestPagesOfSecretsHearNothing(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "adam", Admin)
	for path, live := range map[string]bool{"/ui/me": false, "/ui/me/password": false, "/ui/me/totp": false, "/": true,
		"/ui/webhooks/new": false} {
		page := b.get(path)
		if page.Code != http.StatusOK || strings.Contains(page.Body.String(), "data-live") != live {
			t.Errorf("%s: %d, live: %t", path, page.Code, !live)
		}
	}
}
