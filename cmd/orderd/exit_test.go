package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/scheduler"
	"orderd/stock"
)

// verbs is every verb with arguments that it takes, and what it needs: a verb that is not here fails the test.
var verbs = map[string]struct {
	args  string
	needs string // db, or "" for a verb that asks nothing
}{
	"serve": {"", "db"}, "demo": {"", ""}, "sim": {"", ""}, "trigger": {"payment.success NO", "db"},
	"migrate up": {"", "db"}, "migrate down": {"--yes", "db"}, "migrate status": {"", "db"},
	"migrate parts": {"--partition 16 --yes", "db"},
	"stock import":  {"FILE --yes", "db"}, "stock export": {"", "db"}, "stock show": {"", "db"},
	"stock replenish": {"S 1 --reason r --key k --yes", "db"},
	"stock adjust":    {"S --delta=1 --reason r --key k --yes", "db"}, "stock low": {"S --at 1", "db"},
	"stock gate": {"S --mode local --reason r --yes", "db"}, "stock gates": {"", "db"},
	"stock buckets": {"S --count 2 --reason r --yes", "db"}, "stock rebuild": {"S --reason r --yes", "db"},
	"stock verify": {"", "db"}, "stock flows": {"S", "db"}, "find": {"NO", "db"},
	"order get": {"NO", "db"}, "order list": {"", "db"}, "order timeline": {"NO", "db"},
	"order close": {"NO --reason r --yes", "db"}, "order sync": {"NO", "db"},
	"order vouch": {"NO --reason r --yes", "db"},
	"held list":   {"", "db"}, "held resolve": {"T --action REFUND --reason r --yes", "db"},
	"held adopt":         {"--against sqlite:/nowhere/a.db --reason a-reason-that-is-long --yes", "db"},
	"payments held list": {"", "db"}, "payments held judge-again": {"T --reason r --yes", "db"},
	"refund list": {"", "db"}, "refund get": {"R", "db"}, "refund ask": {"NO --reason r --yes", "db"},
	"refund approve": {"R --reason r --yes", "db"}, "refund reject": {"R --reason r --yes", "db"},
	"refund retry": {"R --reason r --yes", "db"}, "refund cancel": {"R --reason r --yes", "db"},
	"refund by-hand": {"R --reason r --yes", "db"}, "refund to-card": {"R --reason r --yes", "db"},
	"shipment list": {"--shipping-app-secret s", "db"}, "shipment get": {"NO --shipping-app-secret s", "db"},
	"shipment send": {"NO --parcel SF:1:x:1****1234 --shipping-app-secret s", "db"},
	"tasks due":     {"", "db"}, "tasks dead list": {"", "db"}, "tasks dead groups": {"", "db"},
	"tasks dead run": {"--all --yes", "db"},
	"bulk ask":       {"--reason r --yes", "db"}, "bulk close": {"--reason r --yes", "db"},
	"bulk approve": {"--reason r --yes", "db"}, "bulk stop": {"RUN --reason r", "db"},
	"bulk resume": {"RUN --reason r", "db"},
	"bulk list":   {"", "db"}, "bulk show": {"RUN", "db"},
	"tasks dead discard": {"--all --yes --reason r", "db"},
	"reconcile run":      {"", "db"}, "reconcile list": {"", "db"}, "reconcile show": {"today", "db"},
	"reconcile diffs": {"", "db"}, "reconcile resolve": {"D --action REFUND --reason r --yes", "db"},
	"reconcile confirm": {"today SHA --reason r --yes", "db"}, "reconcile bill": {"today", "db"},
	"reconcile month": {"", "db"}, "reconcile close": {"2026-11-20 --reason r --yes", "db"},
	"reconcile difference": {"D", "db"}, "reconcile assign": {"D --to li", "db"},
	"reconcile comment": {"D text", "db"}, "reconcile work": {"NEW", "db"}, "reconcile import": {"FILE", "db"},
	"reconcile pack": {"2026-11-20 --file NEW", "db"},
	"token create":   {"--operator li", "db"}, "token list": {"", "db"}, "token revoke": {"li --yes", "db"},
	"operator create": {"li", "db"}, "operator list": {"", "db"}, "operator role": {"li --role viewer --yes", "db"},
	"operator disable": {"li --yes", "db"}, "operator link": {"li", "db"},
	"webhook add": {"https://x.example/ --reason r", "db"}, "webhook list": {"", "db"},
	"webhook deliveries": {"W", "db"}, "webhook test": {"W", "db"},
	"webhook redeliver": {"W --event 1 --reason r --yes", "db"}, "webhook rotate": {"W --reason r --yes", "db"},
	"webhook enable": {"W --reason r", "db"}, "webhook disable": {"W --reason r --yes", "db"},
	"webhook remove": {"W --reason r --yes", "db"},
	"listen":         {"--forward-to http://127.0.0.1:1/", "db"},
	"verify":         {"", "db"}, "doctor": {"", "db"},
	"config print": {"", ""}, "config check": {"", ""}, "version": {"", ""},
	"audit list": {"", "db"}, "audit export": {"DIR/trail.csv", "db"},
	"audit verify":    {"FILE", ""},
	"completion bash": {"", ""}, "completion zsh": {"", ""}, "completion fish": {"", ""},
	"export": {"alerts DIR", ""}, "completion words": {"-- serve", ""},
}

// leaves are the verbs that kong knows.
func leaves(t *testing.T) (all []string) {
	t.Helper()
	var r root
	parser, err := kong.New(&r, kong.PostBuild(putHelpTexts))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(false) {
		all = append(all, strings.TrimPrefix(n.Path(), parser.Model.Name+" "))
	}
	return all
}

// A job that runs a verb decides by its code whether to come again (5), to call the person who configured it (2) or the
// one who looks after the shop. The wrong code of one verb is a job that retries a typing mistake all night.
func TestEveryVerbHasTheCodeOfWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "skus.csv")
	if err := os.WriteFile(file, []byte("sku_id,title,price_fen,quantity\nS,y,1,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range leaves(t) {
		v, known := verbs[name]
		if !known {
			name, _, _ = strings.Cut(name, " <")
			v, known = verbs[strings.TrimSpace(name)]
		}
		if !known {
			t.Errorf("the verb %q is not in the table of this test", name)
			continue
		}
		if v.needs != "db" {
			continue
		}
		args := append(strings.Fields(name), strings.Fields(strings.ReplaceAll(v.args, "FILE", file))...)
		for dsn, want := range map[string]int{"postgres://x": exitUsage, "mysql:u:p@tcp(127.0.0.1:1)/d": exitDown,
			"sqlite:" + filepath.Join(dir, "none.db"): exitUsage} {
			if name == "serve" && strings.HasPrefix(dsn, "postgres") || want == exitUsage && name == "migrate up" &&
				strings.HasPrefix(dsn, "sqlite") {
				continue // it makes the database
			}
			code, out, errs := words(t, append(slices.Clone(args), "--dsn", dsn, "--data-dir", filepath.Join(dir, "d"),
				"--api-addr", "127.0.0.1:0", "--notify-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
				"--sim-addr", "127.0.0.1:0")...)
			if code != want {
				t.Errorf("%v with %s: exit %d, want %d\n%s%s", args, dsn, code, want, out, errs)
			}
		}
	}
}

// A setting that cannot be used is the configuration's, whichever part finds it.
func TestAWrongSettingIsExit2(t *testing.T) {
	merchant := []string{"--wechat-mchid", "1900000001", "--wechat-appid", "wx1", "--wechat-serial-no", "AAAAAAAAAA",
		"--wechat-private-key", "x", "--wechat-apiv3-key", "x", "--wechat-notify-url", "https://x/y"}
	dir := t.TempDir()
	if code, _, errs := words(t, "migrate", "up", "--data-dir", dir); code != exitOK {
		t.Fatal(errs)
	}
	for _, args := range [][]string{
		append([]string{"order", "list"}, merchant...), append([]string{"serve"}, merchant...),
		append([]string{"config", "check"}, merchant...),
		{"serve", "--redis", "red://x"}, {"serve", "--customer-jwt-secret", "short"},
		{"serve", "--customer-jwt-public-key", "x"},
		{"token", "create", "--customer", "c", "--data-dir", filepath.Join(dir, "none")},
	} {
		code, out, errs := words(t, append(append([]string{args[0], "--data-dir", dir}, args[1:]...),
			"--api-addr", "127.0.0.1:0", "--notify-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
			"--sim-addr", "127.0.0.1:0")...)
		if code != exitUsage {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

// An error that is wrapped on its way up keeps its code.
func TestTheTableOfExitCodes(t *testing.T) {
	call := func(k payment.Kind) error {
		return fmt.Errorf("do: %w", &payment.GatewayError{Op: "query", Kind: k})
	}
	for want, all := range map[int][]error{
		exitOK:     {nil},
		exitFailed: {errors.New("x"), call(payment.KindRejected)},
		exitUsage: {errUsage, misconfigured(errors.New("x")), sqldb.ErrDSN, scheduler.ErrRedisURL,
			call(payment.KindMisconfigured), fmt.Errorf("x: %w", bounds.ErrCursor),
			&order.ValidationError{Fields: []order.FieldError{{}}}, &stock.InvalidError{Problems: []string{"x"}},
			&shipping.InvalidError{}},
		exitOpen:      {errOpen},
		exitInvariant: {errBroken},
		exitDown: {errDown, sqldb.ErrUnavailable, sqldb.ErrLocked, sqldb.ErrUnknown, sqldb.ErrLostRace,
			payment.ErrBillNotReady, fmt.Errorf("x: %w", payment.ErrBillDamaged), reconcile.ErrRunning,
			call(payment.KindUnknown),
			call(payment.KindRateLimited), call(payment.KindUserPaying)},
	} {
		for _, err := range all {
			if got := exitCode(err); got != want {
				t.Errorf("%v: %d, want %d", err, got, want)
			}
		}
	}
}

// A verb in the wrong folder must say so. One that makes a database there answers for an empty shop, and the next
// person finds two.
func TestAVerbInTheWrongFolderMakesNothing(t *testing.T) {
	for _, name := range leaves(t) {
		name, _, _ = strings.Cut(name, " <")
		v := verbs[strings.TrimSpace(name)]
		if slices.Contains([]string{"serve", "demo", "sim", "migrate up"}, name) {
			continue // they make it
		}
		work := t.TempDir()
		file := filepath.Join(t.TempDir(), "skus.csv")
		if err := os.WriteFile(file, []byte("sku_id,title,price_fen,quantity\nS,y,1,1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		v.args = strings.NewReplacer("FILE", file, "DIR", t.TempDir()).Replace(v.args)
		args := append(strings.Fields(name), strings.Fields(v.args)...)
		code, out, errs := words(t, append(args, "--data-dir", filepath.Join(work, "data"))...)
		if v.needs == "db" && (code != exitUsage || !strings.Contains(out+errs, "there is no database at") ||
			!strings.Contains(out+errs, "orderd serve")) {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
		if made := filesIn(t, work); len(made) > 0 {
			t.Errorf("%s made %v", name, made)
		}
	}
	work := t.TempDir()
	code, _, errs := words(t, "token", "create", "--customer", "c", "--data-dir", filepath.Join(work, "data"))
	if code != exitUsage || !strings.Contains(errs, "orderd serve") || len(filesIn(t, work)) > 0 {
		t.Errorf("a customer's token: exit %d, %v\n%s", code, filesIn(t, work), errs)
	}
}

// filesIn are all files and folders below a folder.
func filesIn(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			all = append(all, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// Who bought what, and every secret, is in the data directory: no file of it may be read by others, also one that an
// earlier program made.
func TestFilesOfTheDataDirectoryAreTheOwners(t *testing.T) {
	dir := t.TempDir()
	// As an earlier program made it.
	if err := os.WriteFile(filepath.Join(dir, "orderd.db"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a := embedded(t, dir)
	var seen int
	for _, path := range filesIn(t, dir) {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.IsDir() {
			continue
		}
		seen++
		if st.Mode().Perm()&0o007 != 0 || st.Mode().Perm()&0o070 != 0 && filepath.Base(path) != "orderd.db" &&
			!strings.HasPrefix(filepath.Base(path), "orderd.db-") {
			t.Errorf("%s: %s", path, st.Mode())
		}
	}
	if err := a.Close(); err != nil || seen < 5 {
		t.Errorf("%d files, %v", seen, err)
	}
	fresh := t.TempDir()
	if code, _, errs := words(t, "migrate", "up", "--data-dir", fresh); code != exitOK {
		t.Fatal(errs)
	}
	if st, err := os.Stat(filepath.Join(fresh, "orderd.db")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
}

// A word that is none shows nothing, and a daily job reads exit 0 as "no difference is open".
func TestFiltersOfVerbsAreStrict(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := words(t, "migrate", "up", "--data-dir", dir); code != exitOK {
		t.Fatal(errs)
	}
	for _, line := range []string{"reconcile diffs --status open", "reconcile diffs --status WRONG",
		"reconcile list --limit 0", "reconcile list --limit=-5", "order list --limit 0", "order list --limit 201",
		"order list --cursor garbage", "order list --state PAID", "refund list --limit 0", "refund list --cursor ü",
		"refund list --state x", "payments held list --limit 0", "payments held list --cursor ü",
		"tasks dead list --limit 0", "audit list --limit 0",
		"audit list --cursor x", "tasks dead list --cursor x", "shipment list --limit 0 --shipping-app-secret s",
		"shipment list --cursor x --shipping-app-secret s", "shipment list --state x --shipping-app-secret s",
		"stock replenish mug 0 --reason x --key k --yes", "stock adjust mug --delta 1 --reason x --key ü --yes"} {
		code, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...)
		if code != exitUsage {
			t.Errorf("%s: exit %d\n%s%s", line, code, out, errs)
		}
	}
}
