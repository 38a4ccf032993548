package bounds

import (
	"strings"
	"testing"
	"unicode"
)

// What is shown stays one line, in its own direction, and every part of it is seen.
func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"红色 T 恤 🎁 – “L”":         "红色 T 恤 🎁 – “L”",
		"宽\u3000格":               "宽\u3000格",
		`a\nb`:                   `a\nb`,
		"a\nok  b\tc\r":          `a\nok  b\tc\r`,
		"\x1b[2J\x1b]0;x\a":      `\x1b[2J\x1b]0;x\a`,
		"\u009b31m":              `\u009b31m`,
		"a\u202eb\u2066c\u200fd": `a\u202eb\u2066c\u200fd`,
		"ali\u200bce\ufeff":      `ali\u200bce\ufeff`,
		"a\u00a0b\u2028c":        `a\u00a0b\u2028c`,
		"\u3164\uffa0\u2800":     `\u3164\uffa0\u2800`,
		"a\ufe0fb\U000e0041":     `a\ufe0fb\U000e0041`,
		"\xff\xfea":              `\xff\xfea`,
		"\ufffd":                 "\ufffd",
	} {
		got := Shown(in)
		if got != want {
			t.Errorf("%+q is shown as %+q, want %+q", in, got, want)
		}
		if again := Shown(got); again != got {
			t.Errorf("%+q grows to %+q", got, again)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || Hidden(r) }) {
			t.Errorf("%+q has what is not seen", got)
		}
	}
	if got := ShownLines("one\u202e\ntwo\x1b\n", "  "); got != `one\u202e`+"\n"+`  two\x1b` {
		t.Errorf("lines are shown as %q", got)
	}
}

// A reason that nobody can see is none, whatever it is made of.
func TestBlankIsNothing(t *testing.T) {
	for _, s := range []string{"", " ", "\n\t", "\u3000\u00a0", "\u200b", " \u200d\u2060 ", "\ufeff", "\u3164",
		"\u2800", "\u202e", "\ufe0f"} {
		if wrong := Reason.Check(s); wrong == nil || wrong.Code != CodeRequired {
			t.Errorf("%+q counts as a reason: %+v", s, wrong)
		}
	}
	for _, s := range []string{"x", " 退 ", "\u200bx"} {
		if wrong := Reason.Check(s); wrong != nil {
			t.Errorf("%+q does not count as a reason: %+v", s, wrong)
		}
	}
}

// What is shortened fits, and shows that something is missing.
func TestShorten(t *testing.T) {
	for _, f := range []*Field{&Reason, &RefundReason} {
		whole := strings.Repeat("x", f.Most)
		if got := f.Shorten(whole); got != whole {
			t.Errorf("%s that fits is %q", f.Name, got)
		}
		for _, long := range []string{whole + "x", strings.Repeat("退", f.Most+1)} {
			if got := f.Shorten(long); f.measure(got) > f.Most || !strings.HasSuffix(got, "…") ||
				!strings.HasPrefix(long, strings.TrimSuffix(got, "…")) {
				t.Errorf("%s: %q", f.Name, got)
			}
		}
	}
}
