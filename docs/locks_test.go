package docs

import (
	"go/ast"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A database that takes a table for small reads it whole, and a reader under locks then waits for every row that
// somebody holds, those of others too. So whoever locks the rows of several keys names the index that finds them.
func TestLockingReadsNameTheirIndex(t *testing.T) {
	s := newChecker()
	found := 0
	for _, folder := range []string{"order", "stock", "payment", "scheduler", "cmd/orderd"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			source, err := s.load(rel)
			if err != nil {
				return nil // no Go here
			}
			for _, f := range source.files {
				for _, q := range statements(f) {
					if !strings.HasPrefix(q.text, "SELECT") || !strings.Contains(q.text, "FOR UPDATE") &&
						!strings.Contains(q.text, "<lock>") {
						continue
					}
					many := strings.Contains(q.text, "sqldb.In(") || strings.Contains(q.text, "IN (?)") // of Held
					if found++; many && !strings.Contains(q.text, "FORCE INDEX (") {
						t.Errorf("%s: locks the rows of several keys and names no index:\n%s",
							s.files.Position(q.at), q.text)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 15 {
		t.Errorf("%d locking reads were found: this test does not see them any more", found)
	}
}

// statement is a text that is put together in one expression: what is no literal stands in angle brackets.
type statement struct {
	text string
	at   token.Pos
}

// statements gives the texts of a file.
func statements(f *ast.File) (all []statement) {
	ast.Inspect(f, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		switch x := e.(type) {
		case *ast.BasicLit:
		case *ast.BinaryExpr:
			if x.Op != token.ADD {
				return true
			}
		default:
			return true
		}
		all = append(all, statement{flat(e), e.Pos()})
		return false
	})
	return all
}

// flat gives the text of an expression.
func flat(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BinaryExpr:
		return flat(x.X) + flat(x.Y)
	case *ast.BasicLit:
		if text, err := strconv.Unquote(x.Value); err == nil {
			return text
		}
	}
	return "<" + types.ExprString(e) + ">"
}
