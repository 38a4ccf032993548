package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/stock"
)

// uiSKUs is where SKUs are made; what one of them is about stands below uiStock.
const uiSKUs = "/ui/skus"

const (
	// maxStockFile bounds a file of SKUs, in bytes: some 250 for each of stock.ImportMost lines.
	maxStockFile = 512 << 10
	// maxStockSeen bounds what was seen of its SKUs, in bytes of JSON.
	maxStockSeen = 512 << 10
	// maxStockImport bounds a body with such a file and with what was seen of its SKUs, in bytes: JSON may make a byte
	// of a file six.
	maxStockImport = 6*maxStockFile + maxStockSeen
)

// importRoutes are the API's of files of SKUs, and the page that asks it. What an import sets a shelf to is an admin's
// alone, as adjust is: see importMode.
func (c *console) importRoutes() []route {
	return []route{
		{http.MethodPost, "/admin/v1/stock/import", Operator, c.stockImportDry},
		{http.MethodPost, "/admin/v1/stock/import/apply", Operator, c.stockImportApply},
		{http.MethodGet, uiSKUs + "/import", Operator, c.stockImportPage},
		{http.MethodPost, uiSKUs + "/import", Operator, c.stockImportPosted},
	}
}

// stockImport is a file of SKUs that somebody gives: the body of the API's request.
type stockImport struct {
	CSV    string       `json:"csv"`
	Mode   stock.Mode   `json:"mode"`
	Reason string       `json:"reason"`
	Seen   []stock.Seen `json:"seen"` // of the rows of the dry run: what has changed since is passed by
}

// stockImportDry is POST /admin/v1/stock/import: what a file would do, line by line, and what is wrong with it.
// Nothing is done.
func (c *console) stockImportDry(ctx echo.Context) error {
	var body stockImport
	if err := decodeUpTo(ctx, &body, maxStockImport); err != nil {
		return err
	}
	plan, err := c.planImport(ctx, &body)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, plan)
}

// stockImportApply is POST /admin/v1/stock/import/apply: what stockImportDry has shown is done, and nothing else.
func (c *console) stockImportApply(ctx echo.Context) error {
	var body stockImport
	if err := decodeUpTo(ctx, &body, maxStockImport); err != nil {
		return err
	}
	done, err := c.applyImport(ctx, &body)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, done)
}

// planImport looks through a file. What is wrong with its lines is in the report, and no error.
func (c *console) planImport(ctx echo.Context, f *stockImport) (stock.ImportReport, error) {
	if err := importMode(ctx, f); err != nil {
		return stock.ImportReport{}, err
	}
	plan, err := c.Stock.PlanImport(ctx.Request().Context(), []byte(f.CSV), f.Mode)
	if err != nil && !errors.Is(err, stock.ErrImport) {
		return plan, importError(&plan, err)
	}
	if plan.Problems == nil {
		plan.Problems = []string{}
	}
	for i := range plan.Problems {
		if !orderhttp.PrefersEnglish(ctx.Request().Header) && !asksForPage(ctx.Request()) ||
			asksForPage(ctx.Request()) && languageOf(ctx.Request()) == zh {
			plan.Problems[i] = orderhttp.InChinese(plan.Problems[i])
		}
	}
	return plan, nil
}

// importMode refuses a file that is too long, and a mode that is not, or is not for the role of whoever asks.
func importMode(ctx echo.Context, f *stockImport) error {
	switch role, _ := ctx.Get(roleKey).(Role); {
	case len(f.CSV) > maxStockFile:
		return &orderhttp.Failure{Code: orderhttp.CodeBodyTooLarge}
	case f.Mode != stock.ModeSet && f.Mode != stock.ModeAdd:
		return invalid("#/mode", bounds.CodeEnum, "want set or add")
	case f.Mode == stock.ModeSet && !role.May(Admin):
		return &orderhttp.Failure{Code: orderhttp.CodeForbidden}
	}
	return nil
}

// applyImport imports what was seen. It is not ended by the client: who goes away in the middle finds half of it
// done, and does not know which.
func (c *console) applyImport(ctx echo.Context, f *stockImport) (stock.ImportReport, error) {
	if err := importMode(ctx, f); err != nil {
		return stock.ImportReport{}, err
	}
	if err := needReason(f.Reason); err != nil {
		return stock.ImportReport{}, err
	}
	if f.Seen == nil {
		return stock.ImportReport{}, invalid("#/seen", bounds.CodeRequired, "it is needed")
	}
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx.Request().Context()), stockImportTimeout)
	defer cancel()
	done, err := c.Stock.Import(work, bytes.NewReader([]byte(f.CSV)), stock.ImportOptions{Mode: f.Mode,
		Actor: operator(ctx), Reason: f.Reason, Seen: f.Seen})
	begun := done.Lines > 0 && len(done.Problems) == 0 && (goesOn(err) || done.Created+done.Updated > 0)
	if err != nil && !begun {
		return done, importError(&done, err)
	}
	done.Problems = []string{}
	effect(ctx, "", fmt.Sprintf("mode=%s lines=%d new=%d updated=%d before=%d changed=%d left=%d", f.Mode, done.Lines,
		done.Created, done.Updated, done.Repeated, len(done.Changed), done.Left()))
	if err != nil {
		return done, importPart(&done, err)
	}
	c.Log.Info("stock imported", "by", operator(ctx), "mode", f.Mode, "lines", done.Lines, "created", done.Created,
		"updated", done.Updated, "repeated", done.Repeated, "changed", len(done.Changed))
	return done, nil
}

// stockImportTimeout bounds an import: stock.ImportMost lines are four transactions.
const stockImportTimeout = time.Minute

// goesOn reports that the same import, sent once more, may come to its end.
func goesOn(err error) bool {
	return errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown) ||
		errors.Is(err, sqldb.ErrOverloaded) || errors.Is(err, context.DeadlineExceeded)
}

// importPart is the answer to an import that was done in part: its numbers, and what to do about the rest.
func importPart(r *stock.ImportReport, err error) error {
	_, code := orderhttp.ProblemOf(stockError(err))
	return &orderhttp.Failure{Code: code, Err: err, Text: orderhttp.Text{
		En: fmt.Sprintf("%d made, %d changed, %d were in before; %d lines are left. Send the same once more: what is "+
			"in stays as it is.", r.Created, r.Updated, r.Repeated, r.Left()),
		Zh: fmt.Sprintf("新建 %d，更新 %d，此前已导入 %d，还剩 %d 行未导入。请原样再提交一次，已导入的不会重复。", r.Created, r.Updated,
			r.Repeated, r.Left())}}
}

// importError gives what is wrong with lines as entries of errors.
func importError(r *stock.ImportReport, err error) error {
	if errors.Is(err, stock.ErrImportLong) {
		return invalid("#/csv", bounds.CodeRange, fmt.Sprintf("at most %d lines", stock.ImportMost))
	}
	if !errors.Is(err, stock.ErrImport) {
		return stockError(err)
	}
	f := &orderhttp.Failure{Code: orderhttp.CodeValidation}
	for _, p := range r.Problems[:min(len(r.Problems), maxRows)] {
		f.Fields = append(f.Fields, order.FieldError{Pointer: "#/csv", Code: "INVALID", Detail: p})
	}
	return f
}

// stockImportView is the page on which a file of SKUs is given: what it would do, and the button that does it. The
// file comes along in the form, so that nothing is kept here in between.
type stockImportView struct {
	stockImport
	Modes   []stock.Mode
	Plan    *stock.ImportReport // nil before a file was given
	Done    *stock.ImportReport // nil before it was done
	File    string              // in base64, to be done; "" where it cannot be
	SeenNow string              // JSON of what is seen
	Prove   bool                // the password is asked for: shelves are corrected
	Problem string
	Wrong   []string // of the form
	Most    int
}

// stockImportPage is GET /ui/skus/import.
func (c *console) stockImportPage(ctx echo.Context) error {
	return c.show(ctx, "stockimport", c.importStart(ctx))
}

// importStart is the page before a file was given.
func (c *console) importStart(ctx echo.Context) *stockImportView {
	v := &stockImportView{Modes: []stock.Mode{stock.ModeAdd}, Most: stock.ImportMost}
	if role, _ := ctx.Get(roleKey).(Role); role.May(Admin) {
		v.Modes = append(v.Modes, stock.ModeSet)
	}
	return v
}

// readStockForm reads the form, multipart/form-data: a file has no other way. again says that the file was looked at
// and shall be done.
func readStockForm(ctx echo.Context) (f stockImport, again bool, password string, err error) {
	err = readFileForm(ctx, maxStockImport, "csv", map[string]formField{
		"csv": textField(maxStockFile, &f.CSV),
		fieldAgain: {most: maxStockFile, take: func(text []byte) error {
			f.CSV, again = string(text), true
			return nil
		}},
		"seen": {most: maxStockSeen, take: func(text []byte) error {
			if json.Unmarshal(text, &f.Seen) != nil {
				return fail(orderhttp.CodeMalformed, notAsItWas)
			}
			return nil
		}},
		"mode": textField(maxField, (*string)(&f.Mode)), "reason": textField(maxField, &f.Reason),
		provePassword: textField(maxPassword, &password),
	})
	return f, again, password, err
}

// stockImportPosted is POST /ui/skus/import: what the file would do and, once the person has seen that and says so,
// the import of what they have seen.
func (c *console) stockImportPosted(ctx echo.Context) error {
	free, err := c.taking()
	if err != nil {
		return err
	}
	defer free()
	f, again, password, err := readStockForm(ctx)
	if err != nil {
		return err
	}
	v, status := c.importStart(ctx), http.StatusOK
	v.stockImport = f
	if v.Prove = f.Mode == stock.ModeSet && !sessionOf(ctx).Proved(c.Now()); again && v.Prove {
		if err := c.Logins.Prove(ctx.Request().Context(), sessionOf(ctx), password); err != nil {
			if status, v.Problem, err = c.refused(ctx, err); err != nil {
				return err
			}
			again = false
		}
	}
	if again {
		err := c.recordedAs(ctx, "POST /admin/v1/stock/import/apply", f.asked(), func() (err error) {
			done, err := c.applyImport(ctx, &f)
			if err == nil || done.Problems != nil && len(done.Problems) == 0 { // in part
				v.Done = &done
			}
			return err
		})
		if err == nil {
			return c.show(ctx, "stockimport", v)
		}
		if status, err = c.importSays(ctx, v, err); err != nil {
			return err
		}
	}
	plan, err := c.planned(ctx, &f, again)
	if err != nil {
		if status, err = c.importSays(ctx, v, err); err != nil {
			return err
		}
	} else if err := v.plans(&plan); err != nil {
		return err
	}
	body, err := c.render(ctx, "stockimport", v)
	if err != nil {
		return err
	}
	return ctx.HTMLBlob(status, body)
}

// plans shows what a file would do, to be done.
func (v *stockImportView) plans(plan *stock.ImportReport) error {
	v.Plan = plan
	if len(plan.Rows) == 0 || !slices.ContainsFunc(plan.Rows, func(r stock.ImportRow) bool {
		return r.What != stock.ImportBefore
	}) {
		return nil
	}
	seen := make([]stock.Seen, len(plan.Rows))
	for i := range plan.Rows {
		seen[i] = plan.Rows[i].Seen
	}
	now, err := json.Marshal(seen)
	v.SeenNow, v.File = string(now), base64.StdEncoding.EncodeToString([]byte(v.CSV))
	return err
}

// importSays puts on its page what is wrong with a form, or how much of a file is in, and gives the status of that;
// another error is given back.
func (c *console) importSays(ctx echo.Context, v *stockImportView, err error) (int, error) {
	var failure *orderhttp.Failure
	if !errors.As(err, &failure) || len(failure.Fields) == 0 && v.Done == nil {
		return 0, err
	}
	for _, f := range failure.Fields {
		v.Wrong = append(v.Wrong, languageOf(ctx.Request()).says(f.Detail))
	}
	status, _ := orderhttp.ProblemOf(err)
	return status, nil
}

// asked is what the trail may have of a file: not its lines.
func (f *stockImport) asked() asked { return asked{"mode": string(f.Mode), "reason": f.Reason} }

// planned is planImport, an act of its own where a look is all that is wanted.
func (c *console) planned(ctx echo.Context, f *stockImport, again bool) (plan stock.ImportReport, err error) {
	err = c.looked(ctx, "POST /admin/v1/stock/import", f.asked(), !again, func() (err error) {
		plan, err = c.planImport(ctx, f)
		return err
	})
	return plan, err
}
