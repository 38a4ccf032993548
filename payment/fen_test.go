package payment

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A bill speaks yuan: one wrong digit, or a rounded one, is a wrong book.
func TestParseYuan(t *testing.T) {
	for in, want := range map[string]Fen{"0": 0, "0.01": 1, "149.00": 14900, "12": 1200, "-0.5": -50, "0.10000": 10,
		"9999999999999.99": 999999999999999} {
		if got, err := ParseYuan(in); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", ".", "1.", ".5", "1.001", "1,00", "+1", "--1", "1e3", "１", " 1", "1 ", "0x1",
		"99999999999999"} {
		if got, err := ParseYuan(in); !errors.Is(err, ErrMoney) {
			t.Errorf("%q was read as %d (%v)", in, got, err)
		}
	}
}

// What is written must be read back the same, for every amount.
func TestYuanRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Fen(rapid.Int64Range(-int64(MaxFen)*100, int64(MaxFen)*100).Draw(t, "fen"))
		if got, err := ParseYuan(f.String()); err != nil || got != f {
			t.Fatalf("%d was written as %s and read as %d (%v)", f, f, got, err)
		}
	})
}

// gopay does not escape the number in the path: anything but these characters could name another URL.
func TestOutTradeNo(t *testing.T) {
	for _, bad := range []string{"", "12345", strings.Repeat("a", 33), "a/../b", "abc?x=1", "abc|def", "abc def",
		"订单123456", "abcdef\n"} {
		if ValidOutTradeNo(bad) {
			t.Errorf("%q passes", bad)
		}
	}
	if !ValidOutTradeNo("01JD4Z0000000000000000000A-01") {
		t.Error("our own numbers do not pass")
	}
}

// FuzzParseYuan: no text may crash the parser, and what it accepts must come back the same.
func FuzzParseYuan(f *testing.F) {
	for _, s := range []string{"1.00", "-0.01", "x", "1.000", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseYuan(s)
		if err != nil {
			return
		}
		if again, err := ParseYuan(n.String()); err != nil || again != n {
			t.Fatalf("%q is %d, written %s, read %d (%v)", s, n, n, again, err)
		}
	})
}

// An amount that was not said is another thing than 0, for programs and for people, and stays so through JSON.
func TestAnAmountThatWasNotSaid(t *testing.T) {
	for text, c := range map[string]struct {
		want MaybeFen
		seen string
	}{`{}`: {MaybeFen{}, "–"}, `{"a":null}`: {MaybeFen{}, "–"}, `{"a":0}`: {Said(0), "0.00"},
		`{"a":39700}`: {Said(39700), "397.00"}} {
		var got struct{ A MaybeFen }
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.A != c.want || got.A.String() != c.seen {
			t.Errorf("%s: %v %v", text, got.A, err)
		}
		raw, err := json.Marshal(got.A)
		if err != nil {
			t.Fatal(err)
		}
		var again MaybeFen
		if err := json.Unmarshal(raw, &again); err != nil || again != c.want {
			t.Errorf("%s was written as %s", text, raw)
		}
	}
	for _, bad := range []string{`"1"`, `1.5`, `9223372036854775808`, `{}`} {
		var m MaybeFen
		if err := json.Unmarshal([]byte(bad), &m); err == nil {
			t.Errorf("%s was read as %v", bad, m)
		}
	}
}
