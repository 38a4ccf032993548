package console

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
)

// Check is one dependency that GET /readyz looks at. Kubernetes and load balancers read
// the status, people the body.
type Check struct {
	Name     string
	Critical bool // without it nothing can be served: 503
	// Ask fails when the dependency is away. Unless it is critical, detail says what that
	// means for the service; a Check that passes may have one too. It has checkTimeout.
	Ask func(ctx context.Context) (detail string, err error)
}

const (
	// checkTimeout bounds one check of /readyz: a probe of Kubernetes or a load balancer
	// waits a few seconds.
	checkTimeout = 2 * time.Second
	// readyFor is how long an answer of /readyz is kept: a check may write, and whoever
	// knocks as often as he can has the database do so once a second.
	readyFor = time.Second
)

// Readiness is whether a process wants requests. All methods are safe for concurrent use.
type Readiness struct {
	checks []Check
	now    func() time.Time

	mu       sync.Mutex
	draining bool
	at       time.Time
	last     readiness
}

// readiness is the answer of /readyz, in the form of the IETF draft api-health-check.
type readiness struct {
	Status string  `json:"status"` // pass or fail
	Checks []light `json:"checks"`
}

// light is one check of it.
type light struct {
	Name    string `json:"name"`
	Status  string `json:"status"` // pass, warn or fail
	Detail  string `json:"detail,omitempty"`
	Latency int64  `json:"latency_ms"`
}

// NewReadiness gives the readiness of a process that depends on what these checks look at.
func NewReadiness(now func() time.Time, checks ...Check) *Readiness {
	return &Readiness{checks: checks, now: now}
}

// Drain has /readyz fail from now on: whoever sends requests shall send them elsewhere,
// while those under way, and those that still come, are served.
func (r *Readiness) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// look gives the answer: of the last look, within readyFor. The lock is held meanwhile, so
// that all who ask at once share one look.
func (r *Readiness) look(ctx context.Context) readiness {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return readiness{"fail", []light{{Name: "draining", Status: "fail", Detail: "this process is being stopped"}}}
	}
	if age := r.now().Sub(r.at); !r.at.IsZero() && age >= 0 && age < readyFor {
		return r.last
	}
	answer := readiness{Status: "pass"}
	for _, check := range r.checks {
		l := check.look(ctx, r.now)
		if l.Status == "fail" {
			answer.Status = "fail"
		}
		answer.Checks = append(answer.Checks, l)
	}
	if ctx.Err() == nil { // else whoever asked has gone, and the checks say so
		r.at, r.last = r.now(), answer
	}
	return answer
}

// look asks a dependency. The text of an error stays inside: /readyz needs no token, and
// the text may have addresses or users in it.
func (c *Check) look(ctx context.Context, now func() time.Time) light {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	start := now()
	detail, err := c.Ask(bounded)
	l := light{Name: c.Name, Status: "pass", Detail: detail, Latency: now().Sub(start).Milliseconds()}
	switch {
	case err != nil && c.Critical:
		l.Status, l.Detail = "fail", "does not answer"
	case err != nil:
		l.Status = "warn"
	}
	return l
}

// ready is GET /readyz: 503 when a critical check fails or the process is being stopped,
// 200 with warn when another one does.
func (r *Readiness) ready(ctx echo.Context) error {
	answer, status := r.look(ctx.Request().Context()), http.StatusOK
	if answer.Status == "fail" {
		status = http.StatusServiceUnavailable
	}
	return ctx.JSON(status, answer)
}

// opsRoutes are what monitoring reads, of the admin listener and of the one that has
// nothing else, and what a problem's type points at on both. They need no token: what scrapes
// and probes has none, and a browser that follows a type sends none.
func opsRoutes(r *Readiness, m *Metrics) []route {
	return []route{
		{http.MethodGet, "/healthz", "", orderhttp.Quiet(func(ctx echo.Context) error {
			return ctx.String(http.StatusOK, "ok\n")
		})},
		{http.MethodGet, "/readyz", "", orderhttp.Quiet(r.ready)},
		{http.MethodGet, "/metrics", "", orderhttp.Quiet(echo.WrapHandler(m.Handler()))},
		{http.MethodGet, "/problems/:slug", "", orderhttp.ProblemPage},
	}
}

// NewOps makes the handler of a listener for monitoring alone, of a process whose admin
// listener is not there or is not to be reached by what probes and scrapes.
func NewOps(r *Readiness, m *Metrics, now func() time.Time, log *slog.Logger) *echo.Echo {
	e := newEcho(now, log, m, false, orderhttp.WriteOperatorProblem) // probes are no news
	for _, route := range opsRoutes(r, m) {
		e.Add(route.method, route.path, route.handle)
	}
	return e
}
