package chaos

import (
	"os/exec"
	"path"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// A mutant whose text no longer stands in the sources, or does not compile, is one that nobody tests the harness with.
func TestMutantsBuild(t *testing.T) {
	if len(Mutants) != 39 {
		t.Errorf("%d mutants", len(Mutants))
	}
	for _, m := range Mutants {
		overlay, err := mutate(t.Context(), t.TempDir(), m.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		args := []string{"build", "-overlay", overlay}
		for _, e := range m.Edit { // the packages alone: linking would take a minute
			args = append(args, path.Join("orderd", path.Dir(e.File)))
		}
		if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", m.Name, err, out)
		}
	}
}

// A run of the harness takes minutes. That a decision by a replica is seen is shown without one: by the test of package
// order that holds a replica back, with the mutant's text.
func TestADecisionByAReplicaIsCaught(t *testing.T) {
	sqldbtest.MariaDBDSN(t) // or it is not run where there is none
	overlay, err := mutate(t.Context(), t.TempDir(), replicaMutants[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-count", "1", "-run",
		"^TestReplicaShowsListsAndDecidesNothing$", "orderd/order").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cancel: , order not found") { // placed, and not there
		t.Errorf("it is not seen: %v: %s", err, out)
	}
}
