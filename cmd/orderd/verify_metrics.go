package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orderd/order/audit"
)

// sortedKeys gives the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// writeMetrics writes the result of a verification in the text format of Prometheus, for the
// textfile collector of its node exporter: no process that is scraped knows it. The file is
// there whole or as it was before, and everybody may read it.
func writeMetrics(file string, r audit.Report, at time.Time) error {
	broken := map[string]int{} // by area: each is there, also with 0
	for _, c := range r.Checks {
		area, _, _ := strings.Cut(c.ID, ".")
		broken[area] += c.Count
	}
	var b strings.Builder
	b.WriteString("# HELP orderd_verify_violations Rows that break an invariant, at the last orderd verify.\n" +
		"# TYPE orderd_verify_violations gauge\n")
	for _, area := range sortedKeys(broken) {
		fmt.Fprintf(&b, "orderd_verify_violations{area=%q} %d\n", area, broken[area])
	}
	fmt.Fprintf(&b, "# HELP orderd_verify_timestamp_seconds When orderd verify ended last.\n"+
		"# TYPE orderd_verify_timestamp_seconds gauge\norderd_verify_timestamp_seconds %d\n", at.Unix())
	f, err := os.CreateTemp(filepath.Dir(file), ".orderd-*")
	if err != nil {
		return fmt.Errorf("--metrics: %w", err)
	}
	_, err = f.WriteString(b.String())
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("--metrics: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
