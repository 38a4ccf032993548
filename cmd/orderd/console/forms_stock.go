package console

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/payment/shipping"
	"orderd/stock"
)

// skuActs change what a SKU is, and how a flash sale sells it.
func (c *console) skuActs() []act {
	const route = "POST /admin/v1/skus/:id/"
	renew := []field{withReason, withVersion}
	return []act{
		{name: "sku.new", path: uiSKUs + "/new", route: "PUT /admin/v1/skus/:id", show: newSubject, makes: "sku_id",
			body: newBody, fields: newFields},
		{name: "sku.put", path: "/ui/stock/:id/put", route: "PUT /admin/v1/skus/:id", show: c.putSubject,
			fields: []field{{name: "title", kind: asText, need: true, most: 120},
				{name: "price.total", kind: asYuan, need: true}, {name: "low_at", kind: asWhole}, withReason,
				withVersion}},
		{name: "gate.set", path: "/ui/gates/:id/set", route: route + "gate", show: c.gateSubject, danger: true,
			body: gateBody, fields: []field{{name: "mode", kind: asChoice, need: true},
				{name: "sale", kind: asText, most: 64}, {name: "buckets", kind: asWhole}, {name: "rate", kind: asWhole},
				{name: "per_customer", kind: asWhole}, {name: "opens_at", kind: asTime},
				{name: "closes_at", kind: asTime}, withReason, withVersion}},
		{name: "gate.buckets", path: "/ui/gates/:id/buckets", route: route + "buckets", show: c.gateSubject,
			danger: true, fields: append([]field{{name: "count", kind: asWhole, need: true, most: 6}}, renew...),
			preview: c.renewal},
		{name: "gate.rebuild", path: "/ui/gates/:id/rebuild", route: route + "rebuild-cache", show: c.gateSubject,
			danger: true, fields: renew, preview: c.renewal},
	}
}

// newFields are those of a SKU that is made.
var newFields = []field{{name: "sku_id", kind: asText, need: true, most: 64},
	{name: "title", kind: asText, need: true, most: 120}, {name: "price.total", kind: asYuan, need: true},
	{name: "quantity", kind: asWhole}, {name: "unlimited", kind: asCheck}, {name: "low_at", kind: asWhole}, withReason}

// newSubject is nothing yet.
func newSubject(echo.Context) (subject, error) { return subject{back: uiStock}, nil }

// newBody is a SKU that is made: one without a number and one that is not counted are two things.
func newBody(_ *subject, form map[string]string) (map[string]any, error) {
	some := act{makes: "sku_id", fields: newFields}
	body, err := some.request(nil, form)
	if err != nil {
		return nil, err
	}
	_, counted := body["quantity"]
	unlimited := body["unlimited"] == true
	delete(body, "unlimited")
	switch {
	case unlimited && counted:
		return nil, invalid("#/quantity", bounds.CodeRange, "an unlimited SKU has no number")
	case unlimited:
		body["quantity"] = -1
	case !counted:
		return nil, invalid("#/quantity", bounds.CodeRequired, "it is needed")
	}
	return body, nil
}

// putSubject is a SKU as it is, to be changed.
func (c *console) putSubject(ctx echo.Context) (subject, error) {
	s, err := c.Stock.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return subject{}, stockError(err)
	}
	return subject{back: "/ui/stock/" + url.PathEscape(s.SkuID), facts: []fact{{"c.sku", s.SkuID, true}},
		values: map[string]string{"title": s.Title, "price.total": fen(s.PriceFen).String(),
			"low_at": strconv.FormatInt(s.LowAt, 10), fieldVersion: strconv.FormatInt(s.Version, 10)}}, nil
}

// gateSubject is the gate of a SKU as it is, to be changed.
func (c *console) gateSubject(ctx echo.Context) (subject, error) {
	rctx := ctx.Request().Context()
	sku, err := c.Stock.Find(rctx, ctx.Param("id"))
	if err != nil {
		return subject{}, stockError(err)
	}
	g, gated, err := c.Stock.FindGate(rctx, sku.SkuID)
	if err != nil {
		return subject{}, err
	}
	s := subject{back: "/ui/gates/" + url.PathEscape(sku.SkuID), values: map[string]string{"mode": "local"},
		choices: map[string][]choice{"mode": {{string(stock.GateLocal), "mode.local"},
			{string(stock.GateRedis), "mode.redis"}, {string(stock.GateOff), "mode.off"}}},
		facts: []fact{{"c.sku", sku.SkuID, true}, {"c.title", sku.Title, false}}}
	if gated {
		s.values = map[string]string{"mode": string(g.Mode), "sale": g.Sale, "buckets": number(g.Buckets),
			"rate": number(g.Rate), "per_customer": number(g.PerCustomer), "opens_at": localTime(g.OpensAt),
			"closes_at": localTime(g.ClosesAt), fieldVersion: strconv.FormatInt(g.Version, 10)}
		s.facts = append(s.facts, fact{"c.mode", string(g.Mode), false})
	}
	if path := lastOf(ctx.Path()); path != "set" && (!gated || g.Mode != stock.GateRedis) {
		s.off = "off.gate"
	}
	return s, nil
}

// number is a number that is left out when it is 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// localTime is a time of Beijing as a field of a form has it.
func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(beijing).Format("2006-01-02T15:04:05")
}

// gateBody is what a gate is to be; one that is off has nothing more.
func gateBody(_ *subject, form map[string]string) (map[string]any, error) {
	body := map[string]any{"mode": form["mode"], "reason": form["reason"]}
	if form["mode"] == string(stock.GateOff) {
		return body, nil
	}
	if form["sale"] != "" {
		body["sale"] = form["sale"]
	}
	for _, f := range []field{{name: "buckets", kind: asWhole}, {name: "rate", kind: asWhole},
		{name: "per_customer", kind: asWhole}, {name: "opens_at", kind: asTime}, {name: "closes_at", kind: asTime}} {
		v, err := f.value(form[f.name])
		if err != nil {
			return nil, err
		}
		if v != nil {
			body[f.name] = v
		}
	}
	return body, nil
}

// renewal says what would become of the buckets of a sale.
func (c *console) renewal(ctx echo.Context, _ *subject, form map[string]string) ([]fact, error) {
	r := stock.Renewal{SkuID: ctx.Param("id"), Actor: operator(ctx), Reason: form["reason"], DryRun: true}
	if err := needReason(r.Reason); err != nil {
		return nil, err
	}
	if text := form["count"]; text != "" {
		f := field{name: "count", kind: asWhole}
		n, err := f.value(text)
		if err != nil {
			return nil, err
		}
		r.Buckets, _ = n.(int64)
	}
	done, err := c.Stock.RenewBuckets(ctx.Request().Context(), r)
	if err != nil {
		return nil, gateError(err)
	}
	l, v := languageOf(ctx.Request()), ViewRenewed(&done, true)
	var facts []fact
	for i := range v.SKUs {
		s := &v.SKUs[i]
		facts = append(facts, fact{"c.sku", s.SkuID + " · " + l.word("line.renew", s.Closed, s.Back, s.Pool, s.Buckets),
			false})
	}
	return facts, nil
}

// shipActs say what was sent for an order.
func (c *console) shipActs() []act {
	return []act{{name: "shipment.put", path: uiOrders + "/:no/ship", route: "POST /admin/v1/orders/:no/shipment",
		show: c.shipSubject, body: shipBody, fields: []field{{name: "way", kind: asChoice, need: true},
			{name: "carrier", kind: asText, most: 64}, {name: "number", kind: asText, most: 64},
			{name: "goods", kind: asText, need: true, most: 120}, {name: "contact", kind: asText, most: 32},
			{name: "more", kind: asLong, most: shipping.MaxParcels * 256}, {name: "partial", kind: asCheck},
			withVersion}}}
}

// shipSubject is an order whose goods are sent.
func (c *console) shipSubject(ctx echo.Context) (subject, error) {
	s, err := c.orderSubject(nil)(ctx)
	if err != nil {
		return s, err
	}
	sent, owed, err := c.Shipments.Find(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return s, err
	}
	if !owed || sent.State == shipping.StateVoid {
		s.off = "off.ship"
	}
	s.back, s.values = "/ui/shipments", shipValues(&sent.Content)
	s.values[fieldVersion] = strconv.FormatInt(sent.Version, 10) // 0 while nothing was said
	s.choices = map[string][]choice{"way": {{"express", "way.express"}, {"city", "way.city"},
		{"virtual", "way.virtual"}, {"pickup", "way.pickup"}}}
	return s, nil
}

// shipValues are what was said to be sent before: a content has the parcels of those before it, too.
func shipValues(c *shipping.Content) map[string]string {
	v := map[string]string{"way": c.Way.String()}
	for i, p := range c.Parcels {
		if i == 0 {
			v["carrier"], v["number"], v["goods"], v["contact"] = p.Carrier, p.Number, p.Goods, p.Contact
			continue
		}
		v["more"] += strings.TrimRight(inMarks(p.Carrier)+","+inMarks(p.Number)+","+inMarks(p.Goods)+","+
			inMarks(p.Contact), ",") + "\n"
	}
	return v
}

// shipBody is what was sent: one parcel, and more of them a line each, with what the first one has where it is left
// out.
func shipBody(_ *subject, form map[string]string) (map[string]any, error) {
	first := [4]string{form["carrier"], form["number"], form["goods"], form["contact"]}
	parcels := []any{parcelOf(first)}
	for line := range strings.Lines(form["more"]) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		parts := cells(line)
		if len(parts) < 2 || len(parts) > len(first) {
			return nil, invalid("#/more", bounds.CodeFormat, "a line has carrier, number, goods and telephone, with "+
				"commas between; the last two may be left out, and goods with a comma stand in quotation marks")
		}
		next := first
		for i, text := range parts {
			next[i] = cmp.Or(strings.TrimSpace(text), first[i])
		}
		parcels = append(parcels, parcelOf(next))
	}
	return map[string]any{"way": form["way"], "parcels": parcels, "partial": form["partial"] != ""}, nil
}

// cellEnds are what stands between the cells of a line of parcels.
const cellEnds = ",，\t"

// cells are what a line of parcels has between its commas, or between its tabs where it comes from a sheet: a comma is
// then one of the text. A text in quotation marks has commas of its own, and a mark where two of them stand.
func cells(line string) []string {
	line, ends := strings.Trim(line, cellEnds+" \r\n"), cellEnds
	if strings.Contains(line, "\t") {
		ends = "\t"
	}
	var all []string
	cell, in, closed := "", false, false // in marks; closed just now
	for _, r := range line {
		switch {
		case r == '"' && !in && (closed || strings.TrimSpace(cell) == ""):
			if closed { // the second of two
				cell += `"`
			}
			in, closed = true, false
		case r == '"' && in:
			in, closed = false, true
		case !in && strings.ContainsRune(ends, r):
			all, cell, closed = append(all, cell), "", false
		default:
			cell, closed = cell+string(r), false
		}
	}
	return append(all, cell)
}

// inMarks is a text as a cell of a line of parcels.
func inMarks(text string) string {
	if !strings.ContainsAny(text, cellEnds+`"`) {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
}

// withCommas is what was pasted from a sheet, with a comma for each tab between its cells.
func withCommas(text string) string {
	var all strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(text, "\r\n", "\n")) {
		if parts := strings.Split(line, "\t"); len(parts) > 1 {
			for i, p := range parts {
				if !strings.HasPrefix(p, `"`) { // a sheet marks what needs it for itself
					end := p[len(strings.TrimRight(p, "\n")):]
					parts[i] = inMarks(strings.TrimRight(p, "\n")) + end
				}
			}
			line = strings.Join(parts, ",")
		}
		all.WriteString(line)
	}
	return all.String()
}

// parcelOf is a parcel in JSON: its carrier, number, goods and contact.
func parcelOf(texts [4]string) map[string]any {
	parcel := map[string]any{}
	for i, name := range []string{"carrier", "number", "goods", "contact"} {
		if v := strings.TrimSpace(texts[i]); v != "" || name == "goods" {
			parcel[name] = v
		}
	}
	return parcel
}

// given are the parameters of an act's page: of its address, and when it is posted of its form.
func given(ctx echo.Context) (url.Values, error) {
	if ctx.Request().Method == http.MethodGet {
		return ctx.QueryParams(), nil
	}
	return readForm(ctx)
}
