package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// Depth is how many tasks a queue holds.
type Depth struct {
	Queue string // its name; QueueExpire for all queues of timeouts together
	// States counts the tasks by asynq's states: pending (due, waits for a worker),
	// active, scheduled (not due yet), retry and archived.
	States map[string]int
	// Latency is the age of the oldest task that is due and waits to run.
	Latency time.Duration
	// Done is how many tasks were run, ever, with whatever result.
	Done int
	// Paused: an operator told asynq to hand out no tasks. The sweep goes on.
	Paused bool
}

// Depth reads the queues of timeouts together. It fails while Redis is away.
func (q *Queue) Depth() (Depth, error) {
	sum := Depth{Queue: QueueExpire, States: map[string]int{}}
	for _, queue := range append(slotQueues[:], QueueExpire) {
		d, err := q.DepthOf(queue)
		if err != nil {
			return sum, err
		}
		for state, n := range d.States {
			sum.States[state] += n
		}
		sum.Done += d.Done
		sum.Latency, sum.Paused = max(sum.Latency, d.Latency), sum.Paused || d.Paused
	}
	return sum, nil
}

// Scheduled gives the seconds, in Unix time, up to a time for which a wake-up is set: the
// orders that are due in one of them are taken by it. Redis is only a copy of what is due; what
// is missing here the sweep finds. It fails while Redis is away.
func (q *Queue) Scheduled(until time.Time) (map[int64]bool, error) {
	set := map[int64]bool{}
	known, err := q.inspector().Queues()
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	for _, queue := range slotQueues {
		if !slices.Contains(known, queue) {
			continue // nothing was ever set in it
		}
		for page := 1; ; page++ {
			tasks, err := q.inspector().ListScheduledTasks(queue, asynq.Page(page), asynq.PageSize(scheduledPage))
			if err != nil {
				return nil, fmt.Errorf("read the queue: %w", err)
			}
			past := false // they come by their time
			for _, t := range tasks {
				second, err := strconv.ParseInt(strings.TrimPrefix(t.ID, slotPrefix), 10, 64)
				if past = t.NextProcessAt.After(until); err == nil && !past {
					set[second] = true
				}
			}
			if past || len(tasks) < scheduledPage {
				break
			}
		}
	}
	return set, nil
}

// scheduledPage is how many tasks are read at once: their payloads are small.
const scheduledPage = 500

// DepthOf reads one queue. A queue that nothing was ever put into is empty.
func (q *Queue) DepthOf(queue string) (Depth, error) {
	d := Depth{Queue: queue, States: map[string]int{}}
	// Asked first, because GetQueueInfo's "not found" is an error of asynq's
	// internals that cannot be told from others.
	known, err := q.inspector().Queues()
	if err != nil {
		return d, fmt.Errorf("read the queue: %w", err)
	} else if !slices.Contains(known, queue) {
		return d, nil // nothing was ever set
	}
	info, err := q.inspector().GetQueueInfo(queue)
	if err != nil {
		return d, fmt.Errorf("read the queue: %w", err)
	}
	d.States = map[string]int{"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled,
		"retry": info.Retry, "archived": info.Archived}
	d.Latency, d.Paused, d.Done = info.Latency, info.Paused, info.ProcessedTotal
	return d, nil
}

// inspector is asynq's reader of queues. It holds nothing that has to be closed.
func (q *Queue) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(q.redis) }

// WorkerProcess is a process that runs tasks.
type WorkerProcess struct {
	Host    string
	PID     int
	Started time.Time
	Active  int // tasks that it runs now
}

// Workers gives the processes that run tasks, as Redis knows them: one that was killed is there for half
// a minute more. It fails while Redis is away.
func (q *Queue) Workers() ([]WorkerProcess, error) {
	servers, err := q.inspector().Servers()
	if err != nil {
		return nil, fmt.Errorf("read who runs tasks: %w", err)
	}
	var all []WorkerProcess
	for _, s := range servers {
		if _, rings := s.Queues[QueueRing]; rings {
			continue // it delivers webhooks, which an API process may do too
		}
		at := slices.IndexFunc(all, func(p WorkerProcess) bool { return p.Host == s.Host && p.PID == s.PID })
		if at < 0 {
			at = len(all)
			all = append(all, WorkerProcess{Host: s.Host, PID: s.PID, Started: s.Started})
		}
		all[at].Active += len(s.ActiveWorkers)
		if s.Started.Before(all[at].Started) {
			all[at].Started = s.Started
		}
	}
	slices.SortFunc(all, func(a, b WorkerProcess) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), a.PID-b.PID)
	})
	return all, nil
}
