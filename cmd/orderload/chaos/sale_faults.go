package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order/ordertest/canary"
	"orderd/stock"
)

// saleFault is something that goes wrong with a gate. do is done beside all other faults and
// says whether it has happened; it is done again until it has.
type saleFault struct {
	name string
	do   func(n *nemesis, ctx context.Context, rnd *rand.Rand) bool
}

// gateModes are the modes that a run can have, each with the steps at which a process kills
// itself and its faults.
var gateModes = map[string]struct {
	steps  []string
	faults []saleFault
}{
	string(stock.GateLocal): {
		steps: []string{"gate.taken", "gate.granted", "gate.recalled", "gate.marked", "gate.reopened"},
		faults: []saleFault{
			{"holder stopped while its bucket is recalled", (*nemesis).stopHolder},
			{"gate turned off and on in mid-sale", (*nemesis).turnGate},
			{"replenished in mid-sale", (*nemesis).replenished},
		},
	},
	string(stock.GateRedis): {
		steps: []string{"gate.taken", "gate.recalled", "gate.marked", "gate.reopened", "gate.given", "gate.opened",
			"gate.epoch", "gate.backed", "gate.acked"},
		faults: append(bucketFaults,
			saleFault{"holder stopped while its bucket is recalled", (*nemesis).stopHolder},
			saleFault{"gate turned off and on in mid-sale", (*nemesis).turnGate},
			saleFault{"replenished in mid-sale", (*nemesis).replenished}),
	},
	// A bucket of a sale with a queue is not called back: who stands still with its units keeps nobody waiting.
	stateQueued: {
		steps: []string{"gate.taken", "gate.recalled", "gate.marked", "gate.reopened", "gate.given", "gate.opened",
			"gate.epoch", "gate.acked", "drain.claimed", "drain.committed", "drain.refused", "drain.acked"},
		faults: queueFaults(),
	},
}

// sells is the name of the mode of a run, among gateModes.
func (o *Options) sells() string {
	if o.Rate > 0 {
		return stateQueued
	}
	return o.Gate
}

// reach gives the processes that come to a step: workers make the orders of a queue.
func (n *nemesis) reach(step string) []*process {
	if strings.HasPrefix(step, "drain.") {
		return n.workers
	}
	return n.apis
}

// killedAt names the fault of a process that kills itself at a step.
const killedAt = "killed at "

// saleFaults are the faults of the mode of a run, those of its steps first, or some of them in
// an order that the seed draws.
func (o *Options) saleFaults() (all []saleFault) {
	m := gateModes[o.sells()]
	for _, step := range m.steps {
		all = append(all, saleFault{killedAt + step, func(n *nemesis, ctx context.Context, rnd *rand.Rand) bool {
			return n.killAt(ctx, rnd, step)
		}})
	}
	all = append(all, m.faults...)
	if o.SaleFaults == 0 {
		return all
	}
	const stream = 667 // apart from the nemesis's
	rnd := rand.New(rand.NewPCG(o.Seed, stream))
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(o.SaleFaults, len(all))]
}

// rounds is how often each fault of a gate comes, as far as it has one.
func (o *Options) rounds() int {
	if !o.gated() {
		return 0
	}
	return max(1, o.Kills/killsOfRound)
}

const (
	// killsOfRound is how many kills there are for each round of faults of a gate.
	killsOfRound = 10
	// saleTries is how often a fault of a gate is tried at most, in all rounds together, beyond
	// those that happen: then the run is invalid, and ends.
	saleTries = 6
)

// sellBadly begins the next fault of the gate when one is due and none is under way.
func (n *nemesis) sellBadly(ctx context.Context, o *Options, share float64) {
	if !o.gated() || n.selling.Load() {
		return
	}
	faults := o.saleFaults()
	n.mu.Lock()
	begun := n.saleBegun
	due := begun < o.rounds()*len(faults) && share >= float64(begun)/float64(o.rounds()*len(faults)+1)
	if due {
		n.saleBegun++
	}
	n.mu.Unlock()
	if !due {
		return
	}
	// Of its own random numbers, since it runs beside those who draw.
	f, rnd := faults[begun%len(faults)], rand.New(rand.NewPCG(n.rnd.Uint64(), n.rnd.Uint64()))
	n.selling.Store(true)
	n.lasting(func() {
		defer n.selling.Store(false)
		for range saleTries {
			n.history.add(line{At: time.Now(), Op: "nemesis: " + f.name})
			if done := f.do(n, ctx, rnd); done {
				n.mu.Lock()
				n.saleFaults[f.name]++
				n.mu.Unlock()
				return
			}
			if !sqldb.Sleep(ctx, time.Second) {
				return
			}
		}
	})
}

// saleLeft is how many faults of the gate have not ended yet.
func (n *nemesis) saleLeft(o *Options) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := o.rounds()*len(o.saleFaults()) - n.saleBegun
	if n.selling.Load() {
		left++
	}
	return left
}

const (
	// killPatience is how long a step is waited for. Who comes to it first dies.
	killPatience = 8 * time.Second
	// armTimeout is for one word to a process, which may be stopped.
	armTimeout = time.Second
)

// killAt has the first process that reaches a step kill itself there. False: none did in
// time.
func (n *nemesis) killAt(ctx context.Context, rnd *rand.Rand, step string) bool {
	before := n.killsAt(step)
	for _, p := range n.reach(step) {
		p.arm(ctx, step, "kill")
	}
	n.provoke(ctx, rnd, step)
	for end := time.Now().Add(killPatience); n.killsAt(step) == before && time.Now().Before(end); {
		if !sqldb.Sleep(ctx, readyEvery/10) {
			break
		}
	}
	for _, p := range n.reach(step) {
		p.arm(context.WithoutCancel(ctx), step, "")
	}
	return n.killsAt(step) > before
}

// killsAt counts the processes so far that have killed themselves at a step, by the file into
// which each writes a line before.
func (s *stage) killsAt(step string) int {
	text, err := os.ReadFile(filepath.Join(s.dir, stepsLog))
	if err != nil {
		return 0 // it is made by the first process that starts
	}
	return strings.Count("\n"+string(text), "\n"+step+" kill ")
}

// stepsLog has a line for every step at which a process was told to kill itself, and did.
const stepsLog = "steps"

// arm tells a process what to do at a step, nothing for "". One that is away is not armed.
func (p *process) arm(ctx context.Context, step, action string) {
	ctx, cancel := context.WithTimeout(ctx, armTimeout)
	defer cancel()
	method := http.MethodPut
	if action == "" {
		method = http.MethodDelete
	}
	p.mu.Lock()
	p.armed = p.running() && action != ""
	p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.steps+"/"+step, strings.NewReader(action))
	if err != nil {
		panic(err) // an address and a step of ours
	}
	if res, err := (&http.Client{Timeout: readyTimeout}).Do(req); err == nil {
		_ = res.Body.Close()
	}
}

const (
	// holderStopped is how long a process stands still whose bucket is taken away.
	holderStopped = 10 * time.Second
	// recallAfter is how long its buckets are left to those who find the pool short.
	recallAfter = 3 * time.Second
)

// stopHolder stops a process that holds units (SIGSTOP), has its bucket taken away meanwhile,
// by whoever finds the pool short or else by the operator who sets the gate once more, and lets
// it go on: what it has given out is nobody's by then, and its callers must not notice.
func (n *nemesis) stopHolder(ctx context.Context, rnd *rand.Rand) bool {
	bucket, id, p := n.holder(ctx, rnd)
	if p == nil || !p.signal(syscall.SIGSTOP) {
		return false
	}
	end := time.Now().Add(holderStopped)
	defer p.signal(syscall.SIGCONT)
	closed := false
	for recall := time.Now().Add(recallAfter); time.Now().Before(end); {
		closed = closed || n.bucketClosed(ctx, bucket)
		if !closed && time.Now().After(recall) {
			i := slices.IndexFunc(sale, func(g goods) bool { return skuID(g.n) == id })
			// It may hold the lock of the row in a transaction: then the server waits for it.
			_ = n.setGateOnce(ctx, n.gateAs(&sale[i], stock.GateMode(n.gate)), n.workers[0])
		}
		if !sqldb.Sleep(ctx, quietEvery) {
			return false
		}
	}
	return closed
}

// holder draws a bucket that has units, and gives its id, its SKU and the process that holds it.
func (n *nemesis) holder(ctx context.Context, rnd *rand.Rand) (bucket int64, id string, p *process) {
	buckets, err := stock.NewAdmin(n.db, time.Now).OpenBuckets(ctx)
	if err != nil {
		return 0, "", nil
	}
	rnd.Shuffle(len(buckets), func(i, j int) { buckets[i], buckets[j] = buckets[j], buckets[i] })
	drawn := n.apis[rnd.IntN(len(n.apis))]
	for i := range buckets {
		b := &buckets[i]
		ours := slices.ContainsFunc(sale, func(g goods) bool { return skuID(g.n) == b.SkuID })
		for _, p := range n.apis {
			shared := b.Home == stock.HomeRedis && p == drawn // every process gives out what is in Redis
			if ours && b.Remaining > 0 && (shared || p.home(b.Home)) {
				return b.ID, b.SkuID, p
			}
		}
	}
	return 0, "", nil
}

// home reports that a bucket's home is this process: its number is in the name.
func (p *process) home(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running() && strings.Contains(name, fmt.Sprintf("-%d-", p.cmd.Process.Pid))
}

// bucketClosed reports that a bucket was taken away; not as long as nobody can say.
func (s *stage) bucketClosed(ctx context.Context, id int64) (closed bool) {
	err := s.db.QueryRowContext(ctx, `SELECT state = 'closed'
FROM stock_buckets
WHERE bucket_id = ?`, id).Scan(&closed)
	return err == nil && closed
}

// turnGate turns a gate off in mid-sale, and on again a moment later. A sale with a limit keeps
// its gate, which is where the limit is.
func (n *nemesis) turnGate(ctx context.Context, rnd *rand.Rand) bool {
	free := slices.DeleteFunc(slices.Clone(sale), func(g goods) bool { return g.limit > 0 })
	g := free[rnd.IntN(len(free))]
	if err := n.setGate(ctx, n.gateAs(&g, stock.GateOff)); err != nil {
		return false
	}
	sqldb.Sleep(ctx, 200*time.Millisecond+time.Duration(rnd.Int64N(int64(2*time.Second))))
	if err := n.setGate(context.WithoutCancel(ctx), n.gateAs(&g, stock.GateMode(n.gate))); err != nil {
		n.failed(fmt.Errorf("turn the gate of %s on again: %w", skuID(g.n), err))
		return false
	}
	return true
}

// replenished lets more come in of the SKU that is sold out of its buckets.
func (n *nemesis) replenished(ctx context.Context, rnd *rand.Rand) bool {
	const g = 1 // of sale
	units := 50 + rnd.Int64N(200)
	if err := n.replenish(ctx, g, units, fmt.Sprint(rnd.Uint32())); err != nil { // nobody knows what came in
		n.failed(err)
		return false
	}
	return true
}

// replenish lets units of one of the goods come in, by the operator's route, with one key until
// there is an answer.
func (s *stage) replenish(ctx context.Context, g int, units int64, key string) error {
	id := skuID(sale[g].n)
	body := fmt.Sprintf(`{"quantity":%d,"reason":"a chaos run"}`, units)
	err := persist(context.WithoutCancel(ctx), func() error {
		p := s.apis[rand.IntN(len(s.apis))]
		return operate(ctx, "http://"+p.admin+"/admin/v1/skus/"+id+"/replenish", "Idempotency-Key", "more-"+key, body)
	})
	if err != nil {
		return fmt.Errorf("replenish %s: %w", id, err)
	}
	s.came(id, units)
	return nil
}

// operateTimeout is for one answer to an operator.
const operateTimeout = 5 * time.Second

// operate is one request of an operator with one header more. Anything but a 200 is an error.
func operate(ctx context.Context, url, header, value, body string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), operateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+canary.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	if value != "" {
		req.Header.Set(header, value)
	}
	res, err := (&http.Client{Timeout: buyerTimeout}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxQuote))
		return fmt.Errorf("%s answered %d: %s", url, res.StatusCode, text)
	}
	return nil
}
