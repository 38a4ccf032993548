package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/scheduler"
)

// taskRoutes are about tasks that failed, rows of the table failed_tasks: dead ones,
// which wait for a person, and failing ones, which are tried again.
func (c *console) taskRoutes() []route {
	act := func(what taskAct, h func(echo.Context, taskAct) error) echo.HandlerFunc {
		return func(ctx echo.Context) error { return h(ctx, what) }
	}
	return []route{
		{http.MethodGet, "/ui/tasks", Viewer, c.tasksPage},
		{http.MethodGet, "/admin/v1/tasks/dead", Viewer, c.deadTasks},
		{http.MethodGet, "/admin/v1/tasks/dead/groups", Viewer, c.taskGroups},
		{http.MethodPost, "/admin/v1/tasks/dead/run", Operator, act(runTasks, c.actOnTasks)},
		{http.MethodPost, "/admin/v1/tasks/dead/discard", Operator, act(discardTasks, c.actOnTasks)},
		{http.MethodPost, "/admin/v1/tasks/dead/:id/run", Operator, act(runTasks, c.actOnTask)},
		{http.MethodPost, "/admin/v1/tasks/dead/:id/discard", Operator, act(discardTasks, c.actOnTask)},
	}
}

// taskAct is what an operator does with failed tasks, in the word of the log.
type taskAct string

const (
	// runTasks makes them due now, with all of their tries again.
	runTasks taskAct = "failed tasks run"
	// discardTasks forgets them. Orders and refunds are not touched: one that is still
	// due is found by the sweep and tried again.
	discardTasks taskAct = "failed tasks discarded"
)

// acted is the answer to an act: how many tasks were meant, and of how many it was done,
// none in a dry run. Done may be less than Matched, when tasks ended well meanwhile.
type acted struct {
	DryRun  bool `json:"dry_run"`
	Matched int  `json:"matched"`
	Done    int  `json:"done"`
}

// deadTasks is GET /admin/v1/tasks/dead: the dead, or with state=failing those that are
// tried again, the one that failed last first.
func (c *console) deadTasks(ctx echo.Context) error {
	q := query{Context: ctx}
	f := scheduler.Filter{
		Type:  oneOf(&q, "type", taskTypes),
		State: cmp.Or(q.QueryParam("state"), scheduler.StateDead),
		Cause: q.QueryParam("cause"),
	}
	if f.State != scheduler.StateDead && f.State != scheduler.StateFailing {
		q.wrong("state", "ENUM", wantTaskState)
	}
	f.FailedBefore, f.FailedAfter = q.time("failed_before"), q.time("failed_after")
	limit := q.limit()
	if err := q.err(); err != nil {
		return err
	}
	tasks, next, err := c.Failures.List(ctx.Request().Context(), f, q.QueryParam("cursor"), limit)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(tasks, next,
		func(t *scheduler.FailedTask) scheduler.FailedTask { return *t }))
}

// taskGroups is GET /admin/v1/tasks/dead/groups: the failed tasks of a state by type and error. There are few groups,
// so that there are no pages.
func (c *console) taskGroups(ctx echo.Context) error {
	q := query{Context: ctx}
	state := cmp.Or(oneOf(&q, "state", []string{scheduler.StateDead, scheduler.StateFailing}), scheduler.StateDead)
	if err := q.err(); err != nil {
		return err
	}
	groups, whole, err := c.Failures.Groups(ctx.Request().Context(), state)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, struct {
		Data  []scheduler.Group `json:"data"`
		Whole bool              `json:"whole"`
	}{append([]scheduler.Group{}, groups...), whole})
}

// taskTypes are those that a failed task can have.
var taskTypes = []string{scheduler.TypeExpire, scheduler.TypeRefund, scheduler.TypeReconcile}

// wantTaskState is the detail for a state that is neither.
const wantTaskState = "a failed task is dead or failing"

// actOnTask is POST …/:id/run and …/:id/discard, about one task. A failing one too: to
// run it now, or to give it up. Only a discard needs a reason: what is run again would
// have been run anyway.
func (c *console) actOnTask(ctx echo.Context, what taskAct) error {
	typ, key, err := scheduler.ParseFailedID(ctx.Param("id"))
	if err != nil {
		return noSuchTask()
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if what == discardTasks {
		err = decodeReasoned(ctx, &body, &body.Reason)
	} else {
		err = orderhttp.NoBody(ctx)
	}
	if err != nil {
		return err
	}
	n, err := c.act(ctx, what, &scheduler.Filter{Type: typ, Keys: []string{key}}, body.Reason)
	if err != nil {
		return err
	}
	if n == 0 {
		return noSuchTask()
	}
	return ctx.JSON(http.StatusOK, acted{Matched: n, Done: n})
}

// noSuchTask answers 404 for a task that is not in the list, or no longer.
func noSuchTask() error {
	return &orderhttp.Failure{Code: orderhttp.CodeNotFound, Text: orderhttp.Text{
		En: "There is no such failed task: it ended well meanwhile, or somebody discarded it.",
		Zh: "没有该失败任务：已执行成功，或已被丢弃。"}}
}

// actOnTasks is POST …/run and …/discard: it acts on all tasks that a filter means. It
// only counts them unless dry_run is false, and an empty filter needs all: true: a body
// of {} must not discard everything.
func (c *console) actOnTasks(ctx echo.Context, what taskAct) error {
	var body struct {
		Type         string    `json:"type"`
		State        string    `json:"state"`
		Cause        string    `json:"cause"`
		Error        string    `json:"error"`
		FailedBefore time.Time `json:"failed_before"`
		FailedAfter  time.Time `json:"failed_after"`
		All          bool      `json:"all"`
		DryRun       *bool     `json:"dry_run"`
		Reason       string    `json:"reason"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	f := scheduler.Filter{Type: body.Type, Cause: body.Cause, Error: body.Error,
		FailedBefore: body.FailedBefore, FailedAfter: body.FailedAfter}
	var bad []order.FieldError
	if f.Empty() && !body.All {
		bad = append(bad, order.FieldError{Pointer: "#/all", Code: "REQUIRED",
			Detail: `without type, cause, error and times every task is meant: say so with "all": true`})
	}
	if f.State = cmp.Or(body.State, scheduler.StateDead); f.State != scheduler.StateDead &&
		f.State != scheduler.StateFailing {
		bad = append(bad, order.FieldError{Pointer: "#/state", Code: "ENUM", Detail: wantTaskState})
	}
	// An error has tasks that nobody can read, of whatever type.
	if body.Type != "" && body.Error == "" && !slices.Contains(taskTypes, body.Type) {
		bad = append(bad, order.FieldError{Pointer: "#/type", Code: "ENUM",
			Detail: orderhttp.WantOneOf + strings.Join(taskTypes, ", ")})
	}
	if bad != nil {
		return &orderhttp.Failure{Code: orderhttp.CodeValidation, Fields: bad}
	}
	dry := body.DryRun == nil || *body.DryRun
	if what == discardTasks && !dry {
		if err := needReason(body.Reason); err != nil {
			return err
		}
	}
	answer := acted{DryRun: dry}
	var err error
	if answer.Matched, err = c.Failures.Match(ctx.Request().Context(), f); err != nil {
		return err
	}
	if !dry {
		if answer.Done, err = c.act(ctx, what, &f, body.Reason); err != nil {
			return err
		}
	}
	return ctx.JSON(http.StatusOK, answer)
}

// act does it and logs who did, also when the end of it failed: the pages before are
// done. It gives how many were done, with an error too. There is no timeline for tasks;
// the log is the record.
func (c *console) act(ctx echo.Context, what taskAct, f *scheduler.Filter, reason string) (n int, err error) {
	switch what {
	case runTasks:
		n, err = c.Failures.Run(ctx.Request().Context(), *f)
	case discardTasks:
		n, err = c.Failures.Discard(ctx.Request().Context(), *f)
	}
	if n > 0 {
		c.Log.Info(string(what), "by", operator(ctx), "count", n, "type", f.Type, "keys", f.Keys, "state", f.State,
			"cause", f.Cause, "error", f.Error,
			"failed_after", f.FailedAfter, "failed_before", f.FailedBefore, "reason", reason)
	}
	return n, err
}
