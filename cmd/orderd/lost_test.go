package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// After a fail-over a person, or a script, asks what the old primary alone has: it is listed, and the code says that
// something is lost. A database that still takes orders is no old primary.
func TestVerifyListsWhatOnlyTheOtherHas(t *testing.T) {
	old, fresh := t.TempDir(), t.TempDir()
	if code, _, errs := words(t, "migrate", "up", "--data-dir", fresh); code != exitOK {
		t.Fatal(errs)
	}
	copyTo := func(dir string) {
		t.Helper()
		whole, err := os.ReadFile(filepath.Join(fresh, "orderd.db"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "orderd.db"), whole, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copyTo(old) // the replica that has heard nothing
	no, _ := oneOfEverything(t, old)
	dsn := "sqlite:" + filepath.Join(old, "orderd.db")
	code, out, errs := words(t, "verify", "--against", dsn, "--data-dir", fresh, "-o", "json")
	var v struct {
		Lost struct {
			Orders []struct {
				OrderNo string `json:"order_no"`
			}
			Payments []struct {
				OrderNo string `json:"order_no"`
			}
		} `json:"only_in_other"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitInvariant ||
		!strings.Contains(errs, "held adopt") {
		t.Fatalf("exit %d: %v: %s%s", code, err, out, errs)
	}
	paid := false
	for _, p := range v.Lost.Payments {
		paid = paid || p.OrderNo == no
	}
	if len(v.Lost.Orders) < 2 || !paid {
		t.Errorf("%s", out)
	}
	// The shop with one of everything has a row that is broken, too.
	_, out, errs = words(t, "verify", "--against", dsn, "--data-dir", old)
	if strings.Contains(errs, "held adopt") || !strings.Contains(out, "has 0 orders, 0 trades, 0 payments, 0 refunds") {
		t.Errorf("against itself: %s%s", out, errs)
	}
	stranger := t.TempDir()
	copyTo(stranger)
	inDatabase(t, stranger, "UPDATE goose_db_version SET tstamp = '2020-01-01 00:00:00'")
	for _, verb := range []string{"verify", "held adopt --yes --reason tried"} {
		code, out, errs := words(t, append(strings.Fields(verb), "--against", dsn, "--data-dir", stranger)...)
		if code != exitUsage || !strings.Contains(errs, "no copy") || out != "" {
			t.Errorf("%s: another shop's database: exit %d: %s%s", verb, code, out, errs)
		}
	}
	if code, _, errs = words(t, "held", "adopt", "--against", sqldbtest.MariaDBDSN(t), "--reason", "tried", "--yes",
		"--data-dir", fresh); code != exitUsage || !strings.Contains(errs, "takes writes") {
		t.Errorf("a database that takes writes: exit %d: %s", code, errs)
	}
}

// Who is asked whether money goes back must be told that it does.
func TestAdoptAsksWhatItDoes(t *testing.T) {
	for args, back := range map[string]bool{"": false, " --refund": true} {
		var out, asked bytes.Buffer
		run(t.Context(), strings.Fields("held adopt --against sqlite:/nowhere/a.db --reason tried --data-dir "+
			t.TempDir()+args), &terminal{In: strings.NewReader("n\n"), Out: &out, Err: &asked, Ask: true})
		if strings.Contains(asked.String(), "BACK") != back || !strings.Contains(asked.String(), "not done") {
			t.Errorf("held adopt%s asks %q", args, asked.String())
		}
	}
	for line, says := range map[string]string{
		"held adopt --against sqlite:/nowhere/a.db --refund":         "above 5000.00 yuan",
		"held resolve 420 --action REFUND":                           "above 5000.00 yuan",
		"refund approve 01X-R1 --refund-two-persons 12345":           "above 123.45 yuan",
		"refund by-hand 01X-R1 --refund-two-persons 0":               "one person is enough",
		"held resolve 420 --action REFUND --refund-two-persons 9900": "above 99.00 yuan"} {
		var out, asked bytes.Buffer
		run(t.Context(), append(strings.Fields(line), "--reason", "tried", "--data-dir", t.TempDir()),
			&terminal{In: strings.NewReader("n\n"), Out: &out, Err: &asked, Ask: true})
		if !strings.Contains(asked.String(), says) || !strings.Contains(asked.String(), "not done") {
			t.Errorf("%s asks %q, want %q", line, asked.String(), says)
		}
	}
}
