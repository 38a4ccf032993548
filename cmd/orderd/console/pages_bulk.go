package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/bulk"
	"orderd/payment"
)

// uiBulk is where the pages of runs stand.
const uiBulk = "/ui/bulk"

// bulkPages are the pages of runs; their acts are bulkActs.
func (c *console) bulkPages() []route {
	return []route{
		{http.MethodGet, uiBulk, Viewer, c.bulkPage},
		{http.MethodGet, uiBulk + "/:id", Viewer, c.runPage},
		{http.MethodGet, uiBulk + "/:id/rows.csv", Viewer, c.runFile},
	}
}

// bulkNames are the acts that start runs, by their kinds.
var bulkNames = map[bulk.Kind]string{bulk.KindClose: "bulk.close", bulk.KindAsk: "bulk.ask",
	bulk.KindApprove: "bulk.approve"}

// bulkActs start runs of what a list shows, stop them, and have them go on.
func (c *console) bulkActs() []act {
	var all []act
	for _, k := range bulk.Kinds() {
		name := bulkNames[k]
		a := act{name: name, path: uiBulk + "/" + strings.TrimPrefix(name, "bulk."),
			route: "POST " + bulkAPI + "/" + string(k), danger: k == bulk.KindClose, show: c.bulkSubject(k),
			fields: []field{{name: fieldFilter, kind: asHidden}, {name: fieldSeen, kind: asHidden, need: true},
				{name: "matched", kind: asCount, need: true, most: 12}, withReason, withKey}, body: bulkBody,
			begun: c.bulkBegun(k), to: func(form map[string]string) string {
				return uiBulk + "/" + url.PathEscape(form[fieldKey])
			}}
		if k != bulk.KindAsk { // asking takes nothing from anybody
			a.stepUp = always
		}
		if k == bulk.KindApprove {
			a.limit = limitRun
		}
		all = append(all, a)
	}
	return append(all, act{name: "bulk.stop", path: uiBulk + "/:id/stop", route: "POST " + bulkAPI + "/:id/stop",
		danger: true, fields: []field{withReason}, show: c.runSubject(bulk.StateRunning, "off.bulkended")},
		act{name: "bulk.resume", path: uiBulk + "/:id/resume", route: "POST " + bulkAPI + "/:id/resume", stepUp: always,
			limit: limitRun, fields: []field{withReason}, show: c.runSubject(bulk.StateStopped, "off.bulkgoes")})
}

// bulkBegun reports that what a form means has begun: a run of its key, of the same filter and person. What the filter
// finds by then is less, by what the run has done, and says nothing any more.
func (c *console) bulkBegun(kind bulk.Kind) func(ctx echo.Context, form map[string]string) (bool, error) {
	return func(ctx echo.Context, form map[string]string) (bool, error) {
		run, err := c.Bulk.Find(ctx.Request().Context(), form[fieldKey])
		switch {
		case errors.Is(err, bulk.ErrNotFound):
			return false, nil
		case err != nil:
			return false, err
		}
		f, err := c.bulkFilter(ctx, kind, filterWords(form[fieldFilter]))
		return err == nil && run.Kind == kind && run.Actor == operator(ctx) && run.Filter == f.Text(), err
	}
}

// fieldFilter is the filter that a run was counted by, in its own text: the page's address is not repeated.
const fieldFilter = "filter"

// bulkBody is the API's request for a run.
func bulkBody(_ *subject, form map[string]string) (map[string]any, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(form["matched"]), 10, 64)
	if err != nil {
		return nil, invalid("#/matched", bounds.CodeFormat, "it is a whole number, such as 12")
	}
	return map[string]any{"filter": filterWords(form[fieldFilter]), "count": n, "seen": form[fieldSeen],
		"dry_run": false, "reason": form["reason"]}, nil
}

// bulkSubject is what a list shows as what an act is about: how many, what they come to, and the first of them.
func (c *console) bulkSubject(kind bulk.Kind) func(ctx echo.Context) (subject, error) {
	return func(ctx echo.Context) (subject, error) {
		f, err := c.bulkAsked(ctx, kind)
		if err != nil {
			return subject{}, err
		}
		s := subject{values: map[string]string{fieldFilter: f.Text()}, back: listOf(kind, f.Text())}
		p, err := c.Bulk.Look(ctx.Request().Context(), kind, &f)
		switch {
		case isTooMany(err):
			s.off = "off.bulktoomany"
		case err != nil:
			return s, err
		case p.Count == 0:
			s.off = "off.bulknone"
		}
		l := languageOf(ctx.Request())
		s.facts = l.filterFacts(f.Text())
		if s.off != "" {
			return s, nil
		}
		s.values["matched"], s.values[fieldSeen] = strconv.FormatInt(p.Count, 10), p.Seen
		s.facts = append(s.facts, fact{"c.count", s.values["matched"], false}, fact{"c.sum", yuan(p.Sum), false})
		if c.Bulk.TakesTwo(kind, p.Sum) {
			s.facts = append(s.facts, fact{"c.approved", l.word("line.two"), false})
		}
		for i := range p.First {
			s.facts = append(s.facts, fact{"c.ofthem", p.First[i].Ref, true})
		}
		return s, nil
	}
}

// bulkAsked reads the filter of the list that the page was opened from, or of the form.
func (c *console) bulkAsked(ctx echo.Context, kind bulk.Kind) (bulk.Filter, error) {
	values, err := given(ctx)
	if err != nil {
		return bulk.Filter{}, err
	}
	if ctx.Request().Method == http.MethodGet && kind != bulk.KindApprove {
		f, _, err := c.orderFilters(ctx)
		return bulk.Filter{Orders: f}, err
	}
	words := filterWords(values.Get(fieldFilter))
	if ctx.Request().Method == http.MethodGet {
		words = map[string]string{}
		for name := range values {
			words[name] = values.Get(name)
		}
	}
	return c.bulkFilter(ctx, kind, words)
}

// listOf is the page of the list that a run is made of.
func listOf(kind bulk.Kind, text string) string {
	if kind == bulk.KindApprove {
		return "/ui/refunds"
	}
	if text == "" {
		return uiOrders
	}
	return uiOrders + "?" + text
}

// filterFacts say a filter in words.
func (l lang) filterFacts(text string) []fact {
	var all []fact
	words := filterWords(text)
	for _, w := range []struct{ name, word string }{{"state", "c.state"}, {"customer_id", "c.customer"},
		{"sku_id", "c.sku"}, {"created_from", "f.from"}, {"created_to", "f.to"}, {"amount_min", "f.min"},
		{"amount_max", "f.max"}, {"trade_type", "f.trade"}, {"stuck", "f.stuck"}, {"reason", "c.why"}} {
		value, given := words[w.name]
		if !given {
			continue
		}
		delete(words, w.name)
		all = append(all, fact{w.word, l.filterValue(w.name, value), false})
	}
	rest := url.Values{}
	for name, value := range words {
		rest.Set(name, value)
	}
	for _, pair := range strings.Split(rest.Encode(), "&") {
		if pair, err := url.QueryUnescape(pair); err == nil && pair != "" {
			all = append(all, fact{"c.filter", pair, false})
		}
	}
	if len(all) == 0 {
		all = []fact{{"c.filter", l.word("f.none"), false}}
	}
	return all
}

// filterValue says the value of a word of a filter.
func (l lang) filterValue(name, value string) string {
	switch name {
	case "state":
		return l.look("order", value).Word
	case "reason":
		return l.word("reason." + value)
	case "stuck":
		return l.word("yes")
	case "amount_min", "amount_max":
		n, _ := strconv.ParseInt(value, 10, 64) // it was read before
		return yuan(payment.Fen(n))
	case "created_from", "created_to":
		if t, err := time.Parse(time.RFC3339, value); err == nil {
			return clock(t)
		}
	}
	return value
}

// runSubject is a run as what an act is about that is for those in a state; off says why it is not for others.
func (c *console) runSubject(state bulk.State, off string) func(ctx echo.Context) (subject, error) {
	return func(ctx echo.Context) (subject, error) {
		run, err := c.Bulk.Find(ctx.Request().Context(), ctx.Param("id"))
		if err != nil {
			return subject{}, bulkError(err)
		}
		l := languageOf(ctx.Request())
		s := subject{back: uiBulk + "/" + url.PathEscape(run.ID), facts: []fact{
			{"c.act", l.word("act." + bulkNames[run.Kind]), false}, {"c.who", run.Actor, false},
			{"c.count", strconv.FormatInt(run.Total, 10), false}, {"c.sum", yuan(run.Sum), false},
			{"c.undone", strconv.FormatInt(run.Waits(), 10), false}}}
		switch {
		case run.State != state:
			s.off = off
		case state == bulk.StateStopped && run.Actor == operator(ctx) && c.Bulk.TakesTwo(run.Kind, run.Sum):
			s.off = "off.bulktwo"
		}
		return s, nil
	}
}

// bulkLinks are the acts on all that a list shows, for the words of its address.
func (c *console) bulkLinks(ctx echo.Context, asked url.Values, kinds ...bulk.Kind) []link {
	if c.Bulk == nil {
		return nil
	}
	var names []string
	for _, k := range kinds {
		names = append(names, bulkNames[k])
	}
	some := url.Values{}
	for name, values := range asked {
		if name != "limit" && name != "cursor" { // an act is on all, not on a page
			some[name] = values
		}
	}
	all := c.links(ctx, nil, names...)
	for i := range all {
		all[i].Path = withQuery(all[i].Path, some)
	}
	return all
}

// runRow is a run in a list.
type runRow struct {
	bulk.Run
	Act   string // the name of the act that started it
	Facts []fact
}

// runRowOf shows a run in a language.
func (l lang) runRowOf(run *bulk.Run) runRow {
	row := runRow{*run, bulkNames[run.Kind], l.filterFacts(run.Filter)}
	// What people have written stays as it is.
	if slices.Contains(bulk.Notes(), row.Note) {
		row.Note = l.says(row.Note)
	}
	return row
}

// bulkPage is GET /ui/bulk: the runs, the newest first.
func (c *console) bulkPage(ctx echo.Context) error {
	runs, next, err := c.Bulk.List(ctx.Request().Context(), ctx.QueryParam("cursor"), defaultRows)
	if err != nil {
		return err
	}
	rows := make([]runRow, len(runs))
	for i := range runs {
		rows[i] = languageOf(ctx.Request()).runRowOf(&runs[i])
	}
	first := ""
	if ctx.QueryParam("cursor") != "" {
		first = uiBulk
	}
	return c.show(ctx, "bulk", map[string]any{"Runs": rows, "First": first, "Next": pageAfter(uiBulk, next)})
}

// refreshKey is where a page says in the echo.Context that it is loaded anew by itself, every so many seconds.
const refreshKey = "refresh"

// runSeconds is how often the page of a run that is under way is loaded anew.
const runSeconds = 3

// runPart is how many rows of a state a run has, and the page that has them.
type runPart struct {
	State   bulk.RowState
	Count   int64
	Path    string
	Current bool
}

// runPage is GET /ui/bulk/:id: how far a run is, and what came of each row, of one state or of all.
func (c *console) runPage(ctx echo.Context) error {
	q := query{Context: ctx}
	state, after := oneOf(&q, "state", bulk.RowStates()), q.place("cursor")
	if err := q.err(); err != nil {
		return err
	}
	run, err := c.Bulk.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return bulkError(err)
	}
	rows, next, err := c.Bulk.Rows(ctx.Request().Context(), run.ID, state, after, defaultRows)
	if err != nil {
		return err
	}
	path, cursor := uiBulk+"/"+url.PathEscape(run.ID), ""
	if next > 0 {
		cursor = strconv.FormatInt(next, 10)
	}
	v := map[string]any{"Run": languageOf(ctx.Request()).runRowOf(&run), "Rows": rowsOf(&run, rows),
		"Parts": partsOf(&run, path, state), "CSV": path + "/rows.csv", "All": path,
		"List": listOf(run.Kind, run.Filter), "Ended": run.Total - run.Waits(), "Every": 0}
	if state != "" {
		path += "?state=" + string(state)
	}
	v["Next"] = pageAfter(path, cursor)
	if v["Passed"], err = c.Bulk.Passed(ctx.Request().Context(), run.ID); err != nil {
		return err
	}
	v["Acts"] = c.runActs(ctx, &run)
	if run.State == bulk.StateRunning {
		v["Every"] = runSeconds
		ctx.Set(refreshKey, runSeconds)
	}
	return c.show(ctx, "run", v)
}

// runActs are what whoever asks may do with a run.
func (c *console) runActs(ctx echo.Context, run *bulk.Run) []link {
	role, _ := ctx.Get(roleKey).(Role)
	name := map[bulk.State]string{bulk.StateRunning: "bulk.stop", bulk.StateStopped: "bulk.resume"}[run.State]
	if name == "" || !role.May(run.Kind.Role()) || name == "bulk.resume" && run.Actor == operator(ctx) &&
		c.Bulk.TakesTwo(run.Kind, run.Sum) {
		return nil
	}
	return c.links(ctx, []string{run.ID}, name)
}

// runLine is a row of a run, and the page of what it is about.
type runLine struct {
	bulk.Row
	Page string
}

// rowsOf are rows with the pages of their orders.
func rowsOf(run *bulk.Run, rows []bulk.Row) []runLine {
	all := make([]runLine, len(rows))
	for i := range rows {
		all[i] = runLine{rows[i], uiOrders + "/" + url.PathEscape(rows[i].Ref)}
		if run.Kind == bulk.KindApprove {
			no, _, _ := strings.Cut(rows[i].Ref, "-") // the number of a refund begins with its order's
			all[i].Page = uiOrders + "/" + url.PathEscape(no) + "#refunds"
		}
	}
	return all
}

// partsOf are what came of the rows so far.
func partsOf(run *bulk.Run, path string, at bulk.RowState) []runPart {
	count := map[bulk.RowState]int64{bulk.RowWaiting: run.Waits(), bulk.RowDone: run.Done,
		bulk.RowChanged: run.Changed, bulk.RowFailed: run.Failed}
	var all []runPart
	for _, s := range bulk.RowStates() {
		if s != bulk.RowDoing { // one of those that wait
			all = append(all, runPart{s, count[s], path + "?state=" + string(s), s == at})
		}
	}
	return all
}

// runFile is GET /ui/bulk/:id/rows.csv: all rows of a run.
func (c *console) runFile(ctx echo.Context) error {
	run, err := c.Bulk.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return bulkError(err)
	}
	return c.sendTable(ctx, csvType, "csv", "state", c.bulkTable(ctx.Request().Context(), &run, ""))
}

// bulkListParameters are those that the list of orders has and that a run may be made of.
func bulkListParameters() []string {
	return slices.DeleteFunc(slices.Clone(pageParameters), func(p string) bool { return p == "cursor" || p == "limit" })
}
