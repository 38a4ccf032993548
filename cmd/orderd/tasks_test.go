package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/scheduler"
)

// An operator on a shell must see what failed, be told how much a word means before it does anything, and then get
// exactly that.
func TestTasksVerbs(t *testing.T) {
	dsn, dir := "sqlite:"+filepath.Join(t.TempDir(), "orderd.db"), t.TempDir()
	failures := scheduler.NewDeadLetters(sqldbtest.Open(t, dsn), time.Now)
	failed := []scheduler.Failure{
		{Type: scheduler.TypeRefund, Key: "refund1", Cause: errors.New("an odd row")},
		{Type: scheduler.TypeExpire, Key: "t1", Cause: errors.New("unusable task"), Payload: []byte("\xff\x1b[2J"),
			Poison: true}}
	for i := range 100 {
		failed = append(failed, scheduler.Failure{Type: scheduler.TypeExpire, Key: fmt.Sprintf("o%03d", i),
			Cause: errors.New("a damaged book"), Poison: true})
	}
	if _, err := failures.Record(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	verb := func(exit int, says string, args ...string) string {
		t.Helper()
		code, out, errs := words(t, append(append([]string{"tasks"}, args...), "--dsn", dsn, "--data-dir", dir,
			"--sim-addr", "127.0.0.1:1")...)
		if code != exit || !strings.Contains(out+errs, says) || strings.Contains(out+errs, "\x1b") {
			t.Errorf("%v: exit %d, want %d with %q\n%s%s", args, code, exit, says, out, errs)
		}
		return out
	}
	count := func(failing, dead int) {
		t.Helper()
		if f, d, err := failures.Count(t.Context()); f != failing || d != dead || err != nil {
			t.Errorf("%d failing, %d dead, want %d and %d; %v", f, d, failing, dead, err)
		}
	}

	verb(exitOK, `"\xff\x1b[2J"`, "dead", "list")
	verb(exitOK, "--cursor ", "dead", "list", "--limit", "2")
	verb(exitUsage, "cursor", "dead", "list", "--cursor", "x")
	verb(exitOK, "order:expire~o007", "dead", "list", "--type", "order:expire", "--cause", "damaged", "--limit", "200",
		"--before", "2100-01-02T15:04:05Z")
	var list []scheduler.FailedTask
	if err := json.Unmarshal([]byte(verb(exitOK, "", "dead", "list", "--state", "failing", "-o", "json")),
		&list); err != nil || len(list) != 1 || list[0].OutRefundNo != "refund1" {
		t.Errorf("%+v %v", list, err)
	}
	if out := verb(exitOK, "", "dead", "list", "--after", "2100-01-02T15:04:05Z", "-o", "json"); out != "[]\n" {
		t.Error(out)
	}

	for _, act := range [][]string{{"run"}, {"discard", "--reason", "gone"}} {
		args := func(more ...string) []string { return append(append([]string{"dead"}, act...), more...) }
		verb(exitUsage, "--all", args("--yes")...)
		verb(exitUsage, "not both", args("--yes", "--all", "order:expire~o001")...)
		verb(exitUsage, "is no id", args("--yes", "o001")...)
		verb(exitFailed, "tasks dead list", args("--yes", "order:expire~none")...)
		verb(exitUsage, "add --yes", args("order:expire~o001")...)
		verb(exitUsage, "101 failed task(s) match", args("--all")...)
		verb(exitUsage, "order:expire~o099", args("--cause", "damaged")...)
		verb(exitOK, "0 matched", args("--cause", "nothing of the kind")...)
	}
	verb(exitUsage, "--reason", "dead", "discard", "--all", "--yes")
	count(1, 101)
	verb(exitOK, "1 matched, 1 done", "dead", "run", "order:expire~o001", "--yes")
	count(2, 100)
	if out := verb(exitOK, "", "dead", "run", "--cause", "damaged", "--yes", "-o", "json"); !strings.Contains(out,
		`"matched": 99`) || !strings.Contains(out, `"done": 99`) {
		t.Error(out)
	}
	count(101, 1)
	verb(exitOK, "discarded 1 failed task(s): gone", "dead", "discard", "--all", "--yes", "--reason", "gone")
	count(101, 0)

	verb(exitOK, "MINUTE", "due")
	verb(exitUsage, "24h", "due", "--horizon", "25h")
	if out := verb(exitOK, "", "due", "-o", "json"); out != "[]\n" {
		t.Error(out)
	}
}
