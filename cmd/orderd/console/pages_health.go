package console

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

// Health is what is known of a process.
type Health struct {
	Version, Commit, Go    string
	Began                  time.Time // when it was started
	SchemaHas, SchemaKnows int64     // migrations of the database, and of this program
	// Findings are those of doctor that are had without calling anybody outside.
	Findings []sqldb.Finding
	// Settings are the configuration, secrets masked.
	Settings []Setting
	// Processes are all that run, as they say of themselves.
	Processes []scheduler.Process
}

// Setting is a value of the configuration, and where it came from.
type Setting struct{ Name, Value, Origin string }

// healthView is what the page of health shows.
type healthView struct {
	Ready   readiness
	Health  *Health // nil: nothing more is known
	Workers []scheduler.WorkerProcess
	Config  bool // whoever looks may see the settings
	Now     time.Time
}

// healthRoutes is the page of health.
func (c *console) healthRoutes() []route {
	return []route{{http.MethodGet, "/ui/health", Viewer, c.healthPage}}
}

// healthPage is GET /ui/health: what /readyz says, what doctor would say that can be had at once, and for
// an administrator the configuration with the origin of every value.
func (c *console) healthPage(ctx echo.Context) error {
	rctx := ctx.Request().Context()
	l := languageOf(ctx.Request())
	v := healthView{Ready: c.Ready.look(rctx).in(l), Workers: c.pulse(rctx).Workers, Now: c.Now()}
	if c.Health != nil {
		bounded, cancel := context.WithTimeout(rctx, checkTimeout)
		defer cancel()
		h := c.Health(bounded)
		h.Findings = inLanguage(h.Findings, l)
		v.Health = &h
	}
	role, _ := ctx.Get(roleKey).(Role)
	v.Config = role.May(Admin)
	return c.show(ctx, "health", v)
}
