package order

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// said is a default as a comment of Config says it: a number, a duration, or the steps of a ladder.
var said = regexp.MustCompile(`Default ((?:\d+(?: [sm])?(?:, )?)+)`)

// A comment that names a default is read as a promise; the constant may have changed since.
func TestCommentsOfConfigNameItsDefaults(t *testing.T) {
	c := Config{Pace: 1}
	c.setWaits()
	c.PayWithin, c.Grace, c.Lanes = defaultPayWithin, defaultGrace, defaultLanes
	f, err := parser.ParseFile(token.NewFileSet(), "service.go", nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			comment := strings.Join(strings.Fields(field.Doc.Text()), " ")
			match := said.FindStringSubmatch(comment)
			if match == nil {
				continue
			}
			told++
			name, want := field.Names[0].Name, strings.TrimRight(match[1], ", ")
			if got := words(reflect.ValueOf(c).FieldByName(name).Interface()); got != want {
				t.Errorf("Config.%s is said to be %s by default, and is %s", name, want, got)
			}
		}
		return false
	})
	if told < 9 {
		t.Errorf("only %d fields name their default", told)
	}
}

// words writes a default as comments do.
func words(v any) string {
	switch v := v.(type) {
	case []time.Duration:
		steps := make([]string, len(v))
		for i, d := range v {
			steps[i] = words(d)
		}
		return strings.Join(steps, ", ")
	case time.Duration:
		if v%time.Minute == 0 {
			return fmt.Sprintf("%d m", v/time.Minute)
		}
		return fmt.Sprintf("%d s", v/time.Second)
	}
	return fmt.Sprint(v)
}
