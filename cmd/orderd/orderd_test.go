package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/wechatsim"
)

// words runs a verb and gives its exit code and what it wrote.
func words(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &terminal{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// embedded starts a service on embedded parts and free ports.
func embedded(t *testing.T, dir string) *app {
	t.Helper()
	return embeddedWith(t, dir, slog.New(slog.DiscardHandler), func(*settings) {})
}

// embeddedWith is embedded with a log and a change of the settings.
func embeddedWith(t *testing.T, dir string, log *slog.Logger, change func(*settings)) *app {
	t.Helper()
	notify, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{DataDir: dir, APIAddr: "127.0.0.1:0", NotifyAddr: notify, AdminAddr: "127.0.0.1:0",
		SimAddr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0",
		PayWithin: time.Minute, CloseGrace: time.Second, CloseRate: 50, SweepEvery: time.Second, LogLevel: "error",
		ShippingSecret: "app-secret"}
	change(s)
	if _, err := os.Stat(s.simKeysDir()); s.MchID == "" && err != nil { // it would make its own, which takes a second
		if err := wechatKeys(t).Save(s.simKeysDir()); err != nil {
			t.Fatal(err)
		}
	}
	a, err := start(t.Context(), s, options{roles: allRoles, simSpeed: 30, migrate: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := sampleSKU(t.Context(), a.stock); err != nil {
		t.Fatal(err)
	}
	return a
}

func buy(t *testing.T, a *app, path, key string, body, into any) int {
	t.Helper()
	token, err := orderhttp.MintToken([]byte(a.JWTSecret), "c1", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.API+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %s", err, b)
		}
	}
	return res.StatusCode
}

// Without it the main road could be broken end to end while every part passes: place, prepay, pay at WeChat, a signed
// callback over HTTP, paid, and the same data seen by the verbs.
func TestServeEndToEnd(t *testing.T) {
	dir := t.TempDir()
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
	if err := a.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		got, err := a.orders.Find(t.Context(), o.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		if got.State == order.StatePaid {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the callback did not arrive: %s", got.State)
		}
		time.Sleep(20 * time.Millisecond) // polling, not timing
	}
	if _, err := start(t.Context(), a.s, options{roles: allRoles}, a.log); err == nil ||
		!strings.Contains(err.Error(), "another orderd") {
		t.Errorf("a second service on the same data: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"order", "get", o.OrderNo}, "paid"}, {[]string{"order", "list", "--state", "paid"}, o.OrderNo},
		{[]string{"order", "timeline", o.OrderNo}, "payment.applied"},
		{[]string{"order", "get", o.OrderNo, "-o", "json"}, `"state": "paid"`},
		{[]string{"stock", "show"}, "Blue mug"}, {[]string{"stock", "show", "1001"}, "came in "},
		{[]string{"stock", "show", "1001", "-o", "json"}, `"available": 998`},
		{[]string{"stock", "show", "1001", "-o", "json"}, `"allocated": 0`},
		{[]string{"stock", "export"}, "1001,Blue mug,14900,998"},
		{[]string{"verify"}, "order.total"}, {[]string{"verify", "-o", "json"}, `"orders": 1`},
		{[]string{"migrate", "status"}, "true"},
		{[]string{"doctor"}, "invariants hold"}, {[]string{"token", "create", "--customer", "c2"}, "."},
		{[]string{"version"}, "orderd"},
		{[]string{"stock", "replenish", "1001", "5", "--reason", "r", "--key", "k", "--yes"}, "+5, now 1003"},
		{[]string{"stock", "adjust", "1001", "--delta=-3", "--reason", "r", "--key", "k", "--yes"}, "-3, now 1000"},
	} {
		code, out, errs := words(t, append(c.args, "--data-dir", dir)...)
		if code != exitOK || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
}

// A script decides by exit codes, a stranger by the words: both are a contract.
func TestExitCodesAndHints(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := words(t, "migrate", "up", "--data-dir", dir); code != exitOK {
		t.Fatal(errs)
	}
	bad := filepath.Join(dir, "bad.csv")
	if err := os.WriteFile(bad, []byte("sku_id,title,price_fen,quantity\nx,y,0,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nonsense"}, exitUsage, "--help"}, {[]string{"order", "get", "ghost"}, exitFailed, "order list"},
		{[]string{"stock", "show", "ghost"}, exitFailed, "stock import"},
		{[]string{"stock", "import", "ghost.csv", "--yes"}, exitUsage, "no file"},
		{[]string{"stock", "import", bad, "--yes"}, exitFailed, "problems"},
		{[]string{"stock", "import", bad}, exitUsage, "--yes"},
		{[]string{"verify", "--dsn", "mysql:u:hunter2@tcp(127.0.0.1:1)/d"}, exitDown, "doctor"},
		{[]string{"verify", "--dsn", "postgres://x"}, exitUsage, "mysql:"},
		{[]string{"serve", "--role", "x"}, exitUsage, "worker"},
		{[]string{"verify", "--pay-within", "1ms"}, exitUsage, "at least 1s"},
		{[]string{"order", "close", "x", "--reason", "r"}, exitUsage, "--yes"},
		{[]string{"verify", "--bootstrap-admin-token", "short"}, exitUsage, "openssl"},
		{[]string{"demo", "--orders", "3"}, exitUsage, "60"},
		{[]string{"demo", "--processes", "2"}, exitUsage, "--sale"},
		{[]string{"demo", "--sale", "--processes", "9"}, exitUsage, "1 to 8"},
	} {
		code, out, errs := words(t, append(c.args, "--data-dir", dir)...)
		if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(errs+out, "hunter2") {
			t.Errorf("%v: exit %d, want %d\n%s", c.args, code, c.code, errs)
		}
	}
	if code, _, errs := words(t, "verify", "--data-dir", t.TempDir()); code != exitUsage ||
		!strings.Contains(errs, "migrate up") {
		t.Errorf("an empty database: %d %s", code, errs)
	}
}

// A broken invariant must end in exit code 4 and name the row, at most twenty of them and how many there are; a repair
// must be seen before it is done, and needs a reason.
func TestVerifyFindsABrokenBook(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	if _, err := a.db.Pool().ExecContext(t.Context(),
		"UPDATE skus SET available = available + 1 WHERE sku_id = '1001'"); err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		if _, err := a.db.Pool().ExecContext(t.Context(),
			"INSERT INTO refund_approvals (out_refund_no, approver, reason, at) VALUES (?, 'x', 'x', 1)",
			fmt.Sprint("ghost", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want []string
	}{
		{"verify", exitInvariant, []string{"sku_id=1001", "BROKEN  stock.conserved", "what is on the shelf is",
			"… and 5 more", "out_refund_no=ghost0"}},
		{"verify -o json", exitInvariant, []string{`"id": "refund.parts"`, `"count": 25`, `"meaning"`, `"violations"`}},
		{"verify --quiescent", exitInvariant, []string{"quiet.orders"}},
		{"verify --apply --reason x", exitUsage, nil},
		{"verify --repair --apply", exitUsage, nil},
		{"verify --repair", exitInvariant, []string{"BROKEN  stock.conserved", "1001  planned",
			"because which of them is right",
			"refund.parts (25): for a person", "nothing was changed"}},
		{"verify --repair -o json", exitInvariant, []string{`"applied": false`, `"next"`}},
		{"verify --repair --apply --reason restored", exitInvariant,
			[]string{"ok      stock.conserved", "1001  done", "refund.parts (25): for a person"}},
		{"verify --repair --apply --reason restored", exitInvariant,
			[]string{"there is nothing that a program can repair"}},
	} {
		code, out, errs := words(t, append(strings.Fields(c.args), "--data-dir", dir)...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not shown:\n%s%s", c.args, want, out, errs)
			}
		}
		if code != c.code {
			t.Errorf("%s: exit %d, want %d\n%s", c.args, code, c.code, errs)
		}
		if strings.Count(out, "out_refund_no=ghost") > 20 {
			t.Errorf("%s: more than twenty rows", c.args)
		}
	}
	var out, errs bytes.Buffer
	run(t.Context(), []string{"verify", "-o", "json", "--data-dir", dir},
		&terminal{In: strings.NewReader(""), Out: &out, Err: &errs, TTY: true})
	if !strings.Contains(errs.String(), "  schema.guards") || !json.Valid(out.Bytes()) {
		t.Errorf("a person at a terminal sees no progress, or a program no JSON: %q", errs.String())
	}
}

// Flag beats environment beats file beats default, and no secret is ever printed.
func TestConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "orderd.env")
	if err := os.WriteFile(file,
		[]byte("# comment\nORDERD_PAY_WITHIN=10m\nORDERD_SIM_ADDR=127.0.0.1:1\nORDERD_CLOSE_RATE=7\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("canary", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ORDERD_PAY_WITHIN", "ORDERD_CLOSE_RATE"} { // the file sets them in this process
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("ORDERD_SIM_ADDR", "127.0.0.1:2")
	t.Setenv("ORDERD_CUSTOMER_JWT_SECRET_FILE", secret)
	t.Setenv("ORDERD_DSN", "mysql:u:canarypass@tcp(h)/d")
	code, out, errs := words(t, "config", "print", "--config", file, "--pay-within", "5m")
	for _, want := range []string{"5m0s", "flag --pay-within", "127.0.0.1:2", "environment", "file " + file, "***",
		"default"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not shown (exit %d %s):\n%s", want, code, errs, out)
		}
	}
	if strings.Contains(out, "canary") {
		t.Errorf("a secret is printed:\n%s", out)
	}
	s := settings{AdminToken: "canary", DSN: "mysql:u:canary@tcp(h)/d", origins: map[string]string{}}
	js, err := json.Marshal(s)
	if all := fmt.Sprintf("%v %+v %#v %s %v", s, s, s, js, err); strings.Contains(all, "canary") {
		t.Error("a secret is formatted:", all)
	}
	// The real WeChat Pay limits how often it may be asked: no test's pace there.
	for _, args := range [][]string{{"--pace", "2", "--wechat-mchid", "1900000001"},
		{"--pace", "2", "--wechat-mchid", "1900000001", "--wechat-base-url", "https://api2.mch.weixin.qq.com"},
		{"--pace", "0"}, {"--pace", "21"}} {
		if code, _, errs := words(t, append([]string{"config", "print"}, args...)...); code != exitUsage ||
			!strings.Contains(errs, "ORDERD_PACE") {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := words(t, "config", "print"); code != exitUsage || !strings.Contains(errs, "chmod 600") {
		t.Errorf("a key that everybody can read: %d %s", code, errs)
	}
	if err := os.WriteFile(file, []byte("ORDERD_TYPO=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := words(t, "config", "print", "--config", file); code != exitUsage ||
		!strings.Contains(errs, "ORDERD_TYPO") {
		t.Errorf("an unknown setting: %d %s", code, errs)
	}
}

// A secret in a file that everybody on the machine can read is everybody's.
func TestSecretsInAnOpenFileAreRefused(t *testing.T) {
	for line, code := range map[string]int{
		"ORDERD_CUSTOMER_JWT_SECRET=" + strings.Repeat("canary", 8): exitUsage,
		"ORDERD_DSN=mysql:u:canary@tcp(h)/d":                        exitUsage, "ORDERD_SWEEP_EVERY=7s": exitOK,
	} {
		for mode, want := range map[os.FileMode]int{0o600: exitOK, 0o640: exitOK, 0o644: code} {
			name, _, _ := strings.Cut(line, "=")
			t.Setenv(name, "") // so that it is as before afterwards
			os.Unsetenv(name)
			file := filepath.Join(t.TempDir(), "orderd.env")
			if err := os.WriteFile(file, []byte(line+"\n"), mode); err != nil {
				t.Fatal(err)
			}
			got, out, errs := words(t, "config", "print", "--config", file)
			if got != want || strings.Contains(out+errs, "canary") ||
				(want != exitOK && !strings.Contains(errs, "chmod 600 "+file)) {
				t.Errorf("%s in a file of mode %o: %d, want %d: %s", name, mode, got, want, errs)
			}
		}
	}
}

// A stop in the middle of a burst must lose nothing that was acknowledged.
func TestStopLosesNothing(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	var mu sync.Mutex
	acked := map[string]bool{}
	token, err := orderhttp.MintToken([]byte(a.JWTSecret), "c1", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			req, err := http.NewRequest(http.MethodPost, "http://"+a.API+"/v1/orders",
				strings.NewReader(`{"items":[{"sku_id":"1001","quantity":1}]}`))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", fmt.Sprint("k", i))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return // refused after the stop: nothing was promised
			}
			defer res.Body.Close()
			var o struct {
				OrderNo string `json:"order_no"`
			}
			if res.StatusCode == http.StatusCreated && json.NewDecoder(res.Body).Decode(&o) == nil {
				mu.Lock()
				acked[o.OrderNo] = true
				mu.Unlock()
			}
		})
	}
	for { // stop in the middle, when the first are acknowledged
		mu.Lock()
		n := len(acked)
		mu.Unlock()
		if n > 0 {
			break
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	b := embedded(t, dir)
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	for no := range acked {
		if _, err := b.orders.Find(context.Background(), no); err != nil {
			t.Errorf("acknowledged and lost: %s %v", no, err)
		}
	}
}

// Without it the demo, which is the first thing a stranger runs, could be broken.
func TestDemo(t *testing.T) {
	code, out, errs := words(t, "demo", "--orders", "60", "--seed", "7", "--data-dir",
		filepath.Join(t.TempDir(), "demo"))
	if code != exitOK || !strings.Contains(out, "the books balance") || !strings.Contains(out, "oversold:") {
		t.Fatalf("exit %d\n%s%s", code, errs, out)
	}
}

// A password has any characters; what is shown of an address must have none of them.
func TestPasswordsAreMaskedWhole(t *testing.T) {
	for in, want := range map[string]string{
		"mysql:u:secret@tcp(h:3306)/d":   "mysql:u:***@tcp(h:3306)/d",
		"mysql:u:se:cr@et@tcp(h:3306)/d": "mysql:u:***@tcp(h:3306)/d",
		"mysql:u@unix(/run/s)/d":         "mysql:u@unix(/run/s)/d",
		"mysql:u::@tcp(h)/d":             "mysql:u:***@tcp(h)/d", "redis://:se:cret@h:6379/0": "redis://:***@h:6379/0",
		"rediss://u:s@e:c@h:6379/0":                             "rediss://u:***@h:6379/0",
		"redis://h:6379/0":                                      "redis://h:6379/0",
		"redis+cluster://u:se:cr@h1:1,h2:2":                     "redis+cluster://u:***@h1:1,h2:2",
		"redis+sentinel://:s@h1:1,h2:2/m/1?sentinel_password=s": "redis+sentinel://:***@h1:1,h2:2/m/1?***",
		"redis+sentinel://:s@h1:1/m?sentinel_password=a@b/c":    "redis+sentinel://:***@h1:1/m?***",
		"redis+sentinel://h1:1/m?sentinel_user=a@b/c:d":         "redis+sentinel://h1:1/m?***",
		"sqlite:/a@b:c/d":                                       "sqlite:/a@b:c/d", "": "",
		"redis://h:6379/0?password=secret": "redis://h:6379/0?***",
		"mysql:u:secret@tcp(h)/d?x=a@b":    "mysql:u:***@tcp(h)/d?***",
	} {
		if got := maskPassword(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}

// What spreads TiDB's tables is shown before anybody says yes, and is nothing for another server.
func TestMigratePartition(t *testing.T) {
	dsn, _ := sqldbtest.AsTiDB(t)
	sqldbtest.Open(t, dsn)
	const one = "ALTER TABLE stock_flows PARTITION BY KEY (order_no) PARTITIONS 16;"
	code, out, errs := words(t, "migrate", "--partition", "16", "--dry-run", "--dsn", dsn)
	if code != exitOK || !strings.Contains(out, one) || strings.Contains(errs, "done") {
		t.Errorf("dry run: exit %d: %s%s", code, out, errs)
	}
	code, out, errs = words(t, "migrate", "--partition", "16", "--dsn", dsn)
	if code != exitUsage || !strings.Contains(out, one) || !strings.Contains(errs, "--yes") {
		t.Errorf("nobody said yes: exit %d: %s%s", code, out, errs)
	}
	for want, args := range map[string][]string{
		"TiDB alone":          {"--partition", "16", "--yes", "--dsn", sqldbtest.MariaDBDSN(t)},
		"2 to 128, not 1":     {"--partition", "1", "--yes", "--dsn", dsn},
		"status or --partiti": {"--dsn", dsn},
	} {
		if code, _, errs := words(t, append([]string{"migrate"}, args...)...); code != exitUsage ||
			!strings.Contains(errs, want) {
			t.Errorf("%v: exit %d: %s", args, code, errs)
		}
	}
}
