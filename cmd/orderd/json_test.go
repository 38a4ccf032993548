package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/wechatsim"
)

// jsonVerbs are the verbs with -o json that a shop with one of everything is asked by, with their arguments; "" marks
// one whose answer nothing here makes, and which shows what another verb shows.
var jsonVerbs = map[string]string{
	"migrate status": "none", "stock import": "FILE --yes", "stock show": "1001", "stock gate": "1001",
	"stock gates": "none", "stock buckets": "1001", "stock low": "1001 --at 0", "stock rebuild": "",
	"stock verify": "", "find": "NO", "stock flows": "1001", "order get": "NO", "order list": "none",
	"order timeline": "NO", "order close": "",
	"order sync": "", "order vouch": "", "held list": "none",
	"held adopt":   "",
	"held resolve": "42 --action REFUND --reason r --yes", "payments held list": "",
	"payments held judge-again": "", "refund list": "none",
	"refund ask": "NO --reason r --yes --key k2 --amount 1.00", "refund get": "RNO", "refund approve": "",
	"refund reject": "", "refund retry": "", "refund cancel": "", "refund by-hand": "", "refund to-card": "",
	"shipment list": "--shipping-app-secret s", "shipment get": "NO --shipping-app-secret s",
	"shipment send": "", "tasks due": "none", "tasks dead list": "none", "tasks dead groups": "none",
	"tasks dead run": "",
	"bulk ask":       "--reason r --yes --dry-run", "bulk close": "", "bulk approve": "", "bulk stop": "",
	"bulk resume": "",
	"bulk list":   "", "bulk show": "",
	"tasks dead discard": "--all --yes --reason r", "reconcile run": "", "reconcile list": "none",
	"reconcile show": "", "reconcile diffs": "none",
	"reconcile resolve": "DIFFERENCE --action WRITE_OFF --reason r --yes", "reconcile confirm": "",
	"reconcile month": "none", "reconcile close": "", "reconcile difference": "DIFFERENCE",
	"reconcile assign": "", "reconcile comment": "DIFFERENCE text", "reconcile import": "",
	"token list": "none", "operator list": "none", "verify": "none", "doctor": "none", "config print": "none",
	"version":      "none",
	"webhook list": "none", "webhook deliveries": "", "audit list": "none",
}

// A script that reads the API and the command line reads one shop; two names for one thing are two scripts, and Go's
// own names change with the code.
func TestJSONOfVerbsHasTheNamesOfTheAPI(t *testing.T) {
	dir := t.TempDir()
	no, difference := oneOfEverything(t, dir)
	file := filepath.Join(dir, "skus.csv")
	if err := os.WriteFile(file, []byte("sku_id,title,price_fen,quantity\nS,y,1,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, refund, _ := words(t, append(strings.Fields("refund ask "+no+" --reason r --yes --key k1 --amount 1.00 -o json"),
		"--data-dir", dir)...)
	for _, first := range []string{"operator create li --role viewer", "token create --operator wang",
		"stock gate 1001 --mode local --reason r --yes", "webhook add https://x.example/ --reason r"} {
		if code, out, errs := words(t, append(strings.Fields(first), "--data-dir", dir)...); code != exitOK {
			t.Fatal(first, out, errs)
		}
	}
	var asked map[string]any
	if err := json.Unmarshal([]byte(refund), &asked); err != nil {
		t.Fatal(err, refund)
	}
	var r root
	parser, err := kong.New(&r, kong.PostBuild(putHelpTexts))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(false) {
		if !slices.ContainsFunc(n.Flags, func(f *kong.Flag) bool { return f.Name == "output" }) {
			continue
		}
		name := strings.TrimPrefix(n.Path(), parser.Model.Name+" ")
		name, _, _ = strings.Cut(name, " <")
		args, known := jsonVerbs[strings.TrimSpace(name)]
		if !known {
			t.Errorf("the verb %q is not in the table of this test", name)
		}
		if args == "" {
			continue
		}
		refundNo, _ := asked["out_refund_no"].(string)
		args = strings.NewReplacer("none", "", "NO", no, "FILE", file, "RNO", refundNo, "DIFFERENCE",
			difference).Replace(args)
		_, out, errs := words(t, append(strings.Fields(name+" "+args), "-o", "json", "--data-dir", dir)...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil || len(out) < 10 {
			t.Errorf("%s: %v: %s%s", name, err, out, errs)
		}
		if keys := capitals(v, nil); len(keys) > 0 {
			t.Errorf("%s: %v in %.300s", name, keys, out)
		}
	}
}

// capitals adds the keys with a capital letter in a value of JSON.
func capitals(v any, keys []string) []string {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			keys = capitals(e, keys)
		}
	case map[string]any:
		for k, e := range v {
			if k != strings.ToLower(k) && !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
			keys = capitals(e, keys)
		}
	}
	return keys
}

// oneOfEverything makes a shop with a paid order, an open one, and a row of everything that waits for people.
func oneOfEverything(t *testing.T, dir string) (orderNo, difference string) {
	t.Helper()
	a := embedded(t, dir)
	var o struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
	}
	if st := buy(t, a, "/v1/orders", "k1", map[string]any{"items": []any{map[string]any{"sku_id": "1001",
		"quantity": 2}}}, &o); st != http.StatusCreated {
		t.Fatal(st)
	}
	if st := buy(t, a, "/v1/orders/"+o.OrderNo+"/prepay", "", map[string]any{"trade_type": "NATIVE"},
		&o); st != http.StatusOK {
		t.Fatal(st)
	}
	if st := buy(t, a, "/v1/orders", "k2", map[string]any{"items": []any{map[string]any{"sku_id": "1001",
		"quantity": 1}}}, &struct{}{}); st != http.StatusCreated {
		t.Fatal(st)
	}
	if err := a.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{}); err != nil {
		t.Fatal(err)
	}
	paid, err := a.orders.Sync(t.Context(), o.OrderNo, order.Cause{})
	if err != nil || paid.State != order.StatePaid {
		t.Fatal(paid.State, err)
	}
	now := time.Now().UnixMilli()
	if err := a.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for _, query := range []string{
			`INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid, paid_at,
   received_at, source, outcome, reason)
VALUES ('42', '', 'elsewhere', 100, 100, 'CNY', 'NATIVE', 'a', 'm', ?, ?, 'notification', 'held', 'unknown_order')`,
			`INSERT INTO differences
  (id, bill_date, bill_type, run_no, kind, ref, order_no, out_trade_no, transaction_id, bill_line, bill_fen, ours_fen,
   bill_state, ours_state, facts, healable, status, opened_at, pending_until)
VALUES ('d1', '2026-11-20', 'ALL', 1, 'LOCAL_ONLY', '42', '', '', '42', 0, 0, 100, '', 'paid', '', 0, 'OPEN', ?, ?)`,
			`INSERT INTO reconciliations
  (bill_date, bill_type, state, started_at, finished_at, result)
VALUES ('2026-11-20', 'ALL', 'failed', ?, ?, '')`,
			`INSERT INTO shipments
  (order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, message, put_by, created_at, updated_at)
SELECT order_no, 'owed', '42', 'o', 0, '{}', 0, '', '', ?, ?
FROM orders
WHERE state = 'paid'`,
			`INSERT INTO failed_tasks
  (task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at)
VALUES ('order:expire', 'none', 'dead', 1, 'c', '', ?, ?, 0)`,
		} {
			if _, err := tx.Update(ctx, query, now, now); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return o.OrderNo, "d1"
}
