package payment

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// gopay does not escape the number in the path: anything but these characters could name another URL.
func TestOutRefundNo(t *testing.T) {
	for _, bad := range []string{"", strings.Repeat("a", 65), "a/../b", "a?x=1", "a|b", "a@b", "a*b", "a b", "退1",
		"a\n"} {
		if ValidOutRefundNo(bad) {
			t.Errorf("%q passes", bad)
		}
	}
	for _, good := range []string{"R", strings.Repeat("a", 64), "01JD4Z0000000000000000000A-R01-G2", "R4200001234"} {
		if !ValidOutRefundNo(good) {
			t.Errorf("%q does not pass", good)
		}
	}
}

// A text that is cut in the middle of a character is refused by the database as a whole.
func TestCutBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"订单", 6, "订单"}, {"订单", 5, "订"}, {"a😀", 4, "a"}, {"abc", 0, ""}} {
		if got := CutBytes(c.text, c.n); got != c.want || len(got) > c.n || !utf8.ValidString(got) {
			t.Errorf("%q cut to %d is %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

// A key with a blank at its end is one key here and another for MySQL.
func TestVisible(t *testing.T) {
	for _, bad := range []string{"", " ", "a ", " a", "a\tb", "a\x00", "é", "abcde\x7f", "toolong"} {
		if Visible(bad, 6) {
			t.Errorf("%q passes", bad)
		}
	}
	if !Visible("!a~", 6) || !Visible("abcdef", 6) {
		t.Error("visible characters do not pass")
	}
}
