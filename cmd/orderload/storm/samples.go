package storm

import (
	"context"
	"os"
	"sync"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
)

// sample is what was seen at one moment. It is for CPU and memory; lateness comes from
// the database.
type sample struct {
	// At is in seconds since the first deadline, below zero before it.
	At float64
	// Overdue is due and not ended, as the processes report; exact is Outcome.Backlog.
	Overdue int
	// Memory is resident, in bytes, of this process or the largest worker; Redis is its
	// used_memory, in bytes.
	Memory int64
	Redis  int64
	// CPU is since the start of the processes.
	CPU cpu
}

// cpu is time on CPUs in seconds: of this process and the workers, and of the
// servers.
type cpu struct{ Own, MariaDB, Redis float64 }

// since is the difference to an earlier sample.
func (c cpu) since(b cpu) cpu { return cpu{c.Own - b.Own, c.MariaDB - b.MariaDB, c.Redis - b.Redis} }

// sampleEvery is the time between two samples, and between two points of the
// backlog.
const sampleEvery = 200 * time.Millisecond

// startSampling samples from now until ctx ends. The function that it gives waits for
// that, and takes the last sample.
func (st *storm) startSampling(ctx context.Context, run *running) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			st.Samples = append(st.Samples, st.sample(ctx, run))
			sqldb.Sleep(ctx, sampleEvery)
		}
	})
	return func() {
		wg.Wait()
		st.Samples = append(st.Samples, st.sample(context.WithoutCancel(ctx), run))
	}
}

// sample looks at this process, the workers and the servers now.
func (st *storm) sample(ctx context.Context, run *running) sample {
	now, self := time.Now(), os.Getpid()
	s := sample{At: now.Sub(st.First).Seconds(), Memory: bench.MemoryOf(self), Redis: redisMemory(ctx, st.rig.client),
		Overdue: max(st.crowd.dueBy(now)-st.ended(run), 0),
		CPU: cpu{Own: bench.CPUOf(self).Seconds(), MariaDB: bench.CPUOf(st.rig.mariaPID).Seconds(),
			Redis: bench.CPUOf(st.rig.redisPID).Seconds()}}
	if run.fleet != nil {
		s.Memory, s.CPU.Own = run.fleet.memory(), s.CPU.Own+run.fleet.cpu()
	}
	return s
}

// usage is the CPU between the first deadline and the end, and the peaks of
// memory in that time, which was so many seconds long.
func (st *storm) usage(over float64) (used cpu, memory, redis int64) {
	var from *sample
	for i := range st.Samples {
		s := &st.Samples[i]
		if s.At < 0 {
			from = s
			continue
		}
		if from == nil {
			from = s
		}
		used = s.CPU.since(from.CPU)
		memory, redis = max(memory, s.Memory), max(redis, s.Redis)
		if s.At > over { // a sample beyond the end, so that none of it is missing
			break
		}
	}
	return used, memory, redis
}

const (
	// flushBefore is when Redis is emptied: the wake-ups of the first seconds are set
	// and none has come yet.
	flushBefore = 2 * time.Second
	// hurtEvery is the time between two looks whether a third of the orders is closed.
	hurtEvery = 20 * time.Millisecond
)

// startTrouble makes the trouble that was asked for: an empty Redis, buyers who pay,
// workers that are killed or stopped. The function that it gives waits until it is over.
func (st *storm) startTrouble(ctx context.Context, run *running) (wait func()) {
	var wg sync.WaitGroup
	if st.k.Flush {
		wg.Go(func() {
			if sqldb.Sleep(ctx, time.Until(st.First.Add(-flushBefore))) {
				_ = st.rig.client.FlushAll(ctx).Err() // an empty Redis is what is seen, or not, in the lateness
			}
		})
	}
	if st.buyers != nil {
		wg.Go(func() { st.buyers.run(ctx, run.orders) })
	}
	if run.fleet != nil && (st.k.Kill || st.k.Pause) {
		wg.Go(func() {
			for run.fleet.closed() < st.crowd.n/3 {
				if !sqldb.Sleep(ctx, hurtEvery) {
					return
				}
			}
			run.fleet.disturb(ctx, st.k.Kill, st.k.Pause, st.k.PauseFor)
		})
	}
	return wg.Wait
}
