package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Who opens a sale from the shell must read back what buyers will meet; a script reads it in the names of the API.
func TestGateVerbs(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir) // a verb beside a running service
	t.Cleanup(func() { _ = a.Close() })
	if _, _, err := a.stock.Put(t.Context(), stock.Put{SkuID: "ticket", Title: "Ticket", PriceFen: 100,
		Quantity: quantityOf(600)}); err != nil {
		t.Fatal(err)
	}
	run := func(want int, line string) string {
		t.Helper()
		code, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...)
		if code != want {
			t.Fatalf("%s: exit %d, want %d\n%s%s", line, code, want, out, errs)
		}
		return out
	}
	if out := run(exitOK, "stock gate ticket"); !strings.Contains(out, "has never had a gate") {
		t.Error(out)
	}
	run(exitUsage, "stock gate ticket --per-customer 2")
	run(exitUsage, "stock gate ticket --mode local --yes")
	run(exitUsage, "stock gate ticket --mode local --reason x") // nobody can be asked
	run(exitUsage, "stock gate ticket --mode fast --reason x --yes")
	run(exitUsage, "stock gate ticket --mode local --reason x --yes --opens-at tomorrow")
	run(exitFailed, "stock gate none --mode local --reason x --yes")

	opens := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	out := run(exitOK, "stock gate ticket --mode local --per-customer 2 --reason x --yes -o json --opens-at "+
		opens.Format(time.RFC3339))
	var shown struct {
		SkuID string           `json:"sku_id"`
		Gate  console.GateView `json:"gate"`
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.SkuID != "ticket" ||
		shown.Gate.PerCustomer != 2 || shown.Gate.OpensAt == nil ||
		!strings.HasPrefix(*shown.Gate.OpensAt, opens.Format("2006-01-02T15:04:05")) ||
		shown.Gate.Version != 1 {
		t.Errorf("%v: %s", err, out)
	}
	var all []console.SaleView
	if err := json.Unmarshal([]byte(run(exitOK, "stock gates -o json")), &all); err != nil || len(all) != 1 ||
		all[0].Pool+all[0].Allocated != 600 {
		t.Errorf("%v: %+v", err, all)
	}
	if out := run(exitOK, "doctor --sim-addr "+a.s.SimAddr); !strings.Contains(out, "1 flash sales") {
		t.Error(out)
	}
	run(exitOK, "stock gate ticket --mode off --reason over --yes")
	if out := run(exitOK, "stock gate ticket"); !strings.Contains(out, "over") || !strings.Contains(out, "version 2") {
		t.Error(out)
	}
	if out := run(exitOK, "stock gates -o json"); strings.TrimSpace(out) != "[]" {
		t.Error(out)
	}
}

// quantityOf is a first stock.
func quantityOf(n int64) *int64 { return &n }

// A process that served before it had read the gates sold from the pool what others waited for.
func TestServiceKnowsItsGatesBeforeItServes(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		a := embedded(t, dir)
		sku := fmt.Sprint("ticket", i)
		if i > 0 && !a.gate.Knows(fmt.Sprint("ticket", i-1)) {
			t.Error("it has read no gates")
		}
		_, _, err := a.stock.Put(t.Context(), stock.Put{SkuID: sku, Title: "Ticket", PriceFen: 100,
			Quantity: quantityOf(600)})
		if err == nil {
			_, err = a.stock.SetGate(t.Context(), stock.GateChange{SkuID: sku, Mode: stock.GateLocal, Actor: "cli:test",
				Reason: "a test"})
		}
		if err := errors.Join(err, a.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A gate that was set while the service runs has to be met by the next buyers, and a process that ends must leave no
// units behind.
func TestServiceKeepsAndGivesBack(t *testing.T) {
	a := embedded(t, t.TempDir())
	if _, _, err := a.stock.Put(t.Context(), stock.Put{SkuID: "ticket", Title: "Ticket", PriceFen: 100,
		Quantity: quantityOf(600)}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.Admin+"/admin/v1/skus/ticket/gate",
		strings.NewReader(`{"mode":"local","reason":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.StatusCode, err)
	}
	waitFor(t, "the gate to be known", func() bool { return a.gate.Knows("ticket") })
	n := 0
	waitFor(t, "this process to hold units", func() bool {
		n++
		buy(t, a, "/v1/orders", fmt.Sprint("k", n), map[string]any{"items": []any{map[string]any{"sku_id": "ticket",
			"quantity": 1}}}, nil)
		gates, err := a.stock.GateStocks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(gates) == 1 && len(gates[0].Buckets) == 1 && gates[0].Allocated() > 0
	})
	dsn := a.s.dsn()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	gates, err := stock.NewAdmin(db, time.Now).GateStocks(t.Context())
	if err != nil || len(gates) != 1 || len(gates[0].Buckets) != 0 {
		t.Errorf("%v: units are left with a process that has ended: %+v", err, gates)
	}
}
