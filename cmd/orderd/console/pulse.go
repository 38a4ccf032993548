package console

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"orderd/order"
	"orderd/scheduler"
)

// pulse is what every page shows of the whole: how much waits for people, and whether the parts answer.
type pulse struct {
	// Counts are by the words of the menu; what nobody waits for is not there.
	Counts  map[string]int64
	Lights  []pulseLight
	Workers []scheduler.WorkerProcess
}

// pulseLight is a part and whether it answers: pass, warn, fail, or unknown.
type pulseLight struct {
	Name, Status, Detail string
	Count                int // of worker processes
}

// pulses reads the pulse for all pages and streams of a process.
type pulses struct {
	mu   sync.Mutex
	at   time.Time
	last pulse
}

const (
	// pulseFor is how long a pulse is kept: one reading in that time, however many pages are looked at.
	pulseFor = 2 * time.Second
	// pulseTimeout bounds one: a page is late by it at most, and then without.
	pulseTimeout = time.Second
	// mostCounted is how much is counted for a menu: nobody reads more than that there is very much of it.
	mostCounted = 10_000
)

// pulse gives the pulse of a moment ago. What could not be read is not in it: a page is shown without.
func (c *console) pulse(ctx context.Context) pulse {
	c.pulses.mu.Lock()
	defer c.pulses.mu.Unlock()
	if age := c.Now().Sub(c.pulses.at); !c.pulses.at.IsZero() && age >= 0 && age < pulseFor {
		return c.pulses.last
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), pulseTimeout)
	defer cancel()
	p := pulse{Counts: map[string]int64{}}
	if err := c.countWaiting(bounded, p.Counts); err != nil {
		c.Log.Warn("what waits for people is not counted", "err", err)
		p.Counts = map[string]int64{}
	}
	p.Lights, p.Workers = c.lights(bounded)
	c.pulses.at, c.pulses.last = c.Now(), p
	return p
}

// countWaiting counts what waits for people, each by an index.
func (c *console) countWaiting(ctx context.Context, into map[string]int64) error {
	refunds, err := c.Refunds.RefundBacklog(ctx)
	if err != nil {
		return err
	}
	for _, s := range []order.RefundState{order.RefundStatePending, order.RefundStateRefused,
		order.RefundStateAbnormal} {
		into["nav.refunds"] += refunds.Count[s]
	}
	held, err := c.Orders.HeldBacklog(ctx)
	if err != nil {
		return err
	}
	into["nav.held"] = held.Count
	if into["nav.timeouts"], err = c.Orders.Overdue(ctx, mostCounted+1); err != nil {
		return err
	}
	_, dead, err := c.Failures.Count(ctx)
	if err != nil {
		return err
	}
	into["nav.tasks"] = int64(dead)
	open, err := c.Reconciler.Open(ctx)
	if err != nil {
		return err
	}
	for _, n := range open.Count {
		into["nav.books"] += n
	}
	if c.Webhooks != nil {
		b, err := c.Webhooks.Backlog(ctx)
		if err != nil {
			return err
		}
		into["nav.webhooks"] = int64(b.Failing + b.Disabled)
	}
	if c.Shipments != nil {
		b, err := c.Shipments.Backlog(ctx)
		if err != nil {
			return err
		}
		into["nav.shipments"] = b.Refused
	}
	for word, n := range into {
		if n == 0 {
			delete(into, word)
		}
	}
	return nil
}

// countsOf are the counts that a role sees in its menu, and their sum in the first line of it.
func (c *console) countsOf(p pulse, role Role) map[string]int64 {
	mine, sum := map[string]int64{}, int64(0)
	for _, item := range c.nav(role, "", false) {
		if n := p.Counts[item.Word]; n > 0 && mayWork(role, item.Word) {
			mine[item.Word] = n
			sum += n
		}
	}
	if sum > 0 {
		mine["nav.overview"] = sum
	}
	return mine
}

// mayWork reports that a role can do something about what an entry of the menu counts: tasks that failed are for
// operators, and a number that calls others in vain is not looked at any more.
func mayWork(role Role, word string) bool { return word != "nav.tasks" || role.May(Operator) }

// counted is a count as it is shown: beyond mostCounted, that there are more.
func counted(n int64) string {
	if n > mostCounted {
		return strconv.Itoa(mostCounted) + "+"
	}
	return strconv.FormatInt(n, 10)
}

// lights are the parts that people know by name, of /readyz and of the queue.
func (c *console) lights(ctx context.Context) (all []pulseLight, workers []scheduler.WorkerProcess) {
	answer := c.Ready.look(ctx)
	for _, name := range []string{"database", "redis", "wechat"} {
		for _, l := range answer.Checks {
			if l.Name == name {
				all = append(all, pulseLight{Name: name, Status: l.Status, Detail: l.Detail})
			}
		}
	}
	if c.Tasks == nil {
		return all, nil
	}
	w := pulseLight{Name: "workers", Status: "unknown"}
	workers, err := c.workers(ctx)
	switch {
	case err != nil:
		w.Detail = fmt.Sprint(err)
	case len(workers) == 0:
		w.Status = "fail"
	default:
		w.Status, w.Count = "pass", len(workers)
	}
	return append(all, w), workers
}

// workers asks Redis for the processes that work, and waits no longer than ctx: the queue's own waits are longer, and
// all pages stand behind this one look.
func (c *console) workers(ctx context.Context) ([]scheduler.WorkerProcess, error) {
	type told struct {
		all []scheduler.WorkerProcess
		err error
	}
	answer := make(chan told, 1)
	go func() {
		all, err := c.Tasks.Workers()
		answer <- told{all, err}
	}()
	select {
	case t := <-answer:
		return t.all, t.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
