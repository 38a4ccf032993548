package orderhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/shops"
	"orderd/stock"
)

// Orders is what customers may ask of orders; *order.Service implements it. What each
// method promises, and its errors, stand there: the errors that a request can meet have a
// row in problem.go.
type Orders interface {
	// Place is POST /v1/orders. It is idempotent by customer and key: the same request
	// again gives the first order.
	Place(ctx context.Context, p order.Placement) (order.Placed, error)
	// Prepay is POST …/prepay. An order has one payable trade at WeChat Pay at a time;
	// another trade type closes the first.
	Prepay(ctx context.Context, r order.PrepayRequest) (order.Prepayment, error)
	// Cancel is POST …/cancel. The order that comes back is closing, and not an error,
	// when WeChat Pay gave no usable answer.
	Cancel(ctx context.Context, r order.CancelRequest) (order.Order, error)
	// Sync is POST …/payment-query. It asks WeChat Pay for whichever customer's order it
	// is given, so the handler looks at the owner first.
	Sync(ctx context.Context, orderNo string, cause order.Cause) (order.Order, error)
	// FindOwn gives ErrNotFound for an order of somebody else.
	FindOwn(ctx context.Context, customerID, orderNo string) (order.Order, error)
	// FindQueued gives the customer's placement that waits in the queue of a sale, or the
	// error that tells what has become of it; ErrNotFound for one of somebody else.
	FindQueued(ctx context.Context, customerID, orderNo string) (order.Queued, error)
	// Versions gives the versions of the orders that are there, for all long polls in one
	// read. It is asked about orders that FindOwn has given.
	Versions(ctx context.Context, orderNos []string) (map[string]int64, error)
	// List gives a page and the cursor of the next one, "" on the last. Payments and
	// refunds are not in it.
	List(ctx context.Context, f order.Filter) ([]order.Order, string, error)
	// AskRefund is POST …/refunds. It records the wish; whether money moves is decided by
	// finance or by the limit that needs no approval.
	AskRefund(ctx context.Context, r order.AskRefund) (order.AskedRefund, error)
	// FindOwnRefund gives ErrRefundNotFound for a refund of somebody else's order.
	FindOwnRefund(ctx context.Context, customerID, outRefundNo string) (order.Refund, error)
}

// SKUs says what can be bought; *stock.Admin implements it.
type SKUs interface {
	// FindMany gives the SKUs that exist among ids, in any order.
	FindMany(ctx context.Context, ids []string) ([]stock.SKU, error)
}

// Options shape the customers' listener. Orders, SKUs, Tokens and Now are required.
type Options struct {
	Orders  Orders
	SKUs    SKUs
	Tokens  *Verifier        // says whose token a request carries
	Shops   Shops            // says whose key of a shop; nil: there are none
	Events  Events           // what GET /v1/events reads; needed with Shops
	Now     func() time.Time // the clock of tokens, limits and expires_in_seconds
	Log     *slog.Logger     // nil: silent
	Observe Observer         // nil: nothing is counted
	Limits  Limits           // zero: the defaults
	// TrustedProxies may say in X-Forwarded-For where an H5 payer is, who has not said so
	// in the request; none: the request has to say it.
	TrustedProxies []netip.Prefix
	// WrongTokens bounds the tokens that the shop's login never made; nil: nothing does.
	WrongTokens *WrongTokens
	// OpenAPI is the document served at /openapi.yaml; nil serves none.
	OpenAPI   []byte
	AccessLog bool // log every request
	// Stopping ends the long polls when it is closed: http.Server.Shutdown waits for
	// requests under way and does not cancel them, so that a poll would hold a stop up
	// for MaxWait. Nil: they end by themselves.
	Stopping <-chan struct{}
}

// Budgets of a request, inside the server's WriteTimeout: when one is used up the context
// ends, and the client has 503 with Retry-After instead of a connection that breaks.
const (
	// storeBudget is for requests that need only the database. Retries of a deadlock or a
	// failover fit in; a database that stays away is a 503 within three seconds, which a
	// person still waits for.
	storeBudget = 2500 * time.Millisecond
	// wechatBudget is for requests that ask WeChat Pay: a close and a query of
	// five seconds each, and the database around them.
	wechatBudget = 15 * time.Second
)

// api holds what the handlers share.
type api struct {
	Options
	limits  limiters
	polls   chan struct{} // one token per long poll under way
	watcher *watcher
}

// New gives the customers' listener: every route of it, and nothing else.
func New(o Options) (*echo.Echo, error) {
	if o.Orders == nil || o.SKUs == nil || o.Tokens == nil || o.Now == nil {
		return nil, errors.New("orderhttp: Options needs Orders, SKUs, Tokens and Now")
	}
	a := &api{Options: o, limits: newLimiters(o.Limits, o.Now), polls: make(chan struct{}, maxPolls),
		watcher: newWatcher(o.Orders.Versions)}
	e := newEcho(EdgeOptions{Now: o.Now, Log: o.Log, Observe: o.Observe, Access: o.AccessLog})
	for _, r := range a.routes() {
		h := withBudget(r.budget, r.handle)
		if r.limit != nil {
			h = a.authenticated(&r, strict(r, h))
		}
		e.Add(r.method, r.path, h)
	}
	return e, nil
}

// route is one route of the customers' listener. The table of routes has the limit and
// the budget beside the path, and what a shop's key needs, so that a new route cannot be added
// without deciding on them.
type route struct {
	method, path string
	handle       echo.HandlerFunc
	limit        *limiter      // nil: open to everybody; else a customer's token is needed, and counted here
	budget       time.Duration // how long the handler may take; 0: it bounds itself
	scope        shops.Scope   // that a shop's key needs
	forCustomer  bool          // a shop's key acts for a customer here
}

// routes are all addresses of the listener. docs/openapi.yaml has the same ones, and a
// test compares them.
func (a *api) routes() []route {
	l := &a.limits
	return []route{
		{http.MethodPost, "/v1/orders", a.place, l.place, storeBudget, shops.Place, true},
		{http.MethodGet, "/v1/orders", a.list, l.read, storeBudget, shops.Read, true},
		// No budget: a long poll lasts up to MaxWait, and each of its reads has
		// storeBudget.
		{http.MethodGet, "/v1/orders/:order_no", a.show, l.read, 0, shops.Read, true},
		{http.MethodPost, "/v1/orders/:order_no/prepay", a.prepay, l.pay, wechatBudget, shops.Place, true},
		{http.MethodPost, "/v1/orders/:order_no/payment-query", a.paymentQuery, l.pay, wechatBudget, shops.Place, true},
		{http.MethodPost, "/v1/orders/:order_no/cancel", a.cancel, l.pay, wechatBudget, shops.Place, true},
		{http.MethodGet, "/v1/orders/:order_no/qrcode.svg", a.qrcode, l.read, storeBudget, shops.Read, true},
		{http.MethodPost, "/v1/orders/:order_no/refunds", a.askRefund, l.pay, storeBudget, shops.Refund, true},
		{http.MethodGet, "/v1/orders/:order_no/refunds", a.listRefunds, l.read, storeBudget, shops.Read, true},
		{http.MethodGet, "/v1/orders/:order_no/refunds/:out_refund_no", a.showRefund, l.read, storeBudget,
			shops.Read, true},
		// The same refund without its order: the Location of a 201 names this address.
		{http.MethodGet, "/v1/refunds/:out_refund_no", a.showRefund, l.read, storeBudget, shops.Read, true},
		{http.MethodGet, "/v1/skus/:sku_id/stock", a.skuStock, l.read, storeBudget, shops.Stock, false},
		{http.MethodGet, "/v1/stock", a.manyStock, l.read, storeBudget, shops.Stock, false},
		{http.MethodGet, "/v1/skus", a.manyGoods, l.read, storeBudget, shops.Stock, false},
		// A long poll, as GET /v1/orders/:order_no.
		{http.MethodGet, "/v1/events", a.events, l.read, 0, shops.Read, false},
		// What follows needs no token: documents are the same for everybody, and what
		// probes the health of a process has no token.
		{http.MethodGet, "/openapi.yaml", a.openAPI, nil, 0, "", false},
		{http.MethodGet, "/problems/:slug", ProblemPage, nil, 0, "", false},
		{http.MethodGet, "/healthz", Quiet(healthz), nil, 0, "", false},
	}
}

// strict refuses what reads with a parameter that the route does not have: a filter that is
// silently ignored shows more than was asked for. The handlers of those that have some
// check them by themselves.
func strict(r route, next echo.HandlerFunc) echo.HandlerFunc {
	switch r.path {
	case "/v1/orders", "/v1/orders/:order_no", "/v1/stock", "/v1/skus", "/v1/events":
		return next
	}
	if r.method != http.MethodGet {
		return next
	}
	return func(c echo.Context) error {
		if err := CheckQuery(c); err != nil {
			return err
		}
		return next(c)
	}
}

// withBudget gives a handler's context a deadline, d after the handler is called. A zero
// d leaves the context as it is.
func withBudget(d time.Duration, next echo.HandlerFunc) echo.HandlerFunc {
	if d == 0 {
		return next
	}
	return func(c echo.Context) error {
		r := c.Request()
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		c.SetRequest(r.WithContext(ctx))
		return next(c)
	}
}

// authenticated wants a valid customer's token, or a shop's key (shop), 401 without one, and takes one call from
// the limit that the route names, 429 when there is none left. The limit is counted after
// the token was checked: a forged token must not use up the calls of the customer that it
// names.
func (a *api) authenticated(r *route, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		token, ok := bearer(c.Request().Header)
		if !ok {
			return &Failure{Code: CodeUnauthenticated}
		}
		if a.Shops != nil && isShopKey(token) {
			if err := a.shop(c, r, token); err != nil {
				return err
			}
			return next(c)
		}
		customer, ours, err := a.Tokens.check(token)
		if err != nil && !ours {
			return a.WrongTokens.Refuse(c.Request(), err)
		}
		if err != nil {
			return err
		}
		if wait := r.limit.take(customer); wait > 0 {
			return &Failure{Code: CodeRateLimited, RetryAfter: wait}
		}
		c.Set(customerKey, customer)
		return next(c)
	}
}

// customerKey is where the customer of a request is kept in its echo.Context.
const customerKey = "orderhttp.customer"

// customerOf gives the customer that the token names. Ids of customers come
// from here and from nowhere else.
func customerOf(c echo.Context) string {
	id, _ := c.Get(customerKey).(string)
	if id == "" {
		panic("orderhttp: a customer's route without a customer")
	}
	return id
}

// causeOf says in the timeline who asked and by which request: actor customer, cause type
// request, id that of CauseID. What a shop's key asks for its customer the shop has done.
func causeOf(c echo.Context) order.Cause {
	by := order.Actor{Type: order.ActorCustomer, ID: customerOf(c)}
	if shop := shopName(c); shop != "" {
		by = order.Actor{Type: order.ActorShop, ID: shop}
	}
	return order.Cause{Actor: by, Type: "request", ID: CauseID(c)}
}

// openAPI is GET /openapi.yaml: docs/openapi.yaml as it was built in, 404 when Options
// has none.
func (a *api) openAPI(c echo.Context) error {
	if a.OpenAPI == nil {
		return echo.ErrNotFound
	}
	return c.Blob(http.StatusOK, "application/yaml; charset=utf-8", a.OpenAPI)
}

// healthz is GET /healthz of both listeners: the process is alive and accepts requests.
// It asks no database, or one outage of it would make Kubernetes restart every process;
// /readyz of the admin listener is what looks at the database. "pass" is the word of the
// IETF draft api-health-check.
func healthz(c echo.Context) error {
	return c.JSONBlob(http.StatusOK, []byte(`{"status":"pass"}`+"\n"))
}
