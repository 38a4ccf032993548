package screen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

type word string

func (w word) String() string { return "word " + string(w) }

// Whatever kind of argument brings it, nothing forges a line, and widths are those of fmt.
func TestPrintf(t *testing.T) {
	const evil = "a\nok\x1b[2J\u202e"
	const tame = `a\nok\x1b[2J\u202e`
	for _, tt := range []struct {
		format string
		args   []any
		want   string
	}{
		{"%s|%v\n", []any{evil, evil}, tame + "|" + tame + "\n"},
		{"%s %d\t%v\n", []any{word(evil), 7, true}, "word " + tame + " 7\ttrue\n"},
		{"%v", []any{[]string{evil, "b"}}, "[" + tame + " b]"},
		{"%v", []any{map[string]string{"k": evil}}, "map[k:" + tame + "]"},
		{"orderd: %v\n", []any{errors.Join(errors.New("x"), errors.New("y\x1b"))}, "orderd: x\n  y\\x1b\n"},
		{"%s", []any{Lines("x\ny\u202e\n")}, "x\n  " + `y\u202e`},
		{"%-4s|%4s|%*d|%q", []any{"ab", "ab", 3, 5, "q"}, `ab  |  ab|  5|"q"`},
		{"%s", []any{nil}, "%!s(<nil>)"},
	} {
		var b strings.Builder
		Printf(&b, tt.format, tt.args...)
		if b.String() != tt.want {
			t.Errorf("%q prints %q, want %q", tt.format, b.String(), tt.want)
		}
	}
}

// A word cannot make a column or a row of a table.
func TestTable(t *testing.T) {
	var b strings.Builder
	err := Table(&b, func(w io.Writer) {
		Printf(w, "NAME\tREASON\n")
		Printf(w, "%s\t%s\n", "x\ty", "z\nREFUND\tsucceeded")
	})
	if want := "NAME  REASON\n" + `x\ty  z\nREFUND\tsucceeded` + "\n"; err != nil || b.String() != want {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// JSON stays the same value, and has nothing that a terminal would do something at.
func TestJSON(t *testing.T) {
	in := map[string]string{"a": "\u202e\x7f\u009b\u200b\U000e0041 红🎁<\n\t\x1b"}
	var b bytes.Buffer
	if err := JSON(&b, in); err != nil {
		t.Fatal(err)
	}
	var out map[string]string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || fmt.Sprint(out) != fmt.Sprint(in) {
		t.Errorf("%q comes back from %s, %v", out, b.Bytes(), err)
	}
	if want := `"\u202e\u007f\u009b\u200b\udb40\udc41 红🎁`; !strings.Contains(b.String(), want) {
		t.Errorf("%s", b.Bytes())
	}
}

// Progress is shown by the same rule.
func TestProgressIsSafe(t *testing.T) {
	var b strings.Builder
	p := NewProgress(&b, true)
	p.Show("%s", "a\x1b[2J")
	p.Print("%s\n", "b\r\u202e")
	if want := clearLine + `a\x1b[2J` + clearLine + `b\r\u202e` + "\n" + `a\x1b[2J`; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// A bill is a copy where it is kept, and cannot act where it is read.
func TestCopy(t *testing.T) {
	const bill = "a,\x1b[2Jb\r\nc\u202e\nlast"
	for terminal, want := range map[bool]string{false: bill, true: `a,\x1b[2Jb` + "\n" + `c\u202e` + "\nlast\n"} {
		var b strings.Builder
		if err := Copy(&b, terminal, strings.NewReader(bill)); err != nil || b.String() != want {
			t.Errorf("terminal %v: %q, %v", terminal, b.String(), err)
		}
	}
}
