package main

import (
	"context"
	"os"
	"sync"
	"time"
)

// stormSample is what was seen at one moment.
type stormSample struct {
	At      float64 // seconds since the first deadline
	Overdue int     // due and not ended, as the processes tell; exact: Outcome.Backlog
	Memory  int64   // resident, bytes, of this process or the largest worker
	Redis   int64   // used_memory, bytes
	CPU     cpu     // since the start of the processes
}

// cpu is time on CPUs in seconds.
type cpu struct{ Own, MariaDB, Redis float64 }

func (c cpu) since(b cpu) cpu { return cpu{c.Own - b.Own, c.MariaDB - b.MariaDB, c.Redis - b.Redis} }

const sampleEvery = 200 * time.Millisecond

// watch samples from now until ctx ends. The function that it gives waits for
// that, and takes the last sample.
func (st *storm) watch(ctx context.Context, run *running) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			st.Samples = append(st.Samples, st.sample(ctx, run))
			pauseFor(ctx, sampleEvery)
		}
	})
	return func() {
		wg.Wait()
		st.Samples = append(st.Samples, st.sample(context.WithoutCancel(ctx), run))
	}
}

func (st *storm) sample(ctx context.Context, run *running) stormSample {
	now := time.Now()
	s := stormSample{At: now.Sub(st.First).Seconds(), Memory: memoryOf(os.Getpid()), Redis: redisMemory(ctx, st.s.client),
		Overdue: max(st.crowd.dueBy(now)-st.ended(run), 0),
		CPU:     cpu{cpuOf(os.Getpid()).Seconds(), cpuOf(st.s.mariaPID).Seconds(), cpuOf(st.s.redisPID).Seconds()}}
	if run.fleet != nil {
		s.Memory, s.CPU.Own = run.fleet.memory(), s.CPU.Own+run.fleet.cpu()
	}
	return s
}

// usage is the CPU between the first deadline and the end, and the peaks of
// memory in that time, which was so many seconds long.
func (st *storm) usage(over float64) (used cpu, memory, redis int64) {
	var from *stormSample
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

// trouble makes the trouble that was asked for. The function that it gives
// waits until it is over.
func (st *storm) trouble(ctx context.Context, run *running) (wait func()) {
	var wg sync.WaitGroup
	if st.k.Flush {
		wg.Go(func() {
			pauseFor(ctx, time.Until(st.First.Add(-flushBefore)))
			if ctx.Err() == nil {
				_ = st.s.client.FlushAll(ctx).Err() // an empty Redis is what is seen, or not, in the lateness
			}
		})
	}
	if st.buyers != nil {
		wg.Go(func() { st.buyers.run(ctx, run.orders) })
	}
	if run.fleet != nil && (st.k.Kill || st.k.Pause) {
		wg.Go(func() {
			for run.fleet.closed() < st.crowd.n/3 {
				if pauseFor(ctx, 20*time.Millisecond); ctx.Err() != nil {
					return
				}
			}
			run.fleet.hurt(ctx, st.k.Kill, st.k.Pause, st.k.PauseFor)
		})
	}
	return wg.Wait
}

const flushBefore = 2 * time.Second
