package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A table of faults is worth its tests: one that names a test which was renamed, or leaves a fault out, is a promise
// that nobody keeps.
func TestFaultsHaveTests(t *testing.T) {
	text, err := os.ReadFile("faults.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([FWTLR]\d+) \|(.*)$`).FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2]
	}
	for kind, n := range map[string]int{"F": 14, "W": 12, "T": 15, "L": 7, "R": 19} {
		for i := 1; i <= n; i++ {
			id := fmt.Sprint(kind, i)
			row, ok := rows[id]
			if !ok {
				t.Errorf("%s: no row", id)
				continue
			}
			names := regexp.MustCompile("`([a-z/]+)\\.(Test\\w+)`").FindAllStringSubmatch(row, -1)
			reason := strings.Contains(row, "not injectable here because") || strings.Contains(row, "not applicable: ")
			if len(names) == 0 && !reason {
				t.Errorf("%s: no test, and no reason", id)
			}
			for _, name := range names {
				if !declared(t, name[1], name[2]) {
					t.Errorf("%s: there is no %s in %s", id, name[2], name[1])
				}
			}
		}
	}
}

// declared reports that a package has a test, a fuzz test or an example of this name.
func declared(t *testing.T, dir, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}
