package explore

import (
	"errors"
	"strings"
	"testing"
)

// lines are the worlds of the queue, each as small as it can be and still has the faults of its kind in it.
var lines = map[string]Line{
	// One unit and two who want it: two drainers, two epochs, no failure of Redis.
	"last unit": {Name: "last unit", Units: 1, Buyers: 2, Drainers: 2, Epochs: 2, Numbers: 2},
	// Somebody without a place beside two who wait.
	"two units": {Name: "two units", Units: 2, Buyers: 3, Drainers: 1, Epochs: 2, Numbers: 1},
	// A repeat while there is more.
	"repeat": {Name: "repeat", Units: 2, Buyers: 1, Drainers: 1, Epochs: 2, Numbers: 2},
	// Redis forgets, or goes back to what it was.
	"forgets": {Name: "forgets", Units: 1, Buyers: 2, Drainers: 1, Epochs: 2, Numbers: 2, Fails: 1},
}

// Who was told to wait loses his unit or his place, gets two orders or one that he has withdrawn, on a path that no
// test took: so all are taken.
func TestEveryStateOfTheQueueKeepsItsPromises(t *testing.T) {
	for name, m := range lines {
		res := m.Explore(limit)
		t.Logf("%s: %d states, %d steps", name, res.States, res.Transitions)
		if res.Err != nil {
			t.Errorf("%s: %v after\n%s", name, res.Err, strings.Join(res.Path, "\n"))
		}
	}
}

// A check that cannot fail is none: each of these mistakes must be found, in the world that it is planted in.
func TestEveryPlantedFaultOfTheQueueIsFound(t *testing.T) {
	for _, tt := range []struct {
		fault LineFault
		world string
		name  string
	}{
		{LineDoneUnplaced, "last unit", "done before it is an order"},
		{LineClaimRemoves, "last unit", "claim takes the entry out"},
		{LineWithdrawsLate, "last unit", "withdrawn while it is made"},
		{LineOpensEarly, "last unit", "opened while somebody waits"},
		{LineAloneSells, "last unit", "pool sold while somebody waits"},
		{LineUnasked, "repeat", "order not looked for"},
		{LineNewNumber, "last unit", "order of another number"},
		{LineRefusesTwice, "forgets", "refused twice"},
		{LineForgetsEnd, "forgets", "refusal is not kept"},
		{LineRecalls, "two units", "promised units called back"},
		{LineEndsEarly, "last unit", "epoch ends while somebody waits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := lines[tt.world]
			m.Faults = tt.fault
			res := m.Explore(limit)
			if res.Err == nil || errors.Is(res.Err, ErrTooBig) {
				t.Fatalf("not found: %v after %d states", res.Err, res.States)
			}
			t.Logf("found after %d states: %v after\n%s", res.States, res.Err, strings.Join(res.Path, "\n"))
		})
	}
}
