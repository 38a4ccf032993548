package gate_test

import (
	"testing"

	"orderd/stock/gate"
)

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
