package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// balancer is a load balancer that obeys /readyz and repeats nothing: what it has sent to a process that refuses it,
// or dies, is a failed request. While no process is ready, requests wait.
type balancer struct {
	ctx  context.Context
	mu   sync.Mutex
	some sync.Cond // one became ready
	all  []*behind
	next int
}

// behind is a process behind a balancer.
type behind struct {
	ready bool
	to    *httputil.ReverseProxy
}

// newBalancer starts one until ctx ends, before processes by the address of their API and of their monitoring, and
// gives its address.
func newBalancer(ctx context.Context, t *testing.T, processes ...[2]string) (*balancer, string) {
	t.Helper()
	b := &balancer{ctx: ctx}
	b.some.L = &b.mu
	var probes sync.WaitGroup
	for _, p := range processes {
		one := &behind{to: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p[0]})}
		own := &http.Transport{MaxIdleConnsPerHost: 8}
		one.to.Transport, one.to.ErrorLog = own, nil
		one.to.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
		b.all = append(b.all, one)
		probes.Go(func() { b.watch(ctx, one, p[1]) })
		t.Cleanup(own.CloseIdleConnections)
	}
	front := httptest.NewServer(b)
	t.Cleanup(func() { front.Close(); probes.Wait() })
	return b, front.URL
}

// Of a probe: how often, and how long it waits for the answer.
const (
	probeEvery   = 100 * time.Millisecond
	probeTimeout = time.Second
)

// watch asks a process again and again whether it is ready, until ctx ends.
func (b *balancer) watch(ctx context.Context, one *behind, ops string) {
	client := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		res, err := client.Get("http://" + ops + "/readyz")
		if err == nil {
			_ = res.Body.Close()
		}
		b.mu.Lock()
		one.ready = err == nil && res.StatusCode == http.StatusOK
		b.mu.Unlock()
		b.some.Broadcast()
		time.Sleep(probeEvery)
	}
	b.some.Broadcast()
}

// ready reports that the process of this number is.
func (b *balancer) ready(no int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[no].ready
}

// pick gives the next process that is ready, nil when the balancer ends.
func (b *balancer) pick() *behind {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.ctx.Err() == nil {
		for range b.all {
			b.next++
			if one := b.all[b.next%len(b.all)]; one.ready {
				return one
			}
		}
		b.some.Wait()
	}
	return nil
}

// ServeHTTP sends a request to the next process that is ready.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if one := b.pick(); one != nil {
		one.to.ServeHTTP(w, r)
	}
}
