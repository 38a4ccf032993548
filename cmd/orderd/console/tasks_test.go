package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	want(t, d.ask(Viewer, "GET", "/", ""), 200, `失败任务 <span class="count">6<`)
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
