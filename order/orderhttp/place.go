package orderhttp

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb/failpoint"
	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

const (
	// headerKey names a request for ever: the same key with the same content is the same
	// order or refund (IETF draft idempotency-key-header).
	headerKey = "Idempotency-Key"
	// headerReplayed is "true" in an answer that was given before.
	headerReplayed = "Idempotent-Replayed"
)

// place is POST /v1/orders. The same key with the same content is answered with the same
// status and body, also while the first request still runs: both wait for the one order.
// That answer is not stored anywhere, it is made again from what was placed, which never
// changes (docs/decisions/0003). A key that was refused is not used up.
func (a *api) place(c echo.Context) error {
	key, p, err := readKeyed(c, decodePlacement)
	if err != nil {
		return err
	}
	p.CustomerID, p.RequestID, p.Cause, p.Shop = customerOf(c), key, causeOf(c).ID, shopName(c)
	// A test kills the process here: nothing is written yet.
	failpoint.Hit("place.read")
	placed, err := a.Orders.Place(c.Request().Context(), p)
	var queued *order.QueuedError
	if errors.As(err, &queued) {
		return a.showQueued(c, http.StatusAccepted, &queued.Queued)
	}
	if err != nil {
		return order.PointAt(p.Lines, err)
	}
	h := c.Response().Header()
	h.Set("Location", "/v1/orders/"+placed.Order.OrderNo)
	h.Set("ETag", etag(placed.Order.Version))
	if placed.Replayed {
		h.Set(headerReplayed, "true")
	}
	return c.JSON(http.StatusCreated, viewOf(&placed.Order, placed.Order.CreatedAt))
}

// IdempotencyKey gives the key, bare or quoted, as the IETF draft has it (a string of RFC
// 8941). Of two headers none counts: a proxy may have looked at the other one.
func IdempotencyKey(h http.Header) (key string, ok bool) {
	values := h.Values(headerKey)
	if len(values) != 1 {
		return "", false
	}
	key = values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	return key, bounds.IdempotencyKey.Fits(key)
}

// readKeyed reads a request that must not happen twice: its key, and its body by decode.
// Without a key it is IDEMPOTENCY_KEY_REQUIRED, 400 as the IETF draft has it: a request
// without one could not be repeated after an answer that was lost.
func readKeyed[T any](c echo.Context, decode func(body []byte) (T, error)) (key string, got T, err error) {
	key, ok := IdempotencyKey(c.Request().Header)
	if !ok {
		return key, got, &Failure{Code: CodeKeyRequired}
	}
	got, err = read(c, decode)
	return key, got, err
}

// decodePlacement reads the body of a placement. What is wrong with its form is found
// here, what is wrong with its prices and stock by order.Place. The customer and the key
// are not in the body: they come from token and header. Whether it may have what only a shop
// may say, order.Place decides.
func decodePlacement(body []byte) (order.Placement, error) {
	var p order.Placement
	var bad invalid
	err := decode(body, fields{
		{"items", func(d *decoder) { p.Lines = readLines(d, &bad) }},
		{"expected_total", func(d *decoder) { p.ExpectedTotal = readFen(d, &bad, "total", 0, "an amount is 0") }},
		{"remark", func(d *decoder) { p.Remark = bad.text(d, &bounds.Remark) }},
		{"attach", func(d *decoder) { p.Attach = bad.text(d, &bounds.Attach) }},
		{"reference", func(d *decoder) { p.Reference = bad.text(d, &bounds.Reference) }},
		{"expires_in", func(d *decoder) {
			n := d.integer()
			bad.wrong(d, "", bounds.ExpiresIn.Check(n))
			p.ExpiresIn = time.Duration(min(n, bounds.ExpiresIn.Most)) * time.Second
		}},
	})
	if err != nil {
		return p, err
	}
	if wrong := bounds.Lines.Check(int64(len(p.Lines))); wrong != nil {
		bad = append(bad, order.FieldError{Pointer: "#/items", Code: codeLength, Detail: wrong.Detail})
	}
	return p, bad.err()
}

// readLines reads at most one line more than an order may have: the caller refuses that
// many, and a body of ten thousand lines costs no memory for them.
func readLines(d *decoder, bad *invalid) (lines []stock.Line) {
	d.array(int(bounds.Lines.Most), func(d *decoder) { lines = append(lines, readLine(d, bad)) })
	return lines
}

// readLine reads one line of goods and records what is not allowed in it. Whether the SKU
// exists is not looked up here.
func readLine(d *decoder, bad *invalid) stock.Line {
	var l stock.Line
	d.object(fields{
		{"sku_id", func(d *decoder) { l.SkuID = d.str() }},
		{"quantity", func(d *decoder) { l.Quantity = d.integer() }},
	})
	bad.wrong(d, "/sku_id", bounds.SkuID.Check(l.SkuID))
	bad.wrong(d, "/quantity", bounds.Quantity.Check(l.Quantity))
	return l
}

// readFen reads an amount in the shape that WeChat Pay has for it,
// {"total":…,"currency":"CNY"}; the first member is named by the caller, and without it
// the amount is refused. fromLeast begins the sentence about the bounds.
func readFen(d *decoder, bad *invalid, member string, least payment.Fen, fromLeast string) *payment.Fen {
	// -1 is no amount: it stays when the member is absent, and is refused below.
	amount, currency := payment.Fen(-1), payment.CNY
	d.object(fields{
		{member, func(d *decoder) { amount = payment.Fen(d.integer()) }},
		{"currency", func(d *decoder) { currency = d.str() }},
	})
	if amount < least || amount > payment.MaxFen {
		bad.add(d, "/"+member, codeRange, fromLeast+" to "+payment.MaxFen.String()+" yuan, in fen")
	}
	if currency != payment.CNY {
		bad.add(d, "/currency", codeEnum, "the currency is CNY")
	}
	return &amount
}

// invalid collects values that are well formed and not allowed, for one VALIDATION_FAILED
// that names all of them.
type invalid []order.FieldError

// add records a mistake at the decoder's place, or at the member below it ("/sku_id"), up
// to maxFieldErrors.
func (v *invalid) add(d *decoder, member, code, detail string) {
	if len(*v) < maxFieldErrors {
		*v = append(*v, order.FieldError{Pointer: pointer(d.at) + member, Code: code, Detail: detail})
	}
}

// err gives all mistakes as one error, nil when there are none. It must not give a nil
// *order.ValidationError: as an error that would not be nil.
func (v *invalid) err() error {
	if len(*v) == 0 {
		return nil
	}
	return &order.ValidationError{Fields: *v}
}

// wrong records what is wrong with a value at the member below the decoder's place, ""
// for its place; nil is nothing.
func (v *invalid) wrong(d *decoder, member string, wrong *bounds.Wrong) {
	if wrong != nil {
		v.add(d, member, wrong.Code, wrong.Detail)
	}
}

// text reads a string and holds it against the table of bounds, as the services do: here,
// so that one answer names everything that is wrong with a body.
func (v *invalid) text(d *decoder, f *bounds.Field) string {
	s := d.str()
	v.wrong(d, "", f.Check(s))
	return s
}

// validSKU reports that id can be a sku_id of package stock. "1001 " must not find 1001,
// as some collations of MySQL would have it.
func validSKU(id string) bool { return bounds.SkuID.Fits(id) }
