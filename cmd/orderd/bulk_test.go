package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/order/bulk"
	"orderd/payment/operators"
)

// At the shell the number has to be said too, a repeat with the run's id does nothing more, and the run is to be seen.
func TestBulkByVerbs(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, key := range []string{"k1", "k2"} {
		var o struct {
			OrderNo string `json:"order_no"`
		}
		if st := buy(t, a, "/v1/orders", key, map[string]any{"items": []any{map[string]any{"sku_id": "1001",
			"quantity": 1}}}, &o); st != http.StatusCreated {
			t.Fatal(st)
		}
	}
	verb := func(code int, line string) (out, errs string) {
		t.Helper()
		got, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...)
		if got != code {
			t.Errorf("%s: exit %d, want %d: %s%s", line, got, code, out, errs)
		}
		return out, errs
	}
	if out, _ := verb(exitOK, "bulk close --reason r --dry-run"); !strings.HasPrefix(out, "2, ") ||
		!strings.Contains(out, "--count 2 --seen ") {
		t.Errorf("%s", out)
	}
	var p console.BulkPreview
	if out, _ := verb(exitOK, "bulk close --reason r --dry-run -o json"); json.Unmarshal([]byte(out), &p) != nil {
		t.Errorf("%s", out)
	}
	seen := " --seen " + p.Seen
	verb(exitUsage, "bulk close --reason r --yes")
	verb(exitUsage, "bulk close --reason r --count 2")
	if _, errs := verb(exitUsage, "bulk close --reason r --yes --count 2"); !strings.Contains(errs, "--seen") {
		t.Errorf("%s", errs)
	}
	for more, says := range map[string]string{" --count 2 --seen x": "not the same",
		" --count 3" + seen: "it is 2 now"} {
		if _, errs := verb(exitFailed, "bulk close --reason r --yes"+more); !strings.Contains(errs, says) {
			t.Errorf("%s: %s", more, errs)
		}
	}
	id := bulk.NewID(a.began)
	var run console.BulkView
	for _, more := range []string{" --count 2" + seen, " --count 2" + seen, "", " --count 2"} {
		out, _ := verb(exitOK, "bulk close --reason r --yes -o json --id "+id+more)
		if err := json.Unmarshal([]byte(out), &run); err != nil || run.ID != id || run.Done != 2 ||
			run.State != bulk.StateDone {
			t.Fatalf("%+v, %v", run, err)
		}
	}
	verb(exitUsage, "bulk close --reason r --yes --count 2 --state pending --id "+id)
	verb(exitUsage, "bulk close --reason r --yes --count 2 --id one")
	if out, _ := verb(exitOK, "bulk show "+id); strings.Count(out, "done") != 3 {
		t.Errorf("%s", out)
	}
	if out, _ := verb(exitOK, "bulk list -o json"); strings.Count(out, id) != 1 {
		t.Errorf("%s", out)
	}
	verb(exitOK, "bulk stop "+id+" --reason r")
	if out, _ := verb(exitOK, "bulk resume "+id+" --reason r"); !strings.Contains(out, id) {
		t.Errorf("%s", out)
	}
	verb(exitFailed, "bulk resume none --reason r")
	verb(exitFailed, "bulk show none")
	verb(exitFailed, "bulk stop none --reason r")
}

// Refunds that together take two people go by two tokens at the shell too, as the error of the shell says, and whoever
// answers for the money hears that one of the two is new.
func TestBulkApproveByTwoTokens(t *testing.T) {
	dir := t.TempDir()
	a := embeddedWith(t, dir, slog.New(slog.DiscardHandler), func(s *settings) { s.TwoPersons = 20_000 })
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, key := range []string{"k1", "k2"} {
		refundAsked(t, a, key, 1)
	}
	verb := func(exit int, says, line string, more ...string) string {
		t.Helper()
		args := slices.Concat(strings.Fields(line), more, []string{"--data-dir", dir, "--sim-addr", a.sim.addr,
			"--notify-addr", a.Notify, "--refund-two-persons", "20000"})
		code, out, errs := words(t, args...)
		if code != exit || !strings.Contains(out+errs, says) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", line, code, exit, says, out, errs)
		}
		return out
	}
	token := func(name string, role operators.Role) []string {
		t.Helper()
		secret, err := a.tokens.Create(t.Context(), name, role, operators.Bootstrap)
		file := filepath.Join(t.TempDir(), "token")
		if err = firstErr(err, os.WriteFile(file, []byte(secret+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		return []string{"--token-file", file}
	}
	anna, bea := token("anna", operators.Finance), token("bea", operators.Finance)
	_, seen, _ := strings.Cut(verb(exitOK, "2, 298.00", "bulk approve --reason r --dry-run"), "\n--count 2 --seen ")
	id := bulk.NewID(a.began)
	approve := "bulk approve --reason r --yes --count 2 --id " + id + " --seen " + strings.TrimSpace(seen)
	verb(exitFailed, "--token-file", approve)
	verb(exitFailed, "ops is a operator, and this takes finance", approve, token("ops", operators.Operator)...)
	verb(exitOK, "'orderd bulk resume "+id+" --reason …', with a token of their own (--token-file)", approve, anna...)
	resume := "bulk resume " + id + " --reason r"
	verb(exitFailed, "--token-file", resume)
	verb(exitFailed, "somebody else of finance", resume, anna...)
	other := bulk.NewID(a.began.Add(time.Second)) // of the same refunds, for the service
	verb(exitOK, "stopped", strings.Replace(approve, id, other, 1), anna...)
	verb(exitOK, string(bulk.StateDone), resume, bea...)
	if run, err := a.bulk.Find(t.Context(), id); err != nil || run.Actor != "anna" || run.Note != "bea: r" ||
		run.Done != 2 {
		t.Errorf("%+v, %v", run, err)
	}
	if newPersons(t, a) {
		t.Error("an alarm before the service was asked")
	}
	if _, err := a.bulk.Resume(t.Context(), other, "bea", "r"); err != nil || !newPersons(t, a) {
		t.Errorf("a new person of two raised no alarm: %v", err)
	}
	verb(exitOK, other, "bulk stop "+other+" --reason r", bea...)
}

// newPersons reports that a service has counted an alarm of somebody new.
func newPersons(t *testing.T, a *app) bool {
	t.Helper()
	res, err := http.Get("http://" + a.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	_, after, found := strings.Cut(string(text), "orderd_alarms_total{kind=\"new_person\"} ")
	if err = firstErr(err, res.Body.Close()); err != nil || !found {
		t.Fatalf("%v: %.300s", err, text)
	}
	return !strings.HasPrefix(after, "0")
}
