package redisgate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock/gate/redisgate"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// lossy is a connection of which the next answer never comes, once it is told so.
type lossy struct {
	net.Conn
	lose *atomic.Bool
}

// Read waits for the answer, so that the call has happened, and keeps it.
func (c lossy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.lose.CompareAndSwap(true, false) {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// midaz #2485: go-redis repeats a command whose answer did not come in time, and it was done twice.
func TestLostAnswerDoublesNothing(t *testing.T) {
	for name, addr := range map[string]func() string{
		"miniredis":    func() string { return miniredis.RunT(t).Addr() },
		"redis-server": func() string { return sqldbtest.RedisServer(t).Addr }} {
		t.Run(name, func(t *testing.T) {
			var lose atomic.Bool
			client := redis.NewClient(&redis.Options{Addr: addr(),
				Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
					var d net.Dialer
					conn, err := d.DialContext(ctx, network, addr)
					return lossy{conn, &lose}, err
				}})
			t.Cleanup(func() { _ = client.Close() })
			lostAnswers(t, client, &lose)
		})
	}
}

func lostAnswers(t *testing.T, client redis.UniversalClient, lose *atomic.Bool) {
	r := open(t, client, 20, 20, 5)
	queued, refused := order(2, "bob", "a3", "b"), order(4, "eve", "b2")
	// Each script runs once before, so that a repeat is not hidden behind NOSCRIPT.
	r.code(r.took(order(1, "ann", "a")), 19)
	calls := []struct {
		name string
		call func() (any, error)
		want any
		a, b int64
	}{
		{"return, to know the script", func() (any, error) {
			return r.sendBack(r.Bucket, order(1, "", "a"), "x")
		}, true, 20, 20},
		{"deduct", func() (any, error) {
			lose.Store(true)
			return r.took(order(3, "eve", "a2")).Entry, nil
		}, 2, 18, 20},
		{"deduct, queued", func() (any, error) {
			lose.Store(true)
			replies := r.queue(queued, refused)
			r.repeat(replies[0], queued, redisgate.StateQueued)
			r.repeat(replies[1], refused, redisgate.StateQueued)
			return []int64{replies[0].Entry, replies[1].Entry}, nil
		}, []int64{4, 5}, 15, 17},
		{"return", func() (any, error) {
			lose.Store(true)
			return r.sendBack(r.Bucket, order(3, "", "a1"), "x")
		}, false, 16, 17},
		{"grant", func() (any, error) {
			lose.Store(true)
			left, err := r.Grant(r.ctx, r.Bucket, r.move("a", 2, 5))
			if errors.Is(err, redisgate.ErrDone) {
				err = nil
			}
			return left, err
		}, int64(0), 21, 17},
		{"cancel, to know the script", func() (any, error) {
			return r.withdraw(order(9, "", "a"), 1)
		}, false, 21, 17},
		{"cancel", func() (any, error) {
			lose.Store(true)
			return r.withdraw(queued, 4)
		}, true, 24, 18},
		{"refuse", func() (any, error) {
			lose.Store(true)
			return nil, r.refuse(refused, 5)
		}, nil, 24, 20},
		{"open", func() (any, error) {
			lose.Store(true)
			return r.Open(r.ctx, r.Bucket, redisgate.Opening{Slices: []redisgate.Slice{{SkuID: "a", BucketID: 1}}})
		}, false, 24, 20},
	}
	for _, c := range calls {
		got, err := c.call()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
		if lose.Load() {
			t.Errorf("%s: no answer was lost", c.name)
		}
		r.left(c.a, c.b)
	}
}

// write is a call of a script that changes something.
var write = regexp.MustCompile(`redis\.call\('(HSET|HDEL|XADD|DECRBY|INCRBY|XDEL|ZADD|ZREM|SET|DEL|UNLINK)'`)

// scenarios have a call for each script that moves units, and what is needed before.
var scenarios = map[string]struct {
	before func(r *rig)
	call   func(r *rig) error
}{
	"deduct": {func(*rig) {}, func(r *rig) error {
		first, queued := order(10, "ann", "a", "b2"), order(11, "bob", "a2", "b")
		first.MayWait, queued.MayWait = true, true
		pace := redisgate.Pace{Now: drains.Now, Every: time.Hour, Room: 10} // the first is made at once
		_, err := r.Deduct(r.ctx, r.Bucket, pace, []redisgate.Order{first, queued})
		return err
	}},
	"return": {func(r *rig) { r.took(order(10, "ann", "a2", "b2")) }, func(r *rig) error {
		_, err := r.sendBack(r.Bucket, order(10, "", "a2", "b"), "x")
		return err
	}},
	"grant": {func(*rig) {}, func(r *rig) error {
		_, err := r.Grant(r.ctx, r.Bucket, r.move("a", 2, 5))
		return ignore(err, redisgate.ErrDone)
	}},
	"grant below zero": {func(*rig) {}, func(r *rig) error {
		_, err := r.Grant(r.ctx, r.Bucket, r.move("a", 2, -3))
		return ignore(err, redisgate.ErrDone)
	}},
	"cancel": {func(r *rig) { r.queue(order(10, "ann", "a2", "b2")) }, func(r *rig) error {
		_, err := r.withdraw(order(10, "ann", "a2", "b2"), 2)
		return err
	}},
	"cancel, refused": {func(r *rig) {
		r.queue(order(10, "ann", "a2", "b2"))
		r.claim(1)
	}, func(r *rig) error { return r.refuse(order(10, "ann", "a2", "b2"), 2) }},
	"done": {func(r *rig) {
		r.queue(order(10, "ann", "a2", "b2"))
		r.claim(1)
	}, func(r *rig) error {
		return r.Done(r.ctx, r.Bucket, []redisgate.Entry{{ID: r.idOf(2), OrderNo: order(10, "").OrderNo}})
	}},
}

func ignore(err, fine error) error {
	if errors.Is(err, fine) {
		return nil
	}
	return err
}

// scriptOf is the script of a scenario.
func scriptOf(name string) string {
	return name[:strings.IndexAny(name+" ", " ,")]
}

// A script can die between two of its writes, and what it wrote stays. However it dies, there may be a ticket too many,
// which the database refuses, or units that lie idle, and never a unit too many; and the same call can be sent again.
func TestScriptThatDiesHalfWay(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		for name := range scenarios {
			script := scriptOf(name)
			wrong, died := dies(t, client, name, redisgate.Scripts()[script])
			for _, w := range wrong {
				t.Error(w)
			}
			if died < 2 {
				t.Errorf("%s died at %d places: nothing was tested", name, died)
			}
		}
	})
}

// A claim that dies between two of its writes must forget nobody who waits: all are claimed again, when it has lapsed
// at the latest.
func TestClaimThatDiesHalfWay(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		text, died := redisgate.Scripts()["claim"], 0
		for i, place := range write.FindAllStringIndex(text, -1) {
			r := open(t, client, 10, 10, 5)
			r.queue(order(1, "ann", "a"), order(2, "bob", "a"), order(3, "eve", "a"))
			r.claim(1)
			r.Use("claim", text[:place[0]]+"error('dies here') "+text[place[0]:])
			pace := redisgate.Pace{Now: drains.Now, Every: time.Microsecond, Burst: time.Second}
			if _, err := r.Claim(r.ctx, r.Bucket, pace, time.Minute, 1); err == nil {
				continue // the call does not come here
			}
			died++
			r.Use("claim", text)
			pace.Now = pace.Now.Add(time.Minute)
			if entries, err := r.Claim(r.ctx, r.Bucket, pace, time.Minute, 10); err != nil || len(entries) != 3 {
				t.Errorf("dead before write %d: %d of 3 are claimed again, %v", i, len(entries), err)
			}
		}
		if died < 3 {
			t.Errorf("it died at %d places: nothing was tested", died)
		}
	})
}

// The test above must see a script that writes in the wrong order.
func TestWrongOrderOfWritesIsCaught(t *testing.T) {
	client := mini(t)
	const counted = "for _, line in ipairs(%s) do\n  if line.counts then\n" +
		"    redis.call('INCRBY', KEYS[line.k], line.q)\n  end\nend\n"
	const numbered = "redis.call('HSET', KEYS[1], 's:' .. sku, ARGV[3], 'm:' .. sku, "
	for name, m := range map[string]struct{ block, before string }{
		"deduct": {"for s = 1, skus do\n  if took[s] > 0 then\n" +
			"    redis.call('DECRBY', KEYS[3 * s + 4], took[s])\n  end\nend\n", "redis.call('HSET', KEYS[1], 'n', "},
		"return":           {fmt.Sprintf(counted, "todo"), "for _, line in ipairs(todo) do\n  redis.call('HSET'"},
		"cancel":           {fmt.Sprintf(counted, "lines"), "redis.call('XDEL'"},
		"grant":            {"if delta > 0 then\n  redis.call('INCRBY', KEYS[2], delta)\nend\n", numbered},
		"grant below zero": {numbered + "ARGV[4])\n", "-- Half-way there must be"},
	} {
		script := scriptOf(name)
		text := redisgate.Scripts()[script]
		at := strings.LastIndex(text, m.block)
		if at < 0 {
			t.Fatalf("%s.lua has no %q", script, m.block)
		}
		rest, block := text[:at]+text[at+len(m.block):], text[at:at+len(m.block)]
		if at = strings.LastIndex(rest, m.before); at < 0 {
			t.Fatalf("%s.lua has no %q", script, m.before)
		}
		if wrong, _ := dies(t, client, name, rest[:at]+block+rest[at:]); len(wrong) == 0 {
			t.Errorf("%s is not caught", name)
		}
	}
}

// dies runs a scenario once for each place where a script writes, and has it die there. It gives what was wrong
// afterwards or after the same call again, and at how many places the script died.
func dies(t *testing.T, client redis.UniversalClient, name, text string) (wrong []string, died int) {
	t.Helper()
	script := scriptOf(name)
	s := scenarios[name]
	for i, place := range write.FindAllStringIndex(text, -1) {
		r := open(t, client, 10, 10, 5)
		s.before(r)
		r.Use(script, text[:place[0]]+"error('dies here') "+text[place[0]:])
		if err := s.call(r); err == nil {
			continue // the call does not come here
		} else if !strings.Contains(err.Error(), "dies here") {
			t.Fatalf("%s, write %d: %v", name, i, err)
		}
		died++
		r.Use(script, text)
		wrong = append(wrong, tooMany(r, fmt.Sprintf("%s, dead before write %d", name, i), name)...)
		if err := s.call(r); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s, dead before write %d, again: %v", name, i, err))
		}
		wrong = append(wrong, tooMany(r, fmt.Sprintf("%s, dead before write %d and again", name, i), name)...)
	}
	return wrong, died
}

// tooMany tells when units left and units of tickets are more than what moves brought; and of deduct, when units are
// gone without a ticket.
func tooMany(r *rig, when, name string) (wrong []string) {
	r.t.Helper()
	s, err := r.Stat(r.ctx, r.Bucket, skus)
	r.fine(err)
	granted := map[string]int64{"a": 10, "b": 10}
	if s.SKUs["a"].Seq == 2 {
		granted["a"] += map[string]int64{"grant": 5, "grant below zero": -3}[name]
	} else if name == "grant" {
		granted["a"] += 5
	}
	for _, sku := range []string{"a", "b"} {
		prefix := fmt.Sprintf("h%d:", homes.Load())
		flow, err := r.client.HGetAll(r.ctx, prefix+"inventory_flow_{sale/3}:"+sku).Result()
		r.fine(err)
		out := int64(0)
		for line, quantity := range flow {
			back, err := r.client.HGet(r.ctx, prefix+"inventory_back_{sale/3}:"+sku, line).Int64()
			r.fine(ignore(err, redis.Nil))
			out += number(r.t, quantity) - back
		}
		left := s.SKUs[sku].Left
		if left > granted[sku] || name != "deduct" && left+out > granted[sku] {
			wrong = append(wrong,
				fmt.Sprintf("%s: %d left of %s, %d with orders, %d were granted", when, left, sku, out, granted[sku]))
		}
		if entries := s.WAL + s.Queue; name == "deduct" && left < granted[sku] && entries < 2 {
			wrong = append(wrong, fmt.Sprintf("%s: units of %s are gone, with %d entries of two", when, sku, entries))
		}
	}
	return wrong
}

func number(t *testing.T, text string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A Redis that is full refuses the first write of a script: nothing may have changed, and the same call works later.
func TestFullRedisChangesNothing(t *testing.T) {
	client := server(t)
	for name, s := range scenarios {
		r := open(t, client, 10, 10, 5)
		s.before(r)
		w := &world{ctx: r.ctx, client: client, model: &model{prefix: fmt.Sprintf("h%d:", homes.Load())}}
		before, err := w.dump()
		r.fine(err)
		r.fine(client.ConfigSet(r.ctx, "maxmemory", "1").Err())
		err = s.call(r)
		r.fine(client.ConfigSet(r.ctx, "maxmemory", "0").Err())
		after, dumpErr := w.dump()
		r.fine(dumpErr)
		changed := differ(after, before)
		switch {
		case err != nil && !strings.Contains(err.Error(), "OOM"):
			t.Errorf("%s: %v", name, err)
		case err != nil && changed != "":
			t.Errorf("%s: refused, and yet %s", name, changed)
		// These two begin by deleting, which a full Redis allows.
		case err == nil && scriptOf(name) != "cancel" && name != "done":
			t.Errorf("%s was not refused", name)
		}
		r.fine(s.call(r))
		if after, err = w.dump(); err != nil || differ(after, before) == "" {
			t.Errorf("%s does nothing when there is room again: %v", name, err)
		}
		for _, wrong := range tooMany(r, name+" of a full Redis", name) {
			t.Error(wrong)
		}
	}
}
