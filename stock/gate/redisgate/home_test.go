package redisgate_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
	"orderd/stock/gate/redisgate"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
		replies, err := r.deduct(r.Bucket, order(22, "ann", "a2"), order(23, "bob", "a3"), order(24, "eve", "a2"))
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
				replies, err := r.deduct(r.Bucket, order(2*i+1, "ann", "a"), order(2*i+2, "ann", "a", "free"))
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
			queued = append(queued, order(i+1, "ann", "a"))
		}
		replies := r.queue(queued...)
		for i, reply := range replies {
			if i < 10 && (!reply.Taken() || reply.Ahead != int64(i) || reply.State != redisgate.StateQueued) {
				t.Errorf("place %d: %+v", i, reply)
			}
			if i >= 10 {
				r.code(reply, redisgate.CodeQueueFull)
			}
		}
		r.repeat(r.queue(queued[9])[0], queued[9], redisgate.StateQueued)
		r.code(r.took(order(20, "bob", "a")), 89)
		// one that may not wait is told so, with room in the queue too
		r.claim(1)
		r.fine(r.Done(r.ctx, r.Bucket, []redisgate.Entry{{ID: r.idOf(replies[0].Entry), OrderNo: queued[0].OrderNo}}))
		direct := order(21, "eve", "a")
		one, err := r.Deduct(r.ctx, r.Bucket, waits, []redisgate.Order{direct})
		r.fine(err)
		r.code(one[0], redisgate.CodeQueueFull)
		// the entries are found under the numbers that the replies have
		entries := r.claim(100)
		for i, e := range entries {
			if e.ID != r.idOf(replies[i+1].Entry) || e.OrderNo != queued[i+1].OrderNo ||
				string(e.Payload) != "payload" {
				t.Errorf("entry %d: %+v", i, e)
			}
		}
		if len(entries) != 9 {
			t.Errorf("%d entries", len(entries))
		}
	})
}

// A cancelled order that the drainer has read becomes an order all the same: either of the two wins, and both know.
func TestCancelWhileQueuedHasOneWinner(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 10, 10, 2)
		first, second := order(1, "ann", "a", "b2"), order(2, "bob", "a")
		replies := r.queue(first, second)
		cancel := func(i int, o redisgate.Order) bool {
			done, err := r.withdraw(o, replies[i].Entry)
			r.fine(err)
			return done
		}
		if entries := r.claim(1); len(entries) != 1 || entries[0].OrderNo != first.OrderNo {
			t.Fatal(entries)
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
		if entries := r.claim(10); len(entries) != 0 {
			t.Errorf("the queue has %+v", entries)
		}
		r.repeat(r.took(second), second, redisgate.StateCancelled)
		again := order(3, "bob", "a2") // the limit is free again
		r.code(r.took(again), 7)
		r.ended(second, redisgate.StateCancelled, "bob", "")
		if _, known, err := r.Places(r.ctx, []redisgate.Bucket{r.Bucket}, order(99, "").OrderNo); known || err != nil {
			t.Errorf("an order that was never taken: %t, %v", known, err)
		}
	})
}

// ended asserts how a queued order has ended.
func (r *rig) ended(o redisgate.Order, state redisgate.State, customer, problem string) {
	r.t.Helper()
	p, found, err := r.Places(r.ctx, []redisgate.Bucket{{Sale: r.Sale, No: 0}, {Sale: r.Sale, No: r.No}}, o.OrderNo)
	if err != nil || !found || p.State != state || p.CustomerID != customer || string(p.Problem) != problem {
		r.t.Errorf("%+v, %t, %v; want %s of %s, %q", p, found, err, state, customer, problem)
	}
}

// One who is refused must hear why, and be able to try again; his units are free. Neither may happen twice.
func TestRefusedWhileQueued(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 10, 10, 2)
		o := order(1, "ann", "a2")
		entry := r.queue(o)[0].Entry
		r.claim(1)
		for range 2 {
			r.fine(r.refuse(o, entry))
			r.left(10, 10)
		}
		r.ended(o, redisgate.StateWithdrawn, "ann", "why")
		anew := o
		anew.OrderNo = order(2, "").OrderNo
		reply := r.queue(anew)[0]
		if !reply.Taken() || reply.State != redisgate.StateQueued {
			t.Errorf("%+v", reply)
		}
		r.claim(1)
		for range 2 {
			r.fine(r.Done(r.ctx, r.Bucket, []redisgate.Entry{{ID: r.idOf(reply.Entry), OrderNo: anew.OrderNo}}))
			r.repeat(r.queue(anew)[0], anew, redisgate.StateOrder)
			r.left(8, 10)
		}
	})
}

// A drainer that dies with what it has claimed leaves orders that nobody makes: they are claimed again when the claim
// has lapsed, before all others, and not earlier.
func TestClaimLapses(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 10, 10, 0)
		r.queue(order(1, "ann", "a"), order(2, "bob", "a"), order(3, "eve", "a"))
		claim := func(after time.Duration, limit int) (nos []string) {
			entries, err := r.Claim(r.ctx, r.Bucket, redisgate.Pace{Now: drains.Now.Add(after)}, time.Minute, limit)
			r.fine(err)
			for _, e := range entries {
				nos = append(nos, strings.TrimLeft(e.OrderNo, "0"))
			}
			return nos
		}
		for _, c := range []struct {
			after time.Duration
			limit int
			want  string
		}{{0, 1, "[1]"}, {30 * time.Second, 1, "[2]"}, {time.Minute, 10, "[1 3]"}, {time.Minute, 10, "[]"},
			{2 * time.Minute, 10, "[2 1 3]"}} {
			if got := claim(c.after, c.limit); fmt.Sprint(got) != c.want {
				t.Errorf("after %s: %v, want %s", c.after, got, c.want)
			}
		}
	})
}

// However many processes ask, and whether they make their orders at once or claim them: no more of them in a time than
// the rate and its burst. A clock that is behind, or goes back, gives nothing away.
func TestPaceIsKeptByAllTogether(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		const processes, every, burst = 8, 10 * time.Millisecond, 250 * time.Millisecond
		r := open(t, client, 100_000, 0, 0)
		begin := time.UnixMicro(1_800_000_000_000_000)
		var clock, made, number atomic.Int64 // milliseconds
		var all sync.WaitGroup
		for p := range processes {
			random := rand.New(rand.NewPCG(1, uint64(p)))
			all.Go(func() {
				for range 120 {
					at := clock.Add(int64(random.IntN(8)))
					pace := redisgate.Pace{Now: begin.Add(time.Duration(at-int64(random.IntN(300))) * time.Millisecond),
						Every: every, Burst: burst, Room: 100_000}
					if random.IntN(2) == 0 {
						entries, err := r.Claim(r.ctx, r.Bucket, pace, time.Hour, 1+random.IntN(20))
						if err != nil {
							t.Error(err)
						}
						made.Add(int64(len(entries)))
						continue
					}
					var orders []redisgate.Order
					for range 1 + random.IntN(4) {
						o := order(int(number.Add(1)), "ann", "a")
						o.MayWait = true
						orders = append(orders, o)
					}
					replies, err := r.Deduct(r.ctx, r.Bucket, pace, orders)
					if err != nil {
						t.Error(err)
					}
					for _, reply := range replies {
						if reply.Taken() && reply.State == redisgate.StateDirect {
							made.Add(1)
						}
					}
				}
			})
		}
		all.Wait()
		passed := time.Duration(clock.Load()) * time.Millisecond
		most := int64((passed+300*time.Millisecond+burst)/every) + 1
		if n := made.Load(); n > most || n < most*8/10 {
			t.Errorf("%d orders in %s, at most %d by the rate, and not much less", n, passed, most)
		}
	})
}

// A clock of the database that was set back stopped the rate until it was as late as before, and what a drainer had
// claimed that died was nobody's for as long.
func TestPaceGoesOnWhenTheClockIsSetBack(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 100, 0, 0)
		pace := redisgate.Pace{Now: time.UnixMicro(1_800_000_000_000_000), Every: time.Second, Room: 100}
		var orders []redisgate.Order
		for i := range 5 {
			orders = append(orders, order(i, "ann", "a"))
			orders[i].MayWait = true
		}
		replies, err := r.Deduct(r.ctx, r.Bucket, pace, orders) // one is made, four wait
		r.fine(err)
		if replies[0].State != redisgate.StateDirect || replies[4].State != redisgate.StateQueued {
			t.Fatalf("%+v", replies)
		}
		claimed := map[string]int{}
		claim := func() (n int) {
			entries, err := r.Claim(r.ctx, r.Bucket, pace, time.Minute, 10)
			r.fine(err)
			for _, e := range entries {
				claimed[e.OrderNo]++
			}
			return len(entries)
		}
		pace.Now = pace.Now.Add(time.Second)
		if n := claim(); n != 1 {
			t.Errorf("%d claimed", n)
		}
		pace.Now = pace.Now.Add(-time.Hour)
		for range 6 {
			if n := claim(); n > 1 {
				t.Errorf("%d claimed at once", n)
			}
			pace.Now = pace.Now.Add(time.Second)
		}
		if len(claimed) != 4 || claimed[orders[1].OrderNo] != 2 {
			t.Errorf("claimed %v: four wait, of which one was claimed by the clock of before", claimed)
		}
		late := order(9, "bob", "a")
		late.MayWait = true
		pace.Now = pace.Now.Add(-time.Hour)
		replies, err = r.Deduct(r.ctx, r.Bucket, pace, []redisgate.Order{late})
		r.fine(err)
		if replies[0].State != redisgate.StateDirect {
			t.Errorf("nobody waits that is not claimed, and the rate has room: %+v", replies[0])
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
		grant(r.move("a", 1, 10), 0, redisgate.ErrDone)
		grant(r.move("a", 3, 10), 0, redisgate.ErrGap)
		grant(redisgate.Move{SkuID: "a", BucketID: 99, Seq: 2, Units: 10}, 0, redisgate.ErrNotReady)
		grant(r.move("unknown", 1, 10), 0, redisgate.ErrNotReady)
		r.left(10, 0)
		grant(r.move("a", 2, 3), 13, nil)
		grant(r.move("a", 3, -14), 0, redisgate.ErrWentBack)
		grant(r.move("a", 3, -2), 11, nil)
		grant(r.move("a", 3, -2), 0, redisgate.ErrDone)
		grant(r.move("free", 1, 5), -1, nil)
		r.left(11, 0)
	})
}

// After a rebuild a process that still has the old token, or that a pause has kept away, must move nothing.
func TestOldTokenMovesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 5, 0)
		o := order(1, "ann", "a")
		entry := r.queue(o)[0].Entry
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
		_, err = r.deduct(stale, order(2, "bob", "a"))
		check("deduct", err)
		_, err = r.sendBack(stale, o, "x")
		check("return", err)
		_, err = r.Grant(r.ctx, stale, r.move("a", 2, 5))
		check("grant", err)
		_, err = r.Close(r.ctx, stale)
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
		r.code(r.queue(next)[0], 2)
		// The repeat of one that waits since then finds it. It may be withdrawn, and nothing comes back for it here.
		r.repeat(r.queue(o)[0], o, redisgate.StateQueued)
		third := order(5, "bob", "a")
		r.code(r.queue(third)[0], 1)
		entries := r.claim(2)
		if len(entries) != 2 || entries[0].OrderNo != o.OrderNo || entries[1].OrderNo != next.OrderNo {
			t.Errorf("%+v", entries)
		}
		_, err = r.Cancel(r.ctx, r.Bucket, redisgate.Cancel{OrderNo: o.OrderNo, ID: fmt.Sprint("7-", entry),
			To: redisgate.StateWithdrawn, Lines: o.Lines, CustomerID: "ann", Told: time.Minute})
		r.fine(err)
		r.left(1, 0)
	})
}

// An epoch that ends in order: what is closed sells nothing, what is under way comes back to it, and what waits is
// claimed.
func TestClosedBucketRunsOut(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		r := open(t, client, 5, 2, 0)
		o, queued := order(1, "ann", "a2"), order(2, "bob", "b")
		r.code(r.took(o), 3)
		entry := r.queue(queued)[0].Entry
		closed := func(want int64) {
			t.Helper()
			if waiting, err := r.Close(r.ctx, r.Bucket); err != nil || waiting != want {
				t.Errorf("%d wait, %v; want %d", waiting, err, want)
			}
		}
		closed(1)
		closed(1)
		if _, err := r.deduct(r.Bucket, o); !errors.Is(err, redisgate.ErrNotReady) {
			t.Error(err)
		}
		done, err := r.sendBack(r.Bucket, o, "x")
		if !done || err != nil {
			t.Errorf("%t, %v", done, err)
		}
		if entries := r.claim(10); len(entries) != 1 {
			t.Error(entries)
		}
		closed(1)
		r.fine(r.Done(r.ctx, r.Bucket, []redisgate.Entry{{ID: r.idOf(entry), OrderNo: queued.OrderNo}}))
		closed(0)
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
		_, err := r.deduct(r.Bucket, order(1, "ann", "a"))
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
		if replies, err := r.deduct(r.Bucket, orders...); err == nil {
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
	if replies, err := r.deduct(r.Bucket); len(replies) != 0 || err != nil {
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
		r.code(r.took(order(1, "ann", "a", "b2")), 1)
		queued, refused := order(2, "bob", "a", "free"), order(3, "eve", "a")
		replies := r.queue(queued, refused)
		done, err := r.withdraw(queued, replies[0].Entry)
		if err != nil || !done {
			t.Errorf("%t, %v", done, err)
		}
		_, err = r.sendBack(r.Bucket, order(1, "", "a", "b2"), "x")
		r.fine(err)
		r.claim(1)
		r.fine(r.refuse(refused, replies[1].Entry))
		r.fine(r.Done(r.ctx, r.Bucket, []redisgate.Entry{{ID: "7-99", OrderNo: refused.OrderNo}}))
		r.ended(refused, redisgate.StateWithdrawn, "eve", "why")
		r.left(3, 3)
		_, err = r.Close(r.ctx, r.Bucket)
		r.fine(err)
		node, err := client.MasterForKey(r.ctx, fmt.Sprintf("gate_{sale/%d}", no))
		r.fine(err)
		masters[node.Options().Addr] = true
	}
	if len(masters) < 2 {
		t.Errorf("eight buckets are all on %v", slices.Collect(maps.Keys(masters)))
	}
}
