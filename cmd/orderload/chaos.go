package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"orderd/cmd/orderload/chaos"
)

type chaosCmd struct {
	Size    string  `default:"smoke" enum:"smoke,pr,nightly" help:"smoke (2,000 orders, 10 kills, 50 other faults), pr (10,000, 50, 300) or nightly (100,000, 500, 5,000)."`
	Orders  int     `help:"Orders instead of the size's."`
	Kills   int     `help:"Kills instead of the size's."`
	Faults  int     `help:"Other faults instead of the size's."`
	Seed    uint64  `help:"Of every choice (default: drawn and printed)."`
	Buyers  uint64  `default:"128" help:"Buyers at once."`
	MinRate float64 `default:"50" help:"Orders a second without faults, below which the run is invalid."`
	Report  string  `type:"path" help:"Write the report to this file too, as Markdown."`
	JSON    string  `name:"json" type:"path" help:"Write the report to this file, as JSON."`
	Folder  string  `type:"path" help:"Keep logs, histories and databases here."`
	Tags    string  `help:"Build tags of the services."`
	Mutant  string  `help:"Break the service on purpose; the run must be red. 'list' lists the mutants, 'all' runs each and prints the table of docs/runs/mutants.md."`
}

// sizes are those of the reference: orders, kills, other faults.
var sizes = map[string][3]int{"smoke": {2_000, 10, 50}, "pr": {10_000, 50, 300}, "nightly": {100_000, 500, 5_000}}

// Run tries to break the service. It fails on a violation and on a run that
// proves nothing.
func (c *chaosCmd) Run(ctx context.Context) error {
	if c.Mutant == "list" {
		for _, m := range chaos.Mutants {
			fmt.Printf("%-24s %s\n", m.Name, m.What)
		}
		return nil
	}
	if c.Mutant == "all" {
		return c.mutants(ctx)
	}
	size := sizes[c.Size]
	for i, own := range []int{c.Orders, c.Kills, c.Faults} {
		if own != 0 {
			size[i] = own
		}
	}
	begin := time.Now()
	r, err := chaos.Run(ctx, chaos.Options{Orders: size[0], Kills: size[1], Faults: size[2], Seed: c.Seed, Buyers: c.Buyers, MinRate: c.MinRate,
		Dir: c.Folder, Keep: c.Folder != "", Tags: c.Tags, Mutant: c.Mutant,
		Say: say(begin)})
	if r == nil {
		return err
	}
	r.Write(os.Stdout)
	return errors.Join(err, c.write(r))
}

func (c *chaosCmd) write(r *chaos.Report) error {
	if c.Report != "" {
		f, err := os.Create(c.Report)
		if err != nil {
			return err
		}
		r.Write(f)
		if err := f.Close(); err != nil {
			return err
		}
	}
	if c.JSON == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	return errors.Join(err, os.WriteFile(c.JSON, append(b, '\n'), 0o600))
}

// A mutant's run is small: what a mistake breaks, it breaks soon.
const (
	mutantOrders, mutantKills, mutantFaults = 1_000, 10, 50
	mutantTries                             = 3 // seeds, before it counts as survived
)

// mutants runs each mutant until it is caught and prints which check caught it.
func (c *chaosCmd) mutants(ctx context.Context) error {
	fmt.Println("| mutant | the mistake | caught by | such as | seed | run |\n|---|---|---|---|---:|---:|")
	survived := 0
	for _, m := range chaos.Mutants {
		row := fmt.Sprintf("| %s | %s | **nothing** | | | |", m.Name, m.What)
		survived++
		for try := range mutantTries {
			begin := time.Now()
			dir, err := os.MkdirTemp("", "mutant-")
			if err != nil {
				return err
			}
			r, err := chaos.Run(ctx, chaos.Options{Orders: mutantOrders, Kills: mutantKills, Faults: mutantFaults, Seed: c.Seed + uint64(try), Buyers: c.Buyers,
				Dir: dir, Keep: true, Warm: 4 * time.Second, Mutant: m.Name, Tags: c.Tags, Say: say(begin)})
			if r == nil || (err != nil && !errors.Is(err, chaos.ErrViolation) && !errors.Is(err, chaos.ErrInvalid)) {
				return fmt.Errorf("mutant %s: %w", m.Name, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			if len(r.Violations) > 0 {
				row = fmt.Sprintf("| %s | %s | %s | %s | %d | %d s |", m.Name, m.What, strings.Join(r.CaughtBy(), ", "), oneLine(r.Violations[0]), r.Options.Seed, int(time.Since(begin).Seconds()))
				survived--
				break
			}
		}
		fmt.Println(row)
	}
	if survived > 0 {
		return fmt.Errorf("%d mutants survived: holes in the harness", survived)
	}
	return nil
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.ReplaceAll(s[:min(len(s), 140)], "|", "/")
}

func say(begin time.Time) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
}
