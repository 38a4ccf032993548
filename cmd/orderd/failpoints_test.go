package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orderd/migrations/sqldb/failpoint"
)

// built gives the bytes of the service as a build makes it.
func built(t *testing.T, args ...string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "orderd")
	if out, err := exec.Command("go", append(append([]string{"build", "-o", file}, args...),
		".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// A release in which the environment could stop or kill the service at a step
// would be a way to attack it: no name of a step, no symbol and no variable of
// the package may be in it. The build with the tag shows that the search finds them.
func TestReleaseHasNoFailpoints(t *testing.T) {
	traces := []string{"orderd/migrations/sqldb/failpoint", "ORDERD_FAILPOINTS"}
	for _, p := range failpoint.Points {
		if p.Name != "" {
			traces = append(traces, p.Name)
		}
	}
	release := built(t, "-trimpath", "-ldflags", "-s -w")
	tagged := built(t, "-trimpath", "-ldflags", "-s -w", "-tags", "failpoints")
	for _, trace := range traces {
		if bytes.Contains(release, []byte(trace)) {
			t.Errorf("the release has %q in it", trace)
		}
		if !bytes.Contains(tagged, []byte(trace)) {
			t.Errorf("the build with the tag lacks %q", trace)
		}
	}
	// With its symbols, so that a function of the package without a name of a step is seen too.
	file := filepath.Join(t.TempDir(), "orderd")
	if out, err := exec.Command("go", "build", "-o", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command("go", "tool", "nm", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "main.main") {
		t.Fatalf("%v: %.200s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "failpoint") {
			t.Errorf("a symbol of the package is linked: %s", line)
		}
	}
}
