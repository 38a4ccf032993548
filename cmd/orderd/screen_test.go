package main

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// screens is the one folder that may know what a terminal is and how its cursor moves.
const screens = "cmd/screen/"

// Elsewhere a control code in a text would reach files and pipes: nobody asks there where the text goes. Parts of
// payment and orderhttp read such characters of others, and are looked at by their own tests.
func TestOnlyScreenMovesTheCursor(t *testing.T) {
	looked := 0
	eachFile(t, func(path string, files *token.FileSet, f *ast.File) {
		if !strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, screens) {
			return
		}
		looked++
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && movesCursor(text) {
					t.Errorf("%s: %s: use screen.Progress", files.Position(n.Pos()), n.Value)
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "ModeCharDevice" {
					t.Errorf("%s: /dev/null is one too: use screen.IsTerminal", files.Position(n.Pos()))
				}
			}
			return true
		})
	})
	if looked < 50 {
		t.Errorf("only %d files were looked at", looked)
	}
}

// movesCursor reports that a text has a control character that is not the end of a line or a tab.
func movesCursor(text string) bool {
	return strings.ContainsFunc(strings.ReplaceAll(text, "\r\n", "\n"), func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t'
	})
}

// What is said goes into logs of builds and into files that people keep; no question is asked of /dev/null.
func TestNoControlCodeReachesAFileOrAPipe(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	skus := filepath.Join(dir, "skus.csv")
	if err := os.WriteFile(skus, []byte("sku_id,title,price_fen,quantity\ntee,Tee,100,5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, errs, null := open(filepath.Join(dir, "out")), open(filepath.Join(dir, "errs")), open(os.DevNull)
	file, pipe := newTerminal(null, out, errs), newTerminal(null, out, w)
	for _, x := range []*terminal{file, pipe, newTerminal(null, null, null)} {
		if x.TTY || x.Color || x.Ask {
			t.Errorf("a file, a pipe or /dev/null counts as a terminal: %+v", x)
		}
	}
	for _, args := range []string{"migrate up", "stock import --yes " + skus, "verify"} {
		for _, x := range []*terminal{file, pipe} {
			if code := run(t.Context(), append(strings.Fields(args), "--data-dir", dir), x); code != exitOK {
				t.Errorf("%s: exit %d", args, code)
			}
		}
	}
	_ = w.Close()
	for _, f := range []string{out.Name(), errs.Name()} {
		b, err := os.ReadFile(f)
		if err != nil || len(b) == 0 || movesCursor(string(b)) {
			t.Errorf("%s: %q, %v", f, b, err)
		}
	}
	b := make([]byte, 1<<16)
	n, err := r.Read(b)
	if err != nil || movesCursor(string(b[:n])) {
		t.Errorf("the pipe got %q, %v", b[:n], err)
	}
}
