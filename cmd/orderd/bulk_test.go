package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"orderd/cmd/orderd/console"
	"orderd/order/bulk"
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
