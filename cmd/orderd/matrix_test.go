package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var testName = regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")

// A row of the matrix that names a test that is gone promises what nobody checks.
func TestSecurityMatrixNamesRealTests(t *testing.T) {
	text, err := os.ReadFile(securityDoc)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 26; i++ {
		rows := regexp.MustCompile(fmt.Sprintf(`(?m)^\| S%d \|.*$`, i)).FindAllString(string(text), -1)
		if len(rows) != 1 {
			t.Errorf("S%d has %d rows", i, len(rows))
			continue
		}
		named := testName.FindAllStringSubmatch(rows[0], -1)
		if len(named) == 0 {
			t.Errorf("S%d names no test", i)
		}
		for _, n := range named {
			if !hasTest(t, n[1], n[2]) {
				t.Errorf("S%d: package %s has no %s", i, n[1], n[2])
			}
		}
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := os.ReadDir("../../" + folder)
	if err != nil {
		t.Error(err)
		return false
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile("../../" + folder + "/" + f.Name())
		if err == nil && strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
