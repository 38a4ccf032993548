package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TiDB refuses to be told that a transaction reads only (1235), takes SKIP LOCKED and locks nothing, and answers ON
// DUPLICATE KEY and REPEATABLE READ otherwise than InnoDB does where two meet. No statement of ours has the words; the
// one transaction that is REPEATABLE READ shows, and locks and writes nothing (sqldb.Snapshot). That none is sent as
// READ ONLY by the driver is shown in migrations/sqldb, and that nothing rests on the isolation by sqldbtest.Races.
func TestNoStatementThatTiDBTakesOtherwise(t *testing.T) {
	words := []string{"READ ONLY", "SKIP LOCKED", "ON DUPLICATE KEY", "REPEATABLE READ", "JSON_TABLE"}
	files, seen := token.NewFileSet(), 0
	sent, bare := regexp.MustCompile(`^(SELECT|INSERT|UPDATE|DELETE) `), regexp.MustCompile("[ ,(]UNTIL[ ,)=]")
	check := func(where, text string) {
		seen++
		text = strings.ToUpper(strings.Join(strings.Fields(text), " "))
		// A word of TiDB's language that a column of ours has as its name (migrations quotes those that are out).
		if sent.MatchString(text) && bare.MatchString(text) {
			t.Errorf("%s names the column until unquoted:\n%s", where, text)
		}
		for _, w := range words {
			if strings.Contains(text, w) {
				t.Errorf("%s says %s:\n%s", where, w, text)
			}
		}
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel := filepath.ToSlash(strings.TrimPrefix(path, root+"/"))
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root ||
			rel == "migrations/sqldb/sqldbtest" || rel == "cmd/orderload"): // what hurts servers on purpose
			return filepath.SkipDir
		case filepath.Ext(path) == ".sql":
			text, err := os.ReadFile(path) //nolint:gosec // G122: our own tree
			check(rel, string(text))
			return err
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, q := range statements(f) {
			check(files.Position(q.at).String(), q.text)
		}
		checkIsolation(t, files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 1000 {
		t.Errorf("%d texts were found: this test does not see them any more", seen)
	}
}

// checkIsolation finds levels of isolation that are given to the driver.
func checkIsolation(t *testing.T, files *token.FileSet, f *ast.File) {
	t.Helper()
	ast.Inspect(f, func(n ast.Node) bool {
		sel, is := n.(*ast.SelectorExpr)
		levels := []string{"LevelRepeatableRead", "LevelSerializable", "LevelSnapshot"}
		if !is || !slices.Contains(levels, sel.Sel.Name) {
			return true
		}
		if at := files.Position(sel.Pos()); !strings.HasSuffix(filepath.ToSlash(at.Filename), "sqldb/snapshot.go") {
			t.Errorf("%s: %s", at, sel.Sel.Name)
		}
		return true
	})
}
