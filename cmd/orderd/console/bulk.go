package console

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/sheet"
)

// Bulk is what operators need of acts on many things; *bulk.Runs implements it, and documents its errors.
type Bulk interface {
	Look(ctx context.Context, kind bulk.Kind, f *bulk.Filter) (bulk.Preview, error)
	// TakesTwo reports that a second person has to have a run go on before anything of it is done.
	TakesTwo(kind bulk.Kind, sum payment.Fen) bool
	// Start is of what a person has counted: of another number nothing is done.
	Start(ctx context.Context, a *bulk.Ask) (bulk.Run, error)
	Stop(ctx context.Context, id, by, reason string) (bulk.Run, error)
	Resume(ctx context.Context, id, by, reason string) (bulk.Run, error)
	Passed(ctx context.Context, id string) (int64, error)
	Find(ctx context.Context, id string) (bulk.Run, error)
	List(ctx context.Context, cursor string, limit int) ([]bulk.Run, string, error)
	Rows(ctx context.Context, id string, state bulk.RowState, after int64, limit int) ([]bulk.Row, int64, error)
}

// bulkAPI is where the routes of runs stand.
const bulkAPI = "/admin/v1/bulk"

// bulkRoutes are about acts on many things. Each kind has its route, whose role is that of the act on one thing.
func (c *console) bulkRoutes() []route {
	var all []route
	for _, k := range bulk.Kinds() {
		all = append(all, route{http.MethodPost, bulkAPI + "/" + string(k), k.Role(), func(ctx echo.Context) error {
			return c.startBulk(ctx, k)
		}})
	}
	return append(append(all, c.bulkPages()...), []route{
		{http.MethodGet, bulkAPI, Viewer, c.listBulk},
		{http.MethodGet, bulkAPI + "/:id", Viewer, c.getBulk},
		{http.MethodGet, bulkAPI + "/:id/rows", Viewer, c.bulkRows},
		{http.MethodPost, bulkAPI + "/:id/stop", operatorOrFinance, c.stopBulk},
		{http.MethodPost, bulkAPI + "/:id/resume", operatorOrFinance, c.resumeBulk},
	}...)
}

// BulkView is a run as operators see it. Filter has the words of the list that it was made of; Done, Changed, Failed
// and Waiting are rows, and Total all of them.
type BulkView struct {
	ID        string            `json:"id"`
	Kind      bulk.Kind         `json:"kind"`
	Actor     string            `json:"actor"`
	Reason    string            `json:"reason"`
	Filter    map[string]string `json:"filter"`
	Total     int64             `json:"total"`
	Sum       payment.Fen       `json:"sum"`
	State     bulk.State        `json:"state"`
	Note      string            `json:"note"`
	Done      int64             `json:"done"`
	Changed   int64             `json:"changed"`
	Failed    int64             `json:"failed"`
	Waiting   int64             `json:"waiting"`
	CreatedAt time.Time         `json:"created_at"`
	EndedAt   *time.Time        `json:"ended_at"`
}

// ViewBulk shows a run.
func ViewBulk(r *bulk.Run) BulkView {
	return BulkView{r.ID, r.Kind, r.Actor, r.Reason, filterWords(r.Filter), r.Total, r.Sum, r.State, r.Note, r.Done,
		r.Changed, r.Failed, r.Waits(), r.CreatedAt, optional(r.EndedAt)}
}

// filterWords are the names and values of a filter's text.
func filterWords(text string) map[string]string {
	words := map[string]string{}
	values, err := url.ParseQuery(text)
	if err != nil {
		return words // no filter that was made here
	}
	for name := range values {
		words[name] = values.Get(name)
	}
	return words
}

// BulkPreview is what would be done: how many, what they come to, and the first of them. Seen stands for all of them.
type BulkPreview struct {
	DryRun bool        `json:"dry_run"`
	Kind   bulk.Kind   `json:"kind"`
	Count  int64       `json:"count"`
	Sum    payment.Fen `json:"sum"`
	Seen   string      `json:"seen"`
	First  []BulkRow   `json:"first"`
}

// ViewBulkPreview shows what would be done.
func ViewBulkPreview(k bulk.Kind, p *bulk.Preview) BulkPreview {
	v := BulkPreview{DryRun: true, Kind: k, Count: p.Count, Sum: p.Sum, Seen: p.Seen, First: []BulkRow{}}
	for i := range p.First {
		v.First = append(v.First, ViewBulkRow(&p.First[i]))
	}
	return v
}

// BulkRow is a row of a run; Ref is the number of the order, or of the refund.
type BulkRow struct {
	Seq     int64         `json:"seq"`
	Ref     string        `json:"ref"`
	Version int64         `json:"version"`
	Amount  payment.Fen   `json:"amount"`
	State   bulk.RowState `json:"state"`
	Detail  string        `json:"detail"`
}

// ViewBulkRow shows a row of a run.
func ViewBulkRow(r *bulk.Row) BulkRow {
	return BulkRow{r.Seq, r.Ref, r.Version, r.Amount, r.State, r.Detail}
}

// startBulk is POST /admin/v1/bulk/KIND: it says what would be done, unless dry_run is false. Then it needs the count
// and the digest that were said and an Idempotency-Key, a ULID that is the run's id: the same request again is the same
// run, as it is by then.
func (c *console) startBulk(ctx echo.Context, kind bulk.Kind) error {
	var body struct {
		Filter map[string]string `json:"filter"`
		Count  int64             `json:"count"`
		Seen   string            `json:"seen"`
		DryRun *bool             `json:"dry_run"`
		Reason string            `json:"reason"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	f, err := c.bulkFilter(ctx, kind, body.Filter)
	if err != nil {
		return err
	}
	if body.DryRun == nil || *body.DryRun {
		p, err := c.Bulk.Look(ctx.Request().Context(), kind, &f)
		if err != nil {
			return bulkError(err)
		}
		return ctx.JSON(http.StatusOK, ViewBulkPreview(kind, &p))
	}
	if err := needReason(body.Reason); err != nil {
		return err
	}
	if body.Seen == "" {
		return invalid("#/seen", bounds.CodeRequired, "it is needed")
	}
	id, _ := orderhttp.IdempotencyKey(ctx.Request().Header) // Start wants a ULID
	a := bulk.Ask{ID: id, Kind: kind, Filter: f, Count: body.Count, Seen: body.Seen, Actor: operator(ctx),
		Reason: body.Reason}
	run, err := c.Bulk.Start(ctx.Request().Context(), &a)
	if err != nil {
		return bulkError(err)
	}
	effect(ctx, "", run.ID+" "+strconv.FormatInt(run.Total, 10))
	return showBulk(ctx, &run)
}

// showBulk answers with a run: 202 while it is under way.
func showBulk(ctx echo.Context, run *bulk.Run) error {
	if run.State == bulk.StateRunning {
		return ctx.JSON(http.StatusAccepted, ViewBulk(run))
	}
	return ctx.JSON(http.StatusOK, ViewBulk(run))
}

// bulkParameters are the words of a filter: those of the list that a run is made of.
func bulkParameters(kind bulk.Kind) []string {
	if kind == bulk.KindApprove {
		return []string{"order_no", "transaction_id", "reason"}
	}
	return slices.DeleteFunc(slices.Clone(orderParameters), func(p string) bool {
		return p == "limit" || p == "cursor"
	})
}

// bulkFilter reads the words of a filter as the list of the same things does.
func (c *console) bulkFilter(ctx echo.Context, kind bulk.Kind, words map[string]string) (bulk.Filter, error) {
	values := url.Values{}
	known := bulkParameters(kind)
	var bad []order.FieldError
	for _, name := range slices.Sorted(maps.Keys(words)) {
		values.Set(name, words[name])
		switch {
		case !slices.Contains(known, name):
			bad = append(bad, order.FieldError{Pointer: "#/filter/" + name, Code: "UNKNOWN",
				Detail: "is not a parameter here; these are: " + strings.Join(known, ", ")})
		case words[name] == "":
			bad = append(bad, order.FieldError{Pointer: "#/filter/" + name, Code: bounds.CodeRequired,
				Detail: "it has no value; leave it out"})
		}
	}
	if bad != nil {
		return bulk.Filter{}, &orderhttp.Failure{Code: orderhttp.CodeValidation, Fields: bad}
	}
	list := ctx.Request().Clone(ctx.Request().Context())
	list.URL = &url.URL{Path: ctx.Request().URL.Path, RawQuery: values.Encode()}
	q := query{Context: ctx.Echo().NewContext(list, nil)}
	var f bulk.Filter
	if kind == bulk.KindApprove {
		f.Refunds = order.RefundFilter{OrderNo: values.Get("order_no"), TransactionID: values.Get("transaction_id"),
			Reason: q.refundReason()}
	} else {
		f.Orders = q.orders(q.time)
	}
	return f, bulkError(q.err())
}

// isTooMany reports that a filter finds more than a run may have.
func isTooMany(err error) bool { return errors.Is(err, bulk.ErrTooMany) }

// bulkError gives an error of package bulk its answer, and what is wrong with a filter its place in the body.
func bulkError(err error) error {
	var count *bulk.CountError
	const changed = "CHANGED" // the code of a field that says what was seen
	var failure *orderhttp.Failure
	var invalidFilter *order.ValidationError
	var fields []order.FieldError
	switch {
	case errors.As(err, &count):
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch, Text: orderhttp.Text{
			En: err.Error(), Zh: orderhttp.InChinese(err.Error())},
			Fields: []order.FieldError{{Pointer: "#/count", Code: changed, Detail: err.Error()}}}
	case errors.Is(err, bulk.ErrChanged):
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch, Text: orderhttp.Text{
			En: err.Error(), Zh: orderhttp.InChinese(err.Error())},
			Fields: []order.FieldError{{Pointer: "#/seen", Code: changed, Detail: err.Error()}}}
	case errors.Is(err, bulk.ErrSecond):
		return &orderhttp.Failure{Code: orderhttp.CodeForbidden, Text: orderhttp.Text{
			En: err.Error(), Zh: orderhttp.InChinese(err.Error())}}
	case errors.Is(err, bulk.ErrNotFound):
		return fail(orderhttp.CodeNotFound, "There is no such bulk run.")
	case errors.Is(err, bulk.ErrReused):
		return &orderhttp.Failure{Code: orderhttp.CodeKeyReused}
	case errors.Is(err, bulk.ErrID):
		return fail(orderhttp.CodeKeyRequired,
			"The Idempotency-Key of a bulk run is a ULID of yours: it is the run's id.")
	case errors.Is(err, bulk.ErrNone), errors.Is(err, bulk.ErrTooMany):
		return invalid("#/filter", bounds.CodeRange, err.Error())
	case errors.As(err, &failure) && failure.Code == orderhttp.CodeValidation:
		fields = failure.Fields
	case errors.As(err, &invalidFilter):
		fields = invalidFilter.Fields
	default:
		return err
	}
	for i, f := range fields {
		if name, parameter := strings.CutPrefix(f.Pointer, "?"); parameter {
			fields[i].Pointer = "#/filter/" + name
		}
	}
	return &orderhttp.Failure{Code: orderhttp.CodeValidation, Fields: fields}
}

// listBulk is GET /admin/v1/bulk: runs, the newest first.
func (c *console) listBulk(ctx echo.Context) error {
	q := query{Context: ctx}
	limit := q.limit()
	if err := q.err(); err != nil {
		return err
	}
	runs, next, err := c.Bulk.List(ctx.Request().Context(), ctx.QueryParam("cursor"), limit)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(runs, next, ViewBulk))
}

// getBulk is GET /admin/v1/bulk/:id.
func (c *console) getBulk(ctx echo.Context) error {
	run, err := c.Bulk.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return bulkError(err)
	}
	return ctx.JSON(http.StatusOK, ViewBulk(&run))
}

// bulkRows is GET /admin/v1/bulk/:id/rows: a page of what a run is done to, in its order; or all of it as CSV or a
// workbook, by Accept. state means the rows of one state.
func (c *console) bulkRows(ctx echo.Context) error {
	q := query{Context: ctx}
	state, limit, after := oneOf(&q, "state", bulk.RowStates()), q.limit(), q.place("cursor")
	if err := q.err(); err != nil {
		return err
	}
	run, err := c.Bulk.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return bulkError(err)
	}
	if media, ext, file := asFile(ctx.Request()); file {
		return c.sendTable(ctx, media, ext, "state", c.bulkTable(ctx.Request().Context(), &run, state))
	}
	rows, next, err := c.Bulk.Rows(ctx.Request().Context(), run.ID, state, after, limit)
	if err != nil {
		return err
	}
	cursor := ""
	if next > 0 {
		cursor = strconv.FormatInt(next, 10)
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(rows, cursor, ViewBulkRow))
}

// place reads the cursor of a list whose rows are numbered, 0 when it is absent or wrong.
func (q *query) place(name string) int64 {
	text := q.QueryParam(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		q.wrong(name, bounds.CodeFormat, bounds.ErrCursor.Error())
	}
	return n
}

// bulkTable is the rows of a run, all of them, read page by page.
func (c *console) bulkTable(ctx context.Context, run *bulk.Run, state bulk.RowState) sheet.Table {
	rows := func(yield func([]sheet.Cell, error) bool) {
		for after := int64(0); ; {
			page, next, err := c.Bulk.Rows(ctx, run.ID, state, after, maxRows)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				r := &page[i]
				if !yield([]sheet.Cell{sheet.Count(r.Seq), sheet.Text(r.Ref), sheet.Yuan(r.Amount),
					sheet.Text(string(r.State)), sheet.Text(r.Detail)}, nil) {
					return
				}
			}
			if after = next; next == 0 {
				return
			}
		}
	}
	return sheet.Table{Name: "Bulk-" + run.ID, Header: []string{"seq", "ref", "amount_yuan", "state", "detail"},
		Titles: []string{"序号 seq", "单号 ref", "金额(元) amount_yuan", "结果 state", "说明 detail"},
		Wide:   []string{"ref", "detail"}, Rows: rows}
}

// stopBulk is POST /admin/v1/bulk/:id/stop: the run ends after the row that is being done. Who may not start such a
// run may not stop it.
func (c *console) stopBulk(ctx echo.Context) error { return c.turnBulk(ctx, c.Bulk.Stop) }

// resumeBulk is POST /admin/v1/bulk/:id/resume: a run that was stopped goes on, in the name of whoever has started it.
// Who may not start such a run may not have it go on.
func (c *console) resumeBulk(ctx echo.Context) error { return c.turnBulk(ctx, c.Bulk.Resume) }

// turnBulk stops a run, or has it go on.
func (c *console) turnBulk(ctx echo.Context, turn func(ctx context.Context, id, by, reason string) (bulk.Run,
	error)) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	run, err := c.Bulk.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return bulkError(err)
	}
	if role, _ := ctx.Get(roleKey).(Role); !role.May(run.Kind.Role()) {
		return &orderhttp.Failure{Code: orderhttp.CodeForbidden}
	}
	if run, err = turn(ctx.Request().Context(), run.ID, operator(ctx), body.Reason); err != nil {
		return bulkError(err)
	}
	effect(ctx, "", string(run.State))
	return ctx.JSON(http.StatusOK, ViewBulk(&run))
}
