package console

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
)

// textOf gives the text of an expression, with 1 for what only the running program knows, and a time where it is one:
// that has a space.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return textOf(e.X) + textOf(e.Y)
	case *ast.CallExpr:
		if name, is := e.Fun.(*ast.Ident); is && name.Name == "stamp" {
			return "2026-12-01 06:23:39.364Z"
		}
		if f, is := e.Fun.(*ast.SelectorExpr); is && f.Sel.Name == "Sprintf" {
			of := 0
			return regexp.MustCompile(`%[a-z]`).ReplaceAllStringFunc(textOf(e.Args[0]), func(string) string {
				of++
				return textOf(e.Args[of])
			})
		}
	}
	return "1"
}

// findingTexts are the texts of the findings that functions of a file make.
func findingTexts(t *testing.T, path string, of func(name string) bool) (texts []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	parts := []string{"Found", "Why", "Fix"}
	visit := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if name, is := n.Key.(*ast.Ident); is && slices.Contains(parts, name.Name) {
				texts = append(texts, textOf(n.Value))
			}
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				if s, is := to.(*ast.SelectorExpr); is && slices.Contains(parts, s.Sel.Name) &&
					len(n.Rhs) == len(n.Lhs) {
					texts = append(texts, textOf(n.Rhs[i]))
				}
			}
		case *ast.CallExpr:
			if name, is := n.Fun.(*ast.Ident); is && name.Name == "finding" { // id, bad, level, found, why, fix
				texts = append(texts, textOf(n.Args[4]), textOf(n.Args[5]))
			}
		case *ast.ReturnStmt: // what readiness says, and an error
			if len(n.Results) == 2 && filepath.Base(path) == "ops.go" {
				texts = append(texts, textOf(n.Results[0]))
			}
		case *ast.CompositeLit: // prefix, fix
			if len(n.Elts) == 2 && n.Type == nil {
				texts = append(texts, textOf(n.Elts[1]))
			}
		}
		return true
	}
	for _, d := range file.Decls {
		if f, is := d.(*ast.FuncDecl); !is || of(f.Name.Name) {
			ast.Inspect(d, visit)
		}
	}
	return texts
}

// Whoever is called at night reads what is wrong and what mends it in his language: no sentence of a finding that the
// page of health shows is left in English.
func TestEveryFindingIsSaidInChinese(t *testing.T) {
	all := func(string) bool { return true }
	shown := []string{"keyFinding", "checkClock", "schemaFinding", "checkVariables", "waitingFindings", "gateFinding"}
	asked := []string{"checks", "schemaKnown", "keysLast", "trusted"}
	texts := slices.Concat(findingTexts(t, "../health.go", all), findingTexts(t, "../../../scheduler/redis.go", all),
		findingTexts(t, "../../../migrations/sqldb/safety.go", all),
		findingTexts(t, "../ops.go", func(name string) bool { return slices.Contains(asked, name) }),
		findingTexts(t, "../../../migrations/sqldb/tidb.go", all), []string{sqldb.AdviseChecks},
		findingTexts(t, "../doctor.go", func(name string) bool { return slices.Contains(shown, name) }))
	command := regexp.MustCompile(`^(SET GLOBAL|orderd|redis-cli) `)
	sentences := 0
	for _, text := range texts {
		if !regexp.MustCompile(`[a-z]{2,}[,;]? (\d\S* )?[a-z]{2,}`).MatchString(text) || command.MatchString(text) &&
			!strings.Contains(text, ", and ") {
			continue
		}
		sentences++
		if zh, known := findingInChinese(text); !known {
			t.Errorf("%q is not said in Chinese", text)
		} else if m := english.FindString(strings.ReplaceAll(zh, "orderd config print", "")); m != "" {
			t.Errorf("%q is half in English: %s", text, zh)
		}
	}
	if sentences < 50 {
		t.Errorf("%d sentences were found", sentences)
	}
}
