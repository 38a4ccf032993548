package failpoint

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A step that is not in Points would never be killed at; one that is only there
// would be waited for in vain, or be a claim that nothing backs.
func TestPointsAreTheSource(t *testing.T) {
	listed, numbers := map[string]int{}, map[string]bool{}
	for _, p := range Points {
		if numbers[p.No] || p.No == "" || p.Flow == "" || p.After == "" || p.Then == "" || p.Name+p.Note == "" {
			t.Errorf("point %q is twice, not whole, or has neither name nor note", p.No)
		}
		numbers[p.No] = true
		if p.Name != "" {
			listed[p.Name]++
		}
	}
	found := map[string]int{}
	root := filepath.Join("..", "..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := fun.X.(*ast.Ident); !ok || pkg.Name != "failpoint" || fun.Sel.Name != "Hit" {
				return true
			}
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the name of a step is a literal, so that it can be found and vanishes from a release",
					path)
				return true
			}
			name, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Error(err)
			}
			found[name]++
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range found {
		if listed[name] != 1 || n != 1 {
			t.Errorf("%s is in the source %d times and in Points %d times", name, n, listed[name])
		}
	}
	for name := range listed {
		if found[name] == 0 {
			t.Errorf("%s is in Points and not in the source", name)
		}
	}
	if len(found) < 25 {
		t.Fatalf("only %d steps found: the walk looks in the wrong place", len(found))
	}
}

// The half behind the build tag is compiled by nobody else here.
func TestTagged(t *testing.T) {
	out, err := exec.Command("go", "test", "-tags", "failpoints", "-run", "TestArmed", "-v", ".").CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS: TestArmed") < 4 {
		t.Fatalf("%v\n%s", err, out)
	}
}

var update = flag.Bool("update", false, "rewrite the section of docs/faults.md")

// The section stands between these lines of the document.
const begins, ends = "<!-- kills: printed from the list of steps -->\n", "<!-- /kills -->\n"

// The document says at which steps a kill was survived; a step that it lacks, or that nobody kills at any more, is a
// false promise.
func TestKillsDocumented(t *testing.T) {
	const file = "../../../docs/faults.md"
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(have), begins)
	section, after, ok2 := strings.Cut(rest, ends)
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost its section of kills", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begins+document()+ends+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if section != document() {
		t.Fatalf("%s does not show the steps: run go test ./migrations/sqldb/failpoint -run Documented -update", file)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString("\n| | step | killed when | what must hold after the restart |\n|---|---|---|---|\n")
	var notes []string
	for _, p := range Points {
		name := "—"
		if p.Name != "" {
			name = "`" + p.Name + "`"
		}
		mark := ""
		if p.Note != "" {
			notes = append(notes, p.No+": "+p.Note)
			mark = " (note)"
		}
		fmt.Fprintf(&b, "| %s | %s: %s | %s%s | %s |\n", p.No, p.Flow, name, p.After, mark, p.Then)
	}
	b.WriteString("\nNotes, by number:\n\n")
	for _, n := range notes {
		b.WriteString("- " + n + "\n")
	}
	return b.String() + "\n"
}
