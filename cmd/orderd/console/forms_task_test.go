package console

import (
	"html"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// offeredPath is the path of an act that a page offers, nth of those of its name.
func offeredPath(t *testing.T, page, name string) string {
	t.Helper()
	_, rest, there := strings.Cut(page, `data-act="`+name+`"`)
	_, rest, there2 := strings.Cut(rest, `href="`)
	if !there || !there2 {
		t.Fatalf("no act %s on the page", name)
	}
	return html.UnescapeString(rest[:strings.IndexByte(rest, '"')])
}

// One task is run again or forgotten from its row; one that is not there any more is not.
func TestOneTaskIsActedOnByAForm(t *testing.T) {
	d, _ := newTaskDesk(t, sqldbtest.SQLite(t), 2)
	b := d.browser(t, "li", Operator)
	page := b.get("/ui/tasks").Body.String()
	for _, name := range []string{"task.run", "task.discard"} {
		if !slices.Contains(offers(page), name) {
			t.Errorf("the page has %q", offers(page))
		}
	}
	if v := d.browser(t, "vi", Viewer).get("/ui/tasks").Body.String(); len(offers(v)) != 0 {
		t.Errorf("a viewer is offered %q", offers(v))
	}
	one := offeredPath(t, page, "task.run")
	want(t, b.get(one), 200, "立即重试")
	leads(t, b.post(one), "/ui/tasks")
	want(t, b.get("/ui/tasks"), 200, "将立即重试")
	if left, _ := d.deadPage(t, ""); len(left) != 2 {
		t.Errorf("%d dead are left, want two of three", len(left))
	}
	gone := strings.TrimSuffix(one, "/run") + "/discard"
	want(t, b.post(gone, "reason", ""), 422, `aria-invalid="true"`)
	leads(t, b.post(gone, "reason", "不再需要"), "/ui/tasks")
	want(t, b.post(gone, "reason", "不再需要"), 404, "没有该失败任务")
	want(t, b.get(gone), 404, "没有该失败任务")
	want(t, b.get("/ui/tasks/nonsense/run"), 404, "没有该失败任务")
}
