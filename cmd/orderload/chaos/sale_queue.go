package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/order/ordertest/canary"
	"orderd/order/ordertest/model"
	"orderd/stock"
)

// A sale in Redis with a rate has a queue. Who is told 202 has a place in line under a number, and
// no order. What must hold of him, in every order of faults:
//
//	Q1  he has one order in the end, or was told that there is none, or has withdrawn it
//	Q2  he is not refused for stock, because his units are set aside
//	Q3  what he has withdrawn never becomes an order
//	Q4  his order has the number that he was told
//
// A Redis that loses something may break them for whom it has lost, and a gate that is turned off
// hands his units to others: what was told before such a fault has ended is excused. Of one who was
// told again later his order may still be that of an earlier number: a drainer may have had it.

// stateQueued is the state of a placement in line, and the name of such runs among gateModes.
const stateQueued = "queued"

// inLine is what a visit was told of its place in line.
type inLine struct {
	no        string    // of the newest 202, "" without
	at        time.Time // when it was first told
	first     time.Time // when the first of all was
	withdrawn time.Time // when it was told that it is withdrawn; zero: never
	// unsure: a cancel of it had no answer.
	unsure  bool
	refused time.Time // when it was told that no order comes of it
}

// doubts are the times in which Redis may have forgotten who waits.
type doubts struct {
	mu    sync.Mutex
	under int // faults under way
	ended time.Time
}

// begin begins one; end must follow.
func (d *doubts) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.under++
}

// settles is how long what a fault has done is found out, and acted upon, after it.
const settles = 5 * time.Second

// end ends one.
func (d *doubts) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.under--
	d.ended = time.Now().Add(settles)
}

// since reports that what was told at a time may have been forgotten since.
func (d *doubts) since(at time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.under > 0 || d.ended.After(at)
}

// doubtful makes a fault one that has people forgotten who wait.
func doubtful(f saleFault) saleFault {
	do := f.do
	f.do = func(n *nemesis, ctx context.Context, rnd *rand.Rand) bool {
		n.doubts.begin()
		defer n.doubts.end()
		return do(n, ctx, rnd)
	}
	return f
}

// keepsAll are the faults of a Redis that lose nothing.
var keepsAll = []string{"its Redis killed, appendfsync everysec", "its Redis killed, appendfsync always",
	"its Redis stopped", "buckets scaled every second"}

// queueFaults are those of a sale with a queue.
func queueFaults() (all []saleFault) {
	for _, f := range bucketFaults {
		if !slices.Contains(keepsAll, f.name) {
			f = doubtful(f)
		}
		all = append(all, f)
	}
	return append(all, doubtful(saleFault{"gate turned off and on in mid-sale", (*nemesis).turnGate}),
		saleFault{"replenished in mid-sale", (*nemesis).replenished},
		saleFault{"a process alone without it, buckets rebuilt", (*nemesis).leaveAlone})
}

// aloneFor is how long one process is without the Redis that the others have: longer than it takes to
// find that out, shorter than until it takes the sale for forsaken.
const aloneFor = 6 * time.Second

// leaveAlone takes the Redis of the buckets away from one process, and has the buckets of a sale given
// up at once meanwhile: what others wait for is in the pool then.
func (n *nemesis) leaveAlone(ctx context.Context, rnd *rand.Rand) bool {
	n.aloneProxy.Down(true)
	defer n.aloneProxy.Down(false)
	if !sqldb.Sleep(ctx, aloneFor/2) {
		return false
	}
	id := skuID(sale[rnd.IntN(len(sale))].n)
	err := persist(ctx, func() error {
		g, found, err := stock.NewAdmin(n.db, time.Now).FindGate(ctx, id)
		if err != nil || !found {
			return fmt.Errorf("find the gate of %s: %t, %w", id, found, err)
		}
		p := n.workers[rnd.IntN(len(n.workers))]
		return operate(ctx, "http://"+p.admin+"/admin/v1/skus/"+id+"/rebuild-cache", "If-Match",
			fmt.Sprintf(`"v%d"`, g.Version), `{"reason":"a chaos run"}`)
	})
	return err == nil && sqldb.Sleep(ctx, aloneFor/2)
}

// waiting is how many placements wait in all queues.
func (s *stage) waiting(ctx context.Context) (n int64, err error) {
	if s.rate == 0 {
		return 0, nil
	}
	client := redis.NewClient(&redis.Options{Addr: s.buckets.Addr, Password: canary.RedisPass})
	defer func() { _ = client.Close() }()
	lines, err := client.Keys(ctx, "orderd:queue_*").Result()
	if err != nil {
		return 0, err
	}
	for _, line := range lines {
		in, err := client.XLen(ctx, line).Result()
		if err != nil {
			return 0, err
		}
		n += in
	}
	return n, nil
}

// lineEnd is how a buyer leaves the line.
type lineEnd int

const (
	lineOrder lineEnd = iota // it is an order
	lineAgain                // he is to place it again, with the same key
	lineOver                 // no order comes of it, or he goes home
)

const (
	// linePatience is how long a buyer waits in line.
	linePatience = 40 * time.Second
	// lineEvery is between two looks, and twice that at most.
	lineEvery = 200 * time.Millisecond
)

// told notes an answer of 202.
func (b *buyer) told(a answer) {
	b.visit.mu.Lock()
	defer b.visit.mu.Unlock()
	l := &b.line
	if l.no == a.body.OrderNo {
		return
	}
	if l.no != "" && !b.stage.doubts.since(l.first) {
		b.violated("Q4: key %s/%s waits as %s, and was told %s before", b.customer, b.key, a.body.OrderNo, l.no)
	}
	now := time.Now()
	if l.first.IsZero() {
		l.first = now
	}
	*l = inLine{no: a.body.OrderNo, at: now, first: l.first}
	b.count("told to wait")
}

// wait follows a place in line to its end. Some withdraw, and some press the button again.
func (b *buyer) wait() lineEnd {
	if b.rnd.IntN(6) == 0 {
		sqldb.Sleep(b.ctx, time.Duration(b.rnd.IntN(1000))*time.Millisecond)
		if end, over := b.withdraw(); over {
			return end
		}
	}
	for end := time.Now().Add(linePatience); time.Now().Before(end); {
		if !sqldb.Sleep(b.ctx, lineEvery+time.Duration(b.rnd.Int64N(int64(lineEvery)))) {
			return lineOver
		}
		if b.rnd.IntN(10) == 0 {
			return lineAgain
		}
		if end, over := b.look(); over {
			return end
		}
	}
	b.count("went home out of the line")
	return lineOver
}

// look reads what became of a place in line. False: it waits, or nobody knows.
func (b *buyer) look() (lineEnd, bool) {
	began := time.Now()
	op := b.began(model.Get)
	a := b.call(b.ctx, "look", http.MethodGet, "/v1/orders/"+b.line.no, "", nil)
	stale := b.stage.stale.excuses(began)
	shown := a.body.State
	if a.status != http.StatusOK || shown == stateQueued || b.withdrawnView(a) {
		b.ended(op, answer{}, model.Untold)
	} else {
		b.ordered(a)
		b.ended(op, a, shown)
	}
	switch {
	case a.status == http.StatusOK && shown == stateQueued:
		return 0, false
	case a.status == http.StatusOK && b.withdrawnView(a):
		return b.withdrawn(), true
	case a.status == http.StatusOK:
		return lineOrder, true
	case a.status == http.StatusNotFound && stale:
		return 0, false
	default:
		return b.notMade(a)
	}
}

// withdrawnView reports that an answer shows a place in line that was withdrawn: it has nothing of an
// order but its number and that it is closed.
func (b *buyer) withdrawnView(a answer) bool {
	return a.body.State == order.StateClosed && a.body.TimeExpire.IsZero()
}

// ordered notes the order that a place in line has become.
func (b *buyer) ordered(a answer) {
	if a.body.OrderNo != b.line.no && !b.stage.doubts.since(b.line.first) {
		b.violated("Q4: %s/%s waited as %s and has order %s", b.customer, b.key, b.line.no, a.body.OrderNo)
	}
	b.orderNo = a.body.OrderNo
	b.expireAt = a.body.TimeExpire
	b.count("ordered after waiting")
}

// notMade is for an answer that is no order: the refusal that became of it, or that it is not there. False
// for what says nothing about it.
func (b *buyer) notMade(a answer) (lineEnd, bool) {
	lost := b.stage.doubts.since(b.line.at)
	switch {
	case a.status == 0 || a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests:
		return 0, false
	case a.status == http.StatusNotFound:
		if !lost {
			b.violated("Q1: %s/%s waits as %s, and it does not exist", b.customer, b.key, b.line.no)
		}
		b.count("place in line lost")
		return lineAgain, true
	case finals[a.code] == "":
		b.violated("%s/%s waits as %s, and was answered %d %s", b.customer, b.key, b.line.no, a.status, a.code)
	case a.code == orderhttp.CodeStockInsufficient && !lost:
		b.violated("Q2: %s/%s waited as %s, and was told that it is sold out", b.customer, b.key, b.line.no)
	case a.code == orderhttp.CodeStockInsufficient:
		b.soldOut(a)
	}
	b.visit.mu.Lock()
	b.line.refused = time.Now()
	b.visit.mu.Unlock()
	b.count("refused after waiting: " + finals[a.code])
	return lineOver, true
}

// withdraw asks once for the end of a place in line. False: it waits, or nobody knows.
func (b *buyer) withdraw() (lineEnd, bool) {
	op := b.began(order.EventCancel)
	a := b.call(b.ctx, "withdraw", http.MethodPost, "/v1/orders/"+b.line.no+"/cancel", "",
		map[string]any{"reason": "changed my mind"})
	is := a.status == http.StatusOK || a.status == http.StatusAccepted
	switch {
	case is && b.withdrawnView(a):
		b.ended(op, answer{status: http.StatusOK, refused: true}, model.Untold)
		return b.withdrawn(), true
	case is:
		b.ordered(a)
		b.ended(op, a, a.body.State)
		b.count("withdrew too late")
		return lineOrder, true
	}
	b.ended(op, answer{}, model.Untold)
	b.visit.mu.Lock()
	b.line.unsure = true
	b.visit.mu.Unlock()
	return b.notMade(a)
}

// withdrawn notes that a place in line was withdrawn. Half of those who hear it press the button again.
func (b *buyer) withdrawn() lineEnd {
	b.visit.mu.Lock()
	if b.line.withdrawn.IsZero() {
		b.line.withdrawn = time.Now()
	}
	b.visit.mu.Unlock()
	b.count("withdrawn from the line")
	if b.rnd.IntN(2) == 0 {
		op := b.began(model.Place)
		a := b.call(b.ctx, "place", http.MethodPost, "/v1/orders", b.key, b.wanted)
		b.ended(op, answer{}, model.Untold)
		if a.status == http.StatusCreated && !b.stage.doubts.since(b.line.first) {
			b.violated("Q3: %s/%s was told that %s is withdrawn, and its repeat made order %s", b.customer, b.key,
				b.line.no, a.body.OrderNo)
		}
	}
	return lineOver
}

// inLine is Q1 to Q4 of a visit at the end; no is the order of its key, "" without.
func (j *judge) inLine(v *visit, no string) {
	l := v.line
	told := v.refused != "" || !l.withdrawn.IsZero() || !l.refused.IsZero() || l.unsure
	switch {
	case l.no == "":
	case no == "" && !told && !j.doubts.since(l.at):
		j.report.violated("Q1: %s/%s was told to wait as %s, and has no order", v.customer, v.key, l.no)
	case no != "" && !l.withdrawn.IsZero() && !j.doubts.since(l.first):
		j.report.violated("Q3: %s/%s was told that %s is withdrawn, and has order %s", v.customer, v.key, l.no, no)
	case no != "" && !l.refused.IsZero() && !j.doubts.since(l.first):
		j.report.violated("Q1: %s/%s was told that %s was refused, and has order %s", v.customer, v.key, l.no, no)
	case no != "" && no != l.no && !j.doubts.since(l.first):
		j.report.violated("Q4: %s/%s was told to wait as %s, and has order %s", v.customer, v.key, l.no, no)
	}
}

// restRate is the rate by which the rest of a SKU is bought: nobody waits.
const restRate = 10_000

// restOrders bounds how many orders the rest of a SKU is bought in, where there is a queue.
const restOrders = 100

// restOf buys what is left of a SKU of a sale with a queue, in orders that fit into one of its buckets: T4.
func (j *judge) restOf(ctx context.Context, id string, n int) error {
	for range restOrders {
		left, err := j.left(ctx, id)
		if err != nil || left == 0 {
			return err
		}
		b, units := j.shop.stranger(ctx), max(1, left/(2*mostBuckets))
		b.rnd = rand.New(rand.NewPCG(j.shop.o.Seed, uint64(left))) //nolint:gosec // units are not negative
		b.wanted = cartOf(n, int(units))
		var a answer
		if err := persist(ctx, func() error {
			if a = b.ask(ctx, b.wanted); a.status == 0 || a.status >= http.StatusInternalServerError {
				return fmt.Errorf("buy the rest of %s: answer %d %s", id, a.status, a.code)
			}
			return nil
		}); err != nil {
			return err
		}
		if a.status == http.StatusAccepted {
			if err := persist(ctx, func() error {
				if _, over := b.look(); !over {
					return fmt.Errorf("buy the rest of %s: %s still waits", id, b.line.no)
				}
				return nil
			}); err != nil {
				return err
			}
			continue
		}
		if a.status != http.StatusCreated {
			j.report.violated("T4: %d units of %s are left, and %s/%s was told %s", left, id, b.customer, b.key, a.code)
			return nil
		}
	}
	return nil
}
