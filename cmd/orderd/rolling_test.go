package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/orderhttp"
	"orderd/stock"
)

// balancer is a load balancer that obeys /readyz and repeats nothing: what it has sent to a process that refuses it is
// a failed request.
type balancer struct {
	mu   sync.Mutex
	all  map[string]*httputil.ReverseProxy // by the address of monitoring
	busy map[string]int                    // requests under way
	next int
}

// add has a process take requests from now on.
func (b *balancer) add(a *app) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all[a.Ops] = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: a.API})
}

// gone is whether a process gets no more requests, those that are on their way to it included.
func (b *balancer) gone(ops string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[ops] == nil && b.busy[ops] == 0
}

// watch asks each process whether it is ready, again and again, and sends no more requests to one that is not.
func (b *balancer) watch(ctx context.Context) {
	for ctx.Err() == nil {
		b.mu.Lock()
		for ops := range b.all {
			res, err := http.Get("http://" + ops + "/readyz")
			if err == nil {
				_ = res.Body.Close()
			}
			if err != nil || res.StatusCode != http.StatusOK {
				delete(b.all, ops)
			}
		}
		b.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // the period of the probe
	}
}

// ServeHTTP sends a request to the next process that is ready.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	ready := slices.Sorted(maps.Keys(b.all))
	if len(ready) == 0 {
		b.mu.Unlock()
		http.Error(w, "nobody is ready", http.StatusServiceUnavailable)
		return
	}
	b.next++
	ops := ready[b.next%len(ready)]
	to := b.all[ops]
	b.busy[ops]++
	b.mu.Unlock()
	to.ServeHTTP(w, r)
	b.mu.Lock()
	b.busy[ops]--
	b.mu.Unlock()
}

// replica is a process of a service of several: api and the listener of monitoring.
func replica(t *testing.T, dsn, redis string) *app {
	t.Helper()
	s := &settings{DataDir: t.TempDir(), DSN: dsn, Redis: redis, APIAddr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0",
		SimAddr: "127.0.0.1:0", JWTSecret: victimSecret, PayWithin: time.Minute, CloseGrace: time.Second,
		CloseRate: 50, SweepEvery: time.Second, LogLevel: "error"}
	a, err := start(t.Context(), s, options{roles: []string{"api"}, simSpeed: 1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// At every update of a service some buyers met a process that had closed its door a moment before, because nothing told
// the load balancer. Two processes are replaced one after the other under a closed loop of placements: none fails.
func TestRollingRestartFailsNobody(t *testing.T) {
	server, redis := sqldbtest.MariaDBServer(t), sqldbtest.RedisServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	dsn := server.DSN("shop")
	if code, _, errs := words(t, "migrate", "up", "--dsn", dsn); code != exitOK {
		t.Fatal(errs)
	}
	pods := []*app{replica(t, dsn, redis.URL()), replica(t, dsn, redis.URL())}
	unlimited := int64(-1)
	if _, _, err := pods[0].stock.Put(t.Context(), stock.Put{SkuID: "1001", Title: "mug", PriceFen: 100,
		Quantity: &unlimited, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	lb := &balancer{all: map[string]*httputil.ReverseProxy{}, busy: map[string]int{}}
	front := httptest.NewServer(lb)
	defer front.Close()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for _, p := range pods {
		lb.add(p)
	}
	wg.Go(func() { lb.watch(ctx) })
	var served atomic.Int64
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if status := placeAt(t, front.URL, fmt.Sprintf("c%d-%d", c, i)); status != http.StatusCreated {
					t.Errorf("a placement failed: %d", status)
				}
				served.Add(1)
			}
		})
	}
	more := func(what string) { // the loop goes on
		n := served.Load() + 10
		until(t, what, func() bool { return served.Load() >= n })
	}
	for i, old := range pods {
		more("placements beside both")
		old.ready.Drain() // as at the signal; the rest of ORDERD_DRAIN_DELAY is the time that the balancer needs
		until(t, "the balancer sees it", func() bool { return lb.gone(old.Ops) })
		more("placements beside the other")
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		pods[i] = replica(t, dsn, redis.URL())
		lb.add(pods[i])
	}
	more("placements beside the new ones")
	cancel()
	wg.Wait()
	for _, p := range pods {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d placements", served.Load())
}

// placeAt places an order of a customer of its own, and gives the status; 0: there was no answer.
func placeAt(t *testing.T, url, key string) int {
	token, err := orderhttp.MintToken([]byte(victimSecret), key, time.Now(), time.Hour)
	if err != nil {
		t.Error(err)
	}
	req, err := http.NewRequest(http.MethodPost, url+"/v1/orders",
		strings.NewReader(`{"items":[{"sku_id":"1001","quantity":1}]}`))
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// A process without the role admin had no /metrics and no /readyz: nobody saw that a worker was away.
func TestEveryRoleIsMonitored(t *testing.T) {
	a := embeddedWith(t, t.TempDir(), slog.New(slog.DiscardHandler), func(*settings) {})
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	get := func(path string) (int, string) {
		res, err := http.Get("http://" + a.Ops + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "orderd_build_info{",
		"/readyz": `"name":"schema"`} {
		if status, text := get(path); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _ := get("/admin/v1/orders"); status != 404 {
		t.Errorf("operators' routes at the listener of monitoring: %d", status)
	}
	a.lameDuck(0)
	if status, text := get("/readyz"); status != 503 || !strings.Contains(text, "draining") {
		t.Errorf("%d %s", status, text)
	}
	if buy(t, a, "/v1/orders", "k", map[string]any{"items": []any{map[string]any{"sku_id": "1001", "quantity": 1}}},
		&struct{}{}) != http.StatusCreated {
		t.Error("a process that says that it is stopped has stopped")
	}
}

// A server that became read-only answers every ping: it was ready, and no order could be placed.
func TestReadyzKnowsAReadOnlyServer(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"CREATE USER 'small'@'%' IDENTIFIED BY 'p'", "GRANT ALL ON shop.* TO 'small'@'%'"} {
		if err := server.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	dsn := "mysql:small:p@tcp(" + server.Addr + ")/shop"
	if code, _, errs := words(t, "migrate", "up", "--dsn", dsn); code != exitOK {
		t.Fatal(errs)
	}
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := takesWrites(t.Context(), db, time.Now); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), "SET GLOBAL read_only = 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Writable(t.Context()); err != nil {
		t.Logf("a ping sees it too: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := takesWrites(ctx, db, time.Now); err == nil {
		t.Error("a read-only server takes writes")
	}
}
