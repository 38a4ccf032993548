package gate_test

import (
	"testing"

	"orderd/stock"
	"orderd/stock/gate"
)

// leaving is a shared home that gives out units of bucket 1, and cannot be asked any more after that.
type leaving struct {
	gate.Shared
	gone bool
}

func (l *leaving) Up() bool { return !l.gone }

func (l *leaving) Take(*gate.Claim, []int) gate.Taken {
	l.gone = true
	return gate.Taken{Buckets: []int64{1}, Settle: func(gate.Outcome) {}}
}

// A Redis that goes away while a line is taken from it had the line taken from the memory of the process too: its own
// units were nobody's until their bucket was given up.
func TestALineIsTakenOnce(t *testing.T) {
	g := gate.New(gate.Config{Shared: &leaving{}})
	g.Sells(&stock.Gate{SkuID: "hot", Mode: stock.GateRedis}, 2, 10)
	ticket := g.Take(&gate.Claim{Lines: []stock.Line{{SkuID: "hot", Quantity: 1}}})
	if len(ticket.Buckets) != 1 || ticket.Buckets[0] != 1 {
		t.Errorf("it is of buckets %v", ticket.Buckets)
	}
}

// A bucket that was given up while its next grant was under way would be alive again, with units of a row that is
// about to be closed.
func TestGrantOfADroppedBucketIsNotTaken(t *testing.T) {
	h := new(gate.Holding)
	if !h.Raise(7, 1, 10) || h.Take(4) != 7 {
		t.Fatal("a first grant is not sold")
	}
	if !h.Raise(7, 2, 10) || h.Take(16) != 7 || h.Take(1) != 0 {
		t.Error("6 and 10 are not 16")
	}
	if !h.Drop(7) || h.Drop(7) {
		t.Error("a bucket is given up once")
	}
	if h.Raise(7, 3, 100) {
		t.Error("a bucket that was given up took a grant")
	}
	if h.Take(1) != 0 {
		t.Error("units of a bucket that was given up are sold")
	}
	if !h.Raise(8, 1, 10) || h.Take(1) != 8 {
		t.Error("the next bucket is not sold")
	}
}

// A process whose first second was slow had asked for fewer units than one order wants. Nobody ever bought any of
// them, so that they never became few, and all orders went to the pool for as long as the sale lasted.
func TestBucketThatIsTooSmallForAnOrderGrows(t *testing.T) {
	h := new(gate.Holding)
	h.Raise(7, 1, 300)
	seq := int64(1)
	for ; h.Take(500) != 7; seq++ {
		units := h.Wants()
		if units <= 0 || seq > 10 {
			t.Fatalf("after %d grants %d more units are asked for", seq, units)
		}
		h.Raise(7, seq+1, units)
	}
	if units := h.Wants(); units > 1000 {
		t.Errorf("%d units more are asked for than two such orders need", units)
	}
}
