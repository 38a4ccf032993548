package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// printers are the functions that print past bounds.Shown. Into a builder of its own text a function may print.
var printers = regexp.MustCompile(`^(fmt\.F?[Pp]rint.*|tabwriter\..*|json\.NewEncoder)$`)

// A word of somebody else forges rows by any printer but those of package screen.
func TestOnlyScreenPrints(t *testing.T) {
	looked := 0
	eachFile(t, func(path string, files *token.FileSet, f *ast.File) {
		if dir := filepath.Dir(path); dir != "cmd/orderd" && dir != "cmd/wechatsim" {
			return
		}
		looked++
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := types.ExprString(call.Fun)
			built := len(call.Args) > 0 && strings.HasPrefix(types.ExprString(call.Args[0]), "&")
			if printers.MatchString(name) && !built {
				t.Errorf("%s: %s: use package screen", files.Position(call.Pos()), name)
			}
			// The output is handed to what writes files for programs, and to nobody else.
			for _, arg := range call.Args {
				out := types.ExprString(arg)
				if (out == "t.Out" || out == "t.Err") && !strings.HasPrefix(name, "screen.") &&
					!slices.Contains(writers, name) {
					t.Errorf("%s: %s prints by itself", files.Position(call.Pos()), name)
				}
			}
			return true
		})
	})
	if looked < 20 {
		t.Errorf("only %d files were looked at", looked)
	}
}

// writers write files whose form is a contract, or text in which every word is shown.
var writers = []string{"reconcile.WriteText", "reconcile.WriteCSV", "reconcile.WriteXLSX",
	"reconcile.WriteMonthCSV", "reconcile.WriteMonthXLSX", "c.stock.Export"}

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

// The database has words of years, of bills and of customers: none of them makes a row of its own, and who did a thing
// stands there by name.
func TestForeignWordsForgeNothing(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	var placed struct {
		OrderNo string `json:"order_no"`
	}
	if code := buy(t, a, "/v1/orders", "k1", json.RawMessage(`{"items":[{"sku_id":"1001","quantity":1}]}`),
		&placed); code != http.StatusCreated {
		t.Fatal(code)
	}
	if code, out, errs := words(t, "order", "close", "--yes", "--reason", "sold elsewhere", "--data-dir", dir,
		placed.OrderNo); code != exitOK {
		t.Fatal(code, out, errs)
	}
	if _, out, _ := words(t, "order", "timeline", "--data-dir", dir, placed.OrderNo); !strings.Contains(out,
		"operator "+byWhom()) || !strings.Contains(out, "reason=sold elsewhere") {
		t.Errorf("who closed it, or why, is not shown:\n%s", out)
	}
	const evil = "x\n99  now  admin\x1b[2J\u202e\u200b"
	const tame = `x\n99  now  admin\x1b[2J\u202e\u200b`
	for _, q := range []string{
		"UPDATE order_events SET actor_id = ?, cause_id = ?", "UPDATE orders SET customer_id = ?, remark = ?",
		"UPDATE skus SET title = ?, updated_at = updated_at + length(?)",
	} {
		if _, err := a.db.Pool().ExecContext(t.Context(), q, evil, evil); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{"order timeline " + placed.OrderNo, "order get " + placed.OrderNo, "stock show",
		"verify"} {
		for _, form := range []string{"table", "json"} {
			_, out, errs := words(t, append(strings.Fields(args), "-o", form, "--data-dir", dir)...)
			want := tame
			if form == "json" {
				want = `\u202e\u200b`
			}
			if movesCursor(out+errs) || strings.ContainsAny(out+errs, "\u202e\u200b") ||
				!strings.Contains(out, want) && args != "verify" {
				t.Errorf("%s -o %s:\n%s\n%s", args, form, out, errs)
			}
		}
	}
	if code, _, errs := words(t, "order", "get", "--data-dir", dir, evil); code == exitOK ||
		strings.Contains(errs, "\n99") ||
		movesCursor(errs) {
		t.Errorf("an error says %q", errs)
	}
}

// slog's text is one line per record, whatever the words in it.
func TestLogIsOneLine(t *testing.T) {
	var b bytes.Buffer
	log := (&settings{LogLevel: "info"}).logger(&terminal{Err: &b})
	log.Info("x", "error", errors.New("a\nlevel=ERROR\x1b[2J\u202e\u200b\x9b"))
	if got := b.String(); strings.Count(got, "\n") != 1 || movesCursor(got) ||
		strings.ContainsAny(got, "\u202e\u200b") {
		t.Errorf("%q", got)
	}
}
