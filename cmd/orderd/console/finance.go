package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/reconcile"
	"orderd/payment/sheet"
)

// Closer is what finance needs to work off differences and to close days and months;
// *reconcile.Reconciler implements it, and documents its errors.
type Closer interface {
	Month(ctx context.Context, month string) (reconcile.Month, error)
	Difference(ctx context.Context, id string) (reconcile.Difference, error)
	Notes(ctx context.Context, ids ...string) (map[string][]reconcile.Note, error)
	// Assign, Comment and Import change nothing of money; Import resolves by the same Resolve as
	// everywhere.
	Assign(ctx context.Context, q reconcile.Assign) (reconcile.Difference, error)
	Comment(ctx context.Context, q reconcile.Comment) (reconcile.Note, error)
	WriteWork(ctx context.Context, w io.Writer, f reconcile.DifferenceFilter) error
	Import(ctx context.Context, q reconcile.Import) (reconcile.Imported, error)
	CloseDay(ctx context.Context, q reconcile.CloseDay) (reconcile.Closing, error)
	// Closable says whether CloseDay would succeed, and else why not.
	Closable(ctx context.Context, date string) error
	Closings(ctx context.Context, date string) ([]reconcile.Closing, error)
	// Replaced tells what another run of a bill would replace, nil while there is nothing.
	Replaced(ctx context.Context, id string) (*reconcile.Replaced, error)
	Pack(ctx context.Context, date string, seq int64) (*reconcile.Pack, error)
	// Across gives the rows of a day that stand in the bill of another one.
	Across(ctx context.Context, date string) (reconcile.AcrossRows, error)
	// Unapplied gives the payments of a day that made no order paid.
	Unapplied(ctx context.Context, date string) (reconcile.UnappliedOf, error)
}

// financeRoutes are finance's, reading them too, with the pages and the forms that take a file.
func (c *console) financeRoutes() []route {
	return slices.Concat(c.bookPages(), c.fileForms(), []route{
		{http.MethodGet, "/admin/v1/months/:month", Finance, c.getMonth},
		{http.MethodPost, "/admin/v1/reconciliations/:id/close", Finance, c.closeDay},
		{http.MethodGet, "/admin/v1/reconciliations/:id/closings", Finance, c.listClosings},
		{http.MethodGet, "/admin/v1/reconciliations/:id/proof", Finance, c.getProof},
		{http.MethodGet, "/admin/v1/differences/work.xlsx", Finance, c.getWork},
		{http.MethodPost, "/admin/v1/differences/import", Finance, c.importDry},
		{http.MethodPost, "/admin/v1/differences/import/apply", Finance, c.importApply},
		{http.MethodGet, "/admin/v1/differences/:id", Finance, c.getDifference},
		{http.MethodPost, "/admin/v1/differences/:id/assign", Finance, c.assignDifference},
		{http.MethodPost, "/admin/v1/differences/:id/comments", Finance, c.commentDifference},
	})
}

// FiguresView is what a day or a month comes to, in fen; the net is what is left of the bill after
// refunds and fees. Fees and net are in yuan, with as many places as they have.
type FiguresView struct {
	reconcile.Figures
	BillFen payment.Fen `json:"bill_fen"`
	OursFen payment.Fen `json:"ours_fen"`
	Fees    string      `json:"fees"`
	Net     string      `json:"net"`
}

// viewFigures shows figures.
func viewFigures(f *reconcile.Figures) FiguresView {
	return FiguresView{*f, f.BillFen(), f.OursFen(), f.Fees(), f.Net()}
}

// MonthDayView is a day of a month; figures are null without a result that counts. Open and Pending are of all bills
// of the day, also where it has no figures.
type MonthDayView struct {
	Date    string             `json:"bill_date"`
	State   reconcile.DayState `json:"state"`
	Figures *FiguresView       `json:"figures"`
	Open    int64              `json:"open"`
	Pending int64              `json:"pending_next_day"`
	Problem string             `json:"problem,omitempty"`
	SHA1    string             `json:"bill_sha1,omitempty"`
	Closed  bool               `json:"closed"`
	Closing *reconcile.Closing `json:"closing"`
}

// MonthView is a month with every day of it. Missing is how many days the sums lack.
type MonthView struct {
	Month    string         `json:"month"`
	Closed   bool           `json:"closed"`
	Balanced bool           `json:"balanced"`
	Missing  int            `json:"missing_days"`
	NotDue   int            `json:"not_due_days"`
	Sums     FiguresView    `json:"sums"`
	Days     []MonthDayView `json:"days"`
	// Lacks is what stands between the month and its closing, and the money that waits beside it.
	Lacks []reconcile.MonthLack `json:"lacks"`
}

// HeldMoney and RefundMoney are of *order.Service: what waits in money.
type (
	HeldMoney interface {
		HeldBacklog(ctx context.Context) (order.HeldBacklog, error)
	}
	RefundMoney interface {
		RefundBacklog(ctx context.Context) (order.RefundBacklog, error)
	}
)

// MonthLacks is what a month lacks before it can be closed: of its days, and the money that has waited since before its
// end, of whichever month that is.
func MonthLacks(ctx context.Context, m *reconcile.Month, orders HeldMoney, back RefundMoney) (
	all []reconcile.MonthLack, err error) {
	all = m.Lacks()
	held, err := orders.HeldBacklog(ctx)
	if err != nil {
		return nil, err
	}
	refunds, err := back.RefundBacklog(ctx)
	if err != nil {
		return nil, err
	}
	if held.Count > 0 && held.Oldest.Before(m.End()) {
		all = append(all, reconcile.MonthLack{What: reconcile.LackHeld, Count: held.Count, Fen: held.Amount})
	}
	open := reconcile.MonthLack{What: reconcile.LackRefunds}
	for state, n := range refunds.Count {
		if n > 0 && refunds.Oldest[state].Before(m.End()) {
			open.Count += n
			open.Fen += refunds.Amount[state]
		}
	}
	if open.Count > 0 {
		all = append(all, open)
	}
	return all, nil
}

// ViewMonth shows a month, and what it lacks.
func ViewMonth(m *reconcile.Month, lacks []reconcile.MonthLack) MonthView {
	v := MonthView{Month: m.Month, Closed: m.Closed, Balanced: m.Balanced(), Missing: m.Missing, NotDue: m.NotDue,
		Sums: viewFigures(&m.Sums), Days: []MonthDayView{}, Lacks: lacks}
	for i := range m.Days {
		d := &m.Days[i]
		day := MonthDayView{Date: d.Date, State: d.State, Open: d.Open, Pending: d.Pending,
			Problem: d.Problem, SHA1: d.SHA1, Closed: d.Closed(),
			Closing: d.Closing}
		if d.Figures != nil {
			f := viewFigures(d.Figures)
			day.Figures = &f
		}
		v.Days = append(v.Days, day)
	}
	return v
}

// getMonth is GET /admin/v1/months/:month: every day of it, or a file of them by Accept.
func (c *console) getMonth(ctx echo.Context) error {
	m, err := c.Reconciler.Month(ctx.Request().Context(), ctx.Param("month"))
	if err != nil {
		return reconcileError(err)
	}
	if media, ext, file := asFile(ctx.Request()); file {
		return c.sendMonth(ctx, media, ext, &m)
	}
	lacks, err := MonthLacks(ctx.Request().Context(), &m, c.Orders, c.Refunds)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, ViewMonth(&m, lacks))
}

// sendMonth sends a month as a file.
func (c *console) sendMonth(ctx echo.Context, media, ext string, m *reconcile.Month) error {
	return c.sendFile(ctx, media, "month-"+m.Month+"."+ext, "month", func(w io.Writer) error {
		if media == xlsxType {
			return reconcile.WriteMonthXLSX(w, m)
		}
		return reconcile.WriteMonthCSV(w, m)
	})
}

// dayOf is the day of a reconciliation that can be closed: that of all transactions.
func dayOf(id string) (string, error) {
	date, ok := strings.CutSuffix(id, "-"+string(payment.BillAll))
	if !ok {
		return "", fail(orderhttp.CodeValidation, "A day is closed, and proven, by its bill of all transactions: "+
			"YYYY-MM-DD-ALL.")
	}
	return date, nil
}

// closeDay is POST /admin/v1/reconciliations/:id/close: somebody's word that a day is done.
func (c *console) closeDay(ctx echo.Context) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	date, err := dayOf(ctx.Param("id"))
	if err != nil {
		return err
	}
	done, err := c.Reconciler.CloseDay(ctx.Request().Context(), reconcile.CloseDay{Date: date, Reason: body.Reason,
		Cause: byOperator(ctx)})
	if err != nil {
		return reconcileError(err)
	}
	c.Log.Info("day closed", "bill_date", done.Date, "by", done.Who, "manifest", done.Manifest)
	return ctx.JSON(http.StatusOK, done)
}

// byOperator is the cause of what finance does.
func byOperator(ctx echo.Context) reconcile.Cause {
	return reconcile.ByOperator(operator(ctx), "request", orderhttp.RequestID(ctx))
}

// listClosings is GET …/:id/closings: who closed a day, each time.
func (c *console) listClosings(ctx echo.Context) error {
	date, err := dayOf(ctx.Param("id"))
	if err != nil {
		return err
	}
	all, err := c.Reconciler.Closings(ctx.Request().Context(), date)
	if err != nil {
		return reconcileError(err)
	}
	return ctx.JSON(http.StatusOK, map[string]any{"data": all})
}

// zipType is the media type of an archive.
const zipType = "application/zip"

// getProof is GET …/:id/proof: the proof of a day as one ZIP; seq names an earlier closing.
func (c *console) getProof(ctx echo.Context) error {
	q := query{Context: ctx}
	seq := q.count("seq")
	date, err := dayOf(ctx.Param("id"))
	if err = errors.Join(q.err(), err); err != nil {
		return err
	}
	p, err := c.Reconciler.Pack(ctx.Request().Context(), date, seq)
	if err != nil {
		return reconcileError(err)
	}
	return c.sendFile(ctx, zipType, p.Name(), "seq", func(w io.Writer) error {
		return p.WriteZIP(ctx.Request().Context(), w)
	})
}

// differenceParameters are the filters of lists of differences.
var differenceParameters = []string{"status", "type", "order_no", "assignee", "age_days", "limit", "cursor"}

// count reads a whole number from 0 on, 0 when it is absent.
func (q *query) count(name string) int64 {
	text := q.QueryParam(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		q.wrong(name, bounds.CodeFormat, "want a whole number from 0 on")
	}
	return n
}

// differences reads the filters of a list of differences; where no status is said it is otherwise.
// assignee "-" is nobody.
func (q *query) differences(now time.Time, otherwise reconcile.Status) reconcile.DifferenceFilter {
	f := reconcile.DifferenceFilter{
		Status:  oneOf(q, "status", reconcile.Statuses()),
		Kind:    oneOf(q, "type", reconcile.Kinds()),
		OrderNo: q.QueryParam("order_no"), Assignee: q.QueryParam("assignee"), Cursor: q.QueryParam("cursor")}
	if _, said := q.QueryParams()["status"]; !said {
		f.Status = otherwise
	}
	f.OlderThan(now, int(q.count("age_days")))
	if f.Assignee == nobodys {
		f.Assignee = reconcile.Nobody
	}
	if f.Assignee != "" && f.Status == "" && f.OrderNo == "" && q.Param("id") == "" { // the id is that of a day
		q.wrong("assignee", "NEEDS_RANGE", "no index has it alone: say with status which of theirs, or of which order")
	}
	f.Limit = q.limit()
	return f
}

// nobodys is the assignee of what is assigned to nobody.
const nobodys = "-"

// getWork is GET /admin/v1/differences/work.xlsx: the differences of a filter as a workbook to be
// filled in and given back; without a status those that are open.
func (c *console) getWork(ctx echo.Context) error {
	q := query{Context: ctx}
	f := q.differences(c.Now(), reconcile.StatusOpen)
	if err := q.err(); err != nil {
		return err
	}
	return c.sendFile(ctx, xlsxType, "differences-work.xlsx", "assignee", func(w io.Writer) error {
		return c.Reconciler.WriteWork(ctx.Request().Context(), w, f)
	})
}

// importDry is POST /admin/v1/differences/import: what a filled workbook would do. Nothing is done.
func (c *console) importDry(ctx echo.Context) error { return c.importWork(ctx, false) }

// importApply is POST /admin/v1/differences/import/apply: what importDry has shown is done, row by
// row, by the same rules as single acts.
func (c *console) importApply(ctx echo.Context) error { return c.importWork(ctx, true) }

// importWork reads a workbook, the body of the request, and does what it wishes.
func (c *console) importWork(ctx echo.Context, apply bool) error {
	r := ctx.Request()
	if r.Header.Get(echo.HeaderContentType) != xlsxType {
		return &orderhttp.Failure{Code: orderhttp.CodeUnsupportedMedia}
	}
	free, err := c.taking()
	if err != nil {
		return err
	}
	defer free()
	body := slowly(ctx, reconcile.MaxImport)
	defer body.end()
	file, err := io.ReadAll(body)
	if err != nil {
		return uploadError(err)
	}
	done, err := c.imported(ctx, file, apply)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, done)
}

// imported gives a workbook to Import. It is not ended by the client: who goes away in the middle
// finds half of it done, and does not know which.
func (c *console) imported(ctx echo.Context, file []byte, apply bool) (reconcile.Imported, error) {
	work := ctx.Request().Context()
	if apply {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeout(context.WithoutCancel(work), importTimeout)
		defer cancel()
	}
	done, err := c.Reconciler.Import(work, reconcile.Import{File: file, Apply: apply, Cause: byOperator(ctx)})
	switch {
	case errors.Is(err, sheet.ErrNoWorkbook), errors.Is(err, sheet.ErrTooLong):
		return done, fail(orderhttp.CodeValidation, err.Error())
	case err != nil:
		return done, reconcileError(err)
	}
	effect(ctx, "", fmt.Sprintf("sha256=%s dry_run=%t outcomes=%v", done.SHA256, done.DryRun, done.Counts))
	if apply {
		c.Log.Info("differences imported", "sha256", done.SHA256, "by", operator(ctx), "outcomes", done.Counts)
	}
	return done, nil
}

// importTimeout bounds an import: some thousand transactions, and a question to WeChat Pay for a
// row that applies a payment.
const importTimeout = 10 * time.Minute

// getDifference is GET /admin/v1/differences/:id.
func (c *console) getDifference(ctx echo.Context) error {
	d, notes, err := c.difference(ctx)
	if err != nil {
		return err
	}
	v := c.viewDifference(&d)
	v.Notes = notes
	return ctx.JSON(http.StatusOK, v)
}

// difference reads a difference and its notes.
func (c *console) difference(ctx echo.Context) (reconcile.Difference, []reconcile.Note, error) {
	d, err := c.Reconciler.Difference(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return d, nil, reconcileError(err)
	}
	notes, err := c.Reconciler.Notes(ctx.Request().Context(), d.ID)
	return d, notes[d.ID], err
}

// assignDifference is POST /admin/v1/differences/:id/assign: who works on it from now on, "" for
// nobody. With from nothing is changed when it is somebody else's by now.
func (c *console) assignDifference(ctx echo.Context) error {
	var body struct {
		Assignee string  `json:"assignee"`
		From     *string `json:"from"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	d, err := c.Reconciler.Assign(ctx.Request().Context(), reconcile.Assign{ID: ctx.Param("id"), To: body.Assignee,
		From: body.From, Cause: byOperator(ctx)})
	if err != nil {
		return reconcileError(err)
	}
	return ctx.JSON(http.StatusOK, c.viewDifference(&d))
}

// commentDifference is POST /admin/v1/differences/:id/comments. With an Idempotency-Key it is said once.
func (c *console) commentDifference(ctx echo.Context) error {
	var body struct {
		Text string `json:"text"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	said := reconcile.Comment{ID: ctx.Param("id"), Text: body.Text, Cause: byOperator(ctx)}
	if key, fits := orderhttp.IdempotencyKey(ctx.Request().Header); fits {
		said.Key = reconcile.KeyOf(operator(ctx), key)
	} else if ctx.Request().Header.Get("Idempotency-Key") != "" {
		return &orderhttp.Failure{Code: orderhttp.CodeKeyRequired}
	}
	n, err := c.Reconciler.Comment(ctx.Request().Context(), said)
	if err != nil {
		return reconcileError(err)
	}
	return ctx.JSON(http.StatusOK, n)
}
