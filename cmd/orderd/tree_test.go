package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// eachFile parses every production file of the tree. The example back ends are other
// programs, of another module.
func eachFile(t *testing.T, do func(path string, files *token.FileSet, f *ast.File)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.ToSlash(path) == "../../docs/examples" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		seen++
		do(strings.TrimPrefix(filepath.ToSlash(path), "../../"), files, f)
		return nil
	})
	if err != nil || seen < 100 {
		t.Fatal(seen, " files looked at: ", err)
	}
}

// The owner has said what the tree begins with: whoever looks for something has six folders to choose from, and a
// seventh would be one that nobody was told of.
func TestTopLevelIsAsItWasSaid(t *testing.T) {
	want := []string{"README.md", "cmd", "docs", "go.mod", "go.sum", "migrations", "order", "payment", "scheduler",
		"stock"}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the top level has %v, want %v", got, want)
	}
}

// floats are the files that may count in fractions, and what of. Money is in none of them but the cells of a
// spreadsheet, which has no other numbers.
var floats = map[string]string{
	"cmd/orderd/config.go":                  "a rate of calls a second",
	"cmd/orderd/app.go":                     "the speed of the simulator",
	"cmd/orderd/embedded.go":                "the speed of the simulator",
	"cmd/orderd/sim.go":                     "the speed of the simulator",
	"cmd/orderd/doctor.go":                  "seconds between two clocks",
	"cmd/wechatsim/main.go":                 "the speed of the simulator",
	"payment/sheet/sheet.go":                "cells and widths of a spreadsheet",
	"scheduler/worker.go":                   "a rate of calls a second",
	"scheduler/bucket.go":                   "a rate of calls a second",
	"scheduler/closer.go":                   "a rate of calls a second",
	"cmd/orderd/console/console.go":         "a rate of calls a second",
	"cmd/orderd/console/gauges.go":          "Prometheus knows no other number",
	"cmd/orderd/console/metrics.go":         "Prometheus knows no other number",
	"cmd/orderd/console/series.go":          "Prometheus knows no other number",
	"cmd/orderd/console/chart.go":           "places in a drawing",
	"cmd/orderd/console/lanes.go":           "places in a drawing",
	"cmd/orderd/console/latency.go":         "milliseconds",
	"cmd/orderd/console/pages_callbacks.go": "callbacks, drawn",
	"cmd/orderd/console/pages_overview.go":  "orders, drawn",
	"cmd/orderd/console/pages_stock.go":     "units, drawn",
	"cmd/orderd/console/pages_timeouts.go":  "orders, drawn",
	"order/orderhttp/language.go":           "the q of Accept-Language",
}

// A sum of money in a float is right until it is wrong by a fen.
func TestNoFloatTouchesMoney(t *testing.T) {
	eachFile(t, func(path string, files *token.FileSet, f *ast.File) {
		if floats[path] != "" || strings.HasPrefix(path, "payment/wechatsim/") ||
			strings.HasPrefix(path, "cmd/orderload/") {
			return // shares of random misbehaviour; measurements
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.Ident:
				if x.Name == "float64" || x.Name == "float32" || x.Name == "ParseFloat" {
					t.Errorf("%s: %s", files.Position(x.Pos()), x.Name)
				}
			case *ast.BasicLit:
				if x.Kind == token.FLOAT {
					t.Errorf("%s: %s", files.Position(x.Pos()), x.Value)
				}
			}
			return true
		})
	})
}

// A client that checks no certificate sends the merchant's signature to whoever is in between; one without a time-out
// waits for ever for whoever does not answer.
func TestClientsVerifyAndEnd(t *testing.T) {
	denied := map[string]string{"InsecureSkipVerify": "TLS is verified", "DefaultClient": "a client needs a time-out",
		"DefaultTransport": "a client needs a time-out"}
	eachFile(t, func(path string, files *token.FileSet, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.Ident:
				if why := denied[x.Name]; why != "" {
					t.Errorf("%s: %s: %s", files.Position(x.Pos()), x.Name, why)
				}
			case *ast.SelectorExpr:
				if p, ok := x.X.(*ast.Ident); ok && p.Name == "http" &&
					slices.Contains([]string{"Get", "Post", "PostForm", "Head"}, x.Sel.Name) {
					t.Errorf("%s: http.%s has no time-out", files.Position(x.Pos()), x.Sel.Name)
				}
			}
			return true
		})
	})
}

// net/http/pprof registers its handlers on http.DefaultServeMux when it is imported: a server without a handler of its
// own would show everybody the memory of the service.
func TestDefaultServeMuxIsServedNowhere(t *testing.T) {
	denied := []string{"DefaultServeMux", "Handle", "HandleFunc", "ListenAndServe", "ListenAndServeTLS", "Serve",
		"ServeTLS"}
	var profiled []string
	eachFile(t, func(path string, files *token.FileSet, f *ast.File) {
		for _, spec := range f.Imports {
			if spec.Path.Value == `"net/http/pprof"` {
				profiled = append(profiled, path)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.SelectorExpr:
				if p, ok := x.X.(*ast.Ident); ok && p.Name == "http" && slices.Contains(denied, x.Sel.Name) {
					t.Errorf("%s: http.%s", files.Position(x.Pos()), x.Sel.Name)
				}
			case *ast.CompositeLit:
				if named(x.Type) == "http.Server" && !hasField(x, "Handler") {
					t.Errorf("%s: http.Server without a Handler serves http.DefaultServeMux", files.Position(x.Pos()))
				}
			}
			return true
		})
	})
	if !slices.Equal(profiled, []string{"cmd/orderd/console/pprof.go"}) {
		t.Errorf("net/http/pprof is imported by %v", profiled)
	}
}

// named gives a type of another package as it is written, "http.Server".
func named(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if p, ok := s.X.(*ast.Ident); ok {
			return p.Name + "." + s.Sel.Name
		}
	}
	return ""
}

func hasField(lit *ast.CompositeLit, name string) bool {
	return slices.ContainsFunc(lit.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := kv.Key.(*ast.Ident)
		return ok && key.Name == name
	})
}

// module is what go list says of one.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

// linked gives the modules that are in the binary.
func linked(t *testing.T) []module {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-json=Module", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var all []module
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct{ Module *module }
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if m := p.Module; m != nil && !m.Main && !seen[m.Path] {
			seen[m.Path] = true
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// licences are the ones that may be linked into a service that is sold, by a sentence of theirs.
var licences = []struct{ name, sentence string }{
	{"Apache-2.0", "Apache License"}, {"MPL-2.0", "Mozilla Public License"}, {"BSD-3-Clause", "Neither the name"},
	{"BSD-2-Clause", "Redistributions of source code must retain"},
	{"MIT", "Permission is hereby granted, free of charge"}, {"ISC", "Permission to use, copy, modify, and"},
}

func licenceOf(dir string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*"))
	copying, _ := filepath.Glob(filepath.Join(dir, "COPYING*"))
	for _, file := range append(files, copying...) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		flat := strings.Join(strings.Fields(string(text)), " ")
		for _, l := range licences {
			if strings.Contains(flat, l.sentence) {
				return l.name
			}
		}
	}
	return ""
}

// A module that is not pinned can be another one tomorrow; one without a known licence may not be sold.
func TestModulesArePinnedAndLicensed(t *testing.T) {
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("# Modules in the binary\n\nGenerated by `go test ./cmd/orderd -run Licensed -update`; a test " +
		"compares them. Each is pinned by its hash in go.sum.\n\n| module | version | licence |\n|---|---|---|\n")
	modules := linked(t)
	for _, m := range modules {
		if m.Replace != nil {
			m = *m.Replace
		}
		if !regexp.MustCompile(`^v\d+\.\d+\.\d+`).MatchString(m.Version) {
			t.Errorf("%s is at %q", m.Path, m.Version)
		}
		if !strings.Contains(string(sums), m.Path+" "+m.Version+" h1:") {
			t.Errorf("%s %s has no hash in go.sum", m.Path, m.Version)
		}
		licence := licenceOf(m.Dir)
		if licence == "" {
			t.Errorf("%s has no licence that is known here", m.Path)
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", m.Path, m.Version, licence)
	}
	if len(modules) < 10 {
		t.Errorf("only %d modules", len(modules))
	}
	const doc = "../../docs/modules.md"
	if *update {
		if err := os.WriteFile(doc, []byte(table.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(doc); err != nil || string(text) != table.String() {
		t.Errorf("docs/modules.md is not what is linked: go test ./cmd/orderd -run Licensed -update (%v)", err)
	}
}
