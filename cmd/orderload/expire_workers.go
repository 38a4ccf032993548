package main

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

	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

// maxWorkers is what the private MariaDB has connections for.
const maxWorkers = 8

// expireWorkerCmd is one of several worker processes, started by expire.
type expireWorkerCmd struct {
	DSN     string        `name:"dsn" required:""`
	Redis   string        `required:""`
	Gateway time.Duration `required:""`
	Rate    float64
}

// report is what a worker says of itself, a line of JSON at a time.
type report struct {
	Closed, Asked int64
	Memory        int64
	CPU           float64
}

const reportEvery = 100 * time.Millisecond

// Run works until standard input ends: the parent has ended it, or has ended.
func (w *expireWorkerCmd) Run(ctx context.Context) error {
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
	seen, gateway := newWatch(), newScripted(0, w.Gateway)
	run, err := startOurs(ctx, part{db: db, redis: client, gateway: gateway, rate: w.Rate, seen: seen, log: stormLog()})
	if err != nil {
		return err
	}
	say := json.NewEncoder(os.Stdout)
	tell := func() error {
		return say.Encode(report{seen.closed.Load(), gateway.calls.Load(), memoryOf(os.Getpid()), cpuOf(os.Getpid()).Seconds()})
	}
	for ctx.Err() == nil && err == nil {
		err = tell()
		pauseFor(ctx, reportEvery)
	}
	run.stop()
	return errors.Join(err, tell())
}

// fleet is the worker processes.
type fleet struct{ workers []*worker }

type worker struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}

	mu   sync.Mutex
	last report
	most int64 // of its memory
	fate string
}

// workerSeen is what became of a worker.
type workerSeen struct {
	Name          string
	Closed, Asked int64
	Memory        int64
	Fate          string
}

// startFleet starts the workers, and beside them what places and settles here.
func (st *storm) startFleet(ctx context.Context, p part) (*running, error) {
	f := &fleet{}
	for range st.k.Workers {
		w, err := st.startWorker()
		if err != nil {
			f.stop()
			return nil, fmt.Errorf("start a worker: %w", err)
		}
		f.workers = append(f.workers, w)
	}
	queue := scheduler.NewQueue(p.redis, time.Now, p.log, p.seen)
	clock, err := sqldb.NewClock(ctx, p.db, time.Now)
	if err != nil {
		queue.Close()
		f.stop()
		return nil, err
	}
	orders, err := stormService(p, queue, clock.Now)
	if err != nil {
		queue.Close()
		f.stop()
		return nil, err
	}
	st.crowd.arm(queue)
	return &running{orders: orders, queue: queue, fleet: f, stop: func() { f.stop(); queue.Close(); orders.Close() }}, nil
}

func (st *storm) startWorker() (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{ended: make(chan struct{})}
	w.cmd = exec.Command(self, "expire-worker", "--dsn", st.dsn, "--redis", st.s.redis.URL(), "--gateway", st.k.Gateway.String(),
		"--rate", strconv.FormatFloat(st.k.Rate, 'f', -1, 64))
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

// listen keeps the last report until the process ends.
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

func (w *worker) says() report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func (w *worker) hasEnded() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

func (w *worker) became(fate string) {
	w.mu.Lock()
	w.fate = fate
	w.mu.Unlock()
}

// stopWait is how long workers may take to finish what they have begun.
const stopWait = 30 * time.Second

// stop ends the workers, by force when they do not end.
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
			late.Reset(0)
		}
	}
}

// hurt kills the first worker and stops the second for a time.
func (f *fleet) hurt(ctx context.Context, kill, stop bool, long time.Duration) {
	if kill {
		_ = f.workers[0].cmd.Process.Kill()
		f.workers[0].became(killedFate)
	}
	if stop {
		_ = f.workers[1].cmd.Process.Signal(syscall.SIGSTOP)
		begin := time.Now()
		pauseFor(ctx, long)
		_ = f.workers[1].cmd.Process.Signal(syscall.SIGCONT)
		f.workers[1].became(fmt.Sprintf("stopped for %.0f s", time.Since(begin).Seconds()))
	}
}

func (f *fleet) alive() (n int) {
	for _, w := range f.workers {
		if !w.hasEnded() {
			n++
		}
	}
	return n
}

func (f *fleet) closed() (n int) {
	for _, w := range f.workers {
		n += int(w.says().Closed)
	}
	return n
}

// memory is that of the largest worker.
func (f *fleet) memory() (most int64) {
	for _, w := range f.workers {
		most = max(most, w.says().Memory)
	}
	return most
}

func (f *fleet) cpu() (sum float64) {
	for _, w := range f.workers {
		sum += w.says().CPU
	}
	return sum
}

// seen tells what became of the workers that closed so many orders together.
// One that was killed cannot tell: it has closed what the others have not.
func (f *fleet) seen(closed int) []workerSeen {
	all := make([]workerSeen, len(f.workers))
	killed, others := -1, int64(0)
	for i, w := range f.workers {
		r := w.says()
		all[i] = workerSeen{fmt.Sprint(i + 1), r.Closed, r.Asked, w.most, w.fate}
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

const killedFate = "killed"
