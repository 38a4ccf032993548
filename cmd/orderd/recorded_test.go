package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb"
	"orderd/payment/trail"
)

// readVerbs are those that leave no row in the audit trail, and why.
var readVerbs = map[string]string{
	"serve": "what it does of itself has its own events", "demo": "a shop of its own, in memory",
	"sim": "no database", "trigger": "has the simulator send what WeChat Pay would send",
	"migrate up":     "the schema's own table has it; there may be no trail yet",
	"migrate down":   "the schema's own table has it; the trail itself may be dropped",
	"migrate parts":  "the tables themselves have it, and no row of theirs is another",
	"migrate status": "shows", "stock export": "shows", "stock show": "shows", "stock gates": "shows",
	"stock verify": "shows", "stock flows": "shows", "order get": "shows", "order list": "shows",
	"order timeline": "shows", "find": "shows", "held list": "shows", "payments held list": "shows",
	"refund list": "shows", "refund get": "shows", "shipment list": "shows", "shipment get": "shows",
	"webhook list": "shows", "webhook deliveries": "shows", "tasks due": "shows", "tasks dead list": "shows",
	"tasks dead groups": "shows", "bulk list": "shows", "bulk show": "shows",
	"reconcile list": "shows", "reconcile show": "shows", "reconcile diffs": "shows",
	"reconcile month": "shows", "reconcile difference": "shows", "reconcile work": "writes a file",
	"token list": "shows", "operator list": "shows", "doctor": "shows", "config print": "shows",
	"config check": "shows", "version": "shows", "audit list": "shows", "audit export": "shows",
	"audit verify": "reads a file",
	"listen":       "sends what happens to this machine and keeps nothing", "export": "files of this program",
	"completion bash": "shows", "completion zsh": "shows", "completion fish": "shows", "completion words": "shows",
}

// unkeptFlags are those of verbs that change something which do not stand in the trail, and why.
var unkeptFlags = map[string]string{
	"yes": "says nothing of what is done", "output": "says nothing of what is done", dryRun: "then nothing is done",
	"reason": "has a column", "file": "where it is written says nothing of it",
	"against":    "has a password",
	"token-file": "the file has a secret; its person is the actor", "card": "a bank card",
	"seen": "a digest of what was looked at; the count stands there",
	"url":  "of the console, for a link", "metrics": "says nothing of what is done", "help": "then nothing is done",
}

// A verb of the shell that nobody sees in the trail is the door by which a shop is changed unseen.
func TestEveryVerbIsInTheTrailOrChangesNothing(t *testing.T) {
	var r root
	parser, err := kong.New(&r, kong.PostBuild(putHelpTexts))
	if err != nil {
		t.Fatal(err)
	}
	seen, flags := map[string]bool{}, map[string]bool{}
	for _, n := range parser.Model.Leaves(false) {
		name := verbName(n)
		seen[name] = true
		if _, is := changes[name]; is == (readVerbs[name] != "") {
			t.Errorf("the verb %q: is it in changes, or in readVerbs with a reason?", name)
		}
		if _, is := changes[name]; !is {
			continue
		}
		values := slices.Clone(n.Positional)
		for _, f := range n.Flags {
			values = append(values, f.Value)
		}
		for i, v := range values {
			flags[v.Name] = true
			if i > 0 && slices.Contains(keptFlags, v.Name) == (unkeptFlags[v.Name] != "") {
				t.Errorf("%s %s: does it stand in the trail (keptFlags), or why not (unkeptFlags)?", name, v.Name)
			}
		}
		if need := changes[name].needs; need != "" && !flags[need] {
			t.Errorf("%s has no flag %s", name, need)
		}
	}
	for name := range changes {
		if !seen[name] {
			t.Errorf("there is no verb %q", name)
		}
		action := changes[name].action
		if slices.Contains(console.Actions(), action) == slices.Contains(shellOnly, action) {
			t.Errorf("%s: is %q the action of a route, or in shellOnly?", name, action)
		}
	}
	for _, name := range slices.Concat(keptFlags, targetFlags) {
		if !flags[name] {
			t.Errorf("no verb that changes something has a flag %s", name)
		}
	}
}

// trailOf gives the rows of the audit trail of a data directory, oldest first.
func trailOf(t *testing.T, dir string) (all []console.TrailView) {
	t.Helper()
	code, out, errs := words(t, "audit", "list", "--limit", "200", "-o", "json", "--data-dir", dir)
	if code != exitOK {
		t.Fatal(errs)
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err, out)
	}
	slices.Reverse(all)
	return all
}

// shopWithTrail is a data directory with a SKU, a failed task, and every name of the table of verbs; its trail is
// empty but for what made it.
func shopWithTrail(t *testing.T) (dir, file string, rows int) {
	t.Helper()
	dir, file = t.TempDir(), filepath.Join(t.TempDir(), "skus.csv")
	if err := os.WriteFile(file, []byte("sku_id,title,price_fen,quantity\nS,y,1,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"migrate up", "stock import " + file + " --yes"} {
		if code, _, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...); code != exitOK {
			t.Fatal(line, errs)
		}
	}
	failTask(t, dir)
	return dir, file, len(trailOf(t, dir))
}

// failTask adds a dead task.
func failTask(t *testing.T, dir string) {
	t.Helper()
	inDatabase(t, dir, `INSERT INTO failed_tasks
  (task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at)
VALUES ('order:expire', 'none', 'dead', 1, 'c', '', 1, 1, 0)`)
}

// inDatabase runs a statement in the database of a data directory.
func inDatabase(t *testing.T, dir, statement string) {
	t.Helper()
	s := &settings{DataDir: dir}
	if err := withDB(t.Context(), s, sqldb.OpenExisting, func(db *sqldb.DB) error {
		return db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, statement)
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// A verb that changes something and is written down afterwards, or not at all, is one that a crash hides.
func TestWhatAVerbChangesIsInTheTrail(t *testing.T) {
	dir, file, _ := shopWithTrail(t)
	for name, row := range changes {
		if slices.Contains([]string{"tasks dead run", "tasks dead discard"}, name) {
			inDatabase(t, dir, `DELETE FROM failed_tasks`)
			failTask(t, dir)
		}
		args := strings.Fields(name + " " + strings.ReplaceAll(verbs[name].args, "FILE", file))
		if row.needs == "yes" {
			args = append(args, "--yes")
		}
		if row.needs == "apply" {
			args = append(args, "--repair", "--apply", "--reason", "r")
		}
		if name == "stock rebuild" || name == "stock buckets" {
			inDatabase(t, dir, `DELETE FROM stock_gates`)
			if code, _, errs := words(t, "stock", "gate", "S", "--mode", "redis", "--buckets", "1", "--reason", "r",
				"--yes", "--data-dir", dir); code != exitOK {
				t.Fatal(errs)
			}
		}
		before := len(trailOf(t, dir))
		args = append(args, "--data-dir", dir, "--sim-addr", "127.0.0.1:1", "--log-format", "json")
		_, out, errs := words(t, args...)
		rows := trailOf(t, dir)[before:]
		if len(rows) != 2 || rows[0].Action != row.action || rows[0].Outcome != "" || rows[1].Act != rows[0].Act ||
			rows[1].Outcome == "" || rows[0].Actor != byWhom() || rows[1].Actor != byWhom() {
			t.Errorf("%v: %+v\n%s%s", args, rows, out, errs)
			continue
		}
		var line struct{ Msg, Action, Target, By, Reason, Outcome string }
		said := regexp.MustCompile(`(?m)^\{.*"msg":"act".*\}$`).FindAllString(errs, -1)
		target := rows[0].Target
		if name == "webhook add" { // its path and query may be a secret
			target = "https://x.example"
		}
		if len(said) != 1 || json.Unmarshal([]byte(said[0]), &line) != nil || line.Action != row.action ||
			line.Target != target || line.By != byWhom() || line.Reason != rows[0].Reason ||
			line.Outcome != rows[1].Outcome {
			t.Errorf("%v: the log has %q", args, said)
		}
		if strings.Contains(verbs[name].args, "--reason r") && rows[0].Reason != "r" {
			t.Errorf("%v: no reason in %+v", args, rows[0])
		}
	}
}

// The log goes to whoever collects logs: of an address that lets its bearer in it has no more than where it leads.
func TestTheLogOfAVerbHasNoSecret(t *testing.T) {
	dir, _, _ := shopWithTrail(t)
	for address, want := range map[string]string{
		"https://x.example:8443/hook/SECRET?access_token=SECRET#SECRET": "https://x.example:8443",
		"https://SECRET:SECRET@x.example/":                              "https://x.example",
		"x.example/hook?access_token=SECRET":                            "(address)",
		"https://user:SECRET/1@x.example/%zz":                           "(address)",
	} {
		_, _, errs := words(t, "webhook", "add", address, "--reason", "r", "--data-dir", dir, "--log-format", "json")
		said := regexp.MustCompile(`(?m)^\{.*"msg":"act".*\}$`).FindString(errs)
		if strings.Contains(said, "SECRET") || !strings.Contains(said, `"target":"`+want+`"`) {
			t.Errorf("%s: %s", address, said)
		}
	}
}

// Who only looks, or only asks what would be done, has done nothing: a trail full of that is read by nobody.
func TestWhatShowsLeavesNoRow(t *testing.T) {
	dir, file, was := shopWithTrail(t)
	lines := []string{"stock gate S", "stock buckets S", "stock import " + file + " --dry-run", "verify --repair",
		"reconcile import " + file,
		"stock buckets S --count 2 --reason r --dry-run", "tasks dead run --all", "tasks dead discard --all --reason r",
		"bulk close --reason r --dry-run",
		"order close NO --reason r", "token create --customer c", "stock replenish S 1 --key k --yes"}
	for name := range readVerbs {
		if !slices.Contains([]string{"serve", "demo", "sim", "listen", "trigger", "migrate up", "migrate down"}, name) {
			dir := t.TempDir()
			lines = append(lines, name+" "+strings.NewReplacer("DIR", dir, "FILE", file, "NEW",
				filepath.Join(dir, "new")).Replace(verbs[name].args))
		}
	}
	for _, line := range lines {
		_, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...)
		if rows := trailOf(t, dir); len(rows) != was {
			t.Fatalf("%s: %+v\n%s%s", line, rows[was:], out, errs)
		}
	}
}

// The trail has what was asked, by whom, and how it ended: a person by their token, a refusal with its code.
func TestTheTrailOfAVerbSaysWhoAndHow(t *testing.T) {
	dir, _, was := shopWithTrail(t)
	do := func(line string, more ...string) (code int, out string) {
		code, out, _ = words(t, append(append(strings.Fields(line), more...), "--data-dir", dir)...)
		return code, out
	}
	do("operator create li --role finance")
	_, secret := do("token create --person li")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	do("refund approve R --yes --no-restock --token-file "+file, "--reason", "他说的")
	_, _, errs := words(t, "token", "revoke", strings.TrimSpace(secret), "--yes", "--data-dir", dir, "--log-format",
		"json")
	if said, _, _ := strings.Cut(errs, "\n"); !strings.Contains(said, `"msg":"act"`) ||
		strings.Contains(said, strings.TrimSpace(secret)) {
		t.Errorf("the log of a secret in place of a name: %s", said)
	}
	do("stock adjust S --delta=-5 --reason r --key k --yes")
	do("stock adjust S --delta=-1 --reason r --key k2 --yes")
	var got []string
	for _, r := range trailOf(t, dir)[was:] {
		if r.Outcome == "" {
			got = append(got, strings.Join([]string{r.Action, r.Target, r.Reason, r.Asked}, " "))
		} else {
			got = append(got, strings.Join([]string{r.Actor, r.Outcome}, " "))
		}
		if strings.Contains(r.Asked+r.Target+r.Reason, file) ||
			strings.Contains(r.Asked+r.Target, strings.TrimSpace(secret)) {
			t.Errorf("a secret, or where it is, stands in the trail: %+v", r)
		}
	}
	want := []string{`person.create li  {"role":"finance"}`, byWhom() + " done",
		`token.create li  {"person":"li"}`, byWhom() + " done",
		`refund.approve R 他说的 {"restock":false}`, "li refused:EXIT_1",
		"token.revoke (secret)  ", byWhom() + " refused:EXIT_1",
		`stock.adjust S r {"delta":-5,"key":"k"}`, byWhom() + " failed:EXIT_1",
		`stock.adjust S r {"delta":-1,"key":"k2"}`, byWhom() + " done"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What cannot be written down is not done.
func TestAVerbThatCannotBeWrittenDownIsNotDone(t *testing.T) {
	dir, _, _ := shopWithTrail(t)
	inDatabase(t, dir, `ALTER TABLE trail RENAME TO gone`)
	for _, line := range []string{"operator create li", "stock gate S --mode local --reason r --yes",
		"tasks dead discard --all --yes --reason r"} {
		if code, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...); code == exitOK {
			t.Errorf("%s: %s%s", line, out, errs)
		}
	}
	for line, none := range map[string]string{"operator list -o json": "[]\n", "stock gates -o json": "[]\n"} {
		if _, out, _ := words(t, append(strings.Fields(line), "--data-dir", dir)...); out != none {
			t.Errorf("%s: %s", line, out)
		}
	}
	if _, out, _ := words(t, "tasks", "dead", "list", "-o", "json", "--data-dir", dir); !strings.Contains(out, "none") {
		t.Errorf("the task is gone: %s", out)
	}
}

// An export is the proof: each row with its hash, none missing, and nobody's file is written over.
func TestTheExportedTrailIsWhole(t *testing.T) {
	dir, _, _ := shopWithTrail(t)
	file := filepath.Join(t.TempDir(), "trail.csv")
	for _, line := range []string{"operator create li", "operator create wang", "audit export " + file} {
		if code, _, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...); code != exitOK {
			t.Fatal(line, errs)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	listed := trailOf(t, dir)
	if err != nil || len(rows) != len(listed)+1 || len(listed) < 6 {
		t.Fatalf("%d rows, %d listed, %v", len(rows), len(listed), err)
	}
	for i, r := range listed {
		if cells := rows[i+1]; cells[len(cells)-1] != r.SHA256 || cells[len(cells)-2] != r.Prev ||
			!slices.Contains(cells, r.Action) {
			t.Errorf("row %d: %v", i+1, cells)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	last := listed[len(listed)-1].SHA256
	verifies(t, file, exitOK, last)
	verifies(t, file, exitOK, last, "--last", last)
	verifies(t, file, exitOK, last, "--last", strings.ToUpper(listed[0].SHA256)) // of a day's proof: more came after it
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "short.csv")
	end := bytes.LastIndexByte(bytes.TrimSpace(text), '\n')
	if err := os.WriteFile(short, text[:end+1], 0o600); err != nil {
		t.Fatal(err)
	}
	verifies(t, short, exitInvariant, "its end is missing", "--last", last)
	forged := filepath.Join(t.TempDir(), "forged.csv")
	if err := os.WriteFile(forged, bytes.Replace(text, []byte("wang"), []byte("wong"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	verifies(t, forged, exitInvariant, "why=the row was changed")
	verifies(t, os.Args[0], exitUsage, "no file of the audit trail")
	code, _, errs := words(t, "audit", "export", file, "--data-dir", dir)
	if now, err := os.Stat(file); code != exitUsage || err != nil || now.Size() == 0 {
		t.Errorf("the file was written over: exit %d, %s %v", code, errs, err)
	}
	_, out, _ := words(t, "audit", "list", "--target", "li", "--action", "person.create", "--actor", byWhom(),
		"--from", "2020-01-02T03:04:05Z", "--data-dir", dir)
	if strings.Count(out, "person.create") != 2 || !strings.Contains(out, trail.Done) || strings.Contains(out, "wang") {
		t.Errorf("%s", out)
	}
}

// verifies runs audit verify, which needs no database.
func verifies(t *testing.T, file string, code int, says string, flags ...string) {
	t.Helper()
	got, out, errs := words(t, append([]string{"audit", "verify", file}, flags...)...)
	if got != code || !strings.Contains(out+errs, says) {
		t.Errorf("audit verify %s %v: exit %d, want %d with %q\n%s%s", file, flags, got, code, says, out, errs)
	}
}

// Who makes people, tokens and keys at the machine is in the same trail as who does it in the console, refused or not,
// and no secret is.
func TestWhatIsDoneAboutPeopleAtTheMachineIsInTheTrail(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	var secrets []string
	expected := []string{}
	for _, c := range []struct {
		args, row string
		code      int
	}{
		{"operator create anna --role finance", "person.create anna", exitOK},
		{"operator create anna --role finance", "person.create anna", exitFailed},
		{"operator role anna --role viewer --yes", "person.role anna", exitOK},
		{"operator link anna", "person.link anna", exitOK},
		{"token create --person anna --label laptop", "token.create anna", exitOK},
		{"token create --operator bea", "token.create bea", exitOK},
		{"token revoke anna:laptop --yes", "token.revoke anna:laptop", exitOK},
		{"token create --shop web --scopes read", "shopkey.create web", exitOK},
		{"token revoke web/1 --yes", "shopkey.revoke web/1", exitOK},
		{"operator disable anna --yes", "person.disable anna", exitOK},
		{"operator disable anna --yes", "person.disable anna", exitFailed},
	} {
		code, out, errs := words(t, append(strings.Fields(c.args), "--data-dir", dir)...)
		if code != c.code {
			t.Fatalf("%s: exit %d: %s", c.args, code, errs)
		}
		if out = strings.TrimSpace(out); out != "" {
			secrets = append(secrets, out[strings.LastIndexByte(out, '=')+1:])
		}
		end := " done"
		if code != exitOK {
			end = " refused:EXIT_1"
		}
		expected = append(expected, c.row, c.row+end)
	}
	var got []string
	err := trail.New(a.db, time.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		if e.Actor != byWhom() {
			t.Errorf("row %d is of %s", e.Seq, e.Actor)
		}
		for _, secret := range secrets {
			if strings.Contains(e.Asked+e.Target+e.Was+e.Became, secret) {
				t.Errorf("row %d has a secret", e.Seq)
			}
		}
		got = append(got, strings.TrimSpace(e.Action+" "+e.Target+" "+e.Outcome))
		return nil
	})
	if err != nil || len(secrets) != 4 || !slices.Equal(got, expected) {
		t.Errorf("%v, %d secrets, the trail has\n%s\nwant\n%s", err, len(secrets), strings.Join(got, "\n"),
			strings.Join(expected, "\n"))
	}
}
