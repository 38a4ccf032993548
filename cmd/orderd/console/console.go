package console

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/scheduler"
	"orderd/stock"
)

// Orders is what operators need of orders.
type Orders interface {
	Find(ctx context.Context, orderNo string) (order.Order, error)
	List(ctx context.Context, f order.Filter) ([]order.Order, string, error)
	Timeline(ctx context.Context, orderNo string) ([]order.TimelineEvent, error)
	Cancel(ctx context.Context, r order.CancelRequest) (order.Order, error)
	Sync(ctx context.Context, orderNo string, cause order.Cause) (order.Order, error)
	Backlog(ctx context.Context) (order.Backlog, error)
	StockAccount(ctx context.Context, skuID string) (order.Account, error)
}

// Stock is what operators need of stock.
type Stock interface {
	Put(ctx context.Context, p stock.Put) (stock.SKU, bool, error)
	Replenish(ctx context.Context, c stock.Change) (stock.Changed, error)
	Adjust(ctx context.Context, c stock.Change) (stock.Changed, error)
	Find(ctx context.Context, id string) (stock.SKU, error)
	List(ctx context.Context, cursor string, limit int) ([]stock.SKU, error)
}

// Tasks is what operators see of the queue.
type Tasks interface {
	Depth() (scheduler.Depth, error)
}

// Role is what an operator may do. Each role may do what the ones before it in
// its line may: viewer, operator, admin, and viewer, finance, admin.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Finance  Role = "finance"
	Admin    Role = "admin"
)

// operatorOrFinance is what a route needs that both lines may use. Nobody has it
// as a role.
const operatorOrFinance Role = "operator or finance"

// may reports whether a role includes what is needed.
func (r Role) may(need Role) bool {
	return r == Admin || r == need || need == Viewer || (need == operatorOrFinance && (r == Operator || r == Finance))
}

// Token is a bearer token, known by its hash alone.
type Token struct {
	Name   string // who, in timelines and flows
	Role   Role
	SHA256 [sha256.Size]byte
}

// Check is one light of /readyz.
type Check struct {
	Name     string
	Critical bool // without it nothing can be served: 503
	// Ask fails when the light is out; the text then says what that means.
	Ask func(ctx context.Context) (detail string, err error)
}

// Options shape the admin listener. What is not said to be optional is required.
type Options struct {
	Orders     Orders
	Stock      Stock
	Refunds    Refunds
	Reconciler Reconciler
	Tasks      Tasks // may be nil
	// Failures has the tasks that failed.
	Failures *scheduler.DeadLetters
	Tokens   []Token
	// TokenStore has the tokens that can be made and revoked; nil: only Tokens.
	TokenStore *TokenStore
	// Background runs what takes longer than a request and ends with the service;
	// nil: the request waits for it.
	Background func(func(context.Context))
	Metrics    *Metrics
	Checks     []Check
	Now        func() time.Time
	Log        *slog.Logger // nil: silent
	Simulated  bool         // WeChat Pay is the simulator: the page says so
	// CloseRate is that of scheduler.Options, for the time that a backlog takes.
	CloseRate float64
}

const (
	maxBody      = 64 << 10
	checkTimeout = 2 * time.Second
	apiTimeout   = 15 * time.Second // a close asks WeChat twice
	maxReason    = 200
)

type console struct{ Options }

// route is a row of the table of routes; role is empty for what needs no token.
type route struct {
	method, path string
	role         Role
	handle       echo.HandlerFunc
}

// New makes the admin listener's handler.
func New(o Options) (*echo.Echo, error) {
	if o.Orders == nil || o.Stock == nil || o.Refunds == nil || o.Reconciler == nil || o.Failures == nil ||
		o.Metrics == nil || o.Now == nil || len(o.Tokens) == 0 {
		return nil, errors.New("console: Options needs Orders, Stock, Refunds, Reconciler, Failures, Metrics, Now " +
			"and a token")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c := &console{o}
	o.Metrics.watch(sources{o.Orders, o.Refunds, o.Reconciler, o.Tasks, o.Failures, o.CloseRate}, o.Now)
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = func(err error, ctx echo.Context) { orderhttp.WriteOperatorProblem(ctx, err) }
	e.Use(orderhttp.Edge(orderhttp.EdgeOptions{
		Now: o.Now, Log: o.Log, Observe: o.Metrics, WriteError: orderhttp.WriteOperatorProblem,
	}))
	for _, r := range c.routes() {
		e.Add(r.method, r.path, c.guard(r.role, r.handle))
	}
	return e, nil
}

// routes is the whole surface. Health and metrics need no token: the listener
// is loopback by default, and what scrapes and probes has none.
func (c *console) routes() []route {
	all := slices.Concat(c.baseRoutes(), c.refundRoutes(), c.reconcileRoutes(), c.taskRoutes(), c.profileRoutes())
	if c.TokenStore != nil {
		all = append(all, c.tokenRoutes()...)
	}
	return all
}

func (c *console) baseRoutes() []route {
	return []route{
		{http.MethodGet, "/healthz", "", func(ctx echo.Context) error { return ctx.String(http.StatusOK, "ok\n") }},
		{http.MethodGet, "/readyz", "", c.ready},
		{http.MethodGet, "/metrics", "", echo.WrapHandler(c.Metrics.Handler())},
		{http.MethodGet, "/", Viewer, c.page},
		{http.MethodGet, "/ui/orders/:no", Viewer, c.orderPage},
		{http.MethodGet, "/admin/v1/orders", Viewer, c.listOrders},
		{http.MethodGet, "/admin/v1/orders/:no", Viewer, c.getOrder},
		{http.MethodGet, "/admin/v1/orders/:no/timeline", Viewer, c.timeline},
		{http.MethodPost, "/admin/v1/orders/:no/close", Operator, c.closeOrder},
		{http.MethodPost, "/admin/v1/orders/:no/payment-query", Operator, c.syncOrder},
		{http.MethodGet, "/admin/v1/skus", Viewer, c.listSKUs},
		{http.MethodGet, "/admin/v1/skus/:id", Viewer, c.getSKU},
		{http.MethodPut, "/admin/v1/skus/:id", Operator, c.putSKU},
		{http.MethodPost, "/admin/v1/skus/:id/replenish", Operator, c.replenish},
		{http.MethodPost, "/admin/v1/skus/:id/adjust", Admin, c.adjust},
	}
}

const operatorKey = "operator"

// longer reports that a route moves a whole bill, which may take its time.
func longer(path string) bool {
	return path == "/admin/v1/reconciliations" || strings.HasSuffix(path, "/bill") ||
		strings.HasSuffix(path, "/differences")
}

// guard asks for a token of the role. A browser that reads may send it as the
// password of HTTP Basic, whatever the user.
func (c *console) guard(need Role, h echo.HandlerFunc) echo.HandlerFunc {
	if need == "" {
		return h
	}
	return func(ctx echo.Context) error {
		header := ctx.Request().Header.Get(echo.HeaderAuthorization)
		secret, ok := strings.CutPrefix(header, "Bearer ")
		if _, password, basic := ctx.Request().BasicAuth(); basic {
			// Only to read: a browser sends Basic along with a form of another site.
			secret, ok = password, ctx.Request().Method == http.MethodGet
		}
		who, err := c.who(ctx.Request().Context(), secret)
		if err != nil {
			return err
		}
		if !ok || who == nil {
			// Set as late as can be: the table of problems speaks of Bearer, and a
			// browser asks its user only for Basic.
			ctx.Response().Before(func() {
				ctx.Response().Header().Set(echo.HeaderWWWAuthenticate, `Basic realm="orderd", charset="UTF-8"`)
			})
			return fail(orderhttp.CodeUnauthenticated, "An operator's token is needed: Authorization: Bearer, or as "+
				"the password of HTTP Basic.")
		}
		if !who.Role.may(need) {
			return &orderhttp.Failure{Code: orderhttp.CodeForbidden}
		}
		ctx.Set(operatorKey, who.Name)
		ctx.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		bounded, cancel := context.WithTimeout(ctx.Request().Context(), apiTimeout)
		defer cancel()
		if !strings.HasPrefix(ctx.Path(), "/debug/") && !longer(ctx.Path()) {
			ctx.SetRequest(ctx.Request().WithContext(bounded))
		}
		return h(ctx)
	}
}

// who finds the owner of a token, nil for nobody's. A database that is away is
// an error, never a yes.
func (c *console) who(ctx context.Context, secret string) (*Token, error) {
	sum := sha256.Sum256([]byte(secret))
	var found *Token
	for i := range c.Tokens {
		if subtle.ConstantTimeCompare(sum[:], c.Tokens[i].SHA256[:]) == 1 {
			found = &c.Tokens[i]
		}
	}
	if found != nil || c.TokenStore == nil || !strings.HasPrefix(secret, tokenPrefix) {
		return found, nil
	}
	return c.TokenStore.find(ctx, sum)
}

func fail(code orderhttp.Code, detail string) error {
	return &orderhttp.Failure{Code: code, Text: orderhttp.Text{En: detail, Zh: detail}}
}

func operator(ctx echo.Context) string {
	name, _ := ctx.Get(operatorKey).(string)
	return name
}

func cause(ctx echo.Context) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: operator(ctx)}, Type: "request",
		ID: orderhttp.RequestID(ctx)}
}

// decode reads one JSON object and refuses fields that it does not know.
func decode(ctx echo.Context, into any) error {
	media, _, err := mime.ParseMediaType(ctx.Request().Header.Get(echo.HeaderContentType))
	if err != nil || media != echo.MIMEApplicationJSON {
		return &orderhttp.Failure{Code: orderhttp.CodeUnsupportedMedia}
	}
	d := json.NewDecoder(http.MaxBytesReader(ctx.Response(), ctx.Request().Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &orderhttp.Failure{Code: orderhttp.CodeBodyTooLarge}
		}
		return fail(orderhttp.CodeMalformed, "The body cannot be read: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fail(orderhttp.CodeMalformed, "The body must be one JSON object.")
	}
	return nil
}

// decodeReasoned is decode for what is signed with a reason; reason is the field of the body that holds it.
func decodeReasoned(ctx echo.Context, into any, reason *string) error {
	if err := decode(ctx, into); err != nil {
		return err
	}
	return needReason(*reason)
}

// version reads If-Match: "v7" gives 7.
func version(ctx echo.Context) (int64, error) {
	header := ctx.Request().Header.Get("If-Match")
	if header == "" {
		return 0, &orderhttp.Failure{Code: orderhttp.CodeIfMatchRequired}
	}
	v, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(header, `"v`), `"`), 10, 64)
	if err != nil || v < 1 || header != etag(v) {
		return 0, &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch}
	}
	return v, nil
}

func etag(v int64) string { return `"v` + strconv.FormatInt(v, 10) + `"` }

func needReason(reason string) error {
	if n := len([]rune(reason)); n == 0 || n > maxReason {
		return &orderhttp.Failure{Code: orderhttp.CodeValidation,
			Fields: []order.FieldError{{Pointer: "#/reason", Code: "REQUIRED",
				Detail: "a reason of 1 to 200 characters is needed"}}}
	}
	return nil
}

// ready shows the lights: 503 when a critical one is out.
func (c *console) ready(ctx echo.Context) error {
	type light struct {
		Name    string `json:"name"`
		Status  string `json:"status"`
		Detail  string `json:"detail,omitempty"`
		Latency int64  `json:"latency_ms"`
	}
	status, answer := http.StatusOK, struct {
		Status string  `json:"status"`
		Checks []light `json:"checks"`
	}{Status: "pass"}
	for _, check := range c.Checks {
		bounded, cancel := context.WithTimeout(ctx.Request().Context(), checkTimeout)
		start := c.Now()
		detail, err := check.Ask(bounded)
		cancel()
		l := light{Name: check.Name, Status: "pass", Latency: c.Now().Sub(start).Milliseconds()}
		switch {
		case err != nil && check.Critical:
			l.Status, l.Detail, answer.Status, status = "fail", "does not answer", "fail", http.StatusServiceUnavailable
		case err != nil:
			l.Status, l.Detail = "warn", detail
		}
		answer.Checks = append(answer.Checks, l)
	}
	return ctx.JSON(status, answer)
}
