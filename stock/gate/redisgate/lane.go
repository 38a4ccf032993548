package redisgate

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
)

// errAway: Redis is not asked at this time.
var errAway = errors.New("no Redis at this time")

// lane collects what callers ask of one bucket: while one call of Deduct is under way those
// who come wait together, and are the next call. Nobody waits for company.
type lane struct {
	shared *Shared
	bucket Bucket
	pace   atomic.Pointer[Pace] // without Now
	listed atomic.Bool          // Redis has been told that there is a queue

	mu      sync.Mutex
	waiting []*ask
	running bool
	open    map[int64]int // tickets of each entry of the log that are not settled
}

// ask is one caller of a lane.
type ask struct {
	order Order
	reply Reply
	err   error
	done  chan struct{}
}

// take takes units for one order.
func (l *lane) take(o Order) (Reply, error) {
	a := &ask{order: o, done: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, a)
	start := !l.running
	l.running = true
	l.mu.Unlock()
	if start {
		go l.run()
	}
	<-a.done
	return a.reply, a.err
}

// run makes calls until nobody waits.
func (l *lane) run() {
	for {
		l.mu.Lock()
		batch := l.waiting[:min(len(l.waiting), MaxBatch)]
		l.waiting = l.waiting[len(batch):]
		if len(batch) == 0 {
			l.running, l.waiting = false, nil
		}
		l.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		l.call(batch)
	}
}

// call asks Redis for a batch. After an error nobody knows whether units were taken; nobody
// has a ticket, and they are idle until the keeper finds them or the bucket is closed.
func (l *lane) call(batch []*ask) {
	orders := make([]Order, len(batch))
	for i, a := range batch {
		orders[i] = a.order
	}
	replies, err := []Reply(nil), errAway
	if l.shared.breaker.up() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		replies, err = l.shared.home.Deduct(ctx, l.bucket, l.now(), orders)
		cancel()
		l.shared.noted(err)
	}
	l.mu.Lock()
	for i, a := range batch {
		if a.err = err; err == nil {
			a.reply = replies[i]
			if own(a.order, a.reply) {
				l.open[a.reply.Entry]++
			}
		}
	}
	l.mu.Unlock()
	for _, a := range batch {
		close(a.done)
	}
}

// now is the pace at this moment.
func (l *lane) now() Pace {
	p := *l.pace.Load()
	p.Now = l.shared.cfg.Now()
	return p
}

// own reports that an order has a ticket of its own, to be made at once: taken now, or by the
// same call when its answer was lost on the way. A ticket that another try of the same placement holds may be
// used by it at this very moment; where there is a queue it is borrowed.
func own(o Order, r Reply) bool {
	return r.State == StateDirect && (r.Taken() || r.Repeat && r.OrderNo == o.OrderNo && r.Entry > 0)
}

// settled counts a ticket of an entry as settled, and gives the id of the entry when it was
// its last, else "".
func (l *lane) settled(entry int64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, known := l.open[entry]
	if n--; n > 0 {
		l.open[entry] = n
		return ""
	}
	delete(l.open, entry)
	if !known {
		return ""
	}
	return l.bucket.token() + "-" + strconv.FormatInt(entry, 10)
}

// keep leaves an entry to the keeper: what became of one of its tickets is not known.
func (l *lane) keep(entry int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, entry)
}
