package orderhttp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/oklog/ulid/v2"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// Observer is called for every answer, after it was sent; console.Metrics implements it.
// Implementations must be quick and safe for concurrent use.
type Observer interface {
	// Request is called for every request. route is the pattern of the route, never a
	// path, so that it can be a label, and "" when no route matched. A client that hung
	// up counts as status 499.
	Request(route, method string, status int, took time.Duration)
	// Notified is called for every notification, of kind payment or refund. The outcome
	// is applied, owed, held, repeated, probe, unsigned, malformed, too_large or failed.
	Notified(kind, outcome string, took time.Duration)
	// Cut is called for an answer that ended in the middle for a reason of ours, beside
	// Request, which has the status that was sent.
	Cut()
}

// EdgeOptions shape what happens around every handler of a listener. Now is required.
type EdgeOptions struct {
	Now     func() time.Time
	Log     *slog.Logger // nil: silent
	Observe Observer     // nil: nothing is counted
	// Access logs every request, one line each, and not only what failed or was slow.
	Access bool
	// WriteError answers for a handler that returned err. Nil: WriteProblem.
	WriteError func(c echo.Context, err error)
}

const (
	// headerRequestID is taken from the request when it is well formed and is in every
	// answer.
	headerRequestID = "X-Request-Id"
	// headerTrace says which trace of the caller a request belongs to.
	headerTrace = "Traceparent"
	// slow is when a request is worth a line in the log: four times what a placement
	// takes on a busy day, and less than any time-out.
	slow = time.Second
	// statusHungUp is nginx's number for a client that did not wait. It is counted, and
	// never sent.
	statusHungUp = 499
	// maxStack is how many bytes of a panic's stack are logged: the functions that matter
	// are at its top.
	maxStack = 4 << 10
)

// newEcho gives an echo instance without routes: nothing that prints, binds an address or
// trusts a header of a proxy. Its error handler gives the same answers as Edge, should
// echo call it by itself.
func newEcho(o EdgeOptions) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = func(err error, c echo.Context) { writerOf(o)(c, err) }
	e.Use(Edge(o))
	return e
}

// writerOf gives what answers for an error: the options' own, or WriteProblem.
func writerOf(o EdgeOptions) func(echo.Context, error) {
	if o.WriteError == nil {
		return WriteProblem
	}
	return o.WriteError
}

// Edge is the outermost middleware of a listener: it gives every request an id, turns
// errors and panics into answers, counts, and logs what failed and what was slow, once. An
// error of an answer that has begun ends its connection, so that nobody takes the beginning
// for the whole; it is logged and counted like others. It is one middleware and not six
// because a process answers thousands of placements a second, and each layer costs every one
// of them.
func Edge(o EdgeOptions) echo.MiddlewareFunc {
	log := cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	write := writerOf(o)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := o.Now()
			h := c.Response().Header()
			h.Set(headerRequestID, requestIDFor(c.Request().Header.Get(headerRequestID), start))
			if given := c.Request().Header[headerTrace]; len(given) == 1 {
				if trace := payment.ParseTrace(given[0]); trace.ID != "" {
					c.SetRequest(c.Request().WithContext(payment.WithTrace(c.Request().Context(), trace)))
				}
			}
			h.Set("Cache-Control", "no-store")
			h.Set("X-Content-Type-Options", "nosniff")
			hungUp := c.Request().Context() // the handler may narrow it
			err := safely(c, next)
			abort := err != nil && (c.Response().Committed || isAbort(err))
			if err != nil && !abort {
				write(c, err)
			}
			e := ended{took: o.Now().Sub(start), status: c.Response().Status, err: err, cut: abort}
			if err != nil && errors.Is(hungUp.Err(), context.Canceled) { // net/http does so too when it cannot write
				e.status, e.cut = statusHungUp, false
			}
			e.report(log, c, o.Access)
			if o.Observe != nil {
				o.Observe.Request(c.Path(), method(c.Request().Method), e.status, e.took)
				if e.cut {
					o.Observe.Cut()
				}
			}
			if abort {
				panic(http.ErrAbortHandler) // net/http ends the connection, and says nothing
			}
			return nil
		}
	}
}

// panicError is a handler that panicked. It is answered as INTERNAL, like any error that
// the table of problems does not know; its stack goes to the log.
type panicError struct {
	value any
	stack []byte
}

// Error leaves the stack out: it is an attribute of the log line of its own.
func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// safely runs a handler and makes an error of its panic: one bad request must not end the
// process and with it the requests of others. http.ErrAbortHandler is an error too, and ends
// the connection.
func safely(c echo.Context, next echo.HandlerFunc) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
				err = http.ErrAbortHandler
				return
			}
			stack := debug.Stack()
			err = &panicError{value: v, stack: stack[:min(len(stack), maxStack)]}
		}
	}()
	return next(c)
}

// isAbort reports that a handler wants its connection ended.
func isAbort(err error) bool { return errors.Is(err, http.ErrAbortHandler) }

// ended is what became of a request.
type ended struct {
	took   time.Duration
	status int
	err    error
	cut    bool // the answer ended in the middle, for a reason of ours
}

// report logs what failed for a reason of ours (5xx, or cut) and what was slow, one line for
// each request. A 500 is an error, because only a defect makes one; other 5xx are warnings,
// because a dependency that is away makes many; of an answer that was cut counts what its
// error would have been. 4xx are the client's and only counted, unless every request is to be
// logged; probes and scrapes are not (Quiet). Bodies, tokens, queries, addresses of clients and
// other personal data are never logged.
func (e *ended) report(log *slog.Logger, c echo.Context, access bool) {
	if _, quiet := c.Get(quietKey).(bool); quiet && e.err == nil {
		return
	}
	failed := e.status >= http.StatusInternalServerError || e.cut
	_, polled := c.Get(polledKey).(bool)
	late := e.took >= slow && !polled
	if !failed && !late && !access {
		return
	}
	attrs := append(IDs(c), "method", method(c.Request().Method), "route", c.Path(), "status", e.status, "took", e.took)
	if access || e.cut {
		attrs = append(attrs, "bytes", c.Response().Size)
	}
	if no := c.Param("order_no"); validOrderNo(no) {
		attrs = append(attrs, "order_no", no)
	}
	if e.err != nil {
		attrs = append(attrs, "err", e.err.Error())
	}
	var p *panicError
	if errors.As(e.err, &p) {
		attrs = append(attrs, "stack", string(p.stack))
	}
	switch {
	case e.cut && kindOf(failureOf(e.err).Code).status == http.StatusInternalServerError:
		log.Error("answer cut short", attrs...)
	case e.cut:
		log.Warn("answer cut short", attrs...)
	case e.status == http.StatusInternalServerError:
		log.Error("request failed", attrs...)
	case failed:
		log.Warn("request not served", attrs...)
	case late:
		log.Warn("slow request", attrs...)
	default:
		log.Info("request", attrs...)
	}
}

// quietKey marks, in the echo.Context, a request of a probe or a scrape.
const quietKey = "orderhttp.quiet"

// Quiet marks a request of a probe or a scrape: its answer is for a machine that comes again
// in a second, and no line of the log, whatever it says.
func Quiet(h echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Set(quietKey, true)
		return h(c)
	}
}

// method keeps invented methods out of logs and labels: HTTP allows any token as a method
// (RFC 9110, 9.1), and each would be a new series in Prometheus.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return m
	}
	return "OTHER"
}

// RequestID gives the id of a request under Edge: the client's where it is well formed,
// else a ULID of ours. It is in the answer, in the timeline as the cause of what the
// request changed, and in the log.
func RequestID(c echo.Context) string { return c.Response().Header().Get(headerRequestID) }

// IDs are the attributes by which a line of the log is found: the id of the request, and that
// of the caller's trace if there is one.
func IDs(c echo.Context) []any {
	ids := []any{"request_id", RequestID(c)}
	if trace := payment.TraceOf(c.Request().Context()); trace.ID != "" {
		ids = append(ids, "trace_id", trace.ID)
	}
	return ids
}

// CauseID is what the timeline says of the request that changed an order: its id, and behind
// a slash the caller's trace, if there is one, as payment.Trace.Mark has it. The trace is whole;
// of an id that has no room beside it the end is cut. The log has both whole.
func CauseID(c echo.Context) string {
	id, mark := RequestID(c), payment.TraceOf(c.Request().Context()).Mark()
	if mark == "" {
		return id
	}
	mark = "/" + mark
	return id[:min(len(id), bounds.CauseID.Most-len(mark))] + mark
}

// requestIDFor gives the id that a request came with when it can be logged and stored as
// it is, else a new ULID.
func requestIDFor(given string, now time.Time) string {
	if given != "" && bounds.RequestID.Fits(given) {
		return given
	}
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil { // the clock is past the year 10889
		panic(err)
	}
	return id.String()
}
