package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"orderd/order/audit"
)

// kinds are what can be exported.
var kinds = []string{"alerts", "grafana", "systemd", "compose", "k8s", "openapi"}

// A file that somebody has worked in must not be gone after an update of the program.
func TestExportOverwritesNobodysWork(t *testing.T) {
	for _, kind := range kinds {
		dir := filepath.Join(t.TempDir(), "new", kind)
		for range 2 { // the same again is no change
			if code, _, errs := words(t, "export", kind, dir); code != exitOK || !strings.Contains(errs, "wrote ") {
				t.Fatalf("%s: %d %s", kind, code, errs)
			}
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) == 0 {
			t.Fatal(kind, err)
		}
		mine := filepath.Join(dir, files[0].Name())
		if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := words(t, "export", kind, dir); code != exitUsage || !strings.Contains(errs, mine) {
			t.Errorf("%s: %d %s", kind, code, errs)
		}
		if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" {
			t.Errorf("%s: %s %v", kind, text, err)
		}
		if code, _, _ := words(t, "export", kind, dir, "--force"); code != exitOK {
			t.Errorf("%s: --force: %d", kind, code)
		}
	}
}

// tool runs a program that the exported files are for. Without it the test is skipped, or fails where all is required.
func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("ORDERD_TEST_REQUIRE") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
}

// ruleFile is a file of alerts.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

// strict reads YAML documents into values that next makes; what it does not know is an error.
func strict(t *testing.T, name string, text []byte, next func(kind string) any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(text))
	for i := 0; ; i++ {
		var node yaml.Node
		err := d.Decode(&node)
		if errors.Is(err, io.EOF) {
			return
		}
		var head struct {
			Kind string `yaml:"kind"`
		}
		if err == nil {
			err = node.Decode(&head)
		}
		raw, again := yaml.Marshal(&node)
		if err = errors.Join(err, again); err != nil {
			t.Fatalf("%s, document %d: %v", name, i, err)
		}
		into := next(head.Kind)
		if into == nil {
			t.Errorf("%s, document %d: no kind %q is expected", name, i, head.Kind)
			continue
		}
		known := yaml.NewDecoder(bytes.NewReader(raw))
		known.KnownFields(true)
		if err := known.Decode(into); err != nil {
			t.Errorf("%s, document %d (%s): %v", name, i, head.Kind, err)
		}
	}
}

// An alarm that Prometheus does not take, or that leads to no help, is none. The tests of the alarms are run by
// Prometheus' own tool.
func TestAlertsAreTakenAndLead(t *testing.T) {
	files, err := exported("alerts")
	if err != nil {
		t.Fatal(err)
	}
	var rules ruleFile
	strict(t, "alerts", files["orderd-alerts.yml"], func(string) any { return &rules })
	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{} // as GitHub makes them of a headline of one word
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllSubmatch(operations, -1) {
		anchors[strings.ToLower(string(m[1]))] = true
	}
	seen := 0
	for _, r := range rules.Groups[0].Rules {
		seen++
		_, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "docs/operations.md#")
		if !anchors[anchor] {
			t.Errorf("%s leads to #%s, which docs/operations.md does not have", r.Alert, anchor)
		}
		delete(anchors, anchor)
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
			!slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) {
			t.Errorf("%+v", r)
		}
	}
	if seen < 20 || len(anchors) > 0 && anchors["orderdalarm"] {
		t.Errorf("%d alarms; headlines without one: %v", seen, anchors)
	}
	dir := t.TempDir()
	const mine = "https://git.example.com/operations.md"
	if code, _, errs := words(t, "export", "alerts", dir, "--runbooks", mine); code != exitOK {
		t.Fatal(errs)
	}
	text, err := os.ReadFile(filepath.Join(dir, "orderd-alerts.yml"))
	if err != nil || strings.Count(string(text), `runbook_url: "`+mine+"#") != seen {
		t.Errorf("%v %s", err, text)
	}
	tool(t, dir, "promtool", "check", "rules", "orderd-alerts.yml")
	tool(t, dir, "promtool", "test", "rules", "orderd-alerts.test.yml", "orderd-alerts-days.test.yml")
}

// dashboard is what a test reads of Grafana's.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		Title, Type string
		Datasource  struct{ UID string }
		Targets     []struct{ Expr string }
	}
}

// A panel with a wrong expression shows nothing, as a quiet shop does.
func TestDashboardAsksWhatPrometheusUnderstands(t *testing.T) {
	files, err := exported("grafana")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(files["orderd.json"], &d); err != nil {
		t.Fatal(err)
	}
	if l := d.Templating.List; len(l) != 2 || l[0].Type != "datasource" || l[1].Name != "instance" {
		t.Errorf("%+v", l)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: panels\n    rules:\n")
	rows := []string{}
	for i, p := range d.Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: %+v", p.Title, p)
		}
		for j, target := range p.Targets {
			fmt.Fprintf(&rules, "      - record: panel:%d:%d\n        expr: %q\n", i, j,
				strings.ReplaceAll(target.Expr, "$instance", ".*"))
		}
	}
	want := []string{"Money at risk", "Buyers (RED by route)", "Timeouts", "WeChat Pay", "Callbacks",
		"Database batches", "Process"}
	if !slices.Equal(rows, want) {
		t.Errorf("rows: %q", rows)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "panels.yml"), []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "promtool", "check", "rules", "panels.yml")
}

// A unit that systemd does not take is found at the first start, and one that is open at the first break-in.
func TestUnitsAreTakenAndHardened(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := words(t, "export", "systemd", dir); code != exitOK {
		t.Fatal(errs)
	}
	for _, unit := range []string{"orderd.service", "orderd-verify.service"} {
		file := filepath.Join(dir, unit)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// verify wants the program to be there.
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/orderd"), []byte("/bin/true"))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, dir, "systemd-analyze", "verify", filepath.Join(dir, "orderd.service"),
		filepath.Join(dir, "orderd-verify.timer"))
	for _, unit := range []string{"orderd.service", "orderd-verify.service"} {
		tool(t, dir, "systemd-analyze", "security", "--offline=true", "--threshold=25", filepath.Join(dir, unit))
	}
}

// The result of verify reaches Prometheus by a file: half of one, or none where all is well, is a wrong answer.
func TestVerifyTellsPrometheus(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "orderd.prom")
	if code, _, errs := words(t, "verify", "--data-dir", dir, "--metrics", file); code != exitOK {
		t.Fatal(errs)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `orderd_verify_violations{area="stock"} 0`) {
		t.Errorf("%v %s", err, text)
	}
	r := audit.Report{Checks: []audit.CheckResult{{ID: "stock.a", Count: 2}, {ID: "stock.b", Count: 1},
		{ID: "money.a"}}}
	if err := writeMetrics(file, r, time.Unix(1_800_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(file)
	for _, line := range []string{`orderd_verify_violations{area="stock"} 3`,
		`orderd_verify_violations{area="money"} 0`, "orderd_verify_timestamp_seconds 1800000000"} {
		if err != nil || !strings.Contains(string(text), line+"\n") {
			t.Errorf("no %s: %v %s", line, err, text)
		}
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}
