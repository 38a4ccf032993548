package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/orderhttp"
	"orderd/order/ordertest"
	"orderd/scheduler"
)

const deadPath = "/admin/v1/tasks/dead"

// newTaskDesk is a desk with n dead timeouts, a failing refund and a poison, and its log.
func newTaskDesk(t *testing.T, db *sqldb.DB, n int) (*desk, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	d := newDeskOf(t, ordertest.New(t, db), slog.New(slog.NewTextHandler(&log, nil)))
	failed := []scheduler.Failure{
		{Type: scheduler.TypeRefund, Key: "refund1", Cause: errors.New("the row is odd")},
		{Type: scheduler.TypeExpire, Key: "sweep/ü?:1", Cause: errors.New("unusable task"),
			Payload: []byte("\xff\x00<b>"), Poison: true}}
	for i := range n {
		failed = append(failed, scheduler.Failure{Type: scheduler.TypeExpire, Key: fmt.Sprintf("o%05d", i),
			Cause: errors.New("a damaged book"), Poison: true})
	}
	if died, err := d.failures.Record(t.Context(), failed); died != n+1 || err != nil {
		t.Fatal(died, err)
	}
	return d, &log
}

func (d *desk) deadPage(t *testing.T, query string) ([]scheduler.FailedTask, string) {
	t.Helper()
	w := d.ask(Viewer, "GET", deadPath+query, "")
	want(t, w, 200, `"data":[`)
	var page orderhttp.Page[scheduler.FailedTask]
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	if page.NextCursor == nil {
		return page.Data, ""
	}
	return page.Data, *page.NextCursor
}

// What waits for a person must be found, page by page, the poison with it; a filter that is not understood must not
// show all.
func TestDeadTasksAreListed(t *testing.T) {
	d, _ := newTaskDesk(t, sqldbtest.SQLite(t), 5)
	seen := map[string]bool{}
	for cursor, page := "", 0; page == 0 || cursor != ""; page++ {
		tasks, next := d.deadPage(t, "?limit=2&cursor="+cursor)
		for _, x := range tasks {
			seen[x.ID] = true
		}
		cursor = next
	}
	if len(seen) != 6 {
		t.Errorf("%d of 6 dead: %v", len(seen), seen)
	}
	if failing, _ := d.deadPage(t, "?state=failing"); len(failing) != 1 || failing[0].OutRefundNo != "refund1" ||
		failing[0].NextAt == nil {
		t.Errorf("%+v", failing)
	}
	now := d.Clock.Now().UTC()
	later := now.Add(time.Minute).Format(time.RFC3339)
	for query, n := range map[string]int{"?type=refund:ask": 0, "?type=order:expire": 6, "?cause=damaged+book": 5,
		"?cause=%25":              0,
		"?failed_before=" + later: 6, "?failed_after=" + later: 0} {
		if got, _ := d.deadPage(t, query); len(got) != n {
			t.Errorf("%s: %d, want %d", query, len(got), n)
		}
	}
	for query, pointer := range map[string]string{"?state=odd": "?state", "?failed_before=now": "?failed_before",
		"?failed_after=1": "?failed_after", "?limit=0": "?limit", "?cursor=x": "?cursor"} {
		want(t, d.ask(Viewer, "GET", deadPath+query, ""), 422, `"`+pointer+`"`)
	}
	poison, _ := d.deadPage(t, "?cause=unusable")
	if len(poison) != 1 || poison[0].Payload != `"\xff\x00<b>"` {
		t.Errorf("%+v", poison)
	}
	want(t, d.ask(Operator, "GET", "/", ""), 200, `失败任务 <span class="count">6<`)
	want(t, d.ask(Viewer, "GET", "/", ""), 200, `重试中的任务</h2><p class="big">1<`)
	want(t, d.ask("", "GET", "/metrics", ""), 200, `orderd_failed_tasks{state="dead"} 6`)
}

// One task must be run or discarded by the id of the list, whatever its key is made of, once, and with a name in the
// log.
func TestActOnOneTask(t *testing.T) {
	d, log := newTaskDesk(t, sqldbtest.SQLite(t), 1)
	poison, _ := d.deadPage(t, "?cause=unusable")
	path := deadPath + "/" + poison[0].ID
	want(t, d.ask(Operator, "POST", path+"/run", ""), 200, `{"dry_run":false,"matched":1,"done":1}`)
	if failing, _ := d.deadPage(t, "?state=failing&type=order:expire"); len(failing) != 1 || failing[0].Tried != 0 {
		t.Errorf("%+v", failing)
	}
	want(t, d.ask(Operator, "POST", path+"/discard", `{}`), 422, "#/reason")
	want(t, d.ask(Operator, "POST", path+"/discard", ""), 415, "")
	want(t, d.ask(Operator, "POST", path+"/discard", `{"reason":"of an old program"}`), 200, `"done":1`)
	for _, id := range []string{poison[0].ID, "order:expire~none", "none", "~~", "%2F"} {
		want(t, d.ask(Operator, "POST", deadPath+"/"+id+"/run", ""), 404, "NOT_FOUND")
		want(t, d.ask(Operator, "POST", deadPath+"/"+id+"/discard", `{"reason":"x"}`), 404, "NOT_FOUND")
	}
	want(t, d.ask(Operator, "POST", deadPath+"/order:expire~o00000/run", ""), 200, `"done":1`)
	for _, said := range []string{`msg="failed tasks discarded" by=the-operator count=1`, `reason="of an old program"`,
		`msg="failed tasks run" by=the-operator count=1`} {
		if !strings.Contains(log.String(), said) {
			t.Errorf("the log does not say %s: %s", said, log)
		}
	}
}

// A word about all tasks must first say how many it means, must not mean all by being empty, and then do exactly those.
func TestActOnManyTasks(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const many = 4_000
		d, log := newTaskDesk(t, db, many)
		for _, act := range []string{"/run", "/discard"} {
			want(t, d.ask(Operator, "POST", deadPath+act, `{}`), 422, "#/all")
			want(t, d.ask(Operator, "POST", deadPath+act, `{"dry_run":false,"reason":"x"}`), 422, "#/all")
			want(t, d.ask(Operator, "POST", deadPath+act, `{"state":"dead"}`), 422, "#/all")
			want(t, d.ask(Operator, "POST", deadPath+act, `{"all":true,"state":"odd"}`), 422, "#/state")
			want(t, d.ask(Operator, "POST", deadPath+act, `{"failed_before":"now"}`), 400, "")
			want(t, d.ask(Operator, "POST", deadPath+act, `{"typ":"order:expire"}`), 400, "")
			want(t, d.ask(Operator, "POST", deadPath+act, `{"all":true}`), 200,
				`{"dry_run":true,"matched":4001,"done":0}`)
			want(t, d.ask(Operator, "POST", deadPath+act, `{"type":"refund:ask","state":"failing"}`), 200,
				`"matched":1,"done":0`)
		}
		want(t, d.ask(Operator, "POST", deadPath+"/discard", `{"all":true,"dry_run":false}`), 422, "#/reason")
		if _, dead, err := d.failures.Count(t.Context()); dead != many+1 || err != nil || log.Len() > 0 &&
			strings.Contains(log.String(), "failed tasks") {
			t.Fatalf("%d dead after what must not act, %v, %s", dead, err, log)
		}
		before := d.Clock.Now().UTC().Add(time.Minute).Format(time.RFC3339)
		body := `{"type":"order:expire","cause":"damaged book","failed_before":"` + before + `","dry_run":false}`
		want(t, d.ask(Operator, "POST", deadPath+"/run", body), 200, `{"dry_run":false,"matched":4000,"done":4000}`)
		want(t, d.ask(Operator, "POST", deadPath+"/run", body), 200, `"matched":0,"done":0`)
		want(t, d.ask(Operator, "POST", deadPath+"/discard",
			`{"all":true,"state":"failing","dry_run":false,"reason":"gone"}`), 200, `"matched":4001,"done":4001`)
		failing, dead, err := d.failures.Count(t.Context())
		if failing != 0 || dead != 1 || err != nil {
			t.Errorf("%d %d %v", failing, dead, err)
		}
		if !strings.Contains(log.String(), `by=the-operator count=4001`) {
			t.Errorf("%s", log)
		}
	})
}

// One cause has thousands of tasks, and whoever mends it acts on them together: on those that were counted, with the
// number typed, and on no other cause's.
func TestFailedTasksAreActedOnByCause(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		d, _ := newTaskDesk(t, db, 7)
		d.failTask(t, "other", "a damaged book, or two")
		b := d.browser(t, "li", Operator)
		page := html.UnescapeString(b.get("/ui/tasks").Body.String())
		at := strings.Index(page, "/ui/tasks/discard?error=a+damaged+book&")
		if at < 0 {
			t.Fatalf("no group in %s", page)
		}
		link := page[at : at+strings.Index(page[at:], `"`)]
		form := b.get(link)
		want(t, form, 200, "o00006")
		for _, text := range []string{"o00002", "<dd>7</dd>", "全部丢弃"} {
			if !strings.Contains(form.Body.String(), text) {
				t.Errorf("the form does not say %q", text)
			}
		}
		if strings.Contains(form.Body.String(), "o00001") {
			t.Error("more than five are shown")
		}
		send := func(count, reason string) *httptest.ResponseRecorder {
			sent := []string{"matched", count, "reason", reason}
			for _, name := range groupFields {
				sent = append(sent, name, html.UnescapeString(hidden(t, form.Body.String(), name)))
			}
			return b.post("/ui/tasks/discard", sent...)
		}
		want(t, send("6", "换过硬盘"), 422, "换过硬盘")
		want(t, send("7", " "), 422, "VALIDATION_FAILED")
		// One more fails by the same cause after the person has looked: it is not among those that were counted.
		d.Clock.Advance(time.Minute)
		d.failTask(t, "later", "a damaged book")
		leads(t, send("7", "换过硬盘"), "/ui/tasks")
		want(t, b.get("/ui/tasks"), 200, "已丢弃。")
		var left []string
		tasks, _ := d.deadPage(t, "?type=order:expire")
		for _, x := range tasks {
			left = append(left, x.Key)
		}
		if slices.Sort(left); !slices.Equal(left, []string{"later", "other", "sweep/ü?:1"}) {
			t.Errorf("left: %q", left)
		}
		want(t, send("7", "换过硬盘"), 422, "VALIDATION_FAILED") // done already: there are none
		want(t, b.get(link), 200, "已没有这样的失败任务")
		acted := d.acted(t)
		if last := acted[len(acted)-1]; last != "li tasks.discard done" {
			t.Errorf("the trail has %q", acted)
		}
		if vi := d.browser(t, "vi", Viewer).get("/ui/tasks"); strings.Contains(vi.Body.String(), "/ui/tasks/discard") {
			t.Error("a viewer may discard")
		}
	})
}

// failTask has a task of an order fail for good.
func (d *desk) failTask(t *testing.T, key, cause string) {
	t.Helper()
	if _, err := d.failures.Record(t.Context(), []scheduler.Failure{{Type: scheduler.TypeExpire, Key: key,
		Cause: errors.New(cause), Poison: true}}); err != nil {
		t.Fatal(err)
	}
}

// A group's tasks may be of a type that this program does not know: they are acted on all the same.
func TestGroupsOfFailedTasksByTheAPI(t *testing.T) {
	d, _ := newTaskDesk(t, sqldbtest.SQLite(t), 3)
	w := d.ask(Viewer, "GET", deadPath+"/groups", "")
	want(t, w, 200, `"whole":true`)
	want(t, w, 200, `{"type":"order:expire","state":"dead","error":"a damaged book","count":3,`)
	want(t, d.ask(Viewer, "GET", deadPath+"/groups?state=failing", ""), 200, `"error":"the row is odd","count":1`)
	want(t, d.ask(Viewer, "GET", deadPath+"/groups?state=x", ""), 422, "state")
	want(t, d.ask(Operator, "POST", deadPath+"/discard", `{"error":"a damaged","dry_run":false,"reason":"r"}`), 200,
		`"matched":0`)
	want(t, d.ask(Operator, "POST", deadPath+"/run", `{"error":"a damaged book"}`), 200, `"matched":3,"done":0`)
	if _, err := d.failures.Record(t.Context(), []scheduler.Failure{{Type: "odd", Key: "k", Payload: []byte("x"),
		Cause: errors.New("unknown"), Poison: true}}); err != nil {
		t.Fatal(err)
	}
	want(t, d.ask(Operator, "POST", deadPath+"/discard", `{"type":"odd","error":"unknown","dry_run":false,`+
		`"reason":"r"}`), 200, `"done":1`)
}
