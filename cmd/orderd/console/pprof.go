package console

import (
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
)

// maxProfileSeconds is the longest measurement that may be asked for, five minutes: a
// profile costs the service a few per cent of its speed for as long as it runs, and a
// connection that drops does not end one at once.
const maxProfileSeconds = 300

// profileRoutes are the handlers of net/http/pprof, for `go tool pprof http://…`, each
// named here so that each has a role. That package also registers them on
// http.DefaultServeMux when it is imported; no listener serves that mux (a test of
// cmd/orderd reads the whole tree for it). Its cmdline is left out because flags can hold
// secrets, and its symbol because profiles of Go carry their symbols.
func (c *console) profileRoutes() []route {
	return []route{
		{http.MethodGet, "/debug/pprof/", Admin, bounded(pprof.Index)},
		{http.MethodGet, "/debug/pprof/profile", Admin, exclusive(bounded(pprof.Profile))},
		{http.MethodGet, "/debug/pprof/trace", Admin, exclusive(bounded(pprof.Trace))},
		// Index serves the profile that the path names.
		{http.MethodGet, "/debug/pprof/:name", Admin, bounded(pprof.Index)},
	}
}

// bounded refuses a measurement without an end. net/http/pprof would take any number, and
// its default of thirty seconds for what is no number. It extends the write time-out of
// the server by the seconds that were asked for.
func bounded(h http.HandlerFunc) echo.HandlerFunc {
	return func(ctx echo.Context) error {
		if text := ctx.QueryParam("seconds"); text != "" {
			if n, err := strconv.Atoi(text); err != nil || n < 1 || n > maxProfileSeconds {
				return fail(orderhttp.CodeValidation, "seconds is a whole number from 1 to 300")
			}
		}
		h(ctx.Response(), ctx.Request())
		return nil
	}
}

// exclusive refuses a measurement while another of its kind runs: the runtime can do one
// at a time. Without it net/http/pprof answers 500, which would be logged as a failure of
// the service. A profile and a trace may run together.
func exclusive(h echo.HandlerFunc) echo.HandlerFunc {
	var running sync.Mutex
	return func(ctx echo.Context) error {
		if !running.TryLock() {
			return fail(orderhttp.CodeRunInProgress, "another measurement is under way")
		}
		defer running.Unlock()
		return h(ctx)
	}
}
