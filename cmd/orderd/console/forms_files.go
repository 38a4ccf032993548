package console

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
	"orderd/payment/reconcile"
)

// fileForms are the forms that take a file: a workbook that was filled in, and a bill.
func (c *console) fileForms() []route {
	return []route{
		{http.MethodGet, uiDiffs + "/import", Finance, c.importPage},
		{http.MethodPost, uiDiffs + "/import", Finance, c.importPosted},
		{http.MethodGet, uiBooks + "/upload", Finance, c.uploadPage},
		{http.MethodPost, uiBooks + "/upload", Finance, c.uploadPosted},
	}
}

// importView is the page on which a workbook is given back: what it would do, and the button that does
// it; the file comes along in the form, so that nothing is kept here in between.
type importView struct {
	Done    *reconcile.Imported // nil before a file was given
	File    string              // in base64, to be done; "" where nothing is left to do
	Prove   bool                // the password is asked for: something moves money
	Problem string
	Counts  []importCount
	Limit   string // above which money that goes back takes two people
}

// diffImport is the page before anything was given.
func (c *console) diffImport(ctx echo.Context) importView {
	return importView{Limit: c.limitText(languageOf(ctx.Request()), limitPayment)}
}

// importCount is how many steps came to the same.
type importCount struct {
	Outcome reconcile.Outcome
	N       int
}

// importPage is GET /ui/differences/import.
func (c *console) importPage(ctx echo.Context) error { return c.show(ctx, "import", c.diffImport(ctx)) }

// importForm is what is posted: a file to look at, or one that was looked at and shall be done.
type importForm struct {
	file     []byte
	apply    bool
	password string
}

// maxPassword bounds the password of a form with a file, in bytes; operators bounds it closer.
const maxPassword = 4 << 10

// readImport reads the form, multipart/form-data: a file has no other way.
func (c *console) readImport(ctx echo.Context) (f importForm, err error) {
	const most = 2 * reconcile.MaxImport // in base64 a file grows by a third
	err = readFileForm(ctx, most, "workbook", map[string]formField{
		"workbook": {most: reconcile.MaxImport, take: func(text []byte) error {
			f.file = text
			return nil
		}},
		fieldAgain: {most: reconcile.MaxImport, take: func(text []byte) error {
			f.file, f.apply = text, true
			return nil
		}},
		provePassword: textField(maxPassword, &f.password),
	})
	return f, err
}

// fieldAgain is the field of a form with a file that brings the file back in base64: it was looked at, and shall be
// done.
const fieldAgain = "again"

// formField is a field of a form with a file: the bytes that it may have, and what takes them.
type formField struct {
	most int64
	take func(text []byte) error
}

// textField is one whose text is wanted as it is.
func textField(most int64, into *string) formField {
	return formField{most: most, take: func(text []byte) error {
		*into = string(text)
		return nil
	}}
}

// readFileForm reads a form with a file, multipart/form-data, whose fields are held in memory: it has at most so many
// bytes in all, each of its fields has its bound, and none comes twice, nor the file both as it was chosen and as
// fieldAgain. Whoever calls it has a place of taking.
func readFileForm(ctx echo.Context, most int64, file string, known map[string]formField) error {
	r := ctx.Request()
	body := slowly(ctx, most)
	defer body.end()
	r.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
	form, err := r.MultipartReader()
	if err != nil {
		return fail(orderhttp.CodeUnsupportedMedia, "A form with a file is wanted.")
	}
	for seen := map[string]bool{}; ; {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return uploadError(err)
		}
		name := part.FormName()
		f, there := known[name]
		if !there {
			return fail(orderhttp.CodeMalformed, "The form has a field that is unknown.")
		}
		if seen[name] || name == fieldAgain && seen[file] || name == file && seen[fieldAgain] {
			return fail(orderhttp.CodeMalformed, "A field of the form is given twice.")
		}
		seen[name] = true
		var from io.Reader = part
		if name == fieldAgain {
			from = base64.NewDecoder(base64.StdEncoding, part)
		}
		text, err := readPart(from, f.most)
		if errors.As(err, new(base64.CorruptInputError)) || name == fieldAgain && errors.Is(err, io.ErrUnexpectedEOF) {
			return fail(orderhttp.CodeMalformed, notAsItWas)
		}
		if err != nil {
			return uploadError(err)
		}
		if err := f.take(text); err != nil {
			return err
		}
	}
}

// notAsItWas says that what a page had sent came back as something else.
const notAsItWas = "The file did not come back as it was."

// readPart reads a field of at most so many bytes; more is a *http.MaxBytesError.
func readPart(r io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(text)) > most {
		err = &http.MaxBytesError{Limit: most}
	}
	return text, err
}

// importPosted is POST /ui/differences/import: a dry run of the file that is given and, once the person
// has seen that and says so, the import itself.
func (c *console) importPosted(ctx echo.Context) error {
	free, err := c.taking()
	if err != nil {
		return err
	}
	defer free()
	f, err := c.readImport(ctx)
	if err != nil {
		return err
	}
	dry, err := c.lookedThrough(ctx, &f)
	if err != nil {
		return c.importRefused(ctx, err)
	}
	status := http.StatusOK
	v := c.diffImport(ctx)
	v.Done, v.Prove = &dry, movesAny(&dry) && !sessionOf(ctx).Proved(c.Now())
	if f.apply && v.Prove {
		if err := c.Logins.Prove(ctx.Request().Context(), sessionOf(ctx), f.password); err != nil {
			if status, v.Problem, err = c.refused(ctx, err); err != nil {
				return err
			}
			f.apply = false
		}
	}
	if f.apply {
		err := c.recordedAs(ctx, "POST /admin/v1/differences/import/apply", nil, func() error {
			done, err := c.imported(ctx, f.file, true)
			v.Done, v.Prove = &done, false
			return err
		})
		if err != nil {
			return err
		}
	}
	if dry.Counts[reconcile.OutcomePlanned] > 0 && v.Done.DryRun {
		v.File = base64.StdEncoding.EncodeToString(f.file)
	}
	for _, o := range reconcile.Outcomes() {
		if n := v.Done.Counts[o]; n > 0 {
			v.Counts = append(v.Counts, importCount{o, n})
		}
	}
	body, err := c.render(ctx, "import", v)
	if err != nil {
		return err
	}
	return ctx.HTMLBlob(status, body)
}

// lookedThrough is the dry run of a file, an act of its own where it is all that is wanted.
func (c *console) lookedThrough(ctx echo.Context, f *importForm) (dry reconcile.Imported, err error) {
	err = c.looked(ctx, "POST /admin/v1/differences/import", nil, !f.apply, func() (err error) {
		dry, err = c.imported(ctx, f.file, false)
		return err
	})
	return dry, err
}

// importRefused says on the page what is wrong with a file.
func (c *console) importRefused(ctx echo.Context, err error) error {
	var failure *orderhttp.Failure
	if !errors.As(err, &failure) || failure.Code != orderhttp.CodeValidation {
		return err
	}
	said := failure.Zh
	if languageOf(ctx.Request()) == en {
		said = failure.En
	}
	v := c.diffImport(ctx)
	v.Problem = said
	body, err := c.render(ctx, "import", v)
	if err != nil {
		return err
	}
	return ctx.HTMLBlob(http.StatusUnprocessableEntity, body)
}

// movesAny reports that something in a file would move money.
func movesAny(dry *reconcile.Imported) bool {
	return slices.ContainsFunc(dry.Rows, func(r reconcile.ImportRow) bool {
		return slices.ContainsFunc(r.Steps, func(s reconcile.ImportStep) bool {
			return s.What == reconcile.NoteAct && movesMoney(reconcile.Action(s.Word)) &&
				s.Outcome == reconcile.OutcomePlanned
		})
	})
}

// uploadPage is GET /ui/reconciliations/upload.
func (c *console) uploadPage(ctx echo.Context) error {
	return c.show(ctx, "upload", map[string]any{"Day": reconcile.Day(c.Now().AddDate(0, 0, -1))})
}

// uploadPosted is POST /ui/reconciliations/upload: a bill by hand, as by the API.
func (c *console) uploadPosted(ctx echo.Context) error {
	q, err := c.start(ctx)
	if err != nil {
		return err
	}
	setDone(ctx, "day.run.accepted")
	return see(ctx, uiBooks+"/"+reconcile.ID(q.Date, q.Type))
}
