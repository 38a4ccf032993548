package orderhttp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/stock"
)

// Bounds of reading.
const (
	// MaxWait is the longest long poll, short of the idle time-outs of usual
	// proxies (60 s).
	MaxWait = 30 * time.Second
	// maxPolls bounds the long polls of one process: each costs a connection and a
	// goroutine, and the watcher names each of their orders in its one read. One more is
	// answered at once with the order as it is, as if the wait had ended.
	maxPolls = 1000
	// maxListed and defaultListed are orders per page: a screen or two, and what one
	// indexed read gives quickly.
	maxListed     = 200
	defaultListed = 50
	// maxSKUs is how many SKUs one request may ask about: a page of goods, or the largest
	// cart.
	maxSKUs = 50
)

// polledKey marks, in the echo.Context, a request that waited on purpose: it is not
// logged as slow.
const polledKey = "orderhttp.polled"

// show is GET /v1/orders/:order_no, with ?wait= (seconds, up to MaxWait) and ?since= (the
// version that the client has): it then answers when the order is newer, or when the wait
// is over, with the order as it is. A placement that waits in the queue of a sale is newer when
// it is an order. A client that waits so learns of its payment without
// asking every second. since is at most 2^53, the largest whole number that JavaScript
// has without rounding.
func (a *api) show(c echo.Context) error {
	no, err := orderNo(c)
	if err != nil {
		return err
	}
	q, err := query(c, paramsOrder...)
	if err != nil {
		return err
	}
	var bad invalid
	wait := time.Duration(q.number(&bad, "wait", 0, int64(MaxWait/time.Second), 0)) * time.Second
	since := q.number(&bad, "since", 0, 1<<53, 0)
	if err := bad.err(); err != nil {
		return err
	}
	o, err := a.look(c, no)
	if errors.Is(err, order.ErrNotFound) {
		return a.showWaiting(c, no, wait)
	}
	if err == nil && wait > 0 && o.Version <= since {
		o, err = a.poll(c, o, wait, since)
	}
	if err != nil {
		return err
	}
	return a.showOrder(c, http.StatusOK, &o)
}

// look reads an order within its own budget: a poll is long, a read is not.
func (a *api) look(c echo.Context, no string) (order.Order, error) {
	ctx, cancel := context.WithTimeout(c.Request().Context(), storeBudget)
	defer cancel()
	return a.Orders.FindOwn(ctx, customerOf(c), no)
}

// poll waits until the order is newer than since, the wait is over, the client is gone or
// the service stops. The watcher looks for all polls together; only an order that is newer
// is read here, and looked at again where the one that answers lags behind.
func (a *api) poll(c echo.Context, o order.Order, wait time.Duration, since int64) (order.Order, error) {
	select {
	case a.polls <- struct{}{}:
		defer func() { <-a.polls }()
	default:
		return o, nil
	}
	c.Set(polledKey, true)
	end := time.NewTimer(wait)
	defer end.Stop()
	for o.Version <= since {
		newer, err := a.newer(c.Request().Context(), o.OrderNo, since, end.C)
		if err != nil || !newer {
			return o, err
		}
		if o, err = a.look(c, o.OrderNo); err != nil {
			return o, err
		}
	}
	return o, nil
}

// newer reports that the watcher saw a newer version before the wait ended.
func (a *api) newer(ctx context.Context, orderNo string, since int64, end <-chan time.Time) (bool, error) {
	told, leave := a.watcher.wait(orderNo, since)
	defer leave()
	select {
	case err := <-told:
		return err == nil, err
	case <-end:
	case <-a.Stopping:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	return false, nil
}

// showOrder answers with an order and its version as ETag; a reader who has that version
// already gets 304. The version and not a hash of the body: expires_in_seconds changes
// every second, and is worth no new body.
func (a *api) showOrder(c echo.Context, status int, o *order.Order) error {
	tag := etag(o.Version)
	c.Response().Header().Set("ETag", tag)
	if r := c.Request(); r.Method == http.MethodGet && matches(r.Header.Get("If-None-Match"), tag) {
		return c.NoContent(http.StatusNotModified)
	}
	return c.JSON(status, viewOf(o, a.Now()))
}

// etag gives the entity tag of a version, strong and quoted: "v7".
func etag(version int64) string { return `"v` + strconv.FormatInt(version, 10) + `"` }

// matches compares weakly, as If-None-Match wants (RFC 9110, 13.1.2): W/"v7", which a
// proxy that compresses makes of "v7", is the same order.
func matches(header, tag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}

// list is GET /v1/orders: the customer's own orders, newest first, filtered by state and
// by the time of placing, for a shop by its own number too. The cursor is the number of the
// last order shown; as numbers are ULIDs, a page stays the same when orders are placed meanwhile.
func (a *api) list(c echo.Context) error {
	known := paramsOrders
	if shopOf(c) != nil {
		known = paramsShopOrders
	}
	q, err := query(c, known...)
	if err != nil {
		return err
	}
	var bad invalid
	f := order.Filter{
		CustomerID:  customerOf(c),
		State:       order.State(q.one("state")),
		CreatedFrom: q.time(&bad, "created_from"),
		CreatedTo:   q.time(&bad, "created_to"),
		Limit:       int(q.number(&bad, "limit", 1, maxListed, defaultListed)),
		Cursor:      q.one("cursor"),
	}
	if f.Reference = q.one("reference"); f.Reference != "" {
		f.Shop = shopName(c) // another shop's number is of another order
	}
	if f.State != "" && !slices.Contains(order.States(), f.State) {
		bad.query("state", codeEnum, "is not a state of an order")
	}
	if f.Cursor != "" && !validOrderNo(f.Cursor) {
		bad.query("cursor", codeFormat, "is not a cursor of this list")
	}
	if err := bad.err(); err != nil {
		return err
	}
	orders, next, err := a.Orders.List(c.Request().Context(), f)
	if err != nil {
		return err
	}
	now := a.Now()
	return c.JSON(http.StatusOK, PageOf(orders, next, func(o *order.Order) OrderSummary { return summaryOf(o, now) }))
}

// skuStock is GET /v1/skus/:sku_id/stock: what is left of one SKU, 404 when there is
// none.
func (a *api) skuStock(c echo.Context) error {
	id := c.Param("sku_id")
	if !validSKU(id) {
		return stock.ErrSKUNotFound
	}
	skus, err := a.SKUs.FindMany(c.Request().Context(), []string{id})
	if err != nil {
		return err
	}
	if len(skus) == 0 {
		return stock.ErrSKUNotFound
	}
	displayed(c)
	return c.JSON(http.StatusOK, stockViewOf(skus[0], a.Now()))
}

// manyStock is GET /v1/stock?sku_ids=a,b: what is left of up to maxSKUs SKUs.
func (a *api) manyStock(c echo.Context) error { return manySKUs(a, c, paramsStock, stockViewOf) }

// manyGoods is GET /v1/skus?ids=a,b: what a page of goods shows of up to maxSKUs SKUs.
func (a *api) manyGoods(c echo.Context) error { return manySKUs(a, c, paramsSKUs, skuViewOf) }

// manySKUs shows SKUs by a list of ids, in the order asked. Those that do not exist are
// left out, so that one that was withdrawn does not empty a whole page of goods. params
// holds the one parameter, the list's.
func manySKUs[V any](a *api, c echo.Context, params []string, view func(stock.SKU, time.Time) V) error {
	q, err := query(c, params...)
	if err != nil {
		return err
	}
	ids := strings.Split(q.one(params[0]), ",")
	var bad invalid
	if len(ids) > maxSKUs {
		bad.query(params[0], codeLength, "names at most "+strconv.Itoa(maxSKUs)+" SKUs")
	} else if slices.ContainsFunc(ids, func(id string) bool { return !validSKU(id) }) {
		bad.query(params[0], codeFormat, "is a list of sku_id, separated by commas")
	}
	if err := bad.err(); err != nil {
		return err
	}
	skus, err := a.SKUs.FindMany(c.Request().Context(), ids)
	if err != nil {
		return err
	}
	now := a.Now()
	page := Page[V]{Data: []V{}}
	for _, id := range ids {
		if i := slices.IndexFunc(skus, func(s stock.SKU) bool { return s.SkuID == id }); i >= 0 {
			page.Data = append(page.Data, view(skus[i], now))
		}
	}
	displayed(c)
	return c.JSON(http.StatusOK, page)
}

// displayed lets browsers and proxies keep a number of stock for a second: it is shown to
// buyers, and whether there is enough is decided when the order is placed.
func displayed(c echo.Context) { c.Response().Header().Set("Cache-Control", "max-age=1") }

// ofOrder reads the order number in the path and then, by read, the rest of the request:
// a number that cannot be one is 404 before the body is looked at.
func ofOrder[T any](c echo.Context, read func(echo.Context) (T, error)) (no string, got T, err error) {
	if no, err = orderNo(c); err != nil {
		return no, got, err
	}
	got, err = read(c)
	return no, got, err
}

// orderNo gives the order number in the path. What cannot be one is order.ErrNotFound,
// without asking the database.
func orderNo(c echo.Context) (string, error) {
	no := c.Param("order_no")
	if !validOrderNo(no) {
		return "", order.ErrNotFound
	}
	return no, nil
}

// validOrderNo reports that s may be an order number, a ULID in upper case. It is no
// proof that it is one: the database says that.
func validOrderNo(s string) bool {
	return bounds.OrderNo.Fits(s) && strings.ToUpper(s) == s
}

// The parameters of the routes that have some; all others that read have none.
var (
	paramsOrder  = []string{"wait", "since"}
	paramsOrders = []string{"state", "created_from", "created_to", "limit", "cursor"}
	// paramsShopOrders are those of a shop's key.
	paramsShopOrders = append(slices.Clone(paramsOrders), "reference")
	paramsStock      = []string{"sku_ids"}
	paramsSKUs       = []string{"ids"}
)

// params are the query parameters of a request, which query has checked.
type params url.Values

// query reads the parameters; one that the route does not know is a mistake, because a
// filter that is silently ignored gives a wrong answer. So is a name with two values. The
// answer is VALIDATION_FAILED with ?name as the pointer, or MALFORMED_REQUEST for what is
// no query at all.
func query(c echo.Context, known ...string) (params, error) {
	q, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		return nil, &Failure{Code: CodeMalformed, Err: err}
	}
	var bad invalid
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			bad.query(name[:min(len(name), maxUnknownName)], codeUnknownField, notAParameter(known))
		case len(values) > 1:
			bad.query(name, codeDuplicate, "is given twice")
		}
	}
	return params(q), bad.err()
}

// notAParameter names those that there are.
func notAParameter(known []string) string {
	if len(known) == 0 {
		return "is not a parameter here; there are none"
	}
	return theseAre + strings.Join(known, ", ")
}

// CheckQuery refuses parameters that a route does not have, for package console; see query.
func CheckQuery(c echo.Context, known ...string) error {
	_, err := query(c, known...)
	return err
}

// query records a mistake in a query parameter.
func (v *invalid) query(name, code, detail string) {
	if len(*v) < maxFieldErrors {
		*v = append(*v, order.FieldError{Pointer: "?" + name, Code: code, Detail: detail})
	}
}

// one gives the value of a parameter, "" when it is absent; query has refused two of one
// name.
func (p params) one(name string) string { return url.Values(p).Get(name) }

// number reads a whole number between from and to, otherwise when the parameter is absent
// or wrong; what is wrong is recorded in bad.
func (p params) number(bad *invalid, name string, from, to, otherwise int64) int64 {
	s := p.one(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < from || n > to {
		bad.query(name, codeRange, "is a number from "+strconv.FormatInt(from, 10)+" to "+strconv.FormatInt(to, 10))
		return otherwise
	}
	return n
}

// time reads a time of RFC 3339, the zero time when the parameter is absent or wrong;
// what is wrong is recorded in bad.
func (p params) time(bad *invalid, name string) time.Time {
	s := p.one(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		bad.query(name, codeFormat, "is a time like 2026-11-20T13:42:05Z")
	}
	return t
}
