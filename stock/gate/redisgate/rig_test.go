package redisgate_test

import (
	"context"
	"fmt"
	"orderd/stock/gate/redisgate"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// rig is a bucket of a sale with units in it: ids of the buckets are 11 for a, 12 for b, 13 for free.
type rig struct {
	t      *testing.T
	ctx    context.Context
	client redis.UniversalClient
	*redisgate.Home
	redisgate.Bucket
}

var homes atomic.Int64 // each has keys of its own

// open opens a bucket with so many units of a and b.
func open(t *testing.T, client redis.UniversalClient, a, b, limit int64) *rig {
	t.Helper()
	r := &rig{t, t.Context(), client,
		redisgate.New(client, fmt.Sprintf("h%d:", homes.Add(1))),
		redisgate.Bucket{Sale: "sale", No: 3, Token: 7}}
	made, err := r.Open(r.ctx, r.Bucket, redisgate.Opening{Limit: limit, Slices: []redisgate.Slice{
		{SkuID: "a", BucketID: 11}, {SkuID: "b", BucketID: 12}, {SkuID: "free", BucketID: 13, Unlimited: true}}})
	if err != nil || !made {
		t.Fatalf("open: %t, %v", made, err)
	}
	for sku, units := range map[string]int64{"a": a, "b": b} {
		r.granted(sku, 1, units)
	}
	return r
}

func (r *rig) granted(sku string, seq, units int64) {
	r.t.Helper()
	_, err := r.Grant(r.ctx, r.Bucket, r.move(sku, seq, units))
	r.fine(err)
}

func (r *rig) move(sku string, seq, units int64) redisgate.Move {
	bucket := map[string]int64{"a": 11, "b": 12, "free": 13}[sku]
	return redisgate.Move{SkuID: sku, BucketID: bucket, Seq: seq, Units: units}
}

// sendBack returns an order to the bucket under a ref.
func (r *rig) sendBack(b redisgate.Bucket, o redisgate.Order, ref string) (bool, error) {
	return r.Return(r.ctx, b,
		redisgate.Return{OrderNo: o.OrderNo, Ref: ref, To: redisgate.ToBucket, Lines: o.Lines})
}

// Paces: without a rate, and one by which everything waits.
var (
	atOnce = redisgate.Pace{}
	waits  = redisgate.Pace{Every: time.Second, Burst: -time.Second, Room: 10}
	drains = redisgate.Pace{Now: time.Now()} // everything is claimed
)

// queue has orders wait, and gives their replies.
func (r *rig) queue(orders ...redisgate.Order) []redisgate.Reply {
	r.t.Helper()
	for i := range orders {
		orders[i].MayWait = true
	}
	replies, err := r.Deduct(r.ctx, r.Bucket, waits, orders)
	r.fine(err)
	return replies
}

// deduct deducts without a rate.
func (r *rig) deduct(b redisgate.Bucket, orders ...redisgate.Order) ([]redisgate.Reply, error) {
	return r.Deduct(r.ctx, b, atOnce, orders)
}

// idOf is the id of an entry of this opening.
func (r *rig) idOf(entry int64) string { return fmt.Sprintf("%d-%d", r.Token, entry) }

// withdraw cancels a queued order.
func (r *rig) withdraw(o redisgate.Order, entry int64) (bool, error) {
	return r.Cancel(r.ctx, r.Bucket, redisgate.Cancel{OrderNo: o.OrderNo, ID: r.idOf(entry),
		To: redisgate.StateCancelled, Lines: o.Lines, CustomerID: o.CustomerID, Told: time.Minute})
}

// refuse ends a queued order with a problem.
func (r *rig) refuse(o redisgate.Order, entry int64) error {
	_, err := r.Cancel(r.ctx, r.Bucket, redisgate.Cancel{OrderNo: o.OrderNo, ID: r.idOf(entry),
		To: redisgate.StateWithdrawn, Lines: o.Lines, CustomerID: o.CustomerID, Problem: []byte("why"),
		Told: time.Minute})
	return err
}

// claim claims from the queue without a rate.
func (r *rig) claim(limit int) []redisgate.Entry {
	r.t.Helper()
	entries, err := r.Claim(r.ctx, r.Bucket, drains, time.Hour, limit)
	r.fine(err)
	return entries
}

func (r *rig) fine(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// order makes an order of "a", "b2" and the like: a SKU and a quantity, 1 if it says none.
func order(no int, customer string, lines ...string) redisgate.Order {
	o := redisgate.Order{OrderNo: fmt.Sprintf("%026d", no), CustomerID: customer,
		Key: redisgate.KeyOf(customer, fmt.Sprint("key", no)), Payload: []byte("payload")}
	for i, l := range lines {
		line := redisgate.Line{No: int64(i + 1), SkuID: l, Quantity: 1}
		if n, err := fmt.Sscanf(l, "a%d", &line.Quantity); err == nil && n == 1 {
			line.SkuID = "a"
		}
		if n, err := fmt.Sscanf(l, "b%d", &line.Quantity); err == nil && n == 1 {
			line.SkuID = "b"
		}
		o.Lines = append(o.Lines, line)
	}
	return o
}

// took deducts and gives the reply to the last order.
func (r *rig) took(orders ...redisgate.Order) redisgate.Reply {
	r.t.Helper()
	replies, err := r.deduct(r.Bucket, orders...)
	r.fine(err)
	return replies[len(replies)-1]
}

// left asserts what is left of a and b.
func (r *rig) left(a, b int64) {
	r.t.Helper()
	s, err := r.Stat(r.ctx, r.Bucket, skus)
	r.fine(err)
	if s.SKUs["a"].Left != a || s.SKUs["b"].Left != b || s.SKUs["free"].Left != -1 {
		r.t.Errorf("left %d of a, %d of b, %d of free; want %d, %d, -1",
			s.SKUs["a"].Left, s.SKUs["b"].Left, s.SKUs["free"].Left, a, b)
	}
}

// code asserts the code of a reply to an order that is no repeat.
func (r *rig) code(got redisgate.Reply, want int64) {
	r.t.Helper()
	if got.Repeat || got.Code != want {
		r.t.Errorf("got %+v, want code %d", got, want)
	}
}

// repeat asserts the reply to a repeat.
func (r *rig) repeat(got redisgate.Reply, of redisgate.Order, state redisgate.State) {
	r.t.Helper()
	if !got.Repeat || got.OrderNo != of.OrderNo || got.State != state || got.Taken() {
		r.t.Errorf("got %+v, want a repeat of %s in state %s", got, of.OrderNo, state)
	}
}
