package bounds

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// runes are characters of one, two, three and four bytes.
var runes = []string{"a", "é", "字", "🎁"}

// A count that is one off, or of characters where WeChat Pay and a column count bytes, is seen at the bound alone.
func TestCheckAtTheBound(t *testing.T) {
	for _, f := range Fields {
		if f.Of == Address || f.Of == H5Kind {
			continue // their alphabet is a list, or a form
		}
		for _, r := range runes {
			size := 1
			if f.Unit == Bytes {
				size = len(r)
			}
			for _, n := range []int{f.Least - 1, f.Least, f.Most/size - 1, f.Most / size, f.Most/size + 1} {
				if n < 0 {
					continue
				}
				s := strings.Repeat(r, n)
				length := n * size
				inAlphabet := r == "a" || f.Of == Line || f.Of == Text || f.Of == Short && len(r) < 4
				want := length >= f.Least && length <= f.Most && (inAlphabet || n == 0)
				wrong := f.Check(s)
				if want != (wrong == nil) {
					t.Errorf("%s with %d of %q: %v", f.Name, n, r, wrong)
				}
				if wrong != nil && !strings.HasPrefix(wrong.Detail, f.Name) {
					t.Errorf("%s is not named in %q", f.Name, wrong.Detail)
				}
				if cut := f.Cut(s); f.measure(cut) > f.Most || !strings.HasPrefix(s, cut) || !utf8.ValidString(cut) ||
					f.measure(cut) < min(f.measure(s), f.Most-size+1) {
					t.Errorf("%s: %d of %q are cut to %d bytes", f.Name, n, r, len(cut))
				}
				if fitted := f.Fitted(s); n > f.Least && !f.Fits(fitted) || f.Fits(s) && fitted != s {
					t.Errorf("%s: %q is not %q made to fit", f.Name, fitted, s)
				}
			}
		}
	}
}

// A character that a field lets through forges lines, reaches another URL, or is refused by WeChat Pay.
func TestAlphabets(t *testing.T) {
	for _, tt := range []struct {
		of      Alphabet
		yes, no []string
	}{
		{of: Word, yes: []string{"aZ09_-"}, no: []string{"a.b", "a b", "a|", "a*", "a/", "é", "a\n"}},
		{of: Dotted, yes: []string{"o-K_.9"}, no: []string{"a:b", "a b", "a%2F"}},
		{of: Code, yes: []string{"a:b.c"}, no: []string{"a,b", "1001 "}},
		{of: Visible, yes: []string{"!~"}, no: []string{" ", "a\x7f", "é", "a\t"}},
		{of: Line, yes: []string{"a b", "🎁", "家"}, no: []string{
			"a\nb", "a\tb", "\x1b[31m", "\u202e", "\u2028", "\xff", "\u0085"}},
		{of: Text, yes: []string{"a\n\tb"}, no: []string{"a\rb", "\u2066", "a\x00"}},
		{of: Short, yes: []string{"字é"}, no: []string{"🎁", "a\nb", "\U00010000", "\xf0\x9f"}},
		{of: Address, yes: []string{"1.2.3.4", "2001:db8::1"},
			no: []string{"1.2.3", "fe80::1%eth0", "01.2.3.4", " 1.2.3.4"}},
		{of: H5Kind, yes: []string{"iOS", "Wap"}, no: []string{"ios", "Wap "}},
	} {
		for _, s := range tt.yes {
			if !tt.of.hasAll(s) {
				t.Errorf("%s: %q is refused", tt.of, s)
			}
		}
		for _, s := range tt.no {
			if tt.of.hasAll(s) {
				t.Errorf("%s: %q passes", tt.of, s)
			}
		}
	}
}

// An address that WeChat Pay refuses makes every prepay fail, and one that it cannot reach loses every notification.
func TestNotifyURL(t *testing.T) {
	long := "https://pay.example.com/" + strings.Repeat("a", NotifyURL.Most-len("https://pay.example.com/"))
	for _, tt := range []struct {
		url              string
		public, loopback bool
	}{
		{"https://pay.example.com/notify", true, true},
		{"https://pay.example.com:8443/notify", true, true},
		{long[:len(long)-1], true, true}, {long, true, true}, {long + "a", false, false},
		{"https://pay.example.com", false, false}, {"https://pay.example.com/", false, false},
		{"https://pay.example.com/n?a=1", false, false}, {"https://pay.example.com/n?", false, false},
		{"https://pay.example.com/n#f", false, false}, {"https://u@pay.example.com/n", false, false},
		{"https://203.0.113.7/n", false, true}, {"https://[2001:db8::1]/n", false, true},
		{"https://127.1/n", false, true}, {"https://2130706433/n", false, true}, {"https://0x7f.1/n", false, true},
		{"https://localhost/n", false, true}, {"https://shop/n", false, true},
		{"http://pay.example.com/n", false, true}, {"http://127.0.0.1:8081/n", false, true},
		{"ftp://pay.example.com/n", false, false}, {"/n", false, false}, {"", false, false},
		{"https://pay.example.com/支付", false, false}, {"https://pay.example.com/a b", false, false},
	} {
		if wrong := CheckNotifyURL(tt.url, false); (wrong == nil) != tt.public {
			t.Errorf("%s for WeChat Pay: %v", tt.url, wrong)
		}
		if wrong := CheckNotifyURL(tt.url, true); (wrong == nil) != tt.loopback {
			t.Errorf("%s for a simulator: %v", tt.url, wrong)
		}
	}
}

// Numbers just outside their bounds.
func TestNumbersAtTheBound(t *testing.T) {
	for _, n := range Numbers {
		for v, fits := range map[int64]bool{n.Least - 1: false, n.Least: true, n.Most - 1: true, n.Most: true,
			n.Most + 1: false} {
			if wrong := n.Check(v); (wrong == nil) != fits {
				t.Errorf("%s %d: %v", n.Name, v, wrong)
			}
		}
	}
}

// WeChat Pay compares an H5 payer's address with the one that it sees: one that the internet has not is refused there.
func TestPublicAddress(t *testing.T) {
	for s, want := range map[string]bool{"203.0.113.9": true, "2001:db8::1": true, "::ffff:8.8.8.8": true,
		"100.63.255.255": true, "100.128.0.1": true, "": false, "x": false, "203.0.113.9:80": false, "127.0.0.1": false,
		"::1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false, "10.1.2.3": false, "172.16.0.1": false,
		"192.168.1.7": false, "100.64.0.9": false, "100.127.255.255": false, "169.254.1.1": false, "fe80::1": false,
		"fe80::1%eth0": false, "2001:db8::1%eth0": false, "fc00::1": false, "224.0.0.1": false, "ff02::1": false,
		"240.0.0.1": false, "255.255.255.255": false, "::ffff:10.0.0.1": false, "::ffff:127.0.0.1": false} {
		if got := PublicAddress(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
