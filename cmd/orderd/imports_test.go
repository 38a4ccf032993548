package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// failpoints is the one package of ours that all but the simulator may import: in
// a release it is nothing.
const failpoints = "migrations/sqldb/failpoint"

// testSupport are folders of helpers for tests, which may import what they help to test.
var testSupport = []string{"sqldbtest", "ordertest", "reconciletest"}

// importRule says what the production files of a folder must not import, and why.
type importRule struct {
	folder string
	below  bool // folders below it too
	deny   []string
	why    string
	except string // a file that may
}

var importRules = []importRule{
	{"stock", true, []string{"orderd/order", "orderd/payment", "orderd/scheduler"}, "the ledger is told an order number and knows neither orders nor money", ""},
	{"payment", false, []string{"orderd/order", "orderd/stock"}, "money is taken in by orders, not the other way round", ""},
	{"payment/wechat", true, []string{"orderd/order", "orderd/stock", "orderd/migrations"}, "the gateway translates a protocol and decides nothing", ""},
	{"payment/wechatsim", true, []string{"orderd/", "github.com/"}, "the judge shares no code with the judged", ""},
	{"payment/reconcile", true, []string{"github.com/labstack/echo", "github.com/hibiken/asynq", "github.com/go-pay", "github.com/redis", "orderd/stock", "orderd/scheduler"}, "bills are held against journals: HTTP, queue and gateway come in by interfaces", ""},
	{"payment/reconcile", true, []string{"orderd/order"}, "reconcile holds a bill against journals: what it needs of orders it declares itself", ""},
	{"order", false, []string{"github.com/labstack/echo", "github.com/hibiken/asynq", "github.com/go-pay", "github.com/redis", "orderd/scheduler", "orderd/payment/reconcile"}, "orders know neither HTTP nor queue nor gopay: they declare what they need", ""},
	{"order/orderhttp", true, []string{"github.com/go-pay", "github.com/hibiken/asynq", "github.com/redis"}, "HTTP shows orders, it does not queue or pay", ""},
	{"order", true, []string{"orderd/order/audit"},
		"the auditor is imported by cmd and tests only: it uses orders, orders do not know that they are audited", ""},
	{"payment", true, []string{"orderd/order/audit"},
		"the auditor is imported by cmd and tests only: it uses orders, orders do not know that they are audited", ""},
	{"scheduler", true, []string{"orderd/order/audit"},
		"the auditor is imported by cmd and tests only: it uses orders, orders do not know that they are audited", ""},
	{"order/audit", true, []string{"github.com/labstack/echo", "github.com/hibiken/asynq", "github.com/go-pay", "github.com/redis",
		"orderd/scheduler", "orderd/payment/reconcile", "orderd/order/orderhttp", "orderd/order/ordertest"},
		"the auditor reads tables and asks the gateway: it knows nobody who serves or queues", ""},
	{"scheduler", true, []string{"github.com/go-pay", "github.com/labstack/echo"}, "the scheduler wakes orders and speaks to nobody else", ""},
	{"migrations", true, []string{"orderd/order", "orderd/stock", "orderd/payment"}, "the engine room knows no business", ""},
	{failpoints, true, []string{"orderd/"}, "everybody may import it, so it imports nobody", ""},
	{"cmd/orderd", true, []string{"github.com/alicebob/miniredis", "orderd/payment/wechatsim"}, "one file says what an empty configuration means", "embedded.go"},
	{"cmd/orderd", true, []string{"testing", "orderd/order/ordertest", "orderd/payment/reconcile/reconciletest", "orderd/migrations/sqldb/sqldbtest"}, "test support is never in the binary", ""},
}

// allowed are the files of cmd/orderd that steer the simulator that embedded.go started.
var allowed = map[string]bool{"embedded.go": true, "demo.go": true, "buyers.go": true, "sim.go": true}

// An import in the wrong direction is how layers rot; each rule says why it is there.
func TestImports(t *testing.T) {
	files := 0
	for _, rule := range importRules {
		root := filepath.Join("..", "..", filepath.FromSlash(rule.folder))
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != root && (!rule.below || slices.Contains(testSupport, d.Name())):
				return filepath.SkipDir
			case !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"), rule.except != "" && allowed[filepath.Base(path)]:
				return nil
			}
			files++
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, spec := range f.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				for _, denied := range rule.deny {
					if strings.HasPrefix(name, denied) && (name != "orderd/"+failpoints || denied == "orderd/") {
						t.Errorf("%s imports %s: %s", path, name, rule.why)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 50 {
		t.Fatalf("only %d files looked at: the rules name folders that are gone", files)
	}
}
