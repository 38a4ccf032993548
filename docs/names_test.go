package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the folder of the repository, seen from this package.
const root = ".."

// document is one Markdown file by its path from the root.
type document struct{ path, text string }

// documents gives README.md and everything below docs that people write. docs/runs is left out: these are reports of
// runs, which say what was true at their commit.
func documents(t *testing.T) []document {
	t.Helper()
	files := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range found {
			files = append(files, strings.TrimPrefix(filepath.ToSlash(f), root+"/"))
		}
	}
	all := make([]document, len(files))
	for i, f := range files {
		all[i] = document{f, read(t, f)}
	}
	return all
}

// read gives the text of a file by its path from the root.
func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	// packageTest is a test with its package: `order.TestX`, `cmd/orderd/console.TestY`.
	packageTest = regexp.MustCompile("`([a-z]+(?:/[a-z0-9]+)*)\\.((?:Test|Fuzz|Example)\\w*)`")
	// linkedTest is a test with the file that holds it: [TestX](order/service_test.go).
	linkedTest = regexp.MustCompile(`\[((?:Test|Fuzz|Example)\w+)\]\(([^)#]+)\)`)
	// link is any link of Markdown, also of a picture.
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// namedFile is a source file in backticks: `order/apply.go`, `machine.go`.
	namedFile = regexp.MustCompile("`((?:[a-z0-9_.]+/)*[a-z0-9_]+\\.(?:go|sql|yml|yaml))`")
	// namedFolder is a folder in backticks: `order/orderhttp/`.
	namedFolder = regexp.MustCompile("`((?:[a-z0-9_.]+/)+)`")
	// namedIdent is an exported name of a package in backticks: `order.Service`, `sqldb.DB.InTx`.
	namedIdent = regexp.MustCompile("`([a-z]+)\\.([A-Z]\\w*)(?:\\.(\\w+))?[^`]*`")
)

// A guarantee is worth its test: one that was renamed or moved is a promise that nobody keeps.
func TestNamedTestsExist(t *testing.T) {
	seen := 0
	for _, d := range documents(t) {
		for _, m := range packageTest.FindAllStringSubmatch(d.text, -1) {
			seen++
			if !declared(t, m[1], m[2]) {
				t.Errorf("%s: there is no %s in %s", d.path, m[2], m[1])
			}
		}
		for _, m := range linkedTest.FindAllStringSubmatch(d.text, -1) {
			seen++
			file := path.Join(path.Dir(d.path), m[2])
			text, err := os.ReadFile(filepath.Join(root, file))
			if err != nil || !strings.Contains(string(text), "\nfunc "+m[1]+"(") {
				t.Errorf("%s: there is no %s in %s (%v)", d.path, m[1], file, err)
			}
		}
	}
	if seen < 150 { // the documents name some 250: fewer means that the patterns above match no more
		t.Errorf("only %d tests are named", seen)
	}
}

// A document that sends its reader to a file, folder or name that is gone is out of date in what it says of it, too.
// Decisions and the track record keep what was true when they were written; their links must lead somewhere all the
// same.
func TestNamedFilesExist(t *testing.T) {
	files, idents := tree(t)
	for _, d := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(d.text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(d.path), target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", d.path, m[1])
			}
		}
		if strings.HasPrefix(d.path, "docs/decisions/") || d.path == "docs/track-record.md" {
			continue
		}
		for _, m := range namedFile.FindAllStringSubmatch(d.text, -1) {
			if !slices.ContainsFunc(files, func(f string) bool { return f == m[1] || strings.HasSuffix(f, "/"+m[1]) }) {
				t.Errorf("%s: there is no file %s", d.path, m[1])
			}
		}
		for _, m := range namedFolder.FindAllStringSubmatch(d.text, -1) {
			if !slices.ContainsFunc(files, func(f string) bool { return strings.Contains("/"+f, "/"+m[1]) }) {
				t.Errorf("%s: there is no folder %s", d.path, m[1])
			}
		}
		for _, m := range namedIdent.FindAllStringSubmatch(d.text, -1) {
			names := idents[m[1]]
			if names == nil || strings.HasPrefix(m[2], "Test") || strings.HasPrefix(m[2], "Fuzz") {
				continue // not a package of ours; a test
			}
			for _, name := range m[2:] {
				if name != "" && !names[name] {
					t.Errorf("%s: package %s has no %s", d.path, m[1], name)
				}
			}
		}
	}
}

// tree gives every file of the repository, and by the name of a package what its production files declare: also
// methods, and the fields and methods of types.
func tree(t *testing.T) (files []string, idents map[string]map[string]bool) {
	t.Helper()
	idents = map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if err == nil && e.Name() == ".git" {
				return filepath.SkipDir
			}
			return err
		}
		files = append(files, strings.TrimPrefix(filepath.ToSlash(p), root+"/"))
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name := filepath.Base(filepath.Dir(p)) // not that of the package clause: programs are all called main
		if idents[name] == nil {
			idents[name] = map[string]bool{}
		}
		declares(f, idents[name])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, idents
}

// declares adds what a file declares.
func declares(f *ast.File, names map[string]bool) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = true
		case *ast.GenDecl:
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.TypeSpec:
					names[n.Name.Name] = true
				case *ast.ValueSpec:
					for _, id := range n.Names {
						names[id.Name] = true
					}
				case *ast.Field:
					for _, id := range n.Names {
						names[id.Name] = true
					}
				}
				return true
			})
		}
	}
}

// rows gives the rows of the tables of a text, without their heads.
func rows(text string) []string {
	var all []string
	head := true
	for line := range strings.Lines(text) {
		switch {
		case !strings.HasPrefix(line, "|"):
			head = true
		case strings.HasPrefix(line, "|---"):
			head = false
		case !head:
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// A guarantee without a test is an intention.
func TestEveryGuaranteeHasItsTest(t *testing.T) {
	readme := section(t, "README.md", "## What it guarantees")
	if n := len(rows(readme)); n != 8 {
		t.Errorf("README has %d guarantees: it has the eight that matter most, the others are in docs/guarantees.md", n)
	}
	text, runs, _ := strings.Cut(read(t, "docs/guarantees.md"), "## What was done to break it")
	if len(rows(runs)) == 0 {
		t.Error("no run is listed")
	}
	all := rows(text)
	if len(all) < 30 {
		t.Errorf("only %d guarantees", len(all))
	}
	for _, row := range append(rows(readme), all...) {
		if !linkedTest.MatchString(row) && !strings.Contains(row, "`orderload ") {
			t.Errorf("no test: %s", row)
		}
	}
}

// section gives a chapter of a document, from its headline to the next of the same or a higher level.
func section(t *testing.T, file, headline string) string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, file), "\n"+headline)
	if !ok {
		t.Fatalf("%s has no %q", file, headline)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// Whoever tries the service for the first time has two commands to type, and both are run by the gate.
func TestReadmeSetsUpWithTwoCommands(t *testing.T) {
	text := section(t, "README.md", "## Two commands")
	var got []string
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		got = append(got, strings.Fields(strings.ReplaceAll(m[1], " ", "_"))...)
	}
	if want := []string{"go_run_./cmd/orderd_demo", "go_test_./..."}; !slices.Equal(got, want) {
		t.Errorf("set-up commands are %v, want %v", got, want)
	}
	gate := read(t, ".ci/run")
	for _, command := range []string{`/orderd" demo`, `(?m)^race=\(-race `,
		`(?m)^(?:GOGC=\d+ )?go test "\$\{race\[@\]\}" .*\./\.\.\.$`} {
		if !regexp.MustCompile(command).MatchString(gate) {
			t.Errorf(".ci/run does not run %s", command)
		}
	}
}

// An alarm that watches a series which nobody writes stays silent.
func TestMetricsOfDocumentsExist(t *testing.T) {
	source := read(t, "cmd/orderd/console/metrics.go") + read(t, "cmd/orderd/console/gauges.go") +
		"\"orderd_verify_violations\" \"orderd_verify_timestamp_seconds\"" // cmd/orderd.TestVerifyTellsPrometheus
	all := documents(t)
	for _, f := range []string{"alerts/orderd-alerts.yml", "alerts/orderd-alerts.test.yml",
		"alerts/orderd-alerts-days.test.yml", "grafana/orderd.json"} {
		f = "cmd/orderd/deploy/" + f
		all = append(all, document{f, read(t, f)})
	}
	part := regexp.MustCompile(`_(bucket|sum|count)$`) // the series of a histogram
	seen := 0
	for _, doc := range all {
		for _, name := range regexp.MustCompile(`\borderd_[a-z_]+\b`).FindAllString(doc.text, -1) {
			if name == "orderd_test" || name == "orderd_migration_begun" { // a database, a table
				continue
			}
			seen++
			if !strings.Contains(source, `"`+name+`"`) &&
				!strings.Contains(source, `"`+part.ReplaceAllString(name, "")+`"`) {
				t.Errorf("%s names the series %s, which nothing exports", doc.path, name)
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d series are named", seen)
	}
}
