package explore

import (
	"errors"
	"os"
	"slices"
	"testing"
)

// limit is more states than any world of these tests has: a walk that meets it has shown nothing.
const limit = 1_000_000

// worlds are what is walked. Each is as small as it can be and still has the faults of its kind in it.
var worlds = []Model{
	{Name: "local", Local: true, // two processes, two buckets, three units
		Units: 3, Wants: [maxBuyers]int16{1, 2, 1}, Grants: []int16{2}, Rows: 2, Moves: 2, Tries: 2},
	{Name: "marks", Local: true, Marks: true,
		Units: 1, Wants: [maxBuyers]int16{1, 1, 1}, Grants: []int16{1}, Rows: 1, Moves: 1, Tries: 1},
	{Name: "start", Local: true, Marks: true, Start: 3,
		Units: 2, Wants: [maxBuyers]int16{1, 1}, Grants: []int16{1}, Rows: 2, Moves: 1, Tries: 1},
	{Name: "redis", Redis: true, Fails: 1,
		Units: 2, Wants: [maxBuyers]int16{1, 2}, Grants: []int16{1}, Rows: 1, Epochs: 1, Moves: 2, Tries: 2},
	{Name: "epochs", Redis: true, Fails: 1,
		Units: 2, Wants: [maxBuyers]int16{2, 1}, Grants: []int16{2}, Rows: 2, Epochs: 2, Moves: 1, Tries: 2},
	{Name: "split", Redis: true, Split: true, Fails: 1,
		Units: 2, Wants: [maxBuyers]int16{1, 1}, Grants: []int16{2}, Rows: 2, Epochs: 2, Moves: 1, Tries: 1},
	{Name: "both", Redis: true, Local: true, Fails: 1,
		Units: 2, Wants: [maxBuyers]int16{2, 1}, Grants: []int16{1}, Rows: 2, Epochs: 1, Moves: 1, Tries: 1},
	{Name: "redis marks", Redis: true, Marks: true,
		Units: 1, Wants: [maxBuyers]int16{1, 1}, Grants: []int16{1}, Rows: 1, Epochs: 1, Moves: 1, Tries: 1},
}

// wide are worlds with more of everything, for ORDERD_TEST_LONG=1.
var wide = []Model{
	{Name: "local wide", Local: true,
		Units: 3, Wants: [maxBuyers]int16{1, 2, 1}, Grants: []int16{1, 2}, Rows: 2, Moves: 2, Tries: 2},
	{Name: "marks wide", Local: true, Marks: true, Start: 3,
		Units: 1, Wants: [maxBuyers]int16{1, 1, 1}, Grants: []int16{1}, Rows: 2, Moves: 1, Tries: 1},
	{Name: "redis wide", Redis: true, Fails: 1,
		Units: 3, Wants: [maxBuyers]int16{1, 2, 1}, Grants: []int16{1}, Rows: 1, Epochs: 1, Moves: 2, Tries: 2},
	{Name: "epochs wide", Redis: true, Fails: 1,
		Units: 2, Wants: [maxBuyers]int16{2, 1}, Grants: []int16{1}, Rows: 2, Epochs: 2, Moves: 2, Tries: 2},
	{Name: "split wide", Redis: true, Split: true, Fails: 1,
		Units: 2, Wants: [maxBuyers]int16{1, 1}, Grants: []int16{2}, Rows: 2, Epochs: 2, Moves: 1, Tries: 2},
}

// A protocol that is right on the usual path sells a unit twice, or loses one, on a path that no test took: so all are
// taken. Every kind of step has to occur, or the walk has left out what it was made for.
func TestEveryStateKeepsTheInvariants(t *testing.T) {
	models := worlds
	if os.Getenv("ORDERD_TEST_LONG") == "1" {
		models = append(models, wide...)
	}
	var kinds [len(kindNames)]int
	for _, m := range models {
		res := m.Explore(limit)
		t.Logf("%s: %d states, %d steps, depth %d", m.Name, res.States, res.Transitions, res.Depth)
		if res.Err != nil {
			t.Error(m.explain(res))
		}
		for k := range kinds {
			kinds[k] += res.kinds[Kind(k)]
		}
	}
	for k, n := range kinds {
		if planted := Kind(k) == StepRedisRefill; n == 0 && !planted {
			t.Errorf("no world has a step %q", Kind(k))
		}
	}
}

// A check that cannot fail is none: each of these mistakes must be found, in the world that it is planted in.
func TestEveryPlantedFaultIsFound(t *testing.T) {
	for _, tt := range []struct {
		fault Fault
		world string
		name  string
	}{
		{FaultGuardNoSum, "redis", "guard without remaining"},
		{FaultCloseKeepsSum, "local", "closed row keeps its units"},
		{FaultCloseForgets, "local", "closed row loses its units"},
		{FaultRecallOpen, "local", "recall leaves the row open"},
		{FaultNoRecall, "local", "short pool without a recall"},
		{FaultNoRecall, "redis", "short pool without a recall"},
		{FaultRecallLocal, "redis", "recall leaves what Redis has"},
		{FaultFencedShort, "local", "fenced ticket answered sold out"},
		{FaultIDReused, "local", "bucket id reused"},
		{FaultRaiseFirst, "local", "memory before MySQL"},
		{FaultGrantNoGuard, "local", "grant without a guard on the pool"},
		{FaultGrantClosed, "local", "grant into a closed row"},
		{FaultBackTwice, "local", "units given back twice"},
		{FaultBackAnyBucket, "local", "units given back to another bucket"},
		{FaultDoubtIsNo, "local", "unknown COMMIT taken for a refusal"},
		{FaultCancelTwice, "epochs", "cancelled order returned to pool and bucket"},
		{FaultMarkLong, "start", "mark outlives reopening"},
		{FaultMarkLateClock, "start", "life of a mark counted from the answer"},
		{FaultMarkNoEnd, "start", "life of a mark not cut at closed_until"},
		{FaultMarkKeysFirst, "marks", "keys read before the mark"},
		{FaultMarkOldKeys, "marks", "keys of an earlier mark"},
		{FaultReopenAtOnce, "marks", "reopened at once"},
		{FaultReopenNever, "marks", "never reopened"},
		{FaultSellsClosed, "start", "pool sold before closed_until"},
		{FaultGrantSoldOut, "start", "grant before closed_until"},
		{FaultGiveNoSeq, "redis", "grant.lua ignores seq"},
		{FaultReturnNoRef, "redis", "return.lua without ref"},
		{FaultRepeatTicket, "redis", "repeat uses the ticket of a try that still runs"},
		{FaultGiveFirst, "redis", "Redis before MySQL"},
		{FaultReturnNoToken, "epochs", "return.lua of any epoch"},
		{FaultOpenKeeps, "epochs", "open.lua keeps old units"},
		{FaultEpochReused, "epochs", "epoch used again"},
		{FaultSweepRunning, "redis", "ticket of a running try swept"},
		{FaultRefill, "redis", "rebuild fills the old bucket"},
		{FaultDenyUnasked, "redis", "refusal by Redis without a look for the order"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := *world(t, tt.world)
			m.Faults = tt.fault
			res := m.Explore(limit)
			if res.Err == nil || errors.Is(res.Err, ErrTooBig) {
				t.Fatalf("not found: %v after %d states", res.Err, res.States)
			}
			t.Logf("found after %d states: %s", res.States, m.explain(res))
		})
	}
}

// world finds one by its name.
func world(t *testing.T, name string) *Model {
	t.Helper()
	i := slices.IndexFunc(worlds, func(m Model) bool { return m.Name == name })
	if i < 0 {
		t.Fatal("no world", name)
	}
	return &worlds[i]
}

// Two conditions say what others say already. The guard's "state IN ('open', 'closing')": a closed row holds nothing,
// and its id is never given out again. And the look at the buckets before a mark: a short pool has called them all back
// in the same transaction. Whoever leaves a closed row its units, or a bucket to its home, has to know that one of two
// nets is all there is: then this test fails.
func TestSecondNets(t *testing.T) {
	for name, fault := range map[string]Fault{"local": FaultGuardNoState, "redis": FaultGuardNoState,
		"marks": FaultMarkNoBuckets, "redis marks": FaultMarkNoBuckets} {
		m := *world(t, name)
		m.Faults = fault
		if res := m.Explore(limit); res.Err != nil {
			t.Error(m.explain(res))
		}
	}
}
