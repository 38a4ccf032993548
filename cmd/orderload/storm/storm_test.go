package storm

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
)

// The workers of a test are this binary again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerName {
		var c struct {
			ExpireWorker WorkerCmd `cmd:""`
		}
		k := kong.Parse(&c)
		k.BindTo(context.Background(), (*context.Context)(nil))
		k.FatalIfErrorf(k.Run())
		return
	}
	sqldbtest.NoLeaks(m)
}

// Everything is judged by what the crowd says of its orders: a wrong due time or number would judge the tool itself.
func TestCrowd(t *testing.T) {
	first := time.Now().Truncate(time.Second)
	for _, c := range []crowd{{n: 1000, first: first}, {n: 1000, first: first, spread: 7 * time.Second},
		{n: seedPiece + 5, first: first, spread: time.Minute}} {
		before := ""
		due := map[time.Time]int{}
		for i := 1; i <= c.n; i++ {
			no := c.no(i)
			if seqOf(no) != i || seqOf(no+"-01") != i || no <= before {
				t.Fatalf("order %d is %s, after %s", i, no, before)
			}
			before = no
			due[c.due(i)]++
			id, err := ulid.ParseStrict(no)
			placed := c.due(i).Add(-seedGrace - seedWithin)
			if off := placed.Sub(ulid.Time(id.Time())); err != nil || off < 0 || off > time.Minute {
				t.Fatalf("%s tells a time %s off, %v", no, off, err)
			}
		}
		sum := 0
		for at := first.Add(-time.Second); !at.After(c.last().Add(time.Second)); at = at.Add(time.Second) {
			sum += due[at]
			if got := c.dueBy(at.Add(500 * time.Millisecond)); got != sum {
				t.Fatalf("%d due by %s, want %d", got, at.Sub(first), sum)
			}
		}
		if sum != c.n {
			t.Fatalf("%d of %d orders are due by the end", sum, c.n)
		}
	}
	if seqOf(order.Order{}.OrderNo) != 0 || seqOf(ulid.Make().String()) != 0 {
		t.Error("another order is taken for one of the crowd")
	}
}

// A backlog that forgets an order or ends early would hide what is late.
func TestBacklog(t *testing.T) {
	c := crowd{n: 10, first: time.Now().Truncate(time.Second), spread: 2 * time.Second}
	points, most := c.backlog(bench.Histogram{0: 1, 100: 3, 1000: 5, 1500: 1})
	want := []point{{0, 4}, {0.2, 1}, {0.4, 1}, {0.6, 1}, {0.8, 1}, {1, 1}, {1.2, 1}, {1.4, 1}, {1.6, 0}}
	if most != 4 || len(points) != len(want) {
		t.Fatalf("most %d: %v", most, points)
	}
	for i := range want {
		if points[i] != want[i] {
			t.Errorf("%v, want %v", points[i], want[i])
		}
	}
}

// A plot that a browser refuses, or whose axis lies, is worse than none.
func TestPlot(t *testing.T) {
	lin, log := axis{from: 0, to: 50, size: 200}, axis{from: 0.01, to: 100, size: 200, log: true}
	for _, c := range []struct {
		a       axis
		v, want float64
	}{{lin, 0, 0}, {lin, 25, 100}, {lin, 50, 200}, {log, 0.01, 0}, {log, 1, 100}, {log, 100, 200}, {log, 0, 0}} {
		if got := c.a.pixel(c.v); got < c.want-0.001 || got > c.want+0.001 {
			t.Errorf("%v is at %v of %+v, want %v", c.v, got, c.a, c.want)
		}
	}
	if got := lin.ticks(); len(got) != 6 || got[1] != 10 {
		t.Errorf("ticks %v", got)
	}
	if got := log.ticks(); len(got) != 5 {
		t.Errorf("ticks %v", got)
	}
	text := draw(plot{title: "a < b & c", unit: "s", log: true, lines: []line{{"one & only", []point{{0, 3}}},
		{"naive", []point{{0, 0.02}, {60, 77}}}, {"none", nil}}},
		plot{title: "backlog", lines: []line{{"ours", []point{{0, 0}, {1, 93_000}}}}})
	d := xml.NewDecoder(strings.NewReader(text))
	words := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		data, ok := token.(xml.CharData)
		if ok && (string(data) == "a < b & c" || string(data) == "one & only" || string(data) == "100k") {
			words++
		}
	}
	if words != 4 { // the title twice: for the eye, and for who cannot see
		t.Errorf("%d of the words found in\n%s", words, text)
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "<script") ||
		strings.Contains(text, "http://") && strings.Count(text, "http://") != 1 {
		t.Errorf("not self-contained:\n%s", text)
	}
}

// A seeded world that is not in order would put its faults down to the service.
func TestSeed(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	c := crowd{n: 2007, first: time.Now().Add(time.Minute).Truncate(time.Second), spread: 3 * time.Second}
	if err := c.seed(t.Context(), db.Pool()); err != nil {
		t.Fatal(err)
	}
	if err := bench.Verify(t.Context(), db, audit.VerifyOptions{Quiescent: true}); err != nil {
		t.Fatal(err)
	}
	s, err := bench.NewService(order.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, i := range []int{1, 669, 670, 2007} {
		o, err := s.Find(t.Context(), c.no(i))
		if err != nil || !o.DueAt.Equal(c.due(i)) || o.State != order.StatePending || len(o.Items) != 1 ||
			!o.ExpireAt.Equal(c.due(i).Add(-seedGrace)) || !o.CreatedAt.Equal(c.due(1).Add(-seedGrace-seedWithin)) {
			t.Errorf("order %d, due %s: %+v %v", i, c.due(i), o, err)
		}
	}
	const fromNowhere = "UPDATE skus SET available = available + 1 WHERE sku_id = 'sku0007'"
	if _, err := db.Pool().ExecContext(t.Context(), fromNowhere); err != nil {
		t.Fatal(err)
	}
	if err := bench.Verify(t.Context(), db, audit.VerifyOptions{}); err == nil {
		t.Error("a unit from nowhere was not seen")
	}
}

// storms runs the command as main would and gives what it wrote: again with twice the lead where the machine was too
// slow to be ready by the first deadline, as the command's error says.
func storms(t *testing.T, k Cmd) []*storm {
	t.Helper()
	sqldbtest.MariaDBDSN(t) // skips where there is none
	for k.Lead = 12 * time.Second; ; k.Lead *= 2 {
		all, err := stormsIn(t, k, t.TempDir())
		if err == nil {
			return all
		}
		if t.Log(err); k.Lead > 2*time.Minute || !strings.Contains(err.Error(), "use --lead ") {
			t.FailNow()
		}
	}
}

// stormsIn runs the command in a directory of its own.
func stormsIn(t *testing.T, k Cmd, dir string) ([]*storm, error) {
	t.Helper()
	k.PauseFor, k.Quiet, k.Gateway = 2*time.Second, time.Second, time.Millisecond
	k.BufferPool, k.LogFile = "256M", "256M"
	k.JSON, k.SVG = filepath.Join(dir, "run.json"), filepath.Join(dir, "run.svg")
	if err := k.Run(t.Context(), &bench.Settings{Dir: filepath.Join(dir, "servers")}); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(k.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var all []*storm
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(k.SVG); err != nil || st.Size() < 1000 {
		t.Errorf("%v %v", st, err)
	}
	return all, nil
}

// A mode that leaves orders open, closes one early, or leaves books that do not agree is no baseline.
func TestModes(t *testing.T) {
	t.Parallel()
	all := storms(t, Cmd{Orders: 2000, Spread: 2 * time.Second, Mode: []string{"all"}})
	if len(all) != 3 {
		t.Fatalf("%d modes", len(all))
	}
	for _, st := range all {
		o := st.Outcome
		if o.Closed != 2000 || o.Early != 0 || o.Rate <= 0 || o.Ended.P99 < o.Taken.P50 || o.Taken.Max <= 0 ||
			o.Most < 1000 || len(o.Late) != 2 || o.CPU.MariaDB <= 0 || o.Memory < 1<<20 || o.Redis < 1<<19 ||
			len(st.Samples) < 10 {
			t.Errorf("%s: %+v, %d samples", st.Mode, o, len(st.Samples))
		}
	}
}

// With buyers, a limit and placements beside it every count must still come out: the tool fails when one does
// not.
func TestPaidMeanwhile(t *testing.T) {
	t.Parallel()
	st := storms(t, Cmd{Orders: 400, Mode: []string{"ours"}, Rate: 100, Pay: 0.2, Foreground: 20})[0]
	if st.Outcome.Closed+st.Outcome.Paid != 400 || st.Outcome.Paid == 0 || st.Outcome.Rate > 150 {
		t.Errorf("%+v", st.Outcome)
	}
	if b := st.Beside; b.PlaceQuiet.Calls == 0 || b.PaidStorm.Calls == 0 || b.PlaceStorm.P99 == 0 ||
		b.PaidStorm.Failed > 0 {
		t.Errorf("%+v", b)
	}
}

// A worker that is killed or stands still must lose nothing, and be seen in the table.
func TestWorkersHurt(t *testing.T) {
	t.Parallel()
	st := storms(t, Cmd{Orders: 2000, Spread: 4 * time.Second, Mode: []string{"ours"}, Workers: 3,
		Kill: true, Pause: true})[0]
	if len(st.Workers) != 3 || st.Workers[0].Fate != "killed" || !strings.HasPrefix(st.Workers[1].Fate, "stopped") {
		t.Fatalf("%+v", st.Workers)
	}
	closed := int64(0)
	for _, w := range st.Workers {
		// A second goes to whoever is free, so one of those that are hurt may have had none.
		closed += w.Closed
		if w.Memory < 1<<20 || (w.Fate == "" && w.Closed == 0) {
			t.Errorf("%+v", w)
		}
	}
	if closed != 2000 {
		t.Errorf("the workers closed %d of 2000", closed)
	}
}

// What does not fit together must be said before servers are started.
func TestExpireFlags(t *testing.T) {
	for _, k := range []Cmd{{Orders: 5}, {Spread: time.Millisecond}, {Pay: 0.9},
		{Mode: []string{"naive"}, Rate: 5}, {Mode: []string{"ours"}, Kill: true},
		{Mode: []string{"ours"}, Workers: 3, Pay: 0.1}, {Mode: []string{"ours"}, Workers: 99}} {
		if err := k.complete(); err == nil {
			t.Errorf("%+v was taken", k)
		}
	}
}
