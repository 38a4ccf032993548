package console

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
)

// maxField bounds a form's field that is not the file, in bytes: the longest is a reason.
const maxField = 1 << 10

// Bounds of a bill on its way here or there, beside those of every connection.
const (
	// billTimeout is for the whole file: maxUpload at 5 Mbit/s.
	billTimeout = 30 * time.Minute
	// billStall ends what does not move.
	billStall = 30 * time.Second
	// leastPace ends what moves only so as not to be ended, in bytes a second on average: a file that comes slower, on
	// a line of 128 kbit/s, does not come.
	leastPace = 16 << 10
	// uploadAnswer is how long the answer may take once the file is here.
	uploadAnswer = time.Minute
)

// slowBody is a body that may take longer than the server lets others: as long as enough of it
// comes, until a time.
type slowBody struct {
	r            io.Reader
	conn         *http.ResponseController
	now          func() time.Time // of the machine: deadlines of connections are
	began, until time.Time
	n            int64 // bytes that have come
}

// slowly is the body of a request of at most so many bytes, as a slowBody, of which end must be called.
func slowly(ctx echo.Context, most int64) *slowBody {
	began := time.Now()
	return &slowBody{r: http.MaxBytesReader(ctx.Response(), ctx.Request().Body, most), now: time.Now, began: began,
		conn: http.NewResponseController(ctx.Response()), until: began.Add(billTimeout)}
}

// Read moves the deadline of the connection before it waits. A connection without deadlines
// has nothing to be moved.
func (b *slowBody) Read(p []byte) (int, error) {
	at := b.now().Add(billStall)
	paced := b.began.Add(billStall + time.Duration(b.n/leastPace)*time.Second)
	for _, end := range []time.Time{paced, b.until} {
		if at.After(end) {
			at = end
		}
	}
	_ = b.conn.SetReadDeadline(at)
	_ = b.conn.SetWriteDeadline(at.Add(uploadAnswer))
	n, err := b.r.Read(p)
	b.n += int64(n)
	return n, err
}

// end leaves time for the answer.
func (b *slowBody) end() { _ = b.conn.SetWriteDeadline(b.now().Add(uploadAnswer)) }

// uploadsAtOnce is how many files are taken in at a time: a workbook is held in memory, a bill in the temporary folder.
const uploadsAtOnce = 4

// taking waits for nobody: it takes one of the places for files that come in, which free gives back.
func (c *console) taking() (free func(), err error) {
	select {
	case c.uploads <- struct{}{}:
		return func() { <-c.uploads }, nil
	default:
		return nil, &orderhttp.Failure{Code: orderhttp.CodeRateLimited, RetryAfter: workbookRetry, Text: orderhttp.Text{
			En: "Other files are being taken in. Come again.", Zh: "正在接收其他文件，请稍后再试。"}}
	}
}

// longBodies are the routes whose body of JSON brings a file: how many bytes it may have. Those of all others have
// maxBody.
var longBodies = map[string]int64{
	"POST /admin/v1/stock/import":       maxStockImport,
	"POST /admin/v1/stock/import/apply": maxStockImport,
}

// takenIn has the bodies of longBodies come in as files do: few at a time, and not slowly. It stands before whoever
// reads the body first.
func (c *console) takenIn(method, path string, h echo.HandlerFunc) echo.HandlerFunc {
	most, long := longBodies[method+" "+path]
	if !long {
		return h
	}
	return func(ctx echo.Context) error {
		free, err := c.taking()
		if err != nil {
			return err
		}
		defer free()
		body, r := slowly(ctx, most), ctx.Request()
		defer body.end()
		r.Body = struct {
			io.Reader
			io.Closer
		}{body, r.Body}
		return h(ctx)
	}
}

// slowAnswer is an answer that may take longer than the server lets others: as long as the
// client takes something of it, until a time.
type slowAnswer struct {
	http.ResponseWriter
	conn  *http.ResponseController
	until time.Time
}

func newSlowAnswer(w http.ResponseWriter) *slowAnswer {
	return &slowAnswer{w, http.NewResponseController(w), time.Now().Add(billTimeout)}
}

// slowPiece is how much is written under one deadline, in bytes: a client at 10 kbit/s is
// too slow.
const slowPiece = 32 << 10

// Write writes piece by piece, each with a deadline of its own.
func (a *slowAnswer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		at := time.Now().Add(billStall)
		if at.After(a.until) {
			at = a.until
		}
		_ = a.conn.SetWriteDeadline(at)
		var m int
		m, err = a.ResponseWriter.Write(p[:min(len(p), slowPiece)])
		n, p = n+m, p[m:]
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *slowAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// upload writes the file of a form (multipart/form-data, RFC 7578) to a temporary file,
// and gives its other fields to the functions of their names. A file and not memory: a
// bill may have maxUpload bytes. The caller discards the file. On an error there is none
// left.
func (c *console) upload(ctx echo.Context, boundary string, fields map[string]func(string)) (file *os.File, err error) {
	defer func() {
		if err != nil {
			discard(file)
			file = nil
		}
	}()
	free, err := c.taking()
	if err != nil {
		return nil, err
	}
	defer free()
	body := slowly(ctx, maxUpload)
	defer body.end()
	form := multipart.NewReader(body, boundary)
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return file, uploadError(err)
		}
		if part.FormName() == "bill" && file == nil {
			if file, err = os.CreateTemp("", "orderd-bill-"); err != nil {
				return nil, err
			}
			if _, err := io.Copy(file, part); err != nil {
				return file, uploadError(err)
			}
			continue
		}
		set, known := fields[part.FormName()]
		if !known {
			return file, fail(orderhttp.CodeMalformed, "The form has a field that is not known here, or one twice; "+
				"bill_date, bill_type, reason and the file bill are known.")
		}
		delete(fields, part.FormName()) // which of two counts is nobody's to guess
		text, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return file, uploadError(err)
		}
		if len(text) > maxField {
			return file, fail(orderhttp.CodeMalformed, "The field "+part.FormName()+" of the form is too long.")
		}
		set(string(text))
	}
	if file == nil {
		return nil, fail(orderhttp.CodeMalformed, "The form has no file named bill.")
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

// uploadError says whether a form was too large (413) or cannot be read (400).
func uploadError(err error) error {
	if errors.As(err, new(*http.MaxBytesError)) {
		return &orderhttp.Failure{Code: orderhttp.CodeBodyTooLarge}
	}
	return fail(orderhttp.CodeMalformed, "The form cannot be read to its end.")
}
