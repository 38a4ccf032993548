package console

import (
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/scheduler"
)

// groupFields say which group of failed tasks is meant: those of a type, a state and an error that had failed when the
// page was made, and not those that failed later.
var groupFields = []string{"type", "state", "error", "failed_before"}

// taskActs are of all failed tasks that failed by one error.
func (c *console) taskActs() []act {
	group := func(name string, danger bool) act {
		a := act{name: "tasks." + name, path: "/ui/tasks/" + name, route: "POST /admin/v1/tasks/dead/" + name,
			danger: danger, show: c.groupSubject, body: groupBody}
		for _, f := range groupFields {
			a.fields = append(a.fields, field{name: f, kind: asHidden, need: true})
		}
		a.fields = append(a.fields, field{name: "matched", kind: asCount, need: true, most: 12}, withReason)
		return a
	}
	return []act{group("run", false), group("discard", true)}
}

// groupSubject is a group of failed tasks as what an act is about: how many there are now, and the first of them.
func (c *console) groupSubject(ctx echo.Context) (subject, error) {
	s := subject{back: "/ui/tasks", values: map[string]string{}}
	values, err := given(ctx)
	if err != nil {
		return s, err
	}
	for _, name := range groupFields {
		if s.values[name] = values.Get(name); s.values[name] == "" {
			return s, noSuchTask()
		}
	}
	before, err := time.Parse(time.RFC3339Nano, s.values["failed_before"])
	if err != nil {
		return s, noSuchTask()
	}
	f := scheduler.Filter{Type: s.values["type"], State: s.values["state"], Error: s.values["error"],
		FailedBefore: before}
	n, err := c.Failures.Match(ctx.Request().Context(), f)
	if err != nil {
		return s, err
	}
	first, _, err := c.Failures.List(ctx.Request().Context(), f, "", shownOfMany)
	if err != nil {
		return s, err
	}
	if s.values["matched"] = strconv.Itoa(n); n == 0 {
		s.off = "off.notasks"
	}
	s.facts = []fact{{"c.count", s.values["matched"], false}, {"c.task", f.Type, false},
		{"c.state", languageOf(ctx.Request()).look("task", f.State).Word, false}, {"c.problem", f.Error, false}}
	for i := range first {
		s.facts = append(s.facts, fact{"c.ofthem", first[i].Key, true})
	}
	return s, nil
}

// shownOfMany is how many of those that an act on many means are shown.
const shownOfMany = 5

// groupBody is the API's request for a group.
func groupBody(_ *subject, form map[string]string) (map[string]any, error) {
	body := map[string]any{"dry_run": false, "reason": form["reason"]}
	for _, name := range groupFields {
		body[name] = form[name]
	}
	return body, nil
}

// groupRow is a group of failed tasks in a list, and what the person who reads may do with it.
type groupRow struct {
	scheduler.Group
	Acts []link
}

// taskGroupRows are the groups of dead tasks, then of those that are tried again; whole reports that there are no more.
func (c *console) taskGroupRows(ctx echo.Context) (rows []groupRow, whole bool, err error) {
	whole = true
	for _, state := range []string{scheduler.StateDead, scheduler.StateFailing} {
		groups, all, err := c.Failures.Groups(ctx.Request().Context(), state)
		if err != nil {
			return nil, false, err
		}
		whole = whole && all
		for _, g := range groups {
			acts := c.links(ctx, nil, "tasks.run", "tasks.discard")
			for i := range acts {
				acts[i].Path = withQuery(acts[i].Path, url.Values{"type": {g.Type}, "state": {g.State},
					"error":         {g.Error},
					"failed_before": {g.LastAt.Add(time.Millisecond).Format(time.RFC3339Nano)}})
			}
			rows = append(rows, groupRow{g, acts})
		}
	}
	return rows, whole, nil
}
