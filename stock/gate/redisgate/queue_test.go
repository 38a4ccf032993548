package redisgate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	orders "orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// line is a sale with a queue over several processes. Orders are no more than their units here: what else an order
// is belongs to package order.
type line struct {
	*market
	sku     string
	numbers atomic.Int64
	sold    atomic.Int64
	refused atomic.Int64 // after they were told to wait
	made    sync.Map     // numbers of orders that were made
}

// newLine is newMarket for sales without orders.
func newLine(t *testing.T, db *sqldb.DB, addr string, processes int) *market {
	t.Helper()
	m := &market{T: t, db: db, client: connect(t, addr), loose: true}
	m.startOn(db, processes)
	return m
}

// onLines is onMarkets for sales without orders.
func onLines(t *testing.T, processes int, test func(m *market)) {
	t.Run("sqlite and miniredis", func(t *testing.T) {
		test(newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), processes))
	})
	t.Run("mariadb and redis-server", func(t *testing.T) {
		test(newLine(t, sqldbtest.MariaDB(t), sqldbtest.RedisServer(t).Addr, processes))
	})
}

// errShort: the ledger has too few units.
type errShort struct{ stock.Short }

func (e *errShort) Error() string { return fmt.Sprintf("%+v", e.Short) }

// queues begins a sale with a queue.
func (m *market) queues(sku string, units, buckets, rate int64) *line {
	m.Helper()
	m.pods[0].SKU(m, sku, units)
	m.setGate(stock.GateChange{SkuID: sku, Mode: stock.GateRedis, Buckets: buckets, Rate: rate})
	m.until("all units are in buckets", func() bool {
		return m.count("SELECT available FROM skus WHERE sku_id = ?", sku) == 0
	})
	m.until("Redis knows of them", func() bool { return m.leftInRedis() == units })
	return &line{market: m, sku: sku}
}

// claim makes a claim of a customer.
func (l *line) claim(customer, key string, quantity int64) *gate.Claim {
	no := order(int(l.numbers.Add(1)), "").OrderNo
	return &gate.Claim{CustomerID: customer, RequestID: key, OrderNo: no, Hash: "12345678",
		Lines:   []stock.Line{{SkuID: l.sku, Quantity: quantity}},
		Payload: func() []byte { return []byte("payload of " + no) }}
}

// place is the ledger: it takes the units of an order, from the buckets that it has, once.
func (l *line) place(no string, lines []stock.Line, buckets []int64) error {
	if _, again := l.made.Load(no); again {
		return nil
	}
	fenced := false
	var short []stock.Short
	err := l.db.InTx(l.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		want := stock.Want{Units: map[string]int64{}, Fenced: fenced, At: time.Now()}
		for i, of := range lines {
			if want.Units[of.SkuID] += 0; buckets == nil || buckets[i] <= 0 || fenced {
				want.Units[of.SkuID] += of.Quantity
			}
			if buckets != nil && buckets[i] > 0 {
				want.Buckets = append(want.Buckets, buckets[i])
			}
		}
		shelf, err := stock.Open(ctx, tx, want)
		if err != nil {
			return err
		}
		short = shelf.Take(no, lines, buckets)
		err = shelf.Commit(ctx, tx, want.At)
		fenced = fenced || errors.Is(err, stock.ErrFenced)
		return err
	})
	if err == nil && short != nil {
		return &errShort{short[0]}
	}
	if err == nil {
		l.made.Store(no, true)
		l.sold.Add(lines[0].Quantity)
	}
	return err
}

// ask is a placement, as package order does it: it gives what became of it at once, "" for an order.
func (l *line) ask(p *pod, c *gate.Claim) (word string, q *gate.Queued) {
	l.Helper()
	t := p.Gate.Take(c)
	switch {
	case t.Queued != nil:
		return "queued", t.Queued
	case t.NotReady > 0:
		return "not ready", nil
	case t.Reused:
		return "reused", nil
	}
	var short *errShort
	err := l.place(c.OrderNo, c.Lines, t.Buckets)
	for errors.Is(err, sqldb.ErrUnavailable) && !l.Failed() {
		err = l.place(c.OrderNo, c.Lines, t.Buckets)
	}
	if err == nil {
		p.Gate.Settle(t, gate.Used)
		return "", nil
	}
	p.Gate.Settle(t, gate.Unused)
	switch {
	case errors.As(err, &short) && (short.Kept || short.Elsewhere && !t.Asked):
		return "not ready", nil
	case errors.As(err, &short):
		return "sold out", nil
	}
	l.Error(err)
	return "error", nil
}

// asks is ask until it is ready, each time under another number, as a process does.
func (l *line) asks(p *pod, c *gate.Claim) (word string, q *gate.Queued) {
	l.Helper()
	l.until("it is ready", func() bool {
		if word, q = l.ask(p, c); word == "not ready" {
			again := l.claim(c.CustomerID, c.RequestID, c.Lines[0].Quantity)
			c.OrderNo, c.Payload = again.OrderNo, again.Payload
		}
		return word != "not ready"
	})
	return word, q
}

// drain is the drainer of a process, until stop.
func (l *line) drain(p *pod, stop *atomic.Bool) {
	for !stop.Load() && !l.Failed() {
		n, err := l.drainOnce(p, 20)
		if err != nil {
			l.Log(err)
		}
		if n == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// drainOnce makes orders of what can be claimed, and gives how many were claimed.
func (l *line) drainOnce(p *pod, limit int) (int, error) {
	entries, err := p.Gate.Queue().Claim(l.Context(), limit)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if string(e.Payload) != "payload of "+e.OrderNo || e.CustomerID == "" || e.RequestID == "" || e.At.IsZero() {
			l.Errorf("entry %+v", e)
		}
		err := l.place(e.OrderNo, e.Lines, e.Buckets)
		for errors.Is(err, sqldb.ErrUnavailable) && !l.Failed() { // a busy machine
			err = l.place(e.OrderNo, e.Lines, e.Buckets)
		}
		switch {
		case err == nil:
			err = p.Gate.Queue().Done(l.Context(), []gate.Entry{e})
		case errors.As(err, new(*errShort)):
			l.refused.Add(1)
			err = p.Gate.Queue().Refuse(l.Context(), e, []byte("sold out"))
		}
		if err != nil {
			return len(entries), err
		}
	}
	return len(entries), nil
}

// drainers starts a drainer in each of some processes, and gives how to end them.
func (l *line) drainers(pods ...*pod) (end func()) {
	var stop atomic.Bool
	var all sync.WaitGroup
	for _, p := range pods {
		all.Go(func() { l.drain(p, &stop) })
	}
	return func() { stop.Store(true); all.Wait() }
}

// crowd has buyers ask in all processes until each is told that it is sold out.
func (l *line) crowd(buyers int) (wait func()) {
	var all sync.WaitGroup
	for i := range buyers {
		all.Go(func() {
			for n := 0; !l.Failed(); n++ {
				c := l.claim(fmt.Sprint("c", i), fmt.Sprint(i, "-", n), 1)
				word, _ := l.ask(l.pods[(i+n)%len(l.pods)], c)
				switch word {
				case "sold out":
					return
				case "not ready":
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	return all.Wait
}

// drained waits until nobody waits any more.
func (l *line) drained() {
	l.Helper()
	l.until("nobody waits", func() bool {
		depths, err := l.pods[0].Gate.Queue().Depths(l.Context())
		var waiting int64
		for _, d := range depths {
			waiting += d.Waiting
		}
		return err == nil && waiting == 0
	})
}

// balanced holds what was sold against the books.
func (l *line) balanced(stocked int64) {
	l.Helper()
	free := l.count(`SELECT s.available + COALESCE(SUM(b.remaining), 0)
FROM skus s
LEFT JOIN stock_buckets b ON b.sku_id = s.sku_id
WHERE s.sku_id = ?
GROUP BY s.available`, l.sku)
	if free+l.sold.Load() != stocked {
		l.Errorf("%d sold and %d free of %d", l.sold.Load(), free, stocked)
	}
}

// Units that somebody waits for were sold to others by the recall of a short pool: none of those who were told to wait
// is refused, every unit is sold once, and only then it is sold out.
func TestQueuedUnitsAreNobodyElses(t *testing.T) {
	const stocked = 300
	onLines(t, 4, func(m *market) {
		l := m.queues("hot", stocked, 2, 100)
		end := l.drainers(m.pods[0], m.pods[1])
		l.crowd(40)()
		l.drained()
		end()
		if l.sold.Load() != stocked || l.refused.Load() != 0 {
			m.Errorf("%d of %d sold, %d refused after they were told to wait", l.sold.Load(), stocked, l.refused.Load())
		}
		l.balanced(stocked)
		m.until("it is marked as sold out", func() bool {
			word, _ := l.ask(m.pods[0], l.claim("late", "key", 1))
			return word == "sold out" && m.count("SELECT closed_until FROM skus WHERE sku_id = 'hot'") > 0
		})
	})
}

// Another number of buckets while many wait gave up the units that they wait for: it waits until they have their
// orders.
// The same of a sale whose time is over, and of a rate that is taken away.
func TestQueueIsDrainedBeforeItsBucketsGo(t *testing.T) {
	const stocked = 400
	ends := map[string]func(m *market) func() bool{
		"scaled": func(m *market) func() bool {
			m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 3, Rate: 100})
			return func() bool {
				return m.count(`SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'`) == 3
			}
		},
		"closed": func(m *market) func() bool {
			m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2, Rate: 100,
				ClosesAt: time.Now().Add(500 * time.Millisecond)})
			return func() bool {
				return m.count("SELECT COUNT(*) FROM stock_gates WHERE state = 'ended'") == 1 &&
					m.count("SELECT COUNT(*) FROM stock_buckets WHERE state <> 'closed'") == 0
			}
		},
		"no rate": func(m *market) func() bool {
			m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2})
			return func() bool { return m.count("SELECT COUNT(*) FROM stock_buckets WHERE state = 'closed'") == 2 }
		},
	}
	for name, finish := range ends {
		t.Run(name, func(t *testing.T) {
			m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
			l := m.queues("hot", stocked, 2, filling)
			waiting := l.fill(150)
			over := finish(m)
			m.until("they run out", func() bool {
				return m.count("SELECT COUNT(*) FROM stock_buckets WHERE state = 'closing'") > 0
			})
			m.until("newcomers are to come again", func() bool {
				word, _ := l.ask(m.pods[0], l.claim("new", fmt.Sprint(l.numbers.Load()), 1))
				return word == "not ready"
			})
			if over() {
				m.Error("it is over with many who wait")
			}
			end := l.drainers(m.pods[1])
			l.drained()
			end()
			m.until("it is over", over)
			if l.refused.Load() != 0 || l.sold.Load() < waiting {
				m.Errorf("%d waited, %d were refused, %d sold", waiting, l.refused.Load(), l.sold.Load())
			}
			l.balanced(stocked)
		})
	}
}

// filling is the rate of a sale that is filled, in orders a second: so few that on any machine more come than are let
// in. Who wants those who wait to have their orders soon gives the sale another rate afterwards.
const filling = 1

// fill has placements ask until so many wait, and gives how many did.
func (l *line) fill(waiting int64) (n int64) {
	l.Helper()
	for i := 0; n < waiting && i < 10*int(waiting); i++ {
		if word, _ := l.asks(l.pods[i%len(l.pods)], l.claim(fmt.Sprint("w", i), "key", 1)); word == "queued" {
			n++
		}
	}
	if n < waiting {
		l.Fatalf("%d of %d wait", n, waiting)
	}
	return n
}

// A new rate must hold at once, and leave those alone who wait.
func TestRateChangesWithoutANewEpoch(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
	l := m.queues("hot", 400, 2, filling)
	l.fill(100)
	before := m.count("SELECT epoch FROM stock_gates")
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2, Rate: 10_000})
	begun := time.Now()
	m.until("all are claimed", func() bool {
		_, err := l.drainOnce(m.pods[1], 100)
		return err == nil && l.sold.Load() >= 100
	})
	if took := time.Since(begun); took > time.Minute { // by the old one it would be longer
		m.Errorf("the new rate was seen after %s", took)
	}
	if after := m.count("SELECT epoch FROM stock_gates"); after != before {
		m.Errorf("epoch %d, before %d", after, before)
	}
	l.balanced(400)
}

// A Redis that forgets those who wait must not sell their units twice; who still waits is decided on the pool.
func TestRedisForgetsTheQueue(t *testing.T) {
	const stocked = 300
	onLines(t, 2, func(m *market) {
		l := m.queues("hot", stocked, 2, filling)
		l.fill(100)
		before := m.epochs.Load()
		if err := m.client.FlushAll(m.Context()).Err(); err != nil {
			m.Fatal(err)
		}
		m.until("there is a new epoch", func() bool { return m.epochs.Load() > before })
		m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2, Rate: 50})
		end := l.drainers(m.pods...)
		l.crowd(20)()
		l.drained()
		end()
		if l.sold.Load() != stocked || l.refused.Load() != 0 {
			m.Errorf("%d of %d sold, %d refused", l.sold.Load(), stocked, l.refused.Load())
		}
		l.balanced(stocked)
	})
}

// Whoever waited when an epoch ended at once saw all of the pool go into the new buckets, to those who came after him.
func TestWhoWaitsComesBeforeTheNextEpoch(t *testing.T) {
	const stocked = 300
	onLines(t, 2, func(m *market) {
		l := m.queues("hot", stocked, 2, filling)
		l.fill(100)
		admin := stock.NewAdmin(m.db, time.Now)
		g, _, err := admin.FindGate(m.Context(), "hot")
		if err != nil {
			m.Fatal(err)
		}
		begun, err := admin.NewEpoch(m.Context(), "hot", map[string]int64{"hot": g.Epoch}, 0, false)
		if err != nil || !begun {
			m.Fatal(begun, err)
		}
		for i, p := range m.pods { // until it knows, a process sells what its buckets give it
			m.until("newcomers are to come again", func() bool {
				word, _ := l.ask(p, l.claim(fmt.Sprint("new", i), fmt.Sprint(l.numbers.Load()), 1))
				return word == "not ready"
			})
		}
		newcomers := l.crowd(20)
		if n := m.count("SELECT COUNT(*) FROM stock_buckets WHERE state = 'open'"); n != 0 {
			m.Errorf("%d buckets are open while others wait", n)
		}
		m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2, Rate: 50})
		end := l.drainers(m.pods...)
		newcomers()
		l.drained()
		end()
		if l.sold.Load() != stocked || l.refused.Load() != 0 {
			m.Errorf("%d of %d sold, %d refused after they were told to wait", l.sold.Load(), stocked, l.refused.Load())
		}
		l.balanced(stocked)
	})
}

// stillShared is a home whose keeper stands still on demand: a process that does not learn what others know.
type stillShared struct {
	gate.Shared
	still atomic.Bool
	looks atomic.Int64
}

// Keep waits while it stands still.
func (s *stillShared) Keep(ctx context.Context, gates []*stock.Gate) error {
	for s.still.Load() && sqldb.Sleep(ctx, 5*time.Millisecond) {
		continue
	}
	defer s.looks.Add(1)
	return s.Shared.Keep(ctx, gates)
}

// A process that did not know yet that an epoch had ended at once sold from the pool what others waited for: they were
// told 202, and refused when their turn came.
func TestWhoDoesNotKnowThatTheEpochEndedSellsNothing(t *testing.T) {
	const stocked = 40
	m := newMarketOn(t, sqldbtest.SQLite(t), mini(t), 0)
	still := &stillShared{}
	m.shape = func(s gate.Shared) gate.Shared { still.Shared = s; return still }
	m.startOn(m.db, 1)
	p := m.pods[0]
	m.queues("hot", stocked, 2, filling)
	var waiting []string
	for i := 0; i < stocked; {
		_, err := p.Place(t.Context(), cartOf(fmt.Sprint("c", i), "key", "hot"))
		var queued *orders.QueuedError
		switch {
		case errors.As(err, &queued):
			waiting = append(waiting, queued.OrderNo)
		case err != nil && !errors.Is(err, sqldb.ErrUnavailable) && !errors.As(err, new(*orders.NotReadyError)):
			t.Fatal(err)
		case err != nil:
			continue
		}
		i++
	}
	looks := still.looks.Load()
	m.until("it knows that all units are in buckets", func() bool { return still.looks.Load() > looks+1 })
	still.still.Store(true)
	admin := stock.NewAdmin(m.db, time.Now)
	g, _, err := admin.FindGate(t.Context(), "hot")
	if err != nil {
		t.Fatal(err)
	}
	begun, err := admin.NewEpoch(t.Context(), "hot", map[string]int64{"hot": g.Epoch}, 0, false)
	if err != nil || !begun {
		t.Fatal(begun, err)
	}
	comes := func(who string) {
		t.Helper()
		_, err := p.Place(t.Context(), cartOf(who, "key", "hot"))
		if !errors.As(err, new(*orders.NotReadyError)) {
			t.Errorf("%s, who came when all units were promised: %v", who, err)
		}
	}
	comes("newcomer")
	m.until("it has read no gates for long", func() bool { return !p.Gate.Knows("hot") })
	comes("another")
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2, Rate: 10_000})
	still.still.Store(false)
	m.until("all who wait have an order", func() bool {
		entries, err := p.Gate.Queue().Claim(t.Context(), stocked)
		for _, e := range entries {
			problem, err := p.PlaceQueued(t.Context(), e)
			if err != nil {
				t.Log(err) // it is claimed again
				continue
			}
			if problem != nil {
				t.Fatalf("%s was refused after it had waited: %s", e.OrderNo, problem)
			}
			if err := p.Gate.Queue().Done(t.Context(), []gate.Entry{e}); err != nil {
				t.Fatal(err)
			}
		}
		return err == nil && m.count("SELECT COUNT(*) FROM orders") == stocked
	})
	for _, no := range waiting {
		if m.count("SELECT COUNT(*) FROM orders WHERE order_no = ?", no) != 1 {
			t.Errorf("%s waited and is no order", no)
		}
	}
	p.AssertVerified(t)
}

// Who came a moment before his sale began, and was decided a moment after, was told that all is sold.
func TestWhoComesTooEarlyIsNotToldThatItIsSoldOut(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	for soon := time.Second; !comesTooEarly(m, fmt.Sprint("in", soon), soon); soon *= 2 {
		if soon > time.Minute {
			t.Fatal("it had begun each time before anybody came")
		}
	}
}

// comesTooEarly has somebody come before a sale begins that begins soon. False: it was too late for that.
func comesTooEarly(m *market, sku string, soon time.Duration) bool {
	m.Helper()
	m.pods[0].SKU(m, sku, 10)
	opens := time.Now().Add(soon)
	m.setGate(stock.GateChange{SkuID: sku, Mode: stock.GateRedis, Rate: 1000, OpensAt: opens})
	l := &line{market: m, sku: sku}
	m.until("all units are in a bucket", func() bool {
		return m.count("SELECT available FROM skus WHERE sku_id = ?", sku) == 0
	})
	c := l.claim("ann", "key "+sku, 1)
	ticket := m.pods[0].Gate.Take(c)
	if !time.Now().Before(opens) {
		m.pods[0].Gate.Settle(ticket, gate.Unused)
		return false
	}
	m.until("it begins", func() bool { return time.Now().After(opens) })
	var short *errShort
	err := l.place(c.OrderNo, c.Lines, ticket.Buckets)
	if !errors.As(err, &short) || !short.Elsewhere || ticket.Asked {
		m.Errorf("%v, and all buckets were asked: %t", err, ticket.Asked)
	}
	return true
}

// When many buckets were given up at once and the next epoch has one, each of the many was drained at the rate of all.
func TestRateIsKeptAfterManyBuckets(t *testing.T) {
	const rate, buckets = 40, 4
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	l := m.queues("hot", 400, buckets, filling)
	l.fill(300)
	m.pods[0].Stop()
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: buckets, Rate: rate})
	now := time.Now().Add(time.Hour)
	s := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: m.client, Now: func() time.Time { return now }})
	admin := stock.NewAdmin(m.db, time.Now)
	g, _, err := admin.FindGate(t.Context(), "hot")
	if err != nil {
		t.Fatal(err)
	}
	begun, err := admin.NewEpoch(t.Context(), "hot", map[string]int64{"hot": g.Epoch}, 0, true)
	if err != nil || !begun {
		t.Fatal(begun, err)
	}
	claimed := -1 // the first look has the burst, too
	for range 3 {
		if g, _, err = admin.FindGate(t.Context(), "hot"); err != nil {
			t.Fatal(err)
		}
		if err := s.Keep(t.Context(), []*stock.Gate{&g}); err != nil {
			t.Fatal(err)
		}
		entries, err := s.Claim(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		// Each has a fourth of the rate, and of that a quarter of a second at once.
		if claimed >= 0 && (len(entries) == 0 || len(entries) > rate/2) {
			t.Errorf("%d claimed in a moment", len(entries))
		}
		claimed, now = len(entries), now.Add(time.Second)
	}
}

// The sale of one SKU was closed until that of another one began.
func TestEachSKUHasItsTime(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	m.pods[0].SKU(m, "late", 100)
	m.setGate(stock.GateChange{SkuID: "late", Sale: "both", Mode: stock.GateRedis, Rate: 1000,
		OpensAt: time.Now().Add(time.Hour)})
	m.pods[0].SKU(m, "now", 100)
	m.setGate(stock.GateChange{SkuID: "now", Sale: "both", Mode: stock.GateRedis, Rate: 1000})
	l := &line{market: m, sku: "now"}
	m.until("the one is sold", func() bool {
		word, _ := l.ask(m.pods[0], l.claim("c", fmt.Sprint(time.Now()), 1))
		return word == "" && m.count("SELECT available FROM skus WHERE sku_id = 'now'") == 0
	})
}

// A bucket that cannot be asked was taken for one in which nobody waits, when another one had said that he is not
// there: the buyer was told that his place in line does not exist.
func TestABucketThatCannotBeAskedIsNoAbsence(t *testing.T) {
	client := mini(t)
	if err := client.Set(t.Context(), "p:queued_{hot/1}", "not a hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	home := redisgate.New(client, "p:")
	buckets := []redisgate.Bucket{{Sale: "hot", No: 0}, {Sale: "hot", No: 1}}
	if _, found, err := home.Places(t.Context(), buckets[:1], "number"); found || err != nil {
		t.Error("it is not there: ", found, err)
	}
	if _, found, err := home.Places(t.Context(), buckets, "number"); found || err == nil {
		t.Error("nobody knows whether it is there: ", found, err)
	}
}

// A repeat must find its number for as long as it waits and afterwards, and one that was refused begins anew; what is
// found is only for its customer.
func TestRepeatsOfWhatWaits(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
	l := m.queues("hot", 200, 2, 1)
	l.fill(10) // the rate is used up
	q := m.pods[0].Gate.Queue()
	first := l.claim("ann", "key", 2)
	word, _ := l.asks(m.pods[0], first)
	again := func(want gate.QueuedState, no string) {
		m.Helper()
		word, got := l.asks(m.pods[1], l.claim("ann", "key", 2))
		if word != "queued" || !got.Repeat || got.OrderNo != no || got.State != want {
			m.Errorf("the repeat: %q %+v, want %s of %s", word, got, want, no)
		}
	}
	found := func(customer, no string, want gate.QueuedState) gate.Queued {
		m.Helper()
		got, ok, err := q.Find(m.Context(), customer, no)
		if err != nil || ok != (want != "") || got.State != want {
			m.Errorf("found %+v, %t, %v; want %q", got, ok, err, want)
		}
		return got
	}
	if word != "queued" {
		m.Fatal(word)
	}
	again(gate.QueueWaiting, first.OrderNo)
	if got := found("ann", first.OrderNo, gate.QueueWaiting); got.Position < 1 || got.Position > 11 || got.Wait <= 0 ||
		string(got.Payload) != "payload of "+first.OrderNo {
		m.Errorf("%+v", got)
	}
	found("bob", first.OrderNo, "")
	found("ann", l.claim("", "", 1).OrderNo, "")
	other := l.claim("ann", "key", 2)
	other.Hash = "other"
	if word, _ := l.asks(m.pods[1], other); word != "reused" {
		m.Errorf("another body under the key: %q", word)
	}
	entries := m.claimAll()
	again(gate.QueueWaiting, first.OrderNo)
	for _, e := range entries {
		if e.OrderNo != first.OrderNo {
			continue
		}
		if gone, ok, err := q.Withdraw(m.Context(), "ann", e.OrderNo); gone || !ok || err != nil {
			m.Errorf("withdrawn while it is made: %t, %t, %v", gone, ok, err)
		}
		for range 2 {
			if err := q.Refuse(m.Context(), e, []byte("why")); err != nil {
				m.Fatal(err)
			}
		}
	}
	if got := found("ann", first.OrderNo, gate.QueueRefused); string(got.Problem) != "why" {
		m.Errorf("%+v", got)
	}
	second := l.claim("ann", "key", 2)
	if word, got := l.asks(m.pods[0], second); word != "queued" || got.Repeat || got.OrderNo != second.OrderNo {
		m.Errorf("after a refusal: %q %+v", word, got)
	}
	for range 2 {
		if gone, ok, err := q.Withdraw(m.Context(), "ann", second.OrderNo); !gone || !ok || err != nil {
			m.Errorf("not withdrawn: %t, %t, %v", gone, ok, err)
		}
		found("ann", second.OrderNo, gate.QueueWithdrawn)
		again(gate.QueueWithdrawn, second.OrderNo)
	}
	if gone, ok, err := q.Withdraw(m.Context(), "bob", second.OrderNo); gone || ok || err != nil {
		m.Errorf("withdrawn by another: %t, %t, %v", gone, ok, err)
	}
	if err := q.Done(m.Context(), entries); err != nil {
		m.Fatal(err)
	}
	l.drained()
}

// claimAll claims what waits, as if the rate allowed it.
func (m *market) claimAll() (all []gate.Entry) {
	m.Helper()
	s := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: m.client, Now: func() time.Time {
		return time.Now().Add(time.Hour)
	}})
	if err := s.Keep(m.Context(), nil); err != nil { // it knows of no gate, and of no rate
		m.Fatal(err)
	}
	all, err := s.Claim(m.Context(), 1000)
	if err != nil {
		m.Fatal(err)
	}
	return all
}

// While Redis was away every number that is no order was answered with 503, also in a shop that never had a queue.
func TestNobodyWaitsWhereNoSaleHasAQueue(t *testing.T) {
	r := miniredis.RunT(t)
	m := newLine(t, sqldbtest.SQLite(t), r.Addr(), 1)
	p := m.pods[0]
	find := func(what string, away bool) {
		t.Helper()
		m.until(what, func() bool {
			_, found, err := p.Gate.Queue().Find(t.Context(), "ann", order(1, "").OrderNo)
			return !found && errors.Is(err, gate.ErrQueueAway) == away && (err != nil) == away
		})
	}
	r.Close()
	m.until("Redis is away", func() bool {
		_, _ = p.Gate.Queue().Depths(t.Context())
		return !p.shared.Up()
	})
	find("nobody waits", false)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	m.until("Redis is back", p.shared.Up)
	l := m.queues("hot", 100, 1, 1)
	l.fill(3)
	r.Close()
	m.until("Redis is away", func() bool { return !p.shared.Up() })
	find("somebody may wait", true)
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateOff})
	m.until("the gate is off", func() bool { return !p.Gate.Knows("hot") })
	find("somebody of before may wait", true)
}

// A queue that is full tells those who come to come again, and takes nothing for them.
func TestQueueOfASaleIsBounded(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 1)
	m.pods[0].shared.MostQueued(3)
	l := m.queues("hot", 200, 2, 1)
	words := map[string]int{}
	m.until("the buckets are known", func() bool { // on a slow machine its process may look once more
		word, _ := l.ask(m.pods[0], l.claim("c0", "key", 1))
		if word != "not ready" {
			words[word]++
		}
		return word != "not ready"
	})
	for i := range 49 {
		word, _ := l.ask(m.pods[0], l.claim(fmt.Sprint("c", i+1), "key", 1))
		words[word]++
	}
	if words["queued"] != 6 || words[""]+words["queued"]+words["not ready"] != 50 || words[""] > 4 {
		m.Errorf("%v", words)
	}
	left := m.leftInRedis()
	if left != 200-int64(words[""]+words["queued"]) {
		m.Errorf("%d units are left", left)
	}
}

// leftInRedis is how many units no ticket has.
func (m *market) leftInRedis() (sum int64) {
	m.Helper()
	var keys []string
	ask := func(ctx context.Context, c *redis.Client) error {
		some, err := c.Keys(ctx, "sku_leaved_amount_*").Result()
		keys = append(keys, some...)
		return err
	}
	var err error
	switch c := m.client.(type) {
	case *redis.Client:
		err = ask(m.Context(), c)
	case *redis.ClusterClient:
		var one sync.Mutex
		err = c.ForEachMaster(m.Context(), func(ctx context.Context, c *redis.Client) error {
			one.Lock()
			defer one.Unlock()
			return ask(ctx, c)
		})
	}
	if err != nil {
		m.Fatal(err)
	}
	for _, k := range keys {
		n, err := m.client.Get(m.Context(), k).Int64()
		if err != nil {
			m.Fatal(err)
		}
		sum += n
	}
	return sum
}

// The last units in many buckets are too few in each for an order of several: they are brought together, and the order
// is made; only then is it sold out.
func TestLastUnitsAreBroughtTogether(t *testing.T) {
	m := newLine(t, sqldbtest.SQLite(t), miniredis.RunT(t).Addr(), 2)
	l := m.queues("hot", 90, 3, 1000)
	end := l.drainers(m.pods[0])
	m.until("an order of nearly all is made", func() bool {
		word, _ := l.ask(m.pods[0], l.claim("ann", fmt.Sprint(l.numbers.Load()), 80))
		if word == "sold out" {
			m.Fatal("sold out, with 90 there")
		}
		return word == "" || word == "queued"
	})
	l.crowd(4)()
	l.drained()
	end()
	if l.sold.Load() != 90 || l.refused.Load() != 0 {
		m.Errorf("%d of 90 sold, %d refused", l.sold.Load(), l.refused.Load())
	}
	if n := m.count("SELECT COUNT(*) FROM stock_buckets WHERE no > 0 AND state <> 'closed'"); n != 0 {
		m.Errorf("%d buckets beside the first", n)
	}
	l.balanced(90)
}

// A Redis that nobody reaches holds units that nobody may sell. When no process has kept them for long, they go back to
// the pool; a process that alone has no Redis takes nothing from the others.
func TestRedisAwayForLongGivesUpItsUnits(t *testing.T) {
	r := miniredis.RunT(t)
	m := newLine(t, sqldbtest.SQLite(t), r.Addr(), 1)
	l := m.queues("hot", 200, 2, 100)
	p := m.pods[0]
	gates := func() (all []*stock.Gate) {
		m.Helper()
		g, _, err := stock.NewAdmin(m.db, time.Now).FindGate(m.Context(), "hot")
		if err != nil {
			m.Fatal(err)
		}
		return []*stock.Gate{&g}
	}
	away := func(later time.Duration) *redisgate.Shared {
		s := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: connect(t, "127.0.0.1:1"), Observe: m,
			Now: func() time.Time { return time.Now().Add(later) }})
		m.until("it is away", func() bool { _ = s.Keep(m.Context(), gates()); return !s.Up() })
		return s
	}
	alone := away(0)
	before := m.epochs.Load()
	if err := alone.Keep(m.Context(), gates()); err != nil || m.epochs.Load() != before {
		m.Errorf("%v, %d epochs ended", err, m.epochs.Load()-before)
	}
	p.Stop()
	if word, _ := l.ask(p, l.claim("ann", "key", 1)); word == "sold out" {
		m.Error("sold out, with all units in Redis")
	}
	if err := away(stock.SeenFor+time.Second).Keep(m.Context(), gates()); err != nil {
		m.Fatal(err)
	}
	if n := m.count("SELECT available FROM skus WHERE sku_id = 'hot'"); n != 200-l.sold.Load() {
		m.Errorf("%d units are back in the pool", n)
	}
	l.balanced(200)
}
