package orderhttp

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/shops"
	"orderd/payment/feed"
)

// headerCustomer names the customer that a shop's back end acts for.
const headerCustomer = "Orderd-Customer"

// Shops says whose key a request carries; *shops.Store implements it.
type Shops interface {
	// Who gives nil for a secret that is nobody's.
	Who(ctx context.Context, secret string) (*shops.Key, error)
}

// Events is the feed; a *feed.Feed with the clock of its events has both.
type Events interface {
	// After gives events behind a place and the place to go on from: see feed.Feed.
	After(ctx context.Context, after int64, limit int) ([]feed.Event, int64, error)
	// Begin gives the place of this moment: see feed.Feed.
	Begin(ctx context.Context) (int64, error)
}

// shopKey is where the key of a shop is kept in its echo.Context.
const shopKey = "orderhttp.shop"

// shopOf gives the key that a request came with, nil for a customer's.
func shopOf(c echo.Context) *shops.Key {
	key, _ := c.Get(shopKey).(*shops.Key)
	return key
}

// shopName gives the shop of the key that a request came with, "" for a customer's.
func shopName(c echo.Context) string {
	if key := shopOf(c); key != nil {
		return key.Shop
	}
	return ""
}

// shop lets a shop's key in that has the scope of a route. It acts for the customer that
// Orderd-Customer names, and has that customer's limits; where nobody is acted for, its own.
func (a *api) shop(c echo.Context, r *route, secret string) error {
	key, err := a.Shops.Who(c.Request().Context(), secret)
	if err != nil {
		return err
	}
	if key == nil {
		return a.WrongTokens.Refuse(c.Request(), &Failure{Code: CodeUnauthenticated})
	}
	if !key.May(r.scope) {
		return &Failure{Code: CodeForbidden, Text: Text{
			En: "This key of a shop does not have the scope " + string(r.scope) + ".",
			Zh: "该店铺密钥没有 " + string(r.scope) + " 权限。"}}
	}
	who := "shop " + key.Shop
	if r.forCustomer {
		names := c.Request().Header.Values(headerCustomer)
		if len(names) != 1 || !validCustomer(names[0]) {
			return &Failure{Code: CodeValidation, Fields: []order.FieldError{{Pointer: headerCustomer,
				Code: bounds.CodeRequired, Detail: "a shop's key acts for one customer: name it in " + headerCustomer}}}
		}
		who = names[0]
		c.Set(customerKey, who)
	}
	if wait := r.limit.take(who); wait > 0 {
		return &Failure{Code: CodeRateLimited, RetryAfter: wait}
	}
	c.Set(shopKey, key)
	return nil
}

// isShopKey reports that a bearer token is a key of a shop: a customer's is a JWT, which has
// another form.
func isShopKey(token string) bool { return strings.HasPrefix(token, shops.Prefix) }

// paramsEvents are those of GET /v1/events.
var paramsEvents = []string{"after", "types", "wait", "limit"}

const (
	// maxEventWait is how long GET /v1/events waits for something to happen.
	maxEventWait = 20
	// eventPage is how many events one answer has at most, and without limit.
	eventPage = 500
	// eventEvery is how often a long poll of the feed looks.
	eventEvery = 500 * time.Millisecond
)

// eventView is an event of the feed, as a webhook has it, with its number.
type eventView struct {
	ID int64 `json:"id"`
	feed.Message
}

// eventsView is the answer of GET /v1/events. NextAfter is the after of the next request, also
// when there was nothing: what was of another type is passed.
type eventsView struct {
	Data      []eventView `json:"data"`
	NextAfter int64       `json:"next_after"`
}

// events is GET /v1/events: what happened behind a place, the oldest first. Without after it
// begins with the oldest that is kept; after=now gives the place of this moment.
func (a *api) events(c echo.Context) error {
	if shopOf(c) == nil { // a customer is told of its own orders by asking for them
		return &Failure{Code: CodeForbidden}
	}
	q, err := query(c, paramsEvents...)
	if err != nil {
		return err
	}
	var bad invalid
	wait := time.Duration(q.number(&bad, "wait", 0, maxEventWait, 0)) * time.Second
	limit := int(q.number(&bad, "limit", 1, eventPage, eventPage))
	types := eventTypes(&bad, url.Values(q).Get("types"))
	after, now := int64(0), url.Values(q).Get("after") == "now"
	if !now {
		after = q.number(&bad, "after", 0, 1<<53, 0)
	}
	if err := bad.err(); err != nil {
		return err
	}
	if now {
		place, err := a.Events.Begin(c.Request().Context())
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, eventsView{Data: []eventView{}, NextAfter: place})
	}
	view, err := a.eventsAfter(c, after, limit, types, wait)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view)
}

// eventTypes reads the list of types, all without any.
func eventTypes(bad *invalid, list string) map[feed.Type]bool {
	types := map[feed.Type]bool{}
	for word := range strings.SplitSeq(list, ",") {
		t := feed.Type(word)
		if list == "" {
			break
		}
		if !t.Known() {
			var words []string
			for _, known := range feed.Types() {
				words = append(words, string(known))
			}
			*bad = append(*bad, order.FieldError{Pointer: "?types", Code: codeEnum,
				Detail: WantOneOf + strings.Join(words, ", ")})
			break
		}
		types[t] = true
	}
	return types
}

// eventsAfter reads until there is something of the types, or the wait is over, the client is
// gone or the service stops.
func (a *api) eventsAfter(c echo.Context, after int64, limit int, types map[feed.Type]bool,
	wait time.Duration) (eventsView, error) {
	view := eventsView{Data: []eventView{}, NextAfter: after}
	if wait > 0 {
		select {
		case a.polls <- struct{}{}:
			defer func() { <-a.polls }()
			c.Set(polledKey, true)
		default:
			wait = 0
		}
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	look := time.NewTicker(eventEvery)
	defer look.Stop()
	for {
		ctx, cancel := context.WithTimeout(c.Request().Context(), storeBudget)
		events, next, err := a.Events.After(ctx, view.NextAfter, limit)
		cancel()
		if err != nil {
			return view, err
		}
		view.NextAfter = next
		for i := range events {
			if len(types) == 0 || types[events[i].Type] {
				view.Data = append(view.Data, eventView{events[i].ID, events[i].Message()})
			}
		}
		if len(view.Data) > 0 || wait == 0 {
			return view, nil
		}
		if len(events) == limit {
			select { // there may be more behind those of other types
			case <-end.C:
				return view, nil
			case <-a.Stopping:
				return view, nil
			case <-c.Request().Context().Done():
				return view, c.Request().Context().Err()
			default:
				continue
			}
		}
		select {
		case <-look.C:
		case <-end.C:
			wait = 0 // a last look
		case <-a.Stopping:
			return view, nil
		case <-c.Request().Context().Done():
			return view, c.Request().Context().Err()
		}
	}
}
