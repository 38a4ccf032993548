package orderhttp

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// Bounds of a body.
const (
	// maxBody is in bytes, several times the largest request of a real client, an order
	// of 50 lines. Notifications of WeChat Pay have some 2 KiB.
	maxBody = 64 << 10
	// maxDepth is how deep JSON may be nested, twice that of the deepest request of a
	// real client.
	maxDepth = 8
	// maxFieldErrors bounds the answer to a body that is wrong everywhere: one error for
	// each line of the largest order.
	maxFieldErrors = 50
)

// Codes of fields that this package finds wrong, a contract like Code. Package order adds
// REQUIRED, AMOUNT, TOO_MUCH and TOO_MANY; fieldText has all of them in Chinese.
const (
	codeUnknownField = "UNKNOWN_FIELD"
	codeType         = "TYPE"
	codeDuplicate    = "DUPLICATE"
	codeFormat       = "FORMAT"
	codeRange        = "RANGE"
	codeLength       = "LENGTH"
	codeEnum         = "ENUM"
)

// read reads the body of a request and decodes it. The decoder of a route is a function
// of bytes alone, so that fuzz tests can call it without HTTP.
func read[T any](c echo.Context, decode func(body []byte) (T, error)) (got T, err error) {
	body, err := readBody(c)
	if err != nil {
		return got, err
	}
	return decode(body)
}

// readBody reads the whole body of a request, at most maxBody of it, and wants it to be
// JSON. What is announced as larger is refused unread; what is larger without saying so
// is refused when maxBody has been read.
func readBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	if r.ContentLength > maxBody {
		return nil, &Failure{Code: CodeBodyTooLarge}
	}
	if !jsonMedia(r.Header) {
		return nil, &Failure{Code: CodeUnsupportedMedia}
	}
	return readAll(http.MaxBytesReader(c.Response(), r.Body, maxBody), r.ContentLength)
}

// readAll reads into one allocation when the length is known, which it is for nearly
// every placement. length is Content-Length, -1 for a body sent in chunks. A body that
// ends before its length is malformed, not short.
func readAll(from io.Reader, length int64) ([]byte, error) {
	var body []byte
	var err error
	if length >= 0 {
		body = make([]byte, length)
		_, err = io.ReadFull(from, body)
	} else {
		body, err = io.ReadAll(from)
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &Failure{Code: CodeBodyTooLarge}
	case err != nil:
		return nil, &Failure{Code: CodeMalformed, Err: err}
	}
	return body, nil
}

// jsonMedia reports that a body may be JSON. No type at all and the type that
// curl -d sends are let through, because the decoder looks at the bytes and no
// route trusts a cookie; a compressed body is not, because a small one can
// unfold to gigabytes.
func jsonMedia(h http.Header) bool {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false
	}
	given := h.Get("Content-Type")
	if given == "" || given == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(given)
	if err != nil {
		return false
	}
	if set := params["charset"]; set != "" && !strings.EqualFold(set, "utf-8") {
		return false
	}
	return media == "application/json" || media == "application/x-www-form-urlencoded"
}

// decoder walks one JSON value that is known to be valid, collecting everything
// that is wrong with it, each with its pointer. encoding/json is not used for
// this: it matches names in any case, takes the last of two equal names and
// null for anything, and names no place when it fails.
type decoder struct {
	// b is the whole body and i the place of the next byte to read. No index needs a
	// check of its own: json.Valid has seen the body.
	b []byte
	i int
	// at are the steps of the pointer to the value that is being read, unescaped.
	at []string
	// bad is what was found wrong so far; reading goes on, so that one answer names all
	// of it.
	bad []order.FieldError
}

// decode reads exactly one JSON object into fields: each is given the decoder at its
// value. Its error is a *Failure with CodeMalformed, about the form alone; values that
// are well formed and not allowed are collected by invalid, and answered
// VALIDATION_FAILED.
func decode(body []byte, fields fields) error {
	if !utf8.Valid(body) || !json.Valid(body) || depth(body) > maxDepth {
		return &Failure{Code: CodeMalformed, Text: Text{"The body must be one JSON value in UTF-8.",
			"请求体必须是一个 UTF-8 编码的 JSON 值。"}}
	}
	d := &decoder{b: body}
	d.space()
	d.object(fields)
	if len(d.bad) > 0 {
		return &Failure{Code: CodeMalformed, Fields: d.bad}
	}
	return nil
}

// depth gives how deep valid JSON is nested: it counts the brackets that are not within a
// string, and parses nothing.
func depth(b []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case quoted:
		case b[i] == '{', b[i] == '[':
			now++
			deepest = max(deepest, now)
		case b[i] == '}', b[i] == ']':
			now--
		}
	}
	return deepest
}

// fields are the members of an object and what reads each. At most 64: object keeps a bit
// for each that it has seen.
type fields []field

// field is a member of an object: read is called with the decoder at its value and must
// step over it.
type field struct {
	name string
	read func(*decoder)
}

// fail records what is wrong at the place that is being read, up to maxFieldErrors.
func (d *decoder) fail(code, detail string) {
	if len(d.bad) < maxFieldErrors {
		d.bad = append(d.bad, order.FieldError{Pointer: pointer(d.at), Code: code, Detail: detail})
	}
}

// pointer writes a JSON pointer as a URI fragment: # for the whole body, ~ and / in a
// name escaped (RFC 6901, 3).
func pointer(at []string) string {
	var s strings.Builder
	s.WriteString("#")
	for _, step := range at {
		s.WriteString("/")
		s.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
	}
	return s.String()
}

// space steps over white space, the four characters of it that JSON has (RFC 8259, 2).
func (d *decoder) space() {
	for d.i < len(d.b) && (d.b[d.i] == ' ' || d.b[d.i] == '\t' || d.b[d.i] == '\n' || d.b[d.i] == '\r') {
		d.i++
	}
}

// expect reports that the value begins with the byte of the type wanted; else it records
// the mistake, in which what names that type, and steps over the value. null is a mistake
// like any other type: a field that has no value is left out.
func (d *decoder) expect(first byte, what string) bool {
	if d.b[d.i] == first {
		return true
	}
	d.fail(codeType, "must be "+what)
	d.skip()
	return false
}

// object reads an object. Unknown names are mistakes, because a misspelt optional field
// would silently be without effect; repeated names are, because JSON leaves open which
// one counts (RFC 8259, 4) and a proxy that checked one may have checked the other.
func (d *decoder) object(known fields) {
	if !d.expect('{', "an object") {
		return
	}
	d.i++
	seen := 0 // a bit per known field
	for d.space(); d.b[d.i] != '}'; d.space() {
		if d.b[d.i] == ',' {
			d.i++
			d.space()
		}
		name := d.text()
		d.space()
		d.i++ // the colon
		d.space()
		d.at = append(d.at, name)
		d.member(known, name, &seen)
		d.at = d.at[:len(d.at)-1]
	}
	d.i++
}

// member reads the value of a name. seen has a bit for each known field that was read
// before.
func (d *decoder) member(known fields, name string, seen *int) {
	for n, f := range known {
		if f.name != name {
			continue
		}
		if *seen&(1<<n) != 0 {
			d.fail(codeDuplicate, "is given twice")
			d.skip()
			return
		}
		*seen |= 1 << n
		f.read(d)
		return
	}
	if utf8.RuneCountInString(name) > maxUnknownName {
		d.at[len(d.at)-1] = string([]rune(name)[:maxUnknownName])
	}
	d.fail(codeUnknownField, "is not a field here")
	d.skip()
}

// maxUnknownName is how many characters of an unknown name an answer repeats.
const maxUnknownName = 64

// array reads an array, element by element: limit of them and one more, so that
// the reader sees that there are too many. The rest is stepped over.
func (d *decoder) array(limit int, element func(*decoder)) {
	if !d.expect('[', "an array") {
		return
	}
	d.i++
	n := 0
	for d.space(); d.b[d.i] != ']'; d.space() {
		if d.b[d.i] == ',' {
			d.i++
			d.space()
		}
		if n++; n > limit+1 {
			d.skip()
			continue
		}
		d.at = append(d.at, strconv.Itoa(n-1))
		element(d)
		d.at = d.at[:len(d.at)-1]
	}
	d.i++
}

// str reads a string, "" when the value is none, which it records.
func (d *decoder) str() string {
	if !d.expect('"', "a string") {
		return ""
	}
	return d.text()
}

// boolean reads true or false, false when the value is neither, which it records.
func (d *decoder) boolean() bool {
	from := d.i
	d.skip()
	switch string(d.b[from:d.i]) {
	case "true":
		return true
	case "false":
	default:
		d.fail(codeType, "must be true or false")
	}
	return false
}

// integer reads a whole number that fits int64, written without point or exponent:
// amounts are fen, and a float would round them. It gives 0 when the value is none, which
// it records.
func (d *decoder) integer() int64 {
	from := d.i
	d.skip()
	n, err := strconv.ParseInt(string(d.b[from:d.i]), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.fail(codeRange, "is too large")
	case err != nil:
		d.fail(codeType, "must be a whole number")
	}
	return n
}

// text reads the string at i, quotes and escapes taken away. Most strings have no escape
// and are copied as they are, which saves a call of encoding/json for each field of a
// placement.
func (d *decoder) text() string {
	from := d.i
	d.skip()
	raw := d.b[from:d.i]
	plainText := true
	for _, b := range raw {
		if b == '\\' {
			plainText = false
			break
		}
	}
	if plainText {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil { // decode looked: it is valid
		panic("orderhttp: " + err.Error())
	}
	return s
}

// skip steps over one value of any kind, to the byte after it. Brackets are counted and
// strings are stepped over as a whole, so that a bracket within one does not count.
func (d *decoder) skip() {
	open := 0
	for d.i < len(d.b) {
		switch d.b[d.i] {
		case '"':
			d.i++
			for ; d.b[d.i] != '"'; d.i++ {
				if d.b[d.i] == '\\' {
					d.i++
				}
			}
			d.i++
		case '{', '[':
			open++
			d.i++
		case '}', ']':
			if open == 0 {
				return // the end of the value's parent
			}
			open--
			d.i++
		case ',', ':', ' ', '\t', '\n', '\r':
			if open == 0 {
				return
			}
			d.i++
			continue
		default: // a number or a word
			d.i++
			if open == 0 && d.i < len(d.b) && strings.IndexByte(",]} \t\n\r", d.b[d.i]) < 0 {
				continue
			}
		}
		if open == 0 {
			return
		}
	}
}
