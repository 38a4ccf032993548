package redisgate_test

import (
	"errors"
	"fmt"
	"maps"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
	"orderd/stock/gate/redisgate"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// hfbin #11, springboot-seckill #22: sufficiency was tested before the duplicate, and the buyer of the last unit who
// repeats was told that it is sold out.
func TestRepeatIsKnownAtNoUnitsLeft(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 1, 0, 0)
		last := order(1, "ann", "a")
		r.code(r.took(last), 0)
		anew := last // as a program that has restarted sends it
		anew.OrderNo = order(2, "ann").OrderNo
		for _, o := range []redisgate.Order{last, anew} {
			r.repeat(r.took(o), last, redisgate.StateDirect)
		}
		r.code(r.took(order(3, "bob", "a")), redisgate.CodeInsufficient)
		r.left(0, 0)
		// in one batch too, where nothing is written yet when the second is decided
		r = open(t, client, 1, 0, 0)
		r.repeat(r.took(last, anew), last, redisgate.StateDirect)
		r.left(0, 0)
	})
}

// A cart of which the first line was taken and the second was not is stock that nobody has. Every order of shortages.
func TestHalfACartIsNeverTaken(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 1, 0)
		no := 0
		for _, lines := range [][]string{{"a", "b2"}, {"b2", "a"}, {"a6", "b"}, {"b", "a6"}, {"free", "a", "b2"},
			{"a", "free", "b2"}, {"b2", "a", "free"}} {
			no++
			r.code(r.took(order(no, "ann", lines...)), redisgate.CodeInsufficient)
		}
		r.left(5, 1)
		r.code(r.took(order(20, "ann", "a", "b", "free")), 0)
		r.left(4, 0)
		r.code(r.took(order(21, "ann", "free")), redisgate.CodeUnlimited)
		// the failing one of a batch marks nobody else (springboot-seckill #22)
		replies, err := r.Deduct(r.ctx, r.Bucket,
			[]redisgate.Order{order(22, "ann", "a2"), order(23, "bob", "a3"), order(24, "eve", "a2")})
		r.fine(err)
		for i, want := range []int64{2, redisgate.CodeInsufficient, 0} {
			r.code(replies[i], want)
		}
		r.left(0, 0)
	})
}

// Two bodies under one key are a mistake of the customer, who must hear of it instead of getting the other order.
func TestKeyWithAnotherBody(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 5, 0)
		first := order(1, "ann", "a")
		r.code(r.took(first), 4)
		other := order(2, "ann", "a2")
		other.Key, other.Body = first.Key, [8]byte{1}
		r.code(r.took(other), redisgate.CodeKeyReused)
		r.left(4, 5)
		// a ticket that became no order leaves its key free, for any body
		_, err := r.sendBack(r.Bucket, first, "refused")
		r.fine(err)
		r.code(r.took(other), 3)
	})
}

// A customer's parallel requests must not get more than the limit, in one batch or in many.
func TestLimitPerCustomer(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 100, 100, 3)
		var taken atomic.Int64
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				replies, err := r.Deduct(r.ctx, r.Bucket,
					[]redisgate.Order{order(2*i+1, "ann", "a"), order(2*i+2, "ann", "a", "free")})
				if err != nil {
					t.Error(err)
				}
				for _, reply := range replies {
					if reply.Taken() {
						taken.Add(1)
					} else if reply.Code != redisgate.CodeOverLimit {
						t.Errorf("%+v", reply)
					}
				}
			})
		}
		all.Wait()
		if taken.Load() != 3 {
			t.Errorf("%d units of 3", taken.Load())
		}
		r.left(97, 100)
		r.code(r.took(order(50, "bob", "a3")), 94)
		r.code(r.took(order(51, "eve", "a4")), redisgate.CodeOverLimit)
		r.code(r.took(order(52, "eve", "a3", "b3")), 91)
		// what comes back may be bought again
		back := order(50, "bob", "a3")
		_, err := r.Return(r.ctx, r.Bucket, redisgate.Return{OrderNo: back.OrderNo, Ref: "x", To: redisgate.ToPool,
			Lines: back.Lines})
		r.fine(err)
		r.code(r.took(order(53, "bob", "a3")), 88)
	})
}

// A queue without end promises more orders than anybody makes; a full one must not refuse those who are in it.
func TestQueueIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 100, 100, 0)
		var queued []redisgate.Order
		for i := range 12 {
			o := order(i+1, "ann", "a")
			o.Queued = true
			queued = append(queued, o)
		}
		replies, err := r.Deduct(r.ctx, r.Bucket, queued)
		r.fine(err)
		for i, reply := range replies {
			if i < 10 && (!reply.Taken() || reply.Ahead != int64(i) || reply.State != redisgate.StateQueued) {
				t.Errorf("place %d: %+v", i, reply)
			}
			if i >= 10 {
				r.code(reply, redisgate.CodeQueueFull)
			}
		}
		r.repeat(r.took(queued[9]), queued[9], redisgate.StateQueued)
		direct := order(20, "bob", "a")
		r.code(r.took(direct), 89)
		// the entries are found under the numbers that the replies have
		entries, err := r.Claim(r.ctx, r.Bucket, 100)
		r.fine(err)
		for i, e := range entries {
			if e.ID != fmt.Sprintf("7-%d", replies[i].Entry) || len(e.Orders) != 1 ||
				e.Orders[0].OrderNo != queued[i].OrderNo || string(e.Orders[0].Payload) != "payload" {
				t.Errorf("entry %d: %+v", i, e)
			}
		}
		if len(entries) != 10 {
			t.Errorf("%d entries", len(entries))
		}
	})
}

// A cancelled order that the drainer has read becomes an order all the same: either of the two wins, and both know.
func TestCancelWhileQueuedHasOneWinner(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 10, 10, 2)
		first, second := order(1, "ann", "a", "b2"), order(2, "bob", "a")
		first.Queued, second.Queued = true, true
		replies, err := r.Deduct(r.ctx, r.Bucket, []redisgate.Order{first, second})
		r.fine(err)
		cancel := func(i int, o redisgate.Order) bool {
			done, err := r.withdraw(r.Bucket, o, replies[i].Entry)
			r.fine(err)
			return done
		}
		if entries, err := r.Claim(r.ctx, r.Bucket, 1); err != nil || len(entries) != 1 {
			t.Fatalf("%v, %v", entries, err)
		}
		if cancel(0, first) {
			t.Error("cancelled an order that somebody makes already")
		}
		for range 2 {
			if !cancel(1, second) {
				t.Error("a queued order was not cancelled, or the repeat was told otherwise")
			}
		}
		r.left(9, 8)
		entries, err := r.Claim(r.ctx, r.Bucket, 10)
		r.fine(err)
		if len(entries) != 1 || entries[0].Orders[0].OrderNo != first.OrderNo {
			t.Errorf("the queue has %+v", entries)
		}
		r.repeat(r.took(second), second, redisgate.StateCancelled)
		again := order(3, "bob", "a2") // the limit is free again
		r.code(r.took(again), 7)
		found, known, err := r.Ticket(r.ctx, r.Bucket, second.OrderNo)
		if want := (redisgate.Record{Entry: 2 + 1, State: redisgate.StateCancelled, CustomerID: "bob"}); err != nil ||
			!known || found != want {
			t.Errorf("%+v, %t, %v; want %+v", found, known, err, want)
		}
		if _, known, err = r.Ticket(r.ctx, r.Bucket, order(99, "").OrderNo); known || err != nil {
			t.Errorf("an order that was never taken: %t, %v", known, err)
		}
	})
}

// Returns that add up to more than was sold make stock of nothing: a bug of several public projects.
func TestReturnsStayBelowDeducted(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 10, 10, 0)
		o := order(1, "ann", "a5", "b3")
		back := func(ref string, to redisgate.Destination, lines ...string) (bool, error) {
			lineNo := map[string]int64{"a": 1, "b": 2}
			part := order(1, "ann", lines...)
			for i := range part.Lines {
				part.Lines[i].No = lineNo[part.Lines[i].SkuID]
			}
			return r.Return(r.ctx, r.Bucket, redisgate.Return{OrderNo: o.OrderNo, Ref: ref, To: to, Lines: part.Lines})
		}
		want := func(done bool, err error, wantDone bool, wantErr error) {
			t.Helper()
			if done != wantDone || !errors.Is(err, wantErr) {
				t.Errorf("%t, %v; want %t, %v", done, err, wantDone, wantErr)
			}
		}
		done, err := back("early", redisgate.ToBucket, "a1") // before its deduct
		want(done, err, false, stock.ErrReturnExceeds)
		r.code(r.took(o), 5)
		done, err = back("one", redisgate.ToBucket, "a2")
		want(done, err, true, nil)
		done, err = back("one", redisgate.ToBucket, "a2")
		want(done, err, false, nil)
		r.left(7, 7)
		done, err = back("two", redisgate.ToBucket, "b1", "a4") // 2 + 4 of 5: nothing of b moves either
		want(done, err, false, stock.ErrReturnExceeds)
		r.left(7, 7)
		done, err = back("three", redisgate.ToPool, "a3") // marked: the database's pool has them
		want(done, err, true, nil)
		r.left(7, 7)
		done, err = back("four", redisgate.ToBucket, "a1")
		want(done, err, false, stock.ErrReturnExceeds)
		r.repeat(r.took(o), o, redisgate.StateDirect)
	})
}

// A ticket that was withdrawn is over: its number takes nothing again, however late the first call comes once more, and
// the customer's key may be used for another order.
func TestWithdrawnTicketTakesNothingAgain(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 0, 0)
		o := order(1, "ann", "a2")
		r.code(r.took(o), 3)
		_, err := r.sendBack(r.Bucket, o, "refused")
		r.fine(err)
		r.left(5, 0)
		r.repeat(r.took(o), o, redisgate.StateWithdrawn)
		r.left(5, 0)
		anew := o
		anew.OrderNo = order(2, "").OrderNo
		r.code(r.took(anew), 3)
	})
}

// Moves that are applied twice, out of turn or to another bucket make units of nothing.
func TestMovesAreNumbered(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 10, 0, 0) // move 1
		grant := func(m redisgate.Move, want int64, wantErr error) {
			t.Helper()
			if left, err := r.Grant(r.ctx, r.Bucket, m); left != want || !errors.Is(err, wantErr) {
				t.Errorf("grant %+v: %d, %v; want %d, %v", m, left, err, want, wantErr)
			}
		}
		back := func(m redisgate.Move, want int64, wantErr error) {
			t.Helper()
			if taken, err := r.Back(r.ctx, r.Bucket, m); taken != want || !errors.Is(err, wantErr) {
				t.Errorf("back %+v: %d, %v; want %d, %v", m, taken, err, want, wantErr)
			}
		}
		grant(r.move("a", 1, 10), 0, redisgate.ErrDone)
		grant(r.move("a", 3, 10), 0, redisgate.ErrGap)
		grant(redisgate.Move{SkuID: "a", BucketID: 99, Seq: 2, Units: 10}, 0, redisgate.ErrNotReady)
		grant(r.move("unknown", 1, 10), 0, redisgate.ErrNotReady)
		r.left(10, 0)
		back(r.move("a", 1, 4), 0, redisgate.ErrDone) // 1 is a grant
		back(r.move("a", 3, 4), 0, redisgate.ErrGap)
		back(r.move("a", 2, 4), 4, nil)
		back(r.move("a", 2, 4), 4, nil)
		back(r.move("a", 2, 9), 4, nil) // the same number is the same move, whatever it wants now
		back(redisgate.Move{SkuID: "a", BucketID: 99, Seq: 3, Units: 1}, 0, redisgate.ErrNotReady)
		r.left(6, 0)
		back(r.move("a", 3, 100), 6, nil)
		r.left(0, 0)
		back(r.move("a", 4, 1), 0, nil)
		back(r.move("a", 4, 1), 0, nil)
		grant(r.move("a", 5, 3), 3, nil)
		grant(r.move("a", 6, -4), 0, redisgate.ErrWentBack)
		grant(r.move("a", 6, -2), 1, nil)
		grant(r.move("a", 6, -2), 0, redisgate.ErrDone)
		back(r.move("a", 6, 2), 2, nil) // the keeper that took them asks once more
		grant(r.move("free", 1, 5), -1, nil)
		back(r.move("free", 2, 5), -1, nil)
		if _, err := r.Back(r.ctx, r.Bucket, r.move("a", 7, -1)); err == nil {
			t.Error("taking back below zero is a grant")
		}
		r.left(1, 0)
	})
}

// After a rebuild a process that still has the old token, or that a pause has kept away, must move nothing.
func TestOldTokenMovesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 5, 0)
		o := order(1, "ann", "a")
		o.Queued = true
		entry := r.took(o).Entry
		stale := r.Bucket
		r.Token = 8
		made, err := r.Open(r.ctx, r.Bucket, redisgate.Opening{Filling: true,
			Slices: []redisgate.Slice{{SkuID: "a", BucketID: 21}, {SkuID: "b", BucketID: 22},
				{SkuID: "free", BucketID: 23, Unlimited: true}}})
		if err != nil || !made {
			t.Fatalf("%t, %v", made, err)
		}
		_, err = r.Grant(r.ctx, r.Bucket, redisgate.Move{SkuID: "a", BucketID: 21, Seq: 1, Units: 3})
		r.fine(err)
		check := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, redisgate.ErrNotReady) {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err = r.Deduct(r.ctx, stale, []redisgate.Order{order(2, "bob", "a")})
		check("deduct", err)
		_, err = r.sendBack(stale, o, "x")
		check("return", err)
		_, err = r.Grant(r.ctx, stale, r.move("a", 2, 5))
		check("grant", err)
		_, err = r.Back(r.ctx, stale, r.move("a", 2, 5))
		check("back", err)
		_, err = r.withdraw(stale, o, entry)
		check("cancel", err)
		_, err = r.Claim(r.ctx, stale, 1)
		check("claim", err)
		_, err = r.Close(r.ctx, stale, skus)
		check("close", err)
		_, err = r.Open(r.ctx, stale, redisgate.Opening{Slices: []redisgate.Slice{{SkuID: "a", BucketID: 11}}})
		check("open", err)
		r.left(3, 0)
		// The queued order of before waits on; a repeat of it is not known here yet, and the reply says so.
		if reply := r.took(order(3, "bob", "a9")); reply.Code != redisgate.CodeInsufficient || !reply.Filling {
			t.Errorf("%+v", reply)
		}
		// New entries come behind those of the earlier opening.
		next := order(4, "eve", "a")
		next.Queued = true
		r.code(r.took(next), 2)
		entries, err := r.Claim(r.ctx, r.Bucket, 10)
		r.fine(err)
		if len(entries) != 2 || entries[0].Orders[0].OrderNo != o.OrderNo ||
			entries[1].Orders[0].OrderNo != next.OrderNo {
			t.Errorf("%+v", entries)
		}
	})
}

// Scaling down: what is closed sells nothing, but what is under way comes back to it and is taken out.
func TestClosedBucketIsEmptied(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 2, 0)
		o := order(1, "ann", "a2")
		r.code(r.took(o), 3)
		for range 2 {
			c, err := r.Close(r.ctx, r.Bucket, skus)
			want := redisgate.Closed{Entry: 1, WAL: 1, Left: map[string]int64{"a": 3, "b": 2, "free": -1}}
			if err != nil || c.Entry != want.Entry || c.WAL != 1 || c.Queue != 0 || !maps.Equal(c.Left, want.Left) {
				t.Errorf("%+v, %v; want %+v", c, err, want)
			}
		}
		if _, err := r.Deduct(r.ctx, r.Bucket, []redisgate.Order{o}); !errors.Is(err, redisgate.ErrNotReady) {
			t.Error(err)
		}
		done, err := r.sendBack(r.Bucket, o, "x")
		if !done || err != nil {
			t.Errorf("%t, %v", done, err)
		}
		if taken, err := r.Back(r.ctx, r.Bucket, r.move("a", 2, 100)); taken != 5 || err != nil {
			t.Errorf("took %d back, %v", taken, err)
		}
		made, err := r.Open(r.ctx, r.Bucket, redisgate.Opening{Slices: []redisgate.Slice{{SkuID: "a", BucketID: 11}}})
		if made || err != nil {
			t.Errorf("opened again under the same token: %t, %v", made, err)
		}
		if s, err := r.Stat(r.ctx, r.Bucket, skus); err != nil || s.Open || s.Token != 7 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// FLUSHALL, a restart without data, a bucket that was never opened: not ready, never "sold out".
func TestLostBucketIsNotReady(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 2, 0)
		r.fine(client.FlushAll(r.ctx).Err())
		_, err := r.Deduct(r.ctx, r.Bucket, []redisgate.Order{order(1, "ann", "a")})
		if !errors.Is(err, redisgate.ErrNotReady) {
			t.Error(err)
		}
		if _, err := r.Stat(r.ctx, r.Bucket, skus); !errors.Is(err, redisgate.ErrNotReady) {
			t.Error(err)
		}
		if n, err := client.DBSize(r.ctx).Result(); n != 0 || err != nil {
			t.Errorf("asking made %d keys, %v", n, err)
		}
	})
}

// What no script can bear must not reach one: a quantity below zero would put stock in.
func TestBadCallsAreRefused(t *testing.T) {
	r := open(t, mini(t), 5, 5, 0)
	short := order(1, "ann", "a")
	short.OrderNo = "1"
	many := make([]redisgate.Order, redisgate.MaxBatch+1)
	for i := range many {
		many[i] = order(i, "ann", "free")
	}
	twice := order(1, "ann", "a1", "a2")
	for what, orders := range map[string][]redisgate.Order{"no line": {order(1, "ann")}, "short number": {short},
		"none": {order(1, "ann", "a0")}, "below zero": {order(1, "ann", "a-1")}, "a SKU twice": {twice},
		"beyond exact numbers": {order(1, "ann", "a9007199254740993")}, "too many": many} {
		if replies, err := r.Deduct(r.ctx, r.Bucket, orders); err == nil {
			t.Errorf("%s: %+v", what, replies)
		}
	}
	for what, lines := range map[string][]redisgate.Line{"no line": nil, "below zero": order(1, "", "a-1").Lines,
		"a SKU twice": twice.Lines} {
		if _, err := r.sendBack(r.Bucket, redisgate.Order{OrderNo: "1", Lines: lines}, "x"); err == nil {
			t.Errorf("return of %s", what)
		}
	}
	for _, o := range []redisgate.Opening{{}, {Limit: -1, Slices: []redisgate.Slice{{SkuID: "a"}}}} {
		if _, err := r.Open(r.ctx, r.Bucket, o); err == nil {
			t.Errorf("open %+v", o)
		}
	}
	r.code(r.took(many[1:]...), redisgate.CodeUnlimited) // a full batch
	if replies, err := r.Deduct(r.ctx, r.Bucket, nil); len(replies) != 0 || err != nil {
		t.Errorf("%v, %v", replies, err)
	}
	r.left(5, 5)
}

// A Redis Cluster runs a script on the node of its declared keys: one that makes up a key breaks there and nowhere
// else.
func TestScriptsTouchDeclaredKeysOnly(t *testing.T) {
	call := regexp.MustCompile(`redis\.p?call\(`)
	declared := regexp.MustCompile(`redis\.call\('[A-Z]+', KEYS\[`)
	for name, text := range redisgate.Scripts() {
		all := call.FindAllString(text, -1)
		if fine := declared.FindAllString(text, -1); len(fine) != len(all) || len(all) == 0 {
			t.Errorf("%s.lua: %d calls, %d with a declared key", name, len(all), len(fine))
		}
	}
}

// autumn #1341: CROSSSLOT. Carts of several SKUs in several buckets, on three masters.
func TestCluster(t *testing.T) {
	c := sqldbtest.RedisCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.Nodes[0].Addr, c.Nodes[1].Addr}})
	t.Cleanup(func() { _ = client.Close() })
	masters := map[string]bool{}
	for no := range int64(8) {
		r := open(t, client, 3, 3, 2)
		r.No = no
		if no != 3 { // the rig opened this one
			_, err := r.Open(r.ctx, r.Bucket, redisgate.Opening{Slices: []redisgate.Slice{{SkuID: "a", BucketID: 11},
				{SkuID: "b", BucketID: 12}, {SkuID: "free", BucketID: 13, Unlimited: true}}})
			r.fine(err)
			r.granted("a", 1, 3)
			r.granted("b", 1, 3)
		}
		queued := order(2, "bob", "a", "free")
		queued.Queued = true
		replies, err := r.Deduct(r.ctx, r.Bucket, []redisgate.Order{order(1, "ann", "a", "b2"), queued})
		r.fine(err)
		r.code(replies[0], 1)
		done, err := r.withdraw(r.Bucket, queued, replies[1].Entry)
		if err != nil || !done {
			t.Errorf("%t, %v", done, err)
		}
		_, err = r.sendBack(r.Bucket, order(1, "", "a", "b2"), "x")
		r.fine(err)
		_, err = r.Back(r.ctx, r.Bucket, r.move("a", 2, 1))
		r.fine(err)
		_, err = r.Claim(r.ctx, r.Bucket, 1)
		r.fine(err)
		r.left(2, 3)
		_, err = r.Close(r.ctx, r.Bucket, skus)
		r.fine(err)
		node, err := client.MasterForKey(r.ctx, fmt.Sprintf("gate_{sale/%d}", no))
		r.fine(err)
		masters[node.Options().Addr] = true
	}
	if len(masters) < 2 {
		t.Errorf("eight buckets are all on %v", slices.Collect(maps.Keys(masters)))
	}
}
