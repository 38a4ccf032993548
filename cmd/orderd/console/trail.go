package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
	"orderd/payment/trail"
)

// trailRoutes are those of the audit trail: who looks after the people who work here reads it.
func (c *console) trailRoutes() []route {
	return []route{
		{http.MethodGet, "/admin/v1/audit", Admin, c.listTrail},
		{http.MethodGet, "/ui/trail", Admin, c.trailPage},
		{http.MethodGet, "/ui/trail.csv", Admin, c.trailFile},
	}
}

// TrailView is a row of the audit trail. An act has two: the one without outcome was written before it, the other,
// of the same act, after it.
type TrailView struct {
	Seq       int64     `json:"seq"`
	Act       string    `json:"act"`
	At        time.Time `json:"at"`
	Actor     string    `json:"actor"`
	Role      string    `json:"role,omitempty"`
	Address   string    `json:"address,omitempty"`
	Session   string    `json:"session,omitempty"`
	Action    string    `json:"action"`
	Target    string    `json:"target,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Asked     string    `json:"asked,omitempty"` // JSON of what was asked for
	Outcome   string    `json:"outcome"`         // "" before it was done; done, refused:CODE, failed:CODE
	Was       string    `json:"was,omitempty"`
	Became    string    `json:"became,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Prev      string    `json:"prev_sha256"` // of the row before it, "" for the first
	SHA256    string    `json:"sha256"`
}

// ViewTrail shows a row of the audit trail.
func ViewTrail(e *trail.Entry) TrailView {
	return TrailView{e.Seq, e.Act, e.At, e.Actor, e.Role, e.Address, e.Session, e.Action, e.Target, e.Reason, e.Asked,
		e.Outcome, e.Was, e.Became, e.RequestID, e.Prev, e.SHA256}
}

// trail reads the filters of the trail; at reads a time.
func (q *query) trail(at func(name string) time.Time) trail.Filter {
	return trail.Filter{Actor: q.QueryParam("actor"), Action: q.QueryParam("action"), Target: q.QueryParam("target"),
		From: at("from"), To: at("to"), Cursor: q.QueryParam("cursor"), Limit: q.limit()}
}

// listTrail is GET /admin/v1/audit: a page of the audit trail, newest first.
func (c *console) listTrail(ctx echo.Context) error {
	q := query{Context: ctx}
	f := q.trail(q.time)
	if err := q.err(); err != nil {
		return err
	}
	rows, next, err := c.Trail.List(ctx.Request().Context(), f)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(rows, next, ViewTrail))
}

// trailView is the page of the audit trail.
type trailView struct {
	Rows     []trail.Entry
	Filter   trail.Filter
	From, To string
	Actions  []string
	Head     int64
	Sum      string
	// First and Next are this list from its beginning and after this page; CSV is all of it.
	First, Next, CSV string
}

// trailPage is GET /ui/trail.
func (c *console) trailPage(ctx echo.Context) error {
	q := query{Context: ctx}
	f := q.trail(q.lastDay)
	if err := q.err(); err != nil {
		return err
	}
	f.Limit = defaultRows
	v := trailView{Filter: f, From: ctx.QueryParam("from"), To: ctx.QueryParam("to"),
		Actions: slices.Sorted(slices.Values(append(Actions(), c.VerbActions...)))}
	var next string
	var err error
	if v.Rows, next, err = c.Trail.List(ctx.Request().Context(), f); err != nil {
		return err
	}
	if v.Head, v.Sum, err = c.Trail.Head(ctx.Request().Context()); err != nil {
		return err
	}
	params := url.Values{}
	for name, values := range ctx.QueryParams() {
		if name != "cursor" && values[0] != "" {
			params[name] = values
		}
	}
	v.Next = pageAfter(withQuery("/ui/trail", params), next)
	if f.Cursor != "" {
		v.First = withQuery("/ui/trail", params)
	}
	days := url.Values{}
	for _, name := range []string{"from", "to"} {
		if params.Has(name) {
			days[name] = params[name]
		}
	}
	v.CSV = withQuery("/ui/trail.csv", days)
	return c.show(ctx, "trail", v)
}

// lastDay is dayOrTime, where "to" is a day's end.
func (q *query) lastDay(name string) time.Time {
	d, err := time.ParseInLocation(time.DateOnly, q.QueryParam(name), beijing)
	switch {
	case err != nil:
		return q.time(name)
	case name == "to":
		return d.AddDate(0, 0, 1)
	}
	return d
}

// Actions are the names of the acts that routes have.
func Actions() []string {
	all := []string{actLogin, actLink}
	for _, a := range acts {
		all = append(all, a.action)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// trailFile is GET /ui/trail.csv: every row of a range of days, oldest first, with all that a hash is over.
func (c *console) trailFile(ctx echo.Context) error {
	q := query{Context: ctx}
	from, to := q.lastDay("from"), q.lastDay("to")
	if err := q.err(); err != nil {
		return err
	}
	rows := func(do func(*trail.Entry) error) error { return c.Trail.All(ctx.Request().Context(), from, to, do) }
	return c.sendTable(ctx, csvType, "csv", "from", trail.Table(rows))
}

// ended is how an act's end is shown.
func (l lang) ended(outcome string) look {
	kind, _, _ := strings.Cut(outcome, ":")
	return l.look("ended", kind)
}

// actName says an act of the trail: by the word of its form where it has one.
func (l lang) actName(action string) string {
	if w, known := words["act."+action]; known {
		return w[l]
	}
	return action
}

// codeOf is the code behind an outcome.
func codeOf(outcome string) string {
	_, code, _ := strings.Cut(outcome, ":")
	return code
}
