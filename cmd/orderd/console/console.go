package console

import (
	"bytes"
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
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/feed"
	"orderd/payment/operators"
	"orderd/scheduler"
	"orderd/stock"
	"orderd/stock/gate"
)

// Orders is what operators need of orders; *order.Service implements it, and documents
// its errors.
type Orders interface {
	// Find gives an order of whichever customer.
	Find(ctx context.Context, orderNo string) (order.Order, error)
	// List gives a page and the cursor of the next, "" on the last.
	List(ctx context.Context, f order.Filter) ([]order.Order, string, error)
	// Total counts and sums what List lists, of a bounded number of orders.
	Total(ctx context.Context, f order.Filter) (order.Total, error)
	Timeline(ctx context.Context, orderNo string) ([]order.TimelineEvent, error)
	// Search finds whatever has a text as its number or id.
	Search(ctx context.Context, text string) ([]order.Hit, error)
	// Cancel asks WeChat Pay to close the order first, also for operators: there is no
	// way around that, or stock of an order that is just being paid would be sold twice.
	Cancel(ctx context.Context, r order.CancelRequest) (order.Order, error)
	// Sync asks WeChat Pay about an order and records a payment that it has.
	Sync(ctx context.Context, orderNo string, cause order.Cause) (order.Order, error)
	// VouchUnpaid needs two people: what WeChat Pay does not say, they do.
	VouchUnpaid(ctx context.Context, r order.VouchRequest) (order.Vouched, error)
	// AddNote writes a line into the timeline and moves nothing.
	AddNote(ctx context.Context, n order.Note) (order.Order, error)
	// FindHeld gives one payment as ListHeld gives those that are held.
	FindHeld(ctx context.Context, transactionID string) (order.HeldPayment, error)
	// ListHeld and JudgeHeld are of payments that fit no order and wait for a person.
	ListHeld(ctx context.Context, cursor string, limit int) ([]order.HeldPayment, string, error)
	ListWrittenOff(ctx context.Context, cursor string, limit int) ([]order.HeldPayment, string, error)
	ResolveHeld(ctx context.Context, r order.ResolveHeld) (order.ResolvedHeld, error)
	JudgeHeld(ctx context.Context, transactionID, why string, cause order.Cause) (order.Settlement, error)
	// DueBySecond counts the open orders by the second in which they are taken.
	DueBySecond(ctx context.Context, horizon time.Duration) ([]order.DueSecond, error)
	// DueByMinute counts them by minute and state.
	DueByMinute(ctx context.Context, horizon time.Duration) ([]order.DueMinute, error)
	// Backlog counts the open orders: for the first page and for gauges.
	Backlog(ctx context.Context) (order.Backlog, error)
	// Overdue counts those that are past their due time, no more than so many: for every page.
	Overdue(ctx context.Context, most int64) (int64, error)
	// HeldBacklog sums what ListHeld lists, and MoneyOf what was paid in a time: for the first page.
	HeldBacklog(ctx context.Context) (order.HeldBacklog, error)
	MoneyOf(ctx context.Context, from, to time.Time) (order.DayMoney, error)
	// Flows gives a page of what moved the units of a SKU.
	Flows(ctx context.Context, f order.FlowFilter) ([]order.Flow, string, error)
	// OrderFlows gives what an order moved, oldest first.
	OrderFlows(ctx context.Context, orderNo string) ([]order.OrderFlow, error)
	// StockAccount says where every unit of a SKU is.
	StockAccount(ctx context.Context, skuID string) (order.Account, error)
	// PlacedByMinute counts the orders placed from a time on, by minute and state.
	PlacedByMinute(ctx context.Context, from time.Time) ([]order.PlacedMinute, bool, error)
	// LastReceived gives the payments that were received last.
	LastReceived(ctx context.Context, limit int) ([]order.Received, error)
	StockAccounts(ctx context.Context, skuIDs []string) (map[string]order.Account, error)
}

// Stock is what operators need of stock; *stock.Admin implements it, and documents its
// errors.
type Stock interface {
	// Put says by its second result that the SKU is new.
	Put(ctx context.Context, p stock.Put) (stock.SKU, bool, error)
	// Replenish and Adjust move stock once for each idempotency key.
	Replenish(ctx context.Context, c stock.Change) (stock.Changed, error)
	Adjust(ctx context.Context, c stock.Change) (stock.Changed, error)
	Find(ctx context.Context, id string) (stock.SKU, error)
	// List gives up to limit SKUs after the one named cursor, by their ids.
	List(ctx context.Context, cursor string, limit int) ([]stock.SKU, error)
	// PlanImport says what Import of a file would do, Import does it.
	PlanImport(ctx context.Context, file []byte, mode stock.Mode) (stock.ImportReport, error)
	Import(ctx context.Context, r io.Reader, o stock.ImportOptions) (stock.ImportReport, error)
	// ListFrom is List from an id on.
	ListFrom(ctx context.Context, first, cursor string, limit int) ([]stock.SKU, error)
	Gates
}

// Tasks is what operators see of the queue; *scheduler.Queue implements it.
type Tasks interface {
	// Depth reads Redis and not the database: what is queued there, which is only a copy
	// of when orders are due.
	Depth() (scheduler.Depth, error)
	// Scheduled gives the seconds up to a time that have a wake-up, in Unix time.
	Scheduled(until time.Time) (map[int64]bool, error)
	// Workers gives the processes that run tasks.
	Workers() ([]scheduler.WorkerProcess, error)
}

// Queues is what operators see of the queues of sales; gate.Queue has it.
type Queues interface {
	// Depths reads Redis: what waits there is in no table.
	Depths(ctx context.Context) ([]gate.Depth, error)
}

// Role is what an operator may do: see package operators.
type Role = operators.Role

// The roles, as routes have them.
const (
	Viewer            = operators.Viewer
	Operator          = operators.Operator
	Finance           = operators.Finance
	Admin             = operators.Admin
	operatorOrFinance = operators.OperatorOrFinance
)

// Token is a bearer token, known by its hash alone: whoever reads memory, database or a
// core dump cannot use it.
type Token struct {
	// Name is whose it is, in timelines, stock flows and the log: a person's name, whichever
	// token of theirs it was.
	Name   string
	Role   Role
	SHA256 [sha256.Size]byte
}

// Options shape the admin listener. What is not said to be optional is required.
type Options struct {
	Orders     Orders
	Stock      Stock
	Refunds    Refunds
	Reconciler Reconciler
	// Shipments is nil unless the shop is a mini program's that reports them.
	Shipments Shipments
	// Webhooks is nil where the shop's back end is told nothing.
	Webhooks Webhooks
	// Bulk is nil where nothing is done to many things at once.
	Bulk Bulk
	// Tasks is nil in a process without a queue: its depth is then not shown.
	Tasks Tasks
	// Home has the buckets of sales in Redis; nil: this process cannot ask for them.
	Home gate.Inspector
	// Queues tells what waits in the queues of sales; nil: nothing is known of them.
	Queues Queues
	// Failures has the tasks that failed.
	Failures *scheduler.DeadLetters
	// Tokens are those of the configuration, at least one: the bootstrap token, by which
	// the first operator makes the others. They work without the database.
	Tokens []Token
	// TokenStore has the tokens that can be made and revoked; nil: only Tokens.
	TokenStore *TokenStore
	// Trail has what people do, before it is done; nil in tests alone, where nothing is written down.
	Trail Trail
	// VerbActions are the names in the trail of what verbs of the shell alone can do.
	VerbActions []string
	// Logins are how people come in by a browser, which needs a TokenStore; nil: tokens alone.
	Logins *operators.Logins
	// ShopKeys are the keys of the shop's back ends; nil: pages have nothing of them.
	ShopKeys ShopKeys
	// RequireTOTP has finance and admins log in with one-time codes.
	RequireTOTP bool
	// BehindTLS says that browsers reach the listener by a proxy that has the TLS, whatever a request
	// says: cookies without TLS are neither taken nor set.
	BehindTLS bool
	// TrustedProxies are those whose X-Forwarded-For says where a browser is.
	TrustedProxies []netip.Prefix
	// WrongTokens bounds the tokens that are nobody's; nil: nothing does.
	WrongTokens *orderhttp.WrongTokens
	// Background runs what takes longer than a request and ends with the service;
	// nil: the request waits for it.
	Background func(func(context.Context))
	// Health is what is known of the process beside its readiness; nil: nothing more.
	Health func(ctx context.Context) Health
	// Feed is what pages are told of while they are open; nil: they stay as they were loaded.
	Feed *feed.Feed
	// EventsEvery is how often it is looked at; default every two seconds.
	EventsEvery time.Duration
	// Stopping ends what pages hear when it is closed; nil: nothing does but their leaving.
	Stopping <-chan struct{}
	Metrics  *Metrics
	// Ready answers GET /readyz.
	Ready *Readiness
	Now   func() time.Time
	Log   *slog.Logger // nil: silent
	// AccessLog logs every request.
	AccessLog bool
	// Simulated says on every page that WeChat Pay is the simulator: nobody shall take
	// what is shown for real money, or the other way around.
	Simulated bool
	// CloseRate is that of scheduler.Options, for the time that a backlog takes.
	CloseRate float64
	// OpenAPI is the document served at /admin/v1/openapi.yaml; nil serves none.
	OpenAPI []byte
}

const (
	// maxBody is in bytes, as that of the customers' API. Bills have maxUpload.
	maxBody = 64 << 10
	// apiTimeout bounds a request: a close calls WeChat Pay twice, with five seconds for
	// each call, and the database around them.
	apiTimeout = 15 * time.Second
)

// console holds what the handlers share: the options, which New has completed.
type console struct {
	Options
	workbooks chan struct{} // one in it for each that is being made: see workbooksAtOnce
	uploads   chan struct{} // one in it for each file that comes in: see uploadsAtOnce
	forms     []act
	formRoles map[string]Role // of the routes that forms ask
	pulses    pulses
	hub       hub
}

// route is a row of the table of routes; role is empty for what needs no token. A test
// walks the table, so that no route can be added without deciding who may use it.
type route struct {
	method, path string
	role         Role
	handle       echo.HandlerFunc
}

// orderParameters are the filters of lists of orders. Pages have two more, for people: amounts in yuan.
var (
	orderParameters = []string{"order_no", "customer_id", "state", "out_trade_no", "transaction_id", "out_refund_no",
		"reference", "sku_id", "stuck", "created_from", "created_to", "amount_min", "amount_max", "trade_type",
		"paid_from", "paid_to", "closed_from", "closed_to", "limit", "cursor"}
	pageParameters = append(slices.Clone(orderParameters), "yuan_min", "yuan_max")
)

// parameters are those of the routes that read and have some. What reads with another one
// is refused: a filter that is silently ignored shows, and may then act on, all there is.
var parameters = map[string][]string{
	"/admin/v1/orders":           orderParameters,
	uiOrders:                     append(slices.Clone(pageParameters), "hide"),
	uiOrders + ".csv":            pageParameters,
	uiOrders + ".xlsx":           pageParameters,
	"/ui/search":                 {"q"},
	"/ui/held":                   {"written_off", "cursor"},
	"/ui/webhooks/:id":           {"cursor"},
	uiStock:                      {"q", "low", "cursor"},
	uiRefunds:                    {"state", "cursor"},
	uiStock + "/:id":             {"from", "to", "cursor"},
	"/ui/tasks":                  {"cursor"},
	"/ui/webhooks/:id/redeliver": {"event_id", "order_no"},
	"/admin/v1/held":             {"written_off", "limit", "cursor"},
	"/admin/v1/search":           {"q"},
	"/admin/v1/skus/:id/flows":   {"from", "to", "limit", "cursor"},
	"/admin/v1/timeouts/due":     {"bucket", "horizon"},
	"/admin/v1/payments/held":    {"written_off", "limit", "cursor"},
	"/admin/v1/shipments":        {"state", "limit", "cursor"},
	"/admin/v1/skus":             {"limit", "cursor"},
	"/admin/v1/refunds":          {"state", "order_no", "transaction_id", "reason", "limit", "cursor"},
	"/admin/v1/tasks/dead": {"type", "state", "cause", "failed_before", "failed_after", "limit",
		"cursor"},
	"/admin/v1/tasks/dead/groups":       {"state"},
	uiBulk:                              {"cursor"},
	uiBulk + "/:id":                     {"state", "cursor"},
	uiBulk + "/close":                   bulkListParameters(),
	uiBulk + "/ask":                     bulkListParameters(),
	bulkAPI:                             {"limit", "cursor"},
	bulkAPI + "/:id/rows":               {"state", "limit", "cursor"},
	"/ui/tasks/run":                     groupFields,
	"/ui/tasks/discard":                 groupFields,
	"/admin/v1/webhooks/:id/deliveries": {"limit", "cursor"},
	"/admin/v1/reconciliations":         {"limit", "cursor"},
	"/admin/v1/reconciliations/:id/differences": differenceParameters,
	"/admin/v1/reconciliations/:id/proof":       {"seq"},
	"/admin/v1/differences":                     differenceParameters,
	"/admin/v1/differences/work.xlsx":           differenceParameters,
	"/admin/v1/audit":                           {"actor", "action", "target", "from", "to", "limit", "cursor"},
	"/ui/trail":                                 {"actor", "action", "target", "from", "to", "cursor"},
	"/ui/trail.csv":                             {"from", "to"},
	uiBooks:                                     {"month"},
	uiBooks + ".csv":                            {"month"},
	uiBooks + ".xlsx":                           {"month"},
	uiBooks + "/:id/day.csv":                    differenceParameters,
	uiBooks + "/:id/day.xlsx":                   differenceParameters,
	uiBooks + "/:id":                            append(slices.Clone(differenceParameters), "across"),
	uiDiffs:                                     differenceParameters,
	"/login":                                    {"next"},
	"/setup":                                    {"t"},
	"/debug/pprof/":                             {"debug"},
	"/debug/pprof/profile":                      {"seconds"},
	"/debug/pprof/trace":                        {"seconds"},
	"/debug/pprof/:name":                        {"debug", "gc", "seconds"},
}

// New makes the admin listener's handler: every route of it, and nothing else.
func New(o Options) (*echo.Echo, error) {
	if o.Orders == nil || o.Stock == nil || o.Refunds == nil || o.Reconciler == nil || o.Failures == nil ||
		o.Metrics == nil || o.Ready == nil || o.Now == nil || len(o.Tokens) == 0 {
		return nil, errors.New("console: Options needs Orders, Stock, Refunds, Reconciler, Failures, Metrics, " +
			"Ready, Now and a token")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c := &console{Options: o, workbooks: make(chan struct{}, workbooksAtOnce),
		uploads: make(chan struct{}, uploadsAtOnce)}
	e := newEcho(o.Now, o.Log, o.Metrics, o.AccessLog, c.problem)
	e.Use(sameOrigin)
	for _, r := range c.routes() {
		e.Add(r.method, r.path, c.guard(r.role, c.takenIn(r.method, r.path, c.recorded(r.method, r.path, r.handle))))
	}
	return e, nil
}

// newEcho has the same shape as orderhttp's listeners; how an error is answered is the difference.
func newEcho(now func() time.Time, log *slog.Logger, observe orderhttp.Observer, access bool,
	problem func(echo.Context, error)) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = func(err error, ctx echo.Context) { problem(ctx, err) }
	e.Use(orderhttp.Edge(orderhttp.EdgeOptions{
		Now: now, Log: log, Observe: observe, Access: access,
		WriteError: problem,
	}))
	return e
}

// routes is the whole surface. Health, metrics and the pages of problems need no token: the
// listener is loopback by default, and what scrapes and probes has none. docs/admin-openapi.yaml
// describes those below /admin/v1, and a test compares.
func (c *console) routes() []route {
	all := slices.Concat(c.uiRoutes(), c.baseRoutes(), c.noteRoutes(), c.stockRoutes(), c.importRoutes(),
		c.timeoutRoutes(), c.callbackRoutes(), c.healthRoutes(), c.gateRoutes(),
		c.refundRoutes(), c.reconcileRoutes(), c.financeRoutes(), c.taskRoutes(), c.profileRoutes())
	if c.Feed != nil {
		all = append(all, route{http.MethodGet, uiEvents, Viewer, orderhttp.Quiet(c.events)})
	}
	if c.Shipments != nil {
		all = append(all, c.shipmentRoutes()...)
	}
	if c.Webhooks != nil {
		all = append(all, c.webhookRoutes()...)
	}
	if c.Bulk != nil {
		all = append(all, c.bulkRoutes()...)
	}
	if c.TokenStore != nil {
		all = append(all, c.tokenRoutes()...)
	}
	if c.Logins != nil && c.TokenStore != nil {
		all = append(append(all, slices.Concat(c.loginRoutes(), c.viewRoutes())...), c.peopleRoutes()...)
	}
	if c.Trail != nil {
		all = append(all, c.trailRoutes()...)
	}
	return append(all, c.formRoutes(all)...)
}

// baseRoutes are health, metrics, orders and SKUs; the other files have the rest. What
// corrects the shelf is an admin's: it makes goods out of nothing.
func (c *console) baseRoutes() []route {
	return append(opsRoutes(c.Ready, c.Metrics), []route{
		{http.MethodGet, "/", Viewer, c.page},
		{http.MethodGet, uiOrders, Viewer, c.ordersPage},
		{http.MethodGet, uiOrders + ".csv", Viewer, c.ordersFile},
		{http.MethodGet, uiOrders + ".xlsx", Viewer, c.ordersFile},
		{http.MethodGet, uiOrders + "/:no", Viewer, c.orderPage},
		{http.MethodGet, "/ui/search", Viewer, c.searchPage},
		{http.MethodGet, "/ui/held", Viewer, c.heldPage},
		{http.MethodGet, "/admin/v1/openapi.yaml", Viewer, c.openAPI},
		{http.MethodGet, "/admin/v1/search", Viewer, c.search},
		{http.MethodGet, "/admin/v1/orders", Viewer, c.listOrders},
		{http.MethodGet, "/admin/v1/orders/:no", Viewer, c.getOrder},
		{http.MethodGet, "/admin/v1/orders/:no/timeline", Viewer, c.timeline},
		{http.MethodPost, "/admin/v1/orders/:no/close", Operator, c.closeOrder},
		{http.MethodPost, "/admin/v1/orders/:no/payment-query", Operator, c.syncOrder},
		{http.MethodPost, "/admin/v1/orders/:no/vouch-unpaid", operatorOrFinance, c.vouchUnpaid},
		{http.MethodGet, "/admin/v1/held", Viewer, c.listHeld},
		{http.MethodPost, "/admin/v1/held/:id", Finance, c.resolveHeld},
		{http.MethodGet, "/admin/v1/payments/held", Viewer, c.listHeld},
		{http.MethodPost, "/admin/v1/payments/held/:id/judge-again", Finance, c.judgeHeld},
		{http.MethodGet, "/admin/v1/timeouts/due", Viewer, c.listDue},
		{http.MethodGet, "/admin/v1/skus", Viewer, c.listSKUs},
		{http.MethodGet, "/admin/v1/skus/:id", Viewer, c.getSKU},
		{http.MethodGet, "/admin/v1/skus/:id/flows", Viewer, c.listFlows},
		{http.MethodPut, "/admin/v1/skus/:id", Operator, c.putSKU},
		{http.MethodPost, "/admin/v1/skus/:id/replenish", Operator, c.replenish},
		{http.MethodPost, "/admin/v1/skus/:id/adjust", Admin, c.adjust},
	}...)
}

// operatorKey is where guard keeps the name of the token in the echo.Context.
const operatorKey = "operator"

// longer reports that a route sends or receives a whole bill: such a route is not bounded
// by apiTimeout, and neither are profiles. A bill may take as long as something of it moves
// (slowBody, slowAnswer).
func longer(ctx echo.Context) bool {
	path := ctx.Path()
	_, _, file := asFile(ctx.Request())
	return path == "/admin/v1/reconciliations" || strings.HasSuffix(path, "/bill") ||
		strings.HasSuffix(path, "/proof") || strings.HasPrefix(path, "/admin/v1/differences/import") ||
		strings.HasSuffix(path, "/work.xlsx") || path == uiDiffs+"/import" || path == uiBooks+"/upload" ||
		path == uiSKUs+"/import" || strings.HasPrefix(path, "/admin/v1/stock/import") ||
		strings.HasSuffix(path, "/differences") ||
		(path == "/admin/v1/orders" || path == bulkAPI+"/:id/rows") && file ||
		strings.HasPrefix(path, uiOrders+".") || strings.HasPrefix(path, uiBooks+"/:id/day.") ||
		path == uiBulk+"/:id/rows.csv" || path == "/ui/trail.csv"
}

// guard wants a token of the role, or a browser that is signed in as somebody of the role: 401
// without, where a browser is led to the login, and 403 for another role. It bounds the request by
// apiTimeout.
func (c *console) guard(need Role, h echo.HandlerFunc) echo.HandlerFunc {
	if need == "" {
		return h
	}
	return func(ctx echo.Context) error {
		who, err := c.caller(ctx)
		var page *elsewhere
		if errors.As(err, &page) {
			return see(ctx, page.to)
		}
		if err != nil {
			return err
		}
		if !who.Role.May(need) {
			return &orderhttp.Failure{Code: orderhttp.CodeForbidden}
		}
		if err := checkQuery(ctx); err != nil {
			return err
		}
		ctx.Set(operatorKey, who.Name)
		ctx.Set(roleKey, who.Role)
		ctx.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		bounded, cancel := context.WithTimeout(ctx.Request().Context(), apiTimeout)
		defer cancel()
		switch {
		case ctx.Path() == uiEvents: // ends by itself: see events
		case longer(ctx):
			ctx.Response().Writer = newSlowAnswer(ctx.Response().Writer)
		case !strings.HasPrefix(ctx.Path(), "/debug/"):
			ctx.SetRequest(ctx.Request().WithContext(bounded))
		}
		err = h(ctx)
		if errors.Is(err, bounds.ErrCursor) {
			return invalid("?cursor", bounds.CodeFormat, bounds.ErrCursor.Error())
		}
		return err
	}
}

// checkQuery refuses parameters that a route does not have, names given twice and, in the
// API, names without a value: a filter that is ignored shows everything, and whoever acts
// on it acts on everything. What acts has no parameters: its body says all.
func checkQuery(ctx echo.Context) error {
	var known []string
	if ctx.Request().Method == http.MethodGet {
		known = parameters[ctx.Path()]
	}
	if err := orderhttp.CheckQuery(ctx, known...); err != nil || !strings.HasPrefix(ctx.Path(), "/admin/") {
		return err
	}
	q := query{Context: ctx}
	for name, values := range ctx.QueryParams() {
		if values[0] == "" && name != "cursor" { // without one a list begins
			q.wrong(name, bounds.CodeRequired, "it has no value; leave it out")
		}
	}
	return q.err()
}

// unauthenticated is the answer to whoever is nobody: 401, or 429 for an address that has sent
// too many tokens of nobody's; wrong says that there was one. Who wants to read a page is led to
// the login.
func (c *console) unauthenticated(ctx echo.Context, wrong bool) error {
	err := fail(orderhttp.CodeUnauthenticated, "An operator's token is needed, Authorization: Bearer; a person logs "+
		"in at /login.")
	r := ctx.Request()
	if wrong {
		return c.WrongTokens.Refuse(r, err)
	}
	if c.Logins == nil || !asksForPage(r) || strings.HasPrefix(ctx.Path(), "/admin/") {
		return err
	}
	if r.Method != http.MethodGet {
		return &elsewhere{"/login"}
	}
	return &elsewhere{"/login?" + url.Values{"next": {nextPage(r.URL.RequestURI())}}.Encode()}
}

// who finds the owner of a secret, nil for nobody's. Tokens of the configuration are
// compared in constant time; the others are found by their hash. When the database is
// away the answer is an error, and the request is refused: a token that was revoked must
// not work again because nobody can look.
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

// fail is a problem with a detail of its own.
func fail(code orderhttp.Code, detail string) error {
	return &orderhttp.Failure{Code: code, Text: orderhttp.Text{En: detail, Zh: orderhttp.InChinese(detail)}}
}

// operator gives the name of the token that guard let in; "" where guard was not, which
// no route that changes something allows.
func operator(ctx echo.Context) string {
	name, _ := ctx.Get(operatorKey).(string)
	return name
}

// cause says in the timeline which operator did it, and by which request; the id is that
// of the log and of the answer's X-Request-Id.
func cause(ctx echo.Context) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: operator(ctx)}, Type: "request",
		ID: orderhttp.CauseID(ctx)}
}

// decode reads one JSON object of at most maxBody into a struct. Fields that it does not
// know, names in another case and names given twice are refused, as on the customers'
// side: which of two counts is nobody's to guess. Errors are a *orderhttp.Failure.
func decode(ctx echo.Context, into any) error { return decodeUpTo(ctx, into, maxBody) }

// decodeUpTo is decode of at most so many bytes.
func decodeUpTo(ctx echo.Context, into any, most int64) error {
	media, _, err := mime.ParseMediaType(ctx.Request().Header.Get(echo.HeaderContentType))
	if err != nil || media != echo.MIMEApplicationJSON {
		return &orderhttp.Failure{Code: orderhttp.CodeUnsupportedMedia}
	}
	body, err := io.ReadAll(http.MaxBytesReader(ctx.Response(), ctx.Request().Body, most))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &orderhttp.Failure{Code: orderhttp.CodeBodyTooLarge}
		}
		return fail(orderhttp.CodeMalformed, "The body cannot be read to its end.")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fail(orderhttp.CodeMalformed, "The body cannot be read: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fail(orderhttp.CodeMalformed, "The body must be one JSON object.")
	}
	if name := misnamed(json.NewDecoder(bytes.NewReader(body)), reflect.TypeOf(into).Elem()); name != "" {
		return fail(orderhttp.CodeMalformed, "The body cannot be read: the field "+strconv.Quote(name)+
			" is unknown, or given twice.")
	}
	return nil
}

// misnamed gives a name of the JSON value that d is at, which is known to fit t, that is
// not exactly a field's or is given twice; "" for none. encoding/json takes names in any
// case, and the last of two.
func misnamed(d *json.Decoder, t reflect.Type) string {
	start, err := d.Token()
	if err != nil {
		return ""
	}
	for start == json.Delim('[') && t.Kind() == reflect.Slice && d.More() {
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return ""
		}
		if bad := misnamed(json.NewDecoder(bytes.NewReader(value)), t.Elem()); bad != "" {
			return bad
		}
	}
	if start != json.Delim('{') || t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return ""
	}
	seen := map[string]bool{}
	for d.More() {
		token, _ := d.Token()
		name, _ := token.(string)
		var inner reflect.Type
		if t.Kind() == reflect.Map { // any name, once
			inner = t.Elem()
		}
		for i := 0; t.Kind() == reflect.Struct && i < t.NumField(); i++ {
			if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == name {
				inner = t.Field(i).Type
			}
		}
		if inner == nil || seen[name] {
			return name
		}
		seen[name] = true
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return ""
		}
		if bad := misnamed(json.NewDecoder(bytes.NewReader(value)), inner); bad != "" {
			return name + "." + bad
		}
	}
	return ""
}

// decodeReasoned is decode for what is signed with a reason; reason is the field of the
// body that holds it. Without a reason that fits it is
// VALIDATION_FAILED.
func decodeReasoned(ctx echo.Context, into any, reason *string) error {
	if err := decode(ctx, into); err != nil {
		return err
	}
	return needReason(*reason)
}

// version reads If-Match: "v7" gives 7. No header is IF_MATCH_REQUIRED (428, RFC 6585),
// and one that is no version of ours, or a list, is VERSION_MISMATCH: it cannot be the
// version that is there.
func version(ctx echo.Context) (int64, error) { return versionFrom(ctx, 1) }

// versionFrom is version of what begins at another one than 1.
func versionFrom(ctx echo.Context, least int64) (int64, error) {
	header := strings.Join(ctx.Request().Header.Values("If-Match"), ", ")
	if header == "" {
		return 0, &orderhttp.Failure{Code: orderhttp.CodeIfMatchRequired}
	}
	v, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(header, `"v`), `"`), 10, 64)
	if err != nil || v < least || header != etag(v) {
		return 0, &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch}
	}
	return v, nil
}

// etag gives the entity tag of a version: "v7".
func etag(v int64) string { return `"v` + strconv.FormatInt(v, 10) + `"` }

// needReason wants a reason that fits. What an operator does cannot be taken back;
// the reason is what is left to whoever asks later.
func needReason(reason string) error { return checkReason(&bounds.Reason, reason) }

// checkReason refuses a reason that does not fit: VALIDATION_FAILED.
func checkReason(f *bounds.Field, reason string) error {
	if wrong := f.Check(reason); wrong != nil {
		return invalid("#/reason", wrong.Code, wrong.Detail)
	}
	return nil
}

// invalid is VALIDATION_FAILED for one field, or ?parameter.
func invalid(pointer, code, detail string) error {
	return &orderhttp.Failure{Code: orderhttp.CodeValidation,
		Fields: []order.FieldError{{Pointer: pointer, Code: code, Detail: detail}}}
}

// openAPI is GET /admin/v1/openapi.yaml: docs/admin-openapi.yaml as it was built in, 404 when
// Options has none.
func (c *console) openAPI(ctx echo.Context) error {
	if c.OpenAPI == nil {
		return echo.ErrNotFound
	}
	return ctx.Blob(http.StatusOK, "application/yaml; charset=utf-8", c.OpenAPI)
}
