package order_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// The other half of writer_test.go: what the one writer writes. The fields State of Order and of Refund are what it
// puts into the rows, so nobody decides on a value of them but the two tables, machine.go and refund_machine.go.
//
// Answers that repeat a state (Settlement, RefundSettled, NotPayableError) and rows of other tables (Attempt) have a
// field State too and are not meant. Nor are tests: they spoil what a batch has decided, to see it refused.

// stateSource says where the values of one type's State may come from.
type stateSource struct {
	of      string // the type of the row
	cell    string // a decision of the table; its To is a state that may be written
	machine string // the file of the table, and of the functions that say where a row begins
	born    string // the constant that a new row may have, "" for none
	bornIn  string // the file that makes new rows
}

var stateSources = []stateSource{
	{of: "Order", cell: "Cell", machine: "machine.go", born: "StatePending", bornIn: "place.go"},
	{of: "Refund", cell: "RefundCell", machine: "refund_machine.go"},
}

// A literal past its table is a move that no test of the table has seen and that docs/states.md does not show.
func TestStatesComeFromTheMachines(t *testing.T) {
	s := newStateCheck(t, "")
	for _, p := range s.problems() {
		t.Error(p)
	}
	// It found what there is to judge.
	for _, of := range []string{"Order", "Refund"} {
		if s.judged[of] < 3 {
			t.Errorf("%d writes of %s.State are judged, want some", s.judged[of], of)
		}
	}
}

// A guard that finds nothing proves nothing: each of these decides on a state by itself.
func TestAStateFromElsewhereIsFound(t *testing.T) {
	for name, body := range map[string]string{
		"an assignment":     "func scratch(e *entry) { e.after.State = StateClosed }",
		"one of several":    "func scratch(e *entry) { e.tries, e.after.State = 1, StateClosed }",
		"as text":           `func scratch(e *entry) { e.after.State = "closed" }`,
		"by a conversion":   `func scratch(e *entry, s string) { e.after.State = State(s) }`,
		"by a variable":     "func scratch(e *entry) { to := StateClosed; e.after.State = to }",
		"through a pointer": "func scratch(e *entry) { o := &e.after; o.State = StateClosed }",
		"by an address":     "func scratch(e *entry) { p := &e.after.State; *p = StateClosed }",
		"without keys":      "func scratch() Cell { return Cell{VerdictMove, StateClosed, EffectNone, \"\"} }",
		"a new order":       "func scratch(e *entry) { e.after = Order{State: StateClosed} }",
		"of a list":         "func scratch() []Order { return []Order{{OrderNo: \"x\", State: StatePaid}} }",
		"in a closure":      "func scratch(e *entry) { defer func() { e.after.State = StatePaid }() }",
		"a function's answer": "func other() State { return StatePaid }\n" +
			"func scratch(e *entry) { e.after.State = other() }",
		"a parameter's": "func set(e *entry, to State) { e.after.State = to }\n" +
			"func scratch(e *entry) { set(e, StateLate) }",
		"a refund":             "func scratch(r *refundEntry) { r.after.State = RefundStateSucceeded }",
		"a refund by moving":   "func scratch(b *batch) { b.moveRefund(nil, nil, nil, RefundStateOwed, nil) }",
		"a new refund":         "func scratch() Refund { return Refund{State: RefundStateOwed} }",
		"a cell made here":     "func scratch(e *entry) { e.after.State = Cell{To: StateClosed}.To }",
		"a cell kept here":     "func scratch(e *entry) { c := Cell{To: StateClosed}; e.after.State = c.To }",
		"a cell changed here":  "func scratch(e *entry, c Cell) { c.To = StateClosed; e.after.State = c.To }",
		"a refund's cell here": "func scratch() RefundCell { return RefundCell{Verdict: VerdictMove} }",
		"a cell's makers":      "func scratch() Cell { return move(StateClosed) }",
	} {
		t.Run(name, func(t *testing.T) {
			if got := newStateCheck(t, "package order\n\n"+body+"\n").problems(); len(got) != 1 {
				t.Errorf("%d found, want one: %v", len(got), got)
			}
		})
	}
}

// stateCheck is package order with the types of its expressions.
type stateCheck struct {
	files  *token.FileSet
	parsed []*ast.File
	info   *types.Info
	found  []string
	judged map[string]int // writes that were judged, by the type of the row
	funcs  map[types.Object]*ast.FuncDecl
}

// newStateCheck reads the production files of package order, and one more.
func newStateCheck(t *testing.T, scratch string) *stateCheck {
	t.Helper()
	s := &stateCheck{files: token.NewFileSet(), judged: map[string]int{}, funcs: map[types.Object]*ast.FuncDecl{},
		info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{},
			Defs: map[*ast.Ident]types.Object{}}}
	tree := productionFiles(t)
	if scratch != "" {
		tree["order/scratch.go"] = scratch
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if path.Dir(name) != "order" {
			continue
		}
		f, err := parser.ParseFile(s.files, name, tree[name], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		s.parsed = append(s.parsed, f)
	}
	// Other packages stay empty, which takes milliseconds in place of seconds: what
	// comes from them has no type here and the errors of that are no news. The types
	// of this package are all there.
	check := types.Config{Importer: emptyPackages{}, Error: func(error) {}}
	_, _ = check.Check("orderd/order", s.files, s.parsed, s.info)
	for _, f := range s.parsed {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				s.funcs[s.info.Defs[fn.Name]] = fn
			}
		}
	}
	return s
}

type emptyPackages struct{}

func (emptyPackages) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// problems looks through all functions for values of the fields that come from elsewhere.
func (s *stateCheck) problems() []string {
	for _, f := range s.parsed {
		for _, decl := range f.Decls {
			fn, _ := decl.(*ast.FuncDecl)
			ast.Inspect(decl, func(n ast.Node) bool {
				s.look(fn, n)
				return true
			})
		}
	}
	slices.Sort(s.found)
	return slices.Compact(s.found)
}

func (s *stateCheck) look(fn *ast.FuncDecl, n ast.Node) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if src, ok := s.row(left); ok {
				s.judge(src, fn, n.Rhs[min(i, len(n.Rhs)-1)], len(n.Rhs) == len(n.Lhs))
			}
			if src, ok := s.cell(left); ok {
				s.refuse(src, left, "a cell is changed outside its table")
			}
		}
	case *ast.CompositeLit:
		s.lookAtLiteral(fn, n)
	case *ast.UnaryExpr:
		// Rows are scanned into the field: only the files of SQL do that.
		if src, ok := s.row(n.X); ok && n.Op == token.AND && !strings.HasPrefix(s.file(n), "store_") {
			s.refuse(src, n, "the address of a state is taken outside the files of SQL")
		}
	case *ast.CallExpr:
		// The makers of cells, move and its like, are the tables' own.
		if id, ok := n.Fun.(*ast.Ident); ok {
			if of, ok := s.info.Uses[id].(*types.Func); ok && of.Type() != nil {
				results := of.Type().(*types.Signature).Results()
				for _, src := range stateSources {
					maker := results.Len() == 1 && nameOfType(results.At(0).Type()) == src.cell &&
						!strings.HasPrefix(of.Name(), "Next")
					if to := s.takesState(of); maker && to && s.file(n) != src.machine {
						s.refuse(src, n, "a cell is made outside its table")
					}
				}
			}
		}
	}
}

// takesState reports that a function has a state for its only or first parameter.
func (s *stateCheck) takesState(of *types.Func) bool {
	params := of.Type().(*types.Signature).Params()
	return params.Len() > 0 && slices.Contains([]string{"State", "RefundState"}, nameOfType(params.At(0).Type()))
}

func (s *stateCheck) lookAtLiteral(fn *ast.FuncDecl, n *ast.CompositeLit) {
	of := nameOfType(s.info.Types[n].Type)
	for _, src := range stateSources {
		if of == src.cell && len(n.Elts) > 0 && s.file(n) != src.machine {
			s.refuse(src, n, "a cell is made outside its table")
		}
		if of != src.of {
			continue
		}
		for _, elt := range n.Elts {
			pair, ok := elt.(*ast.KeyValueExpr)
			if !ok {
				s.refuse(src, n, "a row without the names of its fields")
				return
			}
			if key, ok := pair.Key.(*ast.Ident); ok && key.Name == "State" {
				s.judge(src, fn, pair.Value, true)
			}
		}
	}
}

// row tells whether an expression is the field State of a row, cell whether it is the To of a decision.
func (s *stateCheck) row(e ast.Expr) (stateSource, bool) {
	return s.field(e, "State", func(src stateSource) string { return src.of })
}

func (s *stateCheck) cell(e ast.Expr) (stateSource, bool) {
	return s.field(e, "To", func(src stateSource) string { return src.cell })
}

func (s *stateCheck) field(e ast.Expr, name string, of func(stateSource) string) (stateSource, bool) {
	sel, ok := ast.Unparen(e).(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return stateSource{}, false
	}
	for _, src := range stateSources {
		if nameOfType(s.info.Types[sel.X].Type) == of(src) {
			return src, true
		}
	}
	return stateSource{}, false
}

func (s *stateCheck) judge(src stateSource, fn *ast.FuncDecl, value ast.Expr, alone bool) {
	s.judged[src.of]++
	if s.file(value) == src.machine || (alone && s.good(src, fn, value, 0)) {
		return
	}
	s.refuse(src, value, "a state that does not come from its table")
}

// good says whether a value comes from the table: the To of a decision, the answer of a function that stands beside the
// table, the state of another row, what the database said (Due), or a parameter that every caller gives such a value.
func (s *stateCheck) good(src stateSource, fn *ast.FuncDecl, value ast.Expr, depth int) bool {
	switch value := ast.Unparen(value).(type) {
	case *ast.SelectorExpr:
		if _, ok := s.cell(value); ok {
			return true
		}
		from := nameOfType(s.info.Types[value.X].Type)
		return value.Sel.Name == "State" && (from == src.of || from == "Due")
	case *ast.CallExpr:
		id, ok := value.Fun.(*ast.Ident)
		if !ok {
			return false
		}
		called := s.funcs[s.info.Uses[id]]
		return called != nil && s.file(called) == src.machine
	case *ast.Ident:
		if value.Name == src.born && src.born != "" && s.file(value) == src.bornIn {
			return true
		}
		return depth < 3 && s.givenByAll(src, fn, s.info.Uses[value], depth)
	}
	return false
}

// givenByAll says whether a parameter of fn is given good values by every caller, and there is one.
func (s *stateCheck) givenByAll(src stateSource, fn *ast.FuncDecl, param types.Object, depth int) bool {
	if fn == nil || param == nil {
		return false
	}
	at, n := -1, 0
	for _, field := range fn.Type.Params.List {
		for _, name := range field.Names {
			if s.info.Defs[name] == param {
				at = n
			}
			n++
		}
	}
	if at < 0 || s.assigned(fn, param) {
		return false
	}
	called := 0
	for _, f := range s.parsed {
		for _, decl := range f.Decls {
			caller, _ := decl.(*ast.FuncDecl)
			ast.Inspect(decl, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || s.info.Uses[calledName(call)] != s.info.Defs[fn.Name] || at >= len(call.Args) {
					return true
				}
				called++
				if !s.good(src, caller, call.Args[at], depth+1) {
					s.refuse(src, call.Args[at], "a state that does not come from its table")
				}
				return true
			})
		}
	}
	return called > 0
}

// assigned says whether fn gives a variable another value.
func (s *stateCheck) assigned(fn *ast.FuncDecl, v types.Object) bool {
	changed := false
	ast.Inspect(fn, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for _, left := range a.Lhs {
				if id, ok := left.(*ast.Ident); ok && s.info.Uses[id] == v {
					changed = true
				}
			}
		}
		return true
	})
	return changed
}

func calledName(call *ast.CallExpr) *ast.Ident {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f
	case *ast.SelectorExpr:
		return f.Sel
	}
	return nil
}

func (s *stateCheck) refuse(src stateSource, at ast.Node, what string) {
	s.found = append(s.found,
		fmt.Sprintf("%s: %s.State: %s (%s)", s.files.Position(at.Pos()), src.of, what, src.machine))
}

func (s *stateCheck) file(n ast.Node) string { return path.Base(s.files.Position(n.Pos()).Filename) }

// nameOfType is the name of a type of this package, or of what a pointer to it points to.
func nameOfType(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if named, ok := t.(*types.Named); ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "orderd/order" {
		return named.Obj().Name()
	}
	return ""
}
