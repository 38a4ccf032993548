package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// After a fail-over a person, or a script, asks what the old primary alone has: it is listed, and the code says that
// something is lost. A database that still takes orders is no old primary.
func TestVerifyListsWhatOnlyTheOtherHas(t *testing.T) {
	old, fresh := t.TempDir(), t.TempDir()
	no, _ := oneOfEverything(t, old)
	if code, _, errs := words(t, "migrate", "up", "--data-dir", fresh); code != exitOK {
		t.Fatal(errs)
	}
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
	if code, _, errs = words(t, "held", "adopt", "--against", sqldbtest.MariaDBDSN(t), "--reason", "tried", "--yes",
		"--data-dir", fresh); code != exitUsage || !strings.Contains(errs, "takes writes") {
		t.Errorf("a database that takes writes: exit %d: %s", code, errs)
	}
}
