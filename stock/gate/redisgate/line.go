package redisgate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// mostClaimed bounds one call of Claim: Lua unpacks so many.
const mostClaimed = 1000

// Entry is an order in the queue, with what its maker needs.
type Entry struct {
	ID      string // of the entry
	OrderNo string
	Payload []byte
}

// Claim gives up to limit entries from the head of the queue, as many as the pace allows, for
// orders to be made of them. From then on they cannot be cancelled. They stay in the queue
// until Done or Cancel; those of which neither was heard for lapse are given again.
func (h *Home) Claim(ctx context.Context, b Bucket, p Pace, lapse time.Duration, limit int) ([]Entry, error) {
	k := h.keys(b)
	list, err := h.list(ctx, h.claim, "claim queued orders", []string{k.gate(), k.queue(), k.queued(), k.claimed()},
		p.Now.UnixMicro(), p.Every.Microseconds(), p.Burst.Microseconds(), lapse.Microseconds(),
		min(limit, mostClaimed))
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(list))
	for _, element := range list {
		pair, _ := element.([]any)
		r := reader{list: pair}
		e := Entry{ID: r.text()}
		fields, _ := r.next().([]any)
		f := reader{list: fields}
		e.OrderNo, e.Payload = f.text(), []byte(f.text())
		if r.end("") != nil || f.end("") != nil {
			return nil, fmt.Errorf("claim queued orders: unexpected entry %v", element)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Done takes entries out of the queue whose orders were made.
func (h *Home) Done(ctx context.Context, b Bucket, entries []Entry) error {
	k := h.keys(b)
	args := make([]any, 0, 2*len(entries))
	for _, e := range entries {
		args = append(args, e.ID, e.OrderNo)
	}
	_, err := h.number(ctx, h.done, "take orders out of a queue",
		[]string{k.ticket(), k.queue(), k.queued(), k.claimed()}, args...)
	return err
}

// Cancel names a queued order of which no order is to be made: its entry, and its lines, whose
// quantities do not matter.
type Cancel struct {
	OrderNo string
	ID      string // of its entry
	// To is StateCancelled, which only what was not claimed can be, or StateWithdrawn.
	To State
	// Unclaimed has StateWithdrawn be for what was not claimed alone, too.
	Unclaimed bool
	Lines     []Line
	Key       Key // of StateCancelled: its repeats are known by it for Told, see Shared.known
	// CustomerID and Problem are told for Told; see Home.Ended.
	CustomerID string
	Problem    []byte
	Told       time.Duration
}

// Cancel ends a queued order and puts its units back, and reports whether it is ended so, by
// this call or an earlier one. False for StateCancelled and Unclaimed: it is too late, the order
// was claimed and exists or will.
func (h *Home) Cancel(ctx context.Context, b Bucket, c Cancel) (bool, error) {
	if len(c.CustomerID) > maxCustomer {
		return false, fmt.Errorf("cancel a queued order: customer %q", c.CustomerID)
	}
	k := h.keys(b)
	names := []string{k.ticket(), k.queue(), k.queued(), k.claimed(), k.ended(c.OrderNo), k.endedKey(c.Key)}
	told := append(append([]byte(c.To), byte(len(c.CustomerID))), c.CustomerID...) //nolint:gosec // at most maxCustomer
	to := string(c.To)
	if c.Unclaimed && c.To == StateWithdrawn {
		to = "u"
	}
	args := []any{c.OrderNo, c.ID, to, int64(c.Told / time.Second), append(told, c.Problem...)}
	for _, l := range c.Lines {
		names = append(names, k.leaved(l.SkuID), k.flow(l.SkuID), k.back(l.SkuID), k.buyer(l.SkuID))
		args = append(args, lineID(c.OrderNo, l.No))
	}
	n, err := h.number(ctx, h.cancel, "cancel a queued order", names, args...)
	return n == 1, err
}

// Place is where a queued order is, or how it ended.
type Place struct {
	Bucket     Bucket // its token is that of the entry
	ID         string // of its entry; "": it has ended
	CustomerID string
	Key        Key   // of StateQueued
	State      State // StateQueued, or how it ended: StateCancelled, StateWithdrawn
	Problem    []byte
	Ahead      int64 // entries before it; about
}

// Places looks for a queued order in buckets of any token, and gives where it is.
func (h *Home) Places(ctx context.Context, buckets []Bucket, orderNo string) (p Place, found bool, err error) {
	at, ended := make([]*redis.StringCmd, len(buckets)), make([]*redis.StringCmd, len(buckets))
	cmds, err := h.client.Pipelined(ctx, func(p redis.Pipeliner) error { // err is the first of them alone
		for i, b := range buckets {
			k := h.keys(b)
			at[i], ended[i] = p.HGet(ctx, k.queued(), orderNo), p.Get(ctx, k.ended(orderNo))
		}
		return nil
	})
	for i, b := range buckets {
		if told := ended[i].Val(); len(told) > 1 && len(told) >= 2+int(told[1]) {
			p, end := Place{Bucket: b, State: State(told[:1])}, 2+int(told[1])
			p.CustomerID, p.Problem = told[2:end], []byte(told[end:])
			return p, true, nil
		}
		id, rest, ok := strings.Cut(at[i].Val(), " ")
		if !ok || len(rest) < len(Key{}) {
			continue
		}
		p := Place{Bucket: b, ID: id, State: StateQueued, CustomerID: rest[len(Key{}):]}
		p.Bucket.Token, _, _ = numbersOf(id)
		copy(p.Key[:], rest)
		p.Ahead, err = h.ahead(ctx, b, id)
		return p, true, err
	}
	for _, cmd := range cmds {
		if err == nil || errors.Is(err, redis.Nil) { // it is not there
			err = cmd.Err()
		}
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return Place{}, false, fmt.Errorf("look for a queued order: %w", err)
	}
	return Place{}, false, nil
}

// known is what a bucket knows of a placement by its key, of any token.
type known struct {
	bucket    Bucket // without token
	orderNo   string
	body      [8]byte
	withdrawn bool // else it waits
}

// known looks for placements under a key in buckets, those that wait and those that were withdrawn not
// long ago. What cannot be asked has none.
func (s *Shared) known(ctx context.Context, buckets []Bucket, key Key) (all []known, err error) {
	var reads []*redis.StringCmd // two of each bucket
	err = s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for _, b := range buckets {
			k := s.home.keys(b)
			reads = append(reads, p.HGet(ctx, k.queued(), string(key[:])), p.Get(ctx, k.endedKey(key)))
		}
	})
	for i, r := range reads {
		if text := r.Val(); err == nil && len(text) == orderNoLen+len(known{}.body) {
			of := known{bucket: buckets[i/2], orderNo: text[:orderNoLen], withdrawn: i%2 == 1}
			copy(of.body[:], text[orderNoLen:])
			all = append(all, of)
		}
	}
	return all, err
}

// numbersOf gives token and number of an entry's id.
func numbersOf(id string) (token, n int64, ok bool) {
	first, second, _ := strings.Cut(id, "-")
	token, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	n, err = strconv.ParseInt(second, 10, 64)
	return token, n, err == nil
}

// ahead gives about how many entries are before one in the queue of a bucket: numbers are given
// in turn, but for those of entries that are not in it any more.
func (h *Home) ahead(ctx context.Context, b Bucket, id string) (int64, error) {
	k := h.keys(b)
	var first *redis.XMessageSliceCmd
	var all *redis.IntCmd
	_, err := h.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		first, all = p.XRangeN(ctx, k.queue(), "-", "+", 1), p.XLen(ctx, k.queue())
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look at a queue: %w", err)
	}
	most := max(all.Val()-1, 0)
	if head := first.Val(); len(head) > 0 {
		token, n, ok := numbersOf(id)
		of, begin, fine := numbersOf(head[0].ID)
		if ok && fine && token == of {
			return min(max(n-begin, 0), most), nil
		}
	}
	return most, nil
}
