package bench

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// A percentile that is one off flatters every table of the benchmarks.
func TestQuantiles(t *testing.T) {
	c := Histogram{}
	for ms := range int64(200) { // 0 to 199, once each
		c[ms]++
	}
	const ms = time.Millisecond
	want := Quantiles{P50: 99 * ms, P90: 179 * ms, P99: 197 * ms, Max: 199 * ms}
	if got := c.Quantiles(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Histogram{-3: 1}).Quantiles(); got.P50 != -3*time.Millisecond || got.Max != -3*time.Millisecond {
		t.Errorf("one early order: %+v", got)
	}
	if got := (Histogram{}).Quantiles(); got != (Quantiles{}) {
		t.Errorf("nothing: %+v", got)
	}
}

// A median or a 99th percentile that is one off flatters every other table.
func TestPercentiles(t *testing.T) {
	var all []time.Duration
	for ms := range 200 {
		all = append(all, time.Duration(199-ms)*time.Millisecond) // not sorted
	}
	if p50, p99 := Percentiles(all); p50 != 100*time.Millisecond || p99 != 198*time.Millisecond {
		t.Errorf("of 0 to 199 ms: %s, %s", p50, p99)
	}
	if p50, p99 := Percentiles([]time.Duration{7}); p50 != 7 || p99 != 7 {
		t.Errorf("of one: %s, %s", p50, p99)
	}
	if p50, p99 := Percentiles(nil); p50 != 0 || p99 != 0 {
		t.Errorf("of none: %s, %s", p50, p99)
	}
}

// The documents show these tables: one that changes its form is no longer theirs.
func TestTable(t *testing.T) {
	if got, want := formatHeader([]string{"a", "b c", ""}), "| a | b c | |\n|---|---|---|\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	got := formatRow([]any{"x", 4744.6, 12_345_678 * time.Nanosecond, 5_123_456 * time.Nanosecond, 3,
		Times(14.06), Megabytes(80 << 20), ""})
	if want := "| x | 4745 | 12.3ms | 5.12ms | 3 | **14.1 ×** | 80 MB |  |\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A median that takes the best round, or a rate that counts failures, favours one side.
func TestSamples(t *testing.T) {
	of := func(done int64) Sample { return Sample{Done: done, Took: 2 * time.Second} }
	if got := Median([]Sample{of(30), of(10), of(20)}); got.Rate() != 10 {
		t.Errorf("median %v", got)
	}
	rates := []int64{5, 1, 9}
	turns := ""
	side := func(name string) func() (Sample, error) {
		n := 0
		return func() (Sample, error) { turns += name; n++; return of(rates[n-1]), nil }
	}
	n, o, err := TakeTurns(3, side("n"), side("o"))
	if err != nil || n.Done != 5 || o.Done != 5 || turns != "nonono" {
		t.Errorf("%v %v %v in turns %s", n, o, err, turns)
	}
	broken := errors.New("broken")
	fails := func() (Sample, error) { return Sample{}, broken }
	if _, _, err := TakeTurns(3, func() (Sample, error) { return of(1), nil }, fails); !errors.Is(err, broken) {
		t.Error(err)
	}
	rate := map[int]float64{4: 1, 8: 3, 16: 2}
	best, err := Best([]int{4, 8, 16}, func(c int) (float64, error) { return rate[c], nil })
	if best != 8 || err != nil {
		t.Errorf("best %d, %v", best, err)
	}
}

// A closed loop that gives out a number twice, or a drain that idles into its rate, measures something else.
func TestLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sum, calls atomic.Int64
		s := ClosedLoop(t.Context(), 4, time.Second, func(_ context.Context, n int64) error {
			time.Sleep(100 * time.Millisecond)
			sum.Add(n)
			calls.Add(1)
			if n%4 == 0 {
				return errors.New("no")
			}
			return nil
		})
		if c := calls.Load(); s.Done+s.Failed != c || s.Failed != c/4 || sum.Load() != c*(c+1)/2 ||
			s.P50 != 100*time.Millisecond {
			t.Errorf("%+v of %d calls, sum %d", s, c, sum.Load())
		}
		seen := make([]atomic.Int64, 10)
		s = Drain(t.Context(), 2, time.Hour, len(seen), func(_ context.Context, i int) error {
			time.Sleep(time.Second)
			seen[i].Add(1)
			return nil
		})
		if s.Done != 10 || s.Failed != 0 || s.Took != 5*time.Second {
			t.Errorf("%+v", s)
		}
		for i := range seen {
			if seen[i].Load() != 1 {
				t.Errorf("item %d was done %d times", i, seen[i].Load())
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if !sqldb.Sleep(t.Context(), time.Minute) || sqldb.Sleep(ended, time.Minute) {
			t.Error("a pause that ends when it should not")
		}
	})
}

// CPU and memory are read from text that the kernel writes: a wrong field is a wrong column.
func TestProc(t *testing.T) {
	stat := "42 (a) b) c) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1"
	if got := parseCPU([]byte(stat)); got != 3*time.Second {
		t.Errorf("%s of CPU", got)
	}
	if parseCPU([]byte("42 (x) S 1")) != 0 || CPUOf(-1) != 0 || MemoryOf(-1) != 0 {
		t.Error("a process that is gone has used something")
	}
	text := "Name:\tx\nVmHWM:\t   81920 kB\nused_memory:123\r\n"
	if Field(text, "VmHWM:") != 81920 || Field(text, "used_memory:") != 123 || Field(text, "VmRSS:") != 0 {
		t.Error("fields")
	}
	peak, err := PeakMemory()
	if now := MemoryOf(os.Getpid()); err != nil || now < 1<<20 || peak < now/2 {
		t.Errorf("peak %d, now %d, %v", peak, now, err)
	}
}

// The judges of a storm trust this ledger: a trade that is both closed and paid would prove anything.
func TestGateway(t *testing.T) {
	known := []string{"", "a-01", "b-01", "c-01"}
	g := NewGateway(GatewayOptions{Trades: 3, Number: func(no string) int { return slices.Index(known, no) }})
	if !g.Pay(1) || g.Pay(1) {
		t.Error("a trade is paid once")
	}
	for _, c := range []struct {
		no   string
		want payment.CloseAnswer
	}{{"a-01", payment.ClosePaid}, {"b-01", payment.CloseAccepted}, {"b-01", payment.CloseAccepted},
		{"other", payment.CloseAccepted}} {
		if got, err := g.Close(t.Context(), c.no); err != nil || got.Answer != c.want {
			t.Errorf("close %s: %+v %v", c.no, got, err)
		}
	}
	if g.Pay(2) || !g.IsClosed(2) || g.IsClosed(1) || g.IsClosed(3) || g.Calls() != 4 || g.ClosedTwice() != 1 {
		t.Errorf("%d calls, %d twice", g.Calls(), g.ClosedTwice())
	}
	if paid, err := g.Query(t.Context(), "a-01"); err != nil || paid.OutTradeNo != "a-01" || paid.Total != Fen {
		t.Errorf("%+v %v", paid, err)
	}
	if _, err := g.Query(t.Context(), "b-01"); !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
}
