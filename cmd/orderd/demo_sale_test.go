package main

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"orderd/cmd/screen"
	"orderd/stock"
)

// saleSaid are the lines of a sale that is exact: a thousand buyers, a hundred tickets.
var saleSaid = []string{`buyers: +1000\n`, `tickets: +100\n`, `\nsold: +100\n`,
	`set aside in Redis: +[1-9]`, `Redis lost everything, in the middle: +1\n`, `buyers told sold out: +900\n`,
	`from memory, no statement: +[1-9]`, `with a ticket in hand, told of it: +100\n`, `oversold: +0\n`,
	`left in the pool: +0\n`, `\(allocated\): +0\n`, `every ticket was sold once\n`}

// wantSale fails the test unless these are there.
func wantSale(t *testing.T, out string) {
	t.Helper()
	for _, line := range saleSaid {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("nothing like %q in\n%s", line, out)
		}
	}
}

// The sale that a stranger is shown would be one that is not exact, or that nobody was refused in from memory.
func TestDemoSale(t *testing.T) {
	code, out, errs := words(t, "demo", "--sale", "--data-dir", filepath.Join(t.TempDir(), "demo"))
	if code != exitOK {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	wantSale(t, out)
}

// Over several processes a unit could be sold by two of them, or stay in one that sells no more.
func TestDemoSaleOverProcesses(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), buildService(t), "demo", "--sale", "--processes", "3", "--data-dir",
		filepath.Join(t.TempDir(), "demo"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &errs, &out)
	}
	wantSale(t, out.String())
}

// A sale that is not exact must not end with 0: the table would be believed.
func TestDemoSaleThatIsNotExact(t *testing.T) {
	a := embedded(t, t.TempDir())
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	units := int64(2)
	put := stock.Put{SkuID: saleSKU, Title: "x", PriceFen: 1, Quantity: &units}
	if _, _, err := a.stock.Put(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	to := &terminal{Out: io.Discard, Err: io.Discard}
	for _, c := range []struct {
		why           string
		n             int
		sold, soldOut int64
	}{{"two tickets are left", 4, 0, 4}, {"two were told of orders that are not there", 4, 2, 2}} {
		s := &saleCrowd{n: c.n, line: screen.NewProgress(io.Discard, false)}
		s.sold.Store(c.sold)
		s.soldOut.Store(c.soldOut)
		err := (demoCmd{Processes: 1}).judgeSale(t.Context(), a, s, units, saleCounts{memory: 1, redis: 1}, to)
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	var counts saleCounts
	counts.add(`orderd_gate_decisions_total{code="sold_out",mode="local"} 7
orderd_gate_decisions_total{code="taken",mode="local"} 9
orderd_gate_decisions_total{code="taken",mode="redis"} 1e+06
`)
	if want := (saleCounts{memory: 7, redis: 1_000_000}); counts != want {
		t.Errorf("%+v is counted, not %+v", counts, want)
	}
}
