package console

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// Reconciler is what finance needs of reconciliation; *reconcile.Reconciler implements
// it, and documents its errors.
type Reconciler interface {
	// Run reconciles one bill whole; it may be repeated at any time, and is refused with
	// ErrRunning while another process does the same.
	Run(ctx context.Context, q reconcile.RunRequest) (reconcile.Result, error)
	// List and Show give what the last run of each bill found.
	List(ctx context.Context, before string, limit int) ([]reconcile.Stored, error)
	Show(ctx context.Context, id string) (reconcile.Stored, error)
	// Confirm lets a file that somebody gave count, by a second person's word; Files tells of
	// the bills of a day and who gave them.
	Confirm(ctx context.Context, q reconcile.Confirmation) (reconcile.Result, error)
	Files(ctx context.Context, id string) ([]reconcile.BillFile, error)
	// OpenBill gives the bill as WeChat Pay made it; the caller closes it.
	OpenBill(ctx context.Context, id string) (io.ReadCloser, reconcile.Stored, error)
	// Differences gives a page. Export gives a reconciliation with its differences, as of one
	// moment.
	Differences(ctx context.Context, f reconcile.DifferenceFilter) ([]reconcile.Difference, error)
	Export(ctx context.Context, id string, f reconcile.DifferenceFilter) (reconcile.Stored, []reconcile.Difference,
		error)
	// Resolve does what a person decided. Money moves by the same methods as everywhere.
	Resolve(ctx context.Context, q reconcile.Resolve) (reconcile.Difference, error)
	// Open sums up what nobody has resolved, for gauges and the first page.
	Open(ctx context.Context) (reconcile.Open, error)
	Closer
}

// Bounds of reconciliation over HTTP.
const (
	// maxUpload bounds a bill that is uploaded, in bytes: 1 GiB is some four million
	// rows.
	maxUpload = 1 << 30
	// runTimeout bounds a run that was started here. A million rows take some seconds;
	// the rest is for a WeChat Pay that lets every call wait.
	runTimeout = 2 * time.Hour
)

// reconcileRoutes are finance's, reading them too: a bill has the turnover of the shop.
func (c *console) reconcileRoutes() []route {
	return []route{
		{http.MethodGet, "/admin/v1/reconciliations", Finance, c.listReconciliations},
		{http.MethodPost, "/admin/v1/reconciliations", Finance, c.startReconciliation},
		{http.MethodGet, "/admin/v1/reconciliations/:id", Finance, c.getReconciliation},
		{http.MethodPost, "/admin/v1/reconciliations/:id/confirm", Finance, c.confirmBill},
		{http.MethodGet, "/admin/v1/reconciliations/:id/bill", Finance, c.getBill},
		{http.MethodGet, "/admin/v1/reconciliations/:id/differences", Finance, c.listDifferences},
		{http.MethodGet, "/admin/v1/differences", Finance, c.listDifferences},
		{http.MethodPost, "/admin/v1/differences/:id/resolve", Finance, c.resolveDifference},
	}
}

// ReconciliationView is a day and type of bill, with the result of its last run.
type ReconciliationView struct {
	// ID is day and type, 2026-11-19-ALL. The day is one of Beijing, as WeChat Pay's.
	ID       string           `json:"id"`
	BillDate string           `json:"bill_date"`
	BillType payment.BillType `json:"bill_type"`
	State    string           `json:"state"`
	// SHA1 is of the bill's bytes, in hex; WeChat Pay gives it with the address of a
	// bill.
	SHA1       string     `json:"bill_sha1,omitempty"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Problem    string     `json:"problem,omitempty"`
	// Source is wechat or file; Counts says that the bill counts for the day. Files are all
	// bills that came for it; of one day only, not in lists.
	Source reconcile.Source     `json:"source"`
	Counts bool                 `json:"counts"`
	Files  []reconcile.BillFile `json:"files,omitempty"`
	// Balanced says that no difference is open; false also for a run without a result,
	// whose Problem says why.
	Balanced bool              `json:"balanced"`
	Result   *reconcile.Result `json:"result"`
}

// ViewReconciliation shows a stored run; one without a result is not balanced.
func ViewReconciliation(s *reconcile.Stored) ReconciliationView {
	return ReconciliationView{
		ID:         s.ID(),
		BillDate:   s.Date,
		BillType:   s.Type,
		State:      s.State,
		SHA1:       s.SHA1,
		StartedAt:  optional(s.StartedAt),
		FinishedAt: optional(s.FinishedAt),
		Problem:    s.Problem,
		Source:     s.Source,
		Counts:     s.Counts,
		Balanced:   s.Result != nil && s.Result.Balanced(),
		Result:     s.Result,
	}
}

// DifferenceView is a difference between a bill and our records. amount_diff is bill less
// ours, in fen; local or bill is null for the side that has no row.
type DifferenceView struct {
	// ID is the number for …/differences/:id/resolve. Ref is the number by which the two
	// sides are matched.
	ID            string           `json:"id"`
	BillDate      string           `json:"bill_date"`
	BillType      payment.BillType `json:"bill_type"`
	Type          reconcile.Kind   `json:"type"`
	Label         string           `json:"label"`
	Ref           string           `json:"ref"`
	OrderNo       string           `json:"order_no,omitempty"`
	OutTradeNo    string           `json:"out_trade_no,omitempty"`
	TransactionID string           `json:"transaction_id,omitempty"`
	Local         *sideView        `json:"local"`
	Bill          *billSideView    `json:"bill"`
	AmountDiff    payment.Fen      `json:"amount_diff"`
	AgeDays       int              `json:"age_days"`
	// Status is OPEN, PENDING_NEXT_DAY (a payment around midnight may be in the next
	// bill), RESOLVED or WRITTEN_OFF.
	Status   reconcile.Status `json:"status"`
	OpenedAt time.Time        `json:"opened_at"`
	// Source is where the bill came from that it was found in first, GivenBy who gave a file.
	Source  reconcile.Source `json:"source,omitempty"`
	GivenBy string           `json:"given_by,omitempty"`
	// WaitsFor is the day whose bill may have it, of a row near midnight; PendingUntil is
	// until when a pending one waits. Actions are what can be done about it as it stands.
	WaitsFor     string             `json:"waits_for,omitempty"`
	PendingUntil *time.Time         `json:"pending_until,omitempty"`
	Actions      []reconcile.Action `json:"actions"`
	// Choices say of each action how many people it takes and what will happen.
	Choices []ChoiceView `json:"choices"`
	// Assignee works on it. Version changes with what a decision rests on: see resolve.
	Assignee string `json:"assignee,omitempty"`
	Version  string `json:"version"`
	// Notes are what was said and done about it, oldest first; not in lists.
	Notes []reconcile.Note `json:"notes,omitempty"`
	// ProposedBy has asked for a write-off, which somebody else must ask for too.
	ProposedBy  string     `json:"proposed_by,omitempty"`
	ProposedWhy string     `json:"proposed_why,omitempty"`
	Resolution  string     `json:"resolution,omitempty"`
	ResolvedBy  string     `json:"resolved_by,omitempty"`
	ResolvedWhy string     `json:"resolved_why,omitempty"`
	ResolvedAt  *time.Time `json:"resolved_at"`
}

// ChoiceView is an action that can be taken.
type ChoiceView struct {
	Action reconcile.Action `json:"action"`
	People int              `json:"people"`
	Does   string           `json:"does"`
}

// viewChoices shows what can be done.
func viewChoices(actions []reconcile.Action) []ChoiceView {
	all := []ChoiceView{}
	for _, a := range actions {
		all = append(all, ChoiceView{a, a.People(), a.Does()})
	}
	return all
}

// sideView is what we have: the amount in fen and the state of the payment or refund.
type sideView struct {
	Total payment.Fen `json:"total"`
	State string      `json:"state"`
}

// billSideView is what the bill has, and in which line of its file. Facts are the other
// columns of that line, for the person who looks.
type billSideView struct {
	Line  int64           `json:"line"`
	Total payment.Fen     `json:"total"`
	State string          `json:"state"`
	Facts reconcile.Facts `json:"facts"`
	// FactsProblem says why the facts could not be read, and are empty.
	FactsProblem string `json:"facts_problem,omitempty"`
}

// ViewDifference shows a difference, with its age in whole days.
func ViewDifference(d *reconcile.Difference, now time.Time) DifferenceView {
	v := DifferenceView{
		ID:            d.ID,
		BillDate:      d.Date,
		BillType:      d.Type,
		Type:          d.Kind,
		Label:         d.Kind.Label(),
		Ref:           d.Ref,
		OrderNo:       d.OrderNo,
		OutTradeNo:    d.OutTradeNo,
		TransactionID: d.TransactionID,
		AmountDiff:    d.Diff(),
		AgeDays:       d.AgeDays(now),
		Status:        d.Status,
		OpenedAt:      d.OpenedAt,
		Source:        d.Source,
		GivenBy:       d.GivenBy,
		WaitsFor:      d.WaitsFor,
		PendingUntil:  optional(d.PendingUntil),
		Actions:       d.Allowed(),
		Choices:       viewChoices(d.Allowed()),
		Assignee:      d.Assignee,
		Version:       d.Version(),
		ProposedBy:    d.ProposedBy,
		ProposedWhy:   d.ProposedWhy,
		Resolution:    d.Resolution,
		ResolvedBy:    d.ResolvedBy,
		ResolvedWhy:   d.ResolvedWhy,
		ResolvedAt:    optional(d.ResolvedAt),
	}
	if d.OursState != "" {
		v.Local = &sideView{d.OursFen, d.OursState}
	}
	if d.Line > 0 {
		v.Bill = &billSideView{d.Line, d.BillFen, d.BillState, d.Facts, d.FactsProblem}
	}
	return v
}

// viewDifference is ViewDifference now.
func (c *console) viewDifference(d *reconcile.Difference) DifferenceView {
	return ViewDifference(d, c.Now())
}

// reconcileError gives reconciliation's errors their codes; the others, those of the
// database and of WeChat Pay, are in the table of package orderhttp.
func reconcileError(err error) error {
	switch {
	case errors.Is(err, reconcile.ErrNotFound):
		return &orderhttp.Failure{Code: orderhttp.CodeDifferenceUnknown, Err: err}
	case errors.Is(err, reconcile.ErrKeyReused):
		return &orderhttp.Failure{Code: orderhttp.CodeKeyReused, Err: err}
	case errors.Is(err, reconcile.ErrRunning):
		return &orderhttp.Failure{Code: orderhttp.CodeRunInProgress, Err: err}
	case errors.Is(err, reconcile.ErrRequest), errors.Is(err, reconcile.ErrBadBill),
		errors.Is(err, reconcile.ErrResolved), errors.Is(err, reconcile.ErrChanged),
		errors.Is(err, reconcile.ErrNotClosable):
		return fail(orderhttp.CodeValidation, err.Error())
	case errors.Is(err, reconcile.ErrProof): // somebody has had a hand on it: no repeat helps
		return &orderhttp.Failure{Code: orderhttp.CodeInternal, Err: err, Text: orderhttp.Text{En: err.Error(),
			Zh: orderhttp.InChinese(err.Error())}}
	case errors.Is(err, reconcile.ErrSecondPerson):
		return fail(orderhttp.CodeForbidden, err.Error())
	}
	return err
}

// listReconciliations is GET /admin/v1/reconciliations: a page of runs, newest day first.
func (c *console) listReconciliations(ctx echo.Context) error {
	limit, err := limitOf(ctx)
	if err != nil {
		return fail(orderhttp.CodeValidation, "limit is 1 to 200")
	}
	all, err := c.Reconciler.List(ctx.Request().Context(), ctx.QueryParam("cursor"), limit+1)
	if err != nil {
		return err
	}
	cursor := func(s *reconcile.Stored) string { return s.ID() }
	return ctx.JSON(http.StatusOK, orderhttp.FirstPageOf(all, limit, ViewReconciliation, cursor))
}

// getReconciliation shows one run by its id, 2026-11-19-ALL.
func (c *console) getReconciliation(ctx echo.Context) error {
	s, err := c.Reconciler.Show(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return reconcileError(err)
	}
	v := ViewReconciliation(&s)
	if v.Files, err = c.Reconciler.Files(ctx.Request().Context(), s.ID()); err != nil {
		return reconcileError(err)
	}
	return ctx.JSON(http.StatusOK, v)
}

// confirmBill is POST …/:id/confirm: a second person says that a file that somebody gave is
// WeChat Pay's. It reconciles the day with it and answers with the result.
func (c *console) confirmBill(ctx echo.Context) error {
	var body struct {
		SHA1   string `json:"sha1"`
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	res, err := c.Reconciler.Confirm(ctx.Request().Context(), reconcile.Confirmation{ID: ctx.Param("id"),
		SHA1: body.SHA1, Reason: body.Reason,
		Cause: reconcile.ByOperator(operator(ctx), "request", orderhttp.RequestID(ctx))})
	if err != nil {
		return reconcileError(err)
	}
	return ctx.JSON(http.StatusOK, res)
}

// startReconciliation is POST /admin/v1/reconciliations. It starts a run and answers 202,
// because a day may take minutes; how far it is can be read at its Location. A bill may
// come along as a file, instead of the one that WeChat Pay has. What fails later is in
// the log and in the stored run.
func (c *console) startReconciliation(ctx echo.Context) error {
	q, err := c.start(ctx)
	if err != nil {
		return err
	}
	id := reconcile.ID(q.Date, q.Type)
	at := "/admin/v1/reconciliations/" + id
	ctx.Response().Header().Set("Location", at)
	return ctx.JSON(http.StatusAccepted, map[string]string{"id": id, "bill_date": q.Date, "bill_type": string(q.Type),
		"location": at})
}

// start starts the run that a request asks for.
func (c *console) start(ctx echo.Context) (reconcile.RunRequest, error) {
	q, file, err := c.readRun(ctx)
	if err != nil {
		return q, err
	}
	id := reconcile.ID(q.Date, q.Type)
	if file != nil { // its form is not read before it is begun
		effect(ctx, "", id+" by a bill that was given")
	}
	by := reconcile.ByOperator(operator(ctx), "request", orderhttp.RequestID(ctx))
	// A courtesy, and no lock: without it a second click would have 202 for a run that is
	// then refused, which only the log would say.
	if s, err := c.Reconciler.Show(ctx.Request().Context(), id); err == nil && c.underWay(&s) {
		discard(file)
		return q, &orderhttp.Failure{Code: orderhttp.CodeRunInProgress}
	}
	run := func(ctx context.Context) {
		defer discard(file)
		ctx, cancel := context.WithTimeout(ctx, runTimeout)
		defer cancel()
		q := q
		if file != nil {
			q.File, q.By = file, by
		}
		if _, err := c.Reconciler.Run(ctx, q); err != nil {
			c.Log.Warn("reconciliation", "id", id, "err", err)
		}
	}
	// Not ended by the client: it has no more to do with it.
	if c.Background == nil {
		run(context.WithoutCancel(ctx.Request().Context()))
	} else {
		c.Background(run)
	}
	return q, nil
}

// justStarted is how long after its start a run that has not said its end is taken to be
// alive. An older one may have died with its process: it is started again, and package
// reconcile refuses two at once by a lock of its own.
const justStarted = 30 * time.Second

// underWay reports that a run was started so lately that it surely lives.
func (c *console) underWay(s *reconcile.Stored) bool {
	return s.State == "running" && s.FinishedAt.Before(s.StartedAt) && c.Now().Sub(s.StartedAt) < justStarted
}

// discard closes and removes an uploaded file; nil is none. A file that cannot be removed
// is left to whoever cleans the folder of temporary files.
func discard(f *os.File) {
	if f != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
}

// readRun reads a request to reconcile: JSON, or a form with the file, which the caller
// discards. The day must have begun in Beijing; whether its bill is out is WeChat Pay's
// to say. Without a type it is ALL.
func (c *console) readRun(ctx echo.Context) (reconcile.RunRequest, *os.File, error) {
	var body struct {
		BillDate string           `json:"bill_date"`
		BillType payment.BillType `json:"bill_type"`
		Reason   string           `json:"reason"`
	}
	var file *os.File
	media, params, _ := mime.ParseMediaType(ctx.Request().Header.Get(echo.HeaderContentType))
	if media == "multipart/form-data" {
		var err error
		if file, err = c.upload(ctx, params["boundary"], map[string]func(string){
			"bill_date": func(v string) { body.BillDate = v },
			"bill_type": func(v string) { body.BillType = payment.BillType(v) },
			"reason":    func(v string) { body.Reason = v },
		}); err != nil {
			return reconcile.RunRequest{}, nil, err
		}
	} else if err := decode(ctx, &body); err != nil {
		return reconcile.RunRequest{}, nil, err
	}
	if body.BillType == "" {
		body.BillType = payment.BillAll
	}
	var bad []order.FieldError
	if wrong := bounds.Note.Check(body.Reason); wrong != nil {
		bad = append(bad, order.FieldError{Pointer: "#/reason", Code: wrong.Code, Detail: wrong.Detail})
	}
	if _, err := time.Parse(time.DateOnly, body.BillDate); err != nil || body.BillDate > reconcile.Day(c.Now()) {
		bad = append(bad, order.FieldError{Pointer: "#/bill_date", Code: "FORMAT",
			Detail: "a day of Beijing that has begun is needed, YYYY-MM-DD"})
	}
	types := []payment.BillType{payment.BillAll, payment.BillSuccess, payment.BillRefund, payment.BillFundFlow}
	if !slices.Contains(types, body.BillType) {
		bad = append(bad, order.FieldError{Pointer: "#/bill_type", Code: "ENUM",
			Detail: "ALL, SUCCESS, REFUND or FUNDFLOW"})
	}
	if bad != nil {
		discard(file)
		return reconcile.RunRequest{}, nil, &orderhttp.Failure{Code: orderhttp.CodeValidation, Fields: bad}
	}
	c.Log.Info("reconciliation asked for", "id", reconcile.ID(body.BillDate, body.BillType), "by", operator(ctx),
		"reason", body.Reason)
	return reconcile.RunRequest{Date: body.BillDate, Type: body.BillType}, file, nil
}

// getBill is GET …/:id/bill: the bill as WeChat Pay made it, with its SHA-1, by which a
// copy that finance has kept can be compared.
func (c *console) getBill(ctx echo.Context) error {
	f, s, err := c.Reconciler.OpenBill(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return reconcileError(err)
	}
	defer f.Close()
	h := ctx.Response().Header()
	h.Set("X-Bill-SHA1", s.SHA1)
	h.Set(echo.HeaderContentDisposition, `attachment; filename="`+s.ID()+`.csv"`)
	return ctx.Stream(http.StatusOK, "text/csv; charset=utf-8", f)
}

// listDifferences is GET /admin/v1/differences and GET …/reconciliations/:id/differences:
// a page as JSON, or all as CSV or a workbook, by Accept.
func (c *console) listDifferences(ctx echo.Context) error {
	q := query{Context: ctx}
	f := q.differences(c.Now(), "")
	limit := f.Limit
	if err := q.err(); err != nil {
		return err
	}
	if media, ext, file := asFile(ctx.Request()); file {
		return c.export(ctx, f, media, ext)
	}
	f.Limit = limit + 1
	_, all, err := c.Reconciler.Export(ctx.Request().Context(), ctx.Param("id"), f)
	if err != nil {
		return reconcileError(err)
	}
	cursor := func(d *reconcile.Difference) string { return d.ID }
	return ctx.JSON(http.StatusOK, orderhttp.FirstPageOf(all, limit, c.viewDifference, cursor))
}

// xlsxType is the media type of a workbook (ECMA-376).
const xlsxType = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

// export sends all differences that a filter means as a file of a media type, with the
// extension that its name has: a workbook has the bridge of the day too. They are read before the status is sent.
func (c *console) export(ctx echo.Context, f reconcile.DifferenceFilter, media, ext string) error {
	f.Limit = 0
	id := ctx.Param("id")
	s, all, err := c.Reconciler.Export(ctx.Request().Context(), id, f)
	if err != nil {
		return reconcileError(err)
	}
	var res reconcile.Result
	if s.Result != nil {
		res = *s.Result
	}
	name := "differences"
	if id != "" {
		name += "-" + s.ID()
	}
	return c.sendFile(ctx, media, name+"."+ext, "type", func(w io.Writer) error {
		if media == xlsxType {
			return reconcile.WriteXLSX(w, res, all)
		}
		return reconcile.WriteCSV(w, all)
	})
}

// dayFile is GET /ui/reconciliations/:id/day.csv and .xlsx: what listDifferences gives whoever can say Accept.
func (c *console) dayFile(ctx echo.Context) error {
	q := query{Context: ctx}
	f := q.differences(c.Now(), "")
	if err := q.err(); err != nil {
		return err
	}
	media, ext := fileOf(ctx)
	return c.export(ctx, f, media, ext)
}

// resolveDifference is POST /admin/v1/differences/:id/resolve: what a person decided. A
// write-off takes two of them; the first gets the difference back as it is, still open,
// with his name in proposed_by.
func (c *console) resolveDifference(ctx echo.Context) error {
	var body struct {
		Action  reconcile.Action `json:"action"`
		Reason  string           `json:"reason"`
		Version string           `json:"version"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	d, err := c.Reconciler.Resolve(ctx.Request().Context(), reconcile.Resolve{
		ID:      ctx.Param("id"),
		Action:  body.Action,
		Reason:  body.Reason,
		Version: body.Version,
		Cause:   reconcile.ByOperator(operator(ctx), "request", orderhttp.RequestID(ctx)),
	})
	if err != nil {
		return reconcileError(err)
	}
	return ctx.JSON(http.StatusOK, c.viewDifference(&d))
}
