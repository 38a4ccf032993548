package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
	"orderd/order/shops"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// Trail is where what people do is written before it is done; *trail.Trail has it.
type Trail interface {
	Begin(ctx context.Context, who trail.Who, what trail.What) (*trail.Act, error)
	// Append writes a row that is no act's; Told says that one is committed.
	Append(ctx context.Context, e *trail.Entry, fill func(ctx context.Context, tx *sqldb.Tx) error) error
	Told(e *trail.Entry)
	List(ctx context.Context, f trail.Filter) ([]trail.Entry, string, error)
	Head(ctx context.Context) (seq int64, sum string, err error)
	All(ctx context.Context, from, to time.Time, do func(*trail.Entry) error) error
}

// inTrail is what the audit trail has of a route that changes something: its name, and the fields of its body
// that may stand there. What is not named does not: secrets, passwords, cards, whole bills.
type inTrail struct {
	action string
	keep   []string
}

// acts are all of the routes for operators that change something, by method and path, and those that show whole what
// pages mask: the openids of a day's bill, and the memory of the service. A test walks the table of routes: none of
// them is without, but the forms that a file is first looked at by and then done, which say themselves which of the
// API's they do (recordedAs).
var acts = map[string]inTrail{
	"GET /admin/v1/reconciliations/:id/bill":       {"bill.read", nil},
	"GET /admin/v1/reconciliations/:id/proof":      {"proof.read", nil},
	"GET /debug/pprof/:name":                       {"profile.read", nil},
	"POST /admin/v1/orders/:no/close":              {"order.close", nil},
	"POST /admin/v1/orders/:no/payment-query":      {"order.ask", nil},
	"POST /admin/v1/orders/:no/vouch-unpaid":       {"order.vouch", nil},
	"POST /admin/v1/orders/:no/notes":              {"order.note", []string{"note"}},
	"POST /admin/v1/orders/:no/payer":              {"order.payer", nil},
	"POST /admin/v1/orders/:no/refunds":            {"refund.ask", []string{"items", "amount", "restock"}},
	"POST /admin/v1/orders/:no/shipment":           {"shipment.put", []string{"parcels", "partial"}},
	"POST /admin/v1/held/:id":                      {"held.resolve", []string{"action"}},
	"POST /admin/v1/payments/held/:id/judge-again": {"held.judge", nil},
	"PUT /admin/v1/skus/:id":                       {"sku.put", []string{"title", "price", "quantity", "low_at"}},
	"POST /admin/v1/skus/:id/replenish":            {"stock.replenish", []string{"quantity", "reference_no"}},
	"POST /admin/v1/skus/:id/adjust":               {"stock.adjust", []string{"delta", "expected_available"}},
	"POST /admin/v1/stock/import":                  {"sku.preview", []string{"mode"}},
	"POST /admin/v1/stock/import/apply":            {"sku.import", []string{"mode"}},
	"POST /admin/v1/skus/:id/gate":                 {"gate.set", gateFields},
	"POST /admin/v1/skus/:id/buckets":              {"gate.buckets", []string{"count", "dry_run"}},
	"POST /admin/v1/skus/:id/rebuild-cache":        {"gate.rebuild", []string{"dry_run"}},
	"POST /admin/v1/refunds/:no/approve":           {"refund.approve", []string{"restock"}},
	"POST /admin/v1/refunds/:no/reject":            {"refund.reject", nil},
	"POST /admin/v1/refunds/:no/cancel":            {"refund.cancel", nil},
	"POST /admin/v1/refunds/:no/by-hand":           {"refund.byhand", []string{"restock"}},
	"POST /admin/v1/refunds/:no/to-card":           {"refund.tocard", []string{"type", "bank_type"}},
	"POST /admin/v1/refunds/:no/retry":             {"refund.retry", nil},
	"POST /admin/v1/reconciliations":               {"day.run", []string{"bill_date", "bill_type"}},
	"POST /admin/v1/reconciliations/:id/confirm":   {"day.confirm", []string{"sha1"}},
	"POST /admin/v1/differences/:id/resolve":       {"difference.resolve", []string{"action", "resolution"}},
	"POST /admin/v1/differences/:id/assign":        {"difference.assign", []string{"assignee", "from"}},
	"POST /admin/v1/differences/:id/comments":      {"difference.comment", []string{"text"}},
	"POST /admin/v1/differences/import":            {"differences.preview", nil},
	"POST /admin/v1/differences/import/apply":      {"differences.import", nil},
	"POST /admin/v1/reconciliations/:id/close":     {"day.close", nil},
	"POST /admin/v1/tasks/dead/run":                {"tasks.run", taskFields},
	"POST /admin/v1/tasks/dead/discard":            {"tasks.discard", taskFields},
	"POST /admin/v1/tasks/dead/:id/run":            {"task.run", nil},
	"POST /admin/v1/tasks/dead/:id/discard":        {"task.discard", nil},
	"POST /admin/v1/bulk/order.close":              {"bulk.close", bulkFields},
	"POST /admin/v1/bulk/order.ask":                {"bulk.ask", bulkFields},
	"POST /admin/v1/bulk/refund.approve":           {"bulk.approve", bulkFields},
	"POST /admin/v1/bulk/:id/stop":                 {"bulk.stop", nil},
	"POST /admin/v1/bulk/:id/resume":               {"bulk.resume", nil},
	"POST /admin/v1/tokens":                        {"token.create", []string{"name", "role", "person"}},
	"DELETE /admin/v1/tokens/:name":                {"token.revoke", nil},
	"POST /admin/v1/operators":                     {"person.create", []string{"name", "role"}},
	"POST /admin/v1/operators/:name/disable":       {"person.disable", nil},
	"POST /admin/v1/operators/:name/role":          {"person.role", []string{"role"}},
	"POST /admin/v1/webhooks":                      {"webhook.add", []string{"url", "types", "note"}},
	"PUT /admin/v1/webhooks/:id":                   {"webhook.change", []string{"url", "types", "note"}},
	"DELETE /admin/v1/webhooks/:id":                {"webhook.remove", nil},
	"POST /admin/v1/webhooks/:id/rotate":           {"webhook.rotate", nil},
	"POST /admin/v1/webhooks/:id/enable":           {"webhook.enable", nil},
	"POST /admin/v1/webhooks/:id/disable":          {"webhook.disable", nil},
	"POST /admin/v1/webhooks/:id/test":             {"webhook.test", nil},
	"POST /admin/v1/webhooks/:id/redeliver":        {"webhook.redeliver", []string{"event_id", "since", "until"}},
	"POST /ui/reconciliations/upload":              {"day.upload", nil},
	"POST /logout":                                 {"login.end", nil},
	"POST /ui/me/sessions/end":                     {"session.end", []string{"id"}},
	"POST /ui/me/password":                         {"password.change", nil},
	"POST /ui/me/totp":                             {"totp.begin", nil},
	"POST /ui/me/totp/confirm":                     {"totp.confirm", nil},
	"POST /ui/me/totp/off":                         {"totp.off", nil},
	"POST /ui/people":                              {"person.create", []string{"name", "role"}},
	"POST /ui/people/:name/disable":                {"person.disable", nil},
	"POST /ui/people/:name/end-sessions":           {"session.end", nil},
	"POST /ui/people/:name/role":                   {"person.role", []string{"role"}},
	"POST /ui/people/:name/end-session":            {"session.end", []string{"id"}},
	"POST /ui/people/:name/tokens":                 {"token.create", []string{"label"}},
	"POST /ui/people/:name/tokens/revoke":          {"token.revoke", []string{"token"}},
	"POST /ui/shop-keys": {"shopkey.create", []string{"shop", "scope_place", "scope_read", "scope_refund",
		"scope_stock"}},
	"POST /ui/shop-keys/revoke":  {"shopkey.revoke", []string{"key"}},
	"POST /ui/people/:name/link": {"person.link", nil},
}

// The fields of acts that have many.
var (
	gateFields = []string{"mode", "sale", "buckets", "rate", "per_customer", "opens_at", "closes_at"}
	bulkFields = []string{"filter", "count", "seen", "dry_run"}
	taskFields = []string{"type", "state", "cause", "error", "failed_before", "failed_after", "all", "dry_run"}
)

// effectKey is where a handler leaves what its act changed: see effect.
const effectKey = "effect"

// effect says for the audit trail what the thing was before an act and what it is after it, short and
// without secrets.
func effect(ctx echo.Context, was, became string) { ctx.Set(effectKey, [2]string{was, became}) }

// recorded puts an act into the audit trail before it is done, and how it ended after it. An act that cannot be
// written down is not done.
func (c *console) recorded(method, path string, h echo.HandlerFunc) echo.HandlerFunc {
	what, acts := acts[method+" "+path]
	if !acts || c.Trail == nil {
		return h
	}
	return func(ctx echo.Context) error {
		asked, err := askedOf(ctx, cmp.Or(longBodies[method+" "+path], maxBody))
		if err != nil {
			return err
		}
		return c.record(ctx, what, asked, func() error { return h(ctx) })
	}
}

// recordedAs records what a form does as the route of the API that does the same.
func (c *console) recordedAs(ctx echo.Context, route string, given asked, do func() error) error {
	if c.Trail == nil {
		return do()
	}
	return c.record(ctx, acts[route], given, do)
}

// looked records the look at a file, as the route of the API that does no more; one on the way to an act is none.
func (c *console) looked(ctx echo.Context, route string, given asked, alone bool, look func() error) error {
	if !alone {
		return look()
	}
	return c.recordedAs(ctx, route, given, look)
}

// record is recorded of one act.
func (c *console) record(ctx echo.Context, what inTrail, given asked, do func() error) error {
	act, err := c.Trail.Begin(ctx.Request().Context(), c.whoActs(ctx), trail.What{Action: what.action,
		Target: cmp.Or(target(ctx), given.text("name"), given.text("bill_date")), Reason: given.text("reason"),
		Asked: given.kept(what.keep)})
	if err != nil {
		return err
	}
	outcome := trail.Failed + ":PANIC"
	defer func() { c.ended(ctx, act, what.action, outcome) }()
	err = do()
	outcome = outcomeOf(ctx, err)
	return err
}

// ended writes down how an act ended.
func (c *console) ended(ctx echo.Context, act *trail.Act, action, outcome string) {
	changed, _ := ctx.Get(effectKey).([2]string)
	// The answer may have taken all the time that the request had, or its client is gone: the end is written
	// down all the same.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx.Request().Context()), endTimeout)
	defer cancel()
	if err := act.End(end, "", outcome, changed[0], changed[1]); err != nil {
		c.Log.Error("the audit trail has no end of an act", "action", action, "err", err)
	}
}

// endTimeout bounds the writing of how an act ended.
const endTimeout = 5 * time.Second

// whoActs is who asks, for the audit trail.
func (c *console) whoActs(ctx echo.Context) trail.Who {
	role, _ := ctx.Get(roleKey).(Role)
	return trail.Who{Actor: operator(ctx), Role: string(role), Session: sessionMark(sessionOf(ctx)),
		Address: orderhttp.AddressOf(ctx.Request(), c.TrustedProxies), RequestID: orderhttp.RequestID(ctx)}
}

// sessionMark tells the sessions of a person apart: the beginning of the hash of its secret.
func sessionMark(s operators.Session) string { return s.ID[:min(len(s.ID), 12)] }

// target is what the path names.
func target(ctx echo.Context) string {
	values := ctx.ParamValues()
	if len(values) == 0 || !strings.Contains(ctx.Path(), ":") { // a form has the parameters of its own path
		return ""
	}
	return Open(values[0])
}

// Open is a text that may stand in the trail and in a log: not a secret that somebody gave in place of its name.
func Open(text string) string {
	if strings.HasPrefix(text, tokenPrefix) || strings.HasPrefix(text, shops.Prefix) {
		return "(secret)"
	}
	return text
}

// openField is Open of a field of a body. What is no name of a person or token, where one was wanted, may be their
// password.
func openField(name, text string) string {
	if name == "name" && text != "" && !bounds.Operator.Fits(text) {
		return "(no name)"
	}
	return Open(text)
}

// openAll is Open of each text of a field that is an object or an array, and of the names in it: what was pasted there
// may be a secret too.
func openAll(v any) any {
	switch v := v.(type) {
	case string:
		return Open(v)
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = openAll(v[i])
		}
		return all
	case map[string]any:
		all := map[string]any{}
		for name, inner := range v {
			all[Open(name)] = openAll(inner)
		}
		return all
	}
	return v
}

// outcomeOf says how an act ended.
func outcomeOf(ctx echo.Context, err error) string {
	status := ctx.Response().Status
	code := ""
	if err != nil {
		var problem orderhttp.Code
		status, problem = orderhttp.ProblemOf(err)
		code = ":" + string(problem)
	}
	switch {
	case status < http.StatusBadRequest:
		return trail.Done
	case status < http.StatusInternalServerError:
		return trail.Refused + code
	}
	return trail.Failed + code
}

// asked are the fields of a body, by their names.
type asked map[string]any

// askedOf reads the body of an act and puts it back for its handler. A body that is not JSON nor a form has no
// fields here, and is the handler's; so is what is longer than most bytes.
func askedOf(ctx echo.Context, most int64) (asked, error) {
	r := ctx.Request()
	media, _, _ := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	all := asked{}
	switch media {
	case echo.MIMEApplicationJSON:
		body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
		if errors.As(err, new(*http.MaxBytesError)) {
			return nil, &orderhttp.Failure{Code: orderhttp.CodeBodyTooLarge}
		}
		if err != nil {
			return nil, fail(orderhttp.CodeMalformed, "The body cannot be read to its end.")
		}
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
		_ = json.Unmarshal(body, &all) // what is wrong with it the handler says
	case echo.MIMEApplicationForm:
		form, err := readForm(ctx)
		if err != nil {
			return nil, err
		}
		for name := range form {
			all[name] = strings.TrimSpace(form.Get(name))
		}
	}
	return all, nil
}

// text is a field that is a text, "" for another.
func (a asked) text(name string) string {
	text, _ := a[name].(string)
	return openField(name, text)
}

// kept is the JSON of the fields that may be shown, "" for none.
func (a asked) kept(names []string) string {
	some := map[string]any{}
	for _, name := range names {
		v, given := a[name]
		if text, is := v.(string); is {
			if v = openField(name, text); name == "url" { // what stands behind the question mark may let somebody in
				v, _, _ = strings.Cut(text, "?")
			}
		} else {
			v = openAll(v)
		}
		if given {
			some[name] = v
		}
	}
	if len(some) == 0 {
		return ""
	}
	b, err := json.Marshal(some)
	if err != nil {
		return ""
	}
	return string(b)
}
