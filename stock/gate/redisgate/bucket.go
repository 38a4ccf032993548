package redisgate

import (
	"context"
	"fmt"
)

// Slice is the part of a SKU that a bucket holds.
type Slice struct {
	SkuID     string
	BucketID  int64
	Unlimited bool // never sold out; else units come by Grant
}

// Opening says how a bucket begins.
type Opening struct {
	Limit int64 // units of each SKU that a customer may take here; 0: any number
	// Filling: older orders are not all known here. Deduct then says so, because a repeat
	// of one of them may be told Insufficient, or be taken as new. A bucket is so from when it
	// has refused an order at a pace.
	Filling bool
	Slices  []Slice
}

// Open opens a bucket without units, and reports whether this call did; false is for one
// that is there with this token, open or closed. Tickets and flows of an earlier opening are
// dropped; entries of its streams and its queue stay, and the rate goes on. A bucket that is
// there with a higher token is
// ErrNotReady.
func (h *Home) Open(ctx context.Context, b Bucket, o Opening) (bool, error) {
	if b.Token < 1 || o.Limit < 0 || len(o.Slices) == 0 {
		return false, fmt.Errorf("open a bucket: token %d, limit %d, %d SKUs", b.Token, o.Limit, len(o.Slices))
	}
	k, flows := h.keys(b), "complete"
	if o.Filling {
		flows = "filling"
	}
	names, args := []string{k.gate(), k.ticket()}, []any{b.token(), o.Limit, flows}
	for _, s := range o.Slices {
		units := 0
		if s.Unlimited {
			units = codeUnlimited
		}
		names = append(names, k.leaved(s.SkuID), k.flow(s.SkuID), k.back(s.SkuID), k.buyer(s.SkuID))
		args = append(args, s.SkuID, s.BucketID, units)
	}
	n, err := h.number(ctx, h.open, "open a bucket", names, args...)
	return n == 1, err
}

// Close ends deductions from a bucket, and gives how many wait in its queue; a repeat does so
// again. Its units and entries stay.
func (h *Home) Close(ctx context.Context, b Bucket) (waiting int64, err error) {
	k := h.keys(b)
	return h.number(ctx, h.close, "close a bucket", []string{k.gate(), k.queue()}, b.token())
}

// Stat is a bucket at one instant.
type Stat struct {
	Token      int64
	Open       bool
	Entry      int64 // number of the last entry of its streams
	Limit      int64 // see Opening
	Filling    bool  // see Opening
	WAL, Queue int64 // entries in its streams
	SKUs       map[string]SKUStat
}

// SKUStat is the part of a SKU in a bucket. A number that Redis does not have is -3.
type SKUStat struct {
	BucketID int64
	Seq      int64 // of the last move
	Units    int64 // of the last move, below 0 when they went out
	Left     int64 // -1 unlimited
}

// Stat looks at a bucket, whatever its token. The error of one that is not there is
// ErrNotReady.
func (h *Home) Stat(ctx context.Context, b Bucket, skus []string) (Stat, error) {
	k := h.keys(b)
	names, args := []string{k.gate(), k.wal(), k.queue()}, make([]any, 0, len(skus))
	for _, sku := range skus {
		names, args = append(names, k.leaved(sku)), append(args, sku)
	}
	list, err := h.list(ctx, h.stat, "look at a bucket", names, args...)
	if err != nil {
		return Stat{}, err
	}
	r := reader{list: list}
	s := Stat{Token: r.number(), Open: r.text() == "open", Entry: r.number(), Limit: r.number(),
		Filling: r.text() == "filling", WAL: r.number(), Queue: r.number(), SKUs: make(map[string]SKUStat, len(skus))}
	for _, sku := range skus {
		s.SKUs[sku] = SKUStat{BucketID: r.number(), Seq: r.number(), Units: r.number(), Left: r.number()}
	}
	return s, r.end("look at a bucket")
}

// reader takes the elements of an answer in their order.
type reader struct {
	list []any
	at   int
	bad  bool // an element was missing or of another type
}

func (r *reader) next() any {
	if r.at == len(r.list) {
		r.bad = true
		return nil
	}
	r.at++
	return r.list[r.at-1]
}

func (r *reader) number() int64 {
	n, ok := r.next().(int64)
	r.bad = r.bad || !ok
	return n
}

func (r *reader) text() string {
	s, ok := r.next().(string)
	r.bad = r.bad || !ok
	return s
}

// end gives an error when the answer was not what was read from it.
func (r *reader) end(what string) error {
	if r.bad || r.at != len(r.list) {
		return fmt.Errorf("%s: unexpected answer %v", what, r.list)
	}
	return nil
}
