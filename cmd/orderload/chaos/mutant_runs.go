package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"orderd/stock"
)

// A mutant's run is small: what a mistake breaks, it breaks soon.
const (
	mutantOrders = 1_000
	mutantKills  = 10
	mutantFaults = 50
	mutantTrials = 1
	mutantWarm   = 4 * time.Second
	// A sale in Redis has three times as many faults: so many of them, drawn by the seed, and
	// less of everything else.
	mutantSale, mutantSaleOrders = 8, 500
	// mutantTries is how many seeds there are, before a mutant counts as survived: what
	// one run misses by the luck of the machine, three do not.
	mutantTries = 3
	mutantQuote = 140 // bytes of the first violation that the table shows
)

// RunMutants runs each of the named mutants, all without names, until it is caught, at
// most with mutantTries seeds from o.Seed on, and prints which check caught it: the table
// of docs/runs/mutants.md. Of o it takes Seed, Buyers, Tags and Say. A mutant that
// survived is an error.
func RunMutants(ctx context.Context, w io.Writer, o Options, names ...string) error {
	fmt.Fprintln(w, "| mutant | the mistake | caught by | such as | seed | run |\n|---|---|---|---|---:|---:|")
	survived := 0
	for _, m := range Mutants {
		if len(names) > 0 && !slices.Contains(names, m.Name) {
			continue
		}
		// A mutant that does not build, or a harness that fails, is no catch.
		row, caught, err := m.hunt(ctx, o)
		if err != nil {
			return fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		if !caught {
			survived++
		}
		fmt.Fprintln(w, row)
	}
	if survived > 0 {
		return fmt.Errorf("%d mutants survived: holes in the harness", survived)
	}
	return nil
}

// hunt runs one mutant with seed after seed and gives its row of the table. Too little
// happened (ErrInvalid) is no catch: only a violation is.
func (m Mutant) hunt(ctx context.Context, o Options) (row string, caught bool, err error) {
	o.Orders, o.Kills, o.Faults, o.Warm = mutantOrders, mutantKills, mutantFaults, mutantWarm
	o.Trials, o.Mutant, o.Gate, o.Keep = mutantTrials, m.Name, gateOf(m.Name), true
	if o.Gate == string(stock.GateRedis) {
		o.SaleFaults, o.Orders, o.Trials = mutantSale, mutantSaleOrders, 0
	}
	for range mutantTries {
		begin := time.Now()
		if o.Dir, err = os.MkdirTemp("", "mutant-"); err != nil {
			return "", false, err
		}
		r, err := Run(ctx, o)
		if r == nil || (err != nil && !errors.Is(err, ErrViolation) && !errors.Is(err, ErrInvalid)) {
			return "", false, err
		}
		if err := os.RemoveAll(o.Dir); err != nil {
			return "", false, err
		}
		if len(r.Violations) > 0 {
			return fmt.Sprintf("| %s | %s | %s | %s | %d | %d s |", m.Name, m.What, strings.Join(r.CaughtBy(), ", "),
				oneLine(r.Violations[0]), r.Options.Seed, int(time.Since(begin).Seconds())), true, nil
		}
		o.Seed++
	}
	return fmt.Sprintf("| %s | %s | **nothing** | | | |", m.Name, m.What), false, nil
}

// oneLine fits the first line of a violation into a cell of a Markdown table, where |
// would begin another.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.ReplaceAll(s[:min(len(s), mutantQuote)], "|", "/")
}
