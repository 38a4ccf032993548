package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/cmd/orderload/chaos"
)

// chaosCmd is "orderload chaos"; package chaos does the work. Flags that are left out
// take the size's number, or the default of chaos.Options.
type chaosCmd struct {
	Size    string        `default:"smoke" enum:"smoke,pr,nightly" help:"${chaos_size}"`
	Orders  int           `help:"Orders instead of the size's."`
	Kills   int           `help:"Kills instead of the size's."`
	Faults  int           `help:"Other faults instead of the size's."`
	Trials  int           `help:"${chaos_trials}"`
	Seed    uint64        `help:"Of every choice (default: drawn and printed)."`
	Buyers  uint64        `default:"128" help:"Buyers at once."`
	MinRate float64       `default:"50" help:"Orders a second without faults, below which the run is invalid."`
	Limit   time.Duration `help:"End the faults after this time, enough or not (default: the size's)."`
	Report  string        `type:"path" help:"Write the report to this file too, as Markdown."`
	JSON    string        `name:"json" type:"path" help:"Write the report to this file, as JSON."`
	Folder  string        `type:"path" help:"Keep logs, histories and databases here."`
	Tags    string        `help:"Build tags of the services."`
	Mutant  string        `help:"${chaos_mutant}"`
	Gate    string        `default:"off" enum:"off,local,redis" help:"${chaos_gate}"`
	Rate    int64         `help:"${chaos_rate}"`
	Replica time.Duration `help:"${chaos_replica}"`
	SaleF   int           `name:"sale-faults" help:"${chaos_sale_faults}"`
}

// sizes are those of docs/chaos.md: orders, kills, other faults, trials of each fault
// that is measured alone. smoke is for whoever changes something, pr for every change
// that is merged, nightly for a machine that has the night.
var sizes = map[string][4]int{
	"smoke": {2_000, 10, 50, 1}, "pr": {10_000, 50, 300, 3}, "nightly": {100_000, 500, 5_000, 10},
}

// limits are how long the faults of a size may take: a busy machine places some 30 orders
// a second under faults.
var limits = map[string]time.Duration{"smoke": time.Hour, "pr": time.Hour, "nightly": 4 * time.Hour}

// Run tries to break the service. It fails on a violation and on a run that proves
// nothing: a program that runs it needs the exit code alone.
func (c *chaosCmd) Run(ctx context.Context) error {
	o := chaos.Options{Seed: c.Seed, Buyers: c.Buyers, Tags: c.Tags, Gate: c.Gate, Say: sayToStderr()}
	switch c.Mutant {
	// Without a run: nothing is started.
	case "list":
		for _, m := range chaos.Mutants {
			fmt.Printf("%-24s %s\n", m.Name, m.What)
		}
		return nil
	case "all":
		return chaos.RunMutants(ctx, os.Stdout, o)
	}
	if names := strings.Split(c.Mutant, ","); len(names) > 1 {
		return chaos.RunMutants(ctx, os.Stdout, o, names...)
	}
	size := sizes[c.Size]
	for i, own := range []int{c.Orders, c.Kills, c.Faults, c.Trials} {
		if own != 0 {
			size[i] = own
		}
	}
	o.Orders, o.Kills, o.Faults, o.Trials = size[0], size[1], size[2], size[3]
	o.Limit = cmp.Or(c.Limit, limits[c.Size])
	o.SaleFaults, o.Rate, o.Replica = c.SaleF, c.Rate, c.Replica
	o.MinRate, o.Dir, o.Keep, o.Mutant = c.MinRate, c.Folder, c.Folder != "", c.Mutant
	// A report comes with a violation too, and with a run that proves nothing.
	r, err := chaos.Run(ctx, o)
	if r == nil {
		return err
	}
	r.Write(os.Stdout)
	return errors.Join(err, c.write(r))
}

// write writes the report into the files that were asked for, beside standard output.
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

// sayToStderr prints progress with the seconds since now, apart from the report.
func sayToStderr() func(format string, args ...any) {
	begin := time.Now()
	return func(format string, args ...any) {
		bench.Progress.Print("%6.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
}
