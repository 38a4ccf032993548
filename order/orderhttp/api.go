package orderhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/stock"
)

// Orders is what customers may ask of orders; *order.Service implements it. What each method promises, and its errors,
// stand there: the errors that a request can meet have a row in problem.go.
type Orders interface {
	Place(ctx context.Context, p order.Placement) (order.Placed, error)
	Prepay(ctx context.Context, r order.PrepayRequest) (order.Prepayment, error)
	Cancel(ctx context.Context, r order.CancelRequest) (order.Order, error)
	Sync(ctx context.Context, orderNo string, cause order.Cause) (order.Order, error)
	// FindOwn gives ErrNotFound for an order of somebody else.
	FindOwn(ctx context.Context, customerID, orderNo string) (order.Order, error)
	List(ctx context.Context, f order.Filter) ([]order.Order, string, error)
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
	Now     func() time.Time // the clock of tokens, limits and expires_in_seconds
	Log     *slog.Logger     // nil: silent
	Observe Observer         // nil: nothing is counted
	Limits  Limits           // zero: the defaults
	// OpenAPI is the document served at /openapi.yaml; nil serves none.
	OpenAPI []byte
	// Stopping ends the long polls when it is closed: http.Server.Shutdown waits for requests under way and does not
	// cancel them, so that a poll would hold a stop up for MaxWait. Nil: they end by themselves.
	Stopping <-chan struct{}
}

// Budgets of a request, inside the server's WriteTimeout: when one is used up the context ends, and the client has 503
// with Retry-After instead of a connection that breaks.
const (
	// storeBudget is for requests that need only the database. Retries of a deadlock or a failover fit in; a database
	// that stays away is a 503 within three seconds, which a person still waits for.
	storeBudget = 2500 * time.Millisecond
	// wechatBudget is for requests that ask WeChat Pay: a close and a query of
	// five seconds each, and the database around them.
	wechatBudget = 15 * time.Second
)

// api holds what the handlers share.
type api struct {
	Options
	limits limiters
	polls  chan struct{} // one token per long poll under way
}

// New gives the customers' listener: every route of it, and nothing else.
func New(o Options) (*echo.Echo, error) {
	if o.Orders == nil || o.SKUs == nil || o.Tokens == nil || o.Now == nil {
		return nil, errors.New("orderhttp: Options needs Orders, SKUs, Tokens and Now")
	}
	a := &api{Options: o, limits: newLimiters(o.Limits, o.Now), polls: make(chan struct{}, maxPolls)}
	e := newEcho(EdgeOptions{Now: o.Now, Log: o.Log, Observe: o.Observe})
	for _, r := range a.routes() {
		h := withBudget(r.budget, r.handle)
		if r.limit != nil {
			h = a.authenticated(r.limit, h)
		}
		e.Add(r.method, r.path, h)
	}
	return e, nil
}

// route is one route of the customers' listener.
type route struct {
	method, path string
	handle       echo.HandlerFunc
	limit        *limiter      // nil: open to everybody; else a customer's token is needed, and counted here
	budget       time.Duration // how long the handler may take; 0: it bounds itself
}

// routes are all addresses of the listener. docs/openapi.yaml has the same ones, and a test compares them.
func (a *api) routes() []route {
	l := &a.limits
	return []route{
		{http.MethodPost, "/v1/orders", a.place, l.place, storeBudget},
		{http.MethodGet, "/v1/orders", a.list, l.read, storeBudget},
		{http.MethodGet, "/v1/orders/:order_no", a.show, l.read, 0},
		{http.MethodPost, "/v1/orders/:order_no/prepay", a.prepay, l.pay, wechatBudget},
		{http.MethodPost, "/v1/orders/:order_no/payment-query", a.paymentQuery, l.pay, wechatBudget},
		{http.MethodPost, "/v1/orders/:order_no/cancel", a.cancel, l.pay, wechatBudget},
		{http.MethodGet, "/v1/orders/:order_no/qrcode.svg", a.qrcode, l.read, storeBudget},
		{http.MethodPost, "/v1/orders/:order_no/refunds", a.askRefund, l.pay, storeBudget},
		{http.MethodGet, "/v1/orders/:order_no/refunds", a.listRefunds, l.read, storeBudget},
		{http.MethodGet, "/v1/orders/:order_no/refunds/:out_refund_no", a.showRefund, l.read, storeBudget},
		{http.MethodGet, "/v1/refunds/:out_refund_no", a.showRefund, l.read, storeBudget},
		{http.MethodGet, "/v1/skus/:sku_id/stock", a.skuStock, l.read, storeBudget},
		{http.MethodGet, "/v1/stock", a.manyStock, l.read, storeBudget},
		{http.MethodGet, "/openapi.yaml", a.openAPI, nil, 0},
		{http.MethodGet, "/problems/:slug", problemPage, nil, 0},
		{http.MethodGet, "/healthz", healthz, nil, 0},
	}
}

// withBudget bounds the time of a handler.
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

// authenticated lets a customer's token in, within the customer's limit.
func (a *api) authenticated(l *limiter, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		token, ok := bearer(c.Request().Header)
		if !ok {
			return &Failure{Code: CodeUnauthenticated}
		}
		customer, err := a.Tokens.Customer(token)
		if err != nil {
			return err
		}
		if wait := l.take(customer); wait > 0 {
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

// causeOf says in the timeline who asked and by which request.
func causeOf(c echo.Context) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: customerOf(c)}, Type: "request",
		ID: RequestID(c)}
}

// openAPI serves docs/openapi.yaml as it was built in.
func (a *api) openAPI(c echo.Context) error {
	if a.OpenAPI == nil {
		return echo.ErrNotFound
	}
	return c.Blob(http.StatusOK, "application/yaml; charset=utf-8", a.OpenAPI)
}

// healthz says that the process is alive. It depends on nothing else.
func healthz(c echo.Context) error {
	return c.JSONBlob(http.StatusOK, []byte(`{"status":"pass"}`+"\n"))
}
