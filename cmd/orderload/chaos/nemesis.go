package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/payment/wechatsim"
)

// nemesis does what goes wrong in a data centre, one weighted action after the
// other; what lasts overlaps with what follows.
type nemesis struct {
	*stage
	// rnd makes every choice; it belongs to the goroutine that calls once.
	rnd     *rand.Rand // of its own goroutine only
	history *history
	// wg has what lasts: pauses, outages, servers that are coming up.
	wg sync.WaitGroup // what lasts

	killDeck, otherDeck []action // what is dealt next

	usual time.Duration // by which timeouts come late without faults

	// What happened, for the report. A fault counts when it was done, not when it was
	// dealt.
	mu     sync.Mutex
	kills  map[string]int // by victim
	faults map[string]int // by action
	tried  map[string]Trial
	trials int // begun
	// Faults of the gate: how many were begun, and what has happened of each.
	saleBegun  int
	saleFaults map[string]int
	selling    atomic.Bool // one is under way
	err        error       // the first failure of the nemesis itself
}

// newNemesis has done nothing yet; all its choices follow from the seed.
func newNemesis(s *stage, o Options, h *history) *nemesis {
	const stream = 666 // apart from the buyers', which have their number
	return &nemesis{stage: s, rnd: rand.New(rand.NewPCG(o.Seed, stream)), history: h,
		kills: map[string]int{}, faults: map[string]int{}, tried: map[string]Trial{},
		saleFaults: map[string]int{}}
}

// action is something that goes wrong, with its weight: how often it stands in a deck. do
// says whether it could be done now, such as a kill of what is not down already.
type action struct {
	weight int
	name   string
	do     func(n *nemesis, ctx context.Context) bool // whether it could be done
}

// actions are all that can go wrong. A deck has each as often as its weight.
var actions = []action{
	// SIGKILL: nothing is drained, and what was under way has no answer.
	{4, "kill api", func(n *nemesis, _ context.Context) bool { return n.killProcess(n.apis) }},
	{4, "kill worker", func(n *nemesis, _ context.Context) bool { return n.killProcess(n.workers) }},
	{3, "kill mariadb", (*nemesis).killMariaDB},
	{3, "kill redis", (*nemesis).killRedis},
	// Redis comes back empty, as after a fail-over to a replica that lags behind.
	{1, "flushall", (*nemesis).flush},
	// What stands still and goes on later, believing what it knew.
	{2, "pause a process", (*nemesis).pauseProcess},
	{2, "pause a server", (*nemesis).pauseServer},
	// The proxy cuts a connection at its COMMIT, before or after the server has seen it,
	// or delays that: the service cannot know which.
	{3, "cut before commit", func(n *nemesis, _ context.Context) bool { return n.commits(faultproxy.CutBefore) }},
	{3, "cut after commit", func(n *nemesis, _ context.Context) bool { return n.commits(faultproxy.CutAfter) }},
	{1, "late commit", func(n *nemesis, _ context.Context) bool { return n.commits(faultproxy.Late) }},
	{1, "stall commit", func(n *nemesis, _ context.Context) bool { n.mysqlProxy.Next(faultproxy.Stall); return true }},
	// The network: cut, slow, or silent with connections open.
	{2, "reset connections", func(n *nemesis, _ context.Context) bool { n.either().Reset(); return true }},
	{2, "latency", (*nemesis).latency},
	{2, "silence", (*nemesis).silence},
	// WeChat Pay: wrong answers, slow ones, and an end of both.
	{3, "wechat away", (*nemesis).wechatAway},
	{2, "wechat slow", (*nemesis).wechatSlow},
	{2, heals, func(n *nemesis, _ context.Context) bool { n.sim.ClearFaults(); return true }},
	// The database as seen during a fail-over, and beside somebody's open transaction.
	{2, "read only", (*nemesis).readOnly},
	{2, "locks held", (*nemesis).holdLocks},
	// The faults of the trials, beside all others and without a stopwatch.
	{2, "row locked", (*nemesis).rowLocked},
	{1, "host dead in a transaction", func(n *nemesis, _ context.Context) bool {
		n.mysqlProxy.Next(faultproxy.Dead)
		return true
	}},
	{1, "redis refuses", (*nemesis).refusing},
}

// heals is the one action that is no fault: what buyers and outages have armed
// and nothing met would pile up.
const heals = "wechat well again"

// kills reports whether it is a kill and no other fault: a run needs enough of both.
func (a action) kills() bool { return strings.HasPrefix(a.name, "kill") }

// once does one action, a kill or something else. Actions are dealt from a
// shuffled deck that has each as often as its weight, so that even a short run
// meets all of them.
func (n *nemesis) once(ctx context.Context, kill bool) {
	deck := &n.otherDeck
	if kill {
		deck = &n.killDeck
	}
	if len(*deck) == 0 {
		for _, a := range actions {
			for range a.weight {
				if a.kills() == kill {
					*deck = append(*deck, a)
				}
			}
		}
		n.rnd.Shuffle(len(*deck), func(i, j int) { (*deck)[i], (*deck)[j] = (*deck)[j], (*deck)[i] })
	}
	a := (*deck)[0]
	*deck = (*deck)[1:]
	n.history.add(line{At: time.Now(), Op: "nemesis: " + a.name})
	if a.do(n, ctx) && !kill && a.name != heals {
		n.mu.Lock()
		n.faults[a.name]++
		n.mu.Unlock()
	}
}

// counts is how many kills and other faults there were so far, all victims and all
// actions together.
func (n *nemesis) counts() (kills, faults int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return sum(n.kills), sum(n.faults)
}

// killed counts a kill of a victim, when it has happened.
func (n *nemesis) killed(what string) {
	n.mu.Lock()
	n.kills[what]++
	n.mu.Unlock()
}

// failure is what went wrong with the nemesis itself.
func (n *nemesis) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// failed notes the first failure of the nemesis itself, such as a MariaDB that does not
// start again: the run is no verdict then.
func (n *nemesis) failed(err error) {
	n.mu.Lock()
	if n.err == nil {
		n.err = err
	}
	n.mu.Unlock()
}

// lasting runs something beside what follows; heal waits for it.
func (n *nemesis) lasting(do func()) { n.wg.Go(do) }

// between draws a time from lo on and below hi.
func (n *nemesis) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(n.rnd.Int64N(int64(hi-lo)))
}

// killProcess kills one; the supervisor starts it again.
func (n *nemesis) killProcess(of []*process) bool {
	p := of[n.rnd.IntN(len(of))]
	if p.kill(n.between(0, 700*time.Millisecond)) {
		n.killed(strings.TrimRight(p.name, "0123456789"))
		return true
	}
	return false
}

// killMariaDB kills the database, which comes back by its log (InnoDB's crash recovery):
// what was acknowledged must be in it.
func (n *nemesis) killMariaDB(ctx context.Context) bool {
	return n.killServer(ctx, "mariadb", &n.mysqlUp, n.mariadb)
}

// killRedis kills the queue. Its log is on disk; up to a second of it may be lost, as
// Redis' appendfsync everysec says.
func (n *nemesis) killRedis(ctx context.Context) bool {
	return n.killServer(ctx, "redis", &n.redisUp, n.redis)
}

// killServer kills a server (SIGKILL) and starts it again after a while. up is held
// meanwhile, so that no other action takes a server that is down; false when it was.
func (n *nemesis) killServer(ctx context.Context, name string, up *sync.Mutex, server interface {
	Kill()
	Start(ctx context.Context) error
}) bool {
	wait := n.between(0, 500*time.Millisecond)
	if !up.TryLock() {
		return false
	}
	server.Kill()
	n.killed(name)
	n.lasting(func() {
		defer up.Unlock()
		sqldb.Sleep(ctx, wait)
		if err := server.Start(context.WithoutCancel(ctx)); err != nil {
			n.failed(fmt.Errorf("%s: %w", name, err))
		}
	})
	return true
}

// flush empties Redis: the queue is lost, and with it every wake-up that was set. False
// while Redis is down or reads its log.
func (n *nemesis) flush(ctx context.Context) bool {
	if !n.redisUp.TryLock() {
		return false
	}
	defer n.redisUp.Unlock()
	return command(ctx, n.redis.Addr, "FLUSHALL") == nil // it may be reading its log still
}

// maxPause is the longest time for which a service is stopped.
const maxPause = 6 * time.Second

// pauseProcess stops a service (SIGSTOP), which does not notice: as a long pause of a
// virtual machine. It goes on believing what it knew; a lease or a lock that it held may
// be another's by then.
func (n *nemesis) pauseProcess(ctx context.Context) bool {
	all := n.processes()
	p, d := all[n.rnd.IntN(len(all))], n.between(time.Second, maxPause)
	if !p.signal(syscall.SIGSTOP) {
		return false
	}
	n.lasting(func() {
		sqldb.Sleep(ctx, d)
		p.signal(syscall.SIGCONT)
	})
	return true
}

// pauseServer stops Redis or MariaDB: connections stay, answers do not come. Time-outs
// are all that helps.
func (n *nemesis) pauseServer(ctx context.Context) bool {
	d := n.between(300*time.Millisecond, 2*time.Second)
	up, stop, cont := &n.redisUp, n.redis.Pause, n.redis.Resume
	if n.rnd.IntN(2) == 0 {
		up, stop, cont = &n.mysqlUp, n.mariadb.Pause, n.mariadb.Resume
	}
	if !up.TryLock() {
		return false
	}
	stop()
	n.lasting(func() { defer up.Unlock(); sqldb.Sleep(ctx, d); cont() })
	return true
}

// commits lets every second to fifth COMMIT meet a mode until eight have, or for three
// seconds: one alone meets an idle moment too easily.
func (n *nemesis) commits(m faultproxy.Mode) bool {
	const some, patience = 8, 3 * time.Second
	before := n.mysqlProxy.Hits(m)
	n.mysqlProxy.Every(2+n.rnd.IntN(4), m)
	n.lasting(func() {
		for end := time.Now().Add(patience); n.mysqlProxy.Hits(m) < before+some && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond) // polling, not timing
		}
		n.mysqlProxy.Every(0, faultproxy.Pass)
	})
	return true
}

// either is a proxy, two times of three that of MariaDB: more depends on it.
func (n *nemesis) either() *faultproxy.Proxy {
	if n.rnd.IntN(3) == 0 {
		return n.redisProxy
	}
	return n.mysqlProxy
}

// latency delays every byte of a proxy by 5 to 80 ms, for one to three seconds: a
// database in another city.
func (n *nemesis) latency(ctx context.Context) bool {
	p, by, d := n.either(), n.between(5*time.Millisecond, 80*time.Millisecond), n.between(time.Second, 3*time.Second)
	p.Latency(by)
	n.lasting(func() { sqldb.Sleep(ctx, d); p.Latency(0) })
	return true
}

// silence lets a proxy swallow everything, connections stay open: what a firewall that
// has forgotten them does. Only time-outs notice it.
func (n *nemesis) silence(ctx context.Context) bool {
	p, d := n.either(), n.between(300*time.Millisecond, 2*time.Second)
	p.Silence(true)
	n.lasting(func() { sqldb.Sleep(ctx, d); p.Silence(false) })
	return true
}

// wechatAway spoils the next 5 to 64 calls of every endpoint in one way that is drawn: an
// error, a cut before or after the work, or an answer whose signature must not be
// believed.
func (n *nemesis) wechatAway(context.Context) (done bool) {
	kinds := []wechatsim.Fault{{Kind: wechatsim.FaultStatus, Status: 503}, {Kind: wechatsim.FaultStatus, Status: 429},
		{Kind: wechatsim.FaultCutBefore}, {Kind: wechatsim.FaultCutAfter}, {Kind: wechatsim.FaultBadSignature},
		{Kind: wechatsim.FaultNoSignature}, {Kind: wechatsim.FaultOldTimestamp}, {Kind: wechatsim.FaultUnknownSerial}}
	f := kinds[n.rnd.IntN(len(kinds))]
	for _, endpoint := range []string{"prepay", "close", "query", "refund", "refund_query"} {
		f.Endpoint, f.OutTradeNo, f.Count = endpoint, "*", 5+n.rnd.IntN(60)
		done = n.sim.AddFault(f) == nil || done
	}
	return done
}

// wechatSlow lets the next answers and callbacks take 0.2 to 1.7 seconds. A call of the
// service has a second at this pace, so that some answers come in time and others after
// the service has given up.
func (n *nemesis) wechatSlow(context.Context) (done bool) {
	for _, endpoint := range []string{"prepay", "close", "query", "refund", "notify"} {
		f := wechatsim.Fault{Endpoint: endpoint, OutTradeNo: "*", Kind: wechatsim.FaultDelay,
			DelayMS: 200 + n.rnd.IntN(1500), Count: 10 + n.rnd.IntN(40)}
		done = n.sim.AddFault(f) == nil || done
	}
	return done
}

// readOnly is what a fail-over looks like from the old primary: connections stay, reads
// work, writes are refused.
func (n *nemesis) readOnly(ctx context.Context) bool {
	if !n.mysqlUp.TryLock() {
		return false
	}
	d := n.between(300*time.Millisecond, 2*time.Second)
	if err := n.mariadb.Exec(ctx, "SET GLOBAL read_only = 1"); err != nil {
		n.failed(err)
	}
	n.lasting(func() {
		defer n.mysqlUp.Unlock()
		sqldb.Sleep(ctx, d)
		if err := n.mariadb.Exec(context.WithoutCancel(ctx), "SET GLOBAL read_only = 0"); err != nil {
			n.failed(err)
		}
	})
	return true
}

// holdLocks is somebody at a console who locks SKUs in the wrong order, until
// InnoDB has seen a deadlock or he has had enough: deadlocks and lock waits.
func (n *nemesis) holdLocks(ctx context.Context) bool {
	if !n.mysqlUp.TryLock() {
		return false
	}
	type hand struct {
		a, b       int           // SKUs: a hot one, and one that is not, which is locked first
		wait, hold time.Duration // between the two, and after both
	}
	hands := make([]hand, 10)
	for i := range hands {
		hands[i] = hand{n.rnd.IntN(hot), hot + n.rnd.IntN(hot),
			n.between(50*time.Millisecond, 300*time.Millisecond), n.between(50*time.Millisecond, time.Second)}
	}
	n.lasting(func() {
		defer n.mysqlUp.Unlock()
		before := n.deadlocks(ctx)
		for i, h := range hands {
			if i > 2 && n.deadlocks(ctx) > before { // three times in any case
				return
			}
			// An error is fine: it may be chosen as the victim of the deadlock.
			_ = n.locked(ctx, []string{skuID(h.b), skuID(h.a)}, []time.Duration{h.wait, h.hold})
		}
	})
	return true
}

// rowLocked is somebody at a console who holds an open order for a while: one that
// timeouts, callbacks and cancels come to.
func (n *nemesis) rowLocked(ctx context.Context) bool {
	if !n.mysqlUp.TryLock() {
		return false
	}
	d := n.between(500*time.Millisecond, 4*time.Second)
	n.lasting(func() {
		defer n.mysqlUp.Unlock()
		no, err := n.openOrder(ctx, time.Now())
		if err == nil && no != "" { // an error is fine: the server may be away
			_ = n.holdRow(ctx, d, "SELECT order_no FROM orders WHERE order_no = ? FOR UPDATE", no)
		}
	})
	return true
}

// refusing lets Redis refuse writes for a while.
func (n *nemesis) refusing(ctx context.Context) bool {
	end, ok := n.refuse(ctx)
	if ok {
		d := n.between(time.Second, 4*time.Second)
		n.lasting(func() { defer end(); sqldb.Sleep(ctx, d) })
	}
	return ok
}

// locked locks SKUs one after the other, holding each for a time before the next, and
// rolls back: the row's own numbers stay as they are.
func (n *nemesis) locked(ctx context.Context, ids []string, holds []time.Duration) error {
	tx, err := n.db.Pool().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	const touch = "UPDATE skus SET updated_at = updated_at + 1 WHERE sku_id = ?"
	for i, sku := range ids {
		if _, err := tx.ExecContext(ctx, touch, sku); err != nil {
			return err
		}
		sqldb.Sleep(ctx, holds[i])
	}
	return nil
}

// heal ends everything that goes wrong, waits until all is up, and says since when
// nothing is wrong any more: the time from which liveness counts.
func (n *nemesis) heal(ctx context.Context) (since time.Time, err error) {
	n.wg.Wait()
	n.sim.ClearFaults()
	for _, p := range []*faultproxy.Proxy{n.mysqlProxy, n.redisProxy} {
		p.Every(0, faultproxy.Pass)
		p.Next(faultproxy.Pass)
		p.Latency(0)
		p.Silence(false)
		p.Down(false)
	}
	n.mysqlProxy.EndDead()
	n.eachProxy((*faultproxy.Proxy).Reset) // who still speaks to a Redis that leads no more
	for _, p := range n.processes() {
		p.signal(syscall.SIGCONT)
	}
	since = time.Now()
	if err := n.failure(); err != nil {
		return since, fmt.Errorf("the nemesis itself failed: %w", err)
	}
	return since, n.ready(ctx)
}
