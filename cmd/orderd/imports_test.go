package main

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// failpoints is the one package of ours that all but the simulator may import: in a release it is nothing.
const failpoints = "migrations/sqldb/failpoint"

// fieldBounds is the one table of how long a field may be, which everybody may import: numbers, and no code that one
// side could share with the other's judge.
const fieldBounds = "migrations/bounds"

// testSupport are folders of helpers for tests: they may import what they help to test.
var testSupport = []string{"sqldbtest", "ordertest", "reconciletest"}

// importRule says what the production files of a folder must not import, and why.
type importRule struct {
	folder string // "" is the whole tree
	below  bool   // folders below it too
	deny   []string
	why    string
	except []string // folders and files that may, from the root of the tree
}

// importRules hold for production files. The order of the layers is cmd, scheduler, order, then payment and stock, then
// migrations: an import goes down. .golangci.yml has the same arrows, for who has the linter in an editor.
var importRules = []importRule{
	{folder: "stock", below: true,
		deny: []string{"orderd/order", "orderd/payment", "orderd/scheduler"},
		why:  "the ledger is given an order number and knows neither orders nor money"},
	{folder: "stock", below: true,
		deny:   []string{"github.com/redis", "github.com/hibiken/asynq"},
		why:    "the ledger needs no Redis: deleting redisgate deletes the technology",
		except: []string{"stock/gate/redisgate"}},
	{folder: "payment",
		deny: []string{"orderd/order", "orderd/stock"},
		why:  "orders ask the gateway, not the other way round"},
	{folder: "payment/wechat", below: true,
		deny: []string{"orderd/order", "orderd/stock", "orderd/migrations"},
		why:  "the gateway translates a protocol and decides nothing"},
	{folder: "payment/wechatsim", below: true,
		deny: []string{"orderd/", "github.com/"},
		why:  "the simulator judges the gateway, so it shares no code with it, the table of bounds alone"},
	{folder: "payment/reconcile", below: true,
		deny: []string{"github.com/hibiken/asynq", "github.com/go-pay", "github.com/redis", "orderd/stock",
			"orderd/scheduler"},
		why: "bills are compared with our records: queue and gateway come in by interfaces"},
	{folder: "payment/reconcile", below: true,
		deny: []string{"orderd/order"},
		why:  "what reconciliation needs of orders it declares itself: cmd/orderd/reconcile_orders.go joins them"},
	{folder: "order",
		deny: []string{"github.com/hibiken/asynq", "github.com/go-pay", "github.com/redis"},
		why:  "orders know neither queue nor gopay: they declare what they need"},
	{folder: "order",
		deny: []string{"orderd/scheduler", "orderd/payment/reconcile", "orderd/order/orderhttp"},
		why:  "each of these packages calls orders: orders calling back would be a circle"},
	{folder: "", below: true,
		deny:   []string{"orderd/order/audit"},
		why:    "for cmd and tests alone: the auditor uses orders, and orders do not know that they are audited",
		except: []string{"order/audit", "cmd"}},
	{folder: "order/audit", below: true,
		deny: []string{"github.com/hibiken/asynq", "github.com/go-pay", "github.com/redis", "orderd/scheduler",
			"orderd/payment/reconcile", "orderd/order/orderhttp", "orderd/order/ordertest"},
		why: "the auditor reads tables and asks the gateway: it knows nobody who serves or queues"},
	{folder: "order/orderhttp", below: true,
		deny: []string{"github.com/go-pay", "github.com/hibiken/asynq", "github.com/redis"},
		why:  "HTTP shows orders, it neither queues nor pays"},
	{folder: "scheduler", below: true,
		deny: []string{"github.com/go-pay"},
		why:  "the scheduler calls orders when their time has come, and nobody else"},
	{folder: "payment/operators", below: true,
		deny: []string{"orderd/order", "orderd/stock", "orderd/payment", "orderd/scheduler"},
		why:  "who is whom is asked by everybody who needs two people, so it knows none of their business"},
	{folder: "migrations", below: true,
		deny: []string{"orderd/order", "orderd/stock", "orderd/payment", "orderd/scheduler"},
		why:  "the database layer knows no business"},
	{folder: fieldBounds, below: true,
		deny: []string{"orderd/"},
		why:  "everybody may import it, so it imports nobody"},
	{folder: failpoints, below: true,
		deny: []string{"orderd/"},
		why:  "everybody may import it, so it imports nobody"},
	{folder: "", below: true,
		deny:   []string{"orderd/cmd"},
		why:    "programs are made of packages: what two of them need stands below cmd",
		except: []string{"cmd"}},
	{folder: "", below: true,
		deny:   []string{"github.com/labstack/echo"},
		why:    "echo v4's support ends this year: confined to the customers' API and the operators' console",
		except: []string{"order/orderhttp", "cmd/orderd/console"}},
	{folder: "cmd/orderd", below: true,
		deny:   []string{"github.com/alicebob/miniredis"},
		why:    "one file says what an empty configuration means",
		except: []string{"cmd/orderd/embedded.go"}},
	{folder: "", below: true,
		deny:   []string{"orderd/stock/gate/redisgate"},
		why:    "one file says where gates in Redis are, one measures them: without they are sold like local ones",
		except: []string{"cmd/orderd/gateredis.go", "stock/gate/redisgate", "cmd/orderload/gate_redis.go"}},
	{folder: "cmd/orderd", below: true,
		deny:   []string{"orderd/payment/wechatsim"},
		why:    "one file starts the simulator, three others drive it",
		except: []string{"cmd/orderd/embedded.go", "cmd/orderd/demo.go", "cmd/orderd/buyers.go", "cmd/orderd/sim.go"}},
	{folder: "cmd/orderd/storefront", below: true,
		deny: []string{"orderd/order", "orderd/stock", "orderd/payment", "orderd/scheduler", "orderd/migrations",
			"orderd/cmd", "database/sql", "github.com/"},
		why: "the storefront is a client of the public API and of the simulator, with no way around a rule"},
	{folder: "cmd/orderd", below: true,
		deny: []string{"testing", "orderd/order/ordertest", "orderd/payment/reconcile/reconciletest",
			"orderd/migrations/sqldb/sqldbtest"},
		why: "test support is never in the binary"},
}

// rules says whether the rule is about a file. Test support may import what tests may.
func (r importRule) rules(file string) bool {
	dir := path.Dir(file)
	inside := r.folder == "" || strings.HasPrefix(dir+"/", r.folder+"/")
	support := slices.ContainsFunc(strings.Split(strings.TrimPrefix(dir, r.folder), "/"), func(name string) bool {
		return slices.Contains(testSupport, name)
	})
	return inside && (r.below || dir == r.folder) && !support && !slices.ContainsFunc(r.except, func(free string) bool {
		return strings.HasPrefix(file+"/", free+"/")
	})
}

// An import in the wrong direction is how layers rot; each rule says why it is there.
func TestImports(t *testing.T) {
	ruled := make([]int, len(importRules))
	eachFile(t, func(file string, _ *token.FileSet, f *ast.File) {
		for i, rule := range importRules {
			if !rule.rules(file) {
				continue
			}
			ruled[i]++
			for _, spec := range f.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				for _, denied := range rule.deny {
					free := name == "orderd/"+fieldBounds || name == "orderd/"+failpoints && denied != "orderd/"
					if strings.HasPrefix(name, denied) && !free {
						t.Errorf("%s imports %s: %s", file, name, rule.why)
					}
				}
			}
		}
	})
	for i, rule := range importRules {
		if ruled[i] == 0 {
			t.Errorf("no file in %q: the rule names a folder that is gone", rule.folder)
		}
	}
}

// What was built on the gate in Redis could not be built without it any more, one import at a time: without its folder
// and the one file that names it all programs build.
func TestBuildsWithoutTheGateInRedis(t *testing.T) {
	gone := struct{ Replace map[string]string }{map[string]string{}}
	for _, pattern := range []string{"gateredis.go", "../../stock/gate/redisgate/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			path, err := filepath.Abs(f)
			if err != nil {
				t.Fatal(err)
			}
			gone.Replace[path] = "" // an overlay's word for a file that is not there
		}
	}
	text, err := json.Marshal(gone)
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	programs := []string{"build", "-overlay", overlay, "-o", t.TempDir(), "orderd/cmd/orderd"}
	if out, err := exec.Command("go", programs...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if exec.Command("go", "build", "-overlay", overlay, "orderd/stock/gate/redisgate").Run() == nil {
		t.Error("the overlay leaves the folder there")
	}
}
