package console

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
)

// Rows of one page of a list.
const (
	// defaultRows is what a page has when nobody says how many: a screen or two.
	defaultRows = 50
	// maxRows bounds a page, so that no request reads a whole table.
	maxRows = 200
)

// query reads the parameters of a request and collects what is wrong with them, so that
// one answer names all of it. A parameter that is absent is the zero of its type, which
// no filter goes by. One that is not known, or given twice, guard has refused.
type query struct {
	echo.Context
	bad []order.FieldError
}

// wrong records what is wrong with a parameter; code is one of the codes of fields that
// orderhttp has, such as FORMAT, ENUM and RANGE.
func (q *query) wrong(name, code, detail string) {
	q.bad = append(q.bad, order.FieldError{Pointer: "?" + name, Code: code, Detail: detail})
}

// time reads a time of RFC 3339, the zero time when it is absent or wrong.
func (q *query) time(name string) time.Time {
	text := q.QueryParam(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.wrong(name, "FORMAT", "want a time such as 2026-11-20T13:42:05Z")
	}
	return t
}

// duration reads a length of time such as 1m, otherwise when it is absent or wrong.
func (q *query) duration(name string, otherwise time.Duration) time.Duration {
	text := q.QueryParam(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		q.wrong(name, "FORMAT", "want a length of time such as 1m or 90s")
		return otherwise
	}
	return d
}

// fen reads an amount in fen, 1 or more; 0 stands for no bound.
func (q *query) fen(name string) payment.Fen {
	text := q.QueryParam(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		q.wrong(name, "FORMAT", "want an amount in fen")
	}
	return payment.Fen(n)
}

// yes reads a switch: 1 or true, 0 or false; absent is no.
func (q *query) yes(name string) bool {
	switch q.QueryParam(name) {
	case "1", "true":
		return true
	case "", "0", "false":
	default:
		q.wrong(name, "ENUM", "want 1 or true, 0 or false")
	}
	return false
}

// oneOf reads a word that is one of those, "" when it is absent.
func oneOf[T ~string](q *query, name string, those []T) T {
	v := T(q.QueryParam(name))
	if v != "" && !slices.Contains(those, v) {
		var words []string
		for _, w := range those {
			words = append(words, string(w))
		}
		q.wrong(name, "ENUM", orderhttp.WantOneOf+strings.Join(words, ", "))
	}
	return v
}

// limit reads how many rows the page shall have.
func (q *query) limit() int {
	n, err := limitOf(q)
	if err != nil {
		q.wrong("limit", "RANGE", "want 1 to 200")
	}
	return n
}

// err is nil when every parameter could be read, else VALIDATION_FAILED with all of them.
func (q *query) err() error {
	if q.bad == nil {
		return nil
	}
	return &orderhttp.Failure{Code: orderhttp.CodeValidation, Fields: q.bad}
}

// limitOf reads ?limit=, the rows of a page: 1 to maxRows, defaultRows when it is absent.
// The number it gives with an error means nothing.
func limitOf(ctx echo.Context) (int, error) {
	text := ctx.QueryParam("limit")
	if text == "" {
		return defaultRows, nil
	}
	n, err := strconv.Atoi(text)
	if err == nil && (n < 1 || n > maxRows) {
		err = strconv.ErrRange
	}
	return n, err
}
