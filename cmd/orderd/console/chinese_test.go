package console

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"orderd/order/orderhttp"
)

// literal is the text of an expression that is made of literals alone; false for another.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		a, is := literal(e.X)
		b, also := literal(e.Y)
		return a + b, is && also
	}
	return "", false
}

// Whoever reads Chinese is not told why in English: each sentence that an answer of this package has is known.
func TestEveryDetailIsSaidInChinese(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	said := func(node ast.Node) bool {
		call, is := node.(*ast.CallExpr)
		if !is {
			return true
		}
		if name, is := call.Fun.(*ast.Ident); !is || name.Name != "fail" && name.Name != "invalid" {
			return true
		}
		if text, is := literal(call.Args[len(call.Args)-1]); is {
			if n++; strings.HasPrefix(orderhttp.InChinese(text), "未能执行：") {
				t.Errorf("%q has no Chinese", text)
			}
		}
		return true
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, said)
	}
	if n < 30 {
		t.Errorf("%d sentences", n)
	}
}
