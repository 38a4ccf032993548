package storm

import (
	"fmt"

	"orderd/cmd/orderload/bench"
)

// tables prints what was measured: a table with a row per mode, then what only some runs
// have. It is Markdown, for docs/benchmarks.md.
func (k *Cmd) tables(all []*storm) {
	if len(all) == 0 {
		return
	}
	when := "within " + k.Spread.String()
	if k.Spread == 0 {
		when = "in the same second"
	}
	bench.Header(fmt.Sprintf("timeouts, %d due %s", k.Orders, when), "closed/s", "lateness p50", "p90", "p99", "max",
		"closed p50", "closed p99", "early", "asked twice", "backlog, most", "Redis, peak", "process, peak",
		"CPU µs an order: process, MariaDB, Redis")
	for _, st := range all {
		st.row()
	}
	for _, st := range all { // below the table, so that it stays one
		st.more()
	}
}

// row prints the line of a mode. CPU is that of the time between the first deadline and
// the last close, divided by the orders, in microseconds: it says what a timeout costs,
// whatever the machine's speed did to the lateness.
func (st *storm) row() {
	o, name := st.Outcome, st.Mode
	switch st.Mode {
	case modeNaive:
		name = fmt.Sprintf("a transaction per order, %d connections (its best)", st.conns)
	case modePerOrder:
		name = fmt.Sprintf("a task per order, %d queues", perOrderQueues)
	case modeOurs:
		name = "**orderd**" + st.k.trials()
	}
	each := func(seconds float64) string { // microseconds
		return fmt.Sprintf("%.0f", seconds*1e6/float64(st.crowd.n))
	}
	bench.Row(name, o.Rate, o.Taken.P50, o.Taken.P90, o.Taken.P99, o.Taken.Max, o.Ended.P50, o.Ended.P99,
		o.Early, o.Twice, o.Most, bench.Megabytes(o.Redis), bench.Megabytes(o.Memory),
		each(o.CPU.Own)+", "+each(o.CPU.MariaDB)+", "+each(o.CPU.Redis))
}

// trials names what was made hard, for the name of the row: a figure must not be read
// without it.
func (k *Cmd) trials() (s string) {
	if k.Rate > 0 {
		s += fmt.Sprintf(", %.0f closes/s", k.Rate)
	}
	if k.Workers > 0 {
		s += fmt.Sprintf(", %d workers", k.Workers)
	}
	for _, t := range []struct {
		on   bool
		what string
	}{{k.Kill, ", one killed"}, {k.Pause, ", one stopped for " + k.PauseFor.String()}, {k.Flush, ", Redis emptied"},
		{k.Protocol, ", real protocol"}} {
		if t.on {
			s += t.what
		}
	}
	return s
}

// more prints the tables and sentences that only some runs have, those beside the storm,
// of workers, buyers, a rate and the real protocol.
func (st *storm) more() {
	if st.Beside != nil {
		st.Beside.print(st.Mode)
	}
	if len(st.Workers) > 0 {
		fmt.Println()
		bench.Header("worker", "closed", "asked", "resident memory, peak", "")
		for _, w := range st.Workers {
			bench.Row(w.Name, w.Closed, w.Asked, bench.Megabytes(w.Memory), w.Fate)
		}
	}
	if st.Paid != nil {
		fmt.Printf("\nPaid while they waited: %d buyers came, %d paid before WeChat Pay closed their trade, "+
			"and %d orders are paid.\n", st.Paid.Came, st.Paid.Paid, st.Outcome.Paid)
	}
	if st.k.Rate > 0 {
		fmt.Printf("\nAt %.0f closes/s: %.1f/s drained, the backlog was at most %d and over after %.0f s; "+
			"nothing was returned unproven.\n",
			st.k.Rate, st.Outcome.Rate, st.Outcome.Most, st.Outcome.Backlog[len(st.Outcome.Backlog)-1].At)
	}
	if p := st.Protocol; p != nil {
		p.print(st.Outcome.Rate)
	}
}
