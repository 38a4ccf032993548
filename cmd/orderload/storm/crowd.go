package storm

import (
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// The seeded orders: one unit each, of seedSKUs SKUs in turn.
const (
	// seedPiece is orders of one statement; their numbers share the time of the first.
	seedPiece     = 20_000
	seedCustomers = 50_000 // whose orders they are, in turn
	seedSKUs      = 1000   // SKUs
	// seedStock is units of each SKU at the beginning: enough for all orders and those
	// beside them.
	seedStock = 1_000_000
	// seedGrace and seedWithin are order.Config's defaults of Grace and PayWithin, which
	// the seeded rows must agree with.
	seedGrace  = 20 * time.Second
	seedWithin = 30 * time.Minute
	// seedInfix stands between the time and the number; all letters are of ULID's
	// alphabet (Crockford's base 32).
	seedInfix = "0ST0RM00"
)

// crowd is unpaid orders that come due from first on, evenly over spread, on
// whole seconds. They are numbered from 1 in the order of their deadlines.
type crowd struct {
	// n orders; spread 0 has all of them due in one second.
	n      int
	first  time.Time
	spread time.Duration
}

// due is the due time of order i.
func (c crowd) due(i int) time.Time {
	return c.first.Add(time.Duration((i-1)*int(c.spread/time.Second)/c.n) * time.Second)
}

// last is the last due time.
func (c crowd) last() time.Time { return c.due(c.n) }

// dueBy counts the orders that are due at t, in closed form: it is called for every point
// of the backlog.
func (c crowd) dueBy(t time.Time) int {
	switch seconds := int(c.spread / time.Second); {
	case t.Before(c.first):
		return 0
	case !t.Before(c.last()):
		return c.n
	default: // of the first s of the seconds
		s := int(t.Sub(c.first)/time.Second) + 1
		return (s*c.n + seconds - 1) / seconds
	}
}

// no is the number of order i: a ULID of about the time at which it was placed, so that
// the primary key is filled in its order, as a shop's is.
func (c crowd) no(i int) string { return fmt.Sprintf("%s%08d", c.prefix(i), i) }

// ends are the first and the last number: arguments of BETWEEN.
func (c crowd) ends() []any { return []any{c.no(1), c.no(c.n)} }

// prefix is what the numbers of a piece share.
func (c crowd) prefix(i int) string {
	var id ulid.ULID
	placed := c.due((i-1)/seedPiece*seedPiece + 1).Add(-seedGrace - seedWithin) // of the first of the piece
	_ = id.SetTime(ulid.Timestamp(placed))                                      // cannot fail before the year 10889
	return id.String()[:ulidTime] + seedInfix
}

// The parts of a seeded number: a ULID has 26 letters, of which the first 10 are the
// time.
const (
	ulidTime   = 10
	numberAt   = ulidTime + len(seedInfix)
	ulidLength = 26
)

// seqOf gives back the number of a seeded order from its order_no or out_trade_no, 0 for
// any other order, such as one that was placed beside the storm.
func seqOf(no string) int {
	if len(no) < ulidLength || no[ulidTime:numberAt] != seedInfix {
		return 0
	}
	n := 0
	for _, c := range []byte(no[numberAt:ulidLength]) {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}
