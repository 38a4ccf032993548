package redisgate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// MaxBatch is how many orders one call of Deduct takes. Redis runs one script at a
	// time, and this many take it about a millisecond.
	MaxBatch = 128
	// orderNoLen is of an order number, in bytes. Another length than that of a Key keeps
	// the two kinds of fields of a ticket hash apart.
	orderNoLen = 26
	// maxCustomer bounds a customer's id, in bytes: its length is one byte of an argument.
	maxCustomer = 255
)

// Codes of a Reply.
const (
	CodeUnlimited    = -1 // taken; all its SKUs are unlimited
	CodeInsufficient = -2 // nothing of any line is taken
	CodeNotReady     = -3 // the bucket does not hold one of its SKUs
	CodeOverLimit    = -4 // the customer would have more than the limit
	CodeKeyReused    = -5 // the key was used with another body
	CodeQueueFull    = -6 // it would have to wait, and the queue is full or it may not
)

// Order asks for units of all its lines.
type Order struct {
	// OrderNo is made before the first try and the same in every repeat: a repeat under
	// another number is another order.
	OrderNo    string
	CustomerID string
	Key        Key     // of the customer's idempotency key
	Body       [8]byte // a hash of what the customer sent under it
	MayWait    bool    // above the rate others make the order, from the queue; else the caller does
	Lines      []Line  // each SKU once
	Payload    []byte  // all that is needed to make the order, given to whoever does
}

// Pace is how quickly orders are made of a bucket: those that are made at once and those that
// are claimed together, over all processes. In a time T they are at most
// (T + Burst) / Every + 1.
type Pace struct {
	// Now is of the database's clock. One that is behind another's by up to ten seconds counts as
	// that; when it is more the clock was set back.
	Now   time.Time
	Every time.Duration // between two orders, in whole microseconds; 0: no rate, and no queue
	Burst time.Duration // so much of the rate may be made up for; below 0: none is made at once
	Room  int64         // most entries of the queue
}

// State is what has become of a ticket.
type State string

// The states of a ticket.
const (
	StateDirect    State = "d" // who took it makes the order
	StateQueued    State = "q" // it is in the queue
	StateCancelled State = "c" // it was cancelled in the queue
	StateWithdrawn State = "x" // it became no order, its units are back
	StateOrder     State = "o" // known without an entry: an order of the past
)

// Reply says what an order got.
type Reply struct {
	// Code is what is left of the scarcest of its SKUs, or one of the codes above. It means
	// nothing in a repeat.
	Code int64
	// Repeat: this order, or another one under the same key, was taken before. OrderNo is
	// its number, and State what has become of it.
	Repeat  bool
	OrderNo string
	State   State
	// Entry is the number of the ticket's entry in its stream; 0: no ticket.
	Entry int64
	// Ahead is how many entries were in the queue before this one, when it was queued now:
	// StateQueued and no Repeat.
	Ahead int64
	// Filling: older orders are not all known here, so what is no Repeat may be one.
	Filling bool
}

// Taken says that units are set aside by this call.
func (r Reply) Taken() bool { return !r.Repeat && r.Code >= CodeUnlimited }

// waits says that the order is in the queue, or was until its buyer withdrew it.
func (r Reply) waits() bool { return r.State == StateQueued || r.Repeat && r.State == StateCancelled }

// Deduct takes units for up to MaxBatch orders, in their order, each whole or not at all,
// and gives a reply for each. One that is above the pace is queued, or refused when it may not
// wait. An order that was taken before is a repeat, at no units left
// too. It is known by its Key, and by its flow when it would be taken otherwise: one that
// only its flow knows (the key is another order's by now) may be told CodeInsufficient.
// ErrNotReady when the bucket is closed or not of this token; nothing is taken then.
func (h *Home) Deduct(ctx context.Context, b Bucket, p Pace, orders []Order) ([]Reply, error) {
	names, args, err := h.deductCall(b, p, orders)
	if err != nil || len(orders) == 0 {
		return nil, err
	}
	list, err := h.list(ctx, h.deduct, "deduct from a bucket", names, args...)
	if err != nil {
		return nil, err
	}
	return replies(orders, list)
}

// deductCall gives keys and arguments of the script.
func (h *Home) deductCall(b Bucket, p Pace, orders []Order) (names []string, args []any, err error) {
	if len(orders) > MaxBatch {
		return nil, nil, fmt.Errorf("deduct: %d orders, at most %d", len(orders), MaxBatch)
	}
	var skus []string
	for _, o := range orders {
		if len(o.OrderNo) != orderNoLen || len(o.CustomerID) > maxCustomer {
			return nil, nil, fmt.Errorf("deduct: order number %q of customer %q", o.OrderNo, o.CustomerID)
		}
		if err := checkLines(o.Lines); err != nil {
			return nil, nil, fmt.Errorf("deduct: order %s: %w", o.OrderNo, err)
		}
		for _, l := range o.Lines {
			skus = append(skus, l.SkuID)
		}
	}
	slices.Sort(skus)
	skus = slices.Compact(skus)
	k := h.keys(b)
	names = []string{k.gate(), k.ticket(), k.wal(), k.queue(), k.queued(), k.claimed()}
	for _, sku := range skus {
		names = append(names, k.leaved(sku), k.flow(sku), k.buyer(sku))
	}
	args = append(make([]any, 0, 5+len(orders)), b.token(), p.Now.UnixMicro(), p.Every.Microseconds(),
		p.Burst.Microseconds(), p.Room)
	for _, o := range orders {
		args = append(args, pack(o, skus))
	}
	return names, args, nil
}

// pack puts an order into one argument of the script, which says how. skus are those of the batch, sorted.
func pack(o Order, skus []string) []byte {
	mode := byte('d')
	if o.MayWait {
		mode = 'a'
	}
	p := make([]byte, 0, orderNoLen+64+24*len(o.Lines)+len(o.CustomerID)+len(o.Payload))
	p = append(append(append(append(p, o.OrderNo...), o.Key[:]...), o.Body[:]...), mode)
	for _, l := range o.Lines {
		sku, _ := slices.BinarySearch(skus, l.SkuID)
		p = append(strconv.AppendInt(p, int64(sku+1), 10), ' ') // Lua counts from 1
		p = append(strconv.AppendInt(p, l.No, 10), ' ')
		p = append(strconv.AppendInt(p, l.Quantity, 10), ';')
	}
	p = append(p, '|', byte(len(o.CustomerID))) //nolint:gosec // at most maxCustomer
	return append(append(p, o.CustomerID...), o.Payload...)
}

// replies reads the answer of the script.
func replies(orders []Order, list []any) ([]Reply, error) {
	r := reader{list: list}
	entry, filling := r.number(), r.number() == 1
	all := make([]Reply, len(orders))
	for i, o := range orders {
		reply := Reply{OrderNo: o.OrderNo, Filling: filling}
		switch answer := r.next().(type) {
		case int64:
			if reply.Code = answer; reply.Taken() {
				reply.State, reply.Entry = StateDirect, entry
			}
		case []any:
			of := reader{list: answer}
			reply.OrderNo, reply.Entry, reply.State = of.text(), of.number(), State(of.text())
			if reply.Repeat = len(answer) == 3; !reply.Repeat {
				reply.Code, reply.Ahead = of.number(), of.number()
			}
			r.bad = r.bad || of.end("") != nil
		default:
			r.bad = true
		}
		all[i] = reply
	}
	return all, r.end("deduct from a bucket")
}

// Ticket finds what has become of an order that was taken here: its customer, state and
// entry. Found is false when this bucket knows no such order.
func (h *Home) Ticket(ctx context.Context, b Bucket, orderNo string) (t Record, found bool, err error) {
	record, err := h.client.HGet(ctx, h.keys(b).ticket(), orderNo).Result()
	if errors.Is(err, redis.Nil) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("find a ticket: %w", err)
	}
	entry, rest, _ := strings.Cut(record, " ")
	state, rest, _ := strings.Cut(rest, " ")
	units, customer, _ := strings.Cut(rest, " ")
	t = Record{State: State(state), CustomerID: customer}
	if t.Entry, err = strconv.ParseInt(entry, 10, 64); err == nil {
		t.Units, err = strconv.ParseInt(units, 10, 64)
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("find a ticket: %w", err)
	}
	return t, true, nil
}

// Record is what a bucket knows of an order.
type Record struct {
	Entry      int64
	State      State
	Units      int64 // not given back
	CustomerID string
}
