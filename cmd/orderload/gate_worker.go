package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order"
	"orderd/stock/gate"
)

// gateWorkerCmd is one process of a sale, started by scale, tail and sale: this program again.
// It takes jobs from standard input, a line of JSON each, and answers each with two reports, that
// it is ready and what came of it. It ends when standard input does, as it does when the parent
// dies: no process is left behind.
type gateWorkerCmd struct {
	DSN   string        `name:"dsn" required:""`
	Delay time.Duration `help:"Hold every answer of the database back by this. The DSN is one of TCP then."`
	At    string        `help:"The address of the database's server, with --delay."`
	Redis string        `help:"The address of the Redis of gates in mode redis."`
}

// gateWorkerName is the hidden command; kong makes it of the field in cli.
const gateWorkerName = "gate-worker"

// saleJob is what a process is to do.
type saleJob struct {
	SKU     string
	Gated   bool
	Callers int
	// Length is of a closed loop, or of the time in which so many Requests are due. With
	// UntilSoldOut every caller asks until it is refused, whatever the time.
	Length       time.Duration
	Requests     int
	UntilSoldOut bool
}

// saleReport is what came of a job; the first one says only Ready.
type saleReport struct {
	Ready bool   `json:",omitempty"`
	Error string `json:",omitempty"` // the job was not done

	Sold, Refused, Repeats int64            // Repeats are calls that were made again with their key
	Queued                 int64            // were told to wait; their latencies are among those of Sales
	Failed                 map[string]int64 // calls given up, by their error
	Took                   time.Duration
	LastSold               int64 // when the last placement returned that sold something, in Unix milliseconds
	// Sales and Refusals count latencies in units of latencyUnit.
	Sales, Refusals map[int64]int64
}

// newSaleReport is one of nothing.
func newSaleReport() saleReport {
	return saleReport{Failed: map[string]int64{}, Sales: map[int64]int64{}, Refusals: map[int64]int64{}}
}

// latencyUnit is how fine latencies go from a process to its parent.
const latencyUnit = 10 * time.Microsecond

// Run does jobs until standard input ends.
func (w *gateWorkerCmd) Run(ctx context.Context) error {
	dsn := w.DSN
	if w.Delay > 0 {
		proxy, err := faultproxy.New(w.At)
		if err != nil {
			return err
		}
		defer proxy.Close()
		proxy.Latency(w.Delay)
		dsn = fmt.Sprintf(w.DSN, proxy.Addr())
	}
	db, err := sqldb.OpenExisting(ctx, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	cfg := gate.Config{NoAuto: true}
	if w.Redis != "" {
		client := redis.NewClient(&redis.Options{Addr: w.Redis})
		defer func() { _ = client.Close() }()
		cfg.Shared = homeIn(db, client)
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var j saleJob
		if err := in.Decode(&j); err != nil {
			return ignoreEOF(err)
		}
		err := j.do(ctx, db, cfg, func() error {
			if err := out.Encode(saleReport{Ready: true}); err != nil {
				return err
			}
			var start bool
			return in.Decode(&start)
		}, func(r *saleReport) error { return out.Encode(r) })
		if err != nil {
			return ignoreEOF(errors.Join(err, out.Encode(saleReport{Error: err.Error()})))
		}
	}
}

// ignoreEOF is nil for the end of the parent's words.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// do makes the service of a job, waits for the word to start, and reports.
func (j *saleJob) do(ctx context.Context, db *sqldb.DB, cfg gate.Config, ready func() error,
	report func(*saleReport) error) error {
	c := order.Config{DB: db}
	var orders *order.Service
	if j.Gated {
		s, err := bench.NewGated(ctx, c, cfg)
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Await(ctx, j.SKU); err != nil {
			return err
		}
		orders = s.Orders
	} else {
		s, err := bench.NewService(c)
		if err != nil {
			return err
		}
		defer s.Close()
		orders = s
	}
	if err := ready(); err != nil {
		return err
	}
	b := &saleBook{report: newSaleReport()}
	j.run(ctx, orders, b)
	return report(&b.report)
}

// saleBook gathers what becomes of the calls.
type saleBook struct {
	mu     sync.Mutex
	report saleReport
}

// saleTries is after how many tries of one placement its buyer gives up: a shop repeats one that
// had no answer, with the same key.
const saleTries, againAfter = 50, 20 * time.Millisecond

// notReadyFor is how long a buyer comes again to a queue that is full or not open yet.
const notReadyFor = time.Minute

// buy places one unit, and again with the same key while the answer is that it may not have
// happened. It reports that something was sold. due is when the buyer came.
func (b *saleBook) buy(ctx context.Context, s *order.Service, p order.Placement, due time.Time, tries int) bool {
	var err error
	for try := 1; ; try++ {
		_, err = s.Place(ctx, p)
		if errors.As(err, new(*order.NotReadyError)) && time.Since(due) < notReadyFor {
			try--
		}
		again := errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrOverloaded) ||
			errors.As(err, new(*order.NotReadyError))
		if !again || try >= tries || ctx.Err() != nil {
			break
		}
		b.mu.Lock()
		b.report.Repeats++
		b.mu.Unlock()
		sqldb.Sleep(ctx, againAfter)
	}
	took := int64(time.Since(due) / latencyUnit)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r := &b.report; {
	case err == nil: // a repeat too: it is answered with the order of its first try
		r.Sold++
		r.Sales[took]++
		r.LastSold = max(r.LastSold, time.Now().UnixMilli())
	case errors.As(err, new(*order.QueuedError)):
		r.Queued++
		r.Sales[took]++
	case errors.As(err, new(*order.InsufficientError)):
		r.Refused++
		r.Refusals[took]++
	default:
		r.Failed[errorName(err)]++
	}
	return err == nil
}

// errorName names an error by its kind and, of one that the server sent, its number.
func errorName(err error) string {
	name := "other: " + err.Error()
	switch {
	case errors.Is(err, sqldb.ErrOverloaded):
		name = "overloaded"
	case errors.Is(err, sqldb.ErrUnknown):
		name = "outcome unknown"
	case errors.Is(err, sqldb.ErrUnavailable):
		name = "unavailable"
	}
	var m *mysql.MySQLError
	if errors.As(err, &m) {
		name += fmt.Sprintf(" (error %d)", m.Number)
	}
	return name
}

// run makes the calls of a job.
func (j *saleJob) run(ctx context.Context, s *order.Service, b *saleBook) {
	k := newKeys()
	begin := time.Now()
	if j.Requests > 0 {
		// What failed is in the book; Paced only keeps the time.
		_ = bench.Paced(ctx, j.Requests, j.Length, j.Callers, func(ctx context.Context, due time.Time) error {
			b.buy(ctx, s, k.next(j.SKU), due, saleTries)
			return nil
		})
		b.report.Took = time.Since(begin)
		return
	}
	tries := 1
	if j.UntilSoldOut {
		tries = saleTries
	}
	var wg sync.WaitGroup
	for range j.Callers {
		wg.Go(func() {
			for ctx.Err() == nil && (j.UntilSoldOut || time.Since(begin) < j.Length) {
				sold := b.buy(ctx, s, k.next(j.SKU), time.Now(), tries)
				if j.UntilSoldOut && !sold {
					return
				}
			}
		})
	}
	wg.Wait()
	b.report.Took = time.Since(begin)
}

// saleFleet is the processes of a sale.
type saleFleet struct{ workers []*saleWorker }

// saleWorker is one process, as the parent knows it.
type saleWorker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// maxSaleProcesses is what gateConnections suffice for.
const maxSaleProcesses = 32

// startSaleFleet starts n processes on a database, whose answers come so much later.
func startSaleFleet(ctx context.Context, db *bench.Database, n int, delay time.Duration, more ...string) (
	*saleFleet, error) {
	if n < 1 || n > maxSaleProcesses {
		return nil, fmt.Errorf("--processes must be 1 to %d", maxSaleProcesses)
	}
	args := []string{gateWorkerName, "--dsn", db.DSN}
	if delay > 0 {
		args = []string{gateWorkerName, "--dsn", db.DSNAt("%s"), "--delay", delay.String(), "--at", db.TCP()}
	}
	args = append(args, more...)
	f := &saleFleet{}
	for range n {
		w, err := startSaleWorker(ctx, args)
		if err != nil {
			f.stop()
			return nil, fmt.Errorf("start a process of the sale: %w", err)
		}
		f.workers = append(f.workers, w)
	}
	return f, nil
}

// startSaleWorker starts one process. Its warnings go to ours.
func startSaleWorker(ctx context.Context, args []string) (*saleWorker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &saleWorker{cmd: exec.CommandContext(ctx, self, args...)}
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the parent, which ends them
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = json.NewDecoder(bufio.NewReader(out))
	return w, w.cmd.Start()
}

// stop ends the processes, by force those that do not end by themselves.
func (f *saleFleet) stop() {
	for _, w := range f.workers {
		_ = w.in.Close()
	}
	for _, w := range f.workers {
		late := time.AfterFunc(saleStop, func() { _ = w.cmd.Process.Kill() })
		_ = w.cmd.Wait() // one that failed has said so in its report
		late.Stop()
	}
}

// saleStop is how long a process may take to give its units back and end.
const saleStop = time.Minute

// run has a job done by all processes at once and sums their reports.
func (f *saleFleet) run(ctx context.Context, j saleJob) (saleReport, error) {
	reports := make([]saleReport, len(f.workers))
	for _, step := range []func(w *saleWorker, r *saleReport) error{
		func(w *saleWorker, r *saleReport) error { return w.ask(j, r) },    // that it is ready
		func(w *saleWorker, r *saleReport) error { return w.ask(true, r) }, // what came of it
	} {
		g, _ := errgroup.WithContext(ctx)
		for i, w := range f.workers {
			g.Go(func() error { return step(w, &reports[i]) })
		}
		if err := g.Wait(); err != nil {
			return saleReport{}, err
		}
	}
	sum := newSaleReport()
	for i := range reports {
		sum.add(&reports[i])
	}
	return sum, nil
}

// ask sends a process something and reads its report.
func (w *saleWorker) ask(what any, r *saleReport) error {
	if err := json.NewEncoder(w.in).Encode(what); err != nil {
		return fmt.Errorf("a process of the sale has ended: %w", err)
	}
	*r = saleReport{}
	if err := w.out.Decode(r); err != nil {
		return fmt.Errorf("a process of the sale gave no report: %w", err)
	}
	if r.Error != "" {
		return fmt.Errorf("a process of the sale: %s", r.Error)
	}
	return nil
}

// add adds the report of another process.
func (r *saleReport) add(o *saleReport) {
	r.Sold, r.Refused, r.Repeats = r.Sold+o.Sold, r.Refused+o.Refused, r.Repeats+o.Repeats
	r.Queued += o.Queued
	r.Took, r.LastSold = max(r.Took, o.Took), max(r.LastSold, o.LastSold)
	for k, n := range o.Failed {
		r.Failed[k] += n
	}
	for k, n := range o.Sales {
		r.Sales[k] += n
	}
	for k, n := range o.Refusals {
		r.Refusals[k] += n
	}
}

// failed is how many calls failed, and which errors they had.
func (r *saleReport) failed() (n int64, kinds string) {
	for _, name := range slices.Sorted(maps.Keys(r.Failed)) {
		n += r.Failed[name]
		kinds += fmt.Sprintf(" %d %s", r.Failed[name], name)
	}
	if n == 0 {
		return 0, " 0"
	}
	return n, kinds
}

// quantile gives the latency that a share of a hundred does not exceed; 0 without any.
func quantile(h map[int64]int64, share int64) time.Duration {
	var total, below int64
	for _, n := range h {
		total += n
	}
	for _, k := range slices.Sorted(maps.Keys(h)) {
		if below += h[k]; below*100 >= total*share {
			return time.Duration(k) * latencyUnit
		}
	}
	return 0
}
