package gatetest

import (
	"context"
	"sync"
	"time"

	"orderd/stock"
	"orderd/stock/gate"
)

// Line is the queue of sales in memory, for tests of those who use one. It is a shared home
// whose buckets hold nothing: all that is asked of it waits, and has its units of the pool when
// its turn comes. It keeps the promises of gate.Queue otherwise.
type Line struct {
	mu     sync.Mutex
	away   error
	failed int // calls of who drains, while it was away
	direct bool
	full   time.Duration
	all    []*inLine
	byNo   map[string]*inLine
	byKey  map[[2]string]*inLine
}

// inLine is a placement that was queued.
type inLine struct {
	gate.Entry
	state   gate.QueuedState // "" of an order
	hash    string
	claimed bool // nobody may withdraw it
	held    bool // by who has claimed it
	problem []byte
}

var _ gate.Shared = (*Line)(nil)

// NewLine makes an empty one.
func NewLine() *Line {
	return &Line{byNo: map[string]*inLine{}, byKey: map[[2]string]*inLine{}}
}

// Away has every call fail with this error, until it is nil.
func (l *Line) Away(err error) { l.mu.Lock(); defer l.mu.Unlock(); l.away = err }

// Failed is how many calls of those who drain have met that it was away.
func (l *Line) Failed() int { l.mu.Lock(); defer l.mu.Unlock(); return l.failed }

// gone is Away's error, and counts who met it.
func (l *Line) gone() error {
	if l.away != nil {
		l.failed++
	}
	return l.away
}

// Direct has all that is asked go to the ledger, as if the home could not be asked.
func (l *Line) Direct(on bool) { l.mu.Lock(); defer l.mu.Unlock(); l.direct = on }

// Full has no room for so long, until it is 0.
func (l *Line) Full(d time.Duration) { l.mu.Lock(); defer l.mu.Unlock(); l.full = d }

// Forget gives what is claimed to the next who claims, as when its drainer has died.
func (l *Line) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.all {
		p.held = false
	}
}

// Up implements gate.Shared.
func (l *Line) Up() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.away == nil && !l.direct }

// Take implements gate.Shared.
func (l *Line) Take(c *gate.Claim, lines []int) gate.Taken {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := gate.Taken{Buckets: make([]int64, len(lines))}
	key := [2]string{c.CustomerID, c.RequestID}
	before := l.byKey[key]
	switch {
	case l.away != nil:
	case before != nil && before.state == "": // an order: the ledger knows it
	case before != nil && before.state != gate.QueueRefused && before.hash != c.Hash:
		taken.Reused = true
	case before != nil && before.state != gate.QueueRefused:
		q := l.queued(before)
		q.Repeat = true
		taken.Queued = &q
	case l.full > 0:
		taken.NotReady = l.full
	default:
		p := &inLine{state: gate.QueueWaiting, hash: c.Hash, Entry: gate.Entry{OrderNo: c.OrderNo, Payload: c.Payload(),
			Lines: c.Lines, CustomerID: c.CustomerID, RequestID: c.RequestID, At: time.Now()}}
		l.all, l.byNo[c.OrderNo], l.byKey[key] = append(l.all, p), p, p
		q := l.queued(p)
		taken.Queued = &q
	}
	return taken
}

// queued shows a placement.
func (l *Line) queued(p *inLine) gate.Queued {
	q := gate.Queued{OrderNo: p.OrderNo, State: p.state, Problem: p.problem}
	if p.state != gate.QueueWaiting {
		return q
	}
	q.Payload = p.Payload
	for _, other := range l.all {
		if other.state == gate.QueueWaiting {
			q.Position++
		}
		if other == p {
			break
		}
	}
	q.Wait = time.Duration(q.Position) * time.Second
	return q
}

// Fenced implements gate.Shared.
func (l *Line) Fenced([]int64) {}

// Keep implements gate.Shared.
func (l *Line) Keep(context.Context, []*stock.Gate) error { return nil }

// find gives a placement of a customer, nil without.
func (l *Line) find(customerID, orderNo string) *inLine {
	if p := l.byNo[orderNo]; p != nil && p.CustomerID == customerID {
		return p
	}
	return nil
}

// Find implements gate.Queue.
func (l *Line) Find(_ context.Context, customerID, orderNo string) (gate.Queued, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.find(customerID, orderNo)
	if l.away != nil || p == nil || p.state == "" {
		return gate.Queued{}, false, l.away
	}
	return l.queued(p), true, nil
}

// Withdraw implements gate.Queue.
func (l *Line) Withdraw(_ context.Context, customerID, orderNo string) (withdrawn, found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.find(customerID, orderNo)
	if l.away != nil || p == nil || p.state == "" {
		return false, false, l.away
	}
	if p.state == gate.QueueWaiting && !p.claimed {
		p.state = gate.QueueWithdrawn
	}
	return p.state == gate.QueueWithdrawn, true, nil
}

// Claim implements gate.Queue.
func (l *Line) Claim(_ context.Context, limit int) (entries []gate.Entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone(); err != nil {
		return nil, err
	}
	for _, p := range l.all {
		if len(entries) < limit && p.state == gate.QueueWaiting && !p.held {
			p.claimed, p.held = true, true
			entries = append(entries, p.Entry)
		}
	}
	return entries, nil
}

// Done implements gate.Queue.
func (l *Line) Done(_ context.Context, entries []gate.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone(); err != nil {
		return err
	}
	for _, e := range entries {
		l.byNo[e.OrderNo].state = ""
	}
	return nil
}

// Refuse implements gate.Queue.
func (l *Line) Refuse(_ context.Context, e gate.Entry, problem []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone(); err != nil {
		return err
	}
	p := l.byNo[e.OrderNo]
	p.state, p.problem = gate.QueueRefused, problem
	return nil
}

// Depths implements gate.Queue.
func (l *Line) Depths(context.Context) ([]gate.Depth, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := gate.Depth{Sale: "line"}
	for _, p := range l.all {
		if p.state == gate.QueueWaiting {
			d.Waiting++
		}
	}
	return []gate.Depth{d}, l.away
}
