package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shows lists every function that reads by the door for showing, and why nothing is decided by what it reads.
var shows = map[string]string{
	"cmd/orderd.Run":                   "verbs show, or hand the database on",
	"cmd/orderd.checkDatabase":         "doctor shows",
	"cmd/orderd.checkClock":            "doctor shows the difference between two clocks",
	"cmd/orderd.checks":                "readiness: whether something answers, and nothing else",
	"cmd/orderd.schemaKnown":           "readiness: whether something answers, and nothing else",
	"cmd/orderd.schemaFinding":         "doctor shows",
	"cmd/orderd.healthNow":             "the console shows findings, as doctor does",
	"cmd/orderd.startGauges":           "numbers for people and metrics",
	"cmd/orderd.summarize":             "the demo tells what it has done",
	"cmd/orderd/console.list":          "the list of tokens; who a token is, find decides",
	"cmd/orderd/console.listAccounts":  "the list of accounts",
	"payment/operators.List":           "the list of accounts",
	"migrations.Check":                 "the pool that migrates, of a program that has just started",
	"migrations.Down":                  "the pool that migrates",
	"migrations.Status":                "the pool that migrates",
	"migrations.Versions":              "numbers for people and metrics",
	"migrations.Up":                    "the pool that migrates, under goose's lock",
	"migrations.begin":                 "the pool that migrates, under goose's lock",
	"migrations.Partition":             "the pool that migrates",
	"migrations.PartitionPlan":         "a plan for people: the server refuses a table that is in parts already",
	"migrations.mayMigrate":            "the version, where nothing is missing; goose decides",
	"migrations.resumable":             "the pool that migrates, under goose's lock",
	"migrations/sqldb.follows":         "what a doctor says of the server",
	"migrations/sqldb.QueryContext":    "of Shown, when the replica does not answer",
	"migrations/sqldb.QueryRowContext": "of Shown, when the replica does not answer",
	"migrations/sqldb.clusterNow":      "the clock of the cluster: whichever server tells it",
	"migrations/sqldb.ask":             "the clock of a server of the cluster: which one is all the same",
	"migrations/sqldb.settings":        "doctor shows settings",
	"migrations/sqldb.sqliteSafety":    "doctor shows settings",
	"order.Backlog":                    "numbers for people and metrics",
	"order.DueByMinute":                "numbers for people",
	"order.HeldBacklog":                "numbers for people and metrics",
	"order.DueBySecond":                "numbers for people",
	"order.Flows":                      "a list for people",
	"order.List":                       "a list for people",
	"order.ListRefunds":                "a list for people; who acts on what is listed has it of the writer (Primary)",
	"order.Overdue":                    "numbers for people",
	"order.PageLimit":                  "are customers here: a wrong guess costs speed",
	"order.RefundBacklog":              "numbers for people and metrics",
	"migrations/sqldb.Explain":         "a plan for people, and for tests and measurements",
	"order.Search":                     "shown; that there is nothing is decided",
	"order.StockAccount":               "numbers for people; that there is no such SKU is decided",
	"order.PlacedByMinute":             "numbers for people",
	"order.LastReceived":               "a list for people",
	"order.StockAccounts":              "numbers for people",
	"order.Total":                      "numbers for people",
	"order.Timeline":                   "shown; that there is no such order is decided",
	"order.Versions":                   "wakes those who wait; what they are shown is read by find",
	"order.find":                       "shown; that there is no such order is decided (findNow)",
	"order.FindHeld":                   "shown to people; what is decided about it is decided under its lock",
	"order.pageOfHeld":                 "a list for people; what is done about one is decided under its lock",
	"order.RefundsByAge":               "numbers for people",
	"order.showRefund":                 "shown; that there is no such refund is decided (refundNow)",
	"order.MoneyOf":                    "numbers for people",
	"order.OrderFlows":                 "an order's flows for people",
	"order/audit.VerifyWith":           "a report; repairs are decided again, under locks",
	"order/audit.attempts":             "a report",
	"order/audit.refundKnown":          "a report",
	"order/audit.refunds":              "a report",
	"order/audit.findRepairs":          "a plan: each repair is decided again, under locks",
	"order/audit.unsoundNow":           "long checks before the locks: they can only forbid a repair",
	"payment/trail.All":                "an export for people",
	"payment/trail.Head":               "a number for people; the proof of a day reads it in its transaction (HeadIn)",
	"payment/trail.List":               "a list for people",
	"payment/trail.pages":              "an export for people",
	"payment/reconcile.Closable":       "what a page offers; CloseDay decides",
	"payment/reconcile.Pack":           "a file for people; that there is no such day is decided",
	"payment/reconcile.makeProof":      "files that the transaction which closes the day keeps, or not",
	"payment/reconcile.Export":         "a day and its differences for people; that there is no such day is decided",
	"payment/reconcile.List":           "a list for people",
	"payment/reconcile.Month":          "a month for people; what is closed is decided under the lock of its day",
	"payment/reconcile.Open":           "numbers for people and metrics",
	"payment/reconcile.Recent":         "a page for people",
	"payment/reconcile.Show":           "shown; that there is no such day is decided (showNow)",
	"payment/echoes.Count":             "doctor shows what came",
	"payment/shipping.Backlog":         "numbers for people and metrics",
	"payment/shipping.List":            "a list for people",
	"scheduler.Count":                  "numbers for people and metrics",
	"scheduler.Groups":                 "a list for people; what is done about one matches again",
	"scheduler.List":                   "a list for people",
	"scheduler.Match":                  "how many a person would act on; walkState reads again and decides",
	"stock.GateStocks":                 "gates for people and metrics; what is set is decided under the SKU's lock",
	"stock.PlanImport":                 "a plan for people: each line is decided again under the lock of its SKU",
	"stock.SaleStocks":                 "as GateStocks",
	"stock.FindMany":                   "SKUs as they are shown; that there is no such SKU is decided (Find)",
	"stock.List":                       "a list for people and shop windows; a placement finds its SKUs under locks",
	"stock.ListFrom":                   "as List",
}

// lags lists those of them that read by Shown: what they show may be of a replica, as old as ORDERD_READ_LAG.
var lags = []string{
	"order.DueByMinute", "order.DueBySecond", "order.Flows", "order.LastReceived", "order.List", "order.ListRefunds",
	"order.MoneyOf", "order.PlacedByMinute", "order.RefundsByAge", "order.StockAccounts", "order.Total",
	"order/audit.VerifyWith", "payment/reconcile.Export", "payment/reconcile.List", "payment/reconcile.Month",
	"payment/reconcile.Recent", "payment/shipping.List", "payment/trail.List", "stock.List", "stock.ListFrom",
}

// takesIt are calls that are given the database itself and read by its other doors, or are in the table themselves, as
// the methods are of what New… makes.
var takesIt = []string{"Decided", "Create", "Disable", "SetRole", "Check", "Held", "Up", "do"}

// What is read where it is shown from may be a second old, or of a server that does not lead any more: a decision by it
// is wrong at any switchover. Every read by that door is in the table, with the reason why it only shows.
func TestReadsThatOnlyShow(t *testing.T) {
	found := map[string]bool{}
	var behind []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(filepath.ToSlash(path), "../../")
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || slices.Contains(
			[]string{"cmd/orderload", "migrations/sqldb/sqldbtest", "order/ordertest"}, rel)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			name := filepath.ToSlash(filepath.Dir(rel)) + "." + f.Name.Name
			if readsToShow(f.Body) {
				found[name] = true
			}
			if asks(f.Body, "Shown") {
				behind = append(behind, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(behind); !slices.Equal(behind, lags) {
		t.Errorf("by Shown read %q, listed are %q", behind, lags)
	}
	for name := range found {
		if shows[name] == "" {
			t.Errorf("%s reads by the door for showing. Does it decide? Then InTx or Decide; else say why not", name)
		}
	}
	for name := range shows {
		if !found[name] {
			t.Errorf("%s reads nothing by the door for showing any more", name)
		}
	}
}

// asks reports that a function calls a method of a database itself.
func asks(body ast.Node, method string) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			f, ok := call.Fun.(*ast.SelectorExpr)
			found = found || ok && f.Sel.Name == method && isDB(f.X)
		}
		return true
	})
	return found
}

// readsToShow reports that a function calls a query of a database itself, or gives a database to a call that may.
func readsToShow(body ast.Node) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := ""
		switch f := call.Fun.(type) {
		case *ast.SelectorExpr:
			name = f.Sel.Name
			if isDB(f.X) {
				found = found || slices.Contains(
					[]string{"QueryContext", "QueryRowContext", "Snapshot", "Pool", "Shown"}, name)
			}
		case *ast.Ident:
			name = f.Name
		case *ast.IndexExpr: // a generic function
			name = "generic"
		}
		if slices.Contains(takesIt, name) || strings.HasPrefix(name, "New") {
			return true
		}
		for _, arg := range call.Args {
			found = found || isDB(arg)
		}
		return true
	})
	return found
}

// isDB reports that an expression is called as a database is: db, or a field db or DB.
func isDB(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name == "db"
	case *ast.SelectorExpr:
		return x.Sel.Name == "db" || x.Sel.Name == "DB"
	}
	return false
}
