package chaos

import (
	"os/exec"
	"path"
	"testing"
)

// A mutant whose text no longer stands in the sources, or does not compile, is one that nobody tests the harness with.
func TestMutantsBuild(t *testing.T) {
	if len(Mutants) != 38 {
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
