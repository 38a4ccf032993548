package docs

import (
	"go/ast"
	"go/constant"
	"go/types"
	"regexp"
	"slices"
	"strings"
	"testing"

	"orderd/order"
)

// What a new state or event has to reach, and what neither the compiler nor the linter asks for: each of these was
// missed by somebody who added one by the book (docs/contributing.md).

// A constant that its list lacks is skipped by every test that walks the list, and by the table in docs/states.md.
func TestListsNameEveryConstant(t *testing.T) {
	s, err := newChecker().load("order")
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{"State": texts(order.States()), "Event": texts(order.Events()),
		"RefundState": texts(order.RefundStates()), "RefundEvent": texts(order.RefundEvents())}
	declared := map[string]int{}
	for _, name := range s.types.Scope().Names() {
		k, ok := s.types.Scope().Lookup(name).(*types.Const)
		if !ok {
			continue
		}
		named, ok := k.Type().(*types.Named)
		if !ok {
			continue
		}
		list, ok := lists[named.Obj().Name()]
		if !ok {
			continue
		}
		declared[named.Obj().Name()]++
		if !slices.Contains(list, constant.StringVal(k.Val())) {
			t.Errorf("order.%s is not in the list %ss()", name, named.Obj().Name())
		}
	}
	for name, list := range lists {
		if declared[name] != len(list) {
			t.Errorf("%ss() has %d values, %d are declared", name, len(list), declared[name])
		}
	}
}

// A move without a name stands in the timeline as an event that is called nothing.
func TestEveryMoveHasItsEventName(t *testing.T) {
	s, err := newChecker().load("order")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || v.Names[0].Name != "eventNames" || len(v.Values) != 1 {
				return true
			}
			for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
				if key := s.info.Types[e.(*ast.KeyValueExpr).Key].Value; key != nil {
					names[constant.StringVal(key)] = true
				}
			}
			return false
		})
	}
	for _, from := range order.States() {
		for _, e := range order.Events() {
			if c := order.Next(from, e); c.Verdict == order.VerdictMove && !names[string(c.To)] {
				t.Errorf("%s × %s moves to %s, which has no name in eventNames", from, e, c.To)
			}
		}
	}
}

// The checks of verify name the states that they are about: a state that none of them names is one in which nobody
// looks whether the money is right.
func TestChecksOfMoneyNameEveryState(t *testing.T) {
	checks := read(t, "order/audit/checks_money.go")
	for _, s := range order.States() {
		if !strings.Contains(checks, "'"+string(s)+"'") {
			t.Errorf("no check in order/audit/checks_money.go names the state %s", s)
		}
	}
}

// A client that was generated from the document fails at a state that it does not list.
func TestOpenAPIListsTheStates(t *testing.T) {
	want := "enum: [" + strings.Join(texts(order.States()), ", ") + "]"
	if !strings.Contains(read(t, "docs/openapi.yaml"), want) {
		t.Errorf("docs/openapi.yaml has no %s", want)
	}
	help := regexp.MustCompile(`State +order\.State +.help:"([^"]*)"`).FindStringSubmatch(
		read(t, "cmd/orderd/orders.go"))
	if help == nil {
		t.Fatal("the help of 'orderd order list --state' was not found")
	}
	for _, s := range order.States() {
		if !strings.Contains(help[1], string(s)) {
			t.Errorf("the help of 'orderd order list --state' lacks %s", s)
		}
	}
}

// texts gives the values of an enumeration as texts.
func texts[T ~string](values []T) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}
