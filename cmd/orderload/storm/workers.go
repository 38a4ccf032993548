package storm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

// maxWorkers is what the private MariaDB has connections for.
const maxWorkers = 8

// workerName is the hidden command of a worker process: the parent runs its own program
// again with it. It must be the name that kong gives to WorkerCmd in main.
const workerName = "expire-worker"

// WorkerCmd is one of several worker processes, started by Cmd with --workers. It reports
// on standard output and works until standard input ends, as it does when the parent
// dies: no worker is left behind.
type WorkerCmd struct {
	// The private servers of the parent; Gateway and Rate as those of Cmd.
	DSN     string        `name:"dsn" required:""`
	Redis   string        `required:""`
	Gateway time.Duration `required:""`
	Rate    float64
}

// report is what a worker writes of itself, a line of JSON at a time.
type report struct {
	// Closed is orders closed, Asked the closes asked of WeChat Pay.
	Closed, Asked int64
	// Memory is resident, in bytes; CPU is seconds since its start.
	Memory int64
	CPU    float64
}

// reportEvery is the time between two reports: half of the samples'.
const reportEvery = 100 * time.Millisecond

// Run works until standard input ends: the parent has closed it, or has ended. It ends
// with a last report, of what it closed while it stopped.
func (w *WorkerCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	db, err := sqldb.Open(ctx, w.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	client, err := scheduler.Connect(w.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	seen, gateway := newObserver(), bench.NewGateway(bench.GatewayOptions{Delay: w.Gateway})
	run, err := startOurs(ctx, parts{db: db, redis: client, gateway: gateway, rate: w.Rate, observer: seen,
		log: warnings()})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	send := func() error {
		self := os.Getpid()
		return out.Encode(report{Closed: seen.closed.Load(), Asked: gateway.Calls(),
			Memory: bench.MemoryOf(self), CPU: bench.CPUOf(self).Seconds()})
	}
	for ctx.Err() == nil && err == nil {
		err = send()
		sqldb.Sleep(ctx, reportEvery)
	}
	run.stop()
	return errors.Join(err, send())
}

// fleet is the worker processes; the first two may be disturbed.
type fleet struct{ workers []*worker }

// worker is one process, as the parent knows it.
type worker struct {
	cmd *exec.Cmd
	// stdin ends the worker when it is closed.
	stdin io.Closer
	ended chan struct{} // closed when the process has ended

	mu   sync.Mutex
	last report
	// most is the peak of its memory, fate what was done to it, "" when it was left
	// alone.
	most int64
	fate string
}

// workerResult is what became of a worker, a row of the table. Memory is the peak,
// resident, in bytes.
type workerResult struct {
	Name          string
	Closed, Asked int64
	Memory        int64 // resident, bytes, the peak
	Fate          string
}

// startFleet starts the workers, and beside them what places and settles here. Wake-ups
// are set by this process, as by an api process of a service.
func (st *storm) startFleet(ctx context.Context, p parts) (*running, error) {
	f := &fleet{}
	for range st.k.Workers {
		w, err := st.startWorker()
		if err != nil {
			f.stop()
			return nil, fmt.Errorf("start a worker: %w", err)
		}
		f.workers = append(f.workers, w)
	}
	run, _, err := startService(ctx, p)
	if err != nil {
		f.stop()
		return nil, err
	}
	st.crowd.arm(run.queue)
	run.fleet = f
	stop := run.stop
	run.stop = func() { f.stop(); stop() }
	return run, nil
}

// startWorker starts one process. Its reports come on its standard output, its warnings
// go to ours; it ends when its standard input does, so it cannot outlive this process.
func (st *storm) startWorker() (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{ended: make(chan struct{})}
	w.cmd = exec.Command(self, workerName, "--dsn", st.db.DSN, "--redis", st.rig.redis.URL(),
		"--gateway", st.k.Gateway.String(), "--rate", strconv.FormatFloat(st.k.Rate, 'f', -1, 64))
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the parent, which ends them
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go w.listen(out)
	return w, nil
}

// listen keeps the last report until the process ends. A line that is cut, by a kill, is
// passed over.
func (w *worker) listen(out io.Reader) {
	defer close(w.ended)
	for scan := bufio.NewScanner(out); scan.Scan(); {
		var r report
		if json.Unmarshal(scan.Bytes(), &r) == nil {
			w.mu.Lock()
			w.last, w.most = r, max(w.most, r.Memory)
			w.mu.Unlock()
		}
	}
	_ = w.cmd.Wait() // one that was killed is what some runs want
}

// lastReport is what the process last said; zero before its first report.
func (w *worker) lastReport() report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// hasEnded reports whether the process has ended, by itself or not.
func (w *worker) hasEnded() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// setFate notes what was done to the process, for the table.
func (w *worker) setFate(fate string) {
	w.mu.Lock()
	w.fate = fate
	w.mu.Unlock()
}

// stopWait is how long the workers may take, all together, to finish what they
// have begun.
const stopWait = 30 * time.Second

// stop ends the workers, by force when they do not end within stopWait.
func (f *fleet) stop() {
	for _, w := range f.workers {
		_ = w.stdin.Close()
		_ = w.cmd.Process.Signal(syscall.SIGCONT) // one that stands still cannot end
	}
	late := time.NewTimer(stopWait)
	defer late.Stop()
	for _, w := range f.workers {
		select {
		case <-w.ended:
		case <-late.C:
			_ = w.cmd.Process.Kill()
			<-w.ended
			late.Reset(0) // the time of the others is over too
		}
	}
}

// killedFate is the fate of the worker that was killed.
const killedFate = "killed"

// disturb kills the first worker (SIGKILL) and stops the second for a time (SIGSTOP), as
// a machine that fails and one that stands still. The others have to take over what both
// had begun.
func (f *fleet) disturb(ctx context.Context, kill, stop bool, long time.Duration) {
	if kill {
		_ = f.workers[0].cmd.Process.Kill()
		f.workers[0].setFate(killedFate)
	}
	// SIGSTOP: the process keeps its connections and what it believed.
	if stop {
		_ = f.workers[1].cmd.Process.Signal(syscall.SIGSTOP)
		begin := time.Now()
		sqldb.Sleep(ctx, long)
		_ = f.workers[1].cmd.Process.Signal(syscall.SIGCONT)
		f.workers[1].setFate(fmt.Sprintf("stopped for %.0f s", time.Since(begin).Seconds()))
	}
}

// alive is how many workers run.
func (f *fleet) alive() (n int) {
	for _, w := range f.workers {
		if !w.hasEnded() {
			n++
		}
	}
	return n
}

// closed is how many orders the workers have closed, as they reported.
func (f *fleet) closed() (n int) {
	for _, w := range f.workers {
		n += int(w.lastReport().Closed)
	}
	return n
}

// memory is that of the largest worker, in bytes.
func (f *fleet) memory() (most int64) {
	for _, w := range f.workers {
		most = max(most, w.lastReport().Memory)
	}
	return most
}

// cpu is the seconds of all workers.
func (f *fleet) cpu() (sum float64) {
	for _, w := range f.workers {
		sum += w.lastReport().CPU
	}
	return sum
}

// results says what became of the workers that closed so many orders together. One that
// was killed cannot report: it has closed what the others have not.
func (f *fleet) results(closed int) []workerResult {
	all := make([]workerResult, len(f.workers))
	killed, others := -1, int64(0)
	for i, w := range f.workers {
		r := w.lastReport()
		all[i] = workerResult{fmt.Sprint(i + 1), r.Closed, r.Asked, w.most, w.fate}
		if w.fate == killedFate {
			killed = i
		} else {
			others += r.Closed
		}
	}
	if killed >= 0 {
		all[killed].Closed = int64(closed) - others
	}
	return all
}
