package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/wechatsim"
)

// A Redis that evicts keys loses wake-ups and blocks their ids for ever: the service must not start on one (F13).
func TestStartRefusesAnEvictingRedis(t *testing.T) {
	server := sqldbtest.RedisServer(t, "--maxmemory-policy", "allkeys-lru")
	s := &settings{DataDir: t.TempDir(), Redis: server.URL(), APIAddr: "127.0.0.1:0", NotifyAddr: "127.0.0.1:0",
		AdminAddr: "127.0.0.1:0", SimAddr: "127.0.0.1:0",
		PayWithin: time.Minute, CloseRate: 50, SweepEvery: time.Second, LogLevel: "error"}
	a, err := start(t.Context(), s, options{roles: allRoles}, slog.New(slog.DiscardHandler))
	if err == nil {
		_ = a.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "noeviction") {
		t.Fatalf("started on allkeys-lru: %v", err)
	}
	if a, err = start(t.Context(), s, options{roles: allRoles, allowUnsafe: true},
		slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("--allow-unsafe: %v", err)
	}
	_ = a.Close()
}

// twin is a second instance of a service, on addresses of its own.
func (v *victim) twin(i int) *victim {
	v.t.Helper()
	w := *v
	w.env = append([]string{}, v.env...)
	for _, name := range []string{"API", "NOTIFY", "ADMIN"} {
		addr := steadyAddr(v.t)
		if name == "API" {
			w.api = addr
		}
		w.env = append(w.env, "ORDERD_"+name+"_ADDR="+addr)
	}
	w.env = append(w.env, fmt.Sprintf("ORDERD_DATA_DIR=%s/%d", v.t.TempDir(), i))
	return &w
}

// Three instances on one MariaDB and one Redis; one of them is stopped for longer than the database keeps its
// connections, and in a long run longer than asynq's lease, and wakes in the middle of work that others have done.
// Nothing may happen twice (reliability T11, T12).
func TestInstancesOneOfThemAsleep(t *testing.T) {
	asleep := 4 * time.Second
	if os.Getenv("ORDERD_TEST_LONG") == "1" {
		asleep = 70 * time.Second // the lease is 30 s, and the recoverer looks every minute
	}
	db, redis := sqldbtest.MariaDBServer(t, "--wait-timeout=2"), sqldbtest.RedisServer(t)
	if err := db.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	dsn := db.DSN("shop")
	first, sim, secret, _ := newVictim(t)
	first.env = append(first.env, "ORDERD_DSN="+dsn, "ORDERD_REDIS="+redis.URL())
	all := []*victim{first, first.twin(1), first.twin(2)}
	for _, v := range all {
		v.start()
		t.Cleanup(func() { _ = v.cmd.Process.Kill() })
	}
	if code, _, errs := words(t, "stock", "import", sampleFile(t), "--yes", "--dsn", dsn, "--data-dir",
		t.TempDir()); code != exitOK {
		t.Fatal(errs)
	}
	load := newShoppers(t, sim, secret, all...)
	load.many(60)
	if err := all[0].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(asleep)
	if err := all[0].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	load.more(40)
	acked := load.end()
	settled(t, dsn, len(acked))
	for _, v := range all {
		v.signal(syscall.SIGTERM)
	}
	holdAgainstWeChat(t, sim, dsn, acked)
}

// shoppers place, prepay, pay and cancel at several instances until they are told to end.
// An instance may go away under them: the next one is asked with the same key.
type shoppers struct {
	t    *testing.T
	sim  *wechatsim.Sim
	post func(v *victim, path, key, body string, into any) int
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	at    []*victim
	acked map[string]bool // order numbers that a 201 gave
}

// newShoppers starts six of them.
func newShoppers(t *testing.T, sim *wechatsim.Sim, secret string, at ...*victim) *shoppers {
	t.Helper()
	s := &shoppers{t: t, sim: sim, post: poster(t, secret, 3*time.Second), stop: make(chan struct{}), at: at,
		acked: map[string]bool{}}
	for w := range 6 {
		s.wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-s.stop:
					return
				default:
					s.buy(w, i)
				}
			}
		})
	}
	return s
}

// instance gives the n-th one, round and round.
func (s *shoppers) instance(n int) *victim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[n%len(s.at)]
}

// shopAt says which instances are asked from now on.
func (s *shoppers) shopAt(at ...*victim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// buy is one order of shopper w.
func (s *shoppers) buy(w, i int) {
	var o struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
	}
	key := fmt.Sprintf("w%d-%d", w, i)
	for try := range 5 { // another instance has the same answer
		if s.post(s.instance(w+i+try), "/v1/orders", key, `{"items":[{"sku_id":"mug","quantity":1}]}`,
			&o) == http.StatusCreated {
			break
		}
	}
	if o.OrderNo == "" {
		return
	}
	s.mu.Lock()
	s.acked[o.OrderNo] = true
	s.mu.Unlock()
	if s.post(s.instance(w+i+1), "/v1/orders/"+o.OrderNo+"/prepay", "", `{"trade_type":"NATIVE"}`,
		&o) != http.StatusOK {
		return
	}
	switch i % 3 {
	case 0:
		_ = s.sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true})
	case 1:
		s.post(s.instance(w+i+2), "/v1/orders/"+o.OrderNo+"/cancel", "", `{"reason":"x"}`, &o)
	}
}

// many waits until so many orders are placed.
func (s *shoppers) many(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // polling, not timing
		s.mu.Lock()
		have := len(s.acked)
		s.mu.Unlock()
		if have >= n {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d orders, want %d", have, n)
		}
	}
}

// more waits until so many more are placed.
func (s *shoppers) more(n int) {
	s.t.Helper()
	s.mu.Lock()
	before := len(s.acked)
	s.mu.Unlock()
	s.many(before + n)
}

// end sends them home and gives the orders that they were told of.
func (s *shoppers) end() map[string]bool {
	close(s.stop)
	s.wg.Wait()
	return s.acked
}
