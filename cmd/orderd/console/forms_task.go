package console

import (
	"strconv"

	"github.com/labstack/echo/v4"

	"orderd/scheduler"
)

// oneTaskActs run or discard one failed task.
func (c *console) oneTaskActs() []act {
	const page, route = "/ui/tasks/:id/", "POST /admin/v1/tasks/dead/:id/"
	return []act{
		{name: "task.run", path: page + "run", route: route + "run", key: "a", show: c.taskSubject},
		{name: "task.discard", path: page + "discard", route: route + "discard", danger: true,
			fields: []field{withReason}, show: c.taskSubject},
	}
}

// taskSubject is one failed task as what an act is about.
func (c *console) taskSubject(ctx echo.Context) (subject, error) {
	typ, key, err := scheduler.ParseFailedID(ctx.Param("id"))
	if err != nil {
		return subject{}, noSuchTask()
	}
	all, _, err := c.Failures.List(ctx.Request().Context(), scheduler.Filter{Type: typ, Keys: []string{key}}, "", 1)
	if err != nil {
		return subject{}, err
	}
	if len(all) == 0 {
		return subject{}, noSuchTask()
	}
	l, x := languageOf(ctx.Request()), &all[0]
	return subject{back: "/ui/tasks", facts: []fact{{"c.task", x.Type + " " + x.Key, true},
		{"c.state", l.look("task", x.State).Word, false}, {"c.problem", x.Error, false},
		{"c.tried", strconv.FormatInt(x.Tried, 10), false}, {"c.last", clock(x.LastAt), false}}}, nil
}

// taskRow is a failed task in a list, and what whoever reads may do about it.
type taskRow struct {
	scheduler.FailedTask
	Acts []link
}

// taskRows are the rows of a list.
func (c *console) taskRows(ctx echo.Context, tasks []scheduler.FailedTask) []taskRow {
	rows := make([]taskRow, len(tasks))
	for i := range tasks {
		rows[i] = taskRow{tasks[i], c.links(ctx, []string{tasks[i].ID}, "task.run", "task.discard")}
	}
	return rows
}
