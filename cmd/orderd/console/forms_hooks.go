package console

import (
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/webhooks"
	"orderd/payment/feed"
)

// fieldSecret is which secret the person means who wants another in its place.
const fieldSecret = "secret_version"

// hookActs are of the addresses that the shop's back end is told at.
func (c *console) hookActs() []act {
	const page, route = "/ui/webhooks/:id/", "/admin/v1/webhooks/:id"
	put := []field{{name: "url", kind: asText, need: true, most: 500}, {name: "types", kind: asText, most: 500},
		{name: "note", kind: asText}, withReason}
	one := func(name string, danger bool) act {
		return act{name: "webhook." + name, path: page + name, route: "POST " + route + "/" + name, danger: danger,
			fields: []field{withReason}, show: c.hookSubject}
	}
	rotate := one("rotate", true)
	rotate.fields = []field{{name: fieldSecret, kind: asHidden, need: true}, withReason}
	rotate.reveal, rotate.keep, rotate.stepUp = "secret", true, always
	resend := act{name: "webhook.resend", path: page + "resend", route: "POST " + route + "/redeliver",
		fields: []field{{name: "since", kind: asTime, need: true}, withReason}, show: c.hookSubject}
	again := act{name: "webhook.redeliver", path: page + "redeliver", route: "POST " + route + "/redeliver",
		fields: []field{{name: "event_id", kind: asHidden, need: true}, {name: "order_no", kind: asHidden}, withReason},
		show:   c.deliverySubject, body: deliveryBody}
	return []act{
		{name: "webhook.test", path: page + "test", route: "POST " + route + "/test", show: c.hookSubject,
			reveal: "status"},
		resend, again,
		{name: "webhook.change", path: page + "change", route: "PUT " + route, fields: put, show: c.hookSubject,
			body: hookBody, stepUp: always},
		rotate, one("enable", false), one("disable", true),
		{name: "webhook.remove", path: page + "remove", route: "DELETE " + route, danger: true,
			fields: []field{withReason}, show: c.hookSubject, stepUp: always},
		{name: "webhook.add", path: "/ui/webhooks/new", route: "POST /admin/v1/webhooks", fields: put, body: hookBody,
			stepUp: always, reveal: "secret", keep: true, show: func(echo.Context) (subject, error) {
				known := fact{"hooks.types", typesText(feed.Types()), false}
				return subject{back: "/ui/webhooks", facts: []fact{known}}, nil
			}},
	}
}

// typesText are types of events as people write them.
func typesText(types []feed.Type) string {
	texts := make([]string, len(types))
	for i, t := range types {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}

// hookBody is what an endpoint is to be; its types stand with commas or white space between them.
func hookBody(_ *subject, form map[string]string) (map[string]any, error) {
	types := strings.FieldsFunc(form["types"], func(r rune) bool { return strings.ContainsRune(",，、 \t\r\n", r) })
	return map[string]any{"url": strings.TrimSpace(form["url"]), "note": form["note"], "reason": form["reason"],
		"types": append([]string{}, types...)}, nil
}

// hookSubject is an endpoint as what an act is about.
func (c *console) hookSubject(ctx echo.Context) (subject, error) {
	e, err := c.Webhooks.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return subject{}, webhookError(err)
	}
	l := languageOf(ctx.Request())
	s := subject{back: "/ui/webhooks/" + e.ID, values: map[string]string{"url": e.URL, "note": e.Note,
		"types": typesText(e.Types), fieldSecret: e.SecretVersion()}, facts: []fact{{"c.url", e.URL, false},
		{"c.state", l.look("hook", e.State).Word, false}, {"c.note", e.Note, false}}}
	switch path := lastOf(ctx.Path()); {
	case path == "remove":
		s.back = "/ui/webhooks"
	case path == "enable" && e.State == webhooks.StateOn, path == "disable" && e.State != webhooks.StateOn:
		s.off = "off.hook"
	}
	return s, nil
}

// deliverySubject is one event that an endpoint is sent again.
func (c *console) deliverySubject(ctx echo.Context) (subject, error) {
	s, err := c.hookSubject(ctx)
	if err != nil {
		return s, err
	}
	form, err := given(ctx)
	if err != nil {
		return s, err
	}
	s.values["event_id"] = form.Get("event_id")
	if no := form.Get("order_no"); bounds.OrderNo.Fits(no) && no != "" { // of whose page it was asked
		s.values["order_no"], s.back = no, uiOrders+"/"+no
	}
	s.facts = append(s.facts, fact{"c.id", s.values["event_id"], true})
	return s, nil
}

// deliveryBody names the event.
func deliveryBody(_ *subject, form map[string]string) (map[string]any, error) {
	id, err := strconv.ParseInt(form["event_id"], 10, 64)
	if err != nil {
		return nil, invalid("#/event_id", "FORMAT", "it is a whole number, such as 12")
	}
	return map[string]any{"event_id": id, "reason": form["reason"]}, nil
}

// hookLinks are the acts that an endpoint's state allows.
func (c *console) hookLinks(ctx echo.Context, e *webhooks.Endpoint) []link {
	names := []string{"webhook.test", "webhook.resend", "webhook.change", "webhook.rotate"}
	if e.State == webhooks.StateOn {
		names = append(names, "webhook.disable")
	} else {
		names = append([]string{"webhook.enable"}, names...)
	}
	return c.links(ctx, []string{e.ID}, append(names, "webhook.remove")...)
}
