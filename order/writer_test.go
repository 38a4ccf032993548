package order_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests keep the state machines the only ones who say what becomes of an order or of a refund. The rows: one
// statement sets orders.state and one sets refunds.state, wherever in the tree somebody would add another. The values
// that they write are the matter of writer_states_test.go.
//
// What is looked at: every .go file of the tree and every .sql file of the migrations. Not looked at:
//   - _test.go files and folders of test support: they break rows by hand, so that the guards and the auditor have
//     something to find;
//   - the functions in stateWriteExempt.
//
// order/audit, cmd/orderd and everything else is held to it: the auditor reads, and repairs go through the writer.

// stateWrite is a statement that sets the column state of the table orders or refunds.
type stateWrite struct {
	verb, table string
	file        string // from the root of the module
	function    string // with its receiver's type: Service.Place; "" outside a function
}

func (w stateWrite) String() string {
	return w.verb + " " + w.table + " in " + w.file + ":" + w.function
}

// stateWriters are the statements that may. An INSERT INTO orders names no state: a placed order has the default of the
// column, pending. A refund has its first state from refund_machine.go.
var stateWriters = []stateWrite{
	{"UPDATE", "orders", "order/store_orders.go", "updateOrders"},
	{"INSERT", "refunds", "order/store_refunds.go", "insertRefunds"},
	{"UPDATE", "refunds", "order/store_refunds.go", "batch.updateRefund"},
}

// stateWriteExempt are places that may write rows of their own, by FILE:FUNCTION. Each must still be in use.
var stateWriteExempt = []struct {
	place *regexp.Regexp
	why   string
}{
	{regexp.MustCompile(`^cmd/orderload/.*:[Nn]aive`),
		"the naive peer of the benchmarks: what a shop without a state machine does in its place"},
	{regexp.MustCompile(`^cmd/orderload/verify_(seeds|violations)\.go:`),
		"breaks rows by hand, to measure that verify finds each kind"},
	{regexp.MustCompile(`^cmd/orderload/(expire_|storm/)seed\.go:`),
		"fills a database with a million orders before a measurement, beside any service"},
	{regexp.MustCompile(`^cmd/orderload/lists_world\.go:listed\.fillPiece$`),
		"fills a database with half a million orders, to measure what lists read of them"},
	{regexp.MustCompile(`^cmd/orderload/reconcile(_day)?\.go:billDay(Of)?\.fill$`),
		"fills a database with a day's payments and refunds, to measure the reconciliation of its bill"},
}

// A second statement that sets a state is a second opinion on what may happen to an order: it asks no table, asserts no
// invariant and writes no event.
func TestOneStatementSetsAState(t *testing.T) {
	tree := productionFiles(t)
	used := make([]bool, len(stateWriteExempt))
	var found []stateWrite
	for _, w := range stateWritesOf(t, tree) {
		exempt := false
		for i, e := range stateWriteExempt {
			if e.place.MatchString(w.file + ":" + w.function) {
				exempt, used[i] = true, true
			}
		}
		if !exempt {
			found = append(found, w)
		}
	}
	for i, w := range found {
		if !slices.Contains(stateWriters, w) || slices.Contains(found[:i], w) {
			t.Errorf("%s: the state is set by batch.writeOrders and batch.writeRefunds alone; make a command", w)
		}
	}
	for _, w := range stateWriters {
		if !slices.Contains(found, w) {
			t.Errorf("%s is not there any more", w)
		}
	}
	for i, e := range stateWriteExempt {
		if !used[i] {
			t.Errorf("%s is exempt, and nothing there writes a state", e.place)
		}
	}
}

// One statement that two functions call is two writers all the same.
func TestTheWriterIsCalledFromOnePlace(t *testing.T) {
	for name, want := range map[string]string{
		"updateOrders":  "order/apply.go",
		"updateRefund":  "order/store_refunds.go",
		"insertRefunds": "order/store_refunds.go",
	} {
		var callers []string
		for file, src := range productionFiles(t) {
			if !strings.HasSuffix(file, ".go") {
				continue
			}
			var declared *ast.Ident
			ast.Inspect(parseGo(t, file, src), func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Name.Name == name {
						declared = n.Name
					}
				case *ast.Ident:
					if n.Name == name && n != declared {
						callers = append(callers, file)
					}
				}
				return true
			})
		}
		if !slices.Equal(callers, []string{want}) {
			t.Errorf("%s is named in %v, want once in %s", name, callers, want)
		}
	}
}

// A guard that finds nothing proves nothing: each of these is a second writer.
func TestASecondWriterIsFound(t *testing.T) {
	const begin = "package x\n\nfunc f(tx *Tx) { tx.Update(ctx, "
	for name, src := range map[string]string{
		"one line":             begin + `"UPDATE orders SET state = 'closed' WHERE order_no = ?")}`,
		"lower case":           begin + `"update orders set state = 'closed' where order_no = ?")}`,
		"several lines":        begin + "`UPDATE orders\n\tSET version = version + 1,\n\t\tstate = ?\n\tWHERE x`)}",
		"in pieces":            begin + `"UPDATE " + "orders\nSET st" + "ate = ?")}`,
		"with a table's alias": begin + `"UPDATE orders AS o SET o.state = ? WHERE o.order_no = ?")}`,
		"with quotes":          begin + "\"UPDATE `orders` SET `state` = ?\")}",
		"with a schema":        begin + `"UPDATE main.orders SET state = ?")}`,
		"with a comment":       begin + `"UPDATE /* at last */ orders -- now\n SET state = ?")}`,
		"or ignore":            begin + `"UPDATE OR IGNORE orders SET state = ?")}`,
		"of two tables":        begin + `"UPDATE payments p JOIN orders o ON o.x = p.x SET o.state = ?")}`,
		"a list of columns":    begin + `"UPDATE orders SET (version, state) = (?, ?)")}`,
		"after another one":    begin + `"UPDATE skus SET x = 1; UPDATE orders SET state = ?")}`,
		"a subquery before it": begin + `"UPDATE orders SET total_fen = (SELECT 1 WHERE 1), state = ?")}`,
		"an unnamed column":    begin + `"UPDATE orders SET " + column + " = ? WHERE order_no = ?")}`,
		"an unnamed table":     begin + `"UPDATE " + table + " SET state = ?")}`,
		"by a format":          begin + `fmt.Sprintf("UPDATE %s SET state = ?", table))}`,
		"a column by a format": begin + `fmt.Sprintf("UPDATE orders SET %s = ?", column))}`,
		"an upsert of MySQL":   begin + `"INSERT INTO orders (x) VALUES (?) ON DUPLICATE KEY UPDATE state = ?")}`,
		"an upsert of SQLite":  begin + `"INSERT INTO orders (x) VALUES (?) ON CONFLICT DO UPDATE SET state = ?")}`,
		"born closed":          begin + `"INSERT INTO orders (order_no, state) VALUES (?, 'closed')")}`,
		"born from a row":      begin + `"INSERT INTO orders SELECT * FROM old_orders")}`,
		"replaced":             begin + `"REPLACE INTO orders (order_no, state) VALUES (?, 'closed')")}`,
		"a refund":             begin + `"UPDATE refunds SET state = 'succeeded'")}`,
		"a package's constant": "package x\n\nconst closeIt = \"UPDATE orders SET state = ?\"\n",
		"constants in pieces": "package x\n\nconst set = \" SET state = ?\"\n\n" +
			"func f(tx *Tx) { tx.Update(ctx, \"UPDATE orders\"+set) }\n",
		"a set that is elsewhere": begin + `"UPDATE orders " + set)}`,
		"built step by step": "package x\n\nfunc f(tx *Tx) {\n\tq := \"UPDATE orders SET version = ?\"\n" +
			"\tq += \", state = ?\"\n\tq += \" WHERE order_no = ?\"\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range []string{"scheduler/scratch.go", "order/repair.go", "order/audit/repair.go"} {
				if got := stateWritesOf(t, map[string]string{file: src}); len(got) != 1 {
					t.Errorf("%s: found %v, want one", file, got)
				}
			}
		})
	}
	for name, src := range map[string]string{
		"a read":           begin + `"SELECT state FROM orders WHERE state = ? FOR UPDATE")}`,
		"another column":   begin + `"UPDATE orders SET updated_at = ? WHERE state = 'pending'")}`,
		"another table":    begin + `"UPDATE payment_attempts SET state = ?")}`,
		"a placement":      begin + `"INSERT INTO orders (order_no, total_fen) VALUES (?, ?)")}`,
		"a read after one": begin + `"UPDATE orders SET remark = ? WHERE x; SELECT state FROM orders")}`,
		"a sentence":       begin + `"cannot update the state of orders")}`,
	} {
		if got := stateWritesOf(t, map[string]string{"order/repair.go": src}); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// productionFiles gives the text of every file that is looked at, by its path from the root of the module.
func productionFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			support := slices.Contains([]string{"testdata", "sqldbtest", "ordertest", "reconciletest"}, d.Name())
			if support || (name != "." && strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		}
		source := strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".sql")
		if !source || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		files[name] = string(text)
		return err
	})
	if err != nil || len(files) < 100 || files["order/apply.go"] == "" || files["scheduler/worker.go"] == "" {
		t.Fatal(len(files), " files looked at: ", err)
	}
	return files
}

func parseGo(t *testing.T, file, src string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// stateWritesOf finds the statements in files. The strings of a function are read in the order of the source as one
// text, so that a statement is seen that is put together from several.
func stateWritesOf(t *testing.T, files map[string]string) []stateWrite {
	t.Helper()
	var found []stateWrite
	add := func(file, function, text string) {
		for _, w := range statesSetIn(text) {
			w.file, w.function = file, function
			found = append(found, w)
		}
	}
	parsed, constants := map[string]*ast.File{}, map[string]map[string]string{} // of a package: value by name
	for file, src := range files {
		if strings.HasSuffix(file, ".sql") {
			add(file, "", sqlComment.ReplaceAllString(src, " "))
			continue
		}
		f := parseGo(t, file, src)
		parsed[file] = f
		dir := path.Dir(file)
		if constants[dir] == nil {
			constants[dir] = map[string]string{}
		}
		for _, decl := range f.Decls {
			collectConstants(decl, constants[dir])
		}
	}
	for _, file := range slices.Sorted(maps.Keys(parsed)) {
		for _, decl := range parsed[file].Decls {
			text := textReader{constants: constants[path.Dir(file)]}
			text.read(decl)
			add(file, nameOf(decl), text.b.String())
		}
	}
	return found
}

// collectConstants gives the strings of constants and variables that are one literal.
func collectConstants(decl ast.Decl, into map[string]string) {
	gen, ok := decl.(*ast.GenDecl)
	if !ok {
		return
	}
	for _, spec := range gen.Specs {
		if v, ok := spec.(*ast.ValueSpec); ok && len(v.Names) == len(v.Values) {
			for i, name := range v.Names {
				if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					into[name.Name] = valueOf(lit)
				}
			}
		}
	}
}

// nameOf is the name of a function with its receiver's type; "" for another declaration.
func nameOf(decl ast.Decl) string {
	f, ok := decl.(*ast.FuncDecl)
	if !ok {
		return ""
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

func valueOf(lit *ast.BasicLit) string {
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		panic(err) // the parser has accepted it
	}
	return s
}

// unreadable stands in a text for what only the run of the program tells.
const unreadable = " \x00 "

// textReader puts the strings of a piece of source together.
type textReader struct {
	constants map[string]string
	b         strings.Builder
}

func (r *textReader) read(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.ValueSpec: // not the names
			for _, value := range n.Values {
				r.read(value)
			}
			return false
		case *ast.BinaryExpr:
			if n.Op == token.ADD {
				r.add(r.sum(n))
				return false
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				r.add(valueOf(n))
			}
		case *ast.Ident:
			r.add(r.constants[n.Name])
		}
		return true
	})
}

// add ends each string with a space, so that words of two do not become one, and
// takes its comments away, so that a sign in one string hides nothing of the next.
func (r *textReader) add(s string) {
	r.b.WriteString(sqlComment.ReplaceAllString(s, " ") + " ")
}

// sum gives the operands of additions without a gap between them.
func (r *textReader) sum(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return r.sum(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return r.sum(e.X) + r.sum(e.Y)
		}
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return valueOf(e)
		}
		return ""
	case *ast.Ident:
		if value, ok := r.constants[e.Name]; ok {
			return value
		}
	default:
		r.read(e) // a call, with strings of its own
	}
	return unreadable
}

var (
	// sqlComment leaves /*! … */ alone, which MySQL executes.
	sqlComment = regexp.MustCompile(`(?s)/\*[^!].*?\*/|--[^\n]*`)
	// sqlWord is a word, a sign that shapes a statement, or a part that is not known: a verb of fmt, or what was added
	// to the text. Quotes of any kind fall away.
	sqlWord = regexp.MustCompile(`[a-z_][a-z_0-9]*|%[a-z]|[().,;=]|\x00`)
)

// guardedTables are those whose column state is meant; payment_attempts, failed_tasks, differences and reconciliations
// have one too.
var guardedTables = []string{"orders", "refunds"}

// statesSetIn finds the statements of a text that set, or may set, the state of a guarded table.
func statesSetIn(text string) []stateWrite {
	words := sqlWord.FindAllString(strings.ToLower(text), -1)
	var found []stateWrite
	inserts := "" // the table of the last INSERT, whose upsert may follow
	for i, word := range words {
		before := ""
		if i > 0 {
			before = words[i-1]
		}
		rest := words[i+1:]
		switch {
		case word == "into" && (before == "insert" || before == "replace" || before == "ignore"):
			table, columns := insertOf(rest)
			inserts = table
			if slices.Contains(guardedTables, table) && (columns == nil || namesState(columns)) {
				found = append(found, stateWrite{verb: strings.ToUpper(before), table: table})
			}
		case word != "update" || before == "for" || before == "on":
		case before == "key" || before == "do": // ON DUPLICATE KEY UPDATE, ON CONFLICT … DO UPDATE SET
			if slices.Contains(guardedTables, inserts) && namesState(clauseOf(rest)) {
				found = append(found, stateWrite{verb: "UPSERT", table: inserts})
			}
		default:
			if table, sets := updateOf(rest); table != "" && sets {
				found = append(found, stateWrite{verb: "UPDATE", table: table})
			}
		}
	}
	return found
}

// insertOf gives the table and the columns that follow INSERT INTO; nil when no columns are named: then it is all.
func insertOf(words []string) (table string, columns []string) {
	if len(words) == 0 {
		return "", nil
	}
	if table = words[0]; len(words) > 1 && words[1] == "(" {
		if end := slices.Index(words, ")"); end > 0 {
			return table, words[2:end]
		}
	}
	return table, nil
}

// updateOf reads what follows UPDATE: the guarded table that it is of, and whether its SET names the state or cannot be
// read. Of a table that the text does not name it is said to be "?".
func updateOf(words []string) (table string, sets bool) {
	end := slices.IndexFunc(words, func(w string) bool {
		return slices.Contains([]string{"set", "where", ";", "update"}, w)
	})
	of := words
	if end >= 0 {
		of = words[:end]
	}
	for len(of) > 0 && slices.Contains([]string{"or", "ignore", "replace", "low_priority", "only"}, of[0]) {
		of = of[1:]
	}
	if end < 0 || words[end] != "set" { // its SET is elsewhere, or this is a sentence
		if len(of) > 0 && slices.Contains(guardedTables, of[0]) && slices.Contains(of, "\x00") {
			return of[0], true
		}
		return "", false
	}
	set := clauseOf(words[end+1:])
	for _, guarded := range guardedTables {
		if slices.Contains(of, guarded) {
			return guarded, namesState(set)
		}
	}
	if len(of) > 0 && (of[0] == "\x00" || strings.HasPrefix(of[0], "%")) {
		return "?", namesState(set)
	}
	return "", false
}

// clauseOf is a SET up to its WHERE or the end of the statement; one in brackets does not end it.
func clauseOf(words []string) []string {
	depth := 0
	for i, w := range words {
		switch {
		case w == "(":
			depth++
		case w == ")":
			depth--
		case depth <= 0 && slices.Contains([]string{"where", ";", "update", "insert", "select", "delete"}, w):
			return words[:i]
		}
	}
	return words
}

// namesState reports that a list of columns has the state in it, or something that may be it.
func namesState(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return w == "state" || w == "\x00" || strings.HasPrefix(w, "%")
	})
}
