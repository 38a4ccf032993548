package payment

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"orderd/migrations/bounds"
)

// Fen is an amount of money in fen, a hundredth of a yuan. Money is never a float.
type Fen int64

// MaxFen bounds one order: ten million yuan. WeChat's own limit per payment is
// far lower; the bound exists so that sums of lines can never overflow.
const MaxFen Fen = bounds.MostFen

// CNY is the only currency that mainland WeChat Pay settles in.
const CNY = "CNY"

// ErrMoney marks a yuan string that is not an exact amount of fen.
var ErrMoney = errors.New("not an amount of money")

// String renders the amount in yuan with two decimals, as a person reads it.
func (f Fen) String() string {
	sign, n := "", uint64(f) //nolint:gosec // a negative one is negated below, in two's complement
	if f < 0 {
		sign, n = "-", -uint64(f) //nolint:gosec // right for the smallest int64 too, which has no positive twin
	}
	return fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
}

// ParseYuan reads a yuan string such as "149.00", "-0.5" or "12" exactly.
// More than two decimals are accepted only when the rest is zeros: a fraction
// of a fen is an error, never rounded.
func ParseYuan(s string) (Fen, error) {
	body, neg := strings.CutPrefix(s, "-")
	whole, frac, dotted := strings.Cut(body, ".")
	// Thirteen digits of yuan are fifteen of fen, far inside an int64.
	if whole == "" || (dotted && frac == "") || len(whole) > 13 {
		return 0, fmt.Errorf("%w: %q", ErrMoney, s)
	}
	if len(frac) > 2 && strings.Trim(frac[2:], "0") != "" {
		return 0, fmt.Errorf("%w: %q has a fraction of a fen", ErrMoney, s)
	}
	var n int64
	for _, r := range whole + (frac + "00")[:2] {
		if r < '0' || r > '9' {
			return 0, fmt.Errorf("%w: %q", ErrMoney, s)
		}
		n = n*10 + int64(r-'0')
	}
	if neg {
		n = -n
	}
	return Fen(n), nil
}

// MaybeFen is an amount that WeChat Pay may not have said. The zero value is one that it did
// not say, which is another thing than 0.
type MaybeFen struct {
	fen  Fen
	said bool
}

// Said is an amount that was said.
func Said(f Fen) MaybeFen { return MaybeFen{f, true} }

// Fen gives the amount, and whether it was said.
func (m MaybeFen) Fen() (Fen, bool) { return m.fen, m.said }

// String renders the amount as Fen does, and a dash for one that was not said.
func (m MaybeFen) String() string {
	if !m.said {
		return "–"
	}
	return m.fen.String()
}

// IsZero lets omitzero leave out what was not said.
func (m MaybeFen) IsZero() bool { return !m.said }

// MarshalJSON gives the number of fen, and null for one that was not said.
func (m MaybeFen) MarshalJSON() ([]byte, error) {
	if !m.said {
		return []byte("null"), nil
	}
	return json.Marshal(int64(m.fen))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *MaybeFen) UnmarshalJSON(text []byte) error {
	var fen *int64
	if err := json.Unmarshal(text, &fen); err != nil {
		return err
	}
	*m = MaybeFen{}
	if fen != nil {
		*m = Said(Fen(*fen))
	}
	return nil
}
