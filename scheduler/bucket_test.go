package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
)

// handClock stands until it is moved.
type handClock struct{ us atomic.Int64 }

func newHandClock() *handClock {
	c := &handClock{}
	c.us.Store(1_800_000_000_000_123)
	return c
}

// at reads the clock of a replica that is off by so much.
func (c *handClock) at(off time.Duration) func() time.Time {
	return func() time.Time { return time.UnixMicro(c.us.Load()).Add(off) }
}

func (c *handClock) move(d time.Duration) { c.us.Add(int64(d / time.Microsecond)) }

// drain lets replicas × takers take tokens until the clock has moved by span,
// and gives how many they took and in how much time. Whoever has to wait moves
// the clock, by so little that the bucket is never full meanwhile.
func drain(t *testing.T, c *handClock, buckets []*Bucket, takers int, span time.Duration,
	failing bool) (turns int64, took time.Duration) {
	t.Helper()
	var taken atomic.Int64
	begin := c.us.Load()
	since := func() time.Duration { return time.Duration(c.us.Load()-begin) * time.Microsecond }
	var running sync.WaitGroup
	deadline := time.Now().Add(time.Minute)
	for _, b := range buckets {
		for range takers {
			running.Go(func() {
				for since() < span {
					if time.Now().After(deadline) {
						t.Error("the clock stands still")
						return
					}
					got, wait, err := b.Take(t.Context(), 1+rand.N(5))
					if err != nil && !failing {
						t.Error(err)
						return
					}
					taken.Add(int64(got))
					if wait > 0 {
						c.move(max(wait/8, time.Millisecond))
					}
				}
			})
		}
	}
	running.Wait()
	return taken.Load(), since()
}

// Three replicas with limits of their own would ask WeChat three times as often as it bears; with a row that two may
// read before either writes, more than the rate gets through.
func TestBucketIsOneForAllReplicas(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		const rate, burst, skew = 100, 10, 5 * time.Millisecond
		c := newHandClock()
		var buckets []*Bucket
		for _, off := range []time.Duration{0, skew, -skew} {
			buckets = append(buckets, NewBucket(db, "close", rate, burst, c.at(off)))
		}
		turns, took := drain(t, c, buckets, 8, 5*time.Second, false)
		most := rate*took.Seconds() + burst + 2*rate*skew.Seconds()*2 // the clocks are 2 × skew apart
		if float64(turns) > most || float64(turns) < 0.9*rate*took.Seconds() {
			t.Errorf("%d turns in %s at %d a second", turns, took, rate)
		}
	})
}

// The first tokens of a new rate are taken by several replicas at once: none may fail because another one made the row,
// and the row may not be made twice.
func TestBucketBeginsOnce(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		c := newHandClock()
		for round := range 30 {
			b := NewBucket(db, fmt.Sprint("close", round), 50, 10, c.at(0))
			var turns atomic.Int64
			var running sync.WaitGroup
			begin := make(chan struct{})
			for range 6 {
				running.Go(func() {
					<-begin
					got, _, err := b.Take(t.Context(), 3)
					if err != nil {
						t.Error(err)
					}
					turns.Add(int64(got))
				})
			}
			close(begin)
			running.Wait()
			if turns.Load() != 10 {
				t.Fatalf("%d turns of a burst of 10", turns.Load())
			}
		}
	})
}

// A rate that holds over a minute and not over every second of it still gets FREQUENCY_LIMITED.
func TestBucketKeepsTheRateInEveryWindow(t *testing.T) {
	for _, rate := range []float64{0.7, 3, 50, 1500} {
		const burst, steps = 7, 1500
		b := NewBucket(nil, "x", rate, burst, nil)
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		var at [steps]int64
		var sum [steps + 1]int
		next, now := int64(0), int64(1_800_000_000_000_000)
		for i := range steps {
			got, wait, after := b.share(1+r.IntN(12), 0, next, now)
			at[i], sum[i+1], next = now, sum[i]+got, after
			switch r.IntN(4) {
			case 0: // at once
			case 1:
				now += wait.Microseconds()
			default:
				now += int64(r.Float64() * 4 * second / rate)
			}
		}
		for i := range steps {
			for j := i; j < steps; j++ {
				if most := float64(at[j]-at[i])*rate/second + burst; float64(sum[j+1]-sum[i]) > most+1e-6 {
					t.Fatalf("seed %d: %d turns in %d µs at %g a second", seed, sum[j+1]-sum[i], at[j]-at[i], rate)
				}
			}
		}
	}
}

// A wait that ends before there is a token asks again for nothing; one that ends late leaves a part of the rate unused.
func TestBucketWaitsExactly(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		c := newHandClock()
		b := NewBucket(db, "close", 50, 10, c.at(0))
		take := func(n, want int, wantWait time.Duration) {
			t.Helper()
			got, wait, err := b.Take(t.Context(), n)
			if err != nil || got != want || wait != wantWait {
				t.Fatalf("%d turns, wait %s, %v; want %d and %s", got, wait, err, want, wantWait)
			}
		}
		take(0, 0, 0)
		take(4, 4, 0)
		take(8, 6, 20*time.Millisecond)
		c.move(19 * time.Millisecond)
		take(1, 0, time.Millisecond)
		c.move(time.Millisecond)
		take(1, 1, 0)
		c.move(time.Hour) // a rest gives a burst, not an hour's turns
		take(100, 10, 20*time.Millisecond)
	})
}

// A clock that was an hour ahead once must not stop all closes for an hour; one that is a second ahead is no reason to
// go faster.
func TestBucketHealsFromAWrongClock(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const rate, burst = 50, 10
		c := newHandClock()
		b := NewBucket(db, "close", rate, burst, c.at(0))
		ahead := func(d time.Duration) {
			t.Helper()
			if got, _, err := NewBucket(db, "close", rate, burst, c.at(d)).Take(t.Context(), burst); err != nil ||
				got != burst {
				t.Fatal(got, err)
			}
		}
		ahead(time.Second)
		if got, wait, err := b.Take(t.Context(), 1); err != nil || got != 0 || wait < time.Second {
			t.Fatalf("behind a clock that is a little ahead: %d turns, wait %s, %v", got, wait, err)
		}
		ahead(time.Hour)
		for turns, begin := 0, c.us.Load(); turns < 50; {
			got, wait, err := b.Take(t.Context(), 1)
			if err != nil || wait > time.Second/rate {
				t.Fatalf("wait %s, %v", wait, err)
			}
			turns += got
			c.move(wait)
			took := time.Duration(c.us.Load()-begin) * time.Microsecond
			if least := time.Duration(turns) * time.Second / rate; took < least || took > least+2*time.Second/rate {
				t.Fatalf("after an hour ahead %d turns in %s", turns, took)
			}
		}
	})
}

// A COMMIT without an answer may have taken tokens or not: believed not taken, they would be given twice.
func TestBucketThroughInterruptedCommits(t *testing.T) {
	for name, mode := range map[string]faultproxy.Mode{"before": faultproxy.CutBefore, "after": faultproxy.CutAfter} {
		t.Run(name, func(t *testing.T) {
			server := sqldbtest.MariaDBServer(t)
			if err := server.Create(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			proxy, err := faultproxy.NewMySQL(server.Addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(proxy.Close)
			db := sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "t"))
			proxy.Every(3, mode)
			const rate, burst = 100, 10
			c := newHandClock()
			buckets := []*Bucket{NewBucket(db, "close", rate, burst, c.at(0)),
				NewBucket(db, "close", rate, burst, c.at(0))}
			turns, took := drain(t, c, buckets, 4, 2*time.Second, true)
			if proxy.Hits(mode) < 20 || float64(turns) > rate*took.Seconds()+burst || turns < rate/2 {
				t.Errorf("%d turns in %s at %d a second, %d commits cut", turns, took, rate, proxy.Hits(mode))
			}
			c.move(time.Minute)
			proxy.Every(1, mode) // no commit gets an answer
			if got, _, err := buckets[0].Take(t.Context(), 1); err == nil || got != 0 {
				t.Errorf("%d turns without a commit, %v", got, err)
			}
			proxy.Every(0, faultproxy.Pass)
			c.move(time.Minute)
			if got, _, err := buckets[0].Take(t.Context(), 2*burst); err != nil || got != burst {
				t.Errorf("%d turns after the trouble, %v", got, err)
			}
		})
	}
}

// A rate of zero is "no limit": it must not cost a transaction, nor need a database.
func TestBucketWithoutALimit(t *testing.T) {
	for _, rate := range []float64{0, -1, math.Inf(-1)} {
		if got, wait, err := NewBucket(nil, "close", rate, 0, nil).Take(t.Context(), 1000); got != 1000 ||
			wait != 0 || err != nil {
			t.Errorf("%g a second: %d turns, wait %s, %v", rate, got, wait, err)
		}
	}
}
