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
	if out, _ := verb(exitOK, "bulk close --reason r --dry-run"); !strings.HasPrefix(out, "2, ") {
		t.Errorf("%s", out)
	}
	verb(exitUsage, "bulk close --reason r --yes")
	verb(exitUsage, "bulk close --reason r --count 2")
	if _, errs := verb(exitFailed, "bulk close --reason r --yes --count 3"); !strings.Contains(errs, "it is 2 now") {
		t.Errorf("%s", errs)
	}
	id := bulk.NewID(a.began)
	var run console.BulkView
	for range 2 {
		out, _ := verb(exitOK, "bulk close --reason r --yes --count 2 -o json --id "+id)
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
	verb(exitFailed, "bulk show none")
	verb(exitFailed, "bulk stop none --reason r")
}
