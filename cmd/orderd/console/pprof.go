package console

import (
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
)

// Profiles as net/http/pprof gives them, for `go tool pprof http://…`. Written
// on runtime/pprof: the package of the standard library brings the reading and
// merging of profiles along, which nobody asks a server for.

// Bounds of a measurement.
const (
	defaultProfile = 30 * time.Second
	maxProfile     = 5 * time.Minute
)

func (c *console) profileRoutes() []route {
	return []route{
		{http.MethodGet, "/debug/pprof/", Admin, c.profiles},
		{http.MethodGet, "/debug/pprof/profile", Admin, c.cpuProfile},
		{http.MethodGet, "/debug/pprof/trace", Admin, c.trace},
		{http.MethodGet, "/debug/pprof/:name", Admin, c.profile},
	}
}

// profiles lists what there is.
func (c *console) profiles(ctx echo.Context) error {
	text := "profile?seconds=30\ntrace?seconds=1\n"
	for _, p := range pprof.Profiles() {
		text += fmt.Sprintf("%s?debug=1  %d\n", p.Name(), p.Count())
	}
	return ctx.String(http.StatusOK, text)
}

func (c *console) profile(ctx echo.Context) error {
	p := pprof.Lookup(ctx.Param("name"))
	if p == nil {
		return &orderhttp.Failure{Code: orderhttp.CodeNotFound}
	}
	debug, _ := strconv.Atoi(ctx.QueryParam("debug")) // absent or odd: binary
	media := echo.MIMEOctetStream
	if debug > 0 {
		media = echo.MIMETextPlainCharsetUTF8
	}
	ctx.Response().Header().Set(echo.HeaderContentType, media)
	ctx.Response().WriteHeader(http.StatusOK)
	return p.WriteTo(ctx.Response(), debug)
}

// measured waits as long as was asked for, or until the client has gone.
func measured(ctx echo.Context, usual time.Duration) (time.Duration, error) {
	text := ctx.QueryParam("seconds")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	d := time.Duration(n * float64(time.Second))
	if err != nil || d <= 0 || d > maxProfile {
		return 0, fail(orderhttp.CodeValidation, "seconds is a number above 0 and up to 300")
	}
	return d, nil
}

func (c *console) measure(ctx echo.Context, usual time.Duration, start func() error, stop func()) error {
	d, err := measured(ctx, usual)
	if err != nil {
		return err
	}
	// The server's write time-out would cut the measurement.
	_ = http.NewResponseController(ctx.Response()).SetWriteDeadline(time.Time{})
	ctx.Response().Header().Set(echo.HeaderContentType, echo.MIMEOctetStream)
	if err := start(); err != nil {
		return fail(orderhttp.CodeRunInProgress, "another measurement is under way")
	}
	defer stop()
	wait, cancel := context.WithTimeout(ctx.Request().Context(), d)
	defer cancel()
	<-wait.Done()
	return nil
}

func (c *console) cpuProfile(ctx echo.Context) error {
	return c.measure(ctx, defaultProfile, func() error { return pprof.StartCPUProfile(ctx.Response()) }, pprof.StopCPUProfile)
}

func (c *console) trace(ctx echo.Context) error {
	return c.measure(ctx, time.Second, func() error { return trace.Start(ctx.Response()) }, trace.Stop)
}
