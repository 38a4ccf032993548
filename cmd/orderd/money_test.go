package main

import (
	"archive/zip"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment/wechatsim"
)

// The whole way of money over HTTP and the verbs, against the simulator's own signed answers, notifications and bills:
// a payment nobody heard of, a refund approved on the command line, the day proven in every kind of bill, and every bad
// bill refused with a word that helps.
func TestMoneyEndToEnd(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	verb := func(args ...string) (int, string) {
		t.Helper()
		code, out, errs := words(t, append(args, "--data-dir", dir, "--sim-addr", a.sim.addr, "--notify-addr",
			a.Notify)...)
		return code, out + errs
	}
	want := func(exit int, says string, args ...string) {
		t.Helper()
		if code, out := verb(args...); code != exit || !strings.Contains(out, says) {
			t.Errorf("%v: exit %d, want %d with %q\n%s", args, code, exit, says, out)
		}
	}
	paid := func(key string, o wechatsim.PayOptions) (no string) {
		t.Helper()
		var got struct {
			OrderNo    string `json:"order_no"`
			OutTradeNo string `json:"out_trade_no"`
		}
		buy(t, a, "/v1/orders", key, map[string]any{"items": []any{map[string]any{"sku_id": "1001", "quantity": 2}}},
			&got)
		if st := buy(t, a, "/v1/orders/"+got.OrderNo+"/prepay", "", map[string]any{"trade_type": "NATIVE"},
			&got); st != http.StatusOK {
			t.Fatal(st)
		}
		if err := a.sim.Pay(got.OutTradeNo, o); err != nil {
			t.Fatal(err)
		}
		return got.OrderNo
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) { // polling, not timing
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	state := func(no string) order.State {
		o, err := a.orders.Find(t.Context(), no)
		if err != nil {
			t.Fatal(err)
		}
		return o.State
	}

	no, unheard := paid("k1", wechatsim.PayOptions{Notify: true}), paid("k2", wechatsim.PayOptions{})
	until("not paid", func() bool { return state(no) == order.StatePaid })
	var refund struct {
		No string `json:"out_refund_no"`
	}
	if st := buy(t, a, "/v1/orders/"+no+"/refunds", "r1",
		map[string]any{"items": []any{map[string]any{"sku_id": "1001", "quantity": 1}}, "reason": "small"},
		&refund); st != http.StatusCreated {
		t.Fatal(st)
	}
	want(exitOK, "pending_approval", "refund", "list")
	want(exitFailed, "waits for its approval", "refund", "retry", refund.No, "--reason", "x", "--yes")
	want(exitUsage, "add --yes", "refund", "approve", refund.No, "--reason", "x")
	want(exitOK, "approved", "refund", "approve", refund.No, "--reason", "fair", "--yes")
	until("not refunded", func() bool {
		r, err := a.orders.FindRefund(t.Context(), refund.No)
		return err == nil && r.State == order.RefundStateSucceeded
	})
	want(exitOK, "paid back", "refund", "get", refund.No)
	want(exitFailed, "refund list", "refund", "get", "nobody")
	want(exitOK, "refund.succeeded", "order", "timeline", no)

	want(exitInvariant, "wechat.paid_is_held", "verify", "--wechat")
	want(exitOK, "healed 1", "reconcile", "run", "--date", "today")
	if state(unheard) != order.StatePaid {
		t.Errorf("the bill did not heal: %s", state(unheard))
	}
	want(exitOK, "wechat.refunds_agree", "verify", "--wechat")
	for kind, says := range map[string]string{"SUCCESS": "matched 2 payments and 0 refunds",
		"REFUND": "matched 0 payments and 1 refunds", "FUNDFLOW": "收入"} {
		want(exitOK, says, "reconcile", "run", "--date", "today", "--type", kind)
	}
	day := time.Now().In(time.FixedZone("Beijing", 8*60*60)).Format(time.DateOnly)
	want(exitOK, "balanced", "reconcile", "show", "today")
	want(exitOK, day, "reconcile", "list")
	want(exitOK, "微信订单号", "reconcile", "bill", day)
	want(exitFailed, "reconcile list", "reconcile", "show", "2020-01-01")
	want(exitUsage, "has not come yet", "reconcile", "run", "--date", "2999-01-01")

	// The early layout, free text with commas, other business: still balanced. Everything else is told apart.
	for kind, c := range map[string]struct {
		exit int
		says string
	}{
		"early_columns": {exitOK, "balanced"}, "commas": {exitOK, "balanced"},
		"other_business": {exitOK, "balanced"}, "other_address": {exitOK, "balanced"},
		"missing_columns": {exitFailed, "without 订单金额"},
		"wrong_hash":      {exitDown, "SHA-1"}, "truncated": {exitDown, "SHA-1"}, "html": {exitDown, "web page"},
		"gzip_bomb":      {exitDown, "beyond all measure"},
		"other_merchant": {exitFailed, "of merchant 1999999999"}, "other_day": {exitFailed, "the bill should be of"},
		"bad_summary": {exitFailed, "the rows make"},
		"not_ready":   {exitDown, "asks again by itself"}, "duplicate_row": {exitOpen, "reconcile diffs"},
		"missing_row": {exitOpen, "reconcile resolve"},
		"one_fen_off": {exitOpen, "1 differences are open"}, "extra_row": {exitOK, "balanced"},
		"empty_day": {exitOpen, "none: nothing happened"},
	} {
		if err := a.sim.AddFault(wechatsim.Fault{Endpoint: "bill", Kind: kind, Count: 1}); err != nil {
			t.Fatal(err)
		}
		want(c.exit, c.says, "reconcile", "run", "--date", "today")
	}
	want(exitOK, "balanced", "reconcile", "run", "--date", "today") // what was wrong was WeChat's, for a while
	want(exitOK, "this replaces the result of "+time.Now().UTC().Format("2006-"), "reconcile", "run", "--date", "today")

	if err := a.sim.AddFault(wechatsim.Fault{Endpoint: "bill", Kind: "duplicate_row", Count: 1}); err != nil {
		t.Fatal(err)
	}
	want(exitOpen, "", "reconcile", "run", "--date", "today")
	code, out := verb("reconcile", "diffs", "-o", "json")
	var diffs []struct{ ID, Type string }
	if err := json.Unmarshal([]byte(out[:strings.LastIndex(out, "]")+1]), &diffs); err != nil || code != exitOpen ||
		len(diffs) != 1 || !strings.HasPrefix(diffs[0].Type, "DUPLICATE_") {
		t.Fatalf("%d %v %s", code, err, out)
	}
	want(exitOpen, diffs[0].ID, "reconcile", "diffs", day, "--assignee", "-") // of a day, of any status
	book := filepath.Join(dir, "day.xlsx")
	want(exitOpen, "", "reconcile", "diffs", day, "-o", "xlsx", "--file", book)
	if z, err := zip.OpenReader(book); err != nil || z.Close() != nil {
		t.Error(err)
	}
	want(exitOK, "second person", "reconcile", "resolve", diffs[0].ID, "--action", "WRITE_OFF", "--reason",
		"another shop's", "--yes")
	want(exitFailed, "second person", "reconcile", "resolve", diffs[0].ID, "--action", "WRITE_OFF", "--reason",
		"another shop's", "--yes")
	want(exitOK, "books.day_is_whole", "verify")

	code, token := verb("token", "create", "--operator", "li.na", "--role", "finance")
	if code != exitOK || !strings.HasPrefix(token, "ord_") {
		t.Fatalf("%d %s", code, token)
	}
	secret, _, _ := strings.Cut(token, "\n")
	ask := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"http://"+a.Admin+"/admin/v1/reconciliations", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return errOr(res.StatusCode, res.Body.Close())
	}
	if got := ask(); got != http.StatusOK {
		t.Errorf("the operator's token: %d", got)
	}
	want(exitOK, "", "token", "revoke", "li.na", "--yes")
	want(exitOK, "li.na", "token", "list")
	until("a revoked token lives on", func() bool { return ask() == http.StatusUnauthorized })
}

func errOr(n int, err error) int {
	if err != nil {
		return 0
	}
	return n
}
