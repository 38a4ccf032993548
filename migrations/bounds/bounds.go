// Package bounds is the one table of what a field may hold on its way into the database
// or to WeChat Pay: how long it may be, in bytes or in characters, and of which
// characters. Decoders, services, the configuration, the gateway and the simulator ask it,
// so that what one of them takes none of the others refuses, and whoever sent it reads the
// same words everywhere.
//
// fields.go has the table. A test compares it with the columns of the schema on every
// engine: each column of text belongs to a field here, and holds the longest value that
// the field may have. docs/limits.md shows it.
//
// It stands below everything, and imports the standard library alone.
package bounds

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Unit is what a field is measured in.
type Unit string

// The units. MySQL counts the characters of a VARCHAR, whatever their bytes; WeChat Pay
// counts bytes of UTF-8, also where its documents say characters.
const (
	Bytes      Unit = "bytes"
	Characters Unit = "characters"
)

// Alphabet is the characters of a field.
type Alphabet int

// The alphabets.
const (
	// Word is what our own numbers and keys are made of. WeChat Pay also allows | and * in
	// an out_trade_no and @ in an out_refund_no; all three are left out, because numbers
	// become part of a URL path, which gopay does not escape.
	Word Alphabet = iota + 1
	// Dotted is Word with dots: ids of requests and of notifications.
	Dotted
	// Code is Dotted with colons: what a SKU may be called, in a URL and in a list.
	Code
	// Visible is ASCII without blanks and control characters. A blank at the end would be
	// another value here and the same one in some collations of MySQL.
	Visible
	// Line is text without control characters and marks of direction: it is shown in
	// terminals and written into files, where they could forge lines.
	Line
	// Text is Line with newlines and tabs.
	Text
	// Short is Line without characters of four bytes (emoji above all), which WeChat Pay
	// refuses.
	Short
	// Address is an IP address, v4 or v6, as net.ParseIP reads it.
	Address
	// H5Kind is one of iOS, Android and Wap.
	H5Kind
)

// words say what an alphabet allows, to whoever sent something else.
var words = map[Alphabet]string{
	Word:    "0-9 A-Z a-z _ -",
	Dotted:  "0-9 A-Z a-z _ . -",
	Code:    "0-9 A-Z a-z _ . : -",
	Visible: "visible ASCII characters",
	Line:    "text without control characters",
	Text:    "text without control characters but newlines and tabs",
	Short:   "text without control characters and characters of four bytes, such as emoji",
	Address: "an IP address",
	H5Kind:  "iOS, Android or Wap",
}

// String says what the alphabet allows.
func (a Alphabet) String() string { return words[a] }

// hasAll reports that text is made of the alphabet.
func (a Alphabet) hasAll(s string) bool {
	switch a {
	case Word:
		return madeOf(s, "_-")
	case Dotted:
		return madeOf(s, "_.-")
	case Code:
		return madeOf(s, "_.:-")
	case Visible:
		return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	case Line:
		return utf8.ValidString(s) && !strings.ContainsFunc(s, forges)
	case Text:
		return utf8.ValidString(s) && !strings.ContainsFunc(s,
			func(r rune) bool { return forges(r) && r != '\n' && r != '\t' })
	case Short:
		return utf8.ValidString(s) && !strings.ContainsFunc(s,
			func(r rune) bool { return forges(r) || utf8.RuneLen(r) > 3 })
	case Address:
		return net.ParseIP(s) != nil
	case H5Kind:
		return s == "iOS" || s == "Android" || s == "Wap"
	}
	return false
}

// forges reports that a character can make a reader see other lines, or another order of
// the text, than there are: controls, ends of lines and paragraphs, marks of direction.
func forges(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

// madeOf reports that text has ASCII letters, digits and the signs given, and nothing else.
func madeOf(s, signs string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b >= '0' && b <= '9', b >= 'A' && b <= 'Z', b >= 'a' && b <= 'z', strings.IndexByte(signs, b) >= 0:
		default:
			return false
		}
	}
	return true
}

// Over is what becomes of a value that does not fit.
type Over string

// What becomes of it.
const (
	// Refused: whoever sent it is told the field, and nothing happens.
	Refused Over = ""
	// Cut: it explains and never decides, and is cut at a character.
	Cut Over = "cut"
	// Replaced: it names and never decides, and another is taken instead.
	Replaced Over = "replaced"
	// Unbelieved: an answer of WeChat Pay that has it is none.
	Unbelieved Over = "not believed"
	// Ours: this service makes it, and never a longer one.
	Ours Over = "never made"
)

// Field is a line of the table.
type Field struct {
	Name string // as whoever sends it knows it
	// Least and Most are how many Units it may have. With Least 0 it may be left out.
	Least, Most int
	Unit        Unit
	Of          Alphabet
	Over        Over
	// WeChat is its path in WeChat Pay's requests, "" when it does not get there.
	WeChat string
	// Columns hold it, as TABLE.COLUMN with blanks between.
	Columns string
	Why     string // why it is this bound, and the source of it where it is not ours
}

// Wrong is what is wrong with a value: a code of the API, and a sentence that names the
// field and the bound, and not the value.
type Wrong struct{ Code, Detail string }

// Codes of Wrong, a contract of the API.
const (
	CodeRequired = "REQUIRED" // nothing was given, or nothing that is seen
	CodeLength   = "LENGTH"
	CodeFormat   = "FORMAT"
	CodeEnum     = "ENUM"
	CodeRange    = "RANGE"
)

// Check gives what is wrong with a value, nil when it fits.
func (f *Field) Check(s string) *Wrong {
	n := f.measure(s)
	switch {
	case f.Least > 0 && blank(s):
		return &Wrong{CodeRequired, fmt.Sprintf("%s is needed: %s", f.Name, f.Rule())}
	case s == "":
		return nil
	case f.Of == H5Kind && !f.Of.hasAll(s):
		return &Wrong{CodeEnum, fmt.Sprintf("%s is %s", f.Name, f.Of)}
	case n > f.Most || n < f.Least:
		return &Wrong{CodeLength, fmt.Sprintf("%s has %d %s: %s", f.Name, n, f.Unit, f.Rule())}
	case !f.Of.hasAll(s):
		return &Wrong{CodeFormat, fmt.Sprintf("%s may only have %s", f.Name, f.Of)}
	}
	return nil
}

// Fits reports that nothing is wrong with a value.
func (f *Field) Fits(s string) bool { return f.Check(s) == nil }

// ErrCursor: no page of the list ended there. A reader that went on from it would be shown
// the first page again, or none.
var ErrCursor = errors.New("this is no cursor of this list; begin without one")

// Cursor is ErrCursor for a cursor that is not of this field, the last key of a page; ""
// begins a list.
func (f *Field) Cursor(cursor string) error {
	if cursor == "" || f.Fits(cursor) {
		return nil
	}
	return ErrCursor
}

// Rule says how long the field may be.
func (f *Field) Rule() string {
	if f.Least == 0 {
		return fmt.Sprintf("at most %d %s", f.Most, f.Unit)
	}
	return fmt.Sprintf("%d to %d %s", f.Least, f.Most, f.Unit)
}

// measure gives how long a value is, in the field's unit.
func (f *Field) measure(s string) int {
	if f.Unit == Characters {
		return utf8.RuneCountInString(s)
	}
	return len(s)
}

// Cut shortens a value to what the field may have, at a character. What is not UTF-8 is
// left out.
func (f *Field) Cut(s string) string {
	s = strings.ToValidUTF8(s, "")
	switch {
	case f.measure(s) <= f.Most:
		return s
	case f.Unit == Characters:
		return string([]rune(s)[:f.Most])
	}
	return strings.ToValidUTF8(s[:f.Most], "")
}

// Fitted gives the nearest value that the field may have: with _ for characters that it may
// not have, and cut.
func (f *Field) Fitted(s string) string {
	return f.Cut(strings.Map(func(r rune) rune {
		if !f.Of.hasAll(string(r)) {
			return '_'
		}
		return r
	}, s))
}

// Shorten is Cut for text that somebody reads where it stands: what is missing is marked by
// an ellipsis.
func (f *Field) Shorten(s string) string {
	const mark = "…"
	cut := f.Cut(s)
	if cut == s {
		return s
	}
	room := *f
	room.Most -= f.measure(mark)
	return room.Cut(s) + mark
}

// Number is a line of the table of numbers.
type Number struct {
	Name        string
	Least, Most int64
	Unit        string
	Columns     string
	Why         string
}

// Check gives what is wrong with a number, nil when it is within its bounds.
func (n *Number) Check(v int64) *Wrong {
	if v < n.Least || v > n.Most {
		return &Wrong{CodeRange, fmt.Sprintf("%s is %d to %d %s", n.Name, n.Least, n.Most, n.Unit)}
	}
	return nil
}
